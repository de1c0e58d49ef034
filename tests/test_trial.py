"""Trials: accrual, allocation, loss, and that a trial shows what the cohort would."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from scipy import stats

from sim.assessment import TICK
from sim.command import register_schema
from sim.config import read_run
from sim.cut import CutRule, cut_at
from sim.errors import ScenarioError
from sim.randomness import BLOCK, Streams
from sim.trial import Accrual, Arm, TrialDesign, allocate, blocks_of, simulate_block

FALSE_ALARM = 1e-6
UNIFORM = Accrual(duration=12.0)


def scenario(*overrides):
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides))).scenario


@pytest.fixture(scope="module")
def delayed():
    return scenario("scenario=delayed_effect")


@pytest.fixture(scope="module")
def whole():
    return scenario("strategy=[anti_pd1,tailored,anti_pd1_chemotherapy]")


def design(*arms, n=200, accrual=UNIFORM, block=4, **options):
    weights = [arm if isinstance(arm, Arm) else Arm(arm) for arm in arms]
    return TrialDesign(n, tuple(weights), accrual, block, **options)


def cut_by_events(block, counted, n_events, endpoint):
    return cut_at(block, endpoint, *CutRule(counted, events=n_events).date(block))


def simulate(scenario, design, block=0, endpoints=("pfs", "os"), horizon=200.0):
    return simulate_block(
        scenario, design, seed=5, block=block, endpoints=endpoints, horizon=horizon
    )


def test_uniform_accrual_is_uniform():
    entry = UNIFORM.entries(Streams(1, 0, BLOCK, 2000)).ravel()
    assert stats.kstest(entry / 12.0, "uniform").pvalue > FALSE_ALARM
    assert stats.kstest(entry / 12.1, "uniform").pvalue < FALSE_ALARM


def test_piecewise_accrual_is_a_poisson_process_with_these_rates():
    accrual = Accrual(starts=np.array([0.0, 6.0]), rates=np.array([10.0, 20.0]))
    entry = accrual.entries(Streams(1, 0, BLOCK, 400))
    early = np.sum(entry < 6.0, axis=1)
    later = np.sum((entry >= 6.0) & (entry < 10.0), axis=1)
    # 50 Poisson counts of 60 and of 80: sums have standard deviations 55 and 63.
    assert abs(early.sum() - 3000) < 4.9 * np.sqrt(3000)
    assert abs(later.sum() - 4000) < 4.9 * np.sqrt(4000)
    assert np.all(np.diff(entry, axis=1) > 0.0)


def test_the_first_entries_are_the_same_when_more_are_enrolled():
    accrual = Accrual(starts=np.array([0.0]), rates=np.array([20.0]))
    few, many = (accrual.entries(Streams(1, 0, BLOCK, n)) for n in (100, 300))
    assert np.array_equal(few, many[:, :100])


def test_permuted_blocks_hold_the_weights():
    plan = design(Arm("a", 1), Arm("b", 2), block=6, n=600)
    arm = allocate(plan, Streams(3, 0, BLOCK, 600), np.zeros((BLOCK, 600), dtype=np.intp))
    counts = arm.reshape(BLOCK, 100, 6).sum(axis=2)
    assert np.all(counts == 4)
    # Each of the 15 orders is as likely as the others.
    words = arm.reshape(-1, 6) @ (1 << np.arange(6))
    observed = np.unique(words, return_counts=True)[1]
    assert len(observed) == 15
    assert stats.chisquare(observed).pvalue > FALSE_ALARM


def test_stratified_blocks_balance_each_stratum():
    plan = design("a", "b", n=600, stratified=True)
    stratum = np.random.default_rng(1).integers(0, 3, (BLOCK, 600))
    arm = allocate(plan, Streams(3, 0, BLOCK, 600), stratum)
    for b in range(3):
        ones = np.sum((stratum == b) & (arm == 1), axis=1)
        zeros = np.sum((stratum == b) & (arm == 0), axis=1)
        assert np.abs(ones - zeros).max() <= 2
    plain = allocate(design("a", "b", n=600), Streams(3, 0, BLOCK, 600), stratum)
    gap = [np.sum((stratum == 0) & (plain == k), axis=1) for k in (0, 1)]
    assert np.abs(gap[0] - gap[1]).max() > 2, "without strata they would not balance"


def test_a_patient_in_an_arm_has_the_outcome_that_the_cohort_shows(whole):
    names = [strategy.name for strategy in whole.strategies]
    block = simulate(whole, design(*names, n=120, block=6, dropout=0.0))
    # The cohort of the same patients: a block of trials is one row of R N patients.
    from dataclasses import replace

    from sim.assessment import draw_calendar
    from sim.cohort import simulate_strategy
    from sim.patient import draw_patients
    from sim.resistance import backbone_rank

    patients = draw_patients(whole.population, Streams(5, 0, BLOCK, 120))
    patients = replace(patients, rank=backbone_rank(patients, whole))
    calendar = draw_calendar(whole.assessment, patients.draws, 200.0)
    for a, strategy in enumerate(whole.strategies):
        path = simulate_strategy(whole, strategy, patients, calendar, 200.0)
        own = block.arm.ravel() == a
        seen = path.observed
        followed = block.endpoints["os"]
        assert np.array_equal(followed.tick.ravel()[own] * TICK, seen.os_time[own])
        assert np.array_equal(followed.event.ravel()[own], seen.os_event[own])
        event = block.endpoints["pfs"].event.ravel()
        assert np.array_equal(event[own], seen.pfs_event[own])
        both = own & event
        tick = block.endpoints["pfs"].tick.ravel()
        assert np.array_equal(tick[both] * TICK, seen.pfs_time[both])


def test_the_first_patients_are_the_same_when_more_are_enrolled(whole):
    names = [strategy.name for strategy in whole.strategies]
    accrual = Accrual(starts=np.array([0.0]), rates=np.array([20.0]))
    few, many = (simulate(whole, design(*names, n=n, block=6, accrual=accrual)) for n in (60, 120))
    assert np.array_equal(few.arm, many.arm[:, :60])
    assert np.array_equal(few.entry, many.entry[:, :60])
    for name in ("pfs", "os"):
        assert np.array_equal(few.endpoints[name].tick, many.endpoints[name].tick[:, :60])


def test_dropout_has_its_hazard_and_moves_nothing_else(delayed):
    none = simulate(delayed, design("control", "experimental", n=1000), endpoints=("pfs",))
    some = simulate(
        delayed, design("control", "experimental", n=1000, dropout=0.05), endpoints=("pfs",)
    )
    assert np.array_equal(none.arm, some.arm)
    first, second = none.endpoints["pfs"], some.endpoints["pfs"]
    assert np.array_equal(first.tick[second.event], second.tick[second.event])
    # Competing exponentials: the share lost in the control arm is 0.05 / (0.05 + log 2 / 10).
    control = some.arm == 0
    lost = int(np.sum(~second.event & control))
    share = 0.05 / (0.05 + np.log(2.0) / 10.0)
    assert stats.binomtest(lost, int(control.sum()), share).pvalue > FALSE_ALARM
    assert stats.binomtest(lost, int(control.sum()), 0.95 * share).pvalue < FALSE_ALARM


def test_a_cut_by_events_holds_exactly_that_many(delayed):
    block = simulate(delayed, design("control", "experimental", n=300), endpoints=("pfs",))
    cut = cut_by_events(block, "pfs", 150, "pfs")
    assert cut.target_reached.all()
    assert np.all(cut.event.sum(axis=1) == 150)
    assert np.all(cut.tick[block.entry >= cut.date[:, None]] == 0)
    calendar = (block.entry + cut.tick)[cut.tick > 0]
    assert calendar.max() <= cut.date.max()


def test_a_target_that_is_never_reached_cuts_at_the_last_observation(delayed):
    plan = design("control", "experimental", n=100, dropout=0.2)
    block = simulate(delayed, plan, endpoints=("pfs",))
    cut = cut_by_events(block, "pfs", 99, "pfs")
    assert not cut.target_reached.any()
    assert np.array_equal(cut.event, block.endpoints["pfs"].event)
    beyond = cut_by_events(block, "pfs", 500, "pfs")
    assert np.array_equal(beyond.date, cut.date)


def test_a_cut_by_follow_up_waits_for_the_last_patient(delayed):
    block = simulate(delayed, design("control", "experimental", n=100), endpoints=("pfs",))
    months = 6
    cut = cut_at(block, "pfs", *CutRule("pfs", follow_up=months).date(block))
    assert np.array_equal(cut.date - block.entry.max(axis=1), np.full(BLOCK, months * 2**20))
    assert np.all(cut.tick > 0)


def test_without_an_event_progression_free_survival_is_censored_at_a_scan(whole):
    names = [strategy.name for strategy in whole.strategies]
    block = simulate(whole, design(*names, n=120, block=6))
    date = np.full(BLOCK, round(14.0 / TICK), dtype=np.uint32)
    cut = cut_at(block, "pfs", date, np.ones(BLOCK, dtype=bool))
    open_ = ~cut.event & (cut.tick > 1)
    days = cut.tick[open_] * TICK * 30.4375
    assert np.allclose(days, np.round(days), atol=1e-4)
    alive = cut_at(block, "os", date, np.ones(BLOCK, dtype=bool))
    assert np.all(cut.tick[cut.tick > 1] <= alive.tick[cut.tick > 1])


def test_blocks_cover_the_replicates():
    assert list(blocks_of(120)) == [(0, 50), (1, 50), (2, 20)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Arm("a", 0), "weight must be at least 1, got 0"),
        (lambda: Accrual(), "duration or rates must be given"),
        (lambda: design("a"), "arms must hold a control and at least one more"),
        (lambda: design("a", "b", block=3), r"block_size must be a multiple .* \(2\), got 3"),
        (lambda: design("a", "b", dropout=-1.0), "dropout must be finite and at least 0, got -1"),
    ],
)
def test_an_impossible_design_is_refused(build, message):
    with pytest.raises(ScenarioError, match=message):
        build()
