"""Primary and acquired resistance of the whole model against quadrature."""

from dataclasses import fields, replace

import numpy as np
import pytest
from agreement import FALSE_ALARM, SEED, N, cohort, p_value, p_value_with_atom, run, tabulated
from scipy import stats
from scipy.special import ndtr

from sim import simulate_cohort
from sim.assessment import Observed
from sim.exact import (
    activity_survival,
    bivariate_normal_cdf,
    expected_progression_free,
    expected_resistance_free,
    primary_share,
)
from sim.patient import draw_patients
from sim.randomness import Streams
from sim.resistance import backbone_rank
from sim.resistance import primary_share as simulated_primary_share
from sim.scenario import Agent, Dose, Strategy, ToxicityHazard

DEFAULTS = (
    "agent=[anti_pd1,platinum_doublet]",
    "strategy=[anti_pd1,chemotherapy,anti_pd1_chemotherapy]",
)


# ---------------------------------------------------------------- mechanisms at baseline


def test_baseline_mechanisms_overlap_as_a_gaussian_copula():
    population = run(*DEFAULTS).scenario.population
    patients = draw_patients(population, Streams(SEED, 0, 1, 1_000_000))
    tests, misses = [], []
    for b in range(len(population.strata)):
        present = patients.present[:, patients.stratum == b]
        cut = stats.norm.ppf(population.prevalence[b])
        for j in range(len(cut)):
            count, chance = int(present[j].sum()), population.prevalence[b, j]
            tests.append(stats.binomtest(count, present.shape[1], chance).pvalue)
            for k in range(j):
                r = population.loading[j] * population.loading[k]
                joint = float(bivariate_normal_cdf(cut[j], cut[k], r))
                both = int(np.sum(present[j] & present[k]))
                tests.append(stats.binomtest(both, present.shape[1], joint).pvalue)
                apart = population.prevalence[b, j] * population.prevalence[b, k]
                misses.append(stats.binomtest(both, present.shape[1], apart).pvalue)
    assert min(tests) > FALSE_ALARM
    # Mechanisms taken as independent would be refused.
    assert min(misses) < FALSE_ALARM


def test_primary_share_by_another_quadrature():
    scenario = run(*DEFAULTS).scenario
    population, reversal = scenario.population, scenario.agent("anti_pd1").reversal
    found = simulated_primary_share(scenario)
    for b, row in enumerate(population.prevalence):
        assert found[b] == pytest.approx(
            primary_share(row, population.loading, reversal), abs=1e-10
        )


@pytest.mark.parametrize("loading", [0.0, 0.5, 0.9])
def test_primary_share_with_strong_overlap(loading):
    scenario = run(*DEFAULTS).scenario
    population = replace(
        scenario.population, loading=np.full(len(scenario.population.mechanisms), loading)
    )
    found = simulated_primary_share(replace(scenario, population=population))
    reversal = scenario.agent("anti_pd1").reversal
    exact = primary_share(population.prevalence[0], population.loading, reversal)
    assert found[0] == pytest.approx(exact, abs=1e-5)


def test_rank_of_the_backbone_is_uniform():
    # Else the agent that is coupled to it would not keep its own law.
    scenario = run(*DEFAULTS).scenario
    patients = draw_patients(scenario.population, Streams(SEED, 0, 1, N))
    rank = ndtr(backbone_rank(patients, scenario))
    for b in range(len(scenario.population.strata)):
        assert p_value(rank[patients.stratum == b], stats.uniform.sf) > FALSE_ALARM


# ---------------------------------------------------------------- reversal by several agents


def with_partners(scenario, rule, chances, *, psi=1.0, reversal=0.0):
    """A scenario whose one mechanism is present in everybody, and partners that may undo it."""
    population = replace(scenario.population, prevalence=np.ones((1, 1)))
    partners = [
        Agent(f"partner_{a}", "partner", "priming", False, np.array([c]), np.ones(1))
        for a, c in enumerate(chances)
    ]
    doses = (Dose("backbone"), *(Dose(agent.name) for agent in partners))
    strategy = Strategy(rule, rule, "rules", doses, rule=rule, psi=psi)
    return replace(
        scenario,
        population=population,
        agents=(*scenario.agents, *partners),
        strategies=(strategy,),
        coupling=replace(scenario.coupling, reversal=reversal),
    )


def both_fail(first, second, correlation):
    """Chance that two draws with a shared factor both miss."""
    return bivariate_normal_cdf(-stats.norm.ppf(first), -stats.norm.ppf(second), correlation)


@pytest.mark.parametrize(
    ("rule", "psi", "reversal", "resistant"),
    [
        ("independent_action", 1.0, 0.0, 0.6 * 0.7),
        ("highest_single_agent", 1.0, 0.0, 0.6),
        ("additive", 1.0, 0.0, 0.3),
        ("synergy", 0.7, 0.0, 0.7 * 0.6 * 0.7),
        ("synergy", 1.2, 0.0, 1.2 * 0.6 * 0.7),
        ("independent_action", 1.0, 0.5, float(both_fail(0.4, 0.3, 0.5))),
    ],
)
def test_chance_that_several_agents_undo_a_mechanism(rule, psi, reversal, resistant):
    scenario = run("scenario=constant_hazard").scenario
    scenario = with_partners(scenario, rule, (0.4, 0.3), psi=psi, reversal=reversal)
    primary = simulate_cohort(scenario, n_patients=N, seed=SEED).primary[0, 0]
    count = int(primary.sum())
    assert stats.binomtest(count, N, resistant).pvalue > FALSE_ALARM
    assert stats.binomtest(count, N, 1.03 * resistant).pvalue < FALSE_ALARM


# ---------------------------------------------------------------- the whole model, one ICI


def test_shares_of_depth_and_durability():
    population = run(*DEFAULTS).scenario.population
    simulated = cohort(*DEFAULTS)
    primary = simulated_primary_share(run(*DEFAULTS).scenario)
    for b in range(len(population.strata)):
        here = simulated.stratum[0] == b
        depth, durable = simulated.depth[0, 0, here], simulated.durable[0, 0, here]
        counts = [np.sum(depth == 0)]
        counts += [np.sum((depth == d) & (durable == u)) for d in (1, 2) for u in (False, True)]
        q, dr, dc = (
            getattr(population, name)[b]
            for name in ("responding", "durable_responding", "durable_controlled")
        )
        shares = np.array([(1 - q) * (1 - dc), (1 - q) * dc, q * (1 - dr), q * dr])
        chances = np.array([primary[b], *((1.0 - primary[b]) * shares)])
        total = int(here.sum())
        assert stats.chisquare(counts, chances * total).pvalue > FALSE_ALARM
        more = shares * [1.0, 1.0, 1.1, 1.1]
        wrong = np.array([primary[b], *((1.0 - primary[b]) * more / more.sum())])
        assert stats.chisquare(counts, wrong * total).pvalue < FALSE_ALARM


def test_resistance_under_anti_pd1_alone():
    scenario = run(*DEFAULTS).scenario
    times = cohort(*DEFAULTS).resistance_time[0, 0]
    assert np.all(np.isfinite(times))

    def law(changed):
        last = float(times.max())
        return tabulated(lambda t: expected_resistance_free(changed, "anti_pd1", t), last, 300)

    assert p_value_with_atom(times, law(scenario)) > FALSE_ALARM
    population = scenario.population
    for change in (
        {"course": replace(scenario.course, stop_effect=0.0)},
        {"population": replace(population, controlled_ratio=0.9 * population.controlled_ratio)},
        {"population": replace(population, durable_hazard=1.2 * population.durable_hazard)},
        {"population": replace(population, frailty_sd=population.frailty_sd + 0.36)},
    ):
        assert p_value_with_atom(times, law(replace(scenario, **change))) < FALSE_ALARM, change
    never = replace(scenario.agent("anti_pd1"), discontinuation=ToxicityHazard())
    untoxic = replace(scenario, agents=(never,), strategies=scenario.strategies[:1])
    assert p_value_with_atom(times, law(untoxic)) < FALSE_ALARM


def test_progression_free_survival_under_anti_pd1_alone():
    scenario = run(*DEFAULTS).scenario
    simulated = cohort(*DEFAULTS)
    times = np.minimum(simulated.progression_time, simulated.death_time)[0, 0]

    def law(changed):
        return tabulated(
            lambda t: expected_progression_free(changed, "anti_pd1", t), float(times.max())
        )

    assert p_value(times, law(scenario)) > FALSE_ALARM
    for name, factor in (("acquired_lag", 1.1), ("primary_lag", 1.03), ("growth_sd", 1.1)):
        course = replace(scenario.course, **{name: factor * getattr(scenario.course, name)})
        assert p_value(times, law(replace(scenario, course=course))) < FALSE_ALARM, name


def partner(scenario, name, **given):
    """An agent that does a little of everything, on the mechanisms of a scenario."""
    count = len(scenario.population.mechanisms)
    reversal, ratio = np.zeros(count), np.ones(count)
    reversal[[1, 4]], ratio[[1, 4, 5]] = [0.5, 0.3], [0.3, 0.6, 1.4]
    return Agent(name, name, "priming", False, reversal, ratio, **given)


def test_resistance_under_a_combination():
    # A partner with a late onset and an early end, an effect on response and on durability, and a
    # second one that starts later; the backbone is stopped by plan and by toxicity.
    scenario = run(*DEFAULTS).scenario
    first = partner(scenario, "first", response=0.2, durability=0.15, onset=2.0)
    none, same = np.zeros_like(first.reversal), np.ones_like(first.hazard_ratio)
    second = replace(partner(scenario, "second"), hazard_ratio=0.7 * same)
    strategy = Strategy(
        "both",
        "both",
        "test",
        (Dose("anti_pd1", stop=18.0), Dose("first", stop=9.0), Dose("second", start=4.0)),
    )
    scenario = replace(scenario, agents=(*scenario.agents, first, second), strategies=(strategy,))
    times = simulate_cohort(scenario, n_patients=N, seed=SEED).resistance_time[0, 0]

    def law(changed):
        last = float(times.max())
        return tabulated(lambda t: expected_resistance_free(changed, "both", t), last, 300)

    assert p_value_with_atom(times, law(scenario)) > FALSE_ALARM
    for change in (
        {"onset": 0.0},
        {"durability": 0.0},
        {"response": 0.0},
        {"hazard_ratio": same},
        {"reversal": none},
    ):
        wrong = replace(scenario, agents=(*scenario.agents[:-2], replace(first, **change), second))
        assert p_value_with_atom(times, law(wrong)) < FALSE_ALARM, change


def test_what_has_no_exact_law_says_so():
    scenario = run(*DEFAULTS).scenario
    with pytest.raises(ValueError, match="must give one checkpoint inhibitor"):
        expected_resistance_free(scenario, "chemotherapy", 1.0)
    with pytest.raises(ValueError, match="activity of its own"):
        expected_resistance_free(scenario, "anti_pd1_chemotherapy", 1.0)


# ---------------------------------------------------------------- an agent with activity


def test_chemotherapy_keeps_its_own_law():
    # Coupled to a benefit with an atom, a mixture and overlapping mechanisms, and moved by none.
    activity = run(*DEFAULTS).scenario.agent("platinum_doublet").activity
    times = cohort(*DEFAULTS).resistance_time[0, 1]

    def law(**change):
        return lambda t: activity_survival(t, replace(activity, **change))

    assert p_value_with_atom(times, law()) > FALSE_ALARM
    for name in ("refractory", "responding", "scale", "controlled_ratio"):
        wrong = law(**{name: 1.05 * getattr(activity, name)})
        assert p_value_with_atom(times, wrong) < FALSE_ALARM, name


def test_independent_action_in_the_whole_model():
    # Where chemotherapy leaves the ICI's own benefit alone, the later of the two counts.
    scenario = run(*DEFAULTS).scenario
    doublet = scenario.agent("platinum_doublet")
    plain = replace(doublet, reversal=0.0 * doublet.reversal, response=0.0)
    scenario = replace(
        scenario,
        agents=(
            scenario.agents[0],
            replace(plain, durability=0.0, hazard_ratio=doublet.hazard_ratio**0),
        ),
    )
    simulated = simulate_cohort(scenario, n_patients=20_000, seed=SEED)
    alone, chemotherapy, both = simulated.resistance_time[0]
    assert np.array_equal(both, np.maximum(alone, chemotherapy))
    assert np.array_equal(
        simulated.primary[0, 2], simulated.primary[0, 0] & simulated.primary[0, 1]
    )


# ---------------------------------------------------------------- tailored treatment


def test_a_tailored_strategy_is_the_explicit_one_in_each_patient():
    scenario = run(*DEFAULTS).scenario
    names = scenario.population.mechanisms
    a, b = partner(scenario, "a"), replace(partner(scenario, "b"), growth_ratio=0.8)
    matched = {"a": (names[1],), "b": (names[4], names[5])}

    def strategy(name, *doses):
        return Strategy(name, name, "test", (Dose("anti_pd1", stop=24.0), *doses),
                        sensitivity=0.8, specificity=0.9)  # fmt: skip

    scenario = replace(
        scenario,
        agents=(*scenario.agents, a, b),
        strategies=(
            strategy("tailored", *(Dose(agent, matched=m) for agent, m in matched.items())),
            strategy("with a", Dose("a")),
            strategy("with b", Dose("b")),
            strategy("neither"),
        ),
    )
    simulated = simulate_cohort(scenario, n_patients=20_000, seed=SEED)

    patients = draw_patients(scenario.population, Streams(SEED, 0, 1, 20_000))
    positive = []
    for mechanisms in matched.values():
        hit = np.zeros(len(patients), dtype=bool)
        for mechanism in mechanisms:
            chance = np.where(patients.present[names.index(mechanism)], 0.8, 0.1)
            hit |= patients.draws.uniform("mechanism_test", mechanism) < chance
        positive.append(hit)
    explicit = np.where(positive[0], 1, np.where(positive[1], 2, 3))
    assert all(np.mean(explicit == s) > 0.05 for s in (1, 2, 3))

    rows = np.arange(len(patients))
    whole = [(simulated, item.name) for item in fields(simulated)]
    whole += [(simulated.observed, item.name) for item in fields(Observed)]
    for owner, name in whole:
        values = getattr(owner, name)
        if isinstance(values, np.ndarray) and values.ndim == 3:
            assert np.array_equal(values[0, 0], values[0, explicit, rows]), name
    # And not that of another strategy, or the test would say nothing.
    wrong = np.where(positive[1], 2, np.where(positive[0], 1, 3))
    times = simulated.resistance_time[0]
    assert not np.array_equal(times[0], times[wrong, rows])
