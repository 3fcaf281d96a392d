"""Where an equation stands in the user's source, and what is written there."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import linecache
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import source_info_util

_SUMMARY = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+) \((?P<function>.*)\)")
_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(file)) + os.sep for file in (jax.__file__, __file__)
)
_TRACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_trace.py")
_LONG = 90  # characters of a line that is shown
_CELL = re.compile(r"ipykernel_\d+[/\\]|<ipython-input-")


@dataclasses.dataclass(frozen=True)
class Place:
    """A stretch of source code.

    Attributes:
      file: as the interpreter calls it.
      line: the first line, from 1.
      column: in bytes, from 0, of the first character.
      end: line and column after the last character, if they are known.
      function: the function that holds it.
    """

    file: str
    line: int
    column: int
    end: tuple[int, int] | None
    function: str

    def __str__(self) -> str:
        """The end of the path and the line; for a cell of a notebook its number."""
        return f"{_cell(self.file) or os.path.basename(self.file)}:{self.line}"

    @property
    def where(self) -> str:
        """As in messages: 'file:line:column (function)'."""
        return f"{_cell(self.file) or self.file}:{self.line}:{self.column} ({self.function})"

    @property
    def statement(self) -> ast.stmt | None:
        """The innermost statement that it is in."""
        found = _statements_at(self.file, self.line, _length(self.file))
        if self.end is not None:  # otherwise the column is not known
            at = (self.line, self.column)
            found = [s for s in found if (s.lineno, s.col_offset) <= at < _end(s)]
        return found[-1] if found else None

    @property
    def row(self) -> tuple[str, str]:
        """File and line at which its statement begins, and the statement, on one short line.

        Of a statement that is too long for that, its own line.
        """
        found = self.statement
        if found is None:
            return str(self), ""
        line, stop = found.lineno, sys.maxsize
        whole = Place(self.file, line, found.col_offset, (line, stop), self.function)
        if not hasattr(found, "body"):  # of a loop or a function only what stands before its body
            end = (found.end_lineno or line, found.end_col_offset or stop)
            whole = dataclasses.replace(whole, end=end)
            if end[0] > line and len(whole.text) > _LONG:
                whole = Place(self.file, self.line, 0, (self.line, stop), self.function)
        text = whole.text
        return str(whole), text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."

    @property
    def targets(self) -> tuple[str, ...]:
        """The variables that its statement assigns to what it makes."""
        if self.function.endswith("<lambda>"):  # the statement assigns the function
            return ()
        match self.statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                return (name,)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
                return (name,)
            case ast.Assign(targets=[ast.Tuple(elts=names)]):
                return tuple(v.id for v in names if isinstance(v, ast.Name))
        return ()

    def covers(self, node: ast.expr | ast.stmt) -> bool:
        """Whether it is exactly that."""
        end = (node.end_lineno, node.end_col_offset)
        return (self.line, self.column, self.end) == (node.lineno, node.col_offset, end)

    @property
    def text(self) -> str:
        """What is written there, on one line; empty where it cannot be read."""
        if self.end is None:
            return ""
        lines = [line.encode() for line in linecache.getlines(self.file)]
        last, stop = self.end
        if not 0 < self.line <= last <= len(lines):
            return ""
        lines = lines[self.line - 1 : last]
        lines[-1] = lines[-1][:stop]
        lines[0] = lines[0][self.column :]
        return " ".join(b" ".join(lines).decode(errors="replace").split())


def where(eqn: Any) -> str:
    """Returns 'file:line:column (function)' of the user's line that made an equation."""
    text = source_info_util.summarize(eqn.source_info)
    found = _SUMMARY.fullmatch(text)
    cell = _cell(found["file"]) if found is not None else None
    return text if found is None or cell is None else text.replace(found["file"], cell, 1)


def at_line(eqn: Any) -> str:
    """Returns ' at ' and that; nothing where the line is not known."""
    line = where(eqn)
    return f" at {line}" if line else ""


def place_of(eqn: Any) -> Place | None:
    """Where an equation stands; None for what was not traced from Python source."""
    return next(iter(places_of(eqn)), None)


def in_libraries(file: str) -> bool:
    """Whether a file belongs to jscg or to JAX."""
    return file.startswith(_LIBRARIES)


def told_function(fun: Callable) -> str:
    """The name of a function, and the file and line at which it begins, if they are known."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    fun = inspect.unwrap(fun)
    name = getattr(fun, "__qualname__", type(fun).__qualname__)
    code = getattr(fun, "__code__", None) or getattr(type(fun).__call__, "__code__", None)
    if code is None:
        return name
    return f"{name} ({_cell(code.co_filename) or code.co_filename}:{code.co_firstlineno})"


def places_of(eqn: Any) -> list[Place]:
    """Where an equation stands, and the calls that led there, as far as they are plain Python.

    The innermost comes first.  A loop's body does not lead to the loop: JAX calls it.
    """
    found = _SUMMARY.fullmatch(source_info_util.summarize(eqn.source_info))
    if found is None:
        return []
    places: list[Place] = []
    for code, at in zip(*eqn.source_info.traceback.raw_frames(), strict=True):
        if code.co_filename == _TRACE:
            break  # what is further out has called jscg: it made this equation, or nobody
        if not in_libraries(code.co_filename):
            first, last, start, stop = _positions(code)[at // 2]
            end = (last, stop) if last is not None and stop is not None else None
            function = code.co_qualname
            places.append(Place(code.co_filename, first or 0, start or 0, end, function))
        elif places:
            break
    return places


def assigned(eqn: Any) -> tuple[str, Place] | None:
    """The names that what an equation makes is assigned to, and where, seen from outside first."""
    for place in reversed(places_of(eqn)):
        match place.statement:
            case ast.Assign(targets=[target], value=value):
                pass
            case (
                ast.AnnAssign(target=target, value=value)
                | ast.AugAssign(target=target, value=value)
            ):
                pass
            case _:
                continue
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for names, made in pairs:
            whole = place.statement if isinstance(place.statement, ast.AugAssign) else made
            if whole is not None and place.covers(whole):
                found = [v.id for v in ast.walk(names) if isinstance(v, ast.Name)]
                return ", ".join(found), place
    return None


def telling(many: list[list[Place]]) -> list[Place | None]:
    """For each of many values the outermost of its places at which they are told apart."""
    outer = [places[::-1] for places in many]
    shared = 0
    if len(many) > 1:
        while all(len(p) > shared + 1 for p in outer) and len({p[shared] for p in outer}) == 1:
            shared += 1
        return [places[min(shared, len(places) - 1)] if places else None for places in outer]
    return [places[0] if places else None for places in many]


def _end(node: ast.stmt) -> tuple[float, float]:
    return node.end_lineno or math.inf, node.end_col_offset or math.inf


@functools.lru_cache(maxsize=1024)
def _positions(code: Any) -> list[tuple[Any, ...]]:
    return list(code.co_positions())


def _length(file: str) -> int:
    """How many lines there are now: a cell that is run again may have got others."""
    return len(linecache.getlines(file))


@functools.lru_cache(maxsize=4096)
def _statements_at(file: str, line: int, length: int) -> list[ast.stmt]:
    """Those that have a part of a line, from the outermost to those within."""
    return [
        node
        for node in _statements(file, length)
        if node.lineno <= line <= (node.end_lineno or node.lineno)
    ]


@functools.lru_cache(maxsize=64)
def _statements(file: str, length: int) -> list[ast.stmt]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def _cell(file: str) -> str | None:
    """What IPython calls a cell of a notebook; None for a file."""
    if not _CELL.search(file):
        return None
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    name = shell.compile.format_code_name(file) if shell is not None else None
    return " ".join(name) if name else "a notebook's cell"
