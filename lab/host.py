"""One host of the lab: an initramfs, a boot under QEMU's emulation, and the results that its disks bring back."""

import ctypes
import json
import mmap
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from kernels import load_order
from problem import Problem

MODES = ["tsc", "hpet", "acpi_pm"]
DISK_BYTES = 512 << 20
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

# Every QEMU that this process has started and not yet seen end, and whether there shall be no more of them.
running = set()
stopping = threading.Event()


def end_all():
    stopping.set()
    for process in list(running):
        process.kill()
    for process in list(running):
        process.wait()


def tsc_khz():
    """This machine's TSC rate: an emulated machine has the same TSC, and would measure it badly by itself."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)

    def moment():
        best = None
        for _ in range(2000):
            before, raw, after = rdtsc(), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), rdtsc()
            if best is None or after - before < best[0]:
                best = after - before, (before + after) // 2, raw
        return best[1:]

    tsc0, raw0 = moment()
    time.sleep(0.3)
    tsc1, raw1 = moment()
    return round((tsc1 - tsc0) * 1e6 / (raw1 - raw0))


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


def unsigned(module):
    """A module without its signature, which takes longer to verify under emulation than all else that loads it."""
    magic = b"~Module signature appended~\n"
    if not module.endswith(magic):
        return module
    end = len(module) - len(magic) - 12
    return module[:end - int.from_bytes(module[end + 8:end + 12], "big")]


def folder(name):
    return name, 0o40755, b""


def base_archive(executable, busybox):
    """What all hosts share."""
    init = Path(__file__).with_name("init").read_bytes()
    folders = [folder(name) for name in ["bin", "dev", "proc", "sys", "out", "job", "modules", "tmp"]]
    return cpio(folders + [
        ("dev/console", 0o20600, b""), ("init", 0o100755, init),
        ("bin/busybox", 0o100755, Path(busybox).read_bytes()),
        ("bin/kvmclock", 0o100755, Path(executable).read_bytes())])


class Bench:
    """What the hosts of a run have in common."""

    def __init__(self, executable, qemu, out):
        out.mkdir(parents=True, exist_ok=True)
        stripped = out / "kvmclock"
        subprocess.run(["strip", "-o", stripped, executable], check=True)
        self.archive = base_archive(stripped, shutil.which("busybox"))
        stripped.unlink()
        self.qemu, self.out, self.khz = qemu, out, tsc_khz()


class Cell:
    """One kernel in one mode, with its own or with rebuilt modules of KVM: what the harness says there."""

    def __init__(self, kernel, mode, rules=(), seed=None, modules=None, name=None):
        self.kernel, self.mode, self.rules, self.seed = kernel, mode, list(rules), seed
        self.modules = modules or kernel.folder / "modules"
        self.name = name or f"{kernel.series}-{mode}"
        self.tries = []
        self.seconds = 0.0
        self.report = None
        # Where its results are, once there are some.
        self.place = None

    def may_try(self, tries):
        early = sum(fate.startswith(EARLY) for fate in self.tries)
        return len(self.tries) - early < tries and early < EARLY_TRIES

    def facts(self):
        return {"kernel": self.kernel.facts, "mode": self.mode, "tries": self.tries, "seconds": round(self.seconds, 1),
                "report": "report.json" if self.report else None}

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
            return "no results on the disk"
        self.place = place
        status = (place / "status").read_text().strip()
        # It ended, with a report, but for a thread that the kernel does not give back.
        if status == "stuck" and (place / "report.json").exists():
            status = "1"
        if not status.isdigit():
            return f"not up: {status}"
        if status == "64":
            raise Problem((place / "errors.txt").read_text().strip(), "RULES= takes ids of rules, * and ? allowed")
        if int(status) not in (0, 1, 2):
            return f"kvmclock ended with {status}: " + (place / "errors.txt").read_text()[:200].strip()
        self.report = json.loads((place / "report.json").read_text())
        return "up"


class Host:
    """A machine that goes through its cells, one mode after the other: they share a kernel, its modules and the rules."""

    def __init__(self, cells, tries=TRIES, is_enough=lambda cell: False):
        self.cells, self.tries = cells, tries
        # Whether what became of a cell makes the modes after it needless.
        self.is_enough = is_enough
        self.kernel, self.modules = cells[0].kernel, cells[0].modules
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

    def archive(self, cells, shell=False):
        order = load_order(self.kernel.folder)
        order = [self.modules / path.name if (self.modules / path.name).exists() else path for path in order]
        arguments = cells[0].rules + (["--seed", cells[0].seed] if cells[0].seed else [])
        settings = (f'MODES="{" ".join(cell.mode for cell in cells)}"\nSHELL_WANTED={"1" if shell else ""}\n'
                    f'ARGUMENTS="{" ".join(arguments)}"\n')
        names = "\n".join(path.name for path in order) + "\n"
        return cpio(
            [("job/settings", 0o100644, settings.encode()), ("modules/order", 0o100644, names.encode())]
            + [(f"modules/{path.name}", 0o100644, unsigned(path.read_bytes())) for path in order])

    def command(self, bench, initramfs, disks, mode):
        clock = f"tsc=reliable tsc_early_khz={bench.khz} clocksource={mode}"
        command = [
            bench.qemu, "-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "1G",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "mon:stdio",
            "-kernel", str(self.kernel.image), "-initrd", str(initramfs),
            "-append", f"console=ttyS0 panic=-1 loglevel=5 sysrq_always_enabled mitigations=off nokaslr "
                       f"transparent_hugepage=never {clock}"]
        for number, disk in enumerate(disks):
            command += ["-drive", f"file={disk},format=raw,if=none,id=out{number},cache=unsafe",
                        "-device", f"virtio-blk-pci,drive=out{number}"]
        return command

    def shell(self, bench):
        """The same machine with a person at its console instead of the suite."""
        initramfs = bench.out / "shell-initramfs"
        initramfs.write_bytes(bench.archive + self.archive(self.cells, shell=True))
        try:
            command = self.command(bench, initramfs, [], self.cells[0].mode)
            return subprocess.run(command, preexec_fn=die_with_parent).returncode
        finally:
            initramfs.unlink(missing_ok=True)


class Boot:
    """One start of a host: watched by what its console says, ended when it hangs or crashes."""

    def __init__(self, host, cells, bench, on_cell):
        self.host, self.cells, self.bench, self.on_cell = host, cells, bench, on_cell
        self.place = bench.out / cells[0].name
        self.log = self.place / f"console.{len(cells[0].tries) + 1}.txt"
        self.disks = [self.place / f"disk.{cell.mode}" for cell in cells]
        self.waiting = list(zip(cells, self.disks))
        self.since = self.heard = time.monotonic()
        self.length = 0

    def run(self):
        initramfs = self.place / "initramfs"
        try:
            initramfs.write_bytes(self.bench.archive + self.host.archive(self.cells))
            for disk in self.disks:
                with open(disk, "wb") as file:
                    file.truncate(DISK_BYTES)
            ended = self.watch(self.host.command(self.bench, initramfs, self.disks, self.cells[0].mode))
            # Those whose turn did not come have lost no try.
            if self.waiting:
                cell = self.waiting[0][0]
                loaded = f"lab: {cell.mode}: kvm loaded".encode() in self.log.read_bytes()
                cell.tries.append(("" if loaded else EARLY) + (ended or "ended before its turn was over"))
        finally:
            for path in [initramfs, *self.disks]:
                path.unlink(missing_ok=True)

    def watch(self, command):
        """Runs QEMU to its end; says what went wrong if it had to be ended."""
        with open(self.log, "wb") as console:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=console, stderr=subprocess.STDOUT,
                                       preexec_fn=die_with_parent)
            running.add(process)
            try:
                while True:
                    if stopping.is_set():
                        return "ended with the lab"
                    try:
                        process.wait(0.2)
                    except subprocess.TimeoutExpired:
                        pass
                    wrong = self.look(self.log.read_bytes())
                    if wrong:
                        if wrong != ENOUGH:
                            self.ask(process)
                        return wrong
                    if process.returncode is not None:
                        return None if process.returncode == 0 else f"QEMU ended with {process.returncode}"
            finally:
                process.kill()
                process.wait()
                running.discard(process)

    def ask(self, process):
        """Has a host that went wrong tell the console where its CPUs and its tasks are."""
        # ^A b is a break on the serial line, which makes the next letter a SysRq; ^A c goes to QEMU's monitor.
        for keys, seconds in [(b"\x01bl", 1), (b"\x01bw", 1), (b"\x01cinfo registers -a\n", 1)]:
            try:
                process.stdin.write(keys)
                process.stdin.flush()
            except OSError:
                return
            stopping.wait(seconds)

    def look(self, text):
        """Takes the results that the host says are there; what is wrong with it, if anything is."""
        while self.waiting and f"lab: {self.waiting[0][0].mode}: over".encode() in text:
            cell, disk = self.waiting.pop(0)
            cell.tries.append(cell.take(disk, self.bench.out / cell.name))
            cell.seconds += time.monotonic() - self.since
            self.since = time.monotonic()
            if cell.report:
                self.on_cell(cell)
                if self.host.is_enough(cell):
                    self.waiting = []
                    return ENOUGH
        crash = re.search(rb"Oops: [^\n]*|Kernel panic[^\n]*|BUG: [^\n]*", text)
        if crash:
            return f"the kernel crashed: {crash[0].decode(errors='replace').strip()}"
        now = time.monotonic()
        if len(text) > self.length:
            self.length, self.heard = len(text), now
        if now - self.heard > QUIET_SECONDS:
            return f"silent for {QUIET_SECONDS} s"
        return f"no end after {RUN_SECONDS} s" if self.waiting and now - self.since > RUN_SECONDS else None


def die_with_parent():
    """A host never outlives the lab, whatever ends it."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
