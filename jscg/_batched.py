"""Loops whose state has no derivative: run once, then differentiated in one batch over all steps.

Where parameters reach the state of a loop through draws only, no derivative flows from step to
step.  Then the loop is taken apart, without changing what it computes:

1. a loop over what each step makes by itself: samples, the environment, log-probs, costs (see
   `_stacked`).  In reverse mode it has one backward pass over all steps at once;
2. one batch over all steps: costs with their weights, which need sums over other steps; these are
   cumulative sums;
3. a loop over the rest of what is carried, if it does more than add up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._activity import BITS, active_variables
from ._compat import bind_all
from ._cut import least_to_keep
from ._program import CHECKPOINTS, Literal, Program, build
from ._stacked import EASY, LOOKUPS, QUICK, Steps, is_float, read, scan_whole, size_of, stack
from ._wiring import Wiring, among

_ADD = {"add", "add_any"}
# A batch runs all branches, and JAX cannot transpose that; rules of `custom_vjp` have no linear
# function that could be mapped.
_STEP_BY_STEP = {"cond", "while", "custom_vjp_call"}


def scan_in_parts(
    step: Callable, steps: Steps, consts: list, init: Any, xs: Any, active: list[bool]
) -> tuple[Any, Any]:
    """Does what `lax.scan` does, in parts where that is possible and gains something.

    Args:
      step: given constants, what is carried and what is scanned, returns what is carried and
        results.
      steps: how the loop goes.
      consts: the constants.
      init: what is carried, a pytree.
      xs: what is scanned, a pytree.
      active: for every constant and every leaf of `init` and `xs`, whether it has a derivative.

    Returns:
      What is carried at the end, and the stacked results.
    """
    flat, carried = jax.tree.flatten(init)
    if steps.length < 2 or all(active[len(consts) : len(consts) + len(flat)]):
        return scan_whole(functools.partial(step, consts), steps, init, xs)
    scanned, tree = jax.tree.flatten(xs)
    trees = []

    def flat_step(consts, flat, scanned):
        # What JAX remembers of a trace must not hold the draws by which our trees are keyed.
        out = step(consts, jax.tree.unflatten(carried, flat), jax.tree.unflatten(tree, scanned))
        trees.append(jax.tree.structure(out[1]))
        return jax.tree.leaves(out)

    first = [lax.index_in_dim(x, 0, keepdims=False) for x in scanned]
    program = build(closed := jax.make_jaxpr(flat_step)(consts, flat, first))
    free = list(getattr(closed, "consts", ()))
    body = Body(program, len(free), len(consts), len(flat), active)
    given = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in [*free, *consts]]
    # What is traced already is not traced again: loops within would double that at each level.
    run = body.run if body.separable() else body.run_whole
    ends, results = run(steps, given, flat, scanned)
    return jax.tree.unflatten(carried, ends), jax.tree.unflatten(trees[-1], results)


class Body:
    """The body of a loop, and what in it depends on what.

    Args:
      program: of constants, what is carried and what is scanned; the first are those that were
        free.
      free: how many these are.
      consts: how many constants follow.
      carried: how many variables are carried.
      active: see `scan_in_parts`.

    Attributes:
      state: what is carried and has no derivative.
      sums: what else is carried.
      late: what depends on sums.
      cumulative: for each sum that only adds, what is added in a step.
      recurrent: what depends on the other sums.
      handed: what the first loop hands on.
    """

    def __init__(self, program: Program, free: int, consts: int, carried: int, active: list[bool]):
        self.program, self.wiring = program, Wiring(program)
        first, last = free + consts, free + consts + carried
        self.consts, self.xs = program.invars[:first], program.invars[last:]
        self.carried = program.invars[first:last]
        self.next = dict(zip(self.carried, program.outvars, strict=False))
        self.results = program.outvars[carried:]
        moves = active[consts : consts + carried]
        self.state = [v for v, m in zip(self.carried, moves, strict=True) if not m]
        self.sums = [v for v, m in zip(self.carried, moves, strict=True) if m]
        self.state_out = [self.next[v] for v in self.state]
        self.sums_out = [self.next[v] for v in self.sums]
        flags = [*map(is_float, self.consts[:free]), *active]
        self.active = active_variables(program, flags)
        self.mapped = self.wiring.depending([*self.state, *self.sums, *self.xs])
        self.late = self.wiring.depending(self.sums)
        self.cumulative, self.recurrent = self._cumulative()
        self.handed = self._handed()

    def separable(self) -> bool:
        """Whether nothing is in the way, and something to gain."""
        changing = self.active | self.late
        for part in self.program.walk():
            for eqn in part.eqns:
                if eqn.effects or eqn.primitive.name in CHECKPOINTS:
                    return False
                if eqn.primitive.name in _STEP_BY_STEP and not changing.isdisjoint(eqn.outvars):
                    return False
        if any(among(v, self.active) or among(v, self.late) for v in self.state_out):
            return False
        differentiated = self.active.intersection(self._frontier())
        return not differentiated.isdisjoint(self.wiring.depending(self.state))

    def _cumulative(self) -> tuple[dict[Any, list[Any]], set[Any]]:
        found: dict[Any, list[Any]] = {}
        while True:
            left = [v for v in self.sums if v not in found]
            recurrent = self.wiring.depending(left)
            more = {v: t for v in left if (t := self._terms(v, recurrent)) is not None}
            if not more:
                return found, recurrent
            found |= more

    def _terms(self, v: Any, recurrent: set[Any]) -> list[Any] | None:
        """What is added to a sum in each step, if that is all, and does not depend on others."""
        at, terms = self.next[v], []
        while at is not v:
            index = None if isinstance(at, Literal) else self.wiring.producers.get(at)
            eqn = None if index is None else self.wiring.eqns[index]
            if eqn is None or eqn.primitive.name not in _ADD:
                return None
            late = [among(u, recurrent) for u in eqn.invars]
            if sum(late) != 1:
                return None
            at, term = eqn.invars if late[0] else eqn.invars[::-1]
            terms.append(term)
        return terms

    def _frontier(self) -> list[Any]:
        """What does not depend on other steps but by the state, and is read by what does."""
        early = self.mapped - self.late
        targets = [*self.results, *self.sums_out]
        wanted = self.wiring.read(self.wiring.needed(targets, early), targets)
        return [v for v in wanted if v in early]

    def _handed(self) -> list[Any]:
        """Of what the frontier is made of, what takes least room."""
        early = [v for v in self.mapped if v not in self.late]
        made_of = {v: of for v in early if (of := self._made_again_of(v)) is not None}
        sizes = {v: math.inf if self._is_residual(v) else size_of(v) for v in early}
        return least_to_keep(self._frontier(), made_of, sizes)

    def _made_again_of(self, v: Any) -> list[Any] | None:
        """What the batch can make a variable of in hardly more time than it takes to keep it."""
        if v in {*self.xs}:
            return []
        index = self.wiring.producers.get(v)
        if index is None or index in self.program.subs:
            return None
        eqn = self.wiring.eqns[index]
        name = eqn.primitive.name
        of = list(dict.fromkeys(u for u in eqn.invars if among(u, self.mapped)))
        larger = name not in BITS and size_of(v) > sum(map(size_of, of))
        return of if name in QUICK or larger or self._is_residual(v) else None

    def _is_residual(self, v: Any) -> bool:
        """Whether a derivative needs what a variable is made of, if it is to be had."""
        index = self.wiring.producers.get(v)
        if v not in self.active or index is None:
            return False
        eqn = self.wiring.eqns[index]
        table = eqn.primitive.name in LOOKUPS and not among(eqn.invars[0], self.mapped)
        return eqn.primitive.name in EASY or table

    def run(self, steps: Steps, given: list, carried: list, scanned: list):
        """Runs the loop in parts: what is carried at the end, and the stacked results."""
        fixed = dict(zip(self.consts, given, strict=True)) | self.program.consts
        init = dict(zip(self.carried, carried, strict=True))
        stacks = dict(zip(self.xs, scanned, strict=True))
        ends = stack(self, steps, fixed, [init[v] for v in self.state], stacks)
        batch = Batch(self, steps.length, fixed, stacks)
        final = dict(zip(self.state, ends, strict=True))
        for v, terms in self.cumulative.items():
            batch.make(terms)
            added = functools.reduce(jnp.add, map(batch.stacked, terms))
            final[v] = init[v] + jnp.sum(added, 0)
            stacks[v] = _before(added, init[v], steps.reverse)
        batch.make(v for v in self.results if not among(v, self.recurrent))
        sums = [v for v in self.sums if v not in self.cumulative]
        if sums:
            final |= self._carry_on(steps, batch, init, sums)
        return [final[v] for v in self.carried], [*map(batch.stacked, self.results)]

    def run_whole(self, steps: Steps, given: list, carried: list, scanned: list):
        """Runs the loop as it is."""
        fixed = dict(zip(self.consts, given, strict=True)) | self.program.consts

        def step(carried, xs):
            env = fixed | dict(zip([*self.carried, *self.xs], [*carried, *xs], strict=True))
            bind_all(self.program.eqns, env)
            values = [read(env, v) for v in self.program.outvars]
            return values[: len(carried)], values[len(carried) :]

        return scan_whole(step, steps, carried, scanned)

    def _carry_on(self, steps: Steps, batch: Batch, init: dict, sums: list[Any]) -> dict[Any, Any]:
        """The last loop, over what is carried and does not just add up."""
        ends = [self.next[v] for v in sums]
        results = [v for v in self.results if among(v, self.recurrent)]
        eqns = self.wiring.needed([*results, *ends], self.mapped - self.recurrent)
        wanted = self.wiring.read(eqns, ends)
        batch.make(v for v in wanted if v not in self.recurrent)
        scanned = [v for v in wanted if v in batch.stacks]

        def step(carried, xs):
            env = batch.fixed | dict(zip([*sums, *scanned], [*carried, *xs], strict=True))
            bind_all([self.wiring.eqns[i] for i in eqns], env)
            return [read(env, v) for v in ends], [env[v] for v in results]

        start = [init[v] for v in sums]
        found, values = scan_whole(step, steps, start, [batch.stacks[v] for v in scanned])
        batch.stacks.update(zip(results, values, strict=True))
        return dict(zip(sums, found, strict=True))


class Batch:
    """What is known of all steps at once.

    Attributes:
      fixed: the variables that are the same at all steps, with their values.
      stacks: the others, with a leading axis for the steps.
    """

    def __init__(self, body: Body, length: int, fixed: dict, stacks: dict):
        self.body, self.length, self.fixed, self.stacks = body, length, fixed, stacks

    def make(self, targets: Iterable[Any]) -> None:
        """Makes some variables of those that are known."""
        body, wiring = self.body, self.body.wiring
        eqns = wiring.needed(targets, self.fixed.keys() | self.stacks.keys())
        mapped = [i for i in eqns if any(v in body.mapped for v in wiring.eqns[i].outvars)]
        bind_all([wiring.eqns[i] for i in eqns if i not in set(mapped)], self.fixed)
        made = [v for i in mapped for v in wiring.eqns[i].outvars]
        wanted = [v for v in wiring.read(mapped) if v in self.stacks]

        def run(xs):
            env = self.fixed | dict(zip(wanted, xs, strict=True))
            bind_all([wiring.eqns[i] for i in mapped], env)
            return [env[v] for v in made]

        if mapped:
            values = jax.vmap(run)([self.stacks[v] for v in wanted])
            self.stacks.update(zip(made, values, strict=True))

    def stacked(self, v: Any) -> Any:
        """A variable, or a number, at all steps."""
        if among(v, self.stacks):
            return self.stacks[v]
        value = read(self.fixed, v)
        return jnp.broadcast_to(value, (self.length, *jnp.shape(value)))


def _before(added: jax.Array, start: jax.Array, reverse: bool) -> jax.Array:
    """The sum at the beginning of each step."""
    shift = (-1, 1, 0) if reverse else (1, -1, 0)
    moved = lax.pad(added, jnp.zeros((), added.dtype), [shift, *[(0, 0, 0)] * (added.ndim - 1)])
    return start + lax.cumsum(moved, axis=0, reverse=reverse)
