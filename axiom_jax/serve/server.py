"""Servers: `serve_rest`, `serve_graphql` and `serve_grpc`, in the foreground or behind a handle.

The event loop always runs on a thread of its own; the main thread waits for a signal, or does what it likes.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from axiom_jax._errors import AxiomError, BackendUnavailable
from axiom_jax.serve.limits import Limits

if TYPE_CHECKING:
    from axiom_jax.serve.engine import Engine

PROTOCOLS = ("rest", "graphql", "grpc")
GRACE = 30.0  # seconds for what is being computed when a server is asked to stop


class Server:
    """A running server: a context manager that stops it.

    Args:
        engine: what it serves.
        protocols: among rest, graphql and grpc; the first two share a port.
        host: the address to listen at.
        port, grpc_port: 0 picks a free one.
        owned: whether the engine is closed with the server.

    Raises:
        AxiomError: the address is in use or not of this machine.
        BackendUnavailable: the packages of the extra `serve` are missing.
    """

    def __init__(self, engine: "Engine", protocols: Sequence[str], host: str, port: int, grpc_port: int, owned: bool):
        self.engine, self.protocols, self.host, self._owned = engine, tuple(protocols), host, owned
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop, self._failure = asyncio.Event(), None
        self._started, self._asked = threading.Event(), threading.Event()
        if "grpc" in protocols and grpc_port:  # gRPC itself would write its reasons to stderr
            listening(host, grpc_port).close()
        self._http = listening(host, port) if {"rest", "graphql"} & set(protocols) else None
        self._port: int = self._http.getsockname()[1] if self._http is not None else 0
        self.grpc_port = grpc_port if "grpc" in protocols else None
        self._thread = threading.Thread(target=self._run, name="axiom-serve", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            self._close()
            raise self._failure

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port of REST and GraphQL, or that of gRPC where it is alone."""
        port = self.grpc_port if self._http is None else self._port
        assert port is not None  # one of the two is always served
        return port

    @property
    def url(self) -> str:
        """What a client is given: `http://127.0.0.1:8000`, `…/graphql`, or `127.0.0.1:8001` for gRPC alone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self._http is None:
            return f"{host}:{self.port}"
        return f"http://{host}:{self.port}" + ("" if "rest" in self.protocols else "/graphql")

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each protocol."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        known = {"rest": f"http://{host}:{self.port}", "graphql": f"http://{host}:{self.port}/graphql",
                 "grpc": f"{host}:{self.grpc_port}"}  # fmt: skip
        return {protocol: known[protocol] for protocol in self.protocols}

    def __repr__(self) -> str:
        return f"Server({', '.join(f'{name} {address}' for name, address in self.addresses.items())})"

    def stop(self) -> None:
        """Take no new requests, finish those that are being answered, give the ports back."""
        if self._thread.is_alive() and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._close()

    def wait(self, announcement: str = "") -> None:
        """Print a line, serve until SIGINT or SIGTERM, then stop as `stop` does."""
        in_main = threading.current_thread() is threading.main_thread()  # signals can be heard there alone
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM) if in_main else ():
                before = signal.signal(number, lambda *_: self._asked.set())
                stack.callback(signal.signal, number, before)
            if announcement:  # now that a signal would be heeded
                print(announcement, flush=True)
            while not self._asked.wait(1.0) and self._thread.is_alive():
                pass
            self.stop()
        if self._failure is not None:
            raise self._failure

    def _close(self) -> None:
        if self._http is not None:
            self._http.close()
        if self._owned:
            self.engine.close()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except Exception as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        ends: list[Awaitable[Any]] = []
        try:
            if self.grpc_port is not None:
                from axiom_jax.serve.grpc_face import start_grpc

                grpc, self.grpc_port = await start_grpc(self.engine, self.host, self.grpc_port)
                ends.append(grpc.stop(GRACE))
            if self._http is not None:
                http = self._http_server()
                task = asyncio.create_task(http.serve([self._http]))
                while not http.started and not task.done():
                    await asyncio.sleep(0.005)
                ends.append(_ended(http, task))
            self._started.set()
            await self._stop.wait()
        finally:  # what was started is stopped, whatever failed after it
            await asyncio.gather(*ends)

    def _http_server(self) -> Any:
        import uvicorn

        from axiom_jax.serve.connection import Patient

        config = uvicorn.Config(
            _app(self.engine, self.protocols), http=Patient.within(self.engine.limits.seconds), ws="none",
            lifespan="off", log_config=None, log_level="warning", access_log=False, server_header=False,
            proxy_headers=False, timeout_keep_alive=30,
            limit_concurrency=self.engine.limits.connections, timeout_graceful_shutdown=int(GRACE),
        )  # fmt: skip
        return uvicorn.Server(config)


async def _ended(http: Any, task: "asyncio.Task[None]") -> None:
    """Let uvicorn take no new requests and finish those that are being answered."""
    http.should_exit = True
    await task


def _app(engine: "Engine", protocols: Sequence[str]) -> Any:
    if "rest" in protocols:
        from axiom_jax.serve.rest import rest_app

        return rest_app(engine, graphql="graphql" in protocols)
    from axiom_jax.serve.graphql_face import graphql_app

    return graphql_app(engine)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loops where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def listening(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        AxiomError: the address is in use, or not of this machine.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise taken(host, port, getattr(error, "strerror", None) or str(error)) from None
    return bound


def taken(host: str, port: int, reason: str) -> AxiomError:
    return AxiomError("The server cannot listen there.", at=f"{host}:{port}", got=reason,
                      fix="stop what listens there, or take another port: port=0 picks a free one")  # fmt: skip


def start(models: Any, protocols: Sequence[str], host: str, port: int, grpc_port: int, *, certificates: Any = (),
          backend: str | None = None, limits: Limits | None = None) -> Server:  # fmt: skip
    """A running server of an engine, a model, several models, or models by name.

    Args:
        models: see `serve_rest`.
        protocols: among "rest", "graphql", "grpc".
        host, port, grpc_port: where to listen.
        certificates: for one model; of several a mapping from their names.
        backend, limits: see `serve_rest`.
    """
    try:
        import fastapi
        import grpc
        import strawberry
        import uvicorn
    except ImportError as error:
        raise BackendUnavailable("Serving needs the extra `serve`.", got=str(error),
                                 fix="pip install 'axiom-jax[serve]'") from None  # fmt: skip
    del fastapi, grpc, strawberry, uvicorn
    from axiom_jax.serve.engine import Engine

    if isinstance(models, Engine):
        return Server(models, protocols, host, port, grpc_port, owned=False)
    engine = Engine(limits)
    try:
        _fill(engine, models, certificates, backend)
        return Server(engine, protocols, host, port, grpc_port, owned=True)
    except BaseException:
        engine.close()
        raise


def _fill(engine: "Engine", models: Any, certificates: Any, backend: str | None) -> None:
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, (list, tuple)):
        named = {f"{i}": model for i, model in enumerate(models)}
    else:
        engine.add(models, certificates=certificates, backend=backend)
        return
    if not isinstance(certificates, Mapping) and certificates:
        raise AxiomError("Certificates of several models are given by name.", got=type(certificates).__name__,
                         fix='certificates={"classifier": "classifier.cert"}')  # fmt: skip
    rest = dict(certificates or {})
    for key, model in named.items():
        name = key if isinstance(models, Mapping) else getattr(model, "name", None)
        engine.add(model, name=name, certificates=rest.pop(name, ()), backend=backend)
    if rest:
        raise AxiomError(f"There is no model {next(iter(rest))!r} for a certificate.", got=", ".join(rest),
                         fix=f"models: {', '.join(engine.models)}")  # fmt: skip


def _served(models: Any, protocols: Sequence[str], host: str, port: int, background: bool, **options: Any) -> Any:
    server = start(models, protocols, host, port, port, **options)
    if background:
        return server
    server.wait(announcement(server))
    return None


def announcement(server: Server) -> str:
    """The line that says where what is served."""
    addresses = ", ".join(f"{name} {address}" for name, address in server.addresses.items())
    return f"serving {', '.join(server.engine.models)} at {addresses}"


def serve_rest(models: Any, host: str = "127.0.0.1", port: int = 8000, *, background: bool = False,
               certificates: Any = (), backend: str | None = None, limits: Limits | None = None) -> Any:  # fmt: skip
    """Serve models by REST: the Open Inference Protocol v2, `POST /predict`, `GET /health`, and /docs.

    Args:
        models: a model, a list or a dict of them by name, or an `axiom_jax.serve.engine.Engine`; a model may also
            be compiled (`ax.compile`), or a `.onnx` or `.axiom` file.
        host, port: where to listen; port 0 picks a free one.
        background: return at once, with a handle: `.url`, `.port`, `.stop()`, or as a context manager. Otherwise
            it serves until SIGINT or SIGTERM.
        certificates: of the model, in memory or as files; for several models a dict by name.
        backend: what computes, as `ax.compile` names it.
        limits: of a request.

    Raises:
        CertificateError: a certificate does not hold for these very weights.
        AxiomError: the address cannot be listened at; a model cannot be served.

    Source: Open Inference Protocol v2, https://github.com/kserve/open-inference-protocol.

    >>> import axiom_jax as ax
    >>> from axiom_jax import nn
    >>> with serve_rest(ax.Sequential(nn.Dense(4, 2)), port=0, background=True) as server:
    ...     import json, urllib.request
    ...     with urllib.request.urlopen(f"{server.url}/health") as answer:
    ...         print(json.load(answer))
    {'status': 'ok', 'models': ['sequential']}
    """
    return _served(models, ("rest",), host, port, background, certificates=certificates, backend=backend, limits=limits)


def serve_graphql(models: Any, host: str = "127.0.0.1", port: int = 8000, *, background: bool = False,
                  certificates: Any = (), backend: str | None = None, limits: Limits | None = None) -> Any:  # fmt: skip
    """Serve models by GraphQL at /graphql: models, model, predict, certificate, health.

    Args:
        models, host, port, background, certificates, backend, limits: see `serve_rest`.

    Raises:
        CertificateError, AxiomError: see `serve_rest`.

    Source: GraphQL, October 2021, and GraphQL over HTTP.

    >>> import axiom_jax as ax
    >>> from axiom_jax import nn
    >>> with serve_graphql(ax.Sequential(nn.Dense(4, 2)), port=0, background=True) as server:
    ...     server.url.endswith("/graphql")
    True
    """
    return _served(models, ("graphql",), host, port, background, certificates=certificates, backend=backend,
                   limits=limits)  # fmt: skip


def serve_grpc(models: Any, host: str = "127.0.0.1", port: int = 8001, *, background: bool = False,
               certificates: Any = (), backend: str | None = None, limits: Limits | None = None) -> Any:  # fmt: skip
    """Serve models by gRPC: inference.GRPCInferenceService, axiom.v1.AxiomInference, health and reflection.

    Args:
        models, host, port, background, certificates, backend, limits: see `serve_rest`.

    Raises:
        CertificateError, AxiomError: see `serve_rest`.

    Source: Open Inference Protocol v2, gRPC; `generate_grpc_proto` writes the definitions.

    >>> import axiom_jax as ax
    >>> from axiom_jax import nn
    >>> with serve_grpc(ax.Sequential(nn.Dense(4, 2)), port=0, background=True) as server:
    ...     server.url.startswith("127.0.0.1:")
    True
    """
    return _served(models, ("grpc",), host, port, background, certificates=certificates, backend=backend, limits=limits)
