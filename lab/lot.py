"""The run of mutants that nobody chose: drawn by a lot, judged by every rule, with an argument for each that survives."""

import re
import shutil

import auto
import edit
import host
import mutants
import tree
from problem import Problem

MODES = ["tsc", "hpet"]
# A host that crashes is booted once more: emulated kernels do it now and then by themselves.
TRIES = 2
HEADING = "## Mutants that nobody chose"
KILLED = ("killed", "no guest runs", "crashed")


def arguments(path):
    """What is known of survivors: their kind, "equivalent" or "missed", and why."""
    known, name = {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line[:1].isspace():
            if name is None:
                raise Problem(f"{path}, line {number}: this belongs to no mutant: {line}", "put its name above it")
            known[name] = (known[name][0], (known[name][1] + " " + line.strip()).strip())
            continue
        name, _, kind = line.partition(" ")
        if kind.strip() not in ("equivalent", "missed"):
            raise Problem(f"{path}, line {number}: {name} is neither equivalent nor missed", "write NAME equivalent, or NAME missed")
        if name in known:
            raise Problem(f"{path}, line {number}: {name} stands there twice", "leave one of them")
        known[name] = (kind.strip(), "")
    return known


def changes(tree, seed, names, folder):
    """The mutants in the order of the lot, or those named; each is a file when its turn comes."""
    tree.prepare()
    every = {mutant.name: mutant for mutant in auto.of_sources(tree.pristine)}
    for name in names:
        if name not in every:
            raise Problem(f"{tree.kernel.series} has no mutant {name}", f"make lab-mutants AUTO=N SEED=S prints names, {len(every)} in all")
    folder.mkdir(parents=True, exist_ok=True)
    for mutant in [every[name] for name in names] or auto.drawn(every.values(), seed):
        path = folder / f"{mutant.name}.edit"
        path.write_text(mutant.text())
        yield edit.Change(path)


class Drawn(mutants.Trial):
    """A mutant of the lot. Any rule may kill it."""

    tries = TRIES

    def is_enough(self, cell):
        if not cell.report:
            return not cell.tries[-1].startswith(host.EARLY)
        return bool(cell.report.get("noGuestRuns") or self.broken_in(cell, self.control))

    def counts(self):
        """Whether it compiles, and to other code; the next one is drawn in its place if not."""
        if self.problem is None and self.is_same_code():
            self.problem = "the compiler makes the same code of it"
        return self.problem is None

    def is_same_code(self):
        return all((self.folder / name).read_bytes() == (self.tree.folder / "stock" / name).read_bytes()
                   for name in tree.MODULES)

    def judge(self, control):
        shutil.rmtree(self.folder)
        broken = self.broken(control)
        dead = [f"{cell.mode}: {cell.tries[-1]}" for cell in self.cells if not cell.report and cell.tries]
        early = all(cell.tries[-1].startswith(host.EARLY) for cell in self.cells if not cell.report and cell.tries)
        idle = mutants.no_guest_runs(self.cells)
        if broken:
            first = ", ".join(list(broken)[:4])
            fate, detail = "killed", f"by {len(broken)}: {first}" + (" …" if len(broken) > 4 else "")
        elif idle:
            fate, detail = "no guest runs", idle
        elif dead:
            fate, detail = "not judged" if early else "crashed", "; ".join(dead)
        else:
            fate, detail = "survived", ", ".join(self.differences(control))
        return {"outcome": fate, "detail": detail, "broken": broken, "good": fate in KILLED,
                "warnings": self.warnings(), "fate": f"{fate}: {detail}" if detail else fate}

    def differences(self, control):
        """The verdicts that differ from both controls', although no rule is broken."""
        found = []
        for cell in self.cells:
            usual = [mutants.verdicts(one) for one in control.cells[cell.mode] if one.report]
            for rule, verdict in mutants.verdicts(cell).items():
                before = {verdicts.get(rule) for verdicts in usual}
                if before and verdict not in before and verdict not in mutants.BROKEN:
                    found.append(f"{rule} {verdict} ({cell.mode})")
        return found

    def warnings(self):
        """What the kernel complained of, each once."""
        found = []
        for cell in self.cells:
            log = cell.place / "dmesg" if cell.place else None
            if log and log.exists():
                found += re.findall(r"(?:WARNING|BUG|UBSAN): [^\n]*", log.read_text(errors="replace"))
        return list(dict.fromkeys(re.sub(r"CPU: \d+ PID: \d+ ", "", text) for text in found))


def summary(results, known):
    """The score; and what has to be looked at: hosts that never came up, survivors without an argument, wrong arguments."""
    wrong = [f"{fact['id']} was {fact['fate']}" for fact in results if fact["outcome"] == "not judged"]
    results = [fact for fact in results if fact["outcome"] != "not judged"]
    counts = {fate: sum(fact["outcome"] == fate for fact in results) for fate in KILLED}
    caught = sum(counts.values())
    survivors = [fact for fact in results if fact["outcome"] == "survived"]
    equivalent = sum(known.get(fact["id"], ("",))[0] == "equivalent" for fact in survivors)
    score = (f"{caught} of {len(results)} caught ({percent(caught, len(results))}): {counts['killed']} by rules, "
             f"{counts['no guest runs']} in which no guest runs, {counts['crashed']} whose kernel died; "
             f"{len(survivors)} survived, {equivalent} of them equivalent "
             f"({percent(caught, len(results) - equivalent)} of those that can be told)")
    wrong += [f"{fact['id']} survived, and no argument in lab/survivors.txt says why" for fact in survivors if fact["id"] not in known]
    wrong += [f"{fact['id']} is called {known[fact['id']][0]} in lab/survivors.txt, but it was {fact['fate']}"
              for fact in results if fact["good"] and fact["id"] in known]
    return score, wrong


def percent(part, whole):
    return f"{100 * part / whole:.0f} %" if whole else "none"


def markdown(results, known, seed):
    """A section of docs/mutants.md."""
    score, _ = summary(results, known)
    kernels = ", ".join(dict.fromkeys(fact["release"] for fact in results))
    lines = [HEADING, "",
             f"Written by `make lab-mutants AUTO={len(results)} SEED={seed} WRITE=1`; do not edit. Each is a statement of the clock's",
             "functions deleted, a condition negated, or an operator or a constant swapped, drawn by a lot. One that does not compile or",
             "compiles to the same code does not count. All rules judge it, with clocksource tsc and, if it survives that, hpet. Arguments are in",
             "[lab/survivors.txt](../lab/survivors.txt).", "",
             f"Kernel: {kernels}. Seed: {seed}. Date: {max(fact['date'] for fact in results)}. {score}.", "",
             "| mutant | what it is | outcome | by |", "|---|---|---|---|"]
    for fact in sorted(results, key=lambda fact: (fact["good"], fact["id"])):
        kind, why = known.get(fact["id"], ("", "**not explained**"))
        outcome = "killed" if fact["outcome"] == "killed" else f"**{fact['outcome']}**"
        survived = fact["outcome"] == "survived"
        detail = fact["detail"] if not survived else f"{kind}: {why}" if kind else why
        lines.append(f"| {fact['id']} | {mutants.cell_text(fact['says'], 160)} | {outcome} | {mutants.cell_text(detail, 600)} |")
    return "\n".join(lines) + "\n"


def section(text):
    """This section of a file that has others too; empty if it is not there."""
    at = text.find(HEADING)
    if at < 0:
        return ""
    end = text.find("\n## ", at + 1)
    return text[at:end + 1 if end >= 0 else len(text)]


def replace(text, new):
    """The file with this section new, at the end if there was none."""
    old = section(text)
    return text.replace(old, new) if old else text.rstrip("\n") + "\n\n" + new
