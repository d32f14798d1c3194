"""Layers one after the other: how they run, and how they are checked for every batch size before they do."""

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_guards import collecting
from axiom_jax._model_layers import Function, Layer, Nnx, Takes, Tree, label, text
from axiom_jax._model_train import trainable_leaves
from axiom_jax._shapes_annotations import Annotation, names, symbols, value
from axiom_jax._shapes_explain import ABOUT_SHAPES, explain
from axiom_jax._shapes_failure import sentence
from axiom_jax._shapes_mismatch import Mismatch
from axiom_jax._shapes_operations import foreign
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import is_number, shape_text, size_at
from axiom_jax.shapes import clean, confirm, infer, refusal, together

BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LARGEST = 1024
ANY_AXES = ((), ("length",), ("height", "width"))  # what "..." in a layer's `takes` may stand for, likeliest first
FLAT = ("Flatten", "GlobalAvgPool")  # after these there are two axes
Sizes = tuple[int | str, ...]


@dataclass(frozen=True)
class Row:
    """One layer of a model with its shapes: what `shape_table` shows.

    Args:
        flops, bytes: of one example, where they were asked for.
        run: the layer as a function of its parameters and its input, and these parameters.
    """

    name: str
    layer: str
    input: Any
    output: Any
    parameters: int
    flops: Any = None
    bytes: Any = None
    run: tuple[Callable[..., Any], Any] | None = field(default=None, compare=False, repr=False)


_checking: contextvars.ContextVar[bool] = contextvars.ContextVar("checking", default=False)
_recorded: contextvars.ContextVar[list[Row] | None] = contextvars.ContextVar("rows", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Row]]:
    """Collects a row for every layer that runs inside, but not for layers inside layers."""
    rows: list[Row] = []
    token = _recorded.set(rows)
    try:
        yield rows
    finally:
        _recorded.reset(token)


@dataclass(frozen=True)
class Chain:
    """The `apply` function of a Sequential: `chain(params, x)`, params a dict by the names of the layers.

    Several inputs go to the first layer as a tuple.
    """

    layers: tuple[Layer, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Number and kind of each layer: "0_Dense"; numbers of one width, so that names sort as the layers do.

        Layers that share their parameters have the name of the first of them.
        """
        width, names = len(str(len(self.layers) - 1)), []
        first: dict[str, int] = {}
        for i, layer in enumerate(self.layers):
            shared = getattr(layer, "shared", None)
            i = i if shared is None else first.setdefault(shared, i)
            if self.layers[i] != layer:
                raise AxiomError(
                    f"Two layers share the name {shared!r} and are not equal.", at=getattr(layer, "at", None),
                    got=f"{text(self.layers[i])} and {text(layer)}", fix="give one another name",
                )  # fmt: skip
            names.append(f"{i:0{width}}_{label(layer)}")
        return tuple(names)

    def init(self, key: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Parameters by layer, each drawn with its own key; those that are given are kept."""
        params = dict(given or {})
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            if name not in params:
                params[name] = layer.init(jax.random.fold_in(key, i))
        return {name: params[name] for name in self.names if jax.tree.leaves(params[name])}

    def __call__(self, params: Any, *inputs: Any) -> Any:
        return collecting(lambda: self._infer(params, inputs[0] if len(inputs) == 1 else inputs))

    def _infer(self, params: Any, x: Any) -> Any:
        rows = _recorded.get()
        token = _recorded.set(None)
        try:
            for name, layer in zip(self.names, self.layers, strict=True):
                own = params.get(name, {})
                y = run(layer, own, x)
                if rows is not None:
                    rows.append(row(name, layer, own, x, y))
                x = y
            return x
        finally:
            _recorded.reset(token)

    def apply_train(self, params: Any, *inputs: Any, key: Any) -> tuple[Any, Any]:
        """Training mode: the output, and the parameters with moved running statistics."""
        x = inputs[0] if len(inputs) == 1 else inputs
        return collecting(lambda: self._train(params, x, key), has_aux=True)

    def _train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        moved = dict(params)
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            x, own = run_train(layer, moved.get(name, {}), x, jax.random.fold_in(key, i))
            if name in params:
                moved[name] = own
        return x, moved

    def trainable(self, params: Any) -> Any:
        layers = dict(zip(self.names, self.layers, strict=True))
        return {name: trainable_leaves(layers[name], own) for name, own in params.items()}


def row(name: str, layer: Layer, params: Any, x: Any, y: Any) -> Row:
    return Row(name, text(layer), spec(x), spec(y), count(params), run=(layer.apply, spec(params)))


def spec(x: Any) -> Any:
    typed = lambda leaf: leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), jax.tree.map(typed, x))


def count(params: Any) -> int:
    """The number of parameters in a pytree."""
    return sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(params))


def run(layer: Layer, params: Any, x: Any, at: str | None = None) -> Any:
    """A layer's output, or a `ShapeError` about its input."""
    return _run(lambda: layer.apply(params, x), layer, params, x, at)


def run_train(layer: Layer, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """A layer's output in training mode and its parameters, or a `ShapeError` about its input."""
    trained = getattr(layer, "apply_train", lambda params, x, key: (layer.apply(params, x), params))
    return _run(lambda: trained(params, x, key), layer, params, x, None)


def _run(call: Callable[[], Any], layer: Layer, params: Any, x: Any, at: str | None) -> Any:
    # at construction the layer's line is to blame, at a call the caller's
    at = at or (_checking.get() and getattr(layer, "at", None)) or None
    if (wrong := mismatch(layer, x)) is not None:
        raise refusal(text(layer), x, wrong, at or caller())
    try:
        return call()
    except AxiomError:
        raise
    except Exception as error:
        found = _explained(layer, params, x, error, at or caller())
        if found is None:
            raise
        raise found from None


def declared_input(layer: Layer) -> Takes | None:
    """The shape and dtype that a layer can be checked with alone."""
    return getattr(layer, "takes", None)


def mismatch(layer: Layer, x: Any) -> Mismatch | None:
    """Why a layer refuses an input; None where it takes it, or does not say."""
    told = getattr(layer, "mismatch", None)
    if told is None:
        return None
    if not hasattr(x, "shape") and not getattr(layer, "several", False):
        return Mismatch("one array", f"choose one before it: (lambda x: x[0]) >> {text(layer)}")
    return told(x)


def _explained(layer: Layer, params: Any, x: Any, error: Exception, at: str | None) -> ShapeError | None:
    if isinstance(layer, (Nnx, Tree)) and (found := foreign(layer.module(params), x)) is not None:
        return refusal(found[0], x, found[1], at)
    if (explained := explain(error)) is not None:
        return explained
    if isinstance(layer, Function) or not ABOUT_SHAPES.search(str(error)):
        return None
    return ShapeError(f"{text(layer)} cannot take its input: {sentence(error)}.", at=at, got=shape_text(x))


def check(chain: Chain, params: dict[str, Any], shape: Sequence[int | str] | None, at: str | None) -> "Checked":
    """Prove the shapes of all layers, for every batch size.

    Args:
        params: by layer name; arrays or `jax.ShapeDtypeStruct`.
        shape: of one example; None to begin with what the first layer takes.
        at: the user's line, for layers that do not know theirs.

    Raises:
        ShapeError: naming every layer whose input does not fit.
    """
    failed: list[ShapeError] = []
    for first, sizes, dtype in _starts(chain.layers, shape):
        example = Annotation("Float", tuple(map(str, sizes)))
        free = [size for size in names([example]) if size != "batch"]
        for bound in BOUNDS if free else BOUNDS[:1]:
            constraints = tuple(f"{size} >= {bound}" for size in free if bound > 1)
            rows, errors = _walk(chain, params, _symbolic(example, dtype, constraints), first, at, sizes)
            if not errors:
                checked = Checked(tuple(rows), constraints, first == 0)
                if checked.whole:
                    confirm(chain, (params, rows[0].input), rows[-1].output, constraints)
                return checked
            if bound == BOUNDS[-1] or not free:
                failed = failed or errors
    if failed:
        raise together(failed)
    return Checked((), (), False)


@dataclass(frozen=True)
class Checked:
    """What was proved: the rows of the layers from the first whose input is known, under constraints on sizes."""

    rows: tuple[Row, ...]
    constraints: tuple[str, ...]
    whole: bool


def _starts(layers: Sequence[Layer], shape: Sequence[int | str] | None) -> Iterator[tuple[int, Sizes, str]]:
    """Where checking may start: a layer, the sizes of its input and the dtype; the likeliest first."""
    known = (i for i, layer in enumerate(layers) if declared_input(layer) is not None)
    first = next(known, None)
    takes, dtype = (first is not None and declared_input(layers[first])) or ((), "float32")
    if shape is not None:
        yield 0, ("batch", *shape), dtype if first == 0 else "float32"
    elif first is not None:
        for axes in ANY_AXES if "..." in takes else ANY_AXES[:1]:
            sizes = tuple(size for token in takes for size in (axes if token == "..." else (token,)))
            yield (0 if _keep(layers[:first], sizes, dtype) else first), sizes, dtype


def _keep(layers: Sequence[Layer], sizes: Sizes, dtype: str) -> bool:
    """Whether layers without parameters give back the shape that they get."""
    x = _symbolic(Annotation("Float", tuple(map(str, sizes))), dtype)
    try:
        for layer in layers:
            y = infer(partial(run, layer), jax.eval_shape(layer.init, jax.random.key(0)), x)
            if (y.shape, y.dtype) != (x.shape, x.dtype):
                return False
    except Exception:  # it cannot take this input, so nothing is known of the one that it does take
        return False
    return True


def _symbolic(example: Annotation, dtype: str, constraints: Sequence[str] = ()) -> jax.ShapeDtypeStruct:
    sizes = symbols(names([example]), constraints)
    return jax.ShapeDtypeStruct(tuple(value(token, sizes) for token in example.dims), dtype)


def _walk(chain: Chain, params: dict[str, Any], x: Any, first: int, at: str | None, sizes: Sizes) -> tuple[
    list[Row], list[ShapeError]
]:  # fmt: skip
    """The rows of the layers, and what does not fit: after an error the declared output goes on."""
    rows: list[Row] = []
    errors: list[ShapeError] = []
    known, flat = True, False
    token = _checking.set(True)
    try:
        for name, layer in itertools.islice(zip(chain.names, chain.layers, strict=True), first, None):
            own, place = params.get(name, {}), getattr(layer, "at", None) or at
            if not known:
                flat = flat or label(layer) in FLAT
                takes = declared_input(layer)
                if not flat or takes is None or takes[0][:2] != ("batch", "..."):
                    continue
                x, known = jax.ShapeDtypeStruct((x.shape[0], takes[0][-1]), takes[1]), True
            if (wrong := mismatch(layer, x)) is not None:
                errors.append(refusal(text(layer), x, _with_size(layer, x, wrong, sizes), place))
                known, flat = wrong.output is not None, False
                x = jax.tree.leaves(x)[0]
                x = jax.ShapeDtypeStruct(wrong.output, x.dtype) if wrong.output is not None else x
                continue
            try:
                y = infer(partial(run, layer, at=place), own, x)
            except ShapeError as error:
                errors.append(clean(error))
                known, flat = False, False
                continue
            rows.append(row(name, layer, own, x, y))
            if (empty := _empty(y)) is not None:
                got = f"{shape_text(x)}; what comes out, {empty}, may be empty"
                fix = "give larger inputs, or smaller kernels and windows"
                errors.append(ShapeError(f"{text(layer)} leaves nothing of its input.", at=place, got=got, fix=fix))
                break
            x = y
    finally:
        _checking.reset(token)
    return rows, errors


def _empty(y: Any) -> str | None:
    """The text of an output that has a size that may be 0."""
    for leaf in jax.tree.leaves(y):
        try:
            if not all(size >= 1 for size in leaf.shape):
                return shape_text(leaf)
        except jax.errors.InconclusiveDimensionOperation:
            return shape_text(leaf)
    return None


def _with_size(layer: Layer, x: Any, wrong: Mismatch, sizes: Sizes) -> Mismatch:
    """Where the image's size is unknown, the fix is to give it: a square one that fits, if there is one."""
    last = x.shape[-1] if getattr(x, "shape", ()) else 1
    free = {size for size in sizes[1:] if isinstance(size, str)}
    inputs = getattr(layer, "in_features", None)
    if is_number(last) or inputs is None or "batch" in str(last):
        return wrong
    side = next((n for n in range(1, LARGEST) if size_at(last, dict.fromkeys(free, n)) == inputs), None)
    example = ", ".join(str(side) if size in free and side else str(size) for size in sizes[1:])
    fix = f"give the size of one example: Sequential(..., input_shape=({example}{',' * (len(sizes) == 2)}))"
    return Mismatch(f"{wrong.expected}, which not every size gives", fix, wrong.output)
