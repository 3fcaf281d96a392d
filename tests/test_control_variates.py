"""`jscg.control_variate`: RELAX, its mean, its variance, what it learns, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax, random
from jax.nn import log_softmax, one_hot, sigmoid
from oracle import BOUND, ber, cat, grid, samples, total, z_of

import jscg
from jscg.estimators import ScoreFunction

pytestmark = pytest.mark.slow

KEY = random.key(2018)
TH = jnp.array([0.4, -0.6, 0.9])
SCORE = ScoreFunction(None)
W = jnp.array([0.5, -1.0, 2.0])


def bernoulli(params, key):
    """A batch of rows with costs of their own, and a draw below."""
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(params["th"]), (4, 3))
    half = lambda r: jnp.exp((r + lax.stop_gradient(r)) @ W / 2)  # noqa: E731
    x = jscg.control_variate(x, lambda r: params["c"] * half(r))
    y = random.bernoulli(k2, sigmoid(x @ W * params["th"][0]))
    return jnp.mean(jnp.exp(x @ W) + 3.0 * y * x[:, 0])


def exact_bernoulli(th):
    def term(o):
        y = sigmoid(o @ W * th[0])
        return ber(sigmoid(th), o) * (jnp.exp(o @ W) + 3 * y * o[0])

    return total(term, grid(2, 2, 2))


def categorical(params, key):
    """In a loop; the control variate has a value for every element."""

    def step(total, k):
        x = random.categorical(k, params["th"], shape=(2,))
        each = lambda r: params["c"] * 3 * jnp.exp(log_softmax(3 * r)[..., 2])  # noqa: E731
        x = jscg.control_variate(x, each, num_classes=3)
        return total + jnp.prod(1.5 + jnp.tanh(one_hot(x, 3) @ W)), None

    return lax.scan(step, 0.0, random.split(key, 2))[0]


def exact_categorical(th):
    def term(o):
        return cat(th, o[0]) * cat(th, o[1]) * jnp.prod(1.5 + jnp.tanh(W[o]))

    return 2 * total(term, grid(3, 3))


PROGRAMS = {
    "bernoulli": (bernoulli, exact_bernoulli),
    "categorical": (categorical, exact_categorical),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_unbiased_to_second_order_and_of_less_variance(name):
    fun, exact = PROGRAMS[name]
    s = jscg.surrogate(lambda th, c, key: fun({"th": th, "c": c}, key), estimators=SCORE)
    g = jax.grad(s)
    runs = lambda k: (g(TH, 0.0, k), g(TH, 0.8, k), jax.jacfwd(g)(TH, 0.8, k))  # noqa: E731
    without, first, second = samples(runs, KEY, 40_000)
    assert np.all(np.abs(z_of(first, jax.grad(exact)(TH))) < BOUND)
    assert np.all(np.abs(z_of(second, jax.hessian(exact)(TH))) < BOUND)
    assert np.sum(first.var(0)) < 0.8 * np.sum(without.var(0))


def test_it_is_the_estimator_of_the_paper():
    """Of one draw, against the formula at the same noise, by what it must be at every sample."""

    def loss(th, key):
        x = jscg.control_variate(random.bernoulli(key, sigmoid(th)), lambda r: 2.0 * r**2)
        return (x - 0.3) ** 2

    def formula(th, u, x):
        p, temperature = sigmoid(th), 0.5
        noise = jnp.log(u) - jnp.log1p(-u)

        def free(th):
            return th + noise

        def given(th):  # noise drawn given x
            v = lax.stop_gradient(jnp.where(x, (u - (1 - p)) / p, u / (1 - p)))
            u_ = jnp.where(x, (1 - sigmoid(th)) + v * sigmoid(th), v * (1 - sigmoid(th)))
            return th + jnp.log(u_) - jnp.log1p(-u_)

        c = lambda z: 2.0 * sigmoid(z / temperature) ** 2  # noqa: E731
        slope = jax.grad(lambda th: c(free(th)))(th) - jax.grad(lambda th: c(given(th)))(th)
        return ((x - 0.3) ** 2 - c(free(th))) * (x - p) + slope

    u = (jnp.arange(200_000) + 0.5) / 200_000
    reference = jax.vmap(formula, (None, 0, 0))(0.4, u, (u > sigmoid(-0.4)).astype(float))
    gradient = jscg.grad_expectation(loss, estimators=SCORE)
    found = samples(lambda k: gradient(0.4, k), KEY, 100_000)
    assert abs(z_of(found, float(reference.mean()))) < BOUND
    np.testing.assert_allclose(found.std(), float(reference.std()), rtol=0.02)


def test_it_learns_the_gradient_of_the_variance():
    """One leaf, compared with a difference of measured second moments of the logits' gradient."""

    def loss(params, key):
        x = random.bernoulli(key, sigmoid(params["th"]), (2,))
        c = lambda r: params["c"] * jnp.exp(jnp.sum(r))  # noqa: E731
        return jnp.exp(1.0 * jnp.sum(jscg.control_variate(x, c)))

    gradient = jscg.grad_expectation(loss, estimators=SCORE)

    def second_moment(c, key):
        return jnp.sum(gradient({"th": TH[:2], "c": c}, key)["th"] ** 2)

    c, step = 0.3, 0.05
    found = samples(
        lambda k: (
            gradient({"th": TH[:2], "c": c}, k)["c"],
            (second_moment(c + step, k) - second_moment(c - step, k)) / (2 * step),
        ),
        KEY,
        60_000,
    )
    assert abs(z_of(found[0] - found[1], 0.0)) < BOUND
    assert abs(found[1].mean()) > 20 * found[1].std() / np.sqrt(len(found[1]))


def test_it_is_trained_through_the_gradient_tree():
    def loss(params, key):
        x = random.bernoulli(key, sigmoid(params["th"]), (16, 3))

        def c(r):
            hidden = jnp.tanh(r @ params["c"]["in"] + params["c"]["bias"])
            return hidden @ params["c"]["out"]

        return jnp.mean(jnp.exp(jscg.control_variate(x, c) @ W))

    net = {"in": random.normal(KEY, (3, 8)), "bias": jnp.zeros(8), "out": jnp.zeros(8)}
    params = {"th": TH, "c": net}
    gradient = jscg.grad_expectation(loss, estimators=SCORE)
    optimiser = optax.adam(3e-2)

    def train(carry, key):
        net, state = carry
        g = gradient({"th": TH, "c": net}, key)["c"]
        updates, state = optimiser.update(g, state)
        return (optax.apply_updates(net, updates), state), None

    start = (net, optimiser.init(net))
    (trained, _), _ = jax.jit(lambda: lax.scan(train, start, random.split(KEY, 400)))()
    spread = lambda net: samples(  # noqa: E731
        lambda k: gradient({**params, "c": net}, k)["th"], KEY, 1_000
    ).var(0)
    assert np.sum(spread(trained)) < 0.3 * np.sum(spread(net))


# Refused.


def marked(c, draw=lambda k: random.bernoulli(k, sigmoid(TH[0]), (3, 2)), **options):
    def loss(th, key):
        x = random.bernoulli(key, sigmoid(th[0]), (3, 2)) if draw is None else draw(th, key)
        return jnp.mean(jscg.control_variate(x, lambda r: c(r, x), **options) * 1.0)

    return loss


REFUSED = {
    "rows that mix": (marked(lambda r, x: jnp.cumsum(jnp.sum(r, -1)), None), "other elements"),
    "the draw itself": (marked(lambda r, x: jnp.sum(r * x, -1), None), "besides the relaxed"),
    "a draw within": (
        marked(lambda r, x: jnp.sum(r) * random.normal(KEY) + random.bernoulli(KEY, r[0, 0]), None),
        "draws itself",
    ),
    "a jump": (marked(lambda r, x: jnp.sum(jnp.where(r > 0.5, r, 0.0), -1), None), "jumps in 'gt'"),
    "a jump in a loop": (
        marked(lambda r, x: lax.scan(lambda t, v: (t + jnp.round(v), None), r[0], r)[0][0], None),
        "jumps in 'round'",
    ),
    "a draw in a loop within": (
        marked(
            lambda r, x: lax.scan(
                lambda t, k: (t + random.bernoulli(k, r[0, 0]), None), r[0, 0], random.split(KEY, 2)
            )[0],
            None,
        ),
        "draws itself",
    ),
    "classes": (
        marked(lambda r, x: jnp.sum(r), lambda th, k: random.categorical(k, th), num_classes=2),
        "the draw has 3 outcomes",
    ),
    "no support": (
        marked(lambda r, x: jnp.sum(r), lambda th, k: random.poisson(k, th[0]), num_classes=2),
        "no relaxed sample",
    ),
    "no classes": (
        marked(lambda r, x: jnp.sum(r), lambda th, k: random.categorical(k, th)),
        "num_classes=None",
    ),
    "a baseline as well": (
        marked(
            lambda r, x: jnp.sum(r, -1),
            lambda th, k: jscg.baseline(random.bernoulli(k, sigmoid(th[0]), (3, 2)), 1.0),
        ),
        "a baseline and a control variate",
    ),
    "no draw": (marked(lambda r, x: jnp.sum(r), lambda th, k: th > 0), "not a drawn value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    fun, why = REFUSED[name]
    with pytest.raises(jscg.JscgError, match=why):
        jscg.grad_expectation(fun, estimators=SCORE)(TH, KEY)


def test_outside_of_jscg_it_is_the_draw():
    x = random.bernoulli(KEY, 0.5, (3,))
    marked = jax.jit(lambda x: jscg.control_variate(x, jnp.sum))(x)
    assert jnp.all(marked == x)
    assert jnp.all(jax.vmap(lambda x: jscg.control_variate(x, lambda r: r * 1.0))(x) == x)
