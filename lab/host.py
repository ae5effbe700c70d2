"""One host of the lab: an initramfs, a boot under QEMU's emulation, and the results that its disk brings back."""

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
# A boot that says nothing new for so long hangs; a whole run of the suite is bounded by the second number.
QUIET_SECONDS = int(os.environ.get("LAB_QUIET", "60"))
BOOT_SECONDS = int(os.environ.get("LAB_BOOT", "300"))

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
    """One kernel in one mode, with its own or with rebuilt modules of KVM."""

    def __init__(self, kernel, mode, rules=(), seed=None, modules=None, name=None):
        self.kernel, self.mode, self.rules, self.seed = kernel, mode, list(rules), seed
        self.modules = modules or kernel.folder / "modules"
        self.name = name or f"{kernel.series}-{mode}"
        self.tries = []
        self.seconds = 0.0
        self.report = None

    def job_archive(self, shell):
        order = load_order(self.kernel.folder)
        order = [self.modules / path.name if (self.modules / path.name).exists() else path for path in order]
        arguments = self.rules + (["--seed", self.seed] if self.seed else [])
        settings = f'MODE={self.mode}\nSHELL_WANTED={"1" if shell else ""}\nARGUMENTS="{" ".join(arguments)}"\n'
        names = "\n".join(path.name for path in order) + "\n"
        return cpio(
            [("job/settings", 0o100644, settings.encode()), ("modules/order", 0o100644, names.encode())]
            + [(f"modules/{path.name}", 0o100644, path.read_bytes()) for path in order])

    def command(self, bench, initramfs, disk):
        clock = f"tsc=reliable tsc_early_khz={bench.khz} clocksource={self.mode}"
        return [
            bench.qemu, "-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "1G",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", str(self.kernel.image), "-initrd", str(initramfs),
            "-drive", f"file={disk},format=raw,if=none,id=out,cache=unsafe", "-device", "virtio-blk-pci,drive=out",
            "-append", f"console=ttyS0 panic=-1 quiet mitigations=off nokaslr {clock}"]

    def run(self, bench, on_progress=lambda text: None):
        """Boots until a boot brings results back; what each try came to is kept."""
        began = time.monotonic()
        place = bench.out / self.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, TRIES + 1):
            if stopping.is_set():
                break
            outcome = self.boot(bench, place, attempt)
            self.tries.append(outcome)
            if outcome == "up" or stopping.is_set():
                break
            on_progress(f"try {attempt}: {outcome}")
        self.seconds = time.monotonic() - began
        (place / "cell.json").write_text(json.dumps(self.facts(), indent=1) + "\n")
        return self

    def facts(self):
        return {"kernel": self.kernel.facts, "mode": self.mode, "tries": self.tries, "seconds": round(self.seconds, 1),
                "report": "report.json" if self.report else None}

    def boot(self, bench, place, attempt):
        initramfs, disk, log = place / "initramfs", place / "disk", place / f"console.{attempt}.txt"
        initramfs.write_bytes(bench.archive + self.job_archive(shell=False))
        with open(disk, "wb") as file:
            file.truncate(DISK_BYTES)
        try:
            ended = self.watch(self.command(bench, initramfs, disk), log)
            if ended:
                return ended
            return self.take(disk, place)
        finally:
            disk.unlink(missing_ok=True)
            initramfs.unlink(missing_ok=True)

    def shell(self, bench):
        """The same host with a person at its console instead of the suite."""
        initramfs, disk = bench.out / "shell-initramfs", bench.out / "shell-disk"
        initramfs.write_bytes(bench.archive + self.job_archive(shell=True))
        disk.write_bytes(bytes(1 << 20))
        try:
            command = self.command(bench, initramfs, disk)
            # ^C is for the shell in there.
            command[command.index("stdio")] = "mon:stdio"
            return subprocess.run(command, preexec_fn=die_with_parent).returncode
        finally:
            initramfs.unlink(missing_ok=True)
            disk.unlink(missing_ok=True)

    def watch(self, command, log):
        """Runs QEMU to its end; says what went wrong if it had to be ended."""
        began = time.monotonic()
        with open(log, "wb") as console:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                                       preexec_fn=die_with_parent)
            running.add(process)
            try:
                while True:
                    if stopping.is_set():
                        return "ended with the lab"
                    try:
                        process.wait(1)
                    except subprocess.TimeoutExpired:
                        pass
                    text = log.read_bytes()
                    crash = re.search(rb"Oops: [^\n]*|Kernel panic[^\n]*|BUG: [^\n]*", text)
                    if crash:
                        return f"the kernel crashed: {crash[0].decode(errors='replace').strip()}"
                    if process.returncode is not None:
                        return None if process.returncode == 0 else f"QEMU ended with {process.returncode}"
                    now = time.monotonic()
                    if b"lab: kvm loaded" not in text and now - began > QUIET_SECONDS:
                        return f"not up after {QUIET_SECONDS} s"
                    if now - began > BOOT_SECONDS:
                        return f"no end after {BOOT_SECONDS} s"
            finally:
                process.kill()
                process.wait()
                running.discard(process)

    def take(self, disk, place):
        try:
            with tarfile.open(disk) as tar:
                for member in tar:
                    if member.isfile():
                        target = place / os.path.normpath("/" + member.name).lstrip("/")
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(tar.extractfile(member).read())
        except tarfile.TarError:
            return "no results on the disk"
        status = (place / "status").read_text().strip()
        if not status.isdigit():
            return f"not up: {status}"
        if status == "64":
            raise Problem((place / "errors.txt").read_text().strip(), "RULES= takes ids of rules, * and ? allowed")
        if int(status) not in (0, 1, 2):
            return f"kvmclock ended with {status}: " + (place / "errors.txt").read_text()[:200].strip()
        self.report = json.loads((place / "report.json").read_text())
        return "up"


def die_with_parent():
    """A host never outlives the lab, whatever ends it."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
