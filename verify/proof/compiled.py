"""Whether a compiler kept the operations of a model: its optimised HLO is read and compared with what went in.

Level `float32` speaks of the program's operations, each rounded once, sums in any order. XLA may replace operations:
x·a·b by x·(a·b), quotients of quotients, exp·exp by exp of a sum. Here the model is compiled, and both texts, before
and after the optimisation, are turned into expressions of their inputs. Equal expressions are the same operations; they
may differ in the order within one sum, also by parts, of two factors, in what is exact, and in what is computed once
instead of twice. A quotient by a constant may be a product with its rounded reciprocal, and on CPUs, which round
quotients correctly, any quotient may: quotients are charged more than that. What is not understood, or computed twice
with a rounding of its own, is not called kept.
Source: openxla/xla, algebraic_simplifier.cc.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from jax.errors import JaxRuntimeError

from axiom_jax.verification.proof.float32 import PROFILE, obstacle
from axiom_jax.verification.proof.hlo.meaning import MOVED, Meaning
from axiom_jax.verification.proof.hlo.symbols import Symbols
from axiom_jax.verification.proof.hlo.text import Instruction, Module, Unread, read
from axiom_jax.verification.search.margins import Subject

KIND = "optimised-hlo"
ELIDED = "constant({...})"
LONGEST = 1 << 23  # bytes of a compiled module whose constants are read
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


def device_of(profile: str) -> Any:
    """The first device that a profile speaks of; None where jax has none.

    >>> device_of("cpu").platform
    'cpu'
    """
    try:
        return jax.devices(profile)[0]
    except RuntimeError:
        return None


def _environment(profile: str) -> tuple[str, str, str]:
    """Versions of jax and jaxlib, and what is compiled for."""
    machine = platform.machine() if profile == PROFILE else getattr(device_of(profile), "device_kind", "none")
    return jax.__version__, metadata.version("jaxlib"), f"{profile} {machine}"


_made: WeakKeyDictionary[Subject, dict[Any, Compilation]] = WeakKeyDictionary()


def compilation(subject: Subject, options: Mapping[str, str] = DEFAULT, profile: str = PROFILE) -> Compilation:
    """Compile a model, one row of it as it is verified, and compare what came out; once for each options and profile.

    Args:
        profile: whose device is compiled for.

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
    key = tuple(sorted(options.items())), profile
    if key not in made:
        made[key] = _compiled(subject, *key)
    return made[key]


def _lowered(subject: Subject, profile: str, device: Any) -> tuple[Any, str]:
    """A model lowered for a device, and its HLO. A CPU multiplies in full float32; where another device does so only
    on demand, the demand has to be the model's own."""

    def model(params: Any, *inputs: Any) -> Any:
        return subject.apply(params, *inputs)

    precision = "highest" if profile == PROFILE else "default"
    with jax.default_device(device), jax.default_matmul_precision(precision):
        lowered = jax.jit(model).lower(subject.params, *subject.specs)
        return lowered, lowered.as_text(dialect="hlo") or ""


def _in_full(lowered: Any, executable: Any) -> tuple[str, str] | None:
    """The HLO before and after with the constants that texts leave out; None if there are too many of them."""
    program, (module,) = lowered.compiler_ir("hlo"), executable.runtime_executable().hlo_modules()
    optimised = module.as_serialized_hlo_module_proto()
    if len(optimised) > LONGEST:
        return None
    return program.as_hlo_text(True), type(program)(optimised).as_hlo_text(True)


def _compiled(subject: Subject, options: tuple[tuple[str, str], ...], profile: str) -> Compilation:
    told = lambda kept, reason, digest="": Compilation(kept, reason, digest, options, *_environment(profile))
    if (device := device_of(profile)) is None:
        return told(False, f"jax has no {profile.upper()} device to compile for")
    try:
        with jax.default_device(device):
            lowered, before = _lowered(subject, profile, device)
            executable = lowered.compile(compiler_options=dict(options) or None)
            after = executable.as_text()
            if ELIDED in before or (after and ELIDED in after):
                before, after = _in_full(lowered, executable) or (before, after)
    except (TypeError, ValueError, NotImplementedError, RuntimeError, JaxRuntimeError) as error:
        return told(False, f"it cannot be compiled: {type(error).__name__}")
    if not before or not after:
        return told(False, "the compiler shows no HLO")
    try:
        program, optimised = read(before), read(after)
    except Unread as unread:
        return told(False, f"not compared: {unread}")
    reason = _inexact(program) if profile != PROFILE else None
    reason = reason or difference(program, optimised, inverses=profile == PROFILE)
    return told(reason is None, reason or "", optimised.digest)


def _inexact(program: Module) -> str | None:
    """What of a program's products a GPU rounds more coarsely than float32; None if nothing."""
    for e in (e for lines in program.computations.values() for e in lines):
        if e.opcode in ("dot", "convolution") and e.attributes.get("operand_precision") != "{highest,highest}":
            return f"a {e.opcode} does not ask for precision HIGHEST, without which GPUs multiply in fewer bits (TF32)"
    return None


def coarse(subject: Subject, profile: str) -> str | None:
    """Why the model's products are not those of float32 on a profile's machines, whether one is here or not.

    >>> import jax.numpy as jnp
    >>> specs, w = (jax.ShapeDtypeStruct((2,), np.float32),), np.eye(2, dtype=np.float32)
    >>> coarse(Subject(lambda w, x: jnp.dot(w, x, precision="highest"), w, specs), "cuda")
    >>> coarse(Subject(lambda w, x: jnp.dot(w, x), w, specs), "cuda").partition(",")[0]
    'a dot does not ask for precision HIGHEST'
    """
    if profile == PROFILE:
        return None
    try:
        return _inexact(read(_lowered(subject, profile, device_of(PROFILE))[1]))
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"its products are not known: {error if isinstance(error, Unread) else type(error).__name__}"


def hindrance(subject: Subject, profile: str = PROFILE) -> str | None:
    """Why level float32 is not claimed of a model; None where it can be tried, as XLA keeps its operations by default.

    Args:
        profile: the machines that the level would speak of.

    >>> specs = (jax.ShapeDtypeStruct((2,), np.float32),)
    >>> hindrance(Subject(lambda _, x: jax.nn.relu(x * 3 + 1), (), specs))
    >>> hindrance(Subject(lambda _, x: jax.nn.softmax(x), (), specs))
    'softmax is written by differences'
    """
    if (why := obstacle(subject, profile) or coarse(subject, profile)) is not None:
        return why
    if device_of(profile) is None:
        return f"jax has no {profile.upper()} device to compile for, so what the compiler does is not known"
    found = compilation(subject, profile=profile)
    return None if found.kept else f"the compiler is not seen to keep the operations: {found.reason}"


def recompiled(recorded: Mapping[str, str], subject: Subject) -> str | None:
    """What the hash of optimised HLO in a certificate says of a model here, in words; None if it names none.

    >>> recompiled({"onnx": "ab" * 32}, Subject(abs, (), ())) is None
    True
    """
    kinds = [kind for kind in recorded if kind.split(" ")[0] == KIND]
    if not kinds:
        return None
    for options, profile in product((DEFAULT, KEEPING), (PROFILE, "cuda")):
        kind = Compilation(False, "", "", tuple(sorted(options.items())), *_environment(profile)).kind
        if kind not in kinds or device_of(profile) is None:
            continue
        found = compilation(subject, options, profile)
        if not found.kept:
            return f"Compiled here with {found.text}, its operations are not known to be kept: {found.reason}."
        same = "is the one that the certificate names" if found.digest == recorded[kind] else (
            "is another one than the certificate names"
        )  # fmt: skip
        return f"Compiled here with {found.text}, every operation is kept; its optimised HLO {same}."
    return f"The certificate names {kinds[0]}: compiled by another version or for another device, not compared."


@np.errstate(over="ignore")
def difference(program: Module, optimised: Module, inverses: bool = True) -> str | None:
    """What an optimised module computes otherwise than the program, in words; None where all operations were kept.

    Args:
        inverses: whether a quotient may be a product with the rounded inverse of its divisor. Both round by 2^-24 at
            most where division is correctly rounded, and a quotient is charged twice that.
    """
    before, turned, after = Meaning(program), Meaning(program, turned=True), Meaning(optimised)
    try:
        expected, found = [before.outputs(), turned.outputs()], after.outputs()
        kept = any(_same(e, found) for e in expected)
        if not kept:  # a sum may be taken in parts, that is an order; sums of the program stay apart
            parts = Meaning(optimised, joined=True).outputs()
            kept = any(_same(e, parts) for e in expected)
        if not kept and inverses:
            others = Meaning(program, turned=True, inverted=True), Meaning(optimised, inverted=True)
            kept = _same(*(other.outputs() for other in others))
        if not kept:
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
