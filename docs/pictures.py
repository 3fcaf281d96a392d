"""Draws the graphs of docs/: `python docs/pictures.py` writes docs/pictures/*.svg.

The five graphs of the first figure of Schulman et al. (2015), and its examples.
"""

import pathlib

import jax.numpy as jnp
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid, softmax

import jscg

KEY = random.key(0)


def parameter_then_draw(theta, key):
    x = jnp.exp(theta)
    y = random.poisson(key, x)
    return jnp.sin(1.0 * y)


def draw_then_deterministic(theta, key):
    x = random.poisson(key, theta)
    y = jnp.tanh(x * 0.1)
    return jnp.sin(y)


def draw_then_draw(theta, key):
    kx, ky = random.split(key)
    x = random.poisson(kx, theta)
    y = random.poisson(ky, 1.0 + x)
    return jnp.sin(1.0 * y)


def draw_beside_deterministic(theta, key):
    x = random.poisson(key, theta)
    y = jnp.tanh(theta)
    return jnp.sin(x * y)


def two_costs(theta, x0, key):
    k1, k2 = random.split(key)
    x1 = random.poisson(k1, theta * x0)
    x2 = random.poisson(k2, theta * (1.0 + x1))
    return jnp.sin(1.0 * x1) + jnp.cos(1.0 * x2)


def log_bernoulli(x, logits):
    return jnp.sum(log_sigmoid(jnp.where(x, logits, -logits)), -1)


def nvil(params, x, key):
    """Two layers of a sigmoid belief network; the inference network draws them upwards."""
    p, (k1, k2) = params, random.split(key)
    q1 = x @ p["V1"]
    h1 = jscg.baseline(random.bernoulli(k1, sigmoid(q1)), x @ p["b1"])
    q2 = h1 @ p["V2"]
    h2 = jscg.baseline(random.bernoulli(k2, sigmoid(q2)), h1 @ p["b2"])
    log_q1 = log_bernoulli(h1, q1)
    log_q2 = log_bernoulli(h2, q2)
    log_p2 = log_bernoulli(h2, p["prior"])
    log_p1 = log_bernoulli(h1, h2 @ p["W2"])
    log_px = log_bernoulli(x, h1 @ p["W1"])
    return -jnp.mean(log_px + log_p1 + log_p2 - log_q1 - log_q2)


def vae(params, x, key):
    phi, theta = params["phi"], params["theta"]
    mean = jnp.tanh(x @ phi)
    z = mean + 0.5 * random.normal(key, mean.shape)
    decoded = jnp.tanh(z @ theta)
    return jnp.mean(jnp.sum((x - decoded) ** 2, -1) + jnp.sum(mean**2, -1) / 2)


def mdp(params, s0, key):
    """A policy on a line; where the agent goes is up to the environment as well."""

    def step(s, key):
        ka, ks = random.split(key)
        logits = s[:, None] * params["policy"]
        b = s * params["baseline"]
        a = jscg.baseline(random.categorical(ka, logits), b)
        wind = random.normal(ks, s.shape)
        s_next = s + a - 1.0 + 0.1 * wind
        return s_next, jnp.abs(s_next)

    _, costs = lax.scan(step, s0, random.split(key, 20))
    return jnp.mean(jnp.sum(costs, 0))


def pomdp(params, s0, key):
    """The agent sees the state through noise, and remembers."""

    def step(carry, key):
        s, memory = carry
        ka, ks = random.split(key)
        o = s + random.normal(ks, s.shape)
        memory = jnp.tanh(params["recur"] * memory + params["see"] * o)
        a = random.categorical(ka, memory[:, None] * params["act"])
        s = s + a - 1.0
        return (s, memory), s**2

    _, costs = lax.scan(step, (s0, jnp.zeros_like(s0)), random.split(key, 20))
    return jnp.mean(jnp.sum(costs, 0))


def hard_attention(params, image, label, key):
    """Glimpses at places of an image, then a guess at what it shows."""

    def glimpse(h, key):
        place = random.categorical(key, h @ params["where"])
        seen = lax.dynamic_slice(image, (place,), (4,))
        h = jnp.tanh(h @ params["recur"] + seen @ params["see"])
        return h, None

    h, _ = lax.scan(glimpse, jnp.zeros(8), random.split(key, 3))
    guess = softmax(h @ params["classify"])
    return -jnp.log(guess[label])


def _zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def pictures():
    """The name, function and arguments of every picture."""
    yield "parameter_then_draw", parameter_then_draw, (0.5, KEY)
    yield "draw_then_deterministic", draw_then_deterministic, (0.5, KEY)
    yield "draw_then_draw", draw_then_draw, (0.5, KEY)
    yield "draw_beside_deterministic", draw_beside_deterministic, (0.5, KEY)
    yield "two_costs", two_costs, (0.5, jnp.float32(1.0), KEY)
    layers = _zeros(V1=(12, 6), V2=(6, 4), W1=(6, 12), W2=(4, 6), prior=4, b1=12, b2=6)
    yield "nvil", nvil, (layers, jnp.zeros((32, 12)), KEY)
    networks = _zeros(phi=(12, 2), theta=(2, 12))
    yield "vae", vae, (networks, jnp.zeros((32, 12)), KEY)
    yield "mdp", mdp, (_zeros(policy=3, baseline=()), jnp.zeros(16), KEY)
    yield "pomdp", pomdp, (_zeros(recur=(), see=(), act=3), jnp.zeros(16), KEY)
    attention = _zeros(where=(8, 12), recur=(8, 8), see=(4, 8), classify=(8, 10))
    yield "hard_attention", hard_attention, (attention, jnp.zeros(15), 3, KEY)


def main() -> None:
    folder = pathlib.Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    for name, fun, args in pictures():
        (folder / f"{name}.svg").write_text(jscg.graph(fun)(*args).svg())


if __name__ == "__main__":
    main()
