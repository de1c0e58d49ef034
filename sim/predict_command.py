"""The command ``resistime-predict``: what a trial to come is expected to show, and how surely.

A published scenario as if it had not been seen, or a trial put together from
treatments, line and PD-L1 mix; hazard ratios after a phase 2. Writes curves,
numbers and a figure. What goes wrong through the user's doing ends as one line
and status 2. Nothing is drawn at random: the same question has the same answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.arguments import OneLineParser, answer_arguments
from sim.errors import ScenarioError, unknown_name
from sim.output import write_table
from sim.predicted import LINES, TREATMENTS, AskedTrial, Design, asked_trial, published_trial
from sim.provenance import program_version
from sim.storage import write_json

if TYPE_CHECKING:
    import pandas as pd

    from analysis.effect_pooling import PredictedEffect, Success
    from analysis.pooling import PooledMeans
    from analysis.prediction import Prediction

__all__ = ["main"]

PROGRAM = "resistime-predict"

DISCLAIMER = "For research and teaching, not for treating patients."

LANDMARKS = (6.0, 12.0, 24.0, 36.0, 60.0)
ENDPOINTS = ("pfs", "os")

LAST_YEAR = 9999

FAMILY_OF = {
    "anti_tigit": "tigit_added", "anti_cd73": "adenosine_added", "vegfr_tki": "vegfr_tki_added",
    "lenvatinib_leap008": "vegfr_tki_added", "sbrt": "radiotherapy_added",
}  # fmt: skip
"""Families of published hazard ratios to which agent files belong."""

DESCRIPTION = """\
Predicts PFS and OS of a trial that has not been seen: curves, medians, landmarks and hazard ratios,
with intervals that carry three kinds of uncertainty. Published trials, fitted together, say what
the next one may be like.
"""

EPILOG = """\
examples
  resistime-predict KEYNOTE189           a published trial, all its fitted numbers unknown again
  resistime-predict --arm anti_pd1 --control platinum --mix high=1 --n 150 --crossover 0.6
  resistime-predict --arm anti_pd1+platinum --control platinum --mix high=0.3,low=0.3,negative=0.4
  resistime-predict --arm anti_pd1 --control docetaxel --line later --mix high=0.3,low=0.7
  resistime-predict --arm anti_pd1 --control anti_pd1 --mix high=1 --add anti_tigit
  resistime-predict --family tigit_added --phase2 0.57,0.37,0.90 --before 2022 --events 400

how to read it
  true         where the curve of an unlimited number of patients would lie.
  observed     where a trial of so many patients will find it, everybody followed up.
  calibration  what the pool does not know of its means: more trials would take it away.
  between      how trials scatter about what they share: more trials would not.
  sampling     the size of this trial: more patients would take it away.
  assumption   a partner (--add) that no trial of the pool has: what its agent file says, times a
               factor between 0 and 2 (median 1, 80 % within 0.26 to 1.74).
  --phase2     is another model: published hazard ratios of families of agents, pooled. It shrinks
               the phase 2 and gives the chance that a phase 3 with --events succeeds.

How it did: docs/validation/prediction.md and backtest.md.
For research and teaching, not for treating patients.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-predict`` with the arguments of the command line."""
    answer_arguments(_parser(), _answer, arguments)


# ---------------------------------------------------------------- what is asked


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "trial",
        nargs="?",
        metavar="ID",
        help="a published scenario (resistime-catalogue lists them)",
    )
    trial = parser.add_argument_group("a trial of your own")
    add = trial.add_argument
    add("--arm", type=_words, metavar="A[+B]", help=f"experimental arm: {', '.join(TREATMENTS)}")
    add("--control", type=_words, metavar="A[+B]", help="control arm, of the same words")
    add("--mix", type=_mix, metavar="high=X,low=Y,negative=Z",
        help="TPS 50 %%+, 1 to 49 %%, below 1 %% (default: 0.27, 0.26, 0.47)")  # fmt: skip
    add("--line", metavar="LINE", help=f"{', '.join(LINES)} (default: first)")
    add("--crossover", type=_share, metavar="X",
        help="share of the control arm's progressions then given the ICI (default: 0)")  # fmt: skip
    add("--scans", metavar="FILE", help="a file of configs/assessment (default: that of the line)")
    add = parser.add_argument_group("of any trial").add_argument
    add("--add", action="append", default=[], metavar="AGENT",
        help="a partner for the experimental arm, of configs/agent; may be repeated")  # fmt: skip
    add("--n", type=_patients, metavar="N[,N]",
        help="patients in each arm, or experimental, control (published, or 300)")  # fmt: skip
    add("--months", type=_months, default=60.0, metavar="M", help="how far (default: 60)")
    add = parser.add_argument_group(
        "a phase 3 after a phase 2, by pooled hazard ratios"
    ).add_argument
    add(
        "--phase2",
        type=_phase2,
        metavar="HR,LOWER,UPPER[,LEVEL]",
        help="its hazard ratio; level 0.95",
    )
    add("--phase2-endpoint", choices=ENDPOINTS, default="pfs", help="of that (default: pfs)")
    add("--family", metavar="NAME", help="of agents; left out, that of --add where it is known")
    add("--before", type=_count, metavar="YEAR", help="pool only what was published before")
    add("--endpoint", choices=ENDPOINTS, default="os", help="of the phase 3 (default: os)")
    add("--events", type=_count, metavar="N", help="of the phase 3")
    add("--alpha", type=_share, default=0.025, metavar="X", help="one-sided level (default: 0.025)")
    add = parser.add_argument_group("output").add_argument
    add("--folder", type=Path, default=Path("outputs/predict"), metavar="DIR",
        help="of predict.json, curves.csv and the figure (default: outputs/predict)")  # fmt: skip
    add("--no-figures", action="store_true", help="write the tables only")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split("+"))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got '{text}'") from None
    if not np.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be finite, got '{text}'")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        hint = " (percentages as fractions, 0.6)" if 1.0 < value <= 100.0 else ""
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}{hint}")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return int(text)


def _patients(text: str) -> tuple[int, int]:
    counts = [_count(part) for part in text.split(",")]
    if len(counts) > 2:
        raise argparse.ArgumentTypeError(f"must be one number or two, got '{text}'")
    return counts[0], counts[-1]


def _months(text: str) -> float:
    value = _number(text)
    if not 6.0 <= value <= 120.0:
        raise argparse.ArgumentTypeError(f"must be between 6 and 120, got {text}")
    return value


def _mix(text: str) -> dict[str, float]:
    found = dict.fromkeys(("high", "low", "negative"), 0.0)
    for part in text.split(","):
        name, equals, share = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"must be high=X,low=Y,negative=Z, got '{part}'")
        if name not in found:
            raise argparse.ArgumentTypeError(str(unknown_name("mix", "class", name, found)))
        found[name] = _share(share)
    if abs(sum(found.values()) - 1.0) > 1e-6:
        raise argparse.ArgumentTypeError(f"must add up to 1, got {sum(found.values()):g}")
    return found


def _phase2(text: str) -> tuple[float, float, float, float]:
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) not in (3, 4):
        raise argparse.ArgumentTypeError(f"must be HR,LOWER,UPPER[,LEVEL], got '{text}'")
    ratio, low, high, level = (*numbers, 0.95)[:4]
    if not 0.0 < low <= ratio <= high:
        raise argparse.ArgumentTypeError(f"must have 0 < LOWER <= HR <= UPPER, got '{text}'")
    if not 0.5 <= level < 1.0:
        raise argparse.ArgumentTypeError(f"level must be at least 0.5 and below 1, got {level:g}")
    return ratio, low, high, level


def _asked(asked: argparse.Namespace) -> AskedTrial | None:
    own = {"--arm": asked.arm, "--control": asked.control, "--mix": asked.mix, "--line": asked.line,
           "--crossover": asked.crossover, "--scans": asked.scans}  # fmt: skip
    given = [name for name, value in own.items() if value is not None]
    if asked.trial is not None:
        if given:
            raise ScenarioError(f"{given[0]}: {asked.trial} has its own; leave one of them out")
        return published_trial(asked.trial, asked.add)
    if not given and asked.phase2 is not None:
        return None
    for name in ("--arm", "--control"):
        if own[name] is None:
            raise ScenarioError(
                f"name a published scenario, or --arm and --control; {name} is missing"
            )
    design = Design(
        asked.mix or {"high": 0.27, "low": 0.26, "negative": 0.47}, asked.line or "first",
        asked.arm,
        asked.control, asked.crossover or 0.0, asked.scans or "",
    )  # fmt: skip
    return asked_trial(design, asked.add)


# ---------------------------------------------------------------- what is answered


def _answer(asked: argparse.Namespace) -> None:
    import pandas as pd

    effect = _effect(asked)
    trial = _asked(asked)
    asked.folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"program": f"{PROGRAM} {program_version()}"}
    lines: list[str] = []
    ratios: list[pd.DataFrame] = []
    if trial is not None:
        from analysis.pooling import PooledMeans
        from analysis.prediction import predict

        means = PooledMeans.read(files("configs") / "pool" / "nsclc.json")
        names = (trial.experimental, trial.control)
        counts = asked.n or tuple(trial.n.get(name, 300) for name in names)
        n: dict[tuple[str, int | None], float] = {
            (name, None): count for name, count in zip(names, counts, strict=True)
        }
        made = predict(trial.trial, means, n, asked.months)
        content |= _content(trial, made, means, asked.months)
        lines += _lines(trial, content)
        ratios.append(_densities(trial, made, asked.months))
        write_table(asked.folder / "curves.csv", _curves(made, names))
    if effect is not None:
        content["phase3"] = _phase3_content(asked, *effect)
        lines += _phase3_lines(asked, content["phase3"])
        ratios.append(_effect_densities(asked, *effect))
    write_json(asked.folder / "predict.json", content)
    print("\n".join(lines))
    if trial is not None and not asked.no_figures:
        _draw(asked, trial, content, pd.concat(ratios, ignore_index=True))
    print(f"{asked.folder / 'predict.json'}")


def _content(
    trial: AskedTrial, made: Prediction, means: PooledMeans, months: float
) -> dict[str, Any]:
    from analysis.prediction import LEVELS

    arms = {}
    for name in (trial.experimental, trial.control):
        arm = made.arm(name)
        at = [month for month in LANDMARKS if month <= months]
        arms[name] = {
            "label": trial.labels[name],
            "n": arm.n,
            "response_rate": _quantiles(arm.response_rate),
            **{
                endpoint: {
                    "median": {
                        kind: [
                            _finite(x) for x in arm.median(endpoint, LEVELS, observed=seen).tolist()
                        ]
                        for kind, seen in (("true", False), ("observed", True))
                    },
                    "rate": {f"{month:g}": _quantiles(arm.rate(endpoint, month)) for month in at},
                }
                for endpoint in ENDPOINTS
            },
        }
    ratios = {}
    shares = {}
    for endpoint in ENDPOINTS:
        ratio = made.hazard_ratio(endpoint, trial.experimental, trial.control, months)
        events = made.events(endpoint, trial.experimental, trial.control, months)
        ratios[endpoint] = {
            **_quantiles(ratio), "events": round(events, 1), "follow_up": months,
            "chance_true_below_1": float(np.mean(ratio.draws < 1.0)),
            "chance_observed_below_1": float(ratio.chance_below(1.0)),
        }  # fmt: skip
        shares[f"hazard ratio, {endpoint.upper()}"] = _shares(made, ratio)
        for month in (12.0, 24.0):
            if month <= months:
                rate = made.arm(trial.experimental).rate(endpoint, month)
                shares[f"{endpoint.upper()} at {month:g} months"] = _shares(made, rate)
    return {
        "title": trial.title,
        "assumptions": list(trial.assumptions),
        "pool": {"note": means.note, "trials": list(means.trials)},
        "draws": len(made.free),
        "levels": list(LEVELS),
        "arms": arms,
        "hazard_ratio": ratios,
        "variance_shares": shares,
    }


def _quantiles(quantity: Any) -> dict[str, list[float]]:
    from analysis.prediction import LEVELS

    return {
        "true": quantity.quantile(LEVELS, observed=False).tolist(),
        "observed": quantity.quantile(LEVELS).tolist(),
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity: a median that is not reached is null."""
    return value if np.isfinite(value) else None


def _shares(made: Prediction, quantity: Any) -> dict[str, float]:
    found = made.shares(quantity)
    parts = {
        "calibration": found.calibration, "between_trials": found.between_trials,
        "assumption": found.assumption, "sampling": found.sampling,
    }  # fmt: skip
    return {name: part / found.total for name, part in parts.items()}


def _curves(made: Prediction, names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    from analysis.prediction import LEVELS

    tables = []
    for name in names:
        arm = made.arm(name)
        for endpoint in ENDPOINTS:
            curve = arm.curve(endpoint)
            for kind, seen in (("true", False), ("observed", True)):
                found = curve.quantile(LEVELS, observed=seen)
                table = pd.DataFrame(found.T, columns=[f"{level:g}" for level in LEVELS])
                table.insert(0, "kind", kind)
                table.insert(0, "month", arm.time)
                table.insert(0, "endpoint", endpoint)
                table.insert(0, "strategy", name)
                tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _lines(trial: AskedTrial, content: Mapping[str, Any]) -> Iterator[str]:
    """What is printed: medians of predictions with 80 % intervals of what is observed."""
    low, middle, high = (content["levels"].index(level) for level in (0.1, 0.5, 0.9))

    def told(values: Sequence[float | None], digits: int) -> str:
        one, two, three = (
            "not reached" if values[i] is None else f"{values[i]:.{digits}f}"
            for i in (middle, low, high)
        )
        return f"{one} ({two} to {three})"

    yield content["title"]
    yield "Predicted, with 80 % intervals for what a trial of this size will observe."
    for arm in content["arms"].values():
        yield f"  {arm['label']}, {arm['n']} patients"
        yield f"    response rate     {told(arm['response_rate']['observed'], 2)}"
        for endpoint in ENDPOINTS:
            own = arm[endpoint]
            yield f"    median {endpoint.upper():<10} {told(own['median']['observed'], 1)} months"
            for month, rate in own["rate"].items():
                yield f"    {endpoint.upper():<3} at {month:>2} months  {told(rate['observed'], 2)}"
    for endpoint, ratio in content["hazard_ratio"].items():
        yield (
            f"  hazard ratio of {endpoint.upper():<3} {told(ratio['observed'], 2)}, true "
            f"{told(ratio['true'], 2)}; {ratio['events']:.0f} events in "
            f"{ratio['follow_up']:g} months"
        )
        parts = content["variance_shares"][f"hazard ratio, {endpoint.upper()}"]
        yield "    its variance: " + ", ".join(
            f"{name.replace('_', ' ')} {part:.0%}" for name, part in parts.items() if part > 0.0
        )
    for told_assumption in content["assumptions"]:
        yield f"  {told_assumption}"
    yield f"  {DISCLAIMER}"


# ---------------------------------------------------------------- a phase 3 after a phase 2


def _effect(asked: argparse.Namespace) -> tuple[PredictedEffect, Success | None] | None:
    if asked.phase2 is None:
        for name in ("family", "events", "before"):
            if getattr(asked, name) is not None:
                raise ScenarioError(f"--{name}: goes with --phase2")
        return None
    from analysis.effect_pooling import fit_pool, predict_effect, probability_of_success
    from analysis.effect_table import FAMILIES, KINDS, known_before, read_effects

    known = [FAMILY_OF[name] for name in asked.add if name in FAMILY_OF]
    family = asked.family or (known[0] if known else None)
    if family is None:
        raise ScenarioError("--phase2: name its --family, or 'more_than_ici' for any partner")
    if family not in {*FAMILIES, *KINDS}:
        raise unknown_name("--family", "family", family, [*FAMILIES, *KINDS])
    rows = known_before(read_effects(), asked.before or LAST_YEAR)
    ratio, low, high, _ = asked.phase2
    same = (rows["endpoint"] == asked.phase2_endpoint) & np.isclose(rows["hazard_ratio"], ratio)
    same &= np.isclose(rows["lower"], low) & np.isclose(rows["upper"], high)
    if same.any():
        raise ScenarioError(
            f"--phase2: it is among the pooled results ({rows.loc[same, 'trial'].iloc[0]}) and "
            "would count twice; --before YEAR leaves out what was published from then on"
        )
    try:
        effect = predict_effect(
            fit_pool(rows), family, {asked.phase2_endpoint: asked.phase2}, asked.endpoint
        )
        if asked.events is None:
            return effect, None
        return effect, probability_of_success(effect, asked.events, asked.alpha)
    except ValueError as error:
        raise ScenarioError(f"--phase2: {error}") from error


def _phase3_content(
    asked: argparse.Namespace, effect: PredictedEffect, success: Success | None
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "family": effect.family, "endpoint": effect.endpoint,
        "phase2": {"endpoint": asked.phase2_endpoint, "values": list(asked.phase2)},
        "true": dict(zip(("lower", "median", "upper"), effect.interval(0.8), strict=True)),
        "level": 0.8,
        "variance": {"calibration": effect.calibration, "between_trials": effect.between_trials},
    }  # fmt: skip
    if success is not None:
        estimate = effect.estimate(asked.events)
        content["events"], content["alpha"] = asked.events, asked.alpha
        content["observed"] = dict(
            zip(("lower", "median", "upper"), estimate.interval(0.8), strict=True)
        )
        content["variance"]["sampling"] = estimate.sampling
        content["probability_of_success"] = success.probability
        content["power_at_phase2"] = _finite(success.power_at_phase2)
    return content


def _phase3_lines(asked: argparse.Namespace, content: Mapping[str, Any]) -> Iterator[str]:
    raw, low, high, level = asked.phase2
    yield f"A phase 3 after the phase 2: pooled hazard ratios, family {content['family']}"
    yield (
        f"  phase 2, {asked.phase2_endpoint.upper()}: {raw:.2f} "
        f"({low:.2f} to {high:.2f}, {level:.0%})"
    )
    true = content["true"]
    yield (
        f"  true hazard ratio of {content['endpoint'].upper()} in a phase 3: {true['median']:.2f} "
        f"({true['lower']:.2f} to {true['upper']:.2f}, 80 %)"
    )
    if "events" in content:
        seen = content["observed"]
        yield (
            f"  estimated from {content['events']} events: {seen['median']:.2f} "
            f"({seen['lower']:.2f} to {seen['upper']:.2f}, 80 %)"
        )
        raw_power = content["power_at_phase2"]
        yield (
            f"  probability of success, one-sided level {content['alpha']:g}: "
            f"{content['probability_of_success']:.2f}"
            + ("" if raw_power is None else f"; power at the phase 2 as published: {raw_power:.2f}")
        )
    yield f"  {DISCLAIMER}"


# ---------------------------------------------------------------- figure


def _grid() -> np.ndarray[Any, Any]:
    return np.geomspace(0.25, 2.0, 181)


def _densities(trial: AskedTrial, made: Prediction, months: float) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(
        [
            pd.DataFrame(
                {
                    "what": f"{endpoint.upper()}, this trial",
                    "hazard_ratio": _grid(),
                    "density": made.hazard_ratio(
                        endpoint, trial.experimental, trial.control, months
                    ).density(_grid()),
                }
            )
            for endpoint in ENDPOINTS
        ],
        ignore_index=True,
    )


def _effect_densities(
    asked: argparse.Namespace, effect: PredictedEffect, _: Success | None
) -> pd.DataFrame:
    """The phase 2 as published and what is made of it, for the endpoint of the phase 3."""
    import pandas as pd

    from analysis.effect_table import log_estimate

    grid = _grid()
    centre, error = log_estimate(*asked.phase2)
    raw = np.exp(-0.5 * ((np.log(grid) - centre) / error) ** 2) / (np.sqrt(2.0 * np.pi) * error)
    rows = {
        f"{asked.phase2_endpoint.upper()}, phase 2 as published": raw,
        f"{effect.endpoint.upper()}, after shrinkage": effect.density(np.log(grid)),
    }
    return pd.concat(
        [
            pd.DataFrame({"what": name, "hazard_ratio": grid, "density": density})
            for name, density in rows.items()
        ],
        ignore_index=True,
    )


def _draw(
    asked: argparse.Namespace, trial: AskedTrial, content: Mapping[str, Any], ratios: pd.DataFrame
) -> None:
    import matplotlib
    import pandas as pd

    from figures.prediction import prediction_page
    from figures.run import STYLE
    from figures.shared import save

    shares = pd.DataFrame(
        [{"quantity": name, **parts} for name, parts in content["variance_shares"].items()]
    )
    counts = " and ".join(f"{arm['n']}" for arm in content["arms"].values())
    caption = (
        f"Predicted with {content['program'].replace('-predict', '')} from "
        f"{len(content['pool']['trials'])} published trials fitted together; {content['draws']} "
        f"points of a fixed lattice, no random numbers. Observed: {counts} patients, all "
        f"followed up. {' '.join(content['assumptions'])} {DISCLAIMER}"
    )
    described = "Curves and hazard ratios of a trial that has not been seen"
    with matplotlib.rc_context(fname=STYLE):
        page = prediction_page(
            trial.title, described, pd.read_csv(asked.folder / "curves.csv"), ratios, shares,
            trial.labels, caption,
        )  # fmt: skip
        save(page, asked.folder, "predict")


if __name__ == "__main__":
    main()
