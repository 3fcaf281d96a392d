"""Samplers of the user's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from oracle import BOUND

import jscg


def poisson_log_prob(x, rate):
    return x * jnp.log(rate) - rate - jax.scipy.special.gammaln(x + 1.0)


@jscg.sampler(poisson_log_prob)
def by_multiplication(key, rate):
    """Knuth's algorithm: a rejection loop that no derivative passes."""

    def go_on(state):
        return state[2] > jnp.exp(-rate)

    def step(state):
        key, n, product = state
        key, use = random.split(key)
        return key, n + 1, product * random.uniform(use)

    return lax.while_loop(go_on, step, (key, -1, 1.0))[1]


@jscg.sampler(poisson_log_prob)
def by_callback(key, rate):
    def draw(seed, rate):
        return np.int32(np.random.default_rng(np.asarray(seed)).poisson(rate))

    shape = jax.ShapeDtypeStruct((), jnp.int32)
    return jax.pure_callback(draw, shape, random.key_data(key), rate, vmap_method="sequential")


@jscg.sampler(lambda x, p: jnp.where(x > 0, jnp.log(p), jnp.log1p(-p)), support=[-1, 1])
def plus_or_minus(key, p):
    return jnp.where(random.uniform(key, p.shape) < p, 1, -1)


@jscg.sampler(lambda x, logits: jnp.sum(jnp.where(x, logits, 0) - jax.nn.softplus(logits), -1))
def joint(key, logits):
    """A vector of units that is one outcome."""
    return random.bernoulli(key, jax.nn.sigmoid(logits))


def samples(fun, params, n, **options):
    keys = random.split(random.key(3), n)
    gradient = jscg.grad_expectation(fun, **options)
    return np.asarray(jax.jit(jax.vmap(gradient, (None, 0)))(jnp.asarray(params), keys))


def check(got, exact):
    error = got.std(0, ddof=1) / np.sqrt(len(got))
    assert np.all(np.abs(got.mean(0) - exact) <= BOUND * error + 1e-5), (got.mean(0), exact, error)


@pytest.mark.parametrize("draw, n", [(by_multiplication, 40_000), (by_callback, 4_000)])
def test_mean_square_of_a_poisson_count(draw, n):
    check(samples(lambda rate, key: draw(key, rate) ** 2 / 1.0, 2.0, n), 2 * 2.0 + 1)


def test_in_a_scan_with_a_cost_at_every_step():
    def fun(rate, key):
        def step(total, key):
            total = total + by_multiplication(key, rate)
            return total, total

        _, totals = lax.scan(step, 0.0, random.split(key, 3))
        return jnp.sum(totals)

    check(samples(fun, 0.7, 40_000), 1 + 2 + 3)


def test_without_jscg_it_is_the_function_that_it_was():
    key = random.key(0)
    plain = by_multiplication.__wrapped__
    assert by_multiplication(key, 3.0) == plain(key, 3.0)
    assert jax.jit(by_multiplication)(key, 3.0) == plain(key, 3.0)
    assert by_multiplication.__name__ == "by_multiplication"


def test_a_listed_support_is_enumerated():
    def fun(p, key):
        return jnp.sum(jnp.exp(0.3 * plus_or_minus(key, p)))

    p = jnp.array([0.2, 0.5, 0.9])
    got = samples(fun, p, 5)
    exact = np.exp(0.3) - np.exp(-0.3)
    np.testing.assert_allclose(got, np.full((5, 3), exact), rtol=1e-5)


def test_an_outcome_of_several_numbers():
    logits = jnp.array([0.3, -0.5])
    got = samples(lambda th, key: jnp.prod(joint(key, th) * 1.0), logits, 40_000)
    check(got, jax.grad(lambda th: jnp.prod(jax.nn.sigmoid(th)))(logits))


def test_under_vmap_with_own_keys():
    def fun(rate, key):
        counts = jax.vmap(by_multiplication, (0, None))(random.split(key, 4), rate)
        return jnp.mean(counts**2.0)

    check(samples(fun, 2.0, 20_000), 2 * 2.0 + 1)


def test_one_key_for_mapped_parameters_is_refused():
    def fun(rates, key):
        return jnp.prod(jax.vmap(by_multiplication, (None, 0))(key, rates) * 1.0)

    with pytest.raises(jscg.JscgError, match="one key"):
        jscg.grad_expectation(fun)(jnp.array([1.0, 2.0]), random.key(0))


def test_a_key_that_is_used_twice_is_refused():
    def twice(rate, key):
        return plus_or_minus(key, rate) * (1.0 * plus_or_minus(key, rate / 2))

    with pytest.raises(jscg.JscgError, match="key in common"):
        jscg.grad_expectation(twice)(jnp.array(0.5), random.key(0))


def test_shapes_must_agree():
    @jscg.sampler(lambda x, p: jnp.zeros((2,)))
    def three(key, p):
        return random.uniform(key, (3,)) < p

    with pytest.raises(jscg.JscgError, match=r"three.*shape \(3,\).*shape \(2,\)"):
        jscg.grad_expectation(lambda p, key: jnp.sum(three(key, p) * p))(0.5, random.key(0))
