"""What the lab needs of this machine, all told at once."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from kernels import cache
from problem import Problem

HOST_BYTES = 1200 << 20
KERNEL_BYTES = 100 << 20
TREE_BYTES = 1600 << 20
# A package is fetched and unpacked one after the other.
SOURCE_BYTES = 200 << 20

CRASHES = "some boots will crash and be tried again"

FETCH_TOOLS = {"apt-get": "apt", "dpkg-deb": "dpkg", "zstd": "zstd"}
TOOLS = dict(FETCH_TOOLS, **{"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "strip": "binutils",
                             "setpriv": "util-linux", "objcopy": "binutils"})
SOURCE_TOOLS = {"xz": "xz-utils", "tar": "tar"}
BUILD_TOOLS = dict(SOURCE_TOOLS, gcc="gcc", make="make", ld="binutils", patch="patch")
BOCHS_TOOLS = dict(SOURCE_TOOLS, **{"g++": "g++", "gcc": "gcc", "make": "make", "as": "binutils", "ld": "binutils"})


def check(hosts=1, kernels=0, trees=0, sources=0, tools=None):
    """Raises a problem that names every package, and the memory and disk space, that are missing."""
    tools = (TOOLS if hosts else FETCH_TOOLS) | (BUILD_TOOLS if trees else SOURCE_TOOLS if sources else {}) | (tools or {})
    packages = {package for tool, package in tools.items() if shutil.which(tool) is None}
    busybox = shutil.which("busybox")
    if hosts and busybox and not is_static(Path(busybox)):
        packages.add("busybox-static")
    wrong, remedies = [], []
    if packages:
        wrong.append("packages that are not installed: " + " ".join(sorted(packages)))
        remedies.append("as root: apt-get install --no-install-recommends " + " ".join(sorted(packages)))
    memory = available_memory()
    if memory < hosts * HOST_BYTES:
        wrong.append(f"memory: {hosts} hosts at once want {hosts * HOST_BYTES >> 20} MiB, {memory >> 20} MiB are available")
        remedies.append("JOBS=1, or end something" if hosts > 1 else "end something")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    wanted = (200 << 20) + kernels * KERNEL_BYTES + trees * TREE_BYTES + sources * SOURCE_BYTES
    if free < wanted:
        wrong.append(f"disk space: {wanted >> 20} MiB are wanted in {folder}, {free >> 20} MiB are free")
        remedies.append("set LAB_CACHE to a folder with more")
    if wrong:
        raise Problem("the lab can't run here; missing:\n    " + "\n    ".join(wrong), "; ".join(remedies))


def is_static(executable):
    """Whether it runs where there are no shared libraries."""
    with executable.open("rb") as file:
        return b"/ld-linux" not in file.read(4096)


def places():
    """How many hosts to run at once: one more than the two that keep two CPUs busy, for each waits now and then."""
    return max(1, min(1 + min(2, os.cpu_count() or 1), available_memory() // HOST_BYTES))


def available_memory():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def qemu(archive, say):
    """The QEMU to use: this system's, or, where that is older than 8.1, the one of Debian's backports.

    Before 8.1 code that one CPU rewrites while another one translates it could stay stale; kernels rewrite theirs
    whenever a VM comes and goes, and one boot in three ended in "Oops: int3".
    """
    given = os.environ.get("LAB_QEMU")
    if given:
        return given
    version = subprocess.run(["qemu-system-x86_64", "--version"], text=True, capture_output=True).stdout
    numbers = tuple(int(part) for part in version.split("version ")[1].split()[0].split(".")[:2])
    if numbers >= (8, 1):
        return "qemu-system-x86_64"
    newer = cache() / "qemu" / "usr" / "bin" / "qemu-system-x86_64"
    if not newer.exists():
        name = "qemu-system-x86"
        version = backport(archive().versions(name), Path("/etc/os-release").read_text())
        if version is None:
            say(f"QEMU is older than 8.1 and no newer one is to be had: {CRASHES}")
            return "qemu-system-x86_64"
        say(f"{name} {version}, as this system's {numbers[0]}.{numbers[1]} crashes kernels now and then")
        deb = archive().fetch(name, version, cache() / "qemu.part")
        subprocess.run(["dpkg-deb", "-x", deb, cache() / "qemu.part"], check=True)
        deb.unlink()
        shutil.rmtree(cache() / "qemu", ignore_errors=True)
        (cache() / "qemu.part").rename(cache() / "qemu")
    tried = subprocess.run([newer, "--version"], text=True, capture_output=True)
    if tried.returncode == 0:
        return str(newer)
    say(f"QEMU is older than 8.1 and the newer one does not start ({tried.stderr.strip()}): {CRASHES}")
    return "qemu-system-x86_64"


def backport(versions, os_release):
    """The newest of these versions that was made for this release of Debian: another's asks for libraries that are not here."""
    release = re.search(r'^VERSION_ID="?(\d+)', os_release, re.MULTILINE)
    return next((version for version in versions if release and f"~bpo{release[1]}" in version), None)
