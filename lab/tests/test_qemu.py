import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import qemu  # noqa: E402


class Rate(unittest.TestCase):
    def test_it_is_what_the_harness_measures(self):
        with tempfile.TemporaryDirectory() as folder:
            kvmclock = Path(folder) / "kvmclock"
            kvmclock.write_text('#!/bin/sh\n[ "$1" = tsc-rate ] && echo 2596146\n')
            kvmclock.chmod(0o755)
            self.assertEqual(qemu.tsc_khz(kvmclock), 2596146)


if __name__ == "__main__":
    unittest.main()
