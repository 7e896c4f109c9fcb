"""Fixtures that several folders share: the tiny classifier as a file, compiled once for each engine and batch size."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import csp
import models
import pytest
from chips import CANN_VERSION, STANDINS, engine_options
from filelock import FileLock
from places import CHECKPOINT, ROOT

from modelport import engines
from modelport.engines.base import CompileOptions
from modelport.engines.compiler import compile_model
from modelport.errors import EngineUnavailableError
from modelport.job import run
from modelport.measure.profile import ProfileOptions, profile
from modelport.offline import OfflineModel
from modelport.results import ProfileResult, RunResult
from modelport.spec import Precision

Compile = Callable[..., OfflineModel]
_LONG = (
    "test_resume",
    "test_quantize",
    "test_ray_infer",
    "test_readme",
    "test_ray_faults",
)  # minutes each, longest first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first, so that no worker begins one when the others are done."""
    items.sort(key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG))


@pytest.fixture
def ascend(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`ascend("ais_bench")`: from here on CANN and these packages seem to be installed; returns the toolkit's root."""

    def install(*packages: str, atc: bool = True) -> Path:
        root = tmp_path_factory.mktemp("toolkit")
        (root / "x86_64-linux").mkdir()
        (root / "x86_64-linux" / "ascend_toolkit_install.info").write_text(
            f"package_name=Ascend-cann-toolkit\nversion={CANN_VERSION}\ninnerversion=V100R001C19\narch=x86_64\n"
        )
        monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(root))
        programs = [str(STANDINS / "bin")] if atc else []
        monkeypatch.setenv("PATH", os.pathsep.join([*programs, str(Path(sys.executable).parent), os.environ["PATH"]]))
        found = [
            STANDINS,
            *(STANDINS / f"with_{p}" for p in packages),
            *os.environ.get("PYTHONPATH", "").split(os.pathsep),
        ]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, map(str, found))))
        return root

    return install


@pytest.fixture(scope="session")
def require_engine() -> Callable[[str], None]:
    """`require_engine(name)`: skip the test, with the engine's own reason, where its runtime is not installed."""

    def require(name: str) -> None:
        try:
            engines.load(name).version()
        except EngineUnavailableError as error:
            pytest.skip(str(error))

    return require


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny classifier with a dynamic batch and its ModelSpec in the metadata. Not to be written to."""
    return models.save(models.classifier(), tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="session")
def compiled(
    tiny_onnx: Path, require_engine: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Compile:
    """`compiled(engine, batch_size, precision)`: the tiny classifier, compiled once a session. Not to be written to."""
    root = tmp_path_factory.mktemp("offline")

    @cache
    def compile_once(engine: str, options: CompileOptions) -> OfflineModel:
        name = f"{engine}-{options.precision}-{options.batch_size}"
        return compile_model(tiny_onnx, root / name, engine=engine, options=options)

    def compile_tiny(engine: str, batch_size: int = 1, precision: Precision | None = None) -> OfflineModel:
        require_engine(engine)
        return compile_once(engine, engine_options(engine, batch_size, precision))

    return compile_tiny


@pytest.fixture
def copied(compiled: Compile, tmp_path: Path) -> Callable[..., Path]:
    """`copied(engine)`: directory of a copy of the compiled tiny classifier, to be tampered with."""

    def copy(engine: str = "null", batch_size: int = 1) -> Path:
        return Path(shutil.copytree(compiled(engine, batch_size).path, tmp_path / f"copy-{engine}"))

    return copy


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The CSPResNeXt50 that `make train` trained on digits; `make test` sees to it."""
    if not CHECKPOINT.exists():
        pytest.fail(f"{CHECKPOINT} is not there: run `make train` first (`make test` does)")
    return CHECKPOINT


@pytest.fixture(scope="session")
def demo_directory(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of `modelport run recipes/digits.yaml`, whole, once for all workers of a session. Not to be written to."""
    root = tmp_path_factory.getbasetemp()
    directory = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "demo"
    with FileLock(f"{directory}.lock"):  # who comes second finds the stages done
        run(ROOT / "recipes" / "digits.yaml", directory, overrides={"performance.rounds": 5, "performance.warmup": 1})
    return directory


@pytest.fixture(scope="session")
def demo(demo_directory: Path) -> RunResult:
    """The demo's figures, read back from its `run.json`."""
    return RunResult.read(demo_directory / "run.json")


@pytest.fixture(scope="session")
def csp_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cross-stage partial network. Not to be written to."""
    return csp.save(tmp_path_factory.mktemp("csp") / "csp.onnx")


@pytest.fixture(scope="session")
def csp_model(
    csp_onnx: Path, require_engine: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], OfflineModel]:
    """`csp_model(engine)`: it compiled for batch 2, once a session. Not to be written to."""
    root = tmp_path_factory.mktemp("csp-offline")

    @cache
    def compile_csp(engine: str) -> OfflineModel:
        require_engine(engine)
        return compile_model(csp_onnx, root / engine, engine=engine, options=CompileOptions(batch_size=2))

    return compile_csp


@pytest.fixture(scope="session")
def csp_profile(csp_model: Callable[[str], OfflineModel]) -> Callable[[str], ProfileResult]:
    """`csp_profile(engine)`: its operator profile, without the machine's peaks."""

    @cache
    def profile_csp(engine: str) -> ProfileResult:
        options = ProfileOptions(rounds=6, warmup=2, peaks=False)
        return profile(csp_model(engine), options=options)

    return profile_csp
