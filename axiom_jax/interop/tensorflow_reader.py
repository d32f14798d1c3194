"""TensorFlow in: SavedModels, Keras models and TFLite files become ONNX by tf2onnx, and models by our ONNX reader."""

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import AxiomError, BackendUnavailable, ModelError
from axiom_jax._shapes_places import caller

if TYPE_CHECKING:
    from axiom_jax.model import Model

OPSET = 18  # the newest that tf2onnx writes
KERAS = (".keras", ".h5", ".hdf5")
TFLITE = b"TFL3"  # bytes 4 to 8 of a TFLite file


def from_tensorflow(source: Any, *, sizes: Mapping[str, int] | None = None, name: str | None = None) -> "Model":
    """Read a TensorFlow model by way of ONNX, in the layout that TensorFlow gives it (channels-last images).

    Args:
        source: the folder of a SavedModel, a `.tflite` file, a `.keras` or `.h5` file, or a `keras.Model`.
        sizes: values for named sizes of the inputs; a free first axis (the batch) needs none.
        name: of the model; by default that of the file or of the Keras model.

    Returns:
        A model as from `ax.from_onnx`.

    Raises:
        BackendUnavailable: tensorflow and tf2onnx are not installed.
        ModelError: the file is missing or damaged, or cannot be converted.
        UnsupportedPrimitive: naming every operation that has no rule.

    Source: tf2onnx, https://github.com/onnx/tensorflow-onnx.

    >>> from_tensorflow("no/such/folder")
    Traceback (most recent call last):
    axiom_jax.ModelError: There is no TensorFlow model here.
      at   no/such/folder
      fix  give the folder of a SavedModel, or a .tflite, .keras or .h5 file
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(source), sizes, name)
    if any(kind.__module__.partition(".")[0] in ("keras", "tf_keras") for kind in type(source).__mro__):
        label = name or getattr(source, "name", "model")
        with tempfile.TemporaryDirectory() as folder:
            _require()
            _export_keras(source, folder, label)
            return _read(["--saved-model", folder], sizes, label, label)
    raise ModelError("This is no TensorFlow model.", at=caller(), got=f"a value of type {type(source).__name__}",
                     fix="give a folder, a file or a keras.Model; save others with tf.saved_model.save")  # fmt: skip


def _from_path(path: Path, sizes: Mapping[str, int] | None, name: str | None) -> "Model":
    file, label = os.fspath(path), name or path.stem
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ModelError("The folder holds no SavedModel.", at=file, got="no file saved_model.pb",
                             fix="give the folder that tf.saved_model.save or model.export wrote")  # fmt: skip
        return _read(["--saved-model", file], sizes, file, label)
    if not path.is_file():
        raise ModelError("There is no TensorFlow model here.", at=file,
                         fix="give the folder of a SavedModel, or a .tflite, .keras or .h5 file")  # fmt: skip
    if path.suffix == ".tflite":
        with path.open("rb") as opened:
            if opened.read(8)[4:] != TFLITE:
                raise ModelError("The file is no TFLite model.", at=file, fix="convert or fetch it again")
        return _read(["--tflite", file], sizes, file, label)
    if path.suffix in KERAS:
        _require()
        return from_tensorflow(_load_keras(file), sizes=sizes, name=label)
    raise ModelError("The kind of the file is not known.", at=file, got=path.suffix or "no suffix",
                     fix="give the folder of a SavedModel, or a .tflite, .keras or .h5 file")  # fmt: skip


def _require() -> None:
    from importlib.util import find_spec

    missing = [package for package in ("tensorflow", "tf2onnx") if find_spec(package) is None]
    if missing:
        what = f"ax.from_tensorflow needs {' and '.join(missing)}, not installed here."
        raise BackendUnavailable(what, at=caller(), fix="pip install 'axiom-jax[tensorflow]'")


def _load_keras(file: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        try:
            return keras.saving.load_model(file, compile=False, safe_mode=True)  # refuses lambdas, which are code
        except Exception as error:  # keras raises whatever its layers do
            raise ModelError("The Keras file cannot be read.", at=file, got=_short(str(error)),
                             fix="save it again with model.save, without Lambda layers") from error  # fmt: skip


def _export_keras(model: Any, folder: str, label: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.export(folder, verbose=False)
        except Exception as error:  # keras raises whatever its layers do
            raise ModelError("The Keras model cannot be exported.", at=label, got=_short(str(error)),
                             fix="build it by calling it once on an input: model(x)") from error  # fmt: skip


def _read(arguments: list[str], sizes: Mapping[str, int] | None, file: str, label: str) -> "Model":
    """Convert in an interpreter of its own: TensorFlow logs, aborts on some damaged files, and is large."""
    from axiom_jax.interop.onnx.reader import from_onnx

    _require()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model.onnx")
        command = [sys.executable, "-m", "tf2onnx.convert", *arguments, "--opset", str(OPSET), "--output", str(target)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
        if run.returncode or not target.is_file():
            lines = [line for line in run.stderr.splitlines() if "Error" in line or "error" in line]
            fix = "see what `python -m tf2onnx.convert` says, or save the model again"
            got = _short("\n".join(lines[-2:]) or "no reason")
            raise ModelError("tf2onnx cannot convert the model.", at=file, got=got, fix=fix)
        try:
            model = from_onnx(target, sizes=sizes)
        except AxiomError as error:
            error.at = f"{file}, as ONNX:\n{error.at}" if error.at else file
            raise
        return replace(model, name=label)


def _short(text: str) -> str:
    return text if len(text) < 400 else text[:397] + "..."
