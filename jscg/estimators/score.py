"""The score function estimator."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ._base import Estimator


@dataclasses.dataclass(frozen=True)
class ScoreFunction(Estimator):
    r"""Weights every cost with the score of the draws that influence it (REINFORCE).

    .. math::
       \nabla_\theta E[c(x)] = E[c(x) \nabla_\theta \log p(x; \theta) + \nabla_\theta c(x)]

    (Schulman et al. 2015, Theorem 1), through the factor `exp(log_p - stop_gradient(log_p))`, which
    is right to any order (Foerster et al. 2018).  With `baseline="leave_one_out"` the mean cost
    of the other samples, or of the other elements of the leading axis along which costs and
    draws are aligned, is subtracted (Theorem 2), by the factor

    .. math::
       b_k + 1 - \frac{1}{n - 1} \sum_{j \ne k} b_j

    with b that same factor of a sample: this needs no second pass and is unbiased to any order,
    because the mean of b is 1.

    With `baseline="optimal"` it is the others' mean weighted by their squared scores s,

    .. math::
       \frac{\sum_{j \ne k} c_j s_j^2}{\sum_{j \ne k} s_j^2},

    an estimate of the scalar E[c s²] / E[s²] of least variance from samples that are not k
    (Greensmith, Bartlett and Baxter 2004); s is taken in the logits of Bernoulli and categorical
    draws, else in their parameters.  It is unbiased to any order, too.

    A baseline from earlier steps, such as a moving average, is handed in as an argument:
    `x = jscg.baseline(x, b)`.  With b in `argnums` its gradient is 2 (b - c), so that a step of
    gradient descent at rate r is b + 2 r (c - b): a moving average.

    Continuous draws are scored too where it is chosen for them by name, `{"x": ScoreFunction()}`
    or `{"normal": ScoreFunction()}`, and their density is known; as the one estimator for all it
    leaves them to be differentiated through.

    Attributes:
      baseline: "leave_one_out", "optimal", or None for no baseline.

    Example:
      >>> import jax, jscg
      >>> def cost(p, key):
      ...     return 3.0 * jax.random.bernoulli(key, p)
      >>> score = jscg.estimators.ScoreFunction(baseline=None)
      >>> float(jscg.grad_expectation(cost, estimators=score)(0.5, jax.random.key(0))) in {0., 6.}
      True
    """

    baseline: Literal["leave_one_out", "optimal"] | None = "leave_one_out"

    def __post_init__(self):
        """Checks the name of the baseline."""
        known = ("leave_one_out", "optimal", None)
        if self.baseline not in known:
            raise ValueError(f"unknown baseline {self.baseline!r}: use one of {known}")

    @property
    def continuous_law(self) -> Literal["density"]:
        """Continuous draws for which it was chosen are scored with their density."""
        return "density"

    @property
    def leave_one_out(self) -> bool:
        """As asked for."""
        return self.baseline is not None

    @property
    def weighs_others(self) -> bool:
        """As asked for."""
        return self.baseline == "optimal"
