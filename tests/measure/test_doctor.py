"""`doctor`: the disk, the rules that find problems, what is told of telemetry, and the command."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from modelport.cli import cli
from modelport.errors import OutputError
from modelport.host import environment
from modelport.measure import doctor, problems
from modelport.measure.disk import filesystem, measure_disk
from modelport.report.diagnosis import diagnosis_tables, show_problems
from modelport.results import (
    Accelerator,
    Diagnosis,
    Disk,
    EngineCheck,
    Hygiene,
    Memory,
    OptionalPackage,
    Problem,
    Processor,
    Telemetry,
)
from modelport.telemetry import elsewhere

PROCESSOR = Processor(
    arithmetic={"AVX2": True}, physical_cores=4, logical_cores=8, usable_cores=8, quota_cores=None, governor="performance",
    mhz=2000.0, most_mhz=3000.0, virtual=False, container=None,
)  # fmt: skip
DISK = Disk(
    path="/tmp", filesystem="ext4", free=1 << 40, file_bytes=1 << 26, written_a_second=1e9, read_a_second=1e9,
    forgotten=True, commit_ms=1.0,
)  # fmt: skip


def check(engine: str, executed: str | None, problem: str | None = None, version: str | None = "1.0") -> EngineCheck:
    return EngineCheck(engine=engine, version=version, precision="f32", executed=executed, problem=problem)


def told(found) -> list[tuple[str, str, str]]:
    return [(problem.level, problem.what, problem.mend) for problem in found]


# -- the disk


def test_a_disk_is_measured_and_nothing_stays(tmp_path):
    found = measure_disk(tmp_path)
    assert (found.path, list(tmp_path.iterdir())) == (str(tmp_path), [])
    assert found.free > 0
    assert 0 < found.file_bytes <= 64 << 20
    assert found.written_a_second > 0
    assert found.read_a_second > 0
    assert found.commit_ms > 0
    assert found.filesystem == filesystem(tmp_path) != ""


def test_memory_is_not_taken_for_a_disk():
    shared = Path("/dev/shm")
    if filesystem(shared) != "tmpfs":
        pytest.skip("there is no tmpfs at /dev/shm")
    assert measure_disk(shared).forgotten is False


def test_a_directory_that_is_none():
    with pytest.raises(OutputError, match="/nowhere: its disk cannot be measured: No such file or directory"):
        measure_disk("/nowhere")


# -- the rules


def test_a_machine_in_order_has_no_problem():
    engines = (check("openvino", "f32"), check("null", "f32"))
    assert told(problems.of_engines(engines)) == []
    assert told(problems.of_processor(PROCESSOR)) == []
    assert told(problems.of_memory(Memory(total=1 << 36, available=1 << 35, limit=None))) == []
    assert told(problems.of_disk(DISK)) == []
    assert told(problems.of_machine(Hygiene(busy_before=0.0))) == []


def test_engines_that_are_missing_or_do_not_run():
    missing = check(
        "onnxruntime", None, "ONNX Runtime (onnxruntime) is not installed: pip install 'modelport[onnxruntime]'", None
    )
    found = told(problems.of_engines((missing, check("null", "f32"))))
    assert found[0][:2] == ("error", "no engine runs here, so no model can be compiled or run")
    assert found[1] == (
        "note",
        "ONNX Runtime (onnxruntime) is not installed",
        "pip install 'modelport[onnxruntime]'",
    )
    found = told(
        problems.of_engines((check("openvino", None, "the compiler died (SIGFPE)"), check("onnxruntime", "f32")))
    )
    assert found == [
        (
            "error",
            "openvino is installed and does not run at f32: the compiler died (SIGFPE)",
            "install it anew: pip install --force-reinstall openvino",
        )
    ]
    found = told(problems.of_engines((check("openvino", "f32"), check("openvino", None, "no bf16 arithmetic"))))
    assert found == [("note", "openvino f32: no bf16 arithmetic", "compile for openvino with --precision f32")]


def test_limits_of_time_and_cores_and_a_slow_clock():
    found = told(
        problems.of_processor(
            PROCESSOR.model_copy(update={"quota_cores": 2.5, "usable_cores": 6, "governor": "powersave"})
        )
    )
    assert [level for level, _, _ in found] == ["warning", "note", "warning"]
    assert "2.5 cores' worth of time while 6 cores can be used" in found[0][1]
    assert found[0][2].startswith("pass --threads 2,")
    assert found[1][1:] == (
        "this process may use 6 of 8 cores",
        "taskset -c 0-7 modelport …, if that is not on purpose",
    )
    assert found[2][2] == "sudo cpupower frequency-set -g performance"
    assert told(problems.of_processor(PROCESSOR.model_copy(update={"quota_cores": 8.0}))) == []


def test_little_memory_and_a_full_and_slow_disk():
    ((level, what, _),) = told(problems.of_memory(Memory(total=1 << 36, available=1 << 35, limit=1 << 30)))
    assert (level, what) == ("warning", "1.0 GiB of memory are left; compiling and quantising take about 2")
    slow = DISK.model_copy(update={"free": 1 << 30, "written_a_second": 20e6, "commit_ms": 80.0})
    assert [what for _, what, _ in told(problems.of_disk(slow))] == [
        "1.0 GiB are free in /tmp",
        "/tmp writes 20 MB/s",
        "making four kilobytes durable takes 80 ms in /tmp: runs that commit wait for it",
    ]


def test_others_at_work_and_devices_that_cannot_be_used():
    ((level, what, _),) = told(problems.of_machine(Hygiene(busy_before=1.0, reasons=("cc1 used 1.00 cores",))))
    assert (level, what) == (
        "warning",
        "the machine is busy: cc1 used 1.00 cores; whatever is measured now is doubtful",
    )
    device = Accelerator(name="NVIDIA GPU", told_by="nvidia-smi", detail="not usable", problem="no driver")
    found = told(problems.of_accelerators((device, device.model_copy(update={"told_by": "PCI bus"}))))
    assert [entry[0] for entry in found] == ["warning", "note"]
    assert found[0][2].startswith("nvidia-smi -q")


def test_packages_of_one_extra_are_one_note():
    packages = tuple(
        OptionalPackage(name=name, version=None, serves="checkpoints cannot be exported", extra="export")
        for name in ("torch", "timm")
    )
    assert told(problems.of_packages(packages)) == [
        ("note", "torch, timm not installed: checkpoints cannot be exported", "pip install 'modelport[export]'")
    ]


def test_the_gravest_come_first():
    levels = ("note", "error", "warning", "note")
    found = problems.gravest_first(Problem(level=level, what=str(n), mend="") for n, level in enumerate(levels))
    assert [(problem.level, problem.what) for problem in found] == [
        ("error", "1"),
        ("warning", "2"),
        ("note", "0"),
        ("note", "3"),
    ]


# -- telemetry


def test_what_reports_elsewhere_by_its_own_switches(tmp_path):
    assert elsewhere({}, tmp_path) == {"OpenVINO and NNCF": "not decided", "ONNX Runtime": "not decided", "Ray": "on"}
    (tmp_path / "intel").mkdir()
    (tmp_path / "intel" / "openvino_telemetry").write_text("1")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "config.json").write_text('{"usage_stats": false}')
    found = elsewhere({"ORT_DISABLE_TELEMETRY": "1"}, tmp_path)
    assert found == {"OpenVINO and NNCF": "on", "ONNX Runtime": "off", "Ray": "off"}
    assert elsewhere({"RAY_USAGE_STATS_ENABLED": "1"}, tmp_path)["Ray"] == "on"  # the variable goes before the file
    (tmp_path / "intel" / "openvino_telemetry").write_text("0")
    assert elsewhere({}, tmp_path)["OpenVINO and NNCF"] == "off"
    product = Telemetry(product="Ray", installed=True, elsewhere="on", switch_off="ray disable-usage-stats")
    ((level, what, mend),) = told(problems.of_telemetry((product,)))
    assert (level, mend) == ("note", "ray disable-usage-stats")
    assert "not in modelport" in what
    assert told(problems.of_telemetry((product.model_copy(update={"installed": False}),))) == []


# -- the command


def modelport(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "modelport", "doctor", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_document_is_a_diagnosis_and_makes_tables(tmp_path):
    found = Diagnosis.parse(json.loads(modelport("--disk", tmp_path, "--json").stdout), "stdout")
    assert found.disk.path == str(tmp_path)
    assert {check.engine for check in found.engines} == {"ascend", "inductor", "null", "onnxruntime", "openvino"}
    for tried in found.engines:
        assert tried.problem is None or tried.executed is None
        assert tried.executed in (None, tried.precision)
    assert {product.product for product in found.telemetry} == {"OpenVINO and NNCF", "ONNX Runtime", "Ray"}
    machine, engines, _, telemetry = diagnosis_tables(found)
    assert machine.rows[0][0] == "processor"
    assert len(engines.rows) == len(found.engines)
    assert {row[1] for row in telemetry.rows} == {"off"}
    assert all(problem.mend for problem in found.problems)


def made_up(**changes: object) -> Diagnosis:
    return Diagnosis(
        environment=environment(),
        processor=PROCESSOR,
        memory=Memory(total=1 << 36, available=1 << 35, limit=None),
        disk=DISK,
        accelerators=(Accelerator(name="CPU", told_by="OpenVINO", detail="Wonder 9000"),),
        engines=(check("openvino", "f32"),),
        packages=(),
        telemetry=(),
        hygiene=Hygiene(busy_before=0.0),
        **{"problems": (), **changes},
    )


def shown(found: Diagnosis) -> str:
    console = Console(file=io.StringIO(), width=60)
    show_problems(console, found)
    return console.file.getvalue()


def test_what_mends_is_a_line_of_its_own_whatever_the_width():
    assert shown(made_up()) == "No problems\n"
    mend = "pip install " + " ".join(f"package{number}" for number in range(20))
    text = shown(made_up(problems=(Problem(level="error", what="[red]all\x1b[2J is wrong", mend=mend),)))
    assert text.splitlines() == [
        "Problems, and what mends them",
        "error    [red]all\\x1b[2J is wrong",
        f"         → {mend}",
    ]


def test_check_exits_1_for_errors_only(monkeypatch):
    for level, code in (("error", 1), ("warning", 0)):
        found = made_up(problems=(Problem(level=level, what="something", mend="mend it"),))
        monkeypatch.setattr(doctor, "examine", lambda disk, found=found: found)
        assert CliRunner().invoke(cli, ["doctor", "--check"]).exit_code == code
        assert CliRunner().invoke(cli, ["doctor"]).exit_code == 0


def test_a_disk_that_cannot_be_measured_is_an_error_and_prints_nothing():
    done = CliRunner().invoke(cli, ["doctor", "--disk", "/nowhere"])
    assert isinstance(done.exception, OutputError)  # which the entry point tells in a line
    assert done.output == ""
