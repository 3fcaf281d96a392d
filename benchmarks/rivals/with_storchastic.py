"""Storchastic, eager: exact expectations, leave-one-out, moving averages.

Costs of elements and examples are means over a plate, so that sums are multiplied by its size.
`REBAR` raises an error with such plates, `DisARM` with Bernoulli laws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import storch
import torch
from torch.distributions import Bernoulli, Gamma, Normal, OneHotCategorical, Poisson
from torch.nn.functional import softplus

from benchmarks.estimators import exponential_model
from benchmarks.rivals import Gradient, Program
from benchmarks.rivals import problems as p
from benchmarks.workloads import bbvi, toys

PACKAGE = "storchastic"
SAMPLES = 4
Costs = Callable[..., None]


def tensor(array: Any) -> torch.Tensor:
    """The same numbers, in memory of its own."""
    return torch.tensor(np.asarray(array))


def program(
    problem: str, way: str, add_costs: Costs, params: Any, methods: Callable[[], Any]
) -> Program:
    """Costs are added for parameters and methods; `storch.backward` leaves gradients."""
    leaves, structure = jax.tree.flatten(params)

    def fresh() -> Gradient:
        at = [tensor(leaf).requires_grad_() for leaf in leaves]
        made = methods()

        def gradient(key: jax.Array) -> Any:
            for leaf in at:
                leaf.grad = None
            add_costs(structure.unflatten(at), made)
            storch.backward()
            return structure.unflatten([leaf.grad for leaf in at])

        return gradient

    return Program(problem, way, fresh)


def score(name: str, samples: int = 1) -> Any:
    """The score function, its baseline the other samples, or the past if there are none."""
    baseline = "batch_average" if samples > 1 else "moving_average"
    return storch.method.ScoreFunction(name, n_samples=samples, baseline_factory=baseline)


# Toys --------------------------------------------------------------------------------------------

TABLE = tensor(p.TABLE)


def bernoulli(logits: torch.Tensor, method: Any) -> None:
    b = method(Bernoulli(logits=storch.denote_independent(logits, 0, "elements")))
    storch.add_cost(p.SIZE * (b - toys.TARGET) ** 2, "cost")


def categorical(logits: torch.Tensor, method: Any) -> None:
    x = method(OneHotCategorical(logits=storch.denote_independent(logits, 0, "elements")))
    storch.add_cost(p.SIZE * (x * TABLE).sum(-1), "cost")


def toy_programs(name: str, costs: Costs, logits: jax.Array) -> list[Program]:
    """Enumerated, and scored."""
    return [
        program(name, "Expect", costs, logits, lambda: storch.method.Expect("x")),
        program(
            name,
            f"ScoreFunction, {SAMPLES} samples, batch average",
            costs,
            logits,
            lambda: score("x", SAMPLES),
        ),
    ]


# The walk ----------------------------------------------------------------------------------------


def walk(scale: torch.Tensor, methods: list[Any]) -> None:
    x = storch.denote_independent(torch.zeros(SAMPLES), 0, "walks")
    for method in methods:
        x = x + 2.0 * method(Bernoulli(probs=torch.exp(-x / scale))) - 1.0
    storch.add_cost(x**2, "cost")


def walk_program(steps: int) -> Program:
    """A draw for each step."""
    way = f"ScoreFunction, {SAMPLES} walks, moving average"
    scale = np.float32(2.0 * steps)
    return program(
        f"walk, T = {steps}", way, walk, scale, lambda: [score(f"x{t}") for t in range(steps)]
    )


# Networks ----------------------------------------------------------------------------------------


def affine(layer: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """An affine map."""
    return inputs @ layer["w"] + layer["b"]


def log_bernoulli(logits: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The log-probability of all units."""
    return (value * logits - softplus(logits)).sum(-1)


def network(params: Any, methods: list[Any], *, x: torch.Tensor) -> None:
    below = storch.denote_independent(x, 0, "examples")
    for i, method in enumerate(methods):
        logits = affine(params["inference"][i], below)
        h = method(Bernoulli(logits=logits))
        storch.add_cost(log_bernoulli(logits, h), f"q{i}")
        storch.add_cost(-log_bernoulli(affine(params["generative"][i], h), below), f"p{i}")
        below = h
    storch.add_cost(-log_bernoulli(params["prior"], below), "prior")


def autoencoder(params: Any, method: Any, *, x: torch.Tensor) -> None:
    x = storch.denote_independent(x, 0, "examples")
    hidden = torch.tanh(affine(params["encode"], x))
    mean, log_std = affine(params["mean"], hidden), affine(params["log_std"], hidden)
    z = method(Normal(mean, torch.exp(log_std)))
    logits = affine(params["pixels"], torch.tanh(affine(params["decode"], z)))
    kl = 0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std
    storch.add_cost(kl.sum(-1), "kl")
    storch.add_cost(-log_bernoulli(logits, x), "x")


def rates(params: Any, methods: list[Any], *, mix: Any, look: Any, seen: Any) -> None:
    shape, rate = torch.exp(params["shape"]), torch.exp(params["rate"])
    count = torch.exp(params["count"])
    z, n = methods[0](Gamma(shape, rate)), methods[1](Poisson(count))
    log_q = shape * params["rate"] + (shape - 1) * torch.log(z) - rate * z - torch.lgamma(shape)
    storch.add_cost((log_q + z).sum(-1), "z")  # and what the prior of the rates costs
    mean = z @ mix.T + 0.1
    log_q = n * params["count"] - count
    storch.add_cost((log_q + mean - n * torch.log(mean)).sum(-1), "n")
    storch.add_cost(0.5 * ((seen - n @ look.T) ** 2).sum(-1), "seen")


def programs() -> list[Program]:
    """All."""
    x, world = tensor(p.digits()), exponential_model(bbvi.UNITS)
    return [
        *toy_programs("Bernoulli", bernoulli, p.LOGITS),
        *toy_programs("categorical", categorical, p.CLASS_LOGITS),
        walk_program(10),
        program(
            "belief network",
            "ScoreFunction, moving average",
            functools.partial(network, x=x),
            p.network(),
            lambda: [score(f"h{i}") for i in range(3)],
        ),
        program(
            "gamma and Poisson",
            f"Reparameterization, ScoreFunction with batch average, {p.SAMPLES} samples",
            functools.partial(rates, **{k: tensor(v) for k, v in world._asdict().items()}),
            {name: np.zeros(bbvi.UNITS, np.float32) for name in ("shape", "rate", "count")},
            lambda: [
                storch.method.Reparameterization("z", n_samples=p.SAMPLES),
                score("n", p.SAMPLES),
            ],
        ),
        program(
            "VAE",
            "Reparameterization",
            functools.partial(autoencoder, x=x),
            p.autoencoder(),
            lambda: storch.method.Reparameterization("z"),
        ),
        walk_program(100),
    ]
