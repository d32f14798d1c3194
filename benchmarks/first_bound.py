"""Seconds from the start of a process to the first CROWN bounds of a network, compiled anew and from the cache.

    python benchmarks/first_bound.py NET.onnx PROPERTY.vnnlib [--rounds 3]

The clock starts before the process does and stops when bounds of the outputs over the property's first box are on the
host: Python, all imports, reading both files, tracing and compiling are counted. `cold` has an empty compilation
cache, `warm` that of the process before it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

CODE = """
import sys, time
from fractions import Fraction
import numpy as np
from axiom_jax._cli_verify import keep_compilations, read_model
from axiom_jax.verification.domains.layered import layered_bounds
from axiom_jax.verification.domains.linear import plan
from axiom_jax.verification.spec.vnnlib import read_vnnlib
keep_compilations()
subject = read_model(sys.argv[1])
program, values = subject.flat
(case, *_) = read_vnnlib(sys.argv[2], subject.size, program.outputs[0].size).cases
lo, hi = (np.array([float(Fraction(x)) for x in end], np.float32) for end in (case.lo, case.hi))
(box,) = layered_bounds(plan(program), values, lo, hi, method="crown")
np.asarray(box.lo)
print(time.time())
"""


def seconds(net: str, prop: str, cache: str) -> float:
    """Seconds from here to the first bounds in a process of its own, which keeps compilations in `cache`."""
    start = time.time()
    run = subprocess.run(
        [sys.executable, "-c", CODE, net, prop],
        capture_output=True, text=True, check=True, env=os.environ | {"XDG_CACHE_HOME": cache},
    )  # fmt: skip
    return float(run.stdout.splitlines()[-1]) - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("net")
    parser.add_argument("property")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cold, warm = list[float](), list[float]()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds(options.net, options.property, cache))
            warm.append(seconds(options.net, options.property, cache))
    for name, times in (("cold", cold), ("warm", warm)):
        print(f"{name}: median {statistics.median(times):.2f} s of {', '.join(f'{x:.2f}' for x in times)}")
    print(f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
