"""What a file is: models, certificates, properties and weights, told without running or judging them."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from axiom_jax._errors import AxiomError, ModelError

Facts = dict[str, Any]


def describe_file(path: str | os.PathLike[str]) -> Facts:
    """What a file holds, by its suffix: .axiom, .onnx(.gz), .cert, .signed.json, .vnnlib(.gz), .safetensors.

    Returns:
        Values of JSON; "file", "kind", "bytes" and "sha256" for every kind of file.

    Raises:
        AxiomError: the file is missing, damaged, or of no kind that is known.

    >>> import tempfile
    >>> from axiom_jax import nn
    >>> from axiom_jax.interop.axiom.file import save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_model(nn.Sequential(nn.Dense(2, 1)), Path(folder, "model.axiom"))
    ...     describe_file(path)["layers"]
    ['Dense(2, 1)']
    """
    file = os.fspath(path)
    suffix = next((suffix for suffix in KINDS if file.removesuffix(".gz").endswith(suffix)), None)
    if suffix is None:
        raise AxiomError("The kind of the file is not known.", at=file, got=Path(file).suffix or "no suffix",
                         fix=f"give one of {', '.join(KINDS)}")  # fmt: skip
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise AxiomError(f"The file cannot be read: {error.strerror or error}.", at=file) from error
    kind, describe = KINDS[suffix]
    facts = {"file": file, "kind": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return facts | describe(content, file)


def _axiom(content: bytes, file: str) -> Facts:
    from axiom_jax._model_layers import text
    from axiom_jax.interop.axiom.read import build_model, read_axiom

    found = read_axiom(content)
    manifest = found.manifest
    kind = manifest.architecture["kind"]
    facts = {
        "name": manifest.name, "digest": found.digest, "architecture": kind, "signature": str(manifest.signature),
        "promises": list(manifest.signature.promises), "source": dict(manifest.source),
        "needs": manifest.architecture.get("given", []), "layers": None, "nodes": None,
        "parameters": _tensors(found.tensors), "members": manifest.members,
        "certificates": [line | _certificate(found.members[line["member"]], file) for line in manifest.certificates],
        "metadata": manifest.metadata, "versions": manifest.made_by,
    }  # fmt: skip
    if kind == "graph":
        return facts | {"nodes": _nodes(found.members["graph.onnx"], file)}
    if facts["needs"]:
        return facts | {"layers": [str(layer.get("layer", layer)) for layer in manifest.architecture["layers"]]}
    return facts | {"layers": [text(layer) for layer in build_model(found, {}).layers]}


def _onnx(content: bytes, file: str) -> Facts:
    from axiom_jax.interop.onnx.file import opset_of, parse, read_content
    from axiom_jax.interop.onnx.reader import from_onnx

    plain, _ = read_content(file)
    proto = parse(plain, file)
    facts: Facts = {
        "name": proto.graph.name, "digest": hashlib.sha256(plain).hexdigest(), "opset": opset_of(proto, file),
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(), "nodes": _nodes(plain, file),
        "signature": None, "parameters": None, "refused": None,
    }  # fmt: skip
    try:
        model = from_onnx(file)
        return facts | {"signature": str(model.signature), "parameters": _tensors(model.params)}
    except AxiomError as error:
        return facts | {"refused": error.what}


def _nodes(content: bytes, file: str) -> dict[str, int]:
    """How often a graph uses each operator."""
    from axiom_jax.interop.onnx.file import parse

    return dict(sorted(Counter(node.op_type for node in parse(content, file).graph.node).items()))


def _tensors(tensors: dict[str, Any]) -> Facts:
    return {
        "count": sum(int(x.size) for x in tensors.values()),
        "bytes": sum(int(x.nbytes) for x in tensors.values()),
        "tensors": [{"name": k, "dtype": str(x.dtype), "shape": list(x.shape)} for k, x in sorted(tensors.items())],
    }


def _certificate(content: bytes, file: str) -> Facts:
    from axiom_jax.verification.proof.certificate import Certificate, certificate_of
    from axiom_jax.verification.proof.envelope import is_envelope
    from axiom_jax.verification.spec.vnnlib2_meaning import KEY

    if is_envelope(content):
        return _signed(content, file)
    certificate = certificate_of(content, file)
    if not isinstance(certificate, Certificate):  # of a statement, or several proofs in one file
        title, rows = certificate.facts()
        return {"claim": title, "text": certificate.text, "meta": dict(rows), "checked": False}
    try:
        payload, stated = certificate.payload, json.loads(content)["digest"]
        model = payload["model"]
        return {
            "claim": certificate.claim, "text": certificate.text, "levels": payload["levels"], "digest": stated,
            "model": {"name": model["name"], "source": model["source"], "tensors": len(model["tensors"])},
            "cases": len(payload["property"]["cases"]), "proof": payload["proof"]["kind"],
            "meta": {key: value for key, value in payload["meta"].items() if key != KEY}, "checked": False,
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise AxiomError("The certificate lacks a part.", at=file, got=str(error)[:120],
                         fix="make it again from the model and the property") from error  # fmt: skip


def _signed(content: bytes, file: str) -> Facts:
    """A signed certificate: what is inside, and whose signatures are said to be on it."""
    from axiom_jax.verification.proof.envelope import read_envelope
    from axiom_jax.verification.proof.signing import certificate_inside

    inside = _certificate(certificate_inside(content, file), file)
    keyids = [signature.keyid for signature in read_envelope(content, file).signatures]
    return inside | {"signatures": keyids}


def _vnnlib(content: bytes, file: str) -> Facts:
    from axiom_jax.verification.spec.vnnlib2 import read_query

    prop = read_query(file).property
    atoms = [atom for case in prop.cases for conjunct in case.unsafe for atom in conjunct]
    outputs = {index for atom in atoms for index, _ in atom.output}
    return {
        "inputs": len(prop.cases[0].lo), "outputs": max(outputs, default=-1) + 1, "cases": len(prop.cases),
        "disjuncts": sum(len(case.unsafe) for case in prop.cases), "atoms": len(atoms),
    }  # fmt: skip


def _safetensors(content: bytes, file: str) -> Facts:
    from axiom_jax.interop.axiom.tensors import read_tensors

    return {"parameters": _tensors(read_tensors(content, file))}


KINDS: dict[str, tuple[str, Callable[[bytes, str], Facts]]] = {
    ".axiom": ("axiom model", _axiom),
    ".onnx": ("ONNX model", _onnx),
    ".cert": ("certificate", _certificate),
    ".signed.json": ("signed certificate", _signed),
    ".vnnlib": ("VNN-LIB property", _vnnlib),
    ".safetensors": ("tensors", _safetensors),
}


def convert_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Facts:
    """Read a model in one format and write it in another, by the suffixes of the files.

    Args:
        source: .axiom, .onnx(.gz), .pt2, .pt, .pth, or a PyTorch descriptor .json.
        target: .axiom or .onnx.

    Returns:
        "input", "output", "model" (the signature), "parameters" and the output's "sha256".

    Raises:
        AxiomError: a suffix is not known, the source cannot be read, or the target's format cannot express it.
    """
    read, write = _reader(os.fspath(source)), _writer(os.fspath(target))
    if Path(source).absolute() == Path(target).absolute():
        raise AxiomError("The file would overwrite itself.", at=os.fspath(target), fix="name another file to write")
    model = read(source)
    write(model, target)
    import jax

    return {
        "input": os.fspath(source), "output": os.fspath(target), "model": str(model.signature),
        "parameters": sum(int(leaf.size) for leaf in jax.tree.leaves(model.params)),
        "sha256": hashlib.sha256(Path(target).read_bytes()).hexdigest(),
    }  # fmt: skip


def _reader(file: str) -> Callable[[Any], Any]:
    match file.removesuffix(".gz").rpartition(".")[2]:
        case "axiom":
            from axiom_jax.interop.axiom.file import load_model

            return load_model
        case "onnx":
            from axiom_jax.interop.onnx.reader import from_onnx

            return from_onnx
        case "pt2" | "pt" | "pth" | "json":
            from axiom_jax.interop.torch.reader import from_pytorch

            return from_pytorch
    raise ModelError("The format of the input is not known.", at=file, got=Path(file).suffix or "no suffix",
                     fix="give a .axiom, .onnx, .onnx.gz or .pt2 file, or a PyTorch descriptor .json")  # fmt: skip


def _writer(file: str) -> Callable[[Any, Any], Any]:
    match file.rpartition(".")[2]:
        case "axiom":
            from axiom_jax.interop.axiom.file import save_model

            return save_model
        case "onnx":
            from axiom_jax.interop.onnx.writer import to_onnx

            return to_onnx
    raise ModelError("The format of the output is not known.", at=file, got=Path(file).suffix or "no suffix",
                     fix="give a name that ends in .axiom or .onnx")  # fmt: skip
