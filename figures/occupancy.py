"""Where the patients are over time: latent states, including resistance that no scan has shown."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from figures.shared import (
    BLUE,
    GREEN,
    LIGHT_GREY,
    ORANGE,
    SKY,
    VERMILLION,
    ResultFileError,
    draw_stack,
)

__all__ = ["NOTE", "STATES", "draw_occupancy"]

STATES = {
    "durable_benefit": ("durable benefit", GREEN),
    "response": ("response", BLUE),
    "control": ("disease control", SKY),
    "undetected_resistance": ("resistant, not yet seen", ORANGE),
    "progressed": ("progressed, alive", VERMILLION),
    "dead": ("dead", LIGHT_GREY),
}
"""Label and colour of each state, from the bottom up."""


NOTE = "States are latent: a patient is resistant before any scan shows it."


def draw_occupancy(ax: Axes, occupancy: pd.DataFrame) -> Axes:
    """Draw the shares of patients in each state under one strategy.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    occupancy : DataFrame
        state, time, share, of one arm.

    Returns
    -------
    matplotlib.axes.Axes
        The one given.

    Raises
    ------
    ResultFileError
        If two states are given at different times, or a state is not one of `STATES`.
    """
    unknown = sorted(set(occupancy["state"]) - set(STATES))
    if unknown:
        raise ResultFileError(
            f"occupancy.csv: no state named '{unknown[0]}'. Known: {', '.join(STATES)}."
        )
    values = occupancy.pivot(index="time", columns="state", values="share")
    if values.isna().to_numpy().any():
        raise ResultFileError("occupancy.csv: the states of an arm must share their times")
    colours = {state: colour for state, (_, colour) in STATES.items()}
    return draw_stack(ax, values, list(STATES), colours, step=False)
