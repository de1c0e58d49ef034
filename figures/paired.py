"""Differences of power in the same trials, with the error that pairing leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from figures.shared import LIGHT_GREY, draw_dots, draw_mark, method_words, name_rows
from sim.endpoint.endpoint import short_name

__all__ = ["NOTE", "against_the_first", "draw_paired", "row_name"]

NOTE = (
    "Dots: power less that of the one it is set against, in the same simulated trials. Blue bars: "
    "within 1.96 paired Monte Carlo errors; grey bars: the same, had the trials been different "
    "ones. The file paired.csv has every pair."
)
TITLES = {
    "method": "Method", "endpoint": "Endpoint", "arm": "Arm", "cut": "Cut", "design": "Design",
}  # fmt: skip


def against_the_first(paired: pd.DataFrame, labels: Mapping[str, str]) -> tuple[str, pd.DataFrame]:
    """A title, and the rows that are set against the first of their kind.

    Parameters
    ----------
    paired : DataFrame
        Rows of ``paired.csv`` of one `versus`.
    labels : mapping
        Label of each arm.
    """
    versus, first = str(paired["versus"].iloc[0]), str(paired["other"].iloc[0])
    title = f"{TITLES.get(versus, versus)}, against {_word(versus, first, labels)}"
    return title, paired[paired["other"] == first]


def _word(facet: str, value: str, labels: Mapping[str, str]) -> str:
    if facet == "endpoint":
        return short_name(value)
    if facet == "method":
        return method_words(value)
    return labels.get(value, value) if facet == "arm" else value


def row_name(row: Mapping[str, str], facets: Sequence[str], labels: Mapping[str, str]) -> str:
    """A comparison in words."""
    return ", ".join(_word(facet, str(row[facet]), labels) for facet in facets)


def draw_paired(
    ax: Axes, rows: pd.DataFrame, names: Sequence[str], limits: Sequence[float]
) -> Axes:
    """Draw differences of power as dots with two error bars.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Names hang out to the left.
    rows : DataFrame
        difference, mc_error, mc_error_unpaired, from the top down.
    names : sequence of str
        Of the rows.
    limits : sequence of float
        Ends of the axis.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    draw_mark(ax, 0.0)
    ax.errorbar(
        rows["difference"], range(len(rows)), xerr=1.96 * rows["mc_error_unpaired"], fmt="none",
        ecolor=LIGHT_GREY, elinewidth=4.0,
    )  # fmt: skip
    draw_dots(ax, rows["difference"], rows["mc_error"])
    told = [f"{100.0 * value:+.1f} %".replace("-", "\u2212") for value in rows["difference"]]
    name_rows(ax, names, told)
    ax.set_xlim(*limits)
    ax.locator_params(axis="x", nbins=7)
    return ax
