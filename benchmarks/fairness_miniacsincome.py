"""Individual fairness of the networks of MiniACSIncome, against enumeration of every input.

The package `miniacsincome` (PyPI) holds code only: networks, census data and population models are downloaded from
Hugging Face. Give a folder with them by `--root`; without one, networks of the same architectures are trained here on
drawn people with the package's input space, and the report says so. What the package documents (input spaces, sizes,
architectures) is used; it documents no verdicts of individual fairness, so enumeration is what verdicts are
compared with.

    python benchmarks/fairness_miniacsincome.py --variables 1 2 3 4 --depths 2 3
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import axiom_jax as ax

# variables in the package's order: inputs each takes (one-hot), or the ends of a whole number
VARIABLES = (("SEX", 2), ("COW", 8), ("SCHL", 24), ("WKHP", (1, 99)), ("MAR", 5), ("RAC1P", 9), ("RELP", 18),
             ("AGEP", (17, 95)))  # fmt: skip
HIDDEN = 10


def layout(count: int) -> tuple[int, list[list[int]], list[int], list[float], list[float]]:
    """Inputs, one-hot groups, whole numbers, and the ends of the region, for the first `count` variables."""
    groups, integers, lo, hi = [], [], list[float](), list[float]()
    for _, kind in VARIABLES[:count]:
        if isinstance(kind, int):
            groups.append(list(range(len(lo), len(lo) + kind)))
            lo, hi = lo + [0.0] * kind, hi + [1.0] * kind
        else:
            integers.append(len(lo))
            lo, hi = [*lo, float(kind[0])], [*hi, float(kind[1])]
    return len(lo), groups, integers, lo, hi


def people(count: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn people and whether they earn much: by score, with a gap between the groups."""
    size, groups, integers, lo, hi = layout(count)
    generator = np.random.default_rng(seed)
    x = np.zeros((rows, size), np.float32)
    score = generator.normal(0, 0.5, rows)
    for group in groups:
        chosen = generator.integers(0, len(group), rows)
        x[np.arange(rows), np.array(group)[chosen]] = 1
        score += (np.linspace(-1, 1, len(group)) if group[0] else np.array([0.4, -0.4]))[chosen]
    for i in integers:
        x[:, i] = generator.integers(int(lo[i]), int(hi[i]) + 1, rows)
        score += (x[:, i] - (lo[i] + hi[i]) / 2) / (hi[i] - lo[i])
    return x, (score > 0).astype(int)


def network(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def trained(count: int, widths: list[int], seed: int = 0) -> list[tuple[jax.Array, jax.Array]]:
    """A network of the given hidden widths, trained on drawn people."""
    x, y = people(count, 4000, seed)
    sizes, keys = [x.shape[1], *widths, 2], jax.random.split(jax.random.key(seed), len(widths) + 1)
    scale = jnp.asarray(1 / np.maximum(np.abs(x).max(0), 1))
    params = [(jax.random.normal(k, (a, b)) * np.sqrt(2 / a), jnp.zeros(b)) for k, a, b in
              zip(keys, sizes[:-1], sizes[1:], strict=True)]  # fmt: skip
    optimizer = optax.adam(1e-2)
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(network(p, x * scale), y).mean()

    @jax.jit
    def run(params, state):
        def step(carry, _):
            p, s = carry
            updates, s = optimizer.update(jax.grad(loss)(p), s)
            return (optax.apply_updates(p, updates), s), None

        return jax.lax.scan(step, (params, state), None, length=300)[0][0]

    params = run(params, optimizer.init(params))
    return [(params[0][0] * scale[:, None], params[0][1]), *params[1:]]


def blinded(params):
    """The same network with one weight for both values of SEX: fair by construction."""
    (w, b), *rest = params
    return [(w.at[:2].set(w[:2].mean(0)), b), *rest]


def downloaded(root: Path, count: int, depth: int | None):
    """A network of the package, read from a folder that holds its files."""
    import torch
    from miniacsincome import get_network

    model = get_network(count, depth=depth, root=root)
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    return [(jnp.asarray(m.weight.detach().numpy().T), jnp.asarray(m.bias.detach().numpy())) for m in linear]


def enumerated(params, count: int, limit: int = 3_000_000) -> bool | None:
    """Whether every person keeps the decision when SEX changes, over all values; None if there are too many."""
    size, groups, integers, lo, hi = layout(count)
    choices = [[{i: float(i == hot) for i in group} for hot in group] for group in groups[1:]]
    choices += [[{i: float(v)} for v in range(int(lo[i]), int(hi[i]) + 1)] for i in integers]
    if np.prod([len(c) for c in choices], initial=1.0) > limit:
        return None
    weights = [(np.asarray(w, float), np.asarray(b, float)) for w, b in params]
    everyone = itertools.product(*choices)
    for block in iter(lambda: list(itertools.islice(everyone, 50_000)), []):
        x = np.zeros((len(block), size))
        for row, values in enumerate(block):
            for part in values:
                x[row, list(part)] = list(part.values())
        decisions = []
        for sex in (0, 1):
            z = x.copy()
            z[:, sex] = 1
            for w, b in weights[:-1]:
                z = np.maximum(z @ w + b, 0)
            decisions.append((z @ weights[-1][0] + weights[-1][1]).argmax(1))
        if np.any(decisions[0] != decisions[1]):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a folder with the package's networks")
    parser.add_argument("--variables", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--depths", type=int, nargs="*", default=[2, 3], help="of the networks of 4 variables")
    parser.add_argument("--mode", default="standard")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    source = (
        "the package's networks" if given.root else "networks of the same architectures, trained here on drawn people"
    )
    print(f"MiniACSIncome, individual fairness for SEX: {source}")
    rows = []
    asked = [(n, None) for n in given.variables] + [(4, depth) for depth in given.depths]
    for count, depth in asked:
        name = f"{count} variables" + (f", depth {depth}" if depth else "")
        if given.root:
            networks = {"": downloaded(given.root, count, depth)}
        else:
            # the package's depth counts hidden layers; --root reads what its files hold, whatever that is
            own = trained(count, [HIDDEN] * (depth or 1))
            networks = {"trained": own, "blind to SEX": blinded(own)}
        for kind, params in networks.items():
            _, groups, integers, lo, hi = layout(count)
            prop = ax.IndividualFairness(groups[0], categorical=groups[1:], integers=integers)
            start = time.perf_counter()
            (item,) = ax.verify(ax.Model(network, params), prop, region=ax.Box(lo, hi), mode=given.mode)
            seconds, truth = time.perf_counter() - start, enumerated(params, count)
            agrees = None if truth is None else item.verdict == ("proved" if truth else "refuted")
            rows.append({"network": name, "kind": kind, "verdict": item.verdict, "enumeration": truth,
                         "agrees": agrees, "seconds": round(seconds, 2), "reason": item.reason})  # fmt: skip
            print(f"{name:24} {kind:14} {item.verdict:9} enumeration {truth!s:6} {seconds:7.2f} s  {item.reason or ''}",
                  flush=True)  # fmt: skip
    decided = sum(row["verdict"] in ("proved", "refuted") for row in rows)
    wrong = sum(row["agrees"] is False and row["verdict"] in ("proved", "refuted") for row in rows)
    print(f"decided {decided} of {len(rows)}; {wrong} of them against enumeration")
    if given.json:
        given.json.write_text(json.dumps({"networks": source, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
