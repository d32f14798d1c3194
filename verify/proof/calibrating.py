"""How accurate float32 functions are on this machine, against what level `float32` assumes of them.

The checker's profiles say how far functions may be off, in units of 2^-24 of the exact value. Here each function is
compiled, in each way that the compiler has, and run on float32 numbers that are spread over all bit patterns, or on all
2^32 of them, and compared with float64, which is 2^29 times as exact. What is measured by samples is no proof; an
exhaustive sweep of a function is one for this machine and this compiler.
Source: the accuracy tables of XLA (docs/accuracy.md of jax-ml/jax), which profiles are taken from.
"""

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from axiom_jax._errors import AxiomError
from axiom_jax.verification import checker
from axiom_jax.verification.proof.certificate import canonical, write_atomically

FORMAT, VERSION = "axiom-calibration", 1
UNIT = 2.0**-24  # of errors, as parts of the exact value
SLACK = 3 * 2.0**-40  # what the checker adds to every error
MOST = 2.0**60  # values and inputs beyond are refused at the level
BLOCK = 1 << 22
ALL = 1 << 32
# In how many columns a compiler is to run functions, and with which options, so that each of its ways is measured: XLA
# writes kernels for NVIDIA GPUs itself, or by way of Triton those that reduce, with other code for some functions.
WAYS: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    "cuda": ((1, {}), (2, {"xla_gpu_experimental_autotune_backends": "BLOCK_LEVEL_EMITTER"}))}  # fmt: skip

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp": (jnp.exp, np.exp),
    "logistic": (jax.nn.sigmoid, special.expit),
    "tanh": (jnp.tanh, np.tanh),
    "log": (jnp.log, np.log),
    "erf": (jax.lax.erf, special.erf),
    "sqrt": (jnp.sqrt, np.sqrt),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x),
    "div": (lambda x: jnp.float32(1.7) / x, lambda x: np.float64(np.float32(1.7)) / x),
    "sin": (jnp.sin, np.sin),
    "cos": (jnp.cos, np.cos),
    "atan": (jnp.arctan, np.arctan),
}
ABOVE = {"log": 2.0**-41, "sqrt": 0.0, "reciprocal": 0.0, "div": 0.0}  # what the checker wants of operands


@dataclass(frozen=True)
class Measured:
    """The worst of a function.

    Args:
        error: the largest error, in units of 2^-24 of the exact value. at: the input.
        points: how many inputs were compared. allowed: what the profile allows.
    """

    error: float
    at: float
    points: int
    allowed: int

    @property
    def within(self) -> bool:
        return self.error <= self.allowed


@dataclass(frozen=True)
class Calibration:
    """What was measured on a machine.

    Args:
        profile: that it is compared with. exhaustive: whether every float32 number was run.
        machine: platform, device, versions. functions: by name.
    """

    profile: str
    exhaustive: bool
    machine: dict[str, str]
    functions: dict[str, Measured]

    @property
    def within(self) -> bool:
        """Whether every function is as accurate as the profile says."""
        return all(found.within for found in self.functions.values())

    def to_dict(self) -> dict[str, Any]:
        """The file's content; `sha256` is that of the rest in canonical form."""
        functions = {name: {"allowed": f.allowed, "at": f.at.hex(), "error": f"{f.error:.6g}", "points": f.points}
                     for name, f in self.functions.items()}  # fmt: skip
        found = {"exhaustive": self.exhaustive, "format": FORMAT, "functions": functions, "machine": self.machine,
                 "profile": self.profile, "version": VERSION, "within": self.within}  # fmt: skip
        return found | {"sha256": hashlib.sha256(canonical(found)).hexdigest()}

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_atomically(path, canonical(self.to_dict()) + b"\n")


def calibrate(
    profile: str | None = None,
    points: int = 1 << 22,
    functions: Sequence[str] = tuple(FUNCTIONS),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Calibration:
    """Measure functions on the default device of JAX.

    Args:
        profile: to compare with; that of the device's platform if None.
        points: how many float32 numbers; 2^32 or more are all of them.
        functions: which ones. progress: called with a function's name, how many are done, and of how many.

    Raises:
        AxiomError: there is no such profile or function.

    >>> found = calibrate("cpu", points=1000, functions=["sqrt"])
    >>> found.within, found.functions["sqrt"].allowed
    (True, 2)
    """
    device = jax.devices()[0]
    profile = profile or ("cuda" if device.platform in ("gpu", "cuda") else device.platform)
    if profile not in checker.PROFILES:
        raise AxiomError("There is no such profile.", at="profile", got=profile,
                         fix=f"use {' or '.join(checker.PROFILES)}; elsewhere level real is what there is")  # fmt: skip
    if unknown := [name for name in functions if name not in FUNCTIONS]:
        raise AxiomError("This function is not calibrated.", at="functions", got=", ".join(unknown),
                         fix=f"choose among {', '.join(FUNCTIONS)}")  # fmt: skip
    machine = {"device": str(device.device_kind), "jax": jax.__version__, "machine": platform.machine(),
               "platform": device.platform, "system": platform.platform()}  # fmt: skip
    measured = {name: _measured(name, checker.PROFILES[profile][name], points, progress, WAYS.get(profile, ((1, {}),)))
                for name in functions}  # fmt: skip
    return Calibration(profile, points >= ALL, machine, measured)


def _compiled(name: str, columns: int, options: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of a block of numbers, each of them in so many columns, of which the largest value is taken."""
    run = FUNCTIONS[name][0]
    reduced = run if columns == 1 else lambda x: run(x).max(-1)
    compiled = jax.jit(reduced, compiler_options=options or None)
    spread = lambda x: x if columns == 1 else np.repeat(x[:, None], columns, -1)
    return lambda x: np.asarray(compiled(spread(x)), np.float64)


def _measured(
    name: str,
    allowed: int,
    points: int,
    progress: Callable[[str, int, int], None],
    ways: Sequence[tuple[int, dict[str, Any]]],
) -> Measured:
    exactly = FUNCTIONS[name][1]
    compiled = [_compiled(name, columns, options) for columns, options in ways]
    worst, at, count = 0.0, 0.0, 0
    with np.errstate(all="ignore"):
        for x in _spread(points):
            x = x[(np.abs(x) < MOST) & ((x > ABOVE[name]) if name in ABOVE else (x == x))]
            if not len(x):
                continue
            padded = np.ones(BLOCK, np.float32)  # one shape, so that one compilation serves
            padded[: len(x)] = x
            exact = exactly(x.astype(np.float64))
            seen = np.abs(exact) < MOST
            off = np.zeros(len(x))
            for way in compiled:
                found = way(padded)[: len(x)]
                off = np.maximum(off, np.where(np.isnan(found), np.inf, np.abs(found - exact)))
            error = np.maximum(off - SLACK, 0) / (UNIT * np.maximum(np.abs(exact), SLACK))
            error = np.where(np.isnan(error), np.inf, error)[seen]
            count += int(seen.sum())
            if len(error) and error.max() > worst:
                worst, at = float(error.max()), float(x[seen][error.argmax()])
            progress(name, count, min(points, ALL))
    return Measured(worst, at, count, allowed)


def _spread(points: int) -> Iterator[np.ndarray]:
    """Float32 numbers whose bit patterns are spread evenly, in blocks; all of them if there are to be so many."""
    step = max(ALL // max(points, 1), 1) | 1  # odd, so that mantissas differ from one exponent to the next
    for start in range(0, ALL, step * BLOCK):
        bits = np.arange(start, min(start + step * BLOCK, ALL), step, dtype=np.uint64).astype(np.uint32)
        yield bits.view(np.float32)
