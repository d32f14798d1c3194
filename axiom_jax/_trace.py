"""Functions become jaxprs here, and every equation keeps the user's line.

This module and `_domain` are the only ones that touch `jax.extend`. `trace` runs
nothing: it hands abstract values through the function, so shapes may be symbolic.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.extend import core as jex
from jax.extend import source_info_util

HERE = str(Path(__file__).parent)
source_info_util.register_exclusion(HERE)  # the user's line, not ours
for _name in ("kernels", "verification"):
    source_info_util.register_exclusion(str(Path(HERE, _name).resolve()))

# What becomes of broken guards; part of every compilation's key, so that no trace is used under another policy.
guard_policy: Any = jax.make_user_context("raise")
# True while a Program is made or shapes are proved: what only serves execution is left out.
as_program: Any = jax.make_user_context(False)


def trace(fn: Callable[..., Any], *specs: Any, guards: str = "off") -> jex.ClosedJaxpr:
    """Trace `fn` to a jaxpr without running it.

    Args:
        fn: any JAX function of pytrees.
        *specs: one pytree of arrays or `jax.ShapeDtypeStruct` an argument; sizes may be
            symbolic (`jax.export.symbolic_shape`).
        guards: the policy of `ax.ensure` in it: "off", or "mask" for what runs elsewhere.

    Returns:
        The closed jaxpr, its equations carrying source locations (`location`).

    >>> import jax.numpy as jnp
    >>> trace(jnp.tanh, jnp.zeros(3)).jaxpr.eqns[0].primitive.name
    'tanh'
    """
    with guard_policy(guards), as_program(True):
        # a new function: equal ones would share cached locations
        return jax.make_jaxpr(lambda *args: fn(*args))(*specs)


def location(eqn: Any, outer: str = "") -> str:
    """`file.py:12 (function)` of a jaxpr equation; `outer` where jax recorded none of the user's frames."""
    found = source_info_util.summarize(eqn.source_info)
    match = re.match(r"(.*?):(\d+)(?::\d+)? \((.*)\)$", found)
    if not match:
        return outer
    path, line, function = match.groups()
    return f"{_short(path)}:{line} ({function})"


def _short(path: str) -> str:
    """A path as the user would type it from the current folder."""
    relative = os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path
    return min(relative, path, key=len)
