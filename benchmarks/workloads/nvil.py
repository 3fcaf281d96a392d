"""NVIL on digits (`benchmarks/nvil.py`), at the start and as training goes on.

The gradient of the generative network is no matter of scores: variances are those of the inference
network, against the textbook per-layer estimator at as many samples, leave-one-out over them, or
over examples if it is one.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

import jscg
from benchmarks import harness
from benchmarks.nvil import (
    VARIANTS,
    Estimator,
    Params,
    digits,
    forward,
    hand,
    init,
    log_bernoulli,
    loss,
    train,
    variants,
)
from benchmarks.workloads import Gradient, Make, Workload, workload

Kind = Literal["auto", "score"]
FEW = ((1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def make(
    kind: Kind,
    num_samples: int,
    params: Params,
    x: jax.Array,
    *,
    compared: jscg.estimators.Estimator | None = None,
    **more: Any,
) -> Workload:
    """The estimator `kind` by hand, and the one whose variance is compared."""

    def given(gradient: Any) -> Gradient:
        return lambda params, key: gradient(params, x, key)

    same = {
        "auto": jscg.estimators.Auto(
            compares_draws=False
        ),  # as by default, if the network is large
        "score": jscg.estimators.ScoreFunction(baseline=None),
    }[kind]
    return Workload(
        cost=lambda params, key: loss(params, x, key),
        params=params,
        hand={v: given(hand(v, kind, num_samples)) for v in variants(kind)},
        textbook=("per layer, leave-one-out", given(hand("by hand", "textbook", num_samples))),
        same={"num_samples": num_samples, "estimators": same},
        default={"num_samples": num_samples, "estimators": compared},
        keys=240,
        compared=lambda gradient: gradient["inference"],
        **more,
    )


@functools.cache
def trained(steps: int) -> Params:
    """Parameters after so many steps."""
    return train(init(jax.random.key(0)), digits(1500), steps)


def register(name: str, kind: Kind, num_samples: int, steps: int = 0, **more: Any) -> None:
    """One row, with a small network for tests."""
    workload(f"NVIL, {name}", tiny(kind))(
        lambda: make(kind, num_samples, trained(steps), digits(), **more)
    )


# What is small enough to be enumerated -----------------------------------------------------------


def small(batch: int, units: tuple[int, int, int]) -> tuple[Params, jax.Array]:
    """A network of a few units, and a few examples."""
    params = jax.tree.map(lambda leaf: leaf + 0.3, init(jax.random.key(0), visible=3, units=units))
    return params, jnp.asarray((FEW * batch)[:batch])


def outcomes(num_samples: int, batch: int, units: int) -> jax.Array:
    """All that three layers of equal size can be: `[outcome, layer, sample, example, unit]`."""
    size = 3 * num_samples * batch * units
    bits = np.array(list(itertools.product([0.0, 1.0], repeat=size)), np.float32)
    return jnp.asarray(bits.reshape(-1, 3, num_samples, batch, units))


def joint(params: Params, x: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss at given latents, and their log-probability."""
    logits, _, belows, aboves, decoded = forward(params, x, lambda i, p: h[i])
    log_q = [log_bernoulli(a, b) for a, b in zip(logits, aboves, strict=True)]
    terms = [jnp.sum(s, -1) for s in log_q]
    for m, b in zip(decoded, belows, strict=True):
        terms.append(-jnp.sum(log_bernoulli(m, b), -1))
    terms.append(-jnp.sum(log_bernoulli(params["prior"], aboves[2]), -1))
    return jnp.mean(sum(terms)), sum(jnp.sum(s) for s in log_q)


def enumerated(params: Params, x: jax.Array, latents: jax.Array) -> Params:
    """The gradient of the expected loss."""

    def expected(params: Params) -> jax.Array:
        cost, log_prob = jax.vmap(functools.partial(joint, params, x))(latents)
        return jnp.sum(cost * jnp.exp(log_prob))

    return jax.grad(expected)(params)


@functools.cache
def tiny(kind: Kind) -> Make:
    """Just examples enough for a fitted baseline; each of them is enumerated for itself."""
    params, x = small(64, (2, 2, 2))

    def exact() -> Params:
        latents = outcomes(1, 1, 2)
        each = jax.jit(jax.vmap(lambda row: enumerated(params, row[None], latents)))(x)
        return jax.tree.map(lambda g: jnp.mean(g, 0), each)

    return functools.partial(make, kind, 1, params, x, exact=exact)


def difference_from_exact(num_samples: int, batch: int, units: tuple[int, int, int]) -> float:
    """How far each gradient's mean over all latents of a small network is from the exact one."""
    params, x = small(batch, units)
    latents = outcomes(num_samples, batch, units[0])
    exact = enumerated(params, x, latents)
    probs = jnp.exp(jax.vmap(functools.partial(joint, params, x))(latents)[1])
    worst = 0.0
    every = [(v, k) for k in get_args(Estimator) for v in variants(k)]
    for variant, kind in every:
        if kind == "auto" and batch == 1:
            continue

        def at(h: jax.Array, variant: str = variant, kind: Any = kind) -> Params:
            return VARIANTS[variant](kind, params, x, lambda i, p: h[i])

        values = jax.jit(jax.vmap(at))(latents)
        mean = jax.tree.map(lambda v: jnp.tensordot(probs, v, 1), values)
        difference = harness.max_difference(mean, exact)
        worst = max(worst, difference)
        size_of = f"{num_samples} samples of {batch}"
        print(f"mean of {variant:9} {kind:8} {size_of}: off by {difference:.1e}")
    return worst


def check() -> None:
    """Every hand-written gradient: its exact mean over all outcomes is the exact gradient."""
    one, two = (1, 1, 1), (2, 2, 2)
    cases = [(1, 2, two), (2, 1, two), (1, 4, one), (2, 2, one)]
    with jax.enable_x64(True):  # a regression over so few examples is ill-conditioned
        worst = max(difference_from_exact(*case) for case in cases)
    if worst > 1e-4:
        raise SystemExit(f"a hand-written gradient is biased: off by {worst:.1e}")


register("1 sample", "auto", 1, check=check)
register("1 sample, scored", "score", 1)
for steps in (0, 30, 300):
    name = f"4 samples, {steps} steps"
    register(name, "auto", 4, steps)
    off = jscg.estimators.Auto(mean_field=False)
    register(f"{name}, no means", "auto", 4, steps, compared=off, finer=False)
