"""One explanation an operation: what `x @ w`, a sum, a reshape, `jnp.concatenate`, an einsum or attention takes.

Each looks for a rewritten expression that fits; only what was tried is offered as a fix.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from axiom_jax import _shapes_mismatch as mismatch
from axiom_jax._errors import ShapeError
from axiom_jax._shapes_failure import Failure, sentence, short
from axiom_jax._shapes_text import is_number, pattern, product_text, shape_text


def matmul(failure: Failure) -> ShapeError | None:
    if len(failure.operands) != 2:
        return None
    (left, right), (a, b) = failure.operands, failure.shapes
    if not a.shape or not b.shape:
        return None
    rows = b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if a.shape[-1] == rows:  # then it is about what stands before the matrices
        return broadcast(failure) if not _broadcasts(a.shape[:-2], b.shape[:-2]) else None
    write = _binary(failure)
    flat = math.prod(a.shape[1:]) if len(a.shape) > 2 else None
    swapped = method(right, "swapaxes", -1, -2) if len(b.shape) > 2 else ast.Attribute(right, "T")
    candidates = [
        write(_flattened(left), right) if flat == rows else None,
        write(left, swapped) if len(b.shape) > 1 and b.shape[-1] == a.shape[-1] else None,
        write(right, left) if len(a.shape) > 1 and b.shape[-1] == a.shape[-2] else None,
    ]
    fixed = failure.first(candidates)
    if fixed is None and len(b.shape) == 2:
        fix = f"give {short(right)} the shape ({a.shape[-1]}, {b.shape[-1]})"
    else:
        fix = f"write {fixed}" if fixed else None
    return ShapeError(
        f"`{failure.place.source}` multiplies {a.shape[-1]} columns with {rows} rows.",
        at=failure.place.at, got=failure.got(), fix=fix,
    )  # fmt: skip


def broadcast(failure: Failure) -> ShapeError | None:
    """Elementwise operations: equal sizes, or 1, on every axis, counted from the last."""
    if len(failure.operands) != 2:
        return None
    (left, right), (a, b) = failure.operands, failure.shapes
    if failure.operation != "matmul" and _broadcasts(a.shape, b.shape):
        return None
    write, smaller = _binary(failure), len(b.shape) <= len(a.shape)
    large = a if smaller else b
    candidates = (
        write(left, changed) if smaller else write(changed, right)
        for changed in _aligned(right if smaller else left, b if smaller else a, large)
    )
    fixed = failure.first(candidates, lambda result: getattr(result, "shape", None) == large.shape)
    what = f"`{failure.place.source}` has operands whose sizes differ."
    return ShapeError(
        what, at=failure.place.at, got=failure.got(), fix=f"write {fixed}" if fixed else _equal(failure, a, b)
    )


def _broadcasts(a: Sequence[Any], b: Sequence[Any]) -> bool:
    pairs = itertools.zip_longest(reversed(a), reversed(b), fillvalue=1)
    return all(p == q or 1 in (p, q) for p, q in pairs)


def _aligned(node: ast.expr, spec: Any, large: Any) -> Iterator[ast.expr]:
    missing = len(large.shape) - len(spec.shape)
    for place in range(1, len(spec.shape) + 1) if missing else ():
        # all axes, with the missing ones put in after the first `place`
        before = ", ".join(":" for _ in range(place))
        after = "".join(", :" for _ in range(len(spec.shape) - place))
        yield _indexed(node, f"{before}{', None' * missing}{after}")
    if len(spec.shape) == 2:
        yield ast.Attribute(node, "T")
    if len(spec.shape) > 2:
        yield _call("jnp.moveaxis", node, 1, -1)
        yield _call("jnp.moveaxis", node, -1, 1)
        yield method(node, "swapaxes", -1, -2)


def _equal(failure: Failure, a: Any, b: Any) -> str:
    (left, right), names = failure.operands, (short(failure.operands[0]), short(failure.operands[1]))
    if len(a.shape) == len(b.shape):
        different = [i for i, (p, q) in enumerate(zip(a.shape, b.shape, strict=True)) if p != q and 1 not in (p, q)]
        p, q = a.shape[different[0]], b.shape[different[0]]
        if not is_number(p) and not is_number(q) and str(p).isidentifier() and str(q).isidentifier():
            return f"use one name for both in the annotations: {p} and {q} may differ"
        if different == [len(a.shape) - 1] and is_number(p) and is_number(q):
            fixed = ast.unparse(_with(failure, ast.BinOp(left, ast.MatMult(), ast.Name("w")), right))
            return f"project {names[0]} first: write {fixed} with w of shape ({p}, {q})"
        axis = different[0]
        return f"make axis {axis} equal: it is {p} in {names[0]} and {q} in {names[1]}"
    return f"give both the same number of axes: {names[0]} has {len(a.shape)}, {names[1]} has {len(b.shape)}"


def reshape(failure: Failure) -> ShapeError | None:
    if not failure.shapes:
        return None
    first = next(i for i, spec in enumerate(failure.shapes) if spec is not None)
    before = failure.shapes[first]
    arguments = [a for a in failure.node.args if a is not failure.operands[first]]
    wanted = [failure.value(argument) for argument in arguments]
    if len(wanted) == 1 and isinstance(wanted[0], (tuple, list)):
        wanted = list(wanted[0])
    if not wanted or any(size is None for size in wanted):
        return None
    operand = short(failure.operands[first])
    return reshaped(failure.place.source or "reshape", operand, failure.place.at, before.shape, wanted, before.dtype)


def reshaped(source: str, operand: str, at: str, before: Sequence[Any], after: Sequence[Any], dtype: Any) -> ShapeError:
    """The error for a reshape whose sizes do not multiply to the same number."""
    total, rest = math.prod(before), tuple(after)
    symbolic = bool(before) and not is_number(before[0])
    if symbolic:  # the batch stays, so only what follows it is spread anew
        keeps = bool(rest) and rest[0] == before[0]
        rest = rest[1:] if keeps or (rest and rest[0] == -1 and len(rest) > 1) else rest
        inner = math.prod(before[1:])
        head = f"{operand}.shape[0], "
    else:
        inner, head = total, ""
    if inner == math.prod(rest) and -1 not in rest:
        sizes = ", ".join(map(str, rest))
    else:
        near = mismatch.nearest(rest, inner) if is_number(inner) and all(map(is_number, rest)) else None
        sizes = ", ".join(map(str, near)) if near and len(rest) > 1 else "-1"
    counted = product_text(before) if all(map(is_number, before)) else str(total)
    count = str(math.prod(size for size in after if size != -1))
    verb, wanted = "changes the number of elements", count
    if -1 in after:
        verb, wanted = "cannot spread its elements evenly", f"a multiple of {count}"
    got = f"{operand} {pattern(dtype, *before)} ({counted} elements); expected {wanted}"
    return ShapeError(f"`{source}` {verb}.", at=at, got=got, fix=f"write {operand}.reshape({head}{sizes})")


def concatenate(failure: Failure) -> ShapeError | None:
    """Sizes must agree on all axes but one."""
    shapes = [tuple(spec.shape) for spec in failure.shapes]
    if len(shapes) < 2:
        return None
    candidates: list[ast.expr | None] = []
    ranks = {len(shape) for shape in shapes}
    function = ast.unparse(failure.node.func)
    listed = ", ".join(ast.unparse(node) for node in failure.operands)
    if len(ranks) == 1:
        for axis in [-1, *range(len(shapes[0]) - 1)]:
            candidates.append(_parsed(f"{function.replace('stack', 'concatenate')}([{listed}], axis={axis})"))
    else:
        most = max(ranks)
        for axis in (-1, 0, 1):
            pieces = [
                ast.unparse(node if len(shape) == most else _call("jnp.expand_dims", node, axis))
                for node, shape in zip(failure.operands, shapes, strict=True)
            ]
            options = "".join(f", {ast.unparse(k)}" for k in failure.node.keywords)
            candidates.append(_parsed(f"{function}([{', '.join(pieces)}]{options})"))
            candidates += [_parsed(f"{function}([{', '.join(pieces)}], axis={other})") for other in (-1, 0)]
    fixed = failure.first(candidates)
    differ = [i for i in range(min(ranks)) if len({str(shape[i]) for shape in shapes}) > 1]
    fix = f"write {fixed}" if fixed else f"make them equal on all axes but one; they differ on {differ}"
    what = f"`{failure.place.source}` joins arrays that differ beside the joined axis."
    return ShapeError(what, at=failure.place.at, got=failure.got(), fix=fix)


def einsum(failure: Failure) -> ShapeError | None:
    """One size a letter."""
    text = failure.value(failure.node.args[0])
    if not isinstance(text, str):
        return None
    inputs, arrow, output = text.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(failure.shapes):
        return None
    clash = _clash(terms, failure.shapes)
    if clash is None:
        return None
    function, rest = ast.unparse(failure.node.func), [ast.unparse(node) for node in failure.operands]
    candidates = [
        _parsed(f"{function}({changed + arrow + after!r}, {', '.join(rest)})")
        for changed, after in _relabelled(terms, output, failure.shapes)
    ]
    fixed = failure.first(candidates)
    what = f"`{failure.place.source}` {clash}."
    return ShapeError(what, at=failure.place.at, got=failure.got(), fix=f"write {fixed}" if fixed else None)


def _clash(terms: Sequence[str], specs: Sequence[Any]) -> str | None:
    sizes: dict[str, Any] = {}
    for term, spec in zip(terms, specs, strict=True):
        before, spread, after = term.partition("...")
        letters, rank = before + after, len(spec.shape)
        if len(letters) > rank or (not spread and len(letters) < rank):
            return f"names {len(letters)} axes ({term}) of an array of {rank}"
        axes = (*spec.shape[: len(before)], *spec.shape[rank - len(after) :])
        for letter, size in zip(letters, axes, strict=True):
            if sizes.setdefault(letter, size) != size:
                return f"gives the letter {letter} two sizes, {sizes[letter]} and {size}"
    return None


def _relabelled(terms: Sequence[str], output: str, specs: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Subscripts near those given: one operand's letters in another order, or "..." for axes that have none."""
    for i in reversed(range(len(terms))):
        for letters in itertools.permutations(terms[i]) if "." not in terms[i] and len(terms[i]) <= 5 else ():
            changed = [*terms[:i], "".join(letters), *terms[i + 1 :]]
            if changed != list(terms):
                yield ",".join(changed), output
    spread = [f"...{t}" if "." not in t and len(t) < len(s.shape) else t for t, s in zip(terms, specs, strict=True)]
    if spread != list(terms):
        yield ",".join(spread), output if "." in output or not output else f"...{output}"


def attention(failure: Failure) -> ShapeError | None:
    """`jax.nn.dot_product_attention` takes [batch, length, heads, size]."""
    if len(failure.operands) < 3:
        return None
    query, key, value = failure.operands[:3]
    q, k, v = failure.shapes[:3]
    if (
        k.shape == v.shape
        and len(q.shape) == len(k.shape)
        and (q.shape[:-3], *q.shape[-2:]) == (k.shape[:-3], *k.shape[-2:])
    ):
        return None
    function = ast.unparse(failure.node.func)
    flipped = [method(node, "swapaxes", 1, 2) for node in (query, key, value)]
    choices = [
        (query, key, flipped[2]),
        (query, flipped[1], value),
        (query, flipped[1], flipped[2]),
        (flipped[0], key, value),
    ]
    fixed = failure.first(_parsed(f"{function}({', '.join(map(ast.unparse, choice))})") for choice in choices)
    fix = f"write {fixed}" if fixed else None
    if fixed is None and k.shape != v.shape:
        fix = f"give {short(value)} the shape of {short(key)}, {k.shape}".replace("'", "")
    elif fixed is None and len(q.shape) == 4 and len(k.shape) == 4:
        wanted = ", ".join(map(str, (q.shape[0], k.shape[1], *q.shape[2:])))
        fix = f"give {short(key)} and {short(value)} the shape ({wanted})"
    what = f"`{failure.place.source}` takes query, key and value of one batch, head count and head size."
    return ShapeError(what, at=failure.place.at, got=failure.got(), fix=fix)


def convolution(failure: Failure) -> ShapeError | None:
    """`jax.lax` convolutions: the image's channels are the kernel's inputs."""
    if len(failure.operands) < 2:
        return None
    image, kernel = failure.operands[:2]
    options = [ast.unparse(node) for node in failure.node.args[2:]]
    options += [ast.unparse(k) for k in failure.node.keywords if k.arg != "dimension_numbers"]
    named = [ast.unparse(k) for k in failure.node.keywords if k.arg == "dimension_numbers"]
    function, channels_last = ast.unparse(failure.node.func), "dimension_numbers=('NHWC', 'HWIO', 'NHWC')"

    def call(x: ast.expr, layout: Sequence[str]) -> ast.expr:
        return _parsed(f"{function}({', '.join([ast.unparse(x), ast.unparse(kernel), *options, *layout])})")

    candidates = [
        call(_indexed(image, "..., None"), named) if len(failure.shapes[0].shape) == 3 else None,
        call(image, [channels_last]) if not named and "general" in function else None,
        call(_call("jnp.moveaxis", image, 1, -1), named) if named else None,
        call(_call("jnp.moveaxis", image, -1, 1), named),
    ]
    fixed = failure.first(candidates, lambda result: all(size != 0 for size in result.shape))
    what = f"`{failure.place.source}` has an image and a kernel that do not fit."
    return ShapeError(f"{what[:-1]}: {sentence(failure.error)}.", at=failure.place.at, got=failure.got([0, 1]),
                      fix=f"write {fixed}" if fixed else None)  # fmt: skip


OPERATIONS: dict[str, Callable[[Failure], ShapeError | None]] = {
    **dict.fromkeys(("matmul", "dot"), matmul),
    **dict.fromkeys(
        ("broadcast", "add", "subtract", "sub", "multiply", "mul", "divide", "true_divide", "div", "maximum", "minimum",
         "power", "max", "min"), broadcast),
    **dict.fromkeys(("concatenate", "stack", "hstack", "vstack"), concatenate),
    **dict.fromkeys(("conv_general_dilated", "conv", "conv_with_general_padding"), convolution),
    "reshape": reshape, "einsum": einsum, "dot_product_attention": attention,
}  # fmt: skip


def foreign_call(failure: Failure) -> ShapeError | None:
    """A call of a flax or equinox module that says which sizes it takes."""
    found = foreign(failure.callee, failure.shapes[0]) if failure.shapes else None
    if found is None:
        return None
    text, wrong = found
    if wrong.fix.startswith("add Flatten"):
        flat = math.prod(failure.shapes[0].shape[1:])
        call = ast.unparse(ast.Call(failure.node.func, [_flattened(failure.operands[0])], []))
        fix = f"write {call}" + ("" if f"({flat}," in text else f", and make it {wrong.fix.partition(' >> ')[2]}")
    else:
        fix = wrong.fix
    got = f"{shape_text(failure.shapes[0])}; expected {wrong.expected}"
    return ShapeError(f"`{failure.place.source}`: {text} cannot take its input.", at=failure.place.at, got=got, fix=fix)


def foreign(module: Any, x: Any) -> tuple[str, mismatch.Mismatch] | None:
    """The text of a layer of flax.nnx or equinox and why it refuses `x`."""
    kind, package = type(module).__name__, type(module).__module__
    if not package.startswith(("flax.nnx", "equinox.nn")) or (package.startswith("equinox") and kind != "Linear"):
        return None
    ending = ", rngs=rngs" if package.startswith("flax") else ", key=key"
    text = _rewritten(module, {}) + ")"
    # a layer that is to be written anew needs what it was constructed with
    write = lambda **changes: _rewritten(module, changes) + ending + ")" if changes else text
    match kind:
        case "Linear":
            wrong = mismatch.dense(x, module.in_features, module.out_features, write)
        case "Conv":
            kernel, after = module.kernel_size, lambda sizes: tuple(sizes)
            wrong = mismatch.conv(x, module.in_features, module.out_features, kernel, write, after, True)
        case "BatchNorm" | "LayerNorm" | "RMSNorm":
            wrong = mismatch.norm(x, module.num_features, write)
        case "Embed":
            wrong = mismatch.embedding(x, module.features)
        case "MultiHeadAttention":
            wrong = mismatch.attention(x, module.in_features, write)
        case _:
            wrong = None
    return (text, wrong) if wrong is not None else None


def _rewritten(module: Any, changes: dict[str, Any]) -> str:
    kind = type(module).__name__
    return f"{kind}({', '.join(str(changes.get(name, getattr(module, name))) for name in SIZES.get(kind, ()))}"


SIZES = {
    "Linear": ("in_features", "out_features"), "Conv": ("in_features", "out_features", "kernel_size"),
    "BatchNorm": ("num_features",), "LayerNorm": ("num_features",), "RMSNorm": ("num_features",),
    "Embed": ("num_embeddings", "features"), "MultiHeadAttention": ("num_heads", "in_features"),
}  # fmt: skip


def _binary(failure: Failure) -> Callable[[ast.expr, ast.expr], ast.expr]:
    return lambda left, right: _with(failure, left, right)


def _with(failure: Failure, left: ast.expr, right: ast.expr) -> ast.expr:
    """The failing expression with other operands."""
    node = failure.node
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        return ast.BinOp(left, node.op, right)
    if isinstance(node, ast.Compare):
        return ast.Compare(left, node.ops, [right])
    if failure.callee is None:  # a method of an array
        return ast.Call(ast.Attribute(left, node.func.attr), [right], [])
    return ast.Call(node.func, [left, right], [])


def _flattened(node: ast.expr) -> ast.expr:
    return _parsed(f"({ast.unparse(node)}).reshape(({ast.unparse(node)}).shape[0], -1)")


def method(node: ast.expr, name: str, *arguments: int) -> ast.expr:
    return _parsed(f"({ast.unparse(node)}).{name}({', '.join(map(str, arguments))})")


def _call(function: str, node: ast.expr, *arguments: int) -> ast.expr:
    return _parsed(f"{function}({', '.join([ast.unparse(node), *map(str, arguments)])})")


def _indexed(node: ast.expr, index: str) -> ast.expr:
    return _parsed(f"({ast.unparse(node)})[{index}]")


def _parsed(text: str) -> Any:
    return ast.parse(text, mode="eval").body
