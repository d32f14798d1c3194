"""`ax.lint`: trace once more, bound once, and tell what was seen."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax import shapes
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._program import build
from axiom_jax._shapes_places import caller, failing
from axiom_jax._trace import trace
from axiom_jax.linting.dtypes import precision, promotions, truncations, weak_types
from axiom_jax.linting.numerics import numerics
from axiom_jax.linting.repeatability import baked_in, dead_parameters, recompiles, unrepeatable
from axiom_jax.linting.report import Finding, Report
from axiom_jax.model import Model, Signature, check_shapes
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.regions import Region
from axiom_jax.verification.search.margins import nearest


def lint(
    model: Any, *specs: Any, region: Region | Sequence[Region] | None = None, backend: str | None = None
) -> Report:
    """What in a model will surprise: shapes, dtypes, numbers, compilation.

    Findings have a rule, a severity ("error": it happens; "warning": it can; "note"), a place and a fix. Rules:
    shape, control-flow; weak-type, promotion, truncation, precision; division, log, sqrt, exp, power, domain,
    overflow, unbounded; dead-parameter, constant-output; captured-array, recompilation, non-determinism, callback.

    Args:
        model: a model, or a function of arrays.
        *specs: an array or `jax.ShapeDtypeStruct` an input; where the model's signature or the function's
            annotations say them, they may be left out.
        region: where the inputs live, one region or one an input (`ax.Box(0, 1)`). Without it every finite input
            is allowed for, and overflow of sums and products is not told.
        backend: what the model will run on ("cpu" leaves out what concerns accelerators).

    Returns:
        A report: a table in a terminal or notebook, iterable, `.clean`, `.to_dict()`.

    Raises:
        AxiomError: nothing says what the inputs look like.

    >>> report = lint(lambda x: jnp.log(x), jax.ShapeDtypeStruct((3,), "float32"))
    >>> [(finding.rule, finding.severity) for finding in report if finding.rule == "log"]
    [('log', 'error')]
    """
    name = getattr(model, "name", None) or getattr(model, "__name__", "function")
    try:
        signature, inputs = _inputs(model, specs)
    except ShapeError as error:
        told = error.errors or (error,)
        found = tuple(Finding("shape", "error", e.what, e.at, e.got, e.fix) for e in told)
        return Report(name, found, "not reached")
    boxes, words = _boxes(region, inputs)
    fn, params = (model.apply, model.params) if isinstance(model, Model) else (_plain(model), ())
    return Report(name, tuple(_findings(fn, params, inputs, boxes, signature, region is not None, backend)), words)


def _findings(
    fn: Callable[..., Any],
    params: Any,
    inputs: Sequence[jax.ShapeDtypeStruct],
    boxes: Sequence[Interval],
    signature: Signature | None,
    declared: bool,
    backend: str | None,
) -> Iterator[Finding]:
    leaves = [(jax.tree_util.keystr(path, simple=True, separator="/") or "params", leaf)
              for path, leaf in jax.tree.leaves_with_path(params)]  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            closed = trace(fn, params, *inputs)
        except Exception as error:
            yield _refused(error, lambda: shapes.infer(fn, params, *inputs))
            return
    yield from truncations(caught, leaves)
    yield from weak_types(leaves, closed.out_avals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said above
        program, values = build(fn, params, *inputs)
        again, values_again = build(fn, params, *inputs)
    yield from unrepeatable(program, again, values, values_again)
    yield from dead_parameters(program, len(leaves))
    yield from baked_in(program, len(leaves))
    yield from promotions(program)
    yield from precision(program, backend)
    yield from recompiles(signature)
    yield from numerics(program, [jnp.asarray(v) if isinstance(v, (int, float, np.ndarray)) else v for v in values],
                        boxes, declared)  # fmt: skip


def _refused(error: Exception, explain: Callable[[], Any]) -> Finding:
    """Why a function cannot be traced."""
    undecided = isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError)
    if not undecided and not isinstance(error, AxiomError):
        try:
            explain()
        except ShapeError as explained:
            error = explained
        except Exception:  # the first error is told: nothing explains it better
            pass
    if isinstance(error, AxiomError):
        rule = "shape" if isinstance(error, ShapeError) else "tracing"
        return Finding(rule, "error", error.what, error.at, error.got, error.fix)
    if undecided:
        return Finding("control-flow", "error", "Python decides by a value that is known only when the program runs.",
                       _line(error), type(error).__name__,
                       "use jnp.where or jax.lax.cond, or pass the value as a static argument")  # fmt: skip
    got = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return Finding("tracing", "error", "The function cannot be traced.", _line(error), got,
                   "call it once outside of jit to see why")  # fmt: skip


def _line(error: BaseException) -> str | None:
    """The user's innermost line in a traceback."""
    place = failing(error.__traceback__)
    return place.at if place is not None else None


def _plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *inputs: fn(*inputs)


def _inputs(model: Any, specs: Sequence[Any]) -> tuple[Signature | None, tuple[jax.ShapeDtypeStruct, ...]]:
    """Signature, and specs with numbers: distinct primes for the sizes that are open."""
    if specs:
        shaped = [s if hasattr(s, "shape") and hasattr(s, "dtype") else jnp.asarray(s) for s in specs]
        found = tuple(jax.ShapeDtypeStruct(tuple(s.shape), s.dtype) for s in shaped)
        return (model.signature if isinstance(model, Model) else None), found
    signature = model.signature if isinstance(model, Model) else _annotated(model)
    if not signature.inputs:
        raise AxiomError("Nothing says what the inputs look like.", at=caller(), got=repr(model),
                         fix='ax.lint(model, jax.ShapeDtypeStruct((1, 784), "float32"))')  # fmt: skip
    constraints = [*signature.constraints]
    names = sorted({size for _, shape, _ in signature.inputs for size in shape if isinstance(size, str)})
    made = jax.export.symbolic_shape(", ".join(names), constraints=constraints) if names else ()
    symbolic = dict(zip(names, made, strict=True))
    opened = tuple(
        jax.ShapeDtypeStruct(tuple(symbolic[n] if isinstance(n, str) else n for n in shape), np.dtype(dtype))
        for _, shape, dtype in signature.inputs
    )
    return signature, shapes.sized(opened, shapes.numbers(opened, constraints))


def _annotated(fn: Any) -> Signature:
    if not callable(fn):
        raise AxiomError("A lint is of a model or a function.", at=caller(), got=f"a {type(fn).__name__}",
                         fix="ax.lint(model)")  # fmt: skip
    try:
        return check_shapes(fn)
    except ShapeError:
        raise
    except AxiomError:
        return Signature()


def _boxes(region: Any, inputs: Sequence[Any]) -> tuple[list[Interval], str]:
    given = list(region) if isinstance(region, (list, tuple)) else [region] * len(inputs)
    if len(given) != len(inputs):
        raise AxiomError(f"There are {len(given)} regions for {len(inputs)} inputs.", at=caller(),
                         fix="give one region, or one for each input")  # fmt: skip
    words = "every finite number" if region is None else ", ".join(dict.fromkeys(map(str, given)))
    return [_box(r, s) for r, s in zip(given, inputs, strict=True)], words


def _box(region: Any, s: jax.ShapeDtypeStruct) -> Interval:
    """The region's box in the input's dtype; integers and bools of any value where nothing is given."""
    dtype = np.dtype(s.dtype)
    if region is None or not hasattr(region, "bounds") or type(region).__name__ == "Everything":
        if dtype.kind == "b":
            return Interval(jnp.zeros(s.shape, bool), jnp.ones(s.shape, bool))
        ends = (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max) if dtype.kind in "iu" else (-jnp.inf, jnp.inf)
        return Interval(jnp.full(s.shape, ends[0], dtype), jnp.full(s.shape, ends[1], dtype))
    lo, hi = region.bounds(s.shape)
    number = (lambda x: float(nearest(x))) if dtype.kind == "f" else float
    return Interval(*(jnp.asarray(np.array([number(x) for x in end]).reshape(s.shape), dtype) for end in (lo, hi)))
