"""How a run tells where it is: a bar on stderr where a terminal watches, nothing elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

Tell = Callable[[int, str], None]  # steps done; what to say of them


@contextlib.contextmanager
def bar(wanted: bool, total: int | None) -> Iterator[Tell | None]:
    """A progress bar with loss, rate and time left; None where nobody watches.

    Args:
        wanted: whether it is asked for. total: steps of the run, None where not known.
    """
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Any = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as shown:
        task = shown.add_task("train", total=total, note="")
        yield lambda done, note: shown.update(task, completed=done, note=note)
