import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import host  # noqa: E402
import vmm  # noqa: E402


class Kernel:
    series, folder = "6.12", Path("/nowhere")


class Cells(unittest.TestCase):
    def of(self, kind, wanted=(), rounds=None):
        return {one.what: one for one in vmm.cells(Kernel(), "tsc", None, kind, wanted, rounds)}

    def test_what_is_named_is_what_runs(self):
        self.assertEqual(list(self.of("svm", ["toy-tscs-apart", "toy"])), ["toy", "toy-tscs-apart"])
        self.assertEqual(list(self.of("vmx")), vmm.names(["vmx"]))
        self.assertEqual(list(self.of("vmx", ["q35", "toy-frequency-lost"])), ["toy-frequency-lost"])

    def test_rounds_are_handed_on_and_have_their_time(self):
        usual, more = self.of("svm", ["toy"])["toy"], self.of("svm", ["toy"], rounds=10)["toy"]
        self.assertEqual(usual.command, ["vmm", "toy", "--rounds", "3"])
        self.assertEqual(more.command, ["vmm", "toy", "--rounds", "10"])
        self.assertEqual(usual.seconds_at_most, 4 * host.RUN_SECONDS)
        self.assertEqual(more.seconds_at_most, 16 * host.RUN_SECONDS)
        self.assertEqual(self.of("svm", ["toy"], rounds=1)["toy"].seconds_at_most, usual.seconds_at_most)

    def test_a_fault_names_its_script_and_its_rules(self):
        one = self.of("svm", ["toy-tscs-apart"])["toy-tscs-apart"]
        self.assertEqual(one.command, ["vmm", "toy", "--only", "snapshot", "--fault", "tscs-apart", "--rounds", "3"])
        self.assertEqual(one.breaks, ["VMM-KEEPS-STABLE"])


if __name__ == "__main__":
    unittest.main()
