"""Comparing two runs: decisions paired or not, environments alike or not, from the history or from files."""

from __future__ import annotations

import json
from pathlib import Path

import histories
import numpy as np
import pytest
from histories import bench_entry, rounds, save_run, steady

from fuzz import documents
from modelport.errors import FormatError
from modelport.history.compare import CompareOptions, compare
from modelport.history.decisions import difference_interval
from modelport.history.loading import load_path
from modelport.history.record import of_infer, of_run
from modelport.history.store import open_history
from modelport.report.history import comparison_tables
from modelport.results import TuneResult
from modelport.results.comparison import Comparison

ALONE = CompareOptions()
LABELS = [number % 5 for number in range(400)]


def decided(wrong: list[int]) -> list[int]:
    """Decisions that are right but for these images."""
    return [(label + 1) % 5 if number in set(wrong) else label for number, label in enumerate(LABELS)]


def pair_of_jobs(tmp_path: Path, before: list[int], after: list[int], **more: object) -> Comparison:
    a = save_run(tmp_path / "a", first=decided(before), labels=LABELS, latencies=[steady(4e-3)])
    b = save_run(tmp_path / "b", first=decided(after), labels=LABELS, latencies=[steady(4e-3)], **more)
    return compare(a, b / "run.json", options=ALONE)


class TestAccuracy:
    def test_the_same_decisions_are_no_change(self, tmp_path: Path) -> None:
        found = pair_of_jobs(tmp_path, [1, 2, 3], [1, 2, 3])
        (change,) = found.accuracy
        assert (change.verdict, change.before, change.after) == ("no change", 397 / 400, 397 / 400)
        assert change.reason == "paired: 0 lost, 0 gained of 400 images"
        assert not found.changed

    def test_a_drop_of_two_points_is_found(self, tmp_path: Path) -> None:
        (change,) = pair_of_jobs(tmp_path, [0], list(range(9))).accuracy
        assert change.drop_points == pytest.approx(2.0)
        assert (change.verdict, change.changed) == ("lower", True)
        assert change.paired is not None
        assert (change.paired.lost, change.paired.gained) == (8, 0)
        assert change.paired.p_value == pytest.approx(2 * 0.5**8)

    def test_as_many_lost_as_gained_are_no_change(self, tmp_path: Path) -> None:
        (change,) = pair_of_jobs(tmp_path, list(range(10)), list(range(10, 22))).accuracy
        assert change.verdict == "no change"
        assert change.reason.startswith("paired: 12 lost, 10 gained of 400 images, p 0.83")

    def test_a_gain_is_told_as_such(self, tmp_path: Path) -> None:
        (change,) = pair_of_jobs(tmp_path, list(range(12)), []).accuracy
        assert change.verdict == "higher"

    def test_several_targets_share_the_false_alarms(self, tmp_path: Path) -> None:
        """6 : 0 has p = 0.031: a change of one target alone, none of one among three."""
        entries = []
        for name, wrong in (("a", []), ("b", list(range(6)))):
            directory = save_run(tmp_path / name, first=decided(wrong), labels=LABELS)
            result, choices = histories.run(images=400, right=400 - len(wrong)), of_run(histories.run(), directory)[1]
            (target,) = result.targets
            names = ("null", "openvino", "onnxruntime")
            others = tuple(
                target.model_copy(update={"engine": n, "inference": target.inference.model_copy(update={"engine": n})})
                for n in names
            )
            shared = {f"{n}-f32": choices["null-f32"] for n in names}
            entries.append((of_run(result.model_copy(update={"targets": others}), directory)[0], shared))
        with open_history(tmp_path / "h.db", create=True) as history:
            a, b = (history.add(*found)[0] for found in entries)
        found = compare(a, b, options=CompareOptions(history=tmp_path / "h.db"))
        assert [change.verdict for change in found.accuracy] == ["no change"] * 3
        assert found.accuracy[0].p_limit == pytest.approx(0.05 / 3)
        (alone,) = pair_of_jobs(tmp_path / "alone", [], list(range(6))).accuracy
        assert alone.verdict == "lower"

    def test_other_images_are_held_against_each_other_by_interval(self, tmp_path: Path) -> None:
        a = save_run(tmp_path / "a", first=decided([]), labels=LABELS)
        b = save_run(tmp_path / "b", first=decided([1]), labels=LABELS)
        histories.save_predictions(
            b / "null-f32" / "predictions" / "predictions.parquet", decided([1]), LABELS, "other"
        )
        (change,) = compare(a, b, options=ALONE).accuracy
        assert change.paired is None
        assert change.verdict == "no change"
        assert change.reason.endswith("not paired, for the images or their labels are not the same")

    def test_without_predictions_by_interval(self, tmp_path: Path) -> None:
        a, b = save_run(tmp_path / "a", right=95), save_run(tmp_path / "b", right=70)
        (change,) = compare(a, b, options=ALONE).accuracy
        assert change.verdict == "lower"
        assert change.interval is not None
        assert change.interval.high < 0
        assert change.reason.endswith("not paired, for the predictions of both are not there")

    def test_infer_runs_are_held_against_the_labels_in_their_predictions(self, tmp_path: Path) -> None:
        for name, wrong in (("a", []), ("b", list(range(9)))):
            histories.save_predictions(tmp_path / name / "predictions.parquet", decided(wrong), LABELS)
            histories.infer(400).write(tmp_path / name / "infer.json")
        found = compare(tmp_path / "a", tmp_path / "b", options=ALONE)
        assert [(c.verdict, c.before, c.after) for c in found.accuracy] == [("lower", 1.0, 391 / 400)]
        assert "null-f32: 400.0 → 400.0 img/s from file to TopN; one figure each, so not judged" in found.notes

    def test_without_labels_changed_decisions_are_told(self, tmp_path: Path) -> None:
        for name, wrong in (("a", []), ("b", list(range(9)))):
            histories.save_predictions(tmp_path / name / "predictions.parquet", decided(wrong), [None] * 400)
            histories.infer(400).write(tmp_path / name / "infer.json")
        found = compare(tmp_path / "a", tmp_path / "b", options=ALONE)
        assert found.accuracy == ()
        assert "null-f32: without labels; decisions changed on 9 of 400 images" in found.notes

    def test_newcombes_example(self) -> None:
        """Newcombe 1998, Statistics in Medicine 17, table II (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
        found = difference_interval((48, 80), (56, 70))
        assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


class TestSpeed:
    def test_two_runs_of_one_model(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(11)
        jobs = [save_run(tmp_path / name, latencies=[rounds(rng), rounds(rng)]) for name in "ab"]
        found = compare(*jobs, options=ALONE)
        assert [change.configuration for change in found.speed] == ["null-f32, batch 1", "null-f32, batch 2"]
        assert not found.changed

    def test_a_slower_batch_size_is_found_among_others(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(12)
        a = save_run(tmp_path / "a", latencies=[rounds(rng) for _ in range(5)])
        b = save_run(tmp_path / "b", latencies=[rounds(rng, median_s=6e-3 if n == 3 else 5e-3) for n in range(5)])
        found = compare(a, b, options=ALONE)
        assert [change.verdict for change in found.speed] == ["no change"] * 3 + ["slower", "no change"]

    def test_a_machine_that_was_slower_itself_is_told_and_no_change(self, tmp_path: Path) -> None:
        for name, factor in (("a", 1.0), ("b", 1.24)):
            hygiene = histories.QUIET.model_copy(update={"pace_s": (4.2e-3 * factor, 4.2e-3 * factor)})
            bench_entry(steady(4e-3 * factor), hygiene=hygiene).write(tmp_path / f"{name}.json")
        found = compare(tmp_path / "a.json", tmp_path / "b.json", options=ALONE)
        (change,) = found.speed
        assert (change.verdict, change.pace) == ("no change", (0.0, pytest.approx(0.24)))
        _, speed, _ = comparison_tables(found)
        assert speed.notes[1:] == [
            "The machine itself was not equally fast for 1 of 1 configurations (by up to 24%); their intervals hold that. --again measures "
            "in turn, which does not mind."
        ]

    def test_noise_is_learnt_from_the_history(self, tmp_path: Path) -> None:
        rng, path = np.random.default_rng(13), tmp_path / "h.db"
        with open_history(path, create=True) as history:
            ids = [
                history.add(bench_entry(rounds(rng, between=0.06), started=f"2026-11-{day:02}T12:00:00+00:00"))[0]
                for day in range(1, 25)
            ]
        found = compare(ids[-2], ids[-1], options=CompareOptions(history=path))
        assert found.speed[0].noise_source == "learnt from 23 earlier runs"
        assert found.speed[0].noise > 0.03
        stated = compare(ids[-2], ids[-1], options=CompareOptions(history=path, noise=0.02))
        assert (stated.speed[0].noise, stated.speed[0].noise_source) == (0.02, "as it was stated")

    def test_noise_that_shows_among_the_configurations_counts(self, tmp_path: Path) -> None:
        """Twelve comparisons of one model on a machine that is twice as noisy as assumed."""
        rng, wolves = np.random.default_rng(14), 0
        for number in range(12):
            jobs = [
                save_run(tmp_path / f"{number}-{name}", latencies=[rounds(rng, between=0.03) for _ in range(8)])
                for name in "ab"
            ]
            found = compare(*jobs, options=ALONE)
            wolves += found.changed
            assert found.speed[0].noise_source.startswith(("seen in this comparison", "assumed"))
        assert wolves <= 1

    def test_what_changes_a_whole_target_is_no_noise(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(15)
        a = save_run(tmp_path / "a", latencies=[rounds(rng) for _ in range(6)])
        b = save_run(tmp_path / "b", latencies=[rounds(rng, median_s=6e-3) for _ in range(6)])
        assert {change.verdict for change in compare(a, b, options=ALONE).speed} == {"slower"}

    def test_a_model_that_was_measured_several_times(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(16)
        for name in "ab":
            benches = [histories.bench(rounds(rng)).jsonable() for _ in range(4)]
            (tmp_path / f"{name}.json").write_text(json.dumps(benches))
        (once,) = compare(tmp_path / "a.json", tmp_path / "b.json", options=ALONE).speed
        assert once.verdict == "no change"
        assert once.high - once.low < 0.06  # of one measurement each it is about 0.12

    def test_what_only_one_has_is_noted(self, tmp_path: Path) -> None:
        a = save_run(tmp_path / "a", latencies=[steady(4e-3)])
        b = save_run(tmp_path / "b", latencies=[steady(4e-3), steady(6e-3)], onnx_sha256="cd" * 32)
        found = compare(a, b, options=ALONE)
        assert "null-f32, batch 2: only in B" in found.notes
        assert "the ONNX files differ: abababababab… in A, cdcdcdcdcdcd… in B" in found.notes


class TestEnvironments:
    def test_unlike_ones_are_refused_by_name(self, tmp_path: Path) -> None:
        a = save_run(tmp_path / "a", latencies=[steady(4e-3)])
        b = save_run(tmp_path / "b", latencies=[steady(4e-3)], where=histories.OTHER_MACHINE)
        with pytest.raises(
            FormatError, match=r"unlike environments: cpu: Imaginary 9000, Imaginary 9001; pass --across-env"
        ):
            compare(a, b, options=ALONE)

    def test_compared_across_them_where_asked(self, tmp_path: Path) -> None:
        a = save_run(tmp_path / "a", latencies=[steady(4e-3)])
        b = save_run(tmp_path / "b", latencies=[steady(8e-3)], where=histories.OTHER_MACHINE)
        found = compare(a, b, options=CompareOptions(across_environments=True))
        assert found.differences == ("cpu: Imaginary 9000, Imaginary 9001",)
        assert found.speed[0].verdict == "slower"


class TestLoading:
    def test_every_file_that_commands_write(self, tmp_path: Path) -> None:
        bench = histories.bench(steady(4e-3))
        (tmp_path / "bench.json").write_text(json.dumps(bench.jsonable()))
        (tmp_path / "benches.json").write_text(
            json.dumps([bench.jsonable(), histories.bench(steady(9e-3), batch=16).jsonable()])
        )
        bench_entry(steady(4e-3)).write(tmp_path / "entry.json")
        (tmp_path / "out").mkdir()
        histories.infer(5).write(tmp_path / "out" / "infer.json")
        histories.save_predictions(tmp_path / "out" / "predictions.parquet", [0] * 5, [0] * 5)
        assert [s.batch_size for s in load_path(tmp_path / "benches.json").entry.speeds] == [8, 16]
        found = compare(tmp_path / "bench.json", tmp_path / "entry.json", options=ALONE)
        assert found.speed[0].verdict == "no change"
        loaded = load_path(tmp_path / "out")
        assert loaded.entry.kind == "infer"
        assert len(loaded.choices["null-f32"].first) == 5

    def test_the_same_from_the_history_as_from_its_directory(self, tmp_path: Path) -> None:
        jobs = [
            save_run(tmp_path / name, first=decided(wrong), labels=LABELS, latencies=[steady(4e-3 * slow)])
            for name, wrong, slow in (("a", [1], 1.0), ("b", list(range(12)), 1.2))
        ]
        with open_history(tmp_path / "h.db", create=True) as history:
            ids = [history.add(load_path(job).entry, load_path(job).choices)[0] for job in jobs]
        kept = compare(ids[0][:8], ids[1][:8], options=CompareOptions(history=tmp_path / "h.db"))
        files = compare(*jobs, options=ALONE)
        assert (kept.speed, kept.accuracy) == (files.speed, files.accuracy)
        assert [c.verdict for c in kept.accuracy] == ["lower"]

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        histories.bench(steady(4e-3)).write(tmp_path / "a.json")
        histories.infer(5).write(tmp_path / "b.json")
        with pytest.raises(
            FormatError, match="have no configuration and no target in common: null-f32, batch 8 there, null-f32 here"
        ):
            compare(tmp_path / "a.json", tmp_path / "b.json", options=ALONE)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{}", "is not a result that can be compared: expected run.json"),
            ("[]", "is not a result that can be compared"),
            ("12", "is not a result that can be compared"),
            ("{", "not valid JSON"),
            ('{"format": "modelport.run"}', "name: is required"),
        ],
    )
    def test_what_is_no_result(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FormatError, match=message):
            load_path(tmp_path / "x.json")

    @pytest.mark.parametrize("latency", [0.0, -1.0, float("nan")])
    def test_latencies_that_cannot_be(self, tmp_path: Path, latency: float) -> None:
        for name, rounds_s in (("a", steady(4e-3)), ("b", (*steady(4e-3), latency))):
            bench_entry(steady(4e-3)).model_copy(
                update={"benches": (histories.bench(steady(4e-3)).model_copy(update={"latencies_s": rounds_s}),)}
            ).write(tmp_path / f"{name}.json")
        with pytest.raises(
            FormatError, match=r"null-f32, batch 8: holds a latency of .* s, which nothing has; was the file edited"
        ):
            compare(tmp_path / "a.json", tmp_path / "b.json", options=ALONE)

    @pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf"), "fast"])
    def test_a_pace_that_cannot_be(self, tmp_path: Path, pace: object) -> None:
        bench_entry(steady(4e-3)).write(tmp_path / "a.json")
        plain = json.loads((tmp_path / "a.json").read_text())
        plain["benches"][0]["hygiene"]["pace_s"] = [4e-3, pace]
        (tmp_path / "b.json").write_text(json.dumps(plain))
        with pytest.raises(FormatError, match=r"pace_s"):
            compare(tmp_path / "a.json", tmp_path / "b.json", options=ALONE)

    def test_a_directory_of_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(
            FormatError, match=r"holds none of run.json, tune.json, sweep.json, infer.json: not a directory that"
        ):
            load_path(tmp_path)

    def test_a_tuning_whose_winner_its_sweep_does_not_know(self, tmp_path: Path) -> None:
        plain = documents.document(TuneResult)
        plain["winner"]["batch_size"] = 77
        (tmp_path / "tune.json").write_text(json.dumps(plain))
        entry = load_path(tmp_path).entry
        assert (entry.kind, entry.verdict, entry.speeds) == ("tune", "passed", ())

    def test_an_id_without_a_history(self) -> None:
        with pytest.raises(
            FormatError, match=r"abcdef: no such file or directory, and the history is switched off: give --history"
        ):
            compare("abcdef", "latest", options=ALONE)


def test_infer_with_and_without_its_model(tmp_path: Path) -> None:
    entry, choices = of_infer(histories.infer(3), tmp_path, None, "2026-11-26T12:00:00+00:00")
    assert (entry.onnx_sha256, choices) == (None, {})
    assert entry.accuracies[0].e2e == 3.0
