"""What a sweep is: the configuration it starts from, its cells, and what is asked of each.

Composes configurations where cells choose other files, and nowhere else: what
differs by values alone is changed in a configuration that has been read.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sim.complaint import explain
from sim.config import read_config
from sim.errors import ScenarioError
from sim.override import value_at
from sim.schema import RunConfig, SweepConfig
from sim.sweep.cell import Asked, Base
from sim.sweep.grid import GROUPS, Grid, Values, described, is_group, written

__all__ = ["Definition", "composed", "group_options"]

Answer = TypeVar("Answer")

CHECK_SECONDS = 0.5
"""Time spent, before anything runs, on looking for cells that cannot be."""


@dataclass
class Definition:
    """A sweep, ready to be made or collected.

    Configurations for the files that cells choose are composed when they are
    first needed, and kept.
    """

    name: str
    overrides: tuple[str, ...]
    """What was typed, without what concerns folders and shards."""

    whole: RunConfig
    """The configuration from which the cells start."""

    grid: Grid
    asked: Asked
    _bases: dict[str, Base] = field(default_factory=dict)

    @property
    def config(self) -> SweepConfig:
        """The sweep's own part of the configuration."""
        return self.whole.sweep

    def base(self, values: Values) -> Base:
        """The configuration with the files that a cell chooses.

        Raises
        ------
        ScenarioError
            If there is no such file, or the configuration cannot be read.
        """
        chosen = {path: written(value) for path, value in values.items() if is_group(path)}
        name = " ".join(f"{path}={value}" for path, value in chosen.items())
        if name not in self._bases:
            whole = self.whole if not chosen else self._composed(chosen)
            self._bases[name] = Base.of(whole)
        return self._bases[name]

    def _composed(self, chosen: Mapping[str, str]) -> RunConfig:
        typed = [x for x in self.overrides if x.lstrip("+~").partition("=")[0] not in chosen]
        config = composed([*typed, *(f"{path}={value}" for path, value in chosen.items())])
        return read_config(config)

    def own_values(self, values: Values) -> dict[str, Any]:
        """What a cell replaces beside the files it chooses."""
        return {path: value for path, value in values.items() if not is_group(path)}

    def swept(self, values: Values) -> list[Any]:
        """The value of every swept path in a cell, also where the cell leaves it as it was."""
        return [self._shown(path, values) for path in self.grid.paths]

    def _shown(self, path: str, values: Values) -> Any:
        """What a cell has at a swept path; for a group that it leaves, the file that was chosen."""
        if path in values:
            return values[path]
        if not is_group(path):
            try:
                return value_at(self.base(values).changed(self.own_values(values)), path)
            except ScenarioError:
                return None
        typed = [x.partition("=")[2] for x in self.overrides if x.partition("=")[0] == path]
        return typed[-1] if typed else "default"

    def distinct(self, at: int) -> list[Any]:
        """Values of a swept path, by its place among `grid.paths`; lists as they are typed."""
        values: list[Any] = []
        for cell in self.grid.cells:
            value = self._shown(self.grid.paths[at], cell)
            value = written(value) if isinstance(value, list | dict) else value
            if value not in values:
                values.append(value)
        return values

    @property
    def notice(self) -> str:
        """What to see; its numbers are those of the sweep without other settings."""
        notice = self.config.notice
        others = len(self.overrides) > 1
        return f"Without further settings: {notice}" if notice and others else notice

    def shard(self, shard: int, n_shards: int) -> list[int]:
        """Indices of the cells of one of several jobs; neighbours go to different ones."""
        return list(range(shard, len(self.grid.cells), n_shards))

    def check(self) -> None:
        """Refuse cells that cannot be, as far as a short look shows them.

        Every value is looked at in the first cell that has it, until the time is
        used up; what is found later is recorded when the cell's turn comes.

        Raises
        ------
        ScenarioError
            For the first such cell.
        """
        deadline = time.perf_counter() + CHECK_SECONDS
        for i in _covering(self.grid.cells):
            values = self.grid.cells[i]
            try:
                self.base(values).cell(self.own_values(values))
            except ScenarioError as error:
                if str(error) == self.base(values).refusal({}):
                    raise  # It is no fault of what the cell replaces.
                raise ScenarioError(f"cell {i} ({described(values)}): {error}") from error
            if time.perf_counter() > deadline:
                return


def _covering(cells: Sequence[Values]) -> Iterator[int]:
    """Indices of cells that together have every value."""
    seen: set[tuple[str, str]] = set()
    for i, cell in enumerate(itertools.islice(cells, 20_000)):
        own = {(path, written(value)) for path, value in cell.items()}
        if i == 0 or not own <= seen:
            seen |= own
            yield i


def composed(overrides: Sequence[str]) -> DictConfig:
    """A configuration composed as the command composes it.

    Raises
    ------
    ScenarioError
        If there is no such file or path.
    """
    try:
        return _within_hydra(lambda: compose("run", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ScenarioError(explain(error)) from error


def group_options(group: str) -> Sequence[str]:
    """Names of the files of a group; none for what is no group."""
    if group not in GROUPS:
        return []

    def listed() -> list[str]:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return list(hydra.config_loader.get_group_options(group))

    return _within_hydra(listed)


def _within_hydra(ask: Callable[[], Answer]) -> Answer:
    """An answer from Hydra, which is set up for the question if it is not."""
    if GlobalHydra.instance().is_initialized():
        return ask()
    with initialize_config_module("configs", version_base="1.3"):
        return ask()


def kept_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """What was typed, without what concerns folders, shards and how much is done at once.

    Written as Hydra writes it for the jobs of its sweeps, so that it is the same there.
    """
    left_out = ("shard", "n_shards", "n_workers")
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return tuple(
        (item.input_line or "")
        if item.is_delete()
        else f"{item.get_key_element()}={item.get_value_element_as_str()}"
        for item in parsed
        if item.key_or_group == "hydra.searchpath"
        or not item.key_or_group.startswith(("hydra", "dask", *left_out))
    )
