"""Continuous samplers whose draw has a derivative in the operands that `jax.random` gets right."""

from __future__ import annotations

from jscg.draws._family import Family, event_aligned, register, unaligned

_ELEMENTWISE: dict[str, tuple[str, ...]] = {
    "beta": ("a", "b"),
    "cauchy": (),
    "chisquare": ("df",),
    "double_sided_maxwell": ("loc", "scale"),
    "exponential": (),
    "f": ("dfnum", "dfden"),
    "gamma": ("a",),
    "generalized_normal": ("p",),
    "gumbel": (),
    "laplace": (),
    "loggamma": ("a",),
    "logistic": (),
    "lognormal": ("sigma",),
    "maxwell": (),
    "normal": (),
    "pareto": ("b",),
    "rayleigh": ("scale",),
    "t": ("df",),
    "triangular": ("left", "mode", "right"),
    "truncated_normal": ("lower", "upper"),
    "uniform": ("minval", "maxval"),
    "weibull_min": ("scale", "concentration"),
}

_IMPLICIT = {"beta", "chisquare", "f", "gamma", "generalized_normal", "loggamma", "t"}

_JOINT: tuple[Family, ...] = (
    Family(
        name="ball",
        operands=("p",),
        discrete=False,
        event_ndim=1,
        operand_axes=unaligned,
    ),
    Family(
        name="dirichlet",
        operands=("alpha",),
        discrete=False,
        implicit=True,
        event_ndim=1,
        operand_axes=event_aligned(1, alpha=1),
    ),
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
    register(Family(_name, _operands, discrete=False, implicit=_name in _IMPLICIT))
for _family in _JOINT:
    register(_family)
