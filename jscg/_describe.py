"""What `graph` tells of a plan: its draws, its costs, their influence, and a diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._costs import CostFinder
from ._dependencies import COST, DRAW, INPUT, Dependencies, Vertex
from ._influence import InfluenceMap
from ._infos import CostInfo, DrawInfo, InfluenceInfo
from ._nodes import FREE, PATHWISE, StochasticNode
from ._plan import Plan
from ._plates import boxes_of, steps_of
from ._program import Literal
from ._relation import NOTHING, Influence
from ._source import Place, place_of, places_of, telling
from ._weighing import Weight
from .picture import Diagram, Edge, Item

_PATHWISE = "the cost is continuous in it"
_FREE = "its parameters do not depend on what the gradient is for"
_EMPTY = "it draws nothing"
_GRADIENT = object()  # stands for all that the gradient is for, among what influences a value


def describe(plan: Plan, inputs: list[str | None]):
    """The draws, costs, influence and diagram of a plan.

    Args:
      plan: the plan.
      inputs: what to call the arguments; None for what is not shown.
    """
    program = plan.program
    names = [None] * (len(program.invars) - len(inputs)) + inputs
    for_gradient: list[Influence] = [{_GRADIENT: ()} if a else NOTHING for a in plan.active_inputs]
    influence = InfluenceMap(program, plan.nodes, for_gradient)
    # The plan's costs as they are, and what is added to them.
    variables = {c: None if isinstance(c.atom, Literal) else c.atom for c in plan.weights}
    whole = set(variables.values()) - {None}
    finder = CostFinder(
        program,
        influence,
        whole=whole,
        factors=plan.influence,
        better_inside=plan.finder.better_inside,
    )
    found = finder.shadows.costs
    dependencies = Dependencies(program, names, plan.nodes, found, set(plan.origins.values()))
    vertices = dependencies.vertices
    costs = [v for v in vertices if v.kind == COST]
    seen = {v.held for v in vertices if v.kind == DRAW}
    number = {(v.held.program, *v.atoms): i for i, v in enumerate(costs)}
    keys = {c: (c.program,) if v is None else (c.program, v) for c, v in variables.items()}
    weights = {number[keys[c]]: w for c, w in plan.weights.items()}
    draws = {
        node: _draw_info(plan, node, weights, *_depends(dependencies, node)) for node in plan.nodes
    }
    related = [
        _influence_info(node, vertex, i)
        for i, vertex in enumerate(costs)
        for node in plan.nodes
        if node in vertex.held.influence and node in seen
    ]
    by = [tuple(one.draw for one in related if one.cost == i) for i in range(len(costs))]
    places = telling([places_of(v.eqn) if v.eqn is not None else [] for v in costs])
    terms = [_cost_info(*about) for about in zip(costs, places, by, strict=True)]
    items = _items(vertices, draws, dict(zip(costs, terms, strict=True)), plan, names)
    for vertex, box in boxes_of(vertices, influence).items():
        items[vertex].box = box
    order = {item: i for i, item in enumerate(items.values())}
    edges = {Edge(items[u], items[v], was) for v in vertices for u, was in v.before if u in items}
    arrows = sorted(edges, key=lambda e: (order[e.source], order[e.target], e.before))
    diagram = Diagram(tuple(order), tuple(arrows))
    return tuple(draws.values()), tuple(terms), tuple(related), diagram


def _draw_info(plan: Plan, node: StochasticNode, weights, parameters, stated) -> DrawInfo:
    return DrawInfo(
        node.name,
        family_of(node),
        shape_of(node),
        node.where,
        parameters,
        node.verdict,
        ways_of(plan, node, weights),
        _baseline(plan, node, stated),
        plan.estimators[node].unbiased,
    )


def family_of(node: StochasticNode) -> str:
    """The sampler, as the user knows it."""
    return dict(node.eqn.params["static"]).get("noise", node.family)


def shape_of(node: StochasticNode) -> tuple[int, ...]:
    """Of all that is drawn there, the steps of loops first."""
    return (*(loop.length for loop in node.loops), *node.shape)


def ways_of(plan: Plan, node: StochasticNode, weights: Mapping[int, Weight]):
    """How a draw is estimated, and why, each with the numbers of the costs for which it is.

    Args:
      plan: the plan.
      node: the draw.
      weights: those of the plan, by numbers of costs.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for i, weight in weights.items():
        if node in weight.reasons:
            found.setdefault(tuple(weight.reasons[node]), []).append(i)
    taker = [v for v, noise in plan.origins.items() if noise is node.var]
    if node.verdict == PATHWISE:
        found["pathwise", _PATHWISE] = []
    elif taker and node.verdict == FREE:
        name = next((n.name for n in plan.nodes if n.var in taker), "a draw")
        found["no score needed", f"{name} is made of it, and has a law of its own"] = []
    elif node.verdict == FREE:
        found["no score needed", _EMPTY if node.empty else _FREE] = []
    elif not found:
        found["no score needed", "no cost depends on it"] = []
    return tuple((*key, tuple(sorted(at))) for key, at in found.items())


def _baseline(plan: Plan, node: StochasticNode, stated: tuple[str, ...]) -> str:
    if node not in plan.scored:
        return ""
    weights = [w for w in plan.weights.values() if any(s.node is node for s in w.scores)]
    with_axis = [
        w
        for w in weights
        if w.leave_one_out is not None and all(s.node is not node for s in w.others)
    ]
    fitted = plan.fitted.get(node)
    to_means = fitted is not None and fitted.run is not None
    found = [
        (node in plan.baselines, f"with your baseline of {', '.join(stated) or 'nothing'}"),
        (node in plan.particles, "with the cost without its particle as the baseline"),
        (to_means, "with a baseline fitted to the cost at the means"),
        (fitted is not None and not to_means, "with a fitted baseline"),
        (bool(with_axis), "with the others as the baseline"),
    ]
    return " and ".join(text for there, text in found if there) or "without a baseline"


def _depends(dependencies: Dependencies, node: StochasticNode):
    """What its parameters and its baseline depend on."""
    vertex = dependencies.vertex_of(node)

    def labels(before) -> tuple[str, ...]:
        return tuple(v.label for v in dependencies.sources(before))

    parameters = {name: labels(before) for name, before in vertex.parameters.items()}
    return parameters, labels(vertex.stated)


def _cost_info(vertex: Vertex, place: Place | None, influenced_by: tuple[str, ...]) -> CostInfo:
    text = place.text if place is not None else ""
    line = place.where if place is not None else "an argument"
    return CostInfo(line, text, _shape(vertex), influenced_by, place, _variables(vertex))


def _variables(cost: Vertex) -> tuple[Any, ...]:
    """Those that hold a cost where it is written, as far as that is known."""
    part = cost.program
    if cost.eqn is not None and not set(cost.atoms) & set(cost.eqn.outvars):
        return tuple(cost.eqn.outvars)
    if not cost.atoms and part.parent is not None:  # a number, in a branch
        return tuple(part.parent.eqns[part.at].outvars)
    return cost.atoms


def _shape(cost: Vertex) -> tuple[int, ...]:
    return tuple(cost.atoms[0].aval.shape) if cost.atoms else ()


def _influence_info(node: StochasticNode, cost: Vertex, number: int) -> InfluenceInfo:
    loops = cost.held.program.loops
    axes: list[tuple[int, float, float] | None] = []
    for axis, band in enumerate(cost.held.influence[node]):
        if band is None:
            axes.append(None)
        elif isinstance(band[0], int):
            axes.append((len(loops) + band[0], -band[2], -band[1]))
        else:
            axes.append((loops.index(band[0]), *steps_of(node.loops[axis], band)))
    ndim = len(loops) + len(_shape(cost))
    return InfluenceInfo(node.name, number, tuple(axes), ndim, len(node.loops))


_STYLES = {"enumerated": "enumerated", "relaxed": "relaxed, BIASED", "pathwise": "pathwise"}


def _items(vertices, draws, costs, plan: Plan, names) -> dict[Vertex, Item]:
    """What is shown of each vertex."""
    active = {v for v, a in zip(plan.program.invars, plan.active_inputs, strict=True) if a}
    ends = [name.rsplit(".", 1)[-1] for name in names if name is not None]
    items = {}
    for vertex in vertices:
        place = place_of(vertex.eqn) if vertex.eqn is not None else None
        scope = (place.function, str(place)) if isinstance(place, Place) else ("", "")
        item = Item("deterministic", vertex.label, (), str(place or ""), "", scope)
        if vertex.kind == INPUT:
            end = vertex.label.rsplit(".", 1)[-1]
            label = end if ends.count(end) == 1 and not end.isdigit() else vertex.label
            style = "active" if vertex.atoms[0] in active else ""
            item = Item("input", label, tip=vertex.label, style=style)
        elif vertex.kind == DRAW:
            info = draws[vertex.held]
            ways = [how for how, *_ in info.estimates]
            size = f"[{', '.join(map(str, info.shape))}]" if info.shape else ""
            notes = (f"{info.family}{size}",)
            tip = str(info).replace(info.where, str(place))  # a picture is handed on: no paths
            item = Item("stochastic", info.name, notes, tip, _style(ways), scope)
        elif vertex.kind == COST:
            info = costs[vertex]
            text = info.text if len(info.text) <= 30 else info.text[:27] + "..."
            size = f"[{', '.join(map(str, info.shape))}]" if info.shape else ""
            label = str(list(costs).index(vertex))
            notes = tuple(filter(None, (text, size)))
            item = Item(
                "cost",
                label,
                notes,
                f"{info._place or place or info.where}\n{info.text}",
                "",
                scope,
            )
        items[vertex] = item
    return items


def _style(ways: list[str]) -> str:
    """The colour of a draw: that of the way that says most about its variance."""
    if any("scored" in way for way in ways):
        return "scored"
    for way in ways:
        if way == "no score needed":
            return "no score needed"
        return _STYLES.get(way, "outcomes compared")
    return "no score needed"
