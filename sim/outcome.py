"""What happens to some patients under one regimen, each part worked out when first asked for.

The one place where benefit, regrowth, detection, next lines, death and what a
study records are put in their order. A cohort asks for all of it; a trial asks
for what its endpoints need, and nothing else is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim.assessment import (
    TICK,
    Calendar,
    Observed,
    confirmation_time,
    detect_progression,
    first_response,
    observe,
    recorded_progression,
)
from sim.course import Aftermath, follow, regrow, regrow_again
from sim.definitions import Definition
from sim.patient import Patients
from sim.resistance import Benefit, Regimen, joint_benefit, last_doses, plain_loss
from sim.scenario import Scenario, Strategy

__all__ = ["NEVER_TICK", "Outcome", "to_months", "to_ticks"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
TickArray = NDArray[np.uint32]

NEVER_TICK = np.uint32(2**30 - 1)
"""Tick of what never happens: 1024 months."""


def to_ticks(time: FloatArray, scale: float = 1.0, latest: int = int(NEVER_TICK)) -> TickArray:
    """Times as whole ticks, rounded up, at least 1; what never happens is the latest of them.

    Parameters
    ----------
    time : ndarray
        Months, or what gives months when multiplied by `scale`.
    scale : float, default 1
        Such as the mean of exponentials.
    latest : int, default `NEVER_TICK`
        The tick of all that is later.

    Examples
    --------
    >>> to_ticks(np.array([0.0, 2.0**-20, 1.0, np.inf])).tolist()
    [1, 1, 1048576, 1073741823]
    >>> to_ticks(np.array([1.0, 3.0]), latest=2 * 2**20).tolist()
    [1048576, 2097152]
    """
    ticks = time * (scale / TICK)
    np.ceil(ticks, out=ticks)
    # To look for what is out of bounds takes half as long as to put a bound on all.
    if ticks.max(initial=0.0) > latest:
        np.minimum(ticks, float(latest), out=ticks)
    # Through signed integers, which hold them and are converted twice as fast.
    whole = ticks.astype(np.int32)
    if whole.min(initial=1) < 1:
        np.maximum(whole, 1, out=whole)
    return whole.view(np.uint32)


def to_months(ticks: TickArray) -> FloatArray:
    """The same time in months."""
    return np.multiply(ticks, TICK, dtype=np.float64)


@dataclass(frozen=True)
class Outcome:
    """The course of M patients under one regimen of a strategy.

    Times are months since randomisation, (M,), ``inf`` for never.
    """

    scenario: Scenario
    strategy: Strategy
    regimen: Regimen
    patients: Patients
    calendar: Calendar

    follow_up: Callable[[], FloatArray | float]
    """Months after which nothing more is seen of each patient: lost, or not followed further."""

    definition: Definition | None = None
    """The rule that says which progressions are acquired resistance, where that is asked for."""

    @cached_property
    def end(self) -> FloatArray | float:
        """The same, once something depends on it."""
        return self.follow_up()

    @cached_property
    def last_doses(self) -> list[FloatArray]:
        """When each agent is stopped, by plan or for toxicity."""
        return last_doses(self.regimen, self.patients.draws)

    @cached_property
    def benefit(self) -> Benefit:
        """The benefit and when it is lost: the time of resistance."""
        return joint_benefit(self.patients, self.regimen, self.last_doses, self.scenario)

    @cached_property
    def resistance_time(self) -> FloatArray:
        """The end of the benefit; 0 where there was none."""
        plain = plain_loss(self.regimen, self.scenario)
        return self.benefit.time if plain is None else plain.time(self.patients.draws)

    @cached_property
    def _regrown(self) -> tuple[FloatArray, FloatArray]:
        if not self.scenario.course.regrows:
            return self.resistance_time, self.resistance_time
        return regrow(self.patients, self.regimen, self.last_doses, self.benefit, self.scenario)

    @property
    def progression(self) -> FloatArray:
        """Latent progression: when a scan would first call it so."""
        return self._regrown[0]

    @cached_property
    def _detected(self) -> tuple[FloatArray, BoolArray]:
        draws, assessment = self.patients.draws, self.scenario.assessment
        return detect_progression(self.calendar, self.progression, assessment, draws)

    @property
    def detection(self) -> FloatArray:
        """When progression is seen, if the patient lives."""
        return self._detected[0]

    @cached_property
    def aftermath(self) -> Aftermath:
        """Next lines and death."""
        return follow(
            self.patients, self.strategy, self.regimen, self.last_doses, self.benefit,
            self._regrown[1], self.detection, self.scenario,
        )  # fmt: skip

    @cached_property
    def death_tick(self) -> TickArray:
        """Tick of death from any cause."""
        if not self.scenario.mortal:
            return np.full(len(self.patients), NEVER_TICK, dtype=np.uint32)
        return to_ticks(self.aftermath.death)

    @cached_property
    def last_seen(self) -> FloatArray:
        """Months until death or the end of what is seen."""
        if not self.scenario.mortal:
            return np.array(np.broadcast_to(self.end, (len(self.patients),)))
        return np.minimum(to_months(self.death_tick), self.end)

    @cached_property
    def first_progression(self) -> FloatArray:
        """First progression by the criteria of the study, whether or not the patient lives."""
        if self.calendar.continuous:
            return self.progression
        detection, symptomatic = self._detected
        return recorded_progression(
            self.calendar, self.scenario.assessment, self.patients.draws, self.benefit.depth,
            self.progression, detection, symptomatic, lambda: self.last_seen,
            bool(self.regimen.backbones),
        )  # fmt: skip

    @cached_property
    def progression_tick(self) -> TickArray:
        """Tick of that progression."""
        plain = plain_loss(self.regimen, self.scenario)
        if plain is not None and self.calendar.continuous and not self.scenario.course.regrows:
            month = plain.month
            if month is not None:
                return to_ticks(plain.point(self.patients.draws), month)
        return to_ticks(self.first_progression)

    @cached_property
    def confirmation_tick(self) -> TickArray:
        """Tick at which that progression is confirmed, by a later scan or by symptoms."""
        detection, symptomatic = self._detected
        return to_ticks(
            confirmation_time(self.calendar, self.scenario.assessment, detection, symptomatic)
        )

    @cached_property
    def response_time(self) -> FloatArray:
        """First scan that shows a response, ``inf`` where none does."""
        return first_response(
            self.calendar, self.scenario.assessment, self.patients.draws, self.benefit.depth,
            self.progression, to_months(self.progression_tick), self.last_seen,
        )  # fmt: skip

    @cached_property
    def second_progression(self) -> FloatArray:
        """Progression on the next line, when it is seen, ``inf`` where no next line is given."""
        again = regrow_again(self.patients, self.aftermath, self.detection, self.scenario)
        if self.calendar.continuous:
            return again
        return self.calendar.time_after(again)

    @cached_property
    def observed(self) -> Observed:
        """What a study records."""
        detection, symptomatic = self._detected
        return observe(
            calendar=self.calendar,
            assessment=self.scenario.assessment,
            draws=self.patients.draws,
            follow_up=self.end,
            depth=self.benefit.depth,
            progression=self.progression,
            detection=detection,
            symptomatic=symptomatic,
            death=self.aftermath.death,
            last_dose=self.aftermath.last_dose,
            immune=bool(self.regimen.backbones),
        )
