"""`--on ray` gives what one process gives, and says in a line what it cannot work with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
import yaml
from commands import modelport, start
from flat_images import write_images
from PIL import Image
from places import ROOT

from modelport import __version__
from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data.parts import DIRECTORY, JOURNAL, open_parts
from modelport.data.predictions import Prediction, schema
from modelport.data.source import open_source
from modelport.engines.null import FAULT
from modelport.errors import FormatError
from modelport.inference import infer
from modelport.pipeline import PipelineOptions
from modelport.results import InferResult
from modelport.work import InferOptions

pytest.importorskip("ray", reason="Ray is not installed: pip install 'modelport[ray]'")
COUNT, BATCH = 300, 8


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_images(tmp_path_factory.mktemp("ray") / "images", COUNT)
    (folder / "0077.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def null(compiled) -> Path:
    return compiled("null", BATCH).path


def predictions(out: Path) -> bytes:
    return (out / PREDICTIONS_FILE).read_bytes()


class TestOnThisMachine:
    """Without an address: a cluster for the run."""

    def test_the_bytes_are_those_of_one_process(self, compiled, images, tmp_path):
        require_the_same_bytes(compiled("openvino", BATCH).path, images, tmp_path)
        result = InferResult.read(tmp_path / "ray" / INFER_FILE)
        assert (result.images, result.failures, result.cluster) == (COUNT, 1, "1 actor on 1 node")
        assert sum(device.images for device in result.by_device) == COUNT
        assert {stage.name: stage.images for stage in result.stages} == dict.fromkeys(
            ("read", "decode", "batch", "infer", "post"), COUNT
        )

    def test_what_fails_in_an_actor_is_told_in_a_line_and_the_run_goes_on_here(self, null, images, tmp_path):
        out = tmp_path / "out"
        words = "infer", null, "--images", images, "-o", out
        told = modelport(*words, "--on", "ray", code=1, **{FAULT: "infer-raise:30"})
        assert "the null engine failed" in told
        assert " pid " in told  # and where
        kept = sum(json.loads(line)["images"] for line in (out / JOURNAL).read_text().splitlines()[1:])
        assert 0 < kept < COUNT

        assert f"{kept} of {COUNT} images are done already" in modelport(*words)
        infer(null, images, tmp_path / "whole")
        assert predictions(out) == predictions(tmp_path / "whole")

    def test_a_shard_that_kills_every_worker_ends_it(self, null, images, tmp_path):
        words = "infer", null, "--images", images, "-o", tmp_path / "out", "--on", "ray"
        told = modelport(*words, code=1, **{FAULT: "infer-signal:3"})
        assert "the Ray cluster gave up 3 times with nothing done in between" in told
        assert "what was done is kept: the same command goes on there" in told

    def test_an_isolated_engine_that_dies_costs_its_image_and_no_worker(self, null, images, tmp_path):
        white = tmp_path / "images"
        shutil.copytree(images, white)
        _, height, width = models.SIZE
        Image.new("RGB", (width, height), "white").save(white / "0100.png")
        words = "infer", null, "--images", white, "-o", tmp_path / "out", "--on", "ray", "--isolate"
        modelport(*words, **{FAULT: "infer-signal:>2.2"})
        result = InferResult.read(tmp_path / "out" / INFER_FILE)
        reasons = {bad.key: bad.reason for bad in result.bad_images}
        assert list(reasons) == ["0077.png", "0100.png"]
        assert reasons["0100.png"] == "the engine dies on it (SIGSEGV)"
        assert result.isolated
        assert result.restarts

    def test_a_signal_ends_it_at_a_shard(self, null, images, tmp_path):
        words = "infer", null, "--images", images, "--on", "ray", "-o", tmp_path / "out"
        process = start(*words, **{FAULT: "infer-slow:200"})
        while (
            not (tmp_path / "out" / JOURNAL).is_file()
            or len((tmp_path / "out" / JOURNAL).read_bytes().splitlines()) < 2
        ):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
        assert f"of {COUNT} images are done and kept in {tmp_path / 'out'}: the same command goes on there" in told


def require_the_same_bytes(model: Path, images: Path, folder: Path, *words: object) -> None:
    """Run `folder`/here in one process and `folder`/ray on Ray, with labels and all scores."""
    (folder / "labels.txt").write_text("".join(f"{n:04}.png {n % models.CLASSES}\n" for n in range(COUNT)))
    # a relative path, which actors have to find too
    common = "infer", model, "--images", images.name, "--labels", folder / "labels.txt", "--scores", "-o"
    modelport(*common, folder / "here", cwd=images.parent)
    modelport(*common, folder / "ray", "--on", "ray", *words, cwd=images.parent)
    assert predictions(folder / "ray") == predictions(folder / "here")


class TestOnSeveralNodes:
    def test_the_bytes_are_those_of_one_process(self, compiled, images, tmp_path, cluster):
        require_the_same_bytes(compiled("onnxruntime", BATCH).path, images, tmp_path, "--address", cluster.address)
        result = InferResult.read(tmp_path / "ray" / INFER_FILE)
        assert sum(device.images for device in result.by_device) == COUNT

    def test_ranges_of_a_tar_travel_as_paths_do(self, null, images, tmp_path, cluster):
        with tarfile.open(tmp_path / "shard.tar", "w") as tar:
            for file in sorted(images.iterdir()):
                tar.add(file, file.name)
        require_the_same_bytes(null, tmp_path / "shard.tar", tmp_path, "--address", cluster.address)
        assert InferResult.read(tmp_path / "ray" / INFER_FILE).failures == 1

    def test_a_bad_image_ends_it_where_it_is_to(self, null, images, tmp_path, cluster):
        words = "infer", null, "--images", images, "--on-bad-image", "fail", "-o", tmp_path / "out"
        told = modelport(*words, "--on", "ray", "--address", cluster.address, code=1)
        assert "0077.png: is not an image that Pillow can read" in told

    def test_a_jobs_real_data_run_too(self, tiny_onnx, images, tmp_path, cluster):
        recipe = {
            "name": "spread",
            "model": {"onnx": str(tiny_onnx)},
            "data": {"images": str(images)},
            "targets": [{"engine": "null"}],
            "accuracy": {"batch_size": BATCH, "against_source": False},
            "performance": {"batch_sizes": [1], "rounds": 1, "warmup": 0},
        }
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(recipe))
        modelport("run", tmp_path / "job.yaml", "--out", tmp_path / "out", "--on", "ray", "--address", cluster.address)
        home = tmp_path / "out" / "null-f32"
        assert InferResult.read(home / "predictions" / INFER_FILE).cluster is not None
        options = InferOptions(pipeline=PipelineOptions(keep_scores=True))
        infer(home / f"batch-{BATCH}", images, tmp_path / "here", options=options)
        assert predictions(home / "predictions") == predictions(tmp_path / "here")


class TestBadInput:
    def test_an_absent_address(self, null, images, tmp_path):
        words = "infer", null, "--images", images, "-o", tmp_path / "out", "--on", "ray", "--address"
        assert "no Ray cluster answers at 127.0.0.1:9" in modelport(*words, "127.0.0.1:9", code=1)
        told = modelport(*words, "ray://somewhere:10001", code=1)
        assert "'ray://somewhere:10001' is no address of a Ray cluster: expected host:port" in told
        assert not (tmp_path / "out").exists()

    def test_cluster_options_without_a_cluster(self, null, images, tmp_path):
        words = "infer", null, "--images", images, "-o", tmp_path / "out", "--actors", 2
        assert "--actors is for --on ray" in modelport(*words, code=2)

    def test_without_ray(self, null, images, tmp_path):
        code = "import sys; sys.modules['ray'] = None; from modelport.cli import main; main()"
        words = "infer", null, "--images", images, "-o", tmp_path / "out", "--on", "ray"
        done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 1
        assert "pip install 'modelport[ray]'" in done.stderr

    def test_more_actors_than_fit(self, null, images, tmp_path, cluster):
        words = "infer", null, "--images", images, "-o", tmp_path / "out", "--on", "ray", "--actors", 999
        told = modelport(*words, "--address", cluster.address, code=1)
        assert "has room for 2 actors" in told
        assert "999 were asked for" in told

    @pytest.mark.parametrize(
        ("stub", "message"),
        [
            (
                'raise ModuleNotFoundError("No module named \'modelport\'", name="modelport")',
                "does not have modelport: pip",
            ),
            ("0.0.9", f"has modelport 0.0.9 (here {__version__}): predictions could differ; install the same"),
        ],
        ids=["without the package", "with another version"],
    )
    def test_a_node_that_is_not_fit_is_named_and_what_is_done_stays(
        self, cluster, null, images, tmp_path, monkeypatch, stub, message
    ):
        """An earlier run's parts are there; the cluster is refused; this machine goes on."""
        out = tmp_path / "out"
        words = "infer", null, "--images", images, "-o", out
        modelport(*words, code=1, **{FAULT: "infer-raise:30"})
        before = (out / JOURNAL).read_bytes()
        package = tmp_path / "node" / "modelport"
        if stub.startswith("raise"):
            package.mkdir(parents=True)
            (package / "__init__.py").write_text(stub)
        else:
            shutil.copytree(ROOT / "src" / "modelport", package, ignore=shutil.ignore_patterns("__pycache__"))
            text = (package / "__init__.py").read_text()
            (package / "__init__.py").write_text(text.replace(f'"{__version__}"', f'"{stub}"'))
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        node = cluster.add_node(num_cpus=1)
        monkeypatch.undo()

        try:
            assert message in modelport(*words, "--on", "ray", "--address", cluster.address, code=1)
        finally:
            cluster.remove_node(node)
            cluster.wait_for_nodes()
        assert (out / JOURNAL).read_bytes() == before
        modelport(*words)
        infer(null, images, tmp_path / "whole")
        assert predictions(out) == predictions(tmp_path / "whole")


def test_a_part_that_has_gone_is_told_and_done_again(compiled, images, tmp_path):
    source, out = open_source(images).limited(2), tmp_path / "out"
    columns = schema(models.CLASSES, all_scores=False)
    with open_parts(out, {"model": "x"}, PREDICTIONS_FILE) as parts:
        rows = [Prediction(sample, np.zeros(1, "i4"), np.zeros(1, "f4"), None) for sample in source]
        parts.commit(0, rows, columns, 0.1)
        next((out / DIRECTORY).glob("*.parquet")).unlink()
        with pytest.raises(FormatError, match=r"cannot be read any more .*; run the same command again"):
            list(parts.tables(source))


class TestActor:
    """The far side, called here."""

    @pytest.fixture
    def shard(self, images):
        from modelport.cluster.shards import cut

        (found,) = cut(open_source(images).limited(BATCH), [range(BATCH)], BATCH, actors=1, most=1024)
        return found

    @pytest.fixture
    def assignment(self, null, tmp_path):
        from modelport import files
        from modelport.cluster.shards import Assignment
        from modelport.engines.session import SessionOptions
        from modelport.offline import MANIFEST
        from modelport.pipeline import PipelineOptions

        return Assignment(
            model=null,
            digest=files.digest(null / MANIFEST),
            session=SessionOptions(streams=1, threads=1),
            pipeline=PipelineOptions(),
            preprocessing="exact",
            parts=tmp_path,
            token="t0",
        )

    @staticmethod
    def run(assignment, shard):
        import pyarrow as pa

        from modelport.cluster.actor import ShardRunner

        (row,) = ShardRunner(assignment)(pa.table({"shard": [shard.pack()]})).to_pylist()
        return json.loads(row["outcome"]), row["part"]

    def test_it_writes_the_part_where_it_sees_the_drivers_directory(self, assignment, shard):
        assignment.proof.write_text("")
        outcome, part = self.run(assignment, shard)
        assert part is None
        assert outcome["images"] == BATCH
        assert assignment.part(0, BATCH).is_file()

    def test_it_sends_the_same_part_where_it_does_not(self, assignment, shard):
        outcome, part = self.run(assignment, shard)
        assert not assignment.part(0, BATCH).exists()
        assignment.proof.write_text("")
        assert self.run(assignment, shard)[0]["sha256"] == outcome["sha256"]
        assert assignment.part(0, BATCH).read_bytes() == part

    def test_another_model_on_its_node_is_refused(self, assignment, shard):
        outcome, _ = self.run(replace(assignment, digest="x"), shard)
        assert outcome["error"] == "InferenceError"
        assert "is another model here than on the driver" in outcome["message"]

    def test_images_that_its_node_does_not_see_are_no_bad_images(self, assignment, shard, images):
        from modelport.cluster.on_ray import _require_sight
        from modelport.cluster.shards import Outcome, Shard
        from modelport.errors import InferenceError

        away = [replace(sample, origin=Path("/nonexistent") / sample.origin.name) for sample in shard.source]
        outcome, _ = self.run(assignment, Shard(0, replace(shard.source, samples=tuple(away))))
        with pytest.raises(
            InferenceError, match=r"could read none of 8 images, such as .*0000\.png, which can be read here"
        ):
            _require_sight(Outcome.model_validate(outcome), open_source(images))


def test_shards_are_whole_batches_and_cover_the_holes(images):
    from modelport.cluster.shards import Shard, cut

    holes = [range(8, 48), range(64, 300)]
    shards = list(cut(open_source(images), holes, BATCH, actors=3, most=1024))
    places = [place for shard in shards for place in range(shard.start, shard.start + len(shard.source))]
    assert places == [place for hole in holes for place in hole]
    assert all(shard.start % BATCH == 0 for shard in shards)
    assert len(shards) >= 3 * 3
    assert Shard.unpack(shards[0].pack()) == shards[0]


def test_what_travels_is_what_arrives():
    from modelport.cluster.shards import Shard
    from modelport.data.source import Sample, Source
    from modelport.data.sources.parquet import Row
    from modelport.data.sources.place import Known, Remote
    from modelport.data.sources.tar import Member

    bucket, name = Remote("s3://b/1.parquet", Known(9, 10**18)), "\udcff é.png"
    samples = (
        Sample("a", Path("/images") / name, 3),
        Sample("b", Remote("s3://b/b.png"), sha256=bytes(range(32))),
        Sample("c", Member(Path("/c.tar"), name, 512, 9)),
        Sample("d", Row(bucket, "d.png", 1, 2), 0),
        Sample("e", Row(Path("/e.parquet"), "e.png", 1, 2, 3)),
    )
    arrived = Shard.unpack(Shard(8, Source("here", samples)).pack())
    assert arrived == Shard(8, Source("here", samples))
    assert arrived.source.samples[3].origin.stat() == Known(None, 10**18)  # without asking the store again


def test_what_travels_is_absolute(images, tmp_path, monkeypatch):
    from modelport.cluster.shards import cut
    from modelport.data.sources.tar import Member

    source = open_source(images).limited(2)
    first, second = source.samples
    relative = replace(first, origin=Path("a.png")), replace(second, origin=Member(Path("b.tar"), "b.png", 512, 9))
    monkeypatch.chdir(tmp_path)
    (shard,) = cut(replace(source, samples=relative), [range(2)], 2, actors=1, most=2)
    assert [str(sample.origin) for sample in shard.source] == [f"{tmp_path}/a.png", f"{tmp_path}/b.tar: b.png"]


def test_the_size_of_a_shard_is_bounded_in_whole_batches(images):
    from modelport.cluster.shards import cut

    assert {len(shard.source) for shard in cut(open_source(images), [range(64)], BATCH, actors=1, most=9)} == {
        2 * BATCH
    }
