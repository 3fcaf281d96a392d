"""The problems, as plain sampling functions: those of the suite, and variational bounds.

Pyro and NumPyro differentiate evidence lower bounds only, so that for them the toys and the chain
are stated as bounds: the cost is a factor of the model, fair coins or classes are the prior.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import estimators, nvil
from benchmarks.rivals import Problem
from benchmarks.workloads import bbvi, toys, vae, walk

SIZE, EXAMPLES = 100, 100
SAMPLES = bbvi.SAMPLES  # of the gamma and Poisson model, for all

LOGITS = 0.3 * jax.random.normal(jax.random.key(0), (SIZE,))
CLASS_LOGITS = jax.random.normal(jax.random.key(0), (SIZE, toys.CLASSES))
TABLE = jax.random.normal(jax.random.key(1), (SIZE, toys.CLASSES))

# Bounds of toys ----------------------------------------------------------------------------------


def bernoulli_bound(logits: jax.Array, key: jax.Array) -> jax.Array:
    """log q - log p + sum (b - 0.499)^2, p a fair coin."""
    b = jax.random.bernoulli(key, jax.nn.sigmoid(logits))
    log_q = jax.nn.log_sigmoid(jnp.where(b, logits, -logits))
    return jnp.sum(log_q - jnp.log(0.5) + (b - toys.TARGET) ** 2)


def bernoulli_bound_mean(logits: jax.Array) -> jax.Array:
    """The expectation of the bound."""
    q = jax.nn.sigmoid(logits)
    log_q = q * jax.nn.log_sigmoid(logits) + (1 - q) * jax.nn.log_sigmoid(-logits)
    return jnp.sum(log_q - jnp.log(0.5)) + toys.quadratic_mean(logits)


def categorical_bound(logits: jax.Array, key: jax.Array) -> jax.Array:
    """log q - log p + the sum of what is picked from the table, p uniform."""
    x = jax.random.categorical(key, logits)
    rows = jnp.arange(SIZE)
    log_q = jax.nn.log_softmax(logits)[rows, x]
    return jnp.sum(log_q + jnp.log(toys.CLASSES) + TABLE[rows, x])


def categorical_bound_mean(logits: jax.Array) -> jax.Array:
    """The expectation of the bound."""
    log_q = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_q) * (log_q + jnp.log(toys.CLASSES) + TABLE))


# A bound of a Markov chain -----------------------------------------------------------------------
#
# x goes up or down by one; q pulls it towards zero, p does not, and every step costs x^2 / 10.

CHAIN = jnp.array([0.3, 0.2])


def chain_logit(params: Any, x: Any) -> Any:
    """Of the chance of going up."""
    return params[0] - params[1] * x


def chain_cost(x: Any) -> Any:
    """Of being at x after a step."""
    return 0.1 * x**2


def chain_bound(params: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    """log q - log p + costs of one chain, p fair coins."""

    def step(x: jax.Array, key: jax.Array) -> Any:
        logit = chain_logit(params, x)
        up = jax.random.bernoulli(key, jax.nn.sigmoid(logit))
        log_q = jax.nn.log_sigmoid(jnp.where(up, logit, -logit))
        x = x + jnp.where(up, 1.0, -1.0)
        return x, log_q - jnp.log(0.5) + chain_cost(x)

    return jnp.sum(jax.lax.scan(step, 0.0, jax.random.split(key, steps))[1])


def chain_bound_mean(params: jax.Array, steps: int) -> jax.Array:
    """The expectation of the bound, by the chances of all places."""
    x = jnp.arange(-steps, steps + 1.0)
    logit = chain_logit(params, x)
    up = jax.nn.sigmoid(logit)
    log_q = up * jax.nn.log_sigmoid(logit) + (1 - up) * jax.nn.log_sigmoid(-logit)

    def step(chance: jax.Array, _: None) -> Any:
        here = jnp.sum(chance * (log_q - jnp.log(0.5)))
        chance = jnp.roll(chance * up, 1) + jnp.roll(chance * (1 - up), -1)
        return chance, here + jnp.sum(chance * chain_cost(x))

    start = jnp.zeros(len(x)).at[steps].set(1.0)
    return jnp.sum(jax.lax.scan(step, start, length=steps)[1])


# Networks ----------------------------------------------------------------------------------------


@functools.cache
def digits() -> jax.Array:
    """Binarised 8x8 digits."""
    return nvil.digits(EXAMPLES)


@functools.cache
def network() -> Any:
    """Parameters of the belief network; at logits of zero NumPyro 0.22 has a wrong score."""
    params = nvil.init(jax.random.key(0))
    return params | {"prior": params["prior"] + 0.1}


@functools.cache
def autoencoder() -> vae.Params:
    """Parameters of the autoencoder."""
    return vae.init(jax.random.key(0), nvil.VISIBLE, vae.HIDDEN, vae.LATENT)


# All ---------------------------------------------------------------------------------------------


def toy(cost: Any, params: jax.Array, mean: Any) -> Problem:
    """With a closed form."""
    return Problem(cost, params, exact=lambda: jax.grad(mean)(params))


def chain(cost: Any, params: jax.Array, mean: Any, steps: int) -> Problem:
    """Of so many steps."""
    given = functools.partial(cost, steps=steps)
    return Problem(given, params, 2_000, exact=lambda: jax.grad(mean)(params, steps))


def belief_network() -> Problem:
    """Three layers of 200 units, 100 digits."""
    x = digits()
    return Problem(lambda params, key: nvil.loss(params, x, key), network(), 400)


def of_autoencoder() -> Problem:
    """The same digits."""
    return Problem(functools.partial(vae.loss, x=digits()), autoencoder(), 400)


def gamma_and_poisson() -> Problem:
    """The model of the suite, 8 samples."""
    family = estimators.exponential_family(bbvi.UNITS)
    return Problem(family.cost, family.params, 400, ours={"num_samples": SAMPLES})


picked = functools.partial(toys.pick, table=TABLE), functools.partial(toys.pick_mean, table=TABLE)

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Bernoulli": lambda: toy(toys.quadratic, LOGITS, toys.quadratic_mean),
    "categorical": lambda: toy(picked[0], CLASS_LOGITS, picked[1]),
    "Bernoulli bound": lambda: toy(bernoulli_bound, LOGITS, bernoulli_bound_mean),
    "categorical bound": lambda: toy(categorical_bound, CLASS_LOGITS, categorical_bound_mean),
    "walk, T = 10": lambda: chain(walk.cost, jnp.asarray(20.0), walk.mean, 10),
    "walk, T = 100": lambda: chain(walk.cost, jnp.asarray(200.0), walk.mean, 100),
    "chain bound, T = 10": lambda: chain(chain_bound, CHAIN, chain_bound_mean, 10),
    "chain bound, T = 100": lambda: chain(chain_bound, CHAIN, chain_bound_mean, 100),
    "belief network": belief_network,
    "gamma and Poisson": gamma_and_poisson,
    "VAE": of_autoencoder,
}
