"""Unmodified code of other libraries: the gradient is right, or the call raises."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscg

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from oracle import BOUND  # noqa: E402
from table import ROWS  # noqa: E402

for file in sorted(HERE.glob("uses_*.py")):
    importlib.import_module(file.stem)

KEYS = 20_000
# What other packages announce is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row):
    pytest.importorskip(row.library)
    params, keys = jnp.array(row.params), jax.random.split(jax.random.key(1), KEYS)
    if row.exact is None:
        with pytest.raises(jscg.JscgError, match="What to do instead"):
            jscg.grad_expectation(row.fun)(params, keys[0])
        return

    def both(params, key):
        return jscg.grad_expectation(row.fun)(params, key), jax.grad(row.fun)(params, key)

    samples, plain = (
        np.asarray(a, np.float64) for a in jax.jit(jax.vmap(both, (None, 0)))(params, keys)
    )
    error = samples.std(0, ddof=1) / np.sqrt(KEYS)
    exact = np.asarray(jax.grad(row.exact)(params))
    assert np.all(np.abs(samples.mean(0) - exact) <= BOUND * error + 1e-4), samples.mean(0)
    missed = np.abs(plain.mean(0) - exact)
    if row.scored:  # or the row would not show whether the score is there
        assert np.any(missed > 10 * error), missed / error
    else:
        np.testing.assert_allclose(samples, plain, rtol=1e-4, atol=1e-5)


def test_the_table_has_all_libraries():
    assert len({row.library for row in ROWS}) == 8


def test_particles_of_a_bound_have_a_baseline():
    pytest.importorskip("numpyro")
    (row,) = (row for row in ROWS if row.name == "renyi_bound")
    scored = jscg.estimators.Auto(compares_draws=False)
    graph = jscg.graph(row.fun, estimators=scored)(jnp.array(row.params), jax.random.key(0))
    assert "with the cost without its particle as the baseline" in str(graph)
