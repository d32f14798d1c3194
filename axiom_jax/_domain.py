"""One table per meaning: a domain says what each primitive means, one interpreter runs them all.

A rule takes operands positionally and the primitive's parameters by keyword, as
`quax` rules do. Operands that do not depend on the inputs are plain arrays; the
others are values of the domain. What has no rule is refused, never guessed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import Equation, Program, Var

Rule = Callable[..., Any]


@dataclass(frozen=True)
class Domain:
    """An abstract meaning of programs.

    Args:
        name: the word used in tables and messages.
        value: the class of its values; whatever is not an instance is a known array.
        rules: from the name of a primitive to its rule (names, since not every primitive is public).
    """

    name: str
    value: type
    rules: dict[str, Rule] = field(default_factory=dict)

    def rule(self, *primitives: str) -> Callable[[Rule], Rule]:
        """Register the decorated function for some primitives; a second rule for one is refused."""

        def register(rule: Rule) -> Rule:
            for primitive in primitives:
                self.define(primitive, rule)
            return rule

        return register

    def define(self, primitive: str, rule: Rule) -> None:
        """Register a rule for one primitive."""
        if primitive in self.rules:
            raise ValueError(f"domain {self.name} has a rule for {primitive} already")
        self.rules[primitive] = rule

    def known(self, value: Any) -> bool:
        """Whether an operand is a plain array rather than a value of this domain."""
        return not isinstance(value, self.value)


def interpret(domain: Domain, program: Program, params: Sequence[Any], *inputs: Any) -> dict[Var, Any]:
    """Run a program in a domain.

    Args:
        params: the values of `program.params`, arrays.
        *inputs: a value of the domain for each of `program.inputs`.

    Returns:
        The value of every variable: arrays where it does not depend on the inputs.

    Raises:
        UnsupportedPrimitive: naming every equation that has no rule, before anything is computed.
    """
    require(domain, program)
    env = program.environment(params) | dict(zip(program.inputs, inputs, strict=True))
    for eqn in program.equations:
        operands = [env[v] for v in eqn.inputs]
        if all(map(domain.known, operands)):
            results = eqn.evaluate(*operands)
        else:
            results = domain.rules[eqn.name](*operands, **eqn.params)
            results = tuple(results) if eqn.primitive.multiple_results else (results,)
        env.update(zip(eqn.outputs, results, strict=True))
    return env


def missing(domain: Domain, program: Program) -> list[Equation]:
    """Every equation on a varying operand for which the domain has no rule, in order."""
    return [e for e in program.equations if e.name not in domain.rules and not program.varying.isdisjoint(e.inputs)]


def require(domain: Domain, program: Program, gaps: Iterable[Equation] | None = None) -> None:
    """Raise `UnsupportedPrimitive` listing all that is missing (or `gaps`), if anything is."""
    if gaps := list(missing(domain, program) if gaps is None else gaps):
        raise UnsupportedPrimitive(
            f"The domain {domain.name} has no rule for {', '.join(sorted({e.name for e in gaps}))}.",
            at="\n".join(dict.fromkeys(f"{eqn.at or 'unknown line'}: {eqn.name}" for eqn in gaps)),
            fix="rewrite these operations, or register a rule (BUILD.md, 'Adding a rule')",
        )
