"""Stochastic nodes: the draws of a program, named, and what each needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ._activity import rounded_variables
from ._errors import refuse
from ._program import CUSTOM, Literal, Program
from ._sharding import like
from ._source import place_of, where
from .draws import FAMILIES

SCORED, PATHWISE, FREE = "scored", "pathwise", "free"


@dataclasses.dataclass(eq=False)
class StochasticNode:
    """One draw found in a program.

    Attributes:
      name: given by `checkpoint_name`, else the variable it is assigned to, else family_k.
      eqn: its equation.
      program: the program that holds it.
      position: index of `eqn` there.
      order: its place among all draws.
      verdict: "scored", "pathwise" or "free" (its parameters need no gradient).
      shape: its independent elements; trailing event axes (of a multinomial) are not counted.
    """

    name: str
    eqn: Any
    program: Program
    position: int
    order: int
    verdict: str

    def __lt__(self, other: StochasticNode) -> bool:
        """Program order, in which JAX takes what a dictionary holds by draw."""
        return self.order < other.order

    def __repr__(self) -> str:
        return f"<{self.family} {self.name!r}{list(self.shape)} {self.verdict}>"

    @property
    def family(self) -> str:
        """The name of the sampler in `jax.random`."""
        return self.eqn.params["family"]

    @property
    def rule(self):
        """The family's rules: log-prob, support, replay."""
        return FAMILIES[self.family]

    @property
    def var(self) -> Any:
        """The drawn value."""
        return self.eqn.outvars[0]

    @property
    def aval(self) -> Any:
        """The type of the drawn value."""
        return self.var.aval

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the log-prob."""
        shape = tuple(self.aval.shape)
        given = dict(self.eqn.params["static"])
        return shape[: len(shape) - given.get("event_ndim", self.rule.event_ndim)]

    @property
    def empty(self) -> bool:
        """Whether it draws nothing: it has no element, or a loop around it has no step."""
        return 0 in self.aval.shape or any(loop.length == 0 for loop in self.loops)

    def zeros(self, dtype: Any, axes: Iterable[int]) -> jax.Array:
        """Zeros on some of its axes, those of loops first, sharded as its log-probs are."""
        first, sizes = len(self.loops), [*(loop.length for loop in self.loops), *self.shape]
        axes = list(axes)
        zeros = jnp.zeros([sizes[a] for a in axes], dtype)
        return like(zeros, self.aval, [a - first for a in axes])

    @property
    def key(self) -> Any:
        """The key that it is made with; None if it is made of another draw of the program."""
        if not self.rule.observed:
            return self.eqn.invars[0]
        place = self._source
        return self.eqn.invars[place] if place else None

    @property
    def _source(self) -> int:
        """Which operand of the equation tells copies from independent draws."""
        names = self.eqn.params["names"]
        return 1 + names.index("source") if "source" in names else 0

    @property
    def own_keys(self) -> bool:
        """Whether every vmap around it maps the key as well."""
        return all(mapped[self._source] for mapped in self.eqn.params["batch"])

    @property
    def loops(self):
        """The scans around it, the outermost first; they are its first axes."""
        return self.program.loops

    @property
    def where(self) -> str:
        """The user's file, line and function."""
        return where(self.eqn)

    @property
    def what(self) -> str:
        """What an error message calls it."""
        kind = dict(self.eqn.params["static"]).get("noise", self.family)
        return f"the draw {self.name!r} ({kind})"

    @functools.cached_property
    def outcomes(self) -> int | None:
        """How many one element has; None: too many, or they are not known."""
        shapes = {n: self._base_shape(n, v) for n, v in self.operands().items()}
        return self.rule.support_size(dict(self.eqn.params["static"]), **shapes)

    def _base_shape(self, name: str, value: Any) -> tuple[int, ...]:
        """Shape of an operand without the axes over which the draw was vmapped."""
        params = self.eqn.params
        if name not in params["names"]:
            return ()
        k = 1 + params["names"].index(name)
        return tuple(value.aval.shape[sum(mapped[k] for mapped in params["batch"]) :])

    def operands(self) -> dict[str, Any]:
        """Array-valued parameters by name: variables, literals, or Python numbers."""
        static = dict(self.eqn.params["static"])
        numbers = {n: static[n] for n in self.rule.operands if static.get(n) is not None}
        return numbers | dict(zip(self.eqn.params["names"], self.eqn.invars[1:], strict=True))


def find_nodes(program: Program, active: set[Any]) -> list[StochasticNode]:
    """Lists the draws of a program and of all programs within, in program order.

    Raises:
      BiasError: where a draw needs a score that jscg cannot give.
    """
    nodes = []
    for part, position, name in _named(program):
        node = StochasticNode(name, part.eqns[position], part, position, len(nodes), FREE)
        node.verdict = _verdict(node, active)
        nodes.append(node)
    return nodes


def check_bounds(program: Program, nodes: list[StochasticNode], inputs: list[bool]) -> None:
    """Refuses draws with a parameter that was rounded to an integer on its way.

    Raises:
      BiasError: there is one.
    """

    def integers(node):
        return {
            n: v
            for n, v in node.operands().items()
            if hasattr(v, "aval") and jnp.issubdtype(v.aval.dtype, jnp.integer)
        }

    if not any(integers(node) for node in nodes):
        return
    rounded = rounded_variables(program, inputs)
    for node in nodes:
        for name, v in integers(node).items():
            if not isinstance(v, Literal) and v in rounded:
                raise refuse(
                    node.what,
                    node.eqn,
                    f"its parameter {name!r} is a rounded function of an argument that the "
                    "gradient is for, so that no gradient goes through it.",
                    "wrap it in jax.lax.stop_gradient if no gradient is wanted",
                    "draw from jax.random.categorical with logits that depend on the argument",
                    through=v,
                )


def name_draws(program: Program) -> dict[Any, str]:
    """The name of every draw, by the variable that holds it."""
    return {part.eqns[at].outvars[0]: name for part, at, name in _named(program)}


def _named(program: Program) -> Iterator[tuple[Program, int, str]]:
    counts: dict[str, int] = {}
    names: set[str] = set()
    for part in program.walk():
        labels = None
        for position, eqn in enumerate(part.eqns):
            if eqn.primitive.name != "draw":
                continue
            labels = _checkpoint_names(part) if labels is None else labels
            family = eqn.params["family"]
            label = labels.get(eqn.outvars[0]) or _assigned_name(eqn)
            if label is None or label in names:
                k = counts[family] = counts.get(family, -1) + 1
                label = f"{label or family}_{k}"
            names.add(label)
            yield part, position, label


def _verdict(node: StochasticNode, active: set[Any]) -> str:
    live = [n for n, v in node.operands().items() if _is_active(v, active)]
    if not live or node.empty:
        return FREE
    if not node.rule.discrete:
        return PATHWISE
    unscored = [n for n in live if n not in node.rule.scored]
    if unscored or node.rule.log_prob is None:
        raise refuse(
            node.what,
            node.eqn,
            f"the gradient depends on its parameter {(unscored or live)[0]!r}, for which no "
            "score is known, so it would silently be zero.",
            "wrap the parameter in jax.lax.stop_gradient if no gradient is wanted",
            through=node.operands()[(unscored or live)[0]],
        )
    holders = {part.holder for part in node.program.path}
    if holders & CUSTOM:
        raise refuse(
            node.what,
            node.eqn,
            "it needs a score, but stands in a function with a derivative rule of its own "
            "(custom_jvp or custom_vjp), which jscg keeps as it is.",
            "draw outside of that function and pass the drawn value in",
        )
    if "while" in holders:
        raise refuse(
            node.what,
            node.eqn,
            "it stands in a while_loop and needs a score, but a while_loop has no reverse "
            "derivative, so its gradient would silently be lost.",
            "use jax.lax.scan, or jax.lax.fori_loop with static bounds, and mask the steps "
            "that are not taken",
            "wrap its parameter in jax.lax.stop_gradient if no gradient is wanted",
        )
    if not node.own_keys:
        raise refuse(
            node.what,
            node.eqn,
            "one key is shared by draws that vmap maps over their parameters. The draws are "
            "then copies of one uniform number, not independent, and the product of their "
            "probabilities is not their joint probability.",
            "split the key and map over the keys as well",
            "draw once, outside of the vmap, with the batched parameters",
            keys=True,
        )
    return SCORED


def _is_active(value: Any, active: set[Any]) -> bool:
    return hasattr(value, "aval") and not isinstance(value, Literal) and value in active


def _checkpoint_names(program: Program) -> dict[Any, str]:
    """Names that the user gave by `jax.ad_checkpoint.checkpoint_name`."""
    through = {"convert_element_type", "reshape", "copy", "squeeze", "baseline", "control_variate"}
    names: dict[Any, str] = {}
    for eqn in reversed(program.eqns):
        if eqn.primitive.name == "name" and not isinstance(eqn.invars[0], Literal):
            names[eqn.invars[0]] = eqn.params["name"]
        elif eqn.primitive.name in through and eqn.outvars[0] in names:
            names[eqn.invars[0]] = names[eqn.outvars[0]]
    return names


def _assigned_name(eqn: Any) -> str | None:
    """The one variable that the user assigns to in the statement of an equation."""
    place = place_of(eqn)
    targets = place.targets if place is not None else ()
    return targets[0] if len(targets) == 1 else None
