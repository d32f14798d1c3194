"""One model as a server holds it: what it takes, its certificates, and its compiled programs by shape."""

import hashlib
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from axiom_jax._errors import ShapeError
from axiom_jax._model_guards import recalled
from axiom_jax._shapes_annotations import Annotation, matches, value
from axiom_jax._shapes_text import dtype_text
from axiom_jax.model import Model
from axiom_jax.serve.limits import Limits, Refusal
from axiom_jax.serve.rows import FIX, Guard, apply_guards
from axiom_jax.serve.specs import batch_of, inputs_of, outputs_of
from axiom_jax.serve.tensors import Spec, require_room

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
Shapes = tuple[tuple[int, ...], ...]


class Served:
    """A model that answers requests; `run` is called from one thread only.

    Args:
        model: its shapes, parameters and function; None where only a compiled form is known.
        name, version: as requests write them.
        limits: of one request.
        guards: what every answer has to pass.
        certificates: files, as bytes, that were checked against this very model.
        compiled: what computes in place of the model's own function, from `ax.compile`.

    Raises:
        ModelError: nothing is known of its inputs, or they cannot travel.
    """

    def __init__(self, model: Model | None, name: str, version: str, limits: Limits, guards: Sequence[Guard],
                 certificates: Sequence[bytes] = (), compiled: Any = None):  # fmt: skip
        self.model, self.name, self.version, self.limits, self.guards = model, name, version, limits, tuple(guards)
        self.certificates = {hashlib.sha256(data).hexdigest(): data for data in certificates}
        self.digest = ",".join(self.certificates) or None
        self.compiled = compiled
        self.inputs = inputs_of(compiled.inputs if model is None else model.signature.inputs, name)
        self.outputs = outputs_of(model, compiled, name, self.inputs)
        self.batch = None if model is None else batch_of(model, self.inputs, self.outputs)
        self.padded: dict[Shapes, Shapes] = {}
        self.programs: OrderedDict[Shapes, Callable[..., Any]] = OrderedDict()

    @cached_property
    def input(self) -> dict[str, Spec]:
        """The inputs by name."""
        return {spec.name: spec for spec in self.inputs}

    @property
    def signature(self) -> str:
        """Inputs and outputs in one line."""
        sides = (", ".join(f"{spec.name}: {spec.text}" for spec in side) for side in (self.inputs, self.outputs))
        return " -> ".join(sides)

    @property
    def record(self) -> dict[str, Any]:
        """Which backend computes: `{"requested", "used", "reason"}`."""
        if self.compiled is None:
            return {"requested": None, "used": f"xla-{jax.default_backend()}", "reason": "no backend was asked for"}
        return {key: self.compiled.record.get(key) for key in ("requested", "used", "reason")}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, guarded.

        Args:
            inputs: an array for each input.

        Raises:
            ShapeError: an array does not fit.
            Refusal: an input is missing or unknown, of another dtype, too large.
            EnsureViolation: a row of the answer does not pass a guard; it is named.
        """
        arrays = self._ordered(inputs)
        shapes: Shapes = tuple(x.shape for x in arrays)
        padded = self.padded.get(shapes) or self._admit(shapes)
        outputs = self._compute(padded, arrays if padded == shapes else list(map(_fill, arrays, padded)))
        if padded != shapes:
            rows = shapes[0][0]
            outputs = {name: y[:rows] for name, y in outputs.items()}
        apply_guards(self.guards, outputs, self.name)
        return outputs

    def warm(self) -> None:
        """Compile for one row, so that the first request need not wait; where that is not one shape, do nothing."""
        free = {size for spec in self.inputs for size in spec.shape if isinstance(size, str)} - {self.batch}
        if not free:
            shapes = tuple(tuple(1 if isinstance(n, str) else n for n in spec.shape) for spec in self.inputs)
            self._compute(shapes, [np.zeros(n, spec.dtype) for n, spec in zip(shapes, self.inputs, strict=True)])

    def _ordered(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if inputs.keys() != self.input.keys():
            unknown, absent = sorted(inputs.keys() - self.input.keys()), sorted(self.input.keys() - inputs.keys())
            what = f"has no input named {unknown[0]!r}" if unknown else f"needs the input {absent[0]!r} too"
            takes = ", ".join(f"{spec.name} {spec.text}" for spec in self.inputs)
            raise Refusal(f"{self.name} {what}.", at=self.name, got=", ".join(inputs) or "no inputs",
                          fix=f"it takes {takes}")  # fmt: skip
        arrays = [inputs[spec.name] for spec in self.inputs]
        for x, spec in zip(arrays, self.inputs, strict=True):
            if x.dtype != spec.dtype:
                got = f"{dtype_text(x.dtype)}; expected {spec.text}"
                raise Refusal(f"{spec.name} has another dtype.", at=f"{spec.name} of {self.name}", got=got,
                              fix=f"send {spec.datatype}")  # fmt: skip
        return [_narrow(x, spec, self.name) for x, spec in zip(arrays, self.inputs, strict=True)]

    def _compute(self, shapes: Shapes, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a program that is compiled for these shapes; the least recently used one goes."""
        program = self.programs.get(shapes)
        if program is None:
            program = self.programs[shapes] = self._program()
            if len(self.programs) > self.limits.programs:
                self.programs.popitem(last=False)
        else:
            self.programs.move_to_end(shapes)
        try:
            leaves = [np.asarray(y) for y in jax.tree.leaves(program(*arrays))]
        except Exception as error:
            if (violation := recalled(error)) is not None:  # of a condition inside the model
                violation.got = f"row {violation.row}, value {violation.value}"  # how many rows depends on padding
                violation.fix = FIX
                raise violation from None
            if not isinstance(error, (TypeError, ValueError)) or isinstance(error, jax.errors.JaxRuntimeError):
                raise
            self.programs.pop(shapes, None)  # tracing at these shapes failed
            got = ", ".join(f"{spec.name} {list(shape)}" for spec, shape in zip(self.inputs, shapes, strict=True))
            got += f": {(str(error).splitlines() or [''])[0][:200]}"
            raise ShapeError(f"{self.name} cannot compute with these shapes.", at=self.name, got=got,
                             fix="send inputs of another size") from error  # fmt: skip
        return {spec.name: y for spec, y in zip(self.outputs, leaves, strict=True)}

    def _program(self) -> Callable[..., Any]:
        if self.compiled is not None:
            return self.compiled
        assert self.model is not None  # else there is a compiled form
        apply, params = self.model.apply, self.model.params
        jitted = jax.jit(lambda params, *inputs: apply(params, *inputs))  # its own, so that it can be dropped alone
        return lambda *inputs: jitted(params, *inputs)

    def _admit(self, shapes: Shapes) -> Shapes:
        """The shapes to compute with, for shapes that the model takes; others are refused."""
        sizes: dict[str, Any] = {}
        for shape, spec in zip(shapes, self.inputs, strict=True):
            require_room(math.prod(shape), len(shape), f"{spec.name} of {self.name}", self.limits)
            if not _fits(spec, shape, sizes):
                raise self._misfit(spec, shape, sizes)
        for constraint in () if self.model is None else self.model.signature.constraints:
            if not _holds(constraint, sizes):
                raise ShapeError(f"{self.name} was proved for {constraint} only.", at=self.name,
                                 got=", ".join(f"{name} = {size}" for name, size in sizes.items()),
                                 fix=f"send inputs with {constraint}")  # fmt: skip
        padded = shapes
        if self.batch is not None:
            rows = sizes[self.batch]
            if rows > self.limits.batch:
                raise Refusal("A request has too many rows.", status=413, at=self.name, got=f"{rows}",
                              fix=f"at most {self.limits.batch}: send it in several requests")  # fmt: skip
            padded = tuple((1 << (rows - 1).bit_length(), *shape[1:]) for shape in shapes)
        if len(self.padded) > 4096:
            self.padded.clear()
        self.padded[shapes] = padded
        return padded

    def _misfit(self, spec: Spec, shape: tuple[int, ...], sizes: Mapping[str, Any]) -> ShapeError:
        known = ", ".join(f"{name} = {size}" for name, size in sizes.items() if name in spec.shape)
        got = f"{spec.name} {dtype_text(spec.dtype)}[{', '.join(map(str, shape))}]; expected {spec.text}"
        if 0 in shape:
            fix = "send at least one row; no size may be 0"
        elif _fits(spec, (1, *shape), {}):
            fix = f"add the batch axis: one example has shape {[1, *shape]}"
        elif _fits(spec, (*shape, 1), {}):
            fix = f"add the channel axis: shape {[*shape, 1]}"
        elif len(shape) == 2 and _fits(spec, shape[::-1], {}):
            fix = f"transpose it to shape {list(shape[::-1])}"
        else:
            fix = f"send {spec.name} with shape [{', '.join(map(str, spec.shape))}]"
        if known and _fits(spec, shape, {}):
            got += f" with {known}"
        return ShapeError(f"{self.name} cannot take its input.", at=f"{spec.name} of {self.name}", got=got, fix=fix)


def _fits(spec: Spec, shape: Sequence[int], sizes: dict[str, Any]) -> bool:
    """Whether a shape is what a model takes; names get their sizes. No size is 0."""
    return 0 not in shape and matches(Annotation("Shaped", tuple(map(str, spec.shape))), shape, sizes)


def _holds(constraint: str, sizes: Mapping[str, Any]) -> bool:
    """Whether a constraint such as "n >= 2" holds; one that is not understood is left to the model itself."""
    for sign, compare in COMPARE.items():
        left, found, right = constraint.partition(sign)
        if found:
            try:
                return bool(compare(value(left.replace(" ", ""), sizes), value(right.replace(" ", ""), sizes)))
            except (KeyError, ShapeError):
                return True
    return True


def _narrow(x: np.ndarray, spec: Spec, name: str) -> np.ndarray:
    """64-bit integers as JAX computes with them; a number that would change is refused."""
    taken = jax.dtypes.canonicalize_dtype(spec.dtype)
    if taken == spec.dtype:
        return x
    limit = np.iinfo(taken)
    if x.size and (int(x.min()) < limit.min or int(x.max()) > limit.max):
        raise Refusal(f"{spec.name} is too large for {taken}, which {name} computes with.", at=f"{spec.name} of {name}",
                      got=f"{x.min()} to {x.max()}", fix=f"{limit.min} to {limit.max}")  # fmt: skip
    return x.astype(taken)


def _fill(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array with copies of its last row after it: what they give is dropped, and they break no new condition."""
    whole = np.empty(shape, x.dtype)
    whole[: len(x)], whole[len(x) :] = x, x[-1]
    return whole
