"""`classify`: the likeliest classes of single images by name, from files, folders and standard input; bad ones are told."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from modelport.classification import classify, probabilities
from modelport.cli import cli
from modelport.data.decode import Decoder
from modelport.data.source import Sample
from modelport.engines.compiler import compile_model
from modelport.errors import DataError, FormatError
from modelport.report.classification import bar, show_classification
from modelport.results import Classification

NAMES = ("cat", "dog", "crane", "newt", "otter")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """`a.png` and `b.png`, and in a folder beside them `a.png` again and one that is damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "more/a.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    (folder / "more" / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """The tiny classifier with names, on the null engine, batch 2."""
    from modelport.engines.base import CompileOptions

    folder = tmp_path_factory.mktemp("named")
    onnx = models.save(models.classifier(spec=models.SPEC.named(NAMES)), folder / "tiny.onnx")
    return compile_model(onnx, folder / "model", engine="null", options=CompileOptions(batch_size=2))


def prepared(path: Path) -> np.ndarray:
    out = np.zeros(models.SIZE, np.float32)
    Decoder(models.PREPROCESS)(Sample(path.name, path), path.read_bytes(), out)
    return out


def test_classes_by_name_with_the_softmax_of_all_scores(named, pictures):
    result = classify(named, [pictures / "a.png", pictures / "b.png"], top=3)

    assert (result.engine, result.names_from, result.failures) == ("null", "model", 0)
    assert [image.key for image in result.images] == [str(pictures / "a.png"), str(pictures / "b.png")]
    for image, name in zip(result.images, ("a.png", "b.png"), strict=True):
        scores = models.null_scores(prepared(pictures / name)[None])[0]
        order = np.argsort(-scores)[:3]
        shares = np.exp(scores) / np.exp(scores).sum()
        assert [guess.label for guess in image.guesses] == order.tolist()
        assert [guess.name for guess in image.guesses] == [NAMES[label] for label in order]
        np.testing.assert_allclose([guess.score for guess in image.guesses], scores[order], rtol=1e-5)
        np.testing.assert_allclose([guess.probability for guess in image.guesses], shares[order], rtol=1e-5)
    assert Classification.parse(result.jsonable(), "here") == result


def test_scores_that_are_probabilities_stay_as_they_are():
    given = np.array([0.7, 0.2, 0.1], np.float32)
    np.testing.assert_array_equal(probabilities(given), given.astype(np.float64))
    np.testing.assert_allclose(probabilities(np.array([0.7, 0.2, 0.2], np.float32)).sum(), 1)
    np.testing.assert_allclose(probabilities(np.array([1e4, 0], np.float32)), [1, 0], atol=1e-12)


def test_all_classes_where_more_are_asked_for_than_there_are(named, pictures):
    (image,) = classify(named, [pictures / "a.png"], top=50).images
    assert {guess.label for guess in image.guesses} == set(range(5))
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        classify(named, [pictures / "a.png"], top=0)


def test_bad_images_and_places_are_told_where_they_stand(named, pictures):
    places = [pictures / "nowhere.png", pictures / "more", pictures / "b.png"]
    result = classify(named, places)

    told = {image.key: image.error for image in result.images}
    assert list(told) == [
        str(pictures / "nowhere.png"),
        str(pictures / "more" / "a.png"),
        str(pictures / "more" / "broken.png"),
        str(pictures / "b.png"),
    ]
    assert told[str(pictures / "nowhere.png")].startswith("no such file or folder")
    assert told[str(pictures / "more" / "broken.png")].startswith("is damaged")
    assert result.failures == 2
    assert [len(image.guesses) for image in result.images] == [0, 5, 0, 5]


def test_other_names_and_no_names(named, compiled, pictures):
    result = classify(compiled("null"), [pictures / "a.png"], class_names=NAMES)
    assert (result.names_from, result.images[0].guesses[0].name in NAMES) == ("file", True)
    result = classify(compiled("null"), [pictures / "a.png"])
    assert (result.names_from, result.images[0].guesses[0].name) == (None, None)
    with pytest.raises(FormatError, match="2 class names were given, and the model has 5 classes"):
        classify(named, [pictures / "a.png"], class_names=("a", "b"))


def test_an_onnx_file_is_compiled_for_the_moment(tiny_onnx, compiled, pictures, require_engine):
    require_engine("openvino")
    of_file = classify(tiny_onnx, [pictures / "a.png"])
    of_model = classify(compiled("openvino"), [pictures / "a.png"])
    assert (of_file.engine, of_file.executed_precision) == ("openvino", "f32")
    assert of_file.images == of_model.images


def test_an_onnx_file_has_to_say_how_images_are_prepared(tmp_path, pictures):
    models.save(models.classifier(spec=None), tmp_path / "any.onnx")
    with pytest.raises(FormatError, match=r"any\.onnx: carries no preprocessing; compile it with `modelport compile`"):
        classify(tmp_path / "any.onnx", [pictures / "a.png"])


def test_a_damaged_list_is_an_error(named, tmp_path):
    (tmp_path / "list.info").write_text("0 a.png\n")
    with pytest.raises((FormatError, DataError), match=r"list\.info:1"):
        classify(named, [tmp_path / "list.info"])


# -- what is shown


def shown(result: Classification, *, terminal: bool) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, color_system="standard" if terminal else None
    )
    show_classification(console, result)
    return console.file.getvalue()


def test_bars_on_a_terminal_plain_lines_elsewhere(named, pictures):
    result = classify(named, [pictures / "a.png", pictures / "more" / "broken.png"])
    plain, coloured = shown(result, terminal=False), shown(result, terminal=True)

    assert "\x1b" not in plain
    assert "█" not in plain
    assert "\x1b[1m" in coloured
    assert "█" in coloured
    best = result.images[0].guesses[0]
    for text in (plain, coloured):
        assert f"{best.probability:.2%}" in text
        assert best.name in text
        assert "could not be classified: is damaged" in text


def test_a_bar_is_as_long_as_its_share():
    assert (bar(0), bar(1), bar(0.5)) == (" " * 24, "█" * 24, "█" * 12 + " " * 12)
    assert bar(1 / 48) == "▌" + " " * 23
    assert len(bar(7.0)) == len(bar(-1.0)) == 24


def test_hostile_names_stay_text(compiled, tmp_path, pictures):
    place = tmp_path / "[red]x\x1b[2J.png"
    place.write_bytes((pictures / "a.png").read_bytes())
    result = classify(compiled("null"), [place], class_names=("[blink]a", *"bcde"))
    text = shown(result, terminal=False)
    assert "[red]x\\x1b[2J.png" in text
    assert "[blink]a" in text


# -- the command


def modelport(*words: object, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "modelport", "classify", *map(str, words)]
    done = subprocess.run(line, input=stdin, capture_output=True, timeout=200)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    return done


def test_the_command_reads_files_and_standard_input(named, pictures, tmp_path):
    (tmp_path / "names.json").write_text(json.dumps([f"{name}!" for name in NAMES]))
    words = [named.path, "-", pictures / "b.png", "--class-names", tmp_path / "names.json", "--top", 2, "--json"]
    done = modelport(*words, stdin=(pictures / "a.png").read_bytes())

    document = json.loads(done.stdout)
    assert [image["key"] for image in document["images"]] == ["stdin", str(pictures / "b.png")]
    alone = classify(named, [pictures / "a.png"], top=2)
    assert [g["label"] for g in document["images"][0]["guesses"]] == [g.label for g in alone.images[0].guesses]
    assert document["images"][0]["guesses"][0]["name"].endswith("!")
    assert document["names_from"] == "file"


def test_none_that_could_be_read_is_exit_1_with_the_reasons(named, pictures):
    done = modelport(named.path, pictures / "more" / "broken.png", "-", stdin=b"", code=1)
    assert b"could not be classified: is damaged" in done.stdout
    assert b"stdin\n  could not be classified: the file is empty" in done.stdout
    assert done.stderr.startswith(b"modelport: error: none of the 2 images could be classified, first: is damaged")
    assert done.stderr.count(b"\n") == 1


def test_standard_input_is_given_once(named):
    done = CliRunner().invoke(cli, ["classify", str(named.path), "-", "-"])
    assert done.exit_code == 2
    assert "`-` reads one image from stdin: give it once" in done.output


def test_standard_input_that_is_closed_or_the_keyboard_is_wrong_usage(named):
    line = [sys.executable, "-m", "modelport", "classify", str(named.path), "-"]
    ours, theirs = pty.openpty()
    for stdin in (theirs, None):
        shell = line if stdin is not None else ["sh", "-c", 'exec "$@" <&-', "sh", *line]
        done = subprocess.run(shell, stdin=stdin, capture_output=True, timeout=100)
        assert done.returncode == 2
        assert b"`-` reads an image from stdin, and there is none: pipe one into it" in done.stderr
    os.close(ours)
    os.close(theirs)
