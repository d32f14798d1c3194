"""Properties as people write them: files and text in, `Property` or `Query` out."""

from axiom_jax.verification.spec.vnnlib import parse_vnnlib as parse_vnnlib
from axiom_jax.verification.spec.vnnlib import read_vnnlib as read_vnnlib
from axiom_jax.verification.spec.vnnlib2 import Query as Query
from axiom_jax.verification.spec.vnnlib2 import parse_query as parse_query
from axiom_jax.verification.spec.vnnlib2 import read_query as read_query
