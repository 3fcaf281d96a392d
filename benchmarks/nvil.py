"""Neural variational inference of a 3-layer sigmoid belief network, 200-200-200 units.

The estimator of Mnih and Gregor, "Neural variational inference and learning in belief networks"
(2014), on binarised 8x8 digits: the plain sampling function, and gradients written by hand.
`benchmarks/workloads/nvil.py` says what is compared with what.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, Any]
Draw = Callable[[int, jax.Array], jax.Array]
Estimator = Literal["auto", "score", "textbook"]

VISIBLE, UNITS, BATCH = 64, (200, 200, 200), 100


# The model -------------------------------------------------------------------------------------


def init(key: jax.Array, visible: int = VISIBLE, units: tuple[int, ...] = UNITS) -> Params:
    """Parameters of the inference network q(h_i | h_{i-1}) and the generative p(h_{i-1} | h_i)."""
    sizes = (visible, *units)
    keys = jax.random.split(key, 2 * len(units))

    def affine(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
        w = jax.random.normal(key, (inputs, outputs)) / np.sqrt(inputs)
        return {"w": w, "b": jnp.zeros(outputs)}

    pairs = list(itertools.pairwise(sizes))
    return {
        "inference": [affine(k, a, b) for k, (a, b) in zip(keys[::2], pairs, strict=True)],
        "generative": [affine(k, b, a) for k, (a, b) in zip(keys[1::2], pairs, strict=True)],
        "prior": jnp.zeros(units[-1]),
    }


def digits(count: int = BATCH) -> jax.Array:
    """The first binarised 8x8 digits."""
    from sklearn.datasets import load_digits

    return jnp.asarray(load_digits().data[:count] > 7.5, jnp.float32)


def affine(layer: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """An affine map."""
    return inputs @ layer["w"] + layer["b"]


def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)), in a form that is fast and has the slope 1/2 at 0 (with abs it is 0)."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(jnp.minimum(x, -x)))


def log_bernoulli(logits: jax.Array, value: jax.Array) -> jax.Array:
    """The log-probability of each unit."""
    return value * logits - softplus(logits)


def loss(params: Params, x: jax.Array, key: jax.Array) -> jax.Array:
    """The negative evidence lower bound at one draw: the function that jscg differentiates."""
    cost = jnp.zeros(len(x))
    below = x
    for inference, generative, k in zip(
        params["inference"], params["generative"], jax.random.split(key, 3), strict=True
    ):
        logits = affine(inference, below)
        h = jax.random.bernoulli(k, jax.nn.sigmoid(logits)).astype(x.dtype)
        cost = cost + jnp.sum(log_bernoulli(logits, h), -1)
        cost = cost - jnp.sum(log_bernoulli(affine(generative, h), below), -1)
        below = h
    cost = cost - jnp.sum(log_bernoulli(params["prior"], below), -1)
    return jnp.mean(cost)


# Hand-written gradients ------------------------------------------------------------------------
#
# Latents have shape [samples, batch, units]; r_i = -log p(h_{i-1} | h_i). Three estimators:
#
# "auto"      a unit's own log q, and the prior's term of a top unit, are replaced by their exact
#             expectations n_i and c; each layer's score multiplies the rest of what it influences,
#               Q_1 = r_1 + n_2 + r_2 + n_3 + r_3 + c,   Q_2 = r_2 + n_3 + r_3 + c,   Q_3 = r_3
#             (r_1 without x b, the part of it that no unit influences),
#             less a prediction by linear regression over other examples: from the deviations of
#             log q (and prior) from n (and c), from n_i, and from the means of all these and of Q_i
#             over the other samples; from Q_i where h_i and all units above are their means given
#             h_{i-1}, and from the slopes of these there, times h_i less its mean (of the units of
#             layer i the known covariance with the score is added back, as that of log q_i is)
# "score"     no baseline; a unit's own terms h l and -h b (without the softplus, which it does not
#             influence) multiply that unit's score alone, and no constant multiplies a score
# "textbook"  Q_i = sum over j >= i of (log q_j + r_j), the prior in r_3; the baseline is the mean
#             over the other samples; thesis equations 42 and 43


def draws(key: jax.Array, num_samples: int) -> Draw:
    """Draws with the keys that `loss` would use."""
    if num_samples == 1:
        single = jax.random.split(key, 3)
        return lambda i, p: jax.random.bernoulli(single[i], p[0])[None].astype(p.dtype)
    keys = jax.vmap(lambda k: jax.random.split(k, 3))(jax.random.split(key, num_samples))

    def draw(i: int, p: jax.Array) -> jax.Array:
        axis = None if len(p) == 1 else 0
        p = p[0] if axis is None else p
        h = jax.vmap(jax.random.bernoulli, (0, axis))(keys[:, i], p)
        return h.astype(p.dtype)

    return draw


def leave_one_out(q: jax.Array) -> jax.Array:
    """Cost-to-go less the mean of the others: over samples, or over examples if one sample."""
    axis = 0 if len(q) > 1 else 1
    n = q.shape[axis]
    return (q - jnp.mean(q, axis, keepdims=True)) * (n / (n - 1))


def forward(params: Params, x: jax.Array, draw: Draw) -> tuple[list[jax.Array], ...]:
    """Inference logits and their sigmoids, the latents below and above, generative logits."""
    below = x[None]
    logits, probs, belows, aboves, decoded = [], [], [], [], []
    for i, (inference, generative) in enumerate(
        zip(params["inference"], params["generative"], strict=True)
    ):
        logits.append(affine(inference, below))
        probs.append(jax.nn.sigmoid(logits[-1]))
        h = jax.lax.stop_gradient(draw(i, probs[-1]))
        decoded.append(affine(generative, h))
        belows.append(below)
        aboves.append(h)
        below = h
    return logits, probs, belows, aboves, decoded


def solve(left: jax.Array, right: jax.Array) -> jax.Array:
    """Elimination without pivots; `jnp.linalg.solve` stalls on some CPUs (`jscg._regression`)."""

    def eliminate(k: int, a: jax.Array) -> jax.Array:
        row = a[:, k] / a[:, k, k, None]
        return a - (a[:, :, k] - (np.arange(a.shape[1]) == k))[:, :, None] * row[:, None]

    return jax.lax.fori_loop(0, left.shape[1], eliminate, jnp.concatenate([left, right], -1))[
        ..., -1
    ]


def regression(
    q: jax.Array, predictors: list[jax.Array], likely: list[float]
) -> tuple[jax.Array, jax.Array]:
    """Q less its prediction, and the first two coefficients; each quarter from the other three.

    All have shape [samples, batch]; the coefficients have shape [batch, 2].  A likely coefficient,
    if not zero, is the mean of a normal prior, and its deviation.
    """
    x = jnp.stack([*predictors, q], -1)
    unit = jnp.max(jnp.abs(x), (0, 1)) + 1e-30
    x = x / unit
    folds = min(4, x.shape[1])
    mine = np.arange(x.shape[1]) % folds
    used = np.asarray(mine[None] != np.arange(folds)[:, None], x.dtype)
    cells = len(x) * used.sum(1)
    used /= cells[:, None]
    mean = jnp.einsum("fg,sgi->fi", used, x)
    centred = x - mean[:, None, None]
    covariance = jnp.einsum("fg,fsgi,fsgj->fij", used, centred, centred)
    left, right = covariance[:, :-1, :-1], covariance[:, :-1, -1:]
    variance = jnp.diagonal(left, axis1=1, axis2=2)
    # In units of the other examples, so that none moves its own coefficients.
    ridge = 1e-3 * variance + (1e-5 * mean[:, :-1]) ** 2 + 1e-30
    prior = np.asarray(likely, x.dtype) * unit[:-1] / unit[-1]
    explained, cross = left @ prior, right[..., 0]
    rest = covariance[:, -1, -1] + jnp.minimum(jnp.sum((explained - 2 * cross) * prior, -1), 0)
    strength = jnp.maximum(rest, 0)[:, None] / cells[:, None] / (prior**2 + 1e-30)
    strength = jnp.where(prior == 0, 0, strength)
    ridge += strength
    right += (strength * prior)[..., None]
    scale = jax.lax.rsqrt(variance + ridge)[..., None]
    left = (left + ridge[..., None] * np.eye(left.shape[1])) * scale * scale.mT
    slope = (solve(left, right * scale) * scale[..., 0])[mine]
    rest = (x - mean[mine])[..., -1] - jnp.sum((x - mean[mine])[..., :-1] * slope, -1)
    return rest * unit[-1], slope[:, :2] * unit[-1] / unit[:2]


def at_means(
    params: Params, x: jax.Array, layer: int, below: jax.Array, mean: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Q of a layer, given what is below it, at the means of its units and of all above; slopes."""

    def cost_to_go(mean: jax.Array) -> tuple[jax.Array, jax.Array]:
        h, lower, cost = mean, below, jnp.zeros(below.shape[:-1])
        layers = zip(params["inference"], params["generative"], strict=True)
        for i, (inference, generative) in enumerate(layers):
            if i > layer:
                logits = affine(inference, lower)
                h = jax.nn.sigmoid(logits)
                cost += jnp.sum(log_bernoulli(logits, h), -1)
            if i >= layer:
                cost -= jnp.sum(log_bernoulli(affine(generative, h), lower), -1)
                lower = h
        if layer < len(params["inference"]) - 1:
            cost -= jnp.sum(h * params["prior"], -1)
        if layer == 0:
            cost += x @ params["generative"][0]["b"]
        return jnp.sum(cost), cost

    slope, cost = jax.grad(cost_to_go, has_aux=True)(mean)
    return cost, slope


def fitted(
    params: Params,
    x: jax.Array,
    logits: list[jax.Array],
    probs: list[jax.Array],
    belows: list[jax.Array],
    aboves: list[jax.Array],
    recon: list[jax.Array],
) -> tuple[list[jax.Array], list[jax.Array]]:
    """For each layer, what multiplies its score; and of each unit, what multiplies its mean."""
    samples = len(aboves[0])

    def total(t: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.sum(t, -1), aboves[0].shape[:2])

    at = [total(h * a) for a, h in zip(logits, aboves, strict=True)]
    mean = [total(p * a) for a, p in zip(logits, probs, strict=True)]
    norm = [total(softplus(a)) for a in logits]
    prior, prior_mean = total(aboves[2] * params["prior"]), total(probs[2] * params["prior"])
    top = [at[2] - prior, mean[2] - prior_mean]
    recon = [jnp.broadcast_to(r, aboves[0].shape[:2]) for r in recon]
    q3 = recon[2]
    q2 = recon[1] + q3 + top[1] - norm[2]
    q1 = recon[0] + x @ params["generative"][0]["b"] + q2 + mean[1] - norm[1]
    deviations = [at[0] - mean[0], at[1] - mean[1], top[0] - top[1]]
    levels, slopes = zip(
        *[at_means(params, x, i, b, p) for i, (b, p) in enumerate(zip(belows, probs, strict=True))],
        strict=True,
    )
    lines = [total(g * (h - p)) for g, h, p in zip(slopes, aboves, probs, strict=True)]
    inner = [logits[0], logits[1], logits[2] - params["prior"]]
    weights, exact = [], []
    for i, (q, state) in enumerate([(q1, mean[0]), (q2, mean[1]), (q3, top[1])]):
        level = jnp.broadcast_to(levels[i], q.shape)
        own, more = (deviations[i], lines[i]), (deviations[i + 1 :], lines[i + 1 :])
        predictors = [*own, *more[0], *more[1], state, level]
        likely = [0.0, 1.0, *(0.0 for _ in more[0]), *(1.0 for _ in more[1]), 0.0, 1.0]
        if samples > 1:
            repeated = [q, *deviations[i:], *([state] if i else [])]
            predictors += [(jnp.sum(t, 0) - t) / (samples - 1) for t in repeated]
            likely += [0.0 for _ in repeated]
        rest, known = regression(q, predictors, likely)
        weights.append(rest[..., None])
        exact.append(known[:, :1] * inner[i] + known[:, 1:] * slopes[i])
    return weights, exact


def costs_to_go(
    kind: Estimator,
    params: Params,
    x: jax.Array,
    logits: list[jax.Array],
    own: list[jax.Array],
    recon: list[jax.Array],
    prior: jax.Array,
) -> list[jax.Array]:
    """What multiplies the score of each unit, from the terms at the draw (but for "auto")."""
    if kind == "score":
        prior = prior - softplus(params["prior"])
        recon = [recon[0] + x @ params["generative"][0]["b"], *recon[1:]]
    total = [jnp.sum(term, -1) for term in own]
    top = jnp.sum(prior, -1)
    q3 = recon[2]
    q2 = recon[1] + total[2] + q3 + top
    q1 = recon[0] + total[1] + q2
    if kind == "score":
        influenced = [term + softplus(a) for term, a in zip(own, logits, strict=True)]
        influenced[2] += prior
        return [term + q[..., None] for term, q in zip(influenced, (q1, q2, q3), strict=True)]
    with_own = (total[0] + q1, total[1] + q2, total[2] + top + q3)
    return [leave_one_out(q)[..., None] for q in with_own]


def by_surrogate(kind: Estimator, params: Params, x: jax.Array, draw: Draw) -> Params:
    """Reverse mode through the cost plus stop_gradient(cost-to-go) times log q."""

    def surrogate(params: Params) -> jax.Array:
        logits, probs, belows, aboves, decoded = forward(params, x, draw)
        log_q = [log_bernoulli(a, h) for a, h in zip(logits, aboves, strict=True)]
        recon = [-jnp.sum(log_bernoulli(m, b), -1) for m, b in zip(decoded, belows, strict=True)]
        if kind == "auto":
            own = [log_bernoulli(a, p) for a, p in zip(logits, probs, strict=True)]
            prior = -log_bernoulli(params["prior"], probs[2])
        else:
            own = log_q
            prior = -log_bernoulli(params["prior"], aboves[2])
        fixed = jax.lax.stop_gradient((params, x, logits, probs, belows, aboves, recon))
        if kind == "auto":
            weights, exact = jax.lax.stop_gradient(fitted(*fixed))
            own = [n + e * p for n, e, p in zip(own, exact, probs, strict=True)]
        else:
            weights = costs_to_go(kind, params, x, logits, own, recon, prior)
            weights = jax.lax.stop_gradient(weights)
        if kind == "textbook":  # the direct derivative of log q has mean zero: left out
            own = []
        cost = sum(jnp.mean(jnp.sum(t, -1)) for t in [*own, prior]) + sum(map(jnp.mean, recon))
        return cost + sum(jnp.mean(jnp.sum(w * s, -1)) for w, s in zip(weights, log_q, strict=True))

    return jax.grad(surrogate)(params)


def by_magic_box(kind: Estimator, params: Params, x: jax.Array, draw: Draw) -> Params:
    """Reverse mode through each cost times exp(log q - stop_gradient(log q))."""
    if kind != "score":
        raise ValueError("written for 'score' only")

    def one(log_q: jax.Array) -> jax.Array:
        return jnp.exp(log_q - jax.lax.stop_gradient(log_q))

    def surrogate(params: Params) -> jax.Array:
        logits, _, belows, aboves, decoded = forward(params, x, draw)
        log_q = [log_bernoulli(a, h) for a, h in zip(logits, aboves, strict=True)]
        recon = [-jnp.sum(log_bernoulli(m, b), -1) for m, b in zip(decoded, belows, strict=True)]
        layer = [jnp.sum(s, -1) for s in log_q]
        w1, w12 = one(layer[0]), one(layer[0] + layer[1])
        w123 = one(layer[0] + layer[1] + layer[2])
        triples = zip(logits, aboves, log_q, strict=True)
        own = [h * a * one(s) - softplus(a) for a, h, s in triples]
        prior = softplus(params["prior"]) - aboves[2] * params["prior"] * one(log_q[2])
        total = [jnp.sum(t, -1) for t in own]
        top, above = jnp.sum(prior, -1), jnp.sum(softplus(params["prior"]))
        below = x @ params["generative"][0]["b"]
        cost = total[0] + above - below + w1 * (recon[0] + below + total[1])
        cost = cost + w12 * (recon[1] + total[2] + top - above) + w123 * recon[2]
        return jnp.mean(cost)

    return jax.grad(surrogate)(params)


def by_hand(kind: Estimator, params: Params, x: jax.Array, draw: Draw) -> Params:
    """No reverse mode: the latents are constants, so each layer's gradient is an outer product."""
    logits, probs, belows, aboves, decoded = forward(params, x, draw)
    rows = aboves[0].shape[0] * aboves[0].shape[1]
    recon = [-jnp.sum(log_bernoulli(m, b), -1) for m, b in zip(decoded, belows, strict=True)]
    if kind == "auto":
        weights, exact = fitted(params, x, logits, probs, belows, aboves, recon)
    else:
        own = [log_bernoulli(a, h) for a, h in zip(logits, aboves, strict=True)]
        prior = -log_bernoulli(params["prior"], aboves[2])
        weights = costs_to_go(kind, params, x, logits, own, recon, prior)

    def layer(inputs: jax.Array, outputs: jax.Array) -> dict[str, jax.Array]:
        if len(inputs) < len(outputs):
            outputs = jnp.sum(outputs, 0, keepdims=True)
        inputs = inputs.reshape(-1, inputs.shape[-1])
        outputs = outputs.reshape(-1, outputs.shape[-1]) / rows
        return {"w": inputs.T @ outputs, "b": jnp.sum(outputs, 0)}

    inference, generative = [], []
    for i in range(3):
        p, h = probs[i], aboves[i]
        outputs = weights[i] * (h - p)
        if kind == "auto":
            own = logits[i] - params["prior"] if i == 2 else logits[i]
            outputs = outputs + (own + exact[i]) * p * (1 - p)
        elif kind == "score":
            outputs = outputs + (h - p)
        inference.append(layer(belows[i], outputs))
        generative.append(layer(h, jax.nn.sigmoid(decoded[i]) - belows[i]))
    top = jnp.mean(probs[2] if kind == "auto" else aboves[2], (0, 1))
    return {
        "inference": inference,
        "generative": generative,
        "prior": jax.nn.sigmoid(params["prior"]) - top,
    }


VARIANTS = {"surrogate": by_surrogate, "magic box": by_magic_box, "by hand": by_hand}


def variants(kind: Estimator) -> list[str]:
    """Those that are written for an estimator."""
    return [v for v in VARIANTS if v != "magic box" or kind == "score"]


def hand(
    variant: str, kind: Estimator, num_samples: int = 1
) -> Callable[[Params, jax.Array, jax.Array], Params]:
    """A fresh gradient function of (params, x, key)."""

    def gradient(params: Params, x: jax.Array, key: jax.Array) -> Params:
        return VARIANTS[variant](kind, params, x, draws(key, num_samples))

    return gradient


def train(params: Params, data: jax.Array, steps: int, rate: float = 3e-3) -> Params:
    """Parameters after some steps of Adam, so that variances are not those of random weights."""
    gradient = hand("by hand", "textbook", 4)

    @jax.jit
    def step(t: jax.Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        params, first, second = state
        batch_key, key = jax.random.split(jax.random.key(t))
        x = data[jax.random.randint(batch_key, (BATCH,), 0, len(data))]
        grads = gradient(params, x, key)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        scale = rate * jnp.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1))
        params = jax.tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v) + 1e-8), params, first, second
        )
        return params, first, second

    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, zeros)
    for t in range(steps):
        state = step(jnp.asarray(t), state)
    return state[0]
