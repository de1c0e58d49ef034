"""A better strategy harms nobody: one stored draw for every decision, and nested thresholds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import simulate_cohort
from sim.combination import RULES
from sim.scenario import Coupling, Dose, ToxicityHazard

N = 400
SLACK = 1e-9  # of a time: the same hazard, summed in another order

fixed = settings(max_examples=60, deadline=None, derandomize=True, database=None)

chance = st.sampled_from([0.0, 0.2, 0.6, 1.0]) | st.floats(0.01, 0.99)
ratio = st.sampled_from([0.0, 0.5, 1.0, 1.5]) | st.floats(0.05, 2.0)
rules = st.sampled_from([(name, 1.0) for name in RULES] + [("synergy", 0.6)])
seeds = st.integers(0, 2**31)


@st.composite
def nested_pair(draw, values):
    """Two values, the smaller first."""
    return tuple(sorted((draw(values), draw(values))))


@st.composite
def worse_and_better(draw):
    """The same agent twice, the second at least as good in every respect."""
    pairs = {
        "reversal_odd": draw(nested_pair(chance)),
        "reversal_even": draw(nested_pair(chance)),
        "hazard_odd": draw(nested_pair(ratio))[::-1],
        "hazard_even": draw(nested_pair(ratio))[::-1],
        "response": draw(nested_pair(chance)),
        "durability": draw(nested_pair(chance)),
    }
    return [{name: pair[i] for name, pair in pairs.items()} for i in range(2)]


def effects(values, mechanisms):
    odd = np.arange(mechanisms) % 2 == 1
    return {
        "reversal": np.where(odd, values["reversal_odd"], values["reversal_even"]),
        "hazard_ratio": np.where(odd, values["hazard_odd"], values["hazard_even"]),
        "response": values["response"],
        "durability": values["durability"],
    }


def cohort_of(scenario, seed, follow_up=24.0):
    return simulate_cohort(scenario, n_patients=N, seed=seed, follow_up=follow_up)


def assert_no_worse(better, worse):
    """Row by row: later resistance, no new primary resistance, no shallower benefit."""
    assert np.all(better.resistance_time >= worse.resistance_time * (1.0 - SLACK))
    assert not np.any(better.primary & ~worse.primary)
    assert np.all(better.depth >= worse.depth)


@fixed
@given(
    values=worse_and_better(), rule=rules, seed=seeds, who=st.sampled_from(["blocker", "primer"])
)
def test_a_better_partner_brings_nobodys_resistance_forward(toolbox, values, rule, seed, who):
    name, psi = rule
    blocker = Dose("blocker", stop=9.0)
    treated = toolbox.with_strategies(
        toolbox.treat("backbone", blocker, name="two", rule=name, psi=psi),
        toolbox.treat("backbone", blocker, "primer", name="three", rule=name, psi=psi),
        toolbox.treat("backbone", "chemotherapy", blocker, name="joint", rule=name, psi=psi),
    )
    count = len(treated.population.mechanisms)
    worse, better = (
        cohort_of(toolbox.change_agents(treated, **{who: effects(v, count)}), seed) for v in values
    )
    assert_no_worse(better, worse)


@fixed
@given(values=worse_and_better(), rule=rules, seed=seeds)
def test_a_better_backbone_brings_nobodys_resistance_forward(toolbox, values, rule, seed):
    # Without agents of own activity, whose benefit is ranked by that of the backbone.
    name, psi = rule
    treated = toolbox.with_strategies(
        toolbox.treat(Dose("backbone", stop=12.0), name="alone"),
        toolbox.treat("backbone", "blocker", "primer", name="three", rule=name, psi=psi),
    )
    count = len(treated.population.mechanisms)
    worse, better = (
        cohort_of(toolbox.change_agents(treated, backbone=effects(v, count)), seed) for v in values
    )
    assert_no_worse(better, worse)


@fixed
@given(values=worse_and_better(), seed=seeds, correlation=st.sampled_from([0.3, 0.9]))
def test_so_it_is_where_the_reversals_of_agents_are_correlated(toolbox, values, seed, correlation):
    treated = replace(
        toolbox.with_strategies(toolbox.treat("backbone", "blocker", "primer", name="three")),
        coupling=Coupling(reversal=correlation),
    )
    count = len(treated.population.mechanisms)
    worse, better = (
        cohort_of(toolbox.change_agents(treated, primer=effects(v, count)), seed) for v in values
    )
    assert_no_worse(better, worse)


@pytest.mark.parametrize(("rule", "psi"), [(name, 1.0) for name in RULES] + [("synergy", 0.5)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_more_agents_never_add_primary_resistance_or_bring_any_forward(toolbox, rule, psi, seed):
    steps = [
        ["backbone"],
        ["backbone", "primer"],
        ["backbone", "primer", "blocker"],
        ["backbone", "primer", "blocker", "chemotherapy"],
    ]
    cohort = simulate_cohort(
        toolbox.with_strategies(*(toolbox.treat(*step, rule=rule, psi=psi) for step in steps)),
        n_patients=4_000,
        seed=seed,
    )
    time, primary = cohort.resistance_time[0], cohort.primary[0]
    for less, more in zip(range(3), range(1, 4), strict=True):
        assert not np.any(primary[more] & ~primary[less])
        assert primary[more].sum() < primary[less].sum()
        assert np.all(time[more] >= time[less] * (1.0 - SLACK))


@pytest.mark.parametrize(
    "change",
    [{"stop_effect": 2.0}, {"primary_lag": 0.3, "acquired_lag": 1.0}],
    ids=["stopping", "lags"],
)
def test_what_harms_after_or_at_stopping_brings_no_resistance_later(toolbox, change):
    scenario = toolbox.scenario
    harmed = replace(scenario, course=replace(scenario.course, **change))
    plain, worse = (simulate_cohort(s, n_patients=2_000, seed=4) for s in (scenario, harmed))
    assert np.all(worse.resistance_time <= plain.resistance_time * (1.0 + SLACK))
    assert np.all(worse.progression_time <= plain.progression_time * (1.0 + SLACK))


def test_a_longer_course_of_a_helpful_partner_brings_no_resistance_forward(toolbox):
    lengths = [2.0, 6.0, 18.0, np.inf]
    undisturbed = toolbox.change_agents(
        toolbox.scenario, blocker={"discontinuation": ToxicityHazard()}
    )
    strategies = [
        toolbox.treat("backbone", Dose("blocker", stop=stop), name=f"until {stop:g}")
        for stop in lengths
    ]
    cohort = simulate_cohort(
        replace(undisturbed, strategies=tuple(strategies)), n_patients=2_000, seed=5
    )
    time = cohort.resistance_time[0]
    for shorter, longer in pairwise(time):
        assert np.all(longer >= shorter * (1.0 - SLACK))


def test_slower_growth_delays_the_scan_and_not_the_resistance_or_the_death_clock(toolbox):
    quiet = replace(
        toolbox.scenario.course,
        next_lines=(replace(toolbox.scenario.course.next_lines[-1], share=1.0, hazard_ratio=1.0),),
        untreated=0.0,
    )
    scenario = replace(
        toolbox.with_strategies(toolbox.treat("backbone", "primer", name="both")), course=quiet
    )
    # Without toxicity: a later scan also means a longer time on drug.
    mild = {"fatal": ToxicityHazard(), "discontinuation": ToxicityHazard()}
    fast, slow = (
        toolbox.change_agents(scenario, backbone=mild, primer={**mild, "growth_ratio": ratio})
        for ratio in (1.0, 0.5)
    )
    one, other = (simulate_cohort(s, n_patients=2_000, seed=6) for s in (fast, slow))
    assert np.array_equal(one.resistance_time, other.resistance_time)
    assert np.allclose(one.death_time, other.death_time, rtol=1e-9)
    finite = np.isfinite(one.progression_time)
    lag = (one.progression_time - one.resistance_time)[finite]
    assert np.allclose((other.progression_time - other.resistance_time)[finite], 2.0 * lag)
