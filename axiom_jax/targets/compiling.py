"""`ax.compile`: a model made ready for a backend, and what became of the wish is written down."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from axiom_jax._errors import AxiomError, BackendUnavailable, ModelError
from axiom_jax._model_call import unfit
from axiom_jax._shapes_annotations import Annotation, matches
from axiom_jax._shapes_places import caller
from axiom_jax._shapes_text import dtype_text
from axiom_jax.targets import choosing, registry
from axiom_jax.targets.caching import folder
from axiom_jax.targets.target import Executable, Inputs

VARIABLE = "AXIOM_BACKEND"


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """A model on a backend: called like the model, with any batch size.

    Args:
        name: of the model.
        record: what was asked for, what runs it and why: `requested`, `used`, `reason`; also `precision`, `device`,
            `version`, the `options` that were given and, where `auto` chose, the `seconds` of a call on each backend
            that was measured.
        inputs: name, sizes and dtype of each input; empty where nothing is known before the first call.
        executable: the backend's own form.
    """

    name: str
    record: dict[str, Any]
    inputs: Inputs
    executable: Executable
    _seen: set[Any] = field(default_factory=set)

    def __call__(self, *inputs: Any) -> Any:
        # the common case first: arrays of a shape and dtype that was checked before
        try:
            known = tuple([(x.shape, x.dtype) for x in inputs]) in self._seen
        except (AttributeError, TypeError):
            known = False
        return self.executable.run(*inputs) if known else self.executable.run(*self._checked(inputs))

    def _checked(self, inputs: Sequence[Any]) -> list[Any]:
        """The inputs as arrays of the declared dtypes, if their shapes fit.

        Raises:
            ShapeError: a shape does not fit.
            AxiomError: a wrong number of inputs, or a dtype that would lose its meaning.
            ModelError: integers that the declared dtype cannot hold.
        """
        arrays = [x if hasattr(x, "shape") and hasattr(x, "dtype") else np.asarray(x) for x in inputs]
        if self.inputs and len(arrays) != len(self.inputs):
            raise AxiomError(f"{self.name} takes {len(self.inputs)} inputs.", at=caller(), got=f"{len(arrays)}",
                             fix=f"call it with {', '.join(name for name, _, _ in self.inputs)}")  # fmt: skip
        sizes: dict[str, Any] = {}
        fitting = []
        for i, x in enumerate(arrays):
            if self.inputs:
                name, shape, dtype = self.inputs[i]
                annotation = Annotation(dtype_text(dtype), tuple(map(str, shape)))
                if not matches(annotation, x.shape, sizes):
                    raise unfit(self.name, name, x, annotation, sizes)
                if str(x.dtype) != dtype:
                    x = _cast(self.name, name, x, dtype)
            fitting.append(x)
        if all(x is y for x, y in zip(inputs, fitting, strict=True)):
            self._seen.add(tuple((x.shape, x.dtype) for x in fitting))
        return fitting

    @property
    def backend(self) -> str:
        """The backend that runs the model."""
        return self.record["used"]

    @property
    def memory(self) -> int | None:
        """Bytes of weights, results and temporaries of the latest compilation, where the backend tells."""
        return self.executable.facts().get("memory")

    @property
    def flops(self) -> int | None:
        """Floating-point operations of one call of the latest compilation, where the backend tells."""
        return self.executable.facts().get("flops")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled model to one file, which `Compiled.load` reads; the file is put in place whole.

        Raises:
            ModelError: the file cannot be written, or would not hold one of the options it was compiled with.
        """
        from axiom_jax.targets.storing import write

        write(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Compiled":
        """A compiled model from its file.

        Raises:
            ModelError: the file is no such file, or is damaged.
            BackendUnavailable: its backend cannot run here.
        """
        from axiom_jax.targets.storing import read

        return read(path)

    def close(self) -> None:
        """Give back what the backend holds, such as a process of its own."""
        self.executable.close()

    def __repr__(self) -> str:
        record = self.record
        return f"Compiled({self.name!r} on {record['used']}; asked for {record['requested']}: {record['reason']})"


def _cast(model: str, name: str, x: Any, dtype: str) -> Any:
    """An input in the declared dtype, as calling the model would take it; never a float as an integer."""
    import jax.numpy as jnp
    from jax.core import Tracer

    given, wanted = jnp.dtype(x.dtype), jnp.dtype(dtype)
    fits = jnp.issubdtype(wanted, jnp.inexact) or not jnp.issubdtype(given, jnp.inexact)
    if jnp.issubdtype(given, jnp.complexfloating) or not fits:
        got = f"{name} of dtype {given}; expected {dtype}"
        raise AxiomError(f"{model} cannot take its input.", at=caller(), got=got,
                         fix=f"give it {name}.astype({dtype!r})")  # fmt: skip
    if given.kind in "iu" and wanted.kind in "iu" and x.size and not isinstance(x, Tracer):
        limit, low, high = np.iinfo(wanted), int(x.min()), int(x.max())
        if low < limit.min or high > limit.max:
            raise ModelError(f"{model} cannot take its input: it holds integers that {dtype} cannot hold.", at=caller(),
                             got=f"{name} from {low} to {high}; expected {limit.min} to {limit.max}",
                             fix=f"give it integers that {dtype} can hold")  # fmt: skip
    return x.astype(wanted)


def compile(
    model: Any, backend: str = registry.AUTO, *, example: Any = None, batch_size: int = 1,
    options: Mapping[str, Any] | None = None, cache: bool | str | os.PathLike[str] = False,
    keep_operations: bool = False,
) -> Compiled:  # fmt: skip
    """A model made ready for a backend.

    Args:
        model: a model, or a JAX function of arrays.
        backend: a name that `ax.backends()` lists, or "auto": the backends that can run here are measured on the
            example, and the fastest that agrees with XLA is taken. Where "auto" is asked for, the environment
            variable AXIOM_BACKEND says the default; what it names and is missing is replaced, with one warning.
        example: an input, or a tuple of inputs, of the shapes to be measured; made up if not given.
        batch_size: of the example that is made up.
        options: for the backend, such as `{"threads": 2}`.
        cache: a folder for programs and for what "auto" chose, so that later processes start faster; True for the
            user's own, see `ax.precompile`.
        keep_operations: whether XLA shall leave out the pass that replaces operations by others, so that what runs is
            what a certificate at level `float32` speaks of. "auto" is XLA then.

    Returns:
        A `Compiled`: called with any batch size, it says in `.record` what was requested, what is used and why.

    Raises:
        BackendUnavailable: the backend was named and cannot run here, or cannot run this model.

    >>> from axiom_jax import nn, Sequential
    >>> compiled = compile(Sequential(nn.Dense(4, 3), nn.relu), backend="xla")
    >>> compiled(np.ones((5, 4), np.float32)).shape, compiled.record["used"]
    ((5, 3), 'xla')
    """
    model, inputs, arrays = choosing.described(model, example, batch_size)
    place = folder(cache)
    requested, why = backend, "it was asked for by name"
    if keep_operations:
        options = dict(options or {}) | {"keep_operations": True}
    if keep_operations and backend == registry.AUTO:
        requested, why = "xla", "its operations are to be kept"
    elif backend == registry.AUTO and (variable := os.environ.get(VARIABLE, "").strip()):
        requested, why = variable, f"{VARIABLE} asks for it"
    target = None
    if requested != registry.AUTO:
        try:
            target = registry.require(registry.entry_of(requested))
        except BackendUnavailable as absent:
            if backend != registry.AUTO or absent.got == f"backend={requested!r}":  # a name that does not exist
                raise
            why = f"{requested} cannot run here ({absent.got})"
            _warn_once(f"{VARIABLE}={requested}: {why}; using the fastest that can. To mend it: {absent.fix}")
    elif (idle := choosing.idle_accelerator()) is not None:
        _warn_once(idle)
    if target is not None:
        executable = choosing.compiled(target, model, inputs, dict(options or {}), place)
        choice = choosing.Choice(requested, executable, why)
    else:
        choice = choosing.fastest(model, inputs, arrays, dict(options or {}), place)
        if requested != registry.AUTO:
            choice = replace(choice, reason=f"{why}; {choice.reason}")
    record: dict[str, Any] = {"requested": requested, "used": choice.name, "reason": choice.reason}
    facts = choice.executable.facts()
    record |= {key: facts[key] for key in ("precision", "device", "version") if key in facts}
    known = registry.entry_of(choice.name).load().options
    if chosen := {key: value for key, value in (options or {}).items() if key in known and key != "keep_operations"}:
        record["options"] = chosen
    if keep_operations:
        record["keep_operations"] = True
    if choice.seconds:
        record["seconds"] = choice.seconds
    return Compiled(model.name, record, inputs, choice.executable)


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, UserWarning, stacklevel=3)
