"""How large the gradient is for each leaf of the parameters, beside the noise of one estimate."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ._estimates import Tally

_CLEAR = 2.0


@dataclasses.dataclass(frozen=True)
class ParameterSignal:
    """The gradient of one leaf of the arguments.

    Attributes:
      path: the argument, and the leaf in it.
      shape: of the leaf.
      norm: of the mean gradient, corrected for what the noise of finitely many estimates adds to
        it; 0 where that is all there is.
      deviation: the standard deviation of one estimate: the root of the variance, summed over
        elements.
      snr: the signal-to-noise ratio of one estimate: `norm / deviation`.
      standard_error: of the signal-to-noise ratio, or somewhat more: of the covariance matrix only
        its trace and the trace of its square are known.
      distinguishable: whether the squared norm is more than two standard errors above zero.
    """

    path: str
    shape: tuple[int, ...]
    norm: float
    deviation: float
    snr: float
    standard_error: float
    distinguishable: bool


def signals(base: Tally, paths: list[str]) -> tuple[ParameterSignal, ...]:
    """The rows of all leaves."""
    each = zip(paths, base.mean, base.variances, base.squared_variances, strict=True)
    return tuple(_signal(*leaf, base.count) for leaf in each)


def _signal(
    path: str, mean: np.ndarray, variance: float, squared: float, n: int
) -> ParameterSignal:
    """One row.

    The squared norm of a mean is too large by the variance over n.  What is left has the variance
    2 tr(S^2) / (n (n - 1)) + 4 m' S m / n, of which the last is at most 4 |m|^2 tr(S^2)^(1/2) / n.
    """
    found = float(np.sum(mean**2))
    square = max(found - variance / n, 0.0)
    at_zero = math.sqrt(2 * squared / (n * (n - 1)))
    error = math.sqrt(at_zero**2 + 4 * square * math.sqrt(squared) / n)
    distinguishable = found > 0 and found - variance / n > _CLEAR * at_zero
    norm, deviation = math.sqrt(square), math.sqrt(variance)
    if not variance:
        snr, off = (math.inf, math.nan) if found else (math.nan, math.nan)
    else:
        snr, off = norm / deviation, (math.sqrt(square + error) - norm) / deviation
    shape = tuple(mean.shape)
    return ParameterSignal(path, shape, norm, deviation, snr, off, distinguishable)
