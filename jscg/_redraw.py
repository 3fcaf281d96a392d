"""Drawing one draw of a program anew, with everything else as it was.

Every draw has its random bits from a key.  An equation that exchanges that key where the draw is
chosen is put in front of it, before the program is planned: so what an estimator draws for it is
exchanged, too, and the runs at other values that it makes use the same key.

What has random bits in common is drawn anew together: draws that are made with the same key, a
sampler of the user and the draws that it is made of, and all draws within a function with a
derivative rule of its own, or a loop that `vmap` has mapped, which are run as they are.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp

from ._activity import propagate
from ._keys import KeyNumbers, behind_sampler, exclusive
from ._nodes import StochasticNode, name_draws
from ._plan import Plan
from ._primitives import redraw_p
from ._program import CUSTOM, Literal, Program, insert_before
from .draws import FAMILIES

_OF_THE_USER = {"sampler", "reparameterized"}
_NO_KEY = "its key does not depend on the arguments"
_HIDDEN = "it stands in a function that is run as it is, and its key is made there"


@dataclasses.dataclass(eq=False)
class Draw:
    """One `draw` equation.

    Attributes:
      program: the program that holds it.
      eqn: the equation.
    """

    program: Program
    eqn: Any

    @property
    def var(self) -> Any:
        """The drawn value."""
        return self.eqn.outvars[0]

    @property
    def key(self) -> Any:
        """The key that it is drawn with."""
        names = self.eqn.params["names"]
        user = self.eqn.params["family"] in _OF_THE_USER
        return self.eqn.invars[1 + names.index("source") if user else 0]

    @property
    def opaque(self) -> Program | None:
        """The outermost program around it that is run as it is."""
        return next((p for p in self.program.path[1:] if _run_as_it_is(p)), None)


@dataclasses.dataclass(eq=False)
class Source:
    """Draws that are drawn anew together.

    Attributes:
      draws: the draws.
      why_not: why they are not drawn anew; empty where they are.
      constant: whether that is because they are the same in every estimate.
    """

    draws: list[Draw]
    why_not: str = ""
    constant: bool = False

    def nodes(self, plan: Plan) -> list[StochasticNode]:
        """Its draws as the plan knows them, with those that were made of them."""
        mine = {d.var for d in self.draws}
        while True:
            more = {v for pair in plan.origins.items() if mine.intersection(pair) for v in pair}
            if more <= mine:
                return [n for n in plan.nodes if n.var in mine]
            mine |= more


class Redrawing:
    """Puts the exchange of keys into a program.

    Attributes:
      chosen: the number of the source that is drawn anew, counted from one; 0 for none.
      sources: what can be, in the order of the program.
      names: of its draws.
    """

    def __init__(self, chosen: Any):
        self.chosen: Any = jnp.asarray(chosen, jnp.int32)
        self.sources: list[Source] = []
        self.names: dict[Any, str] = {}
        self._given: list[tuple[Program, Any]] = []

    def __call__(self, program: Program, keys: list[Any]) -> None:
        """Does so; `keys` are the inputs that differ from estimate to estimate."""
        self.names = name_draws(program)
        self.sources = _sources(program)
        moving = _depending(program, keys)
        chosen = {part: jex_core.Var(jax.typeof(self.chosen)) for part in program.walk()}
        self._given = list(chosen.items())
        for part, var in self._given:
            part.consts[var] = self.chosen
            part.calls.clear()  # they would be run as they were
        for number, source in enumerate(self.sources, 1):
            places = dict.fromkeys(p for d in source.draws for p in _places(d))
            if not any(key in moving for _, key, _ in places):
                source.constant = not any(d.key in moving for d in source.draws)
                source.why_not = _NO_KEY if source.constant else _HIDDEN
                continue
            for part, key, reader in places:
                _exchange(part, key, reader, chosen[part], number)

    def forget(self) -> None:
        """Lets go of what is chosen, once the program has been run, as it may be traced."""
        for part, var in self._given:
            del part.consts[var]
        self.chosen = None


def _exchange(part: Program, key: Any, reader: Any, chosen: Any, number: int) -> None:
    """Lets one equation, or all, read the exchanged key in the place of a key."""
    made = jax.make_jaxpr(lambda k, c: redraw_p.bind(k, c, number=number))(key.aval, jnp.int32(0))
    new = jex_core.Var(key.aval)
    producers = part.producers()
    start = producers[reader] if reader is not None else producers.get(key, -1) + 1
    stop = start + 1 if reader is not None else len(part.eqns)
    source_info = part.eqns[min(start, len(part.eqns) - 1)].source_info
    for i in range(start, stop):
        eqn = part.eqns[i]
        invars = [new if v is key else v for v in eqn.invars]
        if new in invars:
            part.eqns[i] = eqn.replace(invars=invars)
    exchange = made.jaxpr.eqns[0].replace(
        invars=[key, chosen], outvars=[new], source_info=source_info
    )
    insert_before(part, start, exchange)


def _places(draw: Draw) -> list[tuple[Program, Any, Any]]:
    """The programs and keys that are to be exchanged, and the results of who reads them, or None.

    A sampler of the user reads its key wherever it likes.
    """
    opaque = draw.opaque
    if opaque is not None:
        around = opaque.parent
        assert around is not None
        eqn = around.eqns[opaque.at]
        return [(around, key, eqn.outvars[0]) for key in _keys_of(eqn, opaque)]
    part, key = draw.program, draw.key
    if draw.eqn.params["family"] not in _OF_THE_USER:
        return [(part, key, draw.var)]
    made = part.producers().get(key)
    if made is not None and part.eqns[made].primitive.name == "random_wrap":
        key = part.eqns[made].invars[0]
    return [(part, key, None)]


def _keys_of(eqn: Any, body: Program) -> list[Any]:
    """The operands that are keys, typed or legacy."""
    wrapped = {
        inner.invars[0]
        for part in body.walk()
        for inner in part.eqns
        if inner.primitive.name == "random_wrap"
    }
    # The inputs of the body of a loop are the last operands.
    pairs = zip(reversed(eqn.invars), reversed(body.invars), strict=False)
    return [
        outer
        for outer, inner in pairs
        if not isinstance(outer, Literal)
        and (jnp.issubdtype(outer.aval.dtype, jax.dtypes.prng_key) or inner in wrapped)
    ]


def _run_as_it_is(part: Program) -> bool:
    """Whether the rewrite does not look into a program (see `Rewriter.touched`, `while_loop`)."""
    parent = part.parent
    assert parent is not None
    eqn = parent.eqns[part.at]
    mapped = part.holder == "while" and parent.subs[part.at][0].outvars[0].aval.shape
    return eqn.primitive.name in CUSTOM or bool(mapped)


def _has_key(eqn: Any) -> bool:
    """Not, where it is made of another draw: within the result of another gradient."""
    return not FAMILIES[eqn.params["family"]].observed or "source" in eqn.params["names"]


def _sources(program: Program) -> list[Source]:
    """All draws of a program, those with random bits in common together."""
    draws = [
        Draw(part, eqn)
        for part in program.walk()
        for eqn in part.eqns
        if eqn.primitive.name == "draw" and _has_key(eqn)
    ]
    numbers = KeyNumbers(program)
    groups: dict[Draw, list[Draw]] = {d: [d] for d in draws}

    def join(a: Draw, b: Draw) -> None:
        if groups[a] is not groups[b]:
            groups[a] += groups[b]
            for each in groups[b]:
                groups[each] = groups[a]

    made_of = {
        d: behind_sampler(program, d.eqn)
        for d in draws
        if d.eqn.params["family"] in _OF_THE_USER and d.opaque is None
    }
    for a, b in itertools.combinations(draws, 2):
        shared = numbers.of[a.key] == numbers.of[b.key] and not exclusive(a.program, b.program)
        hidden = a.opaque is not None and a.opaque is b.opaque
        within = b.var in made_of.get(a, ()) or a.var in made_of.get(b, ())
        if shared or hidden or within:
            join(a, b)
    order = {d: i for i, d in enumerate(draws)}
    found = list({id(g): g for g in groups.values()}.values())
    return [Source(sorted(g, key=order.__getitem__)) for g in found]


def _depending(program: Program, inputs: list[Any]) -> set[Any]:
    """What depends on some inputs."""
    found = set(inputs)
    propagate(
        program,
        [False] * len(program.invars),
        found,
        lambda eqn, flags: [any(flags)] * len(eqn.outvars),
    )
    return found
