"""Signed files with something changed, by somebody without a key and by a trusted one who says more than is proved.

The oracle has its own encoding of what is signed and asks the package `cryptography`; it knows which fields are the
signer's word. What is accepted must be signed by enough trusted keys, be about the same certificate, and say no more.
"""

import base64
import copy
import json
import random
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

sys.path.insert(0, str(Path(__file__).parent))
from claim_oracle import build

import axiom_jax as ax
from axiom_jax.verification.proof.certificate import Certificate
from axiom_jax.verification.proof.signing import check_signed

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NODES = [{"op": "input", "size": 1}, {"op": "relu", "of": [0]}]
VALUES: list[Any] = [
    None, True, 0, 1, -1, "", "0", "1", "-1", "1e99", "Infinity", "NaN", "real", "float32", "proved", "refuted",
    "holds", [], {}, ["real"], ["real", "float32"], ["x"], {"a": "b"}, "0" * 64, "2020-01-01T00:00:00Z",
    "2999-01-01T00:00:00Z", "2999-01-01", "checker.py", 10**30,
]  # fmt: skip


def certificate(threshold: int) -> Certificate:
    """relu(x) > threshold on [1, 2], which holds below 1."""
    case = build.case([1], [2], [[build.atom({0: 1}, threshold)]])
    return Certificate(build.certificate(NODES, {}, [case], {"kind": "tree", "trees": [build.tree([-1], [[0]])]}))


class Home:
    """Three keys, two of them trusted, one of these revoked in a second folder; a file that the first one signed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trust, self.strict = folder, folder / "trust", folder / "strict"
        self.keyid = {name: ax.new_key(folder / name, name).keyid for name in ("alice", "bob", "eve")}
        for place in (self.trust, self.strict):
            place.mkdir()
            for name in ("alice", "bob"):
                (place / f"{name}.pub").write_bytes((folder / f"{name}.pub").read_bytes())
        (self.strict / "revoked.json").write_text(json.dumps([self.keyid["bob"]]))
        self.file = ax.sign_certificate(certificate(0), folder / "alice", folder / "a.signed.json").read_bytes()
        self.envelope = json.loads(self.file)
        self.statement = json.loads(base64.b64decode(self.envelope["payload"]))

    def sealed(self, statement: Any, *names: str, kind: str = "application/vnd.in-toto+json") -> bytes:
        """A file of a statement that these people signed as it is."""
        return self.closed(build.canonical(statement).encode(), kind, names)

    def closed(self, body: bytes, kind: str, names: Any) -> bytes:
        made = []
        for name in names:
            key: Any = load_pem_private_key((self.folder / name).read_bytes(), None)
            made.append({"keyid": self.keyid[name], "sig": base64.b64encode(key.sign(encoded(kind, body))).decode()})
        return json.dumps(
            {"payload": base64.b64encode(body).decode(), "payloadType": kind, "signatures": made}
        ).encode()

    def signers(self, data: bytes, revoked: bool) -> set[str]:
        """Whose trusted signatures of a file are good."""
        try:
            envelope = json.loads(data)
            body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
            signatures = [base64.b64decode(s["sig"]) for s in envelope["signatures"]]
        except (ValueError, KeyError, TypeError):
            return set()
        found = set()
        for name in ("alice", "bob")[: 1 + (not revoked)]:
            key: Any = load_pem_public_key((self.folder / f"{name}.pub").read_bytes())
            for signature in signatures:
                try:
                    key.verify(signature, encoded(kind, body))
                    found.add(name)
                except InvalidSignature:
                    continue
        return found


def encoded(kind: str, body: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of DSSE 1.0, written once more."""
    return b" ".join([b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(body)).encode(), body])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, inner in items for p in places(inner, (*path, key)))]


def edited(value: Any, rng: random.Random) -> tuple[tuple[Any, ...], Any]:
    """A copy of JSON with one value replaced, dropped, doubled or added; and where."""
    made = copy.deepcopy(value)
    path = rng.choice([p for p in places(value) if p])
    part = made
    for key in path[:-1]:
        part = part[key]
    how = rng.randrange(5)
    if how == 0:
        del part[path[-1]]
    elif how == 1 and isinstance(part, list):
        part.insert(path[-1], copy.deepcopy(part[path[-1]]))
    elif how == 2 and isinstance(part, dict):
        part[f"{path[-1]} "] = part[path[-1]]
    else:
        part[path[-1]] = rng.choice(VALUES)
    return path, made


def says_no_more(statement: Any, base: Any) -> str | None:
    """Where a statement differs from one that is true, if it may not; None if it says the same or less."""
    if {k: v for k, v in statement.items() if k != "predicate"} != {k: v for k, v in base.items() if k != "predicate"}:
        return "subject or type"
    said, true = statement["predicate"], base["predicate"]
    if said.keys() != true.keys():
        return "fields"
    for name in ("assumptions", "not_covered"):
        if not set(true[name]) <= set(said[name]):
            return name
    if said["expires"] is not None and not NOW <= datetime.fromisoformat(said["expires"]):
        return "expires"
    if said["margin"] is not None and not Decimal(said["margin"]) <= Decimal(true["margin"]):
        return "margin"
    if not said["levels"] or not set(said["levels"]) <= set(true["levels"]) or said["checker"]["name"] != "checker.py":
        return "levels or checker"
    if {**said["property"], "vnnlib2": None} != {**true["property"], "vnnlib2": None}:
        return "property"
    if said["property"]["vnnlib2"] not in (None, true["property"]["vnnlib2"]):
        return "vnnlib2"
    same = ("certificate", "result", "profile", "proof")
    return next((k for k in same if build.canonical(said[k]) != build.canonical(true[k])), None)


def campaign(home: Home, seed: int, count: int) -> Counter[str]:
    """Signed statements and envelopes with a change each; what of them was accepted, counted."""
    rng, found = random.Random(seed), Counter[str]()
    for _ in range(count):
        kind = rng.choice(["statement", "statement", "envelope", "bytes", "other key"])
        path, made = edited(home.statement if kind in ("statement", "other key") else home.envelope, rng)
        if kind == "bytes":
            changed = bytearray(home.file)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            data = bytes(changed)
        elif kind == "envelope":
            data = json.dumps(made).encode()
        else:
            data = home.sealed(made, "alice" if kind == "statement" else "eve")
        strict = rng.random() < 0.5
        checked = check_signed(data, "a", trusted=home.strict if strict else home.trust, now=NOW)
        found[f"{kind}: {'accepted' if checked.accepted else 'refused'}"] += 1
        if checked.accepted:
            assert home.signers(data, strict), (kind, path)
            body = base64.b64decode(json.loads(data)["payload"])
            assert (problem := says_no_more(json.loads(body), home.statement)) is None, (kind, path, problem)
            found[
                f"accepted though changed: {kind}, {'.'.join(map(str, path[:2])) if kind == 'statement' else ''}"
            ] += 1
    return found


def test_no_changed_file_is_accepted_that_says_more(home: Home) -> None:
    found = campaign(home, 0, 60)
    assert sum(n for how, n in found.items() if how.endswith("refused")) > 40
    assert check_signed(home.file, "a", trusted=home.trust, now=NOW).accepted


@pytest.mark.campaign
def test_campaign(home: Home) -> None:
    found = campaign(home, 1, 1000)
    print("\n" + "\n".join(f"{n:6} {how}" for how, n in sorted(found.items())))


def test_what_is_certainly_no_good(home: Home) -> None:
    """One change each that has a name; the certificate inside is good in all of them, but for one."""
    refuse = lambda data, **how: not check_signed(data, "a", **({"trusted": home.trust, "now": NOW} | how)).accepted
    good, statement, envelope = home.file, home.statement, home.envelope
    assert not refuse(good) and not refuse(home.sealed(statement, "alice", "bob"), threshold=2)
    assert refuse(home.sealed(statement, "eve")) and refuse(home.sealed(statement))
    assert refuse(home.sealed(statement, "alice", "alice"), threshold=2)  # one key counts once
    assert refuse(home.sealed(statement, "alice", "eve"), threshold=2)
    assert refuse(home.sealed(statement, "bob"), trusted=home.strict)  # revoked
    assert refuse(home.sealed(statement, "alice", "bob"), trusted=home.strict, threshold=2)
    for kind in ("application/json", "application/vnd.in-toto+json ", "", "Application/vnd.in-toto+json"):
        assert refuse(home.sealed(statement, "alice", kind=kind))
    for change in (
        {"payloadType": envelope["payloadType"] + " "}, {"payload": base64.b64encode(b"{}").decode()},
        {"signatures": []}, {"signatures": [envelope["signatures"][0] | {"sig": ""}]},
        {"signatures": [*envelope["signatures"], envelope["signatures"][0] | {"sig": "AAAA"}]},
        {"signatures": [envelope["signatures"][0] | {"keyid": home.keyid["bob"], "sig": "A" * 88}]},
    ):  # fmt: skip
        assert refuse(json.dumps(envelope | change).encode()), change
    raw = base64.b64decode(envelope["payload"])
    signature = envelope["signatures"][0]
    length = f"{len(raw)} ".encode()
    moved = {
        "payloadType": f"application/vnd.in-toto+json {length.decode()}",
        "payload": base64.b64encode(raw[8:]).decode(),
    }
    assert refuse(json.dumps(moved | {"signatures": [signature]}).encode())
    assert refuse(home.closed(raw.replace(b",", b", ", 1), envelope["payloadType"], ["alice"]))  # not canonical
    assert refuse(home.closed(raw.replace(b'"levels"', b'"levels":[],"levels"', 1), envelope["payloadType"], ["alice"]))
    for threshold in (1, 7):  # another certificate, one that holds no more
        other = json.loads(certificate(threshold).to_bytes())
        swapped = copy.deepcopy(statement)
        swapped["predicate"]["certificate"] = other
        assert refuse(home.sealed(swapped, "alice"))
    ended = copy.deepcopy(statement)
    ended["predicate"]["expires"] = "2026-05-31T23:59:59Z"
    assert refuse(home.sealed(ended, "alice"))
    (home.strict / "revoked.json").write_text(json.dumps([statement["predicate"]["certificate"]["digest"]]))
    assert refuse(good, trusted=home.strict)
    (home.strict / "revoked.json").write_text(json.dumps([home.keyid["bob"]]))


def test_a_file_that_looks_like_both_is_judged_as_neither(home: Home, tmp_path: Path) -> None:
    """A certificate's first bytes and an envelope's payload: where keys are asked for, it is unsigned."""
    path = tmp_path / "both.cert"
    path.write_bytes(b'{"digest":"",' + home.file.strip()[1:])
    assert not ax.check_certificate(path, trusted=home.trust).accepted
    whole = json.loads(certificate(0).to_bytes())
    path.write_bytes(build.canonical(whole | {k: v for k, v in home.envelope.items() if k != "payload"}).encode())
    assert not ax.check_certificate(path).accepted and not ax.check_certificate(path, trusted=home.trust).accepted
