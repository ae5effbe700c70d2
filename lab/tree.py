"""The source of a kernel's KVM, with what it takes to rebuild its modules for exactly that kernel."""

import fcntl
import os
import shutil
import subprocess

import edit
from kernels import cache
from problem import Problem

# Series whose source and headers Debian keeps beside the image.
SERIES = ["5.10", "6.1", "6.12", "7.2", "7.3"]
# What is built, and lent to hosts in the place of their own.
MODULES = ["kvm.ko", "kvm-amd.ko", "kvm-intel.ko"]
# What the 7.x kernels' build tools are linked with, and the release that has it.
NEWER_LIBRARIES, NEWER_RELEASE = ["libc6", "libelf1t64", "zlib1g", "libzstd1"], "trixie"


class Tree:
    def __init__(self, kernel, archive, say):
        self.kernel, self.archive, self.say = kernel, archive, say
        self.folder = cache() / "trees" / kernel.release
        self.headers = self.folder / f"usr/src/linux-headers-{kernel.release}"
        self.common = self.folder / "usr/src" / f"linux-headers-{kernel.release.replace('-amd64', '')}-common"
        self.module = self.common / "arch/x86/kvm"
        self.pristine = self.folder / "pristine"
        self.source = cache() / "sources" / kernel.facts["version"]

    def is_prepared(self):
        return all((self.folder / "stock" / name).exists() for name in MODULES)

    def prepare(self):
        """Fetches, unpacks and builds the unmodified modules once."""
        if self.is_prepared():
            return
        if not self.pristine.exists():
            self.fetch()
        self.say(f"{self.kernel.series}: building {', '.join(MODULES)}, for the first time a full build")
        self.clean()
        self.make()
        self.keep_objects()
        self.save(self.folder / "stock")

    def fetch(self):
        series, version, release = self.kernel.series, self.kernel.facts["version"], self.kernel.release
        base = release.replace("-amd64", "")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        kbuild = f"linux-kbuild-{base}" if self.archive().versions(f"linux-kbuild-{base}") else f"linux-kbuild-{series}"
        tools = self.archive().versions(kbuild)
        # The archive keeps one version of the build tools, which may be newer than a signed image by a revision.
        wanted = {f"linux-headers-{release}": version, f"linux-headers-{base}-common": version,
                  kbuild: version if version in tools or not tools else tools[0]}
        for name, version in wanted.items():
            self.say(f"{series}: {name} {version}")
            deb = self.archive().fetch(name, version, self.folder)
            subprocess.run(["dpkg-deb", "-x", deb, self.folder], check=True)
            deb.unlink()
        self.take_source()
        self.adapt()
        self.lend_libraries()
        shutil.copytree(self.module, self.pristine / "arch/x86/kvm")
        shutil.copytree(self.common / "virt", self.pristine / "virt")

    def take_source(self):
        """KVM's source as it is shipped, and the checker that the kernel's maintainers use."""
        if self.source.exists():
            return
        name, version = f"linux-source-{self.kernel.series}", self.kernel.facts["version"]
        self.say(f"{self.kernel.series}: {name} {version}")
        part = self.source.with_name(self.source.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        deb = self.archive().fetch(name, version, part)
        wanted = ["arch/x86/kvm", "virt/kvm"] + [f"scripts/{name}" for name in (
            "checkpatch.pl", "spelling.txt", "const_structs.checkpatch")]
        script = ('dpkg-deb --fsys-tarfile "$1" | tar xO --wildcards "*/linux-source-*.tar.xz" | tar xJ -C "$2" '
                  '--strip-components=1 --wildcards --no-wildcards-match-slash ') + " ".join(f'"*/{path}"' for path in wanted)
        subprocess.run(["sh", "-c", script, "sh", deb, part], check=True)
        deb.unlink()
        part.rename(self.source)

    def adapt(self):
        """The packages expect to be under /usr/src, and a vmlinux for BTF, which takes a tool and changes nothing here."""
        shutil.copytree(self.source / "arch/x86/kvm", self.module)
        shutil.copytree(self.source / "virt", self.common / "virt", dirs_exist_ok=True)
        for name in ["Makefile", ".kernelvariables"]:
            path = self.headers / name
            path.write_text(path.read_text().replace("/usr/src/", f"{self.folder}/usr/src/"))
        (self.headers / "vmlinux").unlink(missing_ok=True)
        for link in ["scripts", "tools"]:
            for place in [self.headers, self.common]:
                target = os.readlink(place / link) if (place / link).is_symlink() else ""
                if target.startswith("/"):
                    (place / link).unlink()
                    (place / link).symlink_to(str(self.folder) + target)
        # 5.10 names its own folder relative to the kernel's.
        makefile = self.module / "Makefile"
        makefile.write_text(makefile.read_text().replace("-Iarch/x86/kvm", f"-I{self.module}"))
        for name in ["Kbuild", "Makefile"]:
            kvm = self.module / name
            if kvm.exists():
                kvm.write_text(kvm.read_text().replace("$(srctree)/virt/kvm", f"{self.common}/virt/kvm"))

    def lend_libraries(self):
        """Has the build tools run with the newer libc that they are made for, where this system's is older."""
        tools = [path for path in (self.folder / "usr/lib").glob("linux-kbuild-*/**/*")
                 if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
        old = [tool for tool in tools if b"not found" in subprocess.run(
            ["ldd", tool], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout]
        if not old:
            return
        libraries = cache() / "libraries"
        if not libraries.exists():
            self.archive().add(NEWER_RELEASE)
            part = cache() / "libraries.part"
            for name in NEWER_LIBRARIES:
                self.say(f"{self.kernel.series}: {name} of {NEWER_RELEASE}, for the kernel's build tools")
                deb = self.archive().fetch(name, self.archive().versions(name)[0], part)
                subprocess.run(["dpkg-deb", "-x", deb, part], check=True)
                deb.unlink()
            part.rename(libraries)
        place = libraries / "usr/lib/x86_64-linux-gnu"
        for tool in old:
            real = tool.with_name(tool.name + ".elf")
            tool.rename(real)
            tool.write_text(f'#!/bin/sh\nexec {place}/ld-linux-x86-64.so.2 --library-path {place} {real} "$@"\n')
            tool.chmod(0o755)

    def make(self):
        command = ["make", "-s", f"-j{os.cpu_count()}", "-C", self.headers, f"M={self.module}",
                   "CONFIG_WERROR=", "CONFIG_KVM_WERROR=", "CROSS_COMPILE=", "KCFLAGS=-g0",
                   # An option that compilers before GCC 14 don't know.
                   "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", f"CC={os.environ.get('LAB_CC', 'gcc')}",
                   "modules"]
        done = subprocess.run(command, text=True, capture_output=True, start_new_session=False)
        (self.folder / "build.log").write_text(done.stdout + done.stderr)
        # A module whose symbols lack their versions is built, but does not load.
        if done.returncode or "version generation failed" in done.stderr:
            errors = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line or "failed" in line][:6]
            raise Problem(f"{self.kernel.series}: kvm does not build:\n    " + "\n    ".join(errors),
                          f"read {self.folder}/build.log")

    def clean(self):
        """The sound source, and nothing that was built before: an older lab left a tree whose objects are of its last change."""
        shutil.copytree(self.pristine, self.common, dirs_exist_ok=True)
        for folder in (self.module, self.common / "virt"):
            for path in [*folder.rglob("*.o"), *folder.rglob("*.ko")]:
                path.unlink()

    def keep_objects(self):
        """An object that an edit has changed comes back from here, and is not compiled again."""
        shutil.rmtree(self.folder / "objects", ignore_errors=True)
        for path in self.common.rglob("*.o"):
            if path.is_relative_to(self.module) or path.is_relative_to(self.common / "virt"):
                kept = self.folder / "objects" / path.relative_to(self.common)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, kept)

    def save(self, target):
        target.mkdir(parents=True, exist_ok=True)
        for name in MODULES:
            subprocess.run(["strip", "-g", "-o", target / name, self.module / name], check=True)
        return target

    def build(self, change, target):
        """Applies a change to the sound source, rebuilds what it touches, and puts the sound source back."""
        edited = edit.apply(change, self.kernel.series, self.pristine)
        # Another lab with the same cache waits.
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                for name, text in edited.items():
                    (self.common / name).write_text(text)
                self.make()
                return self.save(target)
            finally:
                self.restore(edited)

    def restore(self, edited):
        """Puts the sound source back, and every object that was compiled of the other one: with a new time, so that the modules
        are linked of it again."""
        for name in edited:
            shutil.copy2(self.pristine / name, self.common / name)
        kept = self.folder / "objects"
        for path in kept.rglob("*.o"):
            built = self.common / path.relative_to(kept)
            if not built.exists() or built.read_bytes() != path.read_bytes():
                shutil.copyfile(path, built)
