"""Baselines from the cost at the means: no bias to second order, whatever is below; much better.

Where a program is so small that all of its outcomes can be listed, the mean of its gradients and
Hessians over these is exact, and so is what it is compared with.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from listing import assert_exact_to_second_order, listed, sampling
from oracle import BOUND, gradient
from test_influence import plan_of

import jscg
from jscg import _fitted, _mean_field
from jscg.estimators import Auto

pytestmark = pytest.mark.slow

OFF = Auto(mean_field=False)
ONLY_FITS = Auto(compares_draws=False)
ALL_SCORED = Auto(max_outcomes=1)
THETA = jnp.array([0.3, -0.4, 0.2, 0.5, -0.7])
PROGRAMS = {}


def program(outcomes, samples=1, size=3, runs=None):
    """Registers `fun(theta, rows, draw)`, with the number of outcomes of each of its draws.

    `draw(sampler, parameter)` is one draw for all rows; of `runs` draws there is a run, where all
    costs are scored.
    """

    def register(fun):
        PROGRAMS[fun.__name__] = (
            fun,
            outcomes,
            samples,
            size,
            len(outcomes) if runs is None else runs,
        )
        return fun

    return register


def bernoulli(draw, p):
    return draw("bernoulli", p).astype(float)


@program((2, 2))
def two_layers(theta, rows, draw):
    x1 = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    x2 = bernoulli(draw, sigmoid(theta[2] + theta[3] * x1 * (1 + rows)))
    return jnp.exp(theta[4] * x2 * (2 * x1 - 1) + x1 * rows) + jnp.cos(x1 + theta[4] * rows)


@program((2, 2), samples=2, size=2)
def over_samples(theta, rows, draw):
    return two_layers(theta, rows, draw)


@program((2, 2))
def with_enumerated_costs(theta, rows, draw):
    l1 = theta[0] + theta[1] * rows
    x1 = bernoulli(draw, sigmoid(l1))
    l2 = theta[2] + theta[3] * x1 * (1 + rows)
    x2 = bernoulli(draw, sigmoid(l2))
    own = x1 * log_sigmoid(l1) + (1 - x1) * log_sigmoid(-l1)
    own += x2 * log_sigmoid(l2) + (1 - x2) * log_sigmoid(-l2)
    return own + jnp.exp(theta[4] * x2 * (2 * x1 - 1) + x1 * rows)


@program((3, 2))
def by_tables(theta, rows, draw):
    """Classes of which a table and a one-hot code is made."""
    logits = jnp.stack([theta[0] * rows, theta[1] + rows, theta[2] * jnp.ones_like(rows)], -1)
    x1 = draw("categorical", logits)
    hot = jax.nn.one_hot(x1, 3)
    x2 = bernoulli(draw, sigmoid(hot @ jnp.array([0.5, -1.0, 0.2]) * theta[3] + rows))
    return jnp.array([0.3, 2.0, -1.0])[x1] * jnp.exp(theta[4] * x2) + x2 * x2


@program((2, 2, 2), size=2, runs=1)
def integers_that_meet(theta, rows, draw):
    """Two draws have no mean there; they are drawn again below the first."""
    x1 = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    x2 = draw("bernoulli", sigmoid(theta[2] + theta[3] * x1))
    x3 = draw("bernoulli", sigmoid(theta[0] - theta[3] * x1))
    return jnp.where(x2 == x3, theta[4], 1.0) * (1 + x1) ** 2


@program((2, 2), samples=2, size=2)
def integers_that_are_added(theta, rows, draw):
    x1 = draw("bernoulli", sigmoid(theta[0] + theta[1] * rows)).astype(int)
    x2 = draw("bernoulli", sigmoid(theta[2] + theta[3] * rows)).astype(int)
    return jnp.exp(theta[4] * (x1 + 2 * x2) * (1 + rows))


@program((2,))
def no_number_at_the_mean(theta, rows, draw):
    p = sigmoid(theta[0] + theta[1] * rows)
    x = bernoulli(draw, p)
    return jnp.log(jnp.abs(x - lax.stop_gradient(p))) * theta[2] * x + 1 / (x - p) ** 3


@program((2,))
def branches(theta, rows, draw):
    x = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    x = lax.cond(theta[2] > 0, lambda x: jnp.sin(theta[3] * x), lambda x: x, x)

    def step(carry, t):
        return carry * theta[4] + x * t, None

    return lax.scan(step, x, jnp.arange(3.0))[0] ** 2


@program((2,), runs=0)
def a_loop_without_a_derivative(theta, rows, draw):
    x = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    steps = lax.while_loop(lambda c: jnp.max(c) < 3, lambda c: c + jnp.exp(x), lax.stop_gradient(x))
    return steps * (1 + x) * theta[2]


@program((2, 2))
def a_promise_of_the_user(theta, rows, draw):
    """What is said not to depend on a draw is looked at, too, where that is at its mean."""
    x1 = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    x2 = bernoulli(draw, sigmoid(theta[2] + theta[3] * x1))
    known = jscg.stop_influence(x1**2 - x1 + rows)
    return jnp.exp(theta[4] * x2 * (x1 + rows)) + known * (1 + x2) + known * jnp.cos(x1)


@program((2, 2))
def beside_baselines_of_the_user(theta, rows, draw):
    """Which do not learn here, or theta[4] would have what they learn in its gradient."""
    x1 = bernoulli(draw, sigmoid(theta[0] + theta[1] * rows))
    x1 = jscg.baseline(x1, 2 * rows)
    x2 = bernoulli(draw, sigmoid(theta[2] + theta[3] * x1 * (1 + rows)))
    x2 = jscg.baseline(x2, lax.stop_gradient(jnp.cos(3 * x1)))
    return jnp.exp(theta[4] * x2 * (2 * x1 - 1) + x1 * rows)


@pytest.fixture
def small(monkeypatch):
    """Lets batches be so small that all their outcomes can be listed."""
    monkeypatch.setattr(_fitted, "LEAST_GROUPS", 2)
    monkeypatch.setattr(_fitted, "CELLS_FOR_EACH_PREDICTOR", 0)


def of_rows(fun, rows):
    """The mean over rows."""
    return lambda theta, draw: jnp.mean(fun(theta, jnp.asarray(rows, theta.dtype), draw))


def runs_of(fun, estimators=None):
    """Names of the draws that have a run at the means."""
    plan = plan_of(fun, THETA, random.key(0), estimators=estimators)
    return [n.name for n, f in plan.fitted.items() if f.run]


CASES = [(name, ALL_SCORED) for name in PROGRAMS]
CASES += [(name, None) for name in ("two_layers", "over_samples", "with_enumerated_costs")]


@pytest.mark.parametrize("name, estimators", CASES)
def test_exactly_unbiased_to_second_order(name, estimators, small, monkeypatch):
    fun, outcomes, samples, size, runs = PROGRAMS[name]
    shape = (samples, size) if samples > 1 else (size,)
    every = listed(outcomes, [shape] * len(outcomes))
    program = of_rows(fun, jnp.linspace(-0.5, 0.8, size))
    if estimators:
        assert len(runs_of(sampling(program), estimators)) == runs
    options = {"num_samples": samples, "estimators": estimators}
    assert_exact_to_second_order(program, THETA, every, monkeypatch, **options)


def two_draws(theta, key, turned, rows=32):
    """The examples are the first axis of the first draw, and the last of the second if turned."""
    k1, k2 = random.split(key)
    slopes = jnp.linspace(-1, 1, rows)[:, None]
    x = random.bernoulli(k1, sigmoid(theta[0] + slopes * theta[:3])).astype(float)
    w = jnp.sin(jnp.arange(9.0)).reshape(3, 3)
    logits = x @ w.T + theta[3]
    y = random.bernoulli(k2, sigmoid(logits.T if turned else logits)).astype(float)
    return jnp.mean(jnp.exp((w[0] @ y if turned else y @ w[0]) * x[:, 0] * theta[4]))


def test_examples_may_be_any_axis_of_a_draw_below():
    turned, straight = (functools.partial(two_draws, turned=t) for t in (True, False))
    assert len(runs_of(turned, ALL_SCORED)) == 2
    found = [variance(fun, ALL_SCORED) for fun in (turned, straight)]
    assert 0.8 < found[0] / found[1] < 1.25


def local(theta, key, rows=32, units=30):
    """Each unit has a cost of its own, and together they have a small one."""
    k1, k2 = random.split(key)
    slopes = jnp.linspace(-1, 1, rows)[:, None] * jnp.linspace(-1, 1, units)
    x = random.bernoulli(k1, sigmoid(theta[0] + slopes * theta[1])).astype(float)
    y = random.bernoulli(k2, sigmoid(theta[2] + x)).astype(float)
    together = 0.01 * jnp.exp(0.1 * y @ jnp.linspace(-1, 1, units))
    return jnp.mean(jnp.sum((y - 2 * x) ** 2, -1) + together)


def outlier(theta, key, rows=32):
    """One example is masked, the others are much alike."""
    mask, slopes = jnp.ones(rows).at[3].set(0.0), 0.01 * jnp.linspace(-1, 1, rows)[:, None]
    x = random.bernoulli(key, sigmoid(theta[:3] + slopes)).astype(float)
    return jnp.mean(mask * jnp.exp(x @ jnp.array([0.5, -1.0, 2.0]) * theta[3]))


@pytest.mark.parametrize("fun", [local, outlier])
@pytest.mark.parametrize("samples", [1, 4])
def test_never_much_worse_than_without(fun, samples):
    ours, off = (
        variance(fun, e, num_samples=samples)
        for e in (ONLY_FITS, Auto(fits=False, compares_draws=False))
    )
    assert 0 < ours < 1.3 * off


def wide(theta, key, rows=32, units=8, baseline=None):
    """One layer of a network, and a cost that mixes its units."""
    p = sigmoid(theta[0] + jnp.linspace(-1, 1, rows)[:, None] * jnp.linspace(-1, 1, units))
    x = random.bernoulli(key, p).astype(float)
    if baseline is not None:
        x = jscg.baseline(x, baseline)
    return jnp.mean(jnp.exp(0.5 * x @ jnp.linspace(-1, 1.5, units)) * theta[1])


def variance(fun, estimators, **options):
    g = jax.jit(jax.vmap(gradient(fun, estimators=estimators, **options), (None, 0)))
    return np.asarray(g(THETA, random.split(random.key(1), 2000)), np.float64)[:, 0].var()


@pytest.mark.parametrize("samples", [1, 4])
def test_predicts_what_the_units_add(samples):
    """Beside the best that an expert writes without derivatives of the cost: leave-one-out."""
    ours, textbook = (variance(wide, e, num_samples=samples) for e in (None, OFF))
    assert runs_of(wide) and not runs_of(wide, OFF)
    assert 0 < ours < 0.2 * textbook


def bent(theta, key, rows=32):
    """The cost is zero at the mean, and there alone; the user knows it well."""
    sizes = 1 + jnp.arange(rows) % 7
    p = sigmoid(theta[:3])
    x = random.bernoulli(key, p, (rows, 3)).astype(float)
    x = jscg.baseline(x, 10.0 * sizes)
    off = jnp.sum(x - lax.stop_gradient(p), -1)
    return jnp.mean(sizes * (1 - jnp.exp(-1e3 * off**2)) * (10 + off))


def test_chooses_between_the_mean_and_the_baseline_of_the_user():
    """One that knows nothing does no harm where the cost at the means tells; nor the other way."""

    def wrong(theta, key):
        return wide(theta, key, baseline=20 * jnp.sin(7 * jnp.arange(32)))

    assert runs_of(wrong) and runs_of(bent, ONLY_FITS)
    assert 0 < variance(wrong, None) < 1.3 * variance(wide, None)
    off = Auto(mean_field=False, compares_draws=False)
    assert 0 < variance(bent, ONLY_FITS) < 1.3 * variance(bent, off)


def test_deep_networks_keep_their_costliest_draws_as_they_were():
    def deep(theta, key, layers=8):
        x, cost = jnp.ones((64, 30)), 0.0
        w = jnp.sin(jnp.arange(900.0)).reshape(30, 30)
        for k in random.split(key, layers):
            x = random.bernoulli(k, sigmoid(theta[0] * x @ w)).astype(float)
            cost += jnp.mean(jnp.exp(x @ w[0]))
        return cost

    found = runs_of(functools.partial(deep, layers=8), ONLY_FITS)
    assert 2 <= len(found) < 8
    assert not runs_of(functools.partial(deep, layers=_mean_field.MOST_RUNS + 1), ONLY_FITS)


def test_with_noise_and_draws_without_a_mean_below():
    """A normal draw and a Poisson draw below are drawn again, at other parameters."""

    def fun(theta, key):
        k1, k2, k3 = random.split(key, 3)
        x = random.bernoulli(k1, sigmoid(theta[:2]), (32, 2)).astype(float)
        z = random.normal(k2, (32,)) + theta[2] * jnp.sum(x, -1)
        n = random.poisson(k3, jnp.exp(theta[3] * x[:, 0]))
        return jnp.mean(n * (1 + x[:, 1]) + z**2 * x[:, 0])

    def exact(theta):
        bits = jnp.array(list(itertools.product([0.0, 1.0], repeat=2)))
        p = sigmoid(theta[:2])
        chance = jnp.prod(jnp.where(bits == 1, p, 1 - p), -1)
        rate = jnp.exp(theta[3] * bits[:, 0])
        square = 1 + (theta[2] * jnp.sum(bits, -1)) ** 2
        return jnp.sum(chance * (rate * (1 + bits[:, 1]) + square * bits[:, 0]))

    assert len(runs_of(fun, ONLY_FITS)) == 1
    keys = random.split(random.key(3), 6000)
    g = jax.jit(jax.vmap(gradient(fun, estimators=ONLY_FITS), (None, 0)))(THETA, keys)
    g, truth = np.asarray(g, np.float64), np.asarray(jax.grad(exact)(THETA))
    off = g.mean(0) - truth
    se = g.std(0) / len(g) ** 0.5
    assert np.all(abs(off[:4]) < BOUND * se[:4]) and np.all(se[:4] > 0)
    assert off[4] == 0
