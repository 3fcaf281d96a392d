"""Antithetic samples of Bernoulli draws: ARM, DisARM and ARMS."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ._base import Estimator, Evaluations, Sampled, difference
from ._checks import why_not_rerun


@dataclasses.dataclass(frozen=True)
class _Antithetic(Estimator):
    """What the estimators of this file share."""

    compares = True

    def check(self, node: Any) -> str | None:
        """Needs Bernoulli draws."""
        if node.family != "bernoulli":
            return f"it is for Bernoulli draws, not for {node.family}"
        return why_not_rerun(node)


@dataclasses.dataclass(frozen=True)
class ARM(_Antithetic):
    r"""Augment, reinforce, merge: one more run, at the antithetic sample of all elements.

    .. math::
       \nabla_l E[c(x)] = E[(c(1[u > \sigma(-l)]) - c(1[u < \sigma(l)])) (u - 1/2)]

    for logits l and uniform u, with σ the logistic function (Yin and Zhou 2019).  DisARM is the
    same with u integrated out given the two samples, and never worse; ARM is here to compare with.

    Cost: two runs without derivatives besides the one with.  First derivatives only.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> cost = lambda p, key: jnp.prod(1.0 + jax.random.bernoulli(key, p, (3,)))
      >>> arm = jscg.estimators.ARM()
      >>> jscg.grad_expectation(cost, estimators=arm)(0.5, jax.random.key(0)).shape
      ()
    """

    def compare(self, draw: Sampled) -> Evaluations:
        """The sample and its antithesis."""
        x = draw.value
        u, other, _ = _antithesis(draw)
        one, none = jnp.ones_like(x), jnp.zeros_like(x)
        return difference(other, None, [(u - 0.5, one), (0.5 - u, none)])


@dataclasses.dataclass(frozen=True)
class DisARM(_Antithetic):
    r"""One more run, at the antithetic sample of all elements of a Bernoulli draw.

    .. math::
       \nabla_l E[c(x)] = E\left[
       \frac{1}{2} (c(x) - c(x')) (-1)^{x'} 1[x \ne x'] \sigma(|l|) \right]

    for logits l and σ the logistic function, with x = 1[u < p] and x' = 1[1 - u < p] (Dong, Mnih
    and Tucker 2020, eq. 6; Yin et al. 2020).  Elements along an axis that reach no common cost have
    differences of their own.

    Cost: two runs without derivatives besides the one with.  First derivatives only.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> cost = lambda p, key: jnp.prod(1.0 + jax.random.bernoulli(key, p, (3,)))
      >>> disarm = jscg.estimators.DisARM()
      >>> jscg.grad_expectation(cost, estimators=disarm)(0.5, jax.random.key(0)).shape
      ()
    """

    def compare(self, draw: Sampled) -> Evaluations:
        """The sample and its antithesis."""
        x = draw.value
        _, other, p = _antithesis(draw)
        weight = jnp.where(x != other, 0.5 * jnp.maximum(p, 1 - p), 0)
        return difference(other, None, [(weight, other), (-weight, x)])


@dataclasses.dataclass(frozen=True)
class ARMS(_Antithetic):
    r"""Several antithetic samples, leave-one-out among them, corrected for how they correlate.

    .. math::
       \nabla_l E[c(x)] = E\left[ \frac{1}{n - 1} \sum_i
       \left( c(x_i) - \frac{1}{n} \sum_j c(x_j) \right) \frac{x_i - p}{1 - \rho} \right]

    with x_i = 1[u_i < p], uniform numbers u_i = (1 - d_i)^(n - 1), d from a flat Dirichlet law, and
    ρ the correlation of two samples (Dimitriev and Zhou 2021).  With two samples it is DisARM.

    Cost: `samples` runs without derivatives besides the one with.  First derivatives only.

    Attributes:
      samples: how many, the program's own included.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> cost = lambda p, key: jnp.prod(1.0 + jax.random.bernoulli(key, p, (3,)))
      >>> arms = jscg.estimators.ARMS(samples=4)
      >>> jscg.grad_expectation(cost, estimators=arms)(0.5, jax.random.key(0)).shape
      ()
    """

    samples: int = 4

    def __post_init__(self):
        """Checks the number of samples."""
        if self.samples < 2:
            raise ValueError(f"ARMS compares samples, but samples={self.samples}")

    def compare(self, draw: Sampled) -> Evaluations:
        """All samples with each other."""
        n, x = self.samples, draw.value
        u, _, p = _antithesis(draw)
        # The copula is antithetic below one half: above, failures are drawn with it.
        high = p > 0.5
        small = jnp.minimum(p, 1 - p)
        u = jnp.where(high, 1 - u, u)
        rest = u ** (1 / (n - 1))
        shares = [-jnp.log(draw.uniform(2 + i)) for i in range(n - 1)]
        sizes = [rest * s / sum(shares) for s in shares]
        drawn = [((1 - d) ** (n - 1) < small) != high for d in sizes]
        both = jnp.maximum(0, 2 * small ** (1 / (n - 1)) - 1) ** (n - 1)
        variance = p * (1 - p)
        inside = variance > 0
        rho = jnp.where(inside, (both - small**2) / jnp.where(inside, variance, 1), 0)
        weight = jnp.where(inside, 1 / (1 - rho), 0) / n
        others = [d.astype(x.dtype) for d in drawn]
        coefficients = [
            [weight if r == m else -weight / (n - 1) for m in range(n)] for r in range(n)
        ]
        return Evaluations([None, *others], [x, *others], coefficients)


def _antithesis(draw: Sampled) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A uniform number u with x = 1[u < p], the sample 1[1 - u < p], and p."""
    x = draw.value
    _, (no, p) = draw.support()
    v = draw.uniform(0)
    u = jnp.where(x, p * v, p + no * v)
    return u, (u > no).astype(x.dtype), p
