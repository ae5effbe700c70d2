import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import host  # noqa: E402
import lot  # noqa: E402
import mutants  # noqa: E402
from problem import Problem  # noqa: E402


def cell(mode="tsc", tries=("up",), **verdicts):
    report = {"verdicts": [{"rule": rule.replace("_", "-"), "verdict": verdict} for rule, verdict in verdicts.items()]}
    return SimpleNamespace(mode=mode, tries=list(tries), report=report if verdicts else None, place=None)


def trial(*cells):
    """A mutant that ran, without its kernel."""
    drawn = object.__new__(lot.Drawn)
    drawn.cells, drawn.folder = list(cells), Path(tempfile.mkdtemp())
    return drawn


def control(**verdicts):
    usual = cell(**verdicts)
    return SimpleNamespace(cells={"tsc": [usual, usual]},
                           breaks=lambda mode, rule: any(one["rule"] == rule and one["verdict"] in ("broken", "known")
                                                         for one in usual.report["verdicts"]))


class Fates(unittest.TestCase):
    control = control(RATE_RAW="holds", PAGE="holds", OLD="known")

    def fate(self, *cells):
        facts = trial(*cells).judge(self.control)
        self.assertEqual(facts["good"], facts["outcome"] in lot.KILLED)
        return facts["outcome"], facts["detail"]

    def test_killed_only_by_what_holds_on_the_control(self):
        self.assertEqual(self.fate(cell(RATE_RAW="broken", PAGE="holds", OLD="known")), ("killed", "by 1: RATE-RAW"))
        self.assertEqual(self.fate(cell(RATE_RAW="holds", PAGE="holds", OLD="known")), ("survived", ""))

    def test_survivors_show_verdicts_that_differ(self):
        self.assertEqual(self.fate(cell(RATE_RAW="inconclusive", PAGE="holds", OLD="holds")),
                         ("survived", "RATE-RAW inconclusive (tsc), OLD holds (tsc)"))

    def test_no_guest_runs(self):
        dead = cell(RATE_RAW="notTested")
        dead.report["noGuestRuns"] = "vcpu0 did not answer"
        self.assertEqual(self.fate(dead), ("no guest runs", "vcpu0 did not answer"))

    def test_crashed(self):
        self.assertEqual(self.fate(cell(tries=["silent for 60 s", "the kernel crashed: Oops"])),
                         ("crashed", "tsc: the kernel crashed: Oops"))


    def test_a_host_that_never_loaded_kvm_says_nothing(self):
        dead = "before KVM was loaded: the kernel crashed: IO-APIC"
        self.assertEqual(self.fate(cell(tries=[dead, dead, dead])), ("not judged", f"tsc: {dead}"))
        facts = Score.fact("A-1", "not judged") | {"good": False}
        score, wrong = lot.summary([facts, Score.fact("A-2", "killed")], {})
        self.assertTrue(score.startswith("1 of 1 caught"))
        self.assertEqual(wrong, ["A-1 was not judged"])

    def test_boots_before_kvm_was_loaded_cost_no_try(self):
        one = host.Cell(SimpleNamespace(series="6.12", folder=Path("/")), "tsc")
        one.tries = [host.EARLY + "silent", "the kernel crashed", host.EARLY + "silent"]
        self.assertTrue(one.may_try(2))
        self.assertFalse(one.may_try(1))
        one.tries += [host.EARLY + "silent"]
        self.assertFalse(one.may_try(2))


class Controls(unittest.TestCase):
    def test_without_verdicts_of_a_sound_host_nothing_is_judged(self):
        one = object.__new__(mutants.Control)
        one.cells = {"tsc": (cell(tries=["silent"]), cell(RATE="holds"))}
        one.demand()
        one.cells["hpet"] = cell(tries=["silent"]), cell(tries=["silent"])
        with self.assertRaises(Problem):
            one.demand()


class Arguments(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "survivors.txt"
            path.write_text(text)
            return lot.arguments(path)

    def test_reads_names_kinds_and_reasons(self):
        self.assertEqual(self.read("# why\nA-f-1-delete equivalent\n    Nobody\n    reads it.\n\nA-g-2-negate missed\n  A guest could.\n"),
                         {"A-f-1-delete": ("equivalent", "Nobody reads it."), "A-g-2-negate": ("missed", "A guest could.")})

    def test_refuses_what_it_cannot_mean(self):
        for text in ("A-f maybe\n", "  no name\n", "A-f missed\n  x\nA-f missed\n  y\n"):
            with self.assertRaises(Problem):
                self.read(text)

    def test_the_file_in_the_tree(self):
        known = lot.arguments(Path(lot.__file__).with_name("survivors.txt"))
        for name, (_, why) in known.items():
            self.assertTrue(name.startswith("A-"), name)
            self.assertTrue(why, f"{name} has no argument")


class Score(unittest.TestCase):
    @staticmethod
    def fact(name, outcome):
        return {"id": name, "outcome": outcome, "good": outcome != "survived", "fate": outcome, "says": "x | y", "detail": "by 1: R",
                "release": "6.12", "date": "2026-01-01"}

    def test_summary_counts_and_asks_for_arguments(self):
        results = [self.fact("A-1", "killed"), self.fact("A-2", "no guest runs"), self.fact("A-3", "survived"),
                   self.fact("A-4", "survived"), self.fact("A-5", "killed")]
        score, wrong = lot.summary(results, {"A-3": ("equivalent", "why"), "A-5": ("equivalent", "why")})
        self.assertTrue(score.startswith("3 of 5 caught (60 %)"), score)
        self.assertIn("1 of them equivalent (75 % of those", score)
        self.assertEqual([line.split()[0] for line in wrong], ["A-4", "A-5"])

    def test_section_is_replaced_and_the_rest_stays(self):
        new = lot.markdown([self.fact("A-1", "killed"), self.fact("A-3", "survived")], {"A-3": ("missed", "a guest could")}, "7")
        self.assertIn("| A-3 | x \\| y | **survived** | missed: a guest could |", new)
        once = lot.replace("# Table\n\n| M01 |\n", new)
        self.assertEqual(lot.replace(once, new), once)
        self.assertTrue(once.startswith("# Table\n\n| M01 |\n\n" + lot.HEADING))
        self.assertEqual(lot.section(once), new)


if __name__ == "__main__":
    unittest.main()
