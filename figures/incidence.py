"""Cumulative incidence of what ends progression-free survival, by latent cause."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex

from figures.shared import (
    LIGHT_GREY,
    ORANGE,
    VERMILLION,
    About,
    ResultFileError,
    draw_stack,
)

__all__ = ["NOTE", "cause_label", "cause_order", "choose_colours", "draw_incidence"]

ACQUIRED = "acquired/"
NOTE = "Events are those observed; their causes are the latent ones. White: no event so far."
_FIRST, _LAST = ("primary_resistance",), ("false_progression", "death_without_progression")
_FIXED = {
    "primary_resistance": VERMILLION,
    "false_progression": ORANGE,
    "death_without_progression": LIGHT_GREY,
}
_LABELS = {
    "primary_resistance": "primary resistance",
    "false_progression": "progression seen without resistance",
    "death_without_progression": "death without progression",
}
_COOL = LinearSegmentedColormap.from_list(
    "acquired", ["#08306B", "#1F6FB2", "#4DA6D0", "#7CCDC4", "#C4E8D0"]
)


def cause_order(incidence: pd.DataFrame, about: About) -> list[str]:
    """Causes from the bottom of the stack up.

    Primary resistance, then the acquired ones in the order of the run's labels,
    then what is not resistance.
    """
    known = list(about.labels)
    found = list(dict.fromkeys(incidence["cause"]))
    middle = [cause for cause in found if cause not in _FIRST + _LAST]
    names = [cause.removeprefix(ACQUIRED) for cause in middle]
    rank = {
        cause: known.index(name) if name in known else len(known)
        for cause, name in zip(middle, names, strict=True)
    }
    return [
        *(cause for cause in _FIRST if cause in found),
        *sorted(middle, key=rank.__getitem__),
        *(cause for cause in _LAST if cause in found),
    ]


def choose_colours(order: Sequence[str]) -> dict[str, str]:
    """A colour for each cause: one family of cool colours, dark to light, for the acquired ones."""
    middle = [cause for cause in order if cause not in _FIXED]
    last = max(len(middle) - 1, 1)
    cool = {cause: to_hex(_COOL(i / last)) for i, cause in enumerate(middle)}
    return {cause: _FIXED.get(cause) or cool[cause] for cause in order}


def cause_label(cause: str, about: About) -> str:
    """A cause in words."""
    if cause.startswith(ACQUIRED):
        return f"acquired: {about.label(cause.removeprefix(ACQUIRED))}"
    return _LABELS.get(cause) or about.label(cause)


def draw_incidence(
    ax: Axes, incidence: pd.DataFrame, order: Sequence[str], colours: dict[str, str]
) -> Axes:
    """Draw the cumulative incidences of one strategy on top of each other.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    incidence : DataFrame
        cause, time, incidence, of one arm. All causes share their times.
    order : sequence of str
        Causes from the bottom up.
    colours : dict
        Colour of each cause.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.

    Raises
    ------
    ResultFileError
        If two causes are given at different times.
    """
    values = incidence.pivot(index="time", columns="cause", values="incidence")
    if values.isna().to_numpy().any():
        raise ResultFileError("incidence.csv: the causes of an arm must share their times")
    return draw_stack(ax, values, order, colours, step=True)
