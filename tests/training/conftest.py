"""Programs of these tests run for milliseconds and compile for seconds: compilers are told not to try hard."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.module.__name__.endswith("test_runs"):  # whose other processes compile as users do
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
