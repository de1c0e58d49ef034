"""The files under configs: every number about nature has a source, and every source is known."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import configs
from sim import simulate_cohort
from sim.catalogue import published_entries, unreviewed
from sim.config import Claim, claims_of
from sim.resistance import primary_share
from sim.scenario import DAYS_PER_MONTH
from sim.schema import (
    AgentConfig,
    AssessmentConfig,
    CouplingConfig,
    CourseConfig,
    DefinitionConfig,
    PopulationConfig,
    RunConfig,
    SourceConfig,
    StrategyConfig,
)
from sim.target import read_measure

ROOT = Path(configs.__file__).parent
LISTED = {"agent": "agents", "strategy": "strategies", "definition": "definitions"}
"""Groups of which a run takes several files, each at a place of its own."""

SCHEMAS: dict[str, type] = {
    "agent": AgentConfig,
    "strategy": StrategyConfig,
    "definition": DefinitionConfig,
    "population": PopulationConfig,
    "course": CourseConfig,
    "assessment": AssessmentConfig,
    "coupling": CouplingConfig,
}
FAMILIES = {
    "backbone", "chemotherapy", "coinhibitory", "costimulatory", "microenvironment", "priming",
}  # fmt: skip
PANELS = {
    "Backbone", "Chemotherapy", "Coinhibitory", "Costimulatory", "Microenvironment", "Priming",
    "Sequenced or tailored",
}  # fmt: skip
UNCITED = {"calibrated", "assumption"}
CHECKED = {"verified", "memory", "derived"}

FILES = [(g, path.stem) for g in SCHEMAS for path in sorted((ROOT / g).glob("*.yaml"))]
SCENARIOS = sorted(path.stem for path in (ROOT / "scenario").glob("*.yaml"))
each_file = pytest.mark.parametrize(("group", "name"), FILES, ids=["/".join(f) for f in FILES])


def catalogue(group: str) -> list[str]:
    """Names of a group's files, without the mathematical special cases."""
    return [n for g, n in FILES if g == group and not n.startswith("special_")]


def place(group: str, name: str) -> str:
    """Where a file's content goes in the configuration."""
    if group not in LISTED:
        return group
    first = (ROOT / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# @package ").strip()


@functools.cache
def content(group: str, name: str) -> Any:
    """What a file gives, against the schema; a file may start from others of its group."""
    given = OmegaConf.load(ROOT / group / f"{name}.yaml")
    first = [base for base in given.pop("defaults", []) if base != "_self_"]
    layers = [OmegaConf.structured(content(group, base)) for base in first]
    layers = layers or [OmegaConf.structured(SCHEMAS[group])]
    return OmegaConf.to_object(OmegaConf.merge(*layers, given))


def claims_in(group: str, name: str) -> list[Claim]:
    """The claims of one file; those of a definition are its numbers."""
    root, part = place(group, name), content(group, name)
    if group == "definition":
        none = SourceConfig(source="")
        numbers = [f.name for f in fields(part) if isinstance(getattr(part, f.name), float)]
        cited = [(n, getattr(part, n), part.sources.get(n, none)) for n in numbers]
        return [Claim(f"{root}.{n}", x, s.source, s.where, s.checked) for n, x, s in cited]
    place_of_group = LISTED.get(group, group)
    own = {root.rpartition(".")[2]: part} if group in LISTED else part
    claims = claims_of(replace(RunConfig(), **{place_of_group: own}))
    return [claim for claim in claims if claim.path.startswith(f"{root}.")]


def without_source(claims: Iterable[Claim]) -> list[str]:
    return [claim.path for claim in claims if not claim.source]


@functools.cache
def bibliography() -> dict[str, str]:
    """Entries by key."""
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", text, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == len(dict(found)) == text.count("\n@")
    return dict(found)


def test_every_claim_of_a_plain_run_has_a_source(default_run):
    assert len(default_run.claims) > 300
    assert without_source(default_run.claims) == []


@each_file
def test_every_claim_of_a_file_has_a_source(group, name):
    claims = claims_in(group, name)
    assert claims
    assert without_source(claims) == []


@each_file
def test_sources_are_known_and_say_how_they_were_checked(group, name):
    for path, entry in content(group, name).sources.items():
        assert entry.where, f"{path}: where is empty"
        if entry.source in UNCITED:
            assert not entry.checked, f"{path}: nothing to check in {entry.source}"
        else:
            assert entry.source in bibliography(), f"{path}: {entry.source} is not in the .bib"
            assert entry.checked in CHECKED, f"{path}: checked is '{entry.checked}'"


@each_file
def test_a_file_is_named_as_what_it_defines_and_opens_with_a_comment(group, name):
    lines = (ROOT / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    if group in LISTED and not name.startswith("special_"):
        assert place(group, name) == f"{LISTED[group]}.{name}"
    assert lines[group in LISTED].startswith("# ")


@pytest.mark.parametrize("name", SCENARIOS)
def test_targets_and_curves_of_a_scenario_cite_the_bibliography(name):
    scenario = OmegaConf.load(ROOT / "scenario" / f"{name}.yaml")
    keys = {target.source for target in scenario.get("targets", [])}
    keys |= {scenario.get("reference", {}).get("source", "")} - {""}
    assert keys <= set(bibliography())


PUBLISHED = {entry.alias: entry for entry in published_entries()}
"""Published trials by alias."""

each_trial = pytest.mark.parametrize("alias", sorted(PUBLISHED))

FITTED = re.compile(
    r"population\.strata\.\w+\.(baseline\.\w+|responding|durable_responding|durable_controlled)"
    r"|population\.(acquired\.(scale|shape)|controlled_ratio|frailty_sd)"
    r"|agents\.\w+\.activity\.(?!joint_response)[\w\[\]]+"
    r"|course\.(tumour_death_hazard|background\.hazard\[\d\])"
)
"""What a fit changes in every published trial."""


def test_the_eight_calibration_trials_are_there():
    assert {entry.name for entry in PUBLISHED.values()} == {
        "KEYNOTE024_2R16", "KEYNOTE042_2M19", "KEYNOTE189_2G18", "KEYNOTE407_2P18", "OAK_2R17",
        "CHECKMATE227_2H19", "KEYNOTE010_2H16", "LEAP008_2L25",
    }  # fmt: skip


@each_trial
def test_an_alias_is_the_same_run_under_another_name(composed, alias):
    assert composed(f"scenario={alias}") == composed(f"scenario={PUBLISHED[alias].name}")
    assert PUBLISHED[alias].name.startswith(f"{alias}_{len(PUBLISHED[alias].n)}")


@each_trial
def test_a_published_trial_is_closed(alias):
    """Whole files of its own, which start from no others, and nothing of them replaced."""
    given = OmegaConf.load(ROOT / "scenario" / f"{PUBLISHED[alias].name}.yaml")
    own = alias.lower()
    for choice in given.defaults[:-1]:
        group, names = next(iter(choice.items()))
        group = group.removeprefix("override /")
        for name in [names] if isinstance(names, str) else names:
            text = (ROOT / group / f"{name}.yaml").read_text(encoding="utf-8")
            assert not re.search(r"^defaults:", text, flags=re.MULTILINE), f"{group}/{name}"
            if group != "coupling":
                assert name == own or name.endswith(f"_{own}"), f"{group}/{name}"
    assert not set(given) & {"population", "agents", "strategies", "course", "assessment"}


@each_trial
def test_what_is_fitted_is_laid_out_alike_and_says_that_it_is_calibrated(load, alias):
    claims = {claim.path: claim for claim in load(f"scenario={alias}").claims}
    fitted = [path for path in claims if FITTED.fullmatch(path)]
    assert {claims[path].source for path in fitted} == {"calibrated"}
    groups = {path.split(".")[0] for path in fitted}
    assert groups == {"population", "agents", "course"}
    standard = content("population", "first_line_nsclc").mechanisms
    assert list(content("population", alias.lower()).mechanisms) == list(standard)


@each_trial
def test_targets_of_a_trial_are_of_its_patients(load, alias):
    run = load(f"scenario={alias}")
    assert run.published.n == PUBLISHED[alias].n
    for target in run.targets:
        several = 2 if target.measure.startswith("hr_") else 1
        most = max(sum(run.published.n.values()) if several == 2 else 0,
                   run.published.n[target.strategy])  # fmt: skip
        if alias == "OAK" and target.source == "mazieres2021":
            most = 1225  # the final analysis is of all who were randomised
        assert 0 < target.n <= most, target
    rates = {t.tolerance for t in run.targets if read_measure(t.measure).fraction}
    assert rates == {0.04 if alias == "KEYNOTE024" else 0.03}
    for target in run.targets:
        if target.measure.startswith("median_"):
            assert target.tolerance == (2.0 if target.value > 15.0 else 1.0), target


def test_crossover_is_the_published_share_among_those_who_progress_alive():
    for trial, share in (
        ("keynote024", 0.66),
        ("keynote189", 116 / 202),
        ("keynote407", 143 / 281),
    ):
        crossover = content("strategy", f"chemotherapy_{trial}").crossover
        assert crossover == pytest.approx(share / 0.88, abs=0.005)


@each_trial
def test_a_trial_that_is_not_reviewed_says_so(alias):
    entry = PUBLISHED[alias]
    assert entry.title.partition(":")[0] in unreviewed(entry.title)
    assert entry.citation in bibliography()
    first = "\n".join(
        (ROOT / "scenario" / f"{entry.name}.yaml").read_text(encoding="utf-8").splitlines()[:12]
    )
    assert ("Not reviewed" in first) is not entry.reviewed


def test_the_bibliography_holds_nothing_unused():
    texts = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.yaml")]
    texts.append((ROOT / "reference" / "strategy_effects.csv").read_text(encoding="utf-8"))
    used = set(re.findall(r"\w+", " ".join(texts)))
    assert set(bibliography()) - used == set()


def test_names_of_papers_in_a_where_are_in_the_bibliography():
    looks = re.compile(r"\b[a-z]{3,}(?:006_)?20[12]\d(?:[a-z]\w*)?\b")
    for group, name in FILES:
        for path, entry in content(group, name).sources.items():
            named = set(looks.findall(entry.where))
            assert named <= set(bibliography()), f"{group}/{name} {path}"


def test_an_entry_of_the_bibliography_says_what_it_is():
    for key, entry in bibliography().items():
        assert "title = {" in entry, key
        assert "\u2013" not in entry, key


def test_a_claim_without_a_source_is_found():
    population = content("population", "first_line_nsclc")
    kept = {key: entry for key, entry in population.sources.items() if key != "durable_hazard"}
    whole = replace(RunConfig(), population=replace(population, sources=kept))
    found = [path for path in without_source(claims_of(whole)) if path.startswith("population.")]
    assert found == ["population.durable_hazard"]


def test_an_overridden_number_loses_its_source(load):
    claims = {claim.path: claim for claim in load("population.acquired.scale=14").claims}
    replaced = claims["population.acquired.scale"]
    assert (replaced.value, replaced.source, replaced.checked) == (14.0, "override", "")
    assert claims["population.acquired.shape"].source == "calibrated"


def test_the_longest_name_that_covers_a_number_counts(default_run):
    claims = {claim.path: claim for claim in default_run.claims}
    shares = "population.strata.tps_low.acquired_share"
    assert claims[f"{shares}.antigen_presentation_loss"].source == "gettinger2017"
    assert claims[f"{shares}.adenosine_suppression"].source == "assumption"


def test_every_family_has_an_agent():
    assert {content("agent", name).family for name in catalogue("agent")} == FAMILIES
    assert {content("strategy", name).family for name in catalogue("strategy")} == PANELS


def test_agents_without_randomised_evidence_have_no_effect():
    agent = content("agent", "agonist_41bb")
    assert set(agent.reversal.values()) == {0.0}
    assert set(agent.hazard_ratio.values()) == {1.0}
    assert (agent.response, agent.durability, agent.growth_ratio) == (0.0, 0.0, 1.0)


def test_every_strategy_composes_and_simulates(load):
    names = {group: ",".join(catalogue(group)) for group in ("agent", "strategy")}
    run = load(*(f"{group}=[{chosen}]" for group, chosen in names.items()))
    assert [s.name for s in run.scenario.strategies] == catalogue("strategy")
    cohort = simulate_cohort(run.scenario, n_patients=50, seed=1)
    assert np.all(cohort.death_time > 0.0)
    assert np.all(np.isfinite(cohort.observed.pfs_time))


@pytest.mark.parametrize("name", catalogue("assessment"))
def test_every_grid_simulates(load, name):
    run = load(f"assessment={name}", "strategy=[anti_pd1]")
    observed = simulate_cohort(run.scenario, n_patients=50, seed=1).observed
    assert np.all(observed.pfs_time <= observed.os_time)


def test_the_primary_share_is_that_of_the_calibration(default_run):
    high, low, negative = primary_share(default_run.scenario)
    assert high == pytest.approx(0.296, abs=0.01)
    assert 0.33 <= low <= 0.45
    assert 0.42 <= negative <= 0.50


def test_numbers_derived_from_a_publication_follow_from_it():
    course = content("course", "first_line")
    factors = np.exp(course.stop_effect * np.exp(-np.array([12.0, 24.0]) / course.stop_decay))
    assert factors == pytest.approx([1 / 0.56, 1.33], rel=0.01)
    assert course.next_lines["rechallenge"].regain == pytest.approx((11 + 5) / 54, abs=0.005)
    weeks = 7.0 / DAYS_PER_MONTH
    assert content("definition", "hudson2024").threshold == pytest.approx(24 * weeks, abs=1e-4)
    assert content("definition", "s1800a").exposure_acquired * 7.0 == 84.0
    for rule in ("sitc2020", "sitc2023_chemotherapy"):
        floor = content("definition", rule).exposure_acquired * weeks
        assert 5.999 < floor <= 6.0


def test_the_sources_of_a_file_cover_something():
    for group, name in FILES:
        if name.startswith("special_"):
            continue
        root, part = place(group, name), content(group, name)
        paths = [claim.path[len(root) + 1 :] for claim in claims_in(group, name)]
        for key in part.sources:
            covers = [p for p in paths if p == key or p.startswith((f"{key}.", f"{key}["))]
            assert covers, f"{group}/{name}: sources.{key}"


@pytest.fixture(scope="module")
def cohort(load):
    chosen = [
        "anti_pd1", "chemotherapy", "anti_pd1_chemotherapy", "anti_pd1_ctla4", "anti_pd1_tigit",
        "anti_pd1_41bb", "anti_pd1_vegf", "anti_pd1_vegfr_tki", "anti_pd1_sbrt", "tailored",
    ]  # fmt: skip
    run = load(f"strategy=[{','.join(chosen)}]")
    return simulate_cohort(run.scenario, n_patients=10000, seed=1)


class TestSignatures:
    """What each partner does under the default run, in kind rather than in size."""

    def alive(self, cohort, strategy, months, stratum=None):
        death = cohort.death_time[0, cohort.strategies.index(strategy)]
        chosen = slice(None) if stratum is None else cohort.stratum[0] == stratum
        return float(np.mean(death[chosen] > months))

    def progression_free(self, cohort, strategy, months):
        s = cohort.strategies.index(strategy)
        first = np.minimum(cohort.progression_time[0, s], cohort.death_time[0, s])
        return float(np.mean(first > months))

    def response(self, cohort, strategy):
        """Share of responders, and the median months from response to progression or death."""
        s = cohort.strategies.index(strategy)
        observed = cohort.observed
        responded = observed.best_response[0, s] <= 1
        length = (observed.pfs_time[0, s] - observed.response_time[0, s])[responded]
        return float(np.mean(responded)), float(np.median(length))

    def test_chemotherapy_adds_responses_that_are_shorter(self, cohort):
        alone, both = (self.response(cohort, s) for s in ("anti_pd1", "anti_pd1_chemotherapy"))
        assert both[0] > alone[0] + 0.10
        assert both[1] < alone[1] - 2.0

    def test_chemotherapy_alone_is_ahead_of_anti_pd1_at_first_and_behind_later(self, cohort):
        gap = [
            self.progression_free(cohort, "chemotherapy", t)
            - self.progression_free(cohort, "anti_pd1", t)
            for t in (3.0, 18.0)
        ]
        assert gap[0] > 0.05 > -0.05 > gap[1]

    def test_anti_ctla4_does_little_early_and_more_late(self, cohort):
        early = self.alive(cohort, "anti_pd1_ctla4", 6.0) - self.alive(cohort, "anti_pd1", 6.0)
        late = self.alive(cohort, "anti_pd1_ctla4", 60.0) - self.alive(cohort, "anti_pd1", 60.0)
        assert early < 0.02 < late
        longer = self.response(cohort, "anti_pd1_ctla4")[1] - self.response(cohort, "anti_pd1")[1]
        assert longer > 1.0

    def test_a_vegfr_inhibitor_delays_progression_and_not_death(self, cohort):
        pair = ("anti_pd1_vegfr_tki", "anti_pd1")
        first, second = (self.progression_free(cohort, s, 6.0) for s in pair)
        assert first > second + 0.04
        first, second = (self.alive(cohort, s, 24.0) for s in pair)
        assert first < second

    @pytest.mark.parametrize("partner", ["anti_pd1_tigit", "anti_pd1_vegf", "anti_pd1_sbrt"])
    def test_partners_shrunk_to_their_evidence_help_a_little(self, cohort, partner):
        gain = self.alive(cohort, partner, 24.0) - self.alive(cohort, "anti_pd1", 24.0)
        assert 0.005 < gain < 0.05

    def test_a_partner_without_evidence_changes_nothing(self, cohort):
        with_it, alone = (self.alive(cohort, s, 24.0) for s in ("anti_pd1_41bb", "anti_pd1"))
        assert with_it == pytest.approx(alone, abs=0.005)

    def test_tailoring_moves_less_than_the_stratum_does(self, cohort):
        gain = self.alive(cohort, "tailored", 24.0) - self.alive(cohort, "anti_pd1", 24.0)
        strata = [self.alive(cohort, "anti_pd1", 24.0, b) for b in (0, 2)]
        assert 0.0 < gain < 0.35 * (strata[0] - strata[1])
