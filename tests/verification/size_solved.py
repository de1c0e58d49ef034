"""How often the interval of a solved size holds the truth: ``python tests/verification/size_solved.py``.

Writes ``docs/validation/size_solved.md``. For each design the size is solved with 60 seeds and once
more, with another seed and a quarter of the width, for the truth. The coverage of a 95 % interval
must be within 3 of its Monte Carlo errors of 0.95, the errors of the 60 must have standard
deviation 1 in units of the standard error that the interval states, and the power at the answers in
trials of their own must be the target, or the script leaves with status 1. Takes some minutes. An
argument is the number of seeds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module

from sim.command import register_schema
from sim.config import read_config
from sim.provenance import software
from sim.schema import SizeRunConfig
from sim.size import ask_size, conductor, confirm_size, solve_size

SEEDS, WIDTH, TRUTH_SEED, NARROWER = 60, 0.03, 90_001, 4.0
STRONG = ["scenario=delayed_effect", "agents.delayed.hazard_ratio.escape=0.4"]

DESIGNS = {
    "patients, events in proportion, log-rank, power 0.9": [*STRONG],
    "patients, read at month 24, Fleming-Harrington (0, 1), power 0.8": [
        *STRONG, "target_power=0.8", "trial.comparisons=['fleming_harrington(0,1)']",
        "trial.cuts.final={endpoint: pfs, events: null, date: 24}",
    ],
    "events among 300 patients, hazard ratio 0.6 throughout, log-rank, power 0.9": [
        "scenario=delayed_effect", "agents.delayed.onset=0", "trial.n_patients=300",
        "trial.cuts.final.events=200", "size.vary=trial.cuts.final.events",
    ],
    "month of the cut, 200 patients, log-rank, power 0.8": [
        *STRONG, "target_power=0.8", "trial.n_patients=200",
        "trial.cuts.final={endpoint: pfs, events: null, date: 24}",
        "size.vary=trial.cuts.final.date",
    ],
}  # fmt: skip


def solve(overrides, seed, width):
    register_schema(SizeRunConfig)
    typed = [*overrides, f"seed={seed}", f"size.width={width}", "n_workers=1", "size.confirm=2000"]
    with initialize_config_module("configs", version_base="1.3"):
        whole = read_config(compose("run", overrides=typed))
    asked = ask_size(whole, typed)
    with conductor(asked) as conduct:
        found = solve_size(asked, conduct)
        return asked, found, confirm_size(asked, found.size, conduct)


def measure(overrides, seeds):
    """Coverage, mean and spread of the errors in their units, power at the answers, and more."""
    _, truth, _ = solve(overrides, TRUTH_SEED, WIDTH / NARROWER)
    held, errors, excess, trials = [], [], [], []
    for seed in range(1, seeds + 1):
        asked, found, confirmed = solve(overrides, seed, WIDTH)
        held.append(found.lower <= truth.crossing <= found.upper)
        errors.append((found.crossing - truth.crossing) / ((found.upper - found.lower) / 3.92))
        excess.append(confirmed.power - found.power)
        trials.append(int(found.tried["n_replicates"].sum()))
        target = asked.whole.target_power
    noise = np.sqrt(target * (1.0 - target) / 2000 / seeds)
    return truth, np.mean(held), np.array(errors), np.mean(excess) / noise, np.median(trials)


def main() -> int:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    spread = 3.0 / np.sqrt(2.0 * seeds)
    allowed = 3.0 * np.sqrt(0.95 * 0.05 / seeds)
    rows, good = [], True
    for name, overrides in DESIGNS.items():
        begin = time.perf_counter()
        truth, coverage, errors, excess, trials = measure(overrides, seeds)
        deviation = float(np.std(errors, ddof=1))
        fine = abs(coverage - 0.95) <= allowed and abs(np.log(deviation)) <= spread
        fine &= abs(float(np.mean(errors))) <= 3.0 / np.sqrt(seeds) + 0.1 and abs(excess) <= 3.5
        good &= bool(fine)
        rows.append(
            f"| {name} | {truth.crossing:.2f} ({(truth.upper - truth.lower) / 3.92:.2f}) | "
            f"{coverage:.2f} | {np.mean(errors):+.2f} | {deviation:.2f} | {excess:+.1f} | "
            f"{trials:,.0f} |"
        )
        print(
            f"{rows[-1]} {time.perf_counter() - begin:.0f} s{'' if fine else ' REFUSED'}",
            flush=True,
        )
    versions = software()
    lines = [
        "# Sizes that are solved, and their intervals",
        "",
        f"`python tests/verification/size_solved.py`: each design solved with {seeds} seeds to a 95 % "
        f"interval of {100 * WIDTH:g} % of the size, and once with another seed to "
        f"{100 * WIDTH / NARROWER:g} %, which is taken for the truth (its standard error in brackets). Coverage "
        f"of 0.95 is seen within {allowed:.3f}. Errors are in units of the standard error that "
        "each interval states: their mean should be 0, their spread 1. The last column but one is the "
        "power at the answers in 2,000 other trials each, less that of the search, in Monte Carlo errors.",
        "",
        "| design | truth | coverage | mean error | spread | power in other trials | trials, median |",
        "| --- " * 7 + "|",
        *rows,
        "",
        f"NumPy {versions['numpy']}, SciPy {versions['scipy']}.",
    ]
    place = Path(__file__).parents[2] / "docs" / "validation" / "size_solved.md"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
