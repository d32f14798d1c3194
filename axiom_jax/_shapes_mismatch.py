"""What each kind of layer takes, and how to mend an input that does not fit.

A kind is a pure function of an input's shape: None where it fits, else a `Mismatch`. They look at
sizes only, so they hold for symbolic sizes too: what cannot be proved equal does not fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from axiom_jax._shapes_text import is_number, pattern, product_text

Shape = tuple[Any, ...]
Write = Callable[..., str]


@dataclass(frozen=True)
class Mismatch:
    """Why a layer refuses an input.

    Args:
        expected: what it takes, as in messages.
        fix: one line that mends it.
        output: the output's shape once the fix is applied, so that checking can go on; None if unknown.
    """

    expected: str
    fix: str
    output: Shape | None = None


def dense(x: Any, inputs: int, outputs: int, write: Write) -> Mismatch | None:
    """`write(in_features=n)` is the layer's text with another size."""
    shape = tuple(x.shape)
    if shape and shape[-1] == inputs:
        return None
    expected = pattern(x.dtype, "...", inputs)
    name = write().partition("(")[0]
    inner = shape[1:]
    if not shape:
        return Mismatch(expected, "give it at least one axis, x[None]")
    if not inner and not is_number(shape[0]):
        return Mismatch(expected, f"keep the batch axis: Flatten() >> {write()} instead of a reshape to one axis", None)
    if not all(map(is_number, inner)):
        if len(inner) == 3 and is_number(inner[-1]):
            fix = f"add GlobalAvgPool before {name}: GlobalAvgPool() >> {write(in_features=inner[-1])}"
            return Mismatch(expected, fix, (shape[0], outputs))
        if len(inner) == 1 or is_number(shape[-1]):
            return _resized(expected, shape, outputs, write)
        return Mismatch(expected, "fix the sizes before it: input_shape=(…)", (*shape[:1], outputs))
    if len(inner) > 1 and (math.prod(inner) == inputs or len(inner) > 2):
        flat = math.prod(inner)
        fix = f"add Flatten before {name} ({product_text(inner)}): Flatten() >> {write(in_features=flat)}"
        return Mismatch(expected, fix, (shape[0], outputs))
    return _resized(expected, shape, outputs, write)


def _resized(expected: str, shape: Shape, outputs: int, write: Write) -> Mismatch | None:
    if not is_number(shape[-1]):
        return Mismatch(expected, f"give the last axis the size that it takes, not {shape[-1]}", (*shape[:-1], outputs))
    return Mismatch(expected, f"make it {write(in_features=shape[-1])}", (*shape[:-1], outputs))


def bilinear(x: Any, inputs: tuple[int, int], outputs: int, write: Write) -> Mismatch | None:
    """`x` should be a pair; `write(in1_features=n)` is the layer's text with another size."""
    dtype = getattr(x[0] if isinstance(x, (tuple, list)) and x else x, "dtype", "Float32")
    expected = f"({pattern(dtype, '...', inputs[0])}, {pattern(dtype, '...', inputs[1])})"
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        return Mismatch(expected, f"give it a pair: Parallel(…, …, combine=None) >> {write()}")
    first, second = tuple(x[0].shape), tuple(x[1].shape)
    if first[:-1] != second[:-1] or not first:
        return Mismatch(expected, "give both the same axes before the last")
    sizes = {f"in{i}_features": y[-1] for i, y in enumerate((first, second), 1) if y[-1] != inputs[i - 1]}
    if not sizes:
        return None
    if not all(map(is_number, sizes.values())):
        return Mismatch(expected, f"give their last axes {inputs[0]} and {inputs[1]} features")
    return Mismatch(expected, f"make it {write(**sizes)}", (*first[:-1], outputs))


def spatial(axes: int) -> tuple[str, ...]:
    """What the axes between the batch and the channels are called."""
    return ("height", "width") if axes == 2 else tuple(f"size{i}" for i in range(axes))


def conv(x: Any, inputs: int, outputs: int, kernel: Sequence[int], write: Write, after: Callable[[Shape], Shape],
         padded: bool, dilation: Sequence[int] = ()) -> Mismatch | None:  # fmt: skip
    """`after(spatial sizes)` are the spatial sizes that come out; `padded` if the padding keeps every window inside."""
    shape, rank = tuple(x.shape), len(kernel) + 2
    axes, steps = spatial(len(kernel)), dilation or (1,) * len(kernel)
    expected = pattern(x.dtype, "batch", *axes, inputs)
    if len(shape) == rank - 1 and inputs == 1 and all(map(is_number, shape[1:])):
        fix = f"add the channel axis: Reshape{(*shape[1:], 1)} >> {write()}"
        return Mismatch(expected, fix, (shape[0], *after(shape[1:]), outputs))
    if len(shape) != rank:
        return Mismatch(expected, _unflatten(shape, inputs, len(kernel), write), None)
    if shape[-1] != inputs and shape[1] == inputs:
        fix = f"put the channels last: add (lambda x: jnp.moveaxis(x, 1, -1)) before {write()}"
        return Mismatch(expected, fix, (shape[0], *after(shape[2:]), outputs))
    if shape[-1] != inputs:
        return Mismatch(expected, f"make it {write(in_features=shape[-1])}", (shape[0], *after(shape[1:-1]), outputs))
    whole = [(k - 1) * step + 1 for k, step in zip(kernel, steps, strict=True)]
    if not padded and any(is_number(size) and size < k for size, k in zip(shape[1:-1], whole, strict=True)):
        windows = tuple(
            min((size - 1) // step + 1, k) if is_number(size) else k
            for size, k, step in zip(shape[1:-1], kernel, steps, strict=True)
        )
        expected = pattern(x.dtype, "batch", *(f"{name} >= {k}" for name, k in zip(axes, whole, strict=True)), inputs)
        return Mismatch(expected, f"use a smaller kernel: {write(kernel_size=windows)}", None)
    return None


def _unflatten(shape: Shape, channels: int, axes: int, write: Write) -> str:
    if len(shape) == 2 and is_number(shape[1]) and shape[1] % channels == 0 and axes == 2:
        side = math.isqrt(shape[1] // channels)
        if side * side * channels == shape[1]:
            return f"give it images: Reshape({side}, {side}, {channels}) >> {write()}"
    return f"give it {axes + 2} axes, the batch first and {channels} channels last: Reshape(…) >> {write()}"


def pool(x: Any, window: Sequence[int], write: Write, padded: bool) -> Mismatch | None:
    shape, rank, axes = tuple(x.shape), len(window) + 2, spatial(len(window))
    if len(shape) == rank - 1 and all(map(is_number, shape[1:])):
        fix = f"add the channel axis: Reshape{(*shape[1:], 1)} >> {write()}"
        return Mismatch(pattern(x.dtype, "batch", *axes, "channels"), fix)
    if len(shape) != rank:
        name = write().partition("(")[0]
        return Mismatch(pattern(x.dtype, "batch", *axes, "channels"), f"move {name} before the Flatten or Reshape")
    if padded or not any(is_number(size) and size < k for size, k in zip(shape[1:-1], window, strict=True)):
        return None
    fits = tuple(min(size, k) if is_number(size) else k for size, k in zip(shape[1:-1], window, strict=True))
    expected = pattern(x.dtype, "batch", *(f"{a} >= {k}" for a, k in zip(axes, window, strict=True)), "channels")
    sizes = tuple(size if not is_number(size) else 1 for size in shape[1:-1])
    fix = f"make it {write(window_shape=fits)}"
    return Mismatch(expected, fix, (shape[0], *sizes, shape[-1]))


def norm(x: Any, features: int, write: Write) -> Mismatch | None:
    shape = tuple(x.shape)
    if shape and shape[-1] == features:
        return None
    expected = pattern(x.dtype, "...", features)
    if not shape or not is_number(shape[-1]):
        return Mismatch(expected, f"give the last axis {features} features", shape)
    return Mismatch(expected, f"make it {write(num_features=shape[-1])}", shape)


def embedding(x: Any, features: int) -> Mismatch | None:
    if jnp.issubdtype(x.dtype, jnp.integer):
        return None
    fix = "give it integer ids: (lambda x: x.astype(jnp.int32)) before it"
    return Mismatch(pattern("Int32", "..."), fix, (*x.shape, features))


def global_pool(x: Any, name: str) -> Mismatch | None:
    if len(x.shape) > 2:
        return None
    return Mismatch(pattern(x.dtype, "batch", "...", "channels"), f"move {name} before the Flatten or Reshape")


def adaptive(x: Any, counts: Sequence[int], write: Write) -> Mismatch | None:
    """`write(output_size=sizes)` is the layer's text with other sizes."""
    shape, rank, axes = tuple(x.shape), len(counts) + 2, spatial(len(counts))
    expected = pattern(x.dtype, "batch", *axes, "channels")
    if len(shape) == rank - 1 and all(map(is_number, shape[1:])):
        return Mismatch(expected, f"add the channel axis: Reshape{(*shape[1:], 1)} >> {write()}")
    if len(shape) != rank:
        return Mismatch(expected, f"move {write().partition('(')[0]} before the Flatten or Reshape")
    output = (shape[0], *counts, shape[-1])
    if any(n > 1 and not is_number(size) for size, n in zip(shape[1:-1], counts, strict=True)):
        sizes = tuple(size if is_number(size) else 8 * n for size, n in zip(shape[1:-1], counts, strict=True))
        fix = f"give the size of one example: Sequential(..., input_shape={(*sizes, shape[-1])})"
        return Mismatch(f"{expected} of known sizes", fix, output)
    if any(is_number(size) and size < n for size, n in zip(shape[1:-1], counts, strict=True)):
        fits = tuple(min(size, n) if is_number(size) else n for size, n in zip(shape[1:-1], counts, strict=True))
        expected = pattern(x.dtype, "batch", *(f"{a} >= {n}" for a, n in zip(axes, counts, strict=True)), "channels")
        return Mismatch(expected, f"make it {write(output_size=fits)}", (shape[0], *fits, shape[-1]))
    return None


def instances(x: Any, features: int, write: Write) -> Mismatch | None:
    if len(x.shape) > 2:
        return norm(x, features, write)
    expected = pattern(x.dtype, "batch", "...", features)
    instead = write().replace("InstanceNorm", "LayerNorm", 1)
    return Mismatch(expected, f"normalize the features of an example instead: {instead}", tuple(x.shape))


def sequence(x: Any, features: int, write: Write) -> Mismatch | None:
    """`write(in_features=n)` is the layer's text with another size."""
    shape = tuple(x.shape)
    expected = pattern(x.dtype, "batch", "length", features)
    if len(shape) == 2:
        kept = shape[-1] == features
        size = -1 if is_number(shape[-1]) and shape[-1] % features == 0 else 1
        if not kept and size == 1 and is_number(shape[-1]):
            return Mismatch(expected, f"add the length axis: Reshape(1, {shape[-1]}) >> {write(in_features=shape[-1])}")
        return Mismatch(expected, f"add the length axis: Reshape({1 if kept else size}, {features}) >> {write()}")
    if len(shape) != 3:
        return Mismatch(expected, f"give it one axis of positions: Reshape(-1, {features}) >> {write()}")
    if shape[-1] == features:
        return None
    if not is_number(shape[-1]):
        return Mismatch(expected, f"give the last axis {features} features")
    return Mismatch(expected, f"make it {write(in_features=shape[-1])}")


def positions(x: Any, features: int, longest: int | None, write: Write) -> Mismatch | None:
    """`write(features=n)`, `write(max_length=n)` are the layer's text with other sizes."""
    shape = tuple(x.shape)
    expected = pattern(x.dtype, "batch", "length" if longest is None else f"length <= {longest}", features)
    if len(shape) != 3:
        return Mismatch(expected, f"give it a sequence: Reshape(-1, {features}) >> {write()}", shape)
    if shape[-1] != features:
        known = is_number(shape[-1])
        fix = f"make it {write(features=shape[-1])}" if known else f"give the last axis {features} features"
        return Mismatch(expected, fix, shape)
    if longest is not None and is_number(shape[1]) and shape[1] > longest:
        return Mismatch(expected, f"make it {write(max_length=shape[1])}", shape)
    return None


def attended(x: Any) -> tuple[list[Any], Any]:
    """The arrays of an attention layer's input, and its mask or None: a last part of booleans."""
    parts: list[Any] = list(x) if isinstance(x, (tuple, list)) else [x]
    masked = len(parts) > 1 and jnp.issubdtype(parts[-1].dtype, jnp.bool_)
    return (parts[:-1], parts[-1]) if masked else (parts, None)


def attention(x: Any, features: int, write: Write, arrays: int = 3) -> Mismatch | None:
    """`arrays` is how many a tuple may hold beside a mask."""
    parts, mask = attended(x)
    expected = pattern(parts[0].dtype, "batch", "length", features)
    if len(parts) > arrays:
        wanted = "(x, mask)" if arrays == 1 else "(query, memory) or (query, key, value)"
        return Mismatch(f"{wanted} of {expected}", f"give it {'an array' if arrays == 1 else 'at most three arrays'}")
    for part in parts:
        if (wrong := _attention(part, features, write)) is not None:
            return wrong
    if len(parts) == 3 and parts[1].shape != parts[2].shape:
        return Mismatch(f"a key and a value of one shape, {pattern(parts[1].dtype, *parts[1].shape)}",
                        "give (query, memory), or a value for every key")  # fmt: skip
    batch, length = parts[0].shape[0], parts[-1].shape[1]
    if parts[-1].shape[0] != batch:
        whole = pattern(parts[-1].dtype, batch, "length", features)
        return Mismatch(f"one batch, {whole}", "give as many memories as queries")
    if mask is None or (mask.shape == (batch, length) or len(mask.shape) == 4):
        return None
    either = f"{pattern(mask.dtype, batch, length)} or {pattern(mask.dtype, batch, 'heads', 'query', 'key')}"
    return Mismatch(f"a mask {either}", "give the mask a row for every example and a place for every key")


def _attention(x: Any, features: int, write: Write) -> Mismatch | None:
    shape = tuple(x.shape)
    expected = pattern(x.dtype, "batch", "length", features)
    if len(shape) == 2 and shape[-1] == features:
        # flax would take the batch for the sequence and let examples attend to each other
        return Mismatch(expected, f"add the length axis: Reshape(1, {features}) >> {write()}", (shape[0], 1, features))
    if len(shape) < 3:
        return Mismatch(
            expected, f"give it a sequence: Reshape(-1, {features}) >> {write()}", (*shape[:1], 1, features)
        )
    if shape[-1] == features:
        return None
    if not is_number(shape[-1]):
        return Mismatch(expected, f"give the last axis {features} features", (*shape[:-1], features))
    return Mismatch(expected, f"make it {write(in_features=shape[-1])}", shape)


def reshape(x: Any, target: Sequence[int], write: Write) -> Mismatch | None:
    """`target` are the sizes of one example, at most one of them −1; `write(shape=sizes)` the layer's text."""
    shape = tuple(x.shape)
    have, known = math.prod(shape[1:]), math.prod(size for size in target if size != -1)
    if shape and (have == known if -1 not in target else known and is_number(have) and have % known == 0):
        return None
    if shape and -1 in target and not is_number(have) and have % known == 0:
        return None
    expected = pattern(x.dtype, "batch", *(("...",) if -1 in target else (product_text(target).rpartition(" = ")[2],)))
    if not is_number(have):
        return Mismatch(expected, f"fix the sizes before it: they multiply to {have}", (*shape[:1], *target))
    sizes = nearest(target, have) or (have,)
    counted = f" ({product_text(shape[1:])})" if len(shape) > 2 else ""
    return Mismatch(expected, f"make it {write(shape=sizes)}{counted}", (*shape[:1], *sizes))


def nearest(target: Sequence[int], total: int) -> tuple[int, ...] | None:
    """Sizes of the same number of axes that multiply to `total`, one of them changed, or an image's sides."""
    target = tuple(target)
    if len(target) == 3 and target[0] == target[1] and total % target[2] == 0:
        side = math.isqrt(total // target[2])
        if side * side * target[2] == total:
            return (side, side, target[2])
    for axis in range(len(target)):
        others = math.prod(size for i, size in enumerate(target) if i != axis and size != -1)
        if -1 not in (*target[:axis], *target[axis + 1 :]) and total % others == 0:
            return (*target[:axis], total // others, *target[axis + 1 :])
    return None


def residual(x: Any, y: Any, name: str) -> Mismatch | None:
    """`y` is what the inner layers give, `x` what the shortcut gives."""
    have, want = tuple(y.shape), tuple(x.shape)
    if have == want:
        return None
    expected = pattern(y.dtype, *want)
    if len(have) != len(want):
        return Mismatch(expected, f"keep the number of axes inside {name} ({len(want)}, not {len(have)})", have)
    if have[:-1] == want[:-1]:
        return Mismatch(expected, f"project the shortcut: {name}(…, shortcut=Dense({want[-1]}, {have[-1]}))", have)
    strides = tuple(map(_stride, want[1:-1], have[1:-1]))
    if strides and all(strides):
        convolution = f"Conv({want[-1]}, {have[-1]}, kernel_size={(1,) * len(strides)}, strides={strides})"
        return Mismatch(expected, f"project the shortcut: {name}(…, shortcut={convolution})", have)
    if strides:
        return Mismatch(expected, f'keep the spatial sizes inside {name}: Conv(…, padding="SAME")', have)
    return Mismatch(expected, f"keep the shape inside {name}", have)


def _stride(size: Any, smaller: Any) -> int:
    """The stride that takes one size to the other, or 0."""
    if size == smaller:
        return 1
    return size // smaller if is_number(size) and is_number(smaller) and smaller and size % smaller == 0 else 0
