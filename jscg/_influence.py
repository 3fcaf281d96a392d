"""Influence per element: which elements of which draw reach which elements of every value."""

from __future__ import annotations

from typing import Any

from ._nodes import StochasticNode
from ._program import (
    CHECKPOINTS,
    CUSTOM,
    Literal,
    Loop,
    Program,
    build,
    split_scan,
    split_while,
)
from ._relation import NOTHING, Influence, Relation, band, join, map_bands, mix, widen
from .draws import FAMILIES
from .rules import CUT, INNER, RULES, Transfer, keep


class InfluenceMap:
    """The result: `influence[var]` is what influences a variable (design section 4).

    Only `nodes` are followed, and what influences the program's `inputs`.
    """

    def __init__(
        self,
        program: Program,
        nodes: list[StochasticNode],
        inputs: list[Influence] | None = None,
    ):
        self._of: dict[Any, Influence] = {}
        self.scored = {node.var: node for node in nodes}
        # What decides whether a branch is taken influences every cost in it.
        self.taken: dict[Program, Influence] = {}
        if nodes or inputs:
            self._run(program, inputs or [NOTHING] * len(program.invars))

    def __getitem__(self, atom: Any) -> Influence:
        return NOTHING if isinstance(atom, Literal) else self._of.get(atom, NOTHING)

    def _run(self, program: Program, inputs: list[Influence]) -> list[Influence]:
        for var, influence in zip(program.invars, inputs, strict=True):
            self._of[var] = influence
        for index in range(len(program.eqns)):
            self._step(program, index)
        return [self[v] for v in program.outvars]

    def _step(self, program: Program, index: int) -> None:
        eqn, subs = program.eqns[index], program.subs.get(index)
        operands = [self[v] for v in eqn.invars]
        if subs:
            outs = self._region(eqn, subs, operands)
        elif eqn.primitive.name == "draw":
            outs = [self._draw(eqn, operands)]
        elif not any(operands):
            return
        else:
            outs = self._inner(eqn, operands) or transfer(eqn, operands)
        self._of.update(zip(eqn.outvars, outs, strict=True))

    def _inner(self, eqn: Any, operands: list[Influence]) -> list[Influence] | None:
        """Through the function that makes the value of an equation, if it holds one."""
        name = eqn.primitive.name
        found = INNER[name](eqn) if name in INNER else None
        if found is None:
            return None
        made_by, places = found
        program = build(made_by)
        consts = [NOTHING] * (len(program.invars) - len(places))
        return self._run(program, [*consts, *(operands[i] for i in places)])

    @classmethod
    def along(cls, node: StochasticNode, path: list[int], atom: Any) -> Influence:
        """What influences `atom` if `node` does so only by equations `path` of its program."""
        local = cls(node.program, [])
        local._of[node.var] = {node: own_relation(node)}
        for index in path:
            local._step(node.program, index)
        return local[atom]

    def _draw(self, eqn: Any, operands: list[Influence]) -> Influence:
        out = NOTHING
        if any(operands):
            out = _apply(draw_transfers(eqn), operands)
        node = self.scored.get(eqn.outvars[0])
        if node is None:
            return out
        return join(out, {node: own_relation(node)})

    def _region(self, eqn: Any, subs: tuple[Program, ...], operands: list[Influence]):
        name = eqn.primitive.name
        if name == "scan":
            return self._scan(eqn, subs[0], operands)
        if name in CHECKPOINTS or name in CUSTOM:
            return self._run(subs[0], operands)
        if name == "cond":
            which, *rest = operands
            outs: list[Influence] = [mix(which)] * len(eqn.outvars)
            for sub in subs:
                self.taken[sub] = which
                outs = [join(a, b) for a, b in zip(outs, self._run(sub, rest), strict=True)]
            return outs
        return self._while(eqn, subs, operands)

    def _scan(self, eqn: Any, body: Program, operands: list[Influence]) -> list[Influence]:
        consts, init, xs = split_scan(eqn, operands)
        loop = body.loop
        assert loop is not None
        scanned = [map_bands(x, lambda b: _step_in(b, loop)) for x in xs]
        step = 1 if loop.reverse else -1

        def next_step(influence: Influence) -> Influence:
            return map_bands(
                influence,
                lambda b: band(loop, b[1] + step, b[2] + step) if b[0] is loop else b,
            )

        carry = init
        while True:
            outs = self._run(body, [*consts, *carry, *scanned])
            after = [
                join(a, join(b, next_step(c)))
                for a, b, c in zip(init, carry, outs[: len(carry)], strict=True)
            ]
            if after == carry:
                break
            carry = [widen(a, b) for a, b in zip(carry, after, strict=True)]
        last = [
            join(a, map_bands(c, lambda b: None if b[0] is loop else b))
            for a, c in zip(init, outs[: len(carry)], strict=True)
        ]
        return [*last, *(map_bands(y, lambda b: _step_out(b, loop)) for y in outs[len(carry) :])]

    def _while(self, eqn: Any, subs: tuple[Program, ...], operands: list[Influence]):
        cond, body = subs
        cond_consts, consts, init = split_while(eqn, operands)
        carry = init
        while True:
            (stop,) = self._run(cond, [*cond_consts, *carry])
            # Under vmap the examples stop one by one: each keeps what it has from then on.
            stop = stop if cond.outvars[0].aval.shape else mix(stop)
            outs = self._run(body, [*consts, *carry])
            after = [join(stop, join(a, b)) for a, b in zip(carry, outs, strict=True)]
            if after == carry:
                return after
            carry = [widen(a, b) for a, b in zip(carry, after, strict=True)]


def own_relation(node: StochasticNode) -> Relation:
    """How a draw influences the value that it draws."""
    loops = [(loop, 0, 0) for loop in node.loops]
    return (*loops, *((i, 0, 0) for i in range(len(node.shape))))


def _step_in(b, loop: Loop):
    """A scanned operand seen in the body: its leading axis is the loop."""
    axis, lo, hi = b
    if not isinstance(axis, int):
        return b
    return (loop, lo, hi) if axis == 0 else (axis - 1, lo, hi)


def _step_out(b, loop: Loop):
    """An output of the body as the scan stacks it: the loop is its leading axis."""
    axis, lo, hi = b
    if axis is loop:
        return (0, lo, hi)
    return (axis + 1, lo, hi) if isinstance(axis, int) else b


def draw_transfers(eqn: Any) -> list[Transfer]:
    """Where the axes of a draw's key and parameters go."""
    params = eqn.params
    levels, rule = params["batch"], FAMILIES[params["family"]]
    out = eqn.outvars[0].aval.shape
    transfers = []
    for k, var in enumerate(eqn.invars):
        mapped = [(level, 0, 0) for level, m in enumerate(levels) if m[k]]
        base = len(var.aval.shape) - len(mapped)
        if k == 0:
            axes: tuple = tuple(range(base)) if rule.observed else (None,) * base
        else:
            axes = rule.operand_axes(
                params["names"][k - 1], base, len(out) - len(levels), dict(params["static"])
            )
        transfers.append(
            tuple(mapped)
            + tuple(
                None if a is None or size != out[a + len(levels)] else (a + len(levels), 0, 0)
                for a, size in zip(axes, var.aval.shape[len(mapped) :], strict=True)
            )
        )
    return transfers


def transfer(eqn: Any, operands: list[Influence]) -> list[Influence]:
    """What influences the outputs of an equation without sub-programs that jscg walks."""
    rule = RULES.get(eqn.primitive.name)
    if rule is not None:
        return [_apply(t, operands) for t in rule.transfers(eqn)]
    out = NOTHING
    for influence in operands:
        out = join(out, mix(influence))
    return [out] * len(eqn.outvars)


def _apply(transfers: Transfer, operands: list[Influence]) -> Influence:
    out = NOTHING
    for axes, influence in zip(transfers, operands, strict=True):
        if not influence or axes == CUT:
            continue
        if axes != keep(len(axes)):
            influence = map_bands(influence, lambda b, axes=axes: _through(b, axes))
        out = join(out, influence)
    return out


def _through(b, axes):
    axis, lo, hi = b
    if not isinstance(axis, int):
        return b
    t = axes[axis]
    # JAX's batching writes some axes as numbers of NumPy, which no loop is.
    return None if t is None else band(int(t[0]), lo + t[1], hi + t[2])
