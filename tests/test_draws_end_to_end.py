"""Every sampler of `jax.random`, however it is called, with an unbiased gradient."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.nn import sigmoid
from jax.random import bernoulli, categorical
from oracle import assert_case, assert_small, samples, truth, z_of
from programs import CONTINUOUS, DISCRETE

import jscg

KEY = random.key(19920229)
SCORE = jscg.estimators.ScoreFunction(baseline=None)
BY_NAME = {case.name: case for case in DISCRETE + CONTINUOUS}
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("case", DISCRETE, ids=str)
def test_discrete_sampler(case):
    assert_case(case, KEY, {"default": None, "score": SCORE})


@pytest.mark.parametrize("case", CONTINUOUS, ids=str)
def test_continuous_sampler(case):
    assert_case(case, KEY, {"default": None})


def test_continuous_samplers_keep_the_sample_gradient_of_jax():
    """Where plain `jax.grad` is right, jscg returns it, sample by sample."""
    for name in ["uniform", "normal", "triangular", "multivariate_normal", "laplace"]:
        case = BY_NAME[name]
        ours = jax.jit(jscg.grad_expectation(case.fun))(case.vector(), KEY)
        np.testing.assert_allclose(ours, jax.grad(case.fun)(case.vector(), KEY), rtol=1e-5)


# How a sampler is called.


def called_as_attributes(th, key):
    k1, k2 = random.split(key)
    x = jax.random.bernoulli(k1, sigmoid(th[0]))
    i = random.categorical(k2, jnp.stack([th[1], 0.0, 1.0 * x]))
    return (i - 0.4) ** 2 + x * i


def called_by_imported_name(th, key):
    k1, k2 = random.split(key)
    x = bernoulli(k1, sigmoid(th[0]))
    i = categorical(k2, jnp.stack([th[1], 0.0, 1.0 * x]))
    return (i - 0.4) ** 2 + x * i


def called_from_a_partial_and_a_container(th, key):
    from functools import partial

    samplers = {"x": partial(bernoulli, shape=()), "i": [categorical]}
    k1, k2 = random.split(key)
    x = samplers["x"](k1, sigmoid(th[0]))
    i = samplers["i"][0](k2, jnp.stack([th[1], 0.0, 1.0 * x]))
    return (i - 0.4) ** 2 + x * i


warm = jax.jit(called_by_imported_name)
warm_sampler = jax.jit(lambda k, p: bernoulli(k, p))


def called_inside_a_warm_jit(th, key):
    return warm(th, key)


def called_through_a_warm_sampler(th, key):
    k1, k2 = random.split(key)
    x = warm_sampler(k1, sigmoid(th[0]))
    i = categorical(k2, jnp.stack([th[1], 0.0, 1.0 * x]))
    return (i - 0.4) ** 2 + x * i


TH = np.array([0.3, -0.6], np.float32)


def exact_gradient():
    def exact(th):
        value = 0.0
        for x in (0.0, 1.0):
            p = sigmoid(th[0]) if x else 1 - sigmoid(th[0])
            q = jax.nn.softmax(jnp.stack([th[1], 0.0, x]))
            i = jnp.arange(3)
            value += p * q @ ((i - 0.4) ** 2 + x * i)
        return value

    return jax.grad(exact)(jnp.asarray(TH))


WAYS = [
    called_as_attributes,
    called_by_imported_name,
    called_from_a_partial_and_a_container,
    called_inside_a_warm_jit,
    called_through_a_warm_sampler,
]


@pytest.mark.parametrize("fun", WAYS, ids=lambda f: f.__name__)
def test_however_it_is_called(fun):
    warm(TH, KEY), warm_sampler(KEY, 0.3), jax.grad(warm)(TH, KEY)
    gradient = jscg.grad_expectation(fun)
    assert_small(z_of(samples(lambda k: gradient(TH, k), KEY, 50_000), exact_gradient()))
    reference = jax.jit(jscg.grad_expectation(called_as_attributes))(TH, KEY)
    np.testing.assert_allclose(jax.jit(gradient)(TH, KEY), reference, rtol=1e-6)


@pytest.mark.parametrize("fun", WAYS, ids=lambda f: f.__name__)
def test_the_program_itself_is_left_as_it_was(fun):
    """Tracing for a gradient leaves no trace behind in `jax.random` or in a jit."""
    before = fun(TH, KEY), jax.jit(fun)(TH, KEY), str(jax.make_jaxpr(fun)(TH, KEY))
    jscg.grad_expectation(fun)(TH, KEY)
    after = fun(TH, KEY), jax.jit(fun)(TH, KEY), str(jax.make_jaxpr(fun)(TH, KEY))
    assert before == after
    assert not np.any(jax.grad(fun)(TH, KEY)[:1])


def run_python(code):
    """Runs `code` in a fresh interpreter and returns what it prints as JSON last."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_imported_and_compiled_before_jscg():
    """Names bound, and jits run, before jscg exists in the process."""
    found = run_python("""
        import json, sys
        import jax, jax.numpy as jnp
        from jax.random import bernoulli, split
        import jax.random as jr

        def f(th, key):
            a, b = split(key)
            return (bernoulli(a, th) + 2.0 * jr.bernoulli(b, 1 - th) - 0.3) ** 2

        g = jax.jit(f)
        key = jr.key(0)
        f(0.3, key), g(0.3, key), jax.grad(g)(0.3, key), jax.vmap(g, (None, 0))(0.3, split(key))
        assert "jscg" not in sys.modules
        import jscg
        keys = split(key, 50_000)
        means = []
        for fun in (f, g, lambda t, k: g(t, k)):
            d = jax.jit(jax.vmap(jscg.grad_expectation(fun), (None, 0)))(0.3, keys)
            means.append([float(d.mean()), float(d.std()) / 50_000 ** 0.5])
        print(json.dumps(means))
    """)

    def exact(p):
        cost = lambda x, y: (x + 2.0 * y - 0.3) ** 2  # noqa: E731
        return p * ((1 - p) * cost(1, 1) + p * cost(1, 0)) + (1 - p) * (
            (1 - p) * cost(0, 1) + p * cost(0, 0)
        )

    truth_ = float(jax.grad(exact)(0.3))
    for mean, error in found:
        assert abs(mean - truth_) < 4.5 * error + 1e-5


# Keys.


def keys_of(kind, n):
    if kind == "legacy":
        return random.split(random.PRNGKey(3), n)
    if kind == "legacy rbg":
        with jax.default_prng_impl("rbg"):
            return random.split(random.PRNGKey(3), n)
    return random.split(random.key(3, impl=kind), n)


def typed(kind):
    return kind.replace("legacy ", "") if kind != "legacy" else "threefry2x32"


@pytest.mark.parametrize("kind", ["legacy", "legacy rbg", "threefry2x32", "rbg", "unsafe_rbg"])
def test_every_kind_of_key(kind):
    """`unsafe_rbg` splits keys into correlated ones under vmap, hence a loop of draws."""
    gradient = jscg.grad_expectation(called_as_attributes)
    with jax.default_prng_impl(typed(kind)):
        if kind == "unsafe_rbg":
            draws = jax.jit(lambda ks: jax.lax.map(lambda k: gradient(TH, k), ks))(
                keys_of(kind, 20_000)
            )
        else:
            draws = jax.jit(jax.vmap(lambda k: gradient(TH, k)))(keys_of(kind, 50_000))
    assert_small(z_of(np.asarray(draws, np.float64), exact_gradient()), kind)


def test_legacy_and_typed_keys_give_the_same_gradient():
    gradient = jax.jit(jscg.grad_expectation(called_as_attributes))
    legacy, typed_key = gradient(TH, random.PRNGKey(7)), gradient(TH, random.key(7))
    np.testing.assert_array_equal(legacy, typed_key)


X64 = ["bernoulli_raw_p", "categorical_of_logits", "poisson", "every_discrete_one_at_once"]


@pytest.mark.parametrize("name", [*X64, "normal", "wald_mean"])
def test_double_precision(name):
    case = BY_NAME[name]
    _, gradient, _ = truth(case)
    with jax.enable_x64(True):
        th = jnp.asarray(case.params, jnp.float64)
        ours = jscg.grad_expectation(case.fun)
        assert ours(th, KEY).dtype == jnp.float64
        draws = samples(lambda k: ours(th, k), KEY, 40_000)
    assert_small(z_of(draws, gradient), name)


def test_double_precision_is_used():
    """An enumerated gradient is right to double precision, not to single."""

    def fun(th, key):
        return 1.0 * random.bernoulli(key, sigmoid(th))

    with jax.enable_x64(True):
        estimators = jscg.estimators.Enumerate()
        ours = jscg.grad_expectation(fun, estimators=estimators)(jnp.float64(0.3), KEY)
        p = 1 / (1 + np.exp(-0.3))
        assert abs(float(ours) - p * (1 - p)) < 1e-14


def test_single_and_double_precision_in_one_process():
    gradient = jax.jit(jscg.grad_expectation(called_as_attributes))
    single = gradient(jnp.asarray(TH), KEY)
    with jax.enable_x64(True):
        double = gradient(jnp.asarray(TH, jnp.float64), KEY)
    again = gradient(jnp.asarray(TH), KEY)
    assert (single.dtype, double.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_array_equal(single, again)


# Probabilities that are none.


@pytest.mark.parametrize("p", [-0.2, 0.0, 1.0, 1.3, float("nan"), float("inf")])
@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
def test_probabilities_outside_the_unit_interval_do_not_crash(p, estimator):
    def fun(p, key):
        return 2.0 * random.bernoulli(key, p) + p

    value, gradient = jscg.value_and_grad_expectation(fun, estimators=estimator)(p, KEY)
    assert value.shape == gradient.shape == ()
    if 0 <= p <= 1:
        assert np.isfinite(gradient)


@pytest.mark.parametrize("logits", [[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf, 0, 0]])
def test_logits_that_are_not_finite_do_not_crash(logits):
    fun = lambda l, key: 1.0 * random.categorical(key, l)  # noqa: E731, E741
    gradient = jscg.grad_expectation(fun)(jnp.array(logits, jnp.float32), KEY)
    assert gradient.shape == (3,)
    if logits[0] == -np.inf:
        assert np.all(np.isfinite(gradient))


def test_impossible_outcomes_get_no_nan():
    """p = (0, .5, .5) in a choice, rate 0 in a poisson."""
    p = jnp.array([0.0, 0.5, 0.5])
    fun = lambda p, key: 1.0 * random.choice(key, 3, p=p)  # noqa: E731
    assert np.all(np.isfinite(jscg.grad_expectation(fun)(p, KEY)))
    rate = lambda r, key: 1.0 * random.poisson(key, r)  # noqa: E731
    assert np.isfinite(jscg.grad_expectation(rate)(1e-30, KEY))
