"""What an error goes through on its way out: it is remembered, and its traceback shortened."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable

import jax

from ._errors import JscgError
from ._last import remember

_HERE = os.path.dirname(__file__) + os.sep
_OF_JAX = "--------------------\nFor simplicity"


def short_traceback(fun: Callable) -> Callable:
    """Leaves the frames of jscg out of the tracebacks of what a function raises.

    All frames stay with `jax.config.update("jax_traceback_filtering", "off")`.
    """

    @functools.wraps(fun)
    def call(*args, **kwargs):
        __tracebackhide__ = True  # for IPython and pytest
        try:
            return fun(*args, **kwargs)
        except Exception as error:
            hand_over(error)
            raise

    return call


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
