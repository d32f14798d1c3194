"""Parameters that training leaves as they are, named by patterns over their paths."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller


@dataclass(frozen=True)
class Frozen:
    """Paths of parameters; made by `freeze`, taken by `ax.train(..., freeze=...)`.

    Args:
        paths: such as "0_Dense/kernel", in the model's order.
    """

    paths: tuple[str, ...]

    def mask(self, params: Any) -> Any:
        """A pytree of bools, True where frozen, as optax's masks are."""
        return jax.tree_util.tree_map_with_path(lambda path, _: parameter_path(path) in self.paths, params)


def freeze(model: Any, *patterns: "str | Frozen") -> Frozen:
    """The parameters of a model whose paths match.

    Args:
        model: a model, or a pytree of parameters.
        *patterns: globs over paths: "0_Dense/kernel", "encoder/*", "*/bias". The path of a layer stands for all of
            its parameters, its running statistics too.

    Returns:
        Their paths.

    Raises:
        AxiomError: a pattern matches nothing.

    >>> from axiom_jax import nn
    >>> from axiom_jax.model import Sequential
    >>> freeze(Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2)), "0_*", "*/bias").paths
    ('0_Dense/bias', '0_Dense/kernel', '2_Dense/bias')
    """
    params = getattr(model, "params", model)
    paths = [parameter_path(path) for path, _ in jax.tree.leaves_with_path(params)]
    wanted = [p for given in patterns for p in (given.paths if isinstance(given, Frozen) else (given,))]
    found: set[str] = set()
    for pattern in wanted:
        matching = {path for path in paths if fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")}
        if not matching:
            raise AxiomError(f"No parameter matches {pattern!r}.", at=caller(), got=f"paths {', '.join(paths)}",
                             fix='give a glob over these paths, such as "0_*" or "*/bias"')  # fmt: skip
        found |= matching
    return Frozen(tuple(path for path in paths if path in found))


def parameter_path(path: Any) -> str:
    """A leaf's path as text: "0_Dense/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
