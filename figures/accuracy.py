"""Bias and coverage of each estimate of a trial, with their Monte Carlo errors."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from figures.shared import draw_dots, draw_mark

__all__ = ["NOTE", "PANELS", "accuracy_rows", "draw_accuracy"]

NOTE = (
    "Bars: within 1.96 Monte Carlo errors. Bias is mean estimate less true value, over the spread "
    "of the estimates between trials; the true value comes from a large cohort met in both arms. "
    "Coverage is the share of trials whose 95 % interval holds the true value."
)
PANELS = {
    "standardised_bias": ("Bias, in empirical standard errors", 0.0),
    "coverage": ("Coverage of the 95 % interval", 0.95),
}
"""Measure of each panel, its axis and the value it should have."""


def accuracy_rows(operating: pd.DataFrame) -> list[tuple[str, dict[str, pd.DataFrame]]]:
    """Rows of each panel by cut, in the order of the file."""
    shown = operating[operating["measure"].isin(PANELS)]
    found = []
    for cut, rows in shown.groupby("cut", sort=False):
        keys = ["arm", "endpoint", "method"]
        order = rows.loc[rows["measure"] == "coverage", keys]
        # A comparison without spread has no bias in units of it: its place stays empty.
        panels = {m: order.merge(rows[rows["measure"] == m], how="left", on=keys) for m in PANELS}
        found.append((str(cut), panels))
    return found


def draw_accuracy(ax: Axes, rows: pd.DataFrame, measure: str, limits: Sequence[float]) -> Axes:
    """Draw one measure of the comparisons at one cut as dots with error bars.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    rows : DataFrame
        estimate and mc_error, from the top down.
    measure : str
        One of `PANELS`; a line marks the value it should have.
    limits : sequence of float
        Ends of the axis.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    name, wanted = PANELS[measure]
    draw_mark(ax, wanted)
    draw_dots(ax, rows["estimate"], rows["mc_error"])
    ax.set_yticks([])
    ax.set_xlim(*limits)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(name)
    return ax
