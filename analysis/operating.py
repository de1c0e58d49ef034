"""Operating characteristics: what the replicates of a trial say about its design.

Takes the results of comparisons, a chunk of replicates at a time, and gives
power, bias, coverage, standard errors, events and durations, each with its
Monte Carlo standard error. Memory does not grow with the number of replicates,
but for the date of each cut (4 bytes), from which quantiles are taken.

What needs the mean of all estimates or the true value is counted in a second
pass over the replicates, by `Accuracy`.

References
----------
.. [1] Morris, White & Crowther (2019), Statistics in Medicine 38:2074-2102,
   https://doi.org/10.1002/sim.8086, table 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.moments import NOTHING, Moments
from analysis.replicates import (
    CutResults,
    Key,
    MethodResults,
    chunks_of,
    comparison_keys,
)
from sim.assessment import TICK

__all__ = [
    "Accuracy", "Tally", "Truth", "accuracy_of", "estimate_table", "operating_rows",
    "operating_table", "proportion", "summarise",
]  # fmt: skip

FloatArray = NDArray[np.float64]
Row = tuple[str, float, float]
"""Measure, estimate and Monte Carlo error."""

COLUMNS = (
    "cut", "arm", "endpoint", "method", "measure", "estimate", "mc_error", "n_replicates",
)  # fmt: skip

QUANTILES = (0.1, 0.5, 0.9)
"""Of the date of a cut."""

NORMAL_975 = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""

BINS, SPREAD = 40, 4.0
"""Bins of the distribution of estimates, over so many standard deviations to both sides."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The true value of what a comparison estimates."""

    value: float
    error: float
    """Its own standard error, where it comes from a large cohort; 0 from a closed form."""


# ---------------------------------------------------------------- first pass


@dataclass(slots=True)
class _Method:
    """Sums over the replicates of one comparison."""

    rejected: int = 0
    estimate: Moments = NOTHING
    variance: Moments = NOTHING
    """Of the squared standard error."""

    def add(self, found: MethodResults, alpha: float) -> None:
        self.rejected += int(np.count_nonzero(found.p_value <= alpha))
        usable = _usable(found.estimate, found.standard_error)
        self.estimate = self.estimate.merge(Moments.of(found.estimate[usable]))
        self.variance = self.variance.merge(Moments.of(found.standard_error[usable] ** 2))


class _Cut:
    """Sums over the replicates of one cut."""

    def __init__(self, results: CutResults) -> None:
        self.ticks: list[NDArray[np.uint32]] = []
        self.reached = 0
        names = ["enrolled", *([] if results.screened is None else ["screened"])]
        self.counts = dict.fromkeys(names, NOTHING)
        self.events = dict.fromkeys(results.events, NOTHING)
        self.methods = {key: _Method() for key in results.methods}

    def add(self, results: CutResults, alpha: float) -> None:
        # Dates are whole ticks, so that nothing is lost in 32 bits.
        self.ticks.append(np.round(results.date / TICK).astype(np.uint32))
        self.reached += int(np.count_nonzero(results.target_reached))
        for name, moments in self.counts.items():
            self.counts[name] = moments.merge(Moments.of(getattr(results, name)))
        for endpoint, moments in self.events.items():
            self.events[endpoint] = moments.merge(Moments.of(results.events[endpoint]))
        for key, method in self.methods.items():
            method.add(results.methods[key], alpha)

    @property
    def dates(self) -> FloatArray:
        """Date of every replicate, months."""
        return np.asarray(np.concatenate(self.ticks) * TICK)


class Tally:
    """Sums over chunks of replicates, from which the measures are made.

    Parameters
    ----------
    alpha : float
        One-sided level of every comparison.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.n_replicates = 0
        self._cuts: dict[str, _Cut] = {}

    def add(self, cuts: Mapping[str, CutResults]) -> None:
        """Add the next chunk, by the name of the cut."""
        for name, results in cuts.items():
            if name not in self._cuts:
                self._cuts[name] = _Cut(results)
            self._cuts[name].add(results, self.alpha)
        self.n_replicates += len(next(iter(cuts.values())).date)

    def mean_dates(self) -> dict[str, float]:
        """Mean date of each cut, months since the start of accrual."""
        return {name: float(np.mean(cut.dates)) for name, cut in self._cuts.items()}

    def estimates(self) -> dict[Key, Moments]:
        """Moments of the usable estimates of each comparison."""
        return {
            (cut, *key): method.estimate
            for cut, sums in self._cuts.items()
            for key, method in sums.methods.items()
        }

    def largest_error(self) -> float:
        """Largest Monte Carlo error of a power."""
        return max(
            proportion(method.rejected, self.n_replicates)[1]
            for cut in self._cuts.values()
            for method in cut.methods.values()
        )

    def cut_rows(self) -> Iterator[tuple[str, str, Row]]:
        """Cut, endpoint (or nothing) and measure, for what belongs to no comparison."""
        for name, cut in self._cuts.items():
            dates = cut.dates
            moments = Moments.of(dates)
            yield name, "", ("date", moments.mean, moments.error)
            yield name, "", ("date_standard_deviation", *_standard_deviation(dates, moments))
            ordered = np.sort(dates)
            for level in QUANTILES:
                yield name, "", (f"date_quantile_{100 * level:g}", *_quantile(ordered, level))
            for measure, counted in cut.counts.items():
                yield name, "", (measure, counted.mean, counted.error)
            yield name, "", ("target_reached", *proportion(cut.reached, self.n_replicates))
            for endpoint, counted in cut.events.items():
                yield name, endpoint, ("events", counted.mean, counted.error)

    def method_rows(self, accuracy: Accuracy | None = None) -> Iterator[tuple[Key, Row]]:
        """Every comparison and measure."""
        for name, cut in self._cuts.items():
            for own, method in cut.methods.items():
                key = (name, *own)
                yield key, ("power", *proportion(method.rejected, self.n_replicates))
                yield from ((key, row) for row in _spread_rows(method))
                if accuracy is not None:
                    yield from ((key, row) for row in accuracy.rows(key))
                missing = self.n_replicates - method.estimate.n
                yield key, ("not_estimable", *proportion(missing, self.n_replicates))


def _spread_rows(method: _Method) -> Iterator[Row]:
    """Means and standard errors, with their Monte Carlo errors."""
    n = method.estimate.n
    if n < 2:
        return
    spread, model = method.estimate.standard_deviation, float(np.sqrt(method.variance.mean))
    yield "mean_estimate", method.estimate.mean, method.estimate.error
    yield "empirical_standard_error", spread, spread / np.sqrt(2.0 * (n - 1))
    # Morris et al.: the Monte Carlo error of the root mean square by the delta method.
    model_error = method.variance.error / (2.0 * model) if model else 0.0
    yield "mean_standard_error", model, model_error
    if spread and model:
        both = np.sqrt((model_error / model) ** 2 + 1.0 / (2.0 * (n - 1)))
        yield "relative_error", model / spread - 1.0, model / spread * both


# ---------------------------------------------------------------- second pass


@dataclass(slots=True)
class _Counts:
    """What is counted about one comparison once its mean and the true value are known."""

    truth: Truth
    estimate: Moments
    edges: FloatArray
    histogram: NDArray[np.int64]
    covered: NDArray[np.int64]
    """Intervals that hold the true value less its error, itself, and with its error added."""

    covered_mean: int = 0
    squared: Moments = NOTHING
    """Of the squared distance from the true value."""


class Accuracy:
    """Bias, coverage and the distribution of estimates about the true value.

    Parameters
    ----------
    tally : Tally
        After the first pass.
    truths : mapping
        True value of each comparison that has one. Comparisons without, or
        with one that is not finite, are left out.
    """

    def __init__(self, tally: Tally, truths: Mapping[Key, Truth]) -> None:
        self._counts: dict[Key, _Counts] = {}
        for key, moments in tally.estimates().items():
            truth = truths.get(key)
            if truth is None or not np.isfinite(truth.value) or moments.n < 2:
                continue
            reach = SPREAD * moments.standard_deviation
            edges = np.linspace(moments.mean - reach, moments.mean + reach, BINS + 1)
            none = np.zeros(3, dtype=np.int64)
            self._counts[key] = _Counts(truth, moments, edges, np.zeros(BINS, dtype=np.int64), none)

    def add(self, key: Key, estimate: FloatArray, standard_error: FloatArray) -> None:
        """Add a chunk of replicates of one comparison."""
        counts = self._counts.get(key)
        if counts is None:
            return
        usable = _usable(estimate, standard_error)
        estimate, half = estimate[usable], NORMAL_975 * standard_error[usable]
        value, error = counts.truth.value, counts.truth.error
        for i, place in enumerate((value - error, value, value + error)):
            counts.covered[i] += np.count_nonzero(np.abs(estimate - place) <= half)
        counts.covered_mean += int(
            np.count_nonzero(np.abs(estimate - counts.estimate.mean) <= half)
        )
        counts.squared = counts.squared.merge(Moments.of((estimate - value) ** 2))
        # What lies beyond the bins is in the first or the last.
        inner = counts.edges[1:-1]
        counts.histogram += np.bincount(np.searchsorted(inner, estimate), minlength=BINS)

    def rows(self, key: Key) -> Iterator[Row]:
        """Measures of one comparison; none where it has no true value."""
        counts = self._counts.get(key)
        if counts is None:
            return
        n, own = counts.estimate.n, counts.truth.error
        bias = counts.estimate.mean - counts.truth.value
        yield "estimand", counts.truth.value, own
        error = float(np.hypot(counts.estimate.error, own))
        yield "bias", bias, error
        spread = counts.estimate.standard_deviation
        if spread:
            # By the delta method, mean and standard deviation being next to independent.
            ratio = bias / spread
            both = float(np.hypot(error / spread, ratio / np.sqrt(2.0 * (n - 1))))
            yield "standardised_bias", ratio, both
        yield (
            "mean_squared_error",
            counts.squared.mean,
            float(np.hypot(counts.squared.error, 2.0 * bias * own)),
        )
        low, at, high = (int(count) for count in counts.covered)
        share, error = proportion(at, n)
        yield "coverage", share, float(np.hypot(error, (high - low) / (2.0 * n)))
        yield "bias_eliminated_coverage", *proportion(counts.covered_mean, n)

    def histograms(self) -> Iterator[tuple[Key, FloatArray, NDArray[np.int64]]]:
        """Edges of the bins and replicates in each, for every comparison with a true value."""
        for key, counts in self._counts.items():
            yield key, counts.edges, counts.histogram


# ---------------------------------------------------------------- tables


def operating_table(tally: Tally, accuracy: Accuracy | None = None) -> pd.DataFrame:
    """Every performance measure of a trial with its Monte Carlo error.

    Returns
    -------
    DataFrame
        Columns cut, arm, endpoint, method, measure, estimate, mc_error,
        n_replicates. Measures of a cut: `date` with its standard deviation and
        quantiles, `enrolled`, `screened` where patients are, `target_reached`,
        and `events` of each endpoint. Measures of a method: `power` (share of
        p-values at most alpha; the type I error where the arms do not differ),
        `mean_estimate`, `empirical_standard_error`, `mean_standard_error` (the
        root of the mean squared standard error) and its `relative_error`
        against the empirical one; where the true value is known `estimand`,
        `bias`, `standardised_bias` (in empirical standard errors),
        `mean_squared_error`, `coverage` of the 95 % interval, and
        `bias_eliminated_coverage`, of the mean estimate. Replicates without a
        finite estimate are left out of these and counted in `not_estimable`.

    Notes
    -----
    The error of the true value is part of the Monte Carlo error of bias, mean
    squared error and coverage.
    """
    return pd.DataFrame(operating_rows(tally, accuracy), columns=list(COLUMNS))


def operating_rows(tally: Tally, accuracy: Accuracy | None = None) -> list[tuple[Any, ...]]:
    """Rows of `operating_table` as they are, cut after cut: what belongs to none comes first."""
    n = tally.n_replicates
    rows = [(cut, "", endpoint, "", *row, n) for cut, endpoint, row in tally.cut_rows()]
    rows += [(*key, *row, n) for key, row in tally.method_rows(accuracy)]
    order = {name: i for i, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    return sorted(rows, key=lambda row: order[row[0]])


def estimate_table(accuracy: Accuracy) -> pd.DataFrame:
    """Distribution of the estimates over replicates.

    Returns
    -------
    DataFrame
        Columns cut, arm, endpoint, method, lower, upper, replicates. The first
        and the last bin of a comparison also hold what lies beyond them.
    """
    rows = [
        (*key, edges[i], edges[i + 1], int(count))
        for key, edges, histogram in accuracy.histograms()
        for i, count in enumerate(histogram)
    ]
    names = ["cut", "arm", "endpoint", "method", "lower", "upper", "replicates"]
    return pd.DataFrame(rows, columns=names)


def summarise(
    cuts: Mapping[str, CutResults], alpha: float, truths: Mapping[Key, Truth] | None = None
) -> pd.DataFrame:
    """Operating characteristics of replicates that are all at hand.

    Parameters
    ----------
    cuts : mapping
        Results by the name of the cut.
    alpha : float
        One-sided level of every comparison.
    truths : mapping, optional
        True value of each comparison that has one.

    Returns
    -------
    DataFrame
        As `operating_table`, to the byte what streaming the same replicates gives.
    """
    tally = Tally(alpha)
    for chunk in chunks_of(cuts):
        tally.add(chunk)
    accuracy = Accuracy(tally, truths or {})
    accuracy_of(accuracy, chunks_of(cuts))
    return operating_table(tally, accuracy)


def accuracy_of(accuracy: Accuracy, chunks: Iterable[Mapping[str, CutResults]]) -> Accuracy:
    """Add chunks of every comparison."""
    for chunk in chunks:
        for cut, *own in comparison_keys(chunk):
            arm, endpoint, method = own
            found = chunk[cut].methods[arm, endpoint, method]
            accuracy.add((cut, arm, endpoint, method), found.estimate, found.standard_error)
    return accuracy


def _usable(estimate: FloatArray, standard_error: FloatArray) -> NDArray[np.bool_]:
    return np.isfinite(estimate) & np.isfinite(standard_error)


def proportion(count: int, n: int) -> tuple[float, float]:
    """A share and its Monte Carlo error."""
    share = count / n
    return share, float(np.sqrt(share * (1.0 - share) / n))


def _standard_deviation(values: FloatArray, moments: Moments) -> tuple[float, float]:
    """A standard deviation and its error, which needs no normal distribution."""
    spread = moments.standard_deviation
    squares = Moments.of((values - moments.mean) ** 2)
    return spread, squares.error / (2.0 * spread) if spread else 0.0


def _quantile(ordered: FloatArray, level: float) -> tuple[float, float]:
    """A quantile and its error, half the way between those an error of its level apart."""
    step = np.sqrt(level * (1.0 - level) / len(ordered))
    levels = np.clip([level, level - step, level + step], 0.0, 1.0)
    at, low, high = (float(value) for value in np.quantile(ordered, levels))
    return at, (high - low) / 2.0
