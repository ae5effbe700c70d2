import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tree  # noqa: E402


class Restore(unittest.TestCase):
    """What the next change is built of."""

    def test_no_module_keeps_the_object_of_a_change(self):
        with tempfile.TemporaryDirectory() as folder:
            made = object.__new__(tree.Tree)
            made.folder = Path(folder)
            made.common, made.pristine = made.folder / "common", made.folder / "pristine"
            for place in ("common", "pristine", "objects"):
                (made.folder / place / "kvm").mkdir(parents=True)
            source, header, user = "kvm/x86.c", "kvm/x86.h", "kvm/mmu.o"
            for name in (source, header):
                (made.pristine / name).write_text("sound")
                (made.common / name).write_text("changed")
                os.utime(made.pristine / name, (1000, 1000))
            for name in ("kvm/x86.o", user, "kvm/same.o"):
                (made.folder / "objects" / name).write_text("sound")
                (made.common / name).write_text("sound" if name == "kvm/same.o" else "of the change")
                os.utime(made.folder / "objects" / name, (2000, 2000))
                os.utime(made.common / name, (3000, 3000))
            made.restore([source, header])
            for name in (source, header):
                self.assertEqual((made.common / name).read_text(), "sound")
                self.assertEqual((made.common / name).stat().st_mtime, 1000)
            # A module of 3000 is older than these, and is linked again.
            for name in ("kvm/x86.o", user):
                self.assertEqual((made.common / name).read_text(), "sound")
                self.assertGreater((made.common / name).stat().st_mtime, 3000)
            self.assertEqual((made.common / "kvm/same.o").stat().st_mtime, 3000)

    def test_a_full_build_begins_with_sound_source_and_no_object(self):
        with tempfile.TemporaryDirectory() as folder:
            made = object.__new__(tree.Tree)
            made.common, made.pristine = Path(folder) / "common", Path(folder) / "pristine"
            made.module = made.common / "arch/x86/kvm"
            for place in (made.common, made.pristine):
                for part in ("arch/x86/kvm/svm", "virt/kvm"):
                    (place / part).mkdir(parents=True)
            (made.pristine / "arch/x86/kvm/x86.c").write_text("sound")
            (made.module / "x86.c").write_text("changed")
            for name in ("kvm.o", "kvm.ko", "svm/svm.o", "../../../virt/kvm/kvm_main.o"):
                (made.module / name).write_text("of the change")
            made.clean()
            self.assertEqual((made.module / "x86.c").read_text(), "sound")
            self.assertEqual([*made.common.rglob("*.o"), *made.common.rglob("*.ko")], [])


if __name__ == "__main__":
    unittest.main()
