"""A model's layers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import jax

from axiom_jax._errors import AxiomError
from axiom_jax._model_chain import Row, count, recording, spec
from axiom_jax._shapes_annotations import Annotation, names, symbols
from axiom_jax._shapes_annotations import spec as annotated
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text
from axiom_jax.shapes import infer

HEADINGS = ("layer", "input", "output", "parameters")


@dataclass(frozen=True)
class ShapeTable:
    """The layers of a model, in the order in which they run.

    Args:
        name: of the model.
        rows: one a layer: `name`, `layer`, `input` and `output` (`jax.ShapeDtypeStruct`), `parameters`.
        parameters: of the whole model.
    """

    name: str
    rows: tuple[Row, ...]
    parameters: int

    @property
    def cells(self) -> list[tuple[str, str, str, str]]:
        lines = [(row.name, _shapes(row.input), _shapes(row.output), f"{row.parameters:,}") for row in self.rows]
        return [*lines, ("total", "", "", f"{self.parameters:,}")]

    def __str__(self) -> str:
        table = [HEADINGS, *self.cells]
        widths = [max(len(line[i]) for line in table) for i in range(len(HEADINGS))]
        align = lambda i, cell: cell.rjust(widths[i]) if i == 3 else cell.ljust(widths[i])
        return "\n".join("  ".join(align(i, cell) for i, cell in enumerate(line)) for line in table)

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=self.name)
        for heading in HEADINGS:
            table.add_column(heading, justify="right" if heading == "parameters" else "left")
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
    """Every layer of a model with its shapes and the number of its parameters; nothing is executed.

    Args:
        model: a model with its nets.
        input_shape: sizes of one example, numbers or names; needed where the model's signature has none.

    Raises:
        AxiomError: the input's shape is not known.
        ShapeError: it does not fit.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> print(shape_table(Sequential(nn.Dense(4, 3), nn.relu)))
    layer    input              output             parameters
    0_Dense  Float32[batch, 4]  Float32[batch, 3]          15
    1_relu   Float32[batch, 3]  Float32[batch, 3]           0
    total                                                  15
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
        rows = [Row(model.name, model.name, specs[0] if len(specs) == 1 else specs, spec(output), count(model.params))]
    return ShapeTable(model.name, tuple(rows), count(model.params))


def _shapes(tree: Any) -> str:
    return ", ".join(map(shape_text, jax.tree.leaves(tree)))
