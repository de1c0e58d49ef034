"""Predicted trials: curves, hazard ratios and their parts; trials left out of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.page import MARGIN, PAGE, Page, key_height
from figures.shared import (
    BLUE,
    DARK_GREY,
    GREEN,
    LIGHT_GREY,
    MID_GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
)

__all__ = ["PARTS", "left_out_page", "prediction_page"]

PARTS: Mapping[str, tuple[str, str]] = {
    "calibration": ("calibration", BLUE), "between_trials": ("between trials", ORANGE),
    "assumption": ("assumption", PURPLE), "sampling": ("sampling", LIGHT_GREY),
}  # fmt: skip
"""Parts of the variance: words and colours."""

TITLES = {"pfs": "Progression-free survival", "os": "Overall survival"}
COLOURS = (VERMILLION, BLUE, GREEN)
BANDS = (("0.025", "0.975", 0.10), ("0.1", "0.9", 0.14), ("0.25", "0.75", 0.22))
"""Columns of lower and upper limits, and how dark."""

ROW = 0.15
KINDS = (
    ("landmark", "Landmarks"),
    ("median", "Medians, months"),
    ("hazard ratio", "Hazard ratios"),
)

LEFT_OUT_NOTE = (
    "Bars: 80 % intervals for the published value, predicted from the other trials; small strokes: "
    "their medians. Dots: published; crosses: outside. For research and teaching, not for treating "
    "patients."
)


def prediction_page(
    title: str,
    description: str,
    curves: pd.DataFrame,
    ratios: pd.DataFrame,
    shares: pd.DataFrame,
    labels: Mapping[str, str],
    caption: str,
) -> Figure:
    """The page of one prediction.

    Parameters
    ----------
    title, description, caption : str
    curves : DataFrame
        ``strategy, endpoint, month, kind`` (`true` or `observed`) and a column for each quantile.
    ratios : DataFrame
        ``what, hazard_ratio, density``: a density for each of the words in `what`.
    shares : DataFrame
        ``quantity`` and a column for each of `PARTS`: parts of the variance, adding up to 1.
    labels : mapping
        Label of each strategy.
    """
    arms = list(dict.fromkeys(curves["strategy"]))
    keyed = key_height(len(arms) + 2) + 0.12
    tall, lower = 2.6, 0.2 + 0.24 * len(shares)
    low = max(lower, 1.7)
    page = Page(title, description, keyed + 0.3 + tall + 0.75 + low + 0.6, caption)
    handles: list[Any] = [Line2D([], [], color=c, linewidth=1.8) for c in COLOURS[: len(arms)]]
    handles += [
        Patch(facecolor=MID_GREY, alpha=0.4, linewidth=0),
        Line2D([], [], color=MID_GREY, linewidth=0.8, linestyle=(0, (2.0, 1.5))),
    ]
    words = [
        *(labels[a] for a in arms),
        "50, 80, 95 % of the true curve",
        "80 % of the observed curve",
    ]
    page.key(handles, words, 0.0)
    wide = (PAGE - 2.0 * MARGIN - 1.2) / 2.0
    for k, endpoint in enumerate(("pfs", "os")):
        ax = page.axes(MARGIN + 0.45 + k * (wide + 0.65), keyed + 0.25, wide, tall)
        ax.set_title(TITLES[endpoint], loc="left", size=9.5)
        for arm, colour in zip(arms, COLOURS, strict=False):
            own = curves[(curves["strategy"] == arm) & (curves["endpoint"] == endpoint)]
            _draw_fan(ax, own, colour)
        ax.set_ylim(0.0, 1.0)
        ax.set_xlim(0.0, float(curves["month"].max()))
        ax.set_xticks(np.arange(0.0, float(curves["month"].max()) + 0.1, 12.0))
        ax.set_xlabel("Months since randomisation")
    top = keyed + 0.25 + tall + 0.8
    if len(ratios):
        _draw_ratios(page.axes(MARGIN + 0.2, top, wide + 0.1, low), ratios)
    named = 1.5
    ax = page.axes(MARGIN + 0.45 + wide + 0.65 + named - 0.3, top, wide - named + 0.3, lower)
    _draw_shares(ax, shares)
    return page.figure


def _draw_fan(ax: Axes, own: pd.DataFrame, colour: str) -> None:
    true = own[own["kind"] == "true"]
    for low, high, dark in BANDS:
        ax.fill_between(true["month"], true[low], true[high], color=colour, alpha=dark, linewidth=0)
    ax.plot(true["month"], true["0.5"], color=colour, linewidth=1.6)
    seen = own[own["kind"] == "observed"]
    for column in ("0.1", "0.9"):
        ax.plot(seen["month"], seen[column], color=colour, linewidth=0.8, linestyle=(0, (2.0, 1.5)))


def _draw_ratios(ax: Axes, ratios: pd.DataFrame) -> None:
    styles = ("-", (0, (4.0, 1.5)), (0, (1.0, 1.0)), (0, (4.0, 1.0, 1.0, 1.0)))
    for k, (what, own) in enumerate(ratios.groupby("what", sort=False)):
        colour = (VERMILLION, BLUE, DARK_GREY, MID_GREY)[k % 4]
        ax.plot(
            own["hazard_ratio"], own["density"], color=colour, linewidth=1.4,
            linestyle=styles[k % 4], label=str(what),
        )  # fmt: skip
    ax.axvline(1.0, color=DARK_GREY, linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ticks = [t for t in (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
             if ratios["hazard_ratio"].min() <= t <= ratios["hazard_ratio"].max()]  # fmt: skip
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_yticks([])
    ax.set_ylim(bottom=0.0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Hazard ratio (below 1 favours the strategy)")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8.0)


def _draw_shares(ax: Axes, shares: pd.DataFrame) -> None:
    names = [name for name in PARTS if shares[name].max() > 0.0]
    for i, row in enumerate(shares.to_dict("records")):
        left = 0.0
        for name in names:
            ax.barh(i, row[name], left=left, height=0.66, color=PARTS[name][1], linewidth=0)
            left += row[name]
    ax.set_yticks(range(len(shares)), list(shares["quantity"]))
    ax.set_ylim(len(shares) - 0.4, -0.6)
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel("Share of the variance of the observation")
    ax.legend(
        handles=[Patch(facecolor=PARTS[name][1]) for name in names],
        labels=[PARTS[name][0] for name in names],
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(names), fontsize=8.0,
        columnspacing=0.9, handlelength=1.0,
    )  # fmt: skip


def left_out_page(rows: pd.DataFrame, told: str) -> Figure:
    """Predicted intervals against published values, by trial: a column for each kind of value.

    Parameters
    ----------
    rows : DataFrame
        ``trial, strategy, stratum, measure, kind, observed, lower, middle, upper, covered``.
    told : str
        A sentence below the title.
    """
    heights = place_rows(rows)
    tall = ROW * max(float(end) for _, end in heights.values())
    page = Page(
        "Published trials, predicted from the others", told, 0.3 + tall + 0.5, LEFT_OUT_NOTE
    )
    wide = (PAGE - 2.0 * MARGIN - 0.2) / 3.0
    for k, (kind, title) in enumerate(KINDS):
        own = rows[rows["kind"] == kind]
        places, end = heights[kind]
        named = 1.25
        height = ROW * end
        ax = page.axes(MARGIN + k * (wide + 0.1) + named, 0.3, wide - named - 0.05, height)
        ax.set_title(title, loc="left", size=9.5)
        ax.set_ylim(end, 0.0)
        for name, y, row in zip(_row_names(own), places, own.to_dict("records"), strict=True):
            _draw_interval(ax, y, row)
            ax.text(-0.04, y, name, transform=ax.get_yaxis_transform(), ha="right",
                    va="center_baseline", size=7.0)  # fmt: skip
        for trial, first in _firsts(own, places):
            ax.text(-named / (wide - named - 0.05), first - 1.1, trial, weight="bold", size=8.0,
                    transform=ax.get_yaxis_transform(), va="center_baseline")  # fmt: skip
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        if kind == "landmark":
            ax.set_xlim(0.0, 1.0)
        elif kind == "median":
            ax.set_xlim(0.0, 1.1 * float(own[["observed", "middle"]].max().max()) + 6.0)
        else:
            ax.set_xscale("log")
            ax.set_xlim(0.3, 2.0)
            ax.set_xticks([0.3, 0.5, 0.7, 1.0, 1.5], ["0.3", "0.5", "0.7", "1", "1.5"])
            ax.minorticks_off()
    return page.figure


def place_rows(rows: pd.DataFrame) -> dict[str, tuple[list[float], float]]:
    """Heights of the rows of each kind, in their order, and of the whole; room above each trial."""
    found = {}
    for kind, _ in KINDS:
        places: list[float] = []
        y, last = -0.7, None
        for trial in rows.loc[rows["kind"] == kind, "trial"]:
            y += 1.0 if trial == last else 2.4
            last = trial
            places.append(y)
        found[kind] = (places, y + 1.0)
    return found


def _firsts(own: pd.DataFrame, places: Sequence[float]) -> list[tuple[str, float]]:
    found: dict[str, float] = {}
    for trial, y in zip(own["trial"], places, strict=True):
        found.setdefault(str(trial), y)
    return [(trial.partition("_")[0], y) for trial, y in found.items()]


def _row_names(own: pd.DataFrame) -> list[str]:
    names = []
    for row in own.itertuples(index=False):
        what, endpoint, *month = row.measure.split("_")
        arm = row.strategy.rpartition("_")[0].replace("chemotherapy", "chemo").replace("_", " ")
        arm = "+".join(part[:5] for part in arm.split())
        where = f" {row.stratum.rpartition('_')[2][:4]}" if row.stratum else ""
        names.append(
            f"{'' if what == 'hr' else arm + ' '}{endpoint.upper()}"
            f"{' ' + month[0] if month else ''}{where}"
        )
    return names


def _draw_interval(ax: Axes, y: float, row: Mapping[str, Any]) -> None:
    high = row["upper"] if np.isfinite(row["upper"]) else 1e3
    ax.barh(
        y, high - row["lower"], left=row["lower"], height=0.66, color=SKY, alpha=0.45, linewidth=0
    )
    if np.isfinite(row["middle"]):
        ax.plot(row["middle"], y, "|", color=BLUE, markersize=5, markeredgewidth=1.3)
    inside = bool(row["covered"])
    ax.plot(
        row["observed"], y, "o" if inside else "X", color=BLUE if inside else VERMILLION,
        markersize=3.2 if inside else 4.2, zorder=5,
    )  # fmt: skip
