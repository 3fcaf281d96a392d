"""What a function reads besides its arguments, and whether that has changed.

A trace keeps the values of global variables.  In a notebook they change from cell to cell, and a
gradient of what they were would be wrong without a word.
"""

from __future__ import annotations

import dis
import functools
import inspect
import operator
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_NOTHING = object()
_CODE = operator.attrgetter("__code__")
_CONTENT = operator.attrgetter("cell_contents")


class Captured:
    """The variables that a function, and those of its module that it calls, read from outside.

    What they hold is compared by identity: a list or an object of one's own that is changed in
    place is the same.  Modules do not count.

    Attributes:
      values: what they hold, and the code of the functions.
      changed: tells whether any is another object by now.
    """

    def __init__(self, fun: Callable):
        self._functions = list(_reachable(fun))
        self._space = space = self._functions[0].__globals__ if self._functions else {}
        names = {n for f in self._functions for n in _globals_of(f.__code__)}
        found = [n for n in names & space.keys() if not isinstance(space[n], types.ModuleType)]
        cells = [cell for f in self._functions for cell in f.__closure__ or ()]
        codes, contents = [*map(_CODE, self._functions)], [*map(_content, cells)]
        get = _getter(found)
        values = get(space)
        self.values = [*values, *codes, *contents]
        self.changed = _watch(space, get, values, self._functions, codes, cells, contents)

    def fingerprint(self) -> Fingerprint:
        """To be kept with the function itself."""
        return Fingerprint(self.values)


def _watch(space, get, values, functions, codes, cells, contents) -> Callable[[], bool]:
    """Tells whether anything is another object now.  Every call of a compiled function asks."""
    every, over, same = all, map, operator.is_

    def changed() -> bool:
        try:
            if values and not every(over(same, get(space), values)):
                return True
            if cells and not every(over(same, over(_CONTENT, cells), contents)):
                return True
            return not every(over(same, over(_CODE, functions), codes))
        except (KeyError, ValueError):  # a variable, or what a cell held, is gone
            return True

    return changed


def _getter(names: list[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """Gets some values of a dictionary, fast."""
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda space: [space[name] for name in names]


class Fingerprint:
    """Values by which to tell others, which it does not keep alive if they may refer to much."""

    def __init__(self, values: list[Any]):
        self._kept = [*map(_hold, values)]

    def is_of(self, captured: Captured) -> bool:
        """Whether these are the values."""
        values = captured.values
        return len(values) == len(self._kept) and all(
            known(value) for known, value in zip(self._kept, values, strict=True)
        )


def _hold(value: Any) -> Callable[[Any], bool]:
    """Whether something is that value."""
    try:
        kept = weakref.ref(value)
        return lambda other: kept() is other
    except TypeError:
        if isinstance(value, (bool, int, float, complex, str, bytes, types.NoneType)):
            return lambda other: other is value
        ident = id(value)
        return lambda other: id(other) == ident


def _reachable(fun: Callable) -> Iterator[types.FunctionType]:
    """The function, and those of the same module that it calls."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    root = inspect.unwrap(getattr(fun, "__func__", fun))
    todo: list[Any] = [root] if isinstance(root, types.FunctionType) else []
    seen = {*map(id, todo)}
    while todo:
        f = todo.pop()
        yield f
        space = f.__globals__
        read = [space.get(n) for n in _globals_of(f.__code__)]
        for other in [*read, *map(_content, f.__closure__ or ())]:
            follow = isinstance(other, types.FunctionType) and other.__globals__ is space
            if follow and id(other) not in seen:
                seen.add(id(other))
                todo.append(other)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return _NOTHING


@functools.lru_cache(maxsize=4096)
def _globals_of(code: types.CodeType) -> frozenset[str]:
    """The global names that some code reads, and the functions within it."""
    names = {
        i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}
    }
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return frozenset(names.union(*map(_globals_of, inner)))
