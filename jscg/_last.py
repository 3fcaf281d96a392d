"""The last error that jscg has raised, as far as `explain` tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from ._errors import Here, JscgError, Subject

_last: JscgError | None = None


def remember(error: JscgError) -> None:
    """Keeps what `explain` needs of an error, and no traceback: its frames hold the user's arrays.

    `sys.last_value` would not do: it is whatever was raised last, by a mistyped name, say, and not
    set for what was caught.
    """
    global _last
    _last = JscgError(str(error))
    _last.trail = error.trail
    if error.subject is not None:  # parameters of equations may hold tracers, their places do not
        _last.subject = Subject(None, Here(error.subject.fault.source_info))


def last_error() -> JscgError | None:
    """What is kept of the last error; None if there was none."""
    return _last


@contextlib.contextmanager
def passing_over() -> Generator[None, None, None]:
    """Context manager under which errors are not remembered: jscg catches them itself."""
    global _last
    before = _last
    try:
        yield
    finally:
        _last = before
