"""Samples in chunks: the gradient of all at once, with the memory of one chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from oracle import QUICK, ber, grid, samples, total, z_of

import jscg
from jscg import estimators

pytestmark = pytest.mark.slow

KEY = random.key(0)
P = jnp.array([0.4, -0.7])


def in_a_loop(p, key):
    """Draws that depend on each other; costs of every step, of the end, and of a later draw."""
    k1, k2, k3 = random.split(key, 3)

    def step(x, k):
        y = random.bernoulli(k, jax.nn.sigmoid(p[0] + x)).astype(float)
        x = 0.5 * x + p[1] * y
        return x, jnp.sin(3 * x)

    x, costs = lax.scan(step, 0.3, random.split(k1, 4))
    z = lax.cond(x > 0, lambda: random.bernoulli(k2, jax.nn.sigmoid(p[0])), lambda: False)
    i = random.categorical(k3, jnp.stack([x, p[0], 0.0]))
    return jnp.sum(costs) + x**2 + z * x + jnp.cos(2.0 * i + x), {"x": x, "costs": costs}


def several_costs_in_a_loop(p, key):
    """A sum that is carried, in which a branch adds to what a draw adds."""

    def step(x, key):
        x += lax.cond(x > 0, jax.nn.sigmoid, jnp.sin, x)
        return x + random.bernoulli(key, jax.nn.sigmoid(p[0] * x)), x

    _, costs = lax.scan(step, p[1], random.split(key, 3))
    return jnp.sum(costs), {"costs": costs}


def with_a_batch(p, key):
    """Units with costs of their own, behind units that they share."""
    k1, k2 = random.split(key)
    a = random.bernoulli(k1, jax.nn.sigmoid(p * jnp.ones((3, 2)))).astype(float)
    b = random.bernoulli(k2, jax.nn.sigmoid(a * p[0] + 0.3)).astype(float)
    return jnp.mean(jnp.sum((a + b - p) ** 2, 1) * jnp.sum(b, 1)), {"a": a}


def pathwise(p, key):
    z = p[0] + jnp.exp(p[1]) * random.normal(key)
    return jnp.sin(z), {"z": z}


def entropy(p, key):
    x = random.bernoulli(key, jax.nn.sigmoid(p))
    logits = jnp.where(x, p, -p)
    return jnp.sum(jax.nn.log_sigmoid(logits)), {"x": x}


def convolved(p, key):
    x = random.bernoulli(key, jax.nn.sigmoid(p[0]), (6,)).astype(float)
    return jnp.sum(jnp.convolve(x, jnp.array([1.0, p[1], 0.5])) ** 2), {"x": x}


def in_a_row(p, key):
    x = random.bernoulli(key, jax.nn.sigmoid(p[0]), (6,)).astype(float)
    return jnp.exp(jnp.sum(x) * p[1])


def in_rows(p, key):
    x = random.bernoulli(key, jax.nn.sigmoid(p[0] * jnp.linspace(1, 2, 16)[:, None]), (16, 6))
    return jnp.mean(jnp.exp(jnp.sum(x.astype(float), -1) * p[1]))


SCORE = estimators.ScoreFunction()
CASES = {
    "loop, leave-one-out": (in_a_loop, SCORE),
    "loop, no baseline": (in_a_loop, estimators.ScoreFunction(baseline=None)),
    "loop, default": (in_a_loop, None),
    "costs in a loop": (several_costs_in_a_loop, SCORE),
    "batch, leave-one-out": (with_a_batch, SCORE),
    "batch, default": (with_a_batch, estimators.Auto(fits=False)),
    "batch, compared": (with_a_batch, estimators.DisARM()),
    "convolution, default": (convolved, None),
    "pathwise": (pathwise, None),
    "enumerated": (entropy, estimators.Enumerate()),
}


def assert_close(a, b):
    def close(x, y):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * float(np.max(np.abs(y))))

    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(close, a, b)


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_all_samples_at_once(name):
    fun, estimator = CASES[name]

    def of(**options):
        call = jscg.value_and_grad_expectation(
            fun, has_aux=True, num_samples=12, estimators=estimator, **options
        )
        return jax.jit(call, compiler_options=QUICK)(P, KEY)

    assert_close(of(chunk_size=4), of())


@pytest.mark.parametrize("fun", [lambda p, key: in_a_row(p, key), lambda p, key: in_rows(p, key)])
def test_leave_one_out_baselines_in_the_place_of_those_at_the_means(fun):
    """If samples are run at once, the default fits baselines to 16 or more, and to a batch."""

    def of(estimator, **options):
        call = jscg.grad_expectation(fun, num_samples=64, estimators=estimator, **options)
        return jax.jit(call, compiler_options=QUICK)(P, KEY)

    fitted, plain = (
        estimators.Auto(compares_draws=False, mean_field=more) for more in (True, False)
    )
    assert np.any(np.abs(of(fitted) - of(plain)) > 1e-3)
    assert_close(of(fitted, chunk_size=32), of(plain))


def test_structures_of_arguments_and_under_transformations():
    def cost(params, scale, key, times):
        x = random.bernoulli(key, jax.nn.sigmoid(params["a"]), (2,))
        return times * scale * jnp.sum(x) ** 2 * params["b"]

    options = {"argnums": (1, 0), "num_samples": 6, "key_argnums": 2, "estimators": SCORE}
    args = ({"a": 0.3, "b": jnp.float16(2.0)}, jnp.float32(0.7), random.PRNGKey(1), 3)
    whole = jscg.grad_expectation(cost, **options)
    chunked = jscg.grad_expectation(cost, chunk_size=2, **options)
    by_scale, by_params = chunked(*args)
    assert by_params["b"].dtype == jnp.float16
    expected = whole(*args)
    np.testing.assert_allclose(by_scale, expected[0], rtol=1e-5)
    np.testing.assert_allclose(by_params["a"], expected[1]["a"], rtol=1e-5)
    np.testing.assert_allclose(by_params["b"], expected[1]["b"], rtol=2e-3)
    keys = random.split(random.PRNGKey(1), 2)
    each = jax.vmap(lambda k, s: chunked(args[0], s, k, 3))(keys, jnp.array([0.7, 2.0]))
    np.testing.assert_allclose(each[1]["a"][1], whole(args[0], 2.0, keys[1], 3)[1]["a"], rtol=1e-5)


def test_the_mean_is_right():
    def cost(p, key):
        x = random.bernoulli(key, jax.nn.sigmoid(p), (3,)).astype(float)
        return (x[0] + 2 * x[1] * x[2] - 1.5) ** 2 * p

    def exact(p):
        return total(
            lambda x: ber(jax.nn.sigmoid(p), x) * (x[0] + 2 * x[1] * x[2] - 1.5) ** 2 * p,
            grid(2, 2, 2),
        )

    call = jscg.grad_expectation(cost, num_samples=4, chunk_size=2, estimators=SCORE)
    found = samples(lambda key: call(0.4, key), KEY, 20_000)
    assert abs(z_of(found, jax.grad(exact)(0.4))) < 4.5


def test_memory_is_that_of_a_chunk():
    def temporary(**options):
        call = jscg.grad_expectation(
            in_a_loop, has_aux=True, num_samples=4096, estimators=SCORE, **options
        )
        cost_only = jax.jit(lambda p, key: call(p, key)[0], compiler_options=QUICK)
        return cost_only.lower(P, KEY).compile().memory_analysis().temp_size_in_bytes

    # The split keys are there in any case.
    assert temporary(chunk_size=64) < temporary() / 4


def test_second_derivatives_are_refused_where_they_would_be_wrong():
    def grad_of(fun, estimator):
        call = jscg.grad_expectation(
            lambda p, key: fun(p, key)[0], num_samples=4, chunk_size=2, estimators=estimator
        )
        return jax.jacobian(lambda p: call(p, KEY))(P)

    with pytest.raises(jscg.JscgError, match="chunk_size"):
        grad_of(entropy, SCORE)
    whole = jscg.grad_expectation(lambda p, key: pathwise(p, key)[0], num_samples=4)
    assert_close(grad_of(pathwise, None), jax.jacobian(lambda p: whole(p, KEY))(P))


def fitted(p, key):
    x = random.bernoulli(key, jax.nn.sigmoid(p), (2,)).astype(float)
    return jnp.sum(x * p) + jnp.prod(x + p)


@pytest.mark.parametrize(
    ("fun", "options", "said"),
    [
        (
            fitted,
            {
                "num_samples": 64,
                "chunk_size": 8,
                "estimators": estimators.Auto(compares_draws=False),
            },
            "fitted by regression",
        ),
        (
            fitted,
            {
                "num_samples": 4,
                "chunk_size": 2,
                "estimators": estimators.ScoreFunction(baseline="optimal"),
            },
            "optimal",
        ),
        (fitted, {"num_samples": 10, "chunk_size": 4}, "does not divide"),
        (fitted, {"num_samples": 4, "chunk_size": 1}, "at least 2"),
        (fitted, {"num_samples": 4, "chunk_size": 2.0}, "chunk_size must be an integer"),
    ],
)
def test_what_would_not_be_the_same_is_refused(fun, options, said):
    with pytest.raises((jscg.JscgError, TypeError), match=said):
        jscg.grad_expectation(fun, **options)(P, KEY)


def test_effects_do_not_happen_twice():
    seen = []

    def cost(p, key):
        x = random.bernoulli(key, jax.nn.sigmoid(p[0]))
        jax.debug.callback(lambda x: seen.append(bool(x)), x)
        return x * p[1]

    jscg.grad_expectation(cost, num_samples=4, chunk_size=2, estimators=SCORE)(P, KEY)
    jax.effects_barrier()
    assert len(seen) == 4
