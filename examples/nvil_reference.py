"""Two models with an exact likelihood, for scale: what is a bound in nats worth?"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def per_pixel(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Log-likelihood of each test image under independent pixels.

    Args:
      train: binary images, `[N, D]`.
      test: binary images, `[M, D]`.

    Returns:
      Nats per test image, `[M]`.
    """
    p = pixel_means(train)
    return test @ np.log(p) + (1 - test) @ np.log1p(-p)


def pixel_means(images: np.ndarray) -> np.ndarray:
    """The frequency of each pixel, with one pseudo-image half on so that none is 0 or 1."""
    return (images.sum(0) + 0.5) / (len(images) + 1)


def mixture(
    train: np.ndarray, test: np.ndarray, components: int = 50, rounds: int = 100, seed: int = 0
) -> np.ndarray:
    """Log-likelihood of each test image under a Bernoulli mixture fitted by EM.

    A component is smoothed towards the pixel means with the weight of one image: without that it
    gives probability 0 to any image with a pixel that none of its own training images has.

    Args:
      train: binary images, `[N, D]`.
      test: binary images, `[M, D]`.
      components: the number of components.
      rounds: the number of EM rounds.
      seed: of the random start: every component begins at a training image.

    Returns:
      Nats per test image, `[M]`.
    """
    rng = np.random.default_rng(seed)
    prior = pixel_means(train)
    p = 0.5 * train[rng.choice(len(train), components, replace=False)] + 0.5 * prior
    weights = np.full(components, 1 / components)

    def joint(x: np.ndarray) -> np.ndarray:
        return np.log(weights) + x @ np.log(p).T + (1 - x) @ np.log1p(-p).T

    for _ in range(rounds):
        log_joint = joint(train)
        share = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
        mass = share.sum(0)
        p = (share.T @ train + prior) / (mass[:, None] + 1)
        weights = (mass + 1) / (mass + 1).sum()
    return logsumexp(joint(test), axis=1)
