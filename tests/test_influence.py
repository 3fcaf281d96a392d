"""Influence per element: the map itself, and what it does to the variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from oracle import gradient

import jscg
from jscg._activity import active_variables
from jscg._influence import InfluenceMap
from jscg._intercept import explicit_draws
from jscg._nodes import find_nodes
from jscg._plan import make_plan
from jscg._program import build

PLAIN = jscg.estimators.ScoreFunction(baseline=None)
INF = float("inf")


def influence_of_output(fun, params, *args):
    """{name of draw: relation} of the output of fun(params, *args), with loops as 'loop'."""
    with explicit_draws():
        closed = jax.make_jaxpr(fun)(params, *args)
    program = build(closed)
    first, count = len(closed.consts), len(jax.tree.leaves(params))
    flags = [first <= i < first + count for i in range(len(program.invars))]
    nodes = find_nodes(program, active_variables(program, flags))
    found = InfluenceMap(program, [n for n in nodes if n.verdict == "scored"])
    (out,) = program.outvars
    return {node.family: relation for node, relation in found[out].items()}


def plan_of(fun, params, *args, estimators=None):
    """The plan for fun(params, *args), differentiated by params."""
    with explicit_draws():
        closed = jax.make_jaxpr(fun)(params, *args)
    program = build(closed)
    first, count = len(closed.consts), len(jax.tree.leaves(params))
    flags = [first <= i < first + count for i in range(len(program.invars))]
    return make_plan(program, flags, estimators)


KEY = random.key(0)
P23 = jnp.full((2, 3), 0.4)


def draw(p, key):
    return random.bernoulli(key, p).astype(float)


def _product(x):
    a, b, c = x
    return a * b * c


ALIGNED = {
    "elementwise": (lambda p, k: jnp.exp(draw(p, k)) * 2, ((0, 0, 0), (1, 0, 0))),
    "reduced": (lambda p, k: draw(p, k).sum(1), ((0, 0, 0), None)),
    "transposed": (lambda p, k: draw(p, k).T, ((1, 0, 0), (0, 0, 0))),
    "broadcast": (lambda p, k: draw(p, k)[:, None] + jnp.zeros((2, 5, 3)), ((0, 0, 0), (2, 0, 0))),
    "matmul": (lambda p, k: draw(p, k) @ jnp.ones((3, 4)), ((0, 0, 0), None)),
    "matmul_left": (lambda p, k: jnp.ones((4, 2)) @ draw(p, k), (None, (1, 0, 0))),
    "einsum_batch": (
        lambda p, k: jnp.einsum("bi,bij->bj", draw(p, k), jnp.ones((2, 3, 4))),
        ((0, 0, 0), None),
    ),
    "kept_reshape": (lambda p, k: draw(p, k).reshape(2, 1, 3), ((0, 0, 0), (2, 0, 0))),
    "merged_reshape": (lambda p, k: draw(p, k).reshape(6), (None, None)),
    "sliced": (lambda p, k: draw(p, k)[:, 1:], ((0, 0, 0), (1, 1, 1))),
    "shifted": (
        lambda p, k: jnp.pad(draw(p, k), ((0, 0), (1, 0)))[:, :-1],
        ((0, 0, 0), (1, -1, -1)),
    ),
    "neighbours": (
        lambda p, k: (lambda x: x[:, 1:] * x[:, :-1])(draw(p, k)),
        ((0, 0, 0), (1, 0, 1)),
    ),
    "cumulated": (lambda p, k: jnp.cumsum(draw(p, k), 1), ((0, 0, 0), (1, -INF, 0))),
    "flipped": (lambda p, k: draw(p, k)[::-1], (None, (1, 0, 0))),
    "normalised": (lambda p, k: jax.nn.softmax(draw(p, k), 1), ((0, 0, 0), None)),
    "softplus": (lambda p, k: jax.nn.softplus(draw(p, k)), ((0, 0, 0), (1, 0, 0))),
    "taken": (lambda p, k: jnp.arange(4.0)[draw(p, k).astype(int)], ((0, 0, 0), (1, 0, 0))),
    "vmapped": (
        lambda p, k: jax.vmap(lambda q, kk: draw(q, kk).sum())(p, random.split(k, 2)),
        ((0, 0, 0), None),
    ),
    "sorted": (lambda p, k: jnp.sort(draw(p, k), 1), ((0, 0, 0), None)),
    "stacked": (
        lambda p, k: (lambda x: jnp.stack([x, 2 * x], 1))(draw(p, k)),
        ((0, 0, 0), (2, 0, 0)),
    ),
    "stacked_in_vmap": (
        lambda p, k: jax.vmap(lambda x: jnp.array([x[0], x[1] * x[2]]))(draw(p, k)),
        ((0, 0, 0), None),
    ),
    "unstacked": (lambda p, k: (lambda x: jax.vmap(_product)(x))(draw(p, k)), ((0, 0, 0), None)),
    "pooled": (
        lambda p, k: lax.reduce_window(draw(p, k), 0.0, lax.max, (1, 2), (1, 1), "VALID"),
        ((0, 0, 0), None),
    ),
    "logarithm": (lambda p, k: jnp.log2(1.0 + draw(p, k)), ((0, 0, 0), (1, 0, 0))),
    "product_of_both": (lambda p, k: (lambda x: x @ x.T)(draw(p, k)), (None, None)),
}


@pytest.mark.parametrize("name", ALIGNED)
def test_map_of_one_operation(name):
    fun, expected = ALIGNED[name]
    assert influence_of_output(fun, P23, KEY)["bernoulli"] == expected


@pytest.mark.parametrize("name", ALIGNED)
def test_map_covers_what_really_depends(name):
    """Moving one element of the draw moves only outputs that the map allows."""
    fun, relation = ALIGNED[name]

    def with_draw(x):
        saved = random.bernoulli
        random.bernoulli = lambda *a, **k: next(given)
        given = iter([x[i] for i in range(2)] if name == "vmapped" else [x])
        try:
            if name == "vmapped":
                return x.sum(1)
            return fun(P23, KEY)
        finally:
            random.bernoulli = saved

    base = np.array(random.bernoulli(KEY, 0.5, (2, 3)), float)
    before = np.asarray(with_draw(jnp.asarray(base)))
    for i in np.ndindex(2, 3):
        moved = base.copy()
        moved[i] = 1 - moved[i]
        changed = np.argwhere(~np.isclose(np.asarray(with_draw(jnp.asarray(moved))), before))
        for place in changed:
            for axis, band in enumerate(relation):
                if band is not None:
                    at, lo, hi = band
                    assert place[at] + lo <= i[axis] <= place[at] + hi


def test_scan_outputs_are_prefixes_and_final_carries_are_mixed():
    def walk(p, key):
        def body(s, k):
            s = s + draw(p, k)
            return s, s

        return lax.scan(body, 0.0, random.split(key, 5))

    stacked = influence_of_output(lambda p, k: walk(p, k)[1], 0.4, KEY)
    assert stacked["bernoulli"] == ((0, -INF, 0),)
    last = influence_of_output(lambda p, k: walk(p, k)[0], 0.4, KEY)
    assert last["bernoulli"] == (None,)


def test_scan_without_a_carried_draw_stays_aligned():
    def steps(p, key):
        return lax.scan(lambda c, k: (c, draw(p, k)), 0.0, random.split(key, 5))[1]

    assert influence_of_output(steps, 0.4, KEY)["bernoulli"] == ((0, 0, 0),)


def test_reverse_scan_outputs_are_suffixes():
    def walk(p, key):
        body = lambda s, k: (s + draw(p, k), s)  # noqa: E731
        return lax.scan(body, 0.0, random.split(key, 5), reverse=True)[1]

    assert influence_of_output(walk, 0.4, KEY)["bernoulli"] == ((0, 1, INF),)


@pytest.mark.parametrize("write", ["at", "dynamic_update_slice"])
def test_what_a_loop_writes_into_a_cache_keeps_examples_apart(write):
    """As a language model that samples, with what it attends to in the carry."""

    def put(cache, value, t):
        if write == "at":
            return cache.at[t].set(value)
        return lax.dynamic_update_slice(cache, value[None], (t, 0))

    def one(p, key):
        def step(cache, inputs):
            key, t = inputs
            bits = draw(p + 0.1 * jnp.mean(cache, 0), key)
            return put(cache, bits, t), bits.sum()

        keys = random.split(key, 5)
        return lax.scan(step, jnp.zeros((5, 3)), (keys, jnp.arange(5)))[1].sum()

    def fun(p, key):
        return jax.vmap(one)(p, random.split(key, 2))

    loop, examples, units = influence_of_output(fun, P23, KEY)["bernoulli"]
    assert (loop, examples, units) == (None, (0, 0, 0), None)


def test_unknown_primitive_mixes():
    def fun(p, key):
        x = draw(p, key)
        return jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct((2, 3), jnp.float32), x)

    assert influence_of_output(fun, P23, KEY)["bernoulli"] == (None, None)


# Variance: what finer credit is for.


def variance(fun, params, n=4000, **options):
    g = jax.jit(jax.vmap(gradient(fun, **options), (None, 0)))
    grads = g(params, random.split(random.key(1), n))
    return jax.tree.map(lambda a: np.var(np.asarray(a, np.float64), 0), grads)


def batch_loss(reduce):
    def fun(logits, key):  # one parameter vector for each example, so that credit is visible
        x = random.bernoulli(key, sigmoid(logits))
        return reduce((jnp.sum(x, -1) - 1.3) ** 2 + 2.0)

    return fun


@pytest.mark.parametrize("reduce", [jnp.mean, jnp.sum], ids=["mean", "sum"])
@pytest.mark.parametrize("estimator", [PLAIN, None], ids=["plain", "default"])
def test_batch_has_at_most_the_variance_of_separate_calls(reduce, estimator):
    logits = jnp.linspace(-1.0, 1.0, 24).reshape(8, 3)
    together = variance(batch_loss(reduce), logits, estimators=estimator)
    alone = variance(batch_loss(jnp.sum), logits[:1], estimators=PLAIN)
    scale = 1 / 64 if reduce is jnp.mean else 1.0
    assert np.all(together[0] <= 1.1 * scale * alone[0])


def test_no_cost_meets_the_score_of_another_example():
    """With an example's cost zero, its gradient is zero in every sample."""
    on = jnp.array([1.0, 0.0, 1.0])

    def fun(logits, key):
        x = random.bernoulli(key, sigmoid(logits))
        return jnp.mean(on * (jnp.sum(x, -1) - 0.7) ** 2)

    g = jax.vmap(jscg.grad_expectation(fun, estimators=PLAIN), (None, 0))
    grads = g(jnp.zeros((3, 2)), random.split(KEY, 100))
    assert np.all(np.asarray(grads[:, 1]) == 0) and np.any(np.asarray(grads[:, 0]) != 0)


def test_variance_does_not_grow_with_the_number_of_units():
    def fun(logits, key):
        x = random.bernoulli(key, sigmoid(logits))
        return jnp.sum((x - 0.3) ** 2 * 2.0 + 1.0)

    for estimator in (PLAIN, jscg.estimators.ScoreFunction(), None):
        by_size = {d: variance(fun, jnp.zeros(d), estimators=estimator).max() for d in (1, 16, 256)}
        assert by_size[16] <= 1.3 * by_size[1] + 1e-9
        assert by_size[256] <= 1.3 * by_size[1] + 1e-9


@pytest.mark.parametrize("estimator", [PLAIN, None], ids=["plain", "default"])
@pytest.mark.parametrize("place", ["scalar", "vector", "upstream"])
@pytest.mark.parametrize("batch", [4, 32])
def test_what_is_not_influenced_changes_no_sample(estimator, place, batch):
    def fun(added):
        def loss(logits, key):
            k1, k2 = random.split(key)
            first = random.bernoulli(k1, 0.3, (batch,))
            x = random.bernoulli(k2, sigmoid(logits + first[:, None]))
            cost = jnp.sum(x, -1) ** 2.0
            if added and place == "vector":
                cost = cost + 100.0
            if added and place == "upstream":
                cost = cost + 10.0 * first
            return jnp.mean(cost) + (100.0 if added and place == "scalar" else 0.0)

        return loss

    keys = random.split(KEY, 64)
    logits = jnp.array([[0.1, -0.4]])
    options = {"estimators": estimator}
    without, with_it = (
        jax.vmap(gradient(fun(added), **options), (None, 0))(logits, keys)
        for added in (False, True)
    )
    np.testing.assert_array_equal(np.asarray(without), np.asarray(with_it))


# The three layers of NVIL.


def layers(params, key, batch=4):
    """Three layers of two, three and two units; returns the terms of the bound per example."""
    k1, k2, k3 = random.split(key, 3)
    x = jnp.ones((batch, 3))
    l1 = x @ params["q1"]
    h1 = random.bernoulli(k1, sigmoid(l1)).astype(float)
    l2 = h1 @ params["q2"]
    h2 = random.bernoulli(k2, sigmoid(l2)).astype(float)
    l3 = h2 @ params["q3"]
    h3 = random.bernoulli(k3, sigmoid(l3)).astype(float)

    def logp(h, logits):
        return jnp.sum(h * log_sigmoid(logits) + (1 - h) * log_sigmoid(-logits), -1)

    r1 = logp(x, h1 @ params["p1"]) - logp(h1, l1)
    r2 = logp(h1, h2 @ params["p2"]) - logp(h2, l2)
    r3 = logp(h2, h3 @ params["p3"]) + logp(h3, jnp.zeros(2)) - logp(h3, l3)
    return r1, r2, r3


def layer_params():
    shapes = {"q1": (3, 2), "q2": (2, 3), "q3": (3, 2), "p1": (2, 3), "p2": (3, 2), "p3": (2, 3)}
    keys = random.split(random.key(7), len(shapes))
    return {n: random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}


def nvil(params, key):
    return -jnp.mean(sum(layers(params, key)))


def test_nvil_costs_to_go_come_out_by_themselves():
    """Layer k is scored with r_k and later only, so dropping r_1 .. r_{k-1} changes nothing."""
    params, keys = layer_params(), random.split(KEY, 50)

    def grads(fun, layer):
        g = jax.vmap(jscg.grad_expectation(fun, estimators=PLAIN), (None, 0))
        return np.asarray(g(params, keys)[f"q{layer}"])

    for layer in (2, 3):
        rest = lambda p, k, layer=layer: -jnp.mean(sum(layers(p, k)[layer - 1 :]))  # noqa: E731
        # log p(h1 | h2) is in r2: of the earlier terms none reads this layer's draw.
        np.testing.assert_allclose(grads(nvil, layer), grads(rest, layer), rtol=2e-4, atol=1e-6)


def test_a_units_own_log_prob_is_enumerated():
    plan = plan_of(nvil, layer_params(), KEY)
    enumerated = sorted(e.node.name for w in plan.weights.values() for e in w.enumerations)
    assert {"h1", "h2", "h3"} <= set(enumerated)
    for weight in plan.weights.values():
        assert not {e.node for e in weight.enumerations} & {s.node for s in weight.scores}


def test_finer_credit_lowers_the_variance_of_nvil():
    params = layer_params()
    fine = variance(nvil, params, num_samples=4)

    def coarse(p, key):  # the same value, but no term stands alone: one cost for each example
        return -jnp.mean(jnp.log(jnp.exp(sum(layers(p, key)))))

    rough = variance(coarse, params, num_samples=4, estimators=jscg.estimators.ScoreFunction())
    for name in ("q1", "q2", "q3"):
        assert fine[name].sum() < 0.8 * rough[name].sum()


# Reward-to-go.

STEPS = 6


def chain_terms(p, key):
    """Hand-run chain: states, log-probs and rewards of every step, with the scan's keys."""
    s, logps, rewards = jnp.zeros(()), [], []
    for t, k in enumerate(random.split(key, STEPS)):
        q = jnp.where(s > 0, p, 1 - p)
        x = random.bernoulli(k, q)
        logps.append(jnp.where(x, jnp.log(q), jnp.log1p(-q)))
        s = x.astype(float)
        rewards.append((t + 1.0) * s * p)
    return jnp.stack(logps), jnp.stack(rewards)


def by_hand(p, key):
    """Reward-to-go by hand: every score with the rewards from its step on."""

    def loss(p):
        logps, rewards = chain_terms(p, key)
        to_go = jnp.cumsum(lax.stop_gradient(rewards)[::-1])[::-1]
        return jnp.sum(logps * to_go) + jnp.sum(rewards)

    return jax.grad(loss)(p)


def chain_step(p, s, k, t):
    q = jnp.where(s > 0, p, 1 - p)
    s = random.bernoulli(k, q).astype(float)
    return s, (t + 1.0) * s * p


def in_the_carry(p, key):
    def body(c, x):
        s, r = chain_step(p, c[0], *x)
        return (s, c[1] + r), None

    return lax.scan(body, (0.0, 0.0), (random.split(key, STEPS), jnp.arange(STEPS)))[0][1]


def in_the_outputs(p, key):
    body = lambda s, x: chain_step(p, s, *x)  # noqa: E731
    return jnp.sum(lax.scan(body, 0.0, (random.split(key, STEPS), jnp.arange(STEPS)))[1])


def after_the_loop(p, key):
    def body(s, x):
        s, _ = chain_step(p, s, *x)
        return s, s

    _, states = lax.scan(body, 0.0, (random.split(key, STEPS), jnp.arange(STEPS)))
    return jnp.sum((jnp.arange(STEPS) + 1.0) * states * p)


def in_a_second_loop(p, key):
    def body(s, x):
        s, _ = chain_step(p, s, *x)
        return s, s

    times = jnp.arange(STEPS)
    _, states = lax.scan(body, 0.0, (random.split(key, STEPS), times))
    add = lambda c, x: (c + (x[1] + 1.0) * x[0] * p, None)  # noqa: E731
    return lax.scan(add, 0.0, (states, times))[0]


PLACES = [in_the_carry, in_the_outputs, after_the_loop, in_a_second_loop]


@pytest.mark.parametrize("fun", PLACES, ids=lambda f: f.__name__)
def test_reward_to_go_sample_by_sample(fun):
    keys = random.split(KEY, 200)
    expected = jax.jit(jax.vmap(by_hand, (None, 0)))(0.3, keys)
    g = jscg.grad_expectation(fun, estimators=PLAIN)
    np.testing.assert_allclose(jax.jit(jax.vmap(g, (None, 0)))(0.3, keys), expected, rtol=1e-4)


@pytest.mark.parametrize("fun", PLACES, ids=lambda f: f.__name__)
def test_default_is_at_least_as_good_as_reward_to_go(fun):
    hand = jax.jit(jax.vmap(by_hand, (None, 0)))(0.3, random.split(random.key(1), 20_000))
    assert variance(fun, 0.3, n=20_000) <= 1.05 * np.var(np.asarray(hand, np.float64))


# Activity.


def test_noise_without_parameters_is_free():
    def fun(p, q, key):
        k1, k2, k3, k4 = random.split(key, 4)
        drop = random.bernoulli(k1, 0.5, (3,))
        action = random.bernoulli(k2, p)
        move = random.bernoulli(k3, jnp.where(action, q, 0.5))
        stopped = random.bernoulli(k4, lax.stop_gradient(p))
        return jnp.sum(drop * 1.0) + move * (1.0 + stopped)

    plan = plan_of(fun, 0.3, 0.8, KEY)
    assert [n.name for n in plan.nodes if n.verdict == "scored"] == ["action"]
    keys = random.split(KEY, 20_000)
    for argnum, exact in ((0, 0.3), (1, 0.3)):  # d/dp, d/dq of E = (p q + (1 - p) / 2) (1 + p)
        g = jscg.grad_expectation(fun, argnums=argnum)
        grads = np.asarray(jax.jit(jax.vmap(g, (None, None, 0)))(0.3, 0.8, keys), np.float64)
        exact = (0.8 - 0.5) * 1.3 if argnum == 0 else 0.3 * 1.3
        assert abs(grads.mean() - exact) < 4.5 * grads.std() / len(keys) ** 0.5


def test_moving_argnums_moves_what_is_scored():
    def fun(p, q, key):
        k1, k2 = random.split(key)
        a = random.bernoulli(k1, p, (2,))
        b = random.bernoulli(k2, q, (2,))
        return jnp.sum(a) * jnp.sum(b) * 1.0

    with explicit_draws():
        program = build(jax.make_jaxpr(fun)(0.3, 0.6, KEY))
    for flags, name in (([True, False, False], "a"), ([False, True, False], "b")):
        plan = make_plan(program, flags, None)
        assert [n.name for n in plan.nodes if n.verdict == "scored"] == [name]


# Credit that is coarse, but never wrong.


def test_unknown_primitive_is_coarse_but_unbiased():
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    double_p = Primitive("double_of_a_stranger")
    double_p.def_impl(lambda x: 2 * x)
    double_p.def_abstract_eval(lambda x: x)
    mlir.register_lowering(double_p, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
    ad.deflinear2(double_p, lambda ct, _: [double_p.bind(ct)])
    batching.primitive_batchers[double_p] = lambda a, d: (double_p.bind(*a), d[0])

    def fun(p, key):
        x = random.bernoulli(key, p).astype(float)
        return jnp.sum(double_p.bind(x) ** 2)

    p = jnp.array([0.2, 0.5, 0.7])
    keys = random.split(KEY, 40_000)
    grads = np.asarray(jax.jit(jax.vmap(gradient(fun), (None, 0)))(p, keys))
    z = (grads.mean(0) - 4.0) / (grads.std(0) / len(keys) ** 0.5)
    assert np.all(np.abs(z) < 4.5) and np.all(grads.std(0) > 0)


def test_callback_on_an_inactive_path():
    def fun(p, key):
        k1, k2 = random.split(key)
        noise = random.normal(k1)
        seen = jax.pure_callback(
            lambda v: np.asarray(v) * 2,
            jax.ShapeDtypeStruct((), jnp.float32),
            noise,
            vmap_method="expand_dims",
        )
        return random.bernoulli(k2, p) * (1.0 + seen)

    keys = random.split(KEY, 500)
    grads = np.asarray(jax.vmap(jscg.grad_expectation(fun), (None, 0))(0.3, keys))
    z = (grads.mean() - 1.0) / (grads.std() / len(keys) ** 0.5)
    assert abs(z) < 4.5


def test_noise_whose_key_is_drawn():
    """The bits are a function of the key, whatever generator makes them."""

    def noise(x):
        words = jnp.stack([x, 7 * x + 1, x, x]).astype(jnp.uint32)
        return lax.rng_bit_generator(words, (), jnp.uint32)[1] / 2.0**32

    def fun(p, key):
        return noise(random.bernoulli(key, p))

    keys = random.split(KEY, 2000)
    derivative = gradient(fun, estimators=PLAIN)  # mapped, the generator gives other bits
    found = jax.jit(lambda keys: lax.map(lambda key: derivative(0.3, key), keys))(keys)
    exact = noise(jnp.array(True)) - noise(jnp.array(False))
    assert abs(exact) > 0.05
    assert abs(found.mean() - exact) < 4.5 * found.std() / len(found) ** 0.5
