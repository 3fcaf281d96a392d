"""Estimators: how the gradient through one draw is estimated.  One small file each."""

from ._base import Comparison, Estimator, Sampled
from .auto import Auto
from .coupled import Coupled
from .enumerate import Enumerate
from .pathwise import Pathwise
from .score import ScoreFunction

__all__ = [
    "Auto",
    "Comparison",
    "Coupled",
    "Enumerate",
    "Estimator",
    "Pathwise",
    "Sampled",
    "ScoreFunction",
]
