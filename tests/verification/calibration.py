"""Whether fits find a known truth, over many seeds, and how they do on real arms.

    python tests/verification/calibration.py [--seeds 20] [--data FOLDER]

Writes ``docs/validation/calibration.md``. Trials of 400 patients are simulated with the scans of
KEYNOTE-024 and fitted with their best-response rates; z is (estimate - truth) / standard error on
the scale of the parameter. Leaves with status 1 if a z of an identified number is not of mean 0
and standard deviation 1 within chance. FOLDER holds survival data with the columns of
``configs/reference/km_ici_nsclc_kmdata.csv``; arms of trials with a scan grid here are fitted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import configs
from analysis.calibration import PublishedValue, calibrate, calibration_rows, profile_parameters
from analysis.judge import judge
from analysis.survival_data import read_survival_data
from sim import simulate_cohort
from sim.assessment import PD, PR
from sim.calibrate_command import KINDS, _parameters, _parser, _start
from sim.command import register_schema
from sim.config import check_run, read_config
from sim.parameter import Parameter, Template
from sim.schema import RunConfig
from sim.sweep.definition import composed

PATIENTS, FOLLOW_UP, SEED = 400, 30.0, 20260901
FALSE_ALARM = 1e-3
PARAMETERS = (
    ("primary", "population.strata.all.primary", "logit", 0.4, 0.8),
    ("responding", "population.strata.all.responding", "logit", 0.45, 0.8),
    ("tumour_death", "course.tumour_death_hazard", "log", 0.03, 0.5),
    ("acquired_scale", "population.acquired.scale", "log", 12.0, 0.4),
)
ARMS = (
    ("KEYNOTE024", "pembrolizumab", "ici", "first", "high", "keynote024", 24.15, 0.0),
    ("KEYNOTE024", "platinum_chemo", "platinum", "first", "high", "keynote024", np.inf, 0.44),
    ("CHECKMATE017", "nivolumab", "ici", "later", "all", "checkmate017", np.inf, 0.0),
    ("CHECKMATE017", "docetaxel", "docetaxel", "later", "all", "checkmate017", np.inf, 0.0),
)
"""Trial, arm, what was given, line, PD-L1, scans, planned stop, crossover (KEYNOTE-024: 66 of 151)."""


def template() -> Template:
    register_schema(RunConfig)
    names = ["scenario=calibration", "strategy=[calibration_ici]", "assessment=keynote024"]
    whole = read_config(composed(names))
    return Template(whole, tuple(Parameter(*row) for row in PARAMETERS))


def z_scores(fitted: Template, seed: int) -> np.ndarray:
    """Of one simulated trial, on the scales of the parameters."""
    # The truth is drawn from the priors: only then is z of mean 0 and sd 1 with priors in the fit.
    drawn = np.random.default_rng(seed).standard_normal(len(fitted.parameters))
    free = np.array(
        [p.free(p.mean) + p.sd * x for p, x in zip(fitted.parameters, drawn, strict=True)]
    )
    truth = [p.value(x) for p, x in zip(fitted.parameters, free, strict=True)]
    scenario = fitted.scenario(truth)
    cohort = simulate_cohort(scenario, n_patients=PATIENTS, seed=seed, follow_up=FOLLOW_UP)
    seen = cohort.observed
    curves = {
        "pfs": (seen.pfs_time[0, 0], seen.pfs_event[0, 0]),
        "os": (seen.os_time[0, 0], seen.os_event[0, 0]),
    }
    best = seen.best_response[0, 0]
    shares = {"orr": float(np.mean(best <= PR)), "bor_pd": float(np.mean(best == PD))}
    published = [
        PublishedValue(name, share, float(np.sqrt(share * (1.0 - share) / PATIENTS)))
        for name, share in shares.items()
    ]
    rows = calibration_rows(curves, scenario.assessment)
    found = calibrate(fitted.scenario, "calibration_ici", fitted.parameters, rows, published)
    return (found.fit.x - free) / np.sqrt(np.diag(found.fit.covariance))


def recovery(seeds: int) -> tuple[list[str], bool]:
    fitted = template()
    scores = np.array([z_scores(fitted, SEED + i) for i in range(seeds)])
    lines = ["| number | prior | mean z | sd of z | largest |", "| --- | --- | --- | --- | --- |"]
    good = True
    sds = scores.std(axis=0, ddof=1)
    low, high = np.sqrt(
        stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], seeds - 1) / (seeds - 1)
    )
    bound = stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(seeds)
    for p, z, sd in zip(fitted.parameters, scores.T, sds, strict=True):
        lines.append(
            f"| {p.name} | {p.mean:g} | {z.mean():+.2f} | {sd:.2f} | {np.abs(z).max():.2f} |"
        )
        good &= bool(abs(z.mean()) < bound and low < sd < high)
    lines += ["", f"Chance allows a mean of +-{bound:.2f} and an sd of {low:.2f} to {high:.2f} "
              f"(p = {FALSE_ALARM:g}). PFS, OS and responses are of the same patients and count as independent, for which the sd should be somewhat above 1."]  # fmt: skip
    return lines, good


def real_arms(folder: Path) -> list[str]:
    lines = [
        "| arm | endpoint | ours | best reference | AIC | AIC of it | primary (SE) | identified | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial, arm, kind, line, pdl1, scans, stop, crossover in ARMS:
        file = next((f for f in sorted(folder.glob("*.csv")) if _holds(f, trial, arm)), None)
        if file is None:
            continue
        asked = _parser().parse_args(
            [str(file), "--kind", kind, "--line", line, "--pdl1", pdl1, "--scans", scans,
             "--stop", str(stop), "--crossover", str(crossover)]
        )  # fmt: skip
        began = time.perf_counter()
        data = read_survival_data(file, arm=arm, trial=trial)
        start = _start(asked)
        fitted = Template(start, _parameters(asked))
        curves = {name: (one.time, one.event) for name, one in data.endpoints.items()}
        rows = calibration_rows(curves, check_run(start).scenario.assessment)
        found = calibrate(fitted.scenario, KINDS[kind], fitted.parameters, rows)
        judged = judge(found, curves, profile_parameters(found), [])
        took = time.perf_counter() - began
        shares = [i for i, p in enumerate(found.parameters) if p.name in ("primary", "refractory")]
        share = f"{found.values[shares[0]]:.2f} ({found.standard_errors[shares[0]]:.2f})"
        known = sum(not why for why in judged.unidentified)
        for fits in judged.endpoints:
            ours, best = fits.fits[0], fits.best_reference
            lines.append(
                f"| {trial} {arm} | {fits.endpoint} | {ours.mean_difference:.3f} | "
                f"{best.name} {best.mean_difference:.3f} | {ours.aic:.1f} | {best.aic:.1f} | "
                f"{share} | {known} of {len(judged.unidentified)} | {took:.0f} |"
            )
        print(lines[-1], flush=True)
    return lines


def _holds(file: Path, trial: str, arm: str) -> bool:
    table = pd.read_csv(file)
    if not {"trial", "arm"} <= set(table.columns):
        return False
    return bool(((table["trial"] == trial) & (table["arm"] == arm)).any())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data", type=Path, default=Path(configs.__file__).parent / "reference")
    asked = parser.parse_args()
    table, good = recovery(asked.seeds)
    print("\n".join(table), flush=True)
    arms = real_arms(asked.data)
    lines = [
        "# Calibration",
        "",
        f"`python tests/verification/calibration.py`: {asked.seeds} simulated trials of {PATIENTS} "
        f"patients followed for {FOLLOW_UP:g} months, scans every 9 weeks, fitted to PFS, OS, `orr` "
        "and `bor_pd`; each truth is drawn from the priors. z is (estimate - truth) / standard error.",
        "",
        *table,
        "",
        "Digitised arms, fitted as `resistime-calibrate` does without targets. Differences from "
        "Kaplan-Meier are means over the horizon; the best reference is that of the least AIC.",
        "",
        *arms,
    ]
    place = Path(__file__).parents[2] / "docs" / "validation" / "calibration.md"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
