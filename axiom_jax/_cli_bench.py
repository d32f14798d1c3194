"""`axiom bench`: every row of a list of instances, each result flushed in the order of the list."""

import csv
import hashlib
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from axiom_jax._cli_rows import Answer, Row, decide_rows, networks, unknown
from axiom_jax._errors import AxiomError, SpecError

RESULTS = ("verdict", "vnncomp", "levels", "checked", "seconds", "compile_seconds", "check_seconds", "bound",
           "certificate", "reason")  # fmt: skip
FIELDS = ["onnx", "vnnlib", "timeout_s"]  # of a competition's list, which has no line of names
JOURNAL = "axiom-bench 1"


def run(
    instances: Path,
    timeout: float | None,
    out: Path | None,
    certificates: Path | None,
    *,
    check: bool,
    check_timeout: float,
    jobs: int = 1,
    executor: str = "local",
    journal: Path | None = None,
    results: Path | None = None,
) -> int:
    """Decide all rows; returns the exit status: 1 if a verdict contradicts `expected`, 3 if interrupted, else 0."""
    rows, columns = _read(instances)
    for folder in filter(None, (certificates, results)):
        folder.mkdir(parents=True, exist_ok=True)
    kept = _Journal(journal) if journal else None
    writer, files = _Writer(out, columns), _Files(results, instances) if results else None
    done: list[dict[str, Any]] = []
    whole = True
    try:
        answers = _answers(rows, instances.parent, timeout, certificates, check, check_timeout, jobs, executor, kept)
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True), 1):
            done.append(row | _flat(answer))
            writer.write(done[-1])
            if files:
                files.write(row, answer)
            print(_line(number, len(rows), row, done[-1]), flush=True)
            if str(answer.result.get("reason") or "").startswith("interrupted"):
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        whole = False
        print(f"interrupted after {len(done)} of {len(rows)} rows", file=sys.stderr)
    finally:
        writer.close()
    return _summary(done, len(rows)) or (0 if whole else 3)


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError("The list of instances cannot be read.", at=str(path), got=str(error)) from error
    if lines and len(lines[0]) >= 2 and lines[0][1].strip().endswith((".vnnlib", ".vnnlib.gz")):
        lines.insert(0, FIELDS[: len(lines[0])])
    columns = [name.strip() for name in lines[0]] if lines else []
    if lacking := {"onnx", "vnnlib"} - set(columns):
        raise SpecError(
            f"The list of instances lacks {', '.join(sorted(lacking))}.",
            at=str(path),
            got=", ".join(columns) or "nothing",
            fix="give columns by name in the first line: onnx,vnnlib,timeout_s,expected",
        )
    return [dict(zip(columns, [*line, *[""] * len(columns)], strict=False)) for line in lines[1:]], columns


def _answers(
    rows: Sequence[dict[str, str]],
    folder: Path,
    timeout: float | None,
    certificates: Path | None,
    check: bool,
    check_timeout: float,
    jobs: int,
    executor: str,
    kept: "_Journal | None",
) -> Iterator[Answer]:
    """An answer a row, in order: from the journal, or decided now; bad rows are answered at once."""
    ended: dict[int, Answer] = {}
    asked: list[Row] = []
    for number, row in enumerate(rows, 1):
        try:
            seconds = timeout if timeout is not None else float(row.get("timeout_s") or 60)
            model, named = networks(row["onnx"].strip(), folder)
            name = f"{number:04}-{network_stem(row)}-{property_stem(row)}.cert"
            target = str(certificates / name) if certificates else None
            prop = str(folder / row["vnnlib"].strip())
            asked.append(Row(number, model, named, prop, seconds, check, check_timeout, target))
        except (AxiomError, ValueError) as error:
            ended[number] = unknown(str(error))
            continue
        if kept and (known := kept.answer(asked[-1])) is not None:
            ended[asked.pop().number] = known
    fresh = decide_rows(asked, jobs, executor) if asked else iter(())
    for number in range(1, len(rows) + 1):
        while number not in ended:
            row, answer = next(fresh)
            ended[row.number] = answer
            if kept:
                kept.note(row, answer)
        yield ended.pop(number)


def _flat(answer: Answer) -> dict[str, Any]:
    result = {key: "" if answer.result.get(key) is None else answer.result[key] for key in RESULTS}
    result["levels"] = " ".join(result["levels"])
    return result


class _Writer:
    """The results so far, each row flushed as it comes."""

    def __init__(self, path: Path | None, columns: list[str]):
        self.columns = [*columns, *(c for c in RESULTS if c not in columns)]
        self.file = None
        if path:
            self.file = _open(path, "w")
            self.rows = csv.DictWriter(self.file, self.columns, extrasaction="ignore")
            self.rows.writeheader()
            self.file.flush()

    def write(self, row: dict[str, Any]) -> None:
        if self.file:
            self.rows.writerow(row)
            self.file.flush()

    def close(self) -> None:
        if self.file:
            self.file.close()


class _Files:
    """A folder as VNN-COMP wants it: a result file and a counterexample an instance, and `results.csv`.

    A line of `results.csv` is: category, network, property, seconds of preparation, result, seconds.
    """

    def __init__(self, folder: Path, instances: Path):
        self.folder, self.category = folder, instances.resolve().parent.name
        _open(folder / "results.csv", "w").close()

    def write(self, row: dict[str, str], answer: Answer) -> None:
        result, stem = answer.result["vnncomp"], f"{network_stem(row)}_{property_stem(row)}"
        with _open(self.folder / f"{stem}.txt", "w") as file:
            file.write("\n".join(filter(None, [result, answer.witness])) + "\n")
        if answer.witness:
            with _open(self.folder / f"{stem}.counterexample", "w") as file:
                file.write(answer.witness + "\n")
        with _open(self.folder / "results.csv", "a") as file:
            seconds = answer.result.get("seconds") or 0.0
            line = [row.get("benchmark") or self.category, row["onnx"], row["vnnlib"], 0.0, result, seconds]
            csv.writer(file).writerow(line)


class _Journal:
    """Rows that were decided, a line each: a run that was cut off goes on after them.

    A row is the same where its files, its limits and its options are. The digest of a line tells a line that was
    cut off or damaged, not one that was forged: what is read back was said by an earlier run, and counts as that.
    """

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[str, dict[str, Any]] = {}
        with _open(path, "a+b") as file:
            file.seek(0)
            content = file.read()
        lines = content.splitlines()
        if lines and not content.startswith(b'{"'):
            raise SpecError("The journal is about something else.", at=str(path), got="no journal of axiom bench",
                            fix="name another file")  # fmt: skip
        for line in lines:
            try:
                body = json.loads(line)
                if body.pop("digest") == _digest(body) and body["journal"] == JOURNAL:
                    self.known[body["row"]] = body
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue

    def answer(self, row: Row) -> Answer | None:
        body = self.known.get(_key(row))
        wanted = row.certificate
        if body is None or (wanted and body["result"]["certificate"] and not Path(wanted).is_file()):
            return None
        certificate = wanted if body["result"]["certificate"] else None
        return Answer(body["result"] | {"certificate": certificate}, body["witness"])

    def note(self, row: Row, answer: Answer) -> None:
        if str(answer.result.get("reason") or "").startswith("interrupted"):
            return
        body = {"journal": JOURNAL, "row": _key(row), "result": answer.result, "witness": answer.witness}
        with _open(self.path, "a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")  # a half line of a run that was killed
            file.write(json.dumps(body | {"digest": _digest(body)}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _key(row: Row) -> str:
    parts = [hashlib.sha256(Path(f).read_bytes()).hexdigest() if Path(f).is_file() else f for f in row.files]
    named = [name for name, _ in row.networks]
    return _digest([parts, named, row.timeout, row.check, row.check_timeout, bool(row.certificate)])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _open(path: Path, mode: str) -> Any:
    try:
        return path.open(mode) if "b" in mode else path.open(mode, newline="", encoding="utf-8")
    except OSError as error:
        raise SpecError("The results cannot be written.", at=str(path), got=error.strerror) from error


def network_stem(row: dict[str, str]) -> str:
    """What files of a row are called after its networks: the file's stem, or their names."""
    try:
        model, named = networks(row["onnx"].strip(), Path())
    except SpecError:
        return "unreadable"
    return "_".join(name for name, _ in named) if model is None else Path(model.removesuffix(".gz")).stem


def property_stem(row: dict[str, str]) -> str:
    return Path(row["vnnlib"].strip().removesuffix(".gz")).stem


def contradicts(result: dict[str, Any]) -> bool:
    """Whether a decided row says the opposite of what was expected."""
    decided = result["vnncomp"] in ("sat", "unsat")
    return decided and result.get("expected") in ("sat", "unsat") and result["expected"] != result["vnncomp"]


def _line(number: int, count: int, row: dict[str, str], result: dict[str, Any]) -> str:
    where = f"{Path(row['onnx']).stem} {Path(row['vnnlib']).name}"
    note = "  CONTRADICTS " + row["expected"] if contradicts(result) else ""
    seconds = result["seconds"] if result["seconds"] != "" else 0.0
    reason = f"  {result['reason'][:100]}" if result["reason"] else ""
    return f"{number:4}/{count}  {result['verdict']:8} {seconds:8.2f} s  {where}{note}{reason}"


def _summary(results: list[dict[str, Any]], count: int) -> int:
    verdicts = Counter(r["verdict"] for r in results)
    decided = sum(r["vnncomp"] in ("sat", "unsat") for r in results)
    wrong = sum(map(contradicts, results))
    times = [r["seconds"] for r in results if r["vnncomp"] in ("sat", "unsat")]
    median = f", median {statistics.median(times):.2f} s" if times else ""
    each = ", ".join(f"{n} {word}" for word, n in sorted(verdicts.items()))
    print(f"decided {decided} of {count} ({each}){median}; contradictions: {wrong}")
    return 1 if wrong else 0
