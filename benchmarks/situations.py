"""Situations in which one has to choose an estimator, each a small program.

The first way of each is the unit that the others are compared with: mostly the leave-one-out score
function with four samples, which is what one would write by hand.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

import jscg
from benchmarks import nvil
from benchmarks.estimators import Gradient, Problem, categorical, quadratic, random_walk
from jscg import estimators as est
from jscg.bounds import dreg, log_mean_exp, sticking_the_landing, vimco

Situation = tuple[Problem, dict[str, Gradient]]

UNIT = "ScoreFunction, 4 samples"
SCORE, PLAIN = est.ScoreFunction(), est.ScoreFunction(baseline=None)


def ways(problem: Problem, more: dict[str, Any], unit: Any = SCORE) -> Situation:
    """The gradients of all, and those by further estimators (one, or a mapping), one sample."""
    choices = {UNIT: (unit, 4), "default": (None, 1), "default, 4 samples": (None, 4)}
    choices |= {name: (estimators, 1) for name, estimators in more.items()}
    return problem, {
        name: jscg.grad_expectation(problem.cost, estimators=estimators, num_samples=samples)
        for name, (estimators, samples) in choices.items()
    }


# Continuous draws --------------------------------------------------------------------------------


def _normals(cost: Callable[[jax.Array], jax.Array], exact: Callable[[Any, Any], jax.Array]):
    """Ten normal draws, their means and the logs of their scales the parameters."""

    def sampled(params, key):
        noise = jax.random.normal(key, (10,))
        return cost(params["mean"] + jnp.exp(params["log_scale"]) * noise)

    params = {"mean": jnp.linspace(-1.0, 1.0, 10), "log_scale": jnp.full(10, -0.5)}
    return Problem(sampled, params, lambda p: exact(p["mean"], jnp.exp(p["log_scale"])))


def smooth() -> Situation:
    """Normal draws and a smooth cost of all of them."""

    def exact(mean, scale):
        waves = jnp.sum(jnp.exp(-(scale**2) / 2) * jnp.cos(mean))
        return waves + jnp.sum(mean) ** 2 + jnp.sum(scale**2)

    problem = _normals(lambda x: jnp.sum(jnp.cos(x)) + jnp.sum(x) ** 2, exact)
    weak = {"normal": est.MeasureValued()}
    return ways(problem, {"MeasureValued": weak}, unit={"normal": SCORE})


def jump() -> Situation:
    """Normal draws and a cost that is paid above a threshold only."""

    def exact(mean, scale):
        above = (1 - mean) / scale
        second = mean**2 + scale**2
        tail, density = norm.sf(above), norm.pdf(above)
        return jnp.sum(second * tail + scale * (mean + 1) * density) / 10

    problem = _normals(lambda x: jnp.mean(jnp.where(x > 1, x**2, 0.0)), exact)
    return ways(
        problem,
        {
            "MeasureValued": {"normal": est.MeasureValued()},
            "Pathwise(allow_jumps), biased": {"normal": est.Pathwise(allow_jumps=True)},
        },
        unit={"normal": SCORE},
    )


# Discrete draws ----------------------------------------------------------------------------------


def few() -> Situation:
    """200 Bernoulli draws, a cost of each."""
    return ways(quadratic(), {"DisARM": est.DisARM(), "REBAR": est.REBAR()})


def joint() -> Situation:
    """12 categorical draws of 3 classes, one cost of all."""
    return ways(
        categorical(12, 3),
        {
            "ScoreFunction(None)": PLAIN,
            "Coupled": est.Coupled(),
            "UnorderedSet(3)": est.UnorderedSet(3),
            "REBAR": est.REBAR(),
            "DoubleControlVariates(2)": est.DoubleControlVariates(2),
        },
    )


def many() -> Situation:
    """3 categorical draws of 100 classes, one cost of all."""
    return ways(
        categorical(3, 100),
        {
            "ScoreFunction(None)": PLAIN,
            "LeaveOneOut(4)": est.LeaveOneOut(4),
            "Coupled": est.Coupled(),
            "UnorderedSet(3)": est.UnorderedSet(3),
            "REBAR": est.REBAR(),
            "DoubleControlVariates(2)": est.DoubleControlVariates(2),
        },
    )


def chain() -> Situation:
    """A random walk of 50 steps in a scan, a cost at its end."""
    return ways(random_walk(), {"ScoreFunction(None)": PLAIN, "MeasureValued": est.MeasureValued()})


def batch(size: int = 64, patches: int = 32, pixels: int = 16) -> Situation:
    """Hard attention: each of 64 images is judged by one of its 32 patches."""
    keys = jax.random.split(jax.random.key(5), 5)
    images = jax.random.normal(keys[0], (size, patches, pixels))
    images = images + 2.0 * jax.random.normal(keys[1], (size, 1, 1))  # some are harder
    first = jax.random.normal(keys[2], (pixels, 64)) / 4
    second = jax.random.normal(keys[3], (64, 64)) / 8
    params = 0.3 * jax.random.normal(keys[4], (pixels, 1))

    def judge(seen):
        return jnp.sum(jnp.tanh(jnp.tanh(seen @ first) @ second), -1) ** 2

    def logits(params):
        return (images @ params)[..., 0]

    def mean_costs(params):
        return jnp.sum(jax.nn.softmax(logits(params)) * judge(images), -1)

    def cost(params, key, with_baseline=False):
        place = jax.random.categorical(key, logits(params))
        if with_baseline:  # what a baseline that learns the value of an image comes to
            place = jscg.baseline(place, jax.lax.stop_gradient(mean_costs(params)))
        return jnp.mean(judge(images[jnp.arange(size), place]))

    problem, found = ways(
        Problem(cost, params, lambda p: jnp.mean(mean_costs(p))),
        {
            "ScoreFunction(None)": PLAIN,
            "MeasureValued": est.MeasureValued(),
            "UnorderedSet(3)": est.UnorderedSet(3),
        },
    )
    learned = functools.partial(cost, with_baseline=True)
    return problem, found | {"jscg.baseline(x, b(image))": jscg.grad_expectation(learned)}


# Budgets -----------------------------------------------------------------------------------------


def _gates(cost: Callable[[jax.Array], jax.Array], units: int = 12) -> Problem:
    """Bernoulli draws, and one cost of all; the expectation is summed over all outcomes."""
    outcomes = (jnp.arange(2**units)[:, None] >> jnp.arange(units)) & 1

    def sampled(logits, key):
        return cost(1.0 * jax.random.bernoulli(key, jax.nn.sigmoid(logits)))

    every = jax.lax.map(cost, outcomes.astype(float), batch_size=256)

    def exact(logits):
        chances = jnp.where(outcomes, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))
        return jnp.sum(jnp.exp(jnp.sum(chances, 1)) * every)

    return Problem(sampled, 0.5 * jax.random.normal(jax.random.key(8), (units,)), exact)


def single() -> Situation:
    """One sample, no batch, a cheap cost of 12 Bernoulli draws."""
    mix = jax.random.normal(jax.random.key(9), (12, 12)) / 3
    return _budget(lambda x: jnp.sum(jnp.tanh(x @ mix)) ** 2)


def expensive() -> Situation:
    """One sample, no batch, a cost that takes 20 products with a matrix of 400 rows."""
    mix = jax.random.normal(jax.random.key(9), (12, 400)) / 3
    step = jax.random.normal(jax.random.key(10), (400, 400)) / 20

    def cost(x):
        state = jnp.tanh(x @ mix)
        state = jax.lax.fori_loop(0, 20, lambda _, s: jnp.tanh(s @ step), state)
        return jnp.sum(state) ** 2 / 400

    return _budget(cost, keys=100)


def _budget(cost: Callable[[jax.Array], jax.Array], keys: int = 1_000) -> Situation:
    problem = dataclasses.replace(_gates(cost), keys=keys)
    center = problem.exact(problem.params)

    def with_constant(logits, key):
        x = jax.random.bernoulli(key, jax.nn.sigmoid(logits))
        return cost(1.0 * jscg.baseline(x, center))  # what a moving average comes to

    problem, found = ways(
        problem,
        {
            "ScoreFunction(None)": PLAIN,
            "Coupled": est.Coupled(),
            "DisARM": est.DisARM(),
            "ARMS(4)": est.ARMS(4),
            "REBAR": est.REBAR(),
            "DoubleControlVariates(2)": est.DoubleControlVariates(2),
        },
    )
    return problem, found | {"jscg.baseline(x, b)": jscg.grad_expectation(with_constant)}


def curvature(units: int = 10) -> Situation:
    """A second derivative: (sum of 10 Bernoulli draws)^3, by their common chance."""

    def cost(p, key):
        return jnp.sum(jax.random.bernoulli(key, p, (units,))) ** 3.0

    def third_moment(p):
        n = units
        return n * p * (1 + 3 * (n - 1) * p + (n - 1) * (n - 2) * p**2)

    def second(choice: Any, samples: int) -> Gradient:
        fun = jscg.surrogate(cost, estimators=choice, num_samples=samples)
        return jax.grad(jax.grad(fun))

    found = {
        "default, 4 samples": second(None, 4),
        "default": second(None, 1),
        "default, 16 samples": second(None, 16),
        "Enumerate": second(est.Enumerate(), 1),
    }
    return Problem(cost, jnp.float32(0.4), jax.grad(third_moment)), found


# Latent variables --------------------------------------------------------------------------------


def _network(steps: int) -> Situation:
    x = nvil.digits(48)
    params = nvil.init(jax.random.key(0), units=(40, 40, 40))
    if steps:
        params = nvil.train(params, x, steps)

    def cost(params, key):
        return nvil.loss(params, x, key)

    return ways(
        Problem(cost, params, keys=20, rounds=40),
        {
            "Auto(mean_field=False)": est.Auto(mean_field=False),
            "ScoreFunction": SCORE,
            "DisARM": est.DisARM(),
        },
    )


def deep() -> Situation:
    """A sigmoid belief network of three layers of 40, 48 digits, at the start."""
    return _network(0)


def trained() -> Situation:
    """The same after 500 steps of training."""
    return _network(500)


def _model(units: int = 8, seen: int = 12) -> tuple[dict[str, jax.Array], jax.Array]:
    """Parameters of a model of one layer of latents, and an observation."""
    keys = jax.random.split(jax.random.key(11), 3)
    x = jax.random.bernoulli(keys[2], 0.5, (seen,)).astype(float)
    w = jax.random.normal(keys[0], (units, seen))
    return {"q": 0.5 * jax.random.normal(keys[1], (units,)), "w": w}, x


def discrete_bound(particles: int = 8) -> Situation:
    """The importance-weighted bound of 8 particles, Bernoulli latents."""
    params, x = _model()

    def log_weight(params, h):
        log_q = jnp.where(h, jax.nn.log_sigmoid(params["q"]), jax.nn.log_sigmoid(-params["q"]))
        log_p = nvil.log_bernoulli(h @ params["w"], x)
        return jnp.sum(log_p, -1) + jnp.sum(jnp.log(0.5) - log_q, -1)

    def cost(params, key, with_baseline=False):
        shape = (particles, *params["q"].shape)
        h = jax.random.bernoulli(key, jax.nn.sigmoid(params["q"]), shape)
        if with_baseline:
            h = jscg.baseline(h, -vimco(log_weight(params, h)))
        return -log_mean_exp(log_weight(params, h))

    problem, found = ways(Problem(cost, params), {"ScoreFunction(None)": PLAIN})
    with_vimco = functools.partial(cost, with_baseline=True)
    return problem, found | {"vimco": jscg.grad_expectation(with_vimco)}


def _normal_bound(particles: int, bound: Callable[..., jax.Array], way: str, better: Any):
    """A bound with normal latents, and the same with other log weights."""
    params, x = _model()

    def cost(params, key, weigh=lambda log_weight, q, z: log_weight(q, z)):
        def log_weight(q, z):
            log_p = nvil.log_bernoulli(z @ params["w"], x)
            return jnp.sum(log_p, -1) + jnp.sum(norm.logpdf(z) - norm.logpdf(z, q, 0.7), -1)

        noise = jax.random.normal(key, (particles, *params["q"].shape))
        return -bound(weigh(log_weight, params["q"], params["q"] + 0.7 * noise))

    return Problem(cost, params), {
        "default": jscg.grad_expectation(cost),
        way: jscg.grad_expectation(functools.partial(cost, weigh=better)),
    }


def normal_bound() -> Situation:
    """The importance-weighted bound of 8 particles, normal latents."""
    return _normal_bound(8, log_mean_exp, "dreg", dreg)


def normal_elbo() -> Situation:
    """The evidence lower bound, normal latents."""
    return _normal_bound(1, jnp.mean, "sticking_the_landing", sticking_the_landing)


SITUATIONS: dict[str, Callable[[], Situation]] = {
    "smooth": smooth,
    "jump": jump,
    "few": few,
    "joint": joint,
    "many": many,
    "chain": chain,
    "batch": batch,
    "single": single,
    "expensive": expensive,
    "curvature": curvature,
    "deep": deep,
    "trained": trained,
    "discrete bound": discrete_bound,
    "normal bound": normal_bound,
    "normal ELBO": normal_elbo,
}
