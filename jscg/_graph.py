"""`graph`: what jscg has understood of a function, and what it does about each draw, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ._api import Estimators, options_of
from ._errors import where
from ._nodes import FREE, PATHWISE, StochasticNode
from ._plan import Plan
from ._trace import trace, traces_of

_PATHWISE = "the cost is continuous in it"
_FREE = "its parameters do not depend on what the gradient is for"


@dataclasses.dataclass(frozen=True)
class CostInfo:
    """One additive term of the result.

    Attributes:
      where: the user's file, line and function.
      shape: of the term, before it is summed.
      influenced_by: names of the draws that influence it.
    """

    where: str
    shape: tuple[int, ...]
    influenced_by: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class DrawInfo:
    """One draw.

    Attributes:
      name: see `StochasticNode`; by it estimators are chosen.
      family: the sampler, as `jax.random` calls it.
      shape: of its independent elements, after the lengths of the loops around it.
      where: the user's file, line and function.
      estimates: how its part of the gradient is estimated and why, each with the terms of the
        result, as indices into `Graph.cost_nodes`, for which that is done.
      baseline: with what costs are compared where they are scored; empty where none is.
      unbiased: whether its estimator is.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    where: str
    estimates: tuple[tuple[str, str, tuple[int, ...]], ...]
    baseline: str
    unbiased: bool


@dataclasses.dataclass(frozen=True)
class Graph:
    """The stochastic computation graph of a function (Schulman et al. 2015, section 2).

    Prints as a table.

    Attributes:
      stochastic_nodes: the draws, in program order.
      cost_nodes: the terms of the result that draws influence.
    """

    stochastic_nodes: tuple[DrawInfo, ...]
    cost_nodes: tuple[CostInfo, ...]

    def __str__(self) -> str:
        lines = ["draws"]
        for draw in self.stochastic_nodes:
            size = f"[{', '.join(map(str, draw.shape))}]" if draw.shape else ""
            biased = "" if draw.unbiased else "  BIASED"
            lines.append(f"  {draw.name}: {draw.family}{size}  {draw.where}{biased}")
            for how, why, costs in draw.estimates:
                for_costs = f" in {_numbered(costs)}" if costs else ""
                baseline = f", {draw.baseline}" if "scored" in how and draw.baseline else ""
                lines.append(f"    {how}{for_costs}{baseline}: {why}")
        lines.append("costs")
        for i, cost in enumerate(self.cost_nodes):
            size = f"[{', '.join(map(str, cost.shape))}]" if cost.shape else ""
            lines.append(f"  {i}{size}  {cost.where}: {', '.join(cost.influenced_by)}")
        return "\n".join(lines)

    __repr__ = __str__


def graph(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
    any_order: bool = False,
) -> Callable[..., Graph]:
    """Creates a function that shows what `grad_expectation` does with `fun`, and why.

    Args:
      fun: see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`.
      num_samples: see `surrogate`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`.
      any_order: whether to show what `surrogate` does, whose default is right in higher
        derivatives, too.

    Returns:
      A function with the arguments of `fun`, which is traced and not run, that returns a `Graph`.

    Raises:
      JscgError: where `grad_expectation` raises.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,))
      ...     return jnp.sum(2.0 * x)
      >>> found = jscg.graph(cost)(0.5, jax.random.key(0))
      >>> [(draw.family, draw.shape) for draw in found.stochastic_nodes]
      [('bernoulli', (3,))]
      >>> found.stochastic_nodes[0].estimates
      (('enumerated', '2 outcomes, and elementwise work makes the cost of it', (0,)),)
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums)
    if not any_order:
        options = dataclasses.replace(options, purpose="first order")
    traces = traces_of(fun)

    def graph_fun(*args, **kwargs) -> Graph:
        return _graph_of(trace(fun, options, args, kwargs, traces)[0].plan)

    return graph_fun


def _graph_of(plan: Plan) -> Graph:
    costs = list(plan.weights)
    draws = tuple(draw_info(plan, node) for node in plan.nodes)
    return Graph(draws, tuple(_cost_info(plan, cost) for cost in costs))


def draw_info(plan: Plan, node: StochasticNode) -> DrawInfo:
    """How a draw is estimated, and why."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, weight in enumerate(plan.weights.values()):
        if node in weight.reasons:
            found.setdefault(tuple(weight.reasons[node]), []).append(i)
    if node.verdict == PATHWISE:
        found["pathwise", _PATHWISE] = []
    elif node.verdict == FREE:
        found["not needed", _FREE] = []
    elif not found:
        found["not needed", "no cost depends on it"] = []
    lengths = tuple(loop.length for loop in node.loops)
    return DrawInfo(
        node.name,
        dict(node.eqn.params["static"]).get("noise", node.family),
        (*lengths, *node.shape),
        node.where,
        tuple((*key, tuple(at)) for key, at in found.items()),
        _baseline(plan, node),
        plan.estimators[node].unbiased,
    )


def _baseline(plan: Plan, node: StochasticNode) -> str:
    if node not in plan.scored:
        return ""
    weights = [w for w in plan.weights.values() if any(s.node is node for s in w.scores)]
    with_axis = [
        w
        for w in weights
        if w.leave_one_out is not None and all(s.node is not node for s in w.others)
    ]
    found = [
        (node in plan.baselines, "with your baseline"),
        (node in plan.fitted, "with a fitted baseline"),
        (bool(with_axis), "with the others as the baseline"),
    ]
    return " and ".join(text for there, text in found if there) or "without a baseline"


def _cost_info(plan: Plan, cost: Any) -> CostInfo:
    made = plan.finder.producers[cost.program].get(cost.atom) if cost.atom is not None else None
    eqn = cost.program.eqns[made] if made is not None else None
    shape = tuple(getattr(getattr(cost.atom, "aval", None), "shape", ()))
    names = tuple(node.name for node in plan.nodes if node in cost.influence)
    return CostInfo(where(eqn) if eqn is not None else "an input of it", shape, names)


def _numbered(costs: tuple[int, ...]) -> str:
    return f"cost{'s' if len(costs) > 1 else ''} {', '.join(map(str, costs))}"
