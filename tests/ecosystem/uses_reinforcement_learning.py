"""Policies of rlax, and a gymnax environment stepped in a scan."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid, softmax
from table import WORTH, of_class, of_square, table_of, three

rlax_row, gymnax_row = table_of("rlax"), table_of("gymnax")
STEPS = 5


@rlax_row(of_class)
def softmax_policy(th, key):
    import rlax

    return WORTH[rlax.softmax().sample(key, three(th))]


@rlax_row(lambda th: softmax(three(th) / 2) @ WORTH)
def softmax_policy_with_a_temperature(th, key):
    import rlax

    return WORTH[rlax.softmax(temperature=2.0).sample(key, three(th))]


@rlax_row(lambda th: (0.9 * 1 - 0.1 * 0.5 / 3) * th[0], scored=False)
def epsilon_greedy(th, key):
    import rlax

    return WORTH[rlax.epsilon_greedy(0.1).sample(key, WORTH)] * th[0]


@rlax_row(of_square, scored=False)
def gaussian_policy(th, key):
    import rlax

    return rlax.gaussian_diagonal().sample(key, th[:1], th[1:])[0] ** 2


@functools.cache
def cart_pole():
    """The environment, its parameters, and where it starts."""
    import gymnax

    env, params = gymnax.make("CartPole-v1")
    with jax.ensure_compile_time_eval():
        obs, state = env.reset(jax.random.key(0), params)
    return env, params, np.asarray(obs), jax.tree.map(np.asarray, state)


def logit(th, obs):
    return th[0] + 3 * th[1] * obs[1] + obs[3]


def cost(obs):
    return 10 * obs[0] + obs[1] * obs[3]


@jax.jit
def observed(actions):
    """The observations before each action and after the last: nothing else is random."""
    env, params, obs, state = cart_pole()

    def step(carry, action):
        obs, state = carry
        new_obs, state = env.step(jax.random.key(0), state, action, params)[:2]
        return (new_obs, state), obs

    (last, _), before = jax.lax.scan(step, (obs, state), actions)
    return jnp.concatenate([before, last[None]])


def value(th):
    """Over all sequences of actions."""
    total = 0.0
    for actions in itertools.product((0, 1), repeat=STEPS):
        actions = jnp.array(actions)
        obs = jax.lax.stop_gradient(observed(actions))
        p = sigmoid(jax.vmap(logit, (None, 0))(th, obs[:-1]))
        prob = jnp.prod(jnp.where(actions == 1, p, 1 - p))
        total += prob * jnp.sum(jax.vmap(cost)(obs[1:]))
    return total


@gymnax_row(value)
def cart_pole_in_a_scan(th, key):
    env, params, obs, state = cart_pole()

    def step(carry, key):
        obs, state = carry
        k1, k2 = jax.random.split(key)
        action = jax.random.bernoulli(k1, sigmoid(logit(th, obs))).astype(int)
        obs, state = env.step(k2, state, action, params)[:2]
        return (obs, state), cost(obs)

    return jnp.sum(jax.lax.scan(step, (obs, state), jax.random.split(key, STEPS))[1])
