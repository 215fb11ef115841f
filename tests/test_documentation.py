"""The documentation agrees with the code."""

import re

from bearloop.cli.main import app
from tests.house import documents
from tests.house.source import ROOT


def test_the_readme_lists_every_file() -> None:
    assert documents.listed_files() == documents.file_list(), "run `make docs`"


def test_the_pages_are_what_the_code_says() -> None:
    for name, page in documents.pages().items():
        assert (ROOT / "docs" / name).read_text() == page, "run `make docs`"


def test_every_setting_is_described() -> None:
    names = re.findall(r"^- `(\w+)`: (.*)$", documents.settings_page(), re.MULTILINE)
    assert len(names) > 20
    assert all(says for _, says in names)


def test_the_readme_shows_commands_that_there_are() -> None:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    commands |= {group.name or "" for group in app.registered_groups}
    shown = set(re.findall(r"^bearloop (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown <= commands
    assert {"import", "train", "review", "promote", "rollback"} <= shown


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "DECISIONS.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
