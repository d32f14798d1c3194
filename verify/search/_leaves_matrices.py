"""Affine functions of the columns of a network as sparse matrices, and linear equations applied to them.

Moves of elements are run on element numbers, products become matrices by their indices, anything else is run on
basis vectors. Float64, without compiling what is common.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from axiom_jax._program import Equation, Var

MOVES = {"broadcast_in_dim", "concatenate", "pad", "reshape", "rev", "slice", "split", "squeeze", "stack", "tile",
         "transpose", "gather", "dynamic_slice", "expand_dims", "copy"}  # fmt: skip
ENTRIES = 60_000_000  # of one matrix; larger ones are no matter for LPs
BLOCK = 256  # basis vectors at once where an operation's matrix is made by running it
DENSE = 0.2  # share of entries from which dense products are faster


@dataclass(frozen=True)
class Affine:
    """matrix @ columns + offset. matrix: (size, columns) CSR float64. offset: (size,)."""

    matrix: Any
    offset: np.ndarray

    @cached_property
    def dense(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The columns that occur and the matrix over them, where that is well filled."""
        used = np.unique(self.matrix.indices)
        if self.matrix.nnz < DENSE * self.matrix.shape[0] * max(len(used), 1):
            return None
        return used, self.matrix[:, used].toarray()

    def at(self, columns: np.ndarray) -> np.ndarray:
        """(points, size) of (points, columns)."""
        if self.dense is not None:
            used, matrix = self.dense
            return columns[:, used] @ matrix.T + self.offset
        return (self.matrix @ columns.T).T + self.offset

    def add_to(self, rows: np.ndarray, factors: np.ndarray) -> None:
        """rows += factors @ matrix, with (rows, columns) and (rows, size)."""
        if self.dense is not None:
            used, matrix = self.dense
            rows[:, used] += factors @ matrix
        else:
            rows += (self.matrix.T @ factors.T).T


def applied(eqn: Equation, values: Mapping[Var, Affine], known: Mapping[Var, Any], columns: int) -> tuple[Affine, ...]:
    """The results of a linear equation."""
    varying = [v in values for v in eqn.inputs]
    if eqn.name in MOVES:
        return _moved(eqn, values, known, columns)
    constant = lambda v: np.broadcast_to(np.asarray(known[v], np.float64), eqn.output.shape).ravel()
    term = lambda v: _repeated(values[v], v, eqn.output) if v in values else Affine(None, constant(v))
    match eqn.name:
        case "add" | "add_any" | "sub":
            a, b = map(term, eqn.inputs)
            sign = -1.0 if eqn.name == "sub" else 1.0
            if a.matrix is None or b.matrix is None:
                matrix: Any = a.matrix if b.matrix is None else sign * b.matrix
            else:
                matrix = a.matrix + sign * b.matrix
            return (Affine(matrix.tocsr(), a.offset + sign * b.offset),)
        case "neg":
            a = values[eqn.inputs[0]]
            return (Affine(-a.matrix, -a.offset),)
        case "mul" | "div":
            which = varying.index(True)
            a, by = term(eqn.inputs[which]), constant(eqn.inputs[1 - which])
            by = 1.0 / by if eqn.name == "div" else by
            return (Affine((sp.diags(by) @ a.matrix).tocsr(), by * a.offset),)
        case "convert_element_type":
            return (values[eqn.inputs[0]],)
        case "dot_general":
            which = varying.index(True)
            weights = np.asarray(known[eqn.inputs[1 - which]], np.float64)
            return (_through(_product(eqn, weights, which == 0), values[eqn.inputs[which]]),)
    return _run(eqn, values, known)


def _through(matrix: Any, a: Affine) -> Affine:
    return Affine((matrix @ a.matrix).tocsr(), matrix @ a.offset)


def _repeated(a: Affine, v: Var, to: Var) -> Affine:
    """A scalar operand of an elementwise operation, once for every element."""
    if v.size == to.size:
        return a
    index = np.zeros(to.size, int)
    return Affine(a.matrix[index], a.offset[index])


def _moved(eqn: Equation, values: Mapping[Var, Affine], known: Mapping[Var, Any], columns: int) -> tuple[Affine, ...]:
    """Run the primitive on element numbers instead of elements: what comes out says what went where."""
    if eqn.name in ("reshape", "squeeze", "expand_dims", "copy"):
        return (values[eqn.inputs[0]],)
    operands: list[Any] = []
    matrices: list[Any] = []
    offsets: list[np.ndarray] = []
    start = 0
    for v in eqn.inputs:
        if np.dtype(v.dtype).kind != "f":
            operands.append(known[v])
            continue
        operands.append(jnp.arange(start, start + v.size, dtype=jnp.int32).reshape(v.shape))
        empty = sp.csr_matrix((v.size, columns))
        matrices.append(values[v].matrix if v in values else empty)
        offsets.append(values[v].offset if v in values else np.asarray(known[v], np.float64).ravel())
        start += v.size
    params = dict(eqn.params)
    if eqn.name == "gather":
        fill = params.get("fill_value")
        matrices.append(sp.csr_matrix((1, columns)))
        offsets.append(np.array([np.nan if fill is None else float(fill)]))
        params["fill_value"] = start
    results = eqn.primitive.bind(*operands, **params)
    together: Any = sp.vstack(matrices, format="csr")
    at_0 = np.concatenate(offsets)
    found = []
    for result in results if eqn.primitive.multiple_results else [results]:
        index = np.asarray(result).ravel()
        found.append(Affine(together[index], at_0[index]))
    return tuple(found)


def _product(eqn: Equation, weights: np.ndarray, left: bool) -> Any:
    """The matrix of a dot_general in its varying operand, which is the left or the right one."""
    dimensions = eqn.params["dimension_numbers"]
    (cx, cw), (bx, bw) = dimensions if left else tuple(pair[::-1] for pair in dimensions)
    shape = eqn.inputs[0 if left else 1].shape
    free_x = [i for i in range(len(shape)) if i not in (*cx, *bx)]
    free_w = [i for i in range(weights.ndim) if i not in (*cw, *bw)]
    size = lambda of, axes: int(np.prod([of[i] for i in axes], dtype=np.int64))
    batch, m, k, n = size(shape, bx), size(shape, free_x), size(shape, cx), size(weights.shape, free_w)
    if batch * m * k * n > ENTRIES:
        raise NotImplementedError("a matrix product too large for linear programs")
    index = np.arange(size(shape, range(len(shape)))).reshape(shape).transpose(*bx, *free_x, *cx).reshape(batch, m, k)
    w = weights.transpose(*bw, *free_w, *cw).reshape(batch, n, k)
    order = np.arange(batch * m * n)
    order = order.reshape(batch, m, n) if left else order.reshape(batch, n, m).transpose(0, 2, 1)
    full = (batch, m, n, k)
    rows, cols = np.broadcast_to(order[..., None], full), np.broadcast_to(index[:, :, None, :], full)
    entries = np.broadcast_to(w[:, None], full)
    keep = entries != 0
    return sp.csr_matrix((entries[keep], (rows[keep], cols[keep])), shape=(batch * m * n, index.size))


def _run(eqn: Equation, values: Mapping[Var, Affine], known: Mapping[Var, Any]) -> tuple[Affine, ...]:
    """Any other linear equation, by running it on basis vectors."""
    operands = list(dict.fromkeys(v for v in eqn.inputs if v in values))

    def f(*xs: Any) -> tuple[Any, ...]:
        given = dict(zip(operands, xs, strict=True))
        return eqn.evaluate(*(given[v] if v in given else known[v] for v in eqn.inputs))

    zeros = [jnp.zeros(v.shape, v.dtype) for v in operands]
    offset = [np.asarray(o, np.float64).ravel() for o in f(*zeros)]
    found = [Affine(None, o) for o in offset]
    total = sum(v.size for v in operands) * sum(v.size for v in eqn.outputs)
    if total > 8 * ENTRIES:
        raise NotImplementedError(f"{eqn.name} is too large for linear programs")
    for which, v in enumerate(operands):
        push = jax.jit(jax.vmap(lambda t, w=which: f(*zeros[:w], t, *zeros[w + 1 :])))
        blocks: list[list[Any]] = [[] for _ in found]
        for start in range(0, v.size, BLOCK):
            basis = np.zeros((BLOCK, v.size), np.float32)
            rows = np.arange(start, min(start + BLOCK, v.size))
            basis[rows - start, rows] = 1
            for o, result in enumerate(push(basis.reshape(BLOCK, *v.shape))):
                columns = np.asarray(result, np.float64).reshape(BLOCK, -1)[: len(rows)] - offset[o]
                blocks[o].append(sp.csc_matrix(columns.T))
        for o, parts in enumerate(blocks):
            part = _through(sp.hstack(parts, format="csr"), values[v])
            before = found[o]
            matrix = part.matrix if before.matrix is None else (before.matrix + part.matrix).tocsr()
            found[o] = Affine(matrix, before.offset + part.offset)
    return tuple(found)
