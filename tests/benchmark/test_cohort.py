"""How fast a cohort is: ``pytest tests/benchmark/test_cohort.py``.

Goals, on two cores of a small server: 20,000 patients under ten strategies of the whole model in at
most 2 s and 1 GB after import; the whole default command in at most 15 s; import in under 0.3 s.
"""

import resource
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module

from sim import simulate_cohort
from sim.command import register_schema
from sim.config import read_run


@pytest.fixture(scope="module")
def run():
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run"))


def test_whole_model_20000_patients_all_strategies(benchmark, run):
    assert len(run.scenario.strategies) >= 10
    cohort = benchmark.pedantic(
        lambda: simulate_cohort(run.scenario, n_patients=20_000, seed=1), rounds=5, warmup_rounds=1
    )
    assert cohort.death_time.shape[2] == 20_000
    # Peak resident memory of this process, libraries and all, in kilobytes on Linux.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000


def test_default_command(benchmark, tmp_path):
    command = [sys.executable, "-m", "sim", f"hydra.run.dir={tmp_path}"]
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True), rounds=2, iterations=1
    )


def test_import(benchmark):
    command = [sys.executable, "-c", "from sim import simulate_cohort"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True), rounds=5, warmup_rounds=1)
