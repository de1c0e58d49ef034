"""The folder of a sweep: what it may hold, and the record of the sweep in it.

``sweep.json`` says what a sweep is, so that its tables and figures can be made
from the folder alone. Where Hydra's own jobs have made the cells, what they
have in common and what differs between them is the sweep.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.config import check_run, read_config
from sim.errors import OutputError, ScenarioError
from sim.output import design_words, reference_strategy
from sim.provenance import program_version
from sim.schema import RunConfig
from sim.storage import write_json
from sim.sweep.cell import Asked
from sim.sweep.definition import Definition, composed, group_options, kept_overrides
from sim.sweep.grid import Grid, last_name, read_grid, read_value
from sim.sweep.store import CELLS
from sim.sweep.table import Collected

__all__ = [
    "RECORD", "check_folder", "define", "forget_jobs", "held_another", "is_sweep", "job_file",
    "job_files",
    "read_definition", "record", "sweep_in",
]  # fmt: skip

RECORD = "sweep.json"
OWN = (".hydra", CELLS, "jobs", "shards", "multirun.yaml", ".submitit")
"""What a sweep's folder may hold beside what is named after the sweep."""


def is_sweep(whole: RunConfig) -> bool:
    """Whether a configuration holds a sweep."""
    sweep = whole.sweep
    return bool(sweep.grid or sweep.zip or sweep.each or sweep.cells or sweep.csv)


def define(whole: RunConfig, overrides: Sequence[str], grid: Grid | None = None) -> Definition:
    """The sweep that a configuration asks for.

    Raises
    ------
    ScenarioError
        If its cells cannot be told.
    """
    grid = grid or read_grid(whole.sweep, group_options)
    return Definition(_name(whole, grid), kept_overrides(overrides), whole, grid, Asked.of(whole))


def _name(whole: RunConfig, grid: Grid) -> str:
    return whole.sweep.name or " by ".join(last_name(path) for path in grid.paths)


# ---------------------------------------------------------------- the folder


def check_folder(place: Path) -> None:
    """Refuse a folder that holds what is not a sweep's.

    Raises
    ------
    OutputError
        If it does.
    """
    if (place / RECORD).exists() or not place.exists():
        return
    for path in sorted(place.iterdir()):
        own = path.name in OWN or path.name.isdigit() or path.suffix == ".log"
        if not own and not path.name.startswith((".partial-", "sweep")):
            raise OutputError(
                f"hydra.run.dir: '{place}' holds files that are not a sweep's, such as "
                f"'{path.name}'; choose an empty folder"
            )


def record(definition: Definition, place: Path, found: Collected | None = None) -> None:
    """Write down what a sweep is, from which it can be collected and drawn."""
    sweep = definition.config
    try:
        first = definition.grid.cells[0]
        run = definition.base(first).cell(definition.own_values(first)).run
    except ScenarioError:
        run = None
    labels, reference, design, alpha = _words(run)
    axes = [
        {
            "path": path,
            "label": sweep.labels.get(path, ""),
            "values": definition.distinct(i),
        }
        for i, path in enumerate(definition.grid.paths)
    ]
    content: dict[str, Any] = {
        "name": definition.name,
        "question": sweep.question,
        "notice": definition.notice,
        "axes": axes,
        "figures": [{"kind": item.kind, "options": dict(item.options)} for item in sweep.figures],
        "labels": {**labels, **sweep.labels},
        "reference": reference,
        "design": design,
        "alpha": alpha,
        "seed": definition.whole.seed,
        "n_replicates": definition.asked.n_replicates,
        "n_patients": definition.whole.cohort.n_patients
        if definition.asked.cohort or (run is not None and run.trial is None)
        else None,
        "version": program_version(),
        "n_cells": len(definition.grid.cells),
        "n_failed": len(found.failed) if found else 0,
        "n_missing": len(found.missing) if found else len(definition.grid.cells),
        "citations_withdrawn": _withdrawn(definition),
        "overrides": list(definition.overrides),
        "paths": list(definition.grid.paths),
        "cells": [dict(cell) for cell in definition.grid.cells],
    }
    write_json(place / RECORD, content)


def held_another(definition: Definition, place: Path) -> bool:
    """Whether a folder's tables are of other cells, or of other settings but for replicates."""
    try:
        content = json.loads((place / RECORD).read_text(encoding="utf-8"))
        typed, cells = content["overrides"], content["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    own = [item for item in definition.overrides if not item.startswith("n_replicates=")]
    typed = [item for item in typed if not item.startswith("n_replicates=")]
    return typed != own or cells != json.loads(json.dumps(definition.grid.cells))


def _words(run: Any) -> tuple[dict[str, str], str, str, float | None]:
    """Labels, name of the reference, design and level of the first cell."""
    if run is None:
        return {}, "", "", None
    labels = dict(run.labels)
    plan = run.trial
    if plan is None:
        return labels, reference_strategy(run), "", None
    reference = plan.design.arms[0].strategy
    return labels, reference, design_words(plan, labels), plan.alpha


def _withdrawn(definition: Definition) -> bool:
    """Whether numbers that have a source are replaced, in the base or in a cell."""
    overrides = [*definition.overrides, *(f"{path}=" for path in definition.grid.paths)]
    seen: set[int] = set()
    for values in definition.grid.cells:
        try:
            base = definition.base(values)
            if id(base) in seen:
                continue
            claims = check_run(base.changed(definition.own_values(values)), overrides).claims
        except ScenarioError:
            continue
        seen.add(id(base))
        if any(claim.source == "override" for claim in claims):
            return True
    return False


def read_definition(place: Path) -> Definition:
    """The sweep that a folder holds.

    Raises
    ------
    ScenarioError
        If it holds none, or one that this version cannot read.
    """
    path = place / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        overrides = [str(item) for item in content["overrides"]]
        grid = Grid(tuple(content["paths"]), tuple(dict(cell) for cell in content["cells"]))
    except FileNotFoundError as error:
        raise ScenarioError(f"no sweep in '{place}': there is no {RECORD}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"'{path}' cannot be read: {error}") from error
    definition = define(read_config(composed(overrides)), overrides, grid)
    definition.name = str(content.get("name", definition.name))
    return definition


def job_file(place: Path, number: int) -> Path:
    """Where a job of Hydra's sweep leaves what was typed for it."""
    (place / "jobs").mkdir(parents=True, exist_ok=True)
    return place / "jobs" / f"{number}.json"


def job_files(place: Path) -> list[Path]:
    """What jobs of Hydra's sweep have left there, in their order."""
    return sorted((place / "jobs").glob("[0-9]*.json"), key=lambda path: int(path.stem))


def forget_jobs(place: Path, typed: Sequence[str] = ()) -> None:
    """Take away what the jobs of another sweep of Hydra's have left; their cells stay.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    typed : sequence of str
        The sweep that is about to begin. Its own jobs are not forgotten: the
        same command may be running already.
    """
    path = place / "jobs" / "typed.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["typed"]
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    if not typed or before != list(typed):
        for file in job_files(place):
            file.unlink(missing_ok=True)
    if typed:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"typed": list(typed)})


def sweep_in(place: Path) -> Definition:
    """The sweep that a folder holds, whether it was made by a loop or by Hydra's jobs.

    Raises
    ------
    ScenarioError
        If it holds none.
    """
    if job_files(place):
        return _from_jobs(place)
    return read_definition(place)


def _from_jobs(place: Path) -> Definition:
    """The sweep that the jobs in a folder make together: what differs between them is swept."""
    files = job_files(place)
    typed = [json.loads(path.read_text(encoding="utf-8"))["overrides"] for path in files]
    common = [item for item in typed[0] if all(item in other for other in typed)]
    cells = []
    for own in typed:
        pairs = (item.partition("=") for item in own if item not in common)
        cells.append({path.lstrip("+"): read_value(path, value) for path, _, value in pairs})
    paths = tuple(dict.fromkeys(path for cell in cells for path in cell))
    whole = read_config(composed(common))
    definition = define(whole, common, Grid(paths, tuple(cells)))
    definition.name = place.name
    return definition
