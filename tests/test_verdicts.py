"""Every program of the gold set gets its verdict, and its exact gradient or an error."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gold import GOLD
from jax import random
from oracle import BOUND, QUICK
from verdicts import planned

import jscg

KEYS = 40_000
ESTIMABLE = [g for g in GOLD if g.verdict != "refused"]


def test_gold_set_is_large_and_covers_all_verdicts():
    counts = collections.Counter(g.verdict for g in GOLD)
    assert len(GOLD) >= 60
    assert set(counts) == {"path", "scored", "mended", "refused", "free"}
    assert len({g.name for g in GOLD}) == len(GOLD)


@pytest.mark.parametrize("gold", GOLD, ids=str)
def test_verdict(gold):
    verdict, why = planned(gold.fun, gold.params)
    if gold.verdict == "free" and verdict == "path":
        verdict = "free"  # a parameter times noise: nothing has to be done either
    assert verdict == gold.verdict, why


LAWS = {
    "threshold": "event",
    "uniform_below": "event",
    "gumbel_argmax": "perturbed_argmax",
    "categorical_by_counting": "perturbed_argmax",
    "categorical_by_search": "perturbed_argmax",
    "categorical_by_search_in_rows": "perturbed_argmax",
    "ordered_probit": "perturbed_argmax",
    "top_k_of_perturbed_logits": "perturbed_top_k",
    "choices_without_replacement": "perturbed_top_k",
    "order_of_perturbed_logits": "density",
    "count": "density",
    "geometric_by_inversion": "sampler",
}


@pytest.mark.parametrize("name", LAWS)
def test_the_law_with_the_least_variance_is_found(name):
    """A density would be unbiased, too, where the outcome has a law."""
    gold = next(g for g in GOLD if g.name == name)
    _, scored = planned(gold.fun, gold.params)
    params = [(n.eqn.params["family"], dict(n.eqn.params["static"])) for n in scored]
    found = {"density" if "noise" in static else family for family, static in params}
    assert found == {LAWS[name]}


@pytest.mark.slow
@pytest.mark.parametrize("gold", ESTIMABLE, ids=str)
def test_gradient(gold):
    """Where jscg mends, plain `jax.grad` is wrong, or the program would not show what it does."""
    params, keys = jnp.array(gold.params), jax.random.split(jax.random.key(1), KEYS)

    def both(params, key):  # the draws are the same, so they compile once
        plain = jax.grad(gold.fun)(params, key) if gold.verdict == "mended" else params
        return jscg.grad_expectation(gold.fun)(params, key), plain

    found = jax.jit(jax.vmap(both, (None, 0)), compiler_options=QUICK)(params, keys)
    samples, plain = (np.asarray(a, np.float64) for a in found)
    exact = gold.exact(np.array(gold.params))
    # The midpoint rule, its difference quotient and single precision are good to this.
    slack = 2e-3 * (1 + np.abs(exact))
    mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(KEYS)
    assert np.all(np.abs(mean - exact) <= BOUND * error + slack), (mean, exact, error)
    if gold.verdict == "mended":
        error = plain.std(0, ddof=1) / np.sqrt(KEYS)
        assert np.any(np.abs(plain.mean(0) - exact) > 2 * BOUND * error + 4e-3), plain.mean(0)


def threshold(th, key):
    return jnp.where(th[0] + th[1] * jax.random.normal(key) > 0, 2.0, 0.5) * th[1]


def below(th, key):
    return jnp.where(jax.random.uniform(key) < jax.nn.sigmoid(th[0]), 2.0, th[1]) ** 2


def threshold_and_square(th, key):
    x = th[0] + th[1] * jax.random.normal(key)
    return jnp.where(x > 0, 2.0, 0.5) + x**2


def positive(th):
    return 0.5 + 1.5 * jax.scipy.stats.norm.cdf(th[0] / th[1])


SECOND = {
    threshold: lambda th: th[1] * positive(th),
    below: lambda th: 4 * jax.nn.sigmoid(th[0]) + jax.nn.sigmoid(-th[0]) * th[1] ** 2,
    threshold_and_square: lambda th: positive(th) + th[0] ** 2 + th[1] ** 2,
}


@pytest.mark.parametrize("fun", SECOND, ids=lambda f: f.__name__)
@pytest.mark.parametrize("estimator", [None, jscg.estimators.ScoreFunction(baseline=None)])
def test_second_derivatives(fun, estimator):
    params, keys = jnp.array([0.3, 0.7]), jax.random.split(jax.random.key(5), 2 * KEYS)
    hessian = jax.hessian(jscg.surrogate(fun, estimators=estimator))
    samples = np.asarray(jax.jit(jax.vmap(hessian, (None, 0)))(params, keys), np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(keys))
    exact = jax.hessian(SECOND[fun])(params)
    assert np.all(np.abs(samples.mean(0) - exact) <= BOUND * error + 1e-4)


def test_jumps_can_be_allowed_by_name_by_family_and_for_all():
    def fun(th, key):
        noise = jax.random.normal(key)
        return jnp.floor(th + noise) + jnp.sin(th * noise)

    allowed = jscg.estimators.Pathwise(allow_jumps=True)
    plain = jax.grad(fun)(0.3, jax.random.key(0))
    for estimators in ({"noise": allowed}, {"normal": allowed}, allowed):
        gradient = jscg.grad_expectation(fun, estimators=estimators)
        assert gradient(0.3, jax.random.key(0)) == plain
    for estimators in (None, {"noise": jscg.estimators.Pathwise()}):
        with pytest.raises(jscg.JscgError, match=r"'noise' \(normal\).*'floor'"):
            jscg.grad_expectation(fun, estimators=estimators)(0.3, jax.random.key(0))
    assert not allowed.unbiased and jscg.estimators.Pathwise().unbiased


def test_what_is_not_returned_may_jump():
    def fun(th, key):
        x = th + jax.random.normal(key)
        return x**2, jnp.floor(x)

    gradient = jscg.grad_expectation(fun, has_aux=True)(0.3, jax.random.key(0))
    assert gradient[0] == jax.grad(fun, has_aux=True)(0.3, jax.random.key(0))[0]


def test_numbers_that_are_tried_out_disturb_no_debugging():
    def fun(th, key):
        x = th + jax.random.normal(key)
        return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)

    with jax.debug_nans(True), jax.debug_infs(True):
        assert jnp.isfinite(jscg.grad_expectation(fun)(0.3, jax.random.key(1)))


@pytest.mark.parametrize("name", ["gumbel", "normal", "logistic", "laplace", "cauchy"])
@pytest.mark.parametrize("threshold", [-200.0, 200.0])
def test_events_that_are_almost_certain_have_no_nan(name, threshold):
    def fun(th, key):
        return jnp.where(th * getattr(jax.random, name)(key) > threshold, th, th**2)

    for estimators in (None, jscg.estimators.ScoreFunction(baseline=None)):
        gradient = jscg.grad_expectation(fun, estimators=estimators)
        assert jnp.isfinite(gradient(1.3, jax.random.key(0)))


def in_a_reference(value):
    def fun(th, key):
        ref = jax.new_ref(jnp.zeros(()))

        def step(_, k):
            ref[...] = ref[...] + value(th, random.bernoulli(k, th[0]))
            return None, None

        jax.lax.scan(step, None, random.split(key, 2))
        return ref[...] ** 2 + th[0]

    return fun


REFERENCES = {
    "a draw": lambda th, x: 1.0 * x,
    "a draw, without gradient": lambda th, x: jax.lax.stop_gradient(1.0 * x),
    "a parameter": lambda th, x: th[0],
}


@pytest.mark.parametrize("name", REFERENCES)
def test_what_would_be_lost_in_a_reference_is_refused(name):
    gradient = jscg.grad_expectation(in_a_reference(REFERENCES[name]))
    with pytest.raises(jscg.JscgError, match="mutable reference .*test_verdicts.py"):
        gradient(jnp.array([0.3]), random.key(0))


def test_a_reference_may_keep_a_record():
    keep = lambda th, x: jscg.stop_influence(jax.lax.stop_gradient(1.0 * x))  # noqa: E731
    gradient = jscg.grad_expectation(in_a_reference(keep))
    np.testing.assert_allclose(gradient(jnp.array([0.3]), random.key(0)), [1.0])
