"""How long imports take, each in a fresh interpreter, with and without what they load.

Every round starts all of them in turn, so that a busy machine slows them alike; the
bare interpreter is among them and is subtracted. Run: python benchmarks/import_time.py
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

HELP = "import sys; sys.argv = ['axiom', '--help']; from axiom_jax.cli import main; main()"
PROGRAMS = {
    "python -c pass": "pass",
    "import axiom_jax": "import axiom_jax",
    "axiom --help": HELP,
    "import jax": "import jax",
}


def seconds(code: str) -> float:
    """Wall seconds of a fresh interpreter that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for code in PROGRAMS.values():  # byte code and file caches
        seconds(code)
    times = [{name: seconds(code) for name, code in PROGRAMS.items()} for _ in range(rounds)]
    print(f"Python {platform.python_version()}, jax {version('jax')}, {platform.machine()}, {rounds} rounds")
    print(f"{'':<18} median ms   above bare python   quartiles")
    for name in PROGRAMS:
        above = [1e3 * (row[name] - row["python -c pass"]) for row in times]
        low, middle, high = statistics.quantiles(above, n=4)
        median = 1e3 * statistics.median(row[name] for row in times)
        print(f"{name:<18} {median:>9.1f} {middle:>19.1f}   {low:.1f} to {high:.1f}")
    ratio = statistics.median(row["import axiom_jax"] / row["import jax"] for row in times)
    print(f"import axiom_jax takes {ratio:.2f} of the time of import jax")


if __name__ == "__main__":
    main()
