"""The rewrite: runs a program again with its costs weighted.

Equations that no plan touches are bound as they are.  Control flow that holds draws or costs is
issued anew through JAX's public functions, and carries what the plan routes through it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._compat import bind
from ._costs import CostNode
from ._enumerable import Enumeration
from ._nodes import StochasticNode
from ._plan import Plan, Weight
from ._primitives import replay
from ._program import CHECKPOINTS, CUSTOM, Literal, Program, split_scan, split_while
from ._scores import Scorer
from ._weights import LogProb, box, leave_one_out

_MARKS = {"draw", "baseline", "stop_influence"}


@dataclasses.dataclass
class Scope:
    """Log-probs from outside of a program.

    Attributes:
      current: of draws that were made before, outside.
      past: of the earlier steps of a loop around it.
    """

    current: dict[StochasticNode, LogProb]
    past: dict[tuple[Any, StochasticNode], LogProb]


@dataclasses.dataclass
class Frame:
    """One program being run.

    Attributes:
      program: the program.
      env: its values.
      shadows: its weighted values.
      scope: the log-probs known so far.
      raw: log-probs of its own draws, with all axes.
      extra: terms to add to the result (baselines).
    """

    program: Program
    env: dict[Any, Any]
    shadows: dict[Any, Any]
    scope: Scope
    raw: dict[StochasticNode, jax.Array]
    extra: Any

    def read(self, atom: Any) -> Any:
        """The value of a variable or literal."""
        return atom.val if isinstance(atom, Literal) else self.env[atom]


class Rewriter:
    """Runs the program of a plan with weighted costs."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.shadows = plan.finder.shadows
        producers = plan.finder.producers
        enumerated = {e.node for w in plan.weights.values() for e in w.enumerations}
        wanted = plan.scored | enumerated
        self.scorers = {n: Scorer(n, producers[n.program]) for n in plan.nodes if n in wanted}
        self.scored = {n.var: n for n in plan.scored}
        self.baselines = {
            n.program.eqns[b.position].outvars[0]: b for n, b in plan.baselines.items()
        }
        self.touched: dict[tuple[Program, int], bool] = {}
        self.live: dict[Program, list[int]] = {}
        for part in plan.program.walk():
            for index, subs in part.subs.items():
                self.touched[part, index] = part.eqns[index].primitive.name not in CUSTOM and any(
                    inner in self.shadows.outputs
                    or any(eqn.primitive.name in _MARKS for eqn in inner.eqns)
                    for sub in subs
                    for inner in sub.walk()
                )

    def __call__(self, args: list[Any]) -> list[Any]:
        """Runs the program; its first output is the surrogate."""
        frame = self.run(self.plan.program, args, {}, Scope({}, {}))
        first = self.shadow(frame, self.plan.program.outvars[0])
        if frame.extra is not None:
            first = first + frame.extra.astype(first.dtype)
        return [first, *(frame.read(v) for v in self.plan.program.outvars[1:])]

    # Running one program.

    def run(self, program: Program, args: list[Any], shadows: dict[int, Any], scope: Scope):
        frame = Frame(
            program,
            dict(zip(program.invars, args, strict=True)) | program.consts,
            {program.invars[i]: value for i, value in shadows.items()},
            Scope(dict(scope.current), scope.past),
            {},
            None,
        )
        done = 0
        for index in self.live_equations(program):
            eqn = program.eqns[index]
            if index in program.subs and self.touched[program, index]:
                self.weight_costs(frame, done, index)
                done = index
            self.step(frame, index, eqn)
        self.weight_costs(frame, done, len(program.eqns))
        return frame

    def step(self, frame: Frame, index: int, eqn: Any) -> None:
        name = eqn.primitive.name
        args = [frame.read(v) for v in eqn.invars]
        if name == "draw":
            outs = [replay(*args, **eqn.params)]
        elif name in _MARKS:
            outs = args[:1]
        elif index in frame.program.subs and self.touched[frame.program, index]:
            outs = self.region(frame, index, eqn, args)
        else:
            outs = bind(eqn, *args)
        frame.env.update(zip(eqn.outvars, outs, strict=True))
        if name == "draw" and eqn.outvars[0] in self.scored:
            node = self.scored[eqn.outvars[0]]
            self.set_log_prob(frame, node, self.scorers[node].log_prob(outs[0], frame.read))
        elif name == "baseline" and eqn.outvars[0] in self.baselines:
            self.subtract_baseline(frame, self.baselines[eqn.outvars[0]])

    def set_log_prob(self, frame: Frame, node: StochasticNode, log_prob: jax.Array) -> None:
        frame.raw[node] = log_prob
        first = len(node.loops)
        axes = tuple(range(first, first + len(node.shape)))
        frame.scope.current[node] = LogProb(log_prob, axes).keep(self.plan.kept[node])

    def subtract_baseline(self, frame: Frame, baseline: Any) -> None:
        node, log_prob = baseline.node, frame.raw[baseline.node]
        b = jnp.asarray(frame.read(baseline.atom), log_prob.dtype)
        b = b.reshape(b.shape + (1,) * (log_prob.ndim - b.ndim))
        fixed = lax.stop_gradient(b)
        term = jnp.sum(fixed * (1.0 - box(log_prob))) + jnp.sum(b**2 - fixed**2)
        self.add_extra(frame, baseline.scale * term)
        count = log_prob.size / max(b.size, 1)
        self.set_log_prob(frame, node, log_prob - (2.0 / count) * (b - fixed))
        frame.raw[node] = log_prob

    def add_extra(self, frame: Frame, term: Any) -> None:
        frame.extra = term if frame.extra is None else frame.extra + term

    def live_equations(self, program: Program) -> list[int]:
        """Equations whose results are used, once sums of costs are computed as shadows."""
        if program not in self.live:
            outputs = self.shadows.outputs.get(program, set())
            root = program.parent is None
            needed = {
                v
                for i, v in enumerate(program.outvars)
                if not (root and i in outputs and self.has_shadow(program, v))
                and not isinstance(v, Literal)
            }
            for atom, cost in self.shadows.costs.get(program, {}).items():
                if atom is not None:
                    needed.add(atom)
                for e in self.plan.weights[cost].enumerations:
                    for i in e.path:
                        needed.update(_variables(program.eqns[i].invars))
            for scorer in self.scorers.values():
                if scorer.node.program is program:
                    needed.update(_variables(scorer.atoms))
                    needed.add(scorer.node.var)
            live = []
            for index in reversed(range(len(program.eqns))):
                eqn = program.eqns[index]
                parts = [self.shadows.linear.get(v) for v in eqn.outvars]
                used = any(v in needed for v in eqn.outvars)
                held = index in program.subs and self.touched[program, index]
                if used or eqn.effects or held or eqn.outvars[0] in self.baselines:
                    live.append(index)
                    needed.update(_variables(eqn.invars))
                elif parts[0] is not None:  # only its shadow is used: its factors are needed
                    factors = [
                        v
                        for i, v in enumerate(eqn.invars)
                        if i not in parts[0] or not self.has_shadow(program, v)
                    ]
                    needed.update(_variables(factors))
            self.live[program] = live[::-1]
        return self.live[program]

    # Costs.

    def has_shadow(self, program: Program, atom: Any) -> bool:
        if isinstance(atom, Literal):
            return None in self.shadows.costs.get(program, {})
        if atom in self.shadows.linear or atom in self.shadows.costs.get(program, {}):
            return True
        split = self.plan.finder.splits.get(atom)
        return split is not None and (split.reach is not None or bool(split.carries))

    def shadow(self, frame: Frame, atom: Any) -> Any:
        """A value with its costs weighted; the value itself where it has none."""
        if isinstance(atom, Literal):
            cost = self.shadows.costs.get(frame.program, {}).get(None)
            return atom.val if cost is None else self.weighted(frame, cost, atom.val)
        return frame.shadows[atom] if atom in frame.shadows else frame.env[atom]

    def weight_costs(self, frame: Frame, start: int, stop: int) -> None:
        """Computes the shadows of the results of equations `start` to `stop`."""
        costs = self.shadows.costs.get(frame.program, {})
        if start == 0:
            for var in frame.program.invars:
                if var in costs:
                    frame.shadows[var] = self.weighted(frame, costs[var], frame.env[var])
        for eqn in itertools.islice(frame.program.eqns, start, stop):
            for var in eqn.outvars:
                if var in costs:
                    frame.shadows[var] = self.weighted(frame, costs[var], frame.env[var])
                elif var in self.shadows.linear:
                    parts = self.shadows.linear[var]
                    args = [
                        self.shadow(frame, v) if i in parts else frame.read(v)
                        for i, v in enumerate(eqn.invars)
                    ]
                    frame.shadows[var] = self.bind_linear(eqn, args)[eqn.outvars.index(var)]

    def bind_linear(self, eqn: Any, args: list[Any]) -> list[Any]:
        return args[:1] if eqn.primitive.name in _MARKS else bind(eqn, *args)

    def weighted(self, frame: Frame, cost: CostNode, value: Any) -> Any:
        """One cost with its weight."""
        weight = self.plan.weights[cost]
        if weight.enumerations:
            value = self.expected(frame, cost, weight.enumerations)
        factor = self.factor(frame, weight, tuple(np.shape(value)))
        if factor is None:
            return value
        value = jnp.asarray(value)
        return value * factor.astype(value.dtype)

    def factor(self, frame: Frame, weight: Weight, shape: tuple[int, ...]) -> Any:
        if not weight.scores:
            return None
        sums: list[Any] = [None, None]
        for score in weight.scores:
            parts = [frame.scope.past[loop, score.node] for loop in score.past]
            if score.current:
                parts.append(frame.scope.current[score.node])
            for part in parts:
                laid = part.lay_out(score.relation, shape)
                alone = score in weight.others
                sums[alone] = laid if sums[alone] is None else sums[alone] + laid
        compared, plain = sums
        out = None if plain is None else box(plain)
        if compared is not None:
            full = [
                n if i == weight.leave_one_out else m
                for i, (n, m) in enumerate(zip(shape, compared.shape, strict=True))
            ]
            assert weight.leave_one_out is not None
            each = leave_one_out(jnp.broadcast_to(compared, full), weight.leave_one_out)
            out = each if out is None else out * each
        return out

    def expected(self, frame: Frame, cost: CostNode, enumerations: list[Enumeration]) -> Any:
        """The expectation of a cost over the draws that are enumerated."""
        path = sorted({i for e in enumerations for i in e.path})
        shape = tuple(cost.atom.aval.shape)

        def at(drawn: dict[Any, Any]) -> Any:
            env = dict(drawn)

            def read(atom):
                return (
                    env[atom]
                    if not isinstance(atom, Literal) and atom in env
                    else (frame.read(atom))
                )

            for index in path:
                eqn = frame.program.eqns[index]
                args = [read(v) for v in eqn.invars]
                if eqn.primitive.name == "draw":
                    outs = [replay(*args, **eqn.params)]
                elif eqn.primitive.name in _MARKS:
                    outs = args[:1]
                else:
                    outs = bind(eqn, *args)
                env.update(zip(eqn.outvars, outs, strict=True))
            return read(cost.atom)

        def over(rest: list[Enumeration], drawn: dict[Any, Any]) -> Any:
            if not rest:
                return at(drawn)
            first, *others = rest
            values, probs = self.outcomes(frame, first)

            def term(x, p):
                weight = p.lay_out(first.relation, shape).astype(cost.atom.aval.dtype)
                inner = over(others, drawn | {first.node.var: x})
                # An impossible outcome adds nothing, not even 0 * inf.
                return weight * jnp.where((weight == 0) & ~jnp.isfinite(inner), 0, inner)

            terms = [
                term(x, LogProb(p, probs.axes)) for x, p in zip(values, probs.array, strict=True)
            ]
            return functools.reduce(jnp.add, terms)

        return over(enumerations, {})

    def outcomes(self, frame: Frame, e: Enumeration) -> tuple[list[Any], LogProb]:
        """The joint outcomes of a draw, and their probabilities on its aligned axes."""
        node = e.node
        values, probs = self.scorers[node].support(frame.read)
        mixed = [a for a in range(len(node.shape)) if a not in e.aligned]
        sizes = [node.shape[a] for a in mixed]
        count = int(np.prod(sizes, dtype=int))
        ways = np.array(list(itertools.product(range(len(values)), repeat=count)), int)
        probs = jnp.moveaxis(probs, [1 + a for a in mixed], range(-len(mixed), 0))
        probs = probs.reshape(*probs.shape[: 1 + len(e.aligned)], count)
        joint = functools.reduce(jnp.multiply, [probs[ways[:, m], ..., m] for m in range(count)])
        axes = tuple(len(node.loops) + a for a in e.aligned)
        small = [1 if a in e.aligned else node.shape[a] for a in range(len(node.shape))]
        drawn = [
            jnp.broadcast_to(values[way].reshape(small), node.var.aval.shape).astype(
                node.var.aval.dtype
            )
            for way in ways
        ]
        return drawn, LogProb(joint, axes)

    # Control flow.

    def region(self, frame: Frame, index: int, eqn: Any, args: list[Any]) -> list[Any]:
        subs = frame.program.subs[index]
        name = eqn.primitive.name
        if name == "scan":
            return self.scan(frame, eqn, subs[0], args)
        if name == "while":
            return self.while_loop(frame, eqn, subs, args)
        operands = args[1:] if name == "cond" else args
        given = eqn.invars[1:] if name == "cond" else eqn.invars
        shadows = [self.input_shadows(frame, sub, given) for sub in subs]
        nodes = {n: None for sub in subs for n in self.plan.exports.get(sub, ())}

        def branch(sub, shadows):
            def run(*operands):
                inner = self.run(sub, list(operands), shadows, frame.scope)
                return self.results(inner, nodes, eqn.outvars, subs)

            return run

        runs = [branch(sub, s) for sub, s in zip(subs, shadows, strict=True)]
        if name in CHECKPOINTS:
            again = jax.checkpoint(
                runs[0], prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
            )
            results = again(*operands)
        else:
            results = lax.switch(args[0], runs, *operands)
        outs, made, exports, extra = results
        self.accept(frame, eqn, subs, outs, made)
        for node, array in zip(nodes, exports, strict=True):
            axes = self.export_axes(node, subs[0].path[:-1])
            frame.scope.current[node] = LogProb(array, axes)
        if self.holds_baseline(subs):
            self.add_extra(frame, extra)
        return outs

    def holds_baseline(self, subs) -> bool:
        inside = {inner for sub in subs for inner in sub.walk()}
        return any(n.program in inside for n in self.plan.baselines)

    def results(self, inner: Frame, nodes, outvars, subs):
        outs = [
            jnp.asarray(inner.read(v), out.aval.dtype) if not _is_key(out) else inner.read(v)
            for v, out in zip(inner.program.outvars, outvars, strict=True)
        ]
        made = [
            jnp.asarray(self.shadow(inner, inner.program.outvars[k]), outvars[k].aval.dtype)
            for k in self.shadow_outputs(subs)
        ]
        exports = [self.export(inner, node) for node in nodes]
        extra = jnp.float32(0) if inner.extra is None else inner.extra.astype(jnp.float32)
        return outs, made, exports, extra

    def shadow_outputs(self, subs) -> list[int]:
        return sorted({k for sub in subs for k in self.shadows.outputs.get(sub, ())})

    def accept(self, frame: Frame, eqn, subs, outs, made) -> None:
        for k, value in zip(self.shadow_outputs(subs), made, strict=True):
            frame.shadows[eqn.outvars[k]] = value

    def input_shadows(self, frame: Frame, sub: Program, operands: list[Any]) -> dict[int, Any]:
        return {i: self.shadow(frame, operands[i]) for i in self.shadows.inputs.get(sub, ())}

    def export_axes(self, node: StochasticNode, path: tuple[Program, ...]) -> tuple[int, ...]:
        """Which axes a log-prob has when it stands in the last program of `path`."""
        outside = sum(p.loop is not None for p in path)
        return tuple(
            a
            for a in range(outside, len(node.loops) + len(node.shape))
            if a in self.plan.kept[node]
        )

    def export(self, inner: Frame, node: StochasticNode) -> jax.Array:
        """A log-prob for the program outside; zeros from a branch without that draw."""
        axes = self.export_axes(node, inner.program.path)
        if node in inner.scope.current and inner.program in node.program.path:
            return inner.scope.current[node].keep(axes).array
        sizes = [*(loop.length for loop in node.loops), *node.shape]
        return jnp.zeros([sizes[a] for a in axes], self.scorers[node].dtype)

    def scan(self, frame: Frame, eqn: Any, body: Program, args: list[Any]) -> list[Any]:
        plan, loop = self.plan, body.loop
        assert loop is not None
        consts, init, xs = split_scan(eqn, args)
        given = self.input_shadows(frame, body, eqn.invars)
        first, last = len(consts), len(consts) + len(init)
        fixed = {i: v for i, v in given.items() if i < first}
        totals = {
            i: jnp.asarray(v, body.invars[i].aval.dtype)
            for i, v in given.items()
            if first <= i < last
        }
        scanned = {i: v for i, v in given.items() if i >= last}
        running = plan.running.get(body, [])
        sums = {n: self.zero_past(n) for n in running}
        steps, scope = self.imports(frame, body)
        nodes = plan.exports.get(body, [])
        has_extra = self.holds_baseline([body])

        def step(carry, x):
            carried, totals, sums = carry
            x, scanned, steps = x
            past = scope.past | {(loop, n): LogProb(s, self.past_axes(n)) for n, s in sums.items()}
            current = scope.current | {n: LogProb(s, axes[n]) for n, s in steps.items()}
            inner = self.run(
                body, [*consts, *carried, *x], fixed | totals | scanned, Scope(current, past)
            )
            outs, made, exports, extra = self.results(inner, nodes, outvars, [body])
            shadow = dict(zip(self.shadow_outputs([body]), made, strict=True))
            totals = {i: shadow[i - first] for i in totals}
            stacked = [v for k, v in shadow.items() if k >= len(init)]
            sums = {
                n: s + inner.scope.current[n].keep(self.past_axes(n)).array
                if n in inner.scope.current
                else s
                for n, s in sums.items()
            }
            ys = (outs[len(init) :], stacked, exports, extra if has_extra else None)
            return (outs[: len(init)], totals, sums), ys

        axes = {n: s.axes[1:] for n, s in steps.items()}
        outvars = body.outvars
        (carried, totals, _), (ys, stacked, exports, extra) = lax.scan(
            step,
            (init, totals, sums),
            (xs, scanned, {n: s.array for n, s in steps.items()}),
            length=eqn.params["length"],
            reverse=eqn.params["reverse"],
            unroll=eqn.params["unroll"],
        )
        positions = self.shadow_outputs([body])
        for i, v in totals.items():
            frame.shadows[eqn.outvars[i - first]] = v
        later = [k for k in positions if k >= len(init)]
        for k, v in zip(later, stacked, strict=True):
            frame.shadows[eqn.outvars[k]] = v
        for node, array in zip(nodes, exports, strict=True):
            inside = self.export_axes(node, body.path)
            axis = node.loops.index(loop)
            frame.scope.current[node] = LogProb(array, (axis, *inside)).keep(
                self.export_axes(node, body.path[:-1])
            )
        if has_extra:
            self.add_extra(frame, jnp.sum(jnp.asarray(extra)))
        return [*carried, *ys]

    def past_axes(self, node: StochasticNode) -> tuple[int, ...]:
        """A running sum keeps axes of the draw's shape only."""
        return tuple(a for a in sorted(self.plan.kept[node]) if a >= len(node.loops))

    def zero_past(self, node: StochasticNode) -> jax.Array:
        shape = [node.shape[a - len(node.loops)] for a in self.past_axes(node)]
        return jnp.zeros(shape, self.scorers[node].dtype)

    def imports(self, frame: Frame, body: Program):
        """Log-probs from outside that a loop takes step by step, and the rest."""
        assert body.loop is not None
        steps, rest = {}, dict(frame.scope.current)
        for node, wish in self.plan.imports.get(body, {}).items():
            for axis, reach in wish.items():
                log_prob = frame.scope.current[node]
                if axis in log_prob.axes:
                    steps[node] = log_prob.band(axis, reach, body.loop.length)
                    del rest[node]
        return steps, Scope(rest, frame.scope.past)

    def while_loop(self, frame: Frame, eqn: Any, subs, args: list[Any]) -> list[Any]:
        cond, body = subs
        cond_consts, consts, init = split_while(eqn, args)

        def go_on(carry):
            inner = self.run(cond, [*cond_consts, *carry], {}, frame.scope)
            return inner.read(cond.outvars[0])

        def step(carry):
            inner = self.run(body, [*consts, *carry], {}, frame.scope)
            return [inner.read(v) for v in body.outvars]

        return list(lax.while_loop(go_on, step, init))


def _is_key(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jax.dtypes.prng_key)


def _variables(atoms) -> list[Any]:
    return [a for a in atoms if not isinstance(a, Literal)]
