"""TensorFlow Probability on JAX: `monte_carlo.expectation`, `vi.monte_carlo_variational_loss`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp

from benchmarks.estimators import exponential_model
from benchmarks.nvil import affine
from benchmarks.rivals import Program, jitted
from benchmarks.rivals import problems as p
from benchmarks.workloads import bbvi, toys

tfd = tfp.distributions

PACKAGE = "tfp-nightly"
SAMPLES = 4


def program(problem: str, way: str, loss: Callable[[Any, jax.Array], jax.Array], params: Any):
    """The gradient of a loss."""
    return Program(problem, way, jitted(jax.grad(loss), params))


# Toys: an expectation for each element ----------------------------------------------------------


def score(law: Any, cost: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """The sum of the elements' expectations."""
    found = tfp.monte_carlo.expectation(
        cost, law.sample(SAMPLES, seed=key), law.log_prob, use_reparameterization=False
    )
    return jnp.sum(found)


def bernoulli(logits: jax.Array, key: jax.Array) -> jax.Array:
    return score(tfd.Bernoulli(logits=logits), lambda b: (b - toys.TARGET) ** 2, key)


def categorical(logits: jax.Array, key: jax.Array) -> jax.Array:
    law = tfd.Categorical(logits=logits)
    return score(law, lambda x: p.TABLE[jnp.arange(p.SIZE), x], key)


# The walk: paths from a scan, of which the log-prob is taken at once ------------------------------


def law_of_step(scale: jax.Array, x: jax.Array) -> Any:
    """At zero the chance is one, whose log-prob has a derivative of NaN in this library."""
    x = jnp.maximum(x, 1e-3)
    return tfd.Bernoulli(probs=jnp.exp(-x / scale))


def walk(scale: jax.Array, key: jax.Array, *, steps: int) -> jax.Array:
    def step(x: jax.Array, key: jax.Array) -> Any:
        up = law_of_step(scale, x).sample(seed=key)
        return x + 2.0 * up - 1.0, (x, up)

    def path(key: jax.Array) -> Any:
        end, steps_of_path = jax.lax.scan(step, 0.0, jax.random.split(key, steps))
        return end, *steps_of_path

    def log_prob(path: Any) -> jax.Array:
        _, x, up = path
        return jnp.sum(law_of_step(scale, x).log_prob(up), -1)

    paths = jax.lax.stop_gradient(jax.vmap(path)(jax.random.split(key, SAMPLES)))
    return tfp.monte_carlo.expectation(
        lambda path: path[0] ** 2, paths, log_prob, use_reparameterization=False
    )


# Networks ----------------------------------------------------------------------------------------


def surrogate(inference: Any, x: jax.Array) -> Any:
    """The posterior of the belief network, a batch of joint laws."""

    def layer(i: int, h: jax.Array) -> Any:
        law = tfd.Bernoulli(logits=affine(inference[i], h), dtype=jnp.float32)
        return tfd.Independent(law, 1)

    return tfd.JointDistributionSequential(
        [layer(0, x), lambda h0: layer(1, h0), lambda h1: layer(2, h1)], batch_ndims=1
    )


def network(params: Any, key: jax.Array) -> jax.Array:
    x = p.digits()

    def bernoulli(logits: jax.Array, h: jax.Array) -> jax.Array:
        return tfd.Independent(tfd.Bernoulli(logits=logits), 1).log_prob(h)

    def log_prob(h0: jax.Array, h1: jax.Array, h2: jax.Array) -> jax.Array:
        below = zip(params["generative"], (h0, h1, h2), (x, h0, h1), strict=True)
        generated = sum(bernoulli(affine(layer, h), under) for layer, h, under in below)
        return generated + bernoulli(params["prior"], h2)

    loss = tfp.vi.monte_carlo_variational_loss(
        log_prob,
        surrogate(params["inference"], x),
        gradient_estimator=tfp.vi.GradientEstimators.SCORE_FUNCTION,
        seed=key,
    )
    return jnp.mean(loss)


def autoencoder(params: Any, key: jax.Array) -> jax.Array:
    x = p.digits()
    hidden = jnp.tanh(affine(params["encode"], x))
    mean, log_std = affine(params["mean"], hidden), affine(params["log_std"], hidden)
    law = tfd.MultivariateNormalDiag(mean, jnp.exp(log_std))
    prior = tfd.MultivariateNormalDiag(jnp.zeros(mean.shape[-1]))

    def log_likelihood(z: jax.Array) -> jax.Array:
        logits = affine(params["pixels"], jnp.tanh(affine(params["decode"], z)))
        return tfd.Independent(tfd.Bernoulli(logits=logits), 1).log_prob(x)

    expected = tfp.monte_carlo.expectation(log_likelihood, law.sample(1, seed=key))
    return jnp.mean(tfd.kl_divergence(law, prior) - expected)


def rates(params: Any, key: jax.Array) -> jax.Array:
    world = exponential_model(bbvi.UNITS)
    at = jax.tree.map(jnp.exp, params)

    def log_prob(z: jax.Array, n: jax.Array) -> jax.Array:
        counts = tfd.Independent(tfd.Poisson(z @ world.mix.T + 0.1), 1).log_prob(n)
        seen = tfd.MultivariateNormalDiag(n @ world.look.T).log_prob(world.seen)
        return tfd.Independent(tfd.Exponential(jnp.ones(bbvi.UNITS)), 1).log_prob(z) + counts + seen

    posterior = tfd.JointDistributionSequential(
        [
            tfd.Independent(tfd.Gamma(at["shape"], at["rate"]), 1),
            tfd.Independent(tfd.Poisson(at["count"]), 1),
        ]
    )
    return tfp.vi.monte_carlo_variational_loss(
        log_prob,
        posterior,
        sample_size=p.SAMPLES,
        gradient_estimator=tfp.vi.GradientEstimators.SCORE_FUNCTION,
        seed=key,
    )


def programs() -> list[Program]:
    """All."""
    plain = f"monte_carlo.expectation, {SAMPLES} samples"
    each = f"{plain}, each element"
    found = [
        program("Bernoulli", each, bernoulli, p.LOGITS),
        program("categorical", each, categorical, p.CLASS_LOGITS),
    ]
    for steps in (10, 100):
        loss = functools.partial(walk, steps=steps)
        found.append(
            program(f"walk, T = {steps}", f"{plain}, scan", loss, jnp.asarray(2.0 * steps))
        )
    return [
        *found,
        program("belief network", "vi, SCORE_FUNCTION", network, p.network()),
        program(
            "gamma and Poisson",
            f"vi, SCORE_FUNCTION, {p.SAMPLES} samples",
            rates,
            {name: jnp.zeros(bbvi.UNITS) for name in ("shape", "rate", "count")},
        ),
        program("VAE", "monte_carlo.expectation, exact KL", autoencoder, p.autoencoder()),
    ]
