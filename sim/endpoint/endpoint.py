"""The parts that every endpoint is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.outcome import Outcome

__all__ = ["RATE", "TIME", "Endpoint", "Happening", "Known", "Record", "short_name"]

TickArray = NDArray[np.uint32]
BoolArray = NDArray[np.bool_]

TIME, RATE = "time", "rate"
"""Kinds of endpoint: how long until an event, or the share of patients with something."""


@dataclass(frozen=True, slots=True)
class Happening:
    """When something happens to M patients, ticks since entry."""

    tick: TickArray
    """The event, (M,); `NEVER_TICK` for never."""

    until: TickArray | None = None
    """Where the record of a patient breaks off by itself, (M,); None where none does."""

    known: TickArray | None = None
    """When the event becomes known, (M,); None where that is when it happens.

    A progression that must be confirmed is dated at the first scan and known at a later one.
    """


@dataclass(frozen=True, slots=True)
class Record:
    """One kind of event, as it is followed in every patient."""

    name: str

    happen: Callable[[Outcome], Happening]
    """When it happens in the patients of one regimen."""

    at_scans: bool = False
    """Whether its absence is only known at scans, so that censoring is at the last."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a record or an endpoint at a cut.

    Of a time: `tick` is the length of follow-up, 0 where the patient does not
    count, and `event` how it ended. Of a rate: `tick` is 1 where the patient
    counts, and `event` whether they have it.
    """

    tick: TickArray
    """(R, N)."""

    event: BoolArray
    """(R, N)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a trial."""

    name: str
    label: str
    """As printed in figures."""

    kind: str
    """`TIME` or `RATE`."""

    records: tuple[Record, ...]
    """What it is made of."""

    know: Callable[[Mapping[str, Known], Callable[[], BoolArray]], Known]
    """From its records at the cut and, if it asks, who has entered, (R, N)."""

    immune: bool = False
    """Whether it has a meaning only where every arm holds a checkpoint inhibitor."""

    @property
    def counted(self) -> bool:
        """Whether its events have a date that a cut can wait for: time from entry, one record."""
        return self.kind == TIME and len(self.records) == 1


def short_name(name: str) -> str:
    """An endpoint's name as it is shown: abbreviations in capitals, others as words.

    Examples
    --------
    >>> short_name("pfs"), short_name("duration_of_response")
    ('PFS', 'duration of response')
    """
    return name.replace("_", " ") if "_" in name else name.upper()
