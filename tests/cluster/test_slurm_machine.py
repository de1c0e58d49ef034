"""The Slurm of the tests does what a cluster does, good and bad."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import slurm_machine as subject
from cluster.slurm_machine import Slurm, SlurmUnavailable

APP = Path(__file__).with_name("tiny_app.py")


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@contextlib.contextmanager
def sweep(slurm: Slurm, place: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    """The application under submitit's launcher for Slurm; killed if it has not ended."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="no extra 'slurm'")
    with subprocess.Popen(
        (sys.executable, str(APP), "-m", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1",
         "hydra.launcher.timeout_min=5", f"hydra.sweep.dir={place}", *overrides),
        env=slurm.environment, cwd=place, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as launcher:  # fmt: skip
        try:
            yield launcher
        finally:
            launcher.kill()


def test_four_jobs_of_a_sweep_run_as_one_array(slurm: Slurm, tmp_path: Path):
    with sweep(slurm, tmp_path, "number=0,1,2,3") as launcher:
        said, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, said
    found = [json.loads((tmp_path / str(n) / "found.json").read_text()) for n in range(4)]
    assert [one["square"] for one in found] == [0, 1, 4, 9]
    assert [one["element"] for one in found] == ["0", "1", "2", "3"]
    (array,) = {one["array"] for one in found}
    names = {f"{array}_{n}" for n in range(4)}
    wait_until(lambda: names <= {j for j, s in slurm.accounts().items() if s == "COMPLETED"})


def test_a_killed_job_fails_the_launcher_and_not_its_neighbour(slurm: Slurm, tmp_path: Path):
    with sweep(slurm, tmp_path, "seconds=600,1") as launcher:
        wait_until((tmp_path / "0" / "started").exists)
        (first,) = (job for job in slurm.jobs() if job.endswith("_0"))
        assert slurm.kill(first) >= 1
        said, _ = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert "UncompletedJobError" in said
    assert not (tmp_path / "0" / "found.json").exists()
    wait_until(lambda: not slurm.jobs())
    assert (tmp_path / "1" / "found.json").exists()
    wait_until(lambda: slurm.accounts().get(first) == "FAILED")


def test_a_drained_node_keeps_jobs_waiting(slurm: Slurm, tmp_path: Path):
    slurm.drain()
    wait_until(lambda: slurm.node_state() == "drained")
    done = tmp_path / "done"
    job = slurm.run("sbatch", "--parsable", "--output=/dev/null", f"--wrap=touch {done}").strip()
    wait_until(lambda: "DRAINED" in slurm.run("squeue", "--noheader", "--format=%R"))
    assert slurm.jobs() == {job: "PENDING"}
    slurm.resume()
    wait_until(done.exists)


def test_a_job_goes_with_all_its_processes(slurm: Slurm):
    job = slurm.run(
        "sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 1000 & sleep 1000; true"
    ).strip()
    wait_until(lambda: len(slurm.processes(job)) == 3)
    slurm.cancel()
    wait_until(lambda: not slurm.processes(job))
    wait_until(lambda: slurm.accounts().get(job, "").startswith("CANCELLED"))


def test_more_memory_than_the_node_has_is_refused(slurm: Slurm):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        slurm.run("sbatch", f"--mem={subject.NODE_MEGABYTES + 1}M", "--wrap=true")
    assert "Requested node configuration is not available" in caught.value.stderr


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmUnavailable, match=r"^no slurmctld, .* and no apt-get"):
        subject._install(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SlurmUnavailable, match="takes root"), subject.slurm_machine():
        pass


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'E: Could not get lock'; exit 100", "^apt-get update: E: Could not get lock$"),
        ("echo; exit 1", "^apt-get update: "),
        ("exec sleep 60", "^apt-get update: not done after 0.2 s$"),
    ],
)
def test_an_installation_that_fails_says_why(
    script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    program = tmp_path / "apt-get"
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subject, "DOWNLOAD_SECONDS", 0.2 if "sleep" in script else 30.0)
    with pytest.raises(SlurmUnavailable, match=reason):
        subject._install(tmp_path)
