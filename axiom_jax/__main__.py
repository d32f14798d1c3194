"""`python -m axiom_jax`: the `axiom` command."""

from axiom_jax.cli import main

if __name__ == "__main__":
    main()
