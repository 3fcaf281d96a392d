"""Draws that a program makes by hand, of a continuous draw and parameters: `uniform(key) < p`.

The value is computed by the program as it stands, and handed in the place of the key; what these
families add is its law.  `_mend` puts them where a program would jump.
"""

from __future__ import annotations

from jscg.draws import _without_replacement, bernoulli, categorical
from jscg.draws._family import Family, event_aligned, handed_in, register

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
