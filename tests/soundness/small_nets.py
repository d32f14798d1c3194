"""Families of small nets, each as a JAX function and as a net of the exact oracle, with weights of few bits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from enumeration import Decide, Form, Net, largest, layer, plus, relu, times

Weights = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Family:
    """Nets of one shape.

    Args:
        widths: of the layers, inputs first. kink: the activation in JAX, on the vector of a layer.
        exactly: the same on forms. last: the width after the last activation, where it changes the width.
    """

    name: str
    widths: tuple[int, ...]
    kink: Callable[[Any], Any]
    exactly: Callable[[list[Form], Decide], list[Form]]
    shrinks: int = 1

    def draw(self, seed: int) -> Weights:
        """Weights in eighths, so that kinks meet, ties happen, and fractions stay small."""
        generator = np.random.default_rng(seed)
        few = lambda *shape: (generator.integers(-12, 13, size=shape) / 8).astype(np.float32)
        sizes = [n // self.shrinks if 0 < i < len(self.widths) - 1 else n for i, n in enumerate(self.widths)]
        return [(few(b, a), few(b)) for a, b in zip(sizes[:-1], self.widths[1:], strict=True)]

    def apply(self, weights: Any, x: Any) -> Any:
        for w, b in weights[:-1]:
            x = self.kink(w @ x + b)
        w, b = weights[-1]
        return w @ x + b

    def net(self, weights: Weights) -> Net:
        exact = [
            ([[Fraction(float(c)) for c in row] for row in w], [Fraction(float(c)) for c in b]) for w, b in weights
        ]

        def run(forms: list[Form], decide: Decide) -> list[Form]:
            for w, b in exact[:-1]:
                forms = self.exactly(layer(w, b, forms), decide)
            return layer(*exact[-1], forms)

        return run


def _leaky(form: Form, decide: Decide) -> Form:
    return form if decide(form) else times(Fraction(1, 4), form)


def _absolute(form: Form, decide: Decide) -> Form:
    return form if decide(form) else times(Fraction(-1), form)


def _clipped(form: Form, decide: Decide) -> Form:
    """Between −1 and 1."""
    one = (*[Fraction(0)] * (len(form) - 1), Fraction(1))
    low = largest(form, times(Fraction(-1), one), decide)
    return low if decide(plus(one, times(Fraction(-1), low))) else one


def _each(f: Callable[[Form, Decide], Form]) -> Callable[[list[Form], Decide], list[Form]]:
    return lambda forms, decide: [f(form, decide) for form in forms]


def _gated(forms: list[Form], decide: Decide) -> list[Form]:
    """Of each pair (g, v): v where g > 0, else −v/2."""
    pairs = zip(forms[::2], forms[1::2], strict=True)
    return [v if decide(g) else times(Fraction(-1, 2), v) for g, v in pairs]


def _pooled(forms: list[Form], decide: Decide) -> list[Form]:
    return [largest(a, b, decide) for a, b in zip(forms[::2], forms[1::2], strict=True)]


FAMILIES: Sequence[Family] = (
    Family("relu", (2, 4, 3, 2), jax.nn.relu, _each(relu)),
    Family("relu of one input", (1, 5, 3, 2), jax.nn.relu, _each(relu)),
    Family("relu of three inputs", (3, 4, 3, 2), jax.nn.relu, _each(relu)),
    Family("abs", (2, 4, 2), jnp.abs, _each(_absolute)),
    Family("leaky", (2, 4, 3, 2), lambda x: jnp.where(x >= 0, x, 0.25 * x), _each(_leaky)),
    Family("clip", (2, 4, 2), lambda x: jnp.clip(x, -1.0, 1.0), _each(_clipped)),
    Family("pool", (2, 6, 4, 2), lambda x: x.reshape(-1, 2).max(1), _pooled, shrinks=2),
    Family("gate", (2, 6, 2), lambda x: jnp.where(x[::2] > 0, x[1::2], -0.5 * x[1::2]), _gated, shrinks=2),
)
