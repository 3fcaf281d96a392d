"""Toys whose cost is a sum over independent draws, each of which influences one term.

Bernoulli: the quadratic of REBAR (Tucker et al. 2017), sum_i (b_i - 0.499)^2.  Categorical: every
draw picks a number from its own row of a table.  The textbook gives each draw all of the cost, less
the mean of the other samples.  Credit per element is D times better, and nothing needs to be drawn
at all: the expectation of each term is a sum over its outcomes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

import jscg
from benchmarks.workloads import Gradient, Workload, workload

TARGET, CLASSES, SAMPLES = 0.499, 10, 4
SIZES = (100, 10_000, 100_000)
SCORED = {"estimators": jscg.estimators.ScoreFunction(), "num_samples": SAMPLES}


def less_others(costs: jax.Array) -> jax.Array:
    """Costs `[sample, ...]` less the mean of the other samples (Kool et al. 2019)."""
    return (costs - jnp.mean(costs, 0)) * (len(costs) / (len(costs) - 1))


def samples(draw: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """Four draws, with the keys that jscg uses for four samples."""
    return jax.vmap(draw)(jax.random.split(key, SAMPLES))


# Bernoulli ---------------------------------------------------------------------------------------


def quadratic(logits: jax.Array, key: jax.Array) -> jax.Array:
    """The cost at one draw of each bit."""
    return jnp.sum((jax.random.bernoulli(key, jax.nn.sigmoid(logits)) - TARGET) ** 2)


def quadratic_mean(logits: jax.Array) -> jax.Array:
    """The expectation of the cost."""
    p = jax.nn.sigmoid(logits)
    return jnp.sum(p * (1 - TARGET) ** 2 + (1 - p) * TARGET**2)


def exact_by_slope(logits: jax.Array, key: jax.Array) -> jax.Array:
    """p (1 - p) times what a one costs more than a zero: no draw, no reverse mode."""
    p = jax.nn.sigmoid(logits)
    return p * (1 - p) * ((1 - TARGET) ** 2 - TARGET**2)


def exact_by_reverse_mode(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Differentiates the expectation."""
    return jax.grad(quadratic_mean)(logits)


def bits(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Four samples of every bit."""
    p = jax.nn.sigmoid(logits)
    return samples(lambda key: jax.random.bernoulli(key, p), key).astype(logits.dtype)


def bits_by_hand(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Each bit's own cost times its own score, b - p."""
    b = bits(logits, key)
    return jnp.mean(less_others((b - TARGET) ** 2) * (b - jax.nn.sigmoid(logits)), 0)


def bits_by_surrogate(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Reverse mode through costs times log-probs."""
    b = bits(logits, key)
    weights = less_others((b - TARGET) ** 2)

    def surrogate(logits: jax.Array) -> jax.Array:
        log_p = jax.nn.log_sigmoid(jnp.where(b > 0, logits, -logits))
        return jnp.sum(weights * log_p) / SAMPLES

    return jax.grad(surrogate)(logits)


def bits_by_textbook(logits: jax.Array, key: jax.Array) -> jax.Array:
    """All of the cost times each score."""
    b = bits(logits, key)
    costs = less_others(jnp.sum((b - TARGET) ** 2, 1))
    return jnp.mean(costs[:, None] * (b - jax.nn.sigmoid(logits)), 0)


def bernoulli(size: int, scored: bool, keys: int = 200) -> Workload:
    """Enumerated, as is the default, or scored with credit per element."""
    logits = 0.3 * jax.random.normal(jax.random.key(0), (size,))
    enumerated = {"slope": exact_by_slope, "reverse mode": exact_by_reverse_mode}
    return Workload(
        cost=quadratic,
        params=logits,
        hand={"by hand": bits_by_hand, "surrogate": bits_by_surrogate} if scored else enumerated,
        textbook=("leave-one-out over 4 samples", bits_by_textbook),
        same=SCORED if scored else {},
        default=SCORED if scored else {},
        keys=keys,
        exact=lambda: jax.grad(quadratic_mean)(logits),
    )


# Categorical -------------------------------------------------------------------------------------


def pick(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """The sum of what each draw picks from its row of the table."""
    x = jax.random.categorical(key, logits)
    return jnp.sum(table[jnp.arange(len(table)), x])


def pick_mean(logits: jax.Array, table: jax.Array) -> jax.Array:
    """The expectation of the sum."""
    return jnp.sum(jax.nn.softmax(logits) * table)


def exact_by_softmax(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """p times what an outcome costs more than the mean: no draw, no reverse mode."""
    p = jax.nn.softmax(logits)
    return p * (table - jnp.sum(p * table, 1, keepdims=True))


def exact_by_softmax_rule(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """Differentiates the expectation."""
    return jax.grad(pick_mean)(logits, table)


def picks(logits: jax.Array, key: jax.Array) -> jax.Array:
    """Four samples of every class."""
    return samples(lambda key: jax.random.categorical(key, logits), key)


def values(table: jax.Array, x: jax.Array) -> jax.Array:
    """What four samples pick, `[sample, draw]`."""
    return table[jnp.arange(len(table)), x]


def scores_times(weights: jax.Array, x: jax.Array, logits: jax.Array) -> jax.Array:
    """The mean over samples of weight times score, which is one at what was picked, less p."""
    rows = jnp.broadcast_to(jnp.arange(len(logits)), x.shape)
    picked = jnp.zeros_like(logits).at[rows, x].add(weights)
    return (picked - jnp.sum(weights, 0)[:, None] * jax.nn.softmax(logits)) / SAMPLES


def picks_by_scatter(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """Each draw's own cost times its own score; weights are added where they belong."""
    x = picks(logits, key)
    return scores_times(less_others(values(table, x)), x, logits)


def picks_by_one_hot(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """The same with the scores written out, for all samples at once."""
    x = picks(logits, key)
    weights = less_others(values(table, x))[..., None]
    return jnp.mean(weights * (jax.nn.one_hot(x, CLASSES) - jax.nn.softmax(logits)), 0)


def picks_by_surrogate(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """Reverse mode through costs times log-probs."""
    x = picks(logits, key)
    weights = less_others(values(table, x))

    def surrogate(logits: jax.Array) -> jax.Array:
        chosen = logits[jnp.arange(len(logits)), x]
        return jnp.sum(weights * (chosen - jax.nn.logsumexp(logits, 1))) / SAMPLES

    return jax.grad(surrogate)(logits)


def picks_by_textbook(logits: jax.Array, key: jax.Array, *, table: jax.Array) -> jax.Array:
    """All of the cost times each score."""
    x = picks(logits, key)
    costs = less_others(jnp.sum(values(table, x), 1, keepdims=True))
    return scores_times(jnp.broadcast_to(costs, x.shape), x, logits)


ENUMERATED = {"softmax": exact_by_softmax, "reverse mode": exact_by_softmax_rule}
BY_SCORE = {
    "scatter": picks_by_scatter,
    "one-hot": picks_by_one_hot,
    "surrogate": picks_by_surrogate,
}


def categorical(size: int, scored: bool, keys: int = 200) -> Workload:
    """Enumerated, as is the default, or scored with credit per element."""
    table = jax.random.normal(jax.random.key(1), (size, CLASSES))
    logits = jax.random.normal(jax.random.key(0), (size, CLASSES))

    def given(fun: Callable[..., jax.Array]) -> Gradient:
        return functools.partial(fun, table=table)

    return Workload(
        cost=given(pick),
        params=logits,
        hand={name: given(fun) for name, fun in (BY_SCORE if scored else ENUMERATED).items()},
        textbook=("leave-one-out over 4 samples", given(picks_by_textbook)),
        same=SCORED if scored else {},
        default=SCORED if scored else {},
        keys=keys,
        exact=lambda: jax.grad(pick_mean)(logits, table),
    )


for family in (bernoulli, categorical):
    for scored in (False, True):
        tiny = functools.partial(family, 5, scored)
        for size in SIZES:
            name = f"{family.__name__}, D = {size:,}" + ", scored" * scored
            workload(name, tiny)(functools.partial(family, size, scored, 200 if size < 1e5 else 40))
