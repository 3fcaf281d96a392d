"""What stands directly before what: one walk through a program, for pictures and tables.

Between draws, costs and inputs lie the values that the user has given names to.  What has no name
is passed through.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ._costs import CostNode
from ._nodes import StochasticNode
from ._program import MOVES, Literal, Program, split_scan, split_while
from ._source import Place, assigned

INPUT, NAMED, DRAW, COST = "input", "named", "draw", "cost"
_PASSED = MOVES | {"convert_element_type", "slice", "dynamic_slice", "stop_gradient"}
_STATEMENTS = {"baseline", "control_variate"}  # their first operand, as it is
Before = frozenset[tuple["Vertex", bool]]  # with whether the value is of an earlier step
NONE: Before = frozenset()


@dataclasses.dataclass(eq=False)
class Vertex:
    """An input, a named value, a draw or a cost.

    Attributes:
      kind: which of them.
      label: its name.
      program: the program that it is computed in; for a cost, where it is written.
      atoms: the variables that hold it; none for a literal.
      eqn: the equation that makes it, if there is one.
      held: the `StochasticNode` or `CostNode`.
      before: what stands directly before it.
      stated: what stands directly before its baseline or control variate.
      parameters: for a draw, what stands directly before each of its parameters.
    """

    kind: str
    label: str
    program: Program
    atoms: tuple[Any, ...]
    eqn: Any = None
    held: Any = None
    before: Before = NONE
    stated: Before = NONE
    parameters: dict[str, Before] = dataclasses.field(default_factory=dict)


class Dependencies:
    """The result: all vertices, in program order.

    Args:
      program: the program.
      inputs: for each of its inputs its name; None for what is not to be shown.
      nodes: its draws.
      costs: its costs, by program and variable; None for a literal.
      noise: variables of draws that others are made of, and which are not shown before these.
    """

    def __init__(
        self,
        program: Program,
        inputs: list[str | None],
        nodes: list[StochasticNode],
        costs: dict[Program, dict[Any, CostNode]],
        noise: set[Any],
    ):
        self._nodes = {node.var: node for node in nodes}
        self._costs, self._noise = costs, noise
        self._found: dict[Any, Vertex] = {}
        self._before: dict[Any, Before] = {}
        self._runs: dict[Program, dict[int, _Run]] = {}
        # What is assigned there is shown as a cost.
        made = [written(part, v)[1] for part, each in costs.items() for v in each]
        self._priced = {assigned(eqn) for eqn in made if eqn is not None}
        before = []
        for var, name in zip(program.invars, inputs, strict=True):
            at = NONE if name is None else self._vertex(var, INPUT, name, program, (var,))
            before.append(at)
        self._run(program, before, NONE)

    @property
    def vertices(self) -> list[Vertex]:
        """All that a cost depends on; everything, where there is no cost."""
        every = list(self._found.values())
        kept = {v for v in every if v.kind == COST} or set(every)
        todo = list(kept)
        while todo:
            for u, _ in todo.pop().before:
                if u not in kept:
                    kept.add(u)
                    todo.append(u)
        return [v for v in every if v in kept]

    def sources(self, before: Before) -> list[Vertex]:
        """The inputs and draws that something depends on directly, or by named values."""
        found: dict[Vertex, None] = {}
        todo, seen = list(before), set(before)
        while todo:
            vertex, _ = todo.pop()
            if vertex.kind in (INPUT, DRAW):
                found[vertex] = None
                continue
            todo += vertex.before - seen
            seen |= vertex.before
        return [v for v in self._found.values() if v in found]

    def vertex_of(self, node: StochasticNode) -> Vertex:
        """That of a draw."""
        return self._found[node.var]

    def _vertex(self, key, kind, label, program, atoms, eqn=None, held=None) -> Before:
        vertex = self._found.setdefault(key, Vertex(kind, label, program, atoms, eqn, held))
        return frozenset([(vertex, False)])

    def __getitem__(self, atom: Any) -> Before:
        return NONE if isinstance(atom, Literal) else self._before.get(atom, NONE)

    def _run(self, program: Program, inputs: list[Before], control: Before) -> list[Before]:
        """Finds what is before the outputs, from what is before the inputs.

        `control` is what decides whether the program is run at all.
        """
        runs = self._runs.setdefault(program, _named_runs(program))
        for var, before in zip(program.invars, inputs, strict=True):
            self._before[var] = before
            self._cost(program, var, control)
        if None in self._costs.get(program, {}):
            self._cost(program, None, control)
        for index, eqn in enumerate(program.eqns):
            operands = [self[v] for v in eqn.invars]
            if index in program.subs:
                outs = self._region(eqn, program.subs[index], operands, control)
            elif eqn.primitive.name == "draw":
                outs = [self._draw(program, eqn, control)]
            elif eqn.primitive.name in _STATEMENTS:
                outs = operands[: len(eqn.outvars)]
                for vertex, _ in outs[0]:
                    vertex.stated |= operands[-1]
            else:
                outs = [NONE.union(*operands)] * len(eqn.outvars)
            self._before.update(zip(eqn.outvars, outs, strict=True))
            for var in eqn.outvars:
                self._cost(program, var, control)
            if index in runs:
                self._name(program, runs[index])
        return [self[v] for v in program.outvars]

    def _draw(self, program: Program, eqn: Any, control: Before) -> Before:
        node = self._nodes[eqn.outvars[0]]
        at = self._vertex(node.var, DRAW, node.name, program, (node.var,), eqn, node)
        ((vertex, _),) = at
        names = eqn.params["names"]
        vertex.parameters = {
            name: frozenset(u for u in self[v] if not self._noise & set(u[0].atoms))
            for name, v in zip(names, eqn.invars[1:], strict=True)
            if name != "source"
        }
        vertex.before = control.union(*vertex.parameters.values())
        return at

    def _cost(self, program: Program, var: Any, control: Before) -> None:
        if var not in self._costs.get(program, {}):
            return
        key = (program, var)
        if key not in self._found:
            place, eqn = written(program, var)
            held = self._costs[program][var]
            self._vertex(key, COST, "", place, () if var is None else (var,), eqn, held)
        self._found[key].before = control if var is None else self[var] | control

    def _name(self, program: Program, run: _Run) -> None:
        before = NONE.union(*(self[v] for v in run.results))
        if not before or run.name in self._priced or run.passed:
            return
        label, _ = run.name
        if len(before) == 1 and {v.label for v, _ in before} == {label}:
            return  # a draw, shifted and scaled
        at = self._vertex(run.results, NAMED, label, program, run.results, run.eqn)
        ((vertex, _),) = at
        vertex.before = before
        self._before |= dict.fromkeys(run.results, at)

    def _region(self, eqn, subs, operands: list[Before], control: Before) -> list[Before]:
        name = eqn.primitive.name
        if name == "scan":
            return self._scan(eqn, subs[0], operands, control)
        if name == "while":
            return self._while(eqn, subs, operands, control)
        if name != "cond":
            return self._run(subs[0], operands, control)
        which, *rest = operands
        outs = [which] * len(eqn.outvars)
        for sub in subs:
            inner = self._run(sub, rest, control | which)
            outs = [a | b for a, b in zip(outs, inner, strict=True)]
        return outs

    def _scan(self, eqn, body: Program, operands, control: Before) -> list[Before]:
        consts, init, xs = split_scan(eqn, operands)
        carry = init
        while True:
            outs = self._run(body, [*consts, *carry, *xs], control)
            after = [
                a | c | _earlier(b, body)
                for a, c, b in zip(init, carry, outs[: len(init)], strict=True)
            ]
            if after == carry:
                break
            carry = after
        return [frozenset((v, False) for v, _ in out) for out in outs]

    def _while(self, eqn, subs, operands, control: Before) -> list[Before]:
        cond, body = subs
        cond_consts, consts, init = split_while(eqn, operands)
        carry = init
        while True:
            (stop,) = self._run(cond, [*cond_consts, *carry], control)
            outs = self._run(body, [*consts, *carry], control | stop)
            after = [a | b | stop for a, b in zip(carry, outs, strict=True)]
            if after == carry:
                return after
            carry = after


def written(program: Program, atom: Any) -> tuple[Program, Any]:
    """The equation with what the user has written for a value, with its program; or None."""
    while True:
        index = program.producers().get(atom) if not isinstance(atom, Literal) else None
        if index is None:
            return program, None
        eqn = program.eqns[index]
        if eqn.primitive.name == "scan":
            (program,) = program.subs[index]
            atom = program.outvars[eqn.outvars.index(atom)]
        elif eqn.primitive.name in _PASSED and not isinstance(eqn.invars[0], Literal):
            if written(program, eqn.invars[0])[1] is None:
                return program, eqn
            atom = eqn.invars[0]
        else:
            return program, eqn


def _earlier(before: Before, body: Program) -> Before:
    """What was before a value, seen from the next step of a loop."""
    return frozenset((v, was or body in v.program.path) for v, was in before)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Equations in a row that make what is assigned to names.

    Attributes:
      name: the names, and where that stands.
      results: the variables that are used elsewhere.
      passed: whether nothing but the layout and the type changes.
      eqn: the last equation.
    """

    name: tuple[str, Place]
    results: tuple[Any, ...]
    passed: bool
    eqn: Any


def _named_runs(program: Program) -> dict[int, _Run]:
    """The runs of a program, by the index of their last equation."""
    named = [assigned(eqn) for eqn in program.eqns]
    users: dict[Any, set[Any]] = {}
    for index, (name, eqn) in enumerate(zip(named, program.eqns, strict=True)):
        for v in eqn.invars:
            if not isinstance(v, Literal):
                users.setdefault(v, set()).add(None if index in program.subs else name)
    for v in program.outvars:
        if not isinstance(v, Literal):
            users.setdefault(v, set()).add(None)
    found, start = {}, 0
    for i, name in enumerate(named):
        if i and (name != named[i - 1] or (i - 1) in program.subs):
            start = i
        last = i + 1 == len(named) or named[i + 1] != name or (i + 1) in program.subs
        if name is None or not last or i in program.subs:
            continue
        eqns = program.eqns[start : i + 1]
        outputs = [v for eqn in eqns for v in eqn.outvars]
        results = tuple(v for v in outputs if users.get(v, {name}) != {name})
        passed = all(eqn.primitive.name in _PASSED for eqn in eqns)
        if results:
            found[i] = _Run(name, results, passed, eqns[-1])
    return found
