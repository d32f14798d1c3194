"""`axiom train`: from a file to a model, and a clear message for what cannot be."""

from pathlib import Path

import numpy as np
import pytest
from cli_helpers import last, run

import axiom_jax as ax
from axiom_jax._errors import AxiomError

CONFIG = """
output = "out/net.axiom"
[data]
file = "data.npz"
test_size = 0.25
[model]
layers = ["Dense(2, 16)", "relu", "Dense(16, out_features=2)"]
seed = 1
[train]
optimizer = {name = "AdamW", lr = 0.05}
schedule = {name = "CosineAnnealingLR", T_max = 12}
loss = {name = "ibp_loss", eps = 0.01, within = [-3.0, 3.0]}
metrics = ["accuracy", {name = "certified_accuracy", eps = 0.01, method = "ibp", within = [-3.0, 3.0]}]
epochs = 12
checkpoint_dir = "run"
resume = true
"""


def write(folder: Path, text: str = CONFIG) -> Path:
    x, y = ax.make_moons(128, noise=0.05)
    np.savez(folder / "data.npz", x=x, y=y)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "net.toml").write_text(text)
    return folder / "net.toml"


def test_trains_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path)
    code, out, _ = run(capsys, "train", config, "--json")
    facts = last(out)
    assert code == 0 and facts["epochs"] == 12 and facts["stopped"] is None
    assert facts["metrics"]["val_certified_accuracy"] > 0.6
    model = ax.load_model(tmp_path / "out" / "net.axiom")
    x, y = ax.make_moons(128, noise=0.05)
    assert np.mean(np.asarray(model(x)).argmax(1) == y) > 0.8
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[data]", "[data", "no configuration"),
        ("epochs = 12", "epoch = 12", "settings that are unknown"),
        ('file = "data.npz"', 'file = "none.npz"', "cannot be read"),
        ('file = "data.npz"', 'name = "stars"', "names no data"),
        ('"relu"', "\"__import__('os').getcwd()\"", "no layer"),
        ('"relu"', '"relu(open(1))"', "no layer"),
        ('"relu"', '"Dense(2)"', "no layer"),
        ('"CosineAnnealingLR"', '"Cosine"', "no such schedule"),
        ("T_max = 12", "Tmax = 12", "no such schedule"),
        ("Dense(2, 16)", "Dense(2, 15)", "cannot take its input"),
    ],
)
def test_what_cannot_be_is_told(
    tmp_path: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, CONFIG.replace(old, new))
    code, out, _ = run(capsys, "train", config, "--json")
    assert code == 2 and message in last(out)["error"]["what"]
    assert issubclass(ax.ShapeError, AxiomError) and not (tmp_path / "out" / "net.axiom").exists()
