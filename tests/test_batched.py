"""Loops differentiated in one batch over all steps, against the same loops step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.extend.core import jaxprs_in_params
from jax.nn import sigmoid
from oracle import QUICK

import jscg
from jscg._batched import Body

TH = jnp.array([0.3, -0.7])
KEYS = random.split(random.key(4), 5)
STEPS = 4
SCORE = jscg.estimators.ScoreFunction(baseline=None)

IN_ONE_BATCH, STEP_BY_STEP = [], []


def in_one_batch(fun):
    IN_ONE_BATCH.append(fun)
    return fun


def step_by_step(fun):
    STEP_BY_STEP.append(fun)
    return fun


@in_one_batch
def policy_of_a_network(th, key):
    weights = jnp.outer(th, jnp.array([1.0, -1.0, 0.5]))

    def step(state, key):
        a = random.categorical(key, jnp.tanh(jnp.stack([state, state**2], -1) @ weights))
        state = 0.9 * state + 0.1 * (a - 1)
        return state, jnp.mean(state**2 + 0.1 * a)

    return jnp.sum(lax.scan(step, jnp.linspace(-1, 1, 6), random.split(key, STEPS))[1])


@in_one_batch
def table(th, key):
    logits = jnp.stack([jnp.outer(th, th), jnp.outer(th, -th), jnp.outer(1 - th, th)])

    def step(state, key):
        k1, k2 = random.split(key)
        a = random.categorical(k1, logits[state, :, 0])
        state = (state + a + random.randint(k2, (), 0, 2)) % 3
        return state, (state == 1) + 0.1 * a

    return jnp.sum(lax.scan(step, 0, random.split(key, STEPS))[1])


@in_one_batch
def discount_that_is_learned(th, key):
    def step(carry, key):
        s, discount, total = carry
        s = s + random.bernoulli(key, sigmoid(th[0] + 0.1 * s))
        return (s, discount * sigmoid(th[1]), total + discount * s * th[1]), None

    return lax.scan(step, (0.0, 1.0, 0.0), random.split(key, STEPS))[0][2]


@in_one_batch
def sum_that_decays(th, key):
    def step(carry, key):
        s, total = carry
        s = s + random.bernoulli(key, sigmoid(th[0] + 0.1 * s))
        return (s, 0.8 * total + s * th[1]), total

    (_, total), totals = lax.scan(step, (0.0, 0.0), random.split(key, STEPS))
    return total**2 + jnp.sum(totals)


@in_one_batch
def backwards_with_parameters_scanned(th, key):
    def step(s, x):
        key, w = x
        s = s + random.bernoulli(key, sigmoid(th[0] * w + 0.1 * s))
        return s, s**2 * w

    xs = (random.split(key, STEPS), jnp.linspace(0, 1, STEPS) * th[1])
    s, costs = lax.scan(step, 0.0, xs, reverse=True, unroll=2)
    return jnp.sum(costs) + s * th[0]


@in_one_batch
def key_in_the_carry(th, key):
    def step(carry, w):
        key, s = carry
        key, use = random.split(key)
        s = s + random.bernoulli(use, sigmoid(th[0] * w + 0.1 * s))
        return (key, s), jnp.exp(0.2 * s) * th[1]

    return jnp.sum(lax.scan(step, (key, 0.0), jnp.arange(4.0))[1])


@in_one_batch
def loop_in_a_loop(th, key):
    def step(s, key):
        def inner(r, key):
            r = r + random.bernoulli(key, sigmoid(th[0] + 0.3 * s - 0.2 * r))
            return r, r * th[1]

        r, costs = lax.scan(inner, 0.0, random.split(key, 3))
        s = s + random.bernoulli(random.fold_in(key, 7), sigmoid(th[1] * r))
        return s, jnp.sum(costs) * s

    return jnp.sum(lax.scan(step, 0.0, random.split(key, STEPS))[1])


@in_one_batch
def history_in_a_buffer(th, key):
    def step(carry, x):
        history, s = carry
        key, t = x
        s = s + random.bernoulli(key, sigmoid(th[0] + 0.1 * s))
        history = lax.dynamic_update_slice(history, s[None], (t,))
        return (history, s), history @ jnp.linspace(0.0, 1.0, STEPS) * th[1]

    xs = (random.split(key, STEPS), jnp.arange(STEPS))
    (history, _), costs = lax.scan(step, (jnp.zeros(STEPS), jnp.float32(0)), xs)
    return jnp.sum(costs) + jnp.sum(history**2)


@step_by_step
def branch_that_is_nan_elsewhere(th, key):
    def step(s, key):
        x = random.bernoulli(key, sigmoid(th[0] + 0.1 * s))
        cost = lax.cond(s > 0, lambda: jnp.log(s * th[1] ** 2) + jnp.sqrt(s), lambda: 0.0)
        return s + x, cost * th[1]

    return jnp.sum(lax.scan(step, 0.0, random.split(key, STEPS))[1])


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@step_by_step
def derivative_rule(th, key):
    def step(s, key):
        s = s + random.bernoulli(key, sigmoid(sine(th[0] * (1 + s))))
        return s, sine(s * th[1])

    return jnp.sum(lax.scan(step, 0.0, random.split(key, STEPS))[1])


@step_by_step
def state_with_a_derivative(th, key):
    def step(h, key):
        x = random.bernoulli(key, sigmoid(th[0] + 0.1 * h)).astype(float)
        return 0.5 * h + th[1] * x, h**2

    return jnp.sum(lax.scan(step, 0.3, random.split(key, STEPS))[1])


@pytest.fixture
def taken(monkeypatch):
    """Of every loop that was looked at, whether it was taken apart; `taken.allowed` forbids it."""

    class Taken(list):
        allowed = True

    found, separable = Taken(), Body.separable

    def spy(body):
        found.append(found.allowed and separable(body))
        return found[-1]

    monkeypatch.setattr(Body, "separable", spy)
    return found


def both(taken, fun, derive):
    """What is derived of a function, in one batch and step by step, and whether it was one."""
    out = []
    for taken.allowed in (True, False):
        taken.clear()

        def fresh(th, key):  # so that nothing is compiled already
            return fun(th, key)

        at = jax.vmap(derive(fresh), (None, 0))
        out += [jax.jit(at, compiler_options=QUICK)(TH, KEYS), any(taken)]
    return out


@pytest.mark.parametrize("fun", IN_ONE_BATCH + STEP_BY_STEP, ids=lambda f: f.__name__)
def test_the_gradient_is_the_same_sample_by_sample(fun, taken):
    derive = lambda f: jscg.grad_expectation(f, estimators=SCORE)  # noqa: E731
    found, is_batch, expected, never = both(taken, fun, derive)
    assert is_batch == (fun in IN_ONE_BATCH) and not never
    assert np.all(np.isfinite(found)) and np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


HIGHER = {
    "forward over reverse": lambda f: jax.jacfwd(jax.grad(jscg.surrogate(f, estimators=SCORE))),
    "reverse over reverse": lambda f: jax.jacrev(jax.grad(jscg.surrogate(f, estimators=SCORE))),
    "compared": jscg.grad_expectation,
    "samples": lambda f: jscg.grad_expectation(f, num_samples=3),
}


@pytest.mark.parametrize("name", HIGHER)
def test_so_are_higher_derivatives_and_other_estimators(name, taken):
    found, is_batch, expected, _ = both(taken, discount_that_is_learned, HIGHER[name])
    assert is_batch or name == "compared"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_so_is_the_derivative_by_what_the_gradient_is_not_for(taken):
    """The state depends on `pull`, which is no parameter: its derivative goes through all steps."""

    def cost(th, pull, key):
        def step(s, key):
            x = random.bernoulli(key, sigmoid(th))
            s = pull * s + x
            return s, s**2 * (1 + th)

        return jnp.sum(lax.scan(step, 1.0, random.split(key, STEPS))[1])

    def by_pull(f):
        s = jscg.surrogate(lambda th, key, pull=0.5: cost(th[0], pull, key), estimators=SCORE)
        return lambda th, key: jax.grad(lambda pull: s(th, key, pull=pull))(jnp.float32(0.5))

    found, is_batch, expected, _ = both(taken, cost, by_pull)
    assert is_batch and np.abs(expected).min() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_network_stands_in_a_backward_loop():
    """One loop runs forward; products of the backward pass stand outside of it."""

    def products(jaxpr):
        found = 0
        for eqn in jaxpr.eqns:
            found += eqn.primitive.name == "dot_general"
            for sub in jaxprs_in_params(eqn.params):
                found += products(sub)
        return found

    def loops(jaxpr):
        found = []
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "scan":
                found.append(products(eqn.params["jaxpr"].jaxpr))
            else:
                for sub in jaxprs_in_params(eqn.params):
                    found += loops(sub)
        return found

    g = jscg.grad_expectation(policy_of_a_network, estimators=SCORE)
    assert [n for n in loops(jax.make_jaxpr(g)(TH, KEYS[0]).jaxpr) if n] == [1]


def test_a_loop_keeps_where_it_was_and_what_was_drawn():
    """Four bytes and one for each step; log-probs are made of these again."""

    def walk(p, key):
        def step(x, k):
            up = random.bernoulli(k, jnp.exp(-x / p))
            return x + jnp.where(up, 1.0, -1.0), None

        return lax.scan(step, 0.0, random.split(key, 50))[0] ** 2

    def kept(jaxpr):
        found = []
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "scan":
                stacked = [v for v in eqn.outvars if v.aval.shape[:1] == (50,)]
                found.append(sum(v.aval.size * v.aval.dtype.itemsize for v in stacked))
            else:
                for sub in jaxprs_in_params(eqn.params):
                    found += kept(sub)
        return found

    g = jscg.grad_expectation(walk, estimators=SCORE)
    assert kept(jax.make_jaxpr(g)(2.0, KEYS[0]).jaxpr) == [50 * (4 + 1)]
