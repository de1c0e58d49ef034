"""The tables of a sweep, put together from the cells that are there.

Holds no path, host, date or duration, so that the same cells give the same
bytes wherever and in whatever order they were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import ResistimeError
from sim.sweep.cell import CURVE_COLUMNS, has_rows, is_finished, with_rows
from sim.sweep.definition import Definition
from sim.sweep.engine import cell_key
from sim.sweep.grid import Values, written
from sim.sweep.store import DamagedCellError, Store, Stored, environment, environments

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Collected", "Source", "collect", "tables_of"]

TEXT = ("cut", "arm", "endpoint", "method", "measure")
NUMBERS = ("estimate", "mc_error")
COUNTS = ("n_replicates", "n_patients")


@dataclass
class Collected:
    """What there is of a sweep."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """By name of the file, without suffix."""

    done: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    """Why cells failed, by their number."""

    missing: list[int] = field(default_factory=list)
    """Cells that are not there, or not whole."""

    damaged: dict[int, str] = field(default_factory=dict)
    elsewhere: dict[str, int] = field(default_factory=dict)
    """Cells that only other environments have made, by the name of the environment."""

    used: dict[str, int] = field(default_factory=dict)
    """Cells by the environment that made them."""

    @property
    def complete(self) -> bool:
        """Whether every cell is done or has failed."""
        return not self.missing


class Source(Enum):
    """Whose cells make a table."""

    OWN = "own"
    """Those that this version, processor and libraries have made."""

    FULLEST = "fullest"
    """Those of the one that has made most of them; of this one, if it has as many."""

    MIXED = "mixed"
    """Those of others too, where this one has none."""


def collect(definition: Definition, place: Path, source: Source = Source.OWN) -> Collected:
    """Put the tables of a sweep together.

    Parameters
    ----------
    definition : Definition
        The sweep.
    place : pathlib.Path
        Its folder.
    source : Source
        Whose cells are taken, where several versions, processors or libraries
        have made some. They agree to about nine digits, and not to the byte.
    """
    stores = [Store(place)]
    others = [name for name in environments(place) if name != environment().name]
    stores += [Store(place, name) for name in others]
    if source is Source.FULLEST:
        stores.sort(key=lambda store: -_count(definition, store))
    found = Collected()
    whole: list[Stored | None] = []
    for index, values in enumerate(definition.grid.cells):
        mixed = source is Source.MIXED
        whole.append(_find(definition, stores, index, values, found, mixed=mixed))
    found.tables = tables_of(definition, whole, found.failed)
    return found


def tables_of(
    definition: Definition, whole: Sequence[Stored | None], failed: Mapping[int, str]
) -> dict[str, pd.DataFrame]:
    """The tables of cells, by the names of their files without suffix.

    Parameters
    ----------
    definition : Definition
        The sweep.
    whole : sequence of Stored or None
        What is kept of each of its cells.
    failed : mapping
        Why cells failed, by their number.
    """
    swept = [definition.swept(values) for values in definition.grid.cells]
    tables = {
        "sweep": _sweep_table(definition, swept, whole, failed),
        "sweep_paired": _paired_table(definition, swept, whole),
        "sweep_curves": _curve_table(definition, swept, whole),
    }
    return {name: table for name, table in tables.items() if name == "sweep" or len(table)}


def _count(definition: Definition, store: Store) -> int:
    """How many cells of a sweep one has made."""
    count = 0
    for values in definition.grid.cells:
        with suppress(ResistimeError):
            count += _read(definition, store, values) is not None
    return count


def _read(definition: Definition, store: Store, values: Values) -> Stored | None:
    """A cell with the rows that are asked for; None where it has not been made.

    Raises
    ------
    ResistimeError
        If its file is damaged, or its configuration cannot be.
    """
    base, own = definition.base(values), definition.own_values(values)
    kept = store.read(cell_key(base, definition.asked, own))
    if kept is None or has_rows(definition.asked, kept):
        return kept
    cell = base.cell(own)
    if is_finished(cell, definition.asked, kept):
        return kept
    try:
        return with_rows(cell, definition.asked, kept)
    except ValueError:
        return None


def _find(
    definition: Definition, stores: Sequence[Store], index: int, values: Values, found: Collected,
    *, mixed: bool,
) -> Stored | None:  # fmt: skip
    """A cell as it is kept, with its rows; None where it is not, and then why."""
    for store in stores:
        try:
            kept = _read(definition, store, values)
        except DamagedCellError as error:
            found.damaged[index] = str(error)
            continue
        except ResistimeError as error:
            found.failed[index] = str(error)
            return None
        if kept is None:
            continue
        if store is not stores[0] and not mixed:
            found.elsewhere[store.of] = found.elsewhere.get(store.of, 0) + 1
            break
        found.used[store.of] = found.used.get(store.of, 0) + 1
        found.done += 1
        return kept
    base, own = definition.base(values), definition.own_values(values)
    if reason := stores[0].failure(cell_key(base, definition.asked, own)) or base.refusal(own):
        found.failed[index] = reason
    else:
        found.missing.append(index)
    return None


def _sweep_table(
    definition: Definition,
    swept: Sequence[Sequence[Any]],
    whole: Sequence[Stored | None],
    failed: Mapping[int, str],
) -> pd.DataFrame:
    import pandas as pd

    rows: list[list[Any]] = []
    index: list[int] = []
    status: list[str] = []
    errors: list[str] = []
    nothing = ["", "", "", "", "", np.nan, np.nan, None, None]
    for i, kept in enumerate(whole):
        own = kept.rows if kept is not None else [nothing]
        rows += own
        index += [i] * len(own)
        error = failed.get(i, "")
        status += ["done" if kept is not None else "failed" if error else "missing"] * len(own)
        errors += [error] * len(own)
    table = _labelled(definition, swept, index)
    table["status"] = status
    columns = list(zip(*rows, strict=True))
    names = (*TEXT, *NUMBERS, *COUNTS)
    for name, values in zip(names, columns, strict=True):
        if name in COUNTS:
            table[name] = pd.array(values, dtype="Int64")
        else:
            table[name] = list(values)
    table["error"] = errors
    return table


def _paired_table(
    definition: Definition, swept: Sequence[Sequence[Any]], whole: Sequence[Stored | None]
) -> pd.DataFrame:
    import pandas as pd

    from analysis.paired import COLUMNS

    rows = [(i, row) for i, kept in enumerate(whole) if kept is not None for row in kept.paired]
    table = _labelled(definition, swept, [i for i, _ in rows])
    values = pd.DataFrame([row for _, row in rows], columns=list(COLUMNS))
    return pd.concat([table, values], axis=1)


def _curve_table(
    definition: Definition, swept: Sequence[Sequence[Any]], whole: Sequence[Stored | None]
) -> pd.DataFrame:
    import pandas as pd

    kept = [(i, cell) for i, cell in enumerate(whole) if cell is not None and len(cell.points)]
    curves = [(i, *curve) for i, cell in kept for curve in cell.curves]
    lengths = [n for *_, n in curves]
    table = _labelled(definition, swept, np.repeat([i for i, *_ in curves], lengths).tolist())
    for name, at in (("arm", 1), ("endpoint", 2)):
        table[name] = np.repeat(np.array([curve[at] for curve in curves], dtype=object), lengths)
    points = np.concatenate([cell.points for _, cell in kept]) if kept else np.empty((0, 5))
    return pd.concat([table, pd.DataFrame(points, columns=list(CURVE_COLUMNS))], axis=1)


def _labelled(
    definition: Definition, swept: Sequence[Sequence[Any]], index: Sequence[int]
) -> pd.DataFrame:
    """Number and swept values of a cell for each row."""
    import pandas as pd

    which = np.array(index, dtype=np.int64)
    table = {"cell": pd.Series(which)}
    for i, path in enumerate(definition.grid.paths):
        column = _typed([values[i] for values in swept])
        table[path] = column.take(which).reset_index(drop=True)
    return pd.DataFrame(table)


def _typed(values: Sequence[Any]) -> pd.Series:
    """Swept values as whole numbers, numbers, truth values or text."""
    import pandas as pd

    given = [value for value in values if value is not None]
    if given and all(isinstance(value, bool) for value in given):
        return pd.Series(list(values), dtype="bool" if len(given) == len(values) else "boolean")
    numbers = [value for value in given if isinstance(value, int | float)]
    if given and len(numbers) == len(given) and not any(isinstance(x, bool) for x in given):
        whole = all(isinstance(value, int) and -(2**63) <= value < 2**63 for value in given)
        if whole:
            return pd.Series(list(values), dtype="int64" if len(given) == len(values) else "Int64")
        return pd.Series([np.nan if x is None else float(x) for x in values], dtype="float64")
    return pd.Series([None if x is None else written(x) for x in values], dtype="object")
