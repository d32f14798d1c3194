"""Proofs of theorems over all sizes: a search whose result the kernel has accepted.

The search may use floats and guesses; it returns a derivation only after `derivation_checker.check` accepted its bytes.
"""

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.domains.symbolic.sequents import Budget, Context, Hypothesis, OutOfTime, preorder
from axiom_jax.verification.domains.symbolic.tactics import prove
from axiom_jax.verification.domains.symbolic.theorem import Theorem
from axiom_jax.verification.proof.derivation import Derivation, derivation_of


def derive(theorem: Theorem, deadline: float | None = None) -> tuple[Derivation | None, list[str]]:
    """A proof of a theorem that the kernel accepts, or what was tried.

    Args:
        theorem: over symbolic sizes, from `translate.theorem_of`.
        deadline: in the time of `time.monotonic`; None for no limit.

    Returns:
        the derivation, or None; and what was tried, in words.

    >>> x = kernel.var("x")
    >>> goal = kernel.le(kernel.ZERO, kernel.mul(x, x))
    >>> derive(Theorem("x² >= 0", (), (("x", ()),), (), goal))[0]
    Derivation('holds', 'x² >= 0')
    """
    tried: list[str] = []
    budget = Budget(deadline)
    kernel.WORK[0] = 1 << 30
    hypotheses = [Hypothesis(h) for h in theorem.hypotheses]
    context = Context(None, budget, hypotheses)
    for effort in (1, 2):
        try:
            proof = prove(context, theorem.goal, effort)
        except OutOfTime:
            return None, [*tried, "the time was up"]
        except kernel.Rejected as error:
            tried.append(f"{LEVELS[effort]}: {error}")
            continue
        except RecursionError:
            tried.append(f"{LEVELS[effort]}: the claim is nested too deeply")
            continue
        if proof is None:
            tried.append(f"{LEVELS[effort]}: no proof")
            continue
        steps = preorder(hypotheses, context.close(proof))
        derivation = derivation_of(
            theorem.text, theorem.sizes, theorem.variables, theorem.hypotheses, theorem.goal, steps
        )
        verdict = kernel.check(derivation.to_bytes())
        if verdict.accepted:
            return derivation, tried
        tried.append(f"{LEVELS[effort]}: the kernel refused the proof, {verdict.reason}")
    return None, tried


LEVELS = {
    1: "facts of every subterm and products of them",
    2: "more products, squares, sums term by term and subdivision of intervals",
}
