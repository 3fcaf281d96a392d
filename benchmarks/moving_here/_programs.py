"""What the files of this folder hand over: gradients of one program by two libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

KEYS = jax.random.split(jax.random.key(1), 20_000)
EAGER = 2_000  # gradients of libraries that cannot be mapped over keys
MOVES: list[tuple[str, str, Callable[[], tuple[Any, Any, Any]]]] = []


def move(title: str, package: str) -> Callable:
    """Registers a function that returns their gradients, ours, and the exact one."""

    def register(function: Callable) -> Callable:
        MOVES.append((title, package, function))
        return function

    return register


def over_keys(gradient: Callable, params: Any, keys: jax.Array = KEYS) -> np.ndarray:
    """One row for each key."""
    found = jax.tree.leaves(jax.jit(jax.vmap(gradient, (None, 0)))(params, keys))
    rows = [np.reshape(leaf, (len(keys), -1)) for leaf in found]
    return np.concatenate(rows, 1).astype(np.float64)


def one_by_one(gradient: Callable[[], Any]) -> np.ndarray:
    """One row for each call."""
    return np.stack([np.ravel(gradient()) for _ in range(EAGER)]).astype(np.float64)
