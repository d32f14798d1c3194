"""`ax.verify` end to end: budgets, journals, threads, interruption, tables."""

import io
import json
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.properties.base import Claim
from axiom_jax.verification.properties.scope import Place
from axiom_jax.verification.properties.ways import ByRunning, Outcome
from axiom_jax.verification.results import Item, Result
from axiom_jax.verification.run import digest_of
from axiom_jax.verification.search.margins import subject_of

NET = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), seed=1)
BOX = ax.Box(-1, 1)
X = np.array([[0.25, -0.5], [0.75, 0.75]], np.float32)


@dataclass(frozen=True)
class Does:
    """A property whose claims run given functions."""

    runs: tuple

    name = "Does()"

    def claims(self, scope):
        for number, run in enumerate(self.runs):
            yield Claim(self.name, f"claim {number}", Place(ax.Everything(), f"place {number}"), (ByRunning(run),))


def executed(budget):
    return ax.Tested(budget.points)


@pytest.mark.slow
def test_passed_needs_a_proof_of_everything():
    result = ax.verify(NET, [ax.Bounded(-9, 9), ax.Robust("0.001")], data=X, region=BOX, mode="quick")
    assert result.passed and len(result) == 3 and result.counts == {"proved": 3}
    assert result["Robust(eps=0.001)"].passed and len(result["Robust"]) == 2
    with pytest.raises(ax.SpecError, match="no 'Monotone'"):
        result["Monotone"]
    assert not ax.verify(NET, [Does((executed,))], region=BOX).passed
    assert not Result(()).passed


def test_modes_and_their_budgets():
    seen = []
    look = Does((lambda budget: seen.append(budget) or executed(budget),))
    for mode in ("quick", "standard", "thorough", "exhaustive"):
        result = ax.verify(NET, look, region=BOX, mode=mode)
        assert result.mode == mode
    seconds, points = [b.seconds for b in seen], [b.points for b in seen]
    assert seconds == sorted(seconds) and seconds[-1] == float("inf") and points == sorted(points)
    assert all(mode in (ax.verify.__doc__ or "") for mode in ("quick", "standard", "thorough", "exhaustive"))


def test_a_timeout_is_shared_among_claims():
    seen = []

    def spend(budget):
        seen.append(budget.left)
        return executed(budget)

    ax.verify(NET, Does((spend,) * 4), region=BOX, timeout=8)
    assert 0 < seen[0] <= 2 < seen[3] <= 8  # a quarter of what is left; what is not used is left to the rest
    hard = ax.Bounded("-0.5", "0.5")
    start = time.monotonic()
    item = ax.verify(NET, hard, region=BOX, timeout=0).items[0]
    assert time.monotonic() - start < 30 and item.verdict in ("unknown", "refuted")


def test_a_failing_way_does_not_stop_the_others():
    def fails(budget):
        raise ValueError("inside")

    result = ax.verify(NET, Does((fails, executed)), region=BOX)
    assert [item.verdict for item in result] == ["unknown", "tested"]
    assert "ValueError: inside" in result.items[0].reason


def test_after_ctrl_c_what_was_decided_is_there():
    def stops(budget):
        raise KeyboardInterrupt

    result = ax.verify(NET, Does((executed, stops, executed)), region=BOX)
    assert [item.verdict for item in result] == ["tested", "unknown", "unknown"]
    assert "interrupted" in result.items[1].reason and "interrupted" in result.notes[-1]


def test_ctrl_c_in_a_search_keeps_its_bound_and_ends_the_run():
    """`decide` answers Ctrl-C by what it knows; no further claim is begun."""
    begun = []
    stopped = lambda budget: ax.Unknown("interrupted: 3 boxes left open", 0.25)
    result = ax.verify(NET, Does((executed, stopped, begun.append)), region=BOX)
    assert [item.verdict for item in result] == ["tested", "unknown", "unknown"]
    assert "3 boxes" in result.items[1].reason and begun == []


def test_threads_give_the_same_answers():
    asked = [ax.Bounded(-9, 9), ax.Robust("0.001"), ax.NoNaN()]
    with ThreadPoolExecutor(2) as pool:
        there = ax.verify(NET, asked, data=X, region=BOX, mode="quick", executor=pool)
    here = ax.verify(NET, asked, data=X, region=BOX, mode="quick")
    assert [(i.text, i.verdict) for i in there] == [(i.text, i.verdict) for i in here]


def test_a_journal_is_taken_up_and_checked_again(tmp_path):
    path, asked = tmp_path / "run.jsonl", [ax.Bounded(-9, 9), ax.Bounded(-9, "0.1"), ax.NoNaN()]
    first = ax.verify(NET, asked, region=BOX, mode="quick", journal=path)
    assert [item.verdict for item in first] == ["proved", "refuted", "proved"]
    lines = path.read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["proved", "refuted"]
    again = ax.verify(NET, asked, region=BOX, mode="quick", journal=path)
    assert [item.verdict for item in again] == ["proved", "refuted", "proved"]
    assert again.items[0].notes == ("from the journal, checked again",) and again.items[0].certificate is not None
    assert again.items[1].counterexample.inputs == first.items[1].counterexample.inputs
    assert path.read_text().splitlines() == lines


def test_a_journal_with_bad_lines_and_lies(tmp_path):
    path, prop = tmp_path / "run.jsonl", ax.Bounded(-9, 9)
    ax.verify(NET, prop, region=BOX, mode="quick", journal=path)
    (line,) = path.read_text().splitlines()
    refuted = ax.Bounded(-9, "0.1")
    ax.verify(NET, refuted, region=BOX, mode="quick", journal=path)
    lie = json.loads(path.read_text().splitlines()[1]) | {"verdict": "proved"}
    path.write_text("\n".join(["{", "[1, 2]", "null", '{"version": 1}', json.dumps(lie), line])[:-30])
    item = ax.verify(NET, refuted, region=BOX, mode="quick", journal=path).items[0]
    assert (item.verdict, item.notes) == ("refuted", ())
    item = ax.verify(NET, prop, region=BOX, mode="quick", journal=path).items[0]
    assert (item.verdict, item.notes) == ("proved", ())
    assert ax.verify(NET, prop, region=BOX, mode="quick", journal=path).items[0].notes != ()
    for cert in (tmp_path / "run.jsonl.certificates").iterdir():
        cert.write_bytes(cert.read_bytes().replace(b'"strict":true', b'"strict":false'))
    item = ax.verify(NET, prop, region=BOX, mode="quick", journal=path).items[0]
    assert (item.verdict, item.notes) == ("proved", ())


def test_a_journal_of_another_model_is_not_used(tmp_path):
    path, prop = tmp_path / "run.jsonl", ax.Bounded(-9, 9)
    ax.verify(NET, prop, region=BOX, mode="quick", journal=path)
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), seed=2)
    assert ax.verify(other, prop, region=BOX, mode="quick", journal=path).items[0].notes == ()
    assert len(path.read_text().splitlines()) == 2


def test_digests_tell_weights_and_operations():
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 2), seed=2)
    tanh = ax.Sequential(nn.Dense(2, 4), nn.tanh, nn.Dense(4, 2), seed=1)
    sort = ax.Sequential(nn.Dense(2, 4), lambda x: jnp.sort(x), nn.Dense(4, 2), seed=1)  # not in certificates
    found = [digest_of(subject_of(model)) for model in (NET, other, tanh, sort)]
    assert len(set(found)) == 4
    assert digest_of(subject_of(NET)) == found[0] and digest_of(subject_of(sort)) == found[3]


@pytest.mark.parametrize(("given", "words"), [
    ({"mode": "fast"}, "no such mode"),
    ({"timeout": -1}, "not negative"),
    ({"timeout": float("nan")}, "not negative"),
    ({"executor": 3}, "threads"),
    ({"journal": "/nowhere/run.jsonl"}, "journal cannot be used"),
    ({"properties": []}, "no properties"),
    ({"properties": "Bounded"}, "no properties"),
    ({"properties": [ax.Bounded]}, "no properties"),
    ({"properties": [ax.Bounded(0, 1), 3]}, "no properties"),
    ({"region": None}, "a region, and none is given"),
    ({"model": None}, "no model"),
])  # fmt: skip
def test_bad_arguments_are_named(given, words):
    with pytest.raises(ax.AxiomError, match=words):
        ax.verify(**{"model": NET, "properties": ax.Bounded(0, 1), "region": BOX, **given})


def test_processes_are_refused():
    with ProcessPoolExecutor(1) as pool, pytest.raises(ax.SpecError, match="threads"):
        ax.verify(NET, ax.Bounded(0, 1), region=BOX, executor=pool)


def test_results_as_text_tables_and_data():
    items = [Item("P()", "for all x: y < 1", "x ∈ [0, 1]", ax.Tested(7, "why <b>"), 0.5),
             Item("Q()", "t", "r", ax.Unknown("x" * 500), 1.0, 0.25, row=3)]  # fmt: skip
    result = Result(tuple(items), "net", "d" * 64, "quick", 1.5, ("a note",))
    text = str(result)
    assert "net: not passed (1 tested, 1 unknown)" in text and "7 samples: why <b>" in text and "a note" in text
    assert max(map(len, text.splitlines())) < 200
    html = result._repr_html_()
    assert "why &lt;b&gt;" in html and html.count("<tr>") == 3
    frame = result.to_dataframe()
    assert list(frame["verdict"]) == ["tested", "unknown"] and frame["samples"][0] == 7
    assert json.loads(json.dumps(result.to_dict()))["items"][1]["bound"] == 0.25
    assert list(Result(()).to_dataframe().columns) == list(frame.columns)
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(result, items[0], items[1].answer)
    assert "not passed" in console.export_text()


def test_long_results_show_what_is_not_proved_first():
    proved = Item("P()", "t", "r", ax.Proved(None), 0.1)
    result = Result((proved,) * 100 + (Item("P()", "t", "bad", ax.Unknown("why"), 0.1),))
    lines = str(result).splitlines()
    assert len(lines) < 50 and "bad" in lines[2] and "61 more" in str(result)


def test_outcomes_of_ways_are_kept():
    assert Outcome(ax.Unknown("why")).seconds == 0.0
