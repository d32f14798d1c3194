"""The gRPC services' definitions: two .proto files, read into descriptors when a server starts.

No generated code is kept, and no compiler is needed: the part of the language that the files use (messages in
messages, repeated fields, maps, one-ofs, unary calls) is read here.
Source: Protocol Buffers language guide, proto 3, https://protobuf.dev/reference/protobuf/proto3-spec.
"""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    from axiom_jax.model import Model

FILES = {"axiom.v1": "axiom.proto", "inference": "inference.proto"}
TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[\w.]+|[^\s\w]')
# in the order of protobuf's own numbers, from 1 on
SCALARS = ("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "group", "message",
           "bytes", "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64")  # fmt: skip


def source(package: str) -> str:
    """The text of a package's .proto file."""
    return Path(__file__).with_name(FILES[package]).read_text("utf-8")


def read_proto(text: str, name: str) -> "FileDescriptorProto":
    """The descriptor of a .proto text.

    Args:
        text: proto 3, of the part of the language named above.
        name: of the file.

    >>> file = read_proto('syntax = "proto3"; package a; message M { repeated int64 n = 1; }', "a.proto")
    >>> file.message_type[0].field[0].name
    'n'
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    tokens = [token for token in TOKEN.findall(text) if not token.startswith("//")][::-1]
    file = FileDescriptorProto(name=name)
    while tokens:
        match tokens.pop():
            case "syntax":
                file.syntax = _until(tokens, ";")[1].strip('"')
            case "package":
                file.package = _until(tokens, ";")[0]
            case "message":
                _message(tokens, file.message_type.add(), f".{file.package}")
            case "service":
                service = file.service.add(name=tokens.pop())
                body = _until(tokens, "}")
                for call in re.findall(r"rpc (\w+) \( (\w+) \) returns \( (\w+) \)", " ".join(body)):
                    service.method.add(name=call[0], input_type=f".{file.package}.{call[1]}",
                                       output_type=f".{file.package}.{call[2]}")  # fmt: skip
    _resolve(file)
    return file


def _until(tokens: list[str], end: str) -> list[str]:
    taken = []
    while (token := tokens.pop()) != end:
        taken.append(token)
    return taken


def _message(tokens: list[str], message: "DescriptorProto", scope: str) -> None:
    message.name, _ = tokens.pop(), tokens.pop()
    scope, one_of = f"{scope}.{message.name}", None
    while True:
        match token := tokens.pop():
            case "}" if one_of is not None:
                one_of = None
            case "}":
                return
            case "message":
                _message(tokens, message.nested_type.add(), scope)
            case "oneof":
                message.oneof_decl.add(name=tokens.pop())
                one_of = len(message.oneof_decl) - 1
                tokens.pop()
            case "map":
                key, value = (part for part in _until(tokens, ">") if part not in "<,")
                name, number = _named(tokens)
                entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                _field(entry, key, "key", 1)
                _field(entry, value, "value", 2)
                _field(message, f"{scope}.{entry.name}", name, number, repeated=True)
            case _:
                repeated = token == "repeated"
                kind = tokens.pop() if repeated else token
                _field(message, kind, *_named(tokens), repeated=repeated, one_of=one_of)


def _named(tokens: list[str]) -> tuple[str, int]:
    """`name = number;`"""
    name, _, number = _until(tokens, ";")
    return name, int(number)


def _field(message: "DescriptorProto", kind: str, name: str, number: int, repeated: bool = False,
           one_of: int | None = None) -> None:  # fmt: skip
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in SCALARS:
        field.type = SCALARS.index(kind) + 1  # pyright: ignore[reportAttributeAccessIssue]
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, kind
    words = name.split("_")
    field.json_name = words[0] + "".join(word.capitalize() for word in words[1:])
    if one_of is not None:
        field.oneof_index = one_of


def _resolve(file: "FileDescriptorProto") -> None:
    """Names of message types become absolute: those of the enclosing message first, then of the file."""
    known = {f".{file.package}.{message.name}" for message in file.message_type}

    def visit(message: "DescriptorProto", scope: str) -> None:
        inner = {nested.name for nested in message.nested_type}
        for field in message.field:
            if field.type_name and not field.type_name.startswith("."):
                outer = f".{file.package}.{field.type_name}"
                field.type_name = f"{scope}.{field.type_name}" if field.type_name in inner else outer
                if field.type_name == outer and outer not in known:
                    raise ValueError(f"{file.name}: {outer} is not defined")
        for nested in message.nested_type:
            visit(nested, f"{scope}.{nested.name}")

    for message in file.message_type:
        visit(message, f".{file.package}.{message.name}")


@functools.cache
def pool() -> "DescriptorPool":
    """Both packages in a pool of their own, where other libraries' definitions of `inference` do not meet them."""
    from google.protobuf.descriptor_pool import DescriptorPool

    found = DescriptorPool()
    for package, file in FILES.items():
        found.Add(read_proto(source(package), file))  # pyright: ignore[reportAttributeAccessIssue]
    return found


@functools.cache
def message_class(name: str) -> Any:
    """The class of a message, "inference.ModelInferRequest"."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(pool().FindMessageTypeByName(name))


def generate_grpc_proto(model: "Model | None" = None, path: Any = None, *, package: str = "axiom.v1") -> str:
    """The .proto file of a gRPC service, for clients in any language.

    Args:
        model: whose inputs and outputs are told in comments, if given.
        path: where to write the file, if given.
        package: "axiom.v1" (AxiomInference) or "inference" (GRPCInferenceService, Open Inference Protocol v2).

    Returns:
        The text of the file.

    Raises:
        AxiomError: there is no such package; the file cannot be written.

    >>> "rpc Predict(PredictRequest) returns (PredictResponse);" in generate_grpc_proto()
    True
    """
    if package not in FILES:
        raise AxiomError("There is no such package.", at=caller(), got=str(package), fix=" or ".join(map(repr, FILES)))
    text = source(package)
    if model is not None:
        from axiom_jax.serve.specs import described

        text = "".join(f"// {line}\n" for line in described(model)) + text
    if path is not None:
        from axiom_jax.verification.proof.certificate import write_atomically

        try:
            write_atomically(Path(path), text.encode())
        except OSError as error:
            raise AxiomError("The file cannot be written.", at=str(path), got=error.strerror,
                             fix="name a file in a folder that exists and is writable") from None  # fmt: skip
    return text
