"""What launchers and their jobs can do wrong, in a line each; tests/cluster has the real ones."""

import importlib.util

import pytest

from sim.command import register_schema
from sim.config import read_config
from sim.errors import ScenarioError
from sim.launcher import in_launcher, trouble_of
from sim.sweep.definition import composed
from sim.sweep_command import begin_shards
from tests.sweeps_run import GRID, SMALL, command, sweep

UncompletedJobError = type(
    "UncompletedJobError", (RuntimeError,), {"__module__": "submitit.core.utils"}
)

without_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is not None, reason="the extra 'slurm' is installed"
)


def raised_in(module, error):
    """An error that has come through a module of this name."""
    space = {"__name__": module, "error": error}
    try:
        exec("raise error", space)
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("text", "told", "status"),
    [
        (
            "Job 7_1 (task: 0) with path /s/.submitit/7_1/7_1_0_result.pkl\n"
            "has not produced any output (state: NODE_FAIL)\nError stream produced:\n---\nsrun",
            "a job was lost: 7_1 (NODE_FAIL, /s/.submitit/7_1/7_1_0_log.err); others may still "
            "run, and the same command goes on with what is missing",
            1,
        ),
        (
            "Job not requeued because: timed-out too many times.",
            "a job has used up hydra.launcher.timeout_min; the same command goes on with what is "
            "missing (hydra.launcher.max_num_timeout=3 would let shards go on by themselves)",
            1,
        ),
        (
            "Job (task=0) failed during processing with trace:\n-----\nTraceback (most recent\n"
            "  File\nModuleNotFoundError: No module named 'sim'\n\n-----\nYou can check full logs "
            "with 'job.stderr(0)' and 'job.stdout(0)'or at paths:\n  - /s/7_0_log.err\n  - /s/x",
            "a job failed: ModuleNotFoundError: No module named 'sim' (/s/7_0_log.err); the same "
            "command goes on with what is missing",
            1,
        ),
        (
            "sbatch: error: invalid job array\nsbatch: error: Invalid job array specification\n",
            "hydra/launcher: jobs were not taken: sbatch: error: Invalid job array specification "
            "(n_shards must be less than Slurm's MaxArraySize)",
            2,
        ),
    ],
)
def test_what_submitit_says_is_one_line(text, told, status):
    trouble = trouble_of(UncompletedJobError(text))
    assert (trouble.told, trouble.status) == (told, status)


def test_other_launchers_are_known_by_where_the_error_came_from():
    error = raised_in("hydra_plugins.hydra_ray_launcher.x", ConnectionError("no head\nand more"))
    assert trouble_of(error).told == "hydra/launcher: ConnectionError: no head"
    assert trouble_of(raised_in("sim.cohort", ConnectionError("a bug"))) is None
    assert in_launcher(raised_in("hydra_plugins.x", KeyboardInterrupt()))
    assert not in_launcher(raised_in("sim.sweep", KeyboardInterrupt()))


@pytest.mark.parametrize(
    ("launcher", "told"),
    [
        pytest.param(
            "submitit_slurm",
            "resistime: hydra/launcher=submitit_slurm is not installed; "
            "pip install 'resistime[slurm]'\n",
            marks=without_submitit,
        ),
        ("basics", "resistime: hydra/launcher: no option named 'basics'. Did you mean 'basic'?"),
    ],
)
def test_a_launcher_that_is_not_there_is_said_in_one_line(launcher, told):
    done = command("-m", *SMALL, GRID, f"hydra/launcher={launcher}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("shard=range(3)",), "shard must come with n_shards=3, the number of all"),
        (("shard=1,3", "n_shards=3"), "shard must be less than n_shards (3), got 3"),
        (("shard=0,1", "n_shards=2", "seed=1,2"), "seed: shards are of one sweep; put what"),
        (("shard=0,1", "n_shards=2", "trial.alpha=2"), "trial.alpha must"),
    ],
)
def test_shards_that_cannot_be_are_refused_before_any_runs(tmp_path, given, told):
    register_schema()
    single = [item for item in given if "," not in item and "range" not in item]
    whole = read_config(composed([*SMALL, GRID, *single]))
    with pytest.raises(ScenarioError) as caught:
        begin_shards(whole, [*SMALL, GRID, *given], tmp_path)
    assert str(caught.value).startswith(told)
    assert not (tmp_path / "cells").exists()


def test_what_is_wrong_with_shards_is_said_once_by_the_command(tmp_path):
    done = command("-m", *SMALL, GRID, "shard=0,1", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == "resistime: shard must come with n_shards=2, the number of all\n"
    assert done.stdout == ""


def test_shards_are_told_of_before_they_run_and_some_can_be_made_alone(tmp_path):
    done = command("-m", *SMALL, GRID, "shard=0,2", "n_shards=3", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    first = f"onset by dropout: 6 cells (2 x 3) in 3 shards (2 of them now), in {tmp_path}\n"
    assert done.stdout.startswith(first)
    assert "held another sweep" not in done.stdout
    assert "2 cells are missing" in done.stdout


def test_a_whole_sweep_for_each_of_hydras_jobs_is_no_shard(tmp_path):
    done = command("-m", *SMALL, GRID, "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "shards" not in done.stdout
    tables = [(tmp_path / "jobs" / str(n) / "sweep.csv").read_bytes() for n in range(2)]
    assert tables[0] != tables[1]


def test_the_end_of_a_jobs_time_is_no_failure_of_a_cell(tmp_path, monkeypatch):
    import sim.sweep.cell as module

    def interrupted(plan, blocks):
        raise UncompletedJobError("timed-out too many times")

    monkeypatch.setattr(module, "conduct_blocks", interrupted)
    with pytest.raises(UncompletedJobError):
        sweep(tmp_path, *SMALL, GRID, "n_workers=1")
    assert not list(tmp_path.rglob("*.failed.json"))
