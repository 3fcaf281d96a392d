"""Calls of what the public functions return, compiled once for each structure of arguments."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax

from ._arguments import check_arrays, owners_of, roles
from ._errors import ArgumentTypeError
from ._trace import Options
from ._traceback import short_traceback

_compiled: weakref.WeakKeyDictionary[Any, dict[Any, Callable]] = weakref.WeakKeyDictionary()


class Fixed(NamedTuple):
    """What is fixed when a call is compiled.

    Attributes:
      tree: of the arguments.
      leaves: (type, value) of those that are no arrays; None for those that are traced.
      nothing: whether all are traced.
    """

    tree: Any
    leaves: tuple[tuple[type, Any] | None, ...]
    nothing: bool

    def arguments(self, traced: list[Any]) -> tuple[tuple, dict]:
        """The positional and keyword arguments, with values for those that are traced."""
        rest = iter(traced)
        leaves = [next(rest) if leaf is None else leaf[1] for leaf in self.leaves]
        return jax.tree.unflatten(self.tree, leaves)


def compiled(
    fun: Callable, options: Options, what: Hashable, make: Callable[[Callable], Callable]
) -> Callable:
    """Compiles what is made of a function, once for each of its arguments' structures.

    Arrays among the arguments are traced, and all else is fixed.  What is compiled is kept as long
    as `fun` lives, whoever asks for it.

    Args:
      fun: the user's function.
      options: what is wanted of it.
      what: names what is made.
      make: makes it, given the function.  It runs as long as JAX traces, and must not keep `fun`.

    Returns:
      A function with the arguments of `fun`.
    """
    jitted = _jitted(fun, options, what, make)
    known: dict[tuple, Fixed] = {}

    @functools.wraps(fun)
    @short_traceback
    def call(*args, **kwargs):
        # Whoever calls without jit pays for every line of this.
        leaves, tree = jax.tree.flatten((args, kwargs))
        types = (tree, *map(type, leaves))
        fixed = known.get(types)
        if fixed is None:
            check_arrays(fun, options.argnums, args)
            fixed = _fix(options, args, kwargs)
            if fixed.nothing:
                known[types] = fixed
            else:
                leaves = [x for x, f in zip(leaves, fixed.leaves, strict=True) if f is None]
        return jitted(fixed, leaves)

    return call


def _fix(options: Options, args: tuple, kwargs: dict) -> Fixed:
    leaves, tree = jax.tree.flatten((args, kwargs))
    traced, _, _ = roles(options, args, leaves, owners_of(args, kwargs))
    fixed = tuple(None if t else (type(x), x) for x, t in zip(leaves, traced, strict=True))
    try:
        hash(fixed)
    except TypeError as error:
        raise ArgumentTypeError(
            "jscg: an argument that is no array must be hashable, because the function is traced "
            f"once for each of its values: {error}"
        ) from error
    return Fixed(tree, fixed, not any(fixed))


def _jitted(fun: Callable, options: Options, what: Hashable, make: Callable) -> Callable:
    try:
        kept = _compiled.setdefault(fun, {})
        # Weakly, or what is kept for the function would keep it alive.
        alive: Callable[[], Any] = weakref.ref(fun)
    except TypeError:  # neither hashable nor weakly referable: it lives with the caller
        kept, alive = {}, lambda: fun

    def run(spec: Fixed, traced: list[Any]):
        args, kwargs = spec.arguments(traced)
        return make(alive())(*args, **kwargs)

    if (options, what) not in kept:
        kept[options, what] = jax.jit(run, static_argnums=0)
    return kept[options, what]
