import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kills  # noqa: E402

QUIET = "1: killed after 0.2 s, status 137, unchanged"
CHANGED = "2: killed after 1.2 s, status 137, changed: hpet none 5 CLOCK_REALTIME 0 s"


class Kills(unittest.TestCase):
    def test_a_host_that_is_as_it_was_is_right(self):
        self.assertEqual(kills.wrong(f"{QUIET}\n{CHANGED}\n", 2), [])

    def test_what_is_left_is_wrong(self):
        (_, seen), = kills.wrong(f"{QUIET}\n{CHANGED}; WRONG after it: hpet none 5;\n", 2)
        self.assertIn("WRONG after it: hpet", seen)

    def test_too_few_kills_are_wrong(self):
        self.assertEqual(kills.wrong(f"{CHANGED}\n", 2), [("SIGKILL", "1 kills of 2")])

    def test_kills_before_anything_changed_show_nothing(self):
        (_, seen), = kills.wrong(f"{QUIET}\n", 1)
        self.assertIn("while the host was changed", seen)


if __name__ == "__main__":
    unittest.main()
