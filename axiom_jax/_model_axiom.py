"""Functions declared with annotated shapes: `@ax.axiom` proves them for all sizes and makes a Model.

Arguments annotated as arrays are inputs. The others are nets: their parameters become the model's, once
they are bound. A declaration without nets, or with all of them given, is proved where it is written.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin, overload

import jax
import jax.numpy as jnp

from axiom_jax._errors import AxiomError, ShapeError
from axiom_jax._model import Model, Signature, build, signature_of
from axiom_jax._model_call import unfit
from axiom_jax._model_chain import Chain, check, spec
from axiom_jax._model_guards import collecting
from axiom_jax._model_layers import adopt, label
from axiom_jax._model_train import Training, trainable_leaves
from axiom_jax._shapes_annotations import RANKS, Annotation, described, matches, names, read, symbols, variadic
from axiom_jax._shapes_annotations import spec as annotated
from axiom_jax._shapes_explain import UNDECIDED
from axiom_jax._shapes_places import caller, calling, definition
from axiom_jax._shapes_text import shape_text, size_at
from axiom_jax.shapes import clean, confirm, infer

BOUNDS = (2, 3, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Net:
    """A bound net without its parameters; in messages it has the argument's name."""

    apply: Callable[..., Any]
    signature: Signature


@dataclass(frozen=True)
class Declaration:
    """The `apply` function of an `@ax.axiom` model: params are a dict by the names of its nets.

    Args:
        fn: as the user wrote it.
        arguments: name and annotation of each argument that is an input or a net (None), in order.
        outputs: the annotation of the result, one of each of a tuple's parts; None if there is none.
        keywords: arguments that fn takes by keyword only.
        constraints: on the sizes that annotations name, such as "n >= 2".
        nets: those bound so far, by argument.
    """

    fn: Callable[..., Any]
    arguments: tuple[tuple[str, Annotation | None], ...]
    outputs: tuple[Annotation, ...] | Annotation | None
    keywords: frozenset[str]
    constraints: tuple[str, ...]
    nets: tuple[tuple[str, Net], ...] = ()

    @property
    def name(self) -> str:
        return getattr(self.fn, "__name__", "function")

    @property
    def missing(self) -> list[str]:
        """Arguments that still need a net."""
        bound = dict(self.nets)
        return [name for name, annotation in self.arguments if annotation is None and name not in bound]

    @property
    def inputs(self) -> dict[str, Annotation]:
        return {name: annotation for name, annotation in self.arguments if annotation is not None}

    @property
    def results(self) -> tuple[Annotation, ...]:
        return (self.outputs,) if isinstance(self.outputs, Annotation) else self.outputs or ()

    def __call__(self, params: Any, *arguments: Any) -> Any:
        params, bound, given = self._checked(params, arguments)
        return bound.run(params, given)

    def apply_train(self, params: Any, *arguments: Any, key: Any) -> tuple[Any, Any]:
        """Training mode: the output, and the parameters of the nets with moved running statistics."""
        params, bound, given = self._checked(params, arguments)
        nets = {
            name: Training(net.apply, params[name], jax.random.fold_in(key, i), name)
            for i, (name, net) in enumerate(bound.nets)
        }
        output = bound.run(params, given, nets)
        return output, {**params, **{name: net.params for name, net in nets.items()}}

    def trainable(self, params: Any) -> Any:
        nets = dict(self.nets)
        return {name: trainable_leaves(nets[name].apply, own) for name, own in params.items()}

    def _checked(self, params: Any, arguments: Sequence[Any]) -> tuple[Any, "Declaration", dict[str, Any]]:
        """Parameters, declaration with all its nets, and inputs by name, which are what the annotations say."""
        wanted = [name for name, annotation in self.arguments if annotation is not None or name in self.missing]
        if len(arguments) != len(wanted):
            raise AxiomError(f"{self.name} takes {len(wanted)} arguments ({', '.join(wanted)}).", at=caller(),
                             got=f"{len(arguments)}", fix=f"{self.name}({', '.join(wanted)})")  # fmt: skip
        given = dict(zip(wanted, arguments, strict=True))
        if self.missing:
            model = self.bind(*(given.pop(name) for name in self.missing), params=params)
            bound: Declaration = model.apply  # pyright: ignore[reportAssignmentType]
            return bound._checked(model.params, tuple(given.values()))
        sizes: dict[str, Any] = {}
        for name, annotation in self.inputs.items():
            x = given[name] = jnp.asarray(given[name]) if not hasattr(given[name], "dtype") else given[name]
            if not (matches(annotation, x.shape, sizes) and annotation.accepts(x.dtype)):
                raise unfit(self.name, name, x, annotation, sizes)
        self._require(sizes)
        return params, self, given

    def _require(self, sizes: dict[str, Any]) -> None:
        numbers = {name: size for name, size in sizes.items() if isinstance(size, int)}
        for constraint in self.constraints:
            if set(names([Annotation("Shaped", (constraint.replace(" ", ""),))])) <= set(numbers):
                if not size_at(constraint, numbers):
                    raise ShapeError(f"{self.name} was proved for {constraint} only.", at=caller(),
                                     got=", ".join(f"{name} = {size}" for name, size in numbers.items()),
                                     fix=f"give it inputs with {constraint}")  # fmt: skip

    def run(self, params: Any, inputs: dict[str, Any], training: Mapping[str, Training] | None = None) -> Any:
        """The user's function with its nets, those of `training` in training mode."""
        applied = {name: net.apply for name, net in self.nets} | dict(training or {})
        values = dict(inputs) | {name: Model(applied[name], params[name], net.signature, name)
                                 for name, net in self.nets}  # fmt: skip
        ordered = [values[name] for name, _ in self.arguments if name not in self.keywords]
        keywords = {name: values[name] for name, _ in self.arguments if name in self.keywords}
        return collecting(lambda: self.fn(*ordered, **keywords))

    def bind(self, *nets: Any, params: Any = None) -> Model:
        """The model of this declaration with its missing nets; their shapes are proved for all sizes."""
        if len(nets) != len(self.missing):
            raise AxiomError(f"{self.name} needs {len(self.missing)} nets ({', '.join(self.missing)}).", at=caller(),
                             got=f"{len(nets)}", fix=f"bind({', '.join(self.missing)})")  # fmt: skip
        models = {name: _as_model(net) for name, net in zip(self.missing, nets, strict=True)}
        skeletons = tuple((name, Net(model.apply, model.signature)) for name, model in models.items())
        bound = replace(self, nets=(*self.nets, *skeletons))
        params = {**(params or {}), **{name: model.params for name, model in models.items()}}
        leaves, structure = jax.tree.flatten(params)
        signature = _proved(bound, structure, tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves))
        return Model(bound, params, signature, self.name)


def _as_model(net: Any) -> Model:
    if isinstance(net, Model):
        return net
    layer, params = adopt(net)
    return build([(layer, params)], 0, None, label(layer), caller())


@overload
def axiom(fn: Callable[..., Any], /) -> Model: ...
@overload
def axiom(*, constraints: Sequence[str] = (), **nets: Any) -> Callable[[Callable[..., Any]], Model]: ...
def axiom(fn: Callable[..., Any] | None = None, /, *, constraints: Sequence[str] = (), **nets: Any) -> Any:
    """Declare a model by a function with annotated shapes, which are proved for all sizes.

    Sizes are what jaxtyping writes: `Float[Array, "batch 28 28 1"]`, "n", "2*n+1", numbers; a name is any size
    from 1 on, the same in all annotations. "..." and "*rest" are tried with 0, 1 and 2 axes.

    Args:
        fn: its arguments annotated as arrays are inputs; those without a default, or whose default is a
            model, layer, module or a function that makes one, are nets; the rest keep their defaults.
        constraints: conditions on sizes, such as "n >= 2".
        **nets: nets to bind here, by argument.

    Returns:
        A `Model`. Nets that are not given are bound later: `model = fn.bind(net)`, or passed at the call,
        `fn(net, x)`; the proof is made then.

    Raises:
        ShapeError: a line of fn, or what it returns, does not fit for all sizes; with a fix.

    >>> from jaxtyping import Array, Float
    >>> @axiom
    ... def pairs(x: Float[Array, "batch n"]) -> Float[Array, "batch 2*n"]:
    ...     return jnp.concatenate([x, -x], axis=1)
    >>> pairs
    Model('pairs', x: float32[batch, n] -> output: float32[batch, 2*n], 0 parameters)
    """
    if fn is None:
        return lambda fn: _declare(fn, tuple(constraints), nets)
    return _declare(fn, tuple(constraints), nets)


def _declare(fn: Callable[..., Any], constraints: tuple[str, ...], nets: dict[str, Any]) -> Model:
    declaration, defaults = declared(fn, constraints)
    unknown = set(nets) - set(declaration.missing)
    if unknown:
        what = f"{declaration.name} has no net named {', '.join(sorted(unknown))}."
        got = f"nets: {', '.join(declaration.missing) or 'none'}"
        raise AxiomError(what, at=definition(fn), got=got, fix="name an argument that is no array")
    nets = {**defaults, **nets}
    if set(declaration.missing) <= set(nets):
        return declaration.bind(*(nets[name] for name in declaration.missing))
    if nets:
        got = f"{', '.join(nets)} of {', '.join(declaration.missing)}"
        what = f"{declaration.name} is given some of its nets only."
        raise AxiomError(what, at=definition(fn), got=got, fix="give all or none")
    return Model(declaration, {}, _signature(declaration, None), declaration.name)


def declared(fn: Callable[..., Any], constraints: tuple[str, ...] = ()) -> tuple[Declaration, dict[str, Any]]:
    """What a function's annotations declare, and the nets that are its defaults."""
    place = calling()
    try:
        annotations = inspect.get_annotations(fn, eval_str=True, locals=place.frame.f_locals if place else None)
    except NameError as error:
        raise AxiomError(f"An annotation of {fn.__name__} is not known here: {error}.", at=definition(fn),
                         fix="import it, or define it before the function") from None  # fmt: skip
    arguments: list[tuple[str, Annotation | None]] = []
    keywords: set[str] = set()
    defaults: dict[str, Any] = {}
    for name, parameter in inspect.signature(fn).parameters.items():
        annotation = _located(annotations.get(name), fn)
        default = parameter.default
        if annotation is None and default is not inspect.Parameter.empty:
            if not _is_net(default):
                continue
            defaults[name] = default() if inspect.isfunction(default) and _takes_nothing(default) else default
        arguments.append((name, annotation))
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            keywords.add(name)
    returns = annotations.get("return")
    outputs: Any = _located(returns, fn)
    if get_origin(returns) is tuple:
        parts = [_located(part, fn) for part in get_args(returns)]
        outputs = tuple(parts) if all(part is not None for part in parts) else None
    return Declaration(fn, tuple(arguments), outputs, frozenset(keywords), constraints), defaults


def _located(annotation: Any, fn: Callable[..., Any]) -> Annotation | None:
    try:
        return read(annotation)
    except ShapeError as error:
        raise ShapeError(error.what, at=definition(fn), got=error.got, fix=error.fix) from None


def _is_net(default: Any) -> bool:
    if isinstance(default, Model):
        return True
    try:
        adopt(default)
    except AxiomError:
        return False
    return True


def _takes_nothing(fn: Callable[..., Any]) -> bool:
    return not inspect.signature(fn).parameters


@functools.lru_cache(maxsize=512)
def _proved(declaration: Declaration, structure: Any, leaves: tuple[tuple[tuple[int, ...], str], ...]) -> Signature:
    params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])
    return prove(declaration, params)


def prove(declaration: Declaration, params: Any) -> Signature:
    """Prove a declaration's annotations for all sizes."""
    spread = any(variadic(token) for annotation in declaration.inputs.values() for token in annotation.dims)
    output = None
    for rank in RANKS if spread else RANKS[:1]:
        try:
            output = _prove_rank(declaration, params, rank, declaration.constraints)
        except ShapeError as error:
            if error.fix != UNDECIDED:
                raise
            raise _bounded(declaration, params, rank, error) from None
    return _signature(declaration, output)


def _prove_rank(declaration: Declaration, params: Any, rank: int, constraints: tuple[str, ...]) -> Any:
    inputs = declaration.inputs
    sizes = symbols(names(inputs.values()), constraints)
    specs = {name: annotated(annotation, sizes, rank) for name, annotation in inputs.items()}
    output = infer(declaration.run, params, specs)
    _check_output(declaration, output, sizes)
    confirm(declaration.run, (params, specs), output, constraints)
    return output


def _bounded(declaration: Declaration, params: Any, rank: int, error: ShapeError) -> ShapeError:
    """The same error with the smallest bound on a size that mends it, if there is one."""
    for bound in BOUNDS:
        for name in names(declaration.inputs.values()):
            constraint = f"{name} >= {bound}"
            try:
                _prove_rank(declaration, params, rank, (*declaration.constraints, constraint))
            except (ShapeError, ValueError):  # ValueError: it contradicts a constraint of the user's
                continue
            fix = f'state the bound: @ax.axiom(constraints=["{constraint}"])'
            return clean(ShapeError(error.what, at=error.at, got=error.got, fix=fix))
    return clean(error)


def _check_output(declaration: Declaration, output: Any, sizes: dict[str, Any]) -> None:
    if declaration.outputs is None:
        return
    single = isinstance(declaration.outputs, Annotation)
    found = (output,) if single else output
    results, at = declaration.results, definition(declaration.fn)
    what = f"{declaration.name} does not return what it promises."
    if (
        not isinstance(found, (tuple, list))
        or len(found) != len(results)
        or not all(hasattr(y, "shape") for y in found)
    ):
        got = f"{_kinds(output)}; expected {_kinds_of(declaration)}"
        raise ShapeError(what, at=at, got=got, fix=f"return {_kinds_of(declaration)}")
    sizes = dict(sizes)
    for y, annotation in zip(found, results, strict=True):
        if not (matches(annotation, y.shape, sizes) and annotation.accepts(y.dtype)):
            got = f"{shape_text(y)}; expected {annotation.text}"
            raise ShapeError(what, at=at, got=got, fix=f"annotate it -> {_instead(annotation, y)}")
        if unbound := [name for name in names([annotation]) if name not in sizes]:
            got = f"{', '.join(unbound)} in {annotation.text}"
            what = f"{declaration.name} promises a size that nothing gives."
            raise ShapeError(what, at=at, got=got, fix=f"annotate it -> {_instead(annotation, y)}")


def _instead(annotation: Annotation, y: Any) -> str:
    text = described(y)
    if "ValidProbabilities" in annotation.promises and text.startswith("Float["):
        return f"ax.Probabilities[{text.partition('[Array, ')[2]}"
    return text


def _kinds(output: Any) -> str:
    if isinstance(output, (tuple, list)):
        return f"{len(output)} values"
    return shape_text(output) if hasattr(output, "shape") else f"a {type(output).__name__}"


def _kinds_of(declaration: Declaration) -> str:
    texts = [annotation.text for annotation in declaration.results]
    return texts[0] if isinstance(declaration.outputs, Annotation) else f"a tuple of {', '.join(texts)}"


def _signature(declaration: Declaration, output: Any) -> Signature:
    inputs = tuple((name, _sizes(annotation), annotation.dtype) for name, annotation in declaration.inputs.items())
    results = declaration.results
    outputs = tuple((_numbered("output", i, len(results)), _sizes(a), a.dtype) for i, a in enumerate(results))
    if not results and hasattr(output, "shape"):
        outputs = signature_of("output", output)
    promises = tuple(dict.fromkeys(promise for annotation in results for promise in annotation.promises))
    return Signature(inputs, outputs, promises, declaration.constraints)


def _sizes(annotation: Annotation) -> tuple[int | str, ...]:
    return tuple(int(token) if token.isdigit() else token for token in annotation.dims)


def _numbered(name: str, i: int, count: int) -> str:
    return name if count == 1 else f"{name}{i}"


def check_shapes(fn: Any, *nets: Any, input_shape: Sequence[int | str] | None = None) -> Signature:
    """Prove the shapes of a model or an annotated function for all sizes; nothing is executed.

    Args:
        fn: a model, or a function with annotated arguments.
        *nets: for its arguments that are no arrays, in order.
        input_shape: of one example, for a Sequential.

    Returns:
        What was proved: names, shapes and dtypes, and the constraints on sizes that they need.

    Raises:
        ShapeError: with every layer or the line that does not fit, and a fix.

    >>> from jaxtyping import Array, Float
    >>> def gram(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    ...     return x @ x.T
    >>> print(check_shapes(gram))
    x: float32[n, d] -> output: float32[n, n]
    """
    if isinstance(fn, Model) and isinstance(fn.apply, Chain):
        known = spec(fn.params)
        checked = check(fn.apply, known, input_shape, caller())
        if not checked.whole:
            return fn.signature
        return Signature(signature_of("x", checked.rows[0].input), signature_of("y", checked.rows[-1].output),
                         constraints=checked.constraints)  # fmt: skip
    if isinstance(fn, Model) and isinstance(fn.apply, Declaration):
        return fn.bind(*nets).signature if fn.apply.missing else prove(fn.apply, fn.params)
    if isinstance(fn, Model):
        raise AxiomError(f"{fn.name} has no annotated shapes.", at=caller(), fix="give ax.shape_table an input_shape")
    declaration, defaults = declared(fn)
    bound = dict(zip(declaration.missing, nets, strict=False))
    if missing := [name for name in declaration.missing if name not in bound and name not in defaults]:
        raise AxiomError(f"{declaration.name} needs a net for {', '.join(missing)}.", at=caller(),
                         fix=f"check_shapes({declaration.name}, {', '.join(declaration.missing)})")  # fmt: skip
    return declaration.bind(*({**defaults, **bound}[name] for name in declaration.missing)).signature
