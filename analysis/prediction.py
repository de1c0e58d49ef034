"""What a trial to come is predicted to show: curves, landmarks, medians and hazard ratios.

The pool (`analysis.pooling`) says how the numbers of the next trial are
distributed. A fixed set of normal scores stands for that distribution; for each
of its draws the expected record of both arms is computed (`sim.expected`), so
that a contrast of arms has what they share. What a trial of finite size observes
adds sampling error: binomial for a share of patients, 1 / (e q (1 - q)) for the
log hazard ratio from e events with a share q of patients in one arm.

Three parts of the variance are told apart. *Calibration*: what the pool does not
know of its means. *Between trials*: how trials scatter about the means, whatever
is known of these. *Sampling*: the trial's own size. A number for which no trial
says anything, such as the effect of a new partner, has a stated prior and makes a
fourth, *assumption*.

References
----------
.. [1] Higgins, Thompson & Spiegelhalter (2009), Journal of the Royal Statistical Society A
   172:137-159, on predicting the result of a new trial.
.. [2] Freeman & Tukey (1950), Annals of Mathematical Statistics 21:607-611, on the arcsine scale,
   where the error of a share does not depend on the share.
.. [3] Schoenfeld (1981), Biometrika 68:316-319, on the variance of a log hazard ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.pooling import NewTrial, PooledMeans, Trial, draw_new_trial, new_trial
from sim.expected import ExpectedArm, cox_hazard_ratio, median_of

__all__ = [
    "DRAWS", "LEVELS", "Part", "Predicted", "PredictedArm", "Prediction", "Shares", "months",
    "normal_scores", "predict",
]  # fmt: skip

FloatArray = NDArray[np.float64]
Part = tuple[str, int | None]
"""An arm, or a stratum of it: name of the strategy, and number of the stratum or None."""

DRAWS = 200
POINTS = 64
"""Lattice points in a class of patients: middles of curves are within 0.02 of those at 512
where there is one stratum."""

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Quantiles that are reported: limits of 95, 80 and 50 %, and the median."""

_HALVINGS = 40


def months(horizon: float) -> FloatArray:
    """Times at which curves are computed: every half month for two years, then every month."""
    early = np.arange(0.0, min(horizon, 24.0), 0.5)
    return np.append(np.concatenate([early, np.arange(24.0, horizon, 1.0)]), horizon)


def normal_scores(count: int, dimensions: int) -> FloatArray:
    """Points that stand for a standard normal law.

    A Korobov lattice, turned to normal scores, mirrored at the origin and
    scaled so that mean and covariance are exactly nought and the identity.

    Parameters
    ----------
    count : int
        Even, and more than four times `dimensions`, without which the scaling
        would bend the law.
    dimensions : int

    Returns
    -------
    ndarray, shape (count, dimensions)

    Raises
    ------
    ValueError
        If there are too few points.

    Examples
    --------
    >>> scores = normal_scores(200, 30)
    >>> bool(np.allclose(scores.T @ scores / 200, np.eye(30)))
    True
    """
    from scipy.special import ndtri

    if count % 2 or count <= 4 * dimensions:
        raise ValueError(f"{count} points do not stand for a law in {dimensions} dimensions")
    # Half of them are placed and the other half mirrored. With a prime number of places every
    # power of a generator has as many; of the generators, the one that needs least scaling.
    half = count // 2
    places = next(p for p in range(half, 2 * half) if all(p % d for d in range(2, p)))
    best, least = None, 0.0
    for generator in range(2, places - 1):
        powers = np.array([pow(generator, j, places) for j in range(dimensions)])
        scores = ndtri((np.outer(np.arange(half), powers) % places + 0.5) / places)
        size, axes = np.linalg.eigh(scores.T @ scores / half)
        if size[0] > least:
            best, least = (scores, size, axes), float(size[0])
    assert best is not None
    scores, size, axes = best
    scaled = scores @ (axes / np.sqrt(size)) @ axes.T
    return np.concatenate([scaled, -scaled])


# ---------------------------------------------------------------- quantities


@dataclass(frozen=True)
class Predicted:
    """A quantity of a trial to come: a draw for each possible truth, and the error about it."""

    draws: FloatArray
    """True values, (D,) or (D, T)."""

    error: FloatArray | float
    """Sampling error on the scale, to be broadcast with the draws."""

    scale: str
    """`share`, whose scale is the arcsine of the root, or `log`."""

    def free(self, value: ArrayLike) -> FloatArray:
        """Values on the scale."""
        x = np.asarray(value, dtype=np.float64)
        if self.scale == "log":
            return np.log(np.maximum(x, 1e-12))
        return np.asarray(np.arcsin(np.sqrt(np.clip(x, 0.0, 1.0))))

    def natural(self, free: FloatArray) -> FloatArray:
        """The quantity of which these are the values on the scale."""
        if self.scale == "log":
            return np.exp(free)
        return np.asarray(np.sin(np.clip(free, 0.0, np.pi / 2.0)) ** 2)

    def chance_below(self, value: ArrayLike) -> FloatArray:
        """Chance that what is observed lies below a value, () or (T,)."""
        from scipy.special import ndtr

        return np.asarray(np.mean(ndtr((self.free(value) - self._centres) / self._spread), axis=0))

    def quantile(self, levels: ArrayLike, *, observed: bool = True) -> FloatArray:
        """Quantiles of what a trial observes, or of the truth.

        Parameters
        ----------
        levels : array_like, shape (L,) or ()
        observed : bool, default True
            With sampling error.

        Returns
        -------
        ndarray, shape (L,) or (L, T), without the first axis for a single level
        """
        from scipy.special import ndtr

        if not observed:
            return np.asarray(
                self.natural(
                    np.quantile(self._centres, np.asarray(levels, dtype=np.float64), axis=0)
                )
            )
        wanted = np.asarray(levels, dtype=np.float64)
        wanted = wanted.reshape(wanted.shape + (1,) * (self.draws.ndim - 1))
        reach = 8.0 * np.max(self._spread)
        low = np.min(self._centres, axis=0) - reach + 0.0 * wanted
        high = np.max(self._centres, axis=0) + reach + 0.0 * wanted
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            departure = middle[..., None, :] if self.draws.ndim == 2 else middle[..., None]
            below = np.mean(ndtr((departure - self._centres) / self._spread),
                            axis=-2 if self.draws.ndim == 2 else -1)  # fmt: skip
            low, high = (
                np.where(below < wanted, middle, low),
                np.where(below < wanted, high, middle),
            )
        return self.natural(0.5 * (low + high))

    def density(self, value: ArrayLike) -> FloatArray:
        """Density of what is observed, of values on the scale; only of a single number."""
        off = (self.free(value)[..., None] - self._centres) / self._spread
        height = np.exp(-0.5 * off**2) / (np.sqrt(2.0 * np.pi) * self._spread)
        return np.asarray(height.mean(axis=-1))

    @cached_property
    def _centres(self) -> FloatArray:
        return self.free(self.draws)

    @cached_property
    def _spread(self) -> FloatArray:
        return np.maximum(np.broadcast_to(self.error, self.draws.shape), 1e-9)


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of the variance of a predicted observation, on its scale."""

    calibration: float
    between_trials: float
    assumption: float
    sampling: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.calibration + self.between_trials + self.assumption + self.sampling


@dataclass(frozen=True)
class PredictedArm:
    """An arm of a trial to come, or a stratum of one."""

    n: float
    """Patients."""

    time: FloatArray
    """Months, (T,)."""

    curves: Mapping[str, FloatArray]
    """`pfs` and `os` of each draw, (D, T)."""

    response: FloatArray
    """Response rate of each draw, (D,)."""

    @property
    def _error(self) -> float:
        return float(0.5 / np.sqrt(self.n))

    def curve(self, endpoint: str) -> Predicted:
        """The curve at all times; observed by Kaplan-Meier with everybody followed up."""
        return Predicted(self.curves[endpoint], self._error, "share")

    def rate(self, endpoint: str, month: float) -> Predicted:
        """Share free of the event at a month, between the times by straight lines.

        Raises
        ------
        ValueError
            If the curves do not reach that far.
        """
        if not 0.0 <= month <= self.time[-1]:
            raise ValueError(f"month {month:g} lies beyond the curves, {self.time[-1]:g}")
        drawn = [np.interp(month, self.time, curve) for curve in self.curves[endpoint]]
        return Predicted(np.array(drawn), self._error, "share")

    @property
    def response_rate(self) -> Predicted:
        """Share with an objective response."""
        return Predicted(self.response, self._error, "share")

    def median(self, endpoint: str, levels: ArrayLike, *, observed: bool = True) -> FloatArray:
        """Quantiles of the median, ``inf`` where curves stay above a half too long.

        The observed median is at most t exactly if the observed curve at t is at
        most a half, so that its law follows from that of the curve.
        """
        if not observed:
            true = np.array([median_of(self.time, curve) for curve in self.curves[endpoint]])
            # Not reached in a part of the draws: order statistics, as infinity has no middle.
            return np.asarray(np.quantile(true, np.asarray(levels), method="inverted_cdf"))
        passed = self.curve(endpoint).chance_below(np.full(len(self.time), 0.5))
        passed = np.maximum.accumulate(passed)
        found = [_first_crossing(self.time, passed, q) for q in np.atleast_1d(levels).tolist()]
        return np.array(found).reshape(np.shape(levels))


def _first_crossing(time: FloatArray, rising: FloatArray, level: float) -> float:
    at = int(np.searchsorted(rising, level))
    if at == len(rising):
        return float("inf")
    if at == 0 or rising[at] == rising[at - 1]:
        return float(time[at])
    part = (level - rising[at - 1]) / (rising[at] - rising[at - 1])
    return float(time[at - 1] + part * (time[at] - time[at - 1]))


# ---------------------------------------------------------------- the trial


@dataclass(frozen=True)
class Prediction:
    """Predicted arms of one trial, of the same draws."""

    trial: str
    parts: Mapping[Part, PredictedArm]
    numbers: NewTrial
    """What the pool says of the trial's parameters."""

    free: FloatArray
    """Parameters of each draw on their scales, (D, P)."""

    def arm(self, strategy: str, stratum: int | None = None) -> PredictedArm:
        """One of the predicted parts."""
        return self.parts[(strategy, stratum)]

    def hazard_ratio(
        self,
        endpoint: str,
        experimental: str,
        control: str,
        follow_up: float,
        stratum: int | None = None,
    ) -> Predicted:
        """What Cox's model finds with everybody followed for so many months.

        Parameters
        ----------
        endpoint : str
            `pfs` or `os`.
        experimental, control : str
        follow_up : float
            Months, at most the horizon of the curves.
        stratum : int, optional
        """
        arms = self.arm(experimental, stratum), self.arm(control, stratum)
        within = arms[0].time <= follow_up
        curves = [arm.curves[endpoint][:, within] for arm in arms]
        ratio = [cox_hazard_ratio(c, e) for e, c in zip(*curves, strict=True)]
        events = sum(arm.n * (1.0 - c[:, -1]) for arm, c in zip(arms, curves, strict=True))
        share = arms[0].n / (arms[0].n + arms[1].n)
        error = 1.0 / np.sqrt(np.maximum(events, 1.0) * share * (1.0 - share))
        return Predicted(np.array(ratio), np.asarray(error), "log")

    def events(self, endpoint: str, first: str, second: str, follow_up: float) -> float:
        """Expected events of both arms by then."""
        return sum(
            arm.n * (1.0 - float(np.median(arm.rate(endpoint, follow_up).draws)))
            for arm in (self.arm(first), self.arm(second))
        )

    def shares(self, predicted: Predicted) -> Shares:
        """Where the variance of a quantity of this trial comes from.

        The true value is regressed on the parameters of the draws. For normal
        parameters the slopes are mean derivatives (Stein), and what the
        covariance of each source makes of them is its part; the remainder,
        from curvature, is divided in proportion.

        Raises
        ------
        ValueError
            If the quantity is a curve.
        """
        if predicted.draws.ndim != 1:
            raise ValueError("parts of the variance are of one number, not of a curve")
        value = predicted.free(predicted.draws)
        departures = self.free - self.numbers.centre
        slopes, *_ = np.linalg.lstsq(departures, value - value.mean(), rcond=None)
        parts = np.array(
            [
                slopes @ self.numbers.calibration @ slopes,
                np.sum(slopes**2 * self.numbers.between),
                np.sum(slopes**2 * self.numbers.alone),
            ]
        )
        if parts.sum() > 0.0:
            parts *= value.var() / parts.sum()
        sampling = float(np.mean(np.square(predicted.error)))
        calibration, between, alone = parts.tolist()
        return Shares(calibration, between, alone, sampling)


def predict(
    trial: Trial,
    means: PooledMeans,
    n: Mapping[Part, float],
    horizon: float = 60.0,
    draws: int = DRAWS,
    n_points: int = POINTS,
    *,
    calibration: bool = True,
    between: bool = True,
) -> Prediction:
    """Predict a trial as if it had not been seen.

    Parameters
    ----------
    trial : Trial
        Its numbers are drawn from the pool; its results are not looked at.
    means : PooledMeans
    n : mapping
        Patients of each part that is wanted.
    horizon : float, default 60
        Months.
    draws : int, default 200
        Even, and more than four times the trial's free numbers.
    n_points : int, default 64
        Lattice points in a class of patients.
    calibration, between : bool
        Whether these sources of uncertainty count.

    Returns
    -------
    Prediction
    """
    parameters = trial.parameters
    scores = normal_scores(draws, len(parameters))
    free = draw_new_trial(means, parameters, scores, calibration=calibration, between=between)
    numbers = new_trial(means, parameters)
    time = months(horizon)
    rows: dict[Part, list[tuple[FloatArray, FloatArray, float]]] = {part: [] for part in n}
    for arms in _arms(trial, free, n_points):
        for part in n:
            name, stratum = part
            arm = arms[name] if stratum is None else arms[name].of_stratum(stratum)
            rows[part].append((arm.progression_free(time), arm.alive(time), arm.response_rate))
    parts = {}
    for part, found in rows.items():
        pfs, alive, response = zip(*found, strict=True)
        curves = {"pfs": np.array(pfs), "os": np.array(alive)}
        parts[part] = PredictedArm(n[part], time, curves, np.array(response))
    return Prediction(trial.name, parts, numbers, free)


def _arms(
    trial: Trial, free: Sequence[FloatArray] | FloatArray, n_points: int
) -> Iterator[dict[str, ExpectedArm]]:
    for row in free:
        yield trial.arms(np.clip(row, -9.0, 9.0), n_points)
