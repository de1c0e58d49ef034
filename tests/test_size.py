"""The size of a trial: the search on laws that are known, what is varied, and the command."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri
from sizes import asked
from trials import plan

from analysis.size_search import Question, Sizes, Solution, Unsolved, solve
from sim.conduct import conduct_trials
from sim.errors import ScenarioError
from sim.randomness import stream
from sim.size import conductor, solve_size

# ---------------------------------------------------------------- laws that are known

PATIENTS = Sizes(least=4, most=10_000, step=2)


def trials_of(law, seed=0):
    """Trials that reject with the chance that a law gives to a size; the same trial at all sizes."""
    luck = stream(seed, 0, "luck").random(400_000)

    def conduct(wanted):
        return {
            size: np.where(luck[which.start : which.stop] < law(size), 0.001, 0.5)
            for size, which in wanted.items()
        }

    return conduct


def straight(size):
    """The law of a normal test: power 0.9 at 423."""
    return ndtr(ndtri(0.025) + (ndtri(0.9) - ndtri(0.025)) * np.sqrt(size / 423.0))


def found(law, seed=0, *, target=0.9, sizes=PATIENTS, start=500, **more):
    question = Question(target, 0.025, sizes, grain=200, **more)
    return solve(question, trials_of(law, seed), start)


def test_the_interval_holds_the_crossing_as_often_as_it_says():
    # 300 searches: a coverage of 0.95 is seen within 3 errors of 0.0126; that of an interval of
    # half the width (0.67) is not, nor that of one too wide by a half (0.997).
    runs = [found(straight, seed, width=0.06) for seed in range(300)]
    off = np.array([(run.crossing - 423.0) / (run.upper - run.lower) for run in runs])
    error = np.sqrt(0.95 * 0.05 / len(runs))
    assert abs(np.mean(np.abs(off) < 0.5) - 0.95) < 3.0 * error
    for wrong in (0.25, 0.75):
        assert abs(np.mean(np.abs(off) < wrong) - 0.95) > 3.0 * error
    assert all(run.precise and (run.upper - run.lower) <= 0.06 * run.crossing for run in runs)


def test_the_answer_is_rounded_up_to_what_can_be_run():
    answer = found(straight, sizes=Sizes(least=12, most=3000, step=12))
    assert answer.size % 12 == 0
    assert 0 <= answer.size - answer.crossing < 12
    assert answer.power == pytest.approx(straight(answer.size), abs=4 * answer.power_error)
    assert answer.power != pytest.approx(straight(answer.size + 24), abs=4 * answer.power_error)


@pytest.mark.parametrize("start", [10, 60, 5000])
def test_where_it_starts_matters_little(start):
    answer = found(straight, start=start)
    assert answer.lower - 5 < 423 < answer.upper + 5


def test_power_may_bend_in_the_months_of_follow_up():
    def law(months):
        return 0.95 * (1.0 - np.exp(-months / 12.0))

    truth = -12.0 * np.log(1.0 - 0.8 / 0.95)
    sizes = Sizes(1.0, 240.0, 0.1, "months", straight_in_root=False)
    answer = found(law, target=0.8, sizes=sizes, start=60.0, width=0.02)
    assert abs(answer.crossing - truth) < 3.0 * (answer.upper - answer.lower) / 3.92
    assert answer.size == pytest.approx(np.ceil(10.0 * answer.crossing) / 10.0)


@pytest.mark.parametrize("height", [0.93, 0.97])
def test_where_power_falls_again_it_is_the_first_crossing(height):
    def law(size):
        return height * np.exp(-(np.log(size / 600.0) ** 2))

    truth = 600.0 * np.exp(-np.sqrt(np.log(height / 0.9)))
    for start in (300, 600, 2000):
        answer = found(law, start=start)
        assert isinstance(answer, Solution)
        assert abs(answer.crossing - truth) < 4.0 * (answer.upper - answer.lower) / 3.92
        assert answer.falls_at is not None and answer.falls_at > 600
    assert found(straight).falls_at is None


UNREACHED = {
    "up to 10000 reaches a power of 0.9: it levels off at 0.6": lambda n: 0.62 * straight(2 * n),
    "up to 10000 reaches a power of 0.9: it stays at the level of 0.025": lambda n: 0.025,
    "up to 10000 reaches a power of 0.9: it is 0.": lambda n: straight(n / 60),
    "up to 10000 reaches a power of 0.9: it is largest at": lambda n: (
        0.7 * np.exp(-(np.log(n / 600.0) ** 2))
    ),
    "4 patients, the least that is tried, already have a power of 0.9": lambda n: 0.95,
}


@pytest.mark.parametrize("told", UNREACHED)
def test_why_there_is_no_size_is_told(told):
    answer = found(UNREACHED[told])
    assert isinstance(answer, Unsolved)
    assert told in answer.reason
    assert "\n" not in answer.reason
    assert len(answer.tried) > 1


def test_a_flat_power_is_not_divided_by():
    # Power crosses the target by a thousandth over a tenfold size: an interval would be endless.
    answer = found(lambda n: 0.9 + 0.0005 * np.log10(n / 500.0), scanned=400, at_most=20_000)
    assert isinstance(answer, Unsolved)


def test_few_trials_give_a_wide_interval_and_say_so():
    answer = found(straight, at_most=2000)
    assert not answer.precise
    assert answer.n_replicates == 2000
    assert answer.upper - answer.lower > 0.05 * answer.crossing


def test_a_test_without_a_result_rejects_nothing():
    def conduct(wanted):
        return {size: np.full(len(which), np.nan) for size, which in wanted.items()}

    answer = solve(Question(0.9, 0.025, PATIENTS), conduct, 500)
    assert isinstance(answer, Unsolved)


# ---------------------------------------------------------------- what is varied


def test_events_and_accrual_go_with_the_patients():
    of_rates = "trial=first_line_phase3"
    assert asked(of_rates).values(900) == {
        "trial.n_patients": 900,
        "trial.cuts.interim.events": 450,
        "trial.cuts.final.events": 630,
    }
    assert asked(of_rates, "size.events=fixed").values(900) == {"trial.n_patients": 900}
    rates = asked(of_rates, "size.accrual=duration", "size.events=fixed").values(900)
    assert rates["trial.accrual.rates"] == [15.0, 30.0, 45.0]
    assert asked(of_rates, "size.accrual=rate").values(900) == asked(of_rates).values(900)
    of_duration = ("scenario=delayed_effect", "size.events=fixed")
    assert asked(*of_duration).values(750) == {"trial.n_patients": 750}
    longer = asked(*of_duration, "size.accrual=rate").values(750)
    assert longer["trial.accrual.duration"] == 18.0


def test_every_number_of_events_is_scaled():
    also = "trial.cuts.final.also=[{endpoint: os, events: 100}, {date: 60}]"
    strata = "+trial.cuts.final.stratum_events={tps_high: 81}"
    found = asked("trial=first_line_phase3", also, strata).values(300)
    assert found["trial.cuts.final.also.0.events"] == 50
    assert found["trial.cuts.final.stratum_events.tps_high"] == 41  # 40.5, rounded up
    assert not [path for path in found if "also.1" in path]
    assert asked("trial=first_line_phase3", also, strata).plan(300).design.n_patients == 300


def test_power_is_seen_where_no_events_are_rounded():
    # 0.7 events a patient: 172 would wait for 121 instead of 120.4, 180 for 126.
    sizes = asked("scenario=delayed_effect").sizes
    assert [sizes.near(size) for size in (171, 176, 183.0)] == [170, 180, 180]
    assert sizes.up(171) == 172
    assert asked("scenario=delayed_effect").values(172)["trial.cuts.final.events"] == 121
    # Where events are not in proportion, all sizes are as good.
    fixed = asked("scenario=delayed_effect", "size.events=fixed").sizes
    assert [fixed.near(size) for size in (171, 176, 183.1)] == [172, 176, 184]


def test_a_size_is_the_trial_that_a_user_would_conduct():
    overrides = ("trial=first_line_phase3", "n_replicates=300")
    question = asked(*overrides, "size.endpoint=os", "size.method=cox")
    with conductor(question) as conduct:
        first, rest = (conduct({240.0: which})[240.0] for which in (range(250), range(250, 300)))
    ours = np.concatenate([first, rest], axis=1)
    typed = [f"{path}={value}" for path, value in question.values(240.0).items()]
    theirs = conduct_trials(plan(*overrides, *typed), 300).cuts["final"]
    method = theirs.methods["anti_pd1_chemotherapy", "os", "cox"]
    assert np.array_equal(ours[0], method.p_value, equal_nan=True)
    assert np.array_equal(ours[1], theirs.date)
    assert np.array_equal(ours[2], theirs.events["os"])
    other = conduct_trials(plan(*overrides), 300).cuts["final"]
    assert not np.array_equal(ours[1], other.date)


def test_defaults_are_the_last_cut_and_the_first_comparison():
    chosen = asked("trial=first_line_phase3")
    assert (chosen.cut, chosen.endpoint, chosen.arm, chosen.method) == (
        "final", "pfs", "anti_pd1_chemotherapy", "logrank",
    )  # fmt: skip
    early = asked("trial=first_line_phase3", "size.vary=trial.cuts.interim.events")
    assert early.cut == "interim"
    assert early.start == 300
    rates = asked("trial=enriched_phase3", "size.endpoint=orr")
    assert rates.method == "response_rate_difference"


def test_sizes_are_multiples_of_the_allocation():
    three = asked("scenario=delayed_effect", "trial.weights=[1,2]", "trial.block_size=6")
    assert three.sizes.step == 3
    assert three.sizes.up(100) == 102
    events = asked("scenario=delayed_effect", "size.vary=trial.cuts.final.events")
    assert (events.sizes.step, events.sizes.most, events.sizes.unit) == (1, 500, "PFS events")


BAD = {
    ("target_power=1",): "target_power must be above trial.alpha (0.025) and below 1, got 1",
    ("target_power=0.02",): "target_power must be above trial.alpha (0.025) and below 1, got 0.02",
    ("target_power=0",): "target_power must be finite and greater than 0, got 0",
    ("size.vary=trial.alpha",): "size.vary must be trial.n_patients, or trial.cuts.<cut>.events, .date or .follow_up, got 'trial.alpha'",
    ("size.vary=trial.cuts.finale.events",): "size.vary: no cut named 'finale'. Did you mean 'final'?",
    ("size.vary=trial.cuts.final.date",): "size.vary: trial.cuts.final does not wait for date, but for events",
    ("trial.cuts.final.events=null", "trial.cuts.final.date=30", "size.vary=trial.cuts.final.events"): "size.vary: trial.cuts.final does not wait for events, but for date",
    ("size.cut=interim",): "size.cut: no cut named 'interim'.",
    ("size.endpoint=os",): "size.endpoint: no endpoint named 'os'.",
    ("size.arm=control",): "size.arm: no experimental arm named 'control'.",
    ("size.method=cox",): "size.method: no comparison of the trial named 'cox'. Known: logrank.",
    ("size.accrual=faster",): "size.accrual must be one of as_designed, duration, rate, got 'faster'",
    ("size.events=some",): "size.events must be one of proportional, fixed, got 'some'",
    ("size.width=2",): "size.width must be below 1, got 2",
    ("size.most=8",): "size.most must be above size.least (10), got 8",
    ("size.step=0.5",): "size.step must be a whole number of patients, got 0.5",
    ("precision=0.01",): "precision must not be given where a size is asked for",
    ("paired_with=x",): "paired_with must not be given where a size is asked for",
    ("trial.comparisons=[magic]",): "trial.comparisons[0]: no comparison named 'magic'.",
}  # fmt: skip


@pytest.mark.parametrize("overrides", BAD, ids=" ".join)
def test_what_is_wrong_is_one_line(overrides):
    with pytest.raises(ScenarioError) as error:
        asked("scenario=delayed_effect", *overrides)
    assert str(error.value).startswith(BAD[overrides])
    assert "\n" not in str(error.value)


def test_another_cut_than_the_varied_one_is_refused():
    with pytest.raises(ScenarioError, match=r"^size.cut must be 'interim', which is varied"):
        asked("trial=first_line_phase3", "size.vary=trial.cuts.interim.events", "size.cut=final")


def test_a_cohort_has_no_size_to_be_found():
    with pytest.raises(ScenarioError, match=r"^trial must be given: choose one"):
        asked()


METHODS = ("logrank", "maxcombo", "cox", "rmst_difference(12)", "median_difference")


def test_tiny_trials_are_no_trouble():
    # Ten patients, five events, and cuts before anybody has entered.
    for overrides, size in (
        (("scenario=delayed_effect",), 10.0),
        (("scenario=delayed_effect", "size.vary=trial.cuts.final.events"), 5.0),
        (
            ("scenario=delayed_effect", "trial.cuts.final.events=null", "trial.cuts.final.date=9",
             "size.vary=trial.cuts.final.date", "size.least=0.1"), 0.1,
        ),
    ):  # fmt: skip
        question = asked(*overrides, f"trial.comparisons={[*METHODS]}")
        for method in METHODS:
            with conductor(replace(question, method=method)) as conduct:
                (found,) = conduct({size: range(200)}).values()
            assert np.mean(found[0] <= 0.025) < 0.2


# ---------------------------------------------------------------- the command

QUICK = ("scenario=delayed_effect", "target_power=0.8", "size.width=0.1", "n_replicates=400",
         "size.confirm=1000")  # fmt: skip


def resistime_size(*arguments, module="sim.size_command", **options):
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("size")
    done = resistime_size(*QUICK, f"hydra.run.dir={place}", "n_workers=2")
    assert done.returncode == 0, done.stderr
    return place, done


def test_it_leaves_the_answer_what_was_tried_and_a_figure(finished):
    place, done = finished
    assert done.stderr == ""
    record = json.loads((place / "size.json").read_text())
    answer, confirmed = record["answer"], record["confirmation"]
    assert f"{answer['size']:g} patients" in done.stdout
    assert answer["lower"] < answer["crossing"] < answer["upper"]
    assert (answer["upper"] - answer["lower"]) / answer["crossing"] <= 0.1
    assert confirmed["agrees"] and confirmed["first_replicate"] >= 1_000_000
    assert record["assumptions"][0] == "All enter within 12 months, however many they are."
    tried = pd.read_csv(place / "size.csv")
    assert list(tried.columns) == ["size", "power", "mc_error", "n_replicates"]
    at = tried.set_index("size").loc[answer["conducted_at"]]
    assert at["n_replicates"] == answer["n_replicates"]
    assert abs(at["power"] - 0.8) < 0.05
    assert (place / "size.png").stat().st_size > 10_000
    assert (place / "size.svg").stat().st_size > 5_000
    kept = json.loads((place / "provenance.json").read_text())
    assert kept["n_replicates"] == tried["n_replicates"].sum()
    assert kept["overrides"][1] == "target_power=0.8"


def test_it_is_the_same_to_the_byte_with_one_worker(finished, tmp_path):
    place, _ = finished
    again = resistime_size(*QUICK, f"hydra.run.dir={tmp_path}", "analysis.figures=false")
    assert again.returncode == 0, again.stderr
    for name in ("size.csv", "size_curve.csv", "size.json"):
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
    other = resistime_size(*QUICK, f"hydra.run.dir={tmp_path}", "analysis.figures=false", "seed=2")
    assert other.returncode == 0, other.stderr
    assert (tmp_path / "size.csv").read_bytes() != (place / "size.csv").read_bytes()


def test_no_size_is_a_result_with_status_1(tmp_path):
    done = resistime_size(
        *QUICK,
        "agents.delayed.hazard_ratio.escape=1.0",
        "size.most=600",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "resistime-size: no number of patients up to 600 reaches a power of 0.8: "
        "it stays at the level of 0.025"
    )
    assert len(done.stderr.splitlines()) == 1
    record = json.loads((tmp_path / "size.json").read_text())
    assert record["answer"] is None and "stays at the level" in record["reason"]
    assert (tmp_path / "size.png").stat().st_size > 10_000


def test_what_is_wrong_with_a_command_line_is_one_line_and_status_2(tmp_path):
    for arguments, told in (
        (("target_power=2", *QUICK[:1]), "target_power must be above trial.alpha"),
        (("size.wdth=2", *QUICK[:1]), "size.wdth: no such setting. Did you mean 'width'?"),
    ):
        done = resistime_size(*arguments, f"hydra.run.dir={tmp_path}")
        assert done.returncode == 2
        assert done.stderr.startswith(f"resistime-size: {told}"), done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "size.json").exists()


@pytest.mark.parametrize("argument", ["target_power=0.9", "+size.width=0.1"])
def test_a_run_that_is_asked_for_no_size_knows_no_target(argument, tmp_path):
    done = resistime_size(argument, f"hydra.run.dir={tmp_path}", module="sim")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    name = argument.lstrip("+").partition("=")[0]
    assert name.partition(".")[0] in done.stderr
    assert "no" in done.stderr and "setting" in done.stderr


def test_a_run_in_the_same_folder_removes_the_answer(finished, tmp_path):
    place, _ = finished
    for name in ("size.csv", "size.json", "size_curve.csv", "size.png"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    small = ("cohort.n_patients=200", "strategy=[anti_pd1]", "analysis.figures=false")
    done = resistime_size(*small, f"hydra.run.dir={tmp_path}", module="sim")
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("size")]


def test_help_is_a_page_of_its_own(tmp_path):
    done = resistime_size("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("resistime-size - ")
    assert "size.vary" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_more_trials_change_no_answer_beyond_its_error():
    # The wide answer is from the first of the narrow one's trials: its own error is nearly all.
    wide, narrow = (solve_with(f"size.width={width}", "target_power=0.8") for width in (0.1, 0.03))
    assert abs(wide.crossing - narrow.crossing) < 0.6 * (wide.upper - wide.lower)
    assert narrow.upper - narrow.lower < 0.5 * (wide.upper - wide.lower)


def solve_with(*overrides):
    question = asked("scenario=delayed_effect", *overrides)
    with conductor(question) as conduct:
        return solve_size(question, conduct)
