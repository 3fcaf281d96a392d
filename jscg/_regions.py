"""Control flow, issued anew through JAX's public functions with what the plan routes through it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._batched import scan_in_parts
from ._compat import bind
from ._frame import Frame
from ._nodes import StochasticNode
from ._program import CHECKPOINTS, Program, split_scan, split_while
from ._sharding import like
from ._stacked import Steps, scan_whole
from ._weights import LogProb


def region(rw: Any, frame: Frame, index: int, eqn: Any, args: list[Any]) -> list[Any]:
    subs = frame.program.subs[index]
    name = eqn.primitive.name
    if name == "scan":
        return scan(rw, frame, eqn, subs[0], args)
    if name == "while":
        return while_loop(rw, frame, eqn, subs, args)
    operands = args[1:] if name == "cond" else args
    given = eqn.invars[1:] if name == "cond" else eqn.invars
    shadows = [input_shadows(rw, frame, sub, given) for sub in subs]
    nodes = {n: None for sub in subs for n in exported(rw, sub)}

    def branch(sub, shadows):
        def run(*operands):
            inner = rw.run(sub, list(operands), shadows, frame.scope)
            return results(rw, inner, nodes, eqn.outvars, subs)

        return run

    runs = [branch(sub, s) for sub, s in zip(subs, shadows, strict=True)]
    if name in CHECKPOINTS:
        again = jax.checkpoint(
            runs[0], prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
        )
        made_inside = again(*operands)
    else:
        made_inside = lax.switch(args[0], runs, *operands)
    outs, made, exports, extra, found = made_inside
    accept(rw, frame, eqn, subs, outs, made)
    for node, array in zip(nodes, exports, strict=True):
        axes = export_axes(rw, node, subs[0].path[:-1])
        frame.scope.current[node] = LogProb(array, axes)
    frame.found.update(found)
    if adds_extra(rw, subs):
        rw.add_extra(frame, extra)
    return outs


def within(nodes: Iterable[StochasticNode], subs) -> list[StochasticNode]:
    """The draws that stand in some programs, or in programs within."""
    inside = {inner for sub in subs for inner in sub.walk()}
    return [n for n in nodes if n.program in inside]


def adds_extra(rw: Any, subs) -> bool:
    return bool(within(rw.adding, subs))


def exported(rw: Any, sub: Program) -> list[StochasticNode]:
    return [n for n in rw.plan.exports.get(sub, ()) if n in rw.weighing]


def results(rw: Any, inner: Frame, nodes, outvars, subs):
    outs = [
        jnp.asarray(inner.read(v), out.aval.dtype) if not _is_key(out) else inner.read(v)
        for v, out in zip(inner.program.outvars, outvars, strict=True)
    ]
    made = [
        like(
            jnp.asarray(rw.shadow(inner, inner.program.outvars[k]), outvars[k].aval.dtype),
            outvars[k].aval,
        )
        for k in shadow_outputs(rw, subs)
    ]
    exports = [export(rw, inner, node) for node in nodes]
    extra = jnp.float32(0) if inner.extra is None else inner.extra.astype(jnp.float32)
    for node in within(rw.adding, subs):  # draws and costs; of one type in all branches
        extra = like(extra, node.aval, ())
    found = {n: inner.found.get(n, rw.nothing(n)) for n in within(rw.choosing, subs)}
    return outs, made, exports, extra, found


def shadow_outputs(rw: Any, subs) -> list[int]:
    return sorted({k for sub in subs for k in rw.shadows.outputs.get(sub, ())})


def accept(rw: Any, frame: Frame, eqn, subs, outs, made) -> None:
    for k, value in zip(shadow_outputs(rw, subs), made, strict=True):
        frame.shadows[eqn.outvars[k]] = value


def input_shadows(rw: Any, frame: Frame, sub: Program, operands: list[Any]) -> dict[int, Any]:
    return {i: rw.shadow(frame, operands[i]) for i in rw.shadows.inputs.get(sub, ())}


def export_axes(rw: Any, node: StochasticNode, path: tuple[Program, ...]) -> tuple[int, ...]:
    """Which axes a log-prob has when it stands in the last program of `path`."""
    outside = sum(p.loop is not None for p in path)
    return tuple(
        a for a in range(outside, len(node.loops) + len(node.shape)) if a in rw.plan.kept[node]
    )


def export(rw: Any, inner: Frame, node: StochasticNode) -> jax.Array:
    """A log-prob for the program outside; zeros from a branch without that draw."""
    axes = export_axes(rw, node, inner.program.path)
    if node in inner.scope.current and inner.program in node.program.path:
        return inner.scope.current[node].keep(axes).array
    return node.zeros(rw.scorers[node].dtype, axes)


def scan(rw: Any, frame: Frame, eqn: Any, body: Program, args: list[Any]) -> list[Any]:
    plan, loop = rw.plan, body.loop
    assert loop is not None
    consts, init, xs = split_scan(eqn, args)
    shadowed = input_shadows(rw, frame, body, eqn.invars)
    first, last = len(consts), len(consts) + len(init)
    fixed = {i: v for i, v in shadowed.items() if i < first}
    totals = {
        i: jnp.asarray(v, body.invars[i].aval.dtype)
        for i, v in shadowed.items()
        if first <= i < last
    }
    scanned = {i: v for i, v in shadowed.items() if i >= last}
    running = [n for n in plan.running.get(body, ()) if n in rw.weighing]
    sums = {n: zero_past(rw, n) for n in running}
    steps, scope = imports(rw, frame, body)
    nodes = exported(rw, body)
    has_extra = adds_extra(rw, [body])
    named = within(scope.given, [body])
    given = [scope.given[n] for n in named]

    def step(consts, carry, x):
        carried, (totals, sums) = carry
        x, scanned, steps, given = x
        past = scope.past | {(loop, n): LogProb(s, past_axes(rw, n)) for n, s in sums.items()}
        current = scope.current | {n: LogProb(s, axes[n]) for n, s in steps.items()}
        here = scope.given | dict(zip(named, given, strict=True))
        inside = dataclasses.replace(scope, current=current, past=past, given=here)
        inner = rw.run(body, [*consts, *carried, *x], fixed | totals | scanned, inside)
        outs, made, exports, extra, found = results(rw, inner, nodes, outvars, [body])
        shadow = dict(zip(shadow_outputs(rw, [body]), made, strict=True))
        totals = {i: shadow[i - first] for i in totals}
        stacked = [v for k, v in shadow.items() if k >= len(init)]
        sums = {
            n: s + inner.scope.current[n].keep(past_axes(rw, n)).array
            if n in inner.scope.current
            else s
            for n, s in sums.items()
        }
        ys = (outs[len(init) :], stacked, exports, extra if has_extra else None, found)
        return (outs[: len(init)], (totals, sums)), ys

    axes = {n: s.axes[1:] for n, s in steps.items()}
    outvars = body.outvars
    start, all_xs = (
        (init, (totals, sums)),
        (xs, scanned, {n: s.array for n, s in steps.items()}, given),
    )
    way = Steps(loop.length, loop.reverse, eqn.params["unroll"])
    if rw.differentiated and within(rw.weighing, [body]):
        known = [v in plan.active for v in body.invars]
        active = [*known[:last], *[True] * len(jax.tree.leaves((totals, sums))), *known[last:]]
        active += [True] * (len(jax.tree.leaves(all_xs)) - len(xs))
        ends, made = scan_in_parts(step, way, consts, start, all_xs, active)
    else:
        ends, made = scan_whole(functools.partial(step, consts), way, start, all_xs)
    carried, (totals, _) = ends
    ys, stacked, exports, extra, found = made
    positions = shadow_outputs(rw, [body])
    for i, v in totals.items():
        frame.shadows[eqn.outvars[i - first]] = v
    later = [k for k in positions if k >= len(init)]
    for k, v in zip(later, stacked, strict=True):
        frame.shadows[eqn.outvars[k]] = v
    for node, array in zip(nodes, exports, strict=True):
        inside = export_axes(rw, node, body.path)
        axis = node.loops.index(loop)
        frame.scope.current[node] = LogProb(array, (axis, *inside)).keep(
            export_axes(rw, node, body.path[:-1])
        )
    frame.found.update(found)
    if has_extra:
        rw.add_extra(frame, jnp.sum(jnp.asarray(extra)))
    return [*carried, *ys]


def past_axes(rw: Any, node: StochasticNode) -> tuple[int, ...]:
    """A running sum keeps axes of the draw's shape only."""
    return tuple(a for a in sorted(rw.plan.kept[node]) if a >= len(node.loops))


def zero_past(rw: Any, node: StochasticNode) -> jax.Array:
    return node.zeros(rw.scorers[node].dtype, past_axes(rw, node))


def imports(rw: Any, frame: Frame, body: Program):
    """Log-probs from outside that a loop takes step by step, and the rest."""
    assert body.loop is not None
    steps, rest = {}, dict(frame.scope.current)
    for node, wish in rw.plan.imports.get(body, {}).items():
        if node not in rw.weighing:
            continue
        for axis, reach in wish.items():
            log_prob = frame.scope.current[node]
            if axis in log_prob.axes:
                others = [a for a in log_prob.axes if a != axis]
                steps[node] = log_prob.order([axis, *others]).band(axis, reach, body.loop.length)
                del rest[node]
    return steps, dataclasses.replace(frame.scope, current=rest)


def while_loop(rw: Any, frame: Frame, eqn: Any, subs, args: list[Any]) -> list[Any]:
    cond, body = subs
    if cond.outvars[0].aval.shape:  # mapped by vmap: no public function makes such a loop
        return bind(eqn, *args)
    cond_consts, consts, init = split_while(eqn, args)

    def go_on(carry):
        inner = rw.run(cond, [*cond_consts, *carry], {}, frame.scope)
        return inner.read(cond.outvars[0])

    def step(carry):
        inner = rw.run(body, [*consts, *carry], {}, frame.scope)
        return [inner.read(v) for v in body.outvars]

    return list(lax.while_loop(go_on, step, init))


def _is_key(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jax.dtypes.prng_key)
