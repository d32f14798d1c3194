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
    from axiom_jax._errors import TrainingError as TrainingError
    from axiom_jax._errors import UnsupportedPrimitive as UnsupportedPrimitive
    from axiom_jax.guarding import approx as approx
    from axiom_jax.guarding import bounded as bounded
    from axiom_jax.guarding import confidence as confidence
    from axiom_jax.guarding import ensure as ensure
    from axiom_jax.guarding import finite as finite
    from axiom_jax.guarding import gradient_bounded as gradient_bounded
    from axiom_jax.guarding import guards as guards
    from axiom_jax.guarding import monotone_in as monotone_in
    from axiom_jax.guarding import no_inf as no_inf
    from axiom_jax.guarding import no_nan as no_nan
    from axiom_jax.guarding import normalized as normalized
    from axiom_jax.guarding import shape_is as shape_is
    from axiom_jax.guarding import valid_probabilities as valid_probabilities
    from axiom_jax.interop.axiom.file import load_model as load_model
    from axiom_jax.interop.axiom.file import save_model as save_model
    from axiom_jax.interop.onnx.reader import from_onnx as from_onnx
    from axiom_jax.interop.onnx.writer import to_onnx as to_onnx
    from axiom_jax.interop.tensorflow_reader import from_tensorflow as from_tensorflow
    from axiom_jax.interop.torch.describe import pytorch_descriptor as pytorch_descriptor
    from axiom_jax.interop.torch.reader import from_pytorch as from_pytorch
    from axiom_jax.interop.torch.writer import to_pytorch as to_pytorch
    from axiom_jax.linting.linter import lint as lint
    from axiom_jax.model import Logits as Logits
    from axiom_jax.model import Model as Model
    from axiom_jax.model import Probabilities as Probabilities
    from axiom_jax.model import Sequential as Sequential
    from axiom_jax.model import axiom as axiom
    from axiom_jax.model import check_shapes as check_shapes
    from axiom_jax.model import parameters as parameters
    from axiom_jax.model import shape_table as shape_table
    from axiom_jax.model import trainable as trainable
    from axiom_jax.report.showing.showing import show_certificate as show_certificate
    from axiom_jax.serve.protos import generate_grpc_proto as generate_grpc_proto
    from axiom_jax.serve.server import serve_graphql as serve_graphql
    from axiom_jax.serve.server import serve_grpc as serve_grpc
    from axiom_jax.serve.server import serve_rest as serve_rest
    from axiom_jax.targets.compiling import Compiled as Compiled
    from axiom_jax.targets.compiling import compile as compile
    from axiom_jax.targets.conforming import conformance as conformance
    from axiom_jax.targets.listing import backends as backends
    from axiom_jax.targets.precompiling import precompile as precompile
    from axiom_jax.targets.profiling import profile as profile
    from axiom_jax.training import losses as losses
    from axiom_jax.training.callbacks import BestCheckpoint as BestCheckpoint
    from axiom_jax.training.callbacks import CSVLogger as CSVLogger
    from axiom_jax.training.callbacks import EarlyStopping as EarlyStopping
    from axiom_jax.training.callbacks import JSONLLogger as JSONLLogger
    from axiom_jax.training.certified import certified_accuracy as certified_accuracy
    from axiom_jax.training.certified import crown_ibp_loss as crown_ibp_loss
    from axiom_jax.training.certified import ibp_loss as ibp_loss
    from axiom_jax.training.data import DataLoader as DataLoader
    from axiom_jax.training.data import make_blobs as make_blobs
    from axiom_jax.training.data import make_moons as make_moons
    from axiom_jax.training.data import normalize as normalize
    from axiom_jax.training.data import one_hot as one_hot
    from axiom_jax.training.data import train_test_split as train_test_split
    from axiom_jax.training.freezing import freeze as freeze
    from axiom_jax.training.loop import train as train
    from axiom_jax.training.optimizers import SGD as SGD
    from axiom_jax.training.optimizers import Adam as Adam
    from axiom_jax.training.optimizers import AdamW as AdamW
    from axiom_jax.training.optimizers import CosineAnnealingLR as CosineAnnealingLR
    from axiom_jax.training.optimizers import RMSprop as RMSprop
    from axiom_jax.training.optimizers import StepLR as StepLR
    from axiom_jax.training.optimizers import WarmupScheduler as WarmupScheduler
    from axiom_jax.training.rematerialise import checkpoint as checkpoint
    from axiom_jax.training.running import TrainingResult as TrainingResult
    from axiom_jax.verification.discharging import Discharged as Discharged
    from axiom_jax.verification.discharging import discharge as discharge
    from axiom_jax.verification.domains.algebra.sympy_form import to_sympy as to_sympy
    from axiom_jax.verification.domains.smt.smtlib import to_smtlib as to_smtlib
    from axiom_jax.verification.formulas import formula as formula
    from axiom_jax.verification.proof.aptp import export_aptp as export_aptp
    from axiom_jax.verification.proof.binding import check_certificate as check_certificate
    from axiom_jax.verification.proof.bundle import generate_certificate as generate_certificate
    from axiom_jax.verification.proof.certificate import Certificate as Certificate
    from axiom_jax.verification.proof.certificate import load_certificate as load_certificate
    from axiom_jax.verification.proof.certificate import save_certificate as save_certificate
    from axiom_jax.verification.proof.coq.exporting import export_coq as export_coq
    from axiom_jax.verification.proof.keys import new_key as new_key
    from axiom_jax.verification.proof.signing import sign_certificate as sign_certificate
    from axiom_jax.verification.proof.signing import verify_signatures as verify_signatures
    from axiom_jax.verification.proof.summary import write_summary as write_summary
    from axiom_jax.verification.properties.combining import AllOf as AllOf
    from axiom_jax.verification.properties.combining import AnyOf as AnyOf
    from axiom_jax.verification.properties.combining import Custom as Custom
    from axiom_jax.verification.properties.combining import Implies as Implies
    from axiom_jax.verification.properties.combining import Not as Not
    from axiom_jax.verification.properties.convexity import Convex as Convex
    from axiom_jax.verification.properties.dynamics import Avoids as Avoids
    from axiom_jax.verification.properties.dynamics import Lyapunov as Lyapunov
    from axiom_jax.verification.properties.dynamics import Reaches as Reaches
    from axiom_jax.verification.properties.equivalence import Equivalent as Equivalent
    from axiom_jax.verification.properties.equivariance import Equivariant as Equivariant
    from axiom_jax.verification.properties.equivariance import Invariant as Invariant
    from axiom_jax.verification.properties.fairness import IndividualFairness as IndividualFairness
    from axiom_jax.verification.properties.groups import DemographicParity as DemographicParity
    from axiom_jax.verification.properties.groups import EqualizedOdds as EqualizedOdds
    from axiom_jax.verification.properties.lipschitz import GlobalLipschitz as GlobalLipschitz
    from axiom_jax.verification.properties.lipschitz import GradientBounded as GradientBounded
    from axiom_jax.verification.properties.lipschitz import LocalLipschitz as LocalLipschitz
    from axiom_jax.verification.properties.monotone import Monotone as Monotone
    from axiom_jax.verification.properties.outputs import Bounded as Bounded
    from axiom_jax.verification.properties.outputs import Finite as Finite
    from axiom_jax.verification.properties.outputs import NoInf as NoInf
    from axiom_jax.verification.properties.outputs import NoNaN as NoNaN
    from axiom_jax.verification.properties.outputs import ValidProbabilities as ValidProbabilities
    from axiom_jax.verification.properties.radius import certified_radius as certified_radius
    from axiom_jax.verification.properties.robustness import Robust as Robust
    from axiom_jax.verification.proving import UnprovedWarning as UnprovedWarning
    from axiom_jax.verification.proving import prove as prove
    from axiom_jax.verification.regions import L1 as L1
    from axiom_jax.verification.regions import L2 as L2
    from axiom_jax.verification.regions import Box as Box
    from axiom_jax.verification.regions import Everything as Everything
    from axiom_jax.verification.regions import Linf as Linf
    from axiom_jax.verification.regions import Polytope as Polytope
    from axiom_jax.verification.results import Tested as Tested
    from axiom_jax.verification.run import verify as verify
    from axiom_jax.verification.spec.forall import exists as exists
    from axiom_jax.verification.spec.forall import forall as forall
    from axiom_jax.verification.spec.vnnlib import read_vnnlib as read_vnnlib
    from axiom_jax.verification.telemetry import telemetry as telemetry
    from axiom_jax.verification.verdict import Claimed as Claimed
    from axiom_jax.verification.verdict import Proved as Proved
    from axiom_jax.verification.verdict import Refuted as Refuted
    from axiom_jax.verification.verdict import Unknown as Unknown

_HOME = {
    "axiom_jax": ["nn"],
    "axiom_jax._errors": ["AxiomError", "BackendUnavailable", "CertificateError", "EnsureViolation", "ModelError",
                          "ShapeError", "SpecError", "TrainingError", "UnsupportedPrimitive"],
    "axiom_jax.guarding": ["approx", "bounded", "confidence", "ensure", "finite", "gradient_bounded", "guards",
                           "monotone_in", "no_inf", "no_nan", "normalized", "shape_is", "valid_probabilities"],
    "axiom_jax.interop.axiom.file": ["load_model", "save_model"],
    "axiom_jax.interop.onnx.reader": ["from_onnx"],
    "axiom_jax.interop.onnx.writer": ["to_onnx"],
    "axiom_jax.interop.tensorflow_reader": ["from_tensorflow"],
    "axiom_jax.interop.torch.describe": ["pytorch_descriptor"],
    "axiom_jax.interop.torch.reader": ["from_pytorch"],
    "axiom_jax.interop.torch.writer": ["to_pytorch"],
    "axiom_jax.linting.linter": ["lint"],
    "axiom_jax.model": ["Logits", "Model", "Probabilities", "Sequential", "axiom", "check_shapes", "parameters",
                        "shape_table", "trainable"],
    "axiom_jax.report.showing.showing": ["show_certificate"],
    "axiom_jax.serve.protos": ["generate_grpc_proto"],
    "axiom_jax.serve.server": ["serve_graphql", "serve_grpc", "serve_rest"],
    "axiom_jax.targets.compiling": ["Compiled", "compile"],
    "axiom_jax.targets.conforming": ["conformance"],
    "axiom_jax.targets.listing": ["backends"],
    "axiom_jax.targets.precompiling": ["precompile"],
    "axiom_jax.targets.profiling": ["profile"],
    "axiom_jax.training": ["losses"],
    "axiom_jax.training.callbacks": ["BestCheckpoint", "CSVLogger", "EarlyStopping", "JSONLLogger"],
    "axiom_jax.training.certified": ["certified_accuracy", "crown_ibp_loss", "ibp_loss"],
    "axiom_jax.training.data": ["DataLoader", "make_blobs", "make_moons", "normalize", "one_hot", "train_test_split"],
    "axiom_jax.training.freezing": ["freeze"],
    "axiom_jax.training.loop": ["train"],
    "axiom_jax.training.optimizers": ["Adam", "AdamW", "CosineAnnealingLR", "RMSprop", "SGD", "StepLR",
                                      "WarmupScheduler"],
    "axiom_jax.training.rematerialise": ["checkpoint"],
    "axiom_jax.training.running": ["TrainingResult"],
    "axiom_jax.verification.domains.algebra.sympy_form": ["to_sympy"],
    "axiom_jax.verification.domains.smt.smtlib": ["to_smtlib"],
    "axiom_jax.verification.formulas": ["formula"],
    "axiom_jax.verification.discharging": ["Discharged", "discharge"],
    "axiom_jax.verification.proof.binding": ["check_certificate"],
    "axiom_jax.verification.proof.bundle": ["generate_certificate"],
    "axiom_jax.verification.proof.certificate": ["Certificate", "load_certificate", "save_certificate"],
    "axiom_jax.verification.proof.aptp": ["export_aptp"],
    "axiom_jax.verification.proof.coq.exporting": ["export_coq"],
    "axiom_jax.verification.proof.keys": ["new_key"],
    "axiom_jax.verification.proof.signing": ["sign_certificate", "verify_signatures"],
    "axiom_jax.verification.proof.summary": ["write_summary"],
    "axiom_jax.verification.properties.combining": ["AllOf", "AnyOf", "Custom", "Implies", "Not"],
    "axiom_jax.verification.properties.convexity": ["Convex"],
    "axiom_jax.verification.properties.dynamics": ["Avoids", "Lyapunov", "Reaches"],
    "axiom_jax.verification.properties.equivalence": ["Equivalent"],
    "axiom_jax.verification.properties.equivariance": ["Equivariant", "Invariant"],
    "axiom_jax.verification.properties.fairness": ["IndividualFairness"],
    "axiom_jax.verification.properties.groups": ["DemographicParity", "EqualizedOdds"],
    "axiom_jax.verification.properties.lipschitz": ["GlobalLipschitz", "GradientBounded", "LocalLipschitz"],
    "axiom_jax.verification.properties.monotone": ["Monotone"],
    "axiom_jax.verification.properties.outputs": ["Bounded", "Finite", "NoInf", "NoNaN", "ValidProbabilities"],
    "axiom_jax.verification.properties.radius": ["certified_radius"],
    "axiom_jax.verification.properties.robustness": ["Robust"],
    "axiom_jax.verification.proving": ["UnprovedWarning", "prove"],
    "axiom_jax.verification.regions": ["L1", "L2", "Box", "Everything", "Linf", "Polytope"],
    "axiom_jax.verification.results": ["Tested"],
    "axiom_jax.verification.run": ["verify"],
    "axiom_jax.verification.spec.forall": ["exists", "forall"],
    "axiom_jax.verification.spec.vnnlib": ["read_vnnlib"],
    "axiom_jax.verification.telemetry": ["telemetry"],
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
