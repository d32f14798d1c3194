"""Properties, search, proofs and the programs that check them.

This folder is `axiom_jax.verification`; the bare name belongs to another package.
"""

if __name__ == "verify":
    raise ImportError("import axiom_jax.verification, not verify: that name belongs to another package")
