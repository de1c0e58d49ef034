"""Trials: accrual, allocation, loss, and that a trial shows what the cohort would."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from scipy import stats

from sim.assessment import TICK
from sim.command import register_schema
from sim.config import read_run
from sim.cut import Condition, CutRule, DataCut
from sim.errors import ScenarioError
from sim.randomness import BLOCK, Streams
from sim.resistance import draw_ranked_patients
from sim.trial import (
    Accrual,
    Arm,
    Eligibility,
    TrialDesign,
    allocate,
    blocks_of,
    eligible_share,
    enrol,
    simulate_block,
)

FALSE_ALARM = 1e-6
UNIFORM = Accrual(duration=12.0)
STRATEGIES = ("anti_pd1", "tailored", "anti_pd1_chemotherapy")


def scenario(*overrides):
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides))).scenario


@pytest.fixture(scope="module")
def delayed():
    return scenario("scenario=delayed_effect")


@pytest.fixture(scope="module")
def whole():
    return scenario(f"strategy=[{','.join(STRATEGIES)}]")


def design(*arms, n=200, accrual=UNIFORM, block=4, **options):
    weights = [arm if isinstance(arm, Arm) else Arm(arm) for arm in arms]
    return TrialDesign(n, tuple(weights), accrual, block, **options)


def cut_by(block, *conditions, last=False):
    return DataCut.by(CutRule(conditions, last=last), block)


def cut_at_month(block, month):
    return cut_by(block, Condition(month=month))


def simulate(scenario, design, block=0, endpoints=("pfs", "os"), horizon=200.0):
    return simulate_block(
        scenario, design, seed=5, block=block, endpoints=endpoints, horizon=horizon
    )


def in_order(rows):
    """Patients in the order of the draws, as a cohort of all replicates would hold them."""
    return rows.T.ravel()


def test_uniform_accrual_is_uniform():
    entry = UNIFORM.entries(Streams(1, 0, BLOCK, 2000)).ravel()
    assert stats.kstest(entry / 12.0, "uniform").pvalue > FALSE_ALARM
    assert stats.kstest(entry / 12.1, "uniform").pvalue < FALSE_ALARM


def test_piecewise_accrual_is_a_poisson_process_with_these_rates():
    accrual = Accrual(starts=np.array([0.0, 6.0]), rates=np.array([10.0, 20.0]))
    entry = accrual.entries(Streams(1, 0, BLOCK, 400)).T
    early = np.sum(entry < 6.0, axis=1)
    later = np.sum((entry >= 6.0) & (entry < 10.0), axis=1)
    # Sums of Poisson counts of 60 and of 80: their variances are their means.
    for counts, mean in ((early, 60.0 * BLOCK), (later, 80.0 * BLOCK)):
        assert abs(counts.sum() - mean) < 4.9 * np.sqrt(mean)
        assert abs(counts.sum() - 0.93 * mean) > 4.9 * np.sqrt(mean)
    assert np.all(np.diff(entry, axis=1) > 0.0)


def test_the_first_entries_are_the_same_when_more_are_enrolled():
    accrual = Accrual(starts=np.array([0.0]), rates=np.array([20.0]))
    few, many = (accrual.entries(Streams(1, 0, BLOCK, n)).T for n in (100, 300))
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
    from sim.assessment import draw_calendar
    from sim.cohort import simulate_strategy
    from sim.resistance import draw_ranked_patients

    patients = draw_ranked_patients(whole, Streams(5, 0, BLOCK, 120))
    calendar = draw_calendar(whole.assessment, patients.draws, 200.0)
    for a, strategy in enumerate(whole.strategies):
        path = simulate_strategy(whole, strategy, patients, calendar, 200.0)
        own = in_order(block.arm) == a
        seen = path.observed
        followed = block.followed["os"]
        assert np.array_equal(in_order(followed.tick)[own] * TICK, seen.os_time[own])
        assert np.array_equal(in_order(followed.event)[own], seen.os_event[own])
        event = in_order(block.followed["pfs"].event)
        assert np.array_equal(event[own], seen.pfs_event[own])
        both = own & event
        tick = in_order(block.followed["pfs"].tick)
        assert np.array_equal(tick[both] * TICK, seen.pfs_time[both])


def test_the_first_patients_are_the_same_when_more_are_enrolled(whole):
    names = [strategy.name for strategy in whole.strategies]
    accrual = Accrual(starts=np.array([0.0]), rates=np.array([20.0]))
    few, many = (simulate(whole, design(*names, n=n, block=6, accrual=accrual)) for n in (60, 120))
    assert np.array_equal(few.arm, many.arm[:, :60])
    assert np.array_equal(few.entry, many.entry[:, :60])
    for name in ("pfs", "os"):
        assert np.array_equal(few.followed[name].tick, many.followed[name].tick[:, :60])


def test_dropout_has_its_hazard_and_moves_nothing_else(delayed):
    none = simulate(delayed, design("control", "experimental", n=1000), endpoints=("pfs",))
    some = simulate(
        delayed, design("control", "experimental", n=1000, dropout=0.05), endpoints=("pfs",)
    )
    assert np.array_equal(none.arm, some.arm)
    first, second = none.followed["pfs"], some.followed["pfs"]
    assert np.array_equal(first.tick[second.event], second.tick[second.event])
    # Competing exponentials: the share lost in the control arm is 0.05 / (0.05 + log 2 / 10).
    control = some.arm == 0
    lost = int(np.sum(~second.event & control))
    share = 0.05 / (0.05 + np.log(2.0) / 10.0)
    assert stats.binomtest(lost, int(control.sum()), share).pvalue > FALSE_ALARM
    assert stats.binomtest(lost, int(control.sum()), 0.95 * share).pvalue < FALSE_ALARM


def test_a_cut_by_events_holds_exactly_that_many(delayed):
    block = simulate(delayed, design("control", "experimental", n=300), endpoints=("pfs",))
    cut = cut_by(block, Condition("pfs", events=150))
    known = cut.know("pfs")
    assert cut.target_reached.all()
    assert np.all(known.event.sum(axis=1) == 150)
    assert np.all(known.tick[block.entry >= cut.date[:, None]] == 0)
    calendar = (block.entry + known.tick)[known.tick > 0]
    assert calendar.max() <= cut.date.max()


def test_a_target_that_is_never_reached_cuts_at_the_last_observation(delayed):
    plan = design("control", "experimental", n=100, dropout=0.2)
    block = simulate(delayed, plan, endpoints=("pfs",))
    cut = cut_by(block, Condition("pfs", events=99))
    assert not cut.target_reached.any()
    assert np.array_equal(cut.know("pfs").event, block.followed["pfs"].event)
    beyond = cut_by(block, Condition("pfs", events=500))
    assert np.array_equal(beyond.date, cut.date)


def test_a_cut_by_follow_up_waits_for_the_last_patient(delayed):
    block = simulate(delayed, design("control", "experimental", n=100), endpoints=("pfs",))
    months = 6
    cut = cut_by(block, Condition(follow_up=months))
    assert np.array_equal(cut.date - block.entry.max(axis=1), np.full(BLOCK, months * 2**20))
    assert np.all(cut.know("pfs").tick > 0)


def test_a_cut_waits_for_events_of_a_stratum(whole):
    block = simulate(whole, design(*STRATEGIES, n=240, block=6))
    high = whole.population.strata.index("tps_high")
    cut = cut_by(block, Condition("pfs", events=40, stratum=high))
    known = cut.know("pfs").event
    # Progression is seen on scan days, so that several events may fall on the date itself.
    assert cut.target_reached.all()
    assert np.all(np.sum(known & (block.stratum == high), axis=1) >= 40)
    before = DataCut(block, cut.date - np.uint32(1), cut.target_reached).know("pfs").event
    assert np.all(np.sum(before & (block.stratum == high), axis=1) < 40)


@pytest.mark.parametrize("last", [False, True])
def test_several_conditions_give_the_first_or_the_last_date(whole, last):
    block = simulate(whole, design(*STRATEGIES, n=240, block=6))
    conditions = (Condition("pfs", events=150), Condition("os", events=70), Condition(month=15.0))
    dates = np.stack([condition.date(block)[0] for condition in conditions])
    cut = cut_by(block, *conditions, last=last)
    assert np.array_equal(cut.date, dates.max(axis=0) if last else dates.min(axis=0))
    decides = dates.argmax(axis=0) if last else dates.argmin(axis=0)
    assert len(np.unique(decides)) > 1, "one condition always decides"


def test_a_target_counts_as_reached_only_by_the_date_of_the_cut(delayed):
    block = simulate(delayed, design("control", "experimental", n=200), endpoints=("pfs",))
    events, month = Condition("pfs", events=150), Condition(month=31.0)
    early = cut_by(block, events, month)
    met = np.sum(early.know("pfs").event, axis=1) >= 150
    assert np.array_equal(early.target_reached, met) and met.any() and not met.all()
    assert cut_by(block, events, month, last=True).target_reached.all()


def test_without_an_event_progression_free_survival_is_censored_at_a_scan(whole):
    names = [strategy.name for strategy in whole.strategies]
    block = simulate(whole, design(*names, n=120, block=6))
    cut = cut_at_month(block, 14.0)
    pfs, alive = cut.know("pfs"), cut.know("os")
    open_ = ~pfs.event & (pfs.tick > 1)
    days = pfs.tick[open_] * TICK * 30.4375
    assert np.allclose(days, np.round(days), atol=1e-4)
    assert np.all(pfs.tick[pfs.tick > 1] <= alive.tick[pfs.tick > 1])


def test_blocks_cover_the_replicates():
    found = list(blocks_of(2 * BLOCK + 20))
    assert found == [(0, BLOCK), (1, BLOCK), (2, 20)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Arm("a", 0), "weight must be at least 1, got 0"),
        (lambda: Accrual(), "duration or rates must be given"),
        (lambda: design("a"), "arms must hold a control and at least one more"),
        (lambda: design("a", "b", block=3), r"block_size must be a multiple .* \(2\), got 3"),
        (lambda: Condition(), "events, date or follow_up: exactly one must be given, got 0"),
        (lambda: CutRule(()), "at least one must be given, got none"),
        (lambda: Condition(month=1000.0), "date must be at least 0 and below 1000, got 1000"),
        (lambda: Eligibility(sensitivity=1.5), "sensitivity must be between 0 and 1, got 1.5"),
        (lambda: design("a", "b", dropout=-1.0), "dropout must be finite and at least 0, got -1"),
    ],
)
def test_an_impossible_design_is_refused(build, message):
    with pytest.raises(ScenarioError, match=message):
        build()


# ---------------------------------------------------------------- who may enter


def enrolled(whole, eligibility, n=200, accrual=UNIFORM):
    plan = design(*STRATEGIES, n=n, block=6, accrual=accrual, eligibility=eligibility)
    return enrol(whole, plan, 5, 0)


def draw_of(patients):
    """A draw by which patients are recognised."""
    return patients.draws.exponential("acquired_resistance", "vegf_exclusion")


def test_only_patients_of_the_chosen_strata_enter(whole):
    chosen = ("tps_high", "tps_low")
    found = enrolled(whole, Eligibility(strata=chosen))
    population = whole.population
    allowed = [population.strata.index(name) for name in chosen]
    assert set(found.patients.stratum) == set(allowed)
    share = population.stratum_prevalence[allowed].sum()
    # The n-th success of a series of trials has mean n / p and variance n (1 - p) / p**2.
    error = np.sqrt(200 * (1 - share)) / share / np.sqrt(BLOCK)
    assert abs(found.screening[:, -1].mean() - 200 / share) < 4.9 * error
    assert abs(found.screening[:, -1].mean() - 210 / share) > 4.9 * error


@pytest.mark.parametrize(("sensitivity", "specificity"), [(1.0, 1.0), (0.8, 0.9)])
def test_a_test_lets_in_by_its_sensitivity_and_specificity(whole, sensitivity, specificity):
    rule = Eligibility(
        positive=("checkpoint_exhaustion",), sensitivity=sensitivity, specificity=specificity
    )
    found = enrolled(whole, rule)
    population = whole.population
    k = population.mechanisms.index("checkpoint_exhaustion")
    p = float(population.stratum_prevalence @ population.prevalence[:, k])
    positive = p * sensitivity + (1 - p) * (1 - specificity)
    value = p * sensitivity / positive
    present = int(found.patients.present[k].sum())
    total = 200 * BLOCK
    if value == 1.0:
        assert present == total
    else:
        assert stats.binomtest(present, total, value).pvalue > FALSE_ALARM
        assert stats.binomtest(present, total, 0.9 * value).pvalue < FALSE_ALARM


def test_a_negative_test_keeps_the_mechanism_out(whole):
    found = enrolled(whole, Eligibility(negative=("vegf_exclusion", "priming_deficit")))
    for name in ("vegf_exclusion", "priming_deficit"):
        assert not found.patients.present[whole.population.mechanisms.index(name)].any()


def test_those_who_enter_are_the_first_eligible_of_the_screened(whole):
    rule = Eligibility(strata=("tps_high",), negative=("stk11_keap1_loss",), specificity=0.9)
    found = enrolled(whole, rule, n=60)
    most = int(found.screening[:, -1].max())
    patients = draw_ranked_patients(whole, Streams(5, 0, BLOCK, most))
    admitted = rule.admits(patients, whole).reshape(most, BLOCK)
    for r in range(BLOCK):
        rows = np.flatnonzero(admitted[:, r])[:60]
        assert found.screening[:, -1][r] == rows[-1] + 1
        assert np.array_equal(found.index.reshape(60, BLOCK)[:, r], rows * BLOCK + r)
    assert np.array_equal(draw_of(found.patients), draw_of(patients)[found.index])


def test_the_first_eligible_patients_are_the_same_when_more_are_enrolled(whole):
    rule = Eligibility(strata=("tps_high",))
    accrual = Accrual(starts=np.array([0.0]), rates=np.array([20.0]), of_screened=True)
    few, many = (enrolled(whole, rule, n=n, accrual=accrual) for n in (40, 160))
    assert np.array_equal(few.entry, many.entry[: 40 * BLOCK])
    assert np.array_equal(draw_of(few.patients), draw_of(many.patients)[: 40 * BLOCK])


def test_accrual_of_screened_patients_is_slower_by_the_share_that_enters(whole):
    rule = Eligibility(strata=("tps_high",))
    rates = {"starts": np.array([0.0]), "rates": np.array([20.0])}
    of_all = enrolled(whole, rule, accrual=Accrual(**rates, of_screened=True))
    of_some = enrolled(whole, rule, accrual=Accrual(**rates))
    last = [x.entry.reshape(200, BLOCK)[-1].mean() for x in (of_all, of_some)]
    share = whole.population.stratum_prevalence[whole.population.strata.index("tps_high")]
    # Means of a block of times with a relative spread of about 1 / sqrt(200): 1 % each.
    assert last[1] / last[0] == pytest.approx(share, rel=0.08)
    assert eligible_share(whole, design(*STRATEGIES, eligibility=rule, block=6), 1) == (
        pytest.approx(share, abs=4.9 * np.sqrt(share * (1 - share) / 20_000))
    )


def test_everybody_in_one_arm_has_the_outcome_of_those_who_are_in_it(whole):
    plan = design(*STRATEGIES, n=60, block=6)
    own = simulate(whole, plan)
    for a in range(3):
        forced = simulate_block(
            whole, plan, seed=5, block=0, endpoints=("pfs", "os"), horizon=200.0, everyone=a
        )
        assert np.all(forced.arm == a)
        member = own.arm == a
        for name in ("pfs", "os"):
            mine, theirs = own.followed[name], forced.followed[name]
            assert np.array_equal(mine.tick[member], theirs.tick[member])
            assert np.array_equal(mine.event[member], theirs.event[member])


def test_those_who_enter_have_the_outcome_they_would_have_without_the_test(whole):
    rule = Eligibility(strata=("tps_high",), positive=("checkpoint_exhaustion",), specificity=0.8)
    plan = design(*STRATEGIES, n=40, block=6, eligibility=rule)
    chosen = enrol(whole, plan, 5, 0)
    options = {"seed": 5, "block": 0, "endpoints": ("pfs", "os", "orr"), "horizon": 200.0}
    screened = design(*STRATEGIES, n=int(chosen.screening[:, -1].max()), block=6)
    for a in range(3):
        few = simulate_block(whole, plan, everyone=a, **options)
        many = simulate_block(whole, screened, everyone=a, **options)
        for name, followed in few.followed.items():
            known = in_order(many.followed[name].tick)[chosen.index]
            assert np.array_equal(in_order(followed.tick), known)
