"""axiom-jax: JAX models whose shapes and properties come with proofs.

Names are loaded at first use: importing this package loads neither JAX nor any solver.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from axiom_jax import nn as nn
    from axiom_jax._errors import AxiomError as AxiomError
    from axiom_jax._errors import BackendUnavailable as BackendUnavailable
    from axiom_jax._errors import CertificateError as CertificateError
    from axiom_jax._errors import EnsureViolation as EnsureViolation
    from axiom_jax._errors import ModelError as ModelError
    from axiom_jax._errors import ShapeError as ShapeError
    from axiom_jax._errors import SpecError as SpecError
    from axiom_jax._errors import UnsupportedPrimitive as UnsupportedPrimitive
    from axiom_jax.interop.onnx_reader import from_onnx as from_onnx
    from axiom_jax.model import Logits as Logits
    from axiom_jax.model import Model as Model
    from axiom_jax.model import Probabilities as Probabilities
    from axiom_jax.model import Sequential as Sequential
    from axiom_jax.model import axiom as axiom
    from axiom_jax.model import check_shapes as check_shapes
    from axiom_jax.model import parameters as parameters
    from axiom_jax.model import shape_table as shape_table
    from axiom_jax.verification.proof.binding import check_certificate as check_certificate
    from axiom_jax.verification.proof.certificate import Certificate as Certificate
    from axiom_jax.verification.proof.certificate import load_certificate as load_certificate
    from axiom_jax.verification.proof.certificate import save_certificate as save_certificate
    from axiom_jax.verification.spec.vnnlib import read_vnnlib as read_vnnlib
    from axiom_jax.verification.verdict import Claimed as Claimed
    from axiom_jax.verification.verdict import Proved as Proved
    from axiom_jax.verification.verdict import Refuted as Refuted
    from axiom_jax.verification.verdict import Unknown as Unknown

_HOME = {
    "axiom_jax": ["nn"],
    "axiom_jax._errors": ["AxiomError", "BackendUnavailable", "CertificateError", "EnsureViolation", "ModelError",
                          "ShapeError", "SpecError", "UnsupportedPrimitive"],
    "axiom_jax.interop.onnx_reader": ["from_onnx"],
    "axiom_jax.model": ["Logits", "Model", "Probabilities", "Sequential", "axiom", "check_shapes", "parameters",
                        "shape_table"],
    "axiom_jax.verification.proof.binding": ["check_certificate"],
    "axiom_jax.verification.proof.certificate": ["Certificate", "load_certificate", "save_certificate"],
    "axiom_jax.verification.spec.vnnlib": ["read_vnnlib"],
    "axiom_jax.verification.verdict": ["Claimed", "Proved", "Refuted", "Unknown"],
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module 'axiom_jax' has no attribute {name!r}")
    module = _WHERE[name]
    value = import_module(f"{module}.{name}") if module == "axiom_jax" else getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
