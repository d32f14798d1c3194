"""What `axiom convert` and `axiom inspect` print."""

from typing import Any

from axiom_jax.interop.axiom.inspect import convert_file, describe_file

SHOWN = 40  # tensors and layers; --json has all
Facts = dict[str, Any]


def convert(source: str, target: str) -> Facts:
    """Read a model in one format and write it in another."""
    return convert_file(source, target)


def show_converted(facts: Facts) -> None:
    print(f"{facts['output']}: {facts['model']}, {facts['parameters']:,} parameters")


def inspect(path: str) -> Facts:
    """What a file is and holds."""
    return describe_file(path)


def show(facts: Facts) -> None:
    """A file's facts for people."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    line = lambda word, value: console.print(f"  {word:<13}{value}", markup=False)
    console.print(f"{facts['file']}: {facts['kind']}, {facts['bytes']:,} bytes", markup=False)
    line("sha256", facts["sha256"])
    for word in ("name", "signature", "architecture", "digest", "opset", "producer", "claim", "text", "inputs",
                 "outputs", "cases", "disjuncts", "atoms", "proof", "refused"):  # fmt: skip
        if facts.get(word) not in (None, "", []):
            line(word, facts[word])
    for word in ("levels", "promises", "needs", "signatures"):
        if facts.get(word):
            line(word, ", ".join(facts[word]))
    for word in ("source", "metadata", "versions", "model", "meta", "members"):
        for key, value in (facts.get(word) or {}).items():
            line(word if key == next(iter(facts[word])) else "", f"{key}: {value}")
    if facts.get("nodes"):
        line("nodes", ", ".join(f"{count} {op}" for op, count in facts["nodes"].items()))
    _list(console, "layers", facts.get("layers") or [])
    if facts.get("parameters"):
        found = facts["parameters"]
        line("parameters", f"{found['count']:,} in {len(found['tensors'])} tensors, {found['bytes']:,} bytes")
        _list(console, "", [f"{t['name']}  {t['dtype']}{t['shape']}" for t in found["tensors"]])
    for certificate in facts.get("certificates") or []:
        line("certificate", f"{certificate['member']}: {certificate['claim']}: {certificate['text']}")
    if facts.get("certificates") or facts["kind"].endswith("certificate"):
        console.print("  what certificates say was not checked here: axiom check", markup=False)


def _list(console: Any, word: str, lines: list[str]) -> None:
    for number, text in enumerate(lines[:SHOWN]):
        console.print(f"  {word if not number else '':<13}{text}", markup=False)
    if len(lines) > SHOWN:
        console.print(f"  {'':<13}… {len(lines) - SHOWN} more (--json shows all)", markup=False)
