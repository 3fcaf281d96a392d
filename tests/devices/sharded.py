"""Programs whose batch, samples or environments can be spread over devices.

Each is `(fun, params, data, options)` with `fun(params, data, key)`; what is spread is the leading
axis of the data.
"""

import jax
import jax.numpy as jnp
from jax import lax, random
from jax.nn import sigmoid

import jscg

KEY = random.key(3)
SIZE = 16


def some(number, *shape):
    return 0.5 * random.normal(random.fold_in(random.key(7), number), shape)


def latents(params, x, key):
    """A Bernoulli layer and a class for each example, with a bound's terms."""
    k1, k2 = random.split(key)
    logits = x @ params["a"]
    bits = random.bernoulli(k1, sigmoid(logits)).astype(x.dtype)
    kind = random.categorical(k2, bits @ params["b"])
    log_q = jnp.sum(bits * logits - jax.nn.softplus(logits), -1)
    return jnp.mean(log_q + (kind - 1.0) ** 2 * (1.0 + jnp.sum(bits, -1)))


def one_sample(params, key):
    bits = random.bernoulli(key, sigmoid(params["a"]))
    return jnp.sum(bits * params["a"]) ** 2


def samples(params, keys, key):
    """Samples of one expectation, a key for each: the others are each one's baseline."""
    return jnp.mean(jax.vmap(one_sample, (None, 0))(params, keys))


def policy(params, state, key):
    """REINFORCE in parallel environments."""

    def step(state, key):
        act, move = random.split(key)
        right = random.bernoulli(act, sigmoid(state @ params["a"]))
        push = jnp.where(right, 0.5, -0.5)[:, None]
        state = 0.9 * state + push + 0.1 * random.normal(move, state.shape)
        return state, jnp.sum(state**2, -1)

    _, costs = lax.scan(step, state, random.split(key, 4))
    return jnp.mean(jnp.sum(costs, 0))


def pathwise(params, x, key):
    z = x @ params["a"] + random.normal(key, (len(x), 3))
    return jnp.mean(jnp.sum(jnp.tanh(z) ** 2, -1))


def kinks(params, x, key):
    """Noise that is differentiated through, and has a first derivative only."""
    z = x @ params["a"] + random.normal(key, (len(x), 3))
    return jnp.mean(jnp.sum(jax.nn.relu(z) + jnp.where(z > 0, z, 0.1 * z), -1))


def particles(params, x, key):
    """A bound of several particles for each example; each has the others as its baseline."""
    logits = jnp.broadcast_to(x @ params["a"], (3, len(x), 3))
    bits = random.bernoulli(key, sigmoid(logits)).astype(x.dtype)
    log_q = jnp.sum(bits * logits - jax.nn.softplus(logits), -1)
    log_p = jnp.sum(jnp.sin(bits @ params["b"]), -1)
    return -jnp.mean(jscg.bounds.log_mean_exp(log_p - log_q))


def walkers(params, place, key):
    """One cost for all draws of all steps: the default moves one of them (`Coupled`)."""

    def step(place, key):
        up = random.bernoulli(key, sigmoid(params["a"] * place))
        return place + 2.0 * up - 1.0, None

    place, _ = lax.scan(step, place, random.split(key, 4))
    return jnp.sum(place) ** 2


X = some(0, SIZE, 4)
TWO = {"a": some(1, 4, 3), "b": some(2, 3, 3)}
SCORE = {"estimators": jscg.estimators.ScoreFunction()}
PROGRAMS = {
    "latents": (latents, TWO, X, {}),
    "latents, scored": (latents, TWO, X, SCORE),
    "samples": (samples, {"a": some(3, 3)}, random.split(KEY, SIZE), SCORE),
    "policy": (policy, {"a": some(4, 4)}, X, {}),
    "pathwise": (pathwise, {"a": some(5, 4, 3)}, X, {}),
    "kinks": (kinks, {"a": some(5, 4, 3)}, X, {}),
    "particles": (particles, TWO, X, {}),
    "walkers": (walkers, {"a": jnp.float32(0.3)}, X[:, 0], {}),
}
