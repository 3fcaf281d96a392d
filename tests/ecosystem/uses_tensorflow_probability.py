"""TensorFlow Probability on JAX."""

import jax.numpy as jnp
from jax.nn import softmax
from table import (
    WORTH,
    of_bernoulli,
    of_class,
    of_geometric,
    of_mixture,
    of_square,
    of_two_normals,
    table_of,
    three,
)

row = table_of("tensorflow_probability.substrates.jax")


def dist():
    from tensorflow_probability.substrates import jax as tfp

    return tfp.distributions


@row(of_bernoulli)
def bernoulli(th, key):
    return dist().Bernoulli(logits=th[0]).sample(seed=key) * th[1]


@row(of_class)
def categorical(th, key):
    return WORTH[dist().Categorical(logits=three(th)).sample(seed=key)]


@row(of_class)
def categorical_probs(th, key):
    return WORTH[dist().Categorical(probs=softmax(three(th))).sample(seed=key)]


@row(of_class)
def one_hot_categorical(th, key):
    return dist().OneHotCategorical(logits=three(th)).sample(seed=key) @ WORTH


@row(of_geometric)
def geometric(th, key):
    return dist().Geometric(probs=th[1]).sample(seed=key) * th[0]


@row(of_mixture)
def mixture(th, key):
    return of_two_normals(dist(), th).sample(seed=key) * th[1]


@row(of_square, scored=False)
def normal(th, key):
    return dist().Normal(th[0], th[1]).sample(seed=key) ** 2


@row(lambda th: th[0] ** 2 + 2 * th[1] ** 2, scored=False)
def laplace(th, key):
    return dist().Laplace(th[0], th[1]).sample(seed=key) ** 2


@row(lambda th: 1 / th[1], scored=False)
def exponential(th, key):
    return dist().Exponential(th[1]).sample(seed=key)


@row(of_square, scored=False)
def truncated_normal(th, key):
    return dist().TruncatedNormal(th[0], th[1], -50.0, 50.0).sample(seed=key) ** 2


# Loops of rejection, of a number of steps that is drawn.


@row(None)
def poisson(th, key):
    return dist().Poisson(jnp.exp(th[0])).sample(seed=key) * th[1]


@row(None)
def binomial(th, key):
    return dist().Binomial(5.0, probs=th[1]).sample(seed=key) * th[0]


@row(None)
def gamma(th, key):
    return dist().Gamma(th[1], 1.0).sample(seed=key)


@row(None)
def beta(th, key):
    return dist().Beta(th[0], th[1]).sample(seed=key)
