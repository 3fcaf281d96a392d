"""Pictures of graphs: what they show, and that nothing lies on something else."""

import pathlib
import runpy
from xml.etree import ElementTree

import jax.numpy as jnp
import pytest
from jax import random
from jax.nn import sigmoid

import jscg
from jscg.picture import Box, Diagram, Edge, Item
from jscg.picture._collapse import collapse
from jscg.picture._layout import lay_out
from jscg.picture._shapes import half_widths, size_of

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PICTURES = {
    name: (fun, args) for name, fun, args in runpy.run_path(str(DOCS / "pictures.py"))["pictures"]()
}
SHOWN = {
    "parameter_then_draw": "theta x y 0",
    "draw_then_deterministic": "theta x y 0",
    "draw_then_draw": "theta x y 0",
    "draw_beside_deterministic": "theta x y 0",
    "two_costs": "theta x0 x1 x2 0 1",
    "nvil": "V1 V2 W1 W2 prior x q1 h1 q2 h2 0 1 2 3 4",
    "vae": "phi theta x mean z z decoded 0 1",
    "mdp": "policy s0 logits a wind s_next 0",
    "pomdp": "act recur see s0 o o memory a s 0",
    "hard_attention": "classify recur see where image place seen h guess 0",
}


def labels(picture):
    """The text in the shapes of a picture."""
    found = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    return sorted(t.text for t in found if t.get("font-size") == "13")


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_the_docs_show_what_is_in_the_program(name):
    fun, args = PICTURES[name]
    shown = labels(jscg.graph(fun)(*args).svg())
    assert shown == sorted(SHOWN[name].split())
    assert shown == labels((DOCS / "pictures" / f"{name}.svg").read_text())


def edges(name):
    fun, args = PICTURES[name]
    diagram = jscg.graph(fun)(*args)._diagram
    return {
        f"{e.source.label}{' ~' if e.before else ' -'}> {e.target.label}" for e in diagram.edges
    }


def test_arrows_are_direct_dependence():
    assert edges("draw_beside_deterministic") == {
        "theta -> x",
        "theta -> y",
        "x -> 0",
        "y -> 0",
    }
    assert edges("two_costs") == {
        "theta -> x1",
        "x0 -> x1",
        "theta -> x2",
        "x1 -> x2",
        "x1 -> 0",
        "x2 -> 1",
    }
    assert edges("mdp") == {
        "policy -> logits",
        "s0 -> logits",
        "s0 -> s_next",
        "logits -> a",
        "a -> s_next",
        "wind -> s_next",
        "s_next -> 0",
        "s_next ~> logits",
        "s_next ~> s_next",
    }


def boxes(name):
    fun, args = PICTURES[name]
    diagram = jscg.graph(fun)(*args)._diagram
    return {item.label: [box.caption for box in item.boxes] for item in diagram.items}


def test_loops_and_plates_are_boxes():
    found = boxes("mdp")
    steps = "20 steps; draws of step t influence steps >= t"
    assert found["a"] == found["0"] == [steps, "\u00d7 16"]
    assert found["policy"] == found["s0"] == []
    found = boxes("nvil")
    assert found["h1"] == ["\u00d7 32", "\u00d7 6"] and found["h2"] == ["\u00d7 32", "\u00d7 4"]
    assert found["3"] == found["4"] == ["\u00d7 32"] and found["W1"] == []


def extent(item, placed):
    size, (x, y) = size_of(item), placed.at[item]
    left = x - size.centre
    return left, y - size.above, left + size.width, y + size.below


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_lies_on_something_else(name):
    fun, args = PICTURES[name]
    diagram = jscg.graph(fun)(*args)._diagram
    placed = lay_out(diagram)
    spans = [(item, extent(item, placed)) for item in diagram.items]
    for i, (item, (left, top, right, bottom)) in enumerate(spans):
        assert 0 <= left and 0 <= top and right <= placed.width and bottom <= placed.height
        for other, (a, b, c, d) in spans[i + 1 :]:
            assert right <= a or c <= left or bottom <= b or d <= top, (item.label, other.label)
        for box, (x, y, width, height) in placed.boxes.items():
            within = x <= left and y <= top and right <= x + width and bottom <= y + height
            apart = right <= x or x + width <= left or bottom <= y or y + height <= top
            assert within if box in item.boxes else apart, (item.label, box.caption)


@pytest.mark.parametrize("name", PICTURES)
def test_arrows_pass_no_other_node(name):
    fun, args = PICTURES[name]
    diagram = jscg.graph(fun)(*args)._diagram
    placed = lay_out(diagram)
    for edge, points in placed.routes.items():
        for x, y in points:
            for item, (cx, cy) in placed.at.items():
                half, height = half_widths(item)
                if item is not edge.source and item is not edge.target:
                    assert abs(x - cx) >= half or abs(y - cy) >= height


def test_themes():
    fun, args = PICTURES["two_costs"]
    found = jscg.graph(fun)(*args)
    light, dark, auto = (found.svg(theme) for theme in ("light", "dark", "auto"))
    assert "<style>" in auto and "<style>" not in light + dark
    assert "#ffffff" in light and "#ffffff" not in dark
    assert "height='100%'" not in found.svg(background=False)
    assert found._repr_mimebundle_()["image/svg+xml"] == auto
    assert "http" not in auto.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched
    with pytest.raises(ValueError, match="theme='blue'"):
        found.svg("blue")


def many(params, key):
    """Twelve layers of a hand-written loop: 49 nodes."""
    total, h = 0.0, jnp.ones(2)
    for k in random.split(key, 12):
        logits = jnp.tanh(params["w"] * h)
        h = random.bernoulli(k, sigmoid(logits))
        cost = jnp.exp(1.0 * h)
        total = total + jnp.sum(cost)
    return total


def test_large_graphs_are_collapsed():
    found = jscg.graph(many)({"w": jnp.ones(2)}, random.key(0))
    assert len(found._diagram.items) > 36 and len(found.stochastic_nodes) == 12
    for most in (60, 30, 8):
        shown = collapse(found._diagram, most)
        assert len(shown.items) <= most
        assert {v.kind for v in shown.items} >= {"input", "stochastic", "cost"}
    # All of one line, but for the last, which is enumerated: nothing comes after it.
    assert labels(found.svg(max_nodes=8)) == ["0 \u00d712", "h \u00d711", "h_10", "w"]
    assert "h_0" in labels(found.svg(max_nodes=60))


def test_what_is_collapsed_still_leads_from_input_to_cost():
    a, b, c, d = (Item(kind, kind[0]) for kind in ("input", "deterministic", "stochastic", "cost"))
    diagram = Diagram((a, b, c, d), (Edge(a, b), Edge(b, c, True), Edge(b, d), Edge(c, d)))
    shown = collapse(diagram, 3)
    assert set(shown.edges) == {Edge(a, c, True), Edge(a, d), Edge(c, d)}


def test_boxes_that_stand_before_each_other_are_laid_out():
    one, other = Box("one", None, True), Box("other", None, False)
    a, b = Item("stochastic", "a", box=one), Item("stochastic", "b", box=other)
    c = Item("cost", "0", box=one)
    placed = lay_out(Diagram((a, b, c), (Edge(a, b), Edge(b, c))))
    (x, _, width, _), (y, *_) = placed.boxes[one], placed.boxes[other]
    assert x + width <= y or y <= x
