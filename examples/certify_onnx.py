"""From a model file and a property to a certificate that was checked: a step of a CI job.

    python examples/certify_onnx.py model.onnx property.vnnlib --certificate out.cert

The exit status is 0 if the property is proved and the checker accepts the file for this very model, 1 if it is
refuted or the file is rejected, 3 if neither was reached in time, 2 for bad input.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import axiom_jax as ax
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import subject_of

PROVED, REFUTED, BAD_INPUT, OPEN = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prove a property of a model file and check the proof.")
    parser.add_argument("model", type=Path, help="an .onnx or .axiom file")
    parser.add_argument("property", type=Path, help="a VNN-LIB file: what must not happen")
    parser.add_argument("--certificate", type=Path, default=Path("out.cert"), help="the file to write")
    parser.add_argument("--package", type=Path, help="also write the model with its certificate, an .axiom file")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of search")
    options = parser.parse_args(arguments)
    try:
        return certify(options)
    except ax.AxiomError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_INPUT


def certify(options: argparse.Namespace) -> int:
    model = ax.load_model(options.model) if options.model.suffix == ".axiom" else ax.from_onnx(options.model)
    subject = subject_of(model)
    prop = ax.read_vnnlib(options.property, subject.size, subject.flat[0].outputs[0].size)
    decision = decide(subject, prop, timeout=options.timeout, certificate_path=options.certificate)
    if isinstance(decision.verdict, ax.Unknown | ax.Claimed):
        print(f"{decision.word}: {decision.verdict.reason}", file=sys.stderr)
        return OPEN

    # read both files again: what counts is what lies on the disk
    deployed = ax.load_model(options.model) if options.model.suffix == ".axiom" else ax.from_onnx(options.model)
    checked = ax.check_certificate(options.certificate, deployed)
    print(json.dumps(asdict(checked) | {"verdict": decision.word, "certificate": str(options.certificate)}))
    if not checked.accepted:
        return REFUTED
    if options.package:
        ax.save_model(deployed, options.package, certificates=[options.certificate])
    return PROVED if isinstance(decision.verdict, ax.Proved) else REFUTED


if __name__ == "__main__":
    sys.exit(main())
