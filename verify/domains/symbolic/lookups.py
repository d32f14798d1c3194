"""What reading and writing at computed places means: slices with starts, gathers, scatters.

Places are affine indices, known numbers, or a `Chosen` index such as an argmax; starts that may lie outside are clamped
or filled case by case, as JAX does.
"""

from collections.abc import Callable, Sequence
from typing import Any

from axiom_jax.verification import derivation_checker as kernel
from axiom_jax.verification.derivation_checker import FALSE, TRUE
from axiom_jax.verification.domains.symbolic import scalars
from axiom_jax.verification.domains.symbolic.indexing import Affine, Index, Unexpressible, affine, flat, same
from axiom_jax.verification.domains.symbolic.primitives import symbolic
from axiom_jax.verification.domains.symbolic.scalars import Chosen, Scalar, conj
from axiom_jax.verification.domains.symbolic.tensors import Axis, Context, Step, Tensor, axes_of, shifted_cuts


def _holds(name: str, a: Affine, b: Affine, context: Context) -> Any:
    return scalars.compare(name, Scalar(a), Scalar(b), context.ranges).value


def placed(step: Step, start: Scalar, low: Affine, high: Affine, read: Callable[[Affine], Scalar],
           outside: Callable[[], Scalar] | None, boolean: bool) -> Scalar:  # fmt: skip
    """What is read at a start in low, ..., high; outside that range it is clamped, or replaced by `outside`."""
    context, value = step.context, start.value
    if isinstance(value, Chosen):
        name = value.fresh()
        k = Affine.name(name)
        context.ranges.bounds[name] = value.size
        if boolean or not (context.ranges.nonnegative(k - low) and context.ranges.nonnegative(high - k)):
            raise Unexpressible("a place that depends on values and may lie outside")
        entry = scalars.finite(read(k))
        picked = kernel.ite(value.holds(k), scalars.term(entry.value), kernel.ZERO)
        needed = context.each(name, value.size, entry.defined)
        total = kernel.total(name, scalars.index(value.size), picked)
        return Scalar(total, defined=scalars.union(start.defined, needed))
    if not isinstance(value, Affine) or not value.integral:
        raise Unexpressible("a place that depends on values")
    below, above = _holds("lt", value, low, context), _holds("lt", high, value, context)
    entry = read(value) if below is not TRUE and above is not TRUE else scalars.constant(0)
    for condition, end in ((above, high), (below, low)):
        if condition is not FALSE:
            entry = scalars.select(Scalar(condition), outside() if outside else read(end), entry, boolean)
    return Scalar(entry.value, entry.pinf, entry.ninf, scalars.union(start.defined, entry.defined))


def nested(step: Step, starts: Sequence[tuple[Scalar, Affine, Affine]], read: Callable[..., Scalar],
           outside: Callable[[], Scalar] | None, boolean: bool) -> Scalar:  # fmt: skip
    """The same for several starts, one after the other."""

    def inner(k: int, found: tuple[Affine, ...]) -> Scalar:
        if k == len(starts):
            return read(*found)
        start, low, high = starts[k]
        return placed(step, start, low, high, lambda i: inner(k + 1, (*found, i)), outside, boolean)

    return inner(0, ())


@symbolic.rule("dynamic_slice")
def _dynamic_slice(step: Step, x: Any, *starts: Any) -> Tensor:
    x, origins = step.lift(x), [step.lift(s) for s in starts]
    sizes = [affine(size, step.context.ranges) for size in x.shape]
    lengths = [affine(size, step.context.ranges) for size in step.shape]
    whole = [same(a, b) for a, b in zip(x.shape, step.shape, strict=True)]
    axes = [axis if full else Axis(size) for axis, full, size in zip(x.axes, whole, step.shape, strict=True)]
    moved = [k for k, full in enumerate(whole) if not full]  # a whole axis is clamped to start at 0
    for k in moved:
        start = origins[k].at()
        if isinstance(start.value, Affine) and start.value.integral:
            axes[k] = Axis(step.shape[k], (), shifted_cuts(x.axes[k], start.value, step.shape[k], step.context))

    def entry(*place: Index) -> Scalar:
        def read(*found: Affine) -> Scalar:
            full = list(place)
            for k, start in zip(moved, found, strict=True):
                full[k] = start + flat(place[k])
            return x.at(*full)

        given = [(origins[k].at(), Affine(), sizes[k] - lengths[k]) for k in moved]
        return nested(step, given, read, None, step.kind == "bool")

    return step.make(axes, entry)


@symbolic.rule("dynamic_update_slice")
def _dynamic_update_slice(step: Step, x: Any, update: Any, *starts: Any) -> Tensor:
    x, update, origins = step.lift(x), step.lift(update), [step.lift(s) for s in starts]
    context, boolean = step.context, step.kind == "bool"
    sizes = [affine(size, context.ranges) for size in x.shape]
    lengths = [affine(size, context.ranges) for size in update.shape]
    moved = [k for k in range(len(sizes)) if not same(x.shape[k], update.shape[k])]

    def entry(*place: Index) -> Scalar:
        def read(*found: Affine) -> Scalar:
            full, inside = list(place), []
            for k, start in zip(moved, found, strict=True):
                i = flat(place[k]) - start
                inside += [_holds("le", Affine(), i, context), _holds("lt", i, lengths[k], context)]
                full[k] = i
            condition = conj(inside)
            if condition is FALSE:
                return x.at(*place)
            return scalars.select(Scalar(condition), update.at(*full), x.at(*place), boolean)

        given = [(origins[k].at(), Affine(), sizes[k] - lengths[k]) for k in moved]
        return nested(step, given, read, None, boolean)

    return step.make(axes_of(step.shape), entry)


@symbolic.rule("gather")
def _gather(step: Step, x: Any, indices: Any) -> Tensor:
    """Source: the XLA operation semantics of Gather, with JAX's modes for places outside."""
    x, indices, context, params = step.lift(x), step.lift(indices), step.context, step.params
    numbers, boolean = params["dimension_numbers"], step.kind == "bool"
    sliced = [k for k in range(len(x.axes))
              if k not in numbers.collapsed_slice_dims and k not in numbers.operand_batching_dims]  # fmt: skip
    batch = [k for k in range(len(step.shape)) if k not in numbers.offset_dims]
    sizes = [affine(size, context.ranges) for size in x.shape]
    lengths = [affine(size, context.ranges) for size in params["slice_sizes"]]
    fill = params["mode"] is not None and "FILL" in str(params["mode"])
    axes = list(axes_of(step.shape))
    for k, offset in zip(sliced, numbers.offset_dims, strict=True):
        if k not in numbers.start_index_map and same(x.shape[k], params["slice_sizes"][k]):
            axes[offset] = x.axes[k]

    def outside() -> Scalar:
        value = params.get("fill_value")
        if value is None:
            return Scalar(Affine(), defined=(FALSE,)) if step.kind == "real" else _no_fill()
        return step.lift(value).at()

    def entry(*place: Index) -> Scalar:
        at = [place[k] for k in batch]
        starts = [indices.at(*at, Affine(c)) for c in range(len(numbers.start_index_map))]
        given = [(s, Affine(), sizes[k] - lengths[k]) for s, k in zip(starts, numbers.start_index_map, strict=True)]

        def read(*found: Affine) -> Scalar:
            full: list[Index] = [Affine()] * len(x.axes)
            for k, offset in zip(sliced, numbers.offset_dims, strict=True):
                full[k] = place[offset]
            for k, b in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
                full[k] = at[b]
            for k, start in zip(numbers.start_index_map, found, strict=True):
                full[k] = start + flat(full[k]) if start != Affine() else full[k]
            return x.at(*full)

        return nested(step, given, read, outside if fill else None, boolean)

    return step.make(axes, entry)


def _no_fill() -> Scalar:
    raise Unexpressible("what is read outside of an array of integers")


def _plain_update(step: Step) -> bool:
    """Whether old and new values are combined as the primitive's name says; `x.at[i].apply(f)` puts f in there."""
    update = step.params.get("update_jaxpr")
    if update is None:
        return step.equation.name == "scatter"
    update = getattr(update, "jaxpr", update)
    if step.equation.name == "scatter":
        return not update.eqns and len(update.invars) == 2 and list(update.outvars) == [update.invars[1]]
    (made, *others) = update.eqns or (None,)
    known = {"add": ("add", "add_any"), "mul": ("mul",), "min": ("min",), "max": ("max",)}[step.equation.name[-3:]]
    if made is None or others or made.primitive.name not in known:
        return False
    return list(made.invars) == list(update.invars) and list(made.outvars) == list(update.outvars)


@symbolic.rule("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(step: Step, x: Any, indices: Any, updates: Any) -> Tensor:
    """Updates at known places: each entry collects, in order, the updates that fall on it."""
    if not _plain_update(step):
        raise Unexpressible("a scatter with a function of its own")
    x, indices, updates = step.lift(x), step.lift(indices), step.lift(updates)
    numbers, context, boolean = step.params["dimension_numbers"], step.context, step.kind == "bool"
    if numbers.operand_batching_dims:
        raise Unexpressible("a scatter with batched places")
    clip = "CLIP" in str(step.params["mode"])
    window = [k for k in range(len(x.axes)) if k not in numbers.inserted_window_dims]
    batch = [k for k in range(len(updates.axes)) if k not in numbers.update_window_dims]
    counts = [affine(updates.axes[k].size, context.ranges) for k in batch]
    if not all(c.constant for c in counts):
        raise Unexpressible("a scatter of an unknown number of updates")
    lengths = {k: affine(updates.axes[u].size, context.ranges)
               for k, u in zip(window, numbers.update_window_dims, strict=True)}  # fmt: skip
    sizes = [affine(size, context.ranges) for size in x.shape]
    makes: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
        "add": scalars.add, "mul": scalars.mul, "min": scalars.minimum, "max": scalars.maximum,
    }  # fmt: skip
    combine = makes.get(step.equation.name[-3:], lambda old, new: new)

    def places() -> list[tuple[Affine, ...]]:
        found: list[tuple[Affine, ...]] = [()]
        for count in counts:
            found = [(*p, Affine(k)) for p in found for k in range(int(count.const))]
        return found

    def entry(*place: Index) -> Scalar:
        result = x.at(*place)
        for here in places():
            inside, offset = [], {k: flat(i) for k, i in enumerate(place)}
            for c, k in enumerate(numbers.scatter_dims_to_operand_dims):
                start = indices.at(*here, Affine(c)).value
                if not isinstance(start, Affine) or not start.integral:
                    raise Unexpressible("a place that depends on values")
                last = sizes[k] - lengths.get(k, Affine(1))
                known = context.ranges.nonnegative(start), context.ranges.nonnegative(last - start)
                if None in known or (clip and False in known):
                    raise Unexpressible("an update that may lie outside")
                inside += [TRUE] if all(known) else [FALSE]  # what lies outside is dropped
                offset[k] = flat(place[k]) - start
            for k in range(len(x.axes)):
                length = lengths.get(k, Affine(1))
                inside += [_holds("le", Affine(), offset[k], context), _holds("lt", offset[k], length, context)]
            condition = conj(inside)
            if condition is FALSE:
                continue
            full: list[Index] = [Affine()] * len(updates.axes)
            for b, i in zip(batch, here, strict=True):
                full[b] = i
            for u, k in zip(numbers.update_window_dims, window, strict=True):
                full[u] = offset[k]
            result = scalars.select(Scalar(condition), combine(result, updates.at(*full)), result, boolean)
        return result

    return step.make(axes_of(step.shape), entry)
