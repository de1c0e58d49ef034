"""How fast trials are, through the product's own path: ``pytest tests/benchmark/test_trial.py``.

The delayed-effect design (500 patients, 350 events) and the whole resistance model (2 x 250
patients, scans, eight mechanisms, log-rank and Cox on both endpoints). A round conducts 40 blocks
of 50 trials on one core; divide the time by 2,000 for one trial. The floor is what the parts alone
cost in NumPy: the draws, one partition, one sort, one running sum and eight passes.
"""

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from sim.command import register_schema
from sim.conduct import conduct_trials
from sim.config import read_run

TRIALS = 2000


def plan(*overrides):
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides))).trial


def floor():
    rng = np.random.Generator(np.random.SFC64(1))
    for _ in range(TRIALS // 50):
        event, dropout = (rng.standard_exponential((500, 50)).T for _ in range(2))
        entry = rng.random((500, 50)).T
        time = np.minimum(event, dropout)
        date = (time + entry) * 2.0**20
        tick = date.astype(np.uint32)
        cut = np.partition(tick, 349, axis=1)[:, 349, None]
        key = np.sort(np.minimum(tick, cut), axis=1)
        arm = (key & 1).astype(np.float64)
        at_risk = 500.0 - np.cumsum(key & 1, axis=1, dtype=np.int32)
        share = at_risk * (1.0 / np.arange(500.0, 0.0, -1.0))
        np.einsum("ij,ij->i", share, arm)
        np.einsum("ij,ij->i", share, 1.0 - share)


def test_floor_of_the_parts(benchmark):
    benchmark.pedantic(floor, rounds=7, warmup_rounds=1)


@pytest.mark.parametrize(
    "comparison",
    ["logrank", "fleming_harrington(0,0.5)", "cox", "rmst_difference(24)", "maxcombo"],
)
def test_delayed_effect(benchmark, comparison):
    trial = plan("scenario=delayed_effect", f"trial.comparisons=['{comparison}']")
    benchmark.pedantic(lambda: conduct_trials(trial, TRIALS), rounds=7, warmup_rounds=1)


def test_whole_model(benchmark):
    trial = plan(
        "trial=first_line_phase3", "trial.n_patients=500", "trial.stratified=false",
        "trial.comparisons=[logrank,cox]", "~trial.cuts.interim", "trial.cuts.final.events=350",
    )  # fmt: skip
    benchmark.pedantic(lambda: conduct_trials(trial, TRIALS // 10), rounds=3, warmup_rounds=1)
