"""Pictures of stochastic computation graphs, in the notation of Schulman et al. (2015).

`draw` takes a `Diagram` to SVG: long diagrams are collapsed, then laid out, then written.
"""

from ._collapse import collapse
from ._diagram import Box, Diagram, Edge, Item
from ._layout import lay_out
from ._svg import write

__all__ = ["Box", "Diagram", "Edge", "Item", "draw"]


def draw(diagram: Diagram, max_nodes: int, theme: str, background: bool) -> str:
    """The picture of a diagram as an SVG document."""
    shown = collapse(diagram, max_nodes)
    return write(shown, lay_out(shown), theme, background)
