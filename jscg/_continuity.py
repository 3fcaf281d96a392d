"""Whether a comparison decides between values that are equal where it turns over.

`where(x > 0, x, 0.1 * x)` is continuous: on the boundary x = 0 both branches are the same.
That is tried out: the elementwise neighbourhood of the comparison is evaluated at pairs of points
on both sides of the boundary, as near to each other as numbers are, and a little farther off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._program import Literal, Program, Uses

_POINTS = 48
_HALVINGS = 40
_FAR = 6  # how many operations a discontinuity may live until it is masked
_DEPTHS = (3, 6, 12)  # how many operations to look back; with less, more values are taken as free
_NEAR = 1e-3  # of the way between two points: where the branches are compared again
# Work on one element at a time.  Shapes do not matter to these:
_SHAPES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "rev"}
_ELEMENTWISE = set(
    """abs acos add add_any and asin asinh atan atan2 atanh cbrt clamp convert_element_type cos cosh
    div eq erf erf_inv erfc exp exp2 expm1 ge gt integer_pow is_finite le lgamma log log1p logistic
    lt max min mul ne neg not or pow rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan
    tanh xor name""".split()
)
_PICKS = {"slice", "dynamic_slice", "gather", "convert_element_type"}
_BOOLEAN = {"and", "or", "not", "xor", "copy", "broadcast_in_dim", "reshape", "squeeze"}
# What makes an infinite value finite again.
_BOUNDING = {"exp", "exp2", "logistic", "tanh", "max", "min", "reduce_max", "reduce_min", "clamp"}


_known: dict[Any, bool] = {}  # by what is computed: the same activation is tried once


def is_continuous(program: Program, index: int, uses: Uses) -> bool:
    """Whether everything that a comparison decides is continuous where it turns over."""
    sinks = _sinks(program, index, uses)
    return bool(sinks) and all(_settles(program, index, sink, uses, _FAR) for sink in sinks)


def _settles(program: Program, index: int, at: int, uses: Uses, far: int) -> bool:
    """Whether the result of an equation is continuous, or all that is made of it is.

    `where(x > 0, sqrt(where(x > 0, x, 1)), 0)` is, although the selection inside is not.
    """
    if _agrees(program, index, at, uses):
        return True
    out = program.eqns[at].outvars[0]
    readers = uses.consumers.get(out, ())
    return (
        far > 0
        and bool(readers)
        and out not in uses.outputs
        and all(program.eqns[i].primitive.name in _ELEMENTWISE | _SHAPES for i in readers)
        and all(_settles(program, index, i, uses, far - 1) for i in readers)
    )


def _sinks(program: Program, index: int, uses: Uses) -> list[int]:
    """The selections that a comparison decides; none if something else depends on it."""
    sinks, todo, decided = set(), [program.eqns[index].outvars[0]], set()
    while todo:
        v = todo.pop()
        if v in decided:
            continue
        decided.add(v)
        if v in uses.outputs:
            return []
        for i in uses.consumers.get(v, ()):
            eqn = program.eqns[i]
            name, out = eqn.primitive.name, eqn.outvars[0]
            if out.aval.dtype == jnp.bool_ and (name in _BOOLEAN or name == "select_n"):
                todo.append(out)
            elif name == "select_n" and jnp.issubdtype(out.aval.dtype, jnp.floating):
                sinks.add(i)
            else:
                return []
    return sorted(sinks)


def _agrees(program: Program, index: int, sink: int, uses: Uses) -> bool:
    return any(_agrees_near(program, index, sink, uses, depth) for depth in _DEPTHS)


def _agrees_near(program: Program, index: int, sink: int, uses: Uses, depth: int) -> bool:
    eqn, out = program.eqns[index], program.eqns[sink].outvars[0]
    steps, leaves = _neighbourhood(program, [*eqn.invars, out], uses, depth)
    if index not in steps:
        return False
    key = (_signature(program, steps, leaves), steps.index(index), steps.index(sink))
    key = (*key, _stays(program, sink, uses))
    if key not in _known:
        _known[key] = _agree(program, index, sink, steps, leaves, key[-1])
        if len(_known) > 1000:
            del _known[next(iter(_known))]
    return _known[key]


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Numbers may be worked out here, and be invalid, whatever the user watches for."""
    with (
        jax.ensure_compile_time_eval(),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
        np.errstate(all="ignore"),
    ):
        yield


def _signature(program: Program, steps: list[int], leaves: dict[Any, Any]) -> Any:
    """What the steps compute, without the names of variables."""
    number = {v: i for i, v in enumerate(leaves)}
    kinds = list(leaves.values())
    out: list[Any] = [tuple((v.aval.dtype, kinds.index(made)) for v, made in leaves.items())]
    for i in steps:
        eqn = program.eqns[i]
        inputs = tuple(
            ("literal", float(v.val), _dtype(v)) if isinstance(v, Literal) else number[v]
            for v in eqn.invars
        )
        made = str(eqn.params.get("new_dtype", "")), str(eqn.params.get("y", ""))
        out.append((eqn.primitive.name, made, inputs))
        number[eqn.outvars[0]] = len(number)
    return tuple(out)


def _agree(program: Program, index: int, sink: int, steps, leaves, stays: bool) -> bool:
    eqn, out = program.eqns[index], program.eqns[sink].outvars[0]
    before = [i for i in steps if i < index and program.eqns[i].outvars[0] is not out]

    def gap(env: dict[Any, Any]) -> Any:
        for i in before:
            _evaluate(program.eqns[i], env)
        a, b = (_read(env, v) for v in eqn.invars)
        return a - b

    def value(env: dict[Any, Any], outcome: bool) -> Any:
        for i in steps:
            _evaluate(program.eqns[i], env)
            if i == index and eqn.primitive.name in {"eq", "ne"}:
                env[eqn.outvars[0]] = np.full(_POINTS, outcome)
        return np.asarray(env[out], np.float64)

    with _aside():
        start, stop, scale = _segments(leaves)
        crossing = _crossing(gap, start, stop)
        if crossing is None:
            return False
        low, high, found = crossing
        tries = [
            (
                value(_between(start, stop, low - off), False),
                value(_between(start, stop, high + off), True),
            )
            for off in (0.0, _NEAR)
        ]
    finite = [np.isfinite(a) & np.isfinite(b) for a, b in tries]
    (no, yes), near = tries
    if stays and np.all((np.isfinite(yes) != np.isfinite(no))[found]):
        return True  # a finite cost never takes that branch
    good = found & np.all(finite, 0)
    if good.sum() < 3:
        return False
    with np.errstate(invalid="ignore"):
        difference = np.abs(yes - no)
        around = np.abs(near[0] - near[1])
    small = 1e-6 * scale + 1e-5 * (np.abs(yes) + np.abs(no))
    return bool(np.all(((difference <= small) | (difference <= 0.2 * around))[good]))


def _stays(program: Program, sink: int, uses: Uses) -> bool:
    """Whether an infinite value of a selection would make the cost infinite.

    The log-density of a bounded law outside of its support is one: that is never seen.
    """
    todo, seen = [program.eqns[sink].outvars[0]], set()
    while todo:
        v = todo.pop()
        for i in uses.consumers.get(v, ()):
            eqn = program.eqns[i]
            if eqn.primitive.name in _BOUNDING or eqn.primitive.name == "select_n":
                return False
            todo += [out for out in eqn.outvars if out not in seen]
            seen.update(eqn.outvars)
    return True


def _neighbourhood(program: Program, atoms: list[Any], uses: Uses, depth: int):
    """The elementwise equations behind some variables, in order, and the variables before them."""
    steps: set[int] = set()
    level = [v for v in atoms if not isinstance(v, Literal)]
    leaves: dict[Any, Any] = {}
    for _ in range(depth):
        below: list[Any] = []
        for v in level:
            i = uses.producers.get(v)
            if i is None or program.eqns[i].primitive.name not in _ELEMENTWISE | _SHAPES:
                leaves[v] = _made(program, v, uses, 4)
            elif i not in steps:
                steps.add(i)
                below += [a for a in program.eqns[i].invars if not isinstance(a, Literal)]
        level = below
    made = {program.eqns[i].outvars[0] for i in steps}
    leaves |= {v: _made(program, v, uses, 4) for v in level if v not in made}
    return sorted(steps), leaves


def _made(program: Program, v: Any, uses: Uses, depth: int) -> Any:
    """How a variable is made, as far as a few steps tell: `th[0]` is the same every time."""
    if isinstance(v, Literal):
        return str(v.val)
    i = uses.producers.get(v)
    eqn = None if i is None else program.eqns[i]
    if eqn is None or depth == 0 or eqn.primitive.name not in _PICKS | _SHAPES:
        return v
    inputs = tuple(_made(program, a, uses, depth - 1) for a in eqn.invars)
    return (eqn.primitive.name, str(eqn.params), eqn.outvars.index(v), inputs)


def _evaluate(eqn: Any, env: dict[Any, Any]) -> None:
    args = [_read(env, v) for v in eqn.invars]
    name = eqn.primitive.name
    if name in _SHAPES or name in {"name", "stop_gradient"}:
        env[eqn.outvars[0]] = args[0]
        return
    params = dict(eqn.params)
    if name == "convert_element_type":
        env[eqn.outvars[0]] = jnp.asarray(args[0]).astype(_wide(params["new_dtype"]))
        return
    env[eqn.outvars[0]] = eqn.primitive.bind(*map(jnp.asarray, args), **params)


def _dtype(v: Any) -> Any:
    return v.aval.dtype


def _wide(dtype: Any) -> Any:
    """Half precision is too coarse to find the boundary."""
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype("float32") if half else dtype


def _read(env: dict[Any, Any], v: Any) -> Any:
    if isinstance(v, Literal):
        return np.full(_POINTS, v.val, _wide(_dtype(v)))
    return env[v]


def _segments(leaves: dict[Any, Any]):
    """Pairs of random points, of sizes from 0.1 to 100."""
    random = np.random.default_rng(0)
    scale = 10.0 ** random.uniform(-1, 2, _POINTS)
    ends = []
    for _ in range(2):
        env, by_kind = {}, {}
        for v, made in leaves.items():
            if made not in by_kind:
                by_kind[made] = scale * random.normal(size=_POINTS)
            values = by_kind[made]
            if v.aval.dtype == jnp.bool_:
                values = values > 0
            env[v] = values.astype(_wide(v.aval.dtype))
        ends.append(env)
    for v in leaves:  # only what is continuous moves
        if not jnp.issubdtype(v.aval.dtype, jnp.floating):
            ends[1][v] = ends[0][v]
    return *ends, scale


def _between(start: dict[Any, Any], stop: dict[Any, Any], at: Any) -> dict[Any, Any]:
    return {
        v: a
        if not jnp.issubdtype(v.aval.dtype, jnp.floating)
        else ((1 - at) * np.asarray(a, np.float64) + at * np.asarray(stop[v], np.float64)).astype(
            _wide(v.aval.dtype)
        )
        for v, a in start.items()
    }


def _crossing(gap, start, stop):
    """Where on each segment the compared values are equal, and whether there is such a place."""
    low, high = np.zeros(_POINTS), np.ones(_POINTS)
    below = np.asarray(gap(_between(start, stop, low)), np.float64)
    above = np.asarray(gap(_between(start, stop, high)), np.float64)
    found = np.isfinite(below) & np.isfinite(above) & (below * above < 0)
    if found.sum() < 3:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        here = np.asarray(gap(_between(start, stop, middle)), np.float64)
        same = np.sign(here) == np.sign(below)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return low, high, found
