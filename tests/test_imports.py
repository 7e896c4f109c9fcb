"""The architecture: importing the package imports nothing heavy, and no module imports what lies to its right."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import modelport

ROOT = Path(modelport.__file__).parent
HEAVY = ["numpy", "onnx", "onnxruntime", "openvino", "pydantic", "timm", "torch"]


def run(code: str) -> list[str]:
    """What a fresh interpreter prints as a JSON list."""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def imports_of(path: Path) -> set[str]:
    """Modules of modelport that a file imports anywhere in it, dotted from the package's root; `""` is the root."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "modelport"}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                start = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            elif (node.module or "").split(".")[0] == "modelport":
                start = node.module.partition(".")[2]
            else:
                continue
            found |= {start} if start else {alias.name for alias in node.names}
            if start and not node.module:
                found |= {f"{start}.{alias.name}" for alias in node.names}
    return found


def files_of(name: str) -> list[Path]:
    """Source files of a top-level module or package."""
    module, package = ROOT / f"{name}.py", ROOT / name
    found = [module] if module.is_file() else sorted(package.rglob("*.py"))
    assert found, f"modelport has no {name}"
    return found


def tops_imported_by(name: str) -> dict[str, set[str]]:
    """For each file of a top-level module: the other top-level modules that it imports."""
    return {
        str(path.relative_to(ROOT)): {module.split(".")[0] for module in imports_of(path)} - {name, ""}
        for path in files_of(name)
    }


@pytest.mark.parametrize("module", ["modelport", "modelport.cli"])
def test_importing_imports_nothing_heavy(module):
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"

    assert run(code) == []


def test_every_public_name_resolves():
    code = (
        "import json, modelport\n"
        "from modelport import *\n"
        "print(json.dumps([n for n in modelport.__all__ if getattr(modelport, n) is not globals()[n]]))"
    )

    assert run(code) == []
    assert list(modelport.__all__) == sorted(modelport.__all__)
    assert set(modelport.__all__) <= set(dir(modelport))


def test_public_names_resolve_whatever_was_imported_before():
    """A submodule of the same name must not take a public name's place."""
    code = (
        "import json, importlib, pkgutil, modelport\n"
        "for found in pkgutil.iter_modules(modelport.__path__):\n"
        "    if found.name != '__main__': importlib.import_module(f'modelport.{found.name}')\n"
        "import types\n"
        "print(json.dumps([n for n in modelport.__all__ if isinstance(getattr(modelport, n), types.ModuleType)]))"
    )

    assert run(code) == []


def test_resolving_public_types_imports_no_runtime():
    code = (
        "import json, sys, modelport\n"
        "[getattr(modelport, name) for name in modelport.__all__ if name != 'export']\n"
        "print(json.dumps([n for n in ('torch', 'timm', 'openvino', 'onnxruntime', 'sklearn') if n in sys.modules]))"
    )

    assert run(code) == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'modelport' has no attribute 'frobnicate'"):
        _ = modelport.frobnicate


@pytest.mark.parametrize("name", ["data", "accuracy", "graph"])
def test_data_accuracy_and_graph_know_no_engine(name):
    forbidden = {"engines", "exporter", "pipeline", "inference", "measure", "job", "report", "cli"}

    assert {path: found & forbidden for path, found in tops_imported_by(name).items() if found & forbidden} == {}


def test_report_reads_only_results():
    allowed = {"results", "schema", "spec", "errors", "files", "printable", "report"}

    assert {path: found - allowed for path, found in tops_imported_by("report").items() if found - allowed} == {}


def documented_order() -> dict[str, int]:
    """Place of each top-level module in the order that docs/architecture.md shows, from the left."""
    text = (ROOT.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("`errors, ") and "←" in line)
    groups = [group.strip(" `").split(", ") for group in line.split("←")]
    return {name: place for place, group in enumerate(groups) for name in group}


def test_every_module_has_a_place_in_the_documented_order():
    modules = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}

    assert set(documented_order()) == {name for name in modules if not name.startswith("__")}


@pytest.mark.parametrize("name", documented_order())
def test_nothing_imports_what_the_document_shows_to_its_right(name):
    order = documented_order()
    for path, tops in tops_imported_by(name).items():
        assert [top for top in tops if order.get(top, -1) > order[name]] == [], path


RIGHT_OF = {  # stricter than the order
    "errors": {
        "offline",
        "host",
        "graph",
        "data",
        "accuracy",
        "engines",
        "pipeline",
        "measure",
        "job",
        "cli",
        "report",
    },
    "files": {"offline", "host", "graph", "data", "accuracy", "engines", "pipeline", "measure", "job", "cli", "report"},
    "schema": {
        "offline",
        "host",
        "graph",
        "data",
        "accuracy",
        "engines",
        "pipeline",
        "measure",
        "job",
        "cli",
        "report",
    },
    "spec": {"offline", "host", "graph", "data", "accuracy", "engines", "pipeline", "measure", "job", "cli", "report"},
    "results": {
        "offline",
        "host",
        "graph",
        "data",
        "accuracy",
        "engines",
        "pipeline",
        "measure",
        "job",
        "cli",
        "report",
    },
    "inductor": {
        *(
            "spec",
            "results",
            "offline",
            "host",
            "graph",
            "data",
            "accuracy",
            "engines",
            "exporter",
            "pipeline",
            "measure",
            "job",
        ),
        *("cli", "report", "schema", "files"),
    },
    "offline": {"graph", "data", "accuracy", "engines", "exporter", "pipeline", "measure", "job", "cli", "report"},
    "engines": {"data", "accuracy", "exporter", "pipeline", "inference", "measure", "job", "cli", "report"},
    "exporter": {"pipeline", "inference", "measure", "job", "cli", "report"},
    "calibration": {"offline", "graph", "data", "engines", "quantize", "inference", "measure", "job", "cli", "report"},
    "counting": {"engines", "pipeline", "inference", "measure", "job", "cli", "report"},
    "gallery": {"engines", "exporter", "pipeline", "inference", "measure", "job", "cli", "report"},
    "packing": {"engines", "pipeline", "inference", "measure", "job", "cli", "report"},
    "quantize": {"exporter", "engines", "pipeline", "inference", "measure", "job", "cli", "report"},
    "pipeline": {"inference", "exporter", "measure", "job", "cli", "report"},
    "executor": {"resumable", "cluster", "inference", "measure", "job", "cli", "report"},
    "cluster": {"inference", "measure", "job", "cli", "report"},
    "journal": {"offline", "data", "engines", "pipeline", "measure", "job", "cli", "report"},
    "stopping": {"data", "engines", "pipeline", "measure", "job", "cli", "report"},
    "work": {"resumable", "inference", "exporter", "measure", "job", "cli", "report"},
    "resumable": {"inference", "exporter", "measure", "job", "cli", "report"},
    "inference": {"exporter", "measure", "mlperf", "job", "cli", "report"},
    "classification": {"exporter", "measure", "mlperf", "job", "cli", "report"},
    "measure": {"mlperf", "comparison", "inspection", "job", "cli", "report"},
    "mlperf": {"exporter", "comparison", "inspection", "job", "cli", "report"},
    "comparison": {"inspection", "job", "cli", "report"},
    "history": {"engines", "exporter", "pipeline", "inference", "measure", "comparison", "job", "report", "cli"},
    "porting": {"job", "cli", "report"},
    "job": {"cli"},
}


@pytest.mark.parametrize("name", RIGHT_OF)
def test_left_never_imports_right(name):
    found = {path: tops & RIGHT_OF[name] for path, tops in tops_imported_by(name).items() if tops & RIGHT_OF[name]}

    assert found == {}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("openvino", {"engines/openvino.py"}),
        ("onnxruntime", {"engines/onnxruntime.py", "exporter/export.py", "quantizers.py"}),
        ("nncf", {"quantizers.py"}),
        ("ray", {"cluster/connection.py", "cluster/on_ray.py"}),
        ("mlperf_loadgen", {"mlperf/drive.py"}),
    ],
)
def test_a_runtime_is_imported_by_its_own_engine_only(package, allowed):
    """The exporter proves its file with ONNX Runtime, and the quantisers' child process quantises with it; nothing else may."""
    importers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and package in {alias.name.split(".")[0] for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == package)
    }

    assert importers == allowed
