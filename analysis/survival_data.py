"""Survival data of one arm, and targets beside them, checked before a model is fitted to them.

Reads patient-level or digitised data with one row for each patient and endpoint
and refuses, in one line, what cannot be fitted or cannot be true. It fits
nothing and draws nothing.

Whether times are months is judged by what no trial in lung cancer has shown:

- a time beyond 20 years: days (checkpoint inhibitors are younger than that);
- median PFS beyond 5 years, or median OS beyond 10: weeks or days;
- at most one PFS event in ten within 3 months: weeks or days. Scans begin at week
  6 to 12, so that by month 3 every arm has been looked at. Of 19 arms of
  chemotherapy and checkpoint inhibitors (16 in lung cancer, 3 in melanoma) 16 to 56 % had
  an event by month 3; by week 3, before any scan, 0 to 7 % had;
- nobody followed for 3 months, median PFS below 1 month or median OS below 2: years.

OS in weeks with a median below 5 "years" and no PFS beside it cannot be told from
months. A unit that is stated is believed, and converted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.errors import ScenarioError, unknown_name
from sim.scenario import DAYS_PER_MONTH

__all__ = ["EndpointData", "SurvivalData", "Target", "read_survival_data", "read_targets"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COLUMNS = ("arm", "endpoint", "time_months", "event")
ENDPOINTS = ("pfs", "os")
FEWEST_PATIENTS = 20
FEWEST_EVENTS = 10

UNITS = {
    "months": 1.0,
    "weeks": 7.0 / DAYS_PER_MONTH,
    "days": 1.0 / DAYS_PER_MONTH,
    "years": 12.0,
}
"""Months in one of each."""

LONGEST = 240.0
LONGEST_MEDIAN = {"pfs": 60.0, "os": 120.0}
SHORTEST_MEDIAN = {"pfs": 1.0, "os": 2.0}
SHORTEST_FOLLOW_UP = 3.0
FIRST_SCANS = 3.0
"""Month by which every arm has been scanned."""

LEAST_EVENTS_BY_FIRST_SCANS = 0.1

RATES = ("orr", "bor_pd")
DURATION = "median_duration_of_response"
MEASURES = (*RATES, DURATION, "rate_pfs_12", "rate_os_12")
"""Names of targets; in the last two, any month."""

FARTHEST = 4.0
"""Standard errors by which a target may differ from the data it stands beside."""

_RATE = re.compile(r"rate_(pfs|os)_(\d+(?:\.\d+)?)")
_TRUTH = {"true": 1.0, "false": 0.0}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class EndpointData:
    """Follow-up of one endpoint."""

    time: FloatArray
    """Months, (N,)."""

    event: BoolArray
    """Whether it ended with the event, (N,)."""

    @property
    def n(self) -> int:
        """Patients."""
        return len(self.time)

    @property
    def events(self) -> int:
        """Patients with the event."""
        return int(np.count_nonzero(self.event))


@dataclass(frozen=True, slots=True)
class SurvivalData:
    """Checked data of one arm."""

    endpoints: Mapping[str, EndpointData]
    """Of ``pfs``, ``os`` or both. Patients of the two are not paired."""

    arm: str
    trial: str
    """Empty if the file names none."""

    path: str

    @property
    def n(self) -> int:
        """Patients of the largest endpoint."""
        return max(data.n for data in self.endpoints.values())


@dataclass(frozen=True, slots=True)
class Target:
    """A published number beside the curves."""

    measure: str
    """`orr`, `bor_pd`, `median_duration_of_response` or `rate_<endpoint>_<months>`."""

    value: float
    """A fraction, or months of a median."""

    n: int
    """Patients it was counted in; of a duration of response, the responders."""

    @property
    def standard_error(self) -> float:
        """Of a rate binomial, of a median that of an exponential sample, ``m / (ln 2 sqrt(n))``.

        Rates are drawn in by half a patient, so that none of nobody has an error too.
        """
        if self.measure == DURATION:
            return self.value / (math.log(2.0) * math.sqrt(self.n))
        drawn_in = (self.value * self.n + 0.5) / (self.n + 1.0)
        return math.sqrt(drawn_in * (1.0 - drawn_in) / self.n)


def read_survival_data(
    path: Path | str, arm: str | None = None, trial: str | None = None, unit: str | None = None
) -> SurvivalData:
    """Read the survival data of one arm.

    Parameters
    ----------
    path : pathlib.Path or str
        Comma-separated values with the columns `arm`, `endpoint` (PFS or OS),
        `time_months`, `event` (1 for progression or death, 0 for censoring) and,
        if there is more than one trial, `trial`. With a column `pid`, patients are
        paired and their endpoints are held against each other. Others are ignored.
    arm, trial : str, optional
        Needed where the file has more than one.
    unit : str, optional
        Of the times: months, weeks, days or years. If it is stated, times are
        converted and not examined; if not, they must look like months.

    Returns
    -------
    SurvivalData
        Times in months.

    Raises
    ------
    ScenarioError
        In one line: the file, what, in which rows (the row of column names is 1),
        the value and what is allowed.
    """
    if unit is not None and unit not in UNITS:
        raise unknown_name("unit", "unit", unit, list(UNITS))
    table = _read_csv(path, COLUMNS)
    table, trial_name = _choose(table, path, "trial", trial)
    table, arm_name = _choose(table, path, "arm", arm)
    _require(table, path, COLUMNS)
    table = table.assign(
        endpoint=_endpoints(table, path), time=_times(table, path), happened=_events(table, path)
    )
    if unit is not None:
        table["time"] *= UNITS[unit]
    endpoints = {}
    for name in ENDPOINTS:
        rows = table[table["endpoint"] == name]
        if not rows.empty:
            endpoints[name] = EndpointData(
                rows["time"].to_numpy(dtype=np.float64), rows["happened"].to_numpy(dtype=np.bool_)
            )
    for name, data in endpoints.items():
        where = f"{path}: {name.upper()} of arm '{arm_name}'"
        _check_copies(data, where)
        _check_amount(data, where)
        if unit is None:
            _check_unit(name, data, where)
    if "pid" in table.columns:
        _check_pairs(table, path)
    if len(endpoints) == 2:
        _check_order(endpoints, f"{path}: arm '{arm_name}'")
    return SurvivalData(endpoints, arm_name, trial_name, str(path))


def _read_csv(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of text whose index is the row in the file, without blank rows."""
    if not Path(path).is_file():
        raise ScenarioError(f"{path}: no such file. Give the path of a CSV file.")
    try:
        table = pd.read_csv(
            path, dtype=str, skipinitialspace=True, encoding="utf-8-sig", skip_blank_lines=False
        )
    except pd.errors.EmptyDataError:
        raise ScenarioError(f"{path}: empty. The first row must name the columns.") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ScenarioError(f"{path}: cannot be read as comma-separated values: {reason}") from None
    table.columns = table.columns.str.strip()
    table.index = pd.RangeIndex(2, len(table) + 2)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ScenarioError(
            f"{path}: no column {', '.join(missing)}. Columns there: {', '.join(table.columns)}."
            f"{_hint(table.columns)}"
        )
    table = table.dropna(how="all").apply(lambda column: column.str.strip())
    if table.empty:
        raise ScenarioError(f"{path}: column names and no rows.")
    return table


def _hint(columns: Sequence[str]) -> str:
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        return " Columns must be separated by commas."
    if "CNSR" in columns:
        return " In CNSR 0 is an event: event is 1 - CNSR."
    return ""


def _rows(bad: pd.Series) -> str:
    """Where a condition holds: "row 7" or "rows 2, 3 and 8 more"."""
    places = [str(row) for row in bad.index[bad.to_numpy(dtype=bool)]]
    if len(places) == 1:
        return f"row {places[0]}"
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"rows {', '.join(places[:_SHOWN])}{more}"


def _require(table: pd.DataFrame, path: Path | str, columns: Sequence[str]) -> None:
    for column in columns:
        absent = table[column].isna() | (table[column] == "")
        if absent.any():
            raise ScenarioError(
                f"{path}: {column} is missing in {_rows(absent)}; fill it in or leave out the row."
            )


def _choose(
    table: pd.DataFrame, path: Path | str, column: str, asked: str | None
) -> tuple[pd.DataFrame, str]:
    """The rows of the arm or trial that is asked for, or of the only one."""
    if column not in table.columns:
        if asked is not None:
            raise ScenarioError(f"{path}: no column {column} to find '{asked}' in.")
        return table, ""
    _require(table, path, (column,))
    known = sorted(table[column].unique())
    if asked is None:
        if len(known) > 1:
            raise ScenarioError(
                f"{path}: {len(known)} {column}s and none chosen; {column} must be one of: "
                f"{', '.join(known)}."
            )
        return table, known[0]
    if asked not in known:
        raise unknown_name(str(path), column, asked, known)
    return table[table[column] == asked], asked


def _endpoints(table: pd.DataFrame, path: Path | str) -> pd.Series:
    names = table["endpoint"].str.lower()
    unknown = ~names.isin(ENDPOINTS)
    if unknown.any():
        first = table["endpoint"][unknown].iloc[0]
        raise ScenarioError(
            f"{path}: endpoint in {_rows(unknown)} is '{first}', must be PFS or OS; leave out the "
            "rows of others."
        )
    return names


def _times(table: pd.DataFrame, path: Path | str) -> FloatArray:
    values = pd.to_numeric(table["time_months"], errors="coerce")
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        first = table["time_months"][bad].iloc[0]
        comma = " with a decimal point" if re.fullmatch(r"\d+,\d+", first) else ""
        raise ScenarioError(
            f"{path}: time_months in {_rows(bad)} is '{first}', must be a number of months, 0 or "
            f"more and finite{comma}."
        )
    return values.to_numpy(dtype=np.float64)


def _events(table: pd.DataFrame, path: Path | str) -> BoolArray:
    text = table["event"].str.lower()
    values = text.map(_TRUTH).fillna(pd.to_numeric(text, errors="coerce"))
    bad = ~values.isin((0.0, 1.0))
    if bad.any():
        first = table["event"][bad].iloc[0]
        coded = set(values.dropna()) == {1.0, 2.0}
        hint = " If 2 is the event and 1 censored, subtract 1." if coded else ""
        raise ScenarioError(
            f"{path}: event in {_rows(bad)} is '{first}', must be 1 (event) or 0 (censored).{hint}"
        )
    return np.asarray(values == 1.0, dtype=np.bool_)


def _check_copies(data: EndpointData, where: str) -> None:
    """Refuse a table that was pasted twice; single rows may be alike, as digitised ones are."""
    pairs = np.column_stack([data.time, data.event])
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    copies = reduce(math.gcd, counts.tolist())
    if copies > 1 and len(counts) >= FEWEST_EVENTS:
        raise ScenarioError(
            f"{where}: every row is there {copies} times or a multiple of it; each patient must "
            "be in the file once."
        )


def _check_amount(data: EndpointData, where: str) -> None:
    if data.events == 0:
        raise ScenarioError(
            f"{where}: no event (1) in {data.n} patients; cannot be fitted. Is 1 the event?"
        )
    if data.n < FEWEST_PATIENTS or data.events < FEWEST_EVENTS:
        raise ScenarioError(
            f"{where}: {data.n} patients with {data.events} events cannot be fitted; needs at "
            f"least {FEWEST_PATIENTS} patients and {FEWEST_EVENTS} events. Leave these rows out, "
            "or take longer follow-up."
        )


def _check_unit(name: str, data: EndpointData, where: str) -> None:
    """Refuse times that are no months, by the rules at the top of this module."""
    longest = float(data.time.max())
    median = _median(data)
    smaller = "days" if longest > LONGEST else "weeks or days"
    early = 1.0 - _kaplan_meier(data, FIRST_SCANS)[0]
    if longest > LONGEST:
        found = f"the longest time is {longest:g} (20 years are {LONGEST:g} months)"
    elif LONGEST_MEDIAN[name] < median < math.inf:
        found = f"the median is {median:.3g} (no arm had more than {LONGEST_MEDIAN[name]:g} months)"
    elif longest < SHORTEST_FOLLOW_UP:
        smaller = "years"
        found = f"the longest time is {longest:g} (at least {SHORTEST_FOLLOW_UP:g} months)"
    elif median < SHORTEST_MEDIAN[name]:
        smaller = "years"
        found = (
            f"the median is {median:.3g} (no arm had less than {SHORTEST_MEDIAN[name]:g} months)"
        )
    elif name == "pfs" and early < LEAST_EVENTS_BY_FIRST_SCANS:
        found = (
            f"{100.0 * early:.0f} % have an event by {FIRST_SCANS:g} (at least "
            f"{100.0 * LEAST_EVENTS_BY_FIRST_SCANS:.0f} % by the first scans)"
        )
    else:
        return
    raise ScenarioError(
        f"{where}: time_months looks like {smaller}: {found}. Convert it to months, or state the "
        f"unit: {', '.join(UNITS)}."
    )


def _check_pairs(table: pd.DataFrame, path: Path | str) -> None:
    """Hold the endpoints of one patient against each other."""
    named = table[table["pid"].notna() & (table["pid"] != "")]
    twice = named.duplicated(["pid", "endpoint"], keep=False)
    if twice.any():
        raise ScenarioError(
            f"{path}: pid '{named['pid'][twice].iloc[0]}' has one endpoint more than once "
            f"({_rows(twice)}); each patient must be there once."
        )
    death = named[named["endpoint"] == "os"].set_index("pid")["time"]
    progression = named[named["endpoint"] == "pfs"]
    late = progression["time"] > progression["pid"].map(death) + 1e-6
    if late.any():
        raise ScenarioError(
            f"{path}: PFS in {_rows(late)} is longer than OS of the same pid "
            f"'{progression['pid'][late].iloc[0]}'; it must be at most as long."
        )


def _check_order(endpoints: Mapping[str, EndpointData], where: str) -> None:
    """Refuse PFS that outlasts OS: means up to the shorter follow-up, beyond two standard errors.

    The standard error is that of independent samples. Those of the same patients
    differ less, so that chance alone is refused less often than once in forty.
    """
    horizon = min(float(data.time.max()) for data in endpoints.values())
    (pfs, pfs_error), (os, os_error) = (_mean(endpoints[name], horizon) for name in ENDPOINTS)
    if pfs - os > 2.0 * math.hypot(pfs_error, os_error):
        raise ScenarioError(
            f"{where}: PFS outlasts OS (means up to month {horizon:.3g}: {pfs:.3g} and {os:.3g}); "
            "PFS must be at most as long. Are the two exchanged?"
        )


def _steps(data: EndpointData) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Event times, Kaplan-Meier just after each, and Greenwood's sum up to each."""
    when, events = np.unique(data.time[data.event], return_counts=True)
    at_risk = data.n - np.searchsorted(np.sort(data.time), when, side="left")
    left = np.maximum(at_risk - events, 0)
    spread = np.divide(events, at_risk * left, out=np.zeros(len(when)), where=left > 0)
    return when, np.cumprod(left / at_risk), np.cumsum(spread)


def _kaplan_meier(data: EndpointData, month: float) -> tuple[float, float]:
    """Survival at a month and its standard error."""
    when, survival, spread = _steps(data)
    row = int(np.searchsorted(when, month, side="right")) - 1
    return (
        (1.0, 0.0) if row < 0 else (float(survival[row]), float(survival[row] * spread[row] ** 0.5))
    )


def _median(data: EndpointData) -> float:
    when, survival, _ = _steps(data)
    below = np.flatnonzero(survival <= 0.5)
    return float(when[below[0]]) if below.size else math.inf


def _mean(data: EndpointData, horizon: float) -> tuple[float, float]:
    """Restricted mean up to `horizon` and its standard error (Greenwood)."""
    when, survival, spread = _steps(data)
    inside = when < horizon
    edges = np.concatenate([[0.0], when[inside], [horizon]])
    areas = np.diff(edges) * np.concatenate([[1.0], survival[inside]])
    beyond = areas.sum() - np.cumsum(areas)[:-1]
    each = np.diff(spread[inside], prepend=0.0)
    return float(areas.sum()), float(np.sqrt(np.sum(beyond**2 * each)))


def read_targets(path: Path | str, data: SurvivalData | None = None) -> tuple[Target, ...]:
    """Read published numbers to be fitted together with the curves.

    Parameters
    ----------
    path : pathlib.Path or str
        CSV with the columns `measure`, `value`, `n`, or YAML with a list of such
        entries. Measures are `orr`, `bor_pd`, `median_duration_of_response`,
        `rate_pfs_<months>` and `rate_os_<months>`; rates are fractions.
    data : SurvivalData, optional
        The curves, which rates must not contradict.

    Returns
    -------
    tuple of Target
        In the order of the file.

    Raises
    ------
    ScenarioError
        In one line, if an entry is no such number or two things contradict each other.
    """
    targets: dict[str, Target] = {}
    for where, entry in _entries(path):
        target = _target(where, entry)
        if target.measure in targets:
            raise ScenarioError(f"{where}: {target.measure} is given twice.")
        targets[target.measure] = target
    chosen = tuple(targets.values())
    _check_responses(targets, path)
    _check_rates(chosen, path)
    if data is not None:
        for target in chosen:
            _check_against(target, data, path)
    return chosen


def _entries(path: Path | str) -> list[tuple[str, dict[str, Any]]]:
    """Each entry with the place it has in the file."""
    if Path(path).suffix.lower() not in (".yaml", ".yml"):
        table = _read_csv(path, ("measure", "value", "n"))
        _require(table, path, ("measure", "value", "n"))
        return [(f"{path}: row {row}", entry.to_dict()) for row, entry in table.iterrows()]
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ScenarioError(f"{path}: must be a list of entries with measure, value and n.")
    for i, entry in enumerate(content, start=1):
        for key in ("measure", "value", "n"):
            if entry.get(key) is None:
                raise ScenarioError(f"{path}: entry {i}: no {key}; needs measure, value and n.")
    return [(f"{path}: entry {i}", entry) for i, entry in enumerate(content, start=1)]


def _target(where: str, entry: Mapping[str, Any]) -> Target:
    measure = str(entry["measure"])
    if measure not in (*RATES, DURATION) and not _RATE.fullmatch(measure):
        raise unknown_name(where, "target", measure, MEASURES)
    value, n = _number(where, measure, entry["value"]), _number(where, "n", entry["n"])
    if n < 1.0 or not n.is_integer():
        raise ScenarioError(
            f"{where}: n of {measure} is {n:g}, must be a whole number of patients."
        )
    if measure == DURATION:
        if not 1.0 <= value <= LONGEST:
            raise ScenarioError(
                f"{where}: {measure} is {value:g}, must be 1 to {LONGEST:g} months: a response "
                "lasts at least until the scan that confirms it."
            )
    elif not 0.0 <= value <= 1.0:
        hint = f": write {value:g} % as {value / 100.0:g}" if 1.0 < value <= 100.0 else ""
        raise ScenarioError(
            f"{where}: {measure} is {value:g}, must be a fraction from 0 to 1{hint}."
        )
    return Target(measure, value, int(n))


def _number(where: str, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        hint = " Write percentages as fractions." if "%" in str(value) else ""
        raise ScenarioError(f"{where}: {name} is '{value}', must be a number.{hint}")
    return number


def _check_responses(targets: Mapping[str, Target], path: Path | str) -> None:
    if {"orr", "bor_pd"} <= set(targets):
        orr, bor_pd = (targets[name].value for name in RATES)
        if orr + bor_pd > 1.0 + 1e-9:
            raise ScenarioError(
                f"{path}: orr {orr:g} and bor_pd {bor_pd:g} add up to {orr + bor_pd:g}; "
                "together they must be at most 1."
            )


def _rate_of(target: Target) -> tuple[str, float] | None:
    found = _RATE.fullmatch(target.measure)
    return (found[1], float(found[2])) if found else None


def _check_rates(targets: Sequence[Target], path: Path | str) -> None:
    """Refuse a rate that rises with time, and PFS above the OS of that time or an earlier one."""
    rates = [(*place, target) for target in targets if (place := _rate_of(target)) is not None]
    for endpoint, month, target in rates:
        for other, earlier, before in rates:
            # Whoever is free of progression is alive, and was so before.
            bound = other == "os" or endpoint == other
            if bound and earlier <= month and target.value > before.value + 1e-9:
                raise ScenarioError(
                    f"{path}: {target.measure} {target.value:g} is above {before.measure} "
                    f"{before.value:g}; it must be at most as high."
                )


def _check_against(target: Target, data: SurvivalData, path: Path | str) -> None:
    """Hold a rate against the Kaplan-Meier estimate, where that reaches so far."""
    place = _rate_of(target)
    if place is None or place[0] not in data.endpoints:
        return
    endpoint = data.endpoints[place[0]]
    if place[1] > endpoint.time.max():
        return
    survival, error = _kaplan_meier(endpoint, place[1])
    z = (target.value - survival) / math.hypot(error, target.standard_error)
    if abs(z) > FARTHEST:
        raise ScenarioError(
            f"{path}: {target.measure} is {target.value:g}, but {data.path} gives {survival:.3g} "
            f"for arm '{data.arm}'; the two must be within {FARTHEST:g} standard errors "
            f"(they are {abs(z):.1f} apart)."
        )
