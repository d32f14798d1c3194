"""Reading what the user gave: a model as one row of it, data as rows, and whether they fit a region."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import ShapeError, SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.model import Model, Sequential
from axiom_jax.verification.properties.scope import Budget, Samples, Scope, unbounded
from axiom_jax.verification.regions import Region
from axiom_jax.verification.search.margins import Subject


def scope_of(model: Any, region: Region | None, data: Any, budget: Budget) -> Scope:
    """Read what the user gave.

    Args:
        model: a `Model`, a `Subject`, a JAX function of a batch, or what `ax.Sequential` takes as a layer.
        data: x, (x, y) or a `DataLoader` of them; None for none.

    Raises:
        SpecError: data or region do not fit the model or each other.
    """
    x, y = _arrays(data) if data is not None else (None, None)
    shape = x.shape[1:] if x is not None else _shape_of(region)
    subject = row_of(model, shape)
    samples, population, rows = None, None, 0
    if x is not None:
        rows = len(x)
        population = Samples(_rows(x, subject), _labels(y, rows, None), y)
        flat = population.x[: budget.rows]
        samples = Samples(flat, _labels(y, rows, budget.rows), None if y is None else y[: budget.rows])
    scope = Scope(model, subject, region, samples, rows, budget, population)
    if region is not None and not unbounded(region) and not (getattr(region, "center", 0) is None and samples):
        scope.bounds(region)
    return scope


def _shape_of(region: Region | None) -> tuple[int, ...] | None:
    for value in (getattr(region, name, None) for name in ("center", "lo", "hi")):
        shape: tuple[int, ...] = ()
        while isinstance(value, tuple):
            shape, value = (*shape, len(value)), value[0]
        if shape:
            return shape
    return None


def row_of(model: Any, row: tuple[int, ...] | None) -> Subject:
    """One row of a model; sizes that its signature leaves open come from the data or the region.

    Args:
        row: the shape of one input without its batch axis, or None.

    Raises:
        SpecError: sizes stay open.
    """
    if isinstance(model, Subject):
        return model
    if not isinstance(model, Model):
        model = _adopted(model)
    inputs = model.signature.inputs
    for _, _, dtype in inputs:
        if np.dtype(dtype).kind != "f":
            raise SpecError("Properties speak of real inputs.", at=caller(), got=f"an input of {dtype}",
                            fix="verify the part of the model behind the embedding")  # fmt: skip
    if not inputs:
        if row is None:
            raise SpecError(
                f"{model.name} does not say what it takes.", at=caller(), got="a model without shapes",
                fix="give data, or a region with arrays of one input's shape",
            )  # fmt: skip
        return Subject(model.apply, model.params, (jax.ShapeDtypeStruct((1, *row), np.float32),), model.name,
                       dict(model.source))  # fmt: skip
    specs = [jax.ShapeDtypeStruct(_sizes(shape, row, model.name), np.dtype(dtype)) for _, shape, dtype in inputs]
    return Subject(model.apply, model.params, tuple(specs), model.name, dict(model.source))


def _adopted(model: Any) -> Model:
    if not callable(model):
        raise SpecError("This is no model.", at=caller(), got=type(model).__name__,
                        fix="give a Model, a function of a batch, or a flax or equinox module")  # fmt: skip
    return Sequential(model, name=getattr(model, "__name__", type(model).__name__))


def _sizes(shape: Sequence[Any], row: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    fixed = lambda n: isinstance(n, int) and n > 0
    if row is not None and len(row) == len(shape) - 1:
        row = (1, *row)
    if row is not None and len(row) == len(shape):
        return tuple(n if fixed(n) else given for n, given in zip(shape, row, strict=True))
    still = [n for n in shape[1:] if not fixed(n)]
    if still:
        raise SpecError(
            f"{name} takes inputs of any size, and a region needs one.", at=caller(),
            got=f"open sizes {', '.join(map(str, still))}",
            fix="give data, or a region with arrays of one input's shape",
        )  # fmt: skip
    return tuple(n if fixed(n) else 1 for n in shape)


def _arrays(data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """x and y of what the user gave as data."""
    if hasattr(data, "batch_size") and hasattr(data, "data"):  # a DataLoader: its arrays, in their order
        data = data.data
    x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    if isinstance(data, list) and len(data) == 2 and np.ndim(data[0]) > np.ndim(data[1]):
        x, y = data
    fix = "give an array x, a pair (x, y), or ax.DataLoader((x, y))"
    if isinstance(x, (dict, str)) or (isinstance(data, tuple) and len(data) != 2):
        raise SpecError("This is no data.", at=caller(), got=type(data).__name__, fix=fix)
    try:
        x, y = np.asarray(x, np.float32), None if y is None else np.asarray(y)
    except (TypeError, ValueError) as error:
        raise SpecError("The data are no array of numbers.", at=caller(), got=type(x).__name__, fix=fix) from error
    if x.ndim < 1 or len(x) == 0:
        raise SpecError("The data have no rows.", at=caller(), got=f"shape {x.shape}", fix=fix)
    if y is not None and (y.ndim < 1 or len(y) != len(x)):
        raise SpecError("There are not as many labels as rows.", at=caller(),
                        got=f"{len(x)} rows, labels of shape {y.shape}", fix="give a label for every row")  # fmt: skip
    if not np.isfinite(x).all():
        raise SpecError("The data hold NaN or infinity.", at=caller(), got=f"shape {x.shape}",
                        fix="leave out these rows, or fill them in")  # fmt: skip
    return x, y


def _rows(x: np.ndarray, subject: Subject) -> np.ndarray:
    """(rows, inputs) flat."""
    if len(subject.specs) != 1:
        raise SpecError("Data are given for models of one input.", at=caller(),
                        got=f"{len(subject.specs)} inputs", fix="give a region instead")  # fmt: skip
    shape = subject.specs[0].shape
    row = x.shape[1:]
    if row != shape and (1, *row) != shape and row != (subject.size,):
        raise ShapeError(f"{subject.name} cannot take the data.", at=caller(),
                         got=f"rows of shape {row}; expected {shape[1:] if shape[:1] == (1,) else shape}",
                         fix="reshape the data to one row per input")  # fmt: skip
    return x.reshape(len(x), -1)


def _labels(y: np.ndarray | None, rows: int, limit: int | None) -> np.ndarray | None:
    """(rows,) class numbers; None where what was given are no classes."""
    if y is None:
        return None
    if y.ndim == 2 and y.shape[1] > 1:  # one-hot
        hot = np.all((y == 0) | (y == 1)) and np.all(y.sum(1) == 1)
        return y.argmax(1)[:limit] if hot else None
    y = y.reshape(rows, -1)
    if y.shape[1] != 1 or (y.dtype.kind == "f" and not np.all(y == np.round(y))) or y.dtype.kind not in "iufb":
        return None
    return y[:limit, 0].astype(np.int64)
