"""`python -m jscg`: three small sampling programs, differentiated three ways.

Plain `jax.grad` cannot see through a discrete draw: it returns zeros, or the part of the gradient
that happens not to pass through one. The exact gradients come from enumerating all outcomes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jscg

Array = jax.Array
SAMPLES = 4000

# Three power plants to commit for tomorrow: capacity, price of running, and the demand.
CAPACITY, PRICE, DEMAND = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.8, 1.5]), 4.0


def commitment_cost(on: Array) -> Array:
    """The price of the plants that run, and a penalty for missing the demand."""
    return jnp.sum(on * PRICE) + (DEMAND - jnp.sum(on * CAPACITY)) ** 2


def commitment(theta: Array, key: Array) -> Array:
    """Each plant is committed by a coin of its own."""
    on = jax.random.bernoulli(key, jax.nn.sigmoid(theta))
    return commitment_cost(on)


def commitment_mean(theta: Array) -> Array:
    """The same over the 8 commitments."""
    on = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))
    p = jnp.prod(jnp.where(on == 1, jax.nn.sigmoid(theta), jax.nn.sigmoid(-theta)), axis=1)
    return p @ jax.vmap(commitment_cost)(on)


# A walk of six steps up or down; where it stands sets the odds of the next step.
STEPS = 6


def up_logit(theta: Array, place: Array) -> Array:
    """A drift, and a pull towards the origin."""
    return theta[0] - theta[1] * place


def walk(theta: Array, key: Array) -> Array:
    """The walk as a scan, with a cost at every step."""

    def step(place: Array, key: Array) -> tuple[Array, Array]:
        up = jax.random.bernoulli(key, jax.nn.sigmoid(up_logit(theta, place)))
        place = place + jnp.where(up, 1.0, -1.0)
        return place, place**2

    _, costs = jax.lax.scan(step, jnp.zeros(()), jax.random.split(key, STEPS))
    return jnp.sum(costs)


def walk_mean(theta: Array) -> Array:
    """The same over the 64 paths."""
    moves = jnp.array(list(itertools.product([-1.0, 1.0], repeat=STEPS)))
    places = jnp.cumsum(moves, axis=1)
    log_p = jax.nn.log_sigmoid(moves * up_logit(theta, places - moves))
    return jnp.exp(jnp.sum(log_p, axis=1)) @ jnp.sum(places**2, axis=1)


# A policy over three actions that pays for being too sure of itself.
ACTION_COST = jnp.array([1.0, 3.0, 2.0])


def policy(theta: Array, key: Array) -> Array:
    """The cost of the action drawn, less an entropy bonus."""
    action = jax.random.categorical(key, theta)
    return ACTION_COST[action] + 0.5 * jax.nn.log_softmax(theta)[action]


def policy_mean(theta: Array) -> Array:
    """The same over the 3 actions."""
    return jax.nn.softmax(theta) @ (ACTION_COST + 0.5 * jax.nn.log_softmax(theta))


class Example(NamedTuple):
    """A program, where to differentiate it, and its expectation in closed form."""

    name: str
    program: Callable[[Array, Array], Array]
    theta: Array
    mean: Callable[[Array], Array]


EXAMPLES = [
    Example("unit commitment", commitment, jnp.array([0.0, 0.5, -0.5]), commitment_mean),
    Example("walk in a scan", walk, jnp.array([0.3, 0.2]), walk_mean),
    Example("policy", policy, jnp.array([0.2, -0.4, 0.1]), policy_mean),
]


def main() -> None:
    """Prints the table."""
    print(f"Gradients of E[program], {SAMPLES} samples each (± is one standard error)\n")
    print(f"{'program':17}{'':10}{'jax.grad':>10}{'jscg':>19}{'exact':>10}")
    keys = jax.random.split(jax.random.key(0), SAMPLES)
    for name, program, theta, mean in EXAMPLES:
        plain = jax.vmap(jax.grad(program), (None, 0))(theta, keys).mean(0)
        draws = jax.vmap(jscg.grad_expectation(program), (None, 0))(theta, keys)
        error = draws.std(0, ddof=1) / SAMPLES**0.5
        exact = jax.grad(mean)(theta)
        for i, row in enumerate(zip(plain, draws.mean(0), error, exact, strict=True)):
            a, b, c, d = map(float, row)
            print(f"{name:17}theta[{i}]  {a:>10.3f}{b:>11.3f} ± {c:.3f}{d:>10.3f}")


if __name__ == "__main__":
    main()
