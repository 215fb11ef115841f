"""What the documentation says of the code: `python -m tests.house.documents` writes it."""

import ast
import re
from pathlib import PurePosixPath

from tests.house.api_pages import errors_page, permissions_page
from tests.house.source import ROOT, product

FILES = re.compile(r"(?<=<!-- files -->\n).*?(?=<!-- /files -->)", re.DOTALL)
SETTINGS = {
    "The control plane (`api`)": "api/settings.py",
    "The CLI and `bearloop up`": "bearloop/environment.py",
    "The import job": "importer/settings.py",
    "The training job": "trainer/settings.py",
    "The endpoint's server": "inference/settings.py",
}


def write_documents() -> None:
    """Bring README.md's list of files and the pages of docs up to date."""
    readme = ROOT / "README.md"
    readme.write_text(FILES.sub(lambda _: file_list(), readme.read_text()))
    for name, page in pages().items():
        (ROOT / "docs" / name).write_text(page)


def pages() -> dict[str, str]:
    """Return the pages of docs that are made from the code, by file name."""
    return {
        "settings.md": settings_page(),
        "permissions.md": permissions_page(),
        "errors.md": errors_page(),
    }


def listed_files() -> str:
    """Return the list as README.md has it."""
    found = FILES.search((ROOT / "README.md").read_text())
    assert found, "README.md has no place for the list of files"
    return found.group()


def file_list() -> str:
    """Return one line per product file: its name, and its module docstring's first sentence."""
    lines: list[str] = []
    folder = None
    for source in sorted(product(), key=lambda source: _order(source.path)):
        path = PurePosixPath(source.path)
        if path.name == "__init__.py" and len(source.tree.body) == 1:
            continue
        if path.parent != folder:
            folder = path.parent
            lines += ["", f"**{folder}/**", ""]
        lines.append(f"- `{path.name}` {_sentence(source.tree)}")
    return "\n".join(lines) + "\n\n"


def settings_page() -> str:
    """Return every program's settings, each with what its docstring says."""
    parts = [
        "# Settings",
        "",
        "Read once at start, from the environment. `make docs` writes this page.",
    ]
    for title, path in SETTINGS.items():
        parts += ["", f"## {title}", ""]
        parts += [f"- `{name}`: {says}" for name, says in _fields(path)]
    return "\n".join(parts) + "\n"


def _order(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent, name


def _sentence(tree: ast.Module) -> str:
    text = ast.get_docstring(tree) or ""
    return " ".join(text.split("\n\n")[0].split())


def _fields(path: str) -> list[tuple[str, str]]:
    """Return the documented fields of a settings file: name, and the string beneath it."""
    tree = ast.parse((ROOT / path).read_text())
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                says = (
                    ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else ""
                )
                found.append((ast.unparse(field.target), " ".join(str(says).split())))
    return found


if __name__ == "__main__":
    write_documents()
