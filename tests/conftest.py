"""Fixtures that several folders share: the tiny classifier as a file, compiled once for each engine and batch size."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

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
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
Opened = tuple[Any, list[str]]  # a page, and all that it complained of or asked the network for
Open = Callable[..., Opened]
_LONG = ("test_resume", "test_quantize", "test_ray_infer", "test_readme", "test_ray_faults")  # minutes, longest first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long modules first, so that no worker begins one when the others are done."""
    items.sort(key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG))


os.environ["MODELPORT_HISTORY"] = "off"  # of all commands that tests run: nothing is written into the user's history


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
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this session have in common."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session", autouse=True)
def inductor_cache(common: Path) -> Iterator[None]:
    """AOTInductor's compilers share what they find out of this machine; a compilation takes seconds more without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(common / "inductor-cache"))
        yield


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
def compiled(tiny_onnx: Path, require_engine: Callable[[str], None], common: Path) -> Compile:
    """`compiled(engine, batch_size, precision)`: the tiny classifier, compiled once for all workers. Not to be written to."""
    root = common / "offline"
    root.mkdir(exist_ok=True)

    @cache
    def compile_once(engine: str, options: CompileOptions) -> OfflineModel:
        path = root / f"{engine}-{options.precision}-{options.batch_size}"
        with FileLock(f"{path}.lock"):
            if path.exists():
                return OfflineModel.load(path)
            return compile_model(tiny_onnx, path, engine=engine, options=options)

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
def demo_directory(checkpoint: Path, common: Path) -> Path:
    """Output of `modelport run recipes/digits.yaml`, whole, once for all workers of a session. Not to be written to."""
    directory = common / "demo"
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


@pytest.fixture(scope="module")  # not longer: while it lives, its event loop is in the way of others'
def browser() -> Iterator[Any]:
    """Chromium, as the system has it."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="module")
def open_page(browser: Any) -> Open:
    """`open_page(path, width=1200, color_scheme="dark")`: the page with its charts drawn, and its problems."""

    def open_it(path: Path, width: int = 1200, **context: Any) -> Opened:
        page, problems = browser.new_page(viewport={"width": width, "height": 900}, **context), []
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda asked: problems.append(asked.url) if not _inside(asked.url) else None)
        page.goto(path.as_uri())
        if page.locator(".plot").count():
            page.wait_for_selector(".plot .main-svg")
        return page, problems

    return open_it


def _inside(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))
