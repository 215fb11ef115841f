"""What the house rules look at: the parsed files of the product and of its tests."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("api", "bearloop", "importer", "trainer", "inference")
PACKAGES = (*PROGRAMS, "migrations")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Source:
    """One file: its path relative to the repository, its text and its syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def program(self) -> str:
        return self.path.split("/")[0]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, Function)]

    @cached_property
    def imports(self) -> list["Import"]:
        """What the file imports, at its top or inside a function."""
        return list(_imports(self))


class Finding(NamedTuple):
    """One breach of a rule: where it is, and the way out."""

    path: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.says}"


class Import(NamedTuple):
    """One imported module; `from a import b` gives `a` and `a.b`, since b may be a module."""

    module: str
    line: int
    lazy: bool
    """Inside a function, so that importing the file does not import the module."""
    typing: bool
    """Under `if TYPE_CHECKING`: never imported when the program runs."""

    def is_within(self, package: str) -> bool:
        """Say whether the module is the package or lies in it."""
        return self.module == package or self.module.startswith(f"{package}.")


@lru_cache
def product() -> tuple[Source, ...]:
    """Return every Python file of the product's packages but the migrations' versions.

    Those are written by Alembic once and never edited: they are history, not a page to read.
    """
    return tuple(source for source in _read(PACKAGES) if "migrations/versions/" not in source.path)


@lru_cache
def stories() -> tuple[Source, ...]:
    """Return every Python file of the tests."""
    return tuple(_read(("tests",)))


def words(name: str) -> list[str]:
    """Split `snake_case`, `CamelCase` and file names into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def report(findings: list[Finding]) -> str:
    """Return the findings one per line, as an assertion's message."""
    return "\n" + "\n".join(str(finding) for finding in findings)


def _read(packages: tuple[str, ...]) -> Iterator[Source]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def _imports(source: Source) -> Iterator[Import]:
    functions = _below(source.functions)
    typing = _below(node for node in source.nodes if _is_for_types(node))
    for node in source.nodes:
        for module in _modules(source, node):
            yield Import(
                module,
                getattr(node, "lineno", 1),
                lazy=id(node) in functions,
                typing=id(node) in typing,
            )


def _below(nodes: Iterable[ast.AST]) -> set[int]:
    kinds = (ast.Import, ast.ImportFrom)
    return {id(child) for node in nodes for child in ast.walk(node) if isinstance(child, kinds)}


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _modules(source: Source, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = _absolute(source, node)
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parents = source.path.split("/")[: -node.level]
    return ".".join([*parents, node.module] if node.module else parents)
