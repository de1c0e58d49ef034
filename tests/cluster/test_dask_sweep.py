"""Sweeps on a real Dask cluster: the same bytes as here, whichever worker dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster.dask_machine import Dask
from cluster.slurm_machine import Slurm
from cluster.sweep_files import LONG, bytes_of, cells
from cluster.test_slurm_machine import wait_until
from sim.errors import ResistimeError
from sim.sweep.dask import _kept
from tests.sweeps_run import GRID, SMALL, command, sweep

pytest.importorskip("distributed", reason="no extra 'dask'")
pytest.importorskip("dask_jobqueue", reason="no extra 'dask'")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep made here."""
    place = tmp_path_factory.mktemp("here")
    assert sweep(place, *SMALL, GRID) == 0
    return place


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        (sys.executable, "-m", "sim", *arguments),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def on_every_worker(cluster: Dask, function: Callable[..., Any]) -> list[Any]:
    import cloudpickle
    from distributed import Client

    # Workers cannot import the tests.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with Client(cluster.address, timeout=60) as client:
        client.wait_for_workers(len(cluster.workers), timeout=60)
        return list(client.run(function).values())


def fail_with_dropout() -> None:
    """Break the program of a worker."""
    import sim.sweep.cell as module

    conduct = module.conduct_blocks

    def fail(plan, blocks):
        if plan.design.dropout == 0.01:
            raise ZeroDivisionError("a bug")
        return conduct(plan, blocks)

    module.conduct_blocks = fail


def write_down_blocks() -> None:
    """Have a worker write down the blocks that it conducts."""
    import sim.sweep.cell as module

    conduct = module.conduct_blocks
    module.conducted = []

    def write_down(plan, blocks):
        module.conducted += blocks
        return conduct(plan, blocks)

    module.conduct_blocks = write_down


def written_down() -> list[int]:
    import sim.sweep.cell as module

    return module.conducted


def test_the_cells_of_a_killed_worker_are_made_by_the_other(dask_cluster: Dask, tmp_path: Path):
    at = f"dask.address={dask_cluster.address}"
    with started(*LONG, GRID, at, f"hydra.run.dir={tmp_path / 'dask'}") as process:
        wait_until(lambda: bool(cells(tmp_path / "dask")))
        dask_cluster.kill("worker0")
        assert process.poll() is None
        said, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    assert "6 cells made, 0 kept, 0 failed" in said
    assert "Traceback" not in complained
    assert sweep(tmp_path / "here", *LONG, GRID) == 0
    assert bytes_of(tmp_path / "dask") == bytes_of(tmp_path / "here")


def test_a_scheduler_that_dies_fails_no_cell(dask_cluster: Dask, tmp_path: Path):
    at = f"dask.address={dask_cluster.address}"
    with started(*LONG, GRID, at, f"hydra.run.dir={tmp_path}") as process:
        wait_until(lambda: bool(cells(tmp_path)))
        os.kill(dask_cluster.scheduler, signal.SIGKILL)
        _, complained = process.communicate(timeout=120)
    assert process.returncode == 2
    line = complained.splitlines()[-1]
    assert line.startswith("resistime: dask: the scheduler was lost; the same command goes on")
    assert "Traceback" not in complained
    assert not list(tmp_path.rglob("*.failed.json"))


@dataclass(frozen=True)
class Broken:
    """A future of a batch whose outcome cannot be fetched."""

    status: str
    error: Exception

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("finished", OSError("Stream is closed")),
        ("lost", OSError("Stream is closed")),
        ("cancelled", CancelledError("lost connection to the scheduler")),
    ],
)
def test_a_connection_that_breaks_on_the_way_fails_no_cell(status: str, error: Exception):
    with pytest.raises(ResistimeError, match="the scheduler was lost"):
        _kept(Broken(status, error), [])


def test_a_cell_that_fails_on_a_worker_is_recorded_with_its_traceback(
    dask_cluster: Dask, tmp_path: Path, here: Path
):
    on_every_worker(dask_cluster, fail_with_dropout)
    at = f"dask.address={dask_cluster.address}"
    assert sweep(tmp_path, *SMALL, GRID, at) == 1
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    failed = table[table["status"] == "failed"]
    assert failed["cell"].tolist() == [1, 4]
    assert failed["error"].unique().tolist() == ["ZeroDivisionError: a bug"]
    for record in tmp_path.rglob("*.failed.json"):
        assert "in fail\n" in json.loads(record.read_text())["traceback"]
    assert sweep(tmp_path, *SMALL, GRID) == 0
    assert bytes_of(tmp_path) == bytes_of(here)


def test_more_replicates_extend_what_is_here(dask_cluster: Dask, tmp_path: Path):
    more = (*SMALL, GRID, "n_replicates=500")
    assert sweep(tmp_path / "at once", *more) == 0
    assert sweep(tmp_path / "dask", *SMALL, GRID) == 0
    on_every_worker(dask_cluster, write_down_blocks)
    assert sweep(tmp_path / "dask", *more, f"dask.address={dask_cluster.address}") == 0
    assert bytes_of(tmp_path / "dask") == bytes_of(tmp_path / "at once")
    blocks = [block for own in on_every_worker(dask_cluster, written_down) for block in own]
    assert blocks
    assert min(blocks) > 0


def test_cells_that_are_here_are_not_sent(dask_cluster: Dask, tmp_path: Path, capsys):
    assert sweep(tmp_path, *SMALL, GRID) == 0
    on_every_worker(dask_cluster, write_down_blocks)
    assert sweep(tmp_path, *SMALL, GRID, f"dask.address={dask_cluster.address}") == 0
    assert "0 cells made, 6 kept" in capsys.readouterr().out
    assert on_every_worker(dask_cluster, written_down) == [[], []]


def test_a_cluster_that_is_started_for_the_sweep_ends_with_it(here: Path, tmp_path: Path):
    done = command(*SMALL, GRID, "dask.cluster=local", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert bytes_of(tmp_path) == bytes_of(here)


def test_a_cluster_of_jobs_on_slurm(slurm: Slurm, here: Path, tmp_path: Path):
    options = (
        "+dask.options={cores: 1, processes: 1, memory: 1GB, walltime: '00:05:00', "
        f"log_directory: {tmp_path}/logs}}"
    )
    done = command(
        *SMALL, GRID, "dask.cluster=slurm", options, f"hydra.run.dir={tmp_path / 'dask'}",
        env=slurm.environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "dask") == bytes_of(here)
    wait_until(lambda: not slurm.jobs())


def test_a_scheduler_that_is_not_there_is_said_in_one_line(tmp_path: Path):
    begun = time.monotonic()
    done = command(
        *SMALL,
        GRID,
        "dask.address=tcp://127.0.0.1:1",
        "dask.timeout=1",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("resistime: dask: cannot reach 'tcp://127.0.0.1:1': ")
    assert time.monotonic() - begun < 45.0
