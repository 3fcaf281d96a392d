"""Generated programs: sampling code, and an enumeration of the same description.

A program is data: a tuple of statements, each of which appends one scalar to a list of values
that starts as the parameters.  `sampler` turns a description into sampling code; `expectation`
enumerates it.  Neither looks at the other, and neither knows jscg.

    python tests/random_programs.py 500

tries as many programs, compares gradients and Hessians with enumeration, and counts verdicts.
"""

from __future__ import annotations

import collections
import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jax import lax, random
from jax.nn import sigmoid, softmax
from jax.scipy.stats import laplace, norm
from oracle import FIRST_ORDER, QUICK, derivatives_of, grid, samples, total, z_of
from verdicts import planned

import jscg

KEY = random.key(1843)
KEYS = 8_000
OUTCOMES = 72
TH = np.array([0.6, -0.4, 0.9], np.float32)
SCAN_LENGTH = 3

UNARY = {
    "sin": jnp.sin,
    "square": jnp.square,
    "tanh": jnp.tanh,
    "relu": lambda v: jax.nn.leaky_relu(v - 0.217),  # no parameter stands on the kink
    "affine": lambda v: 0.5 - 1.5 * v,
    "jit": jax.jit(lambda v: v * (1.0 - 0.5 * v)),
}
BINARY = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": jnp.maximum,
    "select": lambda a, b: jnp.where(a > 0.5, b, -0.3),
    "step": lambda a, b: jnp.where(a > b, 1.0, -0.3),
    "mean": lambda a, b: jnp.mean(jnp.stack([a, 2 * b])),
    "dot": lambda a, b: jnp.stack([a, b]) @ jnp.stack([b, a + 1.0]),
}


class Draw(NamedTuple):
    """A statement with outcomes 0, 1, ...: how to draw one, and their probabilities."""

    support: int
    arity: int
    sample: Callable
    probs: Callable


def coin(a):
    return jnp.stack([sigmoid(-a), sigmoid(a)])


def three(a, b):
    return jnp.stack([a, b, 0.0])


def second_of(p):
    """The probabilities of the second of two classes drawn without replacement."""
    pairs = p[:, None] * p[None] / (1 - p[:, None])
    return jnp.sum(pairs * (1 - jnp.eye(3)), 0)


def of_two(p):
    return jnp.stack([1 - p, p])


def rounded(a):
    low, high = sigmoid(0.5 - a), sigmoid(a - 1.5)
    return jnp.stack([low, 1 - low - high, high])


# Arguments are bounded first, so that no outcome is too rare for the number of keys.
DRAWS = {
    "bern": Draw(2, 1, lambda k, a: random.bernoulli(k, sigmoid(a)), coin),
    "cat": Draw(
        3, 2, lambda k, a, b: random.categorical(k, three(a, b)), lambda a, b: softmax(three(a, b))
    ),
    # By hand, of noise.
    "below": Draw(2, 1, lambda k, a: random.uniform(k) < sigmoid(a), coin),
    "left": Draw(2, 1, lambda k, a: 1 - random.uniform(k) <= sigmoid(a), coin),
    "logit": Draw(2, 1, lambda k, a: jnp.where(a + random.logistic(k) > 0, 1.0, 0.0), coin),
    "probit": Draw(
        2,
        2,
        lambda k, a, b: a + (1 + 0.4 * b) * random.normal(k) > 0.3,
        lambda a, b: of_two(norm.cdf((a - 0.3) / (1 + 0.4 * b))),
    ),
    "laplace": Draw(
        2,
        2,
        lambda k, a, b: random.laplace(k) < a - b,
        lambda a, b: of_two(laplace.cdf(a - b)),
    ),
    "argmax": Draw(
        3,
        2,
        lambda k, a, b: jnp.argmax(random.gumbel(k, (3,)) + three(a, b)),
        lambda a, b: softmax(three(a, b)),
    ),
    "second": Draw(
        3,
        2,
        lambda k, a, b: lax.top_k(random.gumbel(k, (3,)) + three(a, b), 2)[1][1],
        lambda a, b: second_of(softmax(three(a, b))),
    ),
    "search": Draw(
        3,
        2,
        lambda k, a, b: jnp.searchsorted(jnp.cumsum(softmax(three(a, b)))[:2], random.uniform(k)),
        lambda a, b: softmax(three(a, b)),
    ),
    "count": Draw(
        3,
        2,
        lambda k, a, b: jnp.sum(jnp.cumsum(softmax(three(a, b)))[:2] < random.uniform(k)),
        lambda a, b: softmax(three(a, b)),
    ),
    "round": Draw(3, 1, lambda k, a: jnp.clip(jnp.round(a + random.logistic(k)), 0, 2), rounded),
}
# Continuous values, for which the enumeration takes so many quantiles.
NODES = 6000
NOISE = {
    "normal": scipy.stats.norm,
    "uniform": scipy.stats.uniform,
    "logistic": scipy.stats.logistic,
    "gumbel": scipy.stats.gumbel_r,
    "exponential": scipy.stats.expon,
}
QUANTILES = {k: law.ppf((np.arange(NODES) + 0.5) / NODES) for k, law in NOISE.items()}

# A statement is one of
#   (draw, a) or (draw, a, b)   an outcome; a and b are indices into the values so far
#   (noise, a, b)               a continuous value, a + (0.6 + 0.2 b) * noise; once at most
#   (unary, a), (binary, a, b)
#   ("cond", z, a, b)           lax.cond(z > 0.5, a * a, b) on a value that may be drawn
#   ("scan", a, b, kind, where) three draws of logit a + b * previous, by `kind` ("two" has a
#                               second one in each step, that depends on the first); `where` says
#                               how the running sum leaves the loop
# The program returns the sum of its last three values plus their product.

SCAN_OUTPUTS = ("carry", "stacked", "after", "last")
SCAN_DRAWS = ("bern", "below", "logit", "two")


def bounded(v):
    return 1.5 * jnp.tanh(v)


def support(statement):
    name = statement[0]
    if name in NOISE:
        return NODES
    if name == "scan":
        return (4 if statement[3] == "two" else 2) ** SCAN_LENGTH
    return DRAWS[name].support if name in DRAWS else 1


def weight(statement):
    """What it takes of the budget of outcomes."""
    return 12 if statement[0] in NOISE else support(statement)


def result(values):
    return values[-1] + 0.5 * values[-2] - values[-3] + values[-1] * values[-2]


def computed(statement, values):
    """The value of a statement without a draw."""
    name, *args = statement
    v = [values[i] for i in args if not isinstance(i, str)]
    return (UNARY if len(v) == 1 else BINARY)[name](*v)


def located(statement, values, z):
    a, b = (bounded(values[i]) for i in statement[1:])
    return a + (0.6 + 0.2 * b) * z


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
    if name in DRAWS:
        return DRAWS[name].sample(key, *map(bounded, v))
    if name in NOISE:
        return located(statement, values, getattr(random, name)(key))
    if name == "cond":
        return lax.cond(v[0] > 0.5, lambda: v[1] ** 2, lambda: v[2])
    if name == "scan":
        return sampled_scan(*v, *args[-2:], key)
    return computed(statement, values)


def sampled_scan(a, b, kind, where, key):
    def step(carry, k):
        x, s, cost = carry
        x = stepped(kind, k, a, a + b * x)
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


def stepped(kind, key, a, logit):
    if kind != "two":
        return 1.0 * DRAWS[kind].sample(key, bounded(logit))
    first, second = random.split(key)
    x = 1.0 * DRAWS["bern"].sample(first, bounded(logit))
    return x - 0.5 * DRAWS["bern"].sample(second, bounded(a - x))


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
    if name in DRAWS:
        return 1.0 * x, DRAWS[name].probs(*map(bounded, v))[x]
    if name in NOISE:
        return located(statement, values, jnp.asarray(QUANTILES[name])[x]), 1 / NODES
    if name == "cond":
        return jnp.where(v[0] > 0.5, v[1] ** 2, v[2]), 1.0
    if name == "scan":
        return enumerated_scan(*v, *args[-2:], x)
    return computed(statement, values), 1.0


def enumerated_scan(a, b, kind, where, x):
    previous, s, cost, p = 0.0, 0.0, 0.0, 1.0
    for t in range(SCAN_LENGTH):
        outcome = x // (4 if kind == "two" else 2) ** t
        now = outcome % 2
        p = p * coin(bounded(a + b * previous))[now]
        if kind == "two":
            second = outcome // 2 % 2
            p = p * coin(bounded(a - now))[second]
            now = now - 0.5 * second
        previous, s = now, s + now
        cost = cost + (s - 0.5) ** 2
    return (s if where == "last" else cost), p


def statements(size, loops, noise):
    """A statement that reads any of the `size` values so far, late ones more often."""
    index = st.one_of(st.integers(0, size - 1), st.integers(size - 2, size - 1))

    def of(names, *args):
        return st.tuples(st.sampled_from(list(names)), *args)

    scan = of(["scan"], index, index, st.sampled_from(SCAN_DRAWS), st.sampled_from(SCAN_OUTPUTS))
    return st.one_of(
        of([n for n, d in DRAWS.items() if d.arity == 1], index),
        of([n for n, d in DRAWS.items() if d.arity == 2], index, index),
        *([scan] if loops else []),
        *([of(NOISE, index, index)] if noise else []),
        of(["cond"], index, index, index),
        of(UNARY, index),
        of(BINARY, index, index),
        of(BINARY, index, index),
    )


@st.composite
def programs(draw, loops=True):
    """3 to 7 statements, one draw at least and at most `OUTCOMES` joint outcomes."""
    program = [draw(st.sampled_from([("bern", 0), ("below", 0), ("normal", 0, 1)]))]
    for _ in range(draw(st.integers(2, 6))):
        last = len(TH) + len(program) - 1
        noise = not any(s[0] in NOISE for s in program)
        statement = draw(statements(last + 1, loops, noise))
        if math.prod(map(weight, [*program, statement])) > OUTCOMES:
            statement = ("affine", last)
        program.append(statement)
    return tuple(program)


class Unknown(Exception):
    """The expectation has no derivative that can be told here."""


def truth(program):
    """Value, gradient and Hessian, and what these may be off."""
    with jax.enable_x64(True):
        exact, th = expectation(program), jnp.asarray(TH, jnp.float64)
        if any(s[0] in NOISE for s in program):
            return by_differences(exact, th)

        def all_three(p):
            return exact(p), jax.grad(exact)(p), jax.hessian(exact)(p)

        return jax.tree.map(np.asarray, jax.jit(all_three, compiler_options=QUICK)(th)), 0.0


def by_differences(exact, th):
    """No derivative of a sum over quantiles sees a jump at one of them.

    What jumps with a parameter alone has no derivative that anyone would see: differences of two
    widths then disagree.
    """
    widths = np.array([0.04, 0.02])
    steps = widths[:, None, None, None] * np.array([1, -1])[:, None, None] * np.eye(len(TH))
    values = jax.jit(jax.vmap(exact), compiler_options=QUICK)(th + steps.reshape(-1, len(TH)))
    values = np.asarray(values).reshape(2, 2, len(TH))
    wide, narrow = (values[:, 0] - values[:, 1]) / (2 * widths[:, None])
    slack = 0.01 * (1 + np.abs(narrow))
    if np.any(np.abs(wide - narrow) > slack):
        raise Unknown
    return (np.asarray(exact(th)), (4 * narrow - wide) / 3, None), 2 * slack


def check(program, estimators, hessian=False):
    """z of the value, and of the derivatives under each of the estimators."""
    fun = sampler(program)
    (value, *exact), slack = truth(program)
    order = 2 if hessian and exact[1] is not None else 1
    derive = [derivatives_of(fun, e)[:order] for e in estimators]

    def everything(key):
        return fun(TH, key), [[d(jnp.asarray(TH), key) for d in each] for each in derive]

    values, found = samples(everything, KEY, KEYS)
    value_slack = 2e-3 * (1 + abs(value)) if np.any(slack) else 0.0
    return less(z_of(values, value), values, value_slack), [
        [less(z_of(f, e), f, slack) for f, e in zip(each, exact, strict=False)] for each in found
    ]


def less(z, draws, slack):
    """z-scores, less what the oracle may be off."""
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    return np.sign(z) * np.maximum(np.abs(z) - slack / np.maximum(error, 1e-6), 0)


ESTIMATORS = {
    "default": None,
    "score": jscg.estimators.ScoreFunction(baseline=None),
    "first order": FIRST_ORDER,
}
# 500 programs with nine numbers and a value each: one chance in 5,000 of any |z| beyond this.
SURE = 6.2


def verdict(program):
    return planned(sampler(program), TH)[0]


def long_run(count):
    """Prints programs tried, by their verdicts; raises at the first that is wrong."""
    counts, seen, start = collections.Counter(), 0, time.time()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(program=programs())
    def each(program):
        nonlocal seen
        seen += 1
        name = verdict(program)
        if name != "refused":
            try:
                estimator = list(ESTIMATORS.values())[seen % len(ESTIMATORS)]
                value_z, found = check(program, [estimator], hessian=True)
            except Unknown:
                counts["no oracle"] += 1
                return
            assert abs(value_z) < SURE, ("the two readings disagree", program)
            for order, z in enumerate(found[0], 1):
                counts[f"derivatives of order {order} compared"] += 1
                assert np.all(np.abs(z) < SURE), (name, f"order {order}", z, program)
        counts[name] += 1
        if seen % 50 == 0:
            print(f"{time.time() - start:.0f} s: {seen} programs, {dict(counts)}", flush=True)

    each()
    print(f"{seen} programs, none wrong: {dict(counts)}")


if __name__ == "__main__":
    long_run(int(sys.argv[1]))
