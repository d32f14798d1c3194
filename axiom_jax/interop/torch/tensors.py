"""PyTorch's tensors as numpy arrays that JAX holds exactly, or an error."""

from typing import Any

import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax.interop.onnx.file import as_float32, require_finite


def as_parameter(tensor: Any, name: str, file: str, exact: bool = False) -> np.ndarray:
    """A torch tensor as float32, int32 or bool.

    Args:
        exact: refuse half precision, whose arithmetic would change with its storage.

    Raises:
        ModelError: it is of another type, or not dense, or holds numbers that these types cannot.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized or tensor.device.type == "meta":
        raise ModelError(f"The tensor {name} is not dense.", at=file, got=f"{tensor.layout}, {tensor.device.type}",
                         fix="save it dense, on the CPU: tensor.to_dense().cpu()")  # fmt: skip
    if kind in ("float16", "bfloat16", "float64") and not exact:
        tensor = tensor.double()
    elif kind not in ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"):
        raise ModelError(f"The tensor {name} has a type that is not supported.", at=file, got=kind,
                         fix="convert the module first: module.float()")  # fmt: skip
    return as_numpy(tensor.detach().cpu().resolve_conj().resolve_neg().numpy(), name, file)


def as_numpy(x: np.ndarray, name: str, file: str, finite: bool = True) -> np.ndarray:
    """An array as float32, int32 or bool, in memory of its own.

    Raises:
        ModelError: numbers would change, or weights are not finite.
    """
    if x.dtype.kind == "f" or x.dtype.name == "bfloat16":
        y = as_float32(x.astype(np.float64) if x.dtype.name == "bfloat16" else x, name, file)
        return np.array(require_finite(y, name, file) if finite else y)
    if x.dtype.kind == "b":
        return np.array(x)
    if x.dtype.kind not in "iu":
        raise ModelError(f"The tensor {name} has a type that is not supported.", at=file, got=x.dtype.name,
                         fix="convert it to float32")  # fmt: skip
    y = x.astype(np.int32)
    if not np.array_equal(y, x):
        raise ModelError(f"The tensor {name} holds integers that int32 cannot hold.", at=file, got=x.dtype.name,
                         fix="keep indices below 2**31")  # fmt: skip
    return y
