"""Several samples of one draw, each the others' baseline."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from ._base import Estimator, Evaluations, Sampled
from ._checks import why_not_redrawn


@dataclasses.dataclass(frozen=True)
class LeaveOneOut(Estimator):
    r"""Draws again from one draw only, and runs what comes after with the same keys (RLOO).

    .. math::
       \nabla_\theta E[c(x)] = E\left[ \frac{1}{n} \sum_i
       \left( c(x_i) - \frac{1}{n - 1} \sum_{j \ne i} c(x_j) \right)
       \nabla_\theta \log p(x_i; \theta) \right]

    (Kool et al. 2019).  `num_samples=n` does the same with independent runs of the whole program;
    here what comes before the draw is shared, and what comes after uses the same random numbers.

    Cost: `samples` runs without derivatives besides the one with.  First derivatives only.

    Attributes:
      samples: how many, the program's own included.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> cost = lambda rate, key: jnp.sqrt(jax.random.poisson(key, rate) + 1.0)
      >>> rloo = jscg.estimators.LeaveOneOut(samples=4)
      >>> jscg.grad_expectation(cost, estimators=rloo)(2.0, jax.random.key(0)).shape
      ()
    """

    samples: int = 4

    def __post_init__(self):
        """Checks the number of samples."""
        if self.samples < 2:
            raise ValueError(f"LeaveOneOut compares samples, but samples={self.samples}")

    compares = True

    def compare(self, draw: Sampled) -> Evaluations:
        """All samples with each other."""
        n = self.samples
        others = [draw.again(i) for i in range(n - 1)]
        weight = jnp.full(draw.shape, 1 / n)
        coefficients = [
            [weight if r == m else -weight / (n - 1) for m in range(n)] for r in range(n)
        ]
        return Evaluations([None, *others], [draw.value, *others], coefficients)

    def check(self, node: Any) -> str | None:
        """Needs a sampler, and a key to draw again with."""
        return super().check(node) or why_not_redrawn(node)
