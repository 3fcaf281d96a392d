"""The default."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._base import Estimator


@dataclasses.dataclass(frozen=True)
class Auto(Estimator):
    """Picks, for every (draw, cost) pair, the estimator with the least variance that is cheap.

    A continuous draw is differentiated through (`Pathwise`).  A cost that touches one unit of a
    discrete draw alone, by elementwise work and reductions, is replaced by its exact expectation
    (`Enumerate`): a unit's own log-prob term, an entropy, a penalty.  Everything else is scored,
    with a leave-one-out baseline (`ScoreFunction`), or with one fitted by regression over a batch
    (or samples) of 16 or more: to the cost as it would be if the draw, and what is drawn below it,
    took their means, and to its slope there (as in MuProp, Gu et al. 2016); and to enumerated
    costs.  Where several particles meet in one cost after much was made of each, the baseline of
    a particle is that cost with the mean of the others in its place (as in VIMCO, Mnih and
    Rezende 2016).

    Where nothing but the first derivative is taken (`grad_expectation`,
    `value_and_grad_expectation`), draws may be compared instead.  If what a draw influences takes
    so little arithmetic that each of its elements can have runs of its own (two million
    operations together, or some times those of the program, for the more elements reach a cost,
    the more variance that saves), it gets them (`MeasureValued`).  If a score would have no
    baseline, for there is one sample and no batch, one element is moved (`Coupled`).

    What it picked for a function, and why, is told by `jscg.graph`.

    Attributes:
      max_outcomes: the largest support that is enumerated.  Above 16 that is done only where it
        takes a few operations for each, and no array much larger than the draw's parameters.
      fits: whether baselines are fitted.
      compares_draws: whether the program may be run again at other values of a draw.
      upstream: whether fitted baselines are predicted also from costs that a draw does not
        influence.  Where there is no run at the means, that lowers the variance in deep models
        whose terms cancel, such as a bound with a well-trained posterior.  Adding such a cost
        then changes samples of the draw's gradient, though not their mean; without, it changes
        none.
      mean_field: whether what is below a draw is run once more, at the means, for its baseline.
        All these runs together take at most four times the arithmetic of the program.
      particles: whether a draw of several particles that meet in one cost, as in an
        importance-weighted bound, has what the cost would be without the particle as its baseline.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     return jnp.sum(jnp.where(jax.random.bernoulli(key, p), 3.0, 1.0))
      >>> p = jnp.array([0.2, 0.9])
      >>> jscg.grad_expectation(cost, estimators=jscg.estimators.Auto())(p, jax.random.key(0))
      Array([2., 2.], dtype=float32)
    """

    max_outcomes: int = 1024
    fits: bool = True
    compares_draws: bool = True
    upstream: bool = False
    mean_field: bool = True
    particles: bool = True

    @property
    def leave_one_out(self) -> bool:
        """Yes."""
        return True

    @property
    def fits_baselines(self) -> bool:
        """As asked for."""
        return self.fits

    @property
    def uses_upstream(self) -> bool:
        """As asked for."""
        return self.upstream

    @property
    def uses_mean_field(self) -> bool:
        """As asked for."""
        return self.mean_field

    @property
    def uses_particles(self) -> bool:
        """As asked for."""
        return self.particles

    @property
    def may_compare(self) -> bool:
        """As asked for."""
        return self.compares_draws

    @property
    def outcomes(self) -> int:
        """Small supports only."""
        return self.max_outcomes

    def check(self, node: Any) -> str | None:
        """Fits every draw."""
        return None
