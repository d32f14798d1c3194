"""Feeds changed files to a checker, in a process of its own with little memory and a clock: standard library only.

    python -I -S fuzz_child.py CHECKER FOLDER SEED COUNT [MEGABYTES]

FOLDER holds valid files (*.cert). The last line of the output is one JSON object. Accepted files whose payload is
another one than any that was given go into FOLDER/accepted, so that somebody else finds out whether they are true.
A watchdog in C ends the process after 5 seconds over one input; `at` in FOLDER then names it: inputs depend on the
seed and their number alone.
"""

import faulthandler
import hashlib
import importlib.util
import json
import random
import resource
import sys
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

LIMIT = 5.0  # seconds an input
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**40, 10**4000, -(10**4200), "", "0", "-0", "1/0", "0/1",
    "2/4", "9" * 1999, "9" * 2001, "1/" + "7" * 1500,
    "0x1.0000000000000p+0", "0x1.fffffffffffffp+999", "0x1.0000000000000p-999",
    "nan", "NaN", "inf", "\ud800", "\x00", "é", "A" * 4096, "=" * 8, "AAAA", "eJw=", [], {}, [[]], [[], [[]]], {"": {}},
    [0] * 64, ["0"] * 9, {"op": "input", "size": 2}, {"op": "input", "size": 2**24}, {"op": "relu", "of": [0]},
    {"op": "tensor", "name": ""}, {"op": "exp", "of": [0]}, {"op": "mul", "of": [0, 0]},
    {"op": "concat", "of": [0] * 50},
]  # fmt: skip
LITERALS = [b"NaN", b"Infinity", b"-Infinity", b"1.0", b"1e999", b"-0", b"1E5", b"9" * 5000, b"[" * 2000,
            b'{"a":' * 2000, b"\xff", b"\xef\xbb\xbf", b'"', b"\\", b'\\ud800', b"\x00", b"\n", b"{}", b"[]", b"null",
            b"true"]  # fmt: skip


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("checker_in_child", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sealed(whole: Any) -> bytes:
    """The file again, with the digest of its payload if it still has one."""
    if isinstance(whole, dict) and "payload" in whole and "digest" in whole:
        whole["digest"] = hashlib.sha256(canonical(whole["payload"])).hexdigest()
    return canonical(whole)


def of_bytes(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A few bytes flipped, put in, taken out, moved; a piece of another file; a literal that JSON does not have."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        i, j = sorted((rng.randrange(len(changed) + 1), rng.randrange(len(changed) + 1)))
        j, how = min(j, i + rng.choice([1, 4, 64, 4096])), rng.randrange(7)
        if how == 0 and i < len(changed):
            changed[i] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[i:i] = rng.choice(LITERALS)
        elif how == 2:
            del changed[i:j]
        elif how == 3:
            changed[j:j] = changed[i:j]
        elif how == 4:
            other = rng.choice(others)
            k = rng.randrange(len(other))
            changed[i:j] = other[k : k + j - i]
        elif how == 5 and i < len(changed):
            changed[i] = rng.choice(b'0123456789-+.eE"{}[],:\\ \n\x00\xff')
        else:
            changed = changed[: max(i, 1)] if rng.random() < 0.3 else changed
    return bytes(changed)


def of_structure(data: bytes, rng: random.Random) -> bytes:
    """Values of the JSON replaced, dropped, doubled, exchanged; the digest fits again, mostly."""
    whole = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        place: Any = whole
        for _ in range(rng.randrange(1, 12)):  # walk down to somewhere
            inner = [
                x for x in (place.values() if isinstance(place, dict) else place) if isinstance(x, dict | list) and x
            ]
            if not inner or rng.random() < 0.1:
                break
            place = rng.choice(inner)
        keys = [*place] if isinstance(place, dict) else [*range(len(place))]
        key, how = rng.choice(keys), rng.randrange(6)
        old = place[key]
        if how == 0:
            place[key] = deepcopy(rng.choice(NASTY))
        elif how == 1:
            del place[key]
        elif how == 2 and isinstance(place, list):
            place.insert(key, deepcopy(old))
        elif how == 3:
            other = rng.choice(keys)
            place[key], place[other] = place[other], old
        elif type(old) is int:
            place[key] = rng.choice([old + 1, old - 1, -old, ~old, old * 2**70, old // 2, rng.randrange(-99, 99)])
        elif type(old) is str and old:
            i = rng.randrange(len(old))
            place[key] = old[:i] + rng.choice(["", "0", "1", "-", "/", "x", old[i:], "A"]) + old[i + 1 :]
        else:
            place[key] = deepcopy(rng.choice(NASTY))
        if not whole or not isinstance(whole, dict):
            break
        if isinstance(whole.get("payload"), dict | list) and not whole["payload"]:
            break
    return sealed(whole) if rng.random() < 0.95 else canonical(whole)


def changed_file(bases: list[bytes], seed: int, number: int) -> bytes:
    """The input of that number: it depends on nothing else."""
    rng = random.Random(f"{seed} {number}")
    base = rng.choice(bases)
    return of_bytes(base, rng, bases) if number % 2 else of_structure(base, rng)


def main(path: str, folder: str, seed: int, count: int, megabytes: int = 1024) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    checker, files = load(path), sorted(Path(folder).glob("*.cert"))
    most = used + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    bases = [file.read_bytes().removesuffix(b"\n") for file in files]
    own, codes, odd = {canonical(json.loads(b)["payload"]) for b in bases}, Counter[int](), Counter[str]()
    kept, same, slowest = Path(folder, "accepted"), 0, 0.0
    kept.mkdir(exist_ok=True)
    with open(Path(folder, "at"), "wb", buffering=0) as at:
        for number in range(count):
            data = bases[number % len(bases)] if seed < 0 else changed_file(bases, seed, number)
            at.seek(0)
            at.write(b"%d %12d\n" % (seed, number))
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            start = time.perf_counter()
            result = checker.check(data)
            slowest = max(slowest, time.perf_counter() - start)
            faulthandler.cancel_dump_traceback_later()
            codes[result.code] += 1
            if result.accepted != (result.code == 0):
                raise AssertionError(f"input {number}: accepted, but code {result.code}")
            if "could not finish" in result.reason or "internal" in result.reason:
                odd[result.reason[:100]] += 1
            if result.accepted:
                whole = json.loads(data)
                payload = canonical(whole["payload"])
                if hashlib.sha256(payload).hexdigest() != whole["digest"]:
                    raise AssertionError(f"input {number}: accepted with a digest of something else")
                same += payload in own
                if payload not in own:
                    (kept / f"{seed}-{number}.cert").write_bytes(data)
    status = Path("/proc/self/status").read_text().splitlines()  # what rusage says counts the parent before exec, too
    most = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) >> 10
    print(
        json.dumps({"inputs": count, "codes": codes, "same": same, "odd": odd, "slowest": slowest, "megabytes": most})
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
