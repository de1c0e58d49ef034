"""What a result depends on most: its range over each swept parameter, the widest first."""

from __future__ import annotations

from collections.abc import Sequence
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
    measure_rows,
    narrow,
    only_first,
    pick_measure,
    split,
)
from figures.sweep_page import Panels, heading, limits_of, panel_title
from figures.sweep_power import SHARES
from figures.sweep_tables import COHORT, FACETS, Sweep, measure_words, read_cells

__all__ = ["draw_tornado", "tornado_page"]

NOTE = "Dots: at each value. Error bars: at the ends, within 1.96 Monte Carlo errors."
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
            shown = only_first(shown, facet)
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
    note = " ".join([NOTE, *notes, *shown.notes])
    words = measure_words(measure)
    several = len(parts)
    drawn = [list(dict.fromkeys(found["parameter"])) for found in tables]
    most = max(len(names) for names in drawn)
    labels = {path: "\n".join(wrap(sweep.axis(path).title, 2.4, 8.5)) for path in paths}
    room = max(text_width(line, 8.5) for name in labels.values() for line in name.split("\n"))
    line = max(0.34, 0.12 + 0.14 * max(name.count("\n") + 1 for name in labels.values()))
    panels = Panels.lay_out(
        sweep, heading(sweep, f"{words} and what it depends on", shown),
        sweep.caption(note, cohort=bool((shown.rows["method"] == COHORT).all())),
        [panel_title(sweep, key) if several > 1 else "" for key, _ in parts],
        tall=line * most + 0.1, left=MARGIN + room + 0.15, right=0.25, columns=1,
    )  # fmt: skip
    low, high = _limits(sweep, tables, panels.width)
    for ax, found, names in zip(panels.axes, tables, drawn, strict=True):
        draw_tornado(ax, sweep, found)
        ax.set_yticks(range(len(names)), [labels[name] for name in names])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(most - 0.5, -0.5)
        ax.set_xlim(low, high)
        if measure.startswith(SHARES):
            ticks = [tick for tick in np.linspace(0.0, 1.0, 11) if low <= tick <= min(high, 1.0)]
            if len(ticks) > 2:
                ax.set_xticks(ticks, [f"{tick:.1f}" for tick in ticks])
        ax.set_xlabel(words)
    return panels.figure


def _limits(sweep: Sweep, tables: Sequence[pd.DataFrame], inches: float) -> tuple[float, float]:
    """Ends of the axis that leave room for the values that stand at the ends of bars."""
    least, most = limits_of(tables, "estimate", "mc_error")
    low, high = least, most
    for _ in range(8):
        # Wider limits make words longer in units of the axis.
        each = (high - low) / inches
        ends = [end for found in tables for _, rows in _bars(found) for end in _ends(sweep, rows)]
        low = min([least, *(at - wide * each for at, wide, sign in ends if sign < 0)])
        high = max([most, *(at + wide * each for at, wide, sign in ends if sign > 0)])
    return low, high


def _bars(found: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each parameter, from the least to the most."""
    return [
        (str(name), rows.sort_values("estimate", kind="stable"))
        for name, rows in found.groupby("parameter", sort=False)
    ]


def _ends(sweep: Sweep, rows: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Where the two error bars of a bar end, inches of the words there, and on which side."""
    out = []
    for row, sign in ((rows.iloc[0], -1.0), (rows.iloc[-1], 1.0)):
        word = _short(sweep.word(row["parameter"], row["value"]))
        end = row["estimate"] + sign * 1.96 * row["mc_error"]
        out.append((end, text_width(word, END_TEXT) + 0.15, sign))
    return out


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
    for y, (parameter, rows) in enumerate(_bars(found)):
        low, high = rows["estimate"].iloc[0], rows["estimate"].iloc[-1]
        ax.barh(y, high - low, left=low, height=0.5, color=SKY, alpha=0.55, linewidth=0)
        ax.plot(rows["estimate"], [y] * len(rows), "o", color=BLUE, markersize=4.0)
        ends = rows.iloc[[0, -1]]
        ax.errorbar(
            ends["estimate"], [y, y], xerr=1.96 * ends["mc_error"], fmt="none", ecolor=BLUE,
            elinewidth=1.2, capsize=2.0,
        )  # fmt: skip
        for row, (end, _, sign) in zip(
            ends.to_dict(orient="records"), _ends(sweep, rows), strict=True
        ):
            ax.annotate(
                _short(sweep.word(parameter, row["value"])), (end, y), (4.0 * sign, 0.0),
                textcoords="offset points", ha="right" if sign < 0 else "left", va="center",
                fontsize=END_TEXT,
            )  # fmt: skip
