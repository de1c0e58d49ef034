"""How the estimates of a comparison spread over trials, about the true value."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.shared import BLACK, SKY, VERMILLION, draw_areas

__all__ = ["NOTE", "draw_estimates", "unit"]

NOTE = (
    "Areas: simulated trials by their estimate; what lies beyond an end is in its last step. The "
    "true value comes from a large cohort met in both arms."
)
UNITS = {
    "average_hazard_ratio": "log average hazard ratio",
    "cox": "log hazard ratio",
    "median_difference": "months",
    "milestone_difference": "difference of survival",
    "response_rate_difference": "difference of response rates",
    "rmst_difference": "months",
    "rmst_ratio": "log ratio",
    "time_lost_ratio": "log ratio",
}


def unit(method: str) -> str:
    """What the estimate of a comparison is measured in."""
    return UNITS.get(method.partition("(")[0], "estimate")


def draw_estimates(ax: Axes, bins: pd.DataFrame, truth: float, mean: float) -> Axes:
    """Draw a histogram with lines at the true value and at the mean estimate.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    bins : DataFrame
        lower, upper, replicates.
    truth, mean : float
        Where the lines are.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    outlines = [
        np.array([(low, 0.0), (high, 0.0), (high, count), (low, count)])
        for low, high, count in bins[["lower", "upper", "replicates"]].itertuples(index=False)
    ]
    draw_areas(ax, outlines, [SKY] * len(outlines))
    ax.axvline(mean, color=VERMILLION, linewidth=1.4)
    ax.axvline(truth, color=BLACK, linewidth=1.4, linestyle=(0, (4.0, 2.0)))
    ax.set_xlim(bins["lower"].min(), bins["upper"].max())
    ax.set_ylim(0.0, 1.05 * bins["replicates"].max())
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=4)
    return ax
