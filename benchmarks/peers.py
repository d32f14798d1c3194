"""`axiom verify` against other verifiers, turn by turn: verdicts and wall time of the whole process.

Each peer runs in an environment of its own, which `peers/NAME.sh` makes; peers that are not installed are left out, and
said to be. An instance goes to every tool before the next one comes, in an order that alternates, and a tool that
overruns its limit is killed. Ours runs with `--no-check` (theirs have no checker), and once before the clock starts:
its compilations are kept. Run: python benchmarks/peers.py INSTANCES.csv --peers ENVIRONMENTS [--install vibecheck]
"""

import argparse
import csv
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "peers"
GRACE = 10.0  # seconds past its limit after which a tool is killed
DECIDED = ("sat", "unsat")


@dataclass(frozen=True)
class Tool:
    """A verifier.

    Args:
        name: what it is called. needs: a file that is there once it is installed.
        command: network, property, seconds, result file -> command line.
        verdict: stdout, contents of the result file -> "sat", "unsat", "timeout" or "unknown".
        environment: variables that it needs.
    """

    name: str
    needs: Path
    command: Callable[[str, str, float, str], list[str]]
    verdict: Callable[[str, str], str]
    environment: dict[str, str]


def tools(folder: Path) -> dict[str, Tool]:
    """Ours and the peers, whose environments are in a folder."""
    python = lambda name: folder / name / "bin" / "python"
    vibecheck = folder / "vibecheck" / "bin" / "vibecheck"
    packages = next((folder / "neuralsat" / "lib").glob("python3*/site-packages"), folder / "neuralsat")
    marabou = python("marabou")
    solver = next((folder / "marabou" / "lib").glob("python3*/site-packages/maraboupy"), folder / "marabou" / "missing")
    found = [
        Tool(
            "axiom", Path(sys.executable),
            lambda net, prop, s, out: [sys.executable, "-c", "from axiom_jax.cli import main; main()", "verify", net,
                                       prop, "--no-check", "--timeout", str(s), "--json"],
            lambda out, _: word(out.rpartition('"vnncomp": "')[2].partition('"')[0]), {},
        ),
        Tool(
            "vibecheck", vibecheck,
            lambda net, prop, s, out: [str(vibecheck), "verify", prop, "--network", f"N={net}", "--timeout", str(s)],
            lambda out, _: word(out.partition("\n")[0]), {},
        ),
        Tool(
            "neuralsat", packages / "src" / "main.py",
            lambda net, prop, s, out: [str(python("neuralsat")), "-m", "main", "--net", net, "--spec", prop,
                                       "--timeout", str(s), "--device", "cpu", "--result_file", out],
            lambda _, result: word(result.partition("\n")[0]),
            {"PYTHONPATH": os.pathsep.join(map(str, (packages / "src", folder / "neuralsat" / "stub")))},
        ),
        Tool(
            "marabou", solver,
            lambda net, prop, s, out: [str(marabou), str(HERE / "marabou_run.py"), net, in_its_words(prop, out),
                                       str(s)],
            lambda out, _: word(out.rpartition("verdict ")[2].partition("\n")[0]), {},
        ),
    ]  # fmt: skip
    return {tool.name: tool for tool in found}


def in_its_words(prop: str, result: str) -> str:
    """A folder beside the result file with a property in Marabou's format for every disjunct of every case."""
    from axiom_jax.verification.spec.vnnlib2 import read_query

    folder = Path(result).with_name("disjuncts")
    folder.mkdir()
    term = lambda letter, terms: [f"{float(c):+.17g}{letter}{i}" for i, c in terms]
    number = 0
    for case in read_query(prop).property.cases:
        box = [f"x{i} {sign} {float(end)!r}" for sign, ends in ((">=", case.lo), ("<=", case.hi))
               for i, end in enumerate(ends)]  # fmt: skip
        for conjunct in case.unsafe:
            atoms = [(term("x", a.input) + term("y", a.output), float(a.threshold)) for a in conjunct]
            lines = [f"{' '.join(terms)} <= {threshold!r}" for terms, threshold in atoms]
            (folder / f"{number:04}.prop").write_text("\n".join(box + lines) + "\n")
            number += 1
    return str(folder)


def word(text: str) -> str:
    """A verdict in VNN-COMP's words, from a tool's own."""
    said = text.strip().lower().split(",")[0]
    return said if said in (*DECIDED, "timeout") else "unknown"


def timed(tool: Tool, net: str, prop: str, seconds: float) -> tuple[str, float]:
    """Verdict and wall seconds of one process, which is killed with its children where it overruns."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result")
        command = tool.command(net, prop, seconds, result)
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL, start_new_session=True,
                                   env=os.environ | tool.environment)  # fmt: skip
        try:
            out, _ = process.communicate(timeout=seconds + GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "timeout", time.monotonic() - start
        spent = time.monotonic() - start
        written = Path(result).read_text() if os.path.exists(result) else ""
        return tool.verdict(out, written), spent


def instances(path: Path, only: list[int] | None) -> list[tuple[str, str, str]]:
    """Network, property and what is expected, of the rows asked for (from 1)."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = rows if not only else [rows[k - 1] for k in only]
    at = lambda row, name: str((path.parent / row[name]).resolve())
    return [(at(row, "onnx"), at(row, "vnnlib"), row.get("expected", "")) for row in chosen]


def table(chosen: list[Tool], runs: list[tuple[str, dict[str, list[tuple[str, float]]], str]], seconds: float) -> str:
    """A markdown table: a row an instance, then medians; ratios are ours divided by theirs, instance by instance."""
    ours, peers = chosen[0], chosen[1:]
    lines = ["| instance | expected | " + " | ".join(tool.name for tool in chosen) + " |"]
    lines += ["|" + "---|" * (2 + len(chosen))]
    middle = lambda pairs: statistics.median(spent for _, spent in pairs)
    said = lambda pairs: "/".join(sorted({verdict for verdict, _ in pairs}))
    for name, found, expected in runs:
        cells = [f"{said(found[t.name])} {middle(found[t.name]):.2f} s" for t in chosen]
        lines.append(f"| {name} | {expected} | " + " | ".join(cells) + " |")
    decided = lambda t: sum(all(v in DECIDED for v, _ in found[t.name]) for _, found, _ in runs)
    total = [f"{decided(t)} of {len(runs)}, median {middle([p for _, f, _ in runs for p in f[t.name]]):.2f} s"
             for t in chosen]  # fmt: skip
    lines.append("| all | | " + " | ".join(total) + " |")
    for peer in peers:
        ratios = [a / b for _, f, _ in runs for (_, a), (_, b) in zip(f[ours.name], f[peer.name], strict=True)]
        lines.append(f"\n{ours.name} / {peer.name}: median ratio {statistics.median(ratios):.2f} "
                     f"(from {min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    wrong = [
        f"{name}: {tool.name} says {said(found[tool.name])}, expected {expected}"
        for name, found, expected in runs for tool in chosen
        if expected in DECIDED and {verdict for verdict, _ in found[tool.name]} & set(DECIDED) - {expected}
    ]  # fmt: skip
    where = f"{platform.machine()}, {os.cpu_count()} cores, {seconds:g} s an instance, wall time of whole processes"
    return "\n".join([*lines, "", where, *wrong])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instances", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="the folder of the peers' environments")
    parser.add_argument("--install", nargs="*", default=[], choices=["vibecheck", "neuralsat", "marabou"])
    parser.add_argument("--rows", type=int, nargs="*", help="which rows, from 1; all if none is named")
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write the table")
    given = parser.parse_args()
    given.peers.mkdir(parents=True, exist_ok=True)
    for name in given.install:
        subprocess.run([str(HERE / f"{name}.sh"), str(given.peers.resolve() / name)], check=True)
    known = tools(given.peers.resolve())
    chosen = [tool for tool in known.values() if tool.needs.exists()]
    for tool in known.values():
        if tool not in chosen:
            print(f"{tool.name} is not installed: --install {tool.name} installs it", file=sys.stderr)
    runs = []
    for number, (net, prop, expected) in enumerate(instances(given.instances, given.rows)):
        timed(chosen[0], net, prop, given.timeout)
        found: dict[str, list[tuple[str, float]]] = {tool.name: [] for tool in chosen}
        for turn in range(given.rounds):
            for tool in chosen if (number + turn) % 2 == 0 else chosen[::-1]:
                found[tool.name].append(timed(tool, net, prop, given.timeout))
                print(f"{Path(net).stem} {Path(prop).name} {tool.name} {found[tool.name][-1]}", file=sys.stderr)
        runs.append((f"{Path(net).stem} {Path(prop).stem}", found, expected))
    text = table(chosen, runs, given.timeout)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
