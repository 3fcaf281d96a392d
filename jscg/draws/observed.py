"""Draws that a program makes by hand, of a continuous draw and parameters: `uniform(key) < p`.

The value is computed by the program as it stands, and handed in the place of the key; what these
families add is its law.  `_mend` puts them where a program would jump.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jscg.draws import _without_replacement, bernoulli, categorical
from jscg.draws._family import Family, Static, event_aligned, handed_in, register
from jscg.draws._numerics import at_least_float32, constant
from jscg.draws.noise import NOISE


def density(x: jax.Array, static: Static, *, loc: jax.Array, scale: jax.Array) -> jax.Array:
    """Computes log p((x - loc) / scale) - log |scale|."""
    loc, scale = at_least_float32(loc), at_least_float32(scale)
    log_density = NOISE[static["noise"]].log_density
    assert log_density is not None
    return log_density((constant(x, loc) - loc) / scale) - jnp.log(jnp.abs(scale))


register(
    Family(
        name="event",
        operands=("p",),
        discrete=True,
        log_prob=bernoulli.log_prob,
        scored=("p",),
        forms={("p", "logistic"): "logits"},
        support=bernoulli.support,
        support_size=bernoulli.support_size,
        replay=handed_in,
    )
)
register(
    Family(
        name="perturbed_argmax",
        operands=("logits",),
        discrete=True,
        log_prob=categorical.log_prob,
        scored=("logits",),
        forms={("logits", "log"): "p"},
        support=categorical.support,
        operand_axes=categorical.operand_axes,
        support_size=categorical.support_size,
        replay=handed_in,
    )
)
register(
    Family(
        name="perturbed_top_k",
        operands=("logits",),
        discrete=True,
        log_prob=_without_replacement.log_prob,
        scored=("logits",),
        forms={("logits", "log"): "p"},
        event_ndim=1,
        operand_axes=event_aligned(1, logits=1),
        replay=handed_in,
    )
)
register(
    Family(
        name="density",
        operands=("loc", "scale"),
        discrete=True,
        log_prob=density,
        scored=("loc", "scale"),
        replay=handed_in,
        continuous=lambda static, dtype: True,
    )
)
