import struct
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bochs  # noqa: E402
import edit  # noqa: E402
import replay  # noqa: E402
from problem import Problem  # noqa: E402


def kernel(segments, entry):
    """An ELF file with these (address, bytes), and a note of Xen's that names the entry, behind one of another kind."""
    name = b"Xen\0"
    note = (struct.pack("<III", 4, 3, 6) + name + b"abc\0"
            + struct.pack("<III", 4, 8, 18) + name + struct.pack("<Q", entry))
    parts = [(4, 0, note)] + [(1, address, data) for address, data in segments]
    headers, body = b"", b""
    for kind, address, data in parts:
        offset = 64 + 56 * len(parts) + len(body)
        headers += struct.pack("<IIQQQQQQ", kind, 0, offset, address + 0xffff800000000000, address, len(data), len(data), 4)
        body += data
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<H", head, 56, len(parts))
    return bytes(head) + headers + body


class BootDisk(unittest.TestCase):
    image = kernel([(0x1000200, b"second"), (0x1000000, b"first")], 0x1000abc)

    def test_the_kernel_as_it_is_in_memory(self):
        base, memory, entry = bochs.loaded(self.image)
        self.assertEqual((base, entry), (0x1000000, 0x1000abc))
        self.assertEqual((memory[:5], memory[5:0x200], memory[0x200:]), (b"first", bytes(0x1fb), b"second"))

    def test_the_table_leads_to_every_part(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "boot.img"
            bochs.write_boot_disk(path, self.image, b"i" * 1000, "console=ttyS0")
            disk = path.read_bytes()
        self.assertEqual(len(disk) % bochs.CYLINDER, 0)
        entry, info = struct.unpack_from("<II", disk)
        self.assertEqual((entry, info), (0x1000abc, bochs.INFO))
        parts = {}
        for number in range(4):
            address, sector, sectors = struct.unpack_from("<III", disk, 8 + 12 * number)
            parts[address] = disk[sector * 512:(sector + sectors) * 512]
        self.assertEqual(parts.pop(0), b"")
        self.assertTrue(parts[bochs.INITRD].startswith(b"i" * 1000 + b"\0"))
        self.assertTrue(parts[0x1000000].startswith(b"first\0"))
        start = parts[bochs.INFO]
        module, line = struct.unpack_from("<QQ", start, 16)
        self.assertEqual(struct.unpack_from("<QQ", start, module - bochs.INFO), (bochs.INITRD, 1000))
        self.assertTrue(start[line - bochs.INFO:].startswith(b"console=ttyS0\0"))


class Hosts(unittest.TestCase):
    def change(self, hosts):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "X.edit"
            path.write_text(f"# Why.\nrules: A\nseries: 6.12\n{hosts}\nin f\n- a\n+ b\n")
            return edit.Change(path)

    def test_a_mutant_is_for_the_hosts_that_it_names_or_for_all(self):
        self.assertTrue(self.change("").fits("6.12", "vmx"))
        self.assertTrue(self.change("hosts: vmx").fits("6.12", "vmx"))
        self.assertTrue(self.change("hosts: vmx").fits("6.12"))
        self.assertFalse(self.change("hosts: vmx").fits("6.12", "svm"))
        self.assertFalse(self.change("hosts: vmx").fits("6.1", "vmx"))


class Replay(unittest.TestCase):
    def test_histories_differ_from_a_line_on_or_are_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = Path(folder) / "first", Path(folder) / "second"
            for place in (first, second):
                place.mkdir()
                (place / "same.jsonl").write_text("1\n2\n")
            self.assertEqual(replay.differences(first, second), [])
            (first / "other.jsonl").write_text("1\n2\n3\n")
            (second / "other.jsonl").write_text("1\n4\n3\n")
            (first / "shorter.jsonl").write_text("1\n2\n")
            (second / "shorter.jsonl").write_text("1\n")
            (second / "lonely.jsonl").write_text("")
            self.assertEqual(replay.differences(first, second), [
                "lonely.jsonl: only in one of the two", "other.jsonl: differs from line 2 on",
                "shorter.jsonl: differs from line 2 on"])

    def test_what_is_no_host_under_bochs_has_no_replay(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(Problem, "holds no cell.json"):
                replay.cells(Path(folder))
            (Path(folder) / "cell.json").write_text('{"host": "svm"}')
            with self.assertRaisesRegex(Problem, "no host under Bochs"):
                replay.cells(Path(folder))


if __name__ == "__main__":
    unittest.main()
