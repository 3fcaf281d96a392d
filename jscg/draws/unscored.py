"""Discrete samplers without a parameter to differentiate in."""

from __future__ import annotations

from jscg.draws._family import Family, register

register(Family(name="bits", operands=(), discrete=True, continuous=lambda static, dtype: True))
for _name, _operands in {
    "rademacher": (),
    "randint": ("minval", "maxval"),
}.items():
    register(Family(name=_name, operands=_operands, discrete=True))
