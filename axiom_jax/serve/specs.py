"""What a model takes and gives, as requests need to know it: from its signature, and by tracing what that lacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax._shapes_annotations import value
from axiom_jax.model import Model
from axiom_jax.serve.rowwise import rowwise
from axiom_jax.serve.tensors import Spec, spec_of

TRIED = (5, 8, 16, 32, 64, 128, 224, 256, 4, 3, 2, 1)  # sizes for names, to see what comes out


def inputs_of(lines: Sequence[tuple[str, tuple[int | str, ...], str]], name: str) -> tuple[Spec, ...]:
    """The inputs that a signature states.

    Raises:
        ModelError: it states none, or what cannot travel or would be rounded.

    >>> inputs_of([("x", ("batch", 4), "float32")], "net")[0].text
    'Float32[batch, 4]'
    """
    if not lines:
        fix = "give them: Sequential(..., input_shape=(28, 28, 1)), or annotate it with @ax.axiom"
        raise ModelError(f"{name} cannot be served: the shapes of its inputs are not known.", at=name, fix=fix)
    specs = tuple(spec_of(*line, name) for line in lines)
    for spec in specs:
        if spec.dtype.kind == "f" and jax.dtypes.canonicalize_dtype(spec.dtype) != spec.dtype:
            raise ModelError(f"{name} takes {spec.dtype}, which JAX would round here.", at=f"{spec.name} of {name}",
                             fix='switch it on: jax.config.update("jax_enable_x64", True)')  # fmt: skip
    return specs


def outputs_of(model: Model | None, compiled: Any, name: str, inputs: Sequence[Spec]) -> tuple[Spec, ...]:
    """The outputs: names and shapes from the signature where it has them, dtypes and the rest by trying sizes.

    Args:
        model: is traced; where it is None, the compiled form is run on zeros.
        compiled: a callable of the inputs.
        name: for messages.
        inputs: what goes in.

    Raises:
        ModelError: it cannot be traced for its own inputs.
    """
    traces = traced(model, compiled, inputs)
    found = next(traces, None)
    if found is None:
        raise ModelError(f"{name} cannot be served: it does not run on its own inputs.", at=name,
                         got=", ".join(f"{spec.name} {spec.text}" for spec in inputs),
                         fix="call it with an example to see why")  # fmt: skip
    leaves, stated = found[1], () if model is None else model.signature.outputs
    if len(stated) == len(leaves) and all(len(s[1]) == len(y.shape) for s, y in zip(stated, leaves, strict=True)):
        return tuple(spec_of(line[0], line[1], y.dtype, name) for line, y in zip(stated, leaves, strict=True))
    other = next(traces, found)[1]
    first = next((n for n in inputs[0].shape[:1] if isinstance(n, str)), "batch")
    named = lambda axis: first if axis == 0 else f"size{axis}"
    shapes = [
        tuple(a if a == b else named(axis) for axis, (a, b) in enumerate(zip(y.shape, z.shape, strict=True)))
        for y, z in zip(leaves, other, strict=True)
    ]
    names = ["output"] if len(leaves) == 1 else [f"output{i}" for i in range(len(leaves))]
    return tuple(spec_of(*line, name) for line in zip(names, shapes, [y.dtype for y in leaves], strict=True))


def traced(model: Model | None, compiled: Any, inputs: Sequence[Spec]) -> Iterator[tuple[int, list[Any]]]:
    """What comes out where every named size is one number, for the numbers that the model takes."""
    named = any(isinstance(size, str) for spec in inputs for size in spec.shape)
    for size in TRIED if named else TRIED[:1]:
        try:
            specs = at_size(inputs, size, {})
            if model is not None:
                yield size, jax.tree.leaves(jax.eval_shape(model.apply, model.params, *specs))
            else:
                outputs = compiled(*(np.zeros(spec.shape, spec.dtype) for spec in specs))
                yield size, list(map(np.asarray, jax.tree.leaves(outputs)))
        except Exception:  # the model does not take this size; another may do
            continue


def at_size(inputs: Sequence[Spec], size: int, given: Mapping[str, int]) -> list[jax.ShapeDtypeStruct]:
    """The inputs where names have the sizes given, and all others one size."""

    class Every(dict[str, int]):
        def __missing__(self, name: str) -> int:
            return size

    sizes = Every(given)
    shapes = [[n if isinstance(n, int) else value(n, sizes) for n in spec.shape] for spec in inputs]
    return [jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(spec.dtype))
            for shape, spec in zip(shapes, inputs, strict=True)]  # fmt: skip


def batch_of(model: Model, inputs: Sequence[Spec], outputs: Sequence[Spec]) -> str | None:
    """The name of the first axis, where rows along it are computed one by one and may be padded; else None."""
    name = inputs[0].shape[0] if inputs[0].shape else None
    specs = (*inputs, *outputs)
    if not isinstance(name, str) or not name.isidentifier():
        return None
    if any(not s.shape or s.shape[0] != name or any(name in str(n) for n in s.shape[1:]) for s in specs):
        return None
    others = next((size for size, _ in traced(model, None, inputs)), 1)
    try:
        apart = rowwise(model.apply, model.params, lambda rows: at_size(inputs, others, {name: rows}))
    except Exception:  # it cannot be traced at these sizes, so nothing is known
        return None
    return name if apart else None


def described(model: Model) -> list[str]:
    """A model's name, inputs and outputs, a line each.

    >>> import axiom_jax as ax
    >>> described(ax.Sequential(ax.nn.Dense(4, 2), name="net"))
    ['Model net', '  input x: FP32 [-1, 4]', '  output y: FP32 [-1, 2]']
    """
    inputs = inputs_of(model.signature.inputs, model.name)
    sides = (("input", inputs), ("output", outputs_of(model, None, model.name, inputs)))
    lines = [f"  {word} {spec.name}: {spec.datatype} {spec.sizes}" for word, specs in sides for spec in specs]
    return [f"Model {model.name}", *lines]
