"""GenJAX: `adev.expectation`, with the draws' estimators as its documentation chooses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from genjax.adev import (
    expectation,
    flip_enum,
    flip_mvd,
    flip_reinforce,
    multivariate_normal_diag_reparam,
    reinforce,
)
from genjax.core import distribution
from genjax.distributions import categorical
from genjax.pjax import seed
from tensorflow_probability.substrates import jax as tfp

from benchmarks.nvil import affine, log_bernoulli
from benchmarks.rivals import Program, jitted
from benchmarks.rivals import problems as p
from benchmarks.workloads import toys

PACKAGE = "genjax"


def program(problem: str, way: str, loss: Any, params: Any) -> Program:
    """The gradient estimate of one expectation."""

    def gradient(params: Any, key: jax.Array) -> Any:
        return seed(lambda at: loss.grad_estimate(at))(key, params)

    return Program(problem, way, jitted(gradient, params))


def mean_program(problem: str, way: str, loss: Any, params: Any, x: jax.Array) -> Program:
    """The gradient of a mean of expectations, one for each example."""

    def gradient(params: Any, key: jax.Array) -> Any:
        def one(key: jax.Array, x: jax.Array) -> Any:
            return seed(lambda at: loss.grad_estimate(at, x))(key, params)[0]

        each = jax.vmap(one)(jax.random.split(key, len(x)), x)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), each)

    return Program(problem, way, jitted(gradient, params))


def sum_program(problem: str, way: str, loss: Any, logits: jax.Array, *rows: jax.Array) -> Program:
    """The gradient of a sum of expectations, one for each row of the logits."""

    def gradient(logits: jax.Array, key: jax.Array) -> jax.Array:
        def one(key: jax.Array, *args: jax.Array) -> jax.Array:
            return seed(loss.grad_estimate)(key, *args)

        keys = jax.random.split(key, len(logits))
        found = jax.vmap(one)(keys, logits, *rows)
        return found[0] if rows else found

    return Program(problem, way, jitted(gradient, logits))


# Toys --------------------------------------------------------------------------------------------


def bernoulli(flip: Callable[[jax.Array], jax.Array]) -> Any:
    """All elements at once."""

    @expectation
    def loss(logits: jax.Array) -> jax.Array:
        return jnp.sum((flip(jax.nn.sigmoid(logits)) - toys.TARGET) ** 2)

    return loss


@expectation
def bernoulli_element(logit: jax.Array) -> jax.Array:
    return (flip_enum(jax.nn.sigmoid(logit)) - toys.TARGET) ** 2


def sample_categorical(key: jax.Array, logits: jax.Array, sample_shape: Any = ()) -> jax.Array:
    return tfp.distributions.Categorical(logits=logits).sample(sample_shape, seed=key)


categorical_reinforce = distribution(
    reinforce(categorical.sample, categorical.logpdf, sample_categorical), categorical.logpdf
)


@expectation
def categorical_element(logits: jax.Array, row: jax.Array) -> jax.Array:
    return row[categorical_reinforce(logits)]


# The walk, in a Python loop and in a scan --------------------------------------------------------


def go(flip: Callable[[jax.Array], jax.Array], scale: jax.Array, x: jax.Array) -> jax.Array:
    """One step; at zero the chance is one, whose log-prob has a derivative of NaN."""
    up = flip(jnp.exp(-jnp.maximum(x, 1e-3) / scale))
    return x + jnp.where(up, 1.0, -1.0)


def loop(flip: Callable[[jax.Array], jax.Array], steps: int) -> Any:
    @expectation
    def loss(scale: jax.Array) -> jax.Array:
        x = jnp.zeros(())
        for _ in range(steps):
            x = go(flip, scale, x)
        return x**2

    return loss


def scanned(flip: Callable[[jax.Array], jax.Array], steps: int) -> Any:
    @expectation
    def loss(scale: jax.Array) -> jax.Array:
        def step(x: jax.Array, _: None) -> Any:
            return go(flip, scale, x), None

        return jax.lax.scan(step, jnp.zeros(()), length=steps)[0] ** 2

    return loss


def walks(steps: int) -> list[Program]:
    """`flip_enum` runs the rest 2^T times, `flip_mvd` T times, all of it compiled."""
    name, scale = f"walk, T = {steps}", jnp.asarray(2.0 * steps)
    weak = [program(name, "flip_mvd, Python loop", loop(flip_mvd, steps), scale)]
    return [
        *(weak if steps <= 10 else []),
        program(name, "flip_reinforce, Python loop", loop(flip_reinforce, steps), scale),
        program(name, "flip_reinforce, scan", scanned(flip_reinforce, steps), scale),
    ]


# Networks ----------------------------------------------------------------------------------------


@expectation
def network(params: Any, x: jax.Array) -> jax.Array:
    cost, below = 0.0, x
    for inference, generative in zip(params["inference"], params["generative"], strict=True):
        logits = affine(inference, below)
        h = flip_reinforce(jax.nn.sigmoid(logits)).astype(x.dtype)
        cost = cost + jnp.sum(log_bernoulli(logits, h))
        cost = cost - jnp.sum(log_bernoulli(affine(generative, h), below))
        below = h
    return cost - jnp.sum(log_bernoulli(params["prior"], below))


@expectation
def autoencoder(params: Any, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(affine(params["encode"], x))
    mean, log_std = affine(params["mean"], hidden), affine(params["log_std"], hidden)
    z = multivariate_normal_diag_reparam(mean, jnp.exp(log_std))
    logits = affine(params["pixels"], jnp.tanh(affine(params["decode"], z)))
    kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
    return jnp.sum(kl) - jnp.sum(log_bernoulli(logits, x))


def programs() -> list[Program]:
    """All."""
    x = p.digits()
    each = "each element an expectation"
    return [
        sum_program("Bernoulli", f"flip_enum, {each}", bernoulli_element, p.LOGITS),
        program("Bernoulli", "flip_reinforce", bernoulli(flip_reinforce), p.LOGITS),
        sum_program(
            "categorical", f"reinforce, {each}", categorical_element, p.CLASS_LOGITS, p.TABLE
        ),
        *walks(10),
        mean_program(
            "belief network", "flip_reinforce, vmap over examples", network, p.network(), x
        ),
        mean_program("VAE", "reparam, vmap over examples", autoencoder, p.autoencoder(), x),
        *walks(100),
    ]
