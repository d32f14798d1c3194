"""VNN-LIB 2.0 in: networks with tensors of inputs, hidden values and outputs, and asserts about their elements.

All elements are numbered once: inputs, then outputs (of each network its outputs, then its hidden
values), then products of variables. Inputs that the asserts equate are one input. So a query is a
`Property` of one network, which `vnnlib2_networks.compose` makes of the declared ones.
A VNN-LIB 1.0 text is a query of one network without a name.
Source: VNN-LIB 2.0, https://github.com/VNNLIB/VNNLIB-Standard (grammar.cf and the standard document).
"""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from axiom_jax._errors import SpecError
from axiom_jax.verification.property import Property
from axiom_jax.verification.spec.vnnlib import asserted, assertion, declarations, flat_names, undeclared
from axiom_jax.verification.spec.vnnlib_formulas import Formulas
from axiom_jax.verification.spec.vnnlib_script import NAME, Form, Script, read_text

VERSION = re.compile(r"<?(\d+)\.(\d+)>?")
TENSOR = re.compile(rf"({NAME})\[([\d,]*)\]")  # a type with a shape, or a variable with indices, without spaces
ELEMENTS = 20_000_000  # of all tensors
DECLARED = ("input", "hidden", "output")  # in this order
RELATIONS = ("equal-to", "isomorphic-to")
EQUALITIES = {"=": (True, True), "==": (True, True), "<=": (True, False), ">=": (False, True)}


@dataclass(frozen=True)
class Tensor:
    """A declared tensor.

    Args:
        name: its variable. dtype: "real", or a type of ONNX. shape: () for a scalar.
        node: the value of the model that it names, of a hidden tensor always; else "".
        token: where it is declared.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    node: str = ""
    token: int = 0

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Network:
    """A declared network.

    Args:
        name: "" for the one network of VNN-LIB 1.0.
        inputs, hidden, outputs: its tensors, in the order of the file.
        relation, like: "equal-to" or "isomorphic-to" and the name of another network, or "" twice.
        token: where it is declared.
    """

    name: str
    inputs: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    relation: str = ""
    like: str = ""
    token: int = 0


@dataclass(frozen=True)
class Query:
    """Networks and what is asked of them together.

    Args:
        networks: as declared.
        property: over the free inputs, and all outputs as the module says.
        places: for every element of every input tensor, in order, the number of its free input.
        products: variables that are multiplied, input i as i, output j as −1 − j; each is an output of its own.
        version: "1.0" or "2.0".
    """

    networks: tuple[Network, ...]
    property: Property
    places: tuple[int, ...]
    products: tuple[tuple[int, ...], ...] = ()
    version: str = "2.0"

    @cached_property  # `property` is a field here
    def needed(self) -> tuple[str, ...]:
        """The networks that a model is to be given for: all that are not equal to another one."""
        return tuple(network.name for network in self.networks if network.relation != "equal-to")

    def exposed(self, name: str) -> tuple[str, ...]:
        """The hidden values that the model of a network has to give besides its outputs, each once."""
        users = (n for n in self.networks if n.name == name or (n.relation == "equal-to" and n.like == name))
        return tuple(dict.fromkeys(tensor.node for network in users for tensor in network.hidden))


def read_query(path: str | os.PathLike[str]) -> Query:
    """Read a VNN-LIB file of either version, `.vnnlib` or `.vnnlib.gz`.

    Raises:
        SpecError: the file cannot be read, or `parse_query` refuses it.
    """
    return parse_query(read_text(path), os.fspath(path))


def parse_query(text: str, source: str = "") -> Query:
    """Parse VNN-LIB; the text says which version it is.

    Args:
        text: for 2.0 `(vnnlib-version <2.0>)`, networks, and asserts over `and`, `or` (also `not` and `=>`),
            `<= < >= > == !=`, and polynomials of tensor elements such as `X[0,1]`.
        source: the file, for messages.

    Returns:
        Networks, the property, and how the variables of both hang together.

    Raises:
        SpecError: with line and column: syntax, unknown or ill-typed variables, networks that do not fit each
            other, empty or unbounded boxes, asserts that cannot hold.

    Source: VNN-LIB 2.0, https://github.com/VNNLIB/VNNLIB-Standard.

    >>> net = "(vnnlib-version <2.0>) (declare-network f (declare-input X real [2]) (declare-output Y real [1,1]))"
    >>> query = parse_query(net + "(assert (<= 0 X[0])) (assert (<= X[0] 1)) (assert (== X[1] X[0]))"
    ...                     "(assert (>= (* X[0] Y[0,0]) 1.5))")
    >>> query.needed, query.places, query.products, query.property.cases[0].unsafe[0][0].output
    (('f',), (0, 0), ((-1, 0),), ((1, Fraction(-1, 1)),))
    """
    script = Script(text, source)
    forms = script.forms()
    words = ["" if isinstance(form, int) else script.head(form) for form in forms]
    if not {"vnnlib-version", "declare-network"}.intersection(words):
        return _first_version(script)
    networks: list[Network] = []
    tensors: dict[str, Tensor] = {}
    asserts: list[Form | int] = []
    for form, word in zip(forms, words, strict=True):
        if isinstance(form, int):
            if script.tokens[form].startswith("(declare"):
                raise script.error(form, *_unknown_command("declare-const"))
            asserts.append(form)
            continue
        match word:
            case "vnnlib-version":
                _require_version(script, form)
            case "declare-network":
                networks.append(_network(script, form, networks, tensors))
            case "assert":
                asserts.append(assertion(script, form))
            case _:
                raise script.error(form[0], *_unknown_command(word))
    if not networks:
        raise SpecError("No network is declared.", at=script.place, fix="add (declare-network f …)")
    return _query(script, networks, tensors, asserts)


def _unknown_command(word: str) -> tuple[str, str]:
    return f"There is no command {word!r} in VNN-LIB 2.0.", "use vnnlib-version, declare-network and assert"


def _first_version(script: Script) -> Query:
    declared, asserts = declarations(script)
    names, labels, outputs = flat_names(script, declared, None, None)
    formulas = Formulas(script, names, outputs, undeclared, products=True)
    prop = asserted(script, formulas, asserts, labels, "1.0")
    network = Network("", (Tensor("X", "real", (len(labels),)),), (), (Tensor("Y", "real", (outputs,)),))
    return Query((network,), prop, tuple(range(len(labels))), tuple(formulas.products or ()), "1.0")


def _query(
    script: Script, networks: Sequence[Network], tensors: Mapping[str, Tensor], asserts: Sequence[Form | int]
) -> Query:
    inputs = [tensor for network in networks for tensor in network.inputs]
    outputs = [tensor for network in networks for tensor in (*network.outputs, *network.hidden)]
    if sum(tensor.size for tensor in tensors.values()) > ELEMENTS:
        raise SpecError(f"The tensors have more than {ELEMENTS} elements.", at=script.place, fix="ask of fewer inputs")
    elements = [(name, tensor.token) for tensor in inputs for name in _elements(tensor)]
    numbers = {name: i for i, (name, _) in enumerate(elements)}
    places = _merged(script, asserts, numbers)
    names = {name: places[i] for name, i in numbers.items()}
    given = [name for tensor in outputs for name in _elements(tensor)]
    names |= {name: -1 - j for j, name in enumerate(given)}
    names |= {f"{name}[0]": names[name] for name, tensor in tensors.items() if not tensor.shape}  # seen in the wild
    labels: dict[int, tuple[str, int]] = {}
    for element, place in zip(elements, places, strict=True):
        labels.setdefault(place, element)
    formulas = Formulas(script, names, len(given), lambda word: _unknown(word, tensors), products=True)
    example = lambda: f"(>= {given[0]} 0)"
    prop = asserted(script, formulas, asserts, [labels[i] for i in range(len(labels))], "2.0", example)
    return Query(tuple(networks), prop, tuple(places), tuple(formulas.products or ()))


def _elements(tensor: Tensor) -> list[str]:
    """The names of a tensor's elements, in C order."""
    if not tensor.shape:
        return [tensor.name]
    indices = itertools.product(*(map(str, range(n)) for n in tensor.shape))
    return [f"{tensor.name}[{','.join(index)}]" for index in indices]


def _merged(script: Script, asserts: Sequence[Form | int], numbers: Mapping[str, int]) -> list[int]:
    """The free input of every input: those that asserts equate, `==` or `<=` both ways, are one."""
    below: set[tuple[int, int]] = set()
    open_parts = list(asserts)
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, int) or len(part) < 2 or not isinstance(part[1], int):
            continue
        word, rest = script.tokens[part[1]], part[2:]
        if word == "and":
            open_parts += rest
        elif word in EQUALITIES and len(rest) == 2 and all(isinstance(p, int) for p in rest):
            a, b = (numbers.get("".join(script.tokens[p].split())) for p in rest)
            if a is not None and b is not None and a != b:
                upward, downward = EQUALITIES[word]
                below |= {(a, b)} if upward else set()
                below |= {(b, a)} if downward else set()
    first = list(range(len(numbers)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for a, b in below:
        if (b, a) in below:
            a, b = sorted((root(a), root(b)))
            first[b] = a
    free = {i: n for n, i in enumerate(i for i in range(len(first)) if first[i] == i)}
    return [free[root(i)] for i in first]


def _unknown(word: str, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """What is wrong with a word that looks like a variable."""
    found = TENSOR.fullmatch("".join(word.split()))
    name = found[1] if found else word
    if name not in tensors:
        if not re.fullmatch(NAME, name):
            return None
        return f"The variable {name} is not declared.", f"declare it: (declare-output {name} real [1])"
    tensor = tensors[name]
    shape = f"[{','.join(map(str, tensor.shape))}]"
    example = f"{name}[{','.join(['0'] * len(tensor.shape))}]" if tensor.shape else name
    if found is None or found[2].count(",") + bool(found[2]) != len(tensor.shape):
        return f"{name} has shape {shape}, and takes an index for each axis.", f"write {example}"
    return f"The index of {''.join(word.split())} is outside of the shape {shape}.", f"write {example}"


def _require_version(script: Script, form: Form) -> None:
    words = [script.tokens[part] for part in form[2:] if isinstance(part, int)]
    found = VERSION.fullmatch(words[0]) if len(words) == len(form) - 2 == 1 else None
    if found is None:
        raise script.error(form[0], "This is no version.", "write (vnnlib-version <2.0>)")
    if found[1] != "2":
        what = f"Version {found[1]}.{found[2]} is not known here."
        raise script.error(form[0], what, "write it in version 1.0 or 2.0")


def _network(script: Script, form: Form, earlier: Sequence[Network], tensors: dict[str, Tensor]) -> Network:
    """Take `(declare-network f (equal-to g) (declare-input …) … (declare-hidden …) … (declare-output …) …)`."""
    example = "(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,3]))"
    if len(form) < 3 or not isinstance(form[2], int) or not re.fullmatch(NAME, script.tokens[form[2]]):
        raise script.error(form[0], "A network has a name.", f"write {example}")
    name = script.tokens[form[2]]
    if name in tensors or any(network.name == name for network in earlier):
        raise script.error(form[2], f"The name {name} is declared twice.", "rename one of them")
    found: dict[str, list[Tensor]] = {kind: [] for kind in DECLARED}
    relation, like = "", ""
    for part in form[3:]:
        if isinstance(part, int):
            raise script.error(part, f"{script.tokens[part]!r} is no declaration.", f"write {example}")
        word = script.head(part)
        if word in RELATIONS:
            if relation or any(found.values()):
                what = "A network is like one other at most, and says so first."
                raise script.error(part[0], what, f"write ({word} …) once, after the name")
            relation, like = word, _like(script, part, earlier)
        elif word.removeprefix("declare-") in DECLARED and word.startswith("declare-"):
            kind = word.removeprefix("declare-")
            if any(found[later] for later in DECLARED[DECLARED.index(kind) + 1 :]):
                raise script.error(part[0], "Inputs come first, then hidden values, then outputs.", "sort them")
            tensor = _tensor(script, part, kind)
            if tensor.name in tensors or tensor.name == name or any(n.name == tensor.name for n in earlier):
                raise script.error(tensor.token, f"The name {tensor.name} is declared twice.", "rename one of them")
            found[kind].append(tensor)
            tensors[tensor.name] = tensor
        else:
            raise script.error(part[0], f"There is no declaration {word!r} in a network.", f"write {example}")
    for kind in ("input", "output"):
        if not found[kind]:
            raise script.error(form[0], f"The network {name} declares no {kind}.", f"add (declare-{kind} …)")
    inputs, hidden, outputs = (tuple(found[kind]) for kind in DECLARED)
    made = Network(name, inputs, hidden, outputs, relation, like, form[2])
    if relation:
        _require_likeness(script, made, next(network for network in earlier if network.name == like))
    return made


def _like(script: Script, form: Form, earlier: Sequence[Network]) -> str:
    """The name in `(equal-to f)`."""
    words = [script.tokens[part] for part in form[2:] if isinstance(part, int)]
    if len(words) != 1 or len(form) != 3:
        raise script.error(form[0], "This names one network.", "write (equal-to f)")
    found = next((network for network in earlier if network.name == words[0]), None)
    if found is None:
        raise script.error(form[2], f"No network {words[0]} is declared before.", "declare it first")
    if found.relation:
        what = f"{found.name} is itself {found.relation} {found.like}."
        raise script.error(form[2], what, f"refer to {found.like}")
    return found.name


def _require_likeness(script: Script, network: Network, other: Network) -> None:
    """Equal networks declare the same tensors, isomorphic ones the same shapes."""
    typed = network.relation == "equal-to"
    said = lambda tensor: (tensor.shape, tensor.dtype if typed else None)
    pairs = [("inputs", network.inputs, other.inputs), ("outputs", network.outputs, other.outputs)]
    nodes = {tensor.node: tensor for tensor in other.hidden}
    shared = [tensor for tensor in network.hidden if tensor.node in nodes]
    pairs.append(("hidden values", tuple(shared), tuple(nodes[tensor.node] for tensor in shared)))
    for what, mine, theirs in pairs:
        if [said(tensor) for tensor in mine] != [said(tensor) for tensor in theirs]:
            raise script.error(
                network.token,
                f"{network.name} is {network.relation} {other.name}, and declares other {what}.",
                f"declare {what} of the same {'types and ' if typed else ''}shapes as {other.name}",
            )


def _tensor(script: Script, form: Form, kind: str) -> Tensor:
    """Take `(declare-input X float32 [1,3])`, with a name of the model's in quotes after it."""
    texts = ["".join(script.tokens[p].split()) if isinstance(p, int) and script.tokens[p][0] != '"' else
             script.tokens[p] if isinstance(p, int) else "(" for p in form[2:]]  # fmt: skip
    if len(texts) > 2 and texts[2][:1] == "[":  # a comment stands between the type and its shape
        texts[1:3] = [texts[1] + texts[2]]
    typed = TENSOR.fullmatch(texts[1]) if len(texts) > 1 else None
    quoted = len(texts) == 3 and texts[2][0] == '"' and len(texts[2]) > 2
    sizes = typed[2].split(",") if typed and typed[2] else []
    good = typed is not None and re.fullmatch(NAME, texts[0]) and all(0 < len(n) < 10 for n in sizes)
    if not good or len(texts) != 2 + quoted or (kind == "hidden" and not quoted):
        name = ' "node"' if kind == "hidden" else ""
        what = f"This declares no {kind if kind != 'hidden' else 'hidden value'}: a name, a type, a shape" + (
            ", and a name of the model's in quotes." if name else "."
        )
        raise script.error(form[0], what, f"write (declare-{kind} Z float32 [1,2]{name})")
    assert typed is not None
    shape = tuple(map(int, sizes))
    if 0 in shape:
        raise script.error(form[0], f"The tensor {texts[0]} has no elements.", "give every axis a size of 1 or more")
    dtype = "real" if typed[1].lower() == "real" else typed[1].lower()
    return Tensor(texts[0], dtype, shape, texts[2][1:-1] if quoted else "", form[2])
