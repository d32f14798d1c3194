"""Properties as people write them: files and text in, `Property` out."""

from axiom_jax.verification.spec.vnnlib import parse_vnnlib as parse_vnnlib
from axiom_jax.verification.spec.vnnlib import read_vnnlib as read_vnnlib
