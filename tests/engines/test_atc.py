"""atc: where it is found, its exact command, its errors in one line, and CANN's version. Against a stand-in only."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

import models
import pytest
from chips import CANN_VERSION, STANDINS
from places import ROOT

from modelport import engines
from modelport.engines import atc
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model, plan_compile
from modelport.errors import CompileError, EngineUnavailableError
from modelport.spec import Precision, Preprocess

OPTIONS = CompileOptions(precision=Precision.FP16, batch_size=2, soc_version="Ascend310")
FAILED = (
    "ATC start working now, please wait for a moment.\n...\n"
    "ATC run failed, Please check the detail log, Try 'atc --help' for more information\n"
)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No CANN: an empty PATH, no toolkit."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    monkeypatch.setattr(atc, "_USUAL_ROOTS", (tmp_path / "usual",))
    monkeypatch.setattr(atc, "_RUNTIME_ROOT", tmp_path / "nnrt")
    return tmp_path


def program(path: Path) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_command_is_the_guides_with_the_precision_said():
    job = atc.AtcJob(
        model=Path("./cspresnext.onnx"),
        input_name="image",
        shape=(1, 3, 224, 224),
        soc_version="Ascend310",
        log="debug",
    )
    guide = shlex.split(
        'atc --framework=5 --model=./cspresnext.onnx --input_format=NCHW --input_shape="image:1,3,224,224" '
        "--output=cspresnext_bs1 --log=debug --soc_version=Ascend310"
    )

    ours = [argument.replace("--model=cspresnext", "--model=./cspresnext") for argument in job.command()]

    assert [a for a in ours if not a.startswith(("--output", "--precision_mode"))] == [
        a for a in guide if not a.startswith("--output")
    ]
    assert "--output=./model" in ours
    assert "--precision_mode=force_fp16" in ours


def test_the_page_on_ascend_shows_the_command_as_it_is():
    job = atc.AtcJob(
        model=Path("/models/cspresnext.onnx"), input_name="image", shape=(1, 3, 224, 224), soc_version="Ascend310"
    )
    page = (ROOT / "docs" / "ascend.md").read_text(encoding="utf-8")

    assert f"\n{shlex.join(job.command())}\n" in page


def test_what_is_planned_is_what_runs(ascend, tiny_onnx, tmp_path):
    ascend("ais_bench")

    plan = plan_compile(tiny_onnx, engine="ascend", options=OPTIONS)
    model = compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=OPTIONS)

    line = shlex.join(plan.command)
    assert model.file("atc.txt").read_text() == line + "\n"
    assert line == (
        f"atc --framework=5 --model={tiny_onnx} --input_format=NCHW --input_shape=image:2,3,16,12 --output=./model "
        "--log=error --soc_version=Ascend310 --precision_mode=force_fp16"
    )
    assert "ATC run success" in model.file("atc.log").read_text()
    assert sorted(model.manifest.files) == ["atc.log", "atc.txt", "model.om"]
    assert plan.files == {}


def test_the_stored_command_makes_the_same_model_again(ascend, tiny_onnx, tmp_path):
    ascend()
    options = CompileOptions(precision=Precision.FP16, soc_version="Ascend310", aipp=True)
    model = compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=options)
    again = tmp_path / "again"
    again.mkdir()
    (again / "aipp.cfg").write_bytes(model.file("aipp.cfg").read_bytes())

    subprocess.run(shlex.split(model.file("atc.txt").read_text()), cwd=again, check=True, capture_output=True)

    assert (again / "model.om").read_bytes() == model.file("model.om").read_bytes()


def test_what_atc_leaves_behind_lands_nowhere(ascend, tiny_onnx, tmp_path, monkeypatch):
    ascend()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=OPTIONS)

    assert list((tmp_path / "here").iterdir()) == []
    assert not (tmp_path / "out" / "kernel_meta").exists()


def test_odd_names_reach_atc_as_one_argument(ascend, tiny_onnx, tmp_path):
    ascend()
    folder = tmp_path / "a b;$(touch x)'"
    folder.mkdir()
    path = folder / "mod él.onnx"
    path.write_bytes(tiny_onnx.read_bytes())

    model = compile_model(path, tmp_path / "out", engine="ascend", options=OPTIONS)

    assert shlex.split(model.file("atc.txt").read_text())[2] == f"--model={path}"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("log", "message"),
    [
        pytest.param(
            FAILED
            + "E19010: No parser is registered for Op [div, optype [ai.onnx::23::Div]].\n        Solution: Submit an issue.",
            r"E19010: No parser is registered for Op \[div, optype \[ai.onnx::23::Div\]\]; export with a lower --opset",
            id="E19010",
        ),
        pytest.param(
            FAILED
            + "EZ3003: [PID: 348] 2025-02-25-14:07:19.774.362 No supported Ops kernel and engine are found for [a], optype [A].\n"
            "        Possible Cause: The operator is not supported by the system.\n        Solution: 1. Check OPP.\n"
            "        TraceBack (most recent call last):\n        build graph failed, graph id:0, ret:-1",
            r"EZ3003: No supported Ops kernel and engine are found for \[a\], optype \[A\]; this CANN has no kernel",
            id="EZ3003 with PID and time",
        ),
        pytest.param(
            FAILED + "E10001: Value [linux] for parameter [--host_env_os] is invalid. Reason: x.",
            r"E10001: Value \[linux\] for parameter \[--host_env_os\] is invalid. Reason: x; look at the named parameter, and source",
            id="E10001",
        ),
        pytest.param(
            FAILED + "E10016: Opname [x] specified in [--input_shape] is not found in the model.",
            r"E10016: Opname \[x\] .* not found in the model; the input's name or shape",
            id="E10016",
        ),
        pytest.param(
            FAILED + "EC0010: Failed to import Python module [No module named 'decorator'.].",
            "EC0010: .*decorator.*; atc imports modules from the first python3 on PATH",
            id="EC0010",
        ),
        pytest.param(
            FAILED + "E99999: Inner Error!\n        Solution: Ask Huawei.\nE10001: other",
            r"E99999: Inner Error!; Ask Huawei \(atc exit code 1\)",
            id="a code that has no advice here",
        ),
        pytest.param(
            "/x/atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file",
            r"libascend_hal.so: cannot open shared object file; source CANN's set_env.sh",
            id="no code",
        ),
        pytest.param(FAILED, "atc printed no reason; try --atc-log debug", id="nothing"),
    ],
)
def test_a_failure_is_one_line_with_code_reason_and_advice(ascend, tiny_onnx, tmp_path, monkeypatch, log, message):
    ascend()
    monkeypatch.setenv("STANDIN_ATC_FAIL", log)

    with pytest.raises(CompileError, match=rf"^Ascend CANN cannot compile .*tiny\.onnx: .*{message}") as caught:
        compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=OPTIONS)

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_success_without_a_model_is_a_failure(ascend, tiny_onnx, tmp_path, monkeypatch):
    ascend()
    monkeypatch.setenv("STANDIN_ATC_NO_OM", "1")

    with pytest.raises(CompileError, match=r"\(atc left 0 .om files, expected 1\)"):
        compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_chip_is_atcs_own_refusal(ascend, tiny_onnx, tmp_path):
    ascend()
    options = CompileOptions(precision=Precision.FP16, soc_version="H100")

    with pytest.raises(CompileError, match=r"E10001: Value \[H100\] for parameter \[--soc_version\]"):
        compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=options)


def test_without_atc_the_error_names_all_places(nowhere, tiny_onnx, tmp_path):
    with pytest.raises(
        EngineUnavailableError,
        match=r"atc is neither on PATH, nor in \$ASCEND_TOOLKIT_HOME, nor in .*usual: install the CANN toolkit and source its set_env\.sh",
    ):
        compile_model(tiny_onnx, tmp_path / "out", engine="ascend", options=OPTIONS)


@pytest.mark.parametrize("folder", ["bin", "compiler/bin", "atc/bin"])
def test_atc_is_found_in_the_toolkits_places(nowhere, monkeypatch, folder):
    assert atc.find() is None
    usual = program(nowhere / "usual" / folder / "atc")
    assert atc.find() == usual
    home = program(nowhere / "home" / folder / "atc")
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(nowhere / "home"))
    assert atc.find() == home
    on_path = program(nowhere / "atc")
    assert atc.find() == on_path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("x86_64-linux/ascend_toolkit_install.info", "package_name=Ascend-cann-toolkit\nversion=8.0.0\ninnerversion=V1\n", "8.0.0"),
        ("aarch64-linux/ascend_nnrt_install.info", "version=7.0.RC1\n", "7.0.RC1"),
        ("version.cfg", "runtime_running_version=[1:1]\ntoolkit_running_version=[7.6.0.1.220:8.0.RC2]\n", "8.0.RC2"),
        ("version.cfg", "nothing=1\n", None),
    ],
)  # fmt: skip
def test_the_version_is_the_toolkits(nowhere, name, text, expected):
    path = nowhere / "usual" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)

    assert atc.cann_version() == expected


def test_the_version_is_of_the_toolkit_that_atc_belongs_to(nowhere, monkeypatch):
    for root, version in (("usual", "1.0"), ("other", "2.0")):
        (nowhere / root / "aarch64-linux").mkdir(parents=True)
        (nowhere / root / "aarch64-linux" / "ascend_toolkit_install.info").write_text(f"version={version}\n")
    monkeypatch.setenv("PATH", str(program(nowhere / "other" / "compiler" / "bin" / "atc").parent))

    assert atc.cann_version() == "2.0"


def test_a_toolkit_that_says_no_version_is_called_unknown(nowhere, monkeypatch):
    monkeypatch.setenv("PATH", str(program(nowhere / "deep" / "er" / "still" / "yet" / "atc").parent))

    assert engines.load("ascend").version() == "unknown"


def test_the_engines_version_is_canns(ascend):
    ascend("ais_bench")

    assert engines.load("ascend").version() == CANN_VERSION


def test_an_atc_that_cannot_be_started_says_so(nowhere, monkeypatch, tiny_onnx):
    broken = nowhere / "atc"
    broken.write_bytes(b"\0\0")
    broken.chmod(0o755)
    job = atc.AtcJob(model=tiny_onnx, input_name="image", shape=(1, 3, 16, 12), soc_version="Ascend310")

    with pytest.raises(EngineUnavailableError, match="atc: cannot be run: "):
        atc.run(job, nowhere)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": Precision.F32}, "Ascend CANN does not offer f32 here; it offers fp16"),
        ({"soc_version": None}, "compiles for one chip and none could be asked here: pass --soc-version, such as Ascend310"),
        ({"log": "loud"}, "atc has no log level 'loud'; it has debug, info"),
    ],
)  # fmt: skip
def test_options_that_do_not_suit_are_refused(tiny_onnx, options, message):
    given = {"precision": Precision.FP16, "soc_version": "Ascend310", **options}

    with pytest.raises(CompileError, match=message):
        plan_compile(tiny_onnx, engine="ascend", options=CompileOptions(**given))


@pytest.mark.parametrize("option", [{"soc_version": "Ascend310"}, {"aipp": True}])
def test_engines_of_the_processor_refuse_a_chips_options(tiny_onnx, tmp_path, option):
    with pytest.raises(CompileError, match="compiles for this machine's processor: --soc-version and --aipp"):
        compile_model(tiny_onnx, tmp_path / "out", engine="null", options=CompileOptions(**option))


def test_only_ascend_compiles_by_a_command(tiny_onnx):
    assert plan_compile(tiny_onnx, engine="null") is None
    assert plan_compile(tiny_onnx, engine="ascend", options=OPTIONS).command[0] == "atc"


def test_the_chip_is_asked_where_it_is_not_said(ascend, tiny_onnx, monkeypatch):
    ascend("acl")
    monkeypatch.setenv("STANDIN_SOC", "Ascend310P3")

    plan = plan_compile(tiny_onnx, engine="ascend")

    assert "--soc_version=Ascend310P3" in plan.command


def test_aipp_that_cannot_be_expressed_is_told_before_anything_runs(tmp_path):
    path = models.save(models.classifier(spec=None), tmp_path / "m.onnx")
    given = Preprocess(input_size=models.SIZE, mean=(2, 0, 0))
    options = CompileOptions(precision=Precision.FP16, soc_version="Ascend310", aipp=True)

    with pytest.raises(Exception, match="AIPP takes a mean of 0…1"):
        plan_compile(path, engine="ascend", options=options, preprocess=given)


def test_the_stand_in_refuses_what_atc_would(tmp_path, tiny_onnx, ascend):
    """So that a wrong command cannot pass here unseen."""
    ascend()
    good = atc.AtcJob(model=tiny_onnx, input_name="image", shape=(1, 3, 16, 12), soc_version="Ascend310").command()

    def run(arguments) -> str:
        environment = {**os.environ, "PYTHONPATH": str(STANDINS)}
        return subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, env=environment).stdout

    assert "run success" in run(good)
    for flag in ("--framework", "--model", "--output", "--soc_version"):
        assert "E10054" in run([a for a in good if not a.startswith(flag)])
    assert "unknown command line flag 'surprise'" in run([*good, "--surprise=1"])
    assert "E10016" in run([a.replace("image:", "img:") for a in good])
    assert "E10001" in run([a.replace("3,16,12", "3,16,13") for a in good])
