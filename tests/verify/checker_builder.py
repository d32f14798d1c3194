"""Builds certificates for tests of the checker, from docs/certificate-format.md alone: independent of its code."""

import base64
import hashlib
import importlib.util
import json
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from scipy import special

CHECKER = Path(__file__).resolve().parents[2] / "verify" / "checker.py"


def load_checker() -> Any:
    """The checker as a module, from its file: it must not need the package."""
    if "axiom_checker_under_test" not in sys.modules:
        spec = importlib.util.spec_from_file_location("axiom_checker_under_test", CHECKER)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules["axiom_checker_under_test"]


# --- files


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def seal(payload: dict[str, Any], version: int = 3) -> bytes:
    """The bytes of a certificate with its digest."""
    digest = hashlib.sha256(canonical(payload).encode()).hexdigest()
    whole = {"digest": digest, "format": "axiom-certificate", "payload": payload, "version": version}
    return canonical(whole).encode()


def tensor_file(tensors: dict[str, np.ndarray]) -> bytes:
    """The little-endian bytes of all, in order of their names."""
    return b"".join(np.ascontiguousarray(value).tobytes() for _, value in sorted(tensors.items()))


def packed(blob: bytes) -> str:
    return base64.b64encode(zlib.compress(blob, 0)).decode()  # stored: the same bytes from every zlib


def tensors_of(payload: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a certificate."""
    blob, found, start = zlib.decompress(base64.b64decode(payload["weights"])), {}, 0
    for name, entry in sorted(payload["model"]["tensors"].items()):
        count = int(np.prod(entry["shape"], dtype=int))
        flat = np.frombuffer(blob, {"F32": np.float32, "I32": np.int32}[entry["dtype"]], count, start)
        found[name], start = flat.reshape(entry["shape"]).copy(), start + 4 * count
    return found


def manifest(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    dtypes = {"float32": "F32", "int32": "I32"}
    return {
        name: {
            "dtype": dtypes[str(value.dtype)],
            "shape": list(value.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
        }
        for name, value in tensors.items()
    }


def model(nodes: list[dict[str, Any]], tensors: dict[str, np.ndarray], output: int | None = None) -> dict[str, Any]:
    return {
        "name": "test",
        "source": {"params": "0" * 64},
        "program": {"nodes": nodes, "output": len(nodes) - 1 if output is None else output},
        "tensors": manifest(tensors),
    }


def certificate(
    nodes: list[dict[str, Any]],
    tensors: dict[str, np.ndarray],
    cases: list[dict[str, Any]],
    proof: dict[str, Any],
    claim: str = "holds",
    profile: str = "",
) -> dict[str, Any]:
    """A payload with the weights inside; at level float32 too if a profile is named."""
    return {
        "claim": claim,
        "levels": ["real", "float32"] if profile else ["real"],
        "meta": {"made": "for a test"},
        "model": model(nodes, tensors),
        "profile": profile,
        "property": {"text": "∀x. a test", "cases": cases},
        "proof": proof,
        "weights": packed(tensor_file(tensors)),
    }


# --- numbers


def text(value: Fraction | int | str) -> str:
    return str(Fraction(value))


def nearest_float32(value: Fraction) -> np.float32:
    """RN32 by search among neighbours, for it must not be the checker's."""
    middle = np.float32(float(value))
    with np.errstate(over="ignore"):
        near = [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]
    near = [f for f in near if np.isfinite(f)]
    even = lambda f: int(f.view(np.uint32)) & 1
    return min(near, key=lambda f: (abs(Fraction(float(f)) - value), even(f)))


def float_text(value: Any) -> str:
    return float(value).hex()


def atom(output: dict[int, Any], threshold: Any, inputs: dict[int, Any] | None = None, strict: bool = False) -> Any:
    return {
        "input": [[i, text(c)] for i, c in (inputs or {}).items()],
        "output": [[j, text(d)] for j, d in output.items()],
        "strict": strict,
        "threshold": text(threshold),
    }


def case(lo: list[Any], hi: list[Any], unsafe: list[list[Any]]) -> dict[str, Any]:
    lo, hi = [Fraction(x) for x in lo], [Fraction(x) for x in hi]
    return {
        "exact": {"lo": [text(x) for x in lo], "hi": [text(x) for x in hi]},
        "float32": {
            "lo": [float_text(nearest_float32(x)) for x in lo],
            "hi": [float_text(nearest_float32(x)) for x in hi],
        },
        "unsafe": unsafe,
    }


def tree(nodes: list[int], choices: list[list[int]], bounds: str = "crown") -> dict[str, Any]:
    """A tree for all disjuncts; leaf -1 - c is bounded anew and refutes in disjunct d the atom choices[c][d]."""
    leaves = [[row(d, {k: 1}) for d, k in enumerate(choice)] for choice in choices]
    nodes = [~(2 * (-1 - x) + 1) if isinstance(x, int) and x < 0 else x for x in nodes]
    return forest(nodes, leaves, [[*range(len(choices[0]))]] if choices else [[0]], bounds=bounds)


UNIT, PLACE = 1 << 20, 1 << 80  # of multipliers, of places of splits


def forest(
    nodes: list[int],
    leaves: list[list[Any]],
    roots: list[list[int]],
    splits: list[tuple[int, int, Any]] = [],  # noqa: B006
    tables: list[list[int]] = [],  # noqa: B006
    slots: list[list[int]] = [],  # noqa: B006
    lemmas: list[list[int]] = [],  # noqa: B006
    bounds: str = "crown",
) -> dict[str, Any]:
    """Trees; splits are (node, element, place), tables are slopes from 0 to 255."""
    places = [[k, j, int(Fraction(p) * PLACE)] for k, j, p in splits]
    slopes = [base64.b64encode(bytes(table)).decode() for table in tables]
    return {"bounds": bounds, "leaves": leaves, "lemmas": lemmas, "nodes": nodes, "roots": roots, "slopes": slopes,
            "slots": slots, "splits": places}  # fmt: skip


def row(disjunct: int, atoms: dict[int, Any], table: int = -1, betas: Any = ()) -> list[Any]:
    """What a leaf says of one disjunct."""
    whole = lambda x: round(Fraction(x) * UNIT)
    return [disjunct, [[k, whole(x)] for k, x in atoms.items()], table, [whole(b) for b in betas]]


def full_tree(depth: int, inputs: int, choice: list[int], bounds: str = "crown", odd: bool = True) -> dict[str, Any]:
    """All leaves at one depth, halving the inputs in turn."""

    def below(level: int) -> list[int]:
        if level == depth:
            return [-1]
        return [2 * (level % inputs) + odd, *below(level + 1), *below(level + 1)]

    return tree(below(0), [choice], bounds)


# --- networks


def dense_program(
    weights: list[np.ndarray], biases: list[np.ndarray], activation: str = "relu"
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """x @ W + b, with an activation between layers."""
    nodes: list[dict[str, Any]] = [{"op": "input", "size": weights[0].shape[0]}]
    tensors = {}
    last = 0
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        tensors |= {f"w{i}": w.astype(np.float32), f"b{i}": b.astype(np.float32)}
        k = len(nodes)
        nodes += [
            {"op": "tensor", "name": f"w{i}"},
            {"op": "matmul", "of": [last, k], "shape": [1, *w.shape]},
            {"op": "tensor", "name": f"b{i}"},
            {"op": "add", "of": [k + 1, k + 2]},
        ]
        if i + 1 < len(weights):
            nodes.append({"op": activation, "of": [k + 3]})
        last = len(nodes) - 1
    return nodes, tensors


def evaluate(nodes: list[dict[str, Any]], tensors: dict[str, np.ndarray], output: int, point: list[Any]) -> list[Any]:
    """The network at a point: Fractions where it is piecewise linear, else mpmath numbers of 60 digits."""
    return evaluate_all(nodes[: output + 1], tensors, point)[-1]


def evaluate_all(
    nodes: list[dict[str, Any]], tensors: dict[str, np.ndarray], point: list[Any], between: Any = Fraction(0)
) -> list[list[Any]]:
    """The value of every node at a point; an undecided gate takes this part of its value."""
    values: list[list[Any]] = []
    smooth = {"tanh": mpmath.tanh, "exp": mpmath.exp, "sqrt": mpmath.sqrt, "reciprocal": lambda z: 1 / z,
              "square": lambda z: z * z}  # fmt: skip
    smooth |= {"log": mpmath.log, "erf": mpmath.erf, "sin": mpmath.sin, "cos": mpmath.cos, "atan": mpmath.atan}
    smooth["logistic"] = lambda z: 1 / (1 + mpmath.exp(-z))

    def precise(z: Any) -> Any:
        return mpmath.mpf(z.numerator) / z.denominator if isinstance(z, Fraction) else z

    def product(a: Any, b: Any) -> Any:
        both = isinstance(a, Fraction) and isinstance(b, Fraction)
        return a * b if both else precise(a) * precise(b)

    def total(a: Any, b: Any) -> Any:
        both = isinstance(a, Fraction) and isinstance(b, Fraction)
        return a + b if both else precise(a) + precise(b)

    constant: list[bool] = []

    def fits(condition: bool) -> None:
        if not condition:
            raise ValueError("this is no program")

    with mpmath.workdps(60):
        for place, node in enumerate(nodes):
            op, of = node["op"], node.get("of", [])
            fits((op == "input") == (place == 0) and all(0 <= k < place for k in of))
            args, fixed = [values[k] for k in of], [constant[k] for k in of]
            if op == "input":
                fits(node["size"] == len(point))
                out = [Fraction(x) for x in point]
            elif op == "tensor":
                fits(tensors[node["name"]].dtype == np.float32)
                out = [Fraction(float(x)) for x in tensors[node["name"]].ravel()]
            elif op == "matmul":
                m, k, n = node["shape"]
                fits(min(m, k, n) > 0 and len(args[0]) == m * k and len(args[1]) == k * n and fixed[1])
                out = []
                for r in range(m):
                    for j in range(n):
                        acc = Fraction(0)
                        for i in range(k):
                            acc = total(acc, product(args[0][r * k + i], args[1][i * n + j]))
                        out.append(acc)
            elif op == "take":
                index = tensors[node["index"]]
                fits(index.dtype == np.int32 and index.min() >= -1)
                out = [args[0][i] if i >= 0 else Fraction(0) for i in index.ravel()]
            elif op == "concat":
                out = [x for part in args for x in part]
            elif op in ("add", "sub"):
                out = [total(a, b if op == "add" else product(Fraction(-1), b)) for a, b in zip(*args, strict=True)]
            elif op in ("mul", "div"):
                fits(len(of) == 2 and (fixed[1] or op == "mul"))
                invert = (lambda b: b) if op == "mul" else (lambda b: 1 / b)
                out = [product(a, invert(b)) for a, b in zip(*args, strict=True)]
            elif op == "gate":
                fits(len(of) == 2 and not fixed[0] and len(args[0]) == len(args[1]))
                parts = [Fraction(1) if g > 0 else Fraction(0) if g < 0 else between for g in args[0]]
                out = [product(part, v) for part, v in zip(parts, args[1], strict=True)]
            else:
                fits(len(of) == 1)
                fits(op not in ("sqrt", "reciprocal", "log") or all(z >= (op != "sqrt") * 1e-300 for z in args[0]))
                plain = {"neg": lambda a: -a, "relu": lambda a: max(a, 0 * a)}
                out = [plain[op](a) if op in plain else smooth[op](precise(a)) for a in args[0]]
            values.append(out)
            constant.append(op == "tensor" or (op != "input" and all(fixed)))
    return values


def view(
    tensors: dict[str, np.ndarray], of: int, shape: list[int], source: list[int], maps: list[Any]
) -> dict[str, Any]:
    """Patches of a value: its element at (offset + sum of multiplier * i) / dilation, or 0 where that is none."""
    index = []
    for i in np.ndindex(*shape):
        place = [f + sum(m * a for m, a in zip(ms, i, strict=True)) for f, ms, _ in maps]
        where = [s // d if s % d == 0 else -1 for s, (_, _, d) in zip(place, maps, strict=True)]
        inside = all(0 <= c < n for c, n in zip(where, source, strict=True))
        index.append(int(np.ravel_multi_index(where, source)) if inside and where else inside - 1)
    name = f"view{len(tensors)}"
    tensors[name] = np.array(index, np.int32)
    return {"op": "take", "of": [of], "index": name}


def evaluate_many(nodes: list[dict[str, Any]], tensors: dict[str, np.ndarray], points: np.ndarray) -> list[np.ndarray]:
    """The value of every node at many points, in float64: to look for points, not to judge them."""
    values: list[np.ndarray] = []
    relu, logistic = (lambda z: np.maximum(z, 0)), (lambda z: 1 / (1 + np.exp(-z)))
    table = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "relu": relu}
    table |= {"tanh": np.tanh, "logistic": logistic, "exp": np.exp, "sqrt": np.sqrt, "log": np.log}
    table |= {"sin": np.sin, "cos": np.cos, "erf": special.erf, "atan": np.arctan}
    table |= {"square": np.square, "reciprocal": np.reciprocal, "gate": lambda g, v: np.where(g > 0, v, 0.0)}
    for node in nodes:
        op, args = node["op"], [values[k] for k in node.get("of", [])]
        zero = np.zeros((len(points), 1))
        if op == "input":
            out = points
        elif op == "tensor":
            out = np.tile(tensors[node["name"]].ravel().astype(float), (len(points), 1))
        elif op == "matmul":
            m, k, n = node["shape"]
            out = (args[0].reshape(-1, m, k) @ args[1][0].reshape(k, n)).reshape(len(points), -1)
        elif op == "take":
            index = list(tensors[node["index"]].ravel())
            out = np.concatenate([args[0], zero], 1)[:, index]
        elif op == "concat":
            out = np.concatenate(args, 1)
        else:
            out = table[op](*args)
        values.append(out)
    return values


def true_atom(atom: dict[str, Any], point: list[Fraction], outputs: list[Any]) -> bool:
    precise = lambda z: mpmath.mpf(z.numerator) / z.denominator if isinstance(z, Fraction) else z
    left: Any = sum((Fraction(c) * point[i] for i, c in atom["input"]), Fraction(0))
    for j, d in atom["output"]:
        y = outputs[j]
        exact = isinstance(y, Fraction) and isinstance(left, Fraction)
        left = left + Fraction(d) * y if exact else precise(left) + precise(Fraction(d)) * precise(y)
    threshold = Fraction(atom["threshold"])
    limit = threshold if isinstance(left, Fraction) else mpmath.mpf(threshold.numerator) / threshold.denominator
    return bool(left < limit or (left == limit and not atom["strict"]))


def unsafe_at(case: dict[str, Any], point: list[Fraction], outputs: list[Any]) -> bool:
    return any(all(true_atom(a, point, outputs) for a in disjunct) for disjunct in case["unsafe"])


def conv_program(rng: np.random.Generator) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A 3x3 convolution with stride 2 and padding 1 over a 4x4 image, relu, max over positions, a dense layer.

    Channels last: the patches have shape (2, 2, 3, 3), the kernel is 9 x 2.
    """
    tensors = {
        "kernel": rng.integers(-8, 9, (9, 2)).astype(np.float32) / 8,
        "bias": rng.integers(-4, 5, 2).astype(np.float32) / 8,
        "w": rng.integers(-8, 9, (4, 2)).astype(np.float32) / 4,
        "order": np.array([0, 2, 4, 6, 1, 3, 5, 7], np.int32),
    }
    patches = [[-1, [2, 0, 1, 0], 1], [-1, [0, 2, 0, 1], 1]]
    nodes = [
        {"op": "input", "size": 16},
        view(tensors, 0, [2, 2, 3, 3], [4, 4], patches),
        {"op": "tensor", "name": "kernel"},
        {"op": "matmul", "of": [1, 2], "shape": [4, 9, 2]},
        {"op": "tensor", "name": "bias"},
        view(tensors, 4, [4, 2], [2], [[0, [0, 1], 1]]),
        {"op": "add", "of": [3, 5]},
        {"op": "relu", "of": [6]},
        {"op": "take", "of": [7], "index": "order"},  # channels first
        # the maximum of neighbours, as b + relu(a - b)
        view(tensors, 8, [2, 2], [2, 4], [[0, [1, 0], 1], [0, [0, 2], 1]]),
        view(tensors, 8, [2, 2], [2, 4], [[0, [1, 0], 1], [1, [0, 2], 1]]),
        {"op": "sub", "of": [9, 10]},
        {"op": "relu", "of": [11]},
        {"op": "add", "of": [10, 12]},
        {"op": "tensor", "name": "w"},
        {"op": "matmul", "of": [13, 14], "shape": [1, 4, 2]},
    ]
    return nodes, tensors


def random_program(
    rng: np.random.Generator, smooth: bool = False, length: int = 10, scale: float = 1.0
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A program of random operations on small vectors; the last node depends on the input. At most three products.

    Args:
        smooth: whether curves are among them.
    """
    nodes: list[dict[str, Any]] = [{"op": "input", "size": int(rng.integers(1, 5))}]
    sizes, constant, tensors = [nodes[0]["size"]], [False], {}
    floats = lambda *shape: (rng.normal(size=shape) * scale).astype(np.float32)

    def push(node: dict[str, Any], size: int) -> int:
        nodes.append(node)
        sizes.append(size)
        constant.append(node["op"] == "tensor" or all(constant[k] for k in node["of"]))
        return len(nodes) - 1

    def tensor(value: np.ndarray) -> int:
        name = f"t{len(tensors)}"
        tensors[name] = value
        return push({"op": "tensor", "name": name}, value.size)

    def known(size: int, positive: bool = False) -> int:
        value = floats(size)
        k = tensor(np.abs(value) + np.float32(0.25) if positive else value)
        if positive and rng.random() < 0.5:
            k = push({"op": str(rng.choice(["sqrt", "reciprocal"])), "of": [k]}, size)
        return k

    def factorise(size: int) -> int:
        return int(rng.choice([d for d in range(1, size + 1) if size % d == 0]))

    last, ops = 0, ["matmul", "view", "take", "concat", "add", "sub", "mul", "div", "neg", "relu", "relu", "relu"]
    ops += ["product", "gate", "gate"] + ["tanh", "logistic", "exp", "square", "reciprocal", "sqrt"] * smooth
    ops += ["log", "erf", "sin", "cos", "atan"] * smooth
    products = 0
    for _ in range(length):
        op, size = str(rng.choice(ops)), sizes[last]
        op = "gate" if op == "product" and products == 3 else op
        others = [k for k in range(len(nodes)) if sizes[k] == size]
        if op == "matmul":
            m = factorise(size)
            n = int(rng.integers(1, 4))
            last = push({"op": op, "of": [last, tensor(floats(size // m, n))], "shape": [m, size // m, n]}, m * n)
        elif op == "view":
            source = [factorise(size)]
            source.append(size // source[0])
            shape = [int(x) for x in rng.integers(1, 4, int(rng.integers(0, 3)))]
            maps = [
                [int(rng.integers(-1, 2)), [int(x) for x in rng.integers(-1, 3, len(shape))], int(rng.integers(1, 3))]
                for _ in source
            ]
            maps = [[0, [1, 0], 1], [0, [0, 1], 1]] if len(shape) == 2 and rng.random() < 0.5 else maps
            last = push(view(tensors, last, shape, source, maps), int(np.prod(shape, dtype=int)))
        elif op == "take":
            name = f"t{len(tensors)}"
            tensors[name] = rng.integers(-1, size, int(rng.integers(1, 5))).astype(np.int32)
            last = push({"op": op, "of": [last], "index": name}, tensors[name].size)
        elif op == "concat":
            more = int(rng.integers(0, len(nodes)))
            if sizes[more] + size <= 8:
                last = push({"op": op, "of": [last, more] if rng.random() < 0.5 else [more, last]}, sizes[more] + size)
        elif op in ("add", "sub"):
            other = int(rng.choice(others)) if rng.random() < 0.5 else known(size)
            last = push({"op": op, "of": [last, other] if rng.random() < 0.5 else [other, last]}, size)
        elif op in ("product", "gate"):
            varying = [k for k in others if not constant[k]]
            other = int(rng.choice(varying if op == "product" or rng.random() < 0.7 else others))
            of = [last, other] if constant[other] or rng.random() < 0.5 else [other, last]
            last, products = push({"op": "mul" if op == "product" else op, "of": of}, size), products + (op != "gate")
        elif op in ("reciprocal", "sqrt", "log"):
            last = push({"op": str(rng.choice(["square", "relu"])), "of": [last]}, size)
            if op != "sqrt" or rng.random() < 0.5:
                last = push({"op": "add", "of": [last, known(size, positive=True)]}, size)
            last = push({"op": op, "of": [last]}, size)
        elif op in ("mul", "div"):
            other = known(size, positive=op == "div")
            last = push({"op": op, "of": [other, last] if op == "mul" and rng.random() < 0.5 else [last, other]}, size)
        else:
            last = push({"op": op, "of": [last]}, size)
    if constant[last]:
        raise AssertionError("the generator keeps its last node varying")
    push({"op": "neg", "of": [last]}, sizes[last])
    return nodes, tensors
