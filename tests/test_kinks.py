"""Kinks: right in the first derivative, refused in the second, unless it is scored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.scipy.stats import norm
from oracle import assert_small, samples, z_of

import jscg

KEY, TH = random.key(0), jnp.float32(0.3)

KINKS = {
    "max": lambda x: jnp.maximum(x, 0.0),
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "clip": lambda x: jnp.clip(x, -1.0, 1.0),
    "leaky": lambda x: jnp.where(x > 0, x, 0.1 * x),
    "median": lambda x: jnp.median(jnp.stack([x, 0.0, 1.0])),
    "checkpoint": jax.checkpoint(lambda x: jnp.abs(x) + x),
    "cond": lambda x: lax.cond(jnp.isfinite(x), jnp.abs, lambda x: x, x),
    "call": jax.jit(jnp.abs),
    "scan": lambda x: lax.scan(lambda c, _: (0.5 * jnp.maximum(c, 0.0), None), x, None, length=2)[
        0
    ],
}
SMOOTH = {
    "softplus": jax.nn.softplus,
    "logsumexp": lambda x: jax.nn.logsumexp(jnp.stack([x, 0.0])),
    "softmax": lambda x: jax.nn.softmax(jnp.stack([x, 0.0]))[0],
    "log_softmax": lambda x: jax.nn.log_softmax(jnp.stack([x, 0.0]))[0],
    "logaddexp": lambda x: jnp.logaddexp(x, 1.0),
    "gelu": jax.nn.gelu,
    "norm": lambda x: jnp.linalg.norm(jnp.stack([x, 1.0])),
    "slogdet": lambda x: jnp.linalg.slogdet(jnp.eye(2) * (1 + x**2) + 0.1)[1],
}


def program(fun):
    def cost(th, key):
        noise = random.normal(key)
        return fun(th + noise)

    return cost


def exact(fun, order):
    """Derivatives of the expectation, which is a convolution with the normal density."""
    z = jnp.linspace(-8.0, 8.0, 20_001)
    values = jax.vmap(fun)(z)
    density = lambda th: norm.pdf(z - th)  # noqa: E731
    for _ in range(order):
        density = jax.jacfwd(density)
    return jnp.trapezoid(values * density(TH), z)


@pytest.mark.parametrize("name", KINKS)
def test_the_first_derivative_is_that_through_the_sample(name):
    gradient = jax.grad(jscg.surrogate(program(KINKS[name])))
    assert_small(z_of(samples(lambda k: gradient(TH, k), KEY, 20_000), exact(KINKS[name], 1)))


WAYS = [lambda f: jax.grad(jscg.surrogate(f)), jscg.grad_expectation]


@pytest.mark.parametrize("make", WAYS, ids=["surrogate", "gradient"])
@pytest.mark.parametrize("name", KINKS)
def test_the_second_is_refused(name, make):
    with pytest.raises(jscg.JscgError, match="second derivative is taken through a kink"):
        jax.grad(make(program(KINKS[name])))(TH, KEY)


def test_the_error_shows_where():
    with pytest.raises(jscg.JscgError, match=r"kink at .*test_kinks.py:\d+"):
        jax.grad(jscg.grad_expectation(program(lambda x: jnp.abs(x))))(TH, KEY)


@pytest.mark.parametrize("name", ["max", "leaky"])
def test_scored_with_its_density_it_is_right(name):
    score = {"noise": jscg.estimators.ScoreFunction()}
    second = jax.grad(jax.grad(jscg.surrogate(program(KINKS[name]), estimators=score)))
    assert_small(z_of(samples(lambda k: second(TH, k), KEY, 40_000), exact(KINKS[name], 2)))


@pytest.mark.parametrize("make", WAYS, ids=["surrogate", "gradient"])
@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_smooth_has_a_second(name, make):
    second = jax.grad(make(program(SMOOTH[name])))
    assert_small(z_of(samples(lambda k: second(TH, k), KEY, 20_000), exact(SMOOTH[name], 2)))


def test_who_knows_better_says_so():
    """x * abs(x) has a derivative without a jump."""
    fun = lambda x: x * jnp.abs(x)  # noqa: E731
    with pytest.raises(jscg.JscgError, match="allow_jumps"):
        jax.grad(jscg.grad_expectation(program(fun)))(TH, KEY)
    sure = {"noise": jscg.estimators.Pathwise(allow_jumps=True)}
    second = jax.grad(jax.grad(jscg.surrogate(program(fun), estimators=sure)))
    assert_small(z_of(samples(lambda k: second(TH, k), KEY, 20_000), exact(fun, 2)))


def test_kinks_without_noise_or_without_parameters_have_a_second():
    def cost(th, key):
        noise, bit = random.normal(key), random.bernoulli(random.fold_in(key, 1), th)
        return jnp.abs(th) ** 3 + th**2 * jnp.abs(noise) + jnp.maximum(th + bit, 0.0)

    second = jax.grad(jax.grad(jscg.surrogate(cost)))
    assert np.isfinite(second(TH, KEY))


CUTS = {
    "sqrt": lambda z: jnp.imag(jnp.sqrt(z)),
    "log": lambda z: jnp.imag(jnp.log(z)),
    "power": lambda z: jnp.imag(z**0.3),
}


@pytest.mark.parametrize("name", CUTS)
def test_roots_of_complex_numbers_jump(name):
    """Where they cross the negative axis; the noise is scored with its density."""
    fun = lambda x: CUTS[name](-0.8 + 0.5j * x)  # noqa: E731
    gradient = jax.grad(jscg.surrogate(program(fun)))
    assert_small(z_of(samples(lambda k: gradient(TH, k), KEY, 20_000), exact(fun, 1)))
