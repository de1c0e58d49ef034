"""Pages of a sweep's figures: a title that says what was chosen, panels, and a key below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from figures.page import KEY_LINE, MARGIN, PAGE, Page
from figures.shared import (
    BLACK,
    BLUE,
    GREEN,
    MID_GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    text_width,
    wrap,
)
from figures.sweep_choice import Shown
from figures.sweep_tables import Sweep

__all__ = [
    "LOOKS", "Key", "Look", "Panels", "draw_band", "heading", "limits_of", "panel_title",
    "value_axis", "value_ticks",
]  # fmt: skip

AXIS_FOOT = 0.5
"""Inches below a panel for its ticks and its label."""

TITLE_LINE = 0.17
FloatArray = NDArray[np.float64]

LOG_RATIO = 50.0
"""Ratio of the largest value of a parameter to its smallest from which its axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one line is told from the others, also without colour."""

    colour: str
    dashes: Any
    marker: str


LOOKS = (
    Look(BLUE, "-", "o"),
    Look(VERMILLION, (0, (5.0, 1.4)), "s"),
    Look(GREEN, (0, (6.0, 1.3, 1.4, 1.3)), "^"),
    Look(PURPLE, (0, (2.2, 1.2)), "D"),
    Look(ORANGE, "-", "v"),
    Look(BLACK, (0, (5.0, 1.4)), "P"),
    Look(SKY, (0, (6.0, 1.3, 1.4, 1.3)), "X"),
    Look(MID_GREY, (0, (2.2, 1.2)), "*"),
)


@dataclass(frozen=True, slots=True)
class Key:
    """A legend: what it is about, and its entries."""

    title: str
    handles: Sequence[Artist]
    labels: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.labels)

    @property
    def columns(self) -> int:
        """As many as fit side by side, up to three."""
        widest = max(text_width(label, 8.5) for label in self.labels) + 0.45
        return max(1, min(3, len(self.labels), int((PAGE - 2.0 * MARGIN) / widest)))

    @property
    def height(self) -> float:
        """Inches."""
        if not self:
            return 0.0
        rows = -(-len(self.labels) // self.columns)
        return KEY_LINE * (rows + bool(self.title)) + 0.1


@dataclass(frozen=True, slots=True)
class Panels:
    """A page with panels of one size in rows and columns.

    Inches. Every panel has `left` beside its first column for names and labels, and `foot`
    below it.
    """

    page: Page
    axes: tuple[Axes, ...]
    columns: int
    width: float
    grid: float
    """Height of all panels, with what stands below each."""

    @classmethod
    def lay_out(
        cls,
        sweep: Sweep,
        title: str,
        caption: str,
        titles: Sequence[str],
        *,
        tall: float,
        left: float = 0.62,
        right: float = 0.12,
        gap: float = 0.3,
        foot: float = AXIS_FOOT,
        columns: int = 0,
        key: Key | None = None,
        under: float = 0.0,
    ) -> Panels:
        """Make the page and its axes.

        Parameters
        ----------
        sweep : Sweep
            Its question stands below the title.
        title, caption : str
            Of the page.
        titles : sequence of str
            Of the panels; their number is that of the panels.
        tall, left, right, gap, foot : float
            Height of a panel, room to the left of the first and right of the last column,
            between columns, and below panels.
        columns : int
            0 for as many as is usual.
        key : Key, optional
            Below all panels.
        under : float
            Room for more between the panels and the key.
        """
        columns = columns or usual_columns(len(titles))
        width = (PAGE - MARGIN - left - right - gap * (columns - 1)) / columns
        broken = [
            [line for part in text.split("\n") for line in wrap(part, width, 10.0, "bold")]
            for text in titles
        ]
        rows = [range(i, min(i + columns, len(titles))) for i in range(0, len(titles), columns)]
        heads = [0.1 + TITLE_LINE * max(len(broken[i]) for i in row) for row in rows]
        grid = sum(heads) + len(rows) * (tall + foot)
        body = grid + under + (key.height if key else 0.0) + 0.05
        page = Page(title, sweep.question or sweep.name, body, caption)
        made = []
        top = 0.0
        for row, head in zip(rows, heads, strict=True):
            for column, i in enumerate(row):
                ax = page.axes(left + column * (width + gap), top + head, width, tall)
                ax.set_title("\n".join(broken[i]))
                made.append(ax)
            top += head + tall + foot
        panels = cls(page, tuple(made), columns, width, grid)
        if key:
            panels._draw_key(key, grid + under)
        return panels

    def _draw_key(self, key: Key, top: float) -> None:
        legend = self.page.figure.legend(
            handles=list(key.handles), labels=list(key.labels), loc="upper left",
            ncols=key.columns, title=key.title or None, alignment="left", handlelength=2.4,
            bbox_to_anchor=(MARGIN / PAGE, 1.0 - (self.page.head + top) / self.page.height),
        )  # fmt: skip
        legend.get_title().set_fontweight("bold")
        legend.get_title().set_fontsize(8.5)

    @property
    def figure(self) -> Figure:
        """The page's figure."""
        return self.page.figure

    def is_first(self, i: int) -> bool:
        """Whether a panel is in the first column."""
        return i % self.columns == 0

    def is_last(self, i: int) -> bool:
        """Whether no panel stands below a panel."""
        return i + self.columns >= len(self.axes)


def usual_columns(panels: int) -> int:
    """Columns for so many panels."""
    return 1 if panels == 1 else 2 if panels in (2, 4) else 3


def heading(sweep: Sweep, words: str, shown: Shown, also: Mapping[str, Any] | None = None) -> str:
    """The title of a page: what is shown, and of which of several."""
    order = ("arm", "endpoint", "cut", "method")
    parts = []
    for facet in order:
        if facet in shown.fixed:
            parts.append(sweep.word(facet, shown.fixed[facet]))
    parts += [sweep.told(name, value) for name, value in (also or {}).items()]
    return f"{words}: {', '.join(parts)}" if parts else words


def panel_title(sweep: Sweep, key: Mapping[str, Any]) -> str:
    """What a panel shows, each swept parameter on a line of its own."""
    told = {name: sweep.told(name, value) for name, value in key.items()}
    lines = [text[:1].upper() + text[1:] for name, text in told.items() if name in sweep.paths]
    facets = ", ".join(text for name, text in told.items() if name not in sweep.paths)
    return "\n".join([*lines, facets] if facets else lines)


def value_ticks(values: Sequence[float], inches: float, low: float, high: float) -> list[float]:
    """Values of a parameter that can be labelled on an axis without touching each other.

    Examples
    --------
    >>> value_ticks([100.0, 200.0, 300.0], 3.0, 50.0, 350.0)
    [100.0, 200.0, 300.0]
    >>> value_ticks([100.0, 101.0, 300.0], 3.0, 50.0, 350.0)
    [100.0, 300.0]
    """
    return _spaced(values, values, inches, low, high)


def tick_text(value: float) -> str:
    """A value as the label of a tick."""
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e7 else f"{value:g}"
    return text.replace("-", "\u2212")


def value_axis(ax: Axes, values: Sequence[float], inches: float) -> None:
    """Set a horizontal axis to the values of a swept parameter, labelled where they are."""
    low, high = min(values), max(values)
    if low > 0.0 and high / low >= LOG_RATIO:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        places = [float(np.log10(value)) for value in values]
        air = 0.04 * (max(places) - min(places))
        ends = (min(places) - air, max(places) + air)
        kept = _spaced(places, values, inches, *ends)
        ax.set_xticks(kept, [tick_text(value) for value in kept])
        ax.set_xlim(10.0 ** ends[0], 10.0 ** ends[1])
        return
    air = 0.04 * (high - low) or 0.5
    kept = value_ticks(values, inches, low - air, high + air)
    ax.set_xticks(kept, [tick_text(value) for value in kept])
    ax.set_xlim(low - air, high + air)


def _spaced(
    at: Sequence[float], values: Sequence[float], inches: float, low: float, high: float
) -> list[float]:
    """Values whose labels, at these places of an axis, do not touch."""
    kept: list[float] = []
    end = -np.inf
    for place, value in sorted(zip(at, values, strict=True)):
        middle = (place - low) / (high - low) * inches
        half = text_width(tick_text(value), 8.5) / 2.0
        if middle - half >= end + 0.1:
            kept.append(value)
            end = middle + half
    return kept


def draw_band(ax: Axes, x: FloatArray, low: FloatArray, high: FloatArray, colour: str) -> None:
    """Fill between two edges; a point without a neighbour has a bar, as a band of no width is not
    seen.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    x, low, high : ndarray, shape (K,)
        From left to right; NaN where there is nothing.
    colour : str
        Drawn pale.
    """
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    there = np.concatenate([[False], np.isfinite(low + high), [False]])
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    if alone.any():
        ax.vlines(x[alone], low[alone], high[alone], color=colour, linewidth=1.2)


def limits_of(
    tables: Sequence[pd.DataFrame], column: str, error: str, also: Sequence[float] = ()
) -> tuple[float, float]:
    """Ends of an axis with room for every error bar and for some other values."""
    rows = pd.concat(list(tables))
    reach = 1.96 * rows[error].fillna(0.0)
    low = min([float((rows[column] - reach).min()), *also])
    high = max([float((rows[column] + reach).max()), *also])
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air
