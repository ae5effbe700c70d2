"""One host of the lab: an initramfs, a boot under emulation, and the results that its disks bring back."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

from problem import Problem

INIT = Path(__file__).with_name("init")
MODES = ["tsc", "hpet", "acpi_pm"]
# About 512 MiB, in whole cylinders of 16 heads and 63 sectors.
DISK_BYTES = 1040 * 16 * 63 * 512
TRIES = 3
# Hosts say every five seconds that they live: one that is silent for so long hangs. The second number bounds a whole
# run of the suite.
QUIET_SECONDS = int(os.environ.get("LAB_QUIET", "60"))
RUN_SECONDS = int(os.environ.get("LAB_RUN", "300"))
# What begins the fate of a host whose KVM was never loaded: nothing that was changed in it is to blame.
EARLY = "before KVM was loaded: "
EARLY_TRIES = 3
# Why a host was ended that has more modes than need be seen.
ENOUGH = "enough"

# A host never outlives the lab, whatever ends it.
DIES_WITH_LAB = ["setpriv", "--pdeathsig", "KILL", "--"]

# Every emulator that this process has started and not yet seen end, and whether there shall be no more of them.
running = set()
stopping = threading.Event()


def end_all():
    stopping.set()
    for process in list(running):
        process.kill()
    for process in list(running):
        process.wait()


def cpio(entries):
    """An archive in the form that the kernel unpacks at its start, made without being root."""
    out = bytearray()
    for number, (name, mode, data) in enumerate(entries + [("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        device = (5, 1) if name == "dev/console" else (0, 0)
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


NO_RESULTS = "no results on the disk: the console says why"


def lean(module):
    """A module without its signature, which takes longer to verify under emulation than all else that loads it, and its types."""
    with tempfile.NamedTemporaryFile(suffix=".ko") as file:
        subprocess.run(["objcopy", "-R", ".BTF", "-R", ".BTF.base", module, file.name], check=True)
        return Path(file.name).read_bytes()


def folder(name):
    return name, 0o40755, b""


def base_archive(kvmclock, init=INIT):
    """What all hosts share, or all guests."""
    folders = [folder(name) for name in ["bin", "dev", "proc", "sys", "out", "job", "modules", "tmp"]]
    return cpio(folders + [
        ("dev/console", 0o20600, b""), ("init", 0o100755, init.read_bytes()),
        ("bin/busybox", 0o100755, Path(shutil.which("busybox")).read_bytes()),
        ("bin/kvmclock", 0o100755, kvmclock)])


class Bench:
    """What the hosts of a run have in common."""

    def __init__(self, executable, emulators, out):
        out.mkdir(parents=True, exist_ok=True)
        stripped = out / "kvmclock"
        subprocess.run(["strip", "-o", stripped, executable], check=True)
        self.kvmclock = stripped.read_bytes()
        stripped.unlink()
        self.archive = base_archive(self.kvmclock)
        self.emulators, self.out = emulators, out


class Cell:
    """One kernel in one mode, with its own or with rebuilt modules of KVM: what the harness says there."""

    def __init__(self, kernel, mode, rules=(), seed=None, modules=None, what="", kind="svm"):
        self.kernel, self.mode, self.rules, self.seed, self.kind = kernel, mode, list(rules), seed, kind
        self.modules = modules or kernel.folder / "modules"
        self.what = what
        # The modes that its host went through before it, and its own; and what it was booted with, as a digest.
        self.modes, self.digest = [], None
        # What kvmclock is asked to do, and what it needs besides itself.
        self.program = "kvmclock"
        self.command = ["run", "--change-host", *self.rules, *(["--seed", seed] if seed else [])]
        self.files = []
        self.seconds_at_most = RUN_SECONDS
        # The rules that have to be broken, if what is tested has a fault.
        self.breaks = []
        # SVM is where the lab began: it goes without saying.
        self.name = "-".join(part for part in (kernel.series, "" if kind == "svm" else kind, what, mode) if part)
        self.tries = []
        self.seconds = 0.0
        self.report = None
        # Where its results are, once there are some.
        self.place = None

    def may_try(self, tries):
        early = sum(fate.startswith(EARLY) for fate in self.tries)
        return len(self.tries) - early < tries and early < EARLY_TRIES

    def wrong(self):
        """What was not expected, besides verdicts: the rule or the thing, and what was seen."""
        return []

    def facts(self):
        return {"kernel": self.kernel.facts, "host": self.kind, "what": self.what, "mode": self.mode, "modes": self.modes,
                "rules": self.rules, "seed": self.seed, "modules": str(self.modules), "digest": self.digest,
                "tries": self.tries, "seconds": round(self.seconds, 1), "report": "report.json" if self.report else None}

    def take(self, disk, place):
        """Unpacks what a host left on the disk for this cell; "up", or why there is nothing."""
        try:
            with tarfile.open(disk) as tar:
                for member in tar:
                    if member.isfile():
                        target = place / os.path.normpath("/" + member.name).lstrip("/")
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(tar.extractfile(member).read())
        except tarfile.TarError:
            return NO_RESULTS
        # A disk that was never written is an empty archive.
        if not (place / "status").exists():
            return NO_RESULTS
        self.place = place
        status = (place / "status").read_text().strip()
        # It ended, with a report, but for a thread that the kernel does not give back.
        if status == "stuck" and (place / "report.json").exists():
            status = "1"
        if not status.isdigit():
            return f"not up: {status}"
        if status == "64":
            raise Problem((place / "errors.txt").read_text().strip(), "RULES= takes ids of rules, * and ? allowed")
        if int(status) not in (0, 1, 2) or not (place / "report.json").exists():
            return f"{self.program} ended with {status}: " + (place / "errors.txt").read_text()[:200].strip()
        self.report = json.loads((place / "report.json").read_text())
        return "up"


class Host:
    """A machine that goes through its cells, one mode after the other: they share a kernel, its modules and the rules."""

    def __init__(self, cells, tries=TRIES, is_enough=lambda cell: False):
        self.cells, self.tries = cells, tries
        # Whether what became of a cell makes the modes after it needless.
        self.is_enough = is_enough
        self.kernel, self.modules, self.kind = cells[0].kernel, cells[0].modules, cells[0].kind
        self.boots = 0

    def run(self, bench, on_cell=lambda cell: None, on_progress=lambda text: None):
        """Boots until every cell has brought results back; what each try came to is kept."""
        for cell in self.cells:
            shutil.rmtree(bench.out / cell.name, ignore_errors=True)
            (bench.out / cell.name).mkdir(parents=True, exist_ok=True)
        while not stopping.is_set():
            cells = [cell for cell in self.cells if not cell.report and cell.may_try(self.tries)]
            if not cells or any(cell not in cells and self.is_enough(cell) for cell in self.cells):
                break
            self.boots += 1
            before = [len(cell.tries) for cell in cells]
            Boot(self, cells, bench, on_cell).run()
            for cell, tries in zip(cells, before):
                if len(cell.tries) > tries and not cell.report and not stopping.is_set():
                    on_progress(f"{cell.name}: try {len(cell.tries)}: {cell.tries[-1]}")
        for cell in self.cells:
            (bench.out / cell.name / "cell.json").write_text(json.dumps(cell.facts(), indent=1) + "\n")
            if not cell.report:
                on_cell(cell)
        return self

    def archive(self, cells, emulator, shell=False):
        order = self.kernel.load_order(emulator.modules)
        order = [self.modules / path.name if (self.modules / path.name).exists() else path for path in order]
        settings = (f'MODES="{" ".join(cell.mode for cell in cells)}"\nSHELL_WANTED={"1" if shell else ""}\n'
                    f'PROGRAM={cells[0].program}\nCOMMAND="{" ".join(cells[0].command)}"\n{emulator.settings}')
        names = "\n".join(path.name for path in order) + "\n"
        return cpio(
            [("job/settings", 0o100644, settings.encode()), ("modules/order", 0o100644, names.encode()),
             *emulator.files, *cells[0].files]
            + [(f"modules/{path.name}", 0o100644, lean(path)) for path in order])

    def shell(self, bench):
        """The same machine with a person at its console instead of the suite."""
        emulator = bench.emulators[self.kind]
        initramfs = bench.out / "shell-initramfs"
        initramfs.write_bytes(bench.archive + self.archive(self.cells, emulator, shell=True))
        try:
            command = emulator.command(self.kernel, initramfs, [], self.cells[0].mode, None)
            return subprocess.run(DIES_WITH_LAB + command).returncode
        finally:
            initramfs.unlink(missing_ok=True)


class Boot:
    """One start of a host: watched by what its console says, ended when it hangs or crashes."""

    def __init__(self, host, cells, bench, on_cell):
        self.host, self.cells, self.bench, self.on_cell = host, cells, bench, on_cell
        self.emulator = bench.emulators[host.kind]
        self.place = bench.out / cells[0].name
        self.log = self.place / f"console.{len(cells[0].tries) + 1}.txt"
        self.disks = [self.place / f"disk.{cell.mode}" for cell in cells]
        self.waiting = list(zip(cells, self.disks))
        self.since = self.heard = self.now = 0.0
        self.length = 0

    def run(self):
        initramfs = self.place / "initramfs"
        try:
            archive = self.bench.archive + self.host.archive(self.cells, self.emulator)
            initramfs.write_bytes(archive)
            for number, cell in enumerate(self.cells):
                cell.modes = [one.mode for one in self.cells[:number + 1]]
                cell.digest = hashlib.sha256(archive).hexdigest()
            for disk in self.disks:
                with open(disk, "wb") as file:
                    file.truncate(DISK_BYTES)
            ended = self.watch(
                self.emulator.command(self.host.kernel, initramfs, self.disks, self.cells[0].mode, self.log))
            # Those whose turn did not come have lost no try.
            if self.waiting:
                cell = self.waiting[0][0]
                loaded = self.log.exists() and f"lab: {cell.mode}: kvm loaded".encode() in self.log.read_bytes()
                cell.tries.append(("" if loaded else EARLY) + (ended or "ended before its turn was over"))
        finally:
            for path in [initramfs, *self.disks, *self.emulator.leavings(self.place)]:
                path.unlink(missing_ok=True)

    def watch(self, command):
        """Runs the emulator to its end; says what went wrong if it had to be ended."""
        with open(self.emulator.output(self.log), "wb") as output:
            process = subprocess.Popen(DIES_WITH_LAB + command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                                       # Schedulers share CPUs out to sessions: a host is not one with whoever started the lab.
                                       start_new_session=True)
            running.add(process)
            self.since = self.heard = self.now = self.emulator.clock(process) or 0.0
            try:
                while True:
                    if stopping.is_set():
                        return "ended with the lab"
                    try:
                        process.wait(0.2)
                    except subprocess.TimeoutExpired:
                        pass
                    self.now = self.emulator.clock(process) or self.now
                    wrong = self.look(self.log.read_bytes() if self.log.exists() else b"")
                    if wrong:
                        if wrong != ENOUGH:
                            self.emulator.ask(process)
                        return wrong
                    if process.returncode is not None:
                        return None if not self.waiting else f"the emulator ended with {process.returncode}{self.last_words()}"
            finally:
                process.kill()
                process.wait()
                running.discard(process)

    def last_words(self):
        """What the emulator, or the kernel, said last."""
        lines = self.emulator.output(self.log).read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; last words: {said[:200]}" if said else ""

    def look(self, text):
        """Takes the results that the host says are there; what is wrong with it, if anything is."""
        while self.waiting and f"lab: {self.waiting[0][0].mode}: over".encode() in text:
            cell, disk = self.waiting.pop(0)
            cell.tries.append(cell.take(disk, self.bench.out / cell.name))
            cell.seconds += self.now - self.since
            self.since = self.heard = self.now
            if cell.report:
                self.on_cell(cell)
                if self.host.is_enough(cell):
                    self.waiting = []
                    return ENOUGH
        crash = re.search(rb"Oops: [^\n]*|Kernel panic[^\n]*|BUG: [^\n]*", text)
        if crash:
            return f"the kernel crashed: {crash[0].decode(errors='replace').strip()}"
        # RCU reports a stalled grace period, by its number, after 21 s, and again 63 s later if it still is: the stalled CPU
        # itself, another one, or who waits for an expedited one.
        stalled = re.findall(rb"jiffies,? (g=-?\d+|s: \d+)", text)
        if len(set(stalled)) < len(stalled):
            return "a CPU of the host hangs: RCU reported one stall twice"
        if len(text) > self.length:
            self.length, self.heard = len(text), self.now
        if self.now - self.heard > QUIET_SECONDS:
            return f"silent for {QUIET_SECONDS} s"
        limit = self.waiting[0][0].seconds_at_most if self.waiting else 0
        return f"no end after {limit} s" if self.waiting and self.now - self.since > limit else None
