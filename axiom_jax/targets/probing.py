"""Probes run in a process of their own, with a time limit: a bad library kills that process and not this one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from axiom_jax.targets.target import Probe

SECONDS = 60.0  # for one process; the first start of a GPU's libraries may take ten
MARK = "axiom-probe "
CODE = "import sys; from axiom_jax.targets.probing import answer; answer(sys.argv[1:])"


def probe_apart(values: Sequence[tuple[str, str, bool]], seconds: float = SECONDS) -> list[Probe]:
    """Probe targets in one other process.

    Args:
        values: `module:attribute` of each target, its variant or "", and whether it is ours.
        seconds: after which the process is killed.

    Returns:
        A probe for each; those that did not answer say what became of the process.
    """
    names = [json.dumps([value, what]) for value, what, _ in values]
    # the search path goes along, so that what this process could import the other can
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    fix = "; ".join(dict.fromkeys(f"update or remove the package of {v}" for v, _, own in values if not own))
    try:
        ran = subprocess.run([sys.executable, "-c", CODE, *names], capture_output=True, text=True, errors="replace",
                             env=environment, stdin=subprocess.DEVNULL, timeout=seconds)  # fmt: skip
        out, end = ran.stdout, _ending(ran.returncode, ran.stderr)
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        end = f"the probe did not answer in {seconds:.0f} s"
    said = dict(json.loads(line[len(MARK) :]) for line in out.splitlines() if line.startswith(MARK))
    lost = {"available": False, "reason": end, "version": None, "devices": (), "fix": fix}
    found = [lost | said.get(name, {}) for name in names]
    return [Probe(**parts | {"devices": tuple(parts["devices"])}) for parts in found]


def answer(names: Sequence[str]) -> None:
    """The other process: one line of JSON a target, as soon as it is known."""
    from axiom_jax.targets.registry import Entry

    for name in names:
        try:
            value, what = json.loads(name)
            found = asdict(Entry("", value, what=what).load().probe())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            said = str(error).strip().splitlines()
            reason = f"its plugin fails: {type(error).__name__}{': ' + said[0] if said else ''}"
            found: dict[str, Any] = {"available": False, "reason": reason}
        print(f"\n{MARK}{json.dumps([name, found])}", flush=True)


def _ending(status: int, errors: str) -> str:
    if status < 0:
        try:
            cause = signal.Signals(-status).name
        except ValueError:
            cause = f"signal {-status}"
        return f"its library kills the process ({cause})"
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    return f"the probe ended with status {status}{': ' + said[-1][:200] if said else ''}"
