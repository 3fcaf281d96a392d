"""Calls of what the public functions return, compiled once for each structure of arguments."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax

from ._arguments import check_arrays, is_array, owners_of, roles
from ._captured import Captured, Fingerprint
from ._errors import ArgumentTypeError
from ._trace import Options
from ._traceback import hand_over

_compiled: weakref.WeakKeyDictionary[Any, _Kept] = weakref.WeakKeyDictionary()


class Fixed(NamedTuple):
    """What is fixed when a call is compiled.

    Attributes:
      tree: of the arguments.
      leaves: (type, value) of those that are no arrays; None for those that are traced.
    """

    tree: Any
    leaves: tuple[tuple[type, Any] | None, ...]

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
    as `fun` lives, whoever asks for it, and as the global variables that it reads are the same.

    Args:
      fun: the user's function.
      options: what is wanted of it.
      what: names what is made.
      make: makes it, given the function.  It runs as long as JAX traces, and must not keep `fun`.

    Returns:
      A function with the arguments of `fun`.
    """
    captured = Captured(fun)
    programs = _programs(fun, captured, options, what, make)
    arrays: set[type] = set()  # types of leaves that are arrays, as far as met
    known: dict[tuple, _Way] = {}  # by the tree and the types of leaves, where some are not

    @functools.wraps(fun)
    def call(*args, **kwargs):
        __tracebackhide__ = True
        nonlocal captured, programs
        if captured.changed():
            captured = Captured(fun)
            programs = _programs(fun, captured, options, what, make)
            known.clear()
        # Whoever calls without jit pays for every line of this.
        try:
            if programs.direct:
                return programs.of_arrays(*args, **kwargs)
        except (_DoubtfulError, TypeError):
            programs.direct = False  # an argument is no array, perhaps: looked at from now on
        except Exception as error:
            hand_over(error)
            raise
        try:
            if arrays.issuperset(map(type, jax.tree.leaves((args, kwargs)))):
                return programs.of_arrays(*args, **kwargs)
            leaves, tree = jax.tree.flatten((args, kwargs))
            types = (tree, *map(type, leaves))
            way = known.get(types)
            if way is None:
                if all(map(is_array, leaves)):
                    arrays.update(map(type, leaves))
                    return programs.of_arrays(*args, **kwargs)
                check_arrays(fun, options.argnums, args)
                traced, _, _ = roles(options, args, leaves, owners_of(args, kwargs))
                way = known[types] = _Way(programs, tree, traced)
            return way(leaves)
        except Exception as error:
            hand_over(error)
            raise

    return call


class _DoubtfulError(Exception):
    """What is to be traced as an array may be a number of Python."""


class _Programs:
    """What is compiled of a function for some options.

    Attributes:
      of_arrays: the compiled function, where all leaves of arguments are arrays.
      direct: whether it is called without looking at the leaves, because so far all were arrays.
      fixed: compiled functions of the leaves that are traced, for what is fixed.
    """

    def __init__(self, make: Callable[[], Callable]):
        self.direct = True

        def run(*args, **kwargs):
            # Nothing is compiled directly that a call with numbers of Python would find.
            if self.direct and any(map(_may_be_fixed, jax.tree.leaves((args, kwargs)))):
                raise _DoubtfulError
            return make()(*args, **kwargs)

        self._make, self.of_arrays = make, jax.jit(run)
        self.fixed: dict[Fixed, Callable] = {}

    def of_leaves(self, fixed: Fixed) -> Callable:
        """The compiled function of the leaves that are traced."""
        if fixed not in self.fixed:
            self.fixed[fixed] = jax.jit(functools.partial(_run, self._make, fixed))
        return self.fixed[fixed]


def _may_be_fixed(leaf: Any) -> bool:
    kind = jax.typeof(leaf)
    return getattr(kind, "weak_type", False) or (kind.dtype == bool and not kind.shape)


class _Way:
    """How to call what is compiled with leaves of some types, of which some are traced."""

    def __init__(self, programs: _Programs, tree: Any, traced: list[bool]):
        self.programs, self.tree, self.traced = programs, tree, traced
        self.fixed = [not t for t in traced]
        self.known: dict[tuple, Callable] = {}  # by the values that are fixed

    def __call__(self, leaves: list[Any]) -> Any:
        values = tuple(itertools.compress(leaves, self.fixed))
        try:
            run = self.known.get(values)
        except TypeError as error:
            raise ArgumentTypeError(
                "jscg: an argument that is no array must be hashable, because the function is "
                f"traced once for each of its values: {error}"
            ) from error
        if run is None:
            pairs = zip(leaves, self.traced, strict=True)
            fixed = Fixed(self.tree, tuple(None if t else (type(x), x) for x, t in pairs))
            run = self.known[values] = self.programs.of_leaves(fixed)
        return run(list(itertools.compress(leaves, self.traced)))


def _run(make: Callable[[], Callable], fixed: Fixed, traced: list[Any]) -> Any:
    args, kwargs = fixed.arguments(traced)
    return make()(*args, **kwargs)


class _Kept(NamedTuple):
    """What is kept with a function.

    Attributes:
      alive: gives the function.
      captured: what it read from outside when that was compiled.
      programs: what is compiled, by the options and what it is.
    """

    alive: Callable[[], Any]
    captured: Fingerprint
    programs: dict[Any, _Programs]


def _programs(
    fun: Callable, captured: Captured, options: Options, what: Hashable, make: Callable
) -> _Programs:
    alive: Callable[[], Any]
    try:
        # Weakly, or what is kept for the function would keep it alive.
        alive, kept = weakref.ref(fun), _compiled.get(fun)
        if kept is not None and kept.alive() is not fun:
            programs = {}  # an equal one, such as the same method of an object, fetched anew
        else:
            if kept is None or not kept.captured.is_of(captured):
                kept = _compiled[fun] = _Kept(alive, captured.fingerprint(), {})
            programs = kept.programs
    except TypeError:  # neither hashable nor weakly referable: it lives with the caller
        programs, alive = {}, lambda: fun
    if (options, what) not in programs:
        programs[options, what] = _Programs(lambda: make(alive()))
    return programs[options, what]
