import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import edit  # noqa: E402
import patches  # noqa: E402
from problem import Problem  # noqa: E402

HEAD = """# One sentence.
subject: KVM: x86: Do it
fixes: 0c899c25d754 ("KVM: x86: do not attempt TSC synchronization on guest writes")
rules: A-RULE
series: 6.12

> Do it.
>
> A guest sees it.

| Linux 6.12, clocksource tsc: A-RULE, 1 violation
|   seen: 1 ns
"""
PLACE = """
in f
- one();
+ two();
+ 	three();
"""
SOURCE = """static int f(void)
{
	int n;

	one();

	return 0;
}
"""
FIXES = Path(__file__).resolve().parent.parent / "fixes"


def change(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "do-it.edit"
        path.write_text(text)
        return edit.Change(path)


def changed(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "virt/kvm/f.c"
        path.parent.mkdir(parents=True)
        path.write_text(SOURCE)
        return edit.apply(change(text), "6.12", Path(folder))["virt/kvm/f.c"]


class Header(unittest.TestCase):
    def test_reason_and_evidence_keep_their_lines(self):
        one = change(HEAD + PLACE)
        self.assertEqual(one.reason, ["Do it.", "", "A guest sees it."])
        self.assertEqual(one.evidence, ["Linux 6.12, clocksource tsc: A-RULE, 1 violation", "  seen: 1 ns"])
        self.assertEqual(one.facts["subject"], "KVM: x86: Do it")

    def test_new_evidence_takes_the_place_of_the_old(self):
        text = edit.with_evidence(HEAD + PLACE, ["new", "  lines"])
        self.assertEqual(text, HEAD[:HEAD.index("|")] + "| new\n|   lines\n" + PLACE)
        self.assertEqual(edit.with_evidence(text, ["new", "  lines"]), text)

    def test_new_lines_stand_where_the_old_ones_did(self):
        self.assertEqual(changed(HEAD + PLACE), SOURCE.replace("one();", "two();\n\tthree();"))

    def test_without_new_lines_the_old_one_goes_with_its_blank_line(self):
        self.assertEqual(changed(HEAD + "\nin f\n- one();\n"), SOURCE.replace("\tone();\n\n", ""))


class Text(unittest.TestCase):
    def test_message(self):
        self.assertEqual(patches.message(change(HEAD + PLACE)), (
            "KVM: x86: Do it\n\nDo it.\n\nA guest sees it.\n\n"
            'Fixes: 0c899c25d754 ("KVM: x86: do not attempt TSC synchronization on guest writes")\n'))

    def test_a_cause_that_is_not_bisected_is_said_and_not_claimed(self):
        one = change(HEAD.replace(HEAD.splitlines()[2], "fixes: cause not bisected") + PLACE)
        self.assertNotIn("Fixes", patches.message(one))
        self.assertIn("No Fixes: cause not bisected.", patches.notes(one, "6.12", "6.12.1-1"))

    def test_notes_have_evidence_and_commands(self):
        notes = patches.notes(change(HEAD + PLACE), "6.12", "6.12.1-1")
        for text in ["linux-source-6.12 6.12.1-1", "  seen: 1 ns", "kvmclock run A-RULE",
                     "make lab KERNELS=6.12 MODES=tsc RULES='A-RULE'", "make lab-fixes KERNELS=6.12 MUTANTS=do-it"]:
            self.assertIn(text, notes)

    def test_what_is_missing_is_named(self):
        with self.assertRaisesRegex(Problem, "without subject:, fixes:, a line of >, a line of |"):
            patches.message(change("# One sentence.\n" + PLACE))

    def test_evidence(self):
        before = {"rule": "A-RULE", "summary": "2 violations", "violations": [{"expected": "x " * 60, "seen": "1 ns"}]}
        lines = patches.evidence("6.12", [("hpet", before, {"verdict": "holds", "summary": "4 records"})])
        self.assertEqual(lines[0], "Linux 6.12, clocksource hpet: A-RULE, 2 violations")
        self.assertEqual(lines[-2:], ["  seen: 1 ns", "  with this patch: holds, 4 records"])
        self.assertLessEqual(max(map(len, lines)), 78)

    def test_signer(self):
        self.assertEqual(patches.signer("A. Person <a@example.org>"), ("A. Person", "a@example.org"))
        with self.assertRaises(Problem):
            patches.signer("A. Person")


class Verdicts(unittest.TestCase):
    def verdict(self, total, code=0, applies=0):
        checked = SimpleNamespace(stdout=f"WARNING: long\n\ntotal: {total}, 7 lines checked\nNOTE: more\n", returncode=code)
        return patches.verdict(checked, SimpleNamespace(returncode=applies, stdout="no such line"))

    def test_accepted(self):
        self.assertEqual(self.verdict("0 errors, 0 warnings"), (True, "0 errors, 0 warnings, 7 lines checked"))

    def test_not_accepted(self):
        self.assertEqual(self.verdict("0 errors, 1 warnings", 1), (False, "0 errors, 1 warnings, 7 lines checked\n    WARNING: long"))
        self.assertEqual(self.verdict("0 errors, 0 warnings", applies=1)[0], False)
        self.assertEqual(patches.verdict(SimpleNamespace(stdout="", returncode=2), SimpleNamespace(returncode=0, stdout=""))[0], False)


class Fixes(unittest.TestCase):
    def test_each_can_be_mailed(self):
        for one in edit.read(FIXES):
            with self.subTest(one.id):
                self.assertRegex(patches.message(one), r"\AKVM: x86: [A-Z]")
                self.assertRegex(one.facts["fixes"], rf'\A([0-9a-f]{{12,40}} \(".+"\)|{patches.NOT_BISECTED})\Z')
                self.assertTrue(one.rules)


if __name__ == "__main__":
    unittest.main()
