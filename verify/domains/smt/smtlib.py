"""SMT-LIB 2.6 text of terms: declared inputs, shared subterms defined once, facts about functions asserted.

`max`, `min` and `abs` become choices, roots are defined by their powers, exp and its like are uninterpreted functions
with ground facts. The text is linear in the size of the program.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from axiom_jax.verification.domains.algebra import terms as T
from axiom_jax.verification.domains.algebra.meaning import defined, surely
from axiom_jax.verification.domains.algebra.reading import Reading, read
from axiom_jax.verification.domains.algebra.terms import Term
from axiom_jax.verification.domains.smt.axioms import Occurrence, by_exp, facts, point_facts

DEPTH = 24  # deeper terms are cut by definitions, so that no reader has to recurse
POINTS = tuple(Fraction(n) for n in (-4, -1, 0, 1, 4))


def to_smtlib(thing: Any, *specs: Any, sizes: dict[str, int] | None = None) -> str:
    """SMT-LIB 2.6 text of a function, a model or a statement over the reals, at concrete sizes.

    A function or model has its inputs declared and its outputs defined, named `output` or `output[0,1]`, with
    `defined` for where all of them are (no division by zero and the like). A statement has its hypotheses and the
    negation of its claim asserted: `unsat` means that it holds, as far as the solver is to be trusted. Floats are the
    exact rationals that they are; exp, log, tanh... are uninterpreted (`Exp`, `Log`, `Tanh`), with facts about them
    asserted, so that `sat` may be spurious where they occur.

    Args:
        thing: a JAX function, an `ax.Model`, or a statement, also as text.
        *specs: for a function, a `jax.ShapeDtypeStruct` for each argument, or an array where it is a known constant.
        sizes: what the named sizes of a statement are, integers from 1 on.

    Raises:
        UnsupportedPrimitive: listing every operation that has no meaning over the reals, with its line.
        SpecError: sizes are missing.

    Source: The SMT-LIB Standard, version 2.6.

    >>> import jax, jax.numpy as jnp
    >>> print(to_smtlib(lambda x: jnp.maximum(x, 0) / 2, jax.ShapeDtypeStruct((), jnp.float32)))
    ; <lambda>
    ; over the real numbers; shapes: x [], output []
    (set-logic QF_LRA)
    (declare-const x Real)
    (define-fun output () Real (* (/ 1.0 2.0) (ite (<= x 0.0) 0.0 x)))
    (define-fun defined () Bool true)
    (check-sat)
    <BLANKLINE>
    """
    reading = read(thing, specs, sizes)
    shapes = [f"{name} {list(a.shape)}" for name, a in reading.inputs.items()]
    if reading.claim is None:
        shapes += [f"{name} {list(a.shape)}" for name, a in reading.outputs.items()]
    return script(reading, comments=[reading.title, f"over the real numbers; shapes: {', '.join(shapes)}"])


def script(reading: Reading, comments: Sequence[str] = ()) -> str:
    """The text of a reading; functions stay uninterpreted functions."""
    named: dict[str, Term] = {}
    asserted: list[Term] = []
    free = lambda name: name if name not in reading.inputs else free(name + "'")
    quantified: list[tuple[str, list[str]]] = []
    if reading.claim is None:
        for path, array in reading.outputs.items():
            name = free(path)
            named |= {f"{name}[{','.join(map(str, i))}]" if i else name: array.item(i) for i in np.ndindex(array.shape)}
        named[free("defined")] = T.land(surely(T.lor([t, T.lnot(t)])) if t.boolean else defined(t)
                                  for t in list(named.values()))  # fmt: skip
        negation = T.TRUE
    else:
        asserted, negation, quantified = question(reading)
    writer = Writer(uninterpreted=True)
    return writer.text(list(variable_names(reading, quantified)), asserted, negation, quantified, named, comments)


def question(reading: Reading) -> tuple[list[Term], Term, list[tuple[str, list[str]]]]:
    """A statement's negation: hypotheses, the negated claim, and the quantifiers in front of it, outermost first.

    The outermost ∀ are constants of the solver. For `∃ y. φ` the negation is `∀ y. ¬φ`.
    """
    assert reading.claim is not None
    kinds = dict(zip(reading.inputs, reading.quantifiers, strict=True))
    claim, prefix = reading.claim, []
    for name, kind in reversed(list(kinds.items())):
        inside = T.land(reading.hypotheses[name])
        claim = T.land([inside, claim]) if kind == "exists" else T.lor([T.lnot(inside), claim])
        prefix.append(("forall" if kind == "exists" else "exists", [t.value for t in reading.inputs[name].ravel()]))
    prefix.reverse()
    while prefix and prefix[0][0] == "exists":
        prefix.pop(0)
    asserted: list[Term] = []
    if not prefix:
        asserted = [h for hypotheses in reading.hypotheses.values() for h in hypotheses]
        claim = reading.claim
    return asserted, T.lnot(claim), prefix


def variable_names(reading: Reading, quantified: Sequence[tuple[str, list[str]]]) -> list[str]:
    """The constants: variables that no quantifier binds."""
    bound = {name for _, names in quantified for name in names}
    return [t.value for array in reading.inputs.values() for t in array.ravel() if t.value not in bound]


@dataclass
class Writer:
    """Turns terms into text; knows which function applications it has met.

    Args:
        uninterpreted: whether `exp!1` is written as `(exp t)`, else it is a constant that only the facts speak of.
        level: how much is said about functions, 0 for nothing.
        points: for the symbols of occurrences, the rational points at which they are bounded.
    """

    uninterpreted: bool = False
    level: int = 1
    points: dict[str, set[Fraction]] = field(default_factory=dict)
    occurrences: list[Occurrence] = field(default_factory=list)
    _plain: dict[Term, Term] = field(default_factory=dict)

    def plain(self, term: Term) -> Term:
        """The term without function applications, roots, maxima and absolute values: symbols and choices instead."""
        for t in T.topological([term]):
            if t in self._plain:
                continue
            args = [self._plain[a] for a in t.args]
            if t.op in ("call", "root"):
                kind = t.value if t.op == "call" else "root"
                symbol = T.variable(f"{kind}!{len(self.occurrences) + 1}")
                self.occurrences.append(Occurrence(symbol, kind, args[0], t.value if t.op == "root" else 0))
                self._plain[t] = symbol
            elif t.op == "abs":
                self._plain[t] = T.raw("ite", [T.raw("le", [T.ZERO, args[0]]), args[0], T.neg(args[0])])
            elif t.op in ("max", "min"):
                best = args[0]
                for a in args[1:]:
                    pair = [best, a] if t.op == "max" else [a, best]
                    best = T.raw("ite", [T.raw("le", pair), a, best])
                self._plain[t] = best
            elif t.op in ("infinite", "undefined"):
                self._plain[t] = T.variable("undefined!")  # any value: nothing that is claimed depends on it
            else:
                self._plain[t] = T.raw(t.op, args, t.value)
        return self._plain[term]

    def text(
        self,
        constants: list[str],
        asserted: Sequence[Term],
        negation: Term,
        quantified: Sequence[tuple[str, list[str]]] = (),
        named: dict[str, Term] | None = None,
        comments: Sequence[str] = (),
    ) -> str:
        """A whole script, ending with `(check-sat)`."""
        asserted = [self.plain(t) for t in asserted if t is not T.TRUE]
        goals = [] if negation is T.TRUE else [self.plain(negation)]
        outputs = {name: self.plain(t) for name, t in (named or {}).items()}
        known = self.facts()
        bound = {name for _, names in quantified for name in names}
        touched = {v.value for v in T.variables([o.argument for o in self.occurrences])}
        loose = not bound.isdisjoint(touched)
        if loose:  # a function of a bound variable is no constant: it is written out, and nothing is known of it
            known = []
        roots = [*asserted, *known, *([] if quantified else goals), *outputs.values()]
        lines = [f"; {line}" for comment in comments for line in comment.splitlines()]
        lines.append(f"(set-logic {self.logic([*roots, *goals], bool(quantified))})")
        lines += [f"(declare-const {quoted(name)} Real)" for name in constants]
        if any(v.value == "undefined!" for v in T.variables([*roots, *goals])):
            lines.append("(declare-const |undefined!| Real)")
        body = _Body(self.applied(loose, lines))
        body.define([*roots, *([] if quantified else goals)])
        lines += body.lines
        lines += [f"(define-fun {quoted(name)} () {'Bool' if t.boolean else 'Real'} {body.write(t)})"
                  for name, t in outputs.items()]  # fmt: skip
        lines += [f"(assert {body.write(t)})" for t in asserted]
        if known:
            lines.append("; what is known of the functions")
            lines += [f"(assert {body.write(t)})" for t in known if t is not T.TRUE]
        if goals:
            lines.append("; the negation of the claim")
            written = body.nested(goals[0]) if quantified else body.write(goals[0])
            for kind, names in reversed(quantified):
                written = f"({kind} ({' '.join(f'({quoted(n)} Real)' for n in names)}) {written})"
            lines.append(f"(assert {written})")
        return "\n".join([*lines, "(check-sat)"]) + "\n"

    def facts(self) -> list[Term]:
        """The facts at this level and at the points."""
        if not self.level:
            return []
        definitions = []
        for o in self.occurrences[:] if self.level >= 2 else []:
            if (defining := by_exp(o)) is not None:
                definitions.append(defining[1](self.plain(T.call("exp", defining[0]))))
        found = definitions + facts(self.occurrences, self.level)
        for o in self.occurrences:
            points = set(POINTS) | self.points.get(o.symbol.value, set())
            if o.argument.op == "number":
                points.add(o.argument.value)
            found += point_facts(o, points)
        return [self.plain(t) for t in dict.fromkeys(found)]

    def logic(self, roots: Sequence[Term], quantified: bool) -> str:
        """The smallest logic that the terms fit in."""
        every = T.topological([*roots, *(o.argument for o in self.occurrences)])
        nonlinear = any(t.op in ("pow", "div") or (t.op == "mul" and sum(a.op != "number" for a in t.args) > 1)
                        for t in every)  # fmt: skip
        functions = self.uninterpreted and any(o.name != "root" for o in self.occurrences)
        whole = any(t.op == "floor" for t in every)
        return ("" if quantified else "QF_") + ("UF" if functions else "") + ("N" if nonlinear else "L") + \
            ("IRA" if whole else "RA")  # fmt: skip

    def applied(self, everywhere: bool, lines: list[str]) -> dict[Term, tuple[str, Term]]:
        """Declares what stands for the functions; the symbols that are written as an application are returned."""
        written = [o for o in self.occurrences if everywhere or (self.uninterpreted and o.name != "root")]
        lines += [f"(declare-fun {name} (Real) Real)" for name in dict.fromkeys(map(_function_name, written))]
        lines += [f"(declare-const {quoted(o.symbol.value)} Real)" for o in self.occurrences if o not in written]
        return {o.symbol: (_function_name(o), o.argument) for o in written}


def _function_name(o: Occurrence) -> str:
    return f"Root{o.degree}" if o.name == "root" else quoted(o.name.capitalize())  # sin and exp mean more to solvers


class _Body:
    """Text of terms that share subterms."""

    def __init__(self, applied: dict[Term, tuple[str, Term]]):
        self.applied = applied
        self.names: dict[Term, str] = {}
        self.lines: list[str] = []

    def below(self, t: Term) -> tuple[Term, ...]:
        return (self.applied[t][1],) if t in self.applied else t.args

    def define(self, roots: Sequence[Term]) -> None:
        """Name every term that is written more than once, or that lies too deep."""
        order = T.topological(roots, self.below)
        uses: Counter[Term] = Counter(roots)
        for t in order:
            uses.update(self.below(t))
            uses.update(t.args if t.op == "pow" else ())
        depth: dict[Term, int] = {}
        for t in order:
            depth[t] = 1 + max((depth[a] for a in self.below(t)), default=0)
            if depth[t] > 1 and (uses[t] > 1 or depth[t] > DEPTH):
                sort, text = "Bool" if t.boolean else "Real", self._text(t)
                self.names[t] = quoted(t.value) if t in self.applied else f"${len(self.names) + 1}"
                self.lines.append(f"(define-fun {self.names[t]} () {sort} {text})")
                depth[t] = 1

    def write(self, root: Term) -> str:
        """A term in terms of the names."""
        return self.names.get(root) or self._text(root)

    def nested(self, root: Term) -> str:
        """A term with its shared parts bound by `let`, for use under a quantifier."""
        inner = _Body(self.applied)
        inner.define([root])
        text = inner.write(root)
        for line in reversed(inner.lines):
            name, rest = line.removeprefix("(define-fun ").split(" () ", 1)
            text = f"(let (({name} {rest.split(' ', 1)[1][:-1]})) {text})"
        return text

    def _text(self, t: Term) -> str:
        if t.op == "number":
            return rational(t.value)
        if t.op == "truth":
            return str(t.value).lower()
        if t.op == "variable":
            if t in self.applied:
                name, argument = self.applied[t]
                return f"({name} {self.write(argument)})"
            return quoted(t.value)
        args = [self.write(a) for a in t.args]
        if t.op == "pow":
            return f"(* {' '.join(args * t.value)})"
        if t.op == "floor":
            return f"(to_real (to_int {args[0]}))"
        return f"({_OPERATORS[t.op]} {' '.join(args)})"


_OPERATORS = {"add": "+", "mul": "*", "div": "/", "ite": "ite", "le": "<=", "lt": "<", "eq": "=", "not": "not",
              "and": "and", "or": "or"}  # fmt: skip


def quoted(name: str) -> str:
    """A symbol of SMT-LIB: bare where its grammar allows it, else between bars."""
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return name if plain and name not in _RESERVED else f"|{name}|"


_RESERVED = {"let", "forall", "exists", "match", "par", "and", "or", "not", "true", "false", "ite", "abs", "div", "mod",
             "sin", "cos", "tan", "exp", "sqrt", "distinct", "select", "store", "pi", "root", "max", "min"}  # fmt: skip


def rational(value: Fraction) -> str:
    """A rational as SMT-LIB writes it.

    >>> rational(Fraction(-3, 4))
    '(- (/ 3.0 4.0))'
    """
    size = abs(value)
    text = f"{size.numerator}.0" if size.denominator == 1 else f"(/ {size.numerator}.0 {size.denominator}.0)"
    return f"(- {text})" if value < 0 else text
