"""A model is a pure function of parameters and inputs, its parameters, and a signature."""

from axiom_jax._model import Model as Model
from axiom_jax._model import Sequential as Sequential
from axiom_jax._model import Signature as Signature
from axiom_jax._model import compose as compose
from axiom_jax._model import parameters as parameters
from axiom_jax._model_axiom import axiom as axiom
from axiom_jax._model_axiom import check_shapes as check_shapes
from axiom_jax._model_table import ShapeTable as ShapeTable
from axiom_jax._model_table import shape_table as shape_table
from axiom_jax._model_train import trainable as trainable
from axiom_jax._shapes_annotations import Logits as Logits
from axiom_jax._shapes_annotations import Probabilities as Probabilities
from axiom_jax._shapes_annotations import Promise as Promise
