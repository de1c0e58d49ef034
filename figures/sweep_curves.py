"""Kaplan-Meier curves of the cells of a sweep, a small panel for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import kaplan_meier
from figures.kaplan_meier import Curve
from figures.page import MARGIN, PAGE
from figures.shared import SMALL_PRINT, Strategy, text_width, wrap
from figures.sweep_choice import (
    Choice,
    ChoiceError,
    chosen_values,
    distinct,
    no_such,
    where_rows,
)
from figures.sweep_page import Key, Panels, panel_title, usual_columns
from figures.sweep_tables import Sweep, read_sweep_curves

__all__ = ["curves_page", "draw_at_risk"]

MOST_CELLS, MOST_ARMS = 12, 5
NOTE = "Bands: 95 % intervals. Pale: fewer than 5 % of the patients, or 10, are left."
LINE = kaplan_meier.LINE_INCHES
TICKS = (1.0, 3.0, 6.0, 12.0)
"""Months between labels of the time axis."""


def curves_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Draw the curves of one endpoint, a panel for each cell.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for: endpoint, arm and where.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    """
    table = read_sweep_curves(place, sweep)
    if table is None:
        raise ChoiceError(
            "no sweep_curves.parquet: a sweep of cohorts has it, or one with sweep.cohort=true."
        )
    rows = where_rows(sweep, table, choice.where)
    rows, endpoint = _of_endpoint(rows, choice)
    rows, arms = _of_arms(rows, choice)
    cells = rows.drop_duplicates("cell")
    paths = [path for path in sweep.paths if len(distinct(cells[path])) > 1]
    if len(cells) > MOST_CELLS:
        ways = " or ".join(f"--where {path}=VALUE" for path in paths)
        raise ChoiceError(
            f"{len(cells)} cells are too many to read (at most {MOST_CELLS}); narrow with {ways}."
        )
    members = [Strategy(arm, sweep.word("arm", arm), "") for arm in arms]
    members.sort(key=lambda item: item.name != sweep.reference)
    looks = kaplan_meier.choose_looks(members, sweep.reference)
    horizon = float(rows["time"].max())
    columns = usual_columns(len(cells))
    tall = {1: 3.4, 2: 2.2, 3: 1.7}[columns]
    widest = f"{int(rows['at_risk'].max())}"
    # Counts below neighbouring panels keep apart.
    left, right, gap = 0.66, 0.25, 0.12 + text_width(widest, SMALL_PRINT)
    width = (PAGE - MARGIN - left - right - gap * (columns - 1)) / columns
    every = next((step for step in TICKS if horizon / step <= 12.0), 12.0)
    ticks = kaplan_meier.spread_ticks(horizon, every, width, widest)
    counted = _has_counts(rows, ticks)
    foot = 0.5 + (LINE * (len(looks) + 1) if counted else 0.0)
    note = [NOTE]
    note.append(
        "At risk, in the colour of the arm: still followed after that month."
        if counted else "Numbers at risk are left out: the table has none for these months."
    )  # fmt: skip
    if "acquired_resistance" in endpoint:
        note.append(kaplan_meier.ENDPOINT_NOTES[endpoint].strip())
    note += chosen_values(sweep, table, rows)
    several = len(cells) > 1
    key = Key(
        "",
        [Line2D([], [], color=k.colour, linestyle=k.dashes, linewidth=k.width) for k in looks],
        [look.label for look in looks],
    )
    titles = [
        panel_title(sweep, {path: row[path] for path in paths}) if several else ""
        for row in cells.to_dict(orient="records")
    ]
    words = kaplan_meier.TITLES.get(endpoint, endpoint.replace("_", " ").capitalize())
    panels = Panels.lay_out(
        sweep, words, sweep.caption(" ".join(note), cohort=True), titles, tall=tall, left=left,
        right=right, gap=gap, foot=foot, columns=columns, key=key,
    )  # fmt: skip
    for i, (ax, cell) in enumerate(zip(panels.axes, cells["cell"], strict=True)):
        own = rows[rows["cell"] == cell]
        kaplan_meier.draw_kaplan_meier(
            ax, own, looks, horizon=horizon, ticks=ticks,
            since=kaplan_meier.SINCE.get(endpoint, "randomisation"),
        )  # fmt: skip
        if panels.is_first(i):
            vertical = kaplan_meier.AXIS.get(endpoint, "Share without the event")
            ax.set_ylabel("\n".join(wrap(vertical, tall + 0.2, 9.0)))
        else:
            ax.tick_params(labelleft=False)
        if counted:
            draw_at_risk(ax, own, looks, ticks, tall)
    return panels.figure


def _of_endpoint(rows: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, str]:
    there = [str(name) for name in distinct(rows["endpoint"])]
    if len(choice.endpoint) > 1:
        raise ChoiceError("--endpoint: one endpoint at a time; each has a figure of its own.")
    endpoint = choice.endpoint[0] if choice.endpoint else there[0]
    if endpoint not in there:
        raise ChoiceError(no_such("--endpoint", "endpoint", endpoint, there))
    return rows[rows["endpoint"] == endpoint], endpoint


def _of_arms(rows: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, list[str]]:
    there = [str(name) for name in distinct(rows["arm"])]
    for name in choice.arm:
        if name not in there:
            raise ChoiceError(no_such("--arm", "arm", name, there))
    arms = [name for name in there if not choice.arm or name in choice.arm]
    if len(arms) > MOST_ARMS:
        raise ChoiceError(
            f"{len(arms)} arms are too many to read (at most {MOST_ARMS}); narrow with --arm NAME."
        )
    return rows[rows["arm"].isin(arms)], arms


def _has_counts(rows: pd.DataFrame, ticks: list[float]) -> bool:
    """Whether every curve has a row at every label of the axis within its time."""
    for _, own in rows.groupby(["cell", "arm"], sort=False):
        end = own["time"].max()
        if not np.isin([tick for tick in ticks if tick <= end], own["time"]).all():
            return False
    return True


def draw_at_risk(
    ax: Axes, curves: pd.DataFrame, looks: list[Curve], ticks: list[float], tall: float
) -> None:
    """Write how many are at risk below a panel, a line for each arm in its colour.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        A panel with a time axis.
    curves : DataFrame
        arm, time, at_risk.
    looks : list of Curve
        The arms, from the top down.
    ticks : list of float
        Months of the columns; each is a time of `curves`.
    tall : float
        Height of the panel, inches.
    """
    y = -(0.46 + LINE / 2.0) / tall
    for look in looks:
        own = curves[curves["arm"] == look.arm].drop_duplicates("time").set_index("time")
        for tick in ticks:
            if tick in own.index:
                ax.text(
                    tick, y, f"{int(own.loc[tick, 'at_risk'])}", ha="center", va="center",
                    fontsize=SMALL_PRINT, color=look.colour, transform=ax.get_xaxis_transform(),
                )  # fmt: skip
        y -= LINE / tall
