"""What holds of every patient under every strategy, whatever the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from sim import simulate_cohort
from sim.assessment import CR, NE, PD, PR, SD, TICK, to_tick
from sim.course import NO_LINE
from sim.definitions import LABELS, classify
from sim.resistance import RESISTANT, RESPONDING
from sim.scenario import DAYS_PER_MONTH

N = 4_000
FOLLOW_UP = 48.0

WATCHED = {
    "as shipped": {},
    "continuous": {"every": np.array([0.0]), "until": np.array([np.inf])},
    "by the book": {
        "jitter_sd": 0.0, "missed": 0.0, "symptomatic": 0.0, "pseudoprogression": 0.0,
    },
    "carelessly": {
        "jitter_sd": 12.0, "missed": 0.4, "symptomatic": 0.4, "pseudoprogression": 0.2,
        "withdrawal": 0.05, "missed_before_censoring": 2,
    },
    "by iRECIST": {"criteria": "irecist", "missed": 0.2},
}  # fmt: skip


@pytest.fixture(scope="module", params=WATCHED.values(), ids=WATCHED.keys())
def cohort(request, toolbox):
    scenario = toolbox.scenario
    watched = replace(scenario.assessment, **request.param)
    scenario = replace(scenario, assessment=watched)
    cohort = simulate_cohort(scenario, n_patients=N, seed=20240601, follow_up=FOLLOW_UP)
    return cohort, scenario


def test_no_number_is_missing_and_no_time_is_negative(cohort):
    cohort, _ = cohort
    for part in (cohort, cohort.observed):
        for name in part.__slots__:
            values = getattr(part, name)
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                assert not np.any(np.isnan(values)), name
                assert np.all(values >= 0.0), name
    assert np.all(cohort.death_time > 0.0)


def test_depth_nothing_and_resistance_at_nought_are_the_same(cohort):
    cohort, _ = cohort
    assert np.array_equal(cohort.depth == RESISTANT, cohort.resistance_time == 0.0)
    assert np.array_equal(cohort.primary, cohort.depth == RESISTANT)


def test_a_cause_is_named_exactly_where_resistance_comes(cohort):
    cohort, _ = cohort
    assert np.array_equal(cohort.cause == -1, np.isinf(cohort.resistance_time))
    assert cohort.cause.max() < len(cohort.causes)


def test_resistance_progression_and_detection_follow_each_other(cohort):
    cohort, _ = cohort
    ended = np.isfinite(cohort.resistance_time)
    assert np.array_equal(np.isfinite(cohort.progression_time), ended)
    assert np.all(cohort.progression_time[ended] > cohort.resistance_time[ended])
    assert np.all(cohort.detection_time >= cohort.progression_time)
    lived = cohort.detection_time < cohort.death_time
    assert np.array_equal(cohort.next_line == NO_LINE, ~lived)
    assert cohort.sites.min() >= 1


def test_every_baseline_cause_of_primary_resistance_is_present(cohort):
    cohort, scenario = cohort
    from sim.patient import draw_patients
    from sim.randomness import Streams

    patients = draw_patients(scenario.population, Streams(20240601, 0, 1, N))
    s = cohort.strategies.index("triple")
    primary = np.flatnonzero(cohort.primary[0, s])
    assert np.all(patients.present[cohort.cause[0, s, primary], primary])


def test_a_next_line_is_given_only_to_those_who_are_eligible(cohort):
    cohort, scenario = cohort
    line = np.array([*cohort.next_lines, "none"])[cohort.next_line]
    assert np.all(cohort.sites[line == "local_ablation"] <= 3)
    causes = np.array([*cohort.causes, "none"])[cohort.cause[line == "matched_switch"]]
    assert set(causes) == set(scenario.population.mechanisms[:2])
    later = set(line[:, cohort.strategies.index("added_later")].ravel())
    # Where the addition undoes nothing, the patients get what the others get.
    assert {"addition", "untreated", "local_ablation"} <= later
    s = cohort.strategies.index("control")
    assert np.any(line[:, s] == "crossover")
    assert not np.any(np.delete(line, s, axis=1) == "crossover")


def test_progression_free_survival_is_never_longer_than_survival(cohort):
    seen = cohort[0].observed
    assert np.all(seen.pfs_time <= seen.os_time)
    assert np.all(seen.os_time <= to_tick(np.array(FOLLOW_UP)))
    died_first = seen.pfs_event & (seen.pfs_time < seen.progression_time)
    assert np.array_equal(seen.pfs_time[died_first], seen.os_time[died_first])
    assert np.all(seen.os_event[died_first])


def test_observed_times_are_whole_ticks_and_not_before_the_first(cohort):
    seen = cohort[0].observed
    for name in ("pfs_time", "os_time", "progression_time", "response_time", "last_dose"):
        values = getattr(seen, name)
        values = values[np.isfinite(values)]
        ticks = values / TICK
        assert np.array_equal(ticks, np.round(ticks)), name
        assert ticks.min() >= 1.0, name


def test_scans_take_place_on_whole_days(cohort):
    cohort, scenario = cohort
    seen = cohort.observed
    if scenario.assessment.continuous:
        return
    at_scan = np.isfinite(seen.progression_time) & ~seen.rapid
    for values in (
        seen.progression_time[at_scan],
        seen.response_time[np.isfinite(seen.response_time)],
    ):
        assert np.array_equal(to_tick(np.round(values * DAYS_PER_MONTH) / DAYS_PER_MONTH), values)


def test_scan_day_ties_are_exact(cohort):
    cohort, scenario = cohort
    seen, watch = cohort.observed, scenario.assessment
    if watch.continuous or watch.jitter_sd > 0.0 or watch.symptomatic > 0.0:
        return
    times = np.unique(seen.progression_time[np.isfinite(seen.progression_time)])
    assert len(times) < FOLLOW_UP * DAYS_PER_MONTH / 7.0 / watch.every.min() + 1.0
    assert np.diff(times).min() > 1.0


def test_only_a_responding_patient_has_a_response_and_before_progression(cohort):
    cohort, _ = cohort
    seen = cohort.observed
    responded = np.isfinite(seen.response_time)
    assert np.all(cohort.depth[responded] == RESPONDING)
    assert np.array_equal(responded, np.isin(seen.best_response, (CR, PR)))
    assert np.all(seen.response_time[responded] < cohort.progression_time[responded])
    assert np.all(seen.response_time[responded] < seen.progression_time[responded])
    assert np.all(seen.response_time[responded] <= seen.pfs_time[responded])


def test_best_response_says_progression_or_nothing_only_without_a_good_scan(cohort):
    cohort, scenario = cohort
    seen = cohort.observed
    progressed = np.isfinite(seen.progression_time)
    assert np.all(progressed[seen.best_response == PD])
    assert not np.any(progressed[seen.best_response == NE])
    least = scenario.assessment.stable_minimum * 7.0 / DAYS_PER_MONTH
    assert np.all(seen.os_time[seen.best_response == SD] >= least)


def test_a_recorded_progression_is_seen_in_life_and_within_follow_up(cohort):
    seen = cohort[0].observed
    recorded = np.isfinite(seen.progression_time)
    assert np.all(seen.progression_time[recorded] <= seen.os_time[recorded])
    assert not np.any((seen.confirmed | seen.rapid) & ~recorded)
    assert np.all(seen.last_dose <= seen.os_time)


def test_every_rule_gives_every_patient_one_label(cohort, default_run):
    seen = cohort[0].observed
    assert len(default_run.definitions) >= 5
    for rule in default_run.definitions:
        label = classify(seen, rule)
        counts = np.stack([np.sum(label == code, axis=-1) for code in range(len(LABELS))])
        assert np.array_equal(counts.sum(axis=0), np.full(label.shape[:2], N))
        progressed = np.isfinite(seen.progression_time)
        without = [LABELS.index(name) for name in ("no_progression", "early_death")]
        assert np.array_equal(np.isin(label, without), ~progressed & seen.immune)
        assert np.array_equal(label == LABELS.index("not_applicable"), ~seen.immune)


def test_arrays_of_a_cohort_cannot_be_written_to(cohort):
    cohort, _ = cohort
    for part in (cohort, cohort.observed):
        for name in part.__slots__:
            values = getattr(part, name)
            if isinstance(values, np.ndarray):
                assert not values.flags.writeable, name
