"""Digits of scikit-learn, 30 % held for testing: accuracy of plain training, and of certified training at ε = 0.1.

Certified is the share of test images whose class float32 bounds (CROWN and intervals, the better of both) show to be
right in the whole L∞ box of radius 0.1, cut to [0, 1]; no proof is made here. Nothing is chosen by the test images.
Run: python benchmarks/digits.py --seeds 0 1 2
"""

import argparse
import platform
import time
from importlib.metadata import version
from typing import Any

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.report.digits import SOURCE, Digits, load_digits

EPS, MARGIN = 0.1, 0.12  # trained a little beyond what is certified, since test images are new


def convolutional(seed: int) -> ax.Model:
    return ax.Sequential(
        nn.Reshape(8, 8, 1), nn.Conv(1, 32), nn.BatchNorm(32), nn.relu, nn.Conv(32, 64), nn.BatchNorm(64), nn.relu,
        nn.MaxPool((2, 2), strides=(2, 2)), nn.Flatten(), nn.Dropout(0.5), nn.Dense(1024, 10),
        seed=seed, input_shape=(64,),
    )  # fmt: skip


def dense(seed: int) -> ax.Model:
    return ax.Sequential(nn.Dense(64, 256), nn.relu, nn.Dense(256, 10), seed=seed)


def plain(data: Digits, seed: int) -> ax.TrainingResult:
    return ax.train(
        convolutional(seed), (data.x_train, data.y_train), ax.AdamW(lr=2e-3), epochs=25, seed=seed, metrics="accuracy",
        schedule=ax.CosineAnnealingLR(T_max=25),
    )  # fmt: skip


def certified(data: Digits, seed: int, loss: Any) -> ax.TrainingResult:
    loader = ax.DataLoader((data.x_train, data.y_train), 50, shuffle=True, seed=seed, drop_last=True)
    epochs = 80
    return ax.train(
        dense(seed), loader, ax.Adam(lr=0.01), loss=loss, epochs=epochs, seed=seed, clip=10.0,
        schedule=ax.CosineAnnealingLR(T_max=epochs * len(loader), per="step"),
    )  # fmt: skip


def tested(model: ax.Model, data: Digits) -> dict[str, float]:
    """Clean and certified accuracy of the test images."""
    x, y = data.x_test, data.y_test
    accuracy = float((model(x).argmax(1) == y).mean())
    share = ax.certified_accuracy(EPS).of_model(model.apply, model.params, (x,), y, model(x), 1.0)
    return {"clean": accuracy, "certified": float(share)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=["plain", "ibp_loss", "crown_ibp_loss"])
    given = parser.parse_args()
    data = load_digits()
    print(f"{SOURCE}; Python {platform.python_version()}, jax {version('jax')}")
    for seed in given.seeds:
        start = time.perf_counter()
        if given.only in (None, "plain"):
            model = plain(data, seed).model
            clean = float((model(data.x_test).argmax(1) == data.y_test).mean())
            print(
                f"plain           seed {seed}   clean {clean:7.2%}   {time.perf_counter() - start:5.1f} s", flush=True
            )
        for loss in (ax.ibp_loss(MARGIN), ax.crown_ibp_loss(MARGIN)):
            name = "crown_ibp_loss" if any(loss.beta) else "ibp_loss"
            if given.only not in (None, name):
                continue
            start = time.perf_counter()
            model = certified(data, seed, loss).model
            seconds = time.perf_counter() - start
            found = tested(model, data)
            print(f"{name:<15} seed {seed}   clean {found['clean']:7.2%}   certified at {EPS} "
                  f"{found['certified']:7.2%}   {seconds:5.1f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
