"""What benchmarks/rivals does without any of the other libraries: skips, measures, shows."""

from __future__ import annotations

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import pytest

import jscg
from benchmarks.rivals import Problem, Program, jitted, measure
from benchmarks.rivals import __main__ as rivals
from benchmarks.rivals.measure import Options, Row

FEW = Options(pairs=2, compiles=1, seconds=2.0)
LOGIT = jnp.float32(0.4)


def cost(logit, key):
    return 2.0 * jax.random.bernoulli(key, jax.nn.sigmoid(logit))


def scored(logit, key):
    p = jax.nn.sigmoid(logit)
    b = jax.random.bernoulli(key, p)
    return 2.0 * b * (b - p)


PROBLEM = Problem(cost, LOGIT, 400, lambda: jax.grad(lambda x: 2.0 * jax.nn.sigmoid(x))(LOGIT))
SMALL = (1e-3, 2e-3), (0.3, 60.0), (False, False), 0.5  # seconds, first calls, exact, variance
ROW = Row("p", "r 1", "w", (0.5, 1.0), (0.5, 0.4, 0.6), *SMALL)


def measured(gradient, problem=PROBLEM):
    return measure.measure("r 1", Program("p", "w", jitted(gradient, LOGIT)), problem, FEW)


def test_libraries_that_cannot_be_imported_are_left_out_with_a_word(monkeypatch):
    for package in ("genjax", "numpyro", "pyro", "storch", "tensorflow_probability"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in rivals.LIBRARIES:
        monkeypatch.delitem(sys.modules, f"benchmarks.rivals.with_{name}", raising=False)
    found = list(rivals.run(rivals.LIBRARIES, "", FEW))
    assert [item.partition(": left out (")[0] for item in found] == list(rivals.LIBRARIES)


def test_a_program_that_raises_leaves_a_word_and_the_others_are_measured(monkeypatch, capsys):
    def fails():
        raise ValueError("no such law\nmore")

    ways = {"bad": fails, "good": jitted(scored, LOGIT), "also": fails}
    found = [Program("p" if way != "also" else "q", way, fresh) for way, fresh in ways.items()]
    library = types.SimpleNamespace(PACKAGE="jax", programs=lambda: found)
    monkeypatch.setitem(sys.modules, "benchmarks.rivals.with_fake", library)
    monkeypatch.setattr(rivals, "PROBLEMS", {"p": lambda: PROBLEM})
    bad, good = rivals.run(["fake"], "p", FEW)
    assert bad == f"p, fake {jax.__version__}, bad: ValueError: no such law"
    assert isinstance(good, Row) and (good.problem, good.way) == ("p", "good")


def test_the_mean_and_the_variance_of_a_right_gradient():
    row = measured(scored, dataclasses.replace(PROBLEM, ours=PLAIN))
    assert max(row.z) < 4.5 and row.exact == (False, False)
    assert row.variance == pytest.approx(1.0, abs=0.4)  # the same estimator, other draws
    assert min(*row.time, *row.seconds, *row.first) > 0.0


PLAIN = {"estimators": jscg.estimators.ScoreFunction(baseline=None)}


def test_a_biased_gradient_is_called_biased():
    row = measured(lambda logit, key: scored(logit, key) + 0.2)
    assert row.z[1] > 4.5 > row.z[0] and row.ahead == "theirs is biased"


def test_without_an_exact_gradient_means_are_compared_with_each_other():
    ours, theirs = measured(scored, dataclasses.replace(PROBLEM, exact=None)).z
    assert theirs < 4.5 and ours != ours  # NaN
    noise = jax.random.normal(jax.random.key(0), (100, 4))
    assert measure.between(noise, noise[::-1] + 0.1) < 4.5 < measure.between(noise, noise + 1.0)


def test_gradients_without_a_variance_are_exact():
    exact = measured(lambda logit, key: 2.0 * jax.grad(jax.nn.sigmoid)(logit))
    assert exact.exact == (True, True) and exact.product == exact.time[0]
    row = measured(scored)
    assert row.exact == (True, False) and row.ahead == "ours"


@pytest.mark.parametrize(
    ("change", "ahead"),
    [
        ({}, "ours"),
        ({"variance": 2.1}, "even"),
        ({"variance": 4.0}, "**theirs**"),
        ({"exact": (False, True)}, "**theirs**"),
        ({"exact": (True, False), "time": (5.0, 5.0, 5.0)}, "ours"),
        ({"exact": (True, True), "time": (5.0, 5.0, 5.0)}, "**theirs**"),
        ({"z": (0.5, 5.0), "variance": 4.0}, "theirs is biased"),
    ],
)
def test_who_is_ahead(change, ahead):
    assert dataclasses.replace(ROW, **change).ahead == ahead


def test_what_is_saved_is_shown_again(tmp_path, capsys):
    unknown = dataclasses.replace(ROW, problem="a", z=(float("nan"), 2.0), exact=(True, False))
    rivals.save(tmp_path / "rows", [ROW, unknown, "x: left out"])
    rivals.show(rivals.collect(tmp_path / "rows"))
    header, rule, first, second, line = capsys.readouterr().out.splitlines()
    assert {text.count("|") for text in (header, rule, first, second)} == {13}
    assert [cell.strip() for cell in first.split("|")[1:6]] == ["a", "r 1", "w", "2", ""]
    assert "0.5 [0.4, 0.6]" in second and "0.3 / 60" in second and "ours exact" in first
    assert line == "x: left out"
