"""Distrax distributions."""

import jax.numpy as jnp
from jax.nn import sigmoid
from table import (
    WORTH,
    of_bernoulli,
    of_class,
    of_mixture,
    of_square,
    of_two_normals,
    table_of,
    three,
)

row = table_of("distrax")


def distrax():
    import distrax

    return distrax


@row(of_bernoulli)
def bernoulli(th, key):
    return distrax().Bernoulli(logits=th[0]).sample(seed=key) * th[1]


@row(of_bernoulli)
def sample_and_log_prob(th, key):
    """The log-prob is that of its own draw: its score has mean zero."""
    x, log_prob = distrax().Bernoulli(probs=sigmoid(th[0])).sample_and_log_prob(seed=key)
    entropy = distrax().Bernoulli(probs=sigmoid(th[0])).entropy()
    return x * th[1] + log_prob + entropy


@row(of_class)
def categorical(th, key):
    return WORTH[distrax().Categorical(logits=three(th)).sample(seed=key)]


@row(of_class)
def one_hot_categorical(th, key):
    return distrax().OneHotCategorical(logits=three(th)).sample(seed=key) @ WORTH


@row(lambda th: of_class(th / 2))
def softmax_with_a_temperature(th, key):
    return WORTH[distrax().Softmax(three(th), temperature=2.0).sample(seed=key)]


@row(lambda th: (0.9 * 1 - 0.1 * 0.5 / 3) * th[0], scored=False)
def epsilon_greedy(th, key):
    return WORTH[distrax().EpsilonGreedy(WORTH, 0.1).sample(seed=key)] * th[0]


@row(of_mixture)
def mixture(th, key):
    return of_two_normals(distrax(), th).sample(seed=key) * th[1]


@row(of_square, scored=False)
def normal(th, key):
    return distrax().Normal(th[0], th[1]).sample(seed=key) ** 2


@row(lambda th: th[1], scored=False)
def gamma(th, key):
    return distrax().Gamma(th[1], 1.0).sample(seed=key)


@row(lambda th: jnp.exp(th[0] + th[1] ** 2 / 2), scored=False)
def transformed(th, key):
    d = distrax()
    return d.Transformed(d.Normal(th[0], th[1]), d.Lambda(jnp.exp)).sample(seed=key)
