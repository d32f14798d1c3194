"""Checkpoints of training runs, by Orbax: a folder of steps, each put in place whole.

A killed run leaves the newest complete step, and at most a temporary folder that nothing reads. Random keys are
kept as their data, everything else as it is.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import AxiomError
from axiom_jax._shapes_places import caller

KEPT = 2  # the newest steps; the older one is there while the newer one is being written
VERSION = 1


@contextlib.contextmanager
def opened(folder: str | Path, resume: bool) -> Iterator[Any]:
    """Orbax's manager of a folder of checkpoints.

    Raises:
        AxiomError: the folder has a run already and `resume` is False, or orbax is missing.
    """
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise AxiomError("Checkpoints of runs need orbax.", got=str(error), at=caller(),
                         fix="pip install orbax-checkpoint") from error  # fmt: skip
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax tells every save
    path = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, cleanup_tmp_directories=True)
    try:
        path.mkdir(parents=True, exist_ok=True)  # what is no folder is told here, and not by a thread of orbax
        manager = ocp.CheckpointManager(path, options=options, item_names=("state", "run"))
    except (OSError, ValueError) as error:
        raise AxiomError("This cannot be a folder of checkpoints.", at=caller(), got=f"{path}: {error}",
                         fix="give a folder that can be written to") from error  # fmt: skip
    with manager:
        if manager.latest_step() is not None and not resume:
            raise AxiomError("This folder has a run already.", at=caller(), got=str(path),
                             fix="resume=True to go on with it, or another folder")  # fmt: skip
        yield manager


def save(manager: Any, number: int, state: Any, run: dict[str, Any]) -> None:
    """Write a checkpoint in the background, from a copy; the one before is waited for.

    Args:
        number: of the checkpoint; one that is there already is kept. state: a pytree of arrays.
        run: what goes along as JSON.
    """
    import orbax.checkpoint as ocp

    if manager.latest_step() is not None and number <= manager.latest_step():
        return
    arrays = {name: np.array(leaf) for name, leaf in _flat(state).items()}  # the next step takes the memory over
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), run=ocp.args.JsonSave({"version": VERSION, **run})
    )  # fmt: skip
    manager.save(number, args=items, force=True)


def restore(manager: Any, like: Any) -> tuple[Any, dict[str, Any]] | None:
    """The newest checkpoint, or None.

    Args:
        like: the state of the run at its start, which gives structure, shapes and dtypes.

    Raises:
        AxiomError: the checkpoint cannot be read, or is of another model or optimizer.
    """
    import orbax.checkpoint as ocp

    step = manager.latest_step()
    if step is None:
        return None
    wanted = ocp.args.Composite(state=ocp.args.StandardRestore(), run=ocp.args.JsonRestore())
    try:
        found = manager.restore(step, args=wanted)
        arrays, run = found.state, found.run
    except Exception as error:  # orbax raises whatever the layer below it does
        raise AxiomError("A checkpoint cannot be read.", at=str(manager.directory / str(step)),
                         got=str(error).split("\n")[0][:200], fix="remove this folder to go on from the one before it",
                         ) from error  # fmt: skip
    expected = _flat(like)
    same = run.get("version") == VERSION and arrays.keys() == expected.keys()
    if not same or any((a.shape, a.dtype) != (expected[k].shape, expected[k].dtype) for k, a in arrays.items()):
        raise AxiomError(
            "A checkpoint is of another model or optimizer.", at=str(manager.directory / str(step)),
            got=_difference(arrays, expected),
            fix="train the same model with the same settings, or give another folder",
        )  # fmt: skip
    leaves, structure = jax.tree.flatten(like)
    values = [_typed(arrays[name], leaf) for name, leaf in zip(expected, leaves, strict=True)]
    return structure.unflatten(values), run


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by their paths; keys as their data."""
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in
             jax.tree.leaves_with_path(tree)}  # fmt: skip
    return {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in named.items()}


def _typed(array: np.ndarray, like: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(like) else jnp.asarray(array)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _difference(arrays: dict[str, Any], expected: dict[str, Any]) -> str:
    differing = sorted(arrays.keys() ^ expected.keys())
    if differing:
        return f"only one of them has {', '.join(differing[:3])}"
    text = lambda a: f"{a.dtype}{list(a.shape)}"
    wrong = [k for k in expected if k in arrays and text(arrays[k]) != text(expected[k])]
    return ", ".join(f"{k}: {text(arrays[k])}, expected {text(expected[k])}" for k in wrong[:3])
