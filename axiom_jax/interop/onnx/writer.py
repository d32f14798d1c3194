"""ONNX files out: `to_onnx` writes any JAX model as readable nodes, for every batch size, checked before it is kept."""

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import AxiomError, ModelError, ShapeError
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import is_number

if TYPE_CHECKING:
    import onnx

OLDEST, NEWEST = 13, 24  # before 13 axes and shapes were attributes; onnxruntime runs no later one
Sizes = tuple[Any, ...]
InputShape = Sequence[int | str] | Sequence[Sequence[int | str]] | None


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how it was judged.

    Args:
        path: the file.
        opset: the version of the standard.
        nodes: how many there are.
        difference: the largest difference from JAX seen, relative to the largest number of that output (or 1).
        batches: the batch sizes that were compared; one where the batch is fixed.
        judge: the runtime that computed the file: "onnxruntime 1.20" or "onnx.reference".
    """

    path: str
    opset: int
    nodes: int
    difference: float
    batches: tuple[int, ...]
    judge: str

    def __fspath__(self) -> str:
        return self.path


def to_onnx(
    model: Any,
    path: str | os.PathLike[str],
    input_shape: InputShape = None,
    opset: int = 21,
    layout: str | None = None,
    *,
    dynamic_batch: bool = True,
    tolerance: float | None = None,
) -> OnnxExport:
    """Write a model as an ONNX file.

    The file is checked by `onnx.checker` and compared with JAX at two batch sizes before it is put in place.

    Args:
        model: a `Model`, a layer, a flax, equinox or JAX function; functions need `input_shape`.
        path: the file to write.
        input_shape: sizes of the input, such as (1, 3, 224, 224), batch first; a sequence of such for several
            inputs. None for what the model's signature says.
        opset: version of the standard, 13 to 24.
        layout: "NCHW" for a file that takes images [batch, channels, height, width] where the model takes them
            channels last; "NHWC" for the model's own. None for what `input_shape` fits.
        dynamic_batch: whether the file takes any batch size, whatever number `input_shape` has for it.
        tolerance: the difference that is allowed; None for 1e-4 in float32 and what other dtypes hold.

    Returns:
        A record; `ax.from_onnx(record)` reads the file.

    Raises:
        UnsupportedPrimitive: naming every operation that has no ONNX form.
        ModelError: the file does not compute what the model does. Nothing is written then.

    Source: the ONNX specification, https://onnx.ai/onnx/repo-docs/IR.html.

    >>> from axiom_jax import nn, Sequential
    >>> folder = tempfile.mkdtemp()
    >>> record = to_onnx(Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2)), f"{folder}/net.onnx")
    >>> record.nodes, record.difference < 1e-5
    (3, True)
    """
    from axiom_jax.interop.onnx.compare import compare

    subject = subject_of(model, input_shape, layout, dynamic_batch, caller())
    proto = write(subject, opset)
    judged = compare(proto, subject, tolerance)
    content = proto.SerializeToString()
    file = os.fspath(path)
    put_in_place(content, file)
    return OnnxExport(file, opset, len(proto.graph.node), judged.difference, judged.batches, judged.judge)


def to_onnx_model(model: Any, input_shape: InputShape = None, opset: int = 21, layout: str | None = None, *,
                  dynamic_batch: bool = True) -> "onnx.ModelProto":  # fmt: skip
    """The ONNX graph of a model, as `to_onnx` writes it; not yet checked or compared.

    >>> from axiom_jax import nn, Sequential
    >>> [node.op_type for node in to_onnx_model(Sequential(nn.Dense(4, 3), nn.relu)).graph.node]
    ['Gemm', 'Relu']
    """
    return write(subject_of(model, input_shape, layout, dynamic_batch, caller()), opset)


@dataclass(frozen=True)
class Subject:
    """What is written: a function of parameters and inputs, and the form of the inputs.

    Args:
        fn: `fn(params, *inputs)`.
        inputs: name, sizes as the model takes them (names where free) and dtype.
        swapped: for each input whether the file has it channels first.
        outputs: names; empty where the function decides.
        constraints: that hold of the sizes.
        name: of the graph.
        at: the user's line.
    """

    fn: Callable[..., Any]
    params: Any
    inputs: tuple[tuple[str, Sizes, str], ...]
    swapped: tuple[bool, ...]
    outputs: tuple[str, ...]
    constraints: tuple[str, ...]
    name: str
    at: str | None


def subject_of(model: Any, input_shape: InputShape, layout: str | None, dynamic: bool, at: str | None) -> Subject:
    """What a call of `to_onnx` asks for."""
    if layout not in (None, "NCHW", "NHWC"):
        raise AxiomError("There is no such layout.", at=at, got=repr(layout), fix='layout="NCHW" or layout="NHWC"')
    fn, params, signature, name = _taken(model, at)
    declared = tuple(signature.inputs)
    if input_shape is None:
        if not declared:
            raise ModelError("The shape of the model's input is not known.", at=at, got=name,
                             fix="to_onnx(model, path, input_shape=(1, 784))")  # fmt: skip
        inputs = declared
        swapped = [layout == "NCHW" and 3 <= len(shape) <= 5 for _, shape, _ in inputs]
    else:
        given = _shapes(input_shape)
        if declared and len(declared) != len(given):
            raise ShapeError(f"The model has {len(declared)} inputs.", at=at, got=f"{len(given)} shapes",
                             fix="give a shape for each: input_shape=[(1, 4), (1, 3)]")  # fmt: skip
        names = [entry[0] for entry in declared] or (["x"] if len(given) == 1 else [f"x{i}" for i in range(len(given))])
        fitted = [_fit(shape, declared[i] if declared else None, layout, dynamic, at) for i, shape in enumerate(given)]
        inputs = tuple((n, shape, dtype) for n, (shape, dtype, _) in zip(names, fitted, strict=True))
        swapped = [turn for _, _, turn in fitted]
    if not dynamic:
        inputs = tuple((n, tuple(1 if i == 0 and not is_number(s) else s for i, s in enumerate(shape)), dtype)
                       for n, shape, dtype in inputs)  # fmt: skip
    known = {str(size) for _, shape, _ in inputs for size in shape if not is_number(size)}
    constraints = tuple(c for c in signature.constraints if all(w in known for w in _words(c)))
    outputs = tuple(entry[0] for entry in signature.outputs)
    return Subject(fn, params, tuple(inputs), tuple(swapped), outputs, constraints,
                   name, at)  # fmt: skip


def _taken(model: Any, at: str | None) -> tuple[Callable[..., Any], Any, Any, str]:
    """The function, parameters, signature and name of whatever can be exported."""
    from axiom_jax._model import build
    from axiom_jax._model_layers import Function, adopt, label
    from axiom_jax.model import Model, Signature

    if not isinstance(model, Model):
        layer, params = adopt(model)
        if isinstance(layer, Function):
            return lambda params, *inputs: layer.fn(*inputs), {}, Signature(), label(layer)
        if params is not None and not isinstance(model, (list, tuple)) and getattr(layer, "takes", None) is None:
            return lambda params, *inputs: _called(layer, params, inputs), params, Signature(), label(layer)
        model = build([(layer, params)], 0, None, label(layer), at)
    return model.apply, model.params, model.signature, model.name


def _called(layer: Any, params: Any, inputs: Sequence[Any]) -> Any:
    """A module that may take several inputs, which layers of a Sequential may not."""
    if len(inputs) == 1:
        return layer.apply(params, inputs[0])
    return layer.module(params)(*inputs)


def _shapes(given: Any) -> list[tuple[Sizes, str | None]]:
    """The shapes and dtypes that were given, one an input."""
    if hasattr(given, "shape"):
        return [(tuple(given.shape), str(given.dtype))]
    entries = tuple(given)
    if all(isinstance(n, str) or is_number(n) for n in entries):
        return [(entries, None)]
    return [shape for entry in entries for shape in _shapes(entry)]


def _fit(given: tuple[Sizes, str | None], declared: Any, layout: str | None, dynamic: bool, at: str | None) -> tuple[
    Sizes, str, bool
]:  # fmt: skip
    """The sizes as the model takes them, the dtype, and whether the file has the channels first."""
    shape, dtype = given
    last = (shape[0], *shape[2:], shape[1]) if 3 <= len(shape) <= 5 else None
    if declared is None:
        turn = layout == "NCHW" and last is not None
        sizes = last if turn and last is not None else shape
        free = ("batch", *sizes[1:]) if dynamic and sizes and is_number(sizes[0]) else sizes
        return free, dtype or "float32", turn
    _, wanted, own = declared
    direct, turned = _matches(shape, wanted), last is not None and _matches(last, wanted)
    turn = turned and layout != "NHWC" and (layout == "NCHW" or not direct)
    if not direct and not turn:
        raise ShapeError("The model does not take inputs of this shape.", at=at,
                         got=f"[{', '.join(map(str, shape))}]; expected [{', '.join(map(str, wanted))}]",
                         fix=f"to_onnx(model, path, input_shape=({', '.join(_example(wanted))}))")  # fmt: skip
    sizes = last if turn and last is not None else shape
    chosen = [
        w if is_number(w) or (i == 0 and dynamic) else n for i, (n, w) in enumerate(zip(sizes, wanted, strict=True))
    ]
    return tuple(chosen), dtype or own, turn


def _matches(shape: Sizes, wanted: Sizes) -> bool:
    return len(shape) == len(wanted) and all(
        not is_number(n) or not is_number(w) or n == w or (i == 0 and w == 1)
        for i, (n, w) in enumerate(zip(shape, wanted, strict=True))
    )


def _example(sizes: Sizes) -> list[str]:
    return [str(n) if is_number(n) else "1" for n in sizes]


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[A-Za-z_]\w*", text) if word not in ("max", "min", "mod", "floordiv")]


def write(subject: Subject, opset: int = 21) -> "onnx.ModelProto":
    """The graph of a subject, not yet checked or compared."""
    from axiom_jax.interop.onnx.emit import emit
    from axiom_jax.interop.onnx.graph import Sheet

    if not isinstance(opset, int) or not OLDEST <= opset <= NEWEST:
        raise AxiomError(f"The opsets {OLDEST} to {NEWEST} can be written.", at=subject.at, got=f"opset {opset}",
                         fix="to_onnx(model, path, opset=21)")  # fmt: skip
    program, values, outputs = traced(subject)
    sheet, inputs = Sheet(opset), []
    for (name, _, _), var, turn in zip(subject.inputs, program.inputs, subject.swapped, strict=True):
        order = (0, len(var.shape) - 1, *range(1, len(var.shape) - 1)) if turn else None
        value = sheet.held(sheet.fresh(name), var.shape, var.dtype, order)
        inputs.append(value)
        for axis, size in enumerate(value.stored):
            if not is_number(size):
                sheet.sizes.setdefault(str(size), (value.name, axis))
    for name in outputs:
        sheet.fresh(name)
    results = [sheet.plain(value) for value in emit(sheet, program, values, inputs)]
    return _model(subject, sheet, inputs, outputs, results, program)


def traced(subject: Subject) -> tuple[Any, list[Any], tuple[str, ...]]:
    """The program of a subject for all sizes, the values of its parameters, and the names of its outputs."""
    import jax

    from axiom_jax._program import build
    from axiom_jax._shapes_annotations import symbols
    from axiom_jax._trace import guard_policy

    guards = "off" if guard_policy.value == "off" else "mask"
    free = list(dict.fromkeys(size for _, shape, _ in subject.inputs for size in shape if not is_number(size)))
    sizes = symbols(free, subject.constraints)
    specs = [jax.ShapeDtypeStruct(tuple(n if is_number(n) else sizes[n] for n in shape), np.dtype(dtype))
             for _, shape, dtype in subject.inputs]  # fmt: skip
    names: list[str] = []

    def flat(params: Any, *inputs: Any) -> list[Any]:
        leaves = jax.tree.leaves_with_path(subject.fn(params, *inputs))
        names[:] = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in leaves]
        return [leaf for _, leaf in leaves]

    try:
        program, values = build(flat, subject.params, *specs, guards=guards)
    except AxiomError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, NotImplementedError) as error:
        text = str(error).strip().partition("\n")[0]
        shown = ", ".join(f"{name} {dtype}[{', '.join(map(str, shape))}]" for name, shape, dtype in subject.inputs)
        fix = "give input_shape with the sizes that the model takes"
        if free:
            fix = f"if it holds for one size only: to_onnx(..., dynamic_batch=False) (free here: {', '.join(free)})"
        raise ModelError("The model cannot be traced with these inputs.", at=subject.at, got=f"{shown}\n{text}",
                         fix=fix) from error  # fmt: skip
    given = subject.outputs if len(subject.outputs) == len(names) else ()
    single = len(names) == 1 and not names[0]
    chosen = given or (("y",) if single else tuple(f"y_{name}" if name.isdigit() else name or "y" for name in names))
    taken = {name for name, _, _ in subject.inputs}
    return program, values, tuple(f"{name}_out" if name in taken else name for name in chosen)


def _model(subject: Subject, sheet: Any, inputs: Any, outputs: Sequence[str], results: Any, program: Any) -> Any:
    from onnx import helper, numpy_helper

    from axiom_jax.interop.onnx.graph import element_type

    names: dict[str, str] = {}
    ends = {value.name for value in inputs}
    for name, value in zip(outputs, results, strict=True):
        stored = sheet.name(value)
        if stored in ends or stored in names or stored in sheet.initializers:
            sheet.nodes.append(helper.make_node("Identity", [stored], [name], name=name))
        else:
            names[stored] = name
    _rename(sheet.nodes, names)
    nodes = _live(sheet.nodes, outputs)
    used = _read(nodes)

    def described(name: str, stored: Any, dtype: Any) -> Any:
        return helper.make_tensor_value_info(name, element_type(dtype), [n if is_number(n) else str(n) for n in stored])

    graph = helper.make_graph(
        nodes,
        subject.name,
        [described(value.name, value.stored, value.dtype) for value in inputs],
        [described(n, var.shape, var.dtype) for n, var in zip(outputs, program.outputs, strict=True)],
        [numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape), name)
         for name, x in sheet.initializers.items() if name in used],
    )  # fmt: skip
    version = helper.make_opsetid("", sheet.opset)
    return helper.make_model(graph, opset_imports=[version], ir_version=helper.find_min_ir_version_for([version]),
                             producer_name="axiom-jax")  # fmt: skip


def _subgraphs(node: Any) -> list[Any]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _rename(nodes: Any, names: Mapping[str, str]) -> None:
    for node in nodes:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                names_of[i] = names.get(name, name)
        for graph in _subgraphs(node):
            _rename(graph.node, names)
            for value in graph.output:
                value.name = names.get(value.name, value.name)


def _read(nodes: Any) -> set[str]:
    """Every name that nodes and their subgraphs read."""
    names = {name for node in nodes for name in node.input}
    for node in nodes:
        for graph in _subgraphs(node):
            names |= _read(graph.node) | {value.name for value in graph.output}
    return names


def _live(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The nodes that the outputs need."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            needed |= _read([node])
            kept.append(node)
    return kept[::-1]


def put_in_place(content: bytes, path: str) -> None:
    """Write a file whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise ModelError(f"The file cannot be written: {error.strerror or error}.", at=path,
                         fix="give a path in a folder that exists and may be written") from error  # fmt: skip


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
