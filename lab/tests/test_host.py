import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import host  # noqa: E402

STALL = b"[  278.6] rcu: \t(detected by 1, t=%d jiffies, g=%d, q=369 ncpus=2)\nlab: 278.70\n"


class Looks(unittest.TestCase):
    """What the console of a host says of the host."""

    def look(self, text):
        boot = object.__new__(host.Boot)
        boot.waiting = [(SimpleNamespace(mode="tsc", seconds_at_most=300), None)]
        boot.since = boot.heard = boot.now = 0.0
        boot.length = 0
        return boot.look(text)

    def test_a_cpu_that_stays_stalled_hangs(self):
        self.assertIn("a CPU of the host hangs", self.look(STALL % (5290, 4989) + STALL % (21046, 4989)))

    def test_two_stalls_that_ended_are_none(self):
        self.assertIsNone(self.look(STALL % (5290, 4989) + STALL % (5300, 5120)))

    def test_a_crash_is_named(self):
        self.assertEqual(self.look(b"[ 1.0] Oops: int3: 0000 [#1]\n"), "the kernel crashed: Oops: int3: 0000 [#1]")


if __name__ == "__main__":
    unittest.main()
