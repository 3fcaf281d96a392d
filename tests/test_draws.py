"""Contracts of `jscg.draws`: every family of the registry, and each one's numbers."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

from jscg.draws import FAMILIES as EVERY
from jscg.draws import Family, register
from jscg.draws._family import each
from jscg.draws.implicit import _slope_of_log
from jscg.draws.wald import _mills, _slope

# Those of `jax.random`; what programs draw by hand has tests of its own.
FAMILIES = {name: family for name, family in EVERY.items() if not family.observed}
KEY = jax.random.key(7)
INF = np.inf


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def uniform(*shape, low=0.2, high=0.9, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


ROW = {"shape": (2, 3)}
PSD = np.eye(3, dtype=np.float32) + 0.2 * np.ones((2, 1, 1), np.float32)
# For each family: the static arguments and the operands of one draw.
EXAMPLES = {
    "ball": ({"d": 3, "shape": (2,)}, {"p": np.float32(1.5)}),
    "bernoulli": (ROW, {"p": uniform(3)}),
    "beta": (ROW, {"a": uniform(3), "b": uniform(2, 3)}),
    "binomial": (ROW, {"n": np.array([3, 5, 40]), "p": uniform(2, 3)}),
    "bits": (ROW, {}),
    "categorical": ({"axis": 1, "shape": (4, 2, 3)}, {"logits": uniform(2, 5, 3)}),
    "cauchy": (ROW, {}),
    "chisquare": (ROW, {"df": uniform(3)}),
    "choice": ({"a": 4, "shape": (2, 3)}, {"p": uniform(4)}),
    "dirichlet": ({"shape": (5, 2)}, {"alpha": uniform(2, 3)}),
    "double_sided_maxwell": ({}, {"loc": uniform(3), "scale": uniform(2, 3)}),
    "exponential": (ROW, {}),
    "f": (ROW, {"dfnum": uniform(2, 3), "dfden": uniform(2, 3)}),
    "gamma": (ROW, {"a": uniform(3)}),
    "generalized_normal": (ROW, {"p": uniform(3)}),
    "geometric": (ROW, {"p": uniform(3)}),
    "gumbel": (ROW, {}),
    "laplace": (ROW, {}),
    "loggamma": (ROW, {"a": uniform(3)}),
    "logistic": (ROW, {}),
    "lognormal": (ROW, {"sigma": uniform(3)}),
    "maxwell": (ROW, {}),
    "multinomial": ({}, {"n": np.array([3, 8]), "p": uniform(2, 4)}),
    "multivariate_normal": ({"shape": (4, 2)}, {"mean": uniform(2, 3), "cov": PSD}),
    "normal": (ROW, {}),
    "orthogonal": ({"n": 3, "shape": (2,)}, {}),
    "pareto": (ROW, {"b": uniform(3)}),
    "permutation": ({"axis": 1}, {"x": uniform(2, 5, 3)}),
    "poisson": (ROW, {"lam": 9 * uniform(3)}),
    "rademacher": (ROW, {}),
    "randint": (ROW, {"minval": np.array([0, 1, 2]), "maxval": np.array([5, 6, 7])}),
    "rayleigh": (ROW, {"scale": uniform(3)}),
    "t": (ROW, {"df": uniform(3)}),
    "triangular": (ROW, {"left": -uniform(3), "mode": uniform(3), "right": 2 + uniform(3)}),
    "truncated_normal": (ROW, {"lower": -uniform(3), "upper": uniform(2, 3)}),
    "uniform": (ROW, {"minval": -uniform(3), "maxval": uniform(2, 3)}),
    "wald": (ROW, {"mean": uniform(3)}),
    "weibull_min": (ROW, {"scale": uniform(3), "concentration": uniform(2, 3)}),
}
SCORED = sorted(name for name, family in FAMILIES.items() if family.log_prob is not None)
FINITE = sorted(name for name, family in FAMILIES.items() if family.support is not None)
INVERSE = {"logistic": sp.logit, "exp": np.log, "softmax": np.log, "log": np.exp}


def draw(name, static=None, key=KEY, **operands):
    default_static, default_operands = EXAMPLES[name]
    static = default_static if static is None else static
    operands = operands or default_operands
    if FAMILIES[name].replay is not None:
        return FAMILIES[name].replay(key, static, **operands)
    return getattr(jax.random, name)(key, **static, **operands)


@functools.cache
def draws(name):
    """2000 draws of the example."""
    return jax.jit(jax.vmap(lambda key: draw(name, key=key)))(jax.random.split(KEY, 2000))


@functools.cache
def jacobians(name):
    """Of log_prob in the scored operands where there is one, else of the draw in all operands."""
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    moving = {k: v for k, v in operands.items() if k in family.scored or not family.discrete}
    if not moving:
        return {}
    x = draws(name)[0] if family.discrete else None
    key = jax.random.key(7, impl="rbg")  # the quickest to compile

    def outcomes(moving):
        moved = {**operands, **moving}
        if family.discrete:
            return family.log_prob(x, static, **moved)
        return draw(name, key=key, **moved)

    return jax.jit(jax.jacfwd(outcomes))(moving)


# ---- contracts of every family


def samplers():
    for name, function in vars(jax.random).items():
        if not name.startswith("_") and inspect.isfunction(inspect.unwrap(function)):
            if name not in {"split", "fold_in", "clone"}:
                names = list(inspect.signature(function).parameters)
                if names[0] == "key":
                    yield name, names[1:]


def test_every_sampler_of_jax_random_is_a_family():
    assert {name for name, _ in samplers()} == set(FAMILIES) == set(EXAMPLES)
    assert len(FAMILIES) >= 38


def test_operands_are_in_the_order_of_the_signature():
    for name, parameters in samplers():
        operands = FAMILIES[name].operands
        assert list(operands) == [p for p in parameters if p in operands], name
        assert set(FAMILIES[name].scored) <= set(operands)
        assert {operand for operand, _ in FAMILIES[name].forms} <= set(operands)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'normal' is already registered"):
        register(Family(name="normal", operands=(), discrete=False))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_discrete_says_whether_the_draw_has_a_derivative(name):
    family = FAMILIES[name]
    assert family.reparameterized is not family.discrete
    if family.discrete:
        dtype = jax.eval_shape(lambda: draw(name)).dtype
        assert name in {"binomial", "multinomial"} or not jnp.issubdtype(dtype, jnp.floating)
    else:
        assert all(np.any(jacobian) for jacobian in jacobians(name).values())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_operand_axes(name):
    """Index i of an aligned axis acts on the outcomes at index i, and only there."""
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    out_ndim = jax.eval_shape(lambda: draw(name)).ndim
    for operand, value in operands.items():
        axes = family.operand_axes(operand, value.ndim, out_ndim, static)
        assert len(axes) == value.ndim
        assert set(axes) <= {None, *range(out_ndim - family.event_ndim)}
    for operand, jacobian in jacobians(name).items():
        ndim = operands[operand].ndim
        for axis, out_axis in enumerate(family.operand_axes(operand, ndim, out_ndim, static)):
            if out_axis is not None:
                pair = (out_axis, jacobian.ndim - ndim + axis)
                others = tuple(a for a in range(jacobian.ndim) if a not in pair)
                acts = np.any(np.asarray(jacobian) != 0, axis=others)
                np.testing.assert_array_equal(acts, np.eye(len(acts), dtype=bool))


@pytest.mark.parametrize(
    ("name", "operand", "axes"),
    [
        ("bernoulli", "p", (1,)),
        ("categorical", "logits", (1, None, 2)),
        ("choice", "p", (None,)),
        ("multinomial", "n", (0,)),
        ("multinomial", "p", (0, None)),
        ("dirichlet", "alpha", (1, None)),
        ("multivariate_normal", "mean", (1, None)),
        ("multivariate_normal", "cov", (1, None, None)),
        ("permutation", "x", (0, None, 2)),
        ("ball", "p", ()),
    ],
)
def test_operand_axes_of_the_examples(name, operand, axes):
    static, operands = EXAMPLES[name]
    ndim = operands[operand].ndim
    out_ndim = jax.eval_shape(lambda: draw(name)).ndim
    assert FAMILIES[name].operand_axes(operand, ndim, out_ndim, static) == axes


def test_operand_axes_of_scalars_and_negative_axes():
    assert FAMILIES["permutation"].operand_axes("x", 0, 1, {}) == ()
    assert FAMILIES["categorical"].operand_axes("logits", 2, 3, {"axis": -2}) == (None, 2)
    assert FAMILIES["categorical"].operand_axes("logits", 2, 1, {}) == (0, None)


# ---- contracts of the families with log_prob


@pytest.mark.parametrize("name", SCORED)
def test_log_prob_has_the_batch_shape_under_jit_and_vmap(name):
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    x = draws(name)[0]
    assert x.shape == jax.eval_shape(lambda: draw(name)).shape
    expected = family.log_prob(x, static, **operands)
    assert expected.shape == x.shape[: x.ndim - family.event_ndim]
    assert expected.dtype == jnp.float32
    log_prob = jax.jit(lambda x, o: family.log_prob(x, static, **o))
    np.testing.assert_allclose(log_prob(x, operands), expected, rtol=1e-5, atol=1e-6)
    mapped = jax.jit(jax.vmap(log_prob, (0, None)))(draws(name)[:3], operands)
    for x, value in zip(draws(name)[:3], mapped, strict=True):
        np.testing.assert_allclose(value, log_prob(x, operands), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("name", SCORED)
def test_log_prob_computes_in_float32_or_float64(name, dtype):
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    x = np.asarray(draws(name)[0])
    (scored,) = family.scored
    with jax.enable_x64(dtype == "float64"):
        low = jnp.asarray(operands[scored]).astype(dtype)
        wide = jnp.float64 if dtype == "float64" else jnp.float32
        rest = {k: v for k, v in operands.items() if k != scored}

        def total(v):
            value = family.log_prob(x, static, **{scored: v}, **rest)
            assert value.dtype == wide
            return value.sum()

        value, grad = jax.jit(jax.value_and_grad(total))(low)
        assert grad.dtype == low.dtype
        expected, slope = jax.jit(jax.value_and_grad(total))(low.astype(wide))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_array_equal(grad, slope.astype(dtype))


@pytest.mark.parametrize("name", SCORED)
def test_every_form_is_the_same_log_prob_and_support(name):
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    x = draws(name)[0]
    expected = family.log_prob(x, static, **operands)
    for (operand, function), form in family.forms.items():
        changed = {k: v for k, v in operands.items() if k != operand}
        changed[form] = INVERSE[function](operands[operand])
        np.testing.assert_allclose(family.log_prob(x, static, **changed), expected, rtol=2e-5)
        if family.support is not None:
            for ours, theirs in zip(
                family.support(static, **changed), family.support(static, **operands), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", SCORED)
def test_mean_score_of_the_draws_is_zero(name):
    """Holds only if log_prob is that of the sampler: its support, its order, its norming."""
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    (scored,) = family.scored
    rest = {k: v for k, v in operands.items() if k != scored}

    def score(x):
        return jax.grad(lambda v: family.log_prob(x, static, **{scored: v}, **rest).sum())(
            operands[scored]
        )

    scores = np.asarray(jax.jit(jax.vmap(score))(draws(name)), np.float64)
    error = scores.std(0) / np.sqrt(len(scores))
    assert np.all(error > 0)
    assert np.all(np.abs(scores.mean(0)) < 4.5 * error)


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
@pytest.mark.parametrize("name", SCORED)
def test_no_parameter_raises(name, value):
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    (scored,) = family.scored
    changed = {**operands, scored: np.full_like(operands[scored], value)}
    result = family.log_prob(draws(name)[0], static, **changed)
    assert not np.isnan(value) or np.any(np.isnan(result))


@pytest.mark.parametrize("name", FINITE)
def test_support(name):
    family, (static, operands) = FAMILIES[name], EXAMPLES[name]
    x = draws(name)[0]
    values, probs = family.support(static, **operands)
    probs = each(probs)
    assert values.dtype == x.dtype
    assert [p.shape for p in probs] == [x.shape] * len(values)
    shapes = {k: v.shape for k, v in operands.items()}
    assert family.support_size(static, **shapes) == len(values)
    np.testing.assert_allclose(sum(probs), 1, rtol=1e-6)
    (operand,) = operands

    def prob(v):
        return jnp.stack(each(family.support(static, **{operand: v})[1]))

    def exp_log_prob(v):
        filled = [jnp.full(x.shape, value) for value in values]
        return jnp.stack([jnp.exp(family.log_prob(x, static, **{operand: v})) for x in filled])

    theta = operands[operand]
    np.testing.assert_allclose(probs, exp_log_prob(theta), rtol=1e-5)
    np.testing.assert_allclose(
        *(jax.jit(jax.jacfwd(f))(theta) for f in (prob, exp_log_prob)), rtol=1e-4, atol=1e-6
    )


def test_support_without_shape_and_at_the_edges():
    _, probs = FAMILIES["bernoulli"].support({}, p=np.float32([0, 1]))
    assert [p.tolist() for p in probs] == [[1, 0], [0, 1]]
    _, probs = FAMILIES["bernoulli"].support({}, logits=np.float32([-INF, INF]))
    assert [p.tolist() for p in probs] == [[1, 0], [0, 1]]
    _, probs = FAMILIES["categorical"].support({}, logits=np.float32([[-INF, 3], [0, -INF]]))
    assert probs.tolist() == [[0, 1], [1, 0]]
    _, probs = FAMILIES["choice"].support({"a": 4})
    assert probs.tolist() == [0.25] * 4
    assert FAMILIES["poisson"].support_size({}, lam=()) is None


# ---- the numbers of log_prob

N = 5
# family, parameter, parameter values, outcomes, log-probability, score in the parameter
COUNTS = [
    (
        *("bernoulli", "p", [0, 1e-12, 0.3, 0.5, 1], [0, 1]),
        lambda x, p: (
            st.bernoulli.logpmf(x, p)
            if 0 < p < 0.1 and x
            else sp.xlogy(x, p) + sp.xlog1py(1 - x, -p)
        ),
        lambda x, p: x / p - (1 - x) / (1 - p),
    ),
    (
        *("bernoulli", "logits", [-1e4, -50, -1, 0, 2, 50, 1e4], [0, 1]),
        lambda x, z: sp.log_expit(z if x else -z),
        lambda x, z: x - sp.expit(z) if not x else sp.expit(-z),
    ),
    (
        *("geometric", "p", [1e-6, 0.3, 0.9, 1], [1, 2, 7]),
        st.geom.logpmf,
        lambda x, p: 1 / p - (x - 1) / (1 - p),
    ),
    (
        *("geometric", "logits", [-30, -1, 0, 2, 50], [1, 2, 7]),
        lambda x, z: sp.log_expit(z) + (x - 1) * sp.log_expit(-z),
        lambda x, z: sp.expit(-z) - (x - 1) * sp.expit(z),
    ),
    (
        *("poisson", "lam", [0, 1e-3, 2, 50], [0, 1, 7, 60]),
        st.poisson.logpmf,
        lambda x, lam: x / lam - 1,
    ),
    (
        *("poisson", "log_lam", [-30, -1, 0, 4], [0, 1, 7, 60]),
        lambda x, z: st.poisson.logpmf(x, np.exp(z)),
        lambda x, z: x - np.exp(z),
    ),
    (
        *("binomial", "p", [0, 1e-12, 0.2, 0.5, 1], [0, 2, N]),
        lambda x, p: st.binom.logpmf(x, N, p),
        lambda x, p: x / p - (N - x) / (1 - p),
    ),
    (
        *("binomial", "logits", [-30, -1, 0, 2, 30], [0, 2, N]),
        lambda x, z: np.log(sp.comb(N, x)) + x * sp.log_expit(z) + (N - x) * sp.log_expit(-z),
        lambda x, z: x * sp.expit(-z) - (N - x) * sp.expit(z),
    ),
]
IDS = [f"{case[0]}-{case[1]}" for case in COUNTS]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("case", COUNTS, ids=IDS)
def test_counts_against_scipy(case, x64):
    name, parameter, thetas, outcomes, log_prob, score = case
    extra = {"n": N + 0.5} if name == "binomial" else {}
    x, theta = (a.ravel() for a in np.meshgrid(outcomes, np.float64(thetas)))
    dtype = np.float64 if x64 else np.float32
    tolerance = (
        {"rtol": 1e-12, "atol": 1e-14 * (name == "binomial")}
        if x64
        else {"rtol": 1e-5, "atol": 5e-5}
    )
    with jax.enable_x64(x64):

        def value(x, theta):
            return FAMILIES[name].log_prob(x, {}, **{parameter: theta}, **extra)

        first = jax.grad(value, 1)
        theta = theta.astype(dtype)
        both = jax.jit(jax.vmap(lambda x, t: (first(x, t), jax.grad(first, 1)(x, t))))
        got = jax.jit(value)(x, theta)
        slope, bend = both(x, theta)
    expected = [log_prob(a, b) for a, b in zip(x, np.float64(theta), strict=True)]
    np.testing.assert_allclose(got, expected, **tolerance)
    assert np.all(np.isfinite(slope)) and np.all(np.isfinite(bend))
    inside = (theta > 1e-3) & (theta < 0.99) if parameter == "p" else theta != 0
    for a, b, s, c in zip(x, np.float64(theta), slope, bend, strict=True):
        if np.any(inside[theta == b]):
            h = 1e-5 * max(abs(b), 1e-2)
            np.testing.assert_allclose(s, score(a, b), rtol=tolerance["rtol"] * 10, atol=1e-13)
            curvature = (score(a, b + h) - score(a, b - h)) / (2 * h)
            np.testing.assert_allclose(c, curvature, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "x", "operands", "value", "score"),
    [
        ("bernoulli", False, {"p": 0.0}, 0, -1),
        ("bernoulli", True, {"p": 1.0}, 0, 1),
        ("bernoulli", True, {"p": 0.0}, -INF, 0),
        ("bernoulli", False, {"p": 1.0}, -INF, 0),
        ("bernoulli", True, {"logits": 0.0}, -np.log(2), 0.5),
        ("bernoulli", False, {"logits": 0.0}, -np.log(2), -0.5),
        ("bernoulli", True, {"logits": INF}, 0, 0),
        ("bernoulli", True, {"logits": -INF}, -INF, 1),
        ("geometric", 1, {"p": 1.0}, 0, 1),
        ("geometric", 2, {"p": 1.0}, -INF, 1),
        ("geometric", 3, {"p": 0.0}, -INF, -2),
        ("geometric", 1, {"logits": INF}, 0, 0),
        ("poisson", 0, {"lam": 0.0}, 0, -1),
        ("poisson", 1, {"lam": 0.0}, -INF, -1),
        ("poisson", 0, {"log_lam": -INF}, 0, 0),
        ("binomial", 0.0, {"p": 0.0, "n": 4}, 0, -4),
        ("binomial", 4.0, {"p": 1.0, "n": 4}, 0, 4),
        ("binomial", 1.0, {"p": 0.0, "n": 4}, -INF, -3),
        ("binomial", 4.0, {"logits": INF, "n": 4}, 0, 0),
    ],
)
def test_edges(name, x, operands, value, score):
    (parameter, theta), *rest = operands.items()
    got, slope = jax.value_and_grad(
        lambda t: FAMILIES[name].log_prob(jnp.asarray(x), {}, **{parameter: t}, **dict(rest))
    )(jnp.float32(theta))
    np.testing.assert_allclose(got, np.float32(value), rtol=1e-6, atol=1e-6)
    assert slope == score


def test_an_outcome_that_was_not_drawn_may_be_of_tiny_probability():
    bend = jax.grad(jax.grad(lambda p: FAMILIES["bernoulli"].log_prob(False, {}, p=p)))
    assert bend(1e-30) == -1


def test_bernoulli_is_smooth_at_zero_logits():
    def value(z):
        return FAMILIES["bernoulli"].log_prob(jnp.array([False, True]), {}, logits=z)

    derivatives = [value]
    for _ in range(4):
        derivatives.append(jax.jacfwd(derivatives[-1]))
    assert [jax.jit(d)(jnp.float32(0)).tolist() for d in derivatives[1:]] == [
        [-0.5, 0.5],
        [-0.25, -0.25],
        [0, 0],
        [0.125, 0.125],
    ]


@pytest.mark.parametrize("parameter", ["p", "logits"])
@pytest.mark.parametrize("name", ["categorical", "choice"])
def test_classes_of_probability_zero(name, parameter):
    weights = np.float32([0, 1, 3, 0])
    theta = weights if parameter == "p" else np.float32([-INF, 1, 1 + np.log(3), -INF])
    x = jnp.array([1, 2, 0])

    def value(t):
        return FAMILIES[name].log_prob(x, {"a": 4, "shape": (3,)}, **{parameter: t})

    np.testing.assert_allclose(value(theta), np.log([0.25, 0.75, 1e-300]) + [0, 0, -INF], rtol=1e-6)
    scores = np.eye(4)[[1, 2, 0]] - weights / 4
    if parameter == "p":
        scores = [
            [-1 / 4, 1 - 1 / 4, -1 / 4, -1 / 4],
            [-1 / 4, -1 / 4, 1 / 3 - 1 / 4, -1 / 4],
            [-1 / 4] * 4,
        ]
    np.testing.assert_allclose(jax.jacobian(value)(theta), scores, rtol=1e-5, atol=1e-7)
    assert np.all(np.isfinite(jax.jit(jax.jacobian(jax.jacobian(value)))(theta)))


def test_categorical_logits_are_shift_free_and_bounded():
    def value(z):
        return FAMILIES["categorical"].log_prob(jnp.array(0), {}, logits=z)

    z = np.float32([1e4, 1e4 - 2, -1e4])
    p = sp.softmax(np.float64(z))
    np.testing.assert_allclose(value(z), np.log(p[0]), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(value)(z), np.eye(3)[0] - p, rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(jax.hessian(value))(z), np.outer(p, p) - np.diag(p), rtol=1e-5
    )
    value, slope = jax.value_and_grad(value)(np.full(3, -INF, np.float32))
    assert value == -INF and np.all(np.isfinite(slope))


@pytest.mark.parametrize("size", [1, 2])
def test_categorical_broadcasts_its_batch(size):
    logits = uniform(size, 1, 4)
    x = jax.random.categorical(KEY, logits, shape=(5, 2, 3))
    table = np.broadcast_to(sp.log_softmax(np.float64(logits), -1), (5, 2, 3, 4))
    expected = np.take_along_axis(table, np.asarray(x)[..., None], -1)[..., 0]
    static = {"shape": (5, 2, 3)}
    np.testing.assert_allclose(
        FAMILIES["categorical"].log_prob(x, static, logits=logits), expected, rtol=1e-5
    )
    _, probs = FAMILIES["categorical"].support(static, logits=logits)
    np.testing.assert_allclose(probs, np.exp(table), rtol=1e-5)


def test_multinomial_against_scipy():
    p = np.float32([0.2, 0, 0.5, 0.3])
    x = np.float32([[1, 0, 2, 3], [6, 0, 0, 0], [0, 1, 5, 0]])

    def value(p):
        return FAMILIES["multinomial"].log_prob(x, {}, n=np.float32(6.5), p=3 * p)

    expected = [*st.multinomial.logpmf(x[:2], 6, [0.2, 0, 0.5, 0.3]), -INF]
    np.testing.assert_allclose(value(p), expected, rtol=1e-5)
    slope = np.divide(x, p, out=np.zeros_like(x), where=p > 0) - 6
    np.testing.assert_allclose(jax.jacobian(value)(p), slope, rtol=1e-5, atol=1e-5)
    assert np.all(np.isfinite(jax.jit(jax.hessian(lambda p: value(p).sum()))(p)))


# ---- continuous families: the derivative of the draw

DRAWS = 20_000
# d E[log(x)^2] / da of a gamma draw of shape 0.01.
LOG_SQUARE = 2 * sp.digamma(0.01) * sp.polygamma(1, 0.01) + sp.polygamma(2, 0.01)
# family, operand, operand value, d E[x] / d operand, d E[x^2] / d operand
MOMENTS = [
    ("beta", {"a": 0.01, "b": 0.02}, 0.02 / 0.03**2, 21.797007),
    ("gamma", {"a": 1.5}, 1, 4),
    ("loggamma", {"a": 0.01}, sp.polygamma(1, 0.01), LOG_SQUARE),
    ("rayleigh", {"scale": 1.5}, np.sqrt(np.pi / 2), 6),
    ("triangular", {"mode": 1.0, "left": 0.0, "right": 3.0}, 1 / 3, 5 / 6),
    ("uniform", {"minval": 1.0, "maxval": 2.0}, 1 / 2, 4 / 3),
    ("wald", {"mean": 1.5}, 1, 9.75),
    ("wald", {"mean": 0.3}, 1, 0.87),
]


@pytest.mark.parametrize("case", MOMENTS, ids=lambda c: f"{c[0]}-{next(iter(c[1].values()))}")
def test_derivatives_of_moments(case):
    name, ((operand, theta), *rest), first, second = case[0], case[1].items(), *case[2:]
    static = {"shape": (DRAWS,)}
    x, dx = jax.jit(
        lambda t: jax.jvp(lambda t: draw(name, static, **{operand: t}, **dict(rest)), (t,), (1.0,))
    )(theta)
    for samples, truth in ((dx, first), (2 * x * dx, second)):
        samples = np.asarray(samples, np.float64)
        assert abs(samples.mean() - truth) < 4.5 * samples.std() / np.sqrt(DRAWS)


REPLAYED = sorted(name for name, family in FAMILIES.items() if family.replay)


@pytest.mark.parametrize("name", REPLAYED)
def test_a_corrected_derivative_leaves_the_value(name):
    static, operands = EXAMPLES[name]
    expected = jax.jit(lambda: getattr(jax.random, name)(KEY, **operands, **static))()
    np.testing.assert_allclose(jax.jit(lambda: draw(name))(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in REPLAYED if name != "wald"])
def test_the_implicit_derivative_is_that_of_jax_random_away_from_zero(name):
    static, operands = EXAMPLES[name]
    ones = {k: jnp.ones_like(v) for k, v in operands.items()}

    def theirs(operands):
        return getattr(jax.random, name)(KEY, **operands, **static)

    larger = {k: 3 + v for k, v in operands.items()}

    def slopes(fun):
        return jax.jit(lambda at: jax.jvp(fun, (at,), (ones,))[1])(larger)

    ours = slopes(lambda operands: draw(name, **operands))
    np.testing.assert_allclose(ours, slopes(theirs), rtol=1e-3, atol=1e-6)


def test_the_implicit_derivative_is_one_operation_on_all_elements():
    def slope(a):
        return jax.jvp(lambda a: draw("loggamma", {}, a=a), (a,), (jnp.ones_like(a),))[1]

    shown = str(jax.make_jaxpr(slope)(jnp.ones((3, 4))))
    assert "scan[" not in shown and "f32[3,4]" in shown.split("while[")[-1]


@pytest.mark.parametrize("x64", [False, True])
def test_slope_of_the_logarithm_of_a_gamma_draw(x64):
    """Of the quantile, below the smallest number of the dtype, too."""
    a, u = np.meshgrid([1e-4, 0.01, 0.3, 1.0, 4.0], [1e-3, 0.05, 0.5, 0.9])
    h = 1e-5 * a

    def log_quantile(a):  # at small x, F(x; a) = x^a / Gamma(a + 1)
        series = (np.log(u) + sp.gammaln(a + 1)) / a
        return np.where(series < -30, series, np.log(np.maximum(sp.gammaincinv(a, u), 1e-300)))

    expected = (log_quantile(a + h) - log_quantile(a - h)) / (2 * h)
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        slope = jax.jit(_slope_of_log)(log_quantile(a).astype(dtype), a.astype(dtype))
    np.testing.assert_allclose(slope, expected, rtol=1e-6 if x64 else 1e-4)


@pytest.mark.parametrize("a", [0.01, 3.0])
def test_second_derivative_of_the_logarithm_of_a_gamma_draw(a):
    static = {"shape": (DRAWS,)}
    bend = jax.jacfwd(jax.jacfwd(lambda a: draw("loggamma", static, a=a)))
    samples = np.asarray(jax.jit(bend)(a), np.float64)
    error = samples.std() / np.sqrt(DRAWS)
    assert abs(samples.mean() - sp.polygamma(2, a)) < 4.5 * error


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_wald_replays_the_value(dtype):
    mean = jnp.asarray(uniform(3)).astype(dtype)
    static = {"shape": (40, 3), "dtype": jnp.dtype(dtype)}
    expected = jax.random.wald(KEY, mean, **static)
    got, dx = jax.jvp(lambda m: draw("wald", static, mean=m), (mean,), (jnp.ones_like(mean),))
    assert got.dtype == dx.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    wide = [np.asarray(a, np.float32) for a in (got, jnp.broadcast_to(mean, got.shape), dx)]
    np.testing.assert_allclose(wide[2], _slope(*wide[:2]), rtol=2e-3)


@pytest.mark.parametrize("x64", [False, True])
def test_wald_slope_is_that_of_the_quantile(x64):
    u = np.array([1e-8, 1e-3, 0.2, 0.5, 0.9, 0.999])[:, None]
    mean = np.array([0.05, 0.4, 1.0, 6.0])
    h = 1e-4 * mean
    x = st.invgauss.ppf(u, mean)
    expected = (st.invgauss.ppf(u, mean + h) - st.invgauss.ppf(u, mean - h)) / (2 * h)
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        slope = np.asarray(jax.jit(_slope)(x.astype(dtype), mean.astype(dtype)))
    np.testing.assert_allclose(slope, expected, rtol=1e-5 if x64 else 3e-5)


@pytest.mark.parametrize("x64", [False, True])
def test_wald_tail_ratio(x64):
    t = np.array([0.1, 1, 5, 14.9, 15.1, 100, 1e4])
    truth = np.sqrt(np.pi / 2) * sp.erfcx(t / np.sqrt(2))
    # t * truth - 1 cancels at large t
    truth_slope = np.where(t > 50, -1 / t**2 + 3 / t**4 - 15 / t**6, t * truth - 1)
    with jax.enable_x64(x64):
        both = jax.jit(jax.vmap(jax.value_and_grad(_mills)))
        ratio, slope = (np.asarray(a) for a in both(t.astype(float if x64 else np.float32)))
    np.testing.assert_allclose(ratio, truth, rtol=2e-14 if x64 else 1e-5)
    np.testing.assert_allclose(slope, truth_slope, rtol=1e-8 if x64 else 3e-3)


def test_wald_second_derivatives():
    """E[x^2] = m^2 + m^3 and E[1/x] = 1 + 1/m, so that both tails count."""

    def statistics(mean):
        x = draw("wald", {"shape": (DRAWS,)}, mean=mean)
        return jnp.stack([x, x**2, 1 / x])

    second = jax.jit(jax.jacfwd(jax.jacfwd(statistics)))
    for mean in (0.4, 1.3):
        samples = np.asarray(second(mean), np.float64)
        error = samples.std(1) / np.sqrt(DRAWS)
        truth = np.array([0, 2 + 6 * mean, 2 / mean**3])
        assert np.all(np.abs(samples.mean(1) - truth) < 4.5 * error)


def test_wald_by_reverse_mode():
    @jax.jit
    def derivatives(mean):
        def total(m):
            return (draw("wald", {"shape": (50, 3)}, mean=m) ** 2).sum()

        reverse, vjp = jax.vjp(jax.grad(total), mean)
        _, bend = jax.jvp(jax.grad(total), (mean,), (jnp.ones_like(mean),))
        slope = [jax.jvp(total, (mean,), (row,))[1] for row in jnp.eye(3)]
        return reverse, jnp.stack(slope), vjp(jnp.ones_like(mean))[0], bend

    reverse, forward, reverse_bend, forward_bend = derivatives(uniform(3))
    np.testing.assert_allclose(reverse, forward, rtol=1e-5)
    np.testing.assert_allclose(reverse_bend, forward_bend, rtol=1e-4)


def test_wald_draws_that_rounding_made_zero_or_negative_do_not_move():
    x, mean = jnp.float32([0, -1e-3]), jnp.full(2, 1e4)
    slope, bend = jax.jit(jax.vmap(jax.value_and_grad(_slope)))(x, mean)
    assert slope.tolist() == [0, 0] and np.all(np.isfinite(bend))
