"""A claim in the kernel's terms: what the provers prove, what the solvers are asked and what refutation evaluates."""

from dataclasses import dataclass

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node


@dataclass(frozen=True, eq=False)
class Theorem:
    """For all sizes ≥ 1 and all real arrays, the hypotheses imply the goal.

    Args:
        text: the claim as the user wrote it.
        sizes: names of sizes.
        variables: the free variables, each with its shape.
        hypotheses: where they live.
        goal: what is claimed, and that everything in it is defined. Variables that are quantified after an ∃ are
            bound in it by `exists` and `forall`.
        needed: the part of the goal that says that everything is defined.
        abstracted: arrays of the program that stand as free variables here, by name. A proof of such a theorem
            proves the claim, a counterexample to it says nothing.
        names: pairs of a variable's name in the statement and here, where the kernel's names cannot be the same.
    """

    text: str
    sizes: tuple[str, ...]
    variables: tuple[tuple[str, tuple[Affine, ...]], ...]
    hypotheses: tuple[Node, ...]
    goal: Node
    needed: tuple[Node, ...] = ()
    abstracted: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()

    def name(self, variable: str) -> str:
        """The name here of one of the statement's variables."""
        return dict(self.names).get(variable, variable)

    def __str__(self) -> str:
        """The theorem in words, in the kernel's notation."""
        shapes = [f"{name}[{', '.join(map(kernel.show_index, shape))}]" for name, shape in self.variables]
        lines = [f"for all {', '.join([*self.sizes, *shapes])}:"] if self.sizes or shapes else []
        lines += [f"  given {kernel.show(h)}" for h in self.hypotheses]
        return "\n".join([*lines, f"  {kernel.show(self.goal)}"])
