"""The node tests that the onnx package generates, run against our reader: which apply, and whether they agree."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import numpy as np
import onnx
from onnx import numpy_helper

from axiom_jax.interop import from_onnx
from axiom_jax.interop.onnx.file import written_out
from axiom_jax.interop.onnx.ops import OPERATORS
from axiom_jax.interop.onnx.reader import _fill_table

_fill_table()


@cache
def cases() -> dict[str, Any]:
    """The generated node tests by name; their data are made as they are asked for."""
    from onnx.backend.test.case.node import collect_testcases

    return {case.name: case for case in collect_testcases(None)}


def operators(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from operators(attribute.g)


def applies(case: Any) -> bool:
    """Whether a test has only operators that are ours."""
    opset = max(entry.version for entry in case.model.opset_import)
    return set(operators(written_out(case.model, opset).graph)) <= OPERATORS.keys() | {"Constant"}


def _array(x: Any) -> np.ndarray:
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


def run(case: Any, fixed: bool) -> None:
    """Compare with the expected outputs; with `fixed`, inputs become constants, as shapes and axes often are.

    Raises:
        AssertionError: they differ.
        AxiomError: the model is refused.
    """
    for inputs, outputs in case.data_sets:
        arrays, outputs = ([_array(x) for x in values] for values in (inputs, outputs))
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        names = [value.name for value in model.graph.input]
        if fixed:
            kept = [
                value for value, x in zip(model.graph.input, arrays, strict=False) if x.dtype.kind == "f" and x.ndim
            ]
            kept = kept[:1]
            constant = [n for n in names if n not in {v.name for v in kept}]
            for name, x in zip(names, arrays, strict=False):
                if name in constant:
                    model.graph.initializer.append(numpy_helper.from_array(x, name))
            del model.graph.input[:]
            model.graph.input.extend(kept)
            arrays = [x for name, x in zip(names, arrays, strict=False) if name not in constant]
        net = from_onnx(model.SerializeToString(), sizes="free")
        got = jax.tree.leaves(net(*arrays)) if arrays else jax.tree.leaves(net())
        assert len(got) == len(outputs)
        for a, b in zip(got, outputs, strict=True):
            a = np.asarray(a)
            assert a.shape == b.shape, (a.shape, b.shape)
            assert a.dtype == b.dtype or a.dtype == jax.dtypes.canonicalize_dtype(b.dtype), (a.dtype, b.dtype)
            loose = a.dtype.itemsize < 4 and a.dtype.kind not in "iub"
            wide = [x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in (a, b)]
            np.testing.assert_allclose(
                *wide, rtol=2e-2 if loose else max(case.rtol, 1e-5), atol=1e-2 if loose else 1e-5
            )
