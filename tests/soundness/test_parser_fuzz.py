"""Both checkers, given files that were changed at random or made to hurt: each ends soon, in little memory, with one of
its three answers, and accepts nothing but what it was given or what is true.

AXIOM_FUZZ_INPUTS inputs a checker in the campaign (1,000,000), by seeds AXIOM_FUZZ_SEED and above, a slice a process:

    AXIOM_FUZZ_INPUTS=20000 AXIOM_FUZZ_SEED=7 pytest -n 0 -s -m campaign tests/soundness/test_parser_fuzz.py
"""

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import mpmath
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))
sys.path.insert(0, str(Path(__file__).parent))
from claim_oracle import build, judged
from derivation_proofs import PROOFS
from fuzz_child import LIMIT, canonical, changed_file
from proved_models import ALWAYS
from test_derivation_mutations import is_false

from axiom_jax.verification.proof.derivation import Derivation

VERIFY, CHILD = Path(__file__).parents[2] / "verify", Path(__file__).parent / "fuzz_child.py"
SLICE = 10_000  # inputs of a process in the campaign
JUDGED = 40  # accepted files of a slice that the oracle looks at
FIRST = int(os.environ.get("AXIOM_FUZZ_SEED", "1"))
HOW_MANY = int(os.environ.get("AXIOM_FUZZ_INPUTS", "1000000"))
CHECKERS = ("checker.py", "derivation_checker.py")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each checker a folder of files that it accepts."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CHECKERS}
    for name, make in ALWAYS.items():
        (folders["checker.py"] / f"{name}.cert").write_bytes(build.seal(make()))
    for make in PROOFS:
        if make.__name__ != "gelu_is_above":  # takes long to check
            (folders["derivation_checker.py"] / f"{make.__name__}.cert").write_bytes(make().to_bytes())
    return folders


def run(checker: str, folder: Path, seed: int, count: int) -> dict[str, Any]:
    """What a process found that fed so many inputs to a checker."""
    command = [sys.executable, "-I", "-S", CHILD, VERIFY / checker, folder, str(seed), str(count)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    where = (folder / "at").read_text() if (folder / "at").exists() else "none"
    assert done.returncode == 0, f"at seed and number {where}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["codes"]) <= {"0", "1", "2"} and sum(found["codes"].values()) == count
    assert found["slowest"] < LIMIT and found["megabytes"] < 512
    assert not [reason for reason in found["odd"] if any(word in reason for word in ("Memory", "internal", "Recurs"))]
    return found


def false_ones(checker: str, folder: Path, most: int, seed: int) -> int:
    """How many accepted files the oracle looked at; none of them may be false."""
    files = sorted((folder / "accepted").glob(f"{seed}-*.cert"))
    chosen = random.Random(seed).sample(files, min(most, len(files)))
    with mpmath.workdps(60):
        for file in chosen:
            payload = json.loads(file.read_bytes())["payload"]
            if checker == "checker.py":
                assert judged(payload, tries=200, runs=4).what != "false", file
            else:
                assert not is_false(payload, random.Random(seed)), file
    for file in files:
        file.unlink()
    return len(chosen)


@pytest.mark.parametrize("checker", CHECKERS)
def test_changed_files_are_judged_soon_and_none_is_accepted_that_is_false(valid: dict[str, Path], checker: str) -> None:
    found = run(checker, valid[checker], 0, 1000)
    assert found["codes"]["0"] > found["same"] > 0 and found["codes"]["1"] > 50 and found["codes"]["2"] > 50
    assert false_ones(checker, valid[checker], 10, 0) > 0


@pytest.mark.campaign
@pytest.mark.parametrize("checker", CHECKERS)
def test_campaign(valid: dict[str, Path], checker: str) -> None:
    total: dict[str, Any] = {"inputs": 0, "accepted": 0, "unchanged": 0, "judged": 0, "slowest": 0.0, "megabytes": 0}
    for seed in range(FIRST, FIRST + -(-HOW_MANY // SLICE)):
        found = run(checker, valid[checker], seed, min(SLICE, HOW_MANY))
        total["inputs"] += found["inputs"]
        total["accepted"] += found["codes"].get("0", 0)
        total["unchanged"] += found["same"]
        total["judged"] += false_ones(checker, valid[checker], JUDGED, seed)
        total |= {key: max(total[key], found[key]) for key in ("slowest", "megabytes")}
        print(checker, json.dumps(total), json.dumps(found["odd"]), flush=True)
    assert total["inputs"] >= HOW_MANY


def test_every_input_can_be_made_again(valid: dict[str, Path]) -> None:
    """An input that a process died of is known by its seed and number alone."""
    bases = [file.read_bytes() for file in sorted(valid["checker.py"].glob("*.cert"))]
    first, second = ([changed_file(bases, 3, k) for k in range(40)] for _ in range(2))
    assert first == second and len({*first}) > 35


# --- files that are made to hurt


def certificate(**changes: Any) -> bytes:
    return build.seal(ALWAYS["violated"]() | changes)


def derivation(**changes: Any) -> bytes:
    payload = PROOFS[0]().payload | changes
    return Derivation(payload).to_bytes()


def nested(depth: int, open_: str = "[", close: str = "]") -> bytes:
    return (open_ * depth + close * depth).encode()


def bomb(megabytes: int, layers: int = 1) -> str:
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    for _ in range(layers - 1):
        data = zlib.compress(data, 9)
    return base64.b64encode(data).decode()


def wide(count: int) -> dict[str, Any]:
    """A program of many nodes, each the double of the one before."""
    nodes = [{"op": "input", "size": 1}, *({"op": "add", "of": [k, k]} for k in range(count))]
    return build.model(nodes, {})


def fat(size: int, count: int) -> dict[str, Any]:
    nodes = [{"op": "input", "size": size}, {"op": "concat", "of": [0] * count}]
    return build.model(nodes, {})


def raw_payload(inner: bytes) -> bytes:
    """A file whose payload is these bytes as they are, with the digest that would be theirs."""
    digest = hashlib.sha256(inner).hexdigest().encode()
    return b'{"digest":"' + digest + b'","format":"axiom-certificate","payload":' + inner + b',"version":3}'


HOSTILE = {
    "nothing": lambda: b"",
    "brackets": lambda: b"[" * 1_000_000,
    "nested lists": lambda: nested(100_000),
    "nested objects": lambda: nested(100_000, '{"a":', "}"),
    "a nested payload": lambda: raw_payload(b'{"a":' + nested(50_000) + b"}"),
    "nested remarks": lambda: raw_payload(
        canonical(ALWAYS["violated"]() | {"meta": {}}).replace(b'"meta":{', b'"meta":{"a":' + nested(900), 1)),
    "an integer of a million digits": lambda: raw_payload(b'{"a":' + b"9" * 1_000_000 + b"}"),
    "a long version": lambda: certificate().replace(b'"version":3', b'"version":' + b"3" * 4000),
    "a million keys": lambda: raw_payload(canonical({str(k): k for k in range(200_000)})),
    "a long string": lambda: certificate(meta={"a": "x" * 5_000_000}),
    "a long text": lambda: certificate(property=ALWAYS["violated"]()["property"] | {"text": "∀" * 1_000_000}),
    "a bomb of 50 MB": lambda: certificate(weights=bomb(50)),
    "a bomb in a bomb": lambda: certificate(weights=bomb(50, 2)),
    "many nodes": lambda: certificate(model=wide(20_000), weights=build.packed(b"")),
    "a concat of all": lambda: certificate(model=fat(1 << 12, 1 << 12), weights=build.packed(b"")),
    "a large input": lambda: certificate(model=fat(1 << 24, 1), weights=build.packed(b"")),
    "a tensor without end": lambda: certificate(model=ALWAYS["violated"]()["model"] | {
        "tensors": {"a": {"dtype": "F32", "shape": [1 << 24] * 63, "sha256": "0" * 64}}}),
    "a shape of many ones": lambda: certificate(model=ALWAYS["violated"]()["model"] | {
        "tensors": {"a": {"dtype": "F32", "shape": [1] * 1_000_000, "sha256": "0" * 64}}}),
    "a point far away": lambda: certificate(proof={"case": 0, "inputs": ["9" * 1999] * 2, "kind": "point"}),
    "a fine point": lambda: certificate(proof={"case": 0, "inputs": ["1/" + "7" * 1990] * 2, "kind": "point"}),
    "surrogates": lambda: certificate(meta={"a": "\ud800"}),
    "an envelope without end": lambda: b'{"payload":"' + b"e30=" * 500_000 + b'","payloadType":"a"}',
    "an envelope in an envelope": lambda: json.dumps({"payloadType": "", "payload": base64.b64encode(
        json.dumps({"payloadType": "", "payload": "e30="}).encode()).decode()}).encode(),
    "a nested derivation": lambda: derivation(terms=[["neg", k] for k in range(-1, 5000)]),
    "a derivation of large powers": lambda: derivation(terms=[["const", "9" * 4000]] + [["mul", 0, 0]] * 2000),
}  # fmt: skip


def judged_alone(checker: str, file: Path, seconds: int, megabytes: int) -> str:
    """The first line that a checker prints about a file, as a program of its own with these limits; the room that it
    reserves for the largest file that it reads does not count."""
    code = ("import resource, runpy, sys; sys.argv[:] = ['', {!r}];"
            "resource.setrlimit(resource.RLIMIT_AS, ({} << 20,) * 2);"
            "resource.setrlimit(resource.RLIMIT_CPU, ({},) * 2);"
            "runpy.run_path({!r}, run_name='__main__')")  # fmt: skip
    code = code.format(str(file), megabytes + 1024, seconds, str(VERIFY / checker))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2) and not done.stderr, (checker, done.returncode, done.stderr[-500:])
    line = done.stdout.splitlines()[0]
    assert line != "unreadable: the file cannot be read" and "could not finish" not in line, line
    assert line.split(":")[0] == ("accepted", "rejected", "unreadable")[done.returncode], line
    return line


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_judged_soon(name: str, tmp_path: Path) -> None:
    """In 5 seconds of a processor and in a gigabyte, by both checkers."""
    file = tmp_path / "hostile"
    file.write_bytes(HOSTILE[name]())
    for checker in CHECKERS:
        line = judged_alone(checker, file, 5, 1024)
        harmless = checker == "checker.py" and name in ("a long string", "surrogates", "nested remarks", "a long text")
        assert harmless or line != "accepted"


@pytest.mark.campaign
@pytest.mark.parametrize("megabytes, layers", [(900, 1), (900, 2), (1100, 1)])
def test_campaign_bombs(megabytes: int, layers: int, tmp_path: Path) -> None:
    """No more is unpacked than the declared tensors take, and these are no more than a program can hold."""
    (tmp_path / "bomb").write_bytes(certificate(weights=bomb(megabytes, layers)))
    line = judged_alone("checker.py", tmp_path / "bomb", 5, 256)
    assert line == "rejected: the weights: not one zlib stream of the tensors"
    declared = {"a": {"dtype": "F32", "shape": [1 << 24, 15], "sha256": "0" * 64}}
    model = ALWAYS["violated"]()["model"] | {"tensors": declared}
    (tmp_path / "bomb").write_bytes(certificate(model=model, weights=bomb(megabytes, layers)))
    assert judged_alone("checker.py", tmp_path / "bomb", 5, 256) == "rejected: the tensors are too large"
