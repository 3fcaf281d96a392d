"""Fitted baselines: exactly unbiased to second order, whatever the other cells do; and better."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from oracle import gradient, with_jacobian

import jscg
from jscg import _fitted, _regression, _rewrite

pytestmark = pytest.mark.slow

THETA = jnp.array([0.3, -0.4, 0.2, 0.5, -0.7])


def log_prob(logits, x):
    return x * log_sigmoid(logits) + (1 - x) * log_sigmoid(-logits)


def chain(theta, rows, key, b=None):
    """Two layers of one unit: own log-probs, a cost of both, and terms further up."""
    k1, k2 = random.split(key)
    l1 = theta[0] + theta[1] * rows
    x1 = random.bernoulli(k1, sigmoid(l1)).astype(float)
    l2 = theta[2] + theta[3] * x1 * (1 + rows)
    x2 = random.bernoulli(k2, sigmoid(l2)).astype(float)
    if b is not None:
        x2 = jscg.baseline(x2, b * theta[4] + x1)
    cost = log_prob(l1, x1) + log_prob(l2, x2) + jnp.cos(theta[4] * x1 + rows)
    return jnp.mean(cost + jnp.exp(theta[4] * x2 * (2 * x1 - 1) + x1 * rows))


def exact(theta, rows):
    bits = jnp.array([0.0, 1.0])
    l1 = (theta[0] + theta[1] * rows)[:, None]
    q1 = jnp.exp(log_prob(l1, bits))  # [rows, x1]
    l2 = theta[2] + theta[3] * bits * (1 + rows[:, None])  # [rows, x1]
    q2 = jnp.exp(log_prob(l2[..., None], bits))  # [rows, x1, x2]
    above = log_prob(l1, bits) + jnp.cos(theta[4] * bits + rows[:, None])
    joint = jnp.exp(theta[4] * bits * (2 * bits[:, None] - 1) + bits[:, None] * rows[:, None, None])
    inner = above + jnp.sum(q2 * (log_prob(l2[..., None], bits) + joint), -1)
    return jnp.mean(jnp.sum(q1 * inner, -1))


@pytest.fixture
def small(monkeypatch):
    """Lets batches be so small that all their outcomes can be listed."""
    monkeypatch.setattr(_fitted, "LEAST_GROUPS", 2)
    monkeypatch.setattr(_fitted, "CELLS_FOR_EACH_PREDICTOR", 0)


def joint(theta, rows, x1, x2):
    """The probability of all draws."""
    first = log_prob(theta[0] + theta[1] * rows, x1)
    second = log_prob(theta[2] + theta[3] * x1 * (1 + rows), x2)
    return jnp.exp(jnp.sum(first + second))


def mean_over_outcomes(monkeypatch, fun, theta, rows, shape):
    """The exact mean of fun(theta) over all values of the two draws of `chain`."""
    size = int(np.prod(shape))
    bits = np.array(list(itertools.product([False, True], repeat=2 * size)))

    def at(flat):
        drawn = flat[:size].reshape(shape), flat[size:].reshape(shape)
        left = iter(drawn)
        with monkeypatch.context() as patch:
            patch.setattr(_rewrite, "replay", lambda *args, **params: next(left))
            value = fun(theta)
        return value, joint(theta, rows, *(x.astype(theta.dtype) for x in drawn))

    values, probs = jax.jit(jax.vmap(at))(jnp.asarray(bits))
    return jax.tree.map(lambda each: jnp.tensordot(probs, each, 1), values)


SCORES = jscg.estimators.ScoreFunction(baseline=None)
UPSTREAM = jscg.estimators.Auto(upstream=True)
CASES = {
    "over a batch": (1, 5, None),
    "over samples and a batch": (2, 3, None),
    "with one of the user": (1, 5, 1.5),
}


@pytest.mark.parametrize(
    "case, estimators", [*((c, UPSTREAM) for c in CASES), ("over samples and a batch", None)]
)
def test_exactly_unbiased_to_second_order(case, estimators, small, monkeypatch):
    samples, size, b = CASES[case]
    rows = jnp.linspace(-0.5, 0.8, size)

    def fun(theta, key):
        return chain(theta, rows, key, b)

    s = jscg.surrogate(fun, num_samples=samples, estimators=estimators)
    derivatives = with_jacobian(lambda theta: jax.grad(s)(theta, random.key(0)))
    shape = (samples, size) if samples > 1 else (size,)
    with jax.enable_x64(True):
        theta = jnp.asarray(THETA, jnp.float64)
        rows = rows.astype(jnp.float64)
        first, second = mean_over_outcomes(monkeypatch, derivatives, theta, rows, shape)
        active = slice(0, 4 if b else 5)  # theta[4] also learns the baseline of the user
        np.testing.assert_allclose(
            first[active], jax.grad(exact)(theta, rows)[active], rtol=1e-9, atol=1e-12
        )
        truth = jax.hessian(exact)(theta, rows)
        np.testing.assert_allclose(second[active, active], truth[active, active], rtol=1e-7)


def divergence(logits, key, batch=32, extra=None):
    """KL(q, q0) at q0 = q: its terms cancel sample by sample, but not when they are averaged."""
    x = random.bernoulli(key, sigmoid(logits), (batch, len(logits))).astype(float)
    own = jnp.sum(log_prob(logits, x), -1)
    fixed = jnp.sum(log_prob(jax.lax.stop_gradient(logits), x), -1)
    mixed = jnp.log(1e-3 + jnp.exp(fixed))  # no sum over units: it is scored, `own` is not
    cost = own - mixed
    return jnp.mean(cost if extra is None else cost + extra(x))


def variances(fun, *args, **options):
    g = jax.jit(jax.vmap(gradient(fun, **options), (None, 0)))
    return np.asarray(g(*args, random.split(random.key(2), 2000)), np.float64).var(0)


LOGITS = jnp.array([0.5, -1.0, 0.2, 1.5])


@pytest.mark.parametrize("samples", [1, 4])
def test_restores_what_cancels(samples):
    plain = variances(
        divergence, LOGITS, num_samples=samples, estimators=jscg.estimators.Auto(fits=False)
    )
    textbook = variances(
        divergence, LOGITS, num_samples=samples, estimators=jscg.estimators.ScoreFunction()
    )
    ours = variances(divergence, LOGITS, num_samples=samples)
    assert np.all(textbook > 0) and np.all(plain > 0)
    assert np.all(ours < 0.1 * plain), ours / plain


def test_a_constant_changes_no_sample():
    keys = random.split(random.key(4), 50)
    without, more = (
        jax.jit(
            jax.vmap(
                gradient(lambda q, k, extra=extra: divergence(q, k, extra=extra)),
                (None, 0),
            )
        )(LOGITS, keys)
        for extra in (None, lambda x: jnp.full(len(x), 1e3))
    )
    np.testing.assert_array_equal(without, more)


def deep(added=None, rows=32):
    """Three layers, costs of all of them, and one more that starts at one of them."""

    def fun(logits, key):
        keys = random.split(key, 4)
        below, cost, drawn = 1.0, 0.0, [random.normal(keys[3], (rows, 3))]
        for row, k in zip(logits, keys, strict=False):
            row = row * below * jnp.ones((rows, 3))
            below = random.bernoulli(k, sigmoid(row)).astype(float)
            drawn.append(below)
            cost = cost + jnp.sum(log_prob(row, below), -1)
        _, x1, x2, x3 = drawn
        cost = cost + jnp.exp(jnp.sum(x1 * x2 * x3, -1)) + jnp.sum(x1 * x2 + x2 * x3, -1) ** 2
        if added is not None:
            new = drawn[added]
            cost = cost + jnp.sum(log_prob(0.4, new) + 3 * new, -1) + jnp.sum(new, -1) ** 3
        return jnp.mean(cost)

    return fun


@functools.cache
def deep_gradients(added, samples, estimators):
    """50 of them."""
    logits = jnp.array([[0.1, -0.3, 0.5], [0.3, -0.1, 0.7], [0.5, 0.1, 0.9]])
    g = gradient(deep(added), num_samples=samples, estimators=estimators)
    return np.asarray(jax.jit(jax.vmap(g, (None, 0)))(logits, random.split(random.key(0), 50)))


@pytest.mark.parametrize("added, samples", [(0, 1), (2, 1), (1, 4)])
def test_an_upstream_cost_changes_no_sample(added, samples):
    """Costs of noise, of the first and of the second layer, enumerated and scored."""
    without, more = (deep_gradients(a, samples, None) for a in (None, added))
    # To rounding: two programs are not fused alike.
    np.testing.assert_allclose(more[:, added:], without[:, added:], rtol=1e-4, atol=1e-6)
    assert np.all(np.any(abs(more - without)[:, :added] > 1e-3, 0))


def test_an_upstream_cost_is_used_if_asked_for():
    without, more = (deep_gradients(a, 1, UPSTREAM) for a in (None, 1))
    assert np.any(abs(more - without)[:, 1:] > 1e-3)


def test_can_be_switched_off():
    off = jscg.estimators.Auto(fits=False)
    without = jscg.surrogate(divergence, estimators=off)
    assert lines_of(without) < lines_of(jscg.surrogate(divergence))


def lines_of(fun):
    """How long its program is."""
    return len(str(jax.make_jaxpr(fun)(LOGITS, random.key(0))).splitlines())


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e25])
def test_costs_of_any_size(scale):
    def fun(logits, key):
        return scale * divergence(logits, key)

    one = gradient(divergence)(LOGITS, random.key(0))
    np.testing.assert_allclose(
        gradient(fun)(LOGITS, random.key(0)) / scale, one, rtol=1e-3, atol=1e-6
    )


def test_small_batches_have_no_fitted_baseline():
    for size, more in ((15, False), (16, True)):
        fun = lambda q, k, size=size: divergence(q, k, size)  # noqa: E731
        without = jscg.surrogate(fun, estimators=jscg.estimators.Auto(fits=False))
        assert (lines_of(jscg.surrogate(fun)) > lines_of(without)) == more, size


def test_solve():
    a = np.asarray(random.normal(random.key(0), (3, 7, 5, 9)))
    left = a @ a.swapaxes(-1, -2) + np.eye(5)
    right = np.asarray(random.normal(random.key(1), (3, 7, 5)))
    expected = np.linalg.solve(left, right[..., None])[..., 0]
    np.testing.assert_allclose(_regression.solve(left, right), expected, rtol=1e-3, atol=1e-5)


BITS = np.array(list(itertools.product([False, True], repeat=3)))
WEIGHTS = np.linspace(-1.5, 1.5, 9).reshape(3, 3)


def guided(params, key):
    """A divergence; the first layer's baseline is a number, the second's a table by the first."""
    k1, k2 = random.split(key)
    x1 = random.bernoulli(k1, sigmoid(params["v1"]), (32, 3))
    x1 = jscg.baseline(x1, jnp.broadcast_to(params["b1"], (32,)))
    logits = params["v2"] + (x1 - 0.5) @ WEIGHTS
    x2 = random.bernoulli(k2, sigmoid(logits))
    x2 = jscg.baseline(x2, params["b2"][jnp.sum(x1 * np.array([4, 2, 1]), -1)])
    return jnp.mean(both_costs(params["v1"], logits, x1, x2))


def both_costs(v1, logits, x1, x2):
    """The log-probs of each unit alone are enumerated; what cancels most of them is scored."""
    log_q = [jnp.where(x, log_sigmoid(a), log_sigmoid(-a)) for a, x in ((v1, x1), (logits, x2))]
    log_q = jnp.sum(log_q[0], -1) + jnp.sum(log_q[1], -1)
    return log_q - jnp.log(3e-3 + jnp.exp(lax.stop_gradient(log_q)))


def with_exact_baselines(v1, v2):
    """The parameters of `guided`: each baseline is what is expected of its draw's cost-to-go."""
    logits = v2 + (BITS - 0.5) @ WEIGHTS
    q1 = jnp.exp(jnp.sum(log_prob(v1, BITS), -1))
    q2 = jnp.exp(jnp.sum(log_prob(logits[:, None], BITS), -1))  # [x1, x2]
    mean = jnp.sum(q2 * both_costs(v1, logits[:, None], BITS[:, None], BITS), -1)
    upstream = jnp.sum(log_prob(v1, BITS), -1)
    return {"v1": v1, "v2": v2, "b1": jnp.sum(q1 * mean), "b2": mean - upstream}


@pytest.mark.parametrize("samples", [1, 3])
def test_the_baseline_of_the_user_learns_the_cost_to_go_without_its_noise(samples):
    params = with_exact_baselines(jnp.array([0.3, -0.2, 0.5]), jnp.array([0.4, 0.0, -0.6]))
    keys, found = random.split(random.key(5), 4000), {}
    for name, estimators in (("ours", None), ("scores", SCORES)):
        g = jscg.grad_expectation(guided, num_samples=samples, estimators=estimators)
        found[name] = jax.device_get(jax.jit(jax.vmap(g, (None, 0)))(params, keys))
    for name in ("b1", "b2", "v1", "v2"):
        ours, scores = (np.asarray(found[n][name], np.float64) for n in ("ours", "scores"))
        assert ours.var(0).sum() < 0.2 * scores.var(0).sum(), name
        if name in ("b1", "b2"):  # no drift at the exact values
            z = ours.mean(0) / (ours.std(0) / len(ours) ** 0.5)
            assert np.all(np.abs(z) < 4.5), (name, z)
