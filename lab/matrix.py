"""What the cells of a run say: which verdicts are news, and the table at the end."""

import concurrent.futures
import threading
import time

from host import Host, end_all, stopping


def unexpected(cell):
    """The verdicts that fail the lab: broken rules that no table explains, known deviations and faults that did not show."""
    if cell.breaks:
        broken = of_kind(cell.report, "broken")
        return [(rule, "not broken, and the fault is there") for rule in cell.breaks if rule not in broken]
    news = []
    for verdict in cell.report["verdicts"]:
        known = verdict.get("known")
        if verdict["verdict"] in ("broken", "differs"):
            seen = verdict["violations"][0]
            news.append((verdict["rule"], f"{verdict['verdict']}: expected {seen['expected']}; seen {seen['seen']}"))
        elif known and not known["shows"]:
            news.append((verdict["rule"], f"known of {known['range']}, but it did not show"))
    return news + cell.wrong()


def bisection(report):
    """For git bisect: 0 if all rules hold, 1 if one is broken, also if that is known of the kernel, 125 if none can tell."""
    if report is None:
        return 125
    if of_kind(report, "broken", "known", "differs", "notOwed"):
        return 1
    return 125 if of_kind(report, "inconclusive", "notTested") else 0


def of_kind(report, *kinds):
    return [verdict["rule"] for verdict in report["verdicts"] if verdict["verdict"] in kinds]


def summary(cell):
    """One cell in a few words."""
    if cell.report is None:
        return "NEVER CAME UP: " + "; ".join(cell.tries)
    counts = cell.report["counts"]
    names = [("holds", "hold"), ("observed", "observed"), ("broken", "BROKEN"), ("known", "known"),
             ("differs", "DIFFER"), ("notOwed", "not owed"), ("notTested", "not tested"), ("inconclusive", "inconclusive")]
    words = [f"{counts[key]} {name}" for key, name in names if counts[key]]
    if len(cell.tries) > 1:
        words.append(f"{len(cell.tries)} boots ({'; '.join(cell.tries[:-1])})")
    return ", ".join(words)


def hosts(rows, at_once):
    """A host for each kernel; the last ones, which would leave some place empty, give their last mode to another host."""
    over = len(rows) % at_once
    whole, split = (rows[:-over], rows[-over:]) if over and len(rows) > at_once else (rows, [])
    parts = whole + [row[:-1] for row in split] + [row[-1:] for row in split]
    return [Host(cells) for cells in parts if cells]


def run(hosts, bench, at_once, say):
    """Runs hosts, some at once; says each cell's verdicts as it ends."""
    began, done = time.monotonic(), 0
    of_all = sum(len(host.cells) for host in hosts)
    lock = threading.Lock()

    def tell(cell):
        nonlocal done
        if stopping.is_set():
            return
        with lock:
            done += 1
            say(f"[{done:3}/{of_all}] {time.monotonic() - began:6.1f} s  {cell.name:24} {cell.seconds:5.1f} s  "
                + summary(cell))

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(host.run, bench, tell, lambda text: say(f"{'':9}{text}")) for host in hosts]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            for future in waiting:
                future.cancel()
            end_all()
            raise


def table(cells):
    """Kernels down, modes across: what holds, what is known and what is not."""
    modes = list(dict.fromkeys(cell.mode for cell in cells))
    lines = [f"{'kernel':30}" + "".join(f"{mode:>34}" for mode in modes)]
    by_kernel = {}
    for cell in cells:
        by_kernel.setdefault(cell.kernel.release + ("" if cell.kind == "svm" else f" ({cell.kind})"), {})[cell.mode] = cell
    for release, row in by_kernel.items():
        lines.append(f"{release:30}" + "".join(f"{short(row.get(mode)):>34}" for mode in modes))
    return "\n".join(lines)


def short(cell):
    if cell is None:
        return ""
    if cell.report is None:
        return "never came up"
    counts = cell.report["counts"]
    text = f"{counts['holds'] + counts['observed']} hold, {counts['known']} known"
    if counts["inconclusive"]:
        text += f", {counts['inconclusive']} open"
    bad = len(unexpected(cell))
    return text + (f", {bad} WRONG" if bad else "")
