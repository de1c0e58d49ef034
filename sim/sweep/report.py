"""What a sweep says: before it starts, while it runs, and in the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from sim.schema import RunConfig
from sim.sweep.definition import Definition
from sim.sweep.engine import Outcome
from sim.sweep.forecast import makespan, spoken_bytes, spoken_time
from sim.sweep.grid import described
from sim.sweep.pilot import Forecast
from sim.sweep.store import CELLS, environment
from sim.sweep.table import Collected

__all__ = ["Outcomes", "closing", "counted", "opening", "tallied"]

LOG_SECONDS = 60.0
"""Between two lines of progress where there is no terminal."""


def opening(
    definition: Definition,
    indices: Sequence[int],
    n_workers: int,
    whole: RunConfig,
    forecast: Forecast | None,
) -> str:
    """Cells, estimated time and the first three, before it starts."""
    grid = definition.grid
    part = f", {len(indices)} of them in shard {whole.shard}" if whole.n_shards > 1 else ""
    lines = []
    if definition.config.question:
        lines.append(definition.config.question)
    lines.append(f"{definition.name}: {counted(definition)}{part}")
    for index in indices[:3]:
        lines.append(f"  {index}: {described(grid.cells[index]) or 'as configured'}")
    if len(indices) > 3:
        lines.append("  ...")
    n = definition.asked.n_replicates
    each = f"{n} trials each" if _has_trial(definition) else "a cohort each"
    if forecast is not None and whole.dask.address:
        # How many workers a scheduler has is not known before it is asked.
        total = spoken_time(makespan(forecast.seconds, 1))
        lines.append(f"{each}: about {total} of a core's work, less what is kept")
    elif forecast is not None:
        total = spoken_time(makespan(forecast.seconds, n_workers))
        size = spoken_bytes(forecast.storage.value)
        lines.append(f"{each}: about {total} on {n_workers} cores and {size}, less what is kept")
    elif indices:
        lines.append(f"{each}: too slow to be measured in a moment; resistime-plan does")
    if "seed" in definition.grid.paths:
        return "\n".join(lines)
    lines.append(
        "All cells have seed "
        f"{definition.whole.seed}: neighbouring cells share patients, and differences between "
        "cells are more exact than each of them."
    )
    return "\n".join(lines)


def counted(definition: Definition) -> str:
    """How many cells there are, and of how many values."""
    grid = definition.grid
    counts = [len(definition.distinct(i)) for i in range(len(grid.paths))]
    # Values in step, or one at a time, are no product.
    sizes = (" x " if math.prod(counts) == len(grid.cells) else ", ").join(map(str, counts))
    return f"{len(grid.cells)} cells ({sizes})"


def _has_trial(definition: Definition) -> bool:
    first = definition.grid.cells[0]
    return definition.base(first).cell(definition.own_values(first)).run.trial is not None


@dataclass
class Outcomes:
    """Counts of what became of cells, shown as they come."""

    name: str
    n_cells: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    damaged: list[str] = field(default_factory=list)
    _bar: Any = None
    _begun: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Outcomes:
        from tqdm import tqdm

        self._bar = tqdm(desc=self.name, total=self.n_cells, unit="cell", disable=None, leave=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            made = self.done + self.kept
            print(
                f"resistime: {made} of {self.n_cells} cells are kept; the same command goes on",
                file=sys.stderr,
            )

    @property
    def so_far(self) -> int:
        """Cells that need no more work."""
        return self.done + self.kept + self.failed

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        setattr(self, outcome.state, getattr(self, outcome.state) + 1)
        if outcome.damaged:
            self.damaged.append(outcome.damaged)
        if self.failed:
            self._bar.set_postfix(failed=self.failed, refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._logged >= LOG_SECONDS:
            self._logged = now
            left = (now - self._begun) / self.so_far * (self.n_cells - self.so_far)
            print(
                f"{self.name}: {self.so_far} of {self.n_cells} cells, {self.failed} failed, "
                f"about {spoken_time(left)} left",
                file=sys.stderr,
                flush=True,
            )


def tallied(name: str, outcomes: Outcomes, seconds: float) -> str:
    """What has been made, kept and failed, and which files were damaged."""
    lines = [f"made again: {text}" for text in outcomes.damaged]
    lines.append(
        f"{name}: {outcomes.done} cells made, {outcomes.kept} kept, {outcomes.failed} failed "
        f"({spoken_time(seconds)})"
    )
    return "\n".join(lines)


def closing(
    definition: Definition,
    place: Path,
    found: Collected,
    outcomes: Outcomes | None,
    pictures: int,
    seconds: float,
) -> str:
    """What there is in the end."""
    lines = [tallied(definition.name, outcomes, seconds)] if outcomes is not None else []
    for index, error in list(found.failed.items())[:5]:
        told = described(definition.grid.cells[index])
        lines.append(f"  failed: cell {index} ({told}): {error}")
    if len(found.failed) > 5:
        lines.append(f"  ... and {len(found.failed) - 5} more (column error of sweep.csv)")
    if outcomes is None:
        lines += [f"  damaged: cell {index}: {text}" for index, text in found.damaged.items()]
    if found.missing:
        lines.append(f"  {len(found.missing)} cells are missing; the sweep's command goes on")
    for name, n in found.elsewhere.items():
        lines.append(
            f"  {n} of them were made by another version, processor or library "
            f"({CELLS}/{name}/environment.json) and are not mixed in; resistime-collect --mixed "
            "takes them"
        )
    for name, n in found.used.items():
        if name != environment().name:
            lines.append(
                f"  {n} cells were made by another version, processor or library than this "
                f"({CELLS}/{name}/environment.json)"
            )
    if notice := definition.notice:
        lines += ["", notice]
    lines.append("For research and teaching, not for treating patients.")
    lines.append(f"{len(found.tables)} tables and {pictures} figures in {place}")
    return "\n".join(lines)
