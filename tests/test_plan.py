"""What a sweep will take: the arithmetic with made-up costs, and the command on a tiny sweep."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.command import register_schema
from sim.config import read_config
from sim.errors import ResistimeError, ScenarioError
from sim.plan_command import Plan, make_plan, told
from sim.randomness import BLOCK
from sim.schema import PlanConfig
from sim.sweep.definition import composed
from sim.sweep.engine import Todo, Work, run_cells
from sim.sweep.folder import define
from sim.sweep.forecast import Estimate, _jobs, best_jobs, makespan, predict, spread_order
from sim.sweep.pilot import QUICK, Forecast, Limits, Measured, forecast, measure, quick_forecast
from sim.sweep.store import Store

TINY = (
    "scenario=delayed_effect", "n_replicates=600", "trial.comparisons=[logrank]",
    "sweep.grid={trial.n_patients:[60,120],agents.delayed.onset:[0,3]}",
    "trial.cuts.final.events=40",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    register_schema()
    return define(read_config(composed(TINY)), TINY)


# ---------------------------------------------------------------- cells that were not measured


def test_a_cost_that_is_linear_in_what_is_swept_is_predicted_exactly():
    # Round-off: 30 cells, three kinds, 12 of the cells measured.
    size = np.tile(np.arange(1.0, 11.0), 3)
    kind = np.repeat(np.arange(3), 10)
    cost = size * (2.0 + 0.5 * (kind == 1) + 3.0 * (kind == 2))
    levels = (kind[:, None] == np.array([1, 2])).astype(float)
    at = spread_order(30)[:12]
    found = predict([levels], size, at, cost[at])
    assert found.total.value == pytest.approx(cost.sum(), rel=1e-12)
    assert found.values == pytest.approx(cost, rel=1e-12)
    assert found.total.error < 1e-9 * cost.sum()


def test_without_what_makes_the_difference_the_prediction_says_that_it_is_rough():
    size = np.tile(np.arange(1.0, 11.0), 3)
    kind = np.repeat(np.arange(3), 10)
    cost = size * (2.0 + 0.5 * (kind == 1) + 3.0 * (kind == 2))
    at = spread_order(30)[:12]
    found = predict([], size, at, cost[at])
    assert found.total.relative > 0.05
    assert abs(found.total.value - cost.sum()) < 3.0 * found.total.error


def errors_in_standard_errors(claimed=1.0):
    """Of the totals of 400 sweeps of 200 cells, 20 of them measured, whose costs vary by 30 %."""
    rng = np.random.default_rng(20261124)
    z = []
    for _ in range(400):
        cost = 1.0 + 0.3 * rng.standard_normal(200)
        found = predict([], np.ones(200), spread_order(200)[:20], cost[spread_order(200)[:20]])
        z.append((found.total.value - cost.sum()) / (claimed * found.total.error))
    return np.array(z)


def spread_is_one(z):
    # Chance: the root mean square of 400 is within 4 of its standard errors, 0.035, of that of
    # Student's t with 19 degrees of freedom. An error that is 20 % off is seen.
    return abs(math.sqrt(float(np.mean(z**2))) - math.sqrt(19.0 / 17.0)) < 4.0 * 0.037


def test_the_standard_error_is_that_of_the_total():
    z = errors_in_standard_errors()
    assert spread_is_one(z)
    assert abs(z.mean()) < 4.0 * 1.06 / 20.0


def test_a_standard_error_that_is_too_small_would_be_seen():
    assert not spread_is_one(errors_in_standard_errors(claimed=0.8))


def test_cells_that_were_all_measured_leave_what_the_clock_leaves():
    cost = np.array([1.0, 5.0, 2.0, 8.0])
    once = predict([], np.ones(4), range(4), cost)
    twice = predict([], np.ones(4), [*range(4), *range(4)], [*(cost + 0.1), *(cost - 0.1)])
    assert twice.values == pytest.approx(cost)
    assert once.total.value == pytest.approx(16.0)
    # Deviations of 0.1 from the means of two: variance 8 * 0.01 / 4, of which each mean has half.
    assert twice.total.error == pytest.approx(math.sqrt(4 * 0.02 / 2))


def test_one_cell_tells_nothing_about_the_error():
    found = predict([], np.array([1.0, 2.0]), [1], [4.0])
    assert found.values == pytest.approx([2.0, 4.0])
    assert math.isnan(found.total.error)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 12, 89, 1000])
def test_the_order_meets_every_cell_and_spreads_the_first(n):
    order = spread_order(n)
    assert sorted(order) == list(range(n))
    if n >= 89:
        first = np.sort(order[:8])
        assert np.diff(first).max() < 0.3 * n


def test_a_forecast_puts_fixed_costs_blocks_and_patients_together(tiny):
    """Pace made up: 10 ms a cell, and 0.1 ms a patient for each of three blocks."""
    patients = [60, 60, 120, 120]
    measured = [
        Measured(at, fixed=0.01, block=1e-4 * patients[at], n_blocks=3, file_fixed=5000.0,
                 file_block=1600.0, memory=1e8, busy=0.5, wall=1.0)
        for at in (0, 3, 1)
    ]  # fmt: skip
    found = forecast(tiny, range(4), measured)
    assert found.seconds == pytest.approx([0.028, 0.028, 0.046, 0.046])
    assert found.core.value == pytest.approx(0.148)
    assert found.storage.value == pytest.approx(4 * (5000 + 3 * 1600))
    assert (found.n_measured, found.n_failed, found.share_of_core) == (3, 0, 0.5)


def test_cells_that_fail_are_counted_and_told(tiny):
    measured = [Measured(0, fixed=1.0, wall=1.0), Measured(1, error="no such thing")]
    found = forecast(tiny, range(4), measured)
    assert (found.n_failed, found.failure) == (1, "no such thing")
    assert forecast(tiny, range(4), measured[1:]) is None


# ---------------------------------------------------------------- workers and jobs


def test_workers_take_the_next_cell_when_they_are_free():
    assert makespan([4.0, 3.0, 2.0, 2.0], 2) == 6.0
    assert makespan([4.0, 3.0, 2.0, 2.0], 1) == 11.0
    assert makespan([4.0, 3.0, 2.0, 2.0], 9) == 4.0
    assert makespan([], 3) == 0.0


def test_long_sweeps_have_four_jobs_for_each_worker():
    jobs = best_jobs(np.full(6400, 10.0), 8, 5.0)
    assert (jobs.n_jobs, jobs.n_cells, jobs.seconds) == (32, 200, 2000.0)
    assert jobs.wall == pytest.approx(4 * 2005.0)
    assert jobs.overhead == pytest.approx(5.0 / 2005.0)


def test_short_sweeps_have_jobs_that_are_worth_their_overhead():
    # 6,000 s of work, 5 s a job: 12 jobs of 500 s are 1 % overhead.
    jobs = best_jobs(np.full(6000, 1.0), 64, 5.0)
    assert jobs.n_jobs <= 12
    assert jobs.seconds >= 500.0
    assert jobs.overhead <= 0.01
    longer = best_jobs(np.full(6000, 1.0), 64, 5.0, least=600.0)
    assert longer.seconds >= 600.0
    # Jobs of 20 s allow one for each worker and more.
    assert best_jobs(np.full(6000, 1.0), 64, 5.0, least=20.0).n_jobs >= 64


def test_there_are_never_more_jobs_than_cells_or_than_are_allowed():
    assert best_jobs(np.full(3, 1e5), 64, 5.0).n_jobs == 3
    assert best_jobs(np.full(10**5, 1e3), 512, 5.0).n_jobs <= 1001
    assert best_jobs(np.full(10**5, 1e3), 512, 5.0, max_jobs=100).n_jobs <= 100
    assert best_jobs(np.full(4, 0.1), 64, 5.0).n_jobs == 1


def test_large_cells_do_not_all_come_into_one_job():
    """An axis of four sizes, and shards that take every 32nd cell: each would have one size."""
    seconds = np.tile([1.0, 2.0, 4.0, 9.0], 4000)
    straight = _jobs(seconds, 32, 8, 5.0)
    assert straight.longest == pytest.approx(2.25 * straight.seconds)
    chosen = best_jobs(seconds, 8, 5.0)
    assert chosen.longest < 1.01 * chosen.seconds
    assert chosen.wall <= straight.wall


def made_up_plan(n_cells=4, seconds=3600.0):
    cells = Forecast(
        np.full(n_cells, seconds), Estimate(n_cells * seconds, 0.02 * n_cells * seconds),
        Estimate(4e6, 0.0), 2e8, 4, 0, "", 1.0,
    )  # fmt: skip
    return Plan(cells, 2.0, Estimate(1e6, 0.0), 3.0, Estimate(0.9, 0.01), 2, 20.0)


def test_wall_time_is_start_work_and_tables():
    plan = made_up_plan()
    assert plan.wall(2).value == pytest.approx(2.0 + 7200.0 + 3.0)
    assert plan.wall(2).error == pytest.approx(0.02 * 7200.0)
    # One process alone is faster than one among others.
    assert plan.wall(1).value == pytest.approx(2.0 + 0.9 * 14400.0 + 3.0)
    assert plan.wall(512).value == plan.wall(4).value == pytest.approx(3605.0)
    assert plan.storage.value == 5e6


def test_the_plan_in_words(tiny):
    lines = told(tiny, made_up_plan(), 2, PlanConfig(), ["hydra.run.dir='my place'"])
    text = "\n".join(lines)
    assert "core time        4.0 h (3.8 h to 4.2 h), 4 (3.8 to 4.2) core-hours" in text
    assert "storage          5.0 MB, of which tables 1.0 MB" in text
    assert "memory           200 MB" in text
    rows = {line.split()[0]: line for line in lines if line[:9].strip().isdigit()}
    assert list(rows) == ["1", "2", "8", "64", "512"]
    assert "2.0 h (1.9 h to 2.1 h)" in rows["2"]
    here, slurm = (line for line in lines if line.startswith("  resistime "))
    assert here.endswith("n_workers=2 'hydra.run.dir='\"'\"'my place'\"'\"''")
    for item in (
        "-m", "'shard=range(4)'", "n_shards=4", "n_workers=1", "hydra/launcher=submitit_slurm",
        "hydra.launcher.array_parallelism=2", "hydra.launcher.mem_gb=1",
        # Twice 3600 + 2 + 3.1 s, and a minute.
        "hydra.launcher.timeout_min=122", "'hydra.sweep.dir=",
    ):  # fmt: skip
        assert f" {item}" in slurm
    assert "Other programs" not in text


# ---------------------------------------------------------------- measuring


def test_what_is_measured_is_made_as_the_sweep_makes_it(tiny, tmp_path):
    """Sizes of the files are those of the sweep: the rows' digits alone differ."""
    (tmp_path / "real").mkdir()
    Store(tmp_path / "real").open()
    limits = Limits(seconds=60.0, error=1e-9)
    measured = measure(tiny, range(4), tmp_path, 1, limits, only=range(4))
    assert [item.at for item in measured] == [0, 1, 2, 3]
    assert not [item.error for item in measured if item.error]
    assert all(item.n_blocks == 600 // BLOCK for item in measured)
    assert all(item.fixed > 0.0 and item.memory > 5e7 for item in measured)
    work = Work(tmp_path / "real", tiny.base({}), tiny.asked).pickled()
    todo = (Todo(work, i, values) for i, values in enumerate(tiny.grid.cells))
    run_cells(todo, 4, 1, lambda outcome: None)
    real = sum(path.stat().st_size for path in (tmp_path / "real").rglob("*.npz"))
    assert forecast(tiny, range(4), measured).storage.value == pytest.approx(real, rel=0.03)


def test_measuring_ends_when_the_time_is_over(tiny, tmp_path):
    found = measure(tiny, range(4), tmp_path, 1, Limits(seconds=1e-6, error=1e-9))
    assert len(found) == 1


def test_what_takes_too_long_is_given_up(tiny, tmp_path):
    assert measure(tiny, range(4), tmp_path, 1, Limits(10.0, 1e-9, at_most=1e-3)) == []


def test_a_process_that_ends_while_it_measures_stops_no_sweep(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("sim.sweep.pilot._measure", lambda *_: os._exit(9))
    with pytest.raises(ResistimeError, match="ended from outside"):
        measure(tiny, range(4), tmp_path, 1, Limits(10.0, 1e-9))
    assert quick_forecast(tiny, range(4), 1) is None


def test_a_sweep_without_a_cell_that_can_be_made_has_no_plan(tiny, monkeypatch):
    monkeypatch.setattr("sim.plan_command.measure", lambda *_, **__: [Measured(0, error="why")])
    with pytest.raises(ScenarioError, match="no cell could be made: why"):
        make_plan(tiny, 1, PlanConfig())


def test_cohorts_of_a_share_of_the_patients_are_put_on_a_line(tiny):
    """Made up: 0.6 s, and 0.8 s for all patients."""
    measured = [
        Measured(0, cohort=0.6 + 0.8 * share, share=share, wall=1.0) for share in QUICK.shares
    ]
    assert forecast(tiny, range(4), measured).core.value == pytest.approx(4 * 1.4)


# ---------------------------------------------------------------- the command


def plan(*arguments, **options):
    command = [sys.executable, "-m", "sim.plan_command", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_the_plan_of_a_tiny_sweep(tmp_path):
    root = Path(__file__).parents[1]
    done = plan(
        *TINY, "plan.seconds=1", "n_workers=2", "hydra.run.dir=here", cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name in (
        "4 cells, 600 trials each", "core time", "core-hours", "storage", "memory",
        "start of a job", "tables", "workers", "jobs", "overhead", "shard=range(1)",
        "hydra.run.dir=here", "hydra.sweep.dir=here",
    ):  # fmt: skip
        assert name in done.stdout
    typed = next(x for x in done.stdout.splitlines() if x.startswith("  resistime scenario"))
    assert "plan.seconds" not in typed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no sweep is given: add sweep=NAME ("),
        (
            ["sweep=late_benefi"],
            "sweep: no option named 'late_benefi'. Did you mean 'late_benefit'?",
        ),
        (["sweep=late_benefit", "plan.secnds=3"], "plan.secnds: no such setting. Did you mean"),
        (["sweep=late_benefit", "plan.seconds=-3"], "plan.seconds must be finite and greater"),
        (["sweep=late_benefit", "n_shards=4"], "n_shards: leave it out"),
        (["-m", "sweep=late_benefit"], "leave out -m"),
        (
            ["scenario=delayed_effect", "sweep.grid={trial.n_patients:[60,-5]}"],
            "cell 1 (trial.n_patients=-5): trial.n_patients must be finite and greater than 0",
        ),
        (
            ["scenario=delayed_effect", "sweep.grid={plan.seconds:[60,5]}"],
            "no setting named 'plan'",
        ),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tmp_path):
    root = Path(__file__).parents[1]
    done = plan(*arguments, cwd=tmp_path, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("resistime-plan: ")
    assert message in line


def test_help_teaches():
    done = plan("--help")
    assert done.returncode == 0
    for name in ("sweep=late_benefit", "plan.seconds", "plan.job_overhead", "How to read it"):
        assert name in done.stdout
