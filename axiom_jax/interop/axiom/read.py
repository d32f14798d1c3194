"""Reading a `.axiom` file: every hash is compared, then the model is built from names that are known."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import AxiomError, ModelError
from axiom_jax.interop.axiom.graph import WEIGHTS, put_tensors
from axiom_jax.interop.axiom.manifest import NAME, Manifest, parse_manifest
from axiom_jax.interop.axiom.tensors import on_device, read_tensors, unflatten
from axiom_jax.interop.axiom.zip import read_zip

if TYPE_CHECKING:
    from axiom_jax.model import Model
    from axiom_jax.verification.proof.certificate import Certificate

MANIFEST, GRAPH, CERTIFICATES = "manifest.json", "graph.onnx", "certificates/"
AGAIN = "save the model again with ax.save_model"
ROWS, SIZES = 2, (8, 16, 32, 64, 128, 256)  # of the batch, and of other free axes, where a model is traced
Array = tuple[str, tuple[int | str, ...], str]  # a line of a signature


@dataclass(frozen=True)
class AxiomFile:
    """What lies in a `.axiom` file.

    Args:
        manifest: as it is written. members: the other members, by name. name: of the file, for messages.
    """

    manifest: Manifest
    members: dict[str, bytes]
    name: str

    @property
    def digest(self) -> str:
        """The model's sha256: architecture, signature and weights; certificates and metadata do not count."""
        return self.manifest.digest

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return read_tensors(self.members[WEIGHTS], self.name)

    @property
    def certificates(self) -> "tuple[Certificate, ...]":
        """The certificates inside, as they are: `ax.check_certificate` judges them."""
        from axiom_jax.verification.proof.certificate import Certificate, certificate_of

        names = sorted(name for name in self.members if name.startswith(CERTIFICATES))
        found = (certificate_of(self.members[name], f"{self.name}: {name}") for name in names)
        return tuple(certificate for certificate in found if isinstance(certificate, Certificate))


def read_axiom(path: str | os.PathLike[str] | bytes) -> AxiomFile:
    """A `.axiom` file with its manifest; every hash is compared, and no model is built.

    Raises:
        ModelError: as for `load_model`.
    """
    if isinstance(path, bytes):
        content, file = path, "model.axiom"
    else:
        file = os.fspath(path)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ModelError(f"The model cannot be read: {error.strerror or error}.", at=file,
                             fix="give the path of an .axiom file") from error  # fmt: skip
    members = read_zip(content, file)
    if MANIFEST not in members:
        raise ModelError("The file has no manifest.", at=file, got=", ".join(sorted(members))[:200],
                         fix="give a file that ax.save_model wrote")  # fmt: skip
    manifest = parse_manifest(members.pop(MANIFEST), file)
    _require_members(manifest, members, file)
    return AxiomFile(manifest, members, file)


def _require_members(manifest: Manifest, members: Mapping[str, bytes], file: str) -> None:
    """Exactly the members that the manifest names, with exactly their bytes."""
    fix = "fetch the file again, or save it again with ax.save_model"
    if wrong := sorted(manifest.members.keys() ^ members.keys()):
        word = "lacks" if wrong[0] in manifest.members else "has a member that its manifest does not name:"
        raise ModelError(f"The file {word} {wrong[0]}.", at=file, fix=fix)
    for name, content in sorted(members.items()):
        if manifest.members[name] != (found := hashlib.sha256(content).hexdigest()):
            raise ModelError(f"The member {name} is not the one that was saved: its sha256 differs.", at=file,
                             got=f"{found[:16]}…; expected {manifest.members[name][:16]}…", fix=fix)  # fmt: skip
    kind = manifest.architecture["kind"]
    expected = {WEIGHTS} | ({GRAPH} if kind == "graph" else set())
    others = {name for name in members if not name.startswith(CERTIFICATES)}
    listed = {line["member"] for line in manifest.certificates}
    if wrong := sorted(listed ^ (members.keys() - others)):
        raise ModelError("The manifest lists other certificates than the file has.", at=file, got=wrong[0], fix=fix)
    if others != expected:
        raise ModelError(f"A model of the architecture {kind!r} has the members {', '.join(sorted(expected))}.",
                         at=file, got=", ".join(sorted(others)), fix=fix)  # fmt: skip


def build_model(found: AxiomFile, layers: Mapping[str, Any]) -> "Model":
    """The model of a file that was read; see `load_model`."""
    manifest, file = found.manifest, found.name
    tensors = found.tensors
    dtypes = {key: tensor.dtype.name for key, tensor in tensors.items()}
    if dtypes != manifest.dtypes:
        raise ModelError("The weights are not those that the manifest lists.", at=file,
                         got=", ".join(sorted(dtypes.keys() ^ manifest.dtypes.keys()))[:200] or "other dtypes",
                         fix=AGAIN)  # fmt: skip
    try:
        if manifest.architecture["kind"] == "graph":
            return _from_graph(found, tensors)
        return _from_layers(found, tensors, layers)
    except AxiomError as error:
        if isinstance(error, ModelError):
            raise
        what = f"The layers, the weights and the signature do not fit together: {error.what}"
        raise ModelError(what, at=file, got=error.got, fix=AGAIN) from error
    except (RecursionError, MemoryError, OverflowError) as error:
        raise ModelError("The model is too deep or too large to be built.", at=file,
                         got=type(error).__name__) from error  # fmt: skip


def _from_layers(found: AxiomFile, tensors: Mapping[str, np.ndarray], layers: Mapping[str, Any]) -> "Model":
    from axiom_jax.interop.axiom.layers import rebuild
    from axiom_jax.model import Model

    manifest, file = found.manifest, found.name
    if missing := [name for name in manifest.architecture["given"] if name not in layers]:
        given = ", ".join(f'"{name}": {name}' for name in missing)
        raise ModelError(f"The model is made of layers or functions of your own: {', '.join(missing)}.", at=file,
                         got=f"layers={{{', '.join(layers)}}}" if layers else "no layers",
                         fix=f"ax.load_model(path, layers={{{given}}})")  # fmt: skip
    chain = rebuild(manifest.architecture["layers"], layers, file)
    arrays = {key: on_device(tensor) for key, tensor in tensors.items()}
    params = unflatten(arrays, manifest.empty, file)
    model = Model(chain, params, manifest.signature, manifest.name, manifest.source)
    if not isinstance(params, dict) or not set(params) <= set(chain.names):
        raise ModelError("The weights are not those of the layers.", at=file, fix=AGAIN)
    for name, layer in zip(chain.names, chain.layers, strict=True):
        _require_shapes(name, layer, params.get(name, {}), file)
    _require_signature(model, file)
    return model


def _require_shapes(name: str, layer: Any, params: Any, file: str) -> None:
    """A layer's weights have the names and shapes of those that it draws; dtypes may have been changed."""
    import jax

    try:
        drawn = jax.eval_shape(layer.init, jax.eval_shape(lambda: jax.random.key(0)))
    except AxiomError:  # a model inside a layer does not draw
        return
    except Exception as error:  # whatever a constructor below does with sizes that make no sense
        raise ModelError(f"The layer {name} cannot be made.", at=file, got=f"{type(error).__name__}: {error}"[:200],
                         fix=AGAIN) from error  # fmt: skip
    expected, found = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape)
         for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (drawn, params)
    )  # fmt: skip
    if expected != found:
        key = min(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        got = f"{name}/{key}: {found.get(key, 'nothing')}; expected {expected.get(key, 'nothing')}"
        raise ModelError("The weights do not fit the layers.", at=file, got=got, fix=AGAIN)


def _from_graph(found: AxiomFile, tensors: Mapping[str, np.ndarray]) -> "Model":
    from axiom_jax.interop.onnx.reader import from_onnx

    manifest = found.manifest
    read = from_onnx(put_tensors(found.members[GRAPH], tensors, found.name), sizes="free")
    graph = replace(read.apply, file=found.name)  # type: ignore[type-var]
    model = replace(read, apply=graph, signature=manifest.signature, name=manifest.name, source=manifest.source)
    for side in ("inputs", "outputs"):
        stated, true = getattr(model.signature, side), getattr(read.signature, side)
        if len(stated) != len(true) or not all(starmap(_agrees, zip(stated, true, strict=True))):
            raise ModelError(f"The graph has other {side} than its signature says.", at=found.name,
                             got=f"{read.signature}; {model.signature}", fix=AGAIN)  # fmt: skip
    return model


def _agrees(stated: Array, true: Array) -> bool:
    """Whether a line of a signature fits a graph's: numbers are equal, and names stand for anything."""
    (_, shape, dtype), (_, sizes, kind) = stated, true
    numbers = [(n, m) for n, m in zip(shape, sizes, strict=False) if isinstance(n, int) and isinstance(m, int)]
    return len(shape) == len(sizes) and all(n == m for n, m in numbers) and (dtype == kind or not kind)


def _require_signature(model: "Model", file: str) -> None:
    """Trace the model on the shapes that its signature declares: what comes out must be declared too."""
    import jax

    if not (candidates := declared_specs(model)):
        return
    failed: Exception | None = None
    for specs in candidates:  # larger images, if those before are too small
        try:
            results = jax.tree.leaves(jax.eval_shape(model.apply, model.params, *specs))
            break
        except Exception as error:  # whatever a library does with what does not fit
            failed = failed or error
    else:
        if isinstance(failed, AxiomError):
            raise failed
        raise ModelError("The weights do not fit the layers.", at=file, got=f"{type(failed).__name__}: {failed}"[:200],
                         fix=AGAIN) from failed  # fmt: skip
    outputs = model.signature.outputs
    fits = [
        str(result.dtype) == dtype and len(shape) == len(result.shape)
        and all(isinstance(n, str) or n == m for n, m in zip(shape, result.shape, strict=True))
        for result, (_, shape, dtype) in zip(results, outputs, strict=False)
    ]  # fmt: skip
    if outputs and (len(results) != len(outputs) or not all(fits)):
        raise ModelError("The model does not give what its signature says.", at=file,
                         got=", ".join(f"{r.dtype}{list(r.shape)}" for r in results)[:200] + f"; {model.signature}",
                         fix=AGAIN)  # fmt: skip


def declared_specs(model: "Model") -> list[list[Any]]:
    """The declared inputs with numbers for names, 2 for the batch; more of them with larger and larger sizes."""
    import jax

    from axiom_jax._shapes_annotations import Annotation, names
    from axiom_jax._shapes_text import size_at

    signature, found = model.signature, []
    if not signature.inputs:
        return []
    opaque = {n: f"size{i}" for i, n in enumerate(_texts(signature)) if NAME.fullmatch(n) and not n.isidentifier()}
    shapes = [tuple(opaque.get(n, n) if isinstance(n, str) else n for n in shape) for _, shape, _ in signature.inputs]
    try:
        free = names([Annotation("Shaped", tuple(map(str, shape))) for shape in shapes])
        for size in SIZES if set(free) - {"batch"} else SIZES[:1]:
            sizes = {name: ROWS if name == "batch" else size for name in free}
            if all(size_at(constraint, sizes) for constraint in signature.constraints):
                numbers = [tuple(n if isinstance(n, int) else size_at(n, sizes) for n in shape) for shape in shapes]
                pairs = zip(numbers, signature.inputs, strict=True)
                found.append([jax.ShapeDtypeStruct(shape, getattr(jax.numpy, dtype)) for shape, (_, _, dtype) in pairs])
    except (NameError, SyntaxError, TypeError, ValueError, AttributeError):
        return []  # sizes such as "..." or "*rest" stand for any number of axes: nothing to trace with
    return found


def _texts(signature: Any) -> list[str]:
    return [n for _, shape, _ in signature.inputs for n in shape if isinstance(n, str)]
