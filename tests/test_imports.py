"""What an import loads: next to nothing for the package and the command's help, everything somewhere."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("beartype", "flax", "jax", "jaxlib", "jaxtyping", "onnx", "onnxruntime", "optax", "scipy", "sklearn", "sympy",
         "torch", "z3")  # fmt: skip
CHECKERS = sorted((ROOT / "verify").glob("*checker.py"))


def modules() -> list[str]:
    """Every module of the package by its file; folders behind symlinks count."""
    found = []
    for folder, subfolders, files in os.walk(ROOT / "axiom_jax", followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
        for file in files:
            if file.endswith(".py") and file != "__main__.py":
                parts = Path(folder, file).relative_to(ROOT).with_suffix("").parts
                found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(found)


def loaded(code: str) -> list[str]:
    """The heavy packages in `sys.modules` after a fresh interpreter has run `code`."""
    watch = f"\nimport sys\nprint('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code + watch], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1].split()[1:]


def command(*arguments: str) -> str:
    """Code that runs the command line and goes on after its exit."""
    return f"from axiom_jax.cli import main\ntry:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize("package", ["jax", "jaxtyping", "scipy"])
def test_detection_can_fail(package: str) -> None:
    assert package in loaded(f"import {package}")


@pytest.mark.parametrize(
    "code", ["import axiom_jax", "import axiom_jax.verification, axiom_jax.kernels, axiom_jax.interop"]
)
def test_the_package_loads_nothing_heavy(code: str) -> None:
    assert loaded(code) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["verify", "--help"],
        ["check", "--help"],
        ["keys", "new", "--help"],
        ["export-aptp", "--help"],
        ["export-checker", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(command(*arguments)) == []


def test_public_names_resolve() -> None:
    """`from axiom_jax import *` finds every lazy name; what it lists it has."""
    code = "import axiom_jax as ax\nmissing = [n for n in dir(ax) if not hasattr(ax, n)]\nassert not missing, missing"
    assert isinstance(loaded(code), list)


@pytest.mark.parametrize("name", modules())
def test_every_module_imports(name: str) -> None:
    importlib.import_module(name)


def test_every_folder_is_a_package() -> None:
    """A folder without `__init__.py` would be passed over by import-linter, and by `pkgutil`."""
    folders = {Path(name.replace(".", "/")).parent for name in modules()} - {Path()}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", CHECKERS, ids=lambda path: path.name)
def test_checkers_import_only_the_standard_library(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("a relative import" if node.level else (node.module or "").split(".")[0])
        elif isinstance(node, ast.Name):
            assert node.id not in {"__import__", "exec", "eval"}, f"line {node.lineno}: {node.id}"
    assert names - set(sys.stdlib_module_names) == set()
    assert "importlib" not in names


def test_a_checker_runs_without_site_packages() -> None:
    assert CHECKERS
    for path in CHECKERS:
        run = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, timeout=60)
        assert run.returncode == 2, (path.name, run.stderr)  # bad usage: no file was named
        assert "Traceback" not in run.stderr
