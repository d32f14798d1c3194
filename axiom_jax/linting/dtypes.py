"""Lint of dtypes: weak types, silent promotions, truncation to 32 bits, the precision of matrix products."""

import linecache
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Equation, Program
from axiom_jax.linting.report import Finding

SAID = re.compile(r"astype|convert_element_type|asarray|dtype|float(16|32|64)|u?int(8|16|32|64)|bool_|preferred_")
PLACE = re.compile(r"^(.*):(\d+)(?: \(.*\))?$")
SHOWN = 5


def truncations(caught: Iterable[warnings.WarningMessage], leaves: Sequence[tuple[str, Any]]) -> Iterator[Finding]:
    """64-bit numbers that JAX makes 32-bit ones: said by JAX while tracing, or seen in the parameters."""
    said: set[tuple[str, int]] = set()
    for warning in caught:
        text = str(warning.message)
        if "truncated" not in text or "dtype" not in text:
            continue
        if (warning.filename, warning.lineno) in said:
            continue
        said.add((warning.filename, warning.lineno))
        asked = re.search(r"requested dtype (?:<class '[\w.]*?)?(\w+)'?>? ", text)
        yield Finding(
            "truncation", "warning", "64-bit numbers are asked for and 32-bit ones are given.",
            f"{_short(warning.filename)}:{warning.lineno}", f"dtype {asked[1]}" if asked else None,
            'ask for 32 bits, or switch 64 bits on: jax.config.update("jax_enable_x64", True)',
        )  # fmt: skip
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return
    for name, leaf in leaves:
        if getattr(leaf, "dtype", None) is not None and np.dtype(leaf.dtype).itemsize == 8 and leaf.dtype.kind in "iuf":
            yield Finding(
                "truncation", "warning", "A parameter has 64 bits, which JAX rounds to 32.", name, str(leaf.dtype),
                f"convert it yourself: {name.rsplit('/', 1)[-1]}.astype({_narrow(leaf.dtype)!r})",
            )  # fmt: skip


def _narrow(dtype: Any) -> str:
    return {"f": "float32", "i": "int32", "u": "uint32"}[np.dtype(dtype).kind]


def weak_types(leaves: Sequence[tuple[str, Any]], outputs: Sequence[Any]) -> Iterator[Finding]:
    """Python numbers as parameters, and outputs whose dtype gives way to whatever they meet."""
    for name, leaf in leaves:
        if isinstance(leaf, (bool, int, float, complex)):
            yield Finding(
                "weak-type", "warning", "A parameter is a Python number: it is weakly typed and is not trained.",
                name, repr(leaf), f"make it an array: jnp.asarray({leaf!r}, jnp.float32)",
            )  # fmt: skip
    for number, aval in enumerate(outputs):
        if getattr(aval, "weak_type", False):
            yield Finding(
                "weak-type", "warning", "The output is weakly typed: it takes the dtype of what it meets next.",
                f"output {number}", f"{aval.dtype}, weak",
                "give it a dtype: jnp.asarray(y, jnp.float32), or compute it from the input",
            )  # fmt: skip


def promotions(program: Program) -> Iterator[Finding]:
    """Dtypes that change on lines which do not say so."""
    seen: set[tuple[str, str]] = set()
    for eqn in program.equations:
        if eqn.name != "convert_element_type" or program.varying.isdisjoint(eqn.inputs):
            continue
        before, after = np.dtype(eqn.inputs[0].dtype), np.dtype(eqn.output.dtype)
        change = f"{before} to {after}"
        if "bool" in (before.name, after.name) or (eqn.at, change) in seen or SAID.search(_source(eqn.at)):
            continue
        seen.add((eqn.at, change))
        loses = not jnp.promote_types(before, after) == after or (before.kind in "iu" and after.itemsize < 8)
        what = "A dtype is changed silently" + (", and can lose digits." if loses else ".")
        fix = f'say it: x.astype("{after}"), or give the other operand dtype {before}'
        yield Finding("promotion", "warning", what, eqn.at or None, change, fix)


def precision(program: Program, backend: str | None) -> Iterator[Finding]:
    """float32 products that accelerators compute from rounded operands unless they are told otherwise."""
    found = [eqn for eqn in program.equations if eqn.name in ("dot_general", "conv_general_dilated") and _default(eqn)]
    if found and backend not in ("cpu", "xla-cpu"):
        places = list(dict.fromkeys(eqn.at for eqn in found if eqn.at and "site-packages" not in eqn.at))
        more = f"\nand {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        yield Finding(
            "precision", "note",
            f"{len(found)} float32 product{'s round their' if len(found) > 1 else ' rounds its'} operands on GPUs "
            "(TF32, 10 bits) and TPUs (bfloat16, 7 bits).",
            ("\n".join(places[:SHOWN]) + more) or None, "precision is left to the backend; CPUs use all 23 bits",
            'where digits matter: with jax.default_matmul_precision("highest"): …',
        )  # fmt: skip


def _default(eqn: Equation) -> bool:
    asked = eqn.params.get("precision")
    asked = asked if isinstance(asked, (tuple, list)) else (asked,)
    lowest = all(p is None or p == jax.lax.Precision.DEFAULT for p in asked)
    return lowest and all(np.dtype(v.dtype) == np.float32 for v in eqn.inputs)


def _source(at: str) -> str:
    """The line of code at a place, or nothing."""
    found = PLACE.match(at)
    return linecache.getline(found[1], int(found[2])) if found else ""


def _short(path: str) -> str:
    import os

    relative = os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path
    return min(relative, path, key=len)
