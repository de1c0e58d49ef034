"""What a result depends on most: its range over each swept parameter, the widest first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.sensitivity import base_values, is_one_at_a_time, sensitivity_table
from figures.page import MARGIN
from figures.shared import BLUE, DARK_GREY, SKY, text_width, wrap
from figures.sweep_choice import (
    Choice,
    ChoiceError,
    Shown,
    measure_rows,
    narrow,
    pick_measure,
    split,
)
from figures.sweep_page import Panels, heading, limits_of, panel_title
from figures.sweep_power import SHARES
from figures.sweep_tables import COHORT, FACETS, Sweep, measure_words, read_cells

__all__ = ["draw_tornado", "tornado_page"]

MOST_PANELS = 4
END_TEXT = 8.0


def tornado_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Draw the range of a measure over each swept parameter.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for. Without a method the first is shown.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    """
    table = read_cells(place, sweep)
    measure = pick_measure(table, choice.measure)
    rows = measure_rows(table, measure)
    shown = narrow(sweep, rows, choice)
    notes = []
    for facet in ("method", "arm"):
        if facet in shown.varying and not getattr(choice, facet):
            first = str(shown.rows[facet].iloc[0])
            kept = tuple(name for name in shown.varying if name != facet)
            own = shown.rows[shown.rows[facet] == first]
            shown = Shown(own, {**shown.fixed, facet: first}, kept, shown.notes)
    paths = [path for path in sweep.paths if path in shown.varying]
    if not paths:
        raise ChoiceError("nothing to draw: no swept parameter varies in these cells.")
    facets = [name for name in shown.varying if name in FACETS]
    parts = list(split(shown.rows, facets))
    if len(parts) > MOST_PANELS:
        ways = " or ".join(f"--{name} NAME" for name in facets)
        raise ChoiceError(
            f"{len(parts)} panels are too many to read (at most {MOST_PANELS}); narrow with {ways}."
        )
    # What --where left out may hold the base.
    left = table[table["cell"].isin(shown.rows["cell"])]
    alone = is_one_at_a_time(left, paths) or len(paths) == 1
    base = base_values(left, paths) if alone else None
    tables = [sensitivity_table(own, paths, base) for _, own in parts]
    if all(found.empty for found in tables):
        raise ChoiceError("nothing to draw: no parameter has two values that can be compared.")
    if base is None:
        notes.append(
            "Each parameter between its values, averaged over those of the others; the error of "
            "an average is the most it can be among cells that share patients."
        )
    elif len(paths) > 1:
        at = "; ".join(sweep.told(path, value) for path, value in zip(paths, base, strict=True))
        notes.append(f"One parameter changed at a time, from a base (dashed) of {at}.")
    note = " ".join(["Dots: at each value. Bars: within 1.96 Monte Carlo errors.", *notes])
    words = measure_words(measure)
    several = len(parts)
    drawn = [list(dict.fromkeys(found["parameter"])) for found in tables]
    most = max(len(names) for names in drawn)
    labels = {path: "\n".join(wrap(sweep.axis(path).title, 2.4, 8.5)) for path in paths}
    room = max(text_width(line, 8.5) for name in labels.values() for line in name.split("\n"))
    line = max(0.34, 0.12 + 0.14 * max(name.count("\n") + 1 for name in labels.values()))
    panels = Panels.lay_out(
        sweep, heading(sweep, words, shown, {} if several > 1 else parts[0][0]),
        sweep.caption(note, cohort=bool((shown.rows["method"] == COHORT).all())),
        [panel_title(sweep, key) if several > 1 else "" for key, _ in parts],
        tall=line * most + 0.1, left=MARGIN + room + 0.15, right=0.25, columns=1,
    )  # fmt: skip
    low, high = limits_of(tables, "estimate", "mc_error")
    ends = [_end_words(sweep, path, shown.rows) for path in paths]
    air = max(text_width(text, END_TEXT) for text in ends) + 0.12
    # Room at both ends for the values that stand there.
    scale = (high - low) / max(panels.width - 2.0 * air, 1.0)
    for ax, found, names in zip(panels.axes, tables, drawn, strict=True):
        draw_tornado(ax, sweep, found)
        ax.set_yticks(range(len(names)), [labels[name] for name in names])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(most - 0.5, -0.5)
        ax.set_xlim(low - air * scale, high + air * scale)
        if measure.startswith(SHARES):
            ticks = [tick for tick in np.linspace(0.0, 1.0, 11) if low <= tick <= high]
            if len(ticks) > 2:
                ax.set_xticks(ticks, [f"{tick:.1f}" for tick in ticks])
        ax.set_xlabel(words)
    return panels.figure


def _end_words(sweep: Sweep, path: str, rows: pd.DataFrame) -> str:
    """The longest name of a value, of which no more is shown than there is room for."""
    words = [_short(sweep.word(path, value)) for value in rows[path].drop_duplicates()]
    return max(words, key=lambda word: text_width(word, END_TEXT))


def _short(word: str) -> str:
    return word if len(word) <= 24 else word[:22].rstrip() + "\u2026"


def draw_tornado(ax: Axes, sweep: Sweep, found: pd.DataFrame) -> None:
    """Draw a bar from the least to the most of each parameter, from the top down.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    sweep : Sweep
        For the names of values.
    found : DataFrame
        As `analysis.sensitivity.sensitivity_table` makes it.
    """
    base = found.loc[found["is_base"], "estimate"]
    if len(base):
        ax.axvline(base.iloc[0], color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)))
    for y, (_, rows) in enumerate(found.groupby("parameter", sort=False)):
        parameter = rows["parameter"].iloc[0]
        rows = rows.sort_values("estimate", kind="stable")
        low, high = rows["estimate"].iloc[0], rows["estimate"].iloc[-1]
        ax.barh(y, high - low, left=low, height=0.5, color=SKY, alpha=0.55, linewidth=0)
        ax.errorbar(
            rows["estimate"], [y] * len(rows), xerr=1.96 * rows["mc_error"], fmt="o", color=BLUE,
            markersize=4.0, elinewidth=1.2, capsize=2.0,
        )  # fmt: skip
        for row, side, away in ((rows.iloc[0], "right", -4.0), (rows.iloc[-1], "left", 4.0)):
            sign = -1.0 if side == "right" else 1.0
            end = row["estimate"] + sign * 1.96 * row["mc_error"]
            ax.annotate(
                _short(sweep.word(parameter, row["value"])), (end, y), (away, 0.0),
                textcoords="offset points", ha=side, va="center", fontsize=END_TEXT,
            )  # fmt: skip
