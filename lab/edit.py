"""Changes to a kernel's source as small texts: a function, what it says, what it shall say.

    # One sentence: what the change stands for.
    rules: SYSTIME-REWRITE-KEEPS-TIME
    modes: tsc hpet
    series: 6.12 7.2 7.3
    hosts: vmx

    in kvm_write_system_time
    - vcpu->arch.time = system_time;
    + vcpu->arch.time = system_time & ~1ULL;

A fix has what a patch says besides (patches.py): its subject, the reason in lines of ">", the commit that it fixes, and in
lines of "|" what the harness saw before and after.

    subject: KVM: x86: Update the clock when a guest writes IA32_TSC
    fixes: 0c899c25d754 ("KVM: x86: do not attempt TSC synchronization on guest writes")
    > Ask for a new record ...
    | broken, 6.12.117 (tsc): ...

Blank space and comments of the source don't matter. The first new line begins where the old text did, the others say how far
they are indented; without any, the old lines go. Lines of "or" part alternatives, for kernels that say it otherwise;
just one of them may apply, and just once in its function: anything else is an error, never a change that did nothing.
"""

import re

from problem import Problem

SPACE = r"(?:\s|/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*\n)"


class Edit:
    """One place: alternatives of (names of functions, old text, new text)."""

    def __init__(self):
        self.alternatives = []


class Change:
    def __init__(self, path):
        self.id = path.stem
        self.facts = {"rules": "", "modes": "tsc", "series": "", "hosts": "", "history": "", "subject": "", "fixes": ""}
        self.edits, self.says, self.reason, self.evidence = [], [], [], []
        self.parse(path)

    @property
    def rules(self):
        return self.facts["rules"].split()

    @property
    def modes(self):
        return self.facts["modes"].split()

    @property
    def hosts(self):
        return self.facts["hosts"].split()

    def fits(self, series=None, kind=None):
        """Whether it is for a series and a kind of hosts, if these are given."""
        return all(wanted is None or not self.facts[fact] or wanted in self.facts[fact].split()
                   for fact, wanted in [("series", series), ("hosts", kind)])

    def parse(self, path):
        names, continues, hunk = None, False, None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if hunk is not None and line[:1] in "-+" and line:
                hunk[1 if line[0] == "-" else 2].append(line[1:].strip() if line[0] == "-" else line[2:])
                continue
            if names is not None and line[:1] == "-":
                hunk = (names, [line[1:].strip()], [])
                if not continues:
                    self.edits.append(Edit())
                self.edits[-1].alternatives.append(hunk)
                continues = False
                continue
            hunk = None
            word, _, rest = line.partition(" ")
            if word in ("#", ">", "|"):
                {"#": self.says, ">": self.reason, "|": self.evidence}[word].append(rest)
            elif word == "in":
                names = rest.split()
            elif word == "or":
                continues = True
            elif word.rstrip(":") in self.facts and word.endswith(":"):
                self.facts[word[:-1]] = rest.strip()
            elif line.strip():
                raise Problem(f"{path}, line {number}: what is this: {line}", "see lab/edit.py")
        if not self.edits or not self.says:
            raise Problem(f"{path} changes nothing or does not say why", "see lab/edit.py")


def with_evidence(text, evidence):
    """A change's text with these lines of "|" and no others."""
    head, place, tail = ("\n" + "".join(line + "\n" for line in text.splitlines() if line[:1] != "|")).partition("\nin ")
    return "\n".join([head.strip(), "", *["| " + line for line in evidence], place + tail])


def definition(text, name):
    """Where a function or an array is defined: from its first line to the brace that ends it."""
    found = []
    for start in re.finditer(rf"^(?![ \t#/*}}]).*\b{re.escape(name)}\s*(?:\(|\[)", text, re.M):
        brace, semicolon = text.find("{", start.end()), text.find(";", start.end())
        if brace < 0 or (0 <= semicolon < brace):
            continue
        end = re.compile(r"^\};?", re.M).search(text, brace)
        if end:
            found.append((start.start(), end.end()))
    return found


def pattern(lines):
    """What the lines say, with any blank space or comments between the words."""
    tokens = re.findall(r"\w+|[^\w\s]", " ".join(lines))
    text = re.escape(tokens[0])
    for before, token in zip(tokens, tokens[1:]):
        gap = "+" if re.match(r"\w", before[-1]) and re.match(r"\w", token) else "*"
        text += SPACE + gap + re.escape(token)
    # A word at an end is a whole word, and the first one no member of something that is not named.
    return re.compile((r"(?<!->)(?<!\.)\b" if re.match(r"\w", tokens[0]) else "") + text
                      + (r"\b" if re.match(r"\w", tokens[-1]) else ""))


def replaced(text, start, end, new):
    """The text with other lines in a place of it. Without any, a whole line goes, and not only what it says."""
    line = text.rfind("\n", 0, start) + 1
    if not new and not text[line:start].strip():
        start, end = line, re.compile(r"[ \t]*\n?\n?").match(text, end).end()
    return text[:start] + "\n".join(new) + text[end:]


def apply(change, series, root, parts=("arch/x86/kvm/**/*.[ch]", "virt/kvm/**/*.[ch]")):
    """The changed text of each file, by its path below root."""
    sources = [path for part in parts for path in sorted(root.glob(part))]
    texts = {str(path.relative_to(root)): path.read_text(errors="surrogateescape") for path in sources}
    changed = {}
    for edit in change.edits:
        hits, tried = [], []
        for names, old, new in edit.alternatives:
            expression = pattern(old)
            for name in names:
                for file, text in texts.items():
                    for start, end in definition(text, name):
                        matches = list(expression.finditer(text, start, end))
                        tried.append(f"{name} of {file}: {len(matches)} times")
                        hits += [(file, match, new) for match in matches]
        if len(hits) != 1:
            names = " ".join(name for alternative in edit.alternatives for name in alternative[0])
            raise Problem(f"{change.id} applies {len(hits)} times to {series}, not once: " + ("; ".join(tried) or f"no {names}"),
                          "add an alternative for this kernel after a line of \"or\", or name the series that it is for")
        file, match, new = hits[0]
        texts[file] = replaced(texts[file], match.start(), match.end(), new)
        changed[file] = texts[file]
    return changed


def read(folder, names=()):
    """The changes of a folder, or those named."""
    known = {path.stem: path for path in sorted(folder.glob("*.edit"))}
    for name in names:
        if name not in known:
            raise Problem(f"there is no {name} in {folder}", "choose from: " + " ".join(known))
    return [Change(known[name]) for name in names or known]
