"""Any PJRT plugin, in a process of its own.

`pjrt:NAME` or `pjrt:/path/to/plugin.so`. JAX takes plugins only before it first runs, and a bad one kills its process;
so a worker process starts JAX with the plugin alone, gets the model as StableHLO, and answers calls over a pipe.
Source: the PJRT plugin mechanism of JAX, https://docs.jax.dev, PJRT_NAMES_AND_LIBRARY_PATHS.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from axiom_jax._errors import BackendUnavailable
from axiom_jax.targets.target import Capabilities, Executable, Inputs, Probe, Target

GROUPS = ("jax_plugins", "xla_plugins")  # the entry-point groups in which packages name their plugins
VARIABLE = "PJRT_NAMES_AND_LIBRARY_PATHS"
PLATFORM = "axiom_pjrt"  # what the plugin is called in the worker
SECONDS = 60.0  # for the worker to start
FIX = "install a PJRT plugin, or name its library: backend='pjrt:/path/to/plugin.so'"


def libraries() -> dict[str, str]:
    """The libraries of PJRT plugins by name: of installed packages, and of the environment variable."""
    found: dict[str, str] = {}
    for group in GROUPS:
        for point in metadata.entry_points(group=group):
            if library := _in_package(point.module):
                found[point.name] = library
    for pair in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, path = pair.partition(":")
        found[name] = path
    return found


def _in_package(name: str) -> str | None:
    """The library in a package's folder, without importing the package."""
    try:
        place = util.find_spec(name)
    except (ImportError, ValueError):
        return None
    folders = [Path(folder) for folder in (place.submodule_search_locations or ())] if place else []
    found = sorted(path for folder in folders for path in folder.glob("*pjrt*.so"))
    return str(found[0]) if found else None


def variant(what: str) -> Target:
    """The target of one plugin.

    Args:
        what: a path, a name that `libraries` lists, or a package that holds a library.
    """

    def library() -> str | None:
        if os.sep in what or what.endswith((".so", ".dylib", ".dll")):
            return os.path.abspath(what) if os.path.exists(what) else None
        return libraries().get(what) or _in_package(what)

    return _target(f"pjrt:{what}", f"the PJRT plugin {what}", library)


def _only() -> str | None:
    known = libraries()
    return next(iter(known.values())) if len(known) == 1 else None


def _target(name: str, summary: str, library: Any) -> Target:
    def probe() -> Probe:
        """Starts JAX with the plugin in this process, which therefore is not the user's."""
        path = library()
        if path is None:
            known = ", ".join(libraries())
            reason = f"name one of {known}" if known else "no such PJRT plugin is found here"
            return Probe(False, reason, fix=f"backend='pjrt:{next(iter(libraries()))}'" if known else FIX)
        os.environ |= _environment(path)
        import jax

        devices = jax.devices()
        names = tuple(f"{d.platform}:{d.id} ({d.device_kind})" for d in devices)
        version = getattr(devices[0].client, "platform_version", "").splitlines()[:1]
        return Probe(True, f"{os.path.basename(path)} in a process of its own", " ".join(version) or None, names)

    def compile(model: Any, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
        from axiom_jax.targets.xla import exported

        worker = _start(name, library())
        platform = worker.platform if worker.platform in ("cuda", "rocm", "tpu") else "cpu"
        return _executable(worker, exported(model, inputs, (platform,)))

    def load(payload: bytes, inputs: Inputs, options: Mapping[str, Any]) -> Executable:
        return _executable(_start(name, library()), payload)

    return Target(name, summary, probe, compile, load, _capabilities, variant=variant)


def _capabilities(model: Any, inputs: Inputs) -> Capabilities:
    if not inputs:
        return Capabilities(("the shape of the input is not known: give example=",))
    return Capabilities((), ("float32", "float16", "bfloat16", "int8", "int32", "uint8", "bool"), False)


def _environment(library: str) -> dict[str, str]:
    return {VARIABLE: f"{PLATFORM}:{library}", "JAX_PLATFORMS": PLATFORM, "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(eq=False)
class Worker:
    """A process that runs one model on a plugin; calls take turns."""

    name: str
    process: "subprocess.Popen[bytes]"
    errors: Any
    lock: threading.Lock
    platform: str = ""
    version: str = ""

    def ask(self, header: dict[str, Any], *blocks: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """One question and its answer.

        Raises:
            BackendUnavailable: the process has ended, or could not do it.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            with self.lock:
                send(self.process.stdin, header, *blocks)
                answer, parts = receive(self.process.stdout)
        except (OSError, EOFError, ValueError):
            raise self._ended() from None
        if "error" in answer:
            raise BackendUnavailable(f"The backend {self.name} cannot run this model.", got=answer["error"],
                                     fix="use backend='xla', which runs every model")  # fmt: skip
        return answer, parts

    def _ended(self) -> BackendUnavailable:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        said = []
        if not self.errors.closed:
            self.errors.seek(0)
            said = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        got = f"status {self.process.poll()}{': ' + said[-1][:200] if said else ''}"
        return BackendUnavailable(f"The process of the backend {self.name} has ended.", got=got,
                                  fix="compile the model again, or use another backend")  # fmt: skip


def _start(name: str, library: str | None) -> Worker:
    if library is None:
        raise BackendUnavailable(f"The backend {name} cannot run here.", got="its library is not found", fix=FIX)
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    environment = os.environ | _environment(library) | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    errors = tempfile.TemporaryFile()
    code = "from axiom_jax.targets.pjrt_worker import serve; serve()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
    )
    worker = Worker(name, process, errors, threading.Lock())
    weakref.finalize(worker, _stop, process, errors)
    late = threading.Timer(SECONDS, process.kill)
    late.start()
    try:
        answer, _ = worker.ask({"do": "hello"})
    finally:
        late.cancel()
    worker.platform, worker.version = answer["platform"], answer["version"]
    return worker


def _stop(process: "subprocess.Popen[bytes]", errors: Any) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError, AttributeError):
            pipe.close()  # pyright: ignore[reportOptionalMemberAccess]
    process.kill()
    process.wait()
    errors.close()


def _executable(worker: Worker, payload: bytes) -> Executable:
    import jax
    import numpy as np

    tree = jax.export.deserialize(bytearray(payload)).out_tree
    worker.ask({"do": "load"}, payload)

    def run(*inputs: Any) -> Any:
        arrays = [np.ascontiguousarray(x).reshape(x.shape) for x in inputs]
        header = {"do": "run", "arrays": [[list(x.shape), str(x.dtype)] for x in arrays]}
        answer, blocks = worker.ask(header, *(x.tobytes() for x in arrays))
        return jax.tree.unflatten(tree, unpacked(answer["arrays"], blocks))

    facts = {"device": f"{worker.platform} ({worker.name})", "version": worker.version, "precision": "float32"}
    return Executable(run, lambda: payload, lambda: facts, lambda: _stop(worker.process, worker.errors))


def unpacked(described: Any, blocks: list[bytes]) -> list[Any]:
    """Arrays of their bytes, as the other process describes them."""
    import jax.numpy as jnp
    import numpy as np

    return [np.frombuffer(bytearray(block), jnp.dtype(dtype)).reshape(shape)
            for (shape, dtype), block in zip(described, blocks, strict=True)]  # fmt: skip


def send(pipe: Any, header: dict[str, Any], *blocks: bytes) -> None:
    """A message: the length of its header, the header in JSON with the lengths of the blocks, the blocks."""
    text = json.dumps(header | {"lengths": [len(block) for block in blocks]}).encode()
    pipe.write(len(text).to_bytes(8, "little") + text)
    for block in blocks:
        pipe.write(block)
    pipe.flush()


def receive(pipe: Any) -> tuple[dict[str, Any], list[bytes]]:
    """A message of the other side; raises `EOFError` where it has ended."""
    header = json.loads(_exactly(pipe, int.from_bytes(_exactly(pipe, 8), "little")))
    return header, [_exactly(pipe, length) for length in header["lengths"]]


def _exactly(pipe: Any, length: int) -> bytes:
    data = pipe.read(length)
    if len(data) != length:
        raise EOFError("the other process has ended")
    return data


PJRT = _target("pjrt", "a PJRT plugin, in a process of its own (pjrt:NAME or pjrt:/path/plugin.so)", _only)
