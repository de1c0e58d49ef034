"""Simulated results against published ones, in standard errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.shared import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SMALL_PRINT,
    VERMILLION,
)

__all__ = ["NOTE", "draw_targets", "measure_text", "place_rows", "value_text"]

SHORT = {
    "pfs": "PFS", "os": "OS", "duration_of_response": "DOR",
    "acquired_resistance": "time to acquired resistance", "pfs2": "PFS2",
}  # fmt: skip
NAMED = {
    "orr": "objective response", "bor_pd": "best response progression",
    "completed": "all cycles taken", "orr_completed": "response if all cycles taken",
}  # fmt: skip
ARMS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Colours of arms in their order."""

BANDS = ((3.0, "#F6F6F6"), (2.0, "#ECECEC"), (1.0, "#DFDFDF"))
WIDEST = 6.0
"""Standard errors shown; what lies beyond is marked at the edge."""

NOTE = (
    "The unit is the published standard error, combined with the tolerance stated for the target. "
    "Hazard ratios are compared by their logarithms. Grey: within one, two and three."
)

# Where the columns of text stand: inches left of the axis, then right of its end.
NAMES, PUBLISHED, SIMULATED = -3.05, 0.95, 1.85


def measure_text(measure: str) -> str:
    """The name of a measure in words.

    Examples
    --------
    >>> measure_text("rate_pfs_12"), measure_text("median_os")
    ('PFS at 12 months', 'median OS, months')
    """
    if measure in NAMED:
        return NAMED[measure]
    if measure.startswith("hr_"):
        return f"{measure.removeprefix('hr_').upper()} hazard ratio"
    if measure.startswith("survival_after_completion_"):
        return f"alive {measure.rpartition('_')[2]} months after all cycles"
    if measure.startswith("median_post_progression_"):
        line = measure.removeprefix("median_post_progression_").replace("_", " ")
        return f"months after PD, {line.replace('continue beyond progression', 'treated on')}"
    if measure.startswith("median_"):
        endpoint = measure.removeprefix("median_")
        return f"median {SHORT.get(endpoint, endpoint)}, months"
    if measure.startswith("rate_"):
        endpoint, _, month = measure.removeprefix("rate_").rpartition("_")
        return f"{SHORT.get(endpoint, endpoint)} at {month} months"
    return measure.replace("_", " ")


def value_text(measure: str, value: float) -> str:
    """A value as it is printed: months for medians, ratios as they are, percent for the rest."""
    if not np.isfinite(value):
        return "not reached" if measure.startswith("median_") else "none"
    if measure.startswith("hr_"):
        return f"{value:.2f}"
    return f"{value:.1f}" if measure.startswith("median_") else f"{100.0 * value:.1f} %"


def draw_targets(ax: Axes, targets: pd.DataFrame, labels: Mapping[str, str]) -> Axes:
    """Draw z for each target as a dot, with the published and simulated value beside it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Names hang out to the left, values to the right.
    targets : DataFrame
        strategy, measure, published, simulated, z, checked, from the top down, and stratum
        where results are of one. Each strategy has a colour.
        z is (simulated - published) in standard errors; values recalled and not
        read again in their source (`checked` is ``memory``) are drawn hollow.
    labels : mapping
        Label of each strategy, and of each stratum that the table names.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    rank, headings, end = place_rows(targets["strategy"])
    for edge, shade in BANDS:
        ax.axvspan(-edge, edge, color=shade, linewidth=0)
    colours = dict(zip(headings, cycle(ARMS), strict=False))
    ax.axvline(0.0, color=DARK_GREY, linewidth=0.8)
    aside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center_baseline"}
    figure = ax.get_figure(root=True)
    assert figure is not None
    width = ax.get_position().width * figure.get_size_inches()[0]
    published, simulated = 1.0 + PUBLISHED / width, 1.0 + SIMULATED / width
    for name, y in headings.items():
        ax.text(
            NAMES / width, y, labels.get(name, name), weight="bold", color=colours[name], **aside
        )
    for y, row in zip(rank, targets.itertuples(index=False), strict=True):
        colour = colours[str(row.strategy)]
        _draw_dot(ax, y, float(row.z), colour, recalled=row.checked == "memory")
        for x, value in ((published, row.published), (simulated, row.simulated)):
            ax.text(x, y, value_text(row.measure, float(value)), ha="right", **aside)
    for x, title in ((published, "published"), (simulated, "simulated")):
        ax.text(x, min(headings.values()), title, ha="right", **aside)
    ax.set_ylim(end, 0.0)
    strata = targets.get("stratum", pd.Series([""] * len(targets))).fillna("")
    ax.set_yticks(
        rank,
        [
            measure_text(name) + (f" ({labels.get(part, part)})" if part else "")
            for name, part in zip(targets["measure"], strata, strict=True)
        ],
    )
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlim(-WIDEST, WIDEST)
    ax.set_xticks([-6, -3, -2, -1, 0, 1, 2, 3, 6])
    ax.set_xlabel("z: simulated less published, in standard errors")
    return ax


def place_rows(strategies: Iterable[str]) -> tuple[list[float], dict[str, float], float]:
    """Where each target goes, downwards, with a line for the name of each strategy.

    Returns
    -------
    rank : list of float
        Position of each target. Targets of a strategy stand together.
    headings : dict
        Position of the name of each strategy.
    end : float
        Height of the whole.

    Examples
    --------
    >>> place_rows(["a", "b", "a"])
    ([1.5, 5.0, 2.5], {'a': 0.5, 'b': 4.0}, 5.5)
    """
    members: dict[str, list[int]] = {}
    for i, name in enumerate(strategies):
        members.setdefault(name, []).append(i)
    rank = [0.0] * sum(len(rows) for rows in members.values())
    headings, y = {}, 0.5
    for name, rows in members.items():
        headings[name] = y
        for k, i in enumerate(rows, start=1):
            rank[i] = y + k
        y += len(rows) + 1.5
    return rank, headings, y - 1.0


def _draw_dot(ax: Axes, y: float, z: float, colour: str, *, recalled: bool) -> None:
    if np.isnan(z):
        return
    beyond = abs(z) > WIDEST
    x = float(np.clip(z, -WIDEST, WIDEST))
    ax.plot([0.0, x], [y, y], color=colour, linewidth=1.0, alpha=0.5)
    ax.plot(
        x, y, color=colour, markerfacecolor="white" if recalled else colour, markersize=6.0,
        marker=("<" if x < 0 else ">") if beyond else "o", clip_on=False,
    )  # fmt: skip
    if beyond:
        ax.annotate(
            f"{z:.1f}", (x, y), xytext=(4 if x < 0 else -4, 7), textcoords="offset points",
            ha="left" if x < 0 else "right", va="center_baseline", size=SMALL_PRINT,
        )  # fmt: skip
