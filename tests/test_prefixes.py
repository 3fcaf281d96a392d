"""Loops that are unrolled in Python: costs of which each is influenced by all draws before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import assert_small, samples, z_of

import jscg
from jscg import estimators
from jscg._prefixes import LONG, Prefixes

KEY = random.key(5)
TH = jnp.array([0.4, -0.3])
SCORE = estimators.ScoreFunction()


def chain(steps):
    """A state that draws push about, with a cost at every step."""

    def fun(th, key):
        x, total = th[1], 0.0
        for k in random.split(key, steps):
            a = random.bernoulli(k, sigmoid(th[0] * x))
            x = 0.8 * x + jnp.where(a, 1.0, -1.0)
            total = total + jnp.cos(x)
        return total

    return fun


def as_scan(steps):
    """The same as a loop of JAX."""

    def fun(th, key):
        def step(x, k):
            a = random.bernoulli(k, sigmoid(th[0] * x))
            x = 0.8 * x + jnp.where(a, 1.0, -1.0)
            return x, jnp.cos(x)

        return jnp.sum(lax.scan(step, th[1], random.split(key, steps))[1])

    return fun


@pytest.mark.parametrize("steps", [LONG - 1, LONG, 40])
def test_a_loop_in_python_is_one_of_jax(steps):
    def of(fun):
        call = jscg.grad_expectation(fun(steps), num_samples=3, estimators=SCORE)
        return call(TH, KEY)

    np.testing.assert_allclose(of(chain), of(as_scan), rtol=1e-4)


def test_the_exact_gradient_and_the_second():
    steps = LONG

    def exact(th):
        bits = (jnp.arange(2**steps)[:, None] >> jnp.arange(steps)) & 1
        x, chance, total = jnp.full(2**steps, th[1]), 1.0, 0.0
        for t in range(steps):
            p = sigmoid(th[0] * x)
            chance = chance * jnp.where(bits[:, t] == 1, p, 1 - p)
            x = 0.8 * x + jnp.where(bits[:, t] == 1, 1.0, -1.0)
            total = total + jnp.cos(x)
        return jnp.sum(chance * total)

    surrogate = jscg.surrogate(chain(steps), num_samples=4, estimators=SCORE)
    found = samples(lambda key: jax.grad(surrogate)(TH, key), KEY, 20_000)
    assert_small(z_of(found, jax.grad(exact)(TH)))
    found = samples(lambda key: jax.hessian(surrogate)(TH, key), KEY, 20_000)
    assert_small(z_of(found, jax.hessian(exact)(TH)))


def test_what_is_compiled_is_linear_in_the_steps():
    def lines(steps):
        call = jscg.grad_expectation(chain(steps), num_samples=4, estimators=SCORE)
        return jax.jit(call).lower(TH, KEY).compile().as_text().count("\n")

    assert lines(3 * LONG) < 3.3 * lines(LONG)


def brute(arrays, terms):
    return sum(array for term in terms for array in arrays[term])


def sums_of(arrays):
    return Prefixes(lambda term: list(arrays[term]))


@pytest.mark.parametrize("foreseen", [True, False])
def test_sums_of_all_kinds(foreseen):
    """Prefixes in any order, that part and that skip terms, of terms of several arrays."""
    rng = np.random.default_rng(0)
    arrays = {t: [jnp.asarray(rng.normal(size=2)) for _ in range(1 + t % 2)] for t in range(60)}
    arrays |= {t: [jnp.asarray(rng.normal(size=(3, 2)))] for t in range(60, 100)}
    wanted = [list(range(n)) for n in (1, 5, *range(20, 90), 100)]
    wanted += [[*range(30), *range(50, n)] for n in range(52, 80)]
    wanted += [[7], [3, 2], [*range(10, 40)]]
    order = rng.permutation(len(wanted))
    sums = sums_of(arrays)
    for i in order if foreseen else ():
        sums.foresee(wanted[i])
    for i in rng.permutation(len(wanted)):
        found = sums.sum(wanted[i])
        np.testing.assert_allclose(found, brute(arrays, wanted[i]), rtol=1e-4, atol=1e-4)
        assert sums.sum(wanted[i]) is found


def test_an_infinite_term_stays_out_of_the_sums_before_it():
    arrays = {t: [jnp.full(2, -np.inf if t == 30 else 1.0)] for t in range(60)}
    sums = sums_of(arrays)
    wanted = [list(range(1, n)) for n in range(2, 60)]
    for terms in wanted:
        sums.foresee(terms)
    for terms in wanted:
        infinite = 30 in terms
        assert np.all(sums.sum(terms) == (-np.inf if infinite else len(terms)))
