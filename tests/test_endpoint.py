"""Endpoints of a trial at a data cut, against what a cohort's record says at the same time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sim.assessment import PR, TICK, draw_calendar
from sim.cohort import simulate_strategy
from sim.course import UNTREATED, regrow_again
from sim.cut import Condition, CutRule, DataCut
from sim.definitions import LABELS, classify
from sim.endpoint.by_name import ENDPOINTS, records_of
from sim.outcome import Outcome
from sim.randomness import BLOCK, Streams
from sim.resistance import assign_regimens, draw_ranked_patients
from sim.trial import Accrual, Arm, TrialDesign, simulate_block

N, SEED, HORIZON, MONTH = 120, 5, 200.0, 16.0
ARMS = ("anti_pd1", "anti_pd1_chemotherapy")


CONDUCT = {
    "plain": [],
    "two missed scans censor": ["assessment.missed_before_censoring=2"],
    "progression is confirmed": ["assessment.criteria=irecist"],
}


@pytest.fixture(scope="module", params=CONDUCT)
def run(request, load):
    rule = CONDUCT[request.param]
    return load(f"strategy=[{','.join(ARMS)}]", "assessment.missed=0.15", *rule)


@pytest.fixture(scope="module")
def block(run):
    design = TrialDesign(N, tuple(Arm(a) for a in ARMS), Accrual(duration=12.0), 4, dropout=0.01)
    return simulate_block(
        run.scenario, design, seed=SEED, block=0, endpoints=tuple(ENDPOINTS), horizon=HORIZON,
        definition=run.definitions[0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def cut(block):
    return DataCut.by(CutRule((Condition(month=MONTH),)), block)


@pytest.fixture(scope="module")
def records(run, block, cut):
    """What the study knows of each patient at the cut, from the cohort's own way, by arm."""
    scenario = run.scenario
    streams = Streams(SEED, 0, BLOCK, N)
    patients = draw_ranked_patients(scenario, streams)
    calendar = draw_calendar(scenario.assessment, patients.draws, HORIZON)
    room = np.maximum(cut.date[:, None], block.entry) - block.entry
    lost = patients.draws.exponential("dropout") / 0.01
    until = np.minimum(room.T.ravel() * TICK, np.ceil(lost / TICK) * TICK)
    return {
        a: simulate_strategy(scenario, scenario.strategies[a], patients, calendar, until).observed
        for a in range(len(ARMS))
    }


def members(block, cut, a):
    return ((block.arm == a) & cut.entered).T.ravel()


def flat(known):
    return known.tick.T.ravel() * TICK, known.event.T.ravel()


@pytest.mark.parametrize("a", [0, 1])
def test_progression_free_and_overall_survival_are_the_record_at_the_cut(block, cut, records, a):
    who, seen = members(block, cut, a), records[a]
    time, event = flat(cut.know("pfs"))
    assert np.array_equal(event[who], seen.pfs_event[who])
    assert np.array_equal(time[who], seen.pfs_time[who])
    time, event = flat(cut.know("os"))
    assert np.array_equal(event[who], seen.os_event[who])
    assert np.array_equal(time[who], seen.os_time[who])
    assert who.sum() > 2000 and seen.pfs_event[who].sum() > 500


@pytest.mark.parametrize("a", [0, 1])
def test_responders_are_those_whose_best_response_is_one(block, cut, records, a):
    who, seen = members(block, cut, a), records[a]
    counted, event = flat(cut.know("orr"))
    assert np.all(counted[who] > 0.0)
    assert np.array_equal(event[who], seen.best_response[who] <= PR)
    assert 0.1 < event[who].mean() < 0.9


@pytest.mark.parametrize("a", [0, 1])
def test_duration_of_response_runs_from_the_first_scan_that_shows_it(block, cut, records, a):
    who, seen = members(block, cut, a), records[a]
    time, event = flat(cut.know("duration_of_response"))
    responded = who & np.isfinite(seen.response_time)
    assert np.array_equal(who & (time > 0.0), responded)
    expected = np.maximum(seen.pfs_time - seen.response_time, TICK)
    assert np.array_equal(time[responded], expected[responded])
    assert np.array_equal(event[responded], seen.pfs_event[responded])


@pytest.mark.parametrize("a", [0, 1])
def test_durable_benefit_is_progression_free_at_a_scan_after_six_months(block, cut, records, a):
    who, seen = members(block, cut, a), records[a]
    counted, event = flat(cut.know("durable_clinical_benefit"))
    kinds = {"yes": 0, "no": 0, "not judged": 0}
    for i in np.flatnonzero(who):
        if seen.pfs_event[i]:
            kind = "yes" if seen.pfs_time[i] > 6.0 else "no"
        else:
            kind = "yes" if seen.pfs_time[i] >= 6.0 else "not judged"
        kinds[kind] += 1
        assert (counted[i] > 0.0, event[i]) == (kind != "not judged", kind == "yes")
    assert min(kinds.values()) > 50


@pytest.mark.parametrize("a", [0, 1])
def test_acquired_resistance_is_the_progression_that_the_rule_calls_so(run, block, cut, records, a):
    who, seen = members(block, cut, a), records[a]
    time, event = flat(cut.know("acquired_resistance"))
    assert np.array_equal(time[who], seen.pfs_time[who])
    # The cohort's record ends at the cut: what is confirmed later is not acquired yet.
    acquired = classify(seen, run.definitions[0]) == LABELS.index("acquired")
    assert np.array_equal(event[who], acquired[who] & seen.pfs_event[who])
    assert event[who].sum() > 50


def test_a_cut_by_events_waits_until_they_are_known(run, block):
    for endpoint in ("pfs", "os"):
        cut = DataCut.by(CutRule((Condition(endpoint, events=40),)), block)
        before = DataCut(block, cut.date - np.uint32(1), cut.target_reached)
        assert np.all(np.sum(cut.know(endpoint).event, axis=1) >= 40)
        assert np.all(np.sum(before.know(endpoint).event, axis=1) < 40)


def test_a_cut_at_another_date_knows_other_things(cut):
    earlier = replace(cut, date=cut.date - np.uint32(6 * 2**20))
    assert earlier.know("pfs").event.sum() < cut.know("pfs").event.sum()


def test_second_progression_lies_between_first_progression_and_death(block, cut):
    pfs, pfs2, os = (cut.know(name) for name in ("pfs", "pfs2", "os"))
    both = pfs2.event & pfs.event
    assert np.all(pfs2.tick[both] >= pfs.tick[both])
    assert np.all(pfs2.tick <= os.tick)
    full = DataCut.by(CutRule((Condition(month=900.0),)), block)
    once, again, death = (full.know(name) for name in ("pfs", "pfs2", "os"))
    died = again.event & death.event & (again.tick == death.tick)
    assert 0.2 < died.mean() < 0.8
    assert np.all(again.tick[again.event] >= once.tick[again.event])


@pytest.mark.parametrize("a", [0, 1])
def test_the_next_line_lasts_as_long_as_regrowth_takes(run, a):
    scenario = run.scenario
    patients = draw_ranked_patients(scenario, Streams(SEED, 0, 1, 40_000))
    calendar = draw_calendar(scenario.assessment, patients.draws, HORIZON)
    strategy = scenario.strategies[a]
    ((_, regimen),) = assign_regimens(strategy, scenario, patients)
    outcome = Outcome(scenario, strategy, regimen, patients, calendar, lambda: HORIZON)
    after = outcome.aftermath
    again = regrow_again(patients, after, outcome.detection, scenario)
    treated = after.next_line > UNTREATED
    assert np.all(np.isinf(again[~treated]))
    plain = treated & (after.regained == 0.0) & np.isfinite(outcome.detection)
    lag = again[plain] - outcome.detection[plain]
    course = scenario.course
    sd = float(np.hypot(course.lag_sd, course.growth_sd))
    # Treated patients have lived to detection, and death goes with fast growth: the draw of its own
    # is independent of that, so the part of the lag that it makes is checked alone.
    speed = np.exp(course.growth_sd * patients.draws.normal("growth_speed"))[plain]
    law = stats.lognorm(course.lag_sd, scale=course.acquired_lag)
    assert stats.kstest(lag * speed, law.cdf).pvalue > 1e-6
    assert stats.kstest(1.03 * lag * speed, law.cdf).pvalue < 1e-6
    assert np.median(lag) == pytest.approx(course.acquired_lag, rel=0.15)
    assert np.std(np.log(lag)) == pytest.approx(sd, rel=0.1)


def test_what_no_endpoint_needs_is_not_followed(run):
    design = TrialDesign(N, tuple(Arm(a) for a in ARMS), Accrual(duration=12.0), 4)
    block = simulate_block(
        run.scenario, design, seed=SEED, block=0, endpoints=("os",), horizon=HORIZON
    )
    assert set(block.followed) == {"os"}
    assert [record.name for record in records_of(["orr", "duration_of_response"])] == [
        "pfs", "response",
    ]  # fmt: skip


def test_an_endpoint_moves_no_other(run, block):
    design = TrialDesign(N, tuple(Arm(a) for a in ARMS), Accrual(duration=12.0), 4, dropout=0.01)
    for endpoint in ("pfs", "os", "orr", "pfs2"):
        alone = simulate_block(
            run.scenario, design, seed=SEED, block=0, endpoints=(endpoint,), horizon=HORIZON
        )
        for name, followed in alone.followed.items():
            assert followed.tick.tobytes() == block.followed[name].tick.tobytes()
            assert followed.event.tobytes() == block.followed[name].event.tobytes()
