"""Stages: done once, done again when an input or an output changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import OutputError
from modelport.stages import STATE_FILE, Stages, open_stages


def do(directory: Path, inputs: dict[str, object]) -> bool:
    output = directory / "made"
    return Stages(directory).run("make", inputs, [output], lambda: output.write_text(str(inputs)))


def test_unchanged_is_kept_changed_is_done_again(tmp_path: Path) -> None:
    assert do(tmp_path, {"a": 1})
    assert not do(tmp_path, {"a": 1})
    assert do(tmp_path, {"a": 2})
    assert (tmp_path / "made").read_text() == "{'a': 2}"


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("tampered")])
def test_a_lost_or_edited_output_is_made_again(tmp_path: Path, harm: object) -> None:
    do(tmp_path, {"a": 1})
    harm(tmp_path / "made")
    assert do(tmp_path, {"a": 1})
    assert (tmp_path / "made").read_text() == "{'a': 1}"


def test_a_failed_stage_is_not_remembered(tmp_path: Path) -> None:
    do(tmp_path, {"a": 1})
    with pytest.raises(ZeroDivisionError):
        Stages(tmp_path).run("make", {"a": 2}, [tmp_path / "made"], lambda: 1 / 0)
    assert do(tmp_path, {"a": 2})


def test_leftovers_in_a_stages_own_directory_are_removed(tmp_path: Path) -> None:
    home = tmp_path / "home"

    def work() -> None:
        assert not home.exists()
        home.mkdir()
        (home / "made").write_text("x")

    stages = Stages(tmp_path)
    home.mkdir()
    (home / "half-written").write_text("")
    assert stages.run("make", {}, [home / "made"], work, home)


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="exists already: choose another output"), open_stages(tmp_path):
        pass


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text("{")
    with pytest.raises(OutputError, match=r"its stages\.json is damaged; pass --force"), open_stages(tmp_path):
        pass


def test_two_runs_at_once_are_refused_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    with open_stages(tmp_path / "job"):
        with pytest.raises(OutputError, match=r"another run is writing here; wait for it, or choose another output"):
            with open_stages(tmp_path / "job"):
                pass
    with open_stages(tmp_path / "job"):
        pass


def test_force_begins_anew_and_half_written_files_go(tmp_path: Path) -> None:
    job = tmp_path / "job"
    with open_stages(job):
        (job / "sub").mkdir()
        (job / "sub" / ".model.x1.tmp").touch()
        (job / ".model.x2.tmp").mkdir()
        (job / "made").touch()
    with open_stages(job):
        assert sorted(path.name for path in job.rglob("*")) == [".lock", "made", "stages.json", "sub"]
    with open_stages(job, force=True):
        assert sorted(path.name for path in job.rglob("*")) == [".lock", "stages.json"]
