"""Changed kernels: each is built, booted, and must break the rules that its text names, or, for a fix, mend them."""

import concurrent.futures
import datetime
import time

import host
import patches
from problem import Problem

NO_GUEST = "no guest runs"
BROKEN = ("broken", "known", "differs", "not owed")


class Control:
    """The unmodified modules, built here, beside the image's own: the same verdicts, or the bench is at fault."""

    def __init__(self, tree, modes, rules, kind):
        self.cells = {}
        for mode in modes:
            stock = host.Cell(tree.kernel, mode, rules, what="stock", kind=kind)
            built = host.Cell(tree.kernel, mode, rules, what="control", kind=kind, modules=tree.folder / "stock")
            self.cells[mode] = stock, built
        self.hosts = [host.Host(list(cells)) for cells in zip(*self.cells.values())]

    def demand(self):
        """Without a control's verdicts each known deviation would look like the work of a change."""
        for mode, cells in self.cells.items():
            if all(cell.report is None for cell in cells):
                raise Problem(f"no sound host came up with clocksource {mode}: {'; '.join(cells[0].tries)}",
                              "run it when this machine is less busy, or with JOBS=1 and LAB_QUIET=300")

    def differences(self):
        """What the two don't agree on. A verdict that the emulator's clocks left open says nothing of either."""
        found = []
        for mode, (stock, built) in self.cells.items():
            if stock.report is None or built.report is None:
                found.append(f"{mode}: no results: {stock.tries} {built.tries}")
                continue
            theirs, ours = verdicts(stock), verdicts(built)
            left_open = open_rules(stock) | open_rules(built)
            for rule, verdict in theirs.items():
                if verdict != ours[rule] and rule not in left_open:
                    found.append(f"{mode}: {rule} {verdict} with the image's modules, {ours[rule]} with those built here")
        return found

    def breaks(self, mode, rule):
        """Whether a rule is broken without any change, as known deviations are."""
        return any(verdicts(cell).get(rule) in BROKEN for cell in self.cells[mode] if cell.report)


def verdicts(cell):
    return {verdict["rule"]: verdict["verdict"] for verdict in cell.report["verdicts"]}


def open_rules(cell):
    """Inconclusive, or not tested because the emulated TSC leaped in a race."""
    return {verdict["rule"] for verdict in cell.report["verdicts"]
            if verdict["verdict"] == "inconclusive" or "keep no one rate" in verdict.get("summary", "")}


def no_guest_runs(cells):
    """What a harness that ended because no guest runs gave as the reason."""
    return next((cell.report["noGuestRuns"] for cell in cells if cell.report and cell.report.get("noGuestRuns")), None)


def evidence(cell, rule):
    for verdict in cell.report["verdicts"]:
        if verdict["rule"] == rule and "violations" in verdict:
            return verdict["violations"][0]["seen"]
    return ""


class Trial:
    """One changed kernel on one series, in the modes where the change can show."""

    # How often a host is booted for a mode that brings no results.
    tries = host.TRIES

    def __init__(self, change, tree, rules, modes, kind):
        self.change, self.tree, self.kind = change, tree, kind
        self.folder = tree.folder / "built" / change.id
        self.cells = [host.Cell(tree.kernel, mode, rules, modules=self.folder, what=change.id, kind=kind)
                      for mode in change.modes if mode in modes]
        self.host = host.Host(self.cells, self.tries, self.is_enough)
        self.build_seconds = 0.0
        self.problem = None

    def build(self):
        """Whether it could be built; one that can't is a fault of its text, and is counted as not caught."""
        began = time.monotonic()
        try:
            self.tree.build(self.change, self.folder)
        except Problem as problem:
            self.problem = str(problem)
        self.build_seconds = time.monotonic() - began
        return self.problem is None

    def is_enough(self, cell):
        """Whether the modes after this one, whose turn is over, need not be seen."""
        return False

    def counts(self):
        """Whether this one is to be reported, however it was built."""
        return True

    def broken_in(self, cell, control):
        return [rule for rule, verdict in (verdicts(cell) if cell.report else {}).items()
                if verdict in BROKEN and not control.breaks(cell.mode, rule)]

    def broken(self, control):
        """Each rule that is broken here and not without the change, with the modes and what was seen in the first."""
        found = {}
        for cell in self.cells:
            for rule in self.broken_in(cell, control):
                found.setdefault(rule, {"modes": [], "seen": evidence(cell, rule)})["modes"].append(cell.mode)
        return found

    def facts(self, control):
        return {
            "id": self.change.id, "says": " ".join(self.change.says), "history": self.change.facts["history"],
            "series": self.tree.kernel.series, "release": self.tree.kernel.release, "host": self.kind, "modes": [cell.mode for cell in self.cells],
            "named": self.change.rules, "tries": {cell.mode: cell.tries for cell in self.cells}, "boots": self.host.boots,
            "problem": self.problem,
            "seconds": round(self.build_seconds + sum(cell.seconds for cell in self.cells), 1),
            "buildSeconds": round(self.build_seconds, 1),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")} | self.judge(control)


class Mutant(Trial):
    """A fault: every rule that it names must be broken, or no guest runs."""

    def judge(self, control):
        broken = self.broken(control)
        missed = [rule for rule in self.change.rules if rule not in broken]
        idle = no_guest_runs(self.cells)
        if idle:
            broken[NO_GUEST] = {"modes": [cell.mode for cell in self.cells], "seen": idle}
        fate = ("caught by " + " ".join(self.change.rules) if not missed else
                f"caught: {NO_GUEST}: {idle}" if idle else "NOT CAUGHT by " + " ".join(missed))
        return {"good": bool(self.change.rules) and (not missed or idle is not None), "broken": broken, "fate": fate}


class Fix(Trial):
    """A change for the better: every rule that it names holds wherever it did not, and none is broken that held."""

    def judge(self, control):
        worse = sorted(self.broken(control))
        mended, missed, seen = [], [], {}
        for cell in self.cells:
            for rule in self.change.rules:
                if control.breaks(cell.mode, rule):
                    now = verdicts(cell).get(rule) if cell.report else "no results"
                    (mended if now == "holds" else missed).append(f"{rule} ({cell.mode}: {now})")
                    if now == "holds":
                        before = next(one for one in control.cells[cell.mode] if one.report and verdicts(one)[rule] in BROKEN)
                        seen.setdefault(rule, (cell.mode, *(next(verdict for verdict in one.report["verdicts"]
                                                                 if verdict["rule"] == rule) for one in (before, cell))))
        good = bool(mended) and not missed and not worse
        fate = f"mends {', '.join(mended)}" if mended else "mends nothing"
        fate += f"; NOT MENDED: {', '.join(missed)}" if missed else ""
        fate += f"; BREAKS {' '.join(worse)}" if worse else ""
        return {"good": good, "mended": mended, "missed": missed, "worse": worse, "fate": fate,
                "evidence": patches.evidence(self.tree.kernel.release, seen.values())}


def run(kind, changes, tree, bench, at_once, full, say, keep, of):
    """The modes and rules that some changes name, and what became of each change, on one kind of host."""
    named = sorted({rule for change in changes for rule in change.rules})
    modes = [mode for mode in bench.emulators[of].modes if any(mode in change.modes for change in changes)]
    return run_each(kind, changes, len(changes), modes, None if full else named, tree, bench, at_once, say, keep, of)


def run_each(kind, changes, wanted, modes, named, tree, bench, at_once, say, keep, of):
    """Controls first, then one change after the other is built while those before it run.

    `named` are the rules to judge the controls by, and each change is judged by those that it names; None is all rules.
    `keep` gets the results so far after each.
    """
    tree.prepare()
    control = Control(tree, modes, named or [], of)
    trials, results, began = [], [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        try:
            controls = [pool.submit(one.run, bench) for one in control.hosts]
            for future in controls:
                future.result()
            control.demand()
            differences = control.differences()
            for difference in differences:
                say(f"control: {difference}")
            if not differences:
                say(f"{tree.kernel.release}: the unmodified modules built here give the verdicts of the image's own")
            waiting = []
            for change in changes:
                if len(trials) == wanted:
                    break
                trial = kind(change, tree, [] if named is None else change.rules, modes, of)
                trial.control = control
                is_built = trial.build()
                if not trial.counts():
                    say(f"{change.id} does not count: {first_error(trial.problem)}")
                    continue
                trials.append(trial)
                waiting.append((trial, [pool.submit(trial.host.run, bench)] if is_built else []))
                waiting = [entry for entry in waiting if not finish(entry, False)]
                # Not further ahead than the hosts can follow.
                while len(waiting) > at_once:
                    concurrent.futures.wait([future for _, futures in waiting for future in futures],
                                            return_when=concurrent.futures.FIRST_COMPLETED)
                    waiting = [entry for entry in waiting if not finish(entry, False)]
                results = report(trials, wanted, results, control, began, say)
                keep(results)
            for entry in waiting:
                finish(entry, True)
                results = report(trials, wanted, results, control, began, say)
                keep(results)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            host.end_all()
            raise
    return results, differences


def finish(entry, wait):
    _, futures = entry
    if not wait and not all(future.done() for future in futures):
        return False
    for future in futures:
        future.result()
    entry[0].is_over = True
    return True


def first_error(problem):
    return next((line.strip() for line in problem.splitlines() if "error:" in line), problem.splitlines()[0])


def report(trials, wanted, results, control, began, say):
    """Says each change's fate once, in order."""
    while len(results) < len(trials) and getattr(trials[len(results)], "is_over", False):
        facts = trials[len(results)].facts(control)
        results = results + [facts]
        fate = facts["problem"] or facts["fate"]
        boots = max(0, facts["boots"] - 1)
        say(f"[{len(results):3}/{wanted}] {time.monotonic() - began:6.1f} s  {facts['series']} {facts['id']:5} "
            f"build {facts['buildSeconds']:5.1f} s, all {facts['seconds']:5.1f} s  {fate}"
            + (f"  ({boots} boots more)" if boots else ""))
    return results


def markdown(results):
    """The table of kills, for docs/mutants.md."""
    kernels = sorted({fact["release"] for fact in results})
    dates = sorted({fact["date"] for fact in results})
    lines = [
        "# Mutated kernels, and the rules that tell them from sound ones", "",
        "Written by `make lab-mutants`; do not edit. Each mutant is a file of [lab/mutants](../lab/mutants), built into the KVM",
        "modules of a Debian kernel and booted under QEMU, or under Bochs where it says vmx. A mutant counts as caught when every rule",
        "that its file names is broken on it and holds on the unmodified modules, or when no guest runs on it.", "",
        f"Kernels: {', '.join(kernels)}. Dates: {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}. "
        f"{sum(fact['good'] for fact in results)} of {len(results)} caught.", "",
        "| mutant | what it is | rule | kernel (mode) | seen |", "|---|---|---|---|---|"]
    by_id = {}
    for fact in results:
        by_id.setdefault(fact["id"], []).append(fact)
    for name, facts in by_id.items():
        history = f" ({facts[0]['history']})" if facts[0]["history"] else ""
        rules = dict.fromkeys(rule for fact in facts for rule in fact["named"] + sorted(fact["broken"])
                              if rule in fact["broken"] or not fact["good"])
        for number, rule in enumerate(rules):
            where = ", ".join(f"{place(fact)} ({', '.join(fact['broken'][rule]['modes'])})" if rule in fact["broken"]
                              else f"**{place(fact)}: not caught**" for fact in facts
                              if rule in fact["broken"] or rule in fact["named"] and not fact["good"])
            seen = next((fact["broken"][rule]["seen"] for fact in facts if rule in fact["broken"]), "")
            lines.append(f"| {name if not number else ''} | {facts[0]['says'] + history if not number else ''} "
                         f"| {rule} | {where} | {cell_text(seen)} |")
    return "\n".join(lines) + "\n"


def place(fact):
    return fact["series"] + ("" if fact["host"] == "svm" else f" {fact['host']}")


def cell_text(text, limit=120):
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= limit else text[:limit - 1] + "…"
