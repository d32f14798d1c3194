"""The hash of a model as JAX lowers it, which a certificate records beside the hashes of files.

The text of StableHLO is the same on every run of one JAX version, for one platform and one precision, which are fixed
here; another version may write the same model otherwise. So it identifies a model, and never refuses one: operations
and weights are compared for that. What XLA makes of it is another hash: `compiled`.
"""

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import jax

from axiom_jax.verification.search.margins import Subject

KIND = "stablehlo"
_made: WeakKeyDictionary[Subject, dict[str, str]] = WeakKeyDictionary()


def stablehlo(subject: Subject) -> dict[str, str]:
    """An entry for `model.source`: the kind, with the version of JAX, and the sha256; made once for each subject.

    Empty where the model cannot be lowered by itself.

    >>> import numpy as np
    >>> subject = Subject(lambda w, x: w * x, np.ones(2, np.float32), (jax.ShapeDtypeStruct((2,), np.float32),))
    >>> [(kind.split()[0], len(digest)) for kind, digest in stablehlo(subject).items()]
    [('stablehlo', 64)]
    """
    if subject not in _made:
        _made[subject] = _lowered(subject)
    return _made[subject]


def _lowered(subject: Subject) -> dict[str, str]:
    def model(params: Any, *inputs: Any) -> Any:  # its name is in the text
        return subject.apply(params, *inputs)

    try:
        with jax.default_matmul_precision("highest"):
            traced = jax.jit(model).trace(subject.params, *subject.specs)
            text = traced.lower(lowering_platforms=("cpu",)).as_text()
    except (TypeError, ValueError, NotImplementedError, RuntimeError):
        return {}
    return {f"{KIND} (jax {jax.__version__})": hashlib.sha256(text.encode()).hexdigest()}


def compared(recorded: dict[str, str], subject: Subject) -> str | None:
    """What the hash in a certificate says of a model, in words; None if it has none.

    >>> compared({"onnx": "ab" * 32}, Subject(abs, (), ())) is None
    True
    """
    kinds = [kind for kind in recorded if kind.split(" ")[0] == KIND]
    if not kinds:
        return None
    own = stablehlo(subject)
    for kind in kinds:
        if own.get(kind) == recorded[kind]:
            return "Its StableHLO is the one that the certificate names."
    if not own.keys() & set(kinds):
        here = next(iter(own), f"jax {jax.__version__}, which cannot lower it")
        return f"The certificate names the hash of {kinds[0]}, here is {here}: these are not compared."
    return f"Its StableHLO is another one than the certificate names, by the same {kinds[0]}: other settings of JAX?"
