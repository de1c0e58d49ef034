"""A page: title, caption and a body that is laid out in inches.

Each figure states the height of its parts and the sum is the height of the
page. Nothing is measured after drawing, which would draw everything twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.shared import DARK_GREY, SMALL_PRINT, wrap

__all__ = ["KEY_LINE", "MARGIN", "PAGE", "Page", "key_height"]

PAGE = 9.0
"""Width of a page, inches. Nine tenths of it fill A4 or letter paper."""

MARGIN = 0.2
KEY_LINE = 0.175
_TITLE, _TITLE_LINE, _LINE, _SMALL_LINE = 13.0, 0.24, 0.17, 0.145
_EDGE = 0.14


class Page:
    """A figure with a title above and small print below.

    Parameters
    ----------
    title : str
        In large print, first.
    description : str
        Below the title; may be empty.
    body : float
        Inches between the titles and the caption.
    caption : str
        The small print.
    """

    def __init__(self, title: str, description: str, body: float, caption: str) -> None:
        room = PAGE - 2.0 * MARGIN
        titles = wrap(title, room, _TITLE, "bold")
        below = wrap(description, room, 9.0)
        small = wrap(caption, room, SMALL_PRINT)
        second = _EDGE + _TITLE_LINE * len(titles)
        self.head = second + _LINE * len(below) + 0.08
        self.height = self.head + body + _SMALL_LINE * len(small) + _EDGE
        self.figure = Figure(figsize=(PAGE, self.height))
        at = MARGIN / PAGE
        for text, top, size, weight, colour in (
            (titles, _EDGE, _TITLE, "bold", "black"),
            (below, second, 9.0, "normal", DARK_GREY),
            (small, self.head + body, SMALL_PRINT, "normal", DARK_GREY),
        ):
            self.figure.text(
                at, 1.0 - top / self.height, "\n".join(text), size=size, weight=weight,
                color=colour, va="top", linespacing=1.3,
            )  # fmt: skip

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes, placed in inches from the left edge and from the top of the body."""
        bottom = 1.0 - (self.head + top + height) / self.height
        return self.figure.add_axes((left / PAGE, bottom, width / PAGE, height / self.height))

    def key(self, handles: Sequence[Artist], labels: Sequence[str], top: float) -> None:
        """One legend for the page, in as many columns as `key_height` counts on."""
        self.figure.legend(
            handles=handles, labels=labels, loc="upper left", ncols=_columns(len(handles)),
            bbox_to_anchor=(MARGIN / PAGE, 1.0 - (self.head + top) / self.height),
        )  # fmt: skip


def _columns(entries: int) -> int:
    return min(entries, 3)


def key_height(entries: int) -> float:
    """Height of a legend of so many entries, inches."""
    return KEY_LINE * -(-entries // _columns(entries)) if entries else 0.0
