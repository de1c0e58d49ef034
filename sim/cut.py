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
from sim.errors import ScenarioError
from sim.trial import NEVER_TICK, Followed, TrialBlock, to_ticks

__all__ = ["CutRule", "DataCut", "cut_at", "event_date"]

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


@dataclass(frozen=True, slots=True)
class CutRule:
    """When a trial is cut: at the first, or the last, of the conditions given."""

    endpoint: str
    """Whose events are counted."""

    events: int | None = None
    """Events in all arms together."""

    month: float | None = None
    """Months since the start of accrual."""

    follow_up: float | None = None
    """Months since the last patient entered."""

    last: bool = False
    """Whether all conditions must be met, and not one."""

    def __post_init__(self) -> None:
        given = (self.events, self.month, self.follow_up)
        if all(value is None for value in given):
            raise ScenarioError("events, date or follow_up must be given")
        if self.events is not None and self.events < 1:
            raise ScenarioError(f"events must be at least 1, got {self.events}")
        for name, value in (("date", self.month), ("follow_up", self.follow_up)):
            if value is not None and not 0.0 <= value < 1000.0:
                raise ScenarioError(f"{name} must be at least 0 and below 1000, got {value:g}")

    def date(self, block: TrialBlock) -> tuple[TickArray, BoolArray]:
        """Date of the cut in each replicate, and whether the target of events was met.

        An event target that is never met puts the cut at the last observation.
        """
        met = np.ones(len(block.entry), dtype=bool)
        dates = []
        if self.events is not None:
            date, met = event_date(block, block.endpoints[self.endpoint], self.events)
            dates.append(date)
        if self.month is not None:
            dates.append(np.full(len(met), round(self.month / TICK), dtype=np.uint32))
        if self.follow_up is not None:
            dates.append(block.entry.max(axis=1) + np.uint32(round(self.follow_up / TICK)))
        chosen = np.maximum.reduce(dates) if self.last else np.minimum.reduce(dates)
        return chosen, met


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
