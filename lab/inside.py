"""`kvmclock inside` in a Linux guest: of QEMU on a host of the lab, which pauses it and moves it to another QEMU."""

import json
from pathlib import Path

import host
import vmm

SCRIPTS = Path(__file__).with_name("inside")
# What --watch may say: the guest's kernel may clear PVCLOCK_GUEST_STOPPED before the next look, or not before the next event.
SAID = [("stopped", "yes"), ("stopped", "already"), ("moved", "unseen")]
# /proc/uptime counts hundredths of a second.
GRAIN_NS = 10_000_000


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
        events = [json.loads(line) for line in (self.place / "events.jsonl").read_text().splitlines()]
        asked, paused, let_go, seen = moments(self.place / "pause")
        # It stood still at least from when QEMU said so until it was let go, and no longer than until the event was seen.
        pause = (let_go - paused - GRAIN_NS, seen - asked + GRAIN_NS)
        begun, seen = moments(self.place / "migration")
        return wrong_events(events, pause, (0, seen - begun + GRAIN_NS))


def moments(path):
    """Moments that SCRIPTS/host noted, in nanoseconds."""
    return [round(float(word) * 100) * GRAIN_NS for word in path.read_text().split()]


def wrong_events(events, pause, migration):
    """What --watch said of one pause and one migration, if it is not what the VMM did: each may be so many nanoseconds long."""
    if len(events) != 2:
        return [("--watch", f"{len(events)} events of one pause and one migration: " + "; ".join(
            f"{event['event']}: {event['message']}" for event in events))]
    wrong = []
    for what, event, (least, most) in [("the pause", events[0], pause), ("the migration", events[1], migration)]:
        if (event["event"], event["told"]) not in SAID:
            wrong.append(("--watch", f"{what}: expected stopped or moved; seen {event['event']}: {event['message']}"))
        if not least <= event["stood_still_ns"] <= most:
            wrong.append(("--watch", f"{what}: expected {least} to {most} ns in which the clock stood still; "
                                     f"seen {event['stood_still_ns']} ns"))
    return wrong
