"""Sweeps on a real Slurm: the same bytes as here, whatever becomes of jobs, nodes and launcher."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.slurm_machine import Slurm
from cluster.sweep_files import LONG, bytes_of, cells
from cluster.test_slurm_machine import wait_until
from tests.sweeps_run import GRID, SMALL, command, sweep

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="no extra 'slurm'")


@contextlib.contextmanager
def launched(slurm: Slurm, place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command with the launcher for Slurm; killed if it has not ended."""
    with subprocess.Popen(
        (sys.executable, "-m", "sim", "-m", *arguments, "hydra/launcher=submitit_slurm",
         "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=5", f"hydra.sweep.dir={place}"),
        env=slurm.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as launcher:  # fmt: skip
        try:
            yield launcher
        finally:
            launcher.kill()


def shards(number: int) -> tuple[str, str]:
    return f"shard=range({number})", f"n_shards={number}"


def logs(place: Path) -> str:
    files = sorted(place.glob(".submitit/*/*_log.*"))
    return "\n".join(path.read_text() for path in files)


def running(slurm: Slurm) -> list[str]:
    return [job for job, state in slurm.jobs().items() if state == "RUNNING"]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep of the cells of a second, made here in one go."""
    place = tmp_path_factory.mktemp("long")
    assert sweep(place, *LONG, GRID) == 0
    return place


def test_shards_on_slurm_give_the_bytes_of_a_run_here(slurm: Slurm, tmp_path: Path):
    assert sweep(tmp_path / "here", *SMALL, GRID) == 0
    place = tmp_path / "slurm"
    with launched(slurm, place, *SMALL, GRID, *shards(4)) as launcher:
        said, complained = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, complained
    assert bytes_of(place) == bytes_of(tmp_path / "here")
    assert f"6 cells (2 x 3) in 4 shards, in {place}\n" in said
    assert f"resistime-collect {place}" in said
    assert "held another sweep" not in said + logs(place)
    # Slurm has granted each shard one of the two cores of its node, and holds none to it.
    assert logs(place).count(" on 1 cores ") == 4


def test_a_killed_shard_is_said_in_one_line_and_the_same_command_goes_on(
    slurm: Slurm, tmp_path: Path, long: Path
):
    with launched(slurm, tmp_path, *LONG, GRID, *shards(2)) as launcher:
        wait_until(lambda: bool(cells(tmp_path)))
        job = running(slurm)[0]
        assert slurm.kill(job) >= 1
        _, complained = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    (line,) = complained.splitlines()
    assert line.startswith(f"resistime: a job was lost: {job} (FAILED, ")
    assert line.endswith("others may still run, and the same command goes on with what is missing")
    wait_until(lambda: not slurm.jobs())
    kept = cells(tmp_path)
    assert 1 <= len(kept) < 6
    with launched(slurm, tmp_path, *LONG, GRID, *shards(2)) as launcher:
        _, complained = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, complained
    assert bytes_of(tmp_path) == bytes_of(long)
    assert {name: cells(tmp_path)[name] for name in kept} == kept


def test_a_drained_node_and_an_interrupted_launcher_lose_nothing(
    slurm: Slurm, tmp_path: Path, long: Path
):
    with launched(slurm, tmp_path, *LONG, GRID, *shards(6)) as launcher:
        wait_until(lambda: len(running(slurm)) == 2)
        slurm.drain()
        wait_until(lambda: len(cells(tmp_path)) == 2)
        launcher.send_signal(signal.SIGINT)
        _, complained = launcher.communicate(timeout=30)
    assert launcher.returncode == 130
    (line,) = complained.splitlines()
    assert line.startswith("resistime: interrupted; jobs that were handed over go on (on Slurm, ")
    wait_until(lambda: not running(slurm))
    assert set(slurm.jobs().values()) == {"PENDING"}
    slurm.cancel()
    kept = cells(tmp_path)
    assert len(kept) == 2
    done = command(tmp_path, module="sim.collect_command")
    assert done.returncode == 1
    assert "4 cells are missing" in done.stdout
    slurm.resume()
    # Not on Slurm this time: where cells were made makes no difference.
    done = command(*LONG, GRID, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "4 cells made, 2 kept" in done.stdout
    assert "held another sweep" not in done.stdout
    assert bytes_of(tmp_path) == bytes_of(long)
    assert {name: cells(tmp_path)[name] for name in kept} == kept


def test_a_shard_whose_time_is_up_says_so_and_fails_no_cell(slurm: Slurm, tmp_path: Path):
    endless = (*SMALL, "n_replicates=10000000", "n_workers=2")
    with launched(slurm, tmp_path, *endless, GRID, *shards(1)) as launcher:
        wait_until(lambda: "share patients" in logs(tmp_path))
        (job,) = running(slurm)
        wait_until(lambda: len(slurm.processes(job)) >= 5)  # Script, srun, twice; task; workers.
        # As Slurm announces the end of a job: to all its processes.
        slurm.run("scancel", "--signal=USR2", job)
        _, complained = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    line = complained.splitlines()[-1]
    assert line.startswith("resistime: a job has used up hydra.launcher.timeout_min; the same ")
    assert "Traceback" not in complained
    assert logs(tmp_path).count("Calling checkpoint method") == 1
    assert not list(tmp_path.rglob("*.failed.json"))


def test_a_job_that_cannot_write_is_heard_of_at_the_launcher(slurm: Slurm, tmp_path: Path):
    own = tmp_path / "jobs" / "1"
    own.mkdir(parents=True)
    (own / ".hydra").write_text("where a folder is to be")
    with launched(slurm, tmp_path, *SMALL, "trial.dropout=0,0.01") as launcher:
        _, complained = launcher.communicate(timeout=120)
    assert launcher.returncode == 2
    first, line = complained.splitlines()
    assert first.startswith("Error executing job with overrides: ")
    assert "trial.dropout=0.01" in first
    assert line.startswith("resistime: hydra.run.dir: cannot write")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((GRID, *shards(2), "hydra.launcher.partition=none"), "Invalid partition name specified"),
        ((GRID, *shards(2), "trial.n_patients=0"), "trial.n_patients must be"),
    ],
)
def test_what_slurm_or_the_sweep_cannot_do_is_one_line(
    slurm: Slurm, tmp_path: Path, given: tuple[str, ...], words: str
):
    with launched(slurm, tmp_path, *SMALL, *given) as launcher:
        _, complained = launcher.communicate(timeout=60)
    assert launcher.returncode == 2
    line = complained.splitlines()[-1]
    assert line.startswith("resistime: ")
    assert words in line
    assert "Traceback" not in complained
    assert not slurm.jobs()
