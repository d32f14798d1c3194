"""Counts of what was verified in this process: runs, verdicts by property, times. Safe to use from threads."""

import json
import threading
from bisect import bisect_left
from typing import Any

LIMITS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # seconds, upper ends of buckets
VERDICTS = ("proved", "claimed", "refuted", "unknown", "tested")


class Telemetry:
    """Counters since the start of the process or the last `reset`.

    >>> counts = Telemetry()
    >>> counts.claim("Robust", "proved", 0.2)
    >>> counts.to_dict()["verdicts"]
    {'Robust': {'proved': 1}}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Set every counter to zero."""
        with self._lock:
            self._runs = {"passed": 0, "not passed": 0}
            self._seconds = 0.0
            self._verdicts: dict[tuple[str, str], int] = {}
            self._times: dict[str, tuple[list[int], float]] = {}

    def run(self, passed: bool, seconds: float) -> None:
        """Count one run of `ax.verify`."""
        with self._lock:
            self._runs["passed" if passed else "not passed"] += 1
            self._seconds += seconds

    def claim(self, property: str, verdict: str, seconds: float) -> None:
        """Count one claim.

        Args:
            property: the kind of property, without its parameters ("Robust"), so that there are few.
        """
        with self._lock:
            self._verdicts[property, verdict] = self._verdicts.get((property, verdict), 0) + 1
            counts, total = self._times.setdefault(property, ([0] * (len(LIMITS) + 1), 0.0))
            counts[bisect_left(LIMITS, seconds)] += 1
            self._times[property] = counts, total + seconds

    def to_dict(self) -> dict[str, Any]:
        """`{"runs", "seconds", "verdicts": {property: {verdict: count}}, "times": {property: histogram}}`.

        A histogram has `count`, `sum` in seconds, and `buckets`: how many claims took at most as many seconds.
        """
        with self._lock:
            verdicts: dict[str, dict[str, int]] = {}
            for (property, verdict), count in sorted(self._verdicts.items()):
                verdicts.setdefault(property, {})[verdict] = count
            times = {}
            for property, (counts, total) in sorted(self._times.items()):
                below, buckets = 0, {}
                for limit, count in zip((*LIMITS, float("inf")), counts, strict=True):
                    below += count
                    buckets["+Inf" if limit == float("inf") else f"{limit:g}"] = below
                times[property] = {"count": below, "sum": round(total, 6), "buckets": buckets}
            return {"runs": dict(self._runs), "seconds": round(self._seconds, 6), "verdicts": verdicts, "times": times}

    def to_json(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)

    def to_prometheus(self) -> str:
        """The counters in the text exposition format of Prometheus, version 0.0.4."""
        found = self.to_dict()
        lines = _head("axiom_verify_runs_total", "counter", "Runs of ax.verify.")
        lines += [f"axiom_verify_runs_total{_labels(outcome=name)} {n}" for name, n in found["runs"].items()]
        lines += _head("axiom_verify_run_seconds_total", "counter", "Wall time of these runs.")
        lines += [f"axiom_verify_run_seconds_total {found['seconds']}"]
        lines += _head("axiom_verify_claims_total", "counter", "Claims by property and verdict.")
        for property, verdicts in found["verdicts"].items():
            lines += [f"axiom_verify_claims_total{_labels(property=property, verdict=v)} {n}"
                      for v, n in verdicts.items()]  # fmt: skip
        name = "axiom_verify_claim_seconds"
        lines += _head(name, "histogram", "Seconds that a claim took, checking included.")
        for property, times in found["times"].items():
            lines += [f"{name}_bucket{_labels(property=property, le=end)} {n}" for end, n in times["buckets"].items()]
            lines += [f"{name}_sum{_labels(property=property)} {times['sum']}"]
            lines += [f"{name}_count{_labels(property=property)} {times['count']}"]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        found = self.to_dict()
        claims = sum(sum(verdicts.values()) for verdicts in found["verdicts"].values())
        return f"Telemetry({sum(found['runs'].values())} runs, {claims} claims)"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(**labels: str) -> str:
    escaped = lambda value: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items()) + "}"


_counts = Telemetry()


def telemetry() -> Telemetry:
    """What `ax.verify` did in this process: runs, verdicts by property, times.

    >>> sorted(telemetry().to_dict())
    ['runs', 'seconds', 'times', 'verdicts']
    """
    return _counts
