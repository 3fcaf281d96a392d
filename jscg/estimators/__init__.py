"""Estimators: how the gradient through one draw is estimated.  One small file each."""

from ._base import Estimator, Evaluations, Relaxed, Sampled, difference
from .auto import Auto
from .coupled import Coupled
from .disarm import ARM, ARMS, DisARM
from .double_control_variates import DoubleControlVariates
from .enumerate import Enumerate
from .gumbel_softmax import GumbelSoftmax, StraightThrough
from .leave_one_out import LeaveOneOut
from .measure_valued import MeasureValued
from .pathwise import Pathwise
from .rebar import REBAR
from .score import ScoreFunction
from .unordered_set import UnorderedSet

__all__ = [
    "ARM",
    "ARMS",
    "Auto",
    "Coupled",
    "DisARM",
    "DoubleControlVariates",
    "Enumerate",
    "Estimator",
    "Evaluations",
    "GumbelSoftmax",
    "LeaveOneOut",
    "MeasureValued",
    "Pathwise",
    "REBAR",
    "Relaxed",
    "Sampled",
    "ScoreFunction",
    "StraightThrough",
    "UnorderedSet",
    "difference",
]
