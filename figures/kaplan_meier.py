"""Kaplan-Meier panels in the KMunicate form.

Functions here draw and do not compute: curves, intervals, counts and medians
come from result files. Size, style and saving belong to ``figures.run``.

Counts follow the KMunicate convention: "at risk" is who is still followed
after the time of the column, censored and events are cumulative, and the three
add up to the number of patients.

References
----------
.. [1] Morris et al. (2019), BMJ Open 9:e030215,
   https://doi.org/10.1136/bmjopen-2019-030215, on what readers want below a
   Kaplan-Meier plot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures.shared import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    PURPLE,
    SMALL_PRINT,
    VERMILLION,
    Strategy,
    months_axis,
    share_axis,
    text_width,
    wrap,
)

__all__ = [
    "AXIS", "AXIS_INCHES", "LINE_INCHES", "NOTE", "SINCE", "TITLES", "Curve", "choose_looks",
    "count_lines", "draw_counts",
    "draw_kaplan_meier", "draw_published", "group_panels", "median_text", "spread_ticks",
]  # fmt: skip

TITLES = {
    "pfs": "Progression-free survival",
    "os": "Overall survival",
    "duration_of_response": "Duration of response",
    "acquired_resistance": (
        "Freedom from acquired resistance (latent, patients without primary resistance)"
    ),
}
"""Endpoints in words, as titles."""

AXIS = {
    "pfs": "Progression-free survival",
    "os": "Overall survival",
    "duration_of_response": "Still responding",
    "acquired_resistance": "Free of acquired resistance",
}
"""What the height of a curve is."""

SINCE = {"duration_of_response": "response"}
"""What time is counted from, where that is not randomisation."""

NOTE = (
    "Bands and brackets: 95 % intervals. At risk: still followed after that month; censored and "
    "events: up to it. Pale: fewer than 5 % of the patients, or 10, are left."
)

ENDPOINT_NOTES = {
    "acquired_resistance": (
        " The patients differ between strategies, as primary resistance does, and deaths are "
        "censored: a difference of curves is no treatment effect; see the incidences."
    )
}
"""What must be said of one endpoint, after `NOTE`."""

ONE_PANEL = 4
"""Strategies that fit in one panel; more are shown by family."""

PER_PANEL = 3
"""Curves of a panel beside the reference."""

FEW_SHARE, FEW = 0.05, 10
"""A curve is drawn pale once fewer than this share of its patients, or fewer patients, are left."""

LINE_INCHES = 0.125
"""Height of a line of the table."""

AXIS_INCHES = 0.43
"""Height of what stands between an axis and its table: its ticks and its label."""

ROWS = (("At risk", "at_risk"), ("Censored", "censored"), ("Events", "events"))

# Where the parts of the table begin, in inches left of the axis.
SWATCH, NAME, ROW_NAME = -0.86, -0.48, -0.30
_BETWEEN = 0.45  # lines between curves
_SPACING = LINE_INCHES * 72.0 / SMALL_PRINT


@dataclass(frozen=True, slots=True)
class Curve:
    """How one strategy's curve is drawn."""

    arm: str
    label: str
    colour: str
    dashes: Any = "-"
    """A line style of Matplotlib."""

    width: float = 2.0
    above: bool = False
    """Whether it is drawn over the others, which it is too thin to hide."""


_COLOURED: tuple[tuple[str, Any], ...] = (
    (BLUE, "-"),
    (VERMILLION, (0, (5.0, 1.4))),
    (GREEN, (0, (6.0, 1.3, 1.4, 1.3))),
    (PURPLE, (0, (2.2, 1.2))),
)
_PUBLISHED: tuple[Any, ...] = (
    (0, (3.5, 2.0)),
    (0, (1.0, 1.4)),
    (0, (5.0, 1.5, 1.0, 1.5)),
    (0, (8.0, 2.0)),
)


def group_panels(
    strategies: Sequence[Strategy], reference: str
) -> list[tuple[str, tuple[Strategy, ...]]]:
    """Share strategies out over panels.

    Parameters
    ----------
    strategies : sequence of Strategy
        In the order of the run.
    reference : str
        Name of the one that is in every panel; may be empty.

    Returns
    -------
    list of (str, tuple of Strategy)
        Title and strategies of each panel, the reference first. Up to
        `ONE_PANEL` strategies share one panel without a title; more are shown
        by family, families with many members over several panels, and full
        panels before the others, so that panels side by side are alike.

    Examples
    --------
    >>> some = [Strategy(x, x, "Family") for x in "abcde"]
    >>> [(title, [x.name for x in members]) for title, members in group_panels(some, "a")]
    [('Family (1 of 2)', ['a', 'b', 'c', 'd']), ('Family (2 of 2)', ['a', 'e'])]
    """
    first = tuple(item for item in strategies if item.name == reference)
    others = tuple(item for item in strategies if item.name != reference)
    if len(strategies) <= ONE_PANEL:
        return [("", first + others)]
    families: dict[str, list[Strategy]] = {}
    for item in others:
        families.setdefault(item.family or "Other", []).append(item)
    panels = []
    for family, members in families.items():
        parts = [members[i : i + PER_PANEL] for i in range(0, len(members), PER_PANEL)]
        for i, part in enumerate(parts, start=1):
            title = f"{family} ({i} of {len(parts)})" if len(parts) > 1 else family
            panels.append((title, first + tuple(part)))
    return sorted(panels, key=lambda panel: -len(panel[1]))


def choose_looks(members: Sequence[Strategy], reference: str) -> list[Curve]:
    """Give each strategy of a panel a colour and a line style; the reference is dark grey."""
    coloured = iter(_COLOURED)
    looks = []
    for item in members:
        if item.name == reference:
            looks.append(Curve(item.name, item.label, DARK_GREY, "-", 1.0, above=True))
        else:
            colour, dashes = next(coloured)
            looks.append(Curve(item.name, item.label, colour, dashes))
    return looks


def spread_ticks(horizon: float, every: float, inches: float, widest: str) -> list[float]:
    """Multiples of `every` up to `horizon`, as many as there is room for.

    Parameters
    ----------
    horizon : float
        End of the axis, months.
    every : float
        Spacing of the rows with counts, months.
    inches : float
        Width of the axis.
    widest : str
        The widest count of the table.

    Examples
    --------
    >>> spread_ticks(24.0, 6.0, 4.0, "500")
    [0.0, 6.0, 12.0, 18.0, 24.0]
    >>> spread_ticks(24.0, 1.0, 1.0, "500")
    [0.0, 12.0, 24.0]
    """
    room = max(inches / (text_width(widest, SMALL_PRINT) + 0.1), 1.0)
    count = int(horizon / every + 1e-9)
    # Best are steps that divide the axis evenly, so that the last column is its end, and of
    # these the quarters and halves of years.
    steps = [s for s in range(1, count + 1) if count / s <= room] or [max(count, 1)]
    even = [s for s in steps if count % s == 0 and s <= 2 * steps[0]]
    quarters = [s for s in even if (s * every) % 3.0 == 0.0]
    step = (quarters or even or steps)[0]
    return [k * every for k in range(0, count + 1, step)]


def median_text(summary: pd.DataFrame | None, arm: str, endpoint: str) -> str:
    """The median of a curve and its interval in words, from the rows of ``summary.csv``.

    Parameters
    ----------
    summary : DataFrame or None
        arm, endpoint, measure, estimate, lower, upper.
    arm, endpoint : str
        Which curve.

    Returns
    -------
    str
        Empty if the file does not give it.
    """
    if summary is None:
        return ""
    rows = summary[
        (summary["arm"] == arm)
        & (summary["endpoint"] == endpoint)
        & (summary["measure"] == "median")
    ]
    if rows.empty:
        return ""
    value, lower, upper = (float(rows[name].iloc[0]) for name in ("estimate", "lower", "upper"))
    if not np.isfinite(value):
        return "median not reached"
    if not np.isfinite(lower):
        return f"median {value:.1f}"
    end = f"{upper:.1f}" if np.isfinite(upper) else "not reached"
    return f"median {value:.1f} ({lower:.1f} to {end})"


def draw_kaplan_meier(
    ax: Axes,
    curves: pd.DataFrame,
    looks: Sequence[Curve],
    *,
    horizon: float,
    ticks: Sequence[float],
    endpoint: str = "",
    since: str = "randomisation",
) -> Axes:
    """Draw survival curves as steps, with their intervals.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    curves : DataFrame
        arm, time, survival, lower, upper, at_risk, events, censored, of one
        endpoint.
    looks : sequence of Curve
        What to draw, in order. Arms without rows are left out.
    horizon : float
        End of the time axis, months.
    ticks : sequence of float
        Months to label.
    endpoint : str
        Label of the vertical axis.
    since : str
        What time is counted from.

    Returns
    -------
    matplotlib.axes.Axes
        The one given. A curve is one line, and a second, pale one from where
        few patients are left.
    """
    for look in looks:
        rows = curves[curves["arm"] == look.arm]
        if rows.empty:
            continue
        time, survival, lower, upper = (
            rows[name].to_numpy(dtype=np.float64) for name in ("time", "survival", "lower", "upper")
        )
        # The step that starts at a row rests on those still followed after it.
        split = _first_with_few(rows)
        for part, strength in ((np.s_[: split + 1], 1.0), (np.s_[split:], 0.35)):
            if len(time[part]) > 1:
                ax.plot(
                    time[part], survival[part], drawstyle="steps-post", color=look.colour,
                    linestyle=look.dashes, linewidth=look.width, alpha=strength, label=look.label,
                    zorder=2.5 if look.above else 2.0,
                )  # fmt: skip
                ax.fill_between(
                    time[part], lower[part], upper[part], step="post", color=look.colour,
                    alpha=0.22 * strength, linewidth=0,
                )  # fmt: skip
    months_axis(ax, horizon, ticks)
    share_axis(ax)
    ax.grid(True, axis="y")
    ax.set_xlabel(f"Months since {since}")
    ax.set_ylabel(endpoint)
    return ax


def _first_with_few(rows: pd.DataFrame) -> int:
    """Index of the first row after which few patients are left; the last row if there is none."""
    at_risk = rows["at_risk"].to_numpy()
    # Curves of sweeps have no counts but this one; nobody has left before their first row.
    counts = [name for name in ("at_risk", "events", "censored") if name in rows.columns]
    patients = int(rows[counts].iloc[0].sum())
    few = np.flatnonzero(at_risk < max(FEW, FEW_SHARE * patients))
    return int(few[0]) if few.size else len(rows) - 1


def draw_published(ax: Axes, published: pd.DataFrame, looks: Sequence[Curve]) -> Axes:
    """Draw digitised published curves over the simulated ones, black and broken.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        A panel of `draw_kaplan_meier`.
    published : DataFrame
        arm, time, survival, of one endpoint; the arm is the strategy's name.
    looks : sequence of Curve
        The curves of the panel; published ones of other arms are not drawn.

    Returns
    -------
    matplotlib.axes.Axes
        The one given, with a legend if anything was drawn.
    """
    drawn: list[Line2D] = []
    for look in looks:
        rows = published[published["arm"] == look.arm]
        if not rows.empty:
            drawn += ax.plot(
                rows["time"].to_numpy(dtype=np.float64),
                rows["survival"].to_numpy(dtype=np.float64),
                drawstyle="steps-post", color=BLACK, linewidth=1.1,
                linestyle=_PUBLISHED[len(drawn) % len(_PUBLISHED)],
                label=look.label,
            )  # fmt: skip
    if drawn:
        ax.legend(
            handles=drawn, title="published (digitised)", title_fontsize=SMALL_PRINT,
            alignment="left", loc="upper right", fontsize=SMALL_PRINT, frameon=True, framealpha=0.8,
            edgecolor="none", handlelength=2.2,
        )  # fmt: skip
    return ax


def count_lines(looks: Sequence[Curve], medians: Mapping[str, str], inches: float) -> float:
    """Lines that `draw_counts` needs for these curves below an axis of this width."""
    lines = sum(len(_heading(look, medians, inches)) + len(ROWS) for look in looks)
    return lines + _BETWEEN * (len(looks) - 1)


def draw_counts(
    ax: Axes,
    curves: pd.DataFrame,
    looks: Sequence[Curve],
    *,
    ticks: Sequence[float],
    medians: Mapping[str, str],
) -> Axes:
    """Write the counts of each curve below its panel, which also makes the key to the curves.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        A panel of `draw_kaplan_meier`, of its final size. Its columns of counts
        stand below its own ticks; names hang out to the left.
    curves : DataFrame
        arm, time, at_risk, events, censored, of one endpoint. Counts are read at
        the rows whose time is a tick; without such a row the place stays empty.
    looks : sequence of Curve
        As in the panel.
    ticks : sequence of float
        Months of the columns.
    medians : mapping
        By arm, what to write beside its name.

    Returns
    -------
    matplotlib.axes.Axes
        The one given. The three counts of a column are one text of three lines.
    """
    inches, height = _size(ax)
    style: dict[str, Any] = {"fontsize": SMALL_PRINT}
    block: dict[str, Any] = {**style, "va": "center", "linespacing": _SPACING}
    columns = ax.get_xaxis_transform()
    names = "\n".join(name for name, _ in ROWS)
    y = -(AXIS_INCHES + LINE_INCHES / 2.0) / height
    line = LINE_INCHES / height
    for look in looks:
        rows = curves[curves["arm"] == look.arm]
        if rows.empty:
            continue
        ax.add_artist(
            Line2D(
                [SWATCH / inches, (NAME - 0.08) / inches], [y, y], transform=ax.transAxes,
                clip_on=False, color=look.colour, linestyle=look.dashes,
                linewidth=look.width,
            )
        )  # fmt: skip
        style["va"] = "center_baseline"
        for name, median in _heading(look, medians, inches):
            at = (NAME / inches, y)
            ax.text(*at, name, transform=ax.transAxes, color=look.colour, weight="bold", **style)
            ax.text(1.0, y, median, transform=ax.transAxes, ha="right", **style)
            y -= line
        counts = rows.drop_duplicates("time").set_index("time")[[name for _, name in ROWS]]
        middle = y - 1.15 * line
        ax.text(ROW_NAME / inches, middle, names, transform=ax.transAxes, ha="right", **block)
        for tick in ticks:
            if tick in counts.index:
                column = "\n".join(str(int(count)) for count in counts.loc[tick])
                ax.text(tick, middle, column, transform=columns, ha="center", **block)
        y -= (len(ROWS) + _BETWEEN) * line
    return ax


def _size(ax: Axes) -> tuple[float, float]:
    """Width and height of axes, inches."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    place = ax.get_position()
    width, height = figure.get_size_inches()
    return float(place.width * width), float(place.height * height)


def _heading(look: Curve, medians: Mapping[str, str], inches: float) -> list[tuple[str, str]]:
    """Lines above the counts of a curve: its name to the left, its median to the right."""
    room = inches - NAME
    median = medians.get(look.arm, "")
    names = wrap(look.label, room, SMALL_PRINT, "bold")
    used = text_width(names[-1], SMALL_PRINT, "bold") + text_width(median, SMALL_PRINT) + 0.1
    if median and used > room:
        return [(name, "") for name in names] + [("", median)]
    return [(name, "") for name in names[:-1]] + [(names[-1], median)]
