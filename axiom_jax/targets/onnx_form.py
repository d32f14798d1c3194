"""A model as ONNX bytes for the backends that read ONNX; the form of its outputs is kept in the file's metadata."""

import hashlib
import json
import weakref
from typing import Any

import numpy as np

from axiom_jax._errors import AxiomError, UnsupportedPrimitive
from axiom_jax.targets.target import Capabilities, Inputs

OUTPUTS = "axiom.outputs"
DTYPES = ("float32", "float16", "int8", "int16", "int32", "int64", "uint8", "bool")

# the latest model: several backends ask for the same form, one after the other
_latest: "tuple[weakref.ref[Any], tuple[Any, list[Any]], bytes | UnsupportedPrimitive] | None" = None


def onnx_bytes(model: Any, inputs: Inputs) -> bytes:
    """The model as a serialised ONNX file with a symbolic batch.

    Raises:
        UnsupportedPrimitive: listing the operations that have no ONNX form.
    """
    global _latest
    state = inputs, _state(model)
    if _latest is None or _latest[0]() is not model or not _unchanged(state, _latest[1]):
        try:
            form: bytes | UnsupportedPrimitive = _written(model, inputs)
        except UnsupportedPrimitive as error:
            form = error
        _latest = weakref.ref(model), state, form
    if isinstance(_latest[2], UnsupportedPrimitive):
        raise _latest[2]
    return _latest[2]


def _state(model: Any) -> list[Any]:
    """What the weights are now: JAX's arrays themselves, which cannot change, and a digest of what can."""
    import jax

    leaves, tree = jax.tree.flatten(model.params)
    return [tree, *(leaf if isinstance(leaf, jax.Array) else _digest(leaf) for leaf in leaves)]


def _digest(leaf: Any) -> tuple[Any, ...]:
    array = np.asarray(leaf)
    return array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest()


def _unchanged(ours: tuple[Any, list[Any]], theirs: tuple[Any, list[Any]]) -> bool:
    import jax

    (inputs, leaves), (before, known) = ours, theirs
    return inputs == before and len(leaves) == len(known) and all(
        a is b or (not isinstance(a, jax.Array) and not isinstance(b, jax.Array) and a == b)
        for a, b in zip(leaves, known, strict=True)
    )  # fmt: skip


def _written(model: Any, inputs: Inputs) -> bytes:
    import jax

    from axiom_jax.interop.onnx.writer import to_onnx_model
    from axiom_jax.targets.xla import specs

    proto = to_onnx_model(model)
    outputs = jax.eval_shape(model.apply, model.params, *specs(inputs, model.signature.constraints))
    tree = jax.tree.structure(outputs)
    entry = proto.metadata_props.add()
    entry.key, entry.value = OUTPUTS, json.dumps(told(jax.tree.unflatten(tree, range(tree.num_leaves))))
    return proto.SerializeToString()


def capabilities(model: Any, inputs: Inputs, precision: str = "float32") -> Capabilities:
    """What of a model has no ONNX form."""
    if not inputs:
        return Capabilities(("the shape of the input is not known: give example=",), DTYPES)
    try:
        onnx_bytes(model, inputs)
    except UnsupportedPrimitive as error:
        return Capabilities(tuple((error.at or error.what).splitlines()), DTYPES, precision=precision)
    return Capabilities((), DTYPES, precision=precision)


def form_of(payload: bytes) -> Any:
    """The form of the outputs: nested dicts, lists and tuples with the outputs' numbers."""
    import onnx

    props = onnx.load_from_string(payload).metadata_props
    return read(json.loads(next(prop.value for prop in props if prop.key == OUTPUTS)))


def told(form: Any) -> Any:
    """The form of outputs, dicts, lists and tuples of numbers, as JSON can hold it."""
    match form:
        case int():
            return form
        case dict() if all(isinstance(key, str) for key in form):
            return {"dict": {key: told(value) for key, value in form.items()}}
        case tuple() if type(form) is tuple:
            return {"tuple": [told(value) for value in form]}
        case list():
            return {"list": [told(value) for value in form]}
        case None:
            return {"none": 0}
    raise AxiomError("This model's output has a form that files cannot hold.", got=f"a {type(form).__name__}",
                     fix="give a dict, list or tuple of arrays")  # fmt: skip


def read(text: Any) -> Any:
    """The way back from `told`."""
    if isinstance(text, int):
        return text
    ((kind, parts),) = text.items()
    if kind == "dict":
        return {key: read(value) for key, value in parts.items()}
    return None if kind == "none" else (tuple if kind == "tuple" else list)(map(read, parts))


def filled(form: Any, leaves: list[Any]) -> Any:
    """The outputs in their form.

    >>> filled({"a": 1, "b": (0,)}, ["first", "second"])
    {'a': 'second', 'b': ('first',)}
    """
    match form:
        case int():
            return leaves[form]
        case dict():
            return {key: filled(value, leaves) for key, value in form.items()}
        case None:
            return None
    return type(form)(filled(value, leaves) for value in form)
