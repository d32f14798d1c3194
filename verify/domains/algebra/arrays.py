"""Arrays of terms: the values of the domain `reals`."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from axiom_jax._domain import Domain
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.terms import Term

ELEMENTS = 200_000  # of one array: beyond it the answer would take minutes and help nobody


@dataclass(frozen=True, eq=False)
class Terms:
    """An array of terms."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


reals = Domain("reals", Terms)
literal: ContextVar[Callable[[float], Term]] = ContextVar("literal", default=T.number)  # what a float means


def term_inputs(name: str, shape: Sequence[int]) -> Terms:
    """A variable for every element: `x`, or `x[0,1]`."""
    array = np.empty(tuple(shape), object)
    for index in np.ndindex(*shape):
        array[index] = T.variable(f"{name}[{','.join(map(str, index))}]" if index else name)
    return Terms(array)


def exact(value: Any, dtype: Any) -> Any:
    """Float arrays become terms; integers and truth values stay what they are, and stay known."""
    if isinstance(value, Terms):
        return value
    array = np.asarray(value, dtype)
    return Terms(lifted(array)) if array.dtype.kind == "f" else array


def lifted(value: Any) -> np.ndarray:
    """An operand as an array of terms."""
    if isinstance(value, Terms):
        return value.array
    array = np.asarray(value)
    if array.dtype == object:
        return array
    makers: dict[str, Callable[[Any], Term]] = {"b": T.truth, "f": literal.get()}
    make = makers.get(array.dtype.kind, T.number)
    plain = array.astype(np.float64) if array.dtype.kind == "f" else array
    return filled([make(x) for x in plain.ravel().tolist()], array.shape)


def filled(items: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """An array of terms from its elements in C order."""
    out = np.empty(len(items), object)
    out[:] = items
    return out.reshape(tuple(shape))


def taken(source: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Elements of a flat array by an array of their numbers."""
    return filled(source[index.ravel()].tolist(), index.shape)


def each(f: Callable[..., Term], *operands: Any) -> np.ndarray:
    """An element-wise function of broadcast operands."""
    arrays = np.broadcast_arrays(*map(lifted, operands))
    return filled([f(*xs) for xs in zip(*(a.ravel().tolist() for a in arrays), strict=True)], arrays[0].shape)
