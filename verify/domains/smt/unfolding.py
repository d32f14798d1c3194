"""A theorem for all sizes, written out at given ones: sums and maxima become finite, quantifiers over indices too.

The kernel's functions are total (1/0 = 0, sqrt of a negative number is 0), and so they are here.
"""

import numpy as np

from axiom_jax._errors import SpecError, UnsupportedPrimitive
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node
from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.arrays import term_inputs
from axiom_jax.verification.domains.algebra.reading import Reading
from axiom_jax.verification.domains.algebra.terms import Term
from axiom_jax.verification.domains.symbolic.theorem import Theorem

TERMS = 200_000  # entries of sums and the like, in all


def unfolded(theorem: Theorem, sizes: dict[str, int]) -> Reading:
    """A theorem at given sizes.

    Raises:
        SpecError: a size is missing or not positive. UnsupportedPrimitive: quantifiers that stand inside of the goal.
    """
    if any(sizes.get(n, 0) < 1 for n in theorem.sizes):
        raise SpecError("A theorem is written out at given sizes.", got=", ".join(theorem.sizes),
                        fix="give each of its sizes as an integer from 1 on")  # fmt: skip
    at = {n: kernel.affine(sizes[n]) for n in theorem.sizes}
    unfold = _Unfolding()
    kinds: list[str] = []
    for name, shape in theorem.variables:
        unfold.declare(name, name, [_number(kernel.substitute(kernel.integer(e), at)) for e in shape])
        kinds.append("forall")
    goal = kernel.substitute(theorem.goal, at)
    while goal.op in ("exists", "forall"):
        unfold.declare(f"#{goal.height}", f"y{len(kinds)}", [_integer(e) for e in goal.args[0]])
        kinds.append(goal.op)
        goal = goal.args[1]
    hypotheses = [unfold.formula(kernel.substitute(h, at)) for h in theorem.hypotheses]
    claim = unfold.formula(goal)
    by_name = {name: [] for name in unfold.inputs}
    if theorem.variables:
        by_name[theorem.variables[0][0]] = hypotheses
    else:
        claim = T.lor([T.lnot(T.land(hypotheses)), claim])
    title = f"{theorem.text}  (at {', '.join(f'{n} = {sizes[n]}' for n in theorem.sizes)})"
    return Reading(title, unfold.inputs, {"claim": np.array(claim, object)}, None, by_name, claim, tuple(kinds))


class _Unfolding:
    def __init__(self) -> None:
        self.inputs: dict[str, np.ndarray] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.known: dict[Node, Term] = {}
        self.spent = 0

    def declare(self, name: str, shown: str, shape: list[int]) -> None:
        while shown in self.inputs:
            shown += "'"
        self.inputs[shown] = self.arrays[name] = term_inputs(shown, shape).array

    def formula(self, f: Node) -> Term:
        if f not in self.known:
            self.known[f] = self._formula(f)
        return self.known[f]

    def term(self, t: Node) -> Term:
        if t not in self.known:
            self.known[t] = self._term(t)
        return self.known[t]

    def each(self, binder: Node) -> list[Node]:
        """The bodies of a binder, one an index."""
        count = _integer(binder.args[0])
        self.spent += max(count, 0)
        if self.spent > TERMS:
            raise SpecError("The theorem is too long to be written out.", fix="give smaller sizes")
        return [kernel.opened(binder, i) for i in range(count)]

    def _formula(self, f: Node) -> Term:
        match f.op:
            case "true" | "false":
                return T.truth(f.op == "true")
            case "le" | "lt" | "eq" | "ne":
                return getattr(T, f.op)(self.term(f.args[0]), self.term(f.args[1]))
            case "ile" | "ilt" | "ieq":
                a, b = map(_integer, f.args)
                return T.truth({"ile": a <= b, "ilt": a < b, "ieq": a == b}[f.op])
            case "not":
                return T.lnot(self.formula(f.args[0]))
            case "implies":
                return T.lor([T.lnot(self.formula(f.args[0])), self.formula(f.args[1])])
            case "and" | "or":
                return (T.land if f.op == "and" else T.lor)([self.formula(a) for a in f.args])
            case "all" | "some":
                return (T.land if f.op == "all" else T.lor)([self.formula(b) for b in self.each(f)])
        raise UnsupportedPrimitive("A solver takes quantifiers over reals in front of a statement only.",
                                   fix="move them to the front")  # fmt: skip

    def _term(self, t: Node) -> Term:
        match t.op:
            case "const":
                return T.number(t.args[0])
            case "int":
                return T.number(_integer(t.args[0]))
            case "var":
                return self._entry(t.args[0], [_integer(e) for e in t.args[1:]])
            case "add" | "mul":
                return (T.add if t.op == "add" else T.mul)([self.term(a) for a in t.args])
            case "pow":
                return T.power(self.term(t.args[0]), t.args[1])
            case "inv":
                s = self.term(t.args[0])
                return T.ite(T.eq(s, T.ZERO), T.ZERO, T.div(T.ONE, s))
            case "sqrt":
                s = self.term(t.args[0])
                return T.ite(T.le(T.ZERO, s), T.root(s), T.ZERO)
            case "exp" | "log" | "erf" | "sin" | "cos":
                return T.call(t.op, self.term(t.args[0]))
            case "max":
                return T.largest([self.term(a) for a in t.args])
            case "ite":
                return T.ite(self.formula(t.args[0]), self.term(t.args[1]), self.term(t.args[2]))
            case "sum":
                return T.add(self.term(b) for b in self.each(t))
            case "bigmax":
                bodies = [self.term(b) for b in self.each(t)]
                return T.largest(bodies) if bodies else T.ZERO
            case "apply" if len(t.args) == 2:
                return T.call(f"{t.args[0]}?", self.term(t.args[1]))
        raise UnsupportedPrimitive(f"Solvers are told nothing of {t.op}.", got=kernel.show(t)[:200],
                                   fix="state it without this operation")  # fmt: skip

    def _entry(self, name: str, index: list[int]) -> Term:
        """An entry; a tensor is a total function, so outside of its shape there is some number too."""
        array = self.arrays[name]
        if len(index) == array.ndim and all(0 <= i < n for i, n in zip(index, array.shape, strict=True)):
            return array[tuple(index)]
        return T.variable(f"{name}[{','.join(map(str, index))}]!")


def _integer(e: Affine) -> int:
    if e.terms:
        raise UnsupportedPrimitive("A size of the theorem is not given.", got=str(e), fix="give all of its sizes")
    return e.const


def _number(t: Node) -> int:
    return _integer(t.args[0])
