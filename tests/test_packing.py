"""`pack`: the same images under the same names, the same bytes whatever kills it, and results equal to the folder's."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from modelport.cli import cli
from modelport.data.parts import DIRECTORY
from modelport.data.source import Source, open_source, stream_source
from modelport.data.sources.index import MEMBERS, MEMBERS_FILE, Index, Shard
from modelport.engines.session import SessionOptions
from modelport.errors import DataError, FormatError, OutputError
from modelport.inference import infer
from modelport.packing import PackOptions, pack
from modelport.pipeline import PipelineOptions
from modelport.quantize import QuantizeOptions, quantize
from modelport.spec import Preprocess
from modelport.work import InferOptions

COUNT = 60
ONE_STREAM = InferOptions(session=SessionOptions(streams=1), pipeline=PipelineOptions(keep_scores=True))
FAILING = InferOptions(
    session=SessionOptions(streams=1), pipeline=PipelineOptions(count_bad_images=False, keep_scores=True)
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise, of sizes that have to be resized, one of them damaged."""
    folder, rng = tmp_path_factory.mktemp("pack") / "images", np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / f"c{number % 3}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(rng.integers(20, 40)), int(rng.integers(20, 40)), 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module", params=["tar", "parquet"])
def shards(request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / request.param
    pack(pictures, output, options=PackOptions(kind=request.param, shard_images=25))
    return output


@pytest.fixture
def copied_shards(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "shards"))


def told(source: Source) -> list[tuple[str, int | None, bytes]]:
    return [(sample.key, sample.label, sample.read()) for sample in source]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows_of(output: Path) -> list[dict]:
    return pq.read_table(output / "predictions.parquet").to_pylist()


def test_what_is_packed_is_what_was_there(shards, pictures):
    expected = told(open_source(pictures))
    assert told(open_source(shards)) == expected
    assert [image for piece in stream_source(shards, 7) for image in told(piece)] == expected
    assert [sample.sha256 for sample in open_source(shards)] == [s.content() for s in open_source(pictures)]


def test_shards_need_no_index(shards, pictures):
    (pattern,) = {f"*{path.suffix}" for path in shards.iterdir() if path.suffix in (".tar", ".parquet")}
    assert told(open_source(shards / pattern)) == told(open_source(pictures))


def test_the_same_images_make_the_same_bytes(shards, pictures, tmp_path):
    index = Index.read(shards / "index.json")
    pack(pictures, tmp_path / "again", options=PackOptions(kind=index.kind, shard_images=25))
    assert files_of(tmp_path / "again") == files_of(shards)
    assert [shard.images for shard in index.shards] == [25, 25, 10]


def test_a_shard_is_full_by_bytes_too(pictures, tmp_path):
    index = pack(pictures, tmp_path / "out", options=PackOptions(shard_bytes=20_000))
    sizes = [sample.origin.stat().st_size for sample in open_source(pictures)]
    first = index.shards[0].images
    assert sum(sizes[: first - 1]) < 20_000 <= sum(sizes[:first])
    assert told(open_source(tmp_path / "out")) == told(open_source(pictures))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves the file open
def test_others_read_our_tars(pictures, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(pictures, tmp_path / "out", options=PackOptions(shard_images=100))
    theirs = list(webdataset.WebDataset(str(tmp_path / "out" / "000000.tar"), shardshuffle=False))
    assert [(f"{s['__key__']}.png", int(s["cls"]), s["png"]) for s in theirs] == told(open_source(pictures))


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_of_shards(shards, pictures, tmp_path, kind):
    pack(shards, tmp_path / "out", options=PackOptions(kind=kind))
    assert told(open_source(tmp_path / "out")) == told(open_source(pictures))


def test_results_equal_the_folders_row_by_row(shards, pictures, compiled, tmp_path):
    model = compiled("onnxruntime", 8)
    infer(model, pictures, tmp_path / "folder", options=ONE_STREAM)
    infer(model, shards, tmp_path / "shards", options=ONE_STREAM)
    assert (tmp_path / "shards" / "predictions.parquet").read_bytes() == (
        tmp_path / "folder" / "predictions.parquet"
    ).read_bytes()


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_pixels_give_the_same_results(pictures, compiled, tmp_path, kind):
    model = compiled("onnxruntime", 8)
    index = pack(pictures, tmp_path / "pixels", options=PackOptions(kind=kind, pixels=models.PREPROCESS))
    assert index.pixels == models.PREPROCESS.pixels_digest
    assert {len(sample.read()) for sample in open_source(tmp_path / "pixels")} == {int(np.prod(models.SIZE))}

    infer(model, pictures, tmp_path / "folder", options=ONE_STREAM)
    infer(model, tmp_path / "pixels", tmp_path / "out", options=ONE_STREAM)

    ours, theirs = rows_of(tmp_path / "out"), rows_of(tmp_path / "folder")
    assert [row | {"sha256": None} for row in ours] == [row | {"sha256": None} for row in theirs]


def test_pixels_of_another_preprocessing_are_refused_at_once(pictures, compiled, tmp_path):
    other = Preprocess(input_size=models.SIZE, crop_pct=0.9)
    pack(pictures, tmp_path / "pixels", options=PackOptions(pixels=other))
    with pytest.raises(DataError, match=r"made with another preprocessing \(digest .*; pack with the model's"):
        infer(compiled("null", 8), tmp_path / "pixels", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_that_the_model_has_not_is_told_before_it_runs(pictures, compiled, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("c0/003.png 999999999\n")
    pack(pictures, tmp_path / "shards", labels=labels)
    with pytest.raises(DataError, match=r"/shards: 'c0/003\.png' has label 999999999, the model has classes 0 to"):
        infer(compiled("null", 8), tmp_path / "shards", tmp_path / "out")


def test_mean_std_and_channel_order_come_after_the_pixels():
    other = models.PREPROCESS.model_copy(update={"mean": (0.0, 0.0, 0.0), "color_order": "BGR"})
    assert other.pixels_digest == models.PREPROCESS.pixels_digest


def break_missing(shard: Path) -> None:
    shard.unlink()


def break_short(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-700])


def break_bytes(shard: Path) -> None:
    """Turn over a bit in each image, and leave the size."""
    data = bytearray(shard.read_bytes())
    at = 0
    while (at := data.find(b"IDAT", at)) >= 0:
        data[at + 8] ^= 1
        at += 1
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (break_missing, r"000002\.\w+: this shard is missing"),
        (break_short, r"000002\.\w+: has [\d,]+ bytes, its index lists [\d,]+: it was cut off or changed"),
        (break_bytes, r"000002\.\w+: c2/\d+\.png: is not what its index lists .*--on-bad-image count"),
    ],
)
def test_a_broken_shard_is_told_what_is_done_is_kept_and_the_run_goes_on(
    copied_shards, compiled, tmp_path, monkeypatch, breaks, message
):
    monkeypatch.setattr("modelport.executor._COMMIT_IMAGES", 8)
    model, out = compiled("onnxruntime", 8), tmp_path / "out"
    infer(model, copied_shards, tmp_path / "whole", options=FAILING)
    (shard,) = copied_shards.glob("000002.*")
    good, stamp = shard.read_bytes(), shard.stat()
    break_bytes(shard)
    with pytest.raises(DataError):
        infer(model, copied_shards, out, options=FAILING)  # does what comes before, and ends there
    parts = files_of(out / DIRECTORY)
    assert sum(name.endswith(".parquet") for name in parts) >= 3
    shard.write_bytes(good)

    breaks(shard)
    with pytest.raises(DataError, match=message):
        infer(model, copied_shards, out, options=FAILING)
    assert parts.items() <= {**files_of(out / DIRECTORY), "journal.jsonl": parts["journal.jsonl"]}.items()

    shard.write_bytes(good)
    os.utime(shard, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    result = infer(model, copied_shards, out, options=FAILING)
    assert result.kept >= 24
    assert (out / "predictions.parquet").read_bytes() == (tmp_path / "whole" / "predictions.parquet").read_bytes()


def test_an_index_that_lists_other_images_than_its_members(copied_shards):
    index = json.loads((copied_shards / "index.json").read_text())
    (copied_shards / "index.json").write_text(json.dumps(index | {"images": 61}))
    with pytest.raises(Exception, match=rf"{MEMBERS_FILE}: lists 60 images, index\.json 61; pack again"):
        open_source(copied_shards)


def test_an_index_cannot_lead_out_of_its_folder(copied_shards, tmp_path):
    index = json.loads((copied_shards / "index.json").read_text())
    outside = tmp_path / "outside.tar"
    outside.write_bytes(bytes(index["shards"][0]["bytes"]))
    index["shards"][0]["name"] = "../outside.tar"
    (copied_shards / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"\.\./outside\.tar: this shard is missing"):
        open_source(copied_shards)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shard": 7}, rf"{MEMBERS_FILE}: 'c0/000\.png' is in shard 7, the index lists \d; pack again"),
        ({"shard": -1}, r"is in shard -1"),
        ({"size": 1 << 40}, r"cannot be read: has 1,099,511,627,776 bytes, more than|^$"),
        ({"group": 99}, r"has no row group 99|^$"),
        ({"offset": -5}, r"cannot be read: |^$"),
    ],
)
def test_members_that_point_to_nothing(copied_shards, change, message):
    table = pq.read_table(copied_shards / MEMBERS_FILE)
    rows = table.to_pylist()
    rows[0] |= change
    pq.write_table(pa.Table.from_pylist(rows, table.schema), copied_shards / MEMBERS_FILE)
    try:
        next(iter(open_source(copied_shards))).read()
        found = ""  # a kind of shard that has no use for this column
    except (DataError, FormatError) as error:
        found = str(error)
    assert re.search(message, found), found


def test_members_with_other_columns(copied_shards):
    pq.write_table(pa.table({"key": ["a"] * 60}), copied_shards / MEMBERS_FILE)
    with pytest.raises(FormatError, match=rf"{MEMBERS_FILE}: its columns are not those that `modelport pack` writes"):
        open_source(copied_shards)


def test_shards_calibrate_as_their_folder_does(shards, pictures, tiny_onnx, tmp_path):
    pytest.importorskip("onnxruntime")
    made = []
    for number, images in enumerate([pictures, shards]):
        options = QuantizeOptions(tool="onnxruntime", samples=40)
        record = quantize(tiny_onnx, images, tmp_path / f"{number}.onnx", options=options)
        made.append((record.calibration.digest, record.seen))
    assert made[0] == made[1]


def test_existing_output(pictures, shards, copied_shards, tmp_path):
    before = files_of(copied_shards)
    with pytest.raises(OutputError, match="exists already"):
        pack(pictures, copied_shards)
    with pytest.raises(OutputError, match="holds other files"):
        pack(pictures, pictures, force=True)
    assert files_of(copied_shards) == before
    pack(pictures, copied_shards, options=PackOptions(shard_images=30), force=True)
    assert len(Index.read(copied_shards / "index.json").shards) == 2
    assert not list(tmp_path.glob(".*packing"))


def test_an_image_that_is_none_ends_pixels_and_is_named(pictures, tmp_path):
    folder = Path(shutil.copytree(pictures, tmp_path / "images"))
    (folder / "c1" / "031.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"c1/031\.png: is not an image .*; take it out of the images, or replace it"):
        pack(folder, tmp_path / "out", options=PackOptions(pixels=models.PREPROCESS))
    assert not (tmp_path / "out").exists()
    pack(folder, tmp_path / "files")  # files are copied as they are
    assert told(open_source(tmp_path / "files")) == told(open_source(folder))


def test_killed_at_any_instant_ends_with_the_same_bytes(pictures, tmp_path):
    words = [sys.executable, "-m", "modelport", "pack", str(pictures), "--shard-images", "4", "-o"]
    subprocess.run([*words, str(tmp_path / "whole")], check=True, capture_output=True)
    dice, kills = random.Random(5), 0
    while kills < 6 and not (tmp_path / "out").exists():
        process = subprocess.Popen(
            [*words, str(tmp_path / "out")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(dice.uniform(0.6, 1.6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    if not (tmp_path / "out").exists():
        subprocess.run([*words, str(tmp_path / "out")], check=True, capture_output=True)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_what_is_complete_is_kept(pictures, tmp_path, caplog, monkeypatch):
    """An image that vanishes ends the packing; with it back, the shards before it are not written again."""
    folder = Path(shutil.copytree(pictures, tmp_path / "images"))
    source = open_source(folder)
    gone = folder / "c2" / "059.png"
    data, stamp = gone.read_bytes(), gone.stat()
    gone.unlink()
    with pytest.raises(DataError, match=r"059\.png: cannot be read: No such file"):
        pack(source, tmp_path / "out", options=PackOptions(shard_images=25))
    gone.write_bytes(data)
    os.utime(gone, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    pack(folder, tmp_path / "again", options=PackOptions(shard_images=25))
    home = tmp_path / ".out.packing"
    assert {path.name for path in home.glob("*.tar")} == {"000000.tar", "000001.tar"}


def test_the_command_line(pictures, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"c{n % 3}/{n:03}.png {n}\n" for n in range(COUNT)))
    words = ["pack", str(pictures), "--labels", str(labels), "--format", "parquet", "-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(cli, [*words, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["images"] == COUNT
    assert [(s.key, s.label) for s in open_source(tmp_path / "out")][:2] == [("c0/000.png", 0), ("c0/003.png", 3)]
    assert CliRunner().invoke(cli, [*words, "--force", "--pixels"]).exit_code == 2
    assert CliRunner().invoke(cli, [*words, "--force", "--pixels", "--input-size", "16"]).exit_code == 0


STREAMED = """
import json, resource, sys
from modelport.data.source import stream_source
next(stream_source(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = sum(len(piece) for piece in stream_source(sys.argv[1]))
print(json.dumps([images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def test_a_stream_of_an_index_takes_no_more_memory_however_long_it_is(tmp_path):
    count = 300_000
    with open(tmp_path / "000000.tar", "wb") as shard:
        shard.truncate(count * 1024)
    columns = {
        "key": np.char.mod("%09d.JPEG", np.arange(count)), "label": np.zeros(count, np.int64),
        "shard": np.zeros(count, np.int32), "name": np.char.mod("%09d.JPEG", np.arange(count)),
        "group": np.zeros(count, np.int32), "offset": 1024 * np.arange(count), "size": np.full(count, 512),
    }  # fmt: skip
    digest = pa.array([bytes(32)] * count, pa.binary(32))
    table = pa.table({**{name: pa.array(column) for name, column in columns.items()}, "sha256": digest})
    pq.write_table(table.cast(MEMBERS), tmp_path / MEMBERS_FILE, row_group_size=4096)
    shards = (Shard(name="000000.tar", bytes=count * 1024, sha256="", images=count),)
    Index(kind="tar", images=count, shards=shards).write(tmp_path / "index.json")

    child = subprocess.run([sys.executable, "-c", STREAMED, tmp_path], capture_output=True, text=True, check=True)

    images, grown_kb = json.loads(child.stdout)
    assert images == count
    assert grown_kb < 30_000  # as samples they take some 150 MB


def test_the_command_line_takes_patterns_and_urls(pictures, shards, compiled, tmp_path):
    model, found = compiled("null", 8).path, []
    (suffix,) = {path.suffix for path in shards.iterdir() if path.suffix in (".tar", ".parquet")}
    for number, images in enumerate([pictures, f"{shards}/{{000000..000002}}{suffix}", shards.as_uri()]):
        words = ["infer", str(model), "--images", str(images), "-o", str(tmp_path / str(number))]
        shown = CliRunner().invoke(cli, words)
        assert shown.exit_code == 0, shown.output
        found.append((tmp_path / str(number) / "predictions.parquet").read_bytes())
    assert found[0] == found[1] == found[2]
    assert CliRunner().invoke(cli, ["evaluate", str(tmp_path / "2")]).exit_code == 0
