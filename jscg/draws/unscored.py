"""Discrete samplers without a parameter to differentiate in."""

from __future__ import annotations

from jscg.draws._family import Family, register

for _name, _operands in {
    "bits": (),
    "rademacher": (),
    "randint": ("minval", "maxval"),
}.items():
    register(Family(name=_name, operands=_operands, discrete=True))
