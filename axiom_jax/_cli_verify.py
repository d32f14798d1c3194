"""What `axiom verify` and `axiom check` do, between the command line and the verifier."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from axiom_jax._errors import SpecError
from axiom_jax.interop.axiom.read import build_model, read_axiom
from axiom_jax.interop.onnx.file import require_finite
from axiom_jax.interop.onnx.reader import from_onnx
from axiom_jax.model import Model
from axiom_jax.verification.proof.binding import check_certificate
from axiom_jax.verification.proof.certificate import Checked
from axiom_jax.verification.search.decide import decide
from axiom_jax.verification.search.margins import Subject, subject_of
from axiom_jax.verification.spec.vnnlib2 import Query, read_query
from axiom_jax.verification.spec.vnnlib2_networks import assignment_text, compose
from axiom_jax.verification.verdict import Claimed, Decision, Proved, Refuted, Unknown


def keep_compilations() -> None:
    """Switch on JAX's persistent compilation cache, unless the user has chosen a folder."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(Path(root, "axiom-jax", "xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    jax.config.update("jax_raise_persistent_cache_errors", False)


def read_model(path: str, values: Sequence[str] = ()) -> Subject:
    """A model file (.onnx, .onnx.gz, .axiom), ready to be asked; sizes that it leaves open are set to 1.

    Args:
        values: names of values inside an ONNX graph that become outputs too.
    """
    if not str(path).endswith(".axiom"):
        return subject_of(from_onnx(path, values=values))
    if values:
        raise SpecError("The property speaks of values inside the network.", at=path, got=", ".join(values),
                        fix="give the network as an .onnx file")  # fmt: skip
    return subject_of(_read_axiom(path))


def _read_axiom(path: str) -> Model:
    """The model with the file's digest as its source: the digest stays when certificates are put into the file.

    What the file itself says of where it comes from cannot be checked, so certificates do not repeat it.
    """
    found = read_axiom(path)
    for name, tensor in found.tensors.items():
        if tensor.dtype.kind not in "iub":
            require_finite(tensor, name, path)
    model = build_model(found, {})
    return replace(model, source=(("axiom", found.digest),))


@dataclass(frozen=True)
class Asked:
    """What files ask: a property, in one of VNN-LIB's versions, of the network that its networks make together."""

    subject: Subject
    query: Query

    def witness(self, decision: Decision) -> str:
        """A counterexample as the VNN-COMP of the property's version wants it; nothing where there is none."""
        if not isinstance(decision.verdict, Refuted):
            return ""
        example = decision.verdict.counterexample
        if self.query.version != "1.0":
            return assignment_text(self.query, example.inputs, example.outputs)
        lines = [f"(X_{i} {float(x)!r})" for i, x in enumerate(example.inputs)]
        lines += [f"(Y_{j} {float((lo + hi) / 2)!r})" for j, (lo, hi) in enumerate(example.outputs)]
        return "(" + "\n".join(lines) + ")"


def read_files(model_path: str | None, property_path: str, networks: Mapping[str, str] | None = None) -> Asked:
    """Read a property and the models of its networks.

    Args:
        model_path: the model of the one network that `networks` does not name, or None.
        networks: model files by the names that the property gives its networks.
    """
    if not str(property_path).endswith((".vnnlib", ".vnnlib.gz")):
        raise SpecError(
            "The property is not a VNN-LIB file.", at=str(property_path), fix="name a .vnnlib or .vnnlib.gz file"
        )
    given = dict(networks or {})
    query = read_query(property_path)
    rest = [name for name in query.needed if name not in given]
    if model_path is not None and len(rest) != 1:
        raise SpecError(
            f"The property speaks of {len(query.needed)} networks.", at=str(property_path),
            got=f"models for {', '.join(['MODEL', *given])}; networks {', '.join(query.needed)}",
            fix=" ".join(f"--network {name}=FILE" for name in rest[1:]) or "leave a --network out: MODEL is its model",
        )  # fmt: skip
    if model_path is not None:
        given[rest[0]] = model_path
    subjects = {name: read_model(path, query.exposed(name)) for name, path in given.items()}
    return Asked(compose(query, subjects), query)


def decide_files(
    model_path: str | None,
    property_path: str,
    *,
    timeout: float,
    check: bool,
    check_timeout: float,
    certificate: Path | None = None,
    progress: Any = None,
    networks: Mapping[str, str] | None = None,
    jobs: int = 1,
    executor: str = "local",
    journal: Path | None = None,
    profile: str = "cpu",
) -> tuple[Decision, Asked]:
    """Read the files and decide; see `verification.search.decide`."""
    keep_compilations()
    start = time.monotonic()
    if certificate is not None and not certificate.absolute().parent.is_dir():
        raise SpecError("The certificate's folder does not exist.", at=str(certificate), fix="create it first")
    asked = read_files(model_path, property_path, networks)
    left = max(timeout - (time.monotonic() - start), 0.0)
    decision = decide(
        asked.subject, asked.query.property, timeout=left, check=check, check_timeout=check_timeout,
        certificate_path=certificate, progress=progress, jobs=jobs, executor=executor, journal=journal,
        float32=len(asked.query.networks) == 1,  # several networks are several programs, each rounded by itself
        profile=profile,
    )  # fmt: skip
    if len(asked.query.networks) > 1 and isinstance(decision.verdict, Proved):
        decision = replace(decision, short_of_float32="several networks are rounded each by itself")
    return decision, asked


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """NAME=FILE options as a mapping.

    >>> pairs(["f=a.onnx"], "--network")
    {'f': 'a.onnx'}
    """
    found = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise SpecError("This names no model.", at=option, got=text, fix=f"{option} NAME=FILE")
        found[name] = file
    return found


def at_level(decision: Decision, level: str | None) -> Decision:
    """A proof that does not reach the required level is no answer; the reason says why it does not."""
    verdict = decision.verdict
    if level is None or not isinstance(verdict, (Proved, Claimed)):
        return decision
    if isinstance(verdict, Proved) and level in verdict.levels:
        return decision
    have = ", ".join(verdict.levels) if isinstance(verdict, Proved) else "nothing that was checked"
    why = f" ({decision.short_of_float32})" if decision.short_of_float32 is not None else ""
    return replace(decision, verdict=Unknown(f"level {level} is required, proved is: {have}{why}", decision.bound))


def exit_code(decision: Decision) -> int:
    """0 proved, 1 refuted, 3 claimed or unknown."""
    return {Proved: 0, Refuted: 1}.get(type(decision.verdict), 3)


def check_file(path: Path, model_path: str | None = None, trusted: Path | None = None, threshold: int = 1) -> Checked:
    """The checker's judgement, with a model file whether the certificate is about that very network, and with trusted
    keys whether they signed it."""
    model = read_model(model_path) if model_path else None
    return check_certificate(path, model, trusted=trusted, threshold=threshold)


def show(decision: Decision) -> None:
    """The decision for people."""
    from rich.console import Console

    console = Console()
    colours = {"proved": "bold green", "refuted": "bold red"}
    console.print(f"[{colours.get(decision.word, 'bold yellow')}]{decision.word}[/]", end="")
    facts = []
    if levels := decision.to_dict()["levels"]:
        facts.append("level " + ", ".join(levels))
    if decision.bound is not None:
        facts.append(f"margin {decision.bound:.6g}")
    facts.append(f"{decision.seconds:.2f} s (compilation {decision.compile_seconds:.2f} s)")
    if decision.check_seconds:
        facts.append(f"checked in {decision.check_seconds:.2f} s")
    console.print("  " + ", ".join(facts), highlight=False)
    if reason := decision.reason:
        console.print(f"  reason       {reason}", highlight=False, soft_wrap=True)
    if isinstance(decision.verdict, Refuted):
        example = decision.verdict.counterexample
        head = lambda values: ", ".join(values[:8]) + (f", … ({len(values)})" if len(values) > 8 else "")
        console.print(f"  input        {head([f'{float(x):.9g}' for x in example.inputs])}", highlight=False)
        console.print(f"  output       {head([f'{float(lo):.9g}' for lo, _ in example.outputs])}", highlight=False)
        console.print("  judged in exact arithmetic: the unsafe condition holds there", highlight=False)
    if decision.certificate_path:
        console.print(f"  certificate  {decision.certificate_path}", highlight=False, soft_wrap=True)


class Progress:
    """One line on stderr while a terminal watches: elapsed time, stage, bound so far."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.status: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console

            self.status = Console(stderr=True).status("reading")
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def update(self, stage: str, bound: float | None, boxes: int, left: int) -> None:
        if self.status:
            so_far = f", bound so far {bound:.4g}" if bound is not None else ""
            work = f", {boxes} boxes bounded, {left} open" if boxes else ""
            self.status.update(f"{time.monotonic() - self.start:6.1f} s  {stage}{so_far}{work}")
