"""JAX's persistent compilation cache, switched on for a block only, in a folder of the user's."""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

VARIABLE = "AXIOM_CACHE"
CHOICES = "choices.json"
EVENT = "/jax/compilation_cache/cache_hits"
SETTINGS = {"jax_enable_compilation_cache": True, "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": 0}  # fmt: skip
_lock = threading.RLock()  # the settings are the whole process's


@dataclass
class Hits:
    """How many programs came from the cache."""

    count: int = 0


def folder(cache: bool | str | os.PathLike[str]) -> Path | None:
    """The folder that `cache` means: the user's for True (AXIOM_CACHE, else `~/.cache/axiom-jax`), none for False."""
    if cache is False:
        return None
    if cache is not True:
        return Path(cache)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get(VARIABLE) or Path(base, "axiom-jax"))


@contextlib.contextmanager
def cached(place: Path | None) -> Iterator[Hits]:
    """Programs compiled inside are read from and written to the folder; before and after all is as it was."""
    hits = Hits()
    if place is None:
        yield hits
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    def heard(event: str, **_: Any) -> None:
        hits.count += event == EVENT

    wanted = SETTINGS | {"jax_compilation_cache_dir": str(place / "xla")}
    with _lock:
        place.mkdir(parents=True, exist_ok=True)
        before = {name: getattr(jax.config, name) for name in wanted}
        for name, value in wanted.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        jax.monitoring.register_event_listener(heard)
        try:
            yield hits
        finally:
            jax.monitoring.unregister_event_listener(heard)
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


def choice_key(model: Any, arrays: Any, candidates: Any) -> str:
    """What a measured choice depends on: the program, its weights, the example's shapes, the machine and what could
    run it. With other weights a backend's results may differ from XLA's, so the choice is made anew."""
    import platform

    import jax

    closed = jax.make_jaxpr(model.apply)(model.params, *arrays)
    program = [str(closed), _digest([*jax.tree.leaves(model.params), *_captured(closed.jaxpr, closed.consts)])]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ("jax", "jaxlib", "onnxruntime", "openvino", "axiom-jax")
    installed = [(d.name, d.version) for d in map(_distribution, packages) if d is not None]
    parts = [program, platform.node(), platform.machine(), cores, installed, sorted(candidates)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _captured(jaxpr: Any, consts: Iterable[Any] = ()) -> Iterator[Any]:
    """The arrays that a program holds, at every depth."""
    import jax
    import numpy as np
    from jax.extend import core

    yield from consts
    atoms = [*(atom for eqn in jaxpr.eqns for atom in eqn.invars), *jaxpr.outvars]
    yield from (atom.val for atom in atoms if isinstance(atom, core.Literal))
    for held in jax.tree.leaves([eqn.params for eqn in jaxpr.eqns]):
        if isinstance(held, core.ClosedJaxpr):
            yield from _captured(held.jaxpr, held.consts)
        elif isinstance(held, core.Jaxpr):
            yield from _captured(held)
        elif isinstance(held, (np.ndarray, jax.Array)):
            yield held


def _digest(arrays: Iterable[Any]) -> str:
    import jax
    import numpy as np

    digest = hashlib.sha256()
    for given in arrays:
        keys = isinstance(given, jax.Array) and jax.numpy.issubdtype(given.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(given) if keys else given)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _distribution(package: str) -> Any:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None


def remembered(place: Path, key: str) -> str | None:
    """The backend that was the fastest when it was measured."""
    try:
        found = json.loads((place / CHOICES).read_text("utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def remember(place: Path, key: str, name: str) -> None:
    """Keep a choice; the file is put in place whole."""
    place.mkdir(parents=True, exist_ok=True)
    try:
        known = json.loads((place / CHOICES).read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    handle, temporary = tempfile.mkstemp(dir=place, prefix=".choices-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(known | {key: name}, file)
    os.replace(temporary, place / CHOICES)
