"""A calibrated model beside the data of one arm, on one page.

Draws what `resistime-calibrate` leaves in a folder and computes nothing:

``fit.json``
    `arm`, `trial` (may be empty), `file`, `version`, `model` (its name in words),
    `endpoints`: for ``pfs``, ``os`` or both, `horizon`, `table_every` (months),
    `median` (estimate, lower, upper; null is not reached), `aic` (of the model, may be
    null) and `reference` (`name`, `aic`; may be null),
    `parameters`: a list with `name`, `label`, `unit` (may be empty), `estimate`, `lower`,
    `upper` (95 %; null is open), `identified` and `log` (whether its axis is logarithmic).
``fit_data.csv``
    The Kaplan-Meier estimate with the columns of ``curves.csv``: arm, endpoint, time,
    survival, lower, upper, at_risk, events, censored. Counts stand below the panel
    where a row has the time of a tick.
``fit_curves.csv``
    endpoint, model, time, survival, lower, upper. `model` is ``fit`` or the name of the
    reference; limits may be empty.
``fit_hazards.csv``
    endpoint, model, start, end, hazard, lower, upper, per month. `model` is ``fit``,
    the name of the reference, or ``data`` for the estimate of a piece; of the others
    start and end are the same.
``fit_profile.csv``
    parameter, value, deviance: twice the log-likelihood lost, the others refitted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from figures.kaplan_meier import (
    AXIS,
    AXIS_INCHES,
    LINE_INCHES,
    TITLES,
    Curve,
    count_lines,
    draw_counts,
    draw_kaplan_meier,
    median_text,
    spread_ticks,
)
from figures.page import MARGIN, Page
from figures.run import STYLE
from figures.shared import (
    BLUE,
    DARK_GREY,
    MID_GREY,
    SMALL_PRINT,
    VERMILLION,
    ResultFileError,
    months_axis,
    read_table,
    save,
    wrap,
)

__all__ = ["draw_calibration", "draw_hazards", "draw_profile", "write_calibration"]

FIT, DATA = "fit", "data"
THRESHOLD = 3.84
"""Deviance at the ends of a 95 % interval: the quantile of chi-squared with one degree."""

HIGHEST = 8.0
"""Deviance at the top of a panel."""

COUNT_COLUMNS = (
    "arm", "endpoint", "time", "survival", "lower", "upper", "at_risk", "events", "censored",
)  # fmt: skip
CURVE_COLUMNS = ("endpoint", "model", "time", "survival", "lower", "upper")
HAZARD_COLUMNS = ("endpoint", "model", "start", "end", "hazard", "lower", "upper")
PROFILE_COLUMNS = ("parameter", "value", "deviance")

NOTE = (
    "Grey steps: Kaplan-Meier estimate; pale where fewer than 5 % of the patients, or 10, are "
    "left. Bands and bars: 95 % intervals. At risk: still followed after that month; censored and "
    "events: up to it. Points: events over months at risk in each piece. "
)
PROFILE_NOTE = (
    "Deviance: twice the log-likelihood lost when one parameter is held and the others are "
    "refitted; values below the broken line (3.84) are within the 95 % interval, shaded. "
)
PURPOSE = "For research and teaching, not for treating patients."

# Inches.
_LEFT, _TALL, _WIDE, _BESIDE, _HAZARD = 0.92, 2.55, 4.15, 0.72, 2.55
_TOP, _BETWEEN = 0.24, 0.3
_PER_ROW, _PROFILE, _PROFILE_TALL, _PROFILE_GAP, _PROFILE_LEFT = 4, 1.68, 1.05, 0.4, 0.52
_PROFILE_HEAD, _PROFILE_FOOT = 0.42, 0.36
_NAME_LINE = 0.135


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the page is made of."""

    about: Mapping[str, Any]
    data: pd.DataFrame
    curves: pd.DataFrame
    hazards: pd.DataFrame
    profiles: pd.DataFrame | None


def write_calibration(place: Path) -> list[Path]:
    """Draw the page of a fit and write it there as ``calibration.png`` and ``.svg``.

    Raises
    ------
    ResultFileError
        If a file is not there or cannot be drawn from.
    OutputError
        If the figure cannot be written.
    """
    with matplotlib.rc_context(fname=STYLE):
        return save(draw_calibration(place), place, "calibration")


def draw_calibration(place: Path) -> Figure:
    """Draw the page of a fit from the files in a folder, see the top of this module.

    Parameters
    ----------
    place : pathlib.Path
        The folder.

    Returns
    -------
    matplotlib.figure.Figure
        Survival and hazard of each endpoint, and a profile of each parameter.

    Raises
    ------
    ResultFileError
        If a file is not there or cannot be drawn from.
    """
    fit = _read(place)
    try:
        return _page(fit)
    except (KeyError, TypeError) as error:
        raise ResultFileError(f"{place / 'fit.json'}: an entry is missing: {error}") from error


def _read(place: Path) -> _Fit:
    path = place / "fit.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultFileError(f"{path}: cannot be read: {error}") from error
    tables = []
    for name, columns in (
        ("fit_data.csv", COUNT_COLUMNS),
        ("fit_curves.csv", CURVE_COLUMNS),
        ("fit_hazards.csv", HAZARD_COLUMNS),
    ):
        table = read_table(place, name, columns)
        if table is None:
            raise ResultFileError(f"{place / name}: no such file, or no row in it")
        tables.append(table)
    data, curves, hazards = tables
    return _Fit(about, data, curves, hazards, read_table(place, "fit_profile.csv", PROFILE_COLUMNS))


def _page(fit: _Fit) -> Figure:
    about = fit.about
    arm, model = str(about["arm"]), str(about["model"])
    endpoints = [name for name in TITLES if name in about["endpoints"]]
    looks = [Curve(arm, arm, DARK_GREY, "-", 1.4)]
    medians = {name: {arm: _median(about["endpoints"][name], arm, name)} for name in endpoints}
    counts = [count_lines(looks, medians[name], _WIDE) * LINE_INCHES for name in endpoints]
    rows = [_TOP + _TALL + AXIS_INCHES + count + _BETWEEN for count in counts]
    parameters = about["parameters"] if fit.profiles is not None else []
    profile_rows = -(-len(parameters) // _PER_ROW)
    profile_row = _PROFILE_HEAD + _PROFILE_TALL + _PROFILE_FOOT
    body = sum(rows) + profile_rows * profile_row
    what = ", ".join(part for part in (arm, str(about.get("trial") or "")) if part)
    page = Page(
        f"{model} fitted to {what}",
        "",
        body,
        NOTE + (PROFILE_NOTE if parameters else "") + f"Fitted with Resistime {about['version']} "
        f"to {about['file']}. {PURPOSE}",
    )
    top = 0.0
    for name, row in zip(endpoints, rows, strict=True):
        _draw_endpoint(page, fit, name, top, looks, medians[name])
        top += row
    for i, parameter in enumerate(parameters):
        down, across = divmod(i, _PER_ROW)
        ax = page.axes(
            MARGIN + _PROFILE_LEFT + across * (_PROFILE + _PROFILE_GAP),
            top + down * profile_row + _PROFILE_HEAD,
            _PROFILE,
            _PROFILE_TALL,
        )
        assert fit.profiles is not None
        mine = fit.profiles[fit.profiles["parameter"] == parameter["name"]]
        draw_profile(ax, mine, parameter)
        if across == 0:
            ax.set_ylabel("Deviance", fontsize=SMALL_PRINT)
    return page.figure


def _median(endpoint: Mapping[str, Any], arm: str, name: str) -> str:
    values = [np.inf if value is None else float(value) for value in endpoint["median"]]
    summary = pd.DataFrame(
        [(arm, name, "median", *values)],
        columns=["arm", "endpoint", "measure", "estimate", "lower", "upper"],
    )
    return median_text(summary, arm, name)


def _draw_endpoint(
    page: Page,
    fit: _Fit,
    name: str,
    top: float,
    looks: Sequence[Curve],
    medians: Mapping[str, str],
) -> None:
    """One row of the page: survival, with counts, and the hazard beside it."""
    endpoint = fit.about["endpoints"][name]
    horizon = float(endpoint["horizon"])
    data, curves, hazards = (
        table[table["endpoint"] == name] for table in (fit.data, fit.curves, fit.hazards)
    )
    ticks = spread_ticks(horizon, float(endpoint["table_every"]), _WIDE, "0000")
    ax = page.axes(MARGIN + _LEFT, top + _TOP, _WIDE, _TALL)
    draw_kaplan_meier(ax, data, looks, horizon=horizon, ticks=ticks, endpoint=AXIS[name])
    ax.set_title(TITLES[name])
    reference = endpoint.get("reference")
    lines = [Line2D([], [], color=DARK_GREY, linewidth=1.4)]
    labels = ["data"]
    for model, told, chosen in (
        (FIT, str(fit.about["model"]), endpoint),
        (reference and reference["name"], reference and reference["name"], reference),
    ):
        if model:
            lines.append(_draw_curve(ax, curves[curves["model"] == model], str(model)))
            aic = chosen.get("aic")
            labels.append(str(told) + ("" if aic is None else f", AIC {aic:.1f}"))
    _draw_key(ax, data, lines, labels, horizon)
    draw_counts(ax, data, looks, ticks=ticks, medians=medians)
    beside = page.axes(MARGIN + _LEFT + _WIDE + _BESIDE, top + _TOP, _HAZARD, _TALL)
    draw_hazards(beside, hazards, horizon, spread_ticks(horizon, ticks[1], _HAZARD, "0000"))
    beside.set_title("Hazard per month")


def _draw_curve(ax: Axes, rows: pd.DataFrame, model: str) -> Line2D:
    """A model's survival, with its band if the file has one."""
    style = _style(model)
    (line,) = ax.plot(rows["time"], rows["survival"], label=model, zorder=3.0, **style)
    _fill(ax, rows, rows["time"], style["color"])
    return line


def _style(model: str) -> dict[str, Any]:
    if model == FIT:
        return {"color": BLUE, "linewidth": 2.0}
    return {"color": VERMILLION, "linewidth": 1.1, "linestyle": (0, (4.0, 2.0))}


def _fill(ax: Axes, rows: pd.DataFrame, time: pd.Series, colour: str) -> None:
    if rows[["lower", "upper"]].notna().to_numpy().any():
        ax.fill_between(
            time, rows["lower"], rows["upper"], color=colour, alpha=0.25, linewidth=0, zorder=1.5
        )


def _draw_key(
    ax: Axes, data: pd.DataFrame, lines: Sequence[Line2D], labels: Sequence[str], horizon: float
) -> None:
    """Name the curves in the corner that they leave free."""
    late = data[data["time"] <= 0.7 * horizon]["survival"].iloc[-1]
    corner: Any = "lower left" if late > 0.5 else "upper right"
    ax.legend(
        handles=lines, labels=labels, loc=corner, fontsize=SMALL_PRINT, handlelength=2.2,
        borderaxespad=0.5, frameon=True, framealpha=0.8, edgecolor="none",
    )  # fmt: skip


def draw_hazards(ax: Axes, hazards: pd.DataFrame, horizon: float, ticks: Sequence[float]) -> Axes:
    """Draw the hazard of the models as lines and that of the data as pieces with error bars.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    hazards : DataFrame
        model, start, end, hazard, lower, upper, of one endpoint, per month.
    horizon : float
        End of the time axis, months.
    ticks : sequence of float
        Months to label.

    Returns
    -------
    matplotlib.axes.Axes
        The one given. The axis is logarithmic and spans what the data show and half as much again.
    """
    pieces = hazards[hazards["model"] == DATA]
    for model in hazards["model"].unique():
        rows = hazards[hazards["model"] == model]
        if model != DATA:
            style = _style(str(model))
            shown = rows[rows["hazard"] > 0.0]
            ax.plot(shown["start"], shown["hazard"], label=model, zorder=3.0, **style)
            _fill(ax, shown, shown["start"], style["color"])
    middle = (pieces["start"] + pieces["end"].clip(upper=horizon)) / 2.0
    ax.hlines(
        pieces["hazard"], pieces["start"], pieces["end"], color=DARK_GREY, linewidth=1.4, zorder=2.0
    )
    ax.errorbar(
        middle, pieces["hazard"],
        yerr=[pieces["hazard"] - pieces["lower"], pieces["upper"] - pieces["hazard"]],
        fmt="o", color=DARK_GREY, markersize=3.5, elinewidth=0.9, zorder=2.0, label=DATA,
    )  # fmt: skip
    ax.set_yscale("log")
    ends = pieces if not pieces.empty else hazards[hazards["hazard"] > 0.0]
    ends = ends.fillna({"lower": ends["hazard"], "upper": ends["hazard"]})
    ax.set_ylim(ends["lower"].min() / 1.5, ends["upper"].max() * 1.5)
    _label_log(ax.yaxis)
    ax.grid(True, axis="y")
    months_axis(ax, horizon, ticks)
    ax.set_xlabel("Months since randomisation")
    return ax


def _label_log(axis: Any) -> None:
    """Label 1, 2 and 5 of each decade as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def draw_profile(ax: Axes, profile: pd.DataFrame, parameter: Mapping[str, Any]) -> Axes:
    """Draw the deviance of one parameter.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw, of its final size.
    profile : DataFrame
        value, deviance.
    parameter : mapping
        `label`, `unit`, `estimate`, `lower`, `upper`, `identified`, `log`, as in ``fit.json``.

    Returns
    -------
    matplotlib.axes.Axes
        The one given. A parameter that is not identified is grey and says so.
    """
    identified = bool(parameter["identified"])
    colour = BLUE if identified else MID_GREY
    rows = profile.sort_values("value")
    if parameter["log"]:
        ax.set_xscale("log")
    ax.plot(rows["value"], rows["deviance"], color=colour, linewidth=1.6)
    ax.axhline(THRESHOLD, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)))
    if not rows.empty:
        ax.set_xlim(rows["value"].min(), rows["value"].max())
    low, high = (parameter[end] for end in ("lower", "upper"))
    start, stop = ax.get_xlim()
    if identified:
        ax.axvspan(
            start if low is None else low, stop if high is None else high, color=BLUE, alpha=0.12,
            linewidth=0,
        )  # fmt: skip
        ax.axvline(parameter["estimate"], color=BLUE, linewidth=0.9)
    else:
        ax.text(
            0.5, 0.8, "not identified\nby these data", transform=ax.transAxes, ha="center",
            va="center", fontsize=SMALL_PRINT, color=DARK_GREY, linespacing=1.1,
        )  # fmt: skip
    ax.set_ylim(0.0, HIGHEST)
    ax.set_yticks([0.0, THRESHOLD, HIGHEST], ["0", "3.84", "8"])
    ax.grid(False)
    _few_labels(ax, log=bool(parameter["log"]))
    ax.tick_params(labelsize=SMALL_PRINT)
    unit = f" ({parameter['unit']})" if parameter.get("unit") else ""
    title = wrap(f"{parameter['label']}{unit}", _PROFILE + 0.3, SMALL_PRINT, "bold")
    ax.set_title("\n".join(title), fontsize=SMALL_PRINT, linespacing=1.1, pad=3.0)
    return ax


def _few_labels(ax: Axes, *, log: bool) -> None:
    """At most four labels, plain numbers."""
    if not log:
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    start, stop = ax.get_xlim()
    decades = np.arange(np.floor(np.log10(start)), np.ceil(np.log10(stop)) + 1.0)
    places = [m * 10.0**k for k in decades for m in (1.0, 2.0, 5.0)]
    inside = [place for place in places if start <= place <= stop]
    step = -(-len(inside) // 4)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(inside[::step] if inside else [], [f"{x:g}" for x in inside[::step]])
