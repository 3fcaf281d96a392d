"""The rewrite: runs a program again with its costs weighted.

Equations that no plan touches are bound as they are.  Control flow that holds draws or costs is
issued anew (see `_regions`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._compat import bind, bind_all
from ._costs import CostNode
from ._expected import expected
from ._fits import fitted_terms
from ._frame import Frame, Scope
from ._kinks import once
from ._left_out import left_out_terms
from ._nodes import FREE, StochasticNode
from ._pairs import Score
from ._plan import Plan
from ._portions import portions
from ._primitives import MARKS, replay
from ._program import CUSTOM, Literal, Program
from ._regions import region
from ._relaxed import run_lifted
from ._sampled import Sampled
from ._scores import Scorer
from ._weighing import Weight
from ._weights import LogProb, holding, leave_one_out, weighted_leave_one_out
from .draws._family import each


class Rewriter:
    """Runs the program of a plan with weighted costs.

    Attributes:
      keeps_effects: whether what is done for its effects alone, such as printing, is done.
      differentiated: whether what it computes is differentiated by the parameters.
      weighs: whether costs are weighted; they are taken as they are if not.
    """

    keeps_effects = True
    differentiated = True
    weighs = True

    def __init__(self, plan: Plan, compare: Callable[[Rewriter], Any] | None = None):
        self.plan = plan
        self.shadows = plan.finder.shadows
        producers = plan.finder.producers
        enumerated = {e.node for w in plan.weights.values() for e in w.enumerations}
        at_means = {n for f in plan.fitted.values() if f.run for n in f.run.nodes}
        wanted = plan.scored | enumerated | plan.compared.keys() | plan.edges.keys() | at_means
        self.scorers = {n: Scorer(n, producers[n.program]) for n in plan.nodes if n in wanted}
        # Whose log-probs weight costs, who adds terms of its own, who chooses what to compare.
        self.weighing = plan.scored | plan.compared.keys()
        self.adding: set[Any] = set(plan.baselines)
        self.choosing = set(plan.compared)
        # Of these, the square of the score stands in the place of the log-prob's number.
        self.weighs_others = {n for n in plan.scored if plan.estimators[n].weighs_others}
        self.node_of = {n.var: n for n in self.weighing | plan.relaxed}
        self.relax(plan.relaxed, set())
        self.free = {n.var for n in plan.nodes if n.verdict == FREE and not n.empty}
        self.baselines = {
            n.program.eqns[b.position].outvars[0]: b for n, b in plan.baselines.items()
        }
        self.comparer = compare(self) if compare is not None and plan.compared else None
        self.touched: dict[tuple[Program, int], bool] = {}
        self.portions: dict[Program, list[Any]] = {}
        for part in plan.program.walk():
            for index, subs in part.subs.items():
                self.touched[part, index] = part.eqns[index].primitive.name not in CUSTOM and any(
                    inner in self.shadows.outputs
                    or any(eqn.primitive.name in MARKS for eqn in inner.eqns)
                    or any(part is inner for part, _ in plan.passed | plan.kinks.keys())
                    for sub in subs
                    for inner in sub.walk()
                )

    def relax(self, nodes: set[StochasticNode], passed: set[tuple[Program, int]]) -> None:
        """Sets the draws that are relaxed, and equations that let derivatives pass then."""
        self.relaxing, self.passed = nodes, passed
        edges = [edge for n in nodes for edge in self.plan.edges[n]]
        self.edges = {edge.place: edge for edge in edges}
        self.lifted = {(edge.node.program, i) for edge in edges for i in edge.lifted}

    def __call__(self, args: list[Any], given: dict[Any, jax.Array] | None = None) -> list[Any]:
        """Runs the program; its first output is the surrogate.

        Args:
          args: of the program.
          given: arrays for draws or costs, whose first axes are the loops around these.
        """
        symbols: dict[Any, jax.Array] = given or {}
        if self.comparer is None:
            first, (rest, _) = self.surrogate(args, symbols)
            return [first, *rest]
        compared = self.comparer.symbols()
        symbols = symbols | compared
        # Costs-to-go are needed where elements have costs of their own.
        apart = {n: s for n, s in compared.items() if not self.plan.compared[n].single}
        if apart:
            first, pull, (rest, found) = jax.vjp(
                lambda apart: self.surrogate(args, symbols | apart), apart, has_aux=True
            )
            (own,) = pull(jnp.ones_like(first))
        else:
            (first, (rest, found)), own = self.surrogate(args, symbols), {}
        own = lax.stop_gradient({n: own.get(n, first) for n in compared})
        first += self.comparer.term(args, own, found).astype(first.dtype)
        return [first, *rest]

    def surrogate(self, args: list[Any], symbols: dict[Any, jax.Array]):
        """The surrogate, the other results, and what estimators compare."""
        compare = weighted_leave_one_out if self.weighs_others else leave_one_out
        frame = self.run(self.plan.program, args, {}, Scope({}, {}, symbols, compare=compare))
        first = self.shadow(frame, self.plan.program.outvars[0])
        for term in itertools.chain(fitted_terms(self, frame), left_out_terms(self, frame)):
            self.add_extra(frame, term)
        if frame.extra is not None:
            first = first + frame.extra.astype(first.dtype)
        return first, ([frame.read(v) for v in self.plan.program.outvars[1:]], frame.found)

    # Running one program.

    def run(self, program: Program, args: list[Any], shadows: dict[int, Any], scope: Scope):
        frame = Frame(
            program,
            dict(zip(program.invars, args, strict=True)) | program.consts,
            {program.invars[i]: value for i, value in shadows.items()},
            dataclasses.replace(scope, current=dict(scope.current)),
            {},
            None,
        )
        done = 0
        if program not in self.portions:
            self.portions[program] = portions(self, program)
        for index in self.portions[program]:
            if isinstance(index, list):
                bind_all(index, frame.env)
                continue
            if index in program.subs and self.touched[program, index]:
                self.weight_costs(frame, done, index)
                done = index
            self.step(frame, index, program.eqns[index])
        self.weight_costs(frame, done, len(program.eqns))
        return frame

    def step(self, frame: Frame, index: int, eqn: Any) -> None:
        name = eqn.primitive.name
        args = [frame.read(v) for v in eqn.invars]
        if name == "draw":
            # A draw without a score says so if somebody differentiates by its parameters.
            free = eqn.outvars[0] in self.free
            outs = bind(eqn, *args) if free else [replay(*args, **eqn.params)]
        elif name in MARKS:
            outs = args[:1]
        elif (frame.program, index) in self.passed:
            outs = args
            for body in frame.program.subs.get(index, ()):  # of a derivative rule
                inner = self.run(body, args, {}, frame.scope)
                outs = [inner.read(v) for v in body.outvars]
        elif index in frame.program.subs and name not in CUSTOM:
            outs = region(self, frame, index, eqn, args)
        else:
            outs = bind(eqn, *args)
        place = self.plan.kinks.get((frame.program, index))
        if place is not None:
            outs = [once(out, place) for out in outs]
        frame.env.update(zip(eqn.outvars, outs, strict=True))
        if name == "draw" and eqn.outvars[0] in self.node_of:
            self.account(frame, self.node_of[eqn.outvars[0]], outs[0])
        elif name in MARKS and eqn.outvars[0] in self.baselines:
            self.baselines[eqn.outvars[0]].subtract(self, frame)
        if (frame.program, index) in self.lifted:
            run_lifted(frame, eqn)
        edge = self.edges.get((frame.program, index))
        if edge is not None and edge.node in frame.relaxed:
            edge.run(frame, self.scorers[edge.node])

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Does what a draw needs, once it is made."""
        if node in self.relaxing:
            frame.relaxed[node] = self.relaxed_value(frame, node, value)
        if node not in self.weighing:
            return
        if node in self.choosing:
            assert self.comparer is not None
            frame.found[node] = self.comparer.choose(frame, node, value)
            self.set_log_prob(frame, node, frame.scope.given[node])
        else:
            log_prob = self.scorers[node].log_prob(value, frame.read)
            if self.weighs_others:
                mine = node in self.weighs_others
                square = self.scorers[node].squared_score(value, frame.read) if mine else 0.0
                log_prob = holding(log_prob, square)
            self.set_log_prob(frame, node, log_prob)

    def relaxed_value(self, frame: Frame, node: StochasticNode, value: Any) -> list[jax.Array]:
        """The weight of each outcome of a draw, differentiable."""
        draw = Sampled(self.scorers[node], lax.stop_gradient(value), frame.read)
        return each(self.plan.estimators[node].relax(draw))

    def nothing(self, node: StochasticNode) -> Any:
        """What a branch without a draw reports of it."""
        assert self.comparer is not None
        return self.comparer.nothing(node)

    def set_log_prob(self, frame: Frame, node: StochasticNode, log_prob: jax.Array) -> None:
        frame.raw[node] = log_prob
        first = len(node.loops)
        axes = tuple(range(first, first + len(node.shape)))
        frame.scope.current[node] = LogProb(log_prob, axes).keep(self.plan.kept[node])

    def add_extra(self, frame: Frame, term: Any) -> None:
        frame.extra = term if frame.extra is None else frame.extra + term

    # Costs.

    def has_shadow(self, program: Program, atom: Any) -> bool:
        if isinstance(atom, Literal):
            return None in self.shadows.costs.get(program, {})
        if atom in self.shadows.linear or atom in self.shadows.costs.get(program, {}):
            return True
        split = self.plan.finder.splits.found.get(atom)
        return split is not None and (split.reach is not None or bool(split.carries))

    def shadow(self, frame: Frame, atom: Any) -> Any:
        """A value with its costs weighted; the value itself where it has none."""
        if isinstance(atom, Literal):
            cost = self.shadows.costs.get(frame.program, {}).get(None)
            return atom.val if cost is None else self.weighted(frame, cost, atom.val)
        return frame.shadows[atom] if atom in frame.shadows else frame.env[atom]

    def weight_costs(self, frame: Frame, start: int, stop: int) -> None:
        """Computes the shadows of the results of equations `start` to `stop`."""
        costs = self.shadows.costs.get(frame.program, {})
        for eqn in itertools.islice(frame.program.eqns, start, stop):
            for var in eqn.outvars:
                if var in costs and self.weighs:
                    self.foresee(frame, self.plan.weights[costs[var]], var.aval.shape)
        if start == 0:
            for var in frame.program.invars:
                if var in costs:
                    frame.shadows[var] = self.weighted(frame, costs[var], frame.env[var])
        for eqn in itertools.islice(frame.program.eqns, start, stop):
            for var in eqn.outvars:
                if var in costs:
                    frame.shadows[var] = self.weighted(frame, costs[var], frame.env[var])
                elif var in self.shadows.linear:
                    parts = self.shadows.linear[var]
                    args = [
                        self.shadow(frame, v) if i in parts else frame.read(v)
                        for i, v in enumerate(eqn.invars)
                    ]
                    frame.shadows[var] = self.bind_linear(eqn, args)[eqn.outvars.index(var)]

    def foresee(self, frame: Frame, weight: Weight, shape: tuple[int, ...]) -> None:
        """Announces the weights of a cost, so that those of many are made at once."""
        for scores, _ in self.scores_of(weight):
            if scores:
                frame.foresee(scores, shape)

    def bind_linear(self, eqn: Any, args: list[Any]) -> list[Any]:
        return args[:1] if eqn.primitive.name in MARKS else bind(eqn, *args)

    def weighted(self, frame: Frame, cost: CostNode, value: Any) -> Any:
        """One cost with its weight."""
        if not self.weighs:
            return value
        weight = self.plan.weights[cost]
        if weight.enumerations:
            found = expected(self, frame, cost, weight.enumerations)
            frame.expectations[cost.atom], value = found, found.value
        factor = self.factor(frame, cost, weight, tuple(np.shape(value)))
        if factor is None:
            return value
        value = jnp.asarray(value)
        return value * factor.astype(value.dtype)

    def factor(self, frame: Frame, cost: CostNode, weight: Weight, shape: tuple[int, ...]) -> Any:
        made = [
            self.weight(frame, cost, scores, shape, axis)
            for scores, axis in self.scores_of(weight)
            if scores
        ]
        return functools.reduce(jnp.multiply, made) if made else None

    def weight(self, frame: Frame, cost: CostNode, scores, shape, axis: int | None) -> Any:
        """The weight that some scores give a cost, the others along an axis as the baseline."""
        return frame.weight(scores, shape, axis)

    def scores_of(self, weight: Weight) -> list[tuple[Sequence[Score], int | None]]:
        """What weights a cost, with the axis over which the others are the baseline."""
        others = set(weight.others)
        with_baseline = [s for s in weight.scores if s not in others]
        return [(with_baseline, weight.leave_one_out), ([*weight.others, *weight.compared], None)]
