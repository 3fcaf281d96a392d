"""Warnings at the line by which the user has called jscg."""

from __future__ import annotations

import inspect
import warnings

from ._source import in_libraries


def warn(message: str) -> None:
    """Warns at the innermost line that is neither of jscg nor of JAX."""
    # How many frames of JAX lie between hangs on its version, and on what it has compiled.
    frame, level = inspect.currentframe(), 1
    while frame is not None and in_libraries(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    # This function is the first level for `warnings.warn`.
    warnings.warn(message, UserWarning, stacklevel=level)
