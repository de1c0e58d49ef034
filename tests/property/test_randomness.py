"""Streams: what is drawn depends on nothing but the seed, the block, the decision and the label.

Everything else that the design promises about random numbers follows from that,
and is tested on whole cohorts: every latent array and every observed one, bit
by bit. The exact values of a stream are part of the contract, so a few are
written out.
"""

import ast
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import sim
from sim import simulate_cohort
from sim.assessment import Observed, draw_calendar, to_tick
from sim.cohort import simulate_strategy
from sim.patient import Draws, draw_patients
from sim.randomness import Streams, counted_words, stream
from sim.resistance import assign_regimens
from sim.scenario import Assessment, Dose, Scenario

# A fixed seed makes each test deterministic, so FALSE_ALARM is not a flake
# rate: it is the chance that an unlucky seed had to be replaced when the test
# was written. It is kept tiny so that nobody is tempted to shop for seeds.
FALSE_ALARM = 1e-6
SEED = 20240601
N = 501  # odd, so that draws which come in pairs do not come out even
ROOT = Path(sim.__file__).parents[1]


def cohort_of(scenario, n_patients=N, **choices):
    return simulate_cohort(scenario, n_patients=n_patients, **{"seed": SEED, **choices})


# ---------------------------------------------------------------- streams


def test_the_first_values_of_a_stream_are_part_of_the_contract():
    rng = stream(1, 0, "acquired_resistance", "vegf_exclusion")
    assert rng.random(2).tolist() == [0.2555370727306814, 0.1778482704614227]
    streams = Streams(7, 3, 2, 2)
    assert streams.words("scan")[:, 0].tolist() == [15353374528248026441, 4104383729414106591]
    assert streams.exponential("death")[0, 0] == 0.14310538383949714


def test_a_stream_depends_on_seed_block_decision_and_label_and_on_each_of_them():
    keys = [
        (1, 0, "death", ""), (2, 0, "death", ""), (1, 1, "death", ""), (1, 0, "regrowth", ""),
        (1, 0, "death", "a"), (1, 0, "deatha", ""), (1, 0, "", "death"), (1, 2**32, "death", ""),
    ]  # fmt: skip
    first = [stream(*key).random() for key in keys]
    assert len(set(first)) == len(keys)
    assert [stream(*key).random() for key in reversed(keys)] == first[::-1]


def test_draws_do_not_depend_on_the_order_in_which_decisions_are_made():
    names = ["death", "frailty", "regrowth"]
    one, other = Draws(Streams(1, 0, 1, 50)), Draws(Streams(1, 0, 1, 50))
    forwards = {name: one.normal(name) for name in names}
    backwards = {name: other.normal(name) for name in reversed(names)}
    for name in names:
        assert np.array_equal(forwards[name], backwards[name])


def test_a_decision_is_drawn_once_and_kept_and_cannot_be_written_to():
    draws = Draws(Streams(1, 0, 1, 10))
    assert draws.uniform("death") is draws.uniform("death")
    with pytest.raises(ValueError, match="read-only"):
        draws.uniform("death")[0] = 0.5


@pytest.mark.parametrize(("size", "count"), [(50, 30), (1, 600_000), (1, 3_000_000)])
def test_each_of_many_decisions_keeps_its_own_draws(size, count):
    # More decisions than one piece of memory holds; the largest do not fit one twice.
    names = [f"decision {i}" for i in range(70 if count == 30 else 5)]
    streams = Streams(SEED, 1, size, count)
    draws = Draws(streams)
    kinds = ("uniform", "normal", "exponential", "words")
    for i, name in enumerate(names):
        getattr(draws, kinds[i % 4])(name)
    for i, name in enumerate(names):
        kind = kinds[i % 4]
        plain = getattr(streams, kind)(name)
        assert np.array_equal(getattr(draws, kind)(name).reshape(count, size).T, plain)


def test_the_draws_of_some_patients_are_the_same_numbers_also_when_chosen_twice():
    draws = Draws(Streams(1, 0, 1, 100))
    chosen = draws.select(np.arange(10, 90, 3)).select(np.array([5, 2, 0]))
    assert np.array_equal(chosen.normal("frailty"), draws.normal("frailty")[[25, 16, 10]])


@pytest.mark.parametrize("kind", ["uniform", "normal", "exponential", "words"])
@pytest.mark.parametrize("size", [1, 50])
def test_the_first_patients_are_the_same_when_more_are_enrolled(kind, size):
    few = getattr(Streams(SEED, 2, size, 301), kind)("acquired_resistance", "a")
    many = getattr(Streams(SEED, 2, size, 500), kind)("acquired_resistance", "a")
    assert few.shape == (size, 301)
    assert np.array_equal(few, many[:, :301])


def test_uniform_words_fill_their_range_evenly():
    # 2**20 words into 256 cells by each byte: one cell fuller by a quarter would be noticed.
    words = Streams(SEED, 0, 1, 2**20).words("scan")[0]
    for byte in words.view(np.uint8).reshape(-1, 8).T:
        counts = np.bincount(byte, minlength=256)
        assert stats.chisquare(counts).pvalue > FALSE_ALARM
        counts[0] += 1024
        assert stats.chisquare(counts).pvalue < FALSE_ALARM


def test_counted_words_are_those_of_splitmix64():
    # The first five numbers that the generator's published C code prints for the state 1234567.
    printed = [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
        4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    start = np.full(5, 1234567, dtype=np.uint64)
    assert counted_words(start, np.arange(5)).tolist() == printed
    assert counted_words(start, np.arange(5)[::-1]).tolist() == printed[::-1]


def test_counted_words_are_even_and_independent_between_occasions_and_patients():
    # 2**18 pairs into 256 cells: one cell fuller by a half would be noticed.
    start = Streams(SEED, 0, 1, 2**18).words("scan")[0]
    rows = [counted_words(start, np.full(len(start), visit)) for visit in range(6)]
    for one, other in [(rows[0], rows[1]), (rows[1], rows[2]), (rows[0], rows[5])]:
        for shift in (32, 48):
            cell = (one >> np.uint64(shift)) % np.uint64(16) * np.uint64(16)
            cell += (other >> np.uint64(shift)) % np.uint64(16)
            counts = np.bincount(cell.astype(np.intp), minlength=256)
            assert stats.chisquare(counts).pvalue > FALSE_ALARM
            counts[0] += 512
            assert stats.chisquare(counts).pvalue < FALSE_ALARM
    scaled = np.array(rows) / 2.0**64
    bound = stats.norm.isf(FALSE_ALARM / 36) / np.sqrt(len(start))
    assert np.abs(np.corrcoef(scaled) - np.eye(6)).max() < bound
    neighbours = np.corrcoef(scaled[:, 1:].ravel(), scaled[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < bound


def test_a_stream_is_seeded_as_numpy_would_with_a_spawn_key():
    for seed, block in [(0, 0), (1, 2**32), (2**32, 7), (2**70 + 3, 2**40), (2**130, 1)]:
        name = hashlib.sha256(b"death/a").digest()[:16]
        key = (block, *np.frombuffer(name, dtype="<u4").tolist())
        sequence = np.random.SeedSequence(seed, spawn_key=key)
        plain = np.random.Generator(np.random.SFC64(sequence)).random(3)
        assert np.array_equal(stream(seed, block, "death", "a").random(3), plain)


def test_scan_days_are_off_by_a_rounded_normal_deviate(toolbox):
    watch = replace(toolbox.scenario.assessment, jitter_sd=3.0)
    calendar = draw_calendar(watch, Draws(Streams(SEED, 0, 1, 40_000)), 12.0)
    days_off = calendar.grid.days_off
    share = np.bincount(days_off - days_off.min()) / 65536
    days = np.arange(days_off.min(), days_off.max() + 1)
    normal = stats.norm(scale=3.0)
    exact = normal.cdf(days + 0.5) - normal.cdf(days - 0.5)
    assert np.abs(share - exact).max() <= 1.0 / 65536
    planned = calendar.grid.schedule
    off = np.stack(
        [calendar.look(np.full(40_000, v), None)[0] - planned[v] for v in range(len(planned))]
    )
    for visit in off:
        counts = np.bincount(visit + 20, minlength=41)[20 - 9 : 20 + 10]
        expected = exact[np.isin(days, np.arange(-9, 10))] * visit.size
        assert (
            stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > FALSE_ALARM
        )
    # Visits of one patient are independent: 0.03 would be noticed in 40,000 patients.
    bound = stats.norm.isf(FALSE_ALARM / off.shape[0] ** 2) / np.sqrt(off.shape[1])
    assert bound < 0.03
    assert np.abs(np.corrcoef(off) - np.eye(len(off))).max() < bound


# ---------------------------------------------------------------- whole cohorts


def test_a_cohort_of_the_first_patients_is_the_same_when_n_grows(toolbox):
    few, many = cohort_of(toolbox.scenario, 301), cohort_of(toolbox.scenario, 500)
    for name in few.strategies:
        first = {key: value[..., :301] for key, value in toolbox.outcomes(many, name).items()}
        toolbox.assert_same(toolbox.outcomes(few, name), first)


def test_a_strategy_alone_has_the_outcome_that_it_has_among_others(toolbox):
    together = cohort_of(toolbox.scenario)
    for strategy in toolbox.scenario.strategies:
        alone = cohort_of(toolbox.with_strategies(strategy))
        toolbox.assert_same(
            toolbox.outcomes(alone, strategy.name), toolbox.outcomes(together, strategy.name)
        )


def test_the_order_of_strategies_and_agents_moves_nothing(toolbox):
    scenario = toolbox.scenario
    turned = replace(scenario, strategies=scenario.strategies[::-1], agents=scenario.agents[::-1])
    one, other = cohort_of(scenario), cohort_of(turned)
    for name in one.strategies:
        toolbox.assert_same(toolbox.outcomes(one, name), toolbox.outcomes(other, name))


def test_the_order_of_doses_in_a_strategy_moves_nothing(toolbox):
    doses = [Dose("backbone"), Dose("blocker", stop=12.0), Dose("primer")]
    one = cohort_of(toolbox.with_strategies(toolbox.treat(*doses, name="same")))
    other = cohort_of(toolbox.with_strategies(toolbox.treat(*doses[::-1], name="same")))
    toolbox.assert_same(toolbox.outcomes(one, "same"), toolbox.outcomes(other, "same"))


def test_an_agent_that_no_strategy_gives_moves_nothing(toolbox):
    scenario = toolbox.scenario
    given = [s for s in scenario.strategies if s.name in ("alone", "maintenance")]
    kept = tuple(a for a in scenario.agents if a.name in ("backbone", "blocker"))
    more = cohort_of(replace(scenario, strategies=tuple(given)))
    fewer = cohort_of(replace(scenario, strategies=tuple(given), agents=kept))
    for name in more.strategies:
        toolbox.assert_same(toolbox.outcomes(more, name), toolbox.outcomes(fewer, name))


def reorder_mechanisms(scenario: Scenario, order: np.ndarray) -> Scenario:
    population = scenario.population
    axis = {"intrinsic": 0, "loading": 0, "prevalence": 1, "acquired_share": 1}
    columns = {k: np.take(getattr(population, k), order, axis=v) for k, v in axis.items()}
    names = tuple(population.mechanisms[k] for k in order)
    return replace(
        scenario,
        population=replace(population, mechanisms=names, **columns),
        agents=tuple(
            replace(a, reversal=a.reversal[order], hazard_ratio=a.hazard_ratio[order])
            for a in scenario.agents
        ),
    )


def test_the_order_of_mechanisms_moves_nothing(toolbox):
    count = len(toolbox.scenario.population.mechanisms)
    turned = reorder_mechanisms(toolbox.scenario, np.roll(np.arange(count)[::-1], 3))
    one, other = cohort_of(toolbox.scenario, 5_000), cohort_of(turned, 5_000)
    for name in one.strategies:
        first, second = toolbox.outcomes(one, name), toolbox.outcomes(other, name)
        toolbox.assert_same(first, second)


def test_withdrawal_changes_only_what_withdrawal_decides(toolbox):
    scenario = toolbox.scenario
    leaving = replace(scenario, assessment=replace(scenario.assessment, withdrawal=0.05))
    staying = replace(scenario, assessment=replace(scenario.assessment, withdrawal=0.0))
    one, other = cohort_of(leaving), cohort_of(staying)
    for name in one.strategies:
        toolbox.assert_same(
            toolbox.outcomes(one, name, observed=False),
            toolbox.outcomes(other, name, observed=False),
        )
        first, second = toolbox.outcomes(one, name), toolbox.outcomes(other, name)
        unmoved = first["observed.os_time"] == second["observed.os_time"]
        assert 0.2 < unmoved.mean() < 0.9
        for key in first:
            if key.startswith("observed."):
                assert np.array_equal(first[key][unmoved], second[key][unmoved]), key
        assert np.all(first["observed.os_time"] <= second["observed.os_time"])
        assert not np.any(first["observed.os_event"] & ~second["observed.os_event"])


def irregular(assessment: Assessment) -> Assessment:
    return replace(
        assessment,
        every=np.array([9.0, 4.0, 12.0]),
        until=np.array([110.0, 140.0, np.inf]),
        jitter_sd=9.0,
        missed=0.4,
        symptomatic=0.4,
        pseudoprogression=0.1,
        criteria="recist",
    )


@pytest.mark.parametrize("watched", [lambda a: a, irregular], ids=["as shipped", "irregular"])
def test_longer_follow_up_leaves_earlier_events_as_they_were(toolbox, watched):
    scenario = replace(toolbox.scenario, assessment=watched(toolbox.scenario.assessment))
    short, long = cohort_of(scenario, 4_000, follow_up=24.0), cohort_of(scenario, 4_000)
    for name in short.strategies:
        first, second = toolbox.outcomes(short, name), toolbox.outcomes(long, name)
        for key in ("os", "pfs"):
            time, event = second[f"observed.{key}_time"], second[f"observed.{key}_event"]
            early = event & (time <= 24.0)
            assert np.array_equal(first[f"observed.{key}_event"], early)
            assert np.array_equal(first[f"observed.{key}_time"][early], time[early])
        for key in ("depth", "durable", "resistance_time", "cause", "progression_time", "sites"):
            assert np.array_equal(first[key], second[key])
        for key in ("detection_time", "death_time"):
            early = second[key] <= 24.0
            assert np.array_equal(first[key] <= 24.0, early)
            assert np.array_equal(first[key][early], second[key][early])


def test_a_replicate_is_its_block_whatever_the_number_of_replicates(toolbox):
    three = cohort_of(toolbox.scenario, 200, n_replicates=3)
    two = cohort_of(toolbox.scenario, 200, n_replicates=2)
    for name in three.strategies:
        many, few = toolbox.outcomes(three, name), toolbox.outcomes(two, name)
        toolbox.assert_same(few, {key: value[:2] for key, value in many.items()})
        assert not np.array_equal(many["death_time"][0], many["death_time"][1])
    stratum = draw_patients(toolbox.scenario.population, Streams(SEED, 2, 1, 200)).stratum
    assert np.array_equal(three.stratum[2], stratum)


def test_the_same_strategy_under_two_names_has_no_paired_difference(toolbox):
    for strategy in toolbox.scenario.strategies:
        twin = replace(strategy, name="twin", label="twin", family="twin")
        cohort = cohort_of(toolbox.with_strategies(strategy, twin))
        toolbox.assert_same(
            toolbox.outcomes(cohort, strategy.name), toolbox.outcomes(cohort, "twin")
        )


@pytest.mark.parametrize("accuracy", [(1.0, 1.0), (0.8, 0.7)], ids=["perfect", "imperfect"])
def test_a_tailored_strategy_is_patient_by_patient_the_one_it_assigns(toolbox, accuracy):
    sensitivity, specificity = accuracy
    population = toolbox.scenario.population
    first, second = population.mechanisms[1], population.mechanisms[2]
    blocker = Dose("blocker", start=1.0, matched=(first,))
    tailored = toolbox.treat(
        "backbone", blocker, Dose("primer", matched=(second, first)),
        name="tailored", sensitivity=sensitivity, specificity=specificity,
    )  # fmt: skip
    explicit = [
        toolbox.treat("backbone", Dose("blocker", start=1.0), name="first"),
        toolbox.treat("backbone", "primer", name="second"),
        toolbox.treat("backbone", name="rest"),
    ]
    scenario = toolbox.with_strategies(tailored, *explicit)
    cohort = cohort_of(scenario, 2_000)
    patients = draw_patients(population, Streams(SEED, 0, 1, 2_000))
    groups = [index for index, _ in assign_regimens(tailored, scenario, patients)]
    if accuracy == (1.0, 1.0):
        has_first, has_second = patients.present[1], patients.present[2]
        assert np.array_equal(groups[0], np.flatnonzero(has_first))
        assert np.array_equal(groups[1], np.flatnonzero(has_second & ~has_first))
    assert min(group.size for group in groups) > 50
    assert np.array_equal(np.sort(np.concatenate(groups)), np.arange(2_000))
    whole = toolbox.outcomes(cohort, "tailored")
    for group, strategy in zip(groups, explicit, strict=True):
        part = toolbox.outcomes(cohort, strategy.name)
        toolbox.assert_same(
            {key: value[..., group] for key, value in whole.items()},
            {key: value[..., group] for key, value in part.items()},
        )


def test_each_patient_of_a_tailored_strategy_keeps_a_follow_up_of_their_own(toolbox):
    scenario = toolbox.scenario
    strategy = next(s for s in scenario.strategies if s.name == "tailored")
    patients = draw_patients(scenario.population, Streams(SEED, 0, 1, N))
    calendar = draw_calendar(scenario.assessment, patients.draws, 60.0)
    ends = np.linspace(6.0, 60.0, N)
    path = simulate_strategy(scenario, strategy, patients, calendar, ends)
    assert np.all(path.observed.os_time <= to_tick(ends))
    for end in (6.0, 60.0):
        i = int(np.flatnonzero(ends == end)[0])
        same = simulate_strategy(scenario, strategy, patients, calendar, end)
        for name in Observed.__slots__:
            assert getattr(path.observed, name)[i] == getattr(same.observed, name)[i]


def test_another_seed_gives_other_patients(toolbox):
    one, other = cohort_of(toolbox.scenario), cohort_of(toolbox.scenario, seed=SEED + 1)
    assert np.mean(one.death_time == other.death_time) < 0.01


def test_numbers_of_patients_are_what_can_be_simulated(toolbox):
    for choice in (
        {"n_patients": 0}, {"seed": -1}, {"n_replicates": 0}, {"follow_up": 0.0},
        {"follow_up": np.inf},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be positive and seed not negative"):
            cohort_of(toolbox.scenario, **choice)


# ---------------------------------------------------------------- sources of randomness


FORBIDDEN = {"random", "default_rng", "RandomState", "SeedSequence", "Generator", "secrets"}


def generators_in(source: str) -> list[str]:
    """What a module imports, or takes from NumPy, that could make random numbers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"np.{node.attr}"] if node.value.id in ("np", "numpy") else []
        # The generators of collections.abc are those that yield.
        names = [name for name in names if not name.startswith("collections.abc.")]
        found += [name for name in names if set(name.split(".")) & FORBIDDEN]
    return found


def test_every_generator_is_made_in_one_module():
    makers = {
        str(path.relative_to(ROOT)): generators_in(path.read_text())
        for folder in ("sim", "analysis", "figures")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {path for path, names in makers.items() if names} == {"sim/randomness.py"}


def test_the_scan_for_generators_would_find_one():
    source = "import random\nfrom numpy.random import default_rng\nx = np.random.random()"
    assert generators_in(source) == ["random", "numpy.random.default_rng", "np.random"]


PRINT_COHORT = """
import sys
import numpy as np
from hydra import compose, initialize_config_module
from sim import simulate_cohort
from sim.command import register_schema
from sim.config import read_run

register_schema()
with initialize_config_module("configs", version_base="1.3"):
    config = compose("run")
cohort = simulate_cohort(read_run(config).scenario, n_patients=4000, seed=5)
seen = cohort.observed
np.savez(
    sys.argv[1], pfs=seen.pfs_time, pfs_event=seen.pfs_event, os=seen.os_time,
    os_event=seen.os_event, best=seen.best_response, progression=seen.progression_time,
    depth=cohort.depth, cause=cohort.cause, death=cohort.death_time,
)
"""


def wide_instructions() -> list[str]:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [
        name
        for name in __cpu_dispatch__
        if name.startswith(("AVX512", "X86_V4")) and __cpu_features__.get(name, False)
    ]


def test_without_wide_vector_instructions_the_counts_and_the_order_stay(tmp_path):
    features = wide_instructions()
    if not features:
        pytest.skip("this processor has no AVX-512 to switch off")
    found = []
    for label, disabled in (("with", ""), ("without", " ".join(features))):
        path = tmp_path / f"{label}.npz"
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        subprocess.run(
            [sys.executable, "-c", PRINT_COHORT, str(path)],
            check=True, timeout=120, env=environment,
        )  # fmt: skip
        with np.load(path) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    one, other = found
    for name in ("pfs_event", "os_event", "best", "depth", "cause"):
        assert np.array_equal(one[name], other[name]), name
    for name in ("pfs", "os", "progression", "death"):
        for a, b in zip(one[name][0], other[name][0], strict=True):
            assert np.array_equal(a.argsort(kind="stable"), b.argsort(kind="stable")), name
            assert np.allclose(a, b, rtol=1e-9, atol=2.0**-20)
