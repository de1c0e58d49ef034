"""What every run leaves behind: tables, provenance, figures, and nothing of an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.config import Run
from sim.plan import TrialPlan
from sim.provenance import citations, claim_counts, program_version, software
from sim.resistance import realised_spearman
from sim.schema import AnalysisConfig
from sim.storage import write_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "design_words", "draw_figures", "progress_bar", "provenance", "reference_strategy",
    "remove_stale", "table_months", "write_table",
]  # fmt: skip

TABLES = (
    "curves.csv", "summary.csv", "incidence.csv", "occupancy.csv", "resistance.csv",
    "contrasts.csv", "targets.csv", "published.csv", "patients.parquet", "operating.csv",
    "comparisons.parquet", "paired.csv", "estimates.csv", "size.csv", "size_curve.csv", "size.json",
)  # fmt: skip
"""Every table that some run leaves."""

PICTURES = (
    "km_*", "incidence", "occupancy", "definitions", "targets", "operating", "accuracy", "paired_*",
    "estimates", "size",
)  # fmt: skip
"""Every figure that some run leaves."""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet or CSV, by its suffix, whole or not at all."""
    if path.suffix == ".parquet":
        write_whole(path, lambda place: table.to_parquet(place, index=False, compression="zstd"))
    else:
        write_whole(path, lambda place: table.to_csv(place, index=False, lineterminator="\n"))


def remove_stale(place: Path, tables: Collection[str]) -> None:
    """Remove what an earlier run left in the same folder and this one does not make."""
    for name in TABLES:
        if name not in tables:
            (place / name).unlink(missing_ok=True)
    for figure in PICTURES:
        for picture in (*place.glob(f"{figure}.png"), *place.glob(f"{figure}.svg")):
            picture.unlink()


def draw_figures(run: Run, place: Path) -> int:
    """Draw the figures of a run, if it asks for any; how many files that made."""
    if not run.analysis.figures:
        return 0
    from figures.run import draw_run

    return len(draw_run(place, progress=progress_bar("figures")))


def progress_bar(what: str) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A bar on a terminal and nothing anywhere else."""
    from tqdm import tqdm

    return lambda work: iter(tqdm(work, desc=what, disable=None, leave=False))


def table_months(choice: AnalysisConfig) -> NDArray[np.float64]:
    """Months at which the table below a figure of curves has a column."""
    return np.unique([*np.arange(0.0, choice.horizon, choice.table_every), choice.horizon])


def design_words(plan: TrialPlan, labels: Mapping[str, str]) -> str:
    """What trial is conducted, for the small print of a figure."""
    arms = " against ".join(labels[arm.strategy] for arm in plan.design.arms[::-1])
    return f"{plan.design.n_patients} patients, {arms}, one-sided level {plan.alpha:g}"


def reference_strategy(run: Run) -> str:
    """Name of the strategy that the others are compared with."""
    return run.analysis.reference_strategy or run.scenario.strategies[0].name


def provenance(
    run: Run, config: Any, overrides: list[str], scenario: str, seconds: dict[str, float]
) -> dict[str, Any]:
    """Everything needed to repeat the run and to label and cite what it made."""
    counts = claim_counts(run.claims)
    keys = [claim.source for claim in run.claims] + [target.source for target in run.targets]
    if run.reference.source:
        keys.append(run.reference.source)
    return {
        "description": run.description,
        "scenario": scenario,
        "seed": run.seed,
        "n_patients": run.n_patients,
        "follow_up": run.follow_up,
        "horizon": run.analysis.horizon,
        "table_every": run.analysis.table_every,
        "reference_strategy": reference_strategy(run),
        "strategies": [
            {"name": s.name, "label": s.label, "family": s.family} for s in run.scenario.strategies
        ],
        "labels": dict(run.labels),
        "coupling": {
            **asdict(run.scenario.coupling),
            "realised_spearman": realised_spearman(run.scenario, run.n_patients, run.seed),
        },
        "version": program_version(),
        "software": software(),
        "overrides": overrides,
        "citations_withdrawn": counts["override"] > 0,
        "claim_counts": counts,
        "citations": citations(keys),
        "claims": [asdict(claim) for claim in run.claims],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "configuration": config,
    }
