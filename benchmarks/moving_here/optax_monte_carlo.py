"""What `optax.monte_carlo` had."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jscg
from benchmarks.moving_here._programs import move, over_keys
from jscg import estimators as est

NORMAL = (jnp.array([0.2, -0.4, 1.0]), jnp.array([-0.3, 0.1, 0.0]))  # means, logs of scales


def waves(x):
    return jnp.sum(jnp.sin(x)) + jnp.sum(x) ** 2


def cost_of_normals(params, key):
    mean, log_scale = params
    return waves(mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape))


def delta_cost(params, key):
    """With the second-order Taylor polynomial at the mean as a control variate."""
    mean, log_scale = params
    centred = jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
    slope, bend = jax.grad(waves)(mean), jax.hessian(waves)(mean)
    variate = centred @ slope + centred @ bend @ centred / 2
    expected = jnp.sum(jnp.exp(2 * log_scale) * jnp.diag(bend)) / 2
    return waves(mean + centred) - (variate - expected)


def with_optax(name: str, ours: Callable, samples: int = 1, variate: str | None = None):
    import optax.monte_carlo as mc

    estimator = getattr(mc, name)

    def theirs(params, key):
        if variate is None:
            found = estimator(waves, params, optax_normals(), key, samples)
        else:
            found, _ = mc.control_variates_jacobians(
                waves, getattr(mc, variate), estimator, params, optax_normals(), key, samples
            )
        return [jnp.mean(leaf, 0) for leaf in found]

    def exact(params):
        mean, scale = params[0], jnp.exp(params[1])
        sines = jnp.exp(-(scale**2) / 2) * jnp.sin(mean)
        return jnp.sum(sines) + jnp.sum(mean) ** 2 + scale @ scale

    found = jax.grad(exact)(NORMAL)
    return over_keys(theirs, NORMAL), over_keys(ours, NORMAL), np.concatenate(found)


def optax_normals():
    import optax

    return optax.multi_normal


@move("score_function_jacobians", "optax")
def optax_score():
    score = {"normal": est.ScoreFunction(baseline=None)}
    ours = jscg.grad_expectation(cost_of_normals, estimators=score, num_samples=4)
    return with_optax("score_function_jacobians", ours, 4)


@move("pathwise_jacobians", "optax")
def optax_pathwise():
    return with_optax("pathwise_jacobians", jscg.grad_expectation(cost_of_normals))


@move("measure_valued_jacobians", "optax")
def optax_measure_valued():
    weak = {"normal": est.MeasureValued()}
    ours = jscg.grad_expectation(cost_of_normals, estimators=weak)
    return with_optax("measure_valued_jacobians", ours)


@move("control_delta_method, pathwise", "optax")
def optax_delta():
    ours = jscg.grad_expectation(delta_cost)
    return with_optax("pathwise_jacobians", ours, variate="control_delta_method")
