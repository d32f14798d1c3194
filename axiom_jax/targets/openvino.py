"""OpenVINO: `openvino` on the CPU in float32, `npu` on Intel's NPU in float16. The model goes there as ONNX.

OpenVINO would pick a lower precision where the machine has one; the precision is therefore stated. A network of
known sizes runs faster than one of free sizes, so one is compiled for each batch size and kept.
"""

import functools
import importlib
import sys
import threading
from collections.abc import Mapping
from typing import Any

from axiom_jax.targets.faithful import faithful
from axiom_jax.targets.onnx_form import capabilities, filled, form_of, onnx_bytes
from axiom_jax.targets.onnx_runtime import cores
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

KEPT = 128
NPU_FIX = "a processor with an Intel NPU and its driver (intel-npu-driver), and pip install openvino"


def library() -> Any:
    """The package openvino without its converter, which would report every import to its maker, from a fork of this
    process; a program that imports the converter itself gets it."""
    converter = "openvino.tools.ovc"
    if "openvino" in sys.modules or converter in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[converter] = None  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[converter]


def probe(device: str) -> Probe:
    fix = "pip install openvino" if device == "CPU" else NPU_FIX
    try:
        openvino = library()
    except ImportError as error:
        return Probe(False, str(error), fix=fix)
    core = openvino.Core()
    devices = core.available_devices
    version = openvino.get_version().split("-")[0]
    if device not in devices:
        return Probe(False, f"OpenVINO finds no {device}, only {', '.join(devices)}", version, fix=fix)
    name = core.get_property(device, "FULL_DEVICE_NAME").strip()
    return Probe(True, f"runs on {name}", version, (f"{device} ({name})",))


def executable(device: str, precision: str, payload: bytes, options: Mapping[str, Any]) -> Executable:
    import numpy as np

    openvino = library()
    core, form, graph = openvino.Core(), form_of(payload), faithful(payload)
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = options.get("threads") or cores()
        settings["CPU_DENORMALS_OPTIMIZATION"] = False
    ready: dict[Any, Any] = {}
    lock, own = threading.Lock(), threading.local()

    def prepare(key: Any) -> Any:
        with lock:
            if key not in ready:
                model = core.read_model(graph)
                model.reshape({i: openvino.PartialShape(list(shape)) for i, shape in enumerate(key)})
                if len(ready) >= KEPT:
                    ready.pop(next(iter(ready)))
                ready[key] = core.compile_model(model, device, settings)
        return ready[key]

    def run(*arrays: Any) -> Any:
        key = tuple([x.shape for x in arrays])
        compiled = ready.get(key) or prepare(key)
        requests = own.__dict__  # a request belongs to one thread
        if (held := requests.get("held")) is None:
            held = requests["held"] = {}
        if (request := held.get(compiled)) is None:
            request = held[compiled] = compiled.create_infer_request()
        found = request.infer([np.asarray(x) for x in arrays], share_inputs=True)
        leaves = [found[i] for i in range(len(found))]
        return leaves[0] if form == 0 else filled(form, leaves)

    version = openvino.get_version().split("-")[0]
    facts = {"device": device.lower(), "version": version, "precision": {"f32": "float32", "f16": "float16"}[precision]}
    return Executable(run, lambda: payload, lambda: facts)


def _compile(device: str, precision: str, model: Any, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    return executable(device, precision, onnx_bytes(model, inputs), options)


def _load(device: str, precision: str, payload: bytes, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    return executable(device, precision, payload, options)


def npu_capabilities(model: Any, inputs: Inputs) -> Capabilities:
    return capabilities(model, inputs, "float16")


def _target(name: str, device: str, precision: str, summary: str, able: Any, **more: Any) -> Target:
    part = functools.partial
    return Target(name, summary, part(probe, device), part(_compile, device, precision), part(_load, device, precision),
                  able, **more)  # fmt: skip


OPENVINO = _target("openvino", "CPU", "f32", "Intel's OpenVINO on the CPU", capabilities, measured=True,
                   options={"threads": None})  # fmt: skip
NPU = _target("npu", "NPU", "f16", "Intel's NPU through OpenVINO, in float16", npu_capabilities,
              options={"precision": None})  # fmt: skip
