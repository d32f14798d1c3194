"""The certificate's program computes what the traced function computes: every rule, by a second evaluator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import special

from axiom_jax._errors import UnsupportedPrimitive
from axiom_jax._program import build
from axiom_jax.verification.domains.linear import Interval, crown, plan
from axiom_jax.verification.lowering import lower
from axiom_jax.verification.proof import ir
from axiom_jax.verification.proof.exact import exactly
from axiom_jax.verification.search.margins import Subject

rng = np.random.default_rng(0)


def weights(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def evaluate(program, tensors, x):
    """The node table of docs/certificate-format.md, in float64."""
    values = []
    for node in program["nodes"]:
        of = [values[i] for i in node.get("of", ())]
        match node["op"]:
            case "input":
                assert node["size"] == x.size
                out = x.ravel()
            case "tensor":
                out = tensors[node["name"]].astype(np.float64).ravel()
            case "matmul":
                m, k, n = node["shape"]
                out = of[0].reshape(m, k) @ of[1].reshape(k, n)
            case "take":
                index = tensors[node["index"]]
                out = np.where(index < 0, 0.0, of[0][np.maximum(index, 0)])
            case "concat":
                out = np.concatenate(of)
            case "relu":
                out = np.maximum(of[0], 0)
            case "neg":
                out = -of[0]
            case "logistic":
                out = 1 / (1 + np.exp(-of[0]))
            case "square":
                out = of[0] ** 2
            case "reciprocal":
                out = 1 / of[0]
            case "gate":
                out = np.where(of[0] > 0, of[1], 0.0)
            case op:
                f = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "tanh": np.tanh,
                     "exp": np.exp, "sqrt": np.sqrt, "log": np.log, "sin": np.sin, "cos": np.cos, "atan": np.arctan,
                     "erf": special.erf}[op]  # fmt: skip
                assert all(o.size == of[0].size for o in of)
                out = f(*of)
        values.append(np.asarray(out, np.float64).ravel())
    return values[program["output"]]


def conv(x, k, strides=(1, 1), padding="SAME", groups=1, rhs=(1, 1), lhs=(1, 1)):
    return lax.conv_general_dilated(
        x, k, strides, padding, lhs, rhs, ("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


W, V, B = weights(6, 4), weights(4, 6), weights(4)
K, G, C1 = weights(3, 3, 2, 4), weights(2, 2, 1, 4), weights(3, 1, 2)
image, vector = (2, 5, 4, 2), (6,)

CASES = {
    "dense": (lambda x: jax.nn.relu(x @ W + B) @ V, vector),
    "weight on the left": (lambda x: V @ x, vector),
    "batched weight": (lambda x: jnp.einsum("bi,bij->bj", x.reshape(2, 3), W.reshape(2, 3, 4)), vector),
    "weight first, matrix": (lambda x: jnp.einsum("ij,kj->ik", V.T[:, :3], x.reshape(2, 3)), vector),
    "contract the first axis": (lambda x: jnp.einsum("ij,ik->jk", x.reshape(2, 3), W[:2]), vector),
    "conv": (lambda x: conv(x, K), image),
    "conv strided, valid": (lambda x: conv(x, K, (2, 1), "VALID"), image),
    "conv dilated kernel": (lambda x: conv(x, K[:2, :2], rhs=(2, 2)), image),
    "conv transposed": (lambda x: conv(x, K, padding=((1, 2), (2, 1)), lhs=(2, 2)), image),
    "conv grouped": (lambda x: conv(x, G, groups=2), image),
    "conv NCHW": (
        lambda x: lax.conv_general_dilated(
            x, K.transpose(3, 2, 0, 1), (1, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        ),
        (2, 2, 5, 4),
    ),
    "conv 1d": (
        lambda x: lax.conv_general_dilated(x, C1, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
        (2, 5, 1),
    ),
    "add, sub, neg": (lambda x: -(x + W[:, 0]) - W[:, 1] + (W[:, 2] - x), vector),
    "scalar constants": (lambda x: 2.0 * x / 3.0 + 1.5 - x * 0.5, vector),
    "max, min, clip, abs": (
        lambda x: jnp.maximum(x, W[:, 0]) + jnp.minimum(x, 0.25) + jnp.clip(x, -0.5, 0.5) + jnp.abs(x), vector
    ),
    "max of two variables": (lambda x: jnp.maximum(x[:3], x[3:]) - jnp.minimum(x[1:4], x[2:5]), vector),
    "reduce": (
        lambda x: jnp.concatenate([x.reshape(2, 3).max(1), x.reshape(3, 2).min(0), x.reshape(2, 3).sum(1)]), vector
    ),
    "waves": (lambda x: jnp.sin(x) * W[:, 0] + jnp.cos(3 * x), vector),
    "logarithms": (lambda x: jnp.log(x * x + 0.5) + jnp.log1p(jnp.exp(-jnp.abs(x))), vector),
    "erf": (lambda x: lax.erf(x) + lax.erfc(x) * W[:, 1], vector),
    "softplus, gelu, mish": (
        lambda x: jax.nn.softplus(x) + jax.nn.gelu(x, approximate=False) + jax.nn.mish(x), vector
    ),
    "mean, cumsum": (lambda x: x.mean() + jnp.cumsum(x) + lax.cumsum(x, reverse=True), vector),
    "max pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), image),
    "max pool padded": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"), image),
    "average pool": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME") / 4, image),
    "shapes": (
        lambda x: jnp.pad(jnp.flip(x.reshape(3, 2).T, 1), ((1, 0), (0, 2)))[:, 1:4:2][None].squeeze(0).ravel(), vector
    ),
    "pad with a value": (lambda x: jnp.pad(x, 2, constant_values=1.5), vector),
    "broadcast, stack, split": (
        lambda x: jnp.stack([jnp.broadcast_to(x, (2, 6)), *[jnp.tile(p, (2, 2)) for p in jnp.split(x, 2)]]), vector
    ),
    "concatenate with known": (lambda x: jnp.concatenate([x, W[:, 0], x]), vector),
    "gather": (lambda x: x[jnp.array([3, 0, 0, 5])], vector),
    "where": (lambda x: jnp.where(jnp.arange(6) % 2 == 0, x, -x), vector),
    "batch norm": (lambda x: (x - W[:, 0]) * lax.rsqrt(W[:, 1] ** 2 + 1e-3) * W[:, 2] + W[:, 3], vector),
    "smooth": (lambda x: jnp.tanh(x) + jax.nn.sigmoid(x) + jnp.exp(x), vector),
    "residual": (lambda x: jax.nn.relu(x @ W) @ V + x, vector),
    "product of two variables": (lambda x: x * x[::-1] + x * x, vector),
    "matrix product of two variables": (lambda x: x.reshape(2, 3) @ x.reshape(3, 2), vector),
    "batched product of two variables": (
        lambda x: jnp.einsum("bij,bkj->bik", x.reshape(2, 3, 1), x.reshape(2, 1, 3).transpose(0, 2, 1)), vector
    ),
    "axes in any order": (
        lambda x: jnp.einsum("abi,cbia->bca", x[:4].reshape(2, 2, 1), x[:4].reshape(1, 2, 1, 2)), vector
    ),
    "softmax": (lambda x: jax.nn.softmax(x.reshape(2, 3)), vector),
    "softmax of the first axis, a quotient": (lambda x: jax.nn.softmax(x.reshape(2, 3), 0) / (2 + x[0] ** 2), vector),
    "softmax without a shift": (lambda x: jnp.exp(x) / jnp.exp(x).sum(), vector),
    "layer norm": (lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 1e-3), vector),
    "powers": (lambda x: x**3 - x**4 + x**5 + (2 + x**2) ** -3 + jnp.exp2(x) + jnp.expm1(x), vector),
    "where of a variable": (
        lambda x: jnp.where(x > 0.1, x, 2 - x) + jnp.where(x <= 0, W[:, 0], 0) + jnp.sign(x), vector
    ),
    "where of logic": (
        lambda x: jnp.where((x > 0) & ~(x[::-1] < 0.5) | (x >= 1) ^ (x[0] + 0.01 < x), x, W[:, 1]), vector
    ),
    "number of a condition": (
        lambda x: (x > 0.3) * x + (x.reshape(2, 3) > 0).any(0).astype(jnp.float32)[0], vector
    ),
    "where with NaN and infinity": (
        lambda x: jnp.where(jnp.isnan(x), 0, jnp.where(jnp.isfinite(x), x, 1)) + jnp.maximum(x, -jnp.inf), vector
    ),
    "derivative of relu": (
        lambda x: jax.jvp(lambda x: jax.nn.relu(x @ W) @ V, (x,), (x[::-1],))[1], vector
    ),
    "derivative of maximum, tanh, silu, clip": (
        lambda x: jax.jvp(lambda x: jnp.maximum(x, 0) + jnp.tanh(x) + jax.nn.silu(x) + jnp.clip(x, -1, 1) + jnp.abs(x),
                          (x,), (jnp.ones(6),))[1], vector
    ),
    "gradient": (jax.grad(lambda x: (jax.nn.relu(x @ W) @ V).sum() ** 2), vector),
    "jacobian": (jax.jacfwd(lambda x: jax.nn.elu(x @ W)), vector),
    "identity": (lambda x: x, vector),
    "constant": (lambda x: W[0] * 2, vector),
}  # fmt: skip


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", CASES)
def test_emitted_program_computes_the_function(name):
    f, shape = CASES[name]
    size = int(np.prod(shape))
    program, values = build(lambda _, x: f(x.reshape(shape)).ravel(), (), jnp.zeros(size))
    lowered = lower(program)
    emitted, tensors = ir.emit(lowered, values)
    for x in rng.normal(size=(3, size)).astype(np.float32):
        expected = np.asarray(f(jnp.asarray(x).reshape(shape))).ravel()
        np.testing.assert_allclose(evaluate(emitted, tensors, x.astype(np.float64)), expected, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(lowered.evaluate(values, x)[0], expected, rtol=2e-5, atol=2e-5)


def test_parameters_keep_their_names():
    program, values = build(lambda p, x: x @ p["w"] + p["b"], {"w": W, "b": B}, jnp.zeros(6))
    _, tensors = ir.emit(lower(program), values)
    assert set(tensors) == {"w", "b"}


def test_arithmetic_on_parameters_is_left_to_the_checker():
    program, values = build(lambda p, x: x * lax.rsqrt(p), weights(6) ** 2 + 1, jnp.zeros(6))
    emitted, tensors = ir.emit(lower(program), values)
    assert [n["op"] for n in emitted["nodes"]] == ["input", "tensor", "sqrt", "reciprocal", "mul"]
    np.testing.assert_array_equal(tensors["params"], values[0])


def test_all_that_cannot_be_expressed_is_named_at_once():
    program, values = build(lambda _, x: jnp.asinh(x) * jnp.sort(x) + jnp.where(x > 0, lax.erf_inv(x), jnp.cbrt(x)) * (
        lax.conv(x[None, None], x[None, None], (1,), "SAME")[0, 0]), (), jnp.zeros(6))  # fmt: skip
    with pytest.raises(UnsupportedPrimitive) as caught:
        ir.emit(lower(program), values)
    message = str(caught.value)
    assert all(word in message for word in ("asinh", "sort", "cbrt", "conv_general_dilated", "test_ir.py"))


POSITIVE = jnp.asarray([0.5, 2.0, 4.0, 1.5, 3.0, 5.0])
TRICKY = {
    "axes of size 1 meet without broadcast_in_dim": (lambda x: lax.mul(x.reshape(3, 2), W[:1, :2]) , vector),
    "a column meets a row": (lambda x: lax.add(x.reshape(6, 1), W[:1, :3]), vector),
    "bias of several rows": (lambda x: x.reshape(3, 2) @ W[:2] + B, vector),
    "centred rows": (lambda x: x.reshape(2, 3) - x.reshape(2, 3).mean(1, keepdims=True), vector),
    "powers of constants": (
        lambda x: sum(x * lax.integer_pow(POSITIVE, y) for y in (-3, -2, -1, 0, 1, 2, 3)), vector
    ),
    "gather that fills zeros": (lambda x: x.at[jnp.array([0, 9])].get(mode="fill", fill_value=0), vector),
    "gather that clips": (lambda x: x.at[jnp.array([0, 9])].get(mode="clip"), vector),
    "window of one with a stride": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1,), (2,), ((0, 0),)), vector
    ),
    "padding on both sides": (lambda x: lax.reduce_window(x, jnp.inf, lax.min, (3,), (1,), ((2, 2),)), vector),
    "scalar product": (lambda x: jnp.dot(x, W[:, 0]), vector),
    "outer clip": (lambda x: lax.clamp(-B[:1].reshape(()), x, jnp.float32(0.5)), vector),
}  # fmt: skip


@pytest.mark.parametrize("name", TRICKY)
def test_tricky_programs(name):
    f, shape = TRICKY[name]
    program, values = build(lambda _, x: f(x.reshape(shape)).ravel(), (), jnp.zeros(6))
    emitted, tensors = ir.emit(lower(program), values)
    for x in rng.normal(size=(3, 6)).astype(np.float32):
        expected = np.asarray(f(jnp.asarray(x))).ravel()
        np.testing.assert_allclose(evaluate(emitted, tensors, x.astype(np.float64)), expected, rtol=2e-5, atol=2e-5)


REFUSED = {
    "gather that fills NaN": lambda x: x.at[jnp.array([0, 9])].get(mode="fill"),
    "gather that fills seven": lambda x: x.at[jnp.array([0, 9])].get(mode="fill", fill_value=7.0),
    "window in the padding": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), ((2, 0),)),
    "window of one in the padding": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1,), (1,), ((1, 0),)),
    "half precision": lambda x: (x.astype(jnp.float16) * 2).astype(jnp.float32),
    "narrow accumulation": lambda x: lax.dot(V, x, preferred_element_type=jnp.float16).astype(jnp.float32),
    "an integer weight": lambda x: x * jnp.asarray([2**24 + 1]).astype(jnp.float32),
    "a power of a variable that is not whole": lambda x: x**1.5,
    "what comes of a comparison": lambda x: jnp.where((x > 0).argmax() > 2, x, -x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_is_refused(name):
    program, values = build(lambda _, x: REFUSED[name](x), (), jnp.zeros(6))
    with pytest.raises(UnsupportedPrimitive):
        ir.emit(lower(program), values)


def test_constants_that_are_subnormal_are_not_flushed():
    tiny = jnp.asarray(np.float32([1e-40, -1e-40, 1, 2, 3, 4]))
    program, values = build(lambda p, x: jnp.where(p > 0, x, -x), tiny, jnp.zeros(6))
    emitted, tensors = ir.emit(lower(program), values)
    x = np.arange(1.0, 7.0)
    np.testing.assert_array_equal(evaluate(emitted, tensors, x), [1, -2, 3, 4, 5, 6])


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", TRICKY)
def test_tricky_programs_are_bounded(name):
    """Linear bounds enclose them too, and the model and its certificate are found to agree."""
    f, shape = TRICKY[name]
    program, values = build(lambda _, x: f(x.reshape(shape)).ravel(), (), jnp.zeros(6))
    x = np.float32(rng.normal(size=6))
    (box,) = crown(plan(program), values, Interval(jnp.asarray(x - 0.1), jnp.asarray(x + 0.1)))
    for shift in rng.uniform(-0.1, 0.1, (8, 6)).astype(np.float32):
        y = np.asarray(program.evaluate(values, x + shift)[0])
        assert (y >= box.lo - 1e-4).all() and (y <= box.hi + 1e-4).all()
    subject = Subject(lambda _, x: f(x.reshape(shape)), (), (jax.ShapeDtypeStruct((6,), np.float32),))
    assert exactly(subject).missing is None


def test_a_certificate_program_that_disagrees_with_the_model_is_not_used(monkeypatch):
    """The replay sees a wrong rule: here one that forgets the sign."""
    monkeypatch.setitem(ir.ir.rules, "neg", lambda graph, x, **_: graph.node(x))
    subject = Subject(lambda _, x: -x, (), (jax.ShapeDtypeStruct((6,), np.float32),))
    assert "disagree" in str(exactly(subject).missing)
