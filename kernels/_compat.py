"""Pallas, whose interface still moves between jax versions: the only file that imports it."""

from jax.experimental.pallas import BlockSpec as BlockSpec
from jax.experimental.pallas import ds as ds
from jax.experimental.pallas import num_programs as num_programs
from jax.experimental.pallas import pallas_call as pallas_call
from jax.experimental.pallas import program_id as program_id
from jax.experimental.pallas import when as when
from jax.experimental.pallas.tpu import CompilerParams as TpuParams  # noqa: F401
from jax.experimental.pallas.triton import CompilerParams as TritonParams  # noqa: F401
