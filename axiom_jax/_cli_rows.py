"""The rows of `axiom bench`, decided one after the other here, or side by side by workers that share the cores."""

import ast
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from axiom_jax._cli_verify import decide_files
from axiom_jax._errors import AxiomError, SpecError
from axiom_jax.verification.search.compilation import wait_for_compilations

SETTLING = 600.0  # seconds that what a row left behind may take before the next one begins
LATE = 60.0  # seconds after its limits at which a worker is ended
NOTHING = {"verdict": "unknown", "vnncomp": "unknown", "checked": False}


@dataclass(frozen=True)
class Row:
    """One instance.

    Args:
        number: from 1. model: the model file, or None where all networks are named.
        networks: name and file of each, where the list names them. prop: a VNN-LIB file.
        timeout, check_timeout: wall seconds. check: whether proofs are checked. certificate: where it goes, or None.
    """

    number: int
    model: str | None
    networks: tuple[tuple[str, str], ...]
    prop: str
    timeout: float
    check: bool
    check_timeout: float
    certificate: str | None = None

    @property
    def files(self) -> list[str]:
        return [*filter(None, [self.model]), *(file for _, file in self.networks), self.prop]


@dataclass(frozen=True)
class Answer:
    """What came of a row: the keys that `axiom verify --json` prints, the witness as VNN-COMP wants it."""

    result: dict[str, Any]
    witness: str = ""
    certificate: bytes | None = None


def networks(text: str, folder: Path) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """The field of a list of instances that names the networks: a file, or a list of names and files.

    >>> networks("[('f', 'a.onnx'), ('g', 'b.onnx')]", Path("d"))
    (None, (('f', 'd/a.onnx'), ('g', 'd/b.onnx')))
    """
    if not text.lstrip().startswith("["):
        return str(folder / text), ()
    try:
        return None, tuple((str(name), str(folder / file)) for name, file in ast.literal_eval(text.strip()))
    except (ValueError, SyntaxError, TypeError) as error:
        raise SpecError("The networks of a row cannot be read.", got=text[:200],
                        fix="""write [("f", "a.onnx"), ("g", "b.onnx")]""") from error  # fmt: skip


def decided(row: Row) -> Answer:
    """One row, in this process; what is wrong with it is its reason."""
    try:
        decision, asked = decide_files(
            row.model, row.prop, timeout=row.timeout, check=row.check, check_timeout=row.check_timeout,
            certificate=Path(row.certificate) if row.certificate else None, networks=dict(row.networks),
        )  # fmt: skip
    except (AxiomError, ValueError) as error:
        return unknown(str(error))
    return Answer(decision.to_dict(), asked.witness(decision))


def unknown(reason: str) -> Answer:
    """A row without an answer."""
    return Answer(NOTHING | {"reason": " ".join(reason.split())})


def decide_rows(rows: Sequence[Row], jobs: int = 1, executor: str = "local") -> Iterator[tuple[Row, Answer]]:
    """Decide rows.

    Args:
        jobs: how many side by side. executor: "local" (processes) or "ray" (actors; files travel there).

    Yields:
        rows and answers, as they end.
    """
    if jobs == 1 and executor == "local":
        for number, row in enumerate(rows):
            if number:
                wait_for_compilations(time.monotonic() + SETTLING)
            yield row, decided(row)
        return
    workers = _workers(min(jobs, len(rows)), executor)
    try:
        yield from _spread(list(rows), workers, executor == "ray")
    finally:
        workers.close()


def _workers(jobs: int, executor: str) -> Any:
    import pickle

    from axiom_jax.verification.search.executors import EXECUTORS, Processes

    if executor == "ray":
        from axiom_jax.verification.search.ray_executor import Actors

        return Actors(pickle.dumps(Clerk()), jobs)
    if executor != "local":
        raise SpecError("There is no such executor.", at="--executor", got=executor,
                        fix="use " + " or ".join(EXECUTORS))  # fmt: skip
    return Processes(pickle.dumps(Clerk()), jobs)


def _spread(left: list[Row], workers: Any, far: bool) -> Iterator[tuple[Row, Answer]]:
    """Rows go to whoever is idle; one that is lost with its worker is tried once more."""
    out: dict[int, tuple[Row, float]] = {}
    tried: set[int] = set()
    left.reverse()
    while left or out:
        for worker in workers.idle():
            if left:
                row = left.pop()
                out[worker] = row, time.monotonic() + row.timeout + row.check_timeout * row.check + LATE
                workers.give(worker, Errand(row, _contents(row) if far else {}))
        if not workers.alive():
            for row in [*(row for row, _ in out.values()), *reversed(left)]:
                why = f": {workers.reason}" if workers.reason else ""
                yield row, unknown(f"the workers were lost again and again{why}")
            return
        for worker, (_, late) in out.items():
            if time.monotonic() > late:
                workers.end(worker)
        for worker, answer in workers.wait(0.2):
            row, _ = out.pop(worker)
            if answer is not None:
                yield row, _delivered(row, answer) if far else answer
            elif row.number in tried:
                yield row, unknown("its worker was lost twice: out of memory, or killed")
            else:
                tried.add(row.number)
                left.append(row)


@dataclass(frozen=True)
class Errand:
    """A row on its way to a worker, with the contents of its files where the worker is elsewhere."""

    row: Row
    contents: dict[str, bytes] = field(default_factory=dict)


class Clerk:
    """A worker for rows."""

    def begun(self) -> "Clerk":
        return self

    def work(self, errand: Errand) -> Answer:
        try:
            return _elsewhere(errand) if errand.contents else decided(errand.row)
        except Exception as error:  # the other rows go on
            return unknown(f"it failed with {type(error).__name__}: {str(error)[:300]}; please report this")


def _contents(row: Row) -> dict[str, bytes]:
    """The files of a row; what cannot be read is missed, and told of, by the worker."""
    found = {}
    for file in row.files:
        try:
            found[file] = Path(file).read_bytes()
        except OSError:
            continue
    return found


def _elsewhere(errand: Errand) -> Answer:
    """A row whose files were sent: they are put into a folder for as long as it takes."""
    row = errand.row
    with tempfile.TemporaryDirectory() as folder:
        here = {file: os.path.join(folder, f"{k}-{os.path.basename(file)}") for k, file in enumerate(row.files)}
        for file, content in errand.contents.items():
            Path(here[file]).write_bytes(content)
        target = Path(folder, "out.cert")
        moved = replace(
            row, model=row.model and here[row.model], prop=here[row.prop],
            networks=tuple((name, here[file]) for name, file in row.networks),
            certificate=str(target) if row.certificate else None,
        )  # fmt: skip
        answer = decided(moved)
        for file, copy in here.items():
            answer.result["reason"] = (answer.result["reason"] or "").replace(copy, file) or None
        return replace(answer, certificate=target.read_bytes() if target.exists() else None)


def _delivered(row: Row, answer: Answer) -> Answer:
    """A certificate that came back is put where it was wanted."""
    from axiom_jax.verification.proof.certificate import write_atomically

    if answer.certificate is None or row.certificate is None:
        return answer
    write_atomically(Path(row.certificate), answer.certificate)
    return replace(answer, result=answer.result | {"certificate": row.certificate}, certificate=None)
