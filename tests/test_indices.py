"""Tables that are looked up at an enumerated draw: slices of them, and the exact gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscg

N = 7
ROWS = jnp.arange(N)
STACK = jax.random.normal(jax.random.key(2), (4, N, 3))
PLACES = jax.random.randint(jax.random.key(3), (N,), 0, 4)

# A table [N, outcomes] is looked up at x [N]; how many gathers are left of the one: for each of
# two outcomes, which are looked at one by one, and for three together.
LOOKUPS = {
    "rows": (lambda t, x: t[jnp.arange(N), x], 0, 0),
    "rows made outside": (lambda t, x: t[ROWS, x], 0, 0),
    "rows of numpy": (lambda t, x: t[np.arange(N), x], 0, 0),
    "columns": (lambda t, x: t.T[x, jnp.arange(N)], 0, 0),
    "backwards": (lambda t, x: t[jnp.arange(N), -1 - x], 0, 0),
    "both ways": (lambda t, x: t[jnp.arange(N), x - 1], 0, 1),
    "first rows": (lambda t, x: jnp.concatenate([t, t])[jnp.arange(N), x], 0, 0),
    "along an axis": (lambda t, x: jnp.take_along_axis(t, x[:, None], 1), 0, 0),
    "vmap": (lambda t, x: jax.vmap(lambda row, i: row[i])(t, x), 0, 0),
    "one row": (lambda t, x: t[0][x], 0, 0),
    "whole rows": (lambda t, x: t[x] * t[1], 0, 0),
    "take": (lambda t, x: jnp.take(t[0], x), 0, 0),
    "an axis between": (lambda t, x: STACK[:, jnp.arange(N), x] * t[:4, :1], 0, 0),
    "an axis last": (lambda t, x: STACK.T[x, jnp.arange(N)] * t[:, :1], 0, 0),
    "diagonal": (lambda t, x: t[x, x], 0, 1),
    "one axis twice": (
        lambda t, x: (t.T[:, :, None] * t[:, 0])[x, jnp.arange(N), jnp.arange(N)],
        1,
        1,
    ),
    "with data": (lambda t, x: STACK[PLACES, 1, x] * t[:, 0], 1, 1),
    "with data and rows": (lambda t, x: STACK[PLACES, jnp.arange(N), x] * t[:, 0], 1, 1),
    "the first row": (lambda t, x: t[jnp.arange(1), x], 0, 0),
    "filled": (
        lambda t, x: t.at[jnp.arange(N), x + 1].get(mode="fill", fill_value=0.5),
        None,
        None,
    ),
    "clipped": (lambda t, x: t.at[jnp.arange(N), x + 1].get(mode="clip"), None, None),
}


@pytest.mark.parametrize("outcomes", [2, 3])
@pytest.mark.parametrize("name", LOOKUPS)
def test_a_table_is_sliced(name, outcomes):
    look, of_each, of_all = LOOKUPS[name]

    def term(table, x):
        return jnp.sin(look(table, x))

    def cost(params, key):
        return jnp.sum(term(params[1], jax.random.categorical(key, params[0])))

    def mean(params):
        total = 0.0
        for outcome in range(outcomes):
            found = term(params[1], jnp.full(N, outcome))
            # Along its one axis of length N, the elements of the draw.
            each = (np.array(found.shape) == N) * (N - 1) + 1
            total += jnp.sum(found * jax.nn.softmax(params[0])[:, outcome].reshape(each))
        return total

    kl, kt = jax.random.split(jax.random.key(0))
    params = jax.random.normal(kl, (N, outcomes)), jax.random.normal(kt, (N, outcomes))
    gradient = jscg.grad_expectation(cost)
    for got, exact in zip(gradient(params, kl), jax.grad(mean)(params), strict=True):
        np.testing.assert_allclose(got, exact, atol=2e-6)
    found = str(jax.make_jaxpr(gradient)(params, kl)).count("gather[")
    if of_all is not None:
        in_the_program = str(jax.make_jaxpr(cost)(params, kl)).count("gather[")
        assert found == in_the_program + (of_all if outcomes > 2 else 2 * of_each)


def test_keys_beside_the_way_are_no_integers():
    """What is looked at is the dtype, which keys have of a kind of their own."""
    inner = jscg.expectation(lambda p, key: 3.0 * jax.random.bernoulli(key, p))

    def squared(p, key):
        first, second = jax.random.split(key)
        return inner(p, first) * inner(p, second)

    keys = jax.random.split(jax.random.key(0), 4)
    assert jax.vmap(jscg.grad_expectation(squared), (None, 0))(0.5, keys).shape == (4,)


def test_joint_outcomes_of_elements_that_are_mixed():
    """One element on two axes of length one, and two elements: a product reaches no single one."""
    logits = jax.random.normal(jax.random.key(1), (1, 2, 4))
    weights = jnp.array([0.3, 1.0, -0.5, 2.0])

    def cost(logits, key):
        return jnp.prod(weights[jax.random.categorical(key, logits)] + 1)

    def mean(logits):
        return jnp.prod(jax.nn.softmax(logits) @ (weights + 1))

    chosen = jscg.estimators.Enumerate()
    for part in (logits, logits[:, :1]):
        found = jscg.grad_expectation(cost, estimators=chosen)(part, jax.random.key(0))
        np.testing.assert_allclose(found, jax.grad(mean)(part), rtol=1e-5, atol=1e-6)
