"""Special cases of the model, as a user would run them, against their closed forms."""

import numpy as np
import pytest
from agreement import CHANCE, FALSE_ALARM, cohort, p_value, run, tabulated
from scipy import stats

from sim.exact import (
    additive_survival,
    constant_hazard,
    first_cause_incidence,
    highest_single_agent_survival,
    illness_death_os_survival,
    independent_action_survival,
    os_quantile,
    os_survival,
    pfs_os_correlation,
    pfs_os_kendall,
    pfs_survival,
    piecewise_hazard,
    scan_delayed_survival,
    synergy_survival,
    weibull_hazard,
)
from sim.randomness import Streams
from sim.resistance import (
    assign_regimens,
    draw_ranked_patients,
    joint_benefit,
    last_doses,
    plain_loss,
)
from sim.scenario import DAYS_PER_MONTH

SPECIAL_CASES = (
    "constant_hazard",
    "crossing_hazards",
    "delayed_effect",
    "illness_death",
    "illness_death_trial",
    "independent_action",
    "mixture_cure",
    "piecewise_hazard",
    "scan_delayed",
    "weibull_mechanisms",
)

HAZARD = np.log(2) / 10


def latent_pfs(cohort, strategy=0):
    """Progression or death, whichever is first, whenever it is."""
    return np.minimum(cohort.progression_time, cohort.death_time)[0, strategy]


@pytest.mark.parametrize("name", SPECIAL_CASES)
def test_every_number_of_a_special_case_says_what_it_is(name):
    composed = run(f"scenario={name}")
    groups = ("population", "agents", "strategies", "course", "assessment")
    own = [claim for claim in composed.claims if claim.path.split(".")[0] in groups]
    assert {claim.path.split(".")[0] for claim in own} == set(groups)
    assert {(claim.source, claim.where) for claim in own} == {
        ("assumption", "mathematical special case")
    }


# ---------------------------------------------------------------- one endpoint


def test_constant_hazard():
    simulated = cohort("scenario=constant_hazard")
    times = simulated.resistance_time[0, 0]
    assert p_value(times, constant_hazard(HAZARD).survival) > FALSE_ALARM
    assert p_value(times, constant_hazard(1.03 * HAZARD).survival) < FALSE_ALARM
    # Observed when it happens, to a tick of 2.5 seconds, until the end of follow-up.
    observed = simulated.observed.pfs_time[0, 0]
    assert np.all(observed - np.minimum(times, 60.0) < 2.0**-19)
    assert np.all(np.isinf(simulated.death_time))


def test_delayed_effect():
    control, experimental = cohort("scenario=delayed_effect").resistance_time[0]

    def law(ratio=0.6, onset=4.0):
        return piecewise_hazard([0.0, onset], [HAZARD, ratio * HAZARD]).survival

    assert p_value(control, constant_hazard(HAZARD).survival) > FALSE_ALARM
    assert p_value(experimental, law()) > FALSE_ALARM
    assert p_value(experimental, law(ratio=0.63)) < FALSE_ALARM
    assert p_value(experimental, law(onset=3.5)) < FALSE_ALARM
    # The same patients: nobody is harmed, and nobody is helped in the first four months.
    early = control < 4.0
    assert np.array_equal(control[early], experimental[early])
    assert np.all(experimental[~early] > control[~early])


def test_crossing_hazards():
    control, experimental = cohort("scenario=crossing_hazards").resistance_time[0]

    def law(early=1.6, late=0.5):
        return piecewise_hazard([0.0, 3.0], [early * HAZARD, late * HAZARD]).survival

    assert p_value(experimental, law()) > FALSE_ALARM
    assert p_value(experimental, law(early=1.6 * 1.05)) < FALSE_ALARM
    assert p_value(experimental, law(late=0.5 * 1.05)) < FALSE_ALARM
    # The curves cross where 1.6 * 3 + 0.5 (t - 3) = t.
    assert np.mean(experimental > 5.0) < np.mean(control > 5.0)
    assert np.mean(experimental > 6.6) == pytest.approx(np.mean(control > 6.6), abs=0.005)
    assert np.mean(experimental > 9.0) > np.mean(control > 9.0)


def test_piecewise_hazard():
    control, experimental = cohort("scenario=piecewise_hazard").resistance_time[0]
    starts, rates = [0.0, 3.0, 12.0], [0.05, 0.12, 0.04]
    assert p_value(control, piecewise_hazard(starts, rates).survival) > FALSE_ALARM
    assert p_value(control, piecewise_hazard([0.0, 3.3, 12.0], rates).survival) < FALSE_ALARM
    law = piecewise_hazard([0.0, 3.0, 4.0, 12.0], [0.05, 0.12, 0.6 * 0.12, 0.6 * 0.04])
    assert p_value(experimental, law.survival) > FALSE_ALARM
    late = piecewise_hazard([0.0, 3.0, 4.0, 12.0], [0.05, 0.12, 0.6 * 0.12, 0.04])
    assert p_value(experimental, late.survival) < FALSE_ALARM


@pytest.mark.parametrize(
    ("strategy", "ratios"), [(0, [1.0, 1.0, 1.0]), (1, [0.4, 1.0, 1.0])], ids=["control", "blocked"]
)
def test_weibull_mechanisms(strategy, ratios):
    simulated = cohort("scenario=weibull_mechanisms")
    times, cause = simulated.resistance_time[0, strategy], simulated.cause[0, strategy]
    hazard, shares = weibull_hazard(1.4, 12.0, start=0.7), np.array([0.5, 0.3, 0.2])
    total = float(np.sum(shares * ratios))

    def law(factor=1.0):
        return lambda t: np.exp(-factor * total * hazard.cumulative(t))

    assert p_value(times, law()) > FALSE_ALARM
    assert p_value(times, law(1.03)) < FALSE_ALARM

    counts = np.bincount(cause, minlength=3)[:3]
    chances = first_cause_incidence(np.inf, hazard, shares, ratios)
    assert stats.chisquare(counts, chances * len(cause)).pvalue > FALSE_ALARM
    wrong = shares * ratios * [1.05, 1.0, 1.0]
    assert stats.chisquare(counts, wrong / wrong.sum() * len(cause)).pvalue < FALSE_ALARM
    # Which comes first is independent of when.
    late = times > np.median(times)
    table = [np.bincount(cause[half], minlength=3)[:3] for half in (late, ~late)]
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


def test_a_stratum_may_have_a_hazard_of_its_own():
    simulated = cohort(
        "strategy=[anti_pd1]", "population.strata.tps_low.acquired_scale=30",
        "population.strata.tps_low.acquired_shape=1.5",
    )  # fmt: skip
    composed = run("strategy=[anti_pd1]")
    plain = cohort("strategy=[anti_pd1]")
    low = simulated.stratum[0] == composed.scenario.population.strata.index("tps_low")
    own, common = simulated.resistance_time[0, 0], plain.resistance_time[0, 0]
    assert np.array_equal(own[~low], common[~low])
    # Whoever is still on the drug has used up the same exposure, by the other clock.
    on_drug = (plain.observed.last_dose[0, 0] > common) & (simulated.observed.last_dose[0, 0] > own)
    lost = low & on_drug & (common > 0.0) & ~plain.durable[0, 0]
    assert lost.sum() > 10_000
    exposure = weibull_hazard(1.08, 14.7, start=0.72).cumulative(common[lost])
    other = weibull_hazard(1.5, 30.0, start=0.72).cumulative(own[lost])
    np.testing.assert_allclose(exposure, other, rtol=1e-9)


def test_mixture_cure():
    simulated = cohort("scenario=mixture_cure")
    times, cured = simulated.resistance_time[0, 0], simulated.durable[0, 0]
    assert np.array_equal(cured, np.isinf(times))
    assert stats.binomtest(int(cured.sum()), len(cured), 0.3).pvalue > FALSE_ALARM
    assert stats.binomtest(int(cured.sum()), len(cured), 0.306).pvalue < FALSE_ALARM
    assert p_value(times[~cured], constant_hazard(np.log(2) / 8).survival) > FALSE_ALARM
    assert p_value(times[~cured], constant_hazard(np.log(2) / 7.7).survival) < FALSE_ALARM


# ---------------------------------------------------------------- illness and death

# Hazards of progression, of death without it and of death after it, with the correlation of the two
# times that simIDM prints; the last has the third equal to the sum of the others, where a usual way
# to write the formula divides by zero.
ILLNESS_DEATH = {
    "trial simulator vignette": (0.11, 0.03, 0.10, 0.590281331),
    "treatment": (0.3, 0.28, 0.5, 0.7015168001),
    "placebo": (0.5, 0.3, 0.6, 0.6289708241),
    "correlation vignette": (1.2, 1.5, 1.6, 0.5803809859),
    "equal": (0.3, 0.2, 0.5, None),
}


def illness_death(h01, h02, h12):
    """The overrides that turn the scenario into another illness-death model."""
    return (
        "scenario=illness_death",
        f"population.acquired.scale={1.0 / h01!r}",
        f"course.background.hazard=[{h02!r}]",
        f"course.tumour_death_hazard={h12 - h02!r}",
    )


@pytest.mark.parametrize("case", ILLNESS_DEATH.values(), ids=ILLNESS_DEATH.keys())
def test_illness_death(case):
    *hazards, printed = case
    simulated = cohort(*illness_death(*hazards))
    pfs, death = latent_pfs(simulated), simulated.death_time[0, 0]
    assert np.all(pfs <= death)
    assert p_value(pfs, lambda t: pfs_survival(t, *hazards[:2])) > FALSE_ALARM
    assert p_value(death, lambda t: os_survival(t, *hazards)) > FALSE_ALARM

    for k in range(3):
        wrong = [h * (1.05 if j == k else 1.0) for j, h in enumerate(hazards)]
        refused = [
            p_value(death, lambda t, wrong=wrong: os_survival(t, *wrong)) < FALSE_ALARM,
            p_value(pfs, lambda t, wrong=wrong: pfs_survival(t, *wrong[:2])) < FALSE_ALARM,
        ]
        # A hazard that adds little to an endpoint cannot be seen in it: one of the two must do,
        # and where death without progression is rare, in the share of PFS events that are deaths.
        share = hazards[1] / (hazards[0] + hazards[1])
        if k < 2:
            deaths = int(np.sum(death <= simulated.progression_time[0, 0]))
            wrong_share = wrong[1] / (wrong[0] + wrong[1])
            assert stats.binomtest(deaths, len(pfs), share).pvalue > FALSE_ALARM
            refused.append(stats.binomtest(deaths, len(pfs), wrong_share).pvalue < FALSE_ALARM)
        assert any(refused), f"hazard {k} of {hazards}"

    exact = pfs_os_correlation(*hazards)
    assert printed is None or exact == pytest.approx(printed, abs=2e-6)
    x, y = (pfs - pfs.mean()) / pfs.std(), (death - death.mean()) / death.std()
    found = float(np.mean(x * y))
    error = np.std(x * y - found * (x**2 + y**2) / 2.0) / np.sqrt(len(x))
    assert abs(found - exact) < CHANCE * error
    assert CHANCE * error < 0.02  # so a correlation that is 0.04 off is refused

    # The rank correlation, with Kendall's bound on its variance.
    tau = pfs_os_kendall(*hazards)
    error = np.sqrt(2.0 * (1.0 - tau**2) / len(pfs))
    found = stats.kendalltau(pfs, death).statistic
    assert abs(found - tau) < CHANCE * error
    assert abs(found - pfs_os_kendall(1.1 * hazards[0], *hazards[1:])) > CHANCE * error


def test_illness_death_medians():
    simulated = cohort("scenario=illness_death")
    pfs, death = latent_pfs(simulated), simulated.death_time[0, 0]
    for times, median in ((pfs, 4.951051), (death, 12.057381)):
        below = int(np.sum(times <= median))
        assert stats.binomtest(below, len(times), 0.5).pvalue > FALSE_ALARM
    assert float(os_quantile(0.5, 0.11, 0.03, 0.10)) == pytest.approx(12.057381, abs=2e-5)


def test_illness_death_with_hazards_that_change():
    simulated = cohort(
        "scenario=illness_death",
        "population.acquired.starts=[0.0,3.0,8.0]",
        "population.acquired.rates=[0.05,0.20,0.08]",
        "course.background.starts=[0.0,2.0,10.0]",
        "course.background.hazard=[0.06,0.01,0.03]",
    )
    onset = piecewise_hazard([0.0, 3.0, 8.0], [0.05, 0.20, 0.08])

    def law(tumour=0.07, background=0.06):
        before = piecewise_hazard([0.0, 2.0, 10.0], [background, 0.01, 0.03])
        after = [background + tumour, 0.01 + tumour, 0.03 + tumour]
        return tabulated(
            lambda t: illness_death_os_survival(
                t, onset, before, piecewise_hazard([0.0, 2.0, 10.0], after)
            ),
            300.0,
            200,
        )

    death = simulated.death_time[0, 0]
    assert p_value(death, law()) > FALSE_ALARM
    assert p_value(death, law(tumour=0.07 * 1.05)) < FALSE_ALARM
    assert p_value(death, law(background=0.06 * 1.15)) < FALSE_ALARM

    def pfs_law(t):
        before = piecewise_hazard([0.0, 2.0, 10.0], [0.06, 0.01, 0.03])
        return onset.survival(t) * before.survival(t)

    assert p_value(latent_pfs(simulated), pfs_law) > FALSE_ALARM


def test_illness_death_with_a_weibull_hazard():
    simulated = cohort("scenario=illness_death", "population.acquired.shape=1.5")
    before, after = constant_hazard(0.03), constant_hazard(0.10)

    def law(shape):
        onset = weibull_hazard(shape, 1.0 / 0.11)
        return tabulated(lambda t: illness_death_os_survival(t, onset, before, after), 300.0)

    death = simulated.death_time[0, 0]
    assert p_value(death, law(1.5)) > FALSE_ALARM
    assert p_value(death, law(1.2)) < FALSE_ALARM


# ---------------------------------------------------------------- scans


def scan_days(weeks, last):
    """Months of scans on a grid of weeks, each on the nearest day."""
    visits = int(last * DAYS_PER_MONTH / (7.0 * weeks)) + 2
    # Added up as a schedule is, because half a day goes up or down with the last bit of the sum.
    return np.round(np.cumsum(np.full(visits, weeks)) * 7.0) / DAYS_PER_MONTH


@pytest.mark.parametrize("weeks", [2.0 * DAYS_PER_MONTH / 7.0, 13.0])
def test_scan_delayed(weeks):
    simulated = cohort(
        "scenario=scan_delayed", f"assessment.schedule=[{{every:{weeks!r},until:inf}}]"
    )
    hazards, grid = (0.11, 0.03, 0.10), scan_days(weeks, 240.0)

    def law(*given, shift=0.0):
        return lambda t: scan_delayed_survival(np.maximum(t - shift, 0.0), grid, *given)

    def check(*given):
        # Observed times are rounded up to a tick, so the limit from the left is two ticks back.
        return p_value(pfs, law(*given), before=law(*given, shift=2.0**-19))

    pfs = simulated.observed.pfs_time[0, 0]
    assert simulated.observed.pfs_event.all()
    assert check(*hazards) > FALSE_ALARM
    assert check(0.11 * 1.03, 0.03, 0.10) < FALSE_ALARM
    assert p_value(pfs, lambda t: pfs_survival(t, *hazards[:2])) < FALSE_ALARM
    # Deaths and latent progression are those of the scenario without scans.
    same = cohort("scenario=illness_death")
    assert np.array_equal(simulated.progression_time, same.progression_time)
    np.testing.assert_allclose(simulated.death_time, same.death_time, rtol=1e-12)


def test_scan_delayed_printed_values():
    # The values are for scans every 2 months sharp; away from a scan the day it is rounded to
    # moves them by less than 0.003.
    pfs = cohort("scenario=scan_delayed").observed.pfs_time[0, 0]
    for t, printed in ((1.0, 0.966926), (3.9, 0.70427), (5.9, 0.532863)):
        error = CHANCE * np.sqrt(printed * (1.0 - printed) / len(pfs))
        assert np.mean(pfs > t) == pytest.approx(printed, abs=0.003 + error)
    # The grid of two months falls on days 61, 122, 183: the median is the third scan.
    assert np.median(pfs) == pytest.approx(183 / DAYS_PER_MONTH, abs=2.0**-19)
    assert np.median(latent_pfs(cohort("scenario=scan_delayed"))) == pytest.approx(4.951, abs=0.08)


# ---------------------------------------------------------------- two benefits in one patient

FIRST, SECOND = constant_hazard(np.log(2) / 4), constant_hazard(np.log(2) / 6)
ALONE, PARTNER, INDEPENDENT, HIGHEST, ADDITIVE, SYNERGY = range(6)


def rules(spearman):
    return "scenario=independent_action", f"coupling.spearman={spearman}"


@pytest.mark.parametrize("spearman", [0.0, 0.3, 0.5])
def test_rules_of_combination(spearman):
    simulated = cohort(*rules(spearman))
    times = dict(zip(simulated.strategies, simulated.resistance_time[0], strict=True))

    def both(function, *arguments):
        return tabulated(
            lambda t: function(FIRST.survival(t), SECOND.survival(t), *arguments), 400.0
        )

    laws = {
        "control": FIRST.survival,
        "active": SECOND.survival,
        "independent_action": both(independent_action_survival, spearman),
        "highest_single_agent": both(highest_single_agent_survival),
        "additive": tabulated(lambda t: additive_survival(t, FIRST, SECOND, 2.0, spearman), 400.0),
        "synergy": both(synergy_survival, 0.7, spearman),
    }
    assert laws.keys() == times.keys()
    for name, law in laws.items():
        assert p_value(times[name], law) > FALSE_ALARM, name


def test_rules_of_combination_are_told_apart():
    simulated = cohort(*rules(0.3))
    independent, additive = simulated.resistance_time[0, [INDEPENDENT, ADDITIVE]]

    def law(spearman, slower=1.0):
        def survival(t):
            first, second = FIRST.survival(slower * t), SECOND.survival(t)
            return independent_action_survival(first, second, spearman)

        return tabulated(survival, 400.0)

    assert p_value(independent, law(0.3)) > FALSE_ALARM
    assert p_value(independent, law(0.25)) < FALSE_ALARM
    assert p_value(independent, law(0.3, slower=1.05)) < FALSE_ALARM
    assert p_value(additive, law(0.3)) < FALSE_ALARM
    late = tabulated(lambda t: additive_survival(t, FIRST, SECOND, 2.3, 0.3), 400.0)
    assert p_value(additive, late) < FALSE_ALARM
    synergy = simulated.resistance_time[0, SYNERGY]
    weaker = tabulated(
        lambda t: synergy_survival(FIRST.survival(t), SECOND.survival(t), 0.73, 0.3), 400.0
    )
    assert p_value(synergy, weaker) < FALSE_ALARM


@pytest.mark.parametrize(
    ("spearman", "rule", "survival", "tolerance"),
    [
        (0.0, INDEPENDENT, [0.67678, 0.34375, 0.07715], 5e-6),
        (0.3, INDEPENDENT, [0.62970, 0.32077, 0.07474], 5e-6),
        (0.5, INDEPENDENT, [0.59672, 0.30268, 0.07198], 5e-6),
        (0.0, ADDITIVE, [0.71832, 0.43050, 0.12909], 2e-3),
        (0.3, ADDITIVE, [0.67329, 0.41346, 0.14323], 2e-3),
    ],
)
def test_printed_values_of_the_rules(spearman, rule, survival, tolerance):
    times = cohort(*rules(spearman)).resistance_time[0, rule]
    for t, printed in zip((6.0, 12.0, 24.0), survival, strict=True):
        error = CHANCE * np.sqrt(printed * (1.0 - printed) / len(times))
        assert np.mean(times > t) == pytest.approx(printed, abs=tolerance + error)


def test_rules_patient_by_patient():
    times = cohort(*rules(0.3)).resistance_time[0]
    a, b = times[ALONE], times[PARTNER]
    assert np.array_equal(times[INDEPENDENT], np.maximum(a, b))
    together = np.maximum(np.maximum(a, b), a + b - 2.0)
    np.testing.assert_allclose(times[ADDITIVE], together, rtol=1e-12)
    # Both hazards are constant, so psi only stretches time.
    np.testing.assert_allclose(times[SYNERGY], np.maximum(a, b) / 0.7, rtol=1e-12)
    # With perfect rank correlation each patient has the better agent's quantile.
    assert p_value(times[HIGHEST], SECOND.survival) > FALSE_ALARM


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("constant_hazard", True),
        ("delayed_effect", True),
        ("crossing_hazards", True),
        ("piecewise_hazard", True),
        ("illness_death", True),
        ("scan_delayed", True),
        ("mixture_cure", False),
        ("weibull_mechanisms", False),
        ("independent_action", False),
    ],
)
def test_the_short_way_for_a_single_hazard_is_the_long_way_to_the_bit(load, name, plain):
    scenario = load(f"scenario={name}").scenario
    patients = draw_ranked_patients(scenario, Streams(3, 0, 1, 5000))
    short = 0
    for strategy in scenario.strategies:
        ((_, regimen),) = assign_regimens(strategy, scenario, patients)
        law = plain_loss(regimen, scenario)
        if law is None:
            continue
        short += 1
        stops = last_doses(regimen, patients.draws)
        benefit = joint_benefit(patients, regimen, stops, scenario)
        assert law.time(patients.draws).tobytes() == benefit.time.tobytes()
    assert (short == len(scenario.strategies)) == plain


@pytest.mark.parametrize(
    "override",
    [
        "population.frailty_sd=0.5",
        "population.controlled_ratio=2",
        "population.strata.all.durable_responding=0.2",
        "population.strata.all.baseline.escape=0.1",
        "agents.backbone.discontinuation.late=0.02",
    ],
)
def test_there_is_no_short_way_where_patients_differ(load, override):
    scenario = load("scenario=delayed_effect", override).scenario
    patients = draw_ranked_patients(scenario, Streams(3, 0, 1, 10))
    for strategy in scenario.strategies:
        ((_, regimen),) = assign_regimens(strategy, scenario, patients)
        assert plain_loss(regimen, scenario) is None
