"""What `axiom serve` does: read models and certificates, start the faces, wait for a signal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from axiom_jax._cli_verify import keep_compilations
from axiom_jax._errors import AxiomError

if TYPE_CHECKING:
    from axiom_jax.serve.engine import Loaded


def run(models: Sequence[str], host: str, port: int, grpc_port: int, protocols: Sequence[str],
        certificates: Sequence[str], backend: str | None) -> int:  # fmt: skip
    """Serve until SIGINT or SIGTERM; the exit status.

    Args:
        models: files, or NAME=FILE.
        host, port, grpc_port: where to listen; port 0 picks a free one.
        protocols: among rest, graphql and grpc, one or several joined by commas in each.
        certificates: files for a single model, or NAME=FILE.
        backend: what computes, as `ax.compile` names it.
    """
    from axiom_jax.serve.engine import load
    from axiom_jax.serve.server import PROTOCOLS, announcement, start

    wanted = list(dict.fromkeys(word.strip() for text in protocols for word in text.split(",")))
    if unknown := [word for word in wanted if word not in PROTOCOLS]:
        raise AxiomError("There is no such protocol.", at="--protocol", got=unknown[0], fix=" or ".join(PROTOCOLS))
    keep_compilations()
    named: dict[str, Loaded] = {}
    for text in models:
        name, file = _named(text)
        model = load(file)
        name = name or model.name
        if name in named:
            raise AxiomError(f"Two models have the name {name}.", at=text, fix=f"give one another name: OTHER={file}")
        named[name] = model
    proofs: dict[str, list[str]] = {}
    for text in certificates:
        name, file = _named(text)
        if name is None and len(named) > 1:
            raise AxiomError("With several models, a certificate needs the name of its own.", at="--certificate",
                             got=text, fix=f"--certificate NAME={text}")  # fmt: skip
        proofs.setdefault(name or next(iter(named)), []).append(file)
    server = start(named, wanted, host, port, grpc_port, certificates=proofs, backend=backend)
    server.wait(announcement(server))
    return 0


def _named(text: str) -> tuple[str | None, str]:
    """A file, with the name that stands before it if there is one."""
    name, sign, file = text.partition("=")
    return (name, file) if sign and "/" not in name else (None, text)
