"""`explain`: why a program is refused, or a draw scored, as lines of the user's own source."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, overload

from ._api import Estimators, options_of
from ._arguments import input_names
from ._awaiting import Awaiting
from ._describe import describe
from ._errors import ArgumentError, ArgumentTypeError, JscgError
from ._infos import CostInfo
from ._last import last_error
from ._nodes import FREE
from ._paths import Flow, Spot, Step, row_of
from ._plan import Plan
from ._trace import trace
from ._trail import Trail

_WIDTH = 100
_TODO = "\nWhat to do instead:\n"


@dataclasses.dataclass(frozen=True)
class Path:
    """A shortest way through the program.

    Attributes:
      title: from where to where it leads.
      steps: its lines, `(where, text, note, refused)` each: the file and the line at which a
        statement begins, the statement, what is said of it ("in a scan of 20 steps", "at the next
        step", or nothing), and whether it is there that the program is refused.
    """

    title: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        width = max(len(step.where) for step in self.steps)
        lines = [f"  {self.title}"]
        for step in self.steps:
            lines += [f"      ({step.note})"] if step.note else []
            line = f"    {'>' if step.refused else ' '} {step.where:{width}}  {step.text}".rstrip()
            lines.append(line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "...")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is said of one draw, or of an error.

    Attributes:
      text: how the draw is estimated and why; what was refused and why.
      paths: how one comes there, and where it goes from there.
    """

    text: str
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return "\n".join([*map(_fill, self.text.split("\n")), *map(str, self.paths)])


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` has found.  Prints as text of at most 100 columns.

    Attributes:
      refused: whether it is of an error.
      findings: one for each draw, in program order, or the one for the error.  Each has a `text`
        and `paths`, and each of these a `title` and `steps`, `(where, text, note, refused)`.
      remedies: what to do instead; empty where nothing is refused.
    """

    refused: bool
    findings: tuple[Finding, ...]
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        text = "\n".join(map(str, self.findings))
        if not self.remedies:
            return text
        todo = [_fill(remedy, "  - ", "    ") for remedy in self.remedies]
        return "\n".join([text, _TODO.strip(), *todo])

    __repr__ = __str__


def _fill(text: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


@overload
def explain(error_or_fun: JscgError | None = None) -> Explanation: ...


@overload
def explain(
    error_or_fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable[..., Explanation]: ...


def explain(
    error_or_fun: JscgError | Callable | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
) -> Explanation | Callable[..., Explanation]:
    """Says why a program was refused, or why its draws are estimated as they are.

    Of an error it shows what is refused and why, the lines by which the draw comes to where the
    program is refused (marked by >) and on to the result, those by which the arguments come there,
    and what to do instead.  Of a function it shows for each draw how its part of the gradient is
    estimated and why, what its parameters depend on, the lines by which the nearest of these
    arguments comes to them, and those by which the draw comes to each cost that it influences.
    Paths are the shortest there are.

    Args:
      error_or_fun: an error that jscg has raised, by default the last one, with no other argument;
        or a function, see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`.
      num_samples: see `surrogate`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`.

    Returns:
      Of an error an `Explanation`.  Of a function, a function with the same arguments, which is
      traced as `grad_expectation` traces it and not run, that returns an `Explanation`; that of the
      error where `grad_expectation` raises one.

    Raises:
      TypeError: it is neither.
      JscgError: the last error is asked for, and there was none.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     q = p**2
      ...     x = jax.random.bernoulli(key, q)
      ...     return jnp.exp(2.0 * x)
      >>> (found,) = jscg.explain(cost)(0.5, jax.random.key(0)).findings
      >>> for path in found.paths:
      ...     print(path.title, *(step.text for step in path.steps), sep=" | ")
      from the argument 'p' to the draw 'x' | q = p**2 | x = jax.random.bernoulli(key, q)
      from the draw 'x' to cost 0 | x = jax.random.bernoulli(key, q) | return jnp.exp(2.0 * x)
    """
    if error_or_fun is None:
        error_or_fun = last_error()
        if error_or_fun is None:
            raise ArgumentError(
                "jscg: there is no error to explain, because no call of jscg has raised one yet. "
                "Call jscg.explain(fun)(*args) for how the draws of a function are estimated."
            )
    if isinstance(error_or_fun, JscgError):
        return _of_error(error_or_fun)
    if isinstance(error_or_fun, BaseException) or not callable(error_or_fun):
        raise ArgumentTypeError(
            "jscg: explain takes an error that jscg has raised, or a function, but got "
            f"{error_or_fun!r}."
        )
    fun = error_or_fun
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums)
    options = dataclasses.replace(options, purpose="first order")

    def explain_fun(*args, **kwargs) -> Explanation:
        try:
            plan = trace(fun, options, args, kwargs)[0].plan
        except JscgError as error:
            return _of_error(error)
        return _of_plan(plan, input_names(fun, options, args, kwargs))

    return Awaiting(explain_fun, "explain", fun)


def _of_error(error: JscgError) -> Explanation:
    text, _, todo = str(error).partition(_TODO)
    remedies = tuple(line.strip().removeprefix("- ") for line in todo.splitlines())
    if error.trail is not None:
        paths = _paths_of(error.trail)
    else:
        row = row_of(error.subject.fault) if error.subject is not None else None
        paths = [Path("where it is refused", (Step(*row, "", True),))] if row is not None else []
    finding = Finding(text, tuple(path for path in paths if path.steps))
    return Explanation(True, (finding,), remedies)


def _paths_of(trail: Trail) -> list[Path]:
    """The paths of an error."""
    flow, fault = trail.flow, trail.fault
    if trail.keys:
        draws = dict.fromkeys([*trail.draw, *fault])
        given = flow.from_argument(trail.draw)
        more = [_path(flow, given, trail.draw)] if given else []
        ways = [_to_result(flow, flow.from_key(spot), [spot]) for spot in draws]
        return [_path(flow, way, list(draws)) for way in ways] + more
    draw, given = trail.draw or _nearest_draw(trail), _to_fault(trail, None)
    if not draw or draw[0] in fault:
        path = _to_result(flow, given or fault[:1], fault)
        return [_path(flow, path, fault)] if path else []
    whole = _to_result(flow, _to_fault(trail, draw) or fault[:1], fault)
    paths = [_path(flow, whole, fault)] if whole else []
    return paths if not given or draw[0] in given else [*paths, _path(flow, given, fault)]


def _to_fault(trail: Trail, starts: Sequence[Spot] | None) -> list[Any]:
    """From some spots, or from an argument, to where the program is refused."""
    flow, ends = trail.flow, trail.fault if trail.through is None else [trail.through]
    path = flow.from_argument(ends) if starts is None else flow.influence(starts, ends)
    if not path or trail.through is None:
        return path
    return path + flow.way([trail.through], trail.fault)[1:]


def _to_result(flow: Flow, path: list[Any], ends: list[Spot]) -> list[Any]:
    """A path, and on to the result from its end, or from another spot of the same equation."""
    onward = flow.influence(path[-1:], [flow.result]) or flow.influence(ends, [flow.result])
    return path + (onward[1:] if onward[:1] == path[-1:] else onward)


def _nearest_draw(trail: Trail) -> list[Spot]:
    """The draw before the place where the program is refused."""
    return _to_fault(trail, list(trail.flow.names))[:1]


def _path(flow: Flow, path: list[Any], refused: list[Spot]) -> Path:
    """A path of an error, with its title."""
    draws = [flow.names[v] for v in path[1:] if v in flow.names and v in refused]
    ends = draws + (["the result"] if path[-1] is flow.result else [])
    to = " and on to ".join(ends or ["where it is refused"])
    return Path(f"from {_start(flow, path[0])} to {to}", flow.steps(path, refused))


def _start(flow: Flow, first: Any) -> str:
    """What to call the start of a path."""
    if first in flow.arguments:
        return f"the argument {flow.arguments[first]!r}"
    unknown = "where it is refused" if isinstance(first, Spot) else "the key"
    return flow.names.get(first, unknown)


def _of_plan(plan: Plan, inputs: list[str | None]) -> Explanation:
    draws, costs, influence, _ = describe(plan, inputs)
    flow = Flow(plan.program, plan.active_inputs, inputs, [node.eqn for node in plan.nodes])
    findings = []
    for node, draw, spots in zip(plan.nodes, draws, flow.wanted, strict=True):
        name = f"the draw {draw.name!r}"
        paths = []
        if node.verdict != FREE and (path := flow.from_argument(spots)):
            paths.append(Path(f"from {_start(flow, path[0])} to {name}", flow.steps(path)))
        for one in influence:
            if one.draw == draw.name:
                steps = _to_cost(flow, spots, costs[one.cost])
                paths.append(Path(f"from {name} to cost {one.cost}", steps))
        text = f"{name} ({draw.family}), {'; '.join(draw.ways)}"
        given = [f"its {k} depends on {', '.join(of)}" for k, of in draw.parameters.items() if of]
        findings.append(Finding("\n".join([text, *given]), tuple(paths)))
    return Explanation(False, tuple(findings), ())


def _to_cost(flow: Flow, spots: list[Spot], cost: CostInfo) -> tuple[Step, ...]:
    """The lines from a draw to a cost, whose own is the last."""
    steps = flow.steps(flow.influence(spots, cost._variables))
    row = cost._place.row if cost._place is not None else None
    return steps if row is None or (steps and steps[-1][:2] == row) else (*steps, Step(*row))
