"""Which line of the user's code a message is about.

Frames of this package and of the libraries below it are skipped. Where the source can be read,
the failing expression itself is found too, so that a message can quote it and mend it.
"""

import ast
import functools
import itertools
import linecache
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType

BELOW = frozenset({"axiom_jax", "jax", "jaxlib", "flax", "equinox", "jaxtyping", "beartype", "optax", "opt_einsum",
                   "numpy", "functools", "contextlib", "dataclasses", "typing", "operator"})  # fmt: skip
WHOLE = (ast.Call, ast.BinOp, ast.AugAssign, ast.Compare, ast.Subscript, ast.UnaryOp)


@dataclass(frozen=True, eq=False)
class Place:
    """A line of the user's code, and what failed there.

    Args:
        at: `file.py:12 (function)`, the path as the user would type it.
        frame: the frame that was running it.
        offset: the instruction that it was at; None for the one where it is now.
    """

    at: str
    frame: FrameType
    offset: int | None = None

    @functools.cached_property
    def node(self) -> ast.AST | None:
        """The failing expression, or None where the source cannot be read."""
        return _node(self.frame.f_code, self.frame.f_lasti if self.offset is None else self.offset)

    @property
    def source(self) -> str | None:
        """The failing expression in one line, shortened if it is long."""
        if self.node is None:
            return None
        text = " ".join(ast.unparse(self.node).split())
        return text if len(text) <= 80 else text[:77] + "..."


def caller() -> str | None:
    """The user's line that called into the package, as `file.py:12 (function)`.

    >>> caller()
    '<doctest ...caller[0]>:1'
    """
    place = calling()
    return place.at if place is not None else None


def calling() -> Place | None:
    """The user's line that called into the package, with the expression that it evaluates."""
    frame = sys._getframe(1)
    while frame is not None and below(frame):
        frame = frame.f_back
    return None if frame is None else Place(_text(frame.f_code, frame.f_lineno), frame)


def failing(traceback: TracebackType | None) -> Place | None:
    """The innermost of the user's frames in a traceback, with the expression that it was evaluating."""
    found = None
    for step in _steps(traceback):
        if not below(step.tb_frame):
            found = step
    if found is None:
        return None
    code, frame = found.tb_frame.f_code, found.tb_frame
    return Place(_text(code, found.tb_lineno), frame, found.tb_lasti)


def raised_by_user(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame of a traceback is the user's own: an error that is not about shapes."""
    steps = list(_steps(traceback))
    return bool(steps) and not below(steps[-1].tb_frame)


def definition(fn: object) -> str | None:
    """Where a function was written."""
    code = getattr(fn, "__code__", None)
    return _text(code, code.co_firstlineno) if isinstance(code, CodeType) else None


def calls_on_line(at: str) -> list[ast.Call]:
    """The calls written on the line that an `at` text names; empty where the source cannot be read."""
    path, _, line = at.partition(" (")[0].rpartition(":")
    tree = _tree(path)
    if tree is None or not line.isdigit():
        return []
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and n.lineno <= int(line) <= (n.end_lineno or 0)]


def below(frame: FrameType) -> bool:
    """Whether a frame belongs to this package or a library it stands on."""
    if frame.f_code.co_filename.startswith("<doctest"):
        return False
    return frame.f_globals.get("__name__", "").partition(".")[0] in BELOW


def _steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _text(code: CodeType, line: int) -> str:
    path = code.co_filename
    if path.startswith(os.getcwd() + os.sep):
        path = os.path.relpath(path)
    return f"{path}:{line}" if code.co_name == "<module>" else f"{path}:{line} ({code.co_name})"


def _node(code: CodeType, offset: int) -> ast.AST | None:
    """The expression that a bytecode instruction belongs to."""
    positions = itertools.islice(code.co_positions(), offset // 2, None) if offset >= 0 else ()
    line, end_line, column, end_column = next(iter(positions), (None,) * 4)
    tree = _tree(code.co_filename)
    if tree is None or column is None:
        return None
    here = lambda n: (n.end_lineno, n.end_col_offset) == (end_line, end_column)
    ends = [n for n in ast.walk(tree) if isinstance(n, WHOLE) and here(n)]
    exact = [n for n in ends if (n.lineno, n.col_offset) == (line, column)]
    unpacked = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and here(n.targets[0])]
    return next(iter(exact or ends or unpacked), None)


def _tree(path: str) -> ast.Module | None:
    linecache.checkcache(path)
    return _parsed("".join(linecache.getlines(path)))


@functools.lru_cache(maxsize=16)
def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source) if source else None
    except SyntaxError:
        return None
