"""Modules that `ax.to_pytorch` makes beside PyTorch's own: axes in another order, and programs of JAX."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import ShapeError
from axiom_jax._program import build
from axiom_jax._trace import guard_policy

torch: Any
Module: Any
try:
    import torch
    from torch.nn import Module
except ImportError:  # then nothing here is called
    torch, Module = None, object


class Permute(Module):
    """The axes of a tensor in another order."""

    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return x.permute(self.axes)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.axes))


class GlobalAveragePool(Module):
    """The mean over all axes behind the first two: [batch, channels, ...] to [batch, channels]."""

    def forward(self, x: Any) -> Any:
        return x.flatten(2).mean(2)


def two_axes(module: Any, inputs: Any) -> None:
    """A hook that refuses what a batch norm of ours takes and PyTorch's takes in another way: channels-last batches."""
    if inputs[0].dim() != 2:
        raise ShapeError(
            "This batch norm was written for inputs of two axes.",
            got=f"{list(inputs[0].shape)}; expected [batch, {module.num_features}]",
            fix="give the Sequential its input_shape before ax.to_pytorch",
        )


class Interpreted(Module):
    """A function of parameters and inputs, traced by JAX for each shape of the inputs, run by PyTorch.

    Args:
        apply: `apply(params, *inputs)`, pure.
        params: a pytree of arrays; they become parameters of the module, named by their paths.
        trainable: a pytree of bools; what is false becomes a buffer.
    """

    def __init__(self, apply: Callable[..., Any], params: Any, trainable: Any):
        super().__init__()
        self.apply_function = apply
        leaves = jax.tree.leaves_with_path(params)
        self.specs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), params)
        self.paths = [keep(self, _name(path, i), leaf, bool(free)) for i, ((path, leaf), free)
                      in enumerate(zip(leaves, jax.tree.leaves(trainable), strict=True))]  # fmt: skip
        self.programs: dict[Any, Any] = {}

    def forward(self, *inputs: Any) -> Any:
        from axiom_jax.interop.torch.primitives import run

        tensors = [torch.as_tensor(x) for x in inputs]
        key = tuple((tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in tensors)
        if key not in self.programs:
            specs = [jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in key]
            structure = jax.tree.structure(jax.eval_shape(self.apply_function, self.specs, *specs))
            guards = "off" if guard_policy.value == "off" else "mask"
            program, values = build(self.apply_function, self.specs, *specs, guards=guards)
            captured = [torch.from_numpy(np.array(x)) for x in values[len(self.paths) :]]
            self.programs[key] = program, captured, structure
        program, captured, structure = self.programs[key]
        params = [self.get_parameter(path) if free else self.get_buffer(path) for path, free in self.paths]
        tensors = [x.int() if x.dtype == torch.int64 else x for x in tensors]
        device = params[0].device if params else None
        return jax.tree.unflatten(structure, run(program, [*params, *(c.to(device) for c in captured)], *tensors))


def _name(path: Any, number: int) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".") or f"parameter{number}"


def keep(module: Any, name: str, value: Any, free: bool) -> tuple[str, bool]:
    """Register a tensor under a dotted name; gives the name and whether it is a parameter."""
    *parents, own = [part or "_" for part in name.split(".")]
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, Module())
        module = getattr(module, parent)
    if not isinstance(module, Module) or hasattr(module, own):
        raise ShapeError(f"Two parameters would be called {name} in PyTorch.", fix="rename one of them")
    tensor = torch.from_numpy(np.array(value))
    if free and tensor.is_floating_point():
        module.register_parameter(own, torch.nn.Parameter(tensor))
        return ".".join([*parents, own]), True
    module.register_buffer(own, tensor)
    return ".".join([*parents, own]), False


def load(module: Any, tensors: Mapping[str, Any]) -> Any:
    """A module of PyTorch with these numbers as its parameters and buffers."""
    with torch.no_grad():
        for name, value in tensors.items():
            getattr(module, name).copy_(torch.from_numpy(np.array(value)))
    return module
