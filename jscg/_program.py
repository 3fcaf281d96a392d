"""A traced function as jscg walks it: equations in order, calls inlined, control flow nested."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.extend.core as jex_core
from jax.extend.source_info_util import summarize

from ._compat import open_jaxpr, scan_counts

Literal = jex_core.Literal
JITS = {"jit", "pjit"}
CALLS = JITS | {"closed_call", "core_call", "eval_jaxpr"}
CHECKPOINTS = {"checkpoint", "remat", "remat2"}
CUSTOM = {"custom_jvp_call", "custom_vjp_call"}  # keep their rules: looked into, never rebuilt
# What lays the elements of an array out in another way, without changing them.
MOVES = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "copy", "name"}
REGIONS = {"scan", "while", "cond"} | CHECKPOINTS | CUSTOM


@dataclasses.dataclass(eq=False)
class Loop:
    """One `scan`, as an axis: its steps are the axis' indices.

    Attributes:
      length: number of steps.
      reverse: whether it runs from the last index to the first.
    """

    length: int
    reverse: bool


@dataclasses.dataclass(eq=False)
class Program:
    """A straight line of equations.  Every variable belongs to exactly one program.

    Attributes:
      invars: inputs; for the root the closed-over constants come first.
      outvars: outputs, variables or literals.
      eqns: equations; no call is left among them.
      consts: variables whose value is known.
      calls: for the index of the first equation of calls, where each ends and the call itself,
        inner ones first.
      subs: for the index of a control-flow equation, its bodies (branches; cond then body).
      path: the programs around this one, the root first, and this one at the end.
      at: index in the parent's `eqns` of the equation that holds this program.
      loop: the loop whose body this program is, if any.
      closed_over: inputs that are constants of the traced function, with their values.
    """

    invars: list[Any]
    outvars: list[Any]
    eqns: list[Any]
    consts: dict[Any, Any]
    calls: dict[int, list[tuple[int, Any]]]
    subs: dict[int, tuple[Program, ...]]
    path: tuple[Program, ...]
    at: int
    loop: Loop | None = None
    closed_over: dict[Any, Any] = dataclasses.field(default_factory=dict)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The loops around this program's equations, the outermost first."""
        return tuple(p.loop for p in self.path if p.loop is not None)

    @property
    def parent(self) -> Program | None:
        """The program that holds this one."""
        return self.path[-2] if len(self.path) > 1 else None

    @property
    def holder(self) -> str:
        """The name of the primitive that holds this program; empty for the root."""
        parent = self.parent
        return parent.eqns[self.at].primitive.name if parent is not None else ""

    def operand(self, var: Any) -> Any:
        """The variable around this program that is handed in as one of its inputs, if any."""
        parent = self.parent
        if parent is None or var not in self.invars:
            return None
        eqn, place = parent.eqns[self.at], self.invars.index(var)
        if self.holder == "while":
            return None
        outer = eqn.invars[place + (self.holder == "cond")]
        return None if isinstance(outer, Literal) else outer

    def producers(self) -> dict[Any, int]:
        """For every variable that an equation here makes, the index of that equation."""
        return {var: i for i, eqn in enumerate(self.eqns) for var in eqn.outvars}

    def walk(self):
        """Yields this program and all programs within."""
        yield self
        for subs in self.subs.values():
            for sub in subs:
                yield from sub.walk()


def insert(program: Program, index: int, eqns: list[Any]) -> None:
    """Puts equations in the place of one that holds no program."""
    program.eqns[index : index + 1] = eqns
    _shift(program, index + 1, len(eqns) - 1)


def insert_before(program: Program, index: int, eqn: Any) -> None:
    """Puts an equation in front of another one."""
    program.eqns.insert(index, eqn)
    _shift(program, index, 1)


def _shift(program: Program, start: int, more: int) -> None:
    """Says that the equations from `start` on stand later now."""

    def moved(i: int) -> int:
        return i + more if i >= start else i

    for subs in program.subs.values():
        for sub in subs:
            sub.at = moved(sub.at)
    program.subs = {moved(i): subs for i, subs in program.subs.items()}
    program.calls = {
        moved(i): [(moved(stop), eqn) for stop, eqn in calls] for i, calls in program.calls.items()
    }


class Uses:
    """Who makes and who reads the variables of one program.

    Attributes:
      producers: for a variable, the index of the equation that makes it.
      consumers: for a variable, the indices of the equations that read it, in order.
      outputs: the variables that the program returns.
    """

    def __init__(self, program: Program):
        self.producers = program.producers()
        self.consumers: dict[Any, list[int]] = {}
        for i, eqn in enumerate(program.eqns):
            for v in dict.fromkeys(v for v in eqn.invars if not isinstance(v, Literal)):
                self.consumers.setdefault(v, []).append(i)
        self.outputs = {v for v in program.outvars if not isinstance(v, Literal)}


def build(closed_jaxpr: Any) -> Program:
    """Makes a program of a closed jaxpr; its constants become the first inputs."""
    jaxpr, consts = open_jaxpr(closed_jaxpr)
    program = _Builder().program(jaxpr, [*jaxpr.constvars, *jaxpr.invars], (), 0, None)
    program.closed_over.update(zip(jaxpr.constvars, consts, strict=True))
    return program


class _Builder:
    """Copies a jaxpr with fresh variables, so that a body that is called twice is two bodies.

    The outermost jaxpr is called once: its equations stay as they are, but for calls' results.
    """

    def program(self, jaxpr, inputs, path, at, loop, consts=()) -> Program:
        program = Program([], [], [], {}, {}, {}, path, at, loop)
        program.path = (*path, program)
        env: dict[Any, Any] = {}
        for var in inputs:
            env[var] = jex_core.Var(var.aval) if path else var
            program.invars.append(env[var])
        if consts:
            self.bind_consts(program, jaxpr, consts, env)
        self.emit(program, jaxpr, env, copied=bool(path))
        program.outvars = [self.read(env, v) for v in jaxpr.outvars]
        return program

    def bind_consts(self, program, jaxpr, consts, env):
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            env[var] = jex_core.Var(var.aval)
            program.consts[env[var]] = value

    def read(self, env, atom):
        return atom if isinstance(atom, Literal) else env[atom]

    def emit(self, program, jaxpr, env, copied=True, source=None):
        for eqn in jaxpr.eqns:
            if source is not None:
                eqn = eqn.replace(source_info=source)
            invars = [v if isinstance(v, Literal) else env[v] for v in eqn.invars]
            name = eqn.primitive.name
            if name in CALLS:
                self.inline(program, eqn, invars, env)
                continue
            outvars = [jex_core.Var(v.aval) for v in eqn.outvars] if copied else eqn.outvars
            env.update(zip(eqn.outvars, outvars, strict=True))
            if name in REGIONS:
                index = len(program.eqns)
                program.subs[index] = self.bodies(program, eqn, name, index)
            if copied or any(a is not b for a, b in zip(invars, eqn.invars, strict=True)):
                eqn = eqn.replace(invars=invars, outvars=outvars)
            program.eqns.append(eqn)

    def inline(self, program, eqn, invars, env):
        jaxpr, consts = open_jaxpr(eqn.params.get("jaxpr") or eqn.params["call_jaxpr"])
        inner = dict(zip(jaxpr.invars, invars, strict=True))
        self.bind_consts(program, jaxpr, consts, inner)
        start = len(program.eqns)
        # What JAX compiles by itself (`jnp.where`, say) does not know who called it.
        unknown = bool(jaxpr.eqns) and not summarize(jaxpr.eqns[0].source_info)
        self.emit(program, jaxpr, inner, source=eqn.source_info if unknown else None)
        for var, out in zip(eqn.outvars, jaxpr.outvars, strict=True):
            env[var] = self.read(inner, out)
        # A donated argument would be gone when the rewrite reads it later.
        emits = len(program.eqns) > start  # `jnp.atleast_1d` may do nothing
        if emits and eqn.primitive.name in JITS and not any(eqn.params["donated_invars"]):
            known = {v for v in invars if not isinstance(v, Literal)} | program.consts.keys()
            outvars = [
                jex_core.Var(v.aval) if isinstance(out, Literal) or out in known else out
                for v, out in ((v, env[v]) for v in eqn.outvars)
            ]
            call = (len(program.eqns), eqn.replace(invars, outvars))
            program.calls.setdefault(start, []).append(call)

    def bodies(self, program, eqn, name, index) -> tuple[Program, ...]:
        params = eqn.params
        loop = None
        if name == "scan":
            loop = Loop(params["length"], params["reverse"])
            closed = [params["jaxpr"]]
        elif name == "cond":
            closed = params["branches"]
        elif name == "while":
            closed = [params["cond_jaxpr"], params["body_jaxpr"]]
        else:
            closed = [params["call_jaxpr"] if name in CUSTOM else params["jaxpr"]]
        subs = []
        for body in closed:
            jaxpr, consts = open_jaxpr(body)
            subs.append(self.program(jaxpr, jaxpr.invars, program.path, index, loop, consts))
        return tuple(subs)


def split_scan(eqn: Any, atoms: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Splits a scan's operands, or its body's inputs, into (consts, carries, scanned)."""
    consts, carries = scan_counts(eqn.params)
    return atoms[:consts], atoms[consts : consts + carries], atoms[consts + carries :]


def split_while(eqn: Any, atoms: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Splits a while loop's operands into (cond consts, body consts, carries)."""
    cond, body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    return atoms[:cond], atoms[cond : cond + body], atoms[cond + body :]
