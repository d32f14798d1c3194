"""FPGAs: what would be needed, and why nothing runs. Networks go there quantised, so an FPGA never holds float32."""

import shutil
from collections.abc import Mapping
from importlib import metadata, util
from typing import Any, NoReturn

from axiom_jax._errors import BackendUnavailable
from axiom_jax._shapes_places import caller
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

TOOLS = ("vitis_hls", "vitis-run", "v++")
FIX = "write it with ax.to_onnx(model, 'model.onnx'), then use hls4ml and Vitis by hand"


def probe() -> Probe:
    """hls4ml and Vitis synthesise a bitstream in hours, for one board: no call of a function can do it."""
    module = util.find_spec("hls4ml")
    tool = next((name for name in TOOLS if shutil.which(name)), None)
    version = metadata.version("hls4ml") if module else None
    absent = [name for name, there in (("the package hls4ml", module), ("AMD's Vitis HLS", tool)) if not there]
    what = f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not installed; " if absent else ""
    reason = f"{what}a bitstream is synthesised for one board in hours, and quantised: it has to be made by hand"
    return Probe(False, reason, version, fix=FIX)


def _refused() -> NoReturn:
    found = probe()
    raise BackendUnavailable("The backend fpga cannot run here.", at=caller(), got=found.reason, fix=found.fix)


def compile(model: Any, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    _refused()


def load(payload: bytes, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    _refused()


def capabilities(model: Any, inputs: Inputs) -> Capabilities:
    return Capabilities(("floating-point arithmetic: FPGAs take quantised networks",), ("int8",), False, "int8")


FPGA = Target("fpga", "AMD FPGAs through hls4ml and Vitis", probe, compile, load, capabilities)
