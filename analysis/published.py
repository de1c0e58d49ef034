"""Simulated against published: digitised curves and targets with their z-scores.

Reads survival data that others published, and holds the numbers of a run
against those of a trial. It decides nothing about whether they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from analysis.survival import fit_kaplan_meier
from sim.errors import ScenarioError

__all__ = ["compare_targets", "published_curves", "read_published"]

COLUMNS = ("trial", "arm", "endpoint", "time_months", "event")
MEMORY_TOLERANCE = 3.0
"""Factor on the tolerance of a published value that was recalled and not read again."""


class Target(Protocol):
    """A published result, as configured."""

    strategy: str
    measure: str
    value: float
    n: int
    tolerance: float
    standard_error: float | None
    source: str
    where: str
    checked: str


def read_published(file: str, trial: str) -> pd.DataFrame:
    """Rows of one trial in a file of published survival data.

    Parameters
    ----------
    file : str
        Name of a file that ships in ``configs/reference``, or a path.
    trial : str
        Name in the column `trial`.

    Returns
    -------
    DataFrame
        trial, arm, endpoint, time_months, event (and whatever else the file has).

    Raises
    ------
    ScenarioError
        If the file, a column or the trial is not there.
    """
    shipped = files("configs") / "reference" / file
    path = Path(str(shipped)) if shipped.is_file() else Path(file)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"reference.file: cannot read '{file}': {error}") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ScenarioError(f"reference.file: '{file}' has no column {', '.join(missing)}")
    rows = table[table["trial"] == trial]
    if rows.empty:
        known = ", ".join(sorted(table["trial"].unique()))
        raise ScenarioError(f"reference.trial: no trial '{trial}' in '{file}'. Known: {known}.")
    return rows


def published_curves(table: pd.DataFrame, arms: Mapping[str, str]) -> pd.DataFrame:
    """Kaplan-Meier curves of published arms, under the names of the strategies they match.

    Parameters
    ----------
    table : DataFrame
        As from `read_published`.
    arms : mapping
        Strategy to the name of its arm in the table.

    Returns
    -------
    DataFrame
        The columns of ``curves.csv``.

    Raises
    ------
    ScenarioError
        If an arm is not in the table.
    """
    curves = []
    for strategy, arm in arms.items():
        rows = table[table["arm"] == arm]
        if rows.empty:
            known = ", ".join(sorted(table["arm"].unique()))
            raise ScenarioError(f"reference.arms.{strategy}: no arm named '{arm}'. Known: {known}.")
        for endpoint, part in rows.groupby("endpoint"):
            time = part["time_months"].to_numpy(dtype=np.float64)
            event = part["event"].to_numpy() == 1
            curve = fit_kaplan_meier(time, event).table(np.array([time.max()]))
            curve.insert(0, "arm", strategy)
            curve.insert(1, "endpoint", str(endpoint).lower())
            curves.append(curve)
    return pd.concat(curves, ignore_index=True)


def compare_targets(targets: Sequence[Target], summary: pd.DataFrame) -> pd.DataFrame:
    """Hold simulated results against published ones.

    z is (simulated - published) over the root of the summed squares of the
    published standard error, the tolerance and the Monte Carlo error. Where none is given, the
    standard error of a proportion is binomial with the published n, and that
    of a median is that of an exponential sample of that size, ``m / (ln 2 sqrt(n))``.
    Values recalled and not read again get three times the tolerance.

    Parameters
    ----------
    targets : sequence of Target
        Published results. `measure` is `orr`, `bor_pd`, `median_<endpoint>` or
        `rate_<endpoint>_<months>`.
    summary : DataFrame
        As from `estimate_curves` and `estimate_responses`, one below the other.

    Returns
    -------
    DataFrame
        strategy, measure, published, simulated, standard_error, tolerance,
        mc_error, z, source, where, checked.

    Raises
    ------
    ScenarioError
        If a run did not estimate what a target names.
    """
    rows = []
    for i, target in enumerate(targets):
        endpoint, measure = _locate(target.measure)
        found = summary[
            (summary["arm"] == target.strategy)
            & (summary["endpoint"] == endpoint)
            & (summary["measure"] == measure)
        ]
        if found.empty:
            raise ScenarioError(
                f"targets[{i}].measure: the run has no {measure} of {endpoint} "
                f"for '{target.strategy}', got '{target.measure}'"
            )
        simulated = float(found["estimate"].iloc[0])
        mc_error = float(found["standard_error"].iloc[0])
        mc_error = mc_error if np.isfinite(mc_error) else 0.0
        error = target.standard_error
        if error is None:
            error = _standard_error(target)
        tolerance = target.tolerance * (MEMORY_TOLERANCE if target.checked == "memory" else 1.0)
        rows.append(
            {
                "strategy": target.strategy,
                "measure": target.measure,
                "published": target.value,
                "simulated": simulated,
                "standard_error": error,
                "tolerance": tolerance,
                "mc_error": mc_error,
                "z": (simulated - target.value)
                / float(np.sqrt(error**2 + tolerance**2 + mc_error**2)),
                "source": target.source,
                "where": target.where,
                "checked": target.checked,
            }
        )
    return pd.DataFrame(rows)


def _locate(measure: str) -> tuple[str, str]:
    """Endpoint and measure in the summary of a target's name."""
    if measure.startswith("median_"):
        return measure.removeprefix("median_"), "median"
    if measure.startswith("rate_"):
        endpoint, _, month = measure.removeprefix("rate_").rpartition("_")
        return endpoint, f"rate_{month}"
    return "response", measure


def _standard_error(target: Target) -> float:
    if target.measure.startswith("median_"):
        return float(target.value / (np.log(2.0) * np.sqrt(target.n)))
    return float(np.sqrt(target.value * (1.0 - target.value) / target.n))
