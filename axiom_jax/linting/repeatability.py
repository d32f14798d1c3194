"""Lint of compilation: what compiles again, what is baked in, what differs from run to run, what is not used."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Program
from axiom_jax.linting.report import Finding, Severity
from axiom_jax.model import Signature

SMALL = 64  # elements of a captured array that are not worth a word
UNORDERED = {"scatter-add", "scatter_add", "scatter-mul", "scatter_mul"}  # GPUs add colliding updates in any order
CALLBACKS = {"pure_callback", "io_callback", "debug_callback"}


def dead_parameters(program: Program, count: int) -> Iterator[Finding]:
    """Parameters that no output depends on, and outputs that no input reaches."""
    used = {v for eqn in program.equations for v in eqn.inputs} | set(program.outputs)
    for var, name in zip(program.params[:count], program.names, strict=False):
        if var not in used:
            yield Finding("dead-parameter", "warning", "No output depends on this parameter: training never moves it.",
                          name, f"{np.dtype(var.dtype)}{list(var.shape)}", "use it, or leave it out")  # fmt: skip
    for number, output in enumerate(program.outputs):
        if output not in program.varying and program.inputs:
            yield Finding("constant-output", "warning", "This output does not depend on any input.",
                          f"output {number}", None, "return what was computed from the input")  # fmt: skip


def baked_in(program: Program, count: int) -> Iterator[Finding]:
    """Arrays that the function captured: constants of every compiled program, whatever becomes of them later."""
    for var, name in zip(program.params[count:], program.names[count:], strict=True):
        if var.size > SMALL:
            yield Finding(
                "captured-array", "warning", "An array is captured, not passed: it is compiled in as it is now.",
                _where(program, var) or name, f"{np.dtype(var.dtype)}{list(var.shape)}, {var.size:,} elements",
                "pass it as an argument or a parameter; else changing it has no effect, or compiles anew",
            )  # fmt: skip


def _where(program: Program, var: Any) -> str | None:
    return next((eqn.at for eqn in program.equations if var in eqn.inputs and eqn.at), None)


def recompiles(signature: Signature | None) -> Iterator[Finding]:
    """Sizes that are open: each new number compiles again."""
    if signature is None:
        return
    opened = sorted({str(size) for _, shape, _ in signature.inputs for size in shape if not isinstance(size, int)})
    if opened:
        yield Finding(
            "recompilation", "note", "Every new size compiles once more.", signature.inputs[0][0],
            f"open sizes: {', '.join(opened)}",
            "pad to a few sizes, and compile those ahead: ax.precompile(model, batch_sizes=[1, 64])",
        )  # fmt: skip


def unrepeatable(program: Program, again: Program, params: Sequence[Any], params_again: Sequence[Any]) -> (
    Iterator[Finding]
):
    """Two traces that differ, and operations whose result can differ from run to run or leave the device."""
    same = program == again and all(map(_equal, params, params_again))
    if not same:
        first = next((a.at for a, b in zip(program.equations, again.equations, strict=False) if a.key != b.key), None)
        yield Finding("non-determinism", "error", "Tracing the function twice gives two different programs.",
                      first or None, "it reads something that changes: a clock, numpy.random, a counter",
                      "pass it as an argument; draw random numbers from a jax.random key")  # fmt: skip
    kinds: tuple[tuple[set[str], Severity, str, str], ...] = (
        (UNORDERED, "note", "GPUs add colliding updates in any order, so float32 results can differ from run to run.",
         "set XLA_FLAGS=--xla_gpu_deterministic_ops=true, or sort the indices"),
        (CALLBACKS, "warning", "Python is called back from inside of the program.",
         "keep callbacks out of models: they are not exported and not verified"),
        ({"rng_uniform"}, "warning", "The numbers drawn here depend on the backend.", "draw from a jax.random key"),
    )  # fmt: skip
    for names, severity, what, fix in kinds:
        found = [eqn for eqn in program.equations if eqn.name in names]
        if found:
            places = "\n".join(dict.fromkeys(eqn.at for eqn in found if eqn.at))
            yield Finding("non-determinism" if names is not CALLBACKS else "callback", severity, what, places or None,
                          ", ".join(sorted({eqn.name for eqn in found})), fix)  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    if any(jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key) for x in (a, b)):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind in "fc")
