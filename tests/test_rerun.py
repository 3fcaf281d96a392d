"""Which draws the default runs again at other values: where that takes little, or little more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import assert_small, samples, z_of

import jscg
from jscg import estimators
from jscg._work import work

KEY = random.key(11)


def look(rows, units):
    return random.normal(random.key(1), (rows, units)) / np.sqrt(rows)


def bits(units, rows, gammas=0):
    """Bits that reach one cost through a matrix, beside gamma draws that take time themselves."""

    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]), (units,))
        more = jnp.sum(random.gamma(k2, jnp.exp(th[1]), (gammas,))) if gammas else 0.0
        return jnp.sum((look(rows, units) @ x - 1) ** 2) + more

    return fun


def counts(units):
    def fun(th, key):
        x = random.poisson(key, jnp.exp(th[0]), (units,))
        return jnp.mean(x * 1.0) ** 2

    return fun


def classes(many):
    def fun(th, key):
        x = random.categorical(key, th[0] * jnp.arange(many) / many, shape=(16,))
        return jnp.mean(jnp.sin(1.0 * x)) ** 2

    return fun


def wide(layers):
    """Four bits before large layers that take little arithmetic, behind costly draws."""

    def fun(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]), (4,)).astype(float)
        hidden = jnp.sum(x) * jnp.ones((600, 1000))
        for _ in range(layers):
            hidden = jnp.tanh(hidden)
        return jnp.mean(hidden) + jnp.mean(random.gamma(k2, jnp.exp(th[1]), (400_000,)))

    return fun


def how(fun, **options):
    found = jscg.graph(fun, **options)(jnp.array([0.3, -0.2]), KEY)
    return {d.name: {way: why for way, why, _ in d.estimates} for d in found.stochastic_nodes}


@pytest.mark.parametrize(
    ("fun", "options", "way"),
    [
        (bits(10, 20), {"num_samples": 4}, "MeasureValued"),
        # 200 runs of some 30,000 operations, which by themselves are too many.
        (bits(100, 2000), {"num_samples": 4}, "scored"),
        (bits(100, 2000, gammas=3000), {"num_samples": 4}, "MeasureValued"),
        # Costly draws, but to move one of so many elements takes longer than their cost.
        (counts(50), {"num_samples": 64}, "MeasureValued"),
        (counts(225), {"num_samples": 64}, "scored"),
        # As long as that again, but for one element, whose score has little noise.
        (bits(1, 300_000, gammas=1000), {"num_samples": 4}, "scored"),
        # Eight at a time hold as many numbers as eight layers.
        (wide(2), {"num_samples": 2}, "scored"),
        (wide(12), {"num_samples": 2}, "MeasureValued"),
        # However little each of them takes: 512 runs, and more.
        (classes(32), {"num_samples": 2}, "MeasureValued"),
        (classes(33), {"num_samples": 2}, "scored"),
    ],
)
def test_runs_of_their_own_where_these_take_little(fun, options, way):
    assert how(fun, **options)["x"].keys() == {way}


def test_the_runs_of_all_chunks_count():
    fun, th = bits(60, 100), jnp.array([0.3, -0.2])
    assert how(fun, num_samples=4)["x"].keys() == {"MeasureValued"}
    assert how(fun, num_samples=64)["x"].keys() == {"scored"}
    at_once = jscg.grad_expectation(fun, num_samples=64)(th, KEY)
    in_chunks = jscg.grad_expectation(fun, num_samples=64, chunk_size=4)(th, KEY)
    np.testing.assert_allclose(in_chunks, at_once, rtol=1e-4)


def test_products_count_by_their_multiplications():
    def of(fun, *shapes):
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        return work(jax.make_jaxpr(fun)(*arrays).jaxpr)

    image, kernel = (8, 3, 10, 12), (5, 3, 2, 4)
    size = 8 * 5 * 9 * 9  # of the result
    dot = of(jnp.dot, (size // 9, 24), (24, 9))
    assert dot == pytest.approx(size * 24 / 16)
    assert of(lambda x, w: lax.conv(x, w, (1, 1), "VALID"), image, kernel) == pytest.approx(dot)


def test_reason_in_words():
    one = how(counts(1))["x"]["MeasureValued"]
    assert one.startswith("1 run of some ") and one.endswith(" operations costs little")
    many = how(counts(3))["x"]["MeasureValued"]
    assert many.startswith("3 runs of some ") and many.endswith(" operations cost little")


def test_counts_behind_costly_draws():
    """Many times less variance than scores with the other samples as the baseline."""
    units, rows = 50, 80
    matrix, seen = look(rows, units), jnp.linspace(0.0, 2.0, rows)

    def fun(th, key):
        n = random.poisson(key, jnp.exp(th))
        return 0.5 * jnp.sum((seen - matrix @ n) ** 2)

    def exact(th):
        lam = jnp.exp(th)
        return 0.5 * (jnp.sum((seen - matrix @ lam) ** 2) + jnp.sum(matrix**2 @ lam))

    def in_a_vector(th, key):
        return fun(jnp.full(units, th[0]), key)

    assert how(in_a_vector, num_samples=64)["n"].keys() == {"MeasureValued"}
    th, found = jnp.linspace(-1.0, 0.5, units), {}
    for name, estimator in {"default": None, "score": estimators.ScoreFunction()}.items():
        call = jscg.grad_expectation(fun, num_samples=64, estimators=estimator)
        found[name] = samples(lambda key, call=call: call(th, key), KEY, 400)
        assert_small(z_of(found[name], jax.grad(exact)(th)), name)
    ours, theirs = (np.mean(np.var(found[name], 0)) for name in ("default", "score"))
    assert ours < 0.05 * theirs
