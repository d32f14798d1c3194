"""The networks of a query as one: inputs side by side, outputs side by side, then hidden values and products.

Networks that are declared equal share their weights; inputs that the asserts equate are one input.
So the search, the certificates and their checker see one network and linear atoms over its outputs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax.verification.search.margins import Subject
from axiom_jax.verification.spec.vnnlib2 import Network, Query, Tensor


def compose(query: Query, networks: Subject | Mapping[str, Subject]) -> Subject:
    """The one network that `query.property` is asked of.

    Args:
        query: what was asked.
        networks: the model of every network in `query.needed`, by name; one alone needs no name. Outputs of each
            are the declared ones, then the hidden values `query.exposed(name)`.

    Returns:
        Inputs: the free inputs, flat, in the order of `query.places`. Outputs: of every network its outputs and
        then its hidden values, then the products.

    Raises:
        SpecError: a network lacks a model or has one too many; numbers, shapes or types of tensors differ from
            what is declared; isomorphic networks differ in more than weights.

    >>> from axiom_jax.verification.spec.vnnlib2 import parse_query
    >>> net = "(vnnlib-version <2.0>) (declare-network f (declare-input X real [2]) (declare-output Y real [2]))"
    >>> query = parse_query(net + "(assert (<= 0 X[0] 1)) (assert (<= 0 X[1] 1)) (assert (<= 1 (* Y[0] Y[1])))")
    >>> double = Subject(lambda w, x: w * x, np.float32(2), (jax.ShapeDtypeStruct((2,), np.float32),))
    >>> compose(query, double).outputs(compose(query, double).params, jnp.float32([1, 3])).tolist()
    [2.0, 6.0, 12.0]
    """
    given = _given(query, networks)
    models = {network.name: given[_model(network)] for network in query.networks}
    for network in query.networks:
        _require_fit(query, network, models[network.name])
        if network.relation == "isomorphic-to":
            _require_isomorphic(query, network, models[network.name], models[network.like])
    network = query.networks[0]
    as_it_is = not query.products and query.places == tuple(range(len(query.places)))
    if len(query.networks) == 1 and as_it_is and [t.node for t in network.hidden] == list(query.exposed(network.name)):
        return models[network.name]
    one = len(given) == 1
    source = {
        kind if one else f"{kind}:{name}": digest for name, subject in given.items()
        for kind, digest in subject.source.items()
    }  # fmt: skip
    params = {name: subject.params for name, subject in given.items()}
    specs, split = _specs(query, models)
    apply = _Composed(query, models, split)
    return Subject(apply, params, specs, " and ".join(s.name for s in given.values()), source)


def assignment_text(query: Query, inputs: Sequence[Fraction], outputs: Sequence[tuple[Fraction, Fraction]]) -> str:
    """A counterexample as the standard prints it: a line `name type [shape]` for each tensor, then its elements.

    Args:
        inputs: the free inputs. outputs: enclosures of the composed network's outputs.

    Source: VNN-LIB 2.0, command-line assignment format.

    >>> from axiom_jax.verification.spec.vnnlib2 import parse_query
    >>> net = "(vnnlib-version <2.0>) (declare-network f (declare-input X real [1]) (declare-output Y real [1]))"
    >>> query = parse_query(net + "(assert (<= 0 X[0] 1)) (assert (<= Y[0] 0))")
    >>> print(assignment_text(query, [Fraction(1, 2)], [(Fraction(-1), Fraction(-1))]))
    X real [1]
    0.5
    Y real [1]
    -1.0
    """
    before = iter([inputs[i] for i in query.places])
    after = iter([(lo + hi) / 2 for lo, hi in outputs])
    lines = []
    for network in query.networks:
        found = {tensor.name: [next(before) for _ in range(tensor.size)] for tensor in network.inputs}
        found |= {t.name: [next(after) for _ in range(t.size)] for t in (*network.outputs, *network.hidden)}
        for tensor in (*network.inputs, *network.hidden, *network.outputs):
            lines += [str(tensor), *(repr(float(value)) for value in found[tensor.name])]
    return "\n".join(lines)


def _given(query: Query, networks: Subject | Mapping[str, Subject]) -> dict[str, Subject]:
    if isinstance(networks, Subject):
        networks = {query.needed[0]: networks} if len(query.needed) == 1 else {"": networks}
    lacking = [name for name in query.needed if name not in networks]
    extra = [name for name in networks if name not in query.needed]
    if lacking or extra:
        wanted = ", ".join(query.needed)
        raise SpecError(
            f"The property asks about {len(query.needed)} models: {wanted}."
            if len(query.needed) > 1 else f"The property asks about one model{': ' + wanted if wanted else ''}.",
            at=query.property.source or None,
            got=", ".join(filter(None, networks)) or f"{len(networks)} model{'s' * (len(networks) != 1)}",
            fix=f"name a model for each: {' '.join(f'--network {name}=FILE' for name in query.needed)}"
            if len(query.needed) > 1 else "give one model",
        )  # fmt: skip
    return {name: networks[name] for name in query.needed}


def _model(network: Network) -> str:
    """The network whose model this one uses."""
    return network.like if network.relation == "equal-to" else network.name


def _results(subject: Subject) -> list[Any]:
    return jax.tree.leaves(jax.eval_shape(subject.apply, subject.params, *subject.specs))


def _require_fit(query: Query, network: Network, subject: Subject) -> None:
    """Refuse a model whose tensors are not the declared ones; axes of size 1 are no difference."""
    results, nodes = _results(subject), query.exposed(_model(network))
    count = len(results) - len(nodes)
    if nodes and count < len(network.outputs):
        raise SpecError(
            f"The model {subject.name} of {network.name} does not give the hidden values that the property speaks of.",
            at=query.property.source or None,
            got=f"{len(results)} outputs; hidden: {', '.join(nodes)}",
            fix=f"read it with them: from_onnx(path, values={nodes!r})",
        )
    own, inner = results[:count], dict(zip(nodes, results[count:], strict=False))
    if any(np.dtype(spec.dtype).kind != "f" for spec in subject.specs):
        raise SpecError(
            f"The model {subject.name} takes integers or truth values, which no box of real numbers describes.",
            at=query.property.source or None,
            got=", ".join(f"{np.dtype(s.dtype)} {list(s.shape)}" for s in subject.specs),
            fix="ask about a model of float inputs: fix the others in it",
        )
    pairs = [("input", network.inputs, list(subject.specs)), ("output", network.outputs, own)]
    pairs.append(("hidden value", network.hidden, [inner[tensor.node] for tensor in network.hidden]))
    for what, declared, found in pairs:
        shapes = lambda specs: ", ".join(f"{np.dtype(s.dtype)} {list(s.shape)}" for s in specs)
        if query.version == "1.0":  # flat
            sizes = sum(int(np.prod(spec.shape)) for spec in found)
            if sizes != sum(tensor.size for tensor in declared):
                raise SpecError(
                    f"The property does not fit the network, which has {sizes} {what}s.",
                    at=query.property.source or None,
                    got=f"{declared[0].size} {what}s declared",
                    fix=f"declare {declared[0].name}_0 to {declared[0].name}_{sizes - 1}, "
                    "or choose the network that it was written for",
                )
        elif len(declared) != len(found) or not all(map(_fits, declared, found)):
            raise SpecError(
                f"The {what}s of {subject.name} are not those that the property declares of {network.name}.",
                at=query.property.source or None,
                got=f"{shapes(found)}; declared: {', '.join(map(str, declared))}",
                fix="declare the types and shapes of the model, or give the model that the property was written for",
            )


def _fits(tensor: Tensor, spec: Any) -> bool:
    sizes = lambda shape: [n for n in shape if n != 1]
    return sizes(tensor.shape) == sizes(spec.shape) and tensor.dtype in ("real", np.dtype(spec.dtype).name)


def _require_isomorphic(query: Query, network: Network, mine: Subject, other: Subject) -> None:
    outline = lambda subject: [(e.name, [v.shape for v in e.outputs]) for e in subject.flat[0].equations]
    if not network.hidden and not query.exposed(network.like) and outline(mine) != outline(other):
        raise SpecError(
            f"{network.name} is declared isomorphic to {network.like}, but their models differ in more than weights.",
            at=query.property.source or None,
            got=f"{mine.name}: {len(outline(mine))} operations, {other.name}: {len(outline(other))}",
            fix=f"remove (isomorphic-to {network.like}), or give models of one architecture",
        )


def _specs(query: Query, models: Mapping[str, Subject]) -> tuple[tuple[jax.ShapeDtypeStruct, ...], bool]:
    """The inputs of the composed network: those of the networks, or one vector where some are equated."""
    specs = tuple(spec for network in query.networks for spec in models[network.name].specs)
    if query.places == tuple(range(len(query.places))):
        return specs, False
    return (jax.ShapeDtypeStruct((max(query.places) + 1,), np.float32),), True


class _Composed:
    """`apply` of the composed network: a pure function of parameters by network, and inputs."""

    def __init__(self, query: Query, models: Mapping[str, Subject], shared: bool):
        self.query, self.shared = query, shared
        self.parts = []
        start = 0
        for network in query.networks:
            subject = models[network.name]
            places = []
            for spec in subject.specs:
                size = int(np.prod(spec.shape))
                places.append(np.array(query.places[start : start + size], np.int32).reshape(spec.shape))
                start += size
            nodes = query.exposed(_model(network))
            own = len(_results(subject)) - len(nodes)
            chosen = [*range(own), *(own + nodes.index(tensor.node) for tensor in network.hidden)]
            self.parts.append((_model(network), subject.apply, places, chosen))

    def __call__(self, params: Any, *given: Any) -> Any:
        found, left = [], list(given)
        for name, apply, places, chosen in self.parts:
            inputs = [_taken(given[0], place) for place in places] if self.shared else left[: len(places)]
            left = left if self.shared else left[len(places) :]
            results = jax.tree.leaves(apply(params[name], *inputs))
            found += [results[i].ravel() for i in chosen]
        if self.query.products:
            found.append(self.products(jnp.concatenate([x.ravel() for x in given]), jnp.concatenate(found)))
        return tuple(found)

    def products(self, x: Any, y: Any) -> Any:
        """(products,) in order: those of the same exponents are computed together."""
        everything, groups = jnp.concatenate([x, y]), {}
        for number, factors in enumerate(self.query.products):
            powers = sorted(Counter(factors).items(), key=lambda item: (-item[1], item[0]))
            signature = tuple(n for _, n in powers)
            groups.setdefault(signature, []).append((number, [v if v >= 0 else len(x) - 1 - v for v, _ in powers]))
        values, order = [], []
        for signature, members in groups.items():
            order += [number for number, _ in members]
            total: Any = None
            for power, places in zip(signature, zip(*(places for _, places in members), strict=True), strict=True):
                factor = _taken(everything, np.array(places, np.int32))
                factor = jax.lax.integer_pow(factor, power) if power > 1 else factor
                total = factor if total is None else total * factor
            values.append(total)
        if len(values) == 1:
            return values[0]
        return _taken(jnp.concatenate(values), np.argsort(np.array(order)).astype(np.int32))


def _taken(x: Any, places: np.ndarray) -> Any:
    """Entries of a vector; a slice where they are neighbours."""
    flat = places.ravel()
    if np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
        return jax.lax.slice(x, (int(flat[0]),), (int(flat[0]) + flat.size,)).reshape(places.shape)
    return x.at[places].get(mode="promise_in_bounds")
