"""Frozen leaves keep every bit; patterns that match nothing are told."""

import jax
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError

MODEL = ax.Sequential(nn.Dense(2, 8), nn.BatchNorm(8), nn.relu, nn.Dense(8, 2))
DATA = ax.make_moons(64)


def leaves(model: ax.Model) -> dict[str, np.ndarray]:
    found = jax.tree.leaves_with_path(model.params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in found}


@pytest.mark.parametrize("patterns", [("0_*",), ("1_BatchNorm",), ("*/bias", "3_Dense/kernel")])
def test_frozen_leaves_keep_every_bit(patterns: tuple[str, ...]) -> None:
    kept = ax.freeze(MODEL, *patterns).paths
    rule = ax.AdamW(lr=0.1, weight_decay=0.5)  # which would move them without a gradient too
    for given in (patterns, ax.freeze(MODEL, *patterns)):
        after = leaves(ax.train(MODEL, DATA, rule, epochs=2, freeze=given, progress=False).model)
        for path, before in leaves(MODEL).items():
            assert np.array_equal(before, after[path]) == (path in kept), path


def test_paths_and_masks() -> None:
    frozen = ax.freeze(MODEL, "1_BatchNorm", "*/kernel")
    assert frozen.paths == ("0_Dense/kernel", "1_BatchNorm/bias", "1_BatchNorm/mean", "1_BatchNorm/scale",
                            "1_BatchNorm/var", "3_Dense/kernel")  # fmt: skip
    assert frozen.mask(MODEL.params)["3_Dense"] == {"bias": False, "kernel": True}
    assert ax.freeze(MODEL, frozen, "3_Dense/bias").paths == (*frozen.paths[:5], "3_Dense/bias", "3_Dense/kernel")
    assert ax.freeze({"encoder": {"deep": {"w": 1.0}}, "head": 2.0}, "encoder/*").paths == ("encoder/deep/w",)


def test_a_pattern_without_a_match_is_told() -> None:
    with pytest.raises(AxiomError, match=r"No parameter matches 'encoder/\*'") as error:
        ax.freeze(MODEL, "0_*", "encoder/*")
    assert "3_Dense/kernel" in str(error.value.got) and "test_freezing.py" in str(error.value.at)
