"""`jscg.control_variate(x, c)`: RELAX, a control variate c that learns while it is used.

With r the relaxed sample as a function of noise, r' the same number as a function of noise drawn
given the sample x, s the scale of one summand and Q the cost-to-go in units of a summand, the
surrogate gets s (c(r) - c(r') box(log p(x))), of value zero.  Its gradient makes
(Q - c(r')) d log p(x) + d c(r) - d c(r') of the score's Q d log p(x).

Parameters of c get the gradient of the squares of that, for the derivative in the logits of each
element: of (Q s + u)^2, with s the score and u = d (c(r) - c(r')) - c(r') s.  It is d(u^2), and
2 s du where costs are weighted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._activity import behind
from ._baselines import Baseline, BaselineError, axes_of, statements
from ._compat import bind
from ._frame import Frame
from ._influence import InfluenceMap
from ._jumps import find_jumps
from ._nodes import StochasticNode
from ._primitives import MARKS
from ._program import Literal, Program
from ._sampled import Sampled
from ._source import at_line
from ._weights import box
from .estimators._concrete import relaxed_samples

_TAG = 0x7000


@dataclasses.dataclass(eq=False)
class ControlVariate(Baseline):
    """A control variate of the user for one draw.

    Attributes:
      relaxed: index of the equation that stands for the relaxed sample.
      path: indices of the equations from there to the control variate.
    """

    relaxed: int = -1
    path: tuple[int, ...] = ()

    def subtract(self, rw: Any, frame: Frame) -> None:
        """Adds its terms, and changes the log-prob by which costs are weighted."""
        node, log_prob = self.node, frame.raw[self.node]
        draw = Sampled(rw.scorers[node], lax.stop_gradient(frame.env[node.var]), frame.read)
        p, hot = jnp.stack(draw.support()[1], -1), draw.is_outcome()
        noise = draw.uniform(_TAG, p.shape[-1])
        temperature = self._relaxed.params["temperature"]
        free, given = relaxed_samples(p, hot, noise, temperature)
        frozen = lambda atom: lax.stop_gradient(frame.read(atom))  # noqa: E731
        own = tuple(range(len(self.axes), log_prob.ndim))
        weight = box(jnp.sum(log_prob, own))
        term = jnp.sum(self.value(free, frozen) - self.value(given, frozen) * weight)
        rw.add_extra(frame, self.scale * term)

        def both(logits):
            free, given = relaxed_samples(jax.nn.softmax(logits), hot, noise, temperature)
            return free - given

        p, at = lax.stop_gradient((p, free))
        logits = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
        c, pull = jax.vjp(lambda r: self.value(r, frame.read), at)
        (slope,) = pull(jnp.ones_like(c))
        (path,) = jax.vjp(both, logits)[1](slope)
        score = hot - p
        u = path - c.reshape(c.shape + (1,) * (score.ndim - c.ndim)) * score
        fixed = lax.stop_gradient(u)
        # A Bernoulli draw has one logit, in which the derivative is that in the second of two.
        share = 1.0 if self._relaxed.params["classes"] else 0.5
        rw.add_extra(frame, self.scale * share * jnp.sum(u**2 - fixed**2))
        rw.set_log_prob(frame, node, log_prob + 2 * share * jnp.sum(score * (u - fixed), -1))
        frame.terms.clear()  # they hold the log-prob as it was
        frame.raw[node] = log_prob

    @property
    def _relaxed(self) -> Any:
        return self.node.program.eqns[self.relaxed]

    def value(self, weights: jax.Array, read: Any) -> jax.Array:
        """The control variate at weights of the outcomes."""
        eqns, start = self.node.program.eqns, self._relaxed.outvars[0]
        env = {start: weights if self._relaxed.params["classes"] else weights[..., 1]}

        def known(atom):
            return env[atom] if not isinstance(atom, Literal) and atom in env else read(atom)

        for index in self.path:
            eqn = eqns[index]
            args = [known(v) for v in eqn.invars]
            # What stops the derivative, as a log-sum-exp does within, must not do so here.
            passed = eqn.primitive.name in MARKS | {"stop_gradient"}
            outs = args[:1] if passed else bind(eqn, *args)
            env.update(zip(eqn.outvars, outs, strict=True))
        return known(self.atom)


def find_control_variates(
    program: Program, scored: list[StochasticNode], influence: InfluenceMap
) -> dict[StochasticNode, Baseline]:
    """Lists the control variates of the draws that are scored, and checks each.

    Raises:
      BaselineError: where it does not have the mean that is put in its place.
    """
    found: dict[StochasticNode, Baseline] = {}
    for node, position, eqn in statements("control_variate", program, scored, influence):
        part = node.program
        relaxed = part.producers()[eqn.invars[1]]
        _check_draw(node, eqn, part.eqns[relaxed])
        path = _path(node, part, relaxed, position, influence)
        _check_jumps(program, node, part, relaxed, path)
        axes = axes_of(node, eqn, 2)
        _check_rows(node, eqn, axes, influence)
        found[node] = ControlVariate(
            node, position, eqn.invars[2], axes, relaxed=relaxed, path=tuple(path)
        )
    return found


def check_one(baselines: dict[StochasticNode, Baseline], controlled: dict) -> None:
    """Refuses draws with a baseline and a control variate, which would be subtracted twice.

    Raises:
      BaselineError: there is one.
    """
    for node in controlled:
        if node in baselines:
            raise BaselineError(
                f"jscg: {node.what} drawn at {node.where} has a baseline and a control variate, "
                "and both would be subtracted from the same costs.\nWhat to do instead:\n"
                "  - add the baseline to what the control variate returns, and leave it out"
            ).about(node.eqn, node.eqn)


def _wrong(node: StochasticNode, eqn: Any, why: str, remedy: str) -> BaselineError:
    error = BaselineError(
        f"jscg: the control variate{at_line(eqn)} of {node.what} drawn at {node.where} {why}, so "
        f"that it would bias the gradient.\nWhat to do instead:\n  - {remedy}"
    )
    return error.about(node.eqn, eqn)


def _check_draw(node: StochasticNode, eqn: Any, relaxed: Any) -> None:
    classes = relaxed.params["classes"]
    size = node.outcomes
    if size is None or node.key is None:
        raise _wrong(
            node, eqn, "has no relaxed sample to be a function of", "use jscg.baseline(x, b)"
        )
    if size != (classes or 2):
        raise _wrong(
            node,
            eqn,
            f"is a function of {classes or 2} weights, and the draw has {size} outcomes",
            f"say jscg.control_variate(x, c, num_classes={size})",
        )


def _path(node, part: Program, relaxed: int, position: int, influence) -> list[int]:
    """The equations of the control variate that depend on the relaxed sample."""
    reached, path = {part.eqns[relaxed].outvars[0]}, []
    for index in range(relaxed + 1, position):
        eqn = part.eqns[index]
        inputs = [v for v in eqn.invars if not isinstance(v, Literal)]
        if reached.isdisjoint(inputs):
            continue
        inside = (e for sub in part.subs.get(index, ()) for p in sub.walk() for e in p.eqns)
        if any(e.primitive.name == "draw" for e in (eqn, *inside)):
            raise _wrong(node, eqn, "draws itself", "draw outside of it, and close over the value")
        if any(node in influence[v] for v in inputs if v not in reached):
            raise _wrong(
                node,
                eqn,
                "looks at the draw besides the relaxed sample",
                "let it be a function of the relaxed sample, and of what the draw does not reach",
            )
        path.append(index)
        reached.update(eqn.outvars)
    return path


def _check_jumps(program: Program, node, part: Program, relaxed: int, path: list[int]) -> None:
    soft = behind(program, {part.eqns[relaxed].outvars[0]})
    for jump in find_jumps(program, [False] * len(program.invars), soft, soft):
        inside = jump.program is part and jump.index in path
        if inside or any(part in jump.program.path and p.at in path for p in jump.program.path[1:]):
            raise _wrong(
                node,
                jump.eqn,
                f"jumps in {jump.eqn.primitive.name!r} there, where its derivative is lost",
                "make it continuous: jnp.tanh or a sigmoid in the place of a comparison",
            )


def _check_rows(node: StochasticNode, eqn: Any, axes: tuple[int, ...], influence) -> None:
    relation = influence[eqn.invars[2]].get(node)
    sizes = eqn.invars[2].aval.shape
    for a in axes if relation is not None else ():
        if sizes[a] > 1 and relation[len(node.loops) + a] != (a, 0, 0):
            raise _wrong(
                node,
                eqn,
                f"has an axis {a}, but its entries depend on other elements of the draw along it",
                "sum over that axis, or compute each entry of its own elements alone",
            )
