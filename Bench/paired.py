"""Runs two programs in turn, A B B A …, each of which prints nanoseconds, and compares the medians."""

import statistics
import subprocess
import sys

pairs, first, second = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def measure(program):
    return int(subprocess.run([program], check=True, capture_output=True, text=True).stdout)


for program in (first, second):
    measure(program)
results = []
for number in range(pairs):
    if number % 2 == 0:
        a, b = measure(first), measure(second)
    else:
        b, a = measure(second), measure(first)
    results.append((a, b))
a = statistics.median(a for a, _ in results)
b = statistics.median(b for _, b in results)
print(f"from opening /dev/kvm to the first reading in a guest, median of {pairs} paired runs:")
print(f"  {first}: {a / 1000:.0f} us")
print(f"  {second}: {b / 1000:.0f} us")
print(f"  ratio of the medians {a / b:.3f}, median of the ratios {statistics.median(x / y for x, y in results):.3f}")
