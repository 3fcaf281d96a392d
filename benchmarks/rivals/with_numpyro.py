"""NumPyro: TraceGraph_ELBO with plates, TraceEnum_ELBO where guides can be enumerated."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.contrib.funsor import config_enumerate
from numpyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO

from benchmarks.estimators import Model, exponential_model
from benchmarks.nvil import affine
from benchmarks.rivals import Program, jitted
from benchmarks.rivals import problems as p
from benchmarks.workloads import bbvi, toys

PACKAGE = "numpyro"


def program(
    problem: str,
    way: str,
    elbo: Any,
    model: Any,
    guide: Any,
    params: Any,
    *args: Any,
    terms: int = 1,
) -> Program:
    """The gradient of a loss; those that are sums over examples are divided by their number."""

    def gradient(params: Any, key: jax.Array) -> Any:
        return jax.grad(lambda p: elbo.loss(key, p, model, guide, *args) / terms)(params)

    return Program(problem, way, jitted(gradient, params))


# Toys --------------------------------------------------------------------------------------------


def bernoulli_model() -> None:
    with numpyro.plate("elements", p.SIZE):
        b = numpyro.sample("b", dist.Bernoulli(0.5))
        numpyro.factor("cost", -((b - toys.TARGET) ** 2))


def bernoulli_guide() -> None:
    logits = numpyro.param("logits", p.LOGITS)
    with numpyro.plate("elements", p.SIZE):
        numpyro.sample("b", dist.Bernoulli(logits=logits))


def categorical_model() -> None:
    with numpyro.plate("elements", p.SIZE):
        x = numpyro.sample("x", dist.Categorical(probs=jnp.full(toys.CLASSES, 1 / toys.CLASSES)))
        numpyro.factor("cost", -p.TABLE[jnp.arange(p.SIZE), x])


def categorical_guide() -> None:
    logits = numpyro.param("logits", p.CLASS_LOGITS)
    with numpyro.plate("elements", p.SIZE):
        numpyro.sample("x", dist.Categorical(logits=logits))


def toy_programs(name: str, model: Any, guide: Any, logits: jax.Array) -> list[Program]:
    """Scored, and enumerated."""
    enumerated = config_enumerate(guide, default="parallel")
    params = {"logits": logits}
    return [
        program(name, "TraceGraph_ELBO, plate", TraceGraph_ELBO(), model, guide, params),
        program(
            name, "TraceEnum_ELBO", TraceEnum_ELBO(max_plate_nesting=1), model, enumerated, params
        ),
    ]


# The chain, in a Python loop and in a scan -------------------------------------------------------


def loop_model(steps: int) -> None:
    x = 0.0
    for t in range(steps):
        x = x + 2.0 * numpyro.sample(f"up{t}", dist.Bernoulli(0.5)) - 1.0
        numpyro.factor(f"cost{t}", -p.chain_cost(x))


def loop_guide(steps: int) -> None:
    params = numpyro.param("params", p.CHAIN)
    x = 0.0
    for t in range(steps):
        logit = p.chain_logit(params, x)
        x = x + 2.0 * numpyro.sample(f"up{t}", dist.Bernoulli(logits=logit)) - 1.0


def scan_model(steps: int) -> None:
    def step(x: jax.Array, _: None) -> Any:
        x = x + 2.0 * numpyro.sample("up", dist.Bernoulli(0.5)) - 1.0
        numpyro.factor("cost", -p.chain_cost(x))
        return x, None

    scan(step, 0.0, None, length=steps)


def scan_guide(steps: int) -> None:
    params = numpyro.param("params", p.CHAIN)

    def step(x: jax.Array, _: None) -> Any:
        logit = p.chain_logit(params, x)
        return x + 2.0 * numpyro.sample("up", dist.Bernoulli(logits=logit)) - 1.0, None

    scan(step, 0.0, None, length=steps)


def chain_programs(steps: int) -> list[Program]:
    """Both ways."""
    ways = {
        "TraceGraph_ELBO, Python loop": (loop_model, loop_guide),
        "TraceGraph_ELBO, scan": (scan_model, scan_guide),
    }
    return [
        program(
            f"chain bound, T = {steps}",
            way,
            TraceGraph_ELBO(),
            *pair,
            {"params": p.CHAIN},
            steps,
        )
        for way, pair in ways.items()
    ]


# Networks ----------------------------------------------------------------------------------------


def network_model(x: jax.Array) -> None:
    generative = numpyro.param("generative", p.network()["generative"])
    logits = numpyro.param("prior", p.network()["prior"])
    with numpyro.plate("examples", len(x)):
        for i in (2, 1, 0):
            h = numpyro.sample(f"h{i}", dist.Bernoulli(logits=logits).to_event(1))
            logits = affine(generative[i], h)
        numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


def network_guide(x: jax.Array) -> None:
    inference = numpyro.param("inference", p.network()["inference"])
    h = x
    with numpyro.plate("examples", len(x)):
        for i in range(3):
            h = numpyro.sample(f"h{i}", dist.Bernoulli(logits=affine(inference[i], h)).to_event(1))


def decode(z: jax.Array) -> jax.Array:
    """The logits of pixels."""
    hidden = jnp.tanh(affine(numpyro.param("decode", p.autoencoder()["decode"]), z))
    return affine(numpyro.param("pixels", p.autoencoder()["pixels"]), hidden)


def vae_model(x: jax.Array) -> None:
    latent = p.autoencoder()["decode"]["w"].shape[0]
    with numpyro.plate("examples", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([latent]).to_event(1))
        numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)


def vae_guide(x: jax.Array) -> None:
    layers = {
        name: numpyro.param(name, p.autoencoder()[name]) for name in ("encode", "mean", "log_std")
    }
    hidden = jnp.tanh(affine(layers["encode"], x))
    mean, log_std = affine(layers["mean"], hidden), affine(layers["log_std"], hidden)
    with numpyro.plate("examples", len(x)):
        numpyro.sample("z", dist.Normal(mean, jnp.exp(log_std)).to_event(1))


def rates_model(world: Model) -> None:
    z = numpyro.sample("z", dist.Exponential(jnp.ones(len(world.mix))).to_event(1))
    n = numpyro.sample("n", dist.Poisson(world.mix @ z + 0.1).to_event(1))
    numpyro.sample("seen", dist.Normal(world.look @ n, 1.0).to_event(1), obs=world.seen)


def rates_guide(world: Model) -> None:
    start = jnp.zeros(len(world.mix))
    shape, rate, count = (jnp.exp(numpyro.param(k, start)) for k in ("shape", "rate", "count"))
    numpyro.sample("z", dist.Gamma(shape, rate).to_event(1))
    numpyro.sample("n", dist.Poisson(count).to_event(1))


def programs() -> list[Program]:
    """All."""
    x = p.digits()
    graph = TraceGraph_ELBO()
    return [
        *toy_programs("Bernoulli bound", bernoulli_model, bernoulli_guide, p.LOGITS),
        *toy_programs("categorical bound", categorical_model, categorical_guide, p.CLASS_LOGITS),
        *chain_programs(10),
        program(
            "belief network",
            "TraceGraph_ELBO, plate",
            graph,
            network_model,
            network_guide,
            p.network(),
            x,
            terms=len(x),
        ),
        program(
            "gamma and Poisson",
            f"TraceGraph_ELBO, {p.SAMPLES} particles",
            TraceGraph_ELBO(num_particles=p.SAMPLES),
            rates_model,
            rates_guide,
            {name: jnp.zeros(bbvi.UNITS) for name in ("shape", "rate", "count")},
            exponential_model(bbvi.UNITS),
        ),
        program(
            "VAE",
            "TraceMeanField_ELBO, plate",
            TraceMeanField_ELBO(),
            vae_model,
            vae_guide,
            p.autoencoder(),
            x,
            terms=len(x),
        ),
        *chain_programs(100),
    ]
