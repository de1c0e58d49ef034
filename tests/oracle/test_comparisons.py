"""Batched statistics on simulated data with no, some and mostly ties, against other programs."""

from pathlib import Path

import numpy as np
import pytest
from lifelines import AalenJohansenFitter, CoxPHFitter, KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import logrank_test
from lifelines.utils import restricted_mean_survival_time
from pandas import DataFrame
from samples import made, random_trials, sample_of, strata_of
from scipy import optimize, stats

from analysis.comparison.average_hazard_ratio import average_hazard_ratio
from analysis.comparison.cox import cox, stratified_cox
from analysis.comparison.curve import aalen_johansen, kaplan_meier, nelson_aalen, number_at_risk
from analysis.comparison.fleming_harrington import fleming_harrington
from analysis.comparison.logrank import logrank, stratified_logrank
from analysis.comparison.maxcombo import fh_statistics, maxcombo, normal_exceedance
from analysis.comparison.median import median_difference, median_survival
from analysis.comparison.milestone import survival_at
from analysis.comparison.response_rate import response_rate_difference
from analysis.comparison.rmst import restricted_mean

GRIDS = {"untied": 0.0, "some_ties": 0.5, "mostly_ties": 4.0}
EXACT = 1e-9

with_ties = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


@with_ties
def test_logrank_agrees_with_two_independent_implementations(grid):
    time, event, arm = random_trials(grid)
    z = logrank(sample_of(time, event, arm)).z
    for ours, t, e, a in zip(z, time, event, arm, strict=True):
        sample = [stats.CensoredData.right_censored(t[g], ~e[g]) for g in (a, ~a)]
        # SciPy's sign is positive when the first sample has more events.
        assert ours == pytest.approx(-stats.logrank(*sample).statistic, rel=EXACT, abs=1e-12)
        theirs = logrank_test(t[a], t[~a], e[a], e[~a])
        assert ours**2 == pytest.approx(theirs.test_statistic, rel=EXACT, abs=1e-12)


@with_ties
@pytest.mark.parametrize("weights", [(0, 1), (1, 0), (1, 1), (0, 0.5), (0.3, 0.7)])
def test_fleming_harrington_agrees_with_lifelines(grid, weights):
    time, event, arm = random_trials(grid, shape=(5, 60))
    z = fleming_harrington(sample_of(time, event, arm), *weights).z
    for ours, t, e, a in zip(z, time, event, arm, strict=True):
        theirs = logrank_test(
            t[a], t[~a], e[a], e[~a], weightings="fleming-harrington", p=weights[0], q=weights[1]
        )
        assert ours**2 == pytest.approx(theirs.test_statistic, rel=EXACT, abs=1e-12)


@with_ties
def test_cox_agrees_with_lifelines(grid):
    time, event, arm = random_trials(grid, shape=(6, 80))
    result = cox(sample_of(time, event, arm))
    for i in range(len(time)):
        table = DataFrame({"t": time[i], "e": event[i], "a": arm[i].astype(float)})
        theirs = CoxPHFitter().fit(table, "t", "e", fit_options={"precision": 1e-12})
        # Their iteration stops by a rule of its own, which leaves up to 1e-5.
        assert result.estimate[i] == pytest.approx(theirs.params_["a"], abs=2e-5)
        assert result.standard_error[i] == pytest.approx(theirs.standard_errors_["a"], rel=1e-5)


def efron_score(beta, time, event, arm):
    """Score and information of Efron's partial likelihood, by loops over times and tied events."""
    score = information = 0.0
    weight = np.exp(beta * arm)
    for t in np.unique(time[event]):
        here = (time == t) & event
        d = here.sum()
        for k in range(d):
            total = weight[time >= t].sum() - k / d * weight[here].sum()
            one = weight[(time >= t) & arm].sum() - k / d * weight[here & arm].sum()
            score -= one / total
            information += one / total * (1.0 - one / total)
        score += (here & arm).sum()
    return score, information


@with_ties
def test_cox_solves_efrons_score_equation(grid):
    time, event, arm = random_trials(grid, shape=(6, 60))
    result = cox(sample_of(time, event, arm))
    for i in range(len(time)):
        root = optimize.brentq(
            lambda b, i=i: efron_score(b, time[i], event[i], arm[i])[0], -5, 5, xtol=1e-14
        )
        _, information = efron_score(root, time[i], event[i], arm[i])
        assert result.estimate[i] == pytest.approx(root, rel=EXACT, abs=1e-11)
        assert result.standard_error[i] == pytest.approx(information**-0.5, rel=EXACT)


def printed():
    values = {}
    lines = Path(__file__).with_name("two_sample.txt").read_text().splitlines()
    for line in lines[1:]:
        name, what, value = line.split()
        values[name, what] = float(value)
    return values


@pytest.mark.parametrize("name", GRIDS)
def test_agrees_with_r(name):
    # R 4.2.2, survival 3.5.3; the script that printed the values is two_sample.R.
    expected = {what: value for (which, what), value in printed().items() if which == name}
    time, event, arm, stratum = made(GRIDS[name])
    sample, strata = sample_of(time, event, arm), strata_of(time, event, arm, stratum)
    one = sample.arms[1]
    survival, variance = survival_at(one, 8.0)
    # R pools variances of strata as here; its chi-square has no sign.
    log_rank, proportional, several = logrank(sample), cox(sample), stratified_cox(strata)
    hazard, _ = nelson_aalen(time[None, arm], event[None, arm], 8.0)
    incidence, _ = aalen_johansen(time[None], np.where(event, stratum % 2, -1)[None], 2, 8.0)
    got = {
        "logrank_score": log_rank.estimate[0],
        "logrank_variance": log_rank.standard_error[0] ** 2,
        "stratified_logrank_chi2": stratified_logrank(strata).z[0] ** 2,
        "cox_beta": proportional.estimate[0],
        "cox_se": proportional.standard_error[0],
        "stratified_cox_beta": several.estimate[0],
        "stratified_cox_se": several.standard_error[0],
        "arm1_survival_8": survival[0],
        "arm1_survival_8_se": np.sqrt(variance[0]),
        "arm1_nelson_aalen_8": hazard[0, 0],
        "aalen_johansen_8_cause1": incidence[0, 0, 0],
        "aalen_johansen_8_cause2": incidence[0, 1, 0],
    }
    assert got == pytest.approx(expected, rel=EXACT)


@with_ties
@pytest.mark.parametrize("tau", [3.0, 12.0, 100.0])
def test_restricted_mean_agrees_with_lifelines_and_greenwood_by_hand(grid, tau):
    time, event, arm = random_trials(grid, shape=(5, 60))
    for who, mine in (
        (0, sample_of(time, event, arm).arms[0]),
        (1, sample_of(time, event, arm).arms[1]),
    ):
        mean, variance = restricted_mean(mine, tau)
        for i in range(len(time)):
            t, e = time[i][arm[i] == who], event[i][arm[i] == who]
            fit = KaplanMeierFitter().fit(t, e)
            if tau <= t.max():
                assert mean[i] == pytest.approx(restricted_mean_survival_time(fit, tau), rel=EXACT)
            by_hand = greenwood_integral(t, e, tau)
            assert (mean[i], variance[i]) == pytest.approx(by_hand, rel=EXACT, abs=1e-12)


def greenwood_integral(time, event, tau):
    """Area under the curve and its variance, by loops over the distinct times."""
    points = np.unique(time[event & (time <= tau)])
    n = np.array([np.sum(time >= t) for t in points])
    d = np.array([np.sum((time == t) & event) for t in points])
    survival = np.concatenate([[1.0], np.cumprod(1.0 - d / n)])
    width = np.diff(np.concatenate([[0.0], points, [tau]]))
    area = survival * width
    variance = sum(
        area[j + 1 :].sum() ** 2 * d[j] / (n[j] * (n[j] - d[j]))
        for j in range(len(points))
        if n[j] > d[j]
    )
    return area.sum(), variance


@with_ties
def test_curves_agree_with_lifelines(grid):
    time, event, _ = random_trials(grid, shape=(6, 50))
    at = np.array([0.0, 1.0, 4.0, 8.0, 15.0])
    survival, error = kaplan_meier(time, event, at)
    hazard, hazard_error = nelson_aalen(time, event, at)
    at_risk = number_at_risk(time, at)
    for i in range(len(time)):
        fit = KaplanMeierFitter().fit(time[i], event[i])
        np.testing.assert_allclose(survival[i], fit.predict(at), rtol=EXACT)
        sums = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time[i], event[i])
        np.testing.assert_allclose(hazard[i], sums.predict(at), rtol=EXACT, atol=1e-15)
        counted = [np.sum(time[i] >= t) for t in at]
        assert at_risk[i].tolist() == counted
        points = np.unique(time[i][event[i]])
        n = np.array([np.sum(time[i] >= t) for t in points])
        d = np.array([np.sum((time[i] == t) & event[i]) for t in points])
        for k, t in enumerate(at):
            past = (points <= t) & (n > d)
            greenwood = np.sum(d[past] / (n[past] * (n[past] - d[past])))
            assert error[i, k] == pytest.approx(survival[i, k] * np.sqrt(greenwood), rel=EXACT)
            by_hand = np.sqrt(np.sum((d / n**2)[points <= t]))
            assert hazard_error[i, k] == pytest.approx(by_hand, rel=EXACT)


@with_ties
def test_aalen_johansen_agrees_with_the_single_sample_and_lifelines(grid):
    from analysis.survival import estimate_cumulative_incidence

    time, event, _ = random_trials(grid, shape=(6, 80))
    cause = np.where(event, np.random.default_rng(1).integers(0, 2, time.shape), -1)
    at = np.array([0.1, 2.0, 8.0, 14.0])
    incidence, error = aalen_johansen(time, cause, 2, at)
    for i in range(len(time)):
        single = estimate_cumulative_incidence(time[i], cause[i], 2)
        value, spread = single.at(at)
        np.testing.assert_allclose(incidence[i], value, rtol=EXACT, atol=1e-15)
        np.testing.assert_allclose(error[i], spread, rtol=1e-7, atol=1e-12)
        if not grid:  # lifelines jitters ties at random
            theirs = AalenJohansenFitter(calculate_variance=False).fit(
                time[i], cause[i] + 1, event_of_interest=1
            )
            np.testing.assert_allclose(incidence[i, 0], theirs.predict(at), rtol=EXACT)


def test_maxcombo_agrees_with_scipy():
    time, event, arm = random_trials(0.0, shape=(8, 100))
    sample = sample_of(time, event, arm)
    z, correlation = fh_statistics(sample)
    result = maxcombo(sample, log2_points=14)
    for i in range(len(z)):
        inside = stats.multivariate_normal(np.zeros(4), correlation[i], allow_singular=True).cdf(
            np.full(4, z[i].max()), rng=np.random.default_rng(i)
        )
        assert result.p_value[i] == pytest.approx(1.0 - inside, abs=2e-4)


def test_the_small_integral_is_near_the_large_one_where_it_decides():
    # 128 points against 16384, at chances around one-sided 0.025.
    time, event, arm = random_trials(0.0, shape=(200, 200), seed=3)
    _, correlation = fh_statistics(sample_of(time, event, arm))
    bound = np.linspace(2.0, 2.5, len(correlation))
    few = normal_exceedance(bound, correlation)
    many = normal_exceedance(bound, correlation, 14)
    assert np.max(np.abs(few - many)) < 2e-4
    assert np.abs(np.mean(few - many)) < 1e-4


def test_exceedance_of_two_normals_is_exact():
    # Closed form for two: P(max > 0) = 1 - (1/4 + asin(r) / (2 pi)).
    r = np.array([-0.5, 0.0, 0.5, 0.99])
    matrix = np.stack([np.array([[1.0, x], [x, 1.0]]) for x in r])
    expected = 0.75 - np.arcsin(r) / (2.0 * np.pi)
    np.testing.assert_allclose(normal_exceedance(np.zeros(4), matrix, 14), expected, atol=2e-5)


@pytest.mark.parametrize("counts", [(45, 100, 30, 100), (3, 40, 9, 80)])
def test_response_rates_agree_with_pearson(counts):
    x1, n1, x0, n0 = counts
    result = response_rate_difference([x1], [n1], [x0], [n0])
    chi_square = stats.chi2_contingency([[x1, n1 - x1], [x0, n0 - x0]], correction=False)
    assert result.z[0] ** 2 == pytest.approx(chi_square.statistic, rel=EXACT)
    assert np.sign(result.z[0]) == np.sign(x1 / n1 - x0 / n0)


def test_median_and_its_error_by_hand():
    # Ten deaths at 1, ..., 10: S falls by a tenth at each. The median is 5; S is 0.6 at 4 and
    # 0.4 at 6, so that the density is 0.2 / 2, and Greenwood at 5 is sqrt(0.5 * 0.5 / 10).
    time = np.concatenate([np.arange(1.0, 11.0), np.arange(3.0, 23.0, 2.0)])
    sample = sample_of(time, np.ones(20), np.repeat([0, 1], 10))
    zero, one = (median_survival(arm) for arm in sample.arms)
    assert (zero[0][0], one[0][0]) == (5.0, 11.0)
    assert zero[1][0] == pytest.approx(np.sqrt(0.025) / 0.1, rel=1e-12)
    assert one[1][0] == pytest.approx(np.sqrt(0.025) / 0.05, rel=1e-12)
    result = median_difference(sample)
    assert result.estimate[0] == 6.0
    assert result.standard_error[0] == pytest.approx(np.hypot(zero[1][0], one[1][0]))


def by_hand_average(time, event, arm, tau, exponent):
    """theta by a loop over distinct times, from the definition."""
    falls, survival = [0.0, 0.0], [1.0, 1.0]
    for t in np.unique(time[event & (time <= tau)]):
        after = list(survival)
        for k in (0, 1):
            n = np.sum((time >= t) & (arm == k))
            if n:
                after[k] *= 1.0 - np.sum((time == t) & event & (arm == k)) / n
        for k in (0, 1):
            other = 0.5 * (survival[1 - k] ** exponent + after[1 - k] ** exponent)
            falls[k] += other * (survival[k] ** exponent - after[k] ** exponent)
        survival = after
    return np.log(falls[1] / falls[0])


@with_ties
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_average_hazard_ratio_by_hand(grid, exponent):
    time, event, arm = random_trials(grid, shape=(6, 60))
    result = average_hazard_ratio(sample_of(time, event, arm), 12.0, exponent)
    for i in range(len(time)):
        expected = by_hand_average(time[i], event[i], arm[i], 12.0, exponent)
        assert result.estimate[i] == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("measure", [lambda s: average_hazard_ratio(s, 15.0), median_difference])
def test_standard_errors_are_those_of_repetition(measure):
    # 4000 trials of 200: the standard deviation has an error of 1.1 %, and the mean of estimated
    # errors is off by a few per cent in samples of this size.
    rng = np.random.default_rng(20240601)
    shape = (4000, 200)
    arm = np.broadcast_to(np.arange(200) < 100, shape)
    time = rng.exponential(np.where(arm, 14.0, 10.0), shape)
    censored = rng.uniform(10.0, 40.0, shape)
    result = measure(sample_of(np.minimum(time, censored), time <= censored, arm))
    good = np.isfinite(result.standard_error)
    assert good.mean() > 0.95
    spread = result.estimate[good].std()
    typical = np.sqrt(np.mean(result.standard_error[good] ** 2))
    # The density of the median is a rough estimate, and errs on the long side.
    assert 0.95 < typical / spread < (1.05 if measure is not median_difference else 1.25)


def test_average_hazard_ratio_is_the_hazard_ratio_where_that_is_constant():
    rng = np.random.default_rng(5)
    shape = (400, 1000)
    arm = np.broadcast_to(np.arange(1000) < 500, shape)
    time = rng.exponential(np.where(arm, 1.0 / 0.06, 10.0), shape)
    censored = rng.uniform(5.0, 40.0, shape)
    result = average_hazard_ratio(
        sample_of(np.minimum(time, censored), time <= censored, arm), 20.0
    )
    error = result.estimate.std() / 20.0
    assert result.estimate.mean() == pytest.approx(np.log(0.6), abs=3.5 * error)
