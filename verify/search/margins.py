"""A property and a model as one function: the margins of every atom.

margin = Σ input coefficient · x + Σ output coefficient · y − threshold; an atom holds where
its margin is ≤ 0. Coefficients are parameters, so that one compilation serves every
property of as many atoms. Padding to powers of two keeps such shapes few.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax._program import Program, build
from axiom_jax.model import Model
from axiom_jax.verification.domains.linear import Plan, plan, plan_of_checker
from axiom_jax.verification.property import Case, Property

HALVES = ("float16", "bfloat16")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spec:
    """The atoms of every case as arrays.

    Args:
        outputs: (cases, atoms, outputs) coefficients of y.
        inputs: (cases, atoms, inputs) coefficients of x; (cases, atoms, 0) if none is used.
        threshold: (cases, atoms).
        member: (cases, disjuncts, atoms), whether an atom belongs to a disjunct.
    """

    outputs: Any
    inputs: Any
    threshold: Any
    member: Any

    def value(self, margins: Any, case: Any) -> Any:
        """min over disjuncts of max over their atoms: ≤ 0 at unsafe points, > 0 for lower bounds of safe boxes."""
        return self.disjuncts(margins, case).min()

    def disjuncts(self, margins: Any, case: Any) -> Any:
        """(disjuncts,) max over the atoms of each; +inf for the padding."""
        member = self.member[case]
        best = jnp.where(member, margins, -jnp.inf).max(1)
        return jnp.where(member.any(1), best, jnp.inf)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under verification: traced once, asked many questions.

    Args:
        apply: `apply(params, *inputs)`, a JAX function returning an array or a pytree of arrays.
        params: its parameters.
        specs: shape and dtype of each input; flat inputs are split among them in order.
        name, source: what certificates say of the model, for people; source maps a kind ("onnx") to a sha256.
    """

    apply: Callable[..., Any]
    params: Any
    specs: tuple[jax.ShapeDtypeStruct, ...]
    name: str = "model"
    source: dict[str, str] = field(default_factory=dict)
    _margins: dict[Any, tuple[Program, Plan, tuple[Any, ...]]] = field(default_factory=dict)

    @cached_property
    def flat(self) -> tuple[Program, list[Any]]:
        """The model as a program from one vector of all inputs to one of all outputs, and its parameters' values."""
        with jax.default_matmul_precision("highest"):  # GPUs and TPUs would round the operands of products
            return build(self.outputs, self.params, self.input)

    @property
    def size(self) -> int:
        """How many numbers go in."""
        return sum(int(np.prod(s.shape)) for s in self.specs)

    @property
    def input(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.size,), np.float32)

    def outputs(self, params: Any, x: Any) -> Any:
        """All outputs as one vector, of all inputs as one vector."""
        sizes = [int(np.prod(s.shape)) for s in self.specs]
        parts = jnp.split(x, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [x]
        shaped = [part.reshape(s.shape) for part, s in zip(parts, self.specs, strict=True)]
        leaves = [y.ravel() for y in jax.tree.leaves(self.apply(params, *shaped))]
        return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)

    def margins(self, spec: "Spec") -> tuple[Program, Plan, tuple[Any, ...]]:
        """Margins of as many atoms as `spec` has: program, plan, values (the atoms of case 0 in their slots)."""
        first = (spec.outputs[0], spec.inputs[0], spec.threshold[0])
        key = tuple(np.shape(a) for a in first)
        if key not in self._margins:
            with jax.default_matmul_precision("highest"):
                program, values = build(self._margin, (self.params, first), self.input)
            self._margins[key] = program, plan(program, refine_stable=False), tuple(values)
        return self._margins[key]

    def _margin(self, given: Any, x: Any) -> Any:
        params, (on_outputs, on_inputs, threshold) = given
        value = jnp.matmul(on_outputs, self.outputs(params, x), precision="highest") - threshold
        return value + jnp.matmul(on_inputs, x, precision="highest") if on_inputs.shape[-1] else value


def subject_of(model: Model) -> Subject:
    """A model as it is verified: one row, every size that its signature leaves open set to 1.

    Raises:
        SpecError: an input has half precision, whose rounding nothing here bounds.
    """
    specs = []
    for name, shape, dtype in model.signature.inputs:
        if str(np.dtype(dtype)) in HALVES:
            raise SpecError(
                "The model computes in half precision.", at=model.name, got=f"{name}: {np.dtype(dtype)}{list(shape)}",
                fix="give the same network in float32: its weights are float32 numbers too",
            )  # fmt: skip
        sizes = tuple(n if isinstance(n, int) and n > 0 else 1 for n in shape)
        specs.append(jax.ShapeDtypeStruct(sizes, np.dtype(dtype)))
    return Subject(model.apply, model.params, tuple(specs), model.name, dict(model.source))


@dataclass(frozen=True)
class Question:
    """A model and a property, ready for search.

    Args:
        subject: the model.
        program: margins as a program of one flat input (inputs,), with the atoms as its output (atoms,).
        plan: `program` lowered for bounding.
        values: values of `program.params`; the entries at `slots` are replaced by the atoms of a case.
        spec: the atoms. lo, hi: (cases, inputs) float64, the box that level `real` speaks of, rounded outward.
        float32_lo, float32_hi: (cases, inputs), the ends of the deployed domain.
    """

    subject: Subject
    program: Program
    plan: Plan
    values: tuple[Any, ...]
    slots: tuple[int, ...]
    spec: Spec
    lo: np.ndarray
    hi: np.ndarray
    float32_lo: np.ndarray
    float32_hi: np.ndarray
    property: Property


def pose(subject: Subject, prop: Property) -> Question:
    """Compose a model and a property.

    Raises:
        SpecError: the property names inputs or outputs that the model does not have.
        UnsupportedPrimitive: an operation that has no bounds.
    """
    if any(len(case.lo) != subject.size for case in prop.cases):
        raise SpecError(
            f"The property speaks of {len(prop.cases[0].lo)} inputs, the model has {subject.size}.",
            at=prop.source or None,
            got=", ".join(str(list(s.shape)) for s in subject.specs),
            fix="use the property that was written for this model",
        )
    spec = _arrays(prop, subject.size, subject.flat[0].outputs[0].size)
    program, bounding, values = subject.margins(spec)
    leaves = len(jax.tree.leaves(subject.params))
    slots = tuple(range(leaves, leaves + 3))
    return Question(subject, program, bounding, values, slots, spec, *_boxes(prop.cases), prop)


def in_terms_of_certificates(question: Question) -> Question | None:
    """The same question with the bounds of the certificate checker; None where it is bounded so already, or the
    checker lacks an operation.

    >>> import jax
    >>> from axiom_jax.verification.property import robust
    >>> vector = jax.ShapeDtypeStruct((2,), np.float32)
    >>> question = pose(Subject(lambda _, x: jnp.tanh(x), (), (vector,)), robust([0.0, 1.0], 1, 2, "0.1"))
    >>> in_terms_of_certificates(question) is None
    True
    """
    planned = plan_of_checker(question.program)
    return None if planned is None or planned == question.plan else replace(question, plan=planned)


def with_atoms(values: Sequence[Any], slots: Sequence[int], spec: Spec, case: Any) -> list[Any]:
    """The parameters with the atoms of one case in their places."""
    atoms = (spec.outputs[case], spec.inputs[case], spec.threshold[case])
    given = list(values)
    for slot, value in zip(slots, atoms, strict=True):
        given[slot] = value
    return given


def _arrays(prop: Property, n_inputs: int, n_outputs: int) -> Spec:
    atoms = _bucket(max(sum(map(len, case.unsafe)) for case in prop.cases))
    disjuncts = _bucket(max(len(case.unsafe) for case in prop.cases))
    uses_inputs = any(atom.input for case in prop.cases for conjunct in case.unsafe for atom in conjunct)
    count = len(prop.cases)
    on_outputs = np.zeros((count, atoms, n_outputs), np.float32)
    on_inputs = np.zeros((count, atoms, n_inputs if uses_inputs else 0), np.float32)
    threshold = np.zeros((count, atoms), np.float32)
    member = np.zeros((count, disjuncts, atoms), bool)
    for c, case in enumerate(prop.cases):
        number = 0
        for d, conjunct in enumerate(case.unsafe):
            for atom in conjunct:
                for j, coefficient in atom.output:
                    if not 0 <= j < n_outputs:
                        raise SpecError(
                            f"The property speaks of output {j}, the model has {n_outputs}.",
                            at=prop.source or None,
                            fix="use the property that was written for this model",
                        )
                    on_outputs[c, number, j] = coefficient
                for i, coefficient in atom.input:
                    on_inputs[c, number, i] = coefficient
                threshold[c, number] = atom.threshold
                member[c, d, number] = True
                number += 1
    return Spec(on_outputs, on_inputs, threshold, member)


def _bucket(n: int) -> int:
    return 1 << (n - 1).bit_length() if n > 1 else 1


def _boxes(cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    float32_lo = np.array([[nearest(x) for x in case.lo] for case in cases], np.float32)
    float32_hi = np.array([[nearest(x) for x in case.hi] for case in cases], np.float32)
    outward = lambda x, to: np.nextafter(np.array(x, np.float64), to)
    lo = np.minimum(outward([[float(x) for x in c.lo] for c in cases], -np.inf), float32_lo.astype(np.float64))
    hi = np.maximum(outward([[float(x) for x in c.hi] for c in cases], np.inf), float32_hi.astype(np.float64))
    return lo, hi, float32_lo, float32_hi


def nearest(x: Fraction) -> np.float32:
    """RN32: the float32 nearest to a rational, ties to even (no double rounding through float64).

    >>> float(nearest(Fraction(1, 10))).hex()
    '0x1.99999a0000000p-4'
    """
    guess = np.float32(float(x))
    candidates = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    even = lambda f: int(f.view(np.uint32)) & 1
    distance = lambda f: abs(Fraction(float(f)) - x) if np.isfinite(f) else Fraction(2) ** 200
    return min(candidates, key=lambda f: (distance(f), even(f)))
