"""Designs whose events, times and power other programs give, conducted as a user would.

Power that others simulated must agree within three errors of the difference of two
simulations; power that they computed by an approximation, within 0.015 besides. Each chance
test has a companion in which another design, or another quantity of the same name, is refused.
"""

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from trials import Mean, Replicates, by_date, compare, conducted, plan

from sim.conduct import conduct_trials
from sim.exact import PiecewiseTrial, event_weighted_hazard_ratio, expected_events
from sim.randomness import stream

LOG2 = np.log(2.0)
APPROXIMATE = 0.015
"""How far an asymptotic power may be from the true one."""


def proportional(median, ratio):
    """Overrides for exponential arms with this control median and hazard ratio."""
    return (
        "scenario=delayed_effect",
        f"population.acquired.scale={median / LOG2}",
        f"agents.delayed.hazard_ratio.escape={ratio}",
        "agents.delayed.onset=0",
    )


# ---------------------------------------------------------------- expected events by date

# gsDesign2 1.1.5, ahr(): the closed form of these is in tests/test_exact.py.
DELAYED = PiecewiseTrial([0, 12], [500 / 12, 0], [0, 4], [LOG2 / 15] * 2, [1.0, 0.6], 0.001)
DELAYED_RATIOS = {12: 0.8395371381, 18: 0.7558476537, 24: 0.7145183906, 36: 0.6831995481}
DELAYED_EVENTS = {12: 107.3942731, 18: 186.3086265, 24: 246.2834076, 36: 331.2909688}


@pytest.fixture(scope="module")
def delayed():
    return conduct_trials(
        plan(
            "scenario=delayed_effect", f"population.acquired.scale={15 / LOG2}",
            "trial.dropout=0.001", compare("cox", "average_hazard_ratio(24)"),
            *by_date(*DELAYED_EVENTS),
        ),
        4000,
    )  # fmt: skip


@pytest.mark.parametrize(("date", "printed"), DELAYED_EVENTS.items())
def test_mean_events_by_date(delayed, date, printed):
    events = Replicates(delayed, f"month {date}").events
    assert events.agrees(printed, errors=3.5)
    assert not events.agrees(printed * 1.01, errors=3.5)


@pytest.mark.parametrize(("date", "printed"), DELAYED_RATIOS.items())
def test_cox_estimates_nearly_the_event_weighted_hazard_ratio(delayed, date, printed):
    # gsDesign2's own tests accept 0.005 between its average and simulated Cox estimates.
    log_ratio = Replicates(delayed, f"month {date}").estimate("cox")
    assert event_weighted_hazard_ratio(DELAYED, date) == pytest.approx(printed, abs=5e-11)
    ours = Mean(float(np.exp(log_ratio.value)), float(np.exp(log_ratio.value)) * log_ratio.error)
    assert ours.agrees(printed, slack=0.005)
    # The ratio without its delay is refused, and so is the average of half a year before.
    assert not ours.agrees(0.6, slack=0.005)
    assert not ours.agrees(event_weighted_hazard_ratio(DELAYED, date - 6.0), slack=0.005)


def test_the_average_of_kalbfleisch_and_prentice_is_another_quantity(delayed):
    # It weighs the hazards of both arms by the geometric mean of their survival functions.
    def weight(t):
        return np.exp(-LOG2 / 15 * (min(t, 4.0) + 0.8 * max(t - 4.0, 0.0)))

    early, _ = integrate.quad(weight, 0.0, 4.0)
    late, _ = integrate.quad(weight, 4.0, 24.0)
    ours = Replicates(delayed, "month 36").estimate("average_hazard_ratio(24)")
    assert ours.agrees(np.log((early + 0.6 * late) / (early + late)))
    assert not ours.agrees(np.log(DELAYED_RATIOS[36]), slack=0.005)


RAMP = PiecewiseTrial([0, 2, 4, 14], [3, 6, 9, 0], [0, 3], [LOG2 / 9, LOG2 / 18], [0.9, 0.6], 0.001)
RAMP_EVENTS = {12: 20.40450755, 15: 30.27841329, 24: 49.06965925, 30: 58.49096710, 36: 66.23947968}


def test_mean_events_where_accrual_and_hazards_change():
    # Accrual ends by a rate that is next to nothing, so that the number of patients is that of
    # a Poisson process, whose mean (108) the closed form takes.
    done = conduct_trials(
        plan(
            "scenario=crossing_hazards", "trial=delayed_effect", "trial.n_patients=160",
            "trial.accrual={duration: 0, starts: [0, 2, 4, 14], rates: [3, 6, 9, 1e-9]}",
            "population.acquired.starts=[0,3]",
            f"population.acquired.rates=[{LOG2 / 9},{LOG2 / 18}]",
            "agents.early_harm.hazard_ratio.escape=0.9",
            "agents.late_benefit.hazard_ratio.escape=0.6",
            "trial.dropout=0.001", *by_date(*RAMP_EVENTS),
        ),
        4000,
    )  # fmt: skip
    for date, printed in RAMP_EVENTS.items():
        events = Replicates(done, f"month {date}").events
        assert expected_events(RAMP, date).sum() == pytest.approx(printed, abs=5e-9)
        assert events.agrees(printed, errors=3.5)
        assert not events.agrees(printed * 1.04, errors=3.5)


# ---------------------------------------------------------------- one look, events unequal or few

# lrstat, vignette "fixed_follow-up": 3:1, control hazard 0.95 a year, hazard ratio 0.3, five
# patients a month, 10 % lost in two years, each followed for 6.5 months. Patients, events, and the
# power that its simulation of 10,000 gives. Schoenfeld's formula planned the first for a power of
# 0.90, lrstat's own approximation the second.
FIXED = {(191, 39): 0.9497, (127, 26): 0.8360, (156, 32): 0.9016}


def fixed_follow_up(patients, events, weights="[1,3]"):
    return (
        *proportional(12.0 * LOG2 / 0.95, 0.3),
        f"trial.n_patients={patients}",
        f"trial.weights={weights}",
        "trial.accrual={duration: 0, starts: [0], rates: [5]}",
        f"trial.dropout={-np.log(0.9) / 24}",
        f"trial.cuts.final.events={events}",
        "trial.horizon=6.5",
    )


@pytest.mark.parametrize(("size", "theirs"), FIXED.items())
def test_power_with_fixed_follow_up_and_three_to_one(size, theirs):
    error = np.sqrt(theirs * (1.0 - theirs) / 10_000)
    assert conducted(4000, *fixed_follow_up(*size)).power("logrank").agrees(theirs, error)
    # Three to one the other way is another design, though not by Schoenfeld's formula.
    turned = conducted(1000, *fixed_follow_up(*size, weights="[3,1]")).power("logrank")
    assert not turned.agrees(theirs, error)


def test_power_with_few_events():
    # lrstat, vignette "direct_approximation_vs_schoenfeld": 200 patients 1:1 within a year, events
    # of 20 % and 40 % in a year, read at 40 events. Its simulation of 10,000 gave 0.727 here and
    # 0.722 in print; Schoenfeld's formula 0.745.
    control, ratio = -np.log(0.6) / 12.0, np.log(0.8) / np.log(0.6)
    overrides = (
        *proportional(LOG2 / control, ratio),
        "trial.n_patients=200",
        f"trial.accrual={{duration: 0, starts: [0], rates: [{200 / 12}]}}",
        "trial.dropout=0",
    )
    ours = conducted(6000, *overrides, "trial.cuts.final.events=40").power("logrank")
    assert ours.agrees(0.727, 0.0045)
    assert ours.agrees(0.722, 0.0045)
    assert not ours.agrees(0.7450763)
    fewer = conducted(2000, *overrides, "trial.cuts.final.events=34").power("logrank")
    assert not fewer.agrees(0.727, 0.0045)


# ---------------------------------------------------------------- one look, several methods

# npsurvSS 1.1.0, power_two_arm(): medians 16 and 11, 120 an arm within 6 months, 12 more months
# of follow-up, loss 0.0022.
NPSURVSS = {
    "logrank": 0.5624951,
    "fleming_harrington(1,1)": 0.4948331,
    "milestone_difference(11)": 0.4716456,
    "rmst_difference(11)": 0.4103843,
    "rmst_ratio(11)": 0.4057424,
}
NPSURVSS_MEDIAN = 0.4400046


def two_medians(date, *methods, patients=240):
    return (
        *proportional(11.0, 11.0 / 16.0),
        f"trial.n_patients={patients}",
        "trial.accrual.duration=6",
        "trial.dropout=0.0022",
        f"trial.cuts.final={{endpoint: pfs, events: null, date: {date}}}",
        compare(*methods),
    )


@pytest.fixture(scope="module")
def medians():
    return conducted(8000, *two_medians(18, *NPSURVSS, "median_difference"))


@pytest.fixture(scope="module")
def medians_of_fewer():
    return conducted(4000, *two_medians(18, *NPSURVSS, patients=180))


@pytest.mark.parametrize(("method", "analytic"), NPSURVSS.items())
def test_power_of_several_methods(medians, medians_of_fewer, method, analytic):
    assert medians.power(method).agrees(analytic, slack=APPROXIMATE)
    assert not medians_of_fewer.power(method).agrees(analytic, slack=APPROXIMATE)


def median_power(date):
    """Asymptotic power of the difference of medians: Greenwood's variance over the density."""

    def variance(median):
        hazard = LOG2 / median

        def integrand(t):
            watched = np.exp(-0.0022 * t) * min((date - t) / 6.0, 1.0)
            return hazard * np.exp(hazard * t) / watched

        spread, _ = integrate.quad(integrand, 0.0, median, points=[min(date - 6.0, median)])
        return spread / 120.0 / hazard**2

    z = (16.0 - 11.0) / np.sqrt(variance(16.0) + variance(11.0))
    return float(stats.norm.sf(stats.norm.isf(0.025) - z))


def test_power_of_the_difference_of_medians(medians):
    # The printed power takes the median of every trial as reached, and the density there as known.
    # At month 18 the better arm's survival is 0.46, and in many trials its estimate has not fallen
    # to a half: those have no median and reject nothing. At month 42 all have one.
    assert median_power(18.0) == pytest.approx(NPSURVSS_MEDIAN, abs=1e-4)
    assert medians.estimable("median_difference").value < 0.9
    assert medians.power("median_difference").value < NPSURVSS_MEDIAN - APPROXIMATE
    longer = conducted(6000, *two_medians(42, "median_difference"))
    assert longer.estimable("median_difference").value > 0.999
    assert longer.power("median_difference").agrees(median_power(42.0), slack=APPROXIMATE)
    assert not longer.power("median_difference").agrees(median_power(18.0), slack=APPROXIMATE)


# ---------------------------------------------------------------- two endpoints

# simIDM 0.1.1.9000 (R), and NumPy for the times: 800 patients an arm, PFS tested at 329 events and
# a two-sided level of 0.01, OS at 684 and 0.04. 400 trials, so an error near 0.024.
TRIALS = 400
TIMES = {"pfs": (2.9165, 0.095), "os": (5.7898, 0.106)}
REJECTED = {"pfs": 0.6475, "os": 0.7025, "either": 0.8125, "both": 0.5375}


def rejections(done):
    pfs = Replicates(done, "pfs", "active", "pfs").rejects("logrank", 0.005)
    os = Replicates(done, "os", "active", "os").rejects("logrank", 0.02)
    return {"pfs": pfs, "os": os, "either": pfs | os, "both": pfs & os}


@pytest.fixture(scope="module")
def two_endpoints():
    return conduct_trials(plan("scenario=illness_death_trial"), 1500)


@pytest.mark.parametrize(("endpoint", "theirs"), TIMES.items())
def test_when_two_endpoints_are_read(two_endpoints, endpoint, theirs):
    mean, spread = theirs
    date = Mean.of(two_endpoints.cuts[endpoint].date)
    assert date.agrees(mean, spread / np.sqrt(TRIALS))
    assert not date.agrees(1.01 * mean, spread / np.sqrt(TRIALS))
    # The spread over trials is as theirs, to the error of a standard deviation.
    ours = np.std(two_endpoints.cuts[endpoint].date, ddof=1)
    assert abs(np.log(ours / spread)) < 3.0 * np.sqrt(0.5 / TRIALS + 0.5 / 1500)


@pytest.mark.parametrize(("which", "theirs"), REJECTED.items())
def test_power_of_two_endpoints(two_endpoints, which, theirs):
    error = np.sqrt(theirs * (1.0 - theirs) / TRIALS)
    assert Mean.of(rejections(two_endpoints)[which]).agrees(theirs, error)


def test_the_two_tests_of_a_trial_go_together(two_endpoints):
    found = rejections(two_endpoints)
    pfs, os = found["pfs"], found["os"]
    together = Mean.of((pfs - pfs.mean()) * (os - os.mean()))
    assert not together.agrees(0.0, errors=3.5)


def test_a_trial_in_which_death_after_progression_is_that_of_control_is_refused():
    wrong = conduct_trials(
        plan("scenario=illness_death_trial", "agents.active.activity.tumour_death_hazard=0.32"), 400
    )
    found = rejections(wrong)
    for which in ("os", "both"):
        assert not Mean.of(found[which]).agrees(REJECTED[which], 0.024)


# ---------------------------------------------------------------- PFS and OS by a copula

# TrialSimulator's formula. It is no model of this program, whose PFS and OS come from illness and
# death (their rank correlation is in tests/law/test_special_cases.py); what is checked here is how
# a rank correlation is measured there, on a pair in which it is known.


def gumbel_pair(theta, n):
    """Two unit exponentials joined by a Gumbel copula, by its positive stable frailty (2, n)."""
    rng = stream(20240601, 0, "gumbel", "frailty")
    alpha, angle, waiting = 1.0 / theta, np.pi * rng.random(n), rng.standard_exponential(n)
    stable = np.sin(alpha * angle) / np.sin(angle) ** theta
    stable *= (np.sin((1.0 - alpha) * angle) / waiting) ** (theta - 1.0)
    return (stream(20240601, 0, "gumbel", "pair").standard_exponential((2, n)) / stable) ** alpha


def tau_of_medians(theta, pfs, os):
    return 1.0 - (1.0 - (pfs / os) ** theta) / theta


def test_rank_correlation_of_a_gumbel_pair():
    theta = optimize.brentq(lambda x: tau_of_medians(x, 8.0, 18.0) - 0.5, 1.0, 10.0)
    rate_pfs, rate_os = LOG2 / 8.0, LOG2 / 18.0
    rate_progression = (rate_pfs**theta - rate_os**theta) ** (1.0 / theta)
    n = 200_000
    progression, os = gumbel_pair(theta, n) / np.array([[rate_progression], [rate_os]])
    pfs = np.minimum(progression, os)
    for time, median in ((pfs, 8.0), (os, 18.0)):
        assert stats.binomtest(int(np.sum(time <= median)), n, 0.5).pvalue > 1e-6
    tau = stats.kendalltau(pfs, os).statistic
    assert abs(tau - 0.5) < 0.01
    assert abs(tau - tau_of_medians(1.1 * theta, 8.0, 18.0)) > 0.01
