"""What all tests share: golden files, hypothesis profiles, and where the benchmark data is."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("AXIOM_VNNCOMP", str(ROOT.parent / "shared" / "data" / "vnncomp"))

hypothesis.settings.register_profile("dev", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("shapes/dense.txt", text)`: compare with `tests/golden/shapes/dense.txt`, or write it."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden, then read it"
        assert text.rstrip("\n") + "\n" == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def vnncomp() -> Path:
    """The folder of VNN-COMP instances; `AXIOM_VNNCOMP` names another one."""
    path = Path(os.environ["AXIOM_VNNCOMP"])
    if not path.is_dir():
        pytest.skip(f"no benchmark data at {path}; set AXIOM_VNNCOMP to a folder of VNN-COMP benchmarks")
    return path
