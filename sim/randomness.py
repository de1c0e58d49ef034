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
from functools import cache, lru_cache

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

__all__ = ["BLOCK", "Streams", "WordArray", "counted_words", "stream"]

FloatArray = NDArray[np.float64]
WordArray = NDArray[np.uint64]

BLOCK = 200
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
    state = _seed_states(seed, block // _GROUP, f"{decision}/{label}")[block % _GROUP]
    return np.random.Generator(np.random.SFC64(_Given(state)))  # type: ignore[arg-type]


_GROUP = 64
"""Consecutive blocks whose seeds are worked out at once."""


class _Given(ISeedSequence):
    """A seed sequence whose words are known already."""

    def __init__(self, state: WordArray) -> None:
        self._state = state

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> WordArray:
        """The words; the generator in use asks for three of 64 bits."""
        if n_words != len(self._state) or np.dtype(dtype) != np.uint64:  # type: ignore[call-overload]
            raise ValueError(f"expected to be asked for 3 words of 64 bits, got {n_words} {dtype}")
        return self._state


@lru_cache(maxsize=4096)
def _seed_states(seed: int, group: int, name: str) -> WordArray:
    """What ``SeedSequence(seed, spawn_key=(block, *words of name))`` gives the generator.

    The sequence itself takes longer than many a stream that it seeds. Here it is
    worked out for `_GROUP` blocks at once, in the same arithmetic [1]_.

    Returns
    -------
    ndarray of uint64, shape (_GROUP, 3)

    References
    ----------
    .. [1] O'Neill (2015), https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html.
    """
    first = group * _GROUP
    _pieces(first)  # refuses what is negative
    blocks = np.arange(first, first + _GROUP, dtype=np.uint64)
    words: list[NDArray[np.uint32]] = [
        np.full(_GROUP, word, dtype=np.uint32) for word in _seed_words(seed)
    ]
    words.append((blocks & np.uint64(0xFFFFFFFF)).astype(np.uint32))
    if first >> 32:
        words.append((blocks >> np.uint64(32)).astype(np.uint32))
    words += [np.full(_GROUP, word, dtype=np.uint32) for word in _words(name)]
    states = _generate(_pool(words))
    states.flags.writeable = False
    return states


def _pool(entropy: list[NDArray[np.uint32]]) -> list[NDArray[np.uint32]]:
    """The pool of four words into which entropy is mixed."""
    hasher = _Hasher(0x43B0D7E5, 0x931E8875)
    pool = [hasher(word) for word in entropy[:4]]
    for source in range(4):
        for place in range(4):
            if source != place:
                pool[place] = _mix(pool[place], hasher(pool[source]))
    for word in entropy[4:]:
        for place in range(4):
            pool[place] = _mix(pool[place], hasher(word))
    return pool


def _generate(pool: list[NDArray[np.uint32]]) -> WordArray:
    """Three words of 64 bits from a pool, the lower half first."""
    hasher = _Hasher(0x8B51F9DD, 0x58F38DED)
    halves = np.stack([hasher(pool[i % 4]) for i in range(6)], axis=1)
    return np.ascontiguousarray(halves).astype("<u4").view("<u8").astype(np.uint64)


class _Hasher:
    """Hashes words one after the other, each with a constant that follows from the last."""

    def __init__(self, constant: int, factor: int) -> None:
        self._constant, self._factor = constant, factor

    def __call__(self, word: NDArray[np.uint32]) -> NDArray[np.uint32]:
        word = word ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & 0xFFFFFFFF
        word *= np.uint32(self._constant)
        word ^= word >> np.uint32(16)
        return word


def _mix(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mixed = one * np.uint32(0xCA01F9DD) - other * np.uint32(0x4973F715)
    mixed ^= mixed >> np.uint32(16)
    return mixed


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
