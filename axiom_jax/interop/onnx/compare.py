"""An ONNX graph judged before it is kept: by the standard's checker, and by a runtime against JAX at two sizes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from axiom_jax._errors import ModelError
from axiom_jax._shapes_text import is_number

if TYPE_CHECKING:
    from axiom_jax.interop.onnx.writer import Subject

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}  # relative to the largest output
BATCHES = (2, 3)
TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32, 48, 64, 96, 128, 256)  # for other free sizes
Runtime = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Judged:
    """What the comparison found; see `OnnxExport`."""

    difference: float
    batches: tuple[int, ...]
    judge: str


def compare(proto: Any, subject: "Subject", tolerance: float | None = None) -> Judged:
    """Check a graph and compare it with its subject at two batch sizes on seeded inputs.

    Raises:
        ModelError: the checker refuses the graph, or a result differs by more than the tolerance.
    """
    import jax

    from axiom_jax._trace import guard_policy

    check(proto, subject.at)
    content = proto.SerializeToString()
    judge, run = runtime(content, proto)
    worst, batches = 0.0, []
    options = None
    if jax.default_backend() == "cpu":  # it runs twice, so time goes into compiling
        options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    with jax.default_matmul_precision("highest"), guard_policy("off" if guard_policy.value == "off" else "mask"):
        fn = jax.jit(lambda params, *inputs: jax.tree.leaves(subject.fn(params, *inputs)), compiler_options=options)
        for seed, sizes in enumerate(assignments(subject)):
            inputs = drawn(subject, sizes, seed)
            expected = [np.asarray(leaf) for leaf in fn(subject.params, *inputs)]
            fed = [np.moveaxis(x, -1, 1) if turn else x for x, turn in zip(inputs, subject.swapped, strict=True)]
            names = [value.name for value in proto.graph.input]
            found = run(dict(zip(names, map(np.ascontiguousarray, fed), strict=True)))
            for value, a, b in zip(proto.graph.output, expected, found, strict=True):
                worst = max(worst, _apart(a, b, value.name, tolerance, judge, subject.at))
            batches.append(int(inputs[0].shape[0]) if inputs and inputs[0].ndim else 1)
    return Judged(worst, tuple(batches), judge)


def check(proto: Any, at: str | None) -> None:
    import onnx

    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError("The ONNX graph that was written is not valid; nothing was written.", at=at,
                         got=str(error).strip().partition("\n")[0], fix="please report it") from error  # fmt: skip


def runtime(content: bytes, proto: Any) -> tuple[str, Runtime]:
    """onnxruntime where it is installed and runs the graph's types, else the evaluator of the onnx package."""
    try:
        import onnxruntime
    except ImportError:
        return "onnx.reference", _reference(proto)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class; what it has no kernel for, the reference evaluates
        return "onnx.reference", _reference(proto)
    if any("bfloat16" in entry.type for entry in (*session.get_inputs(), *session.get_outputs())):
        return "onnx.reference", _reference(proto)  # it exchanges numpy arrays, which have no such type
    return f"onnxruntime {onnxruntime.__version__}", lambda feeds: [
        np.asarray(y) for y in session.run(None, dict(feeds))
    ]


def _reference(proto: Any) -> Runtime:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(proto)
    return lambda feeds: [np.asarray(y) for y in evaluator.run(None, dict(feeds))]  # pyright: ignore[reportArgumentType]


def assignments(subject: "Subject") -> Iterator[dict[str, int]]:
    """Two values for every free size, such that the model's constraints hold; one where no size is free."""
    free = list(dict.fromkeys(str(n) for _, shape, _ in subject.inputs for n in shape if not is_number(n)))
    leading = {str(shape[0]) for _, shape, _ in subject.inputs if shape and not is_number(shape[0])}
    if not free:
        yield {}
        return
    for i, batch in enumerate(BATCHES):
        # other sizes are tried from small to large; all alike, so that what was proved for each is tried first
        for size in TRIED:
            sizes = {name: batch if name in leading else size + i for name in free}
            if all(_holds(constraint, sizes) for constraint in subject.constraints):
                yield sizes
                break
        else:
            raise ModelError("No sizes were found for which the model is defined.", at=subject.at,
                             got="; ".join(subject.constraints), fix="give input_shape")  # fmt: skip


def _holds(constraint: str, sizes: Mapping[str, int]) -> bool:
    from axiom_jax._shapes_text import size_at

    for sign, test in ((">=", int.__ge__), ("<=", int.__le__), ("==", int.__eq__)):
        left, found, right = constraint.partition(sign)
        if found:
            return test(size_at(left.strip(), sizes), size_at(right.strip(), sizes))
    return True


def drawn(subject: "Subject", sizes: Mapping[str, int], seed: int) -> list[np.ndarray]:
    """Seeded inputs: normal numbers, small nonnegative integers."""
    rng, arrays = np.random.default_rng(seed), []
    for _, shape, dtype in subject.inputs:
        numbers: Sequence[int] = [n if is_number(n) else sizes[str(n)] for n in shape]
        kind = np.dtype(dtype)
        if kind == np.bool_:
            arrays.append(rng.integers(0, 2, numbers).astype(bool))
        elif kind.kind in "iu":
            arrays.append(rng.integers(0, 4, numbers).astype(kind))
        else:
            arrays.append(rng.standard_normal(numbers).astype(kind))
    return arrays


def _apart(
    expected: np.ndarray, found: np.ndarray, name: str, tolerance: float | None, judge: str, at: str | None
) -> float:
    """The largest difference, relative to the largest finite number that was expected (or 1)."""
    same_type = expected.dtype == found.dtype or expected.dtype.itemsize == found.dtype.itemsize == 2
    if expected.shape != found.shape or not same_type:
        raise ModelError(f"The output {name} of the ONNX graph has another shape or dtype; nothing was written.", at=at,
                         got=f"{found.dtype}{list(found.shape)}; expected {expected.dtype}{list(expected.shape)}",
                         fix="please report the model")  # fmt: skip
    allowed = TOLERANCES.get(str(expected.dtype), 0.0) if tolerance is None else tolerance
    a, b = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        apart = np.where(equal, 0.0, np.abs(a - b))
    finite = np.abs(a[np.isfinite(a)])
    worst = float(np.max(np.nan_to_num(apart, nan=np.inf), initial=0)) / max(1.0, float(finite.max(initial=0)))
    if not worst <= allowed:
        raise ModelError(f"The ONNX graph does not compute what the model does ({judge}); nothing was written.", at=at,
                         got=f"output {name}: difference {worst:.2g}, allowed {allowed:.2g}",
                         fix="if rounding moves the model so far, allow it: to_onnx(..., tolerance=1e-3)")  # fmt: skip
    return worst
