"""Groups of equations that are one ONNX node: softmax, gelu, layer normalisation.

A group is recognised by its whole body, never by a name: the JAX function that the node stands for is
traced at the same shape, and its equations have to be found in the program, one by one, with the same
parameters and numbers. So the table below pairs JAX functions with nodes, and follows JAX when it changes.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._program import Equation, Program, Var, build
from axiom_jax.interop.onnx.emit import pointwise
from axiom_jax.interop.onnx.graph import Sheet, Value

EPSILON = 1.2345e-5  # stands for any number where a reference is traced


@dataclass(frozen=True)
class Pattern:
    """One ONNX operator and the JAX function that it computes.

    Args:
        op: the operator.
        opset: the first that has it.
        reference: `reference(*arrays)`; the first array has the output's shape if `first` does not say otherwise.
        write: `write(sheet, shape, dtype, number, *values) -> Value`.
        others: shapes of further operands, given the output's; None where it cannot be.
        dtypes: kinds that the operator takes.
        first: the shape of the first array, given the output's.
    """

    op: str
    opset: int
    reference: Callable[..., Any]
    write: Callable[..., Value]
    others: Callable[[tuple[Any, ...]], Sequence[tuple[Any, ...]] | None] = lambda shape: ()
    dtypes: str = "f"
    first: Callable[[tuple[Any, ...]], tuple[Any, ...]] = lambda shape: shape


@dataclass(frozen=True)
class Fusion:
    """A pattern found: the operands, and how the node is written."""

    inputs: tuple[Var, ...]
    pattern: Pattern
    number: Any

    def write(self, sheet: Sheet, eqn: Equation, *values: Value) -> Value:
        return self.pattern.write(sheet, eqn.output.shape, eqn.output.dtype, self.number, *values)


def fused(program: Program, opset: int) -> list[tuple[Equation, Fusion | None]]:
    """The program's equations that are still needed once groups are taken together, each with its group."""
    defined = {var: eqn for eqn in program.equations for var in eqn.outputs}
    literals, present = dict(program.literals), {eqn.name for eqn in program.equations}
    needed, kept = set(program.outputs), []
    for eqn in reversed(program.equations):
        if needed.isdisjoint(eqn.outputs):
            continue
        fusion = None
        if len(eqn.outputs) == 1 and not program.varying.isdisjoint(eqn.inputs):
            fusion = next(_found(eqn, opset, present, defined, literals), None)
        needed.update(fusion.inputs if fusion else eqn.inputs)
        kept.append((eqn, fusion))
    return kept[::-1]


def _found(eqn: Equation, opset: int, present: set[str], defined: Any, literals: Any) -> Any:
    shape, dtype = eqn.output.shape, eqn.output.dtype
    if not isinstance(dtype, np.dtype):
        return
    for pattern in patterns(len(shape)):
        kind = "f" if jnp.issubdtype(dtype, jnp.floating) else dtype.kind
        last, names = outline(pattern, len(shape))
        if pattern.opset > opset or kind not in pattern.dtypes or last != eqn.name or not names <= present:
            continue
        if (template := traced(pattern, shape, dtype.name)) is None:
            continue
        match = _Match(template, defined, literals)
        if match.equal(template.outputs[0], eqn.output) and all(v in match.bound for v in template.inputs):
            yield Fusion(tuple(match.bound[v] for v in template.inputs), pattern, match.number)


class _Match:
    """Walks a template and a program backwards together; `bound` says what the template's inputs are."""

    def __init__(self, template: Program, defined: dict[Var, Equation], literals: dict[Var, Any]):
        self.defined, self.literals = defined, literals
        self.own = {var: eqn for eqn in template.equations for var in eqn.outputs}
        self.numbers, self.number = dict(template.literals), None
        self.bound: dict[Var, Var] = {}
        self.inputs = set(template.inputs)

    def equal(self, own: Var, other: Var) -> bool:
        if own in self.bound:
            return self.bound[own] == other
        if own.dtype != other.dtype or tuple(map(str, own.shape)) != tuple(map(str, other.shape)):
            return False
        if own in self.inputs:
            self.bound[own] = other
            return True
        if own in self.numbers:
            return other in self.literals and self._same_number(self.numbers[own], self.literals[other])
        mine, theirs = self.own.get(own), self.defined.get(other)
        if mine is None or theirs is None or mine.name != theirs.name or len(mine.inputs) != len(theirs.inputs):
            return False
        if mine.outputs.index(own) != theirs.outputs.index(other) or mine.key[3] != theirs.key[3]:
            return False
        if not all(self.equal(a, b) for a, b in zip(mine.inputs, theirs.inputs, strict=True)):
            return False
        self.bound[own] = other
        return True

    def _same_number(self, own: Any, other: Any) -> bool:
        own, other = np.asarray(own), np.asarray(other)
        if own == np.asarray(EPSILON, own.dtype):
            if self.number is not None and self.number != other:
                return False
            self.number = other
            return True
        return own.dtype == other.dtype and bool(own == other)


@functools.lru_cache(maxsize=4096)
def traced(pattern: Pattern, shape: tuple[Any, ...], dtype: str) -> Program | None:
    """The program of a pattern's reference, for an output of this shape; None where it has none."""
    others = pattern.others(shape)
    if others is None:
        return None
    specs = [jax.ShapeDtypeStruct(sizes, jnp.dtype(dtype)) for sizes in (pattern.first(shape), *others)]
    try:
        program, captured = build(lambda _, *arrays: pattern.reference(*arrays), (), *specs)
    except (TypeError, ValueError, ArithmeticError, LookupError):
        return None
    return None if captured or not program.equations else program


@functools.lru_cache(maxsize=4096)
def outline(pattern: Pattern, rank: int) -> tuple[str, frozenset[str]]:
    """The last primitive of a pattern and all of its primitives; neither depends on sizes or dtype."""
    program = (
        traced(pattern, (2,) * rank, "float32") if "f" in pattern.dtypes else traced(pattern, (2,) * rank, "int32")
    )
    if program is None:
        return "", frozenset()
    return program.equations[-1].name, frozenset(eqn.name for eqn in program.equations)


# The table


def _elementwise(op: str, opset: int, reference: Callable[..., Any], **attributes: Any) -> Pattern:
    def write(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
        return pointwise(sheet, op, [x], shape, dtype, **attributes)

    return Pattern(op, opset, reference, write)


def _leaky(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
    return pointwise(sheet, "LeakyRelu", [x], shape, dtype, alpha=float(number))


def _elu(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
    return pointwise(sheet, "Elu", [x], shape, dtype, alpha=float(number))


def _clip(low: float, high: float) -> Callable[..., Value]:
    def write(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
        bounds = [sheet.constant(np.asarray(n, dtype), "bound") for n in (low, high)]
        return pointwise(sheet, "Clip", [x, *bounds], shape, dtype)

    return write


def _silu(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
    return pointwise(sheet, "Swish", [x], shape, dtype)


ACTIVATIONS = (
    _elementwise("Gelu", 20, functools.partial(jax.nn.gelu, approximate=True), approximate="tanh"),
    _elementwise("Gelu", 20, functools.partial(jax.nn.gelu, approximate=False)),
    _elementwise("Mish", 18, jax.nn.mish),
    _elementwise("Selu", 13, jax.nn.selu),
    _elementwise("HardSwish", 14, jax.nn.hard_swish),
    _elementwise("HardSigmoid", 13, jax.nn.hard_sigmoid, alpha=1 / 6, beta=0.5),
    _elementwise("Softplus", 13, jax.nn.softplus),
    _elementwise("Softsign", 13, jax.nn.soft_sign),
    Pattern("LeakyRelu", 16, lambda x: jax.nn.leaky_relu(x, EPSILON), _leaky),
    Pattern("Elu", 13, lambda x: jax.nn.elu(x, EPSILON), _elu),
    Pattern("Clip", 13, jax.nn.relu6, _clip(0, 6)),
    Pattern("Clip", 13, jax.nn.hard_tanh, _clip(-1, 1)),
    _elementwise("Relu", 14, lambda x: jnp.where(x > 0, x, 0)),
)


def _along(op: str, opset: int, reference: Callable[..., Any], axis: int) -> Pattern:
    def write(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
        x = sheet.spread_out(x)
        place = x.order.index(axis)
        return sheet.value(
            op, [x], shape, dtype, order=x.order, axis=place - len(shape) if place == len(shape) - 1 else place
        )

    return Pattern(op, opset, reference, write)


@functools.cache
def _flax_norm(scale: bool, bias: bool, fast: bool, kind: str) -> Callable[..., Any]:
    """flax's normalisation itself, with its parameters as operands."""
    from flax import nnx

    def reference(x: Any, *params: Any) -> Any:
        size = x.shape[-1]
        build = (
            functools.partial(nnx.LayerNorm, use_bias=bias, use_fast_variance=fast)
            if kind == "LayerNorm"
            else nnx.RMSNorm
        )
        given = iter(params)
        module: Any = build(size, epsilon=EPSILON, use_scale=scale, rngs=nnx.Rngs(0))
        if scale:
            module.scale = nnx.Param(next(given))
        if bias:
            module.bias = nnx.Param(next(given))
        return module(x)

    return reference


def _last_axis(count: int) -> Callable[[tuple[Any, ...]], Sequence[tuple[Any, ...]] | None]:
    def shapes(shape: tuple[Any, ...]) -> Sequence[tuple[Any, ...]] | None:
        return [(shape[-1],)] * count if shape and isinstance(shape[-1], int) and shape[-1] > 1 else None

    return shapes


def _normalisation(op: str, scale: bool, bias: bool) -> Callable[..., Value]:
    def write(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value, *params: Value) -> Value:
        operands = [sheet.plain(x), *(sheet.plain(p) for p in params)]
        if not scale:
            operands.insert(1, sheet.constant(np.ones(shape[-1:], dtype), "ones"))
        return sheet.value(op, operands, shape, dtype, axis=-1, epsilon=float(number))

    return write


def _mapped_softmax(axis: int) -> Pattern:
    """Softmax over the last axis with another axis mapped, which jax's attention does: it comes out in front."""

    def write(sheet: Sheet, shape: Any, dtype: Any, number: Any, x: Value) -> Value:
        y = sheet.value("Softmax", [sheet.plain(x)], x.shape, dtype, axis=-1)
        rest = [d for d in range(len(shape)) if d != axis]
        place = {old: new for new, old in enumerate([axis, *rest])}
        return replace(y, shape=tuple(shape), order=tuple(place[d] for d in range(len(shape))))

    def first(shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*shape[1 : axis + 1], shape[0], *shape[axis + 1 :])

    return Pattern("Softmax", 13, jax.vmap(jax.nn.softmax, in_axes=axis), write, first=first)


@functools.cache
def patterns(rank: int) -> tuple[Pattern, ...]:
    """The patterns for outputs of a rank, the largest first."""
    norms = [
        Pattern("LayerNormalization", 17, _flax_norm(scale, bias, fast, "LayerNorm"),
                _normalisation("LayerNormalization", scale, bias), _last_axis(scale + bias))
        for fast in (True, False) for scale, bias in ((True, True), (True, False), (False, True), (False, False))
        if scale or not bias
    ]  # fmt: skip
    norms += [
        Pattern("RMSNormalization", 23, _flax_norm(scale, False, True, "RMSNorm"),
                _normalisation("RMSNormalization", scale, False), _last_axis(scale))
        for scale in (True, False)
    ]  # fmt: skip
    over = [
        _along(op, 13, functools.partial(fn, axis=axis), axis)
        for axis in reversed(range(rank))
        for op, fn in (("LogSoftmax", jax.nn.log_softmax), ("Softmax", jax.nn.softmax))
    ]
    over += [_mapped_softmax(axis) for axis in range(1, rank - 1)]
    return (*(norms if rank else ()), *over, *ACTIVATIONS)
