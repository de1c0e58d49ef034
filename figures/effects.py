"""Published hazard ratios and what pooling makes of them; forecasts that were put to the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.page import MARGIN, PAGE, Page, key_height
from figures.shared import BLACK, BLUE, DARK_GREY, MID_GREY, SKY, VERMILLION, text_width

__all__ = ["backtest_page", "effects_page", "place_families", "place_forecasts"]

LINE = 0.165
"""Inches of a row."""

LEAST, MOST = 0.23, 2.0
"""Ends of the axes of hazard ratios; what lies beyond is cut."""

TICKS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
TITLES = {"pfs": "Progression-free survival", "os": "Overall survival"}
AXIS = "Hazard ratio (below 1 favours the strategy)"

EFFECTS_NOTE = (
    "Estimates and pooled effects with 95 % intervals; each family on a line of its own, with its "
    "mean and where the true effect of a new trial would lie (80 %). Pooled: normal model of "
    "family, agent and trial, both endpoints together. A hollow mark: recalled, not read again."
)
BACKTEST_NOTE = (
    "Each contrast as forecast just before its trial was first reported, from what had been "
    "published in earlier years, its own trial left out. Bars: 80 % intervals for the estimate, "
    "its error included. Right: n, contrasts that were known."
)


def effects_page(
    contrasts: pd.DataFrame, families: pd.DataFrame, words: Mapping[str, str]
) -> Figure:
    """Forest plot of contrasts by family, PFS left and OS right.

    Parameters
    ----------
    contrasts : DataFrame
        As `analysis.effect_pooling.pooled_effects` makes it.
    families : DataFrame
        As `analysis.effect_pooling.family_effects` makes it.
    words : mapping
        Families in words.
    """
    rows, headings, end = place_families(contrasts)
    handles: list[Any] = [
        Line2D([], [], color=MID_GREY, marker="s", markersize=4, linewidth=1.0),
        Line2D([], [], color=BLUE, marker="o", markersize=4, linewidth=1.2),
        Line2D([], [], color=BLACK, marker="D", markersize=5, linewidth=0.0),
        Patch(facecolor=SKY, alpha=0.45, linewidth=0),
    ]
    labels = ["as published", "pooled", "mean of the family", "a new trial of the family (80 %)"]
    keyed = key_height(len(handles)) + 0.34
    tall = LINE * end
    page = Page(
        "Hazard ratios of strategies, as published and pooled", "", keyed + tall + 0.5, EFFECTS_NOTE
    )
    page.key(handles, labels, 0.0)
    named = 3.1
    width = (PAGE - MARGIN - named - 0.35 - MARGIN) / 2.0
    for column, endpoint in enumerate(TITLES):
        ax = page.axes(MARGIN + named + column * (width + 0.35), keyed, width, tall)
        own = contrasts[contrasts["endpoint"] == endpoint]
        _draw_contrasts(ax, own, rows)
        means = families[families["endpoint"] == endpoint]
        _draw_families(ax, means, headings)
        _hazard_ratio_axis(ax, end)
        ax.set_title(TITLES[endpoint])
        if column == 0:
            aside: dict[str, Any] = {
                "transform": ax.get_yaxis_transform(), "va": "center_baseline", "size": 8.0,
            }  # fmt: skip
            for family, y in headings.items():
                ax.text(-named / width, y, words.get(family, family), weight="bold", **aside)
            for name, y in rows.items():
                ax.text(-(named - 0.12) / width, y, _short(_words(name), named - 0.2), **aside)
    return page.figure


Contrast = tuple[str, str, str, str]
"""Family, trial, agent and stratum: what has a row."""


def place_families(
    contrasts: pd.DataFrame,
) -> tuple[dict[Contrast, float], dict[str, float], float]:
    """Heights, downwards, of contrasts and of the names of their families, and of the whole.

    Examples
    --------
    >>> one = pd.DataFrame({"family": ["f", "g"], "trial": ["a", "b"], "agent": ["x", "y"],
    ...                     "stratum": ["any", "any"]})
    >>> place_families(one)[1:]
    ({'f': 0.5, 'g': 2.9}, 4.9)
    """
    rows: dict[Contrast, float] = {}
    headings: dict[str, float] = {}
    y = 0.5
    for family, own in contrasts.groupby("family", sort=False):
        headings[str(family)] = y
        for key in own[["family", "trial", "agent", "stratum"]].itertuples(index=False):
            name: Contrast = (key[0], key[1], key[2], key[3])
            if name not in rows:
                y += 1.0
                rows[name] = y
        y += 1.4
    return rows, headings, round(y - 0.4, 9)


def _words(name: Contrast) -> str:
    _, trial, agent, stratum = name
    where = "" if stratum == "any" else f", PD-L1 {stratum}"
    return f"{trial}{where}: {agent}"


def _short(text: str, width: float) -> str:
    while text_width(text, 8.0) > width:
        text = text.rstrip("\u2026")[:-1].rstrip() + "\u2026"
    return text


def _draw_contrasts(ax: Axes, own: pd.DataFrame, rows: Mapping[Contrast, float]) -> None:
    for row in own.itertuples(index=False):
        y = rows[(row.family, row.trial, row.agent, row.stratum)]
        known = row.checked == "verified"
        for off, names, colour, mark in (
            (-0.17, ("estimate_lower", "log_hazard_ratio", "estimate_upper"), MID_GREY, "s"),
            (0.17, ("shrunken_lower", "shrunken", "shrunken_upper"), BLUE, "o"),
        ):
            low, middle, high = np.exp([getattr(row, name) for name in names])
            ax.plot([low, high], [y + off] * 2, color=colour, linewidth=1.0)
            hollow = mark == "s" and not known
            ax.plot(
                middle, y + off, mark, color=colour, markersize=3.2,
                markerfacecolor="white" if hollow else colour,
            )  # fmt: skip


def _draw_families(ax: Axes, means: pd.DataFrame, headings: Mapping[str, float]) -> None:
    for row in means.itertuples(index=False):
        y = headings[row.family]
        low, high = np.exp([row.new_lower, row.new_upper])
        ax.barh(y, high - low, left=low, height=0.62, color=SKY, alpha=0.45, linewidth=0)
        ax.plot(np.exp(row.mean), y, "D", color=BLACK, markersize=4.0)


def _hazard_ratio_axis(ax: Axes, end: float) -> None:
    ax.axvline(1.0, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)), zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(LEAST, MOST)
    ax.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    ax.minorticks_off()
    ax.set_ylim(end, 0.0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(AXIS)


# ---------------------------------------------------------------- backtest


def backtest_page(forecasts: pd.DataFrame, told: str = "") -> Figure:
    """Forecast intervals against what was published, by the year of the forecast.

    Parameters
    ----------
    forecasts : DataFrame
        As `analysis.backtest.nearest_forecasts` makes it.
    told : str
        A sentence below the title.
    """
    heights, years, end = place_forecasts(forecasts)
    handles: list[Any] = [
        Patch(facecolor=SKY, alpha=0.45, linewidth=0),
        Line2D([], [], color=BLUE, marker="o", markersize=5, linewidth=0.0),
        Line2D([], [], color=MID_GREY, marker="^", markersize=4.5, linewidth=0.0),
        Line2D([], [], color=BLUE, marker="|", markersize=7, markeredgewidth=1.6, linewidth=0.0),
        Line2D([], [], color=VERMILLION, marker="X", markersize=6, linewidth=0.0),
        Line2D([], [], color=MID_GREY, marker="d", markersize=5, linewidth=0.0),
    ]
    labels = [
        "forecast from the pool (80 %)", "published, inside", "nearest earlier contrast",
        "its median", "published, outside", "phase 2 of the same family",
    ]  # fmt: skip
    keyed = key_height(len(handles)) + 0.15
    tall = LINE * 1.06 * end
    page = Page(
        "Forecasts of phase 3 hazard ratios, put to the test", told, keyed + tall + 0.5,
        BACKTEST_NOTE,
    )  # fmt: skip
    page.key(handles, labels, 0.0)
    named = 3.9
    width = PAGE - 2.0 * MARGIN - named - 0.35
    ax = page.axes(MARGIN + named, keyed, width, tall)
    aside: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(), "va": "center_baseline", "size": 8.0,
    }  # fmt: skip
    ax.text(1.0 + 0.08 / width, -0.5, "n", **aside)
    for year, y in years.items():
        ax.text(-named / width, y, str(year), weight="bold", **aside)
        ax.axhline(y - 0.75, color="#E6E6E6", linewidth=0.6, xmin=-named / width, clip_on=False)
    for y, row in zip(heights, forecasts.itertuples(index=False), strict=True):
        name = _short(_words((row.family, row.trial, row.agent, row.stratum)), named - 1.0)
        ax.text(-(named - 0.5) / width, y, name, **aside)
        ax.text(-0.32 / width, y, row.endpoint.upper(), **aside)
        ax.text(1.0 + 0.08 / width, y, f"{row.n_pooled}", **aside)
        _draw_forecast(ax, y, row)
    _hazard_ratio_axis(ax, end)
    return page.figure


def place_forecasts(forecasts: pd.DataFrame) -> tuple[list[float], dict[int, float], float]:
    """Heights, downwards, of forecasts in their order, of the first of each year, and of the whole.

    Examples
    --------
    >>> place_forecasts(pd.DataFrame({"cutoff": [2018, 2018, 2019]}))
    ([0.5, 1.5, 3.0], {2018: 0.5, 2019: 3.0}, 3.5)
    """
    heights: list[float] = []
    years: dict[int, float] = {}
    y = 0.0
    for year in forecasts["cutoff"]:
        y += 0.5 if not heights else 1.0 if int(year) in years else 1.5
        years.setdefault(int(year), y)
        heights.append(y)
    return heights, years, y + 0.5


def _draw_forecast(ax: Axes, y: float, row: Any) -> None:
    low, middle, high = np.exp([row.pooled_lower, row.pooled, row.pooled_upper])
    ax.barh(y, high - low, left=low, height=0.62, color=SKY, alpha=0.45, linewidth=0)
    ax.plot(middle, y, "|", color=BLUE, markersize=7, markeredgewidth=1.6)
    for value, mark, size in ((row.nearest, "^", 4.5), (row.phase2, "d", 5.0)):
        if np.isfinite(value):
            ax.plot(np.exp(value), y, mark, color=MID_GREY, markersize=size)
    inside = bool(row.pooled_covered)
    ax.plot(
        np.exp(row.observed), y, "o" if inside else "X", color=BLUE if inside else VERMILLION,
        markersize=5 if inside else 6, zorder=5,
    )  # fmt: skip
