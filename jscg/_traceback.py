"""What an error goes through on its way out: it is remembered, and its traceback shortened."""

from __future__ import annotations

import os
import types

import jax

from ._errors import JscgError
from ._last import remember

_HERE = os.path.dirname(__file__) + os.sep
_OF_JAX = "--------------------\nFor simplicity"


def hand_over(error: Exception) -> None:
    """Makes an error ready to be raised again, out of jscg.

    `explain` knows it from then on, and its traceback leads from the caller's line to the lines of
    the caller's function.
    """
    if isinstance(error, JscgError):
        remember(error)
    if getattr(jax.config, "jax_traceback_filtering", None) == "off":
        return
    if isinstance(error, JscgError) and hasattr(error, "__notes__"):
        # The message has the line, so that it does not matter which frames JAX left out.
        error.__notes__[:] = [n for n in error.__notes__ if not n.startswith(_OF_JAX)]
    error.__traceback__ = _shortened(error.__traceback__)


def _shortened(traceback: types.TracebackType | None) -> types.TracebackType | None:
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    for entry in reversed(entries):
        if not entry.tb_frame.f_code.co_filename.startswith(_HERE):
            traceback = types.TracebackType(
                traceback, entry.tb_frame, entry.tb_lasti, entry.tb_lineno
            )
    return traceback
