"""The wheel that users and images install: all of the packages is in it, and nothing else."""

import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest

from tests.house.source import PACKAGES, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    # In a copy: setuptools leaves folders beside what it builds, and takes old ones for input.
    for name in ("pyproject.toml", "README.md", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    for package in (*PACKAGES, "tests"):
        waste = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=waste)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return ZipFile(next(built.glob("*.whl")))


def test_the_wheel_holds_every_file_of_every_package(wheel: ZipFile) -> None:
    # Templates, styles, the marker of types and the migrations' template are as needed as modules.
    there = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    missing = sorted(there - set(wheel.namelist()))
    assert not missing, f"add to [tool.setuptools.package-data]: {', '.join(missing)}"


def test_the_wheel_holds_no_tests(wheel: ZipFile) -> None:
    packages = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in packages if not name.endswith(".dist-info")} == set(PACKAGES)
