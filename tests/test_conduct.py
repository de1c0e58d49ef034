"""Conducted trials: power against other programs, sizes, and the same bytes however they are spread."""

import gc

import numpy as np
import pytest
from trials import Replicates, compare, plan, table

from analysis.comparison.risk import Sample, Table
from analysis.operating import summarise
from analysis.paired import paired_power
from analysis.replicates import CHUNK, CutResults, MethodResults
from sim import conduct
from sim.conduct import Precision, conduct_chunks, conduct_trials
from sim.errors import ScenarioError
from sim.exact import PiecewiseTrial, expected_events
from sim.randomness import BLOCK

# Method triangulation of the oracles, simulated there with 20,000 trials (error 0.0028):
# 20 patients a month for 18 months, study of 36 months, control median 12, hazard ratio 1 for
# 4 months and then 0.6, dropout 0.001.
TRIANGULATION = (
    "scenario=delayed_effect",
    f"population.acquired.scale={12.0 / np.log(2.0)}",
    "trial.n_patients=360",
    "trial.accrual.duration=18",
    "trial.dropout=0.001",
    "trial.cuts.final={endpoint: pfs, events: null, date: 36}",
)


SIMULATED = {"logrank": 0.81205, "fleming_harrington(0,1)": 0.89255}
ANALYTIC = {
    "fleming_harrington(0,0.5)": 0.8950368,
    "fleming_harrington(0.5,0.5)": 0.8817875,
    "modestly_weighted(8)": 0.8684134,
    "maxcombo(0,0;0,0.5;0.5,0.5)": 0.8795376,
    "rmst_difference(24)": 0.5886355,
    "milestone_difference(24)": 0.8218916,
}
"""By lrstat; modestly weighted and MaxCombo by gsDesign2."""


@pytest.fixture(scope="module")
def triangulated():
    return conduct_trials(plan(*TRIANGULATION, compare(*SIMULATED, *ANALYTIC)), 5000)


@pytest.fixture(scope="module")
def without_delay():
    """Another trial, in which the hazard ratio is 0.8 from the start."""
    other = "agents.delayed.onset=0", "agents.delayed.hazard_ratio.escape=0.8"
    return conduct_trials(plan(*TRIANGULATION, *other, compare(*SIMULATED, *ANALYTIC)), 1000)


@pytest.mark.parametrize(("method", "theirs"), SIMULATED.items())
def test_power_agrees_with_another_simulator(triangulated, without_delay, method, theirs):
    # Chance: within three errors of the difference of two simulations.
    assert Replicates(triangulated).power(method).agrees(theirs, 0.0028)
    assert not Replicates(without_delay).power(method).agrees(theirs, 0.0028)


@pytest.mark.parametrize(("method", "analytic"), ANALYTIC.items())
def test_power_agrees_with_analytic_approximations(triangulated, without_delay, method, analytic):
    assert Replicates(triangulated).power(method).agrees(analytic, slack=0.015)
    assert not Replicates(without_delay).power(method).agrees(analytic, slack=0.015)


def test_expected_events_agree_with_the_closed_form(triangulated):
    hazard = [np.log(2.0) / 12.0] * 2
    design = PiecewiseTrial([0, 18], [20, 0], [0, 4], hazard, [1.0, 0.6], 0.001)
    printed = 252.42999
    assert expected_events(design, 36.0).sum() == pytest.approx(printed, abs=5e-6)
    events = Replicates(triangulated).events
    assert events.agrees(printed, errors=3.5)
    assert not events.agrees(printed * 1.01, errors=3.5)


def test_without_an_effect_the_size_is_alpha():
    # Not the average hazard ratio up to the last time at which both arms are at risk: where few
    # are left its standard error is too small.
    methods = (
        "logrank", "fleming_harrington(0,0.5)", "modestly_weighted(8)", "early_zero(4)",
        "maxcombo", "cox", "average_hazard_ratio(24)", "rmst_difference(24)", "rmst_ratio(24)",
        "milestone_difference(24)", "median_difference",
    )  # fmt: skip
    null = plan(*TRIANGULATION, "agents.delayed.hazard_ratio.escape=1.0", compare(*methods))
    sizes = table(conduct_trials(null, 4000)).xs("power", level="measure")
    assert len(sizes) == len(methods)
    # Chance: 3.5 Monte Carlo errors (0.0025 at 0.025), which notices a size of 0.035.
    assert np.all(np.abs(sizes["estimate"] - 0.025) < 3.5 * 0.0025)


def test_workers_and_more_replicates_change_no_byte():
    trial = plan("scenario=delayed_effect")
    one = conduct_trials(trial, 400)
    two = conduct_trials(trial, 400, n_workers=2)
    few = conduct_trials(trial, 130)
    key = ("experimental", "pfs", "logrank")
    for part in ("estimate", "standard_error", "z", "p_value"):
        whole = getattr(one.cuts["final"].methods[key], part)
        assert whole.tobytes() == getattr(two.cuts["final"].methods[key], part).tobytes()
        assert whole[:130].tobytes() == getattr(few.cuts["final"].methods[key], part).tobytes()


def collected(chunks):
    """The bytes of every chunk: where it begins, and all numbers in it."""
    return [
        (chunk.first, name, cut.date.tobytes(), cut.target_reached.tobytes(), *(
            getattr(found, part).tobytes()
            for found in cut.methods.values() for part in ("estimate", "z", "p_value")
        ))
        for chunk in chunks for name, cut in chunk.cuts.items()
    ]  # fmt: skip


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of three blocks, so that few trials make many."""
    monkeypatch.setattr("analysis.replicates.CHUNK", 600)


def test_chunks_are_the_same_however_the_work_is_shared_out(small_chunks, monkeypatch):
    trial = plan("scenario=delayed_effect")
    usual = collected(conduct_chunks(trial, 2190))
    assert [chunk[0] for chunk in usual] == [0, 600, 1200, 1800]
    assert collected(conduct_chunks(trial, 2190, n_workers=2)) == usual
    monkeypatch.setattr(conduct, "TASK_SECONDS", 0.0)
    assert collected(conduct_chunks(trial, 2190)) == usual
    monkeypatch.setattr(conduct, "MOST_BLOCKS", 3)
    monkeypatch.setattr(conduct, "TASK_SECONDS", 60.0)
    assert collected(conduct_chunks(trial, 2190)) == usual
    # More replicates change nothing in the chunks that were whole.
    assert collected(conduct_chunks(trial, 3000))[:3] == usual[:3]


def test_chunks_hold_what_all_replicates_together_do(small_chunks):
    trial = plan("scenario=delayed_effect")
    whole = conduct_trials(trial, 730).cuts["final"]
    chunks = list(conduct_chunks(trial, 730))
    dates = np.concatenate([chunk.cuts["final"].date for chunk in chunks])
    assert dates.tobytes() == whole.date.tobytes()
    assert sum(chunk.simulate_seconds for chunk in chunks) > 0.0


def test_a_chunk_is_whole_blocks_and_whole_bytes_of_bits():
    assert CHUNK % conduct.BLOCK == 0
    assert CHUNK % 8 == 0


def test_nothing_of_a_block_waits_for_the_collector_of_cycles():
    trial = plan("scenario=delayed_effect", compare("logrank", "cox", "rmst_difference(24)"))

    def alive():
        return [item for item in gc.get_objects() if isinstance(item, Sample | Table)]

    before = alive()  # of other tests, held here so that no new one can take their place
    gc.disable()
    try:
        conduct.conduct_blocks(trial, range(2))
        left = len(alive()) - len(before)
    finally:
        gc.enable()
    # Otherwise the arrays of some twenty blocks would be held at any time.
    assert left == 0


def test_few_tasks_are_on_their_way_at_any_time(monkeypatch):
    class Pool:
        sent = done = most = 0

        def submit(self, function, *arguments):
            self.sent += 1
            self.most = max(self.most, self.sent - self.done)
            pool = self

            class Future:
                def result(self):
                    pool.done += 1
                    return {("final", "date"): np.zeros(BLOCK * len(arguments[1]))}, 1.0, 1.0

            return Future()

    pool = Pool()
    parts = list(conduct._parallel(pool, 2, b"", range(1000)))
    assert sum(len(part[0]["final", "date"]) for part in parts) == 1000 * BLOCK
    assert pool.sent == pool.done == 1000  # two seconds a block: never more than one in a task
    assert pool.most == 2 * conduct.WAITING


def test_tasks_are_all_blocks_in_order_and_grow_with_the_pace():
    tasks = conduct._Tasks(range(3, 1000), 2)
    taken, sizes = [], []
    while tasks.left:
        task = tasks.take()
        taken += task
        sizes.append(len(task))
        tasks.learn(({("x",): np.zeros(BLOCK * len(task))}, 0.002 * len(task), 0.002 * len(task)))
    assert taken == list(range(3, 1000))
    assert sizes[0] == 1
    assert max(sizes) == conduct.MOST_BLOCKS
    # At the end there is a share for every worker.
    assert sizes[-1] == 1


@pytest.mark.parametrize("n_workers", [1, 2])
def test_replicates_are_added_until_the_precision_is_reached(n_workers):
    trial = plan("scenario=delayed_effect", "trial.comparisons=[logrank,'rmst_difference(24)']")
    precision = Precision(0.014, at_most=100_000)
    told = []
    (chunk,) = conduct_chunks(
        trial, 120, n_workers, precision, lambda made, wanted: told.append((made, wanted))
    )
    methods = chunk.cuts["final"].methods.values()
    n = len(chunk.cuts["final"].date)
    shares = np.array([np.mean(found.p_value <= trial.alpha) for found in methods])
    errors = np.sqrt(shares * (1.0 - shares) / n)
    assert errors.max() <= 0.014
    # No more than it takes: the guess from what was known overshoots by little.
    assert errors.max() > 0.012
    assert n % BLOCK == 0
    assert told[-1][0] == n
    # A run of so many replicates from the start is the same to the byte.
    assert collected([chunk]) == collected(conduct_chunks(trial, n))


def test_the_number_for_a_precision_is_the_formula():
    precision = Precision(0.005, at_most=20_000)
    # 0.8 of 1000: 0.16 / 0.005**2 = 6,400.
    assert precision.replicates([800, 990], made=1000) == 6400
    assert precision.replicates([5120], made=6400) == 6400
    assert precision.replicates([3200], made=6400) == 10_000
    # A little short of it: one block more.
    assert precision.replicates([4900], made=9950) == 10_000
    assert precision.replicates([0, 1000], made=1000) == 1000
    assert Precision(0.001, at_most=20_020).replicates([500], made=1000) == 20_020
    assert Precision(0.001, at_most=20_020).replicates([10_010], made=20_020) == 20_020


def test_there_is_a_most_to_what_a_precision_may_take():
    trial = plan("scenario=delayed_effect")
    (chunk,) = conduct_chunks(trial, 60, precision=Precision(0.001, at_most=130))
    assert len(chunk.cuts["final"].date) == 130
    assert collected([chunk]) == collected(conduct_chunks(trial, 130))


def test_arms_are_compared_with_the_control_alone():
    both = "trial.arms=[anti_pd1,anti_pd1_chemotherapy,anti_pd1_ctla4]"
    three = conduct_trials(
        plan("trial=first_line_phase3", both, "trial.comparisons=[logrank]", "trial.block_size=6"),
        100,
    )
    methods = three.cuts["final"].methods
    assert {arm for arm, _, _ in methods} == {"anti_pd1_chemotherapy", "anti_pd1_ctla4"}
    gain = methods["anti_pd1_chemotherapy", "os", "logrank"].z.mean()
    assert gain > methods["anti_pd1_ctla4", "os", "logrank"].z.mean() > 0.0


def test_performance_measures_carry_their_monte_carlo_errors():
    rng = np.random.default_rng(1)
    estimate, error = rng.normal(0.3, 0.1, 2000), rng.normal(0.1, 0.005, 2000)
    p_value = rng.random(2000)
    results = CutResults(
        date=np.full(2000, 30.0),
        target_reached=np.ones(2000, dtype=bool),
        enrolled=np.full(2000, 300.0),
        events={"pfs": np.full(2000, 200.0)},
        methods={("a", "pfs", "x"): MethodResults(estimate, error, estimate / error, p_value)},
    )
    rows = summarise({"final": results}, 0.1).set_index(["method", "measure"])
    row = rows.loc[("x", "power")]
    assert row["estimate"] == np.mean(p_value <= 0.1)
    assert row["mc_error"] == pytest.approx(np.sqrt(row["estimate"] * (1 - row["estimate"]) / 2000))
    row = rows.loc[("x", "empirical_standard_error")]
    assert row["mc_error"] == pytest.approx(row["estimate"] / np.sqrt(2 * 1999))
    row = rows.loc[("x", "mean_standard_error")]
    assert row["estimate"] == pytest.approx(np.sqrt(np.mean(error**2)))
    # The delta method against the spread of the measure over resamples.
    resampled = [np.sqrt(np.mean(rng.choice(error, 2000) ** 2)) for _ in range(400)]
    assert row["mc_error"] == pytest.approx(np.std(resampled), rel=0.2)


def test_paired_power_has_the_error_of_a_paired_difference():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=4000)
    p = [np.clip(0.5 + 0.3 * (shared + 0.2 * rng.normal(size=4000)), 0, 1) for _ in range(2)]
    one, two = (MethodResults(x, x, x, x) for x in p)
    difference, error = paired_power(one, two, 0.3)
    assert difference == pytest.approx(np.mean(p[0] <= 0.3) - np.mean(p[1] <= 0.3))
    unpaired = np.sqrt(2 * 0.25 * 0.75 / 4000)
    assert error < 0.6 * unpaired


BAD = {
    "trial.arms=[control,nobody]": "trial.arms: no strategy named 'nobody'.",
    "trial.comparisons=[logrnk]": "trial.comparisons[0]: no comparison named 'logrnk'. Did you mean 'logrank'?",
    "trial.comparisons=['rmst_difference']": "trial.comparisons[0]: rmst_difference takes a number of months above 0 in brackets, got 'rmst_difference'",
    "trial.comparisons=['logrank(1)']": "trial.comparisons[0]: logrank takes nothing in brackets, got 'logrank(1)'",
    "trial.comparisons=['modestly_weighted(6,early)']": "trial.comparisons[0]: modestly_weighted takes a number of months (and events or survival if not events), or w_max=NUMBER in brackets",
    "trial.comparisons=['maxcombo(0,0;1)']": "trial.comparisons[0]: maxcombo takes nothing or pairs of rho and gamma",
    "trial.endpoints=[pfs3]": "trial.endpoints[0] must be one of pfs, os, orr, duration_of_response, durable_clinical_benefit, acquired_resistance, pfs2, got 'pfs3'",
    "trial.cuts.final.endpoint=orr": "trial.cuts.final.endpoint must be one of pfs, os, pfs2, got 'orr'",
    "+trial.cuts.final.stratum_events.high=3": "trial.cuts.final.stratum_events: no stratum named 'high'.",
    "trial.cuts.final.also=[{endpoint: os}]": "trial.cuts.final.also[0].events, date or follow_up: exactly one must be given, got 0",
    "trial.endpoints=[pfs,pfs]": "trial.endpoints[1] must not be given twice, got 'pfs'",
    "trial.comparisons=[cox,logrank,cox]": "trial.comparisons[2] must not be given twice, got 'cox'",
    "trial.comparisons=['rmst_difference(0)']": "trial.comparisons[0]: rmst_difference takes a number of months above 0 in brackets",
    "trial.eligibility.strata=[high]": "trial.eligibility.strata[0]: no stratum named 'high'.",
    "trial.eligibility.positive=[vegf]": "trial.eligibility.positive[0]: no mechanism named 'vegf'.",
    "trial.eligibility.sensitivity=2": "trial.eligibility.sensitivity must be between 0 and 1, got 2",
    "trial.eligibility={positive: [escape]}": "trial.eligibility must let in at least 2 % of those who are screened where trial.n_patients is 500, got 0 %",
    "trial.accrual.of_screened=true": "trial.accrual.of_screened must be false where a duration is given",
    "trial.cuts.final.events=null": "trial.cuts.final.events, stratum_events, date, follow_up or also: at least one must be given, got none",
    "trial.cuts.final.events=0": "trial.cuts.final.events must be at least 1, got 0",
    "trial.block_size=3": "trial.block_size must be a multiple",
    "trial.accrual.duration=0": "trial.accrual.duration or rates must be given",
    "trial.n_patients=0": "trial.n_patients must be finite and greater than 0, got 0",
    "trial.weights=[1]": "trial.weights must hold one number for each of 2 arms, got 1",
    "trial.arms=[control,control]": "trial.arms[1] must not be given twice, got 'control'",
    "trial.alpha=0": "trial.alpha must be above 0 and below 1, got 0",
    "trial.accrual={duration: 0, starts: [0, 6], rates: [10]}": "trial.accrual.rates must hold 2 numbers, one for each of starts, got 1",
    "trial.accrual={duration: 0, starts: [0, 6, 3], rates: [1, 2, 3]}": "trial.accrual.starts must increase from 0, got [0.0, 6.0, 3.0]",
    "trial.cuts.final.also=[{date: 5, stratum: all}]": "trial.cuts.final.also[0].events must be given with a stratum, got stratum 'all'",
    "trial.alpha=2": "trial.alpha must be between 0 and 1, got 2",
}  # fmt: skip


@pytest.mark.parametrize("override", BAD)
def test_a_bad_design_is_named_by_its_path(override):
    with pytest.raises(ScenarioError) as error:
        conduct_trials(plan("scenario=delayed_effect", override), 1)
    assert str(error.value).startswith(BAD[override])
    assert "\n" not in str(error.value)
