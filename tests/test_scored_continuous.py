"""Continuous draws that are scored because the user says so, against their quantile functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from jax import random
from jax.scipy.special import digamma, polygamma
from oracle import BOUND, samples, z_of

import jscg
from jscg.draws.densities import DENSITIES

pytestmark = pytest.mark.slow

KEY = random.key(7)
SCORE = jscg.estimators.ScoreFunction(baseline=None)
TH = np.array([0.3, 0.7], np.float32)

# For each sampler a draw whose parameters move, and its law.
LAWS = {
    "beta": (lambda th, k: random.beta(k, 1 + th[0], th[1]), lambda th: st.beta(1 + th[0], th[1])),
    "cauchy": (
        lambda th, k: th[0] + th[1] * random.cauchy(k),
        lambda th: st.cauchy(th[0], th[1]),
    ),
    "chisquare": (
        lambda th, k: th[1] * random.chisquare(k, 2 + th[0]),
        lambda th: st.chi2(2 + th[0], scale=th[1]),
    ),
    "exponential": (
        lambda th, k: random.exponential(k) / (th[0] + th[1]),
        lambda th: st.expon(scale=1 / (th[0] + th[1])),
    ),
    "gamma": (
        lambda th, k: random.gamma(k, 1 + th[0]) / th[1],
        lambda th: st.gamma(1 + th[0], scale=1 / th[1]),
    ),
    "gumbel": (
        lambda th, k: th[0] - th[1] * random.gumbel(k),
        lambda th: st.gumbel_l(th[0], th[1]),
    ),
    "laplace": (
        lambda th, k: th[0] + th[1] * random.laplace(k),
        lambda th: st.laplace(th[0], th[1]),
    ),
    "loggamma": (
        lambda th, k: random.loggamma(k, 1 + th[0]) * th[1],
        lambda th: st.loggamma(1 + th[0], scale=th[1]),
    ),
    "logistic": (
        lambda th, k: th[0] + th[1] * random.logistic(k),
        lambda th: st.logistic(th[0], th[1]),
    ),
    "lognormal": (
        lambda th, k: th[0] * random.lognormal(k, th[1]),
        lambda th: st.lognorm(th[1], scale=th[0]),
    ),
    "maxwell": (
        lambda th, k: random.maxwell(k) * th[1] / th[0],
        lambda th: st.maxwell(scale=th[1] / th[0]),
    ),
    "normal": (
        lambda th, k: jnp.exp(th[0] + th[1] * random.normal(k)),
        lambda th: st.lognorm(th[1], scale=np.exp(th[0])),
    ),
    "pareto": (
        lambda th, k: th[1] * jnp.log(random.pareto(k, 1 + th[0])),
        lambda th: st.expon(scale=th[1] / (1 + th[0])),
    ),
    "rayleigh": (
        lambda th, k: random.rayleigh(k, th[0]) * th[1],
        lambda th: st.rayleigh(scale=th[0] * th[1]),
    ),
    "t": (
        lambda th, k: th[0] + random.t(k, 2 + th[1]),
        lambda th: st.t(2 + th[1], loc=th[0]),
    ),
    "uniform": (
        lambda th, k: -jnp.log1p(-random.uniform(k)) * th[0] * th[1],
        lambda th: st.expon(scale=th[0] * th[1]),
    ),
    "weibull_min": (
        lambda th, k: random.weibull_min(k, 1 + th[0], 1 + th[1]),
        lambda th: st.weibull_min(1 + th[1], scale=1 + th[0]),
    ),
}


def cost(x):
    return jnp.tanh(x - 0.5) ** 2


def by_quantiles(law, step=0.01):
    q = (np.arange(20_000) + 0.5) / 20_000
    mean = lambda th: np.mean(np.tanh(law(th).ppf(q) - 0.5) ** 2)  # noqa: E731
    unit = np.eye(2) * step
    return np.array([(mean(TH + e) - mean(TH - e)) / (2 * step) for e in unit])


def test_every_density_has_a_law_here():
    assert LAWS.keys() == DENSITIES.keys()


@pytest.mark.parametrize("name", LAWS)
def test_scored_by_its_density(name):
    draw, law = LAWS[name]
    gradient = jscg.grad_expectation(lambda th, k: cost(draw(th, k)), estimators={name: SCORE})
    found = samples(lambda k: gradient(jnp.asarray(TH), k), KEY, 20_000)
    exact = by_quantiles(law)
    error = found.std(0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(0) - exact) < BOUND * error + 1e-3), (found.mean(0), exact)
    pathwise = jscg.grad_expectation(lambda th, k: cost(draw(th, k)))
    assert not np.allclose(found[:9], [pathwise(TH, k) for k in random.split(KEY, 9)], rtol=0.1)


def two_of_them(th, key):
    k1, k2 = random.split(key)
    x = th[0] + th[1] * random.normal(k1)
    y = random.gamma(k2, 1 + th[0])
    return x**2 + y * th[1]


def exact_of_two(th):
    return th[0] ** 2 + th[1] ** 2 + (1 + th[0]) * th[1]


@pytest.mark.parametrize("names", [("x",), ("y",), ("gamma", "normal")])
def test_chosen_by_name_or_sampler_to_second_order(names):
    estimators = dict.fromkeys(names, SCORE)
    s = jscg.surrogate(two_of_them, estimators=estimators)
    th = jnp.asarray(TH)
    derivatives = (jax.grad, jax.hessian)
    found = samples(lambda k: [derive(s)(th, k) for derive in derivatives], KEY, 20_000)
    for derive, each in zip(derivatives, found, strict=True):
        assert np.all(np.abs(z_of(each, derive(exact_of_two)(th))) < BOUND)
    by_default = jscg.grad_expectation(two_of_them)(th, KEY)
    chosen = jscg.grad_expectation(two_of_them, estimators=estimators)(th, KEY)
    assert not np.allclose(chosen, by_default), "the choice makes no difference"


def test_a_global_choice_leaves_continuous_draws_to_be_differentiated():
    one, other = (jscg.grad_expectation(two_of_them, estimators=e)(TH, KEY) for e in (SCORE, None))
    np.testing.assert_array_equal(one, other)


def test_leave_one_out_over_samples():
    variances = [
        samples(
            lambda k, b=b: jscg.grad_expectation(
                two_of_them,
                num_samples=4,
                estimators={"x": jscg.estimators.ScoreFunction(baseline=b)},
            )(jnp.asarray(TH), k),
            KEY,
            4_000,
        ).var(0)
        for b in ("leave_one_out", None)
    ]
    assert np.all(variances[0] < 0.8 * variances[1])


def three_gammas(th, key):
    return jnp.sum(jnp.log(random.gamma(key, 1 + jnp.append(th, 2.0)) / th[0]) ** 2)


def test_leave_one_out_over_samples_of_a_draw_with_parameters():
    def exact(th):
        a = 1 + jnp.append(th, 2.0)
        return jnp.sum(polygamma(1, a) + (digamma(a) - jnp.log(th[0])) ** 2)

    gradient = jscg.grad_expectation(three_gammas, num_samples=4, estimators={"gamma": SCORE})
    found = samples(lambda k: gradient(jnp.asarray(TH), k), KEY, 10_000)
    assert np.all(np.abs(z_of(found, jax.grad(exact)(jnp.asarray(TH)))) < BOUND)
    compared = {"gamma": jscg.estimators.ScoreFunction()}
    gradient = jscg.grad_expectation(three_gammas, num_samples=4, estimators=compared)
    others = samples(lambda k: gradient(jnp.asarray(TH), k), KEY, 10_000)
    assert np.all(np.abs(z_of(others, jax.grad(exact)(jnp.asarray(TH)))) < BOUND)
    assert np.all(others.var(0) < 0.8 * found.var(0))


REFUSED = {
    "an end of its support moves": ("uniform", lambda th, k: th[0] * random.uniform(k)),
    "no density is known": (
        "dirichlet",
        lambda th, k: random.dirichlet(k, jnp.append(th, 1.0))[0],
    ),
    "vmap maps over its parameters": (
        "gamma",
        lambda th, k: jnp.sum(jax.vmap(random.gamma)(random.split(k), 1 + th)),
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_the_reason(why):
    name, fun = REFUSED[why]
    with pytest.raises(jscg.JscgError, match=why):
        jscg.grad_expectation(fun, estimators={name: SCORE})(jnp.asarray(TH), KEY)


def test_a_key_that_two_densities_have_in_common_is_refused():
    def fun(th, key):
        return jnp.floor(random.gamma(key, 1 + th[0])) * random.gamma(key, 1 + th[1])

    with pytest.raises(jscg.JscgError, match="key in common"):
        jscg.grad_expectation(fun)(jnp.asarray(TH), KEY)
