"""`check_unbiased`: its reference against the oracle, and that it sees a bias."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from oracle import truth
from programs import CONTEXTS, LAYOUTS

import jscg

pytestmark = pytest.mark.slow

KEY = random.key(5)
CASES = {case.name: case for case in CONTEXTS + LAYOUTS}
ENUMERATED = [
    "two_draws",
    "scan_two_draws_in_each_step",
    "scan_nested",
    "cond_with_a_cost_afterwards",
    "cond_inside_scan",
    "switch_on_a_draw",
    "drawn_index_gathers_parameters",
    "batch_of_examples",
]


@pytest.mark.parametrize("name", ENUMERATED)
def test_enumeration_is_exact(name):
    case = CASES[name]
    certificate = jscg.check_unbiased(case.fun, num_estimates=64)(case.vector(), KEY)
    assert certificate.method == "enumeration"
    np.testing.assert_allclose(certificate.reference, truth(case)[1], rtol=2e-5, atol=2e-6)


def through_a_jump(p, key):
    x = p["mean"] + p["scale"] * random.normal(key, (2,))
    return jnp.sum(x**2) + jnp.sum(x > 0), x


P = {"mean": jnp.array([0.3, -0.2]), "scale": 0.8}


def test_differences_for_continuous_draws():
    certificate = jscg.check_unbiased(through_a_jump, has_aux=True)(P, KEY)
    assert certificate and certificate.method == "differences"
    assert jax.tree.structure(certificate.z) == jax.tree.structure(P)


def test_a_bias_is_seen_and_said():
    wrong = {"x": jscg.estimators.Pathwise(allow_jumps=True)}
    certificate = jscg.check_unbiased(through_a_jump, has_aux=True, estimators=wrong)(P, KEY)
    assert not certificate and certificate.worst > 10
    assert "BIASED" in str(certificate) and "['mean']" in str(certificate)


def test_a_bias_is_seen_against_enumeration():
    """The influence on half of the cost is denied."""

    def cost(p, key):
        x = random.bernoulli(key, p, (2,))
        return jnp.prod(1.0 + x) + jscg.stop_influence(2.0 * x[0])

    certificate = jscg.check_unbiased(cost)(jnp.array(0.4), KEY)
    assert certificate.method == "enumeration" and not certificate


def test_enumeration_leaves_out_baselines_of_the_user():
    def cost(p, key):
        x = jscg.baseline(random.bernoulli(key, p, (2,)), jnp.array([3.0, 2.0]))
        return jnp.prod(1.0 + x)

    certificate = jscg.check_unbiased(cost)(jnp.array(0.4), KEY)
    assert certificate and certificate.method == "enumeration"
    np.testing.assert_allclose(certificate.reference, 2 * 1.4, rtol=1e-6)


def test_several_arguments_legacy_keys_and_samples():
    def cost(a, x, key, b):
        z = random.bernoulli(key, jax.nn.sigmoid(a), x.shape)
        return jnp.sum(z * x) * b

    check = jscg.check_unbiased(cost, argnums=(0, 3), key_argnums=2, num_samples=3)
    certificate = check(0.3, jnp.arange(3.0), random.PRNGKey(0), 2.0)
    assert certificate and len(certificate.z) == 2
    with pytest.raises(jscg.JscgError, match="needs a random key"):
        jscg.check_unbiased(cost)(0.3, jnp.arange(3.0), random.PRNGKey(0), 2.0)


def test_a_key_used_twice_is_not_enumerated_as_if_draws_were_independent():
    def cost(p, key):
        x = random.bernoulli(key, 0.3, (2,))
        y = random.bernoulli(key, 0.5, (2,))
        z = random.bernoulli(random.fold_in(key, 1), p)
        return jnp.sum(x * y) * 1.0 + z

    certificate = jscg.check_unbiased(cost)(0.3, KEY)
    assert certificate and certificate.method == "differences"


def test_every_direction_is_shown_and_none_is_the_other():
    """A constant added to all logits changes nothing: their sum alone says nothing."""

    def cost(logits, key):
        k1, k2 = random.split(key)
        x = random.categorical(k1, logits)
        return jscg.stop_influence(jnp.array([1.0, 5.0, 2.0])[x]) + 0.1 * random.normal(k2)

    certificate = jscg.check_unbiased(cost)(jnp.zeros(3), KEY)
    assert certificate.method == "differences" and not certificate
    assert abs(certificate.z[0]) < 4.5 < abs(certificate.z[1])
    _, total, signs = str(certificate).splitlines()
    assert total.startswith("  gradient, sum of elements: 0, should be ")
    assert signs.startswith("  gradient, sum with random signs: 0, should be ")


def test_one_number_is_checked_and_shown_once():
    cost = lambda p, key: (p + random.normal(key)) ** 2  # noqa: E731
    certificate = jscg.check_unbiased(cost, num_estimates=8)(0.5, KEY)
    assert certificate.z.shape == (1,) and len(str(certificate).splitlines()) == 2


def test_of_an_enumeration_the_worst_element_is_shown():
    def cost(p, key):
        return jnp.sum(jnp.arange(3.0) * random.bernoulli(key, p))

    certificate = jscg.check_unbiased(cost, num_estimates=8)(jnp.full(3, 0.5), KEY)
    certificate = dataclasses.replace(certificate, z=np.array([0.1, -2.0, 0.3]))
    assert "gradient[1], its worst element: 1, should be 1 (z = -2.00)" in str(certificate)


def test_worst_of_nan_is_no_pass():
    certificate = jscg.check_unbiased(lambda p, k: 1.0 * random.bernoulli(k, p))(0.5, KEY)
    assert certificate
    assert not dataclasses.replace(certificate, z=np.array([0.0, np.nan]))
