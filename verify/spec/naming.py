"""What a name in a statement stands for: given names, jax.nn and jnp, then the caller's own."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from axiom_jax._errors import SpecError
from axiom_jax.model import Model
from axiom_jax.verification.regions import L1, L2, Box, Everything, Linf
from axiom_jax.verification.spec.parsing import problem
from axiom_jax.verification.spec.syntax import Span

REGIONS = (Box, Linf, L2, L1, Everything)
LIBRARIES = {"jax", "jaxlib", "numpy", "flax", "axiom_jax", "math", "builtins", "scipy", "torch", "optax"}
ROOTS = {"jnp": "jax.numpy", "jax.numpy": "jax.numpy", "jax.nn": "jax.nn", "jax.lax": "jax.lax", "lax": "jax.lax",
         "jax.scipy": "jax.scipy"}  # fmt: skip
ALIASES = {"ln": "log", "logistic": "sigmoid", "norm": "jnp.linalg.norm"}
EULER, PI = ("e",), ("π", "pi")


@dataclass(frozen=True)
class Function:
    """A function that a statement calls.

    Args:
        call: of arrays. ours: whether it is one of jax's, by a bare name.
        model: the model behind it, if it is one.
    """

    call: Callable[..., Any]
    ours: bool = False
    model: Model | None = None


@dataclass(frozen=True)
class Constant:
    """e or π, as JAX computes them: exp(1) and 4 arctan(1)."""

    name: str

    def __call__(self) -> Any:
        import jax.numpy as jnp

        return jnp.exp(jnp.float32(1)) if self.name in EULER else 4 * jnp.arctan(jnp.float32(1))


@dataclass(frozen=True, eq=False)
class Names:
    """Where a statement's names are looked up.

    Args:
        text, at: of the statement, for messages.
        given: names that were passed; they come first.
        frame: the caller's, for the names there.
        used: what came from the caller or was given, by name: what a verdict depends on besides the text.
    """

    text: str
    at: str | None
    given: Mapping[str, Any]
    frame: FrameType | None
    used: dict[str, Any] = field(default_factory=dict)

    def value(self, name: str, span: Span, others: Iterable[str]) -> Any:
        """A number (exact), an array, a constant, or a function as an argument.

        Raises:
            SpecError: there is none; `others` are names that could have been meant.
        """
        if name in self.given:
            return self._taken(name, self.given[name], span)
        self._no_attribute(name, span, others)
        theirs = self._theirs(name)
        if name in (*EULER, *PI):
            if theirs is not _MISSING and not _same_number(theirs, math.e if name in EULER else math.pi):
                raise self._two_meanings(name, span, "a constant of mathematics")
            return Constant(name)
        if theirs is not _MISSING:
            return self._taken(name, theirs, span)
        if (found := _library(name)) is not None:
            return found
        raise self._unknown(name, span, others)

    def _no_attribute(self, name: str, span: Span, others: Iterable[str]) -> None:
        """A variable of the statement has no attributes; one of the caller's of that name is not meant."""
        root, _, attribute = name.partition(".")
        if attribute and root in others:
            fix = {"T": f"write transpose({root})", "mT": f"write transpose({root})"}.get(attribute)
            raise problem(f"{root} is a variable: it has no attributes.", self.text, span,
                          fix or f"write {attribute}({root})", self.at)  # fmt: skip

    def alone(self) -> "Names":
        """The same without the caller's frame, which it would keep alive."""
        return Names(self.text, self.at, {}, None, self.used)

    def function(self, name: str, span: Span, others: Iterable[str]) -> Function:
        """What a call calls.

        Raises:
            SpecError: nothing is called so, or it is no function.
        """
        found: Any = self.given.get(name, _MISSING)
        ours = False
        if found is _MISSING:
            ours = True
            self._no_attribute(name, span, others)
            found = _library(ALIASES.get(name, name)) or _MISSING
            theirs = self._theirs(name)
            if found is _MISSING:
                found, ours = theirs, False
            elif _own(theirs, found):
                raise self._two_meanings(name, span, "a function of JAX")
        if found is _MISSING:
            raise self._unknown(name, span, others, called=True)
        if not ours:
            self.used[name] = found
        if isinstance(found, Model):
            return Function(found, False, found)
        if not callable(found):
            raise problem(f"{name} is no function.", self.text, span, f"multiplication is written {name} * (...)",
                          self.at, f"it is a {type(found).__name__}")  # fmt: skip
        return Function(found, ours)

    def region(self, name: str, span: Span) -> Any:
        """A region as a value: `S = ax.Box(0, 1)`."""
        found = self.given.get(name, self._theirs(name))
        if not isinstance(found, REGIONS):
            what = "There is no set of that name." if found is _MISSING else f"{name} is no set of points."
            raise problem(what, self.text, span, f"write [0, 1] or R, or define {name} = ax.Box(0, 1)", self.at)
        self.used[name] = found
        return found

    def _theirs(self, name: str) -> Any:
        root, *path = name.split(".")
        found: Any = _MISSING
        if self.frame is not None:
            found = self.frame.f_locals.get(root, self.frame.f_globals.get(root, _MISSING))
        for part in path:
            if found is _MISSING or part.startswith("_"):
                return _MISSING
            found = getattr(found, part, _MISSING)
        return found

    def _taken(self, name: str, value: Any, span: Span) -> Any:
        self.used[name] = value
        if isinstance(value, Fraction) or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool)):
            return self._number(name, value, span)
        if callable(value) or isinstance(value, bool) or value is None:
            return value
        if isinstance(value, (list, tuple)) or hasattr(value, "shape"):
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                pass
            elif array.ndim == 0 and array.dtype.kind != "b":
                return self._number(name, array.item(), span)
            else:
                return self._array(name, array, span)
        raise problem(f"{name} is neither a number nor an array.", self.text, span, "pass numbers by names={...}",
                      self.at, f"it is a {type(value).__name__}")  # fmt: skip

    def _number(self, name: str, value: Any, span: Span) -> Fraction:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            raise problem(f"{name} is not finite.", self.text, span, "statements speak of finite numbers", self.at)
        return Fraction(value)

    def _array(self, name: str, array: np.ndarray, span: Span) -> np.ndarray:
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                single = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise problem(f"{name} has entries that are not finite.", self.text, span,
                              "statements speak of finite numbers", self.at)  # fmt: skip
            if not np.array_equal(single.astype(array.dtype), array):
                raise problem(f"{name} is not exact in float32.", self.text, span,
                              f"say which numbers are meant: {name} = {name}.astype('float32')", self.at,
                              f"an array of {array.dtype}")  # fmt: skip
            return single
        return array

    def _unknown(self, name: str, span: Span, others: Iterable[str], called: bool = False) -> SpecError:
        theirs = {} if self.frame is None else {**self.frame.f_globals, **self.frame.f_locals}
        known = {*others, *self.given, *(key for key in theirs if not key.startswith("_")), *_library_names(called)}
        close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
        if close:
            return problem(f"{name} is not known.", self.text, span, f"did you mean {close[0]}?", self.at)
        if called:
            return problem(f"{name} is not known.", self.text, span,
                           f"define it before the call, or pass names={{{name!r}: ...}}", self.at)  # fmt: skip
        root, _, attribute = name.partition(".")
        if attribute:
            fix = f"write transpose({root})" if attribute in ("T", "mT") else f"define {root} before the call"
            return problem(f"{name} is not known.", self.text, span, fix, self.at)
        return problem(f"{name} is not quantified.", self.text, span,
                       f"say for which {name}: ∀{name}. {self.text.strip()[:60]}", self.at)  # fmt: skip

    def _two_meanings(self, name: str, span: Span, other: str) -> SpecError:
        return problem(f"{name} has two meanings: {other}, and one of yours.", self.text, span,
                       f"for yours: names={{{name!r}: {name}}}; else give yours another name", self.at)  # fmt: skip


_MISSING = object()


def _same_number(value: Any, wanted: float) -> bool:
    return isinstance(value, (int, float, np.number)) and float(value) == wanted


def _library(name: str) -> Any:
    """A public function of jax.nn or jnp, or by its path (`jnp.linalg.norm`, `lax.rsqrt`)."""
    import jax
    import jax.numpy as jnp

    root, _, rest = name.rpartition(".")
    if not root:
        for module in (jax.nn, jnp):
            found = getattr(module, name, None)
            if found is not None and callable(found) and not name.startswith("_"):
                return found
        return None
    for prefix, path in ROOTS.items():
        if root == prefix or root.startswith(prefix + "."):
            found: Any = jax
            for part in [*path.split(".")[1:], *root[len(prefix) :].split("."), rest]:
                if part.startswith("_"):
                    return None
                found = getattr(found, part, None) if part else found
            return found if callable(found) and not isinstance(found, ModuleType) else None
    return None


def _library_names(called: bool) -> list[str]:
    import jax
    import jax.numpy as jnp

    if not called:
        return []
    return [n for module in (jax.nn, jnp) for n in dir(module) if not n.startswith("_") and n.islower()]


def _own(theirs: Any, library: Any) -> bool:
    """Whether the caller's thing of a library's name is a function of their own."""
    if theirs is _MISSING or theirs is library or not callable(theirs):
        return False
    home = (getattr(theirs, "__module__", None) or "").partition(".")[0]
    return isinstance(theirs, Model) or home not in LIBRARIES


def example_shape(shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The shape of one example of a model's input: without the axis of the batch, if there is one.

    >>> example_shape(("batch", 784)), example_shape(("n",))
    ((784,), ('n',))
    """
    return shape[1:] if len(shape) > 1 and (isinstance(shape[0], str) or shape[0] == 1) else shape


def misfit(function: Function, count: int, options: Iterable[str]) -> tuple[str, str] | None:
    """How a function is called, and why so many arguments with these options are not; None where they fit.

    >>> misfit(Function(lambda x, *, axis=0: x), 2, ())
    ('(x, axis=)', 'too many positional arguments')
    """
    options = dict.fromkeys(options)
    if function.model is not None and not options:
        inputs = [name for name, _, _ in function.model.signature.inputs]
        return None if count == len(inputs) else (f"({', '.join(inputs)})", f"{count} arguments for {len(inputs)}")
    try:
        signature = inspect.signature(function.call)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*(None,) * count, **options)
    except TypeError as error:
        named = lambda p: f"{p.name}=" if p.kind is p.KEYWORD_ONLY or p.default is not p.empty else p.name
        return f"({', '.join(map(named, signature.parameters.values()))})", str(error)
    return None


def applied(model: Model, given: list[Any]) -> Any:
    """A model acts on one example: a batch of one goes through it."""
    import jax
    import jax.numpy as jnp

    inputs = model.signature.inputs
    alone = len(inputs) == len(given) and all(
        len(example_shape(shape)) < len(shape) and jnp.ndim(x) == len(shape) - 1
        for x, (_, shape, _) in zip(given, inputs, strict=True)
    )
    if not alone:
        return model(*given)
    found = model(*(jnp.expand_dims(x, 0) for x in given))
    return jax.tree.map(lambda y: jnp.squeeze(y, 0), found)
