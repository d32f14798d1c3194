"""What `axiom lint` does: take a model out of a file and say what will surprise."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from axiom_jax._errors import AxiomError, SpecError
from axiom_jax._shapes_places import caller
from axiom_jax.linting.linter import lint
from axiom_jax.linting.report import Report
from axiom_jax.verification.regions import Box


def run(target: str, region: str | None = None, backend: str | None = None) -> Report:
    """The report about `FILE.py:NAME`, or about a model file.

    Raises:
        AxiomError: the file, the name or the region cannot be read, or there is no such backend.
    """
    here = caller()  # what a message says where no line of a user's file is to blame
    box = read_region(region)
    _known(backend)
    try:
        return lint(read(target), region=box, backend=backend)
    except AxiomError as error:
        if error.at in (None, here):
            error.at = target
        raise


def _known(backend: str | None) -> None:
    from axiom_jax.targets.registry import entries

    if backend is not None and backend not in (known := entries()):
        raise AxiomError("There is no such backend.", at="--backend", got=backend,
                         fix=f"name one of {', '.join(known)}")  # fmt: skip


def read(target: str) -> Any:
    """The model or function that `FILE.py:NAME` names, or the model in an .onnx or .axiom file."""
    path, _, name = target.partition(".py:")
    if name:
        return _named(Path(path + ".py"), name)
    if target.endswith(".py"):
        raise AxiomError("The model in the file has to be named.", at=target, fix=f"axiom lint {target}:model")
    if not Path(target).is_file():
        raise AxiomError("There is no such file.", at=target, fix="axiom lint FILE.py:NAME, or MODEL.onnx, MODEL.axiom")
    from axiom_jax.interop.axiom.file import load_model
    from axiom_jax.interop.onnx.reader import from_onnx

    return load_model(target) if target.endswith(".axiom") else from_onnx(target)


def _named(path: Path, name: str) -> Any:
    if not path.is_file():
        raise AxiomError("There is no such file.", at=str(path), fix="axiom lint FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise AxiomError("The file is no Python module.", at=str(path), fix="axiom lint FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))  # as `python FILE.py` finds what stands beside it
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except AxiomError:
        raise
    except (Exception, SystemExit) as error:  # a script may end with sys.exit
        raise AxiomError("The file cannot be run.", at=str(path), got=f"{type(error).__name__}: {error}",
                         fix=f"see python {path}") from error  # fmt: skip
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = sorted(word for word in vars(module) if not word.startswith("_"))
            raise AxiomError(f"There is no {name} in the file.", at=str(path), got=f"it has {', '.join(known[:12])}",
                             fix="name one of these")  # fmt: skip
        found = getattr(found, part)
    return found


def read_region(text: str | None) -> Box | None:
    """`LO,HI` as a box, exactly.

    >>> print(read_region("0,1"))
    [0, 1]
    """
    if text is None:
        return None
    lo, comma, hi = text.strip("[]() ").partition(",")
    if not comma or "," in hi:
        raise SpecError("A region is two ends.", at="--region", got=text, fix="--region 0,1")
    try:
        return Box(lo.strip(), hi.strip())
    except AxiomError as error:
        raise type(error)(error.what, at="--region", got=error.got or text, fix="--region 0,1") from None


def show(report: Report) -> None:
    """The report for people: a table in a terminal, lines otherwise."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report)
    else:
        print(report)
