"""What the suite measures: gradients by hand against enumeration and each other, and jscg's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import digamma, gammaln
from oracle import BOUND, QUICK, grid, samples, z_of

import jscg
from benchmarks import harness
from benchmarks.estimators import exponential_model
from benchmarks.workloads import bbvi, cartpole

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)


# CartPole ----------------------------------------------------------------------------------------


def falling(pushes):
    """Two poles that are about to fall, one to each side: what is played with these pushes."""
    first = [[0.0, 0.1], [0.2, 0.0], [0.19, -0.185], [0.3, -0.6]]

    def step(carry, right):
        state, upright = carry
        before = cartpole.seen(state)
        state = cartpole.physics(state, right)
        upright &= cartpole.stands(state)
        return (state, upright), cartpole.Path(before, right, -1.0 * upright)

    start = cartpole.State(*map(jnp.asarray, first)), jnp.ones(2, bool)
    return jax.lax.scan(step, start, pushes)[1]


CREDITS = {
    "to go": cartpole.to_go,
    "after": cartpole.after,
    "leave-one-out": lambda costs: cartpole.less_others(cartpole.to_go(costs)),
}


def test_policy_gradients_are_right_on_average():
    params, steps = cartpole.init(jax.random.key(1), hidden=3), 4
    pushes = grid(*[2] * (2 * steps)).reshape(-1, steps, 2).astype(bool)

    def exact_and_means(params, pushes):
        paths = jax.vmap(falling)(pushes)

        def chance(params):
            logits = cartpole.logit_of(params, paths.states)
            return jnp.exp(jnp.sum(cartpole.log_prob(logits, paths.pushes), (1, 2)))

        def mean(credit):
            found = jax.vmap(lambda path: cartpole.from_path(params, path, credit(path.costs)))
            return jax.tree.map(lambda g: jnp.tensordot(chance(params), g, 1), found(paths))

        totals = jnp.sum(paths.costs, (1, 2)) / 2
        exact = jax.grad(lambda p: chance(p) @ totals)(params)
        return totals, exact, {name: mean(credit) for name, credit in CREDITS.items()}

    totals, exact, means = jax.jit(exact_and_means, compiler_options=QUICK)(params, pushes)
    assert np.ptp(totals) > 1, "pushes make no difference"
    for name, mean in means.items():
        assert harness.max_difference(mean, exact) < 1e-3, name


def test_policy_gradients_by_hand_are_those_of_jscg():
    given = cartpole.make(envs=3, keys=1, steps=30)
    ours = jscg.grad_expectation(given.cost, **given.same)

    def every(params, key):
        return ours(params, key), {name: hand(params, key) for name, hand in given.hand.items()}

    ours, found = jax.jit(every, compiler_options=QUICK)(given.params, KEY)
    assert np.linalg.norm(ours["w1"]) > 0.1
    for name, gradient in found.items():
        assert harness.max_difference(gradient, ours) < 1e-4, name


# Black-box variational inference -----------------------------------------------------------------


def bound_of_one(params):
    """The expected cost of one rate and one count: a quadrature over the rate, the rest closed."""
    model = exponential_model(1)
    shape, rate, lam = (jnp.exp(params[name][0]) for name in ("shape", "rate", "count"))
    log_z = jnp.linspace(-18.0, 4.0, 4_001)
    log_q = shape * (params["rate"][0] + log_z) - rate * jnp.exp(log_z) - gammaln(shape)
    mean = model.mix[0, 0] * jnp.exp(log_z) + 0.1
    log_mean = jnp.trapezoid(jnp.exp(log_q) * jnp.log(mean), log_z)
    z = shape / rate
    of_rate = shape * params["rate"][0] - gammaln(shape) - shape + z
    of_rate += (shape - 1) * (digamma(shape) - params["rate"][0])
    of_count = lam * params["count"][0] - lam + model.mix[0, 0] * z - lam * log_mean
    look = model.look[:, 0]
    off = model.seen - look * lam
    return of_rate + of_count + 0.1 + 0.5 * (off @ off + look @ look * lam)


def test_variational_gradients_are_right_on_average():
    params = {"shape": jnp.array([0.4]), "rate": jnp.array([0.2]), "count": jnp.array([0.3])}
    model = exponential_model(1)

    def gradients(key):
        x = bbvi.draw(params, key, 2)
        return [fun(params, x, model) for fun in (bbvi.by_chain_rule, bbvi.by_textbook)]

    exact = jax.grad(bound_of_one)(params)
    for found in samples(gradients, KEY, 20_000):
        for leaf, values in found.items():
            assert np.all(np.abs(z_of(values, exact[leaf])) < BOUND), leaf


def test_variational_gradients_by_hand_are_those_of_jscg():
    given = bbvi.make(3, samples=4)
    params = {name: x + 0.1 * jnp.arange(3.0) for name, x in given.params.items()}
    ours = jscg.grad_expectation(given.cost, **given.same)

    def every(params, key):
        return ours(params, key), {name: hand(params, key) for name, hand in given.hand.items()}

    ours, found = jax.jit(every, compiler_options=QUICK)(params, KEY)
    for name, gradient in found.items():
        assert harness.max_difference(gradient, ours) < 1e-4, name
