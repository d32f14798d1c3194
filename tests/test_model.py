"""Models: Sequential, composition, declarations, foreign modules, tables."""

import io
import pickle
import subprocess
import sys
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from flax import linen, nnx
from jaxtyping import Array, Float, Int

from axiom_jax import nn
from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._program import build
from axiom_jax.model import Model, Probabilities, Sequential, axiom, check_shapes, parameters, shape_table

X = jnp.linspace(-1, 1, 8).reshape(2, 4)


@pytest.fixture(scope="module")
def model() -> Model:
    return Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2))


def paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


def test_a_sequential_is_a_model_with_readable_parameters(model: Model) -> None:
    assert type(model) is Model and model.name == "sequential"
    assert paths(model.params) == ["0_Dense/bias", "0_Dense/kernel", "2_Dense/bias", "2_Dense/kernel"]
    assert model.signature.inputs == (("x", ("batch", 4), "float32"),)
    assert model.signature.outputs == (("y", ("batch", 2), "float32"),)
    assert repr(model) == "Model('sequential', x: float32[batch, 4] -> y: float32[batch, 2], 23 parameters)"


def test_it_computes_what_its_layers_say(model: Model) -> None:
    first, second = model.params["0_Dense"], model.params["2_Dense"]
    by_hand = np.maximum(X @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(model(X), by_hand, rtol=1e-6)


def test_a_model_is_a_pytree_for_jit_grad_and_vmap(model: Model) -> None:
    assert paths(model) == [f"params/{path}" for path in paths(model.params)]
    np.testing.assert_allclose(jax.jit(model)(X), model(X), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(model, X), model(X), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(model)(X), model(X), rtol=1e-6)
    gradient = jax.grad(lambda m: m(X).sum())(model)
    assert isinstance(gradient, Model) and gradient.apply == model.apply
    np.testing.assert_allclose(gradient.params["2_Dense"]["bias"], [2, 2])


def test_one_architecture_is_one_structure_and_one_program(model: Model) -> None:
    other = Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2), seed=1)
    assert jax.tree.structure(other) == jax.tree.structure(model)
    assert not np.array_equal(other.params["0_Dense"]["kernel"], model.params["0_Dense"]["kernel"])
    same = Sequential(nn.Dense(4, 3), nn.relu, nn.Dense(3, 2), seed=0)
    assert all(map(np.array_equal, jax.tree.leaves(same), jax.tree.leaves(model)))
    x = jax.ShapeDtypeStruct((1, 4), "float32")
    assert build(model.apply, model.params, x)[0] == build(other.apply, other.params, x)[0]


def test_composition(model: Model) -> None:
    composed = nn.Dense(4, 3) >> nn.relu >> nn.Dense(3, 2)
    assert composed.apply == model.apply
    np.testing.assert_array_equal(composed(X), model(X))
    longer = model >> nn.softmax
    assert longer.params["0_Dense"] is model.params["0_Dense"]  # nothing is drawn anew
    np.testing.assert_allclose(longer(X).sum(-1), 1, rtol=1e-6)
    assert len((model >> (nn.Dense(2, 2) >> nn.tanh)).layers) == 5
    assert [type(layer).__name__ for layer in (nn.relu >> nn.Dense(4, 3)).layers] == ["Function", "Dense"]
    assert (nn.relu >> model).layers[1:] == model.layers
    with pytest.raises(ShapeError, match=r"Dense\(3, 1\) cannot take its input") as caught:
        model >> nn.Dense(3, 1)
    assert "test_model.py:" in caught.value.at


def test_a_model_nests_in_a_sequential(model: Model) -> None:
    nested = Sequential(model, nn.softmax)
    assert paths(nested.params)[0] == "0_sequential/0_Dense/bias" and nested.signature.inputs == model.signature.inputs
    np.testing.assert_allclose(nested(X), jax.nn.softmax(model(X)), rtol=1e-6)


def test_names_sort_as_the_layers_do() -> None:
    deep = Sequential(*[nn.BatchNorm(4)] * 11)
    assert sorted(deep.params)[0] == "00_BatchNorm" and "10_BatchNorm" in deep.params


def test_nothing_runs_and_nothing_is_allocated_before_the_shapes_fit() -> None:
    huge = 1 << 20  # a kernel of 4 TiB
    with pytest.raises(ShapeError):
        Sequential(nn.Dense(huge, huge), nn.Dense(huge, huge), lambda x: x @ jnp.zeros((3, 3)))


def test_inputs_that_do_not_fit_are_refused_at_the_call(model: Model) -> None:
    with pytest.raises(ShapeError) as caught:
        model(jnp.ones((2, 5)))
    assert "test_model.py:" in caught.value.at and caught.value.fix == "give it inputs of shape (batch, 4)"
    images = Sequential(nn.Conv(1, 2), nn.Flatten(), nn.Dense(18, 2), input_shape=(3, 3, 1))
    for x, fix in (
        (jnp.ones((3, 3, 1)), "add the batch axis: x[None]"),
        (jnp.ones((5, 3, 3)), "add the channel axis: x[..., None]"),
        (jnp.ones((5, 1, 3, 3)), "put the channels last: jnp.moveaxis(x, 1, -1)"),
        (jnp.ones((5, 9)), "reshape it: x.reshape(x.shape[0], 3, 3, 1)"),
    ):
        with pytest.raises(ShapeError) as caught:
            images(x)
        assert caught.value.fix == fix
        change = fix.partition(": ")[2]
        assert images(eval(change, {"x": x, "jnp": jnp})).shape[1:] == (2,)  # the fix is right


@pytest.mark.parametrize(
    ("layers", "shape", "inputs"),
    [
        ((nn.Flatten(), nn.Dense(8, 2)), None, ("batch", 8)),
        ((nn.relu, nn.Dense(8, 2)), None, ("batch", 8)),
        ((nn.Dense(4, 8), nn.MultiHeadAttention(2, 8)), None, ("batch", "length", 4)),
        ((nn.BatchNorm(1), nn.Conv(1, 2)), None, ("batch", "height", "width", 1)),
        ((nn.Embedding(9, 4), nn.LayerNorm(4)), None, ("batch", "length")),
        ((nn.Conv(1, 2), nn.GlobalAvgPool(), nn.Dense(2, 2)), ("h", "2*h", 1), ("batch", "h", "2*h", 1)),
        ((lambda x: x.mean(-1),), None, None),
    ],
)
def test_the_input_is_inferred(layers: tuple[Any, ...], shape: Any, inputs: Any) -> None:
    signature = Sequential(*layers, input_shape=shape).signature
    assert (signature.inputs[0][1] if signature.inputs else None) == inputs


def test_sizes_that_have_to_be_large_enough_are_bounded() -> None:
    model = Sequential(nn.Conv(1, 2, padding="VALID"), nn.MaxPool(), nn.Conv(2, 2, padding="VALID"), nn.GlobalAvgPool())
    assert model.signature.constraints == ("height >= 8", "width >= 8")
    assert model(jnp.ones((1, 8, 8, 1))).shape == (1, 2)
    with pytest.raises(ShapeError):
        model(jnp.ones((1, 5, 5, 1)))


# foreign layers


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(self.norm(self.dense(x)))


def test_nnx_modules_are_layers_in_inference_form() -> None:
    module = Block(nnx.Rngs(0))
    model = Sequential(module, nn.tanh, input_shape=(4,))
    assert "0_Block/norm/mean" in paths(model.params) and not any("rng" in path for path in paths(model.params))
    assert module.drop.deterministic is False  # the user's module is left alone
    module.eval()
    np.testing.assert_allclose(model(X), jnp.tanh(module(X)), rtol=1e-5)
    assert Sequential(Block(nnx.Rngs(1)), nn.tanh, input_shape=(4,)).apply == model.apply
    jax.grad(lambda m: m(X).sum())(model)


def test_linen_modules_are_layers_with_their_variables() -> None:
    module = linen.Dense(3)
    variables = module.init(jax.random.key(0), X)
    model = Sequential((module, variables), nn.relu, input_shape=(4,))
    np.testing.assert_allclose(model(X), jax.nn.relu(module.apply(variables, X)), rtol=1e-6)
    assert Sequential(module.bind(variables), nn.relu, input_shape=(4,)).apply == model.apply
    with pytest.raises(AxiomError, match="no layer") as caught:
        Sequential(module)
    assert caught.value.fix == "give (module, module.init(key, x)), or a bound module"
    with pytest.raises(ShapeError, match="Dense cannot take its input"):
        Sequential((module, variables), input_shape=(5,))


def test_equinox_modules_are_layers_mapped_over_the_batch() -> None:
    module = equinox.nn.MLP(4, 2, 3, 1, key=jax.random.key(0))
    model = Sequential(module, nn.softmax, input_shape=(4,))
    assert paths(model.params)[0] == "0_MLP/layers/0/weight"
    np.testing.assert_allclose(model(X), jax.nn.softmax(jax.vmap(module)(X)), rtol=1e-6)
    jax.grad(lambda m: m(X).sum())(model)
    with pytest.raises(ShapeError, match=r"Linear\(4, 3\) cannot take its input"):
        Sequential(equinox.nn.Linear(4, 3, key=jax.random.key(0)), input_shape=(5,))


class Scale:
    """A layer of the user's own."""

    def init(self, key: Any) -> dict[str, Any]:
        return {"factor": jnp.full((4,), 2.0)}

    def apply(self, params: Any, x: Any) -> Any:
        return params["factor"] * x


def test_own_layers_and_functions() -> None:
    model = Sequential(Scale(), lambda x: x + 1, input_shape=(4,))
    np.testing.assert_array_equal(model(X), 2 * X + 1)
    assert paths(model.params) == ["0_Scale/factor"]


@pytest.mark.parametrize("thing", [3, "relu", nnx.Linear, nn.Dense, None])
def test_what_is_no_layer_is_refused(thing: Any) -> None:
    with pytest.raises(AxiomError, match="no layer"):
        Sequential(thing)


def test_parameters_of_anything(model: Model) -> None:
    assert parameters(model) is model.params
    assert parameters(nn.Dense(4, 3))["kernel"].shape == (4, 3)
    assert paths(parameters(Block(nnx.Rngs(0))))[0] == "dense/bias"
    assert parameters(nn.relu) == {}


# declarations


@axiom
def classifier(net: nn.Sequential, image: Float[Array, "batch 2 2 1"]) -> Probabilities["batch 2"]:
    return nn.softmax(net(image.reshape(image.shape[0], -1)))


IMAGES = jnp.arange(12.0).reshape(3, 2, 2, 1) / 12


def test_a_declaration_is_a_model_once_its_net_is_bound(model: Model) -> None:
    bound = classifier.bind(model)
    assert type(bound) is Model and bound.name == "classifier"
    assert paths(bound.params)[0] == "net/0_Dense/bias"
    assert bound.signature.inputs == (("image", ("batch", 2, 2, 1), "float32"),)
    assert bound.signature.outputs == (("output", ("batch", 2), "float32"),)
    assert bound.signature.promises == ("ValidProbabilities",)
    np.testing.assert_allclose(bound(IMAGES), jax.nn.softmax(model(IMAGES.reshape(3, 4))), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(bound)(IMAGES), bound(IMAGES), rtol=1e-6)
    gradient = jax.grad(lambda m: m(IMAGES)[:, 0].sum())(bound)
    assert jnp.abs(gradient.params["net"]["0_Dense"]["kernel"]).max() > 0


def test_a_net_may_come_with_the_call(model: Model) -> None:
    assert repr(classifier).endswith("to be bound: net)")
    expected = classifier.bind(model)(IMAGES)
    np.testing.assert_allclose(classifier(model, IMAGES), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(classifier)(model, IMAGES), expected, rtol=1e-6)
    assert isinstance(jax.grad(lambda net: classifier(net, IMAGES)[0, 0])(model), Model)
    with pytest.raises(ShapeError, match=r"Dense\(5, 2\) cannot take its input"):
        classifier(nn.Dense(5, 2), IMAGES)


def test_nets_may_be_given_at_the_definition(model: Model) -> None:
    @axiom(net=model)
    def by_decorator(net: nn.Sequential, x: Float[Array, "n 4"]) -> Float[Array, "n 2"]:
        return net(x)

    @axiom
    def by_default(x: Float[Array, "n 4"], *, net: nn.Sequential = model, scale: float = 2.0) -> Float[Array, "n 2"]:
        return scale * net(x)

    @axiom
    def by_factory(x: Float[Array, "n 4"], net: Any = lambda: nn.Dense(4, 3) >> nn.relu) -> Float[Array, "n 3"]:
        return net(x)

    np.testing.assert_allclose(by_decorator(X), model(X), rtol=1e-6)
    np.testing.assert_allclose(by_default(X), 2 * model(X), rtol=1e-6)
    assert by_factory(X).shape == (2, 3) and paths(by_factory.params)[0] == "net/0_Dense/bias"


def test_layers_and_modules_are_nets() -> None:
    @axiom
    def both(first: nn.Dense, second: nnx.Module, x: Float[Array, "n 4"]) -> Float[Array, "n 3"]:
        return first(second(x))

    bound = both.bind(nn.Dense(2, 3), nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
    assert bound(X).shape == (2, 3)
    assert {path.split("/")[0] for path in paths(bound.params)} == {"first", "second"}


def test_several_inputs_and_outputs() -> None:
    @axiom
    def pair(x: Float[Array, "n 4"], ids: Int[Array, " n"]) -> tuple[Float[Array, " n"], Int[Array, " n+1"]]:
        return x.sum(1), jnp.concatenate([ids, ids[:1]])

    assert [entry[0] for entry in pair.signature.outputs] == ["output0", "output1"]
    assert pair(X, jnp.arange(2))[1].shape == (3,)
    with pytest.raises(ShapeError) as caught:
        pair(X, jnp.arange(3))
    assert caught.value.got == "ids Int32[3]; expected Int[n] with n = 2"
    with pytest.raises(ShapeError) as caught:
        pair(X, X[:, 0])
    assert caught.value.fix == "give it ids.astype('int32')"
    with pytest.raises(AxiomError, match="takes 2 arguments"):
        pair(X)


def test_any_number_of_axes() -> None:
    @axiom
    def last(x: Float[Array, "*rest n"]) -> Float[Array, "*rest"]:
        return x.sum(-1)

    assert last(jnp.ones((2, 3, 4, 5))).shape == (2, 3, 4)
    with pytest.raises(ShapeError):  # does not hold for one axis

        @axiom
        def second(x: Float[Array, "... n"]) -> Float[Array, "..."]:
            return x.sum(1)


def test_constraints_are_part_of_what_was_proved() -> None:
    @axiom(constraints=["n >= 3"])
    def best(x: Float[Array, "batch n"]) -> Float[Array, "batch 3"]:
        return jax.lax.top_k(x, 3)[0]

    assert best.signature.constraints == ("n >= 3",) and best(X).shape == (2, 3)
    with pytest.raises(ShapeError, match="was proved for n >= 3 only"):
        best(X[:, :2])


def test_annotations_may_be_strings() -> None:
    local = Float[Array, "n 4"]

    @axiom
    def twice(x: "local") -> "local":
        return 2 * x

    assert twice(X).shape == (2, 4)
    with pytest.raises(AxiomError, match="not known here"):

        @axiom
        def unknown(x: "Missing[Array, 'n']"):  # noqa: F821  # pyright: ignore
            return x


def test_bad_declarations_say_what_is_wrong(model: Model) -> None:
    with pytest.raises(AxiomError, match="no net named other"):
        axiom(other=model)(classifier.apply.fn)
    with pytest.raises(AxiomError, match="needs 1 nets"):
        classifier.bind()
    with pytest.raises(AxiomError, match="takes no nets"):
        model.bind(model)


def test_check_shapes(model: Model) -> None:
    def gram(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
        return x @ x.T

    def scored(net: nn.Sequential, x: Float[Array, "n 4"]) -> Float[Array, " n"]:
        return net(x).sum(-1)

    assert str(check_shapes(gram)) == "x: float32[n, d] -> output: float32[n, n]"
    assert str(check_shapes(scored, model)) == "x: float32[n, 4] -> output: float32[n]"
    assert check_shapes(classifier, model).promises == ("ValidProbabilities",)
    assert check_shapes(classifier.bind(model)).promises == ("ValidProbabilities",)
    assert str(check_shapes(model, input_shape=("t", 4))) == "x: float32[batch, t, 4] -> y: float32[batch, t, 2]"
    with pytest.raises(ShapeError):
        check_shapes(model, input_shape=(5,))
    with pytest.raises(AxiomError, match="needs a net"):
        check_shapes(scored)


# tables


def test_shape_table(golden) -> None:
    model = Sequential(
        nn.Conv(1, 4), nn.relu, nn.MaxPool(), nn.Residual(nn.Conv(4, 4), nn.relu), nn.Flatten(), nn.Dense(16, 2),
        input_shape=(4, 4, 1), name="small",
    )  # fmt: skip
    table = model.summary()
    golden("shapes/table.txt", str(table))
    golden("shapes/table.html", table._repr_html_())
    assert [row.parameters for row in table.rows] == [40, 0, 0, 148, 0, 34] and table.parameters == 222
    assert table.rows[0].output.shape[1:] == (4, 4, 4)
    console = rich.console.Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    assert "Float32[batch, 4, 4, 1]" in console.export_text()


def test_shape_table_of_declarations_and_functions(model: Model) -> None:
    assert [row.name for row in shape_table(classifier.bind(model)).rows] == ["0_Dense", "1_relu", "2_Dense"]
    assert str(shape_table(model, input_shape=(7, 4)).rows[0].input.shape) == "(batch, 7, 4)"
    alone = Model(lambda params, x: x * params, jnp.ones(4), name="scaled")
    assert [row.name for row in shape_table(alone, input_shape=(4,)).rows] == ["scaled"]
    with pytest.raises(AxiomError, match="is not known"):
        shape_table(alone)


# what importing costs


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("from axiom_jax import nn", ("jax", "flax")),
        ("from axiom_jax import nn; nn.relu", ("flax",)),
        ("import axiom_jax.model; from axiom_jax import nn; nn.Dense(3, 4)", ("flax", "jaxtyping", "rich")),
    ],
)
def test_flax_is_loaded_late(code: str, absent: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert not set(absent) & set(run.stdout.split())


def test_models_of_named_functions_are_pickled(model: Model) -> None:
    restored = pickle.loads(pickle.dumps(Sequential(nn.Dense(4, 3), nn.Flatten())))
    assert restored(X).shape == (2, 3)
