"""IREE: StableHLO compiled to native code for the CPU, run by a small runtime.

The model goes there as `jax.export` writes it; weights are arguments that stay on the device. One module is compiled
for each batch size and kept. Compiling takes seconds, so `backend="auto"` does not try it.
"""

import io
import json
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from axiom_jax._errors import AxiomError, BackendUnavailable
from axiom_jax._shapes_places import caller
from axiom_jax.targets.onnx_form import filled, read, told
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

KEPT = 128
FIX = "pip install iree-base-compiler iree-base-runtime"
FLAGS = ("--iree-llvmcpu-target-cpu=host",)


def probe() -> Probe:
    try:
        import iree.compiler  # pyright: ignore[reportMissingImports]
        import iree.runtime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return Probe(False, str(error), fix=FIX)
    version = metadata.version("iree-base-compiler")
    if "llvm-cpu" not in iree.compiler.query_available_targets():
        return Probe(False, "its compiler has no llvm-cpu target", version, fix=FIX)
    devices = tuple(device["device_id"] for device in iree.runtime.get_driver("local-task").query_available_devices())
    return Probe(True, "runs on the CPU (local-task)", version, tuple(f"local-task:{d}" for d in devices))


@dataclass(eq=False)
class Modules:
    """A model in IREE: its weights on the device, and a module for each shape that has come.

    Args:
        weights: as arrays of the host.
        code: the compiled module and the form of its outputs, by the shapes and dtypes of the inputs.
        make: compiles for new shapes; None where the model itself is not there.
    """

    weights: list[Any]
    code: dict[str, tuple[bytes, Any]]
    make: Callable[[Any], tuple[bytes, Any]] | None

    def executable(self) -> Executable:
        import iree.runtime as runtime  # pyright: ignore[reportMissingImports]
        import numpy as np

        config = runtime.Config("local-task")
        placed = [runtime.asdevicearray(config.device, leaf) for leaf in self.weights]
        ready: dict[Any, Any] = {}
        lock = threading.Lock()

        def prepare(key: Any) -> Any:
            text = json.dumps([[list(shape), str(dtype)] for shape, dtype in key])
            if text not in self.code:
                self.code[text] = self._made(key)
            code, form = self.code[text]
            context = runtime.SystemContext(config=config)
            module = runtime.VmModule.copy_buffer(context.instance, code)
            context.add_vm_module(module)
            ready[key] = context.modules[module.name]["main"], form
            return ready[key]

        def run(*arrays: Any) -> Any:
            key = tuple([(x.shape, x.dtype) for x in arrays])
            with lock:  # a module's context serves one call at a time
                main, form = ready.get(key) or prepare(key)
                found = main(*placed, *(np.ascontiguousarray(x).reshape(x.shape) for x in arrays))
                leaves = [x.to_host() for x in (found if isinstance(found, (list, tuple)) else [found])]
            return filled(form, leaves)

        facts = {"device": "cpu (local-task)", "version": metadata.version("iree-base-runtime"), "precision": "float32"}
        return Executable(run, self.packed, lambda: facts)

    def _made(self, key: Any) -> tuple[bytes, Any]:
        if self.make is None:
            known = "; ".join(self.code)
            asked = json.dumps([[list(shape), str(dtype)] for shape, dtype in key])
            raise BackendUnavailable("This compiled model holds no code for such inputs.", at=caller(),
                                     got=f"{asked}; has {known}",
                                     fix="call it with these shapes before it is saved")  # fmt: skip
        if len(self.code) >= KEPT:
            self.code.pop(next(iter(self.code)))
        return self.make(key)

    def packed(self) -> bytes:
        """Weights and compiled modules in one zip; what was never called is not in it."""
        import numpy as np

        if not self.code:
            raise AxiomError("There is no compiled code to save yet.", at=caller(), fix="call the compiled model first")
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for i, leaf in enumerate(self.weights):
                part = io.BytesIO()
                np.save(part, leaf, allow_pickle=False)
                archive.writestr(f"weight/{i}", part.getvalue())
            for i, (_, (code, _)) in enumerate(self.code.items()):
                archive.writestr(f"module/{i}", code)
            described = [[key, told(form)] for key, (_, form) in self.code.items()]
            archive.writestr("modules.json", json.dumps([len(self.weights), described]))
        return file.getvalue()


def load(payload: bytes, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    """The way back; the code was compiled with the options already."""
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        count, described = json.loads(archive.read("modules.json"))
        weights = [np.load(io.BytesIO(archive.read(f"weight/{i}")), allow_pickle=False) for i in range(count)]
        code = {key: (archive.read(f"module/{i}"), read(form)) for i, (key, form) in enumerate(described)}
    return Modules(weights, code, None).executable()


def _compiled(module: bytes, options: Mapping[str, Any]) -> bytes:
    import iree.compiler as compiler  # pyright: ignore[reportMissingImports]

    flags = [*FLAGS, *options.get("flags", ())]
    try:
        code = compiler.compile_str(module, target_backends=["llvm-cpu"], input_type="stablehlo", extra_args=flags)
        return bytes(code or b"")
    except compiler.CompilerToolError as error:
        said = [line for line in str(error).splitlines() if "error:" in line]
        raise BackendUnavailable("IREE cannot compile this model.", got=(said or ["no reason given"])[0].strip(),
                                 fix="use backend='xla', which runs every model") from error  # fmt: skip


def compile(model: Any, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
    import jax
    import numpy as np

    leaves, tree = jax.tree.flatten(model.params)
    weights, apply = [np.asarray(leaf) for leaf in leaves], model.apply

    def function(held: Any, *arrays: Any) -> Any:
        return apply(jax.tree.unflatten(tree, held), *arrays)

    def make(key: Any) -> tuple[bytes, Any]:
        specs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in key]
        called = jax.jit(lambda held, *arrays: jax.tree.leaves(function(held, *arrays)), keep_unused=True)
        module = jax.export.export(called, platforms=["cpu"])(weights, *specs).mlir_module_serialized
        form = jax.tree.structure(jax.eval_shape(function, weights, *specs))
        return _compiled(module, options), jax.tree.unflatten(form, range(form.num_leaves))

    return Modules(weights, {}, make).executable()


def capabilities(model: Any, inputs: Inputs) -> Capabilities:
    return Capabilities((), ("float32", "float16", "int8", "int32", "uint8", "bool"), False)


IREE = Target("iree", "IREE's compiler and runtime on the CPU", probe, compile, load, capabilities,
              options={"flags": ()})  # fmt: skip
