"""Hosts with VMX: Bochs, an emulator of Intel's CPUs. It emulates TSC scaling, too, and nothing of this machine reaches them.

Bochs counts instructions and calls that time: so many a second, whatever they take. Two runs of a host are alike to the bit.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import edit
from kernels import PVH_NOTE, cache
from problem import Problem

HERE = Path(__file__).with_name("vmx")
# The release whose Bochs is built, and what its package of ROMs is called.
RELEASE, ROMS = "trixie", ["bochsbios", "vgabios"]
OPTIONS = """
    --with-nogui --disable-docbook --disable-usb --disable-plugins --disable-debugger --disable-show-ips --enable-smp
    --enable-cpu-level=6 --enable-x86-64 --enable-vmx=2 --enable-avx --enable-evex --enable-cet --enable-all-optimizations
    --enable-pci --enable-memtype --enable-protection-keys --enable-monitor-mwait
    """.split()
# Instructions a second, and so cycles of the TSC.
SPEED = 100_000_000
MEMORY_MIB = 512
# Where boot.S puts the parts of a kernel.
INFO, INITRD = 0x900000, 0x8000000
SECTOR = 512
# 16 heads of 63 sectors: what a disk of Bochs's has whole.
CYLINDER = 16 * 63 * SECTOR
# MSRs that kvm-intel.ko reads and that this CPU lacks: ADDRESS TYPE RESET RESERVED IGNORED, high and low words.
MSRS = """0x1a0 0 00000000 00000001 00000000 00000000 00000000 00000000
0x0e7 0 00000000 00000000 00000000 00000000 00000000 00000000
0x0e8 0 00000000 00000000 00000000 00000000 00000000 00000000
"""


class Bochs:
    """What a run of the lab needs once to start hosts with VMX."""

    modes, modules = ["tsc", "hpet"], ["kvm-intel"]
    # Its APIC virtualization wants descriptors that are aligned to a page, where 64 bytes are enough.
    settings = 'KVM=kvm_intel\nPARAMETERS="enable_apicv=0"\n'

    def __init__(self, archive, say, _kvmclock):
        self.folder = cache() / "bochs"
        if not (self.folder / "bochs").exists():
            self.make(archive, say)
        # Built each time, for it takes no time: the cache may be of an older lab.
        with tempfile.TemporaryDirectory() as folder:
            helper = Path(folder) / "helper"
            build(["gcc", "-O2", "-static", "-o", helper, HERE / "bochs.c"], folder)
            self.files = [("bin/bochs", 0o100755, helper.read_bytes())]

    def make(self, archive, say):
        """Builds Bochs and its boot ROM, once."""
        part = self.folder.with_name("bochs.part")
        shutil.rmtree(part, ignore_errors=True)
        source = part / "source"
        source.mkdir(parents=True)
        archive = archive()
        archive.add(RELEASE, with_sources=True)
        for package in ROMS:
            version = archive.versions(package)[0]
            say(f"{package} {version}")
            deb = archive.fetch(package, version, part)
            subprocess.run(["dpkg-deb", "-x", deb, part], check=True)
            deb.unlink()
        tar = archive.fetch_source("bochs", part)
        say(f"{tar.name}: building Bochs, for some minutes")
        subprocess.run(["tar", "-xf", tar, "-C", source, "--strip-components=1"], check=True)
        tar.unlink()
        for name, text in edit.apply(edit.Change(HERE / "bochs.edit"), tar.name, source, ["cpu/*.cc", "osdep.cc"]).items():
            (source / name).write_text(text, errors="surrogateescape")
        build(["./configure", *OPTIONS], source)
        build(["make", "-s", f"-j{os.cpu_count()}"], source)
        build(["strip", "-o", part / "bochs", source / "bochs"], source)
        shutil.rmtree(source)
        (part / "boot.rom").write_bytes(boot_rom(part))
        (part / "msrs.def").write_text(MSRS)
        shutil.rmtree(self.folder, ignore_errors=True)
        part.rename(self.folder)

    def command(self, kernel, initramfs, disks, mode, console):
        """The command that starts a host, after its disk and its settings are written beside its initramfs."""
        place = initramfs.parent
        line = (f"console=ttyS0 panic=-1 loglevel=5 mitigations=off nokaslr transparent_hugepage=never random.trust_cpu=on "
                f"tsc=reliable tsc_early_khz={SPEED // 1000} clocksource={mode}")
        boot = place / "boot.img"
        write_boot_disk(boot, kernel.image.read_bytes(), initramfs.read_bytes(), line)
        drives = "".join(
            f"ata{number // 2}-{('master', 'slave')[number % 2]}: type=disk, path={path}, mode=flat\n"
            for number, path in enumerate([boot, *disks]))
        (place / "bochsrc").write_text(f"""
config_interface: textconfig
display_library: nogui
memory: guest={MEMORY_MIB}, host={MEMORY_MIB}
romimage: file={self.folder}/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file={self.folder}/usr/share/vgabios/vgabios.bin
optromimage1: file={self.folder}/boot.rom, address=0xd0000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
{drives}cpu: model=corei7_skylake_x, count=2, ips={SPEED}, reset_on_triple_fault=0, ignore_bad_msrs=1, msrs={self.folder}/msrs.def
clock: sync=none, time0=1700000000, rtc_sync=0
com1: enabled=1, mode=file, dev={console}
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
mouse: enabled=0
vga: extension=none, update_freq=1, realtime=0
""")
        return [str(self.folder / "bochs"), "-q", "-f", str(place / "bochsrc")]

    def output(self, console):
        """Where what Bochs itself says goes: it writes the console by itself."""
        return console.with_name(console.name.replace("console", "bochs"))

    def clock(self, process):
        """What a host's seconds are counted by: those of a CPU, whatever else this machine does; None if it is gone."""
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def leavings(self, place):
        """What a boot leaves in its folder; a Bochs that was killed leaves its locks."""
        return [place / "boot.img", place / "bochsrc", *place.glob("*.lock")]

    def ask(self, process):
        """Nothing can be typed to such a host."""


def build(command, folder):
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    if done.returncode:
        raise Problem(f"Bochs does not build: {command[0]} ended with {done.returncode}:\n"
                      + "\n".join(done.stderr.splitlines()[-8:]), "see that g++ is the one of this system's gcc")


def boot_rom(folder):
    """boot.S as an option ROM: a block whose bytes add up to 0."""
    raw = folder / "boot.bin"
    build(["as", "--32", "-o", folder / "boot.o", HERE / "boot.S"], folder)
    build(["ld", "-m", "elf_i386", "-Ttext", "0", "--oformat", "binary", "-o", raw, folder / "boot.o"], folder)
    rom = raw.read_bytes().ljust(SECTOR - 1, b"\0")
    return rom + bytes([-sum(rom) & 255])


def loaded(image):
    """What an ELF kernel has in memory: its lowest address, its bytes, and where its PVH note has it start."""
    if PVH_NOTE not in image:
        raise Problem("a host with VMX cannot start this kernel: it has no PVH entry, or is packed by other means than gzip, "
                      "xz or zstd", "build it with CONFIG_PVH=y and CONFIG_KERNEL_GZIP=y; or HOSTS=svm")
    offset, = struct.unpack_from("<Q", image, 32)
    count, = struct.unpack_from("<H", image, 56)
    segments, entry = [], None
    for number in range(count):
        kind, _, start, _, address, size, *_ = struct.unpack_from("<IIQQQQQQ", image, offset + 56 * number)
        if kind == 1:
            segments.append((address, image[start:start + size]))
        while kind == 4 and size > 0:
            lengths = [-(-length // 4) * 4 for length in struct.unpack_from("<II", image, start)]
            if image[start + 8:start + 16] == PVH_NOTE:
                entry, = struct.unpack_from("<I", image, start + 12 + lengths[0])
            start, size = start + 12 + sum(lengths), size - 12 - sum(lengths)
    base = min(address for address, _ in segments)
    memory = bytearray(max(address + len(data) for address, data in segments) - base)
    for address, data in segments:
        memory[address - base:address - base + len(data)] = data
    return base, bytes(memory), entry


def start_info(line, initramfs):
    """What a kernel is handed at its PVH entry: struct hvm_start_info, its module, its map of memory, its command line."""
    top = MEMORY_MIB << 20
    ram, reserved, acpi = 1, 2, 3
    ranges = [(0, 0x9fc00, ram), (0x9fc00, 0x400, reserved), (0xe0000, 0x20000, reserved),
              (0x100000, top - 0x110000, ram), (top - 0x10000, 0x10000, acpi)]
    head = struct.pack("<IIIIQQQQII", 0x336ec578, 1, 0, 1, INFO + 64, INFO + 512, 0, INFO + 128, len(ranges), 0)
    module = struct.pack("<QQQQ", INITRD, initramfs, 0, 0)
    table = b"".join(struct.pack("<QQII", *one, 0) for one in ranges)
    return head.ljust(64, b"\0") + module.ljust(64, b"\0") + table.ljust(384, b"\0") + line.encode() + b"\0"


def write_boot_disk(path, image, initramfs, line):
    """The disk that boot.S reads: its table, then the parts."""
    base, kernel, entry = loaded(image)
    table, sector = struct.pack("<II", entry, INFO), 1
    parts = [(INFO, start_info(line, len(initramfs))), (base, kernel), (INITRD, initramfs)]
    with open(path, "wb") as file:
        for address, data in parts:
            sectors = -(-len(data) // SECTOR)
            table += struct.pack("<III", address, sector, sectors)
            file.seek(sector * SECTOR)
            file.write(data)
            sector += sectors
        file.seek(0)
        file.write(table)
        file.truncate(-(-sector * SECTOR // CYLINDER) * CYLINDER)
