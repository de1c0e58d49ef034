"""Comparisons by the name under which a configuration asks for them.

A name is that of a comparison with its numbers in brackets, as it is printed in
results: ``logrank``, ``fleming_harrington(0,0.5)``, ``rmst_difference(24)``.
What one needs (a sample, or one for each stratum) is made once for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.average_hazard_ratio import average_hazard_ratio
from analysis.comparison.cox import cox, stratified_cox
from analysis.comparison.early_zero import early_zero
from analysis.comparison.fleming_harrington import (
    fleming_harrington,
    stratified_fleming_harrington,
)
from analysis.comparison.logrank import logrank, stratified_logrank
from analysis.comparison.maxcombo import maxcombo
from analysis.comparison.median import median_difference
from analysis.comparison.milestone import SCALES, milestone_difference
from analysis.comparison.modestly_weighted import VARIANTS, modestly_weighted
from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample, pack
from analysis.comparison.rmst import rmst_difference, rmst_ratio, time_lost_ratio
from sim.errors import ScenarioError, unknown_name

__all__ = [
    "COMPARISONS", "ESTIMANDS", "Evidence", "NamedComparison", "estimand_kind", "find_comparison",
]  # fmt: skip

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """Two arms of R replicates, as whichever samples a comparison asks for.

    What is made of it is kept, so that several comparisons share it.
    """

    tick: NDArray[np.uint32]
    """Follow-up, (R, N); 0 for a patient who is not in the sample."""

    event: BoolArray
    """(R, N)."""

    arm: BoolArray
    """True in the experimental arm, (R, N)."""

    stratum: NDArray[np.integer]
    """Index of the stratum, (R, N)."""

    months: float
    """Length of a tick."""

    @cached_property
    def sample(self) -> Sample:
        """All patients together."""
        return Sample.of(pack(self.tick, self.event, self.arm), self.months)

    @cached_property
    def strata(self) -> list[Sample]:
        """One sample for each stratum; who is of another has tick 0 there."""
        samples = []
        for b in range(int(self.stratum.max()) + 1):
            member = self.stratum == b
            tick = np.where(member, self.tick, np.uint32(0))
            samples.append(Sample.of(pack(tick, self.event & member, self.arm), self.months))
        return samples


@dataclass(frozen=True, slots=True)
class NamedComparison:
    """A comparison with the numbers of its name."""

    function: Callable[..., Comparison]
    arguments: tuple[object, ...] = ()
    stratified: bool = False

    def __call__(self, evidence: Evidence) -> Comparison:
        """Compare two arms."""
        return self.function(
            evidence.strata if self.stratified else evidence.sample, *self.arguments
        )


@dataclass(frozen=True, slots=True)
class _Form:
    """How a comparison is asked for."""

    function: Callable[..., Comparison]
    takes: str = "nothing"
    """What stands in the brackets, in words."""
    read: Callable[[str], tuple[object, ...]] | None = None
    """From the text in the brackets to arguments; ValueError where it cannot be."""
    stratified: bool = False


def _numbers(count: int) -> Callable[[str], tuple[object, ...]]:
    """A reader of as many numbers of at least 0."""

    def read(text: str) -> tuple[object, ...]:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
        if len(numbers) != count or not all(0.0 <= x < float("inf") for x in numbers):
            raise ValueError
        return numbers

    return read


def _length(text: str) -> tuple[object, ...]:
    """A number above 0."""
    months = _numbers(1)(text)
    if months == (0.0,):
        raise ValueError
    return months


def _number_and_word(words: Sequence[str]) -> Callable[[str], tuple[object, ...]]:
    """A reader of a number, and of a word from a list that may be left out."""

    def read(text: str) -> tuple[object, ...]:
        first, _, word = text.partition(",")
        if word and word not in words:
            raise ValueError
        return (*_numbers(1)(first), word or words[0])

    return read


def _modest(text: str) -> tuple[object, ...]:
    if text.startswith("w_max="):
        return (None, *_numbers(1)(text.removeprefix("w_max=")), VARIANTS[0])
    month, variant = _number_and_word(VARIANTS)(text.removeprefix("t_star="))
    return month, None, variant


def _pairs(text: str) -> tuple[object, ...]:
    return (tuple(_numbers(2)(part) for part in text.split(";")),) if text else ()


def _modestly_weighted(
    sample: Sample, t_star: float | None, w_max: float | None, variant: str
) -> Comparison:
    return modestly_weighted(sample, t_star=t_star, w_max=w_max, variant=variant)


_PAIR = "rho and gamma, two numbers of at least 0"
_MONTH = "a number of months"
_LENGTH = "a number of months above 0"

COMPARISONS: Mapping[str, _Form] = {
    "average_hazard_ratio": _Form(average_hazard_ratio, _LENGTH, _length),
    "cox": _Form(cox),
    "early_zero": _Form(early_zero, _MONTH, _numbers(1)),
    "fleming_harrington": _Form(fleming_harrington, _PAIR, _numbers(2)),
    "logrank": _Form(logrank),
    "maxcombo": _Form(
        maxcombo, "nothing or pairs of rho and gamma, as in maxcombo(0,0;0,0.5)", _pairs
    ),
    "median_difference": _Form(median_difference),
    "milestone_difference": _Form(
        milestone_difference,
        f"{_MONTH}, and {' or '.join(SCALES)} if not identity",
        _number_and_word(SCALES),
    ),
    "modestly_weighted": _Form(
        _modestly_weighted,
        f"{_MONTH} (and {' or '.join(VARIANTS)} if not events), or w_max=NUMBER",
        _modest,
    ),
    "rmst_difference": _Form(rmst_difference, _LENGTH, _length),
    "rmst_ratio": _Form(rmst_ratio, _LENGTH, _length),
    "stratified_cox": _Form(stratified_cox, stratified=True),
    "stratified_fleming_harrington": _Form(
        stratified_fleming_harrington, _PAIR, _numbers(2), stratified=True
    ),
    "stratified_logrank": _Form(stratified_logrank, stratified=True),
    "time_lost_ratio": _Form(time_lost_ratio, _LENGTH, _length),
}
"""Each comparison and what its name carries."""

ESTIMANDS: Mapping[str, str] = {
    "average_hazard_ratio": "population",
    "cox": "follow_up",
    "median_difference": "population",
    "milestone_difference": "population",
    "response_rate_difference": "population",
    "rmst_difference": "population",
    "rmst_ratio": "population",
    "stratified_cox": "follow_up",
    "time_lost_ratio": "population",
}
"""What the true value of an estimate belongs to.

`population`: to the patients alone. `follow_up`: also to how long they are
followed, wherever the hazard ratio is not constant. The estimate of any other
comparison is a score, which has no true value.
"""


def estimand_kind(name: str) -> str:
    """`population`, `follow_up` or `none`, for a comparison as it is written.

    Examples
    --------
    >>> estimand_kind("cox"), estimand_kind("rmst_difference(24)"), estimand_kind("logrank")
    ('follow_up', 'population', 'none')
    """
    return ESTIMANDS.get(name.partition("(")[0], "none")


def find_comparison(where: str, name: str) -> NamedComparison:
    """The comparison that a name asks for.

    Parameters
    ----------
    where : str
        Path of the entry, for the message.
    name : str
        Such as ``fleming_harrington(0,0.5)``.

    Returns
    -------
    NamedComparison

    Raises
    ------
    ScenarioError
        For a name that is not known, or other numbers than it takes.

    Examples
    --------
    >>> find_comparison("trial.comparisons[0]", "modestly_weighted(6,survival)").arguments
    (6.0, None, 'survival')
    >>> find_comparison("trial.comparisons[0]", "maxcombo(0,0;0,0.5)").arguments
    (((0.0, 0.0), (0.0, 0.5)),)
    """
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", name.replace(" ", ""))
    if match is None or match[1] not in COMPARISONS:
        raise unknown_name(where, "comparison", name, COMPARISONS)
    form = COMPARISONS[match[1]]
    text = match[2] or ""
    try:
        if form.read is None and text:
            raise ValueError
        arguments = form.read(text) if form.read is not None else ()
    except ValueError:
        raise ScenarioError(
            f"{where}: {match[1]} takes {form.takes} in brackets, got '{name}'"
        ) from None
    return NamedComparison(form.function, arguments, form.stratified)
