"""Exact expectation over a finite support."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._base import Estimator


@dataclasses.dataclass(frozen=True)
class Enumerate(Estimator):
    r"""Replaces every cost c(x) of a draw by its exact expectation over the draw.

    .. math::
       E[c(x)] = \sum_v p(v; \theta) c(v),

    so that the draw adds no variance (Schulman et al. 2015, section 2.1, with the sum carried
    out).  Along axes on which the cost is aligned with the draw all elements are enumerated at
    once; along the others jointly, which takes (size of the support)^(number of elements)
    evaluations of everything between the draw and the cost.

    Attributes:
      budget: the most joint outcomes that are evaluated; above it an error is raised.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     return jnp.sum(jax.random.bernoulli(key, p)) ** 2.0  # 1 + 2 p of the other unit
      >>> p = jnp.array([0.2, 0.9])
      >>> exact = jscg.estimators.Enumerate()
      >>> jscg.grad_expectation(cost, estimators=exact)(p, jax.random.key(0)).round(4)
      Array([2.8, 1.4], dtype=float32)
    """

    budget: int = 1024

    @property
    def outcomes(self) -> int:
        """The budget."""
        return self.budget

    @property
    def only_cheap(self) -> bool:
        """The model may be run again."""
        return False

    @property
    def scores(self) -> bool:
        """Never."""
        return False

    def check(self, node: Any) -> str | None:
        """Needs a finite support."""
        if node.outcomes is None:
            return "its support is not a small finite set"
        return None
