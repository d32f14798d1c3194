"""From an exception that JAX raises while tracing to a `ShapeError` about the user's expression.

The failing expression is read from the source and its parts are evaluated on shapes alone. A fix is a
rewritten expression that was tried in the same way before it is offered.
"""

import ast
import re
from collections.abc import Sequence
from typing import Any

import jax

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._shapes_failure import Failure, evaluate, failure_of, sentence
from axiom_jax._shapes_operations import OPERATIONS, foreign_call, reshaped
from axiom_jax._shapes_places import Place, calls_on_line, failing, raised_by_user
from axiom_jax._shapes_text import shape_text

ABOUT_SHAPES = re.compile(
    r"shape|size|dimension|\bdims?\b|rank|\bax[ie]s\b|broadcast|contract|ndim|divi|_DimExpr|index|indices", re.I
)
UNDECIDED = "annotate that axis with a number, or state a bound in constraints=[...]"


def explain(error: Exception) -> ShapeError | None:
    """A `ShapeError` for an exception raised while tracing; None if it is not about shapes.

    Must be called where the trace is still alive, in the traced function.
    """
    if isinstance(error, AxiomError):
        return error if isinstance(error, ShapeError) else None
    symbolic = isinstance(error, jax.errors.InconclusiveDimensionOperation) or "_DimExpr" in str(error)
    place = failing(error.__traceback__)
    if place is None:
        return None
    if not symbolic and raised_by_user(error.__traceback__):
        return missing_axis(place) if isinstance(error, (IndexError, ValueError)) else None
    failure = failure_of(place, error)
    if failure is not None:
        found = foreign_call(failure) or OPERATIONS.get(failure.operation, lambda failure: None)(failure)
        if found is not None:
            return found
    if symbolic:
        return undecided(error, place, failure)
    if not ABOUT_SHAPES.search(str(error)):
        return None
    what = f"`{place.source}` cannot take these shapes" if place.source else "The shapes do not fit"
    got = failure.got() if failure is not None and failure.operands else None
    return ShapeError(f"{what}: {sentence(error)}.", at=place.at, got=got)


def undecided(error: Exception, place: Place, failure: Failure | None) -> ShapeError:
    """A size was asked for a number or a decision that differs between sizes."""
    subject = f"`{place.source}`" if place.source else "The function"
    if not isinstance(error, jax.errors.InconclusiveDimensionOperation):
        got = failure.got() if failure is not None and failure.operands else "a symbolic size"
        what = f"{subject} needs a number where the size may be anything."
        return ShapeError(what, at=place.at, got=got, fix="annotate that axis with a number")
    comparison = re.search(r"comparison '(.*?)' (\S+) '(.*?)' is inconclusive", str(error))
    got = f"{' '.join(comparison.groups())}, which some sizes satisfy" if comparison else sentence(error)
    return ShapeError(f"{subject} depends on a size that may be anything.", at=place.at, got=got, fix=UNDECIDED)


def missing_axis(place: Place) -> ShapeError | None:
    """For `x.shape[2]` and `a, b = x.shape` where x has another number of axes."""
    match place.node:
        case ast.Subscript(value=ast.Attribute(value=array, attr="shape")):
            names = None
        case ast.Assign(targets=[ast.Tuple(elts=elements)], value=ast.Attribute(value=array, attr="shape")):
            names = [ast.unparse(element) for element in elements]
        case _:
            return None
    spec, subject = evaluate(place, array), ast.unparse(array)
    if not hasattr(spec, "shape"):
        return None
    count, got = len(spec.shape), f"{subject} {shape_text(spec)}"
    if names is None or not count:
        what = f"`{place.source}` names an axis that is not there."
        fix = f"use {subject}.shape[{count - 1}], its last axis" if count else f"give it an axis: {subject}[None]"
        return ShapeError(what, at=place.at, got=got, fix=fix)
    what = f"`{place.source}` takes {len(names)} sizes of {count}."
    named = ", ".join([*names, *(f"axis{i}" for i in range(len(names), count))][:count])
    return ShapeError(what, at=place.at, got=got, fix=f"write {named}{',' if count == 1 else ''} = {subject}.shape")


def bad_reshape(at: str, before: Sequence[Any], after: Sequence[Any], dtype: Any) -> ShapeError:
    """For a reshape that changes the number of elements, which JAX does not check for symbolic sizes."""
    calls = [call for call in calls_on_line(at) if isinstance(call.func, ast.Attribute) and call.func.attr == "reshape"]
    operand, source = "x", "reshape"
    if len(calls) == 1:
        call = calls[0]
        method = isinstance(call.func, ast.Attribute) and not (
            isinstance(call.func.value, ast.Name) and call.func.value.id in ("jnp", "np", "lax", "numpy")
        )
        subject = call.func.value if method and isinstance(call.func, ast.Attribute) else call.args[0]
        operand, source = ast.unparse(subject), ast.unparse(call)
    return reshaped(source, operand, at, before, after, dtype)
