"""Every figure of a sweep, from the tables in its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from figures.run import STYLE
from figures.shared import save
from figures.sweep_choice import Choice, ChoiceError, no_such
from figures.sweep_curves import curves_page
from figures.sweep_heatmap import heatmap_page
from figures.sweep_paired import paired_page
from figures.sweep_power import power_page
from figures.sweep_sample_size import required_path, sample_size_page
from figures.sweep_tables import Sweep, read_sweep
from figures.sweep_tornado import tornado_page

__all__ = ["KINDS", "check_kind", "draw_kind", "draw_sweep"]

KINDS: Mapping[str, Callable[[Path, Sweep, Choice], Figure]] = {
    "power": power_page,
    "heatmap": heatmap_page,
    "sample_size": sample_size_page,
    "paired": paired_page,
    "tornado": tornado_page,
    "curves": curves_page,
}
"""Kinds of figure by name."""

TABLES = ("sweep", "sweep_paired", "sweep_curves", "provenance")
"""Names in the folder of a sweep that are taken."""

SUFFIXES = (".png", ".svg", ".csv")


def check_kind(kind: str) -> None:
    """Refuse a kind of figure that there is not.

    Raises
    ------
    ChoiceError
        With the nearest one.
    """
    if kind not in KINDS:
        raise ChoiceError(no_such("KIND", "kind of figure", kind, list(KINDS)))


def draw_kind(place: Path, kind: str, choice: Choice) -> list[Path]:
    """Draw one figure of a sweep.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    kind : str
        One of `KINDS`.
    choice : Choice
        What is shown.

    Returns
    -------
    list of pathlib.Path
        The PNG, the SVG and, of sample sizes, the table.

    Raises
    ------
    ResultFileError
        If the folder is none of a sweep, or its tables cannot be drawn from.
    ChoiceError
        If there is no such kind, or no such thing as was asked for.
    OutputError
        If it cannot be written.
    """
    check_kind(kind)
    if Path(choice.output).name != choice.output or Path(choice.output).suffix in SUFFIXES:
        raise ChoiceError(
            f"--output: give a name without folder and suffix, got '{choice.output}'."
        )
    if choice.output in TABLES:
        raise ChoiceError(f"--output: '{choice.output}' is the name of a table of the sweep.")
    sweep = read_sweep(place)
    with matplotlib.rc_context(fname=STYLE):
        written = save(KINDS[kind](place, sweep, choice), place, choice.output or f"sweep_{kind}")
    return [*written, required_path(place, choice)] if kind == "sample_size" else written


def draw_sweep(place: Path, unfit: Callable[[str], object] = lambda told: None) -> list[Path]:
    """Draw the figures that ``sweep.json`` lists or, if none of these can be, those that fit.

    A second figure of a kind is called ``sweep_KIND_2``, unless it has a name of its own.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    unfit : callable
        Told of each figure that is listed and cannot be drawn, and why: cells
        may have been changed since it was written down.

    Returns
    -------
    list of pathlib.Path
        The files written.

    Raises
    ------
    ResultFileError, OutputError
        As `draw_kind`.
    """
    listed = [(item.kind, item.options) for item in read_sweep(place).wanted]
    drawn = _draw_listed(place, listed, unfit)
    return drawn or _draw_listed(place, [(kind, {}) for kind in KINDS], lambda told: None)


def _draw_listed(
    place: Path, listed: Sequence[tuple[str, Mapping[str, Any]]], unfit: Callable[[str], object]
) -> list[Path]:
    """Draw figures of these kinds and options, as far as they can be."""
    written: list[Path] = []
    stems: set[str] = set()
    for kind, options in listed:
        try:
            check_kind(kind)
            choice = Choice.of(kind, options)
        except ChoiceError as error:
            unfit(f"{kind}: {error}")
            continue
        stem, again = choice.output or f"sweep_{kind}", 2
        while stem in stems:
            stem, again = f"{choice.output or f'sweep_{kind}'}_{again}", again + 1
        stems.add(stem)
        try:
            written += draw_kind(place, kind, _named(choice, kind, stem))
        except ChoiceError as error:
            unfit(f"{kind}: {error}")
    return written


def _named(choice: Choice, kind: str, stem: str) -> Choice:
    return choice if stem == f"sweep_{kind}" else replace(choice, output=stem)
