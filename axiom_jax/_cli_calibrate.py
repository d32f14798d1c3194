"""What `axiom calibrate` measures and prints."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from axiom_jax._errors import AxiomError
from axiom_jax.verification.proof.calibrating import ALL, FUNCTIONS, Calibration, calibrate


def run(
    out: Path | None, profile: str | None, points: int, exhaustive: bool, names: Sequence[str], as_json: bool
) -> bool:
    """Measure, write a file if one is named, print; whether the machine keeps to the profile."""
    if out is not None and not out.absolute().parent.is_dir():
        raise AxiomError("The folder of the file does not exist.", at=str(out), fix="create it first")
    shown = sys.stderr.isatty() and not as_json
    tell = lambda name, done, of: print(f"\r{name}: {done:,} of {of:,}", end="", file=sys.stderr) if shown else None
    found = calibrate(profile, ALL if exhaustive else points, tuple(names) or tuple(FUNCTIONS), tell)
    if shown:
        print(file=sys.stderr)
    if out is not None:
        found.save(out)
    if as_json:
        print(json.dumps(found.to_dict() | {"output": None if out is None else str(out)}))
    else:
        show(found, out)
    return found.within


def show(found: Calibration, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"profile {found.profile}, in 2^-24 of f(x)"
    table = Table("function", "worst error", "allowed", "at", "inputs", title=title)
    for name, measured in found.functions.items():
        worst = f"{measured.error:.3g}{'' if measured.within else ' exceeded'}"
        table.add_row(name, worst, str(measured.allowed), f"{measured.at!r}", f"{measured.points:,}")
    console = Console(highlight=False, markup=False)
    console.print(table)
    every = "every float32 number was run" if found.exhaustive else "samples: no proof"
    console.print(f"{'within' if found.within else 'NOT within'} the profile on {found.machine['device']}; {every}")
    if out is not None:
        console.print(f"written: {out}", soft_wrap=True)
