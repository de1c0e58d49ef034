"""Fit the published trials together, and write what was fitted into their files.

    python tests/verification/catalogue.py fit [--rounds 3] [--state FILE]
    python tests/verification/catalogue.py write [--state FILE]
    python tests/verification/catalogue.py report

`fit` pools the eight trials (`analysis.pooling`) and keeps the result in a file;
`write` puts the fitted numbers, at three digits, into the files of
``configs/population``, ``configs/course`` and ``configs/agent`` and stores the
shared means; `report` simulates what is in the files, 20,000 patients an arm, and writes
``docs/validation/catalogue.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import configs
from analysis.pooling import KINDS, SCATTER, PooledMeans, pool_trials
from analysis.published import compare_targets, score_arms
from sim.catalogue import published_entries
from sim.cohort import simulate_cohort
from sim.command import register_schema
from sim.config import check_run, read_config
from sim.override import value_at
from sim.pooled import PooledTrial, pooled_trial
from sim.schema import RunConfig
from sim.sweep.definition import composed

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
    note = f"joint fit to {len(pooled)} published trials, docs/validation/catalogue.md"
    PooledMeans.of(pool, note).write(_means(state))


def _means(state: Path) -> Path:
    return state.with_name(f"{state.stem}_means.json")


def write(state: Path) -> None:
    """Put the fitted numbers into the configuration."""
    known = json.loads(state.read_text())
    for entry in published_entries():
        pooled = pooled_trial(entry.name)
        _write_trial(pooled, np.array(known["trials"][entry.name]))
    shutil.copyfile(_means(state), ROOT / "pool" / "nsclc.json")


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


REPORT = Path(__file__).parents[2] / "docs" / "validation" / "catalogue.md"

INTRODUCTION = """\
# The catalogue against what was published

`python tests/verification/catalogue.py fit`, `write`, `report`. The eight trials were fitted together: {results} published
results, by least squares in the unit of z, with curves from quadrature (`sim/expected.py`); every trial has numbers of its own about
shared means (`analysis/pooling.py`), so that these results are no test of the model. What is below was then *simulated*, 20,000 patients
an arm, seed 1, from the numbers in the files, and includes {extra} results that the fit did not use.
z is (simulated - published) over the root of the summed squares of published standard error, tolerance (three times as much
for what was recalled) and Monte Carlo error.

| trial | arm | results | rms z | of those that were read | largest of these |
| --- | --- | --- | --- | --- | --- |
"""

MEANS = """
What the trials share, on the scale on which it was fitted (logit of shares, log of the rest), with standard error; and the
standard deviation between trials.

| shared mean | estimate | standard error | as a number |
| --- | --- | --- | --- |
"""


def report() -> None:
    """Simulate the trials and write how they agree with what was published."""
    register_schema(RunConfig)
    rows, far, results, extra = [], [], 0, 0
    for entry in published_entries():
        run = check_run(read_config(composed([f"scenario={entry.name}"])))
        cohort = simulate_cohort(run.scenario, n_patients=20_000, seed=1, follow_up=run.follow_up)
        table = compare_targets(run.targets, cohort, run.scenario, run.published)
        fitted = len(pooled_trial(entry.name).trial.results)
        results, extra = results + fitted, extra + len(run.targets) - fitted
        for score in score_arms(table):
            own = table[table["strategy"] == score.strategy]
            largest = own.loc[own["checked"] != "memory", "z"].abs().max()
            rows.append(
                f"| {entry.alias} | {score.strategy} | {len(own)} | {score.rms:.2f} | "
                f"{score.rms_read:.2f} ({score.n_read}) | {largest:.1f} |"
            )
        assert run.published is not None
        for _, row in table[table["z"].abs() > 1.5].iterrows():
            where = f", {row['stratum']}" if row["stratum"] else ""
            name = f"{row['strategy']}.{row['measure']}"
            why = run.published.misfits.get(name, "")
            far.append(
                f"- {entry.alias}, {row['strategy']}{where}: {row['measure']} {row['simulated']:.3g}, "
                f"published {row['published']:.3g} ({row['checked']}), z {row['z']:+.1f}. {why}"
            )
    means = PooledMeans.read(ROOT / "pool" / "nsclc.json")
    errors = np.sqrt(np.diag(means.covariance))
    table_of_means = []
    for name, value, error in zip(means.names, means.values, errors, strict=True):
        scale = KINDS[name.partition("/")[0]].scale
        number = 1.0 / (1.0 + np.exp(-value)) if scale == "logit" else np.exp(value)
        shown = "adds to it" if name.endswith(("/later", "/after_ici")) else f"{number:.3g}"
        table_of_means.append(f"| {name} | {value:.2f} | {error:.2f} | {shown} |")
    scatter = ", ".join(
        f"{group} {sd:.2f}" for group, sd in means.scatter.items() if group != "own"
    )
    text = INTRODUCTION.format(results=results, extra=extra) + "\n".join(rows)
    text += "\n\nResults with |z| above 1.5:\n\n" + "\n".join(far) + "\n"
    text += MEANS + "\n".join(table_of_means) + f"\n\nBetween trials: {scatter}.\n"
    REPORT.write_text(text, encoding="utf-8")


def main() -> None:
    """Do what the first argument says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("fit", "write", "report"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--state", type=Path, default=STATE)
    asked = parser.parse_args()
    if asked.what == "fit":
        fit(asked.state, asked.rounds)
    elif asked.what == "write":
        write(asked.state)
    else:
        report()


if __name__ == "__main__":
    main()
