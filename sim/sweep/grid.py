"""The cells of a sweep: products, lists in step, changes one at a time, cells and CSV files.

Reads the `sweep` part of a configuration and says which values each cell
replaces. Knows nothing of what a cell is then used for.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, QuotedString, ValueType
from hydra.errors import HydraException

from sim.errors import ScenarioError
from sim.override import EVERY, rounded
from sim.schema import SweepConfig

__all__ = [
    "GROUPS", "Grid", "Values", "check_swept", "described", "folder_name", "is_group", "last_name",
    "read_grid", "read_value", "written",
]  # fmt: skip

Values = Mapping[str, Any]
"""What a cell replaces, by path; the name of a group of files stands for the choice of a file."""

Options = Callable[[str], Sequence[str]]
"""Names of the files of a group."""

GROUPS = (
    "population", "agent", "strategy", "course", "assessment", "coupling", "definition", "trial",
    "scenario",
)  # fmt: skip
"""Groups of files."""

NOT_SWEPT = {
    "n_replicates": "it is the same for all cells",
    "n_workers": "it changes no result",
    "precision": "it is the same for all cells",
    "max_replicates": "it is the same for all cells",
    "paired_with": "cells are paired by their seed",
    "shard": "it says which cells a job makes",
    "n_shards": "it says which cells a job makes",
    "dask": "it changes no result",
    "sweep": "a sweep holds no sweep",
    "hydra": "it is no part of a cell",
    "description": "it changes no result",
}
"""What cannot differ between cells, and why."""

MOST_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells of a sweep in their order."""

    paths: tuple[str, ...]
    """What is swept, in the order in which it was given."""

    cells: tuple[Values, ...]
    """What each replaces; what is left out stays as in the base configuration."""


def folder_name(sweep: Mapping[str, Any]) -> str:
    """Folder of a sweep that is not told where to go, by its name or by what it sweeps.

    Parameters
    ----------
    sweep : mapping
        The `sweep` part of a configuration; nothing comes of one that is empty.

    Examples
    --------
    >>> folder_name({"name": "late_benefit"}), folder_name({})
    ('sweeps/late_benefit', '')
    >>> folder_name({"grid": {"trial.n_patients": [200, 400]}})
    'sweeps/n_patients-a61b37'
    """
    if sweep.get("name"):
        return f"sweeps/{sweep['name']}"
    parts = {name: sweep.get(name) for name in ("grid", "zip", "each", "cells", "csv")}
    if not any(parts.values()) or any(
        parts[name] is not None and not isinstance(parts[name], Mapping)
        for name in ("grid", "zip", "each")
    ):
        return ""
    paths = [path for name in ("grid", "zip", "each") for path, _ in _flat(parts[name])]
    words = [last_name(path) for path in paths] or ["cells"]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:6]
    return f"sweeps/{'-'.join(words[:4])}-{digest}"


def last_name(path: str) -> str:
    """The last name of a path, for titles and folders.

    Examples
    --------
    >>> last_name("trial.n_patients"), last_name("agents.partner.hazard_ratio.*")
    ('n_patients', 'hazard_ratio')
    """
    return path.removesuffix(f".{EVERY}").rpartition(".")[2]


def is_group(path: str) -> bool:
    """Whether a path stands for the choice of a file."""
    return path in GROUPS


def read_grid(config: SweepConfig, options: Options) -> Grid:
    """The cells that a sweep asks for.

    Parts that are given together multiply: the last varies fastest. `grid` is
    a product of values, `zip` takes values in step, `each` changes one thing at a
    time (the first cell changes nothing), `cells` lists cells, `csv` has one in
    each row.

    Parameters
    ----------
    config : SweepConfig
        Values are lists, single values, or text as Hydra writes sweeps:
        ``range(0,0.6,0.1)``, ``200,400``, ``choice(a,b)``, ``glob(*)``.
    options : callable
        Names of the files of a group, for ``glob``.

    Raises
    ------
    ScenarioError
        If a list is empty, holds a value twice or is of another length than one
        it goes in step with, or if the CSV file cannot be read.
    """
    grid = _by_path("sweep.grid", config.grid, options)
    steps = _by_path("sweep.zip", config.zip, options)
    each = _by_path("sweep.each", config.each, options)
    parts: list[list[dict[str, Any]]] = []
    parts += [[{path: value} for value in values] for path, values in grid.items()]
    if steps:
        parts.append(_in_step(steps))
    if each:
        parts.append([{}, *({path: value} for path, values in each.items() for value in values)])
    if config.cells:
        parts.append([_cell(f"sweep.cells[{i}]", cell) for i, cell in enumerate(config.cells)])
    if config.csv:
        parts.append(_read_csv(Path(config.csv)))
    if not parts:
        raise ScenarioError("sweep: nothing is swept; give sweep.grid, zip, each, cells or csv")
    n = 1
    for part in parts:
        n *= len(part)
    if n > MOST_CELLS:
        raise ScenarioError(f"sweep must have at most {MOST_CELLS} cells, got {n}")
    paths = [path for part in parts for cell in part for path in cell]
    _refuse_twice(parts)
    cells = tuple(
        {path: value for part in combined for path, value in part.items()}
        for combined in product(*parts)
    )
    return Grid(tuple(dict.fromkeys(paths)), cells)


def _by_path(where: str, given: Any, options: Options) -> dict[str, list[Any]]:
    """Values of every path in a mapping."""
    if given is not None and not isinstance(given, Mapping):
        raise ScenarioError(
            f"{where} must be a mapping of path to values, as in "
            f"{where}={{trial.n_patients: [300,400]}}, got {given!r}"
        )
    return {path: _values(f"{where}.{path}", path, x, options) for path, x in _flat(given)}


def _refuse_twice(parts: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Refuse a path that two parts of a sweep would set."""
    seen: set[str] = set()
    for part in parts:
        own = {path for cell in part for path in cell}
        for path in own:
            if path in seen:
                raise ScenarioError(f"sweep: {path} is swept twice")
        seen |= own


def _flat(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and their values; a mapping in a mapping is a longer path."""
    for key, value in (node or {}).items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value


def _values(where: str, path: str, given: Any, options: Options) -> list[Any]:
    """The values of one path, none of them twice."""
    check_swept(where, path)
    values = _given(where, path, given, options)
    if not values:
        raise ScenarioError(f"{where} must hold at least one value, got {given!r}")
    values = [rounded(value) for value in values]
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ScenarioError(f"{where} must not hold a value twice, got {written(value)}")
    return values


def check_swept(where: str, path: str) -> None:
    """Refuse a path that belongs to a sweep as a whole, or to none of its cells.

    Raises
    ------
    ScenarioError
        With the reason.
    """
    reason = NOT_SWEPT.get(path.partition(".")[0])
    if reason:
        raise ScenarioError(f"{where} cannot be swept: {reason}")


def _given(where: str, path: str, given: Any, options: Options) -> list[Any]:
    if isinstance(given, list | tuple):
        return list(given)
    if not isinstance(given, str):
        return [given]
    override = _parsed(where, f"x={given}")
    if not override.is_sweep_override():
        return [given]
    if override.value_type is ValueType.INTERVAL_SWEEP or getattr(
        override.value(), "shuffle", False
    ):
        raise ScenarioError(
            f"{where} must be values in an order that is the same in every process, got '{given}'"
        )
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        glob = override.value()
        assert isinstance(glob, Glob)
        return glob.filter(list(options(path)))
    return [_plain(value) for value in override.sweep_iterator()]


def _parsed(where: str, text: str) -> Any:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        given = text.partition("=")[2]
        reason = (str(error).splitlines() or [""])[0]
        raise ScenarioError(f"{where} cannot be read, got '{given}': {reason}") from error


def read_value(where: str, text: str) -> Any:
    """A value as it would be typed on the command line.

    Raises
    ------
    ScenarioError
        If it cannot be read, or is several values.

    Examples
    --------
    >>> read_value("x", "[a,0.5]"), read_value("x", "12"), read_value("x", "true")
    (['a', 0.5], 12, True)
    """
    override = _parsed(where, f"x={text}")
    if override.is_sweep_override():
        raise ScenarioError(f"{where} must be a single value, got '{text}'")
    return _plain(override.value())


def _plain(value: Any) -> Any:
    """A parsed value without the marks of the parser."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    return value


def _in_step(steps: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {path: len(values) for path, values in steps.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{path} {n}" for path, n in lengths.items())
        raise ScenarioError(f"sweep.zip must hold lists of one length, got {told}")
    return [dict(zip(steps, values, strict=True)) for values in zip(*steps.values(), strict=True)]


def _cell(where: str, cell: Any) -> dict[str, Any]:
    if not isinstance(cell, Mapping):
        raise ScenarioError(f"{where} must be a mapping of path to value, got {cell!r}")
    for path in cell:
        check_swept(f"{where}.{path}", str(path))
    return {str(path): rounded(value) for path, value in cell.items()}


def _read_csv(path: Path) -> list[dict[str, Any]]:
    """A cell for each row; an empty field leaves the base configuration as it is."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[field.strip() for field in line] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ScenarioError(f"sweep.csv: cannot read '{path}': {reason}") from error
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise ScenarioError(f"sweep.csv: '{path}' must have a line of paths and at least one more")
    head, *rows = lines
    for name in head:
        if not name or head.count(name) > 1:
            raise ScenarioError(f"sweep.csv: '{path}' needs a name of its own for every column")
        check_swept(f"sweep.csv: column {name}", name)
    cells = []
    for i, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise ScenarioError(
                f"sweep.csv: row {i} of '{path}' must have {len(head)} fields, got {len(row)}"
            )
        where = f"sweep.csv: row {i}"
        cells.append(
            {
                name: rounded(read_value(f"{where}, {name}", text))
                for name, text in zip(head, row, strict=True)
                if text
            }
        )
    return cells


def described(values: Values) -> str:
    """What a cell replaces, as it would be typed.

    Examples
    --------
    >>> described({"trial.n_patients": 300, "assessment": "oak"})
    'trial.n_patients=300, assessment=oak'
    """
    return ", ".join(f"{path}={written(value)}" for path, value in values.items())


def written(value: Any) -> str:
    """A value as it would be typed on the command line.

    Examples
    --------
    >>> written(["anti_pd1", 0.5]), written(None), written(True), written(12.0)
    ('[anti_pd1,0.5]', 'null', 'true', '12.0')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{','.join(written(entry) for entry in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(entry)}" for key, entry in value.items()) + "}"
    return str(value)
