"""Which implementation of a kernel runs: the one that was named, or the first that runs here."""

from collections.abc import Collection, Mapping

import jax

from axiom_jax._errors import BackendUnavailable


def choose(
    operation: str, runs_on: Mapping[str, Collection[str]], name: str | None = None, platform: str | None = None
) -> str:
    """The name of the implementation to run.

    Args:
        operation: the kernel, for messages.
        runs_on: for every implementation the platforms it runs on ("cpu", "gpu", "tpu"; "any" for all), best first.
        name: an implementation, or None for the best.
        platform: where the program will run; None for jax's default backend.

    Raises:
        BackendUnavailable: the named implementation does not exist, or cannot run on the platform.

    >>> choose("matmul", {"fast": {"tpu"}, "reference": {"any"}}, platform="cpu")
    'reference'
    """
    platform = platform or jax.default_backend()
    able = [key for key, platforms in runs_on.items() if not {"any", platform}.isdisjoint(platforms)]
    chosen = next(iter(able), None) if name is None else name
    if chosen is not None and chosen in able:
        return chosen
    where = {key: f"{key} ({', '.join(sorted(platforms))})" for key, platforms in runs_on.items()}
    raise BackendUnavailable(
        f"The kernel {operation} cannot run as {chosen or 'anything'} on {platform}.",
        got=f"implementations {', '.join(where.values())}",
        fix=f"leave implementation out, or name one of: {', '.join(able) or 'none here'}",
    )
