"""How long a sweep will take, from a few blocks of a few of its cells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.cohort import simulate_cohort
from sim.conduct import conduct_blocks
from sim.errors import ResistimeError
from sim.randomness import BLOCK
from sim.sweep.cell import Asked, CellRun
from sim.sweep.definition import Definition

__all__ = ["Pace", "bytes_of_cell", "measure_pace", "spoken_time"]

PILOT_SECONDS = 0.6
"""Spent on measuring before a sweep begins, about."""

PILOT_CELLS = 5

PILOT_PATIENTS = 1000
"""Of a cohort that stands for a larger one."""

CELL_SECONDS = 0.005
"""What checking, summing up and keeping a cell takes, about."""

COHORT_FIXED_SECONDS = 0.25
"""What tables and curves of a cohort take whatever its size, about."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a cell takes, on one core."""

    seconds: float
    """Mean over cells, of what is asked."""

    spread: float
    """Standard error of that, from the differences between the cells that were measured."""

    n_measured: int


def measure_pace(
    definition: Definition, indices: Sequence[int], limit: float = PILOT_SECONDS
) -> Pace | None:
    """Time a block of replicates, or a small cohort, of a few cells.

    Parameters
    ----------
    definition : Definition
        The sweep.
    indices : sequence of int
        Its cells, of which a few that lie far apart are taken.
    limit : float
        Seconds after which no other cell is begun.

    Returns
    -------
    Pace or None
        None if no cell could be made.
    """
    chosen = np.unique(np.linspace(0, len(indices) - 1, PILOT_CELLS).round().astype(int))
    # The last first: sizes mostly grow, and one of both ends is needed most.
    order = [indices[i] for i in (*chosen[-1:], *chosen[:-1])]
    begin = time.perf_counter()
    seconds: list[float] = []
    for index in order:
        values = definition.grid.cells[index]
        try:
            cell = definition.base(values).cell(definition.own_values(values))
            if not seconds and cell.run.trial is not None:
                # What is loaded once in a program is no part of a cell.
                conduct_blocks(cell.run.trial, range(1))
            seconds.append(_seconds(cell, definition.asked))
        except ResistimeError:
            continue
        if time.perf_counter() - begin > limit:
            break
    if not seconds:
        return None
    spread = float(np.std(seconds, ddof=1) / np.sqrt(len(seconds))) if len(seconds) > 1 else np.nan
    return Pace(float(np.mean(seconds)), spread, len(seconds))


def _seconds(cell: CellRun, asked: Asked) -> float:
    """What a cell takes, from a part of it."""
    seconds = CELL_SECONDS
    if cell.run.trial is not None:
        n_blocks = -(-asked.n_replicates // BLOCK)
        # The first block also makes tables that later ones find; a cell makes them once.
        start = time.perf_counter()
        conduct_blocks(cell.run.trial, range(1))
        first = time.perf_counter() - start
        start = time.perf_counter()
        conduct_blocks(cell.run.trial, range(1, 2))
        seconds += first + (n_blocks - 1) * (time.perf_counter() - start)
    if asked.cohort:
        n_patients = min(PILOT_PATIENTS, cell.run.n_patients)
        start = time.perf_counter()
        simulate_cohort(
            cell.run.scenario, n_patients=n_patients, seed=cell.run.seed,
            follow_up=cell.run.follow_up,
        )  # fmt: skip
        spent = time.perf_counter() - start
        n_curves = len(cell.run.scenario.strategies) * len(cell.run.analysis.endpoints)
        seconds += spent * cell.run.n_patients / n_patients
        seconds += COHORT_FIXED_SECONDS * n_curves / 10.0
    return seconds


def bytes_of_cell(cell: CellRun, asked: Asked) -> int:
    """Size of a cell's file, about."""
    size = 6_000
    plan = cell.run.trial
    if plan is not None:
        numbers = len(plan.cuts) * (4 + len(plan.endpoints) + 4 * len(plan.compared))
        size += 8 * numbers * BLOCK * -(-asked.n_replicates // BLOCK)
        size += 250 * numbers
    if asked.cohort:
        n_curves = len(cell.run.scenario.strategies) * len(cell.run.analysis.endpoints)
        size += 8 * 5 * min(cell.run.n_patients, 1000) * n_curves
    return size


def spoken_time(seconds: float) -> str:
    """A duration in words, to two digits.

    Examples
    --------
    >>> spoken_time(3.2), spoken_time(75), spoken_time(5000), spoken_time(400000)
    ('3 s', '75 s', '83 min', '4.6 days')
    """
    for limit, factor, unit in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            value = seconds / factor
            return f"{value:.1f} {unit}" if value < 10 and unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
