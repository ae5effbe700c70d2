"""What the cells of a run say: which verdicts are news, and the table at the end."""

import concurrent.futures
import threading
import time

import host


def unexpected(report):
    """The verdicts that fail the lab: broken rules that no table explains, known deviations that did not show."""
    news = []
    for verdict in report["verdicts"]:
        known = verdict.get("known")
        if verdict["verdict"] == "broken":
            seen = verdict["violations"][0]
            news.append((verdict["rule"], f"broken: expected {seen['expected']}; seen {seen['seen']}"))
        elif known and not known["shows"]:
            news.append((verdict["rule"], f"known of {known['range']}, but it did not show"))
    return news


def of_kind(report, *kinds):
    return [verdict["rule"] for verdict in report["verdicts"] if verdict["verdict"] in kinds]


def summary(cell):
    """One cell in a few words."""
    if cell.report is None:
        return "NEVER CAME UP: " + "; ".join(cell.tries)
    counts = cell.report["counts"]
    names = [("holds", "hold"), ("observed", "observed"), ("broken", "BROKEN"), ("known", "known"),
             ("notTested", "not tested"), ("inconclusive", "inconclusive")]
    words = [f"{counts[key]} {name}" for key, name in names if counts[key]]
    if len(cell.tries) > 1:
        words.append(f"{len(cell.tries)} boots ({'; '.join(cell.tries[:-1])})")
    return ", ".join(words)


def run(jobs, bench, at_once, say):
    """Runs (cell, function that prepares it or None) pairs, some at once; yields each cell as it ends."""
    began, done = time.monotonic(), 0
    lock = threading.Lock()

    def one(cell):
        nonlocal done
        cell.run(bench, lambda text: say(f"{'':9}{cell.name}: {text}"))
        if host.stopping.is_set():
            return cell
        with lock:
            done += 1
            say(f"[{done:3}/{len(jobs)}] {time.monotonic() - began:6.1f} s  {cell.name:24} {cell.seconds:5.1f} s  "
                + summary(cell))
        return cell

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(one, cell) for cell in jobs]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            for future in waiting:
                future.cancel()
            host.end_all()
            raise


def table(cells):
    """Kernels down, modes across: what holds, what is known and what is not."""
    modes = list(dict.fromkeys(cell.mode for cell in cells))
    lines = [f"{'kernel':24}" + "".join(f"{mode:>34}" for mode in modes)]
    by_kernel = {}
    for cell in cells:
        by_kernel.setdefault(cell.kernel.release, {})[cell.mode] = cell
    for release, row in by_kernel.items():
        lines.append(f"{release:24}" + "".join(f"{short(row.get(mode)):>34}" for mode in modes))
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
    bad = len(unexpected(cell.report))
    return text + (f", {bad} WRONG" if bad else "")
