"""The corpus of awkward images: each is classified or listed with its reason, on every path, and none stops a run."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import awkward
import numpy as np
import pytest
from awkward import Awkward
from PIL import Image

from modelport import exclusive
from modelport.accuracy import INFER_FILE, PREDICTIONS_FILE
from modelport.data import fast
from modelport.data.decode import Decoder
from modelport.data.fast import FastDecoder
from modelport.data.labels import label_key
from modelport.data.predictions import Predictions
from modelport.data.source import open_source
from modelport.errors import DataError, FormatError
from modelport.guide.info import write_jpg_info
from modelport.inference import infer
from modelport.job import run
from modelport.origin import read_bytes
from modelport.results import InferResult
from modelport.spec import CropMode, Preprocess

PREPROCESS = Preprocess(input_size=(3, 64, 64))
CORPUS = awkward.corpus()


def over(entries: Iterable[Awkward]) -> list[object]:
    """Test parameters, each named by its file."""
    return [pytest.param(entry, id=ascii(entry.name[:40])[2:-1]) for entry in entries]


each = pytest.mark.parametrize("entry", over(CORPUS))
classified = pytest.mark.parametrize("entry", over(entry for entry in CORPUS if entry.reason is None))
linux = pytest.mark.skipif(sys.platform != "linux", reason="names and places as Linux has them")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus in a folder. Not to be written to."""
    made = tmp_path_factory.mktemp("corpus")
    for entry in CORPUS:
        entry.put(made)
    return made


def outcome(decoder: Decoder, path: Path) -> tuple[np.ndarray | None, str | None]:
    """Pixels, or the reason why there are none."""
    try:
        return decoder.pixels(read_bytes(path)), None
    except DataError as error:
        return None, str(error)


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CORPUS) >= 60
    assert len({label_key(entry.key) for entry in CORPUS}) == len(CORPUS)
    assert sum(entry.reason is not None for entry in CORPUS) >= 30


@each
def test_its_fate_is_the_expected_one_and_no_two_decoders_disagree(entry, tmp_path, monkeypatch):
    """Pillow alone, and with simplejpeg's help; the whole image, where both paths must be equal, and a crop of it."""
    path = entry.put(tmp_path)
    whole = PREPROCESS.model_copy(update={"crop_pct": 1.0, "crop_mode": CropMode.SQUASH})
    for preprocess, apart in ((PREPROCESS, 1), (whole, 0)):
        pixels, reason = outcome(Decoder(preprocess), path)
        if entry.reason != awkward.THIN or preprocess is PREPROCESS:  # squashed, a strip is no trouble
            assert (reason is None) == (entry.reason is None), reason
            assert (entry.reason or "") in (reason or "")
        assert (reason or "").isprintable()
        for helped in (False, True):
            monkeypatch.setattr(fast, "pays", lambda helped=helped: helped)
            theirs, why = outcome(FastDecoder(preprocess), path)
            assert why == reason
            assert pixels is None or np.abs(pixels.astype(int) - theirs).max() <= apart


@classified
def test_where_timm_reads_it_too_the_pixels_are_timms(entry, tmp_path):
    """As timm's ImageDataset and its evaluation transform make them: orientation, profiles and later frames are left alone."""
    timm_data = pytest.importorskip("timm.data")
    chain = timm_data.create_transform(
        PREPROCESS.input_size, is_training=False, interpolation="bilinear", crop_pct=0.875
    )
    path, ours = entry.put(tmp_path), np.empty(PREPROCESS.input_size, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open(path, "rb") as file:
            theirs = chain(Image.open(file).convert("RGB")).numpy()

    Decoder(PREPROCESS).place(Decoder(PREPROCESS).pixels(read_bytes(path)), ours)

    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@linux
def test_what_is_refused_is_refused_in_little_memory(folder):
    """A fresh process's largest memory over all bombs; one whole bomb would take more than this."""
    names = [os.fsdecode(entry.name) for entry in awkward.bombs()]
    code = (
        "import json, re, sys; from pathlib import Path; from modelport.data.decode import Decoder\n"
        "from modelport.origin import read_bytes; from modelport.spec import Preprocess\n"
        "from modelport.errors import DataError; refused = 0\n"
        "for name in json.load(sys.stdin):\n"
        "    try: Decoder(Preprocess(input_size=(3, 64, 64))).pixels(read_bytes(Path(name)))\n"
        "    except DataError: refused += 1\n"
        "print(refused, re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(names), capture_output=True, text=True, cwd=folder, timeout=120
    )

    assert child.returncode == 0, child.stderr
    refused, peak = map(int, child.stdout.split())
    assert refused == len(names)
    assert peak < 300 * 1024  # KiB


def modelport(*words: object, **more: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "modelport", *(word if isinstance(word, bytes) else str(word) for word in words)]
    return subprocess.run(command, capture_output=True, timeout=240, **more)


@pytest.fixture(scope="module", params=["exact", "fast"])
def done(request, compiled, folder, tmp_path_factory) -> tuple[subprocess.CompletedProcess[bytes], Path]:
    """`modelport infer` over the whole corpus with the null engine under the default policy, and where it wrote to."""
    out = tmp_path_factory.mktemp("awkward") / "out"
    words = ("infer", compiled("null", 4).path, "--images", folder, "--preprocess", request.param, "-o", out)
    return modelport(*words), out


def bad(entry: Awkward) -> bool:
    """Whether the tiny classifier's run lists it; at 16x12 pixels a strip does not grow too long."""
    return entry.reason not in (None, awkward.THIN)


class TestInfer:
    """The whole corpus at once."""

    def test_it_comes_to_its_end(self, done):
        assert done[0].returncode == 0, done[0].stderr

    def test_every_image_is_classified_or_has_its_reason(self, done):
        predictions = Predictions.read(done[1] / PREDICTIONS_FILE)
        found = dict(zip(predictions.keys, predictions.errors, strict=True))
        assert found.keys() == {entry.key for entry in CORPUS}
        for entry in CORPUS:
            assert (found[entry.key] is not None) == bad(entry), (entry, found[entry.key])
            assert not bad(entry) or entry.reason in found[entry.key]
        top = dict(zip(predictions.keys, predictions.top[:, 0], strict=True))
        assert all((top[entry.key] < 0) == bad(entry) for entry in CORPUS)

    def test_every_failure_is_counted_and_listed(self, done):
        result = InferResult.read(done[1] / INFER_FILE)
        keys = {entry.key for entry in CORPUS if bad(entry)}
        assert (result.images, result.failures) == (len(CORPUS), len(keys))
        assert {image.key for image in result.bad_images} == keys

    def test_nothing_reaches_the_terminal_that_it_would_act_on(self, done):
        for stream in (done[0].stdout, done[0].stderr):
            assert all(line.isprintable() for line in stream.decode().split("\n"))
        assert f"{len(CORPUS)}, {sum(map(bad, CORPUS))} could not be classified" in done[0].stdout.decode()

    def test_the_json_document_is_whole(self, done, compiled, folder):
        again = modelport("infer", compiled("null", 4).path, "--images", folder, "-o", done[1], "--json", "--force")
        document = json.loads(again.stdout)
        assert document["failures"] == sum(map(bad, CORPUS))

    def test_evaluate_counts_the_unreadable_as_wrong(self, done, tmp_path):
        """Every image is labelled by the name that results show; the null engine's first class is the last one or the first."""
        predictions = Predictions.read(done[1] / PREDICTIONS_FILE)
        labels = [max(int(top), 0) for top in predictions.top[:, 0]]
        lines = (f"{key} {label}\n" for key, label in zip(predictions.keys, labels, strict=True))
        (tmp_path / "labels.txt").write_text("".join(lines), encoding="utf-8")

        child = modelport("evaluate", done[1], "--labels", tmp_path / "labels.txt", "--json")

        assert child.returncode == 0, child.stderr
        accuracy = json.loads(child.stdout)
        failed = sum(map(bad, CORPUS))
        assert (accuracy["images"], accuracy["failed"], accuracy["missing"]) == (len(CORPUS), failed, 0)
        assert accuracy["topn"][0] == pytest.approx(1 - failed / len(CORPUS))


class Tags(HTMLParser):
    """Start tags of a page, and their attributes' names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


RECIPE = """
name: awkward
model: {{onnx: {onnx}}}
data: {{images: {images}}}
targets: [{{engine: 'null'}}]
accuracy: {{against_source: false}}
performance: {{batch_sizes: [1], rounds: 2, warmup: 1}}
"""


@linux
def test_no_name_becomes_a_tag_or_breaks_a_table_in_the_reports(tiny_onnx, tmp_path, monkeypatch):
    pytest.importorskip("plotly")
    # Both jobs on a machine of the same kind: what is told of a busy or uneven one is a paragraph more.
    monkeypatch.setattr(exclusive, "measure_pace", lambda: 4e-3)
    monkeypatch.setattr(exclusive, "_others", lambda *_: (0.0, None))
    pages = {}
    for kind, images in (("plain", "pictures"), ("hostile", "<img src=x onerror=alert(2)>\n```\n# heading")):
        (tmp_path / images).mkdir()
        for entry in CORPUS:
            if kind == "hostile":
                Awkward(entry.name, b"no image").put(tmp_path / images)
        (tmp_path / images / "good.png").write_bytes(awkward.encoded(awkward.picture(), "PNG"))
        (tmp_path / images / "bad.png").write_bytes(b"no image")
        recipe = tmp_path / f"{kind}.yaml"
        recipe.write_text(RECIPE.format(onnx=tiny_onnx, images=json.dumps(images)))
        run(recipe, tmp_path / kind)
        pages[kind] = Tags((tmp_path / kind / "report.html").read_text(encoding="utf-8"))
    cells = {"td", "tr", "th"}
    plain, hostile = ([tag for tag in pages[kind].tags if tag not in cells] for kind in ("plain", "hostile"))
    assert hostile == plain
    assert pages["hostile"].attributes == pages["plain"].attributes
    for name, shown in (("report.md", 1), ("model-card.md", len(CORPUS) + 1)):
        markdown = (tmp_path / "hostile" / name).read_text(encoding="utf-8")
        assert markdown.count("not an image that Pillow can read") == shown
        assert all(re.fullmatch(r"\|.*\|", line) for line in markdown.split("\n") if line.startswith("|"))
        assert "\n# heading" not in re.sub(r"(?s)^(`{3,})sh\n.*?\n\1$", "", markdown, flags=re.MULTILINE)


@linux
class TestNames:
    def test_names_that_look_the_same_are_refused(self, tmp_path):
        Awkward(b"a\xff.png", awkward.encoded(awkward.picture(), "PNG")).put(tmp_path)
        Awkward(b"a\\xff.png", awkward.encoded(awkward.picture(), "PNG")).put(tmp_path)
        with pytest.raises(DataError, match=r"share the name '.*a.*xff', so labels cannot tell them apart"):
            open_source(tmp_path)

    @pytest.mark.parametrize("name", [b"im\xffages", b"new\nline", b"clear\x1b[2J"])
    def test_a_folder_may_have_any_name(self, compiled, tmp_path, name):
        images = tmp_path / os.fsdecode(name)
        images.mkdir()
        (images / "bad.jpg").write_bytes(b"no image")
        child = modelport("infer", compiled("null", 4).path, "--images", os.fsencode(images), "-o", tmp_path / "out")
        assert child.returncode == 0, child.stderr
        failing = modelport(
            "infer",
            compiled("null", 4).path,
            "--images",
            os.fsencode(images),
            "-o",
            tmp_path / "o",
            "--on-bad-image",
            "fail",
        )
        assert failing.returncode == 1
        for stream in (child.stdout, child.stderr, failing.stderr):
            assert all(line.isprintable() for line in stream.decode().split("\n"))
        assert failing.stderr.decode().rstrip("\n").count("\n") == 0

    def test_an_output_that_is_not_utf8_is_refused_before_any_work(self, compiled, tmp_path):
        Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
        out = tmp_path / os.fsdecode(b"out\xff")
        child = modelport("infer", compiled("null", 4).path, "--images", tmp_path / "a.png", "-o", os.fsencode(out))
        assert child.returncode == 1
        last = child.stderr.decode().splitlines()[-1]
        assert last.startswith("modelport: error: ")
        assert last.endswith(": is not a name in UTF-8, and the libraries that write there take no other")
        assert not out.exists()

    @pytest.mark.parametrize(
        "name", [b"line\nbreak.jpg", b"carriage\rreturn.jpg", b"not-utf8-\xff.jpg", "\u2028.jpg".encode()]
    )
    def test_an_info_list_refuses_a_name_that_it_cannot_hold(self, tmp_path, name):
        Awkward(name, awkward.encoded(awkward.picture(), "JPEG")).put(tmp_path)
        with pytest.raises(DataError, match=r"is a name that an \.info line cannot hold: rename it"):
            write_jpg_info(tmp_path, tmp_path / "list.info")
        assert not (tmp_path / "list.info").exists()

    def test_labels_find_an_image_by_the_name_that_is_shown(self, tmp_path):
        for name in (b"not-utf8-\xff.png", b"line\nbreak.png", "zero-width-\u200d.png".encode()):
            Awkward(name, b"").put(tmp_path)
        labels = {label_key(name): 1 for name in ("not-utf8-\\xff.png", "line\\nbreak.png", "zero-width-\u200d.png")}
        assert [sample.label for sample in open_source(tmp_path).labelled(labels)] == [1, 1, 1]


@linux
class TestPlaces:
    @pytest.fixture
    def unprivileged(self) -> Iterator[object]:
        """For a child's start: gives up root's right to read everything."""

        def drop() -> None:
            for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
                ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP

        return drop

    def images(self, tmp_path: Path) -> Path:
        for name in ("a/1.png", "b/2.png"):
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(awkward.encoded(awkward.picture(), "PNG"))
        return tmp_path / "images"

    def test_a_file_that_may_not_be_read_is_counted(self, compiled, tmp_path, unprivileged):
        images = self.images(tmp_path)
        (images / "a" / "1.png").chmod(0)
        words = ("infer", compiled("null", 4).path, "--images", images, "-o", tmp_path / "out", "--json")
        child = modelport(*words, preexec_fn=unprivileged)
        assert child.returncode == 0, child.stderr
        assert json.loads(child.stdout)["bad_images"] == [
            {"key": "a/1.png", "reason": "cannot be read: Permission denied"}
        ]

    def test_a_folder_that_may_not_be_listed_is_refused_since_nobody_knows_what_it_holds(
        self, compiled, tmp_path, unprivileged
    ):
        images = self.images(tmp_path)
        (images / "a").chmod(0)
        words = ("infer", compiled("null", 4).path, "--images", images, "-o", tmp_path / "out")
        child = modelport(*words, preexec_fn=unprivileged)
        (images / "a").chmod(0o700)
        assert child.returncode == 1
        assert child.stderr.decode() == f"modelport: error: {images / 'a'}: cannot be read: Permission denied\n"

    def test_a_file_that_turns_unreadable_in_the_middle_is_counted(self, compiled, tmp_path):
        """It becomes a pipe, which would block whoever opens it to read."""
        images = tmp_path / "images"
        images.mkdir()
        good = awkward.encoded(awkward.picture(), "PNG")
        for number in range(400):
            (images / f"{number:03}.png").write_bytes(good)

        def progress(_: str, done: int, __: int) -> None:
            if done == 1:
                (images / "399.png").unlink()
                os.mkfifo(images / "399.png")

        result = infer(compiled("null", 4), images, tmp_path / "out", progress=progress)
        assert [(bad.key, bad.reason) for bad in result.bad_images] == [
            ("399.png", "cannot be read: is a pipe, a socket or a device, not a file")
        ]

    @pytest.mark.parametrize("name", ["x.jpg", "x.info"])
    def test_a_pipe_by_itself_is_refused(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        with pytest.raises((DataError, FormatError), match=r"no such file or folder|is a pipe, a socket or a device"):
            open_source(tmp_path / name)

    def test_a_line_of_a_list_with_a_null_byte_is_refused(self, tmp_path):
        (tmp_path / "a.info").write_bytes(b"0 a\0b.jpg 1 1\n")
        with pytest.raises(
            FormatError, match=r"a\.info:1: expected `index path width height`, got '0 a\\x00b\.jpg 1 1'"
        ):
            open_source(tmp_path / "a.info")

    def test_a_path_that_is_too_long_is_an_error_in_a_line(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read: File name too long"):
            open_source(tmp_path / ("x" * 300))

    def test_a_class_folder_that_is_a_loop_is_passed_over(self, tmp_path):
        images = self.images(tmp_path)
        (images / "c").symlink_to("c")
        assert [sample.key for sample in open_source(images)] == ["a/1.png", "b/2.png"]
