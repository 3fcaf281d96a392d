"""Samplers of the user's own."""

from __future__ import annotations

import dataclasses

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


@jax.custom_jvp
def implicit_gamma(key, a):
    """Marsaglia and Tsang's rejection loop, for a of at least one, with the implicit derivative."""
    d = a - 1 / 3

    def draw(state):
        k, _, _ = state
        k, k1, k2 = random.split(k, 3)
        v = (1 + random.normal(k1) / jnp.sqrt(9 * d)) ** 3
        z = (jnp.cbrt(v) - 1) * jnp.sqrt(9 * d)
        fits = jnp.log(random.uniform(k2)) < z * z / 2 + d * (1 - v + jnp.log(v))
        return k, v, (v > 0) & fits

    return d * lax.while_loop(lambda s: ~s[2], draw, (key, jnp.ones_like(a), False))[1]


@implicit_gamma.defjvp
def _(primals, tangents):
    key, a = primals
    x = implicit_gamma(key, a)
    return x, lax.random_gamma_grad(a, x) * tangents[1]


my_gamma = jscg.sampler(lambda x, a: jax.scipy.stats.gamma.logpdf(x, a), reparameterized=True)(
    implicit_gamma
)


def test_a_reparameterised_sampler_is_differentiated_through():
    def fun(a, key):
        return my_gamma(key, a) ** 2

    got = samples(fun, 1.7, 40_000)
    check(got, 2 * 1.7 + 1)
    plain = jax.vmap(jax.grad(fun), (None, 0))(jnp.array(1.7), random.split(random.key(3), 40_000))
    np.testing.assert_allclose(got, plain, rtol=1e-4)


def test_a_reparameterised_sampler_is_scored_where_the_program_jumps():
    def fun(a, key):
        x = my_gamma(key, a)
        return (x > 1.0) + jnp.sin(x)

    exact = jax.scipy.special.gammaincc
    of_sine = lambda a: jnp.imag((1 - 1j) ** -a)  # noqa: E731
    step = 1e-2
    slope = (exact(1.7 + step, 1.0) - exact(1.7 - step, 1.0)) / (2 * step)
    check(samples(fun, 1.7, 40_000), slope + jax.grad(of_sine)(1.7))


def test_a_reparameterised_sampler_is_refused_where_the_jump_moves():
    def fun(a, key):
        return 1.0 * (my_gamma(key, a) > a)

    with pytest.raises(jscg.JscgError, match="which is scored"):
        jscg.grad_expectation(fun)(1.7, random.key(0))


def test_without_the_decorator_its_loop_is_refused():
    with pytest.raises(jscg.JscgError):
        jscg.grad_expectation(lambda a, key: implicit_gamma(key, a))(1.7, random.key(0))


def test_a_support_cannot_be_reparameterised():
    with pytest.raises(jscg.JscgError, match="leave out"):
        jscg.sampler(lambda x: x, support=[0, 1], reparameterized=True)


def test_outcomes_that_are_listed_are_numbers():
    with pytest.raises(jscg.JscgError, match=r"must be numbers.*range\(n\)"):
        jscg.sampler(lambda x: x, support=[[0, 1], [1, 0]])


def table(x, w):
    return jax.nn.log_softmax(jnp.array([0.0, 0.5, 1.0]) * w)[x + 1]


def by_search(key, w):
    total = jnp.cumsum(jax.nn.softmax(jnp.array([0.0, 0.5, 1.0]) * w))
    return jnp.sum(random.uniform(key) > total) - 1


LISTED = jscg.sampler(table, support=[-1, 0, 1])(by_search)
UNLISTED = jscg.sampler(table)(by_search)


def squared_sum(draw):
    def cost(w, key):
        k1, k2 = random.split(key)
        return (draw(k1, w) + draw(k2, w) - 1.0) ** 2

    return cost


def exact_squared_sum(w):
    p = jax.nn.softmax(jnp.array([0.0, 0.5, 1.0]) * w)
    values = jnp.array([-1.0, 0.0, 1.0])
    return jnp.sum(p[:, None] * p * (values[:, None] + values - 1.0) ** 2)


@dataclasses.dataclass(frozen=True)
class AnyOutcome(jscg.estimators.Estimator):
    """An estimator of one's own, which asks for the score of what was not drawn."""

    compares = True
    moves = "each"

    def compare(self, draw):
        outcomes, _ = draw.support()
        k = jnp.floor(draw.uniform(0) * len(outcomes)).astype(int)
        other = jnp.asarray(outcomes)[k].astype(draw.value.dtype)
        weight = len(outcomes) * jnp.exp(draw.log_prob(other))
        return jscg.estimators.difference(other, None, [(weight, other)])


@pytest.mark.parametrize("estimator", [jscg.estimators.UnorderedSet(2), AnyOutcome()])
def test_outcomes_that_were_not_drawn_have_their_own_log_prob(estimator):
    g = jscg.grad_expectation(squared_sum(LISTED), estimators=estimator)
    found = np.asarray(jax.jit(jax.vmap(g, (None, 0)))(0.3, random.split(random.key(5), 20_000)))
    exact = jax.grad(exact_squared_sum)(0.3)
    assert abs(found.mean() - exact) < 4.5 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("draw", [LISTED, UNLISTED])
def test_the_optimal_baseline_needs_no_list_of_outcomes(draw):
    estimator = jscg.estimators.ScoreFunction(baseline="optimal")
    g = jscg.grad_expectation(squared_sum(draw), estimators=estimator, num_samples=4)
    found = np.asarray(jax.jit(jax.vmap(g, (None, 0)))(0.3, random.split(random.key(5), 5_000)))
    exact = jax.grad(exact_squared_sum)(0.3)
    assert abs(found.mean() - exact) < 4.5 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize(
    "estimator", [jscg.estimators.GumbelSoftmax(), jscg.estimators.Enumerate()]
)
def test_what_needs_all_outcomes_says_so_where_none_are_listed(estimator):
    g = jscg.grad_expectation(squared_sum(UNLISTED), estimators=estimator)
    with pytest.raises(jscg.JscgError, match="small finite s"):
        g(0.3, random.key(0))


def test_a_log_prob_at_the_drawn_value_alone_is_compared_with_no_other():
    class Shift(jscg.estimators.Estimator):
        compares = True

        def compare(self, draw):
            weight = jnp.ones_like(draw.log_prob(draw.value))
            return jscg.estimators.difference(draw.value + 1, None, [(weight, draw.value + 1)])

    with pytest.raises(jscg.JscgError, match=r"Shift.*drawn value alone.*support="):
        jscg.grad_expectation(squared_sum(UNLISTED), estimators=Shift())(0.3, random.key(0))
