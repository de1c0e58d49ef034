"""Folders of sweeps for the tests of their figures: plausible tables, and none simulated."""

import itertools
import json

import numpy as np
import pandas as pd
from scipy.special import ndtr

AGAINST = "logrank"
METHODS = ("logrank", "fleming_harrington(0,0.5)", "rmst_difference(24)")
FACETS = ["cut", "arm", "endpoint", "method"]
LABELS = {
    "anti_pd1": "anti-PD-1",
    "experimental": "anti-PD-1 + anti-TIGIT",
    "triple": "anti-PD-1 + anti-TIGIT + chemotherapy until progression",
}
AXES = {
    "trial.n_patients": "patients",
    "agents.anti_tigit.onset": "months until anti-TIGIT acts",
    "agents.anti_tigit.durability": "durability of anti-TIGIT",
    "assessment": "scans",
    "trial.arms": "arms",
    "trial.stratified": "stratified allocation",
    "trial.cuts.final.events": "",
}


def product(axes):
    """Every combination of values, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def one_at_a_time(base, axes):
    """The base, and cells that differ from it in one parameter."""
    cells = [dict(base)]
    for name, values in axes.items():
        cells += [{**base, name: value} for value in values if value != base[name]]
    return cells


def effect(cell, method):
    """Mean z of a test in a cell, by what its swept parameters are."""
    size = float(cell.get("trial.n_patients") or cell.get("trial.cuts.final.events") or 400)
    onset = float(cell.get("agents.anti_tigit.onset") or 0.0)
    gain = 0.22 - 0.008 * onset + 0.08 * float(cell.get("agents.anti_tigit.durability") or 0.0)
    late = {"logrank": 1.0, "cox": 0.99}.get(method, 0.8 + 0.03 * onset)
    blur = 0.9 if cell.get("assessment") in ("every_12_weeks", "sparse") else 1.0
    return gain * late * blur * np.sqrt(size) / 2.0 * 1.6


def leave_sweep(
    place, cells, *, methods=METHODS, cuts=("interim", "final"), endpoints=("pfs", "os"),
    arms=("experimental",), n=1000, failed=(), nan=(), cohort=False, figures=(), seed=4,
    missing=(), labels=AXES, question="When does a weighted test need fewer patients?", trial=True,
):  # fmt: skip
    """Write the tables of a sweep; returns the folder."""
    rng = np.random.default_rng(seed)
    paths = list(cells[0])
    rows, pairs, curves = [], [], []
    for k, cell in enumerate(cells):
        head = {"cell": k, **cell}
        if k in missing:
            rows.append({**head, **dict.fromkeys((*FACETS, "measure"), ""), "status": "missing"})
            continue
        if k in failed:
            nothing = dict.fromkeys((*FACETS, "measure"), "")
            error = "trial.n_patients: too few"
            rows.append({**head, **nothing, "status": "failed", "error": error})
            continue
        head["status"] = "done"
        for i, cut in enumerate(cuts if trial else ()):
            size = float(cell.get("trial.n_patients") or 400)
            share = 0.6 if i < len(cuts) - 1 else 0.9
            own = {"cut": cut, "arm": "", "endpoint": "", "method": "", "n_replicates": n}
            rows.append({**head, **own, "measure": "date", "estimate": 20.0 + 8 * i + size / 100,
                         "mc_error": 0.05})  # fmt: skip
            for j, endpoint in enumerate(endpoints):
                own["endpoint"] = endpoint
                rows.append({**head, **own, "measure": "events", "mc_error": 0.2,
                             "estimate": size * (share - 0.2 * j)})  # fmt: skip
                for arm, method in itertools.product(arms, methods):
                    z = effect(cell, method) * np.sqrt(share) * (0.9 if j else 1.0)
                    z *= 1.0 + 0.15 * arms.index(arm)
                    power = rng.binomial(n, ndtr(z - 1.96)) / n
                    if (k, method) in nan:
                        power = np.nan
                    own |= {"arm": arm, "method": method}
                    error = np.sqrt(power * (1.0 - power) / n)
                    rows.append({**head, **own, "measure": "power", "estimate": power,
                                 "mc_error": error})  # fmt: skip
                    scale = 4.0 if method.startswith("rmst") else -0.3
                    rows.append({**head, **own, "measure": "mean_estimate",
                                 "estimate": scale * (1 + 0.02 * rng.normal()),
                                 "mc_error": abs(scale) * 0.01})  # fmt: skip
                    if method != AGAINST:
                        first = next(
                            row["estimate"] for row in reversed(rows)
                            if row["measure"] == "power" and row["method"] == AGAINST
                            and row["arm"] == arm
                        )  # fmt: skip
                        difference, apart = power - first, 0.15
                        pairs.append({
                            **{name: head[name] for name in ("cell", *paths)},
                            "versus": "method", **{name: own[name] for name in FACETS},
                            "other": AGAINST, "difference": difference,
                            "mc_error": np.sqrt(apart / n), "mc_error_unpaired": np.sqrt(0.42 / n),
                            "disagree": apart, "n_replicates": n,
                        })  # fmt: skip
                own |= {"arm": "", "method": ""}
        if cohort:
            for arm in ("anti_pd1", *arms):
                # Half of the patients are past the endpoint after `median` months.
                better = 0.0 if arm == "anti_pd1" else 2.0 * (1 + arms.index(arm))
                for j, endpoint in enumerate(endpoints):
                    median = 6.0 + better + 10.0 * j - 0.2 * float(
                        cell.get("agents.anti_tigit.onset") or 0.0
                    )  # fmt: skip
                    rows.append({**head, "cut": "", "arm": arm, "endpoint": endpoint,
                                 "method": "cohort", "measure": "median", "estimate": median,
                                 "mc_error": 0.12, "n_patients": 20_000})  # fmt: skip
                    time = np.unique(np.append(np.linspace(0.0, 48.0, 97), 60.0))
                    survival = 0.5 ** (time / median)
                    curves.append(
                        pd.DataFrame({
                            "time": time, "survival": survival,
                            "lower": survival - 0.01, "upper": survival + 0.01,
                            "at_risk": np.round(20_000 * survival).astype(int),
                        }).assign(cell=k, arm=arm, endpoint=endpoint, **cell)
                    )  # fmt: skip
    table = pd.DataFrame(rows).reindex(
        columns=["cell", *paths, "status", *FACETS, "measure", "estimate", "mc_error",
                 "n_replicates", "n_patients", "error"]
    )  # fmt: skip
    table = table.astype({"n_replicates": "Int64", "n_patients": "Int64"})
    table.to_parquet(place / "sweep.parquet", index=False)
    if pairs:
        pd.DataFrame(pairs).to_parquet(place / "sweep_paired.parquet", index=False)
    if curves:
        pd.concat(curves, ignore_index=True).to_parquet(place / "sweep_curves.parquet")
    about = {
        "name": "late_benefit", "question": question, "notice": "", "labels": LABELS,
        "axes": [
            {"path": path, "label": labels.get(path, ""),
             "values": list(dict.fromkeys(str(cell[path]) for cell in cells))}
            for path in paths
        ],
        "figures": list(figures), "reference": "anti_pd1", "seed": 3, "alpha": 0.025,
        "n_replicates": n if trial else None, "n_patients": 20_000 if cohort else None,
        "version": "0.1.0",
        "design": "anti-PD-1 + anti-TIGIT against anti-PD-1, one-sided level 0.025" if trial
        else "",
        "n_cells": len(cells), "n_failed": len(failed),
        "n_missing": len(missing), "citations_withdrawn": False,
    }  # fmt: skip
    (place / "sweep.json").write_text(json.dumps(about))
    return place
