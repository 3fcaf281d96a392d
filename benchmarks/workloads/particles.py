"""The importance-weighted bound of 8 particles, of a belief network of two layers of 200 units.

By hand it is VIMCO (Mnih and Rezende 2016), for which an expert writes out the bound without each
particle, and a surrogate.  jscg gets the sampling function, as it is, and finds the same baselines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jscg
from benchmarks.nvil import Params, affine, digits, init, log_bernoulli
from benchmarks.workloads import Gradient, Workload, workload
from benchmarks.workloads.vae import few


def loss(params: Params, key: jax.Array, *, x: jax.Array, count: int) -> jax.Array:
    """The negative bound at one draw of all particles, the mean over examples."""
    below, log_w = jnp.broadcast_to(x, (count, *x.shape)), jnp.zeros((count, len(x)))
    layers = list(zip(params["inference"], params["generative"], strict=True))
    for (inference, generative), k in zip(layers, jax.random.split(key, len(layers)), strict=True):
        logits = affine(inference, below)
        h = jax.random.bernoulli(k, jax.nn.sigmoid(logits)).astype(x.dtype)
        log_w = log_w + jnp.sum(log_bernoulli(affine(generative, h), below), -1)
        log_w = log_w - jnp.sum(log_bernoulli(logits, h), -1)
        below = h
    log_w = log_w + jnp.sum(log_bernoulli(params["prior"], below), -1)
    return -jnp.mean(jax.nn.logsumexp(log_w, 0) - jnp.log(count))


def bound_without_each(log_w: jax.Array) -> jax.Array:
    """The bound plus log K, with the geometric mean of the others for each particle."""
    count = len(log_w)
    others = (jnp.sum(log_w, 0) - log_w) / (count - 1)
    mine = jnp.eye(count)[..., None] == 1
    return jax.nn.logsumexp(jnp.where(mine, others[:, None], log_w[None]), 1)


def vimco(spread: bool, params: Params, key: jax.Array, *, x: jax.Array, count: int) -> Any:
    """Reverse mode through the bound plus each particle's learning signal times its log q.

    Args:
      spread: whether what all particles have in common is computed for each of them.
      params: of the network.
      key: of the draws.
      x: examples.
      count: particles.
    """

    def surrogate(params: Params) -> jax.Array:
        below = jnp.broadcast_to(x, (count, *x.shape)) if spread else x[None]
        layers = list(zip(params["inference"], params["generative"], strict=True))
        keys = jax.random.split(key, len(layers))
        log_w, log_q = jnp.zeros((count, len(x))), jnp.zeros((count, len(x)))
        for (inference, generative), k in zip(layers, keys, strict=True):
            logits = affine(inference, below)
            p = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
            h = jax.random.bernoulli(k, p, (count, *p.shape[1:])).astype(x.dtype)
            own = jnp.sum(log_bernoulli(logits, h), -1)
            log_w = log_w + jnp.sum(log_bernoulli(affine(generative, h), below), -1) - own
            log_q = log_q + own
            below = h
        log_w = log_w + jnp.sum(log_bernoulli(params["prior"], below), -1)
        bound = jax.nn.logsumexp(log_w, 0)
        signal = jax.lax.stop_gradient(bound - bound_without_each(log_w))
        return -jnp.mean(bound + jnp.sum(signal * log_q, 0))

    return jax.grad(surrogate)(params)


def make(data: Callable[[], jax.Array], units: tuple[int, ...], count: int, keys: int) -> Workload:
    """With so many units and particles."""
    x = data()

    def given(fun: Callable[..., Any]) -> Gradient:
        return functools.partial(fun, x=x, count=count)

    hand = {
        name: given(functools.partial(vimco, spread))
        for name, spread in {"one by one": True, "shared below": False}.items()
    }
    return Workload(
        cost=given(loss),
        params=init(jax.random.key(0), x.shape[1], units),
        hand=hand,
        textbook=("VIMCO", hand["shared below"]),
        # As by default, where the network is large.
        same={"estimators": jscg.estimators.Auto(compares_draws=False)},
        keys=keys,
        compared=lambda gradient: gradient["inference"],
        finer=False,
    )


workload("bound of 8 particles", functools.partial(make, few, (3, 2), 3, 100))(
    functools.partial(make, digits, (200, 200), 8, 120)
)
