"""What is known at a date: the data cut of a trial.

Takes the followed patients of a block and a rule for the date, and gives, for
one endpoint, how long each patient has been followed then and whether the
event has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK, last_scan
from sim.trial import NEVER_TICK, Followed, TrialBlock, to_ticks

__all__ = ["DataCut", "cut_at", "cut_by_events", "cut_by_follow_up", "event_date"]

TickArray = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DataCut:
    """One endpoint as it is known at the date of the cut."""

    date: TickArray
    """Ticks since the start of accrual, (R,)."""

    target_reached: BoolArray
    """Whether the rule was met, (R,); if not, the cut is at the last observation."""

    tick: TickArray
    """Follow-up at the cut, (R, N); 0 for patients who have not entered."""

    event: BoolArray
    """Whether it ended with the event, (R, N)."""


def last_observation(block: TrialBlock, followed: Followed) -> TickArray:
    """Date after which nothing more can be learnt, (R,)."""
    return (block.entry + followed.tick).max(axis=1)


def event_date(block: TrialBlock, followed: Followed, n_events: int) -> tuple[TickArray, BoolArray]:
    """Date of the n-th event, and whether there are as many, each (R,)."""
    date = np.where(followed.event, block.entry + followed.tick, NEVER_TICK)
    if n_events > date.shape[1]:
        reached = np.zeros(len(date), dtype=bool)
        return last_observation(block, followed), reached
    date.partition(n_events - 1, axis=1)
    found = date[:, n_events - 1]
    reached = found < NEVER_TICK
    if reached.all():
        return found, reached
    return np.where(reached, found, last_observation(block, followed)), reached


def cut_by_events(block: TrialBlock, counted: str, n_events: int, endpoint: str) -> DataCut:
    """Cut at the n-th event of one endpoint, for the analysis of the same or another.

    Parameters
    ----------
    block : TrialBlock
        Some replicates.
    counted : str
        The endpoint whose events are counted.
    n_events : int
        How many.
    endpoint : str
        The endpoint that is analysed.

    Returns
    -------
    DataCut
    """
    date, reached = event_date(block, block.endpoints[counted], n_events)
    return cut_at(block, endpoint, date, reached)


def cut_by_follow_up(block: TrialBlock, tick: int, endpoint: str) -> DataCut:
    """Cut when the last patient has been in the trial for `tick` ticks."""
    date = block.entry.max(axis=1) + np.uint32(tick)
    return cut_at(block, endpoint, date, np.ones(len(date), dtype=bool))


def cut_at(block: TrialBlock, endpoint: str, date: TickArray, reached: BoolArray) -> DataCut:
    """What is known of an endpoint at a date, (R,).

    Without the event, follow-up ends at the date of the cut or at loss; where
    absence is only known at scans, at the last scan before that.
    """
    followed = block.endpoints[endpoint]
    room = np.maximum(date[:, None], block.entry) - block.entry
    event = followed.event & (followed.tick <= room)
    tick = np.minimum(followed.tick, room)
    if followed.at_scans:
        flat = tick.reshape(-1) * TICK
        scan = to_ticks(last_scan(block.calendar, flat)).reshape(tick.shape)
        tick = np.where(event, tick, np.minimum(scan, tick))
    return DataCut(date, reached, tick, event)
