"""How fast trials are, through the product's own path: ``pytest tests/benchmark/test_trial.py``.

The delayed-effect design (500 patients, 350 events), a trial of two illness-death models (500
patients, PFS and OS) and the whole resistance model (2 x 250 patients, scans, eight mechanisms,
log-rank and Cox on both endpoints). A round conducts `TRIALS` trials on one core; divide the time
by that for one trial. The floor is what the parts alone cost in NumPy, in blocks of 50: 500
exponential and 1,000 uniform draws, one partition, one sort, one running sum, eight passes, two dot
products.

``python tests/benchmark/test_trial.py`` prints the ratio to the floor, best of five rounds in which
the two take turns.
"""

import time

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
    left = 1.0 / np.arange(500.0, 0.0, -1.0)
    for _ in range(TRIALS // 50):
        event = rng.standard_exponential((500, 50)).T
        dropout, entry = (rng.random((500, 50)).T for _ in range(2))
        date = (np.minimum(event, dropout) + entry) * 2.0**20
        tick = np.ascontiguousarray(date.astype(np.uint32))
        cut = np.partition(tick, 349, axis=1)[:, 349, None]
        key = np.sort(np.minimum(tick, cut), axis=1)
        arm = key & np.uint32(1)
        share = (500 - np.cumsum(arm, axis=1, dtype=np.uint32)) * left
        np.einsum("ij,ij->i", share, arm.astype(np.float64))
        np.einsum("ij,ij->i", share, 1.0 - share)


def test_floor_of_the_parts(benchmark):
    benchmark.pedantic(floor, rounds=7, warmup_rounds=1)


COMPARISONS = ("logrank", "fleming_harrington(0,0.5)", "cox", "rmst_difference(24)", "maxcombo")


def delayed_effect(comparison):
    return plan("scenario=delayed_effect", f"trial.comparisons=['{comparison}']")


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_delayed_effect(benchmark, comparison):
    trial = delayed_effect(comparison)
    benchmark.pedantic(lambda: conduct_trials(trial, TRIALS), rounds=7, warmup_rounds=1)


def test_illness_death(benchmark):
    trial = plan(
        "scenario=illness_death_trial", "trial.n_patients=500", "~trial.cuts.pfs",
        "trial.cuts.os.events=350",
    )  # fmt: skip
    benchmark.pedantic(lambda: conduct_trials(trial, TRIALS), rounds=5, warmup_rounds=1)


def test_whole_model(benchmark):
    trial = plan(
        "trial=first_line_phase3", "trial.n_patients=500", "trial.stratified=false",
        "trial.comparisons=[logrank,cox]", "~trial.cuts.interim", "trial.cuts.final.events=350",
    )  # fmt: skip
    benchmark.pedantic(lambda: conduct_trials(trial, TRIALS // 2), rounds=3, warmup_rounds=1)


def take_turns(comparison, rounds=6):
    """Microseconds a trial of the floor and of ours in each round, the first left out."""
    trial = delayed_effect(comparison)
    times = np.empty((rounds, 3))
    for row in times:
        row[0] = time.perf_counter()
        floor()
        row[1] = time.perf_counter()
        conduct_trials(trial, TRIALS)
        row[2] = time.perf_counter()
    return np.diff(times[1:], axis=1).T * (1e6 / TRIALS)


def main():
    for comparison in COMPARISONS:
        parts, ours = take_turns(comparison)
        ratio = (ours / parts).min()
        print(f"{comparison:26} {ours.min():5.1f} us, floor {parts.min():5.1f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
