"""Fixes as patches that can be mailed: what `git format-patch` makes, judged by the kernel's own checkpatch.pl."""

import os
import re
import subprocess
import tempfile
import textwrap
from pathlib import Path

import edit
from problem import Problem

NOT_BISECTED = "cause not bisected"
TOOLS = {"git": "git", "perl": "perl"}


def signer(given):
    """Who signs a patch off: (name, address)."""
    if not given:
        given = " ".join(f"<{text}>" if key == "user.email" and text else text for key, text in (
            (key, subprocess.run(["git", "config", key], text=True, capture_output=True).stdout.strip())
            for key in ("user.name", "user.email")))
    found = re.fullmatch(r"\s*(\S[^<>]*?)\s*<([^<>\s]+@[^<>\s]+)>\s*", given)
    if not found:
        raise Problem("a patch has to say who signs it off", "git config user.name and user.email, or SIGN='Name <address>'")
    return found[1], found[2]


def message(change):
    """What stands in the kernel's log."""
    missing = [name for name, text in [("subject:", change.facts["subject"]), ("fixes:", change.facts["fixes"]),
                                       ("a line of >", change.reason), ("a line of |", change.evidence)] if not text]
    if missing:
        raise Problem(f"{change.id} can't be mailed without {', '.join(missing)}", "see lab/edit.py")
    fixes = change.facts["fixes"]
    trailer = [] if fixes == NOT_BISECTED else ["", f"Fixes: {fixes}"]
    return "\n".join([change.facts["subject"], "", *change.reason, *trailer]) + "\n"


def notes(change, series, version):
    """What a reviewer reads and the log does not keep."""
    rules, mode = " ".join(change.rules), change.modes[-1]
    lines = [f"Made against Debian's linux-source-{series} {version}."]
    if change.facts["fixes"] == NOT_BISECTED:
        lines += [f"No Fixes: {NOT_BISECTED}."]
    return "\n".join(lines + [
        "", "Seen with kvmclock, a conformance harness for the KVM clock:", "", *change.evidence, "",
        f"On a host with KVM: kvmclock run {rules}",
        f"Without:            make lab KERNELS={series} MODES={mode} RULES='{rules}'",
        f"With this patch:    make lab-fixes KERNELS={series} MUTANTS={change.id}"]) + "\n"


def evidence(release, seen):
    """What the harness saw before and after a fix, of each (clocksource, verdict before, verdict after)."""
    lines = []
    for mode, before, after in seen:
        first = before["violations"][0]
        lines += [f"Linux {release}, clocksource {mode}: {before['rule']}, {before['summary']}"]
        for what in ("expected", "seen"):
            lines += textwrap.wrap(f"{what}: {first[what]}", 78, initial_indent="  ", subsequent_indent=" " * (4 + len(what)),
                                   break_long_words=False, break_on_hyphens=False)
        lines += [f"  with this patch: {after['verdict']}, {after['summary']}"]
    return lines


def make(change, tree, newest, who, path):
    """Writes the patch, and says what the kernel's checker and git make of it; whether both take it."""
    tree.take_source()
    series, root = tree.kernel.series, tree.source
    edited = edit.apply(change, series, root)
    prefix = "PATCH" if series == newest else f"PATCH {series}"
    with tempfile.TemporaryDirectory() as place:
        # Of nobody's configuration: it could sign, sort or colour.
        environment = dict(os.environ, HOME=place, GIT_CONFIG_NOSYSTEM="1", XDG_CONFIG_HOME=place,
                           GIT_CEILING_DIRECTORIES=str(root.parent), **{
                               f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER")
                               for part, text in zip(("NAME", "EMAIL"), who)})

        def run(*command, at=place, more=(), **options):
            return subprocess.run(command, cwd=at, env=dict(environment, **dict(more)), text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, **options)

        def git(*arguments, **options):
            done = run("git", *arguments, **options)
            if done.returncode:
                raise Problem(f"{change.id} on {series}: git {arguments[0]}: {done.stdout.strip()}", "see lab/patches.py")
            return done.stdout

        git("init", "-q")
        for texts in ({name: (root / name).read_text(errors="surrogateescape") for name in edited}, edited):
            for name, text in texts.items():
                (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(place) / name).write_text(text, errors="surrogateescape")
            git("add", ".")
            git("commit", "-q", "-F", "-", input=message(change))
        git("notes", "add", "-F", "-", input=notes(change, series, tree.kernel.facts["version"]))
        path.write_text(git("format-patch", "-1", "--stdout", "--signoff", "--notes", f"--subject-prefix={prefix}"),
                        errors="surrogateescape")
        applies = run("git", "apply", "--check", path.resolve(), at=root)
        # A package has no history to look ids up in; a clone of Linux has.
        history = {"GIT_DIR": os.environ["LINUX_GIT"]} if "LINUX_GIT" in os.environ else {}
        checked = run("perl", "scripts/checkpatch.pl", "--no-tree", *([] if history else ["--ignore", "UNKNOWN_COMMIT_ID"]),
                      path.resolve(), at=root, more=history)
    return verdict(checked, applies)


def verdict(checked, applies):
    total = re.search(r"^total: (\d+) errors, (\d+) warnings.*", checked.stdout, re.M)
    is_clean = total is not None and total[1] == total[2] == "0" and not checked.returncode
    lines = [total[0].removeprefix("total: ") if total else "checkpatch.pl did not end"]
    if applies.returncode:
        lines[0] += "; does not apply: " + applies.stdout.strip()
    if not is_clean:
        lines += ["    " + line for line in checked.stdout.split("\ntotal: ")[0].splitlines() if line.strip()]
    return is_clean and not applies.returncode, "\n".join(lines)
