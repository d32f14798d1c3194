"""Asserts as disjunctions of conjunctions of literals.

A literal is a bound of one input or an atom, linear in inputs and outputs. A product of variables
counts as an output of its own, which the network is to be given. Numbers are exact rationals.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from axiom_jax.verification.property import Atom
from axiom_jax.verification.spec.vnnlib_script import NUMBER, SIMPLE, Form, Script

DISJUNCTS = 100_000  # after expansion
LITERALS = 2_000_000
TERMS = 5_000  # of one polynomial
COMPARISONS = {
    "<=": (1, False), "<": (1, True), ">=": (-1, False), ">": (-1, True), "=": (0, False), "==": (0, False),
    "!=": (0, False),
}  # fmt: skip

Variable = int | tuple[int, ...]  # input i as i, output j as −1 − j; a product as its factors, sorted
Linear = tuple[dict[Variable, Fraction], Fraction]  # coefficients and a constant


class Bound(NamedTuple):
    """x ≤ value if `upper`, else x ≥ value; < and > if `strict`. `token` says where it was written."""

    variable: int
    upper: bool
    value: Fraction
    strict: bool
    token: int


Literal = Bound | Atom
Conjunction = tuple[Literal, ...]


class Formulas:
    """Formulas as disjunctions of conjunctions of literals; numbers and variables are looked up once.

    Args:
        names: the number of every variable: input i as i, output j as −1 − j.
        outputs: how many outputs there are; products of variables are numbered from there.
        undeclared: what to say, and what to do, of a word that looks like a variable; None where it does not.
        products: whether products of variables are allowed.
    """

    def __init__(
        self, script: Script, names: Mapping[str, int], outputs: int,
        undeclared: Callable[[str], tuple[str, str] | None], products: bool = False,
    ):  # fmt: skip
        self.script, self.names, self.outputs, self.undeclared = script, names, outputs, undeclared
        self.numbers: dict[str, Fraction] = {}
        self.products: dict[tuple[int, ...], int] | None = {} if products else None  # those that atoms speak of
        self.outputs_used = False

    def disjuncts(self, part: Form | int, negate: bool = False) -> list[Conjunction]:
        """The disjunctive normal form of a formula, or of its negation; `[]` is false and `[()]` is true."""
        if isinstance(part, int):
            word = self.script.tokens[part]
            if word[0] == "(":
                return [(self.simple(part, word, negate),)]
            if word not in ("true", "false"):
                raise self.script.error(part, f"{word!r} is not a formula.", "compare it with something: (<= X_0 1)")
            return [()] if (word == "true") != negate else []
        word, operands = self.script.head(part), part[2:]
        if word in COMPARISONS:
            return self.comparison(word, part, negate)
        if word not in ("and", "or", "not", "=>"):
            raise self.script.error(
                part[0], f"{word!r} is not known as a formula.", "use and, or, not, =>, <=, <, >=, >, ==, !="
            )
        if not operands or (word == "not" and len(operands) > 1) or (word == "=>" and len(operands) < 2):
            what = f"{word!r} does not take {len(operands)} operands."
            raise self.script.error(part[0], what, "complete the formula")
        tokens = self.script.tokens
        if word == "and" and not negate and all(isinstance(o, int) and tokens[o][0] == "(" for o in operands):
            return [tuple([self.simple(o, tokens[o], False) for o in operands])]
        flips = [negate != (word == "not" or (word == "=>" and i < len(operands) - 1)) for i in range(len(operands))]
        parts = [self.disjuncts(operand, flip) for operand, flip in zip(operands, flips, strict=True)]
        if word == "not" or (word == "and") == negate or (word == "=>" and not negate):
            return [conjunction for disjuncts in parts for conjunction in disjuncts]
        return self.conjoin(parts, part[0])

    def conjoin(self, parts: Iterable[list[Conjunction]], token: int) -> list[Conjunction]:
        """The conjunction of normal forms. Those of one disjunct are put in front, which keeps this linear in them."""
        front: list[Literal] = []
        product: list[Conjunction] = [()]
        for part in parts:
            if len(part) == 1:
                front += part[0]
                continue
            count = len(product) * len(part)
            size = sum(map(len, product)) * len(part) + sum(map(len, part)) * len(product)
            if count > DISJUNCTS or size > LITERALS:
                raise self.script.error(
                    token,
                    f"This expands to more than {DISJUNCTS} disjuncts or {LITERALS} comparisons.",
                    "split the property into several files",
                )
            product = [(*a, *b) for a in product for b in part]
        if len(front) * len(product) > LITERALS:
            raise self.script.error(
                token, f"This expands to more than {LITERALS} comparisons.", "split the property into several files"
            )
        return [(*front, *conjunction) for conjunction in product] if front else product

    def simple(self, token: int, text: str, negate: bool) -> Literal:
        """`(<= X_0 1)` at once: most of a file is this, and it has thousands."""
        match = SIMPLE.fullmatch(text)
        assert match is not None
        word, name, digits = match.groups()
        variable = self.variable(name, token)
        value = self.numbers.get(digits)
        if value is None:
            value = self.number(digits, token)
        sign, strict = COMPARISONS[word]
        if negate:
            sign, strict = -sign, not strict
        if variable >= 0:
            return Bound(variable, sign > 0, value, strict, token)
        self.outputs_used = True
        return Atom(((-1 - variable, Fraction(sign)),), value if sign > 0 else -value, (), strict)

    def comparison(self, word: str, part: Form, negate: bool) -> list[Conjunction]:
        """Chains compare neighbours, as in SMT-LIB; `!=` compares two terms."""
        if len(part) < 4:
            raise self.script.error(part[0], f"{word!r} compares at least two terms.", "write (<= X_0 1)")
        if word == "!=" and len(part) > 4:
            raise self.script.error(part[0], "'!=' compares two terms.", "write (and (!= a b) (!= b c) (!= a c))")
        sign, strict = COMPARISONS[word]
        negate = negate != (word == "!=")
        terms = [self.linear(operand) for operand in part[2:]]
        literals: list[Literal | bool] = []
        for left, right in itertools.pairwise(terms):
            for side in (sign,) if sign else (1, -1):
                side, strictly = (-side, not strict) if negate else (side, strict)
                literals.append(self.literal(left, right, side, strictly, part[0]))
        if negate:  # one link of the chain is broken
            return [() if literal is True else (literal,) for literal in literals if literal is not False]
        if False in literals:
            return []
        return [tuple(literal for literal in literals if not isinstance(literal, bool))]

    def literal(self, left: Linear, right: Linear, side: int, strict: bool, token: int) -> Literal | bool:
        """left ≤ right for `side` 1, left ≥ right for −1; a truth value if no variable is left."""
        if side < 0:
            left, right = right, left
        coefficients = dict(left[0])
        for variable, c in right[0].items():
            coefficients[variable] = coefficients.get(variable, 0) - c
        coefficients = {variable: c for variable, c in coefficients.items() if c}
        threshold = right[1] - left[1]
        if not coefficients:
            return threshold > 0 or (threshold == 0 and not strict)
        if len(coefficients) == 1:
            (variable, c), *_ = coefficients.items()
            if isinstance(variable, int) and variable >= 0:
                return Bound(variable, c > 0, threshold / c, strict, token)
        self.outputs_used = self.outputs_used or any(min(_factors(variable)) < 0 for variable in coefficients)
        pairs = [(self.numbered(variable), c) for variable, c in coefficients.items()]
        y = tuple(sorted((-1 - variable, c) for variable, c in pairs if variable < 0))
        return Atom(y, threshold, tuple(sorted((variable, c) for variable, c in pairs if variable >= 0)), strict)

    def linear(self, part: Form | int) -> Linear:
        """An expression: numbers, variables, + − * /, linear in variables and products of variables."""
        if isinstance(part, int):
            word = self.script.tokens[part]
            if word in self.names:
                return {self.names[word]: Fraction(1)}, Fraction(0)
            if word[0] == "(":
                raise self.script.error(part, f"{word!r} is not a number.", "use numbers, variables, + - * /")
            return self.value(word, part)
        word = self.script.head(part)
        if word not in ("+", "-", "*", "/") or len(part) < 3:
            raise self.script.error(part[0], f"{word!r} is not a linear term.", "use numbers, variables, + - * /")
        total, *rest = [self.linear(operand) for operand in part[2:]]
        if word in "+-":
            if word == "-" and not rest:
                return _scaled(total, Fraction(-1))
            for term in rest:
                total = _plus(total, term if word == "+" else _scaled(term, Fraction(-1)))
            return total
        for term in rest:
            if word == "/" and (term[0] or not term[1]):
                raise self.script.error(part[0], "The divisor is not a number other than 0.", "divide by a constant")
            if total[0] and term[0]:
                total = self.product(total, term, part[0])
                continue
            total, factor = (total, term[1]) if not term[0] else (term, total[1])
            total = _scaled(total, factor if word == "*" else 1 / factor)
        return total

    def product(self, left: Linear, right: Linear, token: int) -> Linear:
        """The product of two polynomials."""
        if self.products is None:
            raise self.script.error(token, "A product of variables is not linear.", "multiply by constants only")
        if (len(left[0]) + 1) * (len(right[0]) + 1) > TERMS:
            raise self.script.error(token, f"This expands to more than {TERMS} products.", "split the product")
        total: dict[Variable, Fraction] = {}
        terms = [[*factor[0].items(), ((), factor[1])] for factor in (left, right)]
        for (v, a), (w, b) in itertools.product(*terms):
            factors = tuple(sorted((*_factors(v), *_factors(w))))
            if factors and a * b:
                variable = factors if len(factors) > 1 else next(iter(factors))
                total[variable] = total.get(variable, Fraction(0)) + a * b
        return total, left[1] * right[1]

    def numbered(self, variable: Variable) -> int:
        """The number of a variable; a product gets one when it is used first."""
        if isinstance(variable, int):
            return variable
        assert self.products is not None
        return self.products.setdefault(variable, -1 - (self.outputs + len(self.products)))

    def variable(self, name: str, token: int) -> int:
        """The number of a variable."""
        found = self.names.get(name)
        if found is None and (spelled := "".join(name.split())) != name:
            found = self.names.get(spelled)
        if found is None:
            what, fix = self.undeclared(name) or (f"{name[:40]!r} is neither a variable nor a number.", "declare it")
            raise self.script.error(token, what, fix, name)
        return found

    def value(self, word: str, token: int) -> Linear:
        """A number, or a variable that is spelled with spaces."""
        if "[" in word or word[0].isalpha():
            spelled = "".join(word.split())
            if spelled in self.names:
                return {self.names[spelled]: Fraction(1)}, Fraction(0)
        return {}, self.number(word, token)

    def number(self, word: str, token: int) -> Fraction:
        """A decimal, exactly."""
        if word in self.numbers:
            return self.numbers[word]
        match = NUMBER.fullmatch(word) if len(word) <= 1000 else None
        if match is None or not (match[2] or match[3]):
            if hint := self.undeclared(word):
                raise self.script.error(token, *hint)
            raise self.script.error(token, f"{word[:40]!r} is neither a variable nor a number.", "write 0.5 or 1e-3")
        digits = int(match[2] + match[3])
        value = Fraction(digits, 10 ** len(match[3])) if match[3] else Fraction(digits)
        if match[4]:
            value *= Fraction(10) ** int(match[4])
        self.numbers[word] = -value if match[1] == "-" else value
        return self.numbers[word]


def _factors(variable: Variable) -> tuple[int, ...]:
    return variable if isinstance(variable, tuple) else (variable,)


def _plus(a: Linear, b: Linear) -> Linear:
    return {v: a[0].get(v, Fraction(0)) + b[0].get(v, Fraction(0)) for v in {**a[0], **b[0]}}, a[1] + b[1]


def _scaled(a: Linear, factor: Fraction) -> Linear:
    return {v: c * factor for v, c in a[0].items()}, a[1] * factor
