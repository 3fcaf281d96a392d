"""Continuous samplers whose draw has a derivative in the operands that `jax.random` gets right."""

from __future__ import annotations

from jscg.draws._family import Family, event_aligned, register

_ELEMENTWISE: dict[str, tuple[str, ...]] = {
    "cauchy": (),
    "double_sided_maxwell": ("loc", "scale"),
    "exponential": (),
    "gumbel": (),
    "laplace": (),
    "logistic": (),
    "lognormal": ("sigma",),
    "maxwell": (),
    "normal": (),
    "pareto": ("b",),
    "rayleigh": ("scale",),
    "triangular": ("left", "mode", "right"),
    "truncated_normal": ("lower", "upper"),
    "uniform": ("minval", "maxval"),
    "weibull_min": ("scale", "concentration"),
}

_JOINT: tuple[Family, ...] = (
    Family(
        name="multivariate_normal",
        operands=("mean", "cov"),
        discrete=False,
        event_ndim=1,
        operand_axes=event_aligned(1, mean=1, cov=2),
    ),
    Family(
        name="orthogonal",
        operands=(),
        discrete=False,
        event_ndim=2,
    ),
)

for _name, _operands in _ELEMENTWISE.items():
    register(Family(_name, _operands, discrete=False))
for _family in _JOINT:
    register(_family)
