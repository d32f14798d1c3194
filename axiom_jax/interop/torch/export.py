"""PyTorch modules as graphs: `torch.export` traces them, operators that have no rule are decomposed into others."""

import contextlib
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import ModelError, UnsupportedPrimitive
from axiom_jax.interop.onnx.ops import Tensor
from axiom_jax.interop.torch.graph import Graph, Node, Ref, first, node, supported
from axiom_jax.interop.torch.tensors import as_parameter

if TYPE_CHECKING:
    from axiom_jax.model import Model

EXAMPLES = 2  # rows of an example: torch.export takes a size of 1 for a constant


def export(module: Any, example: Any, input_shape: Sequence[int] | None, dynamic_shapes: Any, layout: str,
           file: str) -> Any:  # fmt: skip
    """A module in eval mode as an `ExportedProgram`; its first axes are free where the module allows it.

    Args:
        example: a tensor or a tuple of tensors, as the module takes them; or None.
        input_shape: sizes of one example in the model's layout, for one float32 input; or None.
        dynamic_shapes: as `torch.export.export` takes them; None for free first axes.

    Raises:
        ModelError: there is no example, or torch cannot trace the module.
    """
    import torch

    if example is None and input_shape is None:
        raise ModelError(
            "A module has to be traced with an example.",
            at=file,
            fix="give one: from_pytorch(module, input_shape=(3, 32, 32)), or example=torch.randn(2, 3, 32, 32)",
        )
    if example is None:
        shape = (EXAMPLES, *(input_shape or ()))
        shape = first(shape) if layout == "NHWC" else shape
        if not all(isinstance(n, int) and 0 < n < 2**31 for n in shape) or np.prod(shape, dtype=float) > 2**31:
            raise ModelError("The input_shape is no shape of one example.", at=file, got=str(input_shape),
                             fix="give sizes without the batch: input_shape=(3, 32, 32)")  # fmt: skip
        example = torch.zeros(shape)
    examples = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    examples = tuple(torch.as_tensor(np.asarray(x)) if _is_array(x) else x for x in examples)
    if dynamic_shapes is None:
        examples = tuple(_repeated(x) for x in examples)
        dynamic_shapes = tuple(_free(x) for x in examples)
    modes = [(part, part.training) for part in module.modules()]
    try:
        with quiet():
            module.eval()
            return torch.export.export(module, examples, dynamic_shapes=dynamic_shapes)
    except Exception as error:  # whatever the module's own code raises while it is traced
        raise ModelError(
            "torch.export cannot trace the module.",
            at=file,
            got=f"{type(error).__name__}: {_short(error)}",
            fix="see that module(example) runs; avoid branches on values; try another example= or dynamic_shapes=",
        ) from error
    finally:
        for part, training in modes:
            part.training = training


def read_program(program: Any, name: str, layout: str, source: tuple[tuple[str, str], ...] = ()) -> "Model":
    """An `ExportedProgram` as a model.

    Raises:
        UnsupportedPrimitive: naming every operator that has no rule, with its module.
        ModelError: parameters or inputs have types that JAX does not hold, or the program changes its state.
    """
    program = _decomposed(program)
    reader = _Reader(program, name)
    reader.require_operators()
    return reader.model(layout, source)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch warns of its own deprecations while it exports, and logs what is raised anyway."""
    level = logging.getLogger("torch").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logging.getLogger("torch").setLevel(level)


def _is_array(x: Any) -> bool:
    return not hasattr(x, "untyped_storage") and hasattr(x, "__array__")


def _repeated(x: Any) -> Any:
    """An example with a first axis of 1 as one of two equal rows."""
    return x.repeat(EXAMPLES, *(1,) * (x.ndim - 1)) if getattr(x, "ndim", 0) and x.shape[0] == 1 else x


def _free(x: Any) -> Any:
    import torch

    return {0: torch.export.Dim.AUTO} if getattr(x, "ndim", 0) else None


def _short(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if len(text) < 200 else text[:197] + "..."


def _name(target: Any) -> str:
    """The name of an operator in the table."""
    if getattr(operator, getattr(target, "__name__", ""), None) is target:
        return f"operator.{target.__name__}"
    return str(target)


def _operators(program: Any) -> list[Any]:
    return [step for step in program.graph.nodes if step.op == "call_function"]


def _decomposed(program: Any) -> Any:
    """The program in operators that have rules, as far as PyTorch can decompose the others."""
    import torch

    if all(supported(_name(step.target)) for step in _operators(program)):
        return program
    try:
        with quiet():
            table = torch.export.default_decompositions()
            for op in list(table):
                if supported(str(op)):
                    table.pop(op)
            return program.run_decompositions(table)
    except Exception:  # then what has no rule is named
        return program


class _Reader:
    """Numbers the values of a program in order of use and sorts its tensors into parameters and constants."""

    def __init__(self, program: Any, name: str):
        self.program, self.name = program, name
        self.problems: list[str] = []
        self.numbers: dict[str, int] = {}
        self.free: dict[str, str] = {}  # torch's names of free sizes and ours

    def require_operators(self) -> None:
        gaps = [(str(step.target), _place(step)) for step in _operators(self.program)
                if not supported(_name(step.target))]  # fmt: skip
        gaps += [(step.op, _place(step)) for step in self.program.graph.nodes
                 if step.op not in ("placeholder", "call_function", "output")]  # fmt: skip
        if gaps:
            raise UnsupportedPrimitive(
                f"The PyTorch reader has no rule for {', '.join(sorted({op for op, _ in gaps}))}.",
                at="\n".join(dict.fromkeys(f"{place or self.name}: {op}" for op, place in gaps)),
                fix="rewrite these operations, or add them to axiom_jax/interop/torch/ops.py",
            )

    def model(self, layout: str, source: tuple[tuple[str, str], ...]) -> "Model":
        from axiom_jax.model import Model

        kinds = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        live = self._live()
        signature = self.program.graph_signature
        self.named = {*signature.parameters, *signature.buffers} - {*signature.non_persistent_buffers}
        inputs: list[Any] = []
        params: dict[str, np.ndarray] = {}
        slots: list[tuple[str, int]] = []
        constants: list[tuple[int, Tensor]] = []
        nodes: list[Node] = []
        for step in self.program.graph.nodes:
            if step.op == "placeholder" and kinds[step.name].kind.name == "USER_INPUT":
                if hasattr(step.meta.get("val"), "shape"):
                    inputs.append((step.name, step.meta["val"]))
                    self._number(step.name)
            elif step.name not in live or step.op == "output":
                continue
            elif step.op == "placeholder":
                spec = kinds[step.name]
                tensor = self._tensor(spec)
                if tensor is None:
                    continue
                if tensor.dtype.kind == "f" and spec.target in self.named:
                    params[spec.target] = tensor
                    slots.append((spec.target, self._number(step.name)))
                else:
                    constants.append((self._number(step.name), Tensor.of(tensor)))
            else:
                self._check_dtypes(step)
                args, kwargs = self._arguments(step.args), {k: self._argument(v) for k, v in step.kwargs.items()}
                nodes.append(node(_name(step.target), args, kwargs, self._number(step.name), _place(step)))
        shapes, dtypes = self._shapes([value for _, value in inputs])
        outputs = self._outputs()
        if self.problems:
            raise ModelError(
                "The module cannot be brought to JAX as it is.",
                at=self.name,
                got="\n".join(dict.fromkeys(self.problems)),
                fix="convert it with module.float(), in eval mode, and export it again",
            )
        buffers = tuple(name for name, _ in slots if name in self.program.graph_signature.buffers)
        graph = Graph(shapes, dtypes, tuple(self.numbers[name] for name, _ in inputs), tuple(slots), tuple(constants),
                      tuple(nodes), outputs, layout, self._ranges(), buffers, self.name)  # fmt: skip
        return Model(graph, params, signed(graph, params, [name for name, _ in inputs]), self.name, source)

    def _number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def _live(self) -> set[str]:
        """The values that some output needs."""
        live: set[str] = set()
        for step in reversed(list(self.program.graph.nodes)):
            if step.op == "output" or step.name in live:
                live.update(operand.name for operand in step.all_input_nodes)
        return live

    def _tensor(self, spec: Any) -> np.ndarray | None:
        found = self.program.state_dict.get(spec.target)
        found = self.program.constants.get(spec.target) if found is None else found
        if found is None or not hasattr(found, "untyped_storage"):
            self.problems.append(f"{spec.target}: {spec.kind.name.lower()} is no tensor of the program")
            return None
        try:
            return as_parameter(found, str(spec.target), self.name, exact=True)
        except ModelError as error:
            self.problems.append(f"{spec.target}: {error.got or error.what}")
            return None

    def _check_dtypes(self, step: Any) -> None:
        values = step.meta.get("val")
        for value in values if isinstance(values, (tuple, list)) else (values,):
            dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
            if dtype.startswith(("complex", "float8", "q", "uint16", "uint32", "uint64")) or dtype == "float64":
                self.problems.append(f"{_place(step) or step.name}: {step.target} gives {dtype}")

    def _argument(self, arg: Any) -> Any:
        import torch

        if isinstance(arg, torch.fx.Node):
            if arg.name not in self.numbers:
                self.problems.append(f"{arg.name}: is read before it is defined")
                return None
            return Ref(self.numbers[arg.name])
        if isinstance(arg, (tuple, list)):
            return self._arguments(arg)
        if isinstance(arg, torch.dtype):
            return str(arg).removeprefix("torch.")
        if isinstance(arg, (torch.device, torch.layout, torch.memory_format)):
            return str(arg)
        if arg is None or isinstance(arg, (bool, int, float, str)):
            return arg
        self.problems.append(f"an argument of type {type(arg).__name__}")
        return None

    def _arguments(self, args: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self._argument(arg) for arg in args)

    def _shapes(self, values: Sequence[Any]) -> tuple[tuple[tuple[int | str, ...], ...], tuple[str, ...]]:
        """Shapes with names for free sizes: "batch" for the first axis, and dtypes as JAX has them."""
        from axiom_jax.interop.torch.ops import name_of

        names = self.free
        shapes = []
        for value in values:
            sizes: list[int | str] = []
            for axis, n in enumerate(value.shape):
                if isinstance(n, int):
                    sizes.append(n)
                    continue
                text = str(n)
                if not text.isidentifier():
                    self.problems.append(f"an input has the size {text}, which depends on another one")
                fresh = f"size{len(names)}" if axis or "batch" in names.values() else "batch"
                sizes.append(names.setdefault(text, fresh))
            shapes.append(tuple(sizes))
        dtypes = [str(value.dtype).removeprefix("torch.") for value in values]
        self.problems += [f"an input of type {d}" for d in dtypes if d == "float64" or d.startswith("complex")]
        return tuple(shapes), tuple(str(name_of(d)) for d in dtypes if not d.startswith("complex"))

    def _ranges(self) -> tuple[tuple[str, int, int | None], ...]:
        """The bounds of free sizes. torch.export writes "at least 2" for any size: it takes 1 for a constant."""
        found = []
        for symbol, bounds in self.program.range_constraints.items():
            low = 1 if bounds.lower <= EXAMPLES else int(bounds.lower)
            high = int(bounds.upper) if bounds.upper < 2**31 else None
            if str(symbol) in self.free and (low > 1 or high is not None):
                found.append((self.free[str(symbol)], low, high))
        return tuple(found)

    def _outputs(self) -> Any:
        from torch.utils import _pytree as pytree

        specs = self.program.graph_signature.output_specs
        changed = [spec.target or spec.arg.name for spec in specs if spec.kind.name != "USER_OUTPUT"]
        if changed:
            self.problems.append(f"the program changes its own state ({', '.join(changed[:4])})")
            return None
        found = []
        for spec in specs:
            if hasattr(spec.arg, "value"):
                found.append(spec.arg.value)
            elif spec.arg.name in self.numbers:
                found.append(Ref(self.numbers[spec.arg.name]))
            else:
                self.problems.append(f"the output {spec.arg.name} is not computed")
        if self.problems:
            return None
        return _frozen(pytree.tree_unflatten(found, self.program.call_spec.out_spec))


def signed(graph: Graph, params: Any, names: Sequence[str]) -> Any:
    """The signature of a graph: its inputs in the model's layout, its outputs as they are traced for free sizes."""
    import jax

    from axiom_jax._shapes_annotations import symbols
    from axiom_jax.model import Signature

    inputs = tuple(zip(names, graph.taken, graph.dtypes, strict=True))
    free = sorted({n for shape in graph.taken for n in shape if isinstance(n, str)})

    def outputs(sizes: Mapping[str, Any]) -> Any:
        known = lambda shape: tuple(sizes[n] if isinstance(n, str) else n for n in shape)
        specs = [jax.ShapeDtypeStruct(known(shape), dtype) for _, shape, dtype in inputs]
        return jax.tree.leaves(jax.eval_shape(graph, params, *specs))

    try:
        results = outputs(symbols(free) if free else {})
    except Exception:  # JAX cannot follow the free sizes here; with two rows everything that is wrong shows
        results = outputs(dict.fromkeys(free, EXAMPLES))
        return Signature(inputs) if free else Signature(inputs, _lines(results))
    return Signature(inputs, _lines(results))


def _lines(results: Sequence[Any]) -> Any:
    sizes = lambda shape: tuple(n if isinstance(n, int) else str(n) for n in shape)
    one = len(results) == 1
    return tuple(("y" if one else f"y{i}", sizes(r.shape), str(r.dtype)) for i, r in enumerate(results))


def _frozen(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return ("dict", *((str(key), _frozen(value)) for key, value in outputs.items()))
    return tuple(map(_frozen, outputs)) if isinstance(outputs, (tuple, list)) else outputs


def _place(step: Any) -> str:
    """The path and the class of the innermost module that an operator comes from."""
    stack = step.meta.get("nn_module_stack") or {}
    found = [entry for key, entry in stack.items() if not key.startswith("_")]
    if not found:
        return ""
    path, kind = found[-1][:2]
    kind = kind if isinstance(kind, str) else kind.__name__
    return f"{path} ({kind.rpartition('.')[2]})".strip()
