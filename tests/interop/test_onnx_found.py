"""Models that others made, from packages: they read, and agree with onnxruntime. Named by a variable, or installed."""

import os
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

import axiom_jax as ax

FOLDER = "AXIOM_ONNX_MODELS"
MODELS = {  # file, the package that has it, a shape for its input, and whether that holds ids
    "magika": ("standard_v3_3/model.onnx", "magika", (2, 2048), True),
    "rapidocr-recognition": ("ch_PP-OCRv4_rec_infer.onnx", "rapidocr_onnxruntime", (1, 3, 48, 96), False),
    "rapidocr-direction": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "rapidocr_onnxruntime", (1, 3, 48, 192), False),
    "rapidocr-detection": ("ch_PP-OCRv4_det_infer.onnx", "rapidocr_onnxruntime", (1, 3, 64, 96), False),
}


def found(name: str) -> Path:
    file, package, _, _ = MODELS[name]
    folders = [Path(os.environ[FOLDER])] if FOLDER in os.environ else []
    spec = find_spec(package)
    folders += [Path(place) for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    for folder in folders:
        for path in sorted(folder.rglob(Path(file).name)):
            if str(path).endswith(file):
                return path
    pytest.skip(f"{file} of {package} is neither in the folder that {FOLDER} names nor installed")


@pytest.mark.campaign
@pytest.mark.parametrize("name", MODELS)
def test_a_found_model_agrees_with_onnxruntime(name: str):
    path, (_, _, shape, whole) = found(name), MODELS[name]
    rng = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    x = rng.integers(0, 256, shape).astype(np.int32) if whole else rng.uniform(-1, 1, shape).astype(np.float32)
    model = ax.from_onnx(path, sizes="free")
    got = jax.tree.leaves(jax.jit(model.apply)(model.params, x))
    expected = session.run(None, {entry.name: x})
    for a, b in zip(got, expected, strict=True):
        worst = float(np.max(np.abs(np.asarray(a) - b)))
        print(f"{name}: {np.asarray(a).shape}, largest difference {worst:.2g}")
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
