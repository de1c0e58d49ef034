"""Rules of combination against their closed forms, and the draws that carry them out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.combination import RULES, Rule, conditional_chances, find_rule
from sim.errors import ScenarioError
from sim.patient import Draws
from sim.randomness import Streams
from sim.resistance import Regimen, reversed_mechanisms
from sim.scenario import Agent, Coupling, Dose

FALSE_ALARM = 1e-6  # see tests/property/test_randomness.py
SEED = 20240601
N = 200_000

INDEPENDENT, HIGHEST, ADDITIVE, SYNERGY = (
    RULES[name]
    for name in ("independent_action", "highest_single_agent", "additive", "synergy")
)  # fmt: skip

fixed = settings(max_examples=200, deadline=None, derandomize=True, database=None)
chances = st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0), min_size=1, max_size=4)
every_rule = st.sampled_from([(rule, 1.0) for rule in RULES.values()] + [(SYNERGY, 0.4)])


def chance(rule: Rule, values, psi=1.0):
    return float(rule.chance(np.array(values, dtype=float), psi))


def ratio(rule: Rule, values, psi=1.0):
    return float(rule.hazard_ratio([np.array(value) for value in values], psi))


def time(rule: Rule, first, second, first_scan=2.0):
    return float(rule.time(np.array(first), np.array(second), first_scan))


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("rule", "psi", "total"),
    [
        (INDEPENDENT, 1.0, 1 - 0.7 * 0.6 * 0.9),
        (HIGHEST, 1.0, 0.4),
        (ADDITIVE, 1.0, 0.8),
        (SYNERGY, 1.0, 1 - 0.7 * 0.6 * 0.9),
        (SYNERGY, 0.5, 1 - 0.5 * 0.7 * 0.6 * 0.9),
        (SYNERGY, 1.5, 1 - 1.5 * 0.7 * 0.6 * 0.9),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else f"{value:g}",
)
def test_the_total_chance_of_three_agents_is_the_closed_form(rule, psi, total):
    assert chance(rule, [0.3, 0.4, 0.1], psi) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "psi", "joint"),
    [
        (INDEPENDENT, 1.0, 0.7 * 0.6),
        (HIGHEST, 1.0, 0.6),
        (ADDITIVE, 1.0, 1 - 0.3 - 0.4),
        (SYNERGY, 1.0, 0.7 * 0.6),
        (SYNERGY, 0.5, 0.5 * 0.7 * 0.6),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else f"{value:g}",
)
def test_the_joint_hazard_ratio_is_the_closed_form(rule, psi, joint):
    assert ratio(rule, [0.7, 0.6], psi) == pytest.approx(joint, rel=1e-12)


def test_additive_effects_stop_at_certainty_and_at_no_hazard():
    assert chance(ADDITIVE, [0.7, 0.6]) == 1.0
    assert ratio(ADDITIVE, [0.3, 0.2]) == 0.0


@pytest.mark.parametrize(
    ("first", "second", "joint"),
    [
        (8.0, 5.0, 11.0),  # 8 + (5 - 2)
        (5.0, 8.0, 11.0),
        (8.0, 2.0, 8.0),  # a benefit no longer than the first scan adds nothing
        (8.0, 1.0, 8.0),
        (1.5, 1.0, 1.5),
        (0.0, 6.0, 6.0),
        (0.0, 0.0, 0.0),
        (np.inf, 3.0, np.inf),
    ],
)
def test_additive_times_add_what_goes_beyond_the_first_scan(first, second, joint):
    assert time(ADDITIVE, first, second) == joint


@pytest.mark.parametrize("rule", [INDEPENDENT, HIGHEST, SYNERGY], ids=lambda rule: rule.name)
def test_without_additivity_the_later_of_two_times_counts(rule):
    assert time(rule, 8.0, 5.0) == 8.0
    assert time(rule, 0.0, 5.0) == 5.0


def test_psi_acts_only_where_two_agents_have_a_benefit_to_combine():
    assert chance(SYNERGY, [0.3, 0.0], 0.5) == pytest.approx(0.3)
    assert chance(SYNERGY, [0.3], 0.5) == pytest.approx(0.3)
    assert ratio(SYNERGY, [0.7, 1.0], 0.5) == pytest.approx(0.7)
    # An agent that makes resistance come sooner has no benefit to combine.
    assert ratio(SYNERGY, [0.7, 1.2], 0.5) == pytest.approx(0.84)


@fixed
@given(values=chances)
def test_synergy_with_psi_one_is_independent_action(values):
    assert chance(SYNERGY, values) == pytest.approx(chance(INDEPENDENT, values), abs=1e-15)
    assert ratio(SYNERGY, values) == pytest.approx(ratio(INDEPENDENT, values), abs=1e-15)


@fixed
@given(values=chances, rule=every_rule)
def test_no_combination_is_worse_than_one_of_its_agents(values, rule):
    rule, psi = rule
    assert chance(rule, values, psi) >= max(values) - 1e-15
    assert ratio(rule, values, psi) <= min(values) + 1e-15


@fixed
@given(values=chances, rule=every_rule)
def test_the_rules_are_ordered_from_the_best_agent_to_the_sum(values, rule):
    rule, psi = rule
    assert chance(HIGHEST, values) <= chance(rule, values, psi) + 1e-15
    assert chance(INDEPENDENT, values) <= chance(ADDITIVE, values) + 1e-15


@fixed
@given(values=chances, rule=every_rule)
def test_one_agent_is_itself_under_every_rule(values, rule):
    rule, psi = rule
    for value in values:
        assert chance(rule, [value], psi) == pytest.approx(value, abs=1e-15)
        assert ratio(rule, [value], psi) == pytest.approx(value, abs=1e-15)


@fixed
@given(values=chances, rule=every_rule)
def test_independent_draws_against_conditional_chances_have_the_rules_total(values, rule):
    rule, psi = rule
    own = np.array(values)
    steps = conditional_chances(rule, own, psi)
    assert np.all((steps >= 0.0) & (steps <= 1.0))
    for count in range(1, len(own) + 1):
        missed = np.prod(1.0 - steps[:count])
        assert 1.0 - missed == pytest.approx(chance(rule, own[:count], psi), abs=1e-12)


def test_conditional_chances_work_on_a_whole_matrix_at_once():
    own = np.array([[0.2, 1.0, 0.0], [0.4, 0.3, 0.0]])
    assert conditional_chances(ADDITIVE, own) == pytest.approx(
        np.array([[0.2, 1.0, 0.0], [0.5, 0.0, 0.0]])
    )


def test_a_rule_that_is_not_known_is_refused_with_the_nearest_name():
    with pytest.raises(ScenarioError) as error:
        find_rule("strategies.mine.rule", "aditive")
    assert str(error.value) == (
        "strategies.mine.rule: no combination rule named 'aditive'. Did you mean 'additive'? "
        "Known: additive, highest_single_agent, independent_action, synergy."
    )


# ---------------------------------------------------------------- draws

OWN = {"a": 0.3, "b": 0.5, "c": 0.2}


@pytest.fixture(scope="module")
def one_mechanism(default_run):
    """The default population with one mechanism."""
    population = default_run.scenario.population
    return replace(
        population,
        mechanisms=("exclusion",),
        intrinsic=np.array([False]),
        prevalence=population.prevalence[:, :1],
        loading=np.zeros(1),
        acquired_share=np.ones((len(population.strata), 1)),
    )


def undone(population, names, rule=INDEPENDENT, psi=1.0, correlation=0.0):
    """Whether each of N patients has the mechanism undone by one of the agents."""
    agents = tuple(
        (Dose(n), Agent(n, n, "test", n == "a", np.array([OWN[n]]), np.ones(1))) for n in names
    )
    regimen = Regimen(agents, (), rule, psi)
    coupling = Coupling(reversal=correlation)
    return reversed_mechanisms(regimen, population, coupling, Draws(Streams(SEED, 0, 1, N)), N)[0]


@pytest.mark.parametrize(
    ("rule", "psi"),
    [(rule, 1.0) for rule in RULES.values()] + [(SYNERGY, 0.6), (SYNERGY, 1.2)],
    ids=lambda value: value.name if isinstance(value, Rule) else f"{value:g}",
)
def test_mechanisms_are_undone_with_the_chance_of_the_rule(one_mechanism, rule, psi):
    together = undone(one_mechanism, "abc", rule, psi)
    total = chance(rule, list(OWN.values()), psi)
    # 200,000 patients: a chance 0.0055 away would be noticed.
    assert stats.binomtest(int(together.sum()), N, total).pvalue > FALSE_ALARM
    # The first agent's successes stay, and without the last agent there are no more of them.
    assert np.all(together[undone(one_mechanism, "a", rule, psi)])
    assert np.all(together[undone(one_mechanism, "ab", rule, psi)])
    if psi <= 1.0:
        assert np.all(together[undone(one_mechanism, "ac", rule, psi)])


def test_under_independent_action_each_agent_undoes_the_same_with_or_without_the_others(
    one_mechanism,
):
    parts = [undone(one_mechanism, name) for name in "abc"]
    assert np.array_equal(undone(one_mechanism, "abc"), np.logical_or.reduce(parts))
    assert abs(np.corrcoef(parts[0], parts[1])[0, 1]) < stats.norm.isf(FALSE_ALARM) / np.sqrt(N)


@pytest.mark.parametrize("correlation", [0.3, 0.8])
def test_correlated_reversal_keeps_each_agents_own_chance(one_mechanism, correlation):
    parts = [undone(one_mechanism, name, correlation=correlation) for name in "abc"]
    for name, part in zip("abc", parts, strict=True):
        assert stats.binomtest(int(part.sum()), N, OWN[name]).pvalue > FALSE_ALARM
    together = undone(one_mechanism, "abc", correlation=correlation)
    assert np.array_equal(together, np.logical_or.reduce(parts))
    pair = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]])
    both = float(pair.cdf([stats.norm.ppf(OWN["a"]), stats.norm.ppf(OWN["b"])]))
    assert stats.binomtest(int((parts[0] & parts[1]).sum()), N, both).pvalue > FALSE_ALARM
    assert stats.binomtest(int((parts[0] & parts[1]).sum()), N, 0.3 * 0.5).pvalue < FALSE_ALARM


def test_an_agent_that_comes_later_undoes_nothing_at_baseline(one_mechanism):
    agent = Agent("a", "a", "test", True, np.array([1.0]), np.ones(1))
    for start, share in ((0.0, 1.0), (0.5, 0.0)):
        regimen = Regimen(((Dose("a", start=start), agent),), (), INDEPENDENT, 1.0)
        draws = Draws(Streams(SEED, 0, 1, 10))
        found = reversed_mechanisms(regimen, one_mechanism, Coupling(), draws, 10)
        assert found.mean() == share
