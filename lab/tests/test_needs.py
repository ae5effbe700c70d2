import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import needs  # noqa: E402


class Backport(unittest.TestCase):
    VERSIONS = ["1:11.1.3+ds-1~bpo13+1", "1:10.0.2+ds-2~bpo12+1", "1:7.2+dfsg-7+deb12u18"]

    def test_it_is_the_one_of_this_release(self):
        self.assertEqual(needs.backport(self.VERSIONS, 'NAME="Debian"\nVERSION_ID="12"\n'), self.VERSIONS[1])
        self.assertEqual(needs.backport(self.VERSIONS, "VERSION_ID=13\n"), self.VERSIONS[0])

    def test_none_is_for_another_release_or_for_one_that_has_no_number(self):
        self.assertIsNone(needs.backport(self.VERSIONS, 'VERSION_ID="11"\n'))
        self.assertIsNone(needs.backport(self.VERSIONS, "ID=debian\n"))


class Static(unittest.TestCase):
    def test_an_executable_that_names_a_loader_is_not(self):
        self.assertFalse(needs.is_static(Path(sys.executable).resolve()))
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\x7fELF" + bytes(8000) + b"/lib64/ld-linux-x86-64.so.2")
            file.flush()
            self.assertTrue(needs.is_static(Path(file.name)))


if __name__ == "__main__":
    unittest.main()
