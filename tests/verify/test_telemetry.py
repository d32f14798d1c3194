"""Counters: what is counted, from threads too, and formats that other programs read."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import axiom_jax as ax
from axiom_jax.verification.telemetry import Telemetry

LINE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? -?[0-9.e+-]+')


def filled():
    counts = Telemetry()
    counts.run(True, 1.5)
    counts.run(False, 0.5)
    for seconds in (0.005, 0.01, 0.2, 5000.0):
        counts.claim("Robust", "proved", seconds)
    counts.claim('odd "name"\\\n', "unknown", 0.1)
    return counts


def test_counts_and_times():
    found = filled().to_dict()
    assert found["runs"] == {"passed": 1, "not passed": 1} and found["seconds"] == 2.0
    assert found["verdicts"]["Robust"] == {"proved": 4}
    times = found["times"]["Robust"]
    assert times["count"] == 4 and times["sum"] == 5000.215
    assert times["buckets"]["0.01"] == 2 and times["buckets"]["0.3"] == 3 and times["buckets"]["+Inf"] == 4
    assert list(times["buckets"].values()) == sorted(times["buckets"].values())


def test_json_and_prometheus():
    counts = filled()
    assert json.loads(counts.to_json()) == counts.to_dict()
    text = counts.to_prometheus()
    assert text.endswith("\n")
    typed = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert line.split()[2] not in typed  # one of a name
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            assert LINE.fullmatch(line), line
            name = line.partition("{")[0].partition(" ")[0]
            assert name in typed or re.sub("_(bucket|sum|count)$", "", name) in typed
    assert 'axiom_verify_claims_total{property="Robust",verdict="proved"} 4' in text
    assert 'axiom_verify_claim_seconds_bucket{property="Robust",le="+Inf"} 4' in text


def test_threads_lose_nothing():
    counts = Telemetry()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: counts.claim("P", "proved", i / 100), range(2000)))
    assert counts.to_dict()["times"]["P"]["count"] == 2000
    counts.reset()
    assert counts.to_dict()["verdicts"] == {}


def test_runs_are_counted():
    ax.telemetry().reset()
    ax.verify(lambda x: x, [ax.Finite(), ax.NoNaN()], data=[[1.0]], mode="quick")
    found = ax.telemetry().to_dict()
    assert found["runs"] == {"passed": 0, "not passed": 1}
    assert found["verdicts"] == {"Finite": {"tested": 1}, "NoNaN": {"tested": 1}}
