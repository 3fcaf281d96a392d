"""Keys that are used twice, so that draws are not independent.

The score of a draw is that of its law given everything before it.  If a draw uses the same random
bits as another one, the product of their probabilities is not their joint probability, and the
gradient would be biased.  Keys are compared by how they were made: the same operations on the same
inputs give the same bits, typed or legacy.  Reparameterised draws may share a key (common random
numbers): differentiating through them stays right.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ._activity import live_variables
from ._errors import refuse
from ._nodes import SCORED, StochasticNode
from ._program import Literal, Program, split_scan, split_while
from ._source import at_line


def check_keys(program: Program, nodes: list[StochasticNode], origins: dict[Any, Any]) -> None:
    """Raises where a scored draw has its key in common with another draw, or with itself.

    Args:
      program: the program.
      nodes: its draws.
      origins: for the variable of a draw that is made by hand, that of the draw it is made of.

    Raises:
      BiasError: a key is used twice.
    """
    if not any(n.verdict == SCORED for n in nodes):
        return
    nodes = [n for n in nodes if n.key is not None]
    numbers = KeyNumbers(program)
    if not _suspicious(nodes, numbers):
        return
    noise = set(origins.values())
    live = live_variables(program) | noise
    nodes = [n for n in nodes if n.var in live]
    scored = [n for n in nodes if n.verdict == SCORED or n.var in noise]
    users: dict[Any, list[StochasticNode]] = {}
    for node in nodes:
        users.setdefault(numbers.of[node.key], []).append(node)
    for node in scored:
        _check_steps(node, numbers)
        others = [
            o
            for o in users[numbers.of[node.key]]
            if o is not node and origins.get(o.var, o.var) is not origins.get(node.var, node.var)
        ]
        for other in others:
            apart = exclusive(node.program, other.program)
            if not (apart or _within(program, node, other)):
                raise refuse(
                    node.what,
                    node.eqn,
                    f"it has its key in common with {other.what}{at_line(other.eqn)}.  The draws "
                    "are made of the same random bits, not independent, and the product of their "
                    "probabilities is not their joint probability.",
                    "split the key: k1, k2 = jax.random.split(key)",
                    "draw once and use the value twice, if it is meant to be the same",
                    "wrap the other in jscg.stop_influence, if they share it on purpose (common "
                    "random numbers) and are added, not multiplied",
                    fault=other.eqn,
                    keys=True,
                )


def _suspicious(nodes: list[StochasticNode], numbers: KeyNumbers) -> bool:
    """Whether a key is used twice at all, by whomever."""
    return len({numbers.of[n.key] for n in nodes}) < len(nodes) or any(n.loops for n in nodes)


def _check_steps(node: StochasticNode, numbers: KeyNumbers) -> None:
    moving = numbers.moving.get(numbers.of[node.key], frozenset())
    for part in node.program.path:
        if part.loop is not None and part.loop.length > 1 and part not in moving:
            raise refuse(
                node.what,
                node.eqn,
                "it stands in a loop and has the same key at every step, so that all steps draw "
                "from the same random bits, not independently.",
                "scan over jax.random.split(key, steps), or fold the step number into the key",
                keys=True,
            )


def exclusive(a: Program, b: Program) -> bool:
    """Whether two programs stand in different branches of one cond, of which one is taken."""
    for p, q in zip(a.path, b.path, strict=False):
        if p is not q:
            return p.parent is q.parent and p.at == q.at and p.holder == "cond"
    return False


def _within(program: Program, a: StochasticNode, b: StochasticNode) -> bool:
    """Whether one of two draws is what the other, a sampler of the user, is made of."""

    def made_of(node, other):
        return node.family == "sampler" and other.var in behind_sampler(program, node.eqn)

    return made_of(a, b) or made_of(b, a)


def behind_sampler(program: Program, eqn: Any) -> set[Any]:
    """What the value of a sampler of the user is made of."""
    return live_variables(program, [eqn.invars[0]])


class KeyNumbers:
    """Equal numbers for variables that are made in the same way of the same inputs.

    Attributes:
      of: the number of every variable that a key is made of.
      moving: for a number, the loop bodies in which it differs from step to step.
    """

    def __init__(self, program: Program):
        self.of: dict[Any, int] = {}
        self.moving: dict[int, frozenset[Program]] = {}
        self._known: dict[Any, int] = {}
        self._fresh = itertools.count()
        self._needed = _behind_keys(program)
        for v in program.invars:
            self._new(v)
        self._run(program)

    def _new(self, var: Any, moving: frozenset[Program] = frozenset()) -> None:
        self.of[var] = next(self._fresh)
        self.moving[self.of[var]] = moving

    def _number(self, atom: Any) -> Any:
        if isinstance(atom, Literal):
            return ("literal", str(atom.val), str(atom.aval))
        return self.of.get(atom)  # None: no key is made of it

    def _run(self, program: Program) -> None:
        for v in program.consts:
            if v not in self.of:
                self._new(v)
        for index, eqn in enumerate(program.eqns):
            if self._needed.isdisjoint(eqn.outvars) and index not in program.subs:
                continue
            inputs = tuple(map(self._number, eqn.invars))
            moving = frozenset().union(*(self.moving.get(n, ()) for n in inputs))
            subs = program.subs.get(index)
            if subs:
                self._region(eqn, subs, moving)
                continue
            key = (eqn.primitive.name, _frozen(eqn.params), inputs)
            for k, v in enumerate(eqn.outvars):
                if eqn.effects:
                    self._new(v, moving)
                    continue
                number = self._known.setdefault((key, k), next(self._fresh))
                self.of[v] = number
                self.moving[number] = moving

    def _region(self, eqn: Any, subs: tuple[Program, ...], moving: frozenset[Program]) -> None:
        name = eqn.primitive.name
        for k, sub in enumerate(subs):
            if name == "scan":
                same, carry, xs = split_scan(eqn, eqn.invars)
                changing = len(carry) + len(xs)
            elif name == "while":
                first, second, carry = split_while(eqn, eqn.invars)
                same, changing = (first, second)[k], len(carry)
            else:
                same, changing = (eqn.invars[1:] if name == "cond" else eqn.invars), 0
            for v, outer in zip(sub.invars, same, strict=False):
                if isinstance(outer, Literal) or outer not in self.of:
                    self._new(v)
                else:
                    self.of[v] = self.of[outer]
            for v in sub.invars[len(sub.invars) - changing :] if changing else ():
                self._new(v, moving | {sub})
            self._run(sub)
        for v in eqn.outvars:
            self._new(v, moving)


def _behind_keys(program: Program) -> set[Any]:
    """The variables of which the keys of draws are made."""
    needed: set[Any] = set()
    holding = set()
    for part in reversed(list(program.walk())):
        for index in reversed(range(len(part.eqns))):
            eqn = part.eqns[index]
            read: list[Any] = []
            if eqn.primitive.name == "draw":
                read = [v for v in eqn.invars if jnp.issubdtype(v.aval.dtype, jax.dtypes.prng_key)]
            elif index in part.subs:
                read = eqn.invars if holding & set(part.subs[index]) else []
            elif not needed.isdisjoint(eqn.outvars):
                read = eqn.invars
            if read:
                holding.add(part)
                needed.update(v for v in read if not isinstance(v, Literal))
    return needed


def _frozen(params: dict[str, Any]) -> Any:
    """Parameters as something that can be compared."""
    out = []
    for name, value in sorted(params.items()):
        try:
            hash(value)
        except TypeError:
            value = repr(value)
        out.append((name, value))
    return tuple(out)
