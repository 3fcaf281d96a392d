"""`jscg.graph`: what is done about each draw, and why."""

import jax.numpy as jnp
import pytest
from jax import lax, random
from jax.nn import sigmoid

import jscg
from jscg import estimators as est

KEY = random.key(0)
TH = jnp.array([0.3, -0.5])


def everything(th, key):
    k1, k2, k3, k4 = random.split(key, 4)
    x = random.bernoulli(k1, sigmoid(th[0]), (5,))
    z = random.gamma(k2, jnp.exp(th[1]))
    noise = random.bernoulli(k3, 0.5)

    def step(total, k):
        s = random.bernoulli(k, sigmoid(total))
        return total + th[0] * s, None

    total, _ = lax.scan(step, th[1], random.split(k4, 40))
    return jnp.sum(3.0 * x) + z * noise + jnp.exp(total)


def ways(found):
    return {d.name: {how: why for how, why, _ in d.estimates} for d in found.stochastic_nodes}


def test_every_draw_has_a_way_and_a_reason():
    found = jscg.graph(everything)(TH, KEY)
    told = ways(found)
    assert told["x"].keys() == {"enumerated"}
    assert told["z"].keys() == {"pathwise"}
    assert told["noise"] == {
        "not needed": "its parameters do not depend on what the gradient is for"
    }
    assert told["s"] == {"Coupled": "a score would have no baseline"}
    by_name = {d.name: d for d in found.stochastic_nodes}
    assert by_name["s"].shape == (40,) and by_name["x"].shape == (5,)
    assert all("test_graph.py" in d.where for d in found.stochastic_nodes)
    for draw in found.stochastic_nodes:
        for _, _, costs in draw.estimates:
            assert all(draw.name in found.cost_nodes[i].influenced_by for i in costs)
    assert all("test_graph.py" in cost.where for cost in found.cost_nodes)


def test_what_surrogate_does_differs_from_what_the_gradient_alone_does():
    told = ways(jscg.graph(everything, any_order=True)(TH, KEY))
    assert told["s"].keys() == {"scored"}
    found = jscg.graph(everything, any_order=True, num_samples=4)(TH, KEY)
    assert {d.name: d.baseline for d in found.stochastic_nodes}["s"] == (
        "with the others as the baseline"
    )


def mixed(th, key):
    x = random.bernoulli(key, sigmoid(th[0]), (4, 2))
    return jnp.mean(jnp.exp(jnp.sum(x, -1) * th[1]))


CHOICES = [
    (est.ScoreFunction(), {"scored": "ScoreFunction was chosen"}, True),
    (est.GumbelSoftmax(), {"relaxed": "GumbelSoftmax was chosen, which is biased"}, False),
    (est.DisARM(), {"DisARM": "it was chosen"}, True),
    (None, {"MeasureValued": None}, True),
    (est.Auto(compares_draws=False), {"scored": "the cost mixes several of its elements"}, True),
]


@pytest.mark.parametrize("choice, expected, unbiased", CHOICES)
def test_what_was_chosen_is_said_and_what_is_biased_stands_out(choice, expected, unbiased):
    found = jscg.graph(mixed, estimators=choice)(TH, KEY)
    (draw,) = found.stochastic_nodes
    told = ways(found)["x"]
    assert told.keys() == expected.keys()
    assert all(why in (None, told[how]) for how, why in expected.items())
    assert draw.unbiased is unbiased
    assert ("BIASED" in str(found)) is not unbiased


def test_it_prints_as_a_table():
    text = str(jscg.graph(mixed, estimators=est.ScoreFunction())(TH, KEY))
    assert text.splitlines()[0] == "draws"
    assert "  x: bernoulli[4, 2]  " in text
    assert "    scored in cost 0, with the others as the baseline: ScoreFunction was chosen" in text
    assert repr(jscg.graph(mixed)(TH, KEY)).startswith("draws")


def test_it_raises_where_the_gradient_does():
    def twice(th, key):
        return 1.0 * random.bernoulli(key, th[0]) * random.bernoulli(key, th[0])

    with pytest.raises(jscg.JscgError, match="key in common"):
        jscg.graph(twice)(TH, KEY)
