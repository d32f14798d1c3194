"""A derivation, section by section: the statement, and the proof as numbered steps."""

from collections.abc import Iterator

from axiom_jax._errors import CertificateError
from axiom_jax.report.showing.network import ROUNDING, meta
from axiom_jax.report.showing.opening import DAMAGED, Part
from axiom_jax.report.showing.sections import Limits, Section, Table, left_out
from axiom_jax.report.showing.words import brief, number, printable

MEANING = {
    "holds": "for all sizes >= 1 and all real values, the hypotheses imply the goal",
    "violated": "there are sizes and real values where the hypotheses hold and the goal does not",
}
NOT_COVERED = "whether the formulas mean what the text says"
NOT_COVERED_OF_LAYERS = "whether these are the layers of the deployed network"
FOLLOWED = 2000  # steps; longer proofs are not followed


def sections(part: Part, limits: Limits) -> Iterator[Section]:
    """What a derivation says. Raises one of `DAMAGED` where it has not the form of one."""
    payload = part.payload
    layered = payload["claim"] == "lipschitz"
    yield _lipschitz(payload) if layered else _claim(payload)
    if layered:
        yield _layers(payload, limits)
    else:
        yield _steps(part, limits)
    what = NOT_COVERED_OF_LAYERS if layered else NOT_COVERED
    yield Section("What is not covered", [("not covered", f"{ROUNDING}; {what}")])
    yield meta(payload["meta"])


def _claim(payload: dict) -> Section:
    claim = payload["claim"]
    sizes = ", ".join(printable(name, 40) for name in payload["sizes"]) or "none"
    variables = ", ".join(f"{printable(v['name'], 40)} of rank {len(v['shape'])}" for v in payload["variables"][:40])
    return Section("Claim", [
        ("claim", f"{printable(claim, 40)}: {MEANING.get(claim, 'a claim that is not known here')}"),
        ("statement", printable(payload["text"])), ("sizes", sizes), ("variables", variables or "none"),
        ("levels", "real"),
    ])  # fmt: skip


def _lipschitz(payload: dict) -> Section:
    norm = printable(payload["norm"], 8)
    bound = brief(number(payload["bound"]))
    claim = f"lipschitz: |f(x) - f(y)| ≤ {bound}·|x - y| for all x, y, in the norm {norm}"
    return Section("Claim", [("claim", claim), ("statement", printable(payload["text"])), ("levels", "real")])


def _layers(payload: dict, limits: Limits) -> Section:
    layers = payload["layers"]
    listed = [(str(k), "×".join(str(int(n)) for n in layer["shape"]), " to ".join(map(printable, layer["slopes"])))
              for k, layer in enumerate(layers[: limits.nodes])]  # fmt: skip
    table = Table(("layer", "outputs × inputs", "slopes"), listed, left_out(len(layers), limits.nodes, "layers"))
    return Section("Proof", [("kind", printable(payload["proof"]["kind"], 40)), ("layers", str(len(layers)))], [table])


def _steps(part: Part, limits: Limits) -> Section:
    from axiom_jax.verification.derivation_checker import Rejected
    from axiom_jax.verification.proof.derivation import Derivation, explain

    proof = part.payload["proof"]
    holds = isinstance(proof, list)
    rows = [("kind", "a derivation" if holds else "a point")] + [("steps", f"{len(proof):,}")] * holds
    rows.append(("size", f"{len(part.data):,} bytes"))
    if holds and len(proof) > FOLLOWED:
        return Section("Proof", [*rows, ("not shown", f"more than {FOLLOWED:,} steps")])
    try:
        lines = explain(Derivation(part.payload))[1:]
    except (Rejected, CertificateError, *DAMAGED) as error:
        return Section("Proof", [*rows, ("not shown", printable(f"the steps cannot be followed: {error}", 300))])
    shown = [printable(line, 300, lines=True) for line in lines[: limits.steps]]
    more = left_out(len(lines), limits.steps, "lines")
    return Section("Proof", rows, lines=[*shown, *filter(None, [more])])
