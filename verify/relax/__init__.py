"""Two linear functions that enclose a nonlinear primitive over a box, one file per family.

A rule takes the bounds of its operand and returns `Lines`. Lines are proposals: the search
uses them as they are, the certificate checker derives its own from exact arithmetic.
"""

from axiom_jax.verification.relax._lines import Lines as Lines
from axiom_jax.verification.relax._lines import adjustable as adjustable
from axiom_jax.verification.relax._lines import chord as chord
from axiom_jax.verification.relax._lines import relaxation as relaxation
from axiom_jax.verification.relax._lines import relaxation_at as relaxation_at
from axiom_jax.verification.relax._lines import relaxation_start as relaxation_start
from axiom_jax.verification.relax._lines import settled_lines as settled_lines

from axiom_jax.verification.relax import piecewise_linear as piecewise_linear  # isort: skip
from axiom_jax.verification.relax.piecewise_linear import gate_lines as gate_lines  # isort: skip
from axiom_jax.verification.relax import sigmoidal as sigmoidal  # isort: skip
from axiom_jax.verification.relax import convex as convex  # isort: skip
from axiom_jax.verification.relax import waves as waves  # isort: skip
