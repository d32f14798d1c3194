"""State dicts into architectures: each layer that has parameters takes the next group of tensors, in order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax.interop.torch.descriptor import TENSORS

if TYPE_CHECKING:
    from axiom_jax._model_chain import Chain
    from axiom_jax.model import Model

Group = tuple[str, dict[str, np.ndarray]]


def groups(state: Mapping[str, np.ndarray]) -> list[Group]:
    """The tensors of a state dict by module, in order: "0.weight" and "0.bias" belong to "0"."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in state.items():
        module, _, own = name.rpartition(".")
        found.setdefault(module, {})[own] = tensor
    return list(found.items())


def ordered(named: list[Group], file: str) -> list[Group]:
    """Groups of a file that keeps no order, by the numbers in their names: "0", "2", or "layers.0", "layers.10".

    Raises:
        ModelError: the names differ in more than numbers, so that they tell no order.
    """
    if len({re.sub(r"\d+", "#", module) for module, _ in named}) > 1:
        raise ModelError(
            "The order of the layers cannot be told: .safetensors files keep none, and their names do not say.",
            at=file,
            got=", ".join(module or "itself" for module, _ in named[:12]),
            fix="give the nn.Module as architecture, a descriptor whose layers have names, or a file of torch.save",
        )
    return sorted(named, key=lambda group: [int(number) for number in re.findall(r"\d+", group[0])])


def fill_descriptor(descriptor: Any, state: Mapping[str, np.ndarray], file: str) -> Any:
    """A descriptor with the tensors of a state dict in its layers: by their names if all have one, else in order.

    Raises:
        ModelError: there are more groups of tensors than layers that take them, or fewer.
    """
    layers = descriptor.get("layers") if isinstance(descriptor, Mapping) else None
    if not isinstance(layers, (list, tuple)):
        return descriptor  # refused with the rest of it
    taking = [i for i, layer in enumerate(layers) if isinstance(layer, Mapping) and layer.get("type") in TENSORS
              and layer.get("elementwise_affine", True) is not False]  # fmt: skip
    named = groups(state)
    _require_as_many(named, [f"{i} ({layers[i]['type']})" for i in taking], file)
    names = [layers[i].get("name") for i in taking]
    if all(isinstance(name, str) for name in names) and sorted(names) == sorted(dict(named)):
        named = [(name, dict(named)[name]) for name in names]
    elif file.endswith(".safetensors"):
        named = ordered(named, file)
    filled = list(layers)
    for i, (_, tensors) in zip(taking, named, strict=True):
        filled[i] = {k: v for k, v in layers[i].items() if k not in TENSORS[layers[i]["type"]]} | tensors
    return {**descriptor, "layers": filled}


def fill_model(model: "Model", state: Mapping[str, np.ndarray], file: str,
               source: tuple[tuple[str, str], ...]) -> "Model":  # fmt: skip
    """A Sequential of ours with the tensors of a PyTorch state dict.

    A Dense behind a Flatten of images gets its rows in our order, so that the model takes channels-last images.

    Raises:
        ModelError: a layer has no counterpart in PyTorch, or its tensors do not fit; all are listed.
    """
    import jax

    from axiom_jax._model_layers import label, text

    names = cast("Chain", model.apply).names
    taking = [i for i, name in enumerate(names) if jax.tree.leaves(model.params.get(name, {}))]
    named = groups(state)
    _require_as_many(named, [f"{i} ({label(model.layers[i])})" for i in taking], file)
    named = ordered(named, file) if file.endswith(".safetensors") else named
    problems: list[str] = []
    params = dict(model.params)
    images = _flattened_images(model)
    for i, (module, tensors) in zip(taking, named, strict=True):
        own = {key: np.shape(x) for key, x in model.params[names[i]].items() if hasattr(x, "shape")}
        converted = convert(label(model.layers[i]), tensors, images.get(i))
        at = f"{module or 'the module'} to {names[i]}"
        if converted is None:
            problems.append(f"{at}: {text(model.layers[i])} has no counterpart that could be read")
        elif {key: x.shape for key, x in converted.items()} != own:
            got = ", ".join(f"{key} {list(x.shape)}" for key, x in tensors.items())
            expected = ", ".join(f"{key} {list(shape)}" for key, shape in own.items())
            problems.append(f"{at}: {got}; the layer has {expected}")
        else:
            params[names[i]] = converted
    if problems:
        raise ModelError(
            "The state dict does not fit the architecture.",
            at=file,
            got="\n".join(problems[:20]),
            fix="make the layers as those of the module, or give the nn.Module as architecture",
        )
    return replace(model, params=params, source=source)


def convert(kind: str, tensors: Mapping[str, np.ndarray], image: Sequence[int] | None = None) -> dict[str, Any] | None:
    """PyTorch's tensors of a module as the parameters of our layer; None if we know no way.

    Args:
        kind: the layer's class.
        image: [height, width, channels] of the image that a Flatten before it took.
    """
    weight, rest = tensors.get("weight"), {k: v for k, v in tensors.items() if k == "bias"}
    unknown = tensors.keys() - {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    if unknown or (weight is None and kind not in ("BatchNorm",)):
        return None
    match kind:
        case "Dense" if weight is not None and weight.ndim == 2:
            if image is not None and weight.shape[1] == np.prod(image):
                h, w, c = image
                weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
            return {"kernel": np.ascontiguousarray(weight.T)} | rest
        case "Conv" if weight is not None and weight.ndim > 2:
            return {"kernel": np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2)))} | rest
        case "BatchNorm" if "running_mean" in tensors and "running_var" in tensors:
            mean = tensors["running_mean"]
            scale = np.ones_like(mean) if weight is None else weight
            bias = rest.get("bias", np.zeros_like(mean))
            return {"scale": scale, "bias": bias, "mean": mean, "var": tensors["running_var"]}
        case "LayerNorm" | "GroupNorm" | "InstanceNorm":
            return {"scale": weight} | rest
        case "RMSNorm":
            return {"scale": weight}
        case "Embedding":
            return {"embedding": weight}
    return None


def _require_as_many(named: Sequence[Group], taking: Sequence[str], file: str) -> None:
    if len(named) != len(taking):
        raise ModelError(
            "The state dict does not fit the architecture.",
            at=file,
            got=f"tensors of {len(named)} modules ({', '.join(module or 'itself' for module, _ in named[:12])}) for "
            f"{len(taking)} layers that take some ({', '.join(taking[:12])})",
            fix="give the architecture of the module that the state dict was saved from",
        )


def _flattened_images(model: "Model") -> dict[int, tuple[int, ...]]:
    """By the number of a Dense, the image that the Flatten before it takes, if nothing but elementwise lies between."""
    from axiom_jax._model_layers import Function, label

    found, image = {}, None
    if not model.signature.inputs:
        return {}
    rows = model.summary().rows
    for i, (layer, row) in enumerate(zip(model.layers, rows, strict=False)):
        if label(layer) == "Flatten" and len(row.input.shape) == 4:
            image = tuple(row.input.shape[1:])
            if not all(isinstance(n, int) for n in image):
                image = None
        elif label(layer) == "Dense":
            if image is not None:
                found[i] = image
            image = None
        elif not isinstance(layer, Function) and label(layer) != "Dropout":
            image = None
    return found
