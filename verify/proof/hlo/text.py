"""The text of HLO, as XLA prints it, read into instructions.

Only what is printed is read: an elided constant, a tiled layout or an unknown form is refused, never guessed.
Source: openxla/xla, docs/hlo_dumps.md and hlo/parser/hlo_parser.cc.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(:[^}]*)?\})?")
HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+)(?: \(.*\) -> .*)? \{")
LINE = re.compile(r"(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
COMMENT = re.compile(r"/\*.*?\*/")
NUMBER = re.compile(r"-?(?:inf|nan|\d[\d.]*(?:e[+-]?\d+)?)|true|false")
TYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "pred": np.bool_,
         "s8": np.int8, "s16": np.int16, "s32": np.int32, "s64": np.int64,
         "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64}  # fmt: skip
TOLD = {"metadata", "backend_config", "frontend_attributes", "sharding"}  # they say nothing of what is computed


class Unread(ValueError):
    """What of a program is not understood, in words."""


@dataclass(frozen=True)
class Instruction:
    """One line of HLO.

    Args:
        shape, layout: of the result, the layout minor to major; empty for tuples, whose `dtype` is "tuple".
        argument: what stands in the parentheses.
    """

    name: str
    opcode: str
    dtype: str
    shape: tuple[int, ...]
    layout: tuple[int, ...]
    argument: str
    attributes: dict[str, str] = field(hash=False)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        return tuple(part.split(" ")[-1].lstrip("%") for part in pieces(self.argument))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """An attribute such as `dimensions={0,2}`; empty if it is not there."""
        return tuple(int(n) for n in re.findall(r"-?\d+", self.attributes.get(attribute, "")))

    def literal(self) -> np.ndarray:
        """The value of a constant.

        Raises:
            Unread: it is not printed whole, or is of a type that has no numbers here.
        """
        found = NUMBER.findall(COMMENT.sub("", self.argument))
        if self.dtype not in TYPES or len(found) != self.size:
            raise Unread(f"the constant {self.name} is not printed whole")
        dtype = TYPES[self.dtype]
        if self.dtype == "pred":
            return np.array([n in ("true", "1") for n in found], bool).reshape(self.shape)
        number = float if self.dtype.startswith("f") else int
        with np.errstate(over="ignore"):
            return np.array([number(n) for n in found]).astype(dtype).reshape(self.shape)


@dataclass(frozen=True)
class Module:
    """Computations by name, each in order, its result last by `roots`."""

    computations: dict[str, tuple[Instruction, ...]]
    roots: dict[str, str]
    entry: str

    @property
    def digest(self) -> str:
        """The sha256 of the instructions that can be reached, names replaced by numbers and remarks left out."""
        lines: list[str] = []
        order = {self.entry: 0}
        queue = [self.entry]
        for name in queue:
            number = {e.name: i for i, e in enumerate(self.computations[name])}
            lines.append(f"computation {order[name]} root {number[self.roots[name]]}")
            for e in self.computations[name]:
                leaf = e.opcode in ("parameter", "constant", "iota")
                of = e.argument if leaf else [number[o] for o in e.operands]
                told = {key: value for key, value in e.attributes.items() if key not in TOLD}
                for key in ("calls", "to_apply", "body", "condition"):
                    if key in told:
                        called = told[key].lstrip("%")
                        if called not in order:
                            order[called] = len(order)
                            queue.append(called)
                        told[key] = str(order[called])
                kind = custom(e)
                lines.append(f"{e.opcode} {e.dtype}{e.shape}{e.layout} {of} {sorted(told.items())} {kind}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def custom(e: Instruction) -> str:
    """What library a fusion is given to, such as "__ynn_fusion"; nothing if XLA compiles it itself."""
    if e.attributes.get("kind") != "kCustom":
        return ""
    found = re.search(r'"kind":\s*"(\w+)"', e.attributes.get("backend_config", ""))
    return found.group(1) if found else "an unknown library"


def read(text: str) -> Module:
    """A module from its text.

    Raises:
        Unread: the text has a form that is not known.

    >>> module = read("HloModule m\\n\\nENTRY main {\\n  ROOT x = f32[2]{0} parameter(0)\\n}\\n")
    >>> module.computations["main"][0].shape
    (2,)
    """
    computations: dict[str, list[Instruction]] = {}
    roots: dict[str, str] = {}
    entry, inside = "", None
    for line in text.splitlines()[1:]:
        line = line.strip()
        if inside is None:
            if found := HEAD.fullmatch(line):
                inside = found.group(2)
                entry = inside if found.group(1) else entry
                computations[inside] = []
        elif line == "}":
            inside = None
        elif line:
            e, root = _instruction(line)
            computations[inside].append(e)
            if root:
                roots[inside] = e.name
    if not text.startswith("HloModule") or entry not in roots or roots.keys() != computations.keys():
        raise Unread("the text is no whole module of HLO")
    return Module({name: tuple(lines) for name, lines in computations.items()}, roots, entry)


def _instruction(line: str) -> tuple[Instruction, bool]:
    found = LINE.fullmatch(COMMENT.sub("", line))
    if found is None:
        raise Unread(f"the line {line[:60]!r} is not understood")
    root, name, shape, opcode, rest = found.groups()
    end = _closing(rest)
    pairs = [part.partition("=") for part in pieces(rest[end + 1 :].lstrip(", "))]
    attributes = {key: value for key, _, value in pairs}
    if shape.startswith("("):
        return Instruction(name, opcode, "tuple", (), (), rest[:end], attributes), bool(root)
    described = SHAPE.fullmatch(shape)
    if described is None or described.group(4):
        raise Unread(f"the shape {shape} is not understood")
    sizes = tuple(int(n) for n in described.group(2).split(",") if n)
    layout = tuple(int(n) for n in (described.group(3) or "").split(",") if n)
    layout = layout if described.group(3) is not None else tuple(reversed(range(len(sizes))))
    if sorted(layout) != list(range(len(sizes))):
        raise Unread(f"the shape {shape} is not understood")
    return Instruction(name, opcode, described.group(1), sizes, layout, rest[:end], attributes), bool(root)


def _depths(text: str) -> Iterator[tuple[int, str, int]]:
    """Every character outside of quotes, with its place and how many brackets are open after it."""
    depth, quoted, escaped = 0, False, False
    for i, c in enumerate(text):
        if quoted:
            quoted, escaped = escaped or c != '"', not escaped and c == "\\"
            continue
        quoted = c == '"'
        depth += (c in "({[") - (c in ")}]")
        yield i, c, depth


def _closing(text: str) -> int:
    """Where the bracket ends that was opened before a text."""
    for i, _, depth in _depths(text):
        if depth < 0:
            return i
    raise Unread("a bracket is not closed")


def pieces(text: str) -> list[str]:
    """The parts between commas that are in no brackets.

    >>> pieces("a, b={1, 2}")
    ['a', 'b={1, 2}']
    """
    cuts = [-1, *(i for i, c, depth in _depths(text) if c == "," and not depth), len(text)]
    return [part for a, b in pairwise(cuts) if (part := text[a + 1 : b].strip())]
