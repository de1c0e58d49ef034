"""Forecasts of hazard ratios that could have been made, against what was then published.

For each year the pool is fitted to the contrasts published before it, and the contrasts of
every phase 3 trial first reported in that year or later are predicted. No number of a trial,
neither of another endpoint nor of another stratum, takes part in predicting the trial:
what is predicted is the first number in the table, by what was known before the trial's
*first* report, even where the number itself is an update of later.

Baselines are given the same chance:

- *nearest*: copy the hazard ratio, and its interval, of the nearest earlier contrast with the same
  endpoint. Nearest is first by family, then by line, by stratum, the most recent, the most
  precise. As *nearest_both* the interval also holds the error of the estimate that is predicted,
  as that of the pool does.
- *earlier*: the mean of all earlier contrasts with the same endpoint, whatever the strategy, with
  their standard deviation. What beats this knows something of strategies.
- *phase 2*: the hazard ratio and interval of the latest earlier phase 2 contrast of the same
  family and endpoint, of the same agent where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log, pi, sqrt

import numpy as np
import pandas as pd

from analysis.effect_pooling import Pool, PredictedEffect, Prior, fit_pool, predict_effect
from analysis.effect_table import known_before

__all__ = ["METHODS", "backtest", "compare_baselines", "nearest_forecasts", "score_forecasts"]

METHODS = ("pooled", "nearest", "nearest_both", "earlier", "phase2")

FEWEST = 5
"""Earlier contrasts from which forecasts are made."""

NORMAL_975 = 1.959963984540054


def backtest(
    table: pd.DataFrame, prior: Prior | None = None, *, publication: float = 1.0, level: float = 0.8
) -> pd.DataFrame:
    """Predict every phase 3 contrast from what was published before, for each cut-off year.

    Parameters
    ----------
    table : DataFrame
        As from `analysis.effect_table.read_effects`.
    prior : Prior, optional
        Of the pool.
    publication : float
        Of the pool, see `analysis.effect_pooling.fit_pool`.
    level : float
        Of the intervals, which are for the estimate that is published: they hold its error.

    Returns
    -------
    DataFrame
        One row per cut-off and contrast: cutoff, trial, family, agent, line, stratum, population,
        endpoint, first_reported, year, n_pooled, family_known (whether an earlier contrast of the
        family and endpoint was), observed, standard_error; and for each of
        `METHODS` its forecast NAME (a log hazard ratio; the median), NAME_lower, NAME_upper,
        NAME_covered, NAME_error (absolute), NAME_log_score (log density of what was observed),
        NAME_trial (what was copied). Where there is no phase 2, its columns are NaN.
    """
    rows = []
    for cutoff in _cutoffs(table):
        known = known_before(table, cutoff)
        pool = fit_pool(known, prior, publication=publication)
        for _, target in _targets(table, cutoff).iterrows():
            rows.append(
                {
                    "cutoff": cutoff,
                    **{name: target[name] for name in _TOLD},
                    "n_pooled": len(known),
                    "family_known": _knows_family(known, target),
                    "observed": target["log_hazard_ratio"],
                    "standard_error": target["standard_error"],
                    **_judge("pooled", _pooled(pool, target), target, level),
                    **_judge("nearest", _nearest(known, target), target, level),
                    **_judge("nearest_both", _nearest(known, target, widened=True), target, level),
                    **_judge("earlier", _earlier(known, target), target, level),
                    **_judge("phase2", _phase2(known, target), target, level),
                }
            )
    return pd.DataFrame(rows)


_TOLD = (
    "trial", "family", "agent", "line", "stratum", "population", "endpoint", "first_reported",
    "year",
)  # fmt: skip


def nearest_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Those made just before each trial was first reported: one per contrast."""
    return forecasts[forecasts["cutoff"] == forecasts["first_reported"]].reset_index(drop=True)


def score_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Coverage, error and log score of each method.

    Parameters
    ----------
    forecasts : DataFrame
        As from `backtest`.

    Returns
    -------
    DataFrame
        method, n, trials, covered, coverage, coverage_lower, coverage_upper (Wilson's 95 %
        interval, as if contrasts were independent), error, error_se (of the mean), log_score,
        log_score_se. Standard errors allow for contrasts of one trial to go together.
    """
    out = []
    for method in METHODS:
        own = forecasts[forecasts[method].notna()]
        covered = int(own[f"{method}_covered"].astype(bool).sum())
        low, high = _wilson(covered, len(own))
        out.append(
            (
                method, len(own), own["trial"].nunique(), covered,
                covered / len(own) if len(own) else np.nan, low, high,
                *_mean(own[f"{method}_error"], own["trial"]),
                *_mean(own[f"{method}_log_score"], own["trial"]),
            )
        )  # fmt: skip
    names = [
        "method", "n", "trials", "covered", "coverage", "coverage_lower", "coverage_upper",
        "error", "error_se", "log_score", "log_score_se",
    ]  # fmt: skip
    return pd.DataFrame(out, columns=names)


def compare_baselines(forecasts: pd.DataFrame) -> pd.DataFrame:
    """What pooling gains over each baseline, contrast by contrast.

    Returns
    -------
    DataFrame
        baseline, n, trials, error and error_se (absolute error of pooling less that of the
        baseline: below 0 favours pooling), log_score and log_score_se (above 0 favours pooling),
        closer (contrasts to which pooling came closer). Standard errors are by trial.
    """
    out = []
    for method in METHODS[1:]:
        own = forecasts[forecasts[method].notna()]
        error = own["pooled_error"] - own[f"{method}_error"]
        score = own["pooled_log_score"] - own[f"{method}_log_score"]
        out.append(
            (
                method, len(own), own["trial"].nunique(), *_mean(error, own["trial"]),
                *_mean(score, own["trial"]), int((error < 0.0).sum()),
            )
        )  # fmt: skip
    names = [
        "baseline", "n", "trials", "error", "error_se", "log_score", "log_score_se", "closer",
    ]  # fmt: skip
    return pd.DataFrame(out, columns=names)


# ---------------------------------------------------------------- who predicts whom


def _cutoffs(table: pd.DataFrame) -> Iterator[int]:
    """Years before which enough is known and after which there is something to predict."""
    for year in range(int(table["year"].min()), int(table["first_reported"].max()) + 1):
        if len(known_before(table, year)) >= FEWEST and len(_targets(table, year)):
            yield year


def _targets(table: pd.DataFrame, cutoff: int) -> pd.DataFrame:
    """First number of each phase 3 contrast whose trial was first reported from a year on."""
    later = table[table["pooled"] & (table["phase"] == 3) & (table["first_reported"] >= cutoff)]
    same = ["trial", "family", "agent", "stratum", "endpoint"]
    return later.sort_values("year", kind="stable").drop_duplicates(same).sort_index()


def _pooled(pool: Pool, target: pd.Series) -> PredictedEffect:
    rows = pool.rows
    known = ((rows["family"] == target["family"]) & (rows["agent"] == target["agent"])).any()
    effect = predict_effect(
        pool, target["family"], endpoint=target["endpoint"], agent=target["agent"] if known else ""
    )
    return effect.observed_with(target["standard_error"])


def _same_endpoint(known: pd.DataFrame, target: pd.Series) -> pd.DataFrame:
    return known[known["endpoint"] == target["endpoint"]]


def _knows_family(known: pd.DataFrame, target: pd.Series) -> bool:
    return target["family"] in set(_same_endpoint(known, target)["family"])


def _nearest(known: pd.DataFrame, target: pd.Series, *, widened: bool = False) -> pd.Series | None:
    rows = _same_endpoint(known, target)
    if rows.empty:
        return None
    keys = {name: rows[name] == target[name] for name in ("family", "line", "stratum")}
    ranked = rows.assign(**{f"same_{name}": same for name, same in keys.items()}).sort_values(
        [*(f"same_{name}" for name in keys), "year", "standard_error"],
        ascending=[False, False, False, False, True], kind="stable",
    )  # fmt: skip
    found = ranked.iloc[0].copy()
    if widened:
        found["standard_error"] = np.hypot(found["standard_error"], target["standard_error"])
    return found


def _earlier(known: pd.DataFrame, target: pd.Series) -> pd.Series | None:
    values = _same_endpoint(known, target)["log_hazard_ratio"]
    if len(values) < 2:
        return None
    spread = float(values.std()) * sqrt(1.0 + 1.0 / len(values))
    told = {"log_hazard_ratio": values.mean(), "standard_error": spread, "trial": ""}
    return pd.Series(told)


def _phase2(known: pd.DataFrame, target: pd.Series) -> pd.Series | None:
    rows = known[
        (known["phase"] == 2)
        & (known["endpoint"] == target["endpoint"])
        & (known["family"] == target["family"])
    ]
    if rows.empty:
        return None
    ranked = rows.assign(same_agent=rows["agent"] == target["agent"]).sort_values(
        ["same_agent", "year"], ascending=False, kind="stable"
    )
    return ranked.iloc[0]


# ---------------------------------------------------------------- judging


def _judge(
    name: str, forecast: PredictedEffect | pd.Series | None, target: pd.Series, level: float
) -> dict[str, object]:
    from scipy.special import ndtri

    observed = float(target["log_hazard_ratio"])
    tail = 0.5 * (1.0 - level)
    if isinstance(forecast, PredictedEffect):
        low, middle, high = (float(x) for x in forecast.quantile([tail, 0.5, 1.0 - tail]))
        score, copied = log(float(forecast.density(observed))), ""
    elif forecast is None:
        low = middle = high = score = np.nan
        copied = ""
    else:
        middle, error = float(forecast["log_hazard_ratio"]), float(forecast["standard_error"])
        wide = float(ndtri(1.0 - tail)) * error
        low, high = middle - wide, middle + wide
        score = -0.5 * ((observed - middle) / error) ** 2 - log(error) - 0.5 * log(2.0 * pi)
        copied = str(forecast["trial"])
    return {
        name: middle,
        f"{name}_lower": low,
        f"{name}_upper": high,
        f"{name}_covered": low <= observed <= high if np.isfinite(middle) else np.nan,
        f"{name}_error": abs(observed - middle),
        f"{name}_log_score": score,
        f"{name}_trial": copied,
    }


def _wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    if n == 0:
        return np.nan, np.nan
    share, z2 = successes / n, NORMAL_975**2
    middle = (share + 0.5 * z2 / n) / (1.0 + z2 / n)
    half = NORMAL_975 * sqrt(share * (1.0 - share) / n + 0.25 * z2 / n**2) / (1.0 + z2 / n)
    return middle - half, middle + half


def _mean(values: pd.Series, cluster: pd.Series) -> tuple[float, float]:
    """Mean and its standard error, by clusters that go together; NaN with one cluster."""
    if values.empty:
        return np.nan, np.nan
    mean = float(values.mean())
    sums = (values - mean).groupby(cluster).sum()
    if len(sums) < 2:
        return mean, np.nan
    correction = len(sums) / (len(sums) - 1.0)
    return mean, sqrt(correction * float((sums**2).sum())) / len(values)
