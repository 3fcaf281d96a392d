"""Parameters of every precision, and products of matrices of every precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import QUICK, assert_small, ber, grid, total, z_of

import jscg

KEY = random.key(0)
X = np.linspace(-1.0, 0.9375, 32)
TH = 0.75
SCORE = jscg.estimators.ScoreFunction()
FITTED = jscg.estimators.Auto(compares_draws=False)  # with baselines fitted over the batch
ESTIMATORS = {"default": None, "fitted": FITTED, "leave-one-out": SCORE}


def layers(th, key):
    """Two layers over a batch, with costs that are numbers of bfloat16, too."""
    k1, k2 = random.split(key)
    # `jax.random.bernoulli` rounds a probability of bfloat16 to 1/128, and so does the derivative
    # of a product in bfloat16 round each example's part of the gradient.
    wide = th.astype(jnp.promote_types(th.dtype, jnp.float32))
    x = wide * jnp.asarray(X, wide.dtype)
    low = random.bernoulli(k1, sigmoid(x)).astype(th.dtype)
    high = random.bernoulli(k2, sigmoid(x - low)).astype(th.dtype)
    return jnp.mean(2 * low + (1 + low + high) ** 2 + 60)


def exact_layers(th):
    def of_one(x):
        def term(outcome):
            low, high = outcome
            p = ber(sigmoid(th * x), low) * ber(sigmoid(th * x - low), high)
            return p * (2 * low + (1 + low + high) ** 2 + 60)

        return total(term, grid(2, 2))

    return jnp.mean(jax.vmap(of_one)(jnp.asarray(X)))


def steps(th, key):
    """A policy in a loop."""

    def step(place, key):
        up = random.bernoulli(key, sigmoid(wide * place))
        place = (place + up) / 2
        return place, place

    wide = th.astype(jnp.promote_types(th.dtype, jnp.float32))
    start = jnp.asarray([0.5, -0.5], th.dtype)
    _, costs = lax.scan(step, start, random.split(key, 2))
    return jnp.sum(costs)


def exact_steps(th):
    def of_one(start):
        def term(outcome):
            first = (start + outcome[0]) / 2
            second = (first + outcome[1]) / 2
            p = ber(sigmoid(th * start), outcome[0]) * ber(sigmoid(th * first), outcome[1])
            return p * (first + second)

        return total(term, grid(2, 2))

    return of_one(0.5) + of_one(-0.5)


PROGRAMS = {"layers": (layers, exact_layers), "steps": (steps, exact_steps)}


@functools.cache
def exact_gradient(name):
    with jax.enable_x64(True):
        return float(jax.grad(PROGRAMS[name][1])(TH))


def samples(name, dtype, n=5_000, **options):
    gradient = jscg.grad_expectation(PROGRAMS[name][0], **options)
    run = jax.jit(jax.vmap(gradient, (None, 0)), compiler_options=QUICK)
    found = run(jnp.asarray(TH, dtype), random.split(KEY, n))
    assert found.dtype == dtype
    return np.asarray(found, np.float64)


CASES = [(name, e) for name in PROGRAMS for e in ESTIMATORS if (name, e) != ("steps", "fitted")]


@pytest.mark.parametrize("name, estimator", CASES)
def test_bfloat16_is_unbiased_and_as_good_as_float32(name, estimator):
    """The sums of weights and baselines are those of float32: the variance is the same.

    All costs have 60 in common, of which the baselines leave nothing; in sums of bfloat16 a
    rounding of such numbers would be all that is left.
    """
    options = {"estimators": ESTIMATORS[estimator]}
    low = samples(name, jnp.bfloat16, **options)
    high = samples(name, jnp.float32, **options)
    exact = exact_gradient(name)
    # The result is rounded to bfloat16 itself.
    exact += np.clip(low.mean() - exact, -abs(exact) / 512, abs(exact) / 512)
    assert_small(z_of(low, exact), "bfloat16")
    assert_small(z_of(high, exact_gradient(name)), "float32")
    assert low.var() == pytest.approx(high.var(), rel=0.05)


@pytest.mark.parametrize("name", PROGRAMS)
def test_float64(name):
    with jax.enable_x64(True):
        found = samples(name, jnp.float64)
    assert_small(z_of(found, exact_gradient(name)), "float64")


def test_float64_all_the_way():
    """Where nothing is left to chance all digits are right."""

    def fun(th, key):
        return 3.0 * random.bernoulli(key, sigmoid(th))

    with jax.enable_x64(True):
        got = jscg.grad_expectation(fun)(jnp.float64(TH), KEY)
        p = 1 / (1 + np.exp(-np.float64(TH)))
        assert got == pytest.approx(3 * p * (1 - p), rel=1e-14)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", None])
@pytest.mark.parametrize("x64", [False, True])
def test_dtypes_are_those_of_jax_grad(dtype, x64):
    """Also of several parameters of different dtypes, and of Python's floats."""

    def fun(params, key):
        x = random.bernoulli(key, jnp.asarray(params["p"], jnp.float32))
        return jnp.sum(x * params["p"] * params["q"]).astype(jnp.float32)

    with jax.enable_x64(x64):
        p = 0.5 if dtype is None else jnp.full(3, 0.5, jax.dtypes.canonicalize_dtype(dtype))
        params = {"p": p, "q": jnp.float32(2.0)}
        want = jax.eval_shape(jax.grad(fun), params, KEY)
        got = jax.eval_shape(jscg.grad_expectation(fun), params, KEY)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(
        lambda a: (a.shape, a.dtype), want
    )


# Products of matrices: those of the user have the precision that the user says; what baselines are
# fitted by are statistics, and have the highest.

SETTINGS = ["bfloat16", "tensorfloat32", "highest"]


def products(jaxpr):
    """All `dot_general` equations, those within others included."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield eqn
        for sub in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            if hasattr(sub, "eqns") or hasattr(sub, "jaxpr"):
                yield from products(getattr(sub, "jaxpr", sub))


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("setting", SETTINGS)
def test_our_own_products_have_the_highest_precision(setting, samples):
    gradient = jscg.grad_expectation(layers, num_samples=samples, estimators=FITTED)
    with jax.default_matmul_precision(setting):
        jaxpr = jax.make_jaxpr(gradient)(jnp.float32(TH), KEY)
    found = [eqn.params["precision"] for eqn in products(jaxpr.jaxpr)]
    assert len(found) >= 3  # the program has none
    assert set(found) == {(lax.Precision.HIGHEST, lax.Precision.HIGHEST)}


def test_samples_do_not_change_with_the_precision_of_products():
    found = []
    for setting in SETTINGS:
        with jax.default_matmul_precision(setting):
            found.append(samples("layers", jnp.float32, n=100, estimators=FITTED))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_products_of_the_user_keep_their_precision():
    """In loops that are taken apart as well, where products are laid out anew."""
    chosen = lax.Precision.HIGH, lax.Precision.HIGH

    def fun(w, key):
        def step(state, key):
            logits = jnp.dot(state, w, precision="high")
            up = random.bernoulli(key, sigmoid(logits)).astype(w.dtype)
            return 0.5 * state + up, jnp.sum(up)

        _, costs = lax.scan(step, jnp.ones((4, 3)), random.split(key, 3))
        return jnp.mean(costs**2)

    with jax.default_matmul_precision("bfloat16"):
        jaxpr = jax.make_jaxpr(jscg.grad_expectation(fun, estimators=SCORE))(jnp.eye(3), KEY)
    found = {eqn.params["precision"] for eqn in products(jaxpr.jaxpr)}
    assert found == {chosen}
