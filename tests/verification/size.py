"""Size of every comparison where arms do not differ: ``python tests/verification/size.py``.

Writes ``docs/validation/size.md``: the share of 100,000 trials that reject at one-sided 0.025, in
trials with exact times and of the whole model, with scans, ties, strata and rates. A size is
nominal where it lies within 3.5 Monte Carlo errors; the others are listed in ``FINITE`` with the
reason, and must still lie within the range given there, or the script leaves with status 1.
Takes some minutes on two cores. An argument is the number of replicates.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module

from sim.command import register_schema
from sim.conduct import conduct_trials
from sim.config import read_run
from sim.provenance import software

ALPHA, SEED, REPLICATES = 0.025, 20260601, 100_000
METHODS = (
    "logrank", "fleming_harrington(0,0.5)", "fleming_harrington(0,1)", "fleming_harrington(1,0)",
    "fleming_harrington(1,1)", "modestly_weighted(6)", "modestly_weighted(6,survival)",
    "early_zero(4)", "maxcombo", "cox", "average_hazard_ratio(12)", "rmst_difference(12)",
    "rmst_ratio(12)", "time_lost_ratio(12)", "milestone_difference(12)",
    "milestone_difference(12,log-log)", "median_difference",
)  # fmt: skip
STRATIFIED = (
    "stratified_logrank", "stratified_fleming_harrington(0,0.5)", "stratified_cox",
)  # fmt: skip

WHOLE = [
    "trial=first_line_phase3", "strategy=[anti_pd1,anti_pd1_cd73]",
    "trial.arms=[anti_pd1,anti_pd1_cd73]", "trial.n_patients=400",
    "agents.anti_cd73.reversal.adenosine_suppression=0.0",
    "agents.anti_cd73.hazard_ratio.adenosine_suppression=1.0",
    "~trial.cuts.interim", "trial.cuts.final.endpoint=pfs", "trial.cuts.final.events=280",
]  # fmt: skip

DESIGNS = {
    "exact times, 500 patients, 350 events": (
        METHODS,
        ["scenario=delayed_effect", "agents.delayed.hazard_ratio.escape=1.0"],
    ),
    "exact times, 120 patients, 84 events": (
        METHODS,
        [
            "scenario=delayed_effect", "agents.delayed.hazard_ratio.escape=1.0",
            "trial.n_patients=120", "trial.cuts.final.events=84",
        ],
    ),
    "whole model, 400 patients in three strata, 280 PFS events": (
        METHODS + STRATIFIED,
        [
            *WHOLE,
            "trial.endpoints=[pfs,os,orr,durable_clinical_benefit,acquired_resistance,pfs2]",
        ],
    ),
    "the same, allocated without strata": (
        ("logrank", "fleming_harrington(0,0.5)", "modestly_weighted(6)", "cox"),
        [
            *WHOLE, "trial.stratified=false",
            "trial.endpoints=[pfs,orr,durable_clinical_benefit]",
        ],
    ),
}  # fmt: skip


SMALL, STRATA = "exact times, 120", "whole model"
BALANCED = (
    "allocation within strata makes arms more alike than a test without strata assumes; see the "
    "design without"
)
GREENWOOD = "Greenwood's variance is too small in a small sample or where few are at risk"
DENSITY = (
    "not a test that holds its level: the density is read off the curve, which scans make uneven, "
    "and where a median is not reached nothing is rejected"
)
WEIGHED = "with 84 events, a few late ones carry much of the weight"
FEW = "few events; the log scale of a ratio"
JUDGED = (
    "the cut comes after a fixed number of progressions and before all can be judged, who is judged "
    "hanging on the outcome; nominal where the cut is at month 60"
)

FINITE = (
    (SMALL, "fleming_harrington", 0.0250, 0.0290, WEIGHED),
    (SMALL, "rmst_difference", 0.0250, 0.0300, GREENWOOD),
    (SMALL, "milestone_difference(12)", 0.0250, 0.0300, GREENWOOD),
    (SMALL, "median_difference", 0.0, 0.06, DENSITY),
    (STRATA, "fleming_harrington", 0.0215, 0.0250, BALANCED),
    (STRATA, "modestly_weighted", 0.0215, 0.0250, BALANCED),
    (STRATA, "logrank", 0.0215, 0.0250, BALANCED),
    (STRATA, "cox", 0.0205, 0.0250, BALANCED),
    (STRATA, "maxcombo", 0.0215, 0.0250, BALANCED),
    (STRATA, "early_zero", 0.0215, 0.0250, BALANCED),
    (STRATA, "response_rate_difference", 0.0180, 0.0250, BALANCED),
    ("the same", "response_rate_difference", 0.0215, 0.0250, JUDGED),
    (STRATA, "time_lost_ratio", 0.0205, 0.0250, FEW),
    (STRATA, "rmst_difference", 0.0250, 0.0290, GREENWOOD),
    (STRATA, "milestone_difference(12)", 0.0250, 0.0300, GREENWOOD),
    (STRATA, "stratified_cox", 0.0205, 0.0250, FEW),
    (STRATA, "median_difference", 0.0, 0.06, DENSITY),
)
"""Sizes that need not be nominal: design, method, least and largest that is accepted, and why."""


def plan(overrides, methods):
    register_schema()
    chosen = [f"trial.comparisons={list(methods)}", f"seed={SEED}"]
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=[*overrides, *chosen])).trial


def measure(replicates):
    """Design, endpoint, method, size, its error and the standard errors by which it is off."""
    nominal = np.sqrt(ALPHA * (1.0 - ALPHA) / replicates)
    for name, (methods, overrides) in DESIGNS.items():
        begin = time.perf_counter()
        done = conduct_trials(plan(overrides, methods), replicates, n_workers=2)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
        for (_, endpoint, method), found in done.cuts["final"].methods.items():
            size = float(np.mean(found.p_value <= ALPHA))
            other = float(np.mean(found.p_value >= 1.0 - ALPHA))
            yield name, endpoint, method, size, other, (size - ALPHA) / nominal


def verdict(design, method, size, off):
    """What is said of a size, and whether it is accepted."""
    if abs(off) <= 3.5:
        return "nominal", True
    for start, name, low, high, reason in FINITE:
        if design.startswith(start) and method.startswith(name) and low <= size <= high:
            return reason, True
    return "not explained", False


def main() -> int:
    replicates = int(sys.argv[1]) if len(sys.argv) > 1 else REPLICATES
    rows = list(measure(replicates))
    error = np.sqrt(ALPHA * (1.0 - ALPHA) / replicates)
    versions = software()
    lines = [
        "# Size of the comparisons where arms do not differ",
        "",
        f"`python tests/verification/size.py`: {replicates:,} trials of each design, seed {SEED}, "
        f"one-sided level {ALPHA}. The Monte Carlo error of a size of {ALPHA} is {error:.5f}; a "
        f"size is nominal within 3.5 of them ({3.5 * error:.4f}). The last but one column is the "
        "share that would have rejected in the other direction.",
    ]
    good = True
    for name in DESIGNS:
        lines += ["", f"## {name[0].upper()}{name[1:]}", ""]
        lines += ["| endpoint | method | size | errors off | other side | |", "| --- " * 6 + "|"]
        for design, endpoint, method, size, other, off in rows:
            if design == name:
                said, fine = verdict(design, method, size, off)
                good &= fine
                lines.append(
                    f"| {endpoint} | {method} | {size:.4f} | {off:+.1f} | {other:.4f} | {said} |"
                )
                if not fine:
                    print("REFUSED", lines[-1], flush=True)
    lines += ["", f"NumPy {versions['numpy']}, SciPy {versions['scipy']}."]
    place = Path(__file__).parents[2] / "docs" / "validation" / "size.md"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
