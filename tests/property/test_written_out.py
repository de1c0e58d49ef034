"""The latent course of one patient at a time, written out in plain steps, against the cohort.

The simulator passes over arrays of patients, compresses them to those whom a
step concerns and adds hazards up without sorting them. Here one patient meets
the same draws in the order in which the model is told.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from sim import simulate_cohort
from sim.course import ADDITION, NO_LINE, UNTREATED
from sim.patient import draw_patients, normal_quantile
from sim.randomness import Streams
from sim.resistance import CONTROLLED, RESISTANT, RESPONDING

SEED = 20240601
COUNT = 600
CLOSE = 1e-9  # round-off: the steps are added up in another order


@dataclass(frozen=True)
class Latent:
    """One patient under a backbone alone."""

    depth: int
    durable: bool
    time: float
    cause: int
    stop: float


def resistance(scenario, patients, i, planned_stop):
    """Primary resistance, or the first mechanism to fire under one backbone without partners."""
    population, course, draws = scenario.population, scenario.course, patients.draws
    agent = scenario.agent(scenario.backbone)
    b = int(patients.stratum[i])
    left = []
    for k, name in enumerate(population.mechanisms):
        undone = draws.normal("reversal", f"{agent.name}/{name}")[i] < normal_quantile(
            agent.reversal[k : k + 1]
        )
        if patients.present[k, i] and not undone:
            left.append(k)
    exposure = draws.exponential("discontinuation", agent.name)[i]
    early = agent.discontinuation.early * agent.discontinuation.window
    if exposure < early:
        toxic = exposure / agent.discontinuation.early
    else:
        toxic = agent.discontinuation.window + (exposure - early) / agent.discontinuation.late
    stop = min(planned_stop, toxic)
    if left:
        score = [draws.uniform("primary_cause", population.mechanisms[k])[i] for k in left]
        return Latent(RESISTANT, False, 0.0, left[int(np.argmin(score))], stop)
    responding = draws.uniform("response")[i] < population.responding[b]
    chances = population.durable_responding if responding else population.durable_controlled
    durable = draws.uniform("durability")[i] < chances[b]
    speed = 1.0 if responding or durable else population.controlled_ratio
    speed *= np.exp(population.frailty_sd * draws.normal("frailty")[i])
    fires = [
        draws.exponential("acquired_resistance", name)[i] / population.acquired_share[b, k] / speed
        for k, name in enumerate(population.mechanisms)
    ]
    clock = population.acquired

    def spent(time):
        elapsed = max(time - clock.start, 0.0)
        if durable:
            return population.durable_hazard * elapsed
        return (elapsed / clock.scale[b]) ** clock.shape[b]

    def reached(exposure):
        if durable:
            return clock.start + exposure / population.durable_hazard
        return clock.start + clock.scale[b] * exposure ** (1.0 / clock.shape[b])

    used = min(fires)
    if used >= spent(stop):
        factor = np.exp(course.stop_effect * np.exp(-stop / course.stop_decay))
        used = spent(stop) + (used - spent(stop)) / factor
    depth = RESPONDING if responding else CONTROLLED
    return Latent(depth, durable, reached(used), int(np.argmin(fires)), stop)


def next_line(scenario, patients, i, latent, sites, detection):
    """Code of the next line, its ratio and the months of renewed benefit."""
    course, draws = scenario.course, patients.draws
    if np.isinf(detection):
        return NO_LINE, 1.0, 0.0
    if draws.uniform("treated_again")[i] < course.untreated:
        return UNTREATED, course.untreated_ratio, 0.0
    edges = np.cumsum([line.share for line in course.next_lines])[:-1]
    choice = int(np.searchsorted(edges, draws.uniform("next_line")[i], side="right"))
    line = course.next_lines[choice]
    causes = [scenario.population.mechanisms.index(name) for name in line.matched]
    eligible = {
        "all": True, "oligoprogression": sites <= 3, "off_treatment": latent.stop < detection,
    }[line.eligible]  # fmt: skip
    if not eligible or (causes and latent.cause not in causes):
        choice = len(course.next_lines) - 1
        line = course.next_lines[choice]
    regained = 0.0
    if line.regain > 0.0 and draws.uniform("regain", line.name)[i] < line.regain:
        length = draws.exponential("regained_benefit", line.name)[i]
        regained = length * line.regain_median / np.log(2.0)
    return ADDITION + 1 + choice, line.hazard_ratio, regained


def death(scenario, patients, i, latent, clock, detection, ratio, regained, end):
    """Walk from one change of the hazard to the next until the exposure is used up."""
    course, draws = scenario.course, patients.draws
    fatal = scenario.agent(scenario.backbone).fatal
    tumour = course.tumour_death_hazard
    tumour *= np.exp(course.growth_sd * draws.normal("growth_speed")[i]) ** course.growth_exponent
    tumour *= ((latent.time + 1.5) / 7.5) ** -course.timing_exponent
    tumour *= np.exp(course.death_frailty_sd * draws.normal("death_frailty")[i])

    def rate(time):
        interval = np.searchsorted(course.background_starts, time, side="right") - 1
        value = course.background_hazard[interval]
        if time < end:
            value += fatal.early if time < fatal.window else fatal.late
        if clock <= time < detection:
            value += tumour
        if time >= detection + regained and time >= clock:
            value += tumour * ratio
        return value

    changes = [fatal.window, end, clock, detection, detection + regained]
    left, time = draws.exponential("death")[i], 0.0
    for change in sorted([*course.background_starts[1:], *changes]):
        if left < rate(time) * (change - time):
            break
        left -= rate(time) * (change - time)
        time = change
    return time + left / rate(time)


@pytest.fixture(scope="module")
def alone(toolbox):
    scenario = toolbox.scenario
    cohort = simulate_cohort(scenario, n_patients=COUNT, seed=SEED)
    patients = draw_patients(scenario.population, Streams(SEED, 0, 1, COUNT))
    place = cohort.strategies.index("alone")
    names = (
        "depth", "durable", "cause", "resistance_time", "progression_time", "detection_time",
        "sites", "next_line", "death_time",
    )  # fmt: skip
    return scenario, patients, {name: getattr(cohort, name)[0, place] for name in names}


def test_resistance_is_that_of_each_patient_by_themselves(alone):
    scenario, patients, found = alone
    for i in range(COUNT):
        latent = resistance(scenario, patients, i, 24.0)
        assert found["depth"][i] == latent.depth
        assert found["durable"][i] == latent.durable
        assert found["cause"][i] == latent.cause
        assert found["resistance_time"][i] == pytest.approx(latent.time, rel=CLOSE)
    # Every kind of patient is among them.
    assert len(set(found["cause"])) == len(scenario.population.mechanisms)
    assert {RESISTANT, CONTROLLED, RESPONDING} == set(found["depth"])


def test_what_follows_is_that_of_each_patient_by_themselves(alone):
    scenario, patients, found = alone
    course, draws = scenario.course, patients.draws
    names = [line.name for line in course.next_lines]
    beyond = ADDITION + 1 + names.index("continue_beyond_progression")
    seen = set()
    for i in range(COUNT):
        latent = resistance(scenario, patients, i, 24.0)
        lag = course.primary_lag if latent.depth == RESISTANT else course.acquired_lag
        lag *= np.exp(course.lag_sd * draws.normal("regrowth")[i])
        lag /= np.exp(course.growth_sd * draws.normal("growth_speed")[i])
        assert found["progression_time"][i] == pytest.approx(latent.time + lag, rel=CLOSE)
        detection, sites = found["detection_time"][i], found["sites"][i]
        share = course.oligo_primary if latent.depth == RESISTANT else course.oligo_acquired
        uniform = draws.uniform("progressing_sites")[i]
        assert sites == np.clip(np.ceil(3 * np.log(1 - uniform) / np.log(1 - share)), 1, 99)
        line, ratio, regained = next_line(scenario, patients, i, latent, sites, detection)
        end = latent.stop if line == beyond else min(latent.stop, detection)
        died = death(
            scenario, patients, i, latent, latent.time + lag, detection, ratio, regained, end
        )
        assert found["death_time"][i] == pytest.approx(died, rel=CLOSE)
        assert found["next_line"][i] == (line if detection < died else NO_LINE)
        seen.add((line, regained > 0.0))
    assert len(seen) == len(names) + 3, "no line, untreated, every line, one with and without gain"
