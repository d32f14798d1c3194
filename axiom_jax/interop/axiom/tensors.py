"""Parameters as the tensors of a safetensors file, and back: every bit, dtype, key and empty branch of the tree.

A tensor's key is its path, "0_Dense/kernel". Parts are percent-encoded (RFC 3986), which leaves four marks free:
`#3` is the integer 3 as a key, `[3]` a place in a list, `(3)` a place in a tuple, `''` an empty text, `=` the root.
Source: the safetensors format, https://github.com/huggingface/safetensors.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import ModelError

NAMES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
ROOT = "="
EMPTY = {"dict": dict, "list": list, "tuple": tuple, "none": lambda: None}


class _Empty(str):
    """The kind of a branch without leaves: a key of `EMPTY`."""


def flatten(params: Any) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """A tree of parameters as tensors by key, its empty branches by key, and why anything cannot be kept.

    >>> tensors, empty, reasons = flatten({"a/b": np.ones(2), "c": [np.zeros(())], "d": {}})
    >>> list(tensors), empty, reasons
    (['a%2Fb', 'c/[0]'], {'d': 'dict'}, [])
    """
    tensors: dict[str, np.ndarray] = {}
    empty: dict[str, str] = {}
    reasons: list[str] = []
    for key, leaf in _leaves(params, ""):
        if isinstance(leaf, _Empty):
            empty[key] = str(leaf)
        elif (reason := _refused(leaf)) is not None:
            reasons.append(f"the parameter {key} {reason}")
        else:
            tensors[key] = np.array(leaf, order="C")  # a copy, so that nothing shares memory
    return tensors, empty, reasons


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Arrays with their keys, and empty branches."""
    match tree:
        case None:
            branches: Mapping[str, Any] = {}
        case dict() if type(tree) is dict:
            branches = {_part(key): tree[key] for key in sorted(tree, key=lambda key: (type(key).__name__, key))}
        case list() | tuple() if type(tree) in (list, tuple):
            form = "[{}]" if isinstance(tree, list) else "({})"
            branches = {form.format(i): branch for i, branch in enumerate(tree)}
        case _:
            yield path or ROOT, tree
            return
    if not branches:
        yield path or ROOT, _Empty("none" if tree is None else type(tree).__name__)
    for part, branch in branches.items():
        key = f"{path}/{part}" if path else part
        # the one name that the format keeps for itself
        yield from _leaves(branch, "%5F_metadata__" if key == "__metadata__" else key)


def _part(key: Any) -> str:
    if isinstance(key, int) and not isinstance(key, bool):
        return f"#{key}"
    if not isinstance(key, str):
        raise ModelError("A parameter's key is neither text nor an integer.", got=f"a {type(key).__name__}",
                         fix="name parameters by text")  # fmt: skip
    return quote(key, safe="", errors="surrogatepass") if key else "''"


def _refused(leaf: Any) -> str | None:
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return f"is a {type(leaf).__name__}, not an array"
    if str(leaf.dtype) not in NAMES.values():
        return f"has the dtype {leaf.dtype}, which safetensors cannot hold"
    return None


def unflatten(tensors: Mapping[str, Any], empty: Mapping[str, str], file: str) -> Any:
    """The tree of parameters again.

    Raises:
        ModelError: keys that no tree gives, or that contradict each other.
    """
    if len(tensors) + len(empty) == 1 and ROOT in {*tensors, *empty}:
        return EMPTY[empty[ROOT]]() if ROOT in empty else tensors[ROOT]
    tree: dict[Any, Any] = {}
    for key, leaf in [*tensors.items(), *((key, EMPTY[word]()) for key, word in empty.items())]:
        parts = [_parsed(part) for part in key.split("/")]
        branch = tree
        for part in parts[:-1]:
            branch = branch.setdefault(part, _Branch())
            if not isinstance(branch, _Branch):
                raise _foreign(key, file)
        if parts[-1] in branch or not _same_key(key):
            raise _foreign(key, file)
        branch[parts[-1]] = leaf
    return _grown(tree, file)


class _Branch(dict[Any, Any]):
    """A branch under construction, told apart from an empty dict that is a leaf of the file."""


def _parsed(part: str) -> tuple[str, Any]:
    """The kind of a part and what it names: ("#", 3), ("[", 0), ("(", 0) or ("", "kernel")."""
    number = part[1:].rstrip("])") if part[:1] in ("[", "(") else part[1:]
    if part[:1] in ("#", "[", "(") and number.removeprefix("-").isdecimal() and len(number) < 20:
        return part[0], int(number)
    return "", "" if part == "''" else unquote(part, errors="surrogatepass")


def _same_key(key: str) -> bool:
    """Whether a key is written as `flatten` writes it, so that no two keys are one."""
    forms = {"#": "#{}", "[": "[{}]", "(": "({})"}
    parts = [_parsed(part) for part in key.split("/")]
    written = "/".join(forms[kind].format(name) if kind else _part(name) for kind, name in parts)
    return key == ("%5F_metadata__" if written == "__metadata__" else written)


def _grown(branch: Any, file: str) -> Any:
    """Branches with marked parts as lists, tuples and dicts."""
    if not isinstance(branch, dict) or not branch:
        return branch
    if not (kinds := {kind for kind, _ in branch} - {"#", ""}):
        return {name: _grown(below, file) for (_, name), below in branch.items()}
    kind = kinds.pop()
    if branch.keys() != {(kind, i) for i in range(len(branch))}:
        raise _foreign(", ".join(f"{mark}{name}" for mark, name in branch), file)
    parts = [_grown(branch[kind, i], file) for i in range(len(branch))]
    return parts if kind == "[" else tuple(parts)


def _foreign(key: str, file: str) -> ModelError:
    return ModelError("The parameters' keys do not make a tree.", at=file, got=key, fix="save the model again")


def write_tensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file; equal tensors give equal bytes."""
    from safetensors.numpy import save

    return save({key: tensors[key] for key in sorted(tensors)})


def read_tensors(content: bytes, file: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, with its dtypes.

    Raises:
        ModelError: the content is damaged or holds a dtype that numpy does not have.
    """
    from safetensors import SafetensorError, deserialize

    fix = "save or fetch the file again"
    try:
        entries = deserialize(content)
    except (SafetensorError, ValueError, UnicodeDecodeError) as error:
        raise ModelError("The weights are damaged or cut short.", at=file, got=str(error)[:200], fix=fix) from error
    tensors = {}
    for key, entry in sorted(entries, key=lambda pair: pair[0]):
        if entry["dtype"] not in NAMES:
            got = f"{key}: {entry['dtype']}"
            raise ModelError("A tensor has a dtype that is not supported.", at=file, got=got, fix="save it as float32")
        dtype = np.dtype(getattr(jnp, NAMES[entry["dtype"]], NAMES[entry["dtype"]]))
        try:
            tensors[key] = np.frombuffer(bytes(entry["data"]), dtype).reshape(entry["shape"])
        except (ValueError, OverflowError) as error:
            raise ModelError(f"The tensor {key} does not fill its shape.", at=file,
                             got=f"{list(entry['shape'])}"[:200], fix=fix) from error  # fmt: skip
    return tensors


def on_device(tensor: np.ndarray) -> Any:
    """A JAX array where JAX has the dtype, else (64 bits, by default) the numpy array: nothing is rounded."""
    return jnp.asarray(tensor) if jax.dtypes.canonicalize_dtype(tensor.dtype) == tensor.dtype else tensor
