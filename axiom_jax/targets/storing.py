"""Compiled models as files: a zip of a manifest and the backend's own bytes, with their hash. No pickle."""

import hashlib
import json
import os
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import ModelError
from axiom_jax.targets import registry

if TYPE_CHECKING:
    from axiom_jax.targets.compiling import Compiled

FORMAT = "axiom.compiled.v1"


def write(compiled: "Compiled", path: str | os.PathLike[str]) -> None:
    """Write a compiled model; the file is put in place whole or not at all."""
    payload = compiled.executable.payload()
    manifest = {"format": FORMAT, "name": compiled.name, "backend": compiled.backend, "record": compiled.record,
                "inputs": compiled.inputs, "sha256": hashlib.sha256(payload).hexdigest()}  # fmt: skip
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".compiled-")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            archive.writestr("payload", payload)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: str | os.PathLike[str]) -> "Compiled":
    """The way back from `write`."""
    from axiom_jax.targets.compiling import Compiled

    manifest, payload = _content(os.fspath(path))
    inputs = tuple((str(name), tuple(shape), str(dtype)) for name, shape, dtype in manifest["inputs"])
    target = registry.require(registry.entry_of(manifest["backend"]))
    try:
        executable = target.load(payload, inputs)
    except Exception as error:
        got = str(error).strip().partition("\n")[0]
        raise ModelError(f"The backend {target.name} cannot read this compiled model.", at=os.fspath(path), got=got,
                         fix="compile the model again") from error  # fmt: skip
    record = manifest["record"] | {"reason": f"it was compiled for it: {os.path.basename(path)}"}
    facts = executable.facts()
    record |= {key: facts[key] for key in ("precision", "device", "version") if key in facts}
    return Compiled(manifest["name"], record, inputs, executable)


def _content(path: str) -> tuple[dict[str, Any], bytes]:
    fix = "write it again with compiled.save"
    try:
        with zipfile.ZipFile(path) as archive:
            manifest, payload = json.loads(archive.read("manifest.json")), archive.read("payload")
        form, digest = manifest["format"], manifest["sha256"]
        [manifest[key] + "" for key in ("name", "backend")]
        [(name + "", tuple(shape), dtype + "") for name, shape, dtype in manifest["inputs"]]
        dict(manifest["record"])
    except FileNotFoundError:
        fix = "give the path of a file that compiled.save wrote"
        raise ModelError("There is no such file.", at=path, fix=fix) from None
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise ModelError("This is no compiled model.", at=path, got=got, fix=fix) from error
    if form != FORMAT:
        raise ModelError("This compiled model has another format.", at=path, got=f"{form}; expected {FORMAT}", fix=fix)
    if digest != hashlib.sha256(payload).hexdigest():
        what = "This compiled model is damaged: its bytes do not have the hash that it states."
        raise ModelError(what, at=path, fix=fix)
    return manifest, payload
