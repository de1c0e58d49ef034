"""The command ``resistime``: one configuration in, curves, tables and figures out.

Composes the configuration, hands it through the gate, simulates, and has
`analysis` and `figures` write what a run leaves behind. What goes wrong through
the user's doing ends as one line and status 2.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sim.cohort import Cohort, simulate_cohort
from sim.complaint import explain, explain_yaml
from sim.conduct import conduct_trials
from sim.config import Run, read_run
from sim.errors import ResistimeError
from sim.plan import TrialPlan
from sim.provenance import citations, claim_counts, program_version, software
from sim.resistance import realised_spearman
from sim.schema import RunConfig
from sim.storage import write_json, write_text, write_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

TABLES = (
    "curves.csv", "summary.csv", "incidence.csv", "occupancy.csv", "resistance.csv",
    "contrasts.csv", "targets.csv", "published.csv", "patients.parquet", "operating.csv",
    "comparisons.parquet",
)  # fmt: skip
"""Every table that some run leaves."""

GRID_MONTHS = 0.5
"""Spacing of the times at which incidences and occupancies are written."""

STATUS_BAD_INPUT = 2


def main() -> None:
    """Run ``resistime`` with the arguments of the command line."""
    for argument in sys.argv[1:]:
        if argument.startswith("="):
            _complain(f"cannot read '{argument}': write path=value, such as cohort.n_patients=5000")
    register_schema()
    # Hydra would otherwise print a traceback of its own and leave with status 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        _hydra_main()
    except (HydraException, OmegaConfBaseException) as error:
        _complain(explain(error))
    except BrokenPipeError:
        # Whoever read the output has gone away; the files are written. Nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except yaml.YAMLError as error:
        _complain(explain_yaml(error))
    except OSError as error:
        _complain(_unwritable(error))


def register_schema() -> None:
    """Make the schema known to Hydra under the name that ``run.yaml`` starts from."""
    ConfigStore.instance().store("schema", RunConfig)


def _unwritable(error: OSError) -> str:
    place = f" '{error.filename}'" if error.filename else ""
    return f"hydra.run.dir: cannot write{place}: {error.strerror or error}"


def _complain(message: str) -> None:
    print(f"resistime: {message}", file=sys.stderr)
    sys.exit(STATUS_BAD_INPUT)


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")
def _hydra_main(config: DictConfig) -> None:
    context = HydraConfig.get()
    overrides = list(context.overrides.task)
    place = Path(context.runtime.output_dir)
    scenario = context.runtime.choices.get("scenario") or ""
    plain = OmegaConf.to_container(config, resolve=True)
    try:
        run = read_run(config, overrides)
        _keep_configuration(place, config, overrides)
        execute(run, place, plain, overrides, str(scenario))
    except ResistimeError as error:
        _complain(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(_unwritable(error))


def _keep_configuration(place: Path, config: DictConfig, overrides: list[str]) -> None:
    """Leave the composed configuration where Hydra users look for it."""
    folder = place / ".hydra"
    folder.mkdir(exist_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config))
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(overrides))
    write_text(
        folder / "hydra.yaml", OmegaConf.to_yaml(OmegaConf.create({"hydra": HydraConfig.get()}))
    )


def execute(run: Run, place: Path, config: Any, overrides: list[str], scenario: str) -> None:
    """Simulate a checked configuration and leave its files in a folder.

    Parameters
    ----------
    run : Run
        The configuration, from the gate.
    place : pathlib.Path
        An existing folder.
    config : mapping
        The same as plain data, for the provenance.
    overrides : list of str
        What the user typed.
    scenario : str
        Name of the scenario chosen, or nothing.

    Raises
    ------
    ResistimeError
        If something in it cannot be done as asked.
    """
    if run.trial is not None:
        _execute_trial(run, run.trial, place, config, overrides, scenario)
        return
    start = time.perf_counter()
    published = _read_published(run)
    cohort = simulate_cohort(
        run.scenario, n_patients=run.n_patients, seed=run.seed, follow_up=run.follow_up
    )
    simulated = time.perf_counter()
    tables = _analyse(run, cohort)
    if published is not None:
        tables["published.csv"] = published
    for name, table in tables.items():
        _write_table(place / name, table)
    analysed = time.perf_counter()
    seconds = {"simulate": simulated - start, "analyse": analysed - simulated}
    write_json(place / "provenance.json", _provenance(run, config, overrides, scenario, seconds))
    _remove_stale(place, tables)
    pictures = []
    if run.analysis.figures:
        from figures.run import draw_run

        pictures = draw_run(place, progress=_progress("figures"))
    print(_summary(run, tables, place, len(pictures), time.perf_counter() - start))


def _execute_trial(
    run: Run, plan: TrialPlan, place: Path, config: Any, overrides: list[str], scenario: str
) -> None:
    """Conduct the replicates of a trial and leave their operating characteristics."""
    from analysis.operating import comparison_table, summarise

    start = time.perf_counter()
    done = conduct_trials(plan, run.n_replicates, run.n_workers, _progress("trials"))
    total = time.perf_counter() - start
    operating = summarise(done.cuts, plan.alpha)
    tables = {
        "operating.csv": operating,
        "comparisons.parquet": comparison_table(done.cuts),
    }
    for name, table in tables.items():
        _write_table(place / name, table)
    seconds = {
        "simulate": done.simulate_seconds,
        "analyse": done.analyse_seconds,
        "total": total,
    }
    record = _provenance(run, config, overrides, scenario, seconds)
    record["n_replicates"] = run.n_replicates
    record["alpha"] = plan.alpha
    busy = done.simulate_seconds + done.analyse_seconds
    record["replicates_per_second"] = round(run.n_replicates / busy, 1)
    write_json(place / "provenance.json", record)
    _remove_stale(place, tables)
    pictures = []
    if run.analysis.figures:
        from figures.run import draw_run

        pictures = draw_run(place, progress=_progress("figures"))
    print(_trial_summary(run, plan, operating, place, len(pictures), total))


def _trial_summary(
    run: Run, plan: TrialPlan, operating: pd.DataFrame, place: Path, pictures: int, seconds: float
) -> str:
    """Power of every comparison with its Monte Carlo error, and when the cuts were."""
    lines = []
    for cut in plan.cuts:
        own = operating[operating["cut"] == cut].set_index(["arm", "endpoint", "method", "measure"])
        estimate, error = own["estimate"], own["mc_error"]
        nothing = ("", "", "")
        reached = estimate[(*nothing, "target_reached")]
        events = ", ".join(
            f"{estimate['', endpoint, '', 'events']:.1f} {endpoint.upper()} events"
            for endpoint in plan.endpoints
        )
        lines.append(
            f"{cut}: month {estimate[(*nothing, 'date')]:.1f}, {events}, "
            f"target reached in {100 * reached:.1f} % of replicates"
        )
        for arm in plan.design.arms[1:]:
            for endpoint in plan.endpoints:
                for method in plan.methods(endpoint):
                    key = (arm.strategy, endpoint, method, "power")
                    lines.append(
                        f"  {run.labels[arm.strategy]}, {endpoint.upper()}, {method}: "
                        f"power {estimate[key]:.4f} (Monte Carlo error {error[key]:.4f})"
                    )
    lines += [
        f"\n{run.n_replicates} simulated trials of {plan.design.n_patients} patients, "
        f"seed {run.seed}; one-sided level {plan.alpha:g}.",
        "For research and teaching, not for treating patients.",
        f"2 tables and {pictures} figures in {place} ({seconds:.1f} s)",
    ]
    return "\n".join(lines)


def _remove_stale(place: Path, tables: Collection[str]) -> None:
    """Remove what an earlier run left in the same folder and this one does not make."""
    for name in TABLES:
        if name not in tables:
            (place / name).unlink(missing_ok=True)
    for figure in ("km_*", "incidence", "occupancy", "definitions", "targets", "operating"):
        for picture in (*place.glob(f"{figure}.png"), *place.glob(f"{figure}.svg")):
            picture.unlink()


def _read_published(run: Run) -> pd.DataFrame | None:
    """Published curves of the scenario; read first, so that a bad path costs nothing."""
    if not run.reference.file:
        return None
    from analysis.published import published_curves, read_published

    return published_curves(
        read_published(run.reference.file, run.reference.trial), run.reference.arms
    )


def _analyse(run: Run, cohort: Cohort) -> dict[str, pd.DataFrame]:
    """Every table of a run by the name of its file."""
    import pandas as pd

    from analysis.cohort import (
        cross_definitions,
        estimate_contrasts,
        estimate_curves,
        estimate_incidence,
        estimate_occupancy,
        estimate_responses,
    )
    from analysis.published import compare_targets

    choice = run.analysis
    ticks = np.unique([*np.arange(0.0, choice.horizon, choice.table_every), choice.horizon])
    grid = np.arange(0.0, choice.horizon + 1e-9, GRID_MONTHS)
    curves, summary = estimate_curves(
        cohort, choice.endpoints, choice.rates, ticks, progress=_progress("curves")
    )
    summary = pd.concat([estimate_responses(cohort), summary], ignore_index=True)
    tables = {
        "curves.csv": curves,
        "summary.csv": summary,
        "incidence.csv": estimate_incidence(cohort, grid),
        "occupancy.csv": estimate_occupancy(cohort, grid),
        "resistance.csv": cross_definitions(cohort, run.definitions),
        "contrasts.csv": estimate_contrasts(
            cohort, cohort.strategies.index(_reference(run)), choice.rates, choice.horizon
        ),
    }
    if run.targets:
        tables["targets.csv"] = compare_targets(run.targets, summary)
    if choice.patients:
        from analysis.patients import patient_table

        tables["patients.parquet"] = patient_table(cohort, run.scenario)
    return tables


def _reference(run: Run) -> str:
    return run.analysis.reference_strategy or run.scenario.strategies[0].name


def _progress(what: str) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """A bar on a terminal and nothing anywhere else."""
    from tqdm import tqdm

    return lambda work: iter(tqdm(work, desc=what, disable=None, leave=False))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    if path.suffix == ".parquet":
        write_whole(path, lambda place: table.to_parquet(place, index=False, compression="zstd"))
    else:
        write_whole(path, lambda place: table.to_csv(place, index=False, lineterminator="\n"))


def _provenance(
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
        "reference_strategy": _reference(run),
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


def _summary(
    run: Run, tables: dict[str, pd.DataFrame], place: Path, pictures: int, seconds: float
) -> str:
    """What the terminal shows at the end: one line a strategy, then where the rest is."""
    table = tables["summary.csv"].set_index(["arm", "endpoint", "measure"])["estimate"]
    months = [m for m in run.analysis.rates if m <= run.analysis.horizon]
    columns = [
        ("primary", ("latent", "primary_resistance"), 100.0, "%"),
        ("ORR", ("response", "orr"), 100.0, "%"),
        ("PFS", ("pfs", "median"), 1.0, " mo"),
        ("DOR", ("duration_of_response", "median"), 1.0, " mo"),
        ("OS", ("os", "median"), 1.0, " mo"),
        *((f"OS {m:g} mo", ("os", f"rate_{m:g}"), 100.0, "%") for m in months[-1:]),
    ]
    width = max(len(strategy.label) for strategy in run.scenario.strategies)
    head = f"{'':{width}}" + "".join(f"{name:>12}" for name, *_ in columns)
    lines = [head]
    for strategy in run.scenario.strategies:
        cells = []
        for _, key, factor, unit in columns:
            value = table.get((strategy.name, *key))
            if value is None or np.isinf(value):
                cells.append("-" if value is None else "not reached")
            else:
                cells.append(f"{factor * value:.1f}{unit}")
        lines.append(f"{strategy.label:{width}}" + "".join(f"{cell:>12}" for cell in cells))
    counts = claim_counts(run.claims)
    told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    withdrawn = "  Citations of replaced numbers are withdrawn." if counts["override"] else ""
    if "targets.csv" in tables:
        lines.append("")
        for strategy, rows in tables["targets.csv"].groupby("strategy", sort=False):
            read = rows.loc[rows["checked"] != "memory", "z"]
            lines.append(
                f"{run.labels[str(strategy)]}: {len(read)} published results that were read, "
                f"root mean square z {float((read**2).mean()) ** 0.5:.2f}, "
                f"largest {float(read.abs().max()):.2f}; {len(rows) - len(read)} recalled "
                "(targets.csv)"
            )
    lines += [
        f"\n{run.n_patients} simulated patients, the same under every strategy; seed {run.seed}. "
        "PFS, DOR and OS are medians; primary is the latent share.",
        f"Numbers about patients: {told} (provenance.json).{withdrawn}",
        "For research and teaching, not for treating patients.",
        f"{len(tables)} tables and {pictures} figures in {place} ({seconds:.1f} s)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
