"""XLA through JAX: `xla` is JAX's default device, `cpu`, `cuda`, `rocm`, `metal` and `tpu` ask for a platform.

One executable is compiled ahead of time for each batch size and kept. Float32 stays float32: where the platform would
multiply in TF32 or bfloat16 by default, matrix products are compiled in "highest" precision, unless
`jax_default_matmul_precision` was set, which is then recorded.
"""

import functools
import threading
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from axiom_jax._errors import ModelError
from axiom_jax._shapes_places import caller
from axiom_jax.targets.caching import cached
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

KEEPING = {"xla_disable_hlo_passes": "algsimp"}  # the pass that replaces operations by others is left out
KEPT = 128  # executables kept a model, one a batch size
PLUGINS = {
    "cuda": "pip install 'jax[cuda13]', and an NVIDIA driver",
    "rocm": "pip install 'jax[rocm]', and AMD's ROCm",
    "metal": "pip install jax-metal, on a Mac with Apple silicon",
    "tpu": "pip install 'jax[tpu]', on a machine with a TPU",
}


def probe(platform: str | None) -> Probe:
    """What JAX finds of a platform; None for its default device."""
    import os

    import jax

    version = f"jax {metadata.version('jax')}, jaxlib {metadata.version('jaxlib')}"
    try:
        devices = jax.devices(platform) if platform else jax.devices()
    except RuntimeError as error:
        allowed = os.environ.get("JAX_PLATFORMS")
        if allowed and platform not in allowed.split(","):
            need = PLUGINS.get((platform or "").lower(), "try again")
            fix = f"unset JAX_PLATFORMS, or set it to {platform},cpu; then {need}"
            return Probe(False, f"JAX_PLATFORMS={allowed} leaves it out", version, (), fix)
        reason = str(error).strip().splitlines()[0]
        if "Unknown backend" in reason or "no platforms" in reason.lower():
            reason = f"JAX has no {platform} plugin, or the plugin finds no device"
        return Probe(False, reason, version, (), PLUGINS.get((platform or "").lower(), "pip install jax"))
    names = tuple(f"{d.platform}:{d.id} ({d.device_kind})" for d in devices)
    return Probe(True, f"runs on {names[0]}", version, names)


def capabilities(model: Any, inputs: Inputs) -> Capabilities:
    return Capabilities((), ("float32", "float16", "bfloat16", "int8", "int32", "uint8", "bool"), False)


def compile(platform: str | None, model: Any, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    """A model on a device; each batch size is compiled when it first comes."""
    import jax

    from axiom_jax._trace import guard_policy

    device = _device(platform)
    on_default = device == jax.devices()[0]
    params = model.params if on_default else jax.device_put(model.params, device)
    keep = bool(options.get("keep_operations"))
    apply = model.apply
    xla_options = faithful_to_nan(device.platform) | dict(options.get("xla", {})) | (KEEPING if keep else {})
    ready: dict[Any, Any] = {}
    lock = threading.Lock()

    def prepare(key: Any) -> Any:
        with lock:
            if key not in ready:
                specs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in key[1]]
                with _precision(device.platform), jax.default_device(device), cached(options.get("cache")):
                    executable = jax.jit(apply).lower(params, *specs).compile(compiler_options=xla_options or None)
                if len(ready) >= KEPT:
                    ready.pop(next(iter(ready)))
                ready[key] = executable
        return ready[key]

    def run(*arrays: Any) -> Any:
        key = guard_policy.value, tuple([(x.shape, x.dtype) for x in arrays])
        executable = ready.get(key) or prepare(key)
        if not on_default:
            arrays = tuple(jax.device_put(x, device) for x in arrays)
        return executable(params, *arrays)

    def facts() -> dict[str, Any]:
        latest = next(reversed(ready.values()), None)
        return {"device": f"{device.platform}:{device.id}", "version": metadata.version("jaxlib"),
                "precision": _precision_text(device.platform), **costs(latest)}  # fmt: skip

    def payload() -> bytes:
        if keep:  # the file holds what goes into the compiler, and would be compiled with other options
            raise ModelError("A model whose operations are kept cannot be saved compiled.", at=caller(),
                             fix="save the model, and compile it with keep_operations=True where it runs")  # fmt: skip
        return exported(model, inputs, platforms)

    platforms = (platform,) if platform in ("cpu", "cuda", "rocm", "tpu") else None
    return Executable(run, payload, facts)


def faithful_to_nan(platform: str) -> dict[str, Any]:
    """The compiler's options under which maxima and minima carry NaN; on CPUs it may drop them by default."""
    return {"xla_cpu_enable_fast_min_max": False} if platform == "cpu" else {}


def costs(executable: Any) -> dict[str, Any]:
    """FLOPs, bytes accessed and memory of a compiled XLA program, where XLA tells them."""
    if executable is None:
        return {}
    found: dict[str, Any] = {}
    cost, memory = executable.cost_analysis(), executable.memory_analysis()
    if cost:
        found |= {"flops": cost.get("flops"), "bytes": cost.get("bytes accessed")}
    if memory is not None:
        parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
        found["memory"] = sum(getattr(memory, part, 0) for part in parts)
    return {name: int(value) for name, value in found.items() if value is not None}


def exported(model: Any, inputs: Inputs, platforms: tuple[str, ...] | None = None) -> bytes:
    """A model with its weights as serialised StableHLO, for every batch size.

    Args:
        platforms: that it is meant for; None for JAX's default.

    Source: jax.export; JAX promises to read it for six months.
    """
    import jax

    params = model.params
    function = jax.jit(lambda *arrays: model.apply(params, *arrays))
    with _precision(platforms[0] if platforms else jax.default_backend()):
        whole = jax.export.export(function, platforms=platforms,
                                  disabled_checks=[jax.export.DisabledSafetyCheck.platform()])  # fmt: skip
        return bytes(whole(*specs(inputs, model.signature.constraints)).serialize())


def specs(inputs: Inputs, constraints: tuple[str, ...] = ()) -> list[Any]:
    """The inputs with symbolic sizes where they are named."""
    import jax

    from axiom_jax._shapes_annotations import Annotation, names, symbols, value

    annotations = [Annotation("Shaped", tuple(map(str, shape))) for _, shape, _ in inputs]
    sizes = symbols(names(annotations), constraints)
    shapes = [tuple(value(token, sizes) for token in annotation.dims) for annotation in annotations]
    return [jax.ShapeDtypeStruct(shape, dtype) for shape, (_, _, dtype) in zip(shapes, inputs, strict=True)]


def load(platform: str | None, payload: bytes, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    """The way back from `exported`; it is compiled here, with the same options."""
    import jax

    device = _device(platform)
    called = jax.export.deserialize(bytearray(payload)).call
    xla_options = faithful_to_nan(device.platform) | dict(options.get("xla", {}))
    function = jax.jit(called, compiler_options=xla_options)

    def run(*arrays: Any) -> Any:
        with jax.default_device(device):
            return function(*arrays)

    facts = {"device": f"{device.platform}:{device.id}", "version": metadata.version("jaxlib"),
             "precision": _precision_text(device.platform)}  # fmt: skip
    return Executable(run, lambda: payload, lambda: facts)


def _device(platform: str | None) -> Any:
    import jax

    return (jax.devices(platform) if platform else jax.devices())[0]


def _precision(platform: str) -> Any:
    """The precision of matrix products while a model is traced; CPUs have one only."""
    import contextlib

    import jax

    chosen = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    exact = platform == "cpu" or chosen is not None
    return contextlib.nullcontext() if exact else jax.default_matmul_precision("highest")


def _precision_text(platform: str) -> str:
    import jax

    chosen = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    if platform == "cpu":
        return "float32"
    return f"float32, matrix products in {chosen or 'highest'} precision"


def _target(name: str, platform: str | None, summary: str) -> Target:
    part, options = functools.partial, {"xla": {}, "cache": None, "keep_operations": False}
    return Target(name, summary, part(probe, platform), part(compile, platform), part(load, platform), capabilities,
                  measured=name == "xla", safe=True, options=options)  # fmt: skip


XLA = _target("xla", None, "JAX's own compiler on JAX's default device")
CPU = _target("cpu", "cpu", "XLA on the CPU")
CUDA = _target("cuda", "cuda", "XLA on NVIDIA GPUs")
ROCM = _target("rocm", "rocm", "XLA on AMD GPUs")
METAL = _target("metal", "METAL", "XLA on Apple GPUs")
TPU = _target("tpu", "tpu", "XLA on Google TPUs")
