"""Output bounds beside recorded ones of another tool, by IBP, CROWN-IBP, CROWN and α-CROWN.

    python benchmarks/reference_bounds.py [FOLDER] [--only TEXT] [--iterations 20]

FOLDER (default: the environment variable AXIOM_VNNCOMP) has `reference_bounds.json`, a list of records with `onnx`,
`vnnlib`, `method`, `lower`, `upper`, and the files that these name. Printed are mean widths: ours, theirs, the ratio
(at most 1 where ours are at least as tight), the largest difference of an end relative to the width, and seconds,
compilation included where a shape is met for the first time.
"""

import argparse
import json
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import numpy as np

from axiom_jax.interop.onnx.reader import from_onnx
from axiom_jax.verification.domains.layered import Method, layered_bounds
from axiom_jax.verification.domains.linear import plan
from axiom_jax.verification.search.margins import subject_of
from axiom_jax.verification.spec.vnnlib import read_vnnlib

METHODS: dict[str, Method] = {"IBP": "interval", "CROWN-IBP": "crown-ibp", "CROWN": "crown", "alpha-CROWN": "crown"}


def measured(folder: Path, record: dict[str, Any], iterations: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Lower and upper bounds of the outputs, and the seconds that they took, files read already."""
    subject = subject_of(from_onnx(str(folder / record["onnx"])))
    program, values = subject.flat
    (case, *_) = read_vnnlib(str(folder / record["vnnlib"]), subject.size, program.outputs[0].size).cases
    lo, hi = (np.array([float(Fraction(x)) for x in end], np.float32) for end in (case.lo, case.hi))
    method = record["method"]
    planned = plan(program, refine_stable=False)  # without a margin for rounding, which the records have none of either
    start = time.perf_counter()
    steps = iterations if method == "alpha-CROWN" else 0
    (box,) = layered_bounds(planned, values, lo, hi, iterations=steps, method=METHODS[method])
    return box.lo.ravel(), box.hi.ravel(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("AXIOM_VNNCOMP"))
    parser.add_argument("--only", default="", help="records whose files or method contain this text")
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    if not options.folder:
        parser.error("name the folder, or set AXIOM_VNNCOMP")
    folder = Path(options.folder)
    records = json.loads((folder / "reference_bounds.json").read_text())
    print(
        f"{'network':32} {'property':30} {'method':11} {'ours':>12} {'theirs':>12} {'ratio':>7} {'apart':>8} {'s':>6}"
    )
    worst: dict[str, float] = {}
    for record in records:
        if not any(options.only in record[key] for key in ("onnx", "vnnlib", "method")):
            continue
        lo, hi, seconds = measured(folder, record, options.iterations)
        lower, upper = np.array(record["lower"]), np.array(record["upper"])
        ours, theirs = float((hi - lo).mean()), float((upper - lower).mean())
        apart = float(np.maximum(np.abs(lo - lower), np.abs(hi - upper)).max()) / theirs
        worst[record["method"]] = max(worst.get(record["method"], 0.0), ours / theirs)
        names = [Path(record[key]).name.split(".")[0][-32:] for key in ("onnx", "vnnlib")]
        row = f"{names[0]:32} {names[1][-30:]:30} {record['method']:11} {ours:12.5g} {theirs:12.5g}"
        print(f"{row} {ours / theirs:7.4f} {apart:8.1e} {seconds:6.2f}", flush=True)
    print("largest ratio:", ", ".join(f"{method} {ratio:.4f}" for method, ratio in worst.items()))
    print(f"{jax.default_backend()}, {os.cpu_count()} cores, jax {jax.__version__}")


if __name__ == "__main__":
    main()
