"""The plan: for every draw an estimator, for every cost its weight, and what must flow where.

A cost is weighted where it is computed.  If the draw stands elsewhere, its log-prob must get
there: out of loops and branches (`exports`), into other loops step by step (`imports`), and from
earlier steps of a loop to later ones as a running sum (`running`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

from ._activity import noisy_variables
from ._baselines import Baseline, Scales, find_baselines
from ._control_variates import check_one, find_control_variates
from ._costs import CostFinder, CostNode
from ._devices import check_collectives, check_shard_maps
from ._enumerable import EnumerableAtItsStep
from ._errors import ArgumentError, refuse
from ._first_order import check_reparameterised
from ._fitted import Fitted, find_fitted
from ._groups import Groups, find_groups
from ._influence import InfluenceMap
from ._keys import check_keys
from ._kinks import find_kinks
from ._mend import mend
from ._nested import check_nested
from ._nodes import PATHWISE, SCORED, StochasticNode, check_bounds, find_nodes, name_draws
from ._pairs import Pairs, Score
from ._particles import Particles, find_particles
from ._program import Program
from ._refs import check_refs
from ._relaxed import Edge, find_edges
from ._rerun import compare_cheap, compare_without_baseline, has_effects
from ._routes import route
from ._smooth import check_smooth, relaxed_with
from ._weighing import Weight, choose_axis, weigh
from .estimators import Auto, Estimator
from .estimators._checks import why_not_compared


@dataclasses.dataclass(eq=False)
class Plan:
    """Everything that the rewrite needs to know (see the module)."""

    program: Program
    active_inputs: list[bool]
    nodes: list[StochasticNode]
    influence: InfluenceMap
    finder: CostFinder
    estimators: dict[StochasticNode, Estimator]
    weights: dict[CostNode, Weight]
    baselines: dict[StochasticNode, Baseline]
    fitted: dict[StochasticNode, Fitted]
    particles: dict[StochasticNode, Particles]
    compared: dict[StochasticNode, Groups]
    edges: dict[StochasticNode, list[Edge]]
    origins: dict[Any, Any]
    active: set[Any]
    passed: set[tuple[Program, int]]
    kinks: dict[tuple[Program, int], str]
    kept: dict[StochasticNode, set[int]]
    exports: dict[Program, list[StochasticNode]]
    running: dict[Program, list[StochasticNode]]
    imports: dict[Program, dict[StochasticNode, dict[int, tuple[float, float]]]]

    @property
    def scored(self) -> set[StochasticNode]:
        """The draws whose log-prob is needed somewhere."""
        return {s.node for s in _distinct_scores(self.weights)}

    @property
    def relaxing(self) -> dict[StochasticNode, Estimator]:
        """The estimators of the draws that are relaxed in some run."""
        return {n: self.estimators[n] for n in self.edges}

    @property
    def relaxed(self) -> set[StochasticNode]:
        """The draws that are relaxed whenever the program is run."""
        return {n for n in self.edges if self.estimators[n].relaxes == "program"}


def _distinct_scores(weights: dict[CostNode, Weight]) -> dict[Score, None]:
    """All scores, each of them once, in order."""
    return dict.fromkeys(itertools.chain.from_iterable(w.scores for w in weights.values()))


Choices = Estimator | Mapping[str, Estimator] | None
Purpose = Literal["any order", "first order", "bound"]


def make_plan(
    program: Program,
    active_inputs: list[bool],
    choices: Choices,
    purpose: Purpose = "any order",
    repeats: int = 1,
    in_chunks: bool = False,
) -> Plan:
    """Finds the draws and costs of a program and chooses how each is estimated.

    Args:
      program: the program; jumps are taken out of it in place.
      active_inputs: for each of its inputs, whether the gradient is for it.
      choices: the estimators that the user has chosen.
      purpose: what the result is for: derivatives of any order, the first derivative alone, or a
        bound of the expectation.
      repeats: how often the program is run for one gradient.
      in_chunks: whether samples are run a few at a time.
    """
    check_nested(program)
    names = name_draws(program)
    chosen = _by_name(program, names, choices)
    allowed = isinstance(choices, Estimator) and choices.allows_jumps
    silent = set(names) if allowed else {v for v, e in chosen.items() if e.allows_jumps}
    asked: dict[Any, str] = {v: e.continuous_law for v, e in chosen.items() if e.continuous_law}
    relaxed = {v for v, e in chosen.items() if e.relaxes == "program"}
    if isinstance(choices, Estimator) and choices.relaxes == "program":
        relaxed = set(names)
    active, origins = mend(program, active_inputs, silent, asked, relaxed)
    check_refs(program, active)
    check_shard_maps(program, active, noisy_variables(program, silent))
    nodes = find_nodes(program, active)
    check_keys(program, nodes, origins)
    check_bounds(program, nodes, active_inputs)
    estimators = _choose(nodes, choices, chosen, origins)
    influence = InfluenceMap(program, [n for n in nodes if n.verdict == SCORED])
    check_reparameterised(program, influence, active_inputs)
    check_collectives(program, influence)
    if purpose == "bound":
        finder = CostFinder(program, influence, keep_constants=True)
    else:
        at_its_step = EnumerableAtItsStep(dict(estimators), influence)
        finder = CostFinder(program, influence, better_inside=at_its_step)
    edges, passed = _find_edges(program, nodes, estimators, influence)
    # Where costs are not recomputed: another run may change what happens there.
    all_edges = list(itertools.chain.from_iterable(edges.values()))
    kept = passed.union(*(edge.places for edge in all_edges))
    pairs = Pairs(estimators)
    weights = {}
    for part, costs in finder.shadows.costs.items():
        made = finder.producers[part]
        for cost in costs.values():
            weights[cost] = weigh(cost, pairs.of(cost), influence, made, kept)
    scored = list({s.node: None for s in _distinct_scores(weights)})
    baselines = find_baselines(program, scored, influence)
    controlled = find_control_variates(program, scored, influence)
    check_one(baselines, controlled)
    baselines |= controlled
    Scales(finder, baselines).run(program)
    particles = {}
    if purpose != "bound":
        particles = find_particles(
            finder, program, weights, estimators, baselines.keys(), influence
        )
    if purpose == "first order":
        compare_cheap(program, weights, estimators, baselines, influence, repeats, particles)
        scored = list({s.node: None for s in _distinct_scores(weights)})
        particles = {n: p for n, p in particles.items() if n in scored}
    # Two particles tell little of each other; what is fitted over a batch tells more.
    many = {n for n, p in particles.items() if p.count > 2}
    may_fit = [n for n in scored if n not in controlled and n not in many]
    fitted = find_fitted(finder, pairs, weights, may_fit, in_chunks)
    particles = {n: p for n, p in particles.items() if n not in fitted}
    others = baselines.keys() | fitted.keys() | particles.keys()

    compare_others = {n for n in scored if estimators[n].leave_one_out} - baselines.keys()
    everywhere = compare_others - others
    axes: dict[tuple[int, ...], dict[Score, tuple[frozenset[int], ...]]] = {}
    for cost, weight in weights.items():
        # Draws with a baseline of another kind, but not for this cost.
        here = {n for n, p in particles.items() if cost not in p.relations}
        here |= {n for n, f in fitted.items() if cost in f.apart}
        alone = everywhere | (here & compare_others) if here else everywhere
        choose_axis(cost, weight, alone, axes)
    if purpose == "first order":
        compare_without_baseline(program, weights, estimators, others)
    compared_pairs = [(s, cost) for cost, w in weights.items() for s in w.compared]
    compared = find_groups(program, compared_pairs, estimators, influence)
    if compared and has_effects(program):
        node = next(iter(compared))
        raise refuse(
            node.what,
            node.eqn,
            f"{type(estimators[node]).__name__} runs the program again at other values, but the "
            "program has effects (an io_callback, say), which would then happen again, too.",
            "use jscg.estimators.ScoreFunction(), which runs it once",
        )
    noisy = noisy_variables(program, silent) if purpose != "bound" else set()
    tables: list[dict] = [{}, {}, {}, {}]
    plan = Plan(
        program,
        active_inputs,
        nodes,
        influence,
        finder,
        estimators,
        weights,
        baselines,
        fitted,
        particles,
        compared,
        edges,
        origins,
        active,
        passed,
        find_kinks(program, active, noisy),
        *tables,
    )
    route(plan)
    return plan


def _by_name(program: Program, names: dict[Any, str], choices: Choices) -> dict[Any, Estimator]:
    """What was chosen for single draws, by name or sampler, by their variables."""
    if not isinstance(choices, Mapping):
        return {}
    found = {}
    for part in program.walk():
        for eqn in part.eqns:
            if eqn.primitive.name == "draw":
                v = eqn.outvars[0]
                found[v] = choices.get(names[v], choices.get(eqn.params["family"]))
    return {v: e for v, e in found.items() if e is not None}


def _choose(
    nodes: list[StochasticNode],
    choices: Choices,
    chosen: dict[Any, Estimator],
    origins: dict[Any, Any],
) -> dict[StochasticNode, Estimator]:
    default = choices if isinstance(choices, Estimator) else Auto()
    named = dict(choices) if isinstance(choices, Mapping) else {}
    known = {n.name for n in nodes} | {n.family for n in nodes}
    for name in named:
        if name not in known:
            raise ArgumentError(
                f"jscg: estimators names {name!r}, but the draws of this function are "
                f"{sorted(n.name for n in nodes)}. Use one of these, or a family "
                f"({sorted({n.family for n in nodes})})."
            )
    noise = set(origins.values())
    estimators = {}
    for node in nodes:
        # A draw that was put in takes the place of the noise that it is made of.
        explicit = named.get(node.name, named.get(node.family))
        explicit = chosen.get(node.var, chosen.get(origins.get(node.var), explicit))
        estimator = default if node.var in noise else explicit or default
        if node.verdict == SCORED or (node.verdict == PATHWISE and estimator is explicit):
            why = estimator.check(node)
            if why is None and estimator.compares:
                why = why_not_compared(node)
            if why is not None:
                raise refuse(
                    node.what,
                    node.eqn,
                    f"{type(estimator).__name__} cannot be used for it: {why}.",
                    "leave the choice to jscg (estimators=None)",
                    "choose per draw: estimators={name: estimator}",
                )
        estimators[node] = estimator
    return estimators


def _find_edges(program, nodes, estimators, influence):
    """Where draws that are relaxed become floats, and what must let derivatives pass then."""
    chosen = {n: estimators[n] for n in nodes if n.verdict == SCORED and estimators[n].relaxes}
    edges = {n: find_edges(program, n, chosen, influence) for n in chosen}
    edges = {n: each for n, each in edges.items() if each}
    passed: set[tuple[Program, int]] = set()
    for node in edges:
        estimator = chosen[node]
        if estimator.relaxes == "runs":
            relaxed = relaxed_with(node, chosen, influence)
            passed |= check_smooth(program, node, estimator, edges, relaxed)
    return edges, passed
