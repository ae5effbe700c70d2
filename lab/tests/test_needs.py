import sys
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


if __name__ == "__main__":
    unittest.main()
