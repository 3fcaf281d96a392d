"""Policy gradients of CartPole: the environment and a network as the policy, in one `lax.scan`.

The estimator is REINFORCE with reward-to-go (Williams 1992; Schulman et al. 2015, eq. 44), an
action credited with the costs of later steps: a push changes the speeds of its own step, and
whether the pole stands is read off the angle.  That is one step finer than the textbook's, which
counts the cost of an action's own step, too; nothing is finer, so variance x time has no goal.  By
hand it is differentiated through the scan, or sampled in the scan and differentiated in one batch
over all steps, for which the policy is run once more, or its layers are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid, sigmoid

import jscg
from benchmarks.workloads import Gradient, Workload, workload

STEPS, HIDDEN = 200, 32


class State(NamedTuple):
    """Of the cart and of the pole, an element for each environment."""

    x: jax.Array
    speed: jax.Array
    angle: jax.Array
    spin: jax.Array


class Path(NamedTuple):
    """What was played, `[step, environment]`; the states, on a last axis, are those before."""

    states: jax.Array
    pushes: jax.Array
    costs: jax.Array


# The sampling function ---------------------------------------------------------------------------


def physics(state: State, right: jax.Array) -> State:
    """The cart and the pole 0.02 s later, with the constants of Gym's CartPole."""
    _, speed, angle, spin = state
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    push = (jnp.where(right, 10.0, -10.0) + 0.05 * spin**2 * sin) / 1.1
    spin_change = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    speed_change = push - 0.05 * spin_change * cos / 1.1
    changes = speed, speed_change, spin, spin_change
    return State(*(s + 0.02 * change for s, change in zip(state, changes, strict=True)))


def stands(state: State) -> jax.Array:
    """Whether the pole leans by less than 12 degrees, and the cart is on the track."""
    return (jnp.abs(state.x) < 2.4) & (jnp.abs(state.angle) < np.radians(12))


def seen(state: State) -> jax.Array:
    """What the policy sees: the state on a last axis."""
    return jnp.stack(state, -1)


def logit_of(params: dict[str, jax.Array], seen: jax.Array) -> jax.Array:
    """Of the chance of a push to the right."""
    hidden = jnp.tanh(seen @ params["w1"] + params["b1"])
    hidden = jnp.tanh(hidden @ params["w2"] + params["b2"])
    return hidden @ params["w3"] + params["b3"]


def beginning(key: jax.Array, envs: int) -> tuple[State, jax.Array]:
    """The first states, and that all poles stand."""
    start = jax.random.uniform(key, (4, envs), minval=-0.05, maxval=0.05)
    return State(*start), jnp.ones(envs, bool)


def loss(params: dict[str, jax.Array], key: jax.Array, *, envs: int, steps: int) -> jax.Array:
    """Minus the number of steps that the pole stands, the mean over environments."""
    start, key = jax.random.split(key)

    def step(carry: Any, key: jax.Array) -> Any:
        state, upright = carry
        right = jax.random.bernoulli(key, sigmoid(logit_of(params, seen(state))))
        state = physics(state, right)
        upright &= stands(state)
        return (state, upright), -1.0 * upright

    keys = jax.random.split(key, steps)
    costs = jax.lax.scan(step, beginning(start, envs), keys)[1]
    return jnp.mean(jnp.sum(costs, 0))


def init(key: jax.Array, hidden: int = HIDDEN) -> dict[str, jax.Array]:
    """Weights of a policy that pushes to either side with nearly the same chance."""
    keys = jax.random.split(key, 3)
    return {
        "w1": jax.random.normal(keys[0], (4, hidden)),
        "b1": jnp.zeros(hidden),
        "w2": jax.random.normal(keys[1], (hidden, hidden)) / np.sqrt(hidden),
        "b2": jnp.zeros(hidden),
        "w3": jax.random.normal(keys[2], (hidden,)) / np.sqrt(hidden),
        "b3": jnp.zeros(()),
    }


# By hand -----------------------------------------------------------------------------------------


def log_prob(logit: jax.Array, right: jax.Array) -> jax.Array:
    """Of the pushes."""
    return log_sigmoid(jnp.where(right, logit, -logit))


def rollout(params: dict[str, jax.Array], key: jax.Array, envs: int, steps: int) -> Path:
    """Plays with the keys of the sampling function."""
    start, key = jax.random.split(key)

    def step(carry: Any, key: jax.Array) -> Any:
        state, upright = carry
        before = seen(state)
        right = jax.random.bernoulli(key, sigmoid(logit_of(params, before)))
        state = physics(state, right)
        upright &= stands(state)
        return (state, upright), Path(before, right, -1.0 * upright)

    return jax.lax.scan(step, beginning(start, envs), jax.random.split(key, steps))[1]


def to_go(costs: jax.Array) -> jax.Array:
    """The sum of the costs from each step on."""
    return jnp.cumsum(costs[::-1], 0)[::-1]


def after(costs: jax.Array) -> jax.Array:
    """The sum of the costs after each step."""
    return to_go(costs) - costs


def less_others(returns: jax.Array) -> jax.Array:
    """Less the mean of the other environments at the same step."""
    n = returns.shape[1]
    return (returns - jnp.mean(returns, 1, keepdims=True)) * n / (n - 1)


def from_path(params: dict[str, jax.Array], path: Path, returns: jax.Array) -> Any:
    """The gradient of mean(log p * returns), all steps and environments in one batch."""
    rows = path.states.reshape(-1, 4)

    def surrogate(params: dict[str, jax.Array]) -> jax.Array:
        score = log_prob(logit_of(params, rows), path.pushes.reshape(-1))
        return score @ returns.reshape(-1) / path.costs.shape[1]

    return jax.grad(surrogate)(params)


def by_policy_again(params: dict[str, jax.Array], key: jax.Array, envs: int, steps: int) -> Any:
    """Plays in the scan; then one batch, in which the policy is run once more."""
    path = rollout(params, key, envs, steps)
    return from_path(params, path, after(path.costs))


def by_kept_layers(params: dict[str, jax.Array], key: jax.Array, envs: int, steps: int) -> Any:
    """Plays in the scan and keeps what the layers give; then the chain rule, in one batch."""
    start, key = jax.random.split(key)

    def step(carry: Any, key: jax.Array) -> Any:
        state, upright = carry
        before = seen(state)
        one = jnp.tanh(before @ params["w1"] + params["b1"])
        two = jnp.tanh(one @ params["w2"] + params["b2"])
        chance = sigmoid(two @ params["w3"] + params["b3"])
        right = jax.random.bernoulli(key, chance)
        state = physics(state, right)
        upright &= stands(state)
        return (state, upright), (before, one, two, right - chance, -1.0 * upright)

    keys = jax.random.split(key, steps)
    states, one, two, score, costs = jax.lax.scan(step, beginning(start, envs), keys)[1]
    states, one, two = (x.reshape(-1, x.shape[-1]) for x in (states, one, two))
    at_three = (score * after(costs)).reshape(-1) / envs
    at_two = at_three[:, None] * params["w3"] * (1 - two**2)
    at_one = (at_two @ params["w2"].T) * (1 - one**2)
    return {
        "w1": states.T @ at_one,
        "b1": jnp.sum(at_one, 0),
        "w2": one.T @ at_two,
        "b2": jnp.sum(at_two, 0),
        "w3": at_three @ two,
        "b3": jnp.sum(at_three),
    }


def through_scan(params: dict[str, jax.Array], key: jax.Array, envs: int, steps: int) -> Any:
    """Weights the cost of each step by the score so far; the loop is differentiated."""
    start, key = jax.random.split(key)

    def surrogate(params: dict[str, jax.Array]) -> jax.Array:
        def step(carry: Any, key: jax.Array) -> Any:
            state, upright, score, total = carry
            logit = logit_of(params, seen(state))
            right = jax.random.bernoulli(key, sigmoid(jax.lax.stop_gradient(logit)))
            state = physics(state, right)
            upright &= stands(state)
            total -= upright * score
            return (state, upright, score + log_prob(logit, right), total), None

        zeros = jnp.zeros(envs)
        first = *beginning(start, envs), zeros, zeros
        return jnp.mean(jax.lax.scan(step, first, jax.random.split(key, steps))[0][3])

    return jax.grad(surrogate)(params)


def by_textbook(params: dict[str, jax.Array], key: jax.Array, envs: int, steps: int) -> Any:
    """Equation 44, its baseline the mean of the other environments at the same step.

    That is what textbooks have who learn no value of a state (Greensmith et al. 2004; Kool et al.
    2019).  Reward-to-go alone has 1.4 times its variance and would be too weak an opponent.
    """
    path = rollout(params, key, envs, steps)
    return from_path(params, path, less_others(to_go(path.costs)))


HAND: dict[str, Callable[..., Any]] = {
    "policy again": by_policy_again,
    "kept layers": by_kept_layers,
    "through the scan": through_scan,
}


def make(envs: int, keys: int, steps: int = STEPS) -> Workload:
    """The workload with so many environments."""

    def given(fun: Callable[..., Any]) -> Gradient:
        return functools.partial(fun, envs=envs, steps=steps)

    return Workload(
        cost=given(loss),
        params=init(jax.random.key(0)),
        hand={name: given(fun) for name, fun in HAND.items()},
        textbook=("reward-to-go, leave-one-out for each step", given(by_textbook)),
        same={"estimators": jscg.estimators.ScoreFunction(baseline=None)},
        keys=keys,
        finer=False,
    )


TINY = functools.partial(make, 4, 100, 5)
workload("cartpole, 64 environments", TINY)(functools.partial(make, 64, 400))
workload("cartpole, 1,024 environments", TINY)(functools.partial(make, 1_024, 100))
