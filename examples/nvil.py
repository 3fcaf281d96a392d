"""Neural variational inference and learning (NVIL) as one sampling function.

A sigmoid belief network with three layers of 200 binary units, p(h3) p(h2|h3) p(h1|h2) p(x|h1),
and a recognition network q(h1|x) q(h2|h1) q(h3|h2) learn handwritten digits together, after
Mnih and Gregor, "Neural variational inference and learning in belief networks" (2014). No layer
can be differentiated through: every unit is 0 or 1. `loss` draws them with `jax.random.bernoulli`
all the same, and `jscg.value_and_grad_expectation(loss)` is the gradient estimator of the paper,
learned baselines included, with what the default adds to it: `print(jscg.graph(loss)(...))`.

    bash demo.sh
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import nvil_data
import nvil_plot
import nvil_reference
import optax
from tqdm import tqdm

import jscg

UNITS = 200
Array = jax.Array
Params = dict[str, Any]


# The model ------------------------------------------------------------------------------------


def loss(params: Params, x: Array, key: Array) -> Array:
    """Minus the variational bound on log p(x), in nats per image: one sample of it."""
    return -jnp.mean(log_weight(params, x, key))


def log_weight(params: Params, x: Array, key: Array) -> Array:
    """log p(x, h) - log q(h | x) of every image, with h drawn from q(h | x)."""
    k1, k2, k3 = jax.random.split(key, 3)
    q, p, b = params["q"], params["p"], params["b"]

    q1 = dense(q["h1"], x)
    h1 = jscg.baseline(jax.random.bernoulli(k1, jax.nn.sigmoid(q1)), mlp(b["h1"], x))
    q2 = dense(q["h2"], h1)
    h2 = jscg.baseline(jax.random.bernoulli(k2, jax.nn.sigmoid(q2)), mlp(b["h2"], h1))
    q3 = dense(q["h3"], h2)
    h3 = jscg.baseline(jax.random.bernoulli(k3, jax.nn.sigmoid(q3)), mlp(b["h3"], h2))

    log_q = log_bernoulli(q1, h1) + log_bernoulli(q2, h2) + log_bernoulli(q3, h3)
    log_p = (
        log_bernoulli(dense(p["x"], h1), x)
        + log_bernoulli(dense(p["h1"], h2), h1)
        + log_bernoulli(dense(p["h2"], h3), h2)
        + log_bernoulli(p["h3"], h3)
    )
    return log_p - log_q


def dense(layer: Params, x: Array) -> Array:
    """An affine map of binary inputs, which count as -1 and 1: that makes learning faster."""
    return (2.0 * x - 1.0) @ layer["w"] + layer["b"]


def mlp(layers: Params, x: Array) -> Array:
    """A baseline: one number for every image, from the values that its draw is given."""
    hidden = jnp.tanh(dense(layers["hidden"], x))
    return hidden @ layers["out"]["w"] + layers["out"]["b"]


def log_bernoulli(logits: Array, x: Array) -> Array:
    """Log-probability of binary units, summed over the last axis."""
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)


def init(key: Array, train: np.ndarray) -> Params:
    """Small random weights; p(x|h1) begins at the pixel frequencies.

    Every baseline begins near what it must predict: minus log p(x|h1), or minus log p of the units
    of the layer below, each of which costs log 2 at first. The terms of the layers above cancel.
    """
    means = nvil_reference.pixel_means(train)
    pixel_cost = -nvil_reference.per_pixel(train, train).mean()
    layer_cost = UNITS * np.log(2)
    pixels = train.shape[1]
    keys = iter(jax.random.split(key, 9))

    def layer(inputs: int, outputs: int, bias: Any = 0.0, scale: float = 0.1) -> Params:
        w = scale * jax.random.normal(next(keys), (inputs, outputs)) / np.sqrt(inputs)
        return {"w": w, "b": jnp.broadcast_to(jnp.asarray(bias, w.dtype), (outputs,))}

    def baseline(inputs: int, start: float) -> Params:
        out = {"w": jnp.zeros(100), "b": jnp.float32(start)}
        return {"hidden": layer(inputs, 100), "out": out}

    return {
        "q": {"h1": layer(pixels, UNITS), "h2": layer(UNITS, UNITS), "h3": layer(UNITS, UNITS)},
        "p": {
            "x": layer(UNITS, pixels, bias=np.log(means) - np.log1p(-means)),
            "h1": layer(UNITS, UNITS),
            "h2": layer(UNITS, UNITS),
            "h3": jnp.zeros(UNITS),
        },
        "b": {
            "h1": baseline(pixels, start=pixel_cost),
            "h2": baseline(UNITS, start=layer_cost),
            "h3": baseline(UNITS, start=layer_cost),
        },
    }


# Learning -------------------------------------------------------------------------------------


def make_update(
    train: Array, *, steps: int, num_samples: int, batch: int = 100
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
    """The optimiser, and one step of it: model and baselines learn from the same gradient."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 4e-3, steps // 20, steps, 4e-5)
    optimiser = optax.adam(rate)
    value_and_grad = jscg.value_and_grad_expectation(loss, num_samples=num_samples)

    @jax.jit
    def update(params: Params, state: Any, key: Array) -> Any:
        rows_key, draws_key = jax.random.split(key)
        x = train[jax.random.randint(rows_key, (batch,), 0, len(train))]
        _, grads = value_and_grad(params, x, draws_key)
        updates, state = optimiser.update(grads, state)
        return optax.apply_updates(params, updates), state

    return optimiser, update


# Judging --------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="samples")
def log_weights(params: Params, x: Array, key: Array, samples: int) -> Array:
    """`samples` draws of `log_weight` for every image: `[samples, images]`."""
    return jax.lax.map(lambda k: log_weight(params, x, k), jax.random.split(key, samples))


def bound(params: Params, x: Array, key: Array, samples: int = 20) -> np.ndarray:
    """The variational bound of every image, averaged over draws."""
    return np.asarray(log_weights(params, x, key, samples).mean(0))


def weighted_bound(params: Params, x: Array, key: Array, samples: int) -> np.ndarray:
    """The importance-weighted bound of every image: tighter, and tight with many samples."""
    log_w = log_weights(params, x, key, samples)
    return np.asarray(jax.nn.logsumexp(log_w, axis=0) - jnp.log(samples))


@jax.jit
def reconstruct(params: Params, x: Array, key: Array) -> Array:
    """Pixel probabilities p(x|h1) for an h1 drawn from q(h1|x)."""
    h1 = jax.random.bernoulli(key, jax.nn.sigmoid(dense(params["q"]["h1"], x)))
    return jax.nn.sigmoid(dense(params["p"]["x"], h1))


@functools.partial(jax.jit, static_argnames="images")
def dream(params: Params, key: Array, images: int) -> Array:
    """Pixel probabilities p(x|h1) for an h1 drawn from the model, from the top layer down."""
    k3, k2, k1 = jax.random.split(key, 3)
    p = params["p"]
    h3 = jax.random.bernoulli(k3, jax.nn.sigmoid(p["h3"]), (images, UNITS))
    h2 = jax.random.bernoulli(k2, jax.nn.sigmoid(dense(p["h2"], h3)))
    h1 = jax.random.bernoulli(k1, jax.nn.sigmoid(dense(p["h1"], h2)))
    return jax.nn.sigmoid(dense(p["x"], h1))


def mean_and_error(nats: np.ndarray) -> str:
    """A mean over images with its standard error."""
    return f"{nats.mean():8.2f} ± {nats.std(ddof=1) / np.sqrt(len(nats)):.2f}"


def run(data: str, steps: int, out: pathlib.Path, seed: int, num_samples: int) -> None:
    """Trains, prints and draws."""
    began = time.perf_counter()
    images = nvil_data.load(data)
    print(
        f"NVIL: a {UNITS}-{UNITS}-{UNITS} sigmoid belief network with learned baselines.\n"
        f"Data: {images.description}.\n"
        f"{steps} steps of Adam, {num_samples} sample(s) an image, seed {seed}.\n"
        "All figures are nats per test image ± standard error over images; higher is better.\n"
    )
    pixel = nvil_reference.per_pixel(images.train, images.test)
    mixture = nvil_reference.mixture(images.train, images.test)
    print("exact  independent pixels              ", mean_and_error(pixel))
    print("exact  mixture of 50 Bernoulli products", mean_and_error(mixture))

    init_key, learn_key, judge_key = jax.random.split(jax.random.key(seed), 3)
    train, test = jnp.asarray(images.train), jnp.asarray(images.test)
    params = init(init_key, images.train)
    curve = nvil_plot.Curve()

    def judge(step: int) -> np.ndarray:
        nats = bound(params, test, judge_key)
        curve.add(step, bound(params, train, judge_key, samples=2).mean(), nats.mean())
        tqdm.write(f"bound  NVIL after {step:5d} steps            {mean_and_error(nats)}")
        return nats

    judge(0)
    optimiser, update = make_update(train, steps=steps, num_samples=num_samples)
    state = optimiser.init(params)
    for step in tqdm(range(1, steps + 1), desc="learning", unit="step", mininterval=0.5):
        params, state = update(params, state, jax.random.fold_in(learn_key, step))
        if step < steps and step % max(1, steps // 10) == 0:
            judge(step)
    final = judge(steps)
    samples = 500
    tight = weighted_bound(params, test, judge_key, samples)
    print(f"bound  the same, importance-weighted, K={samples}", mean_and_error(tight))
    print(f"\nNVIL's bound minus the mixture, image by image {mean_and_error(final - mixture)}")
    print(f"the same, importance-weighted                  {mean_and_error(tight - mixture)}")

    shown = test[:20]
    nvil_plot.draw(
        out,
        curve,
        {"independent pixels": pixel.mean(), "mixture of 50": mixture.mean()},
        (samples, tight.mean()),
        (np.asarray(shown), np.asarray(reconstruct(params, shown, judge_key))),
        np.asarray(dream(params, judge_key, 50)),
        images.side,
    )
    print(f"{time.perf_counter() - began:.0f} seconds; samples and learning curve in {out}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--steps", type=int, help="default: 16000, or 6000 for mnist")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("nvil.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-samples", type=int, default=1, help="samples of h for an image")
    flags = parser.parse_args()
    steps = flags.steps or {"digits": 16000, "mnist": 6000}[flags.data]
    run(flags.data, steps, flags.out, flags.seed, flags.num_samples)


if __name__ == "__main__":
    main()
