"""The gate: what a configuration means, and what is said of one that means nothing.

The sentences are pinned because they are the feature: the full path as the
user would type it, the value, and what is allowed, in one line.
"""

import copy

import numpy as np
import pytest
from omegaconf import OmegaConf

from sim.config import CLAIM_GROUPS, check_run, claims_of, read_config, read_run
from sim.errors import ScenarioError, unknown_name
from sim.hazard import PiecewiseClock, WeibullClock

SMALL = (
    "agent=[anti_pd1,platinum_doublet,anti_vegf]",
    "strategy=[anti_pd1,chemotherapy,anti_pd1_chemotherapy,anti_pd1_vegf]",
    "definition=[sitc2020]",
)
"""A few agents and arms, so that composing is quick and lists of names are short."""

MECHANISMS = (
    "adenosine_suppression, antigen_presentation_loss, checkpoint_exhaustion, "
    "costimulation_deficit, priming_deficit, regulatory_t_cells, stk11_keap1_loss, vegf_exclusion"
)
AGENT = "agents.anti_pd1"
ARM = "strategies.anti_pd1"
DOSE = f"{ARM}.doses.anti_pd1"
TARGET = "value: 1, n: 3, tolerance: 0.1, source: reck2016"
MEASURES = (
    "must be orr, bor_pd, completed, orr_completed, median_<endpoint>, rate_<endpoint>_<months>, "
    "hr_pfs, hr_os, survival_after_completion_<months> or median_post_progression_<next line>"
)

NAMES = {
    f"+{AGENT}.reversal.vegf_exlusion=0.1": (
        f"{AGENT}.reversal: no mechanism named 'vegf_exlusion'. Did you mean 'vegf_exclusion'? "
        f"Known: {MECHANISMS}."
    ),
    f"+{AGENT}.hazard_ratio.zzz=0.1": (
        f"{AGENT}.hazard_ratio: no mechanism named 'zzz'. Known: {MECHANISMS}."
    ),
    f"+{ARM}.doses.anti_pd1.matched=[vegf_exlusion]": (
        f"{DOSE}.matched: no mechanism named 'vegf_exlusion'. Did you mean 'vegf_exclusion'? "
        f"Known: {MECHANISMS}."
    ),
    "course.next_lines.switch.matched=[vegf_exlusion]": (
        "course.next_lines.switch.matched: no mechanism named 'vegf_exlusion'. "
        f"Did you mean 'vegf_exclusion'? Known: {MECHANISMS}."
    ),
    f"{ARM}.rule=aditive": (
        f"{ARM}.rule: no combination rule named 'aditive'. Did you mean 'additive'? "
        "Known: additive, highest_single_agent, independent_action, synergy."
    ),
    "backbone=anti_pd2": (
        "backbone: no agent named 'anti_pd2'. Did you mean 'anti_pd1'? "
        "Known: anti_pd1, anti_vegf, platinum_doublet."
    ),
    "~agents.platinum_doublet": (
        "strategies.chemotherapy.doses: no agent named 'platinum_doublet'. "
        "Known: anti_pd1, anti_vegf."
    ),
    "analysis.reference_strategy=chemoterapy": (
        "analysis.reference_strategy: no strategy named 'chemoterapy'. "
        "Did you mean 'chemotherapy'? "
        "Known: anti_pd1, anti_pd1_chemotherapy, anti_pd1_vegf, chemotherapy."
    ),
    f"targets=[{{strategy: anti_pd9, measure: orr, {TARGET}}}]": (
        "targets[0].strategy: no strategy named 'anti_pd9'. Did you mean 'anti_pd1'? "
        "Known: anti_pd1, anti_pd1_chemotherapy, anti_pd1_vegf, chemotherapy."
    ),
    "+reference.arms.anti_pd9=x": (
        "reference.arms: no strategy named 'anti_pd9'. Did you mean 'anti_pd1'? "
        "Known: anti_pd1, anti_pd1_chemotherapy, anti_pd1_vegf, chemotherapy."
    ),
}

MISSING = {
    f"~{AGENT}.reversal.vegf_exclusion": (
        f"{AGENT}.reversal.vegf_exclusion must be given: every mechanism needs a chance"
    ),
    f"~{AGENT}.hazard_ratio.vegf_exclusion": (
        f"{AGENT}.hazard_ratio.vegf_exclusion must be given: every mechanism needs a ratio"
    ),
    "~population.strata.tps_high.baseline.vegf_exclusion": (
        "population.strata.tps_high.baseline.vegf_exclusion must be given: "
        "every mechanism needs a prevalence"
    ),
    "~population.strata.tps_high.acquired_share.vegf_exclusion": (
        "population.strata.tps_high.acquired_share.vegf_exclusion must be given: "
        "every mechanism needs a share"
    ),
    "population.frailty_sd=???": "population.frailty_sd must be given: it has no default",
    f"{AGENT}.label=???": f"{AGENT}.label must be given: it has no default",
    "assessment.schedule=[{until: inf}]": (
        "assessment.schedule[0].every must be given: it has no default"
    ),
    f"~{DOSE}": f"{ARM}.doses: an arm needs at least one agent",
    "description=${nowhere}": "description: Interpolation key 'nowhere' not found",
}

RANGES = {
    "seed=-1": "seed must be finite and at least 0, got -1",
    "cohort.n_patients=0": "cohort.n_patients must be finite and greater than 0, got 0",
    "cohort.follow_up=inf": "cohort.follow_up must be finite and greater than 0, got inf",
    "analysis.rates=[12,-1]": "analysis.rates[1] must be finite and greater than 0, got -1",
    f"{AGENT}.hazard_ratio.vegf_exclusion=-0.7": (
        f"{AGENT}.hazard_ratio.vegf_exclusion must be finite and at least 0, got -0.7"
    ),
    f"{AGENT}.hazard_ratio.vegf_exclusion=nan": (
        f"{AGENT}.hazard_ratio.vegf_exclusion must be finite and at least 0, got nan"
    ),
    f"{AGENT}.reversal.vegf_exclusion=1.5": (
        f"{AGENT}.reversal.vegf_exclusion must be between 0 and 1, got 1.5"
    ),
    f"{AGENT}.discontinuation.early=-1": (
        f"{AGENT}.discontinuation.early must be finite and at least 0, got -1"
    ),
    "agents.platinum_doublet.activity.refractory=1.1": (
        "agents.platinum_doublet.activity.refractory must be between 0 and 1, got 1.1"
    ),
    "agents.platinum_doublet.activity.shape=0": (
        "agents.platinum_doublet.activity.shape must be finite and greater than 0, got 0"
    ),
    "population.acquired.scale=inf": (
        "population.acquired.scale must be finite and greater than 0, got inf"
    ),
    "population.durable_hazard=-0.1": (
        "population.durable_hazard must be finite and at least 0, got -0.1"
    ),
    "population.mechanisms.vegf_exclusion.loading=1": (
        "population.mechanisms.vegf_exclusion.loading must be between -0.95 and 0.95, got 1"
    ),
    "population.strata.tps_high.prevalence=0.5": (
        "population.strata: the prevalences must add up to 1, got 1.23 "
        "(tps_high 0.5, tps_low 0.26, tps_negative 0.47)"
    ),
    "assessment.missed=1": (
        "assessment.missed must be below 1, as a trial without scans sees nothing, got 1"
    ),
    "assessment.missed_before_censoring=-1": (
        "assessment.missed_before_censoring must be finite and at least 0, got -1"
    ),
    f"{ARM}.psi=0": f"{ARM}.psi must be finite and greater than 0, got 0",
    f"{ARM}.crossover=2": f"{ARM}.crossover must be between 0 and 1, got 2",
    f"{DOSE}.stop=0": f"{DOSE}.stop must be greater than 0 (inf for no end), got 0",
    f"{DOSE}.start=24": f"{DOSE}.stop must be later than start (24 months), got 24",
    "coupling.spearman=1.2": "coupling.spearman must be between -1 and 1, got 1.2",
    "coupling.reversal=1": "coupling.reversal must be at least 0 and below 1, got 1",
    "definitions.sitc2020.threshold=inf": (
        "definitions.sitc2020.threshold must be finite and at least 0, got inf"
    ),
}

CHOICES = {
    "population.mechanisms.vegf_exclusion.compartment=nowhere": (
        "population.mechanisms.vegf_exclusion.compartment must be one of intrinsic, extrinsic, "
        "got 'nowhere'"
    ),
    "assessment.criteria=who": "assessment.criteria must be recist or irecist, got 'who'",
    "course.next_lines.switch.eligible=some": (
        "course.next_lines.switch.eligible must be all, oligoprogression or off_treatment, "
        "got 'some'"
    ),
    "definitions.sitc2020.kind=feeling": (
        "definitions.sitc2020.kind must be one of best_response, time, response, exposure, "
        "got 'feeling'"
    ),
    "definitions.sitc2020.early_responder=late": (
        "definitions.sitc2020.early_responder must be one of primary, acquired, gap, got 'late'"
    ),
    "analysis.endpoints=[pfs,efs]": (
        "analysis.endpoints[1] must be one of pfs, os, duration_of_response, "
        "acquired_resistance, got 'efs'"
    ),
    f"targets=[{{strategy: anti_pd1, measure: median_efs, {TARGET}}}]": (
        f"targets[0].measure {MEASURES}, got 'median_efs'"
    ),
    f"targets=[{{strategy: anti_pd1, measure: rate_efs_7, {TARGET}}}]": (
        f"targets[0].measure {MEASURES}, got 'rate_efs_7'"
    ),
    "backbone=platinum_doublet": "backbone must be a checkpoint inhibitor, got 'platinum_doublet'",
    "backbone=''": (
        "backbone must name the ICI to which patients of strategies.chemotherapy cross over, got ''"
    ),
    "~strategies.anti_pd1_vegf.doses.anti_pd1": (
        "strategies.anti_pd1_vegf.doses must give everyone a checkpoint inhibitor or an agent with "
        "activity of its own, got anti_vegf"
    ),
}

SHAPES = {
    "assessment.schedule=[]": (
        "assessment.schedule must have at least one phase, with every and until, got 0"
    ),
    "assessment.schedule=[{every: -6}]": (
        "assessment.schedule[0].every must be finite and at least 0, got -6"
    ),
    "assessment.schedule=[{every: 0.1}]": (
        "assessment.schedule[0].every must be 0 (continuous) or at least a day (1/7 of a week), "
        "got 0.1"
    ),
    "assessment.schedule=[{every: 6, until: 12}, {every: 0}]": (
        "assessment.schedule[1].every must be above 0 weeks; only a single phase can be 0 "
        "(continuous), got 0"
    ),
    "assessment.schedule=[{every: 6, until: 48}, {every: 9, until: 24}]": (
        "assessment.schedule[1].until must be later than the end of the phase before it "
        "(48 weeks), got 24"
    ),
    "assessment.schedule=[{every: 6, until: 48}, {every: 9, until: 96}]": (
        "assessment.schedule[1].until must be inf, as the last phase never ends, got 96"
    ),
    "course.background.starts=[]": "course.background.starts must increase from 0, got []",
    "course.background.starts=[1,3]": (
        "course.background.starts must increase from 0, got [1.0, 3.0]"
    ),
    "course.background.hazard=[0.1]": (
        "course.background.hazard must hold 2 hazards, one for each of "
        "course.background.starts, got 1"
    ),
    "agents.platinum_doublet.activity.background_hazard=[0.1]": (
        "agents.platinum_doublet.activity.background_hazard must hold 2 hazards, one for each "
        "start in course.background.starts, got 1"
    ),
    "course.next_lines.switch.eligible=oligoprogression": (
        "course.next_lines must end with one that everyone can be given (eligible all, matched "
        "to nothing), got switch"
    ),
    "course.next_lines.switch.matched=[vegf_exclusion]": (
        "course.next_lines must end with one that everyone can be given (eligible all, matched "
        "to nothing), got switch"
    ),
    "population.acquired.rates=[0.1]": "population.acquired.starts must increase from 0, got []",
}

BAD = {**NAMES, **MISSING, **RANGES, **CHOICES, **SHAPES}


def complaint(alter, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as error:
        alter(SMALL, *overrides)
    return str(error.value)


@pytest.mark.parametrize("override", BAD)
def test_a_bad_entry_is_named_with_its_path_its_value_and_what_is_allowed(alter, override):
    message = complaint(alter, override)
    assert message == BAD[override]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["population.acquired.rates=[0.1,0.2]", "population.acquired.starts=[0,3,6]"],
            "population.acquired.rates must hold 3 hazards, one for each of starts, got 2",
        ),
        (
            ["population.acquired.rates=[0.1,0.2]", "population.acquired.starts=[0,0]"],
            "population.acquired.starts must increase from 0, got [0.0, 0.0]",
        ),
        (
            ["coupling.reversal=0.3", "strategies.anti_pd1_vegf.rule=additive"],
            "coupling.reversal must be 0 where strategies.anti_pd1_vegf.rule is additive, got 0.3",
        ),
        (
            [f"{DOSE}.start=12", f"{DOSE}.stop=6"],
            f"{DOSE}.stop must be later than start (12 months), got 6",
        ),
    ],
)
def test_entries_that_contradict_each_other_are_named_together(alter, overrides, message):
    assert complaint(alter, *overrides) == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("population.mechanisms", "population.mechanisms: at least one is needed"),
        ("population.strata", "population.strata: at least one is needed"),
        ("course.next_lines", "course.next_lines must have at least one entry, got none"),
        (
            "strategies",
            "strategies: none given; choose at least one, as in strategy=[anti_pd1]",
        ),
    ],
)
def test_a_mapping_that_must_not_be_empty_is_named(composed, path, message):
    config = copy.deepcopy(composed(*SMALL))
    parent, _, name = path.rpartition(".")
    setattr(OmegaConf.select(config, parent) if parent else config, name, {})
    with pytest.raises(ScenarioError) as error:
        read_run(config)
    assert str(error.value) == message


def test_an_empty_list_of_strategies_is_refused(load):
    with pytest.raises(ScenarioError) as error:
        load(*SMALL, "strategy=[]")
    assert str(error.value).startswith("strategies: none given")


def test_shares_that_do_not_add_up_to_one_are_given_with_their_sum(alter, default_run):
    lines = {line.name: line.share for line in default_run.scenario.course.next_lines}
    total = sum(lines.values()) - lines["switch"] + 0.9
    assert complaint(alter, "course.next_lines.switch.share=0.9") == (
        f"course.next_lines must have shares that add up to 1, got {total:g}"
    )
    k = default_run.scenario.population.mechanisms.index("vegf_exclusion")
    total = 1.9 - default_run.scenario.population.acquired_share[0, k]
    first = default_run.scenario.population.strata[0]
    path = f"population.strata.{first}.acquired_share"
    assert complaint(alter, f"{path}.vegf_exclusion=0.9") == (
        f"{path} must add up to 1, got {total:g}"
    )


def test_a_configuration_of_something_else_is_refused():
    with pytest.raises(ScenarioError, match="not composed against the schema"):
        read_run(OmegaConf.create({"seed": 1}))


def test_an_unknown_name_with_nothing_known_says_so():
    assert str(unknown_name("backbone", "agent", "x", [])) == (
        "backbone: no agent named 'x'. Known: none."
    )


# ---------------------------------------------------------------- what it means


def test_a_mechanism_row_is_in_the_order_of_the_population(alter):
    run = alter(SMALL, f"{AGENT}.reversal.regulatory_t_cells=0.125")
    k = run.scenario.population.mechanisms.index("regulatory_t_cells")
    assert run.scenario.agent("anti_pd1").reversal[k] == 0.125


def test_rates_make_a_piecewise_clock_and_their_absence_a_weibull_one(alter):
    weibull = alter(SMALL, "population.acquired.shape=1.5", "population.acquired.scale=9")
    clock = weibull.scenario.population.acquired
    assert isinstance(clock, WeibullClock)
    assert set(clock.shape) == {1.5}
    assert set(clock.scale) == {9.0}
    piecewise = alter(
        SMALL, "population.acquired.rates=[0.1,0.02]", "population.acquired.starts=[0,6]"
    )
    clock = piecewise.scenario.population.acquired
    assert isinstance(clock, PiecewiseClock)
    assert clock.rates.tolist() == [[0.1, 0.02]] * len(piecewise.scenario.population.strata)


def test_an_interval_of_nought_means_continuous_watching(alter):
    assert alter(SMALL, "assessment.schedule=[{every: 0}]").scenario.assessment.continuous
    grid = alter(SMALL, "assessment.schedule=[{every: 9, until: 54}, {every: 12, until: inf}]")
    assert grid.scenario.assessment.every.tolist() == [9.0, 12.0]
    assert grid.scenario.assessment.until.tolist() == [54.0, np.inf]


def test_every_array_behind_the_gate_is_read_only(default_run):
    population = default_run.scenario.population
    assert not population.prevalence.flags.writeable
    assert not default_run.scenario.agents[0].reversal.flags.writeable
    assert not default_run.scenario.course.background_hazard.flags.writeable


def test_strategies_and_agents_keep_the_order_in_which_they_were_chosen(alter):
    run = alter((SMALL[0], "strategy=[chemotherapy,anti_pd1]", SMALL[2]))
    assert [s.name for s in run.scenario.strategies] == ["chemotherapy", "anti_pd1"]
    assert [a.name for a in run.scenario.agents] == ["anti_pd1", "platinum_doublet", "anti_vegf"]


# ---------------------------------------------------------------- claims


def sources(run, *, start=""):
    return {claim.path: claim.source for claim in run.claims if claim.path.startswith(start)}


def overridden(run):
    return {path for path, source in sources(run).items() if source == "override"}


def test_without_overrides_no_citation_is_withdrawn(alter):
    run = alter(SMALL)
    assert overridden(run) == set()
    assert {path.split(".")[0] for path in sources(run)} <= set(CLAIM_GROUPS)
    assert all(sources(run).values())


@pytest.mark.parametrize(
    ("override", "withdrawn"),
    [
        ("population.acquired.scale=20", {"population.acquired.scale"}),
        (f"{AGENT}.reversal.vegf_exclusion=0.1", {f"{AGENT}.reversal.vegf_exclusion"}),
        (f"++{AGENT}.onset=0.5", {f"{AGENT}.onset"}),
        (
            f"{AGENT}.fatal={{early: 0.0, late: 0.0}}",
            {f"{AGENT}.fatal.early", f"{AGENT}.fatal.late", f"{AGENT}.fatal.window"},
        ),
        (
            "course.background.hazard=[0.01,0.005]",
            {"course.background.hazard[0]", "course.background.hazard[1]"},
        ),
        ("course.background.hazard.1=0.005", {"course.background.hazard[1]"}),
        ("coupling.spearman=0.5", {"coupling.spearman"}),
        ("strategies.chemotherapy.crossover=0.4", {"strategies.chemotherapy.crossover"}),
        # Design choices are nobody's claim.
        ("assessment.schedule=[{every: 9}]", set()),
        ("assessment.withdrawal=0", set()),
        (f"{DOSE}.stop=12", set()),
        ("cohort.n_patients=500", set()),
    ],
)
def test_a_replaced_number_and_no_other_loses_its_citation(alter, override, withdrawn):
    plain, replaced = alter(SMALL), alter(SMALL, override)
    assert overridden(replaced) == withdrawn
    kept = sources(plain)
    for path, source in sources(replaced).items():
        if path not in withdrawn:
            assert source == kept[path], path
    for claim in replaced.claims:
        if claim.path in withdrawn:
            assert (claim.where, claim.checked) == ("set on the command line", "")


def test_a_star_in_a_swept_path_withdraws_what_it_stands_for(composed):
    typed = "population.strata.*.durable_responding="
    claims = check_run(read_config(composed(*SMALL)), [typed]).claims
    withdrawn = {claim.path for claim in claims if claim.source == "override"}
    strata = ("tps_high", "tps_low", "tps_negative")
    assert withdrawn == {f"population.strata.{name}.durable_responding" for name in strata}


@pytest.mark.parametrize("group", ["population", "course", "assessment", "coupling"])
def test_choosing_a_file_for_a_group_withdraws_nothing(alter, group):
    shipped = {
        "population": "first_line_nsclc",
        "course": "first_line",
        "assessment": "every_6_then_9_weeks",
        "coupling": "independent_action",
    }
    run = alter((*SMALL, f"{group}={shipped[group]}"))
    assert run.claims == alter(SMALL).claims


def test_the_name_of_one_entry_is_not_taken_for_another_that_begins_with_it(alter):
    # strategies.anti_pd1 is not strategies.anti_pd1_vegf.
    run = alter(SMALL, f"{ARM}.crossover=0.1")
    assert overridden(run) == {f"{ARM}.crossover"}


def test_the_longest_name_that_covers_a_number_is_its_source(alter):
    run = alter(
        SMALL,
        f"{AGENT}.sources.reversal.where=all",
        f"{AGENT}.sources.onset.source=reck2016",
    )
    claims = {claim.path: claim for claim in run.claims}
    assert claims[f"{AGENT}.onset"].source == "reck2016"
    assert claims[f"{AGENT}.reversal.vegf_exclusion"].where == "all"
    assert claims[f"{AGENT}.reversal.stk11_keap1_loss"].source != "assumption"


def test_a_number_without_a_source_has_none(composed):
    config = copy.deepcopy(composed(*SMALL))
    config.coupling.sources = {}
    claims = {claim.path: claim.source for claim in claims_of(OmegaConf.to_object(config))}
    assert claims["coupling.spearman"] == ""
    assert claims["population.acquired.scale"] != ""
