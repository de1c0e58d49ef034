"""``resistime-catalogue``: what it lists, prints and scores, and how it refuses."""

import pandas as pd
import pytest

from sim.catalogue import find_entry, published_entries
from sim.catalogue_command import main


def output(capsys, *arguments):
    main(arguments)
    return capsys.readouterr().out


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_list_has_a_line_for_each_trial(capsys, tmp_path):
    lines = output(capsys, "--folder", str(tmp_path)).splitlines()
    for entry in published_entries():
        (line,) = [line for line in lines if line.startswith(entry.name)]
        assert entry.alias in line and f" {entry.n_targets} " in line
    assert any("No scores yet" in line for line in lines)


def test_a_page_has_every_target_and_claim_with_its_source(capsys, load):
    page = output(capsys, "KEYNOTE189")
    run = load("scenario=KEYNOTE189")
    assert f"Targets ({len(run.targets)})" in page
    assert f"Claims ({len(run.claims)}:" in page
    for claim in run.claims:
        assert f"  {claim.path} " in page
        assert claim.where in page
    for target in run.targets:
        assert f"{target.source}: {target.where}; {target.checked}" in page
    assert page.count("known misfit: ") == len(run.published.misfits)


def test_a_reviewed_trial_is_cited_and_its_misfits_are_told(capsys):
    page = output(capsys, "OAK")
    assert "Cite: Rittmeyer" in page
    assert "not reviewed" not in page
    assert page.count("known misfit: ") == 1


def test_a_trial_that_is_not_reviewed_is_not_cited():
    from sim import catalogue_command

    entry, run = find_entry("OAK"), catalogue_command._load(find_entry("OAK"))
    run.published.reviewed = False
    page = "\n".join(catalogue_command._page(entry, run))
    assert "Warning: OAK is not reviewed" in page
    assert "Cite:" not in page


def test_scores_are_written_and_kept_by_trial(capsys, tmp_path, load):
    small = ("--patients", "400", "--folder", str(tmp_path))
    told = output(capsys, "score", "KEYNOTE024", *small)
    assert (tmp_path / "score_keynote024.png").stat().st_size > 10_000
    assert "rms z" in told and "known misfit" not in told
    first = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert len(first) == len(load("scenario=KEYNOTE024").targets)
    told = output(capsys, "score", "oak", "OAK_2R17", "--no-figures", *small)
    assert told.count("OAK: atezolizumab") == 1
    assert not (tmp_path / "score_oak.png").exists()
    both = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert both["scenario"].value_counts().to_dict() == {
        "KEYNOTE024_2R16": len(first), "OAK_2R17": len(load("scenario=OAK").targets),
    }  # fmt: skip
    z = both.loc[both["scenario"] == "OAK_2R17", "z"].astype(float)
    listed = output(capsys, "--folder", str(tmp_path))
    (line,) = [line for line in listed.splitlines() if line.startswith("OAK_2R17")]
    assert f" {(z**2).mean() ** 0.5:.2f} " in line


@pytest.mark.long
def test_the_seed_is_that_of_the_patients(capsys, tmp_path):
    rest = ("--patients", "200", "--no-figures", "--folder", str(tmp_path))
    one, again = (output(capsys, "score", "LEAP008", "--seed", "3", *rest) for _ in range(2))
    assert one == again
    assert one != output(capsys, "score", "LEAP008", "--seed", "4", *rest)


def test_what_is_refused(capsys, tmp_path):
    assert "no published scenario named 'KEYNOTE188'. Did you mean 'KEYNOTE18" in refusal(
        capsys, "KEYNOTE188"
    )
    assert "--patients: must be at least 1, got 0" in refusal(capsys, "--patients", "0")
    assert "--seed: must be a whole number" in refusal(capsys, "--seed", "-1.5")
    (tmp_path / "file").write_text("")
    blocked = refusal(capsys, "score", "OAK", "--folder", str(tmp_path / "file"))
    assert "--folder: cannot write" in blocked


def test_help_explains_what_it_shows(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    page = capsys.readouterr().out
    for word in ("score", "checked", "rms z", "reviewed", "assumption", "scenario=KEYNOTE189"):
        assert word in page
