"""The command line called within the test's process, and the JSON that it prints."""

import json
from typing import Any

import pytest

from axiom_jax.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `axiom ARGUMENTS`."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int) and "Traceback" not in err
    return stop.value.code, out, err


def last(out: str) -> dict[str, Any]:
    """The object that `--json` prints as the last line, and as no other."""
    *before, line = out.splitlines()
    assert not any(other.startswith("{") for other in before)
    found = json.loads(line)
    assert isinstance(found, dict)
    return found
