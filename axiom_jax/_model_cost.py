"""What a function costs: floating-point operations, counted in its jaxpr; sizes may be symbolic.

Counted are a multiplication and an addition for each product of `dot_general` and of a convolution (2·M·N·K), the
window's size for each output of a pooling, one for each input of a reduction and one for each output of every other
operation on floats. Moving, reshaping, comparing integers and reading tables cost nothing. A scan costs its steps, a
cond its dearest branch, the body of a while loop is counted once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._trace import trace

FREE = {"broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice", "dynamic_update_slice",
        "expand_dims", "gather", "iota", "pad", "reshape", "rev", "slice", "split", "squeeze", "stack", "stop_gradient",
        "tile", "transpose", "select_n", "name", "optimization_barrier", "random_bits", "random_wrap", "random_unwrap",
        "random_fold_in", "random_seed", "random_split"}  # fmt: skip
REDUCING = ("reduce_", "arg", "cum", "sort")


def flops(fn: Callable[..., Any], *specs: Any) -> Any:
    """Floating-point operations of a function.

    Args:
        fn: a JAX function of pytrees of arrays.
        *specs: arrays or `jax.ShapeDtypeStruct`; sizes may be symbolic.

    Returns:
        A number, or an expression of the symbolic sizes.

    >>> flops(lambda w, x: jnp.maximum(x @ w, 0), jnp.ones((4, 3)), jnp.ones((2, 4)))
    54
    """
    return _jaxpr(trace(fn, *specs).jaxpr)


def size_in_bytes(tree: Any) -> Any:
    """The bytes of all leaves of a pytree of arrays or specs."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    return sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize for leaf in leaves)


def _jaxpr(jaxpr: Any) -> Any:
    return sum(map(_equation, jaxpr.eqns))


def _equation(eqn: Any) -> Any:
    name, params = eqn.primitive.name, eqn.params
    match name:
        case "scan":
            return params["length"] * _jaxpr(params["jaxpr"].jaxpr)
        case "cond":
            return _largest([_jaxpr(branch.jaxpr) for branch in params["branches"]])
        case "while":
            return _jaxpr(params["body_jaxpr"].jaxpr)
    inner = [value for value in params.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    if inner:  # jit, custom_jvp_call, checkpoint: the function that is called
        return _jaxpr(getattr(inner[0], "jaxpr", inner[0]))
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars) if hasattr(v.aval, "shape")]
    if name in FREE or not any(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals):
        return 0
    out = math.prod(eqn.outvars[0].aval.shape)
    return _dear(name, params, [v.aval.shape for v in eqn.invars], out)


def _dear(name: str, params: Mapping[str, Any], shapes: list[Any], out: Any) -> Any:
    match name:
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            return 2 * out * math.prod(shapes[0][axis] for axis in contracted)
        case "conv_general_dilated":
            kernel, layout = shapes[1], params["dimension_numbers"].rhs_spec
            spread = math.prod(params["lhs_dilation"])  # zeros between the inputs of a transposed convolution
            return 2 * out * (math.prod(kernel) // kernel[layout[0]]) // spread
        case _ if name.startswith("reduce_window"):
            return out * math.prod(params["window_dimensions"])
        case _ if name.startswith(REDUCING):
            return math.prod(shapes[0])
    return out


def _largest(costs: list[Any]) -> Any:
    """The largest, if sizes let it be told; else their sum, which is no less."""
    try:
        return max(costs)
    except jax.errors.InconclusiveDimensionOperation:
        return sum(costs)
