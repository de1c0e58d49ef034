"""Power of each comparison of a trial, with its Monte Carlo error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from figures.shared import draw_dots, draw_mark, method_words, name_rows
from sim.endpoint.endpoint import short_name

__all__ = ["NOTE", "comparison_names", "draw_power", "power_rows"]

NOTE = (
    "Bars: power within 1.96 Monte Carlo errors; where arms do not differ it is the type I error. "
    "Dashed: the one-sided level."
)


def power_rows(operating: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Power by cut, in the order of the file."""
    power = operating[operating["measure"] == "power"]
    return [(str(cut), rows) for cut, rows in power.groupby("cut", sort=False)]


def comparison_names(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Comparisons in words, with the arm where there are several."""
    several = rows["arm"].nunique() > 1
    return [
        (f"{labels.get(row.arm, row.arm)}, " if several else "")
        + f"{short_name(row.endpoint)}, {method_words(str(row.method))}"
        for row in rows.itertuples(index=False)
    ]


def draw_power(
    ax: Axes, rows: pd.DataFrame, names: Sequence[str], alpha: float, title: str
) -> Axes:
    """Draw the power of the comparisons at one cut as dots with error bars.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Names hang out to the left.
    rows : DataFrame
        arm, endpoint, method, estimate, mc_error, from the top down.
    names : sequence of str
        Of the rows.
    alpha : float
        One-sided level, marked by a line.
    title : str
        Name of the cut.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    draw_mark(ax, alpha)
    draw_dots(ax, rows["estimate"], rows["mc_error"])
    name_rows(ax, names, [f"{100.0 * power:.1f} %" for power in rows["estimate"]])
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel("Power")
    ax.set_title(title, loc="left", weight="bold")
    return ax
