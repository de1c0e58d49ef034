"""Named random streams, made for a block of replicates at a time.

Every generator in the program is made here. There is one stream per decision,
so that changing how one thing is drawn never moves another. A stream is a
function of (seed, block, decision, label) and of nothing else: not of the
order of calls, the number of replicates, how they are split over workers, or
which other strategies are in the run.

Conventions
-----------
A block is `BLOCK` replicates of a trial, or one replicate of a cohort. Draws
have the patient as their slow axis, ``(n_patients, block)`` in C order, and
are made for all patients, never for some: so the first patients of a
replicate stay the same when more are enrolled. What is handed out is the
transpose, ``(block, n_patients)``.

Only ``random``, ``standard_normal``, ``standard_exponential`` and raw bytes are
used, which do not depend on the processor's vector instructions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Streams", "stream"]

FloatArray = NDArray[np.float64]

BLOCK = 50
"""Replicates of a trial in a block. Part of the contract: changing it changes every draw."""


def stream(seed: int, block: int, decision: str, label: str = "") -> np.random.Generator:
    """The generator for one decision in one block of replicates.

    Parameters
    ----------
    seed : int
        The run's seed, non-negative.
    block : int
        Index of the block, counted over the whole run.
    decision : str
        What is being drawn, such as ``acquired_resistance``.
    label : str, optional
        Separates draws within a decision, such as the mechanism's name.
        A name, not an index: reordering mechanisms changes nothing.

    Returns
    -------
    numpy.random.Generator
        SFC64, seeded by a `SeedSequence` whose spawn key is the block and
        the first words of the SHA-256 of ``decision/label``.

    Examples
    --------
    >>> a = stream(1, 0, "allocation").random()
    >>> a == stream(1, 0, "allocation").random()
    True
    >>> a == stream(1, 1, "allocation").random()
    False
    """
    key = (block, *_words(f"{decision}/{label}"))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


@cache
def _words(name: str) -> tuple[int, ...]:
    """First four 32-bit words of the SHA-256 of a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(np.frombuffer(digest[:16], dtype="<u4").tolist())


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of one block: each method makes one decision for every patient."""

    seed: int
    """The run's seed."""

    block: int
    """Index of the block over the whole run."""

    size: int
    """Replicates in the block."""

    n_patients: int
    """Patients in each replicate."""

    def uniform(self, decision: str, label: str = "") -> FloatArray:
        """Uniform draws on [0, 1), shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.random((self.n_patients, self.size)).T

    def normal(self, decision: str, label: str = "") -> FloatArray:
        """Standard normal draws, shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.standard_normal((self.n_patients, self.size)).T

    def exponential(self, decision: str, label: str = "") -> FloatArray:
        """Unit exponential draws, shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.standard_exponential((self.n_patients, self.size)).T

    def words(self, decision: str, label: str = "") -> NDArray[np.uint16]:
        """Uniform 16-bit words, shape (size, n_patients), for many coarse draws."""
        rng = stream(self.seed, self.block, decision, label)
        raw = np.frombuffer(rng.bytes(2 * self.n_patients * self.size), dtype="<u2")
        return raw.reshape(self.n_patients, self.size).T
