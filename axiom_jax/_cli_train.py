"""`axiom train CONFIG.toml`: a training as a file. Layers are written as in Python, and nothing in the file is run."""

import ast
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import axiom_jax as ax
from axiom_jax import nn
from axiom_jax._errors import AxiomError
from axiom_jax.interop.axiom.file import load_model, save_model
from axiom_jax.training import certified, optimizers
from axiom_jax.training.data import make_blobs, make_moons, train_test_split
from axiom_jax.training.loop import train
from axiom_jax.training.running import TrainingResult

PARTS = {"output", "data", "model", "train"}
DATA = {"file", "x", "y", "name", "examples", "test_size", "seed"}
MODEL = {"file", "layers", "seed", "input_shape", "name"}
TRAIN = set(
    "optimizer lr loss epochs steps batch_size schedule metrics seed clip accumulate freeze precision checkpoint_dir "
    "save_every resume".split()
)
MADE = {"moons": make_moons, "blobs": make_blobs}
Table = Mapping[str, Any]


def run(config: str, quiet: bool = False) -> tuple[dict[str, Any], bool]:
    """Train as a file says, and write the model.

    Args:
        config: a TOML file with [data], [model], [train] and `output`; paths are relative to its folder.
        quiet: without a progress bar.

    Returns:
        What was reached: `{"output", "epochs", "steps", "stopped", "skipped", "metrics"}`; and whether it was stopped
        by Ctrl-C.

    Raises:
        AxiomError: the file cannot be read, or says what cannot be done.
    """
    path = Path(config)
    settings = _read(path)
    data, validation = _data(settings["data"], path)
    model = _model(settings["model"], path)
    chosen = {name: value for name, value in settings["train"].items() if name != "checkpoint_dir"}
    for name in ("optimizer", "loss", "schedule"):
        if isinstance(chosen.get(name), Mapping):
            chosen[name] = _made(name, chosen[name], path)
    chosen["metrics"] = [_made("metrics", m, path) if isinstance(m, Mapping) else m for m in chosen.get("metrics", ())]
    if "checkpoint_dir" in settings["train"]:
        chosen["checkpoint_dir"] = path.parent / settings["train"]["checkpoint_dir"]
    result = train(model, data, validation=validation, progress=not quiet, **chosen)
    output = path.parent / settings.get("output", f"{path.stem}.axiom")
    save_model(result.model, output)
    return _facts(result, output), result.stopped == "interrupted"


def _facts(result: TrainingResult, output: Path) -> dict[str, Any]:
    metrics = result.history[-1] if result.history else {}
    return {"output": str(output), "epochs": len(result.history), "steps": result.steps, "stopped": result.stopped,
            "skipped": result.skipped, "metrics": metrics}  # fmt: skip


def show(facts: dict[str, Any]) -> None:
    """The result on stdout."""
    print(f"{facts['output']}: {facts['epochs']} epochs, {facts['steps']:,} steps"
          + (f", {facts['stopped']}" if facts["stopped"] else ""))  # fmt: skip
    for name, value in facts["metrics"].items():
        if name not in ("epoch", "step"):
            print(f"  {name:<20} {value:.6g}")


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise AxiomError("This is no configuration of a training.", at=str(path), got=str(error),
                         fix="give a TOML file with [data], [model] and [train]") from error  # fmt: skip
    for name, known in (("", PARTS), ("data", DATA), ("model", MODEL), ("train", TRAIN)):
        table = settings if not name else settings.setdefault(name, {})
        wrong = sorted(set(table) - known) if isinstance(table, dict) else [f"a {type(table).__name__}"]
        if wrong:
            raise AxiomError(f"{f'[{name}]' if name else 'The file'} has settings that are unknown.", at=str(path),
                             got=", ".join(wrong), fix=f"take these: {', '.join(sorted(known))}")  # fmt: skip
    return settings


def _data(table: Table, config: Path) -> tuple[Any, Any]:
    """Arrays to train on, and those held back, None without `test_size`."""
    if table.get("name") in MADE:
        x, y = MADE[table["name"]](table.get("examples", 400), seed=table.get("seed", 0))
    elif "file" in table:
        path = config.parent / table["file"]
        names = table.get("x", "x"), table.get("y", "y")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                x, y = (arrays[name] for name in names)
        except (OSError, ValueError, KeyError) as error:
            raise AxiomError("The data cannot be read.", at=str(path), got=str(error),
                             fix=f"give an .npz file with arrays {names[0]} and {names[1]}") from error  # fmt: skip
    else:
        raise AxiomError("[data] names no data.", at=str(config), got=f"name = {table.get('name')!r}",
                         fix=f'file = "data.npz", or name = one of {", ".join(MADE)}')  # fmt: skip
    if "test_size" not in table:
        return (x, y), None
    x, x_test, y, y_test = train_test_split(x, y, test_size=table["test_size"], seed=table.get("seed", 0))
    return (x, y), (x_test, y_test)


def _model(table: Table, config: Path) -> ax.Model:
    if "file" in table:
        return load_model(config.parent / table["file"])
    layers = [_layer(text, config) for text in table.get("layers", ())]
    shape = table.get("input_shape")
    return ax.Sequential(*layers, seed=table.get("seed", 0), name=table.get("name", config.stem),
                         input_shape=None if shape is None else tuple(shape))  # fmt: skip


def _layer(text: Any, config: Path) -> Any:
    """`Dense(64, 10)` or `relu`: a name of `axiom_jax.nn`, and literals."""
    try:
        tree = ast.parse(text, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else None
        named = call.func if call is not None else tree
        if not isinstance(named, ast.Name) or named.id not in dir(nn) or named.id.startswith("_"):
            raise ValueError("no layer of axiom_jax.nn")
        if call is None:
            return getattr(nn, named.id)
        keywords = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
        return getattr(nn, named.id)(*map(ast.literal_eval, call.args), **keywords)
    except (SyntaxError, ValueError, TypeError) as error:
        raise AxiomError(f"This is no layer: {text}", at=str(config), got=str(error),
                         fix='write layers as in Python: "Dense(64, 10)", "relu"') from error  # fmt: skip


def _made(kind: str, table: Table, config: Path) -> Any:
    """`{name = "CosineAnnealingLR", T_max = 10}`: one of ours, with settings."""
    places = {
        "optimizer": (optimizers, ("Adam", "AdamW", "SGD", "RMSprop")),
        "schedule": (optimizers, ("CosineAnnealingLR", "StepLR", "WarmupScheduler")),
        "loss": (certified, ("ibp_loss", "crown_ibp_loss")),
        "metrics": (certified, ("certified_accuracy",)),
    }
    module, names = places[kind]
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k != "name"}
    try:
        if table.get("name") not in names:
            raise ValueError(f"name = {table.get('name')!r}")
        return getattr(module, table["name"])(**given)
    except (TypeError, ValueError) as error:
        raise AxiomError(f"[train] has no such {kind}.", at=str(config), got=str(error),
                         fix=f"name = one of {', '.join(names)}, with its settings") from error  # fmt: skip
