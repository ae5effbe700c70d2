"""Hosts with SVM: QEMU's emulation, in which the TSC and CLOCK_MONOTONIC_RAW are this machine's."""

import subprocess
import time

import host
import needs


class QEMU:
    """What a run of the lab needs once to start hosts with SVM."""

    modes, modules = ["tsc", "hpet", "acpi_pm"], ["virtio_pci", "virtio_blk", "kvm-amd"]
    settings = 'KVM=kvm_amd\nPARAMETERS=\n'
    files = []
    # Whether each CPU of a host has a thread of its own: "multi" or "single".
    threads = "multi"

    def __init__(self, archive, say, kvmclock):
        self.executable, self.khz = needs.qemu(archive, say), tsc_khz(kvmclock)

    def command(self, kernel, initramfs, disks, mode, console):
        clock = f"tsc=reliable tsc_early_khz={self.khz} clocksource={mode}"
        command = [
            self.executable, "-accel", f"tcg,thread={self.threads}", "-cpu", "max", "-M", "q35", "-smp", "2", "-m", "1G",
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


def tsc_khz(kvmclock):
    """This machine's TSC rate: an emulated machine has the same TSC, and would measure it badly by itself."""
    return int(subprocess.run([kvmclock, "tsc-rate"], check=True, capture_output=True, text=True).stdout)
