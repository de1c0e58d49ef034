"""The expected record of an arm against the simulator, against closed forms and against itself.

Two errors are between them. Chance: `CHANCE` standard errors of 100,000 patients, at most 0.008.
The lattice: QUADRATURE, which one test holds against four times as many points.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from agreement import CHANCE, SEED, run
from scipy import integrate

from analysis.calibration import expected_value
from analysis.cohort import endpoint_times
from analysis.published import simulated_result
from analysis.survival import fit_kaplan_meier
from sim import simulate_cohort
from sim.exact import (
    constant_hazard,
    expected_progression_free,
    independent_action_survival,
    os_survival,
    primary_share,
)
from sim.expected import (
    GENERATORS,
    SMOOTHED,
    cox_hazard_ratio,
    expected_arm,
    median_of,
    resistant_share,
    scan_times,
)
from sim.schema import TargetConfig

N = 100_000
FOLLOW_UP = 60.0
QUADRATURE = {"os": 0.002, "pfs": 0.008, "pfs2": 0.005, "duration_of_response": 0.02}
"""What 512 points may miss of a curve between scans; of a duration of response, of its mean."""

RATES = 0.004
"""The same of shares of patients."""

ARMS = {
    "pembrolizumab_keynote024": "KEYNOTE024",
    "chemotherapy_keynote024": "KEYNOTE024",  # crosses over
    "pembrolizumab_chemotherapy_keynote189": "KEYNOTE189",  # three strata, joint response, reversal
    "nivolumab_ipilimumab_checkmate227": "CHECKMATE227",  # a partner with windows and toxicity
    "lenvatinib_pembrolizumab_leap008": "LEAP008",  # a partner that slows growth
    "atezolizumab_oak": "OAK",
}
ORDINARY = (
    "pembrolizumab_keynote024",
    "chemotherapy_keynote024",
    "nivolumab_ipilimumab_checkmate227",
)
EACH = [
    pytest.param(arm, marks=() if arm in ORDINARY else pytest.mark.long, id=arm) for arm in ARMS
]
MONTHS = np.arange(1.0, 58.0)
CURVES = {"os": "alive", "pfs": "progression_free", "pfs2": "second_progression_free"}

SLIPS = {
    "pembrolizumab_keynote024": "population.strata.tps_high.responding=0.5",
    "chemotherapy_keynote024": "strategies.chemotherapy_keynote024.crossover=0.3",
    "pembrolizumab_chemotherapy_keynote189": "course.tumour_death_hazard=0.055",
    "nivolumab_ipilimumab_checkmate227": "population.acquired.scale=7",
    "lenvatinib_pembrolizumab_leap008": "agents.lenvatinib_leap008.growth_ratio=1.0",
    "atezolizumab_oak": "population.frailty_sd=1.2",
}


def scenario_of(arm, *overrides):
    return run(f"scenario={ARMS[arm]}", *overrides).scenario


@cache
def expected(arm, points=512):
    return expected_arm(scenario_of(arm), arm, points)


@cache
def simulated(name):
    return simulate_cohort(
        run(f"scenario={name}").scenario, n_patients=N, seed=SEED, follow_up=FOLLOW_UP
    )


def between_scans(arm):
    scans = scan_times(scenario_of(arm).assessment)
    middle = np.concatenate([[scans[0] / 2.0], (scans[1:] + scans[:-1]) / 2.0])
    return middle[middle < 58.0]


def excess(arm, endpoint, law):
    """Largest difference of a curve from that of the simulator, less what chance allows."""
    cohort = simulated(ARMS[arm])
    sample = endpoint_times(cohort, endpoint, cohort.strategies.index(arm))
    grid = MONTHS if endpoint == "os" else between_scans(arm)
    seen = fit_kaplan_meier(*sample).at(grid)[0]
    chance = CHANCE * np.sqrt(np.maximum(seen * (1.0 - seen), 1.0 / N) / N)
    return float(np.max(np.abs(getattr(law, CURVES[endpoint])(grid) - seen) - chance))


@pytest.mark.parametrize("endpoint", CURVES)
@pytest.mark.parametrize("arm", EACH)
def test_curves_are_those_of_the_simulator(arm, endpoint):
    assert excess(arm, endpoint, expected(arm)) < QUADRATURE[endpoint]


@pytest.mark.parametrize("arm", EACH)
def test_one_number_changed_is_noticed(arm):
    wrong = expected_arm(scenario_of(arm, SLIPS[arm]), arm)
    assert any(excess(arm, endpoint, wrong) > QUADRATURE[endpoint] for endpoint in CURVES)


def shown(arm, measure):
    """A measure of the simulated arm, counted by the tables' own code, and its standard error."""
    target = TargetConfig(
        strategy=arm, measure=measure, value=0.5, n=100, tolerance=0.0, source="x", checked="memory"
    )
    return simulated_result(target, simulated(ARMS[arm]), scenario_of(arm))


@pytest.mark.parametrize("measure", ["orr", "bor_pd"])
@pytest.mark.parametrize("arm", EACH)
def test_best_responses_are_those_of_the_simulator(arm, measure):
    seen, error = shown(arm, measure)
    assert expected_value(expected(arm), measure) == pytest.approx(seen, abs=CHANCE * error + RATES)
    # A share that is a tenth off would be seen in all but the rarest responses.
    if seen > 0.2:
        assert 0.1 * seen > CHANCE * error + RATES


@pytest.mark.long
def test_an_early_first_scan_is_no_stable_disease():
    """In OAK the first scan lies at the least time of stable disease, and half come too early."""
    arm = "atezolizumab_oak"
    seen, error = shown(arm, "bor_pd")
    assert expected(arm, 2048).progressive_disease_rate == pytest.approx(
        seen, abs=CHANCE * error + 0.002
    )
    # Had every first scan counted, or none of those before week 7, it would be far off.
    for weeks in (5.0, 7.0):
        moved = scenario_of(arm, f"assessment.stable_minimum={weeks}")
        rate = expected_arm(moved, arm).progressive_disease_rate
        assert abs(rate - seen) > 3.0 * (CHANCE * error + 0.002)


PLANNED = [arm for arm in ARMS if arm not in ("chemotherapy_keynote024", "atezolizumab_oak")]


@pytest.mark.parametrize("measure", ["completed", "survival_after_completion_12"])
@pytest.mark.parametrize("arm", PLANNED)
def test_those_who_complete_are_those_of_the_simulator(arm, measure):
    seen, error = shown(arm, measure)
    # A fifth to a twentieth of the points complete, so that survival after it is known less well.
    slack = RATES if measure == "completed" else 0.008
    assert expected_value(expected(arm), measure) == pytest.approx(seen, abs=CHANCE * error + slack)
    other = "completed" if measure != "completed" else "orr"
    assert abs(expected_value(expected(arm), other) - seen) > CHANCE * error + slack


def test_survival_after_completion_is_conditional():
    arm = expected("pembrolizumab_keynote024")
    assert arm.alive_after_completion(0.0) == pytest.approx(1.0, abs=1e-12)
    later = [arm.alive_after_completion(m) for m in (6.0, 12.0, 24.0)]
    assert later == sorted(later, reverse=True)
    # Who completes lives longer than others do.
    at = arm.planned_stop
    assert later[1] > float(arm.alive(at + 12.0) / arm.alive(at)) + 0.02


@pytest.mark.parametrize("arm", EACH)
def test_mean_duration_of_response_is_that_of_the_simulator(arm):
    """The mean over two years: at single months the curve falls in steps that days off blur."""
    cohort = simulated(ARMS[arm])
    time, event = endpoint_times(cohort, "duration_of_response", cohort.strategies.index(arm))
    grid = np.linspace(0.0, 24.0, 161)
    seen = np.trapezoid(fit_kaplan_meier(time, event).at(grid)[0], grid)
    ours = np.trapezoid(expected(arm).duration_of_response(grid), grid)
    chance = CHANCE * 24.0 / 2.0 / np.sqrt(len(time))
    slack = QUADRATURE["duration_of_response"] * 24.0
    assert abs(ours - seen) < chance + slack
    assert chance + slack < 0.15 * seen


@pytest.mark.parametrize("endpoint", ["pfs", "os"])
def test_hazard_ratios_are_those_of_cox(endpoint):
    arm = "pembrolizumab_keynote024"
    trial = ARMS[arm]
    control = f"chemotherapy_{trial.lower()}"
    target = TargetConfig(
        strategy=arm, measure=f"hr_{endpoint}", value=0.5, n=100, tolerance=0.0, source="x",
        checked="memory", against=control, interval=[0.4, 0.6], follow_up=FOLLOW_UP,
    )  # fmt: skip
    seen, error = simulated_result(target, simulated(trial), run(f"scenario={trial}").scenario)
    grid = np.arange(0.0, FOLLOW_UP + 0.01, 0.1)
    arms = [
        getattr(expected_arm(run(f"scenario={trial}").scenario, name), CURVES[endpoint])(grid)
        for name in (control, arm)
    ]
    found = cox_hazard_ratio(*arms)
    # A ratio that is 4 % off is refused.
    assert abs(np.log(found / seen)) < CHANCE * error + 0.01 < 0.04
    wrong = cox_hazard_ratio(arms[0], arms[1] ** 1.1)
    assert abs(np.log(wrong / seen)) > CHANCE * error + 0.01


# ---------------------------------------------------------------- the lattice


@pytest.mark.parametrize("arm", EACH)
def test_the_lattice_misses_what_it_says(arm):
    few, many = expected(arm), expected(arm, 2048)
    for endpoint, name in CURVES.items():
        grid = MONTHS if endpoint == "os" else between_scans(arm)
        missed = np.abs(getattr(few, name)(grid) - getattr(many, name)(grid)).max()
        assert missed < QUADRATURE[endpoint]
    for rate in ("response_rate", "progressive_disease_rate", "completed"):
        assert abs(getattr(few, rate) - getattr(many, rate)) < RATES


@pytest.mark.long
def test_few_points_miss_more():
    arm = "pembrolizumab_keynote024"
    grid, many = between_scans(arm), expected(arm, 2048)
    missed = np.abs(expected(arm, 64).progression_free(grid) - many.progression_free(grid))
    assert missed.max() > QUADRATURE["pfs"]


@pytest.mark.parametrize("count", GENERATORS)
def test_generators_visit_every_place_in_each_dimension(count):
    points = np.outer([pow(GENERATORS[count], j, count) for j in range(13)], np.arange(count))
    assert all(len(set(row.tolist())) == count for row in points % count)


@pytest.mark.parametrize("arm", EACH)
def test_weights_add_up_and_strata_re_add_to_the_whole(arm):
    whole, population = expected(arm), scenario_of(arm).population
    assert whole.weight.sum() == pytest.approx(1.0, abs=1e-9)
    assert np.all(whole.weight >= 0.0)
    shares = population.stratum_prevalence
    parts = [whole.of_stratum(b) for b in range(len(shares)) if shares[b] > 0.0]
    for name in CURVES.values():
        mixed = sum(
            s * getattr(p, name)(MONTHS) for s, p in zip(shares[shares > 0.0], parts, strict=True)
        )
        assert mixed == pytest.approx(getattr(whole, name)(MONTHS), abs=1e-9)
    assert float(whole.alive(0.0)) == pytest.approx(1.0, abs=1e-9)


def with_course(scenario, name, factor):
    course = scenario.course
    return replace(scenario, course=replace(course, **{name: factor * getattr(course, name)}))


def with_scale(scenario, factor):
    clock = scenario.population.acquired
    slower = replace(clock, scale=factor * clock.scale)
    return replace(scenario, population=replace(scenario.population, acquired=slower))


@pytest.mark.parametrize(
    "change",
    [
        lambda s, f: with_course(s, "tumour_death_hazard", f),
        lambda s, f: with_course(s, "acquired_lag", f),
        with_scale,
    ],
    ids=["tumour_death_hazard", "acquired_lag", "scale"],
)
def test_curves_are_smooth_in_the_numbers(change):
    """Central differences of two widths agree: a simulation of 100,000 would be off by 0.5."""
    arm = "pembrolizumab_keynote024"
    edges = np.concatenate([[0.0], between_scans(arm)])[:16]

    def slope(step):
        up, down = (expected_arm(change(scenario_of(arm), np.exp(s)), arm) for s in (step, -step))
        return np.concatenate(
            [getattr(up, c)(edges) - getattr(down, c)(edges) for c in ("alive", "progression_free")]
        ) / (2.0 * step)

    wide, narrow = slope(0.04), slope(0.02)
    assert np.abs(wide).max() > 0.01
    assert np.abs(wide - narrow).max() < 0.03


# ---------------------------------------------------------------- closed forms


def test_continuous_watching_is_the_exact_law():
    """The law of `sim.exact` is integrated in another way, with frailty and stops in it."""
    name = "pembrolizumab_keynote024"
    scenario = scenario_of(name, "assessment=special_continuous")
    months = np.arange(1.0, 48.0, 1.5)
    law = expected_progression_free(scenario, name, months)
    ours = expected_arm(scenario, name, 2048).progression_free(months)
    assert np.abs(ours - law).max() < 0.004
    wrong = replace(
        scenario, course=replace(scenario.course, acquired_lag=1.2 * scenario.course.acquired_lag)
    )
    assert np.abs(expected_progression_free(wrong, name, months) - ours).max() > 0.008


def test_illness_death_is_the_closed_form():
    scenario = run("scenario=illness_death").scenario
    months = np.arange(0.5, 40.0, 1.3)
    arm = expected_arm(scenario, "control", 2048)
    # Round-off of nothing: one dimension, 2,048 points, of a curve with a bounded slope.
    assert np.abs(arm.alive(months) - os_survival(months, 0.11, 0.03, 0.10)).max() < 1e-3
    assert np.abs(arm.alive(months) - os_survival(months, 0.115, 0.03, 0.10)).max() > 2e-3
    free = arm.progression_free(months)
    assert np.abs(free - np.exp(-0.14 * months)).max() < SMOOTHED / 2.0 * 0.14 + 1e-3
    assert np.abs(free - np.exp(-0.146 * months)).max() > SMOOTHED / 2.0 * 0.14 + 1e-3


def test_independent_action_is_the_closed_form():
    scenario = run("scenario=independent_action", "assessment=special_continuous").scenario
    name = next(
        s.name for s in scenario.strategies if s.rule == "independent_action" and len(s.doses) > 1
    )
    arm = expected_arm(scenario, name, 2048)
    months = np.arange(1.0, 30.0, 0.7)
    first, second = (constant_hazard(np.log(2.0) / m).survival(months) for m in (4.0, 6.0))
    r = scenario.coupling.spearman
    ours = arm.progression_free(months)
    assert np.abs(ours - independent_action_survival(first, second, r)).max() < QUADRATURE["pfs"]
    wrong = independent_action_survival(first, second, r + 0.4)
    assert np.abs(ours - wrong).max() > 2.0 * QUADRATURE["pfs"]


def test_resistant_share_is_the_other_quadrature_of_it():
    """The shares of `sim.exact` are integrated adaptively, these by 48 fixed nodes."""
    prevalence, loading, undone = [0.1, 0.25, 0.05], [0.3, 0.4, 0.0], [0.0, 0.3, 1.0]
    ours = resistant_share(prevalence, loading, undone)
    assert ours == pytest.approx(primary_share(prevalence, loading, undone), abs=1e-8)
    assert ours != pytest.approx(primary_share(prevalence, loading, [0.0, 0.3, 0.9]), abs=1e-4)


def test_resistant_share_without_loadings_is_a_product():
    ours = resistant_share([0.1, 0.2, 0.3], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0])
    assert ours == pytest.approx(1.0 - 0.9 * 0.9 * 0.7, abs=1e-12)


# ---------------------------------------------------------------- what curves say


@pytest.mark.parametrize("ratio", [0.4, 0.8, 1.0, 1.7])
def test_cox_finds_a_proportional_hazard_ratio(ratio):
    t = np.arange(0.0, 60.0, 0.01)
    found = cox_hazard_ratio(np.exp(-0.08 * t), np.exp(-0.08 * ratio * t))
    # Events at the start of an interval of 0.01 month: an error of 0.01 times the hazard.
    assert found == pytest.approx(ratio, rel=2e-3)


def test_cox_where_hazards_are_not_proportional_solves_the_integral():
    t = np.arange(0.0, 40.0, 0.005)
    control, arm = np.exp(-0.1 * t), 0.3 + 0.7 * np.exp(-0.1 * t)
    found = np.log(cox_hazard_ratio(control, arm))

    def score(u):
        s0, s1 = np.exp(-0.1 * u), 0.3 + 0.7 * np.exp(-0.1 * u)
        f0, f1 = 0.1 * s0, 0.07 * np.exp(-0.1 * u)
        share = s1 * np.exp(found) / (s0 + s1 * np.exp(found))
        return f1 - share * (f0 + f1)

    assert integrate.quad(score, 0.0, 40.0)[0] == pytest.approx(0.0, abs=1e-4)


def test_median_between_points():
    grid = np.array([0.0, 1.0, 2.0, 4.0])
    assert median_of(grid, np.array([1.0, 0.8, 0.6, 0.4])) == pytest.approx(3.0)
    assert median_of(grid, np.array([0.5, 0.4, 0.3, 0.2])) == 0.0
    assert median_of(grid, np.array([1.0, 0.9, 0.8, 0.7])) == np.inf


# ---------------------------------------------------------------- what has no expected record

BOTH = ("agent=[anti_pd1,platinum_doublet]", "strategy=[anti_pd1_chemotherapy]")


def doses(scenario, change):
    """The scenario with the doses of its one strategy changed."""
    (strategy,) = scenario.strategies
    return replace(scenario, strategies=(replace(strategy, doses=change(strategy.doses)),))


def every(**change):
    return lambda own: tuple(replace(dose, **change) for dose in own)


def shared_with_a_matched_one(last):
    return replace(last, name="first", matched=True, share=0.5), replace(last, share=0.5)


REFUSED = {
    "its rule is not independent_action": lambda s: replace(
        s, strategies=(replace(s.strategies[0], rule="highest_single_agent"),)
    ),
    "a dose waits for progression": lambda s: doses(s, every(at_progression=True)),
    "a dose starts later": lambda s: doses(s, every(start=2.0)),
    "it gives several agents with activity": lambda s: replace(
        doses(s, lambda own: (*own, replace(own[-1], agent="second"))),
        agents=(*s.agents, replace(s.agent("platinum_doublet"), name="second")),
    ),
    "it gives several checkpoint inhibitors": lambda s: replace(
        doses(s, lambda own: (*own, replace(own[0], agent="second"))),
        agents=(*s.agents, replace(s.agent("anti_pd1"), name="second")),
    ),
    "it gives neither an ICI nor": lambda s: replace(
        doses(s, lambda own: own[-1:]),
        agents=(s.agents[0], replace(s.agent("platinum_doublet"), activity=None)),
    ),
    "reversals are correlated": lambda s: replace(s, coupling=replace(s.coupling, reversal=0.5)),
    "a next line is matched": lambda s: replace(
        s, course=replace(s.course, next_lines=shared_with_a_matched_one(s.course.next_lines[-1]))
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_expected_record_is_refused(reason):
    scenario = run(*BOTH).scenario
    name = scenario.strategies[0].name
    plain = replace(
        scenario,
        coupling=replace(scenario.coupling, reversal=0.0),
        course=replace(
            scenario.course,
            next_lines=(replace(scenario.course.next_lines[-1], share=1.0),),
        ),
    )
    expected_arm(plain, name, 64)
    with pytest.raises(ValueError, match=f"strategies.{name}: no expected record, {reason}"):
        expected_arm(REFUSED[reason](plain), name)


def test_coupled_ranks_that_are_equal_are_refused():
    scenario = run("scenario=KEYNOTE189").scenario
    equal = replace(scenario, coupling=replace(scenario.coupling, spearman=1.0))
    with pytest.raises(ValueError, match="ranks are equal"):
        expected_arm(equal, "pembrolizumab_chemotherapy_keynote189")
    nobody = replace(scenario, backbone=None)
    with pytest.raises(ValueError, match="needs a backbone"):
        expected_arm(nobody, "pembrolizumab_chemotherapy_keynote189")
