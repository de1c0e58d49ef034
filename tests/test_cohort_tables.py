"""The tables made from a cohort agree with the cohort and with each other."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from analysis.cohort import (
    ENDPOINTS,
    cross_definitions,
    endpoint_times,
    estimate_contrasts,
    estimate_curves,
    estimate_incidence,
    estimate_occupancy,
    estimate_responses,
)
from analysis.patients import patient_table
from sim import simulate_cohort
from sim.command import register_schema
from sim.config import read_run

GRID = np.arange(0.0, 60.1, 3.0)


@pytest.fixture(scope="module")
def run():
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run"))


@pytest.fixture(scope="module")
def cohort(run):
    return simulate_cohort(run.scenario, n_patients=1500, seed=11)


def test_every_strategy_has_every_curve(cohort):
    curves, summary = estimate_curves(cohort, ENDPOINTS, [12.0], np.arange(0.0, 61.0, 12.0))
    pairs = set(zip(curves["arm"], curves["endpoint"], strict=True))
    assert pairs == {(arm, endpoint) for arm in cohort.strategies for endpoint in ENDPOINTS}
    assert (curves["lower"] <= curves["survival"]).all()
    assert (curves["survival"] <= curves["upper"]).all()
    assert set(summary["measure"]) == {"median", "rate_12"}


def test_occupancy_is_counted_from_the_latent_times(cohort):
    table = estimate_occupancy(cohort, GRID)
    total = table.groupby(["arm", "time"])["share"].sum()
    np.testing.assert_allclose(total, 1.0, atol=1e-12)
    s, t = 2, 12.0
    row = table[(table["arm"] == cohort.strategies[s]) & (table["time"] == t)]
    share = row.set_index("state")["share"]
    death, seen = cohort.death_time[0, s], cohort.detection_time[0, s]
    assert share["dead"] == pytest.approx(np.mean(death <= t))
    assert share["progressed"] == pytest.approx(np.mean((seen <= t) & (death > t)))
    benefit = (cohort.resistance_time[0, s] > t) & (death > t)
    assert share["durable_benefit"] == pytest.approx(np.mean(benefit & cohort.durable[0, s]))


def test_incidences_add_up_to_the_progression_free_curve(cohort):
    table = estimate_incidence(cohort, GRID)
    curves, _ = estimate_curves(cohort, ["pfs"], [12.0], GRID)
    for arm in cohort.strategies:
        total = table[table["arm"] == arm].groupby("time")["incidence"].sum()
        curve = curves[curves["arm"] == arm].set_index("time")["survival"]
        np.testing.assert_allclose(1.0 - total.loc[GRID], curve.loc[GRID], atol=1e-10)


def test_each_rule_labels_every_patient_once(run, cohort):
    table = cross_definitions(cohort, run.definitions)
    totals = table.groupby(["arm", "rule"])["patients"].sum()
    assert len(totals) == len(cohort.strategies) * len(run.definitions)
    assert (totals == 1500).all()
    latent = table.groupby(["arm", "rule", "latent"])["patients"].sum().unstack("rule")
    assert (latent.nunique(axis=1) == 1).all(), "the latent classes do not depend on the rule"


def test_contrasts_are_paired_means(cohort):
    table = estimate_contrasts(cohort, 0, [12.0], 60.0)
    row = table[(table["arm"] == cohort.strategies[1]) & (table["measure"] == "rate_difference_12")]
    alive = cohort.death_time[0] > 12.0
    difference = alive[1] * 1.0 - alive[0] * 1.0
    value = row[row["endpoint"] == "os"].iloc[0]
    assert value["estimate"] == pytest.approx(difference.mean())
    assert value["mc_error"] == pytest.approx(difference.std() / np.sqrt(1500))


def test_response_rates_are_shares_of_all_patients(cohort):
    table = estimate_responses(cohort).set_index(["arm", "measure"])["estimate"]
    best = cohort.observed.best_response[0, 0]
    assert table[cohort.strategies[0], "orr"] == pytest.approx(np.mean(best <= 1))


def test_acquired_resistance_leaves_out_primary_resistance(cohort):
    time, _ = endpoint_times(cohort, "acquired_resistance", 0)
    assert len(time) == np.sum(~cohort.primary[0, 0])
    assert time.min() > 0.0
    with pytest.raises(ValueError, match="endpoint must be one of"):
        endpoint_times(cohort, "ttp", 0)


def test_the_patient_table_has_a_row_for_each_patient_and_strategy(run, cohort):
    table = patient_table(cohort, run.scenario)
    assert len(table) == 1500 * len(cohort.strategies)
    rows = table[table["strategy"] == cohort.strategies[1]]
    np.testing.assert_array_equal(rows["os_time"], cohort.observed.os_time[0, 1])
    assert (table["pfs_time"] <= table["os_time"]).all()
