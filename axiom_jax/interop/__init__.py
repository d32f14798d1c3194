"""Foreign formats, one file each, in and out."""

from axiom_jax.interop.onnx.reader import from_onnx as from_onnx
from axiom_jax.interop.onnx.reader import input_spec as input_spec
