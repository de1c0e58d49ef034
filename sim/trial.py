"""A trial: who enters when, who gets which arm, and what happens to them there.

Turns a scenario and a design into blocks of replicates. Each patient is met
only under the strategy of their arm; the random numbers are those a cohort
would have used, so a patient's outcome in an arm is the outcome the cohort
shows. Nothing here looks at a data cut or computes a statistic.

Conventions
-----------
The patient's clock starts at entry, the trial's at the start of accrual; they
meet in `TrialBlock.entry` and in `sim.cut`. Observed times and dates are whole
ticks of ``2**-20`` month in 32-bit integers, so that ties are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from sim.assessment import (
    TICK,
    Calendar,
    detect_progression,
    draw_calendar,
    first_progression,
    withdrawal_time,
)
from sim.course import follow, regrow
from sim.errors import ScenarioError
from sim.hazard import PiecewiseClock
from sim.patient import Patients
from sim.randomness import BLOCK, Streams
from sim.resistance import Regimen, assign_regimens, draw_ranked_patients, joint_benefit, last_doses
from sim.scenario import Scenario, Strategy, check_not_negative, check_positive

__all__ = [
    "NEVER_TICK",
    "Accrual",
    "Arm",
    "Followed",
    "TrialBlock",
    "TrialDesign",
    "blocks_of",
    "simulate_block",
    "to_ticks",
]

FloatArray = NDArray[np.float64]
TickArray = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]

NEVER_TICK = np.uint32(2**30 - 1)
"""Tick of what never happens: 1024 months."""

ENDPOINTS = ("pfs", "os")


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: a strategy and its weight in the allocation."""

    strategy: str
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ScenarioError(f"weight must be at least 1, got {self.weight}")


@dataclass(frozen=True, slots=True)
class Accrual:
    """When patients enter: uniformly over a duration, or at piecewise-constant rates."""

    duration: float = 0.0
    """Months over which all enter, uniformly; 0 where rates are given."""

    starts: FloatArray | None = None
    """Starts of the intervals of `rates`, months, (J,)."""

    rates: FloatArray | None = None
    """Patients per month in each interval, (J,); the last goes on until all are in."""

    def __post_init__(self) -> None:
        if (self.rates is None) == (self.duration == 0.0):
            raise ScenarioError("duration or rates must be given, and not both")
        check_not_negative("duration", self.duration)
        if self.rates is not None:
            check_not_negative("rates", self.rates)
            if not self.rates[-1] > 0.0:
                raise ScenarioError("rates must end with one above 0, or nobody else enters")

    def entries(self, streams: Streams) -> FloatArray:
        """Entry of each patient, months since the start of accrual, (size, n_patients).

        With rates, the n-th patient enters at the n-th event of a Poisson
        process, so the first entries are the same when more patients are
        enrolled.
        """
        if self.rates is None:
            return streams.uniform("entry") * self.duration
        passed = np.cumsum(streams.exponential("entry"), axis=1)
        assert self.starts is not None
        clock = PiecewiseClock(self.starts, self.rates[None, :])
        flat = passed.reshape(-1)
        return clock.time(flat, np.zeros(flat.size, dtype=np.intp)).reshape(passed.shape)


@dataclass(frozen=True, slots=True)
class TrialDesign:
    """How a trial is run."""

    n_patients: int
    arms: tuple[Arm, ...]
    """The control first."""

    accrual: Accrual
    block_size: int
    """Patients in a permuted block, a multiple of the sum of the weights."""

    stratified: bool = False
    """Whether blocks are permuted within strata."""

    dropout: float = 0.0
    """Hazard of being lost to follow-up, in every arm."""

    def __post_init__(self) -> None:
        check_positive("n_patients", float(self.n_patients))
        check_not_negative("dropout", self.dropout)
        if len(self.arms) < 2:
            raise ScenarioError("arms must hold a control and at least one more")
        total = sum(arm.weight for arm in self.arms)
        if self.block_size % total or self.block_size < 1:
            raise ScenarioError(
                f"block_size must be a multiple of the weights' sum ({total}), "
                f"got {self.block_size}"
            )

    def arrangements(self) -> NDArray[np.uint8]:
        """Every order of a permuted block, (orders, block_size)."""
        times = self.block_size // sum(arm.weight for arm in self.arms)
        one = [a for a, arm in enumerate(self.arms) for _ in range(arm.weight * times)]
        if self.block_size > 10:
            raise ScenarioError(f"block_size must be at most 10, got {self.block_size}")
        return np.array(sorted(set(permutations(one))), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Followed:
    """One endpoint of every patient, as far as they are followed at all."""

    tick: TickArray
    """Event or loss to follow-up, ticks since entry, (R, N)."""

    event: BoolArray
    """Whether it is the event, (R, N)."""

    at_scans: bool
    """Whether absence of the event is only known at scans, so that censoring is at the last."""


@dataclass(frozen=True, slots=True)
class TrialBlock:
    """Some replicates of a trial, before any data cut."""

    first: int
    """Index of the first replicate over the whole run."""

    arm: NDArray[np.uint8]
    """Index of the arm, (R, N)."""

    stratum: NDArray[np.intp]
    """Index of the stratum, (R, N)."""

    entry: TickArray
    """Entry, ticks since the start of accrual, (R, N)."""

    endpoints: Mapping[str, Followed]

    calendar: Calendar
    """Scans of the patients, in one row of R N."""


def allocate(design: TrialDesign, streams: Streams, stratum: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Arms by permuted blocks, drawn from a table of all orders, (R, N)."""
    orders = design.arrangements()
    size, n = stratum.shape
    if not design.stratified:
        return _sequence(orders, streams, "", n)
    arm = np.zeros((size, n), dtype=np.uint8)
    for b in range(int(stratum.max()) + 1):
        member = stratum == b
        place = np.maximum(np.cumsum(member, axis=1) - 1, 0)
        sequence = _sequence(orders, streams, str(b), n)
        arm = np.where(member, np.take_along_axis(sequence, place, axis=1), arm)
    return arm


def _sequence(orders: NDArray[np.uint8], streams: Streams, label: str, n: int) -> NDArray[np.uint8]:
    length = orders.shape[1]
    blocks = -(-n // length)
    part = Streams(streams.seed, streams.block, streams.size, blocks)
    choice = (part.uniform("allocation", label) * len(orders)).astype(np.intp)
    return orders[choice].reshape(streams.size, blocks * length)[:, :n]


def simulate_block(
    scenario: Scenario,
    design: TrialDesign,
    *,
    seed: int,
    block: int,
    endpoints: Sequence[str],
    horizon: float,
) -> TrialBlock:
    """Simulate one block of `BLOCK` replicates of a trial.

    Parameters
    ----------
    scenario : Scenario
        With every strategy that the arms name.
    design : TrialDesign
        Accrual, allocation, dropout.
    seed : int
        Of the run.
    block : int
        Index of the block; replicates ``block * BLOCK`` and following.
    endpoints : sequence of str
        Of `ENDPOINTS`; what is not asked for is not simulated.
    horizon : float
        Months after entry beyond which nobody is followed.

    Returns
    -------
    TrialBlock
    """
    streams = Streams(seed, block, BLOCK, design.n_patients)
    patients = draw_ranked_patients(scenario, streams)
    calendar = draw_calendar(scenario.assessment, patients.draws, horizon)
    stratum = patients.stratum.reshape(BLOCK, design.n_patients)
    arm = allocate(design, streams, stratum)
    entry = to_ticks(design.accrual.entries(streams))
    lost = _loss(scenario, design, patients, horizon)
    followed = _follow_arms(scenario, design, patients, calendar, arm, lost, endpoints)
    return TrialBlock(block * BLOCK, arm, stratum, entry, followed, calendar)


def to_ticks(time: FloatArray) -> TickArray:
    """Times as whole ticks, rounded up, at least 1; what never happens is `NEVER_TICK`."""
    ticks = np.ceil(time * (1.0 / TICK))
    np.clip(ticks, 1.0, float(NEVER_TICK), out=ticks)
    return ticks.astype(np.uint32)


def _loss(scenario: Scenario, design: TrialDesign, patients: Patients, horizon: float) -> TickArray:
    """Tick at which each patient is lost to follow-up, by dropout or withdrawal, (M,)."""
    lost = np.full(len(patients), horizon)
    if design.dropout > 0.0:
        lost = np.minimum(patients.draws.exponential("dropout") / design.dropout, horizon)
    if scenario.assessment.withdrawal > 0.0:
        away = withdrawal_time(scenario.assessment, patients.draws, len(patients))
        lost = np.minimum(lost, away)
    return to_ticks(lost)


def _follow_arms(
    scenario: Scenario,
    design: TrialDesign,
    patients: Patients,
    calendar: Calendar,
    arm: NDArray[np.uint8],
    lost: TickArray,
    endpoints: Sequence[str],
) -> dict[str, Followed]:
    """Each patient under the strategy of their arm, until they are lost."""
    strategies = {strategy.name: strategy for strategy in scenario.strategies}
    ticks = {name: np.empty(arm.size, dtype=np.uint32) for name in endpoints}
    flat = arm.reshape(-1)
    for a, planned in enumerate(design.arms):
        strategy = strategies[planned.strategy]
        index = np.flatnonzero(flat == a)
        group = patients.select(index)
        for part, regimen in assign_regimens(strategy, scenario, group):
            where = index if part is None else index[part]
            members = group if part is None else group.select(part)
            found = _endpoint_ticks(
                scenario, strategy, regimen, members, calendar.select(where), lost[where], endpoints
            )
            for name in endpoints:
                ticks[name][where] = found[name]
    scans = not scenario.assessment.continuous
    return {
        name: Followed(
            np.minimum(tick, lost).reshape(arm.shape),
            (tick <= lost).reshape(arm.shape),
            scans and name == "pfs",
        )
        for name, tick in ticks.items()
    }


def _endpoint_ticks(
    scenario: Scenario,
    strategy: Strategy,
    regimen: Regimen,
    patients: Patients,
    calendar: Calendar,
    lost: TickArray,
    endpoints: Sequence[str],
) -> dict[str, TickArray]:
    """Ticks of the events of some patients under one regimen, whether or not they are seen."""
    draws, assessment = patients.draws, scenario.assessment
    stops = last_doses(regimen, draws)
    benefit = joint_benefit(patients, regimen, stops, scenario)
    progression, clock = regrow(patients, regimen, stops, benefit, scenario)
    if not scenario.mortal and assessment.continuous:
        seen = to_ticks(progression)
        return {
            name: seen if name == "pfs" else np.full_like(seen, NEVER_TICK) for name in endpoints
        }
    detection, symptomatic = detect_progression(calendar, progression, assessment, draws)
    after = follow(patients, strategy, regimen, stops, benefit, clock, detection, scenario)
    death = to_ticks(after.death)
    found = {"os": death}
    if "pfs" in endpoints:
        known = np.minimum(death, lost) * TICK
        first, _, _ = first_progression(
            calendar, assessment, draws, benefit.depth, progression, detection, symptomatic,
            known, bool(regimen.backbones),
        )  # fmt: skip
        found["pfs"] = np.minimum(to_ticks(first), death)
    return found


def blocks_of(n_replicates: int) -> Iterator[tuple[int, int]]:
    """Index of each block and how many of its replicates count; the last is made whole."""
    for block in range(-(-n_replicates // BLOCK)):
        yield block, min(BLOCK, n_replicates - block * BLOCK)
