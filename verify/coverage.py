"""Which primitive has a meaning in which domain: the table of docs/coverage.md, made from the tables themselves."""

from collections.abc import Callable

from axiom_jax.verification.domains.interval import interval
from axiom_jax.verification.domains.linear import BILINEAR, FIRST_OPERAND, LINEAR
from axiom_jax.verification.lowering import LOWERINGS
from axiom_jax.verification.proof.ir import MOVES, ir
from axiom_jax.verification.relax import relaxation

HEAD = """# Coverage

Primitives of JAX by domain, made from the rule tables (`pytest --update-golden` writes this page). What has no entry is
refused by name and line, never guessed.

* **interval**: interval bounds.
* **linear**: backward linear bounds; *transpose* passes a linear primitive by its own transpose, *one variable* does so
  where only one operand varies, *lines* encloses a nonlinear one between two, *rewritten* expresses it by `max(x, 0)`.
* **certificate**: what the checker can be told; *constants* only of values that do not depend on the input.

| primitive | interval | linear | certificate |
|---|---|---|---|
"""
CONSTANTS_ONLY = {"sqrt", "rsqrt", "integer_pow"}


def coverage() -> str:
    """The page as Markdown.

    >>> "| tanh | yes | lines | yes |" in coverage()
    True
    """
    names = {*interval.rules, *LINEAR, *BILINEAR, *FIRST_OPERAND, *LOWERINGS, *relaxation.rules, *ir.rules, *MOVES}
    rows = [f"| {name} | {_mark(name in interval.rules)} | {_linear(name)} | {_certificate(name)} |" for name in names]
    return HEAD + "\n".join(sorted(rows)) + "\n"


def _mark(present: bool) -> str:
    return "yes" if present else ""


def _linear(name: str) -> str:
    kinds: list[tuple[str, Callable[[str], bool]]] = [
        ("lines", lambda n: n in relaxation.rules),
        ("rewritten", lambda n: n in LOWERINGS),
        ("transpose", lambda n: n in LINEAR or n == "select_n"),
        ("one variable", lambda n: n in BILINEAR or n in FIRST_OPERAND),
    ]
    return next((word for word, holds in kinds if holds(name)), "")


def _certificate(name: str) -> str:
    if name in CONSTANTS_ONLY:
        return "constants"
    if name in LOWERINGS and name not in ir.rules:
        return "rewritten"
    return _mark(name in ir.rules or name in MOVES)
