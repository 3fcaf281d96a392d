"""Pyro, eager: TraceGraph_ELBO with plates and a decaying average as baseline, TraceEnum_ELBO."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, config_enumerate

from benchmarks.estimators import exponential_model
from benchmarks.rivals import Gradient, Program
from benchmarks.rivals import problems as p
from benchmarks.workloads import bbvi, toys

PACKAGE = "pyro-ppl"

AVERAGE = {"baseline": {"use_decaying_avg_baseline": True}}


def tensor(array: Any) -> torch.Tensor:
    """The same numbers, in memory of its own."""
    return torch.tensor(np.asarray(array))


def affine(layer: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """An affine map."""
    return inputs @ layer["w"] + layer["b"]


class Store:
    """A tree of parameters in Pyro's store."""

    def __init__(self, params: Any) -> None:
        leaves, self.structure = jax.tree.flatten(params)
        self.start = {f"leaf{i}": tensor(leaf) for i, leaf in enumerate(leaves)}

    def params(self) -> Any:
        """For models and guides."""
        return self.structure.unflatten([pyro.param(*item) for item in self.start.items()])

    def take_gradient(self, terms: int) -> Any:
        """What the backward pass has left, of a mean instead of a sum of so many terms."""
        found = []
        for leaf in (pyro.param(name) for name in self.start):
            found.append(leaf.grad / terms if terms > 1 else leaf.grad)
            leaf.grad = None
        return self.structure.unflatten(found)


def program(
    problem: str,
    way: str,
    elbo: Callable[..., Any],
    model: Callable[..., None],
    guide: Callable[..., None],
    params: Any,
    *args: Any,
    terms: int = 1,
) -> Program:
    """`loss_and_grads`, which `SVI.step` calls."""

    def fresh() -> Gradient:
        pyro.enable_validation(False)
        pyro.clear_param_store()
        store, loss = Store(params), elbo(max_plate_nesting=1)

        def gradient(key: jax.Array) -> Any:
            loss.loss_and_grads(model, guide, store.params, *args)
            return store.take_gradient(terms)

        return gradient

    return Program(problem, way, fresh)


# Toys --------------------------------------------------------------------------------------------

Params = Callable[[], Any]


def bernoulli_model(params: Params) -> None:
    with pyro.plate("elements", p.SIZE):
        b = pyro.sample("b", dist.Bernoulli(0.5))
        pyro.factor("cost", -((b - toys.TARGET) ** 2))


def bernoulli_guide(params: Params) -> None:
    logits = params()
    with pyro.plate("elements", p.SIZE):
        pyro.sample("b", dist.Bernoulli(logits=logits), infer=AVERAGE)


def categorical_model(params: Params) -> None:
    uniform = torch.full((toys.CLASSES,), 1 / toys.CLASSES)
    with pyro.plate("elements", p.SIZE):
        x = pyro.sample("x", dist.Categorical(uniform))
        pyro.factor("cost", -PICKS[torch.arange(p.SIZE), x])


def categorical_guide(params: Params) -> None:
    logits = params()
    with pyro.plate("elements", p.SIZE):
        pyro.sample("x", dist.Categorical(logits=logits), infer=AVERAGE)


PICKS = tensor(p.TABLE)


def toy_programs(name: str, model: Any, guide: Any, logits: jax.Array) -> list[Program]:
    """Scored, and enumerated."""
    enumerated = config_enumerate(guide, default="parallel")
    average = "TraceGraph_ELBO, plate, decaying average"
    return [
        program(name, average, TraceGraph_ELBO, model, guide, logits),
        program(name, "TraceEnum_ELBO", TraceEnum_ELBO, model, enumerated, logits),
    ]


# The chain ---------------------------------------------------------------------------------------


def chain_model(params: Params, steps: int) -> None:
    x = torch.tensor(0.0)
    for t in range(steps):
        x = x + 2.0 * pyro.sample(f"up{t}", dist.Bernoulli(0.5)) - 1.0
        pyro.factor(f"cost{t}", -p.chain_cost(x))


def chain_guide(params: Params, steps: int) -> None:
    at = params()
    x = torch.tensor(0.0)
    for t in range(steps):
        law = dist.Bernoulli(logits=p.chain_logit(at, x))
        x = x + 2.0 * pyro.sample(f"up{t}", law, infer=AVERAGE) - 1.0


def chain_program(steps: int) -> Program:
    """A Python loop."""
    way = "TraceGraph_ELBO, decaying average"
    name = f"chain bound, T = {steps}"
    return program(name, way, TraceGraph_ELBO, chain_model, chain_guide, p.CHAIN, steps)


# Networks ----------------------------------------------------------------------------------------


def network_model(params: Params, x: torch.Tensor) -> None:
    at = params()
    logits = at["prior"]
    with pyro.plate("examples", len(x)):
        for i in (2, 1, 0):
            h = pyro.sample(f"h{i}", dist.Bernoulli(logits=logits).to_event(1))
            logits = affine(at["generative"][i], h)
        pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


def network_guide(params: Params, x: torch.Tensor) -> None:
    inference, h = params()["inference"], x
    with pyro.plate("examples", len(x)):
        for i in range(3):
            law = dist.Bernoulli(logits=affine(inference[i], h)).to_event(1)
            h = pyro.sample(f"h{i}", law, infer=AVERAGE)


def vae_model(params: Params, x: torch.Tensor) -> None:
    at = params()
    latent = len(at["decode"]["w"])
    with pyro.plate("examples", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(latent), 1.0).to_event(1))
        logits = affine(at["pixels"], torch.tanh(affine(at["decode"], z)))
        pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


def vae_guide(params: Params, x: torch.Tensor) -> None:
    at = params()
    hidden = torch.tanh(affine(at["encode"], x))
    mean, log_std = affine(at["mean"], hidden), affine(at["log_std"], hidden)
    with pyro.plate("examples", len(x)):
        pyro.sample("z", dist.Normal(mean, log_std.exp()).to_event(1))


def rates_model(params: Params, mix: torch.Tensor, look: torch.Tensor, seen: torch.Tensor) -> None:
    z = pyro.sample("z", dist.Exponential(torch.ones(len(mix))).to_event(1))
    n = pyro.sample("n", dist.Poisson(z @ mix.T + 0.1).to_event(1))
    pyro.sample("seen", dist.Normal(n @ look.T, 1.0).to_event(1), obs=seen)


def rates_guide(params: Params, *_: torch.Tensor) -> None:
    at = params()
    pyro.sample("z", dist.Gamma(at["shape"].exp(), at["rate"].exp()).to_event(1))
    pyro.sample("n", dist.Poisson(at["count"].exp()).to_event(1), infer=AVERAGE)


def network_programs() -> list[Program]:
    """The gamma and Poisson model; the belief network and the autoencoder, for all examples."""
    x = tensor(p.digits())
    particles = functools.partial(TraceGraph_ELBO, p.SAMPLES, vectorize_particles=True)
    return [
        program(
            "gamma and Poisson",
            f"TraceGraph_ELBO, {p.SAMPLES} particles, decaying average",
            particles,
            rates_model,
            rates_guide,
            {name: np.zeros(bbvi.UNITS, np.float32) for name in ("shape", "rate", "count")},
            *map(tensor, exponential_model(bbvi.UNITS)),
        ),
        program(
            "belief network",
            "TraceGraph_ELBO, plate, decaying average",
            TraceGraph_ELBO,
            network_model,
            network_guide,
            p.network(),
            x,
            terms=len(x),
        ),
        program(
            "VAE",
            "TraceMeanField_ELBO, plate",
            TraceMeanField_ELBO,
            vae_model,
            vae_guide,
            p.autoencoder(),
            x,
            terms=len(x),
        ),
    ]


def programs() -> list[Program]:
    """All."""
    return [
        *toy_programs("Bernoulli bound", bernoulli_model, bernoulli_guide, p.LOGITS),
        *toy_programs("categorical bound", categorical_model, categorical_guide, p.CLASS_LOGITS),
        chain_program(10),
        *network_programs(),
        chain_program(100),
    ]
