"""The guide's chapters 3 to 7 in order, through `examples/cspresnext50/`, on the digits model: every file it writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from modelport.data.dump import read_dump, read_scores
from modelport.data.predictions import Predictions
from modelport.guide.performance import PureInference, RealDataPerformance
from modelport.results import RunResult

EXAMPLE = ROOT / "examples" / "cspresnext50"
DIGITS = ROOT / ".demo" / "digits"
SIZES = ("--input-size", "64", "--crop-pct", "1.0")
BATCHES = (1, 4, 8, 16, 32)
PERFORMANCE = r"""\[e2e\] throughputRate: (N), latency: (N)
\[data read\] throughputRate: (N), moduleLatency: (N)
\[preprocess\] throughputRate: (N), moduleLatency: (N)
\[infer\] throughputRate: (N), Interface throughputRate: (N), moduleLatency: (N)
\[post\] throughputRate: (N), moduleLatency: (N)
""".replace("(N)", r"(\d+(?:\.\d+)?(?:e[-+]\d+)?)")


def type_in(folder: Path, line: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """One of the guide's command lines, as typed at a shell in `folder`."""
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def road(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example's folder in which chapters 3 and 4 have been walked."""
    folder = tmp_path_factory.mktemp("guide") / "cspresnext50"
    shutil.copytree(EXAMPLE, folder)
    type_in(folder, f"python3 cspresnext_pth2onnx.py {checkpoint} cspresnext.onnx {' '.join(SIZES)}")
    for size in BATCHES:
        type_in(
            folder,
            f'atc --framework=5 --model=./cspresnext.onnx --input_format=NCHW --input_shape="image:{size},3,64,64" '
            f"--output=cspresnext_bs{size} --log=debug --soc_version=Ascend310",
        )
    type_in(folder, f"python3 cspresnext_torch_preprocess.py {DIGITS}/val ./prep_dataset {' '.join(SIZES)}")
    type_in(folder, "python3 get_info.py bin ./prep_dataset ./cspresnext_prep_bin.info 64 64")
    return folder


def infer(folder: Path, size: int, more: str = "-output_binary=False -useDvpp=False") -> str:
    line = (
        f"./benchmark.x86_64 -model_type=vision -device_id=0 -batch_size={size} -om_path=cspresnext_bs{size}.om "
        f"-input_text_path=./cspresnext_prep_bin.info -input_width=64 -input_height=64 {more}"
    )
    return type_in(folder, line).stdout


def test_chapter_3_writes_what_atc_takes(road: Path) -> None:
    import onnx

    model = onnx.load(road / "cspresnext.onnx")
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [11]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("image", "class")
    assert {path.name for path in road.glob("*.om")} == {f"cspresnext_bs{size}.om" for size in BATCHES}


def test_chapter_3_says_what_it_really_compiled_for(road: Path) -> None:
    line = "atc --framework=5 --model=./cspresnext.onnx --input_shape=image:2,3,64,64 --output=again --soc_version=Ascend310"
    done = type_in(road, f"MODELPORT_ENGINE=onnxruntime {line}")
    assert "ATC run success" in done.stdout
    assert "runs on onnxruntime" in done.stderr
    assert "not on Ascend310" in done.stderr


def test_chapter_4_files(road: Path) -> None:
    files = sorted((road / "prep_dataset").glob("*.bin"))
    assert len(files) == 360
    assert {path.stat().st_size for path in files} == {3 * 64 * 64 * 4}
    lines = (road / "cspresnext_prep_bin.info").read_text().splitlines()
    assert lines[0] == "0 prep_dataset/DIGITS_val_00000001.bin 64 64"
    assert [line.split(" ")[0] for line in lines] == [str(index) for index in range(360)]
    type_in(road, f"python3 get_info.py jpg {ROOT} ./jpg.info", code=1)


@pytest.mark.parametrize("size", BATCHES)
def test_chapters_5_and_6_at_every_batch_size(road: Path, demo: RunResult, demo_directory: Path, size: int) -> None:
    infer(road, size)
    text = (road / "result" / f"perf_vision_batchsize_{size}_device_0.txt").read_text()
    assert re.fullmatch(PERFORMANCE, text)
    values = [float(value) for value in re.findall(r":(.*?)(?:,|\n)", text)]
    performance = RealDataPerformance.read(road / "result" / f"perf_vision_batchsize_{size}_device_0.txt")
    assert performance.post_rate * size == pytest.approx(performance.infer_rate, rel=0.25)  # post counts batches
    assert values[2 + 5] == performance.interface_rate  # the eighth value is the one that parsers take
    assert performance.text() == text

    files = sorted((road / "result" / "dumpOutput_device0").glob("*.txt"))
    assert len(files) == 360
    assert files[0].name == "DIGITS_val_00000001_1.txt"
    assert len(files[0].read_text().split("\n")[0].split(" ")) == 10

    done = type_in(
        road, f"python3 imagenet_acc_eval.py result/dumpOutput_device0/ {DIGITS}/val_label.txt ./ result.json"
    )
    result = json.loads((road / "result.json").read_text())
    assert result["title"] == "Overall statistical evaluation"
    assert [entry["key"] for entry in result["value"]] == [
        "Number of images", "Number of classes", *(f"Top{n} accuracy" for n in range(1, 6))
    ]  # fmt: skip
    assert "Of 360 labelled images" in done.stderr
    target = next(target for target in demo.targets if target.name == "openvino-f32")
    assert target.accuracy is not None
    assert result["value"][2]["value"] == f"{round(target.accuracy.topn[0] * 100, 2)}%"

    ours, _ = read_dump(road / "result" / "dumpOutput_device0")
    theirs = Predictions.read(demo_directory / "openvino-f32" / "predictions" / "predictions.parquet")
    assert [key + ".png" for key in ours.keys] == theirs.keys
    np.testing.assert_array_equal(ours.top, theirs.top)


def test_binary_output_holds_the_same_scores(road: Path) -> None:
    infer(road, 4)
    text = {path.stem: read_scores(path) for path in (road / "result" / "dumpOutput_device0").glob("*.txt")}
    infer(road, 4, "-output_binary=True -useDvpp=False")
    binary = {path.stem: read_scores(path) for path in (road / "result" / "dumpOutput_device0").glob("*.bin")}
    assert not list((road / "result" / "dumpOutput_device0").glob("*.txt"))  # nothing stale stays
    assert text.keys() == binary.keys()
    for stem, scores in text.items():
        np.testing.assert_array_equal(scores, binary[stem])


def test_several_devices_share_the_inputs(road: Path) -> None:
    shown = infer(road, 8, "-output_binary=True -device_id=0,1")
    counts = [len(list((road / "result" / f"dumpOutput_device{device}").glob("*.bin"))) for device in (0, 1)]
    assert counts == [180, 180]
    assert (road / "result" / "perf_vision_batchsize_8_device_1.txt").exists()
    assert "2 devices together: Interface throughputRate" in shown


def test_decoding_in_the_tool_gives_the_same_decisions(road: Path, tmp_path: Path) -> None:
    from PIL import Image

    (road / "photos").mkdir()
    for source in sorted((DIGITS / "val").iterdir())[:20]:
        Image.open(source).save(road / "photos" / f"{source.stem}.jpg", quality=100)
    type_in(road, "python3 get_info.py jpg ./photos ./photos.info")
    assert (road / "photos.info").read_text().splitlines()[19].endswith("photos/DIGITS_val_00000020.jpg 64 64")
    line = (
        "./benchmark.x86_64 -model_type=vision -batch_size=4 -om_path=cspresnext_bs4.om -input_text_path=./photos.info"
    )
    assert "-useDvpp=True does" in type_in(road, line, code=1).stderr
    type_in(road, f"{line} -useDvpp=True")
    predictions, _ = read_dump(road / "result" / "dumpOutput_device0")
    labels = dict(row.split() for row in (DIGITS / "val_label.txt").read_text().splitlines())
    right = sum(int(labels[f"{key}.png"]) == row[0] for key, row in zip(predictions.keys, predictions.top, strict=True))
    assert right >= 19


@pytest.mark.parametrize("size", BATCHES)
def test_chapter_7_pure_inference(road: Path, size: int) -> None:
    shown = type_in(
        road, f"./benchmark.x86_64 -round=3 -batch_size={size} -device_id=0 -om_path=cspresnext_bs{size}.om"
    ).stdout
    number = r"\d+(?:\.\d+)?"
    name = f"PureInfer_perf_of_cspresnext_bs{size}_in_device_0.txt"
    assert re.fullmatch(
        rf"(?:\[INFO\] Dataset number: [012] finished cost {number}ms\n){{3}}"
        rf"\[INFO\] PureInfer result saved in \./result/{name}\n"
        r"-----------------PureInfer Performance Summary------------------\n"
        rf"\[INFO\] ave_throughputRate: {number}samples/s, ave_latency: {number}ms\n-{{64}}\n",
        shown,
    )
    text = (road / "result" / name).read_text()
    assert re.fullmatch(rf"ave_throughputRate = {number}samples/s, ave_latency = {number}ms\n", text)
    read = PureInference.read(road / "result" / name)
    assert read.text() == text
    assert read.rate * read.latency == pytest.approx(1000, rel=0.5)


def test_chapter_7_says_where_the_quick_look_misleads(road: Path) -> None:
    performance = road / "result" / "perf_vision_batchsize_4_device_0.txt"
    infer(road, 4)
    text = performance.read_text()
    performance.write_text(re.sub(r"Interface throughputRate: [^,]+", "Interface throughputRate: 1.5", text))
    shown = type_in(road, "./benchmark.x86_64 -round=2 -batch_size=4 -om_path=cspresnext_bs4.om").stderr
    assert "the real-data run (perf_vision_batchsize_4_device_0.txt) 1.5" in shown
    assert "the real-data figure counts" in shown


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("./benchmark.x86_64 -round=3 -batch_size=4 -om_path=cspresnext_bs8.om", 1, "its batch size is 8, -batch_size says 4"),
        ("./benchmark.x86_64 -batch_size=8 -om_path=cspresnext_bs8.om", 2, "either -input_text_path=LIST.info (real data) or -round=N"),
        ("./benchmark.x86_64 -round=1 -batch_size=8 -om_path=none.om", 1, "is not an offline model (does not exist)"),
        ("./benchmark.x86_64 -round=1 -batch_size=8 -om_path=cspresnext_bs8.om -device_id=0,0", 2, "expected different numbers from 0"),
        ("./benchmark.x86_64 -batch_size=8 -om_path=cspresnext_bs8.om -input_text_path=cspresnext_prep_bin.info -input_width=224",
         1, "-input_width=224: cspresnext_bs8.om takes 64"),
        ("./benchmark.x86_64 -batch_size=8 -om_path=cspresnext_bs8.om -input_text_path=cspresnext_prep_bin.info -useDvpp=True",
         1, "which -useDvpp=True cannot decode"),
        ("atc --framework=5 --model=cspresnext.onnx --input_shape=data:1,3,64,64 --output=x --soc_version=Ascend310",
         1, "has no input 'data', its input is 'image'"),
        ("atc --framework=5 --model=cspresnext.onnx --input_shape=image:1,3,224,224 --output=x --soc_version=Ascend310",
         1, "takes image:N,3,64,64"),
        ("atc --framework=5 --model=cspresnext.onnx --input_shape=image --output=x --soc_version=Ascend310",
         1, "expected name:N,C,H,W such as image:1,3,224,224"),
        ("python3 cspresnext_pth2onnx.py none.pth x.onnx", 1, "none.pth: no such checkpoint file"),
        ("python3 get_info.py bin ./prep_dataset x.info 63 64", 1, "which is no number of 63x64 channels"),
        ("python3 get_info.py bin ./prep_dataset x.info", 2, "needs WIDTH and HEIGHT"),
        ("python3 get_info.py bin ./none x.info 64 64", 1, "none: no such directory"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_and_leaves_nothing(road: Path, line: str, code: int, message: str) -> None:
    before = {path.name for path in road.iterdir()}
    done = type_in(road, line, code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in road.iterdir()} == before


def test_accuracy_fails_on_what_the_original_hides(road: Path, tmp_path: Path) -> None:
    labels = (DIGITS / "val_label.txt").read_text()
    infer(road, 8)
    (tmp_path / "more.txt").write_text(labels + "absent.png 3\n")
    (tmp_path / "less.txt").write_text("".join(line + "\n" for line in labels.splitlines()[1:]))
    evaluate = "python3 imagenet_acc_eval.py result/dumpOutput_device0/"
    assert (
        "1 labelled images have no scores (first: absent)"
        in type_in(road, f"{evaluate} {tmp_path}/more.txt {tmp_path} r", 1).stderr
    )
    stale = type_in(road, f"{evaluate} {tmp_path}/less.txt {tmp_path} r", 1).stderr
    assert "1 score files have no label (first: DIGITS_val_00000001)" in stale
    assert not (tmp_path / "r").exists()


def test_the_guides_own_numbers_fit_the_verbatim_lines(road: Path, checkpoint: Path, tmp_path: Path) -> None:
    """224 px as the guide writes it, on the digits weights: only the paths differ."""
    (tmp_path / "val").mkdir()
    for name in sorted(os.listdir(DIGITS / "val"))[:3]:
        shutil.copy(DIGITS / "val" / name, tmp_path / "val")
    for script in EXAMPLE.iterdir():
        shutil.copy(script, tmp_path)
    type_in(tmp_path, f"python3 cspresnext_pth2onnx.py {checkpoint} cspresnext.onnx")
    type_in(
        tmp_path,
        'atc --framework=5 --model=./cspresnext.onnx --input_format=NCHW --input_shape="image:1,3,224,224" '
        "--output=cspresnext_bs1 --log=debug --soc_version=Ascend310",
    )
    type_in(tmp_path, "python3 cspresnext_torch_preprocess.py ./val ./prep_dataset")
    type_in(tmp_path, "python3 get_info.py bin ./prep_dataset ./cspresnext_prep_bin.info 224 224")
    type_in(
        tmp_path,
        "./benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=1 -om_path=cspresnext_bs1.om "
        "-input_text_path=./cspresnext_prep_bin.info -input_width=224 -input_height=224 -output_binary=False -useDvpp=False",
    )
    assert {path.stat().st_size for path in (tmp_path / "prep_dataset").glob("*.bin")} == {602_112}
    assert len(list((tmp_path / "result" / "dumpOutput_device0").glob("*_1.txt"))) == 3
