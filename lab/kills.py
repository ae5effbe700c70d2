"""SIGKILL of `kvmclock run --change-host` at random moments: a host of the lab is as it was each time."""

from pathlib import Path

import host

SCRIPT = Path(__file__).with_name("kills")


class Cell(host.Cell):
    """A host on which a run is killed so many times."""

    def __init__(self, kernel, mode, count, seed):
        super().__init__(kernel, mode, what="kills", seed=seed)
        script = SCRIPT.read_text().replace("@COUNT@", str(count)).replace("@SEED@", seed)
        self.count = count
        self.program = "kills"
        self.files = [(f"bin/{self.program}", 0o100755, script.encode())]
        self.seconds_at_most = (count + 2) * 60

    def wrong(self):
        return wrong((self.place / "kills").read_text(), self.count)


def wrong(text, count):
    """What was not as before after a kill, of as many as were asked for."""
    lines = text.splitlines()
    found = [("SIGKILL", line) for line in lines if "WRONG" in line]
    if len(lines) != count:
        found.append(("SIGKILL", f"{len(lines)} kills of {count}"))
    if not any(", changed: " in line for line in lines):
        found.append(("SIGKILL", "no kill came while the host was changed"))
    return found
