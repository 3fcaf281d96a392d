"""A discrete chain with one parameter: the random walk of stochastic triples (Arya et al. 2022).

X goes up by one with chance exp(-X / p), else down, and the cost is X_T^2.  There is one cost, at
the end, that all steps influence: credit can not be finer, but a run in which one step went the
other way, with the same keys, differs little from the first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jscg
from benchmarks.workloads import Gradient, Workload, workload

SAMPLES = 4


def cost(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """X_T^2 of one walk."""

    def step(x: jax.Array, key: jax.Array) -> Any:
        up = jax.random.bernoulli(key, jnp.exp(-x / p))
        return x + jnp.where(up, 1.0, -1.0), None

    return jax.lax.scan(step, 0.0, jax.random.split(key, steps))[0] ** 2


def mean(p: jax.Array, steps: int) -> jax.Array:
    """The expectation, by the chances of all places."""
    x = jnp.arange(-steps, steps + 1.0)
    up = jnp.minimum(jnp.exp(-x / p), 1.0)

    def step(chance: jax.Array, _: None) -> Any:
        return jnp.roll(chance * up, 1) + jnp.roll(chance * (1 - up), -1), None

    start = jnp.zeros(len(x)).at[steps].set(1.0)
    return jnp.sum(jax.lax.scan(step, start, length=steps)[0] * x**2)


def log_prob(p: jax.Array, x: jax.Array, up: jax.Array) -> jax.Array:
    """Of a step from x; at zero it always goes up, and what is down there must not be NaN."""
    return jnp.where(up, -x / p, jnp.log(-jnp.expm1(-jnp.maximum(x, 1.0) / p)))


def walk(p: jax.Array, key: jax.Array, steps: int) -> tuple[jax.Array, Any]:
    """The end, and for each step where it began and whether it went up."""

    def step(x: jax.Array, key: jax.Array) -> Any:
        up = jax.random.bernoulli(key, jnp.exp(-x / p))
        return x + jnp.where(up, 1.0, -1.0), (x, up)

    return jax.lax.scan(step, 0.0, jax.random.split(key, steps))


def by_batch(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """Walks in the scan; then the scores of all steps in one batch."""
    end, path = walk(p, key, steps)
    return end**2 * jax.grad(lambda p: jnp.sum(log_prob(p, *path)))(p)


def by_closed_form(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """The same without reverse mode: x / p^2, times 1 or minus the odds of going up."""
    end, (x, up) = walk(p, key, steps)
    odds = 1 / jnp.expm1(jnp.maximum(x, 1.0) / p)
    return end**2 * jnp.sum(x * jnp.where(up, 1.0, -odds)) / p**2


def by_forward_sum(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """Adds up the score in the carry: nothing is kept, and there is no second pass."""

    def step(carry: Any, key: jax.Array) -> Any:
        x, score = carry
        chance = jnp.exp(-x / p)
        up = jax.random.bernoulli(key, chance)
        odds = chance / jnp.maximum(1 - chance, 1e-30)
        score = score + x * jnp.where(up, 1.0, -odds)
        return (x + jnp.where(up, 1.0, -1.0), score), None

    (x, score), _ = jax.lax.scan(step, (0.0, 0.0), jax.random.split(key, steps))
    return x**2 * score / p**2


def through_scan(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """The loop is differentiated, log-probs in its carry."""

    def surrogate(p: jax.Array) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> Any:
            x, total = carry
            up = jax.random.bernoulli(key, jnp.exp(-x / jax.lax.stop_gradient(p)))
            return (x + jnp.where(up, 1.0, -1.0), total + log_prob(p, x, up)), None

        (x, total), _ = jax.lax.scan(step, (0.0, 0.0), jax.random.split(key, steps))
        return x**2 * total

    return jax.grad(surrogate)(p)


def by_textbook(p: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """Four walks, each less the mean of the others (Kool et al. 2019)."""

    def one(key: jax.Array) -> Any:
        end, path = walk(p, key, steps)
        return end**2, jax.grad(lambda p: jnp.sum(log_prob(p, *path)))(p)

    costs, scores = jax.vmap(one)(jax.random.split(key, SAMPLES))
    return jnp.sum((costs - jnp.mean(costs)) * scores) / (SAMPLES - 1)


HAND: dict[str, Callable[..., jax.Array]] = {
    "batch": by_batch,
    "closed form": by_closed_form,
    "forward sum": by_forward_sum,
    "through the scan": through_scan,
}


def make(steps: int, keys: int = 2_000) -> Workload:
    """A walk of so many steps; `same` is one walk without a baseline."""
    p = jnp.asarray(2.0 * steps)

    def given(fun: Callable[..., jax.Array]) -> Gradient:
        return functools.partial(fun, steps=steps)

    return Workload(
        cost=given(cost),
        params=p,
        hand={name: given(fun) for name, fun in HAND.items()},
        textbook=("leave-one-out over 4 samples", given(by_textbook)),
        same={"estimators": jscg.estimators.ScoreFunction(baseline=None)},
        keys=keys,
        exact=(lambda: jax.grad(mean)(p, steps)) if steps <= 1_000 else None,  # steps^2 numbers
        finer=False,
    )


TINY = functools.partial(make, 6)
for steps, keys in ((10, 2_000), (100, 2_000), (1_000, 2_000), (20_000, 400)):
    workload(f"walk, T = {steps:,}", TINY)(functools.partial(make, steps, keys))
