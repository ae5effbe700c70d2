"""python3 -m unittest discover -s lab/tests"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import auto  # noqa: E402
import edit  # noqa: E402

SOURCE = """
static int kvm_gpc_check(struct gfn_to_pfn_cache *gpc, unsigned long len)
{
	struct kvm_memslots *slots = kvm_memslots(gpc->kvm);
	int n = 0;

	if (!gpc->active)
		return false;

	/* A comment; with a semicolon. */
	do {
		n++;
		trace_kvm(n);
#ifdef CONFIG_KVM_XEN
		gpc->len = len * 2; // and another
#endif
	} while (n < 3 && len);

	list_for_each_entry(gpc, &slots->list, list) {
		gpc->valid = true;
		if (len & 1)
			gpc->flags |= ~GPC_VALID_BIT;
		else
			gpc->valid = true;
	}
	if (!gpc->active)
		goto out;
	gpc->generation = (u64)-1;
out:
	return n == 3;
}
"""

CASES = """
int kvm_set_msr_common(struct kvm_vcpu *vcpu, u32 msr)
{
	switch (msr) {
	case MSR_EFER:
		vcpu->efer = 1;
		break;
	case MSR_KVM_WALL_CLOCK_NEW:
		if (!guest_pv_has(vcpu, KVM_FEATURE_CLOCKSOURCE2))
			return 1;

		vcpu->wall = data;
		break;
	case MSR_IA32_TSC_DEADLINE:
		vcpu->deadline = data;
		break;
	default:
		return 1;
	}
	return 0;
}
"""


def mutants(source=SOURCE, functions=("kvm_gpc_check",)):
    return auto.of_texts([source], functions)


class Mutants(unittest.TestCase):
    def changed(self, mutant, source=SOURCE):
        """The source with a mutant applied as the lab does it: from a file, by edit.py."""
        with tempfile.TemporaryDirectory() as folder:
            path, file = Path(folder) / f"{mutant.name}.edit", "arch/x86/kvm/x86.c"
            path.write_text(mutant.text())
            (Path(folder) / file).parent.mkdir(parents=True)
            (Path(folder) / file).write_text(source)
            change = edit.Change(path)
            self.assertEqual(change.id, mutant.name)
            return edit.apply(change, "6.12", Path(folder))[file]

    def test_each_applies_once_and_changes_one_line(self):
        for source, name in ((SOURCE, "kvm_gpc_check"), (CASES, "kvm_set_msr_common")):
            for mutant in mutants(source, [name]):
                changed = self.changed(mutant, source)
                self.assertEqual(changed.count("\n"), source.count("\n"), mutant.name)
                differ = [pair for pair in zip(source.splitlines(), changed.splitlines()) if pair[0] != pair[1]]
                self.assertEqual(len(differ), 1, f"{mutant.name}: {differ}")

    def test_same_source_gives_same_mutants_and_same_lot(self):
        first, second = mutants(), mutants()
        self.assertEqual([mutant.text() for mutant in first], [mutant.text() for mutant in second])
        names = [mutant.name for mutant in first]
        self.assertEqual(len(names), len(set(names)))
        lot = [mutant.name for mutant in auto.drawn(first, 7)]
        self.assertEqual(lot, [mutant.name for mutant in auto.drawn(list(reversed(second)), 7)])
        self.assertNotEqual(lot, [mutant.name for mutant in auto.drawn(first, 8)])
        self.assertEqual(sorted(lot), sorted(names))

    def test_names_do_not_change_with_other_lines(self):
        longer = SOURCE.replace("	int n = 0;\n", "	int n = 0;\n	int other = 5;\n\n	other = n;\n")
        self.assertLess({mutant.name for mutant in mutants()}, {mutant.name for mutant in mutants(longer)})

    def test_all_kinds_of_change(self):
        says = " | ".join(mutant.says for mutant in mutants())
        for text in (
            "deleted: n ++ ;", "deleted: gpc -> len = len * 2 ;", "deleted: return false ;", "deleted: goto out ;",
            "negated: if ( ! gpc -> active )", "negated: while ( n < 3 && len )", "negated: if ( len & 1 )",
            "(* becomes /): gpc -> len", "(&& becomes ||): while", "(< becomes <=): while", "(& becomes |): if ( len & 1 )",
            "(|= becomes &=): gpc -> flags", "(~ becomes nothing): gpc -> flags", "(== becomes !=): return n == 3",
            "(GPC_VALID_BIT becomes (GPC_VALID_BIT + 1))", "(true becomes false): gpc -> valid", "(0 becomes 1): int n",
            "(3 becomes (3 + 1)): return", "(++ becomes --): n",
        ):
            self.assertIn(text, says)

    def test_what_is_left_alone(self):
        says = " | ".join(mutant.says for mutant in mutants())
        for text in (
            "trace_kvm",  # logs only
            "deleted: return n",  # the value would be undefined
            "(* becomes /): struct", "(& becomes |): list_for_each",  # a type, an address
            "(! becomes nothing): if",  # the same as to negate it
            "(- becomes +)",  # a sign
            "deleted: struct", "deleted: int",
        ):
            self.assertNotIn(text, says)

    def test_one_of_several_equal_statements(self):
        deleted = [mutant for mutant in mutants() if mutant.says == "deleted: gpc -> valid = true ;"]
        self.assertEqual([mutant.name.rpartition("-")[2] for mutant in deleted], ["delete", "delete.2"])
        lines = [[number for number, pair in enumerate(zip(SOURCE.splitlines(), self.changed(mutant).splitlines()))
                  if pair[0] != pair[1]] for mutant in deleted]
        self.assertEqual(lines, [[19], [23]])

    def test_only_the_cases_of_the_clock(self):
        says = " | ".join(mutant.says for mutant in mutants(CASES, ["kvm_set_msr_common"]))
        self.assertIn("deleted: vcpu -> wall = data ;", says)
        self.assertIn("negated: if ( ! guest_pv_has", says)
        for other in ("efer", "deadline", "return 0"):
            self.assertNotIn(other, says)


if __name__ == "__main__":
    unittest.main()
