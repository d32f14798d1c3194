"""`ax.backends()`: every backend with what was found of it on this machine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from axiom_jax.targets import tables
from axiom_jax.targets.probing import probe_apart
from axiom_jax.targets.registry import Entry, entries

HEADINGS = ("backend", "available", "version", "devices", "what was found", "to get it")


@dataclass(frozen=True)
class Found:
    """One backend.

    Args:
        package: that brings it.
        fix: what to install or set; empty where it is available.
    """

    name: str
    available: bool
    reason: str
    version: str | None
    devices: tuple[str, ...]
    fix: str
    package: str


@dataclass(frozen=True, repr=False)
class Backends:
    """All backends, as a table; `backends()["cuda"].available` asks for one."""

    rows: tuple[Found, ...]

    def __iter__(self) -> Iterator[Found]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Found:
        return {row.name: row for row in self.rows}[name]

    def to_dict(self) -> dict[str, Any]:
        """By name: `available`, `reason`, `version`, `devices`, `fix`, `package`."""
        return {row.name: {k: v for k, v in asdict(row).items() if k != "name"} for row in self.rows}

    @property
    def cells(self) -> list[list[str]]:
        return [
            [r.name, "yes" if r.available else "no", r.version or "", ", ".join(r.devices), r.reason, r.fix]
            for r in self.rows
        ]

    def __str__(self) -> str:
        return tables.plain(HEADINGS, self.cells)

    __repr__ = __str__

    def __rich__(self) -> Any:
        return tables.rich("backends", HEADINGS, self.cells)

    def _repr_html_(self) -> str:
        return tables.html("backends", HEADINGS, self.cells)


def backends() -> Backends:
    """What can run a model here: each backend is probed in another process, so none can do harm.

    Returns:
        A table of the backends: whether each is available, the reason, version and devices, what to install.

    >>> backends()["xla"].available
    True
    """
    known = entries()
    groups: dict[str, list[Entry]] = {}
    for entry in known.values():
        # ours that share a library share a process; a plugin of another package has its own
        shared = entry.value.partition(":")[0] if entry.own else entry.name
        groups.setdefault(shared, []).append(entry)
    with ThreadPoolExecutor(4) as pool:
        probes = pool.map(lambda group: probe_apart([(e.value, e.what, e.own) for e in group]), groups.values())
        found = {e.name: p for group, answers in zip(groups.values(), probes, strict=True)
                 for e, p in zip(group, answers, strict=True)}  # fmt: skip
    return Backends(tuple(
        Found(name, p.available, p.reason, p.version, p.devices, p.fix, known[name].package)
        for name, p in ((name, found[name]) for name in known)
    ))  # fmt: skip
