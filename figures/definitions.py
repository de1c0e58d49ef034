"""What each rule for primary and acquired resistance calls the patients of each latent class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from figures.shared import (
    BLUE,
    GREEN,
    LIGHT_GREY,
    MID_GREY,
    ORANGE,
    PURPLE,
    SKY,
    SMALL_PRINT,
    VERMILLION,
    YELLOW,
    ResultFileError,
    draw_areas,
)

__all__ = ["LABELS", "LATENT", "NOTE", "NOT_APPLICABLE", "draw_definitions", "place_bars"]

LATENT = {
    "primary": "Truly primary",
    "acquired": "Truly acquired",
    "none": "Never resistant",
}
"""Latent classes in words."""

NOT_APPLICABLE = "not_applicable"

LABELS = {
    "primary": ("primary", VERMILLION),
    "acquired": ("acquired", BLUE),
    "no_progression": ("no progression", GREEN),
    "gap": ("gap between the two", PURPLE),
    "not_acquired": ("not acquired", SKY),
    "unconfirmed": ("progression not confirmed", ORANGE),
    "late_off_drug": ("progressed late off drug", YELLOW),
    "not_evaluable": ("not evaluable", MID_GREY),
    "early_death": ("early death, unclassified", "#404040"),
    NOT_APPLICABLE: ("rule does not apply", LIGHT_GREY),
}
"""What a rule can say, in words, with its colour."""

NOTE = "Bars: the patients of a latent class, in %, by what each rule calls them."

_DARK = {VERMILLION, BLUE, GREEN, "#404040"}
_BAR = np.array([[0.0, -0.43], [1.0, -0.43], [1.0, 0.43], [0.0, 0.43]])
SMALLEST_LABELLED = 0.10
"""Share of a bar from which it has its percentage written in it."""


def place_bars(
    arms: Sequence[str], rules: Sequence[str]
) -> tuple[dict[tuple[str, str], float], dict[str, float], float]:
    """Where each bar goes, downwards: a line for the name of an arm, then one per rule.

    Returns
    -------
    bars : dict
        Position of each (arm, rule).
    headings : dict
        Position of each arm's name.
    end : float
        Height of the whole.
    """
    bars, headings, y = {}, {}, 0.0
    for arm in arms:
        headings[arm] = y + 0.55
        for i, rule in enumerate(rules):
            bars[arm, rule] = y + 1.5 + i
        y += len(rules) + 1.35
    return bars, headings, y


def draw_definitions(
    ax: Axes, counts: pd.DataFrame, arms: Sequence[str], rules: Sequence[str]
) -> Axes:
    """Draw one latent class: a bar for each rule under each strategy, divided by label.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    counts : DataFrame
        arm, rule, label, patients, of one latent class. Bars show shares of
        the patients of that class.
    arms, rules : sequence of str
        Names, from the top down.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.

    Raises
    ------
    ResultFileError
        If a label is not one of `LABELS`.
    """
    unknown = sorted(set(counts["label"]) - set(LABELS))
    if unknown:
        raise ResultFileError(
            f"resistance.csv: no label named '{unknown[0]}'. Known: {', '.join(LABELS)}."
        )
    bars, headings, end = place_bars(arms, rules)
    wide = counts.pivot_table(
        index=["arm", "rule"], columns="label", values="patients", aggfunc="sum", fill_value=0
    )
    wide = wide[[bar in bars for bar in wide.index]]
    y = np.array([bars[bar] for bar in wide.index])
    patients = wide.sum(axis=1)
    for arm, total in patients.groupby(level="arm").max().items():
        ax.text(
            1.0, headings[str(arm)], f"n = {total:,.0f}", ha="right", va="center", size=SMALL_PRINT
        )
    left = np.zeros(len(y))
    outlines: list[NDArray[np.float64]] = []
    colours: list[str] = []
    for label, (_, colour) in LABELS.items():
        if label not in wide:
            continue
        share = (wide[label] / patients).to_numpy(dtype=np.float64)
        for k in np.flatnonzero(share > 0.0):
            outlines.append(_BAR * (share[k], 1.0) + (left[k], y[k]))
            colours.append(colour)
        for k in np.flatnonzero(share >= SMALLEST_LABELLED):
            ax.text(
                left[k] + share[k] / 2.0, y[k], f"{100.0 * share[k]:.0f}", ha="center",
                va="center_baseline", size=SMALL_PRINT,
                color="white" if colour in _DARK else "black",
            )  # fmt: skip
        left += share
    draw_areas(ax, outlines, colours)
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(end, 0.0)
    ax.set_xticks([0.0, 0.5, 1.0], ["0", "50", "100"])
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return ax
