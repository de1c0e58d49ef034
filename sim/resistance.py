"""When the benefit of a regimen is lost: primary and acquired resistance.

Turns patients and the agents they are given into the latent time of
resistance, its mechanism and the depth of benefit before it. Resistance is
biological: no scan has seen it, and nothing here knows about scans beyond the
one constant that the additive rule needs.

The steps follow the model: an ICI is *resisted from the start* where some
mechanism present at baseline is undone by no agent; otherwise the patient
responds or is controlled, for good (durable) or until the first of the
competing mechanisms fires. An agent with activity of its own has a benefit of
its own, coupled to the first by rank, and the rule of the strategy says how
the two combine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sim.combination import RULES, Rule, conditional_chances
from sim.hazard import (
    NEVER,
    Clock,
    TabledPassage,
    WeibullClock,
    first_passage,
    two_phase_time,
)
from sim.patient import (
    Draws,
    Patients,
    acquired_exposure,
    draw_patients,
    normal_quantile,
)
from sim.randomness import Streams
from sim.scenario import (
    DAYS_PER_MONTH,
    Activity,
    Agent,
    Coupling,
    Course,
    Dose,
    Population,
    Scenario,
    Strategy,
)

__all__ = [
    "CONTROLLED",
    "RESISTANT",
    "RESPONDING",
    "Benefit",
    "Regimen",
    "assign_regimens",
    "backbone_rank",
    "backbone_regimen",
    "draw_ranked_patients",
    "immune_benefit",
    "joint_benefit",
    "last_doses",
    "plain_loss",
    "primary_share",
    "realised_spearman",
    "reversed_mechanisms",
    "tests_positive",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer]

KEPT = 256
"""How many regimens keep what was worked out for them."""

RESISTANT, CONTROLLED, RESPONDING = 0, 1, 2
"""Depths of benefit, in the order in which a better strategy can move a patient."""


@dataclass(frozen=True, eq=False)
class Regimen:
    """The agents that one patient is really given under a strategy.

    Told apart by identity, so that what follows from one alone is worked out once.
    """

    agents: tuple[tuple[Dose, Agent], ...]
    """From the start or at a planned time, the backbone first, then by name."""

    later: tuple[tuple[Dose, Agent], ...]
    """At detected progression."""

    rule: Rule
    psi: float

    @cached_property
    def backbones(self) -> tuple[tuple[Dose, Agent], ...]:
        """The checkpoint inhibitors to whose benefit the ICI model applies."""
        return tuple(pair for pair in self.agents if pair[1].checkpoint_inhibitor)

    @cached_property
    def active(self) -> tuple[tuple[Agent, Activity], ...]:
        """The agents that work by themselves."""
        return tuple((a, a.activity) for _, a in self.agents if a.activity is not None)


@dataclass(frozen=True, slots=True)
class Benefit:
    """A benefit and its end, for M patients."""

    depth: NDArray[np.int8]
    """`RESISTANT`, `CONTROLLED` or `RESPONDING`."""

    durable: BoolArray
    """Whether the benefit of the ICI is of the durable class."""

    time: FloatArray
    """Months until resistance: 0.0 where primary, ``inf`` where it never comes."""

    cause: NDArray[np.int8]
    """Mechanism, or K + the index of the agent among all agents; -1 where none."""


def assign_regimens(
    strategy: Strategy, scenario: Scenario, patients: Patients
) -> list[tuple[NDArray[np.intp] | None, Regimen]]:
    """The regimens of a strategy and who gets which; None as index means everybody.

    A dose that is matched to mechanisms goes to patients who tested positive
    for one of them and have not been given an earlier matched dose.
    """
    always = tuple(dose for dose in strategy.doses if not dose.matched)
    matched = [dose for dose in strategy.doses if dose.matched]
    if not matched:
        return [(None, _regimen(always, strategy, scenario))]
    waiting = np.ones(len(patients), dtype=bool)
    assigned = []
    for dose in matched:
        positive = np.zeros(len(patients), dtype=bool)
        for mechanism in dose.matched:
            positive |= tests_positive(
                patients, scenario.population, mechanism, strategy.sensitivity,
                strategy.specificity,
            )  # fmt: skip
        index = np.flatnonzero(waiting & positive)
        waiting[index] = False
        assigned.append((index, _regimen((*always, dose), strategy, scenario)))
    rest = np.flatnonzero(waiting)
    return [*assigned, (rest, _regimen(always, strategy, scenario))]


def tests_positive(
    patients: Patients,
    population: Population,
    mechanism: str,
    sensitivity: float,
    specificity: float,
) -> BoolArray:
    """Who tests positive for a mechanism, (M,).

    One draw a patient, shared by all strategies and by eligibility: positive
    below the sensitivity where present, below 1 - specificity where absent.
    """
    present = patients.present[population.mechanisms.index(mechanism)]
    chance = np.where(present, sensitivity, 1.0 - specificity)
    return np.asarray(patients.draws.uniform("mechanism_test", mechanism) < chance)


@lru_cache(maxsize=KEPT)
def _regimen(doses: tuple[Dose, ...], strategy: Strategy, scenario: Scenario) -> Regimen:
    pairs = [(dose, scenario.agent(dose.agent)) for dose in doses]
    pairs.sort(key=lambda pair: (not pair[1].checkpoint_inhibitor, pair[1].name))
    return Regimen(
        tuple(pair for pair in pairs if not pair[0].at_progression),
        tuple(pair for pair in pairs if pair[0].at_progression),
        RULES[strategy.rule],
        strategy.psi,
    )


@lru_cache(maxsize=KEPT)
def backbone_regimen(scenario: Scenario) -> Regimen:
    """The scenario's ICI backbone by itself, without an end: the reference of the coupling."""
    if scenario.backbone is None:
        raise ValueError("the scenario has no ICI backbone")
    agent = scenario.agent(scenario.backbone)
    return Regimen(((Dose(agent.name), agent),), (), RULES["independent_action"], 1.0)


def last_doses(regimen: Regimen, draws: Draws) -> list[FloatArray]:
    """When each agent of the regimen is stopped, by plan or for toxicity, each (M,) or scalar."""
    stops = []
    for dose, agent in regimen.agents:
        hazard = agent.discontinuation
        stop = np.asarray(dose.stop)
        if not hazard.absent:
            exposure = draws.exponential("discontinuation", agent.name)
            toxic = two_phase_time(exposure, hazard.early, hazard.late, hazard.window)
            stop = np.minimum(stop, dose.start + toxic)
        stops.append(stop)
    return stops


def reversed_mechanisms(
    regimen: Regimen, population: Population, coupling: Coupling, draws: Draws, count: int
) -> BoolArray:
    """Mechanisms that some agent given from the start would undo, shape (K, M).

    Each agent has one draw a mechanism. Their thresholds are the rule's
    conditional chances; with a correlation between agents the draws share a
    factor for each mechanism, and every agent keeps its own chance. Under a
    comonotone rule the first agent's draw stands for all of them; what synergy
    adds to independent action is one draw a mechanism. So a better or a further
    agent never takes back what was undone.
    """
    undone = np.zeros((len(population.mechanisms), count), dtype=bool)
    ways = _reversals(regimen, population, coupling)
    for drawn, k, threshold in ways.draws:
        mechanism = population.mechanisms[k]
        score = draws.normal("reversal", f"{drawn}/{mechanism}")
        if coupling.reversal:
            shared = draws.normal("reversal_factor", mechanism)
            score = np.sqrt(coupling.reversal) * shared + np.sqrt(1 - coupling.reversal) * score
        undone[k] |= score < threshold
    for k in ways.helped:
        extra = draws.uniform("reversal_synergy", population.mechanisms[k])
        undone[k] |= extra < 1.0 - regimen.psi
    return undone


@dataclass(frozen=True, slots=True)
class _Reversals:
    """By which draws a regimen undoes mechanisms."""

    draws: tuple[tuple[str, int, float], ...]
    """Agent whose draw decides, mechanism, and normal score below which it is undone."""

    helped: tuple[int, ...]
    """Mechanisms on which synergy has a draw of its own."""


@lru_cache(maxsize=KEPT)
def _reversals(regimen: Regimen, population: Population, coupling: Coupling) -> _Reversals:
    agents = [agent for dose, agent in regimen.agents if dose.start == 0.0]
    own = np.stack([agent.reversal for agent in agents]) if agents else np.zeros((0, 1))
    if not own.any():
        return _Reversals((), ())
    ranked = regimen.rule.comonotone
    synergy = regimen.rule.scales_exposure and regimen.psi < 1.0
    kept = ranked or synergy or coupling.reversal > 0.0
    chances = own if kept else conditional_chances(regimen.rule, own, regimen.psi)
    thresholds = normal_quantile(chances)
    several = np.flatnonzero(np.count_nonzero(own, axis=0) > 1).tolist() if synergy else ()
    return _Reversals(
        tuple(
            ((agents[0] if ranked else agents[a]).name, int(k), float(thresholds[a, k]))
            for a, k in zip(*np.nonzero(chances), strict=True)
        ),
        tuple(several),
    )


def immune_benefit(
    patients: Patients,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    population: Population,
    course: Course,
    coupling: Coupling,
) -> Benefit:
    """Benefit of the ICI backbone and its partners.

    Parameters
    ----------
    patients : Patients
        M of them.
    regimen : Regimen
        With at least one backbone.
    stops : sequence of ndarray
        When each agent of the regimen is stopped, as from `last_doses`.
    population, course, coupling
        Of the scenario.

    Returns
    -------
    Benefit
        Times are of acquired resistance, 0 where primary.
    """
    draws, stratum = patients.draws, patients.stratum
    left = patients.present
    if left.any():
        left = left & ~reversed_mechanisms(regimen, population, coupling, draws, len(patients))
    primary = np.logical_or.reduce(left, axis=0)
    chances = _benefit_chances(regimen, population)
    responding = _below(draws, "response", chances.responding, stratum)
    durable = None
    if chances.durable is not None:
        # Two chances a stratum: of those who are controlled, and of those who respond.
        cell = stratum + len(population.strata) * responding
        durable = _below(draws, "durability", chances.durable, cell)
    resisted = bool(primary.any())
    if resisted:
        responding &= ~primary
        if durable is not None:
            durable &= ~primary
    depth = CONTROLLED + responding.view(np.int8)
    if not resisted:
        time, cause = _acquired(
            draws, stratum, regimen, stops, population, course, responding, durable
        )
    else:
        depth *= ~primary
        time = np.zeros(len(patients))
        cause = np.full(len(patients), -1, dtype=np.int8)
        hit, spared = np.flatnonzero(primary), np.flatnonzero(~primary)
        cause[hit] = _one_of_several(left.take(hit, axis=1), population, draws.select(hit))
        time[spared], cause[spared] = _acquired(
            draws.select(spared),
            stratum.take(spared),
            regimen,
            [stop if np.ndim(stop) == 0 else stop.take(spared) for stop in stops],
            population,
            course,
            responding.take(spared),
            None if durable is None else durable.take(spared),
        )
    if durable is None:
        durable = np.zeros(len(patients), dtype=bool)
    return Benefit(depth, durable, time, cause)


def _one_of_several(left: BoolArray, population: Population, draws: Draws) -> NDArray[np.int8]:
    """The mechanism that counts as the cause among those left (K, M): lowest of stored uniforms."""
    chosen = np.zeros(left.shape[1], dtype=np.int8)
    if len(left) == 1:
        return chosen
    lowest = np.full(left.shape[1], np.inf)
    for k, here in enumerate(left):
        index = np.flatnonzero(here)
        if index.size == 0:
            continue
        score = draws.uniform("primary_cause", population.mechanisms[k]).take(index)
        lower = score < lowest.take(index)
        index = index.compress(lower)
        lowest[index] = score.compress(lower)
        chosen[index] = k
    return chosen


@dataclass(frozen=True, slots=True)
class _Chance:
    """A chance that depends on the patient's cell, such as the stratum."""

    values: FloatArray
    """Of each cell."""
    one: float | None
    """The same for all cells; None where they differ."""

    @classmethod
    def of(cls, values: FloatArray) -> _Chance:
        same = bool((values == values[0]).all())
        return cls(values, float(values[0]) if same else None)


@dataclass(frozen=True, slots=True)
class _BenefitChances:
    """What a regimen makes of the chances of a population."""

    responding: _Chance
    """By stratum."""
    durable: _Chance | None
    """By stratum, first of those who are controlled, then of responders; None where it is nil."""


@lru_cache(maxsize=KEPT)
def _benefit_chances(regimen: Regimen, population: Population) -> _BenefitChances:
    responding = _raised(population.responding, regimen, "response")
    durable = np.concatenate(
        [
            _raised(population.durable_controlled, regimen, "durability"),
            _raised(population.durable_responding, regimen, "durability"),
        ]
    )
    return _BenefitChances(_Chance.of(responding), _Chance.of(durable) if durable.any() else None)


def _raised(chance: FloatArray, regimen: Regimen, field: str) -> FloatArray:
    """A chance of each stratum (B,) after what the agents add to it."""
    gains = [getattr(agent, field) for dose, agent in regimen.agents if dose.start == 0.0]
    gains = [gain for gain in gains if gain > 0.0]
    if not gains:
        return chance
    stack = np.stack([chance, *(np.full_like(chance, gain) for gain in gains)])
    return np.maximum(regimen.rule.chance(stack, regimen.psi), chance)


def _below(draws: Draws, decision: str, chance: _Chance, cell: NDArray[np.intp]) -> BoolArray:
    """One stored uniform against the chance of the patient's cell; certainties draw nothing."""
    if chance.one is None:
        return np.asarray(draws.uniform(decision) < chance.values.take(cell))
    if chance.one in (0.0, 1.0):
        return np.full(cell.shape, chance.one == 1.0)
    return np.asarray(draws.uniform(decision) < chance.one)


@dataclass(frozen=True, slots=True)
class _ClassClock:
    """Operational time of each patient: the population's clock, or the durable constant hazard."""

    clock: Clock
    stratum: IntArray
    durable: BoolArray | None
    """None where the regimen makes nobody's benefit durable."""
    durable_hazard: float

    def exposure(self, time: FloatArray | float) -> FloatArray:
        """Operational time at `time`, months, (M,)."""
        time = np.minimum(time, NEVER)
        ordinary = self.clock.exposure(time, self.stratum)
        if self.durable is None:
            return ordinary
        elapsed = np.maximum(time - self.clock.start, 0.0)
        return np.where(self.durable, self.durable_hazard * elapsed, ordinary)

    def time(self, exposure: FloatArray) -> FloatArray:
        """Months at which operational time `exposure` is reached, (M,)."""
        ordinary = self.clock.time(exposure, self.stratum)
        if self.durable is None:
            return ordinary
        slow = np.flatnonzero(self.durable)
        with np.errstate(divide="ignore"):
            ordinary[slow] = self.clock.start + exposure.take(slow) / self.durable_hazard
        return ordinary


Window = tuple[FloatArray, float, FloatArray]
"""An agent's hazard ratio on each mechanism, and when it begins and stops to act."""

Inverse = Callable[[FloatArray, Sequence[float]], FloatArray]
"""From exposures and the agents' ratios to the operational time at which they are used up."""


def _acquired(
    draws: Draws,
    stratum: NDArray[np.intp],
    regimen: Regimen,
    stops: Sequence[FloatArray],
    population: Population,
    course: Course,
    responding: BoolArray,
    durable: BoolArray | None,
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Time and mechanism of the first acquired resistance of patients without primary resistance.

    Mechanisms on which the agents' hazard ratios are the same share one path
    of the hazard, so their smallest exposure stands for all of them. Where all
    patients share one path, it is inverted by table; which way is taken depends
    on the scenario and the regimen and never on the patients.
    """
    clock = _ClassClock(population.acquired, stratum, durable, population.durable_hazard)
    effect = _effect_on_loss(regimen)
    windows = [(ratio, on, stops[i]) for ratio, on, i in effect.windows]
    off, on_drug = _stopping(regimen, stops, course)
    shared = (
        durable is None
        and off is None
        and len(population.strata) == 1
        and all(np.ndim(stop) == 0 for _, _, stop in windows)
    )
    if shared:
        ends = tuple(float(stop) for _, _, stop in windows)
        invert = _shared_path(regimen, population.acquired, ends)
    elif off is not None and not windows:
        invert = _stopped_path(clock, course, off, on_drug)
    else:
        invert = _own_path(windows, clock, regimen, course, off, on_drug)
    speed = _loss_speed(draws, population, regimen, responding, durable)
    point = cause = None
    for members, ratios in effect.groups:
        left, first = _smallest(population, draws, stratum, members)
        reached = invert(left if speed is None else left / speed, ratios)
        if point is None or cause is None:
            point, cause = reached, first
        else:
            cause = np.where(reached < point, first, cause)
            point = np.minimum(reached, point)
    assert point is not None and cause is not None
    time = clock.time(point)
    cause[np.isinf(time)] = -1
    return time, cause


def _loss_speed(
    draws: Draws,
    population: Population,
    regimen: Regimen,
    responding: BoolArray,
    durable: BoolArray | None,
) -> FloatArray | float | None:
    """Factor on each patient's hazard of losing the benefit, (M,) or one; None where it is 1."""
    speed: FloatArray | float | None = None
    if population.controlled_ratio != 1.0:
        kept = responding if durable is None else responding | durable
        speed = np.where(kept, 1.0, population.controlled_ratio)
    if population.frailty_sd > 0.0:
        frailty = np.exp(population.frailty_sd * draws.normal("frailty"))
        speed = frailty if speed is None else speed * frailty
    if regimen.rule.scales_exposure and regimen.active:
        speed = regimen.psi if speed is None else speed * regimen.psi
    return speed


@dataclass(frozen=True, slots=True)
class _LossEffect:
    """What the agents of a regimen do to the hazards of acquiring mechanisms."""

    windows: tuple[tuple[FloatArray, float, int], ...]
    """Ratios on the mechanisms, when they begin to act, and the place of the agent."""

    groups: tuple[tuple[NDArray[np.intp], tuple[float, ...]], ...]
    """Mechanisms on which the ratios are the same, and the ratio of each agent of `windows`."""


@lru_cache(maxsize=KEPT)
def _effect_on_loss(regimen: Regimen) -> _LossEffect:
    windows = tuple(
        (agent.hazard_ratio, dose.start + agent.onset, i)
        for i, (dose, agent) in enumerate(regimen.agents)
        if (agent.hazard_ratio != 1.0).any()
    )
    count = len(regimen.agents[0][1].hazard_ratio)
    if not windows:
        return _LossEffect((), ((np.arange(count), ()),))
    columns = list(zip(*(ratio.tolist() for ratio, _, _ in windows), strict=True))
    groups = (
        (np.array([k for k, own in enumerate(columns) if own == column]), column)
        for column in sorted(set(columns))
    )
    return _LossEffect(windows, tuple(groups))


def _smallest(
    population: Population, draws: Draws, stratum: NDArray[np.intp], members: NDArray[np.intp]
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Smallest exposure of some mechanisms and whose it is, each (M,)."""
    if len(members) == 1:
        only = acquired_exposure(population, draws, stratum, members[0])
        return only, np.full(len(stratum), members[0], dtype=np.int8)
    own = [acquired_exposure(population, draws, stratum, k) for k in members]
    smallest = own[0]
    for exposure in own[1:]:
        smallest = np.minimum(smallest, exposure)
    place = np.zeros(len(stratum), dtype=np.int8)
    later = np.ones(len(stratum), dtype=bool)
    for exposure in own[:-1]:
        later &= exposure != smallest
        place += later
    return smallest, members.astype(np.int8).take(place)


def _joint_ratio(
    start: FloatArray,
    ratios: Sequence[float],
    edges: Sequence[tuple[FloatArray, FloatArray]],
    regimen: Regimen,
) -> FloatArray:
    """Joint hazard ratio in the intervals that begin at `start`, each agent's in its window."""
    if not edges:
        return np.ones_like(start)
    inside = [
        np.where((begin <= start) & (start < end), ratio, 1.0)
        for ratio, (begin, end) in zip(ratios, edges, strict=True)
    ]
    return regimen.rule.hazard_ratio(inside, regimen.psi)


@lru_cache(maxsize=KEPT)
def _shared_path(regimen: Regimen, clock: Clock, ends: tuple[float, ...]) -> Inverse:
    """Inversion of the hazard where all patients share one path: by table."""
    effect = _effect_on_loss(regimen)
    if not effect.windows:
        return lambda left, ratios: left
    times = np.array([[on, end] for (_, on, _), end in zip(effect.windows, ends, strict=True)])
    stratum = np.zeros(times.size, dtype=np.intp)
    reached = clock.exposure(np.minimum(times, NEVER).reshape(-1), stratum)
    edges = np.minimum(reached, NEVER).reshape(times.shape)
    starts = np.array(sorted({0.0, *edges.ravel().tolist()} - {NEVER}))
    passages = {
        ratios: TabledPassage.of(
            starts[1:], _joint_ratio(starts, ratios, [(on, end) for on, end in edges], regimen)
        )
        for _, ratios in effect.groups
    }
    return lambda left, ratios: passages[tuple(ratios)].point(left)


def _own_path(
    windows: Sequence[Window],
    clock: _ClassClock,
    regimen: Regimen,
    course: Course,
    off: FloatArray | None,
    on_drug: FloatArray,
) -> Inverse:
    """The same where stops, strata or durability give each patient a path of their own."""
    slowest = None if off is None else clock.exposure(off)
    factor = 1.0 if off is None else _after_stop(course, on_drug)
    edges = [(clock.exposure(on), clock.exposure(end)) for _, on, end in windows]
    breaks = [edge for pair in edges for edge in pair]
    breaks += [slowest] if slowest is not None else []
    table = np.stack(breaks) if breaks else None

    def invert(left: FloatArray, ratios: Sequence[float]) -> FloatArray:
        if table is None:
            return left

        def rate(start: FloatArray) -> FloatArray:
            value = _joint_ratio(start, ratios, edges, regimen)
            return value if slowest is None else np.where(start >= slowest, value * factor, value)

        return first_passage(left, table, rate)

    return invert


def _stopped_path(
    clock: _ClassClock, course: Course, off: FloatArray, on_drug: FloatArray
) -> Inverse:
    """The same where nothing but the stop of the backbone changes the hazard."""
    slowest = np.minimum(clock.exposure(off), NEVER)

    def invert(left: FloatArray, ratios: Sequence[float]) -> FloatArray:
        point = left.copy()
        late = np.flatnonzero(left >= slowest)
        change = np.broadcast_to(slowest, left.shape).take(late)
        factor = _after_stop(course, np.broadcast_to(on_drug, left.shape).take(late))
        point[late] = (left.take(late) - change) / factor + change
        return point

    return invert


def _stopping(
    regimen: Regimen, stops: Sequence[FloatArray], course: Course
) -> tuple[FloatArray | None, FloatArray]:
    """When the last backbone stops, None where it makes no difference, and months on drug then."""
    ends = [
        (np.asarray(stop), dose.start)
        for (dose, agent), stop in zip(regimen.agents, stops, strict=True)
        if agent.checkpoint_inhibitor
    ]
    off = np.maximum.reduce([end for end, _ in ends])
    if course.stop_effect == 0.0 or np.all(np.isinf(off)):
        return None, off
    return off, off - min(start for _, start in ends)


def _after_stop(course: Course, on_drug: FloatArray) -> FloatArray:
    """Factor on the acquired hazard after so many months on drug have ended."""
    return np.asarray(np.exp(course.stop_effect * np.exp(-on_drug / course.stop_decay)))


def primary_share(scenario: Scenario) -> FloatArray:
    """Share of primary resistance under the backbone alone in each stratum, shape (B,).

    Closed form: given the shared factor, mechanisms are independent, so the
    share is one minus the mean over the factor of the product of
    ``1 - p(F) (1 - r)``; the mean is taken by Gauss-Hermite quadrature.
    """
    if scenario.backbone is None:
        raise ValueError("the scenario has no ICI backbone")
    reversal = scenario.agent(scenario.backbone).reversal
    return resistant_share(scenario.population, reversal)


def resistant_share(population: Population, reversal: FloatArray) -> FloatArray:
    """Share of patients with a mechanism that is not undone, (B,), given chances (K,)."""
    return _resistant_share(
        tuple(map(tuple, population.prevalence.tolist())),
        tuple(population.loading.tolist()),
        tuple(reversal.tolist()),
    )


@lru_cache(maxsize=64)
def _resistant_share(
    prevalences: tuple[tuple[float, ...], ...],
    loadings: tuple[float, ...],
    reversals: tuple[float, ...],
) -> FloatArray:
    """The same from numbers, for blocks that share a scenario."""
    prevalence, loading, reversal = map(np.array, (prevalences, loadings, reversals))
    # Rounded, because the last bits of the eigenvalues behind them differ between machines.
    nodes, weights = (x.round(12) for x in np.polynomial.hermite_e.hermegauss(64))
    weights = weights / weights.sum()
    spread = np.sqrt(1.0 - loading**2)
    cut = normal_quantile(prevalence)
    score = (cut[:, :, None] - loading[:, None] * nodes) / spread[:, None]
    normal = NormalDist()
    present = np.vectorize(normal.cdf)(np.clip(score, -40.0, 40.0))
    free = np.sort(1.0 - present * (1.0 - reversal[:, None]), axis=1)  # in no order of mechanisms
    share = np.asarray(1.0 - np.sum(np.prod(free, axis=1) * weights, axis=1))
    share.flags.writeable = False
    return share


def backbone_rank(patients: Patients, scenario: Scenario) -> FloatArray:
    """Normal score of each patient's benefit under the backbone alone, (M,).

    The rank is ``pi U`` for the primary-resistant and
    ``pi + (1 - pi) (1 - exp(-min E / w))`` for the others, pi being the share
    of primary resistance in the stratum: uniform, and moved by no strategy.
    """
    from scipy.special import ndtri

    uniform = patients.draws.uniform("backbone_rank")
    if scenario.backbone is None:
        return np.asarray(ndtri(uniform))
    regimen = backbone_regimen(scenario)
    undone = reversed_mechanisms(
        regimen, scenario.population, scenario.coupling, patients.draws, len(patients)
    )
    primary = np.logical_or.reduce(patients.present & ~undone, axis=0)
    share = primary_share(scenario).take(patients.stratum)
    rank = share * uniform
    spared = np.flatnonzero(~primary)
    first, _ = _smallest(
        scenario.population,
        patients.draws.select(spared),
        patients.stratum.take(spared),
        np.arange(len(scenario.population.mechanisms)),
    )
    least = share.take(spared)
    rank[spared] = least - (1.0 - least) * np.expm1(-first)
    tiny = np.finfo(np.float64).tiny
    return np.asarray(ndtri(np.clip(rank, tiny, 1.0 - 2.0**-53)))


def draw_ranked_patients(scenario: Scenario, streams: Streams) -> Patients:
    """Patients of one block, whose rank can be had where an agent with activity needs it."""
    patients = draw_patients(scenario.population, streams)
    return replace(patients, rank=partial(backbone_rank, scenario=scenario))


def _active_benefit(
    patients: Patients, agent: Agent, activity: Activity, regimen: Regimen, spearman: float
) -> tuple[FloatArray, BoolArray]:
    """Time until an active agent's own benefit is lost (0 where refractory), and its responders."""
    from scipy.special import ndtr

    draws = patients.draws
    score = draws.normal("activity", agent.name)
    if patients.rank is not None and spearman != 0.0:
        pearson = 2.0 * np.sin(np.pi * spearman / 6.0)
        score = pearson * patients.rank(patients) + np.sqrt(1.0 - pearson**2) * score
    upper = ndtr(-score)
    if activity.responding in (0.0, 1.0):
        responding = np.full(len(patients), activity.responding == 1.0)
    else:
        responding = draws.uniform("activity_response", agent.name) < activity.responding
    # Worked out for the refractory too: that costs less than to gather the others.
    refractory = None
    survival = upper
    if activity.refractory > 0.0:
        refractory = upper > 1.0 - activity.refractory
        responding &= ~refractory
        if activity.refractory < 1.0:
            survival = np.minimum(upper / (1.0 - activity.refractory), 1.0)
    speed: FloatArray | float | None = None
    if activity.controlled_ratio != 1.0:
        speed = np.where(responding, 1.0, activity.controlled_ratio)
    if activity.frailty_sd > 0.0:
        frailty = np.exp(activity.frailty_sd * draws.normal("activity_frailty", agent.name))
        speed = frailty if speed is None else speed * frailty
    if regimen.rule.scales_exposure and regimen.backbones:
        speed = regimen.psi if speed is None else speed * regimen.psi
    with np.errstate(divide="ignore"):
        exposure = -np.log(survival)
    if speed is not None:
        exposure /= speed
    if activity.shape != 1.0:
        exposure **= 1.0 / activity.shape
    time = activity.start + activity.scale * exposure
    if refractory is not None:
        time[np.flatnonzero(refractory)] = 0.0
    return time, responding


def joint_benefit(
    patients: Patients,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    scenario: Scenario,
) -> Benefit:
    """Benefit of a whole regimen: the ICI part, the active agents' parts, and the rule.

    Parameters
    ----------
    patients : Patients
        M of them; `rank` must be set where an agent has activity.
    regimen : Regimen
        What they are given.
    stops : sequence of ndarray
        When each agent is stopped, as from `last_doses`.
    scenario : Scenario
        Everything else.

    Returns
    -------
    Benefit
        Primary resistance is resistance to every part. The cause of a joint
        loss is that of the part which lasted longer.
    """
    population, coupling = scenario.population, scenario.coupling
    benefit: Benefit | None = None
    if regimen.backbones:
        benefit = immune_benefit(patients, regimen, stops, population, scenario.course, coupling)
    spearman = 1.0 if regimen.rule.comonotone and regimen.backbones else coupling.spearman
    first_scan = float(scenario.assessment.every[0]) * 7.0 / DAYS_PER_MONTH
    for agent, activity in regimen.active:
        time, responding = _active_benefit(patients, agent, activity, regimen, spearman)
        code = np.int8(len(population.mechanisms) + scenario.agents.index(agent))
        own = (CONTROLLED + responding.view(np.int8)) * (time != 0.0)
        if benefit is None:
            none = np.zeros(len(patients), dtype=bool)
            benefit = Benefit(own, none, time, np.where(np.isinf(time), np.int8(-1), code))
            continue
        depth = np.maximum(benefit.depth, own)
        if activity.joint_response > 0.0:
            both = (benefit.depth == CONTROLLED) & (own == CONTROLLED)
            lucky = patients.draws.uniform("joint_response", agent.name) < activity.joint_response
            depth += both & lucky
        cause = np.where(time > benefit.time, code, benefit.cause)
        joint = regimen.rule.time(benefit.time, time, first_scan)
        cause[np.isinf(joint)] = -1
        benefit = Benefit(depth, benefit.durable, joint, cause)
    if benefit is None:
        none = np.zeros(len(patients), dtype=bool)
        zero = np.zeros(len(patients))
        return Benefit(zero.astype(np.int8), none, zero, zero.astype(np.int8))
    return benefit


@dataclass(frozen=True, slots=True)
class PlainLoss:
    """The time of resistance where nothing but one draw tells patients apart."""

    mechanism: str
    clock: Clock
    invert: Inverse
    ratios: tuple[float, ...]

    def point(self, draws: Draws) -> FloatArray:
        """Operational time until resistance, (M,)."""
        return self.invert(draws.exponential("acquired_resistance", self.mechanism), self.ratios)

    def time(self, draws: Draws) -> FloatArray:
        """Months until resistance, (M,): to the bit those of `joint_benefit`."""
        return self.clock.time(self.point(draws), np.zeros(1, dtype=np.intp))

    @property
    def month(self) -> float | None:
        """Months of one unit of operational time; None where the clock does not run evenly."""
        clock = self.clock
        if isinstance(clock, WeibullClock) and clock.shape[0] == 1.0 and clock.start == 0.0:
            return float(clock.scale[0])
        return None


@lru_cache(maxsize=KEPT)
def plain_loss(regimen: Regimen, scenario: Scenario) -> PlainLoss | None:
    """The law of a regimen under which all patients lose their benefit alike, if it is such a one.

    So it is where nobody resists from the start, there is one stratum and one
    mechanism, and no frailty, class of benefit, stop or other agent makes a
    difference: the special cases that are a single hazard.
    """
    population, course = scenario.population, scenario.course
    alike = (
        len(population.strata) == len(population.mechanisms) == 1
        and not population.prevalence.any()
        and population.controlled_ratio == 1.0
        and population.frailty_sd == 0.0
        and bool(regimen.backbones)
        and not regimen.active
        and _benefit_chances(regimen, population).durable is None
        and all(agent.discontinuation.absent for _, agent in regimen.agents)
    )
    if not alike:
        return None
    stops = [np.asarray(dose.stop) for dose, _ in regimen.agents]
    if _stopping(regimen, stops, course)[0] is not None:
        return None
    effect = _effect_on_loss(regimen)
    ends = tuple(float(stops[i]) for _, _, i in effect.windows)
    ((_, ratios),) = effect.groups
    invert = _shared_path(regimen, population.acquired, ends)
    return PlainLoss(population.mechanisms[0], population.acquired, invert, ratios)


def realised_spearman(scenario: Scenario, n_patients: int, seed: int) -> dict[str, float]:
    """Rank correlation that the coupling really gives, for each agent with activity.

    The benefit of the backbone has an atom at 0 (primary resistance), and so
    has the agent's own (refractory), so ranks tie and the correlation is below
    the one asked for. Taken between the backbone's benefit without stopping
    and the agent's own, in simulated patients; ties have their mean rank.

    Returns
    -------
    dict
        By agent; empty where there is no backbone or no such agent.
    """
    given = {dose.agent for strategy in scenario.strategies for dose in strategy.doses}
    active = [a for a in scenario.agents if a.activity is not None and a.name in given]
    if scenario.backbone is None or not active:
        return {}
    from scipy.stats import spearmanr

    patients = draw_ranked_patients(scenario, Streams(seed, 0, 1, n_patients))
    regimen = backbone_regimen(scenario)
    never = [np.asarray(np.inf)]
    immune = immune_benefit(
        patients, regimen, never, scenario.population, scenario.course, scenario.coupling
    )
    found = {}
    for agent in active:
        assert agent.activity is not None
        time, _ = _active_benefit(
            patients, agent, agent.activity, regimen, scenario.coupling.spearman
        )
        found[agent.name] = float(spearmanr(immune.time, time).statistic)
    return found
