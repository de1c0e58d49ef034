"""The plan of a trial: how it is run, when it is cut and what is compared then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sim.cut import CutRule
from sim.definitions import Definition
from sim.endpoint.by_name import ENDPOINTS
from sim.endpoint.endpoint import RATE
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
    """Of times; rates have one of their own."""

    alpha: float
    """One-sided level."""
    horizon: float
    """Months after entry beyond which nobody is followed."""
    seed: int
    definition: Definition | None = None
    """Says what acquired resistance is, where that is an endpoint."""

    @property
    def simulated(self) -> tuple[str, ...]:
        """Endpoints that are analysed, or whose events a cut waits for."""
        waited = (endpoint for rule in self.cuts.values() for endpoint in rule.endpoints)
        return tuple(sorted({*self.endpoints, *waited}))

    def methods(self, endpoint: str) -> tuple[str, ...]:
        """Names of the comparisons of an endpoint."""
        rate = ENDPOINTS[endpoint].kind == RATE
        return ("response_rate_difference",) if rate else self.comparisons

    @property
    def compared(self) -> tuple[tuple[str, str, str], ...]:
        """Arm, endpoint and method of every comparison at a cut."""
        return tuple(
            (arm.strategy, endpoint, method)
            for arm in self.design.arms[1:]
            for endpoint in self.endpoints
            for method in self.methods(endpoint)
        )
