"""Generated programs: the gradient against an enumeration of the same description.

A program is data: a tuple of statements, each of which appends one scalar to a list of values
that starts as the parameters.
`sampler` turns a description into sampling code; `expectation` enumerates it. Neither looks at
the other, and neither knows jscg.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax, random
from jax.nn import sigmoid
from oracle import QUICK, grid, samples, total, z_of

import jscg

KEY = random.key(1843)
KEYS = 8_000
OUTCOMES = 72
ESTIMATORS = {"default": None, "score": jscg.estimators.ScoreFunction(baseline=None)}
TH = np.array([0.6, -0.4, 0.9], np.float32)
SCAN_LENGTH = 3

UNARY = {
    "sin": jnp.sin,
    "square": jnp.square,
    "tanh": jnp.tanh,
    "affine": lambda v: 0.5 - 1.5 * v,
    "jit": jax.jit(lambda v: v * (1.0 - 0.5 * v)),
}
BINARY = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "select": lambda a, b: jnp.where(a > 0.5, b, -0.3),
    "mean": lambda a, b: jnp.mean(jnp.stack([a, 2 * b])),
    "dot": lambda a, b: jnp.stack([a, b]) @ jnp.stack([b, a + 1.0]),
}

# A statement is one of
#   ("bern", a)             a Bernoulli of logit `bounded(a)`; a is an index into the values so far
#   ("cat", a, b)           a categorical of logits (bounded(a), bounded(b), 0)
#   (unary, a), (binary, a, b)
#   ("cond", z, a, b)       lax.cond(z > 0.5, a * a, b) on a value that may be drawn
#   ("scan", a, b, where)   three Bernoulli draws of logit a + b * previous; `where` says how
#                           the running sum leaves the loop
# The program returns the sum of its last three values plus their product.

# Logits stay bounded so that no outcome is too rare for the number of keys.

SCAN_OUTPUTS = ("carry", "stacked", "after", "last")


def bounded(v):
    return 1.5 * jnp.tanh(v)


def support(statement):
    return {"bern": 2, "cat": 3, "scan": 2**SCAN_LENGTH}.get(statement[0], 1)


def result(values):
    return values[-1] + 0.5 * values[-2] - values[-3] + values[-1] * values[-2]


def sampler(program):
    """The description as sampling code."""

    def fun(th, key):
        values = [th[i] for i in range(len(TH))]
        for statement, k in zip(program, random.split(key, len(program)), strict=True):
            values.append(jnp.asarray(sampled(statement, values, k), jnp.float32))
        return result(values)

    return fun


def sampled(statement, values, key):
    name, *args = statement
    v = [values[i] for i in args if not isinstance(i, str)]
    if name == "bern":
        return random.bernoulli(key, sigmoid(bounded(v[0])))
    if name == "cat":
        return random.categorical(key, jnp.stack([bounded(v[0]), bounded(v[1]), 0.0]))
    if name == "cond":
        return lax.cond(v[0] > 0.5, lambda: v[1] ** 2, lambda: v[2])
    if name == "scan":
        return sampled_scan(*v, args[-1], key)
    return (UNARY if len(v) == 1 else BINARY)[name](*v)


def sampled_scan(a, b, where, key):
    def step(carry, k):
        x, s, cost = carry
        x = 1.0 * random.bernoulli(k, sigmoid(bounded(a + b * x)))
        s = s + x
        cost = cost + (s - 0.5) ** 2
        return (x, s, cost), (s, (s - 0.5) ** 2)

    (_, last, cost), (sums, costs) = lax.scan(step, (0.0, 0.0, 0.0), random.split(key, SCAN_LENGTH))
    return {
        "carry": cost,
        "stacked": jnp.sum(costs),
        "after": jnp.sum((sums - 0.5) ** 2),
        "last": last,
    }[where]


def expectation(program):
    """The expectation of the same description: loops unrolled, every outcome summed."""
    rows = grid(*map(support, program))

    def exact(th):
        def term(outcome):
            values, probability = [th[i] for i in range(len(TH))], 1.0
            for statement, x in zip(program, outcome, strict=True):
                value, p = enumerated(statement, values, x)
                values.append(value)
                probability = probability * p
            return probability * result(values)

        return total(term, rows)

    return exact


def enumerated(statement, values, x):
    """(value, probability) of a statement given outcome number `x` of its draw."""
    name, *args = statement
    v = [values[i] for i in args if not isinstance(i, str)]
    if name == "bern":
        return 1.0 * x, coin(bounded(v[0]), x)
    if name == "cat":
        weights = [jnp.exp(bounded(v[0])), jnp.exp(bounded(v[1])), 1.0]
        picked = jnp.where(x == 0, weights[0], jnp.where(x == 1, weights[1], weights[2]))
        return 1.0 * x, picked / sum(weights)
    if name == "cond":
        return jnp.where(v[0] > 0.5, v[1] ** 2, v[2]), 1.0
    if name == "scan":
        return enumerated_scan(*v, args[-1], x)
    return (UNARY if len(v) == 1 else BINARY)[name](*v), 1.0


def enumerated_scan(a, b, where, x):
    previous, s, cost, p = 0.0, 0.0, 0.0, 1.0
    for t in range(SCAN_LENGTH):
        now = x // 2**t % 2
        p = p * coin(bounded(a + b * previous), now)
        previous, s = now, s + now
        cost = cost + (s - 0.5) ** 2
    return (s if where == "last" else cost), p


def coin(logit, x):
    return jnp.where(x == 1, 1 / (1 + jnp.exp(-logit)), 1 / (1 + jnp.exp(logit)))


def statements(size, loops):
    """A statement that reads any of the `size` values so far, late ones more often."""
    index = st.one_of(st.integers(0, size - 1), st.integers(size - 2, size - 1))

    def of(names, *args):
        return st.tuples(st.sampled_from(list(names)), *args)

    return st.one_of(
        of(["bern"], index),
        of(["cat"], index, index),
        *([of(["scan"], index, index, st.sampled_from(SCAN_OUTPUTS))] if loops else []),
        of(["cond"], index, index, index),
        of(UNARY, index),
        of(BINARY, index, index),
        of(BINARY, index, index),
    )


@st.composite
def programs(draw, loops):
    """3 to 7 statements, one draw at least and at most `OUTCOMES` joint outcomes."""
    program = [("bern", 0)]
    for _ in range(draw(st.integers(2, 6))):
        last = len(TH) + len(program) - 1
        statement = draw(statements(last + 1, loops))
        if math.prod(map(support, [*program, statement])) > OUTCOMES:
            statement = ("affine", last)
        program.append(statement)
    return tuple(program)


def check(program, estimators):
    """z of the value and of the gradient under each of the estimators."""
    fun = sampler(program)
    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(expectation(program)), compiler_options=QUICK)
        value, gradient = jax.tree.map(np.asarray, exact(jnp.asarray(TH, jnp.float64)))
    transforms = [jscg.grad_expectation(fun, estimators=e) for e in estimators]

    def everything(key):
        return fun(TH, key), [transform(jnp.asarray(TH), key) for transform in transforms]

    values, gradients = samples(everything, KEY, KEYS)
    return z_of(values, value), [z_of(g, gradient) for g in gradients]


# 26 programs, 2 estimators, 3 parameters and a value: one chance in 10,000 of any |z| > 5.
BOUND = 5.0

quick = settings(
    max_examples=13,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("loops", [False, True], ids=["straight", "loops"])
@quick
@given(data=st.data())
def test_any_program_has_an_unbiased_gradient(loops, data):
    program = data.draw(programs(loops))
    value_z, gradient_z = check(program, ESTIMATORS.values())
    assert abs(value_z) < BOUND, "the two readings of the description disagree"
    for name, z in zip(ESTIMATORS, gradient_z, strict=True):
        assert np.all(abs(z) < BOUND), (name, z)


def test_the_comparison_can_fail():
    """Reading a different program, or dropping the scores, is noticed."""
    program = (("bern", 0), ("scan", 1, 3, "stacked"), ("mul", 3, 4))
    other = (("bern", 0), ("scan", 1, 2, "stacked"), ("mul", 3, 4))
    value_z, (gradient_z,) = check(program, [None])
    assert abs(value_z) < BOUND and np.all(abs(gradient_z) < BOUND)
    wrong = jax.grad(expectation(other))(TH)
    ours = samples(lambda k: jscg.grad_expectation(sampler(program))(TH, k), KEY, KEYS)
    assert np.max(abs(z_of(ours, wrong))) > 10
    plain = samples(lambda k: jax.grad(sampler(program))(TH, k), KEY, KEYS)
    assert np.max(abs(z_of(plain, jax.grad(expectation(program))(TH)))) > 10
