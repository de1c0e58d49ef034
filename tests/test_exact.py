"""Closed forms against values printed by other programs, and against each other."""

import numpy as np
import pytest
from scipy import integrate, stats

from sim.exact import (
    Hazard,
    PiecewiseTrial,
    additive_survival,
    average_os_hazard_ratio,
    bivariate_normal_cdf,
    constant_hazard,
    event_weighted_hazard_ratio,
    expected_events,
    first_cause_incidence,
    highest_single_agent_survival,
    hypoexponential_survival,
    illness_death_correlation,
    illness_death_os_survival,
    independent_action_survival,
    mixture_survival,
    os_hazard,
    os_quantile,
    os_survival,
    pearson_of_spearman,
    pfs_os_correlation,
    pfs_os_kendall,
    pfs_survival,
    piecewise_hazard,
    primary_share,
    scan_delayed_survival,
    stop_multiplier,
    synergy_survival,
    weibull_hazard,
)

TIMES = np.array([0.0, 0.1, 0.3, 0.7, 1.0, 5.0])


def weibull(rate: float, power: float) -> Hazard:
    """Hazard ``power * rate * t ** (power - 1)``, the parameters of simIDM."""
    return weibull_hazard(power, rate ** (-1.0 / power))


# The values that follow were printed by simIDM (tests and vignettes). It integrates and solves
# numerically, so the tolerances are those of its last digits, not of ours.


def test_illness_death_survival_and_hazard_of_simidm():
    assert os_survival([1.0, 0.5, 3.0], 0.7, 0.5, 0.8).round(4).tolist() == [0.5604, 0.7615, 0.1383]
    assert round(float(os_survival(1.0, 0.7, 0.5, 0.8)), 5) == 0.56043
    assert os_hazard([1.0, 2.0, 3.0], 0.2, 1.1, 0.8) == pytest.approx(
        [1.0381919, 0.9777975, 0.9253826], abs=5e-8
    )
    assert float(os_hazard(2.0, 0.4, 1.4, 0.1)) == pytest.approx(0.266345, abs=5e-7)
    assert os_hazard([1.0, 2.0, 3.0, 5.0, 10.0], 0.3, 0.28, 0.5) == pytest.approx(
        [0.3323587923, 0.3667204443, 0.3909370857, 0.4226534811, 0.4606846481], abs=5e-11
    )
    assert os_survival(TIMES, 0.2, 0.4, 0.1) == pytest.approx(
        [1.0, 0.9610786537, 0.8893403403, 0.7671856199, 0.6912219489, 0.2724845049], abs=5e-11
    )
    assert os_quantile([0.5, 0.1, 0.3, 0.7], 0.2, 0.5, 2.1) == pytest.approx(
        [1.144539, 3.4788, 1.8981, 0.6237],
        rel=1e-4,
    )


def test_illness_death_with_weibull_and_piecewise_hazards_of_simidm():
    three = weibull(0.2, 1.2), weibull(0.5, 0.9), weibull(2.1, 1.0)
    assert illness_death_os_survival(TIMES[1:], *three) == pytest.approx(
        [0.93822236847, 0.83706584742, 0.66353708239, 0.55296799487, 0.03684786012], abs=2e-8
    )
    steps = (
        piecewise_hazard([0.0, 4.0], [0.3, 0.5]),
        piecewise_hazard([0.0, 8.0], [0.5, 0.8]),
        piecewise_hazard([0.0, 3.0], [0.7, 1.0]),
    )
    assert illness_death_os_survival(TIMES[1:], *steps) == pytest.approx(
        [0.9509487669, 0.8584970158, 0.6954610549, 0.5910979831, 0.0394567271], abs=2e-10
    )
    free = piecewise_hazard([0.0, 1.0], [0.7, 0.9]), piecewise_hazard([0.0, 0.8], [0.5, 0.2])
    assert float(free[0].survival(2.0) * free[1].survival(2.0)) == pytest.approx(
        0.1064585, abs=5e-8
    )


def test_survival_with_weibull_hazards_by_another_quadrature():
    # The axis t = x ** 4 takes the sharp start out of t ** 0.2.
    for t in (0.1, 1.0, 5.0):

        def through_progression(x, t=t):
            u = x**4
            alive = np.exp(-0.2 * u**1.2 - 0.5 * u**0.9 - 2.1 * (t - u))
            return 4.0 * x**3 * 0.24 * u**0.2 * alive

        both, _ = integrate.quad(through_progression, 0.0, t**0.25, epsabs=1e-14, epsrel=1e-13)
        free = np.exp(-0.2 * t**1.2 - 0.5 * t**0.9)
        ours = illness_death_os_survival(t, weibull(0.2, 1.2), weibull(0.5, 0.9), weibull(2.1, 1.0))
        assert float(ours) == pytest.approx(free + both, abs=1e-12)


def test_average_hazard_ratio_of_simidm():
    assert average_os_hazard_ratio((0.1, 0.4, 0.3), (0.06, 0.3, 0.3), upper=100.0) == pytest.approx(
        0.8038991, abs=5e-8
    )
    assert average_os_hazard_ratio((0.5, 0.3, 0.6), (0.3, 0.28, 0.5)) == pytest.approx(
        0.8072368448, abs=1e-8
    )


@pytest.mark.parametrize(
    ("hazards", "printed"),
    [
        ((1.2, 1.5, 1.6), 0.5803809859),
        ((0.3, 0.28, 0.5), 0.7015168001),
        ((0.5, 0.3, 0.6), 0.6289708241),
        ((0.11, 0.03, 0.10), 0.590281331),
    ],
)
def test_correlation_of_pfs_and_os(hazards, printed):
    closed = pfs_os_correlation(*hazards)
    assert closed == pytest.approx(printed, abs=2e-6)
    by_quadrature = illness_death_correlation(*(constant_hazard(h) for h in hazards))
    assert by_quadrature == pytest.approx(closed, abs=1e-8)


def test_correlation_with_other_hazards():
    curved = weibull(1.0, 1.1), weibull(1.2, 0.8), weibull(1.3, 1.2)
    assert illness_death_correlation(*curved) == pytest.approx(0.7024951756, abs=2e-6)
    steps = (
        piecewise_hazard([0.0, 3.0], [1.0, 1.3]),
        piecewise_hazard([0.0, 1.0], [0.8, 1.5]),
        piecewise_hazard([0.0, 8.0], [1.0, 1.0]),
    )
    assert illness_death_correlation(*steps) == pytest.approx(0.4464816972, abs=2e-5)


@pytest.mark.parametrize("hazards", [(0.3, 0.28, 0.5), (0.11, 0.03, 0.10), (0.3, 0.2, 0.5)])
def test_rank_correlation_of_pfs_and_os_by_a_double_integral(hazards):
    # Discordant with (u, v) is whoever progresses or dies before u and dies after v, or progresses
    # or dies after u and dies before v; (u, v) lies on the diagonal or, after progression, above.
    h01, h02, h12 = hazards
    total, gap = h01 + h02, h01 + h02 - h12

    def progressed(low, high, v):
        """Chance to progress in an interval and to be alive at v."""
        if abs(gap) < 1e-12:
            return h01 * np.exp(-h12 * v) * (high - low)
        return h01 * np.exp(-h12 * v) * (np.exp(-gap * low) - np.exp(-gap * high)) / gap

    def discordant(v, u):
        later = np.exp(-total * u) - np.exp(-total * v) - progressed(u, v, v)
        return progressed(0.0, u, v) + later

    def density(v, u):
        return h01 * h12 * np.exp(-total * u - h12 * (v - u))

    end = 40.0 / min(total, h12)
    on_diagonal, _ = integrate.quad(
        lambda u: h02 * np.exp(-total * u) * discordant(u, u), 0.0, end, limit=200
    )
    above, _ = integrate.dblquad(
        lambda w, u: density(u + w, u) * discordant(u + w, u), 0.0, end, 0.0, end
    )
    exact = pfs_os_kendall(*hazards)
    assert exact == pytest.approx(1.0 - 2.0 * (on_diagonal + above), abs=1e-7)


def test_limits_of_the_rank_correlation_of_pfs_and_os():
    assert pfs_os_kendall(0.3, 0.2, 1e12) == pytest.approx(1.0)
    # Death after progression hardly ever comes: those who progressed are ranked by chance alone.
    assert pfs_os_kendall(0.3, 0.1, 1e-12) == pytest.approx(0.25**2)


def test_medians_of_the_trial_simulator_vignette():
    assert np.log(2) / 0.14 == pytest.approx(4.951051, abs=5e-7)
    assert float(os_quantile(0.5, 0.11, 0.03, 0.10)) == pytest.approx(12.057381, abs=2e-5)


def test_equal_hazards_are_no_exception():
    t = np.linspace(0.0, 40.0, 81)
    equal = os_survival(t, 0.3, 0.2, 0.5)
    assert np.all(np.isfinite(equal))
    assert equal == pytest.approx(os_survival(t, 0.3, 0.2, 0.5 + 1e-9), abs=1e-8)
    assert np.all(np.isfinite(os_hazard(t, 0.3, 0.2, 0.5)))
    assert 0.0 < pfs_os_correlation(0.3, 0.2, 0.5) < 1.0


def test_survival_is_the_integral_of_its_hazard():
    t = np.linspace(0.0, 30.0, 3001)
    h = os_hazard(t, 0.11, 0.03, 0.10)
    total = np.concatenate([[0.0], np.cumsum((h[1:] + h[:-1]) / 2.0 * np.diff(t))])
    assert np.exp(-total) == pytest.approx(os_survival(t, 0.11, 0.03, 0.10), abs=1e-7)


# ---------------------------------------------------------------- scans


def test_scans_alone_move_progression_free_survival():
    # Derived by hand for this model; the true median is 4.95 months.
    hazards = (0.11, 0.03, 0.10)
    two = scan_delayed_survival([1.0, 2.0, 3.999, 4.0, 5.9], 2.0 * np.arange(1, 50), *hazards)
    assert two.round(6).tolist() == [0.966926, 0.755784, 0.702069, 0.571209, 0.532863]
    three = scan_delayed_survival([2.0, 5.9], 3.0 * np.arange(1, 50), *hazards)
    assert three.round(6).tolist() == [0.928888, 0.585877]
    for interval in (1.5, 2.0, 3.0):
        grid = interval * np.arange(1, 50)
        before, at = scan_delayed_survival([6.0 - 1e-9, 6.0], grid, *hazards)
        assert before > 0.5 >= at


def test_scans_that_never_wait_change_nothing():
    t = np.linspace(0.05, 20.0, 50)
    dense = scan_delayed_survival(t, np.arange(1, 200_001) / 1e4, 0.11, 0.03, 0.10)
    assert dense == pytest.approx(pfs_survival(t, 0.11, 0.03), abs=2e-5)


# ---------------------------------------------------------------- two benefits in one patient

MONTHS = np.array([6.0, 12.0, 24.0])
FIRST, SECOND = constant_hazard(np.log(2) / 4), constant_hazard(np.log(2) / 6)


@pytest.mark.parametrize(
    ("spearman", "survival", "median", "mean"),
    [
        (0.0, [0.67678, 0.34375, 0.07715], 8.8125, 10.9645),
        (0.3, [0.62970, 0.32077, 0.07474], 8.1407, 10.4127),
        (0.5, [0.59672, 0.30268, 0.07198], 7.6201, 9.9846),
    ],
)
def test_independent_action_of_two_exponentials(spearman, survival, median, mean):
    def curve(t):
        return independent_action_survival(FIRST.survival(t), SECOND.survival(t), spearman)

    assert curve(MONTHS).round(5).tolist() == survival
    assert float(curve(median)) == pytest.approx(0.5, abs=2e-5)
    t = np.linspace(0.0, 200.0, 20_001)
    assert integrate.simpson(curve(t), x=t) == pytest.approx(mean, abs=1e-4)


def test_without_correlation_both_benefits_must_be_lost():
    first, second = FIRST.survival(MONTHS), SECOND.survival(MONTHS)
    ours = independent_action_survival(first, second, 0.0)
    assert ours == pytest.approx(1.0 - (1.0 - first) * (1.0 - second), abs=1e-12)


def test_perfect_rank_correlation_is_the_better_agent():
    both = FIRST.survival(MONTHS), SECOND.survival(MONTHS)
    assert independent_action_survival(*both, 1.0) == pytest.approx(
        highest_single_agent_survival(*both), abs=1e-12
    )
    assert float(highest_single_agent_survival(FIRST.survival(6.0), SECOND.survival(6.0))) == 0.5


def test_additive_benefits_of_two_exponentials():
    # Printed values are from a simulation of 5e6 patients, to be met within 2e-3.
    def curve(t, spearman):
        return additive_survival(t, FIRST, SECOND, 2.0, spearman)

    assert curve(MONTHS, 0.0) == pytest.approx([0.71832, 0.43050, 0.12909], abs=2e-3)
    assert curve(MONTHS, 0.3) == pytest.approx([0.67329, 0.41346, 0.14323], abs=2e-3)
    assert float(curve(10.354, 0.0)) == pytest.approx(0.5, abs=2e-3)
    assert float(curve(9.715, 0.3)) == pytest.approx(0.5, abs=2e-3)


def test_mean_of_additive_benefits_without_correlation():
    # B before the scan: max(A, B). After it: B, and what A has beyond the scan.
    a, b, scan = np.log(2) / 4, np.log(2) / 6, 2.0
    late = np.exp(-b * scan) * (scan + 1.0 / b)
    early = 1.0 / b - late - b / a * np.expm1(-(a + b) * scan) / (a + b)
    mean = early + late + np.exp(-b * scan) * np.exp(-a * scan) / a
    t = np.linspace(0.0, 300.0, 1501)
    ours = integrate.simpson(additive_survival(t, FIRST, SECOND, scan), x=t)
    assert ours == pytest.approx(mean, abs=1e-4)
    # A simulation of 5e6 patients, whose error is 0.0045, printed 12.897.
    assert ours == pytest.approx(12.897, abs=3.0 * 0.0045)


def test_additive_benefits_without_correlation_by_a_double_integral():
    # P(max(A, B, A + B - s) <= t) over the region itself, A and B independent.
    a, b, scan, t = np.log(2) / 4, np.log(2) / 6, 2.0, 11.0
    inside, _ = integrate.quad(
        lambda x: a * np.exp(-a * x) * -np.expm1(-b * min(t, t + scan - x)),
        0.0,
        t,
        points=[scan],
        epsabs=1e-12,
    )
    assert float(additive_survival(t, FIRST, SECOND, scan)) == pytest.approx(
        1.0 - inside, abs=1e-10
    )


def test_a_late_first_scan_leaves_independent_action():
    for spearman in (-0.2, 0.0, 0.4):
        late = additive_survival(MONTHS, FIRST, SECOND, 1e6, spearman)
        both = FIRST.survival(MONTHS), SECOND.survival(MONTHS)
        assert late == pytest.approx(independent_action_survival(*both, spearman), abs=1e-9)


def test_synergy_without_a_factor_is_independent_action():
    both = FIRST.survival(MONTHS), SECOND.survival(MONTHS)
    assert synergy_survival(*both, 1.0, 0.3) == pytest.approx(
        independent_action_survival(*both, 0.3), abs=1e-12
    )
    assert np.all(synergy_survival(*both, 0.7, 0.3) > independent_action_survival(*both, 0.3))


@pytest.mark.parametrize("correlation", [-0.95, -0.4, 0.0, 0.3129, 0.8, 0.95])
def test_bivariate_normal_against_scipy(correlation):
    joint = stats.multivariate_normal(cov=[[1.0, correlation], [correlation, 1.0]])
    points = np.array([(-2.0, -1.5), (-0.3, 0.4), (0.0, 0.0), (1.2, -0.7), (2.5, 2.0)])
    ours = bivariate_normal_cdf(points[:, 0], points[:, 1], correlation)
    assert ours == pytest.approx(joint.cdf(points), abs=2e-4)
    by_quadrature = [
        integrate.quad(
            lambda u, y=y: (
                stats.norm.pdf(u)
                * stats.norm.cdf((y - correlation * u) / np.sqrt(1.0 - correlation**2))
            ),
            -12.0,
            x,
            points=[y] if -12.0 < y < x else None,
            epsabs=1e-13,
        )[0]
        for x, y in points
    ]
    assert ours == pytest.approx(by_quadrature, abs=1e-8)


def test_limits_of_the_bivariate_normal():
    x = np.array([-1.0, 0.5])
    assert bivariate_normal_cdf(x, np.inf, 0.4) == pytest.approx(stats.norm.cdf(x), abs=1e-12)
    assert bivariate_normal_cdf(x, -np.inf, 0.4) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert bivariate_normal_cdf(x, 0.2, 1.0) == pytest.approx(stats.norm.cdf(np.minimum(x, 0.2)))
    assert bivariate_normal_cdf(x, -x, -1.0) == pytest.approx([0.0, 0.0], abs=1e-15)
    assert pearson_of_spearman(1.0) == pytest.approx(1.0)


# ---------------------------------------------------------------- trials

# gsDesign2 1.1.5, ahr(): accrual of 3, 6 and 9 a month for 2, 2 and 10 months, median 9, then 18
# after 3 months, hazard ratio 0.9, then 0.6; and 500 patients in a year, median 15, hazard ratio
# 1 for 4 months, then 0.6. Dropout 0.001. By month: average hazard ratio, events.
LOG2 = np.log(2.0)
RAMP = PiecewiseTrial([0, 2, 4, 14], [3, 6, 9, 0], [0, 3], [LOG2 / 9, LOG2 / 18], [0.9, 0.6], 0.001)
UNIFORM = PiecewiseTrial([0, 12], [500 / 12, 0], [0, 4], [LOG2 / 15] * 2, [1.0, 0.6], 0.001)
GSDESIGN2 = [
    (RAMP, 12, 0.8107538864, 20.40450755),
    (RAMP, 15, 0.7857414727, 30.27841329),
    (RAMP, 24, 0.7151565819, 49.06965925),
    (RAMP, 30, 0.6952153484, 58.49096710),
    (RAMP, 36, 0.6833395205, 66.23947968),
    (UNIFORM, 12, 0.8395371381, 107.3942731),
    (UNIFORM, 18, 0.7558476537, 186.3086265),
    (UNIFORM, 24, 0.7145183906, 246.2834076),
    (UNIFORM, 36, 0.6831995481, 331.2909688),
]


@pytest.mark.parametrize(("trial", "date", "ratio", "events"), GSDESIGN2)
def test_expected_events_and_average_hazard_ratio_of_gsdesign2(trial, date, ratio, events):
    found = expected_events(trial, date)
    assert found.sum() == pytest.approx(events, abs=5e-8)
    assert event_weighted_hazard_ratio(trial, date) == pytest.approx(ratio, abs=7e-11)
    # The weights of a Schoenfeld variance, d0 d1 / (d0 + d1), are others and do not give it.
    information = found.prod(axis=0) / found.sum(axis=0)
    other = np.exp(np.sum(information * np.log(trial.hazard_ratio)) / information.sum())
    assert other != pytest.approx(ratio, abs=1e-3)


def test_expected_events_by_quadrature():
    trial = PiecewiseTrial(
        [0.0, 3.0, 7.0, 9.0], [2.0, 0.0, 11.0, 0.0],
        [0.0, 2.0, 5.0, 30.0], [0.2, 0.0, 0.05, 0.1], [0.5, 2.0, 1.5, 0.3], 0.01, 0.75,
    )  # fmt: skip
    entered = piecewise_hazard(trial.accrual_starts, trial.accrual_rates).cumulative
    assert entered(100.0) == pytest.approx(28.0)
    for date in (0.5, 6.0, 8.5, 20.0, 60.0):
        found = expected_events(trial, date)
        for arm, share in enumerate((0.25, 0.75)):
            rates = np.array(trial.control_hazard) * (trial.hazard_ratio if arm else 1.0)
            free = piecewise_hazard(trial.hazard_starts, rates).survival
            for j, low in enumerate(trial.hazard_starts):
                high = min([*trial.hazard_starts[1:], np.inf][j], date)
                if low >= date:
                    assert found[arm, j] == 0.0
                    continue
                turns = [
                    date - start for start in trial.accrual_starts if low < date - start < high
                ]

                def seen(t, rate=rates[j], free=free, date=date):
                    return rate * free(t) * np.exp(-0.01 * t) * entered(date - t)

                exact, _ = integrate.quad(seen, low, high, points=turns or None, epsabs=1e-12)
                assert found[arm, j] == pytest.approx(share * exact, abs=1e-10)


def test_everybody_has_the_event_or_is_lost_in_the_end():
    trial = PiecewiseTrial([0, 10], [20, 0], [0, 4], [0.1, 0.1], [1.0, 0.5], 0.02)
    control, experimental = expected_events(trial, 1000.0).sum(axis=1)
    assert control == pytest.approx(100.0 * 0.1 / 0.12)
    early = np.exp(-0.12 * 4.0)
    assert experimental == pytest.approx(100.0 * ((1 - early) * 0.1 / 0.12 + early * 0.05 / 0.07))


def test_nothing_is_expected_before_the_start():
    assert expected_events(UNIFORM, 0.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="no event is expected by month 0"):
        event_weighted_hazard_ratio(UNIFORM, 0.0)
    with pytest.raises(ValueError, match="hazard_starts must increase from 0"):
        PiecewiseTrial([0], [1], [1.0], [0.1], [1.0])
    with pytest.raises(ValueError, match="hazard_ratio must hold 2 numbers of at least 0"):
        PiecewiseTrial([0], [1], [0, 4], [0.1, 0.1], [1.0])


# ---------------------------------------------------------------- small pieces


def test_hazards_and_their_inverses():
    shapes = (
        constant_hazard(0.2),
        weibull_hazard(1.4, 12.0, start=0.7),
        piecewise_hazard([0.0, 3.0, 12.0], [0.05, 0.12, 0.04], start=0.7),
    )
    t = np.array([0.8, 2.0, 3.7, 9.0, 30.0])
    for hazard in shapes:
        assert hazard.inverse(hazard.cumulative(t)) == pytest.approx(t, rel=1e-12)
        assert hazard.survival(0.0) == 1.0


def test_a_hazard_that_ends_is_never_reached():
    gap = piecewise_hazard([0.0, 3.0, 6.0], [0.1, 0.0, 0.1])
    assert gap.inverse([0.3, 0.4]).tolist() == pytest.approx([3.0, 7.0])
    ended = piecewise_hazard([0.0, 3.0], [0.1, 0.0])
    assert ended.inverse([0.2, 0.5]).tolist() == pytest.approx([2.0, np.inf])
    assert float(ended.survival(np.inf)) == pytest.approx(np.exp(-0.3))


def test_causes_add_up_to_what_has_happened():
    hazard = weibull_hazard(1.4, 12.0, start=0.7)
    t = np.array([1.0, 5.0, 20.0])
    by_cause = first_cause_incidence(t, hazard, [0.5, 0.3, 0.2], [0.4, 1.0, 1.0])
    assert by_cause.shape == (3, 3)
    assert by_cause.sum(axis=0) == pytest.approx(-np.expm1(-0.7 * hazard.cumulative(t)))


def test_mixture_shares_must_add_up():
    with pytest.raises(ValueError, match=r"shares must add up to 1, got 0\.9"):
        mixture_survival([0.3, 0.6], [[1.0], [0.5]])


def test_sum_of_exponentials():
    rates = (0.17, 0.115, 0.1)
    assert float(hypoexponential_survival(0.0, rates)) == pytest.approx(1.0)
    mean, _ = integrate.quad(lambda t: float(hypoexponential_survival(t, rates)), 0.0, 400.0)
    assert mean == pytest.approx(sum(1.0 / rate for rate in rates), rel=1e-7)
    with pytest.raises(ValueError, match="rates must all differ"):
        hypoexponential_survival(1.0, (0.1, 0.1))


def test_stopping_early_costs_more():
    after = stop_multiplier([0.0, 12.0, 24.0], effect=1.19, decay=16.8)
    assert after.round(2).tolist() == [3.29, 1.79, 1.33]


def test_overlap_lowers_the_share_of_primary_resistance():
    prevalence, none = [0.14, 0.08, 0.06], [0.0, 0.0, 0.0]
    apart = primary_share(prevalence, none, none)
    assert apart == pytest.approx(1.0 - 0.86 * 0.92 * 0.94, abs=1e-12)
    assert primary_share(prevalence, [0.6, 0.6, 0.6], none) < apart
    # Two mechanisms: inclusion and exclusion with the bivariate normal.
    cut = stats.norm.ppf([0.14, 0.08])
    both = float(bivariate_normal_cdf(cut[0], cut[1], 0.99 * 0.5))
    assert primary_share([0.14, 0.08], [0.99, 0.5], [0.0, 0.0]) == pytest.approx(
        0.22 - both, abs=1e-9
    )
