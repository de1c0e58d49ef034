"""What a result depends on most: its range over the values of each swept parameter.

In a sweep of one thing at a time every cell differs from the base, cell 0, in
one parameter, and the others are held there. In a product of values the others
are averaged over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["base_values", "is_one_at_a_time", "sensitivity_table"]

Values = tuple[Any, ...]
"""A cell's values of the swept parameters; None where missing."""


def base_values(cells: pd.DataFrame, parameters: Sequence[str]) -> Values:
    """Values of the swept parameters in the base, the first cell.

    Parameters
    ----------
    cells : DataFrame
        cell and the swept parameters, any number of rows for a cell, failed ones too.
    parameters : sequence of str
        Swept parameters.
    """
    first = cells[cells["cell"] == cells["cell"].min()]
    return _values(first, parameters)[0]


def is_one_at_a_time(cells: pd.DataFrame, parameters: Sequence[str]) -> bool:
    """Whether every cell differs from the base in at most one of several parameters."""
    base, every = base_values(cells, parameters), set(_values(cells, parameters))
    moved = [[i for i, value in enumerate(own) if value != base[i]] for own in every]
    return all(len(own) <= 1 for own in moved) and len({i for own in moved for i in own}) > 1


def _values(cells: pd.DataFrame, parameters: Sequence[str]) -> list[Values]:
    columns = cells[list(parameters)].astype(object)
    rows = columns.where(columns.notna(), None).itertuples(index=False, name=None)
    return list(rows)


def sensitivity_table(
    cells: pd.DataFrame, parameters: Sequence[str], base: Values | None
) -> pd.DataFrame:
    """A measure at each value of each parameter, the others at their base or averaged over.

    Parameters
    ----------
    cells : DataFrame
        One row for each cell: the swept parameters, estimate, mc_error. Cells without a finite
        estimate are left out.
    parameters : sequence of str
        Swept parameters.
    base : tuple or None
        Where the others are held; None to average over them. The average is over those of
        their combinations that have every value of the parameter, so that nothing but the
        parameter differs.

    Returns
    -------
    DataFrame
        parameter, value, estimate, mc_error, n_cells, is_base; parameters with the widest range
        first, their values in the order in which they come. A parameter with fewer than two
        values is left out. The error of an average is the mean of the errors, the most it can
        be: cells share patients, and their errors go together.
    """
    known = cells[np.isfinite(cells["estimate"])]
    values = _values(known, parameters)
    numbers = known[["estimate", "mc_error"]].to_numpy(dtype=np.float64)
    out = []
    for i, parameter in enumerate(parameters):
        found: dict[Any, dict[Values, int]] = {}
        for row, own in enumerate(values):
            others = own[:i] + own[i + 1 :]
            if base is None or others == base[:i] + base[i + 1 :]:
                found.setdefault(own[i], {})[others] = row
        common = set.intersection(*map(set, found.values())) if found else set()
        if len(found) < 2 or not common:
            continue
        means = {
            value: numbers[[rows[others] for others in sorted(common, key=repr)]].mean(axis=0)
            for value, rows in found.items()
        }
        reach = np.ptp([mean[0] for mean in means.values()])
        for value, (estimate, error) in means.items():
            at_base = base is not None and value == base[i]
            out.append((-reach, parameter, value, estimate, error, len(common), at_base))
    out.sort(key=lambda row: row[0])
    names = ["parameter", "value", "estimate", "mc_error", "n_cells", "is_base"]
    table = pd.DataFrame([row[1:] for row in out], columns=names)
    return table.astype({"value": object})
