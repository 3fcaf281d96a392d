"""The state of a program that is being run again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ._indices import Known
from ._nodes import StochasticNode
from ._pairs import Score
from ._prefixes import Prefixes
from ._program import Literal, Program
from ._relation import Relation
from ._weights import LogProb, box, leave_one_out


@dataclasses.dataclass
class Scope:
    """Log-probs from outside of a program.

    Attributes:
      current: of draws that were made before, outside.
      past: of the earlier steps of a loop around it.
      given: for draws that are compared (see `_comparisons`), and for costs of samples in chunks
        (see `_chunks`), arrays whose first axes are the loops still to come.
      weigh: makes a weight for costs of a sum of log-probs.
      compare: the same, with the other elements along an axis as the baseline.
    """

    current: dict[StochasticNode, LogProb]
    past: dict[tuple[Any, StochasticNode], LogProb]
    given: dict[Any, Any]
    weigh: Callable[[jax.Array], jax.Array] = box
    compare: Callable[[jax.Array, int], jax.Array] = leave_one_out


@dataclasses.dataclass(eq=False)
class Term:
    """What one draw adds to a sum of log-probs.

    Attributes:
      parts: its log-probs, of past and present steps.
      relation: how they influence the sum.
    """

    parts: list[LogProb]
    relation: Relation


@dataclasses.dataclass
class Expectation:
    """Of a cost over the draws that it is enumerated over.

    Attributes:
      value: the expectation.
      frozen: the same where only the probabilities are differentiable.
    """

    value: Any
    frozen: Any


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
      expectations: of the costs that are enumerated.
      aligned: for each score, the axes of costs along which it differs.
      terms: for axes of a cost, what each score adds to its sum of log-probs.
      distinct_terms: those of all scores and axes.
      sums: of log-probs, by shape.
      boxes: the weights that were made of such sums.
      supports: of the draws that were enumerated so far, the outcomes and their probabilities.
      found: of the draws that are compared, what their estimators have chosen.
      relaxed: of the draws that are relaxed, the weight of each outcome.
      soft: of integers that are made of these, floats in their place.
    """

    program: Program
    env: dict[Any, Any]
    shadows: dict[Any, Any]
    scope: Scope
    raw: dict[StochasticNode, jax.Array]
    extra: Any
    expectations: dict[Any, Expectation] = dataclasses.field(default_factory=dict)
    aligned: dict[Score, frozenset[int]] = dataclasses.field(default_factory=dict)
    terms: dict[tuple[int, ...], dict[Score, Term]] = dataclasses.field(default_factory=dict)
    distinct_terms: dict[Any, Term] = dataclasses.field(default_factory=dict)
    sums: dict[tuple[int, ...], Prefixes] = dataclasses.field(default_factory=dict)
    boxes: dict[Any, tuple[jax.Array, jax.Array]] = dataclasses.field(default_factory=dict)
    supports: dict[StochasticNode, Any] = dataclasses.field(default_factory=dict)
    found: dict[StochasticNode, Any] = dataclasses.field(default_factory=dict)
    relaxed: dict[StochasticNode, list[jax.Array]] = dataclasses.field(default_factory=dict)
    soft: dict[Any, jax.Array] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def known(self) -> Known:
        """The integers of the program that are known."""
        return Known(self.program)

    def weight(
        self, scores: Sequence[Score], shape: tuple[int, ...], others: int | None
    ) -> jax.Array:
        """The box of log-probs as they influence a cost, in a shape that broadcasts to the cost's.

        The baseline is the mean of the boxes along axis `others` of the cost, if that is given.
        """
        terms, places, sums = self._to_add(scores, shape)
        total = sums.sum(terms)
        key = (id(total), None if others is None else places[others])
        if key not in self.boxes:
            scope = self.scope
            made = scope.weigh(total) if others is None else scope.compare(total, places[others])
            self.boxes[key] = (made, total)
        return self.boxes[key][0].reshape([n if i in places else 1 for i, n in enumerate(shape)])

    def foresee(self, scores: Sequence[Score], shape: tuple[int, ...]) -> None:
        """Says that a weight will be asked for."""
        terms, _, sums = self._to_add(scores, shape)
        sums.foresee(terms)

    def _to_add(
        self, scores: Sequence[Score], shape: tuple[int, ...]
    ) -> tuple[list[Term], dict[int, int], Prefixes]:
        """What is added up for a cost, along which of its axes, and the sums of that shape."""
        for score in scores:
            if score not in self.aligned:
                self.aligned[score] = _axes(self.parts(score), score.relation)
        axes = sorted(frozenset().union(*{self.aligned[score] for score in scores}))
        # Without the other axes of the cost, costs of all shapes share sums and boxes.
        places = {axis: place for place, axis in enumerate(axes)}
        known = self.terms.setdefault(tuple(axes), {})
        for score in scores:
            if score not in known:
                known[score] = self.term(score, places)
        size = tuple(shape[i] for i in axes)
        if size not in self.sums:
            self.sums[size] = Prefixes(
                lambda term: [part.lay_out(term.relation, size) for part in term.parts]
            )
        return [known[score] for score in scores], places, self.sums[size]

    def parts(self, score: Score) -> list[LogProb]:
        """The log-probs of a draw that make up a score."""
        parts = [self.scope.past[loop, score.node] for loop in score.past]
        return [*parts, self.scope.current[score.node]] if score.current else parts

    def term(self, score: Score, places: dict[int, int]) -> Term:
        """What a score adds to a sum; one object for all scores that add the same."""
        parts, relation = self.parts(score), _rename(score.relation, places)
        key = tuple((id(part.array), *(relation[a] for a in part.axes)) for part in parts)
        # The term keeps the arrays: their ids are not used again.
        return self.distinct_terms.setdefault(key, Term(parts, relation))

    def read(self, atom: Any) -> Any:
        """The value of a variable or literal."""
        return atom.val if isinstance(atom, Literal) else self.env[atom]


def _axes(parts: list[LogProb], relation: Relation) -> frozenset[int]:
    """The axes of a cost along which log-probs differ."""
    bands = [relation[a] for part in parts for a in part.axes]
    return frozenset(b[0] for b in bands if b is not None and isinstance(b[0], int))


def _rename(relation: Relation, places: dict[int, int]) -> Relation:
    """The relation with other numbers for the axes of the value, where it has those."""
    return tuple(
        None if b is None or b[0] not in places else (places[b[0]], *b[1:]) for b in relation
    )
