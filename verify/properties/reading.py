"""Reading what the user gave: a model as one row of it, data as rows, and whether they fit a region.

Claims are about a model given one row. That says something about a batch where rows do not meet: this is read off the
program for any number of rows; where it cannot be, batches are executed, and the model is named "a batch of one row".
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import ShapeError, SpecError
from axiom_jax._program import Equation, build
from axiom_jax._shapes_deciding import size_decisions
from axiom_jax._shapes_places import caller
from axiom_jax.model import Model, Sequential
from axiom_jax.verification.properties.scope import Budget, Samples, Scope, unbounded
from axiom_jax.verification.regions import Region
from axiom_jax.verification.search.margins import Subject

ONE_ROW = "in a batch of one row"  # what is added to the name of a model whose rows are not known to be apart
TRIED = 3  # rows that are executed together and one by one
MOVES = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type")  # differ with one row
ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div "
    "eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg "
    "not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor".split()
)


def scope_of(model: Any, region: Region | None, data: Any, budget: Budget) -> Scope:
    """Read what the user gave.

    Args:
        model: a `Model`, a `Subject`, a JAX function of a batch, or what `ax.Sequential` takes as a layer.
        data: x, (x, y) or a `DataLoader` of them; None for none.

    Raises:
        SpecError: data or region do not fit the model or each other.
    """
    if region is not None and not isinstance(region, Region):
        raise SpecError("This is no region.", at=caller(), got=f"{region!r}"[:80], fix="region=ax.Box(0, 1)")
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
        return _alone(Subject(model.apply, model.params, (jax.ShapeDtypeStruct((1, *row), np.float32),), model.name,
                              dict(model.source)), (True,))  # fmt: skip
    specs = [jax.ShapeDtypeStruct(_sizes(shape, row, model.name), np.dtype(dtype)) for _, shape, dtype in inputs]
    batched = [len(shape) > 0 and not isinstance(shape[0], int) for _, shape, _ in inputs]
    return _alone(Subject(model.apply, model.params, tuple(specs), model.name, dict(model.source)), batched)


def _alone(subject: Subject, batched: Sequence[bool]) -> Subject:
    """A model of one row, if rows do not meet in it; named as one of a single row where that is not known.

    Args:
        batched: which inputs have a batch axis.

    Raises:
        SpecError: a batch gives other rows than its rows one by one.
    """
    if not any(batched) or any(s.shape[0] != 1 for s, rows in zip(subject.specs, batched, strict=True) if rows):
        return subject
    if _rows_apart(subject, batched):
        return subject
    if _rows_meet(subject, batched):
        raise SpecError(
            "The rows of a batch meet in the model, and properties speak of one row at a time.", at=caller(),
            got=f"{subject.name} gives {TRIED} rows together other outputs than each alone",
            fix="give a function that takes rows apart: jax.vmap(lambda row: model(row[None])[0])",
        )  # fmt: skip
    return replace(subject, name=f"{subject.name}, {ONE_ROW}")


def _rows_meet(subject: Subject, batched: Sequence[bool]) -> bool:
    """Whether executed rows come out otherwise together than one by one; False also where they cannot be executed."""
    generator = np.random.default_rng(0)
    x = [generator.uniform(-1, 1, (TRIED if rows else 1, *s.shape[1:])).astype(s.dtype) if s.shape else
         np.zeros((), s.dtype) for s, rows in zip(subject.specs, batched, strict=True)]  # fmt: skip
    run = lambda given: [np.asarray(y, np.float64) for y in jax.tree.leaves(subject.apply(subject.params, *given))]
    try:
        together = run(x)
        alone = [run([v[i : i + 1] if rows else v for v, rows in zip(x, batched, strict=True)]) for i in range(TRIED)]
    except Exception:  # whatever the model raises for another number of rows than one
        return False
    for leaf, *rows in zip(together, *alone, strict=True):
        if any(np.shape(row)[:1] != (1,) for row in rows) or leaf.shape[:1] != (TRIED,):
            return True
        apart = np.concatenate(rows)
        if apart.shape != leaf.shape or not np.allclose(leaf, apart, 1e-2, 1e-3, equal_nan=True):
            return True
    return False


def _rows_apart(subject: Subject, batched: Sequence[bool]) -> bool:
    """Whether the program for any number of rows keeps them apart, and is the one of a single row."""
    (rows,) = jax.export.symbolic_shape("rows_of_a_batch")
    many = [jax.ShapeDtypeStruct((rows, *s.shape[1:]) if b else s.shape, s.dtype)
            for s, b in zip(subject.specs, batched, strict=True)]  # fmt: skip
    single, two = subject.specs, [jax.ShapeDtypeStruct((2, *s.shape[1:]) if b else s.shape, s.dtype)
                                  for s, b in zip(subject.specs, batched, strict=True)]  # fmt: skip
    try:
        with size_decisions() as places:
            programs = [build(subject.apply, subject.params, *many)]
        if places:  # it does something else at some number of rows
            return False
        programs += [build(subject.apply, subject.params, *specs) for specs in (single, two)]
        program = programs[0][0]
        axes: dict[Any, int | None] = {v: None for v in (*program.params, *(v for v, _ in program.literals))}
        axes |= {v: 0 if b else None for v, b in zip(program.inputs, batched, strict=True)}
        for eqn in program.equations:
            came = [axes[v] for v in eqn.inputs]
            for v in eqn.outputs:
                symbolic = [i for i, n in enumerate(v.shape) if not isinstance(n, int)]
                if len(symbolic) > 1 or any(v.shape[i] != rows for i in symbolic):
                    return False
                out = axes[v] = symbolic[0] if symbolic else None
                mixed = any(a is not None for a in came) if out is None else not _apart(eqn, came, out)
                if mixed:
                    return False
        if not all(axes[v] == 0 for v in program.outputs):
            return False
    except Exception:  # a size that is asked for, a primitive without shapes for any number of rows
        return False
    if len({_gist(*built) for built in programs}) == 1:
        return True
    # indexing is traced in another way for any number of rows, so what is indexed is compared by execution
    return len({_varied(built[0]) for built in programs}) == 1 and not _rows_meet(subject, batched)


def _varied(program: Any) -> tuple[str, ...]:
    """What a program does to what varies, but for moves of elements."""
    varying = (eqn.name for eqn in program.equations if eqn.output in program.varying)
    return tuple(name for name in varying if name not in (*MOVES, "gather", "slice", "dynamic_slice", "concatenate"))


def _gist(program: Any, values: list[Any]) -> Any:
    """What two traces of one computation share: what it computes, but for moves of elements; and its numbers."""
    captured = [v for v, name in zip(values, program.names, strict=True) if name.startswith("captured/")]
    bytes_of = lambda found: tuple(np.asarray(v).tobytes() for v in found)
    names = tuple(eqn.name for eqn in program.equations if eqn.name not in MOVES)
    return names, bytes_of(captured), bytes_of(v for _, v in program.literals)


def _apart(eqn: Equation, came: Sequence[int | None], out: int) -> bool:
    """Whether an equation keeps rows, along those axes of its operands (None: the same for all), along `out`."""
    first, p, shape = came[0] if came else None, eqn.params, eqn.output.shape
    ours = eqn.inputs[0].shape if eqn.inputs else ()
    if eqn.name in ELEMENTWISE:
        return all(axis in (None, out) for axis in came)
    if eqn.name == "broadcast_in_dim":
        sources = p["broadcast_dimensions"]
        return all(axis is None for axis in came[1:]) and (sources[first] == out if first is not None else True)
    if eqn.name == "dot_general":
        (contracted, batch), (left, right) = p["dimension_numbers"], came
        if left is not None and right is not None:
            return (left, right) in zip(*batch, strict=True)
        return (left not in contracted[0]) if left is not None else right not in contracted[1]
    if eqn.name == "concatenate":
        return p["dimension"] != out and all(axis == out for axis in came)
    if eqn.name == "stack":
        (along,) = p.values()
        return all(axis is not None and axis + (axis >= along) == out for axis in came)
    if first is None or any(axis is not None for axis in came[1:]):
        return False
    if eqn.name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax"):
        return first not in p["axes"]
    if eqn.name in ("squeeze", "expand_dims"):
        return True  # axes of size 1 come and go; the order stays
    if eqn.name == "transpose":
        return p["permutation"][out] == first
    if eqn.name == "reshape":
        return np.prod(ours[:first], dtype=object) == np.prod(shape[:out], dtype=object)
    if eqn.name == "conv_general_dilated":
        numbers = p["dimension_numbers"]
        return numbers.lhs_spec[0] == first and numbers.out_spec[0] == out and p["batch_group_count"] == 1
    if eqn.name == "gather":  # the same places of every row
        numbers = p["dimension_numbers"]
        kept = [i for i in range(len(ours)) if i not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
        whole = first in kept and first not in numbers.start_index_map and p["slice_sizes"][first] == ours[first]
        return whole and numbers.offset_dims[kept.index(first)] == out
    if first != out:
        return False
    if eqn.name == "dynamic_slice":
        return p["slice_sizes"][out] == ours[out]  # so that the start is clamped to 0
    if eqn.name == "slice":
        return p["start_indices"][out] == 0 and (p["strides"] is None or p["strides"][out] == 1)
    if eqn.name == "pad":
        return tuple(p["padding_config"][out]) == (0, 0, 0)
    if eqn.name == "rev":
        return out not in p["dimensions"]
    if eqn.name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split"):
        return p["axis"] != out
    if eqn.name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min"):
        sizes = [p[name] for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation")]
        return tuple(p["padding"][out]) == (0, 0) and all(size[out] == 1 for size in sizes)
    return False


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
