"""Leave-one-out with a first-order Taylor polynomial in the place of each other sample's cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from ._base import Estimator, Evaluations, Relaxed, Sampled
from ._checks import why_not_redrawn
from ._concrete import why_not_relaxed


@dataclasses.dataclass(frozen=True)
class DoubleControlVariates(Estimator):
    r"""Compares each of several samples with what the others' slopes predict for it.

    .. math::
       \nabla_\theta E[c(x)] = E\left[
       \frac{1}{n} \sum_i (c(x_i) - c_i(x_i)) \nabla_\theta \log p(x_i; \theta)
       + \frac{1}{n} \sum_i c'(x_i) \nabla_\theta \mu \right],

    .. math::
       c_i(x) = \frac{1}{n - 1} \sum_{j \ne i} c(x_j) + c'(x_j) (x - x_j)

    for samples as one-hot codes x, whose mean μ is the vector of probabilities, with c' the
    derivative of the cost as a function of these (after Titsias and Shi 2022).  The prediction is
    unbiased whatever c' is: neither jumps nor discrete draws below matter.  Where the program makes
    a float of an element of the draw, e(x), its slope is e(k) in the weight of outcome k.

    Cost: `samples` runs with derivatives.  First derivatives only.

    Attributes:
      samples: n, the program's own included.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,)).astype(float)
      ...     return jnp.sum(x) + 1.0
      >>> double = jscg.estimators.DoubleControlVariates(samples=2)
      >>> jscg.grad_expectation(cost, estimators=double)(0.5, jax.random.key(0)).round(4)
      Array(3., dtype=float32, weak_type=True)
    """

    samples: int = 2

    compares = True
    relaxes = "points"

    def __post_init__(self):
        """Checks the number of samples."""
        if self.samples < 2:
            raise ValueError(f"samples are compared, but samples={self.samples}")

    def compare(self, draw: Sampled) -> Evaluations:
        """All samples with each other."""
        n = self.samples
        outcomes, probs = draw.support()
        mean = jnp.stack(probs, -1)
        values = [draw.value, *(draw.again(tag) for tag in range(n - 1))]
        known = jnp.asarray(outcomes).astype(draw.value.dtype)
        codes = [(x[..., None] == known).astype(mean.dtype) for x in values]
        one, share = jnp.full(draw.shape, 1 / n, mean.dtype), 1 / (n * (n - 1))
        coefficients = [[one if i == j else -one / (n - 1) for i in range(n)] for j in range(n)]
        tilts = [[share * (codes[j] - codes[i]) for i in range(n)] for j in range(n)]
        relaxed: list = [Relaxed(code) for code in codes]
        return Evaluations(relaxed, values, coefficients, tilts, [mean / n] * n)

    def check(self, node: Any) -> str | None:
        """Needs a small finite support, and another sample."""
        return why_not_relaxed(node) or why_not_redrawn(node)
