"""A progress bar, where there is one to be had and the wait is long."""

from __future__ import annotations

from typing import Any

from ._errors import missing_extra

_DELAY = 2.0  # seconds


class Progress:
    """Counts steps, and shows them by tqdm.

    Attributes:
      bar: of tqdm; None where nothing is shown.
    """

    def __init__(self, wanted: bool | None):
        self.bar: Any = None
        if wanted is False:
            return
        try:
            from tqdm import tqdm  # `auto` wants ipywidgets in a notebook, and complains
        except ImportError:
            if wanted:
                raise missing_extra("a progress bar", "tqdm") from None
            return
        delay = 0.0 if wanted else _DELAY
        self.bar = tqdm(total=0, desc="variance_report", delay=delay, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def expect(self, steps: int) -> None:
        """Says that so many more are to come."""
        if self.bar is not None:
            self.bar.total += steps

    def step(self, steps: int = 1) -> None:
        """Counts some."""
        if self.bar is not None:
            self.bar.update(steps)
