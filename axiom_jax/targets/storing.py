"""Compiled models as files: a zip of a manifest and the backend's own bytes, with their hash. No pickle."""

import hashlib
import json
import os
import tempfile
import zipfile
from math import isfinite
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import ModelError
from axiom_jax._shapes_places import caller
from axiom_jax.targets import registry

if TYPE_CHECKING:
    from axiom_jax.targets.compiling import Compiled

FORMAT = "axiom.compiled.v1"


def write(compiled: "Compiled", path: str | os.PathLike[str]) -> None:
    """Write a compiled model; the file is put in place whole or not at all."""
    payload = compiled.executable.payload()
    if lost := [key for key, value in compiled.record.get("options", {}).items() if not _holds(value)]:
        raise ModelError("The options of a compiled model cannot be kept in a file.", at=caller(),
                         got=f"{lost[0]} is no text, number, list or map",
                         fix="save the model, and compile it with these options where it runs")  # fmt: skip
    manifest = {"format": FORMAT, "name": compiled.name, "backend": compiled.backend, "record": compiled.record,
                "inputs": compiled.inputs, "sha256": hashlib.sha256(payload).hexdigest()}  # fmt: skip
    folder, temporary = os.path.dirname(os.path.abspath(path)), None
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".compiled-")
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            archive.writestr("payload", payload)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise ModelError("The compiled model cannot be written.", at=os.fspath(path), got=error.strerror or str(error),
                         fix="name a file in a folder that exists and is writable") from error  # fmt: skip
    finally:
        if temporary is not None:
            os.unlink(temporary)


def _holds(value: Any) -> bool:
    """Whether JSON gives a value back as it was; tuples come back as lists."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _holds(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_holds, value))
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and isfinite(value))


def read(path: str | os.PathLike[str]) -> "Compiled":
    """The way back from `write`."""
    from axiom_jax.targets.compiling import Compiled

    manifest, payload = _content(os.fspath(path))
    inputs = tuple((str(name), tuple(shape), str(dtype)) for name, shape, dtype in manifest["inputs"])
    target = registry.require(registry.entry_of(manifest["backend"]))
    options = manifest["record"].get("options", {})
    if unknown := [key for key in options if key not in target.options]:
        raise ModelError("This compiled model has an option that its backend does not know.", at=os.fspath(path),
                         got=f"{target.name} has no option {unknown[0]!r}", fix="compile the model again")  # fmt: skip
    try:
        executable = target.load(payload, inputs, {**target.options, **options})
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
        dict(dict(manifest["record"]).get("options", {}))
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
