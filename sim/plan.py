"""The plan of a trial: how it is run, when it is cut and what is compared then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sim.cut import CutRule
from sim.scenario import Scenario
from sim.trial import TrialDesign

__all__ = ["TrialPlan"]


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """A trial, when it is cut, and what is compared then."""

    scenario: Scenario
    design: TrialDesign
    cuts: Mapping[str, CutRule]
    endpoints: tuple[str, ...]
    comparisons: tuple[str, ...]
    alpha: float
    """One-sided level."""
    horizon: float
    """Months after entry beyond which nobody is followed."""
    seed: int
