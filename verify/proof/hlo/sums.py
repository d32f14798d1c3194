"""Operations of HLO that add up, whatever the order: sums, products of matrices, convolutions, windows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from axiom_jax.verification.proof.hlo.moves import windows
from axiom_jax.verification.proof.hlo.symbols import IGNORED as EXTREMES
from axiom_jax.verification.proof.hlo.symbols import Symbols, mixed, multiplied, negated, odd, summed
from axiom_jax.verification.proof.hlo.text import Instruction, Module, Unread

MOST = 1 << 28  # multiplications of a program, at 1 or 2 ns each
IGNORED = {"add": 0} | EXTREMES  # what changes nothing
ZERO = mixed(np.zeros((), np.uint64), "zero")
Found = tuple[Symbols, np.ndarray, int]  # expressions, where the order of roundings is free, multiplications


def added(e: Instruction, of: Sequence[Symbols], _: Module) -> Found:
    x, y = of[0], negated(of[1]) if e.opcode == "subtract" else of[1]
    count = (x.ids != 0).astype(np.int64) + (y.ids != 0)
    fusible = (x.products() | y.products()) & (count == 2)
    product = np.where(x.ids == 0, y.products(), np.where(y.ids == 0, x.products(), False))
    return Symbols(summed(x.ids + y.ids, count), None, product), fusible, 0


def _several(terms: np.ndarray, product: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Terms along the last axis taken together, and where the order is free."""
    if how != "add":  # there the number 0 counts, and another one does not
        terms = np.where(terms == 0, ZERO, np.where(terms == np.uint64(IGNORED[how]), np.uint64(0), terms))
    count = (terms != 0).sum(-1)
    if how == "add":
        return summed(terms.sum(-1, dtype=np.uint64), count), (count > 2) | ((count == 2) & product.any(-1))
    single = terms.max(-1, initial=np.uint64(0))
    several = mixed(np.where(terms != 0, mixed(terms, how), np.uint64(0)).sum(-1, dtype=np.uint64), how)
    found = np.where(count == 1, np.where(single == ZERO, np.uint64(0), single), several)
    return np.where(count == 0, np.uint64(IGNORED[how]), found), np.zeros(count.shape, bool)


def _how(e: Instruction, module: Module) -> str:
    """How a reduction takes two values together."""
    name = e.attributes["to_apply"].lstrip("%")
    lines = {line.name: line for line in module.computations[name]}
    root = lines[module.roots[name]]
    of_parameters = len(set(root.operands)) == 2 and {lines[o].opcode for o in root.operands} == {"parameter"}
    if len(lines) != 3 or not of_parameters or root.opcode not in IGNORED:
        raise Unread(f"{e.opcode} by {root.opcode}")
    return root.opcode


def _with_first(terms: np.ndarray, product: np.ndarray, first: Symbols, how: str) -> tuple[np.ndarray, np.ndarray]:
    if first.ids.shape or int(first.ids) == IGNORED[how]:
        return terms, product
    shape = (*terms.shape[:-1], 1)
    terms = np.concatenate([terms, np.full(shape, first.ids, np.uint64)], -1)
    return terms, np.concatenate([product, np.zeros(shape, bool)], -1)


def reduced(e: Instruction, of: Sequence[Symbols], module: Module) -> Found:
    x, first = of
    how, axes = _how(e, module), e.numbers("dimensions")
    kept = [d for d in range(x.ids.ndim) if d not in axes]
    flat = lambda a: np.transpose(a, [*kept, *axes]).reshape(*[a.shape[d] for d in kept], -1)
    if how == "add" and x.terms is not None and int(first.ids) == 0:  # sums of sums, taken as one
        total, count = (flat(a).sum(-1) for a in x.terms)
        return Symbols(summed(total, count), terms=(total, count)), count > 1, x.ids.size
    terms, product = _with_first(flat(x.ids), flat(x.products()), first, how)
    found, free = _several(terms, product, how)
    counted = (terms.sum(-1, dtype=np.uint64), (terms != 0).sum(-1)) if how == "add" else None
    return Symbols(found, terms=counted), free, x.ids.size


def windowed(e: Instruction, of: Sequence[Symbols], module: Module) -> Found:
    x, first = of
    how, rank = _how(e, module), x.ids.ndim
    if int(first.ids) != IGNORED[how]:
        raise Unread("reduce-window from another value")
    seen, _ = windows(e, x.ids, range(rank), np.uint64(IGNORED[how]))
    of_products, _ = windows(e, x.products(), range(rank), False)
    flat = lambda a: a.reshape(*a.shape[:rank], -1)
    found, free = _several(flat(seen), flat(of_products), how)
    return Symbols(found), free, seen.size


def _products(x: Symbols, y: Symbols) -> tuple[np.ndarray, np.ndarray]:
    """(…, m, k) times (…, k, n): the sums of products, and where the order is free."""
    if x.known is None and y.known is None:
        factors = odd(x.ids, "factor"), odd(y.ids, "factor")
        total = np.matmul(*factors)
        count = np.matmul(*((f != 0).astype(np.float32) for f in factors))
    else:  # constants: factors of 1 and −1 change nothing
        _affordable(x.ids.size * y.ids.shape[-1])
        each = multiplied(x.moved(lambda a: a[..., None]), y.moved(lambda a: a[..., None, :, :]))
        total, count = each.ids.sum(-2, dtype=np.uint64), (each.ids != 0).sum(-2)
    return summed(total, count), count > 1


def dotted(e: Instruction, of: Sequence[Symbols], _: Module) -> Found:
    x, y = of
    batch = e.numbers("lhs_batch_dims"), e.numbers("rhs_batch_dims")
    inner = e.numbers("lhs_contracting_dims"), e.numbers("rhs_contracting_dims")
    outer = [[d for d in range(s.ids.ndim) if d not in (*batch[i], *inner[i])] for i, s in enumerate(of)]
    many = lambda a, axes: int(np.prod([a.shape[d] for d in axes], dtype=np.int64))

    def left(a: np.ndarray) -> np.ndarray:
        a_ = np.transpose(a, [*batch[0], *outer[0], *inner[0]])
        return a_.reshape(many(a, batch[0]), many(a, outer[0]), many(a, inner[0]))

    def right(a: np.ndarray) -> np.ndarray:
        a_ = np.transpose(a, [*batch[1], *inner[1], *outer[1]])
        return a_.reshape(many(a, batch[1]), many(a, inner[1]), many(a, outer[1]))

    work = e.size * many(x.ids, inner[0])
    _affordable(work)
    total, free = _products(x.moved(left), y.moved(right))
    return Symbols(total.reshape(e.shape)), free.reshape(e.shape), work


def convolved(e: Instruction, of: Sequence[Symbols], _: Module) -> Found:
    x, kernel = of
    lhs, rest = e.attributes["dim_labels"].split("_")
    rhs, out = rest.split("->")
    spatial = sorted(c for c in lhs if c.isdigit())
    groups = (e.numbers("feature_group_count") or (1,))[0]
    if (e.numbers("batch_group_count") or (1,))[0] != 1:
        raise Unread("convolution in groups of the batch")
    order = lambda labels, wanted: [labels.index(c) for c in wanted]
    x = x.moved(lambda a: np.transpose(a, order(lhs, ["b", "f", *spatial])))
    kernel = kernel.moved(lambda a: np.transpose(a, order(rhs, ["i", *spatial, "o"])))
    sizes = [e.shape[out.index(c)] for c in spatial]
    n, outputs, inputs = e.shape[out.index("b")], e.shape[out.index("f")], kernel.ids.shape[0]
    work = e.size * (kernel.ids.size // max(outputs, 1))
    _affordable(work)
    axes = range(2, 2 + len(spatial))
    turned: list[int] = []

    def patches(a: np.ndarray) -> np.ndarray:  # (groups, batch · places, inputs · window)
        nonlocal turned
        seen, turned = windows(e, a, axes, np.zeros((), a.dtype)[()])
        seen = seen.reshape(n, groups, inputs, *seen.shape[2:])
        seen = np.moveaxis(seen, (1, 0, *range(3, 3 + len(spatial)), 2), range(3 + len(spatial)))
        return seen.reshape(groups, n * int(np.prod(sizes, dtype=np.int64)), -1)

    seen = x.moved(patches)
    kernel = kernel.moved(lambda a: np.flip(a, tuple(1 + d for d in turned)) if turned else a)
    weights = kernel.moved(lambda a: np.moveaxis(a.reshape(-1, groups, outputs // groups), 1, 0))
    total, free = _products(seen, weights)

    def back(a: np.ndarray) -> np.ndarray:  # from (groups, batch · places, outputs of a group)
        a = np.moveaxis(a, 0, 1).reshape(n, *sizes, outputs)
        return np.transpose(a, order("".join(["b", *spatial, "f"]), list(out)))

    return Symbols(back(total)), back(free), work


def _affordable(work: int) -> None:
    if work > MOST:
        raise Unread("a program of so many multiplications")


RULES: dict[str, Callable[[Instruction, Any, Module], Found]] = {
    "add": added, "subtract": added, "reduce": reduced, "reduce-window": windowed, "dot": dotted,
    "convolution": convolved}  # fmt: skip
