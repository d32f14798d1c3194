"""Which implementation runs, what is said where none can, and the names under which the folders may be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from axiom_jax._errors import BackendUnavailable
from axiom_jax.kernels._select import choose

ROOT = Path(__file__).parents[2]
RUNS_ON = {"fast": {"tpu"}, "reference": {"any"}, "faster": {"tpu", "gpu"}}


@pytest.mark.parametrize(
    ("name", "platform", "chosen"),
    [(None, "tpu", "fast"), (None, "cpu", "reference"), (None, "metal", "reference"), ("faster", "gpu", "faster"),
     ("reference", "tpu", "reference")],
)  # fmt: skip
def test_chooses_the_named_or_the_first_that_runs(name: str | None, platform: str, chosen: str) -> None:
    assert choose("matmul", RUNS_ON, name, platform) == chosen


def test_a_named_implementation_is_never_replaced() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        choose("matmul", RUNS_ON, "faster", "cpu")
    assert str(caught.value) == (
        "The kernel matmul cannot run as faster on cpu.\n"
        "  got  implementations fast (tpu), reference (any), faster (gpu, tpu)\n"
        "  fix  leave implementation out, or name one of: reference"
    )
    with pytest.raises(BackendUnavailable, match="cannot run as typo on tpu"):
        choose("matmul", RUNS_ON, "typo", "tpu")
    with pytest.raises(BackendUnavailable, match="cannot run as anything on cpu"):
        choose("matmul", {"fast": {"tpu"}}, None, "cpu")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("bare", "name"), [("kernels", "axiom_jax.kernels"), ("verify", "axiom_jax.verification")])
def test_folders_refuse_their_bare_names(bare: str, name: str) -> None:
    refused = run(f"import {bare}")
    assert refused.returncode == 1 and f"ImportError: import {name}, not {bare}" in refused.stderr
    assert run(f"import {bare}.anything").returncode == 1
    code = f"import sys, {name}; assert sys.modules.keys().isdisjoint({{'jax', 'numpy'}})"
    accepted = run(code)
    assert accepted.returncode == 0, accepted.stderr


def test_only_one_file_imports_pallas() -> None:
    importers = {
        path.name for path in (ROOT / "kernels").rglob("*.py") if "jax.experimental.pallas" in path.read_text()
    }
    assert importers == {"_compat.py"}
