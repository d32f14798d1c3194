"""Functions as statements: `@ax.prove`, `@ax.forall(x=ax.Box(0, 1))`, `@ax.exists(...)`.

Arguments are the variables. Shapes and names of sizes come from jaxtyping annotations, regions from the decorator
or from `Annotated[Float[Array, "n"], ax.Box(0, 1)]`; an argument without either is a vector of length n.
"""

import inspect
import typing
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args, get_origin

import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._shapes_annotations import read as annotated
from axiom_jax._shapes_places import caller, definition
from axiom_jax.verification.regions import Box, Region
from axiom_jax.verification.spec.meaning import exact_in_float32
from axiom_jax.verification.spec.naming import REGIONS
from axiom_jax.verification.statement import REALS, Ball, Range, Statement, Variable

Quantifier = Literal["forall", "exists"]
MARK = "__axiom_quantified__"  # what decorators noted on a function: name -> (quantifier, region), outermost first
SIGNS = {"forall": "∀", "exists": "∃"}


def forall(*, timeout: float = 10.0, check: bool = True, **regions: Region) -> Callable[[Callable[..., Any]], Any]:
    """Prove that a function's condition holds for all its arguments in these regions.

    Args:
        timeout: wall seconds.
        check: whether a checker judges the proof.
        **regions: by the name of an argument: `ax.Box`, `ax.Linf`, `ax.L2`, `ax.L1`, `ax.Everything`. An argument
            that is not named is quantified by ∀, over its annotation's region or over the reals.

    Returns:
        A decorator; it leaves the function, with its `.verdict`.

    Raises:
        SpecError: there is no such argument.

    >>> @forall(x=Box(0, 1))
    ... def halves(x):
    ...     return x / 2 <= x
    >>> halves.verdict.text
    '∀x ∈ [0, 1]. halves(x)'
    """
    return _quantifying("forall", regions, timeout, check)


def exists(*, timeout: float = 10.0, check: bool = True, **regions: Region) -> Callable[[Callable[..., Any]], Any]:
    """Prove that there are arguments in these regions at which a function's condition holds.

    With every argument named here, below or in annotations, it is proved at once; else `@ax.forall` or `@ax.prove`
    above it quantifies over the others, which come first. Arguments are as for `forall`.

    >>> from axiom_jax.verification.proving import prove
    >>> @prove
    ... @exists(y=Box(0, None))
    ... def above(x, y):
    ...     return y >= x
    >>> above.verdict.text
    '∀x. ∃y ∈ [0, ∞). above(x, y)'
    """
    return _quantifying("exists", regions, timeout, check)


def _quantifying(quantifier: Quantifier, regions: dict[str, Any], timeout: float, check: bool) -> Callable[..., Any]:
    from axiom_jax.verification.proving import prove

    at = caller()
    for name, region in regions.items():
        if not isinstance(region, REGIONS):
            raise SpecError(f"{name} needs a region.", at=at, got=f"a {type(region).__name__}",
                            fix=f"write {name}=ax.Box(0, 1)")  # fmt: skip

    def decorate(fn: Callable[..., Any]) -> Any:
        bare = getattr(fn, "__wrapped__", fn) if hasattr(fn, "verdict") else fn
        known = {name: (quantifier, region) for name, region in regions.items()}
        setattr(bare, MARK, known | {k: v for k, v in getattr(bare, MARK, {}).items() if k not in known})
        named = set(getattr(bare, MARK)) | {name for name, hint in _hints(bare).items() if hint is not None}
        arguments = _arguments(bare, at)
        for name in regions:
            if name not in arguments:
                raise SpecError(f"The function has no argument {name}.", at=definition(bare) or at,
                                got=", ".join(arguments), fix="name its arguments")  # fmt: skip
        if quantifier == "exists" and not named.issuperset(arguments):
            return bare
        return prove(bare, timeout=timeout, check=check)

    return decorate


def statement_of(fn: Callable[..., Any], at: str | None = None) -> Statement:
    """The statement that a function makes of its arguments.

    Args:
        fn: gives a bool, an array of bools, or a condition such as `ax.finite(x)`.
        at: the user's line, if it is not the function's own.

    Raises:
        SpecError: no arguments, or an annotation that is not understood.

    >>> statement_of(lambda x: x >= 0).variables[0].shape
    ('n',)
    """
    at = definition(fn) or at
    marked: dict[str, tuple[Quantifier, Region]] = getattr(fn, MARK, {})
    arguments = _arguments(fn, at)
    hints = _hints(fn)
    order = [name for name in arguments if name not in marked] + list(marked)
    variables, restrictions = [], {}
    for name in order:
        quantifier, region = marked.get(name, ("forall", None))
        variable, array_box = _variable(name, quantifier, region, hints.get(name), at)
        variables.append(variable)
        if array_box is not None:
            restrictions[name] = array_box
    constants = tuple(dict.fromkeys(x for box in restrictions.values() for end in (box.lo, box.hi)
                                    for x in _entries(end) if not exact_in_float32(x)))  # fmt: skip
    called = f"{getattr(fn, '__name__', 'condition')}({', '.join(arguments)})"
    text = "".join(f"{SIGNS[v.quantifier]}{v.name}{_domain(v, restrictions.get(v.name))}. " for v in variables) + called

    def condition(*given: Any) -> Any:
        values = dict(zip(order, given, strict=False))
        scalars = dict(zip(constants, given[len(order) :], strict=True))
        found = fn(**values)
        found = _boolean(getattr(found, "holds", found), called, at)
        for variable in reversed(variables):
            if (box := restrictions.get(variable.name)) is not None:
                inside = _inside(values[variable.name], box, scalars)
                found = jnp.all(found)
                found = inside & found if variable.quantifier == "exists" else ~inside | found
        return found

    return Statement(text, tuple(variables), condition, constants, at)


def _arguments(fn: Callable[..., Any], at: str | None) -> list[str]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    wrong = [p for p in parameters if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not parameters or wrong:
        raise SpecError("The arguments of the function are its variables.", at=at,
                        got=str(wrong[0]) if wrong else "no arguments", fix="def claim(x): return ...")  # fmt: skip
    return [p.name for p in parameters if p.default is p.empty]


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of the arguments; None for those without."""
    try:
        found = typing.get_type_hints(fn, include_extras=True)
    except Exception:
        found = dict(getattr(fn, "__annotations__", {}))
    return {name: hint for name, hint in found.items() if name != "return"}


def _variable(
    name: str, quantifier: Quantifier, region: Region | None, hint: Any, at: str | None
) -> tuple[Variable, Box | None]:
    """The variable, and its region where that is a box with an end for every component."""
    shape: tuple[int | str, ...] | None = None
    if get_origin(hint) is Annotated:
        own = [item for item in get_args(hint)[1:] if isinstance(item, REGIONS)]
        region = region if region is not None else next(iter(own), None)
    if hint in (float, int):
        shape = ()
    elif hint is not None:
        known = annotated(hint)
        if known is not None:
            shape = tuple(int(dim) if dim.isdigit() else dim for dim in known.dims)
            odd = [dim for dim in shape if isinstance(dim, str) and not dim.isidentifier()]
            if odd:
                raise SpecError(f"The size {odd[0]} of {name} is neither a number nor a name.", at=at,
                                fix="give each size a name of its own")  # fmt: skip
    if isinstance(region, Box) and region.shape is not None:
        return Variable(name, shape or region.shape, REALS, quantifier), region
    within = REALS if region is None else region.within()
    if shape is None and isinstance(within, Ball):
        shape = np.shape(within.center) or None
    return Variable(name, shape if shape is not None else ("n",), within, quantifier), None


def _domain(variable: Variable, box: Box | None) -> str:
    within = variable.within
    shape = "" if variable.shape == ("n",) else "^(" + " × ".join(map(str, variable.shape)) + ")"
    shape = f"^{variable.shape[0]}" if len(variable.shape) == 1 and shape else shape
    if box is not None:
        return f" ∈ ({box})"
    if isinstance(within, Range):
        return f" ∈ {within}{shape}" if within != REALS else f" ∈ R{shape}" if shape else ""
    center = "0" if np.ndim(within.center) == 0 else "…"
    return f" ∈ ball({center}, {within.radius}, {within.order}){shape}"


def _entries(end: Any) -> list[Fraction]:
    return [] if end is None else list(np.ravel(np.array(end, dtype=object)))


def _inside(x: Any, box: Box, scalars: dict[Fraction, Any]) -> Any:
    """Whether an array is in a box with an end for every component."""
    held = jnp.asarray(True)
    for end, opened, sign in ((box.lo, box.lo_open, 1), (box.hi, box.hi_open, -1)):
        if end is None:
            continue
        exact = np.array(end, dtype=object)
        parts = [scalars[e] if e in scalars else jnp.float32(float(e)) for e in exact.ravel()]
        known = jnp.stack(parts).reshape(exact.shape) if any(e in scalars for e in exact.ravel()) else (
            exact.astype(np.float32))  # fmt: skip
        low, high = (known, x) if sign > 0 else (x, known)
        held = held & jnp.all(low < high if opened else low <= high)
    return held


def _boolean(found: Any, called: str, at: str | None) -> Any:
    array = jnp.asarray(found) if isinstance(found, (bool, np.bool_)) or hasattr(found, "dtype") else None
    if array is None or array.dtype != bool:
        got = f"a {type(found).__name__}" if array is None else f"an array of {array.dtype}"
        raise SpecError("A statement is a condition.", at=at, got=f"{called} gives {got}", fix="return f(x) >= 0")
    return array
