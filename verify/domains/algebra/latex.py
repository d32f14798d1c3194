"""Theorems for all sizes as LaTeX: sums and maxima over indices, fractions for inverses, cases for choices."""

from collections.abc import Sequence
from fractions import Fraction

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import Affine, Node
from axiom_jax.verification.domains.symbolic.theorem import Theorem

INDICES = ("i", "j", "k", "l", "p", "q", "r", "s", "t")
RELATIONS = {"le": r"\le", "lt": "<", "eq": "=", "ne": r"\ne", "ile": r"\le", "ilt": "<", "ieq": "="}
AND, TIMES = r" \land ", r" \times "
FUNCTIONS = {"exp": r"\exp", "log": r"\ln", "erf": r"\operatorname{erf}", "sin": r"\sin", "cos": r"\cos"}


def theorem_latex(theorem: Theorem) -> str:
    """A theorem with its quantifiers in front.

    >>> import jax
    >>> from axiom_jax.verification.domains.symbolic.translate import theorem_of
    >>> from axiom_jax.verification.statement import Statement, Variable
    >>> claim = Statement("sum(x) >= 0", (Variable("x"),), lambda x: jax.numpy.sum(x) >= 0)
    >>> print(theorem_latex(theorem_of(claim)))
    \\forall n \\ge 1\\; \\forall x \\in \\mathbb{R}^{n}\\colon\\; 0 \\le \\sum_{i=1}^{n} x_{i}
    """
    front = [rf"\forall {', '.join(map(name_latex, theorem.sizes))} \ge 1"] if theorem.sizes else []
    front += [rf"\forall {name_latex(name)} \in {_space(shape)}" for name, shape in theorem.variables]
    given = [formula_latex(h, 1) for h in theorem.hypotheses]
    goal, needed = theorem.goal, theorem.needed
    if goal.op == "and" and goal.args[: len(needed)] == needed:  # that all is defined goes without saying
        goal = kernel.conj(*goal.args[len(needed) :]) if len(goal.args) > len(needed) + 1 else goal.args[-1]
    body = formula_latex(goal, 1 if given else 0)
    if given:
        body = AND.join(given) + r" \implies " + body
    return prefixed(front, body)


def prefixed(front: Sequence[str], body: str) -> str:
    """Quantifiers before a formula."""
    return r"\; ".join(front) + r"\colon\; " + body if front else body


def name_latex(name: str) -> str:
    """A name: `x`, `x_{0}` for x_0, Greek letters by their names, words upright."""
    head, _, rest = name.partition("_")
    greek = {"alpha", "beta", "gamma", "delta", "epsilon", "eps", "eta", "theta", "lambda", "mu", "nu", "sigma", "tau"}
    shown = "\\" + head.replace("eps", "epsilon").replace("epsilonilon", "epsilon") if head in greek else head
    if len(head) > 1 and head not in greek:
        shown = rf"\mathrm{{{head}}}"
    return f"{shown}_{{{rest.replace('_', ',')}}}" if rest else shown


def _space(shape: Sequence[Affine]) -> str:
    return r"\mathbb{R}" + ("^{" + TIMES.join(map(index_latex, shape)) + "}" if shape else "")


def index_latex(e: Affine) -> str:
    """An affine index expression."""
    parts = [f"{'-' if k < 0 else '+'}{'' if abs(k) == 1 else abs(k)}{name_latex(n.lstrip('@'))}" for n, k in e.terms]
    if e.const or not parts:
        parts.append(f"{'-' if e.const < 0 else '+'}{abs(e.const)}")
    return "".join(parts).removeprefix("+").replace("+", " + ").replace("-", " - ").strip()


def _from_one(e: Affine) -> str:
    """Indices count from 0 here and from 1 in formulas."""
    return index_latex(kernel.shifted(e, 1))


def _opened(node: Node) -> tuple[str, Node]:
    taken = {name.lstrip("@$") for name in node.free}
    level = node.height - 1
    letter = next((c for c in INDICES[level % len(INDICES) :] + INDICES if c not in taken), f"i_{{{level}}}")
    # bodies are written with indices from 1: the bound index is the shown one less 1
    return letter, kernel.opened(node, kernel.shifted(f"@{letter}", -1))


def formula_latex(f: Node, level: int = 0) -> str:
    """A formula; level 1 inside of a connective."""
    match f.op:
        case "true" | "false":
            return r"\top" if f.op == "true" else r"\bot"
        case "le" | "lt" | "eq" | "ne":
            return f"{term_latex(f.args[0])} {RELATIONS[f.op]} {term_latex(f.args[1])}"
        case "ile" | "ilt" | "ieq":
            return f"{index_latex(f.args[0])} {RELATIONS[f.op]} {index_latex(f.args[1])}"
        case "not":
            return rf"\lnot \left({formula_latex(f.args[0])}\right)"
        case "and" | "or" | "implies":
            word = {"and": r" \land ", "or": r" \lor ", "implies": r" \implies "}[f.op]
            text = word.join(formula_latex(a, 1) for a in f.args) or (r"\top" if f.op == "and" else r"\bot")
            return text if level == 0 or len(f.args) < 2 else rf"\left({text}\right)"
        case "all" | "some":
            letter, body = _opened(f)
            sign = r"\forall" if f.op == "all" else r"\exists"
            text = rf"{sign} {letter} \in \{{1, \dots, {index_latex(f.args[0])}\}}\colon {formula_latex(body, 1)}"
            return text if level == 0 else rf"\left({text}\right)"
        case _:
            name = kernel.unused("y_", {n.lstrip("$") for n in f.free})
            sign = r"\exists" if f.op == "exists" else r"\forall"
            body = formula_latex(kernel.opened_variable(f, name), 1)
            return rf"{sign} {name_latex(name)} \in {_space(f.args[0])}\colon\; {body}"


def term_latex(t: Node, level: int = 0) -> str:
    """A term; level: 1 in a sum after the first, 2 in a product, 3 under a power."""
    a = t.args
    match t.op:
        case "const":
            return _number(a[0], level)
        case "int":
            text = index_latex(a[0])
            return text if level < 2 or len(a[0].terms) + bool(a[0].const) < 2 else rf"\left({text}\right)"
        case "var":
            return name_latex(a[0]) + (f"_{{{', '.join(map(_from_one, a[1:]))}}}" if len(a) > 1 else "")
        case "add":
            text = " + ".join(term_latex(b, 1) for b in a).replace("+ -", "- ")
            return text if level < 2 else rf"\left({text}\right)"
        case "mul":
            text = _product(a)
            return rf"\left({text}\right)" if level > 2 or (level == 2 and text.startswith("-")) else text
        case "inv":
            return _product([t])
        case "pow":
            return f"{term_latex(a[0], 3)}^{{{a[1]}}}"
        case "sqrt":
            text = rf"\sqrt{{{term_latex(a[0])}}}"
            return text if level < 3 else rf"\left({text}\right)"
        case "max":
            if kernel.neg(a[0]) is a[1]:
                return rf"\left|{term_latex(a[0])}\right|"
            return rf"\max\left({', '.join(map(term_latex, a))}\right)"
        case "ite":
            cases = rf"{term_latex(a[1])} & \text{{if }} {formula_latex(a[0])} \\ {term_latex(a[2])} & \text{{else}}"
            return rf"\begin{{cases}} {cases} \end{{cases}}"
        case "sum" | "bigmax":
            letter, body = _opened(t)
            end = index_latex(a[0])
            sign = rf"\sum_{{{letter}=1}}^{{{end}}}" if t.op == "sum" else rf"\max_{{1 \le {letter} \le {end}}}"
            text = f"{sign} {term_latex(body, 2)}"
            return text if level < (2 if t.op == "sum" else 3) else rf"\left({text}\right)"
    name, inner = (rf"\operatorname{{{a[0]}}}", a[1:]) if t.op == "apply" else (FUNCTIONS[t.op], a)
    text = rf"{name}\left({', '.join(map(term_latex, inner))}\right)"
    return text if level < 3 else rf"\left({text}\right)"


def _number(value: Fraction, level: int) -> str:
    size = abs(value)
    text = str(size) if size.denominator == 1 else rf"\frac{{{size.numerator}}}{{{size.denominator}}}"
    text = f"-{text}" if value < 0 else text
    return rf"\left({text}\right)" if level > 1 and (value < 0 or (level > 2 and size.denominator > 1)) else text


def _product(factors: Sequence[Node]) -> str:
    """A product, its inverses below a line."""
    flat: list[Node] = []
    for f in factors:
        flat += f.args if f.op == "mul" else [f]
    below = [f.args[0] for f in flat if f.op == "inv"]
    above = [f for f in flat if f.op != "inv"]
    sign = ""
    if above and above[0].op == "const" and above[0].args[0] < 0:
        first = kernel.const(-above[0].args[0])
        sign, above = "-", ([first] if first.args[0] != 1 or (len(above) == 1 and not below) else []) + above[1:]
    if not below:
        return sign + (r" \cdot ".join(term_latex(f, 2) for f in above) or "1")
    top = term_latex(above[0]) if len(above) == 1 else r" \cdot ".join(term_latex(f, 2) for f in above) or "1"
    bottom = term_latex(below[0]) if len(below) == 1 else r" \cdot ".join(term_latex(f, 2) for f in below)
    return rf"{sign}\frac{{{top}}}{{{bottom}}}"
