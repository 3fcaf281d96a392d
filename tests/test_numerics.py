"""Scores where probabilities round to 0 or 1, at kinks, and in low precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.nn import sigmoid, softmax

import jscg

PLAIN = jscg.estimators.ScoreFunction(baseline=None)
KEY = random.key(0)


def samples(fun, at, n=64, **options):
    g = jax.vmap(jscg.grad_expectation(fun, **options), (None, 0))
    return np.asarray(g(at, random.split(KEY, n)), np.float64)


def test_score_at_logit_zero_is_plus_or_minus_one_half():
    def fun(logit, key):
        return (2.0 * random.bernoulli(key, sigmoid(logit)) - 1.0) ** 2

    grads = samples(fun, 0.0, estimators=PLAIN)
    assert set(grads) == {0.5, -0.5}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("logit", [-50.0, -17.0, 0.0, 17.0, 50.0])
@pytest.mark.parametrize("estimator", [PLAIN, None], ids=["score", "default"])
def test_bernoulli_logits_in_the_tails(dtype, logit, estimator):
    """At +-50 the gradient sigma'(l) (f1 - f0) is zero to rounding, and every sample finite."""

    def fun(l, key):  # noqa: E741
        x = random.bernoulli(key, sigmoid(l))
        return jnp.where(x, 3.0, 1.0).astype(l.dtype)

    grads = samples(fun, jnp.asarray(logit, dtype), estimators=estimator)
    assert np.isfinite(grads).all()
    if estimator is None:
        p = 1 / (1 + np.exp(-logit))
        np.testing.assert_allclose(grads, 2 * p * (1 - p), rtol=2e-2, atol=1e-6)
    if abs(logit) == 50:
        assert np.abs(grads).max() < 1e-6


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-30, 1.0 - 6e-8])
@pytest.mark.parametrize("estimator", [PLAIN, None], ids=["score", "default"])
def test_bernoulli_at_the_ends(p, estimator):
    fun = lambda p, k: jnp.where(random.bernoulli(k, p), 3.0, 1.0)  # noqa: E731
    grads = samples(fun, p, estimators=estimator)
    assert np.isfinite(grads).all()
    if estimator is None:
        np.testing.assert_allclose(grads, 2.0, rtol=1e-5)


@pytest.mark.parametrize("form", ["logits", "log_softmax", "choice_softmax", "log_p"])
@pytest.mark.parametrize("scale", [1.0, 60.0, 300.0])
def test_categorical_in_the_tails(form, scale):
    costs = jnp.array([1.0, -2.0, 4.0])

    def fun(z, key):
        if form == "choice_softmax":
            i = random.choice(key, 3, p=softmax(z))
        else:
            logits = {
                "logits": z,
                "log_softmax": jax.nn.log_softmax(z),
                "log_p": jnp.log(softmax(z)),
            }[form]
            i = random.categorical(key, logits)
        return costs[i]

    z = jnp.array([0.5, -0.5, 0.0]) * scale
    exact = jax.grad(lambda z: softmax(z) @ costs)(z)
    for estimator in (PLAIN, None):
        grads = samples(fun, z, estimators=estimator)
        if form == "log_p" and scale > 100:
            # softmax rounds to zero, and the user's own log(0) is not defined there.
            continue
        assert np.isfinite(grads).all(), (form, estimator)
        if estimator is None:
            np.testing.assert_allclose(grads, np.broadcast_to(exact, grads.shape), atol=1e-4)


def test_masked_classes():
    def fun(z, key):
        logits = jnp.where(jnp.array([True, False, True]), z, -jnp.inf)
        return jnp.array([1.0, 100.0, 4.0])[random.categorical(key, logits)]

    for estimator in (PLAIN, None):
        grads = samples(fun, jnp.zeros(3), estimators=estimator)
        assert np.isfinite(grads).all() and np.all(grads[:, 1] == 0)


@pytest.mark.parametrize("family", ["poisson", "geometric", "binomial", "multinomial"])
def test_other_families_at_the_edge(family):
    def fun(p, key):
        if family == "poisson":
            x = random.poisson(key, p * 1e-6)
        elif family == "geometric":
            x = random.geometric(key, 1.0 - p * 0.0)
        elif family == "binomial":
            x = random.binomial(key, 5, p * 1e-7)
        else:
            x = random.multinomial(key, 5.0, jnp.stack([p * 0.0, 1.0 - p * 0.0]))
        return jnp.sum(x * 1.0)

    assert np.isfinite(samples(fun, 0.5)).all()


@pytest.mark.parametrize("p", [-0.5, 1.5, np.nan])
def test_probabilities_that_are_none_do_not_crash(p):
    fun = lambda p, k: random.bernoulli(k, p) * 2.0  # noqa: E731
    value, _ = jscg.value_and_grad_expectation(fun, estimators=PLAIN)(p, KEY)
    assert value == random.bernoulli(KEY, p) * 2.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_gradient_dtype_is_the_arguments(dtype):
    fun = lambda p, k: jnp.sum(random.bernoulli(k, p) * p) ** 2  # noqa: E731
    assert jscg.grad_expectation(fun)(jnp.full(3, 0.5, dtype), KEY).dtype == dtype


def test_impossible_outcome_with_an_infinite_cost():
    """-log q(x) of an outcome that cannot happen counts nothing."""

    def fun(p, key):
        x = random.bernoulli(key, p)
        return jnp.where(x, -jnp.log(p), -jnp.log1p(-p))

    value, _ = jscg.value_and_grad_expectation(fun)(jnp.float32(0.0), KEY)
    assert value == 0.0


def test_impossible_outcomes_of_a_cost_that_is_chosen_by_the_draw():
    """A unit that is switched off adds nothing of its infinite cost, to no derivative."""
    logits, costs = jnp.array([-jnp.inf, 0.0, 1.0]), jnp.array([jnp.inf, 1.0, 1.0])

    def fun(logits, key):
        x = random.bernoulli(key, sigmoid(logits))
        return jnp.sum(jnp.where(x, costs, 2.0)) + jnp.sum((x - 3.0) ** 2)

    def exact(logits):
        p = sigmoid(logits[1:])
        return 11.0 + jnp.sum(p * 5.0 + (1 - p) * 11.0)

    surrogate = functools.partial(jscg.surrogate(fun), key=KEY)
    for f in (lambda f: f, jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(f(surrogate)(logits), f(exact)(logits), rtol=1e-5)
