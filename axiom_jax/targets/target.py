"""What a backend is: a value of five functions. Anyone may write one and name it in the entry-point group
`axiom_jax.backends`; ours are found the same way.

`probe` may load foreign libraries, so the registry runs it in a process of its own. The module that defines a
target must therefore load nothing heavy when it is imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Inputs = tuple[tuple[str, tuple[int | str, ...], str], ...]  # name, sizes (numbers or names), dtype: as in a Signature


@dataclass(frozen=True)
class Probe:
    """What was found of a backend on this machine.

    Args:
        available: whether it can run a model now.
        reason: in a few words, what it runs on, or why it cannot.
        version: of the library that does the work.
        devices: as that library names them.
        fix: what to install or to set, in one line; empty where it is available.
    """

    available: bool
    reason: str
    version: str | None = None
    devices: tuple[str, ...] = ()
    fix: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do for one model.

    Args:
        missing: what of the model it cannot run, each with its place; empty where it can run all of it.
        dtypes: of inputs that it takes.
        any_batch: whether one compilation serves every batch size; else one is made and kept for each.
        precision: the arithmetic that it computes in.
    """

    missing: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    any_batch: bool = True
    precision: str = "float32"


@dataclass(frozen=True, eq=False)
class Executable:
    """A model in a backend's own form.

    Args:
        run: `run(*arrays) -> output`, arrays of JAX or NumPy; may be called from several threads.
        payload: the bytes that `Target.load` takes.
        facts: what is known, where it is known: `memory` (bytes of weights and temporaries), `flops` (of one call),
            `precision`, `device`, `version`.
        close: gives back what it holds, such as a process.
    """

    run: Callable[..., Any]
    payload: Callable[[], bytes]
    facts: Callable[[], dict[str, Any]] = dict
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, eq=False)
class Target:
    """A backend.

    Args:
        name: what `ax.compile(model, backend=name)` says.
        summary: one line for people.
        probe: what is here; it may crash, it is run in a process of its own.
        compile: `compile(model, inputs, options) -> Executable`.
        load: `load(payload, inputs, options) -> Executable`, the way back from `Executable.payload`; the options are
            those that `compile` was given.
        capabilities: `capabilities(model, inputs)`, without compiling.
        measured: whether `backend="auto"` may choose it; only for backends that keep float32 as it is.
        safe: whether its probe loads nothing that this process has not loaded, so that it needs no other process.
        options: what `ax.compile(..., options=...)` may set, with the defaults.
        variant: the target that `name:what` stands for, where there are such.
    """

    name: str
    summary: str
    probe: Callable[[], Probe]
    compile: Callable[[Any, Inputs, Mapping[str, Any]], Executable]
    load: Callable[[bytes, Inputs, Mapping[str, Any]], Executable]
    capabilities: Callable[[Any, Inputs], Capabilities] = lambda model, inputs: Capabilities()
    measured: bool = False
    safe: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    variant: "Callable[[str], Target] | None" = None
