import gzip
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bochs  # noqa: E402
import host  # noqa: E402
import kernels  # noqa: E402
import matrix  # noqa: E402
from problem import Problem  # noqa: E402


def report(*verdicts):
    return {"verdicts": [{"rule": f"R{number}", "verdict": verdict} for number, verdict in enumerate(verdicts)]}


class Bisection(unittest.TestCase):
    def test_git_bisect_is_told_good_bad_or_skip(self):
        for verdicts, status in [(["holds"], 0), (["holds", "broken"], 1), (["known"], 1), (["inconclusive"], 125),
                                 (["holds", "notTested"], 125), (["inconclusive", "broken"], 1)]:
            self.assertEqual(matrix.bisection(report(*verdicts)), status, verdicts)
        self.assertEqual(matrix.bisection(None), 125)


class Local(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.tree = Path(self.folder.name)

    def test_a_tree_that_was_not_built_is_named_with_the_remedy(self):
        with self.assertRaises(Problem) as raised:
            kernels.LocalKernel.of_tree(self.tree).fetch(None, print)
        self.assertIn("arch/x86/boot/bzImage: No such file", str(raised.exception))
        self.assertIn("TREE=", str(raised.exception))

    def test_what_is_no_bzimage_is_named(self):
        image = self.tree / "vmlinux"
        image.write_bytes(b"\x7fELF" + bytes(4096))
        with self.assertRaises(Problem) as raised:
            kernels.LocalKernel(image).fetch(None, print)
        self.assertIn("is no bzImage", str(raised.exception))

    def test_a_module_that_a_host_needs_is_named_by_its_option(self):
        kernel = kernels.LocalKernel(self.tree / "bzImage", self.tree)
        kernel.folder = self.tree
        (self.tree / "modules").mkdir()
        (self.tree / "modules.builtin").write_text("kernel/virtio_pci.ko kernel/virtio_blk.ko kernel/kvm-amd.ko")
        self.assertEqual(kernel.load_order(["virtio_pci", "virtio_blk", "kvm-amd"]), [])
        with self.assertRaisesRegex(Problem, "needs the module kvm-intel, which is not there[^$]*it needs CONFIG_KVM_INTEL as y or m"):
            kernel.load_order(["kvm-intel"])

    def test_a_disk_that_was_never_written_has_no_results(self):
        disk = self.tree / "disk"
        disk.write_bytes(bytes(1 << 16))
        kernel = kernels.LocalKernel(self.tree / "bzImage", self.tree)
        self.assertEqual(host.Cell(kernel, "tsc").take(disk, self.tree / "place"), host.NO_RESULTS)

    def test_a_kernel_without_a_pvh_entry_is_started_from_its_bzimage(self):
        def bzimage(payload):
            head = bytearray(0x400)
            head[0x1F1] = 1
            head[0x248:0x250] = (0).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
            return bytes(head) + payload

        with_entry = b"\x7fELF" + bytes(100) + kernels.PVH_NOTE + bytes(8)
        self.assertEqual(kernels.startable(bzimage(gzip.compress(with_entry))), with_entry)
        for payload in [gzip.compress(b"\x7fELF" + bytes(100)), b"\x04\x22\x4d\x18 packed by LZ4"]:
            self.assertEqual(kernels.startable(bzimage(payload)), bzimage(payload))
            with self.assertRaisesRegex(Problem, "CONFIG_PVH=y"):
                bochs.loaded(bzimage(payload))


if __name__ == "__main__":
    unittest.main()
