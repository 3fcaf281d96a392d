"""REBAR: the score function with the cost of a relaxed sample as its control variate."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ._base import Estimator, Evaluations, Relaxed, Sampled
from ._concrete import concrete, why_not_relaxed


@dataclasses.dataclass(frozen=True)
class REBAR(Estimator):
    r"""Compares the cost with the cost at a relaxed value that belongs to the same sample.

    .. math::
       \nabla_\theta E[c(x)] = E[(c(x) - \eta c(r')) \nabla_\theta \log p(x; \theta)
       + \eta (\nabla_\theta c(r) - \nabla_\theta c(r'))]

    where `r = softmax((log p + g) / temperature)` is the relaxed sample as a function of noise g,
    and r' the same number as a function of noise drawn given the sample x (Tucker et al. 2017,
    equation 10).  As both are the same number, one derivative c'(r) serves both.  Draws below that
    are estimated by REBAR, too, are relaxed with it, and the cost must be smooth in relaxed values:
    what jumps is refused.  Where the program makes a float of an element of the draw, e(x), it gets
    the sum over k of r_k e(k).  For a control variate of your own, one that learns, see
    `jscg.control_variate`.

    Cost: one more run with its derivative.  First derivatives only.

    Attributes:
      temperature: of the relaxed sample, above zero.
      scale: η, how much of the control variate is subtracted; 0 is the plain score function.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,)).astype(float)
      ...     return jnp.sum(x) ** 2
      >>> rebar = jscg.estimators.REBAR()
      >>> jscg.grad_expectation(cost, estimators=rebar)(0.5, jax.random.key(0)).shape
      ()
    """

    temperature: float = 0.5
    scale: float = 1.0

    compares = True
    relaxes = "runs"

    def __post_init__(self):
        """Checks the temperature."""
        if not self.temperature > 0:
            raise ValueError(f"a temperature is above zero, but got {self.temperature}")

    def relax(self, draw: Sampled) -> jax.Array:
        """The relaxed sample, below another one."""
        return concrete(draw, 0, self.temperature)[0]

    def compare(self, draw: Sampled) -> Evaluations:
        """The sample and the relaxed one."""
        free, given = concrete(draw, 0, self.temperature)
        one = jnp.ones(draw.shape, free.dtype)
        return Evaluations(
            [None, Relaxed(free)],
            [draw.value],
            [[one], [-self.scale * one]],
            paths=[None, self.scale * (free - given)],
        )

    def check(self, node: Any) -> str | None:
        """Needs a small finite support."""
        return why_not_relaxed(node)
