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

Only ``random``, ``standard_normal``, ``standard_exponential`` and raw words are
used, which do not depend on the processor's vector instructions.

Where a patient needs a number for each of many occasions, most of which are
never looked at, one word is drawn and the others are counted from it
(`counted_words`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Streams", "WordArray", "counted_words", "stream"]

FloatArray = NDArray[np.float64]
WordArray = NDArray[np.uint64]

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
    # The words that SeedSequence(seed, spawn_key=...) assembles, at a quarter of its time.
    entropy = [*_seed_words(seed), *_pieces(block), *_words(f"{decision}/{label}")]
    sequence = np.random.SeedSequence(np.array(entropy, dtype=np.uint32))
    return np.random.Generator(np.random.SFC64(sequence))


@cache
def _words(name: str) -> tuple[int, ...]:
    """First four 32-bit words of the SHA-256 of a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return tuple(np.frombuffer(digest[:16], dtype="<u4").tolist())


@cache
def _seed_words(seed: int) -> tuple[int, ...]:
    """A seed as `SeedSequence` reads it before a spawn key: at least four 32-bit words."""
    words = _pieces(seed)
    return words + (0,) * (4 - len(words))


def _pieces(number: int) -> tuple[int, ...]:
    """A non-negative whole number in 32-bit words, the lowest first."""
    if number < 0:
        raise ValueError(f"seed and block must not be negative, got {number}")
    words = [number & 0xFFFFFFFF]
    while number := number >> 32:
        words.append(number & 0xFFFFFFFF)
    return tuple(words)


def counted_words(start: WordArray, count: NDArray[np.intp]) -> WordArray:
    """The `count`-th 64-bit word of the sequence that begins at each `start`.

    The sequence is that of SplitMix64 [1]_, whose state is a counter: any of its
    words can be had without those before it.

    Parameters
    ----------
    start : ndarray of uint64, shape (M,)
        A drawn word for each patient.
    count : ndarray of int, shape (M,)
        Which word of their sequence each patient needs, from 0.

    Returns
    -------
    ndarray of uint64, shape (M,)

    References
    ----------
    .. [1] Steele, Lea & Flood (2014), OOPSLA, Fast splittable pseudorandom number generators.
    """
    word = (count + 1).astype(np.uint64)
    word *= np.uint64(0x9E3779B97F4A7C15)
    word += start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word ^= word >> np.uint64(shift)
        word *= np.uint64(factor)
    word ^= word >> np.uint64(31)
    return word


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of one block: each method makes one decision for every patient.

    They draw into `out`, (n_patients, size), where it is given.
    """

    seed: int
    """The run's seed."""

    block: int
    """Index of the block over the whole run."""

    size: int
    """Replicates in the block."""

    n_patients: int
    """Patients in each replicate."""

    def uniform(self, decision: str, label: str = "", out: FloatArray | None = None) -> FloatArray:
        """Uniform draws on [0, 1), shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.random((self.n_patients, self.size), out=out).T

    def normal(self, decision: str, label: str = "", out: FloatArray | None = None) -> FloatArray:
        """Standard normal draws, shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.standard_normal((self.n_patients, self.size), out=out).T

    def exponential(
        self, decision: str, label: str = "", out: FloatArray | None = None
    ) -> FloatArray:
        """Unit exponential draws, shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        return rng.standard_exponential((self.n_patients, self.size), out=out).T

    def words(self, decision: str, label: str = "") -> WordArray:
        """Uniform 64-bit words, shape (size, n_patients)."""
        rng = stream(self.seed, self.block, decision, label)
        raw = rng.bit_generator.random_raw(self.n_patients * self.size)
        return np.asarray(raw).reshape(self.n_patients, self.size).T
