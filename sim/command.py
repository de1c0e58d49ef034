"""The command ``resistime``: one configuration in, curves, tables and figures out.

Composes the configuration, hands it through the gate, simulates, and has
`analysis` and `figures` write what a run leaves behind. What goes wrong through
the user's doing ends as one line and status 2. A configuration that holds a
sweep goes to `sim.sweep_command`, as do the jobs of Hydra's own sweeps.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sim.catalogue import unreviewed
from sim.cohort import Cohort, simulate_cohort
from sim.complaint import explain, explain_yaml
from sim.config import Run, check_run, read_config
from sim.errors import ResistimeError
from sim.launcher import in_launcher, trouble_of
from sim.output import (
    draw_figures,
    progress_bar,
    provenance,
    reference_strategy,
    remove_stale,
    table_months,
    write_table,
)
from sim.provenance import claim_counts
from sim.schema import RunConfig
from sim.storage import write_json, write_text
from sim.sweep.folder import is_sweep
from sim.sweep.grid import folder_name
from sim.sweep_command import (
    begin_jobs,
    begin_shards,
    execute_job,
    execute_sweep,
    finish_jobs,
)
from sim.trial_command import check_trial, execute_trial

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["keep_configuration", "main", "one_line", "register_schema", "run_job"]

GRID_MONTHS = 0.5
"""Spacing of the times at which incidences and occupancies are written."""

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 130
"""As shells have it: 128 and the number of the signal."""


def main() -> None:
    """Run ``resistime`` with the arguments of the command line."""
    run_job("resistime", RunConfig, _hydra_main)


def run_job(program: str, schema: type, job: Callable[[], None]) -> None:
    """Compose the command line and do a job; what goes wrong is one line.

    Parameters
    ----------
    program : str
        Name of the command, before the line.
    schema : type
        `RunConfig`, or one that adds to it.
    job : callable
        Made by `hydra.main`.
    """
    complain = partial(_complain, program)
    for argument in sys.argv[1:]:
        if argument.startswith("="):
            complain(f"cannot read '{argument}': write path=value, such as cohort.n_patients=5000")
        if argument in ("trial=null", "scenario=null"):
            name = argument.partition("=")[0]
            complain(f"{argument}: leave {name} out instead; without one there is none")
    # A scheduler's request to end leaves no half file either.
    signal.signal(signal.SIGTERM, _leave)
    register_schema(schema)
    # Hydra would otherwise print a traceback of its own and leave with status 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        complain(explain(error))
    except BrokenPipeError:
        # Whoever read the output has gone away; the files are written. Nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except yaml.YAMLError as error:
        complain(explain_yaml(error))
    except ResistimeError as error:
        complain(str(error))  # Of a job that ran elsewhere.
    except OSError as error:
        complain(_unwritable(error))
    except KeyboardInterrupt as error:
        more = (
            "; jobs that were handed over go on (on Slurm, scancel ends them), and so does the "
            "same command with what they leave"
        )
        print(f"{program}: interrupted{more if in_launcher(error) else ''}", file=sys.stderr)
        sys.exit(STATUS_INTERRUPTED)
    except Exception as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        complain(trouble.told, trouble.status)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def register_schema(schema: type = RunConfig) -> None:
    """Make known to Hydra what ``run.yaml`` names: a schema, and what is round a sweep's jobs."""
    store = ConfigStore.instance()
    store.store("schema", schema)
    own = {"sweep": {"_target_": f"{__name__}.AroundJobs"}}
    store.store("resistime", own, group="hydra/callbacks")
    OmegaConf.register_new_resolver("sweep_folder", _sweep_folder, replace=True)


def _sweep_folder(sweep: DictConfig | None, otherwise: str) -> str:
    """Where the results of a sweep go, so that the same command goes on with them."""
    if sweep is None:
        return otherwise
    plain = OmegaConf.to_container(sweep)
    assert isinstance(plain, dict)
    return folder_name({str(key): value for key, value in plain.items()}) or otherwise


class AroundJobs(Callback):
    """Checks a sweep before its jobs are handed over, and puts together what they have made."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Say what the shards of a sweep are, or why they cannot be."""
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]
        with _heard():
            typed = list(config.hydra.overrides.task)
            place = Path(config.hydra.sweep.dir)
            whole = read_config(own)
            if is_sweep(whole):
                begin_shards(whole, typed, place)
            else:
                begin_jobs(typed, place)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Collect, and leave with a status if cells have failed."""
        with _heard():
            status = finish_jobs(Path(config.hydra.sweep.dir))
        if status:
            sys.exit(status)


@contextmanager
def _heard() -> Iterator[None]:
    """Leave with what goes wrong around jobs: Hydra would make it a warning and go on."""
    try:
        yield
    except ResistimeError as error:
        _complain("resistime", str(error))
    except OSError as error:
        _complain("resistime", _unwritable(error))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _unwritable(error: OSError) -> str:
    place = f" '{error.filename}'" if error.filename else ""
    return f"hydra.run.dir: cannot write{place}: {error.strerror or error}"


def _complain(program: str, message: str, status: int = STATUS_BAD_INPUT) -> None:
    print(f"{program}: {message}", file=sys.stderr)
    sys.exit(status)


def _launched_elsewhere() -> bool:
    """Whether this is a job that another process has launched, and is to hear what went wrong."""
    context = HydraConfig.get()
    basic = str(context.launcher.get("_target_", "")).endswith(".BasicLauncher")
    return context.mode == RunMode.MULTIRUN and not basic


@contextmanager
def one_line(program: str) -> Iterator[None]:
    """Say what goes wrong in a job before Hydra does, which would add lines of its own."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ResistimeError, OSError) as error:
        told = str(error) if isinstance(error, ResistimeError) else _unwritable(error)
        if _launched_elsewhere():
            raise ResistimeError(told) from error
        _complain(program, told)


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")
def _hydra_main(config: DictConfig) -> None:
    context = HydraConfig.get()
    overrides = list(context.overrides.task)
    place = Path(context.runtime.output_dir)
    with one_line("resistime"):
        whole = read_config(config)
        if is_sweep(whole):
            # The shards of a sweep share a folder; otherwise each job has its own.
            alone = whole.n_shards == 1
            shared = context.mode == RunMode.MULTIRUN and not alone
            folder = Path(context.sweep.dir) if shared else place
            typed = [*overrides, *_searched(context)]
            status = execute_sweep(whole, typed, folder, alone=alone)
            # Not before: a folder that is refused is left as it was.
            keep_configuration(place, config, overrides)
            if status and context.mode == RunMode.RUN:
                sys.exit(status)
        elif context.mode == RunMode.MULTIRUN:
            keep_configuration(place, config, overrides)
            typed = [*overrides, *_searched(context)]
            execute_job(whole, typed, Path(context.sweep.dir), int(context.job.num))
        else:
            _execute_run(whole, config, overrides, place, context.runtime.choices.get("scenario"))


def _searched(context: Any) -> list[str]:
    """Where else configurations were looked for, as it would be typed: it belongs to a sweep."""
    sources = context.runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    return [f'hydra.searchpath=["file://{folder}"]' for folder in folders]


def _execute_run(
    whole: RunConfig, config: DictConfig, overrides: list[str], place: Path, scenario: str | None
) -> None:
    plain = OmegaConf.to_container(config, resolve=True)
    run = check_run(whole, overrides)
    if run.trial is not None:
        check_trial(run, run.trial)
    keep_configuration(place, config, overrides)
    execute(run, place, plain, overrides, scenario or "")


def keep_configuration(place: Path, config: DictConfig, overrides: list[str]) -> None:
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
    if run.published is not None and not run.published.reviewed:
        print(f"resistime: warning: {unreviewed(run.published.title)}", file=sys.stderr)
    if run.trial is not None:
        execute_trial(run, run.trial, place, config, overrides, scenario)
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
        write_table(place / name, table)
    analysed = time.perf_counter()
    seconds = {"simulate": simulated - start, "analyse": analysed - simulated}
    write_json(place / "provenance.json", provenance(run, config, overrides, scenario, seconds))
    remove_stale(place, tables)
    pictures = draw_figures(run, place)
    print(_summary(run, tables, place, pictures, time.perf_counter() - start))


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
    ticks = table_months(choice)
    grid = np.arange(0.0, choice.horizon + 1e-9, GRID_MONTHS)
    curves, summary = estimate_curves(
        cohort, choice.endpoints, choice.rates, ticks, progress=progress_bar("curves")
    )
    summary = pd.concat([estimate_responses(cohort), summary], ignore_index=True)
    tables = {
        "curves.csv": curves,
        "summary.csv": summary,
        "incidence.csv": estimate_incidence(cohort, grid),
        "occupancy.csv": estimate_occupancy(cohort, grid),
        "resistance.csv": cross_definitions(cohort, run.definitions),
        "contrasts.csv": estimate_contrasts(
            cohort, cohort.strategies.index(reference_strategy(run)), choice.rates, choice.horizon
        ),
    }
    if run.targets:
        tables["targets.csv"] = compare_targets(run.targets, cohort, run.scenario, run.published)
    if choice.patients:
        from analysis.patients import patient_table

        tables["patients.parquet"] = patient_table(cohort, run.scenario)
    return tables


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
