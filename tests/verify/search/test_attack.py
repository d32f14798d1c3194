"""Attacks find what is there, stay where they may, and stop when a candidate is judged."""

import csv
import gzip
import itertools
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search.attack import NARROWEST, WIDEST, Attack, attack, descents, operations
from axiom_jax.verification.search.margins import Question, Subject, pose

F = Fraction
LATER = lambda: time.monotonic() + 60


def network(params: Any, x: Any) -> Any:
    """Two bumps, a product and a sigmoid of three inputs."""
    bump = jnp.maximum(0.25 - jnp.abs(x[0] - params[0]) * 4, 0) + jnp.maximum(0.25 - jnp.abs(x[1] + 0.5) * 4, 0)
    return jnp.stack([bump, x[0] * x[1], jax.nn.sigmoid(x[2]) - 0.5, x[2]])


SUBJECT = Subject(network, jnp.float32([0.75]), (jax.ShapeDtypeStruct((3,), np.float32),))


def below(output: int, threshold: str | int, sign: int = 1) -> Atom:
    return Atom(((output, F(sign)),), F(threshold))


def box(*unsafe: tuple[Atom, ...], lo: int | F = -1, hi: int | F = 1) -> Case:
    return Case((F(lo),) * 3, (F(hi),) * 3, unsafe)


def asked(*cases: Case) -> Question:
    return pose(SUBJECT, Property(cases))


def margins(question: Question, case: int, point: np.ndarray) -> float:
    """The value of a point, straight from the property."""
    y = np.asarray(network(jnp.float32([0.75]), jnp.asarray(point, jnp.float32))).tolist()
    value = lambda atom: sum(float(c) * y[j] for j, c in atom.output) + sum(
        float(c) * float(point[i]) for i, c in atom.input
    ) - float(atom.threshold)  # fmt: skip
    return min(max(map(value, conjunct)) for conjunct in question.property.cases[case].unsafe)


QUESTIONS = {
    "a conjunction of bumps": box((below(0, "-49/100", -1), below(1, "-37/100"))),
    "a corner": box((below(1, "-9999/10000"), below(3, "-9999/10000", -1))),
    "the last disjunct": box(*((below(2, -9), below(3, k)) for k in range(-9, -2)), (below(2, "-23/100"),)),
    "an edge with inputs": box((below(2, "-1/5", -1), Atom((), F(-1), ((0, F(1)),)), Atom((), F(0), ((1, F(1)),)))),
    "a product": box((below(1, "-49/50"), below(2, "-1/100", -1))),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_unsafe_points_are_found(name: str):
    question = asked(QUESTIONS[name])
    judge = lambda case, point: margins(question, case, point) <= 0
    assert Attack(question).run(LATER(), judge, calls=60) == "unsafe"


def test_one_case_of_hundreds_is_found():
    safe = [box((below(2, "-1/2"),), lo=F(i, 300), hi=F(i + 1, 300)) for i in range(299)]
    question = asked(*safe[:170], box((below(1, "-49/50"), below(2, "-1/100", -1))), *safe[170:])
    found = []
    judge = lambda case, point: not found.append((case, point)) and margins(question, case, point) <= 0
    assert Attack(question).run(LATER(), judge, calls=60) == "unsafe"
    assert {case for case, _ in found} == {170}


def test_points_stay_in_the_box_and_values_are_theirs():
    question = asked(QUESTIONS["a conjunction of bumps"])
    fixed = np.array([0.5, -0.25, 0.1]), np.array([0.9, -0.25, 0.1])
    for inside in (None, fixed):
        points, values = attack(question, 0, 3, inside)
        assert (points.dtype, values.dtype) == (np.float32, np.float32)
        lo, hi = (np.float32(end) for end in (inside or (question.float32_lo[0], question.float32_hi[0])))
        assert ((points >= lo) & (points <= hi)).all()
        assert (np.diff(values) >= 0).all()
        assert [margins(question, 0, point) for point in points[:5]] == pytest.approx(values[:5].tolist(), abs=1e-6)
    again = attack(question, 0, 3, fixed)
    assert (again[0] == points).all() and (again[1] == values).all()


def test_a_safe_question_is_spent_and_time_is_kept():
    question = asked(box((below(2, "-3/4"),)))
    never = lambda case, point: pytest.fail("nothing here is worth judging")
    found = Attack(question)
    assert found.run(LATER(), never) == "spent"
    calls = found.calls
    assert found.run(time.monotonic() - 1, never) == "time"
    assert found.calls == calls
    assert found.run(LATER(), never, calls=3) == "spent"
    assert found.calls == calls + 3


def test_what_exact_arithmetic_refuses_is_offered_again_only_if_it_is_lower():
    question = asked(box((below(2, "-23/100"),)))
    offered: list[float] = []
    judge = lambda case, point: bool(offered.append(margins(question, case, point)))
    assert Attack(question).run(LATER(), judge, calls=30) == "spent"
    assert offered
    assert all(later < earlier for earlier, later in itertools.pairwise(offered))


def test_values_that_are_not_numbers_mislead_no_descent():
    function = lambda w, x: jnp.stack([jnp.sqrt(x[0]) * w[0], x[1]])
    subject = Subject(function, jnp.float32([1]), (jax.ShapeDtypeStruct((2,), np.float32),))
    case = Case((F(-1), F(-1)), (F(1), F(1)), ((below(0, "1/10"), below(1, "-9/10")),))
    question = pose(subject, Property((case,)))
    points, values = attack(question, 0)
    assert np.isfinite(points).all()
    assert values[0] <= 0


def test_large_networks_get_fewer_descents():
    def wide(n: int) -> Question:
        shape = jax.ShapeDtypeStruct((n,), np.float32)
        subject = Subject(lambda w, x: (w @ jnp.maximum(w @ x, 0))[:1], jnp.ones((n, n), jnp.float32), (shape,))
        return pose(subject, Property((Case((F(0),) * n, (F(1),) * n, ((below(0, -1),),)),)))

    small, large = wide(8), wide(1000)
    assert operations(large.program) == pytest.approx(4e6, rel=0.01)
    assert descents(small)[0] == WIDEST
    assert NARROWEST <= descents(large)[0] < 32
    wide_spec = replace(large.spec, outputs=np.broadcast_to(np.float32(0), (2, 10**6, 10)))
    heavy = replace(large, spec=wide_spec, lo=np.zeros((2, 1000)))
    assert descents(heavy)[0] <= 4


# Public benchmarks


def replayed(model: Path, subject: Subject, point: np.ndarray) -> list[float]:
    """The outputs of onnxruntime, which optimises nothing."""
    import onnxruntime

    content = model.read_bytes()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(gzip.decompress(content) if model.suffix == ".gz" else content, options)
    parts = np.split(point, np.cumsum([int(np.prod(s.shape)) for s in subject.specs])[:-1])
    feeds = {
        i.name: part.reshape(s.shape) for i, part, s in zip(session.get_inputs(), parts, subject.specs, strict=True)
    }
    return np.concatenate([np.asarray(y).ravel() for y in session.run(None, feeds)]).astype(np.float64).tolist()


@pytest.mark.campaign
def test_the_public_counterexamples_are_found_and_replay(vnncomp: Path):
    """Those that the published tools found, in the families whose exact arithmetic is quick."""
    from axiom_jax._cli_verify import read_model
    from axiom_jax.verification.proof.exact import exactly
    from axiom_jax.verification.search.judging import unsafe
    from axiom_jax.verification.spec.vnnlib import read_vnnlib

    subjects: dict[str, Subject] = {}
    missed, found = [], 0
    for family in ("acasxu", "cersyve", "reach_prob_density", "safenlp", "sat_relu", "tllverifybench", "mnist_fc"):
        for row in csv.DictReader((vnncomp / family / "instances.csv").read_text().splitlines()):
            if row["expected"] != "sat":
                continue
            path = vnncomp / family / row["onnx"]
            subject = subjects.setdefault(str(path), read_model(str(path)))
            prop = read_vnnlib(vnncomp / family / row["vnnlib"], subject.size, subject.flat[0].outputs[0].size)
            question, exact = pose(subject, prop), exactly(subject)
            seen: list[tuple[int, np.ndarray]] = []

            def judge(case: int, point: Any) -> bool:
                inputs = [F(float(x)) for x in point]
                good = unsafe(prop.cases[case], inputs, exact.network.evaluate(inputs))  # noqa: B023
                return good and not seen.append((case, point))  # noqa: B023

            if Attack(question).run(time.monotonic() + 60, judge, calls=400) != "unsafe":
                missed.append(f"{family} {row['onnx']} {row['vnnlib']}")
                continue
            found += 1
            case, point = seen[-1]
            assert (point >= question.float32_lo[case]).all() and (point <= question.float32_hi[case]).all()
            y = replayed(path, subject, point)
            value = lambda atom: sum(float(c) * y[j] for j, c in atom.output) - float(atom.threshold) + sum(  # noqa: B023
                float(c) * float(point[i]) for i, c in atom.input)  # noqa: B023  # fmt: skip
            worst = min(max(map(value, conjunct)) for conjunct in prop.cases[case].unsafe)
            assert worst <= 1e-6 * (1 + max(map(abs, y))), (family, row["onnx"], row["vnnlib"], worst)
    print(f"{found} found, {len(missed)} missed: {missed}")
    assert not missed
