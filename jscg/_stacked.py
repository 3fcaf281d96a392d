"""The first part of a loop that is taken apart: what each step makes of its state.

The loop keeps the residuals of what has a derivative, as reverse mode does in any loop.  But here
they belong to one function of the parameters, that of all steps: a `vmap` of the linear function
of one step, in which parameters are not mapped, so that its transpose sums over steps and batch in
one product of matrices.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._compat import bind_all, open_jaxpr
from ._known import known
from ._products import with_flat_products
from ._program import Literal, build
from ._wiring import Wiring, among

# What takes less time to make than to fetch.
QUICK = set(
    """
    abs add add_any and broadcast_in_dim ceil clamp concatenate convert_element_type copy eq floor
    ge gt iota is_finite le lt max min mul ne neg not one_minus_square or pad reshape round
    select_n sign slice square squeeze stop_gradient sub transpose xor
    """.split()
)
# What takes little more, and is often one of many that are made in one go.
EASY = QUICK | set(
    """
    atan2 cbrt cos div erf erfc exp exp2 expand_dims expm1 integer_pow log log1p logistic pow
    reduce_max reduce_min reduce_sum rem rev rsqrt sin sqrt tanh
    """.split()
)
# The same, of a table that is the same at all steps.
LOOKUPS = {"dynamic_slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Steps:
    """How a loop goes.

    Attributes:
      length: number of steps.
      reverse: from the last index to the first.
      unroll: as `lax.scan` takes it.
    """

    length: int
    reverse: bool
    unroll: Any


def scan_whole(step: Callable, steps: Steps, init: Any, xs: Any) -> tuple[Any, Any]:
    """Does what `lax.scan` does."""
    return lax.scan(step, init, xs, length=steps.length, reverse=steps.reverse, unroll=steps.unroll)


def stack(body: Any, steps: Steps, fixed: dict, state: list, stacks: dict) -> list:
    """Runs the first loop.

    Args:
      body: what is run (see `Body`).
      steps: how the loop goes.
      fixed: the variables that are the same at all steps, with their values.
      state: at the beginning.
      stacks: what is scanned, stacked; what the loop hands on is added.

    Returns:
      The state at the end.
    """
    one = OneStep(body, fixed, steps.length)
    first = {v: lax.index_in_dim(stacks[v], 0, keepdims=False) for v in one.scanned}
    known_first = fixed | first | dict(zip(body.state, state, strict=True))
    traced = Traced(one, [[known_first[v] for v in group] for group in (one.moving, one.others)])
    ends, values = traced.scan(steps, fixed, state, [stacks[v] for v in one.scanned])
    states, plain, made, residuals = values
    if made:
        given = fixed | stacks | dict(zip(one.states, states, strict=True))
        moving, others = [given[v] for v in one.moving], [given[v] for v in one.others]
        made = known(made, one.values, moving, others, traced.linear, [*traced.consts, *residuals])
    stacks.update(zip(one.plain, plain, strict=True))
    stacks.update(zip(one.differentiated, made, strict=True))
    return ends


class OneStep:
    """What one step makes of its state.

    Attributes:
      differentiated: what it hands on that has a derivative.
      plain: what it hands on besides.
      moving: of what it reads, that by which it is differentiated.
      others: the rest of what it reads.
      states: of these, what is carried, if there is something to differentiate.
      scanned: of all that it reads, what is scanned.
    """

    def __init__(self, body: Any, fixed: dict, length: int):
        self.body, self.fixed, self.length = body, fixed, length
        self.differentiated = [v for v in body.handed if v in body.active]
        self.plain = [v for v in body.handed if v not in body.active]
        targets = [*body.state_out, *body.handed]
        self.eqns = body.wiring.needed(targets, {*body.state, *body.xs})
        wanted = body.wiring.read(self.eqns, targets)
        self.moving = [v for v in wanted if v in body.active and is_float(v)]
        self.others = [v for v in wanted if v not in {*self.moving}]
        self.states = [v for v in self.others if v in {*body.state} and self.differentiated]
        self.scanned = [v for v in wanted if v in {*body.xs}]
        self.axes = [
            [None if v in fixed else 0 for v in group] for group in (self.moving, self.others)
        ]

    def run(self, moving: Sequence, others: Sequence) -> tuple[list, tuple[list, list]]:
        """What is differentiated; the next state, and the rest."""
        env = dict(zip([*self.moving, *self.others], [*moving, *others], strict=True))
        bind_all([self.body.wiring.eqns[i] for i in self.eqns], env)
        state = [read(env, v) for v in self.body.state_out]
        return [env[v] for v in self.differentiated], (state, [env[v] for v in self.plain])

    def linearized(self, moving: list, others: list):
        """The same, the linear function of `moving`, and its residuals."""
        made, linear, (state, plain) = jax.linearize(
            lambda *moving: self.run(moving, others), *moving, has_aux=True
        )
        jaxpr, residuals = open_jaxpr(jax.make_jaxpr(linear)(*moving))
        return jaxpr, (state, plain, made, residuals)

    def values(self, moving: list, others: list) -> list:
        """What is differentiated, at all steps."""
        return self.at_all_steps(lambda *given: self.run(*given)[0], moving, others)

    def at_all_steps(self, fun: Callable, moving: list, others: list) -> list:
        """Runs a function of what one step reads on what all read."""
        return jax.vmap(fun, self.axes, axis_size=self.length)(moving, others)


class Traced:
    """One step with its linear function, traced, so that one sees which residuals differ.

    Attributes:
      consts: arrays that the trace has found.
    """

    def __init__(self, one: OneStep, given: list[list]):
        self.one = one
        found: list[Any] = []

        def step(moving, others):
            jaxpr, out = one.linearized(moving, others)
            found.append(jaxpr)
            return out

        closed, shapes = jax.make_jaxpr(step, return_shape=True)(*given)
        self.jaxpr = found[-1]
        program = build(closed)
        self.consts, self.wiring = list(getattr(closed, "consts", ())), Wiring(program)
        self.fixed = program.consts
        self.invars = program.invars
        self.inputs = program.invars[len(self.consts) :]
        self.of = dict(zip([*one.moving, *one.others], self.inputs, strict=True))
        apart = [self.of[v] for v in [*one.states, *one.scanned]]
        self.mapped = self.wiring.depending(apart)
        sizes = [len(group) for group in shapes]
        starts = [sum(sizes[:i]) for i in range(5)]
        groups = [program.outvars[a:b] for a, b in itertools.pairwise(starts)]
        self.state, self.plain, self.made, self.residuals = groups
        self.kept = self._kept({*apart})

    def _kept(self, free: set[Any]) -> list[Any]:
        """What the loop keeps of the residuals, or in their place.

        What is made in no time of less, or of what is kept in any case, is made again.
        """
        kept = dict.fromkeys(v for v in self.residuals if among(v, self.mapped) and v not in free)
        todo = list(kept)
        while todo:
            v = todo.pop()
            index = self.wiring.producers.get(v)
            if (
                v not in kept
                or index is None
                or self.wiring.eqns[index].primitive.name not in QUICK
            ):
                continue
            of = dict.fromkeys(u for u in self.wiring.eqns[index].invars if among(u, self.mapped))
            more = [u for u in of if u not in kept and u not in free]
            if not more or sum(map(size_of, more)) < size_of(v):
                del kept[v]
                kept |= dict.fromkeys(more)
                todo += more
        return list(kept)

    def scan(self, steps: Steps, fixed: dict, state: list, scanned: list):
        """Runs the loop: the last state; states, what is handed on, and residuals, stacked."""
        one, body = self.one, self.one.body
        moving = {v: lax.stop_gradient(fixed[v]) for v in one.moving if v in fixed}
        known = {self.of[v]: x for v, x in (fixed | moving).items() if v in self.of}
        known |= dict(zip(self.invars, self.consts, strict=False)) | self.fixed
        wanted = [*self.plain, *self.made, *self.kept]
        eqns = self.wiring.needed([*self.state, *wanted], ())
        sizes = [len(self.plain), len(self.made)]

        def step(state, xs):
            at = dict(zip([*body.state, *one.scanned], [*state, *xs], strict=True))
            env = known | {self.of[v]: x for v, x in at.items() if v in self.of}
            bind_all([self.wiring.eqns[i] for i in eqns], env)
            values = [read(env, v) for v in wanted]
            return [read(env, v) for v in self.state], ([at[v] for v in one.states], values)

        xs = [
            lax.stop_gradient(x) if v in {*one.moving} else x
            for v, x in zip(one.scanned, scanned, strict=True)
        ]
        ends, (states, values) = scan_whole(step, steps, state, xs)
        first, second = sizes[0], sum(sizes)
        return ends, (states, values[:first], values[first:second], values[second:])

    def linear(self, moving: list, others: list, residuals: list, tangents: list) -> list:
        """The derivative of what is handed on, at all steps."""
        one, count = self.one, len(self.consts)
        consts, kept = residuals[:count], known(residuals[count:], self.kept_again, moving, others)
        start = dict(zip(self.invars, consts, strict=False)) | self.fixed
        eqns = self.wiring.needed(self.residuals, {*self.kept})

        def one_step(moving, others, kept, tangents):
            env = start | dict(
                zip([*self.inputs, *self.kept], [*moving, *others, *kept], strict=True)
            )
            bind_all([self.wiring.eqns[i] for i in eqns], env)
            values = [read(env, v) for v in self.residuals]
            env = dict(zip(self.jaxpr.constvars, values, strict=True))
            env |= dict(zip(self.jaxpr.invars, tangents, strict=True))
            bind_all(self.jaxpr.eqns, env)
            return [read(env, v) for v in self.jaxpr.outvars]

        over = jax.vmap(one_step, (*one.axes, 0, one.axes[0]), axis_size=one.length)
        return with_flat_products(over, moving, others, kept, tangents)

    def kept_again(self, moving: list, others: list) -> list:
        """What is kept, made again."""
        start = dict(zip(self.invars, self.consts, strict=False)) | self.fixed
        eqns = self.wiring.needed(self.kept, ())

        def one_step(moving, others):
            env = start | dict(zip(self.inputs, [*moving, *others], strict=True))
            bind_all([self.wiring.eqns[i] for i in eqns], env)
            return [env[v] for v in self.kept]

        return self.one.at_all_steps(one_step, moving, others)


def read(env: dict, v: Any) -> Any:
    """The value of a variable or a number."""
    return v.val if isinstance(v, Literal) else env[v]


def size_of(v: Any) -> int:
    """Bytes of a variable."""
    return math.prod(v.aval.shape) * v.aval.dtype.itemsize


def is_float(v: Any) -> bool:
    """Whether a variable may have a derivative."""
    return jnp.issubdtype(v.aval.dtype, jnp.inexact)
