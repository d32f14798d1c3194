"""Where a term has a value, and where a condition is surely true."""

from axiom_jax.verification.domains.algebra.terms import FALSE, TRUE, Term, condition, land, lnot, lor, topological


def defined(term: Term) -> Term:
    """Where a term is a real number: no division by zero, no logarithm of what is not positive, on the paths taken.

    >>> from axiom_jax.verification.domains.algebra.terms import ONE, ZERO, call, div, ite, le, lt, variable
    >>> x = variable("x")
    >>> defined(ite(lt(ZERO, x), call("log", x), ZERO)), defined(div(ONE, x))
    (true, not(eq(x, 0)))
    """
    return _meaning(term)[0]


def surely(term: Term) -> Term:
    """Where a boolean term is true whatever undefined parts may be: true ∨ undefined is true, 1/0 = 1/0 is not.

    >>> from axiom_jax.verification.domains.algebra.terms import ONE, ZERO, call, div, ite, le, lt, variable
    >>> x = variable("x")
    >>> surely(le(div(ONE, x), ONE))
    and(not(eq(x, 0)), le(div(1, x), 1))
    """
    return _meaning(term)[0]


def _meaning(term: Term) -> tuple[Term, Term]:
    """For a real term: where it is defined, and where not. For a boolean one: where it is surely true, surely false.

    Source: Kleene 1952, Introduction to Metamathematics, §64 (strong three-valued logic).
    """
    known: dict[Term, tuple[Term, Term]] = {}
    for t in topological([term]):
        parts = [known[a] for a in t.args]
        if t.total:
            known[t] = (t, lnot(t)) if t.boolean else (TRUE, FALSE)
        elif t.op == "not":
            known[t] = parts[0][1], parts[0][0]
        elif t.op in ("and", "or"):
            meet, join = (land, lor) if t.op == "and" else (lor, land)
            known[t] = meet([p for p, _ in parts]), join([q for _, q in parts])
        elif t.op == "ite":
            (yes, no), (a, not_a), (b, not_b) = parts
            choice = lambda u, v, yes=yes, no=no: land([lor([yes, no]), lor([no, u]), lor([yes, v])])
            known[t] = choice(a, b), (choice(not_a, not_b) if t.boolean else FALSE)
        else:
            where = land([*(lor(p) if a.boolean else p[0] for a, p in zip(t.args, parts, strict=True)),
                          condition(t.op, t.args, t.value)])  # fmt: skip
            known[t] = (land([where, t]), land([where, lnot(t)])) if t.boolean else (where, FALSE)
    return known[term]
