"""The normal form that everything else works on: a flat list of equations.

Calls are inlined, scans and loops of known length unrolled, identities and dead code dropped.
Parameters are inputs of the program, so a `Program` says nothing about weights: nets
of one architecture are equal programs, and a function jitted over a program compiles
once for all of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from axiom_jax._trace import location, trace

CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr",
         "remat", "remat2", "checkpoint", "custom_lin"}  # fmt: skip
IDENTITIES = {"copy", "copy_p", "stop_gradient", "name", "sharding_constraint", "optimization_barrier"}
UNROLL_LIMIT = 4096
# what jax 0.12 writes as one primitive and earlier versions as several: the normal form is the earlier one
FUSED: dict[str, Callable[..., Callable[..., Any]]] = {
    "one_minus_square": lambda **_: lambda x: 1 - x * x,
    "unstack": lambda axis, **_: lambda x: [jax.lax.index_in_dim(x, i, axis, False) for i in range(x.shape[axis])],
}


@dataclass(frozen=True)
class Var:
    """A value of a program: its number, shape and dtype."""

    index: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Equation:
    """One primitive applied to variables; `at` is the user's line."""

    primitive: jex.Primitive
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    params: dict[str, Any]
    at: str = ""

    @property
    def name(self) -> str:
        return self.primitive.name

    @property
    def output(self) -> Var:
        return self.outputs[0]

    def evaluate(self, *operands: Any) -> tuple[Any, ...]:
        """The primitive applied to concrete or traced arrays."""
        results = self.primitive.bind(*operands, **self.params)
        return tuple(results) if self.primitive.multiple_results else (results,)

    @cached_property
    def key(self) -> tuple[Any, ...]:
        frozen = tuple(sorted((name, _freeze(value)) for name, value in self.params.items()))
        return self.primitive.name, self.inputs, self.outputs, frozen


@dataclass(frozen=True, eq=False)
class Program:
    """A normal-form jaxpr. Equal programs differ at most in source lines and in parameter values.

    Args:
        params: weights and captured arrays; no region speaks of them.
        inputs: the variables that a region speaks of.
        literals: scalars written in the function, with their values.
        equations: in an order in which every operand is defined before its use.
        outputs: results, each a variable.
        names: a name a parameter, for people; not part of the program's identity.
    """

    params: tuple[Var, ...]
    inputs: tuple[Var, ...]
    literals: tuple[tuple[Var, Any], ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Var, ...]
    names: tuple[str, ...] = field(default=())

    @cached_property
    def key(self) -> tuple[Any, ...]:
        literals = tuple((var, np.asarray(value).tobytes()) for var, value in self.literals)
        return self.params, self.inputs, literals, tuple(eqn.key for eqn in self.equations), self.outputs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and (self is other or self.key == other.key)

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def varying(self) -> frozenset[Var]:
        """The variables that depend on the inputs; the rest is known once the parameters are."""
        seen = set(self.inputs)
        for eqn in self.equations:
            if not seen.isdisjoint(eqn.inputs):
                seen.update(eqn.outputs)
        return frozenset(seen)

    def evaluate(self, params: Sequence[Any], *inputs: Any) -> tuple[Any, ...]:
        """Run the program on arrays: what the traced function returns, flattened."""
        env = self.environment(params) | dict(zip(self.inputs, inputs, strict=True))
        for eqn in self.equations:
            env.update(zip(eqn.outputs, eqn.evaluate(*(env[v] for v in eqn.inputs)), strict=True))
        return tuple(env[v] for v in self.outputs)

    def environment(self, params: Sequence[Any]) -> dict[Var, Any]:
        """The values of parameters and literals by variable."""
        known: dict[Var, Any] = {var: jnp.asarray(value, var.dtype) for var, value in self.literals}
        return known | dict(zip(self.params, params, strict=True))


def build(fn: Callable[..., Any], params: Any, *inputs: Any, guards: str = "off") -> tuple[Program, list[Any]]:
    """Trace `fn(params, *inputs)` to normal form.

    Args:
        fn: a JAX function of a pytree of parameters and pytrees of inputs.
        params: a pytree of arrays.
        *inputs: pytrees of arrays or `jax.ShapeDtypeStruct`.
        guards: the policy of `ax.ensure` in it: "off", or "mask" for programs that run elsewhere.

    Returns:
        The program, and the values of its parameters: the leaves of `params`, then arrays that
        `fn` captured.

    >>> program, values = build(lambda w, x: jnp.maximum(w @ x, 0), jnp.ones((2, 3)), jnp.zeros(3))
    >>> [eqn.primitive.name for eqn in program.equations]
    ['dot_general', 'max']
    """
    leaves = jax.tree.leaves_with_path(params)
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path, _ in leaves)
    closed = trace(fn, params, *inputs, guards=guards)
    program, captured = normalise(closed, len(leaves))
    names += tuple(f"captured/{i}" for i in range(len(captured)))
    program = Program(program.params, program.inputs, program.literals, program.equations, program.outputs, names)
    return program, [leaf for _, leaf in leaves] + captured


def normalise(closed: jex.ClosedJaxpr, n_params: int = 0) -> tuple[Program, list[Any]]:
    """The normal form of a jaxpr whose first `n_params` inputs are parameters, and the arrays it captured."""
    builder = _Builder()
    inputs = [builder.variable(v.aval) for v in closed.jaxpr.invars]
    outputs = builder.inline(closed.jaxpr, [builder.capture(c) for c in closed.consts], inputs, "")
    params = (*inputs[:n_params], *builder.captured)
    equations, literals = _reachable(builder.equations, builder.literals, outputs)
    program = Program(params, tuple(inputs[n_params:]), literals, equations, tuple(outputs))
    return program, list(builder.captured.values())


class _Builder:
    """Collects equations while jaxprs are walked; variables are numbered in order of definition."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.literals: dict[Var, Any] = {}
        self.captured: dict[Var, Any] = {}
        self.count = 0

    def variable(self, aval: Any) -> Var:
        self.count += 1
        return Var(self.count - 1, tuple(aval.shape), np.dtype(aval.dtype) if _plain(aval.dtype) else aval.dtype)

    def capture(self, value: Any) -> Var:
        value = value if hasattr(value, "shape") else jnp.asarray(value)
        var = self.variable(value)
        self.captured[var] = value
        return var

    def read(self, env: dict[Any, Var], atom: Any) -> Var:
        if not isinstance(atom, jex.Literal):
            return env[atom]
        var = self.variable(atom.aval)
        self.literals[var] = atom.val
        return var

    def inline(self, jaxpr: Any, consts: list[Var], inputs: list[Var], outer: str) -> list[Var]:
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for eqn in jaxpr.eqns:
            at = location(eqn, outer) or outer
            operands = [self.read(env, atom) for atom in eqn.invars]
            outputs = self.apply(eqn, operands, at)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [self.read(env, atom) for atom in jaxpr.outvars]

    def apply(self, eqn: Any, operands: list[Var], at: str) -> list[Var]:
        name = eqn.primitive.name
        if name in CALLS and (inner := _callee(eqn.params)) is not None:
            return self.inline(inner.jaxpr, [self.capture(c) for c in inner.consts], operands, at)
        if name in IDENTITIES or _same_type(eqn, operands):
            return operands
        if name == "scan" and eqn.params["length"] <= UNROLL_LIMIT:
            unrolled = trace(_unrolled(**eqn.params), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in operands))
            return self.inline_at(unrolled, operands, at)
        if name == "while" and (rounds := _rounds(eqn.params, [self.literals.get(v) for v in operands])) is not None:
            looped = _looped(rounds, **eqn.params)
            unrolled = trace(looped, *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in operands))
            return self.inline_at(unrolled, operands, at)
        if name in FUSED:
            written = trace(FUSED[name](**eqn.params), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in operands))
            return self.inline_at(written, operands, at)
        outputs = [self.variable(v.aval) for v in eqn.outvars]
        self.equations.append(Equation(eqn.primitive, tuple(operands), tuple(outputs), dict(eqn.params), at))
        return outputs

    def inline_at(self, closed: jex.ClosedJaxpr, operands: list[Var], at: str) -> list[Var]:
        """Inline a jaxpr of ours; equations that carry none of the user's lines get `at`."""
        consts = [self.constant(c) for c in closed.consts]
        return self.inline(closed.jaxpr, consts, operands, at)

    def constant(self, value: Any) -> Var:
        """A scalar becomes a literal; an array is captured."""
        if np.ndim(value):
            return self.capture(value)
        var = self.variable(jax.ShapeDtypeStruct((), np.asarray(value).dtype))
        self.literals[var] = np.asarray(value)
        return var


Replacement = Callable[..., Any] | tuple[Callable[..., Any], tuple[Var, ...]]


def rewrite(program: Program, choose: Callable[[Program, Equation], Replacement | None]) -> Program:
    """Replace equations by functions of simpler primitives, until none is left to replace.

    Args:
        choose: for an equation, a function of its operands (traced in its place, returning its result or a
            tuple of results), or None to keep it. With a tuple of earlier variables beside it, a function of those.

    Returns:
        A program with the same parameters, inputs and meaning.
    """
    chosen = [choose(program, eqn) for eqn in program.equations]
    if not any(chosen):
        return program
    builder = _Builder()
    every = [*program.params, *program.inputs, *(v for v, _ in program.literals)]
    every += [v for eqn in program.equations for v in eqn.outputs]
    builder.count = 1 + max(v.index for v in every)
    builder.literals = dict(program.literals)
    env = {v: v for v in every}
    for eqn, replacement in zip(program.equations, chosen, strict=True):
        if replacement is None:
            kept = Equation(eqn.primitive, tuple(env[v] for v in eqn.inputs), eqn.outputs, eqn.params, eqn.at)
            builder.equations.append(kept)
        else:
            function, wanted = replacement if isinstance(replacement, tuple) else (replacement, eqn.inputs)
            operands = [env[v] for v in wanted]
            closed = trace(function, *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in operands))
            outputs = builder.inline_at(closed, operands, eqn.at)
            env.update(zip(eqn.outputs, outputs, strict=True))
    if builder.captured:
        raise ValueError("a replacement may not capture arrays")
    outputs = tuple(env[v] for v in program.outputs)
    equations, literals = _reachable(builder.equations, builder.literals, outputs)
    return rewrite(Program(program.params, program.inputs, literals, equations, outputs, program.names), choose)


def _reachable(equations: Sequence[Equation], literals: dict[Var, Any], outputs: Iterable[Var]) -> tuple[Any, Any]:
    """Only what the outputs need, in order."""
    needed, kept = set(outputs), []
    for eqn in reversed(equations):
        if not needed.isdisjoint(eqn.outputs):
            needed.update(eqn.inputs)
            kept.append(eqn)
    return tuple(reversed(kept)), tuple((v, value) for v, value in literals.items() if v in needed)


def _callee(params: dict[str, Any]) -> jex.ClosedJaxpr | None:
    inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
    if inner is None or isinstance(inner, jex.ClosedJaxpr):
        return inner
    return jex.ClosedJaxpr(inner, ())


def _same_type(eqn: Any, operands: list[Var]) -> bool:
    return eqn.primitive.name == "convert_element_type" and eqn.outvars[0].aval.dtype == operands[0].dtype


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried; the rest is scanned over."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()  # from jax 0.12 on
    return len(constants), len(carry)


def _unrolled(*, jaxpr: Any, length: int, reverse: bool, **params: Any) -> Any:
    """A scan as straight-line code: `consts, carry, xs -> carry, ys`."""
    body = jex.jaxpr_as_fun(jaxpr)
    num_consts, num_carry = scan_sizes(params)

    def run(*operands: Any) -> list[Any]:
        consts, carry = operands[:num_consts], list(operands[num_consts : num_consts + num_carry])
        xs, rows = operands[num_consts + num_carry :], []
        for i in reversed(range(length)) if reverse else range(length):
            out = body(*consts, *carry, *(jax.lax.index_in_dim(x, i, keepdims=False) for x in xs))
            carry, row = list(out[:num_carry]), out[num_carry:]
            rows.append(row)
        if reverse:
            rows.reverse()
        columns = zip(*rows, strict=True) if rows else ()
        return [*carry, *(jnp.stack(column) for column in columns)]

    return run


def _looped(rounds: int, *, body_jaxpr: Any, cond_nconsts: int, body_nconsts: int, **_: Any) -> Any:
    """A loop of so many rounds as straight-line code: `consts of the condition, of the body, carry -> carry`."""
    body, first = jex.jaxpr_as_fun(body_jaxpr), cond_nconsts + body_nconsts

    def run(*operands: Any) -> list[Any]:
        consts, carry = operands[cond_nconsts:first], list(operands[first:])
        for _ in range(rounds):
            carry = list(body(*consts, *carry))
        return carry

    return run


def _rounds(params: dict[str, Any], operands: Sequence[Any]) -> int | None:
    """How often a `while` goes round, where counters that start from literals decide it, else None.

    Args:
        operands: the values of operands that are literals, None for the others.
    """
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    of_cond, first = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    given, carry = list(operands[:first]), list(operands[first:])
    while True:  # a counter counts on from counters only
        fixed = [v is not None for v in (*given[of_cond:], *carry)]
        lost = [
            k
            for k, needed in enumerate(_needs(body.jaxpr))
            if carry[k] is not None and not all(fixed[i] for i in needed)
        ]
        if not lost:
            break
        carry = [None if k in lost else v for k, v in enumerate(carry)]
    fixed = [v is not None for v in (*given[:of_cond], *carry)]
    if not all(fixed[i] for i in _needs(cond.jaxpr)[0]):
        return None
    counters = [k for k, v in enumerate(carry) if v is not None]

    def whole(consts: list[Any], state: Any, avals: Any) -> list[Any]:
        """Operands of a jaxpr: what is not known does not matter, and is 0."""
        now = dict(zip(counters, state, strict=True))
        values = [*consts, *(now.get(k) for k in range(len(carry)))]
        pairs = zip(values, avals, strict=True)
        return [jnp.zeros(a.shape, a.dtype) if v is None else jnp.asarray(v, a.dtype) for v, a in pairs]

    def going(state: Any) -> Any:
        (on,) = jex.jaxpr_as_fun(cond)(*whole(given[:of_cond], state[1], cond.in_avals))
        return on & (state[0] <= UNROLL_LIMIT)

    def turn(state: Any) -> Any:
        new = jex.jaxpr_as_fun(body)(*whole(given[of_cond:], state[1], body.in_avals))
        return state[0] + 1, [new[k] for k in counters]

    with jax.ensure_compile_time_eval():
        begin = [jnp.asarray(carry[k], body.out_avals[k].dtype) for k in counters]
        rounds, _ = jax.lax.while_loop(going, turn, (jnp.int32(0), begin))
        return int(rounds) if rounds <= UNROLL_LIMIT else None


def _needs(jaxpr: Any) -> list[set[int]]:
    """For each result of a jaxpr the numbers of the inputs that it may depend on."""
    found: dict[Any, set[int]] = {v: {k} for k, v in enumerate(jaxpr.invars)}
    of = lambda atom: set() if isinstance(atom, jex.Literal) else found.get(atom, set())
    for eqn in jaxpr.eqns:
        needed = set().union(*map(of, eqn.invars))
        found.update(dict.fromkeys(eqn.outvars, needed))
    return [of(atom) for atom in jaxpr.outvars]


def _plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype)


def _freeze(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return repr(value) if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)) else _Frozen(value)


@dataclass(frozen=True)
class _Frozen:
    """A hashable value that sorts among others by its text."""

    value: Any

    def __lt__(self, other: Any) -> bool:
        return repr(self) < repr(other)
