"""`.pt2` files without their dangers: what has been looked at is copied into a new archive, and only that is loaded.

`torch.export.load` unpickles (examples, constants), evaluates text (sizes, by sympy) and imports modules (containers).
Here pickles are left out or refused, sizes must be arithmetic, operators must be ATen's and containers the built-in
ones, and a tensor may not be larger than its bytes. Source: torch/export/pt2_archive and torch/_export/serde.
"""

import ast
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from axiom_jax._errors import ModelError

TARGET = re.compile(r"torch\.ops\.aten\.[a-z]\w*\.[A-Za-z]\w*|_operator\.(add|sub|mul|floordiv|mod|neg|getitem)"
                    r"|_operator\.(eq|ne|lt|le|gt|ge|and_|or_|truediv)|torch\.sym_(max|min|float|int|not)")  # fmt: skip
FUNCTIONS = set(
    """Integer Rational Float Add Mul Max Min FloorDiv ModularIndexing Mod PythonMod CleanDiv
    CeilToInt FloorToInt Where IntTrueDiv FloatTrueDiv ToFloat TruncToInt RoundToInt Equality Unequality Eq Ne Lt Le Gt
    Ge StrictLessThan LessThan StrictGreaterThan GreaterThan And Or Not floor ceiling""".split()
)
NAMES = re.compile(r"[su]\d+|int_oo|oo|true|false")
PLAIN = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
FORBIDDEN = {"as_graph", "as_graphs", "as_custom_obj", "as_operator", "custom_obj", "as_script_object"}
PAYLOAD = re.compile(r"(weight|tensor)_\d+")
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}  # torch's ScalarType + 1, without complex
CONFIGS = {"data/weights/model_weights_config.json": "data/weights/",
           "data/constants/model_constants_config.json": "data/constants/"}  # fmt: skip


def stored(content: bytes, file: str) -> dict[str, bytes]:
    """The members of a zip archive that holds no more than its own bytes.

    Raises:
        ModelError: it is damaged, compressed (PyTorch never does that), or names a member twice.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise _refused("members that are compressed", file)
            if len(set(names)) < len(names) or sum(entry.file_size for entry in entries) > len(content):
                raise _refused("members that share their bytes or their name", file)
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, LookupError) as error:
        raise ModelError("The archive is damaged or cut short.", at=file, fix="save or fetch it again") from error


def safe_archive(content: bytes, file: str) -> bytes:
    """A `.pt2` archive with nothing in it that could run.

    Raises:
        ModelError: it is no such archive, or holds something else than tensors and ATen operators.
    """
    members = stored(content, file)
    roots = {name.partition("/")[0] for name in members}
    own = {name.partition("/")[2]: data for name, data in members.items()}
    if len(roots) != 1 or "models/model.json" not in own:
        fix = "write it with torch.export.save(torch.export.export(module, examples), path)"
        raise ModelError("This is no archive of torch.export.", at=file, fix=fix)
    plain = ("archive_format", "archive_version", "byteorder", ".data/version")
    kept = {name: own[name] for name in plain if name in own}
    kept["data/sample_inputs/model.pt"] = b""
    try:
        kept["models/model.json"] = _checked_program(json.loads(own["models/model.json"]), file)
        for name, folder in CONFIGS.items():
            kept[name] = own.get(name, b'{"config": {}}')
            kept |= _payloads(json.loads(kept[name]), own, folder, file)
    except (ValueError, TypeError, KeyError, LookupError, AttributeError, RecursionError) as error:
        raise _refused("a program that is malformed", file) from error
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, data in kept.items():
            archive.writestr(f"model/{name}", data)
    return copy.getvalue()


def _refused(what: str, file: str, where: str = "") -> ModelError:
    fix = "write it with torch.export.save from a module of plain tensors, or give the module itself"
    return ModelError(f"The archive is refused: it holds {what}.", at=file, got=where[:120] or None, fix=fix)


def _checked_program(program: dict[str, Any], file: str) -> bytes:
    """The program's JSON without what is not needed."""
    for key, value in _entries(program):
        if key in FORBIDDEN and value is not None:
            raise _refused("objects or control flow", file, key)
        if key == "expr_str" and not arithmetic(value):
            raise _refused("a size that is no arithmetic", file, str(value))
        if key == "target" and isinstance(value, str) and not TARGET.fullmatch(value):
            raise _refused("an operator that is not ATen's", file, value)
        if key in ("in_spec", "out_spec") and not _plain_containers(value):
            raise _refused("containers that are not Python's own", file, str(value))
    for node in program["graph_module"]["graph"]["nodes"]:
        stack = node.get("metadata", {}).get("nn_module_stack")
        node["metadata"] = {"nn_module_stack": stack} if isinstance(stack, str) else {}
    program["graph_module"] |= {"metadata": {}, "treespec_namedtuple_fields": {}}
    return json.dumps(program | {"guards_code": []}).encode()


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what stands there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def arithmetic(text: Any) -> bool:
    """Whether the text of a size is arithmetic of numbers and of sizes' names; it is parsed, never evaluated.

    >>> arithmetic("Mul(Integer(3), Symbol('s77', positive=True, integer=True))"), arithmetic("__import__('os')")
    (True, False)
    """
    if not isinstance(text, str) or len(text) > 4096:
        return False
    try:
        return _arithmetic(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _arithmetic(tree: ast.expr) -> bool:
    match tree:
        case ast.Constant(value=bool()):
            return True
        case ast.Constant(value=int() | float() as number):
            return abs(number) < 2**63
        case ast.Name(id=name):
            return NAMES.fullmatch(name) is not None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _arithmetic(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod(),
                       right=right):  # fmt: skip
            return _arithmetic(left) and _arithmetic(right)
        case ast.Compare(left=left, comparators=others):
            return all(map(_arithmetic, [left, *others]))
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
            return NAMES.fullmatch(name) is not None and all(isinstance(k.value, ast.Constant) for k in keywords)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return name in FUNCTIONS and not keywords and all(map(_arithmetic, args))
    return False


def _plain_containers(text: Any) -> bool:
    """Whether the description of a container speaks of tuples, lists and dicts only."""
    if not text:
        return True
    for key, value in _entries(json.loads(text)):
        if key == "type" and value not in PLAIN:
            return False
        if key == "context":
            context = json.loads(value) if isinstance(value, str) and value else value
            if not (context is None or (isinstance(context, list) and all(isinstance(k, str) for k in context))):
                return False
    return True


def _payloads(config: dict[str, Any], own: dict[str, bytes], folder: str, file: str) -> dict[str, bytes]:
    """The bytes of the tensors that a table of contents names."""
    found: dict[str, bytes] = {}
    for name, entry in config["config"].items():
        path = entry["path_name"]
        if entry.get("use_pickle") is not False or not PAYLOAD.fullmatch(path):
            raise _refused("a pickle", file, name)
        found[folder + path] = own[folder + path]
        meta = entry["tensor_meta"]
        sizes, strides = ([_number(n) for n in meta[key]] for key in ("sizes", "strides"))
        each, room = BYTES[meta["dtype"]], len(found[folder + path])
        reach = _number(meta["storage_offset"]) + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) + 1
        empty = math.prod(sizes) == 0
        if not empty and (reach * each > room or math.prod(sizes) * each > room):
            raise _refused("a tensor that is larger than its bytes", file, name)
    return found


def _number(size: dict[str, Any]) -> int:
    number = size["as_int"]
    if type(number) is not int or not 0 <= number < 2**63:
        raise ValueError("no size")
    return number
