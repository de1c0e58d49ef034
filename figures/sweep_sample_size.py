"""The size a trial needs for a power, over the other parameters of a sweep.

The sizes come from `analysis.sample_size` and are left in a CSV file beside the
figure, which shows what the file says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from analysis.sample_size import required_table
from figures.page import MARGIN
from figures.shared import text_width, wrap
from figures.sweep_choice import (
    Choice,
    ChoiceError,
    Shown,
    distinct,
    drop_tied,
    find_parameter,
    hold_others,
    is_number,
    measure_rows,
    narrow,
    pick_over,
    share_out,
    split,
)
from figures.sweep_heatmap import MOST_GRIDS, grids_page, pick_pair
from figures.sweep_page import LOOKS, Look, Panels, draw_band, heading, panel_title, value_axis
from figures.sweep_power import key_of
from figures.sweep_tables import FACETS, Sweep, read_cells
from sim.storage import write_text

__all__ = ["draw_required", "pick_size", "required_path", "sample_size_page"]

SIZES = re.compile(r"trial\.(n_patients|cuts\.[^.]+\.(events|date|follow_up))")
"""Swept parameters that are the size of a trial."""

NOTE = (
    "Line of probit(power) on the square root of the size, through all sizes simulated, or the "
    "nearest four where it does not fit. {} 95 % interval, however the errors of cells that share "
    "patients go together."
)


def required_path(place: Path, choice: Choice) -> Path:
    """Where the sizes are left."""
    return place / f"{choice.output or 'required'}.csv"


def pick_size(sweep: Sweep, rows: pd.DataFrame, asked: str) -> str:
    """The swept parameter that is the size of a trial.

    Raises
    ------
    ChoiceError
        If there is none, it is not a number, or does not vary.
    """
    if asked:
        size = find_parameter(sweep, "--size", asked)
        if not is_number(rows[size]) or len(distinct(rows[size].dropna())) < 2:
            raise ChoiceError(f"--size: {size} must have two or more values that are numbers.")
        return size
    found = [
        path
        for path in sweep.paths
        if SIZES.fullmatch(path)
        and is_number(rows[path])
        and len(distinct(rows[path].dropna())) > 1
    ]
    if not found:
        raise ChoiceError(
            "no size was swept: sample_size needs two or more values of trial.n_patients or of "
            f"the events, date or follow_up of a cut. Swept: {', '.join(sweep.paths) or 'none'}."
        )
    return found[0]


def sample_size_page(place: Path, sweep: Sweep, choice: Choice) -> Figure:
    """Work out the sizes needed, write them and draw them.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    sweep : Sweep
        Its ``sweep.json``.
    choice : Choice
        What was asked for: `target` is the power.

    Raises
    ------
    ResultFileError
        If the tables cannot be drawn from.
    ChoiceError
        If there is no such thing as was asked for, nothing to draw, or too much.
    OutputError
        If the table cannot be written.
    """
    if not 0.0 < choice.target < 1.0:
        raise ChoiceError(f"--target must lie between 0 and 1, got {choice.target:g}.")
    table = read_cells(place, sweep)
    if "power" not in set(table["measure"]):
        raise ChoiceError("no power in this sweep: sample_size needs a sweep of trials.")
    by = find_parameter(sweep, "--by", choice.by, FACETS) if choice.by else ""
    shown = narrow(sweep, measure_rows(table, "power"), choice, [by])
    size = pick_size(sweep, shown.rows, choice.size)
    over = find_parameter(sweep, "--over", choice.over) if choice.over else ""
    shown = drop_tied(sweep, shown, size, [over, by])
    over = over or pick_over(sweep, shown, [size, by])
    shown = hold_others(sweep, shown, table, [size, over, by])
    varying = [name for name in shown.varying if name != size]
    needed = required_table(shown.rows, size, varying, choice.target)
    # What every row agrees on is told too.
    needed = needed.assign(
        **{name: shown.rows[name].iloc[0] for name in FACETS if name not in needed}
    )
    front = [*[name for name in sweep.paths if name in varying], *FACETS]
    needed = needed[[*front, *[name for name in needed if name not in front]]]
    write_text(required_path(place, choice), needed.to_csv(index=False))
    left = Shown(needed, shown.fixed, tuple(varying), shown.notes)
    free = [name for name in varying if name in sweep.paths]
    if len(free) >= 2 and (not by or by in sweep.paths):
        return _grid(sweep, left, choice, size)
    over = over if over in free else ""
    if over and is_number(needed[over]) and not needed[over].isna().any():
        return _lines(sweep, left, choice, size, over, by)
    return _rows(sweep, left, choice, size, over)


def _title(sweep: Sweep, size: str, choice: Choice) -> str:
    return f"{sweep.axis(size).title} needed for {100.0 * choice.target:g} % power"


def _told(row: Any) -> Sequence[str]:
    """A size in a cell or beside a row."""
    if row["position"] == "inside":
        return f"{_up(row['required'])}", f"({_up(row['lower'])} to {_up(row['upper'])})"
    if row["position"] == "unresolved":
        return ("?",)
    sign, end = ("<", "smallest") if row["position"] == "below" else (">", "largest")
    return (f"{sign} {row[end]:,.4g}",)


def _up(value: float) -> str:
    """A size as it is shown; half a patient is none, and months have decimals."""
    return f"{np.ceil(value - 1e-9):,.0f}" if value >= 100.0 else f"{value:.1f}"


def _reach(rows: pd.DataFrame) -> tuple[float, float]:
    """The sizes simulated, and what intervals reach beyond them."""
    low, high = (rows[["smallest", "lower"]], rows[["largest", "upper"]])
    return float(low.min(axis=None)), float(high.max(axis=None))


def _note(shown: Shown, how: str, mark: str = "?") -> str:
    parts = [NOTE.format(how)]
    positions = set(shown.rows["position"])
    if positions & {"below", "above"}:
        parts.append("Beyond the sizes simulated, nothing is extrapolated.")
    if "unresolved" in positions:
        parts.append(f"{mark}: power falls with size, or tells too little.")
    return " ".join([*parts, *shown.notes])


# ---------------------------------------------------------------- over two parameters


def _grid(sweep: Sweep, shown: Shown, choice: Choice, size: str) -> Figure:
    across, up = pick_pair(sweep, shown, choice, [size])
    roles = share_out(sweep, shown, across, up, lines=False, most=MOST_GRIDS)
    known = shown.rows["required"].dropna()
    limits = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    if limits[0] == limits[1]:
        limits = (0.99 * limits[0], 1.01 * limits[1])
    # A few round numbers, as many as there are kinds of lines.
    levels = [float(v) for v in MaxNLocator(4).tick_values(*limits) if limits[0] < v < limits[1]]
    label = sweep.axis(size).label
    return grids_page(
        sweep, shown, list(split(shown.rows, roles.panels)), across, up, "required", _told,
        title=_title(sweep, size, choice), limits=(float(limits[0]), float(limits[1])),
        note=_note(shown, "In brackets:"), contours=levels[:4],
        contour_words=lambda level: f"{level:,.5g} {label}",
    )  # fmt: skip


# ---------------------------------------------------------------- over one parameter, or none


def _lines(sweep: Sweep, shown: Shown, choice: Choice, size: str, over: str, by: str) -> Figure:
    roles = share_out(sweep, shown, over, by)
    parts = list(split(shown.rows, roles.panels))
    values = distinct(shown.rows[roles.by]) if roles.by else [None]
    several = len(parts)
    title = _title(sweep, size, choice)
    note = _note(shown, "Bands:", "Crosses")
    if set(shown.rows["position"]) & {"below", "above"}:
        note += " Open triangles: fewer (down) or more (up) than were simulated."
    fixed = {} if several > 1 else parts[0][0]
    panels = Panels.lay_out(
        sweep, heading(sweep, title, shown, fixed), sweep.caption(note, cohort=False),
        [panel_title(sweep, key) if several > 1 else "" for key, _ in parts],
        tall=3.5 if several == 1 else 2.2 if several in (2, 4) else 1.75, left=0.8,
        key=key_of(sweep, roles.by, values),
    )  # fmt: skip
    low, high = _reach(shown.rows)
    for i, (ax, (_, own)) in enumerate(zip(panels.axes, parts, strict=True)):
        for k, (value, look) in enumerate(zip(values, LOOKS, strict=False)):
            line = own if not roles.by else own[own[roles.by].isin([value])]
            shift = 6.0 * (k - (len(values) - 1) / 2.0)
            draw_required(ax, line.sort_values(over, kind="stable"), over, look, shift)
        value_axis(ax, [float(value) for value in distinct(shown.rows[over])], panels.width)
        air = 0.06 * (high - low)
        ax.set_ylim(low - air, high + air)
        ax.grid(True, axis="y")
        ax.set_xlabel("\n".join(wrap(sweep.axis(over).title, panels.width, 9.0)))
        if panels.is_first(i):
            ax.set_ylabel("\n".join(wrap(f"{sweep.axis(size).title} needed", 2.2, 9.0)))
        else:
            ax.tick_params(labelleft=False)
    return panels.figure


def draw_required(
    ax: Axes, rows: pd.DataFrame, across: str, look: Look, shift: float = 0.0
) -> None:
    """Draw the sizes needed as a line with its band, and marks where they were not met.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    rows : DataFrame
        The column `across`, and those of `analysis.sample_size.required_table`, from left to
        right.
    across : str
        Column of the horizontal axis.
    look : Look
        Colour, dashes and marker.
    shift : float
        How far to the right marks without a size stand, points, so that those of several lines
        are seen.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    aside = ax.transData + ScaledTranslation(shift / 72.0, 0.0, figure.dpi_scale_trans)
    names = (across, "required", "lower", "upper")
    x, y, low, high = (rows[name].to_numpy(dtype=np.float64) for name in names)
    draw_band(ax, x, low, high, look.colour)
    ax.plot(
        x, y, color=look.colour, linestyle=look.dashes, marker=look.marker, markersize=4.0,
        zorder=2.5,
    )  # fmt: skip
    for position, end, marker in (
        ("below", "smallest", "v"), ("above", "largest", "^"), ("unresolved", "largest", "x"),
    ):  # fmt: skip
        beyond = rows[rows["position"] == position]
        if len(beyond):
            ax.plot(
                beyond[across], beyond[end], linestyle="none", marker=marker, markersize=6.5,
                markerfacecolor="white", color=look.colour, clip_on=False, zorder=2.6,
                transform=aside,
            )  # fmt: skip


def _rows(sweep: Sweep, shown: Shown, choice: Choice, size: str, over: str) -> Figure:
    """Names as rows, with the sizes to the right: a row for each combination."""
    names = list(dict.fromkeys(name for name in (over, *shown.varying) if name)) or ["method"]
    rows = pd.concat([part for _, part in split(shown.rows, names)], ignore_index=True)
    if len(rows) > MOST_ROWS:
        raise ChoiceError(
            f"{len(rows)} rows are too many to read (at most {MOST_ROWS}); narrow with "
            f"{' or '.join(f'--{n} NAME' if n in FACETS else f'--where {n}=VALUE' for n in names)}."
        )
    # Of one parameter the name stands above, of several beside each value.
    tell = sweep.told if sum(name in sweep.paths for name in names) > 1 else sweep.word
    told = [
        ", ".join(tell(name, value) for name, value in zip(names, row, strict=True))
        for row in rows[names].astype(object).itertuples(index=False, name=None)
    ]
    broken = ["\n".join(wrap(name, 3.0, 8.5)) for name in told]
    room = max(text_width(text, 8.5) for name in broken for text in name.split("\n")) + 0.15
    line = 0.1 + 0.14 * max(name.count("\n") + 1 for name in broken)
    title = _title(sweep, size, choice)
    right = [" ".join(_told(row)) for row in rows.to_dict(orient="records")]
    panels = Panels.lay_out(
        sweep, heading(sweep, title, shown), sweep.caption(
            _note(shown, "Bars:"), cohort=False),
        [sweep.axis(over).title if over and tell == sweep.word else ""],
        tall=line * len(rows) + 0.1, left=MARGIN + room,
        right=0.3 + max(text_width(text, 9.0) for text in right),
    )  # fmt: skip
    (ax,) = panels.axes
    look = LOOKS[0]
    ax.hlines(range(len(rows)), rows["lower"], rows["upper"], color=look.colour, linewidth=1.2)
    ax.plot(rows["required"], range(len(rows)), look.marker, color=look.colour, markersize=4.5)
    for position, end, marker in (("below", "smallest", "<"), ("above", "largest", ">")):
        beyond = rows[rows["position"] == position]
        if len(beyond):
            ax.plot(
                beyond[end], beyond.index, marker, color=look.colour, markerfacecolor="white",
                markersize=6.5, clip_on=False,
            )  # fmt: skip
    for y, text in enumerate(right):
        ax.text(1.02, y, text, va="center_baseline", transform=ax.get_yaxis_transform())
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), broken)
    ax.tick_params(axis="y", length=0)
    low, high = _reach(rows)
    air = 0.03 * (high - low)
    ax.set_xlim(low - air, high + air)
    ax.set_xlabel(f"{sweep.axis(size).title} needed")
    return panels.figure


MOST_ROWS = 30
