#!/usr/bin/env python3
"""Man pages from what the command says of itself.

Usage: manual.py EXECUTABLE FOLDER

Writes kvmclock.1 and a page for each subcommand. All text comes from `EXECUTABLE --experimental-dump-help`; the argument
parser's own plugin breaks the columns of the examples and says of exit codes what is not so.
"""

import json
import pathlib
import subprocess
import sys


def roff(text):
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line.startswith(".") else line for line in text.split("\n"))


def name(argument):
    return ", ".join(
        ("--" if one["kind"] == "long" else "-") + one["name"] for one in argument["names"])


def placeholder(argument):
    return f"\\fI{roff(argument['valueName'])}\\fR"


def synopsis(argument):
    if argument["kind"] == "positional":
        text = placeholder(argument) + (" .\\|.\\|." if argument["isRepeating"] else "")
    else:
        text = f"\\fB{roff(name(argument).split(', ')[-1])}\\fR"
        if argument["kind"] == "option":
            text += " " + placeholder(argument)
    return f"[{text}]" if argument["isOptional"] else text


def option(argument):
    if argument["kind"] == "positional":
        term = placeholder(argument)
    else:
        term = ", ".join(f"\\fB{roff(one)}\\fR" for one in name(argument).split(", "))
        if argument["kind"] == "option":
            term += " " + placeholder(argument)
    said = " ".join(filter(None, [argument.get("abstract"), argument.get("discussion")]))
    if argument.get("defaultValue"):
        said += f" Default: {argument['defaultValue']}."
    return [".TP", term, roff(said)]


def sections(discussion):
    """The paragraphs, and the tables that stand under headings of capitals."""
    paragraphs, tables = [], []
    for block in discussion.split("\n\n"):
        heading, _, rest = block.partition("\n")
        if rest and heading.isupper():
            tables.append((heading, rest))
        else:
            paragraphs.append(block)
    return paragraphs, tables


def page(command, parents, version):
    title = "-".join([*parents, command["commandName"]])
    arguments = [one for one in command.get("arguments", []) if one["shouldDisplay"]]
    subcommands = [
        one for one in command.get("subcommands", [])
        if one["shouldDisplay"] and one["commandName"] != "help"]
    paragraphs, tables = sections(command.get("discussion") or "")
    lines = [
        f'.TH {title.upper()} 1 "" "kvmclock {version}" "User Commands"',
        ".SH NAME", f"{title} \\- {roff(command['abstract'].rstrip('.'))}",
        ".SH SYNOPSIS", f"\\fB{roff(' '.join([*parents, command['commandName']]))}\\fR"]
    lines += [synopsis(one) for one in arguments]
    if subcommands:
        lines.append("\\fIcommand\\fR .\\|.\\|.")
    lines += [".SH DESCRIPTION", roff(command["abstract"])]
    for paragraph in paragraphs:
        lines += [".PP", roff(paragraph)] if paragraph else []
    if subcommands:
        lines.append(".SH COMMANDS")
        for one in subcommands:
            lines += [
                ".TP", f"\\fB{title}\\-{one['commandName']}\\fR(1)", roff(one["abstract"])]
    if arguments:
        lines.append(".SH OPTIONS")
        for one in arguments:
            lines += option(one)
    for heading, rest in tables:
        lines += [f".SH {heading}", ".nf", roff(rest), ".fi"]
    if parents:
        if "EXIT STATUS" not in dict(tables):
            lines += [".SH EXIT STATUS", f"See \\fB{parents[0]}\\fR(1)."]
        lines += [".SH SEE ALSO", f"\\fB{parents[0]}\\fR(1)"]
    return title, "\n".join(lines) + "\n", subcommands


def main():
    executable, folder = sys.argv[1], pathlib.Path(sys.argv[2])

    def say(option):
        return subprocess.run(
            [executable, option], check=True, capture_output=True, text=True).stdout

    version = say("--version").strip()
    dump = json.loads(say("--experimental-dump-help"))
    if dump["serializationVersion"] != 0:
        sys.exit(f"manual.py: a dump of version {dump['serializationVersion']}, this reads 0")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [(dump["command"], [])]
    while waiting:
        command, parents = waiting.pop()
        title, text, subcommands = page(command, parents, version)
        (folder / f"{title}.1").write_text(text)
        waiting += [(one, [*parents, command["commandName"]]) for one in subcommands]


main()
