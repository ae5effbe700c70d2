#!/usr/bin/env python3
"""Real KVM kernels as hosts for the harness, on any machine. See lab/README.md."""

import argparse
import concurrent.futures
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import bochs
import edit
import host
import inside
import kills
import lot
import matrix
import mutants
import needs
import patches
import qemu
import replay
import tree
import vmm
from kernels import SERIES, Archive, Kernel, LocalKernel
from problem import Problem

HERE = Path(__file__).resolve().parent
OUT = Path(os.environ.get("LAB_OUT") or HERE / "out")


EMULATORS = {"svm": qemu.QEMU, "vmx": bochs.Bochs}


def say(text):
    print(text, flush=True)


def words(text):
    return text.replace(",", " ").split()


def chosen(text, all_of_them, what):
    names = words(text) or list(all_of_them)
    for name in names:
        if name not in all_of_them:
            raise Problem(f"there is no {what} {name}", f"choose from: {' '.join(all_of_them)}")
    return names


class Lab:
    def __init__(self, arguments):
        self.arguments = arguments
        self.shared_archive = None

    def archive(self):
        if self.shared_archive is None:
            self.shared_archive = Archive()
        return self.shared_archive

    def local(self):
        """The kernel that somebody built, if one is named."""
        if self.arguments.tree:
            return LocalKernel.of_tree(self.arguments.tree)
        return LocalKernel(self.arguments.kernel, self.arguments.modules) if self.arguments.kernel else None

    def kernels(self, update=False):
        local = self.local()
        if local:
            local.fetch(None, say)
            return [local]
        kernels = [Kernel(series) for series in chosen(self.arguments.kernels, SERIES, "series")]
        wanted = [kernel for kernel in kernels if update or not kernel.is_cached()]
        if wanted:
            self.archive().update()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda kernel: kernel.fetch(self.archive(), say), wanted))
        return kernels

    def bench(self, kinds=None):
        executable = Path(self.arguments.executable)
        if not executable.exists():
            raise Problem(f"{executable} does not exist", "make static")
        if not needs.is_static(executable):
            raise Problem(f"{executable} is linked to shared libraries, which a host of the lab lacks", "make static")
        emulators = {kind: EMULATORS[kind](self.archive, say, executable) for kind in kinds or self.hosts()}
        return host.Bench(executable, emulators, OUT)

    def hosts(self):
        return chosen(self.arguments.hosts or "svm", EMULATORS, "kind of host")

    def hosts_of(self, change):
        """The kinds of hosts to run a change on: those asked for, or its own, of which svm goes without saying."""
        wanted = self.hosts() if self.arguments.hosts else change.hosts or ["svm"]
        return [kind for kind in wanted if change.fits(kind=kind) and set(change.modes) & set(EMULATORS[kind].modes)]

    def tools(self, kinds=None):
        """What it takes to build Bochs, where it is wanted."""
        return needs.BOCHS_TOOLS if "vmx" in (kinds or self.hosts()) else {}

    def modes(self, kind):
        """The modes asked for that hosts of this kind have; a kernel that somebody changed is asked with one at first."""
        wanted = chosen(self.arguments.modes or ("tsc" if self.local() else ""), host.MODES, "mode")
        return [mode for mode in EMULATORS[kind].modes if mode in wanted]

    def missing(self):
        return 0 if self.local() else sum(not Kernel(series).is_cached() for series in chosen(self.arguments.kernels, SERIES, "series"))

    def fetch(self):
        needs.check(hosts=0, kernels=len(chosen(self.arguments.kernels, SERIES, "series")))
        self.kernels(update=True)
        return 0

    def shell(self):
        needs.check(kernels=self.missing())
        self.arguments.kernels = self.arguments.kernels or "6.12"
        self.arguments.hosts = "svm"
        kernel, mode = self.kernels()[0], self.modes("svm")[0]
        return host.Host([host.Cell(kernel, mode)]).shell(self.bench())

    def run(self):
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), tools=self.tools())
        kernels = self.kernels()
        cells = [[host.Cell(kernel, mode, words(self.arguments.rules), self.arguments.seed, kind=kind)
                  for mode in self.modes(kind)] for kind in self.hosts() for kernel in kernels]
        cells = [row for row in cells if row]
        hosts = matrix.hosts(cells, self.arguments.jobs)
        matrix.run(hosts, self.bench(), self.arguments.jobs, say)
        cells = [cell for row in cells for cell in row]
        say("\n" + matrix.table(cells))
        return self.judge(cells, hosts)

    def vmm(self):
        """QEMU and toy VMMs, each in a host of its own."""
        self.arguments.kernels, self.arguments.modes = self.arguments.kernels or "6.12", self.arguments.modes or "tsc"
        wanted = chosen(self.arguments.vmms, vmm.names(self.hosts()), "VMM")
        if self.arguments.rounds is not None and self.arguments.rounds < 1:
            raise Problem(f"--rounds {self.arguments.rounds} is no number of rounds", "say --rounds 1 or more")
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), tools=self.tools())
        bench = self.bench()
        if "svm" in bench.emulators:
            # With a thread for each CPU, QEMU lost interrupts and spoiled the memory of hosts in which a toy VMM ran.
            bench.emulators["svm"].threads = "single"
        hosts = [host.Host([cell]) for kind in self.hosts() for kernel in self.kernels() for mode in self.modes(kind)
                 for cell in vmm.cells(kernel, mode, bench.emulators[kind], kind, wanted, self.arguments.rounds)]
        matrix.run(hosts, bench, self.arguments.jobs, say)
        return self.judge([one.cells[0] for one in hosts], hosts)

    def inside(self):
        """A Linux guest in which `kvmclock inside` runs, on a host of the same kernel."""
        self.arguments.kernels, self.arguments.modes = self.arguments.kernels or "6.12", self.arguments.modes or "tsc"
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), tools=self.tools(["svm"]))
        bench = self.bench(["svm"])
        hosts = [host.Host([inside.Cell(kernel, mode, bench)]) for kernel in self.kernels() for mode in self.modes("svm")]
        matrix.run(hosts, bench, self.arguments.jobs, say)
        return self.judge([one.cells[0] for one in hosts], hosts)

    def kills(self):
        """SIGKILL while a run changes its host: as many times on each as are asked for."""
        self.arguments.kernels, self.arguments.modes = self.arguments.kernels or "6.12", self.arguments.modes or "tsc"
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), tools=self.tools(["svm"]))
        seed = self.arguments.seed or str(secrets.randbelow(1 << 16))
        say(f"the moments have seed {seed}")
        cells = [kills.Cell(kernel, mode, self.arguments.count, seed) for kernel in self.kernels() for mode in self.modes("svm")]
        hosts = [host.Host([cell]) for cell in cells]
        matrix.run(hosts, self.bench(["svm"]), self.arguments.jobs, say)
        return self.judge(cells, hosts)

    def judge(self, cells, hosts):
        """Says what was not expected, keeps all of it, and gives the exit status."""
        wrong = 0
        for cell in cells:
            if cell.report is None:
                wrong += 1
                say(f"\n{cell.name}: never came up: {'; '.join(cell.tries)}; see {OUT / cell.name}")
                continue
            for rule, what in matrix.unexpected(cell):
                wrong += 1
                say(f"\n{cell.name}: {rule}: {what}")
            for rule in matrix.of_kind(cell.report, "inconclusive"):
                say(f"{cell.name}: {rule} is inconclusive")
        boots = sum(one.boots for one in hosts)
        say(f"\n{len(cells)} hosts, {boots} boots, {wrong} unexpected verdicts; results in {OUT}")
        (OUT / "matrix.json").write_text(json.dumps(
            [dict(cell.facts(), name=cell.name, unexpected=matrix.unexpected(cell) if cell.report else None)
             for cell in cells], indent=1) + "\n")
        return 1 if wrong else 0

    def replay(self):
        folder = OUT / self.arguments.cell
        again, digest = replay.cells(folder)
        needs.check(hosts=1, tools=needs.BOCHS_TOOLS)
        return 0 if replay.run(folder, again, digest, self.bench(["vmx"]), say) else 1

    def bisect(self):
        """Builds a kernel's tree and asks the rules: what `git bisect run` wants to know, as its exit status."""
        tree = self.arguments.tree
        if not tree or not self.arguments.rules:
            raise Problem("bisect needs --tree and --rules", "lab/bisect RULE... in a kernel's tree")
        for target in ["olddefconfig", "all"]:
            if subprocess.run(["make", "-s", "-C", tree, f"-j{os.cpu_count()}", target]).returncode:
                say(f"{target} does not build: this commit can't be tested")
                return 125
        needs.check()
        cell = host.Cell(self.kernels()[0], self.modes("svm")[0], words(self.arguments.rules), self.arguments.seed)
        matrix.run([host.Host([cell])], self.bench(), 1, say)
        return matrix.bisection(cell.report)

    def changed(self, kind, folder, full):
        """Builds and boots the changes of a folder on each series; what became of each."""
        self.arguments.kernels = self.arguments.kernels or "6.12"
        series = chosen(self.arguments.kernels, tree.SERIES, "series with source")
        changes = edit.read(HERE / folder, words(self.arguments.mutants))
        kinds = [kind for kind in EMULATORS if any(kind in self.hosts_of(change) for change in changes)]
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), trees=len(series), tools=self.tools(kinds))
        bench, results, wrong = self.bench(kinds), [], 0

        def keep(found):
            (OUT / f"{folder}.json").write_text(json.dumps(results + found, indent=1) + "\n")

        keep([])
        for kernel in self.kernels():
            place = tree.Tree(kernel, self.archive, say)
            for of in kinds:
                fitting = [change for change in changes if change.fits(kernel.series) and of in self.hosts_of(change)]
                if not fitting:
                    say(f"{kernel.series}: none of these is for it on {of}")
                    continue
                found, differences = mutants.run(kind, fitting, place, bench, self.arguments.jobs, full, say, keep, of)
                results += found
                wrong += len(differences)
        bad = [f"{fact['id']} on {fact['series']}" for fact in results if not fact["good"]]
        say(f"{len(results)} {folder}, {len(results) - len(bad)} as they should be, {wrong} differences of a control"
            + (f"; not: {', '.join(bad)}" if bad else "") + f"; results in {OUT}")
        return results, bad or wrong or not results

    def mutants(self):
        names = words(self.arguments.mutants)
        if self.arguments.auto is not None or any(name.startswith("A-") for name in names):
            return self.drawn(names)
        results, bad = self.changed(mutants.Mutant, "mutants", self.arguments.full)
        if self.arguments.write and results:
            path = Path(self.arguments.write)
            section = lot.section(path.read_text()) if path.exists() else ""
            text = mutants.markdown(results)
            path.write_text(lot.replace(text, section) if section else text)
            say(f"wrote {path}")
        return 1 if bad else 0

    def drawn(self, names):
        """Mutants that nobody chose, by a lot or by their names, on one series."""
        if any(not name.startswith("A-") for name in names):
            raise Problem("MUTANTS= names both mutants that somebody wrote and ones that nobody chose",
                          "run the two kinds one after the other")
        self.arguments.kernels = self.arguments.kernels or "6.12"
        series = chosen(self.arguments.kernels, tree.SERIES, "series with source")
        if len(series) > 1:
            raise Problem("AUTO= and names that begin with A- are for one series", "KERNELS=6.12, say")
        if len(self.hosts()) > 1:
            raise Problem("AUTO= and names that begin with A- are for one kind of host", "HOSTS=svm, say")
        known = lot.arguments(HERE / "survivors.txt")
        needs.check(hosts=self.arguments.jobs, kernels=self.missing(), trees=1, tools=self.tools())
        seed = self.arguments.seed or str(secrets.randbelow(1 << 32))
        wanted = len(names) or self.arguments.auto or 1 << 32
        kernel = self.kernels()[0]
        place = tree.Tree(kernel, self.archive, say)
        if not names:
            say(f"{kernel.series}: the lot has seed {seed}")
        changes = lot.changes(place, seed, names, OUT / "auto")

        def keep(results):
            score, wrong = lot.summary(results, known)
            (OUT / "auto.json").write_text(json.dumps(
                {"seed": None if names else seed, "score": score, "wrong": wrong, "mutants": results}, indent=1) + "\n")

        results, differences = mutants.run_each(lot.Drawn, changes, wanted, lot.MODES, None, place, self.bench(),
                                                self.arguments.jobs, say, keep, self.hosts()[0])
        score, wrong = lot.summary(results, known)
        for line in [score, *wrong]:
            say(line)
        say(f"each as a text in {OUT / 'auto'}; results in {OUT}")
        if self.arguments.write and results and not names:
            path = Path(self.arguments.write)
            path.write_text(lot.replace(path.read_text(), lot.markdown(results, known, seed)))
            say(f"wrote {path}")
        return 1 if wrong or differences or not results else 0

    def fixes(self):
        results, bad = self.changed(mutants.Fix, "fixes", True)
        for fact in results if self.arguments.write else []:
            if fact["mended"]:
                path = Path(self.arguments.write) / f"{fact['id']}.edit"
                path.write_text(edit.with_evidence(path.read_text(), fact["evidence"]))
                say(f"wrote {path}")
        return 1 if bad else 0

    def patches(self):
        """Each fix as a patch, against the newest series that it is for, or each of those asked for."""
        series = chosen(self.arguments.kernels, tree.SERIES, "series with source")
        changes = edit.read(HERE / "fixes", words(self.arguments.mutants))
        wanted = {change.id: [one for one in series if change.fits(one)] for change in changes}
        if not self.arguments.kernels:
            wanted = {name: fitting[-1:] for name, fitting in wanted.items()}
        used = [one for one in series if any(one in fitting for fitting in wanted.values())]
        self.arguments.kernels = " ".join(used)
        needs.check(hosts=0, kernels=self.missing(), sources=len(used), tools=patches.TOOLS)
        who = patches.signer(self.arguments.sign)
        trees = {kernel.series: tree.Tree(kernel, self.archive, say) for kernel in (self.kernels() if used else [])}
        (OUT / "patches").mkdir(parents=True, exist_ok=True)
        taken = []
        for change in changes:
            for one in wanted[change.id]:
                path = OUT / "patches" / f"{one}-{change.id}.patch"
                good, verdict = patches.make(change, trees[one], tree.SERIES[-1], who, path)
                taken.append(good)
                say(f"{os.path.relpath(path)}: {verdict}")
        say(f"{len(taken)} patches, {sum(taken)} accepted by checkpatch.pl; in {OUT / 'patches'}")
        return 0 if taken and all(taken) else 1


def main():
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("command", choices=["run", "vmm", "inside", "kills", "replay", "bisect", "shell", "fetch", "mutants", "fixes", "patches"])
    parser.add_argument("--kernels", default="", help="series, such as 6.12; all if empty")
    parser.add_argument("--hosts", default="", help="svm (QEMU), vmx (Bochs); svm if empty, and for changes those that they name")
    parser.add_argument("--kernel", help="a bzImage that you built, in the place of Debian's kernels")
    parser.add_argument("--modules", help="with --kernel: the folder of its modules")
    parser.add_argument("--tree", help="a kernel's source in which its image and its modules were built")
    parser.add_argument("--modes", default="", help="tsc, hpet, acpi_pm; all if empty")
    parser.add_argument("--rules", default="", help="ids of rules, * and ? allowed; all if empty")
    parser.add_argument("--seed")
    parser.add_argument("--count", type=int, default=200, help="of kills on each host")
    parser.add_argument("--vmms", default="", help="q35, microvm (both QEMU), toy, toy-FAULT; all if empty")
    parser.add_argument("--rounds", type=int, help="how often a VMM runs each script; 3 for a toy VMM, 1 for QEMU if not given")
    parser.add_argument("--cell", default="", help="the host under Bochs to replay, such as 6.12-vmx-tsc")
    parser.add_argument("--mutants", default="", help="names of lab/mutants or lab/fixes, or those that --auto gave; all if empty")
    parser.add_argument("--auto", type=int, help="so many mutants that nobody chose, drawn with --seed; 0 for all")
    parser.add_argument("--full", action="store_true", help="judge every rule on a changed kernel, not just those it names")
    parser.add_argument("--sign", help="who signs patches off: 'Name <address>'; git's user.name and user.email if not given")
    parser.add_argument("--write", help="write the table of kills to this file, or what was seen of fixes into this folder's")
    parser.add_argument("--jobs", type=int, default=needs.places(), help="hosts at once")
    parser.add_argument("--executable", default=HERE.parent / ".build-static/release/kvmclock")
    lab = Lab(parser.parse_args())

    def stop(number, _):
        # At once, wherever the program is: no thread starts or waits for a host any more.
        # A second signal must not come in the middle: it would wait for what the first one holds.
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        host.end_all()
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        return getattr(lab, lab.arguments.command)()
    except Problem as problem:
        print(f"lab: {problem}", file=sys.stderr)
        # git bisect goes on with a status below 128, and stops at one above.
        return 128 if lab.arguments.command == "bisect" else 69
    except OSError as error:
        print(f"lab: {error}\n  remedy: see that the disk is not full and that you may write to {OUT} and the cache",
              file=sys.stderr)
        return 74
    finally:
        host.end_all()


if __name__ == "__main__":
    sys.exit(main())
