"""That the checker checks: certificates with one thing changed. Those whose claim became false must be rejected.

The digest is recomputed, or the mutants would test nothing else, and so are the hashes of tensors and the float32 boxes
where only their content is meant to change. An oracle that shares no code with the checker looks for a point that
contradicts the mutant's own claim: in float64 first, then exactly.
"""

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import checker_builder as build
import mpmath
import numpy as np
import pytest

pytestmark = pytest.mark.thin(2)

checker = build.load_checker()
Mutant = tuple[str, dict[str, Any], bool]  # class, payload, whether it must be rejected whatever it claims


def judge(payload: dict[str, Any]) -> Any:
    return checker.check(build.seal(payload))


# --- certificates that are accepted, with bounds close to the truth


def tightened(nodes: Any, tensors: Any, boxes: Any, unsafe: Any, trees: Any, slack: Any = Fraction(1, 2**16)) -> Any:
    """A certificate whose thresholds (written 0) lie `slack` below the least bound of their atoms over the leaves."""
    unsafe = copy.deepcopy(unsafe)
    for k, disjunct in enumerate(unsafe):
        for a, atom in enumerate(disjunct):
            bounds = []
            for (lo, hi), tree in zip(boxes, trees, strict=True):
                case = build.case(lo, hi, [[atom]])
                bounds.append(
                    judge(build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [alone(tree)]})).margin
                )
            chosen = [atoms for tree in trees for leaf in tree["leaves"] for d, atoms, *_ in leaf if d == k]
            wanted = [[a, 1 << 20]] in chosen
            atom["threshold"] = str(round(min(bounds) * 2**20) / Fraction(2**20) - slack + (0 if wanted else 5))
    cases = [build.case(lo, hi, unsafe) for lo, hi in boxes]
    return build.certificate(nodes, tensors, cases, {"kind": "tree", "trees": trees})


def alone(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree for a single atom, in place of all disjuncts."""
    leaves = [[[0, [[0, 1 << 20]], *leaf[0][2:]]] for leaf in tree["leaves"]]
    return tree | {"leaves": leaves, "roots": [[0]]}


def split() -> dict[str, Any]:
    """Splits of relus in both layers, a halved input, slopes, multipliers, lemmas."""
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((2, 4), (4, 3), (3, 2))]
    nodes, tensors = build.dense_program(weights, [rng.normal(size=w.shape[1]).astype(np.float32) for w in weights])
    table = lambda: [int(x) for x in rng.integers(0, 256, 7)]
    slots = [[4, j] for j in range(4)] + [[9, j] for j in range(3)]
    betas = ([Fraction(1, 8), Fraction(1, 16)], [Fraction(1, 4), Fraction(1, 32)], [Fraction(1, 5)], [Fraction(1, 7)])
    rows = [
        [build.row(d, {0: 1}, which, beta) for d in range(2)] for which, beta in zip((0, 1, -1, 1), betas, strict=True)
    ]
    tree = build.forest([4, 6, -1, -3, 1, -6, -7], rows, [[0, 1]], [(4, 1, 0), (9, 2, Fraction(1, 8))],
                        [table(), table(), table()], slots, [[9, 1, 2, -1], [9, 2, 0, 1]])  # fmt: skip
    box = [Fraction(-1, 2), Fraction(1, 3)], [Fraction(1, 10), 1]
    unsafe = [[build.atom({0: 1, 1: -1}, 0)], [build.atom({1: 1}, 0)]]
    return tightened(nodes, tensors, [box], unsafe, [tree], slack=Fraction(1, 2**12))


def dense() -> dict[str, Any]:
    """Two cases, two disjuncts, one of two atoms; the trees have odd and even tokens, and differ."""
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((2, 4), (4, 3), (3, 2))]
    nodes, tensors = build.dense_program(weights, [rng.normal(size=w.shape[1]).astype(np.float32) for w in weights])
    boxes = [([Fraction(-1, 2), Fraction(1, 3)], [Fraction(1, 10), 1]), ([1, Fraction(1, 7)], [Fraction(3, 2), 1])]
    unsafe = [[build.atom({0: 1, 1: -1}, 0), build.atom({0: 1}, 0, {1: Fraction(-1, 3)})], [build.atom({1: 1}, 0)]]
    trees = [build.full_tree(3, 2, [0, 0]), build.tree([1, -1, 2, -2, -2], [[0, 0], [1, 0]])]
    return tightened(nodes, tensors, boxes, unsafe, trees)


def convolution() -> dict[str, Any]:
    nodes, tensors = build.conv_program(np.random.default_rng(3))
    pixels = [Fraction(int(x), 8) for x in np.random.default_rng(1).integers(0, 9, 16)]
    box = [x - Fraction(1, 32) for x in pixels], [x + Fraction(1, 32) for x in pixels]
    unsafe = [[build.atom({0: 1, 1: -1}, 0)], [build.atom({0: Fraction(-1, 2)}, 0)]]
    return tightened(nodes, tensors, [box], unsafe, [build.full_tree(1, 16, [0, 0])])


def smooth() -> dict[str, Any]:
    """tanh, logistic, exp, a batch norm (sqrt, reciprocal, sub, mul), a division, concat, take and neg."""
    rng = np.random.default_rng(7)
    floats = lambda *shape: rng.normal(size=shape).astype(np.float32)
    tensors = {"w": floats(2, 3), "mean": floats(3), "variance": np.abs(floats(3)) + 1, "v": floats(6, 2)}
    tensors |= {"scale": np.full(2, 3, np.float32), "order": np.array([5, 0, 3, -1, 1, 4], np.int32)}
    steps: list[Any] = [
        ("input", {"size": 2}), ("tensor", {"name": "w"}), ("matmul", {"of": [0, 1], "shape": [1, 2, 3]}),
        ("tensor", {"name": "mean"}), ("sub", {"of": [2, 3]}), ("tensor", {"name": "variance"}), ("sqrt", {"of": [5]}),
        ("reciprocal", {"of": [6]}), ("mul", {"of": [4, 7]}), ("tanh", {"of": [8]}), ("neg", {"of": [8]}),
        ("logistic", {"of": [10]}), ("concat", {"of": [9, 11]}), ("take", {"of": [12], "index": "order"}),
        ("tensor", {"name": "v"}), ("matmul", {"of": [13, 14], "shape": [1, 6, 2]}), ("exp", {"of": [15]}),
        ("tensor", {"name": "scale"}), ("div", {"of": [16, 17]}),
    ]  # fmt: skip
    nodes = [{"op": op} | rest for op, rest in steps]
    box = [Fraction(1, 5), Fraction(-1, 3)], [Fraction(1, 4), Fraction(-3, 10)]
    unsafe = [[build.atom({0: 1, 1: Fraction(1, 3)}, 0)], [build.atom({1: -1}, 0)]]
    return tightened(nodes, tensors, [box], unsafe, [build.full_tree(2, 2, [0, 0])], slack=Fraction(1, 2**10))


def strict_tie() -> dict[str, Any]:
    """relu(x0) + relu(x1) >= 0 on [-1, 1]^2, and it is attained: only the strict atom can be refuted."""
    nodes, tensors = build.dense_program([np.eye(2), np.ones((2, 1))], [np.zeros(2), np.zeros(1)])
    case = build.case([-1, -1], [1, 1], [[build.atom({0: 1}, 0, strict=True)]])
    return build.certificate(nodes, tensors, [case], {"kind": "tree", "trees": [build.full_tree(1, 2, [0], "ibp")]})


def violation() -> dict[str, Any]:
    """A point at a corner of the box that attains the threshold of a closed atom exactly."""
    payload = dense()
    case = payload["property"]["cases"][0]
    point = [case["exact"]["lo"][0], case["exact"]["hi"][1]]
    outputs = build.evaluate(payload["model"]["program"]["nodes"], tensors_of(payload), 15, point)
    case["unsafe"] = [[build.atom({0: 1}, outputs[0]), build.atom({1: 1}, outputs[1] + 1)], [build.atom({1: 1}, -99)]]
    payload["proof"] = {"kind": "point", "case": 0, "inputs": point}
    return payload | {"claim": "violated", "property": {"text": "a point", "cases": [case]}}


def tensors_of(payload: dict[str, Any]) -> dict[str, np.ndarray]:
    return build.tensors_of(payload)


def decided() -> dict[str, Any]:
    """A gate, a product of variables, a square, a root and a reciprocal, close to where they bend."""
    rng = np.random.default_rng(11)
    tensors = {"w": rng.normal(size=(2, 3)).astype(np.float32), "one": np.ones(3, np.float32),
               "v": rng.normal(size=(3, 2)).astype(np.float32)}  # fmt: skip
    steps: list[Any] = [
        ("input", {"size": 2}), ("tensor", {"name": "w"}), ("matmul", {"of": [0, 1], "shape": [1, 2, 3]}),
        ("tanh", {"of": [2]}), ("gate", {"of": [2, 3]}), ("square", {"of": [3]}), ("tensor", {"name": "one"}),
        ("add", {"of": [5, 6]}), ("sqrt", {"of": [7]}), ("reciprocal", {"of": [8]}), ("mul", {"of": [2, 9]}),
        ("gate", {"of": [10, 6]}), ("add", {"of": [4, 10]}), ("add", {"of": [11, 12]}), ("tensor", {"name": "v"}),
        ("matmul", {"of": [13, 14], "shape": [1, 3, 2]}),
    ]  # fmt: skip
    nodes = [{"op": op} | rest for op, rest in steps]
    box = [Fraction(-1, 4), Fraction(1, 3)], [Fraction(1, 8), Fraction(1, 2)]
    unsafe = [[build.atom({0: 1, 1: Fraction(1, 3)}, 0)], [build.atom({1: -1}, 0)]]
    return tightened(nodes, tensors, [box], unsafe, [build.full_tree(3, 2, [0, 0])], slack=Fraction(1, 2**10))


BASES = {f.__name__: f for f in (dense, convolution, smooth, decided, strict_tie, violation, split)}


# --- the oracle


def contradicted(payload: dict[str, Any]) -> bool:
    """Whether the claim is surely false, or says nothing: a point that contradicts it, or a meaningless program."""
    try:
        program, tensors = payload["model"]["program"], tensors_of(payload)
        nodes, output = program["nodes"][: program["output"] + 1], program["output"]
        exact = lambda point: build.evaluate(nodes, tensors, output, point)
        cases = payload["property"]["cases"]
        if payload["claim"] == "violated":
            proof = payload["proof"]
            case, point = cases[proof["case"]], [number(x) for x in proof["inputs"]]
            boxes = [[[number(x) for x in case[kind][end]] for end in ("lo", "hi")] for kind in ("exact", "float32")]
            inside = [all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True)) for lo, hi in boxes]
            rounded = all(build.nearest_float32(x) == np.float64(float(x)) == x for x in point)
            return not ((inside[0] or (inside[1] and rounded)) and build.unsafe_at(case, point, exact(point)))
        return any(find_unsafe(nodes, tensors, case, exact) for case in cases)
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError, AttributeError):
        return True


def number(x: str) -> Fraction:
    return Fraction(float.fromhex(x)) if "x" in x else Fraction(x)


def find_unsafe(nodes: Any, tensors: Any, case: Any, exact: Callable[[list[Fraction]], list[Any]]) -> bool:
    """Look for an unsafe point of a case among corners, random points and points between."""
    lo, hi = ([number(x) for x in case["exact"][end]] for end in ("lo", "hi"))
    rng = np.random.default_rng(0)
    parts = np.concatenate([rng.integers(0, 2, (200, len(lo))), rng.random((200, len(lo))), np.full((1, len(lo)), 0.5)])
    low, high = (np.array([float(x) for x in end]) for end in (lo, hi))
    with np.errstate(all="ignore"):
        outputs = build.evaluate_many(nodes, tensors, low + (high - low) * parts)[-1]
    outputs = np.where(np.isfinite(outputs), outputs, 1e300)  # undefined there: the exact evaluation decides
    order = []
    for disjunct in case["unsafe"]:
        worst = np.full(len(parts), -np.inf)
        for atom in disjunct:
            left = sum((float(Fraction(d)) * outputs[:, j] for j, d in atom["output"]), np.zeros(len(parts)))
            left = left + sum(float(Fraction(c)) * (low + (high - low) * parts)[:, i] for i, c in atom["input"])
            worst = np.maximum(worst, left - float(Fraction(atom["threshold"])))
        order += [int(k) for k in np.argsort(worst)[:2] if worst[k] < 1e-6]
    for k in order:
        point = [a + (b - a) * Fraction(float(p)) for a, b, p in zip(lo, hi, parts[k], strict=True)]
        if build.unsafe_at(case, point, exact(point)):
            return True
    return False


# --- mutants


def numbers_of(payload: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(path, container, key) of every scalar outside the weights and meta."""
    stack: list[tuple[str, Any]] = [("", {k: payload[k] for k in ("model", "property", "proof")})]
    while stack:
        path, place = stack.pop()
        for key, value in place.items() if isinstance(place, dict) else enumerate(place):
            if isinstance(value, dict | list):
                stack.append((f"{path}.{key}", value))
            else:
                yield f"{path}.{key}", place, key


def follow(payload: dict[str, Any], path: str) -> tuple[Any, Any]:
    place: Any = payload
    *outer, last = path.strip(".").split(".")
    for key in outer:
        place = place[int(key) if isinstance(place, list) else key]
    return place, int(last) if isinstance(place, list) else last


def rewrite_weights(payload: dict[str, Any], tensors: dict[str, np.ndarray], rehash: bool = True) -> None:
    payload["weights"] = build.packed(build.tensor_file(tensors))
    if rehash:
        payload["model"]["tensors"] = build.manifest(tensors)


def rebox(case: dict[str, Any]) -> None:
    exact = case["exact"]
    case["float32"] = build.case(exact["lo"], exact["hi"], [])["float32"]


def of_numbers(base: dict[str, Any], rng: random.Random) -> Iterator[Mutant]:
    """Every number and name changed, in several ways: in the property, the proof and the program."""
    for path, _, _ in numbers_of(base):
        kind = "box" if ".exact." in path else ".".join(p for p in path.split(".") if p and not p.isdigit())
        old = (lambda place, key: place[key])(*follow(base, path))
        rational = ".exact." in path or path.endswith(".threshold") or ".unsafe." in path or ".inputs." in path
        if isinstance(old, bool):
            values: list[Any] = [not old]
        elif isinstance(old, int):
            values = [old + 1, old - 1, -old, old + 2, 2**40, 0]
        elif ".float32." in path:
            f = np.float32(float.fromhex(old))
            values = [build.float_text(np.nextafter(f, np.float32(s))) for s in (-np.inf, np.inf)] + ["0x0.0p+0"]
        elif rational:
            x = number(old)
            small = Fraction(1, 2 ** rng.choice([5, 10, 30]))
            values = [str(v) for v in (x + small, x - small, x + 1, x - 1, -x, 0, 2 * x + Fraction(1, 3))]
        elif path.endswith(".op"):
            ops = ("relu", "neg", "tanh", "add", "sub", "mul", "exp", "max", "gate", "square", "sqrt", "reciprocal")
            values = [op for op in ops if op != old]
        elif path.endswith(".sha256") or ".source." in path:
            values = ["0" * 63 + "1", old[::-1], old.upper() + "A"] if ".source." not in path else ["0" * 63]
        elif path.endswith(".bounds"):
            values = ["ibp", "crown", "none"]
        elif path.endswith((".text", "model.name")):
            continue
        else:
            values = ["", old + "x", *sorted(base["model"]["tensors"])]
        for value in values:
            mutant = copy.deepcopy(base)
            place, key = follow(mutant, path)
            if value == place[key]:
                continue
            place[key] = value
            if ".exact." in path:
                rebox(mutant["property"]["cases"][int(path.split(".")[3])])
            yield kind, mutant, ".float32." in path or path.endswith(".sha256") or ".source." in path


def of_weights(base: dict[str, Any], rng: random.Random) -> Iterator[Mutant]:
    """Bits of the weights, with and without a new hash; a tensor added, left out."""
    names = sorted(tensors_of(base))
    for _ in range(60):
        for rehash in (True, False):
            mutant, tensors = copy.deepcopy(base), tensors_of(base)
            words = tensors[rng.choice(names)].reshape(-1).view(np.uint32)
            words[rng.randrange(words.size)] ^= np.uint32(1 << rng.choice([0, 8, 16, 20, 22, 23, 24, 27, 30, 31]))
            rewrite_weights(mutant, tensors, rehash)
            yield ("weight" if rehash else "weight without hash"), mutant, not rehash
    for name in names:
        for change in ("gone", "added"):
            mutant, tensors = copy.deepcopy(base), tensors_of(base)
            value = tensors[name] if change == "added" else tensors.pop(name)
            if change == "added":
                tensors[name + "_"] = value
            rewrite_weights(mutant, tensors, rehash=False)
            yield f"tensor {change}", mutant, True


def of_structure(base: dict[str, Any], rng: random.Random) -> Iterator[Mutant]:
    """Keys dropped and added, list elements dropped, doubled and swapped."""
    stack: list[str] = ["." + key for key in ("model", "property", "proof", "weights")]
    yield from (("key gone", {k: v for k, v in base.items() if k != key}, True) for key in base)
    yield "key added", base | {"facts": []}, True
    while stack:
        path = stack.pop()
        place, key = follow(base, path)
        value = place[key]
        if not isinstance(value, dict | list):
            continue
        stack += [f"{path}.{k}" for k in (value if isinstance(value, dict) else range(len(value)))]
        kind = ".".join(p for p in path.split(".") if p and not p.isdigit())
        if isinstance(value, dict):
            for edit in [*value, None]:
                if path.endswith((".source", ".meta")):
                    continue
                mutant = copy.deepcopy(base)
                here, last = follow(mutant, path)
                here[last] = {k: v for k, v in value.items() if k != edit} if edit else value | {"hint": 0}
                yield ("key gone" if edit else "key added"), mutant, True
        elif value:
            i, j = rng.randrange(len(value)), rng.randrange(len(value))
            swapped = list(value)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            for new in (value[:i] + value[i + 1 :], value[: i + 1] + value[i:], swapped, []):
                mutant = copy.deepcopy(base)
                here, last = follow(mutant, path)
                here[last] = copy.deepcopy(new)
                if new != value:
                    hint = any(word in kind for word in ("put", "leaves", "lemmas", "shape", "slopes", "slots"))
                    yield f"list {kind}", mutant, "float32" in path or (new == [] and not hint)


def of_words(base: dict[str, Any], rng: random.Random) -> Iterator[Mutant]:
    """Claims, levels, kinds, weights that are not canonical base64."""
    for key, values in {
        "claim": ["holds", "violated", "Holds", "proved", ""],
        "levels": [["float32"], ["real", "float32"], ["real", "real"], [], "real", ["bitwise"]],
        "profile": ["cpu", "tpu", "real"],
        "weights": [base["weights"] + "\n", "", base["weights"][:-4], base["weights"] + "AAAA"],
    }.items():  # fmt: skip
        for value in values:
            if value != base[key]:
                yield key, base | {key: value}, True
    for kind in ("tree", "point", "lemma"):
        if kind != base["proof"]["kind"]:
            yield "kind", base | {"proof": base["proof"] | {"kind": kind}}, True


def mutants_of(name: str) -> list[Mutant]:
    base, rng = BASES[name](), random.Random(name)
    found = [m for make in (of_numbers, of_weights, of_structure, of_words) for m in make(base, rng)]
    return found if len(found) < 500 else rng.sample(found, 500)


LEAST_FALSE = {
    "split": 80,
    "dense": 100,
    "convolution": 100,
    "smooth": 60,
    "decided": 60,
    "strict_tie": 40,
    "violation": 100,
}


@pytest.mark.parametrize("name", BASES)
def test_mutants_with_false_claims_are_rejected(name: str) -> None:
    with mpmath.workdps(60):
        base = judge(BASES[name]())
        assert base.accepted, base.reason
        killed, survived, false = Counter[str](), Counter[str](), Counter[str]()
        for kind, payload, must in mutants_of(name):
            result = judge(payload)
            assert not (result.accepted and must), (kind, "was accepted")
            assert "internal" not in result.reason, (kind, result.reason)
            (survived if result.accepted else killed)[kind] += 1
            if not must and (wrong := contradicted(payload)):
                assert not result.accepted, (kind, "claims what is false")
                false[kind] += wrong
        total = sum(killed.values()) + sum(survived.values())
        print(f"\n{name}: {total} mutants, {sum(killed.values())} rejected, {sum(false.values())} of them shown false")
        print("  survived:", dict(survived))
        assert total >= 300 and sum(killed.values()) >= 0.6 * total
        assert sum(false.values()) >= LEAST_FALSE[name], false


def test_a_false_claim_that_is_barely_false_is_rejected() -> None:
    """The mutation suite's thresholds are close to the truth: just beyond it the oracle finds points."""
    payload = dense()
    for slack in (Fraction(1, 2**14), Fraction(1, 2**8), Fraction(1)):
        mutant = copy.deepcopy(payload)
        for case in mutant["property"]["cases"]:
            for disjunct in case["unsafe"]:
                for atom in disjunct:
                    atom["threshold"] = str(Fraction(atom["threshold"]) + slack)
        assert not judge(mutant).accepted
    assert contradicted(mutant)


# --- any changed byte, the digest as it was


@pytest.mark.parametrize("name", ["dense", "violation"])
def test_every_changed_byte_is_noticed(name: str) -> None:
    good, rng = build.seal(BASES[name]()), random.Random(3)
    assert checker.check(good).accepted
    for i in range(len(good)):
        other = rng.choice([good[i] ^ (1 << rng.randrange(8)), rng.randrange(256)])
        if other != good[i]:
            assert not checker.check(good[:i] + bytes([other]) + good[i + 1 :]).accepted, i
    for i in rng.sample(range(len(good)), 300):
        for bad in (
            good[:i],
            good[:i] + good[i + 1 :],
            good[:i] + good[i : i + 1] + good[i:],
            good[:i] + b" " + good[i:],
        ):
            assert bad == good or not checker.check(bad).accepted, i


def test_a_changed_digest_is_noticed() -> None:
    whole = json.loads(build.seal(dense()))
    for digest in ("0" * 64, whole["digest"][::-1], whole["digest"].upper(), "", whole["digest"] + "0"):
        result = checker.check(build.canonical(whole | {"digest": digest}).encode())
        assert not result.accepted and result.code == 1 and "digest" in result.reason
