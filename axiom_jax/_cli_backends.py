"""`axiom backends` and `axiom conformance`: tables on stdout, or one JSON object."""

import json
from typing import Any

from axiom_jax._errors import BackendUnavailable


def list_backends(as_json: bool) -> int:
    """Every backend with what was found of it; exit status 0."""
    from axiom_jax.targets.listing import backends

    return _shown(backends(), as_json)


def run_conformance(backend: str, as_json: bool) -> int:
    """Hold a backend to the test; exit status 0 if it passed, 1 if not."""
    from axiom_jax.targets.conforming import conformance

    try:
        found = conformance(backend)
    except BackendUnavailable as error:
        error.at = f"--backend {backend}"
        raise
    _shown(found, as_json)
    return 0 if found.passed else 1


def _shown(table: Any, as_json: bool) -> int:
    if as_json:
        print(json.dumps(table.to_dict()))
    else:
        from rich.console import Console

        console = Console()
        console.print(table) if console.is_terminal else print(table)  # a file gets whole lines
    return 0
