"""Which rows of a sweep a figure shows, and along what.

A table of a sweep has many dimensions: its swept parameters, and the cut, arm,
endpoint and method of each result. A figure has few. What is asked for is
looked up here, the rest is chosen as is usual (the last cut, the first
endpoint), and what still varies is shared out over the horizontal axis, lines
and panels.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.sensitivity import base_values, is_one_at_a_time
from figures.sweep_tables import COHORT, FACETS, Sweep, is_missing
from sim.errors import ResistimeError

__all__ = [
    "EVERY",
    "MOST_LINES",
    "MOST_PANELS",
    "PATHS_OF_CUT",
    "Choice",
    "ChoiceError",
    "Part",
    "Roles",
    "Shown",
    "chosen_values",
    "distinct",
    "done_rows",
    "drop_tied",
    "fewer_methods",
    "find_parameter",
    "hold_others",
    "is_number",
    "measure_rows",
    "narrow",
    "no_such",
    "only_first",
    "pick_measure",
    "pick_over",
    "places_of",
    "share_out",
    "split",
    "where_rows",
]  # fmt: skip

EVERY = "all"
"""In the place of a name: every cut, arm, endpoint or method."""

MOST_LINES, MOST_PANELS = 8, 9

PATHS_OF_CUT = ("events", "date")
"""Measures of a cut that can stand on the horizontal axis."""


class ChoiceError(ResistimeError, ValueError):
    """A figure that cannot be drawn as it was asked for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for; empty where nothing was."""

    measure: str = ""
    cut: tuple[str, ...] = ()
    arm: tuple[str, ...] = ()
    endpoint: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    over: str = ""
    """Swept parameter, or measure of a cut, of the horizontal axis."""

    by: str = ""
    """Swept parameter or facet: a line for each value, or the vertical axis of a heat map."""

    where: tuple[str, ...] = ()
    """Of the form PARAM=VALUE."""

    size: str = ""
    """Swept parameter that is the size of a trial."""

    against: str = ""
    """What paired differences are set against."""

    target: float = 0.9
    """Power for which a size is sought."""

    output: str = ""
    """Name of the files, without suffix."""

    @classmethod
    def of(cls, kind: str, options: Mapping[str, Any]) -> Choice:
        """The choice that a sweep's own list of figures makes, given as a mapping.

        Raises
        ------
        ChoiceError
            If it has an option that there is not, or a value that cannot be one.
        """
        known = {field.name: field.default for field in fields(cls)}
        made: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                raise ChoiceError(no_such(f"figure {kind}", "option", str(name), list(known)))
            if name == "target":
                try:
                    made[name] = float(value)
                except (TypeError, ValueError):
                    raise ChoiceError(
                        f"figure {kind}: target must be a number, got '{value}'"
                    ) from None
            elif isinstance(known[name], tuple):
                many = [value] if isinstance(value, str) or not isinstance(value, list) else value
                made[name] = tuple(str(item) for item in many)
            else:
                made[name] = "" if value is None else str(value)
        return cls(**made)


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows that a figure is drawn from."""

    rows: pd.DataFrame
    fixed: Mapping[str, str]
    """By facet, the one value that is shown."""

    varying: tuple[str, ...]
    """Facets and swept parameters with several values, parameters first."""

    notes: tuple[str, ...]
    """What the reader must be told about the choice."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What stands on the horizontal axis, what lines are for, and what panels are for."""

    over: str
    by: str
    panels: tuple[str, ...]


def no_such(where: str, kind: str, name: str, known: Collection[str]) -> str:
    """One line about a name that is not known, with the nearest one and all there are."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{where}: no {kind} '{name}'.{hint} There is: {', '.join(known) or 'none'}."


def distinct(values: pd.Series) -> list[Any]:
    """The values that occur: numbers sorted, others as they come, null last."""
    every = list(dict.fromkeys(None if is_missing(value) else value for value in values))
    real = [value for value in every if value is not None]
    if is_number(values):
        real.sort()
    return real + [None] * (None in every)


def places_of(values: pd.Series, order: Sequence[Any]) -> list[int]:
    """Where each value stands in an order that `distinct` gave."""
    return [order.index(None if is_missing(value) else value) for value in values]


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers; true and false are names."""
    return bool(
        pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    )


def find_parameter(sweep: Sweep, option: str, name: str, also: Sequence[str] = ()) -> str:
    """The path of a swept parameter, which may be given by its end alone.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    option : str
        Where the name was given.
    name : str
        Path, or as much of its end as tells it from the others.
    also : sequence of str
        Other names that are allowed, returned as they are.

    Raises
    ------
    ChoiceError
        If there is none, or several.
    """
    if name in (*also, *sweep.paths):
        return name
    found = [path for path in sweep.paths if path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ChoiceError(f"{option}: '{name}' may be {' or '.join(found)}; give the whole path.")
    raise ChoiceError(no_such(option, "swept parameter", name, [*sweep.paths, *also]))


def where_rows(sweep: Sweep, table: pd.DataFrame, where: Sequence[str]) -> pd.DataFrame:
    """Rows of the cells whose parameters have the values given.

    Several values of one parameter are alternatives.

    Raises
    ------
    ChoiceError
        If a parameter or value is not of the sweep, or no cell has them all.
    """
    asked: dict[str, list[str]] = {}
    for text in where:
        name, sign, value = text.partition("=")
        if not sign:
            raise ChoiceError(f"--where: write PARAM=VALUE, got '{text}'.")
        asked.setdefault(find_parameter(sweep, "--where", name.strip()), []).append(value.strip())
    for path, wanted in asked.items():
        there = {_typed(value): value for value in distinct(table[path])}
        chosen = []
        for value in wanted:
            match = [real for text, real in there.items() if _same(text, real, value)]
            if not match:
                raise ChoiceError(
                    f"--where: {path} is never '{value}' in these cells. It is: {', '.join(there)}."
                )
            chosen += match
        keep = table[path].isin([value for value in chosen if value is not None])
        if None in chosen:
            keep |= table[path].isna()
        table = table[keep]
    return table


def _typed(value: Any) -> str:
    """A value as it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    return str(value).lower() if type(value).__name__ in ("bool", "bool_") else f"{value:.15g}"


def _same(text: str, real: Any, typed: str) -> bool:
    if typed == text:
        return True
    if isinstance(real, str) and "".join(real.split()) == "".join(typed.split()):
        return True
    try:
        return not isinstance(real, str | bool) and real is not None and float(typed) == real
    except ValueError:
        return False


def done_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the cells that were run.

    Raises
    ------
    ChoiceError
        If there are none.
    """
    done = table[table["status"] == "done"]
    if done.empty:
        reasons = [str(text) for text in table["error"].dropna() if str(text)]
        why = f"; the first failed because: {reasons[0]}" if reasons else ""
        raise ChoiceError(f"nothing to draw: no cell is done{why}")
    return done


def pick_measure(table: pd.DataFrame, measure: str) -> str:
    """The measure that was asked for, or else power, the median, or the first there is.

    Raises
    ------
    ChoiceError
        If it is not in the table, or every cell failed.
    """
    there = list(dict.fromkeys(done_rows(table)["measure"]))
    if measure and measure not in there:
        raise ChoiceError(no_such("--measure", "measure", measure, there))
    usual = [name for name in (measure, "power", "median") if name and name in there]
    return (usual or there)[0]


def measure_rows(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rows of one measure, and rows without a value in the places of cells that failed.

    So lines break where a cell is missing, and do not run over it.
    """
    done = done_rows(table)
    rows = done[done["measure"] == measure]
    failed = table[table["status"] != "done"].drop_duplicates("cell")
    if failed.empty:
        return rows
    empty = failed.drop(columns=[*FACETS, "measure"]).merge(
        rows[[*FACETS, "measure"]].drop_duplicates(), how="cross"
    )
    whole = pd.concat([rows, empty], ignore_index=True)
    return whole.sort_values("cell", kind="stable", ignore_index=True)


def narrow(
    sweep: Sweep,
    table: pd.DataFrame,
    choice: Choice,
    along: Sequence[str] = (),
    column: str = "estimate",
) -> Shown:
    """The rows that a figure shows.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    table : DataFrame
        The swept parameters and the facets, with one row for each of their combinations: of one
        measure.
    choice : Choice
        What was asked for.
    along : sequence of str
        Facets that the figure has an axis, lines or rows for, and of which all are shown.
    column : str
        Of the values.

    Raises
    ------
    ChoiceError
        If there is no such parameter, value or facet, or no row has a value.
    """
    rows = where_rows(sweep, table, choice.where)
    fixed: dict[str, str] = {}
    for facet in FACETS:
        there = [str(value) for value in distinct(rows[facet])]
        asked: tuple[str, ...] = getattr(choice, facet)
        named = [value for value in asked if value in there or value != EVERY]
        if named:
            for value in named:
                if value not in there:
                    known = [name for name in there if name]
                    raise ChoiceError(no_such(f"--{facet}", facet, value, known))
            rows = rows[rows[facet].isin(named)]
        elif not asked and facet not in along and there:
            if facet == "cut":
                rows = rows[rows[facet] == there[-1]]
            elif facet == "endpoint":
                rows = rows[rows[facet] == there[0]]
        left = rows[facet].unique()
        if len(left) == 1 and left[0] and left[0] != COHORT:
            several = facet != "arm" or table[facet].nunique() > 1
            if several:
                fixed[facet] = str(left[0])
    if not np.isfinite(rows[column]).any():
        raise ChoiceError("nothing to draw: none of these cells has a value")
    varying = [path for path in sweep.paths if len(distinct(rows[path])) > 1]
    varying += [
        facet
        for facet in FACETS
        if rows[facet].nunique() > 1 and (facet in along or not _follows(sweep, rows, facet))
    ]
    return Shown(rows, fixed, tuple(varying), chosen_values(sweep, table, rows))


def _follows(sweep: Sweep, rows: pd.DataFrame, facet: str) -> bool:
    """Whether a facet has one value in each cell, as the arm has where arms are swept."""
    cells = rows[list(sweep.paths)].astype(str)
    return len(cells.assign(facet=rows[facet]).drop_duplicates()) == len(cells.drop_duplicates())


def chosen_values(sweep: Sweep, table: pd.DataFrame, rows: pd.DataFrame) -> tuple[str, ...]:
    """Of which of several values of swept parameters the rows are, in words."""
    held = {
        path: distinct(rows[path])[0]
        for path in sweep.paths
        if len(distinct(rows[path])) == 1 and len(distinct(table[path])) > 1
    }
    told = "; ".join(sweep.told(path, value) for path, value in held.items())
    return (f"Shown of several: {told}.",) if held else ()


def hold_others(sweep: Sweep, shown: Shown, table: pd.DataFrame, kept: Sequence[str]) -> Shown:
    """Where one thing was swept at a time, the cells in which the others are at their base.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    shown : Shown
        What is shown so far.
    table : DataFrame
        All cells, also those that failed.
    kept : sequence of str
        Parameters that vary in the figure.
    """
    if not is_one_at_a_time(table, sweep.paths):
        return shown
    held: dict[str, Any] = {}
    rows = shown.rows
    for path, base in zip(sweep.paths, base_values(table, sweep.paths), strict=True):
        if path in kept or path not in shown.varying:
            continue
        held[path] = base
        rows = rows[rows[path].isna() if base is None else rows[path] == base]
    if not held or rows.empty:
        return shown
    told = "; ".join(sweep.told(path, value) for path, value in held.items())
    varying = tuple(name for name in shown.varying if name not in held)
    return replace(
        shown, rows=rows, varying=varying, notes=(*shown.notes, f"At their base: {told}.")
    )


def drop_tied(sweep: Sweep, shown: Shown, over: str, kept: Sequence[str] = ()) -> Shown:
    """Parameters that have one value at each value of another need no lines or panels.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    shown : Shown
        What is shown.
    over : str
        The other: a swept parameter; with anything else nothing is changed.
    kept : sequence of str
        What has a place of its own.
    """
    if over not in sweep.paths:
        return shown
    values = shown.rows[[over]].drop_duplicates().shape[0]
    tied = [
        name
        for name in shown.varying
        if name in sweep.paths
        and name not in (over, *kept)
        and shown.rows[[over, name]].drop_duplicates().shape[0] == values
    ]
    notes = [
        f"With {sweep.axis(over).label} also changes {sweep.axis(name).label}." for name in tied
    ]
    varying = tuple(name for name in shown.varying if name not in tied)
    return replace(shown, varying=varying, notes=(*shown.notes, *notes))


def only_first(shown: Shown, facet: str) -> Shown:
    """Rows of the first value of a facet."""
    first = str(shown.rows[facet].iloc[0])
    return replace(
        shown,
        rows=shown.rows[shown.rows[facet] == first],
        fixed={**shown.fixed, facet: first},
        varying=tuple(name for name in shown.varying if name != facet),
    )


def fewer_methods(shown: Shown, choice: Choice, axes: Sequence[str], most: int) -> Shown:
    """The first method alone, where panels for all methods would be too many.

    Parameters
    ----------
    shown : Shown
        What is shown.
    choice : Choice
        If it names methods, they stay.
    axes : sequence of str
        What needs no panels.
    most : int
        Panels that there is room for.
    """
    panels = [name for name in shown.varying if name not in axes]
    if "method" not in panels or choice.method:
        return shown
    if shown.rows[panels].drop_duplicates().shape[0] <= most:
        return shown
    alone = only_first(shown, "method")
    return replace(alone, notes=(*alone.notes, "Other methods are left out."))


def pick_over(sweep: Sweep, shown: Shown, taken: Sequence[str] = ()) -> str:
    """The swept parameter for the horizontal axis: the number with most values, or else the first.

    Empty if none varies.
    """
    free = [path for path in sweep.paths if path in shown.varying and path not in taken]
    rows = shown.rows
    numbers = [path for path in free if is_number(rows[path]) and not rows[path].isna().any()]
    if numbers:
        return max(numbers, key=lambda path: len(distinct(rows[path])))
    return free[0] if free else ""


def share_out(
    sweep: Sweep, shown: Shown, over: str, by: str, *, lines: bool = True, most: int = MOST_PANELS
) -> Roles:
    """Give everything that varies a place.

    Parameters
    ----------
    sweep : Sweep
        The sweep.
    shown : Shown
        What is shown.
    over : str
        What stands on the horizontal axis.
    by : str
        What lines are for; if empty, methods, or else the first that varies.
    lines : bool
        Whether the figure has lines; if not, all that is left gets panels.
    most : int
        Panels that there is room for.

    Raises
    ------
    ChoiceError
        If there are too many lines or panels; it says what would narrow them.
    """
    left = [name for name in shown.varying if name not in (over, by)]
    if lines and not by:
        usual = [name for name in ("method", *left) if name in left]
        fit = [name for name in usual if len(distinct(shown.rows[name])) <= MOST_LINES]
        by = fit[0] if fit else ""
    panels = tuple(name for name in left if name != by)
    if by and len(distinct(shown.rows[by])) > MOST_LINES and lines:
        raise ChoiceError(_too_many("lines", MOST_LINES, [by], shown.rows))
    count = shown.rows[list(panels)].drop_duplicates().shape[0] if panels else 1
    if count > most:
        raise ChoiceError(_too_many("panels", most, panels, shown.rows))
    return Roles(over, by, panels)


def _too_many(what: str, most: int, names: Sequence[str], rows: pd.DataFrame) -> str:
    ways = [
        f"--{name} NAME" if name in FACETS else f"--where {name}=VALUE"
        for name in sorted(names, key=lambda name: -len(distinct(rows[name])))
    ]
    count = rows[list(names)].drop_duplicates().shape[0]
    return f"{count} {what} are too many to read (at most {most}); narrow with {' or '.join(ways)}."


Part = tuple[dict[str, Any], pd.DataFrame]
"""Values of some columns, and the rows that have them."""


def split(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[Part]:
    """Rows by the values of some columns, numbers in order; all of them if there are none."""
    if not names:
        yield {}, rows
        return
    first, rest = names[0], names[1:]
    for value in distinct(rows[first]):
        own = rows[rows[first].isna() if value is None else rows[first] == value]
        for key, part in split(own, rest):
            yield {first: value, **key}, part
