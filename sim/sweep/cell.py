"""A cell of a sweep: its configuration, its name in the store, and making it.

A cell's numbers are rounded to 12 significant digits before anything is done
with them, so that what is simulated and what names it are the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.cohort import simulate_cohort
from sim.conduct import Columns, Precision, by_cut, check_plan, conduct_blocks, whole_blocks
from sim.config import Run, check_change, check_run
from sim.errors import ScenarioError
from sim.estimand import estimate_truths
from sim.output import reference_strategy, table_months
from sim.override import rounded, with_values
from sim.plan import TrialPlan
from sim.randomness import BLOCK
from sim.schema import RunConfig
from sim.sweep.store import Stored

if TYPE_CHECKING:
    import pandas as pd

    from analysis.operating import Tally
    from analysis.paired import CoRejections
    from sim.cohort import Cohort

__all__ = [
    "CURVE_COLUMNS", "Asked", "Base", "CellRun", "content_key", "has_rows", "is_finished",
    "make_cell", "with_rows",
]  # fmt: skip

SAVE_SECONDS = 10.0
"""Work after which what there is of a cell is kept."""

CURVE_COLUMNS = ("time", "survival", "lower", "upper", "at_risk")
"""What is kept of the points of a curve."""

_WORDS = {"label", "sources", "description", "targets", "published", "reference"}
"""Fields that say something about numbers and change none."""

_OUTSIDE = {
    "n_replicates", "n_workers", "precision", "max_replicates", "paired_with", "estimand_patients",
    "cohort", "analysis", "sweep", "dask", "shard", "n_shards",
}  # fmt: skip
"""Fields that say how much is made, where, or how it is shown; what counts of them is `_extent`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every cell of a sweep."""

    n_replicates: int
    precision: Precision | None
    cohort: bool
    """Whether a cohort is simulated beside a trial; without a trial it always is."""

    true_values: bool
    """Whether the true value of each estimate is found, for bias and coverage."""

    @classmethod
    def of(cls, config: RunConfig) -> Asked:
        """What a configuration asks for."""
        wanted = config.precision
        precision = Precision(wanted, config.max_replicates) if wanted else None
        return cls(config.n_replicates, precision, config.sweep.cohort, config.sweep.true_values)


@dataclass(frozen=True)
class Base:
    """A configuration from which cells differ in a few values."""

    whole: RunConfig

    @classmethod
    def of(cls, whole: RunConfig) -> Base:
        """A configuration as read, its numbers rounded."""
        return cls(rounded(whole))

    @cached_property
    def run(self) -> Run:
        """What it is when checked."""
        return check_run(self.whole)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The content of every field of the configuration."""
        return {name: _text(getattr(self.whole, name)) for name in _inside(self.whole)}

    def cell(self, values: Mapping[str, Any]) -> CellRun:
        """A cell, checked.

        Raises
        ------
        ScenarioError
            If a path does not exist, or a value is not allowed.
        """
        whole = self.changed(values)
        try:
            run = check_change(whole, self.whole, self.run)
        except ValueError:
            # The base alone may be wrong where every cell is right.
            run = check_run(whole)
        if run.trial is not None:
            check_plan(run.trial)
        return CellRun(whole, run)

    def refusal(self, values: Mapping[str, Any]) -> str:
        """Why a cell cannot be; nothing if it can."""
        try:
            self.cell(values)
        except ScenarioError as error:
            return str(error)
        return ""

    def changed(self, values: Mapping[str, Any]) -> RunConfig:
        """The configuration with some values replaced."""
        return with_values(self.whole, values)


@dataclass(frozen=True, slots=True)
class CellRun:
    """The configuration of a cell, checked."""

    whole: RunConfig
    run: Run

    def has_cohort(self, asked: Asked) -> bool:
        """Whether a cohort is simulated in it."""
        return asked.cohort or self.run.trial is None


def content_key(whole: RunConfig, asked: Asked, base: Base | None = None) -> str:
    """The name of a cell in the store, from everything that its results hang on.

    Parameters
    ----------
    whole : RunConfig
        Its configuration, rounded.
    asked : Asked
        What is asked of it; the number of replicates does not count.
    base : Base, optional
        From which it differs in a few values; saves time.
    """
    content = hashlib.sha256()
    for name in _inside(whole):
        node = getattr(whole, name)
        same = base is not None and node is getattr(base.whole, name)
        text = base.texts[name] if base is not None and same else _text(node)
        content.update(f"{name}={text}\n".encode())
    content.update(_text(_extent(whole, asked)).encode())
    return content.hexdigest()[:32]


def _inside(whole: RunConfig) -> list[str]:
    return [item.name for item in fields(whole) if item.name not in _OUTSIDE | _WORDS]


def _extent(whole: RunConfig, asked: Asked) -> list[Any]:
    """What counts, for what is asked, of the fields that else do not."""
    cohort = None
    if asked.cohort or whole.trial is None:
        choice = whole.analysis
        cohort = [
            whole.cohort, choice.endpoints, choice.rates, choice.horizon, choice.table_every,
            choice.reference_strategy,
        ]  # fmt: skip
    return [cohort, whole.estimand_patients if asked.true_values else None]


def _text(node: Any) -> str:
    return json.dumps(_plain(node), separators=(",", ":"))


def _plain(node: Any) -> Any:
    """Plain data without what only says something about numbers."""
    if is_dataclass(node) and not isinstance(node, type):
        return {
            item.name: _plain(getattr(node, item.name))
            for item in fields(node)
            if item.name not in _WORDS
        }
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return node


# ---------------------------------------------------------------- making a cell


def make_cell(cell: CellRun, asked: Asked, kept: Stored | None) -> Iterator[Stored]:
    """Make what is missing of a cell.

    Parameters
    ----------
    cell : CellRun
        The cell.
    asked : Asked
        What is asked of it.
    kept : Stored or None
        What there is of it.

    Yields
    ------
    Stored
        What there is of the cell, every `SAVE_SECONDS` or so; the last is complete.
    """
    made = kept or Stored(0, [], complete=False)
    start = saved = time.perf_counter() - made.seconds
    plan = cell.run.trial
    if plan is not None:
        for grown in _conduct(plan, asked, made):
            made, now = grown, time.perf_counter()
            if now - saved > SAVE_SECONDS:
                saved = now
                yield replace(made, seconds=now - start)
    made = with_rows(cell, asked, made)
    yield replace(made, seconds=time.perf_counter() - start)


def with_rows(cell: CellRun, asked: Asked, made: Stored) -> Stored:
    """The same with the rows for what is asked.

    Raises
    ------
    ValueError
        If there are too few replicates.
    """
    rows: list[list[Any]] = []
    paired: list[list[Any]] = []
    n = asked.n_replicates
    if cell.run.trial is not None:
        columns = _columns(made)
        n = _wanted(cell.run.trial, asked, columns)
        if made.replicates.shape[1] < n:
            raise ValueError(f"{n} replicates are wanted, and there are {made.replicates.shape[1]}")
        rows, paired = _trial_rows(cell, asked, {key: x[:n] for key, x in columns.items()})
    made = replace(made, n_replicates=n, rows=rows, paired=paired, complete=True)
    return _with_cohort(cell.run, made) if cell.has_cohort(asked) else made


def has_rows(asked: Asked, kept: Stored) -> bool:
    """Whether it shows without a look at the cell that its rows are those that are asked for."""
    if not kept.complete or asked.precision is not None:
        return False
    return kept.n_replicates == asked.n_replicates


def is_finished(cell: CellRun, asked: Asked, kept: Stored) -> bool:
    """Whether the rows of a cell are those that are asked for."""
    if has_rows(asked, kept):
        return True
    if not kept.complete:
        return False
    if cell.run.trial is None:
        return True
    return kept.n_replicates == _wanted(cell.run.trial, asked, _columns(kept))


def _columns(made: Stored) -> Columns:
    return {tuple(name): row for name, row in zip(made.names, made.replicates, strict=True)}


def _conduct(plan: TrialPlan, asked: Asked, made: Stored) -> Iterator[Stored]:
    """Add replicates, in whole blocks, until there are as many as are asked for."""
    # One block first, to see how long they take.
    size, columns = 1, _columns(made)
    while (have := made.replicates.shape[1]) < (wanted := _wanted(plan, asked, columns)):
        first, last = have // BLOCK, -(-wanted // BLOCK)
        start = time.perf_counter()
        more, *_ = conduct_blocks(plan, range(first, min(first + size, last)))
        pace = (time.perf_counter() - start) / min(size, last - first)
        size = max(int(SAVE_SECONDS / max(pace, 1e-9)), 1)
        columns = {
            key: np.concatenate([columns[key], x]) if key in columns else x
            for key, x in more.items()
        }
        made = replace(
            made, complete=False, rows=[], paired=[], names=[list(key) for key in columns],
            replicates=np.array(list(columns.values())),
        )  # fmt: skip
        yield made


def _wanted(plan: TrialPlan, asked: Asked, columns: Columns) -> int:
    """How many replicates there should be, as far as those that are there can say."""
    if asked.precision is None:
        return asked.n_replicates
    wanted = min(whole_blocks(asked.n_replicates), asked.precision.at_most)
    have = len(next(iter(columns.values()))) if columns else 0
    while wanted <= have:
        rejected = [
            int(np.count_nonzero(values[:wanted] <= plan.alpha))
            for key, values in columns.items()
            if key[-1] == "p_value"
        ]
        more = asked.precision.replicates(rejected, wanted)
        if more <= wanted:
            break
        wanted = more
    return wanted


def _trial_rows(
    cell: CellRun, asked: Asked, columns: Columns
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Rows of the operating characteristics, and of differences of power."""
    from analysis.operating import Accuracy, Tally, accuracy_of, operating_rows
    from analysis.paired import CoRejections, paired_rows
    from analysis.replicates import chunks_of, comparison_keys

    plan = cell.run.trial
    assert plan is not None
    cuts = by_cut(plan, columns)
    tally: Tally = Tally(plan.alpha)
    together: CoRejections = CoRejections(comparison_keys(cuts), plan.alpha)
    first = 0
    for chunk in chunks_of(cuts):
        tally.add(chunk)
        together.add(first, chunk)
        first = tally.n_replicates
    accuracy = None
    if asked.true_values and cell.run.estimand_patients:
        truths = estimate_truths(plan, tally.mean_dates(), cell.run.estimand_patients)
        accuracy = accuracy_of(Accuracy(tally, truths), chunks_of(cuts))
    rows = [[*row, None] for row in operating_rows(tally, accuracy)]
    return rows, [list(row) for row in paired_rows(together)]


# ---------------------------------------------------------------- cohorts


def _with_cohort(run: Run, made: Stored) -> Stored:
    """Add what a cohort shows: rows and curves."""
    from analysis.cohort import estimate_curves

    cohort = simulate_cohort(
        run.scenario, n_patients=run.n_patients, seed=run.seed, follow_up=run.follow_up
    )
    choice = run.analysis
    curves, summary = estimate_curves(cohort, choice.endpoints, choice.rates, table_months(choice))
    names, points = _curve_points(curves[curves["time"] <= choice.horizon])
    rows = [*made.rows, *_cohort_rows(run, cohort, summary)]
    return replace(made, rows=rows, curves=names, points=points)


def _curve_points(curves: pd.DataFrame) -> tuple[list[list[Any]], NDArray[np.float64]]:
    """Whose points the rows of an array are, and the array."""
    names: list[list[Any]] = [
        [arm, endpoint, len(rows)]
        for (arm, endpoint), rows in curves.groupby(["arm", "endpoint"], sort=False)
    ]
    return names, curves[list(CURVE_COLUMNS)].to_numpy(dtype=np.float64)


def _cohort_rows(run: Run, cohort: Cohort, summary: pd.DataFrame) -> Iterator[list[Any]]:
    """Medians, rates, responses, contrasts with the reference and what definitions recognise."""
    from analysis.cohort import cross_definitions, estimate_contrasts, estimate_responses

    n = run.n_patients

    def row(arm: str, endpoint: str, measure: str, estimate: float, error: float) -> list[Any]:
        return ["", arm, endpoint, "cohort", measure, float(estimate), float(error), None, n]

    for table in (estimate_responses(cohort), summary):
        for item in table.itertuples(index=False):
            yield row(item.arm, item.endpoint, item.measure, item.estimate, item.standard_error)
    reference = cohort.strategies.index(reference_strategy(run))
    choice = run.analysis
    contrasts = estimate_contrasts(cohort, reference, choice.rates, choice.horizon)
    for item in contrasts.itertuples(index=False):
        yield row(item.arm, item.endpoint, item.measure, item.estimate, item.mc_error)
    crossed = cross_definitions(cohort, run.definitions)
    for arm, measure, rule, share, error in _recognised(crossed, n):
        yield row(arm, rule, measure, share, error)


def _recognised(
    crossed: pd.DataFrame, n_patients: int
) -> Iterator[tuple[str, str, str, float, float]]:
    """Share of patients that each rule labels, and share of the latent class that it finds."""
    from analysis.operating import proportion

    counts = crossed.set_index(["arm", "rule", "latent", "label"])["patients"]
    for (arm, rule), own in counts.groupby(level=["arm", "rule"], sort=False):
        table = own.droplevel(["arm", "rule"])
        for label in ("primary", "acquired"):
            named = int(table[table.index.get_level_values("label") == label].sum())
            yield arm, f"labelled_{label}", rule, *proportion(named, n_patients)
            latent = int(table[table.index.get_level_values("latent") == label].sum())
            if latent:
                found = int(table.get((label, label), 0))
                yield arm, f"recognised_{label}", rule, *proportion(found, latent)
