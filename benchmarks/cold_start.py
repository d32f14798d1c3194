"""How long the first result takes in a fresh process: with nothing cached, and with what `ax.precompile` kept.

The clock starts when the packages are imported and the model is built, as at the start of a server, and stops when the
first result is on the host. Every round starts a process for each case. Run: python benchmarks/cold_start.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

NETS = {
    "MLP": "ax.Sequential(nn.Dense(784, 256), nn.relu, nn.Dense(256, 256), nn.relu, nn.Dense(256, 10), nn.softmax)",
    "CNN": "ax.Sequential(nn.Conv(1, 16, (3, 3)), nn.relu, nn.MaxPool((2, 2)), nn.Conv(16, 32, (3, 3)), nn.relu, "
           "nn.MaxPool((2, 2)), nn.Flatten(), nn.Dense(1568, 10), input_shape=(28, 28, 1))",
    "attention": "ax.Sequential(nn.MultiHeadAttention(4, 64), nn.LayerNorm(64), nn.Dense(64, 256), nn.relu, "
                 "nn.Dense(256, 64), input_shape=(32, 64))",
}  # fmt: skip
CODE = """
import sys, time, json
start = time.perf_counter()
import numpy as np, jax, flax.nnx
import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.targets import compiling
jax.block_until_ready(jax.numpy.zeros(1))
imported = time.perf_counter()
model = eval(sys.argv[1])
x = np.zeros((1, *(n for n in model.signature.inputs[0][1][1:])), np.float32)
built = time.perf_counter()
compiled = ax.compile(model, sys.argv[2], cache=sys.argv[3] or False)
np.asarray(compiled(x))
done = time.perf_counter()
print(json.dumps({"first": done - built, "build": built - imported, "import": imported - start,
                  "used": compiled.record["used"]}))
"""


def first(net: str, backend: str, cache: str) -> dict[str, Any]:
    """Seconds of a fresh process: imports, building the model, and from there to the first result."""
    command = [sys.executable, "-c", CODE, NETS[net], backend, cache]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=["xla", "auto"])
    given = parser.parse_args()
    for backend in given.backends:
        for net in NETS:
            with tempfile.TemporaryDirectory() as cache:
                first(net, backend, cache)
                runs = {"cold": [], "from the cache": []}
                for _ in range(given.rounds):
                    runs["cold"].append(first(net, backend, ""))
                    runs["from the cache"].append(first(net, backend, cache))
            for case, found in runs.items():
                middle = {part: statistics.median(run[part] for run in found) for part in ("first", "build", "import")}
                least = min(run["first"] for run in found)
                used = ", ".join(sorted({run["used"] for run in found}))
                print(f"{backend:5s} {net:9s} {case:14s} first result {middle['first']:.2f} s (least {least:.2f}), "
                      f"before it: imports {middle['import']:.2f} s, model {middle['build']:.2f} s  [{used}]",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
