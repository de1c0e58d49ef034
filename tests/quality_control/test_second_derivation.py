"""Published trials against a second derivation of their designs and results.

The YAML files beside this one were made from the evidence alone, without a look
at the scenarios. Where a scenario and its second derivation differ, one of them
is wrong. What was derived from what: docs/validation/second_derivation.md.

Numbers that were read are compared exactly. Numbers that were worked out are
compared to half a unit of the last digit to which percentages are printed here.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import configs
from sim.config import read_config

FOLDER = Path(__file__).parent
SCENARIOS = Path(configs.__file__).parent / "scenario"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
TRIALS = [
    "CHECKMATE227_2H19", "KEYNOTE010_2H16", "KEYNOTE024_2R16", "KEYNOTE042_2M19",
    "KEYNOTE189_2G18", "KEYNOTE407_2P18", "LEAP008_2L25", "OAK_2R17",
]  # fmt: skip

ROUND_OFF = 1e-9
PRINTED = 0.0005 + ROUND_OFF
"""Half a unit of the third decimal of a share, or of a month."""
SHARE = 0.01
"""Of the prevalence of a stratum, which scenarios may give as a whole percentage."""
WEEKS = 520.0
"""To which scan grids are written out."""

each_trial = pytest.mark.parametrize("name", NAMES)


# ---------------------------------------------------------------- what was derived


@functools.cache
def derived(name: str) -> dict[str, Any]:
    """One derivation; not to be changed."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def numbers(trial: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Arm, stratum and entry of every derived number.

    The number of patients is that of the arm or stratum where the entry has none of its own;
    hazard ratios have none, for it may be said of one arm or of both.
    """
    for part in trial["results"]:
        arm, stratum = part["arm"], part["stratum"]
        for entry in part["numbers"]:
            n = entry.get("n", trial["design"]["n"][arm].get(stratum))
            contrast = entry["measure"].startswith("hr_")
            yield arm, stratum, {"use": "target", **entry, "n": None if contrast else n}


def key(arm: str, stratum: str, measure: str) -> str:
    return f"{arm}{f' in {stratum}' if stratum else ''}: {measure}"


def is_value(entry: dict[str, Any], value: float) -> bool:
    """Whether a value is the derived one, in one of the forms in which it is printed."""
    tolerance = PRINTED if "how" in entry else ROUND_OFF
    return abs(value - entry["value"]) <= tolerance or any(
        abs(value - other) <= ROUND_OFF for other in entry.get("also", [])
    )


def is_number(allowed: int | list[int] | None, n: int) -> bool:
    """Whether a number of patients is the derived one, or in the range that rounding leaves."""
    if allowed is None:
        return True
    least, most = allowed if isinstance(allowed, list) else (allowed, allowed)
    return least <= n <= most


def scan_weeks(phases: list[tuple[float, float]]) -> list[float]:
    """Weeks of the scans, so that one grid written in two ways is one."""
    weeks, last = [], 0.0
    for every, until in phases:
        while every > 0.0 and last + every <= min(until, WEEKS) + ROUND_OFF:
            last += every
            weeks.append(last)
    return weeks


# ---------------------------------------------------------------- what a scenario says


def role(whole: Any, strategy: str) -> str:
    """Of an arm: every control arm of these trials is chemotherapy without an ICI."""
    doses = whole.strategies[strategy].doses
    inhibits = any(whole.agents[agent].checkpoint_inhibitor for agent in doses)
    return "experimental" if inhibits else "control"


def published(whole: Any) -> list[Any]:
    """Published results, those of the block `published` among them where there is one."""
    block = getattr(whole, "published", None)
    lists = [part for part in vars(block).values() if isinstance(part, list)] if block else []
    more = [entry for part in lists for entry in part if hasattr(entry, "measure")]
    return [*whole.targets, *more]


def is_reviewed(whole: Any) -> bool:
    block = getattr(whole, "published", None)
    return bool(getattr(block if block is not None else whole, "reviewed", False))


def strategies_of(whole: Any, arm: str) -> list[str]:
    """Strategies of a role whose results are published: others are counterfactual."""
    named = {entry.strategy for entry in published(whole)}
    return [name for name in whole.strategies if name in named and role(whole, name) == arm]


def disagreements(trial: dict[str, Any], whole: Any) -> list[str]:
    """In words, where a scenario differs from its second derivation."""
    return [
        *result_disagreements(trial, whole),
        *design_disagreements(trial["design"], whole),
    ]


def result_disagreements(trial: dict[str, Any], whole: Any) -> Iterator[str]:
    known = {}
    rejected: dict[str, list[dict[str, Any]]] = {}
    for arm, stratum, entry in numbers(trial):
        if entry["use"] == "rejected":
            rejected.setdefault(key(arm, stratum, entry["measure"]), []).append(entry)
        else:
            known[key(arm, stratum, entry["measure"])] = entry
    found = set()
    for target in published(whole):
        name = key(
            role(whole, target.strategy), getattr(target, "stratum", "") or "", target.measure
        )
        if name in found:
            yield f"{name} is given twice"
        found.add(name)
        if name not in known:
            yield f"{name} = {target.value:g} was not derived"
            continue
        entry = known[name]
        if not is_value(entry, target.value):
            why = [
                other["why"] for other in rejected.get(name, []) if is_value(other, target.value)
            ]
            yield f"{name} is {target.value:g}, derived {entry['value']:g}" + "".join(
                f" ({reason})" for reason in why
            )
        if not is_number(entry["n"], target.n):
            yield f"{name} is of n = {target.n}, derived {entry['n']}"
        for end in ("lower", "upper"):
            given = getattr(target, end, None)
            if given is not None and abs(given - entry.get(end, math.nan)) > ROUND_OFF:
                yield f"{name} has {end} {given:g}, derived {entry.get(end)}"
        if target.checked == "verified" and entry["checked"] == "memory":
            yield f"{name} is said to be verified, and the evidence has it from memory"
    for name, entry in known.items():
        if entry["use"] == "target" and name not in found:
            yield f"{name} = {entry['value']:g} is missing"


def design_disagreements(design: dict[str, Any], whole: Any) -> Iterator[str]:
    for arm in ("control", "experimental"):
        if len(strategies_of(whole, arm)) != 1:
            yield f"{arm}: one strategy must have the results, got {strategies_of(whole, arm)}"
            return
    yield from _scan_disagreements(design["scans"], whole)
    yield from _stop_disagreements(design["planned_stop"], whole)
    yield from _crossover_disagreements(design["crossover"], whole)
    yield from _strata_disagreements(design["strata"], whole)
    if whole.cohort.follow_up < design["follow_up"]["months"]:
        yield f"follow-up is {whole.cohort.follow_up:g}, results go to {design['follow_up']}"


def _scan_disagreements(scans: dict[str, Any], whole: Any) -> Iterator[str]:
    expected = scan_weeks([(phase["every"], phase["until"]) for phase in scans["phases"]])
    given = scan_weeks([(phase.every, phase.until) for phase in whole.assessment.schedule])
    if given != expected:
        yield f"scans are in weeks {given[:9]}..., derived {expected[:9]}..."


def _stop_disagreements(stop: dict[str, Any], whole: Any) -> Iterator[str]:
    least, most = stop.get("lower", stop["months"]), stop.get("upper", stop["months"])
    (strategy,) = strategies_of(whole, "experimental")
    for agent, dose in whole.strategies[strategy].doses.items():
        inhibitor = whole.agents[agent].checkpoint_inhibitor
        if inhibitor and not least - 0.005 <= dose.stop <= most + 0.005:
            yield f"planned stop of {agent} is {dose.stop:g} months, derived {stop['months']:g}"


def _crossover_disagreements(crossover: dict[str, Any], whole: Any) -> Iterator[str]:
    (strategy,) = strategies_of(whole, "control")
    control = whole.strategies[strategy]
    if crossover["of_progressed"] is None:
        source = control.sources.get("crossover")
        if control.crossover > 0.0 and (source is None or source.checked == "verified"):
            yield "crossover is not in the evidence: it cannot be verified"
    elif not crossover["lower"] <= control.crossover <= crossover["upper"]:
        yield (
            f"crossover is {control.crossover:g} of those with progression seen, "
            f"derived {crossover['lower']:g} to {crossover['upper']:g}"
        )


def _strata_disagreements(strata: dict[str, Any] | None, whole: Any) -> Iterator[str]:
    given = {name: stratum.prevalence for name, stratum in whole.population.strata.items()}
    if "pdl1_positive" in (strata or {}) and "tps_high" in given:
        given["pdl1_positive"] = given.get("tps_high", 0.0) + given.get("tps_low", 0.0)
        given["pdl1_negative"] = given.get("tps_negative", 0.0)
    for name, entry in (strata or {}).items():
        if name not in given:
            yield f"stratum {name} is missing"
        elif abs(given[name] - entry["share"]) > SHARE:
            yield f"stratum {name} is {given[name]:g} of all, derived {entry['share']:g}"


# ---------------------------------------------------------------- the scenarios


@pytest.fixture
def scenario(composed: Callable[..., Any]) -> Callable[[str], Any]:
    """A published scenario, read as the command reads it."""

    def read(name: str) -> Any:
        if not (SCENARIOS / f"{name}.yaml").is_file():
            pytest.skip(f"no scenario {name} in configs yet")
        return read_config(composed(f"scenario={name}"))

    return read


@each_trial
def test_scenario_agrees_with_its_second_derivation(name, scenario):
    found = disagreements(derived(name), scenario(name))
    assert not found, "\n".join(found)


@each_trial
def test_reviewed_scenarios_are_those_that_agree(name, scenario):
    whole = scenario(name)
    if not is_reviewed(whole):
        pytest.skip(f"{name} is not said to be reviewed")
    assert disagreements(derived(name), whole) == []


def test_reviewed_scenarios_have_a_second_derivation(composed):
    """Whatever its name: what nobody derived again cannot say that somebody did."""
    for path in SCENARIOS.glob("*.yaml"):
        if path.stem not in NAMES and path.stem not in aliases():
            whole = read_config(composed(f"scenario={path.stem}"))
            assert not is_reviewed(whole), path.stem


@functools.cache
def aliases():
    """Short names of trials that were derived, as their own files give them."""
    files = [SCENARIOS / f"{name}.yaml" for name in NAMES]
    contents = [yaml.safe_load(file.read_text()) for file in files if file.exists()]
    return {content["published"]["alias"] for content in contents}


# ---------------------------------------------------------------- the derivations themselves


def test_all_trials_are_derived():
    assert NAMES == TRIALS
    assert all(sum(1 for _ in numbers(derived(name))) > 15 for name in NAMES)


@each_trial
def test_arithmetic(name):
    trial = derived(name)
    design = trial["design"]
    worked = [(entry["how"], entry["value"]) for _, _, entry in numbers(trial) if "how" in entry]
    for part in (design["strata"] or {}).values():
        worked.append((part["how"], part["share"]))
    stop, crossover = design["planned_stop"], design["crossover"]
    worked += [(stop["how"], stop["months"])] if "how" in stop else []
    worked += [(crossover["how"], crossover["of_progressed"])] if "how" in crossover else []
    for how, value in worked:
        assert eval(how, {"__builtins__": {}}) == pytest.approx(value, abs=PRINTED), how


@each_trial
def test_every_number_has_its_place_and_its_patients(name):
    trial = derived(name)
    keys = []
    for arm, stratum, entry in numbers(trial):
        assert arm in ("experimental", "control")
        assert entry["checked"] in ("verified", "memory", "derived")
        assert entry["use"] in ("target", "beside", "rejected")
        assert entry["from"], entry
        share = entry["measure"].startswith(("rate_", "orr", "bor_", "completed", "survival_"))
        assert entry["value"] > 0.0 and (not share or entry["value"] < 1.0), entry
        if entry["measure"].startswith("hr_") and entry["use"] == "target":
            assert entry["lower"] < entry["value"] < entry["upper"], entry
        elif entry["use"] == "target":
            assert entry["n"], entry
        if entry["use"] != "rejected":
            keys.append(key(arm, stratum, entry["measure"]))
    assert len(keys) == len(set(keys))


@each_trial
def test_landmarks_fall_and_agree_with_medians(name):
    """A rate that was put in the wrong arm, year or stratum would mostly break this."""
    curves: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for arm, stratum, entry in numbers(derived(name)):
        measure, kind = entry["measure"], entry["measure"].split("_")
        if entry["use"] == "rejected" or kind[0] not in ("rate", "median"):
            continue
        if kind[1] in ("pfs", "os"):
            point = (float(kind[2]), entry["value"]) if kind[0] == "rate" else (entry["value"], 0.5)
            assert measure in (f"rate_{kind[1]}_{kind[-1]}", f"median_{kind[1]}")
            curves.setdefault((arm, stratum, kind[1]), []).append(point)
    for curve in curves.values():
        heights = [height for _, height in sorted(curve, key=lambda point: (point[0], -point[1]))]
        assert heights == sorted(heights, reverse=True), curve


# ---------------------------------------------------------------- a difference is caught


def faithful(trial: dict[str, Any]) -> Any:
    """The scenario that agrees with a derivation in everything."""
    design = trial["design"]
    targets = [
        SimpleNamespace(
            strategy=arm, stratum=stratum, measure=entry["measure"], value=entry["value"],
            n=min(entry["n"]) if isinstance(entry["n"], list) else entry["n"] or 1,
            lower=entry.get("lower"), upper=entry.get("upper"), checked=entry["checked"],
        )
        for arm, stratum, entry in numbers(trial)
        if entry["use"] == "target"
    ]  # fmt: skip
    dose = SimpleNamespace(stop=design["planned_stop"]["months"])
    crossing = design["crossover"]["of_progressed"] or 0.0
    return SimpleNamespace(
        targets=targets,
        published=SimpleNamespace(reviewed=True),
        cohort=SimpleNamespace(follow_up=float(design["follow_up"]["months"])),
        agents={
            "inhibitor": SimpleNamespace(checkpoint_inhibitor=True),
            "chemotherapy": SimpleNamespace(checkpoint_inhibitor=False),
        },
        strategies={
            "experimental": SimpleNamespace(doses={"inhibitor": dose}, crossover=0.0, sources={}),
            "control": SimpleNamespace(
                doses={"chemotherapy": SimpleNamespace(stop=math.inf)},
                crossover=crossing,
                sources={},
            ),
        },
        assessment=SimpleNamespace(
            schedule=[
                SimpleNamespace(every=phase["every"], until=phase["until"])
                for phase in design["scans"]["phases"]
            ]
        ),
        population=SimpleNamespace(
            strata={
                name: SimpleNamespace(prevalence=entry["share"])
                for name, entry in (design["strata"] or {}).items()
            }
        ),
    )


@each_trial
def test_a_faithful_scenario_agrees(name):
    assert disagreements(derived(name), faithful(derived(name))) == []
    assert is_reviewed(faithful(derived(name)))


@each_trial
def test_a_single_changed_number_is_caught(name):
    """Values by a unit of the last digit, or past the form they are rounded to; n; absence."""
    trial, whole = derived(name), faithful(derived(name))
    for i, target in enumerate(whole.targets):
        rounded = target.measure.startswith(("completed", "survival_", "bor_"))
        step = 0.1 if target.measure.startswith("median_") else 0.007 if rounded else 0.001
        contrast = target.measure.startswith("hr_")
        for change in (
            {"value": target.value + step}, {"value": target.value - step},
            {} if contrast else {"n": target.n - 1},
            {"lower": target.lower - 0.01} if contrast else {},
            {"measure": f"{target.measure}_of_something"},
        ):  # fmt: skip
            if change:
                changed = copy.copy(whole)
                changed.targets = list(whole.targets)
                changed.targets[i] = SimpleNamespace(**{**vars(target), **change})
                assert disagreements(trial, changed), (target, change)
        changed = copy.copy(whole)
        changed.targets = whole.targets[:i] + whole.targets[i + 1 :]
        missing = [words for words in disagreements(trial, changed) if "is missing" in words]
        assert len(missing) == 1, target


@each_trial
def test_exchanged_arms_are_caught(name):
    whole = faithful(derived(name))
    for target in whole.targets:
        target.strategy = {"control": "experimental", "experimental": "control"}[target.strategy]
    assert len(disagreements(derived(name), whole)) > 5


@each_trial
def test_a_changed_design_is_caught(name):
    trial = derived(name)

    def caught(change: Callable[[Any], None]) -> bool:
        whole = faithful(trial)
        change(whole)
        return bool(disagreements(trial, whole))

    def stop_earlier(whole: Any) -> None:
        whole.strategies["experimental"].doses["inhibitor"].stop = 23.46

    def scan_later(whole: Any) -> None:
        whole.assessment.schedule[0].every *= 2

    def cross_more(whole: Any) -> None:
        whole.strategies["control"].crossover = 0.95

    def follow_less(whole: Any) -> None:
        whole.cohort.follow_up -= 12.0

    for change in (stop_earlier, scan_later, cross_more, follow_less):
        assert caught(change), change.__name__


@pytest.mark.parametrize("name", [name for name in NAMES if derived(name)["design"]["strata"]])
def test_a_changed_mix_is_caught(name):
    whole = faithful(derived(name))
    next(iter(whole.population.strata.values())).prevalence -= 0.02
    assert disagreements(derived(name), whole)


def test_a_value_of_the_other_report_is_caught_with_its_reason():
    """OAK's median OS of the first 850 patients where that of all 1,225 belongs."""
    trial, whole = derived("OAK_2R17"), faithful(derived("OAK_2R17"))
    (target,) = [
        entry
        for entry in whole.targets
        if (entry.strategy, entry.measure) == ("experimental", "median_os")
    ]
    target.value = 13.8
    assert disagreements(trial, whole) == [
        "experimental: median_os is 13.8, derived 13.3 "
        "(first 850 patients; 13.3 is the final report)"
    ]


def test_one_grid_written_in_two_ways_is_one():
    assert scan_weeks([(9, 45), (9, math.inf)]) == scan_weeks([(9, math.inf)])
    assert scan_weeks([(6, 12), (9, 48), (12, math.inf)])[:8] == [6, 12, 21, 30, 39, 48, 60, 72]
