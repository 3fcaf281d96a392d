"""Why an estimator cannot be used for a draw."""

from __future__ import annotations

from typing import Any


def why_not_rerun(node: Any) -> str | None:
    """Why a draw cannot be set to other values in another run, or None."""
    if node.key is None:
        return (
            "it is made by the program out of noise, so that there is no key of its own to draw "
            "other values with (draw it with jax.random instead)"
        )
    return None
