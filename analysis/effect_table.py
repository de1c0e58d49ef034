"""Published hazard ratios of strategies against their controls, and what was known when.

The table that ships is ``configs/reference/strategy_effects.csv``: a row for each
randomised contrast and endpoint, with the year in which that number was first
published (`year`) and the year of the trial's first report (`first_reported`), which is
earlier where the number is an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from math import log
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from sim.errors import ScenarioError

__all__ = [
    "ENDPOINTS", "FAMILIES", "KINDS", "kind_of", "known_before", "log_estimate", "read_effects",
]  # fmt: skip

ENDPOINTS = ("pfs", "os")

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "pd1_v_chemotherapy_high": "PD-(L)1 v chemotherapy, first line, PD-L1 high",
        "pd1_v_chemotherapy_positive": "PD-(L)1 v chemotherapy, first line, PD-L1 positive",
        "pd1_v_docetaxel": "PD-(L)1 v docetaxel, later lines",
        "pd1_after_chemoradiation": "PD-L1 v placebo after chemoradiation, stage III",
        "pd1_chemotherapy_v_chemotherapy": "PD-(L)1 added to chemotherapy",
        "ctla4_pd1_v_chemotherapy": "CTLA-4 + PD-(L)1 v chemotherapy",
        "ctla4_pd1_chemotherapy_v_chemotherapy": "CTLA-4 + PD-L1 added to chemotherapy",
        "tigit_added": "TIGIT added to PD-(L)1",
        "tigit_adenosine_added": "TIGIT + adenosine A2 added to PD-1",
        "nkg2a_added": "NKG2A added to PD-L1",
        "adenosine_added": "Adenosine (CD73) added to PD-L1",
        "vegfr_tki_added": "VEGFR inhibitor added to PD-1",
        "vegf_bispecific": "PD-1 x VEGF bispecific v PD-1",
        "vegf_after_ici": "VEGF(R) inhibitor + PD-(L)1 v chemotherapy, after ICI",
        "tgfb_added": "PD-L1 x TGF-beta v PD-1",
        "il1b_added": "IL-1 beta added to PD-1 + chemotherapy",
        "radiotherapy_added": "Radiotherapy added to PD-1",
        "vaccine_after_ici": "Vaccine v chemotherapy, after ICI",
        "continuing_v_stopping": "PD-1 continued v stopped at one year",
    }
)
"""Families of contrasts in words: what differs between the arms, and for whom."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "first_ici": "An ICI for patients without one, v none",
        "more_than_ici": "A partner beside or after an ICI",
    }
)
"""Kinds of families. What an ICI does against chemotherapy says little of what a partner adds."""

_FIRST = {
    "pd1_v_chemotherapy_high", "pd1_v_chemotherapy_positive", "pd1_v_docetaxel",
    "pd1_after_chemoradiation", "pd1_chemotherapy_v_chemotherapy", "ctla4_pd1_v_chemotherapy",
    "ctla4_pd1_chemotherapy_v_chemotherapy",
}  # fmt: skip

COLUMNS = (
    "trial", "year", "first_reported", "phase", "family", "agent", "control", "line", "stratum",
    "population", "endpoint", "hazard_ratio", "lower", "upper", "level", "n_experimental",
    "n_control", "checked", "source", "pooled",
)  # fmt: skip

LOPSIDED = 0.35
"""Standard errors by which a hazard ratio may be off the middle of its interval.

An interval of Cox's model is symmetric in the logarithm but for rounding.
"""


def kind_of(family: str) -> str:
    """Kind to which a family belongs; a kind stands for a family that is not listed.

    Examples
    --------
    >>> kind_of("pd1_v_docetaxel"), kind_of("tigit_added"), kind_of("more_than_ici")
    ('first_ici', 'more_than_ici', 'more_than_ici')
    """
    if family in KINDS:
        return family
    if family not in FAMILIES:
        raise ValueError(f"no family '{family}'. Known: {', '.join([*FAMILIES, *KINDS])}.")
    return "first_ici" if family in _FIRST else "more_than_ici"


def log_estimate(
    hazard_ratio: float, lower: float, upper: float, level: float = 0.95
) -> tuple[float, float]:
    """Logarithm of a hazard ratio and its standard error, from the interval that was printed.

    Parameters
    ----------
    hazard_ratio, lower, upper : float
        Estimate and the ends of its interval.
    level : float
        Of the interval, between 0 and 1.

    Raises
    ------
    ValueError
        If the estimate is not inside, the level is not between 0 and 1, or the interval is not
        symmetric in the logarithm, which points to a slip in copying.

    Examples
    --------
    >>> value, error = log_estimate(0.7, 0.5, 0.98)
    >>> round(value, 4), round(error, 4)
    (-0.3567, 0.1717)
    """
    from scipy.special import ndtri

    if not 0.0 < lower < hazard_ratio < upper:
        raise ValueError(
            f"a hazard ratio lies above 0 and inside its interval, got {hazard_ratio:g} "
            f"({lower:g} to {upper:g})"
        )
    if not 0.0 < level < 1.0:
        raise ValueError(f"level of an interval must lie between 0 and 1, got {level:g}")
    value = log(hazard_ratio)
    error = (log(upper) - log(lower)) / (2.0 * float(ndtri(0.5 + 0.5 * level)))
    if abs(value - 0.5 * (log(lower) + log(upper))) > LOPSIDED * error:
        raise ValueError(
            f"{hazard_ratio:g} is far from the middle of its interval ({lower:g} to {upper:g})"
        )
    return value, error


def read_effects(file: str | Path | None = None) -> pd.DataFrame:
    """Read a table of published hazard ratios.

    Parameters
    ----------
    file : path, optional
        A CSV file with the columns of the one that ships, which is read if none is given.

    Returns
    -------
    DataFrame
        The columns of the file with `kind`, `log_hazard_ratio` and `standard_error` (NaN where no
        interval was published); `pooled` is bool.

    Raises
    ------
    ScenarioError
        If the file cannot be read, lacks a column, names an unknown family or endpoint, or has a
        row that contradicts itself.
    """
    place = files("configs") / "reference" / "strategy_effects.csv" if file is None else file
    try:
        table = pd.read_csv(Path(str(place)), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise ScenarioError(f"strategy effects: cannot read '{place}': {error}") from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ScenarioError(f"strategy effects: '{place}' has no column {', '.join(missing)}")
    for column, known in (("family", tuple(FAMILIES)), ("endpoint", ENDPOINTS)):
        strange = sorted(set(table[column]) - set(known))
        if strange:
            raise ScenarioError(
                f"strategy effects: no {column} '{strange[0]}'. Known: {', '.join(known)}."
            )
    table["pooled"] = table["pooled"] == "yes"
    table["kind"] = table["family"].map(kind_of)
    values = np.full((len(table), 2), np.nan)
    numbers = table[["hazard_ratio", "lower", "upper", "level"]].to_numpy(dtype=np.float64)
    for i, row in enumerate(numbers):
        if np.isnan(row[1:]).any():
            if table["pooled"].iloc[i]:
                raise ScenarioError(
                    f"strategy effects: {table['trial'].iloc[i]} is pooled without an interval"
                )
            continue
        try:
            values[i] = log_estimate(*row)
        except ValueError as error:
            raise ScenarioError(
                f"strategy effects: {table['trial'].iloc[i]}, {table['endpoint'].iloc[i]}: {error}"
            ) from error
    return table.assign(log_hazard_ratio=values[:, 0], standard_error=values[:, 1])


def known_before(table: pd.DataFrame, year: float) -> pd.DataFrame:
    """The contrasts to pool from what was published before a year.

    Of several numbers of a contrast the latest counts. Contrasts that hold or are held in
    another, or have no interval, are not pooled.

    Parameters
    ----------
    table : DataFrame
        As from `read_effects`.
    year : float
        Rows of this year and later are left out.

    Returns
    -------
    DataFrame
        In the order of the table.
    """
    known = table[table["pooled"] & (table["year"] < year)].sort_values("year", kind="stable")
    same = ["trial", "family", "agent", "stratum", "endpoint"]
    return known.drop_duplicates(same, keep="last").sort_index()
