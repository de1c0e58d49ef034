"""Samples of two arms and their tables at risk, for all replicates at once.

Every comparison of survival is a sum over event times of what was at risk and
what happened, in each arm. This module turns times, events and arms into those
tables: a packed key for each patient, one sort, one cumulative sum. It knows no
test.

Conventions
-----------
Times are whole ticks, up to `MAX_TICK`; ties are ties of ticks, and events come
before censorings at the same tick. A patient who is not in the sample (not yet
entered at a cut) has tick 0, no event, and is never at risk. Arm 1 is the
experimental one. Shapes are ``(R, N)``: replicate, and patient in order of time.

There are two kernels with one contract (`Table`). Where no two events of a
replicate tie, `DenseTable` has a column for each patient, and the number at
risk is the number of columns that are left. Otherwise `RaggedTable` has a row
for each distinct time of each replicate. Comparisons say what they want of a
table, and `Sample.gather` asks whichever a replicate is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.scan import neighbours, sum_from, sum_rows, survival_after, survival_before

__all__ = [
    "MAX_TICK", "Arm", "DenseTable", "RaggedTable", "Sample", "Sums", "Table", "pack", "rank_ticks",
]  # fmt: skip

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]
CountArray = NDArray[np.int64]
KeyArray = NDArray[np.uint32]

MAX_TICK = 2**30 - 1
"""Latest tick that a key can hold: 1024 months of 2**20 ticks."""

_CENSORED, _ARM = 2, 1  # bits of a key below the tick
_SECOND = np.uint32(2**31)
_LOG_UNIT = 2.0**-57
"""One unit of logarithms of survival: their sums stay above -log N, and 64 bits hold 64."""

_MOST_PATIENTS = 2**21 - 1
"""Counts of a `RaggedTable` share a word of 64 bits, 21 each."""


def pack(tick: NDArray[np.uint32], event: BoolArray, arm: BoolArray) -> KeyArray:
    """Keys of 32 bits whose order is that of (tick, censored after events, arm).

    Parameters
    ----------
    tick : ndarray of uint32, shape (R, N)
        Follow-up, at most `MAX_TICK`; 0 for a patient who is not in the sample.
    event : ndarray of bool, shape (R, N)
        Whether follow-up ended with the event; False where `tick` is 0.
    arm : ndarray of bool, shape (R, N)
        True in the experimental arm.

    Returns
    -------
    ndarray of uint32, shape (R, N)
    """
    flag = (~event).view(np.uint8)
    flag += flag
    flag |= arm
    key = np.left_shift(tick, 2)
    key |= flag
    return key


def rank_ticks(time: FloatArray) -> tuple[NDArray[np.uint32], FloatArray]:
    """Exact ticks for times of any size: their ranks, and the times by rank.

    Returns
    -------
    tick : ndarray of uint32
        1 for the smallest time, equal for equal times.
    months : ndarray
        Time of each tick, with 0.0 at index 0.

    Examples
    --------
    >>> tick, months = rank_ticks(np.array([2.5, 1.0, 2.5]))
    >>> tick.tolist(), months.tolist()
    ([2, 1, 2], [0.0, 1.0, 2.5])
    """
    values, rank = np.unique(time, return_inverse=True)
    return (rank.reshape(time.shape) + 1).astype(np.uint32), np.concatenate([[0.0], values])


@dataclass(frozen=True)
class Sample:
    """Two arms of every replicate, sorted by time.

    What is derived from the keys is computed when it is first asked for and
    kept, so that several comparisons of one sample share it.

    Examples
    --------
    >>> tick = np.array([[3, 1, 2]], dtype=np.uint32)
    >>> event, arm = np.array([[True, True, False]]), np.array([[True, False, True]])
    >>> Sample.of(pack(tick, event, arm), months=0.5).time.tolist()
    [[0.5, 1.0, 1.5]]
    """

    made: KeyArray
    """Keys as they were made, (R, N)."""

    months: FloatArray | float
    """Time of each tick: an array to look up, or the length of a tick."""

    ordered: bool = False
    """Whether the keys are sorted already."""

    @classmethod
    def of(cls, key: KeyArray, months: FloatArray | float) -> Sample:
        """The sample of unsorted keys; they are sorted when something asks for it.

        An event at tick 0, where nobody is at risk, is refused then with a ValueError.
        """
        # Replicates side by side in memory, however the patients were made.
        return cls(np.ascontiguousarray(key), months)

    @cached_property
    def key(self) -> KeyArray:
        """Keys in order, (R, N)."""
        if self.ordered:
            return self.made
        key = np.sort(self.made, axis=1)
        _check_start(key[:, 0] < _CENSORED)
        return key

    @cached_property
    def tick(self) -> NDArray[np.uint32]:
        """Ticks in order, (R, N)."""
        return np.right_shift(self.key, 2)

    @cached_property
    def time(self) -> FloatArray:
        """Times in order, (R, N)."""
        return _time(self.tick, self.months)

    @cached_property
    def event(self) -> BoolArray:
        """Events in the order of time, (R, N)."""
        return (self.key & _CENSORED) == 0

    @cached_property
    def arm(self) -> BoolArray:
        """Experimental arm in the order of time, (R, N)."""
        return (self.key & _ARM) == 1

    @cached_property
    def tied(self) -> BoolArray:
        """Replicates in which two events fall on the same tick, (R,)."""
        # Neighbours that differ in the arm at most; few, so that few rows need a second look.
        apart = neighbours(np.bitwise_xor, self.key)
        apart[:, -1] = _CENSORED
        tied = apart.min(axis=1, initial=_CENSORED) <= _ARM
        rows = np.flatnonzero(tied)
        if rows.size:
            same = apart[rows] <= _ARM
            same &= (self.key[rows] & _CENSORED) == 0
            tied[rows] = same.any(axis=1)
        return np.asarray(tied)

    @cached_property
    def tables(self) -> tuple[tuple[IndexArray, Table], ...]:
        """Tables at risk, each with its replicates: dense for some, ragged where events tie."""
        tied = self.tied
        if not tied.any() or tied.all():
            # Of a sample of its own: with this one, the two would hold each other, and all
            # their arrays would wait for the collector of cycles.
            own = Sample(self.key, self.months, ordered=True)
            return ((np.arange(len(tied)), RaggedTable(own) if tied.any() else DenseTable(own)),)
        # Each replicate has the kernel of its own kind, whatever stands beside it.
        apart = [
            (rows, kind, Sample(self.key[rows], self.months, ordered=True))
            for rows, kind in (
                (np.flatnonzero(~tied), DenseTable),
                (np.flatnonzero(tied), RaggedTable),
            )
        ]
        return tuple((rows, kind(sample)) for rows, kind, sample in apart)

    def gather(self, measure: Callable[[Table], tuple[FloatArray, ...]]) -> tuple[FloatArray, ...]:
        """Arrays with one entry (or row) for each replicate, whichever table it is in.

        Parameters
        ----------
        measure : callable
            From a table to arrays whose first axis is its replicates.
        """
        tables = self.tables
        if len(tables) == 1:
            return measure(tables[0][1])
        whole: list[FloatArray] = []
        for rows, table in tables:
            for i, values in enumerate(measure(table)):
                if i == len(whole):
                    whole.append(np.empty((len(self.key), *values.shape[1:])))
                whole[i][rows] = values
        return tuple(whole)

    @cached_property
    def arms(self) -> tuple[Arm, Arm]:
        """The control and the experimental arm, each sorted by time."""
        # The arm becomes the highest bit: one sort parts the arms and keeps each in order.
        key = np.right_shift(self.made, 1)
        key |= np.left_shift(self.made, 31)
        _check_start(self.made < _CENSORED)
        key.sort(axis=1)
        cut = int(np.searchsorted(key[0], _SECOND)) if len(key) else 0
        one_size = (
            0 < cut < key.shape[1]
            and np.all(key[:, cut - 1] < _SECOND)
            and np.all(key[:, cut] >= _SECOND)
        )
        if one_size:
            key &= _SECOND - np.uint32(1)
            return _split_arms(key, cut, self.months, None)
        # Arms whose size differs over replicates: the others stay, at tick 0, never at risk.
        mine = [~self.arm, self.arm]
        parts = [np.where(who, self.key >> 1, np.uint32(0)) for who in mine]
        key = np.concatenate([np.sort(part, axis=1) for part in parts], axis=1)
        leads = [np.count_nonzero(~who, axis=1) for who in mine]
        return _split_arms(key | (key == 0), key.shape[1] // 2, self.months, leads)


def _check_start(early: BoolArray) -> None:
    if early.any():
        raise ValueError("an event at tick 0: ticks count from 1, and 0 is not in the sample")


def _time(tick: NDArray[np.uint32], months: FloatArray | float) -> FloatArray:
    if isinstance(months, np.ndarray):
        return np.asarray(months[tick])
    time = _to_float(tick)
    time *= months
    return time


def _to_float(count: KeyArray) -> FloatArray:
    """Whole numbers as floats; as signed ones, for which processors have an instruction."""
    return count.view(np.int32).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of every replicate, sorted by time: what curves are made of."""

    tick: NDArray[np.uint32]
    """Ticks in order, (R, n); 0 for those who are not in the sample."""

    time: FloatArray
    """Times in order, (R, n)."""

    survival: FloatArray
    """Kaplan-Meier estimate from each column on, (R, n).

    Right where time moves on; between events of one time it steps down one by one.
    """

    greenwood: FloatArray
    """Terms of Greenwood's sum: ``1 / (k (k - 1))`` for a death among k, (R, n).

    Those of d deaths at one time add up to ``d / (k (k - d))``. The death of
    the last one at risk has none: the estimate is 0 from there.
    """

    lead: IndexArray | None = None
    """Columns to the left that are not this arm's, (R,); None where there are none."""

    @property
    def empty(self) -> BoolArray:
        """Replicates in which nobody of the arm is in the sample, (R,)."""
        return self.tick[:, -1] == 0

    def first(self, values: FloatArray) -> FloatArray:
        """Values in the first column of the arm, (R,)."""
        if self.lead is None:
            return values[:, 0]
        column = np.minimum(self.lead, values.shape[1] - 1)
        return np.take_along_axis(values, column[:, None], axis=1)[:, 0]

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the columns of the arm, (R,), to the last bit whatever stands beside them."""
        if self.lead is None:
            return sum_rows(values)
        rows, n = values.shape
        # One zero behind each row: the place where an arm without columns starts and ends.
        padded = np.zeros((rows, n + 1))
        padded[:, :n] = values
        start = np.arange(rows) * (n + 1)
        bounds = np.stack([start + self.lead, start + n], axis=1).ravel()
        return np.asarray(np.add.reduceat(padded.ravel(), bounds)[::2])


def _split_arms(
    key: KeyArray, cut: int, months: FloatArray | float, leads: list[IndexArray] | None
) -> tuple[Arm, Arm]:
    """Curves of two arms that stand side by side, as ``2 tick + censored``, each sorted."""
    # Together as far as it goes: half the calls for the same numbers.
    tick = np.right_shift(key, 1)
    time = _time(tick, months)
    event = _to_float(key & np.uint32(1))
    np.subtract(1.0, event, out=event)
    sizes = (cut, key.shape[1] - cut)
    survival = survival_after(event, sizes)
    k = np.concatenate([np.arange(n, 0, -1, dtype=np.float64) for n in sizes])
    term = np.zeros(len(k))
    np.divide(1.0, k * (k - 1.0), out=term, where=k > 1.0)
    event *= term
    first, second = (
        Arm(tick[part], time[part], survival[part], event[part], leads[k] if leads else None)
        for k, part in enumerate((np.s_[:, :cut], np.s_[:, cut:]))
    )
    return first, second


class Sums:
    """Sums over what belongs to a replicate, in the shape of a kernel."""

    def total(self, values: FloatArray) -> FloatArray:
        """Sum for each replicate, (R,)."""
        raise NotImplementedError

    def dot(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Sum of products for each replicate, (R,)."""
        raise NotImplementedError

    def most(self, values: FloatArray) -> FloatArray:
        """Largest value of each replicate, (R,)."""
        raise NotImplementedError

    def spread(self, values: FloatArray) -> FloatArray:
        """One value for each replicate, (R,), in a shape that meets the fields."""
        raise NotImplementedError


class Rows(Sums):
    """Sums over arrays of shape (R, N)."""

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over columns, (R,)."""
        return sum_rows(values)

    def dot(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Sum of products over columns, (R,)."""
        return sum_rows(left * right)

    def most(self, values: FloatArray) -> FloatArray:
        """Largest over columns, (R,)."""
        return np.asarray(values.max(axis=1))

    def spread(self, values: FloatArray) -> FloatArray:
        """As a column, (R, 1)."""
        return values[:, None]


class Segments(Sums):
    """Sums over arrays of shape (G,), the entries of a replicate side by side.

    Parameters
    ----------
    replicate : ndarray of int, shape (G,)
        Replicate of each entry, ascending; each has one at least.
    """

    def __init__(self, replicate: IndexArray) -> None:
        self.replicate = replicate
        self.first = np.flatnonzero(np.diff(replicate, prepend=-1))

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the entries of each replicate, (R,)."""
        return np.asarray(np.add.reduceat(values, self.first))

    def dot(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Sum of products over the entries of each replicate, (R,)."""
        return np.asarray(np.add.reduceat(left * right, self.first))

    def most(self, values: FloatArray) -> FloatArray:
        """Largest over the entries of each replicate, (R,)."""
        return np.asarray(np.maximum.reduceat(values, self.first))

    def spread(self, values: FloatArray) -> FloatArray:
        """The replicate's value at each entry, (G,)."""
        return values[self.replicate]


class Table:
    """At risk and events at each time, and sums over the times of a replicate.

    Fields have one entry for each time, in a shape of the kernel's own; `sums`
    passes between that and (R,). Entries without events count for nothing.
    """

    sums: Sums
    """Sums over the times of each replicate."""

    @property
    def events_in_1(self) -> FloatArray:
        """Events in the experimental arm in all, (R,)."""
        raise NotImplementedError

    @property
    def at_risk(self) -> FloatArray:
        """At risk in both arms just before."""
        raise NotImplementedError

    @property
    def at_risk_1(self) -> FloatArray:
        """At risk in the experimental arm."""
        raise NotImplementedError

    @property
    def events(self) -> FloatArray:
        """Events in both arms."""
        raise NotImplementedError

    @property
    def events_1(self) -> FloatArray:
        """Events in the experimental arm."""
        raise NotImplementedError

    @property
    def time(self) -> FloatArray:
        """Months of each entry."""
        raise NotImplementedError

    @property
    def expected(self) -> FloatArray:
        """Events expected in the experimental arm, had both one hazard."""
        raise NotImplementedError

    @cached_property
    def difference(self) -> FloatArray:
        """Expected minus observed events in the experimental arm."""
        return self.expected - self.events_1

    @property
    def variance(self) -> FloatArray:
        """Hypergeometric variance of the events in the experimental arm."""
        raise NotImplementedError

    @cached_property
    def expected_in_1(self) -> FloatArray:
        """Sum of the expected events, (R,)."""
        return self.sums.total(self.expected)

    @property
    def total_variance(self) -> FloatArray:
        """Sum of the variances, (R,)."""
        return self.sums.total(self.variance)

    @property
    def survival(self) -> FloatArray:
        """Pooled Kaplan-Meier estimate just before."""
        raise NotImplementedError

    @property
    def terms(self) -> tuple[FloatArray, Sums]:
        """Share of the experimental arm at risk as each event sees it, with who adds them up.

        The terms of Efron's partial likelihood: 0 where there is no event.
        """
        raise NotImplementedError

    def columns(self, values: FloatArray) -> FloatArray:
        """A field over the columns of the sample, (R, N), 0 where there is no entry."""
        raise NotImplementedError


class DenseTable(Table):
    """A column for each patient; no two events of a replicate tie."""

    def __init__(self, sample: Sample) -> None:
        self._sample, self.sums = sample, Rows()
        n = sample.key.shape[1]
        self._left = np.arange(n, 0, -1, dtype=np.float64)[None, :]

    @cached_property
    def _arm(self) -> KeyArray:
        """1 where the column's patient is of the experimental arm, (R, N)."""
        return self._sample.key & np.uint32(_ARM)

    @cached_property
    def _fires(self) -> KeyArray:
        """All bits set where the column's patient has the event, (R, N)."""
        mask = np.right_shift(self._sample.key, 1)
        mask &= np.uint32(1)
        mask -= np.uint32(1)
        return mask

    @cached_property
    def _count_1(self) -> KeyArray:
        """At risk in the experimental arm, as whole numbers, (R, N)."""
        return sum_from(self._arm)

    @property
    def at_risk(self) -> FloatArray:
        """The number of columns left, (1, N)."""
        return self._left

    @cached_property
    def at_risk_1(self) -> FloatArray:
        """At risk in the experimental arm, (R, N)."""
        return _to_float(self._count_1)

    @cached_property
    def events(self) -> FloatArray:
        """Events, 0 or 1, (R, N)."""
        return _to_float(self._fires & np.uint32(1))

    @cached_property
    def events_1(self) -> FloatArray:
        """Events in the experimental arm, 0 or 1, (R, N)."""
        return _to_float(self._fires & self._arm)

    @cached_property
    def events_in_1(self) -> FloatArray:
        """Events in the experimental arm in all, (R,)."""
        count = np.add.reduce(self._fires & self._arm, axis=1, dtype=np.uint32)
        return count.astype(np.float64)

    @property
    def time(self) -> FloatArray:
        """Months, (R, N)."""
        return self._sample.time

    @cached_property
    def expected(self) -> FloatArray:
        """Share of the experimental arm at risk at each event, (R, N)."""
        # Masked while the counts are whole numbers, of half the size.
        share = _to_float(self._count_1 & self._fires)
        share *= 1.0 / self._left
        return share

    @cached_property
    def variance(self) -> FloatArray:
        """``p (1 - p)`` of the share p at each event, (R, N)."""
        return self.expected - self.expected * self.expected

    @property
    def total_variance(self) -> FloatArray:
        """Sum of the variances, (R,)."""
        return self.expected_in_1 - self.sums.dot(self.expected, self.expected)

    @cached_property
    def survival(self) -> FloatArray:
        """Pooled Kaplan-Meier estimate just before, (R, N)."""
        return survival_before(self.events)

    @property
    def terms(self) -> tuple[FloatArray, Sums]:
        """The shares themselves: an event sees all who are at risk."""
        return self.expected, self.sums

    def columns(self, values: FloatArray) -> FloatArray:
        """The field as it is."""
        return values


class RaggedTable(Table):
    """A row for each distinct time with events, all replicates one below the other.

    The first time of each replicate has a row in any case, so that none is
    without.
    """

    def __init__(self, sample: Sample) -> None:
        key = sample.key
        replicates, n = key.shape
        if n > _MOST_PATIENTS:
            raise ValueError(f"a sample holds at most {_MOST_PATIENTS} patients, got {n}")
        starts = np.empty((replicates, n), dtype=bool)
        starts[:, 0] = True
        np.greater(key[:, 1:] ^ key[:, :-1], _CENSORED | _ARM, out=starts[:, 1:])
        position = np.flatnonzero(starts)
        # 21 bits each: patients of the experimental arm, events, events in that arm.
        arm = (key & _ARM).astype(np.int64)
        event = ((key >> 1) & 1 ^ 1).astype(np.int64)
        word = arm + (event << 21) + ((arm & event) << 42)
        # Summed within each replicate: a sum over many would not fit its bits.
        passed = np.empty((replicates, n + 1), dtype=np.int64)
        passed[:, 0] = 0
        np.cumsum(word, axis=1, out=passed[:, 1:])
        row = position // n
        start = passed.ravel()[position + row]
        whole = passed[:, -1]
        end = np.empty_like(start)
        end[:-1] = start[1:]
        last = np.empty(len(row), dtype=bool)
        last[:-1] = row[1:] != row[:-1]
        last[-1] = True
        end[last] = whole
        low = (1 << 21) - 1
        inside = end - start
        events = (inside >> 21) & low
        keep = events > 0
        keep |= position % n == 0
        self._sample, self._position, self._row = sample, position[keep], row[keep]
        self.sums = self._segments = Segments(self._row)
        column = self._position - self._row * n
        self._at_risk = (n - column).astype(np.float64)
        self._at_risk_1 = ((whole[self._row] & low) - (start[keep] & low)).astype(np.float64)
        self._events = events[keep].astype(np.float64)
        self._events_1 = (inside[keep] >> 42).astype(np.float64)
        self._events_in_1 = (whole >> 42).astype(np.float64)

    @property
    def at_risk(self) -> FloatArray:
        """At risk in both arms just before, (G,)."""
        return self._at_risk

    @property
    def at_risk_1(self) -> FloatArray:
        """At risk in the experimental arm, (G,)."""
        return self._at_risk_1

    @property
    def events(self) -> FloatArray:
        """Events in both arms, (G,)."""
        return self._events

    @property
    def events_1(self) -> FloatArray:
        """Events in the experimental arm, (G,)."""
        return self._events_1

    @property
    def events_in_1(self) -> FloatArray:
        """Events in the experimental arm in all, (R,)."""
        return self._events_in_1

    @property
    def replicate(self) -> IndexArray:
        """Replicate of each row, (G,)."""
        return self._row

    @cached_property
    def time(self) -> FloatArray:
        """Months, (G,)."""
        return _time(self._sample.key.ravel()[self._position] >> 2, self._sample.months)

    @cached_property
    def expected(self) -> FloatArray:
        """``d n1 / n``, (G,)."""
        return self._events * (self._at_risk_1 / self._at_risk)

    @cached_property
    def variance(self) -> FloatArray:
        """``d n1 n0 (n - d) / (n**2 (n - 1))``, (G,)."""
        share = self._at_risk_1 / self._at_risk
        left = self._at_risk - 1.0
        rest = np.divide(
            self._at_risk - self._events, left, out=np.zeros_like(left), where=left > 0.0
        )
        return self._events * share * (1.0 - share) * rest

    @cached_property
    def survival(self) -> FloatArray:
        """Pooled Kaplan-Meier estimate just before, (G,)."""
        factor = 1.0 - self._events / self._at_risk
        # Where all die nothing comes after, and the logarithm is not needed.
        logs = np.log(factor, out=np.zeros_like(factor), where=factor > 0.0)
        units = np.rint(logs / _LOG_UNIT).astype(np.int64)
        # Whole numbers may run over: what is left when the start is taken away is still exact.
        before = np.cumsum(units) - units
        before -= before[self._segments.first][self._row]
        return np.exp(before * _LOG_UNIT)

    @cached_property
    def terms(self) -> tuple[FloatArray, Sums]:
        """Efron: the k-th of d tied events sees k / d of them gone."""
        count = self._events.astype(np.intp)
        # A replicate without events keeps one term, of 0.
        first = self._segments.first
        count[first] = np.maximum(count[first], 1)
        of = np.repeat(np.arange(len(count)), count)
        begin = np.cumsum(count) - count
        gone = np.arange(len(of)) - begin[of]
        events = np.maximum(self._events, 1.0)[of]
        share = (self._at_risk_1[of] - gone / events * self._events_1[of]) / (
            self._at_risk[of] - gone
        )
        share[self._events[of] == 0.0] = 0.0
        return share, Segments(self._row[of])

    def columns(self, values: FloatArray) -> FloatArray:
        """Values at the first column of each time, 0 elsewhere, (R, N)."""
        out = np.zeros(self._sample.key.shape)
        out.ravel()[self._position] = values
        return out
