"""The shape checker: what it refuses, in which words, and that its fixes and its proofs are right."""

import re
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Bool, Float, Int, Int32, Shaped
from shape_programs import PROGRAMS, execute

from axiom_jax._errors import ShapeError
from axiom_jax._shapes_annotations import Annotation, Probabilities, Promise, described, matches, names, read, symbols
from axiom_jax._shapes_annotations import spec as annotated
from axiom_jax._shapes_text import dtype_text, product_text, shape_text, size_at
from axiom_jax.shapes import confirm, infer, sized

F32 = "float32"
CODE = (
    r"write (.+?)(?: with w of shape .*| instead of .*)?$",
    r"make it (\w+\(.*?\))(?: \(.*\))?$",
    r": (\w+\(.*\) >> .+?)(?: instead of .*)?$",
    r"(shortcut=.+)\)$",
    r"(input_shape=.+)\)$",
    r"annotate it -> (?:ax\.)?(.+)$",
    r"axiom\((.+)\)$",
)


def code(fix: str) -> str | None:
    """The code in a fix, if there is any."""
    return next((found[1] for found in (re.search(pattern, fix) for pattern in CODE) if found), None)


def plain(text: str) -> str:
    return text.replace("nn.", "").replace("'", '"')


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_broken_program_is_refused_in_these_words(name: str, golden) -> None:
    broken, fixed = PROGRAMS[name]
    with pytest.raises(ShapeError) as caught:
        execute(name, broken)
    golden(f"shapes/{name}.txt", f"{broken}\nShapeError: {caught.value}\n\n{fixed}")
    for error in parts(caught.value):
        assert error.fix and f"{name}.py:" in error.at
        assert code(error.fix) is None or plain(code(error.fix)) in plain(fixed)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_fixed_program_passes(name: str) -> None:
    def run() -> None:
        execute(name, PROGRAMS[name][1])

    jax.eval_shape(run)  # drawing the parameters would take time and say nothing of shapes


def test_most_fixes_are_code() -> None:
    texts = [path.read_text("utf-8") for path in (Path(__file__).parent / "golden" / "shapes").glob("*.txt")]
    fixes = re.findall(r"^ +(?:fix +)?(?:\(\d\) )?((?:write|make|add|project|annotate) .*)$", "\n".join(texts), re.M)
    assert len(fixes) > 30 and sum(code(fix) is not None for fix in fixes) > 0.9 * len(fixes)


def parts(error: ShapeError) -> tuple[ShapeError, ...]:
    return getattr(error, "errors", (error,))


# reshape is the one shape rule that JAX does not check for symbolic sizes


@pytest.mark.parametrize("target", [(6,), (2, 3), ("n", 5), ("n", "n"), (3, "n")])
def test_a_reshape_has_to_keep_the_number_of_elements(target: tuple[Any, ...]) -> None:
    n = symbols(["n"])["n"]
    shape = tuple(n if size == "n" else size for size in target)
    reshape = lambda x: jnp.reshape(x, shape)
    x = jax.ShapeDtypeStruct((n, 4), F32)
    assert jax.eval_shape(reshape, x).shape == shape  # JAX believes it
    for wrapped in (reshape, jax.jit(reshape), lambda x: jax.lax.map(jax.checkpoint(reshape), x[None])):
        with pytest.raises(ShapeError, match="number of elements"):
            infer(wrapped, x)


def test_a_right_reshape_passes() -> None:
    n = symbols(["n"])["n"]
    x = jax.ShapeDtypeStruct((n, 4, 6), F32)
    assert infer(lambda x: x.reshape(-1, 8), x).shape == (3 * n, 8)
    assert infer(lambda x: x.reshape(2 * x.shape[0], 12), x).shape == (2 * n, 12)


@given(st.data())
def test_inferred_shapes_hold_at_every_size(data: st.DataObject) -> None:
    """Random programs over [n, m, 4]: what is inferred for all sizes is what a trace at numbers gives.

    Sizes are large enough that no step leaves an axis empty: JAX refuses to reshape those.
    """
    steps = data.draw(st.lists(st.sampled_from(sorted(STEPS)), max_size=5))
    sizes = {name: data.draw(st.integers(65, 90), name) for name in ("n", "m")}

    def program(x: jax.Array) -> jax.Array:
        for step in steps:
            x = STEPS[step](x)
        return x

    dims = symbols(["n", "m"])
    x = jax.ShapeDtypeStruct((dims["n"], dims["m"], 4), F32)
    try:
        output = infer(program, x)
    except ShapeError:
        return
    confirm(program, (x,), output)
    assert sized(output, sizes).shape == jax.eval_shape(program, sized(x, sizes)).shape


STEPS = {
    "concatenate": lambda x: jnp.concatenate([x, x[:1]]),
    "flatten": lambda x: x.reshape(x.shape[0], -1),
    "mean": lambda x: x.mean(-1),
    "pad": lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 2)]),
    "ravel": lambda x: x.ravel(),
    "split": lambda x: x.reshape(2, -1),
    "stride": lambda x: x[::2],
    "swap": lambda x: x.swapaxes(0, -1),
    "tail": lambda x: x[1:],
    "tile": lambda x: jnp.tile(x, (2,) * x.ndim),
    "transpose": lambda x: x.T,
    "window": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2,) * x.ndim, (1,) * x.ndim, "VALID"),
}


SHAPES = st.lists(st.sampled_from([1, 2, 3, "n", "m"]), max_size=3).map(tuple)
OPERATIONS = (
    lambda x, y: x @ y,
    lambda x, y: y + x,
    lambda x, y: jnp.dot(x, y),
    lambda x, y: jnp.where(x > y, x, y),
    lambda x, y: jnp.concatenate([x, y], axis=1),
    lambda x, y: jnp.stack([x, y]),
    lambda x, y: jnp.einsum("ij,jk->ik", x, y),
    lambda x, y: jnp.einsum("...i,i", x, y),
    lambda x, y: x.reshape(2, -1),
    lambda x, y: x.reshape(y.shape),
    lambda x, y: jnp.reshape(x, (6,)),
    lambda x, y: x.transpose(1, 0) * y,
    lambda x, y: x[:, None] - y.sum(axis=1),
    lambda x, y: jax.nn.dot_product_attention(x, y, y),
    lambda x, y: jax.lax.conv_general_dilated(x, y, (1,), "SAME"),
    lambda x, y: nnx.Linear(2, 3, rngs=nnx.Rngs(0))(x),
    lambda x, y: nnx.Conv(2, 3, kernel_size=(2,), rngs=nnx.Rngs(0))(x),
    lambda x, y: jax.vmap(jnp.dot)(x, y),
    lambda x, y: jax.lax.dynamic_slice(x, (0,), (2,)),
    lambda x, y: x.at[0].set(y),
    lambda x, y: jnp.split(x, 3)[0] + y,
    lambda x, y: x.shape[1] * y,
    lambda x, y: jax.lax.scan(lambda c, r: (c + r, c), y, x)[0],
)


@settings(max_examples=60)
@given(st.sampled_from(range(len(OPERATIONS))), SHAPES, SHAPES)
def test_whatever_does_not_fit_is_a_shape_error(
    operation: int, first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    """And a fix that rewrites the expression does fit."""
    sizes = symbols(["n", "m"])
    x, y = (jax.ShapeDtypeStruct(tuple(sizes.get(str(size), size) for size in shape), F32) for shape in (first, second))
    try:
        infer(OPERATIONS[operation], x, y)
    except ShapeError as error:
        assert error.at and "test_shapes.py:" in error.at
        written = error.fix is not None and error.fix.startswith("write ") and " with w " not in error.fix
        if written and "rngs" not in error.fix and "c + r" not in error.what:
            infer(eval(f"lambda x, y: {code(error.fix)}", globals()), x, y)


def test_a_wrong_shape_is_found_by_the_comparison_at_numbers() -> None:
    n = symbols(["n"])["n"]
    x = jax.ShapeDtypeStruct((n, 4), F32)
    with pytest.raises(ShapeError, match="does not hold at n = 2"):
        confirm(lambda x: x[1:], (x,), x)


def test_errors_of_the_user_are_not_touched() -> None:
    def broken(x: jax.Array) -> jax.Array:
        raise ValueError("the shape of things to come")

    with pytest.raises(ValueError, match="things to come") as caught:
        infer(broken, jax.ShapeDtypeStruct((3,), F32))
    assert not isinstance(caught.value, ShapeError)
    with pytest.raises(NameError):
        infer(lambda x: undefined(x), jax.ShapeDtypeStruct((3,), F32))  # noqa: F821  # pyright: ignore


def test_an_operation_that_nothing_explains_is_still_placed() -> None:
    n = symbols(["n"])["n"]
    with pytest.raises(ShapeError, match=r"`x.transpose\(0, 1, 2\)` cannot take these shapes") as caught:
        infer(lambda x: x.transpose(0, 1, 2), jax.ShapeDtypeStruct((n, 4), F32))
    assert "test_shapes.py:" in caught.value.at and caught.value.got == "x Float32[n, 4]"


def test_without_source_the_message_is_jax_s() -> None:
    scope: dict[str, Any] = {"__name__": "typed"}
    exec(compile("def f(x, w):\n    return x @ w\n", "<typed>", "exec"), scope)
    x = jax.ShapeDtypeStruct((3, 4), F32)
    with pytest.raises(ShapeError, match="The shapes do not fit: dot_general") as caught:
        infer(scope["f"], x, x)
    assert caught.value.at == "<typed>:2 (f)"


def test_an_error_inside_a_jitted_function_is_explained() -> None:
    @jax.jit
    def inner(a: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.tanh(a @ w)

    x = jax.ShapeDtypeStruct((3, 4), F32)
    with pytest.raises(ShapeError, match="`a @ w` multiplies 4 columns with 3 rows"):
        infer(lambda x: inner(x, x), x)


# annotations


def test_annotations_are_read() -> None:
    assert read(Float[Array, "batch 28 28 1"]) == Annotation("Float", ("batch", "28", "28", "1"))
    assert read(Int32[Array, ""]) == Annotation("Int32", ())
    assert read(Shaped[Array, "*rest n rows=4"]).dims == ("*rest", "n", "4")
    assert read(Probabilities["batch 10"]) == Annotation("Float", ("batch", "10"), ("ValidProbabilities",))
    assert read(Annotated[Float[Array, " n"], Promise("Bounded")]).promises == ("Bounded",)
    assert read(int) is None and read(None) is None and read(jax.Array) is None


@pytest.mark.parametrize("dims", ["#n", "?n", "{n}"])
def test_axes_that_are_not_of_one_size_are_refused(dims: str) -> None:
    with pytest.raises(ShapeError, match="cannot be proved for all sizes"):
        read(Float[np.ndarray, dims])


@pytest.mark.parametrize("token", ["f(n)", "n/2", "n[0]"])
def test_expressions_that_are_not_sizes_are_refused(token: str) -> None:
    with pytest.raises(ShapeError, match="is not understood"):
        matches(Annotation("Float", ("n", token)), (3, 3), {})


def test_annotations_become_symbolic_shapes() -> None:
    annotations = [Annotation("Float", ("n", "2*n+1", "n//2", "_", "...")), Annotation("Int", ("*rest", "n%3"))]
    sizes = symbols(names(annotations))
    n = sizes["n"]
    assert annotated(annotations[0], sizes, rank=2).shape[:3] == (n, 2 * n + 1, n // 2)
    first, second = (annotated(annotation, sizes, rank=2) for annotation in annotations)
    assert len(first.shape) == 6 and len(second.shape) == 3
    assert (first.dtype, second.dtype) == ("float32", "int32")


def test_shapes_are_matched_and_bind_sizes() -> None:
    sizes: dict[str, Any] = {}
    assert matches(Annotation("Float", ("n", "2*n")), (3, 6), sizes) and sizes == {"n": 3}
    assert not matches(Annotation("Float", ("n",)), (4,), sizes)
    assert not matches(Annotation("Float", ("m", "m")), (4, 5), {})
    assert matches(Annotation("Float", ("2*n+1",)), (7,), {}) and not matches(Annotation("Float", ("2*n+1",)), (8,), {})
    assert matches(Annotation("Float", ("*a", "4")), (2, 3, 4), sizes) and sizes["*a"] == (2, 3)
    assert not matches(Annotation("Float", ("*a",)), (2, 4), sizes)
    assert matches(Annotation("Float", ("...", "4")), (4,), {}) and not matches(
        Annotation("Float", ("a", "...", "4")), (4,), {}
    )


@given(st.lists(st.integers(1, 20), max_size=4))
def test_a_shape_satisfies_its_own_description(shape: list[int]) -> None:
    text = described(np.zeros(shape, np.float32))
    annotation = read(eval(text, {"Float": Float, "Array": Array}))
    assert matches(annotation, shape, {})
    assert not matches(annotation, [*shape, 3], {})


def test_dtypes_are_accepted_by_kind() -> None:
    assert read(Float[Array, " n"]).accepts(jnp.bfloat16) and not read(Float[Array, " n"]).accepts("int32")
    assert read(Int[Array, " n"]).accepts("uint8") and not read(Int32[Array, " n"]).accepts("int8")
    assert read(Bool[Array, " n"]).accepts("bool") and read(Shaped[Array, " n"]).accepts("bool")


# texts


def test_shapes_are_written() -> None:
    batch = symbols(["batch"])["batch"]
    assert (
        shape_text(jax.ShapeDtypeStruct((batch, 2 * batch + 1, 3), jnp.bfloat16)) == "BFloat16[batch, 2*batch + 1, 3]"
    )
    assert [dtype_text(name) for name in ("uint8", "bool", "complex64")] == ["UInt8", "Bool", "Complex64"]
    assert product_text([28, 28, 64]) == "28*28*64 = 50176" and product_text([5]) == "5"


@given(st.integers(1, 50), st.integers(1, 50))
def test_symbolic_sizes_are_evaluated(n: int, m: int) -> None:
    a, b = symbols(["a", "b"]).values()
    for size, number in ((a * a * b - 2 * a, n * n * m - 2 * n), (a // 3 + b % 4, n // 3 + m % 4), (-a + 1, 1 - n)):
        assert size_at(size, {"a": n, "b": m}) == number
