"""Draws and costs in every control structure, against exact enumeration."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax, random
from jax.nn import sigmoid
from oracle import BOUND, assert_case, truth, variance, z_scores
from programs import CONTEXTS, LAYOUTS

import jscg

KEY = random.key(20150612)
ESTIMATORS = {"default": None, "score": jscg.estimators.ScoreFunction(baseline=None)}
BY_NAME = {case.name: case for case in CONTEXTS + LAYOUTS}


@pytest.mark.parametrize("case", CONTEXTS + LAYOUTS, ids=str)
def test_gradient_and_second_derivative(case):
    assert_case(case, KEY, ESTIMATORS)


BATCHED = ["batch_draw_with_a_mean_cost", "batch_of_examples", "batch_norm", "transpose"]


@pytest.mark.parametrize("name", BATCHED)
def test_second_derivatives_with_leave_one_out_over_a_batch(name):
    case = dataclasses.replace(BY_NAME[name], order=2)
    assert_case(case, KEY, {"default": None})


@pytest.mark.parametrize("forgotten", [0, 1])
def test_the_harness_sees_a_forgotten_score(forgotten):
    """One draw's parameter is hidden from jscg, as if its score term were missing."""
    case = BY_NAME["two_draws"]
    _, gradient, _ = truth(case)

    def fun(th, key):
        return case.fun(th.at[forgotten].set(lax.stop_gradient(th[forgotten])), key)

    wrong = jscg.grad_expectation(fun, estimators=ESTIMATORS["score"])
    z = abs(z_scores(lambda k: wrong(case.vector(), k), gradient, KEY, case.n))
    assert z[forgotten] > 10 and z[1 - forgotten] < BOUND


def test_reward_to_go_has_less_variance_than_one_score_for_everything():
    case = BY_NAME["scan_cost_stacked"]
    plain = jscg.grad_expectation(case.fun, estimators=ESTIMATORS["score"])
    whole = lambda th, k: jnp.exp(jnp.log(case.fun(th, k)))  # noqa: E731
    coarse = jscg.grad_expectation(whole, estimators=ESTIMATORS["score"])
    th = case.vector()
    fine_variance = variance(lambda k: plain(th, k), KEY, 20_000)
    coarse_variance = variance(lambda k: coarse(th, k), KEY, 20_000)
    assert fine_variance[-1] < 0.9 * coarse_variance[-1]


# While loops.


def drawn_in_a_while_loop(th, key):
    def body(carry):
        k, n = carry
        k, now = random.split(k)
        heads = random.bernoulli(now, sigmoid(th))  # the refused draw
        return k, n + heads

    return 1.0 * lax.while_loop(lambda c: c[1] < 3, body, (key, 0))[1]


def line_of(function, text):
    """The line number at which `text` stands in the source of `function`."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_a_draw_in_a_while_loop_is_refused_with_a_remedy():
    with pytest.raises(jscg.JscgError) as error:
        jscg.grad_expectation(drawn_in_a_while_loop)(0.3, KEY)
    message = str(error.value)
    where = line_of(drawn_in_a_while_loop, "the refused draw")
    assert "while" in message
    assert re.search(r"\bheads\b|bernoulli", message)
    assert re.search(rf"test_contexts\.py:{where}\b", message), message
    assert re.search(r"scan|fori_loop|stop_influence|stop_gradient", message)


def test_a_draw_in_a_while_loop_is_refused_under_jit_and_vmap():
    gradient = jscg.grad_expectation(drawn_in_a_while_loop)
    with pytest.raises(jscg.JscgError, match="while"):
        jax.jit(gradient)(0.3, KEY)
    with pytest.raises(jscg.JscgError, match="while"):
        jax.vmap(gradient)(jnp.ones(2), random.split(KEY))


def test_a_while_loop_that_needs_no_gradient_keeps_its_draws():
    """The same loop, differentiated with respect to something it does not depend on."""

    def fun(scale, logit, key):
        return scale**2 * drawn_in_a_while_loop(logit, key)

    gradient = jax.jit(jscg.grad_expectation(fun))(0.5, 0.3, KEY)
    assert gradient == pytest.approx(2 * 0.5 * 3.0)


def test_stop_influence_in_the_score_admits_a_while_loop():
    def fun(th, key):
        return th * drawn_in_a_while_loop(lax.stop_gradient(th), key)

    assert jscg.grad_expectation(fun)(0.3, KEY) == pytest.approx(3.0)
