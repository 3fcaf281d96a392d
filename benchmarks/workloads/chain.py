"""A discrete chain with a small table of parameters, in `lax.scan`: a cost at every step.

A categorical policy picks an action, the environment draws the next state, each (state, action) has
a cost; one chain, or many in parallel, and the cost summed in the carry or stacked by the loop.
The textbook weights every action with the cost of the whole chain, less the mean of others; credit
is finer with reward-to-go, the costs from that step on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jscg
from benchmarks.workloads import Gradient, Workload, workload

STATES, ACTIONS, SAMPLES = 12, 4, 4


class World(NamedTuple):
    """The environment: transition logits [state, action, state] and costs [state, action]."""

    transitions: jax.Array
    costs: jax.Array


def world(states: int, actions: int = ACTIONS, seed: int = 0) -> World:
    """A random environment."""
    keys = jax.random.split(jax.random.key(seed))
    transitions = 1.5 * jax.random.normal(keys[0], (states, actions, states))
    return World(transitions, jax.random.normal(keys[1], (states, actions)))


# The sampling functions --------------------------------------------------------------------------


def loss_carry(
    theta: jax.Array, key: jax.Array, *, env: World, chains: int, steps: int
) -> jax.Array:
    """The mean cost of the chains, summed in the carry."""

    def step(carry: Any, key: jax.Array) -> Any:
        state, total = carry
        action_key, state_key = jax.random.split(key)
        action = jax.random.categorical(action_key, theta[state])
        total = total + env.costs[state, action]
        state = jax.random.categorical(state_key, env.transitions[state, action])
        return (state, total), None

    start = jnp.zeros(chains, jnp.int32), jnp.zeros(chains)
    (_, total), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
    return jnp.mean(total)


def loss_stacked(
    theta: jax.Array, key: jax.Array, *, env: World, chains: int, steps: int
) -> jax.Array:
    """The same, with costs stacked by the loop and summed after it."""

    def step(state: jax.Array, key: jax.Array) -> Any:
        action_key, state_key = jax.random.split(key)
        action = jax.random.categorical(action_key, theta[state])
        cost = env.costs[state, action]
        return jax.random.categorical(state_key, env.transitions[state, action]), cost

    start = jnp.zeros(chains, jnp.int32)
    _, costs = jax.lax.scan(step, start, jax.random.split(key, steps))
    return jnp.mean(jnp.sum(costs, 0))


def mean(theta: jax.Array, env: World, steps: int) -> jax.Array:
    """The expectation of the cost, by the chances of all states."""
    policy, transitions = jax.nn.softmax(theta), jax.nn.softmax(env.transitions)

    def step(chance: jax.Array, _: None) -> Any:
        both = chance[:, None] * policy
        return jnp.einsum("sa,sat->t", both, transitions), jnp.sum(both * env.costs)

    start = jnp.zeros(len(theta)).at[0].set(1.0)
    return jnp.sum(jax.lax.scan(step, start, length=steps)[1])


# Hand-written reward-to-go -----------------------------------------------------------------------


def rollout(
    theta: jax.Array, key: jax.Array, env: World, chains: int, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """States, actions and costs, [step, chain], with the keys that the sampling functions use."""

    def step(state: jax.Array, key: jax.Array) -> Any:
        action_key, state_key = jax.random.split(key)
        action = jax.random.categorical(action_key, theta[state])
        cost = env.costs[state, action]
        following = jax.random.categorical(state_key, env.transitions[state, action])
        return following, (state, action, cost)

    start = jnp.zeros(chains, jnp.int32)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[1]


def log_prob(theta: jax.Array, state: jax.Array, action: jax.Array) -> jax.Array:
    """The log-probability of the actions."""
    logits = theta[state]
    chosen = jnp.take_along_axis(logits, action[..., None], -1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, -1)


def reward_to_go(costs: jax.Array) -> jax.Array:
    """The sum of the costs from each step on."""
    return jnp.cumsum(costs[::-1], 0)[::-1]


def from_path(
    theta: jax.Array, states: jax.Array, actions: jax.Array, costs: jax.Array
) -> jax.Array:
    """The gradient of mean(log p * reward-to-go), in one batched backward pass."""
    weights = reward_to_go(costs)

    def surrogate(theta: jax.Array) -> jax.Array:
        return jnp.sum(log_prob(theta, states, actions) * weights) / costs.shape[1]

    return jax.grad(surrogate)(theta)


def from_path_by_table(
    theta: jax.Array, states: jax.Array, actions: jax.Array, costs: jax.Array
) -> jax.Array:
    """The same from the summed weights of each (state, action): no gradient per step at all."""
    weights = reward_to_go(costs) / costs.shape[1]
    table = jnp.zeros_like(theta).at[states, actions].add(weights)
    return table - jnp.sum(table, -1, keepdims=True) * jax.nn.softmax(theta, -1)


def by_rollout(theta: jax.Array, key: jax.Array, env: World, chains: int, steps: int) -> jax.Array:
    """Sample in the scan, then one backward pass over all steps."""
    return from_path(theta, *rollout(theta, key, env, chains, steps))


def by_table(theta: jax.Array, key: jax.Array, env: World, chains: int, steps: int) -> jax.Array:
    """Sample in the scan, then the closed form of a tabular policy's gradient."""
    return from_path_by_table(theta, *rollout(theta, key, env, chains, steps))


def through_scan(
    theta: jax.Array, key: jax.Array, env: World, chains: int, steps: int
) -> jax.Array:
    """Weight each step's cost by the running score inside the loop, differentiate the loop."""

    def surrogate(theta: jax.Array) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> Any:
            state, score, total = carry
            action_key, state_key = jax.random.split(key)
            logits = theta[state]
            action = jax.random.categorical(action_key, jax.lax.stop_gradient(logits))
            chosen = jnp.take_along_axis(logits, action[:, None], -1)[:, 0]
            score = score + chosen - jax.nn.logsumexp(logits, -1)
            total = total + env.costs[state, action] * score
            state = jax.random.categorical(state_key, env.transitions[state, action])
            return (state, score, total), None

        start = jnp.zeros(chains, jnp.int32), jnp.zeros(chains), jnp.zeros(chains)
        (_, _, total), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        return jnp.mean(total)

    return jax.grad(surrogate)(theta)


def by_textbook(theta: jax.Array, key: jax.Array, env: World, chains: int, steps: int) -> jax.Array:
    """The cost of the whole chain, less the mean of the other chains (of four, if it is one)."""
    if chains == 1:
        keys = jax.random.split(key, SAMPLES)
        paths = jax.vmap(lambda key: rollout(theta, key, env, 1, steps))(keys)
        states, actions, costs = (jnp.moveaxis(x[..., 0], 0, 1) for x in paths)
    else:
        states, actions, costs = rollout(theta, key, env, chains, steps)
    whole = jnp.sum(costs, 0)
    weights = (whole - jnp.mean(whole)) / (len(whole) - 1)
    return jax.grad(lambda theta: jnp.sum(log_prob(theta, states, actions) * weights))(theta)


VARIANTS: dict[str, Callable[..., jax.Array]] = {
    "rollout": by_rollout,
    "through the scan": through_scan,
    "table": by_table,
}


def make(
    loss: Callable[..., jax.Array], chains: int, steps: int, keys: int = 400, states: int = STATES
) -> Workload:
    """So many chains; `same` has no baseline."""
    env = world(states)
    theta = 0.5 * jax.random.normal(jax.random.key(1), (states, ACTIONS))

    def given(fun: Callable[..., jax.Array]) -> Gradient:
        return functools.partial(fun, env=env, chains=chains, steps=steps)

    return Workload(
        cost=given(loss),
        params=theta,
        hand={name: given(fun) for name, fun in VARIANTS.items()},
        textbook=("the whole cost, leave-one-out", given(by_textbook)),
        same={"estimators": jscg.estimators.ScoreFunction(baseline=None)},
        keys=keys,
        exact=lambda: jax.grad(mean)(theta, env, steps),
    )


SINGLE = functools.partial(make, loss_carry, 1, 4, states=3)
PARALLEL = functools.partial(make, loss_stacked, 3, 4, states=3)
for steps in (10, 100, 1_000):
    workload(f"chain x1, T = {steps:,}", SINGLE)(functools.partial(make, loss_carry, 1, steps))
for place, loss in {"carried": loss_carry, "stacked": loss_stacked}.items():
    workload(f"chain x64, T = 100, cost {place}", PARALLEL)(functools.partial(make, loss, 64, 100))
