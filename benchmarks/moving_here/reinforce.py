"""REINFORCE as one writes it by hand, with rlax's loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import jscg
from benchmarks.moving_here._programs import move, over_keys

POLICY = 0.3 * jax.random.normal(jax.random.key(2), (4, 3))  # places, actions
MOVE = jnp.array([-1, 0, 1])


def advance(place, action):
    place = jnp.clip(place + MOVE[action], 0, 3)
    return place, jnp.array([0.0, 0.2, -0.5, 1.0])[place]


def episode(policy, key, steps=6):
    """Minus the return of a walk on four places."""

    def step(place, k):
        action = jax.random.categorical(k, policy[place])
        place, reward = advance(place, action)
        return place, -reward

    return jnp.sum(jax.lax.scan(step, 1, jax.random.split(key, steps))[1])


def exact_episode(policy, steps=6):
    where = jnp.zeros(4).at[1].set(1.0)
    total = 0.0
    for _ in range(steps):
        chance = where[:, None] * jax.nn.softmax(policy)
        place, reward = advance(jnp.arange(4)[:, None], jnp.arange(3))
        total -= jnp.sum(chance * reward)
        where = jnp.zeros(4).at[place].add(chance)
    return total


@move("policy_gradient_loss", "rlax")
def rlax_policy_gradient():
    import rlax

    def theirs(policy, key, steps=6):
        def step(place, k):
            action = jax.random.categorical(k, policy[place])
            after, reward = advance(place, action)
            return after, (place, action, reward)

        places, actions, rewards = jax.lax.scan(step, 1, jax.random.split(key, steps))[1]
        to_go = jnp.cumsum(rewards[::-1])[::-1]
        weights = jnp.full(steps, float(steps))  # rlax takes the mean over steps
        return rlax.policy_gradient_loss(policy[places], actions, to_go, weights)

    score = jscg.estimators.ScoreFunction(baseline=None)
    return (
        over_keys(jax.grad(theirs), POLICY),
        over_keys(jscg.grad_expectation(episode, estimators=score), POLICY),
        jax.grad(exact_episode)(POLICY),
    )


@move("policy_gradient_loss against the default", "rlax")
def rlax_and_the_default():
    theirs, _, exact = rlax_policy_gradient()
    return theirs, over_keys(jscg.grad_expectation(episode), POLICY), exact


@move("four policy_gradient_loss against 4 samples", "rlax")
def rlax_and_samples():
    theirs, _, exact = rlax_policy_gradient()
    theirs = theirs.reshape(-1, 4, theirs.shape[-1]).mean(1)
    return theirs, over_keys(jscg.grad_expectation(episode, num_samples=4), POLICY), exact
