"""`jscg.graph`: what is done about each draw, and why."""

from xml.etree import ElementTree

import jax.numpy as jnp
import pytest
from jax import lax, random
from jax.nn import sigmoid
from programs import CONTEXTS, CONTINUOUS, DISCRETE, LAYOUTS

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
        "no score needed": "its parameters do not depend on what the gradient is for"
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


def walk(th, key):
    k0, k1 = random.split(key)
    start = random.bernoulli(k0, sigmoid(th[0]), (4,))

    def step(place, k):
        up = random.bernoulli(k, sigmoid(th[1] + place), (4,))
        place = place + up
        return place, jnp.abs(place - 2.0)

    _, costs = lax.scan(step, 1.0 * start, random.split(k1, 6))
    return jnp.mean(jnp.sum(costs, 0)) + jnp.sum(th**2)


def test_parameters_influence_and_terms_are_told():
    found = jscg.graph(walk)(TH, KEY)
    by_name = {d.name: d for d in found.stochastic_nodes}
    assert by_name["start"].parameters == {"p": ("th",)}
    assert by_name["up"].parameters == {"p": ("th", "start", "up")}
    assert {d.verdict for d in found.stochastic_nodes} == {"scored"}
    told = {c.text: (c.shape, c.influenced_by) for c in found.cost_nodes}
    assert told == {
        "jnp.abs(place - 2.0)": ((4,), ("start", "up")),  # of one step
        "jnp.sum(th**2)": ((), ()),
    }
    number = next(i for i, c in enumerate(found.cost_nodes) if c.influenced_by)
    assert {str(one) for one in found.influence} == {
        f"start[i] -> cost {number}[:, i]",
        f"up[t, i] -> cost {number}[>= t, i]",
    }


def shifted(th, key):
    x = random.bernoulli(key, sigmoid(th[0]), (5,))
    return jnp.sum(jnp.exp(1.0 * x[1:]) * jnp.arange(4.0)[::-1] ** x[:-1])


def test_a_shift_is_told():
    (only,) = jscg.graph(shifted, estimators=est.ScoreFunction())(TH, KEY).influence
    assert str(only) == "x[i] -> cost 0[i - 1 to i]"


def helper(x, scale):
    return scale * jnp.exp(x)


def by_a_helper(th, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(th[0]))
    y = random.bernoulli(k2, sigmoid(th[1]))
    return helper(1.0 * x, 2.0) + helper(1.0 * y, 3.0)


def test_terms_are_told_apart_where_they_are_written():
    assert [c.text for c in jscg.graph(by_a_helper)(TH, KEY).cost_nodes] == [
        "helper(1.0 * x, 2.0)",
        "helper(1.0 * y, 3.0)",
    ]


def test_noise_that_a_draw_is_made_of_is_not_shown_as_one_that_counts():
    def accept(th, key):
        u = random.uniform(key, (3,))
        yes = u < sigmoid(th[0])
        return jnp.sum(2.0 * yes)

    found = jscg.graph(accept)(TH, KEY)
    assert ways(found)["u"] == {"no score needed": "yes is made of it, and has a law of its own"}
    assert found.cost_nodes[0].influenced_by == ("yes",)


def test_a_statement_of_several_lines_names_its_draw():
    def cost(th, key):
        several_lines = random.bernoulli(
            key,
            sigmoid(th[0]),
        )
        return 2.0 * several_lines

    assert [d.name for d in jscg.graph(cost)(TH, KEY).stochastic_nodes] == ["several_lines"]


def test_a_baseline_says_what_it_depends_on():
    def cost(th, key):
        k1, k2 = random.split(key)
        x = random.bernoulli(k1, sigmoid(th[0]))
        y = jscg.baseline(random.bernoulli(k2, sigmoid(th[1])), 0.5 * x)
        return jnp.exp(1.0 * x + y)

    found = jscg.graph(cost, estimators=est.ScoreFunction())(TH, KEY)
    assert {d.name: d.baseline for d in found.stochastic_nodes} == {
        "x": "without a baseline",
        "y": "with your baseline of x",
    }


EVERY = CONTEXTS + LAYOUTS + DISCRETE + CONTINUOUS


@pytest.mark.parametrize("case", EVERY[::3], ids=str)
def test_every_program_has_a_graph_that_draws_itself(case):
    try:
        found = jscg.graph(case.fun)(case.vector(), KEY)
    except jscg.JscgError:
        assert case.may_refuse or case.name.startswith(("custom_jvp", "one_key"))
        return
    assert found.stochastic_nodes and found.cost_nodes and "draws" in str(found)
    for picture in (found.svg(), found.svg("dark", background=False, max_nodes=3)):
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_it_raises_where_the_gradient_does():
    def twice(th, key):
        return 1.0 * random.bernoulli(key, th[0]) * random.bernoulli(key, th[0])

    with pytest.raises(jscg.JscgError, match="key in common"):
        jscg.graph(twice)(TH, KEY)
