"""Gamma draws: differentiated through, or scored?

The derivative of a gamma draw in its shape is implicit, and takes work that a score does not.  The
program is a variational bound: rates have a gamma prior, the approximate posterior is gamma, counts
are Poisson with means that are one rate each, or a mixture of all.  It is measured far from the
posterior and near to it, with and without others to compare with (rows of a batch, or rates with
costs of their own), and at four shapes.

Variance is that of the scored gradient over that of the pathwise one, tensor by tensor; work is the
processor time, in the same sense.  Above one, the product says that the pathwise gradient, the
default, is the better choice for that tensor.

Run with `python -m benchmarks.implicit`; docs/choosing_an_estimator.md shows what it prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln

import jscg
from benchmarks import harness

SHAPES = (0.3, 1.0, 3.0, 30.0)
TENSORS = ("shape", "rate")
SCORED = {"gamma": jscg.estimators.ScoreFunction()}


class Regime(NamedTuple):
    """A kind of program.

    Attributes:
      what: in words.
      rows: of the batch, each with rates of its own.
      rates: in a row.
      mixed: whether every count depends on all rates of its row.
      keys: how many gradients a variance is estimated from.
    """

    what: str
    rows: int
    rates: int
    mixed: bool
    keys: int


REGIMES = (
    Regime("one draw", 1, 1, False, 10_000),
    Regime("32 draws, each with a cost of its own", 1, 32, False, 1_000),
    Regime("10 draws in one cost", 1, 10, True, 4_000),
    Regime("100 draws in one cost", 1, 100, True, 1_000),
    Regime("a batch of 32 rows, 10 draws in the cost of a row", 32, 10, True, 500),
)


def bound_of(regime: Regime) -> Callable[..., jax.Array]:
    """The negative bound as a function of parameters, counts, shapes of the prior, and a key."""
    size = regime.rates
    rows = np.random.default_rng(0).dirichlet(np.ones(size), size)
    mix = jnp.asarray(rows if regime.mixed else np.eye(size), jnp.float32)

    def cost(params: Any, counts: jax.Array, prior: jax.Array, key: jax.Array) -> jax.Array:
        shape, rate = jnp.exp(params["shape"]), jnp.exp(params["rate"])
        z = jax.random.gamma(key, shape) / rate
        mean = z @ mix.T if regime.mixed else z
        log_p = counts * jnp.log(mean) - mean + (prior - 1) * jnp.log(z) - z - gammaln(prior)
        log_q = shape * params["rate"] + (shape - 1) * jnp.log(z) - rate * z - gammaln(shape)
        return jnp.mean(jnp.sum(log_q - log_p, -1))

    return cost


def placed(regime: Regime, shape: float, near: bool) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, counts and shapes of the prior.

    Near, they are those of which the posterior has this shape and rate 2, and parameters are a
    twentieth off.  Far, rates have mean one and counts are four.
    """

    def full(value: float) -> jax.Array:
        return jnp.full((regime.rows, regime.rates), value, jnp.float32)

    if near:
        params = {"shape": full(np.log(1.05 * shape)), "rate": full(np.log(2.1))}
        return params, full(shape / 2), full(shape / 2)
    return {"shape": full(np.log(shape)), "rate": full(np.log(shape))}, full(4.0), full(1.0)


def gradients_of(regime: Regime, estimators: Any) -> Callable[..., Any]:
    """Takes the variance of both tensors, from many gradients."""
    gradient = jscg.grad_expectation(bound_of(regime), estimators=estimators)

    @jax.jit
    def variances(place: tuple, key: jax.Array) -> list[jax.Array]:
        keys = jax.random.split(key, regime.keys)
        found = jax.vmap(lambda key: gradient(*place, key))(keys)
        return [jnp.sum(jnp.var(found[name], 0)) for name in TENSORS]

    return variances


def lines(regime: Regime, pairs: int) -> list[tuple[str, float, list[float], float]]:
    """For every place: where, the shape, the ratios of variances, and that of work."""
    pathwise, scored = (gradients_of(regime, choice) for choice in (None, SCORED))
    key, out = jax.random.key(1), []
    for near in (False, True):
        for shape in SHAPES:
            place = placed(regime, shape, near)
            both = zip(scored(place, key), pathwise(place, key), strict=True)
            ratios = [float(a / b) for a, b in both]
            work = harness.time_ratio(
                lambda p=place: scored(p, key),
                lambda p=place: pathwise(p, key),
                pairs,
                time.process_time,
            )
            out.append(("near" if near else "far", shape, ratios, work.median))
    return out


def pieces(shape: float, pairs: int, size: int = 20_000) -> tuple[float, float]:
    """The work of the implicit derivative and of the score, for each of a draw."""
    key, a = jax.random.key(2), jnp.full(size, shape)
    draw = jax.jit(lambda a: jax.random.gamma(key, a))
    z = draw(a)
    derivative = jax.jit(jax.lax.random_gamma_grad)
    score = jax.jit(lambda a, z: jnp.log(z) - digamma(a))

    def relative(run: Callable[..., jax.Array]) -> float:
        both = (lambda: run(a, z)), (lambda: draw(a))
        return harness.time_ratio(*both, pairs, time.process_time).median

    return relative(derivative), relative(score)


def main() -> None:
    """Run as a script."""
    options = harness.parser(__doc__).parse_args()
    for shape in SHAPES:
        derivative, score = pieces(shape, options.pairs)
        shown = f"implicit derivative {derivative:.2f}, score {score:.3f} of the work of a draw"
        print(f"shape {shape:g}: {shown}")
    for regime in REGIMES:
        print(f"\n{regime.what}: scored / pathwise")
        print(f"  {'':6}{'shape':>6}{'variance: shape':>17}{'rate':>9}{'work':>7}{'products':>18}")
        for where, shape, ratios, work in lines(regime, options.pairs):
            products = "".join(f"{r * work:9.3g}" for r in ratios)
            shown = f"{ratios[0]:17.3g}{ratios[1]:9.3g}{work:7.2f}{products}"
            print(f"  {where:6}{shape:6g}{shown}", flush=True)


if __name__ == "__main__":
    main()
