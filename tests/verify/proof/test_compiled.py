"""Whether a compiler kept the operations of a model: what XLA merges is seen, what it moves and fuses is not minded."""

import json
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from binding_graphs import reseal
from jax import lax

import axiom_jax as ax
from axiom_jax._errors import AxiomError
from axiom_jax.targets import xla
from axiom_jax.verification.proof import compiled
from axiom_jax.verification.proof.compiled import DEFAULT, KEEPING, compilation, difference, hindrance, recompiled
from axiom_jax.verification.proof.hlo.meaning import Meaning
from axiom_jax.verification.proof.hlo.text import Unread, read
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject

c = np.float32
W = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 1, 2)).astype(np.float32)
VECTOR, IMAGE = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((4,), (1, 6, 6, 1)))
NEWER = tuple(map(int, jax.__version__.split(".")[:2])) >= (0, 12)


def convolutional(kernel, x):
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = lax.reduce_window(jax.nn.relu(y), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.mean((1, 2))


def layer_norm(w, x):
    x = x - x.mean()
    return x * lax.rsqrt((x * x).mean() + c(1e-5)) * w[0] + w[1]


ORDINARY = {
    "dense": (lambda w, x: jax.nn.relu(x @ w + w[0]) @ w + w[1], W, VECTOR),
    "convolution": (convolutional, KERNEL, IMAGE),
    "residual": (lambda w, x: x + jax.nn.relu(x @ w) @ w, W, VECTOR),
    "logistic": (lambda w, x: jax.nn.sigmoid(x @ w), W, VECTOR),
    "leaky relu": (lambda w, x: jax.nn.leaky_relu(x[::-1] @ w), W, VECTOR),
    "layer norm": (layer_norm, W, VECTOR),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_nets_are_kept_by_default(name):
    apply, params, spec = ORDINARY[name]
    found = compilation(Subject(apply, params, (spec,)))
    assert found.kept and not found.reason and re.fullmatch("[0-9a-f]{64}", found.digest), found.reason
    assert found.text == "default options" and found.jax == jax.__version__


# what is merged by default: True in every version, False from jax 0.12 on no more
MERGED = {
    "products with constants": (lambda _, x: (x * c(1e25)) * c(1e25), False),
    "exponentials": (lambda _, x: jnp.exp(x) * jnp.exp(-2 * x), False),
    "quotients": (lambda _, x: (x / c(3)) / (c(5) / (x + 2)), True),
    "sums with constants": (lambda _, x: x + c(0.1) + c(0.2), False),
    "sums of sums": (lambda _, x: x.reshape(2, 2).sum(-1).sum(-1)[None], True),
}


@pytest.mark.parametrize("name", MERGED)
def test_what_is_merged_is_seen_and_kept_where_the_pass_is_left_out(name):
    apply, always = MERGED[name]
    asked = Subject(apply, (), (VECTOR,))
    default = compilation(asked)
    assert default.kept is (NEWER and not always) and default.reason.startswith("" if default.kept else "replaced: the")
    kept = compilation(asked, KEEPING)
    assert kept.kept and kept.text == "xla_disable_hlo_passes=algsimp"
    assert default.kept or kept.digest != default.digest


def test_what_is_said_of_infinities_is_what_is_executed():
    apply, _ = MERGED["products with constants"]
    lowered = jax.jit(apply).lower((), VECTOR)
    x = np.full(4, 1e-20, np.float32)
    for options in (DEFAULT, KEEPING):
        executed = lowered.compile(compiler_options=dict(options) or None)((), x)
        assert bool(np.isfinite(executed).all()) is compilation(Subject(apply, (), (VECTOR,)), options).kept


TEXT = """HloModule jit, is_scheduled=true

%sum (a.1: f32[], b.1: f32[]) -> f32[] {
  %a.1 = f32[] parameter(0)
  %b.1 = f32[] parameter(1)
  ROOT %c.1 = f32[] add(%a.1, %b.1)
}

ENTRY %main (w: f32[3,2], x: f32[3]) -> f32[2] {
  %w = f32[3,2]{1,0} parameter(0), metadata={op_name="w"}
  %x = f32[3]{0} parameter(1)
  %half = f32[] constant(0.5)
  %many = f32[3]{0} broadcast(%half), dimensions={}
  %product = f32[3]{0} multiply(%x, %many)
  %moved = f32[3]{0} subtract(%product, %x)
  %least = f32[3]{0} maximum(%moved, %x)
  %small = f32[3]{0} exponential(%least)
  %ratio = f32[3]{0} divide(%small, %x)
  %zero = f32[] constant(0)
  %total = f32[] reduce(%ratio, %zero), dimensions={0}, to_apply=%sum
  %less = pred[3]{0} compare(%x, %small), direction=LT
  %chosen = f32[3]{0} select(%less, %ratio, %x)
  %dot = f32[2]{0} dot(%chosen, %w), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %part = f32[1]{0} slice(%x), slice={[1:2]}
  %rest = f32[1]{0} slice(%dot), slice={[0:1]}
  %both = f32[2]{0} concatenate(%part, %rest), dimensions={0}
  %totals = f32[2]{0} broadcast(%total), dimensions={}
  %sum = f32[2]{0} add(%both, %dot)
  ROOT %out = f32[2]{0} add(%sum, %totals)
}
"""
CHANGES = {
    "another operation": ("multiply(%x, %many)", "add(%x, %many)"),
    "another constant": ("constant(0.5)", "constant(0.25)"),
    "operands the other way round": ("subtract(%product, %x)", "subtract(%x, %product)"),
    "a divisor that is divided": ("divide(%small, %x)", "divide(%x, %small)"),
    "an operation left out": ("divide(%small, %x)", "divide(%least, %x)"),
    "another function": ("exponential(%least)", "tanh(%least)"),
    "the least instead of the most": ("maximum(%moved", "minimum(%moved"),
    "another comparison": ("direction=LT", "direction=LE"),
    "another choice": ("select(%less, %ratio, %x)", "select(%less, %x, %ratio)"),
    "another element": ("slice={[1:2]}", "slice={[2:3]}"),
    "another order of elements": ("concatenate(%part, %rest)", "concatenate(%rest, %part)"),
    "another product": ("dot(%chosen, %w)", "dot(%ratio, %w)"),
    "a sum from another number": ("constant(0)", "constant(1)"),
    "another input": ("x = f32[3]{0} parameter(1)", "x = f32[3]{0} parameter(2)"),
    "terms taken otherwise": ("add(%both, %dot)", "add(%both, %totals)"),
    "what changes between types": ("divide(%small, %x)", "convert(%less)"),
}
SAME = {
    "factors the other way round": ("multiply(%x, %many)", "multiply(%many, %x)"),
    "terms the other way round": ("add(%sum, %totals)", "add(%totals, %sum)"),
    "a comparison from the other side": ("compare(%x, %small), direction=LT", "compare(%small, %x), direction=GT"),
    "a factor as a divisor": ("constant(0.5)\n", "constant(2)\n", "multiply(%x, %many)", "divide(%x, %many)"),
    "names": ("%product", "%anything"),
    "a copy": ("exponential(%least)", "exponential(%again)", "  %small", "  %again = f32[3]{0} copy(%least)\n  %small"),
}


def changed(pairs):
    text = TEXT
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    return read(text)


def test_the_text_is_its_own_program():
    assert difference(read(TEXT), read(TEXT)) is None


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_optimised_text_is_seen(name):
    assert difference(read(TEXT), changed(CHANGES[name])) is not None
    assert changed(CHANGES[name]).digest != read(TEXT).digest


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_operation_is_not_minded(name):
    assert difference(read(TEXT), changed(SAME[name])) is None


def test_a_sum_may_be_taken_by_parts_and_sums_of_the_program_stay_apart():
    """Of terms that are added up in an order of their own, as GPUs do; the rounding of two sums is not that of one."""
    text = """HloModule m

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[2,6]) -> f32[2] {
  %x = f32[2,6]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %total = f32[2]{0} reduce(%x, %zero), dimensions={1}, to_apply=%sum
}
"""
    lines = text.splitlines()
    parts = lines[-2].replace("%x, ", "%part, ").replace("dimensions={1}", "dimensions={2}"), *(
        "  %split = f32[2,2,3]{2,1,0} bitcast(%x)",
        "  %part = f32[2,3]{1,0} reduce(%split, %zero), dimensions={1}, to_apply=%sum",
    )
    other = "\n".join([*lines[:-2], *parts[1:], parts[0].replace("dimensions={2}", "dimensions={1}"), "}", ""])
    assert difference(read(text), read(other)) is None
    assert "replaced" in str(difference(read(other), read(text))) and difference(read(other), read(other)) is None
    between = other.replace("reduce(%part", "reduce(%less").replace(
        "  ROOT %total", "  %less = f32[2,3]{1,0} tanh(%part)\n  ROOT %total"
    )
    assert "replaced" in str(difference(read(text), read(between)))
    assert "replaced" in str(difference(read(text), read(other.replace("[2,2,3]{2,1,0}", "[2,2,3]{0,1,2}"))))
    assert "replaced" in str(difference(read(text), read(other.replace("constant(0)", "constant(1)"))))


@pytest.mark.parametrize("kept", [True, False])
def test_long_constants_are_read_whole(kept):
    """The texts of HLO leave out constants of more than ten numbers; a product of two is another constant."""
    rng = np.random.default_rng(3)
    w, v = rng.normal(size=(4, 30)).astype(np.float32), rng.normal(size=30).astype(np.float32)
    found = compilation(Subject(lambda _, x: x @ w * v if kept else x @ w * v * v[::-1], (), (VECTOR,)))
    assert found.kept is (kept or NEWER) and found.reason.startswith("" if kept or NEWER else "replaced: ")


def test_more_constants_than_are_read_are_left_out(monkeypatch):
    monkeypatch.setattr(compiled, "LONGEST", 100)
    w = np.random.default_rng(3).normal(size=(4, 30)).astype(np.float32)
    assert "is not printed whole" in compilation(Subject(lambda _, x: x @ w, (), (VECTOR,))).reason


def test_kernels_that_xla_writes_by_way_of_triton_are_read():
    head, tail = SMALL.split("ENTRY")
    given = read(head + "ENTRY" + tail.replace("tanh(%a)", GIVEN % "__triton"))
    assert difference(read(SMALL), given) is None
    assert "replaced" in str(difference(read(SMALL.replace("tanh(%a)", "exponential(%a)")), given))


def test_a_quotient_by_a_constant_may_be_a_product_and_not_the_other_way_round():
    """Quotients are charged four roundings, products one; 0.2 is not the number 1/5."""
    product = changed(("constant(0.5)", "constant(0.2)"))
    quotient = changed(("constant(0.5)", "constant(5)", "multiply(%x, %many)", "divide(%x, %many)"))
    assert difference(quotient, product) is None
    assert "the compiled divide (product)" in str(difference(product, quotient))
    other = changed(("constant(0.5)", "constant(0.2000001)"))
    assert "replaced" in str(difference(quotient, other))


def test_a_quotient_may_be_a_product_with_the_inverse_where_division_is_correctly_rounded():
    """Two roundings, where four are charged; where a division alone may take four, it may not be."""
    told = "%ratio = f32[3]{0} divide(%small, %x)"
    ones = "%one = f32[] constant(1)\n  %ones = f32[3]{0} broadcast(%one), dimensions={}\n  "
    inverse = ones + "%inverse = f32[3]{0} divide(%ones, %x)\n  %ratio = f32[3]{0} multiply(%small, %inverse)"
    quotient, product = read(TEXT), changed((told, inverse))
    assert difference(quotient, product) is None and difference(product, quotient) is None
    assert "replaced" in str(difference(quotient, product, inverses=False))
    for wrong in (inverse.replace("divide(%ones, %x)", "divide(%ones, %small)"), inverse.replace("(1)", "(3)")):
        assert "replaced" in str(difference(quotient, changed((told, wrong))))


def test_the_hash_is_of_what_is_computed():
    remarked = TEXT.replace("direction=LT", 'direction=LT, metadata={op_name="jit(f)/lt" stack_frame_id=3}')
    tables = remarked.replace("\n\n", '\n\nFileNames\n1 "a.py"\n\n', 1)
    assert read(tables).digest == changed(SAME["names"]).digest == read(TEXT).digest
    assert changed(SAME["a copy"]).digest != read(TEXT).digest


GIVEN = 'fusion(%%a), kind=kCustom, calls=%%f, backend_config={"fusion_config":{"kind":"%s"}}'
UNKNOWN = {
    "custom-call": ("tanh(%a)", 'custom-call(%a), custom_call_target="__onednn$matmul"'),
    "while with body": ("f32[2]{0} tanh(%a)", "(f32[2]{0}, s32[]) while(%a), condition=%c, body=%b"),
    "tanh with result_accuracy": ("tanh(%a)", "tanh(%a), result_accuracy={mode=highest}"),
    "dot with algorithm": ("tanh(%a)", "dot(%a, %a), algorithm=dot_bf16_bf16_f32"),
    "rng-bit-generator": ("tanh(%a)", "rng-bit-generator(%a)"),
    "not printed whole": ("tanh(%a)", "constant({...})"),
    "of an unknown form": ("tanh(%a)", "tanh(%missing)"),
    "of type bf16": ("f32[2]{0} tanh(%a)", "bf16[2]{0} convert(%a)"),
    "the shape": ("f32[2]{0} tanh(%a)", "f32[2]{0:T(256)} tanh(%a)"),
    "is not understood": ("tanh(%a)", "tanh %a"),
    "a bracket is not closed": ("tanh(%a)", "tanh(%a"),
    "tanh by a library": ("tanh(%a)", GIVEN % "__ynn_fusion"),
    "a fusion by __other": ("tanh(%a)", GIVEN % "__other"),
}
SMALL = """HloModule m

%f (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %t = f32[2]{0} tanh(%p)
}

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  ROOT %b = f32[2]{0} tanh(%a)
}
"""


@pytest.mark.parametrize("said", UNKNOWN)
def test_what_is_not_understood_is_refused_by_name(said):
    before, (head, tail) = read(SMALL), SMALL.split("ENTRY")
    text = head + "ENTRY" + tail.replace(*UNKNOWN[said])
    try:
        assert said in str(difference(before, read(text)))
    except Unread as unread:
        assert said in str(unread)


REDUCED = """HloModule m

most {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] maximum(a, b)
}

ENTRY main {
  x = f32[2]{0} parameter(0)
  zero = f32[] constant(0)
  padded = f32[3]{0} pad(x, zero), padding=0_1
  least = f32[] constant(-inf)
  ROOT r = f32[] reduce(padded, least), dimensions={0}, to_apply=most
}
"""


def test_zero_is_a_number_where_the_largest_is_taken():
    """A sum with 0 is the same sum; a maximum with 0 is another one, and a quotient by 0 is not 0."""
    without = REDUCED.replace("reduce(padded", "reduce(x")
    assert difference(read(REDUCED), read(without)) is not None
    sums = lambda text: text.replace("maximum(", "add(").replace("constant(-inf)", "constant(0)")
    assert difference(read(sums(REDUCED)), read(sums(without))) is None
    assert difference(read(REDUCED), read(REDUCED.replace("constant(0)", "constant(-inf)"))) is not None
    assert difference(read(REDUCED.replace("constant(0)", "constant(-inf)")), read(without)) is None
    over = SMALL.replace("tanh(%a)", "divide(%a, %z)").replace(
        "  ROOT %b", "  %y = f32[] constant(0)\n  %z = f32[2]{0} broadcast(%y), dimensions={}\n  ROOT %b"
    )
    assert difference(read(over), read(over)) is None
    assert difference(read(over), read(over.replace("divide(%a, %z)", "copy(%z)"))) is not None


def test_what_is_rounded_in_a_free_order_may_not_be_computed_twice():
    """A product that one fusion adds to, fused into one operation or not, and another one adds to again."""
    twice = """HloModule m

ENTRY main {
  x = f32[2]{0} parameter(0)
  y = f32[2]{0} parameter(1)
  p = f32[2]{0} multiply(x, y)
  s = f32[2]{0} add(p, x)
  t = f32[2]{0} add(p, x)
  a = f32[2]{0} tanh(s)
  ROOT b = f32[2]{0} subtract(a, t)
}
"""
    once = twice.replace("subtract(a, t)", "subtract(a, s)").replace("  t = f32[2]{0} add(p, x)\n", "")
    exact = twice.replace("multiply(x, y)", "negate(x)").replace("add(p, x)", "add(p, y)")
    assert difference(read(once), read(once)) is None and difference(read(exact), read(exact)) is None
    assert "computed twice" in str(difference(read(once), read(twice)))


def lowered(function, *specs):
    return read(jax.jit(function).lower(*specs).as_text(dialect="hlo"))


PLACES = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
MOVES = {
    "pad": lambda x: lax.pad(x, c(7), [(1, -1, 0), (0, 2, 1), (-1, 0, 2)]),
    "gather": lambda x: x[:, np.array([[3, 0], [1, 1]]), 2],
    "gather of columns": lambda x: x[np.array([2, 0]), :, np.array([4, 1])],
    "dynamic slice": lambda x: lax.dynamic_slice(x, (1, 2, 9), (2, 2, 3)),
    "update": lambda x: lax.dynamic_update_slice(x, -x[:1, :2, :2], (2, 9, 1)),
    "strides and turns": lambda x: jnp.flip(x[::2, 1:, ::-2], 1).transpose(2, 0, 1),
    "tiles": lambda x: jnp.tile(jnp.concatenate([x, -x], 1), (1, 1, 2)),
    "choice": lambda x: jnp.where(np.arange(5) % 2 == 1, x, c(3)),
    "sums of constants": lambda x: x * x - jnp.maximum(x, c(0.5)) / (x + c(9)),
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", MOVES)
def test_what_is_moved_lands_where_jax_puts_it(name):
    (found,) = Meaning(lowered(lambda: MOVES[name](jnp.asarray(PLACES)))).outputs()
    assert found.known is not None
    np.testing.assert_array_equal(found.known, MOVES[name](PLACES))


CONVOLUTIONS = [
    dict(window_strides=(1, 1), padding="SAME"),
    dict(window_strides=(2, 1), padding=((1, 0), (0, 2)), rhs_dilation=(1, 2)),
    dict(window_strides=(1, 1), padding=((2, 2), (1, 1)), lhs_dilation=(2, 2)),
    dict(window_strides=(1, 2), padding="VALID", feature_group_count=2),
]


@pytest.mark.sweep(4)
@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("numbers", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CNHW", "WIHO", "HNWC")])
def test_a_convolution_is_its_sums_of_products(options, numbers):
    """Which products: found by convolving numbers that say where they stand."""
    groups = options.get("feature_group_count", 1)
    place = lambda labels, sizes: tuple(sizes[label] for label in labels)
    left = place(numbers[0], {"N": 1, "H": 4, "W": 3, "C": 2})
    right = place(numbers[1], {"H": 3, "W": 2, "I": 2 // groups, "O": 2})
    convolve = lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=numbers, **options)
    n, m = int(np.prod(left)), int(np.prod(right))
    outputs = convolve(jnp.zeros(left), jnp.zeros(right)).shape
    one = jax.vmap(jax.vmap(convolve, (None, 0)), (0, None))  # every element of x with every one of w
    reached = np.asarray(one(jnp.eye(n).reshape(n, *left), jnp.eye(m).reshape(m, *right))).reshape(n, m, -1)

    def by_hand(x, w):
        x, w = x.ravel(), w.ravel()
        sums = [x[np.nonzero(reached[..., k])[0]] @ w[np.nonzero(reached[..., k])[1]] for k in range(reached.shape[-1])]
        return jnp.stack(sums).reshape(outputs)

    specs = jax.ShapeDtypeStruct(left, np.float32), jax.ShapeDtypeStruct(right, np.float32)
    assert difference(lowered(convolve, *specs), lowered(by_hand, *specs)) is None
    wrong = lambda x, w: by_hand(x, jnp.roll(w, 1, numbers[1].index("H")))
    assert difference(lowered(convolve, *specs), lowered(wrong, *specs)) is not None


def above(least):
    box = (Fraction(1, 4),) * 4, (Fraction(1, 2),) * 4
    return Property((Case(*box, ((Atom(((0, Fraction(1)),), Fraction(least)),),)),), f"y_0 > {least}")


@pytest.fixture(scope="module")
def dense():
    return Subject(*ORDINARY["dense"][:2], (VECTOR,))


def test_a_certificate_names_the_compilation_that_keeps_the_operations(dense, tmp_path):
    path = tmp_path / "a.cert"
    decision = decide(dense, above(-100), certificate_path=path, float32=True)
    assert decision.verdict.levels == ("real", "float32")
    payload = json.loads(path.read_bytes())["payload"]
    own = compilation(dense)
    assert payload["model"]["source"][own.kind] == own.digest and payload["meta"]["compilation"] == own.told
    assert "default options" in own.kind and jax.__version__ in own.kind
    said = ax.check_certificate(path, dense).statement
    assert "every operation is kept; its optimised HLO is the one that the certificate names." in said
    set_source = lambda entry: lambda payload, _: payload["model"].update(source=entry)
    reseal(path, set_source({own.kind: "0" * 64}))
    checked = ax.check_certificate(path, dense)
    assert checked.accepted and "HLO is another one than the certificate names." in checked.statement
    other = own.kind.replace(jax.__version__, "0.0.1")
    reseal(path, set_source({other: own.digest}))
    checked = ax.check_certificate(path, dense)
    said = f"{other}: compiled by another version or for another device, not compared."
    assert checked.accepted and said in checked.statement


def test_a_certificate_over_the_real_numbers_names_none(dense, tmp_path):
    decide(dense, above(-100), certificate_path=tmp_path / "a.cert")
    payload = json.loads((tmp_path / "a.cert").read_bytes())["payload"]
    assert not any(kind.startswith(compiled.KIND) for kind in payload["model"]["source"])
    assert "compilation" not in payload["meta"]


def test_a_compilation_that_replaces_operations_here_is_told():
    asked = Subject(MERGED["sums of sums"][0], (), (VECTOR,))
    said = recompiled({compilation(asked).kind: "0" * 64}, asked)
    assert "its operations are not known to be kept: replaced: the compiled" in str(said)


def test_what_a_compiler_replaces_does_not_reach_level_float32(monkeypatch):
    """The lists of `float32.obstacle` know nothing of it here: what is seen in the compiled text decides."""
    monkeypatch.setattr(compiled, "obstacle", lambda *_: None)
    sums = Subject(lambda _, x: x.reshape(2, 2).sum(-1).sum(-1)[None] + x, (), (VECTOR,))
    assert "not seen to keep the operations: replaced" in str(hindrance(sums))
    decision = decide(sums, above(-1), float32=True)
    assert decision.verdict.levels == ("real",)


def test_a_model_that_is_served_can_be_compiled_so_that_its_operations_are_kept(tmp_path):
    assert xla.KEEPING == KEEPING
    kept = ax.compile(lambda x: (x * c(1e25)) * c(1e25), keep_operations=True, example=np.ones((1, 4), np.float32))
    assert kept.record["keep_operations"] is True and kept.record["used"] == "xla"
    np.testing.assert_allclose(kept(np.full((3, 4), 1e-20, np.float32)), 1e30, rtol=1e-6)
    with pytest.raises(AxiomError, match="cannot be saved compiled"):
        kept.save(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(AxiomError, match="no option 'keep_operations'"):
        ax.compile(lambda x: x, "onnxruntime", keep_operations=True, example=np.ones((1, 4), np.float32))
