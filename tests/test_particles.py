"""Baselines of particles: exactly unbiased to second order, those of an expert, and only there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from listing import assert_exact_to_second_order, listed, sampling
from oracle import gradient
from test_influence import plan_of

import jscg
from jscg import _left_out, _particles
from jscg.bounds import log_mean_exp, vimco
from jscg.estimators import Auto, ScoreFunction

pytestmark = pytest.mark.slow

KEY = random.key(20160622)
THETA = jnp.array([0.3, -0.4, 0.2, 0.5, -0.7])
OFF, SCORED = Auto(particles=False), Auto(compares_draws=False)
PLAIN = ScoreFunction(baseline=None)


def named(fun, *args, **options):
    """The draws of particles."""
    return [n.name for n in plan_of(fun, *args, **options).particles]


def log_bernoulli(logits, h):
    return jnp.sum(h * log_sigmoid(logits) + (1 - h) * log_sigmoid(-logits), -1)


# Programs so small that all their outcomes are listed ---------------------------------------------

PROGRAMS = {}


def program(outcomes, *shapes, count=1):
    """Registers `fun(theta, draw)`; `count` of its draws are particles."""

    def register(fun):
        PROGRAMS[fun.__name__] = fun, outcomes, shapes, count
        return fun

    return register


@program((2, 2), (3, 1), (3, 1), count=2)
def two_layers(theta, draw):
    h1 = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[:1]), (3, 1))).astype(float)
    logits = theta[1] * h1 - 0.5
    h2 = draw("bernoulli", sigmoid(logits)).astype(float)
    log_q = log_bernoulli(theta[:1], h1) + log_bernoulli(logits, h2)
    log_p = jnp.sum(jnp.sin(theta[2] * h1 + 2 * h2) + theta[3] * h1 * h2, -1)
    return -log_mean_exp(log_p - log_q)


@program((2,), (2, 2, 2))
def examples_first(theta, draw):
    """Of two examples, the particles on the middle axis."""
    x = jnp.array([0.5, -1.0])[:, None, None]
    logits = jnp.broadcast_to(theta[:2] * x, (2, 2, 2))
    h = draw("bernoulli", sigmoid(logits)).astype(float)
    log_p = jnp.prod(h + theta[2], -1) * x[..., 0] + jnp.sin(theta[3] * jnp.sum(h, -1))
    return jnp.mean(log_mean_exp(log_p - log_bernoulli(logits, h), axis=1) * jnp.array([1.0, 3.0]))


@program((2,), (3, 2))
def normalised_weights(theta, draw):
    """Two values of each particle are cut."""
    h = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[:2]), (3, 2))).astype(float)
    w = jnp.exp(theta[2] * jnp.prod(h, -1) - log_bernoulli(theta[:2], h))
    return jnp.sum(w * jnp.cos(h @ theta[3:])) / jnp.sum(w)


@program((3,), (2, 2))
def classes(theta, draw):
    logits = jnp.broadcast_to(jnp.stack([theta[:2], theta[2:4], jnp.zeros(2)], -1), (2, 2, 3))
    i = draw("categorical", logits)
    value = jnp.prod(jnp.array([0.5, 2.0, -1.0])[i] + theta[4], -1)
    return jnp.log(jnp.mean(jnp.exp(value)))


@program((2,), (3, 2))
def beside_costs_of_each(theta, draw):
    """Whose baselines are the other particles."""
    h = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[:2]), (3, 2))).astype(float)
    value = jnp.prod(h + theta[2], -1) * jnp.exp(theta[3] * h[:, 0])
    return jnp.mean(value) + theta[4] * jnp.log(1 + jnp.sum(value**2))


@program((2,), (3, 2))
def weights_of_zero(theta, draw):
    h = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[:2]), (3, 2))).astype(float)
    impossible = h[:, 0] * h[:, 1] == 1
    log_w = jnp.where(impossible, -jnp.inf, theta[2] * h[:, 0] - theta[3] * h[:, 1])
    return jnp.log(jnp.mean(jnp.exp(log_w)) + 0.1)


@program((2, 2), (2, 2), (2,), count=2)
def beside_another_draw(theta, draw):
    """Of single elements, which are not alike behind the cut."""
    h = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[:2]), (2, 2))).astype(float)
    known = draw("bernoulli", jnp.broadcast_to(sigmoid(theta[2]), (2,))).astype(float)
    value = jnp.prod(h + theta[3], -1)
    return jnp.exp(jnp.mean(value) * theta[4] * (1 + known[0] - 2 * known[1]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_exactly_unbiased_to_second_order(name, monkeypatch):
    fun, outcomes, shapes, count = PROGRAMS[name]
    every = Auto(max_outcomes=1)
    assert len(named(sampling(fun), THETA, KEY, estimators=every)) == count
    assert_exact_to_second_order(
        fun, THETA, listed(outcomes, shapes), monkeypatch, estimators=every
    )


# Importance-weighted bounds -----------------------------------------------------------------------


def log_weights(theta, x, h, a):
    """Of a network of two layers; particles, examples and units are the axes."""
    w = jnp.sin(jnp.arange(4.0 * x.shape[-1])).reshape(4, -1)
    log_p = log_bernoulli(2 * h[0] @ w, x) + log_bernoulli(theta[4] * h[1], h[0])
    return log_p - log_bernoulli(a[0], h[0]) - log_bernoulli(a[1], h[1])


def images(size):
    return (jnp.sin(jnp.arange(6.0 * size)) > 0).astype(float).reshape(size, 6)


def bound(theta, key, marked=False, axis=0, count=8, size=8):
    """The bound, as a user writes it, or an expert who marks VIMCO's baselines."""
    x = images(size)
    k1, k2 = random.split(key)
    shape = (count, size, 4) if axis == 0 else (size, count, 4)
    seen = jnp.expand_dims(x, axis)
    logits = jnp.broadcast_to(theta[0] + theta[1] * seen[..., :4], shape)
    h1 = random.bernoulli(k1, sigmoid(logits)).astype(float)
    below = theta[2] * h1 - theta[3]
    h2 = random.bernoulli(k2, sigmoid(below)).astype(float)
    if marked:
        b = -vimco(log_weights(theta, seen, (h1, h2), (logits, below)), axis)
        h1, h2 = jscg.baseline(h1, b), jscg.baseline(h2, b)
    return -jnp.mean(log_mean_exp(log_weights(theta, seen, (h1, h2), (logits, below)), axis))


def by_vmap(theta, key, marked=False, count=8, size=8):
    """The same, each example by itself, and each particle."""

    def example(x, key):
        logits = theta[0] + theta[1] * x[:4]

        def particle(key):
            k1, k2 = random.split(key)
            h1 = random.bernoulli(k1, sigmoid(logits)).astype(float)
            return h1, random.bernoulli(k2, sigmoid(theta[2] * h1 - theta[3])).astype(float)

        h1, h2 = jax.vmap(particle)(random.split(key, count))
        weigh = lambda h1, h2: log_weights(theta, x, (h1, h2), (logits, theta[2] * h1 - theta[3]))  # noqa: E731
        if marked:
            b = -vimco(weigh(h1, h2))
            h1, h2 = jscg.baseline(h1, b), jscg.baseline(h2, b)
        return -log_mean_exp(weigh(h1, h2))

    return jnp.mean(jax.vmap(example)(images(size), random.split(key, size)))


BOUNDS = [bound, functools.partial(bound, axis=1), by_vmap]


@pytest.mark.parametrize("fun", BOUNDS, ids=["first", "second", "vmap"])
@pytest.mark.parametrize("samples", [1, 2])
def test_is_that_of_an_expert(fun, samples):
    """Sample by sample: VIMCO's."""
    assert len(named(fun, THETA, KEY)) == 2
    experts = functools.partial(fun, marked=True)
    ours, theirs = (
        jax.jit(gradient(f, estimators=e, num_samples=samples))(THETA, KEY)
        for f, e in ((fun, None), (experts, PLAIN))
    )
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def variance(fun, estimators):
    g = jax.jit(jax.vmap(gradient(fun, estimators=estimators), (None, 0)))
    return np.asarray(g(THETA, random.split(KEY, 1000)), np.float64).var(0)[:4]


@pytest.mark.parametrize("size", [1, 8])
def test_variance(size):
    """Against all that jscg has without."""
    fun = functools.partial(bound, size=size)
    ours, without = (
        variance(fun, e) for e in (SCORED, Auto(particles=False, compares_draws=False))
    )
    assert np.all(ours > 0) and np.all(ours < 0.5 * without)


def test_in_chunks_of_samples():
    of = functools.partial(jscg.grad_expectation, bound, num_samples=6, estimators=SCORED)
    whole, chunks = (jax.jit(of(chunk_size=n))(THETA, KEY) for n in (None, 2))
    np.testing.assert_allclose(chunks, whole, rtol=1e-4, atol=1e-5)


def test_costs_of_single_particles_are_compared_with_each_other():
    fun, *_ = PROGRAMS["beside_costs_of_each"]
    plan = plan_of(sampling(fun), THETA, KEY, estimators=Auto(max_outcomes=1))
    axes = {c.atom.aval.shape: w.leave_one_out for c, w in plan.weights.items() if w.scores}
    assert axes == {(3,): 0, (): None}


def test_layers_share_the_runs(monkeypatch):
    found = []
    run = _left_out._without_each
    monkeypatch.setattr(_left_out, "_without_each", lambda *args: found.append(1) or run(*args))
    jax.make_jaxpr(gradient(lambda *args: bound(*args)))(THETA, KEY)
    assert len(found) == 1


# Where there are none -----------------------------------------------------------------------------


def eight(key, theta, count=8):
    """Particles of three elements that differ from each other."""
    return random.bernoulli(key, sigmoid(theta[:3]), (count, 3)).astype(float)


WEIGHTS = np.sin(np.arange(10_000.0, dtype=np.float32)).reshape(100, 100)


def meets(value):
    return jnp.log(jnp.mean(jnp.exp(value)))


def of_particles(theta, key):
    return meets(eight(key, theta) @ theta[:3])


def of_single_elements(theta, key):
    """A place is looked at for each particle."""
    place = random.categorical(key, theta[:3], shape=(8,))
    value = jnp.tanh(jnp.tanh(jnp.asarray(WEIGHTS[:3])[place]) @ (theta[4] * WEIGHTS))
    return meets(jnp.sum(value, -1))


def of_examples(theta, key):
    return meets(jnp.arange(8.0) * (eight(key, theta) @ theta[:3]))


def of_examples_that_draws_know(theta, key):
    p = sigmoid(theta[:3] * jnp.arange(8.0)[:, None])
    return meets(random.bernoulli(key, p).astype(float) @ theta[:3])


def of_counts(theta, key):
    h = random.bernoulli(key, sigmoid(theta[:3]), (8, 3)).astype(int)
    return jnp.log(1.0 + jnp.sum(jnp.sum(h, -1)))


def resampled(theta, key):
    """The weights of the particles are those of the next draw."""
    k1, k2 = random.split(key)
    h = eight(k1, theta)
    i = random.categorical(k2, h @ theta[:3])
    return jnp.sum(h[i] * theta[1]) ** 2


def in_a_loop(theta, key):
    def step(total, key):
        return total + meets(eight(key, theta) @ theta[:3]), None

    return lax.scan(step, 0.0, random.split(key, 3))[0]


def behind_much_work(theta, key):
    deep = jnp.mean(eight(key, theta) @ theta[:3]) * jnp.ones(100)
    for _ in range(4):
        deep = jnp.tanh(WEIGHTS @ deep)
    return deep[0]


def denied(theta, key):
    """What is said not to depend on a particle would be in its baseline all the same."""
    value = eight(key, theta) @ theta[:3]
    return meets(value + jscg.stop_influence(jnp.max(value)))


def with_a_baseline(theta, key):
    h = random.bernoulli(key, sigmoid(theta[:3]), (8, 3))
    return meets(jscg.baseline(h, 0.5).astype(float) @ theta[:3])


def of_too_many(theta, key):
    beside = jnp.sum(jnp.tanh(WEIGHTS @ (WEIGHTS @ (theta[4] * WEIGHTS))))
    return meets(eight(key, theta, 65) @ theta[:3]) + beside


def taken_in_by_a_loop(theta, key):
    k1, k2 = random.split(key)

    def step(total, key):
        return total + theta[4] * random.bernoulli(key, sigmoid(theta[3])), None

    return lax.scan(step, of_particles(theta, k1), random.split(k2, 3))[0]


def asked_of_the_host(theta, key):
    """Without a rule for many at once."""
    value = jnp.mean(jnp.exp(jnp.sin(eight(key, theta) @ theta[:3])))
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    known = jax.pure_callback(lambda x: np.log(x), shape, lax.stop_gradient(value))
    return jnp.log(value) * known + 0 * jnp.sum(jnp.tanh(WEIGHTS @ (theta[4] * WEIGHTS)))


def a_loop_that_ends_at_outcomes(theta, key):
    h = eight(key, theta)
    start = lax.stop_gradient(jnp.sum(jnp.sum(h, -1))), 1.0
    _, value = lax.while_loop(lambda s: s[0] != 0, lambda s: (s[0] - 1, 0.9 * s[1]), start)
    return theta[3] * value + jnp.mean(jnp.tanh(WEIGHTS @ (theta[4] * WEIGHTS)))


def by_prefixes(theta, key):
    """Elements of a particle influence some of the costs only."""
    h = random.bernoulli(key, sigmoid(theta[0]), (3, 12)).astype(float)
    value = jnp.exp(jnp.diff(0.3 * jnp.cumsum(h, 1), axis=1)) * theta[2]
    return jnp.sum(jnp.log(jnp.mean(jnp.exp(value), 0))) + jnp.mean(jnp.tanh(WEIGHTS * theta[4]))


NOT = [
    of_examples,
    of_examples_that_draws_know,
    of_counts,
    resampled,
    in_a_loop,
    taken_in_by_a_loop,
    asked_of_the_host,
    a_loop_that_ends_at_outcomes,
    by_prefixes,
    behind_much_work,
    denied,
    with_a_baseline,
    of_too_many,
]


@pytest.mark.parametrize("fun", NOT)
def test_none(fun):
    assert not named(fun, THETA, KEY, estimators=SCORED)
    assert np.all(np.isfinite(jax.jit(gradient(fun))(THETA, KEY)))


def test_all_runs_together_have_a_budget():
    """Each of many tails is little work, and all of them are much."""

    def fun(theta, key, steps=8):
        total = jnp.sum(jnp.tanh(WEIGHTS @ (WEIGHTS @ (theta[4] * WEIGHTS))))
        for k in random.split(key, steps):
            h = random.bernoulli(k, sigmoid(theta[0]), (16, 100)).astype(float)
            mean = jnp.mean(jnp.tanh(h @ WEIGHTS[:, :100] * theta[1]), 0)
            for _ in range(2):
                mean = jnp.tanh(mean @ WEIGHTS)
            total += theta[2] * mean[0]
        return total

    few = len(named(functools.partial(fun, steps=1), THETA, KEY, estimators=SCORED))
    many = len(named(fun, THETA, KEY, estimators=SCORED))
    assert few == 1 < many < 8


def test_all_runs_together_have_a_limit_of_memory(monkeypatch):
    """Eight runs, of which the largest arrays have a number for each of eight particles."""
    work = _particles.of_program
    monkeypatch.setattr(_particles, "of_program", lambda program: (work(program)[0], 0))
    for most, count in ((63, 0), (64, 1)):
        monkeypatch.setattr(_particles, "MOST_NUMBERS", most)
        assert len(named(of_particles, THETA, KEY)) == count


def test_none_if_not_wanted():
    assert len(named(of_particles, THETA, KEY)) == 1
    assert not named(of_particles, THETA, KEY, estimators=OFF)
    assert not named(of_particles, THETA, KEY, estimators=ScoreFunction())


def test_elements_are_moved_where_that_is_cheap():
    """In a program of which little depends on the draw."""

    def beside_much(theta, key):
        return of_particles(theta, key) + jnp.sum(jnp.tanh(WEIGHTS @ (WEIGHTS * theta[4])))

    def way(fun):
        (draw,) = jscg.graph(fun)(THETA, KEY).stochastic_nodes
        return str(draw)

    assert "MeasureValued" in way(beside_much) and "MeasureValued" in way(of_single_elements)
    assert len(named(of_single_elements, THETA, KEY)) == 1  # if derivatives of any order are wanted
    assert "with the cost without its particle as the baseline" in way(of_particles)
