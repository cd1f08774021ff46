"""A figure with a dashboard's panels where its grid has them: Grafana's and Kibana's are drawn on one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BELOW, BEHIND = 0.35, 0.15
"""Inches left free in each cell, under its axes and at their right."""


class Grid:
    """A figure of so many rows and columns.

    Args:
        row: inches that one row is high.
        width: inches of the whole.
    """

    def __init__(self, rows: int, columns: int, row: float, width: float) -> None:
        import matplotlib.pyplot as plt

        self._columns, self._row, self._width, self._tall = columns, row, width, rows * row
        self.figure = plt.figure(figsize=(width, self._tall))
        plt.close(self.figure)  # shown once, as the cell's value

    def axes(self, place: Mapping[str, int], before: float, around: float) -> Axes:
        """Add axes in a cell.

        Args:
            place: x, y, w, h in columns and rows, as both kinds of dashboard have it.
            before: inches for what stands at the vertical axis.
            around: inches for the title and what stands under the axes.
        """
        left, right = (self._width * x / self._columns for x in (place["x"], place["x"] + place["w"]))
        top, bottom = (self._tall - self._row * y for y in (place["y"], place["y"] + place["h"]))
        box = (left + before, bottom + BELOW, right - left - before - BEHIND, top - bottom - around)
        return self.figure.add_axes(
            (box[0] / self._width, box[1] / self._tall, box[2] / self._width, box[3] / self._tall)
        )


def empty(axes: Axes, what: str) -> None:
    """Say in the middle of axes that there is nothing to draw."""
    axes.text(0.5, 0.5, what, ha="center", transform=axes.transAxes, color="0.5")
