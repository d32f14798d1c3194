"""Which backends there are: ours and those of installed packages, by the entry-point group `axiom_jax.backends`.

A plugin that cannot be imported, is no `Target` or kills its process is listed with the reason, and does no harm.
"""

import functools
import importlib
import os
from dataclasses import dataclass, replace
from importlib import metadata

from axiom_jax._errors import BackendUnavailable
from axiom_jax._shapes_places import caller
from axiom_jax.targets.probing import probe_apart
from axiom_jax.targets.target import Probe, Target

GROUP = "axiom_jax.backends"
OWN = {  # the same as in pyproject.toml, for a source tree that is not installed
    "xla": "axiom_jax.targets.xla:XLA",
    "cpu": "axiom_jax.targets.xla:CPU",
    "cuda": "axiom_jax.targets.xla:CUDA",
    "rocm": "axiom_jax.targets.xla:ROCM",
    "metal": "axiom_jax.targets.xla:METAL",
    "tpu": "axiom_jax.targets.xla:TPU",
    "pjrt": "axiom_jax.targets.pjrt:PJRT",
    "onnxruntime": "axiom_jax.targets.onnx_runtime:ONNXRUNTIME",
    "openvino": "axiom_jax.targets.openvino:OPENVINO",
    "iree": "axiom_jax.targets.iree:IREE",
    "npu": "axiom_jax.targets.openvino:NPU",
    "dsp": "axiom_jax.targets.onnx_runtime:DSP",
    "fpga": "axiom_jax.targets.fpga:FPGA",
}
AUTO = "auto"


@dataclass(frozen=True)
class Entry:
    """A named backend that is not loaded yet.

    Args:
        value: `module:attribute` of its target.
        package: that brings it.
        what: the part of the name after a colon, as in `pjrt:/path/to/plugin.so`.
    """

    name: str
    value: str
    package: str = "axiom-jax"
    what: str = ""

    @property
    def own(self) -> bool:
        return OWN.get(self.name.partition(":")[0]) == self.value

    def load(self) -> Target:
        """The target; whatever its module raises comes through."""
        module, _, attribute = self.value.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        if not isinstance(target, Target):
            raise TypeError(f"{self.value} is a {type(target).__name__}, not an axiom_jax.targets.target.Target")
        if not self.what:
            return target
        if target.variant is None:
            raise TypeError(f"the backend {target.name} has no variants, so {self.what!r} says nothing")
        return target.variant(self.what)


def entries() -> dict[str, Entry]:
    """Every backend by name: ours first, then those of other packages. A name that is taken is not given twice.

    >>> entries()["xla"].value
    'axiom_jax.targets.xla:XLA'
    """
    found = {name: Entry(name, value) for name, value in OWN.items()}
    for point in metadata.entry_points(group=GROUP):
        package = point.dist.name if point.dist is not None else "unknown package"
        name = point.name if point.value == OWN.get(point.name) or point.name not in OWN else f"{package}/{point.name}"
        found.setdefault(name, Entry(name, point.value, package))
    return found


def entry_of(name: str) -> Entry:
    """The backend of a name.

    Raises:
        BackendUnavailable: there is none.
    """
    known = entries()
    first, _, what = name.partition(":")
    if what and first in known:
        return replace(known[first], name=name, what=what)
    if name not in known:
        raise BackendUnavailable(f"There is no backend {name!r}.", at=caller(), got=f"backend={name!r}",
                                 fix=f"use one of {', '.join([AUTO, *known])}")  # fmt: skip
    return known[name]


def probe(entry: Entry) -> Probe:
    """What is here of a backend; looked up once in a process and environment."""
    return _probed(entry, os.environ.get("JAX_PLATFORMS"), os.environ.get("PJRT_NAMES_AND_LIBRARY_PATHS"))


@functools.lru_cache(maxsize=256)
def _probed(entry: Entry, *environment: str | None) -> Probe:
    if entry.own and (target := entry.load()).safe:
        return target.probe()
    return probe_apart([(entry.value, entry.what, entry.own)])[0]


def require(entry: Entry) -> Target:
    """The target, if it can run here.

    Raises:
        BackendUnavailable: it cannot; with the reason and what to install.
    """
    found = probe(entry)
    if not found.available:
        raise BackendUnavailable(f"The backend {entry.name} cannot run here.", at=caller(), got=found.reason,
                                 fix=found.fix or "use another: axiom backends lists what can run")  # fmt: skip
    return entry.load()
