"""What all figures share: the files of a run, colours, the caption and saving.

The readers here check that a file has the columns a figure needs and nothing
else. What a file says is drawn as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from sim.errors import ResistimeError
from sim.storage import write_whole

__all__ = [
    "About", "ResultFileError", "Strategy", "draw_areas", "draw_dots", "draw_mark", "draw_stack",
    "method_words", "months_axis", "name_rows", "read_about", "read_table", "save", "share_axis",
    "text_width", "wrap",
]  # fmt: skip

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's palette, told apart with any kind of colour vision."""

DARK_GREY, MID_GREY, LIGHT_GREY = "#404040", "#8C8C8C", "#D0D0D0"

SMALL_PRINT = 8.0
"""Points; the smallest text of any figure."""

MOST_POINTS = 250
"""Points of a stacked area that are drawn; a panel has no room to show more."""


class ResultFileError(ResistimeError, ValueError):
    """A result file that a figure cannot be drawn from."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy as it is named in figures."""

    name: str
    label: str
    family: str


@dataclass(frozen=True, slots=True)
class About:
    """What ``provenance.json`` says that figures need."""

    description: str
    seed: int
    n_patients: int
    version: str
    horizon: float
    """End of the time axis, months: follow-up itself, unless less of it is shown."""

    table_every: float
    reference: str
    """Name of the strategy that others are shown beside; may be empty."""

    strategies: tuple[Strategy, ...]
    labels: Mapping[str, str]
    spearman: float
    realised: tuple[float, ...]
    """Spearman correlations that were reached, one per agent with activity of its own."""

    reversal: float
    scenario: str
    citations_withdrawn: bool
    n_replicates: int = 0
    """Trials conducted; 0 for a cohort."""

    alpha: float = 0.025
    """One-sided level of a trial's comparisons."""

    design: str = ""
    """What trial was conducted, in words."""

    def label(self, name: str) -> str:
        """The label of a mechanism, agent, stratum or definition; failing that, its name."""
        return self.labels.get(name) or name.replace("_", " ")

    @property
    def arm_labels(self) -> dict[str, str]:
        """Label of each strategy by name."""
        return {item.name: item.label for item in self.strategies}

    def trial_caption(self, note: str) -> str:
        """The small print of a figure of trials."""
        made = f"Simulated with Resistime {self.version}: {self.n_replicates:,}\u00a0trials"
        if self.design:
            made += f" of {self.design}"
        if self.scenario:
            made += f", scenario {self.scenario}"
        parts = [note, f"{made}, seed\u00a0{self.seed}."]
        parts.append("For research and teaching, not for treating patients.")
        return " ".join(part for part in parts if part)

    def caption(self, note: str = "", *, paired: bool = True) -> str:
        """The small print of a figure.

        Parameters
        ----------
        note : str
            How to read this figure, put first.
        paired : bool
            Whether the figure shows the same patients under several strategies,
            which rests on the coupling.
        """
        made = f"Simulated with Resistime {self.version}: {self.n_patients:,}\u00a0patients"
        if self.scenario:
            made += f", scenario {self.scenario}"
        parts = [note, f"{made}, seed\u00a0{self.seed}."]
        if paired and len(self.strategies) > 1:
            coupling = f"Spearman {self.spearman:g}"
            if self.realised:
                ends = dict.fromkeys(f"{f(self.realised):.2f}" for f in (min, max))
                coupling += f" asked for, {' to '.join(ends)} reached"
            if self.reversal:
                coupling += f", reversals {self.reversal:g}"
            parts.append(
                "The same patients under every strategy; how the effects of agents are coupled "
                f"({coupling}) is an assumption."
            )
        if self.citations_withdrawn:
            parts.append("Some cited numbers were replaced by the user.")
        parts.append("For research and teaching, not for treating patients.")
        return " ".join(part for part in parts if part)


def read_about(place: Path) -> About:
    """Read ``provenance.json``.

    Parameters
    ----------
    place : pathlib.Path
        Directory of a run.

    Raises
    ------
    ResultFileError
        If the file is not there, is not JSON, or lacks an entry that figures need.
    """
    path = place / "provenance.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        coupling = content.get("coupling", {})
        return About(
            description=str(content.get("description", "")),
            seed=int(content["seed"]),
            n_patients=int(content["n_patients"]),
            version=str(content["version"]),
            horizon=float(content.get("horizon", content["follow_up"])),
            table_every=float(content["table_every"]),
            reference=str(content.get("reference_strategy") or ""),
            strategies=tuple(
                Strategy(item["name"], item.get("label") or item["name"], item.get("family", ""))
                for item in content["strategies"]
            ),
            labels=content.get("labels", {}),
            spearman=float(coupling.get("spearman", 0.0)),
            realised=tuple(coupling.get("realised_spearman", {}).values()),
            reversal=float(coupling.get("reversal", 0.0)),
            scenario=str(content.get("scenario") or ""),
            design=str(content.get("design") or ""),
            citations_withdrawn=bool(content.get("citations_withdrawn", False)),
            n_replicates=int(content.get("n_replicates", 0)),
            alpha=float(content.get("alpha", 0.025)),
        )
    except KeyError as error:
        raise ResultFileError(f"{path}: no entry {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ResultFileError(f"{path}: cannot be read: {error}") from error


def read_table(place: Path, name: str, columns: Sequence[str]) -> pd.DataFrame | None:
    """Read a CSV file of a run.

    Parameters
    ----------
    place : pathlib.Path
        Directory of the run.
    name : str
        Name of the file.
    columns : sequence of str
        Columns it must have.

    Returns
    -------
    DataFrame or None
        None if there is no such file, or no row in it.

    Raises
    ------
    ResultFileError
        If it cannot be read or lacks a column.
    """
    path = place / name
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise ResultFileError(f"{path}: cannot be read: {error}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ResultFileError(f"{path}: no column {', '.join(missing)}")
    return None if table.empty else table


def save(figure: Figure, place: Path, stem: str) -> list[Path]:
    """Write a figure as PNG and SVG, whole or not at all.

    Returns
    -------
    list of pathlib.Path
        The two files.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    options: dict[str, dict[str, Any]] = {
        # Text and thin lines hardly compress better at higher levels, only more slowly.
        "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
        "svg": {"metadata": {"Date": None}},
    }
    return [
        write_whole(place / f"{stem}.{kind}", partial(figure.savefig, **more))
        for kind, more in options.items()
    ]


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a text in inches, without drawing it and without kerning."""
    return sum(_advance(letter, weight) for letter in text) * size / 72.0


@cache
def _advance(letter: str, weight: str) -> float:
    """Width of a letter, in units of the size of the font."""
    font = FontProperties(family="DejaVu Sans", size=100.0, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(letter, font, ismath=False)
    return float(width) / 100.0


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break a text into lines of at most `width` inches; a longer word keeps a line of its own.

    Examples
    --------
    >>> wrap("resistance is not progression", 1.1, 10.0)
    ['resistance is', 'not progression']
    """
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else ""
        if longer and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if text else []


def months_axis(ax: Axes, horizon: float, ticks: Iterable[float]) -> None:
    """Set a time axis in months from 0 to `horizon`, labelled without trailing zeros."""
    places = list(ticks)
    ax.set_xlim(0.0, horizon)
    ax.set_xticks(places, [f"{tick:g}" for tick in places])


def draw_stack(
    ax: Axes,
    values: pd.DataFrame,
    order: Sequence[str],
    colours: Mapping[str, str],
    *,
    step: bool,
) -> Axes:
    """Draw shares as areas on top of each other.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    values : DataFrame
        One row per time (the index, months), one column per part.
    order : sequence of str
        Parts from the bottom up; those that `values` lacks are left out.
    colours : mapping
        Colour of each part.
    step : bool
        Whether a value holds until the next time, as an estimate does.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.
    """
    keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).astype(np.intp))
    drawn = values.iloc[keep]
    parts = [part for part in order if part in drawn.columns]
    time = drawn.index.to_numpy(dtype=np.float64)
    tops = np.cumsum(drawn[parts].to_numpy(dtype=np.float64), axis=1).T
    if step:
        time, tops = np.repeat(time, 2)[1:], np.repeat(tops, 2, axis=1)[:, :-1]
    across = np.concatenate([time, time[::-1]])
    bottoms = np.vstack([np.zeros(len(time)), tops[:-1]])
    outlines = [
        np.column_stack([across, np.concatenate([top, bottom[::-1]])])
        for top, bottom in zip(tops, bottoms, strict=True)
    ]
    draw_areas(ax, outlines, [colours[part] for part in parts])
    share_axis(ax)
    return ax


def draw_areas(
    ax: Axes, outlines: Sequence[NDArray[np.float64]], colours: Sequence[str]
) -> PolyCollection:
    """Add filled areas, as one artist: hundreds of single ones take long to draw.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw. Its limits are not touched.
    outlines : sequence of ndarray, shape (points, 2)
        Corners of each area.
    colours : sequence of str
        Colour of each.

    Returns
    -------
    matplotlib.collections.PolyCollection
    """
    areas = PolyCollection(outlines, facecolors=colours, edgecolors="white", linewidths=0.35)
    ax.add_collection(areas, autolim=False)
    return areas


def share_axis(ax: Axes) -> None:
    """Set a vertical axis from 0 to 1."""
    ax.set_ylim(0.0, 1.0)
    ax.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])


def draw_mark(ax: Axes, value: float) -> None:
    """A dashed line at a value of the horizontal axis with which dots are compared."""
    ax.axvline(value, color=DARK_GREY, linewidth=0.8, linestyle=(0, (4.0, 2.0)))


def draw_dots(ax: Axes, values: pd.Series, errors: pd.Series) -> None:
    """Dots from the top down, one a row, each within 1.96 Monte Carlo errors."""
    ax.errorbar(
        values, range(len(values)), xerr=1.96 * errors, fmt="o", color=BLUE, markersize=4,
        elinewidth=1.2, capsize=2.0,
    )  # fmt: skip
    ax.set_ylim(len(values) - 0.5, -0.5)


def name_rows(ax: Axes, names: Sequence[str], told: Sequence[str]) -> None:
    """Names left of the rows and what is told of each right of them."""
    for y, text in enumerate(told):
        ax.text(1.02, y, text, va="center_baseline", transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)


METHODS = {
    "average_hazard_ratio": "average hazard ratio, {} mo",
    "cox": "Cox",
    "early_zero": "early-zero ({} mo)",
    "fleming_harrington": "Fleming-Harrington ({})",
    "logrank": "log-rank",
    "maxcombo": "MaxCombo ({})",
    "median_difference": "difference of medians",
    "milestone_difference": "difference of survival, {} mo",
    "modestly_weighted": "modestly weighted ({} mo)",
    "response_rate_difference": "difference of rates",
    "rmst_difference": "RMST difference, {} mo",
    "rmst_ratio": "RMST ratio, {} mo",
    "time_lost_ratio": "time lost ratio, {} mo",
}
"""Comparisons in words; the numbers of the name stand in the gap."""


def method_words(name: str) -> str:
    """A comparison as it is shown.

    Examples
    --------
    >>> method_words("stratified_fleming_harrington(0,0.5)")
    'Fleming-Harrington (0, 0.5), stratified'
    >>> method_words("rmst_difference(24)"), method_words("maxcombo")
    ('RMST difference, 24 mo', 'MaxCombo')
    """
    stem, _, numbers = name.removeprefix("stratified_").partition("(")
    numbers = numbers.removesuffix(")").replace(",", ", ").replace(";", "; ")
    words = METHODS.get(stem, stem.replace("_", " ") + (" ({})" if numbers else ""))
    told = words.format(numbers) if numbers else words.removesuffix(" ({})")
    return told + (", stratified" if name.startswith("stratified_") else "")
