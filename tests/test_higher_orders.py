"""Orders 1 to 3 of the value of a Markov decision process with 5 states and 4 actions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import softmax
from oracle import QUICK, assert_small, samples, z_of

import jscg

pytestmark = pytest.mark.slow

KEY = random.key(20180214)
STATES, ACTIONS, STEPS = 5, 4, 3
RNG = np.random.default_rng(5)
CHANCES = RNG.dirichlet(np.full(STATES, 0.5), (STATES, ACTIONS)).astype(np.float32)
REWARDS = RNG.normal(size=(STATES, ACTIONS)).astype(np.float32)
LOGITS = 0.5 * RNG.normal(size=(STATES, ACTIONS)).astype(np.float32)
U, V, W = random.normal(random.key(2), (3, STATES, ACTIONS))


def episode(logits, key):
    """The return of a softmax policy from state 0."""

    def step(state, key):
        choose, move = random.split(key)
        action = random.categorical(choose, logits[state])
        chances = jnp.asarray(CHANCES)[state, action]
        return random.categorical(move, jnp.log(chances)), jnp.asarray(REWARDS)[state, action]

    return jnp.sum(lax.scan(step, 0, random.split(key, STEPS))[1])


def value(logits):
    """The expected return, by dynamic programming."""
    worth = jnp.zeros(STATES)
    for _ in range(STEPS):
        worth = jnp.sum(softmax(logits) * (REWARDS + CHANCES @ worth), -1)
    return worth[0]


def along(fun, *directions):
    """The derivative of `fun` along one direction after the other, in forward mode."""
    for d in directions:
        fun = lambda x, fun=fun, d=d: jax.jvp(fun, (x,), (d,))[1]  # noqa: E731
    return fun


def derivatives(fun):
    """By order and mode, whole or along fixed directions."""
    return {
        "gradient": jax.grad(fun)(LOGITS),
        "forward over reverse": along(jax.grad(fun), U)(LOGITS),
        "reverse over forward": jax.grad(along(fun, U))(LOGITS),
        "third, forward": along(fun, U, V, W)(LOGITS),
        "third, reverse over forward over reverse": jax.grad(
            lambda x: jnp.vdot(along(jax.grad(fun), U)(x), V)
        )(LOGITS),
    }


@functools.cache
def exact_derivatives():
    return jax.jit(lambda: derivatives(value), compiler_options=QUICK)()


SCORE = jscg.estimators.ScoreFunction(baseline=None)
WAYS = {
    "score": (jscg.surrogate(episode, estimators=SCORE), 40_000),
    "default": (jscg.surrogate(episode), 40_000),
    "leave-one-out": (jscg.surrogate(episode, num_samples=4), 10_000),
}


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_of_the_value(way):
    surrogate, n = WAYS[way]
    found = samples(lambda k: derivatives(lambda x: surrogate(x, k)), KEY, n)
    for name, exact in exact_derivatives().items():
        assert_small(z_of(found[name], exact), f"{name}, {way}")
        # A term that was dropped could not hide behind the noise.
        error = found[name].std(0) / n**0.5
        assert np.max(np.abs(exact)) > 5 * np.max(error), name


@pytest.mark.parametrize("draw", [random.bernoulli, random.geometric])
def test_logits_of_zero_in_a_scan_are_no_kink(draw):
    """Every derivative is the same whichever mode it is taken in, sample by sample."""

    def cost(z, key):
        def step(total, k):
            return total + draw(k, jax.nn.sigmoid(z)), None

        return jnp.exp(0.3 * lax.scan(step, 0.0, random.split(key, 2))[0])

    s = jscg.surrogate(cost, estimators=jscg.estimators.ScoreFunction(baseline=None))
    modes = [jax.grad(jax.grad(s)), jax.jacfwd(jax.grad(s)), jax.grad(jax.jacfwd(s))]
    modes.append(jax.jacfwd(jax.jacfwd(s)))
    both = jax.jit(jax.vmap(lambda at, key: [mode(at, key) for mode in modes], (None, 0)))
    for at in (0.0, 0.3):
        *found, unrolled = both(at, random.split(random.key(2), 5))
        for each in found:
            np.testing.assert_allclose(each, unrolled, rtol=1e-4, atol=1e-5)
