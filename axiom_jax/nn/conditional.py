"""One of two layers, chosen by a predicate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from axiom_jax._errors import ShapeError
from axiom_jax._model_chain import Chain
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import shape_text
from axiom_jax.nn import _sides
from axiom_jax.nn._layer import here


@dataclass(frozen=True, repr=False, init=False)
class Conditional:
    """`then(x)` where the predicate holds, `otherwise(x)` elsewhere.

    A predicate that gives one truth value runs one side (`jax.lax.cond`); one value an example runs both and
    chooses for each.

    Args:
        predicate: a function of x that gives booleans, () or [batch].
        then, otherwise: layers, or lists of layers, that give equal shapes.

    Raises:
        ShapeError: where it is applied, the two give different shapes, or the predicate has another shape.

    >>> from axiom_jax import nn
    >>> layer = Conditional(lambda x: x.sum(-1) > 0, nn.tanh, nn.relu)
    >>> layer.apply(layer.init(jax.random.key(0)), jnp.array([[-1.0, 0.5]])).tolist()
    [[0.0, 0.5]]
    """

    chains = "then", "otherwise"
    predicate: Callable[[Any], Any]
    then: Chain
    otherwise: Chain
    given: _sides.Given = field(default_factory=dict, init=False, compare=False, repr=False)
    at: str | None = here()

    __rshift__, __rrshift__, init, trainable, bare = _sides.MADE_OF_LAYERS

    def __init__(self, predicate: Callable[[Any], Any], then: Any, otherwise: Any) -> None:
        (yes, brought), (no, given) = _sides.chained([then]), _sides.chained([otherwise])
        both = {"then": brought, "otherwise": given}
        _sides.set_fields(self, predicate=predicate, then=yes, otherwise=no, given=both, at=caller())

    def __repr__(self) -> str:
        sides = ", ".join(map(_sides.chain_text, (self.then, self.otherwise)))
        return f"Conditional({_sides.name_of(self.predicate)}, {sides})"

    @property
    def sides(self) -> dict[str, Chain]:
        return {"then": self.then, "otherwise": self.otherwise}

    @property
    def takes(self) -> Any:
        return _sides.first_takes(self.then, self.otherwise)

    def apply(self, params: Any, x: Any) -> Any:
        which = self._which(x)
        if which.ndim == 0:
            self._check(*(jax.eval_shape(chain, params.get(side, {}), x) for side, chain in self.sides.items()))
            yes, no = (partial(chain, params.get(side, {}), x) for side, chain in self.sides.items())
            return jax.lax.cond(which, yes, no)
        return self._chosen(which, _sides.outputs_of(self, params, dict.fromkeys(self.sides, x)))

    def apply_train(self, params: Any, x: Any, key: Any) -> tuple[Any, Any]:
        which = self._which(x)
        if which.ndim:
            outputs, moved = _sides.trained(self, params, dict.fromkeys(self.sides, x), key)
            return self._chosen(which, outputs), moved

        def run(side: str) -> Callable[[], Any]:
            chain = self.sides[side]

            def one() -> Any:
                y, own = chain.apply_train(params.get(side, {}), x, key=key)
                return y, {**params, side: own} if side in params else params

            return one

        self._check(*(jax.eval_shape(chain, params.get(side, {}), x) for side, chain in self.sides.items()))
        return jax.lax.cond(which, run("then"), run("otherwise"))

    def _which(self, x: Any) -> Any:
        which = jnp.asarray(self.predicate(x))
        if which.dtype == jnp.bool_ and (which.ndim == 0 or which.shape == jax.tree.leaves(x)[0].shape[:1]):
            return which
        got = f"{shape_text(which)}; expected Bool[] or Bool[batch]"
        if which.dtype != jnp.bool_:
            fix = "compare: lambda x: … > 0"
        else:
            fix = "reduce it: lambda x: (…).all(tuple(range(1, x.ndim)))"
        raise ShapeError(f"{self!r} has a predicate that is no truth value, nor one an example.", at=self.at, got=got,
                         fix=fix)  # fmt: skip

    def _chosen(self, which: Any, outputs: Mapping[str, Any]) -> Any:
        yes, no = outputs["then"], outputs["otherwise"]
        self._check(yes, no)
        return jax.tree.map(lambda a, b: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)

    def _check(self, yes: Any, no: Any) -> None:
        if jax.tree.map(jnp.shape, yes) != jax.tree.map(jnp.shape, no):
            fix = _sides.ending([(yes, self.then), (no, self.otherwise)], ("then", "otherwise"))
            got = f"{shape_text(yes)} or {shape_text(no)}; expected equal shapes"
            raise ShapeError(f"{self!r} gives different shapes.", at=self.at, got=got, fix=fix)
