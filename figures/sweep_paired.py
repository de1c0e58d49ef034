"""Differences of power between comparisons in the same trials, over a swept parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.page import MARGIN
from figures.shared import BLUE, DARK_GREY, LIGHT_GREY, text_width, wrap
from figures.sweep_choice import (
    MOST_PANELS,
    Choice,
    ChoiceError,
    distinct,
    drop_tied,
    fewer_methods,
    find_parameter,
    hold_others,
    is_number,
    narrow,
    no_such,
    pick_over,
    places_of,
    share_out,
    split,
)
from figures.sweep_page import Key, Panels, heading, limits_of, panel_title, value_axis
from figures.sweep_tables import FACETS, Sweep, read_cells, read_sweep_paired

__all__ = ["draw_differences", "paired_page"]

NOTE = (
    "Dots: power less that of {}, in the same simulated trials. Blue bars: within 1.96 paired "
    "Monte Carlo errors; grey bars: the same, had the trials been different ones."
)


def paired_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Draw differences of power over a swept parameter, a panel for each comparison.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for: `by` is what the two differ in (method, endpoint, arm, cut), and
        `against` the one that others are set against.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    """
    table = read_sweep_paired(place, sweep)
    if table is None:
        raise ChoiceError(
            "no sweep_paired.parquet: a sweep of trials with several comparisons has it."
        )
    facets = list(dict.fromkeys(table["versus"]))
    versus = choice.by or ("method" if "method" in facets else facets[0])
    if versus not in facets:
        raise ChoiceError(no_such("--by", "kind of pair", versus, facets))
    pairs = table[table["versus"] == versus]
    others = list(dict.fromkeys(pairs["other"]))
    against = choice.against or str(others[0])
    if against not in others:
        raise ChoiceError(no_such("--against", versus, against, [str(name) for name in others]))
    along = [versus] if versus in FACETS else []
    shown = narrow(sweep, pairs[pairs["other"] == against], choice, along, "difference")
    over = find_parameter(sweep, "--over", choice.over) if choice.over else ""
    over = over or pick_over(sweep, shown)
    shown = hold_others(sweep, shown, read_cells(place, sweep), [over])
    if not over:
        over = next((name for name in FACETS if name in shown.varying), "method")
    shown = drop_tied(sweep, shown, over)
    shown = fewer_methods(shown, choice, [over], MOST_PANELS)
    roles = share_out(sweep, shown, over, "", lines=False)
    parts = list(split(shown.rows, roles.panels))
    first = sweep.word(versus, against) if versus in FACETS else against
    other = f"the {first}" if versus == "cut" else first
    note = " ".join([NOTE.format(other), *shown.notes])
    fixed = {} if len(parts) > 1 else parts[0][0]
    title = heading(sweep, f"Difference of power from {first}", shown, fixed)
    titles = [panel_title(sweep, key) if len(parts) > 1 else "" for key, _ in parts]
    limits = limits_of([shown.rows], "difference", "mc_error_unpaired", [0.0])
    number = over in sweep.paths and is_number(shown.rows[over]) and not (
        shown.rows[over].isna().any()
    )  # fmt: skip
    key = Key(
        "",
        [
            Line2D([], [], color=BLUE, marker="o", markersize=4.0, linewidth=1.2),
            Line2D([], [], color=LIGHT_GREY, linewidth=4.0),
        ],
        ["in the same trials", "had the trials been different ones"],
    )
    names = distinct(shown.rows[over])
    if number:
        panels = Panels.lay_out(
            sweep, title, sweep.caption(note, cohort=False), titles, left=0.8, key=key,
            tall=3.2 if len(parts) == 1 else 2.1 if len(parts) in (2, 4) else 1.75,
        )  # fmt: skip
    else:
        broken = ["\n".join(wrap(sweep.word(over, name), 2.2, 8.5)) for name in names]
        room = max(text_width(line, 8.5) for name in broken for line in name.split("\n")) + 0.15
        row = 0.1 + 0.14 * max(name.count("\n") + 1 for name in broken)
        panels = Panels.lay_out(
            sweep, title, sweep.caption(note, cohort=False), titles, left=MARGIN + room,
            tall=row * len(names) + 0.1, gap=0.4, right=0.25, key=key,
        )  # fmt: skip
    for i, (ax, (_, own)) in enumerate(zip(panels.axes, parts, strict=True)):
        if number:
            ordered = own.sort_values(over)
            draw_differences(ax, ordered, ordered[over], upright=True)
            value_axis(ax, [float(name) for name in names], panels.width)
            ax.set_ylim(*limits)
            ax.grid(True, axis="y")
            ax.set_xlabel("\n".join(wrap(sweep.axis(over).title, panels.width, 9.0)))
            if panels.is_first(i):
                ax.set_ylabel("Difference of power")
            else:
                ax.tick_params(labelleft=False)
        else:
            draw_differences(ax, own, places_of(own[over], names), upright=False)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_yticks(range(len(names)), broken if panels.is_first(i) else [""] * len(names))
            ax.tick_params(axis="y", length=0)
            ax.set_xlim(*limits)
            ax.locator_params(axis="x", nbins=max(3, int(panels.width / 0.7)))
            ax.set_xlabel("Difference of power")
    return panels.figure


def draw_differences(
    ax: Axes, rows: pd.DataFrame, places: Sequence[float], *, upright: bool
) -> None:
    """Draw differences as dots with two error bars each.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    rows : DataFrame
        difference, mc_error, mc_error_unpaired.
    places : sequence
        Where each stands on the other axis.
    upright : bool
        Whether differences are vertical; then a thin line joins them.
    """
    values = rows["difference"].to_numpy(dtype=np.float64)
    at = np.asarray(places, dtype=np.float64)
    x, y, side = (at, values, "yerr") if upright else (values, at, "xerr")
    (ax.axhline if upright else ax.axvline)(
        0.0, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0))
    )
    grey: dict[str, Any] = {side: 1.96 * rows["mc_error_unpaired"]}
    ax.errorbar(x, y, fmt="none", ecolor=LIGHT_GREY, elinewidth=4.0, **grey)
    blue: dict[str, Any] = {side: 1.96 * rows["mc_error"]}
    ax.errorbar(
        x, y, fmt="o-" if upright else "o", color=BLUE, markersize=4, linewidth=0.8,
        elinewidth=1.2, capsize=2.0, **blue,
    )  # fmt: skip
