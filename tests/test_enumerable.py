"""Which costs the default enumerates: those of few outcomes, and of many where it costs little."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from oracle import assert_small, ber, grid, samples, total, z_of

import jscg
from benchmarks import programs
from jscg import _expected
from jscg._enumerable import MOST_ELEMENTS

KEY = random.key(7)
THETA = jnp.array([0.3, -0.4, 0.2, 0.5, -0.7])


def looked_up(logits, key):
    """Twenty rows of many classes: a table of costs, and the log-prob."""
    x = random.categorical(key, logits)
    costs = jnp.sin(jnp.arange(logits.shape[1], dtype=float))
    own = jnp.take_along_axis(jax.nn.log_softmax(logits), x[:, None], 1)
    return jnp.sum(costs[x] + own[:, 0])


def long_way(logits, key):
    """A cost that takes two hundred steps for each of many outcomes."""
    cost = random.categorical(key, logits) / 500.0
    for _ in range(100):
        cost = jnp.sin(cost) + 0.1
    return jnp.sum(cost)


def shared(logits, key):
    """Draws of which there are many more than parameters: a table would be larger than they."""
    x = random.choice(key, 500, (10_000,), p=jax.nn.softmax(logits[0]))
    return jnp.sum(jnp.sin(x / 7.0))


def two(logits, key):
    """Two draws in one cost, of which one alone has outcomes enough."""
    k1, k2 = random.split(key)
    x = random.categorical(k1, logits)
    y = random.categorical(k2, 2 * logits)
    return jnp.sum(jnp.sin(1.0 * x * y))


def ways(fun, classes, estimators=None, rows=20):
    logits = random.normal(KEY, (rows, classes))
    found = jscg.graph(fun, any_order=True, estimators=estimators)(logits, KEY)
    return {d.name: {how for how, _, _ in d.estimates} for d in found.stochastic_nodes}


@pytest.mark.parametrize("classes", [16, 17, 500])
def test_outcomes_that_cost_less_than_to_draw_are_enumerated(classes):
    assert ways(looked_up, classes) == {"x": {"enumerated"}}

    def expected(logits):
        costs = jnp.sin(jnp.arange(classes, dtype=float))
        return jnp.sum(jax.nn.softmax(logits) * (costs + jax.nn.log_softmax(logits)))

    logits = random.normal(KEY, (20, classes))
    found = jscg.grad_expectation(looked_up)(logits, KEY)
    np.testing.assert_allclose(found, jax.grad(expected)(logits), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fun", "classes", "how"),
    [
        (long_way, 16, "enumerated"),
        (long_way, 100, "enumerated"),
        (long_way, 500, "scored"),
        (shared, 500, "scored"),
        (looked_up, 2000, "scored"),
    ],
)
def test_outcomes_that_cost_more_are_scored(fun, classes, how):
    assert list(ways(fun, classes).values()) == [{how}]


def test_as_many_outcomes_as_parameters_are_enumerated():
    assert 5_000 * 300 > MOST_ELEMENTS
    assert ways(looked_up, 300, rows=5_000) == {"x": {"enumerated"}}


def test_the_joint_outcomes_of_all_draws_of_a_cost_count():
    assert ways(two, 30) == {"x": {"enumerated"}, "y": {"enumerated"}}
    assert sorted(map(str, ways(two, 40).values())) == ["{'enumerated'}", "{'scored'}"]


def six(theta, key, steps):
    """Five draws of two outcomes, one of three, and a long way to four costs."""
    *keys, last = random.split(key, 6)
    classes = random.categorical(last, theta[:3], shape=(4,))
    x = jnp.array([0.3, -2.0, 1.0])[classes] + jnp.linspace(0.0, 1.0, 4)
    for k, t in zip(keys, theta, strict=True):
        x = x * (1 + t * random.bernoulli(k, jax.nn.sigmoid(t), (4,)))
    for _ in range(steps):
        x = jnp.sin(x) + 0.3 * x
    return jnp.sum(x)


@pytest.mark.parametrize("steps, most", [(1, 10**6), (1, 0), (60, _expected.MOST_COPIED)])
def test_joint_outcomes_are_exact_in_many_copies_and_in_one(steps, most, monkeypatch):
    monkeypatch.setattr(_expected, "MOST_COPIED", most)
    fun = functools.partial(six, steps=steps)

    def expected(theta):
        def at(bits, kind):
            x = jnp.array([0.3, -2.0, 1.0])[kind] + jnp.linspace(0.0, 1.0, 4)
            x = x * jnp.prod(1 + theta * bits)
            for _ in range(steps):
                x = jnp.sin(x) + 0.3 * x
            p = jax.nn.sigmoid(theta)
            chance = jnp.prod(jnp.where(bits == 1, p, 1 - p)) * jax.nn.softmax(theta[:3])[kind]
            return chance * jnp.sum(x)

        every = grid(2, 2, 2, 2, 2, 3)
        return jnp.sum(jax.vmap(at)(every[:, :5], every[:, 5]))

    s = jscg.surrogate(fun)
    np.testing.assert_allclose(jax.grad(s)(THETA, KEY), jax.grad(expected)(THETA), 2e-4, 1e-5)
    np.testing.assert_allclose(jax.hessian(s)(THETA, KEY), jax.hessian(expected)(THETA), 2e-3, 1e-4)


def test_what_is_enumerated_grows_with_the_way_and_not_with_the_outcomes():
    few, many, alone = (
        programs.count_equations(jax.make_jaxpr(fun)(THETA, KEY))
        for fun in (
            jscg.surrogate(functools.partial(six, steps=30)),
            jscg.surrogate(functools.partial(six, steps=60)),
            functools.partial(six, steps=30),
        )
    )
    assert 60 <= many - few < 5 * alone


def test_a_support_may_be_too_large_by_choice():
    few = jscg.estimators.Auto(max_outcomes=16)
    assert ways(looked_up, 16, few) == {"x": {"enumerated"}}
    assert ways(looked_up, 17, few) == {"x": {"scored"}}


def decisions(stacks):
    """Four walks with a cost at every step, which the loop stacks, or carries."""

    def fun(th, key):
        def step(carry, k):
            state, total = carry
            action = random.bernoulli(k, jax.nn.sigmoid(th[0] * state + th[1]), (4,))
            cost = jnp.where(action, jnp.sin(state), 0.3 * state)
            state = 0.7 * state + jnp.where(action, 1.0, -1.0)
            return (state, total + cost), cost

        start = jnp.ones(4), jnp.zeros(4)
        (_, total), costs = lax.scan(step, start, random.split(key, 6))
        return jnp.mean(jnp.sum(costs, 0) if stacks else total)

    return fun


def test_costs_that_a_loop_stacks_are_enumerated_at_their_step():
    th = jnp.array([0.4, -0.2])
    told = jscg.graph(decisions(True))(th, KEY).stochastic_nodes[0]
    assert {how for how, _, _ in told.estimates} == {"enumerated, and scored from earlier steps"}
    stacked, carried = (jscg.grad_expectation(decisions(s)) for s in (True, False))
    np.testing.assert_allclose(stacked(th, KEY), carried(th, KEY), rtol=1e-5)


def test_independent_steps_are_each_others_baseline():
    def fun(th, key):
        def one(k):
            k1, k2 = random.split(k)
            x = random.bernoulli(k1, jax.nn.sigmoid(th[0]))
            y = random.bernoulli(k2, jax.nn.sigmoid(th[1]))
            return jnp.sin(2.0 * x + y)

        return jnp.mean(lax.map(one, random.split(key, 8)))

    def exact(th):
        return total(lambda x: ber(jax.nn.sigmoid(th), x) * jnp.sin(2.0 * x[0] + x[1]), grid(2, 2))

    th = jnp.array([0.4, -0.2])
    found = jscg.graph(fun, any_order=True)(th, KEY)
    assert {d.baseline for d in found.stochastic_nodes} == {"with the others as the baseline"}
    variances = []
    for estimator in (None, jscg.estimators.ScoreFunction(baseline=None)):
        call = jscg.grad_expectation(fun, estimators=estimator)
        each = samples(lambda key, call=call: call(th, key), KEY, 20_000)
        assert_small(z_of(each, jax.grad(exact)(th)))
        variances.append(np.sum(np.var(each, 0)))
    assert variances[0] < 0.6 * variances[1]


def test_examples_in_a_step_come_before_steps():
    """A hundred examples are a better baseline than two steps."""

    def fun(th, key):
        def one(k):
            x = random.bernoulli(k, jax.nn.sigmoid(th), (100, 2))
            return jnp.sin(2.0 * x[:, 0] + x[:, 1])

        return jnp.mean(lax.map(one, random.split(key, 2)))

    th = jnp.array([0.4, -0.2])
    variances = []
    for estimator in (None, jscg.estimators.ScoreFunction(baseline=None)):
        call = jscg.grad_expectation(fun, estimators=estimator)
        each = samples(lambda key, call=call: call(th, key), KEY, 4_000)
        variances.append(np.sum(np.var(each, 0)))
    assert variances[0] < 0.5 * variances[1]
