"""Two-sample statistics on published data sets, against other programs.

Values were produced with R 4.2.2 (survival, simtrial 1.0.2, nphRCT 0.1.1, survRM2 1.0-4) unless a
test says otherwise. Where a source counts a chi-square or has the opposite sign, z here is positive
when the experimental arm does better.
"""

import numpy as np
import pytest
from samples import gbsg2, lung, sample_of, strata_of, veteran, waltons

from analysis.comparison.cox import cox, stratified_cox
from analysis.comparison.early_zero import early_zero
from analysis.comparison.fleming_harrington import (
    fleming_harrington,
    stratified_fleming_harrington,
)
from analysis.comparison.logrank import logrank, stratified_logrank
from analysis.comparison.maxcombo import fh_statistics, maxcombo
from analysis.comparison.median import median_survival
from analysis.comparison.milestone import milestone_difference, survival_at
from analysis.comparison.modestly_weighted import modestly_weighted
from analysis.comparison.rmst import restricted_mean, rmst_difference, rmst_ratio, time_lost_ratio

RELATIVE = 1e-6
INTEGRAL = 2e-4  # multivariate normal probabilities of the other programs carry this much noise
LIMIT = 1.959963984540054


def near(value):
    return pytest.approx(value, rel=RELATIVE)


SETS = {"waltons": waltons, "gbsg2": gbsg2, "lung": lung, "veteran": veteran}


def load(name):
    return sample_of(*SETS[name]()[:3])


@pytest.mark.parametrize(
    ("name", "chi_square", "favours"),
    [
        ("waltons", 122.2491256, -1),
        ("gbsg2", 8.564780854, 1),
        ("lung", 10.32674195, 1),
        ("veteran", 0.008227343202, -1),
    ],
)
def test_logrank(name, chi_square, favours):
    z = logrank(load(name)).z[0]
    assert z**2 == near(chi_square)
    assert np.sign(z) == favours


@pytest.mark.parametrize(
    ("name", "score", "variance"),
    [("waltons", -26.92448973, 5.92992501), ("gbsg2", 24.65691704, 70.98413473)],
)
def test_logrank_score_and_variance(name, score, variance):
    result = logrank(load(name))
    assert result.estimate[0] == near(score)
    assert result.standard_error[0] ** 2 == near(variance)


@pytest.mark.parametrize(
    ("name", "rho", "gamma", "z"),
    [
        ("waltons", 0, 0.5, -7.655337404),
        ("waltons", 0, 1, -4.60994725),
        ("waltons", 1, 0, -11.82556274),
        ("waltons", 1, 1, -6.710790304),
        ("waltons", 0.5, 0.5, -8.985395515),
        ("gbsg2", 0, 0.5, 2.560345788),
        ("gbsg2", 0, 1, 2.260676958),
        ("gbsg2", 1, 0, 2.951913183),
        ("gbsg2", 1, 1, 2.425141181),
        ("gbsg2", 0.5, 0.5, 2.638201225),
        ("lung", 0, 0.5, 2.45298637),
        ("lung", 0, 1, 1.860103268),
        ("lung", 1, 0, 3.565690873),
        ("lung", 1, 1, 2.768534446),
        # simtrial's sign here is that of its wlr: positive against the experimental arm's hazard.
        ("veteran", 0, 0.5, 0.4770385509),
        ("veteran", 0, 1, 0.8980243146),
        ("veteran", 1, 0, -0.9333860364),
        ("veteran", 1, 1, -0.6023465842),
    ],
)
def test_fleming_harrington(name, rho, gamma, z):
    assert fleming_harrington(load(name), rho, gamma).z[0] == near(z)


def test_survminer_prints_the_same_chi_squares():
    # kassambara/survminer, issue 832, to the two decimals printed there.
    sample = load("lung")
    for weights, chi_square in (((0, 0), 10.33), ((1, 1), 7.66), ((0, 1), 3.46)):
        assert fleming_harrington(sample, *weights).z[0] ** 2 == pytest.approx(chi_square, abs=0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "z"),
    [
        ("waltons", {"t_star": 20.0, "variant": "events"}, -11.06665882),
        ("waltons", {"t_star": 20.0, "variant": "survival"}, -11.06567022),
        ("waltons", {"w_max": 2.0}, -9.290996164),
        ("gbsg2", {"t_star": 365.0, "variant": "events"}, 2.919099662),
        ("gbsg2", {"t_star": 365.0, "variant": "survival"}, 2.918326022),
        ("gbsg2", {"w_max": 2.0}, 2.773749139),
        ("lung", {"t_star": 180.0}, 3.089354508),
        ("lung", {"w_max": 2.0}, 2.801872334),
    ],
)
def test_modestly_weighted(name, arguments, z):
    # Variant `events` is simtrial's definition, `survival` is nphRCT's.
    assert modestly_weighted(load(name), **arguments).z[0] == near(z)


def test_modestly_weighted_score_and_error():
    sample = load("gbsg2")
    first = modestly_weighted(sample, t_star=365.0, variant="events")
    assert first.estimate[0] == near(26.6129986)
    assert first.standard_error[0] == near(9.116851661)
    second = modestly_weighted(sample, t_star=365.0, variant="survival")
    assert second.estimate[0] == near(26.64265466)
    assert second.standard_error[0] ** 2 == near(83.34650166)


@pytest.mark.parametrize(
    ("name", "start", "z"), [("waltons", 20.0, -8.967176488), ("gbsg2", 365.0, 2.148815739)]
)
def test_early_zero(name, start, z):
    assert early_zero(load(name), start).z[0] == near(z)


@pytest.mark.parametrize(
    ("name", "ratio", "lower", "upper"),
    [
        ("waltons", 7.787618919, 5.089980, 11.914979),
        ("gbsg2", 0.694884327, 0.5438440546, 0.8878725874),
        ("lung", 0.5880028186, 0.4237178304, 0.8159848132),
        ("veteran", 1.017900904, 0.7143755261, 1.450388783),
    ],
)
def test_cox_with_efrons_ties(name, ratio, lower, upper):
    result = cox(load(name))
    beta, error = result.estimate[0], result.standard_error[0]
    assert np.exp(beta) == near(ratio)
    assert np.exp(beta - LIMIT * error) == near(lower)
    assert np.exp(beta + LIMIT * error) == near(upper)


def test_cox_is_not_breslow():
    # The difference of the two ways with ties is far beyond the tolerance.
    beta = cox(load("waltons")).estimate[0]
    assert beta == near(2.052535154)
    assert cox(load("waltons")).standard_error[0] == near(0.2169740037)
    assert beta != pytest.approx(2.059666569, rel=1e-3)


def test_stratified():
    strata = strata_of(*gbsg2())
    assert stratified_logrank(strata).z[0] ** 2 == near(7.395796538)
    assert np.exp(stratified_cox(strata).estimate[0]) == near(0.7119674684)
    assert stratified_fleming_harrington(strata, 0, 0.5).z[0] == near(2.308198849)
    assert stratified_logrank(strata_of(*veteran())).z[0] ** 2 == near(0.7017433468)


@pytest.mark.parametrize(
    ("name", "weights", "p_value"),
    [
        ("gbsg2", ((0, 0), (0, 1), (1, 0), (1, 1)), 0.003183486),
        ("gbsg2", ((0, 0), (0, 0.5)), None),
        ("lung", ((0, 0), (0, 1), (1, 0), (1, 1)), 0.0004827195),
    ],
)
def test_maxcombo(name, weights, p_value):
    result = maxcombo(load(name), weights)
    assert result.z[0] == max(fleming_harrington(load(name), *w).z[0] for w in weights)
    if p_value is not None:
        assert result.p_value[0] == pytest.approx(p_value, abs=INTEGRAL)


def test_maxcombo_correlations():
    _, correlation = fh_statistics(load("gbsg2"))
    upper = correlation[0][np.triu_indices(4, 1)]
    order = [0.8484279914, 0.9803580941, 0.9061479135, 0.7273695109, 0.9814755299, 0.8091051717]
    np.testing.assert_allclose(upper, order, rtol=RELATIVE)


def difference_and_limits(result):
    return (
        result.estimate[0],
        result.estimate[0] - LIMIT * result.standard_error[0],
        result.estimate[0] + LIMIT * result.standard_error[0],
    )


def test_restricted_means_of_waltons():
    sample = load("waltons")
    zero, one = (restricted_mean(arm, 40.0) for arm in sample.arms)
    assert [one[0][0], np.sqrt(one[1][0])] == near([24.11764706, 1.672474446])
    assert [zero[0][0], np.sqrt(zero[1][0])] == near([39.41604102, 0.3201068199])
    limits = difference_and_limits(rmst_difference(sample, 40.0))
    assert limits == near((-15.2983939593, -18.6358846904, -11.9609032282))


def test_restricted_means_where_a_wrong_variance_is_known():
    # CamDavidsonPilon/lifelines, issue 1526: its variance there is 0.5164, the standard error
    # of the Kaplan-Meier integral 0.1232.
    sample = load("waltons")
    zero, one = (restricted_mean(arm, 10.0) for arm in sample.arms)
    assert [one[0][0], np.sqrt(one[1][0])] == near([9.7941176471, 0.1232448527])
    assert [zero[0][0], np.sqrt(zero[1][0])] == near([9.97674418605, 0.02316549977])
    result = rmst_difference(sample, 10.0)
    assert result.estimate[0] == near(-0.1826265390)
    assert 2.0 * (1.0 - result.p_value[0]) == near(0.1453052454)


def test_restricted_means_of_gbsg2():
    sample = load("gbsg2")
    zero, one = (restricted_mean(arm, 1825.0) for arm in sample.arms)
    assert [one[0][0], np.sqrt(one[1][0])] == near([1413.422085, 37.90679188])
    assert [zero[0][0], np.sqrt(zero[1][0])] == near([1264.1181, 30.673968])
    result = rmst_difference(sample, 1825.0)
    assert result.estimate[0] == near(149.3039856784)
    assert 2.0 * result.p_value[0] == near(0.0021998267)
    assert np.exp(rmst_ratio(sample, 1825.0).estimate[0]) == near(1.1181092065)
    assert np.exp(time_lost_ratio(sample, 1825.0).estimate[0]) == near(0.7338049496)


def test_restricted_means_of_lung():
    zero, one = (restricted_mean(arm, 365.0) for arm in load("lung").arms)
    assert [one[0][0], np.sqrt(one[1][0])] == near([297.46540953, 10.79132398])
    assert [zero[0][0], np.sqrt(zero[1][0])] == near([241.49508519, 10.35822649])
    result = rmst_difference(load("lung"), 365.0)
    assert result.estimate[0] == near(55.97032434)
    assert 2.0 * result.p_value[0] == pytest.approx(1.827e-4, abs=5e-8)


def test_restricted_means_of_veteran():
    # SAS PROC LIFETEST, as printed in lrstat's test-rmdiff.R.
    sample = load("veteran")
    zero, one = (restricted_mean(arm, 90.0) for arm in sample.arms)
    assert [zero[0][0], np.sqrt(zero[1][0])] == pytest.approx([62.75618, 4.0321], abs=5e-5)
    assert [one[0][0], np.sqrt(one[1][0])] == pytest.approx([56.45116, 3.9790], abs=5e-5)
    result = rmst_difference(sample, 90.0)
    assert result.z[0] ** 2 == pytest.approx(1.2388, abs=5e-5)
    limits = difference_and_limits(result)
    assert limits == near((-6.3050252710, -17.4078260449, 4.7977755030))


def test_milestones():
    sample = load("waltons")
    zero, one = (survival_at(arm, 30.0)[0][0] for arm in sample.arms)
    assert [zero, one] == near([0.9844350851, 0.2352941176])
    plain = milestone_difference(load("gbsg2"), 1095.0)
    assert plain.estimate[0] == near(0.101931971)
    assert plain.standard_error[0] == near(0.03925149565)
    assert plain.z[0] == near(2.596893936)
    assert milestone_difference(load("gbsg2"), 1095.0, "log-log").z[0] == near(2.495957916)


@pytest.mark.parametrize(
    ("name", "control", "experimental"),
    [("waltons", 58, 26), ("gbsg2", 1528, 2018), ("lung", 270, 426)],
)
def test_medians(name, control, experimental):
    medians = [median_survival(arm)[0][0] for arm in load(name).arms]
    assert medians == [control, experimental]


def test_a_wrong_formula_is_caught():
    # Without the factor for ties (n - d) / (n - 1) the variance is another; so is Greenwood's
    # with n**2 in the place of n (n - d).
    sample = load("waltons")
    ((_, table),) = sample.tables
    share = table.at_risk_1 / table.at_risk
    careless = np.sum(table.events * share * (1.0 - share))
    assert careless != pytest.approx(5.92992501, rel=1e-3)
    arm = sample.arms[1]
    events = arm.greenwood > 0.0
    k = np.arange(events.shape[1], 0, -1)
    inside = events & (arm.time <= 10.0)
    poisson = np.sum(np.where(inside, 1.0 / k**2, 0.0))
    assert poisson != pytest.approx(np.sum(arm.greenwood[inside]), rel=1e-2)
