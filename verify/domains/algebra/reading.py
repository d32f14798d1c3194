"""What is to be written down: a function, a model or a statement at concrete sizes, as terms."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._program import build
from axiom_jax._shapes_places import caller, calling
from axiom_jax.model import Model
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import Terms, term_inputs
from axiom_jax.verification.domains.algebra.evaluating import evaluate
from axiom_jax.verification.domains.algebra.meaning import surely
from axiom_jax.verification.domains.algebra.terms import Term
from axiom_jax.verification.statement import Ball, Statement, Variable


@dataclass(frozen=True, eq=False)
class Reading:
    """A function or statement at concrete sizes.

    Args:
        title: what was read, in words.
        inputs: for each argument (a leaf of a pytree each) the array of its variables, by name.
        outputs: the arrays of terms that come out, by name.
        structure: the pytree that the outputs form.
        hypotheses: what a statement supposes of its variables, by variable.
        claim: the condition of a statement: surely true, so also defined. None for a function.
        quantifiers: "forall" or "exists" for each input of a statement, outermost first.
    """

    title: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    structure: Any
    hypotheses: dict[str, list[Term]]
    claim: Term | None = None
    quantifiers: tuple[str, ...] = ()


def read(thing: Any, specs: Sequence[Any], sizes: dict[str, int] | None = None) -> Reading:
    """Trace and write down.

    Args:
        thing: a JAX function, a `Model`, or a `Statement`, also as text.
        specs: for functions, pytrees whose leaves are `jax.ShapeDtypeStruct` (variables) or arrays (constants, exact);
            a model may be given none if its signature says all sizes.
        sizes: what the named sizes of a statement are.

    Raises:
        SpecError: sizes are missing, or not numbers. UnsupportedPrimitive: listing what has no meaning over the reals.
    """
    if isinstance(thing, str):
        thing = statement_of_text(thing)
    if isinstance(thing, Statement):
        return _statement(thing, specs, sizes or {})
    if not callable(thing):
        raise AxiomError("This is neither a function, nor a model, nor a statement.", at=caller(),
                         got=f"a {type(thing).__name__}", fix="give a JAX function and a jax.ShapeDtypeStruct for each "
                         "of its arguments")  # fmt: skip
    if isinstance(thing, Model) and not specs:
        specs = [jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for _, shape, dtype in thing.signature.inputs
                 if all(isinstance(n, int) for n in shape)]  # fmt: skip
        if not specs or len(specs) != len(thing.signature.inputs):
            raise SpecError("The sizes of the model's inputs are not known.", at=caller(), got=str(thing.signature),
                            fix="give a jax.ShapeDtypeStruct with numbers for each input")  # fmt: skip
    return _function(thing, specs)


def statement_of_text(text: str) -> Statement:
    """The statement that the user's text makes, with the names of the user's line."""
    from axiom_jax.verification.spec.notation import read as read_text

    place = calling()
    return read_text(text, frame=place.frame if place else None, at=place.at if place else None)


def _called_with(fn: Callable[..., Any], specs: Sequence[Any]) -> None:
    """Refuse another number of specifications than the function has arguments."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*specs)
    except TypeError as error:
        count = "none" if not specs else str(len(specs))
        raise SpecError("Each argument of the function needs its shape.", at=caller(),
                        got=f"{count} for {getattr(fn, '__name__', 'the function')}{signature}: {error}"[:300],
                        fix="give a jax.ShapeDtypeStruct((2, 3), jnp.float32) for each argument") from None  # fmt: skip


def _function(fn: Callable[..., Any], specs: Sequence[Any]) -> Reading:
    _called_with(fn, specs)
    leaves, tree = jax.tree.flatten(tuple(specs))
    paths = [path for path, _ in jax.tree.leaves_with_path(tuple(specs))]
    names = [_name(argument_names(fn, len(specs)), path) for path in paths]
    varies = [isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves]
    for name, leaf, v in zip(names, leaves, varies, strict=True):
        sized = not v or all(isinstance(n, int) for n in leaf.shape)
        if not sized or (v and np.dtype(leaf.dtype).kind != "f"):
            raise SpecError(f"The argument {name} is no array of reals at concrete sizes.", at=caller(), got=str(leaf),
                            fix="give jax.ShapeDtypeStruct((2, 3), jnp.float32), or a known array")  # fmt: skip
    shape: list[Any] = []

    def run(_: tuple[()], *given: Any) -> list[Any]:
        unread = iter(given)
        filled = [next(unread) if v else leaf for v, leaf in zip(varies, leaves, strict=True)]
        out, structure = jax.tree.flatten(fn(*tree.unflatten(filled)))
        shape[:] = [structure]
        return out

    program, params = build(run, (), *(leaf for v, leaf in zip(varies, leaves, strict=True) if v))
    inputs = {name: term_inputs(name, leaf.shape) for name, leaf, v in zip(names, leaves, varies, strict=True) if v}
    out = evaluate(program, params, *inputs.values())
    (structure,) = shape
    numbered = jax.tree.leaves_with_path(structure.unflatten(range(structure.num_leaves)))
    outputs = {"output" + _path(path): out[i] for path, i in numbered}
    title = f"{getattr(fn, '__name__', None) or getattr(fn, 'name', 'function')}"
    arrays = {name: x.array for name, x in inputs.items()}
    return Reading(title, arrays, outputs, structure, {name: [] for name in arrays})


def argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """What the function calls its arguments, or x0, x1... where it does not say."""
    if isinstance(fn, Model):
        names = [name for name, _, _ in fn.signature.inputs]
    else:
        try:
            kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            names = [p.name for p in inspect.signature(fn).parameters.values() if p.kind in kinds]
        except (TypeError, ValueError):
            names = []
    found = [name if name.isidentifier() else f"x{i}" for i, name in enumerate(names)]
    return (found + [f"x{i}" for i in range(len(found), count)])[:count]


def _name(names: Sequence[str], path: Any) -> str:
    return str(names[path[0].idx]) + _path(path[1:])


def _path(path: Any) -> str:
    text = jax.tree_util.keystr(tuple(path), simple=True, separator=".")
    return f".{text}" if text else ""


def _statement(statement: Statement, specs: Sequence[Any], sizes: dict[str, int]) -> Reading:
    unknown = [n for n in statement.sizes if n not in sizes]
    if specs or unknown or any(not isinstance(n, int) or n < 1 for n in sizes.values()):
        names = ", ".join(f'"{n}": 2' for n in statement.sizes)
        raise SpecError("A statement is written down at given sizes.", at=statement.at, got=", ".join(unknown) or None,
                        fix=f"sizes={{{names}}}, integers from 1 on")  # fmt: skip
    shapes = [s.shape for s in statement.sized(sizes)]
    program, params = build(lambda _, *xs: statement.condition(*xs), (), *statement.sized(sizes))
    arrays = {v.name: term_inputs(v.name, shape) for v, shape in zip(statement.variables, shapes, strict=False)}
    constants = [Terms(np.array(T.number(c), object)) for c in statement.constants]
    (condition,) = evaluate(program, params, *arrays.values(), *constants)
    claim = surely(T.land(t if t.boolean else T.ne(t, T.ZERO) for t in condition.ravel()))
    hypotheses = {v.name: within(v, arrays[v.name].array) for v in statement.variables}
    size = ", ".join(f"{name} = {n}" for name, n in sizes.items() if name in statement.sizes)
    title = statement.text + (f"  (at {size})" if size else "")
    tree = jax.tree.structure(0)
    inputs = {name: x.array for name, x in arrays.items()}
    kinds = tuple(v.quantifier for v in statement.variables)
    return Reading(title, inputs, {"condition": condition}, tree, hypotheses, claim, kinds)


def within(v: Variable, array: np.ndarray) -> list[Term]:
    """That the entries lie where the variable lives."""
    region, entries = v.within, array.ravel().tolist()
    if isinstance(region, Ball):
        centre = np.broadcast_to(np.asarray(region.center, object), array.shape).ravel()
        off = [T.sub(x, T.number(c if isinstance(c, Fraction) else Fraction(float(c))))
               for x, c in zip(entries, centre, strict=True)]  # fmt: skip
        below = T.lt if region.open else T.le
        if region.order == "inf":
            return [f for d in off for f in (below(d, T.number(region.radius)), below(T.number(-region.radius), d))]
        if region.order == 1:
            return [below(T.add(T.absolute(d) for d in off), T.number(region.radius))]
        return [below(T.add(T.power(d, 2) for d in off), T.number(region.radius**2))]
    found = []
    for x in entries:
        if region.lo is not None:
            found.append((T.lt if region.lo_open else T.le)(T.number(region.lo), x))
        if region.hi is not None:
            found.append((T.lt if region.hi_open else T.le)(x, T.number(region.hi)))
    return found
