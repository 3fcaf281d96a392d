"""Baselines: leave-one-out and the user's own, unbiased to second order, and learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import gradient

import jscg
from jscg._baselines import BaselineError

pytestmark = pytest.mark.slow

PLAIN = jscg.estimators.ScoreFunction(baseline=None)
LEAVE_ONE_OUT = jscg.estimators.ScoreFunction()
OPTIMAL = jscg.estimators.ScoreFunction(baseline="optimal")
KEY = random.key(3)


def batch(logits, key, size=4, b=None):
    """E = mean over examples of E[(x1 + 2 x2 - 1 + theta-dependent term)^2], two units each."""
    x = random.bernoulli(key, sigmoid(logits), (size, 2))
    if b is not None:
        x = jscg.baseline(x, jnp.broadcast_to(b, (size,)))
    total = x[:, 0] + 2.0 * x[:, 1] - 1.0 + logits[0]
    return jnp.mean(jnp.exp(jnp.log(total**2 + 3.0)))  # one term: the 3 is no cost of its own


def exact(logits):
    p = sigmoid(logits)
    terms = [
        (p[0] if a else 1 - p[0])
        * (p[1] if c else 1 - p[1])
        * ((a + 2.0 * c - 1.0 + logits[0]) ** 2 + 3.0)
        for a in (0, 1)
        for c in (0, 1)
    ]
    return sum(terms)


LOGITS = jnp.array([0.4, -0.3])
WAYS = {
    "none": ({"estimators": PLAIN}, None),
    "over the batch": ({"estimators": LEAVE_ONE_OUT}, None),
    "over samples": ({"estimators": LEAVE_ONE_OUT, "num_samples": 3}, None),
    "optimal": ({"estimators": OPTIMAL}, None),
    "default": ({}, None),
    "default over samples": ({"num_samples": 3}, None),
    "of the user": ({}, 4.0),
    "of the user over samples": ({"num_samples": 2}, 4.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_first_and_second_derivatives_are_unbiased(way):
    options, b = WAYS[way]
    fun = lambda logits, key: batch(logits, key, b=b)  # noqa: E731
    s = jscg.surrogate(fun, **options)
    both = jax.jit(jax.vmap(lambda k: (jax.grad(s)(LOGITS, k), jax.hessian(s)(LOGITS, k))))
    first, second = both(random.split(KEY, 60_000))
    for draws, truth in ((first, jax.grad(exact)(LOGITS)), (second, jax.hessian(exact)(LOGITS))):
        draws = np.asarray(draws, np.float64)
        z = (draws.mean(0) - np.asarray(truth)) / (draws.std(0) / len(draws) ** 0.5)
        assert np.all(np.abs(z) < 4.5), (way, z)


@pytest.mark.parametrize("way", [w for w in WAYS if w not in ("none", "default")])
def test_a_baseline_lowers_the_variance(way):
    options, b = WAYS[way]
    fun = lambda logits, key: batch(logits, key, b=b)  # noqa: E731
    samples = options.get("num_samples", 1)
    keys = random.split(KEY, 5000)

    def variance(**options):
        g = jax.jit(jax.vmap(gradient(fun, **options), (None, 0)))
        return np.asarray(g(LOGITS, keys)).var(0)

    plain = jscg.grad_expectation(lambda q, k: batch(q, k), estimators=PLAIN, num_samples=samples)
    without = np.asarray(jax.jit(jax.vmap(plain, (None, 0)))(LOGITS, keys)).var(0)
    assert np.all(variance(**options) < 0.7 * without)


def test_leave_one_out_equals_the_formula():
    """(K samples) sum_k score_k (f_k - mean of the others) / K, sample by sample."""

    def fun(logit, key):
        return 5.0 * jnp.sum(random.bernoulli(key, sigmoid(logit), (2,))) ** 2.0

    g = jscg.grad_expectation(fun, estimators=LEAVE_ONE_OUT, num_samples=3)

    def by_hand(logit, key):
        keys = random.split(key, 3)
        x = jax.vmap(lambda k: random.bernoulli(k, sigmoid(logit), (2,)))(keys)
        f = 5.0 * jnp.sum(x, 1) ** 2.0
        score = jnp.sum(x - sigmoid(logit), 1)
        return jnp.mean(score * (f - (jnp.sum(f) - f) / 2))

    keys = random.split(KEY, 100)
    ours, theirs = (jax.vmap(h, (None, 0))(0.3, keys) for h in (g, by_hand))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_costs_of_all_shapes_share_one_baseline_of_their_examples():
    """Examples stand on the only axis of one cost, the first of another, the last of a third."""
    a, b, c = random.normal(KEY, (4,)), random.normal(KEY, (4, 3)), random.normal(KEY, (4, 4))
    logits = jnp.linspace(-1.0, 1.0, 4)

    def fun(logits, key):
        x = random.bernoulli(key, sigmoid(logits)).astype(float)
        return a @ jnp.sin(x) + jnp.sum(b * jnp.cos(x)[:, None]) + jnp.sum(c * jnp.exp(x))

    def by_hand(logits, key):
        x = random.bernoulli(key, sigmoid(logits)).astype(float)
        q = a * jnp.sin(x) + jnp.sum(b, 1) * jnp.cos(x) + jnp.sum(c, 0) * jnp.exp(x)
        return (x - sigmoid(logits)) * (q - (jnp.sum(q) - q) / 3)

    keys = random.split(KEY, 50)
    g = jscg.grad_expectation(fun, estimators=LEAVE_ONE_OUT)
    ours, theirs = (jax.jit(jax.vmap(h, (None, 0)))(logits, keys) for h in (g, by_hand))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def learn(size, reduce=jnp.mean, steps=300):
    """Learns a constant baseline at fixed logits; returns it."""

    def loss(params, key):
        x = random.bernoulli(key, sigmoid(params["logits"]), (size, 2))
        x = jscg.baseline(x, jnp.broadcast_to(params["b"], (size,)))
        return reduce((x[:, 0] + 2.0 * x[:, 1]) ** 2.0 + 3.0)

    g = jscg.grad_expectation(loss)

    def step(b, key):
        grad = g({"logits": LOGITS, "b": b}, key)["b"]
        return b - 0.02 * (grad if reduce is jnp.mean else grad / size), b

    return lax.scan(step, jnp.float32(0), random.split(KEY, steps))[1][steps // 2 :].mean()


def test_learned_baseline_is_the_cost_of_one_example_whatever_the_batch():
    p = sigmoid(LOGITS)
    # The constant 3 is not influenced by the draw, so it is not in its cost-to-go.
    mean_cost = p[0] * (1 - p[1]) + 4 * (1 - p[0]) * p[1] + 9 * p[0] * p[1]
    found = np.array([learn(size) for size in (8, 64, 256)])
    np.testing.assert_allclose(found, mean_cost, rtol=0.06)
    np.testing.assert_allclose(learn(64, jnp.sum), mean_cost, rtol=0.06)


def test_gradient_of_a_baseline_is_that_of_its_squared_error():
    def loss(params, key):
        x = random.bernoulli(key, sigmoid(params["logits"]), (5, 2))
        features = jnp.arange(5.0)
        x = jscg.baseline(x, params["b"] * features)
        return jnp.mean((x[:, 0] + 2.0 * x[:, 1]) ** 2.0)

    params = {"logits": LOGITS, "b": jnp.float32(0.7)}
    g = jscg.grad_expectation(loss)(params, KEY)["b"]
    x = random.bernoulli(KEY, sigmoid(LOGITS), (5, 2))
    q = (x[:, 0] + 2.0 * x[:, 1]) ** 2.0
    error = lambda b: jnp.mean((b * jnp.arange(5.0) - q) ** 2)  # noqa: E731
    np.testing.assert_allclose(g, jax.grad(error)(0.7), rtol=1e-5)


def test_baseline_in_a_scan_predicts_the_reward_to_go():
    steps = 3

    def loss(params, key):
        def body(carry, inputs):
            count, total = carry
            k, t = inputs
            x = random.bernoulli(k, sigmoid(params["logit"]))
            x = jscg.baseline(x, params["b"][t])
            return (count + x, total + (count + x) ** 2), None

        times = jnp.arange(steps)
        return lax.scan(body, (0.0, 0.0), (random.split(key, steps), times))[0][1]

    params = {"logit": jnp.float32(0.2), "b": jnp.zeros(steps)}
    # The reward at step s is the square of a count of s + 1 draws.
    g = jax.vmap(jscg.grad_expectation(loss, estimators=PLAIN), (None, 0))
    grads = np.asarray(g(params, random.split(KEY, 20_000))["b"], np.float64)
    p = float(sigmoid(0.2))
    rewards = np.array([n * p * (1 - p) + (n * p) ** 2 for n in (1, 2, 3)])
    truth = -2.0 * np.cumsum(rewards[::-1])[::-1]
    z = (grads.mean(0) - truth) / (grads.std(0) / len(grads) ** 0.5)
    assert np.all(np.abs(z) < 4.5), z


def test_baseline_of_the_user_leaves_model_gradients_unbiased_in_a_scan():
    def loss(logit, key, b):
        def body(total, k):
            x = jscg.baseline(random.bernoulli(k, sigmoid(logit + 0.3 * total)), b)
            return total + x * 1.0, None

        return lax.scan(body, 0.0, random.split(key, 3))[0] ** 2.0

    keys = random.split(KEY, 40_000)
    with_b, without = (
        np.asarray(jax.jit(jax.vmap(jscg.grad_expectation(loss), (None, 0, None)))(0.1, keys, b))
        for b in (3.0, 0.0)
    )
    z = (with_b - without).mean() / ((with_b - without).std() / len(keys) ** 0.5)
    assert abs(z) < 4.5
    assert with_b.var() < without.var()


def test_one_optimiser_step_trains_model_and_baseline():
    def loss(params, key):
        x = random.bernoulli(key, sigmoid(params["logits"]), (16, 2))
        x = jscg.baseline(x, jnp.broadcast_to(params["b"], (16,)))
        return jnp.mean((x[:, 0] + x[:, 1] - 1.5) ** 2.0)

    params = {"logits": jnp.zeros(2), "b": jnp.float32(0)}
    optimiser = optax.adam(0.05)
    g = jscg.value_and_grad_expectation(loss)

    def step(carry, key):
        params, state = carry
        value, grads = g(params, key)
        updates, state = optimiser.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    keys = random.split(KEY, 400)
    (params, _), values = lax.scan(step, (params, optimiser.init(params)), keys)
    assert values[-50:].mean() < values[:50].mean() < 1.5
    assert abs(float(params["b"]) - float(values[-50:].mean())) < 0.3


# Theorem 2.


def influenced(params, key):
    x = random.bernoulli(key, sigmoid(params), (4, 2))
    x = jscg.baseline(x, jnp.sum(x, 1) * 1.0)
    return jnp.mean(jnp.sum(x, 1) ** 2.0)


def test_a_baseline_that_its_draw_influences_is_refused():
    with pytest.raises(BaselineError, match=r"test_baselines\.py.*'x'.*Theorem 2"):
        jscg.grad_expectation(influenced)(LOGITS, KEY)


def test_stop_influence_overrules():
    def fun(params, key):
        x = random.bernoulli(key, sigmoid(params), (4, 2))
        x = jscg.baseline(x, jscg.stop_influence(jnp.sum(x, 1) * 1.0))
        return jnp.mean(jnp.sum(x, 1) ** 2.0)

    assert jscg.grad_expectation(fun)(LOGITS, KEY).shape == (2,)


def test_a_baseline_of_earlier_draws_is_allowed():
    def fun(params, key):
        k1, k2 = random.split(key)
        h1 = random.bernoulli(k1, sigmoid(params), (4, 2))
        h2 = random.bernoulli(k2, sigmoid(params + h1))
        h2 = jscg.baseline(h2, jnp.sum(h1, 1) * 1.0)
        return jnp.mean(jnp.sum(h1 * h2, 1) ** 2.0)

    assert jscg.grad_expectation(fun)(LOGITS, KEY).shape == (2,)


def test_a_baseline_of_noise_and_parameters_is_no_jump():
    """The state that a policy acts on is random, and what the baseline learns depends on it."""

    def cost(params, key):
        k1, k2 = random.split(key)
        s = params["m"] + random.normal(k1)
        b = params["b"] * lax.stop_gradient(s)
        x = jscg.baseline(random.bernoulli(k2, sigmoid(s)), b)
        return x * (s + 2.0)

    def expected(m):
        s = m + np.sqrt(2) * nodes
        return jnp.sum(weights * sigmoid(s) * (s + 2.0)) / np.sqrt(np.pi)

    nodes, weights = np.polynomial.hermite.hermgauss(40)
    g = jscg.grad_expectation(cost, estimators=PLAIN)
    keys = random.split(KEY, 20_000)
    found = np.asarray(jax.vmap(g, (None, 0))({"m": 0.3, "b": 0.7}, keys)["m"])
    exact_value = jax.grad(expected)(0.3)
    assert abs(found.mean() - exact_value) < 4.5 * found.std() / np.sqrt(len(found))
    assert abs(exact_value) > 20 * found.std() / np.sqrt(len(found))


def test_baseline_of_something_not_drawn_is_refused():
    fun = lambda p, k: jnp.sum(jscg.baseline(p * 2.0, 1.0)) + random.bernoulli(k, p[0])  # noqa: E731
    with pytest.raises(BaselineError, match="not a drawn value"):
        jscg.grad_expectation(fun)(sigmoid(LOGITS), KEY)


def test_baseline_of_the_wrong_shape_is_refused():
    def fun(params, key):
        x = random.bernoulli(key, sigmoid(params), (4, 2))
        return jnp.mean(jnp.sum(jscg.baseline(x, jnp.zeros(3)), 1) ** 2.0)

    with pytest.raises(BaselineError, match=r"shape \(3,\).*\(4, 2\)"):
        jscg.grad_expectation(fun)(LOGITS, KEY)


def test_markers_are_identities_outside_of_jscg():
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(jscg.baseline(x, 1.0), x)
    np.testing.assert_array_equal(jax.jit(jscg.stop_influence)(x), x)
    assert jax.grad(lambda v: jnp.sum(jscg.stop_influence(jscg.baseline(v, 1.0)) ** 2))(x)[2] == 4.0


def test_the_optimal_baseline_weighs_the_others_by_their_squared_scores():
    p, size = 0.15, 6
    cost = lambda p, key: jnp.mean(jnp.exp(2.0 * random.bernoulli(key, p, (size,))))  # noqa: E731
    found = jscg.grad_expectation(cost, estimators=OPTIMAL)
    for key in random.split(KEY, 5):
        x = np.asarray(random.bernoulli(key, p, (size,)), float)
        c, square, score = np.exp(2 * x), 2 * (x - p) ** 2, (x - p) / (p * (1 - p))
        b = [np.sum(np.delete(c * square, k)) / np.sum(np.delete(square, k)) for k in range(size)]
        np.testing.assert_allclose(found(p, key), np.mean((c - b) * score), rtol=1e-4)


def test_the_optimal_baseline_is_the_mean_where_no_other_has_a_score():
    cost = lambda p, key: jnp.mean(jnp.exp(random.binomial(key, 2, p, (3,))))  # noqa: E731
    found, alone = jscg.grad_expectation(cost, estimators=OPTIMAL), 0
    for key in random.split(KEY, 30):
        x = np.asarray(random.binomial(key, 2, 0.5, (3,)), float)
        c, score = np.exp(x), (x - 1.0) / 0.25
        others = [np.delete(score**2, k) for k in range(3)]
        weights = [s if s.any() else np.ones(2) for s in others]
        b = [np.average(np.delete(c, k), weights=w) for k, w in enumerate(weights)]
        np.testing.assert_allclose(found(0.5, key), np.mean((c - b) * score), rtol=1e-4, atol=1e-4)
        alone += any(score[k] and not s.any() for k, s in enumerate(others))
    assert alone


RARE = {
    "bernoulli": (random.bernoulli, 0.15, lambda p: p * (jnp.e - 1), 0.5),
    "poisson": (random.poisson, 0.7, lambda r: jnp.exp(r * (jnp.e - 1)), 0.95),
}


@pytest.mark.parametrize("family", RARE)
def test_the_optimal_baseline_has_less_variance_where_scores_and_costs_go_together(family):
    draw, at, expected, ratio = RARE[family]
    spread, exact = {}, jax.grad(expected)(at)
    for name, estimator in {"mean": LEAVE_ONE_OUT, "optimal": OPTIMAL}.items():
        cost = lambda v, key: jnp.mean(jnp.exp(1.0 * draw(key, v, (64,))))  # noqa: E731
        g = jscg.grad_expectation(cost, estimators=estimator)
        found = np.asarray(jax.jit(jax.vmap(lambda k, g=g: g(at, k)))(random.split(KEY, 20_000)))
        assert abs(found.mean() - exact) < 4.5 * found.std() / np.sqrt(len(found))
        spread[name] = found.var()
    assert spread["optimal"] < ratio * spread["mean"], spread


def test_a_step_of_descent_on_a_baseline_is_a_moving_average():
    def cost(params, key):
        x = jscg.baseline(random.bernoulli(key, params["p"]), params["b"])
        return jnp.exp(3.0 * x)

    rate, p, b, average = 0.05, 0.3, 0.0, 0.0
    gradient = jscg.grad_expectation(cost, estimators=PLAIN)
    for key in random.split(KEY, 20):
        b = b - rate * gradient({"p": p, "b": b}, key)["b"]
        average += 2 * rate * (jnp.exp(3.0 * random.bernoulli(key, p)) - average)
        np.testing.assert_allclose(b, average, rtol=1e-5)
