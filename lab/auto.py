"""Mutants that nobody chose: each statement of the clock's functions deleted, each condition negated, each operator
and constant swapped, as texts that edit.py applies.

The source is split into tokens and statements, no more: what does not compile, or compiles to the same code, is left out
later. The name of a mutant is its function, a hash of its statement and the operator: it stays when other lines change.
"""

import hashlib
import re
from dataclasses import dataclass

import edit

# Where the clock's functions are. A name that a series does not have is passed over.
FILES = ["arch/x86/kvm/x86.c", "arch/x86/kvm/msrs.c", "virt/kvm/pfncache.c"]
FUNCTIONS = """
    kvm_write_system_time kvm_write_wall_clock kvm_get_wall_clock_epoch
    kvm_guest_time_update kvm_setup_guest_pvclock kvm_get_time_scale kvm_set_guest_paused kvmclock_reset
    kvm_gen_kvmclock_update kvmclock_update_fn kvmclock_sync_fn
    get_kvmclock __get_kvmclock get_kvmclock_ns kvm_vm_ioctl_get_clock kvm_vm_ioctl_set_clock
    pvclock_update_vm_gtod_copy kvm_update_masterclock kvm_start_pvclock_update __kvm_start_pvclock_update
    kvm_end_pvclock_update kvm_make_mclock_inprogress_request kvm_hyperv_tsc_notifier
    update_pvclock_gtod pvclock_gtod_notify pvclock_gtod_update_fn pvclock_irq_work_fn
    read_tsc vgettsc do_kvmclock_base do_monotonic do_realtime get_kvmclock_base_ns
    kvm_get_time_and_clockread kvm_get_monotonic_and_clockread kvm_get_walltime_and_clockread gtod_is_based_on_tsc
    kvm_synchronize_tsc __kvm_synchronize_tsc kvm_track_tsc_matching kvm_check_tsc_unstable
    kvm_vcpu_write_tsc_offset kvm_vcpu_write_tsc_multiplier kvm_compute_l1_tsc_offset kvm_read_l1_tsc
    adjust_tsc_offset_guest adjust_tsc_offset_host compute_guest_tsc
    kvm_set_tsc_khz set_tsc_khz adjust_tsc_khz kvm_arch_tsc_get_attr kvm_arch_tsc_set_attr
    kvm_set_msr_common kvm_get_msr_common
    kvm_gpc_check kvm_gpc_is_valid_len kvm_gpc_refresh __kvm_gpc_refresh kvm_gpc_init kvm_gpc_activate
    __kvm_gpc_activate kvm_gpc_activate_hva kvm_gpc_deactivate kvm_gpc_mark_dirty_in_slot
    hva_to_pfn_retry mmu_notifier_retry_cache gfn_to_pfn_cache_invalidate_start gpc_map gpc_unmap
""".split()
# Of functions that serve many MSRs, the cases that concern the clock.
CASES = {name: re.compile(r"MSR_(?:KVM_(?:SYSTEM_TIME|WALL_CLOCK)(?:_NEW)?|IA32_TSC(?:_ADJUST)?)\b")
         for name in ("kvm_set_msr_common", "kvm_get_msr_common")}

# Statements that only log, trace or assert: no guest and no host can tell whether they are there.
SILENT = re.compile(r"(?:trace_|pr_|lockdep_|kvm_pr_|vcpu_unimpl)")

TOKEN = re.compile(
    r"(?P<blank>\s+)|(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)|(?P<string>\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')"
    r"|(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d+[uUlL]*)|(?P<word>\w+)"
    r"|(?P<sign><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)", re.M | re.S)

SWAPS = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "&&": "||", "||": "&&", "+": "-", "-": "+",
         "*": "/", "/": "*", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=",
         "++": "--", "--": "++"}
# What an operator is called in a name.
WORDS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "&&": "and", "||": "or", "+": "add",
         "-": "sub", "*": "mul", "/": "div", "<<": "shl", ">>": "shr", "&": "band", "|": "bor", "+=": "addto",
         "-=": "subfrom", "|=": "set", "&=": "mask", "++": "inc", "--": "dec", "!": "not", "~": "invert"}
NOT_UNARY = {"word", "number", "string"}
BRANCHES = {"if", "while", "for", "switch"}
KEYWORDS = BRANCHES | {"do", "else", "return", "goto", "break", "continue", "case", "default", "sizeof"}
TYPES = {"struct", "union", "enum", "const", "static", "unsigned", "signed", "void", "bool", "char", "short", "int",
         "long", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "gpa_t", "gfn_t", "kvm_pfn_t", "size_t"}


@dataclass
class Token:
    kind: str
    text: str
    start: int

    @property
    def end(self):
        return self.start + len(self.text)


@dataclass
class Statement:
    """Tokens [first, last] of a statement, or of a branch's keyword and its condition."""
    kind: str
    first: int
    last: int


@dataclass
class Mutant:
    name: str
    function: str
    says: str
    old: str
    new: str

    def text(self):
        """The mutant as a file of lab/mutants is written."""
        lines = [f"# {self.says}", "rules:", "modes: tsc hpet", "", f"in {self.function}"]
        lines += [f"- {line.strip()}" for line in self.old.splitlines() if line.strip()]
        lines += [f"+ {line}" for line in self.new.split("\n")]
        return "\n".join(lines) + "\n"


def tokens(text, start=0, end=None):
    """The tokens of C's that a compiler sees: no blank space, no comments, no directives."""
    found = []
    for match in TOKEN.finditer(text, start, len(text) if end is None else end):
        if match.lastgroup not in ("blank", "comment", "directive"):
            found.append(Token(match.lastgroup, match[0], match.start()))
    return found


class Body:
    """A function's statements."""

    def __init__(self, tokens):
        self.tokens, self.statements = tokens, []
        at = next(index for index, token in enumerate(tokens) if token.text == "{")
        self.block(at)

    def text(self, index):
        return self.tokens[index].text if index < len(self.tokens) else ""

    def closing(self, at):
        """The index of the parenthesis or brace that closes the one at an index."""
        depth = 0
        for index in range(at, len(self.tokens)):
            depth += (self.text(index) in "([{") - (self.text(index) in ")]}")
            if not depth:
                return index
        raise ValueError(f"nothing closes the {self.text(at)} at {self.tokens[at].start}")

    def block(self, at):
        end, at = self.closing(at), at + 1
        while at < end:
            at = self.statement(at)
        return end + 1

    def statement(self, at):
        """Takes the statement that begins at an index; the index after it."""
        word = self.text(at)
        if word == "{":
            return self.block(at)
        if word == ";":
            return at + 1
        if word == "else":
            return self.statement(at + 1)
        if word == "do":
            at = self.statement(at + 1)
            end = self.closing(at + 1)
            self.add("condition", at, end)
            return end + 2
        if word in ("case", "default"):
            while self.text(at) != ":":
                at += 1
            return at + 1
        if self.text(at + 1) == ":" and self.tokens[at].kind == "word":
            return at + 2
        if word in BRANCHES or "for_each" in word:
            end = self.closing(at + 1)
            self.add("condition" if word in ("if", "while") else "header", at, end)
            return self.statement(end + 1)
        end = at
        while self.text(end) != ";":
            end = self.closing(end) + 1 if self.text(end) in "([{" else end + 1
        self.add(self.kind(at), at, end)
        return end + 1

    def kind(self, at):
        word, following = self.text(at), self.tokens[at + 1]
        if word in ("return", "goto", "break", "continue"):
            return word
        if word in TYPES or following.kind == "word" or (following.text == "*" and self.tokens[at].kind == "word"):
            return "declaration"
        return "expression"

    def add(self, kind, first, last):
        if not SILENT.match(self.text(first)):
            self.statements.append(Statement(kind, first, last))


def is_binary(all_tokens, index):
    before = all_tokens[index - 1]
    return (before.kind in NOT_UNARY and before.text not in KEYWORDS) or before.text in (")", "]")


def is_cast_or_pointer(all_tokens, index):
    """Whether a * or & belongs to a type or takes an address, or a sign follows a cast."""
    before, after = all_tokens[index - 1], all_tokens[index + 1]
    return before.text in TYPES or after.text in (")", ",") or (
        before.text == ")" and all_tokens[index - 2].text in TYPES | {"*"})


def changes(body, statement):
    """What may be done to a statement: an operator's name, and (index of a token, text to put there) or None."""
    all_tokens, kind = body.tokens, statement.kind
    if kind in ("expression", "break", "continue", "goto", "return"):
        is_last = kind == "return" and statement.last + 2 >= len(all_tokens)
        # Without its last return a function's value would be undefined.
        if not (is_last and statement.last > statement.first + 1):
            yield "delete", None, ""
    if kind == "condition":
        yield "negate", None, ""
    # To swap what a condition as a whole compares is to negate it.
    is_whole_condition = kind == "condition" and not any(
        token.text in ("&&", "||") for token in all_tokens[statement.first:statement.last])
    for index in range(statement.first + 1, statement.last):
        token, before, after = all_tokens[index], all_tokens[index - 1], all_tokens[index + 1]
        if is_whole_condition and token.text in ("==", "!="):
            continue
        if token.text in SWAPS:
            is_step = token.text in ("++", "--")
            if is_step or (is_binary(all_tokens, index) and not is_cast_or_pointer(all_tokens, index)):
                # In a declaration a star before the "=" is part of the type.
                if kind != "declaration" or any(all_tokens[i].text == "=" for i in range(statement.first, index)):
                    yield WORDS[token.text], index, SWAPS[token.text]
        elif token.text in ("!", "~") and not is_binary(all_tokens, index):
            if not (token.text == "!" and is_whole_condition):
                yield WORDS[token.text], index, ""
        elif token.kind == "number":
            yield "number", index, {"0": "1", "1": "0"}.get(token.text, f"({token.text} + 1)")
        elif token.text in ("true", "false"):
            yield "truth", index, "false" if token.text == "true" else "true"
        elif re.fullmatch(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", token.text) and after.text not in ("(", "##") \
                and not token.text.startswith(("KVM_REQ_", "MSR_")) and before.text not in ("struct", "enum", "->", "."):
            yield "constant", index, f"({token.text} + 1)"
    if kind == "expression" and all_tokens[statement.first].text in ("++", "--"):
        yield WORDS[all_tokens[statement.first].text], statement.first, SWAPS[all_tokens[statement.first].text]


def case_regions(text, pattern):
    """The parts of a function's text that stand under the case labels wanted."""
    labels = list(re.finditer(r"^\t(?:case [^\n]*:|default:)[^\n]*\n", text, re.M))
    regions, group = [], []
    for label, following in zip(labels, labels[1:] + [None]):
        group.append(label[0])
        end = following.start() if following else len(text)
        if text[label.end():end].strip():
            if any(pattern.search(name) for name in group):
                regions.append((label.start(), end))
            group = []
    return regions


class Function:
    """One definition of a function, and the mutants of its statements."""

    def __init__(self, name, text, start, end, spans):
        self.name, self.text, self.spans = name, text, spans
        self.tokens = tokens(text, start, end)
        self.body = Body(self.tokens)
        part = text[start:end]
        self.regions = [(start + first, start + last) for first, last in case_regions(part, CASES[name])] \
            if name in CASES else [(start, end)]

    def mutants(self):
        for statement in self.body.statements:
            at = self.tokens[statement.first].start
            if any(first <= at < last for first, last in self.regions):
                for what, index, put in changes(self.body, statement):
                    yield self.mutant(statement, what, index, put)

    def code(self, first, last):
        return self.text[self.tokens[first].start:self.tokens[last].end]

    def mutant(self, statement, what, index, put):
        said = " ".join(token.text for token in self.tokens[statement.first:statement.last + 1])
        first, last = self.place(statement)
        begin, end = self.tokens[statement.first].start, self.tokens[statement.last].end
        if what == "delete":
            new = ";" + "\n" * self.text.count("\n", begin, end)
        elif what == "negate":
            opening = self.tokens[statement.first + 1]
            new = self.text[begin:opening.end] + "!(" + self.text[opening.end:end] + ")"
        else:
            token = self.tokens[index]
            new = self.text[begin:token.start] + put + self.text[token.end:end]
        # The number of lines stays: line numbers are compiled into warnings.
        new = self.text[self.tokens[first].start:begin] + new + self.text[end:self.tokens[last].end]
        shown = said if len(said) <= 100 else said[:99] + "…"
        detail = "" if index is None else f" ({self.tokens[index].text} becomes {put or 'nothing'})"
        says = {"delete": "deleted", "negate": "negated"}.get(what, "changed") + f"{detail}: {shown}"
        digest = hashlib.sha1(said.encode()).hexdigest()[:4]
        return Mutant(f"A-{self.name}-{digest}-{what}", self.name, says, without_comments(self.code(first, last)), new)

    def place(self, statement):
        """The statement, with as much of what stands around it as says which one of several it is."""
        first, last = statement.first, statement.last
        while self.hits(first, last) != 1:
            if last + 1 < len(self.tokens):
                last += 1
            elif first:
                first -= 1
            else:
                raise ValueError(f"{self.name}: no text says which {self.code(statement.first, statement.last)} is meant")
        return first, last

    def hits(self, first, last):
        expression = edit.pattern([without_comments(self.code(first, last))])
        return sum(1 for text, start, end in self.spans for _ in expression.finditer(text, start, end))


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def of_texts(texts, functions=FUNCTIONS):
    """All mutants of these functions; a name that comes twice gets a number."""
    found, seen = [], {}
    for name in functions:
        spans = [(text, start, end) for text in texts for start, end in edit.definition(text, name)]
        for text, start, end in spans:
            for mutant in Function(name, text, start, end, spans).mutants():
                seen[mutant.name] = count = seen.get(mutant.name, 0) + 1
                if count > 1:
                    mutant.name += f".{count}"
                found.append(mutant)
    return found


def of_sources(root):
    """All mutants of a kernel's source."""
    paths = [root / name for name in FILES]
    return of_texts([path.read_text(errors="surrogateescape") for path in paths if path.exists()])


def drawn(mutants, seed):
    """The mutants in the order of a lot, which does not depend on what else there is."""
    return sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.name}".encode()).digest())
