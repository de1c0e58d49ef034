"""Configurations for the tests, composed as the command composes them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from sim.command import register_schema
from sim.config import Run, read_run


@functools.cache
def compose_run(*overrides: str) -> DictConfig:
    register_schema()
    with initialize_config_module("configs", version_base="1.3"):
        return compose("run", overrides=list(overrides))


@functools.cache
def load_run(*overrides: str) -> Run:
    return read_run(compose_run(*overrides), overrides)


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """The configuration of a command line, before the gate. Not to be changed: copy it."""
    return compose_run


@pytest.fixture(scope="session")
def load() -> Callable[..., Run]:
    """The run that a command line asks for: ``load("seed=2")``. Composed once for each."""
    return load_run


@pytest.fixture(scope="session")
def default_run() -> Run:
    """The run of an empty command line."""
    return load_run()


@pytest.fixture(scope="session")
def alter() -> Callable[..., Run]:
    """As `load`, for many overrides of one configuration: composed once, then changed in copies.

    ``alter(("strategy=[anti_pd1]",), "seed=2")``: the first argument chooses files.
    """
    parser = OverridesParser.create()

    def change(chosen: tuple[str, ...], *overrides: str) -> Run:
        config = copy.deepcopy(compose_run(*chosen))
        for override in parser.parse_overrides(list(overrides)):
            key = override.key_or_group
            if override.is_delete():
                parent, _, name = key.rpartition(".")
                with open_dict(config):
                    del OmegaConf.select(config, parent)[name]
            else:
                OmegaConf.update(config, key, override.value(), force_add=override.is_add())
        return read_run(config, (*chosen, *overrides))

    return change
