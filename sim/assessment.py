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

from dataclasses import dataclass, fields, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sim.patient import Draws
from sim.resistance import RESISTANT, RESPONDING
from sim.scenario import DAYS_PER_MONTH, Assessment

__all__ = [
    "RESPONSES",
    "TICK",
    "Calendar",
    "Observed",
    "broken_off",
    "detect_progression",
    "draw_calendar",
    "first_progression",
    "first_response",
    "last_scan",
    "observe",
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
    return np.asarray(np.maximum(np.ceil(time / TICK), 1.0) * TICK)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The scans of M patients, kept as draws and looked up when asked for."""

    schedule: NDArray[np.int64]
    """Scheduled day of each visit, (V,), without baseline. Empty where watching is continuous."""

    days_off: NDArray[np.int64]
    """Days by which a 16-bit word moves a scan, (65536,)."""

    missed_below: int
    """A scan is missed where its word is below this."""

    jitter: NDArray[np.uint16] | None
    """A word for each visit and patient, (V, M); None where scans are on their day."""

    missed: NDArray[np.uint16] | None
    """The same for missed scans; None where none is."""

    members: IndexArray | None = None
    """Columns of the words that belong to these patients; None where all do."""

    def _column(self, patient: IndexArray) -> IndexArray:
        return patient if self.members is None else self.members[patient]

    @property
    def continuous(self) -> bool:
        """Whether there are no visits because everything is seen at once."""
        return self.schedule.size == 0

    def time(self, visit: IndexArray, patient: IndexArray) -> FloatArray:
        """Time of visits, months in whole ticks; ``inf`` past the last, 0 for baseline."""
        last = len(self.schedule) - 1
        inside = np.clip(visit, 0, last)
        day = self.schedule[inside]
        if self.jitter is not None:
            day = day + self.days_off[self.jitter[inside, self._column(patient)]]
        time = to_tick(day / DAYS_PER_MONTH)
        return np.where(visit > last, np.inf, np.where(visit < 0, 0.0, time))

    def scheduled_after(self, time: FloatArray) -> IndexArray:
        """First visit, attended or not, that takes place at or after `time` (M,)."""
        patient = np.arange(len(time))
        grid = to_tick(self.schedule / DAYS_PER_MONTH)
        visit = np.searchsorted(grid, time, side="left")
        if self.jitter is None:
            return visit
        earlier = (visit > 0) & (self.time(visit - 1, patient) >= time)
        later = self.time(visit, patient) < time
        return np.asarray(visit - earlier + later)

    def first_after(self, time: FloatArray) -> IndexArray:
        """First attended visit at or after `time`, (M,); V where there is none."""
        return self._attended(self.scheduled_after(time), step=1)

    def last_before(self, time: FloatArray) -> IndexArray:
        """Last attended visit strictly before `time`, (M,); -1 where there is none."""
        return self._attended(self.scheduled_after(time) - 1, step=-1)

    def _attended(self, visit: IndexArray, step: int) -> IndexArray:
        if self.missed is None:
            return visit
        visit = visit.copy()
        waiting = np.flatnonzero((visit >= 0) & (visit < len(self.schedule)))
        while waiting.size:
            words = self.missed[visit[waiting], self._column(waiting)]
            skipped = words < self.missed_below
            waiting = waiting[skipped]
            visit[waiting] += step
            waiting = waiting[(visit[waiting] >= 0) & (visit[waiting] < len(self.schedule))]
        return visit

    def select(self, index: IndexArray) -> Calendar:
        """The calendar of the patients at `index`; the words are shared, not copied."""
        return replace(self, members=self._column(index))


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

    Each visit has its own draws, so a longer horizon adds visits and moves
    none. The day is off by a normal deviate, rounded, and never by as much as
    half the shortest interval, so that visits keep their order.
    """
    none = np.zeros(65536, dtype=np.int64)
    if assessment.continuous:
        return Calendar(np.empty(0, dtype=np.int64), none, 0, None, None)
    schedule = scheduled_days(assessment, horizon)
    missed_below = round(assessment.missed * 65536)
    visits = range(len(schedule))
    jitter = missed = None
    if assessment.jitter_sd > 0.0:
        shortest = int(7.0 * float(np.min(assessment.every)) + 1e-9)
        most = (shortest - 1) // 2
        none = _days_off(assessment.jitter_sd, most)
        jitter = np.stack([draws.words("scan_day", str(v)) for v in visits])
    if missed_below > 0:
        missed = np.stack([draws.words("scan_missed", str(v)) for v in visits])
    return Calendar(schedule, none, missed_below, jitter, missed)


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
    patient = np.arange(len(progression))
    seen = calendar.time(calendar.first_after(progression), patient)
    if assessment.symptomatic == 0.0:
        return seen, np.zeros(progression.shape, dtype=bool)
    symptomatic = draws.uniform("symptoms") < assessment.symptomatic
    planned = calendar.time(calendar.scheduled_after(progression), patient)
    symptomatic &= np.isfinite(planned)
    fraction = draws.uniform("symptom_delay")
    with np.errstate(invalid="ignore"):
        between = progression + fraction * (planned - progression)
    return np.where(symptomatic, to_tick(between), seen), symptomatic


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
    visit = calendar.last_before(end + TICK)
    return np.maximum(calendar.time(visit, np.arange(len(end))), TICK)


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
    patient = np.arange(len(detection))
    wait = assessment.confirmation * 7.0 / DAYS_PER_MONTH
    check = calendar.time(calendar.first_after(detection + wait), patient)
    confirmed = (check <= last_seen) | symptomatic
    if assessment.criteria == "irecist":
        return np.where(confirmed, detection, np.inf), symptomatic, confirmed
    if not immune or assessment.pseudoprogression == 0.0:
        return detection, symptomatic, confirmed
    first_scan = calendar.time(calendar.first_after(np.zeros(len(detection))), patient)
    false = (depth > RESISTANT) & (first_scan < progression) & (first_scan < detection)
    false &= draws.uniform("pseudoprogression") < assessment.pseudoprogression
    return (
        np.where(false, first_scan, detection),
        symptomatic & ~false,
        confirmed & ~false,
    )


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
    if calendar.continuous:
        seen = to_tick(latent)
    else:
        seen = calendar.time(calendar.first_after(latent), np.arange(len(depth)))
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
    if calendar.continuous:
        last_good = until
    else:
        last_good = calendar.time(calendar.last_before(until), np.arange(len(until)))
    stable = last_good >= assessment.stable_minimum * 7.0 / DAYS_PER_MONTH
    stable &= last_good > 0.0
    best = np.where(stable, SD, np.where(np.isfinite(progression_time), PD, NE))
    complete = np.zeros(best.shape, dtype=bool)
    if assessment.complete_response > 0.0:
        complete = draws.uniform("complete_response") < assessment.complete_response
    best = np.where(np.isfinite(response), np.where(complete, CR, PR), best)
    return best.astype(np.int8)
