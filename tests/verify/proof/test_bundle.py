"""Files of several proofs: whole and about the model they are accepted, and after any change they are not."""

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax.verification.proof.bundle import Bundle, bundle_of
from axiom_jax.verification.proof.certificate import canonical, certificate_of
from axiom_jax.verification.proof.recipes import Unwritable, decode, encode

NET = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=1)
X = np.array([[0.25, -0.5]], np.float32)


def grows(model, x):
    return model(x)[:, 0] + 2 - x[:, 0]


@pytest.fixture(scope="module")
def result():
    asked = [ax.ValidProbabilities(), ax.Robust("0.01"), ax.Robust("0.01", norm=2), ax.Robust("9"), ax.NoNaN()]
    found = ax.verify(NET, asked, data=X, mode="quick", region=ax.Box(-20, 20))
    assert [item.verdict for item in found] == ["proved", "proved", "proved", "refuted", "claimed"]
    return found


@pytest.fixture(scope="module")
def bundle(result):
    return ax.generate_certificate(NET, result, author="me", requirement=["R-1", 2])


def test_a_file_is_written_read_and_accepted(bundle, tmp_path):
    path = ax.save_certificate(bundle, tmp_path / "net.cert")
    again = ax.load_certificate(path)
    assert again == bundle and again.to_bytes() == path.read_bytes()
    checked = ax.check_certificate(path, NET).raise_if_rejected()
    assert checked.levels == ("real",)
    assert checked.statement.count("proved: ") == 3 and checked.statement.count("refuted: ") == 1
    assert "keeps the order of the logits" in checked.statement
    alone = ax.check_certificate(bundle)  # without a model: the proofs alone, in the words of their checkers
    assert alone.accepted and alone.statement.startswith("No model was given")
    assert not any(item["claim"] in line for item in bundle.statement["items"] for line in
                   alone.statement.splitlines() if line.startswith(("proved", "refuted")))  # fmt: skip


def test_the_statement_says_what_is_not_covered(bundle):
    left = bundle.statement["not_covered"]
    assert any("float32" in line for line in left) and any(line.startswith("claimed: ") for line in left)
    assert bundle.metadata == {"author": "me", "requirement": ["R-1", 2]}
    assert {item["network"] for item in bundle.statement["items"]} == {"tail", "logits"}
    assert "Bundle(4 parts" in repr(bundle) and "<caption>" in bundle._repr_html_()


def test_an_auditor_needs_the_standard_library_only(bundle, tmp_path):
    path = ax.save_certificate(bundle, tmp_path / "net.cert")
    run = lambda *command: subprocess.run([sys.executable, "-I", "-S", *command], capture_output=True, text=True)
    assert run("-m", "zipfile", "-e", str(path), str(tmp_path / "net")).returncode == 0
    home = Path(ax.__file__).parent / "verification"
    kinds = {"axiom-certificate": "checker.py", "axiom-derivation": "derivation_checker.py"}
    parts = sorted((tmp_path / "net" / "parts").iterdir())
    assert len(parts) == 4
    for part in parts:
        done = run(str(home / kinds[json.loads(part.read_bytes())["format"]]), str(part))
        assert done.returncode == 0 and "accepted" in done.stdout


def test_another_model_is_told(bundle):
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=2)
    checked = ax.check_certificate(bundle, other)
    assert not checked.accepted and "another network" in checked.reason
    bits = jax.tree.map(lambda a: a.at[(0,) * a.ndim].add(1e-7) if a.ndim == 2 else a, NET)
    assert not ax.check_certificate(bundle, bits).accepted


def changed(bundle, number, **fields):
    items = [dict(item) for item in bundle.statement["items"]]
    items[number] |= fields
    return Bundle({**bundle.statement, "items": items}, bundle.parts)


def test_a_statement_that_says_more_than_its_parts_is_rejected(bundle):
    items = bundle.statement["items"]
    assert [item["verdict"] for item in items] == ["proved", "proved", "proved", "refuted"]
    wider = encode(ax.Robust("0.02"))
    nearer = {**items[1]["asked"], "property": wider}
    for wrong in (
        changed(bundle, 3, verdict="proved"),
        changed(bundle, 0, verdict="refuted"),
        changed(bundle, 1, part_text="for all x: everything is fine"),
        changed(bundle, 1, part=items[2]["part"], sha256=items[2]["sha256"], part_text=items[2]["part_text"]),
        changed(bundle, 1, asked=nearer),
        changed(bundle, 1, asked={**items[1]["asked"], "label": 1 - items[1]["asked"]["label"]}),
        changed(bundle, 0, asked={**items[0]["asked"], "property": encode(ax.Bounded(0, "0.5"))}),
        changed(bundle, 1, asked={**items[1]["asked"], "property": {"property": "Nothing", "fields": {}}}),
        changed(bundle, 1, asked={**items[1]["asked"], "property": None}),
        changed(bundle, 1, sha256="0" * 64),
        changed(bundle, 1, part="parts/none"),
        changed(bundle, 1, notes=None),
        replace(bundle, statement={**bundle.statement, "items": []}),
        replace(bundle, statement={**bundle.statement, "items": items[:3]}),
        replace(bundle, parts={**bundle.parts, "parts/more.cert": b"x"}),
    ):
        checked = ax.check_certificate(wrong, NET)
        assert not checked.accepted, wrong.statement["items"]
        assert checked.levels == ()


@pytest.fixture(scope="module")
def plain():
    double = lambda x: 2 * x
    return double, ax.generate_certificate(double, ax.verify(double, ax.Bounded(-3, 3), region=ax.Box([-1.0], [1.0])))


LESS = "for all x with x ∈ a box of shape 1: every output is in [0, 1/10]"


@pytest.mark.parametrize("said", [
    {"claim": LESS}, {"property": "Bounded(0, 0.1)"}, {"notes": ["rounding is covered"]},
    {"levels": ["bitwise", "float32", "real"]}, {"region": "every x"},
    {"network": "logits"}, {"claim": LESS, "part_text": LESS},
])  # fmt: skip
def test_what_the_statement_says_is_compared_word_for_word(plain, said):
    model, file = plain
    assert ax.check_certificate(file, model).accepted
    assert not ax.check_certificate(changed(file, 0, **said), model).accepted


def test_an_edited_claim_is_never_printed(plain):
    model, file = plain
    wrong = changed(file, 0, claim=LESS, property="Bounded(0, 0.1)")
    wrong.statement["model"] = {**wrong.statement["model"], "name": "another"}
    checked = ax.check_certificate(wrong)
    assert "1/10" not in checked.statement and "another" not in checked.statement
    twice = [*file.statement["items"], wrong.statement["items"][0]]
    checked = ax.check_certificate(Bundle({**file.statement, "items": twice}, file.parts), model)
    assert not checked.accepted and "no claim of its question" in checked.reason


def test_a_part_of_a_property_is_not_the_property(plain):
    model, file = plain
    asked = file.statement["items"][0]["asked"]
    both = ax.AllOf(ax.Bounded(-3, 3), ax.Bounded(0, "0.1"))
    named = {"property": both.name, "asked": {**asked, "property": encode(both)}}
    assert not ax.check_certificate(changed(file, 0, **named), model).accepted
    for claim in ax.verify(model, both, region=ax.Box([-1.0], [1.0]), mode="quick"):
        checked = ax.check_certificate(changed(file, 0, **named, claim=claim.text), model)
        assert checked.accepted == (claim.verdict == "proved")


def deep():
    value = 1
    for _ in range(3000):
        value = {"tuple": [value]}
    return value


@pytest.mark.parametrize("edit", [
    {"shape": ["a"]}, {"shape": 3}, {"model": []}, {"model": {"name": 1, "digest": 2}}, {"metadata": 1}, {"items": 5},
    {"not_covered": [3]},
])  # fmt: skip
def test_malformed_statements_are_unreadable(plain, edit):
    model, file = plain
    for given in (None, model):
        checked = ax.check_certificate(Bundle({**file.statement, **edit}, file.parts), given)
        assert not checked.accepted and checked.unreadable


@pytest.mark.parametrize("edit", [
    {"part": ["x"]}, {"notes": [1]}, {"property": ["q"]}, {"verdict": ["proved"]}, {"levels": 3}, {"asked": None},
    {"sha256": 5}, {"part_text": 5}, {"region": None},
])  # fmt: skip
def test_malformed_items_are_unreadable(plain, edit):
    model, file = plain
    checked = ax.check_certificate(changed(file, 0, **edit), model)
    assert not checked.accepted and checked.unreadable


@pytest.mark.parametrize("edit", [
    {"property": 3}, {"property": {"tuple": []}}, {"property": {"region": "Box", "fields": {"lo": 0, "hi": 1}}},
    {"region": 7}, {"region": "x"}, {"x": 3}, {"row": "1"}, {"label": -1}, {"property": deep()}, {"property": [1]},
])  # fmt: skip
def test_malformed_questions_are_unreadable(plain, edit):
    model, file = plain
    wrong = changed(file, 0, asked={**file.statement["items"][0]["asked"], **edit})
    checked = ax.check_certificate(wrong, model)
    assert not checked.accepted and checked.unreadable


def test_questions_that_do_not_fit_the_model_are_rejected(plain):
    model, file = plain
    asked = file.statement["items"][0]["asked"]
    for edit in ({"region": encode(ax.Box([0, 0, 0], 1))}, {"region": None},
                 {"property": encode(ax.Bounded(0, 1, outputs=(9,)))}):  # fmt: skip
        assert not ax.check_certificate(changed(file, 0, asked={**asked, **edit}), model).accepted


@pytest.mark.slow
def test_rows_and_boxes_that_cut_balls_are_posed_again():
    rows = np.array([[0.75, 0.0], [0.25, 0.5]], np.float32)
    for labels in (None, [0, 1]):
        data = rows if labels is None else (rows, labels)
        found = ax.verify(lambda x: x, [ax.Robust("0.1", within=([0, 0], [1, 1])), ax.Robust("0.5")], data=data,
                          region=ax.Box(0, 1))  # fmt: skip
        file = ax.generate_certificate(lambda x: x, found)
        checked = ax.check_certificate(file, lambda x: x).raise_if_rejected()
        assert "row 1‖_∞ ≤ 1/10 within [0, 1] × [0, 1]: the class is 1" in checked.statement
        assert "row 0‖_∞ ≤ 1/2 within [0, 1]: " in checked.statement
        item = file.statement["items"][1]
        for wrong in ({"claim": item["claim"].replace(" within [0, 1] × [0, 1]", "")},
                      {"asked": {**item["asked"], "own": labels is not None}}):  # fmt: skip
            assert not ax.check_certificate(changed(file, 1, **wrong), lambda x: x).accepted


def test_swapped_proofs_of_other_networks_are_rejected(bundle):
    """A true proof about another network under the same question."""
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=5)
    label = bundle.statement["items"][1]["asked"]["label"]
    foreign = ax.generate_certificate(other, ax.verify(other, ax.Robust("0.01"), data=(X, [label]), mode="quick"))
    item = foreign.statement["items"][0]
    taken = {key: item[key] for key in ("part", "sha256", "part_text", "verdict")}
    mixed = changed(bundle, 1 if item["verdict"] == "proved" else 3, **taken)
    names = {i["part"] for i in mixed.statement["items"]}
    mixed = Bundle(mixed.statement, {k: v for k, v in {**bundle.parts, **foreign.parts}.items() if k in names})
    assert ax.check_certificate(mixed).accepted  # each part is a proof of something
    checked = ax.check_certificate(mixed, NET)
    assert not checked.accepted and "not the answer" in checked.reason


def test_bits_that_flip_are_found(bundle, tmp_path):
    data = bundle.to_bytes()
    start = data.index(b'"proof":')
    for place in (start + 12, data.index(b'"sha256"') + 15, 60):
        broken = bytearray(data)
        broken[place] ^= 1
        path = tmp_path / "broken.cert"
        path.write_bytes(broken)
        assert not ax.check_certificate(path, NET).accepted


def test_files_that_are_none(tmp_path, bundle):
    data = bundle.to_bytes()
    for content in (data[:200], data[:-10], b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100):
        path = tmp_path / "cut.cert"
        path.write_bytes(content)
        with pytest.raises(ax.CertificateError, match="not a whole certificate"):
            ax.load_certificate(path)
        checked = ax.check_certificate(path)
        assert not checked.accepted and checked.unreadable
    path = tmp_path / "deflated.cert"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("statement.json", canonical(bundle.statement))
    with pytest.raises(ax.CertificateError):
        bundle_of(path.read_bytes(), "here")


@pytest.mark.slow
def test_questions_that_no_file_holds_are_given_again():
    linear = lambda x: jnp.concatenate([x, -x], 1)
    asked = [ax.Custom(grows), ax.Equivalent(linear, "0.5")]
    found = ax.verify(linear, asked, region=ax.Box([-1.0], [1.0]), mode="quick")
    assert found.passed
    file = ax.generate_certificate(linear, found)
    assert ax.check_certificate(file).accepted
    checked = ax.check_certificate(file, linear)
    assert not checked.accepted and "properties=[...]" in checked.reason
    assert ax.check_certificate(file, linear, properties=asked).accepted
    shifted = ax.Custom(lambda model, x: model(x)[:, 0] + 3 - x[:, 0], "grows")
    assert not ax.check_certificate(file, linear, properties=[shifted, asked[1]]).accepted


def test_what_no_certificate_can_be_made_of_is_named(result):
    other = ax.Sequential(nn.Dense(2, 4), nn.relu, nn.Dense(4, 3), nn.softmax, seed=2)
    with pytest.raises(ax.CertificateError, match="another model"):
        ax.generate_certificate(other, result)
    with pytest.raises(ax.CertificateError, match="no result"):
        ax.generate_certificate(NET, {"passed": True})
    with pytest.raises(ax.CertificateError, match="no JSON"):
        ax.generate_certificate(NET, result, when=object())
    with pytest.raises(ax.CertificateError, match="Nothing in the result"):
        ax.generate_certificate(NET, result["NoNaN()"])


@pytest.mark.parametrize("value", [
    None, True, 3, "8/255", 0.1, float("inf"), ("a", (1, 2)), np.arange(6, dtype=np.float32).reshape(2, 3),
    ax.Robust("2/255", norm=2, within=(0, 1)), ax.Robust(np.array([0.1, 0.2])), ax.Bounded(0, "0.1", outputs=[1]),
    ax.AllOf(ax.NoNaN(), ax.Bounded(0, 1)), ax.Implies(ax.Bounded(0, 1), ax.Not(ax.Bounded(2, 3))), ax.Box([0, 1], 2),
    ax.L2("0.5", [1.0, 2.0]), ax.Everything(), {"a": 1},
])  # fmt: skip
def test_questions_are_written_and_read(value):
    again = decode(json.loads(json.dumps(encode(value))))
    assert encode(again) == encode(value)
    assert getattr(again, "name", None) == getattr(value, "name", None)


@pytest.mark.parametrize("value", [grows, ax.Custom(grows), ax.Equivalent(NET), object(), ax.AllOf(ax.Custom(grows))])
def test_functions_and_models_are_not_written(value):
    with pytest.raises(Unwritable):
        encode(value)


@pytest.mark.parametrize("value", [
    {}, [], 0.5, {"fraction": "1/0"}, {"property": "Robust", "fields": {"eps": -1}}, {"property": "open", "fields": {}},
    {"region": "Box", "fields": {"lo": 1, "hi": 0}}, {"array": {"dtype": "O", "shape": [1], "base64": ""}},
    {"fraction": "1", "more": 1}, {"property": "Robust", "fields": {"__class__": 1}},
    {"property": "Scope", "parts": []},
])  # fmt: skip
def test_nothing_else_is_read(value):
    with pytest.raises(ax.AxiomError):
        decode(value)


@pytest.mark.slow
def test_no_bit_of_the_archive_is_left_to_choose(tmp_path):
    model = ax.Sequential(nn.Dense(2, 2), nn.relu)
    result = ax.verify(model, ax.Bounded(0, 1000), region=ax.Box(-1, 1), mode="quick")
    whole = ax.generate_certificate(model, result).to_bytes()
    flipped = lambda b: whole[: b // 8] + bytes([whole[b // 8] ^ 1 << b % 8]) + whole[b // 8 + 1 :]
    bits = np.random.default_rng(0).integers(0, 8 * len(whole), 400)
    for changed in [whole + b"x", whole[:-1], *map(flipped, map(int, bits))]:
        with pytest.raises(ax.CertificateError):
            certificate_of(changed, "changed.cert")
    assert certificate_of(whole, "whole.cert").to_bytes() == whole


def test_a_refutation_is_by_a_point_of_the_region():
    """The certificate is about the closed box: its point counts, not a corner of the box."""
    model = ax.Sequential(lambda x: 1 * x, name="same")
    region, asked = ax.Box([0.0], [1.0], hi_open=True), ax.Bounded(None, "0.99")
    result = ax.verify(model, asked, region=region, mode="quick")
    bundle = ax.generate_certificate(model, result)
    assert result.items[0].verdict == "refuted" and ax.check_certificate(bundle, model).accepted
    (item,) = bundle.statement["items"]
    part = certificate_of(bundle.parts[item["part"]], "part")
    whole = {"exact": {"lo": ["0"], "hi": ["1"]}, "float32": {"lo": [(0.0).hex()], "hi": [(1.0).hex()]}}
    cases = [part.payload["property"]["cases"][0] | whole]
    for point, accepted in (("999/1000", True), ("1", False)):  # both unsafe; the latter is left out of the region
        proof = {"kind": "point", "case": 0, "inputs": [point]}
        changed = {"proof": proof, "property": part.payload["property"] | {"cases": cases}, "meta": {}}
        payload = part.payload | changed
        data = replace(part, payload=payload).to_bytes()
        again = Bundle({**bundle.statement, "items": [{**item, "sha256": hashlib.sha256(data).hexdigest()}]},
                       {item["part"]: data})  # fmt: skip
        checked = ax.check_certificate(again, model)
        assert checked.accepted == accepted
        assert accepted or "not the answer" in (checked.reason or "")
