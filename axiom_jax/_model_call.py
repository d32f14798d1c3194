"""What a model says when it is called with an input of another shape than was proved."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from axiom_jax._errors import ShapeError
from axiom_jax._shapes_annotations import Annotation, matches, value
from axiom_jax._shapes_places import calling
from axiom_jax._shapes_text import dtype_text, is_number, shape_text


def unfit(model: str, name: str, x: Any, annotation: Annotation, sizes: Mapping[str, Any]) -> ShapeError:
    """The error for an input that the annotation does not take.

    Args:
        model, name: of the model and of its input.
        x: the array.
        annotation: what was proved.
        sizes: those that other inputs gave to names.
    """
    place = calling()
    known = {key: size for key, size in sizes.items() if key in annotation.dims and not isinstance(size, tuple)}
    bound = ", ".join(f"{key} = {size}" for key, size in known.items())
    got = f"{name} {shape_text(x)}; expected {annotation.text}" + (
        f" with {bound}" if bound and _clash(x, annotation) else ""
    )
    subject = _argument(place.node if place else None, name)
    return ShapeError(f"{model} cannot take its input.", at=place.at if place else None, got=got,
                      fix=_fix(subject, x, annotation))  # fmt: skip


def _clash(x: Any, annotation: Annotation) -> bool:
    """Whether the shape alone fits, so that it is another input that it does not go with."""
    return matches(annotation, x.shape, {})


def _argument(node: Any, name: str) -> str:
    """The user's expression for the input, where it can be told."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        text = ast.unparse(node.args[0])
        if isinstance(node.args[0], (ast.Name, ast.Attribute)) or (
            isinstance(node.args[0], ast.Call) and len(text) < 20
        ):
            return text
    return name


def _fix(subject: str, x: Any, annotation: Annotation) -> str:
    shape, dims = tuple(x.shape), annotation.dims
    fits = lambda changed: matches(annotation, changed, {})
    if fits(shape) and not annotation.accepts(x.dtype):
        return f"give it {subject}.astype({dtype_text(annotation.dtype).lower()!r})"
    if fits((1, *shape)):
        return f"add the batch axis: {subject}[None]"
    if fits((*shape, 1)):
        return f"add the channel axis: {subject}[..., None]"
    if len(shape) > 2 and fits((shape[0], *shape[2:], shape[1])):
        return f"put the channels last: jnp.moveaxis({subject}, 1, -1)"
    if len(shape) == 2 and fits(shape[::-1]):
        return f"transpose it: {subject}.T"
    try:
        rest = [value(token, {}) for token in dims[1:]]
    except (KeyError, ShapeError):
        rest = []
    if rest and len(shape) > 1 and all(map(is_number, shape[1:])) and math.prod(rest) == math.prod(shape[1:]):
        return f"reshape it: {subject}.reshape({subject}.shape[0], {', '.join(map(str, rest))})"
    return f"give it inputs of shape ({', '.join(dims)})"
