"""VMMs under test in a host of the lab, where a guest's TSC can be moved and vCPUs come and go."""

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
ROMS = ["qboot.rom", "bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin", "pvh.bin"]
ROM_FOLDERS = [Path("/usr/share/qemu"), Path("/usr/share/seabios")]


def cells(kernel, mode, qemu, kind):
    """A toy VMM without a fault, and one for each fault that needs such a host; on hosts with SVM also QEMU with two of its machines."""
    if kind == "vmx":
        return toys(kernel, mode, SCALED_FAULTS, kind)
    files, binary = qemu_files(qemu.executable), "/usr/bin/" + Path(qemu.executable).name
    found = [cell(kernel, mode, machine, ["qemu", "--binary", binary, "--machine", machine, "--rounds", "1"], files) for machine in MACHINES]
    return found + toys(kernel, mode, FAULTS, kind)


def toys(kernel, mode, faults, kind):
    found = [cell(kernel, mode, "toy", ["toy"], kind=kind)]
    for fault, (script, breaks) in faults.items():
        found.append(cell(kernel, mode, f"toy-{fault}", ["toy", "--only", script, "--fault", fault], breaks=breaks, kind=kind))
    return found


def cell(kernel, mode, what, command, files=(), breaks=(), kind="svm"):
    one = host.Cell(kernel, mode, what=what, kind=kind)
    one.command, one.files, one.breaks = ["vmm", *command], list(files), list(breaks)
    # What QEMU does in a second takes a minute here.
    one.seconds_at_most = 4 * host.RUN_SECONDS
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
