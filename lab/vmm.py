"""VMMs under test in a host of the lab, where a guest's TSC can be moved and vCPUs come and go."""

import math
import shutil
import subprocess
from pathlib import Path

import host
from problem import Problem

# What a toy VMM does wrong that shows only where a guest's TSC can be moved: the script that shows it, and the rules that name it.
FAULTS = {"tscs-apart": ("snapshot", ["VMM-KEEPS-STABLE"]), "tsc-goes-back": ("snapshot", ["VMM-TSC-NEVER-BACK"]),
          "plugged-tsc-apart": ("hotplug", ["VMM-KEEPS-STABLE"]), "frequency-on-one-vcpu": ("snapshot", ["VMM-TSC-ALIKE"])}
# The same where it can be scaled.
SCALED_FAULTS = {"frequency-lost": ("snapshot", ["VMM-KEEPS-RATE"])}
MACHINES = ["q35", "microvm"]
# How often each script runs if nobody says: QEMU's verbs take many seconds here.
ROUNDS = {"qemu": 1, "toy": 3}
ROMS = ["qboot.rom", "bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin", "pvh.bin"]
ROM_FOLDERS = [Path("/usr/share/qemu"), Path("/usr/share/seabios")]


def names(kinds):
    """The VMMs that these kinds of hosts have: QEMU by its machines, and toy VMMs by their faults."""
    return [what for kind in kinds for what in ([] if kind == "vmx" else MACHINES) + ["toy", *(f"toy-{fault}" for fault in faults(kind))]]


def faults(kind):
    return SCALED_FAULTS if kind == "vmx" else FAULTS


def cells(kernel, mode, qemu, kind, wanted=(), rounds=None):
    """A toy VMM without a fault, and one for each fault that needs such a host; on hosts with SVM also QEMU with two of its machines."""
    wanted = wanted or names([kind])
    found = []
    if kind == "svm" and set(wanted) & set(MACHINES):
        files, binary = qemu_files(qemu.executable), "/usr/bin/" + Path(qemu.executable).name
        found = [cell(kernel, mode, machine, ["qemu", "--binary", binary, "--machine", machine], files, kind=kind, rounds=rounds)
                 for machine in MACHINES]
    found.append(cell(kernel, mode, "toy", ["toy"], kind=kind, rounds=rounds))
    for fault, (script, breaks) in faults(kind).items():
        found.append(cell(kernel, mode, f"toy-{fault}", ["toy", "--only", script, "--fault", fault], breaks=breaks, kind=kind, rounds=rounds))
    return [one for one in found if one.what in wanted]


def cell(kernel, mode, what, command, files=(), breaks=(), kind="svm", rounds=None):
    one = host.Cell(kernel, mode, what=what, kind=kind)
    usual = ROUNDS[command[0]]
    rounds = rounds or usual
    one.command = ["vmm", *command, "--rounds", str(rounds)]
    one.files, one.breaks = list(files), list(breaks)
    # What QEMU does in a second takes a minute here.
    one.seconds_at_most = 4 * host.RUN_SECONDS * math.ceil(rounds / usual)
    return one


def qemu_files(qemu):
    """QEMU, its libraries and its ROMs, as entries of an initramfs."""
    program = Path(shutil.which(qemu))
    said = subprocess.run(["ldd", program], text=True, capture_output=True).stdout
    libraries = [Path(word) for line in said.splitlines() for word in line.split() if word.startswith("/")]
    roms = [next((folder / name for folder in ROM_FOLDERS if (folder / name).exists()), None) for name in ROMS]
    if not libraries or None in roms:
        raise Problem("QEMU's libraries or ROMs are not all there", "apt-get install --no-install-recommends qemu-system-x86")
    files = {f"usr/bin/{program.name}": program} | {str(path).lstrip("/"): path for path in libraries}
    files |= {f"usr/share/qemu/{path.name}": path for path in roms}
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    return ([host.folder(name) for name in sorted(folders)]
            + [(name, 0o100755, path.read_bytes()) for name, path in files.items()])
