"""The MM bound: tangent, above, and descent, by sums over all outcomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_softmax, sigmoid, softmax
from oracle import BOUND, ber, grid, samples, total, z_of

import jscg

pytestmark = pytest.mark.slow

KEY = random.key(11)
OLD = jnp.array([0.3, -0.4])


def chain(th, key):
    """Three draws, each of the one before, with costs at every step that are never positive."""

    def step(carry, k):
        s, cost = carry
        s = 1.0 * random.bernoulli(k, sigmoid(th[0] + th[1] * s))
        return (s, cost + (s - 1.0)), -4.0 * s

    (_, cost), more = lax.scan(step, (0.0, 0.0), random.split(key, 3))
    return cost + jnp.sum(more)


def costs_of_chain(x):
    return -3.0 - 3.0 * jnp.sum(x)


def chances_of_chain(th, x):
    before = jnp.concatenate([jnp.zeros(1), x[:-1]])
    return ber(sigmoid(th[0] + th[1] * before), x)


def branches(th, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(th[0]))
    y = lax.cond(x, lambda: random.bernoulli(k2, sigmoid(th[1])), lambda: False)
    return -1.0 * x - 2.0 * y


def exact_of_chain(th):
    return total(lambda x: chances_of_chain(th, 1.0 * x) * costs_of_chain(1.0 * x), grid(2, 2, 2))


def exact_of_branches(th):
    p = sigmoid(th[0])
    return -p - 2 * p * sigmoid(th[1])


PROGRAMS = {"chain": (chain, exact_of_chain), "branches": (branches, exact_of_branches)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_tangent_at_the_old_parameters(name):
    fun, exact = PROGRAMS[name]

    def at(key):
        return jax.value_and_grad(jscg.upper_bound(fun)(OLD, key))(OLD)

    value, gradient = samples(at, KEY, 100_000)
    assert abs(z_of(value, exact(OLD))) < BOUND
    assert np.all(np.abs(z_of(gradient, jax.grad(exact)(OLD))) < BOUND)


@pytest.mark.parametrize("name", PROGRAMS)
def test_above_the_objective_everywhere(name):
    fun, exact = PROGRAMS[name]
    others = 3.0 * random.normal(random.key(1), (20, 2))

    def at(key):
        return jax.vmap(jscg.upper_bound(fun)(OLD, key))(others)

    found = samples(at, KEY, 50_000)
    error = found.std(0) / np.sqrt(len(found))
    gap = found.mean(0) - jax.vmap(exact)(others)
    assert np.all(gap > -BOUND * error)
    assert np.median(gap / error) > 10  # and not by equality


def test_the_bound_itself_is_exact():
    """Against the chapter's formula, summed over outcomes: every cost has its own draws only."""
    new = jnp.array([-0.5, 1.2])

    def term(x):
        x = 1.0 * x
        before = jnp.concatenate([jnp.zeros(1), x[:-1]])
        logits = [th[0] + th[1] * before for th in (new, OLD)]
        ratio = jnp.subtract(*(jnp.log(jnp.where(x == 1, sigmoid(q), sigmoid(-q))) for q in logits))
        costs = -1.0 - 3.0 * x
        return chances_of_chain(OLD, x) * jnp.sum(costs * (1 + jnp.cumsum(ratio)))

    exact = total(term, grid(2, 2, 2))
    found = samples(lambda key: jscg.upper_bound(chain)(OLD, key)(new), KEY, 100_000)
    assert abs(z_of(found, exact)) < BOUND
    whole = samples(lambda key: jscg.upper_bound(chain, num_samples=8)(OLD, key)(new), KEY, 20_000)
    assert abs(z_of(whole, exact)) < BOUND and whole.std() < 0.5 * found.std()


def test_expectation_maximisation_never_gets_worse():
    """A categorical policy: the bound is least where probabilities are weighted frequencies."""
    worth = jnp.array([0.5, 1.0, 3.0, 0.0])

    def cost(logits, key):
        return -worth[random.categorical(key, logits)]

    def exact(logits):
        return -jnp.sum(softmax(logits) * worth)

    @jax.jit
    def em_step(logits, key):
        bound = jscg.upper_bound(cost, num_samples=20_000)(logits, key)
        # Of a sum of w_k log p_k, whose slopes at the old p are w - p sum(w).
        weights = -jax.grad(bound)(logits) - softmax(logits) * bound(logits)
        new = jnp.log(jnp.maximum(weights, 1e-6))
        return log_softmax(new), bound(logits), bound(new)

    logits, values = jnp.zeros(4), []
    for key in random.split(KEY, 6):
        values.append(float(exact(logits)))
        logits, before, after = em_step(logits, key)
        assert after <= before + 1e-4
    assert np.all(np.diff(values) < 0) and values[-1] < -2.9


def test_what_is_added_to_a_cost_stays_with_it():
    """x - 1 is never positive, but x is: weighted alone, it would be bounded from below."""
    costs = [
        lambda th, k: random.bernoulli(k, sigmoid(th[0])) - 1.0,
        lambda th, k: lax.scan(
            lambda c, k: (c + random.bernoulli(k, sigmoid(th[0])), None), -2.0, random.split(k, 2)
        )[0],
    ]
    new = jnp.array([2.0, 0.0])
    for n, cost in zip((1, 2), costs, strict=True):
        found = samples(lambda key, c=cost: jscg.upper_bound(c)(OLD, key)(new), KEY, 20_000)
        assert found.mean() > n * (float(sigmoid(new[0])) - 1)


def test_costs_that_see_the_parameters_are_refused():
    def cost(th, key):
        return -(th[0] ** 2) * random.bernoulli(key, sigmoid(th[1]))

    with pytest.raises(jscg.JscgError, match="test_bound.py.*depends on the parameters directly"):
        jscg.upper_bound(cost)(OLD, KEY)


def test_what_no_scored_draw_influences_is_exact():
    """The same noise, at the new parameters: no bound is needed."""

    def cost(th, key):
        return -((th[0] + th[1] * random.normal(key)) ** 2)

    new = jnp.array([0.5, 2.0])
    np.testing.assert_allclose(jscg.upper_bound(cost)(OLD, KEY)(new), cost(new, KEY), rtol=1e-6)
