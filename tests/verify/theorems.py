"""Theorems over every size, and twins of theirs that are false: data for the tests of provers and refuters.

Each entry is a `Statement` whose condition is a JAX function; `n`, `m`, `d`, `k` are sizes that stand for any integer
from 1 on. `TRUE` hold over the reals; `FALSE` and `UNDEFINED` do not (an UNDEFINED one divides by zero somewhere).
"""

from fractions import Fraction

import jax.numpy as jnp
from jax import nn

from axiom_jax.verification.statement import REALS, Range, Statement, Variable

UNIT = Range(Fraction(0), Fraction(1))
POSITIVE = Range(Fraction(0), None, lo_open=True)
NONNEGATIVE = Range(Fraction(0), None)
AT_LEAST_ONE = Range(Fraction(1), None)


def forall(text, condition, constants=(), **variables):
    """A statement; each variable is its sizes, as in "n", "n m" or "" for a scalar, or those and where it lives."""
    made = []
    for name, given in variables.items():
        sizes, within = given if isinstance(given, tuple) else (given, REALS)
        made.append(Variable(name, tuple(int(s) if s.isdigit() else s for s in sizes.split()), within))
    return Statement(text, tuple(made), condition, tuple(map(Fraction, constants)))


def implies(premise, conclusion):
    return ~premise | conclusion


def convex(f):
    return lambda x, y, t: f(t * x + (1 - t) * y) <= t * f(x) + (1 - t) * f(y)


def increasing(f):
    return lambda x, y: implies(x <= y, f(x) <= f(y))


def lipschitz(f, constant=1):
    return lambda x, y: jnp.abs(f(x) - f(y)) <= constant * jnp.abs(x - y)


def layer_norm(x, eps):
    return (x - jnp.mean(x)) / jnp.sqrt(jnp.var(x) + eps)


def rms_norm(x, eps):
    return x / jnp.sqrt(jnp.mean(x * x) + eps)


def attention(q, k, v):
    return nn.softmax(q @ k.T, axis=-1) @ v


def norm1(x):
    return jnp.sum(jnp.abs(x))


def norm2(x):
    return jnp.sqrt(jnp.sum(x * x))


def norm_inf(x):
    return jnp.max(jnp.abs(x))


def huber(x):
    return jnp.where(jnp.abs(x) <= 1, x * x / 2, jnp.abs(x) - 0.5)


def smooth_l1(x, y):
    return jnp.mean(huber(x - y))


def crossentropy(x, p):
    return -jnp.sum(p * nn.log_softmax(x))


def kl(x, y):
    p = nn.softmax(x)
    return jnp.sum(p * (nn.log_softmax(x) - nn.log_softmax(y)))


def hinge(x, y):
    return jnp.sum(jnp.maximum(0, 1 - x * y))


def mse(x, y):
    return jnp.mean((x - y) ** 2)


def mae(x, y):
    return jnp.mean(jnp.abs(x - y))


def clip(x):
    return jnp.clip(x, -1, 1)


def causal_softmax(s):
    i = jnp.arange(s.shape[0])
    masked = jnp.where(i[:, None] >= i[None, :], jnp.exp(s - jnp.max(s)), 0)
    return masked / jnp.sum(masked, axis=-1, keepdims=True)


SOFTMAX = [
    forall("∀x. sum(softmax(x)) == 1", lambda x: jnp.sum(nn.softmax(x)) == 1, x="n"),
    forall("∀x. softmax(x) > 0", lambda x: nn.softmax(x) > 0, x="n"),
    forall("∀x. softmax(x) <= 1", lambda x: nn.softmax(x) <= 1, x="n"),
    forall("∀x c. softmax(x + c) == softmax(x)", lambda x, c: nn.softmax(x + c) == nn.softmax(x), x="n", c=""),
    forall("∀x. softmax(flip(x)) == flip(softmax(x))", lambda x: nn.softmax(x[::-1]) == nn.softmax(x)[::-1], x="n"),
    forall("∀x. rows of softmax sum to 1", lambda x: jnp.sum(nn.softmax(x, axis=-1), -1) == 1, x="n m"),
    forall("∀x. columns of softmax sum to 1", lambda x: jnp.sum(nn.softmax(x, axis=0), 0) == 1, x="n m"),
    forall("∀x. all of softmax(x) sums to n", lambda x: jnp.sum(nn.softmax(x)) == x.shape[0], x="n m"),
    forall("∀x. max(softmax(x)) <= 1", lambda x: jnp.max(nn.softmax(x)) <= 1, x="n"),
    forall("∀x. log_softmax(x) <= 0", lambda x: nn.log_softmax(x) <= 0, x="n"),
    forall("∀x. exp(log_softmax(x)) == softmax(x)", lambda x: jnp.exp(nn.log_softmax(x)) == nn.softmax(x), x="n"),
    forall("∀x. sum(exp(log_softmax(x))) == 1", lambda x: jnp.sum(jnp.exp(nn.log_softmax(x))) == 1, x="n"),
    forall("∀x. log(softmax(x)) == log_softmax(x)", lambda x: jnp.log(nn.softmax(x)) == nn.log_softmax(x), x="n"),
    forall("∀x. logsumexp(x) >= max(x)", lambda x: nn.logsumexp(x) >= jnp.max(x), x="n"),
    forall("∀x. logsumexp(x) <= max(x) + log n",
           lambda x: nn.logsumexp(x) <= jnp.max(x) + jnp.log(jnp.float32(x.shape[0])), x="n"),
    forall("∀x c. logsumexp(x + c) == logsumexp(x) + c", lambda x, c: nn.logsumexp(x + c) == nn.logsumexp(x) + c,
           x="n", c=""),
    forall("∀x. softmax(x)² sums to at most 1", lambda x: jnp.sum(nn.softmax(x) ** 2) <= 1, x="n"),
    forall("∀s. causal rows sum to 1", lambda s: jnp.sum(causal_softmax(s), -1) == 1, s="n n"),
    forall("∀x. softmax keeps order", lambda x: implies(x[:, None] <= x[None, :],
                                                       nn.softmax(x)[:, None] <= nn.softmax(x)[None, :]), x="n"),
    forall("∀x. max(softmax(x)) >= 1/n", lambda x: jnp.max(nn.softmax(x)) * x.shape[0] >= 1, x="n"),
    forall("∀x. x·softmax(x) <= max(x)", lambda x: jnp.sum(x * nn.softmax(x)) <= jnp.max(x), x="n"),
]

ATTENTION = [
    forall("∀q k. attention rows sum to 1", lambda q, k: jnp.sum(nn.softmax(q @ k.T, axis=-1), -1) == 1,
           q="n d", k="m d"),
    forall("∀q k v. attention(q, k, v) <= max(v)", lambda q, k, v: attention(q, k, v) <= jnp.max(v, axis=0),
           q="n d", k="m d", v="m c"),
    forall("∀q k v. attention(q, k, v) >= min(v)", lambda q, k, v: attention(q, k, v) >= jnp.min(v, axis=0),
           q="n d", k="m d", v="m c"),
    forall("∀v ∈ [0, 1]. attention(q, k, v) ∈ [0, 1]",
           lambda q, k, v: (attention(q, k, v) >= 0) & (attention(q, k, v) <= 1),
           q="n d", k="m d", v=("m c", UNIT)),
    forall("∀q k v w. attention is linear in v",
           lambda q, k, v, w: attention(q, k, v + w) == attention(q, k, v) + attention(q, k, w),
           q="n d", k="m d", v="m c", w="m c"),
    forall("∀q k v. attention ignores the order of its keys",
           lambda q, k, v: attention(q, k[::-1], v[::-1]) == attention(q, k, v), q="n d", k="m d", v="m c"),
]

ACTIVATIONS = [
    forall("∀x. 0 < sigmoid(x) < 1", lambda x: (nn.sigmoid(x) > 0) & (nn.sigmoid(x) < 1), x="n"),
    forall("∀x ∈ [0, 1]. sigmoid(x) >= 1/2", lambda x: nn.sigmoid(x) >= 0.5, x=("n", UNIT)),
    forall("∀x ∈ [0, 1]. sigmoid(x) <= 3/4", lambda x: nn.sigmoid(x) <= 0.75, x=("n", UNIT)),
    forall("∀x. sigmoid(-x) == 1 - sigmoid(x)", lambda x: nn.sigmoid(-x) == 1 - nn.sigmoid(x), x="n"),
    forall("∀x y. x <= y ⟹ sigmoid(x) <= sigmoid(y)", increasing(nn.sigmoid), x="n", y="n"),
    forall("∀x y. x < y ⟹ sigmoid(x) < sigmoid(y)", lambda x, y: implies(x < y, nn.sigmoid(x) < nn.sigmoid(y)),
           x="n", y="n"),
    forall("∀x. sigmoid(x)(1 - sigmoid(x)) <= 1/4", lambda x: nn.sigmoid(x) * (1 - nn.sigmoid(x)) <= 0.25, x="n"),
    forall("∀x y. |sigmoid(x) - sigmoid(y)| <= |x - y|", lipschitz(nn.sigmoid), x="n", y="n"),
    forall("∀x. -1 < tanh(x) < 1", lambda x: (jnp.tanh(x) > -1) & (jnp.tanh(x) < 1), x="n"),
    forall("∀x. tanh(-x) == -tanh(x)", lambda x: jnp.tanh(-x) == -jnp.tanh(x), x="n"),
    forall("∀x. tanh(x) == 2 sigmoid(2x) - 1", lambda x: jnp.tanh(x) == 2 * nn.sigmoid(2 * x) - 1, x="n"),
    forall("∀x y. x <= y ⟹ tanh(x) <= tanh(y)", increasing(jnp.tanh), x="n", y="n"),
    forall("∀x. |tanh(x)| <= |x|", lambda x: jnp.abs(jnp.tanh(x)) <= jnp.abs(x), x="n"),
    forall("∀x y. |tanh(x) - tanh(y)| <= |x - y|", lipschitz(jnp.tanh), x="n", y="n"),
    forall("∀x >= 0. tanh(x) >= 0", lambda x: jnp.tanh(x) >= 0, x=("n", NONNEGATIVE)),
    forall("∀x. tanh(x)² <= 1", lambda x: jnp.tanh(x) ** 2 <= 1, x="n"),
    forall("∀x. relu(x) >= 0", lambda x: nn.relu(x) >= 0, x="n"),
    forall("∀x. relu(x) >= x", lambda x: nn.relu(x) >= x, x="n"),
    forall("∀x. relu(x) <= |x|", lambda x: nn.relu(x) <= jnp.abs(x), x="n"),
    forall("∀x. relu(relu(x)) == relu(x)", lambda x: nn.relu(nn.relu(x)) == nn.relu(x), x="n"),
    forall("∀x. relu(x) - relu(-x) == x", lambda x: nn.relu(x) - nn.relu(-x) == x, x="n"),
    forall("∀x. relu(x) relu(-x) == 0", lambda x: nn.relu(x) * nn.relu(-x) == 0, x="n"),
    forall("∀x, a >= 0. relu(a x) == a relu(x)", lambda x, a: nn.relu(a * x) == a * nn.relu(x),
           x="n", a=("", NONNEGATIVE)),
    forall("∀x y. |relu(x) - relu(y)| <= |x - y|", lipschitz(nn.relu), x="n", y="n"),
    forall("∀x y. x <= y ⟹ relu(x) <= relu(y)", increasing(nn.relu), x="n", y="n"),
    forall("∀x y, t ∈ [0, 1]. relu is convex", convex(nn.relu), x="n", y="n", t=("", UNIT)),
    forall("∀x. x + relu(x) >= x", lambda x: x + nn.relu(x) >= x, x="n"),
    forall("∀x. 0 <= relu6(x) <= 6", lambda x: (nn.relu6(x) >= 0) & (nn.relu6(x) <= 6), x="n"),
    forall("∀x. relu6(relu6(x)) == relu6(x)", lambda x: nn.relu6(nn.relu6(x)) == nn.relu6(x), x="n"),
    forall("∀x. leaky_relu(x) >= x", lambda x: nn.leaky_relu(x) >= x, x="n"),
    forall("∀x y. x <= y ⟹ leaky_relu(x) <= leaky_relu(y)", increasing(nn.leaky_relu), x="n", y="n"),
    forall("∀x y. |leaky_relu(x) - leaky_relu(y)| <= |x - y|", lipschitz(nn.leaky_relu), x="n", y="n"),
    forall("∀x. elu(x) > -1", lambda x: nn.elu(x) > -1, x="n"),
    forall("∀x. elu(x) >= x", lambda x: nn.elu(x) >= x, x="n"),
    forall("∀x y. x <= y ⟹ elu(x) <= elu(y)", increasing(nn.elu), x="n", y="n"),
    forall("∀x. selu(x) > -2", lambda x: nn.selu(x) > -2, x="n"),
    forall("∀x. softplus(x) > 0", lambda x: nn.softplus(x) > 0, x="n"),
    forall("∀x. softplus(x) >= relu(x)", lambda x: nn.softplus(x) >= nn.relu(x), x="n"),
    forall("∀x. softplus(x) - softplus(-x) == x", lambda x: nn.softplus(x) - nn.softplus(-x) == x, x="n"),
    forall("∀x y. x <= y ⟹ softplus(x) <= softplus(y)", increasing(nn.softplus), x="n", y="n"),
    forall("∀x. softplus(x) <= relu(x) + log(2)",
           lambda x: nn.softplus(x) <= nn.relu(x) + jnp.log(2 * jnp.float32(1)), x="n"),
    forall("∀x. |soft_sign(x)| < 1", lambda x: jnp.abs(nn.soft_sign(x)) < 1, x="n"),
    forall("∀x. soft_sign(-x) == -soft_sign(x)", lambda x: nn.soft_sign(-x) == -nn.soft_sign(x), x="n"),
    forall("∀x y. x <= y ⟹ soft_sign(x) <= soft_sign(y)", increasing(nn.soft_sign), x="n", y="n"),
    forall("∀x. silu(x) >= -0.3", lambda x, c: nn.silu(x) >= -c, [Fraction(3, 10)], x="n"),
    forall("∀x. silu(x) - silu(-x) == x", lambda x: nn.silu(x) - nn.silu(-x) == x, x="n"),
    forall("∀x. silu(x) <= relu(x)", lambda x: nn.silu(x) <= nn.relu(x), x="n"),
    forall("∀x. 0 <= hard_sigmoid(x) <= 1", lambda x: (nn.hard_sigmoid(x) >= 0) & (nn.hard_sigmoid(x) <= 1), x="n"),
    forall("∀x. hard_sigmoid(-x) == 1 - hard_sigmoid(x)",
           lambda x: nn.hard_sigmoid(-x) == 1 - nn.hard_sigmoid(x), x="n"),
    forall("∀x. hard_silu(x) >= -3/8", lambda x: nn.hard_silu(x) >= -0.375, x="n"),
    forall("∀x. hard_tanh(x) ∈ [-1, 1]", lambda x: jnp.abs(nn.hard_tanh(x)) <= 1, x="n"),
    forall("∀x. gelu(x) >= -0.2", lambda x, c: nn.gelu(x) >= -c, [Fraction(1, 5)], x="n"),
    forall("∀x. gelu(x) - gelu(-x) == x", lambda x: nn.gelu(x) - nn.gelu(-x) == x, x="n"),
    forall("∀x. gelu(x) <= relu(x)", lambda x: nn.gelu(x) <= nn.relu(x), x="n"),
    forall("∀x. exact gelu(x) <= relu(x)", lambda x: nn.gelu(x, approximate=False) <= nn.relu(x), x="n"),
    forall("∀x. mish(x) >= -0.4", lambda x, c: nn.mish(x) >= -c, [Fraction(2, 5)], x="n"),
    forall("∀x. exp(x) >= 1 + x", lambda x: jnp.exp(x) >= 1 + x, x="n"),
    forall("∀x > 0. log(x) <= x - 1", lambda x: jnp.log(x) <= x - 1, x=("n", POSITIVE)),
    forall("∀x. log_sigmoid(x) <= 0", lambda x: nn.log_sigmoid(x) <= 0, x="n"),
    forall("∀x. squareplus(x) >= relu(x)", lambda x: nn.squareplus(x) >= nn.relu(x), x="n"),
]

NORMALISATION = [
    forall("∀x. mean(layer_norm(x)) == 0", lambda x, e: jnp.mean(layer_norm(x, e)) == 0, x="n", e=("", POSITIVE)),
    forall("∀x. var(layer_norm(x)) <= 1", lambda x, e: jnp.mean(layer_norm(x, e) ** 2) <= 1, x="n", e=("", POSITIVE)),
    forall("∀x c. layer_norm(x + c) == layer_norm(x)", lambda x, c, e: layer_norm(x + c, e) == layer_norm(x, e),
           x="n", c="", e=("", POSITIVE)),
    forall("∀x. mean(rms_norm(x)²) <= 1", lambda x, e: jnp.mean(rms_norm(x, e) ** 2) <= 1, x="n", e=("", POSITIVE)),
    forall("∀x. rms_norm(-x) == -rms_norm(x)",
           lambda x, e: rms_norm(-x, e) == -rms_norm(x, e), x="n", e=("", POSITIVE)),
    forall("∀x. layer_norm(-x) == -layer_norm(x)", lambda x, e: layer_norm(-x, e) == -layer_norm(x, e),
           x="n", e=("", POSITIVE)),
    forall("∀x. var(x) >= 0", lambda x: jnp.var(x) >= 0, x="n"),
    forall("∀x. var(x) == mean(x²) - mean(x)²", lambda x: jnp.var(x) == jnp.mean(x * x) - jnp.mean(x) ** 2, x="n"),
    forall("∀x c. var(x + c) == var(x)", lambda x, c: jnp.var(x + c) == jnp.var(x), x="n", c=""),
    forall("∀x. mean(x)² <= mean(x²)", lambda x: jnp.mean(x) ** 2 <= jnp.mean(x * x), x="n"),
    forall("∀x. mean(x - mean(x)) == 0", lambda x: jnp.mean(x - jnp.mean(x)) == 0, x="n"),
]

NORMS = [
    forall("∀x y. (x·y)² <= (x·x)(y·y)",
           lambda x, y: jnp.dot(x, y) ** 2 <= jnp.dot(x, x) * jnp.dot(y, y), x="n", y="n"),
    forall("∀x y. |x·y| <= ‖x‖‖y‖", lambda x, y: jnp.abs(jnp.dot(x, y)) <= norm2(x) * norm2(y), x="n", y="n"),
    forall("∀x y. ‖x + y‖₁ <= ‖x‖₁ + ‖y‖₁", lambda x, y: norm1(x + y) <= norm1(x) + norm1(y), x="n", y="n"),
    forall("∀x y. ‖x + y‖₂ <= ‖x‖₂ + ‖y‖₂", lambda x, y: norm2(x + y) <= norm2(x) + norm2(y), x="n", y="n"),
    forall("∀x y. ‖x + y‖∞ <= ‖x‖∞ + ‖y‖∞", lambda x, y: norm_inf(x + y) <= norm_inf(x) + norm_inf(y), x="n", y="n"),
    forall("∀x c. ‖c x‖₁ == |c| ‖x‖₁", lambda x, c: norm1(c * x) == jnp.abs(c) * norm1(x), x="n", c=""),
    forall("∀x c. ‖c x‖₂ == |c| ‖x‖₂", lambda x, c: norm2(c * x) == jnp.abs(c) * norm2(x), x="n", c=""),
    forall("∀x c. ‖c x‖∞ == |c| ‖x‖∞", lambda x, c: norm_inf(c * x) == jnp.abs(c) * norm_inf(x), x="n", c=""),
    forall("∀x. ‖x‖∞ <= ‖x‖₂", lambda x: norm_inf(x) <= norm2(x), x="n"),
    forall("∀x. ‖x‖₂ <= ‖x‖₁", lambda x: norm2(x) <= norm1(x), x="n"),
    forall("∀x. ‖x‖₁ <= n ‖x‖∞", lambda x: norm1(x) <= x.shape[0] * norm_inf(x), x="n"),
    forall("∀x. ‖x‖₂ >= 0", lambda x: jnp.linalg.norm(x) >= 0, x="n"),
    forall("∀x. |sum(x)| <= sum(|x|)", lambda x: jnp.abs(jnp.sum(x)) <= jnp.sum(jnp.abs(x)), x="n"),
    forall("∀x. mean(x) <= max(x)", lambda x: jnp.mean(x) <= jnp.max(x), x="n"),
    forall("∀x. min(x) <= mean(x)", lambda x: jnp.min(x) <= jnp.mean(x), x="n"),
    forall("∀x. min(x) <= max(x)", lambda x: jnp.min(x) <= jnp.max(x), x="n"),
    forall("∀x y. max(x + y) <= max(x) + max(y)", lambda x, y: jnp.max(x + y) <= jnp.max(x) + jnp.max(y), x="n", y="n"),
    forall("∀x. max(flip(x)) == max(x)", lambda x: jnp.max(x[::-1]) == jnp.max(x), x="n"),
    forall("∀x. sum(flip(x)) == sum(x)", lambda x: jnp.sum(x[::-1]) == jnp.sum(x), x="n"),
    forall("∀x. max(-x) == -min(x)", lambda x: jnp.max(-x) == -jnp.min(x), x="n"),
    forall("∀x. clip(clip(x)) == clip(x)", lambda x: clip(clip(x)) == clip(x), x="n"),
    forall("∀x y. |clip(x) - clip(y)| <= |x - y|", lipschitz(clip), x="n", y="n"),
    forall("∀x y. |x + y| <= |x| + |y|", lambda x, y: jnp.abs(x + y) <= jnp.abs(x) + jnp.abs(y), x="n", y="n"),
    forall("∀x y. | |x| - |y| | <= |x - y|", lipschitz(jnp.abs), x="n", y="n"),
    forall("∀x y. max(x, y) + min(x, y) == x + y",
           lambda x, y: jnp.maximum(x, y) + jnp.minimum(x, y) == x + y, x="n", y="n"),
    forall("∀x y. x y <= (x² + y²) / 2", lambda x, y: x * y <= (x * x + y * y) / 2, x="n", y="n"),
    forall("∀x. average pooling <= max pooling", lambda x: jnp.mean(x, axis=1) <= jnp.max(x, axis=1), x="n 4"),
    forall("∀x. average pooling <= max pooling over the image",
           lambda x: jnp.mean(x, axis=(0, 1)) <= jnp.max(x, axis=(0, 1)), x="n m c"),
    forall("∀x y. x·y == y·x", lambda x, y: jnp.dot(x, y) == jnp.dot(y, x), x="n", y="n"),
    forall("∀a x y. a(x + y) == a x + a y", lambda a, x, y: a @ (x + y) == a @ x + a @ y, a="m n", x="n", y="n"),
    forall("∀a b x. (a b) x == a (b x)", lambda a, b, x: (a @ b) @ x == a @ (b @ x), a="m n", b="n k", x="k"),
    forall("∀a b. (a b)ᵀ == bᵀ aᵀ", lambda a, b: (a @ b).T == b.T @ a.T, a="m n", b="n k"),
    forall("∀x y, t ∈ [0, 1]. the 1-norm is convex", convex(norm1), x="n", y="n", t=("", UNIT)),
]

LOSSES = [
    forall("∀x y. mse(x, y) >= 0", lambda x, y: mse(x, y) >= 0, x="n", y="n"),
    forall("∀x. mse(x, x) == 0", lambda x: mse(x, x) == 0, x="n"),
    forall("∀x y. mse(x, y) == mse(y, x)", lambda x, y: mse(x, y) == mse(y, x), x="n", y="n"),
    forall("∀x y. l1(x, y) >= 0", lambda x, y: mae(x, y) >= 0, x="n", y="n"),
    forall("∀x. l1(x, x) == 0", lambda x: mae(x, x) == 0, x="n"),
    forall("∀x y. l1(x, y) == l1(y, x)", lambda x, y: mae(x, y) == mae(y, x), x="n", y="n"),
    forall("∀x y z. l1(x, z) <= l1(x, y) + l1(y, z)", lambda x, y, z: mae(x, z) <= mae(x, y) + mae(y, z),
           x="n", y="n", z="n"),
    forall("∀x y. smooth_l1(x, y) >= 0", lambda x, y: smooth_l1(x, y) >= 0, x="n", y="n"),
    forall("∀x y. smooth_l1(x, y) <= l1(x, y)", lambda x, y: smooth_l1(x, y) <= mae(x, y), x="n", y="n"),
    forall("∀x y. smooth_l1(x, y) == smooth_l1(y, x)", lambda x, y: smooth_l1(x, y) == smooth_l1(y, x), x="n", y="n"),
    forall("∀x, p >= 0. crossentropy(x, p) >= 0", lambda x, p: crossentropy(x, p) >= 0, x="n", p=("n", NONNEGATIVE)),
    forall("∀x y. kl(softmax(x), softmax(y)) >= 0", lambda x, y: kl(x, y) >= 0, x="n", y="n"),
    forall("∀x. kl(softmax(x), softmax(x)) == 0", lambda x: kl(x, x) == 0, x="n"),
    forall("∀x y. hinge(x, y) >= 0", lambda x, y: hinge(x, y) >= 0, x="n", y="n"),
    forall("∀x, y ∈ [0, 1]. binary crossentropy with logits >= 0",
           lambda x, y: jnp.mean(y * nn.softplus(-x) + (1 - y) * nn.softplus(x)) >= 0, x="n", y=("n", UNIT)),
    forall("∀p ∈ (0, 1), y ∈ [0, 1]. binary crossentropy >= 0",
           lambda p, y: -jnp.mean(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)) >= 0,
           p=("n", Range(Fraction(0), Fraction(1), lo_open=True, hi_open=True)), y=("n", UNIT)),
    forall("∀a p n. triplet loss >= 0", lambda a, p, n: nn.relu(jnp.sum((a - p) ** 2) - jnp.sum((a - n) ** 2) + 1) >= 0,
           a="k", p="k", n="k"),
    forall("∀x. entropy(softmax(x)) >= 0", lambda x: -jnp.sum(nn.softmax(x) * nn.log_softmax(x)) >= 0, x="n"),
]

LOGIC = [  # premises and claims about whole arrays, and places where something holds
    forall("∀x y. x > 0 and y > 0 everywhere ⟹ x + y > 0",
           lambda x, y: implies(jnp.all(x > 0) & jnp.all(y > 0), jnp.all(x + y > 0)), x="n", y="n"),
    forall("∀x. x > 0 everywhere ⟹ x x > 0", lambda x: implies(jnp.all(x > 0), jnp.all(x * x > 0)), x="n"),
    forall("∀x >= 1. log(x) >= 0", lambda x: jnp.log(x) >= 0, x=("n", AT_LEAST_ONE)),
    forall("∀x. max(x) is attained", lambda x: jnp.any(x == jnp.max(x)), x="n"),
    forall("∀x. the maximum of a matrix is attained", lambda x: jnp.any(x == jnp.max(x)), x="n m"),
    forall("∀x. an entry is >= mean(x)", lambda x: jnp.any(x >= jnp.mean(x)), x="n"),
    forall("∀x. an entry is <= mean(x)", lambda x: jnp.any(x <= jnp.mean(x)), x="n"),
    forall("∀x. x >= 0 everywhere ⟺ relu(x) == x everywhere",
           lambda x: jnp.all(x >= 0) == jnp.all(nn.relu(x) == x), x="n"),
    forall("∀x. ‖x‖∞ <= ‖x‖₂ <= ‖x‖₁", lambda x: (norm_inf(x) <= norm2(x)) & (norm2(x) <= norm1(x)), x="n"),
    forall("∀x. x <= 1 everywhere ⟹ max(x) <= 1", lambda x: implies(jnp.all(x <= 1), jnp.max(x) <= 1), x="n"),
    forall("∀x >= 0. x <= sum(x)", lambda x: x <= jnp.sum(x), x=("n", NONNEGATIVE)),
]

TRUE = [*SOFTMAX, *ATTENTION, *ACTIVATIONS, *NORMALISATION, *NORMS, *LOSSES, *LOGIC]

FALSE = [
    forall("∀x. sum(softmax(x)) == 2", lambda x: jnp.sum(nn.softmax(x)) == 2, x="n"),
    forall("∀x. sum(softmax(x)) < 1", lambda x: jnp.sum(nn.softmax(x)) < 1, x="n"),
    forall("∀x. softmax(x) < 1 (n may be 1)", lambda x: nn.softmax(x) < 1, x="n"),
    forall("∀x. softmax(x) >= 0.01", lambda x: nn.softmax(x) >= 0.01, x="n"),
    forall("∀x. softmax(x) <= 1/2", lambda x: nn.softmax(x) <= 0.5, x="n"),
    forall("∀x. softmax(2 x) == softmax(x)", lambda x: nn.softmax(2 * x) == nn.softmax(x), x="n"),
    forall("∀x. softmax(flip(x)) == softmax(x)", lambda x: nn.softmax(x[::-1]) == nn.softmax(x), x="n"),
    forall("∀x. columns of row softmax sum to 1", lambda x: jnp.sum(nn.softmax(x, axis=-1), 0) == 1, x="n m"),
    forall("∀x. all of row softmax sums to m", lambda x: jnp.sum(nn.softmax(x, axis=-1)) == x.shape[1], x="n m"),
    forall("∀x. log_softmax(x) < 0", lambda x: nn.log_softmax(x) < 0, x="n"),
    forall("∀x. logsumexp(x) > max(x)", lambda x: nn.logsumexp(x) > jnp.max(x), x="n"),
    forall("∀x. logsumexp(x) >= 0", lambda x: nn.logsumexp(x) >= 0, x="n"),
    forall("∀x. logsumexp(x) <= max(x) + 1", lambda x: nn.logsumexp(x) <= jnp.max(x) + 1, x="n"),
    forall("∀x. max(softmax(x)) > 1/n", lambda x: jnp.max(nn.softmax(x)) * x.shape[0] > 1, x="n"),
    forall("∀q k v. attention(q, k, v) < max(v)", lambda q, k, v: attention(q, k, v) < jnp.max(v, axis=0),
           q="n d", k="m d", v="m c"),
    forall("∀q k v. attention(q, k, v) <= max(v) of one's own row",
           lambda q, k, v: attention(q, k, v) <= v, q="n d", k="n d", v="n c"),
    forall("∀q k v. attention keeps its order with reversed keys only",
           lambda q, k, v: attention(q, k[::-1], v) == attention(q, k, v), q="n d", k="m d", v="m c"),
    forall("∀x. sigmoid(x) >= 0.1", lambda x, c: nn.sigmoid(x) >= c, [Fraction(1, 10)], x="n"),
    forall("∀x ∈ [0, 1]. sigmoid(x) > 1/2", lambda x: nn.sigmoid(x) > 0.5, x=("n", UNIT)),
    forall("∀x ∈ [0, 1]. sigmoid(x) <= 0.73", lambda x, c: nn.sigmoid(x) <= c, [Fraction(73, 100)], x=("n", UNIT)),
    forall("∀x. sigmoid(-x) == -sigmoid(x)", lambda x: nn.sigmoid(-x) == -nn.sigmoid(x), x="n"),
    forall("∀x y. |sigmoid(x) - sigmoid(y)| <= |x - y| / 5", lipschitz(nn.sigmoid, 0.2), x="n", y="n"),
    forall("∀x y. x <= y ⟹ sigmoid(x) < sigmoid(y)", lambda x, y: implies(x <= y, nn.sigmoid(x) < nn.sigmoid(y)),
           x="n", y="n"),
    forall("∀x. sigmoid(x) <= x", lambda x: nn.sigmoid(x) <= x, x="n"),
    forall("∀x. tanh(x) >= -0.99", lambda x: jnp.tanh(x) >= -0.99, x="n"),
    forall("∀x. tanh(x) == sigmoid(2x) - 1", lambda x: jnp.tanh(x) == nn.sigmoid(2 * x) - 1, x="n"),
    forall("∀x. tanh(x) <= x", lambda x: jnp.tanh(x) <= x, x="n"),
    forall("∀x. |tanh(x)| < |x|", lambda x: jnp.abs(jnp.tanh(x)) < jnp.abs(x), x="n"),
    forall("∀x. relu(-x) == -relu(x)", lambda x: nn.relu(-x) == -nn.relu(x), x="n"),
    forall("∀x. relu(x) - 5 >= 0", lambda x: nn.relu(x) - 5 >= 0, x="n"),
    forall("∀x. relu(x) > 0", lambda x: nn.relu(x) > 0, x="n"),
    forall("∀x. relu(x) > x", lambda x: nn.relu(x) > x, x="n"),
    forall("∀x a. relu(a x) == a relu(x)", lambda x, a: nn.relu(a * x) == a * nn.relu(x), x="n", a=""),
    forall("∀x y. x < y ⟹ relu(x) < relu(y)", lambda x, y: implies(x < y, nn.relu(x) < nn.relu(y)), x="n", y="n"),
    forall("∀x y. relu(x + y) == relu(x) + relu(y)", lambda x, y: nn.relu(x + y) == nn.relu(x) + nn.relu(y),
           x="n", y="n"),
    forall("∀x. relu6(x) == relu(x)", lambda x: nn.relu6(x) == nn.relu(x), x="n"),
    forall("∀x. relu6(x) < 6", lambda x: nn.relu6(x) < 6, x="n"),
    forall("∀x. leaky_relu(x) >= 0", lambda x: nn.leaky_relu(x) >= 0, x="n"),
    forall("∀x. leaky_relu(leaky_relu(x)) == leaky_relu(x)",
           lambda x: nn.leaky_relu(nn.leaky_relu(x)) == nn.leaky_relu(x), x="n"),
    forall("∀x. elu(x) >= -0.9", lambda x, c: nn.elu(x) >= -c, [Fraction(9, 10)], x="n"),
    forall("∀x. softplus(x) >= 0.1", lambda x, c: nn.softplus(x) >= c, [Fraction(1, 10)], x="n"),
    forall("∀x. softplus(x) <= relu(x) + 1/2", lambda x: nn.softplus(x) <= nn.relu(x) + 0.5, x="n"),
    forall("∀x. softplus(x) + softplus(-x) == x", lambda x: nn.softplus(x) + nn.softplus(-x) == x, x="n"),
    forall("∀x. |soft_sign(x)| <= 0.9", lambda x, c: jnp.abs(nn.soft_sign(x)) <= c, [Fraction(9, 10)], x="n"),
    forall("∀x. silu(x) >= -0.27", lambda x, c: nn.silu(x) >= -c, [Fraction(27, 100)], x="n"),
    forall("∀x y. x <= y ⟹ silu(x) <= silu(y)", increasing(nn.silu), x="n", y="n"),
    forall("∀x. hard_silu(x) > -3/8", lambda x: nn.hard_silu(x) > -0.375, x="n"),
    forall("∀x. hard_sigmoid(x) == sigmoid(x)", lambda x: nn.hard_sigmoid(x) == nn.sigmoid(x), x="n"),
    forall("∀x. gelu(x) >= -0.16", lambda x, c: nn.gelu(x) >= -c, [Fraction(16, 100)], x="n"),
    forall("∀x. gelu(x) == exact gelu(x)", lambda x: nn.gelu(x) == nn.gelu(x, approximate=False), x="n"),
    forall("∀x y. x <= y ⟹ gelu(x) <= gelu(y)", increasing(nn.gelu), x="n", y="n"),
    forall("∀x. mish(x) >= -0.3", lambda x, c: nn.mish(x) >= -c, [Fraction(3, 10)], x="n"),
    forall("∀x. exp(x) > 1 + x", lambda x: jnp.exp(x) > 1 + x, x="n"),
    forall("∀x. mean(layer_norm(x)²) == 1 (eps > 0)", lambda x, e: jnp.mean(layer_norm(x, e) ** 2) == 1,
           x="n", e=("", POSITIVE)),
    forall("∀x. layer_norm(2 x) == layer_norm(x)", lambda x, e: layer_norm(2 * x, e) == layer_norm(x, e),
           x="n", e=("", POSITIVE)),
    forall("∀x. |layer_norm(x)| <= 1", lambda x, e: jnp.abs(layer_norm(x, e)) <= 1, x="n", e=("", POSITIVE)),
    forall("∀x. mean(rms_norm(x)) == 0", lambda x, e: jnp.mean(rms_norm(x, e)) == 0, x="n", e=("", POSITIVE)),
    forall("∀x. var(x) > 0", lambda x: jnp.var(x) > 0, x="n"),
    forall("∀x. mean(x)² == mean(x²)", lambda x: jnp.mean(x) ** 2 == jnp.mean(x * x), x="n"),
    forall("∀x y. (x·y)² == (x·x)(y·y)",
           lambda x, y: jnp.dot(x, y) ** 2 == jnp.dot(x, x) * jnp.dot(y, y), x="n", y="n"),
    forall("∀x y. x·y <= ‖x‖∞‖y‖∞", lambda x, y: jnp.dot(x, y) <= norm_inf(x) * norm_inf(y), x="n", y="n"),
    forall("∀x y. ‖x + y‖₂ == ‖x‖₂ + ‖y‖₂", lambda x, y: norm2(x + y) == norm2(x) + norm2(y), x="n", y="n"),
    forall("∀x c. ‖c x‖₁ == c ‖x‖₁", lambda x, c: norm1(c * x) == c * norm1(x), x="n", c=""),
    forall("∀x. ‖x‖₁ <= ‖x‖₂", lambda x: norm1(x) <= norm2(x), x="n"),
    forall("∀x. ‖x‖₂ <= ‖x‖∞", lambda x: norm2(x) <= norm_inf(x), x="n"),
    forall("∀x. mean(x) < max(x)", lambda x: jnp.mean(x) < jnp.max(x), x="n"),
    forall("∀x. sum(x) <= max(x)", lambda x: jnp.sum(x) <= jnp.max(x), x="n"),
    forall("∀x y. max(x + y) == max(x) + max(y)", lambda x, y: jnp.max(x + y) == jnp.max(x) + jnp.max(y), x="n", y="n"),
    forall("∀x y. |clip(x) - clip(y)| < |x - y|", lambda x, y: jnp.abs(clip(x) - clip(y)) < jnp.abs(x - y),
           x="n", y="n"),
    forall("∀x y. x y <= (x² + y²) / 3", lambda x, y: x * y <= (x * x + y * y) / 3, x="n", y="n"),
    forall("∀x. average pooling >= max pooling", lambda x: jnp.mean(x, axis=1) >= jnp.max(x, axis=1), x="n 4"),
    forall("∀a b. a b == b a", lambda a, b: a @ b == b @ a, a="n n", b="n n"),
    forall("∀x y. mse(x, y) > 0", lambda x, y: mse(x, y) > 0, x="n", y="n"),
    forall("∀x y. mse(x, y) <= l1(x, y)", lambda x, y: mse(x, y) <= mae(x, y), x="n", y="n"),
    forall("∀x, p. crossentropy(x, p) >= 0", lambda x, p: crossentropy(x, p) >= 0, x="n", p="n"),
    forall("∀x y. kl(softmax(x), softmax(y)) == kl(softmax(y), softmax(x))", lambda x, y: kl(x, y) == kl(y, x),
           x="n", y="n"),
    forall("∀x y. kl(softmax(x), softmax(y)) > 0", lambda x, y: kl(x, y) > 0, x="n", y="n"),
    forall("∀x y. hinge(x, y) >= 1/10", lambda x, y, c: hinge(x, y) >= c, [Fraction(1, 10)], x="n", y="n"),
    forall("∀x. x <= x²", lambda x: x <= x * x, x="n"),
    forall("∀x y. x > 0 somewhere and y > 0 somewhere ⟹ x + y > 0 somewhere",
           lambda x, y: implies(jnp.any(x > 0) & jnp.any(y > 0), jnp.any(x + y > 0)), x="n", y="n"),
    forall("∀x. x > 0 somewhere ⟹ x > 0 everywhere", lambda x: implies(jnp.any(x > 0), jnp.all(x > 0)), x="n"),
    forall("∀x. an entry is > mean(x)", lambda x: jnp.any(x > jnp.mean(x)), x="n"),
    forall("∀x. an entry is mean(x)", lambda x: jnp.any(x == jnp.mean(x)), x="n"),
    forall("∀x. x >= 0 somewhere ⟺ relu(x) == x everywhere",
           lambda x: jnp.any(x >= 0) == jnp.all(nn.relu(x) == x), x="n"),
    forall("∀x. x <= sum(x)", lambda x: x <= jnp.sum(x), x="n"),
    forall("∀x. entropy(softmax(x)) > 0", lambda x: -jnp.sum(nn.softmax(x) * nn.log_softmax(x)) > 0, x="n"),
]

UNDEFINED = [  # a division by zero or a logarithm of zero is reached: no such statement is a theorem
    forall("∀x. masked attention where a row may be all masked",
           lambda s, m: jnp.sum(jnp.where(m > 0, jnp.exp(s), 0) / jnp.sum(jnp.where(m > 0, jnp.exp(s), 0), -1,
                                                                          keepdims=True), -1) == 1, s="n k", m="n k"),
    forall("∀x. x / x == 1", lambda x: x / x == 1, x="n"),
    forall("∀x. strictly causal rows sum to 1", lambda s: jnp.sum(
        jnp.tril(jnp.exp(s), -1) / jnp.sum(jnp.tril(jnp.exp(s), -1), -1, keepdims=True), -1) == 1, s="n n"),
    forall("∀x. layer norm without eps has mean 0", lambda x: jnp.mean(layer_norm(x, 0.0)) == 0, x="n"),
    forall("∀x >= 0. log(x) <= x - 1", lambda x: jnp.log(x) <= x - 1, x=("n", NONNEGATIVE)),
    forall("∀x. unbiased variance >= 0 (n may be 1)",
           lambda x: jnp.sum((x - jnp.mean(x)) ** 2) / (x.shape[0] - 1) >= 0, x="n"),
    forall("∀x. sqrt(x)² == x", lambda x: jnp.sqrt(x) ** 2 == x, x="n"),
    forall("∀x. exp(log(x)) == x", lambda x: jnp.exp(jnp.log(x)) == x, x="n"),
]



OPEN = {  # true; not proved yet, or only after more than two seconds
    "∀x. logsumexp(x) <= max(x) + log n",
    "∀x. max(softmax(x)) >= 1/n",
    "∀x y. |sigmoid(x) - sigmoid(y)| <= |x - y|",
    "∀x. |tanh(x)| <= |x|",
    "∀x y. |tanh(x) - tanh(y)| <= |x - y|",
    "∀x y. kl(softmax(x), softmax(y)) >= 0",
}
