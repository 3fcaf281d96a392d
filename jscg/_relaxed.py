"""Programs at relaxed values of a draw: weights of its outcomes in the place of one outcome.

A draw of few outcomes is discrete up to its *edges*, the equations that first make a float of it:
a cast, `where(x, a, b)`, a one-hot code, a table that is looked up.  There an outcome k gives a
value e(k), element by element, and weights r give sum_k r_k e(k).  Where integers are summed before
they become floats, the edge is before the sum, which is then done with floats.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._activity import live_variables
from ._compat import bind
from ._errors import refuse
from ._frame import Frame
from ._indices import SYMBOLIC, Pieces, fold
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._primitives import MARKS
from ._program import MOVES, Literal, Program
from ._relation import Relation
from ._scores import Scorer
from ._source import at_line
from ._uniform import Uniform
from ._weights import LogProb

# What may be done with floats in the place of integers.
_LIFTED = MOVES | {
    "add",
    "concatenate",
    "convert_element_type",
    "cumsum",
    "integer_pow",
    "mul",
    "neg",
    "reduce_prod",
    "reduce_sum",
    "rev",
    "slice",
    "sub",
}


@dataclasses.dataclass(eq=False)
class Edge:
    """Where a draw becomes a float.

    Attributes:
      node: the draw.
      index: of the equation, in the draw's program.
      path: indices of the equations before it that the draw reaches.
      relation: of the float to the draw.
      lifted: indices of equations behind it that take floats in the place of integers.
    """

    node: StochasticNode
    index: int
    path: list[int]
    relation: Relation
    lifted: list[int]

    @property
    def place(self) -> tuple[Program, int]:
        """The equation."""
        return self.node.program, self.index

    @property
    def places(self) -> set[tuple[Program, int]]:
        """This equation and those that are lifted."""
        return {(self.node.program, i) for i in (self.index, *self.lifted)}

    @property
    def var(self) -> Any:
        """The float."""
        return self.node.program.eqns[self.index].outvars[0]

    @property
    def floats(self) -> set[Any]:
        """The variables that are floats in the program, too."""
        made = [self.node.program.eqns[i].outvars[0] for i in (self.index, *self.lifted)]
        return {v for v in made if _is_float(v)}

    def run(self, frame: Frame, scorer: Scorer) -> jax.Array:
        """Puts a float in the place of what the program has computed of the draw.

        Returns:
          The same, of length one along an axis along which the weights are, where that suffices.
        """
        weights, values = frame.relaxed[self.node], self.values(frame, scorer)
        node, shape = self.node, list(self.var.aval.shape)
        axes = tuple(range(len(node.loops), len(self.relation)))
        if all(isinstance(x, Uniform) for x in values):
            for b, size in zip(
                self.relation[axes[0] :] if axes else (), weights[0].shape, strict=True
            ):
                if size == 1 and b is not None:
                    shape[b[0]] = 1
        else:
            weights = [jnp.broadcast_to(w, node.shape) for w in weights]

        # Term by term: a mapped sum over outcomes came out differently in every run with jaxlib
        # 0.12 on CPUs (20,000 samples at once of `draw_feeding_draw_feeding_draw` in the tests).
        products = []
        for w, x in zip(weights, values, strict=True):
            laid = LogProb(w, axes).lay_out(self.relation, tuple(shape))
            if not isinstance(x, Uniform):
                products.append(laid * x)
            elif x.number:
                products.append(laid if x.number == 1 else laid * x.number)
        total = functools.reduce(jnp.add, products, jnp.zeros((), scorer.dtype))
        total = jnp.broadcast_to(total, shape)
        known = frame.env if _is_float(self.var) else frame.soft
        if _is_float(self.var):
            total = total.astype(self.var.aval.dtype)
        known[self.var] = jnp.broadcast_to(total, self.var.aval.shape)
        return total

    def values(self, frame: Frame, scorer: Scorer) -> list[Any]:
        """What each outcome becomes: a number, or an array."""
        return [self._at(frame, x) for x in scorer.probabilities(frame.read)[0]]

    def _at(self, frame: Frame, outcome: Any) -> Any:
        eqns, node, pieces = self.node.program.eqns, self.node, Pieces()
        env: dict[Any, Any] = {node.var: Uniform(np.asarray(outcome).astype(node.var.aval.dtype))}
        for i in [*self.path, self.index]:
            eqn = eqns[i]
            if i == node.position:
                continue
            args = [env[v] if _in(v, env) else frame.read(v) for v in eqn.invars]
            folded = fold(eqn, args, pieces)
            if folded is not None:
                env[eqn.outvars[0]] = folded
                continue
            pairs = zip(args, eqn.invars, strict=True)
            args = [x.fill(v.aval) if isinstance(x, SYMBOLIC) else x for x, v in pairs]
            outs = args[:1] if eqn.primitive.name in MARKS else bind(eqn, *args)
            env.update(zip(eqn.outvars, outs, strict=True))
        found = env[self.var]
        whole = isinstance(found, Uniform) or not isinstance(found, SYMBOLIC)
        return found if whole else found.fill(self.var.aval)


def find_edges(
    program: Program,
    node: StochasticNode,
    estimators: dict[StochasticNode, Any],
    influence: InfluenceMap,
) -> list[Edge]:
    """The edges of a draw, as far as the cost depends on them.

    Args:
      program: the program.
      node: the draw.
      estimators: of this and all other draws that are relaxed.
      influence: of the draws.

    Raises:
      BiasError: where a relaxed value has no meaning.
    """
    part, name = node.program, type(estimators[node]).__name__
    others = estimators.keys() - {node}
    live, producers = live_variables(program), part.producers()
    reached, summed = {node.var}, set()  # integers: element by element, and taken together
    path: list[int] = []
    lifted: list[int] = []
    edges: dict[int, Edge] = {}

    def stop(eqn: Any, why: str):
        return refuse(
            node.what,
            node.eqn,
            f"{name} relaxes it, but {why}{at_line(eqn)}.",
            "make a float of it first, element by element: x.astype(float), jax.nn.one_hot(x, n), "
            "jnp.where(x == k, a, b)",
            "use jscg.estimators.Coupled() or DisARM(), which need no relaxed values",
            fault=eqn,
        )

    def add(index: int) -> bool:
        """Makes the result of an equation an edge, if its elements are still apart."""
        if index not in edges:
            before = [i for i in path if i < index]
            var = part.eqns[index].outvars[0]
            way = [] if index == node.position else [*before, index]
            relation = InfluenceMap.along(node, way, var).get(node)
            if relation is None or not _apart(node, relation, var):
                return False
            edges[index] = Edge(node, index, before, relation, lifted)
        return True

    if _is_float(node.var):
        add(node.position)
        return list(edges.values())
    for index in range(node.position + 1, len(part.eqns)):
        eqn = part.eqns[index]
        apart, together = ([v for v in eqn.invars if _in(v, s)] for s in (reached, summed))
        if not (apart or together) or live.isdisjoint(eqn.outvars):
            continue
        if index in part.subs:
            raise stop(eqn, f"it enters a {eqn.primitive.name} as an integer")
        if eqn.primitive.name == "draw":
            raise stop(eqn, "it is a parameter of another draw as an integer")
        out = eqn.outvars[0]
        met = any(
            not (_is_float(v) or others.isdisjoint(influence[v]))
            for v in eqn.invars
            if not (isinstance(v, Literal) or v in reached)
        )
        if not (together or met) and len(eqn.outvars) == 1:
            if _is_float(out) and add(index):
                continue
            relation = InfluenceMap.along(node, [*path, index], out).get(node)
            if not _is_float(out) and _apart(node, relation, out):
                path.append(index)
                reached.add(out)
                continue
        if eqn.primitive.name not in _LIFTED:
            raise stop(eqn, f"what is drawn meets in {eqn.primitive.name!r} while it is integers")
        lifted.append(index)
        if not _is_float(out):
            summed.add(out)
        if not all([add(producers[v]) for v in apart]):
            raise stop(eqn, f"its elements meet before {eqn.primitive.name!r}")
    if part.parent is not None and not live.isdisjoint((reached | summed) & {*_known(part)}):
        raise stop(part.parent.eqns[part.at], "it leaves a loop or branch as an integer")
    return list(edges.values())


def run_lifted(frame: Frame, eqn: Any) -> None:
    """Runs an equation once more on floats, if it has some in the place of integers."""
    (out,) = eqn.outvars
    soft = [frame.soft[v] for v in eqn.invars if _in(v, frame.soft)]
    if not soft:
        return
    if eqn.primitive.name == "convert_element_type" and not _is_float(out):
        frame.soft[out] = soft[0]
        return
    args = [frame.soft[v] if _in(v, frame.soft) else frame.read(v) for v in eqn.invars]
    (value,) = bind(eqn, *(jnp.asarray(x, soft[0].dtype) for x in args))
    (frame.env if _is_float(out) else frame.soft)[out] = value


def _apart(node: StochasticNode, relation: Relation | None, var: Any) -> bool:
    """Whether every element of a float depends on one element of a draw."""
    taken = set()
    for b, size in zip((relation or ())[len(node.loops) :], node.shape, strict=True):
        if size == 1:
            continue
        if b is None or not isinstance(b[0], int) or b[1:] != (0, 0):
            return False
        if b[0] in taken or var.aval.shape[b[0]] != size:
            return False
        taken.add(b[0])
    return True


def _known(part: Program) -> list[Any]:
    return [v for v in part.outvars if not isinstance(v, Literal)]


def _is_float(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.inexact)


def _in(atom: Any, known: Any) -> bool:
    return not isinstance(atom, Literal) and atom in known
