"""Trials conducted as a user would conduct them, and what is read off them."""

from dataclasses import dataclass

import numpy as np
from hydra import compose, initialize_config_module

from analysis.operating import summarise
from sim.command import register_schema
from sim.conduct import conduct_trials
from sim.config import read_run


def plan(*overrides):
    """The plan of a trial from the overrides that a user would type."""
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return read_run(compose("run", overrides=list(overrides))).trial


def by_date(*dates):
    """Overrides that cut a trial at several dates, by names such as ``month 12``."""
    cuts = ", ".join(f"month {date}: {{endpoint: pfs, date: {date}}}" for date in dates)
    return "~trial.cuts.final", f"+trial.cuts={{{cuts}}}"


def compare(*methods):
    """The override that asks for comparisons, by names such as ``rmst_difference(24)``."""
    return f"trial.comparisons={list(methods)}"


def table(done, alpha=0.025):
    """Every performance measure, by cut, arm, endpoint, method and measure."""
    return summarise(done.cuts, alpha).set_index(["cut", "arm", "endpoint", "method", "measure"])


@dataclass(frozen=True)
class Mean:
    """Mean of a number over replicates, with its Monte Carlo error."""

    value: float
    error: float

    @classmethod
    def of(cls, values):
        values = np.asarray(values, dtype=np.float64)
        return cls(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))

    def agrees(self, other, error=0.0, slack=0.0, errors=3.0):
        """Whether another value is within so many errors of the difference, and a slack."""
        return abs(self.value - other) < slack + errors * float(np.hypot(self.error, error))


@dataclass(frozen=True)
class Replicates:
    """One cut of conducted trials, with one experimental arm."""

    done: object
    cut: str = "final"
    arm: str = "experimental"
    endpoint: str = "pfs"

    def rejects(self, method, alpha=0.025):
        """Whether each replicate rejects, (R,)."""
        return self._of(method).p_value <= alpha

    def power(self, method, alpha=0.025):
        return Mean.of(self.rejects(method, alpha))

    def estimate(self, method):
        return Mean.of(self._of(method).estimate)

    def estimable(self, method):
        """Share of replicates in which there is an estimate."""
        return Mean.of(np.isfinite(self._of(method).standard_error))

    @property
    def date(self):
        return self.done.cuts[self.cut].date

    @property
    def events(self):
        return Mean.of(self.done.cuts[self.cut].events[self.endpoint])

    def _of(self, method):
        return self.done.cuts[self.cut].methods[self.arm, self.endpoint, method]


def conducted(n_replicates, *overrides, **where):
    """Conduct replicates of a trial, and read its final cut."""
    return Replicates(conduct_trials(plan(*overrides), n_replicates), **where)
