"""Estimators: how the gradient through one draw is estimated.  One small file each."""

from ._base import Estimator, Evaluations, Sampled, difference
from .auto import Auto
from .coupled import Coupled
from .disarm import ARM, ARMS, DisARM
from .enumerate import Enumerate
from .leave_one_out import LeaveOneOut
from .measure_valued import MeasureValued
from .pathwise import Pathwise
from .score import ScoreFunction
from .unordered_set import UnorderedSet

__all__ = [
    "ARM",
    "ARMS",
    "Auto",
    "Coupled",
    "DisARM",
    "Enumerate",
    "Estimator",
    "Evaluations",
    "LeaveOneOut",
    "MeasureValued",
    "Pathwise",
    "Sampled",
    "ScoreFunction",
    "UnorderedSet",
    "difference",
]
