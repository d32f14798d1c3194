"""TensorFlow in: SavedModels, Keras models and files, TFLite; equal numbers, and what is refused."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axiom_jax._errors import BackendUnavailable, ModelError
from axiom_jax.interop.tensorflow_reader import from_tensorflow

MAKE = """
import os, sys
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
import numpy as np, tensorflow as tf, keras
keras.utils.set_random_seed(0)
layers = keras.layers
net = keras.Sequential([
    layers.Input((6, 5, 2)), layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization(),
    layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(3, activation="softmax"),
])
x = np.random.default_rng(0).normal(size=(5, 6, 5, 2)).astype("float32")
np.savez("data.npz", x=x, y=net(x).numpy())
net.save("net.keras")
net.export("saved", verbose=False)
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model("saved").convert())
from axiom_jax.interop.tensorflow_reader import from_tensorflow
assert np.allclose(from_tensorflow(net)(x), net(x), atol=1e-5)  # a model in memory
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional net in three formats, made in an interpreter of its own: TensorFlow takes half a minute."""
    for package in ("tensorflow", "tf2onnx"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is an extra")
    where = tmp_path_factory.mktemp("tensorflow")
    result = subprocess.run([sys.executable, "-c", MAKE], cwd=where, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return where


@pytest.mark.parametrize("file", ["saved", "net.tflite"])
@pytest.mark.slow
def test_models_equal_tensorflow(file: str, folder: Path):
    data = np.load(folder / "data.npz")
    model = from_tensorflow(folder / file)
    assert model.name == Path(file).stem
    rows = [1] if model.signature.inputs[0][1][0] == 1 else [1, 5]  # TFLite fixes the batch
    for batch in rows:
        np.testing.assert_allclose(model(data["x"][:batch]), data["y"][:batch], atol=1e-5)


@pytest.mark.campaign  # it starts TensorFlow once more
def test_a_damaged_model_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "net.tflite").write_bytes((folder / "net.tflite").read_bytes()[:200])
    with pytest.raises(ModelError, match="tf2onnx cannot convert"):
        from_tensorflow(tmp_path / "net.tflite")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.tflite", b"", "no TFLite model"),
        ("net.tflite", b"hello, world", "no TFLite model"),
        ("net.pb", b"x", "kind of the file is not known"),
        ("folder/other", b"x", "holds no SavedModel"),
    ],
)
def test_bad_files_are_refused(name: str, content: bytes, words: str, tmp_path: Path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        from_tensorflow(path.parent if "/" in name else path)
    assert caught.value.fix


@pytest.mark.parametrize("source", [3, None, {}, "no/such/folder"])
def test_what_is_no_model_is_refused(source: Any):
    with pytest.raises(ModelError, match="no TensorFlow model"):
        from_tensorflow(source)


def test_without_tensorflow_the_extra_is_named(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # then it cannot be imported
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(BackendUnavailable, match="needs tensorflow") as caught:
        from_tensorflow(tmp_path)
    assert caught.value.fix == "pip install 'axiom-jax[tensorflow]'"
