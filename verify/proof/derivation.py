"""Derivations: proofs for all sizes and all real arrays, step by step, as files and as readable text.

The kernel that judges them is `verify/derivation_checker.py`, the format docs/derivation-format.md. A step in memory
is a rule's name and its parameters: terms and formulas of the kernel, index expressions, rationals and names.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification._display import Facts, html_table, rich_table, shortened
from axiom_jax.verification.derivation_checker import Affine, Goal, Node
from axiom_jax.verification.proof.certificate import Checked, canonical, run_checker

FORMAT, VERSION = "axiom-derivation", 1
SHOWN = 160  # characters of a formula in a readable proof
Step = tuple[str, dict[str, Any]]


@dataclass(frozen=True, repr=False)
class Derivation:
    """A derivation in memory: the payload of the file.

    Args:
        payload: as docs/derivation-format.md says; only integers, strings, lists and maps.
    """

    payload: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The canonical file."""
        body = canonical(self.payload)
        digest = hashlib.sha256(body).hexdigest()
        head = f'{{"digest":"{digest}","format":"{FORMAT}","payload":'.encode()
        return head + body + f',"version":{VERSION}}}\n'.encode()

    @property
    def claim(self) -> str:
        return self.payload["claim"]

    @property
    def text(self) -> str:
        return self.payload["text"]

    @property
    def network(self) -> str:
        """What it is about, where a certificate names its network."""
        if "sizes" not in self.payload:
            return "a network, over all inputs"
        sizes = ", ".join(self.payload["sizes"])
        return f"none: every {sizes} ≥ 1 and every real array" if sizes else "none: every real array"

    def facts(self) -> Facts:
        """Title and rows of its table."""
        rows = [("claim", self.claim), ("statement", shortened(self.text)), ("about", self.network)]
        proof = self.payload["proof"]
        how = {"holds": f"{len(proof)} steps", "violated": "a point"}.get(self.claim, "of a network")
        return "derivation", [*rows, ("proof", how), ("checked", "not here: ax.check_certificate judges it")]

    def __repr__(self) -> str:
        try:
            return f"Derivation({self.claim!r}, {shortened(self.text, 60)!r})"
        except (KeyError, TypeError, AttributeError):  # it was read, not judged: parts may be missing
            return "Derivation(malformed)"

    def __str__(self) -> str:
        """The proof as numbered steps."""
        return "\n".join(explain(self))

    __rich__, _repr_html_ = rich_table, html_table


def derivation_of(
    text: str,
    sizes: Sequence[str],
    variables: Iterable[tuple[str, Sequence[Any]]],
    hypotheses: Sequence[Node],
    goal: Node,
    steps: Sequence[Step],
    meta: Mapping[str, str] | None = None,
) -> Derivation:
    """The derivation of a statement by steps in preorder; nothing is judged here.

    Args:
        text: the claim as the user wrote it.
        sizes: names of sizes. variables: names and shapes of the free variables.
        hypotheses, goal: formulas of the kernel.
        steps: a rule's name and its parameters each, as `derivation_checker.run` takes them.

    >>> x = kernel.var("x")
    >>> proof = derivation_of("x <= |x|", [], [("x", [])], [], kernel.le(x, kernel.absolute(x)), [
    ...     ("axiom", {"name": "max_bounds", "terms": [x, kernel.neg(x)]}), ("unpack", {"hyp": 0, "name": ""}),
    ...     ("assumption", {"hyp": 1})])
    >>> kernel.check(proof.to_bytes()).accepted
    True
    """
    table = Table()
    parts = _statement(table, text, sizes, variables, hypotheses, goal, meta)
    proof = [{"rule": rule, **{key: _field(table, kernel.STEPS[key], v) for key, v in given.items()}}
             for rule, given in steps]  # fmt: skip
    return Derivation({**parts, "claim": "holds", "proof": proof, "terms": table.entries})


def refutation_of(
    text: str,
    sizes: Mapping[str, int],
    variables: Iterable[tuple[str, Sequence[Any]]],
    hypotheses: Sequence[Node],
    goal: Node,
    values: Mapping[str, Sequence[Fraction]],
    bits: int = 192,
    meta: Mapping[str, str] | None = None,
) -> Derivation:
    """The derivation that a statement is violated at a point.

    Args:
        sizes: values of the names of sizes.
        values: the entries of every free variable, in C order.
        bits: fractional bits of enclosures, 32 to 2048.
    """
    table = Table()
    parts = _statement(table, text, list(sizes), variables, hypotheses, goal, meta)
    entries = {name: [str(Fraction(q)) for q in listed] for name, listed in values.items()}
    proof = {"bits": bits, "sizes": dict(sizes), "values": entries}
    return Derivation({**parts, "claim": "violated", "proof": proof, "terms": table.entries})


def lipschitz_of(
    text: str,
    layers: Sequence[Mapping[str, Any]],
    norm: str,
    bound: Fraction,
    proof: Mapping[str, Any],
    meta: Mapping[str, str] | None = None,
) -> Derivation:
    """The derivation that a network has a Lipschitz constant; parts as docs/derivation-format.md says."""
    parts = {"text": text, "layers": list(layers), "norm": norm, "bound": str(Fraction(bound)), "proof": dict(proof)}
    return Derivation({**parts, "claim": "lipschitz", "meta": dict(meta or {})})


class Table:
    """The entries of `terms`: every node once, after its operands."""

    def __init__(self) -> None:
        self.entries: list[list[Any]] = []
        self.places: dict[Node, int] = {}

    def place(self, node: Node) -> int:
        """The number of a node's entry."""
        if node not in self.places:
            entry = self.entry(node)
            self.places[node] = len(self.entries)
            self.entries.append(entry)
        return self.places[node]

    def entry(self, node: Node) -> list[Any]:
        op, args = node.op, list(node.args)
        if op in kernel.BINDERS:
            name = _unused(f"@i{node.height}", "@j", node.free)
            return [op, _index(args[0]), name, self.place(kernel.opened(node, name))]
        if op in ("exists", "forall"):
            name = _unused(f"$y{node.height}", "$z", node.free)[1:]
            return [op, name, [_index(e) for e in args[0]], self.place(kernel.opened_variable(node, name))]
        shape = kernel.SHAPES[op]
        kinds = shape[:-1] + shape[-1:].lower() * (len(args) - len(shape) + 1) if shape[-1:].isupper() else shape
        return [op, *(_field(self, kind, a) for kind, a in zip(kinds, args, strict=True))]


def _unused(name: str, stem: str, taken: Iterable[str]) -> str:
    return kernel.unused(stem, taken) if name in taken else name


def _index(e: Any) -> list[Any]:
    e = kernel.affine(e)
    return [e.const, *([name, k] for name, k in e.terms)]


def _field(table: Table, kind: str, value: Any) -> Any:
    """A field as JSON; the kinds are those of `derivation_checker.read`."""
    if kind == "S":
        return [[str(Fraction(c)), list(hyps), [table.place(t) for t in terms]] for c, hyps, terms in value]
    if kind == "Z":
        return [[hyp, table.place(t)] for hyp, t in value]
    if kind in "tf":
        return table.place(kernel.term(value) if kind == "t" else value)
    if kind == "R":
        return [table.place(kernel.term(t)) for t in value]
    if kind in "eq":
        return _index(value) if kind == "e" else str(Fraction(value))
    if kind in "QL":
        return [str(Fraction(q)) if kind == "Q" else _index(q) for q in value]
    return list(value) if kind in "IH" else value


def _statement(
    table: Table,
    text: str,
    sizes: Sequence[str],
    variables: Iterable[tuple[str, Sequence[Any]]],
    hypotheses: Sequence[Node],
    goal: Node,
    meta: Mapping[str, str] | None,
) -> dict[str, Any]:
    return {
        "text": text,
        "sizes": list(sizes),
        "variables": [{"name": name, "shape": [_index(e) for e in shape]} for name, shape in variables],
        "hypotheses": [table.place(h) for h in hypotheses],
        "goal": table.place(goal),
        "meta": dict(meta or {}),
    }


def steps_of(derivation: Derivation) -> tuple[Goal, list[Step]]:
    """The goal and the steps of a derivation that claims `holds`, decoded.

    Raises:
        CertificateError: the payload is malformed.
    """
    payload = derivation.payload
    try:
        kernel.refill()
        ranks = {v["name"]: len(v["shape"]) for v in payload["variables"]}
        table: list[Node] = []
        for raw in payload["terms"]:
            table.append(kernel.decode(raw, table, ranks))
        hyps = tuple(kernel.read("f", k, table) for k in payload["hypotheses"])
        goal = Goal(hyps, kernel.read("f", payload["goal"], table))
        return goal, [kernel.read_step(raw, table) for raw in payload["proof"]]
    except (kernel.Rejected, KeyError, TypeError, IndexError) as error:
        raise CertificateError(
            "The derivation is malformed.", got=str(error)[:200], fix="make it again; it cannot be repaired"
        ) from error


def explain(derivation: Derivation) -> list[str]:
    """A derivation as lines of text: what is given, then a line a step, indented by the goals it works on.

    The text repeats the steps as they are written; whether they prove anything is for the checker to judge.
    """
    lines = [f"{derivation.claim}: {derivation.text}"]
    if derivation.claim != "holds":
        proof = derivation.payload["proof"]
        values = proof.get("sizes", {}) | proof.get("values", {}) if derivation.claim == "violated" else proof
        return [*lines, *(f"  {name} = {shortened(str(value), SHOWN)}" for name, value in sorted(values.items()))]
    start, steps = steps_of(derivation)
    lines += [f"  [{k}] given {_shown(h)}" for k, h in enumerate(start.hyps)] + [f"  show {_shown(start.goal)}"]
    goals = [(start, 1)]
    for number, (rule, given) in enumerate(steps, 1):
        goal, depth = goals.pop()
        left = kernel.RULES[rule](goal, **given)
        lines.append(f"{'  ' * depth}{number}. {rule}{_said(given)}")
        branches = [(g, depth + (len(left) > 1)) for g in left]
        for g, inner in branches:
            new = [f"[{k}] {_shown(h)}" for k, h in enumerate(g.hyps) if k >= len(goal.hyps)]
            aim = [] if g.goal is goal.goal else [f"show {_shown(g.goal)}"]
            lines += ["  " * (inner + 1) + line for line in [*new, *aim]]
        goals += branches[::-1]
    return lines


def _shown(node: Node) -> str:
    return shortened(kernel.show(node), SHOWN)


def _said(given: Mapping[str, Any]) -> str:
    """The parameters of a step in words."""
    said = {key: _value(value) for key, value in given.items() if value not in ("", [])}
    return " " + ", ".join(f"{key} {text}" for key, text in said.items()) if said else ""


def _value(value: Any) -> str:
    if isinstance(value, Node):
        return _shown(value)
    if isinstance(value, Affine):
        return kernel.show_index(value)
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_value, value)) + ")"
    return str(value).lstrip("@")


def run_derivation_checker(path: str | os.PathLike[str], timeout: float | None = None) -> Checked:
    """Judge a file with `derivation_checker.py` in a fresh interpreter without site-packages.

    Args:
        timeout: seconds, or None.
    """
    return run_checker(path, timeout)
