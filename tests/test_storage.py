"""Files that are whole or not there, whatever goes wrong while they are written."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sim.errors import OutputError, ResistimeError
from sim.storage import write_json, write_text, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_file_is_written_under_its_own_name_and_no_other(tmp_path):
    place = tmp_path / "curves.csv"
    assert write_text(place, "time,survival\n0,1\n") == place
    assert place.read_bytes() == b"time,survival\n0,1\n"
    assert names(tmp_path) == ["curves.csv"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o644


def test_the_temporary_file_lies_beside_the_final_one_and_has_its_suffix(tmp_path):
    seen = []
    write_whole(tmp_path / "km_pfs.png", lambda path: seen.append(path) or path.write_bytes(b"x"))
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".png"
    assert seen[0].name != "km_pfs.png"


def test_text_and_json_are_unicode_with_unix_line_ends(tmp_path):
    write_json(tmp_path / "a.json", {"label": "TGF-β ≥ 1 %", "line": "a\nb"})
    assert (tmp_path / "a.json").read_bytes().decode() == (
        '{\n  "label": "TGF-β ≥ 1 %",\n  "line": "a\\nb"\n}\n'
    )


def test_an_older_file_is_replaced(tmp_path):
    place = tmp_path / "curves.csv"
    write_text(place, "old")
    write_text(place, "new")
    assert place.read_text() == "new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("column")])
@pytest.mark.parametrize("before", [None, "old"], ids=["first time", "second time"])
def test_a_writer_that_fails_half_way_leaves_what_was_there(tmp_path, error, before):
    place = tmp_path / "patients.parquet"
    if before is not None:
        write_text(place, before)

    def fail(path):
        path.write_text("half")
        raise error

    expected = OutputError if isinstance(error, OSError) else KeyError
    with pytest.raises(expected):
        write_whole(place, fail)
    assert names(tmp_path) == ([] if before is None else ["patients.parquet"])
    if before is not None:
        assert place.read_text() == before


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupt(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "curves.csv", interrupt)
    assert names(tmp_path) == []


def test_what_cannot_be_turned_into_json_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert names(tmp_path) == []


def test_a_folder_that_does_not_exist_is_an_error_of_one_line(tmp_path):
    place = tmp_path / "missing" / "curves.csv"
    with pytest.raises(OutputError) as error:
        write_text(place, "x")
    assert one_line(error) == f"hydra.run.dir: cannot write '{place}': No such file or directory"
    assert isinstance(error.value, ResistimeError)


def test_a_file_in_the_place_of_the_folder_is_an_error_of_one_line(tmp_path):
    (tmp_path / "run").write_text("x")
    place = tmp_path / "run" / "curves.csv"
    with pytest.raises(OutputError) as error:
        write_text(place, "x")
    assert one_line(error) == f"hydra.run.dir: cannot write '{place}': Not a directory"


def test_a_folder_in_the_way_is_an_error_of_one_line(tmp_path):
    place = tmp_path / "curves.csv"
    place.mkdir()
    with pytest.raises(OutputError) as error:
        write_text(place, "x")
    assert one_line(error) == f"hydra.run.dir: cannot write '{place}': Is a directory"
    assert names(tmp_path) == ["curves.csv"]


def test_a_writer_with_a_long_complaint_is_an_error_of_one_line(tmp_path):
    def fail(path):
        raise OSError("first\nsecond")

    with pytest.raises(OutputError) as error:
        write_whole(tmp_path / "curves.csv", fail)
    assert one_line(error).endswith("curves.csv': first")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_an_error_of_one_line(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(OutputError) as error:
        write_text(closed / "curves.csv", "x")
    assert one_line(error).endswith(": Permission denied")


FILL = """
import resource, sys
from pathlib import Path
from sim.errors import OutputError
from sim.storage import write_text

place = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(place, "x" * 100_000)
except OutputError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_is_an_error_of_one_line_and_the_older_file_stays(tmp_path):
    place = tmp_path / "curves.csv"
    write_text(place, "old")
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(place)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == f"hydra.run.dir: cannot write '{place}': File too large\n"
    assert names(tmp_path) == ["curves.csv"]
    assert place.read_text() == "old"
