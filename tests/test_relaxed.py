"""Relaxed draws: where integers become floats, control variates, and the biased estimators."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import one_hot, sigmoid
from oracle import BOUND, assert_case, samples, z_of
from programs import CONTEXTS, DISCRETE, LAYOUTS

import jscg
from jscg.estimators import (
    REBAR,
    DoubleControlVariates,
    GumbelSoftmax,
    LeaveOneOut,
    ScoreFunction,
    StraightThrough,
)

pytestmark = pytest.mark.slow

KEY = random.key(2017)
TH = jnp.array([0.4, -0.6, 0.9])
CONTROLLED = {"REBAR": REBAR(scale=0.8), "Double": DoubleControlVariates(3)}
CASES = {case.name: case for case in CONTEXTS + LAYOUTS + DISCRETE}

PLACES = [
    "two_draws",  # which meet as integers
    "vmap_over_keys",  # an element of a draw, as an integer
    "custom_vjp_around_costs",  # whose rule is not the derivative
    "draw_feeding_draw_feeding_draw",  # all relaxed, where the first is
    "drawn_index_gathers_parameters",
    "softmax",  # which stops a gradient within
    "categorical_axis_0",
]


@pytest.mark.parametrize("name", PLACES)
def test_unbiased_wherever_integers_become_floats(name):
    case = dataclasses.replace(CASES[name], order=1)
    assert_case(case, KEY, CONTROLLED)


def with_an_enumerated_one(th, key):
    """Whose cost is recomputed for its outcomes, but not behind what it shares with the other."""
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(th))
    y = random.bernoulli(k2, sigmoid(-th))
    h = jnp.where(x, 2.0 * y, jnp.exp(th))  # an edge of x, on the way from y
    stopped = lax.stop_gradient(jnp.exp(x + 0.5 * y))
    return jnp.sum(jnp.log1p(h) + stopped) + jnp.sum(jnp.sqrt(1.0 + (jnp.sum(x) + y)))


@pytest.mark.parametrize("name", CONTROLLED)
def test_beside_an_enumerated_draw(name):
    choice = {"x": CONTROLLED[name]}
    found = jscg.check_unbiased(with_an_enumerated_one, estimators=choice, num_estimates=40_000)
    assert found(TH, KEY), found(TH, KEY)


def in_a_scan(th, key):
    """Independent steps, in a batch, with integers that are summed."""

    def step(total, k):
        x = random.categorical(k, jnp.stack([th, -th, 0 * th]), axis=0, shape=(2, 3))
        cost = jnp.sum(jnp.where(x == 1, th, 0.5) + jnp.array([1.0, 4.0, 2.0])[x], -1) ** 2
        return total + jnp.mean(cost * (1 + jnp.sum(x, -1))), None

    return lax.scan(step, 0.0, random.split(key, 2))[0]


@pytest.mark.parametrize("name", CONTROLLED)
def test_steps_of_a_loop_and_elements_of_a_batch_have_slopes_of_their_own(name):
    certificate = jscg.check_unbiased(in_a_scan, estimators=CONTROLLED[name], num_estimates=20_000)
    found = certificate(TH, KEY)
    assert found, found


def test_double_control_variates_have_no_variance_where_the_cost_is_linear():
    def cost(th, key):
        x = random.bernoulli(key, sigmoid(th), (3,))
        return jnp.sum(jnp.where(x, 2.0, th)) + x[0]

    gradient = jscg.grad_expectation(cost, estimators=DoubleControlVariates())
    found = samples(lambda k: gradient(TH, k), KEY, 50)
    slope = jax.grad(lambda th: jnp.sum(sigmoid(th) * 2 + sigmoid(-th) * th) + sigmoid(th[0]))
    # What the parameters do besides is that of the sample.
    direct = 0.5 * np.sqrt(sigmoid(TH) * sigmoid(-TH))
    np.testing.assert_allclose(found.std(0), 2 * direct, rtol=0.3)
    assert np.all(np.abs(z_of(found, slope(TH))) < BOUND)


def test_order_of_variances():
    """Published: double control variates below leave-one-out, REBAR below the score function."""

    decoder = random.normal(random.key(0), (20, 10)) / 8

    def cost(logits, key):
        x = random.bernoulli(key, sigmoid(logits), (10,)).astype(float)
        return jnp.sum(jax.nn.softplus(decoder @ x))

    rows = [REBAR(), ScoreFunction(None), DoubleControlVariates(2), LeaveOneOut(samples=2)]
    logits, spread = jnp.zeros(10), []
    for e in rows:
        gradient = jscg.grad_expectation(cost, estimators=e)
        spread.append(np.sum(samples(lambda k, g=gradient: g(logits, k), KEY, 4_000).var(0)))
    rebar, score, double, out = spread
    assert rebar < 0.5 * score, spread
    assert double < 0.5 * out, spread


# Refused.


def jumps(th, key):
    x = random.bernoulli(key, sigmoid(th)).astype(float)
    return jnp.where(jnp.sum(x) > 1.5, th[0], 1.0)


def draws_below(th, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(th)).astype(float)
    return 1.0 * random.bernoulli(k2, jnp.mean(x))


def branches(th, key):
    x = random.bernoulli(key, sigmoid(th[0]))
    return lax.cond(x, lambda: th[1], lambda: 1.0)


def carried(th, key):
    def step(x, k):
        return random.bernoulli(k, sigmoid(th[0])), x

    return jnp.sum(lax.scan(step, True, random.split(key, 3))[1] * 1.0)


def compared(th, key):
    return 1.0 * (jnp.sum(random.bernoulli(key, sigmoid(th))) > 1)


def counted(th, key):
    return 1.0 * random.poisson(key, jnp.exp(th[0]))


REFUSED = [
    (jumps, REBAR(), "these reach 'gt' at .*which jumps"),
    (draws_below, REBAR(), "parameters of a bernoulli draw"),
    (branches, REBAR(), "enters a cond as an integer"),
    (carried, DoubleControlVariates(), "leaves a loop or branch as an integer"),
    (compared, DoubleControlVariates(), "meets in 'gt' while it is integers"),
    (counted, GumbelSoftmax(), "no small finite support"),
]


@pytest.mark.parametrize("fun, estimator, why", REFUSED, ids=[r[0].__name__ for r in REFUSED])
def test_refused(fun, estimator, why):
    with pytest.raises(jscg.JscgError, match=why):
        jscg.grad_expectation(fun, estimators=estimator)(TH, KEY)


@pytest.mark.parametrize("fun", [jumps, draws_below])
def test_slopes_at_outcomes_may_miss_jumps_and_draws_below(fun):
    assert jscg.check_unbiased(fun, estimators=DoubleControlVariates())(TH, KEY)


def test_without_the_check_the_control_variate_would_be_biased(monkeypatch):
    monkeypatch.setattr("jscg._plan.check_smooth", lambda *_: set())
    assert not jscg.check_unbiased(jumps, estimators=REBAR(), num_estimates=20_000)(TH, KEY)


# Biased on purpose: what they estimate, by quadrature over the noise.

GRID = (np.arange(20_000) + 0.5) / 20_000
NOISE = np.log(GRID) - np.log1p(-GRID)  # logistic: a difference of Gumbel noise
WARM = 0.7


def quadratic(x):
    return (x - 0.3) ** 2 * 2.0


def of_bernoulli(th, key):
    """Costs of independent draws in a loop, so that expectations add up."""

    def step(total, k):
        return total + jnp.sum(quadratic(random.bernoulli(k, sigmoid(th)))), None

    return lax.scan(step, 0.0, random.split(key, 2))[0]


def soft(th):
    z = (th[:, None] + NOISE) / WARM
    return sigmoid(z), th[:, None] + NOISE > 0


def gumbel_softmax(th):
    return jax.grad(lambda th: 2 * jnp.sum(jnp.mean(quadratic(soft(th)[0]), -1)))(th)


def straight_through(th):
    slope = jax.vmap(jax.vmap(jax.grad(quadratic)))(soft(th)[1].astype(float))
    return jax.grad(lambda th: 2 * jnp.sum(jnp.mean(slope * soft(th)[0], -1)))(th)


BIASED = [
    (GumbelSoftmax(WARM), gumbel_softmax),
    (StraightThrough(WARM), straight_through),
    (StraightThrough(WARM, samples=8), straight_through),
]


def test_biased_estimators_estimate_what_they_say():
    spread = []
    for estimator, expected in BIASED:
        assert not estimator.unbiased
        gradient = jscg.grad_expectation(of_bernoulli, estimators=estimator)
        found = samples(lambda k, g=gradient: g(TH, k), KEY, 20_000)
        assert np.all(np.abs(z_of(found, expected(TH))) < BOUND), estimator
        spread.append(found.var(0))
    assert np.all(spread[2] < spread[1])  # Rao-Blackwell


def test_the_value_is_that_of_the_relaxed_program_or_of_the_sample():
    def value(estimator):
        run = jscg.value_and_grad_expectation(of_bernoulli, estimators=estimator)
        return jax.jit(jax.vmap(lambda k: run(TH, k)[0]))(random.split(KEY, 3))

    plain = jnp.stack([of_bernoulli(TH, k) for k in random.split(KEY, 3)])
    np.testing.assert_allclose(value(StraightThrough()), plain, rtol=1e-6)
    assert np.all(np.abs(value(GumbelSoftmax()) - plain) > 1e-3)


def test_draws_below_a_relaxed_one_are_scored():
    """Their parameters depend on the arguments through it alone; linearly."""
    rates = jnp.array([0.2, 0.5, 0.9])

    def cost(th, key):
        k1, k2 = random.split(key)
        x = one_hot(random.categorical(k1, th), 3)
        return 3.0 * random.bernoulli(k2, x @ rates)

    gradient = jscg.grad_expectation(cost, estimators={"categorical": StraightThrough()})
    found = samples(lambda k: gradient(TH, k), KEY, 60_000)
    noise = -jnp.log(random.exponential(KEY, (60_000, 3)))
    soften = jax.grad(lambda th: jnp.mean(3 * jax.nn.softmax(th + noise) @ rates))
    assert np.all(np.abs(z_of(found, soften(TH))) < 1.5 * BOUND)  # both are sampled
