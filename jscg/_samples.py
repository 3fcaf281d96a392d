"""What the plan of a chunk of samples has to do with the plan of all of them.

A chunk is estimated as a part of the whole: by the same estimators, with the same baselines.  That
is checked here, and whatever is not so is refused.  Which axes number samples is where the two
programs differ in size.
"""

from __future__ import annotations

from typing import Any

from ._costs import CostNode
from ._errors import ArgumentError, refuse
from ._plan import Plan
from ._weighing import Weight


def axes_of_baselines(whole: Plan, chunk: Plan) -> dict[CostNode, int]:
    """For each cost with a baseline over samples, the axis that numbers these.

    Args:
      whole: the plan of all samples.
      chunk: the plan of some of them.

    Raises:
      JscgError: the samples of the whole meet otherwise than in leave-one-out baselines.
    """
    if whole.fitted:
        raise ArgumentError(
            "jscg: with chunk_size samples are run a few at a time, but the baseline of "
            f"{next(iter(whole.fitted)).what} is fitted by regression over all of them.\n"
            "What to do instead:\n"
            "  - use leave-one-out baselines: estimators=jscg.estimators.Auto(fits=False)\n"
            "  - leave chunk_size out, or average gradients of fewer samples each"
        )
    if [_outline(w) for w in whole.weights.values()] != [
        _outline(w) for w in chunk.weights.values()
    ]:
        raise ArgumentError(
            "jscg: the default estimates a chunk of samples in another way than all of them at "
            "once.\nWhat to do instead:\n"
            "  - choose an estimator: estimators=jscg.estimators.ScoreFunction(), say"
        )
    found = {}
    for (old, weight), cost in zip(whole.weights.items(), chunk.weights, strict=True):
        axis = _sample_axis(old.atom, cost.atom)
        _check_apart(weight, axis, whole, chunk)
        if axis is not None and weight.leave_one_out == axis:
            for score in weight.scores:
                if whole.estimators[score.node].weighs_others:
                    raise refuse(
                        score.node.what,
                        score.node.eqn,
                        "with chunk_size samples are run a few at a time, but the costs of all "
                        "others are weighted by their squared scores in its optimal baseline.",
                        'use jscg.estimators.ScoreFunction(baseline="leave_one_out")',
                        "leave chunk_size out",
                    )
            found[cost] = axis
    return found


def _outline(weight: Weight) -> Any:
    """How a cost is estimated, whatever the number of samples."""
    parts = [
        [(s.node.order, _outline_of(s.relation), s.current, len(s.past)) for s in scores]
        for scores in (weight.scores, weight.compared, weight.others)
    ]
    return parts, [e.node.order for e in weight.enumerations], weight.leave_one_out


def _outline_of(relation: Any) -> list[Any]:
    return [b if b is None or isinstance(b[0], int) else (b[0].length, *b[1:]) for b in relation]


def _sample_axis(whole: Any, chunk: Any) -> int | None:
    """The axis in which a value of the whole is longer than that of a chunk."""
    sizes = zip(_shape(whole), _shape(chunk), strict=True)
    return next((axis for axis, (n, m) in enumerate(sizes) if n != m), None)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(getattr(value, "aval", value), "shape", ()))


def _check_apart(weight: Weight, axis: int | None, whole: Plan, chunk: Plan) -> None:
    """Refuses what is not seen to keep samples apart: it would be scored otherwise in a chunk."""
    for score in [*weight.scores, *weight.compared]:
        node, part = score.node, chunk.nodes[score.node.order]
        mine = _sample_axis(node, part)
        if mine is None:
            continue
        b = score.relation[len(node.loops) + mine]
        if axis is None or b is None or b != (axis, 0, 0):
            raise refuse(
                node.what,
                node.eqn,
                "with chunk_size samples are run a few at a time, but jscg does not see that "
                "those of one sample influence costs of that sample only.",
                "leave chunk_size out",
                "run the loop over chunks yourself: jax.lax.map over keys of gradients of "
                "fewer samples each",
            )
