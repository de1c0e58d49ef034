"""What a cohort shows: curves, rates, incidences, occupancy, labels and paired contrasts.

Takes a simulated cohort and makes the tables that a run leaves behind. It
simulates nothing and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.survival import FittedCurve, estimate_cumulative_incidence, fit_kaplan_meier
from sim.assessment import PD, PR, TICK
from sim.cohort import Cohort
from sim.definitions import LABELS, Definition, classify

__all__ = [
    "ENDPOINTS",
    "cross_definitions",
    "endpoint_times",
    "estimate_contrasts",
    "estimate_curves",
    "estimate_incidence",
    "estimate_occupancy",
    "estimate_responses",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Sample = tuple[FloatArray, BoolArray]

ENDPOINTS = ("pfs", "os", "duration_of_response", "acquired_resistance")
"""Endpoints for which a cohort has curves."""

STATES = (
    "durable_benefit", "response", "control", "undetected_resistance", "progressed", "dead",
)  # fmt: skip
CURVE_COLUMNS = [
    "arm", "endpoint", "time", "survival", "lower", "upper", "at_risk", "events", "censored",
]  # fmt: skip
LATENT = ("primary", "acquired", "none")


def endpoint_times(
    cohort: Cohort, endpoint: str, strategy: int, stratum: int | None = None
) -> Sample:
    """Time and event of one endpoint under one strategy, for the patients it is defined for.

    `pfs`, `os` and `duration_of_response` are as observed, and so is `pfs2`, second
    progression or death, censored where observation ends. `acquired_resistance`
    is latent: the time at which resistance arises, before any scan shows it, in
    patients who are not primary-resistant under the strategy, censored at death
    and at the end of follow-up.

    Parameters
    ----------
    cohort : Cohort
        Replicates are taken together.
    endpoint : str
        One of `ENDPOINTS`.
    strategy : int
        Index along S.
    stratum : int, optional
        Index of the only stratum whose patients count; None is all.

    Returns
    -------
    time, event : ndarray, shape (M,)
    """
    seen = cohort.observed
    member = cohort.stratum >= 0 if stratum is None else cohort.stratum == stratum

    def of(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(array[:, strategy][member])

    if endpoint == "pfs":
        return of(seen.pfs_time), of(seen.pfs_event)
    if endpoint == "os":
        return of(seen.os_time), of(seen.os_event)
    if endpoint == "duration_of_response":
        start = of(seen.response_time)
        responded = np.isfinite(start)
        length = of(seen.pfs_time)[responded] - start[responded]
        return np.maximum(length, TICK), of(seen.pfs_event)[responded]
    if endpoint == "pfs2":
        second, end = of(cohort.second_progression_time), of(seen.os_time)
        return np.minimum(second, end), (second <= end) | of(seen.os_event)
    if endpoint != "acquired_resistance":
        raise ValueError(f"endpoint must be one of {', '.join(ENDPOINTS)}, got '{endpoint}'")
    benefit = ~of(cohort.primary)
    resistance, end = of(cohort.resistance_time)[benefit], of(seen.os_time)[benefit]
    return np.minimum(resistance, end), resistance <= end


def estimate_curves(
    cohort: Cohort,
    endpoints: Sequence[str],
    rates: Sequence[float],
    ticks: FloatArray,
    progress: Callable[[Sequence[tuple[str, int]]], Iterator[tuple[str, int]]] = iter,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kaplan-Meier curves of every strategy and endpoint, and their medians and rates.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    endpoints : sequence of str
        Of `ENDPOINTS`.
    rates : sequence of float
        Months at which survival is reported.
    ticks : ndarray
        Months at which the table below a figure has a column.
    progress : callable, optional
        Wraps the work list, to show how far it has come.

    Returns
    -------
    curves : DataFrame
        arm, endpoint, time, survival, lower, upper, at_risk, events, censored.
    summary : DataFrame
        arm, endpoint, measure, estimate, lower, upper, standard_error, n.
        Endpoints for which a strategy has no patient are left out.
    """
    work = [(endpoint, s) for endpoint in endpoints for s in range(len(cohort.strategies))]
    curves, rows = [], []
    for endpoint, s in progress(work):
        time, event = endpoint_times(cohort, endpoint, s)
        if len(time) == 0:
            continue
        curve = fit_kaplan_meier(time, event)
        table = curve.table(ticks)
        table.insert(0, "arm", cohort.strategies[s])
        table.insert(1, "endpoint", endpoint)
        curves.append(table)
        rows += _curve_summary(curve, cohort.strategies[s], endpoint, rates)
    columns = ["arm", "endpoint", "measure", "estimate", "lower", "upper", "standard_error", "n"]
    every = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=CURVE_COLUMNS)
    return every, pd.DataFrame(rows, columns=columns)


def _curve_summary(
    curve: FittedCurve, arm: str, endpoint: str, rates: Sequence[float]
) -> list[dict[str, object]]:
    n = len(curve.ordered)
    median, lower, upper = curve.median
    rows: list[dict[str, object]] = [
        {
            "arm": arm, "endpoint": endpoint, "measure": "median", "estimate": median,
            "lower": lower, "upper": upper, "standard_error": (upper - lower) / 3.92
            if np.isfinite(upper) else np.nan, "n": n,
        }
    ]  # fmt: skip
    for month in rates:
        if month > curve.ordered[-1]:
            continue
        estimate, low, high = (float(x[0]) for x in curve.at(np.array([month])))
        rows.append(
            {
                "arm": arm, "endpoint": endpoint, "measure": f"rate_{month:g}",
                "estimate": estimate, "lower": low, "upper": high,
                "standard_error": (high - low) / 3.92, "n": n,
            }
        )  # fmt: skip
    return rows


def estimate_responses(cohort: Cohort) -> pd.DataFrame:
    """Objective response, best response of progression and primary resistance, in each strategy.

    Returns
    -------
    DataFrame
        arm, endpoint (`response` as observed, `latent` for the class), measure
        (`orr`, `bor_pd`, `primary_resistance`), estimate, lower, upper,
        standard_error (binomial), n.
    """
    best = cohort.observed.best_response
    shares = (
        ("response", "orr", best <= PR),
        ("response", "bor_pd", best == PD),
        ("latent", "primary_resistance", cohort.primary),
    )
    rows = []
    for s, arm in enumerate(cohort.strategies):
        for endpoint, measure, member in shares:
            n = member[:, s].size
            p = float(member[:, s].mean())
            error = float(np.sqrt(p * (1.0 - p) / n))
            rows.append(
                {
                    "arm": arm, "endpoint": endpoint, "measure": measure, "estimate": p,
                    "lower": max(p - 1.96 * error, 0.0), "upper": min(p + 1.96 * error, 1.0),
                    "standard_error": error, "n": n,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def estimate_incidence(cohort: Cohort, grid: FloatArray) -> pd.DataFrame:
    """Cumulative incidence of what ended progression-free survival, by latent cause.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    grid : ndarray
        Months at which to report.

    Returns
    -------
    DataFrame
        arm, cause, time, incidence, standard_error. Causes are
        `primary_resistance`, `acquired/<mechanism or agent>`, `false_progression`
        (a scan that looked like progression before there was resistance) and
        `death_without_progression`; causes that never occur are left out.
    """
    names = [
        "primary_resistance",
        *(f"acquired/{cause}" for cause in cohort.causes),
        "false_progression",
        "death_without_progression",
    ]
    tables = []
    for s, arm in enumerate(cohort.strategies):
        row = np.s_[:, s]
        time, event = endpoint_times(cohort, "pfs", s)
        code = _cause_code(cohort, row, time, event)
        estimate = estimate_cumulative_incidence(time, code, names)
        values, errors = estimate.at(grid)
        for c in np.flatnonzero(np.bincount(code[code >= 0], minlength=len(names))):
            tables.append(
                pd.DataFrame(
                    {
                        "arm": arm,
                        "cause": names[c],
                        "time": grid,
                        "incidence": values[c],
                        "standard_error": errors[c],
                    }
                )
            )
    if not tables:
        return pd.DataFrame(columns=["arm", "cause", "time", "incidence", "standard_error"])
    return pd.concat(tables, ignore_index=True)


def _cause_code(
    cohort: Cohort, row: tuple[slice, int], time: FloatArray, event: BoolArray
) -> NDArray[np.intp]:
    """Index of the cause of each PFS event, -1 where censored."""
    progressed = cohort.observed.progression_time[row].ravel() <= time
    resistance = cohort.resistance_time[row].ravel()
    cause = cohort.cause[row].ravel().astype(np.intp)
    last = len(cohort.causes) + 1
    code = np.where(cohort.primary[row].ravel(), 0, 1 + cause)
    code = np.where(resistance > time, last, code)
    code = np.where(progressed, code, last + 1)
    return np.where(event, code, -1)


def estimate_occupancy(cohort: Cohort, grid: FloatArray) -> pd.DataFrame:
    """Share of patients in each state over time, latent and uncensored.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    grid : ndarray
        Months since randomisation.

    Returns
    -------
    DataFrame
        arm, state, time, share; the shares of one arm and time add up to 1.
    """
    rows = []
    for s, arm in enumerate(cohort.strategies):
        row = np.s_[:, s]
        death = cohort.death_time[row].ravel()
        lost = np.minimum(cohort.resistance_time[row].ravel(), death)
        seen = np.minimum(np.maximum(cohort.detection_time[row].ravel(), lost), death)
        durable = cohort.durable[row].ravel()
        responding = (cohort.depth[row].ravel() == 2) & ~durable
        n = len(death)
        # Before its loss each benefit holds everyone whose loss is still to come.
        shares = [_later_than(lost[member], grid) / n for member in (
            durable, responding, ~durable & ~responding)]  # fmt: skip
        ends = [_later_than(x, grid) / n for x in (lost, seen, death)]
        shares += [ends[1] - ends[0], ends[2] - ends[1], 1.0 - ends[2]]
        rows += [
            pd.DataFrame({"arm": arm, "state": state, "time": grid, "share": share})
            for state, share in zip(STATES, shares, strict=True)
        ]
    return pd.concat(rows, ignore_index=True)


def _later_than(time: FloatArray, grid: FloatArray) -> FloatArray:
    return np.asarray(len(time) - np.searchsorted(np.sort(time), grid, side="right"))


def cross_definitions(cohort: Cohort, definitions: Sequence[Definition]) -> pd.DataFrame:
    """Counts of latent class by the label that each rule gives, under each strategy.

    The latent class is `primary`, `acquired` (resistance arose before death
    and before the end of follow-up) or `none`.

    Returns
    -------
    DataFrame
        arm, rule, latent, label, patients; counts of zero are left out.
    """
    end = cohort.observed.os_time
    acquired = ~cohort.primary & (cohort.resistance_time <= end)
    latent = np.where(cohort.primary, 0, np.where(acquired, 1, 2))
    rows = []
    for rule in definitions:
        label = classify(cohort.observed, rule)
        for s, arm in enumerate(cohort.strategies):
            pair = latent[:, s].ravel() * len(LABELS) + label[:, s].ravel()
            counts = np.bincount(pair, minlength=len(LATENT) * len(LABELS))
            rows += [
                {
                    "arm": arm, "rule": rule.name, "latent": LATENT[k // len(LABELS)],
                    "label": LABELS[k % len(LABELS)], "patients": int(counts[k]),
                }
                for k in np.flatnonzero(counts)
            ]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "rule", "latent", "label", "patients"])


def estimate_contrasts(
    cohort: Cohort, reference: int, rates: Sequence[float], horizon: float
) -> pd.DataFrame:
    """True effect of every strategy against one of them, in the same patients.

    Uncensored: survival (`os`) is latent, `pfs` is detected progression or
    death. Because each patient is met under both strategies, the difference has
    the error of a paired comparison; the gain says how many times more patients
    an unpaired comparison would have needed.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    reference : int
        Index along S of the strategy compared with.
    rates : sequence of float
        Months of the differences in rates.
    horizon : float
        End of the restricted mean, months.

    Returns
    -------
    DataFrame
        arm, reference, endpoint, measure (`rate_difference_<month>`,
        `rmst_difference_<month>`), estimate, mc_error, mc_error_unpaired, gain.
    """
    times = {
        "pfs": np.minimum(cohort.detection_time, cohort.death_time),
        "os": cohort.death_time,
    }
    rows = []
    for endpoint, time in times.items():
        for s, arm in enumerate(cohort.strategies):
            if s == reference:
                continue
            own, other = time[:, s].ravel(), time[:, reference].ravel()
            measures = [
                (f"rate_difference_{month:g}", (own > month) * 1.0, (other > month) * 1.0)
                for month in rates
                if month <= horizon
            ]
            measures.append(
                (
                    f"rmst_difference_{horizon:g}",
                    np.minimum(own, horizon),
                    np.minimum(other, horizon),
                )
            )
            rows += [
                {
                    "arm": arm,
                    "reference": cohort.strategies[reference],
                    "endpoint": endpoint,
                    "measure": name,
                    **_paired(a, b),
                }
                for name, a, b in measures
            ]
    columns = [
        "arm", "reference", "endpoint", "measure", "estimate", "mc_error", "mc_error_unpaired",
        "gain",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _paired(own: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> dict[str, float]:
    n = len(own)
    paired = float(np.var(own - other)) / n
    unpaired = (float(np.var(own)) + float(np.var(other))) / n
    return {
        "estimate": float(np.mean(own - other)),
        "mc_error": float(np.sqrt(paired)),
        "mc_error_unpaired": float(np.sqrt(unpaired)),
        "gain": unpaired / paired if paired > 0.0 else float("inf"),
    }
