"""NumPyro and Pyro: the bound of a mixture of two normals, and a chain in a scan."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import jscg
from benchmarks.moving_here._programs import move, one_by_one, over_keys

SEEN = jnp.array([-0.5, 0.4, 1.2, 2.5])
LOGITS = jnp.array([-0.3, 0.2, 0.5, 1.0])


def bound(logits, key):
    z = jax.random.bernoulli(key, jax.nn.sigmoid(logits))
    log_q = jnp.where(z, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))
    log_p = jnp.where(z, jnp.log(0.3), jnp.log(0.7)) + norm.logpdf(SEEN, 2.0 * z)
    return jnp.sum(log_q - log_p)


def exact_bound(logits):
    q = jax.nn.sigmoid(logits)
    yes = jax.nn.log_sigmoid(logits) - jnp.log(0.3) - norm.logpdf(SEEN, 2.0)
    no = jax.nn.log_sigmoid(-logits) - jnp.log(0.7) - norm.logpdf(SEEN, 0.0)
    return jnp.sum(q * yes + (1 - q) * no)


def in_numpyro():
    import numpyro
    import numpyro.distributions as dist

    def model(x):
        with numpyro.plate("items", 4):
            z = numpyro.sample("z", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Normal(2.0 * z, 1.0), obs=x)

    def guide(x):
        logits = numpyro.param("logits", jnp.zeros(4))
        with numpyro.plate("items", 4):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    return model, guide


@move("TraceGraph_ELBO", "numpyro")
def trace_graph():
    from numpyro.infer import TraceGraph_ELBO

    def theirs(logits, key):
        return TraceGraph_ELBO().loss(key, {"logits": logits}, *in_numpyro(), SEEN)

    return (
        over_keys(jax.grad(theirs), LOGITS),
        over_keys(jscg.grad_expectation(bound), LOGITS),
        jax.grad(exact_bound)(LOGITS),
    )


@move("its model and guide, jscg's gradient", "numpyro")
def numpyro_kept():
    from numpyro.infer import Trace_ELBO, TraceGraph_ELBO

    def theirs(logits, key):
        return TraceGraph_ELBO().loss(key, {"logits": logits}, *in_numpyro(), SEEN)

    def ours(logits, key):
        return Trace_ELBO().loss(key, {"logits": logits}, *in_numpyro(), SEEN)

    return (
        over_keys(jax.grad(theirs), LOGITS),
        over_keys(jscg.grad_expectation(ours), LOGITS),
        jax.grad(exact_bound)(LOGITS),
    )


@move("TraceGraph_ELBO", "pyro-ppl")
def pyro_trace_graph():
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import TraceGraph_ELBO

    seen = torch.tensor(np.asarray(SEEN))

    def model(x):
        with pyro.plate("items", 4):
            z = pyro.sample("z", dist.Bernoulli(0.3))
            pyro.sample("x", dist.Normal(2.0 * z, 1.0), obs=x)

    def guide(x):
        logits = pyro.param("logits", torch.tensor(np.asarray(LOGITS)))
        with pyro.plate("items", 4):
            pyro.sample("z", dist.Bernoulli(logits=logits))

    def gradient():
        pyro.clear_param_store()
        TraceGraph_ELBO().loss_and_grads(model, guide, seen)
        return pyro.param("logits").grad.numpy()

    pyro.set_rng_seed(0)
    return (
        one_by_one(gradient),
        over_keys(jscg.grad_expectation(bound), LOGITS),
        jax.grad(exact_bound)(LOGITS),
    )


@move("TraceGraph_ELBO with a chain in scan", "numpyro")
def numpyro_scan():
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.control_flow import scan
    from numpyro.infer import TraceGraph_ELBO

    def model(logit):
        def step(x, _):
            x = x + numpyro.sample("z", dist.Bernoulli(0.5))
            numpyro.factor("cost", -x)
            return x, None

        scan(step, 0.0, jnp.arange(5))

    def guide(logit):
        logit = numpyro.param("logit", logit)

        def step(x, _):
            return x + numpyro.sample("z", dist.Bernoulli(logits=logit)), None

        scan(step, 0.0, jnp.arange(5))

    def theirs(logit, key):
        return TraceGraph_ELBO().loss(key, {"logit": logit}, model, guide, logit)

    def ours(logit, key):
        def step(x, k):
            z = jax.random.bernoulli(k, jax.nn.sigmoid(logit))
            log_q = jnp.where(z, jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit))
            return x + z, log_q - jnp.log(0.5) + x + z

        return jnp.sum(jax.lax.scan(step, 0.0, jax.random.split(key, 5))[1])

    def exact(logit):
        q = jax.nn.sigmoid(logit)
        entropy = q * jax.nn.log_sigmoid(logit) + (1 - q) * jax.nn.log_sigmoid(-logit)
        return 5 * (entropy - jnp.log(0.5)) + 15 * q

    at = jnp.float32(0.4)
    return (
        over_keys(jax.grad(theirs), at),
        over_keys(jscg.grad_expectation(ours), at),
        jax.grad(exact)(at),
    )
