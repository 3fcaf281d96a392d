"""Values tried out on both sides of the boundary where a comparison turns over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._program import MOVES, Literal, Program

_POINTS = 48
_PARTS, _ROUNDS = 32, 8  # of a segment, in which its crossing is looked for: to 1 in 10^12
_NEAR = 1e-3  # of the way between two points: where the branches are compared again
SHAPES = MOVES | {"rev"}  # work is on one element at a time, to which they do nothing


def agree(program: Program, index: int, sink: int, steps, leaves, stays: bool) -> bool:
    """Whether a selection has the same value on both sides of where a comparison turns over.

    Args:
      program: the program.
      index: the comparison.
      sink: the selection, or what is made of it.
      steps: the equations to evaluate, in order, both of these among them.
      leaves: the variables before them, and how each is made.
      stays: whether an infinite value of the selection makes the cost infinite.
    """
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

    if not leaves:
        return False
    with aside():
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


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Numbers may be worked out here, and be invalid, whatever the user watches for."""
    with (
        jax.ensure_compile_time_eval(),
        # Within a `shard_map` arrays would belong to its mesh.
        jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
        np.errstate(all="ignore"),
    ):
        yield


def _evaluate(eqn: Any, env: dict[Any, Any]) -> None:
    args = [_read(env, v) for v in eqn.invars]
    name = eqn.primitive.name
    if name in SHAPES or name == "stop_gradient":
        env[eqn.outvars[0]] = args[0]
        return
    params = dict(eqn.params)
    if name in {"stack", "argmax"}:  # along an axis of their own
        fun = np.stack if name == "stack" else np.argmax
        env[eqn.outvars[0]] = fun(args if name == "stack" else args[0], axis=0)
        return
    if name == "convert_element_type":
        env[eqn.outvars[0]] = jnp.asarray(args[0]).astype(_wide(params["new_dtype"]))
        return
    env[eqn.outvars[0]] = eqn.primitive.bind(*map(jnp.asarray, args), **params)


def _wide(dtype: Any) -> Any:
    """Half precision is too coarse to find the boundary."""
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype("float32") if half else dtype


def dtype_of(v: Any) -> Any:
    """Of a variable or literal."""
    return v.aval.dtype


def _read(env: dict[Any, Any], v: Any) -> Any:
    if isinstance(v, Literal):
        count = len(next(iter(env.values())))
        return np.full(count, v.val, _wide(dtype_of(v)))
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
    """The points at some places of their segments, `at`, whose last axis is that of segments."""
    found = {}
    for v, a in start.items():
        if jnp.issubdtype(v.aval.dtype, jnp.floating):
            moved = (1 - at) * np.asarray(a, np.float64) + at * np.asarray(stop[v], np.float64)
            found[v] = moved.astype(_wide(v.aval.dtype)).ravel()
        else:
            found[v] = np.broadcast_to(a, at.shape).ravel()
    return found


def _crossing(gap, start, stop):
    """Where each segment leaves one side and where it enters the other, and which do both.

    Both places are searched for: in between, rounding or a plateau makes the gap zero.
    """

    def side(at: Any) -> Any:
        return np.sign(np.asarray(gap(_between(start, stop, at)))).reshape(at.shape)

    below, above = (side(np.full(_POINTS, at)) for at in (0.0, 1.0))
    found = below * above < 0
    if found.sum() < 3:
        return None
    leaves = _turn(lambda at: side(at) == below)[0]
    enters = _turn(lambda at: side(at) != above)[1]
    return leaves, enters, found


def _turn(before) -> tuple[Any, Any]:
    """A place where something holds that holds at 0, and one hardly farther where it does not."""
    low, high = np.zeros(_POINTS), np.ones(_POINTS)
    parts = np.arange(_PARTS + 1)[:, None] / _PARTS
    for _ in range(_ROUNDS):
        grid = low + parts * (high - low)
        grid[-1] = high
        here = np.concatenate([before(grid[1:-1]), np.zeros((1, _POINTS), bool)])
        last = np.argmin(here, 0)[None]
        low, high = (np.take_along_axis(grid, last + i, 0)[0] for i in (0, 1))
    return low, high
