"""`ax.lint`: each rule finds what it is for, and says nothing where there is nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.linting.linter import lint
from axiom_jax.linting.numerics import DANGERS, bounded
from axiom_jax.linting.report import Report
from axiom_jax.verification.domains.interval import Interval
from axiom_jax.verification.regions import Box

VECTOR = jax.ShapeDtypeStruct((3,), "float32")


def rules(report: Report, *severities: str) -> set[str]:
    return {finding.rule for finding in report if not severities or finding.severity in severities}


UNGUARDED = {
    "div": lambda x: 1 / x, "log": jnp.log, "log1p": jnp.log1p, "sqrt": lambda x: jnp.sqrt(x - 2),
    "rsqrt": jax.lax.rsqrt, "exp": lambda x: jnp.exp(100 * x),
    "exp2": lambda x: jnp.exp2(200 * x), "expm1": lambda x: jnp.expm1(100 * x),
    "acos": lambda x: jnp.arccos(2 * x), "asin": lambda x: jnp.arcsin(2 * x), "atanh": lambda x: jnp.arctanh(2 * x),
    "acosh": jnp.arccosh, "erf_inv": lambda x: jax.lax.erf_inv(2 * x), "pow": lambda x: jnp.power(x, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", DANGERS)
def test_every_dangerous_operation_is_found_with_its_line(name):
    region = Box(-1, 1)
    report = lint(lambda x: UNGUARDED[name](x), VECTOR, region=region)
    found = [finding for finding in report if finding.rule == DANGERS[name].rule]
    assert len(found) == 1 and found[0].severity == "error", report
    assert found[0].at and "test_lint.py" in found[0].at and found[0].fix


@pytest.mark.parametrize("guarded", [
    lambda x: 1 / (jnp.abs(x) + 0.5),
    lambda x: jnp.log(jnp.maximum(x, 1e-6)),
    lambda x: jnp.log(jnp.where(x > 0, x, 1.0)),
    lambda x: 1 / jnp.where(x < -0.5, x, -1.0),
    jax.nn.softmax,
    jax.nn.log_softmax,
    jax.nn.logsumexp,
    lambda x: jax.lax.rsqrt(jnp.square(x).mean() + 1e-5),
    jax.nn.sigmoid,
    jax.nn.softplus,
])  # fmt: skip
def test_guarded_operations_are_let_pass(guarded):
    assert not rules(lint(guarded, VECTOR), "error", "warning")


def test_what_can_happen_is_a_warning_and_what_happened_an_error():
    rare = lambda x: jnp.log(x.sum() + 2.9999)  # at the corner (-1, -1, -1) alone
    assert rules(lint(rare, VECTOR, region=Box(-1, 1)), "error") == {"log"}
    never = lambda x: jnp.log(x - x + 0.5)  # intervals forget that x is x
    assert rules(lint(never, VECTOR, region=Box(-1, 1)), "warning") == {"log"}


def test_overflow_is_told_where_a_region_is_given():
    cube = lambda x: x * x * x
    assert not lint(cube, VECTOR)
    assert rules(lint(cube, VECTOR, region=Box(0, 1e20))) == {"overflow"}
    assert not lint(cube, VECTOR, region=Box(0, 1e10))


def test_bounds_contain_what_runs():
    def fn(x):
        shifted = x - x.max()
        return jnp.exp(shifted).sum(), jnp.where(x > 0.25, x, 1.0), jnp.where(0.5 >= x, x, -1.0), shifted

    from axiom_jax._program import build

    program, params = build(lambda _, x: fn(x), (), VECTOR)

    @settings(max_examples=30)
    @given(st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3))
    def holds(values):
        x = jnp.asarray(values, jnp.float32)
        box = Interval(x - 1, x + 1)
        found = bounded(program, params, [box])[0]
        for corner in (x - 1, x, x + 1, x.at[0].add(1), x.at[1].add(-1)):
            for v, y in zip(program.outputs, program.evaluate(params, corner), strict=True):
                assert (found[v].lo <= y + 1e-5).all() and (y - 1e-5 <= found[v].hi).all()

    holds()


def test_dtypes():
    assert rules(lint(lambda x: x.sum() * 0 + jnp.asarray(2.0), VECTOR)) == set()
    model = ax.Model(lambda p, x: x * p["scale"] + p["shift"], {"scale": 2.0, "shift": np.zeros(3)})
    report = lint(model, VECTOR)
    assert rules(report) == {"weak-type", "truncation"}
    half = lambda w, x: x.astype(jnp.bfloat16) * 2 + 1
    assert "promotion" not in rules(lint(half, VECTOR, VECTOR))

    def mixed(w, x):
        small = x.astype(jnp.bfloat16)
        return small * w

    found = next(f for f in lint(mixed, VECTOR, VECTOR) if f.rule == "promotion")
    assert found.got == "bfloat16 to float32" and "mixed" in (found.at or "")
    assert "truncation" in rules(lint(lambda x: x * jnp.ones(3, "float64"), VECTOR))
    assert rules(lint(lambda x: 2.0, VECTOR)) == {"weak-type", "constant-output"}


def test_precision_of_products_concerns_accelerators():
    product = lambda x: x @ jnp.ones((3, 2))
    assert rules(lint(product, VECTOR)) == {"precision"}
    assert not lint(product, VECTOR, backend="cpu")
    assert not lint(lambda x: jnp.matmul(x, jnp.ones((3, 2)), precision="highest"), VECTOR)


def test_compilation():
    big = jnp.ones((10, 10))
    assert rules(lint(lambda x: x + big.sum(), VECTOR), "warning") == {"captured-array"}
    model = ax.Model(lambda p, x: x * p["used"], {"used": jnp.ones(3), "left": jnp.ones(2)})
    found = next(f for f in lint(model, VECTOR) if f.rule == "dead-parameter")
    assert found.at == "left"
    assert rules(lint(lambda x: x + np.random.default_rng().random(), VECTOR), "error") == {"non-determinism"}
    assert "callback" in rules(lint(lambda x: jax.pure_callback(lambda y: y, VECTOR, x), VECTOR))
    assert rules(lint(ax.Sequential(nn.Dense(4, 2)), backend="cpu")) == {"recompilation"}


def test_what_cannot_be_traced_is_a_finding():
    def branch(x):
        return x if x.sum() > 0 else -x

    found = next(iter(lint(branch, VECTOR)))
    assert (found.rule, found.severity) == ("control-flow", "error") and "branch" in (found.at or "")
    found = next(iter(lint(lambda x: x @ jnp.ones((4, 4)), VECTOR)))
    assert found.rule == "shape" and "test_lint.py" in (found.at or "")

    def annotated(x: Float[Array, "n 3"]):
        return jnp.log(x)

    assert "log" in rules(lint(annotated))


def test_reports_show_themselves():
    report = lint(jnp.log, VECTOR, region=Box(-1, 1))
    assert report and not report.clean and len(report) == 1
    assert "<td>error</td>" in report._repr_html_() and "log" in str(report)
    assert report.to_dict()["findings"][0]["rule"] == "log"
    from rich.console import Console

    console = Console(record=True, width=100, file=open("/dev/null", "w"))
    console.print(report)
    console.file.close()
    assert "log gives" in console.export_text()


def test_bad_input_is_refused():
    with pytest.raises(ax.AxiomError, match="Nothing says"):
        lint(lambda x: x)
    with pytest.raises(ax.AxiomError, match="model or a function"):
        lint(3)
    with pytest.raises(ax.AxiomError, match="2 regions for 1"):
        lint(jnp.tanh, VECTOR, region=[Box(0, 1), Box(0, 1)])
