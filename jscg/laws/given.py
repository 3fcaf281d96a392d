"""A reparameterised sampler of the user's own: its log-prob is known."""

from __future__ import annotations

from typing import Any

from jscg._program import Program, Uses
from jscg.laws._registry import Law


def given_log_prob(part: Program, source: Any, uses: Uses) -> Law:
    """It is scored as it stands, whatever becomes of it."""
    at = uses.producers[source]
    draw = part.eqns[at]
    log_prob = draw.invars[1 + draw.params["names"].index("log_prob")]
    static = tuple((k, v) for k, v in draw.params["static"] if k == "event_ndim")
    operands = {"log_prob": lambda x, value: value}
    return Law(part, at, "sampler", operands, [log_prob], (*static, ("noise", "sampler")))
