"""Whether a compiler kept the operations of a model: its optimised HLO is read and compared with what went in.

Level `float32` speaks of the program's operations, each rounded once, sums in any order. XLA may replace operations:
x·a·b by x·(a·b), quotients of quotients, exp·exp by exp of a sum. Here the model is compiled, and both texts, before
and after the optimisation, are turned into expressions of their inputs. Equal expressions are the same operations; they
may differ in the order within one sum, of two factors, in what is exact, and in what is computed once instead of twice.
A quotient by a constant may be a product with its rounded reciprocal: quotients are charged more than that. What is
not understood, or computed twice with a rounding of its own, is not called kept.
Source: openxla/xla, algebraic_simplifier.cc.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.errors import JaxRuntimeError

from axiom_jax.verification.proof.float32 import obstacle
from axiom_jax.verification.proof.hlo.meaning import MOVED, Meaning
from axiom_jax.verification.proof.hlo.symbols import Symbols
from axiom_jax.verification.proof.hlo.text import Instruction, Module, Unread, read
from axiom_jax.verification.search.margins import Subject

KIND = "optimised-hlo"
LOOKED = 1000  # elements of a value, to name an operation that was replaced
DEFAULT: Mapping[str, str] = {}
KEEPING: Mapping[str, str] = {"xla_disable_hlo_passes": "algsimp"}  # the pass that merges operations is left out


@dataclass(frozen=True)
class Compilation:
    """What one compilation of a model did to its operations.

    Args:
        kept: whether all of them are carried out as the program says.
        reason: what was replaced, or why that is not known; empty if all was kept.
        digest: sha256 of the optimised HLO, without names and remarks; empty where there is none.
        options: of the compiler. jax, jaxlib: versions. device: what was compiled for.
    """

    kept: bool
    reason: str
    digest: str
    options: tuple[tuple[str, str], ...]
    jax: str
    jaxlib: str
    device: str

    @property
    def environment(self) -> str:
        return f"jax {self.jax}, jaxlib {self.jaxlib}, {self.device}"

    @property
    def text(self) -> str:
        """The options in words."""
        return ", ".join(f"{key}={value}" for key, value in self.options) or "default options"

    @property
    def kind(self) -> str:
        """What `model.source` calls the digest."""
        return f"{KIND} ({self.text}; {self.environment})"

    @property
    def told(self) -> str:
        """What a certificate says of it, for people."""
        return f"every operation is kept when compiled with {self.text} ({self.environment}), for one row of inputs"


def _environment() -> tuple[str, str, str]:
    """Versions of jax and jaxlib, and what is compiled for."""
    return jax.__version__, metadata.version("jaxlib"), f"cpu {platform.machine()}"


_made: WeakKeyDictionary[Subject, dict[Any, Compilation]] = WeakKeyDictionary()


def compilation(subject: Subject, options: Mapping[str, str] = DEFAULT) -> Compilation:
    """Compile a model for the CPU, one row of it as it is verified, and compare what came out; once for each options.

    >>> subject = Subject(lambda _, x: x * 3 + 1, (), (jax.ShapeDtypeStruct((2,), np.float32),))
    >>> compilation(subject).kept
    True
    >>> subject = Subject(lambda _, x: x / np.float32(3) / np.float32(5), (), subject.specs)
    >>> found = compilation(subject)
    >>> found.kept, found.reason.split(" (")[0]
    (False, 'replaced: the compiled multiply')
    >>> compilation(subject, KEEPING).kept
    True
    """
    made = _made.setdefault(subject, {})
    key = tuple(sorted(options.items()))
    if key not in made:
        made[key] = _compiled(subject, key)
    return made[key]


def _compiled(subject: Subject, options: tuple[tuple[str, str], ...]) -> Compilation:
    told = lambda kept, reason, digest="": Compilation(kept, reason, digest, options, *_environment())

    def model(params: Any, *inputs: Any) -> Any:
        return subject.apply(params, *inputs)

    try:
        with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
            lowered = jax.jit(model).lower(subject.params, *subject.specs)
            before = lowered.as_text(dialect="hlo")
            after = lowered.compile(compiler_options=dict(options) or None).as_text()
    except (TypeError, ValueError, NotImplementedError, RuntimeError, JaxRuntimeError) as error:
        return told(False, f"it cannot be compiled: {type(error).__name__}")
    if not before or not after:
        return told(False, "the compiler shows no HLO")
    try:
        program, optimised = read(before), read(after)
    except Unread as unread:
        return told(False, f"not compared: {unread}")
    reason = difference(program, optimised)
    return told(reason is None, reason or "", optimised.digest)


def hindrance(subject: Subject) -> str | None:
    """Why level float32 is not claimed of a model; None where it can be tried, as XLA keeps its operations by default.

    >>> specs = (jax.ShapeDtypeStruct((2,), np.float32),)
    >>> hindrance(Subject(lambda _, x: jax.nn.relu(x * 3 + 1), (), specs))
    >>> hindrance(Subject(lambda _, x: jax.nn.softmax(x), (), specs))
    'softmax is written by differences'
    """
    if (why := obstacle(subject)) is not None:
        return why
    found = compilation(subject)
    return None if found.kept else f"the compiler is not seen to keep the operations: {found.reason}"


def recompiled(recorded: Mapping[str, str], subject: Subject) -> str | None:
    """What the hash of optimised HLO in a certificate says of a model here, in words; None if it names none.

    >>> recompiled({"onnx": "ab" * 32}, Subject(abs, (), ())) is None
    True
    """
    kinds = [kind for kind in recorded if kind.split(" ")[0] == KIND]
    if not kinds:
        return None
    for options in (DEFAULT, KEEPING):
        kind = Compilation(False, "", "", tuple(sorted(options.items())), *_environment()).kind
        if kind not in kinds:
            continue
        found = compilation(subject, options)
        if not found.kept:
            return f"Compiled here with {found.text}, its operations are not known to be kept: {found.reason}."
        same = "is the one that the certificate names" if found.digest == recorded[kind] else (
            "is another one than the certificate names"
        )  # fmt: skip
        return f"Compiled here with {found.text}, every operation is kept; its optimised HLO {same}."
    return f"The certificate names {kinds[0]}: compiled by another version, not compared."


@np.errstate(over="ignore")
def difference(program: Module, optimised: Module) -> str | None:
    """What an optimised module computes otherwise than the program, in words; None where all operations were kept."""
    before, turned, after = Meaning(program), Meaning(program, turned=True), Meaning(optimised)
    try:
        expected, found = before.outputs(), after.outputs()
        if not _same(expected, found) and not _same(turned.outputs(), found):
            return f"replaced: {_first([*before.steps, *turned.steps], after.steps)}"
    except Unread as unread:
        return f"not compared: {unread}"
    if after.twice().size:
        return "what is rounded in a free order is computed twice, and may be two numbers"
    return None


def _same(expected: list[Symbols], found: list[Symbols]) -> bool:
    pairs = zip(expected, found, strict=False)
    return len(expected) == len(found) and all(np.array_equal(x.ids, y.ids) for x, y in pairs)  # shapes too


def _first(before: list[tuple[Instruction, Symbols]], after: list[tuple[Instruction, Symbols]]) -> str:
    """The first compiled operation that is none of the program's."""
    every = np.sort(np.concatenate([np.zeros(1, np.uint64), *(x.ids.ravel() for _, x in before)]))

    def new(x: Symbols) -> bool:
        some = x.ids.ravel()[:: x.ids.size // LOOKED + 1]
        return bool(np.any(every[np.minimum(np.searchsorted(every, some), every.size - 1)] != some))

    for e, x in after:
        if e.opcode not in MOVED and e.opcode not in ("bitcast", "fusion", "call") and new(x):
            return f"the compiled {e.opcode} ({e.name}) is none of the program"
    for e, x in after:
        if e.opcode == "constant" and new(x):
            return f"the compiled constant {e.argument[:20]} is none of the program"
    return "operations are left out, or values moved"
