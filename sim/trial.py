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
from functools import cache, partial
from math import factorial, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.assessment import Calendar, draw_calendar, withdrawal_time
from sim.definitions import Definition
from sim.endpoint.by_name import records_of
from sim.endpoint.endpoint import Record
from sim.errors import ScenarioError
from sim.hazard import PiecewiseClock
from sim.outcome import NEVER_TICK, Outcome, to_months, to_ticks
from sim.patient import Patients
from sim.randomness import BLOCK, Streams
from sim.resistance import assign_regimens, draw_ranked_patients, tests_positive
from sim.scenario import Scenario, check_not_negative, check_positive, check_probability

__all__ = [
    "NEVER_TICK",
    "Accrual",
    "Arm",
    "Eligibility",
    "Followed",
    "TrialBlock",
    "TrialDesign",
    "blocks_of",
    "eligible_share",
    "enrol",
    "simulate_block",
    "to_ticks",
    "usual_block_size",
]

FloatArray = NDArray[np.float64]
TickArray = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]


MOST_ORDERS = 10_000
"""Orders of a permuted block of which a table is kept."""


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

    of_screened: bool = False
    """Whether `rates` are of patients screened for eligibility, and not of those enrolled."""

    def __post_init__(self) -> None:
        if (self.rates is None) == (self.duration == 0.0):
            raise ScenarioError("duration or rates must be given, and not both")
        check_not_negative("duration", self.duration)
        if self.rates is not None:
            starts = self.starts
            if starts is None or starts.shape != self.rates.shape:
                count = 0 if starts is None else starts.size
                raise ScenarioError(
                    f"rates must hold {count} numbers, one for each of starts, "
                    f"got {self.rates.size}"
                )
            if starts[0] != 0.0 or np.any(np.diff(starts) <= 0.0):
                raise ScenarioError(f"starts must increase from 0, got {starts.tolist()}")
            check_not_negative("rates", self.rates)
            if not self.rates[-1] > 0.0:
                raise ScenarioError("rates must end with one above 0, or nobody else enters")
        if self.of_screened and self.rates is None:
            raise ScenarioError("of_screened must be false where a duration is given, got true")

    @property
    def latest(self) -> int:
        """Tick by which all have entered; `NEVER_TICK` where rates leave that open."""
        return int(NEVER_TICK if self.rates is not None else to_ticks(np.array([self.duration]))[0])

    def entries(self, streams: Streams) -> FloatArray:
        """Entry of each patient, months since the start of accrual, (n_patients, size).

        With rates, the n-th patient enters at the n-th event of a Poisson
        process, so the first entries are the same when more patients are
        enrolled.
        """
        if self.rates is None:
            entry = streams.uniform("entry").T
            entry *= self.duration
            return entry
        passed = np.cumsum(streams.exponential("entry").T, axis=0)
        assert self.starts is not None
        clock = PiecewiseClock(self.starts, self.rates[None, :])
        flat = passed.reshape(-1)
        return clock.time(flat, np.zeros(flat.size, dtype=np.intp)).reshape(passed.shape)


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who may enter: by stratum, by a test of mechanisms, or both."""

    strata: tuple[str, ...] = ()
    """Strata that may enter; empty is all."""

    positive: tuple[str, ...] = ()
    """Mechanisms for one of which, at least, the test must be positive; empty asks for none."""

    negative: tuple[str, ...] = ()
    """Mechanisms for none of which the test may be positive."""

    sensitivity: float = 1.0
    """Chance of a positive test where the mechanism is present at baseline."""

    specificity: float = 1.0
    """Chance of a negative test where it is not."""

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity"):
            check_probability(name, getattr(self, name))

    @property
    def everyone(self) -> bool:
        """Whether nobody is kept out."""
        return not (self.strata or self.positive or self.negative)

    def admits(self, patients: Patients, scenario: Scenario) -> BoolArray:
        """Which of M screened patients may enter, (M,).

        A test is the one draw a patient that also matches agents to mechanisms.
        """
        population = scenario.population
        admitted = np.ones(len(patients), dtype=bool)
        if self.strata:
            allowed = [population.strata.index(name) for name in self.strata]
            admitted = np.isin(patients.stratum, allowed)
        tests = (self.sensitivity, self.specificity)
        if self.positive:
            some = [tests_positive(patients, population, name, *tests) for name in self.positive]
            admitted = admitted & np.logical_or.reduce(some)
        for name in self.negative:
            admitted = admitted & ~tests_positive(patients, population, name, *tests)
        return admitted


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

    eligibility: Eligibility = Eligibility()
    """Who may enter; `n_patients` of them do."""

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
        orders = _number_of_orders(self.counts)
        if orders > MOST_ORDERS:
            raise ScenarioError(
                f"block_size must leave at most {MOST_ORDERS} orders of a block, "
                f"got {self.block_size}, which has {float(orders):.3g}"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Patients of each arm in a permuted block."""
        times = self.block_size // sum(arm.weight for arm in self.arms)
        return tuple(arm.weight * times for arm in self.arms)


@dataclass(frozen=True, slots=True)
class Followed:
    """One record of every patient, as far as they are followed at all."""

    tick: TickArray
    """Event or loss to follow-up, ticks since entry, (R, N)."""

    event: BoolArray
    """Whether it is the event, (R, N)."""

    at_scans: bool
    """Whether absence of the event is only known at scans, so that censoring is at the last."""

    known: TickArray | None = None
    """When the event becomes known, ticks since entry, (R, N); None where that is at `tick`."""

    end: TickArray | None = None
    """Where following ends without an event, (R, N); given where `known` is."""


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

    entered_by: int
    """Tick by which all have entered in any case; `NEVER_TICK` where that is not known."""

    screening: NDArray[np.intp] | None
    """How many had been screened when each entered, (R, N); None where all who come enter."""

    followed: Mapping[str, Followed]
    """By the name of the record."""

    calendar: Calendar
    """Scans of the patients, in the order of the draws: patient by patient, N R."""

    @property
    def last_entry(self) -> TickArray:
        """Entry of the last patient, ticks since the start of accrual, (R,)."""
        return np.asarray(self.entry.max(axis=1))


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The patients of a block who enter the trial, in the order of the draws."""

    patients: Patients
    entry: FloatArray
    """Months since the start of accrual, (M,)."""
    index: NDArray[np.intp] | None
    """Where they stand among the screened; None where all who are screened enter."""

    @property
    def screening(self) -> NDArray[np.intp] | None:
        """How many had been screened when each entered, (R, N)."""
        return None if self.index is None else self.index.reshape(-1, BLOCK).T // BLOCK + 1


def enrol(scenario: Scenario, design: TrialDesign, seed: int, block: int) -> Enrolled:
    """The first `n_patients` eligible patients of each replicate of a block.

    Patients are screened in the order of their draws, as many as it takes, so
    that how many are drawn at a time changes nothing.
    """
    n = design.n_patients
    if design.eligibility.everyone:
        streams = Streams(seed, block, BLOCK, n)
        entry = design.accrual.entries(streams).reshape(-1)
        patients = draw_ranked_patients(scenario, streams)
        return Enrolled(patients, entry, None)
    screened = 2 * n
    while True:
        streams = Streams(seed, block, BLOCK, screened)
        patients = draw_ranked_patients(scenario, streams)
        admitted = design.eligibility.admits(patients, scenario).reshape(screened, BLOCK)
        fewest = int(np.count_nonzero(admitted, axis=0).min())
        if fewest >= n:
            break
        screened = min(4 * screened, screened * n * 21 // (20 * max(fewest, 1)) + 20)
    place = np.cumsum(admitted, axis=0, dtype=np.intp)
    row, replicate = np.nonzero(admitted & (place <= n))
    index = np.empty((n, BLOCK), dtype=np.intp)
    index[place[row, replicate] - 1, replicate] = row * BLOCK + replicate
    flat = index.reshape(-1)
    if design.accrual.of_screened:
        entry = design.accrual.entries(streams).reshape(-1)[flat]
    else:
        entry = design.accrual.entries(Streams(seed, block, BLOCK, n)).reshape(-1)
    return Enrolled(patients.settle(flat), entry, flat)


def eligible_share(scenario: Scenario, design: TrialDesign, seed: int) -> float:
    """Share of screened patients who may enter, in 20,000 of them."""
    patients = draw_ranked_patients(scenario, Streams(seed, 0, 1, 20_000))
    return float(np.mean(design.eligibility.admits(patients, scenario)))


def usual_block_size(weights: Sequence[int]) -> int:
    """Twice the sum of the weights, or once where the orders would be too many."""
    twice = tuple(2 * weight for weight in weights)
    return sum(twice) if _number_of_orders(twice) <= MOST_ORDERS else sum(weights)


def _number_of_orders(counts: Sequence[int]) -> int:
    return factorial(sum(counts)) // prod(factorial(count) for count in counts)


@cache
def block_orders(counts: tuple[int, ...]) -> NDArray[np.uint8]:
    """Every order of a permuted block that holds so many of each arm, (orders, length).

    Examples
    --------
    >>> block_orders((1, 2)).tolist()
    [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    """
    if not sum(counts):
        return np.empty((1, 0), dtype=np.uint8)
    parts = []
    for arm, count in enumerate(counts):
        if count:
            rest = block_orders((*counts[:arm], count - 1, *counts[arm + 1 :]))
            parts.append(np.insert(rest, 0, arm, axis=1))
    orders = np.concatenate(parts).astype(np.uint8)
    orders.flags.writeable = False
    return orders


def allocate(design: TrialDesign, streams: Streams, stratum: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Arms by permuted blocks, drawn from a table of all orders, (R, N)."""
    orders = block_orders(design.counts)
    n = stratum.shape[1]
    if not design.stratified:
        return _sequence(orders, streams, "", n).T
    own = stratum.T
    arm = np.zeros(own.shape, dtype=np.uint8)
    for b in range(int(own.max()) + 1):
        member = own == b
        place = np.maximum(np.cumsum(member, axis=0, dtype=np.intp) - 1, 0)
        sequence = _sequence(orders, streams, str(b), n)
        arm = np.where(member, np.take_along_axis(sequence, place, axis=0), arm)
    return arm.T


def _sequence(orders: NDArray[np.uint8], streams: Streams, label: str, n: int) -> NDArray[np.uint8]:
    """Arms in the order of randomisation, (n, R)."""
    length = orders.shape[1]
    blocks = -(-n // length)
    part = Streams(streams.seed, streams.block, streams.size, blocks)
    drawn = part.uniform("allocation", label).T * len(orders)
    arms = np.take(orders, drawn.astype(np.int32), axis=0).transpose(0, 2, 1)
    return arms.reshape(blocks * length, streams.size)[:n]


def simulate_block(
    scenario: Scenario,
    design: TrialDesign,
    *,
    seed: int,
    block: int,
    endpoints: Sequence[str],
    horizon: float,
    definition: Definition | None = None,
    everyone: int | None = None,
) -> TrialBlock:
    """Simulate one block of `BLOCK` replicates of a trial.

    Parameters
    ----------
    scenario : Scenario
        With every strategy that the arms name.
    design : TrialDesign
        Accrual, eligibility, allocation, dropout.
    seed : int
        Of the run.
    block : int
        Index of the block; replicates ``block * BLOCK`` and following.
    endpoints : sequence of str
        Of `sim.endpoint.by_name.ENDPOINTS`; what none of them needs is not simulated.
    horizon : float
        Months after entry beyond which nobody is followed.
    definition : Definition, optional
        Says what acquired resistance is, where an endpoint asks for it.
    everyone : int, optional
        Index of the arm that everybody is put in instead of their own: the
        same patients under one strategy, as no trial could see them.

    Returns
    -------
    TrialBlock
    """
    enrolled = enrol(scenario, design, seed, block)
    patients = enrolled.patients
    streams = Streams(seed, block, BLOCK, design.n_patients)
    calendar = draw_calendar(scenario.assessment, patients.draws, horizon)
    stratum = _rows(patients.stratum, design.n_patients)
    if everyone is None:
        arm = allocate(design, streams, stratum)
    else:
        arm = _rows(np.full(len(patients), everyone, dtype=np.uint8), design.n_patients)
    followed = _follow_arms(
        scenario, design, patients, calendar, arm, _loss(scenario, design, patients, horizon),
        records_of(endpoints), definition,
    )  # fmt: skip
    entry = _rows(to_ticks(enrolled.entry), design.n_patients)
    return TrialBlock(
        block * BLOCK, arm, stratum, entry, design.accrual.latest, enrolled.screening, followed,
        calendar,
    )  # fmt: skip


def _rows(flat: NDArray[Any], n_patients: int) -> NDArray[Any]:
    """(R, N) of what lies in the order of the draws, patient by patient, without copying."""
    return flat.reshape(n_patients, BLOCK).T


def _flat(rows: NDArray[Any]) -> NDArray[Any]:
    """The order of the draws of what `_rows` gave."""
    return rows.T.reshape(-1)


def _loss(scenario: Scenario, design: TrialDesign, patients: Patients, horizon: float) -> TickArray:
    """Tick at which each patient is lost to follow-up, by dropout or withdrawal, (M,)."""
    latest = int(to_ticks(np.array([horizon]))[0])
    lost: TickArray | None = None
    if design.dropout > 0.0:
        mean = 1.0 / design.dropout
        lost = to_ticks(patients.draws.exponential("dropout"), mean, latest)
    if scenario.assessment.withdrawal > 0.0:
        months = withdrawal_time(scenario.assessment, patients.draws, len(patients))
        away = to_ticks(months, latest=latest)
        lost = away if lost is None else np.minimum(lost, away)
    return np.full(len(patients), latest, dtype=np.uint32) if lost is None else lost


def _months_until(lost: TickArray, where: NDArray[np.intp]) -> FloatArray:
    return to_months(lost[where])


def _follow_arms(
    scenario: Scenario,
    design: TrialDesign,
    patients: Patients,
    calendar: Calendar,
    arm: NDArray[np.uint8],
    lost: TickArray,
    records: Sequence[Record],
    definition: Definition | None,
) -> dict[str, Followed]:
    """Each patient under the strategy of their arm, until they are lost."""
    strategies = {strategy.name: strategy for strategy in scenario.strategies}
    ticks = {record.name: np.empty(arm.size, dtype=np.uint32) for record in records}
    ends: dict[str, TickArray] = {}
    known: dict[str, TickArray] = {}
    flat = _flat(arm)
    for a, planned in enumerate(design.arms):
        strategy = strategies[planned.strategy]
        index = np.flatnonzero(flat == a)
        if not index.size:
            continue
        group = patients.select(index)
        for part, regimen in assign_regimens(strategy, scenario, group):
            where = index if part is None else index[part]
            outcome = Outcome(
                scenario, strategy, regimen, group if part is None else group.select(part),
                calendar.select(where), partial(_months_until, lost, where), definition,
            )  # fmt: skip
            for record in records:
                found = record.happen(outcome)
                ticks[record.name][where] = found.tick
                if found.known is not None:
                    known.setdefault(record.name, np.empty_like(lost))[where] = found.known
                if found.until is not None:
                    ends.setdefault(record.name, lost.copy())[where] = np.minimum(
                        found.until, lost[where]
                    )
    scans = not scenario.assessment.continuous
    followed = {}
    for record in records:
        tick, end = ticks[record.name], ends.get(record.name, lost)
        later = known.get(record.name)
        followed[record.name] = Followed(
            tick=_rows(np.minimum(tick, end), design.n_patients),
            event=_rows(tick <= end, design.n_patients),
            at_scans=scans and record.at_scans,
            known=None if later is None else _rows(later, design.n_patients),
            end=None if later is None else _rows(end, design.n_patients),
        )
    return followed


def blocks_of(n_replicates: int) -> Iterator[tuple[int, int]]:
    """Index of each block and how many of its replicates count; the last is made whole."""
    for block in range(-(-n_replicates // BLOCK)):
        yield block, min(BLOCK, n_replicates - block * BLOCK)
