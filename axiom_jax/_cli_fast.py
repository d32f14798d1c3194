"""What `axiom check --fast` does: the checker's judgement in floats, which is not the judgement of record."""

import json
import time
from pathlib import Path
from typing import Any

from axiom_jax._errors import CertificateError
from axiom_jax.verification.proof.certificate import Checked


def run(path: Path, model_path: str | None, of_record: list[Any], as_json: bool) -> int:
    """Judge a certificate about a network, print what was found, and return the exit status.

    Args:
        path: the file. model_path: the model that it must be about, or None. as_json: whether to print JSON.
        of_record: the values of the options that need the judgement of record: none may be given.

    Returns:
        0 accepted (fast), 1 rejected, 2 unreadable.
    """
    if any(value is not None for value in of_record):
        raise CertificateError(
            "--fast cannot be combined with --trusted, --summary, --key or --verifier.", at="axiom check",
            got="signatures stand for the judgement of record", fix="leave out --fast",
        )  # fmt: skip
    checked = judge(path, model_path)
    if as_json:
        found: dict[str, Any] = {key: getattr(checked, key) for key in ("reason", "levels", "statement", "seconds")}
        found |= {"accepted": None, "accepted_fast": checked.accepted, "signatures": []}
        if checked.unreadable:
            fix = "give a certificate about a network, as axiom verify --certificate writes it"
            found["error"] = CertificateError(
                "The certificate cannot be read.", at=str(path), got=checked.reason, fix=fix
            ).to_dict()
        print(json.dumps(found))
    elif checked.accepted:
        print(f"accepted (fast)\n{checked.statement}")
    else:
        print(f"{'unreadable' if checked.unreadable else 'rejected'}: {checked.reason}")
    return 0 if checked.accepted else 2 if checked.unreadable else 1


def judge(path: Path, model_path: str | None = None) -> Checked:
    """The judgement in floats, and with a model file whether the certificate is about that very network."""
    from axiom_jax._cli_verify import read_model
    from axiom_jax.verification.checker import show
    from axiom_jax.verification.fast_check import check
    from axiom_jax.verification.proof.binding import bind

    start = time.monotonic()
    try:
        content = path.read_bytes()
    except OSError as error:
        return Checked(False, f"there is no file {path} that can be read: {error.strerror}", unreadable=True)
    model = read_model(model_path) if model_path else None
    found = check(content)
    checked = Checked(
        found.accepted, found.reason or None, tuple(found.levels), "\n".join(found.lines), tuple(found.failed),
        time.monotonic() - start, unreadable=found.code == 2, 
        margin=None if found.margin is None else show(found.margin),
    )  # fmt: skip
    return bind(checked, content, str(path), model)
