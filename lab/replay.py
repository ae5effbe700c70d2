"""A host under Bochs once more: what it records has to be the same to the bit."""

import json
from pathlib import Path

import host
from kernels import Kernel
from problem import Problem


def cells(folder):
    """The cells of a boot like the one that left its results in this folder, the last one that of the folder; and what it was
    booted with, as a digest."""
    try:
        facts = json.loads((folder / "cell.json").read_text())
    except FileNotFoundError:
        raise Problem(f"{folder} holds no cell.json", "CELL= takes the name of a host of the last run, such as 6.12-vmx-tsc") from None
    if facts.get("host") != "vmx":
        raise Problem(f"{folder.name} is no host under Bochs: QEMU's are never alike to the bit", "make lab HOSTS=vmx")
    if not facts["report"]:
        raise Problem(f"{folder.name} brought no results: {'; '.join(facts['tries'])}", "make lab HOSTS=vmx")
    if not Path(facts["modules"]).exists():
        raise Problem(f"{facts['modules']} is gone", f"make lab-mutants HOSTS=vmx MUTANTS={facts['what']}")
    kernel = Kernel(facts["kernel"]["series"])
    if not kernel.is_cached() or kernel.facts != facts["kernel"]:
        raise Problem(f"the cache has another kernel than {facts['kernel']['release']}", "make lab HOSTS=vmx")
    what = "-".join(part for part in (facts["what"], "replay") if part)
    return [host.Cell(kernel, mode, facts["rules"], facts["seed"], Path(facts["modules"]), what, "vmx")
            for mode in facts["modes"]], facts["digest"]


def run(folder, again, digest, bench, say):
    """Boots the same host again and compares; whether all histories are the same."""
    host.Host(again, tries=1).run(bench)
    cell = again[-1]
    if not cell.report:
        raise Problem(f"{cell.name} never came up: {'; '.join(cell.tries)}", f"read {bench.out / cell.name}")
    if cell.digest != digest:
        say("the harness, its rules or the modules are not those of the first run: differences may come from that")
    differing = differences(folder / "histories", bench.out / cell.name / "histories")
    for text in differing:
        say(text)
    count = len(list((folder / "histories").glob("*.jsonl")))
    say(f"{cell.name}: {count - len(differing)} of {count} histories are those of {folder.name} to the bit, "
        f"in {cell.seconds:.1f} s; in {bench.out / cell.name}")
    return not differing


def differences(first, second):
    """The histories that are not alike, with the first line in which they differ."""
    found = []
    for name in sorted({path.name for place in (first, second) for path in place.glob("*.jsonl")}):
        texts = [(place / name).read_bytes().splitlines() if (place / name).exists() else None for place in (first, second)]
        if None in texts:
            found.append(f"{name}: only in one of the two")
        elif texts[0] != texts[1]:
            line = next((number for number, pair in enumerate(zip(*texts), 1) if pair[0] != pair[1]),
                        min(map(len, texts)) + 1)
            found.append(f"{name}: differs from line {line} on")
    return found
