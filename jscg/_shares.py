"""How much of a gradient's variance is due to each of the draws of a program.

The total effect of Sobol, in the form of Jansen (1999): with g' the estimate g in which one draw
alone is drawn anew,

    E[ Var(g | all other draws) ] / Var(g) = 1/2 E[ |g - g'|^2 ] / Var(g)

is the part of the variance that would vanish if that draw were averaged out exactly.  As g' has the
law of g, its distances from the mean are used for Var(g), too: so the error of a share near one is
small, however heavy the tails.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ._describe import family_of, shape_of, ways_of
from ._estimates import Tally, ratio, squares_of
from ._nodes import FREE, PATHWISE, SCORED
from ._plan import Plan
from ._redraw import Redrawing, Source


@dataclasses.dataclass(frozen=True)
class DrawShare:
    """What one draw contributes to the variance of the gradient.

    Draws that have random bits in common are one: those made with one key, or by one sampler of
    yours.

    Attributes:
      name: by it estimators are chosen; several names where draws have random bits in common.
      family: the sampler, as `jax.random` calls it.
      shape: of its elements, after the lengths of the loops around it.
      where: the user's file, line and function.
      verdict: "scored", "pathwise" (it is differentiated through) or "free" (its parameters do
        not depend on what the gradient is for).
      estimated: how its part of the gradient is estimated, as `jscg.graph` calls it.
      share: the part of the variance that would vanish if this draw, all of its elements at all
        steps of the loops around it, were averaged out exactly.  Where draws interact, shares sum
        to more than one.  NaN where it cannot be drawn anew.
      standard_error: of the share.
      leaves: its share of the variance of every leaf, in the order of
        `VarianceReport.parameters`; NaN where a leaf has no variance.
      note: why the share was not measured; empty where it was.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    where: str
    verdict: str
    estimated: str
    share: float
    standard_error: float
    leaves: tuple[float, ...]
    note: str = ""


class Redrawn:
    """What is kept of the estimates with one source of randomness drawn anew.

    Attributes:
      halves: of chunks, half the squared distances from the same estimate without, by leaf.
      squares: of chunks, squared distances from the centre.
    """

    def __init__(self):
        self.halves: list[np.ndarray] = []
        self.squares: list[np.ndarray] = []

    def add(self, found: list[Any], anew: list[Any], centre: list[Any]) -> None:
        """Takes in a chunk."""
        self.halves.append(0.5 * np.asarray(squares_of(found, anew), np.float64))
        self.squares.append(np.asarray(squares_of(anew, centre), np.float64))

    def shares(self, base: Tally) -> tuple[float, float, list[float]]:
        """The share, its standard error, and the share of every leaf."""
        halves, squares = np.concatenate(self.halves, 1), np.concatenate(self.squares, 1)
        distances = (squares + base.squares) / 2
        # About the mean, not the centre, and with n - 1.
        variances = base.variances + np.mean(distances, 1) - np.mean(base.squares, 1)
        each = zip(np.mean(halves, 1), variances, base.variances, strict=True)
        leaves = [float(h / v) if exact else math.nan for h, v, exact in each]
        if not base.variance:
            return 0.0, 0.0, leaves
        summed = np.sum(halves, 0), np.sum(distances, 0)
        return *ratio(float(np.mean(summed[0])), float(np.sum(variances)), *summed), leaves


def share_of(
    source: Source, redrawing: Redrawing, plan: Plan, base: Tally, redrawn: Redrawn | None
) -> DrawShare:
    """The row of one source of randomness.

    Args:
      source: the source.
      redrawing: that it is one of.
      plan: of the program.
      base: the estimates.
      redrawn: those with the source drawn anew; None where that was not done.
    """
    if redrawn is None:
        nothing = 0.0 if source.constant else math.nan
        share, error, leaves = nothing, nothing, [nothing] * len(base.variances)
    else:
        share, error, leaves = redrawn.shares(base)
    first = source.nodes(plan)[0]
    return DrawShare(
        names_of(source, redrawing),
        family_of(first),
        shape_of(first),
        first.where,
        _verdict(source, plan),
        _estimated(source, plan),
        share,
        error,
        tuple(leaves),
        source.why_not,
    )


def names_of(source: Source, redrawing: Redrawing) -> str:
    """The names of its draws."""
    return ", ".join(redrawing.names[d.var] for d in source.draws)


def _verdict(source: Source, plan: Plan) -> str:
    found = {n.verdict for n in source.nodes(plan)}
    return next(v for v in (SCORED, PATHWISE, FREE) if v in found)


def _estimated(source: Source, plan: Plan) -> str:
    """How, in a few words; of what noise became rather than of the noise."""
    nodes: list[Any] = source.nodes(plan)
    mattering = [n for n in nodes if n.verdict != FREE] or nodes
    weights = dict(enumerate(plan.weights.values()))
    found = [how for n in mattering for how, _, _ in ways_of(plan, n, weights)]
    return " and ".join(dict.fromkeys(found))
