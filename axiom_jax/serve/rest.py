"""The REST face: Open Inference Protocol v2, `POST /predict`, `GET /health`, an OpenAPI page, and GraphQL if wanted."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from axiom_jax._errors import AxiomError
from axiom_jax.serve import descriptions
from axiom_jax.serve.engine import Answer, Engine
from axiom_jax.serve.limits import Limits, Refusal, parts_of, status_of, text_of
from axiom_jax.serve.openinference import EXTENSIONS, from_json, numbers, read_request, to_json, write_answer
from axiom_jax.serve.served import Served
from axiom_jax.serve.tensors import read_tensor

DIGEST, LENGTH = "axiom-certificate-sha256", "inference-header-content-length"
Endpoint = Callable[[Request], Awaitable[Response]]
HOT = re.compile(r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/infer")
LONG = 2**18  # bytes that take about a millisecond to read


def rest_app(engine: Engine, graphql: bool = False) -> FastAPI:
    """The ASGI application of an engine: for `uvicorn`, or in the process with `httpx.ASGITransport`.

    Args:
        engine: holds the models.
        graphql: whether GraphQL is served too, at /graphql.

    Source: Open Inference Protocol v2, https://github.com/kserve/open-inference-protocol.

    >>> from axiom_jax.serve.engine import Engine
    >>> sorted({route.path for route in rest_app(Engine()).routes if "/v2/" in route.path})[:2]
    ['/v2/health/live', '/v2/health/ready']
    """
    app = base_app(engine)
    _server(app)
    _models(app, engine)
    _inference(app, engine)
    app.add_middleware(Bounded, limits=engine.limits)  # pyright: ignore[reportArgumentType]
    if graphql:
        from axiom_jax.serve.graphql_face import add_graphql

        add_graphql(app, engine)
    return app


def base_app(engine: Engine) -> FastAPI:
    """An application with `GET /health`, the limits, and errors as JSON."""
    app = FastAPI(title="axiom-jax", version=descriptions.VERSION, summary=descriptions.SUMMARY, redoc_url=None)
    for kind in (AxiomError, HTTPException, Exception):
        app.add_exception_handler(kind, _refuse)

    @app.get("/health", tags=["axiom"])
    async def health() -> Any:
        """Whether the server answers, and with which models."""
        return {"status": "ok", "models": list(engine.models)}

    return app


def _server(app: FastAPI) -> None:
    @app.get("/v2", tags=["v2"])
    async def server_metadata() -> Any:
        """Name, version and extensions of the server."""
        return {"name": "axiom-jax", "version": descriptions.VERSION, "extensions": EXTENSIONS}

    @app.get("/v2/health/live", tags=["v2"])
    async def live() -> Any:
        """Whether the server runs."""
        return {"live": True}

    @app.get("/v2/health/ready", tags=["v2"])
    async def ready() -> Any:
        """Whether every model answers; models are compiled before the server starts."""
        return {"ready": True}


def _models(app: FastAPI, engine: Engine) -> None:
    async def metadata(model: str, version: str | None = None) -> Any:
        """Inputs, outputs and certificates of a model."""
        return describe(engine.get(model, version))

    async def ready(model: str, version: str | None = None) -> Any:
        """Whether a model answers."""
        served = engine.get(model, version)
        return {"name": served.name, "ready": True}

    async def certificate(model: str, version: str | None = None, digest: str | None = None) -> Response:
        """A certificate of a model: the file's bytes. `axiom check` judges it, or `checker.py` on its own."""
        served = engine.get(model, version)
        found = digest or next(iter(served.certificates), None)
        if found is None or found not in served.certificates:
            raise Refusal(f"{served.name} has no such certificate.", status=404, at=f"/v2/models/{served.name}",
                          got=digest and digest[:80], fix=f"certificates: {served.digest or 'none'}")  # fmt: skip
        headers = {DIGEST: found, "content-disposition": f'attachment; filename="{served.name}.cert"'}
        return Response(served.certificates[found], headers=headers, media_type="application/json")

    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        app.get(path, tags=["v2"])(metadata)
        app.get(f"{path}/ready", tags=["v2"])(ready)
        app.get(f"{path}/certificate", tags=["v2"], response_class=Response)(certificate)


def describe(served: Served) -> dict[str, Any]:
    """A model's metadata, as the protocol writes it."""
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": f"axiom-jax_{served.record['used']}",
        "inputs": [spec.to_dict() for spec in served.inputs],
        "outputs": [spec.to_dict() for spec in served.outputs],
        "parameters": {
            "signature": served.signature,
            "certificates": list(served.certificates),
            "backend": served.record,
        },
    }


def _inference(app: FastAPI, engine: Engine) -> None:
    endpoints = {"predict": _predict(engine), "infer": _infer(engine)}
    app.add_middleware(Direct, endpoints=endpoints)  # pyright: ignore[reportArgumentType]
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        app.post(path, tags=["v2"], openapi_extra=descriptions.INFER, response_class=Response)(endpoints["infer"])
    app.post("/predict", tags=["axiom"], openapi_extra=descriptions.PREDICT, response_class=Response)(
        endpoints["predict"]
    )


def _infer(engine: Engine) -> Endpoint:
    async def infer(request: Request) -> Response:
        """Outputs for inputs: JSON, or JSON and then the tensors' bytes."""
        served = engine.get(request.path_params["model"], request.path_params.get("version"))
        length = request.headers.get(LENGTH)
        require_type(request, binary=length is not None)
        body = await request.body()
        asked = await _aside(len(body), read_request, served, body, length, engine.limits)
        answer = await engine.infer(served.name, asked.inputs, asked.parameters)
        body, head = await _aside(_bytes(answer), write_answer, asked, answer)
        headers = {} if answer.digest is None else {DIGEST: answer.digest}
        if head is None:
            return Response(body, headers=headers, media_type="application/json")
        return Response(body, headers={**headers, LENGTH: str(head)}, media_type="application/octet-stream")

    return infer


def _predict(engine: Engine) -> Endpoint:
    async def predict(request: Request) -> Response:
        """Outputs for inputs as nested lists."""
        require_type(request)
        body = await request.body()
        served, inputs = await _aside(len(body), _read_predict, engine, body)
        answer = await engine.infer(served.name, inputs)
        headers = {} if answer.digest is None else {DIGEST: answer.digest}
        text = await _aside(_bytes(answer), lambda: to_json(written(answer)))
        return Response(text, headers=headers, media_type="application/json")

    return predict


async def _aside(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of data of some size: on another thread where it would hold up the event loop."""
    return await asyncio.to_thread(function, *arguments) if size > LONG else function(*arguments)


def _bytes(answer: Answer) -> int:
    return sum(array.nbytes for array in answer.outputs.values())


def _read_predict(engine: Engine, body: bytes) -> tuple[Served, dict[str, np.ndarray]]:
    given = from_json(body)
    if not isinstance(given, dict):
        raise Refusal("The request is no JSON object.", at="request body", fix='{"input": [[...]]}')
    served = engine.get(_text(given, "model"), _text(given, "version"))
    return served, read_inputs(served, given, engine.limits)


def _text(body: dict[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Refusal(f"The {key} is a name.", at=key, got=type(value).__name__, fix=f'"{key}": "..."')
    return value


def read_inputs(served: Served, body: dict[str, Any], limits: Limits) -> dict[str, np.ndarray]:
    """The arrays of `{"input": [[...]]}` or `{"inputs": {"name": [[...]]}}`."""
    given = body.get("inputs")
    if given is None:
        if "input" not in body:
            raise Refusal("The request has no input.", at="request body", fix='{"input": [[...]]}')
        if len(served.inputs) != 1:
            raise Refusal(f"{served.name} has {len(served.inputs)} inputs.", at="input", got="one",
                          fix=f'"inputs": {{{", ".join(f"{name!r}: ..." for name in served.input)}}}')  # fmt: skip
        return {served.inputs[0].name: read_tensor(served.inputs[0], "input", limits, data=body["input"])}
    if not isinstance(given, dict):
        raise Refusal("The inputs are no JSON object.", at="inputs", got=type(given).__name__,
                      fix='"inputs": {"x": [[...]]}')  # fmt: skip
    for name in given:
        if name not in served.input:
            raise Refusal(f"{served.name} has no input named {name[:60]!r}.", at="inputs",
                          fix=f"inputs: {', '.join(served.input)}")  # fmt: skip
    return {name: read_tensor(served.input[name], f"inputs.{name}", limits, data=data) for name, data in given.items()}


def written(answer: Answer) -> dict[str, Any]:
    """An answer as nested lists: `output`, or `outputs` by name where there are several."""
    lists = {name: numbers(name, array, flat=False) for name, array in answer.outputs.items()}
    outputs = {"output": next(iter(lists.values()))} if len(lists) == 1 else {"outputs": lists}
    return {"model": answer.model, "version": answer.version, **outputs, "certificate": answer.digest}


def require_type(request: Request, binary: bool = False) -> None:
    """Refuse bodies that are not what they are read as."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    allowed = kind == "application/json" or kind.endswith("+json") or (binary and kind == "application/octet-stream")
    if not allowed:
        raise Refusal("The media type is not served.", status=415, at="header content-type", got=kind[:80],
                      fix="content-type: application/json")  # fmt: skip
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal("Compressed bodies are not served.", status=415, at="header content-encoding",
                      got=request.headers["content-encoding"][:80], fix="send it as it is")  # fmt: skip


async def _refuse(request: Request, error: Exception) -> Response:
    """Every error as JSON: its four parts; on the protocol's own paths a text, as its clients expect."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        phrase = HTTPStatus(error.status_code).phrase
        fix = "GET /docs lists what is served" if error.status_code in (404, 405) else None
        place = f"{request.method} {request.url.path[:200]}"
        error = Refusal(f"{phrase}.", status=error.status_code, at=place, fix=fix)
    status, parts = status_of(error), parts_of(error)
    if status == 503:
        headers["retry-after"] = "1"
    body = {"error": text_of(error), "detail": parts} if request.url.path.startswith("/v2") else {"error": parts}
    row = getattr(error, "row", None)
    if row is not None:
        body["row"] = row
    return Response(to_json(body), status, headers, "application/json")


class Direct:
    """Middleware that hands predictions to their endpoints at once; finding a route costs as much as a small model."""

    def __init__(self, app: Callable[..., Awaitable[None]], endpoints: Mapping[str, Endpoint]):
        self.app, self.endpoints = app, endpoints

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            if scope["path"] == "/predict":
                await self._answer("predict", {}, scope, receive, send)
                return
            if (found := HOT.fullmatch(scope["path"])) is not None:
                await self._answer("infer", found.groupdict(), scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _answer(self, name: str, parameters: dict[str, Any], scope: Any, receive: Any, send: Any) -> None:
        request = Request({**scope, "path_params": parameters}, receive)
        try:
            response = await self.endpoints[name](request)
        except AxiomError as error:
            response = await _refuse(request, error)
        await response(scope, receive, send)


class Bounded:
    """Middleware that ends a request whose body is too large or too slow, whichever part of the application reads."""

    def __init__(self, app: Callable[..., Awaitable[None]], limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        limits, taken = self.limits, 0
        deadline = asyncio.get_running_loop().time() + limits.seconds
        stated = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        ended = False

        async def bounded() -> Any:
            nonlocal taken, ended
            if ended:  # what comes now is news of the connection, which may take as long as the answer
                return await receive()
            if int(stated) > limits.body:
                raise self._too_large(int(stated))
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise Refusal("The body took too long.", status=408, at="request body",
                              fix=f"send it within {limits.seconds:g} seconds") from None  # fmt: skip
            taken += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if taken > limits.body:
                raise self._too_large(taken)
            return message

        with suppress(ClientDisconnect):  # nobody is there to be answered
            await self.app(scope, bounded, send)

    def _too_large(self, size: int) -> Refusal:
        return Refusal("The request body is too large.", status=413, at="request body", got=f"{size} bytes or more",
                       fix=f"at most {self.limits.body} bytes: send it in several requests")  # fmt: skip
