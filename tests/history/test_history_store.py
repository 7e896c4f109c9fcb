"""The history's database: what is kept, once; what is found, removed, refused; two writers at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import histories
import numpy as np
import pytest
from histories import bench_entry, steady

from modelport.errors import FormatError, OutputError
from modelport.history import database
from modelport.history.choices import Choices
from modelport.history.place import place
from modelport.history.record import keep, of_bench, of_evaluate, of_infer, of_run
from modelport.history.store import open_history
from modelport.history.wanted import Wanted, parse_since
from modelport.results.history import HistoryEntry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.db"


def filled(path: Path, *entries: HistoryEntry) -> list[str]:
    with open_history(path, create=True) as history:
        return [history.add(entry)[0] for entry in entries]


def sql(path: Path, statement: str) -> list[tuple]:
    """What another program finds, or does, in the database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def at(hour: int) -> str:
    return f"2026-11-26T{hour:02}:00:00+00:00"


def test_an_entry_comes_back_whole(path: Path) -> None:
    entry = bench_entry(steady(4e-3))
    (identity,) = filled(path, entry)
    with open_history(path) as history:
        assert history.entry(identity) == entry
        row = history.row(identity)
    assert row.speeds[0].configuration == "null-f32, batch 8"
    assert row.speeds[0].median_ms == pytest.approx(4.0, rel=1e-3)
    assert row.machine == "Imaginary 9000, 8 cores"
    assert row.verdict is None


def test_a_finished_run_that_is_run_again_is_not_doubled(path: Path, tmp_path: Path) -> None:
    latencies = [steady(4e-3), steady(7e-3)]
    first = of_run(histories.run(latencies=latencies), tmp_path / "a")
    later = {"started": "2026-11-27T08:00:00+00:00", "wall_s": 0.4, "recipe": "moved/tiny.yaml"}
    again = of_run(histories.run(latencies=latencies, **later), tmp_path / "b")
    other = of_run(histories.run(latencies=[steady(4e-3), steady(7.1e-3)]), tmp_path / "a")
    with open_history(path, create=True) as history:
        (one, new), (two, newer), (three, newest) = (history.add(*found) for found in (first, again, other))
        assert (new, newer, newest) == (True, False, True)
        assert one == two != three
        assert len(history.rows()) == 2
        assert history.row(one).place == str(tmp_path / "a")


def test_entries_of_one_second_are_in_the_order_in_which_they_came(path: Path) -> None:
    """Also after some were forgotten, which writes the file anew."""
    with open_history(path, create=True) as history:
        ids = [history.add(bench_entry(steady(1e-3 * (number + 1))))[0] for number in range(20)]
        assert [row.id for row in history.rows()] == ids[::-1]
        assert history.resolve("latest") == ids[-1]
        history.remove([ids.pop(3), ids.pop(9)])
        ids.append(history.add(bench_entry(steady(0.5)))[0])
        assert [row.id for row in history.rows()] == ids[::-1]


def test_rows_are_newest_first_and_filtered(path: Path, tmp_path: Path) -> None:
    failed, _ = of_run(
        histories.run(latencies=[steady(3e-3)], passed=False, started=at(9), name="digits <b>"), tmp_path
    )
    ids = filled(
        path, bench_entry(steady(4e-3), started=at(7)), bench_entry(steady(5e-3), started=at(8), batch=32), failed
    )
    with open_history(path) as history:

        def found(**wanted: object) -> list[str]:
            return [row.id for row in history.rows(Wanted(**wanted))]

        assert found() == ids[::-1]
        assert found(limit=1) == [ids[2]]
        assert found(kind="bench") == [ids[1], ids[0]]
        assert found(model="DIGITS <b") == [ids[2]]
        assert found(model="tiny") == ids[::-1]
        assert found(model="%") == []
        assert found(since=at(8)) == [ids[2], ids[1]]
        assert found(batch_size=32) == [ids[1]]
        assert found(batch_size=1, engine="null", precision="f32") == [ids[2]]
        assert found(batch_size=1, engine="openvino") == []
        assert found(precision="f32") == ids[::-1]
        assert found(verdict="failed") == [ids[2]]
        assert found(verdict="passed") == []
        assert found(verdict="none") == [ids[1], ids[0]]


def test_since_takes_dates_times_and_spans() -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert parse_since("36h", now) == "2026-11-25T00:00:00+00:00"
    assert parse_since("2w", now) == "2026-11-12T12:00:00+00:00"
    assert parse_since("2026-11-26T10:00:00+02:00") == "2026-11-26T08:00:00+00:00"
    with pytest.raises(
        ValueError, match=r"'soon': expected a date such as 2026-11-26, or how long ago, such as 12h, 7d or 2w"
    ):
        parse_since("soon")


def test_an_id_is_found_by_its_beginning_or_by_its_place(path: Path) -> None:
    old, new = filled(path, bench_entry(steady(4e-3), started=at(7)), bench_entry(steady(5e-3), started=at(8)))
    with open_history(path) as history:
        assert history.resolve(old[:6]) == old
        assert history.resolve("latest") == new
        assert history.resolve("latest~1") == old
        for name, message in (
            ("latest~2", "has no latest~2: entries in it: 2"),
            ("latest~x", "expected `latest`, or `latest~1`"),
            ("0000000000000", "has no entry 0000000000000; `modelport history` lists them"),
            ("abc", "is no file, no directory and no id: expected at least 4 digits"),
            ("run.json", "is no file, no directory and no id"),
        ):
            with pytest.raises(FormatError, match=message):
                history.resolve(name)


def test_an_ambiguous_beginning_names_the_candidates(path: Path) -> None:
    filled(path, bench_entry(steady(4e-3)))
    columns = "kind, started, recorded, name, model, onnx_sha256, verdict, place, machine, environment, document"
    for digit in "12":
        sql(path, f"INSERT INTO entries SELECT 'abcd{digit * 60}', {columns} FROM entries LIMIT 1")
    with (
        open_history(path) as history,
        pytest.raises(FormatError, match="abcd is the beginning of several ids: abcd11111111, abcd22222222"),
    ):
        history.resolve("abcd")


def test_pruning_removes_figures_and_gives_room_back(path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = filled(path, *(bench_entry(histories.rounds(rng, 3_000), started=at(hour)) for hour in range(8)))
    before = path.stat().st_size
    with open_history(path) as history:
        assert history.remove([*ids[:6], "unknown"]) == 6
        assert [row.id for row in history.rows()] == [ids[7], ids[6]]
    assert sql(path, "SELECT count(*) FROM speeds") == [(2,)]
    assert path.stat().st_size < before / 2


def test_decisions_come_back(path: Path, tmp_path: Path) -> None:
    directory = histories.save_run(tmp_path / "job", first=[0, 1, 2, 3], labels=[0, 1, 2, 4])
    entry, choices = of_run(histories.run(images=4, right=3), directory)
    with open_history(path, create=True) as history:
        identity, _ = history.add(entry, choices)
        found = history.choices(identity)["null-f32"]
    assert found.first.tolist() == [0, 1, 2, 3]
    assert found.labels.tolist() == [0, 1, 2, 4]
    assert found.images == Choices.read(directory / "null-f32" / "predictions" / "predictions.parquet").images


def test_medians_are_of_this_model_on_this_machine_when_it_was_quiet(path: Path) -> None:
    elsewhere = bench_entry(steady(9e-3), where=histories.OTHER_MACHINE)
    busy = bench_entry(steady(8e-3), hygiene=histories.BUSY)
    ids = filled(
        path, bench_entry(steady(4e-3), started=at(7)), bench_entry(steady(5e-3), started=at(8)), elsewhere, busy
    )
    with open_history(path) as history:
        machine = history.row(ids[0]).environment
        what = {"onnx_sha256": histories.ONNX, "environment": machine}
        assert history.medians("null-f32, batch 8", **what, without=None) == pytest.approx([4.0, 5.0], rel=1e-3)
        assert history.medians("null-f32, batch 8", **what, without=ids[0]) == pytest.approx([5.0], rel=1e-3)
        assert history.medians("null-f32, batch 1", **what, without=None) == []


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from histories import bench_entry, steady
from modelport.history.record import keep
for number in range(25):
    keep(Path(sys.argv[1]), lambda: [(bench_entry(steady((1 + number) * 1e-3 + int(sys.argv[2]) * 1e-6)), {{}})])
"""


def test_writers_at_once_lose_nothing(path: Path) -> None:
    """Real processes, which also make the file and its tables at the same moment."""
    code = WRITER.format(tests=str(Path(histories.__file__).parent))
    line = [sys.executable, "-W", "error", "-c", code, str(path)]
    children = [subprocess.Popen([*line, str(n)], stderr=subprocess.PIPE, text=True) for n in range(3)]
    told = [child.communicate(timeout=200)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], told
    assert "not in the history" not in "".join(told)
    with open_history(path) as history:
        assert len(history.rows()) == 75
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


class TestWhatCannotBeUsed:
    def test_none_there(self, path: Path) -> None:
        with (
            pytest.raises(FormatError, match="there is no history here yet; `modelport run`, bench"),
            open_history(path),
        ):
            pass
        assert not path.exists()

    def test_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "history.db").write_text("hello, this is no database at all\n" * 40)
        with (
            pytest.raises(FormatError, match="is not a history: file is not a database"),
            open_history(tmp_path / "history.db"),
        ):
            pass

    def test_of_another_program(self, tmp_path: Path) -> None:
        sql(tmp_path / "other.db", "CREATE TABLE bookmarks (url TEXT)")
        with pytest.raises(FormatError, match="is a database of another program; give another --history"):
            filled(tmp_path / "other.db", bench_entry(steady(4e-3)))

    def test_of_a_newer_version(self, path: Path) -> None:
        filled(path, bench_entry(steady(4e-3)))
        sql(path, "PRAGMA user_version = 7")
        with (
            pytest.raises(
                FormatError, match=r"was written by a newer modelport \(schema 7, this one knows 1\): update"
            ),
            open_history(path),
        ):
            pass

    def test_a_damaged_entry(self, path: Path) -> None:
        (identity,) = filled(path, bench_entry(steady(4e-3)))
        sql(path, "UPDATE entries SET document = x'00112233'")
        with open_history(path) as history, pytest.raises(FormatError, match=f"entry {identity[:10]}: is damaged"):
            history.entry(identity)

    def test_damaged_decisions(self) -> None:
        packed = Choices("aa", np.zeros(3, np.int32), np.zeros(3, np.int32)).pack()
        with pytest.raises(FormatError, match="there: its decisions are damaged"):
            Choices.unpack("aa", packed[:-3], "there")
        with pytest.raises(FormatError, match="there: its decisions are damaged"):
            Choices.unpack("aa", b"nonsense", "there")

    def test_a_locked_one(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "_WAIT_S", 0.05)
        filled(path, bench_entry(steady(4e-3)))
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            with open_history(path) as history:
                assert len(history.rows()) == 1  # readers do not wait
                with pytest.raises(OutputError, match="the history cannot be used: database is locked"):
                    history.add(bench_entry(steady(5e-3)))
        finally:
            connection.close()


class TestRecording:
    def test_an_evaluation_keeps_the_labels_that_it_was_given(self, tmp_path: Path) -> None:
        histories.save_predictions(tmp_path / "predictions.parquet", [0, 1, 2], [None, None, None])
        histories.infer(3).write(tmp_path / "infer.json")
        (tmp_path / "labels.txt").write_text("image00000.png 0\nimage00001.png 4\n")
        entry, choices = of_evaluate(histories.accuracy(1, 2), tmp_path, tmp_path / "labels.txt", at(8))
        assert choices["null-f32"].labels.tolist() == [0, 4, -1]
        assert choices["null-f32"].first.tolist() == [0, 1, 2]
        assert entry.accuracies[0].accuracy == histories.accuracy(1, 2)

    def test_what_cannot_be_written_is_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "file").write_text("in the way")
        keep(tmp_path / "file" / "history.db", lambda: [(bench_entry(steady(4e-3)), {})])
        assert "this run is not in the history: cannot write" in caplog.text

    def test_what_cannot_be_read_is_a_warning(
        self, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "predictions.parquet").write_text("damaged")
        keep(path, lambda: [of_infer(histories.infer(3), tmp_path, None, at(8))])
        assert "this run is not in the history" in caplog.text
        assert "is not a predictions file" in caplog.text

    def test_many_images_are_kept_as_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modelport.history.record.MOST_IMAGES", 3)
        histories.save_predictions(tmp_path / "predictions.parquet", [0, 1, 2, 3], [0, 1, 2, 3])
        assert of_infer(histories.infer(4), tmp_path, None, at(8))[1] == {}

    def test_a_bench_without_a_model_is_named_by_its_target(self) -> None:
        entry, _ = of_bench([histories.bench(steady(4e-3))], None, at(8))
        assert (entry.name, entry.model, entry.onnx_sha256) == ("null-f32", None, None)


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELPORT_HISTORY")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place() == tmp_path / ".local" / "share" / "modelport" / "history.db"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert place() == tmp_path / ".local" / "share" / "modelport" / "history.db"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert place() == tmp_path / "xdg" / "modelport" / "history.db"
    monkeypatch.setenv("MODELPORT_HISTORY", "~/mine.db")
    assert place() == tmp_path / "mine.db"
    assert place(Path("given.db")) == Path("given.db")
    monkeypatch.setenv("MODELPORT_HISTORY", "off")
    assert place() is None


def test_tests_never_write_into_the_home() -> None:
    assert os.environ["MODELPORT_HISTORY"] == "off"
