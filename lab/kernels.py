"""Debian's kernels, by series, from its archive into the lab's cache: nothing of the system's own package state changes."""

import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

from problem import Problem

# Where Debian keeps each series; asked in this order, the newest version wins.
SUITES = ["trixie-backports", "bullseye-security", "bookworm-security", "bookworm-backports"]
SERIES = ["5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3"]
# What hosts of the lab load.
WANTED_MODULES = ["virtio_pci", "virtio_blk", "kvm-amd", "kvm-intel"]
# Folders of modules that these and what they depend on are in.
MODULE_FOLDERS = ("arch/x86/kvm/", "virt/", "drivers/virtio/", "drivers/block/virtio_blk",
                  "drivers/crypto/ccp/", "drivers/char/hw_random/rng-core")


def cache() -> Path:
    base = os.environ.get("LAB_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmclock-lab"


class Archive:
    """Debian's archive, read through apt with a state folder of the lab's own."""

    def __init__(self):
        self.folder = cache() / "apt"
        self.suites = list(SUITES)
        # Those whose source packages are listed, too.
        self.sources = []
        self.is_current = False

    def apt(self, *arguments, **options):
        environment = dict(os.environ, APT_CONFIG=str(self.folder / "apt.conf"), LC_ALL="C")
        return subprocess.run(arguments, env=environment, text=True, capture_output=True, **options)

    def mirrors(self):
        """The archive and the security archive that this system's own apt uses."""
        given = os.environ.get("LAB_MIRROR")
        if given:
            return given, os.environ.get("LAB_SECURITY_MIRROR", given.rstrip("/") + "-security")
        found = {}
        listing = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
            text=True, capture_output=True)
        for line in listing.stdout.splitlines():
            label, _, address = line.partition("|")
            found.setdefault(label, address)
        if "Debian" not in found:
            raise Problem("apt knows no archive of Debian's",
                          "run apt-get update as root, or set LAB_MIRROR to the archive's address")
        return found["Debian"], found.get("Debian-Security", found["Debian"].rstrip("/") + "-security")

    def configure(self):
        for name in ["state/lists/partial", "cache/archives/partial", "etc/preferences.d"]:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        main, security = self.mirrors()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        if not os.path.exists(keyring):
            raise Problem(f"{keyring} is missing", "apt-get install debian-archive-keyring")
        (self.folder / "etc/sources.list").write_text("".join(
            f"{kind} [signed-by={keyring}] {security if suite.endswith('-security') else main} {suite} main\n"
            for kind, suite in [("deb", suite) for suite in self.suites] + [("deb-src", suite) for suite in self.sources]))
        (self.folder / "apt.conf").write_text(
            f'Dir "{self.folder}";\nDir::State "{self.folder}/state";\nDir::State::status "/dev/null";\n'
            f'Dir::Cache "{self.folder}/cache";\nDir::Etc "{self.folder}/etc";\n'
            'Dir::Etc::parts "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n'
            'APT::Architecture "amd64";\nAPT::Architectures {"amd64";};\nAcquire::Languages "none";\n')

    def update(self):
        """Reads the package lists, once."""
        if not self.is_current:
            self.configure()
            update = self.apt("apt-get", "update", "-q")
            if update.returncode:
                raise Problem(f"Debian's package lists could not be read:\n{update.stderr.strip()}",
                              "check the network, or set LAB_MIRROR")
            self.is_current = True

    def add(self, suite, with_sources=False):
        for listed in [self.suites] + ([self.sources] if with_sources else []):
            if suite not in listed:
                listed.append(suite)
                self.is_current = False

    def names(self, prefix):
        self.update()
        return self.apt("apt-cache", "pkgnames", prefix).stdout.split()

    def versions(self, name):
        """All versions of a package, newest first."""
        self.update()
        lines = self.apt("apt-cache", "madison", name).stdout.splitlines()
        return [line.split("|")[1].strip() for line in lines]

    def fetch(self, name, version, folder) -> Path:
        if version not in self.versions(name):
            raise Problem(f"Debian's archive has no {name} of version {version} (any more)",
                          "make lab-fetch, which takes the newest of each series")
        folder.mkdir(parents=True, exist_ok=True)
        got = self.apt("apt-get", "download", f"{name}={version}", cwd=folder)
        files = list(folder.glob(f"{name}_*.deb"))
        if got.returncode or not files:
            raise Problem(f"{name} {version} could not be fetched:\n{got.stderr.strip()}",
                          "check the network and the space left in " + str(cache()))
        return files[0]

    def fetch_source(self, name, folder) -> Path:
        """The newest source of a package as its authors released it, without Debian's changes."""
        self.update()
        folder.mkdir(parents=True, exist_ok=True)
        got = self.apt("apt-get", "source", "--tar-only", name, cwd=folder)
        files = list(folder.glob(f"{name}_*.orig.tar.*"))
        if got.returncode or not files:
            raise Problem(f"the source of {name} could not be fetched:\n{got.stderr.strip()}",
                          "check the network, or set LAB_MIRROR to an archive with sources")
        return files[0]


def newest(archive, series):
    """The name and version of the newest kernel image of a series that has all its parts."""
    names = []
    pattern = re.compile(rf"linux-(?:image|binary)-({re.escape(series)}\.\S+-amd64)$")
    available = set(archive.names("linux-"))
    for name in available:
        found = pattern.match(name)
        # Signed images carry what the kernel needs in one package; newer ones are split in two.
        if found and "cloud" not in name and "-rt-" not in name and "deb11" not in name:
            release = found[1]
            if name.startswith("linux-image-") and f"linux-binary-{release}" in available:
                continue
            if name.startswith("linux-binary-") and f"linux-modules-{release}" not in available:
                continue
            names.append((version_key(release), name, release))
    if not names:
        raise Problem(f"Debian's archive has no kernel of series {series}",
                      "KERNELS= takes some of " + ", ".join(SERIES))
    _, name, release = max(names)
    return name, archive.versions(name)[0], release


def version_key(text):
    return [int(number) for number in re.findall(r"\d+", text)]


class Kernel:
    """A kernel of the cache: its image, the modules that a host needs, and what it is called."""

    def __init__(self, series):
        self.series = series
        self.folder = cache() / "kernels" / series
        self.facts = {}

    @property
    def image(self):
        return self.folder / "vmlinux"

    @property
    def release(self):
        return self.facts["release"]

    def is_cached(self):
        facts = self.folder / "kernel.json"
        if facts.exists():
            self.facts = json.loads(facts.read_text())
        return facts.exists()

    def load_order(self, wanted):
        """The files of the modules that a host loads, in order."""
        return load_order(self.folder, wanted)

    def fetch(self, archive, say):
        name, version, release = newest(archive, self.series)
        part = self.folder.with_name(self.folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        (part / "modules").mkdir(parents=True)
        packages = [name]
        if name.startswith("linux-binary-"):
            packages += [name.replace("-binary-", f"-{kind}-") for kind in ["modules", "base"]]
        for package in packages:
            say(f"{self.series}: {package} {version}")
            deb = archive.fetch(package, version, part)
            unpack(deb, part)
            deb.unlink()
        image = part / "vmlinuz"
        (part / "vmlinux").write_bytes(startable(image.read_bytes()))
        image.unlink()
        load_order(part, WANTED_MODULES)
        facts = {"series": self.series, "release": release, "version": version, "packages": packages}
        (part / "kernel.json").write_text(json.dumps(facts, indent=1) + "\n")
        shutil.rmtree(self.folder, ignore_errors=True)
        part.rename(self.folder)
        self.facts = facts


class LocalKernel(Kernel):
    """A kernel that somebody built: its bzImage, and the folder that its modules are in."""

    # For each module that a host loads, the option that makes it.
    OPTIONS = {"virtio_pci": "CONFIG_VIRTIO_PCI", "virtio_blk": "CONFIG_VIRTIO_BLK", "kvm-amd": "CONFIG_KVM_AMD",
               "kvm-intel": "CONFIG_KVM_INTEL"}

    def __init__(self, image, modules=None):
        self.bzimage, self.source = Path(image), Path(modules) if modules else None
        super().__init__("local")

    @classmethod
    def of_tree(cls, tree):
        """The image and the modules that a build of a kernel's source left in its tree."""
        return cls(Path(tree) / "arch/x86/boot/bzImage", tree)

    def is_cached(self):
        return False

    def fetch(self, archive, say):
        image = self.read(self.bzimage)
        if image[0x202:0x206] != b"HdrS":
            raise Problem(f"{self.bzimage} is no bzImage", "name arch/x86/boot/bzImage of a build, or its vmlinuz")
        start = int.from_bytes(image[0x20E:0x210], "little") + 0x200
        release = image[start:start + 128].split(b"\0")[0].split(b" ")[0].decode(errors="replace")
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "modules").mkdir(parents=True)
        (self.folder / "vmlinux").write_bytes(startable(image))
        (self.folder / "modules.builtin").write_bytes(b"")
        for path in sorted(self.source.rglob("*")) if self.source else []:
            if path.name == "modules.builtin":
                shutil.copy2(path, self.folder)
            inner = str(path.relative_to(self.source)).rpartition("kernel/")[2]
            if inner.startswith(MODULE_FOLDERS) and re.search(r"\.ko(\.xz|\.gz|\.zst)?$", path.name):
                self.take(path)
        self.facts = {"series": self.series, "release": release, "image": str(self.bzimage)}

    def load_order(self, wanted):
        try:
            return super().load_order(wanted)
        except Problem as problem:
            options = ", ".join(self.OPTIONS[module] for module in wanted)
            raise Problem(f"{self.source or self.bzimage}: {str(problem).splitlines()[0]}",
                          f"MODULES= names the folder of this kernel's modules; it needs {options} as y or m, and "
                          "CONFIG_BLK_DEV_INITRD, CONFIG_SERIAL_8250_CONSOLE and CONFIG_DEVTMPFS") from None

    def take(self, path):
        data, name = path.read_bytes(), path.name
        if name.endswith(".xz"):
            data = lzma.decompress(data)
        elif name.endswith(".gz"):
            data = zlib.decompressobj(31).decompress(data)
        elif name.endswith(".zst"):
            data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
        module = self.folder / "modules" / (name.partition(".ko")[0] + ".ko")
        module.write_bytes(data)
        if module.stat().st_size > 1 << 20:
            subprocess.run(["strip", "-g", module], check=True)

    @staticmethod
    def read(path):
        try:
            return path.read_bytes()
        except OSError as error:
            raise Problem(f"{path}: {error.strerror}", "KERNEL= names a bzImage, TREE= a kernel's tree in which it was built") from None


def unpack(deb, folder):
    """Takes the image and the few modules out of a package, and leaves the rest packed."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                path = member.name.lstrip("./")
                if os.path.basename(path).startswith("vmlinuz"):
                    with open(folder / "vmlinuz", "wb") as out:
                        shutil.copyfileobj(tar.extractfile(member), out)
                if path.endswith("/modules.builtin"):
                    (folder / "modules.builtin").write_bytes(tar.extractfile(member).read())
                inner = path.partition("/kernel/")[2]
                if member.isfile() and inner.startswith(MODULE_FOLDERS):
                    data = tar.extractfile(member).read()
                    name = os.path.basename(inner)
                    if name.endswith(".xz"):
                        data, name = lzma.decompress(data), name[:-3]
                    if name.endswith(".ko"):
                        (folder / "modules" / name).write_bytes(data)


# The head of the ELF note that says where a hypervisor enters the kernel: CONFIG_PVH.
PVH_NOTE = b"\x12\0\0\0Xen\0"


def startable(image):
    """The kernel inside a bzImage, if a hypervisor can enter it: it starts in a third of the time where each instruction
    is emulated. Else the bzImage, which unpacks itself."""
    start = (image[0x1F1] + 1) * 512 + int.from_bytes(image[0x248:0x24C], "little")
    payload = image[start:start + int.from_bytes(image[0x24C:0x250], "little")]
    kernel = b""
    if payload.startswith(b"\xfd7zXZ"):
        kernel = lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        kernel = zlib.decompressobj(31).decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # Four bytes after the stream say how long it is unpacked.
        kernel = subprocess.run(["zstd", "-dcq"], input=payload[:-4], capture_output=True, check=True).stdout
    return kernel if PVH_NOTE in kernel else image


def module_name(name):
    return name.replace("-", "_")


def load_order(kernel, wanted):
    """The module files of a kernel's folder to load, what others depend on first."""
    files = {module_name(path.stem): path for path in (kernel / "modules").glob("*.ko")}
    built_in = {module_name(Path(line).stem) for line in (kernel / "modules.builtin").read_text().split()}
    order = []

    def add(name, by):
        path = files.get(module_name(name))
        if path is None and module_name(name) in built_in:
            return
        if path is None:
            raise Problem(f"{by} needs the module {name}, which is not there",
                          "for a package's module: add its folder to MODULE_FOLDERS in lab/kernels.py")
        if path in order:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends[1].decode().split(",") if depends and depends[1] else []:
            add(other, name)
        order.append(path)

    for name in wanted:
        add(name, "the lab")
    return order
