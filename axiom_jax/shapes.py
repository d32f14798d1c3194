"""Shapes are proved by tracing with symbolic sizes: nothing runs, no memory is taken.

`infer` gives a function's output shapes for all sizes, or a `ShapeError` that names the user's line and
a fix. JAX's shape rules do the algebra; what they leave out for symbolic sizes (that a reshape keeps
the number of elements) is checked here, and the result is compared with a trace at given numbers.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from axiom_jax._errors import ShapeError
from axiom_jax._shapes_annotations import symbols
from axiom_jax._shapes_explain import bad_reshape, explain
from axiom_jax._shapes_mismatch import Mismatch
from axiom_jax._shapes_text import shape_text, size_at
from axiom_jax._trace import as_program, guard_policy, location

__all__ = ["Mismatch", "confirm", "infer", "numbers", "refusal", "sized", "symbols", "together"]
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
WORD = re.compile(r"[A-Za-z_]\w*")


def infer(fn: Callable[..., Any], *specs: Any) -> Any:
    """The shapes that a function returns, for all values of the symbolic sizes.

    Args:
        fn: a JAX function of pytrees of arrays.
        *specs: a pytree of arrays or `jax.ShapeDtypeStruct` an argument, sizes numbers or symbolic.

    Returns:
        A pytree of `jax.ShapeDtypeStruct`.

    Raises:
        ShapeError: the shapes do not fit, or cannot be proved to fit for every size.

    >>> import jax.numpy as jnp
    >>> n = symbols(["n"])["n"]
    >>> infer(lambda x: jnp.concatenate([x, x[:1]]), jax.ShapeDtypeStruct((n, 3), "float32")).shape
    (n + 1, 3)
    """

    def traced(*arguments: Any) -> Any:
        try:
            return fn(*arguments)
        except Exception as error:
            if (explained := explain(error)) is None:
                raise
            raise explained from error

    try:
        with guard_policy("off"), as_program(True):
            closed, output = jax.make_jaxpr(traced, return_shape=True)(*specs)
    except ShapeError as error:
        raise clean(error) from None
    _check_reshapes(closed.jaxpr, "")
    return output


def clean(error: ShapeError) -> ShapeError:
    """The same error without the frames of the tracer."""
    copy = ShapeError(error.what, at=error.at, got=error.got, fix=error.fix)
    vars(copy)["errors"] = getattr(error, "errors", (copy,))
    return copy


def _check_reshapes(jaxpr: Any, outer: str) -> None:
    for eqn in jaxpr.eqns:
        at = re.sub(r"\((?:.*\.)?([^.]+)\)$", r"(\1)", location(eqn, outer) or outer)
        if eqn.primitive.name == "reshape":
            before, after = eqn.invars[0].aval, eqn.params["new_sizes"]
            if math.prod(before.shape) != math.prod(after):
                raise bad_reshape(at.removesuffix(" (<module>)"), before.shape, after, before.dtype)
        for inner in _inner(eqn.params.values()):
            _check_reshapes(inner, at)


def _inner(values: Any) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr") and hasattr(value.jaxpr, "eqns"):
            yield value.jaxpr


def confirm(fn: Callable[..., Any], specs: Sequence[Any], output: Any, constraints: Sequence[str] = ()) -> None:
    """Compare shapes that were inferred for all sizes with a trace at given numbers.

    Raises:
        ShapeError: they differ: a rule of the tracer does not hold for all sizes.
    """
    sizes = numbers((specs, output), constraints)
    if not sizes:
        return
    found = infer(fn, *sized(specs, sizes))
    for predicted, actual in zip(jax.tree.leaves(sized(output, sizes)), jax.tree.leaves(found), strict=True):
        if predicted.shape != actual.shape:
            where = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            raise ShapeError(
                f"The shape proved for all sizes does not hold at {where}.",
                got=f"{shape_text(actual)}; proved {shape_text(predicted)}",
                fix="report this: a shape rule of this JAX version is wrong for symbolic sizes",
            )


def sized(specs: Any, sizes: dict[str, int]) -> Any:
    """Specs with numbers for their symbolic sizes."""
    number = lambda size: size if isinstance(size, int) else size_at(size, sizes)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(tuple(map(number, s.shape)), s.dtype), specs)


def numbers(specs: Any, constraints: Sequence[str] = ()) -> dict[str, int]:
    """A number for every symbolic size, primes that satisfy the constraints; nothing if none is found."""
    texts = {str(size) for spec in jax.tree.leaves(specs) for size in spec.shape if not isinstance(size, int)}
    names = sorted({word for text in texts for word in WORD.findall(text)} - {"floordiv", "mod", "max", "min"})
    for offset in (0, 60, 500):
        sizes = dict(zip(names, (offset + prime for prime in itertools.cycle(PRIMES)), strict=False))
        if all(size_at(constraint, sizes) for constraint in constraints):
            return sizes
    return {}


def refusal(layer: str, x: Any, mismatch: Mismatch, at: str | None) -> ShapeError:
    """A layer's error, in the words of all layers."""
    got = f"{shape_text(x)}; expected {mismatch.expected}"
    return ShapeError(f"{layer} cannot take its input.", at=at, got=got, fix=mismatch.fix)


def together(errors: Sequence[ShapeError]) -> ShapeError:
    """One error for several, which are numbered in its parts and kept in `.errors`.

    >>> print(together([ShapeError("A fails.", at="m.py:1"), ShapeError("B fails.", at="m.py:2", fix="mend it")]))
    2 shapes do not fit: A fails. B fails.
      at   (1) m.py:1
           (2) m.py:2
      fix  (2) mend it
    """
    parts: dict[str, str | None] = {}
    for name in ("at", "got", "fix"):
        numbered = ((i, getattr(error, name)) for i, error in enumerate(errors, 1))
        parts[name] = "\n".join(f"({i}) {text}" for i, text in numbered if text) or None
    what = f"{len(errors)} shapes do not fit: {' '.join(error.what for error in errors)}"
    if len(errors) == 1:
        return clean(errors[0])
    whole = ShapeError(what, **parts)
    vars(whole)["errors"] = tuple(errors)
    return whole
