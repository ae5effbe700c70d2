"""Hosts with SVM: QEMU's emulation, in which the TSC and CLOCK_MONOTONIC_RAW are this machine's."""

import ctypes
import mmap
import time

import host
import needs


class QEMU:
    """What a run of the lab needs once to start hosts with SVM."""

    modes, modules = ["tsc", "hpet", "acpi_pm"], ["virtio_pci", "virtio_blk", "kvm-amd"]
    settings = 'KVM=kvm_amd\nPARAMETERS=\n'
    files = []

    def __init__(self, archive, say):
        self.executable, self.khz = needs.qemu(archive, say), tsc_khz()

    def command(self, kernel, initramfs, disks, mode, console):
        clock = f"tsc=reliable tsc_early_khz={self.khz} clocksource={mode}"
        command = [
            self.executable, "-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "1G",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "mon:stdio",
            "-kernel", str(kernel.image), "-initrd", str(initramfs),
            "-append", f"console=ttyS0 panic=-1 loglevel=5 sysrq_always_enabled mitigations=off nokaslr "
                       f"transparent_hugepage=never {clock}"]
        for number, disk in enumerate(disks):
            command += ["-drive", f"file={disk},format=raw,if=none,id=out{number},cache=unsafe",
                        "-device", f"virtio-blk-pci,drive=out{number}"]
        return command

    def output(self, console):
        """Where what the emulator itself says goes."""
        return console

    def clock(self, process):
        """What a host's seconds are counted by."""
        return time.monotonic()

    def leavings(self, place):
        return []

    def ask(self, process):
        """Has a host that went wrong tell the console where its CPUs and its tasks are."""
        # ^A b is a break on the serial line, which makes the next letter a SysRq; ^A c goes to QEMU's monitor.
        for keys, seconds in [(b"\x01bl", 1), (b"\x01bw", 1), (b"\x01cinfo registers -a\n", 1)]:
            try:
                process.stdin.write(keys)
                process.stdin.flush()
            except OSError:
                return
            host.stopping.wait(seconds)


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
