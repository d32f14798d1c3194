"""A model is a pure function of parameters and inputs, its parameters, and a signature."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

import jax

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model_call import unfit
from axiom_jax._model_chain import Chain, check, count
from axiom_jax._model_layers import Layer, adopt, bare
from axiom_jax._model_train import apply_train
from axiom_jax._shapes_annotations import Annotation, matches
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import dtype_text, is_number

if TYPE_CHECKING:
    from axiom_jax._model_table import ShapeTable


@dataclass(frozen=True)
class Signature:
    """Names, shapes and dtypes of a model's inputs and outputs; a size may be a number or a name ("batch").

    Args:
        inputs, outputs: name, shape and dtype of each; empty where nothing is known.
        promises: names of properties that annotations state of the output ("ValidProbabilities").
        constraints: what the names must satisfy for the shapes to hold ("height >= 4").
    """

    inputs: tuple[tuple[str, tuple[int | str, ...], str], ...] = ()
    outputs: tuple[tuple[str, tuple[int | str, ...], str], ...] = ()
    promises: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    def __str__(self) -> str:
        sides = (", ".join(f"{name}: {dtype}[{', '.join(map(str, shape))}]" for name, shape, dtype in side)
                 for side in (self.inputs, self.outputs))  # fmt: skip
        return " -> ".join(side or "?" for side in sides)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A pure function annotated with shapes, and its parameters: a pytree whose leaves are the parameters.

    It is called, jitted, mapped and differentiated like any function; `jax.grad` with respect to a model
    is a model that holds the gradients.

    Args:
        apply: `apply(params, *inputs) -> output`, pure.
        params: a pytree of arrays.
        signature: what goes in and out.
        name: for messages and reports.
        source: kind and sha256 of what the model was read from.
    """

    apply: Callable[..., Any] = field(metadata={"static": True})
    params: Any
    signature: Signature = field(default=Signature(), metadata={"static": True})
    name: str = field(default="model", metadata={"static": True})
    source: tuple[tuple[str, str], ...] = field(default=(), metadata={"static": True})

    def __call__(self, *inputs: Any) -> Any:
        """The output in inference mode: dropout does nothing, batch norm uses its running statistics."""
        try:
            return self.apply(self.params, *inputs)
        except ShapeError:
            if (refused := self._refuses(inputs)) is not None:
                raise refused from None
            raise

    def apply_train(self, *inputs: Any, key: Any) -> tuple[Any, "Model"]:
        """The output in training mode, and the model with its running statistics moved.

        Dropout draws with the key, batch norm uses the statistics of this batch; gradients flow through them.

        Args:
            *inputs: as for a call.
            key: `jax.random.key`; each layer draws with its own.

        >>> from axiom_jax import nn
        >>> y, moved = Sequential(nn.Dropout(0.5)).apply_train(jax.numpy.ones(1000), key=jax.random.key(0))
        >>> sorted(set(y.tolist()))
        [0.0, 2.0]
        """
        try:
            output, params = apply_train(self.apply, self.params, *inputs, key=key)
        except ShapeError:
            if (refused := self._refuses(inputs)) is not None:
                raise refused from None
            raise
        return output, replace(self, params=params)

    def _refuses(self, inputs: Sequence[Any]) -> ShapeError | None:
        """The error for inputs of other shapes than the layers were proved for."""
        if not isinstance(self.apply, Chain) or len(self.signature.inputs) != len(inputs):
            return None
        for x, (name, shape, dtype) in zip(inputs, self.signature.inputs, strict=True):
            annotation = Annotation(dtype_text(dtype), tuple(map(str, shape)))
            # sizes that are symbolic come from a declaration being proved: its layers are to be mended, not the input
            if hasattr(x, "shape") and all(map(is_number, x.shape)) and not matches(annotation, x.shape, {}):
                return unfit(self.name, name, x, annotation, {})
        return None

    def __repr__(self) -> str:
        missing = getattr(self.apply, "missing", ())
        size = f"to be bound: {', '.join(missing)}" if missing else f"{count(self.params):,} parameters"
        return f"Model({self.name!r}, {self.signature}, {size})"

    def _repr_html_(self) -> str:
        table = self._table()
        return f"<pre>{escape(repr(self))}</pre>" if table is None else table._repr_html_()

    def __rich__(self) -> Any:
        return self._table() or repr(self).replace("[", r"\[")

    def _table(self) -> "ShapeTable | None":
        """The summary, where everything is known that it needs."""
        if getattr(self.apply, "missing", ()) or not self.signature.inputs:
            return None
        try:
            return self.summary()
        except AxiomError:
            return None

    def __rshift__(self, after: Any) -> "Model":
        return compose(self, after, at=caller())

    def __rrshift__(self, before: Any) -> "Model":
        return compose(before, self, at=caller())

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of a Sequential; empty for other models."""
        return self.apply.layers if isinstance(self.apply, Chain) else ()

    def bind(self, *nets: Any) -> "Model":
        """The model of an `ax.axiom` function with its nets, whose parameters become the model's.

        Raises:
            ShapeError: with these nets the annotated shapes do not hold for all sizes.
        """
        bind = getattr(self.apply, "bind", None)
        if bind is None:
            raise AxiomError(f"{self.name} takes no nets.", fix="bind nets to functions declared with @ax.axiom")
        return bind(*nets)

    def summary(self, input_shape: Sequence[int | str] | None = None) -> "ShapeTable":
        """Every layer with its shapes, parameters, FLOPs and bytes: `ax.shape_table(model)`."""
        from axiom_jax._model_table import shape_table

        return shape_table(self, input_shape)


class Sequential(Model):
    """Layers one after the other, as a `Model`; the shapes are proved here, for every batch size.

    Nothing is computed and no memory is taken until they fit; then the parameters are drawn.

    Args:
        *layers: layers, functions of x, models, flax.nnx modules, flax.linen modules with variables,
            equinox modules (which are mapped over the batch).
        seed: of the parameters; each layer draws with its own key.
        input_shape: sizes of one example, numbers or names; needed where the first layer does not tell,
            such as the height and width of images.
        name: for messages and reports.

    Raises:
        ShapeError: naming every layer that cannot take its input, with a fix for each.

    >>> from axiom_jax import nn
    >>> Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2))
    Model('sequential', x: float32[batch, 4] -> y: float32[batch, 2], 23 parameters)
    """

    def __new__(
        cls, *layers: Any, seed: int = 0, input_shape: Sequence[int | str] | None = None, name: str = "sequential"
    ) -> Model:
        if not layers:
            raise AxiomError("A Sequential needs a layer.", at=caller(), fix="Sequential(nn.Dense(784, 10))")
        return build([adopt(layer) for layer in layers], seed, input_shape, name, caller())


def build(found: Sequence[tuple[Layer, Any]], seed: int, input_shape: Sequence[int | str] | None, name: str,
          at: str | None) -> Model:  # fmt: skip
    """A model of layers and their parameters, None where they are still to be drawn."""
    chain = Chain(tuple(layer for layer, _ in found))
    key = jax.eval_shape(lambda: jax.random.key(0))
    given = _given(chain, [params for _, params in found])
    known = {
        name: given[name] if name in given else jax.eval_shape(layer.init, key)
        for name, layer in zip(chain.names, chain.layers, strict=True)
    }
    checked = check(chain, known, input_shape, at)
    params = chain.init(jax.random.key(seed), given)
    chain = Chain(tuple(map(bare, chain.layers)))
    signature = Signature()
    if checked.whole:
        inputs, outputs = signature_of("x", checked.rows[0].input), signature_of("y", checked.rows[-1].output)
        signature = Signature(inputs, outputs, constraints=checked.constraints)
    return Model(chain, params, signature, name)


def _given(chain: Chain, params: Sequence[Any]) -> dict[str, Any]:
    """The parameters that exist, by layer name."""
    given: dict[str, Any] = {}
    for name, own in zip(chain.names, params, strict=True):
        if own is not None and given.setdefault(name, own) is not own:
            raise AxiomError(f"{name} is shared, and its parameters are not the same everywhere.", at=caller(),
                             fix="give the shared layers another name in one of the models")  # fmt: skip
    return given


def signature_of(name: str, spec: Any) -> tuple[tuple[str, tuple[int | str, ...], str], ...]:
    """An array's line in a signature; nothing for several arrays."""
    if not hasattr(spec, "shape"):
        return ()
    return ((name, tuple(size if isinstance(size, int) else str(size) for size in spec.shape), str(spec.dtype)),)


def compose(before: Any, after: Any, at: str | None = None) -> Model:
    """`before >> after`: the layers of both in one model; parameters that exist are kept."""
    shape = None
    if isinstance(before, Model) and before.layers and len(before.signature.inputs) == 1:
        shape = before.signature.inputs[0][1][1:]
    name = before.name if isinstance(before, Model) else "sequential"
    if isinstance(before, Model) and before.signature.constraints:
        shape = None  # bounds on the sizes are found anew
    return build([*pieces(before), *pieces(after)], 0, shape, name, at)


def pieces(thing: Any) -> list[tuple[Layer, Any]]:
    """The layers of a model, or the one layer that anything else is, each with its parameters or None."""
    if isinstance(thing, Model) and isinstance(thing.apply, Chain):
        names = thing.apply.names
        return [(layer, thing.params.get(name, {})) for name, layer in zip(names, thing.layers, strict=True)]
    return [adopt(thing)]


def parameters(model_or_layer: Any) -> Any:
    """The parameters of a model, a layer or a module, as a tree of arrays with readable paths.

    A layer that has none yet draws them with seed 0.

    >>> from axiom_jax import nn
    >>> jax.tree.map(lambda leaf: leaf.shape, parameters(nn.Dense(4, 3)))
    {'bias': (3,), 'kernel': (4, 3)}
    """
    if isinstance(model_or_layer, Model):
        return model_or_layer.params
    layer, params = adopt(model_or_layer)
    return layer.init(jax.random.key(0)) if params is None else params
