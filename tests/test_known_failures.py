"""Programs of which published systems return a wrong gradient without a word: here they are right.

Seen in GenJAX's ADEV, NumPyro's TraceGraph_ELBO, and plain `jax.grad`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from oracle import BOUND, samples, z_of

import jscg

KEY = random.key(2015)
SCORE = jscg.estimators.ScoreFunction(baseline=None)


def gradients(fun, theta, n=50_000, **options):
    gradient = jscg.grad_expectation(fun, **options)
    return samples(lambda key: gradient(theta, key), KEY, n)


def assert_mean(draws, exact):
    z = z_of(draws, exact)
    assert np.all(np.abs(z) < BOUND), (draws.mean(0), exact, z)


# A draw inside of scan, jit and checkpoint: the gradient was zero, and the value never changed.


def flips(p, key):
    step = lambda total, k: (total + random.bernoulli(k, p), None)  # noqa: E731
    return lax.scan(step, 0.0, random.split(key, 5))[0]


def one_flip(p, key):
    return 5.0 * random.bernoulli(key, p)


@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
@pytest.mark.parametrize(
    "fun", [flips, jax.jit(one_flip), jax.checkpoint(one_flip)], ids=["scan", "jit", "checkpoint"]
)
def test_draw_inside(fun, estimator):
    values = samples(lambda k: jscg.surrogate(fun, estimators=SCORE)(0.5, k), KEY, 1000)
    assert len(np.unique(values)) > 1
    assert_mean(gradients(fun, 0.5, estimators=estimator), 5.0)


# Terms that reach across the steps of a scan: all but the present step's were dropped.

STEPS = 5


def log_prob(logit, x):
    return x * log_sigmoid(logit) + (1 - x) * log_sigmoid(-logit)


def cost_of_the_past(th, key):
    """The cost at a step depends on earlier draws, which are independent."""

    def step(past, k):
        x = 1.0 * random.bernoulli(k, sigmoid(th[0]))
        return past + x, (past - x - th[1]) ** 2

    return jnp.sum(lax.scan(step, 0.0, random.split(key, STEPS))[1])


def guide_that_looks_back(th, key):
    """A bound whose guide is a chain; its model couples neighbours."""

    def step(before, k):
        logit = th[0] + th[1] * before
        x = 1.0 * random.bernoulli(k, sigmoid(logit))
        return x, log_prob(0.4 - 1.5 * before, x) - log_prob(logit, x)

    return jnp.sum(lax.scan(step, 0.0, random.split(key, STEPS))[1])


def enumerated(th, guide):
    outcomes = jnp.array(list(itertools.product((0.0, 1.0), repeat=STEPS)))
    past = log_q = cost = jnp.zeros(len(outcomes))
    for x in outcomes.T:
        logit = th[0] + (th[1] * past if guide else 0.0)
        log_q += log_prob(logit, x)
        if guide:
            cost += log_prob(0.4 - 1.5 * past, x) - log_prob(logit, x)
            past = x
        else:
            cost += (past - x - th[1]) ** 2
            past = past + x
    return jnp.sum(jnp.exp(log_q) * cost)


@pytest.mark.parametrize("fun, guide", [(cost_of_the_past, False), (guide_that_looks_back, True)])
@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
def test_terms_across_steps(fun, guide, estimator):
    th = jnp.array([0.3, -0.7])
    exact = np.asarray(jax.grad(enumerated)(th, guide))
    assert_mean(gradients(fun, th, estimators=estimator), exact)


# Jumps and moving supports.


def test_threshold_of_a_normal():
    """1[x > 0] for x ~ N(theta, 1): the density at zero, and not zero."""
    draws = gradients(lambda th, key: 1.0 * (th + random.normal(key) > 0), 0.5)
    assert_mean(draws, 0.3520653)


def test_support_that_moves():
    assert_mean(gradients(lambda th, key: random.uniform(key, maxval=th), 0.8), 0.5)


def test_log_prob_at_logit_zero():
    """The score is -1/2 or 1/2; a kink there made it 0 or 1."""
    fun = lambda th, key: 1.0 + random.bernoulli(key, sigmoid(th))  # noqa: E731
    score = gradients(fun, 0.0, 1000, estimators=SCORE)
    # The constant multiplies no score, so that a draw of 0 adds nothing.
    assert set(score.tolist()) == {0.0, 0.5}
    both = lambda th, key: 1.0 - 2.0 * (1 - random.bernoulli(key, sigmoid(th)))  # noqa: E731
    assert set(gradients(both, 0.0, 1000, estimators=SCORE).tolist()) == {0.0, 1.0}


def test_wald():
    """The mean of an inverse Gaussian is its parameter."""
    assert_mean(gradients(lambda th, key: random.wald(key, th), 1.3), 1.0)


# Higher derivatives and variance.


@pytest.mark.parametrize("noise", ["normal", "laplace"])
def test_second_derivative_of_a_square(noise):
    fun = lambda th, key: (th + getattr(random, noise)(key)) ** 2  # noqa: E731
    second = jax.grad(jax.grad(jscg.surrogate(fun)))
    np.testing.assert_allclose(samples(lambda k: second(0.3, k), KEY, 10), 2.0, rtol=1e-5)


def test_second_derivative_of_a_score():
    fun = lambda p, key: (3.0 * random.bernoulli(key, p) + p) ** 2  # noqa: E731
    exact = jax.grad(jax.grad(lambda p: p * (3 + p) ** 2 + (1 - p) * p**2))(0.4)
    second = jax.grad(jax.grad(jscg.surrogate(fun, estimators=SCORE)))
    assert_mean(samples(lambda k: second(0.4, k), KEY, 50_000), float(exact))


def test_a_constant_of_the_past_adds_no_variance():
    """It was 100 in the standard deviation, and ideally about one."""
    fun = lambda p, key: 100.0 + random.bernoulli(key, p)  # noqa: E731
    assert gradients(fun, 0.5, estimators=SCORE).std() < 1.5


def test_independent_units_without_a_plate():
    """It was 4.45 without a plate, 0.227 with one."""

    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th)).astype(float)
        return jnp.sum(log_prob(0.3, x) - log_prob(th, x))

    assert gradients(fun, jnp.zeros(16), 2000, estimators=SCORE).std(0).max() < 0.5
    assert gradients(fun, jnp.zeros(16), 2000).std(0).max() < 1e-6
