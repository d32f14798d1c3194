"""A solver in a process of its own: one JSON object a line in, one out. Solvers hang, so whoever asks may kill it.

Asked: `{"text", "seconds", "solver", "proof"}`, text in SMT-LIB 2.6. Answered: `{"answer": "sat" | "unsat" | "unknown",
"values": {constant: "p/q"}, "reason", "proof"}`; a value that is no rational is replaced by one close to it.
"""

import importlib
import importlib.util
import json
import sys
import time
from typing import Any

MEGABYTES = 4096  # that Z3 may take; beyond it gives up


def z3_answer(text: str, seconds: float) -> dict[str, Any]:
    import z3

    context = z3.Context()
    start = time.monotonic()
    assertions = z3.parse_smt2_string(text, ctx=context)
    quantified = "(forall " in text or "(exists " in text
    nonlinear = "NRA" in text.split("(set-logic", 1)[-1].split(")", 1)[0]
    reason = ""
    # the general solver is best at cases, nlsat at polynomials; each gets its turn
    plans: list[tuple[str, float]] = [("smt", 0.3), ("qfnra-nlsat", 0.6), ("smt", 1.0)] if nonlinear else [("smt", 1.0)]
    for name, share in [("smt", 1.0)] if quantified else plans:
        left = seconds * share - (time.monotonic() - start)
        if left <= 0.01:
            continue
        solver = z3.Solver(ctx=context) if name == "smt" else z3.Then("simplify", "propagate-values", "solve-eqs",
                                                                   "purify-arith", "simplify", "tseitin-cnf", name,
                                                                   ctx=context).solver()  # fmt: skip
        solver.set("timeout", max(1, int(left * 1000)))
        solver.add(assertions)
        try:
            found = solver.check()
        except z3.Z3Exception as error:
            reason = str(error)
            continue
        if found == z3.unsat:
            return {"answer": "unsat"}
        if found == z3.sat:
            return {"answer": "sat", "values": _z3_values(solver.model())}
        reason = solver.reason_unknown()
    return {"answer": "unknown", "reason": reason or "out of time"}


def _z3_values(model: Any) -> dict[str, str]:
    import z3

    values = {}
    for declaration in model.decls():
        value = model[declaration]
        if declaration.arity() or not z3.is_arith(value):
            continue
        if z3.is_algebraic_value(value):
            value = value.approx(30)
        if z3.is_int_value(value) or z3.is_rational_value(value):
            values[declaration.name()] = str(value.as_fraction())
    return values


def cvc5_answer(text: str, seconds: float, proof: bool) -> dict[str, Any]:
    cvc5 = importlib.import_module("cvc5")  # its stubs name nothing

    solver = cvc5.Solver()
    solver.setOption("produce-models", "true")
    solver.setOption("tlimit-per", str(max(1, int(seconds * 1000))))
    if proof:
        solver.setOption("produce-proofs", "true")
        solver.setOption("proof-format-mode", "alethe")
        solver.setOption("proof-granularity", "dsl-rewrite")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "asked")
    symbols, answer = parser.getSymbolManager(), "unknown"
    while not (command := parser.nextCommand()).isNull():
        said = command.invoke(solver, symbols).strip()
        if said in ("sat", "unsat", "unknown"):
            answer = said
        elif said:
            return {"answer": "unknown", "reason": said}
    found: dict[str, Any] = {"answer": answer}
    if answer == "sat":
        terms = [t for t in symbols.getDeclaredTerms() if t.getSort().isReal()]
        found["values"] = {t.getSymbol(): _cvc5_value(solver, solver.getValue(t)) for t in terms}
    if answer == "unsat" and proof:
        written = solver.proofToString(solver.getProof()[0], cvc5.ProofFormat.ALETHE)
        found["proof"] = written.decode() if isinstance(written, bytes) else str(written)
    if answer == "unknown":
        found["reason"] = "cvc5 does not know"
    return found


def _cvc5_value(solver: Any, value: Any) -> str:
    if value.isRealValue() or value.isIntegerValue():
        return str(value.toPythonObj())
    low = value.getRealAlgebraicNumberLowerBound() if value.isRealAlgebraicNumber() else None
    high = value.getRealAlgebraicNumberUpperBound() if low is not None else None
    if low is None or high is None:
        return "0"
    return str((low.toPythonObj() + high.toPythonObj()) / 2)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question; what a solver throws becomes the reason of an unknown."""
    try:
        if job["solver"] == "z3":
            return z3_answer(job["text"], job["seconds"])
        return cvc5_answer(job["text"], job["seconds"], job.get("proof", False))
    except ImportError as error:
        return {"answer": "unknown", "reason": str(error), "absent": True}
    except Exception as error:  # of any solver's own class: the process goes on
        return {"answer": "unknown", "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    if importlib.util.find_spec("z3"):
        importlib.import_module("z3").set_param("memory_max_size", MEGABYTES)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
