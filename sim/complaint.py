"""One line for what Hydra and OmegaConf have to say about a command line.

Their own messages are right but run over many lines and name the schema's
classes. This module finds the entry, the value and what is allowed in them.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from hydra.errors import OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
    ValidationError,
)

__all__ = ["explain", "explain_yaml"]

KINDS = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}

EXTRAS = {
    ("hydra/launcher", "submitit_slurm"): "slurm",
    ("hydra/launcher", "submitit_local"): "slurm",
}
"""Parts of the distribution that bring options of Hydra's own groups."""


def explain(error: Exception) -> str:
    """Say in one line what is wrong with a configuration.

    Parameters
    ----------
    error : Exception
        As raised by Hydra or OmegaConf while composing.

    Returns
    -------
    str
        Path of the entry, what is wrong, and what is allowed.
    """
    text = str(error)
    absent = re.search(r"Could not (?:load|find) '([\w/]+)/([^'/]*)'", text)
    if absent:
        group, name = absent[1].removeprefix("/"), absent[2]
        if group.startswith("hydra/"):
            return _missing_plugin(group, name, text)
        return _missing_option(group, name)
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write path=value, such as cohort.n_patients=5000"
    origin = _origin(error)
    if isinstance(origin, OmegaConfBaseException) and origin.full_key:
        return _bad_entry(_full_path(origin.full_key, text), origin)
    inside = re.search(r"In '([^']+)'.*?Key '([^']+)' not in '(\w+)'", text, flags=re.DOTALL)
    if inside:
        hint = (
            " Is the line '# @package ...' missing at its top?" if inside[3] == "RunConfig" else ""
        )
        return f"{inside[1]}.yaml: no setting named '{inside[2]}'.{hint}"
    unknown = re.search(r"Could not override '([\w.@/]+)'", text)
    if unknown:
        return f"{unknown[1]}: no such setting; resistime --cfg job shows all of them"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def explain_yaml(error: yaml.YAMLError) -> str:
    """Say in one line where a configuration file cannot be read."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return f"a configuration file cannot be read: {' '.join(str(error).split())}"
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _origin(error: BaseException) -> BaseException:
    """The first error of a chain, which knows the entry."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _full_path(path: str, text: str) -> str:
    """Put the override's own path before an entry found inside the value it gave."""
    override = re.search(r"Error merging override '?\+*([\w.]+)=", text)
    if override is None or path.startswith(override[1].partition(".")[0]):
        return path
    typed, head = override[1].split("."), path.partition(".")[0]
    if head in typed:
        return ".".join([*typed[: typed.index(head)], path])
    return f"{override[1]}: {path}"


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (f" Did you mean '{close[0]}'?" if close else "") + f" Known: {', '.join(known)}."


def _missing_option(group: str, name: str) -> str:
    own = [text.partition("=")[2] for text in sys.argv if text.startswith("--config-dir=")]
    folders = [files("configs") / group, *(Path(place) / group for place in own)]
    known = sorted(
        entry.name.removesuffix(".yaml")
        for folder in folders
        if folder.is_dir()
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )
    return f"{group}: no option named '{name}'.{_hint(name, known)}"


def _missing_plugin(group: str, name: str, text: str) -> str:
    """Of an option that a plugin would bring; Hydra's text lists those that are there."""
    if (group, name) in EXTRAS:
        return f"{group}={name} is not installed; pip install 'resistime[{EXTRAS[group, name]}]'"
    listed = re.search(r"Available options in '[^']*':\n((?:\t\S+\n?)+)", text)
    return f"{group}: no option named '{name}'.{_hint(name, listed[1].split() if listed else [])}"


def _bad_entry(path: str, error: OmegaConfBaseException) -> str:
    first = str(error).splitlines()[0]
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        parent = error.parent_node
        known = sorted(str(key) for key in parent) if parent else []
        name = path.rpartition(".")[2]
        return f"{path}: no such setting.{_hint(name, known) if known else ''}"
    if "is not a subclass of" in first:
        return (
            f"{path}: an entry of this kind cannot be added on the command line; "
            "put it in a file, as docs/extend.md shows"
        )
    if "is not Optional" in first:
        return f"{path} must be given, got null"
    value = re.search(r"Value '(.*?)'", first)
    kind = re.search(r"converted to (\w+)", first)
    if isinstance(error, ValidationError) and value and kind:
        wanted = KINDS.get(kind[1], kind[1])
        note = " (on the command line, infinity is inf)" if value[1] == ".inf" else ""
        return f"{path} must be {wanted}, got '{value[1]}'{note}"
    return f"{path}: {first}"
