"""Estimators: how the gradient through one draw is estimated.  One small file each."""

from ._base import Estimator
from .auto import Auto
from .enumerate import Enumerate
from .pathwise import Pathwise
from .score import ScoreFunction

__all__ = ["Auto", "Enumerate", "Estimator", "Pathwise", "ScoreFunction"]
