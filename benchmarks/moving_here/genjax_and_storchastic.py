"""GenJAX's adev, and Storchastic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jscg
from benchmarks.moving_here._programs import move, one_by_one, over_keys
from jscg import estimators as est


@move("adev.expectation", "genjax")
def genjax_adev():
    from genjax.adev import expectation, flip_reinforce, normal_reparam
    from genjax.pjax import seed

    @expectation
    def loss(th):
        b = flip_reinforce(jax.nn.sigmoid(th))
        x = normal_reparam(th, 1.0)
        return jnp.where(b, x**2, 0.0)

    def ours(th, key):
        k1, k2 = jax.random.split(key)
        b = jax.random.bernoulli(k1, jax.nn.sigmoid(th))
        x = th + jax.random.normal(k2)
        return jnp.where(b, x**2, 0.0)

    def theirs(th, key):
        return seed(lambda th: loss.grad_estimate(th))(key, th)

    return (
        over_keys(theirs, 0.3),
        over_keys(jscg.grad_expectation(ours), 0.3),
        jax.grad(lambda th: jax.nn.sigmoid(th) * (th**2 + 1))(0.3),
    )


@move("adev.expectation with a scan", "genjax")
def genjax_scan():
    from genjax.adev import expectation, flip_reinforce
    from genjax.pjax import seed

    @expectation
    def loss(p):
        def step(total, _):
            return total + 1.0 * flip_reinforce(p), None

        return jax.lax.scan(step, 0.0, length=5)[0]

    def ours(p, key):
        def step(total, k):
            return total + jax.random.bernoulli(k, p), None

        return jax.lax.scan(step, 0.0, jax.random.split(key, 5))[0]

    def theirs(p, key):
        return seed(lambda p: loss.grad_estimate(p))(key, p)

    return over_keys(theirs, 0.3), over_keys(jscg.grad_expectation(ours), 0.3), 5.0


@move("ScoreFunction, 4 samples", "storchastic")
def storchastic_score():
    import storch
    import torch

    worth = jnp.array([1.0, -2.0, 0.5])
    at = jnp.array([0.1, 0.4, -0.3])

    def gradient():
        logits = torch.tensor(np.asarray(at), requires_grad=True)
        law = torch.distributions.OneHotCategorical(logits=logits)
        method = storch.method.ScoreFunction("z", n_samples=4, baseline_factory="batch_average")
        z = method(law)
        storch.add_cost((z @ torch.tensor(np.asarray(worth)) - 1.0) ** 2, "cost")
        storch.backward()
        return logits.grad.numpy()

    def ours(logits, key):
        z = jax.random.categorical(key, logits)
        return (worth[z] - 1.0) ** 2

    score = jscg.grad_expectation(ours, estimators=est.ScoreFunction(), num_samples=4)
    torch.manual_seed(0)
    return (
        one_by_one(gradient),
        over_keys(score, at),
        jax.grad(lambda logits: jax.nn.softmax(logits) @ (worth - 1.0) ** 2)(at),
    )
