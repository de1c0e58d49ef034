"""After resistance: regrowth, progression, next lines and death.

Takes the benefit of a regimen and its end and says when the tumour has regrown
to what a scan would call progression, what is then done, and when the patient
dies. It does not look at scans itself: it is told when progression is detected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.hazard import Spell, count_passed, spell_passage
from sim.patient import Draws, Patients
from sim.resistance import (
    RESISTANT,
    Benefit,
    Regimen,
    backbone_regimen,
    immune_benefit,
    last_doses,
    reversed_mechanisms,
)
from sim.scenario import Course, Dose, Scenario, Strategy

__all__ = [
    "ADDITION", "CROSSOVER", "NO_LINE", "UNTREATED", "Aftermath", "follow", "regrow",
    "regrow_again",
]  # fmt: skip

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NO_LINE, UNTREATED, CROSSOVER, ADDITION = -1, 0, 1, 2
"""Codes of what follows detected progression; the scenario's own next lines follow from 3 on."""


@dataclass(frozen=True)
class Aftermath:
    """What followed resistance, for M patients; what death does not depend on, when asked for."""

    regained: FloatArray
    """Months of renewed benefit from detection on; 0 where there was none."""

    death: FloatArray
    """Death from any cause, months since randomisation."""

    _receive: Callable[[], NDArray[np.int8]]
    _stop: Callable[[], FloatArray]
    _count_sites: Callable[[], NDArray[np.int16]]

    @cached_property
    def next_line(self) -> NDArray[np.int8]:
        """Code; -1 where progression was not detected in the patient's life."""
        return self._receive()

    @cached_property
    def last_dose(self) -> FloatArray:
        """Last dose of the ICI, or of the last agent where there is none."""
        return self._stop()

    @cached_property
    def sites(self) -> NDArray[np.int16]:
        """Number of progressing sites."""
        return self._count_sites()


def growth_speed(patients: Patients, scenario: Scenario) -> FloatArray | float:
    """Speed at which the patient's tumour grows, relative to the median."""
    sd = scenario.course.growth_sd
    return 1.0 if sd == 0.0 else np.exp(sd * patients.draws.normal("growth_speed"))


def regrow(
    patients: Patients,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    benefit: Benefit,
    scenario: Scenario,
) -> tuple[FloatArray, FloatArray]:
    """Latent progression, and the time at which the tumour-death clock starts.

    The lag from resistance is a median, log-normal, divided by the patient's
    growth speed. Agents that slow growth, if given at that time, delay
    progression and not the clock.

    Returns
    -------
    progression, clock : ndarray, shape (M,)
        Months since randomisation.
    """
    course = scenario.course
    if not course.regrows:
        return benefit.time, benefit.time
    primary = benefit.depth == RESISTANT
    lag = _of_two(course.primary_lag, course.acquired_lag, primary)
    lag = lag / growth_speed(patients, scenario)
    if course.lag_sd > 0.0:
        lag = lag * np.exp(course.lag_sd * patients.draws.normal("regrowth"))
    slowing: FloatArray | float = 1.0
    for (dose, agent), stop in zip(regimen.agents, stops, strict=True):
        if agent.growth_ratio != 1.0:
            given = (dose.start <= benefit.time) & (benefit.time < stop)
            slowing = slowing * np.where(given, agent.growth_ratio, 1.0)
    return benefit.time + lag / slowing, benefit.time + lag


def regrow_again(
    patients: Patients, after: Aftermath, detection: FloatArray, scenario: Scenario
) -> FloatArray:
    """Latent progression on the next line, (M,), ``inf`` where none was given.

    The model says of a next line what it does to death and whether benefit
    returns. Its progression is an assumption: the tumour regrows from the end of the renewed
    benefit, or from detection where there is none, with the lag of acquired
    resistance, the patient's growth speed and a draw of its own. With the
    default course that is a median of about three months as scans see it.
    """
    course = scenario.course
    lag: FloatArray | float = course.acquired_lag / growth_speed(patients, scenario)
    if course.lag_sd > 0.0:
        lag = lag * np.exp(course.lag_sd * patients.draws.normal("second_regrowth"))
    treated = after.next_line > UNTREATED
    return np.where(treated, detection + after.regained + lag, np.inf)


def follow(
    patients: Patients,
    strategy: Strategy,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    benefit: Benefit,
    clock: FloatArray,
    detection: FloatArray,
    scenario: Scenario,
) -> Aftermath:
    """Next lines and death.

    Parameters
    ----------
    patients : Patients
        M of them.
    strategy, regimen, stops
        What they are given, and until when.
    benefit : Benefit
        Its end.
    clock : ndarray, shape (M,)
        When the tumour-death clock starts, from `regrow`.
    detection : ndarray, shape (M,)
        When progression is seen if the patient lives, ``inf`` for never.
    scenario : Scenario
        Everything else.

    Returns
    -------
    Aftermath
    """
    line, ratio, regained = _next_line(
        patients, strategy, regimen, stops, benefit, detection, scenario
    )
    until = _treated_until(line, detection, scenario)
    death = _death(
        patients, regimen, stops, until, benefit, clock, detection, ratio, regained, scenario
    )
    return Aftermath(
        regained,
        death,
        partial(_received, line, detection, death),
        partial(_last_dose, regimen, stops, until),
        partial(_progressing_sites, patients.draws, benefit.depth, scenario.course),
    )


def _received(line: NDArray[np.int8], detection: FloatArray, death: FloatArray) -> NDArray[np.int8]:
    """The next line of those whose progression is detected while they live."""
    received = line.copy()
    received[np.flatnonzero(detection >= death)] = NO_LINE
    return received


def _last_dose(regimen: Regimen, stops: Sequence[FloatArray], until: FloatArray) -> FloatArray:
    """Last dose of any backbone, or of any agent where there is none."""
    return np.maximum.reduce(
        [
            np.minimum(stop, until)
            for (_, agent), stop in zip(regimen.agents, stops, strict=True)
            if agent.checkpoint_inhibitor or not regimen.backbones
        ]
    )


def _of_two(first: float, second: float, which: BoolArray) -> FloatArray:
    """The first number where `which` holds, else the second."""
    return np.array([second, first]).take(which.view(np.int8))


def _treated_until(line: NDArray[np.int8], detection: FloatArray, scenario: Scenario) -> FloatArray:
    """Detected progression, at which agents are stopped that have no earlier plan, (M,).

    Patients treated beyond progression go on until their planned stop.
    """
    names = [option.name for option in scenario.course.next_lines]
    until = detection
    if "continue_beyond_progression" in names:
        code = ADDITION + 1 + names.index("continue_beyond_progression")
        until = detection.copy()
        until[np.flatnonzero(line == code)] = np.inf
    return until


def _progressing_sites(draws: Draws, depth: NDArray[np.int8], course: Course) -> NDArray[np.int16]:
    """Geometric number of sites whose chance of being at most three is the stated share."""
    share = np.array([course.oligo_acquired, course.oligo_primary])
    primary = (depth == RESISTANT).view(np.int8)
    more = np.cbrt(1.0 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_more = np.log(more)
        sites = np.ceil(np.log1p(-draws.uniform("progressing_sites")) / log_more.take(primary))
    if np.any((more == 0.0) | (more == 1.0)):
        more = more.take(primary)
        sites = np.where(more == 1.0, 99.0, np.where(more == 0.0, 1.0, sites))
    return np.clip(sites, 1, 99).astype(np.int16)


def _next_line(
    patients: Patients,
    strategy: Strategy,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    benefit: Benefit,
    detection: FloatArray,
    scenario: Scenario,
) -> tuple[NDArray[np.int8], FloatArray, FloatArray]:
    """Code of the next line, its ratio on the death hazard, and months of renewed benefit."""
    course, draws = scenario.course, patients.draws
    line, ratio, regained = _from_table(patients, stops, benefit, detection, scenario)

    def instead(index: NDArray[np.intp], code: int, factor: float, months: Any) -> None:
        line[index], ratio[index], regained[index] = code, factor, months

    if regimen.later:
        # Where the addition undoes nothing, the patient gets what the others would get.
        added = _added(patients, regimen, benefit, scenario)
        index = np.flatnonzero(added > 0.0)
        instead(index, ADDITION, 1.0, added.take(index))
    if course.untreated > 0.0:
        never = np.flatnonzero(draws.uniform("treated_again") < course.untreated)
        instead(never, UNTREATED, course.untreated_ratio, 0.0)
    if strategy.crossover > 0.0:
        crosses = draws.uniform("crossover") < strategy.crossover
        index = np.flatnonzero(crosses & np.isfinite(detection))
        instead(index, CROSSOVER, 1.0, _crossed(patients.select(index), scenario))
    instead(np.flatnonzero(np.isinf(detection)), NO_LINE, 1.0, 0.0)
    return line, ratio, regained


def _from_table(
    patients: Patients,
    stops: Sequence[FloatArray],
    benefit: Benefit,
    detection: FloatArray,
    scenario: Scenario,
) -> tuple[NDArray[np.int8], FloatArray, FloatArray]:
    """What the scenario's table of next lines gives, one stored uniform for the choice."""
    lines, draws = scenario.course.next_lines, patients.draws
    choice = np.zeros(len(patients), dtype=np.int8)
    if len(lines) > 1:
        edges = np.cumsum([line.share for line in lines])[:-1]
        choice = count_passed(edges, draws.uniform("next_line")).astype(np.int8)
    names = scenario.population.mechanisms
    for k, line in enumerate(lines[:-1]):
        if line.eligible == "all" and not line.matched:
            continue
        index = np.flatnonzero(choice == k)
        allowed = np.ones(len(index), dtype=bool)
        if line.eligible == "oligoprogression":
            depth = benefit.depth.take(index)
            allowed &= _progressing_sites(draws.select(index), depth, scenario.course) <= 3
        elif line.eligible == "off_treatment":
            seen = detection.take(index)
            for stop in stops:
                allowed &= (stop if np.ndim(stop) == 0 else stop.take(index)) < seen
        if line.matched:
            cause = benefit.cause.take(index)
            hit = [cause == names.index(mechanism) for mechanism in line.matched]
            allowed &= np.logical_or.reduce(hit)
        choice[index.compress(~allowed)] = len(lines) - 1
    ratio = np.array([line.hazard_ratio for line in lines]).take(choice)
    regained = np.zeros(len(patients))
    for k, line in enumerate(lines):
        if line.regain > 0.0:
            lucky = (choice == k) & (draws.uniform("regain", line.name) < line.regain)
            index = np.flatnonzero(lucky)
            length = draws.exponential("regained_benefit", line.name).take(index)
            regained[index] = length * line.regain_median / np.log(2.0)
    return choice + np.int8(ADDITION + 1), ratio, regained


@lru_cache(maxsize=256)
def _added_regimen(regimen: Regimen) -> Regimen:
    """What is added at progression, as if given from the start."""
    agents = tuple((_from_start(dose), agent) for dose, agent in regimen.later)
    return Regimen(agents, (), regimen.rule, regimen.psi)


def _added(
    patients: Patients, regimen: Regimen, benefit: Benefit, scenario: Scenario
) -> FloatArray:
    """Renewed benefit where agents added at progression undo what caused the resistance.

    The same draw decides as would have decided at baseline. After primary
    resistance every mechanism must be undone, after acquired resistance the
    one that fired; a benefit lost with an agent of own activity stays lost.
    """
    population, coupling, draws = scenario.population, scenario.coupling, patients.draws
    count = len(patients)
    added = _added_regimen(regimen)
    undone = reversed_mechanisms(added, population, coupling, draws, count)
    first = reversed_mechanisms(regimen, population, coupling, draws, count)
    every = ~np.logical_or.reduce(patients.present & ~first & ~undone, axis=0)
    mechanisms = len(population.mechanisms)
    known = (benefit.cause >= 0) & (benefit.cause < mechanisms)
    one = undone[np.where(known, benefit.cause, 0), np.arange(count)] & known
    renewed = np.where(benefit.depth == RESISTANT, every & known, one)
    ratio = np.ones(mechanisms)
    for _, agent in regimen.later:
        ratio = ratio * agent.hazard_ratio
    shares = np.sort(population.acquired_share * ratio, axis=1).sum(axis=1)
    responding = draws.uniform("response") < population.responding[patients.stratum]
    speed = shares[patients.stratum] * np.where(responding, 1.0, population.controlled_ratio)
    if population.frailty_sd > 0.0:
        speed = speed * np.exp(population.frailty_sd * draws.normal("frailty"))
    exposure = draws.exponential("second_resistance") / np.maximum(speed, 1e-12)
    return np.where(renewed, population.acquired.time(exposure, patients.stratum), 0.0)


def _from_start(dose: Dose) -> Dose:
    return Dose(dose.agent)


def _crossed(patients: Patients, scenario: Scenario) -> FloatArray:
    """Benefit of the ICI in patients who cross over to it: their own, restarted at detection.

    A later line finds more primary resistance, by the stated chance among
    those who would have had none; full first-line benefit would make control
    arms live too long.
    """
    regimen = backbone_regimen(scenario)
    stops = last_doses(regimen, patients.draws)
    own = immune_benefit(
        patients, regimen, stops, scenario.population, scenario.course, scenario.coupling
    )
    late = patients.draws.uniform("crossover_primary") < scenario.course.crossover_primary
    return np.where(late, 0.0, own.time)


def _death(
    patients: Patients,
    regimen: Regimen,
    stops: Sequence[FloatArray],
    until: FloatArray,
    benefit: Benefit,
    clock: FloatArray,
    detection: FloatArray,
    ratio: FloatArray,
    regained: FloatArray,
    scenario: Scenario,
) -> FloatArray:
    """Solve the sum of all death hazards for one stored unit exponential."""
    course, draws = scenario.course, patients.draws
    tumour_hazard, background = course.tumour_death_hazard, course.background_hazard
    if not regimen.backbones and regimen.active:
        activity = regimen.active[0][1]
        tumour_hazard, background = activity.tumour_death_hazard, activity.background_hazard
    spells = []
    edges = [*course.background_starts.tolist(), np.inf]
    for level, begin, end in zip(background.tolist(), edges, edges[1:], strict=False):
        spells.append(Spell(level, begin, end))
    for (dose, agent), stop in zip(regimen.agents, stops, strict=True):
        if not agent.fatal.absent:
            stop = np.maximum(np.minimum(stop, until), dose.start)
            change = np.minimum(dose.start + agent.fatal.window, stop)
            spells.append(Spell(agent.fatal.early, dose.start, change))
            spells.append(Spell(agent.fatal.late, change, stop))
    if tumour_hazard > 0.0:
        tumour = tumour_hazard * _relative_speed(patients, benefit, scenario)
        # Detection suspends the hazard during a renewed benefit and changes it from then on.
        first = np.minimum(clock, detection)
        again = np.maximum(detection + regained, clock)
        if (again == detection).all():
            again = detection  # one change of the hazard instead of two
        spells.append(Spell(tumour, first, detection))
        spells.append(Spell(tumour * ratio, again, np.inf))
    spells = [spell for spell in spells if np.ndim(spell.level) > 0 or spell.level > 0.0]
    return spell_passage(draws.exponential("death"), spells)


def _relative_speed(patients: Patients, benefit: Benefit, scenario: Scenario) -> FloatArray | float:
    """Factor on the tumour-death hazard, each patient's: growth speed, timing and frailty."""
    course, draws = scenario.course, patients.draws
    log_speed: FloatArray | float = 0.0
    if course.growth_exponent > 0.0 and course.growth_sd > 0.0:
        log_speed += course.growth_exponent * course.growth_sd * draws.normal("growth_speed")
    if course.timing_exponent > 0.0:
        log_speed -= course.timing_exponent * np.log((benefit.time + 1.5) / 7.5)
    if course.death_frailty_sd > 0.0:
        log_speed += course.death_frailty_sd * draws.normal("death_frailty")
    return np.exp(log_speed)
