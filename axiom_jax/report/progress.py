"""Progress on stderr: bars where a terminal watches, a few plain lines elsewhere."""

import sys
import time
from typing import Any

LINES = 5  # plain lines a stage at most


class Progress:
    """Stages one after the other; a context manager, so that bars are closed after errors."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.bars: Any = None
        self.task: Any = None
        self.name, self.total, self.told = "", 1, 0

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self.bars = Bars(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self.name, self.total, self.told = name, total, 0
        if self.bars:
            self.task = self.bars.add_task(name, total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        """Say how many steps of the stage are done, and what was found."""
        if self.bars:
            self.bars.update(self.task, completed=done, note=note)
        elif done == self.total or done * LINES // self.total > self.told:
            self.told = done * LINES // self.total
            self.say(f"{self.name:<8} {done}/{self.total}  {note}".rstrip())

    def say(self, text: str) -> None:
        """One line that stays."""
        if self.bars:
            self.bars.console.print(text, highlight=False, markup=False)
        else:
            print(f"{time.monotonic() - self.start:6.1f} s  {text}", file=sys.stderr, flush=True)
