"""The tables that a sweep leaves in its folder, as its figures read them.

A sweep repeats one run over the values of its swept parameters; each
combination is a cell. What was swept, and in what words, is in ``sweep.json``;
results are in ``sweep.parquet``, ``sweep_paired.parquet`` and
``sweep_curves.parquet``. The readers check that the columns are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from figures.shared import ResultFileError, method_words
from sim.endpoint.endpoint import short_name

__all__ = [
    "COHORT", "FACETS", "Axis", "Sweep", "Wanted", "is_missing", "measure_words", "read_cells",
    "read_sweep", "read_sweep_curves", "read_sweep_paired",
]  # fmt: skip

FACETS = ("cut", "arm", "endpoint", "method")
"""What tells the rows of a cell and measure apart."""

COHORT = "cohort"
"""The method of rows that are about a cohort and not about trials."""

CELL_COLUMNS = (
    "cell", "status", *FACETS, "measure", "estimate", "mc_error", "n_replicates", "error",
)  # fmt: skip
PAIRED_COLUMNS = (
    "cell", "versus", *FACETS, "other", "difference", "mc_error", "mc_error_unpaired",
)  # fmt: skip
CURVE_COLUMNS = (
    "cell", "arm", "endpoint", "time", "survival", "lower", "upper", "at_risk",
)  # fmt: skip

MEASURES = {
    "bias": "Bias",
    "bias_eliminated_coverage": "Coverage of the mean estimate",
    "coverage": "Coverage of the 95 % interval",
    "date": "Date of the cut, months",
    "date_standard_deviation": "Standard deviation of the date of the cut, months",
    "dcr": "Disease control rate",
    "empirical_standard_error": "Standard deviation of estimates",
    "enrolled": "Patients enrolled at the cut",
    "estimand": "True value",
    "events": "Events at the cut",
    "labelled_acquired": "Share labelled as acquired resistance",
    "labelled_primary": "Share labelled as primary resistance",
    "mean_estimate": "Mean estimate",
    "mean_squared_error": "Mean squared error",
    "mean_standard_error": "Mean standard error",
    "median": "Median, months",
    "not_estimable": "Share of trials without an estimate",
    "orr": "Response rate",
    "recognised_acquired": "Share of acquired resistance that is labelled so",
    "recognised_primary": "Share of primary resistance that is labelled so",
    "power": "Power",
    "primary_resistance": "Share with primary resistance",
    "relative_error": "Relative error of the standard error",
    "screened": "Patients screened",
    "standardised_bias": "Bias in standard errors",
    "target_reached": "Share of trials that reach the target of the cut",
}
"""Measures in words, as the label of an axis."""

PATHS = {
    "cohort.n_patients": "patients of the cohort",
    "trial.alpha": "one-sided level",
    "trial.dropout": "dropout a month",
    "trial.n_patients": "patients",
}
"""Common parameters in words."""

PARTS_OF_CUT = {
    "date": "date of the {} cut, months",
    "events": "events at the {} cut",
    "follow_up": "follow-up at the {} cut, months",
}

NUMBERED = {
    "rate_difference": "Difference of the share without the event at {} months",
    "rmst_difference": "Difference of restricted means over {} months, months",
    "date_quantile": "Date of the cut, months, quantile {} %",
    "rate": "Share without the event at {} months",
    "rmst": "Months without the event, of the first {}",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A swept parameter."""

    path: str
    label: str
    """What it is, in words."""

    @property
    def title(self) -> str:
        """The label as that of an axis."""
        return self.label[:1].upper() + self.label[1:]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry of `figures`: a figure that the sweep asks for."""

    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What ``sweep.json`` says that figures need."""

    name: str
    question: str
    axes: tuple[Axis, ...]
    wanted: tuple[Wanted, ...]
    labels: Mapping[str, str]
    reference: str
    seed: int
    alpha: float
    n_replicates: int
    """Trials of a cell; 0 in a sweep of cohorts."""

    n_patients: int
    """Patients of a cohort; 0 in a sweep of trials alone."""

    version: str
    design: str
    n_cells: int
    n_failed: int
    n_missing: int
    """Cells that have not been made yet."""

    citations_withdrawn: bool

    @property
    def paths(self) -> tuple[str, ...]:
        """Swept parameters, in the order of the sweep."""
        return tuple(axis.path for axis in self.axes)

    def axis(self, path: str) -> Axis:
        """The swept parameter of this path."""
        return next(axis for axis in self.axes if axis.path == path)

    def word(self, column: str, value: Any) -> str:
        """A value of a facet or of a swept parameter, as it is shown."""
        if column in self.paths:
            return _value_words(value, self.labels)
        if column == "endpoint":
            # The rows of a definition of resistance have it in the place of an endpoint.
            return self.labels.get(value) or short_name(str(value))
        if column == "method":
            # Spaces that no line is broken at keep the numbers of a name together.
            stem, bracket, numbers = method_words(str(value)).partition("(")
            return "" if value == COHORT else stem + bracket + numbers.replace(", 0", ",\u00a00")
        if column == "cut":
            return f"{value} cut"
        if column == "arm":
            return self.labels.get(value) or str(value)
        return str(value)

    def told(self, column: str, value: Any) -> str:
        """A value with what it is the value of, where that is not plain from itself."""
        word = self.word(column, value)
        return f"{self.axis(column).label}:\u00a0{word}" if column in self.paths else word

    def caption(self, note: str, *, cohort: bool) -> str:
        """The small print of a figure.

        Parameters
        ----------
        note : str
            How to read this figure, put first.
        cohort : bool
            Whether it shows cohorts and not trials.
        """
        cells = f"{self.n_cells:,}\u00a0{'cell' if self.n_cells == 1 else 'cells'}"
        made = f"Simulated with Resistime {self.version}: {cells}"
        if cohort and self.n_patients:
            made += f" of {self.n_patients:,}\u00a0patients"
        elif not cohort and self.n_replicates:
            made += f" of {self.n_replicates:,}\u00a0trials"
            # What is swept may be part of the design.
            first = "in the first cell, " if self.n_cells > 1 else ""
            made += f" ({first}{self.design})" if self.design else ""
        swept = "seed" in self.paths
        parts = [note, f"{made}." if swept else f"{made}, seed\u00a0{self.seed}."]
        if self.n_cells > 1 and not swept:
            parts.append("All cells share the seed, so neighbouring cells share patients.")
        if self.n_failed:
            parts.append(f"Cells that failed and are not shown: {self.n_failed:,}.")
        if self.n_missing:
            parts.append(f"Cells that have not been made yet: {self.n_missing:,}.")
        if self.citations_withdrawn:
            parts.append("Some cited numbers are replaced by hypotheses.")
        parts.append("For research and teaching, not for treating patients.")
        return " ".join(part for part in parts if part)


def is_missing(value: Any) -> bool:
    """Whether a value of a swept parameter is null."""
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _value_words(value: Any, labels: Mapping[str, str]) -> str:
    if is_missing(value):
        return "none"
    if isinstance(value, str):
        parts = [part.strip() for part in value.strip("[]").split(",")]
        return ", ".join(labels.get(part) or part.replace("_", " ") for part in parts)
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    number = float(value)
    whole = number.is_integer() and abs(number) < 1e15
    return (f"{number:,.0f}" if whole else f"{number:g}").replace("-", "\u2212")


def measure_words(name: str) -> str:
    """A measure as the label of an axis.

    Examples
    --------
    >>> measure_words("rate_12"), measure_words("mean_estimate"), measure_words("new_one")
    ('Share without the event at 12 months', 'Mean estimate', 'New one')
    """
    stem, _, number = name.rpartition("_")
    if name not in MEASURES and stem in NUMBERED:
        return NUMBERED[stem].format(number)
    return MEASURES.get(name, name.replace("_", " ").capitalize())


def _path_words(path: str, labels: Mapping[str, str]) -> str:
    """A path in words, for want of a label: its first part says where it is set, and is left out.

    Examples
    --------
    >>> _path_words("agents.anti_ctla4.durability", {"anti_ctla4": "anti-CTLA-4"})
    'anti-CTLA-4 durability'
    >>> _path_words("trial.n_patients", {}), _path_words("trial.cuts.final.events", {})
    ('patients', 'events at the final cut')
    """
    parts = path.split(".")
    if path in PATHS:
        return PATHS[path]
    if path.startswith("trial.cuts.") and len(parts) == 4 and parts[3] in PARTS_OF_CUT:
        return PARTS_OF_CUT[parts[3]].format(labels.get(parts[2]) or parts[2].replace("_", " "))
    return " ".join(labels.get(part) or part.replace("_", " ") for part in parts[1:] or parts)


def read_sweep(place: Path) -> Sweep:
    """Read ``sweep.json``.

    Parameters
    ----------
    place : pathlib.Path
        Folder of a sweep.

    Raises
    ------
    ResultFileError
        If there is no such folder or file, it is not JSON, or it lacks an entry that figures
        need.
    """
    path = place / "sweep.json"
    if not path.is_file():
        raise ResultFileError(
            f"'{place}' is not the folder of a sweep: it holds no sweep.json"
            if place.is_dir()
            else f"no folder '{place}'"
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels = content.get("labels") or {}
        return Sweep(
            name=str(content["name"]),
            question=str(content.get("question") or ""),
            axes=tuple(
                Axis(item["path"], item.get("label") or _path_words(item["path"], labels))
                for item in content["axes"]
            ),
            wanted=tuple(
                Wanted(str(item["kind"]), dict(item.get("options") or {}))
                for item in content.get("figures") or ()
            ),
            labels=labels,
            reference=str(content.get("reference") or ""),
            seed=int(content["seed"]),
            alpha=float(content.get("alpha") or 0.025),
            n_replicates=int(content.get("n_replicates") or 0),
            n_patients=int(content.get("n_patients") or 0),
            version=str(content["version"]),
            design=str(content.get("design") or ""),
            n_cells=int(content["n_cells"]),
            n_failed=int(content.get("n_failed") or 0),
            n_missing=int(content.get("n_missing") or 0),
            citations_withdrawn=bool(content.get("citations_withdrawn", False)),
        )
    except KeyError as error:
        raise ResultFileError(f"{path}: no entry {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ResultFileError(f"{path}: cannot be read: {_line(error)}") from error


def read_cells(place: Path, sweep: Sweep) -> pd.DataFrame:
    """Read ``sweep.parquet``: every cell, cut, arm, endpoint, method and measure.

    Raises
    ------
    ResultFileError
        If it is not there, cannot be read, or lacks a column or any row.
    """
    table = _parquet(place / "sweep.parquet", (*CELL_COLUMNS, *sweep.paths))
    if table is None:
        raise ResultFileError(f"{place / 'sweep.parquet'}: no such file, or no row in it")
    return table


def read_sweep_curves(place: Path, sweep: Sweep) -> pd.DataFrame | None:
    """Read ``sweep_curves.parquet``; None if there is no such file, or no row in it."""
    return _parquet(place / "sweep_curves.parquet", (*CURVE_COLUMNS, *sweep.paths))


def read_sweep_paired(place: Path, sweep: Sweep) -> pd.DataFrame | None:
    """Read ``sweep_paired.parquet``; None if there is no such file, or no row in it."""
    return _parquet(place / "sweep_paired.parquet", (*PAIRED_COLUMNS, *sweep.paths))


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        table = pd.read_parquet(path)
    # Arrow's errors are not all of one kind.
    except Exception as error:
        raise ResultFileError(f"{path}: cannot be read: {_line(error)}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ResultFileError(f"{path}: no column {', '.join(missing)}")
    return None if table.empty else table


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
