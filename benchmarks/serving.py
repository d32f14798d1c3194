"""REST throughput beside a bare uvicorn echo: the same request bodies, rounds in turn, on loopback.

Each server is a process of its own, and so is the client, which keeps its connections open and sends the next
request of each when the answer has come. Run: python benchmarks/serving.py --seconds 60 --connections 32
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

ECHO = """
import asyncio, socket, uvicorn
async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
asyncio.run(uvicorn.Server(config).serve([listening]), loop_factory=config.get_loop_factory()) if hasattr(
    asyncio, "Runner") and __import__("sys").version_info >= (3, 12) else uvicorn.Server(config).run([listening])
"""
MODEL = """
import sys, axiom_jax as ax
from axiom_jax import nn
sizes = list(map(int, sys.argv[1].split(",")))
layers = [piece for a, b in zip(sizes, sizes[1:]) for piece in (nn.Dense(a, b), nn.relu)]
server = ax.serve_rest(ax.Sequential(*layers[:-1], nn.softmax, name="mlp"), port=0, background=True)
print(server.port, flush=True)
server.wait()
"""


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until the time is over."""

    def __init__(self, request: bytes, end: float, tally: dict[str, Any], done: asyncio.Future[None]):
        self.request, self.end, self.tally, self.done = request, end, tally, done
        self.buffer, self.length = b"", 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.start = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.length:
            head, found, _ = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            self.length = len(head) + 4 + int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            self.ok = head.startswith(b"HTTP/1.1 200")
        if len(self.buffer) < self.length:
            return
        self.buffer, self.length = self.buffer[self.length :], 0
        now = time.perf_counter()
        self.tally["answers" if self.ok else "errors"] += 1
        self.tally["latencies"].append(now - self.start)
        if now < self.end:
            self.ask()
        else:
            self.done.done() or self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.tally["errors"] += 1
            self.done.set_result(None)


async def load(port: int, path: str, body: bytes, connections: int, seconds: float) -> dict[str, Any]:
    lines = f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json", f"content-length: {len(body)}"
    tally: dict[str, Any] = {"answers": 0, "errors": 0, "latencies": []}
    loop, start = asyncio.get_running_loop(), time.perf_counter()
    finished = []
    for _ in range(connections):
        done = loop.create_future()
        finished.append(done)
        make = lambda done=done: Client("\r\n".join((*lines, "", "")).encode() + body, start + seconds, tally, done)
        await loop.create_connection(make, "127.0.0.1", port)
    await asyncio.wait_for(asyncio.gather(*finished), seconds + 30)
    tally["seconds"] = time.perf_counter() - start
    return tally


def started(code: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A server in a process of its own, and its port."""
    environment = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="under load in all, for each of the servers")
    parser.add_argument("--rounds", type=int, default=5, help="that these seconds are cut into")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--sizes", default="784,128,10", help="of the layers")
    given = parser.parse_args()
    width = int(given.sizes.split(",")[0])
    row = [round(0.001 * (i * 37 % 1000), 3) for i in range(width)]
    infer = {"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": row}]}
    bodies = {"/predict": json.dumps({"input": [row]}).encode(), "/v2/models/mlp/infer": json.dumps(infer).encode()}
    echo, echo_port = started(ECHO)
    model, model_port = started(MODEL, given.sizes)
    try:
        plan = [("echo", echo_port, "/", bodies["/predict"]),
                *((path, model_port, path, body) for path, body in bodies.items())]  # fmt: skip
        for _, port, path, body in plan:  # byte code, sockets, compiled programs
            asyncio.run(load(port, path, body, given.connections, 0.5))
        rows: list[dict[str, dict[str, Any]]] = []
        for _ in range(given.rounds):
            each = given.seconds / given.rounds
            rows.append({name: asyncio.run(load(*request, given.connections, each)) for name, *request in plan})
    finally:
        for process in (echo, model):
            process.terminate()
            process.wait(30)
            if process.stdout:
                process.stdout.close()
    names = [name for name, *_ in plan]
    print(f"Python {platform.python_version()}, uvicorn {version('uvicorn')}, jax {version('jax')}")
    print(f"{platform.machine()}, {os.cpu_count()} cores; {given.connections} connections, {given.seconds:g} s each in "
          f"{given.rounds} rounds; MLP {given.sizes}, body {len(bodies['/predict'])} bytes")  # fmt: skip
    print(f"{'':<22} requests/s   of echo   errors   p50 ms   p99 ms")
    rate = lambda row, name: row[name]["answers"] / row[name]["seconds"]
    for name in names:
        latencies = sorted(t for row in rows for t in row[name]["latencies"])
        share = statistics.median(rate(row, name) / rate(row, "echo") for row in rows)
        print(f"{name:<22} {statistics.median(rate(row, name) for row in rows):>10.0f} {share:>9.2f} "
              f"{sum(row[name]['errors'] for row in rows):>8} {1e3 * latencies[len(latencies) // 2]:>8.1f} "
              f"{1e3 * latencies[len(latencies) * 99 // 100]:>8.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
