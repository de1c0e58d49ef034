"""Scores of a published trial: z of every target, one row each, coloured by arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import targets
from figures.page import MARGIN, Page
from figures.run import STYLE
from figures.shared import MID_GREY, save

__all__ = ["draw_scores", "scores_page"]

ROW = 0.22
"""Height of a target, inches."""


def draw_scores(
    place: Path, stem: str, *, title: str, table: pd.DataFrame, labels: Mapping[str, str], note: str
) -> list[Path]:
    """Draw the scores of one trial into a folder.

    Parameters
    ----------
    place : pathlib.Path
        An existing folder.
    stem : str
        Name of the files without suffix.
    title : str
        The trial.
    table : DataFrame
        As from `analysis.published.compare_targets`.
    labels : mapping
        Label of each strategy and stratum.
    note : str
        How it was simulated.

    Returns
    -------
    list of pathlib.Path
        A PNG and an SVG.
    """
    with matplotlib.rc_context(fname=STYLE):
        return list(save(scores_page(title, table, labels, note), place, stem))


def scores_page(title: str, table: pd.DataFrame, labels: Mapping[str, str], note: str) -> Figure:
    """The page with one row for each target."""
    _, _, end = targets.place_rows(table["strategy"])
    tall = ROW * end
    caption = f"{targets.NOTE} {note} For research and teaching, not for treating patients."
    page = Page(title, "Simulated against published results", tall + 0.85, caption)
    ax = page.axes(MARGIN - targets.NAMES, 0.1, 3.6, tall)
    targets.draw_targets(ax, table, labels)
    marks = [
        Line2D([], [], color=MID_GREY, marker="o", markerfacecolor=face, linestyle="none")
        for face in (MID_GREY, "white")
    ]
    page.key(marks, ["read in its source, or derived from it", "recalled"], tall + 0.6)
    return page.figure
