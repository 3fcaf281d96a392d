"""All outcomes of small programs, listed: what a gradient is on average is then exact.

A program is `fun(theta, draw)`, where `draw(sampler, parameter)` is one draw of the parameter's
shape; `sampling` makes of it what a user writes.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from oracle import with_jacobian

import jscg
from jscg import _rewrite


def sampling(fun):
    """The program as a user writes it, of at most eight draws."""

    def sampled(theta, key):
        keys = iter(random.split(key, 8))

        def draw(sampler, parameter):
            return getattr(random, sampler)(next(keys), parameter)

        return fun(theta, draw)

    return sampled


def joint_law(fun, theta, values):
    """The cost, and the probability of all that is drawn."""
    left, chances = iter(values), []

    def draw(sampler, parameter):
        x = next(left)
        if sampler == "bernoulli":
            chances.append(jnp.where(x == 1, parameter, 1 - parameter))
        else:
            p = jax.nn.softmax(parameter, -1)
            chances.append(
                jnp.take_along_axis(jnp.broadcast_to(p, (*x.shape, 3)), x[..., None], -1)
            )
        return x == 1 if sampler == "bernoulli" else x

    cost = fun(theta, draw)
    return cost, functools.reduce(jnp.multiply, [jnp.prod(p) for p in chances])


def listed(outcomes, shapes):
    """All values of all draws, of so many outcomes and such shapes."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    ranges = zip(outcomes, sizes, strict=True)
    every = itertools.product(*(itertools.product(range(k), repeat=n) for k, n in ranges))
    stacked = zip(zip(*every, strict=True), shapes, strict=True)
    return [jnp.asarray(np.array(list(each)).reshape(-1, *shape)) for each, shape in stacked]


def assert_exact_to_second_order(fun, theta, every, monkeypatch, **options):
    """Compares the mean of gradients and Hessians of the surrogate over all outcomes.

    Args:
      fun: the program.
      theta: its parameters.
      every: what `listed` gives.
      monkeypatch: of pytest.
      options: of `jscg.surrogate`.
    """

    def mean():
        s = jscg.surrogate(sampling(fun), **options)
        derivatives = with_jacobian(lambda theta: jax.grad(s)(theta, random.key(0)))

        def at(*values):
            left = iter(values)

            def replay(*_, family, **more):
                x = next(left)
                return x == 1 if family == "bernoulli" else x.astype(int)

            with monkeypatch.context() as patch:
                patch.setattr(_rewrite, "replay", replay)
                found = derivatives(theta)
            return found, joint_law(fun, theta, values)[1]

        found, chance = jax.jit(jax.vmap(at))(*every)
        assert abs(jnp.sum(chance) - 1) < 1e-6
        return jax.tree.map(lambda each: jnp.tensordot(chance, each, 1), found)

    def expected(theta):
        cost, chance = jax.vmap(lambda *values: joint_law(fun, theta, values))(*every)
        return jnp.sum(cost * chance)

    with jax.enable_x64(True):
        theta = jnp.asarray(theta, jnp.float64)
        first, second = mean()
        truth = jax.grad(expected)(theta), jax.hessian(expected)(theta)
    np.testing.assert_allclose(first, truth[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(second, truth[1], rtol=1e-5, atol=1e-7)
