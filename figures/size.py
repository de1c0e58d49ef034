"""Power over the size of a trial: what was simulated, the line through it, and the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.shared import BLACK, BLUE, DARK_GREY, SKY, VERMILLION, ResultFileError

__all__ = ["NOTE", "axis_label", "draw_size", "key", "read_answer"]

NOTE = (
    "Dots: simulated power within 1.96 Monte Carlo errors; the same patients come at all sizes, so "
    "that dots err together. Line: fit to the probit of power with its 95 % band; its height comes "
    "from {n} trials at {at:g}, its slope and bend from the trials at the sizes around."
)
NO_ANSWER = (
    "Dots: simulated power within 1.96 Monte Carlo errors; the same patients come at all sizes. "
    "Dashed: the power that is asked for."
)


def read_answer(place: Path) -> dict[str, Any]:
    """Read ``size.json``.

    Parameters
    ----------
    place : pathlib.Path
        Directory of the run.

    Raises
    ------
    ResultFileError
        If it is not there, is not JSON, or lacks an entry that the figure needs.
    """
    path = place / "size.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        needed = ["method", "unit", "target_power", "assumptions", "answer"]
        missing = [name for name in needed if name not in record]
        if not missing and record["answer"] is None and "reason" not in record:
            missing = ["reason"]
    except (OSError, ValueError, TypeError) as error:
        raise ResultFileError(f"{path}: cannot be read: {error}") from error
    if missing:
        raise ResultFileError(f"{path}: no entry {', '.join(missing)}")
    return record


def axis_label(record: Mapping[str, Any]) -> str:
    """What is varied, in words."""
    unit = str(record["unit"])
    return unit[:1].upper() + unit[1:]


def key(answered: bool) -> tuple[list[Any], list[str]]:
    """Handles and words of the legend."""
    if not answered:
        return [], []
    return (
        [
            Line2D([], [], color=BLUE, linewidth=1.5),
            Patch(facecolor=SKY, alpha=0.4),
            Line2D([], [], color=VERMILLION, marker="D", markersize=5, linewidth=1.6),
        ],
        ["fit", "its 95 % band", "answer, with its 95 % interval"],
    )


def draw_size(
    ax: Axes, tried: pd.DataFrame, curve: pd.DataFrame | None, record: Mapping[str, Any]
) -> Axes:
    """Draw simulated power over size, with the fitted line and the answer.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    tried : DataFrame
        size, power, mc_error of ``size.csv``.
    curve : DataFrame or None
        size, power, lower, upper of ``size_curve.csv``; None where there is no answer.
    record : mapping
        Of ``size.json``.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    target, answer = record["target_power"], record["answer"]
    ax.axhline(target, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)))
    if answer is not None and curve is not None:
        low, high = curve["size"].min(), curve["size"].max()
        shown = tried[(tried["size"] >= low) & (tried["size"] <= high)]
        ax.fill_between(
            curve["size"], curve["lower"], curve["upper"], color=SKY, alpha=0.4, linewidth=0.0
        )
        ax.plot(curve["size"], curve["power"], color=BLUE)
    else:
        shown = tried
    ax.errorbar(
        shown["size"], shown["power"], yerr=1.96 * shown["mc_error"], fmt="o", color=BLACK,
        markersize=3.5, elinewidth=1.0, capsize=2.0,
    )  # fmt: skip
    if answer is not None:
        ax.errorbar(
            [answer["crossing"]], [target],
            xerr=[[answer["crossing"] - answer["lower"]], [answer["upper"] - answer["crossing"]]],
            fmt="D", color=VERMILLION, markersize=5, elinewidth=1.6, capsize=3.0, zorder=5,
        )  # fmt: skip
        ax.annotate(
            f"{answer['size']:g} {record['unit']}", (answer["crossing"], target), xytext=(8, -9),
            textcoords="offset points", va="top", color=VERMILLION, weight="bold",
        )  # fmt: skip
    elif tried["size"].max() > 4.0 * tried["size"].min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.margins(x=0.03)
    ax.set_xlabel(axis_label(record))
    ax.set_ylabel("Power")
    return ax
