"""How good a fit is: beside the data, beside the usual distributions, and in what it cannot say.

Takes a calibration and the data it was made from; makes the tables that are
written and drawn. It fits nothing but the reference distributions of
`analysis.reference_fits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.calibration import Calibration, Profile, SurvivalRows, expected_curve
from analysis.reference_fits import ReferenceFit, fit_references, goodness, piecewise_hazard
from analysis.survival import fit_kaplan_meier
from sim.expected import ExpectedArm

__all__ = ["EndpointFits", "FitQuality", "Judgement", "fit_tables", "judge"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Curves = Mapping[str, tuple[FloatArray, BoolArray]]

OURS = "resistance model"
MATURE = 60.0
"""Months of follow-up from which a durable share can be told from a long benefit."""

FINE = 0.05
"""Months between which our curve is taken as straight."""

NORMAL_95 = 1.96
STEP = 0.05


@dataclass(frozen=True, slots=True)
class FitQuality:
    """One fitted curve beside the data."""

    name: str
    mean_difference: float
    """Integrated absolute difference from Kaplan-Meier, divided by the horizon."""
    largest_difference: float
    aic: float
    """Of the counts by interval; ours counts the parameters that the data determine."""
    bic: float
    curve: ReferenceFit | None
    """None for ours."""


@dataclass(frozen=True, slots=True)
class EndpointFits:
    """All fits of an endpoint, ours first."""

    endpoint: str
    horizon: float
    """Months up to which differences are integrated: a tenth of the patients still at risk."""
    fits: tuple[FitQuality, ...]

    @property
    def best_reference(self) -> FitQuality:
        """The reference with the least AIC."""
        return min(self.fits[1:], key=lambda fit: fit.aic)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to think of a calibration."""

    endpoints: tuple[EndpointFits, ...]
    unidentified: tuple[str, ...]
    """Why each parameter is not identified; empty where it is."""
    warnings: tuple[str, ...]


def judge(
    calibration: Calibration, curves: Curves, profiles: Sequence[Profile], measures: Sequence[str]
) -> Judgement:
    """Judge a calibration.

    Parameters
    ----------
    calibration : Calibration
    curves : mapping
        Endpoint to times (months) and events.
    profiles : sequence of Profile
        Of its parameters, in their order.
    measures : sequence of str
        Published numbers that were fitted too.
    """
    endpoints = tuple(
        _endpoint(calibration, row, *curves[row.endpoint]) for row in calibration.rows
    )
    longest = max(float(time.max()) for time, _ in curves.values())
    responses = bool({"orr", "bor_pd"} & set(measures))
    reasons = tuple(_reason(p, responses, longest) for p in profiles)
    warnings = []
    if not responses:
        warnings.append(
            "without best-response rates (--targets with orr or bor_pd) survival gives the shape "
            "of the curve and not the share of primary resistance, which hangs on assumed lags"
        )
    if longest < MATURE:
        warnings.append(
            f"follow-up ends at {longest:.0f} months: what is durable and what is only long cannot "
            "be told apart before about 60, and the curve beyond the data is the prior's"
        )
    return Judgement(endpoints, reasons, tuple(warnings))


def _reason(profile: Profile, responses: bool, longest: float) -> str:
    """Why a parameter is not identified; empty where it is."""
    name = profile.parameter.name
    if name in ("primary", "responding", "refractory", "activity_responding") and not responses:
        return "needs best-response rates"
    if name.startswith("durable") and longest < MATURE:
        return "needs five years of follow-up"
    return "" if profile.identified else "flat profile"


def _endpoint(
    calibration: Calibration, rows: SurvivalRows, time: FloatArray, event: BoolArray
) -> EndpointFits:
    arm = calibration.arm(n_points=512)
    last = float(time.max())
    grid = np.linspace(0.05, last, 400)
    fine = np.arange(0.0, last + FINE, FINE)
    curve = expected_curve(arm, rows.endpoint, fine)
    ours = goodness(time, event, lambda t: np.interp(t, fine, curve))
    count = int(event.sum())
    share = calibration.fit.effective_parameters / len(calibration.rows)
    likelihood = rows.log_likelihood(expected_curve(arm, rows.endpoint, rows.edges))
    fits = [_quality(OURS, ours, likelihood, share, count, None)]
    for reference in fit_references(time, event, grid):
        if not reference.converged:
            continue
        found = goodness(time, event, reference.survival_at)
        likelihood = rows.log_likelihood(reference.survival_at(rows.edges))
        parameters = len(reference.parameters)
        fits.append(_quality(reference.name, found, likelihood, parameters, count, reference))
    return EndpointFits(rows.endpoint, ours.horizon, tuple(fits))


def _quality(
    name: str,
    found: Any,
    likelihood: float,
    parameters: float,
    events: int,
    curve: ReferenceFit | None,
) -> FitQuality:
    return FitQuality(
        name,
        found.mean_difference,
        found.largest_difference,
        2.0 * parameters - 2.0 * likelihood,
        float(np.log(max(events, 1))) * parameters - 2.0 * likelihood,
        curve,
    )


# ---------------------------------------------------------------- tables


def fit_tables(
    calibration: Calibration,
    curves: Curves,
    profiles: Sequence[Profile],
    judged: Judgement,
    arm: str,
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The tables of a fit and what is said about it, as `figures.calibration` reads them."""
    data, lines, hazards = [], [], []
    about: dict[str, Any] = {"endpoints": {}}
    grids = {name: _grid(float(time.max())) for name, (time, _) in curves.items()}
    bands = _bands(calibration, grids)
    for fits in judged.endpoints:
        time, event = curves[fits.endpoint]
        every = _table_every(fits.horizon)
        curve = fit_kaplan_meier(time, event)
        ticks = np.arange(0.0, float(time.max()) + 1e-9, every)
        table = curve.table(ticks)
        data.append(table.assign(arm=arm, endpoint=fits.endpoint))
        lines += _lines(fits, grids[fits.endpoint], bands[fits.endpoint])
        hazards += _hazards(calibration, fits, time, event)
        best = fits.best_reference
        about["endpoints"][fits.endpoint] = {
            "horizon": fits.horizon,
            "table_every": every,
            "median": [_finite(x) for x in curve.median],
            "aic": fits.fits[0].aic,
            "reference": {"name": best.name, "aic": best.aic},
            "fits": [
                {
                    "name": fit.name,
                    "mean_difference": fit.mean_difference,
                    "largest_difference": fit.largest_difference,
                    "aic": fit.aic,
                    "bic": fit.bic,
                }
                for fit in fits.fits
            ],
        }
    about |= _about_parameters(calibration, judged)
    profile = pd.concat(
        [
            pd.DataFrame({"parameter": p.parameter.name, "value": p.values, "deviance": p.deviance})
            for p in profiles
        ]
    )
    order = [
        "arm",
        "endpoint",
        "time",
        "survival",
        "lower",
        "upper",
        "at_risk",
        "events",
        "censored",
    ]
    tables = {
        "fit_data": pd.concat(data, ignore_index=True)[order],
        "fit_curves": pd.concat(lines, ignore_index=True),
        "fit_hazards": pd.concat(hazards, ignore_index=True),
        "fit_profile": profile,
        "fit_correlation": _correlation(calibration),
    }
    return tables, about


def _grid(last: float) -> FloatArray:
    """Months at which curves are written: fine enough to show the steps at scans."""
    return np.linspace(0.05, last, int(np.clip(last / 0.1, 60, 250)))


def _table_every(horizon: float) -> float:
    return next(
        step for step in (1.0, 2.0, 3.0, 6.0, 12.0, 24.0) if horizon / step <= 8.0 or step == 24.0
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _about_parameters(calibration: Calibration, judged: Judgement) -> dict[str, Any]:
    rows = []
    sds = np.sqrt(np.diag(calibration.fit.covariance))
    for i, (p, why) in enumerate(zip(calibration.parameters, judged.unidentified, strict=True)):
        x = float(calibration.fit.x[i])
        rows.append(
            {
                "name": p.name,
                "path": p.path,
                "label": LABELS.get(p.name, p.name),
                "unit": UNITS.get(p.name, ""),
                "estimate": p.value(x),
                "standard_error": float(calibration.standard_errors[i]),
                "lower": p.value(x - NORMAL_95 * sds[i]),
                "upper": p.value(x + NORMAL_95 * sds[i]),
                "prior_mean": p.mean,
                "prior_sd_on_scale": p.sd,
                "scale": p.scale,
                "identified": not why,
                "why_not": why,
                "log": p.scale == "log",
            }
        )
    return {
        "parameters": rows,
        "effective_parameters": calibration.fit.effective_parameters,
        "deviance": calibration.fit.deviance,
        "converged": calibration.fit.converged,
        "warnings": list(judged.warnings),
    }


LABELS = {
    "primary": "primary resistance",
    "responding": "responding, of the others",
    "durable_responding": "durable, of responders",
    "durable_controlled": "durable, of controlled",
    "acquired_scale": "scale of acquired resistance",
    "acquired_shape": "shape of acquired resistance",
    "controlled_ratio": "hazard ratio if controlled",
    "frailty_sd": "frailty (log sd)",
    "tumour_death": "death hazard after resistance",
    "background_early": "death before, months 0 to 3",
    "background_late": "death before, later",
    "refractory": "refractory",
    "activity_responding": "responding, of the others",
    "activity_scale": "scale of lost benefit",
    "activity_shape": "shape of lost benefit",
    "activity_ratio": "hazard ratio if controlled",
    "activity_frailty": "frailty (log sd)",
    "joint_response": "joint response",
    "activity_death": "death hazard after resistance",
    "activity_early": "death before, months 0 to 3",
    "activity_late": "death before, later",
    "primary_lag": "lag after primary resistance",
    "acquired_lag": "lag after acquired resistance",
}
UNITS = {
    "acquired_scale": "months", "activity_scale": "months", "primary_lag": "months",
    "acquired_lag": "months", "tumour_death": "per month", "background_early": "per month",
    "background_late": "per month", "activity_death": "per month", "activity_early": "per month",
    "activity_late": "per month",
}  # fmt: skip


def _correlation(calibration: Calibration) -> pd.DataFrame:
    covariance = calibration.fit.covariance
    sds = np.sqrt(np.diag(covariance))
    names = [p.name for p in calibration.parameters]
    table = pd.DataFrame(covariance / np.outer(sds, sds), columns=names)
    table.insert(0, "parameter", names)
    return table


def _bands(calibration: Calibration, grids: Mapping[str, FloatArray]) -> dict[str, Band]:
    """Curves with 95 % limits by the delta method, on the scale of the log cumulative hazard."""
    x, covariance = calibration.fit.x, calibration.fit.covariance

    def transformed(arm: ExpectedArm) -> FloatArray:
        curves = [expected_curve(arm, endpoint, grid) for endpoint, grid in grids.items()]
        return _log_cumulative(np.concatenate(curves))

    slopes = []
    for j in range(len(x)):
        step = np.zeros_like(x)
        step[j] = STEP
        up, down = (transformed(calibration.arm(x + sign * step, 128)) for sign in (1.0, -1.0))
        slopes.append((up - down) / (2.0 * STEP))
    slope = np.stack(slopes)
    sd = np.sqrt(np.einsum("jt,jk,kt->t", slope, covariance, slope))
    ends = np.cumsum([len(grid) for grid in grids.values()])[:-1]
    arm = calibration.arm()
    found = {}
    for (endpoint, grid), width in zip(grids.items(), np.split(sd, ends), strict=True):
        survival = expected_curve(arm, endpoint, grid)
        middle = _log_cumulative(survival)
        lower, upper = (np.exp(-np.exp(middle + s * NORMAL_95 * width)) for s in (1.0, -1.0))
        found[endpoint] = Band(survival, lower, upper)
    return found


@dataclass(frozen=True, slots=True)
class Band:
    """A curve with its limits."""

    survival: FloatArray
    lower: FloatArray
    upper: FloatArray


def _log_cumulative(survival: FloatArray) -> FloatArray:
    return np.asarray(np.log(-np.log(np.clip(survival, 1e-9, 1.0 - 1e-9))))


def _lines(fits: EndpointFits, grid: FloatArray, band: Band) -> list[pd.DataFrame]:
    best = fits.best_reference
    assert best.curve is not None
    common = {"endpoint": fits.endpoint, "time": grid}
    ours = pd.DataFrame(
        {**common, "model": "fit", "survival": band.survival, "lower": band.lower,
         "upper": band.upper}
    )  # fmt: skip
    other = pd.DataFrame(
        {**common, "model": best.name, "survival": best.curve.survival_at(grid),
         "lower": np.nan, "upper": np.nan}
    )  # fmt: skip
    return [ours, other]


def _hazards(
    calibration: Calibration, fits: EndpointFits, time: FloatArray, event: BoolArray
) -> list[pd.DataFrame]:
    """Hazard per month: ours over months, the reference's, and the data's by piece."""
    last = float(np.floor(fits.horizon))
    edges = np.array([e for e in HAZARD_EDGES if e < last] + [last])
    arm, best = calibration.arm(), fits.best_reference
    assert best.curve is not None
    middle = (edges[1:] + edges[:-1]) / 2.0
    frames = []
    for model, survival in (
        ("fit", expected_curve(arm, fits.endpoint, edges)),
        (best.name, best.curve.survival_at(edges)),
    ):
        hazard = -np.diff(np.log(np.clip(survival, 1e-9, 1.0))) / np.diff(edges)
        frames.append(
            pd.DataFrame(
                {"endpoint": fits.endpoint, "model": model, "start": middle, "end": middle,
                 "hazard": np.maximum(hazard, 1e-4), "lower": np.nan, "upper": np.nan}
            )
        )  # fmt: skip
    pieces = piecewise_hazard(time, event, edges).drop(columns="events")
    frames.append(pieces.assign(endpoint=fits.endpoint, model="data"))
    return frames


HAZARD_EDGES = (0.0, 1.5, 3.0, 4.5, 6.0, 9.0, 12.0, 18.0, 24.0, 36.0, 48.0, 60.0)
"""Months between which hazards are shown."""
