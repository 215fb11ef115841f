"""The style of CONTRIBUTING.md, held: each rule is a test, and each is shown to be able to fail."""

from collections.abc import Callable, Iterator, Sequence
from textwrap import dedent

import pytest

from tests.house import style
from tests.house.source import Finding, Source, product, report, stories

Rule = Callable[[Sequence[Source]], Iterator[Finding]]

PRODUCT_RULES: tuple[Rule, ...] = (
    style.empty_names,
    style.long_files,
    style.file_budget,
    style.long_functions,
    style.function_budget,
    style.deep_nesting,
    style.many_positional,
    style.parameter_budget,
    style.private_above_public,
    style.missing_docstrings,
    style.broad_excepts,
    style.commits,
    style.environment_readers,
    style.sleeps,
    style.foreign_adapters,
    style.unsafe_loading,
    style.thick_routes,
)
TEST_RULES: tuple[Rule, ...] = (style.empty_names, style.long_files, style.patched_tests)

LONG_FUNCTION = "def walk():\n" + "    step()\n" * 70
MANY_PARAMETERS = "def paint(*, a, b, c, d, e, f): ..."
NESTED = """
def find(rows):
    for row in rows:
        if row:
            with row:
                try:
                    row.see()
                finally:
                    row.go()
"""
LONG_CHOICE = "def choose(a):\n    if a: ...\n" + "    elif a: ...\n" * 6
BAD: tuple[tuple[Rule, str, str], ...] = (
    (style.empty_names, "api/utils.py", ""),
    (style.empty_names, "api/common/rows.py", ""),
    (style.empty_names, "api/rows.py", "class RowManager: ..."),
    (style.empty_names, "api/rows.py", "def base_row(): ..."),
    (style.long_files, "api/rows.py", "\n" * 451),
    (style.file_budget, "api/rows.py", "\n" * 121),
    (style.long_functions, "api/rows.py", LONG_FUNCTION),
    (style.function_budget, "api/rows.py", LONG_FUNCTION),
    (style.deep_nesting, "api/rows.py", NESTED),
    (style.many_positional, "api/rows.py", "def paint(self, a, b, c, d): ..."),
    (style.parameter_budget, "api/rows.py", MANY_PARAMETERS),
    (style.private_above_public, "api/rows.py", "def _see(): ...\ndef look(): ..."),
    (style.private_above_public, "api/rows.py", "def _see(): ...\nclass Look: ..."),
    (style.missing_docstrings, "api/rows.py", "import os"),
    (style.broad_excepts, "api/rows.py", "try: ...\nexcept: ..."),
    (style.broad_excepts, "api/rows.py", "try: ...\nexcept (OSError, Exception): ..."),
    (style.patched_tests, "tests/test_rows.py", "from unittest import mock"),
    (style.patched_tests, "tests/test_rows.py", "monkeypatch.setattr(rows, 'see', None)"),
    (style.commits, "api/rows.py", "session.commit()"),
    (style.commits, "api/rows.py", "session.rollback()"),
    (style.sleeps, "api/rows.py", "def wait():\n    time.sleep(1)"),
    (style.sleeps, "api/rows.py", "time.sleep(1)"),
    (style.foreign_adapters, "api/rows.py", "import boto3"),
    (style.foreign_adapters, "trainer/fit.py", "from kubernetes import client"),
    (style.foreign_adapters, "api/tracking.py", "import mlflow"),
    (style.unsafe_loading, "trainer/fit.py", "import pickle"),
    (style.unsafe_loading, "trainer/fit.py", "from pickle import UnpicklingError, loads"),
    (style.unsafe_loading, "trainer/fit.py", "torch.load(path)"),
    (style.unsafe_loading, "trainer/fit.py", "torch.load(path, weights_only=False)"),
    (style.unsafe_loading, "trainer/fit.py", "np.load(path, allow_pickle=True)"),
    (style.thick_routes, "api/runs/routes.py", "from sqlalchemy import select"),
    (style.thick_routes, "api/runs/routes.py", "def show():\n" + "    step()\n" * 13),
)
GOOD: tuple[tuple[Rule, str, str], ...] = (
    (style.empty_names, "api/database.py", "def commonly(database): ..."),
    (
        style.deep_nesting,
        "api/rows.py",
        LONG_CHOICE,
    ),
    (style.many_positional, "api/rows.py", "def paint(self, a, b, c, *, d): ..."),
    (style.private_above_public, "api/rows.py", "class _Row: ...\ndef look(): ...\ndef _s(): ..."),
    (style.broad_excepts, "api/worker.py", "try: ...\nexcept Exception: ..."),
    (style.commits, "api/database.py", "session.commit()"),
    (style.commits, "bearloop/cli/serving.py", "client.rollback()"),
    (style.environment_readers, "api/settings.py", "import os\nos.environ['A']\nos.environ['B']"),
    (style.sleeps, "api/rows.py", "def wait(deadline):\n    time.sleep(deadline.step())"),
    (style.foreign_adapters, "trainer/tracking.py", "def log():\n    import mlflow"),
    (style.sleeps, "api/rows.py", "def ask():\n    for attempt in range(3):\n        sleep(1)"),
    (style.foreign_adapters, "trainer/tracking.py", "if TYPE_CHECKING:\n    import mlflow"),
    (style.unsafe_loading, "trainer/fit.py", "torch.load(path, weights_only=True)"),
    (style.unsafe_loading, "trainer/fit.py", "from pickle import UnpicklingError"),
)


def _name(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize("rule", PRODUCT_RULES, ids=_name)
def test_the_product_has_no(rule: Rule) -> None:
    findings = list(rule(product()))
    assert not findings, report(findings)


@pytest.mark.parametrize("rule", TEST_RULES, ids=_name)
def test_the_tests_have_no(rule: Rule) -> None:
    findings = list(rule(stories()))
    assert not findings, report(findings)


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=_name)
def test_a_breach_is_found(rule: Rule, path: str, text: str) -> None:
    findings = list(rule([Source(path, dedent(text))]))
    assert findings, f"{rule.__name__} lets this pass:\n{text}"
    assert str(findings[0]).startswith(f"{path}:")


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=_name)
def test_what_is_allowed_passes(rule: Rule, path: str, text: str) -> None:
    findings = list(rule([Source(path, dedent(text))]))
    assert not findings, report(findings)


def test_a_second_reader_of_the_environment_is_found() -> None:
    both = [Source(f"api/{name}.py", "import os\nos.environ['A']") for name in ("rows", "settings")]
    other = Source("trainer/settings.py", "from os import getenv")
    findings = list(style.environment_readers([*both, other]))
    assert [finding.path for finding in findings] == ["api/rows.py", "api/settings.py"]


def test_every_rule_has_a_breach_that_it_finds() -> None:
    shown = {rule for rule, _, _ in BAD} | {style.environment_readers}
    assert shown == {*PRODUCT_RULES, *TEST_RULES}
