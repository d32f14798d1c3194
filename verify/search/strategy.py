"""What every search offers, whichever way it splits."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from axiom_jax.verification.search.margins import Question

# case, point (inputs,) of float32 numbers or of Fractions: whether it is unsafe in exact arithmetic
Judge = Callable[[int, "Sequence[Any] | np.ndarray"], bool]


class Strategy(Protocol):
    """A search that can be stopped and taken up again."""

    @property
    def question(self) -> Question:
        """What is asked."""
        ...

    @property
    def boxes(self) -> int:
        """How many subproblems were bounded."""
        ...

    @property
    def open(self) -> int:
        """How many subproblems are left."""
        ...

    @property
    def worst(self) -> float:
        """The worst margin proved so far over the whole region; −inf at first."""
        ...

    @property
    def leaves(self) -> int:
        """How many subproblems are closed."""
        ...

    def run(self, deadline: float, judge: Judge, progress: "Callable[[Any], None] | None" = None) -> str:
        """Search until all is closed, a candidate is judged unsafe, or time is out.

        Args:
            deadline: on `time.monotonic`; overrun by at most a second.
            progress: called with the search after each batch.

        Returns:
            "closed", "unsafe", "time", or "stuck" if what is left cannot be split any more.
        """
        ...

    def proof(self) -> dict[str, Any] | str:
        """The `proof` part of a certificate of a closed search, or in words why it cannot be written."""
        ...

    def reopen(self, failed: Sequence[tuple[int, int]]) -> None:
        """Split leaves, given as (case, ordinal among the leaves of its tree in preorder), that the checker refused."""
        ...
