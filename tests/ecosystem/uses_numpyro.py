"""NumPyro distributions."""

import itertools

import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid, softmax
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm
from table import (
    WORTH,
    of_bernoulli,
    of_beta,
    of_class,
    of_gamma_log_prob,
    of_geometric,
    of_mixture,
    of_poisson,
    of_square,
    of_two_normals,
    table_of,
    three,
)

row = table_of("numpyro")


def dist():
    import numpyro.distributions

    return numpyro.distributions


@row(of_bernoulli)
def bernoulli_logits(th, key):
    return dist().Bernoulli(logits=th[0]).sample(key) * th[1]


@row(lambda th: 4 * sigmoid(th[0]) * (2 + th[1]) / 2)
def bernoulli_probs_of_a_shape(th, key):
    x = dist().Bernoulli(probs=sigmoid(th[0]) * jnp.ones(2)).sample(key, (2,))
    return jnp.sum(x) + th[1] * x[0, 0] + th[1] * x[1, 1]


@row(of_class)
def categorical_logits(th, key):
    return WORTH[dist().Categorical(logits=three(th)).sample(key)]


@row(of_class)
def categorical_probs(th, key):
    return WORTH[dist().Categorical(probs=softmax(three(th))).sample(key)]


@row(of_poisson)
def poisson(th, key):
    return dist().Poisson(jnp.exp(th[0])).sample(key) * th[1]


@row(of_geometric)
def geometric(th, key):
    return dist().Geometric(probs=th[1]).sample(key) * th[0]


@row(None)
def binomial(th, key):
    return dist().Binomial(5, probs=th[1]).sample(key) * th[0]


@row(lambda th: 4 * of_class(th))
def multinomial(th, key):
    return dist().Multinomial(4, probs=softmax(three(th))).sample(key) @ WORTH


@row(lambda th: th[0] * th[1])
def negative_binomial(th, key):
    return dist().NegativeBinomial2(th[1], 2.0).sample(key) * th[0]


@row(of_mixture)
def mixture(th, key):
    return of_two_normals(dist(), th).sample(key) * th[1]


@row(lambda th: (1 - th[1]) * jnp.exp(th[0]))
def zero_inflated(th, key):
    return 1.0 * dist().ZeroInflatedPoisson(th[1], jnp.exp(th[0])).sample(key)


@row(lambda th: 2 - sigmoid(th[1] - th[0]) - sigmoid(2.0 - th[0]))
def ordered_logistic(th, key):
    cuts = jnp.stack([th[1], 2.0 + 0 * th[1]])
    return 1.0 * dist().OrderedLogistic(th[0], cuts).sample(key)


@row(of_square, scored=False)
def normal(th, key):
    return dist().Normal(th[0], th[1]).sample(key) ** 2


@row(of_gamma_log_prob, scored=False)
def gamma_and_its_log_prob(th, key):
    d = dist()
    return d.Gamma(2.0, 1.0).log_prob(d.Gamma(th[1], 1.0).sample(key))


@row(of_beta, scored=False)
def beta(th, key):
    return dist().Beta(th[0], th[1]).sample(key)


@row(lambda th: 0.2876 * th[0], scored=False)
def truncated_normal(th, key):
    return dist().TruncatedNormal(0.0, 1.0, low=-1.0).sample(key) * th[0]


@row(lambda th: of_bernoulli(th) + th[0])
def a_model_under_handlers(th, key):
    import numpyro

    def model():
        x = numpyro.sample("x", dist().Bernoulli(logits=th[0]))
        return numpyro.sample("y", dist().Normal(th[0] + th[1] * x, 1.0))

    return numpyro.handlers.seed(model, key)()


SEEN = 0.5


def of_renyi_bound(th):
    """Of three particles, each of one Bernoulli latent."""
    z = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))
    log_q = z * log_sigmoid(th[0]) + (1 - z) * log_sigmoid(-th[0])
    log_p = jnp.log(jnp.where(z == 1, 0.3, 0.7)) + norm.logpdf(SEEN, 2.0 * z * th[1])
    bound = logsumexp(log_p - log_q, -1) - jnp.log(3.0)
    return -jnp.sum(jnp.exp(jnp.sum(log_q, -1)) * bound)


@row(of_renyi_bound)
def renyi_bound(th, key):
    """Its particles have VIMCO's baseline, of which NumPyro knows nothing."""
    import numpyro

    def model():
        z = numpyro.sample("z", dist().Bernoulli(0.3))
        numpyro.sample("x", dist().Normal(2.0 * z * th[1], 1.0), obs=SEEN)

    def guide():
        numpyro.sample("z", dist().Bernoulli(logits=th[0]))

    return numpyro.infer.RenyiELBO(alpha=0.0, num_particles=3).loss(key, {}, model, guide)
