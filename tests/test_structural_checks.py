"""Patterns of the published trials that no number was tuned to reach, each with a wrong model.

Signs and shapes, not sizes: curves that cross, responses that grow more frequent and
shorter, hazards that fall. 20,000 patients, the same under every arm and with a fixed seed, so
that a share has a Monte Carlo error of at most 0.0035 and a log hazard ratio of about 0.012.
Margins are at least four of these errors, so that chance makes no difference that is asked for, and
a difference of twice the margin is found with near certainty. What the trials do not show
yet, with the values from which the fit starts, is marked and must be unmarked once it does.
"""

from dataclasses import replace

import numpy as np
import pytest

from analysis.cohort import cross_definitions
from analysis.published import simulated_result
from sim import simulate_cohort
from sim.scenario import DAYS_PER_MONTH
from sim.schema import TargetConfig

SHARE = 0.014
"""Four Monte Carlo errors of a share."""

LOG_RATIO = 0.05
"""Four Monte Carlo errors of a log hazard ratio."""

WEEK = 7.0 / DAYS_PER_MONTH


class Simulated:
    """A cohort of a scenario, and what targets would be held against."""

    def __init__(self, run, scenario=None):
        self.run, self.scenario = run, scenario or run.scenario
        self.cohort = simulate_cohort(
            self.scenario, n_patients=20_000, seed=2, follow_up=run.follow_up
        )

    def __call__(self, strategy, measure, **more):
        asked = TargetConfig(
            strategy=strategy, measure=measure, value=0.5, n=1, tolerance=0.0, source="x", **more
        )
        return simulated_result(asked, self.cohort, self.scenario, self.run.published)[0]


def changed(scenario, **fields):
    """The scenario with fields of every strategy replaced."""
    return replace(scenario, strategies=tuple(replace(s, **fields) for s in scenario.strategies))


def alone(scenario, agent):
    """The first arm, and beside it the same with one of its agents only."""
    both = scenario.strategies[0]
    (dose,) = [dose for dose in both.doses if dose.agent == agent]
    return replace(scenario, strategies=(both, replace(both, name="alone", doses=(dose,))))


@pytest.fixture(scope="module")
def simulate(load):
    kept = {}

    def make(alias):
        if alias not in kept:
            kept[alias] = Simulated(load(f"scenario={alias}"))
        return kept[alias]

    return make


# ---------------------------------------------------------------- 1 and 2: curves that cross


def pfs_gap(of, month):
    """How far docetaxel is above atezolizumab."""
    return of("docetaxel_oak", f"rate_pfs_{month}") - of("atezolizumab_oak", f"rate_pfs_{month}")


def test_progression_free_survival_crosses_in_oak_while_survival_separates(simulate):
    of = simulate("OAK")
    assert pfs_gap(of, 4) > SHARE
    assert pfs_gap(of, 12) < -SHARE
    assert np.log(of("atezolizumab_oak", "hr_os")) < -LOG_RATIO


def test_without_primary_resistance_they_would_not_cross(load, alter):
    mechanisms = load("scenario=OAK").scenario.population.mechanisms
    none = ",".join(f"{name}: 0.0" for name in mechanisms)
    of = Simulated(alter(("scenario=OAK",), f"population.strata.all_comers.baseline={{{none}}}"))
    assert pfs_gap(of, 4) < -SHARE


def test_survival_crosses_in_keynote042_below_50_percent(simulate):
    of = simulate("KEYNOTE042")
    arms = ("chemotherapy_keynote042", "pembrolizumab_keynote042")
    # The stratum holds half of the patients: errors are 1.4 times as large.
    gap = {
        month: np.subtract(*(of(arm, f"rate_os_{month}", stratum="tps_low") for arm in arms))
        for month in (3, 6, 36)
    }
    assert max(gap[3], gap[6]) > 1.4 * SHARE
    assert gap[36] < -1.4 * SHARE


# ---------------------------------------------------------------- 3 and 4: combinations


def test_chemotherapy_adds_responses_and_shortens_them(load):
    run = load("scenario=KEYNOTE189")
    of = Simulated(run, alone(run.scenario, "pembrolizumab_keynote189"))
    both = "pembrolizumab_chemotherapy_keynote189"
    assert of(both, "orr") > of("alone", "orr") + 0.05
    shorter, longer = (of(arm, "median_duration_of_response") for arm in (both, "alone"))
    assert shorter < longer - 3.0  # months; the Monte Carlo error of either is below 0.6
    # One kind of response would be as long in both arms: here without responses to chemotherapy.
    chemotherapy = run.scenario.agent("platinum_pemetrexed_keynote189")
    silent = replace(
        chemotherapy, activity=replace(chemotherapy.activity, responding=0.0, joint_response=0.0)
    )
    agents = tuple(silent if a is chemotherapy else a for a in run.scenario.agents)
    wrong = Simulated(run, alone(replace(run.scenario, agents=agents), "pembrolizumab_keynote189"))
    assert wrong(both, "orr") < wrong("alone", "orr") + 0.05


def early_and_late(of, stratum):
    """Difference of median PFS to chemotherapy, and the ratio of five-year survival."""
    arms = ("nivolumab_ipilimumab_checkmate227", "chemotherapy_checkmate227")
    early = np.subtract(*(of(arm, "median_pfs", stratum=stratum) for arm in arms))
    late = np.divide(*(of(arm, "rate_os_60", stratum=stratum) for arm in arms))
    return early, late


def test_the_ctla4_doublet_is_no_better_early_and_twice_as_good_late(simulate):
    of = simulate("CHECKMATE227")
    for stratum in ("pdl1_positive", "pdl1_negative"):
        early, late = early_and_late(of, stratum)
        # The scans are 1.4 months apart.
        assert early < 0.7
        assert 1.4 < late < 3.0  # published: 24 to 14 and 19 to 7 per cent


# ---------------------------------------------------------------- 5 and 9: crossover, follow-up


def test_crossover_weakens_the_effect_on_survival(simulate, load):
    arm, run = "pembrolizumab_keynote024", load("scenario=KEYNOTE024")
    of = simulate("KEYNOTE024")
    pfs, os = (np.log(of(arm, f"hr_{endpoint}")) for endpoint in ("pfs", "os"))
    assert pfs + LOG_RATIO < os < -LOG_RATIO
    without = Simulated(run, changed(run.scenario, crossover=0.0))
    assert np.log(without(arm, "hr_os")) < os - 2.0 * LOG_RATIO
    # Progression is before crossover and cannot know of it.
    assert without(arm, "hr_pfs") == of(arm, "hr_pfs")


def faded(of, arm):
    """Change of the log hazard ratio of survival from a first look to five years."""
    early, late = (np.log(of(arm, "hr_os", follow_up=month)) for month in (12.0, 60.0))
    return late - early


def test_the_effect_on_survival_fades_with_follow_up(simulate):
    of = simulate("KEYNOTE189")
    assert faded(of, "pembrolizumab_chemotherapy_keynote189") > LOG_RATIO


def test_without_crossover_it_would_fade_less(simulate, load):
    run, arm = load("scenario=KEYNOTE189"), "pembrolizumab_chemotherapy_keynote189"
    without = Simulated(run, changed(run.scenario, crossover=0.0))
    assert faded(without, arm) < faded(simulate("KEYNOTE189"), arm) - LOG_RATIO


# ---------------------------------------------------------------- 6 and 7: what scans show


def near_scans(of):
    """Share of progressions in weeks 3 to 36 that are seen within a week of a multiple of six."""
    week = of.cohort.observed.progression_time[0, 0] / WEEK
    week = week[(week > 3.0) & (week < 36.0)]
    return float(np.mean(np.abs(week - 6.0 * np.round(week / 6.0)) <= 1.0))


def test_progression_of_a_weak_arm_sits_on_scan_weeks(simulate, alter):
    of = simulate("OAK")
    # In the patients of OAK four progressions in five did.
    assert near_scans(of) > 0.75
    assert of("atezolizumab_oak", "median_pfs") == pytest.approx(12.0 * WEEK, abs=WEEK)
    nothing = "assessment.pseudoprogression=0.0", "assessment.jitter_sd=0.0"
    watched = Simulated(
        alter(("scenario=OAK",), "assessment.schedule=[{every: 0.0}]", "assessment.missed=0.0",
              "assessment.symptomatic=0.0", *nothing)
    )  # fmt: skip
    assert near_scans(watched) < 0.6
    assert watched("atezolizumab_oak", "median_pfs") < 12.0 * WEEK - WEEK


def test_another_rule_changes_the_primary_share_and_not_who_progressed(simulate, load):
    of, run = simulate("OAK"), load("scenario=OAK")
    table = cross_definitions(of.cohort, run.definitions)
    table = table[table["arm"] == "atezolizumab_oak"]
    counts = table.groupby(["rule", "label"])["patients"].sum().unstack(fill_value=0)
    progressed = counts.drop(columns=["no_progression", "early_death"]).sum(axis=1)
    assert progressed.nunique() == 1
    primary = counts["primary"][["hudson2024", "sitc2020", "sitc2023_chemotherapy"]] / 20_000
    ordered = np.sort(primary.to_numpy())
    assert np.all(np.diff(ordered) > SHARE)


# ---------------------------------------------------------------- 8 and 10: survival


def late_over_early(of, arm):
    """Hazard of death in months 36 to 60 over that in months 3 to 18."""
    alive = {month: of(arm, f"rate_os_{month}") for month in (3, 18, 36, 60)}
    early, late = (np.log(alive[a] / alive[b]) / (b - a) for a, b in ((3, 18), (36, 60)))
    return late / early


def test_the_hazard_of_death_falls_in_a_control_arm_without_a_durable_class(load, alter):
    arm, run = "chemotherapy_keynote042", load("scenario=KEYNOTE042")
    of = Simulated(run, changed(run.scenario, crossover=0.0))
    assert not of.cohort.durable[0, 1].any()
    # With 5 % alive at 60 months the ratio has an error of 0.02.
    assert late_over_early(of, arm) < 0.85
    alike = alter(
        ("scenario=KEYNOTE042",), "course.growth_sd=0.0", "course.death_frailty_sd=0.0",
        "course.timing_exponent=0.0", "course.untreated_ratio=1.0",
    )  # fmt: skip
    wrong = Simulated(alike, changed(alike.scenario, crossover=0.0))
    assert late_over_early(wrong, arm) > 1.0


def test_a_vegfr_inhibitor_delays_progression_and_not_death(load):
    run = load("scenario=LEAP008")
    arm = "lenvatinib_pembrolizumab_leap008"
    of = Simulated(run, alone(run.scenario, "pembrolizumab_leap008"))
    assert np.log(of(arm, "hr_pfs", against="alone")) < -LOG_RATIO
    assert np.log(of(arm, "hr_os", against="alone")) > -LOG_RATIO
    # A partner that undid resistance would show in both.
    lenvatinib = run.scenario.agent("lenvatinib_leap008")
    able = replace(lenvatinib, reversal=np.full(8, 0.3), growth_ratio=1.0)
    agents = tuple(able if a is lenvatinib else a for a in run.scenario.agents)
    wrong = Simulated(run, alone(replace(run.scenario, agents=agents), "pembrolizumab_leap008"))
    assert np.log(wrong(arm, "hr_os", against="alone")) < -LOG_RATIO
