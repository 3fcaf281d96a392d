"""A Markov chain inside `lax.scan`: a tabular policy, 100 steps, a cost at every step.

A categorical policy picks an action, the environment draws the next state, each (state, action) has
a cost. Measured: the score-function gradient from the plain sampling function, without a baseline,
against hand-written reward-to-go, with the cost summed in the carry and stacked by the loop, for
one chain and for a batch of parallel chains. The hand-written gradient is the faster of sampling
in the scan with one batched backward pass after it, and differentiating through the scan.

Run with `python -m benchmarks.markov_chain`; `--check` compares the hand-written gradients with
each other and with exact enumeration of a short chain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.harness import Row

Place = Literal["carry", "stacked"]
Gradient = Callable[[jax.Array, jax.Array], jax.Array]

STATES, ACTIONS, STEPS, CHAINS = 12, 4, 100, 64


class World(NamedTuple):
    """The environment: transition logits [state, action, state] and costs [state, action]."""

    transitions: jax.Array
    costs: jax.Array


def world(states: int = STATES, actions: int = ACTIONS, seed: int = 0) -> World:
    """A random environment."""
    keys = jax.random.split(jax.random.key(seed))
    transitions = 1.5 * jax.random.normal(keys[0], (states, actions, states))
    return World(transitions, jax.random.normal(keys[1], (states, actions)))


# The sampling functions: what jscg differentiates -----------------------------------------------


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


LOSSES: dict[Place, Callable[..., jax.Array]] = {"carry": loss_carry, "stacked": loss_stacked}


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


VARIANTS: dict[str, Callable[..., jax.Array]] = {
    "rollout": by_rollout,
    "through scan": through_scan,
    "table": by_table,
}
GENERAL = ("rollout", "through scan")  # "table" is for this policy alone


def hand(variant: str, env: World, chains: int, steps: int = STEPS) -> Gradient:
    """A fresh hand-written gradient function of (theta, key)."""
    return lambda theta, key: VARIANTS[variant](theta, key, env, chains, steps)


def jscg_gradient(place: Place, env: World, chains: int, steps: int = STEPS) -> Gradient:
    """A fresh gradient function of (theta, key), from the sampling function alone."""
    import jscg

    function = functools.partial(LOSSES[place], env=env, chains=chains, steps=steps)

    @functools.wraps(LOSSES[place])
    def fresh(theta: jax.Array, key: jax.Array) -> jax.Array:
        return function(theta, key)

    score = jscg.estimators.ScoreFunction(baseline=None)
    return jscg.grad_expectation(fresh, estimators=score)


# Checks ------------------------------------------------------------------------------------------


def check() -> None:
    """The exact mean of the hand-written gradient is the exact gradient; the variants agree."""
    env = world(states=2, actions=2)
    theta = jax.random.normal(jax.random.key(1), (2, 2))
    bits = np.array(list(itertools.product([0, 1], repeat=6)), np.int32).reshape(-1, 3, 2)
    actions = jnp.asarray(bits[:, :, 0])[..., None]
    states = np.concatenate([np.zeros((64, 1), np.int32), bits[:, :-1, 1]], 1)[..., None]
    states, last = jnp.asarray(states), jnp.asarray(bits[:, -1, 1])
    costs = env.costs[states, actions]
    following = jnp.concatenate([states[:, 1:, 0], last[:, None]], 1)
    log_next = jax.nn.log_softmax(env.transitions, -1)[states[..., 0], actions[..., 0], following]

    def probability(theta: jax.Array) -> jax.Array:
        return jnp.exp(jnp.sum(log_prob(theta, states, actions)[..., 0] + log_next, -1))

    exact = jax.grad(lambda theta: jnp.sum(probability(theta) * jnp.sum(costs, (1, 2))))(theta)
    worst = 0.0
    for function in (from_path, from_path_by_table):
        values = jax.vmap(functools.partial(function, theta))(states, actions, costs)
        difference = harness.max_difference(jnp.tensordot(probability(theta), values, 1), exact)
        print(f"mean of {function.__name__}: off by {difference:.1e}")
        worst = max(worst, difference)
    for chains in (1, 32):
        args = (jax.random.normal(jax.random.key(1), (STATES, ACTIONS)), jax.random.key(2))
        values = [jax.jit(hand(variant, world(), chains))(*args) for variant in VARIANTS]
        difference = max(harness.max_difference(v, values[0]) for v in values[1:])
        print(f"variants, {chains} chains, differ by {difference:.1e}")
        worst = max(worst, difference)
    if worst > 1e-3:
        raise SystemExit(f"a hand-written gradient is wrong by {worst:.1e}")


# Measurements ------------------------------------------------------------------------------------


def fastest(env: World, chains: int, args: tuple[Any, ...], pairs: int) -> str:
    """The name of the faster hand-written variant that works for any policy."""
    reference = jax.jit(hand("rollout", env, chains))
    quickest = {}
    for variant in VARIANTS:
        other = jax.jit(hand(variant, env, chains))
        ratio = harness.time_ratio(
            lambda other=other: other(*args), lambda: reference(*args), pairs
        )
        quickest[variant] = ratio.quickest
        print(
            f"hand-written, {chains} chains, {variant}: {ratio.first * 1e3:.2f} ms,"
            f" {ratio} of rollout"
        )
    return min(GENERAL, key=lambda name: quickest[name])


def run(options: Any) -> list[Row]:
    """All rows of this script."""
    env = world()
    args = (0.5 * jax.random.normal(jax.random.key(1), (STATES, ACTIONS)), jax.random.key(2))
    rows: list[Row] = []
    for chains in (1, CHAINS):
        best = fastest(env, chains, args, max(10, options.pairs // 3))
        if options.hand_only:
            if options.profile:
                for variant in VARIANTS:
                    print(variant, harness.hlo_profile(hand(variant, env, chains), *args))
            continue
        theirs = hand(best, env, chains)
        compiled = {name: jax.jit(hand(name, env, chains)) for name in GENERAL}
        again = jax.jit(hand(best, env, chains))
        for place in LOSSES:
            ours = jscg_gradient(place, env, chains)
            a, b = jax.jit(ours), compiled[best]
            name = f"chain x{chains}, cost {place}"
            difference = harness.max_difference(a(*args), b(*args))
            rows.append(
                Row(f"{name}: same gradient, largest difference", difference, 1e-3, note="relative")
            )
            ratio = harness.time_ratio(lambda a=a: a(*args), lambda b=b: b(*args), options.pairs)
            note = f"{best}, {ratio.second * 1e3:.2f} ms"
            rows.append(Row.ratio(f"{name}: time, jscg / hand", ratio, 1.10, note))
            for other in GENERAL:
                if other != best:
                    ratio = harness.time_ratio(
                        lambda a=a: a(*args), lambda c=compiled[other]: c(*args), options.pairs
                    )
                    rows.append(Row.ratio(f"{name}: time, jscg / hand, {other}", ratio))
            ratio = harness.compile_ratio(
                lambda place=place, chains=chains: jscg_gradient(place, env, chains),
                lambda best=best, chains=chains: hand(best, env, chains),
                args,
                options.compiles,
            )
            note = f"{ratio.first:.2f} / {ratio.second:.2f} s"
            rows.append(Row.ratio(f"{name}: compile time, jscg / hand", ratio, 1.3, note))
            memory = harness.memory_bytes(ours, *args), harness.memory_bytes(theirs, *args)
            note = f"temporary + output, {memory[0] / 1e3:.1f} / {memory[1] / 1e3:.1f} kB"
            rows.append(Row(f"{name}: memory, jscg / hand", memory[0] / memory[1], note=note))
            if options.profile:
                print("jscg", place, harness.hlo_profile(ours, *args))
        if options.profile:
            for variant in VARIANTS:
                print(variant, harness.hlo_profile(hand(variant, env, chains), *args))
        floor = harness.time_ratio(
            lambda c=again: c(*args), lambda b=compiled[best]: b(*args), options.pairs
        )
        rows.append(Row.ratio(f"chain x{chains}: time, hand / itself", floor, note="noise floor"))
    return rows


def main() -> None:
    """Run as a script."""
    options = harness.parser(__doc__).parse_args()
    if options.check:
        check()
    else:
        harness.print_table(run(options))


if __name__ == "__main__":
    main()
