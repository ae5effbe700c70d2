"""A disk that is full, or read-only, from a random moment on: the report still reaches stdout, the exit status tells of
the files that could not be written, and what was recorded before can be read.

    unshare --map-root-user --mount python3 Tests/disks.py KVMCLOCK [--count N] [--seed N]

In a mount namespace of its own: each try has a small tmpfs.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Some histories are written early, some late.
SCENARIOS = [word for name in ["rewrite", "version", "old-msr", "wall-msr", "readback", "several-vms", "torn"]
             for word in ["--scenario", name]]
COMMANDS = {
    "run": ["run", *SCENARIOS, "--history", "{disk}/histories", "--output", "{disk}/report.json"],
    "vmm": ["vmm", "toy", "--only", "pause", "--history", "{disk}/histories", "--output", "{disk}/report.json"],
}
SECONDS = 120


def fill(disk):
    """Takes all of the disk's room."""
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 14))
        except OSError:
            pass


def freeze(disk):
    """Makes the disk read-only, as soon as no file is being written: before that Linux refuses."""
    while subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True, check=False).returncode:
        time.sleep(0.001)


WAYS = {"full": fill, "read-only": freeze}


def complaint(kvmclock, name, way, after, disk):
    """The exit status of one try, and what was wrong with it, or None."""
    words = [word.format(disk=disk) for word in COMMANDS[name]]
    process = subprocess.Popen([kvmclock, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(after)
        WAYS[way](disk)
        try:
            said, complained = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return None, f"runs on for {SECONDS} s"
    finally:
        process.kill()
        process.wait()
    code = process.returncode
    if code not in {0, 2, 74}:
        return code, f"exit status {code}: {complained[-300:]}"
    if (code == 74) != (str(disk) in complained):
        return code, f"exit status {code}, and stderr says: {complained[-300:]}"
    if code != 74 and not (disk / "report.json").exists():
        return code, f"exit status {code}, and the file of the report is not there"
    # Where not even the folder can be made that is told before anything is tested.
    recorded = any((disk / "histories").glob("*.jsonl"))
    if "SOUND" not in said and (code != 74 or recorded):
        return code, f"stdout lacks the report: {said[-300:]} {complained[-300:]}"
    if left := [str(path) for path in disk.rglob("*.tmp")]:
        return code, f"leaves {left}"
    if recorded:
        done = subprocess.run([kvmclock, "check", disk / "histories"], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 2):
            return code, f"check of what it recorded: {done.returncode}: {done.stderr[-300:]}"
    return code, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kvmclock", type=lambda path: str(Path(path).resolve()))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    seen = collections.Counter()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="kvmclock-disks-") as scratch:
        disk = Path(scratch)
        for number in range(1, arguments.count + 1):
            name, way, after = chance.choice(list(COMMANDS)), chance.choice(list(WAYS)), chance.uniform(0, 2)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "disk", disk], check=True)
            try:
                code, problem = complaint(arguments.kvmclock, name, way, after, disk)
            finally:
                subprocess.run(["umount", disk], check=True)
            seen[name, way, code] += 1
            if problem:
                wrong += 1
                print(f"{number}: {name}, {way} after {after:.2f} s: {problem}", flush=True)
    print(f"{'command':9}{'disk':11}{'exit status':13}tries")
    for (name, way, code), tries in sorted(seen.items(), key=str):
        print(f"{name:9}{way:11}{code!s:13}{tries}")
    print(f"{arguments.count} tries, {wrong} that something was wrong with")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
