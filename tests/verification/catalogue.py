"""Fit the published trials together, and write what was fitted into their files.

    python tests/verification/catalogue.py fit [--rounds 3] [--state FILE]
    python tests/verification/catalogue.py write [--state FILE]

`fit` pools the eight trials (`analysis.pooling`) and keeps the result in a file;
`write` puts the fitted numbers, at three digits, into the files of
``configs/population``, ``configs/course`` and ``configs/agent`` and stores the
shared means. What the numbers then give is scored by ``resistime-catalogue score all``.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

import configs
from analysis.pooling import HYPERPRIORS, SCATTER, pool_trials
from sim.catalogue import published_entries
from sim.pooled import PooledTrial, pooled_trial

ROOT = Path(configs.__file__).parent
STATE = Path("outputs/pool.json")
FITTED = "joint fit to the eight trials of the catalogue (docs/validation/catalogue.md)"


def fit(state: Path, rounds: int) -> None:
    """Pool the trials, from a kept state where there is one."""
    known = json.loads(state.read_text()) if state.exists() else {}
    pooled = [pooled_trial(entry.name) for entry in published_entries()]
    own = known.get("trials", {})
    start = {p.trial.name: np.array(own.get(p.trial.name, p.template.start())) for p in pooled}
    began = time.perf_counter()
    pool = pool_trials(
        [p.trial for p in pooled],
        start=start,
        start_means=known.get("means"),
        scatter=known.get("scatter", SCATTER),
        rounds=rounds,
        told=lambda line: print(f"{line} ({time.perf_counter() - began:.0f} s)", flush=True),
    )
    content = {
        "trials": {p.trial.name: pool.of_trial(p.trial.name).tolist() for p in pooled},
        "means": dict(zip(pool.means, pool.mean_values.tolist(), strict=True)),
        "covariance": pool.mean_covariance.tolist(),
        "scatter": dict(pool.scatter),
        "everything": pool.fit.x.tolist(),
    }
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps(content))


def write(state: Path) -> None:
    """Put the fitted numbers into the configuration."""
    known = json.loads(state.read_text())
    for entry in published_entries():
        pooled = pooled_trial(entry.name)
        _write_trial(pooled, np.array(known["trials"][entry.name]))


def _write_trial(pooled: PooledTrial, free: np.ndarray) -> None:
    tied = pooled.trial.parameters
    values = [t.parameter.value(x) for t, x in zip(tied, free, strict=True)]
    whole = pooled.template.config(values)
    trial = pooled.published.alias.lower()
    for t in tied:
        path, last = t.parameter.path, t.parameter.path.rpartition(".")[2]
        group, _, inner = path.partition(".")
        if last == "primary":
            stratum = path.split(".")[2]
            row = whole.population.strata[stratum].baseline
            for name, chance in row.items():
                _put(
                    ROOT / "population" / f"{trial}.yaml",
                    f"strata.{stratum}.baseline.{name}",
                    chance,
                )
            _cite(ROOT / "population" / f"{trial}.yaml", f"strata.{stratum}.baseline",
                  f"{FITTED}; its split among mechanisms is an assumption")  # fmt: skip
            continue
        file = ROOT / group / f"{trial}.yaml"
        if group == "agents":
            agent, _, inner = inner.partition(".")
            file = ROOT / "agent" / f"{agent}.yaml"
        _put(file, inner, _at(whole, path))
        key = re.sub(r"\.\d+$", "", inner)
        key = {"acquired.scale": "acquired", "acquired.shape": "acquired",
               "background.hazard": "background"}.get(key, key)  # fmt: skip
        if key.startswith("activity.") and not key.endswith("joint_response"):
            key = "activity"
        _cite(file, key, FITTED)


def _at(whole: Any, path: str) -> float:
    from sim.override import value_at

    return float(value_at(whole, path))


def _put(file: Path, path: str, value: float) -> None:
    """Replace the number at a path of a YAML file, leaving all else as it stands."""
    lines = file.read_text(encoding="utf-8").split("\n")
    *above, last = path.split(".")
    position = int(last) if last.isdigit() else None
    wanted = above if position is not None else [*above, last]
    stack: list[tuple[int, str]] = []
    for i, line in enumerate(lines):
        match = re.match(r"^( *)([\w]+):(.*)$", line)
        if not match:
            continue
        indent, key, rest = len(match[1]), match[2], match[3]
        stack = [(n, k) for n, k in stack if n < indent] + [(indent, key)]
        here = [k for _, k in stack]
        if here == wanted[: len(here)] and len(here) == len(wanted):
            lines[i] = f"{match[1]}{key}:{_replaced(rest, position, value)}"
            break
        if here == wanted[:-1] and position is None and rest.strip().startswith("{"):
            lines[i] = re.sub(rf"(\b{last}: )[^,}}]+", rf"\g<1>{value:.3g}", line)
            break
    else:
        raise ValueError(f"{file.name} has no {path}")
    file.write_text("\n".join(lines), encoding="utf-8")


def _replaced(rest: str, position: int | None, value: float) -> str:
    if position is None:
        return re.sub(r"^( *)[^ #]+", rf"\g<1>{value:.3g}", rest)
    inner = re.search(r"\[(.*?)\]", rest)
    assert inner is not None
    parts = [part.strip() for part in inner[1].split(",")]
    parts[position] = f"{value:.3g}"
    return rest[: inner.start()] + "[" + ", ".join(parts) + "]" + rest[inner.end() :]


def _cite(file: Path, key: str, where: str) -> None:
    """Say of a claim that it was fitted here."""
    text = file.read_text(encoding="utf-8")
    line = f'  {key}: {{source: calibrated, where: "{where}"}}'
    text, count = re.subn(rf"^  {re.escape(key)}: \{{.*\}}$", line, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{file.name}: sources.{key} stands there {count} times")
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("fit", "write"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--state", type=Path, default=STATE)
    asked = parser.parse_args()
    assert set(HYPERPRIORS)
    if asked.what == "fit":
        fit(asked.state, asked.rounds)
    else:
        write(asked.state)


if __name__ == "__main__":
    main()
