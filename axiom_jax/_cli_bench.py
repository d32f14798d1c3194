"""`axiom bench`: every row of a CSV file, one process, each result flushed as it comes."""

import csv
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from axiom_jax._cli_verify import decide_files
from axiom_jax._errors import AxiomError, SpecError
from axiom_jax.verification.verdict import Decision

RESULTS = ("verdict", "vnncomp", "levels", "checked", "seconds", "compile_seconds", "check_seconds", "bound",
           "certificate", "reason")  # fmt: skip


def run(
    instances: Path,
    timeout: float | None,
    out: Path | None,
    certificates: Path | None,
    *,
    check: bool,
    check_timeout: float,
) -> int:
    """Decide all rows; returns the exit status: 1 if a verdict contradicts `expected`, 3 if interrupted, else 0."""
    rows, columns = _read(instances)
    if certificates:
        certificates.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    writer, whole = _Writer(out, columns), True
    try:
        for number, row in enumerate(rows, 1):
            result = _decide(row, number, instances.parent, timeout, certificates, check, check_timeout)
            results.append(row | result)
            writer.write(row | result)
            print(_line(number, len(rows), row, result), flush=True)
            if str(result["reason"] or "").startswith("interrupted"):
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        whole = False
        print(f"interrupted after {len(results)} of {len(rows)} rows", file=sys.stderr)
    finally:
        writer.close()
    return _summary(results, len(rows)) or (0 if whole else 3)


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("The list of instances cannot be read.", at=str(path), got=str(error)) from error
    if lacking := {"onnx", "vnnlib"} - set(columns):
        raise SpecError(
            f"The list of instances lacks {', '.join(sorted(lacking))}.",
            at=str(path),
            got=", ".join(columns) or "nothing",
            fix="give columns by name in the first line: onnx,vnnlib,timeout_s,expected",
        )
    return rows, columns


def _decide(
    row: dict[str, str],
    number: int,
    folder: Path,
    timeout: float | None,
    certificates: Path | None,
    check: bool,
    check_timeout: float,
) -> dict[str, Any]:
    name = f"{number:04}-{Path(row['onnx']).stem}-{Path(row['vnnlib']).name.split('.vnnlib')[0]}.cert"
    try:
        seconds = timeout if timeout is not None else float(row.get("timeout_s") or 60)
        decision = decide_files(
            str(folder / row["onnx"]), str(folder / row["vnnlib"]), timeout=seconds, check=check,
            check_timeout=check_timeout, certificate=certificates / name if certificates else None,
        )  # fmt: skip
    except (AxiomError, ValueError) as error:
        return _bad(error)
    return _flat(decision)


def _flat(decision: Decision) -> dict[str, Any]:
    result = decision.to_dict()
    result["levels"] = " ".join(result["levels"])
    return {key: "" if result[key] is None else result[key] for key in RESULTS}


def _bad(error: Exception) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(RESULTS, "")
    return empty | {
        "verdict": "unknown", "vnncomp": "unknown", "checked": False, "reason": " ".join(str(error).split())
    }  # fmt: skip


class _Writer:
    """The results so far, each row flushed as it comes."""

    def __init__(self, path: Path | None, columns: list[str]):
        self.columns = [*columns, *(c for c in RESULTS if c not in columns)]
        self.file = None
        if path:
            try:
                self.file = path.open("w", newline="", encoding="utf-8")
            except OSError as error:
                raise SpecError("The results cannot be written.", at=str(path), got=error.strerror) from error
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


def contradicts(result: dict[str, Any]) -> bool:
    """Whether a decided row says the opposite of what was expected."""
    decided = result["vnncomp"] in ("sat", "unsat")
    return decided and result.get("expected") in ("sat", "unsat") and result["expected"] != result["vnncomp"]


def _line(number: int, count: int, row: dict[str, str], result: dict[str, Any]) -> str:
    where = f"{Path(row['onnx']).stem} {Path(row['vnnlib']).name}"
    note = "  CONTRADICTS " + row["expected"] if contradicts(row | result) else ""
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
