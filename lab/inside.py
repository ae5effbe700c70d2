"""`kvmclock inside` in a Linux guest: of QEMU on a host of the lab, which pauses it and moves it to another QEMU."""

import json
from pathlib import Path

import host
import vmm

SCRIPTS = Path(__file__).with_name("inside")
# The guest is stopped for so long; SCRIPTS/host does it.
PAUSE_NS = 3_000_000_000
# Guests of these clear PVCLOCK_GUEST_STOPPED at their next reading of the clock: --watch seldom sees it.
CLEARS_AT_ONCE = ["5.10", "6.1"]
# The longest that a guest of less than 400 MiB stands still for, while the last of its memory is moved.
MOVE_NS = 10_000_000_000


class Cell(host.Cell):
    """A kernel that is host and guest."""

    def __init__(self, kernel, mode, bench):
        super().__init__(kernel, mode, what="inside")
        qemu = bench.emulators["svm"].executable
        script = (SCRIPTS / "host").read_text().replace("@QEMU@", "/usr/bin/" + Path(qemu).name).encode()
        guest = host.base_archive(bench.kvmclock, SCRIPTS / "guest")
        self.files = [*vmm.qemu_files(qemu), ("bin/guest.initrd", 0o100644, guest),
                      ("bin/guest.kernel", 0o100644, kernel.image.read_bytes()), ("bin/inside", 0o100755, script)]
        self.program = "inside"
        self.seconds_at_most = 4 * host.RUN_SECONDS

    def wrong(self):
        return wrong_events([json.loads(line) for line in (self.place / "events.jsonl").read_text().splitlines()],
                            self.kernel.series in CLEARS_AT_ONCE)


def wrong_events(events, clears_at_once=False):
    """What --watch said of one pause and one migration, if it is not what the VMM did."""
    if len(events) != 2:
        return [("--watch", f"{len(events)} events of one pause and one migration: " + "; ".join(
            f"{event['event']}: {event['message']}" for event in events))]
    wrong = []
    for what, event, least, most in [("the pause", events[0], PAUSE_NS, 4 * PAUSE_NS), ("the migration", events[1], 0, MOVE_NS)]:
        # The guest's kernel may not have cleared the flag in between, or have cleared it before the next look.
        allowed = [("stopped", "yes"), ("stopped", "already"), *([("moved", "unseen")] if clears_at_once else [])]
        if (event["event"], event["told"]) not in allowed:
            wrong.append(("--watch", f"{what}: expected stopped, and told; seen {event['event']}: {event['message']}"))
        if not least <= event["stood_still_ns"] <= most:
            wrong.append(("--watch", f"{what}: expected {least} to {most} ns in which the clock stood still; "
                                     f"seen {event['stood_still_ns']} ns"))
    return wrong
