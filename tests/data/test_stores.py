"""Images in object stores: a real S3-compatible server on loopback, fsspec's memory, and what is said where one cannot be read."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.data.source import Source, open_source, stream_source
from modelport.errors import DataError
from modelport.packing import PackOptions, pack

fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("default")  # those of the store's libraries are not ours


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("stores") / "images", np.random.default_rng(1)
    for number in range(12):
        path = folder / ("cat", "dog")[number % 2] / f"{number:02} ü.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def stored(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all there is: the folder, and its shards."""
    root = pictures.parent
    pack(pictures, root / "tars", options=PackOptions(shard_images=5))
    pack(pictures, root / "parquets", options=PackOptions(kind="parquet", shard_images=5))
    return root


@pytest.fixture(scope="module")
def endpoint(stored: Path) -> Iterator[str]:
    """A server with the tree in its bucket `data`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("data")
        for path in filter(Path.is_file, stored.rglob("*")):
            files.put_file(str(path), f"data/{path.relative_to(stored).as_posix()}")
        yield f"http://{host}:{port}"
        running.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def anew(endpoint: str) -> Iterator[None]:
    """No listing is remembered, before or after."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def told(source: Source) -> list[tuple[str, int | None, bytes]]:
    return [(sample.key, sample.label, sample.read()) for sample in source]


@pytest.mark.parametrize(
    "place",
    ["images", "tars", "parquets", "tars/index.json", "tars/*.tar", "tars/{000000..000002}.tar", "parquets/*.parquet"],
)
def test_all_that_is_in_a_bucket(pictures, anew, place):
    source = open_source(f"s3://data/{place}")
    assert told(source) == told(open_source(pictures))
    assert [s.content() for s in source] == [s.content() for s in open_source(pictures)]
    assert source.digest() == open_source(f"s3://data/{place}").digest()


def test_pieces_read_in_another_process(pictures, anew):
    (piece, *_) = stream_source("s3://data/tars", 4)
    code = "import pickle, sys; print(*[s.read().hex() for s in pickle.load(sys.stdin.buffer)])"
    child = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(piece), capture_output=True, check=True)
    assert child.stdout.split() == [s.read().hex().encode() for s in open_source(pictures).samples[:4]]


def test_a_list_of_urls(pictures, anew, tmp_path):
    images = list(open_source(pictures))
    (tmp_path / "a.txt").write_text("".join(f"s3://data/images/{sample.key}\n" for sample in images))
    assert [s.read() for s in open_source(tmp_path / "a.txt")] == [s.read() for s in images]


def test_a_plan_of_indexed_shards_reads_no_shard(anew, caplog):
    """What a plan asks the server for is a listing and the index, however large and many the shards are."""

    def asked(place: str) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "werkzeug"):
            assert len(open_source(place)) == 12
        return " ".join(record.getMessage() for record in caplog.records if record.name == "werkzeug")

    assert "000000.tar" in asked("s3://data/tars/*.tar")
    assert "members.pq" in asked("s3://data/tars")
    assert ".tar" not in asked("s3://data/tars")


def test_a_digest_asks_once_for_a_shard(anew, caplog):
    source = open_source("s3://data/tars/{000000..000002}.tar")
    with caplog.at_level(logging.INFO, "werkzeug"):
        caplog.clear()
        source.digest()
    assert [record for record in caplog.records if record.name == "werkzeug"] == []


def test_results_equal_the_folders(pictures, anew, compiled, tmp_path):
    from modelport.inference import infer

    model = compiled("null", 8)
    infer(model, pictures, tmp_path / "folder")
    infer(model, "s3://data/tars", tmp_path / "tars")
    assert (tmp_path / "tars" / "predictions.parquet").read_bytes() == (
        tmp_path / "folder" / "predictions.parquet"
    ).read_bytes()


class TestRefusals:
    def test_no_such_bucket(self, anew):
        with pytest.raises(DataError, match=r"^s3://absent/images: no such file or folder"):
            open_source("s3://absent/images")

    def test_no_such_object(self, anew):
        with pytest.raises(DataError, match=r"^s3://data/tars/9\.tar: this shard is missing"):
            open_source("s3://data/tars/9.tar")

    def test_no_credentials(self, anew, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(DataError, match=r"^s3://data/images: cannot be read: .*(credentials|Forbidden|denied)"):
            open_source("s3://data/images")

    def test_no_server(self, anew, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(DataError, match=r"^s3://data/images: cannot be read: .*127\.0\.0\.1:9"):
            open_source("s3://data/images")

    def test_an_image_that_is_taken_away_is_counted(self, anew, compiled, tmp_path):
        from modelport.inference import infer

        s3fs.S3FileSystem().pipe_file("data/few/a.png", b"no image")
        s3fs.S3FileSystem().pipe_file("data/few/b.png", b"no image")
        source = open_source("s3://data/few")
        s3fs.S3FileSystem().rm_file("data/few/a.png")
        result = infer(compiled("null", 8), source, tmp_path / "out")
        assert [bad.reason.partition(":")[0] for bad in result.bad_images] == [
            "cannot be read",
            "is not an image that Pillow can read (begins with b'no image')",
        ]

    def test_a_shard_cut_off_in_the_store(self, stored, anew):
        data = (stored / "tars" / "000001.tar").read_bytes()
        files = s3fs.S3FileSystem()
        for name in ("000000.tar", "000002.tar", "index.json", "members.pq"):
            files.put_file(str(stored / "tars" / name), f"data/cut/{name}")
        files.pipe_file("data/cut/000001.tar", data[:2000])
        with pytest.raises(DataError, match=r"^s3://data/cut/000001\.tar: has 2,000 bytes, its index lists"):
            open_source("s3://data/cut")
        with pytest.raises(DataError, match=r"^s3://data/cut/000001\.tar: is no whole tar"):
            open_source("s3://data/cut/*.tar")

    def test_a_kind_of_store_that_is_unknown(self):
        with pytest.raises(
            DataError, match=r"^nonsense://a/b: cannot be read: ValueError: Protocol not known: nonsense"
        ):
            open_source("nonsense://a/b")

    def test_a_store_whose_package_is_missing_says_what_to_install(self):
        code = (
            "import sys; sys.modules['s3fs'] = None\n"
            "from modelport.data.source import open_source\nfrom modelport.errors import DataError\n"
            "try: open_source('s3://data/images')\nexcept DataError as error: print(error)"
        )
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert child.stdout.strip().endswith("pip install 'modelport[s3]'`")
        assert child.stdout.count("\n") == 1


def test_fsspecs_memory(pictures, stored):
    memory = fsspec.filesystem("memory")
    for path in filter(Path.is_file, stored.rglob("*")):
        memory.pipe_file(f"/kept/{path.relative_to(stored).as_posix()}", path.read_bytes())
    for place in ("images", "tars", "parquets", "tars/*.tar"):
        assert told(open_source(f"memory://kept/{place}")) == told(open_source(pictures))
    assert tarfile.is_tarfile(stored / "tars" / "000000.tar")


def test_file_urls_are_paths(pictures):
    source = open_source(pictures.as_uri())
    assert told(source) == told(open_source(pictures))
    assert isinstance(source.samples[0].origin, Path)


def test_a_recipe_keeps_a_url(tmp_path):
    from modelport.recipe import Recipe

    text = (
        "name: x\nmodel: {arch: resnet18, random_weights: true}\ndata: {images: 's3://data/images', labels: val.txt}\n"
    )
    (tmp_path / "recipe.yaml").write_text(text + "targets: [{engine: openvino}]\n")
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    assert recipe.data.images == "s3://data/images"
    assert recipe.data.jsonable()["images"] == "s3://data/images"
    assert recipe.data.labels == tmp_path / "val.txt"
