"""Signals at random moments: what is asked to end ends within 5 s, and leaves no process and no file behind.

    python3 Tests/signals.py KVMCLOCK [--count N] [--seed N]

A command that is stopped and goes on says what it says otherwise; what a killed one had recorded can be read.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "run": ["run", "--history", "{histories}", "--output", "{report}"],
    "soak": ["soak", "--for", "20s", "--checkpoint", "{report}"],
    "faults": ["faults"],
    "vmm": ["vmm", "toy", "--history", "{histories}"],
}
if shutil.which("qemu-system-x86_64"):
    COMMANDS["vmm qemu"] = ["vmm", "qemu", "--only", "pause", "--only", "snapshot", "--history", "{histories}"]
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL]
SECONDS = 5


def members(session):
    """The processes of a session that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def complaint(kvmclock, name, number, after):
    """What was wrong with one try, or None."""
    with tempfile.TemporaryDirectory(prefix="kvmclock-signals-") as scratch:
        folder = Path(scratch)
        places = {"histories": folder / "histories", "report": folder / "report.json"}
        (folder / "tmp").mkdir()
        words = [word.format(**places) for word in COMMANDS[name]]
        process = subprocess.Popen([kvmclock, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(folder / "tmp")},
                                   start_new_session=True)
        try:
            time.sleep(after)
            process.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(1)
                process.send_signal(signal.SIGCONT)
            try:
                _, said = process.communicate(timeout=120 if number == signal.SIGSTOP else SECONDS)
            except subprocess.TimeoutExpired:
                return f"runs on for {SECONDS} s"
            # What a killed command leaves is cleared up by a process of its own.
            end = time.monotonic() + SECONDS
            while (left := [*members(process.pid), *(path.name for path in (folder / "tmp").iterdir())]):
                if time.monotonic() > end:
                    return f"leaves processes or files in TMPDIR: {left}"
                time.sleep(0.01)
            expected = {0} if number == signal.SIGSTOP else {0, 128 + number, -number}
            if process.returncode not in expected:
                return f"exit status {process.returncode}: {said.decode()[-200:]}"
            return unreadable(kvmclock, places["histories"])
        finally:
            for left in members(process.pid):
                os.kill(left, signal.SIGKILL)
            process.kill()
            process.wait()


def unreadable(kvmclock, histories):
    files = sorted(histories.glob("*")) if histories.exists() else []
    if not files:
        return None
    done = subprocess.run([kvmclock, "check", *files], capture_output=True, text=True, check=False)
    return None if done.returncode in (0, 2) else f"check of what it recorded: {done.returncode}: {done.stderr[-300:]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kvmclock", type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    wrong = 0
    for number in range(1, arguments.count + 1):
        name, what = chance.choice(list(COMMANDS)), chance.choice([*ENDING, signal.SIGSTOP])
        if what == signal.SIGSTOP and name == "soak":
            what = signal.SIGTERM
        after = chance.uniform(0, 3)
        problem = complaint(arguments.kvmclock, name, what, after)
        if problem:
            wrong += 1
            print(f"{number}: {name}, {what.name} after {after:.2f} s: {problem}", flush=True)
    print(f"{arguments.count} signals, {wrong} that something was wrong with")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
