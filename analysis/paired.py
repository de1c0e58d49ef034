"""Differences of power in the same replicates, whose error is smaller than it looks.

Two comparisons that are made in one replicate see the same patients. The error
of the difference of their powers then hangs on the replicates in which they
disagree alone; it comes from exact counts of rejections by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.replicates import CutResults, Key, MethodResults, read_runs

__all__ = [
    "COLUMNS", "CoRejections", "Rejections", "paired_power", "paired_rows", "paired_table",
    "read_rejections",
]  # fmt: skip

BoolArray = NDArray[np.bool_]
Packed = NDArray[np.uint8]

FACETS = ("cut", "arm", "endpoint", "method")
SHOWN = ("method", "endpoint", "arm", "cut")
"""In which two comparisons may differ, in the order of the table."""

COLUMNS = (
    "versus", "cut", "arm", "endpoint", "method", "other", "difference", "mc_error",
    "mc_error_unpaired", "disagree", "n_replicates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rejections:
    """Which replicates of another design rejected."""

    name: str
    n_replicates: int
    rejected: Mapping[Key, Packed]
    """A bit for each replicate of each comparison."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Counts of rejections in n replicates: by one, by the other, by both."""

    one: int
    other: int
    both: int
    n: int

    @property
    def disagree(self) -> float:
        """Share of replicates in which one of the two rejects."""
        return (self.one + self.other - 2 * self.both) / self.n

    @property
    def difference(self) -> float:
        """Of the two powers."""
        return (self.one - self.other) / self.n

    @property
    def error(self) -> float:
        """Of the difference; that of a mean of +1, 0 and -1."""
        if self.n < 2:
            return float("nan")
        return float(np.sqrt((self.disagree - self.difference**2) / (self.n - 1)))

    @property
    def error_unpaired(self) -> float:
        """Of the difference, had each been made in replicates of its own."""
        shares = np.array([self.one, self.other]) / self.n
        return float(np.sqrt(np.sum(shares * (1.0 - shares)) / self.n))


class CoRejections:
    """Counts, over replicates, of which comparisons rejected together.

    Parameters
    ----------
    keys : sequence of (cut, arm, endpoint, method)
        Every comparison.
    alpha : float
        One-sided level.
    other : Rejections, optional
        Another design, to be paired with comparison by comparison.
    """

    def __init__(self, keys: Sequence[Key], alpha: float, other: Rejections | None = None) -> None:
        self.keys, self.alpha, self.other = list(keys), alpha, other
        self.n = self.n_common = 0
        self.both = np.zeros((len(keys), len(keys)), dtype=np.int64)
        shared = [] if other is None else [key for key in keys if key in other.rejected]
        self._designs = {key: np.zeros(3, dtype=np.int64) for key in shared}

    def add(self, first: int, cuts: Mapping[str, CutResults]) -> None:
        """Add the chunk that begins with replicate `first`, a multiple of 8."""
        rejected = [
            cuts[cut].methods[arm, endpoint, method].p_value <= self.alpha
            for cut, arm, endpoint, method in self.keys
        ]
        bits = np.packbits(np.array(rejected), axis=1)
        for i, row in enumerate(bits):
            self.both[i] += np.bitwise_count(bits & row).sum(axis=1, dtype=np.int64)
        self.n += len(rejected[0])
        if self.other is not None:
            self._add_other(self.other, first, dict(zip(self.keys, rejected, strict=True)))

    def _add_other(self, other: Rejections, first: int, rejected: Mapping[Key, BoolArray]) -> None:
        n = len(next(iter(rejected.values())))
        common = max(0, min(first + n, other.n_replicates) - first)
        self.n_common += common
        for key, counts in self._designs.items():
            theirs = np.unpackbits(other.rejected[key][first // 8 :], count=common)
            ours = rejected[key][:common]
            counts += [np.count_nonzero(x) for x in (ours, theirs, ours & (theirs == 1))]

    def pairs(self) -> Iterator[tuple[str, Key, str, _Pair]]:
        """What differs, the comparison, the other's name for it, and the counts.

        Of two comparisons that differ in one thing, the later is shown against
        the earlier.
        """
        for facet in SHOWN:
            at = FACETS.index(facet)
            for i, key in enumerate(self.keys):
                for j, other in enumerate(self.keys[:i]):
                    if [k for k in range(len(key)) if key[k] != other[k]] == [at]:
                        own, their, both = self.both[i, i], self.both[j, j], self.both[i, j]
                        pair = _Pair(int(own), int(their), int(both), self.n)
                        yield facet, key, other[at], pair
        if self.other is not None and self.n_common:
            for key, (own, their, both) in self._designs.items():
                pair = _Pair(int(own), int(their), int(both), self.n_common)
                yield "design", key, self.other.name, pair


def paired_table(together: CoRejections) -> pd.DataFrame:
    """Differences of power between comparisons that differ in one thing.

    Returns
    -------
    DataFrame
        `versus` says in what: method, endpoint, arm, cut or design. The power
        of (cut, arm, endpoint, method) less that of the same with `other` in
        that place, its Monte Carlo error, the error had the replicates been
        different ones, the share of replicates in which the two disagree, and
        the number of replicates.
    """
    return pd.DataFrame(paired_rows(together), columns=list(COLUMNS))


def paired_rows(together: CoRejections) -> list[tuple[Any, ...]]:
    """Rows of `paired_table` as they are."""
    return [
        (
            facet, *key, other, pair.difference, pair.error, pair.error_unpaired, pair.disagree,
            pair.n,
        )
        for facet, key, other, pair in together.pairs()
    ]  # fmt: skip


def paired_power(one: MethodResults, other: MethodResults, alpha: float) -> tuple[float, float]:
    """Difference of power between two methods in the same replicates, and its error.

    Examples
    --------
    >>> a = MethodResults(*(np.array([0.01, 0.01, 0.5, 0.5]),) * 4)
    >>> b = MethodResults(*(np.array([0.01, 0.50, 0.5, 0.5]),) * 4)
    >>> paired_power(a, b, alpha=0.025)[0]
    0.25
    """
    rejected = [item.p_value <= alpha for item in (one, other)]
    own, their, both = (int(np.count_nonzero(x)) for x in (*rejected, rejected[0] & rejected[1]))
    pair = _Pair(own, their, both, len(rejected[0]))
    return pair.difference, pair.error


def read_rejections(path: Path, name: str, n_replicates: int, alpha: float) -> Rejections:
    """Rejections of the comparisons of an earlier run.

    Parameters
    ----------
    path : pathlib.Path
        Its ``comparisons.parquet``.
    name : str
        How the design is to be called.
    n_replicates : int
        How many it has.
    alpha : float
        One-sided level.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or lacks a column or a replicate.
    """
    whole: dict[Key, BoolArray] = {}
    counts: dict[Key, int] = {}
    packed: dict[Key, Packed] = {}
    for key, (replicate, p_value) in read_runs(path, ("replicate", "p_value")):
        if key not in whole:
            whole[key] = np.zeros(n_replicates, dtype=bool)
            counts[key] = 0
        if replicate.max(initial=0) >= n_replicates:
            raise ValueError(f"a replicate beyond {n_replicates}")
        whole[key][replicate] = p_value <= alpha
        counts[key] += len(replicate)
    for key, count in counts.items():
        if count != n_replicates:
            raise ValueError(f"{count} replicates of {', '.join(key)}, not {n_replicates}")
        packed[key] = np.packbits(whole.pop(key))
    return Rejections(name, n_replicates, packed)
