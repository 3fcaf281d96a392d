"""`grad_expectation` and its siblings as functions: they behave as `jax.grad` does."""

import functools
import random as host_random
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import assert_small, hessian_z_scores, samples, variance, z_of

import jscg

KEY = random.key(20051212)
SCORE = jscg.estimators.ScoreFunction(baseline=None)
X = jnp.array([0.5, -1.0, 2.0])


def loss(a, b, key):
    """E = sigmoid(a) (1 - 2 b) + b**2, and a second draw that couples."""
    k1, k2 = random.split(key)
    h1 = random.bernoulli(k1, sigmoid(a))
    h2 = random.bernoulli(k2, sigmoid(b))
    return (h1 - b) ** 2 + 3.0 * h1 * h2


def exact_loss(a, b):
    p, q = sigmoid(a), sigmoid(b)
    return p * (1 - b) ** 2 + (1 - p) * b**2 + 3 * p * q


A, B = jnp.float32(0.3), jnp.float32(-0.7)
EXACT = tuple(np.asarray(g) for g in jax.grad(exact_loss, (0, 1))(A, B))


def mean_is(gradient, exact, n=50_000, key=KEY):
    assert_small(z_of(samples(gradient, key, n), exact))


# argnums, aux, trees.


@pytest.mark.parametrize("argnums", [0, 1, -3, -2, (0,), (0, 1), (1, 0), (-2, 0), [0, 1]])
def test_argnums_are_those_of_jax_grad(argnums):
    gradient = jscg.grad_expectation(loss, argnums)
    ours = gradient(A, B, KEY)
    theirs = jax.grad(exact_loss_with_key, argnums)(A, B, jnp.zeros(()))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    draws = samples(lambda k: gradient(A, B, k), KEY, 20_000)
    for mine, exact in zip(jax.tree.leaves(draws), jax.tree.leaves(theirs), strict=True):
        assert_small(z_of(mine, exact), str(argnums))


def exact_loss_with_key(a, b, key):
    del key
    return exact_loss(a, b)


def test_value_is_the_value_of_the_program():
    value, gradient = jscg.value_and_grad_expectation(loss, (0, 1), estimators=SCORE)(A, B, KEY)
    np.testing.assert_allclose(value, loss(A, B, KEY), rtol=1e-6)
    alone = jscg.grad_expectation(loss, (0, 1), estimators=SCORE)(A, B, KEY)
    np.testing.assert_allclose(gradient, alone, rtol=1e-6)


def test_default_value_is_unbiased():
    value = lambda k: jscg.value_and_grad_expectation(loss)(A, B, k)[0]  # noqa: E731
    mean_is(value, exact_loss(A, B))
    mean_is(lambda k: jscg.surrogate(loss)(A, B, k), exact_loss(A, B))


def loss_with_aux(a, b, key):
    x = random.bernoulli(key, sigmoid(a), (3,))
    return jnp.sum(x * X) * b, {"x": x, "twice": 2 * b, "count": 3}


def test_has_aux():
    expected_value, expected = loss_with_aux(A, B, KEY)
    gradient, aux = jscg.grad_expectation(loss_with_aux, has_aux=True)(A, B, KEY)
    (value, again), same = jscg.value_and_grad_expectation(
        loss_with_aux, has_aux=True, estimators=SCORE
    )(A, B, KEY)
    surrogate_value, third = jscg.surrogate(loss_with_aux, has_aux=True, estimators=SCORE)(
        A, B, KEY
    )
    for found in (aux, again, third):
        assert set(found) == {"x", "twice", "count"}
        np.testing.assert_array_equal(found["x"], expected["x"])
        assert found["x"].dtype == bool
        assert found["twice"] == expected["twice"] and found["count"] == 3
    np.testing.assert_allclose([value, surrogate_value], expected_value, rtol=1e-6)
    assert gradient.shape == same.shape == ()
    exact = float(sigmoid(A) * (1 - sigmoid(A)) * X.sum() * B)
    mean_is(
        lambda k: jscg.grad_expectation(loss_with_aux, has_aux=True)(A, B, k)[0], np.array(exact)
    )


def test_has_aux_without_a_pair():
    with pytest.raises(TypeError, match="pair|tuple"):
        jscg.grad_expectation(loss, has_aux=True)(A, B, KEY)


def tree_loss(params, data, key):
    k1, k2 = random.split(key)
    h = random.bernoulli(k1, sigmoid(params["a"]))
    v = random.categorical(k2, params["c"][1][0] + h[0])
    return jnp.sum(h * data) + (v - 0.5) ** 2 * params["c"][0]


TREE = {
    "a": jnp.array([0.1, -0.2, 0.4]),
    "nothing": None,
    "c": (jnp.float32(0.5), [jnp.array([0.2, -0.3])]),
    "unused": {"deep": jnp.ones((2, 2))},
}


def test_trees_in_and_out():
    gradient = jscg.grad_expectation(tree_loss)(TREE, X, KEY)
    assert jax.tree.structure(gradient) == jax.tree.structure(TREE)
    shapes = jax.tree.map(jnp.shape, gradient)
    assert shapes == jax.tree.map(jnp.shape, TREE)
    assert not np.any(gradient["unused"]["deep"])

    def exact(p):
        q = sigmoid(p["a"])
        v = jax.nn.softmax(p["c"][1][0])  # a constant added to all logits changes nothing
        return jnp.sum(q * X) + jnp.sum(v * (jnp.arange(2) - 0.5) ** 2) * p["c"][0]

    draws = samples(lambda k: jscg.grad_expectation(tree_loss)(TREE, X, k), KEY, 20_000)
    z = jax.tree.map(z_of, draws, jax.grad(exact)(TREE))
    assert_small(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(z)]))


def test_keyword_arguments_and_defaults():
    def fun(a, *, key, scale=2.0, table=None):
        x = random.bernoulli(key, sigmoid(a))
        return x * scale + (0.0 if table is None else table["t"] * x)

    gradient = jscg.grad_expectation(fun, estimators=SCORE)
    one = gradient(A, key=KEY)
    two = gradient(A, key=KEY, scale=4.0)
    three = gradient(A, scale=1.0, table={"t": jnp.float32(1.0)}, key=KEY)
    np.testing.assert_allclose([two, three], [2 * one, one], rtol=1e-5)


def test_wraps():
    for transform in (
        jscg.grad_expectation,
        jscg.value_and_grad_expectation,
        jscg.surrogate,
    ):
        wrapped = transform(loss)
        assert wrapped.__wrapped__ is loss
        assert "loss" in wrapped.__name__
        assert callable(wrapped)


def test_bound_methods_partials_and_callable_objects():
    class Model:
        scale = 2.0

        def method(self, a, b, key):
            return self.scale * loss(a, b, key)

        def __call__(self, a, b, key):
            return self.method(a, b, key)

    model = Model()
    expected = 2 * jscg.grad_expectation(loss)(A, B, KEY)
    for fun in (model, model.method, functools.partial(Model.method, model)):
        np.testing.assert_allclose(jscg.grad_expectation(fun)(A, B, KEY), expected, rtol=1e-5)


# Errors and dtypes, as jax.grad's.


def _vector(a, key):
    return a * random.bernoulli(key, sigmoid(a), (2,))


WRONG = {
    "vector output": (_vector, (0.5,), r"scalar-output functions. Output had shape: \(2,\)"),
    "list output": (lambda a, key: [a], (0.5,), "scalar-output functions"),
    "no output": (lambda a, key: None, (0.5,), "scalar-output functions"),
    "integer output": (
        lambda a, key: random.bernoulli(key, sigmoid(a)).astype(int),
        (0.5,),
        "requires real-valued outputs.*int32",
    ),
    "boolean output": (
        lambda a, key: random.bernoulli(key, sigmoid(a)),
        (0.5,),
        "requires real-valued outputs.*bool",
    ),
    "complex output": (
        lambda a, key: random.bernoulli(key, sigmoid(a)) + 1j * a,
        (0.5,),
        "requires real-valued outputs.*complex64",
    ),
    "integer input": (lambda a, key: 1.0 * a, (1,), "requires real.*inputs.*int32"),
    "boolean input": (lambda a, key: 1.0 * a, (True,), "requires real.*inputs.*bool"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("transform", [jscg.grad_expectation, jscg.value_and_grad_expectation])
def test_errors_are_those_of_jax_grad(name, transform):
    fun, args, message = WRONG[name]
    with pytest.raises(TypeError, match=message):
        transform(fun)(*args, KEY)
    with pytest.raises(TypeError, match=message):
        jax.grad(fun)(*args, KEY)


@pytest.mark.parametrize("argnums", [3, (0, 3)])
def test_too_few_arguments(argnums):
    message = "requires at least 4 positional arguments.*only 3"
    with pytest.raises(TypeError, match=message):
        jscg.grad_expectation(loss, argnums)(A, B, KEY)


def test_argnums_out_of_range_or_of_a_wrong_type():
    with pytest.raises((TypeError, ValueError)):
        jscg.grad_expectation(loss, -5)(A, B, KEY)
    with pytest.raises(TypeError):
        jscg.grad_expectation(loss, "a")(A, B, KEY)


def test_a_key_cannot_be_differentiated():
    with pytest.raises(TypeError, match="real-valued.*is a random key"):
        jscg.grad_expectation(loss, 2)(A, B, KEY)


@pytest.mark.parametrize(
    ("key", "what"), [(KEY, "is a random key"), (random.PRNGKey(0), "as a legacy key has")]
)
def test_of_functions_with_the_key_first_it_is_said_what_to_do(key, what):
    fun = lambda key, params: params["a"] * random.bernoulli(key, 0.5)  # noqa: E731
    with pytest.raises(TypeError) as caught:
        jscg.grad_expectation(fun)(key, {"a": A})
    said = str(caught.value)
    assert "argument 'key' " + ("is" if key is KEY else "has dtype uint32") in said and what in said
    assert said.endswith(
        "Put the parameters first, fun(params, key), or say which argument they are: argnums=1."
    )
    assert jscg.grad_expectation(fun, argnums=1)(key, {"a": A})["a"] in (0, 1)


def test_a_key_among_the_parameters_is_to_be_taken_out():
    with pytest.raises(TypeError, match="params.*key.* is a random key. Make it an argument"):
        jscg.grad_expectation(lambda params: params["a"])({"a": A, "key": KEY})


def test_not_a_function():
    with pytest.raises(TypeError, match="callable|function"):
        jscg.grad_expectation(3)(A)


def test_estimators_of_a_wrong_type():
    with pytest.raises((TypeError, jscg.JscgError), match="[Ee]stimator"):
        jscg.grad_expectation(loss, estimators="score")(A, B, KEY)


def test_errors_of_the_program_come_through():
    class OwnError(Exception):
        pass

    def fun(a, key):
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        jscg.grad_expectation(fun)(A, KEY)
    jscg.grad_expectation(loss)(A, B, KEY)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_gradient_dtype_is_that_of_the_argument(dtype):
    def fun(params, key):
        x = random.bernoulli(key, sigmoid(params["a"]))
        return jnp.sum(x * params["a"]) + params["b"]

    with jax.enable_x64(dtype == jnp.float64):
        params = {"a": jnp.array([0.5, -0.5], dtype), "b": jnp.float32(1.0)}
        for estimator in (None, SCORE):
            value, gradient = jscg.value_and_grad_expectation(fun, estimators=estimator)(
                params, KEY
            )
            expected_value, expected = jax.value_and_grad(fun)(params, KEY)
            assert value.dtype == expected_value.dtype
            dtypes = jax.tree.map(lambda g: g.dtype, gradient)
            assert dtypes == jax.tree.map(lambda g: g.dtype, expected)
            assert all(np.isfinite(np.asarray(g, float)).all() for g in jax.tree.leaves(gradient))


def test_python_floats_and_numpy_arrays():
    ours = jscg.grad_expectation(loss)(0.3, np.float32(-0.7), KEY)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, jscg.grad_expectation(loss)(A, B, KEY), rtol=1e-6)


# Composition.


def reference(key, a=A, b=B):
    return jscg.grad_expectation(loss)(a, b, key)


def test_jit():
    np.testing.assert_allclose(jax.jit(reference)(KEY), reference(KEY), rtol=1e-5)


def test_vmap_over_keys_parameters_and_both():
    keys, many = random.split(KEY, 4), jnp.linspace(-1, 1, 4)
    gradient = jax.jit(jscg.grad_expectation(loss))
    expected = {
        (None, None, 0): [gradient(A, B, k) for k in keys],
        (0, None, None): [gradient(a, B, KEY) for a in many],
        (0, None, 0): [gradient(a, B, k) for a, k in zip(many, keys, strict=True)],
    }
    for axes, each in expected.items():
        args = [
            x if i is not None else y
            for i, x, y in zip(axes, (many, B, keys), (A, B, KEY), strict=True)
        ]
        found = jax.vmap(gradient, axes)(*args)
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-6)


def test_inside_scan():
    def step(a, k):
        return a - 0.1 * jscg.grad_expectation(loss)(a, B, k), a

    keys = random.split(KEY, 5)
    last, path = lax.scan(step, A, keys)
    a = A
    for k, here in zip(keys, path, strict=True):
        np.testing.assert_allclose(here, a, rtol=1e-5)
        a = step(a, k)[0]
    np.testing.assert_allclose(last, a, rtol=1e-5)


def test_closures_over_tracers_of_jit_and_vmap():
    weights = jnp.array([1.0, 2.0, -3.0])

    def scaled(w):
        return jscg.grad_expectation(lambda a, k: w * loss(a, B, k))(A, KEY)

    expected = [w * reference(KEY) for w in weights]
    np.testing.assert_allclose(jax.vmap(scaled)(weights), expected, rtol=1e-5)
    np.testing.assert_allclose([jax.jit(scaled)(w) for w in weights], expected, rtol=1e-5)
    np.testing.assert_allclose([scaled(w) for w in weights], expected, rtol=1e-5)


def test_derivatives_with_respect_to_what_is_closed_over():
    def outer(w):
        return jscg.grad_expectation(lambda a, k: w**2 * loss(a, B, k))(A, KEY)

    np.testing.assert_allclose(jax.grad(outer)(3.0), 6.0 * reference(KEY), rtol=1e-4)


def test_closed_over_keys_and_parameters():
    def fun(a):
        return loss(a, B, KEY)

    np.testing.assert_allclose(jscg.grad_expectation(fun)(A), reference(KEY), rtol=1e-6)


def test_donated_and_static_arguments_of_an_outer_jit():
    def update(params, power, key):
        cost = lambda p, k: loss(p, B, k) ** power  # noqa: E731
        return params - 0.1 * jscg.grad_expectation(cost)(params, key)

    jitted = jax.jit(update, static_argnums=1, donate_argnums=0)
    for power in (1, 2):
        found = jitted(jnp.array(0.3), power, KEY)
        np.testing.assert_allclose(found, update(A, power, KEY), rtol=1e-5)


def vector_loss(th, key):
    return loss(th[0], th[1], key)


TH = jnp.array([0.3, -0.7])


@pytest.mark.parametrize("transform", [jax.grad, jax.jacfwd, jax.jacrev], ids=lambda t: t.__name__)
@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
def test_every_way_to_differentiate_the_surrogate(transform, estimator):
    surrogate = jscg.surrogate(vector_loss, estimators=estimator)
    expected = jscg.grad_expectation(vector_loss, estimators=estimator)(TH, KEY)
    np.testing.assert_allclose(transform(surrogate)(TH, KEY), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
def test_hessian_of_the_surrogate(estimator):
    exact = jax.hessian(lambda th: exact_loss(th[0], th[1]))(TH)
    surrogate = jscg.surrogate(vector_loss, estimators=estimator)
    assert_small(hessian_z_scores(surrogate, TH, exact, KEY, 100_000))


def test_gradient_of_the_gradient():
    second = jax.grad(lambda a, k: jscg.grad_expectation(loss)(a, B, k))
    exact = jax.grad(jax.grad(exact_loss))(A, B)
    mean_is(lambda k: second(A, k), exact, n=100_000)


def test_third_derivative():
    third = jax.grad(jax.grad(jax.grad(jscg.surrogate(loss))))
    exact = jax.grad(jax.grad(jax.grad(exact_loss)))(A, B)
    mean_is(lambda k: third(A, B, k), exact, n=200_000)


def test_jvp_of_the_surrogate():
    surrogate = jscg.surrogate(vector_loss)
    _, tangent = jax.jvp(lambda th: surrogate(th, KEY), (TH,), (jnp.array([1.0, 2.0]),))
    expected = jax.grad(surrogate)(TH, KEY) @ jnp.array([1.0, 2.0])
    np.testing.assert_allclose(tangent, expected, rtol=1e-5)


# Estimators by draw.


def named_loss(th, key):
    from jax.ad_checkpoint import checkpoint_name

    k1, k2 = random.split(key)
    first = checkpoint_name(random.bernoulli(k1, sigmoid(th[0])), "hidden")
    second = random.categorical(k2, jnp.stack([th[1], 0.0]))
    return jnp.sin(1 + first + 2.0 * second) * 3


MAPPINGS = {
    "family": {"bernoulli": jscg.estimators.Enumerate(), "categorical": SCORE},
    "name": {"hidden": SCORE, "second": jscg.estimators.Auto()},
    "some": {"bernoulli": SCORE},
    "all": jscg.estimators.Enumerate(),
    "auto": jscg.estimators.Auto(),
}


@pytest.mark.parametrize("name", MAPPINGS)
def test_an_estimator_for_each_draw(name):
    def exact(th):
        p, q = sigmoid(th)
        value = lambda x, y: jnp.sin(1 + x + 2.0 * y) * 3  # noqa: E731
        return (1 - p) * (q * value(0, 0) + (1 - q) * value(0, 1)) + p * (
            q * value(1, 0) + (1 - q) * value(1, 1)
        )

    gradient = jscg.grad_expectation(named_loss, estimators=MAPPINGS[name])
    mean_is(lambda k: gradient(TH, k), jax.grad(exact)(TH))


def test_enumeration_leaves_no_variance():
    gradient = jscg.grad_expectation(named_loss, estimators=jscg.estimators.Enumerate())
    assert np.all(variance(lambda k: gradient(TH, k), KEY, 100) < 1e-10)


def test_pathwise_through_a_discrete_draw_is_refused():
    with pytest.raises(jscg.JscgError, match="bernoulli|first|hidden"):
        pathwise = jscg.estimators.Pathwise()
        jscg.grad_expectation(named_loss, estimators=pathwise)(TH, KEY)


# num_samples.


@pytest.mark.parametrize("estimator", [None, SCORE], ids=["default", "score"])
@pytest.mark.parametrize("k", [2, 5])
def test_several_samples_are_unbiased_and_better(estimator, k):
    one = jscg.grad_expectation(vector_loss, estimators=SCORE)
    many = jscg.grad_expectation(vector_loss, num_samples=k, estimators=estimator)
    exact = jax.grad(lambda th: exact_loss(th[0], th[1]))(TH)
    draws = samples(lambda key: many(TH, key), KEY, 40_000)
    assert_small(z_of(draws, exact))
    single = variance(lambda key: one(TH, key), KEY, 40_000)
    assert np.all(draws.var(axis=0) < 1.1 * single / k)


def test_second_derivatives_with_several_samples():
    exact = jax.hessian(lambda th: exact_loss(th[0], th[1]))(TH)
    surrogate = jscg.surrogate(vector_loss, num_samples=3)
    assert_small(hessian_z_scores(surrogate, TH, exact, KEY, 60_000))


def test_the_value_of_several_samples_is_their_mean():
    def fun(a, key):
        return random.normal(key) + a

    value, _ = jscg.value_and_grad_expectation(fun, num_samples=4)(A, KEY)
    mean_is(lambda k: jscg.surrogate(fun, num_samples=4)(A, k), np.array(A), n=20_000)
    spread = variance(lambda k: jscg.surrogate(fun, num_samples=4)(A, k), KEY, 20_000)
    assert spread == pytest.approx(0.25, rel=0.1)
    assert value.shape == ()


def test_legacy_keys_are_named_by_key_argnums():
    legacy = random.PRNGKey(5)
    named = jax.jit(jscg.grad_expectation(loss, num_samples=3, key_argnums=2))
    keys = random.split(legacy, 20_000)
    draws = np.asarray(jax.vmap(lambda k: named(A, B, k))(keys), np.float64)
    assert_small(z_of(draws, EXACT[0]))
    typed = jax.jit(jscg.grad_expectation(loss, num_samples=3))(A, B, random.key(5))
    np.testing.assert_allclose(named(A, B, legacy), typed, rtol=1e-5)
    with pytest.raises(jscg.JscgError, match="key_argnums"):
        jscg.grad_expectation(loss, num_samples=3)(A, B, legacy)


def test_several_samples_need_a_key_argument():
    def fun(a):
        return loss(a, B, KEY)

    with pytest.raises(jscg.JscgError, match="key"):
        jscg.grad_expectation(fun, num_samples=2)(A)


@pytest.mark.parametrize("bad", [0, -1])
def test_num_samples_below_one(bad):
    with pytest.raises((ValueError, jscg.JscgError), match="num_samples"):
        jscg.grad_expectation(loss, num_samples=bad)(A, B, KEY)


@pytest.mark.parametrize("bad", [2.5, "two"])
def test_num_samples_is_an_integer(bad):
    with pytest.raises((TypeError, ValueError, jscg.JscgError), match="num_samples"):
        jscg.grad_expectation(loss, num_samples=bad)(A, B, KEY)


def test_a_traced_num_samples_is_refused():
    def gradient(k):
        return jscg.grad_expectation(loss, num_samples=k)(A, B, KEY)

    with pytest.raises((TypeError, ValueError, jscg.JscgError), match="num_samples|[Tt]racer"):
        jax.jit(gradient)(2)


def test_several_samples_with_aux():
    gradient, aux = jscg.grad_expectation(loss_with_aux, has_aux=True, num_samples=4)(A, B, KEY)
    assert gradient.shape == ()
    assert jnp.shape(aux["x"]) == (4, 3)


# Tracing once.


def counted(fun):
    calls = []

    def counting(*args):
        calls.append(1)
        return fun(*args)

    return counting, calls


def test_a_second_eager_call_does_not_trace_again():
    fun, calls = counted(loss)
    gradient = jscg.grad_expectation(fun)
    gradient(A, B, KEY)
    first = len(calls)
    for i in range(5):
        gradient(A + i, B - i, random.key(i))
    assert len(calls) == first
    jscg.grad_expectation(fun)(A, B, KEY)
    assert len(calls) == first, "a fresh wrapper of the same function traced again"


def test_no_second_trace_for_several_samples_and_trees():
    fun, calls = counted(lambda p, key: p["b"] * random.bernoulli(key, sigmoid(p["a"][0])))
    tree = {"a": [A, None], "b": B}
    jscg.grad_expectation(fun, num_samples=3)(tree, KEY)
    first = len(calls)
    jscg.grad_expectation(fun, num_samples=3)(jax.tree.map(lambda a: 2 * a, tree), KEY)
    assert len(calls) == first


def test_another_shape_dtype_or_structure_traces_again():
    fun, calls = counted(lambda a, key: jnp.sum(random.bernoulli(key, sigmoid(a)) * 1.0))
    gradient = jscg.grad_expectation(fun)
    shapes = []
    for a in (jnp.ones(2), jnp.ones(3), jnp.ones(3, jnp.bfloat16)):
        before = len(calls)
        shapes.append(gradient(a, KEY))
        assert len(calls) > before
    assert [(g.shape, g.dtype) for g in shapes] == [
        ((2,), jnp.float32),
        ((3,), jnp.float32),
        ((3,), jnp.bfloat16),
    ]


def test_the_cache_tells_options_apart():
    a = jscg.grad_expectation(loss, 0)(A, B, KEY)
    b = jscg.grad_expectation(loss, 1)(A, B, KEY)
    c = jscg.grad_expectation(loss, (0, 1), estimators=SCORE)(A, B, KEY)
    d = jscg.grad_expectation(loss, 0, num_samples=2)(A, B, KEY)
    assert len({float(x) for x in (a, b, d)}) == 3
    assert isinstance(c, tuple)


def test_the_cache_does_not_keep_functions_alive():
    import gc
    import weakref

    def fun(a, key):
        return loss(a, B, key)

    jscg.grad_expectation(fun)(A, KEY)
    reference_ = weakref.ref(fun)
    del fun
    gc.collect()
    assert reference_() is None


# A program without draws.


def no_draw(a, key):
    del key
    return jnp.sin(a) ** 2


def test_no_draw_at_all_warns_and_is_jax_grad():
    with pytest.warns(UserWarning, match=r"jax\.grad.*constants to a trace"):
        found = jscg.grad_expectation(no_draw)(A, KEY)
    np.testing.assert_allclose(found, jax.grad(no_draw)(A, KEY), rtol=1e-6)


def test_a_program_with_draws_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jscg.grad_expectation(loss)(A, B, KEY)
        jscg.grad_expectation(lambda a, k: a * random.normal(k))(A, KEY)


CALLS = {
    "at once": lambda fun: jscg.grad_expectation(fun)(A, KEY),
    "jit": lambda fun: jax.jit(jscg.grad_expectation(fun))(A, KEY),
    "vmap": lambda fun: jax.vmap(jscg.grad_expectation(fun), (None, 0))(A, KEY[None]),
    "surrogate": lambda fun: jax.grad(jscg.surrogate(fun))(A, KEY),
    "samples": lambda fun: jscg.grad_expectation(fun, num_samples=3)(A, KEY),
    "graph": lambda fun: jscg.graph(fun)(A, KEY),
}


@pytest.mark.parametrize("how", CALLS)
def test_a_warning_points_at_the_line_of_the_call(how):
    with pytest.warns(UserWarning, match="found no draw") as caught:
        CALLS[how](lambda a, key: jnp.sin(a))
    line = CALLS[how].__code__.co_firstlineno
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}


HOST = {
    "numpy.random": lambda a, key: a * random.bernoulli(key, 0.5) * np.random.normal(),
    "Python's random": lambda a, key: a * random.bernoulli(key, 0.5) * host_random.random(),
}


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("how", CALLS)
def test_noise_of_the_host_is_frozen_and_it_says_so(name, how):
    with pytest.warns(UserWarning) as caught:
        CALLS[how](functools.partial(HOST[name]))  # a new one, which is traced anew
    line = HOST[name].__code__.co_firstlineno
    for warning in caught:
        said = str(warning.message)
        assert said.startswith(f"jscg: {name} drew") and "frozen" in said
        assert f"{__file__}:{line})" in said and warning.filename == __file__


def test_generators_of_the_host_are_left_as_they_are():
    before = host_random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    jscg.grad_expectation(lambda a, k: a * random.normal(k))(A, KEY)
    jscg.check_unbiased(loss, num_estimates=8)(A, B, KEY)
    after = host_random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2]
    assert before == after


# Derivatives of the result by something else than argnums.


def two_coins(a, b, key):
    k1, k2 = random.split(key)
    x = 1.0 * random.bernoulli(k1, a)
    return (x + 2.0 * random.bernoulli(k2, jax.nn.sigmoid(b))) ** 2 + b


def coins_in_a_scan(a, b, key):
    def step(total, key):
        k1, k2 = random.split(key)
        return total + random.bernoulli(k1, a) + 2.0 * random.poisson(k2, b), None

    return jax.lax.scan(step, 0.0, random.split(key, 3))[0]


ELSEWHERE = {
    "surrogate": lambda f: jax.grad(jscg.surrogate(f), 1),
    "jitted surrogate": lambda f: jax.grad(jax.jit(jscg.surrogate(f)), 1),
    "forward": lambda f: jax.jacfwd(jscg.surrogate(f), 1),
    "of the gradient": lambda f: jax.grad(jscg.grad_expectation(f), 1),
    "closure": lambda f: (
        lambda a, b, key: jax.grad(
            lambda b: jscg.grad_expectation(lambda a, k: f(a, b, k))(a, key)
        )(b)
    ),
}


@pytest.mark.parametrize("fun", [two_coins, coins_in_a_scan])
@pytest.mark.parametrize("how", ELSEWHERE)
def test_a_derivative_that_has_no_score_is_refused(fun, how):
    """It was silently without the score of the draw that only b moves."""
    with pytest.raises(jscg.JscgError, match="not among argnums.*\n.*\n.*put the argument"):
        ELSEWHERE[how](fun)(0.3, 0.5, KEY)
    stopped = lambda a, b, key: fun(a, jax.lax.stop_gradient(b), key) + b  # noqa: E731
    first_order = "surrogate" in how or how == "forward"
    assert ELSEWHERE[how](stopped)(0.3, 0.5, KEY) == first_order


def test_such_a_derivative_names_the_line_of_the_draw():
    with pytest.raises(
        jscg.JscgError, match=r"bernoulli draw at .*test_public_face.py:\d+.*two_coins"
    ):
        jax.grad(jscg.surrogate(two_coins), 1)(0.3, 0.5, KEY)


def test_arguments_that_are_handed_to_the_wrong_call():
    with pytest.raises(
        TypeError, match=r"argnums must be .*got dict.*grad_expectation\(fun\)\(params"
    ):
        jscg.grad_expectation(lambda p, k: p["a"], {"a": 1.0}, random.key(0))
