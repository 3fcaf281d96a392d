"""What all tests have in common."""

import gc
import tempfile

import jax
import pytest

# Tracing makes a great many small objects that are all in use: to look at them often takes time.
gc.set_threshold(200_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """JAX keeps what it has compiled; with thousands of programs all else takes longer."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def compiled_once():
    """Many programs of one module are those of another; what they compile to is kept in files."""
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        yield
        jax.config.update("jax_compilation_cache_dir", None)
