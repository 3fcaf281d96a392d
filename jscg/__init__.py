"""Unbiased gradients of expectations of plain `jax.random` programs."""

import pathlib as _pathlib

from jax.extend import source_info_util as _source_info_util

from . import bounds, estimators
from ._api import grad_expectation, surrogate, value_and_grad_expectation
from ._bound import upper_bound
from ._check import Certificate, check_unbiased
from ._errors import JscgError
from ._expectation import expectation
from ._explain import Explanation, explain
from ._graph import Graph, graph
from ._report import VarianceReport, variance_report
from ._sampler import sampler
from ._statements import baseline, control_variate, stop_influence

# Source lines in messages are the user's, never ours.
_source_info_util.register_exclusion(str(_pathlib.Path(__file__).parent))

__version__ = "0.1.0"
__all__ = [
    "Certificate",
    "Explanation",
    "Graph",
    "JscgError",
    "VarianceReport",
    "baseline",
    "bounds",
    "check_unbiased",
    "control_variate",
    "estimators",
    "expectation",
    "explain",
    "grad_expectation",
    "graph",
    "sampler",
    "stop_influence",
    "surrogate",
    "upper_bound",
    "value_and_grad_expectation",
    "variance_report",
]
