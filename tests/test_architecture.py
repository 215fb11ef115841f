"""The map, held: which program and which stage imports which, and that importing does nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.house import architecture
from tests.house.source import PROGRAMS, ROOT, Finding, Source, product, report

Rule = Callable[[Sequence[Source]], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    architecture.foreign_programs,
    architecture.foreign_libraries,
    architecture.backward_stages,
    architecture.unknown_folders,
    architecture.impure_files,
)
BAD: tuple[tuple[Rule, str, str], ...] = (
    (architecture.foreign_programs, "trainer/data.py", "from api.tables import Image"),
    (architecture.foreign_programs, "bearloop/local.py", "def up():\n    import api.app"),
    (architecture.foreign_libraries, "api/runs/reconcile.py", "import torch.nn"),
    (architecture.foreign_libraries, "inference/engine.py", "from sqlalchemy import select"),
    (architecture.foreign_libraries, "bearloop/fetch.py", "def fetch():\n    import fastapi"),
    (architecture.backward_stages, "api/datasets/versions.py", "from api.review import queue"),
    (architecture.backward_stages, "api/datasets/versions.py", "from ..review import queue"),
    (architecture.backward_stages, "api/jobs/claims.py", "import api.runs.states"),
    (architecture.backward_stages, "api/paging.py", "from api.runs.states import State"),
    (architecture.unknown_folders, "api/labels/routes.py", ""),
    (architecture.impure_files, "api/jobs/states.py", "import sqlalchemy"),
    (architecture.impure_files, "api/promotion/gates.py", "from api.database import Session"),
    (architecture.impure_files, "trainer/schedule.py", "import time"),
    (architecture.impure_files, "bearloop/contract/runs.py", "from bearloop.store import Store"),
)
GOOD: tuple[tuple[Rule, str, str], ...] = (
    (architecture.foreign_programs, "migrations/env.py", "from api.tables import Row"),
    (architecture.foreign_programs, "trainer/data.py", "from bearloop.store import Store"),
    (architecture.backward_stages, "api/review/queue.py", "from api.runs.states import State"),
    (architecture.backward_stages, "api/app.py", "from api.review.routes import router"),
    (architecture.impure_files, "api/promotion/gates.py", "from api.jobs.states import State"),
    (architecture.impure_files, "api/runs/jobs.py", "from bearloop.contract import runs"),
)
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys

def forbid(event, arguments):
    if event in {"socket.connect", "socket.bind", "socket.getaddrinfo"}:
        raise RuntimeError(f"{event} while being imported: {arguments}")

sys.addaudithook(forbid)
program, *forbidden = sys.argv[1:]
package = importlib.import_module(program)
for module in pkgutil.walk_packages(package.__path__, program + "."):
    importlib.import_module(module.name)
loaded = sorted({name.split(".")[0] for name in sys.modules} & set(forbidden))
assert not loaded, f"importing {program} imports {loaded}, perhaps through a library"
"""


def _name(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_the_product_has_no(rule: Rule) -> None:
    findings = list(rule(product()))
    assert not findings, report(findings)


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=_name)
def test_a_breach_is_found(rule: Rule, path: str, text: str) -> None:
    findings = list(rule([Source(path, text)]))
    assert findings, f"{rule.__name__} lets this pass:\n{text}"
    assert str(findings[0]).startswith(f"{path}:")


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=_name)
def test_what_is_allowed_passes(rule: Rule, path: str, text: str) -> None:
    findings = list(rule([Source(path, text)]))
    assert not findings, report(findings)


@pytest.mark.parametrize("program", PROGRAMS)
def test_importing_a_program_needs_no_environment_and_touches_nothing(
    program: str, tmp_path: Path
) -> None:
    forbidden = {*architecture.MUST_NOT_IMPORT[program], "mlflow"}
    done = _import_all(program, forbidden=forbidden, home=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_connection_during_import_is_found(tmp_path: Path) -> None:
    package = tmp_path / "eager"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "client.py").write_text(
        "import socket\nsocket.create_connection(('127.0.0.1', 9))", encoding="utf-8"
    )
    done = _import_all("eager", forbidden=set(), home=tmp_path)
    assert "while being imported" in done.stderr


def test_every_test_folder_is_a_package() -> None:
    # Else two folders could not both have a `test_routes.py`, and `tests/inference` would hide
    # the product's `inference`.
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    bare = sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists())
    assert not bare, f"add an empty __init__.py to {', '.join(bare)}"


def _import_all(
    program: str, *, forbidden: set[str], home: Path
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_EVERYTHING, program, *sorted(forbidden)]
    # PYTHONPATH and a home of its own are all that the child knows.
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(home)]), "HOME": str(home)}
    return subprocess.run(
        command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
