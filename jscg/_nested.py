"""Expectations inside expectations: whether the cost is linear in every estimate of one.

`jscg.expectation(fun)` puts the mean of samples in the place of E[fun].  The mean of a cost that is
linear in it, with factors that its samples do not influence, is the cost of the expectation.  Of
anything else it is not, so that anything else is refused.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ._errors import BiasError, refuse
from ._lineage import (
    HANDLING,
    Lineage,
    Path,
    join_lineages,
    lineages,
    may_be_made_of,
    may_hold_keys,
    next_time,
    origin,
    unknown,
)
from ._linear import is_linear
from ._program import CUSTOM, Literal, Program, split_scan, split_while
from ._source import at_line

Place = tuple[Program, int]  # an equation


@dataclasses.dataclass(frozen=True)
class Fact:
    """What is known of a value.

    Attributes:
      lineage: where it comes from, if it may be a key.
      noise: the keys of what was drawn for it.
      estimates: the estimates that it is made of, by the variables that the marks assign, and where
        it stops being linear in them; None if it is linear.
    """

    lineage: Lineage | None = None
    noise: frozenset[Path] = frozenset()
    estimates: dict[Any, Place | None] = dataclasses.field(default_factory=dict)


NOTHING = Fact()


def check_nested(program: Program) -> None:
    """Makes sure that the cost of a program is linear in every estimate of an expectation.

    Raises:
      BiasError: where an operation is not, or joins one with what its samples influence.
    """
    marked = False
    for part in program.walk():
        for index, eqn in enumerate(part.eqns):
            marked |= eqn.primitive.name == "expectation"
            if index not in part.subs and (mark := _hidden(eqn)) is not None:
                raise refuse(
                    _WHAT,
                    mark,
                    f"it stands in {eqn.primitive.name!r}{at_line(eqn)}, into which jscg does "
                    "not look, so that it cannot tell whether the cost is linear in it.",
                    "call jscg.expectation outside of that",
                    fault=eqn,
                )
    if not marked:
        return
    facts = _Facts(program)
    for mark, place in facts[program.outvars[0]].estimates.items():
        if place is not None:
            raise facts.refuse(mark, *place)


class _Facts:
    """What is known of every variable."""

    def __init__(self, program: Program):
        self.of: dict[Any, Fact] = {}
        # For an estimate, by the variable that its mark assigns: the mark, and the keys drawn from.
        self.marks: dict[Any, tuple[Any, list[Path]]] = {}
        self.run(program, [Fact(origin(v, v)) for v in program.invars])

    def __getitem__(self, atom: Any) -> Fact:
        return NOTHING if isinstance(atom, Literal) else self.of[atom]

    def run(self, program: Program, inputs: list[Fact]) -> list[Fact]:
        for v in program.consts:
            self.of[v] = Fact(unknown(v) if may_hold_keys(v) else None)
        self.of.update(zip(program.invars, inputs, strict=True))
        for index, eqn in enumerate(program.eqns):
            operands = [self[v] for v in eqn.invars]
            subs = program.subs.get(index)
            outs = (
                self.region((program, index), eqn, subs, operands)
                if subs
                else self.plain((program, index), eqn, operands)
            )
            self.of.update(zip(eqn.outvars, outs, strict=True))
        return [self[v] for v in program.outvars]

    def plain(self, place: Place, eqn: Any, operands: list[Fact]) -> list[Fact]:
        name = eqn.primitive.name
        if name == "stop_influence":
            return [Fact(operands[0].lineage)]
        if name == "baseline":
            operands = [operands[0], NOTHING]
        if name == "expectation":
            return [self.mark(eqn, *operands)]
        kinds = lineages(eqn, [f.lineage for f in operands])
        noise = frozenset().union(*(f.noise for f in operands))
        if name not in HANDLING:
            noise |= {f.lineage.path for f in operands if f.lineage is not None}
        estimates = {}
        for mark in dict.fromkeys(m for f in operands for m in f.estimates):
            blamed = _first(f.estimates.get(mark) for f in operands)
            linear = is_linear(eqn, [mark in f.estimates for f in operands]) or is_linear(
                eqn, *self.roles(mark, operands)
            )
            estimates[mark] = blamed or (None if linear else place)
        return [Fact(kind, noise, estimates) for kind in kinds]

    def mark(self, eqn: Any, value: Fact, *keys: Fact) -> Fact:
        var = eqn.outvars[0]
        paths = [(f.lineage or unknown(var)).path for f in keys]
        self.marks[var] = eqn, paths
        estimates = dict(value.estimates)
        if self.reached(var, value):
            estimates[var] = None
        return Fact(None, value.noise, estimates)

    def reached(self, mark: Any, fact: Fact) -> bool:
        """Whether the samples of an estimate may influence a value."""
        return any(may_be_made_of(path, of) for path in fact.noise for of in self.marks[mark][1])

    def roles(self, mark: Any, operands: list[Fact]) -> tuple[list[bool], list[bool]]:
        """Which operands are made of an estimate, and which its samples influence."""
        made = [mark in f.estimates for f in operands]
        return made, [m or self.reached(mark, f) for m, f in zip(made, operands, strict=True)]

    def region(self, place: Place, eqn: Any, subs: Any, operands: list[Fact]) -> list[Fact]:
        name = eqn.primitive.name
        if name == "scan":
            return self.scan(eqn, subs[0], operands)
        if name == "while":
            cond_consts, consts, init = split_while(eqn, operands)
            carry = self.loop(subs[1], consts, init, [])[0]
            stop = self.run(subs[0], [*cond_consts, *carry])
            return _decided(stop, carry, place)
        if name == "cond":
            which, *rest = operands
            branches = [self.run(sub, rest) for sub in subs]
            outs = [_join(*each) for each in zip(eqn.outvars, *branches, strict=True)]
            return [
                _decided([which], [f], place)[0]
                if which.estimates or any(self.reached(m, which) for m in f.estimates)
                else dataclasses.replace(f, noise=f.noise | which.noise)
                for f in outs
            ]
        outs = self.run(subs[0], operands)
        # A derivative rule of its own may be anything.
        return _decided(operands, outs, place) if name in CUSTOM else outs

    def scan(self, eqn: Any, body: Program, operands: list[Fact]) -> list[Fact]:
        consts, init, xs = split_scan(eqn, operands)
        steps = [dataclasses.replace(f, lineage=f.lineage and f.lineage.without(0)) for f in xs]
        carry, ys = self.loop(body, consts, init, steps)
        return [*carry, *(dataclasses.replace(f, lineage=_stacked(f.lineage)) for f in ys)]

    def loop(self, body: Program, consts: list[Fact], init: list[Fact], xs: list[Fact]):
        carry = init
        while True:
            outs = self.run(body, [*consts, *carry, *xs])
            after = []
            for v, before, out in zip(body.outvars, carry, outs, strict=False):
                kind = next_time(before.lineage, out.lineage, v)
                after.append(dataclasses.replace(_join(v, before, out), lineage=kind))
            if after == carry:
                return carry, outs[len(carry) :]
            carry = after

    def refuse(self, mark: Any, program: Program, index: int) -> BiasError:
        """The error for an estimate, and the equation that is not linear in it."""
        eqn = program.eqns[index]
        made, reached = self.roles(mark, [self[v] for v in eqn.invars])
        name = eqn.params["family"] if eqn.primitive.name == "draw" else eqn.primitive.name
        alone = [[i == k for i in range(len(made))] for k in range(len(made)) if made[k]]
        if index not in program.subs and all(is_linear(eqn, one, one) for one in alone):
            why = "joins it with what its own samples influence, too"
            remedies = _PRODUCT
        else:
            why = "is not linear in it"
            remedies = _PRODUCT + _NONLINEAR
        return refuse(
            _WHAT,
            self.marks[mark][0],
            f"{name!r}{at_line(eqn)} {why}.  It is an estimate, and what is made of it in this "
            "way has another mean than what is made of the expectation: value and gradient would "
            "be biased.",
            *remedies,
            fault=eqn,
        )


_WHAT = "the result of jscg.expectation"
_PRODUCT = (
    "for a product or a square, multiply calls with different keys, k1, k2 = jax.random.split(key):"
    " independent estimates may be multiplied",
)
_NONLINEAR = (
    "move the operation into the function that is averaged, if its mean will do (a bound, by "
    "Jensen's inequality)",
    "compute the expectation exactly, by a sum over outcomes",
)


def _first(places: Any) -> Place | None:
    return next((p for p in places if p is not None), None)


def _join(v: Any, *facts: Fact) -> Fact:
    out = facts[0]
    for f in facts[1:]:
        marks = dict.fromkeys([*out.estimates, *f.estimates])
        out = Fact(
            join_lineages(out.lineage, f.lineage, v),
            out.noise | f.noise,
            {m: out.estimates.get(m) or f.estimates.get(m) for m in marks},
        )
    return out


def _decided(by: list[Fact], outs: list[Fact], place: Place) -> list[Fact]:
    """Values that others decide about, so that they are linear in no estimate."""
    noise = frozenset().union(*(f.noise for f in by))
    estimates: dict[Any, Place | None] = {
        m: p or place for f in [*by, *outs] for m, p in f.estimates.items()
    }
    return [Fact(f.lineage, f.noise | noise, estimates) for f in outs]


def _stacked(lineage: Lineage | None) -> Lineage | None:
    return lineage and Lineage(lineage.path, (None, *lineage.axes))


def _hidden(eqn: Any) -> Any:
    """A mark in a program within an equation that jscg takes as a whole."""
    for value in eqn.params.values():
        for body in value if isinstance(value, (tuple, list)) else (value,):
            for inner in getattr(getattr(body, "jaxpr", body), "eqns", ()):
                mark = inner if inner.primitive.name == "expectation" else _hidden(inner)
                if mark is not None:
                    return mark
    return None
