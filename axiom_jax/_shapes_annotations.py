"""Shapes as the user annotates them: jaxtyping annotations, read into symbolic sizes and matched.

`Float[Array, "batch 28 28 1"]`, `"n"`, `"2*n+1"` and numbers are understood; "..." and "*rest" stand for
0, 1 and 2 axes in turn. A name means the same size in all annotations of one function.
"""

import ast
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import jax
import jax.numpy as jnp

from axiom_jax._errors import ShapeError
from axiom_jax._shapes_text import dtype_text, is_number

RANKS = (0, 1, 2)
KINDS = {"Float": jnp.floating, "Int": jnp.integer, "UInt": jnp.unsignedinteger, "Integer": jnp.integer,
         "Bool": jnp.bool_, "Complex": jnp.complexfloating, "Inexact": jnp.inexact, "Real": jnp.number,
         "Num": jnp.number, "Shaped": jnp.generic}  # fmt: skip
DEFAULTS = {"Int": "int32", "UInt": "uint32", "Integer": "int32", "Bool": "bool", "Complex": "complex64"}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
             ast.Mod: operator.mod, ast.Pow: operator.pow}  # fmt: skip


@dataclass(frozen=True)
class Annotation:
    """An annotated array.

    Args:
        kind: jaxtyping's word: "Float", "Int32", "Shaped".
        dims: one token an axis: a number, a name, an expression, "..." or "*name".
        promises: names of properties that the annotation states, such as "ValidProbabilities".
    """

    kind: str
    dims: tuple[str, ...]
    promises: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.kind}[{', '.join(self.dims)}]"

    @property
    def dtype(self) -> str:
        """The dtype that stands for the annotation while tracing."""
        return DEFAULTS.get(self.kind, "float32" if self.kind in KINDS else self.kind.lower())

    def accepts(self, dtype: Any) -> bool:
        if self.kind in KINDS:
            return jnp.issubdtype(dtype, KINDS[self.kind])
        return jnp.dtype(dtype) == jnp.dtype(self.dtype)


@dataclass(frozen=True)
class Promise:
    """What an annotation says beyond the shape; kept in the metadata of `typing.Annotated`."""

    name: str


if TYPE_CHECKING:
    from typing import Literal as Logits
    from typing import Literal as Probabilities
else:

    class Probabilities:
        """`Probabilities["batch 10"]`: floats that promise to be valid probabilities over the last axis.

        The same as `Annotated[Float[Array, "batch 10"], Promise("ValidProbabilities")]`.

        >>> read(Probabilities["batch 10"]).promises
        ('ValidProbabilities',)
        """

        def __class_getitem__(cls, dims: str) -> Any:
            return Annotated[_floats(dims), Promise("ValidProbabilities")]

    class Logits:
        """`Logits["batch 10"]`: floats of any sign, one a class; the same as `Float[Array, "batch 10"]`."""

        def __class_getitem__(cls, dims: str) -> Any:
            return _floats(dims)


def _floats(dims: str) -> Any:
    from jaxtyping import Array, Float

    return Float[Array, dims]


def read(annotation: Any) -> Annotation | None:
    """The array that an annotation describes; None if it describes something else.

    >>> from jaxtyping import Array, Float
    >>> read(Float[Array, "batch 2*n+1"]).dims
    ('batch', '2*n+1')
    """
    promises: tuple[str, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        promises = tuple(_promised(item) for item in metadata)
    dims = getattr(annotation, "dim_str", None)
    if not isinstance(dims, str):
        return None
    kind = getattr(annotation.dtype, "__name__", "Shaped")
    return Annotation(kind, tuple(map(_token, dims.split())), promises)


def _promised(item: Any) -> str:
    return item.name if isinstance(item, Promise) else type(item).__name__


def _token(token: str) -> str:
    bare = token.rpartition("=")[2] if "=" in token else token  # "rows=4" documents the number 4
    if bare.startswith(("#", "?")) or "{" in bare:
        raise ShapeError(
            f"The axis {token!r} of an annotation cannot be proved for all sizes.",
            got=f"{token!r}; expected a number, a name, an expression such as 2*n+1, '...' or '*name'",
            fix=f"write {bare.lstrip('#?').strip('{}') or 'n'} instead of {bare}",
        )
    return bare


def names(annotations: Iterable[Annotation]) -> list[str]:
    """Every size that annotations name, in order, once."""
    found: dict[str, None] = {}
    for token in (token for annotation in annotations for token in annotation.dims):
        if not variadic(token) and token != "_":
            tree = _expression(token)
            found |= {node.id: None for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return list(found)


def variadic(token: str) -> bool:
    return token == "..." or token.startswith("*")


def symbols(wanted: Sequence[str], constraints: Sequence[str] = ()) -> dict[str, Any]:
    """Symbolic sizes, each at least 1, of one scope in which the constraints hold."""
    if not wanted:
        return {}
    scope = jax.export.SymbolicScope(constraints)
    return dict(zip(wanted, jax.export.symbolic_shape(", ".join(wanted), scope=scope), strict=True))


def spec(annotation: Annotation, sizes: dict[str, Any], rank: int = 1) -> jax.ShapeDtypeStruct:
    """The array of an annotation with symbolic sizes; `rank` axes stand for "..." and "*name".

    Args:
        sizes: the symbols of all names, extended by those for axes without a name.
    """
    shape: list[Any] = []
    for axis, token in enumerate(annotation.dims):
        if variadic(token):
            name = token.strip("*._") or f"any{axis}"
            axes = tuple(_fresh(f"{name}_{i}", sizes) for i in range(rank))
            sizes.setdefault(token, axes)
            shape += axes
        else:
            shape.append(_fresh(f"size{axis}", sizes) if token == "_" else value(token, sizes))
    return jax.ShapeDtypeStruct(tuple(shape), annotation.dtype)


def _fresh(name: str, sizes: dict[str, Any]) -> Any:
    if name not in sizes:
        scope = next((size.scope for size in sizes.values() if hasattr(size, "scope")), None)
        sizes[name] = jax.export.symbolic_shape(name, scope=scope)[0]
    return sizes[name]


def value(token: str, sizes: Mapping[str, Any]) -> Any:
    """A token's size; raises `KeyError` for a name without one."""

    def walk(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name):
                return sizes[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](walk(left), walk(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -walk(operand)
        raise ShapeError(
            f"The size {token!r} of an annotation is not understood.",
            got=ast.unparse(node),
            fix="use numbers, names, +, -, *, // and %",
        )

    return walk(_expression(token).body)


def _expression(token: str) -> ast.Expression:
    try:
        return ast.parse(token, mode="eval")
    except SyntaxError:
        raise ShapeError(
            f"The size {token!r} of an annotation is not understood.",
            got=token,
            fix="use numbers, names, +, -, *, // and %, without blanks",
        ) from None


def matches(annotation: Annotation, shape: Sequence[Any], sizes: dict[str, Any]) -> bool:
    """Whether a shape is what the annotation says; names without a size are bound to the one found.

    >>> sizes = {}
    >>> matches(Annotation("Float", ("n", "...", "2*n")), (3, 7, 7, 6), sizes), sizes
    (True, {'n': 3})
    """
    dims, shape = list(annotation.dims), list(shape)
    spread = next((i for i, token in enumerate(dims) if variadic(token)), None)
    if spread is not None:
        end = len(shape) - (len(dims) - spread - 1)
        if end < spread:
            return False
        rest, token = tuple(shape[spread:end]), dims[spread]
        shape[spread:end] = []
        dims[spread : spread + 1] = []
        if token != "..." and sizes.setdefault(token, rest) != rest:
            return False
    if len(dims) != len(shape):
        return False
    plain = [(token, size) for token, size in zip(dims, shape, strict=True) if token.isidentifier() and token != "_"]
    if any(sizes.setdefault(token, size) != size for token, size in plain):
        return False
    others = [(token, size) for token, size in zip(dims, shape, strict=True) if not token.isidentifier()]
    return all(_equals(token, size, sizes) for token, size in others)


def _equals(token: str, size: Any, sizes: dict[str, Any]) -> bool:
    unbound = [name for name in names([Annotation("Shaped", (token,))]) if name not in sizes]
    if not unbound:
        return bool(value(token, sizes) == size)
    if len(unbound) > 1:
        return is_number(size)  # nothing is known of a number; what is symbolic has to be proved
    name = unbound[0]  # it occurs in expressions only: look for a size that explains the number
    candidates = range(1, size + 2) if is_number(size) else ()
    found = next((n for n in candidates if value(token, {**sizes, name: n}) == size), None)
    if found is not None:
        sizes[name] = found
    return found is not None


def described(array: Any) -> str:
    """An annotation that an array would satisfy, as the user would write it."""
    kind = dtype_text(array.dtype)
    short = next((word for word in ("Float", "Int", "Bool") if kind.startswith(word)), kind)
    return f'{short}[Array, "{" ".join(str(size).replace(" ", "") for size in array.shape)}"]'
