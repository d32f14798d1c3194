"""Writing a `.axiom` file: the first architecture that can express the model, read again before it is given back."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import AxiomError, ModelError
from axiom_jax._trace import guard_policy
from axiom_jax.interop.axiom.graph import WEIGHTS, graph_of, take_tensors
from axiom_jax.interop.axiom.manifest import Manifest, versions
from axiom_jax.interop.axiom.read import (
    CERTIFICATES,
    GRAPH,
    MANIFEST,
    AxiomFile,
    build_model,
    declared_specs,
    read_axiom,
)
from axiom_jax.interop.axiom.tensors import flatten, write_tensors
from axiom_jax.interop.axiom.zip import write_zip

if TYPE_CHECKING:
    from axiom_jax.model import Model
    from axiom_jax.verification.proof.certificate import Certificate

ARCHITECTURES = ("sequential", "graph")


def pack(
    model: Any,
    certificates: "Iterable[str | os.PathLike[str] | Certificate]" = (),
    metadata: Mapping[str, Any] | None = None,
    *,
    architecture: str | None = None,
    file: str = "model.axiom",
) -> bytes:
    """The bytes of a `.axiom` file; see `save_model`.

    What was written is read again before it is given back: parameters are compared bit for bit, a graph's outputs
    with the model's, and certificates with the network that readers will get.
    """
    from axiom_jax.model import Model, Sequential

    if architecture not in (None, *ARCHITECTURES):
        raise ModelError("There is no such architecture.", at=file, got=repr(architecture),
                         fix=f"use {' or '.join(map(repr, ARCHITECTURES))}")  # fmt: skip
    model = model if isinstance(model, Model) else Sequential(model)
    if missing := getattr(model.apply, "missing", ()):
        raise ModelError(f"The model {model.name} still lacks its nets: {', '.join(missing)}.", at=file,
                         fix=f"bind them first: {model.name}.bind({', '.join(missing)})")  # fmt: skip
    notes = _checked_metadata(metadata, file)
    parts, reasons = None, []
    if architecture != "graph":
        parts, reasons = _as_layers(model)
    if parts is None and architecture != "sequential":
        parts, more = _as_graph(model)
        reasons += more
    if parts is None:
        fix = "make it of layers, frozen dataclasses and named functions, or of what ax.to_onnx exports"
        raise ModelError(f"The model {model.name} cannot be saved.", at=file, got="\n".join(reasons), fix=fix)
    kind, members, dtypes, empty, given = parts
    manifest = Manifest(kind, model.signature, model.name, tuple(model.source), dtypes, empty, _hashes(members),
                        metadata=notes, made_by=versions())  # fmt: skip
    read = build_model(AxiomFile(manifest, members, file), given)
    _require_equal(model, read, kind["kind"], file)
    extra, lines = _certified(certificates, read, file)
    manifest = replace(manifest, members=_hashes(members | extra), certificates=lines)
    content = write_zip(members | extra | {MANIFEST: manifest.to_bytes()})
    read_axiom(content)
    return content


Parts = tuple[dict[str, Any], dict[str, bytes], dict[str, str], dict[str, str], dict[str, Any]]


def _as_layers(model: "Model") -> tuple[Parts | None, list[str]]:
    """Architecture, members, dtypes, empty branches and the user's own names; or why not."""
    from axiom_jax._model_chain import Chain
    from axiom_jax.interop.axiom.layers import describe, rebuild

    if not isinstance(model.apply, Chain):
        return None, [f"as layers: {model.name} is no Sequential"]
    found = describe(model.apply)
    tensors, empty, reasons = flatten(model.params)
    reasons = [f"as layers: {reason}" for reason in found.reasons + reasons]
    if not reasons:
        try:
            again = describe(rebuild(found.layers, found.given, model.name)).layers
            reasons = [] if again == found.layers else ["as layers: a layer does not keep the fields it is made with"]
        except ModelError as error:
            reasons = [f"as layers: {error.what} {error.got or ''}".rstrip()]
    if reasons:
        return None, reasons
    kind = {"kind": "sequential", "layers": found.layers, "given": sorted(found.given)}
    return (kind, {WEIGHTS: write_tensors(tensors)}, _dtypes(tensors), empty, found.given), []


def _as_graph(model: "Model") -> tuple[Parts | None, list[str]]:
    try:
        graph, tensors = take_tensors(graph_of(model))
    except AxiomError as error:
        told = [error.what, *(f"{word}: {text}" for word, text in (("at", error.at), ("got", error.got)) if text)]
        return None, ["as a graph: " + "\n".join(told)]
    return ({"kind": "graph"}, {WEIGHTS: write_tensors(tensors), GRAPH: graph}, _dtypes(tensors), {}, {}), []


def _dtypes(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {key: tensor.dtype.name for key, tensor in tensors.items()}


def _hashes(members: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}


def _checked_metadata(metadata: Mapping[str, Any] | None, file: str) -> dict[str, Any]:
    notes = dict(metadata or {})
    try:
        same = json.loads(json.dumps(notes, allow_nan=False)) == notes and all(isinstance(key, str) for key in notes)
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        fix = "give text, finite numbers, booleans, None, lists and dicts with text as keys"
        raise ModelError("The metadata is not JSON.", at=file, got=", ".join(map(str, notes))[:200], fix=fix)
    return notes


def _require_equal(model: "Model", read: "Model", kind: str, file: str) -> None:
    """What was read again against the model: every bit of the layers' parameters, or what a graph computes."""
    import jax

    if kind == "sequential" or type(model.apply) is type(read.apply):  # what was read from ONNX keeps its parameters
        pairs = zip(jax.tree.leaves(model.params), jax.tree.leaves(read.params), strict=False)
        equal = jax.tree.structure(model.params) == jax.tree.structure(read.params) and all(
            np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
            for a, b in pairs
        )
        if not equal:
            raise ModelError("The parameters do not come back as they were.", at=file, fix="report this, please")
    if kind == "sequential" or model.apply == read.apply:
        return
    specs = next(iter(declared_specs(model)), None)
    if specs is None:
        return
    random = np.random.default_rng(0)
    inputs = [
        random.integers(0, 2, spec.shape).astype(spec.dtype) if spec.dtype.kind in "iub"
        else random.uniform(-1, 1, spec.shape).astype(spec.dtype)
        for spec in specs
    ]  # fmt: skip
    with guard_policy("mask"):  # these inputs may break the model's own conditions: NaN then, in both
        expected, found = (jax.tree.leaves(m.apply(m.params, *inputs)) for m in (model, read))
    close = len(expected) == len(found) and all(
        np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), 1e-4, 1e-5, equal_nan=True)
        for a, b in zip(expected, found, strict=False)
    )
    if not close:
        raise ModelError(f"The graph of {model.name} computes something else than the model.", at=file,
                         fix="report this, please, with the model") from None  # fmt: skip


def _certified(
    certificates: "Iterable[str | os.PathLike[str] | Certificate]", read: "Model", file: str
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The members for certificates and a line about each; refused where one is about another network."""
    from axiom_jax.verification.proof.binding import difference
    from axiom_jax.verification.proof.certificate import Certificate, certificate_of

    members: dict[str, bytes] = {}
    lines = []
    for number, given in enumerate(certificates):
        at = file if isinstance(given, Certificate) else os.fspath(given)
        content = given.to_bytes() if isinstance(given, Certificate) else _content(at)
        certificate = certificate_of(content, at)
        if not isinstance(certificate, Certificate):
            raise ModelError("A model file holds certificates of its network alone.", at=at,
                             got=f"a {type(certificate).__name__.lower()}",
                             fix="keep that file beside the model")  # fmt: skip
        if reason := difference(certificate, read):
            raise ModelError("A certificate is about another network than the model that is saved.", at=at, got=reason,
                             fix="prove the property of the model that ax.load_model gives")  # fmt: skip
        name = f"{CERTIFICATES}{number:04}.cert"
        members[name] = content
        try:
            lines.append({"member": name, "claim": str(certificate.claim), "text": str(certificate.text)})
        except (KeyError, TypeError) as error:
            raise ModelError("A certificate lacks its claim or its property.", at=at,
                             fix="make it again from the model and the property") from error  # fmt: skip
    return members, lines


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelError("A certificate cannot be read.", at=path, got=error.strerror) from error
