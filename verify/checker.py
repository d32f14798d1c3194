"""Re-checks certificates about neural networks: one file, Python's standard library, integers only.

    python -I -S verify/checker.py [--failed] CERT...

Exit 0 `accepted`, 1 `rejected: reason`, 2 `unreadable: reason` or bad usage. Nothing in a certificate is trusted. The
format is docs/certificate-format.md, the mathematics weak duality, every rounding towards the weaker bound.
"""
# fmt: off
# ruff: noqa: E401, I001
from __future__ import annotations
import base64, collections, copy, hashlib, json, struct, sys, zlib
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache, lru_cache, partial, reduce
from math import isqrt, lcm, prod
from operator import add, mul, neg, or_, sub
from typing import Any
P = G = 40  # fractional bits of multipliers and slopes; of bounds on neurons
H = P + G  # fractional bits of inputs and function values; sums of products with these have P + H
POINT_BITS = 192  # fractional bits of functions and reciprocals where points and constants are evaluated
STEEP, UNIT = 255, 20  # the slope 1, as slopes are multiples of 1 / 255; fractional bits of multipliers in leaves
MAX_BYTES, MAX_SIZE = 1 << 30, 1 << 24  # of a certificate or a weights file; values of all nodes together
Vector = tuple[list[int], list[int], int]  # lo, hi, den > 0: numbers x with lo <= x den <= hi, exact where lo = hi
Split = tuple[int, int, int, int]  # k, j, p at 2^-H, sign: where sign (z - p) >= 0 for z = the value j of node k
ROUNDED = "exp", "log", "logistic", "tanh", "erf", "sqrt", "reciprocal", "div", "sin", "cos", "atan"  # by 2^-24 times
PROFILES = {"cpu": dict(zip(ROUNDED, (3, 3, 5, 10, 14, 2, 4, 4, 2, 2, 12), strict=True)),
            "cuda": dict(zip(ROUNDED, (4, 3, 8, 11, 13, 2, 4, 4, 4, 4, 8), strict=True))}
SUMS, MOVES, EXACT = {"add", "sub", "matmul"}, {"take", "concat", "neg"}, {"take", "concat", "neg", "relu", "gate"}
Slopes = dict[tuple[int, int], int]  # by (k, j): of the line s z / STEEP below the relu of the value j of node k
EMPTY: Slopes = {}
class Unreadable(Exception): ...  # the bytes are no certificate of a known version
class Rejected(Exception): ...  # a certificate that does not prove its claim, or whose payload is malformed
def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)
def parse_json(data: bytes, refusal: type[Exception]) -> Any:
    try:
        return json.loads(data.decode(), parse_float=int, parse_constant=int)  # int("NaN") raises ValueError
    except (ValueError, RecursionError) as error:
        raise refusal(f"not JSON as the format asks: {str(error)[:200]!r}") from None
def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
def open_envelope(data: bytes) -> dict[str, Any]:
    """The payload of a certificate, after its form and digest were checked."""
    whole = parse_json(data[:MAX_BYTES], Unreadable)
    if type(whole) is dict and "payloadType" in whole:  # a signed file, of which the statement alone is read
        whole = parse_json(from_base64(whole.get("payload"), "the statement"), Unreadable)
        for key in ("predicate", "certificate"):
            whole = whole.get(key) if type(whole) is dict else None
        data = canonical(whole)
    whole = conform(whole, {"digest": str, "format": str, "payload": dict, "version": int}, "the file", Unreadable)
    if whole["format"] != "axiom-certificate" or whole["version"] != 3 or data.removesuffix(b"\n") != canonical(whole):
        raise Unreadable("this is no axiom-certificate of version 3 in canonical form")  # so no key is double
    need(hashlib.sha256(canonical(whole["payload"])).hexdigest() == whole["digest"], "the digest does not match")
    return whole["payload"]
def conform(value: Any, form: Any, what: str, refusal: type[Exception] = Rejected) -> Any:
    """`value` if of this form: a type; {key: form}, exactly these; [form], a list; (form, ...), a list so long."""
    pairs: list[tuple[Any, Any]] = [(value, form)]
    while pairs:
        part, form = pairs.pop()
        kind = form if isinstance(form, type) else dict if isinstance(form, dict) else list
        if type(part) is not kind or (isinstance(form, dict) and set(part) != set(form)) or (
                isinstance(form, tuple) and len(part) != len(form)):
            raise refusal(f"{what} is not of the form that the format asks for")
        forms = form if isinstance(form, tuple) else form * len(part) if isinstance(form, list) else ()
        parts = part if forms else ()
        pairs.extend([(part[k], form[k]) for k in form] if isinstance(form, dict) else zip(parts, forms, strict=True))
    return value
def integer(value: Any, low: int, high: int, what: str) -> int:
    need(type(value) is int and low <= value < high, f"{what} is not an integer in its range")
    return value
def from_base64(value: Any, what: str) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        raise Rejected(f"{what}: not base64") from None
    need(base64.b64encode(data).decode("ascii") == value, f"{what}: not canonical base64")
    return data
def sizes_of(model: Any) -> dict[str, int]:
    """How many bytes the weights hold of each tensor, in their order: that of the names."""
    conform(model, {"name": str, "program": {"nodes": [dict], "output": int}, "source": dict, "tensors": dict}, "model")
    for name, entry in model["tensors"].items():
        conform(entry, {"dtype": str, "sha256": str, "shape": [int]}, f"tensor {name!r}")
        need(entry["dtype"] in ("F32", "I32") and len(entry["shape"]) < 65, f"tensor {name!r} has no known type")
        need(min(entry["shape"], default=1) > 0, f"tensor {name!r} has no values")
    return {name: 4 * prod(entry["shape"]) for name, entry in sorted(model["tensors"].items())}
def unpacked(model: Any, weights: Any) -> bytes:
    """The bytes of a model's tensors from a zlib stream in base64, of which no more is unpacked than these take."""
    size, stream, packed = sum(sizes_of(model).values()), zlib.decompressobj(), from_base64(weights, "the weights")
    need(size <= 4 * MAX_SIZE, "the tensors are too large")
    try:
        data = stream.decompress(packed, size + 1)
    except zlib.error:
        raise Rejected("the weights: not a zlib stream") from None
    need(stream.eof and len(data) == size and not stream.unused_data, "the weights: not one zlib stream of the tensors")
    return data
def number(value: Any, what: str, signs: str, read: Callable[[str], Any], write: Callable[[Any], str]) -> Fraction:
    """The number that a text of these signs says, if it is what `write` says of it."""
    try:
        need(type(value) is str and len(value) <= 2000 and not {*value} - {*signs}, f"{what} is no number")
        need(write(read(value)) == value, f"{what} is not written as the format asks")
        return Fraction(read(value))
    except (ValueError, ArithmeticError):
        raise Rejected(f"{what} is no number") from None
rational = partial(number, signs="-/0123456789", read=Fraction, write=str)
float_hex = partial(number, signs="-+.px0123456789abcdef", read=float.fromhex, write=float.hex)
def round_to_float32(value: Fraction) -> Fraction:
    """RN32: the nearest float32, ties to even, subnormals kept; what rounds to infinity is rejected."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent  # now 2^exponent <= |value| < 2^(exponent + 1), or the value is 0
    unit = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(value / unit) * unit  # `round` takes ties to even
    need(abs(rounded) < 1 << 128, "a number is too large for float32")
    return rounded
# --- Smooth functions: enclosures, and lines below and above ----------------------------------------------------------
LN2 = 0xB17217F7D1CF79ABC9E3B39803F2F6AF40F343267298B62D8A0D175B8BAAFA2B  # floor(2^256 ln 2)
PI = 0x3243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89  # floor(2^256 pi)
def exp_bounds(x: int, bits: int) -> tuple[int, int]:
    """Integers (a, b) with a <= 2^bits exp(x / 2^bits) <= b; bits <= 256."""
    need(x <= 1024 << bits, "exp of more than 1024")
    x = max(x, -(bits + 2) << bits)  # whence on it is less than a unit
    ln2 = LN2 >> (256 - bits)  # ln2 <= 2^bits ln 2 <= ln2 + 1
    twos, rest = divmod(x, ln2 + (x >= 0))  # rest is in [0, ln2]; and x - twos ln 2 is in [rest, rest + abs(twos)]
    # A term, rounded down from the last, is at most 3 too small, as (3 r + 1) / i + 1 <= 3; those left out sum to < 6.
    total, term, count = 1 << bits, 1 << bits, 1
    while term:
        term = (term * rest >> bits) // count
        total, count = total + term, count + 1
    above = total + 3 * count + 6
    above += -(-above * abs(twos) >> (bits - 1))  # e^d - 1 <= 2d for 0 <= d <= 1
    return (total << twos, above << twos) if twos >= 0 else (total >> -twos, -(-above >> (-twos)))
def logistic_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for 1 / (1 + exp(-x)); where exp(-x) > exp(1000), it is less than a unit."""
    one, (low, high) = 1 << bits, exp_bounds(min(-x, 1000 << bits), bits)
    return (one << bits) // (one + high), -((-one << bits) // (one + low))
def log_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for log, x > 0: x = 2^twos y, 1 <= y < 2, log y = 2 (z + z^3 / 3 + ...) with z = (y - 1) / (y + 1)."""
    twos, one = x.bit_length() - 1 - bits, 1 << bits
    y = x >> twos if twos >= 0 else x << -twos
    term, total, count = ((y - one) << bits) // (y + one), 0, 0
    squared = term * term >> bits
    while term:  # at most 2 too small, so 3 after the division; those left out sum to < 3
        total, term, count = total + term // (2 * count + 1), term * squared >> bits, count + 1
    value, error = twos * (LN2 >> (256 - bits)) + 2 * total, abs(twos) + 6 * count + 7
    return value - error, value + error
def erf_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for erf: 2 / sqrt(pi) exp(-x^2) (x + x 2x^2 / 3 + x (2x^2)^2 / 15 + ...); 1 - erf(|x|) < exp(-x^2)."""
    one, z, n, squared = 1 << bits, abs(x), 1, x * x >> bits
    low, high = one - exp_bounds(-squared, bits)[1], one
    if z < 6 << bits:
        low = high = least = most = z
        while most > 4 or squared >> (bits - 2) >= n:  # until terms halve, so that those left out sum to < most
            n += 2
            least, most = (least * 2 * squared >> bits) // n, (most * 2 * (squared + 1) >> bits) // n + 2
            low, high = low + least, high + most
        square = (4 << (2 * bits + 256)) // PI  # of 2 / sqrt(pi)
        low = low * (isqrt(square) - 1) // exp_bounds(squared + 1, bits)[1]
        high = min(-(-(high + most) * (isqrt(square) + 1) // exp_bounds(squared, bits)[0]), one)
    return (low, high) if x >= 0 else (-high, -low)
def wave_bounds(x: int, bits: int, turns: int) -> tuple[int, int]:
    """The same for sin(x + turns pi / 2): x is r and quarters pi / 2, |r| <= pi / 4; of r the Taylor series."""
    quarter = PI >> (257 - bits)  # of a turn, at most a unit too small
    quarters = (2 * x + quarter) // (2 * quarter)
    rest, even, error = x - quarters * quarter, (quarters + turns) & 1, abs(quarters) + 6
    squared, term, total, count = rest * rest >> bits, 1 << bits if even else abs(rest), 0, 1 - even
    while term:  # at most 3 off, as are those left out in all, less one
        total, error, count = total + (term if count & 2 == 0 else -term), error + 3, count + 2
        term = (term * squared >> bits) // (count * (count - 1))
    value = total if (even or rest >= 0) != bool((quarters + turns) & 2) else -total
    return value - error, value + error
def atan_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for atan, by Euler's w / (1 + w^2) (1 + 2 y / 3 (1 + 4 y / 5 (...))), y = w^2 / (1 + w^2), w <= 1."""
    w, total, n = min(abs(x), (1 << 2 * bits) // max(abs(x), 1)), 0, 0  # at most a unit too small
    y, term = ((w * v << bits) // ((1 << 2 * bits) + w * w) for v in (w, 1 << bits))
    while term:  # each by d too small, d < 5 as the next d <= d / 2 + 7 / 3; those left out sum to < 10
        total, n, term = total + term, n + 1, (2 * (n + 1) * term * y >> bits) // (2 * n + 3)
    low, high, quarter = total, total + 5 * n + 11, PI >> (257 - bits)  # quarter <= 2^bits pi / 2 <= quarter + 1
    low, high = (low, high) if abs(x) <= 1 << bits else (quarter - high, quarter + 1 - low)
    return (low, high) if x >= 0 else (-high, -low)
FUNCTIONS = {"exp": exp_bounds, "logistic": logistic_bounds, "erf": erf_bounds, "sin": partial(wave_bounds, turns=0),
             "cos": partial(wave_bounds, turns=1),  # and tanh(x) = 2 logistic(2x) - 1; for x > 0, but in squares:
             "tanh": lambda x, bits: tuple([2 * y - (1 << bits) for y in logistic_bounds(2 * x, bits)]),
             "log": log_bounds, "atan": atan_bounds, "square": lambda x, bits: (x * x >> bits, -(-x * x >> bits)),
             "reciprocal": lambda x, bits: ((1 << 2 * bits) // x, -((-1 << 2 * bits) // x)),
             "sqrt": lambda x, bits: (isqrt(x << bits), isqrt(x << bits) + 1)}
@lru_cache(1 << 16)
def line(op: str, l: int, u: int, above: bool) -> tuple[int, int]:
    """A line below or above f on [l, u] (at 2^-G): (s, t) at 2^-P, 2^-H with f(z) >= s z + t, or <=; any s will do."""
    if op == "square":  # (z - l) (z - u) <= 0 and (z - (l + u) / 2)^2 >= 0
        return l + u, -(l * u if above else -(-(l + u) ** 2 >> 2))
    f, one, middle, convex = FUNCTIONS[op], 1 << H, (l + u) << (H - G - 1), op in ("exp", "reciprocal")
    if convex or op in ("log", "sqrt"):
        (left, left_above), (right, right_above) = f(l << (H - G), H), f(u << (H - G), H)
        s = (right - left) // max(u - l, 1)
        if above == convex:  # less a line f is extreme at an end
            return s, max(left_above - s * l, right_above - s * u) if above else min(left - s * l, right - s * u)
        v, c = max(f(middle, H)[0], 1), (1 << (P + H)) // max(middle, 1)  # c > 0 is the slope in the middle, or about
        c = max({"exp": v >> (H - P), "log": c, "sqrt": (1 << (P + H - 1)) // v}.get(op, v * v >> (2 * H - P)), 1)
        low, high = log_bounds(c << (H - P), H)
        if op in ("exp", "log"):  # exp(z) >= c z + c - c log(c) and log(z) <= c z - 1 - log(c)
            return c, -one - low if above else c * (one - high) >> P
        return (c, -((-1 << (P + H)) // (4 * c))) if above else (-c, 2 * isqrt(c << (2 * H - P)))  # sqrt, reciprocal
    r = max(l, -u, 0) >> G  # |f''| <= 8 exp(-2r), min(1 / 10, exp(-r)), 3r exp(-r^2), 2 / r^3, or 1
    flat = {"tanh": min(3 * r - 4, 20), "logistic": max(r + 1, 3), "erf": r * r - 1, "atan": 3 * r.bit_length() - 4}
    sign, i, j = -1 if above else 1, 0, min(16 + ((u - l) >> (G - 3)), 512) | 1
    points, widest = [l + (u - l) * k // j for k in range(j + 1)], (u - l) // j + 1
    values, found, half, s, rests = [sign * f(z << (H - G), H)[above] for z in points], -1, j >> 1, 0, list[int]()
    while found not in (i, j):  # the edge of the convex hull that is over or under the middle
        i, j = (i, j) if found < 0 else (found, j) if found <= half else (i, found)
        s = (values[j] - values[i]) // max(points[j] - points[i], 1)
        rests = [v - s * z for v, z in zip(values, points, strict=True)]
        found = min(i, j, *range(i, j), key=rests.__getitem__)
    least = min(rests) - (widest * widest >> 3 + max(flat.get(op, 0), 0)) - 1  # |f''| <= 2^-flat; w^2 |f''| / 8
    return (sign * s, sign * least) if widest < 1 << G else (0, -sign * one << (op == "atan"))
def extent(op: str, l: int, u: int, bits: int) -> tuple[int, int]:
    """Bounds of sin or cos on [l, u], all at 2^-bits."""
    if l == u:
        return FUNCTIONS[op](l, bits)
    low, high = l >> (bits - G), -(-u >> (bits - G))
    (s, t), (a, b) = line(op, low, high, False), line(op, low, high, True)
    return (min(s * low, s * high) + t) << bits >> H, -(-(max(a * low, a * high) + b) << bits >> H)
def outward(a: Vector, bits: int) -> Vector:
    lo, hi, den = a
    return [(x << bits) // den for x in lo], [-((-x << bits) // den) for x in hi], 1 << bits
def reciprocal(b: Vector) -> Vector:
    """1 / b: exact if b is and has few distinct values, so that a common denominator stays small."""
    lo, hi, den = b
    need(all(x > 0 or y < 0 for x, y in zip(lo, hi, strict=True)), "a division by what may be 0")
    if lo == hi and len(set(lo)) <= 64 and (common := lcm(*lo)):
        inverse = [den * (common // x) for x in lo]
        return inverse, inverse, common
    return [(den << POINT_BITS) // y for y in hi], [-((-den << POINT_BITS) // x) for x in lo], 1 << POINT_BITS
# --- The network: tensors and program ---------------------------------------------------------------------------------
def decode_float32(data: bytes, name: str) -> Vector:
    """Exact numbers from float32 bytes, at 2^-149 less the zeros that all of them end in."""
    bits = struct.unpack(f"<{len(data) // 4}I", data)
    need(all(~w & 0x7F800000 for w in bits), f"tensor {name!r} holds a NaN or an infinity")
    sizes = [(w & 0x7FFFFF | 0x800000) << (w >> 23 & 255) - 1 if w & 0x7F800000 else w & 0x7FFFFF for w in bits]
    used = reduce(or_, sizes, 1 << 149)
    spare = (used & -used).bit_length() - 1
    values = [(-v if w >> 31 else v) >> spare for v, w in zip(sizes, bits, strict=True)]
    return values, values, 1 << (149 - spare)
class Node:
    """An operation; `terms`: (place of an operand, index or None, sign), the sum of sign * operand[index]; [-1] = 0."""
    def __init__(self, op: str, of: list[int], size: int, constant: bool) -> None:
        self.op, self.of, self.size, self.constant, self.source = op, of, size, constant, 0
        self.shape, self.pair, self.terms = list[int](), False, list[tuple[int, list[int] | None, int]]()
FORMS = {"input": {"size": int}, "tensor": {"name": str}, "take": {"index": str, "of": [int]},
         "matmul": {"of": [int], "shape": (int, int, int)}}
OPERANDS = {"input": 0, "tensor": 0, "matmul": 2, "add": 2, "sub": 2, "mul": 2, "div": 2, "gate": 2,
            "take": 1, "neg": 1, "relu": 1, "concat": None} | dict.fromkeys(FUNCTIONS, 1)
def parse_node(raw: Any, nodes: list[Node], tensors: dict[str, tuple[str, bytes]]) -> Node:
    """Validate a node whose operands are among `nodes`."""
    op = str(raw.get("op"))
    here = f"node {len(nodes)} ({op[:20]!r})"
    need(op in OPERANDS, f"{here} is no known operation")
    conform(raw, {"op": str} | FORMS.get(op, {"of": [int]}), here)
    need((op == "input") == (not nodes), "node 0, and no other, must be the input")
    if op == "input":
        return Node(op, [], integer(raw["size"], 1, MAX_SIZE, f"the size of {here}"), False)
    name, dtype = (raw.get("name"), "F32") if op == "tensor" else (raw.get("index"), "I32")
    need(op not in ("tensor", "take") or tensors.get(name, "?")[0] == dtype, f"{here} names no {dtype} tensor")
    if op == "tensor":
        return Node(op, [], len(tensors[name][1]) // 4, True)
    of = [integer(k, 0, len(nodes), f"an operand of {here}") for k in raw["of"]]
    need(len(of) == (OPERANDS[op] or len(of) or 1), f"{here} has the wrong number of operands")
    sizes, a, b = [nodes[k].size for k in of], nodes[of[0]], nodes[of[-1]]
    node = Node(op, of, a.size, all(nodes[k].constant for k in of))
    node.source = next((k for k in of if not nodes[k].constant), of[0])  # the one that varies, unless there are terms
    if op == "matmul":
        m, k, n = node.shape = [integer(x, 1, MAX_SIZE, f"the shape of {here}") for x in raw["shape"]]
        need(sizes == [m * k, k * n] and b.constant, f"{here} does not fit its operands, or they vary")
        node.size = m * n
    elif op == "take":
        index = [*struct.unpack(f"<{len(tensors[name][1]) // 4}i", tensors[name][1])]
        need(-1 <= min(index) and max(index) < a.size, f"{here} reads outside its operand")
        node.size, node.terms[:] = len(index), [(0, index, 1)]
    elif op == "concat":
        node.size, start = sum(sizes), 0
        need(node.size * len(of) <= MAX_SIZE, f"{here} is too large")
        for place, size in enumerate(sizes):
            node.terms.append((place, [-1] * start + [*range(size)] + [-1] * (node.size - start - size), 1))
            start += size
    else:
        need(len(set(sizes)) == 1, f"{here} has operands of different sizes")
        need(b.constant if op == "div" else op != "gate" or not a.constant, f"{here}: the wrong operand varies")
        node.pair = op == "gate" or (op == "mul" and not a.constant and not b.constant)
        node.terms[:] = [(i, None, x) for i, x in enumerate({"add": [1, 1], "sub": [1, -1], "neg": [-1]}.get(op, []))]
    return node
def enclose(node: Node, args: list[Vector], matrix: Matrix | None = None) -> Vector:
    """The same at 2^-G."""
    value = matrix.forward(args[0])[0] if matrix else evaluate_node(node, args, H)
    return value if value[2] == 1 << G else outward(value, G)
def evaluate_node(node: Node, args: list[Vector], bits: int) -> Vector:
    """Enclosures of a node's values from those of its operands; smooth functions at 2^-bits."""
    if node.terms:
        den, ends = lcm(*(args[place][2] for place, _, _ in node.terms)), [[0] * node.size] * 2
        for place, index, sign in node.terms:
            factor = sign * (den // args[place][2])
            padded = ([x * factor for x in (*end, 0)] for end in args[place][:2][::sign])
            parts = (end[:-1] if index is None else [end[i] for i in index] for end in padded)
            ends = [list(map(add, *both)) for both in zip(ends, parts, strict=True)]
        return ends[0], ends[1], den
    lo, hi, den = args[0]
    if node.op == "relu":
        return [x if x > 0 else 0 for x in lo], [x if x > 0 else 0 for x in hi], den
    if node.op in ("mul", "div"):
        other = args[1] if node.op == "mul" else reciprocal(args[1])
        corners = [list(map(mul, a, b)) for a in (lo, hi) for b in other[:2]]
        found = list(map(min, *corners)), list(map(max, *corners)), den * other[2]
        return outward(found, bits) if node.pair and found[2] >> 4096 else found
    if node.op == "gate":  # v where g > 0, 0 where g < 0, and all between where g = 0
        ends = [[v if l > 0 else of(v, 0) if u >= 0 else 0 for l, u, v in zip(lo, hi, end, strict=True)]
                for of, end in ((min, args[1][0]), (max, args[1][1]))]
        return ends[0], ends[1], args[1][2]
    if node.op == "matmul":  # |xy - cd| <= r |d| + |c| s + r s where |x - c| <= r and |y - d| <= s
        m, k, n = node.shape
        product = lambda a, w: [sum(map(mul, a[r : r + k], w[j::n])) for r in range(0, m * k, k) for j in range(n)]
        (c, r), (d, s) = ((list(map(add, *v[:2])), list(map(sub, v[1], v[0]))) for v in args)  # twice
        lo = hi = product(c, d)
        if any(r) or any(s):
            radius = [*map(add, product(r, [*map(add, map(abs, d), s)]), product([*map(abs, c)], s))]
            lo, hi = list(map(sub, lo, radius)), list(map(add, hi, radius))
        return lo, hi, 4 * args[0][2] * args[1][2]
    (lo, hi, den), f = outward(args[0], bits), FUNCTIONS[node.op]
    defined = node.op not in ("sqrt", "reciprocal", "log") or min(lo) >= (node.op != "sqrt")
    need(defined, f"a {node.op} of what may not be positive")
    if node.op in ("sin", "cos"):
        waves = [extent(node.op, l, u, bits) for l, u in zip(lo, hi, strict=True)]
        return [low for low, _ in waves], [high for _, high in waves], den
    if node.op == "square":
        lo, hi = [max(l, -u, 0) for l, u in zip(lo, hi, strict=True)], [max(-l, u) for l, u in zip(lo, hi, strict=True)]
    ends = (hi, lo) if node.op == "reciprocal" else (lo, hi)
    return [f(x, bits)[0] for x in ends[0]], [f(x, bits)[1] for x in ends[1]], den
Sum = tuple[int, list[int], list[int]]  # of a node at 2^-G: how many terms it sums, their sizes together, error charged
def rounding(profile: str, node: Node, exact: Vector, args: list[Vector], sums: list[Sum | None],
             bound: Callable[[list[Vector]], Vector]) -> tuple[Vector, list[int], Sum]:
    """A node's values widened by their errors, these, and it as a sum: in any order, fused or not, flushed or not. A
    sum for this use alone may be summed in one with the node: n terms err by n u / (1 - n u) of their sizes, u = 2^-24
    (Higham 2002, 3.1), less what was charged; flushing errs by less than a grid far above 2^-126."""
    largest = lambda a: list(map(max, a[1], map(neg, a[0])))
    spread = lambda parts: bound([(list(map(neg, sizes)), sizes, 1 << G) for sizes in parts])[1]
    count, sizes, charged, factor = 1, largest(exact), [0] * node.size, (PROFILES[profile].get(node.op, 1), 1 << 24)
    if node.op in SUMS | MOVES:
        parts = [s or (1, largest(a), [0] * len(a[0])) for s, a in zip(sums, args, strict=True)]
        count = node.shape[1] if node.op == "matmul" else (sum if node.op in SUMS else max)([n for n, _, _ in parts])
        sizes, factor = spread([m for _, m, _ in parts]), (count, (1 << 24) - count)
        if node.terms and all(i is None or len({*i} - {-1}) == len(i) - i.count(-1) for _, i, _ in node.terms):
            charged = spread([c for _, _, c in parts])
    need(count < 1 << 23 and max(sizes) < 1 << 60 + G, "level float32: a value or a partial sum may be too large")
    total = charged if node.op in EXACT else [factor[0] * m // factor[1] + 1 for m in sizes]
    errors = [max(t - c, 0) + 3 * (node.op not in EXACT) for t, c in zip(total, charged, strict=True)]
    return (list(map(sub, exact[0], errors)), list(map(add, exact[1], errors)), 1 << G), errors, (count, sizes, total)
class Network:
    """A validated program with its tensors; only what the output needs is computed."""
    def __init__(self, nodes: list[Node], output: int, constants: dict[int, Vector], profile: str = "") -> None:
        self.nodes, self.output, self.constants, self.profile = nodes, output, constants, profile
        self.inputs, self.outputs = nodes[0].size, nodes[output].size
        need(not nodes[output].constant, "the output does not depend on the input")
        needed, sums = {output}, dict[int, Sum]()
        for k in range(output, -1, -1):
            needed.update(nodes[k].of if k in needed else ())
        self.order = [k for k in sorted(needed) if k and not nodes[k].constant]
        for k in sorted(needed - constants.keys()):
            if nodes[k].constant:
                node, args, last = nodes[k], [constants[i] for i in nodes[k].of], [sums.get(i) for i in nodes[k].of]
                lo, hi, den = constants[k] = evaluate_node(node, args, POINT_BITS)
                need(max(map(int.bit_length, [*lo, *hi, den])) <= 1 << 14, "a constant takes too many bits")
                if profile and (node.op not in EXACT or any(last)):
                    bound, args = partial(enclose, node), [outward(a, G) for a in args]
                    constants[k], _, sums[k] = rounding(profile, node, bound(args), args, last, bound)
        self.compiled, self.feeding = dict[int, Any](dict.fromkeys(self.order)), dict[int, bool]()  # by `prepare`
        uses = collections.Counter([output, *(i for k in self.order for i in nodes[k].of)])
        self.fused = {k for k in self.order if nodes[k].op in SUMS | MOVES and uses[k] == 1}
    def prepare(self) -> None:
        """What bounding needs: a Matrix for matmul, a Vector for mul and div, and constants that are added at 2^-G."""
        for k in self.order:
            node, known = self.nodes[k], [i for i in self.nodes[k].of if i in self.constants]
            for place, i in enumerate(node.of if node.pair or node.op in ("relu", *FUNCTIONS) else ()):
                if i not in known:  # of a relu, and of what decides a gate, only the sign matters
                    self.feeding[i] = self.feeding.get(i, False) or (node.op, place) not in (("relu", 0), ("gate", 0))
            if node.terms or node.pair:
                self.compiled.update((i, outward(self.constants[i], G)) for i in known)
            elif known:
                constant = self.constants[known[0]] if node.op != "div" else reciprocal(self.constants[known[0]])
                fit = not self.profile or max(map(abs, constant[0] + constant[1])) >> 100 < constant[2]
                need(fit or node.op != "div", "level float32: a division by what may be flushed to 0")
                self.compiled[k] = Matrix(constant, node.shape) if node.op == "matmul" else constant
    def evaluate(self, point: Sequence[Fraction]) -> list[tuple[Fraction, Fraction]]:
        """Enclosures of the outputs at a point; both ends are equal if the network is piecewise linear."""
        den = lcm(*{x.denominator for x in point})
        lo = [x.numerator * (den // x.denominator) for x in point]
        values = {0: (lo, lo, den), **self.constants}
        for k in self.order:
            values[k] = evaluate_node(self.nodes[k], [values[i] for i in self.nodes[k].of], POINT_BITS)
        lo, hi, den = values[self.output]
        return [(Fraction(a, den), Fraction(b, den)) for a, b in zip(lo, hi, strict=True)]
def load_network(model: Any, blob: bytes, profile: str = "") -> Network:
    """Parse and validate `payload.model` with the bytes of its tensors, in order of their names; else `Rejected`."""
    need(profile in ("", *PROFILES), "unknown profile of float32")
    tensors, start = dict[str, tuple[str, bytes]](), 0  # dtype, little-endian bytes
    for name, size in sizes_of(model).items():
        entry, data, start = model["tensors"][name], blob[start : start + size], start + size
        need(entry["sha256"] == hashlib.sha256(data).hexdigest(), f"tensor {name!r} is missing or has another hash")
        tensors[name] = entry["dtype"], data
    need(start == len(blob), "there are more weights than tensors, or fewer")
    for digest in model["source"].values():
        need(type(digest) is str and len(digest) == 64 and not {*digest} - {*"0123456789abcdef"}, "a hash is none")
    program, nodes, total, constants = model["program"], list[Node](), 0, dict[int, Vector]()
    for raw in program["nodes"]:
        nodes.append(parse_node(raw, nodes, tensors))
        total += nodes[-1].size * max(len(nodes[-1].terms), 1)
        need(total <= MAX_SIZE, "the program is too large")
        if nodes[-1].op == "tensor":
            constants[len(nodes) - 1] = decode_float32(tensors[raw["name"]][1], raw["name"])
    return Network(nodes, integer(program["output"], 0, len(nodes), "program.output"), constants, profile)
class Matrix:
    """A constant k x n matrix on a grid: v <= 2^bits w <= v + error, with integers |v| < 2^62. A row v is packed in one
    integer with a signed 128-bit slot an entry, so that `factor * row` is one multiplication."""
    def __init__(self, constant: Vector, shape: list[int]) -> None:
        (lo, hi, den), (_, self.width, self.count) = constant, shape
        most = (max(max(hi), -min(lo)) // den + 1).bit_length()
        need(most <= 60, "a weight is too large: 2^60 or more")
        self.bits = den.bit_length() - 1 if (1 << (61 - most)) % den == 0 else min(61 - most, 60)
        values, highs, _ = outward(constant, self.bits)
        self.error = max(map(sub, highs, values))
        rows = [values[i * self.count : (i + 1) * self.count] for i in range(self.width)]
        self.plain = rows, [[*map(abs, row)] for row in rows], [values[j :: self.count] for j in range(self.count)]
        self.packed = [[pack(row) for row in rows] for rows in self.plain]
        self.most = [max(map(sum, v)) for v in (zip(*self.plain[1], strict=True), self.plain[1])]  # of columns, of rows
    def total(self, which: int, factors: list[int]) -> int:  # the packed sum of factor * row
        return sum(factor * row for factor, row in zip(factors, self.packed[which], strict=True) if factor)
    def backward(self, multipliers: list[int]) -> tuple[list[int], bool]:
        """floor(multipliers times transpose / 2^bits), and whether that is inexact."""
        if max(max(multipliers), -min(multipliers)) * self.most[1] < 1 << (63 + self.bits):
            return floors(self.total(2, multipliers), self.bits, self.width)
        return [sum(map(mul, multipliers, row)) >> self.bits for row in self.plain[0]], True
    def forward(self, a: Vector) -> tuple[Vector, list[tuple[int, int]]]:
        """Bounds of a @ w for a at 2^-G; for each row of `a`, at 2^-H, the sum of min(0, a), and error * sum |a|."""
        out_lo, out_hi, charges, shift = [], [], [], self.bits + 1
        for r in range(0, len(a[0]), self.width):
            lo, hi = a[0][r : r + self.width], a[1][r : r + self.width]
            middle, radius = list(map(add, lo, hi)), list(map(sub, hi, lo))  # twice
            sizes = [u if u > -l else -l for l, u in zip(lo, hi, strict=True)]
            if 4 * max(sizes) * self.most[0] < 1 << (63 + shift):
                centre, spread = self.total(0, middle), self.total(1, radius)
                low, high = (floors(c - spread, shift, self.count)[0] for c in (centre, -centre))
            else:
                pairs = [(sum(map(mul, middle, v)), sum(map(mul, radius, map(abs, v)))) for v in self.plain[2]]
                low, high = [c - s >> shift for c, s in pairs], [-c - s >> shift for c, s in pairs]
            error = -(-(self.error * sum(sizes) << (H - G)) >> (self.bits))
            charges.append((sum([l for l in lo if l < 0]) << (H - G), error))
            wide = -(-error >> (H - G))
            out_lo += [x - wide for x in low]
            out_hi += [wide - x for x in high]
        return (out_lo, out_hi, a[2]), charges
@cache
def slots(count: int, shift: int) -> tuple[struct.Struct, int, int]:
    """The layout of 128-bit slots with a signed word below in each, 2^(64 + shift) and 2^shift - 1 in every slot."""
    ones = int.from_bytes((b"\1" + bytes(15)) * count, "little")
    return struct.Struct("<" + "q8x" * count), ones << (64 + shift), ones * ((1 << shift) - 1)
def pack(row: list[int]) -> int:
    """The sum of row[i] 2^(128 i)."""
    layout, offset, _ = slots(len(row), 0)
    return int.from_bytes(layout.pack(*[x + (1 << 62) for x in row]), "little") - (offset >> 2)
def floors(total: int, shift: int, count: int) -> tuple[list[int], bool]:
    """Every slot of a packed sum, shifted right, and whether that dropped a bit. Slots must be < 2^(63 + shift)."""
    layout, offset, dropped = slots(count, shift)
    total += offset  # makes every slot positive, so that none borrows, and lies above the word that is read
    return list(layout.unpack((total >> shift).to_bytes(16 * count, "little"))), total & dropped != 0
class Bounds:
    """Enclosures over one box. `parted`: only where splits of neurons hold; `empty`: nowhere, a value has no room."""
    def __init__(self, box_lo: list[int], box_hi: list[int]) -> None:
        self.box_lo, self.box_hi, self.parted, self.empty = box_lo, box_hi, False, False  # at 2^-H
        self.values: dict[int, Vector] = {0: outward((box_lo, box_hi, 1 << H), G)}
        self.charges, self.split = dict[int, Any](), dict[int, Any]()  # of matmul nodes, of operands of relu nodes
        self.errors, self.sums = dict[int, list[int]](), dict[int, Sum]()  # of float32, at 2^-G
    def part(self, split: Split) -> Bounds:
        """What is left of these where a split holds."""
        (k, j, p, sign), found = split, copy.copy(self)
        lo, hi, bits = (self.box_lo, self.box_hi, H) if k == 0 else (*self.values[k][:2], G)
        low, high = (max(lo[j], p >> (H - bits)), hi[j]) if sign > 0 else (lo[j], min(hi[j], -(-p >> (H - bits))))
        found.empty, found.parted = self.empty or low > high, self.parted or k > 0
        if low <= high:
            lo, hi = [*lo[:j], low, *lo[j + 1 :]], [*hi[:j], high, *hi[j + 1 :]]
        found.box_lo, found.box_hi = (lo, hi) if k == 0 else (self.box_lo, self.box_hi)
        found.values = self.values | {k: outward((lo, hi, 1 << bits), G)}
        found.split = self.split | {k: signs(*found.values[k][:2])} if k in self.split else self.split
        return found
def signs(lo: list[int], hi: list[int]) -> tuple[list[int], list[tuple[int, int, int, int, int]]]:
    """For a relu: which operands are never negative; and of those that may be anything what backward passes need."""
    unstable = [(j, l, u, u - l, STEEP * (u > -l)) for j, (l, u) in enumerate(zip(lo, hi, strict=True)) if l < 0 < u]
    return [j for j, l in enumerate(lo) if l >= 0], unstable
def sweep(net: Network, known: Bounds, crown: bool, slopes: Callable[..., Slopes] = lambda *_: EMPTY) -> Bounds:
    """Bound every node over the box of `known`, in order; passes have `slopes` for (node, element, 1 if from below)."""
    bounds = Bounds(known.box_lo, known.box_hi)
    bounds.parted, bounds.empty, values = known.parted, known.empty, bounds.values
    for k in [0, *net.order]:
        node = net.nodes[k]
        if k:
            args = [values.get(i) or (net.compiled if node.terms else net.constants)[i] for i in node.of]
            matrix = net.compiled[k] if node.op == "matmul" else None
            args, bound = args[: 1 if matrix else None], partial(enclose, node, matrix=matrix)
            values[k], bounds.charges[k] = matrix.forward(args[0]) if matrix else (bound(args), [])
            if net.profile:
                sums = [bounds.sums[i] if i in net.fused else None for i in node.of[: len(args)]]
                values[k], errors, bounds.sums[k] = rounding(net.profile, node, values[k], args, sums, bound)
                bounds.errors |= {k: errors} if node.op not in EXACT else {}
        if k not in net.feeding:
            continue
        (lo, hi, den), smooth = values[k], net.feeding[k]
        if k in known.values:
            lo, hi = map(max, lo, known.values[k][0]), map(min, hi, known.values[k][1])
        values[k] = lo, hi, den = list(lo), list(hi), den
        for j, (l, u) in enumerate(zip(lo, hi, strict=True)):
            if crown and k and (l < u if smooth else l < 0 < u):
                for sign in (1, -1) if u > -l else (-1, 1):  # a backward pass a side; one if that settles a relu
                    if smooth or lo[j] < 0 < hi[j]:
                        unit = [0] * j + [sign << P] + [0] * (len(lo) - j - 1)
                        found = lower_bound(net, bounds, {k: unit}, slopes(k, j, sign)) >> (P + H - G)
                        lo[j], hi[j] = (max(lo[j], found), hi[j]) if sign > 0 else (lo[j], min(hi[j], -found))
            if lo[j] > hi[j]:
                need(bounds.parted, "internal error: bounds of a box with points contradict each other")
                bounds.empty, hi[j] = True, lo[j]
        bounds.split[k] = signs(lo, hi)
    return bounds
def lower_bound(net: Network, bounds: Bounds, pending: dict[int, list[int]], slopes: Slopes = EMPTY) -> int:
    """A lower bound at 2^-(P + H), over the box of `bounds`, of the sum of multiplier * value over the pending nodes.
    Each step moves multipliers (at 2^-P) to operands and adds a constant: the sum grows nowhere (arXiv 1811.00866)."""
    constant = -sum([(sum(map(abs, row)) >> 40) + 1 for row in pending.values()]) if net.profile else 0  # of flushing
    for k in range(max(pending, default=0), 0, -1):
        if k not in pending:
            continue
        row, node, compiled = pending.pop(k), net.nodes[k], net.compiled[k]
        if node.constant:
            lo, hi, _ = compiled
            products = map(mul, row, lo) if lo == hi else map(min, map(mul, row, lo), map(mul, row, hi))
            constant += sum(products) << (H - G)
            continue
        source, targets = node.source, []
        if k in bounds.errors:
            constant -= sum(map(mul, map(abs, row), bounds.errors[k])) << (H - G)
        (lo, hi, _), new = bounds.values[source], [0] * net.nodes[source].size
        if node.terms:
            for place, index, sign in node.terms:
                part = row if sign > 0 else [-x for x in row]
                if index is not None:
                    new = [0] * (net.nodes[node.of[place]].size + 1)
                    for i, x in zip(index, part, strict=True):
                        if x:
                            new[i] += x  # index -1 collects what falls on zeros
                    part = new[:-1]
                targets.append((node.of[place], part))
        elif node.op == "matmul":
            for r, (below, error) in enumerate(bounds.charges[k]):
                part = row[r * compiled.count : (r + 1) * compiled.count]
                if any(part):
                    new[r * compiled.width : (r + 1) * compiled.width], inexact = compiled.backward(part)
                    constant += (below if inexact else 0) - (error and error * sum(map(abs, part)))
        elif node.pair:
            ends = [end for i in node.of for end in (bounds.values.get(i) or net.compiled[i])[:2]]
            other, rows = [0] * len(row), zip(row, *ends, strict=True)
            for j, (x, l, u, low, high) in enumerate(rows):  # any s and t will do: what is left is least at a corner
                if node.op == "mul":
                    new[j], other[j] = s, t = x * (low + high) >> (G + 1), x * (l + u) >> (G + 1)
                    constant += min((x * a * b >> G) - s * a - t * b for a in (l, u) for b in (low, high)) << (H - G)
                elif l > 0 or u < 0:
                    other[j] = x if l > 0 else 0
                else:  # t v or (x - t) v is left, or what lies between
                    least, most = min(low, 0), max(high, 0)
                    other[j] = t = x * (-least if x > 0 else most) // max(most - least, 1)
                    constant += min(f * b for f in (-t, x - t) for b in (low, high)) << (H - G)
            targets = [(node.of[0], new), (node.of[1], other)]
        elif node.op == "relu":
            (active, unstable), loss = bounds.split[source], 0
            for j in active:
                new[j] = row[j]
            for j, l, u, width, keep in unstable:
                m = row[j]
                if m < 0:  # with any s in [m, 0], m relu(z) - s z is least at z = l or at z = u
                    s = new[j] = m * u // width
                    at_l, at_u = -s * l, (m - s) * u
                    loss += at_l if at_l < at_u else at_u
                elif keep or slopes:  # m relu(z) - s z >= 0 with any s in [0, m]
                    new[j] = m * slopes.get((source, j), keep) // STEEP if slopes else m
            constant += loss << (H - G)
        else:  # elementwise, by a factor in [slope, most] / den or by a line; what is left of rounding down is charged
            for j, x in [(j, x) for j, x in enumerate(row) if x]:
                if compiled:
                    slope, most, den = compiled[0][j], compiled[1][j], compiled[2]
                    constant += (-abs(x) * (most - slope) * max(hi[j], -lo[j]) << (H - G)) // den
                else:
                    (slope, offset), den = line(node.op, lo[j], hi[j], x < 0), 1 << P
                    constant += x * offset
                new[j], rest = divmod(x * slope, den)
                constant += min(lo[j], 0) << (H - G) if rest else 0
            constant -= (sum(map(abs, new)) >> 40) + 1 if net.profile else 0  # of flushing; elsewhere errors hold it
        for i, part in targets or [(source, new)]:
            if i in pending:
                pending[i] = list(map(add, pending[i], part))
            elif any(part):
                pending[i] = part
    last = zip(pending.pop(0, ()), bounds.box_lo, bounds.box_hi, strict=False)
    return constant + sum([x * (l if x > 0 else u) for x, l, u in last])
# --- The property and its proofs --------------------------------------------------------------------------------------
BOX, TERMS = {"hi": [str], "lo": [str]}, [(int, str)]
CASE = {"exact": BOX, "float32": BOX, "unsafe": [[{"input": TERMS, "output": TERMS, "strict": bool, "threshold": str}]]}
PAYLOAD = {"claim": str, "levels": [str], "meta": dict, "model": dict, "profile": str, "proof": dict,
           "weights": str, "property": {"cases": [CASE], "text": str}}
ROW = int, [(int, int)], int, [int]  # disjunct, [(atom, multiplier)], table of slopes or -1, multipliers of the splits
TREE = {"bounds": str, "leaves": [[ROW]], "nodes": [int], "lemmas": [(int,) * 4], "roots": [[int]], "slopes": [str],
        "slots": [(int, int)], "splits": [(int, int, int)]}
class Atom:
    """sum c x + sum d y <= threshold, or < if strict."""
    def __init__(self, raw: Any, net: Network) -> None:
        self.strict, self.threshold = raw["strict"], rational(raw["threshold"], "a threshold")
        self.sides = [[(integer(i, 0, size, f"an {side}"), rational(c, "a coefficient")) for i, c in raw[side]]
                      for side, size in (("input", net.inputs), ("output", net.outputs))]
    def holds(self, point: list[Fraction], outputs: list[tuple[Fraction, Fraction]]) -> bool:
        """Whether it surely holds at a point."""
        total = sum([c * point[i] for i, c in self.sides[0]], Fraction(0))
        total += sum([max(d * outputs[j][0], d * outputs[j][1]) for j, d in self.sides[1]])
        return total < self.threshold or (total == self.threshold and not self.strict)
def margin(net: Network, bounds: Bounds, terms: Iterable[tuple[int, Atom]], held: Iterable[tuple[int, Split]] = (),
           slopes: Slopes = EMPTY) -> Fraction:
    """A lower bound, over the box where splits hold, of the sum of multiplier * (left side - threshold) of atoms, less
    multiplier * sign (z - p) of splits. Multipliers, and so the bound, are at 2^-UNIT."""
    pending, slack, thresholds = dict[int, list[int]](), 0, Fraction(0)
    for factor, atom in terms:
        thresholds += factor * atom.threshold
        for k, side in zip((0, net.output), atom.sides, strict=True):
            row = pending.setdefault(k, [0] * net.nodes[k].size)
            for i, c in side:
                floor, rest = divmod(factor * c.numerator << (P - UNIT), c.denominator)
                row[i] += floor
                slack += min(bounds.values[k][0][i], 0) << (H - G) if rest else 0  # less than a unit is left
    for factor, (k, j, p, sign) in held:  # if it is negative, held to is the other end of what bounds z there
        p = p if factor >= 0 else bounds.values[k][:2][sign > 0][j] << (H - G)
        pending.setdefault(k, [0] * net.nodes[k].size)[j] -= sign * factor << (P - UNIT)
        slack += sign * factor * p << (P - UNIT)
    return Fraction(lower_bound(net, bounds, pending, slopes) + slack, 1 << (P + H - UNIT)) - thresholds
class Case:
    """A box at the level `real`, and what is unsafe there: a disjunction of conjunctions of atoms."""
    def __init__(self, raw: Any, net: Network) -> None:
        self.ends = [[parse(x, "an end of a box") for x in raw[kind][end]]
                     for kind, parse in (("exact", rational), ("float32", float_hex)) for end in ("lo", "hi")]
        need({*map(len, self.ends)} == {net.inputs}, "a box has the wrong number of inputs")
        lo, hi, low, high = self.ends
        need(all(a <= b for a, b in zip(lo, hi, strict=True)), "a box has no points")
        need([round_to_float32(x) for x in (*lo, *hi)] == [*low, *high], "a float32 box is not the rounded exact box")
        self.lo = [(min(a, b).numerator << H) // min(a, b).denominator for a, b in zip(lo, low, strict=True)]
        self.hi = [-((-max(a, b).numerator << H) // max(a, b).denominator) for a, b in zip(hi, high, strict=True)]
        self.unsafe = [[Atom(x, net) for x in disjunct] for disjunct in raw["unsafe"]]
        need(len(self.unsafe) > 0 and all(self.unsafe), "unsafe, or a disjunct of it, is empty")
class Result:
    """What was found: `lines` of what was proved, or a `reason`; (case, leaf in preorder) of leaves that fell short."""
    def __init__(self, code: int = 1, reason: str = "") -> None:
        self.accepted, self.code, self.reason, self.leaves = False, code, reason, 0
        self.levels, self.lines, self.failed = list[str](), list[str](), list[tuple[int, int]]()
        self.margin: Fraction | None = None
class Tree:
    """Trees for sets of disjuncts, whose leaves refute each disjunct by a sum of multiples of its atoms."""
    def __init__(self, raw: dict[str, Any], net: Network, case: Case) -> None:
        self.crown, every, known = raw["bounds"] == "crown", range(len(case.unsafe)), {0, *net.feeding}
        need(raw["bounds"] in ("crown", "ibp"), "unknown rule for bounds")
        self.roots, self.nodes = [frozenset(disjuncts) for disjuncts in raw["roots"]], raw["nodes"]
        need(frozenset[int]().union(*self.roots) == {*every}, "a disjunct has no tree, or is none of the case's")
        self.leaves, self.splits, self.slots = raw["leaves"], raw["splits"], [(k, j) for k, j in raw["slots"]]
        for k, j, *_ in raw["slots"] + raw["lemmas"] + raw["splits"]:
            need(k in known, "a value is neither of the input nor of what enters a nonlinear node")
            integer(j, 0, net.nodes[k].size, "an element")
        self.tables = [from_base64(x, "a table of slopes") for x in raw["slopes"]]
        need(all(len(table) <= len(self.slots) for table in self.tables), "a table of slopes is longer than the slots")
        self.lemmas = {(k, j, sign): integer(t, -1, len(self.tables), "the number of a table")
                       for k, j, *both in raw["lemmas"] for sign, t in zip((1, -1), both, strict=True)}
        for d, terms, table, _ in (row for leaf in self.leaves for row in leaf):
            atoms = len(case.unsafe[integer(d, 0, len(every), "a disjunct")])
            need(all(0 <= k < atoms and x >= 0 for k, x in terms), "an atom or its multiplier is out of its range")
            integer(table, -1, len(self.tables), "the number of a table")
    def slopes(self, table: int) -> Slopes:
        return dict(zip(self.slots, self.tables[table], strict=False)) if table >= 0 else EMPTY
def check_tree(net: Network, number: int, case: Case, tree: Tree, result: Result) -> None:
    """Walk the trees of a case in preorder; over a leaf, each disjunct of its tree must be refuted there or above."""
    first, width, lemma = result.leaves, net.inputs, lambda *of: tree.slopes(tree.lemmas.get(of, -1))
    need(not net.profile or max(map(abs, case.lo + case.hi)) < 1 << 60 + H, "level float32: an input may be too large")
    root = sweep(net, Bounds(case.lo, case.hi), tree.crown, lemma)
    stack = [(root, list[Split](), left) for left in tree.roots[::-1]]
    for token in tree.nodes:
        need(len(stack) > 0, "a tree goes on after its end")
        bounds, path, left = stack.pop()
        integer(token, -2 * len(tree.leaves), 2 * (width + len(tree.splits)), "a token of a tree")
        which, bound = divmod(max(token, ~token), 2)
        bounds, failed = sweep(net, bounds, tree.crown, lemma) if bound else bounds, False
        if token >= 0:
            halves, low, high = which < width, bounds.box_lo, bounds.box_hi
            k, j, p = (0, which, (low[which] + high[which]) >> 1) if halves else tree.splits[which - width]
            need(not halves or low[j] < p < high[j], "a box is too thin to be halved")
            for sign in (1, -1):  # so that the lower half is next
                split = k, j, p, sign
                stack.append((bounds.part(split), path if halves else [*path, split], left))
            continue
        for d, terms, table, betas in tree.leaves[which]:
            need(d in left and len(betas) == len(path), "a row is for another disjunct or has not its splits")
            left -= {d}
            if not bounds.empty:
                atoms = [(x, case.unsafe[d][k]) for k, x in terms]
                found = margin(net, bounds, atoms, zip(betas, path, strict=True), tree.slopes(table))
                failed |= found < 0 or (found == 0 and not any(x and atom.strict for x, atom in atoms))
                if total := sum([x for x, _ in atoms]):
                    found *= Fraction(1, total)
                    result.margin = min(found, found if result.margin is None else result.margin)
        if failed and result.failed[-1:] != [(number, result.leaves - first)]:
            result.failed.append((number, result.leaves - first))
        stack.extend([(bounds, path, left)] if left else [])
        result.leaves += not left
    need(not stack, "a tree ends too early")
def check_point(net: Network, cases: list[Case], proof: dict[str, Any]) -> str:
    """Evaluate a point of a case's box; some disjunct must hold there."""
    case = cases[integer(proof["case"], 0, len(cases), "the case of a point")]
    point = [(float_hex if "x" in x else rational)(x, "an input") for x in proof["inputs"]]
    need(len(point) == net.inputs, "the point has the wrong number of inputs")
    lo, hi, low, high = case.ends
    exact = all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True))
    deployed = all(a <= x <= b and round_to_float32(x) == x for a, x, b in zip(low, point, high, strict=True))
    need(exact or deployed, "the point lies neither in the exact box nor, with float32 values, in the float32 box")
    outputs = net.evaluate(point)
    need(any(all(a.holds(point, outputs) for a in d) for d in case.unsafe), "the point is not shown to be unsafe")
    return f"evaluated at a point of {'float32 values' if deployed else 'rational numbers, which are not all float32'}"
def judge(data: bytes, result: Result) -> list[str]:
    """Check everything; what was proved, in words."""
    payload = conform(open_envelope(data), PAYLOAD, "payload")
    model, proof, asked, profile = (payload[key] for key in ("model", "proof", "property", "profile"))
    need(payload["levels"] == ["real", "float32"][: 1 + bool(profile)], "levels do not fit the profile")
    net = load_network(model, unpacked(model, payload["weights"]), profile)
    cases = [Case(raw, net) for raw in asked["cases"]]
    need(len(cases) > 0, "a property without cases")
    if payload["claim"] == "holds":
        trees = conform(proof, {"kind": str, "trees": [TREE]}, "proof")["trees"]
        need(proof["kind"] == "tree" and len(trees) == len(cases), "the proof is not a tree for each case")
        net.prepare()
        for number, (case, tree) in enumerate(zip(cases, trees, strict=True)):
            check_tree(net, number, case, Tree(tree, net, case), result)
        how = f"the least bound - threshold is {show(result.margin)}"
        if result.failed:
            raise Rejected(f"{len(result.failed)} of {result.leaves} leaves fall short, as {result.failed[0]}; {how}")
        what, how = "no input of any case is unsafe", f"{result.leaves} leaf boxes cover the cases; {how}"
    else:
        need(payload["claim"] == "violated" and not profile, "unknown claim, or not at this level")
        conform(proof, {"case": int, "inputs": [str], "kind": str}, "proof")
        need(proof["kind"] == "point", "the proof is not a point")
        how, what = check_point(net, cases, proof), f"an input of case {proof['case']} is unsafe"
    result.levels, listed = payload["levels"], canonical(asked["cases"])
    return [
        f"claim        {payload['claim']}: {what}",
        f"property     {asked['text'][:2000]!r}",
        f"cases        {len(cases)}, sha256 {hashlib.sha256(listed).hexdigest()}: {listed[:2000].decode('ascii')}",
        f"proof        {how}",
        "level        real: the network over the real numbers, on the exact box and the float32 box of each case",
        *["level        float32: every execution of its operations in float32: sums in any order, fused or not, "
          f"subnormals flushed or not, functions as exact as profile {profile!r} says; all is finite"] * bool(profile),
        f"model        {model['name'][:200]!r}, {net.inputs} inputs, {net.outputs} outputs, program and tensors sha256 "
        f"{hashlib.sha256(canonical([model['program'], model['tensors']])).hexdigest()}",
        *(f"source       {kind[:200]!r} sha256 {digest}" for kind, digest in sorted(model["source"].items())),
        "assumed      program and tensors are those of the deployed network (`axiom check --model FILE` compares them)",
        f"not covered  {'a compiler that replaces operations' if profile else 'rounding in a float32 execution'}; "
        "whether the cases mean what the text says; inputs outside them",
        "signature not checked"]
def show(value: Fraction | None) -> str:
    return "none" if value is None else f"{float(max(min(value, 10**300), -(10**300))):.6g}"
def check(data: bytes) -> Result:
    """Judge the bytes of a certificate. It raises nothing."""
    result = Result()
    try:
        result.lines, result.accepted, result.code = judge(data, result), True, 0
    except (Unreadable, Rejected) as error:
        result.code, result.reason = 2 if isinstance(error, Unreadable) else 1, repr(str(error))[1:-1][:1000]
    except Exception as error:
        result.reason = f"the checker could not finish: {type(error).__name__} {str(error)[:200]!r}"
    return result
def main(arguments: list[str]) -> int:
    paths, worst = [a for a in arguments if a != "--failed"] or ["-"], 0
    if any(path.startswith("-") for path in paths):
        print("usage: python -I -S checker.py [--failed] CERT...", file=sys.stderr)
        return 2
    for path in paths:
        try:
            with open(path, "rb") as file:
                result = check(file.read(MAX_BYTES + 1))
        except (OSError, ValueError, MemoryError):
            result = Result(2, "the file cannot be read")
        verdict = ("accepted", f"rejected: {result.reason}", f"unreadable: {result.reason}")[result.code]
        print(*[f"{path!r}:"] * (len(paths) > 1), verdict, *result.lines, sep="\n")
        if "--failed" in arguments:
            print(json.dumps({"failed": result.failed[:9999], "leaves": result.leaves, "margin": show(result.margin)}))
        worst = max(worst, result.code)
    return worst
if __name__ == "__main__":
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.exit(main(sys.argv[1:]))
