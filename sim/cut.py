"""What is known at a date: the data cut of a trial.

Takes the followed patients of a block and a rule for the date, and gives, for
an endpoint, how long each patient has been followed then and whether the event
has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK, last_scan
from sim.endpoint.by_name import ENDPOINTS
from sim.endpoint.endpoint import Known
from sim.errors import ScenarioError
from sim.outcome import NEVER_TICK, to_months, to_ticks
from sim.trial import Followed, TrialBlock

__all__ = ["Condition", "CutRule", "DataCut", "event_date"]

TickArray = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a data cut can wait for."""

    endpoint: str = "pfs"
    """Whose events are counted."""

    events: int | None = None
    """Events, in all arms together."""

    stratum: int | None = None
    """Index of the only stratum whose events count; None counts all."""

    month: float | None = None
    """Months since the start of accrual, instead of events."""

    follow_up: float | None = None
    """Months since the last patient entered, instead of events."""

    def __post_init__(self) -> None:
        given = [self.events, self.month, self.follow_up]
        count = sum(value is not None for value in given)
        if count != 1:
            raise ScenarioError(
                f"events, date or follow_up: exactly one must be given, got {count}"
            )
        if self.events is not None and self.events < 1:
            raise ScenarioError(f"events must be at least 1, got {self.events}")
        for name, value in (("date", self.month), ("follow_up", self.follow_up)):
            if value is not None and not 0.0 <= value < 1000.0:
                raise ScenarioError(f"{name} must be at least 0 and below 1000, got {value:g}")

    def date(self, block: TrialBlock) -> tuple[TickArray, BoolArray]:
        """When it is met in each replicate, and whether it ever is, each (R,).

        Events that never come give the date of the last observation.
        """
        if self.events is not None:
            followed = block.followed[ENDPOINTS[self.endpoint].records[0].name]
            return event_date(block, followed, self.events, self.stratum)
        if self.month is not None:
            date = np.full(len(block.entry), round(self.month / TICK), dtype=np.uint32)
        else:
            assert self.follow_up is not None
            date = block.last_entry + np.uint32(round(self.follow_up / TICK))
        return date, np.ones(len(date), dtype=bool)


@dataclass(frozen=True, slots=True)
class CutRule:
    """When a trial is cut: at the first, or the last, of several conditions."""

    conditions: tuple[Condition, ...]

    last: bool = False
    """Whether all conditions must be met, and not one."""

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ScenarioError(
                "events, stratum_events, date, follow_up or also: at least one must be given, "
                "got none"
            )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Endpoints whose events are waited for."""
        return tuple(c.endpoint for c in self.conditions if c.events is not None)

    def date(self, block: TrialBlock) -> tuple[TickArray, BoolArray]:
        """Date of the cut in each replicate, and whether its target of events was met by then.

        With several targets, all of them where the rule waits for the last, else one.
        """
        found = [condition.date(block) for condition in self.conditions]
        choose = np.maximum if self.last else np.minimum
        date = choose.reduce([when for when, _ in found])
        targets = [
            met & (when <= date)
            for condition, (when, met) in zip(self.conditions, found, strict=True)
            if condition.events is not None
        ]
        if not targets:
            return date, np.ones(len(date), dtype=bool)
        join = np.logical_and if self.last else np.logical_or
        return date, join.reduce(targets)


def last_observation(block: TrialBlock, followed: Followed) -> TickArray:
    """Date after which nothing more can be learnt, (R,)."""
    return np.asarray((block.entry + followed.tick).max(axis=1))


def event_date(
    block: TrialBlock, followed: Followed, n_events: int, stratum: int | None = None
) -> tuple[TickArray, BoolArray]:
    """Date of the n-th event, and whether there are as many, each (R,)."""
    date = block.entry + (followed.tick if followed.known is None else followed.known)
    counted = followed.event if stratum is None else followed.event & (block.stratum == stratum)
    # One bit above all ticks makes a date that never comes.
    date |= np.left_shift(~counted, 30, dtype=np.uint32)
    if n_events > date.shape[1]:
        return last_observation(block, followed), np.zeros(len(date), dtype=bool)
    ordered = np.ascontiguousarray(date)
    ordered.partition(n_events - 1, axis=1)
    found = ordered[:, n_events - 1]
    reached = found < NEVER_TICK
    if reached.all():
        return found, reached
    return np.where(reached, found, last_observation(block, followed)), reached


@dataclass(frozen=True)
class DataCut:
    """A trial as it is known at a date.

    What is known of a record is worked out once and shared by its endpoints.
    """

    block: TrialBlock

    date: TickArray
    """Ticks since the start of accrual, (R,)."""

    target_reached: BoolArray
    """Whether the rule was met, (R,); if not, the cut is at the last observation."""

    _known: dict[str, Known] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def by(cls, rule: CutRule, block: TrialBlock) -> DataCut:
        """The cut that a rule makes."""
        return cls(block, *rule.date(block))

    @property
    def entered(self) -> BoolArray:
        """Who has entered, (R, N)."""
        return self.block.entry < self.date[:, None]

    @property
    def _all_entered(self) -> bool:
        """Whether all have entered in every replicate, as far as the accrual alone tells."""
        return bool(self.date.min(initial=NEVER_TICK) > self.block.entered_by)

    @property
    def enrolled(self) -> NDArray[np.intp]:
        """How many have entered, (R,)."""
        replicates, n = self.block.entry.shape
        if self._all_entered:
            return np.full(replicates, n, dtype=np.intp)
        return np.count_nonzero(self.entered, axis=1)

    @property
    def screened(self) -> NDArray[np.intp]:
        """How many have been screened until the last one entered, (R,)."""
        if self.block.screening is None:
            return self.enrolled
        numbers = np.where(self.entered, self.block.screening, 0)
        return np.asarray(numbers.max(axis=1))

    def know(self, endpoint: str) -> Known:
        """What is known of an endpoint, (R, N).

        Without the event, follow-up ends at the date of the cut or at loss; where
        absence is only known at scans, at the last scan before that.
        """
        asked = ENDPOINTS[endpoint]
        for record in asked.records:
            if record.name not in self._known:
                self._known[record.name] = self._know_record(self.block.followed[record.name])
        return asked.know(self._known, lambda: self.entered)

    def _know_record(self, followed: Followed) -> Known:
        entry, date = self.block.entry, self.date[:, None]
        if self._all_entered:
            room = date - entry
        else:
            room = np.maximum(date, entry)
            room -= entry
        event = followed.tick <= room
        event &= followed.event
        if followed.known is None or followed.end is None:
            tick = np.minimum(followed.tick, room)
        else:
            event &= followed.known <= room
            # Who has an event that nobody knows of yet goes on being followed.
            last = np.where(event | ~followed.event, followed.tick, followed.end)
            tick = np.minimum(last, room)
        return Known(self._back_to_last_scan(tick, event) if followed.at_scans else tick, event)

    def _back_to_last_scan(self, tick: TickArray, event: BoolArray) -> TickArray:
        """Follow-up without an event put back to the last scan."""
        flat = tick.T.reshape(-1)  # the calendar's order, that of the draws
        index = np.flatnonzero(~event.T.reshape(-1))
        open_ended = flat[index]
        scan = to_ticks(last_scan(self.block.calendar.select(index), to_months(open_ended)))
        flat[index] = np.minimum(scan, open_ended)
        return flat.reshape(tick.T.shape).T
