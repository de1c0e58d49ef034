"""What a patient brings: stratum, mechanisms at baseline, and one draw for every decision.

A patient's random numbers are drawn once and shared by all strategies, which
is what makes contrasts between strategies paired. This module makes them and
reads nothing into them: it knows no agent's effect and no outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sim.hazard import by_stratum, count_passed
from sim.randomness import Streams, WordArray
from sim.scenario import Population

__all__ = [
    "Draws",
    "Patients",
    "acquired_exposure",
    "draw_patients",
    "normal_quantile",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Kind = Literal["uniform", "normal", "exponential", "words"]


class _Shelf:
    """Where the draws of a block are kept.

    Memory is asked for in pieces of many rows, of which the system hands out no
    more than is used. Rows asked for one by one would be given back to it and
    fetched again in every block.
    """

    ROWS = 64
    BYTES = 2**24
    """A piece holds no more rows than this has room for, but always one."""

    def __init__(self, streams: Streams, members: NDArray[np.intp] | None = None) -> None:
        self.streams = streams
        self.members = members
        """Of whom alone anything is kept; None for everybody."""
        self._kept: dict[tuple[Kind, str, str], Any] = {}
        self._free: list[FloatArray] = []

    def draws(self, kind: Kind, decision: str, label: str) -> Any:
        """One decision for everybody, drawn when first asked for, in the order of the draws."""
        key = (kind, decision, label)
        if key not in self._kept:
            if kind == "words":
                values = self.streams.words(decision, label)
            else:
                out = self._row() if self.members is None else None
                values = getattr(self.streams, kind)(decision, label, out=out)
            # Patient by patient: a view, where (R, N) would be a copy.
            values = values.T.reshape(-1)
            if self.members is not None:
                values = values.take(self.members)
            values.flags.writeable = False
            self._kept[key] = values
        return self._kept[key]

    def _row(self) -> FloatArray:
        if not self._free:
            count = self.streams.n_patients * self.streams.size
            rows = max(1, min(self.ROWS, self.BYTES // (8 * count)))
            piece = np.empty((rows, self.streams.n_patients, self.streams.size))
            self._free = list(piece)[::-1]
        return self._free.pop()


class Draws:
    """The draws of one block, each made when first asked for and then kept.

    `select` gives the draws of some of the patients; they stay the same
    numbers, because every decision is always drawn for everybody.
    """

    def __init__(
        self, streams: Streams, shelf: _Shelf | None = None, index: NDArray[np.intp] | None = None
    ) -> None:
        self._shelf = _Shelf(streams) if shelf is None else shelf
        self._index = index

    def uniform(self, decision: str, label: str = "") -> FloatArray:
        """Uniform draws on [0, 1), shape (M,)."""
        return self._draw("uniform", decision, label)

    def normal(self, decision: str, label: str = "") -> FloatArray:
        """Standard normal draws, shape (M,)."""
        return self._draw("normal", decision, label)

    def exponential(self, decision: str, label: str = "") -> FloatArray:
        """Unit exponential draws, shape (M,)."""
        return self._draw("exponential", decision, label)

    def words(self, decision: str, label: str = "") -> WordArray:
        """Uniform 64-bit words, shape (M,)."""
        return self._draw("words", decision, label)

    def __len__(self) -> int:
        members = self._shelf.members if self._index is None else self._index
        streams = self._shelf.streams
        return streams.size * streams.n_patients if members is None else len(members)

    def select(self, index: NDArray[np.intp]) -> Draws:
        """The draws of the patients at `index`."""
        chosen = index if self._index is None else self._index.take(index)
        return Draws(self._shelf.streams, self._shelf, chosen)

    def settle(self, index: NDArray[np.intp]) -> Draws:
        """The same, where nothing will be asked of the others: theirs are not kept."""
        streams = self._shelf.streams
        return Draws(streams, _Shelf(streams, index if self._index is None else self._index[index]))

    def _draw(self, kind: Kind, decision: str, label: str) -> Any:
        values = self._shelf.draws(kind, decision, label)
        return values if self._index is None else values.take(self._index)


@dataclass(frozen=True, slots=True)
class _Brought:
    """What some patients bring, worked out already."""

    stratum: NDArray[np.intp]
    present: BoolArray


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients before treatment, in one row: replicates one after the other, M in all.

    What they bring is drawn when first asked for.
    """

    population: Population
    draws: Draws
    """Every random number about them."""

    rank: Callable[[Patients], FloatArray] | None = None
    """Gives the normal score of their benefit under the backbone alone, (M,), when it is needed."""

    chosen: tuple[Patients | _Brought, NDArray[np.intp] | None] | None = None
    """Those of whom these are some, and where they stand among them; None for all of a block."""

    def __len__(self) -> int:
        return len(self.draws)

    @cached_property
    def stratum(self) -> NDArray[np.intp]:
        """Index of the stratum, (M,)."""
        if len(self.population.strata) == 1:
            return np.broadcast_to(np.intp(0), len(self))  # one number that stands for all
        if self.chosen is None:
            return _draw_stratum(self.population, self.draws)
        others, index = self.chosen
        return others.stratum if index is None else others.stratum.take(index)

    @cached_property
    def present(self) -> BoolArray:
        """Mechanisms present at baseline, (K, M).

        They overlap by a one-factor Gaussian copula: mechanism k is present
        where ``l F + sqrt(1 - l**2) e < z(p)``, with loading l, one factor F for
        each patient, and p the prevalence in the patient's stratum.
        """
        if self.chosen is None:
            return _draw_present(self.population, self.draws, self.stratum)
        others, index = self.chosen
        return others.present if index is None else others.present.take(index, axis=1)

    def select(self, index: NDArray[np.intp]) -> Patients:
        """The patients at `index`."""
        return Patients(self.population, self.draws.select(index), self.rank, (self, index))

    def settle(self, index: NDArray[np.intp]) -> Patients:
        """The same, where the others are never asked for again and take no more memory."""
        own = _Brought(self.stratum.take(index), self.present.take(index, axis=1))
        return Patients(self.population, self.draws.settle(index), self.rank, (own, None))


def draw_patients(population: Population, streams: Streams) -> Patients:
    """The patients of one block, ``streams.size * streams.n_patients`` of them."""
    return Patients(population, Draws(streams))


def _draw_stratum(population: Population, draws: Draws) -> NDArray[np.intp]:
    steps = np.cumsum(population.stratum_prevalence)[:-1]
    return count_passed(steps, draws.uniform("stratum")).astype(np.intp)


def _draw_present(population: Population, draws: Draws, stratum: NDArray[np.intp]) -> BoolArray:
    present = np.zeros((len(population.mechanisms), len(stratum)), dtype=bool)
    for k, mechanism in enumerate(population.mechanisms):
        chance = population.prevalence[:, k]
        if not np.any(chance > 0.0):
            continue
        score = draws.normal("baseline_mechanism", mechanism)
        loading = population.loading[k]
        if loading != 0.0:
            factor = draws.normal("baseline_factor")
            score = loading * factor + np.sqrt(1.0 - loading**2) * score
        np.less(score, by_stratum(normal_quantile(chance), stratum), out=present[k])
    return present


def acquired_exposure(
    population: Population, draws: Draws, stratum: NDArray[np.intp], k: int
) -> FloatArray:
    """Unit exponential of mechanism `k` divided by its share of the acquired hazard, (M,)."""
    share = population.acquired_share[:, k]
    if not share.any():
        return np.full(len(stratum), np.inf)
    drawn = draws.exponential("acquired_resistance", population.mechanisms[k])
    if (share == 1.0).all():
        return drawn
    if share.all():
        return np.asarray(drawn / by_stratum(share, stratum))
    with np.errstate(divide="ignore"):
        return np.asarray(drawn / by_stratum(share, stratum))


def normal_quantile(chance: FloatArray) -> FloatArray:
    """Standard normal quantiles of a few probabilities, infinite at 0 and 1."""
    normal = NormalDist()
    ends = {0.0: -np.inf, 1.0: np.inf}
    flat = [ends[p] if p in ends else normal.inv_cdf(p) for p in chance.ravel().tolist()]
    return np.array(flat).reshape(chance.shape)
