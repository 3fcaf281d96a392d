"""Biased on purpose: derivatives through a relaxed sample."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax import lax

from ._base import Estimator, Sampled
from ._concrete import concrete, why_not_relaxed


@dataclasses.dataclass(frozen=True)
class _Relaxed(Estimator):
    """What the estimators of this file share.

    Attributes:
      temperature: of the softmax, above zero.
    """

    temperature: float = 1.0

    relaxes = "program"

    def __post_init__(self):
        """Checks the temperature."""
        if not self.temperature > 0:
            raise ValueError(f"a temperature is above zero, but got {self.temperature}")

    @property
    def unbiased(self) -> bool:
        """No: what is differentiated is another function, or another point of it."""
        return False

    def check(self, node: Any) -> str | None:
        """Needs a small finite support."""
        return why_not_relaxed(node)


@dataclasses.dataclass(frozen=True)
class GumbelSoftmax(_Relaxed):
    r"""**Biased.** Runs the program at relaxed samples and differentiates through these.

    .. math::
       x = \operatorname{softmax}((\log p + g) / \tau)

    with Gumbel noise g at the temperature τ (Maddison et al. 2017; Jang et al. 2017).  Where the
    program makes a float of an element of the draw, e(x) by a cast, `jnp.where` or a one-hot code,
    it gets the sum over k of x_k e(k).  The value, too, is that at relaxed samples.  The bias falls
    with the temperature, as the variance rises; what the cost's jumps contribute is lost.

    Cost: that of the plain gradient.  Any order.

    Attributes:
      temperature: of the softmax, above zero.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,)).astype(float)
      ...     return jnp.sum(x) ** 2
      >>> soft = jscg.estimators.GumbelSoftmax(temperature=0.5)
      >>> soft.unbiased
      False
      >>> float(jscg.grad_expectation(cost, estimators=soft)(0.5, jax.random.key(0))) > 0
      True
    """

    def relax(self, draw: Sampled) -> jax.Array:
        """The relaxed sample."""
        return concrete(draw, 0, self.temperature)[0]


@dataclasses.dataclass(frozen=True)
class StraightThrough(_Relaxed):
    r"""**Biased.** Runs the program at the sample and differentiates as if it were relaxed.

    .. math::
       c'(x) \nabla_\theta \operatorname{softmax}((\log p + g) / \tau)

    with Gumbel noise g that belongs to the sample x (Jang et al. 2017), averaged over several
    draws of g given x (Rao-Blackwellised: Paulus, Maddison and Krause 2021).  The value is that of
    the program.  What the cost's jumps contribute is lost.

    Cost: that of the plain gradient.  Any order.

    Attributes:
      temperature: of the softmax, above zero.
      samples: of the noise.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,)).astype(float)
      ...     return jnp.sum(x) ** 2
      >>> through = jscg.estimators.StraightThrough(samples=10)
      >>> float(jscg.grad_expectation(cost, estimators=through)(0.5, jax.random.key(0))) > 0
      True
    """

    samples: int = 1

    def __post_init__(self):
        """Checks the number of samples, too."""
        super().__post_init__()
        if self.samples < 1:
            raise ValueError(f"StraightThrough averages samples, but samples={self.samples}")

    def relax(self, draw: Sampled) -> jax.Array:
        """The sample, with the derivative of relaxed ones."""
        soft = [concrete(draw, tag, self.temperature)[0] for tag in range(self.samples)]
        mean = sum(soft) / self.samples
        return draw.is_outcome() + (mean - lax.stop_gradient(mean))
