"""Dropout of the neural network libraries: a mask without parameters, and a draw behind it."""

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from table import table_of

INPUTS = jnp.arange(1.0, 5.0)


def loss(th, dropped, key):
    """What is dropped moves a Bernoulli draw."""
    logits = jnp.sum(dropped * th[0]) - 1
    return jax.random.bernoulli(key, sigmoid(logits)) * th[1]


def exact(th):
    """Half of four inputs, on the average; the others count double."""
    masks = jnp.stack(jnp.meshgrid(*[jnp.array([0.0, 2.0])] * 4), -1).reshape(-1, 4)
    return jnp.mean(sigmoid(masks @ INPUTS * th[0] - 1)) * th[1]


flax_row, haiku_row, equinox_row = map(table_of, ("flax", "haiku", "equinox"))


@flax_row(exact)
def linen_dropout(th, key):
    from flax import linen

    k1, k2 = jax.random.split(key)
    layer = linen.Dropout(0.5, deterministic=False)
    return loss(th, layer.apply({}, INPUTS, rngs={"dropout": k1}), k2)


@flax_row(exact)
def nnx_dropout(th, key):
    from flax import nnx

    k1, k2 = jax.random.split(key)
    return loss(th, nnx.Dropout(0.5, rngs=nnx.Rngs(k1))(INPUTS), k2)


@haiku_row(exact)
def dropout(th, key):
    import haiku

    k1, k2 = jax.random.split(key)
    return loss(th, haiku.dropout(k1, 0.5, INPUTS), k2)


@haiku_row(exact)
def dropout_in_a_transformed_function(th, key):
    import haiku

    k1, k2 = jax.random.split(key)
    net = haiku.transform(lambda x: haiku.dropout(haiku.next_rng_key(), 0.5, x))
    return loss(th, net.apply({}, k1, INPUTS), k2)


@equinox_row(exact)
def equinox_dropout(th, key):
    import equinox

    k1, k2 = jax.random.split(key)
    return loss(th, equinox.nn.Dropout(0.5)(INPUTS, key=k1), k2)
