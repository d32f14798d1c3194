"""ONNX Runtime: `onnxruntime` on the CPU in float32, `dsp` on Qualcomm's Hexagon by its QNN execution provider."""

import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from axiom_jax.targets.faithful import faithful
from axiom_jax.targets.onnx_form import capabilities, filled, form_of, onnx_bytes
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

QNN = "QNNExecutionProvider"
DSP_FIX = "on a Snapdragon machine: pip install onnxruntime-qnn, which carries Qualcomm's QNN SDK libraries"


def probe() -> Probe:
    try:
        import onnxruntime
    except ImportError as error:
        return Probe(False, str(error), fix="pip install onnxruntime")
    return Probe(True, "runs on the CPU", onnxruntime.__version__, ("CPUExecutionProvider",))


def probe_dsp() -> Probe:
    try:
        import onnxruntime
    except ImportError as error:
        return Probe(False, str(error), fix=DSP_FIX)
    providers = tuple(onnxruntime.get_available_providers())
    if QNN not in providers:
        reason = f"onnxruntime has no {QNN} here, only {', '.join(providers)}"
        return Probe(False, reason, onnxruntime.__version__, fix=DSP_FIX)
    return Probe(True, "runs on Hexagon (QNN HTP)", onnxruntime.__version__, (QNN,))


def session(payload: bytes, threads: int | None, providers: Sequence[Any], config: Mapping[str, str]) -> Any:
    """An inference session on all cores that this process may use, unless told otherwise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(payload, options, providers=list(providers))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def executable(payload: bytes, session: Any, precision: str, device: str) -> Executable:
    import numpy as np

    form = form_of(payload)
    names = [node.name for node in session.get_inputs()]
    invoke = session.run  # one run may be in flight in each thread

    def run(*arrays: Any) -> Any:
        leaves = invoke(None, {name: np.asarray(x) for name, x in zip(names, arrays, strict=True)})
        return leaves[0] if form == 0 else filled(form, leaves)

    facts = {"device": device, "version": metadata.version("onnxruntime"), "precision": precision}
    return Executable(run, lambda: payload, lambda: facts)


def _on_cpu(payload: bytes, options: Mapping[str, Any]) -> Executable:
    # subnormal numbers stay as they are; threads that spin while they wait would take the cores of JAX and of others
    spin = str(int(options.get("spin", False)))
    config = {"session.set_denormal_as_zero": "0", "session.intra_op.allow_spinning": spin}
    graph = faithful(payload, ("MaxPool",), rarely=True)
    made = session(graph, options.get("threads"), ["CPUExecutionProvider"], config)
    return executable(payload, made, "float32", "cpu")


def _on_dsp(payload: bytes, options: Mapping[str, Any]) -> Executable:
    providers = [(QNN, {"backend_path": options.get("library", "libQnnHtp.so"), "enable_htp_fp16_precision": "1"})]
    made = session(payload, options.get("threads"), providers, {"session.disable_cpu_ep_fallback": "1"})
    return executable(payload, made, "float16", "dsp")


def dsp_capabilities(model: Any, inputs: Inputs) -> Capabilities:
    return capabilities(model, inputs, "float16")


ONNXRUNTIME = Target(
    "onnxruntime", "Microsoft's ONNX Runtime on the CPU", probe,
    lambda model, inputs, options: _on_cpu(onnx_bytes(model, inputs), options),
    lambda payload, inputs, options: _on_cpu(payload, options),
    capabilities, measured=True, options={"threads": None, "spin": False},
)  # fmt: skip
DSP = Target(
    "dsp", "Qualcomm's Hexagon through ONNX Runtime's QNN provider, in float16", probe_dsp,
    lambda model, inputs, options: _on_dsp(onnx_bytes(model, inputs), options),
    lambda payload, inputs, options: _on_dsp(payload, options),
    dsp_capabilities, options={"threads": None, "precision": None, "library": "libQnnHtp.so"},
)  # fmt: skip
