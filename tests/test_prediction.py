"""Predictions of trials to come: scores, intervals, sampling error, parts of the variance."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from scipy import stats

from analysis.pooling import (
    HYPERPRIORS,
    KINDS,
    PooledMeans,
    draw_new_trial,
    new_trial,
    tied_parameters,
)
from analysis.prediction import LEVELS, Predicted, PredictedArm, months, normal_scores, predict
from sim import simulate_cohort
from sim.pooled import pooled_trial
from sim.predicted import Design, asked_trial

POOL = files("configs") / "pool" / "nsclc.json"


@pytest.fixture(scope="module")
def means():
    return PooledMeans.read(POOL)


@pytest.fixture(scope="module")
def pooled():
    return pooled_trial("LEAP008")


@pytest.fixture(scope="module")
def made(pooled, means):
    n = {(name, None): float(count) for name, count in pooled.published.n.items()}
    return predict(pooled.trial, means, n, 36.0)


# ---------------------------------------------------------------- the stored pool


@pytest.mark.long
def test_the_stored_pool_has_every_shared_mean_and_the_trials_whose_numbers_it_keeps(means):
    assert means.names == tuple(HYPERPRIORS)
    assert {kind.group for kind in KINDS.values()} <= means.scatter.keys()
    for name, own in means.trials.items():
        assert list(own) == [t.parameter.name for t in pooled_trial(name).trial.parameters]


def test_a_pool_is_read_as_it_was_written(means, tmp_path):
    means.write(tmp_path / "pool.json")
    again = PooledMeans.read(tmp_path / "pool.json")
    assert again.trials == means.trials and again.scatter == means.scatter
    np.testing.assert_array_equal(again.covariance, means.covariance)


def test_a_damaged_pool_is_refused(means, tmp_path):
    content = json.loads(POOL.read_text())
    content["covariance"][0][0] = -1.0
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="positive definite"):
        PooledMeans.read(tmp_path / "a.json")
    content["means"].popitem()
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="48 means"):
        PooledMeans.read(tmp_path / "a.json")


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("dimensions", [1, 20, 31, 45])
def test_scores_have_the_moments_of_a_normal_law(dimensions):
    scores = normal_scores(200, dimensions)
    np.testing.assert_allclose(scores.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scores.T @ scores / 200, np.eye(dimensions), atol=1e-9)


def test_sums_of_many_scores_have_normal_quantiles():
    """Predictions depend on many numbers: in 400 directions, the 10th percentile within 0.15."""
    directions = np.random.default_rng(1).normal(size=(30, 400))
    sums = normal_scores(200, 30) @ (directions / np.linalg.norm(directions, axis=0))
    found = np.quantile(sums, [0.1, 0.25, 0.75, 0.9], axis=0)
    expected = stats.norm.ppf([0.1, 0.25, 0.75, 0.9])
    np.testing.assert_allclose(found.mean(axis=1), expected, atol=0.03)
    assert np.abs(found - expected[:, None]).max() < 0.4


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="do not stand for"):
        normal_scores(200, 50)


def test_drawn_numbers_have_the_law_written_out_by_hand(means):
    """A later-line trial: primary is the mean of its class and of the line, scatter beside."""
    parameters = tied_parameters("later", {"tps_high": {"high": 1.0}}, True, {}, False)
    free = draw_new_trial(means, parameters, normal_scores(200, len(parameters)))
    at = {name: j for j, name in enumerate(means.names)}
    one, two = at["primary/high"], at["primary/later"]
    i = next(k for k, t in enumerate(parameters) if t.kind == "primary")
    mean = means.values[one] + means.values[two]
    known = means.covariance[one, one] + means.covariance[two, two] + 2 * means.covariance[one, two]
    assert free[:, i].mean() == pytest.approx(mean, abs=1e-9)
    assert free[:, i].var() == pytest.approx(known + means.scatter["share"] ** 2, rel=1e-6)


def test_each_source_of_uncertainty_can_be_left_out(means):
    parameters = tied_parameters("first", {"all": {"high": 0.5, "low": 0.5}}, True, {}, False)
    scores = normal_scores(200, len(parameters))
    none = draw_new_trial(means, parameters, scores, calibration=False, between=False)
    np.testing.assert_allclose(
        none, np.broadcast_to(new_trial(means, parameters).centre, none.shape)
    )
    trial = new_trial(means, parameters)
    between = draw_new_trial(means, parameters, scores, calibration=False)
    np.testing.assert_allclose(between.var(axis=0), trial.between, rtol=1e-6)
    calibration = draw_new_trial(means, parameters, scores, between=False)
    np.testing.assert_allclose(calibration.var(axis=0), np.diag(trial.calibration), rtol=1e-6)


def test_an_unknown_mean_is_refused(means):
    parameters = tied_parameters("first", {"x": {"unheard": 1.0}}, False, {}, False)
    assert new_trial(means, parameters).centre.size == 0
    known = tied_parameters("first", {"x": {"high": 1.0}}, True, {}, False)
    with pytest.raises(ValueError, match="no mean"):
        new_trial(means, [replace(known[0], means={"primary/unheard": 1.0})])


# ---------------------------------------------------------------- quantities


def test_one_draw_with_sampling_error_is_a_normal_law_on_its_scale():
    share = Predicted(np.array([0.4]), 0.5 / np.sqrt(100), "share")
    low, middle, high = share.quantile([0.1, 0.5, 0.9])
    # Binomial 100 x 0.4: standard error 0.049.
    assert middle == pytest.approx(0.4, abs=1e-6)
    assert (high - low) / (2 * 1.2816) == pytest.approx(0.049, rel=0.01)
    ratio = Predicted(np.array([0.7]), 0.1, "log")
    expected = 0.7 * np.exp(0.1 * stats.norm.ppf([0.1, 0.9]))
    np.testing.assert_allclose(ratio.quantile([0.1, 0.9]), expected, rtol=1e-6)
    assert ratio.chance_below(1.0) == pytest.approx(stats.norm.cdf(-np.log(0.7) / 0.1))


def test_quantiles_of_a_mixture_invert_its_distribution():
    draws = np.random.default_rng(2).uniform(0.2, 0.6, size=(200, 3))
    curve = Predicted(draws, 0.05, "share")
    for level in LEVELS:
        np.testing.assert_allclose(curve.chance_below(curve.quantile(level)), level, atol=1e-6)


def test_the_density_is_that_of_the_distribution():
    ratio = Predicted(np.random.default_rng(3).uniform(0.5, 0.9, 200), 0.12, "log")
    grid = np.geomspace(0.2, 2.0, 4001)
    total = np.trapezoid(ratio.density(grid), np.log(grid))
    assert total == pytest.approx(1.0, abs=1e-4)
    part = np.trapezoid(ratio.density(grid[grid <= 0.7]), np.log(grid[grid <= 0.7]))
    assert part == pytest.approx(float(ratio.chance_below(0.7)), abs=2e-3)


def test_the_median_of_an_exponential_curve_and_its_sampling_error():
    """Exponential, median 10 months, n = 400: the sample median has error 1 / (2 f sqrt(n))."""
    time = months(60.0)
    curve = np.exp(-np.log(2.0) * time / 10.0)[None, :]
    arm = PredictedArm(400.0, time, {"os": curve}, np.array([0.3]))
    assert arm.median("os", 0.5, observed=False) == pytest.approx(10.0, abs=0.01)
    low, middle, high = arm.median("os", [0.1, 0.5, 0.9])
    density = np.log(2.0) / 10.0 * 0.5
    assert middle == pytest.approx(10.0, abs=0.1)
    assert (high - low) / 2.563 == pytest.approx(0.5 / (density * np.sqrt(400.0)), rel=0.05)


def test_a_median_that_is_not_reached_is_infinite():
    time = months(24.0)
    arm = PredictedArm(50.0, time, {"os": np.full((1, len(time)), 0.8)}, np.array([0.3]))
    assert arm.median("os", 0.5) == np.inf


def test_a_month_beyond_the_curves_is_refused(made, pooled):
    with pytest.raises(ValueError, match="beyond"):
        made.arm(pooled.trial.strategies[0]).rate("os", 60.0)


# ---------------------------------------------------------------- a trial


def test_published_results_are_not_looked_at(pooled, means, made):
    blind = replace(pooled.trial, results=())
    name = pooled.trial.strategies[0]
    again = predict(blind, means, {(name, None): 100.0}, 36.0)
    np.testing.assert_array_equal(again.arm(name).curves["os"], made.arm(name).curves["os"])


def test_curves_fall_and_progression_free_survival_is_below_survival(made):
    for arm in made.parts.values():
        for curve in arm.curves.values():
            assert np.all(np.diff(curve, axis=1) <= 1e-9) and np.all(curve[:, 0] > 0.99)
        assert np.all(arm.curves["pfs"] <= arm.curves["os"] + 1e-9)


@pytest.mark.long
def test_two_arms_of_the_same_draw_share_it(means):
    """The same treatment twice: a hazard ratio of 1 in each draw, which draws that do not belong
    together do not have."""
    asked = asked_trial(Design({"high": 1.0}, "first", ("anti_pd1",), ("anti_pd1",)))
    made = predict(asked.trial, means, {("experimental", None): 1.0, ("control", None): 1.0}, 24.0)
    ratio = made.hazard_ratio("os", "experimental", "control", 24.0)
    np.testing.assert_allclose(ratio.draws, 1.0, atol=1e-9)
    turned = {k: np.roll(v, 77, axis=0) for k, v in made.arm("control").curves.items()}
    parts = {**made.parts, ("control", None): replace(made.arm("control"), curves=turned)}
    apart = replace(made, parts=parts).hazard_ratio("os", "experimental", "control", 24.0)
    assert np.log(apart.draws).std() > 0.1


def test_parts_of_the_variance_add_up_and_agree_with_leaving_sources_out(pooled, means, made):
    name = pooled.trial.strategies[1]
    rate = made.arm(name).rate("os", 12.0)
    shares = made.shares(rate)
    centres = rate.free(rate.draws)
    assert shares.total == pytest.approx(centres.var() + 0.25 / made.arm(name).n)
    for what, part in (("calibration", shares.between_trials), ("between", shares.calibration)):
        alone = predict(pooled.trial, means, {(name, None): 1.0}, 12.0, **{what: False})
        drawn = alone.arm(name).rate("os", 12.0)
        assert drawn.free(drawn.draws).var() == pytest.approx(part, rel=0.25)


def test_a_larger_trial_has_less_sampling_error_and_the_same_truth(made, pooled):
    name = pooled.trial.strategies[0]
    small, large = (replace(made.arm(name), n=n).rate("os", 12.0) for n in (50.0, 5000.0))
    wide, narrow = (np.ptp(x.quantile([0.1, 0.9])) for x in (small, large))
    assert narrow < wide
    np.testing.assert_array_equal(
        small.quantile(LEVELS, observed=False), large.quantile(LEVELS, observed=False)
    )
    assert np.ptp(large.quantile([0.1, 0.9])) == pytest.approx(
        np.ptp(large.quantile([0.1, 0.9], observed=False)), rel=0.05
    )


@pytest.mark.long
def test_few_lattice_points_are_enough(pooled, means):
    """Middles of curves differ from those of eight times the points by less than the standard
    error of 300 patients, 0.029, in the trial with the fewest classes of patients."""
    name = pooled.trial.strategies[0]
    few = predict(pooled.trial, means, {(name, None): 1.0}, 36.0)
    many = predict(pooled.trial, means, {(name, None): 1.0}, 36.0, n_points=512)
    for endpoint in ("pfs", "os"):
        middles = [np.median(made.arm(name).curves[endpoint], axis=0) for made in (few, many)]
        assert np.abs(middles[0] - middles[1]).max() < 0.029


def test_sampling_error_is_that_of_simulated_trials(pooled, means):
    """150 trials of 187 patients cut from one cohort: the share alive at 12 months scatters by the
    error that is added. The standard deviation of 150 has an error of 6 %: 20 % off is noticed."""
    trial, n, count = pooled.trial, 187, 150
    centre = new_trial(means, trial.parameters).centre
    scenario = trial.scenario(
        [t.parameter.value(x) for t, x in zip(trial.parameters, centre, strict=True)]
    )
    name = trial.strategies[0]
    cohort = simulate_cohort(scenario, n_patients=n * count, seed=3, follow_up=24.0)
    alive = cohort.death_time[0, cohort.strategies.index(name)] > 12.0
    seen = alive.reshape(count, n).mean(axis=1)
    made = predict(trial, means, {(name, None): float(n)}, 12.0, calibration=False, between=False)
    rate = made.arm(name).rate("os", 12.0)
    assert seen.mean() == pytest.approx(
        float(rate.draws[0]), abs=4 * 0.5 / np.sqrt(n * count) + 0.01
    )
    assert rate.free(seen).std() == pytest.approx(float(np.max(rate.error)), rel=0.2)
