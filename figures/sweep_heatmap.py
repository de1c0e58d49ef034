"""A measure of a sweep over two of its parameters, as coloured cells with their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.page import PAGE
from figures.shared import LIGHT_GREY, text_width, wrap
from figures.sweep_choice import (
    Choice,
    ChoiceError,
    Part,
    Shown,
    distinct,
    drop_tied,
    fewer_methods,
    find_parameter,
    hold_others,
    is_number,
    measure_rows,
    narrow,
    pick_measure,
    share_out,
    split,
)
from figures.sweep_page import Key, Panels, heading, limits_of, panel_title, usual_columns
from figures.sweep_power import SHARES
from figures.sweep_tables import COHORT, Sweep, measure_words, read_cells

__all__ = ["FEW_FOR_CONTOURS", "Grid", "draw_grid", "grids_page", "heatmap_page", "pick_pair"]

COLOURS = "cividis"
"""Perceptually uniform, and the same with any kind of colour vision."""

MOST_GRIDS = 6
FEW_FOR_CONTOURS = 3
"""Values of each parameter from which contours are drawn."""

FILLED = 0.6
"""Share of the cells of a heat map of which more must have been swept."""

POWERS = (0.8, 0.9)
"""Contours of power."""

STYLES = ((0, (4.0, 1.6)), "-", (0, (1.2, 1.2)), (0, (6.0, 1.4, 1.2, 1.4)))
"""Line styles of contours, in the order of their values."""

CELL_TEXT = 7.5
_BAR, _LINE = 0.55, 0.125

FloatArray = NDArray[np.float64]


class Grid:
    """Values over two parameters: rows from the bottom up, columns from the left.

    Parameters
    ----------
    rows : DataFrame
        Columns `across`, `up` and `value`, one row for each cell.
    across, up, value : str
        Names of columns.
    columns, lines : sequence
        Values of `across` and of `up`, in order.
    told : callable
        The text of a cell, lines from the top, from its row.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        across: str,
        up: str,
        value: str,
        columns: Sequence[Any],
        lines: Sequence[Any],
        told: Callable[[Any], Sequence[str]],
    ) -> None:
        self.values = np.full((len(lines), len(columns)), np.nan)
        self.texts: dict[tuple[int, int], tuple[str, ...]] = {}
        for j, line in enumerate(lines):
            at_line = rows[_is(rows[up], line)]
            for i, column in enumerate(columns):
                for row in at_line[_is(at_line[across], column)].to_dict(orient="records"):
                    self.values[j, i] = row[value]
                    self.texts[j, i] = tuple(told(row))


def _is(column: pd.Series, value: Any) -> Any:
    return column.isna() if value is None else column == value


def heatmap_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Draw a measure over two swept parameters.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for; `over` is the horizontal and `by` the vertical axis.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    """
    table = read_cells(place, sweep)
    measure = pick_measure(table, choice.measure)
    shown = narrow(sweep, measure_rows(table, measure), choice)
    across, up = pick_pair(sweep, shown, choice)
    shown = drop_tied(sweep, hold_others(sweep, shown, table, [across, up]), across, [up])
    _check_product(sweep, shown, across, up)
    shown = fewer_methods(shown, choice, [across, up], MOST_GRIDS)
    roles = share_out(sweep, shown, across, up, lines=False, most=MOST_GRIDS)
    share = measure.startswith(SHARES)
    limits = (0.0, 1.0) if share else limits_of([shown.rows], "estimate", "mc_error")

    def told(row: Any) -> Sequence[str]:
        value, error = row["estimate"], row["mc_error"]
        if not np.isfinite(value):
            return ()
        if share:
            return f"{100.0 * value:.1f}", f"({100.0 * error:.1f})"
        return f"{value:.3g}", f"({error:.1g})"

    unit = ", in %" if share else ""
    text = [f"In the cells: {_lower(measure_words(measure))}{unit}, and its Monte Carlo error."]
    if not np.isfinite(shown.rows["estimate"]).all():
        text.append("Empty: no value.")
    return grids_page(
        sweep, shown, list(split(shown.rows, roles.panels)), across, up, "estimate", told,
        title=measure_words(measure), limits=limits,
        note=" ".join([*text, *shown.notes]),
        contours=POWERS if measure == "power" else (),
        contour_words=lambda level: f"{100.0 * level:.0f} % power",
    )  # fmt: skip


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def pick_pair(
    sweep: Sweep, shown: Shown, choice: Choice, taken: Sequence[str] = ()
) -> tuple[str, str]:
    """The swept parameters of the horizontal and of the vertical axis.

    Numbers come first, and of these the one with most values.

    Raises
    ------
    ChoiceError
        If fewer than two vary, or what was asked for does not.
    """
    asked = [
        find_parameter(sweep, option, name) if name else ""
        for option, name in (("--over", choice.over), ("--by", choice.by))
    ]
    free = [path for path in sweep.paths if path in shown.varying and path not in taken]
    free.sort(key=lambda path: (not is_number(shown.rows[path]), -len(distinct(shown.rows[path]))))
    for name in asked:
        if name and name not in free:
            raise ChoiceError(f"{name} does not vary in what is shown, and makes no axis.")
    left = [path for path in free if path not in asked]
    across, up = (name or (left.pop(0) if left else "") for name in asked)
    if not across or not up or across == up:
        raise ChoiceError(
            "a heat map needs two parameters that vary; here "
            f"{'is only ' + free[0] if free else 'is none'}. Try the kind power."
        )
    return across, up


def _check_product(sweep: Sweep, shown: Shown, across: str, up: str) -> None:
    """Refuse two parameters of which most combinations were not swept."""
    pairs = shown.rows[[across, up]].drop_duplicates().shape[0]
    whole = len(distinct(shown.rows[across])) * len(distinct(shown.rows[up]))
    if pairs <= FILLED * whole:
        raise ChoiceError(
            f"{pairs} of {whole} combinations of {across} and {up} were swept, too few for a heat "
            "map; try the kind power or tornado."
        )


# ---------------------------------------------------------------- drawing


def grids_page(
    sweep: Sweep,
    shown: Shown,
    parts: Sequence[Part],
    across: str,
    up: str,
    value: str,
    told: Callable[[Any], Sequence[str]],
    *,
    title: str,
    limits: tuple[float, float],
    note: str,
    contours: Sequence[float] = (),
    contour_words: Callable[[float], str] = str,
) -> Figure:
    """A page with a grid for each part and one colour bar below them.

    Parameters
    ----------
    sweep, shown
        What is drawn, and of what.
    parts : sequence
        A grid for each.
    across, up, value : str
        Columns of the axes and of what colours a cell.
    told : callable
        Text of a cell from its row.
    title : str
        What is shown, in words.
    limits : tuple of float
        Ends of the colours.
    note : str
        How to read it.
    contours : sequence of float
        Values at which contours are drawn, where both axes are numbers.
    contour_words : callable
        Their labels.
    """
    columns, lines = distinct(shown.rows[across]), distinct(shown.rows[up])
    several = len(parts)
    n_columns = min(usual_columns(several), 2 if len(columns) > 5 else 3)
    names = [sweep.word(up, line) for line in lines]
    broken = ["\n".join(wrap(name, 1.6, 8.5)) for name in names]
    room = max(text_width(text, 8.5) for name in broken for text in name.split("\n"))
    left, gap = 0.2 + 0.34 + room, 0.35
    guess = (PAGE - left - 0.35 - gap * (n_columns - 1)) / n_columns / len(columns)
    cell = min(guess, 1.1)
    heads = [sweep.word(across, column) for column in columns]
    headed = ["\n".join(_cut(wrap(name, cell - 0.05, 8.5), cell)) for name in heads]
    deep = max(name.count("\n") + 1 for name in headed)
    upright = max(text_width(text, 8.5) for name in headed for text in name.split("\n")) > cell
    if upright:
        headed = heads
    foot = 0.42 + (max(text_width(name, 8.5) for name in heads) if upright else 0.14 * deep)
    tall = max(0.42, 0.14 * max(name.count("\n") + 1 for name in broken) + 0.06) * len(lines)
    fixed = {} if several > 1 else parts[0][0]
    cohort = bool((shown.rows["method"] == COHORT).all())
    grids = [Grid(own, across, up, value, columns, lines, told) for _, own in parts]
    levels = _levels(grids, contours) if _are_numbers(shown.rows, across, up) else {}
    key = Key(
        "", [Line2D([], [], color="black", linestyle=style) for style in levels.values()],
        [contour_words(level) for level in levels],
    )  # fmt: skip
    if levels:
        note += " Lines are interpolated between the middles of cells."
    panels = Panels.lay_out(
        sweep, heading(sweep, title, shown, fixed), sweep.caption(note, cohort=cohort),
        [panel_title(sweep, key) if several > 1 else "" for key, _ in parts],
        tall=tall, left=left, right=0.15 + (guess - cell) * len(columns) * n_columns, gap=gap,
        foot=foot, columns=n_columns, under=_BAR, key=key,
    )  # fmt: skip
    norm = Normalize(*limits)
    for i, (ax, grid) in enumerate(zip(panels.axes, grids, strict=True)):
        draw_grid(ax, grid, norm, panels.width / len(columns))
        draw_contours(ax, grid.values, levels)
        ax.set_xticks(range(len(columns)), headed, rotation=90 if upright else 0)
        ax.set_yticks(range(len(lines)), broken if panels.is_first(i) else [""] * len(lines))
        ax.set_xlabel("\n".join(wrap(sweep.axis(across).title, panels.width, 9.0)))
        if panels.is_first(i):
            ax.set_ylabel("\n".join(wrap(sweep.axis(up).title, max(tall, 1.2), 9.0)))
    _bar(panels, norm, title, left)
    return panels.figure


def _are_numbers(rows: pd.DataFrame, *paths: str) -> bool:
    return all(is_number(rows[path]) and not rows[path].isna().any() for path in paths)


def _levels(grids: Sequence[Grid], contours: Sequence[float]) -> dict[float, Any]:
    """Line styles of the contours that pass through a grid that is large enough for them."""
    known = [
        grid.values[np.isfinite(grid.values)]
        for grid in grids
        if min(grid.values.shape) >= FEW_FOR_CONTOURS
    ]
    return {
        level: style
        for level, style in zip(contours, STYLES, strict=False)
        # Around a single cell a line would be a scratch in its corner.
        if any(min((v < level).sum(), (v > level).sum()) > 1 for v in known)
    }


def _cut(lines: list[str], width: float) -> list[str]:
    """Lines of a label, of which no more than three are worth the room."""
    return lines if len(lines) <= 3 else [" ".join(lines)]


def draw_grid(ax: Axes, grid: Grid, norm: Normalize, inches: float) -> None:
    """Colour the cells and write their text where there is room.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; the middle of a cell is at whole numbers.
    grid : Grid
        What to draw.
    norm : Normalize
        From values to colours.
    inches : float
        Width of a cell.
    """
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=LIGHT_GREY)
    height, width = grid.values.shape
    ax.pcolormesh(
        np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5,
        np.ma.masked_invalid(grid.values), cmap=colours, norm=norm, edgecolors="white",
        linewidth=0.6,
    )  # fmt: skip
    ax.set_facecolor("#F2F2F2")
    widest = max((text_width(t, CELL_TEXT) for text in grid.texts.values() for t in text),
                 default=0.0)  # fmt: skip
    for (j, i), text in grid.texts.items():
        shown = text if widest + 0.06 <= inches else text[:1]
        if not shown or text_width(shown[0], CELL_TEXT) + 0.04 > inches:
            continue
        value = grid.values[j, i]
        light = np.isfinite(value) and float(norm(value)) < 0.5
        ax.text(
            i, j, "\n".join(shown), ha="center", va="center", fontsize=CELL_TEXT,
            color="white" if light else "black", linespacing=1.15, zorder=3,
            bbox={"facecolor": colours(norm(value)), "edgecolor": "none", "pad": 0.6}
            if np.isfinite(value) else None,
        )  # fmt: skip
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)


def draw_contours(ax: Axes, values: FloatArray, levels: Mapping[float, Any]) -> None:
    """Lines of equal value, interpolated between the middles of cells.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        With a grid.
    values : ndarray, shape (lines, columns)
        NaN where a cell has none.
    levels : mapping
        Line style of each value at which there is a line.
    """
    known = np.ma.masked_invalid(values)
    for level, style in levels.items():
        if min((known < level).sum(), (known > level).sum()) > 1:
            # Black within white is seen on every colour.
            for colour, width, dashes in (("white", 3.0, "-"), ("black", 1.3, style)):
                ax.contour(
                    known, levels=[level], colors=colour, linewidths=width, linestyles=[dashes],
                    zorder=2,
                )  # fmt: skip


def _bar(panels: Panels, norm: Normalize, title: str, left: float) -> None:
    """The colour bar, below the grids."""
    page = panels.page
    ax = page.axes(left, panels.grid + 0.06, 3.2, 0.12)
    bar = page.figure.colorbar(
        matplotlib.cm.ScalarMappable(norm, matplotlib.colormaps[COLOURS]), cax=ax,
        orientation="horizontal",
    )  # fmt: skip
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)
    bar.ax.text(
        3.3 / 3.2, 0.5, title, va="center_baseline", fontsize=8.5, transform=bar.ax.transAxes
    )
