"""Generated programs: the gradient against an enumeration of the same description."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from oracle import samples, z_of
from random_programs import (
    ESTIMATORS,
    KEY,
    KEYS,
    TH,
    Unknown,
    check,
    programs,
    sampler,
    truth,
    verdict,
)

import jscg

pytestmark = pytest.mark.slow

# 10 programs, 3 estimators, 3 parameters and a value: one chance in 15,000 of any |z| > 5.
BOUND = 5.0

quick = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("loops", [False, True], ids=["straight", "loops"])
def test_any_program_has_an_unbiased_gradient_or_is_refused(loops):
    compared = 0

    @quick
    @given(program=programs(loops))
    def each(program):
        nonlocal compared
        if verdict(program) == "refused":
            return
        try:
            value_z, found = check(program, ESTIMATORS.values())
        except Unknown:
            return
        compared += 1
        assert abs(value_z) < BOUND, "the two readings of the description disagree"
        for name, (z,) in zip(ESTIMATORS, found, strict=True):
            assert np.all(abs(z) < BOUND), (name, z)

    each()
    assert compared >= 3, "refusing everything is no answer"


SCORED = (("bern", 0), ("scan", 1, 3, "below", "stacked"), ("mul", 3, 4))
OTHER = (("bern", 0), ("scan", 1, 2, "below", "stacked"), ("mul", 3, 4))
JUMPING = (("normal", 0, 1), ("select", 3, 2), ("mul", 2, 4))
OTHERWISE = (("normal", 1, 0), ("select", 3, 2), ("mul", 2, 4))


@pytest.mark.parametrize("program, other", [(SCORED, OTHER), (JUMPING, OTHERWISE)])
def test_the_comparison_can_fail(program, other):
    """Reading a different program, or dropping the scores, is noticed."""
    value_z, [[gradient_z]] = check(program, [None])
    assert abs(value_z) < BOUND and np.all(abs(gradient_z) < BOUND)
    (_, wrong, _), _ = truth(other)
    ours = samples(lambda k: jscg.grad_expectation(sampler(program))(TH, k), KEY, KEYS)
    assert np.max(abs(z_of(ours, wrong))) > 10
    plain = samples(lambda k: jax.grad(sampler(program))(TH, k), KEY, KEYS)
    (_, exact, _), _ = truth(program)
    assert np.max(abs(z_of(plain, exact))) > 10
