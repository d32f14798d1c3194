"""The `axiom` command. What each command may be relied on for is in docs/command-line.md.

Results go to stdout, progress and notes to stderr. Nothing heavy is imported before a
command runs.
"""

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from axiom_jax._errors import AxiomError, CertificateError

PROVED, REFUTED, BAD_INPUT, OPEN, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="axiom",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prove properties of neural networks, and check the proofs.",
)
keys_app = typer.Typer(name="keys", no_args_is_help=True, help="Make and show keys; judge signatures.")
app.add_typer(keys_app)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="An .onnx or .axiom file.")]
PropertyArgument = Annotated[
    str, typer.Argument(metavar="PROPERTY", help='A VNN-LIB file, or a statement: "∀x ∈ [0, 1]^4. model(x)[0] >= 0".')
]
TimeoutOption = Annotated[float, typer.Option(help="Wall seconds for compilation and search.", min=0.0)]
CheckTimeoutOption = Annotated[float, typer.Option(help="Wall seconds for the checker.", min=0.0)]
NoCheckOption = Annotated[bool, typer.Option("--no-check", help="Stop before the checker: proofs are 'claimed'.")]
LevelOption = Annotated[str | None, typer.Option(help="Answer proved only at this level: real or float32.")]
ProfileOption = Annotated[str, typer.Option(help="What level float32 speaks of: cpu, cuda or tpu.")]
JobsOption = Annotated[int, typer.Option(help="How many workers: local processes or devices, or Ray actors.", min=1)]
ExecutorOption = Annotated[str, typer.Option(help="Where workers run: local or ray.")]
JournalOption = Annotated[Path | None, typer.Option(help="A file to go on from after an interruption.")]
ThresholdOption = Annotated[int, typer.Option(help="How many trusted keys must have signed.", min=1)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


# typer carries its own click, or uses the installed one: its public exceptions lead to the right base class.
ClickException: Any = typer.BadParameter.__mro__[2]


@contextmanager
def _loading() -> Iterator[None]:
    """Look for no garbage while modules are imported, nor among what they make afterwards: it stays, and to look for it
    takes a fifth of the time of a short command."""
    enabled, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if enabled:
            gc.enable()


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("axiom-jax"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def verify(
    model: ModelArgument,
    property: PropertyArgument,
    timeout: TimeoutOption = 60.0,
    require_level: LevelOption = None,
    no_check: NoCheckOption = False,
    check_timeout: CheckTimeoutOption = 600.0,
    certificate: Annotated[Path | None, typer.Option(help="Where to write the certificate.")] = None,
    network: Annotated[list[str], typer.Option(help="The model of a further network: NAME=FILE.")] = [],  # noqa: B006
    jobs: JobsOption = 1,
    executor: ExecutorOption = "local",
    journal: JournalOption = None,
    profile: ProfileOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Decide one property: proved, refuted, claimed or unknown."""
    with _loading():
        from axiom_jax import _cli_verify as command
    from axiom_jax.verification.proof.float32 import require_profile

    if require_level not in (None, "real", "float32"):
        raise AxiomError(
            "There is no such level.", at="--require-level", got=str(require_level), fix="use real or float32"
        )
    require_profile(profile, "--profile")
    if is_statement(property):
        _verify_statement(model, property, timeout, require_level, not no_check, certificate, as_json)
    with command.Progress() as progress:
        decision, _ = command.decide_files(
            model, property, timeout=timeout, check=not no_check, check_timeout=check_timeout, certificate=certificate,
            progress=progress.update, networks=command.pairs(network, "--network"), jobs=jobs, executor=executor,
            journal=journal, profile=profile,
        )  # fmt: skip
    decision = command.at_level(decision, require_level)
    if as_json:
        print(json.dumps(decision.to_dict()))
    else:
        command.show(decision)
    raise typer.Exit(command.exit_code(decision))


def is_statement(text: str) -> bool:
    """Whether a property is a statement rather than the name of a file."""
    return text.lstrip().startswith(("∀", "∃", "forall ", "exists "))


def _verify_statement(
    model: str, text: str, timeout: float, level: str | None, check: bool, certificate: Path | None, as_json: bool
) -> None:
    """A statement about the model of a file, which it calls `model`."""
    from dataclasses import replace

    with _loading():
        from axiom_jax import _cli_prove as command
    from axiom_jax._cli_verify import at_level

    decision = command.prove_text(
        text, timeout=timeout, check=check, certificate=certificate, models=[f"model={model}"]
    )
    if level == "float32" and decision.word == "proved":
        decision = replace(decision, short_of_float32="statements are about real numbers")
    decision = at_level(decision, level)
    print(json.dumps(decision.to_dict())) if as_json else command.show(decision)
    raise typer.Exit(command.exit_code(decision))


@app.command()
def prove(
    text: Annotated[str, typer.Argument(metavar="TEXT", help='A statement: "∀x ∈ [0, 1]. sigmoid(x) >= 0.5".')],
    timeout: TimeoutOption = 10.0,
    sizes: Annotated[list[str], typer.Option(help="A number for a size: n=3; may be repeated.")] = [],  # noqa: B006
    model: Annotated[list[str], typer.Option(help="A model that the text calls: NAME=FILE.")] = [],  # noqa: B006
    no_check: NoCheckOption = False,
    certificate: Annotated[Path | None, typer.Option(help="Where to write the certificate.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove or refute a statement about all reals and all sizes."""
    with _loading():
        from axiom_jax import _cli_prove as command

    decision = command.prove_text(
        text, timeout=timeout, check=not no_check, certificate=certificate, sizes=sizes, models=model
    )
    print(json.dumps(decision.to_dict())) if as_json else command.show(decision)
    raise typer.Exit(command.exit_code(decision))


@app.command()
def check(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="A certificate file.")],
    model: Annotated[str | None, typer.Option(help="The model file that it must be about.")] = None,
    trusted: Annotated[Path | None, typer.Option(help="A folder of public keys: one of them must have signed.")] = None,
    threshold: ThresholdOption = 1,
    summary: Annotated[Path | None, typer.Option(help="Write what was found here, signed with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key that signs the summary.")] = None,
    verifier: Annotated[str | None, typer.Option(help="A URI that names who checks, for the summary.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="In floats: quicker, and not the judgement of record.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Re-check a certificate; `python -I -S verify/checker.py CERT` is the same judgement without this package."""
    if fast:
        from axiom_jax import _cli_fast

        raise typer.Exit(_cli_fast.run(certificate, model, [trusted, summary, key, verifier], as_json))
    from axiom_jax import _cli_sign as command

    checked = command.check(certificate, model, trusted, threshold, summary, key, verifier)
    if as_json:
        keys = ("accepted", "reason", "levels", "statement", "seconds")
        found = {key: getattr(checked, key) for key in keys}
        found["signatures"] = [judged.to_dict() for judged in checked.signatures]
        if checked.unreadable:
            fix = "give a certificate file, as axiom verify --certificate writes it"
            found["error"] = CertificateError(
                "The certificate cannot be read.", at=str(certificate), got=checked.reason, fix=fix
            ).to_dict()
        print(json.dumps(found))
    elif checked.accepted:
        print("accepted")
        print(checked.statement)
    else:
        print(f"{'unreadable' if checked.unreadable else 'rejected'}: {checked.reason}")
    raise typer.Exit(PROVED if checked.accepted else BAD_INPUT if checked.unreadable else REFUTED)


@app.command(name="export-checker")
def export_checker(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("axiom-checker.pyz"),
    as_json: JsonOption = False,
) -> None:
    """Write the checkers as one file to carry: `python -I -S axiom-checker.pyz CERT` needs nothing but Python."""
    from axiom_jax import _cli_export_checker as command

    facts = command.export(out)
    print(json.dumps(facts)) if as_json else command.show(facts)


@app.command(name="export-coq")
def export_coq(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="A certificate file.")],
    out: Annotated[Path | None, typer.Option(help="The .v file to write; beside the certificate if left out.")] = None,
    timeout: Annotated[float, typer.Option(help="Wall seconds to look for a proof Coq can follow.", min=0.0)] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Write a certificate about a ReLU network as one Coq file: the network, the claim as a theorem, its proof."""
    from axiom_jax import _cli_export_coq as command

    facts = command.export(certificate, out, timeout)
    print(json.dumps(facts)) if as_json else command.show(facts)


@app.command(name="export-aptp")
def export_aptp(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="A certificate file.")],
    out: Annotated[Path | None, typer.Option(help="The .aptp file to write; beside CERT if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a certificate about a ReLU network as an activation pattern tree proof, for other checkers."""
    from axiom_jax import _cli_export_aptp as command

    facts = command.export(certificate, out)
    print(json.dumps(facts)) if as_json else command.show(facts)


@app.command()
def sign(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="A certificate file; signed ones too.")],
    key: Annotated[Path, typer.Option(help="The private key, as axiom keys new makes it.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; by default CERT with suffix .signed.json.")] = None,
    requirement: Annotated[list[str], typer.Option(help="An id that this is evidence for; may be repeated.")] = [],  # noqa: B006
    expires: Annotated[str | None, typer.Option(help="The last day that it holds: 2027-01-31.")] = None,
    model_signature: Annotated[Path | None, typer.Option(help="What model_signing wrote, to be named by hash.")] = None,
    model: Annotated[str | None, typer.Option(help="The model file that it must be about.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a certificate and sign what it proves; or add a signature to a signed file."""
    from axiom_jax import _cli_sign as command

    facts = command.sign(certificate, key, out, requirement, expires, model_signature, model)
    print(json.dumps(facts)) if as_json else command.show(facts)


@keys_app.command("new")
def keys_new(
    out: Annotated[Path, typer.Option(help="The private key's file; the public key's has .pub after it.")] = Path(
        "axiom-key"
    ),
    comment: Annotated[str, typer.Option(help="Whose it is, for people; in the public file.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an Ed25519 key pair; the private key is readable by you only."""
    from axiom_jax import _cli_sign as command

    facts = command.make_key(out, comment, force)
    print(json.dumps(facts)) if as_json else command.show(facts)


@keys_app.command("show")
def keys_show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A private or a public key.")],
    as_json: JsonOption = False,
) -> None:
    """Print the keyid and the comment of a key."""
    from axiom_jax import _cli_sign as command

    facts = command.key_facts(file)
    print(json.dumps(facts)) if as_json else command.show(facts)


@keys_app.command("verify")
def keys_verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A signed certificate, or a verification summary.")],
    trusted: Annotated[Path, typer.Option(help="A folder of public keys.")],
    threshold: ThresholdOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Judge the signatures of a file, not the proof in it: that is `axiom check`."""
    from axiom_jax import _cli_sign as command

    found = command.verify(file, trusted, threshold)
    print(json.dumps(found.to_dict())) if as_json else command.show_signatures(found)
    raise typer.Exit(PROVED if found.accepted else REFUTED)


@app.command()
def show(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="A certificate, of any kind; signed ones too.")],
    html: Annotated[Path | None, typer.Option(help="Write it as one HTML file, with drawings.")] = None,
    pdf: Annotated[Path | None, typer.Option(help="Write it as a PDF, with drawings.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the checker too, and show what it says.")] = False,
    model: Annotated[str | None, typer.Option(help="The model file it must be about; implies --check.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a certificate in human form; without --check nothing is judged."""
    from axiom_jax import _cli_show as command

    raise typer.Exit(command.run(certificate, check, model, html, pdf, as_json))


@app.command()
def calibrate(
    out: Annotated[Path | None, typer.Option(help="Where to write what was measured, with its hash.")] = None,
    profile: Annotated[str | None, typer.Option(help="cpu or cuda; by default that of JAX's device.")] = None,
    points: Annotated[int, typer.Option(help="How many float32 numbers a function is run on.", min=1)] = 1 << 22,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="Run every float32 number: minutes.")] = False,
    function: Annotated[list[str], typer.Option(help="Only this one; may be repeated.")] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Measure float32 functions on this machine against a profile of level float32."""
    from axiom_jax import _cli_calibrate as command

    raise typer.Exit(PROVED if command.run(out, profile, points, exhaustive, function, as_json) else REFUTED)


@app.command()
def bench(
    instances: Annotated[Path, typer.Argument(metavar="INSTANCES.csv", help="onnx,vnnlib,timeout_s,expected")],
    timeout: Annotated[float | None, typer.Option(help="Wall seconds a row; overrides timeout_s.", min=0.0)] = None,
    csv: Annotated[Path | None, typer.Option(help="Where to write a row a result.")] = None,
    certificates: Annotated[Path | None, typer.Option(help="A folder for the certificates.")] = None,
    results: Annotated[Path | None, typer.Option(help="A folder for result files as VNN-COMP wants them.")] = None,
    no_check: NoCheckOption = False,
    check_timeout: CheckTimeoutOption = 600.0,
    jobs: JobsOption = 1,
    executor: ExecutorOption = "local",
    journal: JournalOption = None,
) -> None:
    """Decide every row of a CSV file; exit status 1 if a verdict contradicts the column `expected`."""
    with _loading():
        from axiom_jax import _cli_bench as command

    status = command.run(
        instances, timeout, csv, certificates, check=not no_check, check_timeout=check_timeout, jobs=jobs,
        executor=executor, journal=journal, results=results,
    )  # fmt: skip
    raise typer.Exit(status)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A model: .axiom, .onnx, .pt2, .pt, .json.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The file to write: .axiom or .onnx.")],
    as_json: JsonOption = False,
) -> None:
    """Read a model in one format and write it in another, by the suffixes of the files."""
    from axiom_jax import _cli_convert as command

    facts = command.convert(source, target)
    print(json.dumps(facts)) if as_json else command.show_converted(facts)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help=".axiom, .onnx, .cert, .vnnlib or .safetensors")],
    as_json: JsonOption = False,
) -> None:
    """Say what a file is: signature, layers or nodes, parameters, hashes, what its certificates state."""
    from axiom_jax import _cli_convert as command

    facts = command.inspect(file)
    print(json.dumps(facts)) if as_json else command.show(facts)


@app.command()
def lint(
    target: Annotated[str, typer.Argument(metavar="FILE.py:NAME", help="In a file; or an .onnx or .axiom file.")],
    region: Annotated[str | None, typer.Option(help="Where the inputs live: LO,HI.")] = None,
    backend: Annotated[str | None, typer.Option(help="What it will run on: cpu leaves accelerators out.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what in a model will surprise: shapes, dtypes, numbers, compilation. Exit status 1 if something does."""
    from axiom_jax import _cli_lint as command

    report = command.run(target, region, backend)
    print(json.dumps(report.to_dict())) if as_json else command.show(report)
    raise typer.Exit(REFUTED if report.of("error") or (strict and not report.clean) else PROVED)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the report and the certificates.")] = Path("axiom-demo"),
) -> None:
    """Train a digit classifier, prove its robustness, check every proof, write a report. Under two minutes."""
    from axiom_jax.report import demo as command

    raise typer.Exit(command.run(out))


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG.toml", help="Data, model, and how to train it.")],
    as_json: JsonOption = False,
) -> None:
    """Train a model as a file says, and write it; Ctrl-C stops after a step and writes what was reached."""
    from axiom_jax import _cli_train as command

    facts, interrupted = command.run(config, quiet=as_json)
    print(json.dumps(facts)) if as_json else command.show(facts)
    raise typer.Exit(OPEN if interrupted else PROVED)


@app.command()
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=".onnx or .axiom files, or NAME=FILE.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="For REST and GraphQL; 0 picks a free one.", min=0, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(help="For gRPC; 0 picks a free one.", min=0, max=65535)] = 8001,
    protocol: Annotated[list[str], typer.Option(help="rest, graphql, grpc; may be repeated.")] = ["rest", "graphql"],  # noqa: B006
    certificate: Annotated[list[str], typer.Option(help="A certificate of the model, or NAME=FILE.")] = [],  # noqa: B006
    backend: Annotated[str | None, typer.Option(help="What computes; see axiom backends.")] = None,
) -> None:
    """Serve models by REST, GraphQL (/graphql) and gRPC until Ctrl-C; what is not as certified is not served."""
    from axiom_jax import _cli_serve as command

    raise typer.Exit(command.run(models, host, port, grpc_port, protocol, certificate, backend))


@app.command()
def backends(as_json: JsonOption = False) -> None:
    """List every backend: whether it can run here, on what, and what to install if not."""
    from axiom_jax import _cli_backends as command

    raise typer.Exit(command.list_backends(as_json))


@app.command()
def conformance(
    backend: Annotated[str, typer.Option(help="A name that `axiom backends` lists.")] = "xla",
    as_json: JsonOption = False,
) -> None:
    """Hold a backend to the test that all have to pass; exit status 1 if it fails, 2 if it is not here."""
    from axiom_jax import _cli_backends as command

    raise typer.Exit(command.run_conformance(backend, as_json))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every failure is one message with its fix, never a traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(given, prog_name="axiom", standalone_mode=False)
        if status == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except AxiomError as error:
        status = _fail(error.to_dict(), f"{type(error).__name__}: {error}", given)
    except ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "axiom"
        what = error.format_message().rstrip(".") + "."
        message = {"what": what, "at": where, "got": " ".join(given), "fix": f"see {where} --help"}
        status = _fail(message, f"{what}\n  at   {where}\n  fix  see {where} --help", given)
    except (KeyboardInterrupt, typer.Abort):
        message = {"what": "Interrupted before there was a result.", "at": None, "got": None, "fix": "start it again"}
        status = _fail(message, "interrupted", given, OPEN)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BAD_INPUT
    if arguments is None and _compiles():  # a thread cannot be ended, and the answer is there
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status or 0))
    sys.exit(int(status or 0))


def _compiles() -> bool:
    """Whether a search has left a compilation behind that nobody waits for any more."""
    module = sys.modules.get("axiom_jax.verification.search.compilation")
    return module is not None and module.compiles()


def _fail(parts: dict[str, Any], text: str, given: list[str], status: int = BAD_INPUT) -> int:
    print(text, file=sys.stderr)
    if "--json" in given:
        print(json.dumps({"error": parts}))
    return status
