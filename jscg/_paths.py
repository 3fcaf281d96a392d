"""How one value becomes another: the shortest path between them through a program.

Of the program only its variables and the places of its equations are kept, so that an error may
hold on to it: no constant, and no tracer.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ._activity import BITS, active_variables
from ._nodes import name_draws
from ._program import CUSTOM, Literal, Program, split_scan, split_while
from ._source import place_of
from .draws import FAMILIES

_STATEMENTS = {"baseline", "control_variate"}  # of their first operand, which they hand on
_AROUND = {"while": "in a while_loop", "cond": "in a branch"} | dict.fromkeys(
    CUSTOM, "in a function with a derivative rule of its own"
)
Around = tuple[tuple[int, str], ...]  # what stands around an equation, the outermost first


@dataclasses.dataclass(eq=False)
class Spot:
    """An equation on a path.

    Attributes:
      source_info: where it stands, as JAX has it.
      around: the loops, branches and functions that hold it.
    """

    source_info: Any
    around: Around = ()


class Step(NamedTuple):
    """A line of source code on a path.

    Attributes:
      where: file and line at which its statement begins.
      text: the statement, on one line; empty where it cannot be read.
      note: what is said of it: that it is in a loop, say, or at a later step of it.
      refused: whether it is here that the program is refused.
    """

    where: str
    text: str
    note: str = ""
    refused: bool = False


class Flow:
    """What is computed of what, in a program and all programs within.

    Args:
      program: the program.
      active_inputs: for each of its inputs, whether the gradient is for it.
      names: what to call the last of its inputs; None for keys.
      wanted: equations.

    Attributes:
      wanted: the spots of these equations; none for one that the program does not hold.
      arguments: the inputs that the gradient is for, with their names.
      active: what depends differentiably on the arguments.
      result: the variable that the program is for; None if it is a number.
      names: what to call the spots where paths begin: draws, and estimates of
        expectations.
    """

    def __init__(
        self,
        program: Program,
        active_inputs: Sequence[bool],
        names: Sequence[str | None],
        wanted: Sequence[Any],
    ):
        names = [None] * (len(program.invars) - len(names)) + list(names)
        told = zip(program.invars, active_inputs, names, strict=True)
        self.arguments = {v: name or "" for v, active, name in told if active}
        self._inputs = list(program.invars)
        self.active = active_variables(program, list(active_inputs))
        self.result = None if isinstance(program.outvars[0], Literal) else program.outvars[0]
        self.names: dict[Spot, str] = {}
        self._keys: dict[Spot, Any] = {}
        self._stopped: set[Spot] = set()  # of `stop_influence`
        self.wanted: list[list[Spot]] = [[] for _ in wanted]
        self._after: dict[Any, list[Any]] = {}
        self._drawn: dict[Any, list[Spot]] = {}  # by the variable that holds the key
        # By what decides whether it is computed.
        self._decided: dict[Any, list[Any]] = {}
        self._all: list[Spot] = []
        self._later: set[tuple[Any, Any]] = set()  # from one step of a loop to the next
        self._count = 0
        self._add(program, (), name_draws(program), wanted)

    def way(
        self,
        starts: Iterable[Any],
        ends: Iterable[Any],
        may: Callable[[Any], bool] | None = None,
        more: dict[Any, list[Any]] | None = None,
    ) -> list[Any]:
        """The shortest path, of variables and spots in turn; empty if there is none.

        Args:
          starts: variables and spots at which it may start.
          ends: variables and spots at which it may end.
          may: whether it may go through one.
          more: what it may go to besides, from what.
        """
        before: dict[Any, Any] = dict.fromkeys(starts)
        ends = set(ends)
        todo = collections.deque(before)
        while todo:
            at = todo.popleft()
            if at in ends:
                path = [at]
                while before[path[-1]] is not None:
                    path.append(before[path[-1]])
                return path[::-1]
            for after in self._after.get(at, []) + (more or {}).get(at, []):
                if after not in before and (may is None or may(after)):
                    before[after] = at
                    todo.append(after)
        return []

    def from_argument(self, ends: Iterable[Any]) -> list[Any]:
        """The shortest path from an argument, differentiable if there is such a one."""
        ends = set(ends)
        smooth = self.way(self.arguments, ends, lambda v: isinstance(v, Spot) or v in self.active)
        return smooth or self.way(self.arguments, ends)

    def from_key(self, draw: Spot) -> list[Any]:
        """The shortest path from an input to a draw, by its key."""
        return [*self.way(self._inputs, [self._keys[draw]], more=self._drawn), draw]

    def influence(self, starts: Iterable[Any], ends: Iterable[Any]) -> list[Any]:
        """The shortest path on which nothing is said to have no influence.

        A decision for a branch, or for one more step, is passed where there is no other path.
        """
        starts, ends = list(starts), set(ends)

        def may(v):
            return v not in self._stopped

        return self.way(starts, ends, may) or self.way(starts, ends, may, self._decided)

    def steps(self, path: Sequence[Any], refused: Iterable[Any] = ()) -> tuple[Step, ...]:
        """The lines of a path, of those in a row that are equal only one."""
        found: list[Step] = []
        around: Around = ()
        later, refused = False, set(refused)
        for previous, spot in zip([None, *path], path, strict=False):
            later |= (previous, spot) in self._later
            if not isinstance(spot, Spot):
                continue
            row = row_of(spot)
            if row is None:  # what JAX has made; it belongs to the line before
                if found and spot in refused:
                    found[-1] = found[-1]._replace(refused=True)
                continue
            notes = [text for one in spot.around if one not in around for text in one[1:]]
            notes += ["at the next step"] if later else []
            if notes or not found or found[-1][:2] != row:
                found.append(Step(*row, ", ".join(notes)))
            if spot in refused:
                found[-1] = found[-1]._replace(refused=True)
            around, later = spot.around, False
        return tuple(found)

    def _link(self, source: Any, target: Any) -> None:
        if not (isinstance(source, Literal) or isinstance(target, Literal)):
            self._after.setdefault(source, []).append(target)

    def _hand(self, outer: Sequence[Any], inner: Sequence[Any]) -> None:
        for a, b in zip(outer, inner, strict=True):
            self._link(a, b)
            if _is_ref(b):  # what is written there is seen outside
                self._link(b, a)

    def _add(self, part: Program, around: Around, draws: dict[Any, str], wanted: Any) -> None:
        for index, eqn in enumerate(part.eqns):
            subs = part.subs.get(index)
            spots = self._region(eqn, subs, around) if subs else self._plain(eqn, around, draws)
            for place, one in enumerate(wanted):
                if one is eqn:
                    self.wanted[place] = spots
            if subs:
                self._inside(eqn, subs, around, draws, wanted)

    def _inside(self, eqn: Any, subs: tuple[Program, ...], around: Around, *rest: Any) -> None:
        name = eqn.primitive.name
        for sub in subs:
            said = _AROUND.get(name, "")
            if sub.loop is not None:
                said = f"in a scan of {sub.loop.length} steps"
            self._count += 1
            before = len(self._all)
            self._add(sub, (*around, (self._count, said)) if said else around, *rest)
            decisions = {"cond": eqn.invars[:1], "while": subs[0].outvars}.get(name, [])
            for by in (v for v in decisions if not isinstance(v, Literal)):
                self._decided.setdefault(by, []).extend([*sub.invars, *self._all[before:]])

    def _plain(self, eqn: Any, around: Around, draws: dict[Any, str]) -> list[Spot]:
        name, spot = eqn.primitive.name, Spot(eqn.source_info, around)
        spots, read, made = [spot], eqn.invars, [*eqn.outvars]
        if name == "draw":
            read = [
                v
                for v, name in zip(eqn.invars[1:], eqn.params["names"], strict=True)
                if name != "source"
            ]
            source = [v for v in eqn.invars[1:] if not any(v is r for r in read)]
            if FAMILIES[eqn.params["family"]].observed:
                read = [eqn.invars[0], *read]  # the value, and no key
            self.names[spot] = f"the draw {draws[eqn.outvars[0]]!r}"
            key = self._keys[spot] = [*source, eqn.invars[0]][0]
            self._drawn.setdefault(key, []).append(spot)
        elif name in BITS:
            self.names[spot] = "random bits"
        elif name == "expectation":
            self.names[spot] = "the result of jscg.expectation"
            read = read[:1]
        elif name in _STATEMENTS:
            spots.append(Spot(eqn.source_info, around))
            for v in read[1:]:
                self._link(v, spots[1])
            read = read[:1]
        elif name == "stop_influence":
            self._stopped.add(spot)
        elif eqn.effects:
            made += [v for v in eqn.invars if _is_ref(v)]
        self._all += spots
        for v in read:
            self._link(v, spot)
        for v in made:
            self._link(spot, v)
        return spots

    def _region(self, eqn: Any, subs: tuple[Program, ...], around: Around) -> list[Spot]:
        name, ends = eqn.primitive.name, [Spot(eqn.source_info, around) for _ in eqn.outvars]
        bodies = subs
        if name == "while":
            stop, body = subs
            stop_consts, consts, carries = split_while(eqn, eqn.invars)
            self._hand([*stop_consts, *carries], stop.invars)
            self._hand([*consts, *carries], body.invars)
            for sub in subs:
                self._again(body.outvars, sub.invars[len(sub.invars) - len(carries) :])
            bodies = (body,)
            for end in ends:
                self._link(stop.outvars[0], end)
        elif name == "cond":
            for sub in subs:
                self._hand(eqn.invars[1:], sub.invars)
            for end in ends:
                self._link(eqn.invars[0], end)
        else:
            self._hand(eqn.invars, subs[0].invars)
        if name == "scan":
            _, carries, _ = split_scan(eqn, subs[0].invars)
            self._again(subs[0].outvars[: len(carries)], carries)
        for body in bodies:
            for v, end in zip(body.outvars, ends, strict=True):
                self._link(v, end)
        self._all += ends
        for end, v in zip(ends, eqn.outvars, strict=True):
            self._link(end, v)
        return ends

    def _again(self, outvars: Sequence[Any], invars: Sequence[Any]) -> None:
        self._hand(outvars, invars)
        made = (pair for pair in zip(outvars, invars, strict=True))
        self._later.update(pair for pair in made if not isinstance(pair[0], Literal))


def row_of(spot: Any) -> tuple[str, str] | None:
    """Where the statement of an equation begins, and the statement; None if it is not known."""
    place = place_of(spot)
    return None if place is None else place.row


def _is_ref(var: Any) -> bool:
    return hasattr(var.aval, "inner_aval")
