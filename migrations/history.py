"""The history of the schema as this image knows it, and how a database's own compares.

A migration first expands (old code goes on working) and a later release contracts. The module of
one that contracts says so by `serves = "<the oldest revision whose code still works>"`; without
it, a revision serves whom its predecessor served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from alembic.config import Config
from alembic.script import ScriptDirectory

VERSIONS = Path(__file__).parent / "versions"


class Revision(NamedTuple):
    """One step of the history."""

    number: int
    revision: str
    serves: str


class Fit(StrEnum):
    """How a database's schema stands to this image."""

    same = "same"
    behind = "behind"
    """The schema is older: to be migrated."""
    ahead = "ahead"
    """The schema is newer, and serves this image."""
    too_new = "too new"
    """The schema is newer, and serves this image no more."""
    strange = "strange"
    """The schema is of another history."""


@dataclass(frozen=True)
class History:
    """The revisions in the order in which they are applied."""

    steps: Sequence[Revision]

    @property
    def own(self) -> str:
        """The newest revision that this image knows: what its code is written for."""
        return self.steps[-1].revision

    @cached_property
    def known(self) -> frozenset[str]:
        """All revisions that this image knows."""
        return frozenset(step.revision for step in self.steps)

    def fit(self, recorded: Sequence[Revision], *, current: str | None) -> Fit:
        """Compare with what the database recorded, in order, and its present revision."""
        if current is None or (current in self.known and current != self.own):
            return Fit.behind
        if current == self.own:
            return Fit.same
        if self.own not in {step.revision for step in recorded}:
            return Fit.strange
        # The schema says how old the code may be, and only code that knows that revision is.
        return Fit.ahead if recorded[-1].serves in self.known else Fit.too_new


def own_history(versions: Path = VERSIONS) -> History:
    """Read the history out of the folder of migrations."""
    script = ScriptDirectory.from_config(alembic_config("", versions=versions))
    steps: list[Revision] = []
    for found in reversed(list(script.walk_revisions())):
        before = steps[-1].serves if steps else found.revision
        serves = getattr(found.module, "serves", before)
        steps.append(Revision(len(steps) + 1, found.revision, serves))
    return History(steps)


def alembic_config(url: str, *, versions: Path = VERSIONS) -> Config:
    """Return Alembic's configuration for this database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option(
        "file_template", "%%(year)d%%(month).2d%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s"
    )
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config
