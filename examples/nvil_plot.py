"""The figure that the demo writes."""

from __future__ import annotations

import dataclasses
import pathlib

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a backend without a screen)

INK, SOFT, BLUE, ORANGE = "#1f2933", "#7b8794", "#2563a8", "#d97706"


@dataclasses.dataclass
class Curve:
    """The bound along the way."""

    steps: list[int] = dataclasses.field(default_factory=list)
    train: list[float] = dataclasses.field(default_factory=list)
    test: list[float] = dataclasses.field(default_factory=list)

    def add(self, step: int, train: float, test: float) -> None:
        """Adds one point."""
        self.steps.append(step)
        self.train.append(float(train))
        self.test.append(float(test))


def draw(
    out: pathlib.Path,
    curve: Curve,
    references: dict[str, float],
    weighted: tuple[int, float],
    pairs: tuple[np.ndarray, np.ndarray],
    samples: np.ndarray,
    side: int,
) -> None:
    """Writes the learning curve, test images with their reconstructions, and samples.

    Args:
      out: the file to write.
      curve: the bound along the way.
      references: log-likelihood of other models, by name.
      weighted: the number of samples of the final importance-weighted bound, and that bound.
      pairs: test images and what the model makes of them, `[20, side * side]` each.
      samples: pixel probabilities of samples of the model, `[50, side * side]`.
      side: width and height of an image.
    """
    plt.rcParams.update({"font.size": 10, "text.color": INK, "axes.labelcolor": INK})
    figure = plt.figure(figsize=(11.5, 5.2), dpi=150, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1], squeeze=False)[0]
    learning_curve(left.subplots(), curve, references, weighted)
    top, bottom = right.subfigures(2, 1, height_ratios=[4, 5], squeeze=False)[:, 0]
    images, made = pairs
    rows = [images[:10], made[:10], images[10:], made[10:]]
    tiles(top.subplots(), np.concatenate(rows), side, "test images, and below each p(x|h1)")
    tiles(bottom.subplots(), samples, side, "samples of the model")
    figure.savefig(out)
    plt.close(figure)


def learning_curve(
    axes: plt.Axes, curve: Curve, references: dict[str, float], weighted: tuple[int, float]
) -> None:
    """Draws the bound against steps, other models as horizontal lines."""
    end = curve.steps[-1]
    for name, nats in references.items():
        axes.axhline(nats, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{name} {nats:.1f}", (0.2 * end, nats), (0, 3), textcoords="offset points",
            ha="left", va="bottom", color=SOFT, fontsize=9,
        )  # fmt: skip
    axes.plot(curve.steps, curve.train, color=BLUE, linewidth=1, alpha=0.5, label="training")
    axes.plot(curve.steps, curve.test, color=BLUE, marker="o", markersize=4, label="test")
    count, tight = weighted
    axes.plot(
        [end], [tight], "*", color=ORANGE, markersize=13, zorder=3, clip_on=False,
        label=f"test, importance-weighted, K={count}",
    )  # fmt: skip
    # The first value, before any learning, may lie far below everything worth seeing.
    shown = [*curve.test[1:], *curve.train[1:], *references.values(), tight]
    margin = 0.08 * (max(shown) - min(shown))
    axes.set_ylim(min(shown) - margin, max(shown) + 2 * margin)
    axes.set(xlabel="step", ylabel="nats per image", xlim=(0, end))
    axes.set_title("variational bound on log p(x)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=SOFT, alpha=0.15)
    axes.legend(frameon=False, loc="center right")


def tiles(axes: plt.Axes, images: np.ndarray, side: int, title: str, columns: int = 10) -> None:
    """Draws images in rows of ten, a thin gap between them."""
    gap = max(1, side // 8)
    rows = len(images) // columns
    canvas = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap), np.nan)
    for index, image in enumerate(images.reshape(-1, side, side)):
        top, left = (side + gap) * (index // columns), (side + gap) * (index % columns)
        canvas[top : top + side, left : left + side] = image
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_axis_off()
