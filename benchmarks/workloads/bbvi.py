"""Black-box variational inference: gamma rates above Poisson counts, both of them drawn.

The model is `exponential_family` of `benchmarks.estimators`.  By hand, gamma draws are differentiated
through and counts scored, each with the costs that it influences, and the other samples are the
baseline.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

import jscg
from benchmarks.estimators import Model, exponential_family, exponential_model
from benchmarks.workloads import Workload, workload

UNITS, SAMPLES = 100, 8

Params = dict[str, jax.Array]


class Drawn(NamedTuple):
    """Samples, `[sample, unit]`.

    Attributes:
      unit: gamma draws of rate one.
      z: gamma draws.
      n: counts.
    """

    unit: jax.Array
    z: jax.Array
    n: jax.Array


def draw(params: Params, key: jax.Array, samples: int) -> Drawn:
    """Samples, with the keys that jscg uses."""

    def one(key: jax.Array) -> Drawn:
        k1, k2 = jax.random.split(key)
        unit = jax.random.gamma(k1, jnp.exp(params["shape"]))
        n = jax.random.poisson(k2, jnp.exp(params["count"]))
        return Drawn(unit, unit / jnp.exp(params["rate"]), n)

    return jax.vmap(one)(jax.random.split(key, samples))


def less_others(costs: jax.Array) -> jax.Array:
    """Less the mean of the other samples."""
    n = len(costs)
    return (costs - jnp.mean(costs, 0)) * n / (n - 1)


def of_counts(params: Params, model: Model, x: Drawn, mean: jax.Array) -> jax.Array:
    """The cost of every count: its own, and the likelihood, which all counts share."""
    own = x.n * (params["count"] - jnp.log(mean))
    likelihood = 0.5 * jnp.sum((model.seen - x.n @ model.look.T) ** 2, -1)
    return own + likelihood[:, None]


def of_rates(params: Params, x: Drawn) -> jax.Array:
    """What every gamma draw adds to log q - log p, but for the prior of the counts."""
    shape, log_rate = jnp.exp(params["shape"]), params["rate"]
    log_q = shape * log_rate + (shape - 1) * jnp.log(x.z) - jnp.exp(log_rate) * x.z
    return log_q - gammaln(shape) + x.z


def by_surrogate(params: Params, key: jax.Array, model: Model, samples: int) -> Any:
    """Differentiates one surrogate: through gamma draws, log-probs of counts weighted."""

    def surrogate(params: Params) -> jax.Array:
        x = draw(params, key, samples)
        mean = x.z @ model.mix.T + 0.1
        weights = jax.lax.stop_gradient(less_others(of_counts(params, model, x, mean)))
        log_prob = x.n * params["count"] - jnp.exp(params["count"])
        through = of_rates(params, x) + mean - x.n * jnp.log(mean)
        return jnp.sum(through + (weights + 1) * log_prob) / samples

    return jax.grad(surrogate)(params)


def by_chain_rule(params: Params, key: jax.Array, model: Model, samples: int) -> Any:
    """Writes all derivatives down; the implicit one of the gamma draws is JAX's."""
    x = draw(params, key, samples)
    shape, rate = jnp.exp(params["shape"]), jnp.exp(params["rate"])
    mean = x.z @ model.mix.T + 0.1
    slope = 1 - rate + (shape - 1) / x.z + (1 - x.n / mean) @ model.mix
    moved = jax.lax.random_gamma_grad(jnp.broadcast_to(shape, x.unit.shape), x.unit) / rate
    at_shape = slope * moved + params["rate"] + jnp.log(x.z) - digamma(shape)
    weights = less_others(of_counts(params, model, x, mean)) + 1
    return {
        "shape": shape * jnp.mean(at_shape, 0),
        "rate": jnp.mean(shape - rate * x.z - slope * x.z, 0),
        "count": jnp.mean(weights * (x.n - jnp.exp(params["count"])), 0),
    }


def by_textbook(params: Params, key: jax.Array, model: Model, samples: int) -> Any:
    """Scores all draws (Ranganath, Gerrish and Blei 2014), each with the terms that it is in.

    The baseline is the mean of the other samples: their own, a coefficient that is estimated from
    the same samples, is biased.
    """
    x = draw(params, key, samples)
    shape, rate = jnp.exp(params["shape"]), jnp.exp(params["rate"])
    mean = x.z @ model.mix.T + 0.1
    prior = jnp.sum(mean - x.n * jnp.log(mean), -1)
    at_z = less_others(of_rates(params, x) + prior[:, None])
    at_n = less_others(of_counts(params, model, x, mean))
    return {
        "shape": shape * jnp.mean(at_z * (params["rate"] + jnp.log(x.z) - digamma(shape)), 0),
        "rate": jnp.mean(at_z * (shape - rate * x.z), 0),
        "count": jnp.mean(at_n * (x.n - jnp.exp(params["count"])), 0),
    }


HAND: dict[str, Callable[..., Any]] = {
    "one surrogate": by_surrogate,
    "chain rule": by_chain_rule,
}


def make(units: int, samples: int = SAMPLES) -> Workload:
    """The workload with so many gamma draws, and as many counts."""
    problem, model = exponential_family(units), exponential_model(units)
    given = {"model": model, "samples": samples}
    return Workload(
        cost=problem.cost,
        params=problem.params,
        hand={name: functools.partial(fun, **given) for name, fun in HAND.items()},
        textbook=("both scored, leave-one-out", functools.partial(by_textbook, **given)),
        same={"estimators": jscg.estimators.ScoreFunction(), "num_samples": samples},
        default={"num_samples": samples},
    )


workload("BBVI, gamma and Poisson")(functools.partial(make, UNITS))
