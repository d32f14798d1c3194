"""The manifest of a `.axiom` file: what it says, as JSON and as a value; each field is judged before it is used."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import ModelError
from axiom_jax.interop.axiom.tensors import EMPTY, NAMES

if TYPE_CHECKING:
    from axiom_jax.model import Signature

FORMAT, VERSION = "axiom.model", 1
LARGEST = 2**40  # of a size in a signature
LONGEST = 200  # characters of a size that is an expression
SIZES = (ast.Expression, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.USub, ast.Add, ast.Sub, ast.Mult,
         ast.FloorDiv, ast.Mod, ast.Call, ast.Compare, ast.GtE, ast.LtE, ast.Gt, ast.Lt, ast.Eq, ast.Pow)  # fmt: skip
CALLS = {"max", "min", "mod", "floordiv"}
NAME = re.compile(r"[\w.?:$@#-]+")  # what exporters call a free size: "?", "p2o.DynamicDimension.0"
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a `.axiom` file says of itself.

    Args:
        architecture: {"kind": "sequential", "layers", "given"} or {"kind": "graph"}.
        signature, name, source: of the model.
        dtypes: of the weights, by key. empty: the kinds of branches of the parameters that hold none.
        members: the sha256 of every other member. certificates: a line about each, for people.
        metadata: the user's. made_by: versions of the packages that wrote it.
    """

    architecture: dict[str, Any]
    signature: "Signature"
    name: str
    source: tuple[tuple[str, str], ...]
    dtypes: dict[str, str]
    empty: dict[str, str]
    members: dict[str, str]
    certificates: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    made_by: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of what the model is: its architecture, signature and weights."""
        parts = {"architecture": self.architecture, "signature": _sides(self.signature), "empty": self.empty}
        parts["members"] = {k: v for k, v in self.members.items() if not k.startswith("certificates/")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The object that the file holds."""
        return {
            "format": FORMAT, "version": VERSION, "name": self.name, "digest": self.digest,
            "architecture": self.architecture, "signature": _sides(self.signature),
            "source": [list(entry) for entry in self.source], "dtypes": self.dtypes, "empty": self.empty,
            "members": self.members, "certificates": self.certificates, "metadata": self.metadata,
            "versions": self.made_by,
        }  # fmt: skip

    def to_bytes(self) -> bytes:
        """JSON with sorted keys, for people and for equal bytes."""
        return (json.dumps(self.to_dict(), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _sides(signature: "Signature") -> dict[str, Any]:
    sides = {"inputs": signature.inputs, "outputs": signature.outputs}
    arrays = {side: [[name, list(shape), dtype] for name, shape, dtype in entries] for side, entries in sides.items()}
    return arrays | {"promises": list(signature.promises), "constraints": list(signature.constraints)}


def versions() -> dict[str, str]:
    """Of the packages that a file depends on."""
    found = {}
    for package in ("axiom-jax", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            found[package] = "unknown"
    return found


def parse_manifest(content: bytes, file: str) -> Manifest:
    """The manifest in a member's bytes.

    Raises:
        ModelError: it is malformed, of another format or version, or not as `to_bytes` writes it.
    """
    from axiom_jax.model import Signature

    data = _json(content, file)
    if data.get("format") != FORMAT:
        raise ModelError("The file is not an axiom model.", at=file, got=f"the format {data.get('format')!r}"[:120],
                         fix="give a file that ax.save_model wrote")  # fmt: skip
    if data.get("version") != VERSION or isinstance(data.get("version"), bool):
        raise ModelError("The file is of a version that this axiom-jax does not read.", at=file,
                         got=f"version {data.get('version')!r}; expected {VERSION}"[:120],
                         fix="update axiom-jax, or save the model with this version")  # fmt: skip
    read = functools.partial(_field, data, file)
    sides = read("signature", _is_signature)
    inputs, outputs = (tuple((n, tuple(s), d) for n, s, d in sides[side]) for side in ("inputs", "outputs"))
    manifest = Manifest(
        architecture=read("architecture", _is_architecture),
        signature=Signature(inputs, outputs, tuple(sides["promises"]), tuple(sides["constraints"])),
        name=read("name", lambda x: isinstance(x, str)),
        source=tuple((kind, digest) for kind, digest in read("source", _is_source)),
        dtypes=read("dtypes", _map_of(lambda x: x in NAMES.values())),
        empty=read("empty", _map_of(lambda x: x in EMPTY)),
        members=read("members", _map_of(lambda x: HEX.fullmatch(x) is not None)),
        certificates=read("certificates", lambda x: isinstance(x, list) and all(map(_is_line, x))),
        metadata=read("metadata", lambda x: isinstance(x, dict)),
        made_by=read("versions", _map_of(lambda x: True)),
    )
    if manifest.to_dict() != data or manifest.to_bytes() != content:
        same = data.get("digest") == manifest.digest
        got = "other keys, or another way of writing them" if same else "another digest"
        raise ModelError("The manifest was changed after it was written.", at=file, got=got,
                         fix="fetch the file again, or save it again with ax.save_model")  # fmt: skip
    return manifest


def _json(content: bytes, file: str) -> dict[str, Any]:
    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    try:
        data = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        got = "lists in lists without end" if isinstance(error, RecursionError) else str(error)[:200]
        raise ModelError("The manifest is not JSON.", at=file, got=got,
                         fix="fetch the file again, or save it again with ax.save_model") from error  # fmt: skip
    if not isinstance(data, dict):
        raise ModelError("The manifest is not a JSON object.", at=file, got=f"a {type(data).__name__}",
                         fix="give a file that ax.save_model wrote")  # fmt: skip
    return data


def _field(data: Mapping[str, Any], file: str, key: str, fits: Callable[[Any], bool]) -> Any:
    value = data.get(key)
    try:
        good = key in data and fits(value)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, SyntaxError, MemoryError):
        good = False
    if not good:
        raise ModelError(f"The manifest's {key} is malformed." if key in data else f"The manifest lacks {key}.",
                         at=file, got=repr(value)[:120], fix="save the model again with ax.save_model")  # fmt: skip
    return value


def _map_of(fits: Callable[[str], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, dict) and all(isinstance(v, str) and fits(v) for v in x.values())


def _is_source(value: Any) -> bool:
    return isinstance(value, list) and all(len(e) == 2 and all(isinstance(part, str) for part in e) for e in value)


def _is_line(value: Any) -> bool:
    return value.keys() == {"member", "claim", "text"} and all(isinstance(text, str) for text in value.values())


def _is_architecture(value: Any) -> bool:
    if value["kind"] == "sequential":
        given = value["given"]
        return value.keys() == {"kind", "layers", "given"} and isinstance(value["layers"], list) and (
            isinstance(given, list) and all(isinstance(name, str) for name in given)
        )  # fmt: skip
    return value == {"kind": "graph"}


def _is_signature(value: Any) -> bool:
    texts = value["promises"], value["constraints"]
    return (
        value.keys() == {"inputs", "outputs", "promises", "constraints"}
        and all(isinstance(side, list) and all(map(_is_array, side)) for side in (value["inputs"], value["outputs"]))
        and all(isinstance(text, list) and all(isinstance(entry, str) for entry in text) for text in texts)
        and all(map(is_size, value["constraints"]))
    )


def _is_array(entry: Any) -> bool:
    name, shape, dtype = entry
    return isinstance(name, str) and isinstance(shape, list) and all(map(is_size, shape)) and dtype in NAMES.values()


def is_size(token: Any) -> bool:
    """Whether a size, or a condition on sizes, is nothing but names, numbers and arithmetic: others would be run.

    >>> is_size("2*n+1"), is_size("n >= 4"), is_size("().__class__"), is_size(-1)
    (True, True, False, False)
    """
    if isinstance(token, int):
        return not isinstance(token, bool) and 0 <= token <= LARGEST
    if not isinstance(token, str) or len(token) > LONGEST:
        return False
    if token == "..." or (token.startswith("*") and token[1:].isidentifier()):
        return True
    if NAME.fullmatch(token):
        return token.isidentifier() or "__" not in token
    tree = ast.parse(token.replace("^", "**"), mode="eval")
    return all(isinstance(node, SIZES) and _is_arithmetic(node) for node in ast.walk(tree))


def _is_arithmetic(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return type(value) is int and 0 <= value <= LARGEST
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return name in CALLS
        case ast.Call():
            return False
        case ast.BinOp(op=ast.Pow(), right=right):
            return isinstance(right, ast.Constant) and type(right.value) is int and 0 <= right.value <= 8
    return True
