"""What all tests share: golden files, hypothesis profiles, and where the benchmark data is."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("AXIOM_VNNCOMP", str(ROOT.parent / "shared" / "data" / "vnncomp"))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background, with its children
    signal.signal(signal.SIGINT, signal.default_int_handler)

MAPPED = 6000  # of 65,530 that Linux allows; about 3 GB of programs

SLOW = [hypothesis.HealthCheck.too_slow]  # a busy machine is no fault of a test
hypothesis.settings.register_profile(
    "quick", max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
hypothesis.settings.register_profile("thorough", max_examples=300, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the parameters of a test marked `sweep(n)`, and of the tests of a module marked `thin(n)`, one in n is tested
    always, the others where slow tests are."""
    met: dict[str, int] = {}
    for item in items:
        for mark, group in (("sweep", item.nodeid.partition("[")[0]), ("thin", item.nodeid.partition("::")[0])):
            if (found := item.get_closest_marker(mark)) is not None:
                met[group] = met.get(group, -1) + 1
                if met[group] % found.args[0]:
                    item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def _programs_are_dropped() -> Iterator[None]:
    """A worker meets thousands of compiled programs, which JAX keeps for good: they are dropped where they pile up."""
    yield
    mapped = Path("/proc/self/maps")  # every program maps some memory, and there is a limit
    if mapped.exists() and mapped.read_bytes().count(b"\n") > MAPPED:
        jax.clear_caches()
        gc.collect()


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
