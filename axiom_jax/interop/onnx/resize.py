"""ONNX's Resize and Upsample: along each axis a copy of entries, or a product with a matrix of weights."""

import math
from typing import Any

import numpy as np
from jax import lax

from axiom_jax.interop.onnx.ops import Node, array, cast, define, like, positive, require_size, take


@define("Upsample", "Resize", static=(1, 2, 3))
def _resize(node: Node, x: Any, *operands: Any) -> Any:
    old = node.op == "Upsample" or node.opset < 11  # (x, scales); later (x, region, scales, sizes)
    given = (
        [node.get("scales"), None] if not operands else [operands[0], None] if old else [*operands[1:], None, None][:2]
    )
    scales, sizes = (None if v is None or np.size(v) == 0 else np.asarray(v) for v in given)
    region = operands[0] if operands and not old and operands[0] is not None else np.zeros(0)
    chosen = [positive(a, x.ndim) for a in node.get("axes", range(x.ndim))]
    if scales is None and sizes is None:
        raise ValueError("neither scales nor sizes are given")
    if sizes is not None:
        scales, sizes = _fitted(node, [x.shape[d] for d in chosen], sizes)
    assert scales is not None
    nearest = node.get("mode", "nearest") == "nearest"
    dtype, whole = x.dtype, not nearest and x.dtype.kind in "iu"
    if whole and (node.get("mode") == "cubic" or node.get("antialias", 0)):
        raise NotImplementedError(f"integers and {'antialias' if node.get('antialias', 0) else 'mode cubic'}")
    for i, d in enumerate(chosen):
        n, scale = x.shape[d], float(scales[i])
        length = int(sizes[i]) if sizes is not None else math.floor(np.float32(n) * np.float32(scale))
        if not isinstance(n, int) or n < 1 or length < 1:
            raise ValueError(f"an axis of size {n} cannot become {length}")
        require_size([length])
        ends = (float(region[i]), float(region[i + len(chosen)])) if len(region) else (0.0, 1.0)
        places = _places(node, n, length, scale, old, ends)
        if nearest and node.get("coordinate_transformation_mode") != "tf_crop_and_resize":
            x = take(x, _nearest(node, places, n, scale, old), d)
        elif (length, scale) != (n, 1.0) or len(region):
            x = _weighted(node, cast(array(x), np.float32) if whole else array(x), d, places, scale)
    return cast(x, dtype) if whole else x


def _fitted(node: Node, old: list[Any], sizes: np.ndarray) -> tuple[Any, Any]:
    """Scales and sizes; where the aspect ratio is kept, one scale for all axes."""
    scales = [int(s) / n for s, n in zip(sizes, old, strict=True)]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales, sizes
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(old), [math.floor(scale * n + 0.5) for n in old]


def _places(node: Node, size: int, length: int, scale: float, old: bool, ends: tuple[float, float]) -> np.ndarray:
    """Where each output entry lies in the input."""
    out, ratio, half = np.arange(length, dtype=np.float32), np.float32(scale), np.float32(0.5)
    mode = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    centre = (out + half) / ratio - half
    if mode == "tf_crop_and_resize":
        start, end = ends
        if length == 1:
            return np.array([0.5 * (start + end) * (size - 1)])
        return start * (size - 1) + out.astype(np.float64) * (end - start) * (size - 1) / (length - 1)
    places = {
        "asymmetric": out / ratio,
        "half_pixel": centre,
        "half_pixel_symmetric": centre + np.float32(size / 2 * (1 - length / (scale * size))),
        "pytorch_half_pixel": centre if length > 1 else out,
        "tf_half_pixel_for_nn": centre + half,
        "align_corners": out * np.float32(size - 1) / np.float32(max(length - 1, 1)),
    }
    if mode not in places:
        raise NotImplementedError(f"coordinate_transformation_mode {mode}")
    return places[mode]


def _nearest(node: Node, places: np.ndarray, size: int, scale: float, old: bool) -> np.ndarray:
    """For every output place the input place that it copies."""
    before = "ceil" if scale < 1 else "floor"  # what onnxruntime and ONNX's own tests did before there was a choice
    rounding = before if old else node.get("nearest_mode", "round_prefer_floor")
    half = np.float32(0.5)
    round_to = {"floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda p: np.ceil(p - half),
                "round_prefer_ceil": lambda p: np.floor(p + half)}[rounding]  # fmt: skip
    return np.clip(round_to(places), 0, size - 1).astype(np.int64)


def _weighted(node: Node, x: Any, axis: int, places: np.ndarray, scale: float) -> Any:
    """x times a matrix of weights along an axis."""
    size, mode = x.shape[axis], node.get("mode", "nearest")
    if mode == "nearest":
        floor, weights = _nearest(node, places, size, scale, False), lambda r: np.ones_like(r)
        offsets, rest = np.array([0]), np.zeros(len(places))
    elif mode in ("linear", "cubic"):
        floor = np.floor(places).astype(np.int64)
        rest = places.astype(np.float64) - floor
        squeeze = min(scale, 1.0) if node.get("antialias", 0) else 1.0
        reach = 1 if mode == "linear" else 2
        first = math.floor(-reach / squeeze) + 1
        offsets = np.arange(first, 2 - first)
        a = node.get("cubic_coeff_a", -0.75)
        weights = (
            (lambda r: np.clip(1 - abs(r * squeeze), 0, 1)) if mode == "linear" else (lambda r: _cubic(r * squeeze, a))
        )
    else:
        raise NotImplementedError(f"mode {mode}")
    index = floor[:, None] + offsets[None]
    table = weights(offsets[None] - rest[:, None])
    if node.get("exclude_outside", 0):
        table = np.where((index >= 0) & (index < size), table, 0)
    table = table / table.sum(1, keepdims=True)
    matrix = np.zeros((len(places), size))
    np.add.at(matrix, (np.arange(len(places))[:, None], np.clip(index, 0, size - 1)), table)
    order = [*range(axis), *range(axis + 1, x.ndim)]
    y = lax.dot_general(x, array(matrix.astype(x.dtype)), (((axis,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
    y = lax.transpose(y, [order.index(d) if d != axis else x.ndim - 1 for d in range(x.ndim)])
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        outside = array((places < 0) | (places > size - 1))
        wide = lax.broadcast_in_dim(outside, y.shape, (axis,))
        y = lax.select_n(wide, y, lax.full(y.shape, like(y, node.get("extrapolation_value", 0.0))))
    return y


def _cubic(r: np.ndarray, a: float) -> np.ndarray:
    """Keys' convolution kernel. Source: Keys 1981, doi 10.1109/TASSP.1981.1163711."""
    r = abs(r)
    near = (a + 2) * r**3 - (a + 3) * r**2 + 1
    far = a * r**3 - 5 * a * r**2 + 8 * a * r - 4 * a
    return np.where(r <= 1, near, np.where(r < 2, far, 0))
