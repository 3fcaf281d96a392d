"""What all tests have in common."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """JAX keeps what it has compiled; with thousands of programs all else takes longer."""
    yield
    jax.clear_caches()
