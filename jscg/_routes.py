"""Which log-probs must flow where: out of loops and branches, into loops, from step to step."""

from __future__ import annotations

import itertools
from typing import Any

from ._nodes import StochasticNode
from ._pairs import Score
from ._program import Program


def route(plan: Any) -> None:
    """Writes `kept`, `exports`, `running` and `imports` of a plan (see `_plan`)."""
    exports: dict[Program, dict[StochasticNode, None]] = {}
    running: dict[Program, dict[StochasticNode, None]] = {}
    wishes: dict[Program, dict[StochasticNode, list]] = {}

    def export(node: StochasticNode, to: Program) -> None:
        for part in reversed(node.program.path):
            if part is to:
                return
            exports.setdefault(part, {})[node] = None

    routed: set[Score] = set()
    for cost, weight in plan.weights.items():
        for score in itertools.chain(weight.scores, weight.compared):
            if score in routed:
                continue
            routed.add(score)
            node, path = score.node, cost.program.path
            shared = [p for p, q in zip(node.program.path, path, strict=False) if p is q]
            kept = plan.kept.setdefault(node, set())
            common = sum(p.loop is not None for p in shared)
            kept.update(a for a, b in enumerate(score.relation) if b is not None and a >= common)
            for part in shared:
                if part.loop in score.past:
                    running.setdefault(part, {})[node] = None
                    export(node, part)
            if not score.current:
                continue
            export(node, shared[-1])
            for part in path[len(shared) :]:
                if part.loop is not None:
                    here = {
                        a: b[1:]
                        for a, b in enumerate(score.relation)
                        if b is not None and b[0] is part.loop and a >= common
                    }
                    wishes.setdefault(part, {}).setdefault(node, []).append(here)
    for node, baseline in plan.baselines.items():
        plan.kept.setdefault(node, set()).update(len(node.loops) + a for a in baseline.axes)
    plan.exports = {part: list(nodes) for part, nodes in exports.items()}
    plan.running = {part: list(nodes) for part, nodes in running.items()}
    plan.imports = {
        part: {node: _agree(many) for node, many in nodes.items()} for part, nodes in wishes.items()
    }


def _agree(wishes: list[dict[int, tuple[float, float]]]) -> dict[int, tuple[float, float]]:
    """The one axis, if any, along which all costs of a loop take a log-prob step by step."""
    for axis in wishes[0]:
        if all(axis in wish for wish in wishes):
            bands = [wish[axis] for wish in wishes]
            return {axis: (min(b[0] for b in bands), max(b[1] for b in bands))}
    return {}
