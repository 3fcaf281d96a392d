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

from ._baselines import Baseline, Scales, find_baselines
from ._control_variates import find_control_variates
from ._costs import CostFinder, CostNode
from ._enumerable import Enumeration, behind_draws, enumerable
from ._errors import ArgumentError, refuse
from ._first_order import check_reparameterised
from ._fitted import Fitted, find_fitted
from ._groups import Groups, find_groups
from ._influence import InfluenceMap
from ._keys import check_keys
from ._mend import mend
from ._nested import check_nested
from ._nodes import PATHWISE, SCORED, StochasticNode, check_bounds, find_nodes, name_draws
from ._pairs import Pair, Pairs, Reason, Score
from ._program import Program
from ._refs import check_refs
from ._relaxed import Edge, find_edges
from ._rerun import compare_cheap, compare_without_baseline, has_effects
from ._routes import route
from ._smooth import check_smooth, relaxed_with
from .estimators import Auto, Estimator


@dataclasses.dataclass(eq=False)
class Weight:
    """What one cost is multiplied with, and over which draws it is enumerated.

    Attributes:
      scores: the draws that are scored.
      compared: the draws at other values of which the program is run again.
      enumerations: the draws over which the cost is replaced by its expectation.
      leave_one_out: axis of the cost along which the other elements are the baseline.
      others: of `scores`, those to which that baseline does not apply.
      reasons: for each draw, how its part is estimated, and why.
    """

    scores: list[Score]
    enumerations: list[Enumeration]
    compared: list[Score] = dataclasses.field(default_factory=list)
    leave_one_out: int | None = None
    others: tuple[Score, ...] = ()
    reasons: dict[StochasticNode, Reason] = dataclasses.field(default_factory=dict)


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
    compared: dict[StochasticNode, Groups]
    edges: dict[StochasticNode, list[Edge]]
    passed: set[tuple[Program, int]]
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
    program: Program, active_inputs: list[bool], choices: Choices, purpose: Purpose = "any order"
) -> Plan:
    """Finds the draws and costs of a program and chooses how each is estimated.

    Args:
      program: the program; jumps are taken out of it in place.
      active_inputs: for each of its inputs, whether the gradient is for it.
      choices: the estimators that the user has chosen.
      purpose: what the result is for: derivatives of any order, the first derivative alone, or a
        bound of the expectation.
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
    nodes = find_nodes(program, active)
    check_keys(program, nodes, origins)
    check_bounds(program, nodes, active_inputs)
    estimators = _choose(nodes, choices, chosen, origins)
    influence = InfluenceMap(program, [n for n in nodes if n.verdict == SCORED])
    check_reparameterised(program, influence)
    finder = CostFinder(program, influence, keep_constants=purpose == "bound")
    edges, passed = _find_edges(program, nodes, estimators, influence)
    # Where costs are not recomputed: another run may change what happens there.
    all_edges = list(itertools.chain.from_iterable(edges.values()))
    kept = passed.union(*(edge.places for edge in all_edges))
    pairs = Pairs(estimators)
    weights = {}
    for part, costs in finder.shadows.costs.items():
        made = finder.producers[part]
        for cost in costs.values():
            weights[cost] = _weigh(cost, pairs.of(cost), influence, made, kept)
    scored = list({s.node: None for s in _distinct_scores(weights)})
    baselines = find_baselines(program, scored, influence)
    controlled = find_control_variates(program, scored, influence)
    baselines |= controlled
    Scales(finder, baselines).run(program)
    if purpose == "first order":
        compare_cheap(program, weights, estimators, baselines, influence)
        scored = list({s.node: None for s in _distinct_scores(weights)})
    fitted = find_fitted(finder, pairs, weights, [n for n in scored if n not in controlled])
    others = baselines.keys() | fitted.keys()
    axes: dict[tuple[int, ...], dict[Score, frozenset[int]]] = {}
    for cost, weight in weights.items():
        _choose_axis(cost, weight, estimators, others, axes)
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
        compared,
        edges,
        passed,
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


def _weigh(cost: CostNode, found: list[Pair], influence, producers, kept) -> Weight:
    weight, reasons = Weight([], []), {}
    settled = all(pair.settled or pair.estimator.compares for pair in found)
    behind = set() if settled else behind_draws(cost, influence, producers)
    for pair in found:
        score, node, estimator = pair.score, pair.score.node, pair.estimator
        chosen = f"{type(estimator).__name__} was chosen"
        if estimator.relaxes == "program":
            reasons[node] = Reason("relaxed", f"{chosen}, which is biased")
            continue
        if estimator.compares:
            weight.compared.append(score)
            reasons[node] = Reason(type(estimator).__name__, "it was chosen")
            continue
        why: Any = pair.why or "it reaches costs in later steps of a loop"
        if not pair.settled:
            why = "another draw depends on it"
        if not (pair.settled or (pair.only_cheap and node in behind)) and score.current:
            why = pair.why or enumerable(node, cost, estimator, influence, producers)
            if isinstance(why, Enumeration) and _crosses(why, kept):
                why = "a draw that is relaxed meets it on the way to a cost"
            if isinstance(why, Enumeration) and _affordable(weight, why, estimator):
                weight.enumerations.append(why)
                cheap = "elementwise work makes the cost of it" if pair.only_cheap else chosen
                reasons[node] = Reason("enumerated", f"{why.outcomes} outcomes, and {cheap}")
                score = pair.earlier
            elif not estimator.scores:
                _cannot_enumerate(node, why)
        if score.past and not estimator.scores:
            _cannot_enumerate(node, "it reaches costs in later steps of a loop")
        if score.past or score.current:
            weight.scores.append(score)
            if node in reasons:
                reasons[node] = Reason(
                    "enumerated, and scored from earlier steps", reasons[node].why
                )
            else:
                why = chosen if estimator.outcomes == 0 else why
                over = "the outcomes of all draws together are too many"
                reasons[node] = Reason("scored", why if isinstance(why, str) else over)
    weight.reasons = reasons
    return weight


def _crosses(found: Enumeration, kept: set[tuple[Program, int]]) -> bool:
    """Whether the way from a draw to a cost holds one of some equations."""
    return any((found.node.program, index) in kept for index in found.path)


def _affordable(weight: Weight, found: Enumeration, estimator: Estimator) -> bool:
    outcomes = found.outcomes
    for other in weight.enumerations:
        outcomes *= other.outcomes
    return outcomes <= estimator.outcomes


def _cannot_enumerate(node: StochasticNode, why: Any) -> None:
    raise refuse(
        node.what,
        node.eqn,
        f"Enumerate cannot be used for it: {why if isinstance(why, str) else 'over budget'}.",
        "use jscg.estimators.Auto() for this draw, which enumerates what can be enumerated and "
        "scores the rest",
        "raise Enumerate(budget=...) if the number of outcomes is the obstacle",
    )


def _choose_axis(cost, weight, estimators, others, known) -> None:
    """Picks the axis for leave-one-out: the first along which a draw and the cost are aligned."""
    shape = getattr(getattr(cost.atom, "aval", None), "shape", ())
    known = known.setdefault(shape, {})
    for score in weight.scores:
        if score not in known:
            wanted = estimators[score.node].leave_one_out and score.node not in others
            known[score] = _aligned_axes(score, shape) if wanted else frozenset()
    axes = [known[score] for score in weight.scores]
    usable = [min(a) for a in set(axes) if a]
    if usable:
        weight.leave_one_out = min(usable)
    weight.others = tuple(
        s for s, a in zip(weight.scores, axes, strict=True) if weight.leave_one_out not in a
    )


def _aligned_axes(score: Score, shape: tuple[int, ...]) -> frozenset[int]:
    """Axes of a cost along which it has one element for each of a draw's."""
    node = score.node
    return frozenset(
        b[0]
        for axis, b in enumerate(score.relation[len(node.loops) :])
        if b is not None
        and isinstance(b[0], int)
        and b[1:] == (0, 0)
        and shape[b[0]] == node.shape[axis] >= 2
    )
