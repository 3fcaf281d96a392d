"""Estimators that run the program again at other values, against exact enumeration."""

import dataclasses

import pytest
from jax import random
from oracle import assert_case
from programs import CONTEXTS, LAYOUTS

import jscg

KEY = random.key(20221029)
COUPLED = jscg.estimators.Coupled()


@pytest.mark.parametrize("case", CONTEXTS + LAYOUTS, ids=str)
def test_gradient_in_every_context(case):
    assert_case(dataclasses.replace(case, order=1), KEY, {"coupled": COUPLED})
