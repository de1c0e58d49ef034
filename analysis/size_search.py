"""How large a trial must be: the size at which its simulated power crosses a target.

Power at a size is known only as the share of simulated trials that reject. Its
probit is nearly a straight line in the square root of the number of patients or
events, as it is for a test whose statistic is normal with a mean that grows so
[1]_. The crossing is found in three steps:

1. *A start.* The median normal score of a pilot, taken to grow with the square
   root of the size, says where the target would be met.
2. *A scan.* The same trials are conducted at sizes around it, which moves until
   power crosses the target within it. As the trials share their patients, the
   slope of power (and its change over the scan) is known far better than power itself.
3. *Many trials at one size*, the nearest to the crossing, and from there one step
   along the slope. Trials are added until the interval is as narrow as asked.

The error of the crossing is that of the power at the one size, that of the slope
times the length of the step, and their covariance: each trial of the scan is also
one of the many. All three are sums over trials of what each contributes (the delta
method), so nothing is assumed about how alike a trial is at two sizes.

Nothing here simulates: p-values of trials are asked for by size.

References
----------
.. [1] Schoenfeld (1983), Biometrics 39:499-503, on the events that a log-rank test needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, inf, log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Conduct", "Question", "Sizes", "Solution", "Unsolved", "power_of", "solve"]

FloatArray = NDArray[np.float64]

Conduct = Callable[[Mapping[float, range]], Mapping[float, FloatArray]]
"""From the replicates wanted at each size to their p-values."""

NORMAL_975 = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""

SCAN = tuple(1.12**k for k in range(-3, 4))
"""Sizes of a scan, as multiples of its middle."""

NEAR = 1.2
"""A scan whose middle is within this factor of the crossing need not be moved."""

WINDOW = 1.5
"""Sizes within this factor of the crossing give the slope of power there."""

ENOUGH = 5
"""Sizes from which a bend is told besides the slope."""

FIRST = 4
"""Replicates at the one size to begin with, as a multiple of those of the scan."""

BEYOND = (1.5, 2.0)
"""Multiples of the answer at which it is seen whether power holds."""

NEARBY = 0.03
"""Share of a size by which another may be taken for it at which less is rounded."""

FAR = 0.2
"""Share of the variance that the step along the slope may bring before it is shortened."""

CLEAR = 5.0
"""Standard errors by which the slope must be above 0 before it is divided by."""

SURE = 3.0
"""Standard errors by which two powers must differ for it to be said that they do."""

MOST_SCANNED = 32
"""Replicates of a scan, as a multiple of those it begins with, after which a slope is given up."""

ROUNDS = 30
"""Scans, at most."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which sizes can be run.

    Examples
    --------
    >>> patients = Sizes(least=6, most=1000, step=3)
    >>> patients.up(97.5), patients.near(97.4), patients.up(1e6)
    (99, 96, 999)
    """

    least: float
    most: float
    step: float
    unit: str = "patients"
    straight_in_root: bool = True
    """Whether the probit of power is straight in the square root of the size, or in the size."""

    departure: Callable[[float], float] | None = None
    """By how much, as a share, what goes along with a size is rounded there: events, for patients.

    A few more events are more power, so that power over size is a staircase of uneven
    steps; only sizes at which little is rounded lie on the line that is looked for.
    """

    def up(self, size: float) -> float:
        """The smallest that is no smaller, within `least` and `most`."""
        return self._at(ceil(round(size / self.step, 9)))

    def near(self, size: float) -> float:
        """The nearest, or one close by at which less is rounded."""
        middle = round(size / self.step)
        if self.departure is None:
            return self._at(middle)
        departure, reach = self.departure, max(round(NEARBY * middle), 2)
        close = {self._at(steps) for steps in range(middle - reach, middle + reach + 1)}
        return min(close, key=lambda one: (round(departure(one), 3), abs(one - size), one))

    def _at(self, steps: int) -> float:
        first, last = ceil(round(self.least / self.step, 9)), floor(round(self.most / self.step, 9))
        return round(min(max(steps, first), last) * self.step, 9)

    def x(self, size: float) -> float:
        """The scale on which the probit of power is straight."""
        return sqrt(size) if self.straight_in_root else size

    def size(self, x: float) -> float:
        """Back from that scale."""
        x = max(x, 0.0)
        return x * x if self.straight_in_root else x


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for."""

    target: float
    """Power."""

    alpha: float
    sizes: Sizes
    width: float = 0.02
    """Of the 95 % interval of the crossing, as a share of it."""

    scanned: int = 1000
    """Replicates at each size of a scan."""

    at_most: int = 1_000_000
    """Replicates at a size."""

    grain: int = 1
    """Replicates that are made together."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A size that has the power, and how well it is known."""

    size: float
    """The smallest that can be run and is not below the crossing."""

    crossing: float
    """Where power is the target; `lower` and `upper` are its 95 % interval."""

    lower: float
    upper: float
    power: float
    """At `size`."""

    power_error: float
    """Its Monte Carlo error."""

    centre: float
    """The one size at which most replicates were made."""

    n_replicates: int
    """There."""

    precise: bool
    """Whether the interval is as narrow as was asked."""

    tried: pd.DataFrame
    """size, power, mc_error, n_replicates."""

    curve: pd.DataFrame
    """What was fitted, as size, power, lower, upper."""

    falls_at: float | None
    """A larger size at which power is below the target again, where one was met."""


@dataclass(frozen=True, slots=True)
class Unsolved:
    """Why there is no such size, in words, and the sizes that were tried."""

    reason: str
    tried: pd.DataFrame


@dataclass(frozen=True, slots=True)
class _Fit:
    """Probit of power about one size, as level, slope and bend, with their covariance."""

    x: float
    """Of the one size."""

    level: float
    slope: float
    bend: float
    covariance: FloatArray
    """(3, 3)."""

    @property
    def clear(self) -> bool:
        """Whether the slope is so far above 0 that it may be divided by."""
        return self.slope > CLEAR * sqrt(float(self.covariance[1, 1]))

    def step(self, probit: float) -> float:
        """How far from the one size a value is met."""
        gap = probit - self.level
        inside = self.slope**2 + 4.0 * self.bend * gap
        # Without a crossing, as far as the tangent says: the next fit is nearer to it.
        return 2.0 * gap / (self.slope + sqrt(inside)) if inside > 0.0 else gap / self.slope

    def crossing(self, probit: float) -> tuple[float, float]:
        """Where a value is met, and the standard error of that place."""
        step = self.step(probit)
        slope = max(self.slope + 2.0 * self.bend * step, 0.1 * self.slope)
        return self.x + step, sqrt(self.variance(step)) / slope

    def at(self, x: float) -> tuple[float, float]:
        """Value and standard error at a place."""
        step = x - self.x
        value = self.level + (self.slope + self.bend * step) * step
        return value, sqrt(self.variance(step))

    def variance(self, step: float) -> float:
        """Of the value at a distance from the one size."""
        weights = (1.0, step, step * step)
        total = sum(
            u * v * self.covariance[i, j]
            for i, u in enumerate(weights)
            for j, v in enumerate(weights)
        )
        return max(float(total), 0.0)


@dataclass(frozen=True, slots=True)
class _Crossing:
    """Where a fit has the power that is asked for."""

    x: float
    error: float
    """Standard error of `x`."""

    size: float
    lower: float
    upper: float

    @property
    def width(self) -> float:
        """Of the 95 % interval, as a share of the size."""
        return (self.upper - self.lower) / self.size if self.size > 0.0 else inf


def solve(question: Question, conduct: Conduct, start: float) -> Solution | Unsolved:
    """Find the smallest size whose power is the target.

    Where power is not monotone, it is the first crossing from below among the
    sizes that are tried.

    Parameters
    ----------
    question : Question
        What is asked for.
    conduct : callable
        Given replicates by size, gives their p-values. A replicate of the same
        number should share what it can at all sizes.
    start : float
        A size to begin with.

    Returns
    -------
    Solution or Unsolved
    """
    search = _Search(question, conduct)
    guess = search.locate(search.guess(question.sizes.near(start)))
    if isinstance(guess, str):
        return Unsolved(guess, search.tried())
    return search.refine(guess)


def power_of(p_values: FloatArray, alpha: float) -> tuple[float, float]:
    """Share of trials that reject, and its Monte Carlo error."""
    power = float(np.mean(p_values <= alpha))
    return power, sqrt(power * (1.0 - power) / len(p_values))


@dataclass(slots=True)
class _Search:
    """The trials that have been conducted so far, and what is asked of them."""

    question: Question
    conduct: Conduct
    seen: dict[float, FloatArray] = field(default_factory=dict)
    """p-values of the first replicates at each size."""

    def ask(self, wanted: Iterable[float], n_replicates: int) -> None:
        """Have so many replicates at each of some sizes, at least."""
        n_replicates = min(n_replicates, self.question.at_most)
        made = {size: len(self.seen.get(size, ())) for size in sorted(set(wanted))}
        new = {size: range(n, n_replicates) for size, n in made.items() if n < n_replicates}
        for size, p_values in self.conduct(new).items() if new else ():
            assert len(p_values) == len(new[size])
            self.seen[size] = np.concatenate([self.seen.get(size, np.empty(0)), p_values])

    def power(self, size: float) -> float:
        """Share of rejections at a size."""
        return float(np.mean(self.seen[size] <= self.question.alpha))

    # ------------------------------------------------------------ where about

    def guess(self, start: float) -> float:
        """Where the target would be met if the median score grew with the root of the size."""
        from scipy.special import ndtri

        sizes, question = self.question.sizes, self.question
        if not sizes.straight_in_root:
            return start
        self.ask([start], question.scanned)
        p_values = np.nan_to_num(self.seen[start], nan=1.0)
        score = float(np.median(-ndtri(np.clip(p_values, 1e-300, 1.0 - 1e-16))))
        needed = float(ndtri(question.target) - ndtri(question.alpha))
        ratio = needed / max(score, 1e-6)
        return sizes.near(min(start * ratio * ratio, sizes.most))

    def locate(self, guess: float) -> float | str:
        """Scan around a guess, and again, until power crosses the target in the middle of it."""
        sizes = self.question.sizes
        for _ in range(ROUNDS):
            self.ask({sizes.near(guess * ratio) for ratio in SCAN}, self.question.scanned)
            found = self.cross()
            if isinstance(found, str) or abs(log(found / guess)) < log(NEAR):
                return found
            guess = found
        return found

    def cross(self) -> float | str:
        """The first crossing from below among the sizes tried, going on until there is one."""
        sizes, target = self.question.sizes, self.question.target
        while True:
            tried = sorted(self.seen)
            lowest, highest = tried[0], tried[-1]
            power = {size: self.power(size) for size in tried}
            for below, above in pairwise(tried):
                if power[below] < target <= power[above] and power[lowest] < target:
                    return self.between(below, above)
            if power[lowest] >= target and lowest > sizes.up(sizes.least):
                half = sizes.near(lowest / 2.0)
                lower = half if half < lowest else sizes.up(sizes.least)
                self.ask([lower], self.question.scanned)
            elif power[lowest] >= target:
                return self.already(lowest)
            elif highest < sizes.near(sizes.most):
                self.ask([sizes.near(highest * 2.0)], self.question.scanned)
            elif around := self.around_the_largest(highest):
                self.ask(around, self.question.scanned)
            else:
                return self.never(highest)

    def around_the_largest(self, highest: float) -> set[float]:
        """Sizes not yet tried next to that of the largest power, if power falls beyond it."""
        best = max(self.seen, key=self.power)
        if not self.falls(best, highest):
            return set()
        return {self.question.sizes.near(best * ratio) for ratio in SCAN} - self.seen.keys()

    def falls(self, size: float, larger: float) -> bool:
        """Whether the power at a larger size is clearly smaller, in the same trials."""
        n = min(len(self.seen[size]), len(self.seen[larger]))
        here, there = (self.seen[s][:n] <= self.question.alpha for s in (size, larger))
        loss = here * 1.0 - there
        return bool(np.mean(loss) > SURE * np.std(loss) / sqrt(n))

    def between(self, below: float, above: float) -> float:
        """Where a line through the powers at two sizes crosses the target."""
        from scipy.special import ndtri

        sizes = self.question.sizes
        low, high = (float(ndtri(self.smoothed(self.seen[size]))) for size in (below, above))
        share = (float(ndtri(self.question.target)) - low) / (high - low) if high > low else 0.5
        ends = sizes.x(below), sizes.x(above)
        return sizes.size(ends[0] + min(max(share, 0.0), 1.0) * (ends[1] - ends[0]))

    def smoothed(self, p_values: FloatArray) -> float:
        """Power kept from 0 and 1, whose probits are infinite."""
        count = int(np.count_nonzero(p_values <= self.question.alpha))
        return (count + 0.5) / (len(p_values) + 1.0)

    # ------------------------------------------------------------ where exactly

    def refine(self, guess: float) -> Solution | Unsolved:
        """Add replicates next to the crossing until it is known as well as is asked."""
        question, sizes = self.question, self.question.sizes
        centre, scanned = sizes.near(guess), question.scanned
        wanted, centres = self.whole(FIRST * question.scanned), {centre}
        while True:
            self.ask([centre], wanted)
            fit = self.fit(centre, scanned)
            if fit is None or not fit.clear:
                if scanned >= self.whole(MOST_SCANNED * question.scanned):
                    return Unsolved(self.flat(centre), self.tried())
                scanned = self.whole(4 * scanned)
                continue
            crossing = self.crossing(fit)
            if crossing.width <= question.width or wanted >= question.at_most:
                return self.solution(fit, centre, crossing)
            # What the variance of level and step must come down to for the width.
            level, whole = fit.variance(0.0), fit.variance(crossing.x - fit.x)
            allowed = whole * (question.width / crossing.width) ** 2
            of_slope = whole - level
            if of_slope > FAR * allowed:
                # The slope brings too much: a longer scan or a shorter step, whichever costs less.
                nearest = sizes.near(crossing.size)
                if scanned * len(self.around(centre)) < wanted:
                    scanned = self.whole(2 * scanned)
                    continue
                if nearest not in centres:
                    centre = nearest
                    centres.add(centre)
                    continue
            room = max(allowed - of_slope, 0.5 * allowed)
            wanted = self.whole(max(1.02 * wanted * level / room, 1.1 * wanted))

    def crossing(self, fit: _Fit) -> _Crossing:
        """Where a fit has the power that is asked for."""
        from scipy.special import ndtri

        x, error = fit.crossing(float(ndtri(self.question.target)))
        at = self.question.sizes.size
        return _Crossing(x, error, at(x), at(x - NORMAL_975 * error), at(x + NORMAL_975 * error))

    def whole(self, n_replicates: float) -> int:
        """So many replicates, as they are made together, or all that may be made."""
        grain = self.question.grain
        return min(grain * ceil(n_replicates / grain), self.question.at_most)

    def fit(self, centre: float, scanned: int) -> _Fit | None:
        """The level at one size, and slope and bend from the scan around it."""
        from scipy.special import ndtri

        sizes, near = self.question.sizes, self.around(centre)
        if len(near) < 2:
            return None
        self.ask(near, scanned)
        step = np.array([sizes.x(size) - sizes.x(centre) for size in near])
        smooth = np.array([self.smoothed(self.seen[size][:scanned]) for size in near])
        probits = ndtri(smooth)
        weight = _density(probits) ** 2 / (smooth * (1.0 - smooth))
        rows = np.zeros((2, len(near)))
        shape = _least_squares(step, weight)
        rows[: len(shape)] = shape
        # What each trial adds to the slope and the bend, and to the level at the one size.
        parts = np.zeros((3, max(scanned, len(self.seen[centre]))))
        for row, size in zip(rows.T, near, strict=True):
            parts[1:, :scanned] += row[:, None] * self.contribution(self.seen[size][:scanned])
        parts[0, : len(self.seen[centre])] = self.contribution(self.seen[centre])
        slope, bend = (float(np.sum(row * probits)) for row in rows)
        return _Fit(
            x=sizes.x(centre),
            level=float(ndtri(self.smoothed(self.seen[centre]))),
            slope=slope,
            bend=bend,
            covariance=np.array([[np.sum(one * other) for other in parts] for one in parts]),
        )

    def around(self, centre: float) -> list[float]:
        """Sizes tried near one, as far as power does not clearly fall from one to the next."""
        near = sorted(s for s in self.seen if centre / WINDOW <= s <= centre * WINDOW)
        first = last = near.index(centre)
        while first > 0 and not self.falls(near[first - 1], centre):
            first -= 1
        best = centre
        while last + 1 < len(near) and not self.falls(best, near[last + 1]):
            last += 1
            best = max(best, near[last], key=self.power)
        return near[first : last + 1]

    def contribution(self, p_values: FloatArray) -> FloatArray:
        """What each trial adds to the probit of power, about its mean."""
        from scipy.special import ndtri

        rejected = p_values <= self.question.alpha
        density = _density(ndtri(self.smoothed(p_values)))
        return (rejected - np.mean(rejected)) / (density * len(p_values))

    def solution(self, fit: _Fit, centre: float, crossing: _Crossing) -> Solution | Unsolved:
        """What was found, rounded up to what can be run."""
        from scipy.special import ndtr

        question, sizes = self.question, self.question.sizes
        size = sizes.up(crossing.size)
        if size < crossing.size - 1e-9 * sizes.step:
            return Unsolved(self.never(size), self.tried())
        self.ask({sizes.near(size * ratio) for ratio in BEYOND}, question.scanned)
        probit, error = fit.at(sizes.x(size))
        falls = [
            other
            for other in sorted(self.seen)
            if other > size and self.differs(other, question.target) < -SURE
        ]
        return Solution(
            size=size,
            crossing=crossing.size,
            lower=crossing.lower,
            upper=crossing.upper,
            power=float(ndtr(probit)),
            power_error=error * float(_density(np.float64(probit))),
            centre=centre,
            n_replicates=len(self.seen[centre]),
            precise=crossing.width <= question.width,
            tried=self.tried(),
            curve=self.curve(fit, centre),
            falls_at=falls[0] if falls else None,
        )

    def curve(self, fit: _Fit, centre: float) -> pd.DataFrame:
        """The fit with its 95 % band, over the sizes that gave its slope."""
        from scipy.special import ndtr

        sizes = self.question.sizes
        near = self.around(centre)
        rows = []
        for size in np.linspace(min(near), max(near), 61).tolist():
            probit, error = fit.at(sizes.x(size))
            band = [float(ndtr(probit + k * NORMAL_975 * error)) for k in (0.0, -1.0, 1.0)]
            rows.append((size, *band))
        return pd.DataFrame(rows, columns=["size", "power", "lower", "upper"])

    # ------------------------------------------------------------ in words

    def tried(self) -> pd.DataFrame:
        """Every size with its power."""
        rows = [
            (size, *power_of(self.seen[size], self.question.alpha), len(self.seen[size]))
            for size in sorted(self.seen)
        ]
        return pd.DataFrame(rows, columns=["size", "power", "mc_error", "n_replicates"])

    def differs(self, size: float, power: float) -> float:
        """By how many errors the power at a size is above another, of the other's error."""
        n = len(self.seen[size])
        return (self.power(size) - power) / sqrt(power * (1.0 - power) / n)

    def told(self, size: float) -> str:
        power, error = power_of(self.seen[size], self.question.alpha)
        return f"{power:.3g} ({error:.2g})"

    def already(self, size: float) -> str:
        """The smallest size has more power than is asked for."""
        return (
            f"{size:g} {self.question.sizes.unit}, the least that is tried, already have a power "
            f"of {self.told(size)}, of which {self.question.target:g} is asked"
        )

    def never(self, most: float) -> str:
        """No size has as much power as is asked for."""
        question = self.question
        start = (
            f"no number of {question.sizes.unit} up to {most:g} reaches a power of "
            f"{question.target:g}: "
        )
        best = max(self.seen, key=self.power)
        half = max((s for s in self.seen if s <= 0.6 * most), default=most)
        if self.falls(best, most):
            return f"{start}it is largest at {best:g}, {self.told(best)}"
        if all(abs(self.differs(size, question.alpha)) < SURE for size in (half, most)):
            return f"{start}it stays at the level of {question.alpha:g}, {self.told(most)} there"
        if half < most and not self.falls(most, half):
            return f"{start}it levels off at {self.told(most)}"
        return f"{start}it is {self.told(most)} there"

    def flat(self, centre: float) -> str:
        """Power hardly hangs on the size where it is near the target."""
        return (
            f"power hardly changes with the number of {self.question.sizes.unit} near {centre:g}, "
            f"where it is {self.told(centre)}: no size can be told for {self.question.target:g}"
        )


def _density(x: FloatArray | np.float64) -> FloatArray:
    """Of the standard normal distribution."""
    return np.asarray(np.exp(-0.5 * np.square(x)) / np.sqrt(2.0 * np.pi))


def _least_squares(step: FloatArray, weight: FloatArray) -> FloatArray:
    """Weights of values in the slope, and in the bend where there are enough, of a fit at 0.

    Returns
    -------
    ndarray, shape (1 or 2, J)
    """
    powers = 3 if len(step) >= ENOUGH else 2
    scale = float(np.max(np.abs(step)))
    design = (step / scale)[:, None] ** np.arange(powers)
    weighted = design.T * weight
    found = np.linalg.solve(weighted @ design, weighted)[1:]
    return np.asarray(found / scale ** np.arange(1, powers)[:, None])
