"""Large histories, for each kind of event: the fuzzer, which judges and reports as `kvmclock check` does, takes a second at most.

    python3 Tests/Fuzz/large.py FUZZER HISTORY... [--kinds A,B]

Each history is a recorded one, up to and with its first event of the kind, and then that event again and again up to 1 MB:
as it is; with a vCPU and an address of its own each time; and with a reading of the clock after each. CPU time counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

BYTES = 1_000_000
SECONDS = 1.0
# As the fuzzer chooses them: by the length of the input.
FORMATS = {"text": 0, "html": 6}
FORMAT_COUNT = 7
WAYS = ["alike", "distinct", "read"]


def kind(event):
    did = event["did"]
    return did if isinstance(did, str) else next(iter(did))


def shortest(files):
    """For each kind of event the shortest way to it: header, the events up to the first one of the kind, and a reading."""
    found = {}
    for file in files:
        header, *events = [json.loads(line) for line in Path(file).read_text().splitlines()]
        events = [event for event in events if "did" in event]
        reading = next((event for event in events if kind(event) in ("read", "page")), None)
        for place, event in enumerate(events):
            way = header, events[:place + 1], reading
            if kind(event) not in found or place < len(found[kind(event)][1]) - 1:
                found[kind(event)] = way
    return found


def renamed(value, number, key=None):
    """The same with another vCPU and another address."""
    if isinstance(value, dict):
        return {key: renamed(inner, number, key) for key, inner in value.items()}
    if key in ("vcpu", "owner") and isinstance(value, int):
        return number
    if key in ("address", "value") and isinstance(value, str) and value.startswith("0x"):
        return hex(0x100001 + 64 * number)
    return value


def large(header, events, reading, way):
    """The events, the last one again and again."""
    last = events[-1]
    lines, size, number, shift = [header], 0, 0, 0
    step = last["raw"][1] - last["raw"][0] + 1000

    def later(event):
        nonlocal shift
        shift += step
        tsc, raw = ([value - event[clock][0] + last[clock][1] + factor * shift for value in event[clock]]
                    for clock, factor in (("tsc", 3), ("raw", 1)))
        return dict(event, tsc=tsc, raw=raw)

    pending = list(events)
    while size < BYTES:
        if not pending:
            number += 1
            again = later(last)
            if way == "distinct":
                vcpu = number % 4000 + 100
                again["did"] = renamed(again["did"], vcpu)
                if again["by"] != "host":
                    again["by"] = f"vcpu{vcpu}"
                if number <= 4000:
                    pending.append(dict(later(last), by="host", did={"vcpuCreated": {"vcpu": vcpu}}))
            pending.append(again)
            if way == "read":
                step = max(step, reading["raw"][1] - reading["raw"][0] + 1000)
                pending.append(later(reading))
        lines.append(dict(pending.pop(0), n=len(lines)))
        size += len(json.dumps(lines[-1], separators=(",", ":"))) + 1
    lines.append({"endsAfter": len(lines) - 1})
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def judge(fuzzer, text, form):
    """CPU seconds, exit status, whether it was judged, and the complaint."""
    blanks = (FORMATS[form] - len(text)) % FORMAT_COUNT
    with tempfile.NamedTemporaryFile("w", suffix=".input") as file:
        file.write("h{" + " " * blanks + text[1:])
        file.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([fuzzer, file.name], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.returncode, "of which 1 were judged" in done.stdout, done.stderr[-300:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fuzzer")
    parser.add_argument("histories", nargs="+")
    parser.add_argument("--kinds", default="")
    arguments = parser.parse_args()
    found = shortest(arguments.histories)
    wrong, inputs, judged, worst = 0, 0, 0, 0
    names = sorted(arguments.kinds.split(",") if arguments.kinds else found)
    for name in names:
        header, events, reading = found[name]
        for way in WAYS if reading else WAYS[:2]:
            text = large(header, events, reading, way)
            for form in FORMATS:
                seconds, code, was_judged, complaint = judge(arguments.fuzzer, text, form)
                inputs, judged, worst = inputs + 1, judged + was_judged, max(worst, seconds)
                if seconds > SECONDS or code:
                    wrong += 1
                    print(f"{name}, {way}, {form}: {seconds:.2f} s, exit status {code} {complaint if code else ''}", flush=True)
                if not was_judged:
                    break
    print(f"{len(names)} kinds of events: {inputs} inputs of 1 MB, {judged} of them judged, {worst:.2f} s at most, {wrong} too slow")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
