"""Where a result comes from: program, libraries, machine, seed and whose numbers it used."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sim.config import Claim

__all__ = ["citations", "claim_counts", "program_version", "simd_target", "software"]

MISSING = "without source"

LIBRARIES = ("numpy", "scipy", "pandas", "lifelines", "matplotlib", "hydra-core", "omegaconf")


def program_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("resistime")
    except PackageNotFoundError:
        return "not installed"


def simd_target() -> list[str]:
    """Vector instructions that NumPy uses here, beyond its baseline.

    Results are the same to the byte on one NumPy version and one target.
    """
    umath: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]


def software() -> dict[str, Any]:
    """Versions of the program, Python and the libraries, and the processor's instructions."""
    return {
        "resistime": program_version(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "simd": simd_target(),
        "machine": platform.machine(),
    }


def claim_counts(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims were read in a source, derived from one, recalled, calibrated, and so on."""
    read = {"verified": "read", "derived": "derived", "memory": "recalled"}
    own = ("calibrated", "assumption", "override")
    counts = Counter(
        c.source if c.source in own else read.get(c.checked, "cited") if c.source else MISSING
        for c in claims
    )
    return {kind: counts.get(kind, 0) for kind in (*read.values(), "cited", *own, MISSING)}


def citations(keys: Sequence[str]) -> dict[str, str]:
    """Entries of ``references.bib`` by key, each as one line: author, year, title, journal, doi.

    Parameters
    ----------
    keys : sequence of str
        Keys of the bibliography; others (`assumption`) are passed over.

    Returns
    -------
    dict
        In the order of the bibliography.
    """
    text = (files("configs") / "references.bib").read_text(encoding="utf-8")
    wanted = set(keys)
    found = {}
    for match in re.finditer(r"@\w+\{([^,\s]+),(.*?)\n\}", text, flags=re.DOTALL):
        key, body = match.groups()
        if key in wanted:
            entry = dict(re.findall(r"(\w+)\s*=\s*\{(.*)\}", body))
            parts = [entry.get(name) for name in ("author", "year", "title", "journal", "doi")]
            line = ". ".join(part for part in parts if part)
            found[key] = re.sub(r"[{}\\]", "", line)
    return found
