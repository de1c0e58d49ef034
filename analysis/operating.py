"""Operating characteristics: what the replicates of a trial say about its design.

Takes the results of comparisons, one number a replicate, and gives power, mean
estimates, standard errors, events and durations, each with its Monte Carlo
standard error.

References
----------
.. [1] Morris, White & Crowther (2019), Statistics in Medicine 38:2074-2102, table 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["CutResults", "MethodResults", "comparison_table", "paired_power", "summarise"]

FloatArray = NDArray[np.float64]

COLUMNS = (
    "cut", "arm", "endpoint", "method", "measure", "estimate", "mc_error", "n_replicates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MethodResults:
    """One comparison in every replicate, each (R,)."""

    estimate: FloatArray
    standard_error: FloatArray
    z: FloatArray
    p_value: FloatArray


@dataclass(frozen=True, slots=True)
class CutResults:
    """One data cut in every replicate."""

    date: FloatArray
    """Months since the start of accrual, (R,)."""

    target_reached: NDArray[np.bool_]
    """(R,)."""

    enrolled: FloatArray
    """Patients who had entered, (R,)."""

    events: Mapping[str, FloatArray]
    """Events of each endpoint in all arms, (R,)."""

    methods: Mapping[tuple[str, str, str], MethodResults]
    """By arm, endpoint and method."""


def summarise(cuts: Mapping[str, CutResults], alpha: float) -> pd.DataFrame:
    """Every performance measure of a trial with its Monte Carlo error.

    Parameters
    ----------
    cuts : mapping
        Results by the name of the cut.
    alpha : float
        One-sided level of every comparison.

    Returns
    -------
    DataFrame
        Columns cut, arm, endpoint, method, measure, estimate, mc_error,
        n_replicates. Measures of a method: `power` (share of p-values at most
        alpha; the type I error where the arms do not differ), `mean_estimate`,
        `empirical_standard_error`, `mean_standard_error`. Measures of a cut:
        `date`, `enrolled`, `target_reached`, and `events` of each endpoint.
        Replicates without a finite estimate are left out of the means and
        counted in `not_estimable`.
    """
    rows: list[tuple[object, ...]] = []
    for cut, results in cuts.items():
        n = len(results.date)
        rows += [
            (cut, "", "", "", name, *_mean(values), n)
            for name, values in (
                ("date", results.date),
                ("enrolled", results.enrolled),
                ("target_reached", results.target_reached.astype(np.float64)),
            )
        ]
        rows += [
            (cut, "", endpoint, "", "events", *_mean(values), n)
            for endpoint, values in results.events.items()
        ]
        for (arm, endpoint, method), found in results.methods.items():
            rows += [
                (cut, arm, endpoint, method, *measure, n)
                for measure in _method_measures(found, alpha)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def comparison_table(cuts: Mapping[str, CutResults]) -> pd.DataFrame:
    """One row for each cut, arm, endpoint, method and replicate.

    Returns
    -------
    DataFrame
        Columns cut, arm, endpoint, method, replicate, estimate,
        standard_error, z, p_value, date, events, target_reached.
    """
    parts = []
    for cut, results in cuts.items():
        for (arm, endpoint, method), found in results.methods.items():
            parts.append(
                pd.DataFrame(
                    {
                        "cut": cut,
                        "arm": arm,
                        "endpoint": endpoint,
                        "method": method,
                        "replicate": np.arange(len(found.z)),
                        "estimate": found.estimate,
                        "standard_error": found.standard_error,
                        "z": found.z,
                        "p_value": found.p_value,
                        "date": results.date,
                        "events": results.events[endpoint],
                        "target_reached": results.target_reached,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def _method_measures(found: MethodResults, alpha: float) -> Sequence[tuple[str, float, float]]:
    rejected = (found.p_value <= alpha).astype(np.float64)
    usable = np.isfinite(found.estimate) & np.isfinite(found.standard_error)
    estimate, error = found.estimate[usable], found.standard_error[usable]
    n = len(estimate)
    measures = [("power", *_proportion(rejected))]
    if n > 1:
        spread = float(np.std(estimate, ddof=1))
        model = float(np.sqrt(np.mean(error**2)))
        # Morris et al.: the Monte Carlo error of the root mean square by the delta method.
        model_error = float(np.std(error**2, ddof=1) / (2.0 * model * np.sqrt(n))) if model else 0.0
        measures += [
            ("mean_estimate", float(np.mean(estimate)), spread / np.sqrt(n)),
            ("empirical_standard_error", spread, spread / np.sqrt(2.0 * (n - 1))),
            ("mean_standard_error", model, model_error),
        ]
    measures.append(("not_estimable", *_proportion((~usable).astype(np.float64))))
    return measures


def _proportion(values: FloatArray) -> tuple[float, float]:
    share = float(np.mean(values))
    return share, float(np.sqrt(share * (1.0 - share) / len(values)))


def _mean(values: FloatArray) -> tuple[float, float]:
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def paired_power(one: MethodResults, other: MethodResults, alpha: float) -> tuple[float, float]:
    """Difference of power between two methods in the same replicates, and its error.

    Because the replicates are the same, only those count in which the two
    disagree.

    Examples
    --------
    >>> a = MethodResults(*(np.array([0.01, 0.01, 0.5, 0.5]),) * 4)
    >>> b = MethodResults(*(np.array([0.01, 0.50, 0.5, 0.5]),) * 4)
    >>> paired_power(a, b, alpha=0.025)[0]
    0.25
    """
    difference = (one.p_value <= alpha) * 1.0 - (other.p_value <= alpha) * 1.0
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
