"""What a module of HLO computes: every value as an array of expressions, calls and fusions looked into.

An operation without a rule here is refused by name: loops, calls of libraries (cuDNN's convolutions among them, whose
engines may use transforms, which are no sums of products), random numbers, sorting, and all types of floating-point
numbers but float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from axiom_jax.verification.proof.hlo import moves, sums
from axiom_jax.verification.proof.hlo.symbols import (
    IGNORED,
    Symbols,
    applied,
    chosen,
    constant,
    divided,
    leaf,
    multiplied,
    negated,
)
from axiom_jax.verification.proof.hlo.text import TOLD, TYPES, Instruction, Module, Unread, custom

FREE = {
    "exponential",
    "tanh",
    "logistic",
    "log",
    "erf",
    "power",
    "cbrt",
    "sine",
    "cosine",
    "tan",
    "atan2",
    "exponential-minus-one",
    "log-plus-one",
}  # each call of them may be compiled in another way
UNARY = FREE - {"power", "atan2"} | {"abs", "sign", "sqrt", "rsqrt", "floor", "ceil", "round-nearest-even", "not",
                                     "round-nearest-afz", "is-finite"}  # fmt: skip
BINARY = {"power", "atan2", "remainder", "divide"}
ANY_ORDER = {"and", "or", "xor"}
WRITTEN = {"__triton"}  # kernels that XLA writes itself, instruction by instruction, by way of Triton
LIBRARY = {"__ynn_fusion", "__xnn_fusion"}  # of sums and of what is exact; their functions are their own
IN_LIBRARY = {"parameter", "constant", "reshape", "bitcast", "transpose", "broadcast", "copy", "slice", "concatenate",
              "pad", "convert", "add", "subtract", "multiply", "negate", "maximum", "minimum", "abs", "clamp", "dot",
              "convolution", "reduce", "reduce-window", "tuple", "get-tuple-element", "call"}  # fmt: skip
FOLDED: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "and": np.logical_and, "or": np.logical_or, "not": np.logical_not}  # fmt: skip
COMPARED: dict[str, Callable[..., Any]] = {"LT": np.less, "LE": np.less_equal, "EQ": np.equal, "NE": np.not_equal,
                                           "GT": np.greater, "GE": np.greater_equal}  # fmt: skip
ATTRIBUTES = TOLD | {
    "direction", "type", "dimensions", "slice", "padding", "window", "dim_labels", "feature_group_count",
    "batch_group_count", "lhs_batch_dims", "rhs_batch_dims", "lhs_contracting_dims", "rhs_contracting_dims",
    "operand_precision", "custom_call_target", "to_apply", "calls", "kind", "index", "iota_dimension", "offset_dims",
    "collapsed_slice_dims", "start_index_map", "operand_batching_dims", "start_indices_batching_dims",
    "index_vector_dim", "slice_sizes", "dynamic_slice_sizes", "indices_are_sorted", "unique_indices",
    "control-predecessors", "origin"}  # fmt: skip
Value = Symbols | tuple[Any, ...]


@dataclass
class Meaning:
    """What is known while a module is walked.

    Args:
        turned: whether constant divisors are factors, their reciprocals rounded.
        inverted: whether other divisors are inverted first, and then factors.
        joined: whether sums of sums are one sum.
        steps: every instruction that was carried out, in order, with its expressions.
        free: for each instruction whose rounding is not settled by its operands, the expressions it computes.
        work: how many multiplications its sums took.
    """

    module: Module
    turned: bool = False
    inverted: bool = False
    joined: bool = False
    steps: list[tuple[Instruction, Symbols]] = field(default_factory=list)
    free: list[np.ndarray] = field(default_factory=list)
    work: int = 0

    def outputs(self) -> list[Symbols]:
        """Walk the module once; its results, each an array."""
        entry = self.module.computations[self.module.entry]
        arguments = {e.argument: leaf(e.argument, e.shape) for e in entry if e.opcode == "parameter"}
        result = self.run(self.module.entry, lambda e: arguments[e.argument])
        return list(result) if isinstance(result, tuple) else [result]

    def run(self, name: str, argument: Callable[[Instruction], Value], library: bool = False) -> Any:
        """A computation, given its parameters."""
        env: dict[str, Value] = {}
        lines = {e.name: e for e in self.module.computations[name]}
        for e in lines.values():
            if unknown := e.attributes.keys() - ATTRIBUTES:
                raise Unread(f"{e.opcode} with {', '.join(sorted(unknown))}")
            if library and e.opcode not in IN_LIBRARY:
                raise Unread(f"{e.opcode} by a library")
            if e.opcode == "parameter":
                env[e.name] = argument(e)
                continue
            try:
                of = [] if e.opcode in ("constant", "iota") else [env[o] for o in e.operands]
                found = self._value(e, of, lines, library)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                if isinstance(error, Unread):
                    raise
                raise Unread(f"{e.opcode} of an unknown form") from None
            if isinstance(found, Symbols):
                if found.ids.shape != e.shape:
                    raise Unread(f"{e.opcode} of an unknown form")
                self.steps.append((e, found))
            env[e.name] = found
        return env[self.module.roots[name]]

    def _value(self, e: Instruction, of: list[Any], lines: dict[str, Instruction], library: bool) -> Any:
        if e.opcode in ("fusion", "call"):
            kind = custom(e)
            if kind and kind not in LIBRARY | WRITTEN:
                raise Unread(f"a fusion by {kind}")
            name = e.attributes["calls" if e.opcode == "fusion" else "to_apply"].lstrip("%")
            return self.run(name, lambda p: of[int(p.argument)], library or kind in LIBRARY)
        if e.opcode == "custom-call":
            raise Unread(f"custom-call of {e.attributes.get('custom_call_target', '').strip(chr(34)) or 'something'}")
        if e.opcode == "tuple":
            return tuple(of)
        if e.opcode == "get-tuple-element":
            return of[0][e.numbers("index")[0]]
        if e.opcode == "optimization-barrier":
            return of[0]
        if e.dtype not in TYPES or e.dtype in ("f64", "f16"):
            raise Unread(f"{e.opcode} of type {e.dtype}")
        if e.opcode == "bitcast":
            return moves.bitcast(e, lines[e.operands[0]], of[0])
        if e.opcode in MOVED:
            return MOVED[e.opcode](e, of)
        if (folded := _folded(e, of)) is not None:
            return folded
        if e.opcode in sums.RULES:
            of = of if self.joined else [replace(x, terms=None) for x in of]
            found, free, work = sums.RULES[e.opcode](e, of, self.module)
            self.work += work
            if self.work > sums.MOST:
                raise Unread("a program of so many multiplications")
            if e.dtype == "f32" and free.any():
                self.free.append(np.unique(_unsigned(found.ids[free])))
            return found
        quotient = e.opcode == "divide" and e.dtype == "f32"
        found = divided(of[0], of[1], self.turned, self.inverted) if quotient else elementwise(e, of)
        if e.opcode in FREE:
            self.free.append(np.unique(found.ids))
        return found

    def twice(self) -> np.ndarray:
        """Expressions that several instructions compute, each perhaps with another rounding."""
        every, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *self.free]), return_counts=True)
        return every[counts > 1]


def _unsigned(ids: np.ndarray) -> np.ndarray:
    return np.minimum(ids, np.uint64(0) - ids)


def _iota(e: Instruction, _: Any) -> Symbols:
    (axis,) = e.numbers("iota_dimension")
    shape = [1] * len(e.shape)
    shape[axis] = e.shape[axis]
    return constant(np.broadcast_to(np.arange(e.shape[axis], dtype=TYPES[e.dtype]).reshape(shape), e.shape))


MOVED: dict[str, Callable[[Instruction, list[Any]], Symbols]] = {
    "constant": lambda e, _: constant(e.literal()),
    "iota": _iota,
    "reshape": lambda e, of: of[0].moved(lambda a: a.reshape(e.shape)),
    "copy": lambda e, of: of[0],
    "transpose": lambda e, of: of[0].moved(lambda a: np.transpose(a, e.numbers("dimensions"))),
    "reverse": lambda e, of: of[0].moved(lambda a: np.flip(a, e.numbers("dimensions"))),
    "broadcast": lambda e, of: moves.broadcast(e, of[0]),
    "slice": lambda e, of: moves.sliced(e, of[0]),
    "concatenate": moves.concatenated,
    "pad": lambda e, of: moves.padded(e, *of),
    "gather": lambda e, of: moves.gathered(e, *of),
    "dynamic-slice": lambda e, of: moves.dynamic_slice(e, of[0], of[1:]),
    "dynamic-update-slice": lambda e, of: moves.updated(e, of[0], of[1], of[2:]),
}


def _folded(e: Instruction, of: Sequence[Symbols]) -> Symbols | None:
    """An operation on constants alone, where it is carried out exactly as the program says: rounded once."""
    values = [x.known for x in of if x.known is not None]
    if not values or len(values) < len(of):
        return None
    with np.errstate(all="ignore"):
        if e.opcode in FOLDED:
            if e.opcode in ("and", "or", "not") and e.dtype != "pred":
                return None
            return constant(FOLDED[e.opcode](*values).astype(TYPES[e.dtype]))
        if e.opcode == "divide" and e.dtype == "f32":
            return constant(np.divide(*values).astype(np.float32))
        if e.opcode == "compare":
            return constant(COMPARED[e.attributes["direction"]](*values))
        if e.opcode == "select":
            return constant(np.where(*values))
        if e.opcode == "convert" and np.all(np.abs(values[0].astype(np.float64)) < 2**24):
            converted = values[0].astype(TYPES[e.dtype])
            return constant(converted) if np.array_equal(converted, values[0]) else None
    return None


def elementwise(e: Instruction, of: Sequence[Symbols]) -> Symbols:
    """An operation on each element by itself."""
    ids = [x.ids for x in of]
    if e.opcode == "multiply":
        return multiplied(*of) if e.dtype == "f32" else Symbols(applied("multiply", *ids, any_order=True))
    if e.opcode == "negate":
        return negated(of[0])
    if e.opcode == "convert":
        return Symbols(applied(f"convert {e.dtype}", *ids))
    if e.opcode == "compare":
        direction = e.attributes["direction"]
        if direction in ("GT", "GE"):
            direction, ids = direction.replace("G", "L"), ids[::-1]
        kind = e.attributes.get("type", "")
        return Symbols(applied(f"compare {direction} {kind}", *ids, any_order=direction in ("EQ", "NE")))
    if e.opcode == "select":
        if (first := of[0].known) is not None:
            return Symbols(np.where(first, ids[1], ids[2]), None, np.where(first, of[1].products(), of[2].products()))
        return Symbols(applied("select", *ids))
    if e.opcode == "clamp":
        least, x, most = np.broadcast_arrays(*ids)
        return Symbols(chosen("minimum", chosen("maximum", x, least), most))
    if e.opcode in IGNORED:
        return Symbols(chosen(e.opcode, *ids))
    if e.opcode in ANY_ORDER:
        return Symbols(applied(e.opcode, *ids, any_order=True))
    if (e.opcode in UNARY and len(ids) == 1) or (e.opcode in BINARY and len(ids) == 2):
        return Symbols(applied(e.opcode, *ids))
    raise Unread(e.opcode)
