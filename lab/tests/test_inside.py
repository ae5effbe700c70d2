import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import inside  # noqa: E402

PAUSE = {"event": "stopped", "told": "yes", "stood_still_ns": 3_003_000_000, "message": "the clock stood still"}
MOVE = {"event": "stopped", "told": "already", "stood_still_ns": 0, "message": "the clock gained 178 ms on the TSC"}
UNSEEN = {"event": "moved", "told": "unseen"}


class Events(unittest.TestCase):
    def test_a_pause_and_a_migration_are_as_they_should_be(self):
        self.assertEqual(inside.wrong_events([PAUSE, MOVE]), [])

    def test_one_that_is_missing_or_one_too_many_is_not(self):
        for events in [[], [PAUSE], [PAUSE, PAUSE, MOVE]]:
            (what, seen), = inside.wrong_events(events)
            self.assertIn(f"{len(events)} events of one pause and one migration", seen)

    def test_a_guest_that_was_not_told_is_not_but_where_its_kernel_clears_the_flag(self):
        events = [PAUSE | UNSEEN, MOVE]
        (what, seen), = inside.wrong_events(events)
        self.assertIn("the pause: expected stopped, and told; seen moved", seen)
        self.assertEqual(inside.wrong_events(events, clears_at_once=True), [])
        self.assertEqual(len(inside.wrong_events([PAUSE, MOVE | {"event": "frequency"}], clears_at_once=True)), 1)

    def test_a_pause_that_is_shorter_or_far_longer_than_it_was_is_not(self):
        for still in [2_999_999_999, 12_000_000_001]:
            (what, seen), = inside.wrong_events([PAUSE | {"stood_still_ns": still}, MOVE])
            self.assertIn(f"seen {still} ns", seen)


if __name__ == "__main__":
    unittest.main()
