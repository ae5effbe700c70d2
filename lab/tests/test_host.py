import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import host  # noqa: E402

# As Linux writes them: kernel/rcu/tree_stall.h and tree_exp.h.
BY_ANOTHER = b"[  278.6] rcu: \t(detected by 1, t=%d jiffies, g=%d, q=369 ncpus=2)\nlab: 278.70\n"
BY_ITSELF = b"[  278.6] rcu: \t(t=%d jiffies g=%d q=369 ncpus=2)\nlab: 278.70\n"
EXPEDITED = b"[  278.6] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-.... } %d jiffies s: %d root: 0x1/.\n"


class Looks(unittest.TestCase):
    """What the console of a host says of the host."""

    def look(self, text):
        boot = object.__new__(host.Boot)
        boot.waiting = [(SimpleNamespace(mode="tsc", seconds_at_most=300), None)]
        boot.since = boot.heard = boot.now = 0.0
        boot.length = 0
        return boot.look(text)

    def test_a_cpu_that_stays_stalled_hangs(self):
        for stall in [BY_ANOTHER, BY_ITSELF, EXPEDITED]:
            self.assertIn("a CPU of the host hangs", self.look(stall % (5290, 4989) + stall % (21046, 4989)))

    def test_two_stalls_that_ended_are_none(self):
        for stall in [BY_ANOTHER, BY_ITSELF, EXPEDITED]:
            self.assertIsNone(self.look(stall % (5290, 4989) + stall % (5300, 5120)))

    def test_a_number_of_another_kind_is_another_stall(self):
        self.assertIsNone(self.look(BY_ANOTHER % (5290, 4989) + EXPEDITED % (5290, 4989)))

    def test_a_crash_is_named(self):
        self.assertEqual(self.look(b"[ 1.0] Oops: int3: 0000 [#1]\n"), "the kernel crashed: Oops: int3: 0000 [#1]")


if __name__ == "__main__":
    unittest.main()
