"""Differentiation through the sample."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._base import Estimator


@dataclasses.dataclass(frozen=True)
class Pathwise(Estimator):
    r"""Differentiates through the sample of a reparameterised draw (the "PD" estimator).

    .. math::
       \nabla_\theta E[c(x)] = E[c'(x) \nabla_\theta x(z, \theta)],
       \qquad x = x(z, \theta)

    (Schulman et al. 2015, section 2.1; implicit reparameterisation for gamma, beta, dirichlet, t
    and wald).  Right where the cost c is continuous in the sample.  The default for continuous
    draws.

    Attributes:
      allow_jumps: whether a discontinuous cost is differentiated all the same, with a bias: what
        its jumps contribute is lost.  Otherwise jscg scores the draw there, or raises an error.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(scale, key):
      ...     return jnp.mean((scale * jax.random.normal(key, (4,))) ** 2)
      >>> pathwise = jscg.estimators.Pathwise()
      >>> g = jscg.grad_expectation(cost, estimators={"normal": pathwise})(1.0, jax.random.key(0))
      >>> g.shape
      ()
    """

    allow_jumps: bool = False

    @property
    def unbiased(self) -> bool:
        """Not where jumps are allowed."""
        return not self.allow_jumps

    @property
    def allows_jumps(self) -> bool:
        """As asked for."""
        return self.allow_jumps

    def check(self, node: Any) -> str | None:
        """Needs a derivative of the sample."""
        if node.rule.discrete:
            return "a discrete draw has no derivative with respect to its parameters"
        return None
