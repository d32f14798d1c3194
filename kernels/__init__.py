"""Kernels: one folder an operation, each with a plain reference and faster forms of it.

This folder is `axiom_jax.kernels`; the bare name belongs to another package.
"""

if __name__ == "kernels":
    raise ImportError("import axiom_jax.kernels, not kernels: that name belongs to another package")
