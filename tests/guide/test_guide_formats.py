"""The guide's file formats: golden files written by hand from their description, and round trips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.accuracy import evaluate, evaluate_dump
from modelport.data.dump import read_dump, read_scores, write_scores
from modelport.data.labels import read_labels
from modelport.data.source import open_source
from modelport.errors import DataError, FormatError, OutputError
from modelport.guide.info import write_bin_info, write_jpg_info
from modelport.guide.performance import PureInference, RealDataPerformance, pure_file, real_data_file
from modelport.guide.prepare import write_prepared
from modelport.spec import Preprocess

GOLDEN = """[e2e] throughputRate: 203.598, latency: 245582
[data read] throughputRate: 216.393, moduleLatency: 4.62122
[preprocess] throughputRate: 216.18, moduleLatency: 4.62577
[infer] throughputRate: 204.451, Interface throughputRate: 304.088, moduleLatency: 4.24378
[post] throughputRate: 204.451, moduleLatency: 4.89115
"""
SMALL = Preprocess(input_size=(3, 8, 6))


class TestPerformanceFile:
    def test_the_guides_own_file_reads_back_to_the_letter(self, tmp_path: Path) -> None:
        (tmp_path / "perf.txt").write_text(GOLDEN)
        found = RealDataPerformance.read(tmp_path / "perf.txt")
        assert (found.e2e_rate, found.e2e_latency, found.interface_rate, found.post_latency) == (
            203.598,
            245582,
            304.088,
            4.89115,
        )
        assert found.text() == GOLDEN

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (("latency: 245582", "latency: fast"), 1),
            (("[data read]", "[dataread]"), 2),
            (("216.18, ", "216.18 "), 3),
            (("Interface throughputRate", "interface throughputRate"), 4),
            (("\n[post] throughputRate: 204.451, moduleLatency: 4.89115", ""), 5),
            (("245582", "2-4e"), 1),
        ],
    )
    def test_a_malformed_line_is_told_with_its_number(self, tmp_path: Path, change: tuple[str, str], line: int) -> None:
        assert change[0] in GOLDEN
        (tmp_path / "perf.txt").write_text(GOLDEN.replace(*change))
        with pytest.raises(FormatError, match=rf"perf\.txt:{line}: expected `\["):
            RealDataPerformance.read(tmp_path / "perf.txt")

    def test_names(self) -> None:
        assert real_data_file(16, 1) == "perf_vision_batchsize_16_device_1.txt"
        assert real_data_file(16, 1).split("_")[3] == "16"
        assert pure_file(Path("a/cspresnext_bs4.om"), 0) == "PureInfer_perf_of_cspresnext_bs4_in_device_0.txt"

    def test_pure_inference(self, tmp_path: Path) -> None:
        (tmp_path / "pure.txt").write_text("ave_throughputRate = 440.606samples/s, ave_latency = 2.304ms\n")
        found = PureInference.read(tmp_path / "pure.txt")
        assert (found.rate, found.latency) == (440.606, 2.304)
        (tmp_path / "pure.txt").write_text("ave_throughputRate: 440\n")
        with pytest.raises(FormatError, match=r"pure\.txt:1: expected `ave_throughputRate = N"):
            PureInference.read(tmp_path / "pure.txt")

    def test_the_rate_is_the_mean_of_the_rounds_rates(self) -> None:
        found = PureInference.of((0.1, 0.4), batch_size=4)
        assert found.rate == pytest.approx((40 + 10) / 2)
        assert found.latency == pytest.approx(1000 * 0.25 / 4)


class TestDump:
    @pytest.mark.parametrize("suffix", [".txt", ".bin", ".npy"])
    @pytest.mark.parametrize("k", [0, 1])
    def test_every_value_reads_back(self, tmp_path: Path, suffix: str, k: int) -> None:
        extreme = np.array(
            [0, -0.0, 1, 0.1, -1e-30, 3.4e38, 1.1754944e-38, 1 / 3, 123456.78, 16777217], dtype=np.float32
        )
        write_scores(tmp_path, "a_b", k, extreme, suffix)
        np.testing.assert_array_equal(read_scores(tmp_path / f"a_b_{k}{suffix}"), extreme)
        predictions, classes = read_dump(tmp_path)
        assert (predictions.keys, classes, predictions.top[0, 0]) == (["a_b"], 10, 5)

    def test_golden_files(self, tmp_path: Path) -> None:
        (tmp_path / "ILSVRC2012_val_00000001_1.txt").write_text("0.25 0.5 -1e-05 \n1 3\n")
        (tmp_path / "ILSVRC2012_val_00000002_1.bin").write_bytes(bytes.fromhex("0000803f 00000040 00000000"))
        predictions, classes = read_dump(tmp_path)
        assert classes == 3
        assert [list(row) for row in predictions.top] == [[1, 0, 2, -1, -1], [1, 0, 2, -1, -1]]

    def test_other_outputs_are_left_alone(self, tmp_path: Path) -> None:
        write_scores(tmp_path, "a", 1, np.float32([1, 2]), ".txt")
        write_scores(tmp_path, "a", 2, np.float32([1, 2, 3, 4]), ".txt")
        assert read_dump(tmp_path)[1] == 2

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("x_1.txt", b"1 2 three\n", r"x_1\.txt:1: expected scores separated by single spaces, got 'three'"),
            ("x_1.txt", b"", r"x_1\.txt: holds no scores"),
            ("x_1.bin", b"12345", r"x_1\.bin: holds 5 bytes, which is no number of float32"),
            ("x_0.npy", b"no array", r"x_0\.npy: cannot be read as a NumPy array"),
        ],
    )
    def test_malformed(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=message):
            read_dump(tmp_path)

    def test_contradictions(self, tmp_path: Path) -> None:
        write_scores(tmp_path, "a", 1, np.float32([1, 2]), ".txt")
        write_scores(tmp_path, "a", 1, np.float32([1, 2]), ".bin")
        with pytest.raises(DataError, match=r"a_1\.bin and a_1\.txt are of the same image; remove the stale one"):
            read_dump(tmp_path)
        (tmp_path / "a_1.bin").unlink()
        write_scores(tmp_path, "b", 1, np.float32([1, 2, 3]), ".txt")
        with pytest.raises(DataError, match=r"b_1\.txt: holds 3 scores, the others 2"):
            read_dump(tmp_path)

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"holds no score files named STEM_K\.txt"):
            read_dump(tmp_path)
        with pytest.raises(DataError, match="no such directory of score files"):
            read_dump(tmp_path / "none")


class TestEvaluateDump:
    def test_counts_like_the_guide(self, tmp_path: Path) -> None:
        for number in range(4):
            write_scores(tmp_path, f"i{number}", 1, np.eye(6, dtype=np.float32)[number], ".txt")
        (tmp_path / "labels").write_text("i0.JPEG 0\ni1.JPEG 1\ni2.JPEG 0\ni9.JPEG 5\n")
        found = evaluate(tmp_path, tmp_path / "labels", tmp_path / "result.json")
        assert (found.images, found.classes, found.missing, found.extra) == (4, 6, 1, 1)
        assert found.hits[0] == 2
        assert json.loads((tmp_path / "result.json").read_text())["value"][2]["value"] == "50.0%"

    def test_scores_that_are_not_finite_are_wrong(self, tmp_path: Path) -> None:
        write_scores(tmp_path, "a", 1, np.float32([np.nan, 1]), ".bin")
        (tmp_path / "labels").write_text("a 1\n")
        found = evaluate_dump(tmp_path, tmp_path / "labels")
        assert (found.failed, found.hits[0]) == (1, 0)

    def test_a_model_of_1001_classes_moves_labels_up_and_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        import logging

        logging.getLogger("modelport").propagate = True
        scores = np.zeros(1001, np.float32)
        scores[66] = 1
        write_scores(tmp_path, "ILSVRC2012_val_00000001", 1, scores, ".npy")
        (tmp_path / "labels").write_text("ILSVRC2012_val_00000001.JPEG 65\n")
        assert evaluate_dump(tmp_path, tmp_path / "labels").hits[0] == 1
        assert "every label moved up by one" in caplog.text

    def test_json_labels(self, tmp_path: Path) -> None:
        (tmp_path / "l").mkdir()
        (tmp_path / "l" / "a.json").write_text('{"image": {"annotations": [{"category_id": 7}]}}')
        assert read_labels(tmp_path / "l") == {"a": 7}
        (tmp_path / "l" / "b.json").write_text('{"image": {"annotations": []}}')
        with pytest.raises(FormatError, match=r"b\.json: expected image\.annotations\[0\]\.category_id"):
            read_labels(tmp_path / "l")
        (tmp_path / "l" / "b.json").write_text('{"image": {"annotations": [{"category_id": "7"}]}}')
        with pytest.raises(FormatError, match="is '7', expected a class from 0"):
            read_labels(tmp_path / "l")


class TestPrepareAndInfo:
    def pictures(self, folder: Path) -> Path:
        (folder / "pictures").mkdir()
        rng = np.random.default_rng(0)
        for name, (width, height) in {"b.jpg": (20, 30), "a.JPEG": (40, 10)}.items():
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / "pictures" / name)
        return folder / "pictures"

    def test_jpg_list_has_each_images_own_size(self, tmp_path: Path) -> None:
        pictures = self.pictures(tmp_path)
        assert write_jpg_info(pictures, tmp_path / "jpg.info") == 2
        assert (tmp_path / "jpg.info").read_text() == f"0 {pictures}/a.JPEG 40 10\n1 {pictures}/b.jpg 20 30\n"
        assert [sample.key for sample in open_source(tmp_path / "jpg.info")] == ["a.JPEG", "b.jpg"]

    def test_prepared_files_hold_what_the_decoder_gives(self, tmp_path: Path) -> None:
        from modelport.data.decode import Decoder

        pictures = self.pictures(tmp_path)
        assert write_prepared(pictures, tmp_path / "prep", SMALL) == 2
        for sample in open_source(pictures):
            expected = np.empty(SMALL.input_size, np.float32)
            Decoder(SMALL)(sample, sample.read(), expected)
            written = np.fromfile(tmp_path / "prep" / f"{sample.origin.stem}.bin", "<f4").reshape(SMALL.input_size)
            np.testing.assert_array_equal(written, expected)
        assert write_bin_info(tmp_path / "prep", tmp_path / "bin.info", 6, 8) == 2

    def test_running_again_replaces_only_its_own(self, tmp_path: Path) -> None:
        pictures = self.pictures(tmp_path)
        write_prepared(pictures, tmp_path / "prep", SMALL)
        (tmp_path / "prep" / "stale.bin").write_bytes(b"")
        write_prepared(pictures, tmp_path / "prep", SMALL)
        assert not (tmp_path / "prep" / "stale.bin").exists()
        with pytest.raises(OutputError, match="holds other files"):
            write_prepared(pictures, pictures, SMALL)

    def test_one_bad_image_means_none_is_written(self, tmp_path: Path) -> None:
        pictures = self.pictures(tmp_path)
        (pictures / "c.png").write_text("words")
        with pytest.raises(
            DataError, match=r"1 of 3 images cannot be prepared, none was written; the first: .*c\.png: is not an image"
        ):
            write_prepared(pictures, tmp_path / "prep", SMALL)
        assert not (tmp_path / "prep").exists()

    def test_folders_that_would_share_a_name(self, tmp_path: Path) -> None:
        for label in ("cat", "dog"):
            (tmp_path / "classes" / label).mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "classes" / label / "1.png")
        with pytest.raises(DataError, match=r"'cat/1\.png' and 'dog/1\.png' would both become 1\.bin"):
            write_prepared(tmp_path / "classes", tmp_path / "prep", SMALL)

    def test_a_damaged_jpeg_is_named(self, tmp_path: Path) -> None:
        pictures = self.pictures(tmp_path)
        (pictures / "a.JPEG").write_bytes(b"")
        with pytest.raises(DataError, match=r"a\.JPEG: the file is empty"):
            write_jpg_info(pictures, tmp_path / "x.info")
        assert not (tmp_path / "x.info").exists()
