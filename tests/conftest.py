"""What all tests have in common."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """JAX keeps what it has compiled; of thousands of programs that makes every further one slower."""
    yield
    jax.clear_caches()
