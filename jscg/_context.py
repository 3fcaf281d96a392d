"""Whether jscg is tracing, as a part of JAX's trace caches.

`jax.make_user_context` keys every cache of JAX on the value below.  So a jit, scan or cond that
was traced before jscg looked at it is traced again, and what jscg traced is never seen outside.
"""

from __future__ import annotations

import jax

_context = jax.make_user_context(default_value=None)


def tracing() -> bool:
    """Whether this thread is tracing a function for jscg."""
    return _context.value is not None


def traced_by_jscg():
    """Context manager: draws become explicit equations."""
    return _context("jscg")


def plain_jax():
    """Context manager: draws are what `jax.random` makes of them."""
    return _context(None)
