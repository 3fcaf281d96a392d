"""Why an estimator cannot be used for a draw."""

from __future__ import annotations

from typing import Any


def why_not_rerun(node: Any) -> str | None:
    """Why there are no random numbers for other values of a draw, or None."""
    if node.key is None:
        return (
            "the program makes it out of noise, so that there is no key to choose other values "
            "with; draw it with jax.random instead"
        )
    return None


def why_not_redrawn(node: Any) -> str | None:
    """Why a draw cannot be drawn a second time, or None."""
    if node.rule.observed:
        return "jscg is handed its value, and cannot draw another one"
    return why_not_rerun(node)


def why_not_compared(node: Any) -> str | None:
    """Why a draw has no score at other values, or None."""
    elsewhere = node.rule.elsewhere
    if elsewhere is None or elsewhere(dict(node.eqn.params["static"])):
        return None
    return (
        "its log-prob is known at the drawn value alone; list the outcomes, with "
        "jscg.sampler(log_prob, support=...)"
    )
