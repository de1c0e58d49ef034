"""Numbers of a configuration that a fit may change, and what changing them makes of it.

A parameter is a path of the configuration with a scale on which it is free and
a prior there. One thing is not a number of the configuration and still has a
path, ``population.strata.<stratum>.primary``: the share of primary resistance
under the backbone alone, of which the prevalences of the mechanisms are made by
raising the chance of having none of them to one power.

This module fits nothing and knows no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.config import check_change, check_run
from sim.errors import ScenarioError
from sim.expected import resistant_share
from sim.override import value_at, with_values
from sim.scenario import Scenario
from sim.schema import RunConfig

__all__ = ["SCALES", "Parameter", "Template"]

FloatArray = NDArray[np.float64]

SCALES = ("log", "logit")
PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a fit may change."""

    name: str
    """Short, as printed."""

    path: str
    """Of the configuration, or ``population.strata.<stratum>.primary``."""

    scale: str
    """`log` for what is positive, `logit` for chances."""

    mean: float
    """Middle of the prior, in the unit of the number."""

    sd: float
    """Standard deviation of the prior on the scale."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ScenarioError(f"scale of {self.name} must be log or logit, got '{self.scale}'")
        if not self.sd > 0.0:
            raise ScenarioError(f"sd of {self.name} must be greater than 0, got {self.sd:g}")
        top = 1.0 if self.scale == "logit" else np.inf
        if not 0.0 < self.mean < top:
            raise ScenarioError(
                f"mean of {self.name} must be between 0 and {top:g}, got {self.mean:g}"
            )

    def free(self, value: float) -> float:
        """A value on the scale.

        Examples
        --------
        >>> Parameter("share", "a.b", "logit", 0.5, 1.0).free(0.5)
        0.0
        """
        if self.scale == "log":
            return float(np.log(value))
        return float(np.log(value) - np.log1p(-value))

    def value(self, free: float) -> float:
        """The number of which `free` is the value on the scale."""
        if self.scale == "log":
            return float(np.exp(free))
        return float(1.0 / (1.0 + np.exp(-free)))

    def slope(self, free: float) -> float:
        """Change of the number for a change on the scale."""
        value = self.value(free)
        return value if self.scale == "log" else value * (1.0 - value)


@dataclass(frozen=True)
class Template:
    """A configuration in which some numbers are free."""

    whole: RunConfig
    """Checked."""

    parameters: tuple[Parameter, ...]

    @cached_property
    def _run(self) -> Any:
        return check_run(self.whole)

    def config(self, values: Sequence[float]) -> RunConfig:
        """The configuration with values of the parameters, in their order.

        Raises
        ------
        ScenarioError
            If a path does not exist or a value is not allowed.
        """
        changed: dict[str, Any] = {}
        for parameter, value in zip(self.parameters, values, strict=True):
            *above, last = parameter.path.split(".")
            if last == PRIMARY and above[:2] == ["population", "strata"]:
                stratum = above[2]
                changed[f"population.strata.{stratum}.baseline"] = self._prevalences(stratum, value)
            else:
                changed[parameter.path] = value
        return with_values(self.whole, changed)

    def scenario(self, values: Sequence[float]) -> Scenario:
        """What is simulated with these values."""
        return check_change(self.config(values), self.whole, self._run).scenario

    def start(self) -> FloatArray:
        """The values that the configuration holds, on their scales, (P,)."""
        return np.array([p.free(self.present(p)) for p in self.parameters])

    def present(self, parameter: Parameter) -> float:
        """The value that the configuration holds, kept off the ends of its scale."""
        *above, last = parameter.path.split(".")
        if last == PRIMARY and above[:2] == ["population", "strata"]:
            value = self._share(above[2], 1.0)
        else:
            value = float(value_at(self.whole, parameter.path))
        least = 1e-4
        return float(np.clip(value, least, 1.0 - least if parameter.scale == "logit" else np.inf))

    def _share(self, stratum: str, power: float) -> float:
        """Primary resistance where the chance to lack each mechanism is raised to a power."""
        population = self.whole.population
        names = list(population.mechanisms)
        row = population.strata[stratum].baseline
        loading = [population.mechanisms[name].loading for name in names]
        undone = [self._undone.get(name, 0.0) for name in names]
        return resistant_share([_raised(row[name], power) for name in names], loading, undone)

    @cached_property
    def _undone(self) -> Mapping[str, float]:
        backbone = self.whole.agents.get(self.whole.backbone)
        return {} if backbone is None else backbone.reversal

    def _prevalences(self, stratum: str, share: float) -> dict[str, float]:
        """Prevalences that give a share of primary resistance."""
        from scipy.optimize import brentq

        def gap(log_power: float) -> float:
            power = float(np.exp(log_power))
            return float(np.log1p(-self._share(stratum, power)) - np.log1p(-share))

        # Without loadings the power is a ratio of logarithms; with them it is near.
        near = float(np.log(np.log1p(-share) / np.log1p(-self._share(stratum, 1.0))))
        width = 0.5
        while gap(near - width) * gap(near + width) > 0.0 and width < 16.0:
            width *= 2.0
        power = float(np.exp(brentq(gap, near - width, near + width, xtol=1e-8)))
        row = self.whole.population.strata[stratum].baseline
        return {name: _raised(chance, power) for name, chance in row.items()}


def _raised(chance: float, power: float) -> float:
    """Prevalence where the chance to lack a mechanism is raised to a power."""
    return float(-np.expm1(power * np.log1p(-min(chance, 1.0 - 1e-12))))
