"""The command ``resistime-predict``: what it answers, what it writes and what it refuses."""

import json
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from analysis.pooling import PooledMeans
from sim.errors import ScenarioError
from sim.predict_command import main
from sim.predicted import MOST_EFFECT, Design, asked_trial, published_trial

OWN = ["--arm", "anti_pd1", "--control", "docetaxel", "--line", "later", "--mix", "low=1"]
PHASE2 = ["--family", "tigit_added", "--phase2", "0.57,0.37,0.90", "--before", "2022"]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert (
        told.out == "" and told.err.count("\n") == 1 and told.err.startswith("resistime-predict: ")
    )
    return told.err


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    place = tmp_path_factory.mktemp("predict")
    main([*OWN, "--n", "200,100", "--months", "24", "--folder", str(place)])
    return place


def test_a_trial_of_ones_own_leaves_numbers_curves_and_a_figure(answered):
    assert {path.name for path in answered.iterdir()} == {
        "curves.csv", "predict.json", "predict.png", "predict.svg"
    }  # fmt: skip
    content = json.loads((answered / "predict.json").read_text())
    assert [arm["n"] for arm in content["arms"].values()] == [200, 100]
    levels = content["levels"]
    assert levels == sorted(levels) and 0.5 in levels
    for arm in content["arms"].values():
        for month in ("6", "12", "24"):
            rate = arm["os"]["rate"][month]
            assert rate["observed"] == sorted(rate["observed"])
            assert np.ptp(rate["observed"]) > np.ptp(rate["true"])
        assert "36" not in arm["os"]["rate"]
    for parts in content["variance_shares"].values():
        assert sum(parts.values()) == pytest.approx(1.0)
        assert parts["assumption"] == 0.0


def test_curves_hold_the_landmarks(answered):
    content = json.loads((answered / "predict.json").read_text())
    curves = pd.read_csv(answered / "curves.csv")
    row = curves[
        (curves["strategy"] == "control") & (curves["endpoint"] == "os")
        & (curves["kind"] == "observed") & (curves["month"] == 12.0)
    ]  # fmt: skip
    expected = content["arms"]["control"]["os"]["rate"]["12"]["observed"]
    np.testing.assert_allclose(row[[f"{x:g}" for x in content["levels"]]].to_numpy()[0], expected)


@pytest.mark.long
def test_the_same_question_has_the_same_answer(answered, tmp_path):
    main([*OWN, "--n", "200,100", "--months", "24", "--folder", str(tmp_path), "--no-figures"])
    for name in ("predict.json", "curves.csv"):
        assert (tmp_path / name).read_bytes() == (answered / name).read_bytes()
    assert not (tmp_path / "predict.png").exists()


def test_what_is_printed_says_what_the_interval_carries(capsys, tmp_path):
    main(["LEAP008", "--months", "12", "--folder", str(tmp_path), "--no-figures"])
    told = capsys.readouterr().out
    for words in ("LEAP-008", "80 %", "its variance: calibration", "between trials", "sampling",
                  "this is no test of the pool", "not for treating patients"):  # fmt: skip
        assert words in told


def test_a_phase_3_after_a_phase_2_is_what_the_pool_of_effects_says(capsys, tmp_path):
    from analysis.effect_pooling import fit_pool, predict_effect, probability_of_success
    from analysis.effect_table import known_before, read_effects

    main([*PHASE2, "--events", "400", "--folder", str(tmp_path)])
    found = json.loads((tmp_path / "predict.json").read_text())["phase3"]
    pool = fit_pool(known_before(read_effects(), 2022))
    effect = predict_effect(pool, "tigit_added", {"pfs": (0.57, 0.37, 0.90, 0.95)}, "os")
    assert found["true"]["median"] == pytest.approx(effect.interval()[1])
    expected = probability_of_success(effect, 400).probability
    assert found["probability_of_success"] == pytest.approx(expected)
    assert (
        f"probability of success, one-sided level 0.025: {expected:.2f}" in capsys.readouterr().out
    )


def test_a_phase_2_that_is_in_the_pool_is_refused(capsys):
    told = refused(capsys, *PHASE2[:-2], "--events", "400")
    assert "CITYSCAPE" in told and "--before" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["KEYNOTE198"], "KEYNOTE189"),
        ([], "--arm is missing"),
        (["--arm", "anti_pd1"], "--control is missing"),
        (["--arm", "anti_pdl", "--control", "platinum"], "Did you mean 'anti_pd1'"),
        ([*OWN[:-1], "low=0.4,high=0.4"], "must add up to 1, got 0.8"),
        ([*OWN[:-1], "lwo=1"], "Did you mean 'low'"),
        ([*OWN[:-1], "low"], "must be high=X"),
        ([*OWN[:-1], "low=40,high=60"], "percentages as fractions"),
        ([*OWN, "--n", "0"], "whole number of at least 1"),
        ([*OWN, "--n", "1,2,3"], "one number or two"),
        ([*OWN, "--crossover", "60"], "percentages as fractions"),
        ([*OWN, "--months", "600"], "between 6 and 120"),
        ([*OWN, "--scans", "keynote198"], "Did you mean 'keynote189'"),
        (["--arm", "anti_pd1", "--control", "platinum", "--line", "frist"], "Did you mean 'first'"),
        (["--arm", "platinum", "--control", "docetaxel"], "one kind of chemotherapy"),
        (["--arm", "platinum+docetaxel", "--control", "anti_pd1"], "not both"),
        (["--arm", "anti_pd1+anti_pd1", "--control", "platinum"], "each treatment once"),
        (
            ["--arm", "anti_pd1", "--control", "anti_pd1", "--crossover", "0.5"],
            "has anti_pd1 already",
        ),
        ([*OWN, "--add", "anti_tigti"], "Did you mean 'anti_tigit'"),
        ([*OWN, "--add", "docetaxel_oak"], "no partner"),
        (["--arm", "platinum", "--control", "platinum", "--add", "anti_tigit"], "no ICI"),
        (["KEYNOTE189", "--line", "first"], "has its own"),
        ([*OWN, "--events", "100"], "goes with --phase2"),
        (["--phase2", "0.57,0.37,0.90"], "name its --family"),
        (["--phase2", "0.57,0.6,0.90", "--family", "tigit_added"], "LOWER <= HR"),
        (["--phase2", "0.57,0.37,0.40", "--family", "tigit_added"], "LOWER <= HR"),
        (["--phase2", "57,x,90"], "must be a number"),
        (["--phase2", "0.57,0.37,0.90", "--family", "tigit_aded"], "Did you mean 'tigit_added'"),
    ],
)
def test_bad_input_ends_in_one_line(capsys, tmp_path, arguments, told):
    assert told in refused(capsys, *arguments, "--folder", str(tmp_path))


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for words in ("examples", "how to read it", "calibration", "--phase2", "--add"):
        assert words in told


# ---------------------------------------------------------------- trials that are asked for


def test_a_trial_put_together_borrows_from_the_pool_only_what_it_has():
    made = asked_trial(
        Design(
            {"high": 0.4, "low": 0.6, "negative": 0.0},
            "first",
            ("anti_pd1", "platinum"),
            ("platinum",),
            0.5,
        )
    )
    strata = {
        t.parameter.path.split(".")[2]
        for t in made.trial.tied
        if t.parameter.path.startswith("population.strata")
    }
    assert strata == {"tps_high", "tps_low"}
    names = PooledMeans.read(files("configs") / "pool" / "nsclc.json").names
    assert all(set(t.means) <= set(names) and t.means for t in made.trial.tied)
    scenario = made.trial.scenario([t.parameter.mean for t in made.trial.tied])
    assert scenario.population.stratum_prevalence.tolist() == [0.4, 0.6]
    control = next(s for s in scenario.strategies if s.name == "control")
    assert control.crossover == 0.5 and len(control.doses) == 1


def test_a_partner_without_effect_changes_nothing_and_one_of_factor_one_is_its_file():
    made = published_trial("LEAP008", ["anti_tigit"])
    assert "assumption" in made.assumptions[-1]
    values = [t.parameter.mean for t in made.trial.parameters]
    weak = made.trial.scenario([*values[:-1], 1e-12]).agent("anti_tigit")
    np.testing.assert_allclose(weak.reversal, 0.0, atol=1e-9)
    np.testing.assert_allclose(weak.hazard_ratio, 1.0, atol=1e-9)
    names = made.trial.scenario(values)
    asis = made.trial.scenario([*values[:-1], 1.0 / MOST_EFFECT]).agent("anti_tigit")
    assert sorted(set(np.round(asis.reversal, 12).tolist())) == [0.0, 0.05, 0.5]
    assert min(asis.hazard_ratio) == pytest.approx(0.35)
    dosed = {s.name: [d.agent for d in s.doses] for s in names.strategies}
    assert "anti_tigit" in dosed[made.experimental] and "anti_tigit" not in dosed[made.control]


def test_a_partner_adds_one_number_whose_uncertainty_is_an_assumption():
    made = published_trial("LEAP008", ["anti_tigit"])
    assert [t.kind for t in made.trial.own] == ["effect"] and not made.trial.own[0].means


def test_a_trial_that_is_not_published_is_refused():
    with pytest.raises(ScenarioError):
        published_trial("mixture_cure")
