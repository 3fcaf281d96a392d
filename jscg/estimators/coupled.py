"""Finite perturbations, coupled through common random numbers and pruned to one."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._base import Estimator, Evaluations, Sampled, difference
from ._checks import why_not_rerun


@dataclasses.dataclass(frozen=True)
class Coupled(Estimator):
    r"""Runs the program once more with one element of the draw moved to another outcome.

    .. math::
       \nabla_\theta E[c(x)] = E[w(x, x') (c(x') - c(x))
       \nabla_\theta (\log p(x'; \theta) - \log p(x; \theta))]

    with a neighbouring outcome x' and the weight w with which this holds for every c: the other
    outcome of a Bernoulli draw with w = p (1 - p), one success more or less of a binomial one,
    one more of a Poisson draw with w = rate.  Of the elements that reach the same costs, those of
    all steps of a loop included, one is moved, picked with a chance in proportion to w.  Both runs
    use the same keys, so that what comes later differs only where it has to.

    The finite perturbations of stochastic triples (Arya et al. 2022, "Automatic differentiation
    of programs with discrete randomness", with pruning), here in reverse mode: one pair of runs
    serves all parameters.

    Cost: two runs without derivatives besides the one with.  First derivatives only.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p)
      ...     return 3.0 * x
      >>> coupled = jscg.estimators.Coupled()
      >>> jscg.grad_expectation(cost, estimators=coupled)(0.25, jax.random.key(0)).round(4)
      Array(3., dtype=float32, weak_type=True)
    """

    compares = True
    moves = "one"

    def compare(self, draw: Sampled) -> Evaluations:
        """The sample and its neighbour."""
        other, weight = draw.of_family(draw.rule.neighbour, draw.uniform(0), draw.value)
        return difference(other, None, [(weight, other), (-weight, draw.value)])

    def check(self, node: Any) -> str | None:
        """Needs a neighbouring outcome, and a key to pick one by."""
        if node.rule.neighbour is None:
            return f"no neighbouring outcomes are known for {node.family}"
        return why_not_rerun(node)
