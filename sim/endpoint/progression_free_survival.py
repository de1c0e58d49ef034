"""Progression-free survival: from entry to progression as the study sees it, or death."""

from __future__ import annotations

import numpy as np

from sim.assessment import broken_off
from sim.endpoint.endpoint import TIME, Endpoint, Happening, Record
from sim.outcome import Outcome, to_months, to_ticks

__all__ = ["PFS", "PROGRESSION_OR_DEATH"]


def _happen(outcome: Outcome) -> Happening:
    progression = outcome.progression_tick
    if not outcome.scenario.mortal:
        tick = progression
    else:
        tick = np.minimum(progression, outcome.death_tick)
    assessment = outcome.scenario.assessment
    known = None
    if assessment.criteria == "irecist" and not outcome.calendar.continuous:
        known = np.where(tick == progression, outcome.confirmation_tick, tick)
    broken = None
    if assessment.missed_before_censoring > 0:
        broken = broken_off(outcome.calendar, assessment, to_months(tick))
    return Happening(tick, None if broken is None else to_ticks(broken), known)


PROGRESSION_OR_DEATH = Record("pfs", _happen, at_scans=True)

PFS = Endpoint(
    "pfs",
    "Progression-free survival",
    TIME,
    (PROGRESSION_OR_DEATH,),
    lambda known, entered: known["pfs"],
)
