"""How patients are watched, against calendars written out or searched one scan at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from sim.assessment import (
    NE,
    PD,
    PR,
    SD,
    TICK,
    Calendar,
    ScanGrid,
    detect_progression,
    draw_calendar,
    observe,
    scheduled_days,
    to_tick,
)
from sim.patient import Draws
from sim.randomness import Streams
from sim.resistance import CONTROLLED, RESISTANT, RESPONDING
from sim.scenario import DAYS_PER_MONTH, Assessment

FALSE_ALARM = 1e-6  # see tests/property/test_randomness.py
SEED = 20240601
NEVER = np.inf

PLAIN = Assessment(
    every=np.array([6.0, 9.0]),
    until=np.array([48.0, np.inf]),
    jitter_sd=0.0,
    missed=0.0,
    symptomatic=0.0,
    pseudoprogression=0.0,
    criteria="recist",
    confirmation=4.0,
    stable_minimum=6.0,
    response_median=1.9,
    response_sd=0.0,
    complete_response=0.0,
    withdrawal=0.0,
    missed_before_censoring=0,
)
CONTINUOUS = replace(PLAIN, every=np.array([0.0]), until=np.array([np.inf]))


def draws_of(count, seed=SEED):
    return Draws(Streams(seed, 0, 1, count))


def day(number):
    """The time of a day, as the scans of that day have it."""
    return to_tick(np.asarray(number) / DAYS_PER_MONTH)


def week(number):
    return day(7 * np.asarray(number))


def watch(
    assessment,
    progression,
    *,
    depth=CONTROLLED,
    death=NEVER,
    last_dose=NEVER,
    follow_up=60.0,
    immune=True,
    calendar=None,
    seed=SEED,
):
    """Detect and record the progressions given, as the cohort does."""
    progression = np.asarray(progression, dtype=float)
    count = len(progression)
    draws = draws_of(count, seed)
    if calendar is None:
        calendar = draw_calendar(assessment, draws, follow_up)
    detection, symptomatic = detect_progression(calendar, progression, assessment, draws)
    return observe(
        calendar=calendar,
        assessment=assessment,
        draws=draws,
        follow_up=follow_up,
        depth=np.broadcast_to(np.asarray(depth, dtype=np.int8), count),
        progression=progression,
        detection=detection,
        symptomatic=symptomatic,
        death=np.broadcast_to(np.asarray(death, dtype=float), count),
        last_dose=np.broadcast_to(np.asarray(last_dose, dtype=float), count),
        immune=immune,
    )


@dataclass(frozen=True)
class WrittenWords:
    """Words written out: 16 bits that move a scan, 16 that decide whether it is missed."""

    off: np.ndarray
    missed: np.ndarray

    def at(self, visit, patient):
        patient = np.arange(self.off.shape[1]) if patient is None else patient
        row = np.clip(visit, 0, len(self.off) - 1)
        return (self.off[row, patient] << np.uint64(48)) | (
            self.missed[row, patient] << np.uint64(32)
        )

    def select(self, patient):
        return WrittenWords(self.off[:, patient], self.missed[:, patient])


def missing(assessment, missed, follow_up=60.0):
    """A calendar in which patient i misses the visits (from 0) in ``missed[i]``."""
    schedule = scheduled_days(assessment, follow_up)
    words = np.full((len(schedule), len(missed)), 1, dtype=np.uint64)
    for i, visits in enumerate(missed):
        words[list(visits), i] = 0
    grid = ScanGrid.of(schedule, np.zeros(65536, dtype=np.int64), 1)
    return Calendar(grid, WrittenWords(np.zeros_like(words), words))


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("every", "until", "weeks"),
    [
        ([6.0, 9.0], [48.0, np.inf], [6, 12, 18, 24, 30, 36, 42, 48, 57, 66, 75, 84, 93, 102]),
        ([9.0, 12.0], [45.0, np.inf], [9, 18, 27, 36, 45, 57, 69, 81, 93, 105]),
        (
            [6.0, 9.0, 12.0],
            [12.0, 48.0, np.inf],
            [6, 12, 21, 30, 39, 48, 60, 72, 84, 96, 108],
        ),
        # A phase whose end is not on its own grid stops at the last scan before it.
        ([6.0, 9.0], [50.0, np.inf], [6, 12, 18, 24, 30, 36, 42, 48, 57, 66, 75, 84, 93, 102]),
    ],
    ids=["q6 to 48, then q9", "q9 to 45, then q12", "6, 12, q9 to 48, q12", "end off the grid"],
)
def test_scans_are_on_the_published_grid(every, until, weeks):
    grid = replace(PLAIN, every=np.array(every), until=np.array(until))
    days = scheduled_days(grid, 20.0)
    assert days.tolist() == [7 * w for w in weeks]
    # 20 months are 87 weeks: the list goes on to the second scan after them.
    assert days[-3] <= 20.0 * DAYS_PER_MONTH < days[-2]


def test_intervals_need_not_be_whole_weeks():
    grid = replace(PLAIN, every=np.array([2.5]), until=np.array([np.inf]))
    assert scheduled_days(grid, 2.0).tolist() == [18, 35, 52, 70, 88]  # .5 goes to the even day


def test_observed_time_is_in_whole_ticks_and_at_least_one():
    times = to_tick(np.array([0.0, TICK, 1.5 * TICK, 1.0, np.inf]))
    assert (times / TICK).tolist() == [1.0, 1.0, 2.0, 2.0**20, np.inf]


# ---------------------------------------------------------------- jitter and missed scans


@pytest.mark.parametrize("sd", [3.0, 15.0, 200.0])
@pytest.mark.parametrize("every", [[6.0, 9.0], [9.0, 1.0], [1.0, 12.0]])
def test_jitter_keeps_the_order_of_visits_and_stays_within_half_an_interval(sd, every):
    grid = replace(PLAIN, every=np.array(every), jitter_sd=sd)
    calendar = draw_calendar(grid, draws_of(3_000), 24.0)
    patients = np.arange(3_000)
    times = np.stack(
        [calendar.time(np.full(3_000, v), patients) for v in range(len(calendar.grid.schedule))]
    )
    assert np.all(np.diff(times, axis=0) > 0.0)
    assert np.all(times[0] > 0.0)
    assert np.abs(calendar.grid.days_off).max() < 7 * min(every) / 2
    whole = np.round(times * DAYS_PER_MONTH)
    assert np.array_equal(day(whole), times)


def test_a_longer_horizon_adds_visits_and_moves_none():
    # The shortest interval comes last, and only the longer horizon reaches it.
    grid = replace(PLAIN, every=np.array([9.0, 2.0]), jitter_sd=9.0, missed=0.3)
    short = draw_calendar(grid, draws_of(500), 6.0)
    long = draw_calendar(grid, draws_of(500), 30.0)
    visits = len(short.grid.schedule)
    assert len(long.grid.schedule) > visits
    assert np.array_equal(short.grid.schedule, long.grid.schedule[:visits])
    for i in range(500):
        visit, patient = np.arange(visits), np.full(visits, i)
        for first, second in zip(
            short.look(visit, patient), long.look(visit, patient), strict=True
        ):
            assert np.array_equal(first, second)


def attended(calendar, patient):
    """Times of the scans that a patient has, one by one."""
    visits = np.arange(len(calendar.grid.schedule))
    patients = np.full(len(visits), patient)
    times = calendar.time(visits, patients)
    missed = calendar.look(visits, patients)[1]
    return visits[~missed], times[~missed]


@pytest.mark.parametrize("sd", [0.0, 4.0, 30.0], ids=["on the day", "jitter", "wild jitter"])
@pytest.mark.parametrize("missed", [0.0, 0.1, 0.7])
def test_visits_are_found_as_by_searching_one_by_one(sd, missed):
    grid = replace(PLAIN, jitter_sd=sd, missed=missed)
    count = 400
    calendar = draw_calendar(grid, draws_of(count), 36.0)
    last = len(calendar.grid.schedule)
    rng = Streams(SEED, 0, 1, count)
    anywhere = 40.0 * rng.uniform("anywhere")[0]
    patients = np.arange(count)
    on_a_scan = calendar.time(np.arange(count) % last, patients)
    ends = np.where(patients % 2 == 0, 0.0, np.inf)
    for time in (anywhere, on_a_scan, on_a_scan + TICK, on_a_scan - TICK, ends):
        after, before = calendar.first_after(time), calendar.last_before(time)
        planned = calendar.scheduled_after(time)
        assert np.array_equal(calendar.time_after(time), calendar.time(after, patients))
        assert np.array_equal(calendar.time_before(time), calendar.time(before, patients))
        assert np.array_equal(calendar.scheduled_time_after(time), calendar.time(planned, patients))
        for i in range(count):
            visits, times = attended(calendar, i)
            later, earlier = visits[times >= time[i]], visits[times < time[i]]
            assert after[i] == (later[0] if later.size else last)
            assert before[i] == (earlier[-1] if earlier.size else -1)
            every = calendar.time(np.arange(last), np.full(last, i))
            assert planned[i] == np.sum(every < time[i])
    assert np.all(np.isinf(calendar.time(np.full(count, last), patients)))
    assert np.all(calendar.time(np.full(count, -1), patients) == 0.0)


def test_the_calendar_of_some_patients_is_theirs():
    grid = replace(PLAIN, jitter_sd=4.0, missed=0.2)
    calendar = draw_calendar(grid, draws_of(50), 24.0)
    chosen = np.array([7, 3, 41])
    time = np.array([3.0, 8.0, 20.0])
    whole = np.zeros(50)
    whole[chosen] = time
    assert np.array_equal(
        calendar.select(chosen).first_after(time), calendar.first_after(whole)[chosen]
    )


def test_the_stated_share_of_scans_is_missed():
    grid = replace(PLAIN, missed=0.03)
    calendar = draw_calendar(grid, draws_of(100_000), 3.0)
    for visit in range(len(calendar.grid.schedule)):
        missed = calendar.look(np.full(100_000, visit), None)[1]
        count = int(np.sum(missed))
        # 100,000 scans: a share of 0.0268 or 0.0332 would be noticed.
        assert stats.binomtest(count, 100_000, 0.03).pvalue > FALSE_ALARM


# ---------------------------------------------------------------- detection


def test_progression_is_seen_at_the_first_scan_at_or_after_it():
    latent = [0.3, float(week(6)), float(week(6)) + TICK, float(week(48)), float(week(48)) + TICK]
    seen = watch(PLAIN, latent)
    assert seen.progression_time.tolist() == week([6, 6, 12, 48, 57]).tolist()
    assert np.all(seen.pfs_event)
    assert np.array_equal(seen.pfs_time, seen.progression_time)


def test_a_missed_scan_leaves_progression_to_the_next_one_attended():
    calendar = missing(PLAIN, [[], [1], [1, 2], [0, 1, 2, 3]])
    seen = watch(PLAIN, [2.0] * 4, calendar=calendar)
    assert seen.progression_time.tolist() == week([12, 18, 24, 30]).tolist()


def test_progression_after_the_last_scan_of_follow_up_is_not_seen():
    seen = watch(
        PLAIN, [11.9, 13.0], follow_up=12.0
    )  # scans in weeks 48 and 57; 12 months are 52.2
    assert not seen.pfs_event.any()
    assert seen.pfs_time.tolist() == week([48, 48]).tolist()
    assert np.all(np.isinf(seen.progression_time))
    assert np.all(seen.os_time == 12.0)


def test_watching_all_the_time_sees_progression_when_it_happens():
    latent = np.array([0.3, 5.0, 30.0, NEVER])
    seen = watch(CONTINUOUS, latent, death=[NEVER, 4.0, NEVER, NEVER], follow_up=24.0)
    assert seen.pfs_time.tolist() == [float(to_tick(np.array(0.3))), 4.0, 24.0, 24.0]
    assert seen.pfs_event.tolist() == [True, True, False, False]
    assert np.isfinite(seen.progression_time).tolist() == [True, False, False, False]


def test_the_share_seen_by_symptoms_is_as_stated_and_evenly_spread_over_the_wait():
    count = 40_000
    grid = replace(PLAIN, symptomatic=0.15)
    latent = np.full(count, float(week(6)) + 0.2)
    calendar = draw_calendar(grid, draws_of(count), 24.0)
    time, symptomatic = detect_progression(calendar, latent, grid, draws_of(count))
    # 40,000 patients: a share 0.009 away would be noticed.
    assert stats.binomtest(int(symptomatic.sum()), count, 0.15).pvalue > FALSE_ALARM
    assert np.all(time[~symptomatic] == week(12))
    wait = (time[symptomatic] - latent[0]) / (float(week(12)) - latent[0])
    assert stats.kstest(wait, stats.uniform.cdf).pvalue > FALSE_ALARM
    assert wait.min() > 0.0
    assert wait.max() <= 1.0
    assert stats.kstest(wait**1.15, stats.uniform.cdf).pvalue < FALSE_ALARM  # it can fail


def test_symptoms_do_not_wait_for_a_scan_that_is_missed():
    grid = replace(PLAIN, symptomatic=1.0)
    calendar = missing(grid, [range(1, 12)] * 500)
    latent = np.full(500, float(week(6)) + TICK)
    time, symptomatic = detect_progression(calendar, latent, grid, draws_of(500))
    assert symptomatic.all()
    assert time.max() <= week(12)


# ---------------------------------------------------------------- death and loss to follow-up


def test_death_before_the_scan_is_the_event_and_no_progression_is_recorded():
    seen = watch(PLAIN, [2.0, 2.0, NEVER], death=[2.1, float(week(12)), 30.0])
    assert seen.pfs_time.tolist() == [float(to_tick(np.array(2.1))), float(week(12)), 30.0]
    assert seen.pfs_event.all()
    assert seen.os_event.all()
    # On one day, progression is seen and the patient dies: both count.
    assert np.isfinite(seen.progression_time).tolist() == [False, True, False]


def test_withdrawal_censors_progression_at_the_last_scan_before_and_survival_at_once():
    count = 5_000
    grid = replace(PLAIN, withdrawal=0.08, jitter_sd=3.0, missed=0.1)
    seen = watch(grid, np.full(count, 30.0), follow_up=24.0)
    assert not seen.pfs_event.any()
    assert not seen.os_event.any()
    leaves = draws_of(count).exponential("withdrawal") / 0.08
    assert np.array_equal(seen.os_time, to_tick(np.minimum(leaves, 24.0)))
    calendar = draw_calendar(grid, draws_of(count), 24.0)
    for i in range(200):
        _, times = attended(calendar, i)
        before = times[times <= seen.os_time[i]]
        assert seen.pfs_time[i] == (before[-1] if before.size else TICK)


def test_a_scan_on_the_last_day_of_follow_up_still_counts():
    end = float(week(48))
    seen = watch(PLAIN, [NEVER, end, end - TICK], follow_up=end)
    assert seen.pfs_time.tolist() == [end] * 3
    assert seen.pfs_event.tolist() == [False, True, True]
    before = watch(PLAIN, [NEVER, end], follow_up=end - TICK)
    assert before.pfs_time.tolist() == week([42, 42]).tolist()
    assert not before.pfs_event.any()


def test_two_missed_scans_censor_a_later_event_at_the_scan_before_them():
    grid = replace(PLAIN, missed_before_censoring=2)
    missed = [[], [2], [2, 3], [2, 3], [2, 3, 4], [0, 1]]
    latent = [2.9, 2.9, 2.9, NEVER, NEVER, 0.5]
    death = [NEVER, NEVER, NEVER, 6.2, 6.2, NEVER]
    seen = watch(grid, latent, death=death, calendar=missing(grid, missed))
    # Scans in weeks 6, 12, ..., 30; death at month 6.2 falls in week 27, after that of week 24.
    assert seen.pfs_event.tolist() == [True, True, False, False, False, False]
    expected = [*week([18, 24, 12, 12, 12]).tolist(), TICK]
    assert seen.pfs_time.tolist() == expected
    assert seen.os_event.tolist() == [False, False, False, True, True, False]
    # Censoring is a matter of the estimate; the progression was seen all the same.
    assert seen.progression_time.tolist() == [*week([18, 24, 30]), NEVER, NEVER, week(18)]
    assert seen.best_response.tolist() == [SD, SD, SD, SD, SD, PD]


def test_jitter_does_not_hide_two_missed_scans():
    grid = replace(PLAIN, missed_before_censoring=2, jitter_sd=6.0, missed=0.4)
    count = 2_000
    latent = np.full(count, 7.0)
    seen = watch(grid, latent)
    calendar = draw_calendar(grid, draws_of(count), 60.0)
    for i in range(300):
        visits, times = attended(calendar, i)
        found = np.flatnonzero(times >= 7.0)[0]
        before = visits[found - 1] if found else -1
        lost = visits[found] - before - 1 >= 2
        assert seen.pfs_event[i] == (not lost)
        kept = times[found - 1] if found else TICK
        assert seen.pfs_time[i] == (kept if lost else times[found])


# ---------------------------------------------------------------- response and its category


def test_response_is_shown_at_the_first_scan_after_it_and_before_progression():
    # Response at 1.9 months, week 8.3: seen in week 12.
    latent = [float(week(12)) + TICK, float(week(12)), 2.0, 30.0, 30.0, 30.0]
    depth = [RESPONDING] * 4 + [CONTROLLED, RESISTANT]
    seen = watch(PLAIN, latent, depth=depth)
    assert seen.best_response.tolist() == [PR, SD, SD, PR, SD, SD]
    expected = [week(12), NEVER, NEVER, week(12), NEVER, NEVER]
    assert seen.response_time.tolist() == expected


def test_response_waits_for_an_attended_scan():
    seen = watch(PLAIN, [30.0], depth=RESPONDING, calendar=missing(PLAIN, [[1, 2]]))
    assert seen.response_time.tolist() == [float(week(24))]


def test_complete_responses_have_their_share():
    count = 40_000
    grid = replace(PLAIN, complete_response=0.06)
    seen = watch(grid, np.full(count, 30.0), depth=RESPONDING)
    complete = int(np.sum(seen.best_response == 0))
    assert np.all(seen.best_response <= PR)
    assert stats.binomtest(complete, count, 0.06).pvalue > FALSE_ALARM


def test_best_response_is_progression_where_the_first_scan_shows_it():
    seen = watch(PLAIN, [1.0, float(week(6)), float(week(6)) + TICK])
    assert seen.best_response.tolist() == [PD, PD, SD]


def test_stable_disease_needs_its_minimum_so_an_early_scan_makes_second_scan_progressions_pd():
    # Three scans on days 40, 42 and 44; progression is seen at the second scan, in week 12.
    off = np.zeros(65536, dtype=np.int64)
    off[:3] = [-2, 0, 2]
    schedule = scheduled_days(PLAIN, 24.0)
    words = np.ones((len(schedule), 3), dtype=np.uint64)
    words[0] = [0, 1, 2]
    calendar = Calendar(ScanGrid.of(schedule, off, 0), WrittenWords(words, words))
    seen = watch(PLAIN, [2.0] * 3, calendar=calendar)
    assert np.all(seen.progression_time == week(12))
    assert seen.best_response.tolist() == [PD, SD, SD]
    strict = replace(PLAIN, stable_minimum=8.0)
    assert watch(strict, [2.0] * 3, calendar=calendar).best_response.tolist() == [PD] * 3


def test_best_response_is_not_evaluable_before_any_good_scan():
    grid = replace(PLAIN, symptomatic=1.0)
    alive = watch(PLAIN, [NEVER, NEVER, 1.0], death=[1.0, 1.5, 1.2])
    assert alive.best_response.tolist() == [NE, SD, NE]
    # Symptoms before the first scan are a progression, and therefore not NE.
    assert watch(grid, [0.5], death=NEVER).best_response.tolist() == [PD]
    short = watch(PLAIN, [NEVER, NEVER], follow_up=1.2)
    assert short.best_response.tolist() == [NE, NE]


def test_a_continuously_watched_patient_is_stable_after_the_minimum():
    seen = watch(CONTINUOUS, [1.0, 1.5, NEVER, NEVER], death=[NEVER, NEVER, 1.0, 2.0])
    assert seen.best_response.tolist() == [PD, SD, NE, SD]


# ---------------------------------------------------------------- criteria


def test_pseudoprogression_counts_under_recist_and_not_under_irecist():
    grid = replace(PLAIN, pseudoprogression=1.0)
    depth = [RESPONDING, CONTROLLED, RESISTANT, RESPONDING]
    latent = [20.0, 20.0, 20.0, float(week(6))]
    recist = watch(grid, latent, depth=depth)
    assert recist.progression_time.tolist() == [*week([6, 6]), week(93), week(6)]
    assert recist.confirmed.tolist() == [False, False, True, True]
    assert recist.best_response.tolist() == [PD, PD, SD, PD]
    immune = watch(replace(grid, criteria="irecist"), latent, depth=depth)
    assert immune.progression_time.tolist() == [*week([93, 93, 93]), week(6)]
    assert immune.best_response.tolist() == [PR, SD, SD, PD]


def test_only_an_ici_has_pseudoprogression():
    grid = replace(PLAIN, pseudoprogression=1.0)
    assert watch(grid, [20.0], immune=False).progression_time.tolist() == [float(week(93))]


def test_pseudoprogression_has_its_share_of_those_who_benefit():
    count = 40_000
    seen = watch(replace(PLAIN, pseudoprogression=0.03), np.full(count, 20.0))
    false = int(np.sum(seen.progression_time == week(6)))
    # 40,000 patients: a share 0.0042 away would be noticed.
    assert stats.binomtest(false, count, 0.03).pvalue > FALSE_ALARM


def test_irecist_takes_the_first_progression_if_a_scan_four_weeks_later_confirms_it():
    grid = replace(PLAIN, criteria="irecist")
    # Seen in week 12, confirmed in week 18: those who die or end between are not.
    seen = watch(grid, [2.0, 2.0, 2.0], death=[NEVER, 4.0, 4.5])
    assert seen.progression_time.tolist() == [float(week(12)), NEVER, float(week(12))]
    assert seen.pfs_time.tolist() == [float(week(12)), 4.0, float(week(12))]
    ended = watch(grid, [2.0], follow_up=4.0)
    assert not ended.pfs_event.any()


def test_symptoms_confirm_a_progression():
    grid = replace(PLAIN, criteria="irecist", symptomatic=1.0)
    seen = watch(grid, [2.0], death=2.9)
    assert seen.pfs_event.all()
    assert seen.rapid.all()
    assert seen.confirmed.all()


@pytest.mark.parametrize(("wait", "confirms"), [(4.0, 18), (6.0, 18), (7.0, 24)])
def test_a_scan_confirms_only_after_the_least_interval(wait, confirms):
    grid = replace(PLAIN, confirmation=wait)
    before, after = float(week(confirms)) - 0.01, float(week(confirms)) + 0.01
    seen = watch(grid, [2.0, 2.0], death=[before, after])
    assert seen.confirmed.tolist() == [False, True]


def test_the_last_dose_is_not_after_the_record_ends():
    seen = watch(PLAIN, [2.0, NEVER], death=[NEVER, 5.0], last_dose=[2.5, 24.0], follow_up=12.0)
    assert seen.last_dose.tolist() == [2.5, 5.0]


def test_each_patient_can_have_a_follow_up_of_their_own():
    seen = watch(PLAIN, [NEVER] * 3, follow_up=np.array([3.0, 12.0, 24.0]), calendar=draw_calendar(
        PLAIN, draws_of(3), 24.0
    ))  # fmt: skip
    assert seen.os_time.tolist() == [3.0, 12.0, 24.0]
    assert seen.pfs_time.tolist() == week([12, 48, 102]).tolist()
