"""Draws of nothing: arrays without elements, loops without steps, batches without examples."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax, random

import jscg

KEY, P = random.key(0), jnp.float32(0.5)


def no_elements(p, key):
    return p * jnp.prod(1 + random.bernoulli(key, p, (0,)))


def no_counts(p, key):
    return p + jnp.sum(random.poisson(key, p, (0,)))


def no_steps(p, key):
    return lax.scan(lambda c, k: (c * (1 + random.bernoulli(k, p)), None), p, random.split(key, 0))[
        0
    ]


def no_examples(p, key):
    bits = random.bernoulli(key, jax.nn.sigmoid(p * jnp.zeros((0, 3))))
    return p + jnp.sum(bits * 1.0)


ESTIMATORS = [
    None,
    jscg.estimators.ScoreFunction(),
    jscg.estimators.Coupled(),
    jscg.estimators.Enumerate(),
    jscg.estimators.MeasureValued(),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize("fun", [no_elements, no_counts, no_steps, no_examples])
def test_nothing_is_drawn_and_the_rest_is_differentiated(fun, estimator):
    assert jscg.grad_expectation(fun, estimators=estimator)(P, KEY) == 1.0
    assert jax.grad(jscg.surrogate(fun))(P, KEY) == 1.0


def test_beside_draws_of_something():
    def fun(p, key):
        return no_elements(p, key) + 3.0 * random.bernoulli(random.fold_in(key, 1), p)

    assert jscg.grad_expectation(fun)(P, KEY) == 4.0
    assert "no score needed: it draws nothing" in str(jscg.graph(fun)(P, KEY))
