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
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sim.combination import RULES, Rule, conditional_chances
from sim.hazard import NEVER, Clock, first_passage, tabled_passage, two_phase_time
from sim.patient import Draws, Patients, draw_patients, normal_quantile
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
    "primary_share",
    "realised_spearman",
    "reversed_mechanisms",
    "tests_positive",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.integer]

RESISTANT, CONTROLLED, RESPONDING = 0, 1, 2
"""Depths of benefit, in the order in which a better strategy can move a patient."""


@dataclass(frozen=True, slots=True)
class Regimen:
    """The agents that one patient is really given under a strategy."""

    agents: tuple[tuple[Dose, Agent], ...]
    """From the start or at a planned time, the backbone first, then by name."""

    later: tuple[tuple[Dose, Agent], ...]
    """At detected progression."""

    rule: Rule
    psi: float

    @property
    def backbones(self) -> tuple[tuple[Dose, Agent], ...]:
        """The checkpoint inhibitors to whose benefit the ICI model applies."""
        return tuple(pair for pair in self.agents if pair[1].checkpoint_inhibitor)

    @property
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
    always = [dose for dose in strategy.doses if not dose.matched]
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
        assigned.append((index, _regimen([*always, dose], strategy, scenario)))
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


def _regimen(doses: Sequence[Dose], strategy: Strategy, scenario: Scenario) -> Regimen:
    pairs = [(dose, scenario.agent(dose.agent)) for dose in doses]
    pairs.sort(key=lambda pair: (not pair[1].checkpoint_inhibitor, pair[1].name))
    return Regimen(
        tuple(pair for pair in pairs if not pair[0].at_progression),
        tuple(pair for pair in pairs if pair[0].at_progression),
        RULES[strategy.rule],
        strategy.psi,
    )


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
    agents = [agent for dose, agent in regimen.agents if dose.start == 0.0]
    undone = np.zeros((len(population.mechanisms), count), dtype=bool)
    if not agents:
        return undone
    own = np.stack([agent.reversal for agent in agents])
    if not own.any():
        return undone
    ranked = regimen.rule.comonotone
    synergy = regimen.rule.scales_exposure and regimen.psi < 1.0
    kept = ranked or synergy or coupling.reversal > 0.0
    chances = own if kept else conditional_chances(regimen.rule, own, regimen.psi)
    for a, k in zip(*np.nonzero(chances), strict=True):
        mechanism = population.mechanisms[k]
        drawn = agents[0] if ranked else agents[a]
        score = draws.normal("reversal", f"{drawn.name}/{mechanism}")
        if coupling.reversal:
            shared = draws.normal("reversal_factor", mechanism)
            score = np.sqrt(coupling.reversal) * shared + np.sqrt(1 - coupling.reversal) * score
        undone[k] |= score < normal_quantile(chances[a, k])
    if synergy:
        for k in np.flatnonzero(np.count_nonzero(own, axis=0) > 1):
            extra = draws.uniform("reversal_synergy", population.mechanisms[k])
            undone[k] |= extra < 1.0 - regimen.psi
    return undone


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
    undone = reversed_mechanisms(regimen, population, coupling, draws, len(patients))
    left = patients.present & ~undone if undone.any() else patients.present
    primary = np.logical_or.reduce(left, axis=0)
    responding = ~primary & _below(
        draws, "response", _raised(population.responding, regimen, "response"), stratum
    )
    long_responding = _raised(population.durable_responding, regimen, "durability")
    long_controlled = _raised(population.durable_controlled, regimen, "durability")
    mortal_benefit = not (long_responding.any() or long_controlled.any())
    if mortal_benefit:
        durable = np.zeros(len(patients), dtype=bool)
    else:
        durable = ~primary & np.where(
            responding,
            _below(draws, "durability", long_responding, stratum),
            _below(draws, "durability", long_controlled, stratum),
        )
    speed: FloatArray | float = 1.0
    if population.controlled_ratio != 1.0:
        speed = np.where(responding | durable, 1.0, population.controlled_ratio)
    if population.frailty_sd > 0.0:
        speed = speed * np.exp(population.frailty_sd * draws.normal("frailty"))
    if regimen.rule.scales_exposure and regimen.active:
        speed = speed * regimen.psi
    time, cause = _acquired(
        patients, regimen, stops, population, course, None if mortal_benefit else durable, speed
    )
    depth = (CONTROLLED + responding.view(np.int8)).astype(np.int8, copy=False)
    if primary.any():
        depth[primary] = RESISTANT
        cause = np.where(primary, _one_of_several(left, population, draws), cause).astype(np.int8)
        time = np.where(primary, 0.0, time)
    return Benefit(depth, durable, time, cause)


def _one_of_several(left: BoolArray, population: Population, draws: Draws) -> NDArray[np.intp]:
    """The mechanism that counts as the cause among those left (K, M): lowest of stored uniforms."""
    if len(left) == 1:
        return np.zeros(left.shape[1], dtype=np.intp)
    lowest = np.full(left.shape[1], np.inf)
    chosen = np.zeros(left.shape[1], dtype=np.intp)
    for k in np.flatnonzero(left.any(axis=1)):
        score = np.where(left[k], draws.uniform("primary_cause", population.mechanisms[k]), np.inf)
        chosen = np.where(score < lowest, k, chosen)
        lowest = np.minimum(score, lowest)
    return chosen


def _raised(chance: FloatArray, regimen: Regimen, field: str) -> FloatArray:
    """A chance of each stratum (B,) after what the agents add to it."""
    gains = [getattr(agent, field) for dose, agent in regimen.agents if dose.start == 0.0]
    gains = [gain for gain in gains if gain > 0.0]
    if not gains:
        return chance
    stack = np.stack([chance, *(np.full_like(chance, gain) for gain in gains)])
    return np.maximum(regimen.rule.chance(stack, regimen.psi), chance)


def _below(draws: Draws, decision: str, chance: FloatArray, stratum: IntArray) -> BoolArray:
    """One stored uniform against the stratum's chance; certainties draw nothing."""
    if np.all(chance == chance[0]) and chance[0] in (0.0, 1.0):
        return np.full(stratum.shape, chance[0] == 1.0)
    return np.asarray(draws.uniform(decision) < chance[stratum])


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
        ordinary = self.clock.exposure(np.minimum(time, NEVER), self.stratum)
        if self.durable is None:
            return ordinary
        elapsed = np.maximum(np.minimum(time, NEVER) - self.clock.start, 0.0)
        return np.where(self.durable, self.durable_hazard * elapsed, ordinary)

    def time(self, exposure: FloatArray) -> FloatArray:
        """Months at which operational time `exposure` is reached, (M,)."""
        ordinary = self.clock.time(exposure, self.stratum)
        if self.durable is None:
            return ordinary
        with np.errstate(divide="ignore"):
            slow = self.clock.start + exposure / self.durable_hazard
        return np.where(self.durable, slow, ordinary)


Window = tuple[FloatArray, float, FloatArray]
"""An agent's hazard ratio on each mechanism, and when it begins and stops to act."""

Inverse = Callable[[FloatArray, FloatArray], FloatArray]
"""From exposures and the agents' ratios to the operational time at which they are used up."""


def _acquired(
    patients: Patients,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    population: Population,
    course: Course,
    durable: BoolArray | None,
    speed: FloatArray | float,
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Time and mechanism of the first acquired resistance, as if none were primary.

    Mechanisms on which the agents' hazard ratios are the same share one path
    of the hazard, so their smallest exposure stands for all of them. Where all
    patients share one path, it is inverted by table; which way is taken depends
    on the scenario and the regimen and never on the patients.
    """
    clock = _ClassClock(population.acquired, patients.stratum, durable, population.durable_hazard)
    windows = [
        (agent.hazard_ratio, dose.start + agent.onset, stop)
        for (dose, agent), stop in zip(regimen.agents, stops, strict=True)
        if np.any(agent.hazard_ratio != 1.0)
    ]
    off, factor = _stopping(regimen, stops, course)
    shared = (
        durable is None
        and off is None
        and len(population.strata) == 1
        and all(np.ndim(stop) == 0 for _, _, stop in windows)
    )
    if shared:
        invert = _shared_path(windows, clock, regimen)
    else:
        invert = _own_path(windows, clock, regimen, off, factor)
    point = np.full(len(patients), np.inf)
    cause = np.full(len(patients), -1, dtype=np.int8)
    for members, ratios in _alike(windows, len(population.mechanisms)):
        left, first = _smallest(patients.exposure, members)
        left = left if isinstance(speed, float) and speed == 1.0 else left / speed
        reached = invert(left, ratios)
        sooner = reached < point
        point = np.where(sooner, reached, point)
        cause = np.where(sooner, first, cause).astype(np.int8, copy=False)
    time = clock.time(point)
    never = np.isinf(time)
    if never.any():
        cause[never] = -1
    return time, cause


def _alike(windows: Sequence[Window], count: int) -> list[tuple[NDArray[np.intp], FloatArray]]:
    """Mechanisms by the agents' ratios on them: indices, and the ratio of each agent."""
    if not windows:
        return [(np.arange(count), np.empty(0))]
    columns, group = np.unique(
        np.stack([ratio for ratio, _, _ in windows]), axis=1, return_inverse=True
    )
    group = group.reshape(-1)
    return [(np.flatnonzero(group == g), columns[:, g]) for g in range(columns.shape[1])]


def _smallest(
    exposure: FloatArray, members: NDArray[np.intp]
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Smallest exposure of some mechanisms and whose it is, each (M,) or one for all."""
    if len(members) == 1:
        return exposure[members[0]], members[:1].astype(np.int8)
    own = exposure[members]
    first = own.argmin(axis=0)
    return np.take_along_axis(own, first[None], axis=0)[0], members[first]


def _joint_ratio(
    start: FloatArray,
    ratios: FloatArray,
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


def _shared_path(windows: Sequence[Window], clock: _ClassClock, regimen: Regimen) -> Inverse:
    """Inversion of the hazard where all patients share one path: by table."""
    first = np.zeros(1, dtype=np.intp)

    def edge(time: FloatArray | float) -> FloatArray:
        return np.minimum(clock.clock.exposure(np.minimum(time, NEVER), first), NEVER)

    edges = [(edge(on), edge(end)) for _, on, end in windows]
    breaks = np.unique(np.concatenate([np.zeros(1), *(e for pair in edges for e in pair)]))
    starts = breaks[breaks < NEVER]

    def invert(left: FloatArray, ratios: FloatArray) -> FloatArray:
        if not edges:
            return left
        return tabled_passage(left, starts[1:], _joint_ratio(starts, ratios, edges, regimen))

    return invert


def _own_path(
    windows: Sequence[Window],
    clock: _ClassClock,
    regimen: Regimen,
    off: FloatArray | None,
    factor: FloatArray | float,
) -> Inverse:
    """The same where stops, strata or durability give each patient a path of their own."""
    slowest = None if off is None else clock.exposure(off)
    edges = [(clock.exposure(on), clock.exposure(end)) for _, on, end in windows]
    breaks = [edge for pair in edges for edge in pair]
    breaks += [slowest] if slowest is not None else []
    table = np.stack(breaks) if breaks else None

    def invert(left: FloatArray, ratios: FloatArray) -> FloatArray:
        if table is None:
            return left

        def rate(start: FloatArray) -> FloatArray:
            value = _joint_ratio(start, ratios, edges, regimen)
            return value if slowest is None else np.where(start >= slowest, value * factor, value)

        return first_passage(left, table, rate)

    return invert


def _stopping(
    regimen: Regimen, stops: Sequence[FloatArray], course: Course
) -> tuple[FloatArray | None, FloatArray | float]:
    """When the last backbone stops, and the factor on the acquired hazard from then on."""
    ends = [
        (np.asarray(stop), dose.start)
        for (dose, agent), stop in zip(regimen.agents, stops, strict=True)
        if agent.checkpoint_inhibitor
    ]
    off = np.maximum.reduce([end for end, _ in ends])
    if course.stop_effect == 0.0 or np.all(np.isinf(off)):
        return None, 1.0
    on_drug = off - min(start for _, start in ends)
    return off, np.exp(course.stop_effect * np.exp(-on_drug / course.stop_decay))


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
    # Rounded, because the last bits of the eigenvalues behind them differ between machines.
    nodes, weights = (x.round(12) for x in np.polynomial.hermite_e.hermegauss(64))
    weights = weights / weights.sum()
    spread = np.sqrt(1.0 - population.loading**2)
    cut = normal_quantile(population.prevalence)
    score = (cut[:, :, None] - population.loading[:, None] * nodes) / spread[:, None]
    normal = NormalDist()
    present = np.vectorize(normal.cdf)(np.clip(score, -40.0, 40.0))
    free = np.sort(1.0 - present * (1.0 - reversal[:, None]), axis=1)  # in no order of mechanisms
    return np.asarray(1.0 - np.sum(np.prod(free, axis=1) * weights, axis=1))


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
    share = primary_share(scenario)[patients.stratum]
    first = np.minimum.reduce(patients.exposure, axis=0)
    rank = np.where(primary, share * uniform, share - (1.0 - share) * np.expm1(-first))
    tiny = np.finfo(np.float64).tiny
    return np.asarray(ndtri(np.clip(rank, tiny, 1.0 - 2.0**-53)))


def draw_ranked_patients(scenario: Scenario, streams: Streams) -> Patients:
    """Patients of one block, with their rank where an agent with activity needs it."""
    patients = draw_patients(scenario.population, streams)
    if any(agent.activity is not None for agent in scenario.agents):
        return replace(patients, rank=backbone_rank(patients, scenario))
    return patients


def _active_benefit(
    patients: Patients, agent: Agent, activity: Activity, regimen: Regimen, spearman: float
) -> tuple[FloatArray, BoolArray]:
    """Time until an active agent's own benefit is lost (0 where refractory), and its responders."""
    from scipy.special import ndtr

    draws = patients.draws
    score = draws.normal("activity", agent.name)
    if patients.rank is not None:
        pearson = 2.0 * np.sin(np.pi * spearman / 6.0)
        score = pearson * patients.rank + np.sqrt(1.0 - pearson**2) * score
    upper = ndtr(-score)
    refractory = upper > 1.0 - activity.refractory
    certain = activity.responding in (0.0, 1.0)
    uniform = np.zeros(()) if certain else draws.uniform("activity_response", agent.name)
    responding = ~refractory & (uniform < activity.responding)
    speed = np.where(responding, 1.0, activity.controlled_ratio)
    if activity.frailty_sd > 0.0:
        speed = speed * np.exp(activity.frailty_sd * draws.normal("activity_frailty", agent.name))
    if regimen.rule.scales_exposure and regimen.backbones:
        speed = speed * regimen.psi
    survival = np.minimum(
        upper / (1.0 - activity.refractory) if activity.refractory < 1 else upper, 1
    )
    with np.errstate(divide="ignore"):
        exposure = -np.log(survival) / speed
    time = activity.start + activity.scale * exposure ** (1.0 / activity.shape)
    return np.where(refractory, 0.0, time), responding


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
        code = len(population.mechanisms) + scenario.agents.index(agent)
        cause = np.where(np.isinf(time), -1, code).astype(np.int8)
        own = np.where(time == 0.0, RESISTANT, np.where(responding, RESPONDING, CONTROLLED))
        if benefit is None:
            none = np.zeros(len(patients), dtype=bool)
            benefit = Benefit(own.astype(np.int8), none, time, cause)
            continue
        depth = np.maximum(benefit.depth, own)
        if activity.joint_response > 0.0:
            both = (benefit.depth == CONTROLLED) & (own == CONTROLLED)
            lucky = patients.draws.uniform("joint_response", agent.name) < activity.joint_response
            depth = np.where(both & lucky, RESPONDING, depth)
        joint = regimen.rule.time(benefit.time, time, first_scan)
        benefit = Benefit(
            depth.astype(np.int8),
            benefit.durable,
            joint,
            np.where(
                np.isinf(joint), -1, np.where(time > benefit.time, cause, benefit.cause)
            ).astype(np.int8),
        )
    if benefit is None:
        none = np.zeros(len(patients), dtype=bool)
        zero = np.zeros(len(patients))
        return Benefit(zero.astype(np.int8), none, zero, zero.astype(np.int8))
    return benefit


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
    from scipy.stats import spearmanr

    given = {dose.agent for strategy in scenario.strategies for dose in strategy.doses}
    active = [a for a in scenario.agents if a.activity is not None and a.name in given]
    if scenario.backbone is None or not active:
        return {}
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
