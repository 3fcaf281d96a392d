"""A reparameterised sampler of the user's own: its log-prob is known."""

from __future__ import annotations

from typing import Any

from jscg._jumps import Jump
from jscg._program import Uses
from jscg.laws._registry import Law, law


@law()
def given(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """It is scored as it stands, whatever becomes of it."""
    part, at = jump.program, uses.producers[source]
    draw = part.eqns[at]
    if draw.params["family"] != "reparameterized":
        return None
    log_prob = draw.invars[1 + draw.params["names"].index("log_prob")]
    static = tuple((k, v) for k, v in draw.params["static"] if k == "event_ndim")
    operands = {"log_prob": lambda x, value: value}
    return Law(part, at, "sampler", operands, [log_prob], (*static, ("noise", "sampler")))
