"""What all tests have in common."""

import gc

import jax
import pytest

# Tracing makes a great many small objects that are all in use: to look at them often takes time.
gc.set_threshold(200_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """JAX keeps what it has compiled; with thousands of programs all else takes longer."""
    yield
    jax.clear_caches()
