"""How patients are watched: scans, response categories, confirmation, censoring.

Turns latent progression and death into what a study records. The schedule,
its irregularities and the criteria are those of an `Assessment`; this module
draws the irregularities, decides nothing about resistance, and knows no agent.

Conventions
-----------
A scan takes place on a whole day; observed times are counted in ticks of
``2**-20`` month, so that scan days tie exactly, and are never before the first
tick. Visits are numbered from 0; -1 stands for baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.patient import Draws
from sim.randomness import WordArray, counted_words
from sim.resistance import RESISTANT, RESPONDING
from sim.scenario import DAYS_PER_MONTH, Assessment

__all__ = [
    "RESPONSES",
    "TICK",
    "Calendar",
    "Observed",
    "ScanGrid",
    "broken_off",
    "confirmation_time",
    "detect_progression",
    "draw_calendar",
    "first_progression",
    "first_response",
    "last_scan",
    "observe",
    "recorded_progression",
    "to_tick",
    "withdrawal_time",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

TICK = 2.0**-20
"""Resolution of observed time, months: 2.5 seconds."""

RESPONSES = ("CR", "PR", "SD", "PD", "NE")
"""Categories of best overall response, in the order of their codes."""

CR, PR, SD, PD, NE = range(5)


def to_tick(time: FloatArray) -> FloatArray:
    """Times rounded up to a whole tick, at least one; ``inf`` stays.

    Examples
    --------
    >>> float(to_tick(np.array([0.0]))[0] / TICK)
    1.0
    """
    ticks = np.asarray(np.ceil(time * (1.0 / TICK)))
    if ticks.min(initial=1.0) < 1.0:
        np.maximum(ticks, 1.0, out=ticks)
    ticks *= TICK
    return ticks


@dataclass(frozen=True, eq=False)
class ScanGrid:
    """When scans are planned, how irregular they are, and tables to look both up by day.

    Day and visit numbers may be one of two more: before the first visit stands
    baseline, -1, which takes the last place of a table, as indices from the end
    do; after the last visit stands "never".
    """

    schedule: NDArray[np.int64]
    """Scheduled day of each visit, (V,), without baseline. Empty where watching is continuous."""

    days_off: NDArray[np.int16]
    """Days by which 16 bits of a word move a scan, (65536,)."""

    missed_below: int
    """A scan is missed where its 16 bits are below this."""

    day: NDArray[np.int64]
    """Scheduled day of visits, never and baseline, (V + 2,)."""

    time: FloatArray
    """Time of a day, months in whole ticks, ``inf`` for never and 0 for baseline."""

    earliest: IndexArray
    """First visit that may take place on a day or later, V where there is none."""

    latest: IndexArray
    """Last visit that may take place before a day, -1 where there is none."""

    @classmethod
    def of(
        cls, schedule: NDArray[np.int64], days_off: NDArray[np.int64], missed_below: int
    ) -> ScanGrid:
        """The grid of a schedule, with its tables."""
        reach = int(np.abs(days_off).max())
        beyond = int(schedule.max(initial=0)) + reach + 3
        days = np.arange(beyond)
        grid = cls(
            schedule=schedule,
            days_off=days_off.astype(np.int16),
            missed_below=missed_below,
            day=np.concatenate([schedule, [beyond + reach, -reach - 1]]),
            time=np.concatenate(
                [
                    to_tick(days / DAYS_PER_MONTH),
                    np.full(2 * reach + 1, np.inf),
                    np.zeros(2 * reach + 1),
                ]
            ),
            earliest=np.searchsorted(schedule, np.arange(beyond + 1) - reach, side="left"),
            latest=np.searchsorted(schedule, np.arange(beyond + 1) + reach, side="left") - 1,
        )
        for item in fields(cls):
            if isinstance(table := getattr(grid, item.name), np.ndarray):
                table.flags.writeable = False
        return grid

    @cached_property
    def regular(self) -> bool:
        """Whether every scan is done on its day."""
        return not self.days_off.any() and self.missed_below == 0

    def day_at(self, time: FloatArray) -> NDArray[np.int64]:
        """First whole day that is not before `time`, or the day after all scans, (M,)."""
        last = len(self.earliest) - 2
        day = (np.minimum(time, last / DAYS_PER_MONTH) * DAYS_PER_MONTH).astype(np.int64)
        day += self.time.take(day) < time
        return day


class ScanWords(Protocol):
    """A random 64-bit word for every visit of M patients."""

    def at(self, visit: IndexArray, patient: IndexArray | None) -> WordArray:
        """Words of a visit each, of the patients given or of all."""

    def select(self, patient: IndexArray) -> ScanWords:
        """The words of some of the patients."""


@dataclass(frozen=True, slots=True)
class CountedWords:
    """The words of the visits counted from one drawn word of each patient."""

    start: WordArray
    """(M,)."""

    def at(self, visit: IndexArray, patient: IndexArray | None) -> WordArray:
        """See `ScanWords.at`."""
        return counted_words(self.start if patient is None else self.start.take(patient), visit)

    def select(self, patient: IndexArray) -> CountedWords:
        """See `ScanWords.select`."""
        return CountedWords(self.start.take(patient))


@dataclass(frozen=True, slots=True)
class Calendar:
    """The scans of M patients, looked up when asked for."""

    grid: ScanGrid
    words: ScanWords | None
    """What makes scans irregular; None where they take place on their day, all of them."""

    @property
    def continuous(self) -> bool:
        """Whether there are no visits because everything is seen at once."""
        return self.grid.schedule.size == 0

    def look(self, visit: IndexArray, patient: IndexArray | None) -> tuple[IndexArray, BoolArray]:
        """Day of a visit of each patient given, or of all, and whether the scan is missed."""
        grid = self.grid
        day = grid.day.take(visit)
        if self.words is None:
            return day, np.zeros(visit.shape, dtype=bool)
        word = self.words.at(visit, patient)
        missed = (word & np.uint64(0xFFFF << 32)) < np.uint64(grid.missed_below << 32)
        missed &= (visit >= 0) & (visit < len(grid.schedule))
        word >>= np.uint64(48)
        day += grid.days_off.take(word.view(np.int64))
        return day, missed

    def time(self, visit: IndexArray, patient: IndexArray) -> FloatArray:
        """Time of visits, months in whole ticks; ``inf`` past the last, 0 for baseline."""
        return self.grid.time.take(self.look(visit, patient)[0])

    def scheduled_after(self, time: FloatArray) -> IndexArray:
        """First visit, attended or not, that takes place at or after `time` (M,)."""
        return self._nearest(time, step=1, attended=False)[0]

    def scheduled_time_after(self, time: FloatArray) -> FloatArray:
        """When that visit takes place, ``inf`` where there is none."""
        return self.grid.time.take(self._nearest(time, step=1, attended=False)[1])

    def first_after(self, time: FloatArray) -> IndexArray:
        """First attended visit at or after `time`, (M,); V where there is none."""
        return self._nearest(time, step=1)[0]

    def time_after(self, time: FloatArray) -> FloatArray:
        """When that visit takes place, ``inf`` where there is none."""
        return self.grid.time.take(self._nearest(time, step=1)[1])

    def last_before(self, time: FloatArray) -> IndexArray:
        """Last attended visit strictly before `time`, (M,); -1 where there is none."""
        return self._nearest(time, step=-1)[0]

    def time_before(self, time: FloatArray) -> FloatArray:
        """When that visit takes place, 0 where there is none."""
        return self.grid.time.take(self._nearest(time, step=-1)[1])

    def _nearest(
        self, time: FloatArray, step: int, attended: bool = True
    ) -> tuple[IndexArray, IndexArray]:
        """The nearest visit from `time` on, or before it, and its day.

        Starts from the nearest visit that the schedule allows and goes on, one
        visit at a time, in the patients for whom that one is on the wrong side
        of `time` or missed.
        """
        limit = self.grid.day_at(time)
        visit = (self.grid.earliest if step > 0 else self.grid.latest).take(limit)
        if self.words is None:
            return visit, self.grid.day.take(visit)
        day, unfit = self._check(visit, limit, None, step, attended)
        waiting = np.flatnonzero(unfit)
        while waiting.size:
            following = visit.take(waiting) + step
            visit[waiting] = following
            found, unfit = self._check(following, limit.take(waiting), waiting, step, attended)
            day[waiting] = found
            waiting = waiting.compress(unfit)
        return visit, day

    def _check(
        self,
        visit: IndexArray,
        limit: IndexArray,
        patient: IndexArray | None,
        step: int,
        attended: bool,
    ) -> tuple[IndexArray, BoolArray]:
        """Days of visits, and whether another visit is to be looked at instead."""
        day, missed = self.look(visit, patient)
        wrong = day < limit if step > 0 else day >= limit
        return day, wrong | missed if attended else wrong

    def select(self, index: IndexArray) -> Calendar:
        """The calendar of the patients at `index`."""
        return self if self.words is None else Calendar(self.grid, self.words.select(index))


def scheduled_days(assessment: Assessment, horizon: float) -> NDArray[np.int64]:
    """Days of the scheduled scans up to the second one after `horizon` months, baseline left out.

    The second, because the first may be done before the horizon, off its day.
    """
    days: list[int] = []
    week, end, beyond = 0.0, horizon * DAYS_PER_MONTH / 7.0, 0
    for every, until in zip(assessment.every.tolist(), assessment.until.tolist(), strict=True):
        begin, visit = week, 1
        while begin + visit * every <= until + 1e-9 and beyond < 2:
            week = begin + visit * every
            days.append(round(week * 7.0))
            beyond += week > end
            visit += 1
    return np.array(days, dtype=np.int64)


def draw_calendar(assessment: Assessment, draws: Draws, horizon: float) -> Calendar:
    """The scans of one block of patients up to `horizon` months.

    One word is drawn for each patient and those of the visits are counted from
    it, so a longer horizon adds visits and moves none. The day is off by a
    normal deviate, rounded, and never by as much as half the shortest interval,
    so that visits keep their order.
    """
    grid = _scan_grid(assessment, horizon)
    return Calendar(grid, None if grid.regular else CountedWords(draws.words("scan")))


@lru_cache(maxsize=16)
def _scan_grid(assessment: Assessment, horizon: float) -> ScanGrid:
    """The grid of a schedule; blocks share it."""
    if assessment.continuous:
        return ScanGrid.of(np.empty(0, dtype=np.int64), np.zeros(65536, dtype=np.int64), 0)
    off = np.zeros(65536, dtype=np.int64)
    if assessment.jitter_sd > 0.0:
        shortest = int(7.0 * float(assessment.every.min()) + 1e-9)
        off = _days_off(assessment.jitter_sd, (shortest - 1) // 2)
    schedule = scheduled_days(assessment, horizon)
    return ScanGrid.of(schedule, off, round(assessment.missed * 65536))


def _days_off(sd: float, most: int) -> NDArray[np.int64]:
    """Rounded normal deviates by 16-bit word, clipped to +/- `most` days."""
    days = np.arange(-most, most + 1)
    normal = NormalDist(0.0, sd)
    edges = [round(65536 * normal.cdf(float(day) + 0.5)) for day in days[:-1]]
    counts = np.diff([0, *edges, 65536])
    return np.repeat(days, counts).astype(np.int64)


def detect_progression(
    calendar: Calendar, progression: FloatArray, assessment: Assessment, draws: Draws
) -> tuple[FloatArray, BoolArray]:
    """When progression is seen while the patient lives, and whether by symptoms.

    Parameters
    ----------
    calendar : Calendar
        Of the M patients.
    progression : ndarray, shape (M,)
        Latent progression, months.
    assessment : Assessment
        Gives the share seen by symptoms, at a uniform point of the wait for the
        next scheduled scan, whether or not that will be missed.
    draws : Draws
        Of the same patients.

    Returns
    -------
    time : ndarray, shape (M,)
        Months in whole ticks, ``inf`` where nothing shows it within the calendar.
    symptomatic : ndarray of bool, shape (M,)
    """
    if calendar.continuous:
        return to_tick(progression), np.zeros(progression.shape, dtype=bool)
    seen = calendar.time_after(progression)
    symptomatic = np.zeros(progression.shape, dtype=bool)
    if assessment.symptomatic == 0.0:
        return seen, symptomatic
    felt = np.flatnonzero(draws.uniform("symptoms") < assessment.symptomatic)
    planned = calendar.select(felt).scheduled_time_after(progression.take(felt))
    within = np.isfinite(planned)
    felt, planned = felt.compress(within), planned.compress(within)
    latent = progression.take(felt)
    fraction = draws.uniform("symptom_delay").take(felt)
    seen[felt] = to_tick(latent + fraction * (planned - latent))
    symptomatic[felt] = True
    return seen, symptomatic


@dataclass(frozen=True, slots=True)
class Observed:
    """What a study records of its patients: no latent class, no mechanism.

    All arrays have one shape, ``(R, S, N)`` for a cohort. Times are months
    since randomisation in whole ticks.
    """

    pfs_time: FloatArray
    pfs_event: BoolArray
    os_time: FloatArray
    os_event: BoolArray

    progression_time: FloatArray
    """Observed progression by the criteria of the study, ``inf`` where none was recorded."""

    confirmed: BoolArray
    """Whether a later scan confirmed it."""

    rapid: BoolArray
    """Whether it was seen by symptoms, with clinical decline."""

    best_response: NDArray[np.int8]
    """Code of `RESPONSES`."""

    response_time: FloatArray
    """First scan that showed a response, ``inf`` where none did."""

    last_dose: FloatArray
    """Last dose of the ICI, or of the treatment where it holds none."""

    immune: BoolArray
    """Whether the treatment held an ICI, so that rules of ICI resistance apply."""

    def __post_init__(self) -> None:
        for item in fields(self):
            getattr(self, item.name).flags.writeable = False


def observe(
    *,
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    follow_up: FloatArray | float,
    depth: NDArray[np.int8],
    progression: FloatArray,
    detection: FloatArray,
    symptomatic: BoolArray,
    death: FloatArray,
    last_dose: FloatArray,
    immune: bool,
) -> Observed:
    """Record M patients, each under one strategy, until the end of their follow-up.

    Parameters
    ----------
    calendar, assessment, draws
        How they are watched, as for `detect_progression`.
    follow_up : float or ndarray, shape (M,)
        Months after which nothing is known.
    depth, progression, detection, symptomatic, death, last_dose : ndarray, shape (M,)
        Latent course of each patient.
    immune : bool
        Whether the strategy holds an ICI: only then is there pseudoprogression.

    Returns
    -------
    Observed
        Arrays of shape (M,).
    """
    death = to_tick(death)
    end = to_tick(np.minimum(withdrawal_time(assessment, draws, len(death)), follow_up))
    last_seen = np.minimum(end, death)
    first_pd, rapid, confirmed = first_progression(
        calendar, assessment, draws, depth, progression, detection, symptomatic, last_seen, immune
    )
    response = first_response(calendar, assessment, draws, depth, progression, first_pd, last_seen)
    event_time = np.minimum(first_pd, death)
    event = event_time <= end
    pfs_time = np.where(event, event_time, last_scan(calendar, end))
    broken = broken_off(calendar, assessment, event_time)
    if broken is not None:
        lost = event & np.isfinite(broken)
        event &= ~lost
        pfs_time = np.where(lost, broken, pfs_time)
    seen = first_pd <= last_seen
    progression_time = np.where(seen, first_pd, np.inf)
    return Observed(
        pfs_time=pfs_time,
        pfs_event=event,
        os_time=last_seen,
        os_event=death <= end,
        progression_time=progression_time,
        confirmed=confirmed & seen,
        rapid=rapid & seen,
        best_response=_best_response(
            calendar, assessment, draws, response, progression_time, last_seen
        ),
        response_time=response,
        last_dose=np.minimum(to_tick(last_dose), last_seen),
        immune=np.full(death.shape, immune),
    )


def withdrawal_time(assessment: Assessment, draws: Draws, count: int) -> FloatArray:
    """Months until each patient is lost to follow-up, (count,)."""
    if assessment.withdrawal == 0.0:
        return np.full(count, np.inf)
    return draws.exponential("withdrawal") / assessment.withdrawal


def last_scan(calendar: Calendar, end: FloatArray) -> FloatArray:
    """Time of the last attended scan up to `end`, the first tick where there is none."""
    if calendar.continuous:
        return end
    return np.maximum(calendar.time_before(end + TICK), TICK)


def broken_off(
    calendar: Calendar, assessment: Assessment, event_time: FloatArray
) -> FloatArray | None:
    """Last scan before an event that too many missed scans precede, ``inf`` where it counts.

    None where the study has no such rule.
    """
    if assessment.missed_before_censoring == 0 or calendar.continuous:
        return None
    before = calendar.last_before(event_time)
    gap = calendar.scheduled_after(event_time) - before - 1
    last = np.maximum(calendar.time(before, np.arange(len(event_time))), TICK)
    return np.where(gap >= assessment.missed_before_censoring, last, np.inf)


def first_progression(
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    depth: NDArray[np.int8],
    progression: FloatArray,
    detection: FloatArray,
    symptomatic: BoolArray,
    last_seen: FloatArray,
    immune: bool,
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """First progression by the criteria, whether rapid, and whether confirmed."""
    if calendar.continuous:
        certain = np.ones(detection.shape, dtype=bool)
        return detection, ~certain, certain
    first = recorded_progression(
        calendar, assessment, draws, depth, progression, detection, symptomatic,
        lambda: last_seen, immune,
    )  # fmt: skip
    confirmed = _confirmed(calendar, assessment, detection, symptomatic, last_seen)
    # What is recorded before the tumour is detected is no progression, and nothing confirms it.
    true = first == detection
    return first, symptomatic & true, confirmed & true


def recorded_progression(
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    depth: NDArray[np.int8],
    progression: FloatArray,
    detection: FloatArray,
    symptomatic: BoolArray,
    last_seen: Callable[[], FloatArray],
    immune: bool,
) -> FloatArray:
    """The first of what `first_progression` gives, without the cost of the others.

    When a patient is last seen matters only where progression must be confirmed.
    """
    if assessment.criteria == "irecist":
        confirmed = _confirmed(calendar, assessment, detection, symptomatic, last_seen())
        return np.where(confirmed, detection, np.inf)
    false, first_scan = _pseudoprogression(
        calendar, assessment, draws, depth, progression, detection, immune
    )
    first = detection.copy()
    first[false] = first_scan
    return first


def _confirmed(
    calendar: Calendar,
    assessment: Assessment,
    detection: FloatArray,
    symptomatic: BoolArray,
    last_seen: FloatArray,
) -> BoolArray:
    """Whether a later scan, or symptoms, confirm that the detected progression is one."""
    confirmed = confirmation_time(calendar, assessment, detection, symptomatic) <= last_seen
    return np.asarray(confirmed | symptomatic)


def confirmation_time(
    calendar: Calendar, assessment: Assessment, detection: FloatArray, symptomatic: BoolArray
) -> FloatArray:
    """When it is known that the detected progression is one: at a later scan, or by symptoms."""
    if calendar.continuous:
        return detection
    wait = assessment.confirmation * 7.0 / DAYS_PER_MONTH
    return np.where(symptomatic, detection, calendar.time_after(detection + wait))


def _pseudoprogression(
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    depth: NDArray[np.int8],
    progression: FloatArray,
    detection: FloatArray,
    immune: bool,
) -> tuple[IndexArray, FloatArray]:
    """Patients whose first scan looks like progression and is not, and its time."""
    if not immune or assessment.pseudoprogression == 0.0:
        return np.empty(0, dtype=np.intp), np.empty(0)
    looks = draws.uniform("pseudoprogression") < assessment.pseudoprogression
    false = np.flatnonzero(looks & (depth > RESISTANT))
    first_scan = calendar.select(false).time_after(np.zeros(len(false)))
    earlier = (first_scan < progression.take(false)) & (first_scan < detection.take(false))
    return false.compress(earlier), first_scan.compress(earlier)


def first_response(
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    depth: NDArray[np.int8],
    progression: FloatArray,
    first_pd: FloatArray,
    last_seen: FloatArray,
) -> FloatArray:
    """First scan that shows a response, before any progression, ``inf`` where none does."""
    latent = np.full(depth.shape, assessment.response_median)
    if assessment.response_sd > 0.0:
        latent = latent * np.exp(assessment.response_sd * draws.normal("response_time"))
    seen = to_tick(latent) if calendar.continuous else calendar.time_after(latent)
    shown = (depth == RESPONDING) & (seen < progression) & (seen < first_pd) & (seen <= last_seen)
    return np.where(shown, seen, np.inf)


def _best_response(
    calendar: Calendar,
    assessment: Assessment,
    draws: Draws,
    response: FloatArray,
    progression_time: FloatArray,
    last_seen: FloatArray,
) -> NDArray[np.int8]:
    """Best overall response by RECIST 1.1, without confirmation of response."""
    until = np.minimum(progression_time, last_seen + TICK)
    last_good = until if calendar.continuous else calendar.time_before(until)
    stable = last_good >= assessment.stable_minimum * 7.0 / DAYS_PER_MONTH
    stable &= last_good > 0.0
    best = np.where(stable, SD, np.where(np.isfinite(progression_time), PD, NE))
    complete = np.zeros(best.shape, dtype=bool)
    if assessment.complete_response > 0.0:
        complete = draws.uniform("complete_response") < assessment.complete_response
    best = np.where(np.isfinite(response), np.where(complete, CR, PR), best)
    return best.astype(np.int8)
