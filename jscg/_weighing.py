"""What every cost is multiplied with: which draws are scored for it, which enumerated, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._costs import CostNode
from ._enumerable import Enumeration, affordable, behind_draws, enumerable
from ._errors import refuse
from ._nodes import StochasticNode
from ._pairs import BEHIND, IN_LATER_STEPS, Pair, Reason, Score, was_chosen
from ._program import Program


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


def weigh(cost: CostNode, found: list[Pair], influence, producers, kept) -> Weight:
    """What one cost is multiplied with.

    Args:
      cost: the cost.
      found: the draws that influence it.
      influence: of the draws.
      producers: of the cost's program.
      kept: equations behind which costs are not recomputed.
    """
    weight, reasons = Weight([], []), {}
    scores = weight.scores
    settled = all(pair.settled or pair.estimator.compares for pair in found)
    behind = set() if settled else behind_draws(cost, influence, producers)
    for pair in found:
        # A long chain of draws has a great many of these.
        reason = pair.reason or (pair.behind if pair.score.node in behind else None)
        if reason is not None:
            scores.append(pair.score)
            reasons[pair.score.node] = reason
            continue
        score, node, estimator = pair.score, pair.score.node, pair.estimator
        chosen = was_chosen(estimator)
        if estimator.relaxes == "program":
            reasons[node] = Reason("relaxed", f"{chosen}, which is biased")
            continue
        if estimator.compares:
            weight.compared.append(score)
            reasons[node] = Reason(type(estimator).__name__, "it was chosen")
            continue
        why: Any = pair.why or IN_LATER_STEPS
        if not pair.settled:
            why = BEHIND
        if not (pair.settled or (pair.only_cheap and node in behind)) and score.current:
            why = pair.why or enumerable(node, cost, estimator, influence, producers)
            if isinstance(why, Enumeration) and _crosses(why, kept):
                why = "a draw that is relaxed meets it on the way to a cost"
            if isinstance(why, Enumeration) and affordable([*weight.enumerations, why], estimator):
                weight.enumerations.append(why)
                cheap = "elementwise work makes the cost of it" if pair.only_cheap else chosen
                reasons[node] = Reason("enumerated", f"{why.outcomes} outcomes, and {cheap}")
                score = pair.earlier
            elif not estimator.scores:
                _cannot_enumerate(node, why)
        if score.past and not estimator.scores:
            _cannot_enumerate(node, IN_LATER_STEPS)
        if score.past or score.current:
            scores.append(score)
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


def _cannot_enumerate(node: StochasticNode, why: Any) -> None:
    raise refuse(
        node.what,
        node.eqn,
        f"Enumerate cannot be used for it: {why if isinstance(why, str) else 'over budget'}.",
        "use jscg.estimators.Auto() for this draw, which enumerates what can be enumerated and "
        "scores the rest",
        "raise Enumerate(budget=...) if the number of outcomes is the obstacle",
    )


def choose_axis(cost, weight, nodes, known) -> None:
    """Picks the axis for leave-one-out: the first along which a draw and the cost are aligned.

    Steps of a loop come last: samples or examples in it are closer to each other.

    Args:
      cost: the cost.
      weight: of the cost.
      nodes: the draws that have no other baseline there, and want one.
      known: what is found, to be used for other costs.
    """
    shape = getattr(getattr(cost.atom, "aval", None), "shape", ())
    known, aligned = known.setdefault(shape, {}), []
    for score in weight.scores:
        wanted = score.node in nodes
        if wanted and score not in known:
            known[score] = _aligned_axes(score, shape)
        aligned.append(known[score] if wanted else _NO_AXES)
    distinct = dict.fromkeys(aligned)  # few, where scores are many
    for axes in zip(*distinct, strict=True):
        usable = [min(a) for a in axes if a]
        if usable:
            weight.leave_one_out = min(usable)
            break
    without = {axes for axes in distinct if not any(weight.leave_one_out in a for a in axes)}
    pairs = zip(weight.scores, aligned, strict=True)
    weight.others = tuple(score for score, axes in pairs if axes in without)


_NO_AXES: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


def _aligned_axes(score: Score, shape: tuple[int, ...]) -> tuple[frozenset[int], frozenset[int]]:
    """Axes of a cost along which it has one element for each of a draw's, and for each step."""
    loops = score.node.loops
    sizes = [*(loop.length for loop in loops), *score.node.shape]
    found = [_aligned(b, size, shape) for b, size in zip(score.relation, sizes, strict=True)]
    return frozenset().union(*found[len(loops) :]), frozenset().union(*found[: len(loops)])


def _aligned(band: Any, size: int, shape: tuple[int, ...]) -> frozenset[int]:
    whole = band is not None and isinstance(band[0], int) and band[1:] == (0, 0)
    return frozenset({band[0]} if whole and shape[band[0]] == size >= 2 else ())
