"""Terms as sympy expressions: exact rationals, Piecewise for choices, Max, Min and Abs as they are.

sympy writes formulas out as trees, so what is shared in a program is repeated; beyond a size that is refused.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

import jax
import numpy as np

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import literal
from axiom_jax.verification.domains.algebra.reading import Reading, read
from axiom_jax.verification.domains.algebra.terms import Term

LENGTH = 100_000  # operations of a formula, written out
Rationals = Literal["exact", "short"]


def to_sympy(thing: Any, *specs: Any, sizes: dict[str, int] | None = None, rational: Rationals = "exact") -> Any:
    """A JAX function, a model or a statement as sympy expressions of real symbols, at concrete sizes.

    The symbols are named after the arguments: `x` for a number, `x_0`, `x_1`, ... for a vector, `x_0_1` for a matrix.
    sympy simplifies as it builds (x/x is 1), so where a formula is undefined is not told; `ax.to_smtlib` tells it.

    Args:
        thing: a JAX function, an `ax.Model`, or a statement.
        *specs: for a function, a `jax.ShapeDtypeStruct` for each argument, or an array where it is a known constant.
        sizes: what the named sizes of a statement are.
        rational: "exact": a float is the dyadic rational that it is. "short": it is shown as the shortest decimal that
            rounds to it as float32 (0.1, not 13421773/134217728), which is another number.

    Returns:
        For each array that the function returns an expression, a Matrix (vectors are columns), or a
        `sympy.Array` for more axes and for truth values; in the pytree that the function returns.

    Raises:
        UnsupportedPrimitive: listing every operation that has no meaning over the reals, with its line.
        SpecError: the formula is too long to be written out, or sizes are missing.

    >>> import jax.numpy as jnp
    >>> to_sympy(lambda x: jnp.sum(jax.nn.relu(x) ** 2), jax.ShapeDtypeStruct((2,), jnp.float32))
    Max(0, x_0)**2 + Max(0, x_1)**2
    """
    return shaped_expressions(read_with(rational, thing, specs, sizes))


def shaped_expressions(reading: Reading) -> Any:
    """The outputs of a reading as expressions, matrices and arrays in its pytree; of a statement its claim."""
    if reading.claim is not None:
        return expressions([reading.claim], reading)[0]
    arrays = list(reading.outputs.values())
    flat = expressions([t for a in arrays for t in a.ravel()], reading)
    ends = np.cumsum([a.size for a in arrays])
    shaped = [_shaped(flat[end - a.size : end], a.shape, any(t.boolean for t in a.ravel()))
              for a, end in zip(arrays, ends, strict=True)]  # fmt: skip
    return jax.tree.unflatten(reading.structure, shaped)


def expressions(roots: Sequence[Term], reading: Reading) -> list[Any]:
    """Some terms as sympy expressions.

    Raises:
        SpecError: written out they are too long.
    """
    length = written_length(roots)
    if length > LENGTH:
        raise SpecError("The formula is too long to be written out.", at=caller(),
                        got=f"{length:.3g} operations; the limit is {LENGTH}",
                        fix="ask at smaller sizes, or use ax.to_smtlib, which writes shared parts once")  # fmt: skip
    made = symbols(reading)
    form: dict[Term, Any] = {}
    for t in T.topological(roots):
        form[t] = made[t] if t.op == "variable" else _expression(t, [form[a] for a in t.args])
    return [form[t] for t in roots]


def written_length(roots: Sequence[Term]) -> int:
    """How many operations some terms have when nothing is shared."""
    count: dict[Term, int] = {}
    for t in T.topological(roots):
        count[t] = 1 + sum(count[a] for a in t.args)
    return sum(count[t] for t in roots)


def symbols(reading: Reading) -> dict[Term, Any]:
    """A real sympy symbol for every variable."""
    from sympy import Symbol

    names: dict[Term, str] = {}
    for name, array in reading.inputs.items():
        for index in np.ndindex(array.shape):
            names[array.item(index)] = "_".join([name, *map(str, index)])
    if len(set(names.values())) < len(names):  # an argument is called x_0 beside a vector x
        names = {t: t.value for t in names}
    return {t: Symbol(name, real=True) for t, name in names.items()}


def read_with(rational: Rationals, thing: Any, specs: Sequence[Any], sizes: dict[str, int] | None) -> Reading:
    """A reading whose float literals are exact, or the shortest decimals that round to them."""
    if rational not in ("exact", "short"):
        raise AxiomError("There is no such way to show numbers.", at=caller(), got=str(rational),
                         fix='rational="exact" or rational="short"')  # fmt: skip
    token = literal.set(T.number if rational == "exact" else _shortest)
    try:
        return read(thing, specs, sizes)
    finally:
        literal.reset(token)


def _shortest(value: float) -> Term:
    """The shortest decimal that rounds to the same float32.

    >>> _shortest(float(np.float32(0.1)))
    1/10
    """
    rounded = np.float32(value)
    if not np.isfinite(rounded) or float(rounded) != value:
        return T.number(value)
    return T.number(Fraction(np.format_float_positional(rounded, unique=True)))


def _shaped(flat: Sequence[Any], shape: tuple[int, ...], boolean: bool) -> Any:
    import sympy

    if not shape:
        return flat[0]
    if boolean or len(shape) > 2 or 0 in shape:
        return sympy.Array(list(flat), shape)
    return sympy.Matrix(*((*shape, 1)[:2]), list(flat))


def _expression(t: Term, args: list[Any]) -> Any:
    import sympy as S

    plain = all(a.is_Atom for a in args)  # what is longer takes sympy long to compare
    if t.op == "number":
        return S.Rational(t.value.numerator, t.value.denominator)
    if t.op == "call":
        return _functions()[t.value](args[0])
    if t.op in ("max", "min"):
        extreme: Any = S.Max if t.op == "max" else S.Min
        return extreme(*args, evaluate=plain)
    if t.op == "ite" and not t.boolean:
        return S.Piecewise((args[1], args[0]), (args[2], True), evaluate=False)
    if t.op == "root":
        return S.sqrt(args[0]) if t.value == 2 else S.sign(args[0]) * S.cbrt(S.Abs(args[0]))
    conjunction: Any = S.And
    disjunction: Any = S.Or
    makers: dict[str, Callable[[], Any]] = {
        "truth": lambda: S.true if t.value else S.false,
        "infinite": lambda: S.oo if t.value > 0 else -S.oo,
        "undefined": lambda: S.nan,
        "add": lambda: S.Add(*args),
        "mul": lambda: S.Mul(*args),
        "div": lambda: args[0] / args[1],
        "pow": lambda: args[0] ** t.value,
        "abs": lambda: S.Abs(args[0]),
        "floor": lambda: S.floor(args[0]),
        "ite": lambda: S.ITE(*args),
        "le": lambda: S.Le(args[0], args[1], evaluate=plain),
        "lt": lambda: S.Lt(args[0], args[1], evaluate=plain),
        "eq": lambda: S.Equivalent(*args) if t.args[0].boolean else S.Eq(args[0], args[1], evaluate=plain),
        "not": lambda: S.Not(args[0]),
        "and": lambda: conjunction(*args, evaluate=False),
        "or": lambda: disjunction(*args, evaluate=False),
    }
    return makers[t.op]()


def _functions() -> dict[str, Any]:
    import sympy as S

    return {
        "exp": S.exp, "log": S.log, "tanh": S.tanh, "erf": S.erf, "sin": S.sin, "cos": S.cos, "atan": S.atan,
        "asin": S.asin, "acos": S.acos, "erf_inv": S.erfinv, "lgamma": S.loggamma, "digamma": S.digamma,
        "logistic": lambda x: 1 / (1 + S.exp(-x)),
    }  # fmt: skip
