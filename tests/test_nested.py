"""`jscg.expectation`: unbiased where the cost is linear in the estimate, refused elsewhere."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import assert_small, ber, gradient, grid, samples, total, z_of

import jscg
from jscg._lineage import Again, Step, may_be_made_of

pytestmark = pytest.mark.slow

KEY = random.key(20)
P = jnp.array([0.3, 0.6])
SCORE = jscg.estimators.ScoreFunction()


def inner(p, key, shift=0.0):
    """Two draws that meet in one nonlinear cost."""
    x = random.bernoulli(key, p)
    return jnp.exp(x[0] + 0.5 * x[1] + shift) * p[1]


def exact_inner(p, shift=0.0):
    return total(lambda x: ber(p, x) * jnp.exp(x[0] + 0.5 * x[1] + shift) * p[1], grid(2, 2))


def exact_inner_squared(p):
    return total(lambda x: ber(p, x) * jnp.exp(2.0 * x[0] + x[1]) * p[1] ** 2, grid(2, 2))


one = jscg.expectation(inner)
three = jscg.expectation(inner, 3)


# Unbiased.


def of_a_draw(p, key):
    """The argument is drawn, and so is what the estimate is multiplied with."""
    k1, k2 = random.split(key)
    h = random.bernoulli(k1, p[0])
    return (1.0 + 2.0 * h) * three(p, k2, shift=0.3 * h) + p[0] ** 2


def exact_of_a_draw(p):
    taken = p[0] * 3.0 * exact_inner(p, 0.3) + (1 - p[0]) * exact_inner(p)
    return taken + p[0] ** 2


def product(p, key):
    k1, k2 = random.split(key)
    return one(p, k1) * three(p, k2, shift=0.2) - one(p, random.fold_in(k1, 3)) / p[0]


def exact_product(p):
    return exact_inner(p) * exact_inner(p, 0.2) - exact_inner(p) / p[0]


def in_a_scan(p, key):
    def step(total, k):
        k1, k2, k3 = random.split(k, 3)
        return 0.5 * total + one(p, k1) * one(p, k2), one(p, k3)

    total, each = lax.scan(step, 0.0, random.split(key, 3))
    return total + jnp.array([1.0, 2.0, 3.0]) @ each


def exact_in_a_scan(p):
    return 1.75 * exact_inner(p) ** 2 + 6.0 * exact_inner(p)


def carrying_a_key(p, key):
    def step(carry, t):
        total, k = carry
        k, k1, k2, k3 = random.split(k, 4)
        x = random.bernoulli(k3, sigmoid(p[0] * t))
        return (total + x * one(p, k1) * one(p, k2), k), None

    return lax.scan(step, (0.0, key), jnp.arange(2.0))[0][0]


def exact_carrying_a_key(p):
    return (0.5 + sigmoid(p[0])) * exact_inner(p) ** 2


def in_a_cond(p, key):
    k1, k2, k3 = random.split(key, 3)
    h = random.bernoulli(k1, p[0])
    found = lax.cond(h, lambda: 2.0 * one(p, k2), lambda: one(p, k2, shift=1.0) * one(p, k3))
    return jnp.where(h, 3.0, 1.0) * found


def exact_in_a_cond(p):
    other = exact_inner(p, 1.0) * exact_inner(p)
    return p[0] * 6.0 * exact_inner(p) + (1 - p[0]) * other


def under_transformations(p, key):
    @jax.checkpoint
    def each(shift, k):
        k1, k2 = random.split(k)
        return jax.jit(one)(p, k1, shift=shift) * one(p, k2)

    shifts = jnp.array([0.0, 0.5, 1.0])
    found = jax.vmap(each)(shifts, random.split(key, 3))
    return jnp.mean(jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]) @ found.reshape(3, 1))


def exact_under_transformations(p):
    return exact_inner(p) * jnp.mean(
        jnp.array([exact_inner(p), 3.0 * exact_inner(p, 0.5), 3.0 * exact_inner(p, 1.0)]) * 1.5
    )


def in_one_another(p, key):
    def outer(p, key):
        k1, k2, k3 = random.split(key, 3)
        x = random.normal(k1) * p[1] + p[0]
        return {"a": x**2 * one(p, k2), "b": [three(p, k3)]}

    k1, k2 = random.split(key)
    found = jscg.expectation(outer, 2)(p, k1)
    return found["a"] * one(p, k2) + found["b"][0]


def exact_in_one_another(p):
    return (p[1] ** 2 + p[0] ** 2) * exact_inner(p) ** 2 + exact_inner(p)


def legacy(p, key):
    mean = jscg.expectation(inner, 2, key_argnums=1)
    k1, k2 = random.split(random.wrap_key_data(random.key_data(key)))
    old = random.split(random.key_data(k1))
    return mean(p, old[0]) * mean(p, old[1]) + mean(p, random.key_data(k2))


def exact_legacy(p):
    return exact_inner(p) ** 2 + exact_inner(p)


CASES = [
    (of_a_draw, exact_of_a_draw),
    (product, exact_product),
    (in_a_scan, exact_in_a_scan),
    (carrying_a_key, exact_carrying_a_key),
    (in_a_cond, exact_in_a_cond),
    (under_transformations, exact_under_transformations),
    (in_one_another, exact_in_one_another),
    (legacy, exact_legacy),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_value_and_gradient_are_unbiased(case):
    fun, exact = case
    value, slope = samples(
        lambda k: jscg.value_and_grad_expectation(fun, estimators=SCORE)(P, k), KEY, 20_000
    )
    assert_small(z_of(value, exact(P)), "value")
    assert_small(z_of(slope, jax.grad(exact)(P)), "gradient")


def squared(p, key):
    k1, k2 = random.split(key)
    return one(p, k1) * one(p, k2)


def test_second_derivatives_and_samples_of_the_whole():
    run = jax.hessian(jscg.surrogate(squared, num_samples=2))
    exact = jax.hessian(lambda p: exact_inner(p) ** 2)(P)
    assert_small(z_of(samples(lambda k: run(P, k), KEY, 20_000), exact))


def test_certificate():
    certificate = jscg.check_unbiased(squared, num_estimates=512)(P, KEY)
    assert certificate and certificate.method == "enumeration"
    np.testing.assert_allclose(
        certificate.reference, jax.grad(lambda p: exact_inner(p) ** 2)(P), rtol=1e-5
    )


def test_samples_are_baselines_of_each_other_as_in_a_program_with_vmap():
    def by_hand(p, key):
        return 2.0 * jnp.mean(jax.vmap(lambda k: inner(p, k))(random.split(key, 6)))

    def nested(p, key):
        return 2.0 * jscg.expectation(inner, 6)(p, key)

    def both(k):
        funs = by_hand, nested, lambda p, k: 2.0 * one(p, k)
        return [gradient(f, estimators=SCORE)(P, k) for f in funs]

    theirs, ours, single = samples(both, KEY, 2000)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.all(ours.var(0) < single.var(0) / 8)


def test_estimates_of_a_batch_are_credited_to_their_own_draws():
    def by_hand(p, key):
        keys = random.split(key, (5, 2))
        each = jax.vmap(lambda k: inner(p, k[0]) * inner(p, k[1]))(keys)
        return jnp.mean(each)

    def nested(p, key):
        keys = random.split(key, (5, 2))
        return jnp.mean(
            jax.vmap(one, (None, 0))(p, keys[:, 0]) * jax.vmap(one, (None, 0))(p, keys[:, 1])
        )

    def both(k):
        return [gradient(f, estimators=SCORE)(P, k) for f in (by_hand, nested)]

    theirs, ours = samples(both, KEY, 10)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# Refused.


def square(p, key):
    return one(p, key) ** 2


def logarithm(p, key):
    return p[0] * jnp.log(jnp.mean(one(p, key)))


def denominator(p, key):
    return p[0] / one(p, key)


def twice_the_same(p, key):
    estimate = one(p, key)
    return estimate * (1.0 + estimate)


def the_same_key(p, key):
    return one(p, key) * one(p, key, shift=0.1)


def two_results(p, key):
    def fun(p, key):
        found = inner(p, key)
        return found, found**2

    a, b = jscg.expectation(fun)(p, key)
    return a * b


def rounded(p, key):
    return p[0] * one(p, key).astype(int).astype(float)


def of_a_key_without_influence(p, key):
    return one(p, jscg.stop_influence(key)) ** 2


def its_own_draw(p, key):
    return random.bernoulli(key, p[0]) * one(p, key)


def comparison(p, key):
    return jnp.where(one(p, key) > 1.5, 1.0, p[0])


def where_its_draws_say(p, key):
    x = random.bernoulli(key, p[0])
    return jnp.where(x, one(p, key), 0.0)


def branch(p, key):
    return lax.cond(one(p, key) > 1.5, lambda: 1.0, lambda: p[0])


def branch_of_its_draws(p, key):
    x = random.bernoulli(key, p[0])
    return lax.cond(x, lambda: one(p, key), lambda: 0.0)


def times_a_branch_of_its_draws(p, key):
    x = random.bernoulli(key, p[0])
    return lax.cond(x, lambda: 2.0, lambda: 1.0) * one(p, key)


def times_a_branch_with_its_draws(p, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, p[0])
    found = lax.cond(x, lambda: 1.0 * random.bernoulli(k2, p[0]), lambda: 0.0)
    return found * one(p, k2)


def nonlinear_branch(p, key):
    k1, k2 = random.split(key)
    estimate = one(p, k1)
    x = random.bernoulli(k2, p[0])
    return lax.cond(x, lambda: jnp.exp(estimate), lambda: estimate)


def parameter(p, key):
    k1, k2 = random.split(key)
    return 1.0 * random.poisson(k2, one(p, k1))


def nonlinear_carry(p, key):
    return lax.scan(lambda c, k: (c * one(p, k), None), 1.0, random.split(key, 3))[0]


def late(p, key):
    """Linear in the first step, but not in the second."""

    def step(carry, k):
        a, b = carry
        return (one(p, k), b + a**2), None

    return lax.scan(step, (0.0, 0.0), random.split(key, 3))[0][1]


def loop(p, key):
    return lax.while_loop(lambda c: c < 5.0, lambda c: c + 1.0, one(p, key))


def stopped(p, key):
    return p[0] * jnp.exp(lax.stop_gradient(one(p, key)))


@jax.custom_jvp
def _with_a_rule(x):
    return 2.0 * x


_with_a_rule.defjvps(lambda t, ans, x: t * x)


def own_rule(p, key):
    return _with_a_rule(one(p, key))


def inside_of_another(p, key):
    return jscg.expectation(lambda p, key: jnp.exp(one(p, key)))(p, key)


def derivative(p, key):
    return jnp.sum(jax.grad(one)(p, key) ** 2)


def sharded(p, key):
    mesh = jax.make_mesh((1,), ("i",), (jax.sharding.AxisType.Explicit,))
    whole = jax.sharding.PartitionSpec()
    fun = jax.shard_map(
        lambda p, k: one(p, k) ** 2, mesh=mesh, in_specs=(whole, whole), out_specs=whole
    )
    return fun(p, key)


REFUSED = [
    (square, r"'(integer_pow|square)' at .*\(square\) is not linear in it"),
    (logarithm, "'log' at .* is not linear"),
    (denominator, "'div' at .* is not linear"),
    (twice_the_same, "'mul' at .* joins it with what its own samples influence"),
    (the_same_key, "'mul' at .* joins it"),
    (two_results, "'mul' at .* joins it"),
    (rounded, "'convert_element_type' at .* is not linear"),
    (of_a_key_without_influence, "'(integer_pow|square)' at .* is not linear"),
    (its_own_draw, "'mul' at .* joins it"),
    (comparison, "'gt' at .* is not linear"),
    (where_its_draws_say, "'select_n' at .* joins it"),
    (branch, "'gt' at .* is not linear"),
    (branch_of_its_draws, "'cond' at .* is not linear"),
    (times_a_branch_of_its_draws, "'mul' at .* joins it"),
    (times_a_branch_with_its_draws, "'mul' at .* joins it"),
    (nonlinear_branch, "'exp' at .* is not linear"),
    (parameter, "'poisson' at .* is not linear"),
    (nonlinear_carry, "'mul' at .* joins it"),
    (late, "'(integer_pow|square)' at .* is not linear"),
    (loop, "'(lt|while)' at .* is not linear"),
    (stopped, "'exp' at .* is not linear"),
    (own_rule, "'custom_jvp_call' at .* is not linear"),
    (inside_of_another, "'exp' at .* is not linear"),
    (derivative, "is differentiated inside of the function"),
    (sharded, "'shard_map' at .* does not look"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[0].__name__)
def test_anything_else_is_refused(case):
    fun, message = case
    with pytest.raises(jscg.JscgError, match=message) as error:
        jscg.grad_expectation(fun)(P, KEY)
    assert "jscg.expectation at " in str(error.value) and "test_nested.py:" in str(error.value)
    assert "What to do instead" in str(error.value)


def common_noise(p, key):
    """The scores of discrete draws refuse a key that is used twice themselves."""
    mean = jscg.expectation(lambda p, key: p[0] + p[1] * random.normal(key), 2)
    return mean(p, key) * mean(p, key)


BIASED = [
    (square, lambda p: exact_inner(p) ** 2),
    (logarithm, lambda p: p[0] * jnp.log(exact_inner(p))),
    (denominator, lambda p: p[0] / exact_inner(p)),
    (stopped, lambda p: p[0] * jnp.exp(exact_inner(p))),
    (twice_the_same, lambda p: exact_inner(p) * (1.0 + exact_inner(p))),
    (two_results, lambda p: exact_inner(p) * exact_inner_squared(p)),
    (inside_of_another, lambda p: jnp.exp(exact_inner(p))),
    (common_noise, lambda p: p[0] ** 2),
]


def test_what_is_refused_would_be_biased(monkeypatch):
    with pytest.raises(jscg.JscgError, match="joins it"):
        jscg.grad_expectation(common_noise)(P, KEY)
    monkeypatch.setattr("jscg._plan.check_nested", lambda program: None)
    found = samples(
        lambda k: [gradient(fun, estimators=SCORE)(P, k) for fun, _ in BIASED], KEY, 20_000
    )
    for (fun, exact), slopes in zip(BIASED, found, strict=True):
        assert np.max(np.abs(z_of(slopes, jax.grad(exact)(P)))) > 10, fun.__name__


# Keys.


def in_steps(keys_of):
    """Two keys made at each step of a loop that carries one."""

    def make(key):
        def step(k, _):
            k, *others = keys_of(k)
            return k, others

        return lax.scan(step, key, None, length=2)[1]

    return make


def _one_of(keys):
    return lax.cond(random.bernoulli(random.key(7)), lambda: keys[0], lambda: keys[1])


DIFFERENT = {
    "a pair": lambda k: random.split(k),
    "elements": lambda k: (random.split(k, 5)[0], random.split(k, 5)[3]),
    "parts": lambda k: (random.split(k, 5)[:2][1], random.split(k, 5)[2:4][1]),
    "mapped": lambda k: jax.vmap(random.split, out_axes=1)(random.split(k, 3)),
    "children": lambda k: [random.split(s)[1] for s in random.split(k)],
    "folds": lambda k: (random.fold_in(k, 1), random.fold_in(k, 2)),
    "seeds": lambda k: (random.key(1), random.key(2)),
    "an argument and a seed": lambda k: (k, random.key(2)),
    "of a grid": lambda k: (random.split(k, (2, 3))[0], random.split(k, (2, 3))[1]),
    "legacy": lambda k: random.split(random.key_data(k)),
}
SAME = {
    "one": lambda k: (k, k),
    "made twice": lambda k: (random.split(k)[0], random.split(k)[0]),
    "of splits of different sizes": lambda k: (random.split(k)[0], random.split(k, 3)[1]),
    "a split and a fold": lambda k: (random.split(k)[0], random.fold_in(k, 1)),
    "its own child": lambda k: (k, random.split(k)[0]),
    "an element that is looked up": lambda k: (
        random.split(k)[0],
        random.split(k)[jnp.int32(1) * random.bits(k, (), "uint8")],
    ),
    "all and one": lambda k: (random.split(k, 3), random.split(k, 3)[1]),
    "overlapping parts": lambda k: (random.split(k, 5)[:3], random.split(k, 5)[2:]),
    "a number that is not known": lambda k: (
        random.fold_in(k, 1),
        random.fold_in(k, random.bits(k)),
    ),
    "chosen": lambda k: (jnp.where(k == k, *random.split(k)), random.split(k)[0]),
    "chosen, the other": lambda k: (jnp.where(k == k, *random.split(k)), random.split(k)[1]),
    "decided": lambda k: (_one_of(random.split(k)), random.split(k)[0]),
    "decided, the other": lambda k: (_one_of(random.split(k)), random.split(k)[1]),
    "of its own bits": lambda k: (k, random.wrap_key_data(random.bits(k, (2,)))),
    "shuffled": lambda k: (random.split(k)[0], random.split(k)[::-1][1]),
    "legacy": lambda k: 2 * [random.split(random.key_data(k))[0]],
    "carried": in_steps(lambda k: [random.split(k)[0], *random.split(k)]),
    "carried by two steps": in_steps(
        lambda k: [random.split(random.split(k)[0])[0], random.split(k)[1], random.split(k)[0]]
    ),
    "carried and used": lambda k: (
        random.split(k)[1],
        in_steps(lambda k: random.split(k))(k)[0][0],
    ),
}


def of_keys(make):
    def fun(p, key):
        found = []
        for keys in make(key):
            keys = random.wrap_key_data(keys) if keys.dtype == jnp.uint32 else keys
            each = jax.vmap(lambda k: one(p, k))(keys.ravel())
            found.append(jnp.sum(each))
        return found[0] * found[1]

    return jscg.surrogate(fun)


@pytest.mark.parametrize("name", DIFFERENT)
def test_products_of_estimates_with_different_keys(name):
    assert jax.eval_shape(of_keys(DIFFERENT[name]), P, KEY).shape == ()


@pytest.mark.parametrize("name", SAME)
def test_products_of_estimates_with_keys_that_may_be_the_same(name):
    with pytest.raises(
        jscg.JscgError, match="joins it with what its own samples influence|in common"
    ):
        jax.eval_shape(of_keys(SAME[name]), P, KEY)


def expansions(path):
    """All paths that one with loops stands for, of up to four times round."""
    if not path:
        return [()]
    rest = expansions(path[1:])
    if isinstance(path[0], Step):
        return [(path[0], *more) for more in rest]
    return [(path[0].step,) * n + more for n in range(5) for more in rest]


def test_paths_with_loops_are_compared_as_all_that_they_stand_for():
    steps = [Step(("split", (2,)), ((i, i + 1),)) for i in range(2)]
    kinds = [*steps, *map(Again, steps)]
    paths = [p for n in range(4) for p in itertools.product(kinds, repeat=n)]
    ends = [set(expansions(p)) for p in paths]
    beginnings = [{p[:n] for p in many for n in range(len(p) + 1)} for many in ends]
    for a, mine in zip(paths, beginnings, strict=True):
        for b, theirs in zip(paths, ends, strict=True):
            assert may_be_made_of(a, b) != mine.isdisjoint(theirs), (a, b)


# What is not the cost, and what is outside of jscg.


def test_what_does_not_reach_the_cost_is_free():
    def fun(p, key):
        k1, k2 = random.split(key)
        estimate = three(p, k1)
        x = jscg.baseline(random.bernoulli(k2, p[0]), jnp.log(estimate))
        return x * p[1], jnp.exp(estimate)

    slope, aux = jscg.grad_expectation(fun, has_aux=True)(P, KEY)
    assert slope.shape == (2,) and aux > 0


def test_an_estimate_without_samples_is_exact():
    constant = jscg.expectation(lambda p, key: p[0] * 2.0)
    fun = lambda p, key: constant(p, key) ** 2 + random.bernoulli(key, p[1])  # noqa: E731
    assert jscg.grad_expectation(fun)(P, KEY)[0] == 8 * P[0]


def test_stop_influence_overrules():
    fun = lambda p, key: jnp.log(jscg.stop_influence(three(p, key)))  # noqa: E731
    assert jscg.grad_expectation(fun)(P, KEY).shape == (2,)


def test_outside_of_jscg_it_is_the_mean():
    def fun(p, key):
        x = random.normal(key, (2,)) * p
        return {"x": x, "square": x[0] ** 2}

    mean = jscg.expectation(fun, 4)
    keys = random.split(KEY, 4)
    by_hand = jax.tree.map(lambda a: a.mean(0), jax.vmap(fun, (None, 0))(P, keys))
    for found in (mean(P, KEY), jax.jit(mean)(P, key=KEY)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, by_hand)
    slope = jax.vmap(jax.grad(lambda p, k: mean(p, k)["square"]), (0, None))(jnp.ones((3, 2)), KEY)
    assert slope.shape == (3, 2) and np.all(slope[:, 0] > 0)
    assert jscg.expectation(fun).__wrapped__ is fun


def test_wrong_arguments():
    with pytest.raises(TypeError, match="num_samples must be an integer"):
        jscg.expectation(inner, 2.5)
    with pytest.raises(ValueError, match="at least 1"):
        jscg.expectation(inner, 0)
    with pytest.raises(ValueError, match="needs a random key among the arguments"):
        one(P, random.PRNGKey(0))
    with pytest.raises(TypeError, match="averages floats, but the function returned bool"):
        jscg.expectation(lambda key: random.bernoulli(key), 2)(KEY)
