"""What a server takes at most, and how it says no."""

from dataclasses import dataclass

from axiom_jax._errors import AxiomError, EnsureViolation, ShapeError


@dataclass(frozen=True)
class Limits:
    """Bounds on what one request may ask for; whatever is larger is refused before it is read or computed.

    Args:
        body: bytes of a request, 413 beyond.
        elements: numbers in one tensor.
        dims: axes of one tensor.
        batch: rows of one request.
        pending: requests that may wait for one model; beyond, 503.
        connections: that are open, and calls of gRPC, at one time; beyond, 503.
        programs: compiled programs kept for one model, the least recently used goes.
        seconds: to send the head of a request, and again to send its body.
        depth: levels of a GraphQL query.

    >>> Limits(batch=8).batch
    8
    """

    body: int = 64 * 2**20
    elements: int = 2**24
    dims: int = 8
    batch: int = 4096
    pending: int = 1024
    connections: int = 1024
    programs: int = 64
    seconds: float = 30.0
    depth: int = 12


class Refusal(AxiomError):
    """A request that is not served: `status` is the HTTP status that says why."""

    def __init__(
        self, what: str, *, status: int = 400, at: str | None = None, got: str | None = None, fix: str | None = None
    ):
        super().__init__(what, at=at, got=got, fix=fix)
        self.status = status


Refusal.__module__ = "axiom_jax"


def status_of(error: BaseException) -> int:
    """The HTTP status of an error: the client's fault is 4xx, ours is 500.

    >>> status_of(ShapeError("x does not fit.")), status_of(KeyError("x"))
    (400, 500)
    """
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, EnsureViolation):
        return 422
    return 400 if isinstance(error, ShapeError) else 500


def parts_of(error: BaseException) -> dict[str, str | None]:
    """The four parts of an error's message; of an error that is not ours nothing is told but that it happened."""
    if isinstance(error, AxiomError):
        return error.to_dict()
    return {"what": "The server failed.", "at": None, "got": None, "fix": "look at the server's log"}


def text_of(error: BaseException) -> str:
    """The same in one text, as clients of the Open Inference Protocol show it."""
    parts = parts_of(error)
    return "\n".join([str(parts.pop("what")), *(f"  {name:<4} {text}" for name, text in parts.items() if text)])
