"""Training of models, and of models whose properties are to be proved afterwards."""

from axiom_jax.training import losses as losses
