"""What compilers need around them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from modelport.inductor.facts import UNKNOWN_DRIVER, driver_version
from modelport.inductor.toolkit import CACHE_VARIABLE, build_environment, bundled_toolkit


def test_a_build_has_a_cache_of_its_own_which_goes_again(monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)

    with build_environment("cpu"):
        folder = Path(os.environ[CACHE_VARIABLE])
        assert folder.stat().st_mode & 0o077 == 0
    assert CACHE_VARIABLE not in os.environ
    assert not folder.exists()


def test_a_cache_that_the_user_names_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))

    with build_environment("cpu"):
        assert os.environ[CACHE_VARIABLE] == str(tmp_path)
    assert os.environ[CACHE_VARIABLE] == str(tmp_path)


def test_a_driver_without_development_files_is_linked_to(monkeypatch, tmp_path):
    driver = tmp_path / "driver" / "libcuda.so.1"
    driver.parent.mkdir()
    driver.write_bytes(b"")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver.parent))
    monkeypatch.setenv("LIBRARY_PATH", "/mine")

    with build_environment("cuda"):
        mine, added = os.environ["LIBRARY_PATH"].split(os.pathsep)
        assert mine == "/mine"
        assert (Path(added) / "libcuda.so").resolve() == driver.resolve()
    assert os.environ["LIBRARY_PATH"] == "/mine"


def test_cudas_headers_are_found_where_pytorchs_wheel_puts_them():
    found = bundled_toolkit()
    if found is None:
        pytest.skip("this PyTorch came without CUDA")
    assert (found / "include" / "cuda.h").is_file()


@pytest.mark.parametrize(
    ("script", "version"), [("echo 580.82.07\necho 580.82.07", "580.82.07"), ("exit 9", UNKNOWN_DRIVER)]
)
def test_the_drivers_version_is_its_own_tools(monkeypatch, tmp_path, script, version):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert driver_version() == version
