"""Tables of small sampling programs with exact expectations.

`CONTEXTS` puts draws into every control structure, `LAYOUTS` into array operations that move
elements about, `DISCRETE` and `CONTINUOUS` go through the samplers of `jax.random`. Each
program is built by a function that returns `(fun, exact)`; see `oracle.Case` for the options.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.nn import sigmoid
from jax.scipy.special import digamma, gammaln
from jax.scipy.stats import norm
from oracle import Case, ber, cat, grid, register, total

CONTEXTS: list[Case] = []
LAYOUTS: list[Case] = []
DISCRETE: list[Case] = []
CONTINUOUS: list[Case] = []

context = register(CONTEXTS)
layout = register(LAYOUTS)
discrete = register(DISCRETE)
continuous = register(CONTINUOUS)

# Single precision: JAX 0.10 mixes up the two readings of a float64 constant that a live jaxpr
# holds from before `enable_x64`.
W3 = np.array([1.0, -2.0, 0.5], np.float32)
A3 = np.array([1.0, 2.0, 0.2], np.float32)
C3 = np.array([1.0, 2.0, 0.7], np.float32)
V3 = np.array([0.5, 1.5, -1.0], np.float32)
B2 = np.array([[1.0, 2.0], [1.2, 1.5]], np.float32)
W2 = np.array([[1.0, -0.5], [2.0, 0.25]], np.float32)


def pair_cost(x, y, th):
    return (1 + 2 * x + 2 * y - 2.5 * x * y) * (1 + 0.5 * th[0] * x)


# Contexts: where a draw and a cost can stand.


@context(0.3, -0.4)
def two_draws():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]))
        y = random.bernoulli(k2, sigmoid(th[1]))
        return pair_cost(x, y, th)

    def exact(th):
        return total(lambda x: ber(sigmoid(th), x) * pair_cost(*x, th), grid(2, 2))

    return fun, exact


@context(0.3, -0.4)
def nested_jit():
    @jax.jit
    def flip(key, logit):
        return jax.jit(random.bernoulli)(key, jax.jit(sigmoid)(logit))

    @jax.jit
    def fun(th, key):
        k1, k2 = random.split(key)
        return jax.jit(pair_cost)(flip(k1, th[0]), jax.jit(flip)(k2, th[1]), th)

    return fun, two_draws()[1]


@context(0.3, -0.4)
def helper_jit_called_twice():
    @jax.jit
    def noisy(key, logit, scale):
        x = random.bernoulli(key, sigmoid(logit))
        return scale * x + 0.5, x

    def fun(th, key):
        k1, k2 = random.split(key)
        a, x = noisy(k1, th[0], 2.0)
        b, y = noisy(k2, th[1], -1.0)
        return a * b + x * th[1]

    def exact(th):
        def term(x):
            cost = (2 * x[0] + 0.5) * (0.5 - x[1]) + x[0] * th[1]
            return ber(sigmoid(th), x) * cost

        return total(term, grid(2, 2))

    return fun, exact


@context(0.4)
def vmap_over_keys():
    def fun(th, key):
        p = sigmoid(th[0])
        x = jax.vmap(lambda k: random.bernoulli(k, p))(random.split(key, 3))
        return jnp.sum(x * W3) ** 2 + 3 * x[1]

    def exact(th):
        term = lambda x: ber(sigmoid(th[0]), x) * (jnp.sum(x * W3) ** 2 + 3 * x[1])  # noqa: E731
        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def vmap_over_parameters_with_own_keys():
    def fun(th, key):
        draw = lambda k, l: random.bernoulli(k, sigmoid(l))  # noqa: E731, E741
        x = jax.vmap(draw)(random.split(key, 3), th)
        return jnp.sum(x * V3) + 4 * x[0] * x[2]

    def exact(th):
        def term(x):
            return ber(sigmoid(th), x) * (jnp.sum(x * V3) + 4 * x[0] * x[2])

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def vmap_over_a_whole_program():
    def one(key, logit, weight):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(logit))
        y = random.bernoulli(k2, sigmoid(logit - 2.0 * x))
        return weight * (x + 3.0 * y) + logit * y

    def fun(th, key):
        return jnp.mean(jax.vmap(one)(random.split(key, 3), th, jnp.asarray(W3)))

    def exact(th):
        def example(logit, weight):
            def term(x):
                p = ber(sigmoid(logit), x[0]) * ber(sigmoid(logit - 2.0 * x[0]), x[1])
                return p * (weight * (x[0] + 3.0 * x[1]) + logit * x[1])

            return total(term, grid(2, 2))

        return jnp.mean(jax.vmap(example)(th, jnp.asarray(W3)))

    return fun, exact


@context(0.4, -0.3, 0.8)
def batch_draw_with_a_mean_cost():
    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th))
        return jnp.mean((x - A3) ** 2 * jnp.exp(0.3 * th))

    def exact(th):
        p = sigmoid(th)
        return jnp.mean((p * (1 - A3) ** 2 + (1 - p) * A3**2) * jnp.exp(0.3 * th))

    return fun, exact


def _running_sums(cost):
    """Three independent draws whose running sum costs `cost(sum, step)` at every step."""

    def exact(th):
        def term(x):
            costs = jax.vmap(cost)(jnp.cumsum(x), jnp.arange(3))
            return ber(sigmoid(th), x) * jnp.sum(costs)

        return total(term, grid(2, 2, 2))

    return exact


def _step_cost(s, t):
    return (s - 0.4) ** 2 * (1 + t)


@context(0.4, -0.3, 0.8)
def scan_cost_in_carry():
    def fun(th, key):
        def step(carry, xs):
            s, cost = carry
            k, logit, t = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return (s, cost + _step_cost(s, t)), None

        xs = (random.split(key, 3), th, jnp.arange(3))
        return lax.scan(step, (0, 0.0), xs)[0][1]

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3)
def scan_two_draws_in_each_step():
    def cost(s, y):
        return (s - 0.4) ** 2 + s * y

    def fun(th, key):
        def step(carry, k):
            s, total = carry
            k1, k2 = random.split(k)
            x = random.bernoulli(k1, sigmoid(th[0]))
            y = random.bernoulli(k2, sigmoid(th[1] + s))
            s = s + x - 0.5 * y
            return (s, total + cost(s, y)), None

        return lax.scan(step, (0.0, 0.0), random.split(key, 2))[0][1]

    def exact(th):
        def term(z):
            prob, s, out = 1.0, 0.0, 0.0
            for x, y in (z[:2], z[2:]):
                prob *= ber(sigmoid(th[0]), x) * ber(sigmoid(th[1] + s), y)
                s = s + x - 0.5 * y
                out += cost(s, y)
            return prob * out

        return total(term, grid(2, 2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def scan_cost_stacked():
    def fun(th, key):
        def step(s, xs):
            k, logit, t = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return s, _step_cost(s, t)

        xs = (random.split(key, 3), th, jnp.arange(3))
        return jnp.sum(lax.scan(step, 0, xs)[1])

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3, 0.8)
def scan_cost_after_the_loop():
    def fun(th, key):
        def step(s, xs):
            k, logit = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return s, s

        s = lax.scan(step, 0, (random.split(key, 3), th))[1]
        return jnp.sum(_step_cost(s, jnp.arange(3)))

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3, 0.8)
def scan_draws_mixed_after_the_loop():
    def fun(th, key):
        def step(_, xs):
            k, logit = xs
            return _, random.bernoulli(k, sigmoid(logit))

        x = lax.scan(step, None, (random.split(key, 3), th))[1]
        return jnp.sum(x * W3) ** 2 + jnp.sum(x[::-1] * x)

    def exact(th):
        def term(x):
            cost = jnp.sum(x * W3) ** 2 + jnp.sum(x[::-1] * x)
            return ber(sigmoid(th), x) * cost

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def scan_final_state_only():
    def fun(th, key):
        def step(s, xs):
            k, logit = xs
            return 0.5 * s + random.bernoulli(k, sigmoid(logit)) * (1 + s), None

        return lax.scan(step, 1.0, (random.split(key, 3), th))[0] ** 2

    def exact(th):
        def term(x):
            s = 1.0
            for t in range(3):
                s = 0.5 * s + x[t] * (1 + s)
            return ber(sigmoid(th), x) * s**2

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def scan_discounted():
    gamma = 0.7

    def fun(th, key):
        def step(carry, xs):
            s, cost, discount = carry
            k, logit = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return (s, cost + discount * (s - 0.4) ** 2, gamma * discount), None

        return lax.scan(step, (0, 0.0, 1.0), (random.split(key, 3), th))[0][1]

    return fun, _running_sums(lambda s, t: gamma**t * (s - 0.4) ** 2)


@context(0.4, -0.3, 0.8)
def scan_cost_accumulated_backwards():
    """Horner's rule: the carried cost is itself discounted, `cost = c + gamma * cost`."""

    def fun(th, key):
        def step(carry, xs):
            s, cost = carry
            k, logit = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return (s, (s - 0.4) ** 2 + 0.7 * cost), None

        return lax.scan(step, (0, 0.0), (random.split(key, 3), th))[0][1]

    return fun, _running_sums(lambda s, t: 0.7 ** (2 - t) * (s - 0.4) ** 2)


@context(0.4, -0.3, 0.8)
def scan_reversed():
    def fun(th, key):
        def step(s, xs):
            k, logit, t = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return s, _step_cost(s, t)

        xs = (random.split(key, 3), th, jnp.arange(3))
        return jnp.sum(lax.scan(step, 0, xs, reverse=True)[1])

    def exact(th):
        def term(x):
            sums = jnp.cumsum(x[::-1])[::-1]
            return ber(sigmoid(th), x) * jnp.sum(_step_cost(sums, jnp.arange(3)))

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8, 0.1)
def scan_nested():
    def fun(th, key):
        def inner(carry, xs):
            s, cost = carry
            k, logit = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return (s, cost + (s - 0.4) ** 2), s

        def outer(carry, xs):
            k, logits = xs
            (s, cost), inside = lax.scan(inner, carry, (random.split(k, 2), logits))
            return (s, cost), jnp.sum(inside) * 0.3 * s

        xs = (random.split(key, 2), th.reshape(2, 2))
        (_, cost), stacked = lax.scan(outer, (0, 0.0), xs)
        return cost + jnp.sum(stacked)

    def exact(th):
        def term(x):
            s = jnp.cumsum(x)
            stacked = (s[0] + s[1]) * s[1] + (s[2] + s[3]) * s[3]
            return ber(sigmoid(th), x) * (jnp.sum((s - 0.4) ** 2) + 0.3 * stacked)

        return total(term, grid(2, 2, 2, 2))

    return fun, exact


@context(0.4, 1.2)
def scan_autoregressive():
    def fun(th, key):
        def step(x, k):
            x = random.bernoulli(k, sigmoid(th[0] + th[1] * (2.0 * x - 1)))
            return 1.0 * x, (x + 0.3) * th[1]

        last, costs = lax.scan(step, 1.0, random.split(key, 3))
        return jnp.sum(costs) + 2 * last

    def exact(th):
        def term(x):
            before = jnp.concatenate([jnp.ones(1), x[:-1]])
            p = ber(sigmoid(th[0] + th[1] * (2 * before - 1)), x)
            return p * (jnp.sum(x + 0.3) * th[1] + 2 * x[2])

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.5, -0.5, 0.2)
def scan_markov_chain():
    """A transition matrix indexed by the drawn state: the draw feeds its successors."""
    rewards = np.array([0.0, 1.0, 3.0], np.float32)

    def logits_of(th):
        return jnp.stack([th, th[::-1] ** 2, jnp.roll(th, 1)])

    def fun(th, key):
        logits = logits_of(th)

        def step(s, k):
            s = random.categorical(k, logits[s])
            return s, jnp.asarray(rewards)[s]

        return jnp.sum(lax.scan(step, 0, random.split(key, 3))[1])

    def exact(th):
        transition = jax.nn.softmax(logits_of(th))
        state, value = jnp.array([1.0, 0, 0]), 0.0
        for _ in range(3):
            state = state @ transition
            value += state @ rewards
        return value

    return fun, exact


@context(0.4, -0.3, 0.8)
def scan_key_in_carry():
    def fun(th, key):
        def step(carry, xs):
            k, s, cost = carry
            logit, t = xs
            k, now = random.split(k)
            s = s + random.bernoulli(now, sigmoid(logit))
            return (k, s, cost + _step_cost(s, t)), None

        return lax.scan(step, (key, 0, 0.0), (th, jnp.arange(3)))[0][2]

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3, 0.8)
def scan_with_a_draw_before_it():
    def fun(th, key):
        k0, key = random.split(key)
        first = random.bernoulli(k0, sigmoid(th[0]))

        def step(s, xs):
            k, logit = xs
            s = s + random.bernoulli(k, sigmoid(logit + first))
            return s, (s - 0.4 + first) ** 2

        return jnp.sum(lax.scan(step, 0, (random.split(key, 2), th[1:]))[1])

    def exact(th):
        def term(x):
            p = ber(sigmoid(th[0]), x[0]) * ber(sigmoid(th[1:] + x[0]), x[1:])
            return p * jnp.sum((jnp.cumsum(x[1:]) - 0.4 + x[0]) ** 2)

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3, 0.8)
def fori_loop_with_static_bounds():
    def fun(th, key):
        def body(t, carry):
            s, cost = carry
            s = s + random.bernoulli(random.fold_in(key, t), sigmoid(th[t]))
            return s, cost + _step_cost(s, t)

        return lax.fori_loop(0, 3, body, (0, 0.0))[1]

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3, 0.8)
def python_loop_and_list():
    def fun(th, key):
        s, costs = 0, []
        for t, k in enumerate(random.split(key, 3)):
            s = s + random.bernoulli(k, sigmoid(th[t]))
            costs.append(_step_cost(s, t))
        return sum(costs)

    return fun, _running_sums(_step_cost)


@context(0.4, -0.3, 0.8)
def cond_on_a_draw():
    def fun(th, key):
        k0, k1, k2 = random.split(key, 3)
        z = random.bernoulli(k0, sigmoid(th[0]))
        return lax.cond(
            z,
            lambda: 2.0 * random.bernoulli(k1, sigmoid(th[1])) + 1.0,
            lambda: (th[0] - 2) * random.bernoulli(k2, sigmoid(th[2])),
        )

    def exact(th):
        p = sigmoid(th)
        return p[0] * (2 * p[1] + 1) + (1 - p[0]) * (th[0] - 2) * p[2]

    return fun, exact


@context(0.4, -0.3, 0.8)
def cond_with_a_cost_afterwards():
    def fun(th, key):
        k0, k1, k2 = random.split(key, 3)
        z = random.bernoulli(k0, sigmoid(th[0]))
        heads = lambda: random.bernoulli(k1, sigmoid(th[1]))  # noqa: E731
        x = lax.cond(z, heads, lambda: jnp.array(True))
        y = random.bernoulli(k2, sigmoid(th[2] + x))
        return (x + 2.0 * y - z) ** 2

    def exact(th):
        def term(o):
            z, x, y = o
            px = jnp.where(z == 1, ber(sigmoid(th[1]), x), 1.0 * x)
            p = ber(sigmoid(th[0]), z) * px * ber(sigmoid(th[2] + x), y)
            return p * (x + 2.0 * y - z) ** 2

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.4, -0.3)
def cond_on_a_known_predicate():
    def fun(th, key):
        k1, k2 = random.split(key)
        draw = lambda k, l: lambda: 1.0 * random.bernoulli(k, sigmoid(l))  # noqa: E731, E741
        x = lax.cond(th[0] > 0, draw(k1, th[0]), draw(k1, 5 * th[0]))
        y = lax.cond(th[1] > 0, draw(k2, 5 * th[1]), draw(k2, th[1]))
        return (x - 0.3 + 2 * y) ** 2

    def exact(th):
        term = lambda x: ber(sigmoid(th), x) * (x[0] - 0.3 + 2 * x[1]) ** 2  # noqa: E731
        return total(term, grid(2, 2))

    return fun, exact


@context(0.4, -0.3)
def switch_on_a_draw():
    def fun(th, key):
        k0, k1 = random.split(key)
        i = random.categorical(k0, jnp.stack([th[0], th[1], 0.0]))
        branches = [
            lambda: 1.0 + th[1] ** 2,
            lambda: 3.0 * random.bernoulli(k1, sigmoid(th[0])),
            lambda: -1.0 + 0.0 * th[0],
        ]
        return lax.switch(i, branches)

    def exact(th):
        p = jax.nn.softmax(jnp.stack([th[0], th[1], 0.0]))
        return p @ jnp.stack([1 + th[1] ** 2, 3 * sigmoid(th[0]), -1.0])

    return fun, exact


@context(0.4, -0.3, 0.8)
def cond_inside_scan():
    def fun(th, key):
        def step(s, xs):
            k, logit = xs
            draw = lambda l: lambda: random.bernoulli(k, sigmoid(l))  # noqa: E731, E741
            s = s + lax.cond(s > 0, draw(logit), draw(-logit))
            return s, (s - 0.4) ** 2

        return jnp.sum(lax.scan(step, 0, (random.split(key, 3), th))[1])

    def exact(th):
        def term(x):
            before = jnp.cumsum(x) - x
            p = ber(sigmoid(jnp.where(before > 0, th, -th)), x)
            return p * jnp.sum((jnp.cumsum(x) - 0.4) ** 2)

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.3, -0.4)
def checkpoint():
    @jax.checkpoint
    def flip(key, logit):
        return random.bernoulli(key, sigmoid(logit))

    def fun(th, key):
        k1, k2 = random.split(key)
        cost = jax.checkpoint(pair_cost)
        return cost(flip(k1, th[0]), flip(k2, th[1]), th)

    return fun, two_draws()[1]


@context(0.4, -0.3, 0.8)
def checkpoint_inside_scan():
    def fun(th, key):
        @jax.checkpoint
        def step(s, xs):
            k, logit, t = xs
            s = s + random.bernoulli(k, sigmoid(logit))
            return s, _step_cost(s, t)

        xs = (random.split(key, 3), th, jnp.arange(3))
        return jnp.sum(lax.scan(step, 0, xs)[1])

    return fun, _running_sums(_step_cost)


@jax.custom_jvp
def _doubled(x):
    return jnp.sin(x)


@_doubled.defjvp
def _doubled_jvp(primals, tangents):
    """Not the derivative of the sine, so that losing the rule shows."""
    (x,), (dx,) = primals, tangents
    return _doubled(x), 2 * jnp.cos(x) * dx


@context(0.3, -0.4)
def custom_jvp_around_costs():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, _doubled(th[0]) ** 2)
        y = random.bernoulli(k2, sigmoid(th[1]))
        return _doubled(th[1] + x + 2.0 * y)

    def exact(th):
        p = jnp.stack([_doubled(th[0]) ** 2, sigmoid(th[1])])
        return total(lambda x: ber(p, x) * _doubled(th[1] + x[0] + 2.0 * x[1]), grid(2, 2))

    return fun, exact


@jax.custom_vjp
def _tripled(x):
    return jnp.sin(x)


_tripled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * jnp.cos(x) * g,))


@context(0.3, -0.4, order=1)
def custom_vjp_around_costs():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, _tripled(th[0]) ** 2)
        y = random.bernoulli(k2, sigmoid(th[1]))
        return _tripled(th[1] + x + 2.0 * y)

    def exact(th):
        p = jnp.stack([_tripled(th[0]) ** 2, sigmoid(th[1])])
        return total(lambda x: ber(p, x) * _tripled(th[1] + x[0] + 2.0 * x[1]), grid(2, 2))

    return fun, exact


@context(0.3, -0.4, may_refuse=True)
def custom_jvp_around_a_draw():
    @jax.custom_jvp
    def noisy(logit, key):
        return 1.0 * random.bernoulli(key, sigmoid(logit))

    @noisy.defjvp
    def noisy_jvp(primals, tangents):
        return noisy(*primals), jnp.zeros(())

    def fun(th, key):
        k1, k2 = random.split(key)
        return pair_cost(noisy(th[0], k1), noisy(th[1], k2), th)

    return fun, two_draws()[1]


@context(0.3, -0.4, blind=(1,))
def grad_inside():
    """The inner derivative sees the drawn value as a constant, and so does the oracle."""

    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th[0]))
        return jax.grad(lambda t: (x + t) ** 3)(th[1]) * (1 + x)

    def exact(th):
        p = sigmoid(th[0])
        return p * 2 * 3 * (1 + th[1]) ** 2 + (1 - p) * 3 * th[1] ** 2

    return fun, exact


@context(0.6)
def grad_inside_over_a_draw():
    """Plain `jax.grad` inside the program differentiates along the sampled path only."""

    def fun(th, key):
        def inner(t):
            x = random.bernoulli(key, sigmoid(t))
            return (1 + 2.0 * x) * t**3

        return jax.grad(inner)(th[0])

    def exact(th):
        return 3 * th[0] ** 2 * (1 + 2 * sigmoid(th[0]))

    return fun, exact


@context(0.6, -0.5, 0.3)
def draw_feeding_draw_feeding_draw():
    def fun(th, key):
        k1, k2, k3 = random.split(key, 3)
        x = random.bernoulli(k1, sigmoid(th[0]))
        y = random.categorical(k2, jnp.stack([th[1] * x, 0.0, th[1]]))
        z = random.bernoulli(k3, sigmoid(th[2] * (y - 1)))
        return x + 2.0 * y * z - 0.5 * y

    def exact(th):
        def term(o):
            x, y, z = o
            p = ber(sigmoid(th[0]), x) * cat(jnp.stack([th[1] * x, 0.0, th[1]]), y)
            return p * ber(sigmoid(th[2] * (y - 1)), z) * (x + 2.0 * y * z - 0.5 * y)

        return total(term, grid(2, 3, 2))

    return fun, exact


NODES = np.linspace(-9.0, 9.0, 1801)


def over_normal(g):
    """E[g(z)] for a standard normal z, by the trapezoid rule."""
    return jnp.sum(jax.vmap(g)(jnp.asarray(NODES)) * norm.pdf(NODES)) * (NODES[1] - NODES[0])


@context(0.3, -0.2, blind=(1,))
def normal_then_bernoulli():
    def fun(th, key):
        k1, k2 = random.split(key)
        z = th[0] + jnp.exp(th[1]) * random.normal(k1)
        x = random.bernoulli(k2, sigmoid(2 * z))
        return (x - 0.3) * z**2 + x

    def exact(th):
        def given(noise):
            z = th[0] + jnp.exp(th[1]) * noise
            p = sigmoid(2 * z)
            return p * (0.7 * z**2 + 1) - (1 - p) * 0.3 * z**2

        return over_normal(given)

    return fun, exact


@context(0.3, 0.7, blind=(1,))
def bernoulli_then_normal():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]))
        z = th[1] * x + random.normal(k2) * (0.5 + x)
        return z**2 + jnp.abs(x - 0.2)

    def exact(th):
        p = sigmoid(th[0])
        return p * (th[1] ** 2 + 1.5**2 + 0.8) + (1 - p) * (0.25 + 0.2)

    return fun, exact


@context(0.3, 0.7, order=1, blind=(0, 1))
def normal_through_kinks():
    def fun(th, key):
        z = th[0] + th[1] * random.normal(key)
        leaky = jnp.where(z > 0, z, 0.1 * z)
        return leaky + jnp.abs(z) + jax.nn.relu(z)

    def exact(th):
        mean = th[0]
        positive = th[0] * norm.cdf(th[0] / th[1]) + th[1] * norm.pdf(th[0] / th[1])
        negative = positive - mean
        return (positive - 0.1 * negative) + (positive + negative) + positive

    return fun, exact


@context(0.5, -0.5, 0.2)
def drawn_index_gathers_parameters():
    def fun(th, key):
        k1, k2 = random.split(key)
        i = random.categorical(k1, th)
        x = random.bernoulli(k2, sigmoid(3 * th)[i])
        return th[i] ** 2 + jnp.asarray(W3)[i] * x

    def exact(th):
        return jax.nn.softmax(th) @ (th**2 + W3 * sigmoid(3 * th))

    return fun, exact


@context(0.5, -0.5, 0.9)
def drawn_one_hot():
    def fun(th, key):
        hot = jax.nn.one_hot(random.categorical(key, th), 3)
        return hot @ jnp.asarray(W3) + (hot @ th) ** 2

    def exact(th):
        return jax.nn.softmax(th) @ (W3 + th**2)

    return fun, exact


@context(0.4, -0.6)
def cost_weighted_by_a_draw():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]))
        y = random.bernoulli(k2, sigmoid(th[1]))
        cost = (y - 0.3) ** 2 + 1.0
        return x * cost + jnp.where(x, y, -1.0) + cost / (1 + x)

    def exact(th):
        def term(o):
            x, y = o
            cost = (y - 0.3) ** 2 + 1.0
            return ber(sigmoid(th), o) * (x * cost + jnp.where(x == 1, y, -1.0) + cost / (1 + x))

        return total(term, grid(2, 2))

    return fun, exact


@context(0.4, -0.6, 0.9, blind=(1,))
def unused_draw():
    def fun(th, key):
        k1, k2, k3 = random.split(key, 3)
        x = random.bernoulli(k1, sigmoid(th[0]))
        random.bernoulli(k2, sigmoid(th[1]))
        unused = random.categorical(k2, th)
        del unused
        return x * 2.0 + random.bernoulli(k3, sigmoid(th[2]))

    def exact(th):
        return 2 * sigmoid(th[0]) + sigmoid(th[2])

    return fun, exact


@context(0.4, -0.6)
def one_draw_in_several_costs():
    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]))
        y = random.bernoulli(k2, sigmoid(th[1]))
        first = (x - 0.3) ** 2
        second = jnp.sin(x + 2.0 * y)
        third = th[0] * x * y
        return first - 2 * second + third / 3 + x

    def exact(th):
        def term(o):
            x, y = o
            cost = (x - 0.3) ** 2 - 2 * jnp.sin(x + 2.0 * y) + th[0] * x * y / 3 + x
            return ber(sigmoid(th), o) * cost

        return total(term, grid(2, 2))

    return fun, exact


@context(0.4, -0.6, 0.2, blind=(2,))
def constant_parameters_and_stopped_ones():
    """Only the last draw depends differentiably on the parameters."""

    def fun(th, key):
        k1, k2, k3 = random.split(key, 3)
        x = random.bernoulli(k1, 0.3)
        y = random.bernoulli(k2, lax.stop_gradient(sigmoid(th[2])))
        z = random.bernoulli(k3, sigmoid(th[0] + th[1] * (1.0 * x - y)))
        return (1.0 + x + 2 * y) * (z - 0.3) + th[0] * x

    def exact(th):
        p = [0.3, lax.stop_gradient(sigmoid(th[2]))]

        def term(o):
            x, y, z = o
            q = ber(p[0], x) * ber(p[1], y) * ber(sigmoid(th[0] + th[1] * (1.0 * x - y)), z)
            return q * ((1.0 + x + 2 * y) * (z - 0.3) + th[0] * x)

        return total(term, grid(2, 2, 2))

    return fun, exact


@context(0.3, -0.4, may_refuse=True)
def one_key_for_vmapped_parameters():
    """Comonotone draws: both compare the same uniform with their own probability."""

    def fun(th, key):
        draw = lambda p: random.bernoulli(key, p)  # noqa: E731
        x = jax.vmap(draw)(sigmoid(th))
        return 3.0 * x[0] * x[1] + x[0] - 0.5 * x[1]

    def exact(th):
        p = sigmoid(th)
        return 3 * jnp.min(p) + p[0] - 0.5 * p[1]

    return fun, exact


@context(0.3, -0.4, blind=(1,))
def while_loop_without_gradients():
    """A loop that repeats a parameter-free draw until heads; its count costs."""

    def fun(th, key):
        k0, k1 = random.split(key)
        x = random.bernoulli(k0, sigmoid(th[0]))

        def again(carry):
            k, n, _ = carry
            k, now = random.split(k)
            return k, n + 1, random.bernoulli(now, 0.4)

        start = (k1, 0, jnp.array(False))
        n = lax.while_loop(lambda c: ~c[2] & (c[1] < 3), again, start)[1]
        return x * n + th[1] * n

    def exact(th):
        mean = 0.4 * 1 + 0.6 * 0.4 * 2 + 0.36 * 3
        return (sigmoid(th[0]) + th[1]) * mean

    return fun, exact


# Layouts: whose element meets whose.


def _bernoulli_layout(shape, cost):
    """One draw of `shape` with its own logit each, and a cost of all of them."""
    outcomes = grid(*[2] * int(np.prod(shape)))

    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th.reshape(shape)))
        return cost(1.0 * x, th)

    def exact(th):
        return total(lambda x: ber(sigmoid(th), x) * cost(1.0 * x.reshape(shape), th), outcomes)

    return fun, exact


LAYOUT_COSTS = {
    "flip": ((3,), lambda x, th: jnp.sum(x * x[::-1] * W3) + jnp.sum(V3 * x)),
    "roll": ((3,), lambda x, th: jnp.sum(x * jnp.roll(x, 1) * W3)),
    "outer": ((3,), lambda x, th: jnp.sum(jnp.outer(W3, V3) * x[:, None] * x[None, :])),
    "self_product": ((3,), lambda x, th: x @ jnp.diag(jnp.asarray(W3)) @ x),
    "cumsum": ((3,), lambda x, th: jnp.sum(jnp.cumsum(x) ** 2 * C3)),
    "reverse_cumsum": ((3,), lambda x, th: jnp.sum(jnp.cumsum(x[::-1])[::-1] ** 2 * V3)),
    "sort": ((3,), lambda x, th: jnp.sum(jnp.sort(x * (1 + W3)) * V3)),
    "max": ((3,), lambda x, th: jnp.max(x * W3) + jnp.prod(1 + x * V3)),
    "argmax": ((3,), lambda x, th: jnp.array([-1.0, 3, 1])[jnp.argmax(x * A3)]),
    "batch_norm": ((3,), lambda x, th: jnp.sum((x - jnp.mean(x)) ** 2 * (1 + V3) * th)),
    "softmax": ((3,), lambda x, th: jnp.sum(jax.nn.softmax(x * W3) * C3 * x)),
    "convolve": ((3,), lambda x, th: jnp.sum(jnp.convolve(x, jnp.asarray(W3)) ** 2)),
    "concatenate": ((3,), lambda x, th: _pairs(jnp.concatenate([x, 1 - x[:1]]))),
    "stack": ((3,), lambda x, th: jnp.sum(jnp.prod(jnp.stack([x, 0.3 + x[::-1]]), axis=0))),
    "pad_shift": ((3,), lambda x, th: jnp.sum(x * jnp.pad(x, (1, 0))[:3] * V3)),
    "permutation": ((3,), lambda x, th: jnp.sum(x * x[jnp.array([1, 2, 0])] * W3)),
    "drawn_slice": ((3,), lambda x, th: _slice_at(x)),
    "scatter": ((3,), lambda x, th: jnp.sum(_scatter(x) ** 2)),
    "segment_sum": ((3,), lambda x, th: jnp.sum(_segments(x) ** 2)),
    "repeat_tile": ((3,), lambda x, th: jnp.sum(jnp.repeat(x, 2) * jnp.tile(x * W3, 2))),
    "transpose": ((2, 2), lambda x, th: jnp.sum((x + 2 * x.T) ** 2 * W2)),
    "matmul": ((2, 2), lambda x, th: jnp.sum((x @ W2) ** 2 * th.reshape(2, 2))),
    "matmul_left": ((2, 2), lambda x, th: jnp.sum((B2 @ x) ** 2 * A3[:2])),
    "matmul_both": ((2, 2), lambda x, th: jnp.sum((x @ x) * A3[:2])),
    "batch_einsum": ((2, 2), lambda x, th: jnp.sum(jnp.einsum("bi,bj->bij", x, x) * W2)),
    "row_sums": ((2, 2), lambda x, th: jnp.mean(jnp.sum(x * A3[:2], axis=1) ** 2)),
    "column_means": ((2, 2), lambda x, th: jnp.sum(jnp.mean(x * B2, axis=0) ** 2)),
    "reshape": ((2, 3), lambda x, th: jnp.sum(jnp.sum(x.reshape(3, 2), axis=1) ** 2 * V3)),
    "ravel": ((2, 2), lambda x, th: _pairs(x.ravel())),
    "swapped_reshape": ((2, 3), lambda x, th: jnp.sum(x.T.reshape(2, 3) * x)),
    "vmap_out_axes": ((2, 2), lambda x, th: jnp.sum(_columns(x) * x * B2)),
    "inner_scan": ((3,), lambda x, th: jnp.sum(_running(x) ** 2 * V3)),
    "inner_map": ((3,), lambda x, th: jnp.sum(lax.map(lambda v: v**2 + 0.3 * v, x) * th)),
    "associative_scan": ((3,), lambda x, th: jnp.sum(lax.associative_scan(jnp.add, x) ** 2)),
}


def _pairs(x):
    return jnp.sum(x[1:] * x[:-1] * jnp.arange(1.0, len(x)))


def _slice_at(x):
    start = (x[1] + 2 * x[2]).astype(int)
    return jnp.sum(lax.dynamic_slice(jnp.concatenate([W3[:2], x]), (start,), (2,)) ** 2)


def _scatter(x):
    where = (x[::-1] + jnp.array([0, 1, 0])).astype(int)
    return jnp.zeros(3).at[where].add(x * W3)


def _segments(x):
    return jax.ops.segment_sum(x * W3, jnp.array([0, 1, 0]), num_segments=2)


def _columns(x):
    return jax.vmap(lambda row: row * 2 + row[::-1], out_axes=1)(x)


def _running(x):
    return lax.scan(lambda s, v: (0.5 * s + v, 0.5 * s + v), 0.0, x)[1]


for _name, (_shape, _cost) in LAYOUT_COSTS.items():
    _params = tuple(np.round(np.linspace(-0.7, 0.9, int(np.prod(_shape))), 3).tolist())
    _fun, _exact = _bernoulli_layout(_shape, _cost)
    LAYOUTS.append(Case(_name, _fun, _exact, _params, order=1))


@layout(0.4, -0.3, 0.8, order=1)
def two_layers():
    def fun(th, key):
        k1, k2 = random.split(key)
        h = random.bernoulli(k1, sigmoid(th[:2]))
        v = random.bernoulli(k2, sigmoid(h @ W2 + th[2]))
        return jnp.sum((v - 0.3) ** 2 * V3[:2]) + jnp.sum(h * V3[1:])

    def exact(th):
        def term(x):
            h, v = x[:2], x[2:]
            p = ber(sigmoid(th[:2]), h) * ber(sigmoid(h @ W2 + th[2]), v)
            return p * (jnp.sum((v - 0.3) ** 2 * V3[:2]) + jnp.sum(h * V3[1:]))

        return total(term, grid(2, 2, 2, 2))

    return fun, exact


@layout(0.4, -0.3, order=1)
def entropy_of_a_unit():
    """The draw's own log-probability among the costs, as in every variational bound."""

    def fun(th, key):
        p = sigmoid(th)
        h = random.bernoulli(key, p)
        log_q = jnp.sum(jnp.where(h, jnp.log(p), jnp.log1p(-p)))
        return jnp.sum(h * W3[:2]) ** 2 - log_q

    def exact(th):
        p = sigmoid(th)
        entropy = -jnp.sum(p * jnp.log(p) + (1 - p) * jnp.log1p(-p))
        cost = lambda h: ber(p, h) * jnp.sum(h * W3[:2]) ** 2  # noqa: E731
        return total(cost, grid(2, 2)) + entropy

    return fun, exact


@layout(0.4, -0.3, 0.8, 0.1, order=1)
def batch_of_examples():
    """Rows are examples; within one, two layers. Only the rows' own scores belong."""

    def fun(th, key):
        k1, k2 = random.split(key)
        h = random.bernoulli(k1, sigmoid(th.reshape(2, 2)))
        v = random.bernoulli(k2, sigmoid(jnp.sum(h * W2, axis=1)))
        return jnp.mean((v + jnp.sum(h, axis=1) - 0.5) ** 2)

    def exact(th):
        def example(logits, weights):
            def term(x):
                p = ber(sigmoid(logits), x[:2]) * ber(sigmoid(x[:2] @ weights), x[2])
                return p * (x[2] + x[0] + x[1] - 0.5) ** 2

            return total(term, grid(2, 2, 2))

        return jnp.mean(jax.vmap(example)(th.reshape(2, 2), jnp.asarray(W2)))

    return fun, exact


# Discrete samplers.


@discrete(0.3)
def bernoulli_raw_p():
    def fun(th, key):
        x = random.bernoulli(key, th[0])
        return (x - 0.4 + th[0]) ** 2

    def exact(th):
        return th[0] * (0.6 + th[0]) ** 2 + (1 - th[0]) * (th[0] - 0.4) ** 2

    return fun, exact


@discrete(0.3)
def bernoulli_with_a_shape():
    def fun(th, key):
        x = random.bernoulli(key, th[0], (3,))
        return jnp.prod(1 + x) + jnp.sum(x * W3)

    def exact(th):
        return (1 + th[0]) ** 3 + th[0] * W3.sum()

    return fun, exact


@discrete(0.3, -0.2)
def bernoulli_mode_high():
    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th), mode="high")
        return 3.0 * x[0] * x[1] + x[0]

    def exact(th):
        p = sigmoid(th)
        return 3 * p[0] * p[1] + p[0]

    return fun, exact


@discrete(0.3, order=1, blind=(0,))
def bernoulli_without_p():
    def fun(th, key):
        return random.bernoulli(key) * th[0] ** 2

    def exact(th):
        return 0.5 * th[0] ** 2

    return fun, exact


@discrete(0.5, -0.5, 0.2)
def categorical_of_logits():
    def fun(th, key):
        i = random.categorical(key, th)
        return (i - 0.5) ** 2 * 1.0

    def exact(th):
        return jax.nn.softmax(th) @ (jnp.arange(3) - 0.5) ** 2

    return fun, exact


def _two_categoricals(logits_of):
    """Two independent categorical draws with a joint cost; `logits_of(th)` is (2, 3)."""

    def exact(th):
        logits = logits_of(th)

        def term(i):
            return cat(logits[0], i[0]) * cat(logits[1], i[1]) * _index_cost(i)

        return total(term, grid(3, 3))

    return exact


def _index_cost(i):
    return (i[0] - 0.5) ** 2 + 0.7 * i[0] * i[1]


def _rows(th):
    return jnp.stack([th, 2 * th[::-1]])


@discrete(0.5, -0.5, 0.2)
def categorical_axis_0():
    def fun(th, key):
        return _index_cost(random.categorical(key, _rows(th).T, axis=0))

    return fun, _two_categoricals(_rows)


@discrete(0.5, -0.5, 0.2)
def categorical_batch():
    def fun(th, key):
        return _index_cost(random.categorical(key, _rows(th)))

    return fun, _two_categoricals(_rows)


@discrete(0.5, -0.5, 0.2, order=1)
def categorical_with_a_shape():
    def fun(th, key):
        return _index_cost(random.categorical(key, th, shape=(2,)))

    return fun, _two_categoricals(lambda th: jnp.stack([th, th]))


@discrete(0.5, -0.5, 0.2, order=1)
def categorical_batch_with_a_shape():
    def fun(th, key):
        i = random.categorical(key, _rows(th), shape=(2, 2))
        return _index_cost(i[0]) + _index_cost(i[1])

    return fun, lambda th: 2 * _two_categoricals(_rows)(th)


@discrete(0.5, -0.5, 0.2, order=1)
def categorical_mode_high():
    def fun(th, key):
        return _index_cost(random.categorical(key, _rows(th), mode="high"))

    return fun, _two_categoricals(_rows)


def _ordered_pairs(p):
    """E of `_index_cost` over two draws without replacement."""

    def term(i):
        pair = p[i[0]] * p[i[1]] / (1 - p[i[0]])
        return jnp.where(i[0] == i[1], 0.0, pair) * _index_cost(i)

    return total(term, grid(3, 3))


@discrete(0.5, -0.5, 0.2, blind=(1,))
def categorical_without_replacement():
    def fun(th, key):
        return _index_cost(random.categorical(key, th, shape=(2,), replace=False))

    return fun, lambda th: _ordered_pairs(jax.nn.softmax(th))


@discrete(0.5, -0.5, 0.2, blind=(1,))
def choice_without_replacement():
    def fun(th, key):
        p = jax.nn.softmax(th)
        return _index_cost(random.choice(key, 3, (2,), replace=False, p=p))

    return fun, lambda th: _ordered_pairs(jax.nn.softmax(th))


@discrete(0.2, 0.3, 0.5)
def choice_of_an_index():
    def fun(th, key):
        return (random.choice(key, 3, p=th) - 0.4) ** 2

    def exact(th):
        return th @ (jnp.arange(3) - 0.4) ** 2 / jnp.sum(th)

    return fun, exact


@discrete(1.0, 2.0, 3.0)
def choice_unnormalised():
    def fun(th, key):
        return jnp.asarray([-1.0, -2.0, 4.0])[random.choice(key, 3, p=th)]

    def exact(th):
        return th @ jnp.array([-1.0, -2.0, 4.0]) / jnp.sum(th)

    return fun, exact


@discrete(0.5, -0.5, 0.2)
def choice_of_values_that_depend_on_parameters():
    def fun(th, key):
        values = jnp.stack([th[0], th[1] ** 2, jnp.ones(())])
        return random.choice(key, values, p=jax.nn.softmax(th)) ** 2

    def exact(th):
        values = jnp.stack([th[0], th[1] ** 2, jnp.ones(())])
        return jax.nn.softmax(th) @ values**2

    return fun, exact


@discrete(0.5, -0.5, 0.2, order=1)
def choice_with_a_shape():
    def fun(th, key):
        return _index_cost(random.choice(key, 3, (2,), p=jax.nn.softmax(th)))

    return fun, _two_categoricals(lambda th: jnp.stack([th, th]))


@discrete(0.5, -0.5, 0.2, order=1)
def choice_of_rows():
    table = np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 0.0]], np.float32)

    def fun(th, key):
        row = random.choice(key, jnp.asarray(table), p=jax.nn.softmax(th), axis=0)
        return row[0] * row[1] + row[0]

    def exact(th):
        return jax.nn.softmax(th) @ (table[:, 0] * table[:, 1] + table[:, 0])

    return fun, exact


@discrete(0.5, -0.5, 0.2, order=1, blind=(0, 1, 2))
def choice_without_p():
    def fun(th, key):
        return random.choice(key, th) ** 2

    return fun, lambda th: jnp.mean(th**2)


@discrete(0.5, -0.5, 0.2, order=1, blind=(0, 1, 2))
def permutation():
    orders = np.array(list(itertools.permutations(range(3))))

    def fun(th, key):
        return jnp.sum(random.permutation(key, th) * W3) ** 2

    def exact(th):
        return jnp.mean(jax.vmap(lambda i: jnp.sum(th[i] * W3) ** 2)(jnp.asarray(orders)))

    return fun, exact


def _log_factorial(x):
    return gammaln(x + 1.0)


@discrete(0.4)
def poisson():
    def fun(th, key):
        x = random.poisson(key, jnp.exp(th[0]))
        return jnp.abs(x - 2.0) + th[0] * x

    def exact(th):
        rate = jnp.exp(th[0])
        x = jnp.arange(60.0)
        p = jnp.exp(x * th[0] - rate - _log_factorial(x))
        return p @ (jnp.abs(x - 2.0) + th[0] * x)

    return fun, exact


@discrete(1.5, 12.0, order=1)
def poisson_rates():
    def fun(th, key):
        x = random.poisson(key, th)
        return 1.0 * x[0] * x[1] + x[0] ** 2

    def exact(th):
        return th[0] * th[1] + th[0] + th[0] ** 2

    return fun, exact


@discrete(0.4)
def geometric():
    def fun(th, key):
        x = random.geometric(key, th[0])
        return jnp.sqrt(1.0 * x) + (x == 2) * th[0]

    def exact(th):
        x = jnp.arange(1.0, 200.0)
        p = th[0] * (1 - th[0]) ** (x - 1)
        return p @ (jnp.sqrt(x) + (x == 2) * th[0])

    return fun, exact


def _binomial(n, p):
    x = jnp.arange(n + 1.0)
    log_ways = _log_factorial(float(n)) - _log_factorial(x) - _log_factorial(n - x)
    return x, jnp.exp(log_ways) * p**x * (1 - p) ** (n - x)


@discrete(0.3)
def binomial():
    def fun(th, key):
        x = random.binomial(key, 5, th[0])
        return jnp.abs(x - 3.0) + th[0] * x

    def exact(th):
        x, p = _binomial(5, th[0])
        return p @ (jnp.abs(x - 3.0) + th[0] * x)

    return fun, exact


@discrete(1.5, 0.4)
def binomial_of_a_drawn_number():
    """Thinning: successes and failures are independent Poisson counts."""

    def fun(th, key):
        k1, k2 = random.split(key)
        n = random.poisson(k1, th[0])
        return (random.binomial(k2, n, th[1]) - 0.3 * n) ** 2

    def exact(th):
        a, b = th[0] * th[1], th[0] * (1 - th[1])
        return 0.49 * (a + a**2) - 0.42 * a * b + 0.09 * (b + b**2)

    return fun, exact


@discrete(0.7, 0.2, order=1)
def binomial_vector():
    def fun(th, key):
        x = random.binomial(key, jnp.array([4.0, 20.0]), th)
        return x[0] * x[1] + jnp.sqrt(1 + x[0])

    def exact(th):
        x, p = _binomial(4, th[0])
        return 4 * th[0] * 20 * th[1] + p @ jnp.sqrt(1 + x)

    return fun, exact


def _multinomial(n, p, cost):
    counts = np.array([c for c in itertools.product(range(n + 1), repeat=3) if sum(c) == n])
    ways = [math.factorial(n) / math.prod(map(math.factorial, c)) for c in counts.tolist()]

    def term(row):
        return row[0] * jnp.prod(p ** row[1:]) * cost(row[1:])

    return total(term, np.column_stack([ways, counts]).astype(float))


def _count_cost(x):
    return jnp.sum(jnp.sqrt(1.0 + x) * W3) + x[0] * x[2]


@discrete(0.5, -0.5, 0.2, n=40_000, order=1)
def multinomial_of_softmax():
    def fun(th, key):
        return _count_cost(random.multinomial(key, 3, jax.nn.softmax(th)))

    return fun, lambda th: _multinomial(3, jax.nn.softmax(th), _count_cost)


@discrete(0.2, 0.3, 0.5, n=40_000, order=1)
def multinomial_of_raw_p():
    """The sampler divides by the sum of p, so it is the normalised p that counts."""

    def fun(th, key):
        return _count_cost(random.multinomial(key, 3, th))

    return fun, lambda th: _multinomial(3, th / jnp.sum(th), _count_cost)


@discrete(0.5, -0.5, 0.2, order=1, blind=(0, 1, 2))
def randint():
    def fun(th, key):
        return jnp.sum(th[random.randint(key, (2,), 0, 3)]) ** 2

    def exact(th):
        return total(lambda i: jnp.sum(th[i]) ** 2 / 9, grid(3, 3))

    return fun, exact


@discrete(0.5, -0.5, order=1, blind=(0,))
def rademacher():
    def fun(th, key):
        k1, k2 = random.split(key)
        s = random.rademacher(k1, dtype=jnp.float32)
        x = random.bernoulli(k2, sigmoid(th[1] * s))
        return (s * th[0] + 1) ** 3 + x * s

    def exact(th):
        noise = ((1 + th[0]) ** 3 + (1 - th[0]) ** 3) / 2
        return noise + (sigmoid(th[1]) - sigmoid(-th[1])) / 2

    return fun, exact


@discrete(0.5, -0.5, 0.3)
def every_discrete_one_at_once():
    def fun(th, key):
        k1, k2, k3 = random.split(key, 3)
        n = random.poisson(k1, jnp.exp(th[0]))
        x = random.bernoulli(k2, sigmoid(th[1] + jnp.minimum(n, 2)))
        i = random.categorical(k3, jnp.stack([th[2], 0.0, 1.0 * x]))
        return (i - x) ** 2 + 0.3 * jnp.minimum(n, 4)

    def exact(th):
        def term(o):
            n, x, i = o
            rate = jnp.exp(th[0])
            p = jnp.exp(n * th[0] - rate - _log_factorial(1.0 * n))
            p = p * ber(sigmoid(th[1] + jnp.minimum(n, 2)), x)
            p = p * cat(jnp.stack([th[2], 0.0, 1.0 * x]), i)
            return p * ((i - x) ** 2 + 0.3 * jnp.minimum(n, 4))

        return total(term, grid(40, 2, 3))

    return fun, exact


# Continuous samplers: the pathwise gradient is right, except that of `wald`.


def smooth(*params, n=40_000, blind=None):
    """A continuous case: plain `jax.grad` is right at every parameter unless said."""
    blind = tuple(range(len(params))) if blind is None else blind
    return continuous(*params, n=n, order=1, blind=blind)


@smooth(-0.5, 1.5)
def uniform():
    def fun(th, key):
        return random.uniform(key, minval=th[0], maxval=th[1]) ** 2

    return fun, lambda th: (th[1] ** 3 - th[0] ** 3) / (3 * (th[1] - th[0]))


@smooth(0.4, 1.5)
def normal():
    def fun(th, key):
        return jnp.sum((th[0] + th[1] * random.normal(key, (2,))) ** 3)

    return fun, lambda th: 2 * (th[0] ** 3 + 3 * th[0] * th[1] ** 2)


@smooth(2.3, n=10_000)
def gamma():
    return lambda th, key: random.gamma(key, th[0]) ** 2, lambda th: th[0] * (th[0] + 1)


@smooth(0.4, n=10_000)
def gamma_below_one():
    return lambda th, key: random.gamma(key, th[0]) ** 2, lambda th: th[0] * (th[0] + 1)


@smooth(0.7, n=10_000)
def loggamma():
    return lambda th, key: random.loggamma(key, th[0]), lambda th: digamma(th[0])


@smooth(1.3, 2.0, n=10_000)
def beta():
    def exact(th):
        a, b = th
        return a * (a + 1) / ((a + b) * (a + b + 1))

    return lambda th, key: random.beta(key, th[0], th[1]) ** 2, exact


@smooth(1.3, 2.0, 0.6, n=10_000)
def dirichlet():
    def fun(th, key):
        x = random.dirichlet(key, th)
        return x[0] * x[1] + x[2]

    def exact(th):
        s = jnp.sum(th)
        return th[0] * th[1] / (s * (s + 1)) + th[2] / s

    return fun, exact


@smooth(3.5, n=10_000)
def student_t():
    def fun(th, key):
        return 1 / (1 + random.t(key, th[0]) ** 2 / th[0])

    return fun, lambda th: th[0] / (th[0] + 1)


@smooth(1.7)
def exponential():
    return lambda th, key: (random.exponential(key) / th[0]) ** 2, lambda th: 2 / th[0] ** 2


@smooth(0.4, 1.5)
def laplace():
    def fun(th, key):
        return (th[0] + th[1] * random.laplace(key)) ** 2

    return fun, lambda th: th[0] ** 2 + 2 * th[1] ** 2


@smooth(0.4, 1.5)
def gumbel():
    def fun(th, key):
        return (th[0] + th[1] * random.gumbel(key)) ** 2

    def exact(th):
        mean = th[0] + th[1] * np.euler_gamma
        return mean**2 + th[1] ** 2 * np.pi**2 / 6

    return fun, exact


@smooth(0.4, 1.5)
def logistic():
    def fun(th, key):
        return (th[0] + th[1] * random.logistic(key)) ** 2

    return fun, lambda th: th[0] ** 2 + th[1] ** 2 * np.pi**2 / 3


@smooth(0.8)
def cauchy():
    def fun(th, key):
        return jnp.log1p((th[0] * random.cauchy(key)) ** 2)

    return fun, lambda th: 2 * jnp.log1p(th[0])


@smooth(2.5)
def pareto():
    return lambda th, key: jnp.log(random.pareto(key, th[0])), lambda th: 1 / th[0]


@smooth(1.4, 2.2)
def weibull_min():
    def fun(th, key):
        return random.weibull_min(key, th[0], th[1]) ** 2

    return fun, lambda th: th[0] ** 2 * jnp.exp(gammaln(1 + 2 / th[1]))


@smooth(0.6)
def lognormal():
    return lambda th, key: random.lognormal(key, th[0]), lambda th: jnp.exp(th[0] ** 2 / 2)


@smooth(-0.5, 0.4, 1.5)
def triangular():
    def fun(th, key):
        return random.triangular(key, th[0], th[1], th[2]) ** 2

    def exact(th):
        a, b, c = th
        return (a**2 + b**2 + c**2 + a * b + a * c + b * c) / 6

    return fun, exact


@smooth(-0.5, 1.5)
def truncated_normal():
    def fun(th, key):
        return random.truncated_normal(key, th[0], th[1])

    def exact(th):
        mass = norm.cdf(th[1]) - norm.cdf(th[0])
        return (norm.pdf(th[0]) - norm.pdf(th[1])) / mass

    return fun, exact


@smooth(1.3)
def rayleigh():
    return lambda th, key: random.rayleigh(key, th[0]) ** 2, lambda th: 2 * th[0] ** 2


@smooth(1.3)
def maxwell():
    return lambda th, key: (th[0] * random.maxwell(key)) ** 2, lambda th: 3 * th[0] ** 2


@smooth(0.4, 1.3)
def double_sided_maxwell():
    def fun(th, key):
        return random.double_sided_maxwell(key, th[0], th[1]) ** 2

    return fun, lambda th: th[0] ** 2 + 3 * th[1] ** 2


@smooth(3.5, n=10_000)
def chisquare():
    return lambda th, key: random.chisquare(key, th[0]) ** 2, lambda th: th[0] * (th[0] + 2)


@smooth(3.0, 5.0, n=5_000)
def f_ratio():
    def fun(th, key):
        x = random.f(key, th[0], th[1])
        return th[0] * x / (th[0] * x + th[1])

    return fun, lambda th: th[0] / (th[0] + th[1])


@smooth(0.4, -0.3, 1.2, 0.5)
def multivariate_normal():
    def covariance(th):
        return jnp.array([[th[2] ** 2 + 0.1, th[2] * th[3]], [th[2] * th[3], th[3] ** 2 + 0.3]])

    def fun(th, key):
        x = random.multivariate_normal(key, th[:2], covariance(th))
        return 1.0 * x[0] * x[1] + x[0] ** 2

    def exact(th):
        return th[0] * th[1] + th[2] * th[3] + th[0] ** 2 + th[2] ** 2 + 0.1

    return fun, exact


@smooth(2.0, n=100_000, blind=())
def wald_mean():
    """jax.grad gives 1.252 here; the mean of wald(m) is m, so 1 is right."""
    return lambda th, key: random.wald(key, th[0]), lambda th: th[0]


def _wald_laplace(th):
    """E[exp(-x / 2)] of the inverse Gaussian with this mean and unit shape."""
    return jnp.exp((1 - jnp.sqrt(1 + th[0] ** 2)) / th[0])


@smooth(1.2, n=100_000, blind=())
def wald_through_a_cost():
    return lambda th, key: jnp.exp(-random.wald(key, th[0]) / 2), _wald_laplace


@smooth(1.7)
def ball():
    def fun(th, key):
        return jnp.sum((th[0] * random.ball(key, 3)) ** 2)

    return fun, lambda th: th[0] ** 2 * 3 / 5


@layout(0.3, -0.4, order=1, blind=(1,))
def an_axis_of_one_is_broadcast():
    """`lax` repeats axes of length 1 in elementwise operations, without an equation of its own."""

    def fun(th, key):
        x = random.bernoulli(key, sigmoid(th[:1])).astype(jnp.float32)
        repeated = A3 * x
        later = repeated[1:2] * V3 + repeated[2]
        return jnp.sum(later**2) * (1 + th[1] * x[0]) + repeated[::-1][0]

    def exact(th):
        def term(x):
            y = A3 * x[0]
            return ber(sigmoid(th[0]), x[0]) * (
                jnp.sum((y[1] * V3 + y[2]) ** 2) * (1 + th[1] * x[0]) + y[2]
            )

        return total(term, grid(2))

    return fun, exact
