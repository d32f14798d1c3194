"""What `ax.profile` measures."""

import gzip
import json

import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn


@pytest.fixture(scope="module")
def found():
    return ax.profile(ax.Sequential(nn.Dense(64, 32), nn.relu, nn.Dense(32, 8)), np.ones((16, 64), np.float32))


def test_every_layer_has_a_row(found):
    assert [part.name for part in found] == ["0_Dense", "1_relu", "2_Dense"]
    assert found.whole.name == "sequential"
    for part in (*found, found.whole):
        assert part.compile_seconds > 0 and part.first_seconds > 0 and part.seconds > 0


def test_work_is_counted(found):
    first, _, last = found.parts
    assert first.flops == pytest.approx(16 * (2 * 64 * 32 + 32), rel=0.01)
    assert last.flops == pytest.approx(16 * (2 * 32 * 8 + 8), rel=0.01)
    assert first.bytes >= 4 * (16 * 64 + 64 * 32 + 16 * 32)
    assert found.whole.flops == pytest.approx(sum(part.flops for part in found), rel=0.05)


def test_it_is_a_table(found):
    lines = str(found).splitlines()
    assert lines[0].split()[:1] == ["part"] and len(lines) == 5
    assert found._repr_html_().count("<tr>") == 5
    assert json.dumps(found.to_dict())


def test_a_function_has_one_row():
    found = ax.profile(lambda a, b: a @ b, np.ones((4, 5), np.float32), np.ones((5, 6), np.float32))
    assert found.parts == () and found.whole.flops == pytest.approx(2 * 4 * 5 * 6, rel=0.1)


def test_no_input_is_told():
    with pytest.raises(ax.AxiomError, match="nothing to run"):
        ax.profile(ax.Sequential(nn.Dense(2, 2)))


def test_the_trace_is_for_perfetto(tmp_path):
    path = tmp_path / "deep" / "trace.json.gz"
    found = ax.profile(ax.Sequential(nn.Dense(4, 4)), np.ones((2, 4), np.float32), trace=path)
    assert found.trace == path and [p.name for p in path.parent.iterdir()] == ["trace.json.gz"]
    assert json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
