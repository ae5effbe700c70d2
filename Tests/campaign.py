"""A campaign for false alarms: full runs with random seeds beside random loads, for hours.

    python3 Tests/campaign.py KVMCLOCK --hours N [--keep FOLDER] [--seed N]

Every rule that is broken on a host whose clock is sound is a false alarm: its histories are kept, and the campaign
fails. The table at the end says what was undecided, how often, and how wide the intervals were.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

RUN_SECONDS = 600
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


@contextlib.contextmanager
def beside(*commands):
    """Has processes run meanwhile."""
    running = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                            stdin=subprocess.DEVNULL, start_new_session=True))
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


BUSY = python("while True: pass")
MEMORY = """
import mmap, sys
size = int(sys.argv[1])
memory = mmap.mmap(-1, size)
while True:
    for at in range(0, size, mmap.PAGESIZE): memory[at] = memory[at] + 1 & 255
"""
PAGE_CACHE = """
import os, sys
block = os.urandom(1 << 20)
while True:
    with open(sys.argv[1], "wb") as file:
        for _ in range(256): file.write(block)
    with open(sys.argv[1], "rb") as file:
        while file.read(1 << 20): pass
"""


def available_bytes():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable: +(\d+) kB", text)[1]) * 1024


def cgroup(share):
    """The folder of a control group that gets so many per cent of a CPU; None where there can be none."""
    try:
        v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        folder = Path("/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/cpu") / f"kvmclock-campaign-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        if v2:
            (folder / "cpu.max").write_text(f"{share * 1000} 100000")
        else:
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text(str(share * 1000))
        return folder
    except OSError:
        return None


class Load:
    """What a run has to live with: processes beside it, and what stands before its command."""

    def __init__(self, chance, kvmclock, scratch):
        self.words, self.beside, self.prefix, self.group = [], [], [], None
        cpus = os.cpu_count()
        if chance.random() < 0.5:
            count = chance.choice([1, cpus, 2 * cpus, 4 * cpus])
            self.words.append(f"{count} busy loops")
            self.beside += [BUSY] * count
        if chance.random() < 0.25:
            size = min(available_bytes() // 2, 4 << 30) // mmap.PAGESIZE * mmap.PAGESIZE
            self.words.append("memory pressure")
            self.beside.append(python(MEMORY, size))
        if chance.random() < 0.25:
            self.words.append("page-cache pressure")
            self.beside.append(python(PAGE_CACHE, scratch / "pages"))
        if chance.random() < 0.25:
            count = chance.choice([1, 2])
            self.words.append(f"{count} other runs")
            loop = 'while :; do "$0" run >/dev/null 2>&1; done'
            self.beside += [["sh", "-c", loop, kvmclock]] * count
        if chance.random() < 0.2:
            share = chance.choice([25, 50, 100])
            self.group = cgroup(share)
            if self.group:
                self.words.append(f"quota of {share} %")
                self.prefix += ["sh", "-c", f'echo $$ >{self.group}/cgroup.procs && exec "$@"', "-"]
        if chance.random() < 0.25:
            self.words.append("one CPU")
            self.prefix += ["taskset", "-c", str(chance.randrange(cpus))]
        priority = chance.choice([None, None, None, None, "nice", "idle", "batch"])
        if priority == "nice":
            self.words.append("nice 19")
            self.prefix += ["nice", "-n", "19"]
        elif priority:
            self.words.append(f"SCHED_{priority.upper()}")
            self.prefix += ["chrt", f"--{priority}", "0"]

    @property
    def name(self):
        return ", ".join(self.words) or "no load"


def widest(summary):
    """The width in ns of the widest interval that a verdict speaks of; None if of none."""
    found = re.search(r"intervals? .*?([\d.]+) (ns|us|ms|s) wide", summary)
    return float(found[1]) * UNITS[found[2]] if found else None


class Tally:
    def __init__(self):
        self.runs, self.retries, self.trouble = 0, 0, []
        self.words, self.rules, self.widths = Counter(), defaultdict(Counter), {}
        self.loads = defaultdict(Counter)

    def add(self, report, load):
        self.runs += 1
        self.retries += report["retries"]
        verdicts = {verdict["verdict"] for verdict in report["verdicts"]}
        outcome = next((word for word in ["broken", "inconclusive"] if word in verdicts), "sound")
        for word in load.words or ["no load"]:
            self.loads[word][outcome] += 1
        for verdict in report["verdicts"]:
            self.words[verdict["verdict"]] += 1
            self.rules[verdict["rule"]][verdict["verdict"]] += 1
            width = widest(verdict["summary"])
            if width is not None:
                self.widths[verdict["rule"]] = max(width, self.widths.get(verdict["rule"], 0))
        return outcome

    def table(self):
        lines = [f"{self.runs} runs, {self.retries} retries: "
                 + ", ".join(f"{count} {word}" for word, count in self.words.most_common()), "",
                 "| load | runs | sound | inconclusive | broken |", "| --- | --: | --: | --: | --: |"]
        for word, counts in sorted(self.loads.items()):
            lines.append(f"| {word} | {counts.total()} | {counts['sound']} | {counts['inconclusive']} "
                         f"| {counts['broken']} |")
        lines += ["", "| rule | judged | inconclusive | broken | widest interval |", "| --- | --: | --: | --: | --: |"]
        for rule, counts in sorted(self.rules.items()):
            if counts["inconclusive"] or counts["broken"]:
                width = self.widths.get(rule)
                lines.append(f"| {rule} | {counts.total()} | {counts['inconclusive']} | {counts['broken']} | "
                             + (f"{width / 1e3:.0f} us |" if width is not None else "|"))
        wide = sorted(self.widths.items(), key=lambda item: -item[1])[:5]
        lines += ["", "The widest intervals: " + ", ".join(f"{rule} {width / 1e6:.1f} ms" for rule, width in wide)]
        return "\n".join(lines + [f"- {line}" for line in self.trouble])


def run(kvmclock, seed, load, folder):
    """One run; its report, or None and what went wrong."""
    command = [*load.prefix, kvmclock, "run", "--seed", str(seed), "--history", str(folder / "histories"),
               "--output", str(folder / "report.json")]
    with beside(*load.beside):
        try:
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  timeout=RUN_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None, f"did not end within {RUN_SECONDS} s"
    if done.returncode not in (0, 1, 2) or done.stderr:
        return None, f"exit status {done.returncode}: {done.stderr.strip()[-300:]}"
    return json.loads((folder / "report.json").read_text()), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kvmclock", type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--keep", type=Path, default=Path("campaign"), help="where what failed is kept")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    end = time.monotonic() + arguments.hours * 3600
    tally, failed = Tally(), 0
    print(f"seed {arguments.seed}", flush=True)
    try:
        while time.monotonic() < end:
            with tempfile.TemporaryDirectory(prefix="kvmclock-campaign-") as scratch:
                folder = Path(scratch)
                load, seed = Load(chance, arguments.kvmclock, folder), chance.randrange(1 << 32)
                report, problem = run(arguments.kvmclock, seed, load, folder)
                if load.group:
                    with contextlib.suppress(OSError):
                        load.group.rmdir()
                outcome = tally.add(report, load) if report else problem
                print(f"run {tally.runs}, seed {seed}, {load.name}: {outcome}", flush=True)
                if report and outcome != "broken":
                    continue
                failed += 1
                kept = arguments.keep / f"seed-{seed}"
                tally.trouble.append(f"{outcome}, beside {load.name}: {kept}")
                shutil.copytree(folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pages"))
    except KeyboardInterrupt:
        print()
    print("\n" + tally.table())
    sys.exit(1 if failed or not tally.runs else 0)


if __name__ == "__main__":
    main()
