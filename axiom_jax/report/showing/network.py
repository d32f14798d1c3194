"""A certificate about a network, section by section: claim, cases, network, proof."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import prod
from typing import Any

from axiom_jax.report.showing.drawing import bars, histogram, plane
from axiom_jax.report.showing.opening import DAMAGED, Part, compact, said
from axiom_jax.report.showing.sections import Limits, Section, Table, left_out, short
from axiom_jax.report.showing.trees import Ends, Shape, shape
from axiom_jax.report.showing.words import condition, decimal, exactly, number, printable

MEANING = {"holds": "no input of any case is unsafe", "violated": "an input of a case is unsafe"}
ASSUMED = "program and tensors are those of the deployed network (`axiom check --model FILE` compares them)"
ROUNDING, COMPILER = "rounding in a float32 execution", "a compiler that replaces operations"
NOT_COVERED = "whether the cases mean what the text says; inputs outside them"
DRAWN = 6  # cases with drawings
KEY = "vnnlib2"  # of meta


def sections(part: Part, limits: Limits) -> Iterator[Section]:
    """What a certificate says. Raises one of `DAMAGED` where it has not the form of one."""
    payload = part.payload
    model, cases = payload["model"], payload["property"]["cases"]
    boxes = [_ends(case) for case in cases]
    claim = payload["claim"]
    yield Section("Claim", [
        ("claim", f"{printable(claim, 40)}: {MEANING.get(claim, 'a claim that is not known here')}"),
        ("property", printable(payload["property"]["text"])),
        ("levels", printable(", ".join(payload["levels"]), 200)),
    ])  # fmt: skip
    for k, (case, ends) in enumerate(zip(cases, boxes, strict=True)):
        if k < limits.cases:
            yield _case(k, case, ends, payload["proof"], limits)
    if len(cases) > limits.cases:
        yield Section("Cases left out", [("cases", left_out(len(cases), limits.cases, "cases").removeprefix("… and "))])
    yield _network(model, payload["weights"], limits)
    yield _proof(part, boxes, limits)
    rounding = f"{COMPILER if 'float32' in payload['levels'] else ROUNDING}; "
    yield Section("What is not covered", [
        ("assumed", ASSUMED), ("not covered", rounding + NOT_COVERED),
    ])  # fmt: skip
    yield from _vnnlib(payload["meta"], limits)
    yield meta({key: value for key, value in payload["meta"].items() if key != KEY})


def _vnnlib(given: dict[str, Any], limits: Limits) -> Iterator[Section]:
    """The property as other tools read it; `axiom check` holds it against the cases."""
    if KEY in given:
        lines = [printable(line, 300) for line in said(given[KEY]).splitlines()]
        more = left_out(len(lines), limits.lines, "lines")
        shown = [*lines[: limits.lines], *([more] if more else [])]
        yield Section("VNN-LIB 2.0 (what is unsafe, for other tools)", lines=shown)


def meta(given: Any) -> Section:
    """What the file says for people: time, versions, requirements."""
    rows = [(printable(key, 60), printable(said(value), 500)) for key, value in sorted(given.items())]
    return Section("For people (never used by a checker)", rows[:60] or [("meta", "nothing")])


def _ends(case: Any) -> Ends:
    lo, hi = ([number(x) for x in case["exact"][end]] for end in ("lo", "hi"))
    if len(lo) != len(hi):
        raise ValueError("the ends of a box differ in length")
    return lo, hi


def _case(k: int, case: Any, ends: Ends, proof: Any, limits: Limits) -> Section:
    lo, hi = ends
    varying = [i for i, (a, b) in enumerate(zip(lo, hi, strict=True)) if a != b]
    still = [i for i, (a, b) in enumerate(zip(lo, hi, strict=True)) if a == b]
    rows = [("inputs", f"{len(lo):,}: {len(varying):,} vary, {len(still):,} are fixed")]
    if still:
        listed = ", ".join(f"x[{i}] = {decimal(lo[i])}" for i in still[: limits.inputs])
        more = left_out(len(still), limits.inputs, "inputs")
        rows.append(("fixed", ", ".join(filter(None, [listed, more]))))
    head = ("input", "from", "to", "exactly from", "exactly to")
    shown = [(f"x[{i}]", decimal(lo[i]), decimal(hi[i]), exactly(lo[i]), exactly(hi[i]))
             for i in varying[: limits.inputs]]  # fmt: skip
    tables = [Table(head, shown, left_out(len(varying), limits.inputs, "varying inputs"))] if varying else []
    unsafe = case["unsafe"]
    for d, disjunct in enumerate(unsafe[: limits.disjuncts]):
        atoms = [condition(atom) for atom in disjunct[: limits.atoms]]
        if len(disjunct) > limits.atoms:
            atoms.append(left_out(len(disjunct), limits.atoms, "conditions"))
        rows.append(("unsafe where" if d == 0 else "or where", " and ".join(atoms)))
    if len(unsafe) > limits.disjuncts:
        rows.append(("", left_out(len(unsafe), limits.disjuncts, "alternatives")))
    drawings = _region(proof, k, ends, varying) if k < DRAWN else []
    return Section(f"Case {k}", rows, tables, drawings=drawings)


def _tree(proof: Any, k: int, ends: Ends) -> tuple[dict[str, Any], Shape] | None:
    """The tree of a case and its shape; None where there is none, or it is malformed."""
    if proof.get("kind") != "tree":
        return None
    try:
        tree = proof["trees"][k]
        return tree, shape(tree, len(ends[0]))
    except DAMAGED:
        return None


def _region(proof: Any, k: int, ends: Ends, varying: list[int]) -> list[Any]:
    found = _tree(proof, k, ends)
    split = [i for i, _ in found[1].inputs.most_common() if ends[0][i] != ends[1][i]] if found else []
    try:
        tree = found[0] if found and split else None
        if 1 <= len(varying) <= 2:
            return [plane(tree, ends, (varying[0], varying[-1]))]
        drawn = [bars(ends, varying)] if varying else []
        if tree is not None:
            first, *others = split
            drawn.append(plane(tree, ends, (first, others[0] if others else first)))
        return drawn
    except DAMAGED:  # a place of a split that is no number, say: there is nothing to draw
        return []


def _network(model: Any, weights: Any, limits: Limits) -> Section:
    program, tensors = model["program"], model["tensors"]
    nodes = program["nodes"]
    sizes = _sizes(nodes, tensors)
    output = program["output"]
    ops = Counter(printable(node["op"], 40) for node in nodes)
    parameters = sum(prod(t["shape"]) for t in tensors.values())
    rows = [
        ("name", printable(model["name"], 200)),
        ("inputs", f"{sizes[0]:,}"),
        ("outputs", f"{sizes[output]:,}" if sizes[output] is not None else "not known"),
        ("operations", ", ".join(f"{count:,} {op}" for op, count in ops.most_common())),
        ("tensors", f"{len(tensors):,}, {parameters:,} numbers"),
        ("weights", f"{len(weights.strip()):,} characters"),
    ]
    rows += [(f"source: {printable(kind, 60)}", f"sha256 {printable(digest, 64)}")
             for kind, digest in sorted(model["source"].items())]  # fmt: skip
    listed = [(str(k), printable(node["op"], 40), _of(node), "?" if sizes[k] is None else f"{sizes[k]:,}")
              for k, node in enumerate(nodes[: limits.nodes])]  # fmt: skip
    named = [(printable(name, 80), printable(t["dtype"], 8), "×".join(map(str, t["shape"])) or "a number",
              short(printable(t["sha256"], 64), limits))
             for name, t in sorted(tensors.items())[: limits.tensors]]  # fmt: skip
    tables = [Table(("node", "operation", "of", "size"), listed, left_out(len(nodes), limits.nodes, "nodes"))]
    if named:
        more = left_out(len(tensors), limits.tensors, "tensors")
        tables.append(Table(("tensor", "type", "shape", "sha256"), named, more))
    return Section("Network", rows, tables)


def _of(node: Any) -> str:
    words = [", ".join(str(int(k)) for k in node.get("of", [])[:12])]
    words += [printable(node[key], 80) for key in ("name", "index") if key in node]
    words += ["×".join(map(str, node["shape"]))[:40]] if "shape" in node else []
    return "; ".join(filter(None, words))


def _sizes(nodes: Any, tensors: Any) -> list[int | None]:
    """How many numbers each node has; None where the operation is not known here."""
    found: list[int | None] = []
    for node in nodes:
        op, of = node["op"], [found[k] for k in node.get("of", [])]
        if op == "input":
            size = int(node["size"])
        elif op in ("tensor", "take"):
            size = prod(tensors[node["name" if op == "tensor" else "index"]]["shape"])
        elif op == "matmul":
            size = node["shape"][0] * node["shape"][2]
        elif op == "concat":
            size = sum(of) if None not in of else None  # pyright: ignore[reportArgumentType, reportCallIssue]
        else:
            size = of[0] if of else None
        found.append(size)
    return found


def _proof(part: Part, boxes: list[Ends], limits: Limits) -> Section:
    payload, proof = part.payload, part.payload["proof"]
    size = len(compact(proof))
    kind = proof["kind"]
    if kind == "tree":
        return _trees(payload, boxes, size)
    if kind == "point":
        return _point(proof, boxes, limits)
    return Section("Proof", [("kind", f"{printable(kind, 60)}: not known here"), ("size", f"{size:,} bytes")])


def _trees(payload: Any, boxes: list[Ends], size: int) -> Section:
    trees, cases = payload["proof"]["trees"], payload["property"]["cases"]
    found = [_tree(payload["proof"], k, ends)
             for k, (ends, case) in enumerate(zip(boxes, cases, strict=True))]  # fmt: skip
    shapes = [pair[1] for pair in found if pair is not None]
    total = Shape(sum(s.roots for s in shapes), sum(s.nodes for s in shapes))
    for one in shapes:
        for field in ("depths", "inputs", "neurons"):
            getattr(total, field).update(getattr(one, field))
    leaves = total.leaves
    rows = [("kind", f"{total.roots:,} trees" if total.roots != 1 else "a tree")]
    if len(shapes) < len(boxes) or len(trees) != len(boxes):
        rows.append(("malformed", f"{len(boxes):,} cases, {len(trees):,} trees, {len(shapes):,} of them whole"))
    mean = sum(d * n for d, n in total.depths.items()) / leaves if leaves else 0.0
    rows.append(("leaves", f"{leaves:,} of {total.nodes:,} nodes"))
    rows.append(("depth", f"at most {total.depth:,}, {mean:.1f} on average"))
    rows.append(("bounds", ", ".join(sorted({printable(tree["bounds"], 20) for tree in trees})) or "none"))
    name = lambda where: f"x[{where}]" if isinstance(where, int) else f"value {where[1]} of node {where[0]}"
    for what, counts in (("split inputs", total.inputs), ("split neurons", total.neurons)):
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        most = ", ".join(f"{name(where)} {count:,} times" for where, count in ordered[:6])
        more = f", {left_out(len(counts), 6, 'others')}" if len(counts) > 6 else ""
        rows.append((what, f"{len(counts):,}: {most}{more}" if counts else "none"))
    rows.append(("size", f"{size:,} bytes" + (f", {size / leaves:,.1f} a leaf" if leaves else "")))
    return Section("Proof", rows, drawings=[histogram(total)] if total.depth else [])


def _point(proof: Any, boxes: list[Ends], limits: Limits) -> Section:
    values = [number(x) for x in proof["inputs"]]
    lo, hi = boxes[proof["case"]]
    fixed = [k for k in range(len(values)) if k < len(lo) and values[k] == lo[k] == hi[k]]
    rows = [("kind", f"a counterexample: an input of case {proof['case']}")]
    if fixed:
        rows.append(("inputs", f"{len(values):,}, {len(fixed):,} of them fixed by the case and left out here"))
    shown = [k for k in range(len(values)) if k not in set(fixed)] or fixed
    listed = [(f"x[{k}]", decimal(values[k]), _hex(values[k]), exactly(values[k])) for k in shown[: limits.inputs]]
    more = left_out(len(shown), limits.inputs, "inputs")
    return Section("Proof", rows, [Table(("input", "decimal", "hexadecimal", "exactly"), listed, more)])


def _hex(value: Fraction) -> str:
    near = float(value)
    return near.hex() if Fraction(near) == value else "no float"
