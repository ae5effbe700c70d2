import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import inside  # noqa: E402

PAUSE = {"event": "stopped", "told": "yes", "stood_still_ns": 3_003_000_000, "message": "the clock stood still"}
MOVE = {"event": "stopped", "told": "already", "stood_still_ns": 0, "message": "the clock gained 178 ms on the TSC"}
UNSEEN = {"event": "moved", "told": "unseen"}
PAUSED, MOVED = (2_990_000_000, 4_110_000_000), (0, 900_000_000)


class Events(unittest.TestCase):
    def test_a_pause_and_a_migration_are_as_they_should_be(self):
        self.assertEqual(inside.wrong_events([PAUSE, MOVE], PAUSED, MOVED), [])

    def test_one_that_is_missing_or_one_too_many_is_not(self):
        for events in [[], [PAUSE], [PAUSE, PAUSE, MOVE]]:
            (what, seen), = inside.wrong_events(events, PAUSED, MOVED)
            self.assertIn(f"{len(events)} events of one pause and one migration", seen)

    def test_a_flag_that_the_guests_kernel_cleared_is_no_fault_and_another_event_is(self):
        for unseen in [PAUSE | UNSEEN, MOVE]:
            self.assertEqual(inside.wrong_events([unseen, MOVE], (0, PAUSED[1]), MOVED), [])
        for event in [{"event": "frequency"}, {"event": "gap", "told": "unseen"}]:
            (what, seen), = inside.wrong_events([PAUSE, MOVE | event], PAUSED, MOVED)
            self.assertIn(f"the migration: expected stopped or moved; seen {event['event']}", seen)

    def test_one_that_is_shorter_or_longer_than_it_was_is_not(self):
        for still in [PAUSED[0] - 1, PAUSED[1] + 1]:
            (what, seen), = inside.wrong_events([PAUSE | {"stood_still_ns": still}, MOVE], PAUSED, MOVED)
            self.assertIn(f"seen {still} ns", seen)
        (what, seen), = inside.wrong_events([PAUSE, MOVE | {"stood_still_ns": MOVED[1] + 1}], PAUSED, MOVED)
        self.assertIn("the migration: expected 0 to 900000000 ns", seen)

    def test_moments_are_read_exactly(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("41.29 44.30\n")
            file.flush()
            self.assertEqual(inside.moments(Path(file.name)), [41_290_000_000, 44_300_000_000])


if __name__ == "__main__":
    unittest.main()
