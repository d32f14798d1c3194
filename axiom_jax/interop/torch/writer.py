"""Models as PyTorch modules: a Sequential of our layers as an `nn.Sequential`, any other program interpreted."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np

from axiom_jax._errors import AxiomError, ModelError
from axiom_jax._shapes_places import caller
from axiom_jax.interop.torch.files import require_torch

if TYPE_CHECKING:
    from axiom_jax._model_chain import Chain
    from axiom_jax.model import Model

Shape = tuple[Any, ...]
FUNCTIONS: dict[str, Callable[[Any], Any]] = {  # by the name of a function of jax.nn or jax.numpy
    "relu": lambda nn: nn.ReLU(), "relu6": lambda nn: nn.ReLU6(), "sigmoid": lambda nn: nn.Sigmoid(),
    "tanh": lambda nn: nn.Tanh(), "silu": lambda nn: nn.SiLU(), "swish": lambda nn: nn.SiLU(),
    "gelu": lambda nn: nn.GELU("tanh"), "elu": lambda nn: nn.ELU(), "selu": lambda nn: nn.SELU(),
    "celu": lambda nn: nn.CELU(), "softplus": lambda nn: nn.Softplus(threshold=1e9), "mish": lambda nn: nn.Mish(),
    "leaky_relu": lambda nn: nn.LeakyReLU(0.01), "log_sigmoid": lambda nn: nn.LogSigmoid(),
    "hard_swish": lambda nn: nn.Hardswish(), "hard_sigmoid": lambda nn: nn.Hardsigmoid(),
    "hard_tanh": lambda nn: nn.Hardtanh(), "soft_sign": lambda nn: nn.Softsign(), "identity": lambda nn: nn.Identity(),
}  # fmt: skip
LAST = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}  # along the last axis


def to_pytorch(model: "Model", *, layout: str = "NHWC") -> Any:
    """A PyTorch module that computes what a model computes, with its parameters; gradients flow.

    Args:
        model: a Sequential becomes an `nn.Sequential` of PyTorch's own layers where it has them; any other model
            a module that runs its program, traced by JAX once for each shape of the inputs.
        layout: "NHWC" for images as the model takes them; "NCHW" for channels-first images in and out, as
            PyTorch's convolutions take them (Sequentials only).

    Returns:
        A `torch.nn.Module` in eval mode; `state_dict()` names are those of `nn.Sequential`, or paths of parameters.

    Raises:
        BackendUnavailable: PyTorch is not installed.
        UnsupportedPrimitive: when it runs, naming every operation without a rule.

    >>> from importlib.util import find_spec
    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> if find_spec("torch"):  # an extra
    ...     assert str(to_pytorch(Sequential(nn.Dense(4, 3), nn.relu))[0]).startswith("Linear(in_features=4")
    """
    require_torch("ax.to_pytorch", caller())
    if layout not in ("NCHW", "NHWC"):
        raise ModelError("The layout is unknown.", at=caller(), got=repr(layout), fix='layout="NCHW" or layout="NHWC"')
    if not (hasattr(model, "apply") and hasattr(model, "params") and hasattr(model, "signature")):
        raise AxiomError("to_pytorch takes a model.", at=caller(), got=f"a value of type {type(model).__name__}",
                         fix="make it one: ax.Sequential(layer, ...)")  # fmt: skip
    shapes = _shapes(model)
    if shapes is None:
        if layout == "NCHW":
            raise ModelError('layout="NCHW" is for Sequentials whose shapes are known.', at=caller(), got=repr(model),
                             fix="leave it out, or give the Sequential an input_shape")  # fmt: skip
        return _interpreted(model.apply, model.params).eval()
    writer, chain = _Writer(layout == "NCHW" and len(shapes[0]) == 4), cast("Chain", model.apply)
    for name, layer, shape in zip(chain.names, model.layers, shapes, strict=True):
        writer.layer(layer, jax.tree.map(np.asarray, model.params.get(name, {})), shape)
    if layout == "NHWC":
        writer.back()
    elif not writer.moved and _rank_of_output(model) == 4:
        writer.forth()
    import torch

    return torch.nn.Sequential(*writer.modules).eval()


def _shapes(model: "Model") -> list[Shape] | None:
    """The shape of each layer's input; None where that is not known."""
    from axiom_jax._model_table import shape_table

    if not model.layers or len(model.signature.inputs) != 1:
        return None
    rows = shape_table(model).rows
    if len(rows) != len(model.layers) or not all(hasattr(row.input, "shape") for row in rows):
        return None
    return [tuple(row.input.shape) for row in rows]


def _rank_of_output(model: "Model") -> int:
    return len(model.signature.outputs[0][1]) if model.signature.outputs else 0


def _interpreted(apply: Callable[..., Any], params: Any) -> Any:
    from axiom_jax._model_train import trainable_leaves
    from axiom_jax.interop.torch.modules import Interpreted

    return Interpreted(apply, params, trainable_leaves(apply, params))


class _Writer:
    """Collects modules; `moved` says that what comes is channels-first where the model has it channels-last."""

    def __init__(self, moved: bool):
        self.moved = moved
        self.modules: list[Any] = []

    def forth(self) -> None:
        from axiom_jax.interop.torch.modules import Permute

        if not self.moved:
            self.modules.append(Permute(0, 3, 1, 2))
        self.moved = True

    def back(self) -> None:
        from axiom_jax.interop.torch.modules import Permute

        if self.moved:
            self.modules.append(Permute(0, 2, 3, 1))
        self.moved = False

    def pad(self, pairs: Sequence[tuple[int, int]], value: float) -> None:
        """Append a padding of height and width."""
        from torch import nn

        (top, bottom), (left, right) = pairs
        self.modules.append(nn.ConstantPad2d((left, right, top, bottom), value))

    def layer(self, layer: Any, params: Any, shape: Shape) -> None:
        """Append the modules of a layer whose input has this shape."""
        from torch import nn

        from axiom_jax._model_layers import Function, label

        kind, rank = label(layer), len(shape)
        if isinstance(layer, Function) and kind in FUNCTIONS and getattr(jax.nn, kind, jax.numpy.tanh) is layer.fn:
            self.modules.append(FUNCTIONS[kind](nn))
        elif isinstance(layer, Function) and kind in LAST and getattr(jax.nn, kind) is layer.fn:
            self.modules.append(getattr(nn, LAST[kind])(1 if self.moved else -1))
        elif kind == "ChannelsLast" and rank == 4 and not self.moved:
            self.moved = True  # PyTorch's order is the channels-first one, which was given
        elif kind == "ChannelsFirst" and rank == 4 and self.moved:
            self.moved = False
        elif _ours(layer) and (written := RULES.get(kind, _none)(self, layer, params, shape)) is not None:
            self.modules.append(written)
        else:
            self.back()
            self.modules.append(_interpreted(layer.apply, params))


def _ours(layer: Any) -> bool:
    return type(layer).__module__.startswith("axiom_jax.nn.")


def _none(writer: _Writer, layer: Any, params: Any, shape: Shape) -> None:
    return None


def _pairs(padding: Any, sizes: Sequence[Any], window: Sequence[int], strides: Sequence[int],
           dilation: Sequence[int]) -> list[tuple[int, int]] | None:  # fmt: skip
    """Padding as pairs an axis; None if it depends on a size that is not known, or wraps around."""
    n = len(window)
    if padding == "VALID":
        return [(0, 0)] * n
    if padding == "SAME":
        if not all(isinstance(size, int) for size in sizes) and set(strides) != {1}:
            return None
        pairs = []
        for size, k, stride, d in zip(sizes, window, strides, dilation, strict=True):
            reach = d * (k - 1) + 1
            lost = reach - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + reach - size, 0)
            pairs.append((lost // 2, lost - lost // 2))
        return pairs
    if isinstance(padding, int):
        return [(padding, padding)] * n
    if isinstance(padding, Sequence) and not isinstance(padding, str) and len(padding) == n:
        return [(p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in padding]
    return None


def _each(value: Any, n: int) -> Any:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _dense(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    from axiom_jax.interop.torch.modules import load

    writer.back()
    inputs, outputs = params["kernel"].shape
    tensors = {"weight": params["kernel"].T} | ({"bias": params["bias"]} if "bias" in params else {})
    return load(nn.Linear(inputs, outputs, bias="bias" in params), tensors)


def _conv(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    from axiom_jax.interop.torch.modules import load

    n = len(layer.window)
    strides, dilation = _each(layer.strides, n), _each(layer.kernel_dilation, n)
    pairs = None
    if n == 2 and len(shape) == 4:
        pairs = _pairs(layer.padding, shape[1:3], layer.window, strides, dilation)
    if pairs is None:
        return None
    writer.forth()
    even = all(a == b for a, b in pairs)
    padding: Any = tuple(a for a, _ in pairs) if even else 0
    if not even:
        writer.pad(pairs, 0.0)
    module = nn.Conv2d(layer.in_features, layer.out_features, layer.window, strides,
                       padding, dilation, layer.feature_group_count, "bias" in params)  # fmt: skip
    tensors = {"weight": np.moveaxis(params["kernel"], (-1, -2), (0, 1))}
    return load(module, tensors | ({"bias": params["bias"]} if "bias" in params else {}))


def _batch_norm(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    from axiom_jax.interop.torch.modules import load, two_axes

    if len(shape) not in (2, 4):
        return None
    if len(shape) == 4:
        writer.forth()
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    module = kind(layer.num_features, eps=layer.epsilon, momentum=1 - layer.momentum)
    if len(shape) == 2:
        module.register_forward_pre_hook(two_axes)
    return load(module, {name: params[own] for name, own in names.items()})


def _layer_norm(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    from axiom_jax.interop.torch.modules import load

    writer.back()
    module = nn.LayerNorm(layer.num_features, eps=layer.epsilon)
    return load(module, {"weight": params["scale"], "bias": params["bias"]})


def _embedding(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    from axiom_jax.interop.torch.modules import load

    table = params["embedding"]
    return load(nn.Embedding(*table.shape), {"weight": table})


def _pool(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    window = _each(layer.window_shape, 2)
    strides = _each(layer.strides or window, 2)
    if len(shape) != 4 or len(window) != 2:
        return None
    pairs = _pairs(layer.padding, shape[1:3], window, strides, (1, 1))
    largest = type(layer).__name__ == "MaxPool"
    if pairs is None:
        return None
    even = all(a == b and 2 * a <= k for (a, b), k in zip(pairs, window, strict=True))
    if not even and not largest and not layer.count_include_pad:
        return None
    writer.forth()
    if not even:
        writer.pad(pairs, -math.inf if largest else 0.0)
    padding: Any = tuple(a for a, _ in pairs) if even else 0
    if largest:
        return nn.MaxPool2d(window, strides, padding)
    return nn.AvgPool2d(window, strides, padding, count_include_pad=layer.count_include_pad)


def _adaptive(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    size = _each(layer.output_size, 2)
    if len(shape) != 4 or len(size) != 2:
        return None
    writer.forth()
    return (nn.AdaptiveAvgPool2d if "Avg" in type(layer).__name__ else nn.AdaptiveMaxPool2d)(size)


def _global(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from axiom_jax.interop.torch.modules import GlobalAveragePool

    if len(shape) != 4:
        return None
    writer.forth()
    writer.moved = False
    return GlobalAveragePool()


def _flatten(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    writer.back()
    return nn.Flatten()


def _reshape(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    writer.back()
    if len(shape) == 2 and -1 not in layer.shape:
        return nn.Unflatten(1, layer.shape)
    return None


def _dropout(writer: _Writer, layer: Any, params: Any, shape: Shape) -> Any:
    from torch import nn

    return nn.Dropout(layer.rate)


RULES: dict[str, Callable[[_Writer, Any, Any, Shape], Any]] = {
    "Dense": _dense, "Conv": _conv, "BatchNorm": _batch_norm, "LayerNorm": _layer_norm, "Embedding": _embedding,
    "MaxPool": _pool, "AvgPool": _pool, "AdaptiveAvgPool": _adaptive, "AdaptiveMaxPool": _adaptive,
    "GlobalAvgPool": _global, "Flatten": _flatten, "Reshape": _reshape, "Dropout": _dropout,
}  # fmt: skip
