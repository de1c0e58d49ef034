"""What follows resistance: lags, stopping, toxicity, next lines, and death."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import CHANCE, FALSE_ALARM, SEED, cohort, p_value, run
from scipy import stats

from sim import simulate_cohort
from sim.exact import (
    constant_hazard,
    hypoexponential_survival,
    mixture_survival,
    os_survival,
    piecewise_hazard,
    stop_multiplier,
    weibull_hazard,
)
from sim.patient import Draws
from sim.randomness import Streams
from sim.resistance import RESISTANT
from sim.scenario import Agent, Dose

FEW = 20_000

DEFAULTS = (
    "agent=[anti_pd1,platinum_doublet]",
    "strategy=[anti_pd1,chemotherapy,anti_pd1_chemotherapy]",
)


def draws(count=FEW):
    """The random numbers of the cohort with one replicate and this many patients."""
    return Draws(Streams(SEED, 0, 1, count))


# ---------------------------------------------------------------- regrowth


def test_lags_are_log_normal():
    simulated, course = cohort(*DEFAULTS), run(*DEFAULTS).scenario.course
    lag = (simulated.progression_time - simulated.resistance_time)[0, 0]
    primary = simulated.depth[0, 0] == RESISTANT
    acquired = ~primary & np.isfinite(lag)
    for who, median in ((primary, course.primary_lag), (acquired, course.acquired_lag)):
        sd = np.hypot(course.lag_sd, course.growth_sd)
        law = stats.norm(np.log(median), sd)
        assert p_value(np.log(lag[who]), law.sf) > FALSE_ALARM
        wrong = stats.norm(np.log(1.05 * median), sd)
        assert p_value(np.log(lag[who]), wrong.sf) < FALSE_ALARM


def test_slower_growth_delays_the_scan_and_not_the_fate():
    plain = cohort("scenario=illness_death", "course.acquired_lag=2.0")
    slowed = cohort(
        "scenario=illness_death", "course.acquired_lag=2.0", "agents.backbone.growth_ratio=0.5"
    )
    assert np.array_equal(slowed.resistance_time, plain.resistance_time)
    np.testing.assert_allclose(slowed.progression_time - slowed.resistance_time, 4.0, rtol=1e-9)
    np.testing.assert_allclose(slowed.death_time, plain.death_time, rtol=1e-9)


@pytest.mark.parametrize("share", [0.325, 0.56])
def test_share_of_oligoprogression(share):
    sites = cohort("scenario=constant_hazard", f"course.oligo_acquired={share}").sites
    few = int(np.sum(sites <= 3))
    assert stats.binomtest(few, sites.size, share).pvalue > FALSE_ALARM
    assert stats.binomtest(few, sites.size, 1.03 * share).pvalue < FALSE_ALARM


# ---------------------------------------------------------------- stopping

HAZARD = np.log(2) / 10


@pytest.mark.parametrize(("stop", "printed"), [(12.0, 1.79), (24.0, 1.33)])
@pytest.mark.parametrize("durable", [False, True], ids=["ordinary", "durable"])
def test_hazard_after_stopping(stop, printed, durable):
    hazard = 0.03 if durable else HAZARD
    slow = ("population.strata.all.durable_responding=1", f"population.durable_hazard={hazard}")
    times = cohort(
        "scenario=constant_hazard",
        "course.stop_effect=1.19",
        f"strategies.control.doses.backbone.stop={stop}",
        *(slow if durable else ()),
    ).resistance_time[0, 0]
    factor = float(stop_multiplier(stop, 1.19, 16.8))
    assert round(factor, 2) == printed

    # Events per month at risk after the stop, and before it.
    after = times[times > stop]
    rate = len(after) / np.sum(after - stop)
    error = rate / np.sqrt(len(after))
    assert abs(rate - factor * hazard) < CHANCE * error
    assert CHANCE * error < 0.03 * factor * hazard  # so a factor that is 6 % off is refused
    before = np.sum(times <= stop) / np.sum(np.minimum(times, stop))
    assert before == pytest.approx(hazard, rel=0.03)

    law = piecewise_hazard([0.0, stop], [hazard, factor * hazard])
    assert p_value(times, law.survival) > FALSE_ALARM
    assert p_value(times, constant_hazard(hazard).survival) < FALSE_ALARM


def test_stopping_multiplies_a_hazard_that_changes():
    times = cohort(
        "scenario=constant_hazard",
        "population.acquired.shape=1.5",
        "population.acquired.start=0.7",
        "course.stop_effect=1.19",
        "strategies.control.doses.backbone.stop=12",
    ).resistance_time[0, 0]
    hazard, factor = weibull_hazard(1.5, 10.0 / np.log(2), 0.7), stop_multiplier(12.0, 1.19, 16.8)

    def law(multiplier):
        def survival(t):
            on, off = np.minimum(t, 12.0), np.maximum(t, 12.0)
            more = hazard.cumulative(off) - hazard.cumulative(12.0)
            return np.exp(-hazard.cumulative(on) - multiplier * more)

        return survival

    assert p_value(times, law(factor)) > FALSE_ALARM
    assert p_value(times, law(1.05 * factor)) < FALSE_ALARM


def test_a_partner_acts_in_its_window_only():
    times = cohort(
        "scenario=delayed_effect", "strategies.experimental.doses.delayed.stop=12"
    ).resistance_time[0, 1]
    law = piecewise_hazard([0.0, 4.0, 12.0], [HAZARD, 0.6 * HAZARD, HAZARD])
    assert p_value(times, law.survival) > FALSE_ALARM
    assert p_value(times, piecewise_hazard([0.0, 4.0], [HAZARD, 0.6 * HAZARD]).survival) < (
        FALSE_ALARM
    )


# ---------------------------------------------------------------- toxicity

TOXIC = "agents.backbone.discontinuation={early:0.05,late:0.01,window:6}"


def test_discontinuation_for_toxicity():
    # Hardly anybody progresses, so the last dose is when the agent is stopped.
    simulated = cohort(
        "scenario=constant_hazard", TOXIC, "population.acquired.scale=1e9", "cohort.follow_up=1000"
    )
    stops = simulated.observed.last_dose[0, 0]
    stopped = stops[stops < 1000.0]
    law = piecewise_hazard([0.0, 6.0], [0.05, 0.01])
    beyond = float(law.survival(1000.0))
    assert stats.binomtest(len(stops) - len(stopped), len(stops), beyond).pvalue > FALSE_ALARM

    def truncated(hazard):
        return lambda t: (hazard.survival(t) - beyond) / (1.0 - beyond)

    assert p_value(stopped, truncated(law)) > FALSE_ALARM
    longer = piecewise_hazard([0.0, 6.0 * 1.05], [0.05, 0.01])
    assert p_value(stopped, truncated(longer)) < FALSE_ALARM


@pytest.mark.parametrize(("months", "ends"), [(1e9, 0.06), (20.0, 0.06 + 1.0 / 20.0)])
def test_death_from_toxicity_ends_with_the_agent(months, ends):
    # Stopping at rate d ends the risk of dying at rate f: S(t) = (d + f exp(-(d + f) t)) / (d + f).
    # The agent is stopped for toxicity, or at progression, which is seen at once.
    death = cohort(
        "scenario=constant_hazard",
        f"population.acquired.scale={months}",
        "agents.backbone.discontinuation={early:0,late:0.06,window:0}",
        "agents.backbone.fatal={early:0,late:0.02,window:0}",
    ).death_time[0, 0]

    def dead(stop, fatal):
        def ever(t):
            return fatal / (stop + fatal) * -np.expm1(-(stop + fatal) * t)

        return ever

    ever = dead(ends, 0.02)
    died = np.isfinite(death)
    assert stats.binomtest(int(died.sum()), len(death), ever(np.inf)).pvalue > FALSE_ALARM
    assert stats.binomtest(int(died.sum()), len(death), 1.05 * ever(np.inf)).pvalue < FALSE_ALARM
    assert p_value(death[died], lambda t: 1.0 - ever(t) / ever(np.inf)) > FALSE_ALARM
    other = dead(ends, 0.025)
    assert p_value(death[died], lambda t: 1.0 - other(t) / other(np.inf)) < FALSE_ALARM


# ---------------------------------------------------------------- next lines


def test_patients_who_are_never_treated_again_die_sooner():
    death = cohort(
        "scenario=illness_death", "course.untreated=0.37", "course.untreated_ratio=2.1"
    ).death_time[0, 0]

    def law(share, ratio=2.1):
        def survival(t):
            arms = [os_survival(t, 0.11, 0.03, 0.03 + 0.07 * f) for f in (ratio, 1.0)]
            return mixture_survival([share, 1.0 - share], arms)

        return survival

    assert p_value(death, law(0.37)) > FALSE_ALARM
    assert p_value(death, law(0.42)) < FALSE_ALARM
    assert p_value(death, law(0.37, ratio=2.4)) < FALSE_ALARM


def crossing_over(*more):
    """Chemotherapy alone, then the ICI: nobody dies before progression or while it benefits."""
    return (
        "scenario=independent_action",
        "strategy=[special_active]",
        "assessment=special_continuous",
        "coupling.spearman=0",
        "analysis.reference_strategy=''",
        "agents.active.activity.tumour_death_hazard=0.05",
        *more,
    )


def test_crossover_restarts_the_patients_own_benefit():
    first, own, tumour = np.log(2) / 6, np.log(2) / 4, 0.05
    without = cohort(*crossing_over()).death_time[0, 0]
    assert p_value(without, lambda t: hypoexponential_survival(t, (first, tumour))) > FALSE_ALARM

    crossed = cohort(*crossing_over("strategies.active.crossover=1"))
    assert np.all(crossed.next_line == crossed.next_lines.index("crossover"))

    def law(benefit):
        return lambda t: hypoexponential_survival(t, (first, benefit, tumour))

    assert p_value(crossed.death_time[0, 0], law(own)) > FALSE_ALARM
    assert p_value(crossed.death_time[0, 0], law(1.1 * own)) < FALSE_ALARM


def test_crossover_of_some_and_with_more_primary_resistance():
    first, own, tumour = np.log(2) / 6, np.log(2) / 4, 0.05
    simulated = cohort(
        *crossing_over("strategies.active.crossover=0.5", "course.crossover_primary=0.34")
    )
    crossed = simulated.next_line[0, 0] == simulated.next_lines.index("crossover")
    assert stats.binomtest(int(crossed.sum()), crossed.size, 0.5).pvalue > FALSE_ALARM

    def law(share):
        def survival(t):
            kinds = [(first, own, tumour), (first, tumour)]
            return mixture_survival(
                [share, 1.0 - share], [hypoexponential_survival(t, rates) for rates in kinds]
            )

        return survival

    assert p_value(simulated.death_time[0, 0], law(0.5 * 0.66)) > FALSE_ALARM
    assert p_value(simulated.death_time[0, 0], law(0.5)) < FALSE_ALARM


@pytest.mark.parametrize("reversal", [0.0, 0.4, 1.0])
def test_an_agent_added_at_progression_renews_the_benefit(reversal):
    # It undoes the mechanism that fired with the stated chance; the renewed benefit has the
    # acquired hazard times the agent's ratio, and the tumour-death clock stands still meanwhile.
    scenario = run(
        "scenario=illness_death", "course.background.hazard=[0.0]", "course.tumour_death_hazard=0.2"
    ).scenario
    added = Agent(
        "added", "added", "priming", False, np.array([reversal]), hazard_ratio=np.array([0.5])
    )
    strategy = replace(
        scenario.strategies[0],
        doses=(*scenario.strategies[0].doses, Dose("added", at_progression=True)),
    )
    scenario = replace(scenario, agents=(*scenario.agents, added), strategies=(strategy,))
    simulated = simulate_cohort(scenario, n_patients=200_000, seed=SEED, follow_up=400.0)
    treated = simulated.next_line[simulated.detection_time < simulated.death_time]
    helped = int(np.sum(treated == simulated.next_lines.index("addition")))
    assert stats.binomtest(helped, len(treated), reversal).pvalue > FALSE_ALARM

    def law(share, ratio=0.5):
        def survival(t):
            kinds = [(0.11, 0.11 * ratio, 0.2), (0.11, 0.2)]
            return mixture_survival(
                [share, 1.0 - share], [hypoexponential_survival(t, rates) for rates in kinds]
            )

        return survival

    death = simulated.death_time[0, 0]
    assert p_value(death, law(reversal)) > FALSE_ALARM
    assert p_value(death, law(abs(reversal - 0.05))) < FALSE_ALARM
    if reversal == 1.0:
        assert p_value(death, law(1.0, ratio=0.53)) < FALSE_ALARM


# ---------------------------------------------------------------- death


def total_hazard(scenario, simulated, s, drawn, regained):
    """Cumulative hazard of death at each patient's death, put together from the parts."""
    course, strategy = scenario.course, scenario.strategies[s]
    agents = [(dose, scenario.agent(dose.agent)) for dose in strategy.doses]
    activity = next((a.activity for _, a in agents if a.activity is not None), None)
    immune = any(a.checkpoint_inhibitor for _, a in agents)
    death, detection = simulated.death_time[0, s], simulated.detection_time[0, s]

    level = course.background_hazard if immune else activity.background_hazard
    total = piecewise_hazard(course.background_starts, level).cumulative(death)
    for dose, agent in agents:
        tox = agent.discontinuation
        law = piecewise_hazard([0.0, tox.window], [tox.early, tox.late])
        stop = np.full(death.shape, dose.stop)
        if not tox.absent:
            own = law.inverse(drawn.exponential("discontinuation", agent.name))
            stop = np.minimum(stop, own)
        names = [line.name for line in course.next_lines]
        beyond = 3 + names.index("continue_beyond_progression")
        stop = np.where(simulated.next_line[0, s] == beyond, stop, np.minimum(stop, detection))
        if not agent.fatal.absent:
            early = np.minimum(np.minimum(death, stop), agent.fatal.window)
            late = np.minimum(death, stop) - early
            total = total + agent.fatal.early * early + agent.fatal.late * late

    speed = np.exp(course.growth_sd * drawn.normal("growth_speed")) ** course.growth_exponent
    frailty = np.exp(course.death_frailty_sd * drawn.normal("death_frailty"))
    timing = ((simulated.resistance_time[0, s] + 1.5) / 7.5) ** -course.timing_exponent
    base = course.tumour_death_hazard if immune else activity.tumour_death_hazard
    ratios = {"untreated": course.untreated_ratio, "crossover": 1.0, "addition": 1.0}
    ratios |= {line.name: line.hazard_ratio for line in course.next_lines}
    by_code = np.array([ratios[name] for name in simulated.next_lines] + [1.0])
    ratio = by_code[simulated.next_line[0, s]]

    clock = simulated.progression_time[0, s]  # no agent here slows regrowth
    first = np.maximum(np.minimum(death, detection) - clock, 0.0)
    second = np.maximum(death - np.maximum(detection + regained, clock), 0.0)
    second = np.where(np.isfinite(clock), second, 0.0)
    return total + base * speed * frailty * timing * (first + ratio * second)


def renewed_benefit(scenario, simulated, s, drawn, own):
    """Months of renewed benefit at detection, by what the patient was given."""
    line = simulated.next_line[0, s]
    regained = np.zeros(line.shape)
    for code, name in enumerate(simulated.next_lines):
        here = line == code
        if name == "crossover":
            late = drawn.uniform("crossover_primary") < scenario.course.crossover_primary
            regained = np.where(here & ~late, own, regained)
        for given in scenario.course.next_lines:
            if given.name == name and given.regain > 0.0:
                lucky = drawn.uniform("regain", name) < given.regain
                scale = given.regain_median / np.log(2.0)
                length = scale * drawn.exponential("regained_benefit", name)
                regained = np.where(here & lucky, length, regained)
    return regained


def test_death_solves_the_total_hazard():
    # Exact: whatever happened on the way, the cumulative hazard of death at death is the stored
    # unit exponential of the patient, the same in every strategy.
    scenario = run(*DEFAULTS).scenario
    simulated = simulate_cohort(scenario, n_patients=FEW, seed=SEED)
    alone = run(*DEFAULTS, "strategies.anti_pd1.doses.anti_pd1.stop=inf").scenario
    own = simulate_cohort(alone, n_patients=FEW, seed=SEED).resistance_time[0, 0]
    drawn = draws()
    for s, name in enumerate(simulated.strategies):
        regained = renewed_benefit(scenario, simulated, s, drawn, own)
        if name == "chemotherapy":
            assert np.mean(regained > 0.0) > 0.2
        total = total_hazard(scenario, simulated, s, drawn, regained)
        assert np.all(np.isfinite(simulated.death_time[0, s]))
        np.testing.assert_allclose(total, drawn.exponential("death"), rtol=1e-9, atol=1e-12)
        assert p_value(total, stats.expon.sf) > FALSE_ALARM


def test_a_hazard_that_forgets_a_part_is_noticed():
    scenario = run(*DEFAULTS).scenario
    simulated = simulate_cohort(scenario, n_patients=FEW, seed=SEED)
    drawn = draws()
    for change in ({"timing_exponent": 0.0}, {"untreated_ratio": 1.0}, {"growth_exponent": 0.0}):
        wrong = replace(scenario, course=replace(scenario.course, **change))
        regained = renewed_benefit(scenario, simulated, 0, drawn, np.zeros(FEW))
        total = total_hazard(wrong, simulated, 0, drawn, regained)
        assert np.mean(np.abs(total - drawn.exponential("death")) > 0.01) > 0.1
