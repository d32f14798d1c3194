"""The gRPC face: Open Inference Protocol v2, axiom.v1.AxiomInference, health and reflection, over HTTP/2.

Messages of axiom.v1 are protobuf or JSON. The library does not tell a handler which content type came, but no
message of ours begins with "{" in protobuf (a group of field 15), so the first byte tells it.
Source: gRPC over HTTP/2, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from axiom_jax.serve.descriptions import VERSION
from axiom_jax.serve.engine import Engine
from axiom_jax.serve.limits import Refusal, parts_of, status_of, text_of
from axiom_jax.serve.openinference import EXTENSIONS, from_json, tensor
from axiom_jax.serve.protos import FILES, message_class, pool
from axiom_jax.serve.served import Served
from axiom_jax.serve.server import taken
from axiom_jax.serve.tensors import Spec, read_tensor, to_bytes, to_list

CODES = {400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND,
         413: grpc.StatusCode.RESOURCE_EXHAUSTED, 422: grpc.StatusCode.FAILED_PRECONDITION,
         503: grpc.StatusCode.UNAVAILABLE}  # fmt: skip
CONTENTS = {"BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
            "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
            "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents",
            "FP64": "fp64_contents"}  # fmt: skip
log = logging.getLogger("axiom_jax.serve")
Handler = Callable[[Engine, Any], Awaitable[Any]]


async def start_grpc(engine: Engine, host: str, port: int) -> tuple[Any, int]:
    """A running server on this event loop, and its port.

    Raises:
        AxiomError: the address cannot be listened at.
    """
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    server = grpc.aio.server(maximum_concurrent_rpcs=engine.limits.connections, options=[
        ("grpc.max_receive_message_length", engine.limits.body),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ])  # fmt: skip
    for service, handlers in SERVICES.items():
        server.add_generic_rpc_handlers((_service(engine, service, handlers),))
    states = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("", *SERVICES):
        await states.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], server, _reflected())
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        await server.stop(None)
        raise taken(host, port, str(error)) from None
    await server.start()
    return server, bound


def _reflected() -> Any:
    """What reflection tells: our definitions, and those of health and of itself."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    every = DescriptorPool()
    files = [pool().FindFileByName(name) for name in FILES.values()]
    for file in (*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        copy = FileDescriptorProto()
        file.CopyToProto(copy)
        every.Add(copy)  # pyright: ignore[reportAttributeAccessIssue]
    return every


def _service(engine: Engine, name: str, handlers: dict[str, Handler]) -> Any:
    methods = {method.name: method for method in pool().FindServiceByName(name).methods}
    table = {
        call: grpc.unary_unary_rpc_method_handler(
            _answering(engine, handler, message_class(methods[call].input_type.full_name)),
        )
        for call, handler in handlers.items()
    }
    return grpc.method_handlers_generic_handler(name, table)


def _answering(engine: Engine, handler: Handler, kind: Any) -> Any:
    """A handler of bytes: reads the message, answers in the same form, says errors with a status."""

    async def answer(data: bytes, context: Any) -> bytes:
        as_json = data[:1] == b"{"
        try:
            reply = await handler(engine, _read(data, kind, as_json))
        except Exception as error:
            status = status_of(error)
            if status == 500:
                log.exception("a call failed")
            parts = json.dumps(parts_of(error))  # ASCII, as metadata has to be
            await context.abort(CODES.get(status, grpc.StatusCode.INTERNAL), text_of(error),
                                (("axiom-error", parts[:4096]),))  # fmt: skip
            raise AssertionError("abort raises") from None
        if as_json:
            return json_format.MessageToJson(reply, indent=None, preserving_proto_field_name=True).encode()
        return reply.SerializeToString()

    return answer


def _read(data: bytes, kind: Any, as_json: bool) -> Any:
    if as_json:
        try:
            return json_format.ParseDict(from_json(data), kind())
        except json_format.ParseError as error:
            raise Refusal(f"The JSON is no {kind.DESCRIPTOR.name}.", at="request message", got=str(error)[:200],
                          fix="send the fields that ax.generate_grpc_proto() lists") from None  # fmt: skip
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Refusal(f"The message is no {kind.DESCRIPTOR.name}.", at="request message", got=str(error)[:200],
                      fix="send protobuf, or JSON that begins with {") from None  # fmt: skip


def _make(name: str, /, **fields: Any) -> Any:
    return message_class(name)(**fields)


async def _server_live(engine: Engine, request: Any) -> Any:
    return _make("inference.ServerLiveResponse", live=True)


async def _server_ready(engine: Engine, request: Any) -> Any:
    return _make("inference.ServerReadyResponse", ready=True)


async def _model_ready(engine: Engine, request: Any) -> Any:
    engine.get(_name(request.name), request.version)
    return _make("inference.ModelReadyResponse", ready=True)


async def _server_metadata(engine: Engine, request: Any) -> Any:
    return _make("inference.ServerMetadataResponse", name="axiom-jax", version=VERSION,
                 extensions=EXTENSIONS)  # fmt: skip


async def _model_metadata(engine: Engine, request: Any) -> Any:
    served = engine.get(_name(request.name), request.version)
    kind = message_class("inference.ModelMetadataResponse.TensorMetadata")
    tensors = lambda specs: [kind(**spec.to_dict()) for spec in specs]
    properties = {"signature": served.signature}
    if served.digest:
        properties["certificate"] = served.digest
    return _make("inference.ModelMetadataResponse", name=served.name, versions=[served.version],
                 platform=f"axiom-jax_{served.record['used']}", inputs=tensors(served.inputs),
                 outputs=tensors(served.outputs), properties=properties)  # fmt: skip


def _name(name: str) -> str:
    """The protocol asks for a name, which protobuf leaves empty where none was sent."""
    if not name:
        raise Refusal("No model was named.", at="request message", fix='name: "..."')
    return name


async def _model_infer(engine: Engine, request: Any) -> Any:
    served = engine.get(_name(request.model_name), request.model_version)
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refusal("Every input's bytes belong into raw_input_contents, or none's.", at="raw_input_contents",
                      got=f"{len(raw)} of {len(request.inputs)} inputs", fix="send one entry an input")  # fmt: skip
    arrays: dict[str, np.ndarray] = {}
    for i, given in enumerate(request.inputs):
        at, spec = f"inputs[{i}]", _spec(served, given.name, arrays, f"inputs[{i}]")
        parts: dict[str, Any] = {"raw": raw[i]} if raw else {"data": _contents(given, spec, at)}
        arrays[spec.name] = read_tensor(spec, at, engine.limits, shape=list(given.shape), datatype=given.datatype,
                                        **parts)  # fmt: skip
    known = [spec.name for spec in served.outputs]
    wanted = [output.name for output in request.outputs] or known
    if unknown := [name for name in wanted if name not in known]:
        raise Refusal(f"{served.name} has no output named {unknown[0][:60]!r}.", at="outputs",
                      fix=f"outputs: {', '.join(known)}")  # fmt: skip
    answer = await engine.infer(served.name, arrays)
    reply = _make("inference.ModelInferResponse", model_name=answer.model, model_version=answer.version, id=request.id)
    if answer.digest:
        reply.parameters["certificate"].string_param = answer.digest
    chosen = {name: answer.outputs[name] for name in wanted}
    as_bytes = bool(raw) or any(spec.datatype not in CONTENTS for spec in served.outputs if spec.name in chosen)
    for name, array in chosen.items():
        out = reply.outputs.add(**tensor(name, array))
        if as_bytes:
            reply.raw_output_contents.append(to_bytes(array))
        else:
            getattr(out.contents, CONTENTS[out.datatype]).extend(to_list(array))
    return reply


def _spec(served: Served, name: str, given: dict[str, Any], at: str) -> Spec:
    spec = served.input.get(name)
    if spec is None or name in given:
        what = f"has no input named {name[:60]!r}" if spec is None else f"is given {name!r} twice"
        raise Refusal(f"{served.name} {what}.", at=at, fix=f"inputs: {', '.join(served.input)}")
    return spec


def _contents(given: Any, spec: Spec, at: str) -> list[Any]:
    """The elements from the typed field of their datatype."""
    field = CONTENTS.get(spec.datatype)
    if given.datatype != spec.datatype:
        return []  # told by read_tensor
    if field is None:
        raise Refusal(f"{spec.datatype} has no typed contents.", at=at, fix="send raw_input_contents")
    filled = [found.name for found, _ in given.contents.ListFields()]
    if filled not in ([field], []):
        raise Refusal(f"The elements of {spec.datatype} are in another field.", at=f"{at}.contents",
                      got=", ".join(filled), fix=field)  # fmt: skip
    return list(getattr(given.contents, field))


async def _predict(engine: Engine, request: Any) -> Any:
    served = engine.get(request.model, request.version)
    arrays: dict[str, np.ndarray] = {}
    raw = False
    for i, given in enumerate(request.inputs):
        at = f"inputs[{i}]"
        name = given.name if given.name or len(served.inputs) > 1 else next(iter(served.input))
        spec = _spec(served, name, arrays, at)
        filled = [field for field in ("raw", "numbers", "integers") if len(getattr(given, field))]
        if len(filled) != 1:
            raise Refusal("The elements of a tensor are in one field.", at=at, got=", ".join(filled) or "none",
                          fix="fill raw, numbers or integers")  # fmt: skip
        parts: dict[str, Any]
        raw = raw or filled == ["raw"]
        elements = getattr(given, filled[0])
        count = len(elements)
        if filled == ["raw"]:
            parts, count = {"raw": elements}, count // spec.dtype.itemsize
        elif spec.datatype == "BOOL":
            parts = {"data": [bool(n) if n in (0, 1) else n for n in elements]}
        else:
            parts = {"data": list(elements)}
        arrays[spec.name] = read_tensor(spec, at, engine.limits, shape=list(given.shape) or _shape(spec, count, at),
                                        datatype=given.datatype or None, **parts)  # fmt: skip
    answer = await engine.infer(served.name, arrays)
    reply = _make("axiom.v1.PredictResponse", model=answer.model, version=answer.version,
                  certificate=answer.digest or "")  # fmt: skip
    for name, array in answer.outputs.items():
        out = reply.outputs.add(**tensor(name, array))
        if raw or (array.dtype == np.uint64 and array.size and array.max() >= 2**63):  # no field holds such integers
            out.raw = to_bytes(array)
        else:
            field = "integers" if array.dtype.kind in "biu" else "numbers"
            getattr(out, field).extend(map(int, to_list(array)) if field == "integers" else to_list(array))
    return reply


def _shape(spec: Spec, count: int, at: str) -> list[int]:
    """The shape that so many elements have, where one size at most is free."""
    free = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    rest = math.prod(size for size in spec.shape if isinstance(size, int))
    if len(free) > 1:
        raise Refusal(f"{spec.name} needs its shape.", at=at, got=f"{count} elements", fix=f"shape: {spec.sizes}")
    return [max(count // rest, 1) if axis in free else int(size) for axis, size in enumerate(spec.shape)]


async def _health(engine: Engine, request: Any) -> Any:
    return _make("axiom.v1.HealthResponse", status="ok", models=list(engine.models))


SERVICES: dict[str, dict[str, Handler]] = {
    "inference.GRPCInferenceService": {
        "ServerLive": _server_live, "ServerReady": _server_ready, "ModelReady": _model_ready,
        "ServerMetadata": _server_metadata, "ModelMetadata": _model_metadata, "ModelInfer": _model_infer,
    },
    "axiom.v1.AxiomInference": {"Predict": _predict, "Health": _health},
}  # fmt: skip
