"""Measure-valued (weak) derivatives."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ._base import Estimator, Evaluations, Sampled
from ._checks import why_not_rerun


@dataclasses.dataclass(frozen=True)
class MeasureValued(Estimator):
    r"""Compares the costs of a draw from the positive and from the negative part of its derivative.

    .. math::
       \nabla_\theta E[c(x)] = k(\theta) (E[c(x_+)] - E[c(x_-)]),
       \qquad \nabla_\theta p(x; \theta) = k(\theta) (p_+(x) - p_-(x))

    with draws from two laws, p+ and p-, whose difference is the derivative of p (Pflug 1989;
    Mohamed et al. 2020, section 6): 1 and 0 for a Bernoulli draw, the sample and the sample plus
    one for a Poisson draw.  The two are coupled: they use the same keys, and the same random
    numbers where the laws allow it.  Every element has runs of its own, except along axes on which
    elements reach no common cost.

    Cost: for each of the elements that reach the same cost one run without derivatives, two for a
    Bernoulli draw, one for each class of a categorical one.  First derivatives only.

    Attributes:
      budget: the most elements that have runs of their own; above it an error is raised.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(rate, key):
      ...     return jnp.sum(jax.random.poisson(key, rate)) * 2.0
      >>> weak = jscg.estimators.MeasureValued()
      >>> rate = jnp.array([1.0, 5.0])
      >>> jscg.grad_expectation(cost, estimators=weak)(rate, jax.random.key(0)).round(4)
      Array([2., 2.], dtype=float32)
    """

    budget: int = 1024

    compares = True
    moves = "each"

    def compare(self, draw: Sampled) -> Evaluations:
        """The two parts."""
        u = draw.uniform(0), draw.uniform(1)
        return Evaluations(*draw.of_family(draw.rule.weak_derivative, u, draw.value))

    @property
    def continuous_law(self) -> Literal["location"]:
        """Continuous draws for which it was chosen are taken by location and scale."""
        return "location"

    def check(self, node: Any) -> str | None:
        """Needs a weak derivative, and random numbers for it."""
        if node.rule.weak_derivative is None:
            return f"no weak derivative is known for {node.family}"
        return why_not_rerun(node)
