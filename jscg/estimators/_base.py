"""What the plan asks of an estimator."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Estimator:
    """Base class of the estimators.

    An estimator of a draw says for which of the costs that the draw influences it is replaced by
    its exact expectation over the draw, and with which baseline the others are scored.
    """

    @property
    def unbiased(self) -> bool:
        """Whether the gradient's expectation is the gradient of the expectation."""
        return True

    @property
    def allows_jumps(self) -> bool:
        """Whether a continuous draw is differentiated through where the cost jumps."""
        return False

    @property
    def scores_continuous(self) -> bool:
        """Whether a continuous draw for which it was chosen is scored with its density."""
        return False

    @property
    def leave_one_out(self) -> bool:
        """Whether a leave-one-out baseline is used where one exists."""
        return False

    @property
    def fits_baselines(self) -> bool:
        """Whether a baseline is fitted by regression over a batch, where there is one."""
        return False

    @property
    def uses_upstream(self) -> bool:
        """Whether it is fitted to costs that the draw does not influence, too."""
        return False

    @property
    def outcomes(self) -> int:
        """The most joint outcomes for which a cost is recomputed; 0: never."""
        return 0

    @property
    def only_cheap(self) -> bool:
        """Whether only costs that are cheap to recompute are enumerated."""
        return True

    @property
    def scores(self) -> bool:
        """Whether costs that are not enumerated are scored; else they are an error."""
        return True

    def check(self, node: Any) -> str | None:
        """Returns why this estimator cannot be used for a draw, or None where it can."""
        if not node.rule.discrete:
            return "it draws a continuous value, for which no log-probability is known here"
        return None
