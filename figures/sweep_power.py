"""A measure of a sweep over one of its parameters, a line for each method.

Parameters that are numbers stand on the horizontal axis. Those that are not
are rows, with a dot for each method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.estimates import unit
from figures.page import MARGIN
from figures.shared import DARK_GREY, LIGHT_GREY, text_width, wrap
from figures.sweep_choice import (
    PATHS_OF_CUT,
    Choice,
    ChoiceError,
    Roles,
    Shown,
    distinct,
    drop_tied,
    find_parameter,
    hold_others,
    is_number,
    measure_rows,
    narrow,
    pick_measure,
    pick_over,
    places_of,
    share_out,
    split,
)
from figures.sweep_page import (
    LOOKS,
    Key,
    Look,
    Panels,
    draw_band,
    heading,
    limits_of,
    panel_title,
    tick_text,
    usual_columns,
    value_axis,
)
from figures.sweep_tables import COHORT, FACETS, Sweep, measure_words, read_cells

__all__ = ["draw_line", "draw_row_dots", "key_of", "power_page"]

SHARES = ("power", "rate_", "target_reached")
"""Measures that are shown from 0 to 1; other shares are shown where they are."""

SHARE_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

IN_UNITS = (
    "bias", "empirical_standard_error", "estimand", "mean_estimate", "mean_squared_error",
    "mean_standard_error",
)  # fmt: skip
"""Measures in the unit of the estimate, in which methods differ."""

MARKS = {
    "bias": (0.0, "no bias"),
    "bias_eliminated_coverage": (0.95, "95 %"),
    "coverage": (0.95, "95 %"),
    "relative_error": (0.0, "no error"),
    "standardised_bias": (0.0, "no bias"),
}
"""Values with which a measure is compared."""

AXIS_OF_CUT = {"events": "Events at the cut, mean", "date": "Date of the cut, months, mean"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a page shows, and where."""

    shown: Shown
    roles: Roles
    measure: str
    across: str
    """Column of the horizontal axis: a parameter, or a measure of the cut."""

    parts: Sequence[tuple[dict[str, Any], pd.DataFrame]]


def power_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Draw a measure over a swept parameter, or over the events or the date of the cut.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    """
    table = read_cells(place, sweep)
    plan = _plan(sweep, table, choice)
    if is_number(plan.shown.rows[plan.across]):
        return _lines_page(sweep, plan)
    return _rows_page(sweep, plan)


def _plan(sweep: Sweep, table: pd.DataFrame, choice: Choice) -> _Plan:
    measure = pick_measure(table, choice.measure)
    by = find_parameter(sweep, "--by", choice.by, FACETS) if choice.by else ""
    over = find_parameter(sweep, "--over", choice.over, PATHS_OF_CUT) if choice.over else ""
    shown = narrow(sweep, measure_rows(table, measure), choice, [by])
    if over and over == by:
        raise ChoiceError(f"--by: {by} is on the horizontal axis already.")
    path = over if over in sweep.paths else pick_over(sweep, shown, [by])
    shown = drop_tied(sweep, hold_others(sweep, shown, table, [path, by]), path, [by])
    across = ""
    if over in PATHS_OF_CUT:
        across = over
        shown = Shown(_with_cut(shown.rows, table, over), shown.fixed, shown.varying, shown.notes)
    elif path and shown.rows[path].isna().any():
        # A number that may be missing is a name like others.
        words = shown.rows[path].map(lambda value: sweep.word(path, value))
        order = [sweep.word(path, value) for value in distinct(shown.rows[path])]
        named = shown.rows.assign(**{path: pd.Categorical(words, order, ordered=True)})
        shown = Shown(named.sort_values(path, kind="stable"), *_rest(shown))
    if not by and measure in IN_UNITS and shown.rows["method"].map(unit).nunique() > 1:
        # Months and log hazard ratios share no axis: methods get panels.
        others = [name for name in shown.varying if name not in (path, "method")]
        by = next((name for name in others if len(distinct(shown.rows[name])) <= len(LOOKS)), path)
    if not path:
        facets = [name for name in (by, "method", *shown.varying) if name in shown.varying]
        path, by = (facets or ["method"])[0], ""
    roles = share_out(sweep, shown, path, "" if by == path else by, lines=by != path)
    parts = list(split(shown.rows, roles.panels))
    return _Plan(shown, roles, measure, across or path, parts)


def _rest(shown: Shown) -> tuple[Mapping[str, str], tuple[str, ...], tuple[str, ...]]:
    return shown.fixed, shown.varying, shown.notes


def _with_cut(rows: pd.DataFrame, table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows with the mean events or date of their own cell and cut."""
    keys = ["cell", "cut", "endpoint"] if measure == "events" else ["cell", "cut"]
    own = table[table["measure"] == measure].set_index(keys)["estimate"]
    if own.empty or not set(rows["cut"]) <= set(own.index.get_level_values("cut")):
        raise ChoiceError(f"--over: these cells have no {measure} of a cut.")
    return rows.join(own.rename(measure), on=keys)


def _note(sweep: Sweep, plan: _Plan, bars: str) -> str:
    parts = [f"{bars}: within 1.96 Monte Carlo errors."]
    if plan.measure == "power":
        parts.append("Where arms do not differ, power is the type I error. Dashed: the level.")
    elif plan.measure in MARKS:
        parts.append(f"Dashed: {MARKS[plan.measure][1]}.")
    if plan.across in PATHS_OF_CUT and plan.roles.over in sweep.paths:
        parts.append(f"Along a line: {sweep.axis(plan.roles.over).label}.")
    return " ".join([*parts, *plan.shown.notes])


def _is_cohort(rows: pd.DataFrame) -> bool:
    return bool((rows["method"] == COHORT).all())


def _limits(sweep: Sweep, measure: str, tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    if measure.startswith(SHARES):
        return 0.0, 1.0
    also = [MARKS[measure][0]] if measure in MARKS else []
    return limits_of(tables, "estimate", "mc_error", also)


def _mark(sweep: Sweep, measure: str) -> float | None:
    return sweep.alpha if measure == "power" else MARKS.get(measure, (None, ""))[0]


def key_of(sweep: Sweep, by: str, values: Sequence[Any], *, lines: bool = True) -> Key:
    """The key to lines or dots; empty if there is one."""
    if not by or len(values) < 2:
        return Key("", [], [])
    handles = [
        Line2D(
            [], [], color=look.colour, linestyle=look.dashes if lines else "none",
            marker=look.marker, markersize=4.5,
        )
        for look, _ in zip(LOOKS, values, strict=False)
    ]  # fmt: skip
    title = sweep.axis(by).title if by in sweep.paths else ""
    return Key(title, handles, [sweep.word(by, value) for value in values])


# ---------------------------------------------------------------- over a number


def _lines_page(sweep: Sweep, plan: _Plan) -> Figure:
    rows, roles = plan.shown.rows, plan.roles
    values = distinct(rows[roles.by]) if roles.by else [None]
    # Methods in panels may be in different units; then each has a scale of its own.
    own_scale = plan.measure in IN_UNITS and "method" in roles.panels
    several = len(plan.parts)
    vertical = measure_words(plan.measure)
    fixed = {} if several > 1 else plan.parts[0][0]
    panels = Panels.lay_out(
        sweep, heading(sweep, vertical, plan.shown, fixed),
        sweep.caption(_note(sweep, plan, "Bands"), cohort=_is_cohort(rows)),
        [panel_title(sweep, key) if several > 1 else "" for key, _ in plan.parts],
        tall=3.5 if several == 1 else 2.2 if several in (2, 4) else 1.75,
        left=0.9 if own_scale else 0.72, gap=0.85 if own_scale else 0.3,
        key=key_of(sweep, roles.by, values),
    )  # fmt: skip
    for i, (ax, (key, own)) in enumerate(zip(panels.axes, plan.parts, strict=True)):
        mark = _mark(sweep, plan.measure)
        if mark is not None:
            ax.axhline(mark, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)), zorder=1.5)
        for value, look in zip(values, LOOKS, strict=False):
            line = own if not roles.by else own[own[roles.by].isin([value])]
            draw_line(ax, line.sort_values(roles.over, kind="stable"), plan.across, look)
        _finish(ax, rows[plan.across], plan.across, panels.width)
        ax.set_ylim(*_limits(sweep, plan.measure, [own if own_scale else rows]))
        _share_ticks(ax, plan.measure)
        if panels.is_first(i):
            ax.set_ylabel("\n".join(wrap(vertical, 2.2, 9.0)))
        elif not own_scale:
            ax.tick_params(labelleft=False)
        if own_scale:
            ax.set_ylabel(unit(str(key["method"])))
        ax.set_xlabel("\n".join(wrap(_across_words(sweep, plan.across), panels.width, 9.0)))
    return panels.figure


def _across_words(sweep: Sweep, across: str) -> str:
    return AXIS_OF_CUT[across] if across in PATHS_OF_CUT else sweep.axis(across).title


def _finish(ax: Axes, values: pd.Series, across: str, inches: float) -> None:
    if across in PATHS_OF_CUT:
        ax.locator_params(axis="x", nbins=max(3, int(inches / 0.7)))
    else:
        value_axis(ax, [float(value) for value in distinct(values)], inches)
    ax.grid(True, axis="y")


def _share_ticks(ax: Axes, measure: str) -> None:
    if measure.startswith(SHARES):
        at = sorted({*SHARE_TICKS, 0.9}) if measure == "power" else SHARE_TICKS
        ax.set_yticks(at, [f"{value:g}" for value in at])


def draw_line(
    ax: Axes, rows: pd.DataFrame, across: str, look: Look, *, error: str = "mc_error"
) -> None:
    """Draw one line with its band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    rows : DataFrame
        The column `across`, estimate and `error`, from left to right.
    across : str
        Column of the horizontal axis.
    look : Look
        Colour, dashes and marker.
    error : str
        Column of the standard error; the band is 1.96 of them to both sides.
    """
    x, y = (rows[name].to_numpy(dtype=np.float64) for name in (across, "estimate"))
    reach = 1.96 * rows[error].to_numpy(dtype=np.float64)
    draw_band(ax, x, y - reach, y + reach, look.colour)
    ax.plot(
        x, y, color=look.colour, linestyle=look.dashes, marker=look.marker, markersize=4.0,
        clip_on=False, zorder=2.5,
    )  # fmt: skip


# ---------------------------------------------------------------- over names


def _rows_page(sweep: Sweep, plan: _Plan) -> Figure:
    rows, roles = plan.shown.rows, plan.roles
    over, by = roles.over, roles.by
    names = distinct(rows[over])
    values = distinct(rows[by]) if by else [None]
    several = len(plan.parts)
    columns = usual_columns(several)
    told = [sweep.word(over, value) or "cohort" for value in names]
    broken = ["\n".join(wrap(name, 3.0 if columns < 2 else 2.0, 8.5)) for name in told]
    lines = [line for name in broken for line in name.split("\n")]
    room = max(text_width(line, 8.5) for line in lines) + 0.15
    most = max(name.count("\n") + 1 for name in broken)
    row = max(0.1 + 0.14 * most, 0.13 + 0.1 * len(values))
    single = several == 1 and not by
    fixed = {} if several > 1 else plan.parts[0][0]
    words = measure_words(plan.measure)
    panels = Panels.lay_out(
        sweep, heading(sweep, words, plan.shown, fixed),
        sweep.caption(_note(sweep, plan, "Bars"), cohort=_is_cohort(rows)),
        [panel_title(sweep, key) if several > 1 else _over_words(sweep, over) for key, _ in
         plan.parts],
        tall=row * len(names) + 0.1, left=MARGIN + room, gap=0.42, right=0.75 if single else 0.25,
        key=key_of(sweep, by, values, lines=False), columns=columns,
    )  # fmt: skip
    for i, (ax, (_, own)) in enumerate(zip(panels.axes, plan.parts, strict=True)):
        mark = _mark(sweep, plan.measure)
        if mark is not None:
            ax.axvline(mark, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)))
        for k, (value, look) in enumerate(zip(values, LOOKS, strict=False)):
            shift = 0.0 if len(values) == 1 else 0.64 * (k / (len(values) - 1) - 0.5)
            dots = own if not by else own[own[by].isin([value])]
            draw_row_dots(ax, dots, over, names, look, shift)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_yticks(range(len(names)), broken if panels.is_first(i) else [""] * len(names))
        ax.tick_params(axis="y", length=0)
        ax.set_xlim(*_limits(sweep, plan.measure, [rows]))
        if plan.measure.startswith(SHARES):
            ax.set_xticks(SHARE_TICKS, [f"{value:g}" for value in SHARE_TICKS])
        else:
            ax.locator_params(axis="x", nbins=max(3, int(panels.width / 0.7)))
        if len(values) > 1:
            ax.hlines(
                [k + 0.5 for k in range(len(names) - 1)], 0.0, 1.0, color=LIGHT_GREY,
                linewidth=0.6, transform=ax.get_yaxis_transform(), zorder=0.5,
            )  # fmt: skip
        if single:
            _tell(ax, own, over, names, plan.measure)
        ax.set_xlabel("\n".join(wrap(words, panels.width, 9.0)))
    return panels.figure


def _over_words(sweep: Sweep, over: str) -> str:
    return sweep.axis(over).title if over in sweep.paths else ""


def draw_row_dots(
    ax: Axes, rows: pd.DataFrame, over: str, names: Sequence[Any], look: Look, shift: float
) -> None:
    """Draw one dot in each row, within 1.96 Monte Carlo errors.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; row k is at height k.
    rows : DataFrame
        The column `over`, estimate and mc_error.
    over : str
        Column of the names.
    names : sequence
        Of the rows, from the top.
    look : Look
        Colour and marker.
    shift : float
        How far below the middle of a row, in rows.
    """
    ax.errorbar(
        rows["estimate"], np.array(places_of(rows[over], names)) + shift,
        xerr=1.96 * rows["mc_error"], fmt=look.marker, color=look.colour, markersize=4.0,
        elinewidth=1.2, capsize=2.0, clip_on=False,
    )  # fmt: skip


def _tell(ax: Axes, rows: pd.DataFrame, over: str, names: Sequence[Any], measure: str) -> None:
    """The numbers, right of the rows."""
    known = rows[np.isfinite(rows["estimate"])]
    for k, value in zip(places_of(known[over], names), known["estimate"], strict=True):
        share = measure.startswith(SHARES)
        text = f"{100.0 * value:.1f} %" if share else tick_text(float(f"{value:.4g}"))
        ax.text(1.03, k, text, va="center_baseline", transform=ax.get_yaxis_transform())
