"""What only moves elements: run by JAX itself on the numbers of the elements."""

from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import ELEMENTS, Terms, each, filled, lifted, taken
from axiom_jax.verification.domains.algebra.terms import Term

MOVES = {"broadcast_in_dim", "concatenate", "copy", "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather",
         "pad", "reshape", "rev", "scatter", "slice", "split", "squeeze", "stack", "tile", "transpose"}  # fmt: skip


def moved(eqn: Equation, operands: list[Any]) -> tuple[Terms, ...]:
    """Run the primitive on the numbers of the elements: what comes out says what went where."""
    values = _INDEXED.get(eqn.name, len(operands))
    if any(isinstance(o, Terms) for o in operands[values:]):
        return (Terms(_varying_index(eqn, operands)),)
    pool: list[Term] = []
    numbered: list[Any] = list(operands)
    for i, operand in enumerate(operands[:values] if eqn.name != "scatter" else [operands[0], None, operands[2]]):
        if operand is not None:
            array = lifted(operand)
            numbered[i] = np.arange(len(pool), len(pool) + array.size, dtype=np.int32).reshape(array.shape)
            pool.extend(array.ravel().tolist())
    params = dict(eqn.params)
    if eqn.name == "gather":
        params["fill_value"] = -1
        pool.append(T.UNDEFINED if eqn.params["fill_value"] is None else T.number(float(eqn.params["fill_value"])))
    plain = _PLAIN.get(eqn.name)
    out = plain(*numbered, **params) if plain else eqn.primitive.bind(*numbered, **params)
    outs = out if eqn.primitive.multiple_results else [out]
    source = filled(pool, (len(pool),))
    return tuple(Terms(taken(source, np.asarray(index))) for index in outs)


_INDEXED = {"gather": 1, "dynamic_slice": 1, "dynamic_update_slice": 2}


def _varying_index(eqn: Equation, operands: list[Any]) -> np.ndarray:
    """dynamic_slice and dynamic_update_slice at a position that depends on the inputs: a choice of all positions."""
    if eqn.name == "gather":
        return _varying_gather(eqn, operands)
    if eqn.name not in ("dynamic_slice", "dynamic_update_slice"):
        raise UnsupportedPrimitive(f"The positions of a {eqn.name} depend on the inputs.", at=eqn.at or None,
                                   fix="index by known integers, or select with jnp.where")  # fmt: skip
    count = _INDEXED[eqn.name]
    x = lifted(operands[0])
    window = eqn.params["slice_sizes"] if eqn.name == "dynamic_slice" else lifted(operands[1]).shape
    starts = [lifted(o).item() for o in operands[count:]]
    limits = [size - w for size, w in zip(x.shape, window, strict=True)]
    clamped = [T.smallest([T.largest([s, T.ZERO]), T.number(top)]) for s, top in zip(starts, limits, strict=True)]
    result = None
    for at in product(*(range(top + 1) for top in limits)):
        place = tuple(slice(a, a + w) for a, w in zip(at, window, strict=True))
        if eqn.name == "dynamic_slice":
            case = x[place]
        else:
            case = x.copy()
            case[place] = lifted(operands[1])
        here = T.land(T.eq(s, T.number(a)) for s, a in zip(clamped, at, strict=True))
        result = case if result is None else each(lambda u, v, here=here: T.ite(here, u, v), case, result)
    assert result is not None
    return result


def _varying_gather(eqn: Equation, operands: list[Any]) -> np.ndarray:
    """A gather at positions that depend on the inputs: for each position the gather that reads there."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    rows = lifted(operands[1])
    shape = lifted(operands[0]).shape
    limits = [shape[axis] - sizes[axis] for axis in numbers.start_index_map]
    if int(np.prod([top + 1 for top in limits], dtype=np.int64)) * rows.size > ELEMENTS:
        raise UnsupportedPrimitive("A gather reads from too many places that depend on the inputs.", at=eqn.at or None,
                                   got=f"an array of shape {shape}", fix="ask at smaller sizes")  # fmt: skip
    if eqn.params["mode"] == jax.lax.GatherScatterMode.CLIP:
        rows = np.stack([each(lambda t, top=top: T.smallest([T.largest([t, T.ZERO]), T.number(top)]), rows[..., j])
                         for j, top in enumerate(limits)], -1)  # fmt: skip
    fill = eqn.params["fill_value"]
    rank = len(eqn.output.shape)
    batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    result = np.full(eqn.output.shape, T.UNDEFINED if fill is None else T.number(float(fill)), object)
    for at in product(*(range(top + 1) for top in limits)):
        here = np.broadcast_to(np.array(at, np.int32), rows.shape)
        (case,) = moved(eqn, [operands[0], here])
        hits = filled([T.land(T.eq(t, T.number(a)) for t, a in zip(row, at, strict=True))
                        for row in rows.reshape(-1, len(at))], rows.shape[:-1])  # fmt: skip
        spread = hits.reshape([eqn.output.shape[axis] if axis in batch else 1 for axis in range(rank)])
        result = each(T.ite, spread, case, result)
    return result


def _broadcast(x: np.ndarray, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> np.ndarray:
    expanded = [1] * len(shape)
    for axis, size in zip(broadcast_dimensions, x.shape, strict=True):
        expanded[axis] = size
    return np.broadcast_to(x.reshape(expanded), shape)


def _slice(x: np.ndarray, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> np.ndarray:
    steps = strides or [1] * x.ndim
    return x[tuple(slice(*ends) for ends in zip(start_indices, limit_indices, steps, strict=True))]


_PLAIN: dict[str, Callable[..., np.ndarray]] = {  # the commonest ones without a compilation each
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "copy": lambda x, **_: x,
    "reshape": lambda x, *, new_sizes, **_: x.reshape(new_sizes),
    "squeeze": lambda x, *, dimensions, **_: np.squeeze(x, tuple(dimensions)),
    "transpose": lambda x, *, permutation, **_: x.transpose(permutation),
    "rev": lambda x, *, dimensions, **_: np.flip(x, dimensions),
    "concatenate": lambda *xs, dimension, **_: np.concatenate(xs, dimension),
}
