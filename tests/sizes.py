"""Questions about the size of a trial, asked as a user would ask them."""

import functools

from hydra import compose, initialize_config_module

from sim.command import register_schema
from sim.config import read_config
from sim.schema import SizeRunConfig
from sim.size import ask_size


@functools.cache
def asked(*overrides):
    """What the overrides of a command line ask of `resistime-size`."""
    register_schema(SizeRunConfig)
    try:
        with initialize_config_module("configs", version_base="1.3"):
            whole = read_config(compose("run", overrides=list(overrides)))
    finally:
        register_schema()
    return ask_size(whole, list(overrides))
