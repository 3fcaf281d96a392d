"""What the benchmarks compare with must be right, or their ratios say nothing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import QUICK

from benchmarks import checks, harness, suite
from benchmarks.harness import Ratio
from benchmarks.workloads import TINY, WORKLOADS, Make, Workload, load

load()


def families() -> dict[str, Make]:
    """Workloads that differ in size only share what is tiny: one of each."""
    return {make: (name, make) for name, make in reversed(TINY.items())}


@pytest.mark.parametrize("name, make", families().values(), ids=lambda x: x if isinstance(x, str) else "")
def test_by_hand(name, make):
    """Variants agree with each other and with jscg at the same draws, and are unbiased."""
    workload = make()
    gradients = checks.equal_ones(workload) | {"textbook": workload.textbook[1]}
    found = checks.take(workload, gradients, 1_000, **QUICK)
    assert max(checks.differences(workload, found).values()) < suite.LARGEST_DIFFERENCE
    assert max(checks.distances(workload, found).values(), default=0.0) < suite.LARGEST_Z
