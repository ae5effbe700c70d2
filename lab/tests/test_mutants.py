import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mutants  # noqa: E402


def mutant(report, *rules):
    """A mutant with this report in its one mode, that names these rules."""
    made = object.__new__(mutants.Mutant)
    made.change = SimpleNamespace(rules=list(rules))
    made.cells = [SimpleNamespace(mode="tsc", report=report)]
    return made


class Fates(unittest.TestCase):
    sound = SimpleNamespace(breaks=lambda mode, rule: False)

    def fate(self, report):
        facts = mutant(report, "RATE-RAW").judge(self.sound)
        return facts["good"], facts["fate"]

    def report(self, verdict, **more):
        return {"verdicts": [{"rule": "RATE-RAW", "verdict": verdict}]} | more

    def test_its_rule_is_broken_or_it_is_not_caught(self):
        self.assertEqual(self.fate(self.report("broken")), (True, "caught by RATE-RAW"))
        self.assertEqual(self.fate(self.report("holds")), (False, "NOT CAUGHT by RATE-RAW"))
        self.assertEqual(self.fate(None), (False, "NOT CAUGHT by RATE-RAW"))

    def test_a_host_on_which_no_guest_runs_is_caught(self):
        self.assertEqual(self.fate(self.report("notTested", noGuestRuns="vcpu0 did not answer")),
                         (True, "caught: no guest runs: vcpu0 did not answer"))

    def test_the_table_says_why_it_was_caught_and_on_which_host(self):
        made = mutant(self.report("notTested", noGuestRuns="vcpu0 did not answer"), "RATE-RAW")
        facts = {"id": "X", "says": "What.", "history": "", "series": "6.12", "release": "6.12.1", "host": "vmx",
                 "date": "2026-01-01", "named": ["RATE-RAW"]} | made.judge(self.sound)
        self.assertEqual(mutants.markdown([facts]).splitlines()[-1],
                         "| X | What. | no guest runs | 6.12 vmx (tsc) | vcpu0 did not answer |")


if __name__ == "__main__":
    unittest.main()
