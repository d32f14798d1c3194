"""From a JAX model to a file that carries proofs of its robustness: train, prove, pack, check.

    python examples/certify_jax.py --out build --eps 0.1 --points 20

trains a small classifier (or takes one with --model), proves around each of some test points that no input within
eps changes its class, and writes `model.axiom` with the certificates inside. Then it reads that file again and has
each certificate checked for the network in it. The exit status is 0 if every certificate was accepted and at least
--require of the points are proved, 1 if a certificate was rejected or too few are proved, 3 if time ran out,
2 for bad input.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.interop.axiom.file import read_axiom
from axiom_jax.verification.property import robust
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import subject_of

DONE, FAILED, BAD_INPUT, OPEN = 0, 1, 2, 3
CLASSES = 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train, prove, pack and check a classifier.")
    parser.add_argument("--out", type=Path, default=Path("."), help="a folder for model.axiom")
    parser.add_argument("--model", type=Path, help="an .axiom file of a classifier of two numbers, instead of training")
    parser.add_argument("--eps", default="0.1", help="radius, exact as written: 0.1, 1/20")
    parser.add_argument("--points", type=int, default=20, help="how many test points")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--require", type=float, default=0.5, help="the share of the points that must be proved")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds of search a point")
    options = parser.parse_args(arguments)
    try:
        return certify(options)
    except ax.AxiomError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return BAD_INPUT


def trained(epochs: int) -> ax.Model:
    """A classifier of two interleaved moons."""
    model = ax.Sequential(nn.Dense(2, 24), nn.relu, nn.Dense(24, CLASSES), name="moons")
    return ax.train(model, ax.make_moons(600, seed=0), "adam", lr=0.02, epochs=epochs, progress=False).model


def certify(options: argparse.Namespace) -> int:
    model = ax.load_model(options.model) if options.model else trained(options.epochs)
    points, labels = ax.make_moons(options.points, seed=1)
    options.out.mkdir(parents=True, exist_ok=True)
    subject, certificates, verdicts = subject_of(model), [], []
    for point, label in zip(points, labels, strict=True):
        decision = decide(subject, robust(point, int(label), CLASSES, options.eps), timeout=options.timeout)
        verdicts.append(decision.word)
        if isinstance(decision.verdict, ax.Proved):
            certificates.append(decision.verdict.certificate)

    path = ax.save_model(model, options.out / "model.axiom", certificates=certificates, metadata={"eps": options.eps})
    deployed, inside = ax.load_model(path), read_axiom(path).certificates
    accepted = sum(ax.check_certificate(certificate, deployed).accepted for certificate in inside)
    counts = {word: verdicts.count(word) for word in ("proved", "refuted", "claimed", "unknown")}
    accuracy = float(np.mean(np.asarray(deployed(points)).argmax(1) == labels))
    print(json.dumps(counts | {"accepted": accepted, "accuracy": accuracy, "model": str(path)}))
    if accepted < counts["proved"]:
        return FAILED
    if counts["proved"] >= options.require * options.points:
        return DONE
    return OPEN if counts["unknown"] + counts["claimed"] else FAILED


if __name__ == "__main__":
    sys.exit(main())
