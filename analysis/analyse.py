"""One trial's data from a file, compared by every method there is a use for.

Reads survival data of two arms, refuses what cannot be analysed in a sentence
that says what to do, and makes the comparisons of `analysis.comparison` of
them. It prints and draws nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.comparison.cox import cox, stratified_cox
from analysis.comparison.fleming_harrington import (
    fleming_harrington,
    stratified_fleming_harrington,
)
from analysis.comparison.logrank import logrank, stratified_logrank
from analysis.comparison.maxcombo import DEFAULT_WEIGHTS, maxcombo
from analysis.comparison.median import median_survival
from analysis.comparison.milestone import milestone_difference
from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample, pack, rank_ticks
from analysis.comparison.rmst import rmst_difference
from sim.errors import ResistimeError

__all__ = ["AnalysisError", "ArmSummary", "Finding", "Report", "TrialData", "compare", "read_trial"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FH_WEIGHTS = ((0.0, 0.5), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
CONTROL_NAMES = ("control", "placebo")
INTEGRAL = 16
"""2**16 points for MaxCombo: one data set can afford them."""

_Z_95 = 1.959963984540054
_SHOWN_ROWS = 5


class AnalysisError(ResistimeError, ValueError):
    """Data that cannot be compared as they are."""


@dataclass(frozen=True, slots=True)
class TrialData:
    """Two arms of one trial."""

    time: FloatArray
    """Follow-up, in the unit of the file, (N,)."""

    event: BoolArray
    """Whether it ended with the event, (N,)."""

    arm: BoolArray
    """True in the experimental arm, (N,)."""

    stratum: NDArray[Any] | None
    """Name of each patient's stratum, (N,)."""

    control: str
    experimental: str
    notes: tuple[str, ...] = ()
    """What was decided that the user may not expect, in sentences."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison, as it is told."""

    name: str
    """In words: "Log-rank test"."""

    result: Comparison
    quantity: str = ""
    """What the estimate is; empty for a test without one."""

    log_scale: bool = False
    """Whether the estimate is the logarithm of what is told."""

    def interval(self) -> tuple[float, float, float] | None:
        """Estimate and 95 % limits on the scale that is told, or None for a test alone."""
        if not self.quantity:
            return None
        middle, error = float(self.result.estimate[0]), float(self.result.standard_error[0])
        reach = _Z_95 * error if np.isfinite(error) else np.nan
        told = np.array([middle, middle - reach, middle + reach])
        centre, low, high = (np.exp(told) if self.log_scale else told).tolist()
        return centre, low, high


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """Counts of one arm."""

    name: str
    role: str
    patients: int
    events: int
    median: float
    """``inf`` where not reached."""

    longest: float
    """Longest follow-up."""


@dataclass(frozen=True, slots=True)
class Report:
    """All comparisons of one trial."""

    data: TrialData
    arms: tuple[ArmSummary, ArmSummary]
    """Control first."""

    tau: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())

    def as_mapping(self) -> dict[str, Any]:
        """Everything at full precision, for a file; what is not finite is None."""
        return {
            "control": self.data.control,
            "experimental": self.data.experimental,
            "arms": [
                {
                    "name": arm.name,
                    "role": arm.role,
                    "patients": arm.patients,
                    "events": arm.events,
                    "median": _finite(arm.median),
                    "longest_follow_up": arm.longest,
                }
                for arm in self.arms
            ],
            "tau": self.tau,
            "positive_z_favours": self.data.experimental,
            "comparisons": [_as_row(finding) for finding in self.findings],
            "notes": list(self.notes),
        }


def _as_row(finding: Finding) -> dict[str, Any]:
    result = finding.result
    row: dict[str, Any] = {
        "method": result.method,
        "name": finding.name,
        "estimate": _finite(result.estimate[0]),
        "standard_error": _finite(result.standard_error[0]),
        "z": _finite(result.z[0]),
        "p_value_one_sided": _finite(result.p_value[0]),
    }
    told = finding.interval()
    if told is not None:
        row[finding.quantity.replace(" ", "_")] = _finite(told[0])
        row["lower_95"], row["upper_95"] = _finite(told[1]), _finite(told[2])
    return row


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_trial(
    path: Path | str,
    *,
    time: str,
    event: str,
    arm: str,
    control: str | None = None,
    stratum: str | None = None,
) -> TrialData:
    """Read two arms from a file of comma-separated values, one row for each patient.

    Parameters
    ----------
    path : pathlib.Path or str
        The file; its first row names the columns.
    time, event, arm : str
        Columns with follow-up (any unit, at least 0), with 1 for an event and 0
        for censoring, and with the arm's name.
    control : str, optional
        Name of the control arm. By default ``control`` or ``placebo`` if there
        is such an arm, or the first in sorted order.
    stratum : str, optional
        Column with the stratum.

    Returns
    -------
    TrialData

    Raises
    ------
    AnalysisError
        With one line that says what is wrong and what to do.
    """
    table = _read_csv(path)
    asked = {"--time": time, "--event": event, "--arm": arm}
    if stratum is not None:
        asked["--stratum"] = stratum
    for option, column in asked.items():
        _check_column(table, option, column)
    for option, column in asked.items():
        _check_complete(table, option, column)
    months = _numbers(table, "--time", time, "a number")
    if np.any(negative := months < 0.0):
        raise AnalysisError(
            f"--time: column '{time}' is negative in {_rows(negative)}. Follow-up counts from "
            "randomisation: correct these rows or leave them out."
        )
    happened = _events(table, event)
    names = table[arm]
    known = _sorted_values(names)
    if len(known) == 1:
        raise AnalysisError(
            f"--arm: column '{arm}' holds '{known[0]}' alone; a comparison needs two arms."
        )
    if len(known) > 2:
        raise AnalysisError(
            f"--arm: column '{arm}' holds {len(known)} arms ({_some(known)}); keep the rows of "
            "two of them in the file."
        )
    notes: list[str] = []
    chosen = _control(control, known, notes)
    if not happened.any():
        raise AnalysisError(
            f"--event: column '{event}' holds no event (1) in {len(table)} patients; there is "
            "nothing to compare. Is 1 the code of an event?"
        )
    if zeros := int(np.count_nonzero(months == 0.0)):
        notes.append(
            f"{_count(zeros, 'patient')} with time 0: kept, at risk at time 0 and no longer."
        )
    return TrialData(
        time=months,
        event=happened,
        arm=(names != chosen).to_numpy(),
        stratum=None if stratum is None else table[stratum].to_numpy(),
        control=chosen,
        experimental=next(name for name in known if name != chosen),
        notes=tuple(notes),
    )


def _read_csv(path: Path | str) -> pd.DataFrame:
    place = Path(path)
    if not place.is_file():
        raise AnalysisError(f"'{path}': no such file. Give the path of a CSV file.")
    try:
        table = pd.read_csv(place, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise AnalysisError(f"'{path}' is empty. The first row must name the columns.") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise AnalysisError(
            f"'{path}': cannot be read as comma-separated values: {reason}"
        ) from None
    if table.empty:
        raise AnalysisError(f"'{path}' has column names and no patients.")
    table.columns = table.columns.str.strip()
    return table.apply(lambda column: column.str.strip())


def _check_column(table: pd.DataFrame, option: str, column: str) -> None:
    if column in table.columns:
        return
    names = [str(name) for name in table.columns]
    close = difflib.get_close_matches(column.lower(), [name.lower() for name in names], n=1)
    hint = ""
    if close:
        nearest = next(name for name in names if name.lower() == close[0])
        hint = f" Did you mean '{nearest}'?"
    raise AnalysisError(f"{option}: no column '{column}'.{hint} Columns: {_some(names)}.")


def _check_complete(table: pd.DataFrame, option: str, column: str) -> None:
    missing = (table[column].isna() | (table[column] == "")).to_numpy()
    if missing.any():
        raise AnalysisError(
            f"{option}: column '{column}' is missing in {_rows(missing)}. Fill the values in or "
            "leave these rows out."
        )


def _numbers(table: pd.DataFrame, option: str, column: str, what: str) -> FloatArray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        first = table[column].to_numpy()[bad][0]
        raise AnalysisError(
            f"{option}: column '{column}' is not {what} in {_rows(bad)}: '{first}'."
        )
    return values


_TRUTH = {"true": 1.0, "false": 0.0}


def _events(table: pd.DataFrame, column: str) -> BoolArray:
    text = table[column].str.lower()
    values = text.map(_TRUTH).fillna(pd.to_numeric(text, errors="coerce")).to_numpy(dtype=float)
    bad = ~np.isin(values, (0.0, 1.0))
    if bad.any():
        first = table[column].to_numpy()[bad][0]
        hint = ""
        if set(values[~np.isnan(values)]) == {1.0, 2.0} and not np.isnan(values).any():
            hint = " If 2 is the event and 1 censored, subtract 1."
        raise AnalysisError(
            f"--event: column '{column}' must be 1 (event) or 0 (censored), got '{first}' in "
            f"{_rows(bad)}.{hint}"
        )
    return np.asarray(values == 1.0)


def _control(asked: str | None, known: Sequence[str], notes: list[str]) -> str:
    if asked is not None:
        if asked not in known:
            raise AnalysisError(
                f"--control: no arm '{asked}'. The arms are {known[0]} and {known[1]}."
            )
        return asked
    named = [name for name in known if name.lower() in CONTROL_NAMES]
    chosen = named[0] if len(named) == 1 else known[0]
    why = "by its name" if len(named) == 1 else "the first in sorted order"
    notes.append(f"Control is '{chosen}', {why}; --control chooses the other.")
    return chosen


def _sorted_values(column: pd.Series[str]) -> list[str]:
    values = [str(value) for value in column.unique()]
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def _rows(bad: BoolArray) -> str:
    """Rows by number, the first below the names being 1."""
    numbers = np.flatnonzero(bad) + 1
    shown = ", ".join(str(i) for i in numbers[:_SHOWN_ROWS])
    more = f" and {len(numbers) - _SHOWN_ROWS} more" if len(numbers) > _SHOWN_ROWS else ""
    return f"row{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def compare(data: TrialData, *, tau: float | None = None, milestone: float | None = None) -> Report:
    """Make every comparison of two arms.

    Parameters
    ----------
    data : TrialData
        The trial.
    tau : float, optional
        End of the restricted mean; by default the smaller of the arms' largest
        follow-ups.
    milestone : float, optional
        Time at which survival is compared, if at all.

    Returns
    -------
    Report
        Log-rank, Fleming-Harrington, MaxCombo, Cox and restricted mean, the
        first, second and fourth within strata as well if there are any.

    Raises
    ------
    AnalysisError
        If `tau` or `milestone` is not above 0.
    """
    notes = list(data.notes)
    sample = _sample(data, np.ones(len(data.time), dtype=bool))
    longest = [float(data.time[data.arm == arm].max()) for arm in (False, True)]
    shared = min(longest)
    for option, value in (("--tau", tau), ("--milestone", milestone)):
        if value is not None and not (np.isfinite(value) and value > 0.0):
            raise AnalysisError(f"{option} must be above 0, got {value:g}.")
        if value is not None and value > shared:
            notes.append(
                f"{option} {value:g} is beyond the last follow-up of an arm ({shared:g}): its "
                "curve is carried on level from there."
            )
    if tau is None:
        if shared == 0.0:
            raise AnalysisError("--tau: an arm has no follow-up beyond time 0; give --tau.")
        tau = shared
        notes.append(
            f"Restricted means end at {tau:g}, the smaller of the arms' largest follow-ups."
        )
    events = [int(np.count_nonzero(data.event & (data.arm == arm))) for arm in (False, True)]
    for name, count in zip((data.control, data.experimental), events, strict=True):
        if count == 0:
            notes.append(f"Arm '{name}' has no event: the hazard ratio is not finite.")
    findings = [
        Finding("Log-rank", logrank(sample)),
        *(Finding(f"Fleming-Harrington ({r:g}, {g:g})", fleming_harrington(sample, r, g))
          for r, g in FH_WEIGHTS),
        Finding("MaxCombo", maxcombo(sample, DEFAULT_WEIGHTS, INTEGRAL)),
        Finding("Cox regression", cox(sample), "hazard ratio", log_scale=True),
        Finding("Restricted mean", rmst_difference(sample, tau), "difference"),
    ]  # fmt: skip
    if milestone is not None:
        findings.append(
            Finding(
                f"Survival at {milestone:g}", milestone_difference(sample, milestone), "difference"
            )
        )
    if data.stratum is not None:
        strata = [_sample(data, data.stratum == s) for s in np.unique(data.stratum)]
        lonely = sum(
            len(np.unique(data.arm[data.stratum == s])) < 2 for s in np.unique(data.stratum)
        )
        if lonely:
            which = "1 stratum has one arm alone and adds"
            if lonely > 1:
                which = f"{lonely} strata have one arm alone and add"
            notes.append(f"{which} nothing to what is stratified.")
        findings += [
            Finding("Log-rank, stratified", stratified_logrank(strata)),
            *(Finding(f"Fleming-Harrington ({r:g}, {g:g}), stratified",
                      stratified_fleming_harrington(strata, r, g)) for r, g in FH_WEIGHTS),
            Finding("Cox regression, stratified", stratified_cox(strata), "hazard ratio",
                    log_scale=True),
        ]  # fmt: skip
    arms = []
    for k, (name, role) in enumerate(
        ((data.control, "control"), (data.experimental, "experimental"))
    ):
        median, _ = median_survival(sample.arms[k])
        mine = data.arm == bool(k)
        arms.append(
            ArmSummary(name, role, int(mine.sum()), events[k], float(median[0]), longest[k])
        )
    return Report(data, (arms[0], arms[1]), tau, tuple(findings), tuple(notes))


def _sample(data: TrialData, who: BoolArray) -> Sample:
    tick, months = rank_ticks(data.time[None, who])
    return Sample.of(pack(tick, data.event[None, who], data.arm[None, who]), months)
