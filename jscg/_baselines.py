"""`jscg.baseline(x, b)`: which draw it belongs to, whether it may, and in which units.

The baseline b of a draw w enters the surrogate twice (design section 6).  With s the scale of one
summand (1/B for a mean over a batch of B) and Q the cost-to-go in the units of a summand:

* s b (1 - box(log p_w)) has value zero and the gradient -s b dlog p_w: it turns Q into Q - b;
* s (b^2 - sg b^2) and, added to log p_w where costs are weighted, -(2/n)(b - sg b), with n the
  elements of w for one of b, have together the gradient of the squared error, 2 s (b - Q) db.

Beside a fitted baseline, what b learns is Q in another form (`_regression._to_learn`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jax import lax

from ._costs import CostFinder
from ._errors import JscgError
from ._frame import Frame
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._program import Literal, Program
from ._source import at_line
from ._weights import box


class BaselineError(JscgError, ValueError):
    """A baseline that is not one: its draw influences it, or there is no such draw."""


@dataclasses.dataclass(eq=False)
class Baseline:
    """A baseline of the user for one draw.

    Attributes:
      node: the draw.
      position: index of the `baseline` equation in the draw's program.
      atom: the baseline's value.
      axes: the axes of the draw's shape that the baseline has, in order.
      scale: what one summand of the objective is multiplied with.
    """

    node: StochasticNode
    position: int
    atom: Any
    axes: tuple[int, ...]
    scale: float = 1.0

    def subtract(self, rw: Any, frame: Frame) -> None:
        """Adds its terms, and changes the log-prob by which costs are weighted."""
        node, log_prob = self.node, frame.raw[self.node]
        b = self.laid_out(frame)
        fixed = lax.stop_gradient(b)
        term = jnp.sum(fixed * (1.0 - box(log_prob))) + jnp.sum(b**2 - fixed**2)
        rw.add_extra(frame, self.scale * term)
        rw.set_log_prob(frame, node, log_prob + self.learning(frame))
        frame.terms.clear()  # they hold the log-prob as it was
        frame.raw[node] = log_prob

    def learning(self, frame: Frame) -> Any:
        """Zero, with which what it weights becomes a target of the baseline."""
        b = self.laid_out(frame)
        count = frame.raw[self.node].size / max(b.size, 1)
        return (-2.0 / count) * (b - lax.stop_gradient(b))

    def laid_out(self, frame: Frame) -> Any:
        """Its value, with all axes of the draw."""
        log_prob = frame.raw[self.node]
        b = jnp.asarray(frame.read(self.atom), log_prob.dtype)
        return b.reshape(b.shape + (1,) * (log_prob.ndim - b.ndim))


_THROUGH = {
    "convert_element_type",
    "copy",
    "name",
    "baseline",
    "control_variate",
    "reshape",
    "squeeze",
    "broadcast_in_dim",
    "stop_gradient",
}


def find_baselines(
    program: Program, scored: list[StochasticNode], influence: InfluenceMap
) -> dict[StochasticNode, Baseline]:
    """Lists the baselines of the draws that are scored, and checks Theorem 2 for each.

    Raises:
      BaselineError: where the draw influences its own baseline, or x is not a drawn value.
    """
    found: dict[StochasticNode, Baseline] = {}
    for node, position, eqn in statements("baseline", program, scored, influence):
        _check_theorem_2(node, eqn, influence)
        found[node] = Baseline(node, position, eqn.invars[1], axes_of(node, eqn))
    return found


def statements(
    name: str, program: Program, scored: list[StochasticNode], influence: InfluenceMap
) -> Iterator[tuple[StochasticNode, int, Any]]:
    """What the user says of draws that are scored: each with its equation and the index of that.

    Raises:
      BaselineError: where it is not said of a drawn value.
    """
    for part in program.walk():
        producers = part.producers()
        for position, eqn in enumerate(part.eqns):
            if eqn.primitive.name == name:
                draw = _draw_behind(part, eqn, producers)
                node = influence.scored.get(draw.outvars[0])
                if node is not None and node in scored:  # else there is nothing to subtract from
                    yield node, position, eqn


def _draw_behind(program: Program, eqn: Any, producers: dict[Any, int]) -> Any:
    atom = eqn.invars[0]
    while not isinstance(atom, Literal) and atom in producers:
        made = program.eqns[producers[atom]]
        if made.primitive.name == "draw":
            return made
        if made.primitive.name not in _THROUGH:
            break
        atom = made.invars[0]
    error = BaselineError(
        f"jscg: jscg.baseline(x, b){at_line(eqn)}: x is not a drawn value, so there is no score "
        "from which b could be subtracted.\nWhat to do instead:\n  - call it on the value that "
        "the sampler returned, in the same function (and the same loop body or branch)"
    )
    raise error.about(None, eqn, eqn.invars[0])


def _check_theorem_2(node: StochasticNode, eqn: Any, influence: InfluenceMap) -> None:
    relation = influence[eqn.invars[1]].get(node)
    if relation is None:
        return
    if any(b is not None and not b[1] <= 0 <= b[2] for b in relation):
        return  # other elements or earlier steps of the draw only
    error = BaselineError(
        f"jscg: the baseline{at_line(eqn)} of {node.what} drawn at {node.where} is influenced "
        "by that draw, so subtracting it would bias the gradient (Schulman et al. 2015, "
        "Theorem 2: a baseline is a function of what the node does not influence).\n"
        "What to do instead:\n"
        "  - compute the baseline from the draw's inputs, or from other draws that come before\n"
        "  - if you know that the influence is not there, pass jscg.stop_influence(b)"
    )
    raise error.about(node.eqn, eqn, eqn.invars[1])


def axes_of(node: StochasticNode, eqn: Any, place: int = 1) -> tuple[int, ...]:
    """B has the leading axes of the draw, or all of them (of size one where it is shared)."""
    shape, b = node.shape, tuple(eqn.invars[place].aval.shape)
    if len(b) <= len(shape) and all(n in (1, m) for n, m in zip(b, shape, strict=False)):
        return tuple(range(len(b)))
    error = BaselineError(
        f"jscg: the baseline{at_line(eqn)} has shape {b}, but {node.what} has shape {shape}. "
        "A baseline has the leading axes of its draw: one value for each example, say."
    )
    raise error.about(node.eqn, eqn, eqn.invars[place])


class Scales:
    """Finds the scale of one summand for each draw with a baseline.

    It is the product of the constants between the output and the innermost sum over an axis
    that the baseline has: 1/B for a mean over B examples, 1 for a sum.
    """

    def __init__(self, finder: CostFinder, baselines: dict[StochasticNode, Baseline]):
        self.finder, self.baselines = finder, baselines
        self.found: dict[StochasticNode, float] = {}
        self.seen: set[Any] = set()

    def run(self, program: Program) -> None:
        """Writes every baseline's scale."""
        if not self.baselines:
            return
        self.visit(program, program.outvars[0], 1.0, {})
        for node, scale in self.found.items():
            self.baselines[node].scale = scale

    def visit(self, program: Program, atom: Any, scale: float, inner: dict) -> None:
        shadows = self.finder.shadows
        if isinstance(atom, Literal) or (program, atom) in self.seen:
            return
        self.seen.add((program, atom))
        cost = shadows.costs.get(program, {}).get(atom)
        if cost is not None:
            for node in cost.influence:
                if node in self.baselines:
                    mine = abs(inner.get(node, 1.0))
                    self.found[node] = max(self.found.get(node, 0.0), mine)
            return
        index = self.finder.producers[program].get(atom)
        if index is None:
            splits = self.finder.splits
            outer = splits.outer(program, atom)
            if outer is not None and splits.carry_position(program, atom) is None:
                self.visit(*outer, scale, inner)
            return
        eqn = program.eqns[index]
        if index in program.subs:
            position = eqn.outvars.index(atom)
            for sub in program.subs[index]:
                within = inner
                if sub.loop is not None and position < len(sub.outvars):
                    own = [n for n in self.baselines if sub in n.program.path]
                    within = inner | dict.fromkeys(own, scale)
                for k in sorted(shadows.outputs.get(sub, ())):
                    self.visit(sub, sub.outvars[k], scale, within)
            return
        name = eqn.primitive.name
        if name in ("mul", "div"):
            scale = _times(name, eqn, scale)
        if name in ("reduce_sum", "dot_general"):
            inner = inner | self.summed(eqn, scale)
        for i in shadows.linear.get(atom, ()):
            self.visit(program, eqn.invars[i], scale, inner)

    def summed(self, eqn: Any, scale: float) -> dict[StochasticNode, float]:
        kept = set(eqn.params.get("axes", ()))
        out = {}
        for var in eqn.invars:
            for node, relation in self.finder.influence[var].items():
                baseline = self.baselines.get(node)
                if baseline is None:
                    continue
                mine = [relation[len(node.loops) + a] for a in baseline.axes]
                mine += relation[: len(node.loops)]
                if any(b is not None and (b[0] in kept or not kept) for b in mine):
                    out[node] = scale
        return out


def _times(name: str, eqn: Any, scale: float) -> float:
    for i, v in enumerate(eqn.invars):
        if isinstance(v, Literal) and not getattr(v.val, "shape", ()):
            value = float(v.val)
            if name == "mul":
                return scale * value
            return scale / value if i == 1 and value else scale
    return scale
