"""Which primitive has a meaning in which domain: the table of docs/coverage.md, made from the tables themselves."""

from collections.abc import Callable

from axiom_jax.verification.domains.algebra.evaluating import reals
from axiom_jax.verification.domains.algebra.moves import MOVES as MOVED
from axiom_jax.verification.domains.curves import ELEMENTWISE
from axiom_jax.verification.domains.interval import interval
from axiom_jax.verification.domains.linear import BILINEAR, FIRST_OPERAND, LINEAR
from axiom_jax.verification.domains.symbolic.translate import symbolic
from axiom_jax.verification.gating import COMPARISONS, LOGIC
from axiom_jax.verification.lowering import LOWERINGS
from axiom_jax.verification.proof.ir import MOVES, ir
from axiom_jax.verification.relax import relaxation

HEAD = """# Coverage

Primitives of JAX by domain, made from the rule tables (`pytest --update-golden` writes this page). What has no entry is
refused by name and line, never guessed.

* **interval**: interval bounds.
* **linear**: backward linear bounds; *transpose* passes a linear primitive by its own transpose, *planes* bounds a
  product of two variables (and passes one of a known value by its transpose), *lines* encloses a nonlinear one
  between two, *rewritten* expresses it by others, *decides* turns what a comparison decides into gates, *curve* takes
  an elementwise function of one variable whole, *interval* ends the bound at the primitive's interval.
* **certificate**: what the checker can be told.
* **symbolic**: terms for every size (`ax.prove`).
* **reals**: terms at given sizes (`ax.to_smtlib`, `ax.to_sympy`); *moves* only moves elements.

| primitive | interval | linear | certificate | symbolic | reals |
|---|---|---|---|---|---|
"""
DECIDES = COMPARISONS | LOGIC | {"sign", "select_n", "is_finite", "reduce_and", "reduce_or"}  # written with gates
SIMPLIFIED = {"add_any", "square", "sign"}  # on the way to gates


def coverage() -> str:
    """The page as Markdown.

    >>> "| tanh | yes | lines | yes | yes | yes |" in coverage()
    True
    """
    names = {*interval.rules, *LINEAR, *BILINEAR, *FIRST_OPERAND, *LOWERINGS, *relaxation.rules, *ir.rules, *MOVES,
             *symbolic.rules, *reals.rules, *MOVED}  # fmt: skip
    rows = ["| " + " | ".join([name, _mark(name in interval.rules), _linear(name), _certificate(name),
                               _mark(name in symbolic.rules), _reals(name)]) + " |" for name in names]  # fmt: skip
    return HEAD + "\n".join(sorted(rows)) + "\n"


def _mark(present: bool) -> str:
    return "yes" if present else ""


def _reals(name: str) -> str:
    return "moves" if name in MOVED else _mark(name in reals.rules)


def _linear(name: str) -> str:
    kinds: list[tuple[str, Callable[[str], bool]]] = [
        ("lines", lambda n: n in relaxation.rules),
        ("decides", lambda n: n in DECIDES),
        ("rewritten", lambda n: n in LOWERINGS or n == "square"),
        ("transpose", lambda n: n in LINEAR or n in FIRST_OPERAND),
        ("planes", lambda n: n in BILINEAR),
        ("curve", lambda n: n in ELEMENTWISE),
        ("interval", lambda n: n in interval.rules),
    ]
    return next((word for word, holds in kinds if holds(name)), "")


def _certificate(name: str) -> str:
    if name in DECIDES:
        return "decides"
    if (name in LOWERINGS or name in SIMPLIFIED) and (name not in ir.rules or name == "rsqrt"):
        return "rewritten"
    return _mark(name in ir.rules or name in MOVES)
