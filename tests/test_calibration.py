"""Counts of a curve, their likelihood, and whether a fit finds again what was simulated."""

import numpy as np
import pytest

from analysis.calibration import (
    IDENTIFIED,
    MONTHLY,
    STEP,
    Calibration,
    Profile,
    PublishedValue,
    calibrate,
    calibration_rows,
    expected_curve,
    expected_value,
    profile_parameters,
    survival_rows,
    value_residual,
)
from analysis.least_squares import Block, Priors, fit
from analysis.reference_fits import binned_log_likelihood
from sim import simulate_cohort
from sim.assessment import PD, PR
from sim.config import read_config
from sim.expected import cox_hazard_ratio, expected_arm, median_of, scan_times
from sim.parameter import Parameter, Template

EDGES = np.array([0.0, 2.0, 4.0, 6.0])


def counted(time, event, known=None):
    rows = survival_rows("pfs", np.array(time), np.array(event, dtype=bool), EDGES, known)
    return rows.edges.tolist(), rows.at_risk.tolist(), rows.events.tolist()


def test_events_lie_in_the_interval_that_they_end():
    edges, at_risk, events = counted([1.0, 2.0, 3.0, 5.0], [1, 1, 1, 1])
    assert edges == [0.0, 2.0, 4.0, 6.0]
    assert events == [2.0, 1.0, 1.0]
    assert at_risk == [4.0, 2.0, 1.0]


def test_the_censored_count_from_the_middle_of_an_interval_on():
    # At 2.9 not yet known to be free in (2, 4], at 3.0 counted in it.
    assert counted([5.0, 2.9], [1, 0])[1] == [2.0, 1.0, 1.0]
    assert counted([5.0, 3.0], [1, 0])[1] == [2.0, 2.0, 1.0]


def test_the_censored_count_from_the_scan_on_where_scans_are_known():
    known = np.array([0.5, 3.4, 5.5])
    assert counted([5.0, 3.3], [1, 0], known)[1] == [2.0, 1.0, 1.0]
    assert counted([5.0, 3.4], [1, 0], known)[1] == [2.0, 2.0, 1.0]


def test_who_is_censored_before_the_first_scan_counts_nowhere():
    assert counted([5.0, 0.2], [1, 0], np.array([0.5, 3.0, 5.0]))[1] == [1.0, 1.0, 1.0]


def test_intervals_after_the_last_patient_are_left_out():
    edges, at_risk, events = counted([1.0, 3.5], [1, 0])
    assert (edges, at_risk, events) == ([0.0, 2.0, 4.0], [2.0, 1.0], [1.0, 0.0])


@pytest.fixture(scope="module")
def start(composed):
    return read_config(
        composed("scenario=calibration", "strategy=[calibration_ici]", "assessment=keynote024")
    )


@pytest.fixture(scope="module")
def template(start):
    parameters = (
        ("primary", "population.strata.all.primary", "logit", 0.4, 0.8),
        ("responding", "population.strata.all.responding", "logit", 0.45, 0.8),
        ("tumour_death", "course.tumour_death_hazard", "log", 0.03, 0.5),
        ("acquired_scale", "population.acquired.scale", "log", 12.0, 0.4),
        ("primary_lag", "course.primary_lag", "log", 1.05, 0.1),
    )
    return Template(start, tuple(Parameter(*row) for row in parameters))


TRUTH = (0.30, 0.60, 0.045, 9.0, 1.05)


def taken(scenario, seed, n=400):
    """What a trial of some patients, followed for 30 months, publishes."""
    cohort = simulate_cohort(scenario, n_patients=n, seed=seed, follow_up=30.0)
    seen = cohort.observed
    curves = {
        "pfs": (seen.pfs_time[0, 0], seen.pfs_event[0, 0]),
        "os": (seen.os_time[0, 0], seen.os_event[0, 0]),
    }
    best = seen.best_response[0, 0]
    shares = {"orr": float(np.mean(best <= PR)), "bor_pd": float(np.mean(best == PD))}
    published = [
        PublishedValue(name, share, float(np.sqrt(share * (1.0 - share) / n)))
        for name, share in shares.items()
    ]
    return curves, published


@pytest.fixture(scope="module")
def found(template):
    scenario = template.scenario(TRUTH)
    curves, published = taken(scenario, seed=11)
    rows = calibration_rows(curves, scenario.assessment)
    return calibrate(template.scenario, "calibration_ici", template.parameters, rows, published)


def test_rows_are_of_scans_and_of_months(found, template):
    pfs, os = found.rows
    scans = scan_times(template.scenario(TRUTH).assessment)
    assert (pfs.endpoint, os.endpoint) == ("pfs", "os")
    assert pfs.edges[0] == 0.0
    # Each interval but the first holds the one scan that lies in its middle.
    inside = [
        np.sum((scans > a) & (scans < b))
        for a, b in zip(pfs.edges[1:-1], pfs.edges[2:], strict=True)
    ]
    assert inside == [1] * len(inside)
    assert os.edges.tolist() == MONTHLY[: len(os.edges)].tolist()
    assert pfs.events.sum() == sum(taken(template.scenario(TRUTH), 11)[0]["pfs"][1])


def test_continuous_watching_is_counted_by_the_month(composed):
    config = read_config(composed("scenario=calibration", "assessment=special_continuous"))
    assessment = Template(config, ()).scenario([]).assessment
    (rows,) = calibration_rows({"pfs": (np.array([3.2, 5.0]), np.array([True, True]))}, assessment)
    assert rows.edges.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_likelihood_is_that_of_bins():
    """Each is censored at an edge, so that the two ways of counting must agree."""
    rng = np.random.default_rng(3)
    time, event = rng.uniform(0.05, 6.0, 200), rng.random(200) < 0.6
    time = np.where(event, time, np.ceil(time / 2.0) * 2.0)
    rows = survival_rows("os", time, event, EDGES)
    curve = np.array([1.0, 0.7, 0.45, 0.3])
    ours = rows.log_likelihood(curve)
    assert ours == pytest.approx(binned_log_likelihood(time, event, EDGES, curve), rel=1e-12)
    other = np.array([1.0, 0.7, 0.45, 0.31])
    assert abs(rows.log_likelihood(other) - ours) > 0.1


def test_squared_residuals_are_the_deviance():
    time, event = np.array([1.0, 1.5, 3.0, 5.0, 6.0, 6.0]), np.array([1, 1, 1, 1, 0, 0], dtype=bool)
    rows = survival_rows("os", time, event, EDGES)
    curves = [np.array([1.0, a, b, c]) for a, b, c in ((0.7, 0.5, 0.3), (0.9, 0.4, 0.39))]
    halves = [np.sum(rows.residuals(curve) ** 2) / 2.0 for curve in curves]
    likelihoods = [rows.log_likelihood(curve) for curve in curves]
    assert halves[0] - halves[1] == pytest.approx(likelihoods[1] - likelihoods[0], rel=1e-12)
    # The saturated curve has none; a residual is positive where more events came than expected.
    share = np.concatenate([[1.0], np.cumprod(1.0 - rows.events / rows.at_risk)])
    assert rows.residuals(share) == pytest.approx(np.zeros(3), abs=1e-6)
    assert rows.residuals(np.array([1.0, 0.9, 0.5, 0.3]))[0] > 0.0 > rows.residuals(
        np.array([1.0, 0.3, 0.2, 0.1]))[0]  # fmt: skip


def test_a_curve_that_reaches_nobody_stays_finite():
    rows = survival_rows("os", np.array([1.0, 5.0]), np.array([True, True]), EDGES)
    assert np.isfinite(rows.residuals(np.array([1.0, 1.0, 0.0, 0.0]))).all()
    assert np.isfinite(rows.log_likelihood(np.array([1.0, 1.0, 0.0, 0.0])))


# ---------------------------------------------------------------- published numbers


@pytest.fixture(scope="module")
def arm(template):
    return expected_arm(template.scenario(TRUTH), "calibration_ici", 256)


def test_measures_are_those_of_the_arm(arm):
    grid = np.arange(0.0, 60.0, 0.02)
    assert expected_value(arm, "orr") == arm.response_rate
    assert expected_value(arm, "bor_pd") == arm.progressive_disease_rate
    assert expected_value(arm, "completed") == arm.completed
    assert expected_value(arm, "rate_os_12") == float(arm.alive(12.0))
    assert expected_value(arm, "rate_pfs_7.5") == float(arm.progression_free(7.5))
    median = median_of(grid, arm.alive(grid))
    assert expected_value(arm, "median_os") == pytest.approx(median, abs=0.02)


def test_a_hazard_ratio_is_that_of_the_two_curves(arm, template):
    worse = expected_arm(template.scenario((0.5, 0.6, 0.045, 9.0, 1.05)), "calibration_ici", 256)
    fine = np.arange(0.0, 60.01, 0.05)
    ratio = cox_hazard_ratio(worse.alive(fine), arm.alive(fine))
    # The grid of the fit is coarser.
    assert expected_value(arm, "hr_os", worse) == pytest.approx(ratio, rel=0.02)
    assert ratio < 0.9
    found = value_residual(arm, PublishedValue("hr_os", ratio, 0.1), worse)
    assert found == pytest.approx(0.0, abs=0.2)
    assert value_residual(arm, PublishedValue("hr_os", 1.5 * ratio, 0.1), worse) < -3.0


@pytest.mark.parametrize("measure", ["nothing", "hr_os", "rate_ttp_12", "median_ttp"])
def test_there_is_no_expected_value_of_other_things(arm, measure):
    with pytest.raises(ValueError, match="no expected"):
        expected_value(arm, measure)


def test_residuals_are_differences_in_standard_errors(arm):
    value = PublishedValue("orr", arm.response_rate - 0.06, 0.03)
    assert value_residual(arm, value) == pytest.approx(2.0)
    median = expected_value(arm, "median_os")
    low = value_residual(arm, PublishedValue("median_os", median * 1.3, 1.0))
    middle = value_residual(arm, PublishedValue("median_os", median, 1.0))
    assert low < -1.0 < abs(middle) < 1.0 or abs(middle) < 0.5
    assert low < middle


# ---------------------------------------------------------------- recovery


def test_what_was_simulated_is_found_again(found):
    assert found.fit.converged
    free = np.array([p.free(v) for p, v in zip(found.parameters, TRUTH, strict=True)])
    z = (found.fit.x - free) / np.sqrt(np.diag(found.fit.covariance))
    # Chance: five numbers within three standard errors, one seed; 20 of them are looked at in
    # tests/verification/calibration.py.
    assert np.abs(z).max() < 3.0
    # Where it began, the priors' means, is refused for what the data say.
    begin = np.array([p.free(p.mean) for p in found.parameters])
    off = (found.fit.x - begin) / np.sqrt(np.diag(found.fit.covariance))
    assert np.abs(off[:3]).max() > 3.0
    # No more than chance is left: 40 counts or so.
    assert 10.0 < found.fit.deviance < 80.0


def test_the_fit_is_a_minimum(found):
    x = found.fit.x
    (block,) = found.blocks

    def objective(v):
        return np.sum(block.residuals(v) ** 2) + np.sum(found.fit.priors.residuals(v) ** 2)

    sd = np.sqrt(np.diag(found.fit.covariance))
    for j in range(len(x)):
        for sign in (-1.0, 1.0):
            moved = x.copy()
            moved[j] += 0.5 * sign * sd[j]
            assert objective(moved) > objective(x)


def test_estimates_are_in_the_unit_of_the_number(found):
    assert found.values[0] == pytest.approx(1.0 / (1.0 + np.exp(-found.fit.x[0])))
    assert found.values[2] == pytest.approx(np.exp(found.fit.x[2]))
    sd = np.sqrt(np.diag(found.fit.covariance))
    value = found.values[0]
    assert found.standard_errors[0] == pytest.approx(sd[0] * value * (1.0 - value))
    assert found.standard_errors[2] == pytest.approx(sd[2] * found.values[2])
    curve = expected_curve(found.arm(), "os", np.array([12.0]))
    assert curve == pytest.approx(found.arm(found.fit.x).alive(np.array([12.0])))


def test_profiles_mark_what_is_not_identified(found):
    profiles = {p.parameter.name: p for p in profile_parameters(found, n_values=5)}
    assert profiles["primary"].identified
    assert profiles["tumour_death"].identified
    # Its prior is narrow and progression is only seen at scans.
    assert not profiles["primary_lag"].identified
    for profile in profiles.values():
        assert profile.deviance.min() == pytest.approx(0.0, abs=0.5)
        assert np.all(np.diff(profile.values) > 0.0)


def test_a_profile_must_rise_on_both_sides():
    p = Parameter("x", "a.b", "log", 1.0, 1.0)
    values = np.array([0.5, 1.0, 2.0])
    above, below = IDENTIFIED + 0.1, IDENTIFIED - 0.1
    assert Profile(p, values, np.array([above, 0.0, above])).identified
    assert not Profile(p, values, np.array([above, 0.0, below])).identified
    assert not Profile(p, values, np.array([below, 0.0, above])).identified


def test_a_number_that_no_data_touch_stays_at_its_prior_and_is_flat(found):
    """The same fit with one more number, on which nothing depends."""
    extra = Parameter("idle", "a.b", "log", 2.0, 0.5)
    (block,) = found.blocks
    n = len(found.parameters)
    blocks = (Block(np.arange(n), block.residuals),)
    means = np.append(found.fit.priors.means, extra.free(2.0) / 0.5)
    weights = np.diag(np.append(np.diag(found.fit.priors.weights), 2.0))
    wider = fit(blocks, Priors(weights, means), np.append(found.fit.x, 0.0), step=STEP)
    whole = Calibration((*found.parameters, extra), found.rows, found.published, wider, blocks,
                        found.scenario, found.strategy)  # fmt: skip
    assert whole.values[-1] == pytest.approx(2.0, rel=1e-6)
    assert wider.shrinkage[-1] == pytest.approx(1.0, abs=1e-9)
    assert not profile_parameters(whole, n_values=3)[-1].identified
