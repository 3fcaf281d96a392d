"""A compiled gradient stays on its device: nothing in it asks the host."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import QUICK

import jscg
from benchmarks.programs import host_operations

KEY = random.key(0)
X = jnp.linspace(-1.0, 1.0, 16)


def belief_network(th, key):
    """Over a batch: enumerated terms, and baselines that are fitted."""
    k1, k2 = random.split(key)
    low = random.bernoulli(k1, sigmoid(th * X)).astype(float)
    high = random.bernoulli(k2, sigmoid(th - low)).astype(float)
    return jnp.mean(low * th - jax.nn.softplus(th * high) + jnp.sin(low + high))


def loop(th, key):
    def step(place, key):
        up = random.bernoulli(key, sigmoid(th * place))
        return place + 2.0 * up - 1.0, jnp.cos(place) * up

    _, costs = lax.scan(step, X, random.split(key, 3))
    return jnp.mean(costs)


def coupled(th, key):
    kinds = random.categorical(key, th * X, shape=(5,))
    return jnp.sum(kinds) ** 2.0


def gamma(th, key):
    return jnp.mean(random.gamma(key, th, (4,)) ** 2)


def counts(th, key):
    return jnp.mean(jnp.sqrt(1.0 + random.poisson(key, th + X**2)))


PROGRAMS = [belief_network, loop, coupled, gamma, counts]


@pytest.mark.parametrize("fun", PROGRAMS, ids=lambda fun: fun.__name__)
def test_no_host_round_trips(fun):
    gradient = jax.jit(jscg.value_and_grad_expectation(fun), compiler_options=QUICK)
    text = gradient.lower(jnp.float32(0.7), KEY).compile().as_text()
    assert "ENTRY" in text
    assert not host_operations(text)


def test_the_search_sees_a_callback():
    def fun(th, key):
        seen = jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), jnp.float32), X[0])
        return th * random.bernoulli(key, th) + lax.stop_gradient(seen)

    score = jscg.estimators.ScoreFunction()
    gradient = jax.jit(jscg.value_and_grad_expectation(fun, estimators=score))
    text = gradient.lower(jnp.float32(0.7), KEY).compile().as_text()
    assert host_operations(text)


@pytest.mark.parametrize("fun", PROGRAMS, ids=lambda fun: fun.__name__)
def test_nothing_depends_on_values_while_tracing(fun):
    """One trace serves all parameters and keys: shapes are all that it is made of."""
    traces = []

    def counted(th, key):
        traces.append(0)
        return fun(th, key)

    gradient = jax.jit(jscg.grad_expectation(counted))
    shapes = jax.ShapeDtypeStruct((), jnp.float32), jax.eval_shape(lambda: KEY)
    jaxpr = gradient.trace(*shapes).jaxpr
    assert len(traces) == 1
    wide = {str(v.aval.dtype) for eqn in jaxpr.eqns for v in eqn.outvars} & {"float64", "int64"}
    assert not wide
