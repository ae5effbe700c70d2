"""Runs two programs in turn, A B B A ..., each of which prints nanoseconds for several machines, and compares medians."""

import statistics
import subprocess
import sys

pairs, programs = int(sys.argv[1]), sys.argv[2:4]


def measure(program):
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in output.split()]


for program in programs:
    measure(program)
runs = {program: [] for program in programs}
for number in range(pairs):
    for program in programs if number % 2 == 0 else reversed(programs):
        runs[program].append(measure(program))

print(f"from opening /dev/kvm to the first clock reading in a guest, medians of {pairs} paired runs:")
for name, pick in (("first machine of a process", slice(0, 1)), ("every later machine", slice(1, None))):
    one, other = ([statistics.median(run[pick]) for run in runs[program]] for program in programs)
    ratio = statistics.median(x / y for x, y in zip(one, other))
    print(
        f"  {name}: {statistics.median(one) / 1000:.0f} us through the library, "
        f"{statistics.median(other) / 1000:.0f} us in C, ratio {ratio:.3f}"
    )
