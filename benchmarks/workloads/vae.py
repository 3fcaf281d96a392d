"""A variational autoencoder (Kingma and Welling 2014): all draws are reparameterised.

Here jscg has nothing to add: the gradient is what `jax.grad` gives, and must cost the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.nvil import affine, digits, log_bernoulli
from benchmarks.workloads import Gradient, Workload, workload

Params = dict[str, dict[str, jax.Array]]

HIDDEN, LATENT = 200, 20


def init(key: jax.Array, visible: int, hidden: int, latent: int) -> Params:
    """Encoder and decoder, one hidden layer each."""
    sizes = {
        "encode": (visible, hidden),
        "mean": (hidden, latent),
        "log_std": (hidden, latent),
        "decode": (latent, hidden),
        "pixels": (hidden, visible),
    }
    return {
        name: {"w": jax.random.normal(k, size) / np.sqrt(size[0]), "b": jnp.zeros(size[1])}
        for k, (name, size) in zip(jax.random.split(key, 5), sizes.items(), strict=True)
    }


def loss(params: Params, key: jax.Array, *, x: jax.Array) -> jax.Array:
    """The negative evidence lower bound at one draw, its KL term exact; the mean over examples."""
    hidden = jnp.tanh(affine(params["encode"], x))
    mean, log_std = affine(params["mean"], hidden), affine(params["log_std"], hidden)
    z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    logits = affine(params["pixels"], jnp.tanh(affine(params["decode"], z)))
    kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
    return jnp.mean(jnp.sum(kl, -1) - jnp.sum(log_bernoulli(logits, x), -1))


def by_reverse_mode(params: Params, key: jax.Array, *, x: jax.Array) -> Any:
    """What everybody does."""
    return jax.grad(loss)(params, key, x=x)


def by_chain_rule(params: Params, key: jax.Array, *, x: jax.Array) -> Any:
    """No reverse mode: each layer's gradient is an outer product."""
    hidden = jnp.tanh(affine(params["encode"], x))
    mean, log_std = affine(params["mean"], hidden), affine(params["log_std"], hidden)
    std = jnp.exp(log_std)
    noise = jax.random.normal(key, mean.shape)
    z = mean + std * noise
    decoded = jnp.tanh(affine(params["decode"], z))
    logits = affine(params["pixels"], decoded)

    def layer(inputs: jax.Array, outputs: jax.Array) -> dict[str, jax.Array]:
        return {"w": inputs.T @ outputs, "b": jnp.sum(outputs, 0)}

    at_logits = (jax.nn.sigmoid(logits) - x) / len(x)
    at_decoded = (at_logits @ params["pixels"]["w"].T) * (1 - decoded**2)
    at_z = at_decoded @ params["decode"]["w"].T
    at_mean = at_z + mean / len(x)
    at_log_std = at_z * std * noise + (std**2 - 1) / len(x)
    at_hidden = at_mean @ params["mean"]["w"].T + at_log_std @ params["log_std"]["w"].T
    return {
        "encode": layer(x, at_hidden * (1 - hidden**2)),
        "mean": layer(hidden, at_mean),
        "log_std": layer(hidden, at_log_std),
        "decode": layer(z, at_decoded),
        "pixels": layer(decoded, at_logits),
    }


def make(x: Callable[[], jax.Array], hidden: int, latent: int) -> Workload:
    """The textbook is the same estimator."""
    data = x()

    def given(fun: Callable[..., Any]) -> Gradient:
        return functools.partial(fun, x=data)

    return Workload(
        cost=given(loss),
        params=init(jax.random.key(0), data.shape[1], hidden, latent),
        hand={"reverse mode": given(by_reverse_mode), "chain rule": given(by_chain_rule)},
        textbook=("reparameterised", given(by_reverse_mode)),
        finer=False,
    )


def few() -> jax.Array:
    """Three examples."""
    return jnp.asarray([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])


workload("VAE", functools.partial(make, few, 5, 2))(functools.partial(make, digits, HIDDEN, LATENT))
