"""Certificates with something changed: their digests and hashes fit again, so that what they say is judged."""

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))
import checker_builder as build
from test_checker_mutations import of_numbers, of_structure, of_weights, of_words

Payload = dict[str, Any]
Change = tuple[str, Payload | bytes, bool]  # its kind; a payload, or the bytes of a file; if it must be refused
UNIT = 1 << 20


def of_trees(base: Payload, rng: random.Random) -> Iterator[Change]:
    """Leaves, tokens, rows, roots, splits: dropped, doubled, exchanged; multipliers and slopes that are others."""
    for _ in range(60 * (base["proof"]["kind"] == "tree")):
        made = copy.deepcopy(base)
        trees = made["proof"]["trees"]
        tree = rng.choice(trees)
        part = rng.choice(["nodes", "leaves", "splits", "roots", "rows", "slopes", "slots", "lemmas", "betas", "places",
                           "trees", "multipliers", "rule"])  # fmt: skip
        rows = [row for leaf in tree["leaves"] for row in leaf]
        if part in ("nodes", "leaves", "splits", "roots", "slots", "lemmas", "slopes", "trees"):
            _shuffle(trees if part == "trees" else tree[part], rng)
        elif part == "rows" and rows:
            _shuffle(rng.choice(tree["leaves"]), rng)
        elif part == "betas" and any(row[3] for row in rows):
            betas = rng.choice([row[3] for row in rows if row[3]])
            k = rng.randrange(len(betas))
            betas[k] = rng.choice([-betas[k], 2 * betas[k] + 1, 0, rng.randrange(-UNIT, UNIT), 10**30])
        elif part == "multipliers" and rows:
            row = rng.choice(rows)
            row[1] = [[k, rng.choice([0, 1, x + 1, 3 * x, 10**40, rng.randrange(UNIT)])] for k, x in row[1]]
        elif part == "places" and tree["splits"]:
            split = rng.choice(tree["splits"])
            split[2] = rng.choice([-split[2], split[2] + rng.choice([-1, 1]) * 2 ** rng.randrange(40, 81), 0, 10**30])
        elif part == "rule":
            tree["bounds"] = "ibp" if tree["bounds"] == "crown" else "crown"
            tree["nodes"] = [rng.choice([t, t ^ 1]) for t in tree["nodes"]]
        else:
            continue
        if made != base:
            yield f"tree {part}", made, False
    for tree in base["proof"].get("trees", []):
        for which in range(len(tree["slopes"])):
            made = copy.deepcopy(base)
            slopes = made["proof"]["trees"][base["proof"]["trees"].index(tree)]["slopes"]
            slopes[which] = build.forest([], [], [], tables=[[rng.randrange(256) for _ in tree["slots"]]])["slopes"][0]
            yield "tree table of slopes", made, False


def _shuffle(items: list[Any], rng: random.Random) -> None:
    """Drop, double, exchange or make anew one of some items."""
    if items:
        i, j, how = rng.randrange(len(items)), rng.randrange(len(items)), rng.randrange(4)
        if how == 0:
            del items[i]
        elif how == 1:
            items.insert(j, copy.deepcopy(items[i]))
        elif how == 2:
            items[i], items[j] = items[j], items[i]
        else:
            items[i] = copy.deepcopy(items[j])


def of_programs(base: Payload, rng: random.Random) -> Iterator[Change]:
    """Nodes in another order, with and without new numbers; operations and operands exchanged."""
    nodes = base["model"]["program"]["nodes"]
    for i in range(1, len(nodes) - 1):
        swapped = copy.deepcopy(base)
        program = swapped["model"]["program"]
        program["nodes"][i : i + 2] = program["nodes"][i : i + 2][::-1]
        yield "order of nodes", swapped, False
        if i not in nodes[i + 1].get("of", []):
            renamed = copy.deepcopy(swapped)
            other = {i: i + 1, i + 1: i}
            for node in renamed["model"]["program"]["nodes"]:
                node.update({"of": [other.get(k, k) for k in node["of"]]} if "of" in node else {})
            for tree in renamed["proof"].get("trees", []):
                for entry in tree["slots"] + tree["splits"] + tree["lemmas"]:
                    entry[0] = other.get(entry[0], entry[0])
            yield "order of nodes, with new numbers", renamed, False
    for i, node in enumerate(nodes):
        for _ in range(3 * ("of" in node)):
            made = copy.deepcopy(base)
            target = made["model"]["program"]["nodes"][i]
            target["of"] = [rng.randrange(i) for _ in node["of"]] if rng.random() < 0.7 else node["of"][::-1]
            if "shape" in node and rng.random() < 0.5:
                target["shape"] = node["shape"][::-1]
            if made != base:
                yield "operands", made, False
    for output in range(len(nodes)):
        made = copy.deepcopy(base)
        made["model"]["program"]["output"] = output
        if output != base["model"]["program"]["output"]:
            yield "output", made, False


def of_levels(base: Payload, rng: random.Random) -> Iterator[Change]:
    """The proof over the real numbers said to hold in float32, on another machine, at levels that there are none of."""
    for profile in ("", "cpu", "cuda", "tpu", "CPU", "cpu\n", "none"):
        for levels in (["real"], ["real", "float32"], ["float32"], ["float32", "real"], ["real", "bitwise"], [], None):
            fits = levels == ["real", "float32"][: 1 + bool(profile)] and profile in ("", "cpu", "cuda")
            fits &= base["claim"] == "holds" or not profile
            if (profile, levels) != (base["profile"], base["levels"]):
                yield "level", base | {"profile": profile, "levels": levels}, not fits


def of_property(base: Payload, rng: random.Random) -> Iterator[Change]:
    """Thresholds near the truth, boxes that grow and shrink, disjuncts and cases added and taken away."""
    for _ in range(60):
        made = copy.deepcopy(base)
        case = rng.choice(made["property"]["cases"])
        atoms = rng.choice(case["unsafe"])
        part = rng.choice(["threshold", "threshold", "box", "box", "disjunct", "strict", "coefficient", "case", "bit"])
        step = Fraction(rng.choice([-1, 1]), 2 ** rng.choice([1, 3, 5, 8, 12, 20, 40, 60]))
        if part in ("threshold", "bit"):
            atom = rng.choice(atoms)
            moved = Fraction(atom["threshold"]) + (step if part == "threshold" else Fraction(1, 3**40))
            atom["threshold"] = str(moved)
        elif part == "strict":
            atom = rng.choice(atoms)
            atom["strict"] = not atom["strict"]
        elif part == "coefficient":
            terms = rng.choice(atoms)["output"]
            terms[0][1] = str(Fraction(terms[0][1]) + step)
        elif part == "disjunct":
            _shuffle(case["unsafe"] if rng.random() < 0.5 else atoms, rng)
        elif part == "case":
            _shuffle(made["property"]["cases"], rng)
        else:
            lo, hi = ([Fraction(x) for x in case["exact"][end]] for end in ("lo", "hi"))
            i = rng.randrange(len(lo))
            (lo if rng.random() < 0.5 else hi)[i] += step
            case.update(build.case(lo, hi, case["unsafe"]))
        if made != base:
            yield f"property {part}", made, False


def of_types(base: Payload, rng: random.Random) -> Iterator[Change]:
    """Numbers of another type or no number at all, and keys that are there twice. None of these is the format's."""
    paths = [p for p in _places(base) if p[0] != "meta"]
    for path in rng.sample(paths, min(40, len(paths))):
        made = copy.deepcopy(base)
        target: Any = made
        for key in path[:-1]:
            target = target[key]
        old = target[path[-1]]
        odd: list[Any] = [None, float(len(path)), float("nan"), float("inf"), [], {}, [old], 10**400]
        odd += [str(old)] if isinstance(old, int) else [1]
        odd += [bool(old)] if type(old) is int else [int(old)] if type(old) is bool else []
        new = rng.choice(odd)
        target[path[-1]] = new
        meaningful = path[-1] == "text" or path[-2:] == ("model", "name") or (new == 10**400 and type(old) is int)
        if type(new) is not type(old) or new != old:
            yield "type", made, not meaningful
    whole = build.seal(base)
    for key in rng.sample([p[-1] for p in paths if isinstance(p[-1], str)], 5):
        mark = f'"{key}":'.encode()
        yield "key twice", whole.replace(mark, mark + b"0," + mark, 1), True
    for old, new in ((b'"version":3', b'"version":4'), (b'"version":3', b'"version":true'), (b"certificate", b"proof"),
                     (b'"version":3', b'"version":3.0'), (b'"version":3', b'"version":03')):  # fmt: skip
        yield "version", whole.replace(old, new), True
    yield "version", build.seal(base, 2), True
    yield "blank", json.dumps(json.loads(whole), sort_keys=True).encode(), True
    yield "order of keys", json.dumps(dict(reversed(json.loads(whole).items())), separators=(",", ":")).encode(), True
    yield "after the end", whole + b"\n\n", True
    yield "meta", build.seal(base | {"meta": {"note": "x" * 99}}), False


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path
    else:
        for key, inner in items:
            yield from _places(inner, (*path, key))


def of_spikes(base: Payload, rng: random.Random) -> Iterator[Change]:
    """Weights by a bit each, large ones and none, with hashes that fit; so the claim is about another network."""
    for _ in range(30):
        made, tensors = copy.deepcopy(base), build.tensors_of(base)
        name = rng.choice(sorted(tensors))
        flat = tensors[name].reshape(-1)
        if flat.dtype == np.float32:
            factor = np.float32(rng.choice([-1, 0, 0.5, 2, 1.1, 1 + 2**-20]))
            flat[rng.randrange(flat.size)] *= factor
        else:
            flat[rng.randrange(flat.size)] = rng.randrange(-1, flat.size + 1)
        made["weights"] = build.packed(build.tensor_file(tensors))
        made["model"]["tensors"] = build.manifest(tensors)
        if made != base:
            yield f"weights {flat.dtype}", made, False


MAKERS: tuple[Callable[[Payload, random.Random], Iterator[Change]], ...] = (
    of_numbers, of_weights, of_structure, of_words, of_trees, of_programs, of_levels, of_property, of_types, of_spikes,
)  # fmt: skip


def mutants(base: Payload, seed: str, count: int) -> list[Change]:
    """So many changed certificates of every maker's, as near to equally many as there are; the same for every run."""
    rng = random.Random(seed)
    made = [[*make(base, random.Random(f"{seed} {make.__name__}"))] for make in MAKERS]
    for part in made:
        rng.shuffle(part)
    chosen: list[Change] = []
    while len(chosen) < count and any(made):
        chosen += [part.pop() for part in made if part]
    return chosen[:count]
