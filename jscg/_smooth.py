"""Whether the cost is a smooth function of the relaxed values of a draw.

Control variates such as REBAR's differentiate the cost at relaxed values.  Their mean is zero only
if that derivative misses nothing: no jump, no draw whose probabilities depend on them.
"""

from __future__ import annotations

from typing import Any

from ._activity import behind, live_variables
from ._errors import BiasError, refuse
from ._influence import InfluenceMap
from ._jumps import find_jumps
from ._nodes import StochasticNode
from ._program import CUSTOM, Program
from ._relaxed import Edge
from ._source import at_line
from .draws import FAMILIES


def relaxed_with(
    node: StochasticNode, estimators: dict[StochasticNode, Any], influence: InfluenceMap
) -> set[StochasticNode]:
    """The draws that are relaxed where the program is run at relaxed values of one of them."""
    always = {n for n, e in estimators.items() if e.relaxes == "program"}
    if estimators[node].relaxes != "runs":
        return {node} | always
    below = {
        n
        for n, e in estimators.items()
        if e.relaxes == "runs"
        and any(node in influence[v] for v in n.operands().values() if hasattr(v, "aval"))
    }
    return {node} | below | always


def check_smooth(
    program: Program,
    node: StochasticNode,
    estimator: Any,
    edges: dict[StochasticNode, list[Edge]],
    relaxed: set[StochasticNode],
) -> set[tuple[Program, int]]:
    """Refuses a draw whose relaxed values reach the cost by what is not differentiable.

    Returns:
      The equations that stop or change the derivative, as a log-sum-exp does within: in runs at
      relaxed values they must not, for that derivative is to be that of the cost.

    Raises:
      BiasError: so that the control variate would have a mean.
    """
    all_edges = [edge for n in relaxed for edge in edges.get(n, [])]
    soft = behind(program, set().union(*(edge.floats for edge in all_edges)))
    lifted = {(edge.node.program, i) for edge in all_edges for i in edge.lifted}
    drawn = {n.var for n in relaxed}

    def stop(what: str, eqn: Any) -> BiasError:
        return refuse(
            node.what,
            node.eqn,
            f"{type(estimator).__name__} differentiates the cost at relaxed values of it, but "
            f"these reach {what}, where the derivative is lost, so that the control variate would "
            "bias the gradient.",
            "use jscg.estimators.DisARM(), Coupled() or DoubleControlVariates(), which need no "
            "such derivative",
            "choose it for the draws below as well, if they are discrete",
            fault=eqn,
        )

    live, passed = live_variables(program), set()
    for part in program.walk():
        for index, eqn in enumerate(part.eqns):
            if live.isdisjoint(eqn.outvars) or not any(
                hasattr(v, "aval") and not hasattr(v, "val") and v in soft for v in eqn.invars
            ):
                continue
            if eqn.primitive.name in {"stop_gradient", *CUSTOM}:
                passed.add((part, index))
            if eqn.primitive.name == "draw" and eqn.outvars[0] not in drawn:
                if FAMILIES[eqn.params["family"]].discrete:
                    family = eqn.params["family"]
                    raise stop(f"the parameters of a {family} draw{at_line(eqn)}", eqn)
    jumps = find_jumps(program, [False] * len(program.invars), soft, soft)
    for jump in [jump for jump in jumps if (jump.program, jump.index) not in lifted]:
        eqn = jump.eqn
        raise stop(f"{eqn.primitive.name!r}{at_line(eqn)}, which jumps", eqn)
    return passed
