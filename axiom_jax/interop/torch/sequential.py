"""Descriptors as a Sequential of our layers: images run channels-last inside, and are flattened in PyTorch's order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import ShapeError
from axiom_jax.interop.torch.descriptor import Entry

if TYPE_CHECKING:
    from axiom_jax.model import Model

IMAGES = ("Conv2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")
LARGEST = 1024  # images are looked for up to this size
Piece = tuple[Any, Any]


def sequential(entries: Sequence[Entry], layout: str, input_shape: Sequence[int] | None, name: str,
               source: tuple[tuple[str, str], ...], at: str | None) -> "Model":  # fmt: skip
    """The layers of a descriptor as a `Model` with their weights.

    Args:
        layout: "NCHW" for images as PyTorch takes them, "NHWC" for channels-last ones.
        input_shape: sizes of one example in that layout; None to find out.
        name, source, at: for messages and reports.

    Raises:
        ShapeError: the layers do not fit one another.
    """
    from axiom_jax._model import build
    from axiom_jax.interop.torch.channels import ChannelsFirst, ChannelsLast

    state = _State(layout == "NHWC", None if input_shape is None else len(input_shape) + 1)
    for entry in entries:
        LAYERS[entry.kind](state, entry)
    if layout == "NCHW":
        state.channels_first()
    elif not state.channels_last and state.may_be_image:
        state.add(ChannelsLast())
    pieces = state.pieces or [(ChannelsFirst(ndim=-1), {})]  # identities only
    place = at or name
    if input_shape is not None:
        return replace(build(pieces, 0, tuple(input_shape), name, place), source=source)
    try:
        model = build(pieces, 0, None, name, place)
    except ShapeError as error:
        found = _fitting(entries)
        if not found:
            raise _unsized(error, entries) from error
        channels, side = found[0]
        shape = (channels, *side) if layout == "NCHW" else (*side, channels)
        model = build(pieces, 0, shape, name, place)
        if len(found) > 1 and side[0] != side[1]:  # images are taken for squares where squares fit
            model = _freed(model, layout)
    return replace(model, source=source)


def _unsized(error: ShapeError, entries: Sequence[Entry]) -> ShapeError:
    """The error for layers that do not fit every image, which may be because its size is not known."""
    if not any(entry.kind in IMAGES for entry in entries):
        return error
    fix = "give the size of one example, from_pytorch(..., input_shape=(3, 32, 32)), if the layers are right"
    return ShapeError(error.what, at=error.at, got=error.got, fix=fix)


def _freed(model: "Model", layout: str) -> "Model":
    """The model with the size of its images left open, since several would fit."""
    from axiom_jax.model import Signature

    ((name, shape, dtype),) = model.signature.inputs
    free = (shape[0], shape[1], "height", "width") if layout == "NCHW" else (shape[0], "height", "width", shape[3])
    outputs = model.signature.outputs
    flat = outputs if outputs and len(outputs[0][1]) == 2 else ()
    return replace(model, signature=Signature(((name, free, dtype),), flat))


def _fitting(entries: Sequence[Entry]) -> list[tuple[int, tuple[int, int]]]:
    """Channels and sizes of images that the first Linear behind a Flatten can take, squares first.

    The two axes are independent of each other, so each size is followed through the layers once.
    """
    before = next((i for i, e in enumerate(entries) if e.kind == "Flatten"), None)
    after = next((e for e in entries[before or 0 :] if e.kind == "Linear"), None)
    convs = [e for e in entries[:before] if e.kind == "Conv2d"]
    if before is None or after is None or not convs:
        return []
    area, rest = divmod(after.tensors["weight"].shape[1], convs[-1].tensors["weight"].shape[0])
    if rest:
        return []
    by_result: list[dict[int, list[int]]] = [{}, {}]
    for axis in (0, 1):
        for size in range(1, LARGEST + 1):
            if (result := _followed(entries[:before], axis, size)) is not None:
                by_result[axis].setdefault(result, []).append(size)
    channels = convs[0].tensors["weight"].shape[1] * convs[0].options["groups"]
    pairs = [(h, w) for a, heights in by_result[0].items() if a and area % a == 0
             for h in heights for w in by_result[1].get(area // a, [])]  # fmt: skip
    return [(channels, pair) for pair in sorted(pairs, key=lambda pair: (abs(pair[0] - pair[1]), pair))]


def _followed(entries: Sequence[Entry], axis: int, size: int) -> int | None:
    """What becomes of the size of an axis; None where a window does not fit."""
    from axiom_jax.interop.torch.layers import windows

    for entry in entries:
        o = entry.options
        try:
            if entry.kind == "Conv2d":
                k, d = entry.tensors["weight"].shape[2 + axis], o["dilation"][axis]
                if o["padding"] != "same":
                    pad = 0 if o["padding"] == "valid" else o["padding"][axis]
                    size = windows(size, k, o["stride"][axis], pad, d, False)[0]
            elif entry.kind in ("MaxPool2d", "AvgPool2d"):
                dilation = o["dilation"][axis] if "dilation" in o else 1
                stride = (o["stride"] or o["kernel_size"])[axis]
                size = windows(size, o["kernel_size"][axis], stride, o["padding"][axis], dilation, o["ceil_mode"])[0]
            elif entry.kind == "AdaptiveAvgPool2d":
                size = o["output_size"][axis]
        except ValueError:
            return None
    return size


@dataclass
class _State:
    """Where the channels of images are while the layers are put together.

    Args:
        channels_last: whether what comes now is channels-last, if it is an image.
        ndim: axes of what comes now; None if it is not known.
    """

    channels_last: bool
    ndim: int | None
    pieces: list[Piece] = field(default_factory=list)

    @property
    def may_be_image(self) -> bool:
        return self.ndim in (None, 4)

    def add(self, layer: Any, params: Any = None) -> None:
        self.pieces.append((layer, params or {}))

    def image(self, channels: int | None = None) -> None:
        """What comes next works on channels-last images."""
        from axiom_jax.interop.torch.channels import ChannelsLast

        if not self.channels_last:
            self.add(ChannelsLast(channels))
        self.channels_last, self.ndim = True, 4

    def channels_first(self) -> None:
        """What comes next sees the axes in PyTorch's order."""
        from axiom_jax.interop.torch.channels import ChannelsFirst

        if self.channels_last and self.may_be_image:
            self.add(ChannelsFirst())
        self.channels_last = False


def _linear(state: _State, entry: Entry) -> None:
    from axiom_jax import nn

    state.channels_first()
    weight = entry.tensors["weight"]
    params = {"kernel": np.ascontiguousarray(weight.T)} | _bias(entry)
    state.add(nn.Dense(weight.shape[1], weight.shape[0], use_bias="bias" in params), params)


def _bias(entry: Entry) -> dict[str, np.ndarray]:
    return {"bias": entry.tensors["bias"]} if "bias" in entry.tensors else {}


def conv_padding(padding: Any, window: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """PyTorch's padding as pairs an axis; "same" puts the odd one behind."""
    if padding == "same":
        reach = [d * (k - 1) for d, k in zip(dilation, window, strict=True)]
        return tuple((r // 2, r - r // 2) for r in reach)
    return tuple((p, p) for p in ((0,) * len(window) if padding == "valid" else padding))


def _conv(state: _State, entry: Entry) -> None:
    from axiom_jax import nn

    o, weight = entry.options, entry.tensors["weight"]
    outputs, inputs, *window = weight.shape
    state.image(inputs * o["groups"])
    params = {"kernel": np.ascontiguousarray(weight.transpose(2, 3, 1, 0))} | _bias(entry)
    layer = nn.Conv(
        inputs * o["groups"], outputs, tuple(window), strides=o["stride"],
        padding=conv_padding(o["padding"], window, o["dilation"]), feature_group_count=o["groups"],
        use_bias="bias" in params, kernel_dilation=o["dilation"],
    )  # fmt: skip
    state.add(layer, params)


def _norm_params(entry: Entry, size: Sequence[int]) -> dict[str, np.ndarray]:
    ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
    return {"scale": entry.tensors.get("weight", ones), "bias": entry.tensors.get("bias", zeros)}


def _batch_norm(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import ChannelsFirst, ChannelsLast

    mean, var = entry.tensors["running_mean"], entry.tensors["running_var"]
    params = _norm_params(entry, mean.shape) | {"mean": mean, "var": var}
    layer = nn.BatchNorm(mean.shape[0], epsilon=entry.options["eps"])
    if entry.kind == "BatchNorm2d":
        state.image(mean.shape[0])
        state.add(layer, params)
    elif state.ndim == 2:
        state.add(layer, params)
    else:  # [batch, channels] or [batch, channels, length]
        state.add(ChannelsLast(ndim=3))
        state.add(layer, params)
        state.add(ChannelsFirst(ndim=3))


def _layer_norm(state: _State, entry: Entry) -> None:
    from axiom_jax import nn

    state.channels_first()
    shape = entry.options["normalized_shape"] or entry.tensors["weight"].shape
    params = {key: x.reshape(-1) for key, x in _norm_params(entry, shape).items()}
    layer = nn.LayerNorm(int(np.prod(shape)), epsilon=entry.options["eps"])
    if len(shape) == 1:
        state.add(layer, params)
    else:
        for part, own in ((nn.Flatten(), None), (layer, params), (nn.Reshape(*shape), None)):
            state.add(part, own)
        state.ndim = len(shape) + 1


def _pool(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import TorchPool

    o = entry.options
    state.image()
    window, stride = o["kernel_size"], o["stride"] or o["kernel_size"]
    pads = tuple((p, p) for p in o["padding"])
    dilation, divisor = o.get("dilation", (1, 1)), o.get("divisor_override")
    if o["ceil_mode"] or dilation != (1, 1) or divisor is not None:
        kind = "max" if entry.kind == "MaxPool2d" else "avg"
        state.add(TorchPool(kind, window, stride, o["padding"], dilation, o["ceil_mode"],
                            o.get("count_include_pad", True), divisor))  # fmt: skip
    elif entry.kind == "MaxPool2d":
        state.add(nn.MaxPool(window, strides=stride, padding=pads))
    else:
        state.add(nn.AvgPool(window, strides=stride, padding=pads, count_include_pad=o["count_include_pad"]))


def _adaptive(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import TorchPool

    state.image()
    size = entry.options["output_size"]
    # ours wants at least one number for each mean; PyTorch repeats them where there are fewer
    state.add(nn.AdaptiveAvgPool(size) if size == (1, 1) else TorchPool("adaptive", size))


def _flatten(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import TorchFlatten

    state.channels_first()
    start, end = entry.options["start_dim"], entry.options["end_dim"]
    if (start, end) == (1, -1):
        state.add(nn.Flatten())
        state.ndim = 2
    else:
        state.add(TorchFlatten(start, end))
        state.ndim = None


def _softmax(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import TorchSoftmax

    state.channels_first()
    dim = entry.options["dim"]
    last = dim == -1 or (state.ndim == 2 and dim in (None, 1))
    state.add(*_function(nn.softmax) if last else (TorchSoftmax(dim), None))


def _leaky_relu(state: _State, entry: Entry) -> None:
    from axiom_jax import nn
    from axiom_jax.interop.torch.channels import TorchLeakyReLU

    slope = entry.options["negative_slope"]
    state.add(*_function(nn.leaky_relu) if slope == 0.01 else (TorchLeakyReLU(slope), None))


def _function(fn: Callable[[Any], Any]) -> Piece:
    from axiom_jax._model_layers import adopt

    return adopt(fn)


def _elementwise(name: str) -> Callable[[_State, Entry], None]:
    def add(state: _State, entry: Entry) -> None:
        from axiom_jax import nn

        state.add(*_function(getattr(nn, name)))

    return add


def _dropout(state: _State, entry: Entry) -> None:
    from axiom_jax import nn

    state.add(nn.Dropout(entry.options["p"]))


LAYERS: Mapping[str, Callable[[_State, Entry], None]] = {
    "Linear": _linear, "Conv2d": _conv, "BatchNorm1d": _batch_norm, "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm, "MaxPool2d": _pool, "AvgPool2d": _pool, "AdaptiveAvgPool2d": _adaptive,
    "ReLU": _elementwise("relu"), "Sigmoid": _elementwise("sigmoid"), "Tanh": _elementwise("tanh"),
    "Softmax": _softmax, "LeakyReLU": _leaky_relu, "Flatten": _flatten, "Identity": lambda state, entry: None,
    "Dropout": _dropout,
}  # fmt: skip
