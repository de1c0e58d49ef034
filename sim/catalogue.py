"""Published trials among the scenarios: which there are, and by which names.

Reads the files under ``configs/scenario`` without composing them, so that a list
of all of them takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from sim.errors import unknown_name

__all__ = ["Entry", "find_entry", "published_entries", "unreviewed"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A published trial, as its scenario file has it."""

    name: str
    """Description, number of arms, first author's initial and year: ``KEYNOTE189_2G18``."""

    alias: str
    title: str
    reviewed: bool
    citation: str
    """Key of references.bib."""

    n: Mapping[str, int]
    """Patients randomised to each strategy."""

    n_targets: int


def published_entries() -> list[Entry]:
    """Every scenario that stands for a published trial, by name."""
    return sorted(_entries(), key=lambda entry: entry.name)


def _entries() -> Iterator[Entry]:
    for path in (files("configs") / "scenario").iterdir():
        if not path.name.endswith(".yaml"):
            continue
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        published = content.get("published")
        if published is None:
            continue
        yield Entry(
            name=path.name.removesuffix(".yaml"),
            alias=published["alias"],
            title=published["title"],
            reviewed=published["reviewed"],
            citation=published["citation"],
            n=published["n"],
            n_targets=len(content.get("targets", [])),
        )


def find_entry(name: str) -> Entry:
    """The published scenario with a name or alias, in capitals or not.

    Raises
    ------
    ScenarioError
        If there is none, with the nearest.
    """
    entries = published_entries()
    for entry in entries:
        if name.casefold() in (entry.name.casefold(), entry.alias.casefold()):
            return entry
    known = [known for entry in entries for known in (entry.alias, entry.name)]
    raise unknown_name("ID", "published scenario", name, known)


def unreviewed(title: str) -> str:
    """What is said of a published scenario that nobody has derived a second time."""
    trial = title.partition(":")[0]
    return (
        f"{trial} is not reviewed: its numbers have not been derived a second time by somebody "
        "else, so it has no citation yet"
    )
