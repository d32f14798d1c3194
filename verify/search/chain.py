"""Bounds of boxes through a chain of relu layers: backward passes as loops over stacked weights.

Layers are padded to one width and stacked, so that one small XLA program serves every depth and every net of like
sizes: it compiles in a second where passes written out take ten. It also picks rows of the weights instead of
multiplying by unit vectors. What is not a chain of relu layers is bounded by `bounding` itself.
Source: Zhang et al. 2018, CROWN, arXiv 1811.00866.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax.verification.search.margins import Question

WIDEST = 512  # neurons of a layer
ENTRIES = 8_000_000  # of all weights, with the padding


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chain:
    """z_k = weights[k] @ (relu(z_{k-1}), x, 1), and the margins of a case = atoms[case] @ (relu(z_last), x, 1).

    Args:
        weights: (layers, width, width + inputs + 1) float32, padded with zeros.
        atoms: (cases, atoms, width + inputs + 1) float32.
    """

    weights: Any
    atoms: Any

    @property
    def neurons(self) -> int:
        """Numbers that `sites` of a box has on either side: layers · width."""
        return self.weights.shape[0] * self.weights.shape[1]


def chain_of(question: Question) -> Chain | None:
    """The question's margins as a chain of relu layers; None where they are none, or too wide.

    >>> from fractions import Fraction
    >>> from axiom_jax.verification.property import Atom, Case, Property
    >>> from axiom_jax.verification.search.margins import Subject, pose
    >>> net = Subject(lambda w, x: jax.nn.relu(x @ w) @ w, jnp.eye(2), (jax.ShapeDtypeStruct((1, 2), np.float32),))
    >>> large = Atom(((0, Fraction(1)),), Fraction(-1))
    >>> chain = chain_of(pose(net, Property((Case((Fraction(0),) * 2, (Fraction(1),) * 2, ((large,),)),), "small")))
    >>> chain.weights.shape, chain.atoms.shape
    ((1, 8, 11), (1, 1, 11))
    """
    network = affine_maps(question)
    return stacked(question, network) if network is not None else None


def affine_maps(question: Question) -> Any:
    """The affine maps between the relus of a question (`_leaves_affine.Network`); None if it has other operations."""
    from axiom_jax.verification.search._leaves_affine import Network, obstacle  # scipy takes a while to import

    plan = question.plan
    if not plan.sites or obstacle(plan) is not None or any(plan.kind(e) == "gate" for e in plan.varying):
        return None
    if sum(v.size for v in plan.sites) * max(v.size for v in plan.sites) > ENTRIES:
        return None
    try:
        return Network(question)
    except NotImplementedError:
        return None


def stacked(question: Question, network: Any) -> Chain | None:
    """The chain of layers that affine maps make; None where they make none, or too wide a one."""
    sizes = [len(affine.offset) for affine in network.sites]
    inputs, width = question.lo.shape[1], -(-max(sizes) // 8) * 8
    if width > WIDEST or len(sizes) * width * (width + inputs + 1) > ENTRIES:
        return None
    if [unit.site for unit in network.units] != list(range(len(sizes))):
        return None
    before: Any = None  # the unit that a layer may depend on
    weights = []
    for unit, affine in zip(network.units, network.sites, strict=True):
        weights.append(_padded(affine, before, network.columns, inputs, width, width))
        before = unit
    margins = [network.margins(case) for case in range(len(question.lo))]
    atoms = [_padded(affine, before, network.columns, inputs, width, len(affine.offset)) for affine in margins]
    if any(part is None for part in (*weights, *atoms)):
        return None
    return Chain(np.stack([w for w in weights if w is not None]), np.stack([a for a in atoms if a is not None]))


def first_margins(network: Any, case: int, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """(atoms,) lower bounds of the margins over one box, in float64 and without compiling anything."""
    affine, bounds = network.margins(case), network.bounds(lo, hi)
    return network.backward(affine.matrix.toarray(), affine.offset, lo, hi, bounds)[0]


def _padded(affine: Any, before: Any, columns: int, inputs: int, width: int, rows: int) -> np.ndarray | None:
    """(rows, width + inputs + 1) of an affine map; None if it depends on more than the unit before and the inputs."""
    matrix = affine.matrix.tocsc()
    used = np.flatnonzero(np.diff(matrix.indptr))
    start, size = (before.start, before.size) if before is not None else (columns, 0)
    if np.any((used >= inputs) & ~((used >= start) & (used < start + size))):
        return None
    found = np.zeros((rows, width + inputs + 1), np.float32)
    found[: len(affine.offset), :size] = matrix[:, start : start + size].toarray()
    found[: len(affine.offset), width:-1] = matrix[:, :inputs].toarray()
    found[: len(affine.offset), -1] = affine.offset
    return found


def evaluate(chain: Chain, case: Any, points: Any) -> Any:
    """(boxes, atoms) margins at (boxes, inputs) points, float32."""
    tail = jnp.concatenate([points, jnp.ones((*points.shape[:-1], 1), points.dtype)], -1)
    start = jnp.zeros((*points.shape[:-1], chain.weights.shape[1]), points.dtype)
    layer = lambda a, w: (jax.nn.relu(_dot(jnp.concatenate([a, tail], -1), w.T)), None)
    last, _ = jax.lax.scan(layer, start, chain.weights)
    return jnp.einsum("ban,bn->ba", chain.atoms[case], jnp.concatenate([last, tail], -1), precision="highest")


def margins_below(
    chain: Chain, case: Any, lo: Any, hi: Any, sites: Any, rows: int, judge: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Lower bounds of the margins over boxes, and how a value of them grows as the ends of the boxes move inward.

    Args:
        case: (boxes,). lo, hi: (boxes, inputs). sites: (boxes, 2, neurons) bounds that hold already.
        rows: neurons of a layer that are bounded by backward passes, those first whose sign is most open.
        judge: (margins (boxes, atoms)) -> (boxes,), the value.

    Returns:
        margins: (boxes, atoms). linear: (boxes, atoms, inputs) slopes of the functions that give them.
        sites: (boxes, 2, neurons). unstable: (boxes,) the most neurons of one layer whose sign is open.
        gain: (boxes, inputs) by how much the value grows for each unit that a side becomes shorter.
    """
    count = len(lo)
    bounds, slopes, ids = neurons(chain, lo, hi, sites, rows)

    def last(bounds: Any, middle: Any, radius: Any) -> tuple[Any, Any]:
        margins, linear = _margins(chain, case, bounds, middle, radius)
        return judge(margins).sum(), (margins, linear)

    ends = (lo + hi) / 2, (hi - lo) / 2
    (by_bounds, by_middle, by_radius), found = jax.grad(last, (0, 1, 2), has_aux=True)(bounds, *ends)
    by_l = jnp.take_along_axis(by_bounds[:, :, 0], ids, 2)
    by_u = jnp.take_along_axis(by_bounds[:, :, 1], ids, 2)
    weight = jnp.concatenate([by_l, -by_u], 2)  # of the least of every row: (layers, boxes, 2 · picked)
    inward = lambda part: jnp.einsum("kbr,kbrd->bd", jnp.nan_to_num(weight), part, precision="highest")
    from_below = by_middle / 2 - by_radius / 2 + inward(jnp.maximum(slopes, 0))
    from_above = by_middle / 2 + by_radius / 2 + inward(jnp.minimum(slopes, 0))
    unstable = ((bounds[:, :, 0] < 0) & (bounds[:, :, 1] > 0)).sum(-1).max(0).astype(jnp.int32)
    packed = jnp.moveaxis(bounds, 0, 2).reshape(count, 2, chain.neurons)
    return *found, packed, unstable, jnp.abs(from_below) + jnp.abs(from_above)


@partial(jax.jit, static_argnames=("part",))
def crown_margins(chain: Chain, case: Any, lo: Any, hi: Any, part: int = 0) -> Any:
    """(boxes, atoms) lower bounds of the margins over boxes, every neuron bounded by backward passes.

    Args:
        case: (boxes,). lo, hi: (boxes, inputs) float32.
        part: bound so many boxes at a time, so that what lies between stays in the cache of the device; 0: all.
    """

    def bounded(case: Any, lo: Any, hi: Any) -> Any:
        ends = jnp.array([-jnp.inf, jnp.inf], lo.dtype)[None, :, None]
        nothing = jnp.broadcast_to(ends, (len(lo), 2, chain.neurons))
        bounds, _, _ = neurons(chain, lo, hi, nothing, chain.weights.shape[1], keep_stable=False)
        return _margins(chain, case, bounds, (lo + hi) / 2, (hi - lo) / 2)[0]

    if not part or len(lo) <= part:
        return bounded(case, lo, hi)
    split = lambda a: a.reshape(-1, part, *a.shape[1:])
    found = jax.lax.map(lambda boxes: bounded(*boxes), (split(case), split(lo), split(hi)))
    return found.reshape(len(lo), -1)


def neurons(chain: Chain, lo: Any, hi: Any, sites: Any, rows: int, keep_stable: bool = True) -> tuple[Any, Any, Any]:
    """Bounds of all neurons over boxes.

    Args:
        lo, hi, sites, rows: as for `margins_below`.
        keep_stable: leave bounds as they are whose sign intervals settle, as the certificate checker does.

    Returns:
        bounds: (layers, boxes, 2, width). slopes: (layers, boxes, 2 · picked, inputs) of the linear functions that
        bound z and −z of the neurons picked. ids: (layers, boxes, picked) which these are.
    """
    layers, width, _ = chain.weights.shape
    count = len(lo)
    middle, radius = (lo + hi) / 2, (hi - lo) / 2
    picked = min(rows, width)
    before = jnp.moveaxis(sites.reshape(count, 2, layers, width), 2, 0)

    def layer(carry: Any, k: Any) -> tuple[Any, Any]:
        bounds, low, high = carry  # low, high: (boxes, width) of the layer before, after its relu
        w = chain.weights[k]
        ones, zeros = jnp.ones((count, 1), lo.dtype), jnp.zeros((count, 1), lo.dtype)
        centre = _dot(jnp.concatenate([(low + high) / 2, middle, ones], 1), w.T)
        spread = _dot(jnp.concatenate([(high - low) / 2, radius, zeros], 1), jnp.abs(w).T)
        l, u = jnp.fmax(before[k, :, 0], centre - spread), jnp.fmin(before[k, :, 1], centre + spread)
        crossed = l > u
        l, u = jnp.where(crossed, before[k, :, 0], l), jnp.where(crossed, before[k, :, 1], u)
        if picked < width:
            ids = jax.lax.top_k(jnp.where((l < 0) & (u > 0), jnp.minimum(-l, u), -1.0), picked)[1]
            start, base_l, base_u = w[ids], jnp.take_along_axis(l, ids, 1), jnp.take_along_axis(u, ids, 1)
        else:
            ids = jnp.broadcast_to(jnp.arange(width), (count, width))
            start, base_l, base_u = jnp.broadcast_to(w, (count, *w.shape)), l, u
        state = jnp.concatenate([start, -start], 1)
        state = jax.lax.fori_loop(0, k, lambda i, s: _passed(chain, k - 1 - i, bounds, s), state)
        found = _least(state, width, middle, radius)
        better_l, better_u = jnp.fmax(base_l, found[:, :picked]), jnp.fmin(base_u, -found[:, picked:])
        keep = better_l > better_u
        if keep_stable:
            keep |= (base_l >= 0) | (base_u <= 0)
        better_l, better_u = jnp.where(keep, base_l, better_l), jnp.where(keep, base_u, better_u)
        if picked < width:
            box = jnp.arange(count)[:, None]
            l, u = l.at[box, ids].set(better_l), u.at[box, ids].set(better_u)
        else:
            l, u = better_l, better_u
        bounds = bounds.at[k].set(jnp.stack([l, u], 1))
        return (bounds, jnp.maximum(l, 0), jnp.maximum(u, 0)), (state[..., width:-1], ids)

    start = jnp.zeros((count, width), lo.dtype)
    (bounds, _, _), (slopes, ids) = jax.lax.scan(layer, (before, start, start), jnp.arange(layers))
    return bounds, slopes, ids


def _margins(chain: Chain, case: Any, bounds: Any, middle: Any, radius: Any) -> tuple[Any, Any]:
    layers, width, _ = chain.weights.shape
    step = lambda state, k: (_passed(chain, k, bounds, state), None)
    state = jax.lax.scan(step, chain.atoms[case], jnp.arange(layers - 1, -1, -1))[0]
    margins = _least(state, width, middle, radius)
    return jnp.where(jnp.isnan(margins), -jnp.inf, margins), state[..., width:-1]


def _passed(chain: Chain, k: Any, bounds: Any, state: Any) -> Any:
    """(boxes, rows, width + inputs + 1) rows over (relu(z_k), x, 1) as rows over (relu(z_{k-1}), x, 1)."""
    width = chain.weights.shape[1]
    l, u = bounds[k, :, 0], bounds[k, :, 1]
    unstable, active = (l < 0) & (u > 0), (l >= 0).astype(l.dtype)
    above = jnp.where(unstable, u / jnp.where(unstable, u - l, 1), active)
    below = jnp.where(unstable, (u > -l).astype(l.dtype), active)
    above_at_0 = jnp.where(unstable, -l * above, 0)
    A = state[..., :width]
    negative = jnp.minimum(A, 0)
    through = _dot(jnp.maximum(A, 0) * below[:, None] + negative * above[:, None], chain.weights[k])
    constant = jnp.einsum("brn,bn->br", negative, above_at_0, precision="highest")
    tail = through[..., width:] + state[..., width:]
    return jnp.concatenate([through[..., :width], tail[..., :-1], tail[..., -1:] + constant[..., None]], -1)


def _least(state: Any, width: int, middle: Any, radius: Any) -> Any:
    A = state[..., width:-1]
    spread = jnp.einsum("brd,bd->br", jnp.abs(A), radius, precision="highest")
    return jnp.einsum("brd,bd->br", A, middle, precision="highest") - spread + state[..., -1]


def _dot(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")
