"""A model's layers as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import jax

from axiom_jax._errors import AxiomError
from axiom_jax._model_chain import Row, count, recording, spec
from axiom_jax._model_cost import flops, size_in_bytes
from axiom_jax._shapes_annotations import Annotation, names, symbols
from axiom_jax._shapes_annotations import spec as annotated
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import expression_at, shape_text
from axiom_jax.shapes import infer

HEADINGS = ("layer", "input", "output", "parameters", "FLOPs", "bytes")
NUMBERS = 3  # the first column of numbers


@dataclass(frozen=True)
class ShapeTable:
    """The layers of a model, in the order in which they run.

    Args:
        name: of the model.
        rows: one a layer: `name`, `layer`, `input` and `output` (`jax.ShapeDtypeStruct`), `parameters`, and of one
            example `flops` (as `_model_cost` counts them) and `bytes` (of parameters, input and output together).
            They are expressions where sizes other than the batch are symbolic.
        parameters: of the whole model; those that layers share are counted once.
        flops: of the whole model for one example, what stands between its layers in a declaration included.
    """

    name: str
    rows: tuple[Row, ...]
    parameters: int
    flops: Any

    @property
    def bytes(self) -> Any:
        """Bytes that all layers read and write for one example, each by itself."""
        return sum(row.bytes for row in self.rows)

    @property
    def cells(self) -> list[tuple[str, ...]]:
        numbers = lambda *values: tuple(map(_number, values))
        lines = [
            (row.name, _shapes(row.input), _shapes(row.output), *numbers(row.parameters, row.flops, row.bytes))
            for row in self.rows
        ]
        return [*lines, ("total", "", "", *numbers(self.parameters, self.flops, self.bytes))]

    def __str__(self) -> str:
        table = [HEADINGS, *self.cells]
        widths = [max(len(line[i]) for line in table) for i in range(len(HEADINGS))]
        align = lambda i, cell: cell.rjust(widths[i]) if i >= NUMBERS else cell.ljust(widths[i])
        return "\n".join("  ".join(align(i, cell) for i, cell in enumerate(line)) for line in table)

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=self.name)
        for i, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="right" if i >= NUMBERS else "left")
        for line in self.cells:
            table.add_row(*(cell.replace("[", r"\[") for cell in line), end_section=line is self.cells[-2])
        return table

    def _repr_html_(self) -> str:
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in self.cells)
        head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
        return (
            f"<table><caption>{escape(self.name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def shape_table(model: Any, input_shape: Sequence[int | str] | None = None) -> ShapeTable:
    """Every layer of a model with its shapes, parameters, FLOPs and bytes; nothing is executed.

    FLOPs and bytes are those of one example: 2·M·N·K for a product of matrices, likewise for a convolution, one for an
    element of anything else; see `_model_cost`. Bytes are those of parameters, input and output.

    Args:
        model: a model with its nets.
        input_shape: sizes of one example, numbers or names; needed where the model's signature has none.

    Raises:
        AxiomError: the input's shape is not known.
        ShapeError: it does not fit.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> print(shape_table(Sequential(nn.Dense(4, 3), nn.relu)))
    layer    input              output             parameters  FLOPs  bytes
    0_Dense  Float32[batch, 4]  Float32[batch, 3]          15     27     88
    1_relu   Float32[batch, 3]  Float32[batch, 3]           0      3     24
    total                                                  15     30    112
    """
    inputs = model.signature.inputs
    if input_shape is not None:
        dtype = inputs[0][2] if len(inputs) == 1 else "float32"
        inputs = (("x", ("batch", *input_shape), dtype),)
    if not inputs:
        raise AxiomError(f"The shape of the input of {model.name} is not known.", at=caller(),
                         fix="give it: shape_table(model, input_shape=(28, 28, 1))")  # fmt: skip
    annotations = [Annotation("Shaped", tuple(map(str, shape))) for _, shape, _ in inputs]
    constraints = model.signature.constraints if input_shape is None else ()
    sizes = symbols(names(annotations), constraints)
    shapes = [annotated(annotation, sizes).shape for annotation in annotations]
    specs = [jax.ShapeDtypeStruct(shape, dtype) for shape, (_, _, dtype) in zip(shapes, inputs, strict=True)]
    with recording() as rows:
        output = infer(model.apply, model.params, *specs)
    if not rows:
        inputs = specs[0] if len(specs) == 1 else tuple(specs)
        run = model.apply if len(specs) == 1 else lambda params, x: model.apply(params, *x)
        rows = [Row(model.name, model.name, inputs, spec(output), count(model.params),
                    run=(run, spec(model.params)))]  # fmt: skip
    batch = next((str(size) for shape in shapes for size in shape[:1] if not isinstance(size, int)), None)
    known = {name: 1 if name == batch else size for name, size in sizes.items() if not isinstance(size, tuple)}
    whole = flops(model.apply, spec(model.params), *_one(specs, known))
    return ShapeTable(model.name, tuple(_costed(row, known) for row in rows), count(model.params), whole)


def _one(specs: Any, known: Mapping[str, Any]) -> Any:
    """Specs of one example."""
    size_of = lambda size: size if isinstance(size, int) else expression_at(size, known)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(tuple(map(size_of, s.shape)), s.dtype), specs)


def _costed(row: Row, known: Mapping[str, Any]) -> Row:
    """A row with FLOPs and bytes of one example."""
    assert row.run is not None
    run, params = row.run
    x, y = _one(row.input, known), _one(row.output, known)
    return replace(row, flops=flops(run, params, x), bytes=size_in_bytes((params, x, y)), run=None)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _shapes(tree: Any) -> str:
    return ", ".join(map(shape_text, jax.tree.leaves(tree)))
