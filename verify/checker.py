"""Re-checks certificates about neural networks: one file, Python's standard library, integers only.

    python -I -S verify/checker.py [--failed] CERT...

Exit 0 `accepted`, 1 `rejected: reason`, 2 `unreadable: reason` or bad usage. Nothing in a certificate is trusted. The
format is docs/certificate-format.md; the mathematics is weak duality, with every rounding towards the weaker bound.
"""
# fmt: off
from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache, reduce
from math import gcd, isqrt, lcm
from operator import add, mul, or_, sub
from struct import Struct, unpack
from typing import Any

P = G = 40  # fractional bits of multipliers and slopes; of bounds on neurons
H = P + G  # fractional bits of inputs and function values; sums of products with these have P + H
POINT_BITS = 192  # fractional bits of functions and reciprocals where points and constants are evaluated
MAX_BYTES = 1 << 30  # of a certificate or a weights file
MAX_SIZE = 1 << 24  # values of all nodes together

Vector = tuple[list[int], list[int], int]  # lo, hi, den > 0: numbers x with lo <= x den <= hi, exact where lo = hi
Tensors = dict[str, tuple[str, list[int], bytes]]  # dtype, shape, little-endian bytes

class Unreadable(Exception):
    """The bytes are no certificate of a known version."""
class Rejected(Exception):
    """A certificate that does not prove its claim, or whose payload is malformed."""
def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)
# --- JSON -------------------------------------------------------------------------------------------------------------
def parse_json(text: str, refusal: type[Exception]) -> Any:
    try:
        return json.loads(text, parse_float=int, parse_constant=int)  # int("1.5") and int("NaN") raise ValueError
    except (ValueError, RecursionError) as error:
        raise refusal(f"not JSON as the format asks: {str(error)[:200]!r}") from None
def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
def open_envelope(data: bytes) -> dict[str, Any]:
    """The payload of a certificate, after its form and digest were checked."""
    if len(data) > MAX_BYTES or not data.isascii():
        raise Unreadable("the file is too large or not ASCII")
    whole = parse_json(data.decode("ascii"), Unreadable)
    if type(whole) is not dict or whole.get("format") != "axiom-certificate" or whole.get("version") != 1:
        raise Unreadable("this is no axiom-certificate of version 1")
    if type(whole.get("payload")) is not dict or type(whole.get("digest")) is not str:
        raise Unreadable("the payload is no object or the digest no string")
    frame, body = b'{"digest":%b,"format":"axiom-certificate","payload":%b,"version":1}', canonical(whole["payload"])
    if data.removesuffix(b"\n") != frame % (canonical(whole["digest"]), body):  # so no key is missing, added or double
        raise Unreadable("the file is not in canonical form")
    need(hashlib.sha256(body).hexdigest() == whole["digest"], "the digest does not match the payload")
    return whole["payload"]

def fields(value: Any, keys: Iterable[str], what: str) -> dict[str, Any]:
    need(type(value) is dict and set(value) == set(keys), f"{what} must have the keys {', '.join(sorted(keys))}")
    return value
def elements(value: Any, what: str) -> list[Any]:
    need(type(value) is list, f"{what} is not a list")
    return value
def integer(value: Any, low: int, high: int, what: str) -> int:
    need(type(value) is int and low <= value < high, f"{what} is not an integer in its range")
    return value
def matched(value: Any, pattern: str, what: str) -> re.Match[str]:
    match = re.fullmatch(pattern, value) if type(value) is str and len(value) <= 2000 else None
    if match is None:
        raise Rejected(f"{what} is not written as the format asks")
    return match
def volume(shape: Any, what: str) -> int:
    size = 1
    for axis in elements(shape, what):
        size *= integer(axis, 1, MAX_SIZE + 1, what)
        need(size <= MAX_SIZE, f"{what} is too large")
    return size
# --- Numbers ----------------------------------------------------------------------------------------------------------
def rational(value: Any, what: str) -> Fraction:
    match = matched(value, "(0|-?[1-9][0-9]*)(?:/([1-9][0-9]*))?", what)
    p, q = int(match[1]), int(match[2] or 1)
    need(match[2] is None or (q > 1 and gcd(p, q) == 1), f"{what} is not in lowest terms")
    return Fraction(p, q)
def float_hex(value: Any, what: str) -> Fraction:
    if value in ("0x0.0p+0", "-0x0.0p+0"):
        return Fraction(0)
    match = matched(value, r"(-?)0x1\.([0-9a-f]{13})p(\+0|[+-][1-9][0-9]{0,2})", what)
    return int(match[1] + "1") * ((1 << 52) + int(match[2], 16)) * Fraction(2) ** (int(match[3]) - 52)
def round_to_float32(value: Fraction) -> Fraction:
    """RN32: the nearest float32, ties to even, subnormals kept; what rounds to infinity is rejected."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1  # now 2^exponent <= |value| < 2^(exponent + 1), or the value is 0
    unit = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(value / unit) * unit  # `round` takes ties to even
    need(abs(rounded) < 1 << 128, "a number is too large for float32")
    return rounded
def ceil_shift(value: int, bits: int) -> int:
    return -(-value >> bits)
# --- Smooth functions: enclosures, and lines below and above ----------------------------------------------------------
LN2 = 0xB17217F7D1CF79ABC9E3B39803F2F6AF40F343267298B62D8A0D175B8BAAFA2B  # floor(2^256 ln 2)
def exp_bounds(x: int, bits: int) -> tuple[int, int]:
    """Integers (a, b) with a <= 2^bits exp(x / 2^bits) <= b; bits <= 256."""
    need(x <= 1024 << bits, "exp of more than 1024")
    if x < -(bits + 2) << bits:
        return 0, 1
    ln2 = LN2 >> (256 - bits)  # ln2 <= 2^bits ln 2 <= ln2 + 1
    twos = x // (ln2 + 1) if x >= 0 else x // ln2
    rest = x - twos * (ln2 + 1 if x >= 0 else ln2)  # in [0, ln2]; and x - twos ln 2 is in [rest, rest + abs(twos)]
    # A term, rounded down from the last one, is at most 3 too small: (3 r + 1) / i + 1 <= 3 for i > 1, r < 0.7. Once it
    # vanishes, the true term and all that follow sum to less than 6.
    total, term, count = 1 << bits, 1 << bits, 1
    while term:
        term = (term * rest >> bits) // count
        total += term
        count += 1
    above = total + 3 * count + 6
    above += ceil_shift(above * abs(twos), bits - 1)  # e^d - 1 <= 2d for 0 <= d <= 1
    return (total << twos, above << twos) if twos >= 0 else (total >> -twos, ceil_shift(above, -twos))

def logistic_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for 1 / (1 + exp(-x)): with w = exp(-|x|) it is w / (1 + w) or 1 / (1 + w)."""
    one, (low, high) = 1 << bits, exp_bounds(-abs(x), bits)
    if x < 0:
        return (low << bits) // (one + low), -((-high << bits) // (one + high))
    return (one << bits) // (one + high), -((-one << bits) // (one + low))
def tanh_bounds(x: int, bits: int) -> tuple[int, int]:
    """The same for tanh(x) = 2 logistic(2x) - 1."""
    low, high = logistic_bounds(2 * x, bits)
    return 2 * low - (1 << bits), 2 * high - (1 << bits)

# The same for x^2, 1 / x with x > 0, and the square root of x >= 0.
FUNCTIONS = {"exp": exp_bounds, "logistic": logistic_bounds, "tanh": tanh_bounds,
             "square": lambda x, bits: (x * x >> bits, ceil_shift(x * x, bits)),
             "reciprocal": lambda x, bits: ((1 << 2 * bits) // x, -((-1 << 2 * bits) // x)),
             "sqrt": lambda x, bits: (isqrt(x << bits), isqrt(x << bits) + 1)}
def tangent(op: str, p: int) -> tuple[int, int, int]:
    """At p (2^-G) a lower bound of f and bounds of f', at 2^-H: exp' = exp, logistic' = f (1 - f)."""
    (low, high), one = FUNCTIONS[op](p << (H - G), H), 1 << H
    return (low, low, high) if op == "exp" else (low, low * max(one - high, 0) >> H, ceil_shift(high * (one - low), H))
def line(op: str, l: int, u: int, above: bool) -> tuple[int, int]:
    """A line below or above f on [l, u] (at 2^-G): (s, t) at 2^-P and 2^-H with f(z) >= s z + t, or <=.
    Any s would do; t is certified. exp and 1 / z are convex, sqrt is concave; logistic'' = f' (1 - 2 f), so logistic is
    convex below 0 and concave above. For a line below: where f is concave, f(z) - s z is least at an end; where it is
    convex, it is at least f(p) - s p + (f'(p) - s) (z - p), and that is least at an end, too. For c > 0,
    1 / z + c z >= 2 sqrt(c) and sqrt(z) <= c z + 1 / (4 c).
    """
    if op == "square":  # (z - l) (z - u) <= 0 and (z - (l + u) / 2)^2 >= 0
        return l + u, -(l * u if above else ceil_shift((l + u) ** 2, 2))
    if op == "tanh":  # tanh(z) = 2 logistic(2z) - 1
        s, t = line("logistic", 2 * l, 2 * u, above)
        return 4 * s, 2 * t - (1 << H)
    if above and op == "logistic":  # logistic(z) = 1 - logistic(-z)
        s, t = line(op, -u, -l, False)
        return s, (1 << H) - t
    (left, left_above), (right, right_above) = FUNCTIONS[op](l << (H - G), H), FUNCTIONS[op](u << (H - G), H)
    s = (right - left) // max(u - l, 1)
    if op == "reciprocal" and not above:
        s = -((1 << (P + 2 * G)) // (l * u))
        return s, 2 * isqrt(-s << (2 * H - P))
    if op == "sqrt":
        c = max((1 << (P + H - 1)) // max(FUNCTIONS[op]((l + u) << (H - G - 1), H)[0], 1), 1)
        return (c, -((-1 << (P + H)) // (4 * c))) if above else (s, min(left - s * l, right - s * u))
    if above:
        return s, max(left_above - s * l, right_above - s * u)
    bend = u if op == "exp" else min(max(l, 0), u)  # convex on [l, bend], concave on [bend, u]
    if bend == l:
        return s, min(left - s * l, right - s * u)
    p, high = ((l + u) >> 1, 0) if bend == u else (l, 0)
    for _ in range(20 if bend < u else 0):  # search where the tangent meets (u, f(u)); a rough answer will do
        middle = (p + high) >> 1
        value, steep, _ = tangent(op, middle)
        p, high = (middle, high) if value + (steep * (u - middle) >> G) < right else (p, middle)
    value, steep, steeper = tangent(op, p)
    s = steep >> (H - P) if p > l else s
    t = value - s * p + min((d - (s << (H - P))) * (z - p) >> G for d in (steep, steeper) for z in (l, bend))
    return s, t if bend == u else min(t, right - s * u)
# --- Vectors: constants, points and boxes -----------------------------------------------------------------------------
def outward(a: Vector, bits: int) -> Vector:
    lo, hi, den = a
    return [(x << bits) // den for x in lo], [-((-x << bits) // den) for x in hi], 1 << bits
def plus(a: Vector, b: Vector) -> Vector:
    den = lcm(a[2], b[2])
    if a[2] != b[2]:
        a, b = (([x * (den // v[2]) for x in v[0]], [x * (den // v[2]) for x in v[1]], den) for v in (a, b))
    return list(map(add, a[0], b[0])), list(map(add, a[1], b[1])), den
def bilinear(a: Vector, b: Vector, product: Callable[[list[int], list[int]], list[int]]) -> Vector:
    """`product` of enclosures: |xy - mn| <= r |n| + |m| s + r s where |x - m| <= r and |y - n| <= s."""
    (m, r), (n, s) = ((list(map(add, v[0], v[1])), list(map(sub, v[1], v[0]))) for v in (a, b))  # twice
    lo = hi = product(m, n)
    if any(r) or any(s):
        radius = list(map(add, product(r, [abs(y) + e for y, e in zip(n, s, strict=True)]), product([*map(abs, m)], s)))
        lo, hi = list(map(sub, lo, radius)), list(map(add, hi, radius))
    return lo, hi, 4 * a[2] * b[2]
def reciprocal(b: Vector) -> Vector:
    """1 / b: exact if b is and has few distinct values, so that a common denominator stays small."""
    lo, hi, den = b
    need(all(x > 0 or y < 0 for x, y in zip(lo, hi, strict=True)), "a division by what may be 0")
    if lo == hi and len(set(lo)) <= 64:
        common = lcm(*lo)
        inverse = [den * (common // x) for x in lo]
        return inverse, inverse, common
    return [(den << POINT_BITS) // y for y in hi], [-((-den << POINT_BITS) // x) for x in lo], 1 << POINT_BITS
# --- The network: safetensors and program -----------------------------------------------------------------------------
def read_safetensors(blob: bytes) -> Tensors:
    """The tensors of a safetensors file; their bytes must follow each other without gap or overlap."""
    length = int.from_bytes(blob[:8], "little")
    need(8 <= len(blob) <= MAX_BYTES and length <= len(blob) - 8, "the weights are not a safetensors file")
    header = parse_json(blob[8 : 8 + length].decode("utf-8", "replace"), Rejected)
    need(type(header) is dict, "the header of the weights is not an object")
    data, spans, found = blob[8 + length :], [], {}
    header.pop("__metadata__", None)
    for name, entry in header.items():
        fields(entry, ("data_offsets", "dtype", "shape"), "a tensor's header")
        need(entry["dtype"] in ("F32", "I32"), "a tensor is neither F32 nor I32")
        span = [integer(x, 0, len(data) + 1, "an offset") for x in elements(entry["data_offsets"], "data_offsets")]
        size = 4 * volume(entry["shape"], "a tensor's shape")
        need(len(span) == 2 and span[1] - span[0] == size, "a tensor's bytes do not fit its shape")
        spans.append(span)
        found[name] = entry["dtype"], entry["shape"], data[span[0] : span[1]]
    ends = [0, *(end for _, end in sorted(spans))]
    need([start for start, _ in sorted(spans)] == ends[:-1] and ends[-1] == len(data), "the weights leave gaps")
    return found

def decode_float32(data: bytes, name: str) -> Vector:
    """Exact numbers from float32 bytes: a normal number is its 24-bit significand at 2^(exponent field - 150)."""
    bits = unpack(f"<{len(data) // 4}I", data)
    sizes = [w & 0x7FFFFFFF for w in bits]
    need(max(sizes) < 0x7F800000, f"tensor {name!r} holds a NaN or an infinity")
    least = min(max(min(filter(None, sizes), default=0) >> 23, 1), 150)  # exponent field; of subnormal numbers 1
    sizes = [(w & 0x7FFFFF | 0x800000) << (w >> 23) - least if w >> 23 else w for w in sizes]
    used = reduce(or_, sizes)
    spare = max(min((used & -used).bit_length() - 1, 150 - least), 0)
    values = [(-v if w >> 31 else v) >> spare for v, w in zip(sizes, bits, strict=True)]
    return values, values, 1 << (150 - least - spare)

class Node:
    """One operation of a program, validated. For add, sub, neg, view, take and concat, `terms` lists (place of an
    operand, index or None, sign): the value is the sum of sign * operand[index], where index -1 reads 0."""
    def __init__(self, op: str, of: list[int], size: int, constant: bool) -> None:
        self.op, self.of, self.size, self.constant, self.source = op, of, size, constant, 0
        self.shape, self.pair = list[int](), False  # of a matmul; whether it is a product of two variables, or a gate
        self.terms: list[tuple[int, list[int] | None, int]] = []

FIELDS = {"input": "size", "tensor": "name", "matmul": "of shape", "view": "of map shape source", "take": "index of"}
OPERANDS = {"input": 0, "tensor": 0, "matmul": 2, "add": 2, "sub": 2, "mul": 2, "div": 2, "gate": 2, "view": 1,
            "take": 1, "neg": 1, "relu": 1, "rsqrt": 1, "concat": None} | dict.fromkeys(FUNCTIONS, 1)

def parse_node(raw: Any, nodes: list[Node], tensors: Tensors) -> Node:
    """Validate a node whose operands are among `nodes`."""
    op = str(raw.get("op")) if type(raw) is dict else ""
    here = f"node {len(nodes)} ({op[:20]!r})"
    need(op in OPERANDS and raw["op"] == op, f"{here} is no known operation")
    fields(raw, ["op", *FIELDS.get(op, "of").split()], here)
    need((op == "input") == (not nodes), "node 0, and no other, must be the input")
    if op == "input":
        return Node(op, [], integer(raw["size"], 1, MAX_SIZE, f"the size of {here}"), False)
    if op in ("tensor", "take"):
        name, dtype = (raw["name"], "F32") if op == "tensor" else (raw["index"], "I32")
        need(type(name) is str and name in tensors and tensors[name][0] == dtype, f"{here} names no {dtype} tensor")
        if op == "tensor":
            return Node(op, [], len(tensors[name][2]) // 4, True)
    of = [integer(k, 0, len(nodes), f"an operand of {here}") for k in elements(raw["of"], here)]
    need(len(of) == (OPERANDS[op] or len(of) or 1), f"{here} has the wrong number of operands")
    sizes, a, b = [nodes[k].size for k in of], nodes[of[0]], nodes[of[-1]]
    node = Node(op, of, a.size, all(nodes[k].constant for k in of))
    node.source = next((k for k in of if not nodes[k].constant), of[0])  # the one that varies, unless there are terms
    if op == "matmul":
        shape = [integer(x, 1, MAX_SIZE, f"the shape of {here}") for x in elements(raw["shape"], here)]
        m, k, n = node.shape = shape if len(shape) == 3 else [0, 0, 0]
        need(sizes == [m * k, k * n] and b.constant, f"{here} does not fit its operands, or they vary")
        node.size = m * n
    elif op in ("view", "take"):
        data = tensors[raw["index"]][2] if op == "take" else b""
        index = view_index(raw, a.size, here) if op == "view" else [*unpack(f"<{len(data) // 4}i", data)]
        need(-1 <= min(index) and max(index) < a.size, f"{here} reads outside its operand")
        node.size = len(index)
        node.terms.append((0, index, 1))
    elif op == "concat":
        node.size, start = sum(sizes), 0
        need(node.size * len(of) <= MAX_SIZE, f"{here} is too large")
        for place, size in enumerate(sizes):
            node.terms.append((place, [-1] * start + [*range(size)] + [-1] * (node.size - start - size), 1))
            start += size
    else:
        need(len(set(sizes)) == 1, f"{here} has operands of different sizes")
        need(op not in ("div", "rsqrt") or b.constant, f"{here} takes its last operand constant only")
        need(op != "gate" or not a.constant, f"{here} takes no constant to decide by")
        node.pair = op == "gate" or (op == "mul" and not a.constant and not b.constant)
        signs = {"add": (1, 1), "sub": (1, -1), "neg": (-1,)}.get(op, ())
        node.terms = [(place, None, sign) for place, sign in enumerate(signs)]
    return node

def view_index(raw: dict[str, list[Any]], size: int, here: str) -> list[int]:
    """For each element of a view the element of the operand that it shows, -1 where it is 0."""
    shape, source, maps = raw["shape"], raw["source"], raw["map"]
    index = [0] * volume(shape, f"the shape of {here}")
    need(volume(source, f"the source of {here}") == size, f"the source of {here} does not fit its operand")
    need(len(elements(maps, f"the map of {here}")) == len(source), f"the map of {here} does not fit its source")
    for axis, entry in zip(source, maps, strict=True):
        need(len(elements(entry, f"the map of {here}")) == 3, f"the map of {here} is malformed")
        offset, factors, dilation = entry[0], elements(entry[1], f"the map of {here}"), entry[2]
        places = [integer(offset, -MAX_SIZE, MAX_SIZE, f"an offset of {here}")]
        integer(dilation, 1, MAX_SIZE, f"a dilation of {here}")
        need(len(factors) == len(shape), f"the map of {here} does not fit its shape")
        for extent, factor in zip(shape, factors, strict=True):
            integer(factor, -MAX_SIZE, MAX_SIZE, f"a multiplier of {here}")
            places = [s + factor * i for s in places for i in range(extent)]
        index = [i * axis + s // dilation if i >= 0 and 0 <= s < axis * dilation and s % dilation == 0 else -1
                 for i, s in zip(index, places, strict=True)]
    return index

def evaluate_node(node: Node, args: list[Vector], bits: int) -> Vector:
    """Enclosures of a node's values from those of its operands; smooth functions at 2^-bits."""
    if node.terms:
        parts = []
        for place, index, sign in node.terms:
            lo, hi, den = args[place]
            if index is not None:
                lo, hi = ([padded[i] for i in index] for padded in ([*lo, 0], [*hi, 0]))
            parts.append((lo, hi, den) if sign > 0 else ([-x for x in hi], [-x for x in lo], den))
        return reduce(plus, parts)
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
    if node.op == "matmul":
        m, k, n = node.shape
        return bilinear(args[0], args[1], lambda a, w: [
            sum(map(mul, a[r : r + k], w[j::n])) for r in range(0, m * k, k) for j in range(n)])
    (lo, hi, den), f = outward(args[0], bits), FUNCTIONS["sqrt" if node.op == "rsqrt" else node.op]
    if node.op in ("sqrt", "rsqrt", "reciprocal"):
        need(min(lo) >= (node.op != "sqrt"), f"a {node.op} of what may not be positive")
    if node.op == "square":
        lo, hi = [max(l, -u, 0) for l, u in zip(lo, hi, strict=True)], [max(-l, u) for l, u in zip(lo, hi, strict=True)]
    lo, hi = (hi, lo) if node.op == "reciprocal" else (lo, hi)
    found = [f(x, bits)[0] for x in lo], [f(x, bits)[1] for x in hi], den
    return reciprocal(found) if node.op == "rsqrt" else found

class Network:
    """A validated program with its tensors; only what the output needs is computed."""
    def __init__(self, nodes: list[Node], output: int, constants: dict[int, Vector]) -> None:
        self.nodes, self.output, self.constants = nodes, output, constants
        self.inputs, self.outputs = nodes[0].size, nodes[output].size
        need(not nodes[output].constant, "the output does not depend on the input")
        needed = {output}
        for k in range(output, -1, -1):
            needed.update(nodes[k].of if k in needed else ())
        self.order = [k for k in sorted(needed) if k and not nodes[k].constant]
        for k in sorted(needed - constants.keys()):
            if nodes[k].constant:
                constants[k] = evaluate_node(nodes[k], [constants[i] for i in nodes[k].of], POINT_BITS)
        self.compiled: dict[int, Any] = {}  # by `prepare`
        self.feeding: dict[int, bool] = {}  # the operands of nonlinear nodes: whether one of those is smooth

    def prepare(self) -> None:
        """What bounding needs: a Matrix for matmul, a Vector for mul and div, and constants that are added at 2^-G."""
        for k in self.order:
            node, known = self.nodes[k], [i for i in self.nodes[k].of if i in self.constants]
            self.compiled.setdefault(k, None)
            for place, i in enumerate(node.of if node.pair or node.op in ("relu", *FUNCTIONS) else ()):
                if i not in known:  # of a relu, and of what decides a gate, only the sign matters
                    smooth = (node.op, place) not in (("relu", 0), ("gate", 0))
                    self.feeding[i] = self.feeding.get(i, False) or smooth
            if node.terms or node.pair:
                self.compiled.update((i, outward(self.constants[i], G)) for i in known)
            elif known:
                constant = self.constants[known[0]] if node.op != "div" else reciprocal(self.constants[known[0]])
                self.compiled[k] = Matrix(constant, node.shape) if node.op == "matmul" else constant

    def evaluate(self, point: Sequence[Fraction]) -> list[tuple[Fraction, Fraction]]:
        """Enclosures of the outputs at a point; both ends are equal if the network is piecewise linear."""
        need(len(point) == self.inputs, "the point has the wrong number of coordinates")
        den = lcm(*{x.denominator for x in point})
        lo = [x.numerator * (den // x.denominator) for x in point]
        values = {0: (lo, lo, den), **self.constants}
        for k in self.order:
            values[k] = evaluate_node(self.nodes[k], [values[i] for i in self.nodes[k].of], POINT_BITS)
        lo, hi, den = values[self.output]
        return [(Fraction(a, den), Fraction(b, den)) for a, b in zip(lo, hi, strict=True)]

def load_network(model: Any, blob: bytes) -> Network:
    """Parse and validate `payload.model` with the bytes of its safetensors file, comparing hashes; else `Rejected`."""
    fields(model, ("name", "program", "source", "tensors"), "model")
    need(type(model["name"]) is str and type(model["source"]) is dict, "model.name or model.source is malformed")
    for digest in model["source"].values():
        matched(digest, "[0-9a-f]{64}", "a hash of model.source")
    tensors = read_safetensors(blob)
    fields(model["tensors"], tensors, "model.tensors")
    for name, entry in model["tensors"].items():
        fields(entry, ("dtype", "sha256", "shape"), "an entry of model.tensors")
        volume(entry["shape"], f"the shape of tensor {name!r}")
        need([entry["dtype"], entry["shape"]] == [*tensors[name][:2]], f"tensor {name!r} has another dtype or shape")
        need(entry["sha256"] == hashlib.sha256(tensors[name][2]).hexdigest(), f"tensor {name!r} has another hash")
    program, nodes, total, constants = fields(model["program"], ("nodes", "output"), "program"), [], 0, {}
    for raw in elements(program["nodes"], "program.nodes"):
        nodes.append(parse_node(raw, nodes, tensors))
        total += nodes[-1].size
        need(total <= MAX_SIZE, "the program is too large")
        if nodes[-1].op == "tensor":
            constants[len(nodes) - 1] = decode_float32(tensors[raw["name"]][2], raw["name"])
    return Network(nodes, integer(program["output"], 0, len(nodes), "program.output"), constants)
# --- Matrices of integers, a row packed in one big integer ------------------------------------------------------------
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
        absolute = [[abs(x) for x in row] for row in rows]
        self.plain = rows, absolute, [values[j :: self.count] for j in range(self.count)]  # to multiply from the left
        self.packed = [[pack(row) for row in rows] for rows in self.plain]
        self.most = [max(map(sum, zip(*absolute, strict=True))), max(map(sum, absolute))]  # of columns, of rows

    def total(self, which: int, factors: list[int]) -> int:
        """The packed sum of factor * row."""
        return sum(factor * row for factor, row in zip(factors, self.packed[which], strict=True) if factor)
    def backward(self, multipliers: list[int]) -> tuple[list[int], bool]:
        """floor(multipliers times transpose / 2^bits), and whether that is inexact."""
        if max(max(multipliers), -min(multipliers)) * self.most[1] < 1 << (63 + self.bits):
            return floors(self.total(2, multipliers), self.bits, self.width)
        return [sum(map(mul, multipliers, row)) >> self.bits for row in self.plain[0]], True
    def forward(self, a: Vector) -> tuple[Vector, list[tuple[int, int]]]:
        """Bounds of a @ w for a at 2^-G; and for each row of `a`, at 2^-H, what backward passes need: the sum of
        min(0, a), which rounding multipliers on it down by a unit may cost; and error * sum |a|."""
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
            error = ceil_shift(self.error * sum(sizes) << (H - G), self.bits)
            charges.append((sum([l for l in lo if l < 0]) << (H - G), error))
            wide = ceil_shift(error, H - G)
            out_lo += [x - wide for x in low]
            out_hi += [wide - x for x in high]
        return (out_lo, out_hi, a[2]), charges

@cache
def slots(count: int, shift: int) -> tuple[Struct, int, int]:
    """The layout of 128-bit slots with a signed word below in each, 2^(64 + shift) and 2^shift - 1 in every slot."""
    ones = int.from_bytes((b"\1" + bytes(15)) * count, "little")
    return Struct("<" + "q8x" * count), ones << (64 + shift), ones * ((1 << shift) - 1)
def pack(row: list[int]) -> int:
    """The sum of row[i] 2^(128 i)."""
    layout, offset, _ = slots(len(row), 0)
    return int.from_bytes(layout.pack(*[x + (1 << 62) for x in row]), "little") - (offset >> 2)
def floors(total: int, shift: int, count: int) -> tuple[list[int], bool]:
    """Every slot of a packed sum, shifted right, and whether that dropped a bit. Slots must be < 2^(63 + shift)."""
    layout, offset, dropped = slots(count, shift)
    total += offset  # makes every slot positive, so that none borrows, and lies above the word that is read
    return list(layout.unpack((total >> shift).to_bytes(16 * count, "little"))), total & dropped != 0
# --- Bounding ---------------------------------------------------------------------------------------------------------
class Bounds:
    """Enclosures at 2^-G of the nodes over one box, and what backward passes need of them."""
    def __init__(self, box_lo: list[int], box_hi: list[int]) -> None:
        self.box_lo, self.box_hi = box_lo, box_hi  # at 2^-H
        self.values: dict[int, Vector] = {0: outward((box_lo, box_hi, 1 << H), G)}
        self.charges, self.split = dict[int, Any](), dict[int, Any]()  # of matmul nodes, of operands of relu nodes
        self.lines: dict[tuple[int, int, bool], tuple[int, int]] = {}

def sweep(net: Network, box_lo: list[int], box_hi: list[int], inherited: Bounds | None, crown: bool) -> Bounds:
    """Bound every node over a box, in order: from its operands, from what is inherited, and by backward passes."""
    bounds = Bounds(box_lo, box_hi)
    values = bounds.values
    for k in [0, *net.order]:
        node = net.nodes[k]
        if node.op == "matmul":
            values[k], bounds.charges[k] = net.compiled[k].forward(values[node.of[0]])
        elif k:
            constants = net.compiled if node.terms else net.constants
            value = evaluate_node(node, [values[i] if i in values else constants[i] for i in node.of], H)
            values[k] = value if value[2] == 1 << G else outward(value, G)
        if k not in net.feeding:
            continue
        lo, hi, den = values[k]
        if inherited is not None:
            lo, hi = map(max, lo, inherited.values[k][0]), map(min, hi, inherited.values[k][1])
        values[k] = lo, hi, den = list(lo), list(hi), den
        smooth, active, unstable = net.feeding[k], [], []
        for j, (l, u) in enumerate(zip(lo, hi, strict=True)):
            if crown and k and (l < u if smooth else l < 0 < u):
                for sign in (1, -1) if u > -l else (-1, 1):  # a backward pass a side; one if that settles a relu
                    if smooth or lo[j] < 0 < hi[j]:
                        unit = [0] * j + [sign << P] + [0] * (len(lo) - j - 1)
                        found = lower_bound(net, bounds, {k: unit}) >> (P + H - G)
                        lo[j], hi[j] = (max(lo[j], found), hi[j]) if sign > 0 else (lo[j], min(hi[j], -found))
                l, u = lo[j], hi[j]
            need(l <= u, "internal error: bounds of a box with points contradict each other")
            if l >= 0:
                active.append(j)
            elif u > 0:
                unstable.append((j, l, u, u - l, u > -l))
        bounds.split[k] = active, unstable
    return bounds

def lower_bound(net: Network, bounds: Bounds, pending: dict[int, list[int]]) -> int:
    """A lower bound at 2^-(P + H), over the box of `bounds`, of the sum of multiplier * value over the pending nodes.
    Each step moves multipliers (at 2^-P) from a node to its operands and adds a constant, such that the sum grows
    nowhere in the box. Source: Zhang et al. 2018, CROWN, arXiv 1811.00866, and weak duality.
    """
    constant = 0
    for k in range(max(pending), 0, -1):
        if k not in pending:
            continue
        row, node, compiled = pending.pop(k), net.nodes[k], net.compiled[k]
        if node.constant:
            lo, hi, _ = compiled
            products = map(mul, row, lo) if lo == hi else map(min, map(mul, row, lo), map(mul, row, hi))
            constant += sum(products) << (H - G)
            continue
        source, targets = node.source, []
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
                elif keep:  # m relu(z) - m z >= 0, as m relu(z) - 0 z >= 0 where it is not kept
                    new[j] = m
            constant += loss << (H - G)
        else:  # elementwise, by a factor in [slope, most] / den or by a line; what is left of rounding down is charged
            for j, x in enumerate(row):
                if not x:
                    continue
                if compiled:
                    slope, most, den = compiled[0][j], compiled[1][j], compiled[2]
                    constant += (-abs(x) * (most - slope) * max(hi[j], -lo[j]) << (H - G)) // den
                else:
                    if (k, j, x > 0) not in bounds.lines:
                        bounds.lines[k, j, x > 0] = line(node.op, lo[j], hi[j], x < 0)
                    (slope, offset), den = bounds.lines[k, j, x > 0], 1 << P
                    constant += x * offset
                new[j], rest = divmod(x * slope, den)
                if rest:
                    constant += min(lo[j], 0) << (H - G)
        for i, part in targets or [(source, new)]:
            if i in pending:
                pending[i] = list(map(add, pending[i], part))
            elif any(part):
                pending[i] = part
    last = zip(pending.pop(0, ()), bounds.box_lo, bounds.box_hi, strict=False)
    return constant + sum([x * (l if x > 0 else u) for x, l, u in last])
# --- The property and its proofs --------------------------------------------------------------------------------------
class Atom:
    """sum c x + sum d y <= threshold, or < if strict."""
    def __init__(self, raw: Any, net: Network) -> None:
        fields(raw, ("input", "output", "strict", "threshold"), "an atom")
        need(type(raw["strict"]) is bool, "strict is neither true nor false")
        self.strict, self.threshold = raw["strict"], rational(raw["threshold"], "a threshold")
        self.sides: list[list[tuple[int, Fraction]]] = []
        for side, size in (("input", net.inputs), ("output", net.outputs)):
            pairs = elements(raw[side], f"the {side}s of an atom")
            need(all(type(pair) is list and len(pair) == 2 for pair in pairs), "a term of an atom is not a pair")
            self.sides.append([(integer(i, 0, size, f"an {side}"), rational(c, "a coefficient")) for i, c in pairs])
    def holds(self, point: list[Fraction], outputs: list[tuple[Fraction, Fraction]]) -> bool:
        """Whether it surely holds at a point."""
        total = sum([c * point[i] for i, c in self.sides[0]], Fraction(0))
        total += sum([max(d * outputs[j][0], d * outputs[j][1]) for j, d in self.sides[1]])
        return total < self.threshold or (total == self.threshold and not self.strict)
    def margin(self, net: Network, bounds: Bounds) -> Fraction:
        """A lower bound of the left side over the box, less the threshold."""
        pending, slack = dict[int, list[int]](), 0
        for k, side in zip((0, net.output), self.sides, strict=True):
            row = pending.setdefault(k, [0] * net.nodes[k].size)
            for i, c in side:
                floor, rest = divmod(c.numerator << P, c.denominator)
                row[i] += floor
                if rest:  # what is left is less than a unit times the value
                    slack += min(bounds.values[k][0][i], 0) << (H - G)
        return Fraction(lower_bound(net, bounds, pending) + slack, 1 << (P + H)) - self.threshold

class Case:
    """A box at the level `real`, and what is unsafe there: a disjunction of conjunctions of atoms."""
    def __init__(self, raw: Any, net: Network) -> None:
        fields(raw, ("exact", "float32", "unsafe"), "a case")
        self.ends: list[list[Fraction]] = []  # exact lo and hi, float32 lo and hi
        for kind, parse in (("exact", rational), ("float32", float_hex)):
            for end in ("lo", "hi"):
                numbers = elements(fields(raw[kind], ("hi", "lo"), f"the box {kind}")[end], f"{kind}.{end}")
                need(len(numbers) == net.inputs, f"{kind}.{end} has the wrong number of inputs")
                self.ends.append([parse(x, f"an end of the box {kind}") for x in numbers])
        lo, hi, low, high = self.ends
        need(all(a <= b for a, b in zip(lo, hi, strict=True)), "a box has no points")
        need([round_to_float32(x) for x in (*lo, *hi)] == [*low, *high], "a float32 box is not the rounded exact box")
        self.lo = [(min(a, b).numerator << H) // min(a, b).denominator for a, b in zip(lo, low, strict=True)]
        self.hi = [-((-max(a, b).numerator << H) // max(a, b).denominator) for a, b in zip(hi, high, strict=True)]
        self.unsafe = [[Atom(x, net) for x in elements(d, "a disjunct")] for d in elements(raw["unsafe"], "unsafe")]
        need(len(self.unsafe) > 0 and all(self.unsafe), "unsafe, or a disjunct of it, is empty")

class Result:
    """What `check` found: `lines` say what was proved, `reason` why nothing was; `failed` has (case, leaf in preorder)
    of leaves whose bounds fell short; `margin` is the least bound - threshold; `code` is the exit status."""
    def __init__(self, code: int = 1, reason: str = "") -> None:
        self.accepted, self.code, self.reason, self.leaves, self.failures = False, code, reason, 0, 0
        self.levels, self.lines, self.failed = list[str](), list[str](), list[tuple[int, int]]()
        self.margin: Fraction | None = None

def check_tree(net: Network, number: int, case: Case, tree: Any, result: Result) -> None:
    """Walk one tree in preorder; every leaf must refute an atom of each disjunct over its box."""
    fields(tree, ("bounds", "choices", "nodes"), "a tree")
    need(tree["bounds"] in ("crown", "ibp"), "unknown rule for bounds")
    choices, first = elements(tree["choices"], "choices"), result.leaves
    for choice in choices:
        need(len(elements(choice, "a choice")) == len(case.unsafe), "a choice does not fit the disjuncts")
        _ = [integer(k, 0, len(disjunct), "a choice") for k, disjunct in zip(choice, case.unsafe, strict=True)]
    stack: list[tuple[list[int], list[int], Bounds | None]] = [(case.lo, case.hi, None)]
    for token in elements(tree["nodes"], "nodes"):
        need(len(stack) > 0, "a tree goes on after its end")
        (lo, hi, bounds), d = stack.pop(), integer(token, -len(choices), 2 * net.inputs, "a token of a tree") >> 1
        if token < 0 or token & 1:
            bounds = sweep(net, lo, hi, bounds, tree["bounds"] == "crown")
        if token >= 0:
            middle = (lo[d] + hi[d]) >> 1
            need(lo[d] < middle < hi[d], "a box is too thin to be halved")
            stack.append(([*lo[:d], middle, *lo[d + 1 :]], hi, bounds))
            stack.append((lo, [*hi[:d], middle, *hi[d + 1 :]], bounds))
            continue
        refuted = True
        for k, disjunct in zip(choices[-1 - token], case.unsafe, strict=True):
            margin = disjunct[k].margin(net, bounds)
            refuted = refuted and (margin > 0 or (margin >= 0 and disjunct[k].strict))
            if result.margin is None or margin < result.margin:
                result.margin = margin
        result.failures += not refuted
        if not refuted and len(result.failed) < 10_000:
            result.failed.append((number, result.leaves - first))
        result.leaves += 1
    need(not stack, "a tree ends too early")

def check_point(net: Network, cases: list[Case], proof: dict[str, Any]) -> str:
    """Evaluate a point of a case's box; some disjunct must hold there."""
    case = cases[integer(proof["case"], 0, len(cases), "the case of a point")]
    point = [(float_hex if "x" in str(x) else rational)(x, "an input") for x in elements(proof["inputs"], "inputs")]
    need(len(point) == net.inputs, "the point has the wrong number of inputs")
    lo, hi, low, high = case.ends
    exact = all(a <= x <= b for a, x, b in zip(lo, point, hi, strict=True))
    deployed = all(a <= x <= b and round_to_float32(x) == x for a, x, b in zip(low, point, high, strict=True))
    need(exact or deployed, "the point lies neither in the exact box nor, with float32 values, in the float32 box")
    outputs = net.evaluate(point)
    need(any(all(a.holds(point, outputs) for a in d) for d in case.unsafe), "the point is not shown to be unsafe")
    return f"evaluated at a point of {'float32 values' if deployed else 'rational numbers, which are not all float32'}"
# --- The verdict ------------------------------------------------------------------------------------------------------
def read_weights(raw: Any, folder: str | None) -> bytes:
    """The bytes of the safetensors file, from inside the certificate or from the file beside it."""
    if type(raw) is dict and set(raw) == {"inside"}:
        need(type(raw["inside"]) is str and len(raw["inside"]) % 4 == 0, "the weights are not canonical base64")
        blob = base64.b64decode(raw["inside"] if raw["inside"].isascii() else "")
        need(base64.b64encode(blob).decode("ascii") == raw["inside"], "the weights are not canonical base64")
        return blob
    fields(raw, ("beside", "sha256"), "weights")
    name = matched(raw["beside"], r"[^/\\:\0]*[^/\\:\0.]", "the name of the weights file")[0]
    need(folder is not None, f"the weights file {name!r} is not at hand")
    try:
        with open(os.path.join(str(folder), name), "rb") as file:
            blob = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise Rejected(f"the weights file {name!r} cannot be read") from None
    need(hashlib.sha256(blob).hexdigest() == raw["sha256"], f"the weights file {name!r} has another hash")
    return blob

def judge(data: bytes, folder: str | None, result: Result) -> list[str]:
    """Check everything; what was proved, in words."""
    payload = fields(open_envelope(data), "claim levels meta model proof property weights".split(), "payload")
    model, proof, asked = payload["model"], payload["proof"], fields(payload["property"], ("cases", "text"), "property")
    need(payload["levels"] == ["real"], 'unknown levels: version 1 has ["real"]')
    need(type(payload["meta"]) is dict and type(asked["text"]) is str, "meta is no object or text no string")
    net = load_network(model, read_weights(payload["weights"], folder))
    cases = [Case(raw, net) for raw in elements(asked["cases"], "cases")]
    need(len(cases) > 0, "a property without cases")
    if payload["claim"] == "holds":
        trees = elements(fields(proof, ("kind", "trees"), "proof")["trees"], "trees")
        need(proof["kind"] == "tree" and len(trees) == len(cases), "the proof is not a tree for each case")
        net.prepare()
        for number, (case, tree) in enumerate(zip(cases, trees, strict=True)):
            check_tree(net, number, case, tree, result)
        how = f"the least bound - threshold is {show(result.margin)}"
        if result.failures:
            first = "case {}, leaf {}".format(*result.failed[0])
            raise Rejected(f"{result.failures} of {result.leaves} leaves are not proved, first {first}; {how}")
        what, how = "no input of any case is unsafe", f"{result.leaves} leaf boxes cover the cases; {how}"
    else:
        need(payload["claim"] == "violated", "unknown claim")
        need(fields(proof, ("case", "inputs", "kind"), "proof")["kind"] == "point", "the proof is not a point")
        how, what = check_point(net, cases, proof), f"an input of case {proof['case']} is unsafe"
    listed = canonical(asked["cases"])
    return [
        f"claim        {payload['claim']}: {what}",
        f"property     {asked['text'][:2000]!r}",
        f"cases        {len(cases)}, sha256 {hashlib.sha256(listed).hexdigest()}: {listed[:2000].decode('ascii')}",
        f"proof        {how}",
        "level        real: the network over the real numbers, on the exact box and the float32 box of each case",
        f"model        {model['name'][:200]!r}, {net.inputs} inputs, {net.outputs} outputs, program and tensors sha256 "
        f"{hashlib.sha256(canonical([model['program'], model['tensors']])).hexdigest()}",
        *(f"source       {kind[:200]!r} sha256 {digest}" for kind, digest in sorted(model["source"].items())),
        "assumed      program and tensors are those of the deployed network (`axiom check --model FILE` compares them)",
        "not covered  rounding in a float32 execution; whether the cases mean what the text says; inputs outside them",
        "signature not checked",
    ]

def show(value: Fraction | None) -> str:
    return "none" if value is None else f"{Decimal(value.numerator) / Decimal(value.denominator):.6g}"
def check(data: bytes, folder: str | None = None) -> Result:
    """Judge the bytes of a certificate; `folder` is where its weights file may lie. It raises nothing."""
    result = Result()
    try:
        result.lines = judge(data, folder, result)
        result.accepted, result.code, result.levels = True, 0, ["real"]
    except (Unreadable, Rejected) as error:
        result.code, result.reason = 2 if isinstance(error, Unreadable) else 1, repr(str(error))[1:-1][:1000]
    except Exception as error:
        result.reason = f"the checker could not finish: {type(error).__name__} {str(error)[:200]!r}"
    return result

def main(arguments: list[str]) -> int:
    paths = [a for a in arguments if a != "--failed"]
    if not paths or any(path.startswith("-") for path in paths):
        print("usage: python -I -S checker.py [--failed] CERT...", file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        try:
            with open(path, "rb") as file:
                result = check(file.read(MAX_BYTES + 1), os.path.dirname(path))
        except (OSError, ValueError, MemoryError):
            result = Result(2, "the file cannot be read")
        verdict = ["accepted", f"rejected: {result.reason}", f"unreadable: {result.reason}"][result.code]
        print("\n".join([f"{path!r}:"] * (len(paths) > 1) + [verdict, *result.lines]))
        if "--failed" in arguments:
            print(json.dumps({"failed": result.failed, "leaves": result.leaves, "margin": show(result.margin)}))
        worst = max(worst, result.code)
    return worst

if __name__ == "__main__":
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.exit(main(sys.argv[1:]))
