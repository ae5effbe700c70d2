#!/usr/bin/env python3
"""Breaks one line of the harness at a time and runs the unit tests: is there a test that goes red?

  Tests/mutate.py --sample 50 --seed 1            Sources/ABIChecker and Sources/Scenarios, four to one
  Tests/mutate.py --only ABIChecker --sample 10   one of the two
  Tests/mutate.py --name Rules/Rate.swift:57:1    one mutant again

A mutant deletes a statement, swaps an operator or a boolean, or adds 1 to a number. One that does not compile does not
count, and the next one is drawn. Mutants of ABIChecker run its own tests, mutants of Scenarios the live tests and those of
the model, which need /dev/kvm. Works in a copy of the tree, .build/mutate. Exit status: 0 all were noticed, 1 some were not.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / ".build" / "mutate"
CHECKER = """// swift-tools-version: 6.2
import PackageDescription
let package = Package(
  name: "mutate",
  targets: [
    .target(name: "PVClock"), .target(name: "ABIChecker", dependencies: ["PVClock"]),
    .testTarget(name: "ABICheckerTests", dependencies: ["ABIChecker", "PVClock"]),
  ], swiftLanguageModes: [.v6])
"""
# The slow suites run only if all others stayed green.
SLOW = "FuzzTests|HonestWalkTests"
SWAPS = [
    (" == ", " != "), (" != ", " == "), (" <= ", " < "), (" >= ", " > "), (" < ", " <= "), (" > ", " >= "),
    (" && ", " || "), (" || ", " && "), (" + ", " - "), (" - ", " + "), ("true", "false"), ("false", "true"),
    ("min(", "max("), ("max(", "min("), (".lower", ".upper"), (".upper", ".lower"), ("first", "last"), ("&+", "&-"),
]
STATEMENT = re.compile(r"^\s+(?!let |var |func |case |return|guard|if |for |while |switch |default|\.|\+|\?|:|//|\}|\"|import)[\w.]+.*[)\w\]]$")


def mutants(path):
    """All mutants of a file: name, line number, new line."""
    found = []
    inside = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.split("//")[0].rstrip()
        if "{ timeline" in code or re.search(r"\bfunc |\binit\(", code):
            inside = True
        # Sentences and messages are for people; only code is broken.
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', lambda m: "\0" * len(m.group()), code)
        if not inside or not bare.strip() or "\0" in bare and not re.search(r"[=<>&|]{2}|[<>]", bare):
            continue
        edits = [bare[: m.start()] + new + bare[m.end():] for old, new in SWAPS for m in re.finditer(re.escape(old), bare)]
        edits += [
            bare[: m.start()] + str(int(m.group().replace("_", "")) + 1) + bare[m.end():]
            for m in re.finditer(r"(?<![\w.$#\"])\d[\d_]*(?![\w.])", bare)
        ]
        if STATEMENT.match(bare) and bare.count("(") == bare.count(")"):
            edits.append("")
        for count, edit in enumerate(edits, 1):
            strings = iter(re.findall(r'"(?:[^"\\]|\\.)*"', code))
            found.append((number, count, re.sub("\0+", lambda _, rest=strings: next(rest, '""'), edit)))
    return found


class Tree:
    def __init__(self, module):
        self.module = module
        self.path = WORK / module
        if self.path.exists():
            for name in ("Sources", "Tests"):
                shutil.rmtree(self.path / name, ignore_errors=True)
        names = ["Sources", "Tests", "guest-images", "Bench", "Examples", "docs", "lab/mutants", "Package.swift", "README.md", "CONTRIBUTING.md"]
        for name in names:
            source, target = ROOT / name, self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        if module == "ABIChecker":
            (self.path / "Package.swift").write_text(CHECKER)
            self.quick = ["--skip", SLOW]
            self.slow = ["--filter", SLOW]
        else:
            self.quick = ["--filter", "HostModelTests|LiveTests"]
            self.slow = None

    def run(self, *command, seconds):
        try:
            done = subprocess.run(
                command, cwd=self.path, capture_output=True, text=True, timeout=seconds, start_new_session=True)
            return done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            return 1, f"no end within {seconds} s"

    def test(self):
        """Whether it compiles, and the tests that go red."""
        code, _ = self.run("swift", "build", "--build-tests", seconds=1500)
        if code != 0:
            return False, []
        for choice in [self.quick, self.slow]:
            if choice is None:
                continue
            code, text = self.run("swift", "test", "--skip-build", *choice, seconds=600)
            if code != 0:
                red = re.findall(r"✘ Test (\S+?)\(.*?\) failed", text)
                return True, sorted(set(red)) or [text.strip().splitlines()[-1][:80]]
        return True, []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=50, help="mutants that compile (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same mutants")
    parser.add_argument("--only", choices=["ABIChecker", "Scenarios"])
    parser.add_argument("--name", help="one mutant: FILE:LINE:NUMBER, as the table names it")
    parser.add_argument("--output", type=pathlib.Path, help="the table as JSON")
    options = parser.parse_args()
    modules = [options.only] if options.only else ["ABIChecker", "Scenarios"]
    pools = {}
    for module in modules:
        base = ROOT / "Sources" / module
        pool = [(module, str(p.relative_to(base)), *m) for p in sorted(base.rglob("*.swift")) for m in mutants(p)]
        random.Random(f"{options.seed} {module}").shuffle(pool)
        pools[module] = pool
    if options.name:
        pools = {m: [e for e in pool if f"{e[1]}:{e[2]}:{e[3]}" == options.name] for m, pool in pools.items()}
        options.sample = 1
    rows = []
    for module, pool in pools.items():
        share = 1.0 if len(pools) == 1 or options.name else 0.8 if module == "ABIChecker" else 0.2
        wanted = round(options.sample * share)
        if not pool or wanted == 0:
            continue
        tree = Tree(module)
        compiles, red = tree.test()
        if not compiles or red:
            sys.exit(f"without a mutant the tests of {module} are not green: {', '.join(red) or 'it does not compile'}")
        for _, name, line, number, new in pool:
            if wanted == 0:
                break
            path = tree.path / "Sources" / module / name
            text = path.read_text()
            lines = text.splitlines()
            old, lines[line - 1] = lines[line - 1], new
            path.write_text("\n".join(lines) + "\n")
            compiles, red = tree.test()
            path.write_text(text)
            if not compiles:
                continue
            wanted -= 1
            rows.append({"mutant": f"{name}:{line}:{number}", "old": old.strip(), "new": new.strip(), "red": red})
            verdict = f"noticed by {len(red)}: {red[0]}" if red else "SURVIVED"
            print(f"{name}:{line}:{number}  {old.strip()}  ->  {new.strip() or '(deleted)'}\n    {verdict}", flush=True)
    survived = [row for row in rows if not row["red"]]
    print(f"{len(rows)} mutants: {len(rows) - len(survived)} noticed, {len(survived)} survived")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
