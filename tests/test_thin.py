"""At the means, what is equal for all samples is computed once, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.nn import log_sigmoid, sigmoid
from oracle import gradient

import jscg
from jscg import _at_means
from jscg.estimators import Auto

SCORED = Auto(compares_draws=False, max_outcomes=1)
ROWS, SAMPLES = 32, 4
THETA = jnp.array([0.3, -0.4, 0.2, 0.5, -0.7])
W = np.sin(np.arange(9.0)).reshape(3, 3)
TABLE = np.array([[0.1, 0.7], [0.4, -1.0], [0.2, 0.3]])


def bits(theta, key):
    rows = jnp.linspace(-1, 1, ROWS)[:, None]
    return random.bernoulli(key, sigmoid(theta[0] + rows * theta[:3]))


def first_layer(theta, key):
    return bits(theta, key).astype(float)


def products(theta, key, scale=1.0):
    """Two layers, and products of matrices from both sides."""
    k1, k2 = random.split(key)
    x1 = first_layer(theta, k1)
    x2 = random.bernoulli(k2, sigmoid(x1 @ W + theta[3])).astype(float)
    both = W @ x2.T
    return jnp.mean(jnp.exp(scale * jnp.sum(x1 @ W, -1)) * jnp.sum(both, 0) ** 2)


def with_rules_of_their_own(theta, key):
    """`log_sigmoid` is a function with a derivative rule."""
    x = first_layer(theta, key)
    return jnp.mean(jnp.sum(log_sigmoid(x @ W), -1) * jnp.exp(x[:, 0] * theta[4]))


def moved_about(theta, key):
    """Every way of laying out an array that keeps samples apart."""
    x = first_layer(theta, key)
    wide = jnp.concatenate([x, x**2, jnp.ones_like(x)], -1)
    wide = wide.reshape(ROWS, 3, 3).transpose(2, 0, 1) * jnp.arange(3.0)[:, None, None]
    wide = jnp.cumsum(wide, 2)
    most = jnp.max(wide, 2) + jnp.prod(1.5 - wide, 2)
    flat = (most.T[..., None] * jnp.ones((1, 2))).reshape(ROWS, 6)
    rows = jnp.squeeze(jnp.sum(flat.reshape(ROWS, 3, 2), 1)[:, None], 1)
    return jnp.mean(jnp.exp(jnp.where(rows[:, 0] > 0, rows[:, 1], 0.1) * theta[3]))


def without_a_rule(theta, key):
    """A sort is done for all samples."""
    y = jnp.sort(first_layer(theta, key) * jnp.array([0.3, -1.0, 0.5]), -1)
    return jnp.mean(jnp.exp(y[:, -1] * y[:, 0]) * theta[4])


def tables(theta, key):
    """Classes become rows of a table."""
    rows = jnp.linspace(-1, 1, ROWS)[:, None]
    z = jnp.asarray(TABLE)[random.categorical(key, rows * theta[:3])]
    return jnp.mean(jnp.exp(z[:, 0] * theta[4]) * z[:, 1])


def counted(theta, key):
    """Integers are added before they become floats."""
    n = jnp.sum(bits(theta, key), -1)
    return jnp.mean(jnp.exp(n * theta[4]))


PROGRAMS = [products, with_rules_of_their_own, moved_about]


def noisy(theta, key):
    """A sibling's noise is another one in each sample."""
    k1, k2 = random.split(key)
    noise = random.normal(k2, (ROWS,))
    return jnp.mean(jnp.exp(first_layer(theta, k1) @ W[0] * theta[4] + noise))


def scaled(theta, key):
    """Samples that a user has made, with one number for each of them."""
    scales = jnp.linspace(0.2, 1.0, SAMPLES)
    return jnp.mean(jax.vmap(products, (None, 0, 0))(theta, random.split(key, SAMPLES), scales))


def other_parameters(theta, key):
    """Samples of different laws."""
    shifts = jnp.linspace(-1, 1, SAMPLES)
    keys = random.split(key, SAMPLES)
    x = jax.vmap(lambda s, k: first_layer(theta + s, k))(shifts, keys)
    return jnp.mean(jnp.exp(x @ W[0]))


def both_ways(fun, monkeypatch, **options):
    """Gradients, and the programs that make them, without thin values and with them."""
    found = []
    for patch in (True, False):
        with monkeypatch.context() as m:
            if patch:
                m.setattr(_at_means, "samples_of", lambda node: 1)
            again = lambda theta, key: fun(theta, key)  # noqa: E731  or what is traced is kept
            g = gradient(again, estimators=SCORED, **options)
            text = str(jax.make_jaxpr(g)(THETA, random.key(0)))
            found.append((g(THETA, random.key(0)), text))
    return found


@pytest.mark.parametrize("fun", PROGRAMS, ids=lambda f: f.__name__)
def test_equal_to_what_is_computed_for_every_sample(fun, monkeypatch):
    (wide, long), (thin, short) = both_ways(fun, monkeypatch, num_samples=SAMPLES)
    np.testing.assert_allclose(thin, wide, rtol=2e-4, atol=1e-6)
    assert short.count(f"f32[1,{ROWS}") > 10 + long.count(f"f32[1,{ROWS}")


DIFFERENT = [
    (scaled, 1),
    (other_parameters, 1),
    *((f, 4) for f in (noisy, without_a_rule, tables, counted)),
]


@pytest.mark.parametrize("fun, samples", DIFFERENT, ids=lambda x: getattr(x, "__name__", ""))
def test_samples_that_differ_stay_apart(fun, samples, monkeypatch):
    (wide, _), (thin, _) = both_ways(fun, monkeypatch, num_samples=samples)
    np.testing.assert_allclose(thin, wide, rtol=2e-4, atol=1e-6)


def test_takes_less_work():
    """Of a single layer all of the run is that of one sample."""

    def costly(theta, key):
        x = first_layer(theta, key) @ jnp.ones((3, 64))
        for _ in range(3):
            x = jnp.sin(x @ jnp.ones((64, 64)))
        return jnp.mean(jnp.exp(jnp.sum(x, -1)))

    def flops(estimators):
        g = jscg.grad_expectation(costly, num_samples=64, estimators=estimators)
        cost = jax.jit(g).lower(THETA, random.key(0)).compile().cost_analysis()
        return cost["flops"]

    off = Auto(compares_draws=False, mean_field=False)
    assert flops(SCORED) < 1.2 * flops(off)
