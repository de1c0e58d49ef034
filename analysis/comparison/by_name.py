"""Comparisons by the name under which a configuration asks for them.

A name is that of a comparison with its numbers in brackets, as it is printed in
results: ``logrank``, ``fleming_harrington(0,0.5)``, ``rmst_difference(24)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from analysis.comparison.average_hazard_ratio import average_hazard_ratio
from analysis.comparison.cox import cox
from analysis.comparison.early_zero import early_zero
from analysis.comparison.fleming_harrington import fleming_harrington
from analysis.comparison.logrank import logrank
from analysis.comparison.maxcombo import maxcombo
from analysis.comparison.median import median_difference
from analysis.comparison.milestone import milestone_difference
from analysis.comparison.modestly_weighted import modestly_weighted
from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample
from analysis.comparison.rmst import rmst_difference, rmst_ratio
from sim.errors import ScenarioError, unknown_name

__all__ = ["COMPARISONS", "find_comparison"]

COMPARISONS: Mapping[str, tuple[Callable[..., Comparison], int]] = {
    "average_hazard_ratio": (average_hazard_ratio, 0),
    "cox": (cox, 0),
    "early_zero": (early_zero, 1),
    "fleming_harrington": (fleming_harrington, 2),
    "logrank": (logrank, 0),
    "maxcombo": (maxcombo, 0),
    "median_difference": (median_difference, 0),
    "milestone_difference": (milestone_difference, 1),
    "modestly_weighted": (lambda sample, t: modestly_weighted(sample, t_star=t), 1),
    "rmst_difference": (rmst_difference, 1),
    "rmst_ratio": (rmst_ratio, 1),
}
"""Each comparison and how many numbers its name carries."""


def find_comparison(where: str, name: str) -> Callable[[Sample], Comparison]:
    """The comparison that a name asks for.

    Parameters
    ----------
    where : str
        Path of the entry, for the message.
    name : str
        Such as ``fleming_harrington(0,0.5)``.

    Returns
    -------
    callable
        From a sample to its comparison.

    Raises
    ------
    ScenarioError
        For a name that is not known, or the wrong count of numbers.
    """
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", name.replace(" ", ""))
    if match is None or match[1] not in COMPARISONS:
        raise unknown_name(where, "comparison", name, COMPARISONS)
    function, wanted = COMPARISONS[match[1]]
    try:
        numbers = [float(text) for text in match[2].split(",")] if match[2] else []
    except ValueError:
        numbers = [float("nan")] * (wanted + 1)
    if len(numbers) != wanted or any(not 0.0 <= x < float("inf") for x in numbers):
        raise ScenarioError(
            f"{where}: {match[1]} takes {wanted} numbers of at least 0 in brackets, got '{name}'"
        )
    return lambda sample: function(sample, *numbers)
