"""The command ``resistime-size``: how large a trial must be for the power that is asked for.

Composes the same configuration as ``resistime``, has the size found, and writes
what was tried, the answer and a figure of power over size. What goes wrong
through the user's doing ends as one line and status 2; that no size has the
power is a result, told in one line, with status 1 and all files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sim.command import keep_configuration, one_line, run_job
from sim.config import read_config
from sim.endpoint.endpoint import short_name
from sim.errors import ScenarioError
from sim.output import draw_figures, provenance, remove_stale, write_table
from sim.schema import SizeRunConfig
from sim.size import PATIENTS, Asked, Confirmed, ask_size, conductor, confirm_size, solve_size
from sim.storage import write_json
from sim.sweep.folder import is_sweep

if TYPE_CHECKING:
    from analysis.size_search import Solution, Unsolved

__all__ = ["main"]

PROGRAM = "resistime-size"
STATUS_NO_SIZE = 1


def main() -> None:
    """Run ``resistime-size`` with the arguments of the command line."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.argv.append("hydra/help=resistime_size")
    run_job(PROGRAM, SizeRunConfig, _hydra_main)


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")
def _hydra_main(config: DictConfig) -> None:
    context = HydraConfig.get()
    overrides = list(context.overrides.task)
    place = Path(context.runtime.output_dir)
    scenario = str(context.runtime.choices.get("scenario") or "")
    plain = OmegaConf.to_container(config, resolve=True)
    with one_line(PROGRAM):
        whole = read_config(config)
        assert isinstance(whole, SizeRunConfig)
        if is_sweep(whole) or context.mode == RunMode.MULTIRUN:
            raise ScenarioError("sweep: one size is found at a time; leave sweep and -m out")
        asked = ask_size(whole, overrides)
        keep_configuration(place, config, overrides)
        reason = execute(asked, place, plain, overrides, scenario)
    if reason:
        print(f"{PROGRAM}: {reason}", file=sys.stderr)
        sys.exit(STATUS_NO_SIZE)


def execute(asked: Asked, place: Path, config: Any, overrides: list[str], scenario: str) -> str:
    """Find the size and leave its files in a folder.

    Parameters
    ----------
    asked : Asked
        From `sim.size.ask_size`.
    place, config, overrides, scenario
        As in `sim.command.execute`.

    Returns
    -------
    str
        Why there is no such size; nothing if there is one.

    Raises
    ------
    ResistimeError
        If a size that must be tried cannot be conducted, or a file not be written.
    """
    from analysis.size_search import Unsolved

    start = time.perf_counter()
    confirmed = None
    with _counted() as progress, conductor(asked, progress) as conduct:
        found = solve_size(asked, conduct)
        if not isinstance(found, Unsolved) and asked.whole.size.confirm:
            confirmed = confirm_size(asked, found.size, conduct)
    tables = {"size.csv": found.tried}
    if not isinstance(found, Unsolved):
        tables["size_curve.csv"] = found.curve
    for name, table in tables.items():
        write_table(place / name, table)
    conducted = int(found.tried["n_replicates"].sum())
    seconds = {"total": time.perf_counter() - start}
    record = provenance(asked.run, config, overrides, scenario, seconds)
    record |= {
        "n_replicates": conducted, "alpha": asked.trial.alpha, "design": _design(asked),
    }  # fmt: skip
    write_json(place / "provenance.json", record)
    write_json(place / "size.json", _record(asked, found, confirmed, record["version"]))
    remove_stale(place, (*tables, "size.json"))
    pictures = draw_figures(asked.run, place)
    if isinstance(found, Unsolved):
        return found.reason
    lines = _summary(asked, found, confirmed)
    lines.append(
        f"{conducted} simulated trials in all, seed {asked.run.seed}; {len(tables)} tables, "
        f"size.json and {pictures} figures in {place} ({time.perf_counter() - start:.1f} s)"
    )
    print("\n".join(lines))
    return ""


@contextmanager
def _counted() -> Iterator[Callable[[int], None]]:
    """Trials counted on a terminal, and nothing anywhere else."""
    from tqdm import tqdm

    with tqdm(desc="trials", unit="", disable=None, leave=False) as bar:
        yield lambda made: bar.update(made) and None


# ---------------------------------------------------------------- in words


def _comparison(asked: Asked) -> str:
    """The comparison whose power is asked for."""
    return f"{_arms(asked)}, {asked.method}"


def _design(asked: Asked) -> str:
    """What is conducted, for the small print of the figure."""
    return f"{_arms(asked)}, one-sided level {asked.trial.alpha:g}"


def _arms(asked: Asked) -> str:
    """Who is compared with whom, on what and when."""
    labels = asked.run.labels
    arms = f"{labels[asked.arm]} against {labels[asked.trial.arms[0]]}"
    return f"{arms}, {short_name(asked.endpoint)} at the cut {asked.cut}"


def assumptions(asked: Asked) -> list[str]:
    """What stays and what goes along as the size varies, a sentence each."""
    trial, own = asked.trial, asked.whole.size
    if own.vary != PATIENTS:
        return [f"{trial.n_patients} patients at every size, and accrual as designed."]
    accrual = trial.accrual
    stays = own.accrual if own.accrual != "as_designed" else "rate" if accrual.rates else "duration"
    if stays == "duration" and accrual.rates:
        told = "Accrual takes as long as designed: its rates grow with the number of patients."
    elif stays == "duration":
        told = f"All enter within {accrual.duration:g} months, however many they are."
    elif accrual.rates:
        told = "Patients enter at the rates designed: more of them take longer."
    else:
        rate = trial.n_patients / accrual.duration
        told = f"{rate:.3g} patients enter a month, as designed: more of them take longer."
    return [told, *_of_events(asked)]


def _of_events(asked: Asked) -> list[str]:
    """How the events that the cut waits for go with the patients."""
    trial = asked.trial
    cut = trial.cuts[asked.cut]
    counts = [cut.events, *cut.stratum_events.values(), *(more.events for more in cut.also)]
    waited = [events for events in counts if events is not None]
    if not waited:
        return [f"The cut {asked.cut} waits for no events."]
    if asked.whole.size.events == "fixed":
        return [
            f"The cut {asked.cut} waits for {', '.join(map(str, waited))} events at every size."
        ]
    shares = " and ".join(f"{events / trial.n_patients:.3g}" for events in waited)
    return [f"The cut {asked.cut} waits for {shares} events a patient, as designed, rounded up."]


def _typed(asked: Asked, size: float) -> list[str]:
    """The overrides with which `resistime` conducts the trial of a size."""

    def told(value: Any) -> str:
        if isinstance(value, list):
            return "[" + ",".join(f"{number:.12g}" for number in value) + "]"
        return f"{value:.12g}"

    return [f"{path}={told(value)}" for path, value in asked.values(size).items()]


def _summary(asked: Asked, found: Solution, confirmed: Confirmed | None) -> list[str]:
    """The answer, how well it is known, and what it rests on."""
    target, unit = asked.whole.target_power, asked.sizes.unit
    lines = [
        f"{_comparison(asked)}: power {target:g} at the one-sided level {asked.trial.alpha:g}",
        "",
        f"  {found.size:g} {unit}",
        f"  Power crosses {target:g} at {found.crossing:.1f}, 95 % interval "
        f"{found.lower:.1f} to {found.upper:.1f}.",
        f"  Power there {100 * found.power:.2f} % ({100 * found.power_error:.2f})"
        + (
            f"; {100 * confirmed.power:.2f} % ({100 * confirmed.mc_error:.2f}) in "
            f"{confirmed.n_replicates} other trials. In brackets: Monte Carlo errors."
            if confirmed
            else ". In brackets: Monte Carlo error."
        ),
    ]
    if confirmed:
        lines.append(
            f"  The cut {asked.cut} is at month {confirmed.date:.1f} with {confirmed.events:.1f} "
            f"{short_name(asked.endpoint)} events on average; target reached in "
            f"{100 * confirmed.target_reached:.1f} %."
        )
    lines += ["", *(f"  {told}" for told in assumptions(asked)), *_doubts(asked, found, confirmed)]
    lines += [f"  Conduct it: resistime ... {' '.join(_typed(asked, found.size))}", ""]
    lines.append("For research and teaching, not for treating patients.")
    return lines


def _doubts(asked: Asked, found: Solution, confirmed: Confirmed | None) -> list[str]:
    """What a reader should know of an answer that is less than was asked for."""
    lines = []
    if not found.precise:
        lines.append(
            f"  Width {asked.whole.size.width:g} asked for, "
            f"{(found.upper - found.lower) / found.crossing:.3g} reached: max_replicates is "
            f"{asked.whole.max_replicates}."
        )
    if found.falls_at is not None:
        lines.append(
            f"  Power is not monotone: at {found.falls_at:g} it is below "
            f"{asked.whole.target_power:g} again."
        )
    if confirmed and not _agree(found, confirmed):
        lines.append("  The other trials do not agree: ask for another seed, and for more trials.")
    return lines


def _agree(found: Solution, confirmed: Confirmed) -> bool:
    """Whether the power in other trials is within 3.5 errors of that of the search."""
    error = (found.power_error**2 + confirmed.mc_error**2) ** 0.5
    return abs(found.power - confirmed.power) <= 3.5 * error


def _record(
    asked: Asked, found: Solution | Unsolved, confirmed: Confirmed | None, version: str
) -> dict[str, Any]:
    """What ``size.json`` says."""
    from analysis.size_search import Unsolved

    own = asked.whole.size
    record: dict[str, Any] = {
        "target_power": asked.whole.target_power,
        "alpha": asked.trial.alpha,
        "vary": own.vary,
        "unit": asked.sizes.unit,
        "cut": asked.cut,
        "endpoint": asked.endpoint,
        "arm": asked.arm,
        "method": asked.method,
        "comparison": _comparison(asked),
        "assumptions": assumptions(asked),
        "smallest_tried": asked.sizes.least,
        "largest_tried": asked.sizes.most,
        "step": asked.sizes.step,
        "seed": asked.run.seed,
        "version": version,
        "answer": None,
        "confirmation": None,
    }
    if isinstance(found, Unsolved):
        return record | {"reason": found.reason}
    record["answer"] = {
        "size": found.size,
        "crossing": found.crossing,
        "lower": found.lower,
        "upper": found.upper,
        "width_asked": own.width,
        "width_reached": (found.upper - found.lower) / found.crossing,
        "power": found.power,
        "power_mc_error": found.power_error,
        "n_replicates": found.n_replicates,
        "conducted_at": found.centre,
        "falls_at": found.falls_at,
        "overrides": _typed(asked, found.size),
    }
    if confirmed:
        record["confirmation"] = {
            "power": confirmed.power,
            "mc_error": confirmed.mc_error,
            "n_replicates": confirmed.n_replicates,
            "first_replicate": confirmed.first,
            "agrees": _agree(found, confirmed),
            "date": confirmed.date,
            "events": confirmed.events,
            "target_reached": confirmed.target_reached,
        }
    return record


if __name__ == "__main__":
    main()
